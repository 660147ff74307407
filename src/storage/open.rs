//! Opens the ring: checks that recording is possible, and recovers the state of the last boot.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::disk::{Disk, DiskFault, FileId, segments};
use super::engine::Engine;
use super::engine_gaps::OpenGap;
use super::fallback::FallbackDisk;
use super::foreign::{open_journal, open_snapshots};
use super::fragment::FragmentBuilder;
use super::head_selection::read_heads;
use super::journal::{self, LoadedJournal};
use super::journal_load::cards;
use super::locks::Locks;
use super::missing_records::locate_gaps;
use super::recovery::{Recovery, recover_from};
use super::ring::Ring;
use super::ring_geometry::{RingGeometry, SEGMENTS_MIN};
use super::scrub::Scrub;
use super::{Cell, GapReason, Recovered, Repair, RepairKind, StorageUpdate, side_files, snapshots};
use crate::format::card_id::CardId;
use crate::settings::StorageSettings;
use crate::units::{EntryId, MonoTime, RingId, Timestamp};

/// Entries in one update. Keeps the updates small: hundreds of them may wait for the agent.
const FOUND_MAX: usize = 32;

/// Reason why the ring cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StorageFault {
    /// The card reported an error.
    #[error(transparent)]
    Disk(#[from] DiskFault),
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
        let (mut journal, loaded) =
            open_journal(&card, id, settings.journal_slots, len(FileId::Journal), &mut beside)?;
        let (slots, made) = (snapshot_geometry(settings), len(FileId::Snapshots));
        // The snapshot file is created with the journal. If it is missing, the snapshots of pending
        // entries are lost.
        let no_snapshots = made.is_none() && !loaded.entries.is_empty();
        let resized = side_files::faults(disk.as_ref(), &files, &loaded, Some(slots.size()));
        let made = made.map(|len| side_files::snapshots_len(len, Some(&loaded)));
        let snapshots = open_snapshots(&card, id, slots, made, &loaded.entries, &mut beside)?;
        journal.snapshots = slots.size();
        let newest_boot = heads.index.newest_boot();
        let is_older = loaded.is_older_than(newest_boot);
        journal.skip_boots(newest_boot, is_older);
        let (ring_id, boot) = journal.start_boot()?;
        let mut found =
            recover_from(disk.as_ref(), heads, &segments, loaded.clock_history(), loaded.record);
        found.repairs.extend(loaded.copies.iter().map(|copy| Repair {
            file: FileId::Journal.name(),
            offset: copy.offset,
            kind: RepairKind::Copy,
            bytes: 0,
            micros: 0,
            lost: None,
        }));
        let geometry = RingGeometry {
            segment: settings.segment,
            budget: settings.budget,
            quota: settings.pin_quota,
        };
        let ring = Ring::new(disk, &mut found, boot, geometry, segments);
        let reason = if loaded.clean { GapReason::Stopped } else { GapReason::PowerCut };
        let open_gap = found.end.map(|(_, from)| OpenGap { from, reason, bytes: 0 });
        let mut engine = Engine {
            card,
            ring,
            journal,
            snapshots,
            locks: Locks::default(),
            boot,
            started: now.mono,
            endurance: settings.endurance,
            builder: FragmentBuilder::default(),
            anchor: None,
            early: Vec::new(),
            need_key: true,
            media_end: found.media,
            media_last: None,
            videos: 0,
            idle_at: now.mono,
            next_late_flush: now.mono,
            open_gap,
            // Missing records are recorded in the next head instead.
            pending_gaps: found
                .gaps
                .iter()
                .filter(|gap| gap.reason != GapReason::Missing)
                .cloned()
                .collect(),
            named_until: MonoTime(0),
            until: Timestamp::default(),
            waiting: Vec::new(),
            recent: VecDeque::new(),
            next_counts: now.mono,
            refused_since: None,
            refusals: 0,
            wear_reported: false,
            scrub: Scrub::default(),
            unreported: loaded.entries.clone(),
        };
        engine.note_damage(found.damaged);
        let locks = engine.restore_locks(&loaded);
        // The journal is created before any footage. Footage without one means that it was lost,
        // truncated or wiped.
        let lost = loaded.ring.is_none() && found.oldest.is_some();
        let mut update = engine.report_start(ring_id, found, loaded)?;
        update.extend(locks);
        update.extend(beside);
        update.extend(resized.into_iter().map(|(file, what, lost)| {
            let detail = format!("{} {what}", file.name());
            StorageUpdate::Trouble { detail, lost }
        }));
        update.extend(
            no_snapshots
                .then(|| StorageUpdate::Trouble { detail: snapshots::LOST.into(), lost: true }),
        );
        update.extend(
            lost.then(|| StorageUpdate::Trouble { detail: journal::LOST.into(), lost: true }),
        );
        update.extend(
            is_older.then(|| StorageUpdate::Trouble { detail: journal::OLDER.into(), lost: true }),
        );
        Ok((engine, update))
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

/// Bytes that the ring still has to allocate by these settings, and free bytes of the file system.
///
/// # Errors
/// If the directory cannot be read.
pub fn room(disk: &dyn Disk, settings: &StorageSettings) -> Result<(u64, u64), DiskFault> {
    let files = disk.files()?;
    Ok((wanted(settings, &files, &segments(&files)), disk.available()))
}

fn wanted(
    settings: &StorageSettings,
    files: &BTreeMap<FileId, u64>,
    made: &BTreeMap<u32, u64>,
) -> u64 {
    let side = |file: FileId, size: u64| if files.contains_key(&file) { 0 } else { size };
    let whole = settings.budget - settings.budget % settings.segment;
    whole.saturating_sub(made.values().sum())
        + side(FileId::Journal, journal::file_len(u64::from(settings.journal_slots)))
        + side(FileId::Snapshots, snapshot_geometry(settings).size())
}

/// Rejects a ring that cannot reach its size, unless it already has enough segments to record.
fn check_room(
    disk: &dyn Disk,
    settings: &StorageSettings,
    files: &BTreeMap<FileId, u64>,
) -> Result<(), StorageFault> {
    let made = segments(files);
    let wanted = wanted(settings, files, &made);
    let available = disk.available();
    if made.len() >= SEGMENTS_MIN || wanted <= available {
        Ok(())
    } else {
        Err(StorageFault::NoRoom { wanted, available })
    }
}
