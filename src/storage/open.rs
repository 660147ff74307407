//! Opens the ring: checks that recording is possible, and recovers the state of the last boot.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::dir_check::DirCheck;
use super::disk::{DirFault, Disk, DiskFault, FileId, segments};
use super::engine::Engine;
use super::fallback::FallbackDisk;
use super::foreign::{open_journal, open_snapshots};
use super::fragment::FragmentBuilder;
use super::head_selection::{Heads, read_heads};
use super::journal::{self, Journal};
use super::journal_layout;
use super::journal_load::cards;
use super::loaded_journal::LoadedJournal;
use super::locks::Locks;
use super::missing_records::locate_gaps;
use super::open_gap::OpenGap;
use super::recovery::{Recovery, recover_from};
use super::ring::Ring;
use super::ring_geometry::{RECYCLED_MIN, RingGeometry};
use super::scrub::Scrub;
use super::snapshots::SnapshotStore;
use super::track_changes::TrackChanges;
use super::{Cell, GapReason, Recovered, Repair, RepairKind, StorageUpdate, side_files, snapshots};
use crate::format::card_id::CardId;
use crate::settings::StorageSettings;
use crate::units::{Boot, EntryId, MonoTime, RingId, SiteId, Timestamp};

/// Entries in one update. Keeps the updates small: hundreds of them may wait for the agent.
const FOUND_MAX: usize = 32;

/// Reason why the ring cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StorageFault {
    /// The card reported an error.
    #[error(transparent)]
    Disk(#[from] DiskFault),
    /// The directory cannot be used.
    #[error(transparent)]
    Dir(#[from] DirFault),
    /// The ring was recorded by an older version, and this version would overwrite it.
    #[error(
        "{0} was recorded in a format that only an older taimat reads: export the footage with that version's `taimat ring export`, \
         then empty the ring's directory"
    )]
    Older(String),
    /// Every part of the ring belongs to another site. Its footage may be evidence, and this device
    /// must not send its events.
    #[error(
        "the card belongs to another site: return it to that site's device, or export the footage with `taimat ring export` and empty \
         the ring's directory"
    )]
    OtherSite,
    /// The file system has no room for the ring.
    #[error(
        "the ring needs {wanted} more bytes and the file system has {available}: lower storage.budget or free some space"
    )]
    NoRoom {
        /// Bytes still to be allocated.
        wanted: u64,
        /// Bytes available.
        available: u64,
    },
}

/// The geometry of the snapshot slots by the settings.
pub fn snapshot_geometry(settings: &StorageSettings) -> snapshots::SnapshotGeometry {
    snapshots::SnapshotGeometry {
        slots: settings.snapshot_slots,
        bytes: u64::from(settings.still_bytes),
    }
}

impl Engine {
    /// Opens or creates all files in `disk` and recovers from a power cut.
    ///
    /// The first update is [`StorageUpdate::Started`]; [`Engine::found`] returns the entries that
    /// it does not contain.
    ///
    /// # Errors
    /// Only if recording is impossible; damage is never an error.
    pub fn open(
        disk: Arc<dyn Disk>,
        settings: &StorageSettings,
        now: Timestamp,
    ) -> Result<(Engine, Vec<StorageUpdate>), StorageFault> {
        let card = Arc::new(FallbackDisk::new(disk));
        let files = card.files()?;
        let short = check_room(card.as_ref(), settings, &files)?;
        let segments = segments(&files);
        let (heads, id) = accept_card(card.as_ref(), &segments, settings.site.as_ref())?;
        let SideFiles { mut journal, loaded, snapshots, troubles } =
            open_side_files(&card, id, settings, &files)?;
        let newest_boot = heads.index.newest_boot();
        let is_older = loaded.is_older_than(newest_boot);
        journal.skip_boots(newest_boot, is_older);
        let (ring_id, boot) = journal.start_boot()?;
        let mut found =
            recover_from(card.as_ref(), heads, &segments, loaded.clock_history(), loaded.record);
        found.repairs.extend(copy_repairs(&loaded));
        let geometry = RingGeometry {
            segment: settings.segment,
            budget: settings.budget,
            quota: settings.pin_quota,
        };
        let ring = Ring::new(card.clone(), &mut found, boot, geometry, segments);
        let mut engine = Engine::recording(card, ring, journal, snapshots, boot, now.mono);
        engine.endurance = settings.endurance;
        engine.continue_recording(&found, &loaded);
        let locks = engine.restore_locks(&loaded);
        let lost = journal_losses(&loaded, &found, is_older);
        let mut update = engine.report_start(ring_id, found, loaded)?;
        update.extend(locks);
        update.extend(troubles);
        update.extend(lost);
        update.extend(short);
        Ok((engine, update))
    }

