//! Reference model of ring and journal: a list of segments, a list of pins, a map of entries.
//!
//! After every action the engine and the model must agree on content, next eviction and counters.
//! The
//! model is too simple to have the engine's faults.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::faulty_disk::{FaultyDisk, Operation};
use super::model_action::{Action, BATCH_MAX};
use super::model_segment::{Held, read_card};
use super::rng::{Rng, mix};
use super::workload::{self, SEGMENT, SEGMENTS, Workload, settings, stamp};
use crate::format::record::RingRecord;
use crate::format::segment_head::{SegmentHead, head_digest};
use crate::storage::disk::{Disk as _, FileId};
use crate::storage::engine::Engine;
use crate::storage::{PinClass, PinId, SpanQuery, StorageRequest, StorageUpdate};
use crate::units::{Digest, EntryId, MonoTime};

struct Pin {
    id: PinId,
    class: PinClass,
    records: (u64, u64),
}

/// Engine and model.
struct Pair {
    disk: FaultyDisk,
    engine: Engine,
    script: Workload,
    rng: Rng,
    /// Segments in the order of their records, oldest first.
    held: Vec<Held>,
    /// Files without footage.
    blank: BTreeSet<u32>,
    /// Files with a failed flush in this boot.
    refused: BTreeSet<u32>,
    /// File and number of records with a failed flush: they were written again elsewhere, and their
    /// remains may stay.
    left: BTreeSet<(u32, u64)>,
    files: BTreeSet<u32>,
    /// Oldest first.
    pins: Vec<Pin>,
    /// Recent fragments: number, start, key frame first.
    recent: Vec<(u64, MonoTime, bool)>,
    newest: u64,
    /// Entries, and whether they are released; a power cut may undo a release.
    entries: BTreeMap<u64, bool>,
    entry_id: u64,
}

/// Runs `actions` actions of a seed on engine and model.
///
/// # Errors
/// The first difference and its action, which is also the length of the shortest run that shows it.
pub fn run(seed: u64, actions: u32) -> Result<(), String> {
    let (disk, script) = (FaultyDisk::new(None), Workload::new(seed));
    let opened = Engine::open(Arc::new(disk.clone()), &settings(), stamp(script.now));
    let (engine, _) = opened.map_err(|fault| fault.to_string())?;
    disk.take_points();
    let mut pair = Pair {
        disk,
        engine,
        script,
        rng: Rng::new(mix(seed)),
        held: Vec::new(),
        blank: BTreeSet::new(),
        refused: BTreeSet::new(),
        left: BTreeSet::new(),
        files: BTreeSet::new(),
        pins: Vec::new(),
        recent: Vec::new(),
        newest: 0,
        entries: BTreeMap::new(),
        entry_id: 0,
    };
    for number in 1..=actions {
        let action = Action::random(&mut pair.rng, pair.newest);
        let done = pair.act(action).and_then(|()| pair.agree(number % 8 == 0));
        done.map_err(|why| format!("seed {seed}, action {number} ({action:?}): {why}"))?;
    }
    Ok(())
}

impl Pair {
    fn act(&mut self, action: Action) -> Result<(), String> {
        match action {
            Action::Record(frames) => (0..frames).try_for_each(|_| self.record()),
            Action::PinOpen(pin, class, back) => {
                let from = MonoTime(self.script.now.saturating_sub(back));
                let before =
                    self.recent.iter().rev().find(|(_, begin, key)| *key && *begin <= from);
                let first =
                    before.or(self.recent.first()).map_or(self.newest + 1, |(seq, ..)| *seq);
                self.pin(PinId(pin), class, (first, u64::MAX));
                self.order(StorageRequest::PinOpen { pin: PinId(pin), class, from }).map(|_| ())
            }
            Action::Pin(pin, class, first, last) => self.locate(PinId(pin), class, first, last),
            Action::Unpin(pin) => {
                self.pins.retain(|kept| kept.id != PinId(pin));
                self.order(StorageRequest::Unpin { pin: PinId(pin) }).map(|_| ())
            }
            Action::Enqueue(count) => self.enqueue(count),
            Action::Release => match self
                .entries
                .iter()
                .find(|(_, released)| !**released)
                .map(|(entry_id, _)| *entry_id)
            {
                Some(entry_id) => {
                    self.entries.insert(entry_id, true);
                    self.order(StorageRequest::Release { entry_ids: vec![EntryId(entry_id)] })
                        .map(|_| ())
                }
                None => Ok(()),
            },
            Action::Count => self.count(),
            Action::FailFlush(after) => {
                self.disk.fail_sync_after(after, &mut self.rng);
                Ok(())
            }
            Action::Restart => {
                let out = self.order(StorageRequest::Stop)?;
                let troubled =
                    out.iter().any(|update| matches!(update, StorageUpdate::Trouble { .. }));
                self.start(!troubled)
            }
            Action::PowerCut => {
                let mut luck = self.rng.clone();
                self.disk.power_on(&mut luck);
                self.start(false)
            }
        }
    }

