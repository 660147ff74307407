//! The engine: one owner of ring, journal and snapshots. Frames and orders in, updates out; the thread around it only loops.
//!
//! What belongs here: gathering frames into fragments, answering orders, waiting for footage that is asked for and not yet
//! durable. What does not: devices, slots, files (the modules' other files).

use std::collections::VecDeque;
use std::sync::Arc;

use super::disk::{Disk as _, FileId};
use super::fallback::FallbackDisk;
use super::fragment::{Anchor, Fragment, Gathering, NewFragment};
use super::journal::{Journal, JournalFault};
use super::locks::Locks;
use super::pending_queries::PendingQuery;
use super::ring::{AppendFault, Ring};
use super::scrub::Scrub;
use super::snapshots::SnapshotStore;
use super::wear::{ALARM, WriteLoad};
use super::{Cell, Gap, GapReason, StorageRequest, StorageUpdate};
use crate::camera::{Frame, TrackKind, TrackParams};
use crate::frame_queue::DroppedFrames;
use crate::units::{Boot, EntryId, MonoTime, Timestamp};

/// Microseconds of silence after which gathered frames are written without waiting for the next.
const SILENCE: u64 = 1_200_000;
/// Microseconds of sound without a picture after which it is written alone: cameras that show one picture a second still get
/// theirs in time.
const SOUND_ALONE: i64 = 1_200_000;
/// Sound frames that wait for a picture at most: [`SOUND_ALONE`] of AAC or of 10 ms packets, whatever their times say.
const EARLY_MAX: usize = 192;
/// Fragments remembered for pins into the recent past: the pre-roll and the longest GOP, at one fragment a second, twice over.
const RECENT_MAX: usize = 64;
/// Holes that wait to be recorded; beyond it the last one is made longer.
const HOLES_MAX: usize = 32;
/// Microseconds between counters.
const COUNTS_EVERY: u64 = 30_000_000;
/// Microseconds for which the card may refuse every write until recording goes on in memory: a bus that resets takes two seconds.
const CARD_PATIENCE: u64 = 5_000_000;
/// Times in a row the journal may be refused until it goes on in memory; the agent offers an entry again every five seconds.
const REFUSALS_MAX: u32 = 3;
/// Microseconds between two fragments that are a gap: half a second is 12 pictures.
const HOLE_MIN: u64 = 500_000;
/// Longest gap in the media clock between two starts, microseconds (30 days): a wrong clock must not stretch it further.
const HOLE_MAX: i64 = 30 * 24 * 3600 * 1_000_000;

/// A gap that is still open: it ends where the next footage begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpenGap {
    pub(super) from: Timestamp,
    pub(super) reason: GapReason,
    pub(super) bytes: u64,
}

/// Ring, journal and snapshots under one owner.
pub struct Engine {
    pub(super) card: Arc<FallbackDisk>,
    pub(super) ring: Ring,
    pub(super) journal: Journal,
    pub(super) snapshots: SnapshotStore,
    pub(super) locks: Locks,
    pub(super) boot: Boot,
    /// When this start began, and what the card bears by its data sheet: for its wear.
    pub(super) started: MonoTime,
    pub(super) endurance: u64,
    pub(super) gathering: Gathering,
    pub(super) anchor: Option<Anchor>,
    /// Sound that came before its picture.
    pub(super) early: Vec<Arc<Frame>>,
    /// Nothing can be decoded before the next key frame.
    pub(super) need_key: bool,
    /// End of the footage on the media clock, microseconds.
    pub(super) media_end: u64,
    /// Footage is missing from a moment on: since the last start, a refusal of the card, a frame that cannot be decoded.
    pub(super) open_hole: Option<OpenGap>,
    pub(super) holes: Vec<Gap>,
    /// End of the last gap that was named in this start.
    pub(super) named_until: MonoTime,
    /// End of what is durable.
    pub(super) until: Timestamp,
    pub(super) waiting: Vec<PendingQuery>,
    /// (number, begin, starts on a key frame) of recent fragments.
    pub(super) recent: VecDeque<(u64, MonoTime, bool)>,
    pub(super) next_counts: MonoTime,
    /// Since when the card has refused every fragment.
    pub(super) refused_since: Option<MonoTime>,
    /// How often in a row the journal was refused.
    pub(super) refusals: u32,
    pub(super) told_worn: bool,
    pub(super) scrub: Scrub,
    /// Entries found at the start that are not reported yet, oldest last.
    pub(super) unreported: Vec<EntryId>,
}

