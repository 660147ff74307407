//! Disk access: a trait for files of fixed length, and its implementation on a real file system.
#![expect(
    clippy::disallowed_methods,
    reason = "shell: reads a clock, reads or writes files, draws random numbers"
)]

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::regular_file::{self, Links, remove_if_there};

/// A file of the ring directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileId {
    /// A segment of the ring.
    Segment(u32),
    /// The journal.
    Journal,
    /// The snapshot slots.
    Snapshots,
    /// A copied file with parts of another card ([`super::identity`]).
    Foreign(u32),
}

impl FileId {
    /// Its file name.
    pub fn name(self) -> String {
        match self {
            FileId::Segment(index) => format!("seg-{index:05}.mp4"),
            FileId::Journal => "journal.taimat".into(),
            FileId::Snapshots => "snapshots.taimat".into(),
            FileId::Foreign(index) => format!("foreign-{index:05}.taimat"),
        }
    }

    /// Parses a file name; `None` for a file that is not ours.
    pub fn parse(name: &str) -> Option<FileId> {
        match name {
            "journal.taimat" => Some(FileId::Journal),
            "snapshots.taimat" => Some(FileId::Snapshots),
            _ => {
                let number = |begin, end| name.strip_prefix(begin)?.strip_suffix(end)?.parse().ok();
                let segment = number("seg-", ".mp4").map(FileId::Segment);
                segment
                    .or_else(|| number("foreign-", ".taimat").map(FileId::Foreign))
                    .filter(|file| file.name() == name)
            }
        }
    }
}

/// An I/O error of the card.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {what} at byte {offset}: {reason}")]
pub struct DiskFault {
    /// File name.
    pub file: String,
    /// Operation: `read`, `write`, `flush`, `create`, `remove` or `copy`.
    pub what: &'static str,
    /// Byte offset in the file.
    pub offset: u64,
    /// The error text of the operating system.
    pub reason: String,
    /// True when the file has no name in the directory: what it held is lost.
    pub gone: bool,
}

/// A file that changed under the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// What became of it, to be read behind its name.
    pub what: String,
    /// True when another file, or none, has its name.
    pub is_other: bool,
}

/// Device, inode and length of a file.
type FileMark = (u64, u64, u64);

fn mark_of(found: &std::fs::Metadata) -> FileMark {
    (found.dev(), found.ino(), found.len())
}

/// The segment files among `files`: number and length.
pub fn segments(files: &BTreeMap<FileId, u64>) -> BTreeMap<u32, u64> {
    let number = |(file, len): (&FileId, &u64)| {
        if let FileId::Segment(number) = file { Some((*number, *len)) } else { None }
    };
    files.iter().filter_map(number).collect()
}