    /// Records the next action of the workload, without requests that the model makes itself.
    fn record(&mut self) -> Result<(), String> {
        let mut out = Vec::new();
        match self.script.act() {
            workload::Action::Frame(frame) => self.engine.frame(&frame, &mut out),
            workload::Action::Skipped(skip) => self.engine.skipped(skip, &mut out),
            workload::Action::Order(order @ StorageRequest::NoteGap(_)) => {
                self.engine.request(stamp(self.script.now), order, &mut out);
            }
            _ => self.engine.frame(&self.script.picture(), &mut out),
        }
        self.follow(&out)
    }

    fn order(&mut self, order: StorageRequest) -> Result<Vec<StorageUpdate>, String> {
        let mut out = Vec::new();
        self.engine.request(stamp(self.script.now), order, &mut out);
        self.follow(&out)?;
        Ok(out)
    }

    fn pin(&mut self, id: PinId, class: PinClass, records: (u64, u64)) {
        match self.pins.iter_mut().find(|pin| pin.id == id) {
            Some(pin) => (pin.class, pin.records) = (class, records),
            None => self.pins.push(Pin { id, class, records }),
        }
    }

    /// Compares a query by record numbers: the present fragments that fit one file.
    fn locate(&mut self, pin: PinId, class: PinClass, first: u64, last: u64) -> Result<(), String> {
        let pieces = self
            .held
            .iter()
            .flat_map(|held| held.records.iter().map(move |record| (held.layout, record)));
        let hits =
            pieces.filter(|(_, (seq, .., footage))| *footage && (first..=last).contains(seq));
        let hits: Vec<(Digest, u64)> = hits.map(|(layout, (seq, ..))| (layout, *seq)).collect();
        let same = |(layout, _): &&(Digest, u64)| *layout == hits[0].0;
        let expected: Vec<u64> = hits.iter().take_while(same).map(|(_, seq)| *seq).collect();
        match (expected.first(), expected.last()) {
            (Some(first), Some(last)) => self.pin(pin, class, (*first, *last)),
            _ => self.pins.retain(|kept| kept.id != pin),
        }
        let out = self.order(StorageRequest::Locate {
            pin,
            class,
            query: SpanQuery::Seq { first, last },
        })?;
        let found = out.iter().find_map(|update| {
            if let StorageUpdate::Located { span, .. } = update { Some(span) } else { None }
        });
        let span = found.ok_or("no answer")?.as_ref();
        let found: Vec<u64> = span.map_or(Vec::new(), |span| {
            span.fragments.iter().map(|fragment| fragment.seq).collect()
        });
        if found == expected {
            Ok(())
        } else {
            Err(format!("records {first} to {last} are {expected:?}, found {found:?}"))
        }
    }

    fn enqueue(&mut self, count: u64) -> Result<(), String> {
        let room = u64::from(settings().journal_slots) - 4;
        let entry_ids = self.entry_id + 1..=self.entry_id + count;
        let out = self.order(match count {
            1 => StorageRequest::Enqueue {
                entry_id: EntryId(self.entry_id + 1),
                entry: workload::entry(self.entry_id + 1).0,
                snapshot: None,
            },
            _ => {
                let entries = entry_ids
                    .clone()
                    .map(|entry_id| (EntryId(entry_id), workload::entry(entry_id).0))
                    .collect();
                StorageRequest::EnqueueAll { entries }
            }
        })?;
        let stored = entry_ids
            .clone()
            .all(|entry_id| out.contains(&StorageUpdate::Enqueued { entry_id: EntryId(entry_id) }));
        let refused =
            out.iter().any(|update| matches!(update, StorageUpdate::NotEnqueued { reason, .. } if reason.contains("flush")));
        let kept = self.entries.values().filter(|released| !**released).count() as u64;
        if stored {
            self.entries.extend(entry_ids.map(|entry_id| (entry_id, false)));
            self.entry_id += count;
        }
        if stored || refused || kept + count > room - 1 {
            Ok(())
        } else {
            Err(format!("an entry is rejected with {kept} of {room} slots in use: {out:?}"))
        }
    }

