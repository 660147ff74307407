//! Loop devices and mounts, released when dropped, also when a test panics.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

/// Time for an unmount before a lazy one follows.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs a tool to its end; its error output becomes the error.
///
/// # Errors
/// The tool cannot be run, or it fails.
pub fn run(command: &mut Command) -> anyhow::Result<Output> {
    let out = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr).trim());
    Ok(out)
}

/// An ext4 file system in an image, on a loop device.
pub struct Mounted {
    device: String,
    pub dir: PathBuf,
}

impl Mounted {
    /// Mounts an image in `dir`; ext4 replays its journal.
    ///
    /// # Errors
    /// This machine does not allow it, or the image has no valid file system.
    pub fn mount(image: &Path, dir: &Path) -> anyhow::Result<Mounted> {
        let found = run(Command::new("losetup").args(["--find", "--show"]).arg(image))?;
        let mounted = Mounted {
            device: String::from_utf8(found.stdout)?.trim().to_owned(),
            dir: dir.to_owned(),
        };
        run(Command::new("mount").args(["-t", "ext4", &mounted.device]).arg(dir))?;
        Ok(mounted)
    }

    /// True if the block layer sends flushes to this device; without them a cut proves nothing.
    pub fn sends_flushes(&self) -> bool {
        let name = self.device.trim_start_matches("/dev/");
        std::fs::read_to_string(format!("/sys/block/{name}/queue/write_cache"))
            .is_ok_and(|mode| mode.trim() == "write back")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let is_mounted = || run(Command::new("mountpoint").arg("-q").arg(&self.dir)).is_ok();
        let until = Instant::now() + PATIENCE;
        while is_mounted() && run(Command::new("umount").arg(&self.dir)).is_err() {
            if Instant::now() >= until {
                let _ = run(Command::new("umount").arg("-l").arg(&self.dir));
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = run(Command::new("losetup").args(["--detach", &self.device]));
    }
}

/// Waits until no loop device uses a file in `dir`: a detach may end after `losetup`.
pub fn until_let_go(dir: &Path) {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        let Ok(list) =
            run(Command::new("losetup").args(["--list", "--noheadings", "--output", "BACK-FILE"]))
        else {
            return;
        };
        if !String::from_utf8_lossy(&list.stdout)
            .lines()
            .any(|file| Path::new(file.trim()).starts_with(dir))
        {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