impl Engine {
    /// Where footage and snapshots are read: the card, and memory where that has taken its place.
    pub fn card(&self) -> Arc<FallbackDisk> {
        self.card.clone()
    }

    /// Takes a frame of the main stream.
    pub fn frame(&mut self, frame: &Arc<Frame>, out: &mut Vec<StorageUpdate>) {
        let video = frame.kind() == TrackKind::Video;
        if self.anchor.is_none_or(|anchor| anchor.run != frame.run) && video {
            self.start_run(frame, out);
        }
        if self.anchor.is_none_or(|anchor| anchor.run != frame.run) || self.need_key && !(video && frame.key) {
            return self.pass_over(frame);
        }
        self.need_key = false;
        if self.gathering.is_empty() && !video {
            return self.sound_first(frame, out);
        }
        if self.gathering.ends_before(frame, self.ring.room()) {
            if self.takes_along(frame) {
                self.gathering.push(frame.clone());
                return self.flush(None, out);
            }
            self.flush(Some(frame), out);
            // The card may have refused what this frame needs.
            if self.need_key && !(video && frame.key) {
                return self.pass_over(frame);
            }
            self.need_key = false;
            if self.gathering.is_empty() && !video {
                return self.sound_first(frame, out);
            }
        }
        self.gathering.push(frame.clone());
        for early in self.early.drain(..) {
            self.gathering.push(early);
        }
    }

    fn takes_along(&self, frame: &Arc<Frame>) -> bool {
        let layout = self.ring.layout_for(&self.gathering.tracks());
        self.anchor.is_some_and(|anchor| self.gathering.takes_along(frame, self.ring.room(), &anchor, &layout))
    }

    /// A frame that nobody could decode: what is missing is named once footage goes on.
    fn pass_over(&mut self, frame: &Frame) {
        if frame.kind() == TrackKind::Video && self.ring.newest() > 0 {
            self.ring.counts.skipped += 1;
            self.leave_open(frame.at, GapReason::NoKeyFrame, frame.data.len() as u64);
        }
    }

    /// Footage is missing from `from` on, or still is.
    fn leave_open(&mut self, from: Timestamp, reason: GapReason, bytes: u64) {
        let hole = self.open_hole.get_or_insert(OpenGap { from, reason, bytes: 0 });
        hole.bytes += bytes;
    }

    /// Sound waits for the picture it belongs to, and goes on alone when none comes.
    fn sound_first(&mut self, frame: &Arc<Frame>, out: &mut Vec<StorageUpdate>) {
        self.early.push(frame.clone());
        let first = self.early[0].pts_micros();
        if frame.pts_micros() - first >= SOUND_ALONE || self.early.len() >= EARLY_MAX {
            self.flush_all(out);
        }
    }

    /// Writes everything that waits, sound without its picture too.
    fn flush_all(&mut self, out: &mut Vec<StorageUpdate>) {
        for early in self.early.drain(..) {
            self.gathering.push(early);
        }
        self.flush(None, out);
    }

    /// A new run of media time: the ring's media clock goes on by real time where it can be known.
    fn start_run(&mut self, frame: &Frame, out: &mut Vec<StorageUpdate>) {
        self.flush_all(out);
        self.need_key = true;
        let since = match self.open_hole {
            Some(hole) if self.until == Timestamp::default() => frame.at.wall.0.saturating_sub(hole.from.wall.0),
            _ if self.until == Timestamp::default() => 0,
            _ => frame.at.mono.since(self.until.mono) as i64,
        };
        let media = self.media_end + since.clamp(0, HOLE_MAX) as u64;
        self.anchor = Some(Anchor { run: frame.run, pts: frame.pts_micros(), media });
    }

    /// Frames are missing before the next: the lane was full.
    pub fn skipped(&mut self, skip: DroppedFrames, out: &mut Vec<StorageUpdate>) {
        self.flush_all(out);
        self.need_key = true;
        self.ring.counts.skipped += u64::from(skip.frames);
        self.record_gap(Gap { from: skip.from, to: skip.to, reason: GapReason::FellBehind, bytes: skip.bytes }, out);
    }