    fn count(&mut self) -> Result<(), String> {
        self.script.pass(31_000_000);
        let mut out = Vec::new();
        self.engine.idle(stamp(self.script.now), &mut out);
        self.follow(&out)?;
        let counts = out.iter().find_map(|update| {
            if let StorageUpdate::Counts(counts) = update { Some(*counts) } else { None }
        });
        let counts = counts.ok_or("no counters")?;
        let pinned = (0..self.held.len()).filter(|at| self.is_pinned(*at)).count() as u64 * SEGMENT;
        let expected = (self.held.len() as u64 * SEGMENT, pinned, SEGMENT * SEGMENTS);
        let found = (counts.used, counts.pinned, counts.budget);
        if found == expected {
            Ok(())
        } else {
            Err(format!("used, pinned, budget are {expected:?}, counted {found:?}"))
        }
    }

    /// Applies the engine's operations to the model and checks that they are allowed.
    fn follow(&mut self, out: &[StorageUpdate]) -> Result<(), String> {
        let mut lost = Vec::new();
        for point in self.disk.take_points() {
            match point.done {
                Operation::Create(FileId::Segment(file)) => {
                    self.files.insert(file);
                    self.blank.insert(file);
                }
                Operation::Write(write, _) => {
                    if let FileId::Segment(file) = write.file {
                        self.wrote(file, write.offset, &write.bytes, &mut lost)?;
                    }
                }
                Operation::Sync(FileId::Segment(file), false) => {
                    self.refused.insert(file);
                    // Writes in flight go to another file.
                    let newest = self.newest;
                    if let Some(held) = self.held.iter_mut().find(|held| held.file == file) {
                        let unsure = held.records.iter().filter(|(seq, ..)| *seq > newest);
                        self.left.extend(unsure.map(|(seq, ..)| (file, *seq)));
                        held.records.retain(|(seq, ..)| *seq <= newest);
                    }
                }
                Operation::Sync(FileId::Segment(_), true) => {
                    let last = self.held.last().and_then(|held| held.records.last());
                    self.newest = self.newest.max(last.map_or(0, |(seq, ..)| *seq));
                }
                _ => {}
            }
        }
        let reported: Vec<PinId> =
            out.iter()
                .filter_map(|update| {
                    if let StorageUpdate::PinLost { pin } = update { Some(*pin) } else { None }
                })
                .collect();
        for update in out {
            if let StorageUpdate::Durable { seq, .. } = update {
                self.remember(*seq);
            }
        }
        if reported == lost {
            Ok(())
        } else {
            Err(format!("pins {lost:?} had to be dropped, {reported:?} were reported"))
        }
    }

    fn remember(&mut self, seq: u64) {
        let bytes = self
            .held
            .iter()
            .flat_map(|held| &held.records)
            .find(|(of, ..)| *of == seq)
            .map(|(_, _, bytes, _)| bytes);
        if let Some(record) = bytes.and_then(|bytes| RingRecord::decode(bytes)) {
            self.recent.push((seq, record.start.mono, record.key));
            let old = self.recent.len().saturating_sub(64);
            self.recent.drain(..old);
        }
    }

    fn wrote(
        &mut self,
        file: u32,
        offset: usize,
        bytes: &Arc<[u8]>,
        lost: &mut Vec<PinId>,
    ) -> Result<(), String> {
        if offset == 0 && bytes.iter().all(|byte| *byte == 0) {
            self.check_choice(file, lost)?;
            self.held.retain(|held| held.file != file);
            self.blank.insert(file);
        } else if offset == 0 {
            let (head, _) = SegmentHead::decode(bytes).ok_or("a head that cannot be read")?;
            self.check_choice(file, lost)?;
            self.blank.remove(&file);
            self.left.retain(|(left, _)| *left != file);
            self.held.retain(|held| held.file != file);
            self.held.push(Held {
                file,
                first: head.first_seq,
                layout: head_digest(&head.tracks),
                records: Vec::new(),
            });
        } else if let Some(record) = RingRecord::decode(bytes) {
            let whole = bytes.get(..record.len as usize).ok_or("half a record")?;
            let held = self
                .held
                .last_mut()
                .filter(|held| held.file == file)
                .ok_or("a record outside the newest segment")?;
            held.records.push((record.seq, offset, whole.into(), record.gap.is_none()));
        }
        Ok(())
    }

    /// Checks the chosen file: an unused one, else the oldest without a pin, after pins over their
    /// quota are dropped.
    fn check_choice(&mut self, file: u32, lost: &mut Vec<PinId>) -> Result<(), String> {
        let blank: Vec<u32> = self.blank.difference(&self.refused).copied().collect();
        if !blank.is_empty() {
            return if blank.contains(&file) {
                Ok(())
            } else {
                Err(format!("files {blank:?} are unused, {file} was reused"))
            };
        }
        loop {
            let usable: Vec<usize> = (0..self.held.len())
                .filter(|at| !self.refused.contains(&self.held[*at].file))
                .collect();
            let (pinned, free): (Vec<usize>, Vec<usize>) =
                usable.into_iter().partition(|at| self.is_pinned(*at));
            let over = pinned.len() as u64 * 100 > u64::from(settings().pin_quota) * SEGMENTS;
            if let Some(at) = free.first().filter(|_| !over) {
                let right = self.held[*at].file;
                return if right == file {
                    Ok(())
                } else {
                    Err(format!("file {right} is the oldest unpinned one, {file} was reused"))
                };
            }
            let class = self.pins.iter().map(|pin| pin.class).min().ok_or("no file was left")?;
            let weakest = self.pins.iter().position(|pin| pin.class == class).unwrap_or(0);
            lost.push(self.pins.remove(weakest).id);
        }
    }