/// Files of fixed length on a device that may lose power. All methods may block. A `write` is
/// durable only after the next `sync` of its file.
pub trait Disk: Send + Sync {
    /// Existing files and their lengths.
    ///
    /// # Errors
    /// If the directory cannot be read.
    fn files(&self) -> Result<BTreeMap<FileId, u64>, DiskFault>;
    /// Creates a durable file of `len` zero bytes, so that later writes overwrite allocated blocks.
    ///
    /// # Errors
    /// If there is no room or the card reports an error.
    fn create(&self, file: FileId, len: u64) -> Result<(), DiskFault>;
    /// Draws a random number; it identifies a ring or a card.
    fn draw(&self) -> u64 {
        let mut bytes = [0; 8];
        // Without randomness two rings may share an id, which matters only after a card was
        // replaced.
        let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes);
        u64::from_be_bytes(bytes)
    }
    /// Deletes a file durably.
    ///
    /// # Errors
    /// If the card reports an error.
    fn remove(&self, file: FileId) -> Result<(), DiskFault>;
    /// Reads exactly `len` bytes.
    ///
    /// # Errors
    /// If the card reports an error or the file is shorter.
    fn read(&self, file: FileId, offset: u64, len: usize) -> Result<Vec<u8>, DiskFault>;
    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// If the card reports an error.
    fn write(&self, file: FileId, offset: u64, bytes: &[u8]) -> Result<(), DiskFault>;
    /// Makes everything written to `file` durable (fdatasync).
    ///
    /// # Errors
    /// If the card reports an error; everything written since the last flush is unknown then.
    fn sync(&self, file: FileId) -> Result<(), DiskFault>;
    /// Drops the clean pages of a file from the page cache. After a failed flush the kernel shows
    /// every process content that the card does not hold.
    fn forget(&self, file: FileId);
    /// Free bytes of the file system available to this process.
    fn available(&self) -> u64;
    /// Why new files would no longer be in the directory that was opened; `None` while it is there.
    fn lost_dir(&self) -> Option<String> {
        None
    }
    /// What became of a file that is no longer the one that was opened or made under its name. Told once
    /// for each change; `None` while it is the same, or not known.
    fn take_change(&self, _file: FileId) -> Option<FileChange> {
        None
    }
    /// Waits until an agent that writes beside this reader has probably finished the write it is in.
    fn let_writer_finish(&self) {}
    /// Longest flush since the last call, microseconds; 0 if not measured.
    fn take_slowest_sync(&self) -> u64 {
        0
    }
    /// Percent of its life that the device reports as used (eMMC `life_time`, JESD84-B51 7.4.40);
    /// `None` if it reports nothing.
    fn life_used(&self) -> Option<u8> {
        None
    }
}

/// A directory on a real file system.
pub struct RealDisk {
    dir: PathBuf,
    writable: bool,
    open: Mutex<BTreeMap<FileId, Arc<File>>>,
    /// The files that this agent found or made.
    known: Mutex<BTreeMap<FileId, FileMark>>,
    /// Longest flush since the last report, microseconds.
    slowest: AtomicU64,
    /// Lock against a second agent. The kernel releases it when the process ends, even when killed.
    _lock: Option<File>,
}

/// Reason why a ring directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirFault {
    /// The directory is missing or unusable.
    #[error("ring directory {0}: {1}")]
    Unusable(PathBuf, String),
    /// The directory is on the root file system, although a separate mount is required.
    #[error(
        "ring directory {0} lies on the root file system: mount the card, \
         or set storage.require_mount = false"
    )]
    NotMounted(PathBuf),
    /// Another agent records into the directory.
    #[error("ring directory {0} is in use by another taimat agent: stop that one first")]
    InUse(PathBuf),
}

/// A write of the agent and its flush take this long at most, on a card that is not about to fail.
const WRITER_PAUSE: std::time::Duration = std::time::Duration::from_millis(250);
/// Zeros written at a time when a file is created, bytes.
const ZEROS: usize = 1 << 20;

impl RealDisk {
    /// Opens `dir` for recording: creates it if its parent exists, and locks it against a second
    /// agent.
    ///
    /// # Errors
    /// See [`DirFault`].
    pub fn open(dir: &Path, require_mount: bool) -> Result<RealDisk, DirFault> {
        let unusable = |error: io::Error| DirFault::Unusable(dir.to_owned(), error.to_string());
        RealDisk::check_dir(dir, require_mount)?;
        if !dir.exists() {
            std::fs::create_dir(dir).map_err(unusable)?;
        }
        let lock = regular_file::open(
            &dir.join("lock"),
            OpenOptions::new().create(true).write(true),
            Links::Refuse,
        )
        .map_err(|error| DirFault::Unusable(dir.to_owned(), format!("lock: {error}")))?;
        match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(RealDisk {
                dir: dir.to_owned(),
                writable: true,
                open: Mutex::default(),
                known: Mutex::default(),
                slowest: AtomicU64::new(0),
                _lock: Some(lock),
            }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(DirFault::InUse(dir.to_owned())),
            Err(error) => Err(unusable(error.into())),
        }
    }

    /// Why the lock of `dir` keeps an agent from recording there; `None` if it does not. Looks only.
    pub fn lock_fault(dir: &Path) -> Option<String> {
        let found = std::fs::symlink_metadata(dir.join("lock")).ok()?;
        (!found.is_file()).then(|| {
            "not a file: no agent can record here; remove it, an agent makes its own".to_owned()
        })
    }

