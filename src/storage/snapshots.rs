//! Snapshots that wait for the office: fixed slots, found by entry id ([`crate::format::on_disk`]).
//!
//! What belongs here: slots of JPEGs. What does not: JPEG itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ReadFault;
use super::disk::{Disk, DiskFault, FileId};
use crate::format::card_id::CardId;
use crate::format::record::BLOCK;
use crate::units::EntryId;

/// Slots and their size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotGeometry {
    /// Number of slots.
    pub slots: u32,
    /// Bytes of a slot, header and all: a multiple of a block.
    pub bytes: u64,
}

impl SnapshotGeometry {
    /// Bytes of the file.
    pub fn size(self) -> u64 {
        u64::from(self.slots) * self.bytes
    }
}

/// What is said of a journal with entries and no snapshots beside it.
pub const LOST: &str = "snapshots.taimat is missing: snapshots of events that wait for the office are lost";
/// Where the second copy of a header lies in its block.
const SECOND: usize = 2048;

/// The header of a slot, twice: entry id, length, checksum of the data.
fn header(card: CardId, entry_id: EntryId, data: &[u8]) -> Vec<u8> {
    let mut header = b"TMS3".to_vec();
    header.extend((data.len() as u32).to_be_bytes());
    header.extend(entry_id.0.to_be_bytes());
    header.extend(card.bytes());
    header.extend(crc32c::crc32c(data).to_be_bytes());
    let crc = crc32c::crc32c(&header);
    header.extend(crc.to_be_bytes());
    let mut block = header.clone();
    block.resize(SECOND, 0);
    block.extend(header);
    block.resize(BLOCK as usize, 0);
    block
}

/// What a header says: entry id, length and checksum of the data, and its card.
type Header = (EntryId, usize, u32, CardId);

/// What one copy of a header says.
fn parse_one(header: &[u8]) -> Option<Header> {
    let field = |at: usize| Some(u32::from_be_bytes(header.get(at..at + 4)?.try_into().ok()?));
    let whole = header.get(..4)? == b"TMS3" && crc32c::crc32c(header.get(..36)?) == field(36)?;
    let entry_id = EntryId(u64::from_be_bytes(header.get(8..16)?.try_into().ok()?));
    whole.then_some((entry_id, field(4)? as usize, field(32)?, CardId::read(header.get(16..)?)?))
}

/// The same from a header block, by whichever copy is whole, and whether both are.
fn parse(block: &[u8]) -> Option<(Header, bool)> {
    let (first, second) = (parse_one(block), block.get(SECOND..).and_then(parse_one));
    let both = first.is_some() && first == second;
    Some((first.or(second)?, both))
}

/// The snapshot slots.
pub struct SnapshotStore {
    disk: Arc<dyn Disk>,
    geometry: SnapshotGeometry,
    card: CardId,
    /// Tickets by slot. One that was refused and offered again may have two.
    used: BTreeMap<u32, EntryId>,
}

impl SnapshotStore {
    /// Opens the slots, making them when there are none or their size has changed; snapshots of `live` entry ids are kept.
    ///
    /// # Errors
    /// When the card refuses.
    pub fn open(
        disk: Arc<dyn Disk>,
        card: CardId,
        geometry: SnapshotGeometry,
        existing: Option<u64>,
        live: &[EntryId],
    ) -> Result<SnapshotStore, DiskFault> {
        let size = geometry.size();
        let mut snapshots = SnapshotStore { disk, geometry, card, used: BTreeMap::new() };
        if existing != Some(size) {
            snapshots.disk.create(FileId::Snapshots, size)?;
            return Ok(snapshots);
        }
        for slot in 0..geometry.slots {
            let block = snapshots.disk.read(FileId::Snapshots, u64::from(slot) * geometry.bytes, BLOCK as usize)?;
            if let Some(((entry_id, ..), _)) = parse(&block).filter(|((entry_id, ..), _)| live.contains(entry_id)) {
                snapshots.used.insert(slot, entry_id);
            }
        }
        Ok(snapshots)
    }

    /// Bytes of its file.
    pub fn size(&self) -> u64 {
        self.geometry.size()
    }

