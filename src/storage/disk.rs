//! ⇄ The card: the trait storage works through, and the real file system behind it.
//!
//! What belongs here: files of fixed length, reads, writes, flushes, and what the operating system says about them. What does
//! not: what is in the files.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::regular_file::{self, Links, remove_if_there};

/// One of storage's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileId {
    /// A segment of the ring.
    Segment(u32),
    /// The journal.
    Journal,
    /// The snapshots.
    Snapshots,
    /// A file with parts of another card, kept as it was found ([`super::identity`]).
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

    /// The file a name stands for; `None` for strangers.
    pub fn parse(name: &str) -> Option<FileId> {
        match name {
            "journal.taimat" => Some(FileId::Journal),
            "snapshots.taimat" => Some(FileId::Snapshots),
            _ => {
                let number = |begin, end| name.strip_prefix(begin)?.strip_suffix(end)?.parse().ok();
                let segment = number("seg-", ".mp4").map(FileId::Segment);
                segment.or_else(|| number("foreign-", ".taimat").map(FileId::Foreign)).filter(|file| file.name() == name)
            }
        }
    }
}

/// What went wrong with the card.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {what} at byte {offset}: {reason}")]
pub struct DiskFault {
    /// File name.
    pub file: String,
    /// `read`, `write`, `flush`, `create`.
    pub what: &'static str,
    /// Where.
    pub offset: u64,
    /// The operating system's words.
    pub reason: String,
}

/// The segment files among some files, by number, and their lengths.
pub fn segments(files: &BTreeMap<FileId, u64>) -> BTreeMap<u32, u64> {
    let number = |(file, len): (&FileId, &u64)| if let FileId::Segment(number) = file { Some((*number, *len)) } else { None };
    files.iter().filter_map(number).collect()
}

/// Files of fixed length on something that may lose power. All methods may block; a `write` is durable only after the `sync`
/// of its file that follows it.
pub trait Disk: Send + Sync {
    /// Files that are there and their lengths.
    ///
    /// # Errors
    /// When the directory cannot be read.
    fn files(&self) -> Result<BTreeMap<FileId, u64>, DiskFault>;
    /// Makes a file of `len` zero bytes, all written, so that later writes overwrite allocated blocks. Durable when it returns.
    ///
    /// # Errors
    /// When there is no room or the card refuses.
    fn create(&self, file: FileId, len: u64) -> Result<(), DiskFault>;
    /// A number nobody else draws: it names a new ring.
    fn draw(&self) -> u64 {
        let mut bytes = [0; 8];
        // Without randomness rings cannot be reported apart, which only matters after a card was replaced.
        let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes);
        u64::from_be_bytes(bytes)
    }
    /// Takes a file away: one of another size than the ring now uses. Durable when it returns.
    ///
    /// # Errors
    /// When the card refuses.
    fn remove(&self, file: FileId) -> Result<(), DiskFault>;
    /// Reads exactly `len` bytes.
    ///
    /// # Errors
    /// When the card refuses or the file ends before.
    fn read(&self, file: FileId, offset: u64, len: usize) -> Result<Vec<u8>, DiskFault>;
    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// When the card refuses.
    fn write(&self, file: FileId, offset: u64, bytes: &[u8]) -> Result<(), DiskFault>;
    /// Makes everything written to `file` durable (fdatasync).
    ///
    /// # Errors
    /// When the card refuses: nothing written since the last flush can be trusted then.
    fn sync(&self, file: FileId) -> Result<(), DiskFault>;
    /// Forgets what the kernel remembers of a file beside what still has to be written: after a flush that failed it shows what the
    /// card does not hold, to every process, until the power goes.
    fn forget(&self, file: FileId);
    /// Bytes available to us on the file system.
    fn available(&self) -> u64;
    /// Longest flush since this was last asked, microseconds; 0 where nobody measures.
    fn take_slowest_sync(&self) -> u64 {
        0
    }
    /// Percent of its life the device says it has used (eMMC `life_time`, JESD84-B51 7.4.40); `None` where it says nothing.
    fn life_used(&self) -> Option<u8> {
        None
    }
}

/// A directory on a real file system.
pub struct RealDisk {
    dir: PathBuf,
    writable: bool,
    open: Mutex<BTreeMap<FileId, Arc<File>>>,
    /// Longest flush since somebody asked, microseconds.
    slowest: AtomicU64,
    /// Held while the ring is ours; the lock goes with the process, even when killed.
    _lock: Option<File>,
}

/// Why a ring directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirFault {
    /// The directory is missing or unusable.
    #[error("ring directory {0}: {1}")]
    Unusable(PathBuf, String),
    /// It is on the root file system although it should be a mount of its own.
    #[error(
        "ring directory {0} lies on the root file system: is the card mounted? (storage.require_mount = false allows it on purpose)"
    )]
    NotMounted(PathBuf),
    /// Another agent records into it.
    #[error("ring directory {0} is in use by another taimat")]
    InUse(PathBuf),
}