    /// Whether `dir` can be opened for recording, as far as can be seen without making anything.
    ///
    /// # Errors
    /// See [`DirFault`].
    pub fn check_dir(dir: &Path, require_mount: bool) -> Result<(), DirFault> {
        let unusable = |reason: String| DirFault::Unusable(dir.to_owned(), reason);
        if dir.exists() && !dir.is_dir() {
            return Err(unusable("is no directory".into()));
        }
        if dir.is_symlink() && !dir.exists() {
            return Err(unusable("is a link that leads nowhere".into()));
        }
        // A relative name of one part has an empty parent.
        let parent =
            dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let there = if dir.exists() { dir } else { parent };
        if !there.is_dir() {
            return Err(unusable(format!(
                "cannot be made: {} is no directory: make it, or mount the card",
                there.display()
            )));
        }
        match require_mount
            && same_device(there, Path::new("/")).map_err(|error| unusable(error.to_string()))?
        {
            true => Err(DirFault::NotMounted(dir.to_owned())),
            false => Ok(()),
        }
    }

    /// Opens `dir` read-only; works beside a recording agent.
    ///
    /// # Errors
    /// If `dir` is not a directory.
    pub fn open_read_only(dir: &Path) -> Result<RealDisk, DirFault> {
        if !dir.is_dir() {
            return Err(DirFault::Unusable(dir.to_owned(), "no such directory".into()));
        }
        Ok(RealDisk {
            dir: dir.to_owned(),
            writable: false,
            open: Mutex::default(),
            known: Mutex::default(),
            slowest: AtomicU64::new(0),
            _lock: None,
        })
    }

    fn file(&self, file: FileId) -> io::Result<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = open.get(&file) {
            return Ok(handle.clone());
        }
        let path = self.dir.join(file.name());
        // A foreign card must neither block the reader nor lead it to other files.
        let handle = regular_file::open(
            &path,
            OpenOptions::new().read(true).write(self.writable),
            Links::Refuse,
        )?;
        let handle = Arc::new(handle);
        if self.writable {
            // Opening a ring reads one block of each of thousands of files. Read-ahead would read
            // 30 times as much.
            let _ = rustix::fs::fadvise(&*handle, 0, None, rustix::fs::Advice::Random);
        }
        // One file is written and few are read at a time; older handles only use memory.
        if open.len() >= 64 {
            open.clear();
        }
        open.insert(file, handle.clone());
        Ok(handle)
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<FileId, FileMark>> {
        // Every change is one insert or removal, so a panic elsewhere leaves the map valid.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(
        &self,
        file: FileId,
        what: &'static str,
        offset: u64,
    ) -> impl FnOnce(io::Error) -> DiskFault {
        let file = self.dir.join(file.name()).display().to_string();
        move |error| {
            let gone = error.kind() == io::ErrorKind::NotFound;
            DiskFault { file, what, offset, reason: error.to_string(), gone }
        }
    }

    /// Creates a file under a temporary name and renames it when complete. A partial file would be
    /// taken for a file of another size.
    fn make(&self, partial: &Path, path: &Path, len: u64) -> io::Result<()> {
        // Every other kind of file gives way to the rename.
        if std::fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
            let reason = "is a directory, not a file: move it away, then start again";
            return Err(io::Error::new(io::ErrorKind::IsADirectory, reason));
        }
        // A power cut may have left one, or it may be a link that leads elsewhere.
        remove_if_there(partial)?;
        let file = OpenOptions::new().write(true).create_new(true).open(partial)?;
        let zeros = vec![0; ZEROS];
        let mut at = 0;
        while at < len {
            let n = (len - at).min(ZEROS as u64);
            file.write_all_at(&zeros[..n as usize], at)?;
            at += n;
        }
        file.sync_all()?;
        std::fs::rename(partial, path)?;
        File::open(&self.dir)?.sync_all()
    }
}

