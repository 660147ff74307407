//! The file store in a directory.
//!
//! Each operation of the store is a few single steps of [`FileOps`]; a simulated file system can fail
//! each step, or cut the power before it.
#![expect(clippy::disallowed_methods, reason = "shell: reads or writes files")]

use std::collections::{BTreeSet, HashMap};
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::file_key::{FINISHED, UNFINISHED};
use super::file_store::FileStore;
use crate::office::error::{ArchiveError, Named as _};
use crate::regular_file::{Links, open as open_file};

/// Open files at most: a service has 1,024 descriptors, and devices decide how many files they
/// start.
const OPEN_MAX: usize = 64;

/// The file store in a directory.
pub struct DirectoryStore {
    dir: PathBuf,
    ops: Arc<dyn FileOps>,
}

impl DirectoryStore {
    /// A store in the directory `dir`.
    pub fn open(dir: &Path) -> DirectoryStore {
        DirectoryStore::over(dir, Arc::new(Disk::new(dir)))
    }

    /// A store that only reads, beside the store of the office.
    pub fn read_only(dir: &Path) -> DirectoryStore {
        DirectoryStore::over(dir, Arc::new(Disk { is_read_only: true, ..Disk::new(dir) }))
    }

    /// A store over any file system; `dir` only names it.
    pub fn over(dir: &Path, ops: Arc<dyn FileOps>) -> DirectoryStore {
        DirectoryStore { dir: dir.to_owned(), ops }
    }
}

/// The directory of a key; empty at the top.
fn dir_of(key: &str) -> &str {
    key.rsplit_once('/').map_or("", |(dir, _)| dir)
}

impl FileStore for DirectoryStore {
    fn prepare(&self) -> Result<(), ArchiveError> {
        for dir in [FINISHED, UNFINISHED] {
            self.ops.make_dir(dir).named(|| self.location(dir).display().to_string())?;
        }
        self.ops.flush_dir("").named(|| self.dir.display().to_string())
    }

    fn location(&self, key: &str) -> PathBuf {
        self.dir.join(key)
    }

    fn write(&self, key: &str, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.ops.write_at(key, at, bytes)
    }

    fn flush(&self, key: &str) -> io::Result<()> {
        self.ops.flush(key)
    }

    fn put(&self, unfinished: &str, key: &str) -> io::Result<()> {
        self.ops.make_dir(dir_of(key))?;
        self.ops.rename(unfinished, key)?;
        self.settle(key)
    }

    fn settle(&self, key: &str) -> io::Result<()> {
        let mut dir = key;
        while !dir_of(dir).is_empty() {
            dir = dir_of(dir);
            self.ops.flush_dir(dir)?;
        }
        Ok(())
    }

    fn read(&self, key: &str, range: Range<u64>) -> io::Result<Vec<u8>> {
        let len = range.end.saturating_sub(range.start);
        let len = usize::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut bytes = vec![0; len];
        let mut read = 0;
        while read < len {
            let at = range.start.saturating_add(read as u64);
            match self.ops.read_at(key, at, &mut bytes[read..])? {
                0 => break,
                n => read += n,
            }
        }
        bytes.truncate(read);
        Ok(bytes)
    }

    fn size(&self, key: &str) -> io::Result<Option<u64>> {
        self.ops.size(key)
    }

