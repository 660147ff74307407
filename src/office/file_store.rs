//! ⇄ Where the archive's bytes lie: every operation it makes on files, one by one, so that a simulated disk can refuse each of them.
//! A key is a path below the archive's directory, with `/` between its parts.
//!
//! What belongs here: single operations. What does not: their order ([`super::partial_files`], [`super::retention`]).

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::regular_file::{Links, open as open_file};
use crate::units::Digest;

/// Open files at most: a service has 1,024 descriptors, and a device decides how many files it begins.
pub const OPEN_MAX: usize = 64;
/// Bytes read at once for a digest.
const PIECE: usize = 256 << 10;

/// What the archive does with files.
pub trait FileStore: Send + Sync {
    /// Makes a directory and those above it.
    ///
    /// # Errors
    /// When the disk refuses; so do all others.
    fn make_dir(&self, dir: &str) -> io::Result<()>;
    /// Writes into a file, which is made when there is none.
    ///
    /// # Errors
    /// As above.
    fn write_at(&self, key: &str, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Flushes a file's bytes. After an error nothing that was written since the last flush counts, whatever a second flush says.
    ///
    /// # Errors
    /// As above.
    fn flush(&self, key: &str) -> io::Result<()>;
    /// Moves a file.
    ///
    /// # Errors
    /// As above.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Flushes the names in a directory.
    ///
    /// # Errors
    /// As above.
    fn flush_dir(&self, dir: &str) -> io::Result<()>;
    /// Removes a file; one that is not there is no error.
    ///
    /// # Errors
    /// As above.
    fn remove(&self, key: &str) -> io::Result<()>;
    /// Bytes of a file, `None` when there is none.
    ///
    /// # Errors
    /// As above.
    fn size(&self, key: &str) -> io::Result<Option<u64>>;
    /// Reads from a file; 0 at its end.
    ///
    /// # Errors
    /// As above.
    fn read_at(&self, key: &str, at: u64, into: &mut [u8]) -> io::Result<usize>;
    /// All files below a directory, with their sizes, in order of their keys.
    ///
    /// # Errors
    /// As above.
    fn list(&self, dir: &str) -> io::Result<Vec<(String, u64)>>;
}

/// Why there is no digest. Neither says anything about the bytes.
#[derive(Debug)]
pub enum DigestError {
    /// The flush failed: what was written since the one before may be lost.
    Flush(io::Error),
    /// It cannot be read now.
    Read(io::Error),
}

impl std::fmt::Display for DigestError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DigestError::Flush(error) => write!(f, "it cannot be flushed: {error}"),
            DigestError::Read(error) => write!(f, "it cannot be read: {error}"),
        }
    }
}

/// Flushes a file, then reads it: what the digest says is on the disk.
///
/// # Errors
/// When the disk refuses one of the two.
pub fn flush_and_hash(files: &dyn FileStore, key: &str) -> Result<Digest, DigestError> {
    files.flush(key).map_err(DigestError::Flush)?;
    hash(files, key).map_err(DigestError::Read)
}

/// The digest of a file.
///
/// # Errors
/// When it cannot be read.
pub fn hash(files: &dyn FileStore, key: &str) -> io::Result<Digest> {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let (mut piece, mut at) = (vec![0; PIECE], 0);
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

/// Open files by key, each with when it was used last.
type Open = HashMap<String, (Arc<File>, u64)>;

/// A directory of this machine.
pub struct DiskStore {
    dir: PathBuf,
    open: Mutex<(Open, u64)>,
}

impl DiskStore {
    /// The directory `dir`.
    pub fn new(dir: &Path) -> DiskStore {
        DiskStore { dir: dir.to_owned(), open: Mutex::default() }
    }

    fn file(&self, key: &str, make: bool) -> io::Result<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (files, clock) = &mut *open;
        *clock += 1;
        if let Some((file, used)) = files.get_mut(key) {
            *used = *clock;
            return Ok(file.clone());
        }
        let path = self.dir.join(key);
        let file = match open_file(&path, OpenOptions::new().read(true).write(true).create(make), Links::Refuse) {
            // What was stored may be read-only for us: reading and flushing need no more.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !make => {
                open_file(&path, OpenOptions::new().read(true), Links::Refuse)?
            }
            opened => opened?,
        };
        if files.len() >= OPEN_MAX
            && let Some(oldest) = files.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| key.clone())
        {
            files.remove(&oldest);
        }
        let file = Arc::new(file);
        files.insert(key.to_owned(), (file.clone(), *clock));
        Ok(file)
    }

    fn forget(&self, key: &str) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).0.remove(key);
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
        assert_eq!(disk.open.lock().unwrap().0.len(), OPEN_MAX);
        assert_eq!(hash(&disk, "0").unwrap(), Digest::of(b"x"), "one that was closed is opened again");
    }
}