    /// An engine that has recorded nothing yet.
    fn recording(
        card: Arc<FallbackDisk>,
        ring: Ring,
        journal: Journal,
        snapshots: SnapshotStore,
        boot: Boot,
        now: MonoTime,
    ) -> Engine {
        Engine {
            card,
            ring,
            journal,
            snapshots,
            locks: Locks::default(),
            boot,
            started: now,
            endurance: 0,
            builder: FragmentBuilder::default(),
            anchor: None,
            early: Vec::new(),
            need_key: true,
            media_end: 0,
            media_last: None,
            videos: 0,
            idle_at: now,
            next_late_flush: now,
            open_gap: None,
            discarded: None,
            stopping: None,
            pending_gaps: Vec::new(),
            named_until: MonoTime(0),
            until: Timestamp::default(),
            waiting: Vec::new(),
            recent: VecDeque::new(),
            next_counts: now,
            dir_check: DirCheck::default(),
            refused_since: None,
            refusals: 0,
            wear_reported: false,
            scrub: Scrub::default(),
            unreported: Vec::new(),
            decodable: None,
            track_changes: TrackChanges::default(),
        }
    }

    /// Continues behind the recovered footage: its media clock, the gap since the last boot, the gaps
    /// and the damage that recovery found, and the entries that wait for the office.
    fn continue_recording(&mut self, found: &Recovery, loaded: &LoadedJournal) {
        self.media_end = found.media;
        let reason = if loaded.clean { GapReason::Stopped } else { GapReason::PowerCut };
        // Without any footage the gap begins where the first boot began.
        let begin = || loaded.clock_history().first_start().filter(|_| found.next_seq == 1);
        let from = found.end.map(|(_, from)| from).or_else(begin);
        self.open_gap = from.map(|from| OpenGap { from, reason, bytes: 0 });
        // Missing records are recorded in the next head instead.
        let recorded = found.gaps.iter().filter(|gap| gap.reason != GapReason::Missing);
        self.pending_gaps = recorded.cloned().collect();
        self.unreported = loaded.entries.clone();
        self.scrub.note_damage(found.damaged, &mut self.ring);
    }

    /// The next entries to report before [`StorageUpdate::Started`], oldest first. Reporting all at
    /// once could exceed the memory of the board. `None` when `Started` contains the rest.
    ///
    /// # Errors
    /// If the card reports an error; the process must restart then.
    pub fn found(&mut self) -> Result<Option<StorageUpdate>, DiskFault> {
        if self.unreported.is_empty() {
            return Ok(None);
        }
        let piece = self.unreported.split_off(self.unreported.len().saturating_sub(FOUND_MAX));
        Ok(Some(StorageUpdate::Found { entries: self.read_entries(piece.into_iter().rev())? }))
    }

    /// Reads entries; a damaged entry has no bytes, and the agent reports it.
    fn read_entries(
        &self,
        entry_ids: impl Iterator<Item = EntryId>,
    ) -> Result<Vec<(EntryId, Vec<u8>)>, DiskFault> {
        entry_ids
            .map(|entry_id| Ok((entry_id, self.journal.entry(entry_id)?.unwrap_or_default())))
            .collect()
    }

