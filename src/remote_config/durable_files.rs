//! State files in a directory: atomic replacement by rename, durable when a write returns.
#![expect(clippy::disallowed_methods, reason = "shell: reads or writes files")]

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::state_record::RECORD_MAX;
use super::state_store::Files;
use crate::regular_file::{self, Links, remove_if_there};

/// A directory of state files.
#[derive(Debug, Clone)]
pub struct RealFiles {
    dir: PathBuf,
}

impl RealFiles {
    /// Opens or makes the directory; its parent must exist.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn open(dir: &Path) -> Result<RealFiles, String> {
        match DirBuilder::new().mode(0o700).create(dir) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                Err(format!("{}: {error}", dir.display()))
            }
            _ => Ok(RealFiles { dir: dir.to_owned() }),
        }
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        let new = self.dir.join(format!("{name}.new"));
        // Whatever a cut left of it, or a link that leads elsewhere.
        remove_if_there(&new)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&new, self.dir.join(name))?;
        File::open(&self.dir)?.sync_all()
    }

    fn describe_error(&self, name: &str, error: &std::io::Error) -> String {
        format!("{}: {error}", self.dir.join(name).display())
    }
}

impl Files for RealFiles {
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, String> {
        match regular_file::read(&self.dir.join(name), Links::Refuse, 2 * RECORD_MAX as u64) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.describe_error(name, &error)),
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), String> {
        self.replace(name, bytes).map_err(|error| self.describe_error(name, &error))
    }

    fn remove(&self, name: &str) -> Result<(), String> {
        std::fs::remove_file(self.dir.join(name)).map_err(|error| self.describe_error(name, &error))
    }

    fn names(&self) -> Result<Vec<String>, String> {
        let entries =
            std::fs::read_dir(&self.dir).map_err(|error| self.describe_error("", &error))?;
        Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::regular_file::tests::{at_once, named_pipe};

    #[test]
    fn a_pipe_or_a_link_in_the_state_directory_holds_up_nobody() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let files = RealFiles::open(dir.path()).unwrap();
        let target = outside.path().join("made");
        named_pipe(&dir.path().join("record.a"));
        named_pipe(&dir.path().join("record.b.new"));
        std::os::unix::fs::symlink(&target, dir.path().join("record.c.new")).unwrap();
        let asked = files.clone();
        let (read, written) = at_once(move || {
            let write = |name| asked.write(name, b"one");
            (asked.read("record.a"), [write("record.a"), write("record.b"), write("record.c")])
        });
        assert!(
            read.clone().unwrap_err().contains("record.a: is a named pipe, not a file"),
            "{read:?}"
        );
        assert_eq!(written, [Ok(()), Ok(()), Ok(())]);
        assert_eq!(files.read("record.b").unwrap().unwrap(), b"one");
        assert!(!target.exists());
    }

    #[test]
    fn a_file_is_replaced_atomically_and_private_to_its_owner() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let files = RealFiles::open(&dir.path().join("state")).unwrap();
        assert_eq!(files.read("record.a"), Ok(None));
        files.write("record.a", b"one").unwrap();
        files.write("record.a", b"two").unwrap();
        assert_eq!(files.read("record.a").unwrap().unwrap(), b"two");
        assert_eq!(files.names().unwrap(), ["record.a"], "no temporary file is left");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&files.dir), mode(&files.dir.join("record.a"))), (0o700, 0o600));
        files.remove("record.a").unwrap();
        assert!(files.remove("record.a").is_err());
        assert!(RealFiles::open(&dir.path().join("no/such")).is_err());
    }
}
