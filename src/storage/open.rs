//! Opening the ring: what must be true before anything is recorded, and what the last start left.
//!
//! What belongs here: from files to a working [`Engine`]. What does not: what is found in a segment ([`super::recovery`]).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::disk::{Disk, DiskFault, FileId, segments};
use super::engine::{Engine, OpenGap};
use super::fallback::FallbackDisk;
use super::foreign::{open_journal, open_stills};
use super::fragment::Gathering;
use super::head_selection::read_heads;
use super::journal::{self, LoadedJournal};
use super::journal_load::cards;
use super::locks::Locks;
use super::missing_records::locate_gaps;
use super::recovery::{Recovery, recover_from};
use super::ring::{Ring, RingGeometry, SEGMENTS_MIN};
use super::scrub::Scrub;
use super::{Cell, GapReason, Recovered, Repair, RepairKind, StorageUpdate, side_files, snapshots};
use crate::format::card_id::CardId;
use crate::settings::StorageSettings;
use crate::units::{EntryId, MonoTime, RingId, Timestamp};

/// Entries reported at once: some hundred pieces may wait for the agent.
const FOUND_MAX: usize = 32;

/// Why the ring cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum StorageFault {
    /// The card refuses.
    #[error(transparent)]
    Disk(#[from] DiskFault),
    /// It was recorded by an older version, and this one would write over it.
    #[error(
        "{0} was recorded in a format that only an older taimat reads: export what is wanted with that version's `taimat ring export`, \
         then empty the ring's directory"
    )]
    Older(String),
    /// Every part of it is of another site: its footage may be evidence, and its events are not ours to tell.
    #[error(
        "the card is another site's: put it back into that site's box, or export what is wanted with `taimat ring export` and empty the \
         ring's directory"
    )]
    OtherSite,
    /// There is no room for it.
    #[error("the ring needs {wanted} bytes more and the file system has {available}: lower storage.budget or free some space")]
    NoRoom {
        /// Bytes still to be allocated.
        wanted: u64,
        /// Bytes there are.
        available: u64,
    },
}

/// The geometry of the snapshot slots for some settings.
pub fn snapshot_geometry(settings: &StorageSettings) -> snapshots::SnapshotGeometry {
    snapshots::SnapshotGeometry { slots: settings.snapshot_slots, bytes: u64::from(settings.still_bytes) }
}

impl Engine {
    /// Opens or makes everything in `disk` and recovers what a power cut left. The first updates is [`StorageUpdate::Started`], but
    /// entries that do not fit it come before ([`Engine::found`]).
    ///
    /// # Errors
    /// Only when recording is impossible; damage is never an error.
    pub fn open(
        disk: Arc<dyn Disk>,
        settings: &StorageSettings,
        now: Timestamp,
    ) -> Result<(Engine, Vec<StorageUpdate>), StorageFault> {
        let card = Arc::new(FallbackDisk::new(disk));
        let disk: Arc<dyn Disk> = card.clone();
        let files = disk.files()?;
        check_room(disk.as_ref(), settings, &files)?;
        let segments = segments(&files);
        let site = settings.site.as_ref();
        let mut heads = read_heads(disk.as_ref(), &segments, cards(disk.as_ref())?, site);
        if let Some(file) = heads.older.take() {
            return Err(StorageFault::Older(file));
        }
        if heads.of_other_site {
            return Err(StorageFault::OtherSite);
        }
        let id = *heads.card.get_or_insert_with(|| CardId::new(site, disk.draw()));
        let mut beside = Vec::new();
        let len = |file| files.get(&file).copied();
        let (mut journal, kept) = open_journal(&card, id, settings.journal_slots, len(FileId::Journal), &mut beside)?;
        let (slots, made) = (snapshot_geometry(settings), len(FileId::Snapshots));
        // They are made with the journal: without them what its entries wait with is gone.
        let no_stills = made.is_none() && !kept.entries.is_empty();
        let resized = side_files::faults(disk.as_ref(), &files, &kept, Some(slots.size()));
        let made = made.map(|len| side_files::snapshots_len(len, Some(&kept)));
        let snapshots = open_stills(&card, id, slots, made, &kept.entries, &mut beside)?;
        journal.snapshots = slots.size();
        let (ring_id, boot) = journal.start_boot()?;
        let mut found = recover_from(disk.as_ref(), heads, &segments, kept.clock_history(), kept.record);
        found.repairs.extend(kept.copies.iter().map(|copy| Repair {
            file: FileId::Journal.name(),
            offset: copy.offset,
            kind: RepairKind::Copy,
            bytes: 0,
            micros: 0,
            lost: None,
        }));
        let geometry = RingGeometry { segment: settings.segment, budget: settings.budget, quota: settings.pin_quota };
        let ring = Ring::new(disk, &mut found, boot, geometry, segments);
        let reason = if kept.clean { GapReason::Stopped } else { GapReason::PowerCut };
        let open_hole = found.end.map(|(_, from)| OpenGap { from, reason, bytes: 0 });
        let mut engine = Engine {
            card,
            ring,
            journal,
            snapshots,
            locks: Locks::default(),
            boot,
            started: now.mono,
            endurance: settings.endurance,
            gathering: Gathering::default(),
            anchor: None,
            early: Vec::new(),
            need_key: true,
            media_end: found.media,
            open_hole,
            // What is missing is on record in the next head.
            holes: found.gaps.iter().filter(|gap| gap.reason != GapReason::Missing).cloned().collect(),
            named_until: MonoTime(0),
            until: Timestamp::default(),
            waiting: Vec::new(),
            recent: VecDeque::new(),
            next_counts: now.mono,
            refused_since: None,
            refusals: 0,
            told_worn: false,
            scrub: Scrub::default(),
            unreported: kept.entries.clone(),
        };
        engine.note_damage(found.damaged);
        let locks = engine.take_over_locks(&kept);
        // A journal is begun before any footage: footage without one means that it was lost, cut short or wiped.
        let lost = kept.ring.is_none() && found.oldest.is_some();
        let mut update = engine.report_start(ring_id, found, kept)?;
        update.extend(locks);
        update.extend(beside);
        update.extend(resized.into_iter().map(|(file, what, lost)| {
            let detail = format!("{} {what}", file.name());
            StorageUpdate::Trouble { detail, lost }
        }));
        update.extend(no_stills.then(|| StorageUpdate::Trouble { detail: snapshots::LOST.into(), lost: true }));
        update.extend(lost.then(|| StorageUpdate::Trouble { detail: journal::LOST.into(), lost: true }));
        Ok((engine, update))
    }