    /// Stores a snapshot; durable when this returns `Ok`.
    ///
    /// # Errors
    /// Says why when it is too large, all slots are taken, or the card refuses.
    pub fn store(&mut self, entry_id: EntryId, jpeg: &[u8]) -> Result<u64, String> {
        let SnapshotGeometry { slots, bytes } = self.geometry;
        if jpeg.len() as u64 + BLOCK > bytes {
            return Err(format!("a snapshot of {} bytes does not fit a slot of {bytes}", jpeg.len()));
        }
        let Some(slot) = (0..slots).find(|slot| !self.used.contains_key(slot)) else {
            return Err(format!("all {slots} snapshot slots are taken"));
        };
        let mut block = header(self.card, entry_id, jpeg);
        block.extend_from_slice(jpeg);
        let at = u64::from(slot) * bytes;
        let written = self.disk.write(FileId::Snapshots, at, &block).and_then(|()| self.disk.sync(FileId::Snapshots));
        written.map_err(|fault| fault.to_string())?;
        self.used.insert(slot, entry_id);
        Ok(block.len() as u64)
    }

    /// Frees the slot of a entry id.
    pub fn free(&mut self, entry_id: EntryId) {
        self.used.retain(|_, used| *used != entry_id);
    }
}

/// Offsets of snapshots of another card in a file of `len` bytes, with slots of `step` bytes; with [`BLOCK`] whatever its geometry.
///
/// # Errors
/// When the card refuses.
pub fn foreign(disk: &dyn Disk, len: u64, step: u64, card: CardId) -> Result<Vec<u64>, DiskFault> {
    let mut found = Vec::new();
    for at in (0..len).step_by(step as usize) {
        let header = parse(&disk.read(FileId::Snapshots, at, (len - at).min(BLOCK) as usize)?);
        found.extend(header.filter(|((.., of), _)| *of != card).map(|_| at));
    }
    Ok(found)
}

/// Offsets of snapshots that `live` entries wait for and that are damaged, in a file of `len` bytes whatever its geometry.
///
/// # Errors
/// When the card refuses.
pub fn damaged(disk: &dyn Disk, len: u64, live: &[EntryId]) -> Result<Vec<u64>, DiskFault> {
    let mut found = Vec::new();
    for at in (0..len).step_by(BLOCK as usize) {
        let header = parse(&disk.read(FileId::Snapshots, at, (len - at).min(BLOCK) as usize)?);
        let Some(((_, size, crc, _), both)) = header.filter(|((entry_id, ..), _)| live.contains(entry_id)) else {
            continue;
        };
        let fits = at + BLOCK + size as u64 <= len;
        let whole = both && fits && crc32c::crc32c(&disk.read(FileId::Snapshots, at + BLOCK, size)?) == crc;
        found.extend((!whole).then_some(at));
    }
    Ok(found)
}

/// Reads the snapshot of a entry id.
///
/// # Errors
/// When it is gone, damaged or the card refuses.
pub fn read(disk: &dyn Disk, geometry: SnapshotGeometry, entry_id: EntryId) -> Result<Vec<u8>, ReadFault> {
    let io = |fault: DiskFault| ReadFault::Io(fault.to_string());
    let mut fault = ReadFault::Gone(format!("{}: snapshot of entry {}", FileId::Snapshots.name(), entry_id.0));
    for slot in 0..geometry.slots {
        let at = u64::from(slot) * geometry.bytes;
        let found = parse(&disk.read(FileId::Snapshots, at, BLOCK as usize).map_err(io)?).map(|(header, _)| header);
        let Some((_, len, crc, _)) = found.filter(|(of, len, ..)| *of == entry_id && *len as u64 + BLOCK <= geometry.bytes)
        else {
            continue;
        };
        let jpeg = disk.read(FileId::Snapshots, at + BLOCK, len).map_err(io)?;
        if crc32c::crc32c(&jpeg) == crc {
            return Ok(jpeg);
        }
        // Another slot may have it whole.
        fault = ReadFault::Damaged(format!("{} slot {slot}", FileId::Snapshots.name()));
    }
    Err(fault)
}