    /// Pins the locked footage and reports newly lost parts of it, or an unreadable list.
    fn restore_locks(&mut self, loaded: &LoadedJournal) -> Vec<StorageUpdate> {
        match loaded.locks() {
            Ok(locks) => self.locks = locks,
            Err(detail) => return vec![StorageUpdate::Trouble { detail, lost: true }],
        }
        self.pin_locks();
        self.broken_locks()
    }

    /// Reports locks that lost more footage since they were reported last.
    pub(super) fn broken_locks(&mut self) -> Vec<StorageUpdate> {
        let broken = self.locks.add_missing(&self.ring.index().lost);
        if broken.is_empty() {
            return Vec::new();
        }
        // If this write fails, the next boot reports the losses again.
        let saved = self.journal.save(Cell::Locks, self.locks.encode());
        let trouble = saved
            .err()
            .map(|fault| StorageUpdate::Trouble { detail: fault.to_string(), lost: false });
        let reports = broken.into_iter().map(|(lock, lost)| {
            let lost = locate_gaps(self.card.as_ref(), self.ring.index(), &lost);
            StorageUpdate::LockBroken { lock, lost }
        });
        reports.chain(trouble).collect()
    }

    fn report_start(
        &mut self,
        ring: RingId,
        found: Recovery,
        loaded: LoadedJournal,
    ) -> Result<Vec<StorageUpdate>, DiskFault> {
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
            newest: loaded.newest,
            cells: loaded.cells,
            gaps: found.gaps,
            repairs: found.repairs,
            damaged_slots: loaded.damaged,
            locks: self.locks.list(),
            clean: loaded.clean,
            took: 0,
        };
        let troubles = found
            .troubles
            .into_iter()
            .map(|(detail, lost)| StorageUpdate::Trouble { detail, lost });
        Ok(std::iter::once(StorageUpdate::Started(Box::new(recovered))).chain(troubles).collect())
    }
}

/// Journal and snapshots as they were opened.
struct SideFiles {
    journal: Journal,
    loaded: LoadedJournal,
    snapshots: SnapshotStore,
    /// Parts of other cards, wrong file sizes and lost snapshots.
    troubles: Vec<StorageUpdate>,
}

/// Opens or creates journal and snapshots, and sets aside their parts of other cards.
fn open_side_files(
    card: &Arc<FallbackDisk>,
    id: CardId,
    settings: &StorageSettings,
    files: &BTreeMap<FileId, u64>,
) -> Result<SideFiles, DiskFault> {
    let mut troubles = Vec::new();
    let len = |file| files.get(&file).copied();
    let (mut journal, loaded) =
        open_journal(card, id, settings.journal_slots, len(FileId::Journal), &mut troubles)?;
    let (slots, made) = (snapshot_geometry(settings), len(FileId::Snapshots));
    // The snapshot file is created with the journal. If it is missing, the snapshots of pending
    // entries are lost.
    let no_snapshots = made.is_none() && !loaded.entries.is_empty();
    let resized = side_files::faults(card.as_ref(), files, &loaded, Some(slots.size()));
    let made = made.map(|len| side_files::snapshots_len(len, Some(&loaded)));
    let snapshots = open_snapshots(card, id, slots, made, &loaded.entries, &mut troubles)?;
    journal.snapshots = slots.size();
    troubles.extend(resized.into_iter().map(|(file, what, lost)| {
        let detail = format!("{} {what}", file.name());
        StorageUpdate::Trouble { detail, lost }
    }));
    troubles.extend(no_snapshots.then(|| loss(snapshots::LOST)));
    Ok(SideFiles { journal, loaded, snapshots, troubles })
}