/// Zeros written at a time when a file is made.
const ZEROS: usize = 1 << 20;

impl RealDisk {
    /// Opens `dir` for recording: makes it if its parent exists, and locks it against a second agent.
    ///
    /// # Errors
    /// See [`DirFault`].
    pub fn open(dir: &Path, require_mount: bool) -> Result<RealDisk, DirFault> {
        let unusable = |error: io::Error| DirFault::Unusable(dir.to_owned(), error.to_string());
        if !dir.exists() {
            if require_mount && same_device(dir.parent().unwrap_or(dir), Path::new("/")).map_err(unusable)? {
                return Err(DirFault::NotMounted(dir.to_owned()));
            }
            std::fs::create_dir(dir).map_err(unusable)?;
        }
        if require_mount && same_device(dir, Path::new("/")).map_err(unusable)? {
            return Err(DirFault::NotMounted(dir.to_owned()));
        }
        let lock = regular_file::open(&dir.join("lock"), OpenOptions::new().create(true).write(true), Links::Refuse)
            .map_err(|error| DirFault::Unusable(dir.to_owned(), format!("lock: {error}")))?;
        match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(RealDisk {
                dir: dir.to_owned(),
                writable: true,
                open: Mutex::default(),
                slowest: AtomicU64::new(0),
                _lock: Some(lock),
            }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(DirFault::InUse(dir.to_owned())),
            Err(error) => Err(unusable(error.into())),
        }
    }

    /// Opens `dir` for looking only; works beside a recording agent.
    ///
    /// # Errors
    /// When it is not a directory.
    pub fn open_read_only(dir: &Path) -> Result<RealDisk, DirFault> {
        if !dir.is_dir() {
            return Err(DirFault::Unusable(dir.to_owned(), "no such directory".into()));
        }
        Ok(RealDisk { dir: dir.to_owned(), writable: false, open: Mutex::default(), slowest: AtomicU64::new(0), _lock: None })
    }

    fn file(&self, file: FileId) -> io::Result<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = open.get(&file) {
            return Ok(handle.clone());
        }
        let path = self.dir.join(file.name());
        // Whoever reads a stranger's card is neither held up nor led away from it.
        let handle = regular_file::open(&path, OpenOptions::new().read(true).write(self.writable), Links::Refuse)?;
        let handle = Arc::new(handle);
        if self.writable {
            // A start reads one block of each of thousands of files: what the kernel would read ahead is thirty times as much.
            let _ = rustix::fs::fadvise(&*handle, 0, None, rustix::fs::Advice::Random);
        }
        // One file of the ring is written and a few are read at a time: handles of long ago only take memory.
        if open.len() >= 64 {
            open.clear();
        }
        open.insert(file, handle.clone());
        Ok(handle)
    }

    fn fault(&self, file: FileId, what: &'static str, offset: u64) -> impl FnOnce(io::Error) -> DiskFault {
        let file = self.dir.join(file.name()).display().to_string();
        move |error| DiskFault { file, what, offset, reason: error.to_string() }
    }

    /// Half a file would look like a whole one of another size at the next start: it gets its name when it is whole.
    fn make(&self, half: &Path, path: &Path, len: u64) -> io::Result<()> {
        // Whatever a cut left of it, or a link that leads elsewhere.
        remove_if_there(half)?;
        let file = OpenOptions::new().write(true).create_new(true).open(half)?;
        let zeros = vec![0; ZEROS];
        let mut at = 0;
        while at < len {
            let n = (len - at).min(ZEROS as u64);
            file.write_all_at(&zeros[..n as usize], at)?;
            at += n;
        }
        file.sync_all()?;
        std::fs::rename(half, path)?;
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
        };
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(&self.dir).map_err(fault)? {
            let entry = entry.map_err(fault)?;
            if let Some(file) = entry.file_name().to_str().and_then(FileId::parse) {
                let found = entry.metadata().map_err(fault)?;
                // What is no file holds nothing of ours; reading it says what it is.
                files.insert(file, if found.is_file() { found.len() } else { 0 });
            }
        }
        Ok(files)
    }

    fn create(&self, file: FileId, len: u64) -> Result<(), DiskFault> {
        let (path, half) = (self.dir.join(file.name()), self.dir.join(file.name() + ".new"));
        // A file of another size may have had this name.
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&file);
        self.make(&half, &path, len).map_err(|error| {
            let _ = std::fs::remove_file(&half);
            self.fault(file, "create", 0)(error)
        })
    }

    fn remove(&self, file: FileId) -> Result<(), DiskFault> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&file);
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
            // Bytes in a file without a name are gone with the power: a directory that was removed under us must not be called durable.
            match handle.metadata()?.nlink() {
                0 => Err(io::Error::new(io::ErrorKind::NotFound, "the file has no name any more: was the directory removed?")),
                _ => Ok(()),
            }
        });
        self.slowest.fetch_max(started.elapsed().as_micros() as u64, Ordering::Relaxed);
        synced.map_err(self.fault(file, "flush", 0))
    }

    fn forget(&self, file: FileId) {
        // A kernel that keeps it all the same leaves things as they were.
        let _ = self.file(file).map(|handle| rustix::fs::fadvise(&*handle, 0, None, rustix::fs::Advice::DontNeed));
    }

    fn available(&self) -> u64 {
        rustix::fs::statvfs(&self.dir).map_or(0, |stat| stat.f_bavail * stat.f_frsize)
    }

    fn take_slowest_sync(&self) -> u64 {
        self.slowest.swap(0, Ordering::Relaxed)
    }

    fn life_used(&self) -> Option<u8> {
        let device = std::fs::metadata(&self.dir).ok()?.dev();
        let name = format!("/sys/dev/block/{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
        // A partition's directory lies inside its disk's.
        let here = std::fs::canonicalize(name).ok()?;
        let text =
            [here.as_path(), here.parent()?].iter().find_map(|dir| std::fs::read_to_string(dir.join("device/life_time")).ok());
        life_percent(&text?)
    }
}

