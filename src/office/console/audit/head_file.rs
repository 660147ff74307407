//! The head of the audit trail in a second place: the file `audit-head` beside `console.sqlite`.
//!
//! Two slots of 512 bytes, written in turn and in place: no disk that is full and no power cut
//! within a write loses both. Before an act is committed its head is written as `pending` and
//! flushed; after the commit it becomes `committed`. A trail that ends before the committed head
//! was cut off.
//!
//! Who can write this directory can change both files. The head proves something against him only
//! where it was noted elsewhere: `/metrics` and `office audit verify` show it.
#![expect(clippy::disallowed_methods, reason = "shell: reads or writes files")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::chain::Head;
use crate::regular_file::{Links, open};
use crate::units::Digest;

/// The file.
pub const NAME: &str = "audit-head";
/// A slot: no disk tears a write of one sector.
const SLOT: usize = 512;
/// First words of a slot.
const MAGIC: &str = "taimat audit head 1";

/// Whether an act was committed when its head was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The act is about to be committed.
    Pending,
    /// The act was committed.
    Committed,
}

/// What the file says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KnownHead {
    /// The newest head that was committed.
    pub committed: Option<Head>,
    /// A newer head whose commit was not confirmed.
    pub pending: Option<Head>,
}

/// A slot's text, padded to 512 bytes.
fn slot(step: Step, head: Head) -> [u8; SLOT] {
    let step = if step == Step::Pending { "pending" } else { "committed" };
    let fields = format!("{MAGIC} {step} {} {}", head.n, head.digest.hex());
    let check = Digest::of(fields.as_bytes()).hex();
    let mut out = [b' '; SLOT];
    let text = format!("{fields} {}", &check[..16]);
    out[..text.len()].copy_from_slice(text.as_bytes());
    out[SLOT - 1] = b'\n';
    out
}

/// Step and head of a slot; `None` for an empty or damaged one.
fn parse(slot: &[u8]) -> Option<(Step, Head)> {
    let text = std::str::from_utf8(slot).ok()?.trim_end();
    let (fields, check) = text.rsplit_once(' ')?;
    if Digest::of(fields.as_bytes()).hex().get(..16)? != check {
        return None;
    }
    let mut words = fields.strip_prefix(MAGIC)?.split_whitespace();
    let step = match words.next()? {
        "pending" => Step::Pending,
        "committed" => Step::Committed,
        _ => return None,
    };
    let n = words.next()?.parse().ok()?;
    Some((step, Head { n, digest: Digest::from_hex(words.next()?)? }))
}

/// What two slots say.
fn known(slots: [Option<(Step, Head)>; 2]) -> KnownHead {
    let newest = |step: Step| {
        let heads = slots.iter().flatten().filter(|(is, _)| *is == step).map(|(_, head)| *head);
        heads.max_by_key(|head| head.n)
    };
    let committed = newest(Step::Committed);
    let is_newer = |head: &Head| committed.is_none_or(|committed| head.n > committed.n);
    KnownHead { committed, pending: newest(Step::Pending).filter(is_newer) }
}

/// The open file.
#[derive(Debug)]
pub struct HeadFile {
    file: File,
}

