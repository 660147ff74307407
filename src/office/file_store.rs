//! File store of the archive: single file operations behind a trait.
//!
//! A simulated store can fail each operation. A key is a path below the archive's directory, with
//! `/` between its parts.
#![expect(clippy::disallowed_methods, reason = "shell: reads or writes files")]

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::regular_file::{Links, open as open_file};
use crate::units::Digest;

/// Open files at most: a service has 1,024 descriptors, and devices decide how many files they
/// start.
pub const OPEN_MAX: usize = 64;
/// Bytes of one read for a digest.
const READ_SIZE: usize = 256 << 10;

/// File operations of the archive.
pub trait FileStore: Send + Sync {
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

/// An I/O error instead of a digest. It proves nothing about the bytes.
#[derive(Debug)]
pub enum DigestError {
    /// The flush failed: bytes written since the last one may be lost.
    Flush(io::Error),
    /// The read failed.
    Read(io::Error),
}

impl std::fmt::Display for DigestError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DigestError::Flush(error) => write!(f, "flush failed: {error}"),
            DigestError::Read(error) => write!(f, "read failed: {error}"),
        }
    }
}

/// The SHA-256 of a file after a flush, so that the digest is that of durable bytes.
///
/// # Errors
/// When flush or read fails.
pub fn flush_and_hash(files: &dyn FileStore, key: &str) -> Result<Digest, DigestError> {
    files.flush(key).map_err(DigestError::Flush)?;
    hash(files, key).map_err(DigestError::Read)
}

/// The SHA-256 of a file.
///
/// # Errors
/// When the read fails.
pub fn hash(files: &dyn FileStore, key: &str) -> io::Result<Digest> {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let (mut piece, mut at) = (vec![0; READ_SIZE], 0);
    loop {
        match files.read_at(key, at, &mut piece)? {
            0 => break,
            n => {
                context.update(&piece[..n]);
                at += n as u64;
            }
        }
    }
    let mut out = Digest::default();
    out.0.copy_from_slice(context.finish().as_ref());
    Ok(out)
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

/// A directory of this machine.
pub struct DiskStore {
    dir: PathBuf,
    is_read_only: bool,
    open: Mutex<OpenFiles>,
}

impl DiskStore {
    /// A store in the directory `dir`.
    pub fn new(dir: &Path) -> DiskStore {
        DiskStore { dir: dir.to_owned(), is_read_only: false, open: Mutex::default() }
    }

    /// A store that only reads, beside the store of the office. It keeps no file open: the office
    /// may put another file under the name of a removed one.
    pub fn read_only(dir: &Path) -> DiskStore {
        DiskStore { is_read_only: true, ..DiskStore::new(dir) }
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

impl FileStore for DiskStore {
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
        let disk = DiskStore::new(dir.path());
        for n in 0..OPEN_MAX * 2 {
            disk.write_at(&format!("{n}"), 0, b"x").unwrap();
        }
        assert_eq!(disk.open.lock().unwrap().files.len(), OPEN_MAX);
        assert_eq!(hash(&disk, "0").unwrap(), Digest::of(b"x"), "a closed file is opened again");
    }
}
