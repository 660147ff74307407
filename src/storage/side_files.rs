//! The files beside the segments against the sizes they were made with, which the journal's start record says: one that was emptied, cut
//! or replaced has lost what waited in it, and what lies behind the end of one that grew is none of ours and is never read.
//!
//! What belongs here: those sizes. What does not: what is in the files ([`super::journal`], [`super::snapshots`]).

use std::collections::BTreeMap;

use super::disk::{Disk, FileId};
use super::journal_layout::{RESERVED, copy_b, file_len, slots_of};
use super::journal_slot::{START, Slot};
use super::loaded_journal::LoadedJournal;
use crate::format::block::BLOCK;

/// Slots of a journal at most, as `storage.journal_slots` has it.
const SLOTS_MAX: u64 = 131_072;
/// Bytes of the snapshots that are searched where no journal says how long they are: thousands of slots of the default size.
const SEARCH_MAX: u64 = 1 << 30;

/// What a start record says of the sizes: bytes of the snapshots, then slots of the journal.
pub(super) fn encode(snapshots: u64, slots: usize) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&snapshots.to_be_bytes());
    bytes[8..].copy_from_slice(&(slots as u32).to_be_bytes());
    bytes
}

/// The same read from the bytes of a start record; `None` in one that does not say it.
pub(super) fn decode(start: &[u8]) -> Option<(u64, u64)> {
    let (snapshots, slots) = start.get(17..29)?.split_at(8);
    Some((
        u64::from_be_bytes(snapshots.try_into().ok()?),
        u64::from(u32::from_be_bytes(slots.try_into().ok()?)),
    ))
}

/// The number of slots of a journal file of `len` bytes: as its start record says if so many fit, else by its length.
pub(super) fn slots_in(disk: &dyn Disk, len: u64) -> u64 {
    let start = |at: u64| {
        let bytes = disk.read(FileId::Journal, at, BLOCK as usize).ok()?;
        Slot::decode(&bytes).filter(|slot| slot.kind == START)
    };
    let by_length = slots_of(len).min(SLOTS_MAX);
    let found = start(0).or_else(|| start(copy_b(by_length)));
    let stated = found.and_then(|slot| decode(&slot.bytes)).map(|(_, slots)| slots);
    let fits = |slots: &u64| is_possible(*slots) && file_len(*slots) <= len;
    stated.filter(fits).unwrap_or(by_length)
}

/// Whether a journal may have so many slots.
fn is_possible(slots: u64) -> bool {
    slots > RESERVED as u64 && slots <= SLOTS_MAX
}

/// Bytes of a snapshots file of `len` bytes that may be ours.
pub(super) fn snapshots_len(len: u64, kept: Option<&LoadedJournal>) -> u64 {
    len.min(kept.and_then(|kept| kept.snapshots).unwrap_or(SEARCH_MAX))
}

/// Every file that has another size than it was made with, what is said of it, and whether something is lost. `configured` is the
/// size that the settings give the snapshots, where they are known: a start may have been cut while it made them.
pub fn faults(
    disk: &dyn Disk,
    files: &BTreeMap<FileId, u64>,
    kept: &LoadedJournal,
    configured: Option<u64>,
) -> Vec<(FileId, String, bool)> {
    // Blocks that are missing or too many do not show in the slots by length.
    let slots = kept.stated_slots.filter(|slots| is_possible(*slots)).unwrap_or(kept.slots);
    let journal = files.get(&FileId::Journal).map(|len| (FileId::Journal, *len, file_len(slots)));
    let snapshots =
        files.get(&FileId::Snapshots).filter(|len| configured != Some(**len)).zip(kept.snapshots);
    let snapshots = snapshots.map(|(len, stated)| (FileId::Snapshots, *len, stated));
    let other = |(file, len, stated): (FileId, u64, u64)| match len < stated {
        true => Some((file, format!("{}: {}", short(disk, file, len, stated), lost(file)), true)),
        false if len == stated => None,
        false => Some((
            file,
            format!("has {len} bytes instead of {stated}: what lies behind is never read"),
            false,
        )),
    };
    [journal.filter(|_| kept.slots > 0), snapshots]
        .into_iter()
        .flatten()
        .filter_map(other)
        .collect()
}

/// What is there instead of the whole file.
fn short(disk: &dyn Disk, file: FileId, len: u64, stated: u64) -> String {
    let refused = disk
        .read(file, 0, 1)
        .err()
        .filter(|fault| len == 0 && fault.reason.ends_with("not a file"));
    refused.map_or_else(|| format!("has {len} bytes instead of {stated}"), |fault| fault.reason)
}

fn lost(file: FileId) -> &'static str {
    match file {
        FileId::Snapshots => "snapshots of events that wait for the office are lost",
        _ => "what waits for the office may be lost",
    }
}