/// Reads the heads of the ring, and draws an id for a new card.
///
/// # Errors
/// If an older version or another site recorded the ring, or the card reports an error.
fn accept_card(
    disk: &dyn Disk,
    segments: &BTreeMap<u32, u64>,
    site: Option<&SiteId>,
) -> Result<(Heads, CardId), StorageFault> {
    let mut heads = read_heads(disk, segments, cards(disk)?, site);
    if let Some(file) = heads.older.take() {
        return Err(StorageFault::Older(file));
    }
    if heads.of_other_site {
        return Err(StorageFault::OtherSite);
    }
    let id = *heads.card.get_or_insert_with(|| CardId::new(site, disk.draw()));
    Ok((heads, id))
}

/// The damaged copies of journal slots, which the journal rewrites.
fn copy_repairs(loaded: &LoadedJournal) -> impl Iterator<Item = Repair> {
    loaded.copies.iter().map(|copy| Repair {
        file: FileId::Journal.name(),
        offset: copy.offset,
        kind: RepairKind::Copy,
        bytes: 0,
        micros: 0,
        lost: None,
    })
}

/// Reports a journal that was lost, or that is older than the footage. The journal is created before
/// any footage: footage without one means that it was lost, truncated or wiped.
fn journal_losses(
    loaded: &LoadedJournal,
    found: &Recovery,
    is_older: bool,
) -> impl Iterator<Item = StorageUpdate> + use<> {
    let is_lost = loaded.ring.is_none() && found.oldest.is_some();
    let losses = [is_lost.then_some(journal::LOST), is_older.then_some(journal::OLDER)];
    losses.into_iter().flatten().map(loss)
}

fn loss(detail: &str) -> StorageUpdate {
    StorageUpdate::Trouble { detail: detail.to_owned(), lost: true }
}

/// Bytes that the ring still has to allocate by these settings, and free bytes of the file system.
///
/// # Errors
/// If the directory cannot be read.
pub fn room(disk: &dyn Disk, settings: &StorageSettings) -> Result<(u64, u64), DiskFault> {
    let files = disk.files()?;
    Ok((wanted(settings, &files, &segments(&files)), disk.available()))
}

/// Refuses a card that [`Engine::open`] refuses because of its owner or format.
///
/// # Errors
/// As [`Engine::open`]; writes nothing.
pub fn check_owner(disk: &dyn Disk, settings: &StorageSettings) -> Result<(), StorageFault> {
    accept_card(disk, &segments(&disk.files()?), settings.site.as_ref()).map(|_| ())
}

/// Bytes that a ring in an empty directory allocates by these settings.
pub fn new_ring_bytes(settings: &StorageSettings) -> u64 {
    wanted(settings, &BTreeMap::new(), &BTreeMap::new())
}

fn wanted(
    settings: &StorageSettings,
    files: &BTreeMap<FileId, u64>,
    made: &BTreeMap<u32, u64>,
) -> u64 {
    let side = |file: FileId, size: u64| if files.contains_key(&file) { 0 } else { size };
    let whole = settings.budget - settings.budget % settings.segment;
    whole.saturating_sub(made.values().sum())
        + side(FileId::Journal, journal_layout::file_len(u64::from(settings.journal_slots)))
        + side(FileId::Snapshots, snapshot_geometry(settings).size())
}

/// Rejects a ring that cannot reach its size, unless it already has enough segments to record: that
/// one is reported.
fn check_room(
    disk: &dyn Disk,
    settings: &StorageSettings,
    files: &BTreeMap<FileId, u64>,
) -> Result<Option<StorageUpdate>, StorageFault> {
    let made = segments(files);
    let wanted = wanted(settings, files, &made);
    let available = disk.available();
    if wanted <= available {
        Ok(None)
    } else if made.len() >= RECYCLED_MIN {
        Ok(Some(StorageUpdate::NoRoom { wanted, available }))
    } else {
        Err(StorageFault::NoRoom { wanted, available })
    }
}
