//! The head of the audit trail in a second place: the file `audit-head` beside `console.sqlite`.
//!
//! Two slots of 512 bytes, written in place: no disk that is full and no power cut within a write
//! loses both. Before an act is committed its head is written as `pending` into the slot that does
//! not hold the last one, and flushed; after the commit it becomes `committed`. An act that is taken
//! back leaves two copies of the last head. A trail that ends before the committed head was cut off,
//! and a slot that says nothing was damaged: the first act fills both.
//!
//! Who can write this directory can change both files. The head proves something against him only
//! where it was noted elsewhere: `office audit verify` shows it.
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
    /// True when a slot says nothing although the first act was committed.
    pub is_damaged: bool,
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
    let is_damaged = committed.is_some() && slots.contains(&None);
    KnownHead { committed, pending: newest(Step::Pending).filter(is_newer), is_damaged }
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
        let mut slots = self.slots()?;
        if slots.contains(&None) {
            // Another program may have been writing it.
            slots = self.slots()?;
        }
        Ok(known(slots))
    }

    /// Notes that the act of `head` is about to be committed, behind the last record `before`;
    /// durable when this returns. The slot of `before` stays: the act may be taken back.
    ///
    /// # Errors
    /// The failure of the file system: the act must not be committed.
    pub fn set_pending(&self, before: Head, head: Head) -> io::Result<()> {
        let slots = self.slots()?;
        let committed = known(slots).committed;
        let holds = |wanted: Head| {
            slots.iter().position(|slot| slot.is_some_and(|(_, head)| head == wanted))
        };
        let keep = holds(before).or_else(|| committed.and_then(holds)).unwrap_or(1);
        self.write(1 - keep, Step::Pending, head)?;
        self.file.sync_data()
    }

    /// Notes that the act of `head` was committed. Not flushed: a pending head of a committed
    /// record is as good. Nothing is written when another program went on meanwhile.
    ///
    /// # Errors
    /// The failure of the file system.
    pub fn set_committed(&self, head: Head) -> io::Result<()> {
        let slots = self.slots()?;
        let Some(at) = pending_place(slots, head) else { return Ok(()) };
        self.write(at, Step::Committed, head)?;
        match slots[1 - at] {
            // The first act.
            None if known(slots).committed.is_none() => self.write(1 - at, Step::Committed, head),
            _ => Ok(()),
        }
    }

    /// Begins again with `head` after records were lost: the old heads are in the trail now.
    ///
    /// # Errors
    /// The failure of the file system.
    pub fn restart(&self, head: Head) -> io::Result<()> {
        let at = pending_place(self.slots()?, head).unwrap_or(0);
        self.write(at, Step::Committed, head)?;
        self.write(1 - at, Step::Committed, head)?;
        self.file.sync_data()
    }

    /// Forgets a pending head whose act was rolled back: the other slot stands in both.
    ///
    /// # Errors
    /// The failure of the file system.
    pub fn forget_pending(&self, head: Head) -> io::Result<()> {
        let slots = self.slots()?;
        let Some(at) = pending_place(slots, head) else { return Ok(()) };
        match slots[1 - at] {
            Some((step, other)) => self.write(at, step, other),
            None => self.file.write_all_at(&[b' '; SLOT], (at * SLOT) as u64),
        }
    }

    fn slots(&self) -> io::Result<[Option<(Step, Head)>; 2]> {
        let mut bytes = [0; 2 * SLOT];
        let mut filled = 0;
        while filled < bytes.len() {
            match self.file.read_at(&mut bytes[filled..], filled as u64)? {
                0 => break,
                count => filled += count,
            }
        }
        Ok([parse(&bytes[..SLOT]), parse(&bytes[SLOT..])])
    }

    fn write(&self, at: usize, step: Step, head: Head) -> io::Result<()> {
        self.file.write_all_at(&slot(step, head), (at * SLOT) as u64)
    }
}