    /// Carries out an order.
    pub fn order(&mut self, now: Timestamp, order: StorageRequest, out: &mut Vec<StorageUpdate>) {
        match order {
            StorageRequest::PinOpen { pin, class, from } => self.pin_open(pin, class, from),
            StorageRequest::Locate { pin, class, query } => self.query(now, pin, class, query, out),
            StorageRequest::Unpin { pin } => {
                self.waiting.retain(|waiting| waiting.pin != pin);
                self.ring.pins.remove(pin);
            }
            StorageRequest::Enqueue { entry_id, entry, still } => self.enqueue(entry_id, entry, still, out),
            StorageRequest::EnqueueAll { entries } => self.enqueue_all(entries, out),
            StorageRequest::Release { entry_ids } => {
                for entry_id in entry_ids {
                    self.journal.release(entry_id);
                    self.snapshots.free(entry_id);
                }
            }
            StorageRequest::Fetch { entry_id } => {
                let read = self.journal.entry(entry_id).map_err(|fault| fault.to_string());
                let outcome = read.and_then(|entry| entry.ok_or_else(|| "damaged on the card".to_owned()));
                out.push(StorageUpdate::Fetched { entry_id, outcome });
            }
            StorageRequest::SaveCell { cell, bytes } => out.push(match self.journal.save(cell, bytes) {
                Ok(()) => StorageUpdate::CellSaved { cell },
                Err(fault) => StorageUpdate::Trouble { detail: fault.to_string(), lost: true },
            }),
            StorageRequest::NoteGap(gap) => {
                // Footage that is still in memory comes before the gap: a power cut would leave it without a name.
                self.flush_all(out);
                self.record_gap(gap, out);
            }
            StorageRequest::Lock { id, from, to, reason } => self.lock(id, (from, to), reason, out),
            StorageRequest::Unlock { id } => self.unlock(id, out),
            StorageRequest::Resize { budget, pin_quota, endurance } => {
                self.endurance = endurance;
                self.ring.resize(budget, pin_quota);
            }
            StorageRequest::Stop => self.stop(out),
        }
    }

    fn enqueue(&mut self, entry_id: EntryId, entry: Vec<u8>, still: Option<Vec<u8>>, out: &mut Vec<StorageUpdate>) {
        if let Some(jpeg) = still {
            match self.snapshots.store(entry_id, &jpeg) {
                Ok(written) => self.ring.counts.written += written,
                Err(detail) => out.push(StorageUpdate::Trouble { detail, lost: true }),
            }
        }
        let stored = self.journal.enqueue(entry_id, entry);
        out.push(match &stored {
            Ok(()) => StorageUpdate::Enqueued { entry_id },
            Err(fault) => {
                self.snapshots.free(entry_id);
                StorageUpdate::NotEnqueued { entry_id, reason: fault.to_string() }
            }
        });
        self.journal_answered(stored, out);
    }

    fn enqueue_all(&mut self, entries: Vec<(EntryId, Vec<u8>)>, out: &mut Vec<StorageUpdate>) {
        let entry_ids: Vec<EntryId> = entries.iter().map(|(entry_id, _)| *entry_id).collect();
        let stored = self.journal.enqueue_all(entries);
        out.extend(entry_ids.into_iter().map(|entry_id| match &stored {
            Ok(()) => StorageUpdate::Enqueued { entry_id },
            Err(fault) => StorageUpdate::NotEnqueued { entry_id, reason: fault.to_string() },
        }));
        self.journal_answered(stored, out);
    }

    fn journal_answered(&mut self, stored: Result<(), JournalFault>, out: &mut Vec<StorageUpdate>) {
        match stored {
            Err(JournalFault::Disk(fault)) => self.journal_refused(fault.to_string(), out),
            Ok(()) | Err(_) => self.refusals = 0,
        }
    }

    /// A journal that is refused again and again goes on in memory: events must reach the office, above all this one.
    fn journal_refused(&mut self, detail: String, out: &mut Vec<StorageUpdate>) {
        self.refusals += 1;
        if self.refusals >= REFUSALS_MAX && !self.card.holds(FileId::Journal) {
            self.card.hold_in_memory(FileId::Journal, self.journal.size());
            self.card.hold_in_memory(FileId::Snapshots, self.snapshots.size());
            out.push(StorageUpdate::CardLost { detail });
        }
    }

    /// Time passes without frames or orders.
    pub fn idle(&mut self, now: Timestamp, out: &mut Vec<StorageUpdate>) {
        if self.gathering.last().is_some_and(|last| now.mono.since(last.at.mono) > SILENCE) {
            self.flush(None, out);
        }
        self.answer_due(now.mono, out);
        if let Err(fault) = self.journal.tidy() {
            out.push(StorageUpdate::Trouble { detail: fault.to_string(), lost: false });
        }
        self.learn_clock(now, out);
        self.scrub(now.mono, out);
        if now.mono >= self.next_counts {
            self.next_counts = now.mono.plus_micros(COUNTS_EVERY);
            if self.ring.grow(now.mono) {
                tracing::info!(budget = self.ring.counts.budget, "the card has room again: the ring grows to storage.budget");
            }
            self.count(now.mono, out);
        }
    }