    fn is_pinned(&self, at: usize) -> bool {
        let first = self.held[at].first;
        let last = self.held.get(at + 1).map_or(self.newest, |next| next.first.saturating_sub(1));
        self.pins.iter().any(|pin| pin.records.0 <= last && first <= pin.records.1)
    }

    /// Boots. The model reads the card again and looks for everything that it knew.
    fn start(&mut self, clean: bool) -> Result<(), String> {
        self.script.pass(2_000_000);
        self.script.restart();
        let before = std::mem::take(&mut self.held);
        let open =
            |disk: &FaultyDisk, now| Engine::open(Arc::new(disk.clone()), &settings(), stamp(now));
        // A failed flush ends a boot, and the service manager starts it again.
        let opened =
            open(&self.disk, self.script.now).or_else(|_| open(&self.disk, self.script.now));
        let (engine, update) = opened.map_err(|fault| fault.to_string())?;
        self.engine = engine;
        let Some(StorageUpdate::Started(found)) = update.first() else {
            return Err("no start".into());
        };
        let newest = self.newest;
        self.newest = found.last_seq;
        self.refused = BTreeSet::new();
        self.pins = Vec::new();
        self.recent = Vec::new();
        self.disk.take_points();
        (self.held, self.blank) = read_card(&self.disk);
        let known =
            before.iter().flat_map(|held| held.records.iter().map(|record| (held.file, record)));
        for (_, (seq, _, bytes, _)) in
            known.filter(|(file, (seq, ..))| *seq <= newest && !self.left.contains(&(*file, *seq)))
        {
            let now = self.held.iter().flat_map(|held| &held.records).find(|(of, ..)| of == seq);
            if now.is_none_or(|(_, _, now, _)| now != bytes) {
                return Err(format!("record {seq} did not survive"));
            }
        }
        let found: BTreeSet<u64> = found.entries.iter().map(|(entry_id, _)| entry_id.0).collect();
        self.entries_survived(&found, clean)
    }

    fn entries_survived(&mut self, found: &BTreeSet<u64>, clean: bool) -> Result<(), String> {
        let wanted: BTreeSet<u64> = self
            .entries
            .iter()
            .filter(|(_, released)| !**released)
            .map(|(entry_id, _)| *entry_id)
            .collect();
        let more: Vec<&u64> = found.difference(&wanted).collect();
        // A power cut may undo releases, and a rejected entry may be on the card.
        let excused = |entry_id: &&u64| {
            !clean && self.entries.contains_key(entry_id)
                || (1..=BATCH_MAX).contains(&entry_id.saturating_sub(self.entry_id))
        };
        if !wanted.is_subset(found) || !more.iter().all(excused) {
            return Err(format!("entries {wanted:?} were stored, {found:?} were found"));
        }
        self.entry_id = self.entry_id.max(found.last().copied().unwrap_or(0));
        self.entries = found.iter().map(|entry_id| (*entry_id, false)).collect();
        Ok(())
    }

    /// Compares the budget, and every record at its position in the model.
    fn agree(&self, all: bool) -> Result<(), String> {
        let files = self.disk.files().map_err(|fault| fault.to_string())?;
        let lengths =
            files.iter().filter(|(file, _)| matches!(file, FileId::Segment(_))).map(|(_, len)| len);
        let (sum, count) = (lengths.clone().sum::<u64>(), lengths.count());
        if sum > SEGMENT * SEGMENTS || count != self.files.len() {
            return Err(format!(
                "{count} files of {sum} bytes, {} were made and {} bytes allowed",
                self.files.len(),
                SEGMENT * SEGMENTS
            ));
        }
        for held in self.held.iter().filter(|_| all) {
            for (seq, offset, bytes, _) in
                held.records.iter().filter(|(seq, ..)| *seq <= self.newest)
            {
                let now = self.disk.read(FileId::Segment(held.file), *offset as u64, bytes.len());
                if now.is_ok_and(|now| now[..] != bytes[..]) {
                    return Err(format!("record {seq} in segment {} reads differently", held.file));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ring_and_journal_match_the_reference_model() {
        for seed in 0..60 {
            run(seed, 250).unwrap_or_else(|why| panic!("{why}"));
        }
    }
}