/// The slot in which `head` is pending.
fn pending_place(slots: [Option<(Step, Head)>; 2], head: Head) -> Option<usize> {
    slots.iter().position(|slot| *slot == Some((Step::Pending, head)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(n: u64) -> Head {
        Head { n, digest: Digest::of(&n.to_le_bytes()) }
    }

    /// What a file with two sound slots says.
    fn says(committed: Option<Head>, pending: Option<Head>) -> KnownHead {
        KnownHead { committed, pending, is_damaged: false }
    }

    fn act(file: &HeadFile, before: u64, after: u64) {
        file.set_pending(head(before), head(after)).unwrap();
        file.set_committed(head(after)).unwrap();
    }

    #[test]
    fn a_pending_head_becomes_committed_or_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let file = HeadFile::open(dir.path()).unwrap();
        assert_eq!(file.read().unwrap(), KnownHead::default());
        file.set_pending(Head::default(), head(1)).unwrap();
        assert_eq!(file.read().unwrap(), says(None, Some(head(1))));
        file.set_committed(head(1)).unwrap();
        assert_eq!(file.read().unwrap(), says(Some(head(1)), None));
        file.set_pending(head(1), head(2)).unwrap();
        drop(file);
        let file = HeadFile::open(dir.path()).unwrap();
        assert_eq!(file.read().unwrap(), says(Some(head(1)), Some(head(2))));
        file.forget_pending(head(2)).unwrap();
        assert_eq!(file.read().unwrap(), says(Some(head(1)), None));
    }

    #[test]
    fn acts_taken_back_leave_the_last_committed_head() {
        for records in 1..=4 {
            let dir = tempfile::tempdir().unwrap();
            let file = HeadFile::open(dir.path()).unwrap();
            act(&file, 0, 1);
            let mut n = 1;
            for round in 0..6 {
                // The disk is full: acts of one to four records, one after the other.
                for more in 1..=records {
                    file.set_pending(head(n), head(n + more)).unwrap();
                    assert_eq!(file.read().unwrap().committed, Some(head(n)), "{records} {round}");
                    file.forget_pending(head(n + more)).unwrap();
                    assert_eq!(file.read().unwrap(), says(Some(head(n)), None));
                }
                act(&file, n, n + records);
                n += records;
                assert_eq!(file.read().unwrap(), says(Some(head(n)), None));
            }
        }
    }

    #[test]
    fn a_head_stays_pending_until_another_act_needs_its_slot() {
        let dir = tempfile::tempdir().unwrap();
        let file = HeadFile::open(dir.path()).unwrap();
        act(&file, 0, 1);
        // Committed in the database, and the process ended before it could say so.
        file.set_pending(head(1), head(2)).unwrap();
        file.set_pending(head(2), head(3)).unwrap();
        file.forget_pending(head(3)).unwrap();
        assert_eq!(file.read().unwrap().pending, Some(head(2)));
    }

    #[test]
    fn a_torn_slot_leaves_the_other_one_and_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let file = HeadFile::open(dir.path()).unwrap();
        for n in 1..=4 {
            act(&file, n - 1, n);
        }
        for at in 0..SLOT - 1 {
            let mut torn = slot(Step::Committed, head(4));
            torn[at] ^= 1;
            assert!(parse(&torn).is_none_or(|(_, read)| read == head(4)), "byte {at}");
        }
        let newest = file.slots().unwrap().iter().position(|s| s.unwrap().1 == head(4)).unwrap();
        file.file.write_all_at(b"torn", (newest * SLOT) as u64).unwrap();
        let known = file.read().unwrap();
        assert_eq!((known.committed, known.is_damaged), (Some(head(3)), true));
    }

    #[test]
    fn an_older_head_does_not_replace_a_newer_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = HeadFile::open(dir.path()).unwrap();
        act(&file, 0, 4);
        file.set_pending(head(4), head(5)).unwrap();
        file.set_pending(head(5), head(6)).unwrap();
        file.set_committed(head(6)).unwrap();
        file.set_committed(head(5)).unwrap();
        assert_eq!(file.read().unwrap().committed, Some(head(6)));
    }
}