fn same_device(one: &Path, other: &Path) -> io::Result<bool> {
    Ok(std::fs::metadata(one)?.dev() == std::fs::metadata(other)?.dev())
}

impl Disk for RealDisk {
    fn files(&self) -> Result<BTreeMap<FileId, u64>, DiskFault> {
        let fault = |error: io::Error| DiskFault {
            file: self.dir.display().to_string(),
            what: "read",
            offset: 0,
            reason: error.to_string(),
            gone: false,
        };
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(&self.dir).map_err(fault)? {
            let entry = entry.map_err(fault)?;
            if let Some(file) = entry.file_name().to_str().and_then(FileId::parse) {
                let found = entry.metadata().map_err(fault)?;
                // What is no file holds nothing of ours; reading it says what it is.
                files.insert(file, if found.is_file() { found.len() } else { 0 });
                self.known().entry(file).or_insert_with(|| mark_of(&found));
            }
        }
        Ok(files)
    }

    fn create(&self, file: FileId, len: u64) -> Result<(), DiskFault> {
        let path = self.dir.join(file.name());
        let partial = self.dir.join(file.name() + ".new");
        // A file of another size may have had this name.
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&file);
        self.known().remove(&file);
        self.make(&partial, &path, len).map_err(|error| {
            let _ = std::fs::remove_file(&partial);
            self.fault(file, "create", 0)(error)
        })?;
        if let Ok(found) = std::fs::symlink_metadata(&path) {
            self.known().insert(file, mark_of(&found));
        }
        Ok(())
    }

    fn remove(&self, file: FileId) -> Result<(), DiskFault> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&file);
        self.known().remove(&file);
        let removed = std::fs::remove_file(self.dir.join(file.name()));
        let synced = removed.and_then(|()| File::open(&self.dir)?.sync_all());
        synced.map_err(self.fault(file, "remove", 0))
    }

    fn read(&self, file: FileId, offset: u64, len: usize) -> Result<Vec<u8>, DiskFault> {
        let mut bytes = vec![0; len];
        let read = self.file(file).and_then(|handle| handle.read_exact_at(&mut bytes, offset));
        read.map(|()| bytes).map_err(self.fault(file, "read", offset))
    }

    fn write(&self, file: FileId, offset: u64, bytes: &[u8]) -> Result<(), DiskFault> {
        let written = self.file(file).and_then(|handle| handle.write_all_at(bytes, offset));
        written.map_err(self.fault(file, "write", offset))
    }

    fn sync(&self, file: FileId) -> Result<(), DiskFault> {
        let started = Instant::now();
        let synced = self.file(file).and_then(|handle| {
            handle.sync_data()?;
            // Bytes in an unlinked file do not survive a power cut, so a removed directory must not
            // count as durable.
            if handle.metadata()?.nlink() == 0 {
                let reason = "the file was unlinked: was the ring directory removed?";
                return Err(io::Error::new(io::ErrorKind::NotFound, reason));
            }
            Ok(())
        });
        self.slowest.fetch_max(started.elapsed().as_micros() as u64, Ordering::Relaxed);
        synced.map_err(self.fault(file, "flush", 0))
    }

    fn forget(&self, file: FileId) {
        // Best effort: if the kernel keeps the pages, nothing changes.
        let _ = self
            .file(file)
            .map(|handle| rustix::fs::fadvise(&*handle, 0, None, rustix::fs::Advice::DontNeed));
    }

    fn lost_dir(&self) -> Option<String> {
        let opened = self._lock.as_ref()?.metadata().ok()?;
        let there = std::fs::symlink_metadata(self.dir.join("lock"));
        let is_same = there
            .as_ref()
            .is_ok_and(|found| (found.dev(), found.ino()) == (opened.dev(), opened.ino()));
        let what = if there.is_ok() { "replaced" } else { "removed, moved or unmounted" };
        (!is_same).then(|| {
            let dir = self.dir.display();
            format!("ring directory {dir} was {what}: put it back, then restart taimat")
        })
    }

    fn take_change(&self, file: FileId) -> Option<FileChange> {
        let mut known = self.known();
        let mark = known.get_mut(&file)?;
        let found = match std::fs::symlink_metadata(self.dir.join(file.name())) {
            Ok(found) if mark_of(&found) == *mark => return None,
            Ok(found) => Some(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            // An I/O error says nothing about the file.
            Err(_) => return None,
        };
        let len = mark.2;
        let (what, is_other) = match found {
            Some(found) if found.is_file() && (found.dev(), found.ino()) == (mark.0, mark.1) => {
                *mark = mark_of(&found);
                (format!("has {} bytes instead of {len}", found.len()), false)
            }
            Some(found) if found.is_file() => ("was replaced by another file".to_owned(), true),
            Some(_) => ("was replaced by what is no file".to_owned(), true),
            None => ("was removed or renamed".to_owned(), true),
        };
        if is_other {
            known.remove(&file);
            self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&file);
        }
        Some(FileChange { what, is_other })
    }

    fn let_writer_finish(&self) {
        // Who may write has the lock: there is no other writer.
        if !self.writable {
            std::thread::sleep(WRITER_PAUSE);
        }
    }

    fn available(&self) -> u64 {
        rustix::fs::statvfs(&self.dir).map_or(0, |stat| stat.f_bavail * stat.f_frsize)
    }

    fn take_slowest_sync(&self) -> u64 {
        self.slowest.swap(0, Ordering::Relaxed)
    }

    fn life_used(&self) -> Option<u8> {
        let device = std::fs::metadata(&self.dir).ok()?.dev();
        let name =
            format!("/sys/dev/block/{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
        // The directory of a partition lies inside that of its disk.
        let here = std::fs::canonicalize(name).ok()?;
        let text = [here.as_path(), here.parent()?]
            .iter()
            .find_map(|dir| std::fs::read_to_string(dir.join("device/life_time")).ok());
        life_percent(&text?)
    }
}

