//! ext4 on a loop device, with the number of bytes written to the device.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;

/// Size of the card, bytes: its journal is as large as on a small real card. The image is sparse.
const SIZE: u64 = 2 << 30;

/// A mounted ext4; it is unmounted when dropped.
pub struct Card {
    dir: tempfile::TempDir,
    device: String,
}

impl Card {
    /// A new card mounted with `options`; `None` without the rights.
    pub fn new(options: &str) -> Option<Card> {
        let dir = tempfile::tempdir().ok()?;
        let (image, mount) = (dir.path().join("image"), dir.path().join("mnt"));
        std::fs::create_dir(&mount).ok()?;
        File::create(&image).ok()?.set_len(SIZE).ok()?;
        let run = |command: &str, args: &[&str]| {
            Command::new(command).args(args).output().ok().filter(|out| out.status.success())
        };
        // Lazy initialisation would write in the background during the measurement.
        let now = "lazy_itable_init=0,lazy_journal_init=0";
        run("/usr/sbin/mkfs.ext4", &["-q", "-E", now, image.to_str()?])?;
        run("mount", &["-o", &format!("loop,{options}"), image.to_str()?, mount.to_str()?])?;
        let source = run("findmnt", &["-n", "-o", "SOURCE", mount.to_str()?])?;
        let device =
            String::from_utf8(source.stdout).ok()?.trim().strip_prefix("/dev/")?.to_owned();
        Some(Card { dir, device })
    }

    /// Mount point.
    pub fn mount(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    /// Bytes written to the device so far (Documentation/block/stat: field 7 is sectors written).
    /// The
    /// file system is synchronised first, so that every reading is complete.
    pub fn written(&self) -> u64 {
        rustix::fs::syncfs(File::open(self.mount()).unwrap()).unwrap();
        let stat = std::fs::read_to_string(format!("/sys/block/{}/stat", self.device)).unwrap();
        stat.split_whitespace().nth(6).and_then(|sectors| sectors.parse::<u64>().ok()).unwrap()
            * 512
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.mount()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            println!("{} could not be unmounted", self.mount().display());
        }
    }
}
