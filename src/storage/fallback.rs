//! Fallback disk: a card with files in memory that replace rejected ones.
//!
//! When the card rejects writes (remounted read-only, worn out, removed), recording continues in a
//! ring in memory, so that events can still be viewed and sent. The card stays readable.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::{Disk, DiskFault, FileChange, FileId};

/// First number of segment files in memory; larger than any number on a card.
pub const MEMORY_FIRST: u32 = 1 << 31;
/// Most bytes of the ring in memory: one minute at 8 Mbit/s, and acceptable on a board with 512 MB.
pub const MEMORY_MAX: u64 = 64 << 20;

/// True for a segment file in memory.
pub fn is_in_memory(segment: u32) -> bool {
    segment >= MEMORY_FIRST
}

/// A disk that can move single files from the card to memory.
pub struct FallbackDisk {
    disk: Arc<dyn Disk>,
    /// The files in memory.
    memory: Mutex<BTreeMap<FileId, Vec<u8>>>,
}

impl FallbackDisk {
    /// Returns a disk with all files on the card.
    pub fn new(disk: Arc<dyn Disk>) -> FallbackDisk {
        FallbackDisk { disk, memory: Mutex::default() }
    }

    fn memory(&self) -> MutexGuard<'_, BTreeMap<FileId, Vec<u8>>> {
        // Every change is one insert or one copy into a vector, so a panic elsewhere leaves the map
        // valid.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves a file of `len` bytes to memory, with its content on the card if readable, else zeros.
    pub fn hold_in_memory(&self, file: FileId, len: u64) {
        let bytes = self.disk.read(file, 0, len as usize).unwrap_or_else(|_| vec![0; len as usize]);
        self.memory().insert(file, bytes);
    }

    /// True when this file is in memory.
    pub fn holds(&self, file: FileId) -> bool {
        self.memory().contains_key(&file)
    }
}

fn fault(file: FileId, what: &'static str, offset: u64, reason: &str) -> DiskFault {
    DiskFault { file: file.name(), what, offset, reason: reason.into(), gone: false }
}

impl Disk for FallbackDisk {
    fn files(&self) -> Result<BTreeMap<FileId, u64>, DiskFault> {
        let mut files = self.disk.files()?;
        files.extend(self.memory().iter().map(|(file, bytes)| (*file, bytes.len() as u64)));
        Ok(files)
    }

    fn create(&self, file: FileId, len: u64) -> Result<(), DiskFault> {
        match file {
            FileId::Segment(number) if is_in_memory(number) => {
                drop(self.memory().insert(file, vec![0; len as usize]))
            }
            _ => return self.disk.create(file, len),
        }
        Ok(())
    }

    fn remove(&self, file: FileId) -> Result<(), DiskFault> {
        match self.memory().remove(&file) {
            Some(_) => Ok(()),
            None => self.disk.remove(file),
        }
    }

    fn read(&self, file: FileId, offset: u64, len: usize) -> Result<Vec<u8>, DiskFault> {
        if let Some(bytes) = self.memory().get(&file) {
            let part = bytes.get(offset as usize..offset as usize + len);
            return part
                .map(<[u8]>::to_vec)
                .ok_or_else(|| fault(file, "read", offset, "past the end of a file in memory"));
        }
        self.disk.read(file, offset, len)
    }

    fn write(&self, file: FileId, offset: u64, bytes: &[u8]) -> Result<(), DiskFault> {
        let mut memory = self.memory();
        let Some(whole) = memory.get_mut(&file) else {
            drop(memory);
            return self.disk.write(file, offset, bytes);
        };
        let target = whole.get_mut(offset as usize..offset as usize + bytes.len());
        target
            .ok_or_else(|| fault(file, "write", offset, "past the end of a file in memory"))?
            .copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&self, file: FileId) -> Result<(), DiskFault> {
        if self.holds(file) { Ok(()) } else { self.disk.sync(file) }
    }

    fn lost_dir(&self) -> Option<String> {
        self.disk.lost_dir()
    }

    fn take_change(&self, file: FileId) -> Option<FileChange> {
        if self.holds(file) { None } else { self.disk.take_change(file) }
    }

    fn forget(&self, file: FileId) {
        self.disk.forget(file);
    }

    fn draw(&self) -> u64 {
        self.disk.draw()
    }

    fn available(&self) -> u64 {
        self.disk.available()
    }

    fn take_slowest_sync(&self) -> u64 {
        self.disk.take_slowest_sync()
    }

    fn life_used(&self) -> Option<u8> {
        self.disk.life_used()
    }
}