/// Parses `life_time`: two hexadecimal numbers, one for each kind of memory, that count started
/// tenths of its life. 0x0b means beyond its life (JESD84-B51 7.4.40).
fn life_percent(text: &str) -> Option<u8> {
    let tenths = text
        .split_whitespace()
        .filter_map(|word| u8::from_str_radix(word.trim_start_matches("0x"), 16).ok());
    tenths.filter(|tenths| (1..=11).contains(tenths)).max().map(|tenths| tenths * 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::regular_file::tests::{at_once, no_files};

    #[test]
    fn a_file_name_parses_to_one_file_only() {
        for file in [
            FileId::Segment(0),
            FileId::Segment(123_456),
            FileId::Journal,
            FileId::Snapshots,
            FileId::Foreign(3),
        ] {
            assert_eq!(FileId::parse(&file.name()), Some(file));
        }
        assert_eq!(FileId::parse("seg-1.mp4"), None);
        assert_eq!(FileId::parse("seg-00001.mp4~"), None);
    }

    #[test]
    fn a_lock_that_is_no_file_is_named_and_nothing_is_made_outside() {
        for kind in ["pipe", "to-pipe", "dangling", "socket", "directory"] {
            let (dir, others) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            no_files(others.path());
            let made = std::process::Command::new("cp")
                .arg("-a")
                .arg(others.path().join(kind))
                .arg(dir.path().join("lock"))
                .status();
            assert!(made.unwrap().success());
            let ring = dir.path().to_owned();
            let refused =
                at_once(move || RealDisk::open(&ring, false).map(|_| ())).unwrap_err().to_string();
            assert!(
                refused.contains("lock") && refused.contains("not a file"),
                "{kind}: {refused}"
            );
            assert!(!dir.path().join("nowhere").exists(), "made outside of the ring");
        }
    }

    #[test]
    fn a_link_in_the_place_of_a_file_is_not_followed() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let target = outside.path().join("evidence");
        std::fs::write(&target, [7; 64]).unwrap();
        for name in ["seg-00000.mp4", "journal.taimat", "seg-00001.mp4.new"] {
            std::os::unix::fs::symlink(&target, dir.path().join(name)).unwrap();
        }
        let disk = RealDisk::open(dir.path(), false).unwrap();
        assert!(disk.read(FileId::Segment(0), 0, 8).is_err());
        assert!(disk.write(FileId::Journal, 0, &[1; 8]).is_err());
        disk.create(FileId::Segment(1), 4096).unwrap();
        disk.create(FileId::Journal, 4096).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), [7; 64]);
        assert_eq!(disk.read(FileId::Journal, 0, 8).unwrap(), [0; 8]);
    }

    #[test]
    fn a_directory_in_place_of_the_journal_is_named_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("journal.taimat")).unwrap();
        let disk = RealDisk::open(dir.path(), false).unwrap();
        let fault = disk.create(FileId::Journal, 4096).unwrap_err().to_string();
        assert!(fault.contains("journal.taimat") && fault.contains("move it away"), "{fault}");
    }

    #[test]
    fn a_named_pipe_in_place_of_a_segment_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seg-00001.mp4");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let (answer, answered) = std::sync::mpsc::channel();
        let dir = dir.path().to_owned();
        std::thread::spawn(move || {
            answer.send(
                RealDisk::open_read_only(&dir).unwrap().read(FileId::Segment(1), 0, 8).is_err(),
            )
        });
        assert_eq!(answered.recv_timeout(std::time::Duration::from_secs(10)), Ok(true));
    }

    #[test]
    fn emmc_life_is_the_worse_of_its_two_memory_types() {
        assert_eq!(life_percent("0x01 0x03\n"), Some(30));
        assert_eq!(life_percent("0x00 0x00\n"), None, "not defined");
        assert_eq!(life_percent("0x0b 0x01"), Some(110));
    }

    #[test]
    fn a_created_file_appears_only_when_complete() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(&dir.path().join("ring"), false).unwrap();
        let path = dir.path().join("ring/journal.taimat");
        let watch = std::thread::spawn(move || {
            (0..10_000).find_map(|_| {
                std::thread::sleep(std::time::Duration::from_millis(1));
                std::fs::metadata(&path).ok().map(|meta| meta.len())
            })
        });
        disk.create(FileId::Journal, 64 << 20).unwrap();
        assert_eq!(watch.join().unwrap(), Some(64 << 20), "a partial file under the final name");
        disk.write(FileId::Journal, 0, b"old").unwrap();
        disk.create(FileId::Journal, 8192).unwrap();
        assert_eq!(
            disk.read(FileId::Journal, 0, 3).unwrap(),
            [0; 3],
            "the content of the previous file of that name"
        );
        assert_eq!(
            std::fs::read_dir(dir.path().join("ring")).unwrap().count(),
            2,
            "the lock and the journal"
        );
    }

    #[test]
    fn sync_fails_after_the_directory_was_removed() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(&dir.path().join("ring"), false).unwrap();
        disk.create(FileId::Segment(0), 8192).unwrap();
        disk.write(FileId::Segment(0), 0, b"footage").unwrap();
        disk.sync(FileId::Segment(0)).unwrap();
        std::fs::remove_dir_all(dir.path().join("ring")).unwrap();
        disk.write(FileId::Segment(0), 0, b"more of it").unwrap();
        assert!(disk.sync(FileId::Segment(0)).unwrap_err().reason.contains("directory removed"));
    }

    #[test]
    fn a_second_agent_is_rejected_and_a_reader_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let ring = dir.path().join("ring");
        let first = RealDisk::open(&ring, false).unwrap();
        assert!(matches!(RealDisk::open(&ring, false), Err(DirFault::InUse(_))));
        assert!(RealDisk::open_read_only(&ring).is_ok());
        drop(first);
        assert!(RealDisk::open(&ring, false).is_ok());
    }

    #[test]
    fn a_missing_mount_is_named_in_the_error() {
        let error = RealDisk::open(Path::new("/taimat-test-not-mounted"), true).err().unwrap();
        assert!(
            error.to_string().contains("/taimat-test-not-mounted")
                && error.to_string().contains("mounted"),
            "{error}"
        );
    }
}