    /// Learns how the clock stands, and keeps what it learned.
    fn learn_clock(&mut self, now: Timestamp, out: &mut Vec<StorageUpdate>) {
        let boot = self.boot;
        let Some(set) = self.ring.dates_mut().learn(boot, now) else {
            return;
        };
        let bytes = self.ring.index().clock_history.encode();
        if let Err(JournalFault::Disk(fault)) = self.journal.save(Cell::Clock, bytes) {
            out.push(StorageUpdate::Trouble { detail: fault.to_string(), lost: false });
        }
        out.push(StorageUpdate::ClockSet(set));
    }

    fn count(&mut self, now: MonoTime, out: &mut Vec<StorageUpdate>) {
        let mut counts = self.ring.counts;
        counts.written += self.journal.written.0;
        counts.syncs += self.journal.written.1;
        (counts.used, counts.pinned) = self.ring.usage();
        counts.oldest = self.ring.index().oldest().map(|stamp| stamp.wall);
        (counts.available, counts.slowest_sync) = (self.card.available(), self.card.take_slowest_sync());
        counts.lifetime = self.ring.lifetime() + self.journal.lifetime();
        counts.in_memory = self.ring.is_in_memory() || self.card.holds(FileId::Journal);
        let (lifetime, written, since) = (counts.lifetime, counts.written, (self.started, now));
        let wear = WriteLoad { lifetime, written, since, endurance: self.endurance, device: self.card.life_used() }.wear();
        (counts.worn, counts.days_left) = (wear.percent, wear.days_left);
        if wear.percent >= ALARM && !self.told_worn {
            self.told_worn = true;
            out.push(StorageUpdate::CardWorn { percent: wear.percent });
        }
        out.push(StorageUpdate::Counts(counts));
    }

    /// Writes what is gathered. `next` is the frame that ended it.
    fn flush(&mut self, next: Option<&Arc<Frame>>, out: &mut Vec<StorageUpdate>) {
        let (Some(anchor), Some(first)) = (self.anchor, self.gathering.first().cloned()) else {
            return;
        };
        let bytes = self.gathering.bytes() as u64;
        let tracks = self.gathering.tracks();
        let layout = self.ring.layout_for(&tracks);
        let next = next.filter(|next| next.run == anchor.run).map(Arc::as_ref);
        let number = self.ring.newest() as u32 + 1;
        let Some(fragment) = self.gathering.finish(&anchor, next, &layout, number) else {
            return;
        };
        let written = self.record(&fragment, &tracks, out);
        match written {
            Ok(seq) => {
                self.refused_since = None;
                self.durable(seq, &fragment, out);
            }
            Err(fault) => {
                out.push(StorageUpdate::Trouble { detail: fault.to_string(), lost: true });
                self.need_key = true;
                let too_large = matches!(fault, AppendFault::TooLarge { .. } | AppendFault::Head { .. });
                let reason = if too_large { GapReason::TooLarge } else { GapReason::DiskError };
                self.leave_open(first.at, reason, bytes);
            }
        }
    }

    /// Records a fragment, and the gaps before it first.
    fn record(
        &mut self,
        fragment: &Fragment,
        tracks: &[Arc<TrackParams>],
        out: &mut Vec<StorageUpdate>,
    ) -> Result<u64, AppendFault> {
        self.ring.place_fragment(&draft_of(fragment), tracks)?;
        if let Some(OpenGap { from, reason, bytes }) = self.open_hole.take() {
            self.add_hole(Gap { from, to: fragment.start, reason, bytes });
        }
        self.name_silence(fragment.start);
        self.write_holes(fragment.media, tracks, out);
        let written = self.ring.append(&draft_of(fragment), tracks, out);
        written.or_else(|fault| self.refused(fault, fragment, tracks, out))
    }

    /// A camera that stalled for less than it takes to be called down left a gap all the same.
    fn name_silence(&mut self, begin: Timestamp) {
        let end = self.until.mono.max(self.named_until);
        if self.until != Timestamp::default() && begin.mono.since(end) > HOLE_MIN {
            self.add_hole(Gap { from: self.until.at(end), to: begin, reason: GapReason::CameraDown, bytes: 0 });
        }
    }

