//! Lock of an archive directory: one receiving office at a time.
//!
//! Two offices would answer every message twice and move each other's files. Read-only programs
//! take no lock.
#![expect(clippy::disallowed_methods, reason = "shell: reads or writes files")]

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use super::error::{ArchiveError, Named as _};

use crate::regular_file::{Links, open};

/// The locked file. It holds the id of the process that has the lock.
const NAME: &str = "taimat.lock";
/// Bytes read of the lock file: a process id has fewer digits.
const PID_MAX: u64 = 20;

/// Locks the archive in `dir` for this process. The lock ends when the file is dropped or the
/// process exits, crashes included.
///
/// # Errors
/// `Locked` when another office has the lock; otherwise the failure of the file system.
pub fn claim(dir: &Path) -> Result<File, ArchiveError> {
    std::fs::create_dir_all(dir).named(|| dir.display().to_string())?;
    let path = dir.join(NAME);
    let file = open(&path, OpenOptions::new().read(true).write(true).create(true), Links::Refuse);
    let mut file = file.named(|| path.display().to_string())?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = (&file).take(PID_MAX).read_to_string(&mut pid);
            let holder = if pid.trim().is_empty() {
                String::new()
            } else {
                format!(" (process {})", pid.trim())
            };
            return Err(ArchiveError::Locked(format!(
                "{}: another office{holder} receives into this archive; stop it, or give this one another --dir",
                dir.display()
            )));
        }
        // Some network file systems have no locks. Receiving without a lock beats not receiving.
        Err(TryLockError::Error(error)) => {
            tracing::warn!(path = %path.display(), %error,
                "archive not locked, the file system has no locks; make sure that only one office receives into it");
        }
    }
    // The process id only serves the message above, so a failed write changes nothing.
    let _ = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::regular_file::tests::{at_once, named_pipe};

    #[test]
    fn a_lock_that_is_no_file_is_named_and_nothing_is_made_outside() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (archive, target) = (dir.path().to_owned(), outside.path().join("made"));
        named_pipe(&dir.path().join(NAME));
        let refused = at_once(move || claim(&archive).map(|_| ())).unwrap_err();
        assert!(
            refused.line().ends_with("taimat.lock: is a named pipe, not a file"),
            "{refused:#}"
        );
        std::fs::remove_file(dir.path().join(NAME)).unwrap();
        std::os::unix::fs::symlink(&target, dir.path().join(NAME)).unwrap();
        assert!(claim(dir.path()).is_err());
        assert!(!target.exists());
    }

    #[test]
    fn a_second_office_is_rejected_until_the_first_exits() {
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("archive");
        let first = claim(&archive).unwrap();
        let error = claim(&archive).unwrap_err();
        assert!(matches!(error, ArchiveError::Locked(_)), "{error:?}");
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        drop(first);
        claim(&archive).unwrap();
    }
}