/// Two hexadecimal numbers of tenths begun, one for each kind of memory in the device; 0x0b means beyond its life.
fn life_percent(text: &str) -> Option<u8> {
    let tenths = text.split_whitespace().filter_map(|word| u8::from_str_radix(word.trim_start_matches("0x"), 16).ok());
    tenths.filter(|tenths| (1..=11).contains(tenths)).max().map(|tenths| tenths * 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::regular_file::tests::{at_once, no_files};

    #[test]
    fn a_file_name_stands_for_one_file_only() {
        for file in [FileId::Segment(0), FileId::Segment(123_456), FileId::Journal, FileId::Snapshots, FileId::Foreign(3)] {
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
            let made =
                std::process::Command::new("cp").arg("-a").arg(others.path().join(kind)).arg(dir.path().join("lock")).status();
            assert!(made.unwrap().success());
            let ring = dir.path().to_owned();
            let refused = at_once(move || RealDisk::open(&ring, false).map(|_| ())).unwrap_err().to_string();
            assert!(refused.contains("lock") && refused.contains("not a file"), "{kind}: {refused}");
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
    fn a_pipe_with_the_name_of_a_segment_is_an_error_not_a_wait() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seg-00001.mp4");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let (answer, answered) = std::sync::mpsc::channel();
        let dir = dir.path().to_owned();
        std::thread::spawn(move || answer.send(RealDisk::open_read_only(&dir).unwrap().read(FileId::Segment(1), 0, 8).is_err()));
        assert_eq!(answered.recv_timeout(std::time::Duration::from_secs(10)), Ok(true));
    }

    #[test]
    fn the_life_an_emmc_reports_is_the_worse_of_its_two_kinds() {
        assert_eq!(life_percent("0x01 0x03\n"), Some(30));
        assert_eq!(life_percent("0x00 0x00\n"), None, "not defined");
        assert_eq!(life_percent("0x0b 0x01"), Some(110));
    }

    #[test]
    fn a_file_gets_its_name_when_it_is_whole() {
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
        assert_eq!(watch.join().unwrap(), Some(64 << 20), "half a file under the name of a whole one");
        disk.write(FileId::Journal, 0, b"old").unwrap();
        disk.create(FileId::Journal, 8192).unwrap();
        assert_eq!(disk.read(FileId::Journal, 0, 3).unwrap(), [0; 3], "the file before, which had another size");
        assert_eq!(std::fs::read_dir(dir.path().join("ring")).unwrap().count(), 2, "the lock and the journal");
    }

    #[test]
    fn a_file_whose_directory_was_removed_is_not_called_durable() {
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
    fn a_second_agent_is_kept_out_and_a_looker_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let ring = dir.path().join("ring");
        let first = RealDisk::open(&ring, false).unwrap();
        assert!(matches!(RealDisk::open(&ring, false), Err(DirFault::InUse(_))));
        assert!(RealDisk::open_read_only(&ring).is_ok());
        drop(first);
        assert!(RealDisk::open(&ring, false).is_ok());
    }

    #[test]
    fn a_missing_mount_is_refused_by_name() {
        let error = RealDisk::open(Path::new("/taimat-test-not-mounted"), true).err().unwrap();
        assert!(error.to_string().contains("/taimat-test-not-mounted") && error.to_string().contains("mounted"), "{error}");
    }
}