    /// Entries found at the start, a piece at a time and oldest first, to be reported before [`StorageUpdate::Started`]: all at once they
    /// can be larger than the memory of a board. `None` when the rest is in `Started`.
    ///
    /// # Errors
    /// When the card refuses: a new start is needed.
    pub fn found(&mut self) -> Result<Option<StorageUpdate>, DiskFault> {
        if self.unreported.is_empty() {
            return Ok(None);
        }
        let piece = self.unreported.split_off(self.unreported.len().saturating_sub(FOUND_MAX));
        Ok(Some(StorageUpdate::Found { entries: self.read_entries(piece.into_iter().rev())? }))
    }

    /// An entry that is damaged by now comes empty: the agent tells that it cannot be read.
    fn read_entries(&self, entry_ids: impl Iterator<Item = EntryId>) -> Result<Vec<(EntryId, Vec<u8>)>, DiskFault> {
        entry_ids.map(|entry_id| Ok((entry_id, self.journal.entry(entry_id)?.unwrap_or_default()))).collect()
    }

    /// Pins what is locked; trouble when the list cannot be read. What is lost of it is reported once: the list itself remembers.
    fn take_over_locks(&mut self, kept: &LoadedJournal) -> Vec<StorageUpdate> {
        match kept.locks() {
            Ok(locks) => self.locks = locks,
            Err(detail) => return vec![StorageUpdate::Trouble { detail, lost: true }],
        }
        self.pin_locks();
        let broken = self.locks.miss(&self.ring.index().lost);
        if broken.is_empty() {
            return Vec::new();
        }
        // Where the journal refuses, or the list would be too long for its slot, the next start tells it again.
        let saved = self.journal.save(Cell::Locks, self.locks.encode());
        let trouble = saved.err().map(|fault| StorageUpdate::Trouble { detail: fault.to_string(), lost: false });
        let told = broken.into_iter().map(|(lock, lost)| {
            let lost = locate_gaps(self.card.as_ref(), self.ring.index(), &lost);
            StorageUpdate::LockBroken { lock, lost }
        });
        told.chain(trouble).collect()
    }

    fn report_start(&mut self, ring: RingId, found: Recovery, kept: LoadedJournal) -> Result<Vec<StorageUpdate>, DiskFault> {
        let extent = found.oldest.zip(found.end).map(|(oldest, (_, end))| (oldest, end));
        let newest = self.unreported.split_off(self.unreported.len().saturating_sub(FOUND_MAX));
        self.unreported.reverse();
        let recovered = Recovered {
            ring,
            boot: self.boot,
            slots: self.journal.slots(),
            last_seq: self.ring.newest(),
            extent,
            entries: self.read_entries(newest.into_iter())?,
            newest: kept.newest,
            cells: kept.cells,
            gaps: found.gaps,
            repairs: found.repairs,
            damaged_slots: kept.damaged,
            locks: self.locks.list(),
            clean: kept.clean,
            took: 0,
        };
        let troubles = found.troubles.into_iter().map(|(detail, lost)| StorageUpdate::Trouble { detail, lost });
        Ok(std::iter::once(StorageUpdate::Started(Box::new(recovered))).chain(troubles).collect())
    }
}

/// Bytes that the ring still has to allocate by these settings, and those the file system has.
///
/// # Errors
/// When the directory cannot be read.
pub fn room(disk: &dyn Disk, settings: &StorageSettings) -> Result<(u64, u64), DiskFault> {
    let files = disk.files()?;
    Ok((wanted(settings, &files, &segments(&files)), disk.available()))
}

fn wanted(settings: &StorageSettings, files: &BTreeMap<FileId, u64>, made: &BTreeMap<u32, u64>) -> u64 {
    let side = |file: FileId, size: u64| if files.contains_key(&file) { 0 } else { size };
    let whole = settings.budget - settings.budget % settings.segment;
    whole.saturating_sub(made.values().sum())
        + side(FileId::Journal, journal::file_len(u64::from(settings.journal_slots)))
        + side(FileId::Snapshots, snapshot_geometry(settings).size())
}

/// Refuses to start where the ring can never reach its size, unless it already has enough to work with.
fn check_room(disk: &dyn Disk, settings: &StorageSettings, files: &BTreeMap<FileId, u64>) -> Result<(), StorageFault> {
    let made = segments(files);
    let wanted = wanted(settings, files, &made);
    let available = disk.available();
    match made.len() >= SEGMENTS_MIN || wanted <= available {
        true => Ok(()),
        false => Err(StorageFault::NoRoom { wanted, available }),
    }
}
