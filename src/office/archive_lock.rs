//! ⇄ One receiving office for each archive: two would answer every message twice and move each other's files.
//!
//! What belongs here: the lock on the directory. What does not: looking at an archive, which many may do beside the office.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::regular_file::{Links, open};

/// The locked file; it says which process holds it.
const NAME: &str = "taimat.lock";
/// Bytes of it that are read: a process number.
const PID_MAX: u64 = 20;

/// Takes the archive in `dir` for this process, until the result is dropped or the process ends, however it ends.
///
/// # Errors
/// When another office has it, or the directory cannot be used.
pub fn claim(dir: &Path) -> anyhow::Result<File> {
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let path = dir.join(NAME);
    let file = open(&path, OpenOptions::new().read(true).write(true).create(true), Links::Refuse);
    let mut file = file.with_context(|| path.display().to_string())?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = (&file).take(PID_MAX).read_to_string(&mut pid);
            let who = if pid.trim().is_empty() { String::new() } else { format!(" (process {})", pid.trim()) };
            bail!(
                "{}: another office{who} receives into this archive: stop it first, or give this one another --dir",
                dir.display()
            );
        }
        // Some file systems of a network have no locks: the archive is worth more than the guard.
        Err(TryLockError::Error(error)) => {
            tracing::warn!(path = %path.display(), %error, "the archive cannot be locked: see to it that one office only receives into it");
        }
    }
    // For people only: a full disk that does not take it changes nothing.
    let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
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
        assert!(format!("{refused:#}").ends_with("taimat.lock: is a named pipe, not a file"), "{refused:#}");
        std::fs::remove_file(dir.path().join(NAME)).unwrap();
        std::os::unix::fs::symlink(&target, dir.path().join(NAME)).unwrap();
        assert!(claim(dir.path()).is_err());
        assert!(!target.exists());
    }

    #[test]
    fn a_second_office_is_refused_until_the_first_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("archive");
        let first = claim(&archive).unwrap();
        let refusal = claim(&archive).unwrap_err().to_string();
        assert!(refusal.contains("another office") && refusal.contains(&std::process::id().to_string()), "{refusal}");
        drop(first);
        claim(&archive).unwrap();
    }
}