    /// A fragment that no file took is tried once more in memory, when the card has refused everything for long enough.
    fn refused(
        &mut self,
        fault: AppendFault,
        fragment: &Fragment,
        tracks: &[Arc<TrackParams>],
        out: &mut Vec<StorageUpdate>,
    ) -> Result<u64, AppendFault> {
        let AppendFault::Refused(detail) = fault else {
            return Err(fault);
        };
        let now = fragment.start.mono;
        let since = *self.refused_since.get_or_insert(now);
        if self.ring.is_in_memory() || now.since(since) < CARD_PATIENCE {
            return Err(AppendFault::Refused(detail));
        }
        self.ring.go_to_memory();
        out.push(StorageUpdate::CardLost { detail });
        self.write_holes(fragment.media, tracks, out);
        self.ring.append(&draft_of(fragment), tracks, out)
    }

    fn durable(&mut self, seq: u64, fragment: &Fragment, out: &mut Vec<StorageUpdate>) {
        self.ring.counts.frames += u64::from(fragment.frames);
        self.ring.counts.skipped += u64::from(fragment.left_out);
        self.media_end = self.media_end.max(fragment.media + fragment.duration);
        self.until = fragment.start.after(fragment.duration);
        self.recent.push_back((seq, fragment.start.mono, fragment.key));
        if self.recent.len() > RECENT_MAX {
            self.recent.pop_front();
        }
        // What lies in memory can be looked at and sent, but survives nothing.
        if !self.ring.is_in_memory() {
            out.push(StorageUpdate::Durable { seq, until: self.until });
        }
        self.narrow_locks(out);
        self.answer_due(fragment.start.mono, out);
    }

    /// Tells a gap and records it, now or when the first segment opens.
    fn record_gap(&mut self, gap: Gap, out: &mut Vec<StorageUpdate>) {
        // One that is open since before ends here: after a power cut recording is known to go on behind the newest record.
        let before = |open: &mut OpenGap| open.reason.is_between_starts() || open.from.mono <= gap.from.mono;
        if let Some(OpenGap { from, reason, bytes }) = self.open_hole.take_if(before) {
            self.add_hole(Gap { from, to: gap.from, reason, bytes });
        }
        self.add_hole(gap);
        if self.ring.is_open() {
            self.write_holes(self.media_end, &[], out);
        }
    }

    /// A gap that goes on where the last one ended makes it longer.
    fn add_hole(&mut self, gap: Gap) {
        self.named_until = self.named_until.max(gap.to.mono);
        let full = self.holes.len() >= HOLES_MAX;
        let same = |last: &Gap| last.reason == gap.reason && gap.from.mono <= last.to.mono && last.from.mono <= gap.from.mono;
        match self.holes.last_mut() {
            Some(last) if full || same(last) => (last.to, last.bytes) = (gap.to, last.bytes + gap.bytes),
            _ => self.holes.push(gap),
        }
    }

    /// Records the waiting gaps, at `media` on the media clock: where the footage behind them begins, when there is some already.
    /// A gap found at start was reported with it; all others are reported here.
    fn write_holes(&mut self, media: u64, tracks: &[Arc<TrackParams>], out: &mut Vec<StorageUpdate>) {
        let mut holes = VecDeque::from(std::mem::take(&mut self.holes));
        while let Some(gap) = holes.pop_front() {
            let what = Some((gap.to, gap.reason, gap.bytes));
            let start = gap.from;
            let draft = NewFragment { start, key: false, payload: 0, media, lead: 0, duration: 0, gap: what, content: &[] };
            match self.ring.append(&draft, tracks, out) {
                Ok(_) if gap.reason == GapReason::Damaged => {}
                Ok(_) => out.push(StorageUpdate::Hole(gap)),
                Err(fault) => {
                    // It waits for the next fragment, before which it must stand.
                    out.push(StorageUpdate::Trouble { detail: fault.to_string(), lost: false });
                    holes.push_front(gap);
                    break;
                }
            }
        }
        self.holes = holes.into();
    }

    fn stop(&mut self, out: &mut Vec<StorageUpdate>) {
        self.flush_all(out);
        if !self.ring.is_in_memory() {
            self.journal.note_record(self.ring.newest());
        }
        if let Err(fault) = self.journal.end() {
            out.push(StorageUpdate::Trouble { detail: fault.to_string(), lost: false });
        }
        out.push(StorageUpdate::Stopped);
    }
}

/// A fragment as the ring takes it.
fn draft_of(fragment: &Fragment) -> NewFragment<'_> {
    let Fragment { content, start, key, media, lead, duration, payload, .. } = fragment;
    let (start, key, payload, media, lead, duration) = (*start, *key, *payload, *media, *lead, *duration);
    NewFragment { start, key, payload, media, lead, duration, gap: None, content }
}
