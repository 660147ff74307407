//! What the archive asks of a store of bytes. Keys come from [`super::file_key`] and mean nothing
//! to a caller.
//!
//! An unfinished file is written piece by piece and flushed; [`FileStore::put`] makes it a finished
//! one, which does not change any more.

use std::io;
use std::ops::Range;
use std::path::PathBuf;

use crate::office::error::ArchiveError;
use crate::units::Digest;

/// Bytes of one read for a digest or a copy.
const READ_SIZE: u64 = 256 << 10;

/// The bytes of the archive's files. Each function fails when the store does.
pub trait FileStore: Send + Sync {
    /// Makes what the store needs before its first file.
    ///
    /// # Errors
    /// The place that cannot be made.
    fn prepare(&self) -> Result<(), ArchiveError>;
    /// Where an operator finds a file.
    fn location(&self, key: &str) -> PathBuf;
    /// Writes into an unfinished file; makes a missing one.
    ///
    /// # Errors
    /// When the store fails; a part of the bytes may be written.
    fn write(&self, key: &str, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes a file's bytes durable. After an error all bytes since the last success may be lost,
    /// and a second call may succeed without writing them.
    ///
    /// # Errors
    /// When the store fails.
    fn flush(&self, key: &str) -> io::Result<()>;
    /// Makes a flushed unfinished file the finished file `key`; durable when this returns.
    ///
    /// # Errors
    /// When the store fails: the file has one of the two keys.
    fn put(&self, unfinished: &str, key: &str) -> io::Result<()>;
    /// Makes a [`FileStore::put`] durable that was interrupted after the file got its key.
    ///
    /// # Errors
    /// When the store fails.
    fn settle(&self, key: &str) -> io::Result<()>;
    /// Bytes of a file; fewer at its end.
    ///
    /// # Errors
    /// `NotFound` for a missing file; otherwise when the store fails.
    fn read(&self, key: &str, range: Range<u64>) -> io::Result<Vec<u8>>;
    /// Size of a file in bytes; `None` for a missing file.
    ///
    /// # Errors
    /// When the store fails.
    fn size(&self, key: &str) -> io::Result<Option<u64>>;
    /// Deletes files; durable when this returns. A missing file is no error.
    ///
    /// # Errors
    /// When the store fails: some files may be deleted.
    fn delete(&self, keys: &[String]) -> io::Result<()>;
    /// Keys and sizes of all finished files, sorted by key.
    ///
    /// # Errors
    /// When the store fails.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;
    /// Keys and sizes of all unfinished files, sorted by key.
    ///
    /// # Errors
    /// When the store fails.
    fn list_unfinished(&self) -> io::Result<Vec<(String, u64)>>;
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

/// Reads a file piece by piece.
///
/// # Errors
/// When the read or `take` fails.
pub fn read_all(
    files: &dyn FileStore,
    key: &str,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut at = 0;
    loop {
        let piece = files.read(key, at..at + READ_SIZE)?;
        if piece.is_empty() {
            return Ok(());
        }
        take(&piece)?;
        at += piece.len() as u64;
    }
}

/// The SHA-256 of a file.
///
/// # Errors
/// When the read fails.
pub fn hash(files: &dyn FileStore, key: &str) -> io::Result<Digest> {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    read_all(files, key, |piece| {
        context.update(piece);
        Ok(())
    })?;
    let mut out = Digest::default();
    out.0.copy_from_slice(context.finish().as_ref());
    Ok(out)
}