impl HeadFile {
    /// Opens the file in `dir`; makes it, with its full size, if it is not there.
    ///
    /// # Errors
    /// The failure of the file system.
    pub fn open(dir: &Path) -> io::Result<HeadFile> {
        let path = dir.join(NAME);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).mode(0o600);
        let file = open(&path, &options, Links::Refuse)?;
        if file.metadata()?.len() != 2 * SLOT as u64 {
            file.set_len(0)?;
            file.write_all_at(&[b' '; 2 * SLOT], 0)?;
            file.sync_all()?;
            File::open(dir)?.sync_all()?;
        }
        Ok(HeadFile { file })
    }

    /// Opens the file for reading only.
    ///
    /// # Errors
    /// The failure of the file system.
    pub fn open_read_only(dir: &Path) -> io::Result<HeadFile> {
        let file = open(&dir.join(NAME), OpenOptions::new().read(true), Links::Refuse)?;
        Ok(HeadFile { file })
    }

    /// What the file says.
    ///
    /// # Errors
    /// The failure of the file system.
    pub fn read(&self) -> io::Result<KnownHead> {
        let mut bytes = [0; 2 * SLOT];
        let mut filled = 0;
        while filled < bytes.len() {
            match self.file.read_at(&mut bytes[filled..], filled as u64)? {
                0 => break,
                count => filled += count,
            }
        }
        Ok(known([parse(&bytes[..SLOT]), parse(&bytes[SLOT..])]))
    }

    /// Notes that the act of `head` is about to be committed; durable when this returns.
    ///
    /// # Errors
    /// The failure of the file system: the act must not be committed.
    pub fn set_pending(&self, head: Head) -> io::Result<()> {
        self.write(Step::Pending, head)?;
        self.file.sync_data()
    }

    /// Notes that the act of `head` was committed. Not flushed: a pending head of a committed
    /// record is as good.
    ///
    /// # Errors
    /// The failure of the file system.
    pub fn set_committed(&self, head: Head) -> io::Result<()> {
        self.write(Step::Committed, head)
    }

    /// Begins again with `head` after records were lost: the old heads are in the trail now.
    ///
    /// # Errors
    /// The failure of the file system.
    pub fn restart(&self, head: Head) -> io::Result<()> {
        self.file.write_all_at(&slot(Step::Committed, head), place(head))?;
        self.file.write_all_at(&[b' '; SLOT], SLOT as u64 - place(head))?;
        self.file.sync_data()
    }

    /// Forgets a pending head whose act was rolled back.
    ///
    /// # Errors
    /// The failure of the file system.
    pub fn forget_pending(&self, head: Head) -> io::Result<()> {
        self.file.write_all_at(&[b' '; SLOT], place(head))
    }

    /// Writes a slot, unless a newer head stands there: another program went on meanwhile.
    fn write(&self, step: Step, head: Head) -> io::Result<()> {
        let at = place(head);
        let mut before = [0; SLOT];
        let is_read = self.file.read_exact_at(&mut before, at).is_ok();
        if step == Step::Committed
            && is_read
            && parse(&before).is_some_and(|(_, newer)| newer.n > head.n)
        {
            return Ok(());
        }
        self.file.write_all_at(&slot(step, head), at)
    }
}

/// Where a head's slot begins: heads take turns, so the one before stays.
fn place(head: Head) -> u64 {
    (head.n % 2) * SLOT as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(n: u64) -> Head {
        Head { n, digest: Digest::of(&n.to_le_bytes()) }
    }

    #[test]
    fn a_pending_head_becomes_committed_or_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let file = HeadFile::open(dir.path()).unwrap();
        assert_eq!(file.read().unwrap(), KnownHead::default());
        file.set_pending(head(1)).unwrap();
        assert_eq!(file.read().unwrap(), KnownHead { committed: None, pending: Some(head(1)) });
        file.set_committed(head(1)).unwrap();
        file.set_pending(head(2)).unwrap();
        drop(file);
        let file = HeadFile::open(dir.path()).unwrap();
        let known = KnownHead { committed: Some(head(1)), pending: Some(head(2)) };
        assert_eq!(file.read().unwrap(), known);
        file.forget_pending(head(2)).unwrap();
        assert_eq!(file.read().unwrap(), KnownHead { committed: Some(head(1)), pending: None });
    }

    #[test]
    fn a_torn_slot_leaves_the_other_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = HeadFile::open(dir.path()).unwrap();
        for n in 1..=4 {
            file.set_pending(head(n)).unwrap();
            file.set_committed(head(n)).unwrap();
        }
        for at in 0..SLOT - 1 {
            let mut torn = slot(Step::Committed, head(4));
            torn[at] ^= 1;
            assert!(parse(&torn).is_none_or(|(_, read)| read == head(4)), "byte {at}");
        }
        file.file.write_all_at(b"torn", 0).unwrap();
        assert_eq!(file.read().unwrap().committed, Some(head(3)));
    }

    #[test]
    fn an_older_head_does_not_replace_a_newer_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = HeadFile::open(dir.path()).unwrap();
        file.set_committed(head(5)).unwrap();
        file.set_committed(head(3)).unwrap();
        assert_eq!(file.read().unwrap().committed, Some(head(5)));
    }
}