    fn delete(&self, keys: &[String]) -> io::Result<()> {
        let mut dirs = BTreeSet::new();
        for key in keys {
            self.ops.remove(key)?;
            dirs.insert(dir_of(key));
        }
        for dir in dirs.into_iter().filter(|dir| !dir.is_empty()) {
            match self.ops.flush_dir(dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        self.ops.list(FINISHED)
    }

    fn list_unfinished(&self) -> io::Result<Vec<(String, u64)>> {
        self.ops.list(UNFINISHED)
    }
}

/// Single operations of a file system below one directory, with `/` between the parts of a name. A
/// simulated one can fail each of them.
pub trait FileOps: Send + Sync {
    /// Makes a directory and its parents.
    ///
    /// # Errors
    /// When the disk fails.
    fn make_dir(&self, dir: &str) -> io::Result<()>;
    /// Writes into a file; makes a missing one.
    ///
    /// # Errors
    /// When the disk fails.
    fn write_at(&self, key: &str, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Flushes a file's bytes (fsync). After an error all bytes since the last successful flush may
    /// be lost, and a second flush may succeed without writing them.
    ///
    /// # Errors
    /// When the disk fails.
    fn flush(&self, key: &str) -> io::Result<()>;
    /// Moves a file.
    ///
    /// # Errors
    /// When the disk fails.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Flushes the names in a directory.
    ///
    /// # Errors
    /// When the disk fails.
    fn flush_dir(&self, dir: &str) -> io::Result<()>;
    /// Removes a file; a missing file is no error.
    ///
    /// # Errors
    /// When the disk fails.
    fn remove(&self, key: &str) -> io::Result<()>;
    /// Size of a file in bytes; `None` for a missing file.
    ///
    /// # Errors
    /// When the disk fails.
    fn size(&self, key: &str) -> io::Result<Option<u64>>;
    /// Reads from a file; 0 at its end.
    ///
    /// # Errors
    /// When the disk fails.
    fn read_at(&self, key: &str, at: u64, into: &mut [u8]) -> io::Result<usize>;
    /// Keys and sizes of all files below a directory, sorted by key.
    ///
    /// # Errors
    /// When the disk fails.
    fn list(&self, dir: &str) -> io::Result<Vec<(String, u64)>>;
}

/// An open file and the time of its last use, in uses of the store.
struct OpenFile {
    file: Arc<File>,
    used: u64,
}

/// Open files by key.
#[derive(Default)]
struct OpenFiles {
    files: HashMap<String, OpenFile>,
    uses: u64,
}

/// A directory of this machine. One that only reads keeps no file open: the office may put another
/// file under the name of a removed one.
struct Disk {
    dir: PathBuf,
    is_read_only: bool,
    open: Mutex<OpenFiles>,
}

impl Disk {
    fn new(dir: &Path) -> Disk {
        Disk { dir: dir.to_owned(), is_read_only: false, open: Mutex::default() }
    }

    fn file(&self, key: &str, make: bool) -> io::Result<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.uses += 1;
        let used = open.uses;
        if let Some(known) = open.files.get_mut(key) {
            known.used = used;
            return Ok(known.file.clone());
        }
        let path = self.dir.join(key);
        let writes = !self.is_read_only;
        let file = match open_file(
            &path,
            OpenOptions::new().read(true).write(writes).create(make && writes),
            Links::Refuse,
        ) {
            // A stored file may be read-only for this user; reads and flushes need no more.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !make => {
                open_file(&path, OpenOptions::new().read(true), Links::Refuse)?
            }
            opened => opened?,
        };
        if self.is_read_only {
            return Ok(Arc::new(file));
        }
        if open.files.len() >= OPEN_MAX
            && let Some(oldest) =
                open.files.iter().min_by_key(|(_, open)| open.used).map(|(key, _)| key.clone())
        {
            open.files.remove(&oldest);
        }
        let file = Arc::new(file);
        open.files.insert(key.to_owned(), OpenFile { file: file.clone(), used });
        Ok(file)
    }

    fn forget(&self, key: &str) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).files.remove(key);
    }
}

impl FileOps for Disk {
    fn make_dir(&self, dir: &str) -> io::Result<()> {
        std::fs::create_dir_all(self.dir.join(dir))
    }

    fn write_at(&self, key: &str, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file(key, true)?.write_all_at(bytes, at)
    }

    fn flush(&self, key: &str) -> io::Result<()> {
        self.file(key, false)?.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.forget(from);
        self.forget(to);
        std::fs::rename(self.dir.join(from), self.dir.join(to))
    }

    fn flush_dir(&self, dir: &str) -> io::Result<()> {
        File::open(self.dir.join(dir))?.sync_all()
    }

    fn remove(&self, key: &str) -> io::Result<()> {
        self.forget(key);
        match std::fs::remove_file(self.dir.join(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn size(&self, key: &str) -> io::Result<Option<u64>> {
        match std::fs::metadata(self.dir.join(key)) {
            Ok(found) => Ok(Some(found.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read_at(&self, key: &str, at: u64, into: &mut [u8]) -> io::Result<usize> {
        self.file(key, false)?.read_at(into, at)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<(String, u64)>> {
        let (mut found, mut dirs) = (Vec::new(), vec![dir.to_owned()]);
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(self.dir.join(&dir))? {
                let entry = entry?;
                let key = format!("{dir}/{}", entry.file_name().to_string_lossy());
                let about = entry.metadata()?;
                if about.is_dir() { dirs.push(key) } else { found.push((key, about.len())) }
            }
        }
        found.sort();
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_files_are_open_than_the_bound() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::new(dir.path());
        for n in 0..OPEN_MAX * 2 {
            disk.write_at(&format!("{n}"), 0, b"x").unwrap();
        }
        assert_eq!(disk.open.lock().unwrap().files.len(), OPEN_MAX);
        let mut byte = [0];
        assert_eq!(disk.read_at("0", 0, &mut byte).unwrap(), 1, "a closed file is opened again");
    }
}
