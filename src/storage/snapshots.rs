//! Snapshot slots: JPEGs that wait for the office, found by entry id ([`crate::format::on_disk`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ReadFault;
use super::disk::{Disk, DiskFault, FileId};
use crate::format::block::BLOCK;
use crate::format::card_id::CardId;
use crate::units::EntryId;

/// Number and size of the slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotGeometry {
    /// Number of slots.
    pub slots: u32,
    /// Bytes of a slot with its header block; a multiple of the block size.
    pub bytes: u64,
}

impl SnapshotGeometry {
    /// Length of the file, bytes.
    pub fn size(self) -> u64 {
        u64::from(self.slots) * self.bytes
    }
}

/// Problem reported for a journal with entries but without a snapshot file.
pub const LOST: &str = "snapshots.taimat is missing: the snapshots of pending events are lost";
/// Offset of the second copy of a header in its block.
const SECOND: usize = 2048;

/// The header block of a slot, with two copies of the header.
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

/// The header of a slot.
#[derive(PartialEq)]
struct Header {
    entry_id: EntryId,
    /// Bytes of the JPEG.
    len: usize,
    /// CRC-32C of the JPEG.
    crc: u32,
    card: CardId,
}

/// Parses one copy of a header; `None` if it is damaged.
fn parse_one(header: &[u8]) -> Option<Header> {
    let field = |at: usize| Some(u32::from_be_bytes(header.get(at..at + 4)?.try_into().ok()?));
    let whole = header.get(..4)? == b"TMS3" && crc32c::crc32c(header.get(..36)?) == field(36)?;
    let entry_id = EntryId(u64::from_be_bytes(header.get(8..16)?.try_into().ok()?));
    let len = field(4)? as usize;
    let crc = field(32)?;
    let card = CardId::read(header.get(16..)?)?;
    whole.then_some(Header { entry_id, len, crc, card })
}

/// Parses a header block: the first whole copy, and whether both copies are whole and equal.
fn parse(block: &[u8]) -> Option<(Header, bool)> {
    let (first, second) = (parse_one(block), block.get(SECOND..).and_then(parse_one));
    let both = first.is_some() && first == second;
    Some((first.or(second)?, both))
}

/// The snapshot slots and the entries that use them.
pub struct SnapshotStore {
    disk: Arc<dyn Disk>,
    geometry: SnapshotGeometry,
    card: CardId,
    /// Entry ids by slot. An entry that was rejected and offered again may have two slots.
    used: BTreeMap<u32, EntryId>,
}

impl SnapshotStore {
    /// Opens the slots; creates them if there are none or the geometry has changed. Keeps the
    /// snapshots of `live` entries.
    ///
    /// # Errors
    /// If the card reports an error.
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
            let block = snapshots.disk.read(
                FileId::Snapshots,
                u64::from(slot) * geometry.bytes,
                BLOCK as usize,
            )?;
            if let Some((header, _)) =
                parse(&block).filter(|(header, _)| live.contains(&header.entry_id))
            {
                snapshots.used.insert(slot, header.entry_id);
            }
        }
        Ok(snapshots)
    }

    /// Length of its file, bytes.
    pub fn size(&self) -> u64 {
        self.geometry.size()
    }

    /// Stores a snapshot durably. Returns the bytes written.
    ///
    /// # Errors
    /// If it is too large, all slots are in use, or the card reports an error.
    pub fn store(&mut self, entry_id: EntryId, jpeg: &[u8]) -> Result<u64, String> {
        let SnapshotGeometry { slots, bytes } = self.geometry;
        if jpeg.len() as u64 + BLOCK > bytes {
            return Err(format!(
                "a snapshot of {} bytes does not fit a slot of {bytes}",
                jpeg.len()
            ));
        }
        let Some(slot) = (0..slots).find(|slot| !self.used.contains_key(slot)) else {
            return Err(format!("all {slots} snapshot slots are in use"));
        };
        let mut block = header(self.card, entry_id, jpeg);
        block.extend_from_slice(jpeg);
        let at = u64::from(slot) * bytes;
        let written = self
            .disk
            .write(FileId::Snapshots, at, &block)
            .and_then(|()| self.disk.sync(FileId::Snapshots));
        written.map_err(|fault| fault.to_string())?;
        self.used.insert(slot, entry_id);
        Ok(block.len() as u64)
    }

    /// Frees the slots of an entry.
    pub fn free(&mut self, entry_id: EntryId) {
        self.used.retain(|_, used| *used != entry_id);
    }
}

/// Offsets of snapshots of another card in a file of `len` bytes with slots of `step` bytes. Pass
/// [`BLOCK`] if the geometry is unknown.
///
/// # Errors
/// If the card reports an error.
pub fn foreign(disk: &dyn Disk, len: u64, step: u64, card: CardId) -> Result<Vec<u64>, DiskFault> {
    let mut found = Vec::new();
    for at in (0..len).step_by(step as usize) {
        let header = parse(&disk.read(FileId::Snapshots, at, (len - at).min(BLOCK) as usize)?);
        found.extend(header.filter(|(header, _)| header.card != card).map(|_| at));
    }
    Ok(found)
}

/// Offsets of damaged snapshots of `live` entries in a file of `len` bytes of any geometry.
///
/// # Errors
/// If the card reports an error.
pub fn damaged(disk: &dyn Disk, len: u64, live: &[EntryId]) -> Result<Vec<u64>, DiskFault> {
    let mut found = Vec::new();
    for at in (0..len).step_by(BLOCK as usize) {
        let header = parse(&disk.read(FileId::Snapshots, at, (len - at).min(BLOCK) as usize)?);
        let Some((header, both)) = header.filter(|(header, _)| live.contains(&header.entry_id))
        else {
            continue;
        };
        let fits = at + BLOCK + header.len as u64 <= len;
        let whole = both
            && fits
            && crc32c::crc32c(&disk.read(FileId::Snapshots, at + BLOCK, header.len)?) == header.crc;
        found.extend((!whole).then_some(at));
    }
    Ok(found)
}

/// Reads the snapshot of an entry.
///
/// # Errors
/// If it is gone or damaged, or the card reports an error.
pub fn read(
    disk: &dyn Disk,
    geometry: SnapshotGeometry,
    entry_id: EntryId,
) -> Result<Vec<u8>, ReadFault> {
    let io = |fault: DiskFault| ReadFault::Io(fault.to_string());
    let mut fault =
        ReadFault::Gone(format!("{}: snapshot of entry {}", FileId::Snapshots.name(), entry_id.0));
    for slot in 0..geometry.slots {
        let at = u64::from(slot) * geometry.bytes;
        let found = parse(&disk.read(FileId::Snapshots, at, BLOCK as usize).map_err(io)?)
            .map(|(header, _)| header);
        let fits = |header: &Header| {
            header.entry_id == entry_id && header.len as u64 + BLOCK <= geometry.bytes
        };
        let Some(header) = found.filter(fits) else {
            continue;
        };
        let jpeg = disk.read(FileId::Snapshots, at + BLOCK, header.len).map_err(io)?;
        if crc32c::crc32c(&jpeg) == header.crc {
            return Ok(jpeg);
        }
        // Another slot may hold a whole copy.
        fault = ReadFault::Damaged(format!("{} slot {slot}", FileId::Snapshots.name()));
    }
    Err(fault)
}
