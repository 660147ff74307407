//! Regular files: opens and reads them by name, with a bound, and never waits.
//!
//! A name from a configuration, a command line or a directory may lead to a named pipe, which blocks,
//! to a device, which never ends, or through a link to a file of another owner.
#![expect(clippy::disallowed_methods, reason = "shell: reads or writes files")]

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Maximum size of a text that an operator names: configuration, login, certificates. The largest
/// have some KiB.
pub const TEXT_MAX: u64 = 1 << 20;

/// Treatment of a symbolic link in the place of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// For a path that an operator named.
    Follow,
    /// For files of taimat's own directories. It makes no links, and one would lead out of them.
    Refuse,
}

/// Opens a regular file, or creates it if `options` say so. Replaces the custom flags of `options`.
///
/// # Errors
/// The failure of the operating system, or the kind of file found instead; without the path.
pub fn open(path: &Path, options: &OpenOptions, links: Links) -> io::Result<File> {
    // Before it is opened, because opening alone can change a device.
    check_name(path, links)?;
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let flags = if links == Links::Refuse { flags | rustix::fs::OFlags::NOFOLLOW } else { flags };
    let file = options.clone().custom_flags(flags.bits() as i32).open(path)?;
    // The name may lead to another file since.
    ensure_regular(file.metadata()?.file_type())?;
    Ok(file)
}

/// Reads a regular file of `max` bytes at most.
///
/// # Errors
/// As above, and when it is longer.
pub fn read(path: &Path, links: Links, max: u64) -> io::Result<Vec<u8>> {
    let file = open(path, OpenOptions::new().read(true), links)?;
    let too_long = |len: u64| invalid(format!("{len} bytes; at most {max}"));
    let len = file.metadata()?.len();
    if len > max {
        return Err(too_long(len));
    }
    let mut bytes = Vec::new();
    // It may grow while it is read, and files of the kernel do not say how long they are.
    file.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max { Err(too_long(bytes.len() as u64)) } else { Ok(bytes) }
}

/// The same for a text.
///
/// # Errors
/// As above, and when it is no UTF-8.
pub fn read_text(path: &Path, links: Links, max: u64) -> io::Result<String> {
    String::from_utf8(read(path, links, max)?).map_err(|_| invalid("is no text in UTF-8".into()))
}

/// Refuses what is no regular file; what is not there yet passes.
///
/// # Errors
/// What is there instead.
pub fn check_name(path: &Path, links: Links) -> io::Result<()> {
    let found = |found: io::Result<Metadata>| match found {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    };
    match (found(std::fs::symlink_metadata(path))?, links) {
        (None, _) => Ok(()),
        (Some(found), Links::Follow) if found.is_symlink() => {
            let aim = std::fs::metadata(path).map_err(|error| {
                let aim = std::fs::read_link(path).unwrap_or_default();
                io::Error::new(
                    error.kind(),
                    format!("is a symbolic link to {}: {error}", aim.display()),
                )
            })?;
            ensure_regular(aim.file_type())
        }
        (Some(found), _) => ensure_regular(found.file_type()),
    }
}

/// Removes a name, so that a new file can be created there and no other file is written through it.
///
/// # Errors
/// When the operating system refuses.
pub fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Refuses every other kind of file.
///
/// # Errors
/// What it is.
pub fn ensure_regular(kind: FileType) -> io::Result<()> {
    if kind.is_file() {
        return Ok(());
    }
    let what = match kind {
        _ if kind.is_dir() => "a directory",
        _ if kind.is_symlink() => "a symbolic link",
        _ if kind.is_fifo() => "a named pipe",
        _ if kind.is_socket() => "a socket",
        _ => "a device",
    };
    Err(invalid(format!("is {what}, not a file")))
}

fn invalid(what: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, what)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;

    /// Makes a named pipe.
    pub fn named_pipe(path: &Path) {
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    }

    /// What `asked` gives; it fails when that takes longer than any file here.
    pub fn at_once<T: Send + 'static>(asked: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, answered) = std::sync::mpsc::channel();
        std::thread::spawn(move || answer.send(asked()));
        answered.recv_timeout(Duration::from_secs(10)).expect("it waits for ever")
    }

    /// Everything that is no file, and what is said of it.
    pub fn no_files(dir: &Path) -> Vec<(PathBuf, &'static str)> {
        let at = |name: &str| dir.join(name);
        named_pipe(&at("pipe"));
        std::fs::create_dir(at("directory")).unwrap();
        drop(std::os::unix::net::UnixListener::bind(at("socket")).unwrap());
        std::os::unix::fs::symlink("pipe", at("to-pipe")).unwrap();
        std::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();
        vec![
            (at("pipe"), "is a named pipe, not a file"),
            (at("to-pipe"), "is a named pipe, not a file"),
            (at("directory"), "is a directory, not a file"),
            (at("socket"), "is a socket, not a file"),
            (at("dangling"), "is a symbolic link to nowhere"),
            (at("gone"), "No such file"),
            ("/dev/zero".into(), "is a device, not a file"),
        ]
    }

    #[test]
    fn what_is_no_file_is_named_and_never_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        for (path, expected) in no_files(dir.path()) {
            let asked = path.clone();
            let error = at_once(move || read(&asked, Links::Follow, 8)).unwrap_err().to_string();
            assert!(error.contains(expected), "{}: {error}", path.display());
        }
        assert!(!dir.path().join("nowhere").exists());
    }

    #[test]
    fn a_link_is_followed_only_where_an_operator_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link, dangling) =
            (dir.path().join("file"), dir.path().join("link"), dir.path().join("dangling"));
        std::fs::write(&file, "text").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        std::os::unix::fs::symlink(dir.path().join("outside"), &dangling).unwrap();
        assert_eq!(read_text(&link, Links::Follow, 8).unwrap(), "text");
        let refused = read(&link, Links::Refuse, 8).unwrap_err().to_string();
        assert_eq!(refused, "is a symbolic link, not a file");
        assert!(
            open(&dangling, OpenOptions::new().write(true).create(true), Links::Refuse).is_err()
        );
        assert!(!dir.path().join("outside").exists());
        assert_eq!(read(&file, Links::Refuse, 3).unwrap_err().to_string(), "4 bytes; at most 3");
        // Files of the kernel say that they are empty.
        assert_eq!(
            read(Path::new("/proc/version"), Links::Refuse, 3).unwrap_err().to_string(),
            "4 bytes; at most 3"
        );
    }
}
