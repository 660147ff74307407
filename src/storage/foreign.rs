//! Foreign parts: copies journal and snapshot files with parts of another card before reuse.

use std::sync::Arc;

use super::StorageUpdate;
use super::disk::{Disk, DiskFault, FileId};
use super::fallback::FallbackDisk;
use super::identity::{NEXT, keep};
use super::journal::Journal;
use super::journal_layout::file_len;
use super::loaded_journal::LoadedJournal;
use super::side_files::snapshots_len;
use super::snapshots::{self, SnapshotGeometry, SnapshotStore};
use crate::format::block::BLOCK;
use crate::format::card_id::CardId;
use crate::units::EntryId;

/// Describes a file with foreign parts for log and operator.
pub fn describe(file: FileId, parts: usize) -> String {
    match file {
        FileId::Foreign(_) => format!("copy of a file with parts of another card: {NEXT}"),
        _ => format!(
            "{parts} parts belong to another card: the next boot copies the file to foreign-NNNNN.taimat; {NEXT}"
        ),
    }
}

/// The files, other than segments, that hold parts of another card than `card`, each described.
///
/// # Errors
/// If the card reports an error.
pub fn foreign_files(
    disk: &dyn Disk,
    card: CardId,
    loaded: Option<&LoadedJournal>,
) -> Result<Vec<(FileId, String)>, DiskFault> {
    let mut found = Vec::new();
    let mut add =
        |file, parts: usize| found.extend((parts > 0).then(|| (file, describe(file, parts))));
    for (file, len) in disk.files()? {
        match file {
            FileId::Segment(_) => {}
            FileId::Journal => add(file, loaded.map_or(0, |loaded| loaded.foreign.len())),
            FileId::Snapshots => {
                add(file, snapshots::foreign(disk, snapshots_len(len, loaded), BLOCK, card)?.len())
            }
            FileId::Foreign(_) => add(file, 1),
        }
    }
    Ok(found)
}

/// Opens the journal; copies and wipes slots of another card first.
///
/// # Errors
/// If the card reports an error.
pub fn open_journal(
    card: &Arc<FallbackDisk>,
    id: CardId,
    slots: u32,
    existing: Option<u64>,
    out: &mut Vec<StorageUpdate>,
) -> Result<(Journal, LoadedJournal), DiskFault> {
    let (journal, loaded) = Journal::open(card.clone(), id, slots, existing)?;
    if loaded.foreign.is_empty() {
        return Ok((journal, loaded));
    }
    set_aside(card, (FileId::Journal, file_len(loaded.slots)), &loaded.foreign, out)?;
    Journal::open(card.clone(), id, slots, existing)
}

/// Opens the snapshot slots; copies and wipes snapshots of another card first.
///
/// # Errors
/// If the card reports an error.
pub fn open_snapshots(
    card: &Arc<FallbackDisk>,
    id: CardId,
    geometry: SnapshotGeometry,
    existing: Option<u64>,
    live: &[EntryId],
    out: &mut Vec<StorageUpdate>,
) -> Result<SnapshotStore, DiskFault> {
    let step = if existing == Some(geometry.size()) { geometry.bytes } else { BLOCK };
    let foreign =
        existing.map_or(Ok(Vec::new()), |len| snapshots::foreign(card.as_ref(), len, step, id))?;
    if !foreign.is_empty() {
        set_aside(card, (FileId::Snapshots, existing.unwrap_or_default()), &foreign, out)?;
    }
    SnapshotStore::open(card.clone(), id, geometry, existing, live)
}

/// Copies a file, then wipes its blocks that belong to another card. If it cannot be copied, the
/// card is left unchanged and the file is moved to memory.
fn set_aside(
    card: &FallbackDisk,
    (file, len): (FileId, u64),
    foreign: &[u64],
    out: &mut Vec<StorageUpdate>,
) -> Result<(), DiskFault> {
    let (name, parts) = (file.name(), foreign.len());
    let detail = match keep(card, file, len) {
        Ok(copy) => {
            format!("{name}: {parts} parts belong to another card; copied to {copy}: {NEXT}")
        }
        Err(fault) => {
            card.hold_in_memory(file, len);
            format!(
                "{name}: {parts} parts belong to another card and cannot be copied ({fault}): using memory until the file is removed"
            )
        }
    };
    out.push(StorageUpdate::Trouble { detail, lost: true });
    for at in foreign {
        card.write(file, *at, &[0; BLOCK as usize])?;
    }
    card.sync(file)
}
