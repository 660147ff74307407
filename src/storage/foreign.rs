//! Parts of other cards in a ring's directory: which there are, and keeping them before their place is used.
//!
//! What belongs here: that, for the journal and the snapshots. What does not: which card is ours ([`super::identity`]), segments of
//! other cards ([`super::head_selection`]).

use std::sync::Arc;

use super::StorageUpdate;
use super::disk::{Disk, DiskFault, FileId};
use super::fallback::FallbackDisk;
use super::identity::{NEXT, keep};
use super::journal::{Journal, LoadedJournal, file_len};
use super::side_files::snapshots_len;
use super::snapshots::{self, SnapshotGeometry, SnapshotStore};
use crate::format::card_id::CardId;
use crate::format::record::BLOCK;
use crate::units::EntryId;

/// A part that is not ours, for people.
pub fn sentence(file: FileId, parts: usize) -> String {
    match file {
        FileId::Foreign(_) => format!("holds what was found of another card: {NEXT}"),
        _ => format!("{parts} parts of it are another card's: the next start keeps them as foreign-NNNNN.taimat; {NEXT}"),
    }
}

/// Every file beside the segments that holds something of another card than `fallback`, and what is said of it.
///
/// # Errors
/// When the card refuses.
pub fn beside(disk: &dyn Disk, card: CardId, kept: Option<&LoadedJournal>) -> Result<Vec<(FileId, String)>, DiskFault> {
    let mut found = Vec::new();
    let mut tell = |file, parts: usize| found.extend((parts > 0).then(|| (file, sentence(file, parts))));
    for (file, len) in disk.files()? {
        match file {
            FileId::Segment(_) => {}
            FileId::Journal => tell(file, kept.map_or(0, |kept| kept.foreign.len())),
            FileId::Snapshots => tell(file, snapshots::foreign(disk, snapshots_len(len, kept), BLOCK, card)?.len()),
            FileId::Foreign(_) => tell(file, 1),
        }
    }
    Ok(found)
}

/// Opens the journal without what is another card's.
///
/// # Errors
/// When the card refuses.
pub fn open_journal(
    card: &Arc<FallbackDisk>,
    id: CardId,
    slots: u32,
    existing: Option<u64>,
    out: &mut Vec<StorageUpdate>,
) -> Result<(Journal, LoadedJournal), DiskFault> {
    let (journal, kept) = Journal::open(card.clone(), id, slots, existing)?;
    if kept.foreign.is_empty() {
        return Ok((journal, kept));
    }
    set_aside(card, (FileId::Journal, file_len(kept.slots)), &kept.foreign, out)?;
    Journal::open(card.clone(), id, slots, existing)
}

/// Opens the snapshots without those of another card.
///
/// # Errors
/// When the card refuses.
pub fn open_stills(
    card: &Arc<FallbackDisk>,
    id: CardId,
    geometry: SnapshotGeometry,
    existing: Option<u64>,
    live: &[EntryId],
    out: &mut Vec<StorageUpdate>,
) -> Result<SnapshotStore, DiskFault> {
    let step = if existing == Some(geometry.size()) { geometry.bytes } else { BLOCK };
    let foreign = existing.map_or(Ok(Vec::new()), |len| snapshots::foreign(card.as_ref(), len, step, id))?;
    if !foreign.is_empty() {
        set_aside(card, (FileId::Snapshots, existing.unwrap_or_default()), &foreign, out)?;
    }
    SnapshotStore::open(card.clone(), id, geometry, existing, live)
}

/// Keeps a copy of a file, then wipes the blocks of it that are another card's. Where no copy can be made, nothing of it is written
/// over: from now on the file is in memory.
fn set_aside(
    card: &FallbackDisk,
    (file, len): (FileId, u64),
    foreign: &[u64],
    out: &mut Vec<StorageUpdate>,
) -> Result<(), DiskFault> {
    let (name, parts) = (file.name(), foreign.len());
    let detail = match keep(card, file, len) {
        Ok(kept) => format!("{name}: {parts} parts of it are another card's; kept as {kept}, {NEXT}"),
        Err(fault) => {
            card.hold_in_memory(file, len);
            format!(
                "{name}: {parts} parts of it are another card's and cannot be kept ({fault}): it is in memory until it is taken away"
            )
        }
    };
    out.push(StorageUpdate::Trouble { detail, lost: true });
    for at in foreign {
        card.write(file, *at, &[0; BLOCK as usize])?;
    }
    card.sync(file)
}
