//! Known ring: the ring of the last boot, kept beside the configurations, so that a ring that is new
//! or of another card does not pass for the one before.
//!
//! A new ring has no locks, no gaps and no events that wait: without this memory they would be gone
//! without a word. `ring.a` and `ring.b` in the state directory are its two copies.

use serde::{Deserialize, Serialize};

use super::state_store::{Files, read_copies, write_copies};
use crate::units::{Boot, Digest, RingId};

const NAME: &str = "ring";
/// Bytes of a copy at most, far above the longest path.
const COPY_MAX: usize = 16 << 10;

/// The ring of a boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownRing {
    /// `storage.dir` of the boot.
    pub dir: String,
    /// Id of the ring.
    pub ring: RingId,
    /// Number of the boot in this ring.
    pub boot: Boot,
    /// Its newest record at the boot.
    pub record: u64,
    /// RFC 3339 time of the boot.
    pub at: String,
}

/// How the ring of this boot differs from the known one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RingChange {
    /// A ring without footage, made at this boot.
    New,
    /// A ring with other footage: another card, or one whose journal was lost.
    Exchanged,
    /// The known ring as it was before the last boot: an older copy of it.
    Older,
}

impl RingChange {
    /// The word used in events.
    pub fn as_str(self) -> &'static str {
        match self {
            RingChange::New => "new_ring",
            RingChange::Exchanged => "other_ring",
            RingChange::Older => "older_ring",
        }
    }

    /// What it means for an operator.
    pub fn meaning(self) -> &'static str {
        match self {
            RingChange::New => {
                "the ring of the last boot is gone and a new one was made: its footage, locks and events that waited are not in it"
            }
            RingChange::Exchanged => {
                "this is another ring than at the last boot: the card was exchanged, or its journal was lost"
            }
            RingChange::Older => {
                "this is an older copy of the ring of the last boot: what was recorded since the copy is not in it"
            }
        }
    }
}

impl KnownRing {
    /// How `found`, the ring of this boot, differs from this one, the ring of the last boot. A
    /// directory that was changed has a ring of its own.
    pub fn change(&self, found: &KnownRing) -> Option<RingChange> {
        match () {
            () if self.dir != found.dir => None,
            () if self.ring != found.ring && found.record == 0 => Some(RingChange::New),
            () if self.ring != found.ring => Some(RingChange::Exchanged),
            () if found.boot <= self.boot => Some(RingChange::Older),
            () => None,
        }
    }

    fn encode(&self) -> Vec<u8> {
        let json = serde_json::to_string(self).unwrap_or_default();
        format!("{}\n{json}\n", Digest::of(json.as_bytes()).hex()).into_bytes()
    }

    fn decode(bytes: &[u8]) -> Option<KnownRing> {
        let (digest, json) = std::str::from_utf8(bytes).ok()?.split_once('\n')?;
        let json = json.strip_suffix('\n')?;
        let whole =
            bytes.len() <= COPY_MAX && Digest::from_hex(digest)? == Digest::of(json.as_bytes());
        whole.then(|| serde_json::from_str(json).ok()).flatten()
    }
}

/// The ring of the last boot; `None` at the first one, or when both copies are damaged. Of two
/// copies the one of the later boot counts.
pub fn load(files: &dyn Files) -> Option<KnownRing> {
    let copies = read_copies(files, NAME).filter_map(|bytes| KnownRing::decode(&bytes));
    copies.max_by_key(|known| known.boot)
}

/// Saves the ring of this boot.
///
/// # Errors
/// When no copy could be written.
pub fn save(files: &dyn Files, known: &KnownRing) -> Result<(), String> {
    write_copies(files, NAME, &known.encode()).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote_config::durable_files::RealFiles;

    fn ring(id: u64, boot: u32, record: u64) -> KnownRing {
        let (ring, boot) = (RingId(id), Boot(boot));
        KnownRing { dir: "/ring".into(), ring, boot, record, at: "t".into() }
    }

    #[test]
    fn another_an_older_and_a_new_ring_are_told_apart() {
        let known = ring(7, 4, 900);
        assert_eq!(known.change(&ring(7, 5, 1000)), None);
        assert_eq!(known.change(&ring(7, 9, 0)), None, "its segments were lost, not its journal");
        assert_eq!(known.change(&ring(8, 1, 0)), Some(RingChange::New));
        assert_eq!(known.change(&ring(8, 40, 12)), Some(RingChange::Exchanged));
        assert_eq!(known.change(&ring(7, 4, 900)), Some(RingChange::Older));
        assert_eq!(known.change(&ring(7, 2, 100)), Some(RingChange::Older));
        let elsewhere = KnownRing { dir: "/other".into(), ..ring(8, 1, 0) };
        assert_eq!(known.change(&elsewhere), None, "the directory was changed");
    }

    #[test]
    fn a_known_ring_survives_one_damaged_copy_and_no_garbage() {
        let dir = tempfile::tempdir().unwrap();
        let files = RealFiles::open(dir.path()).unwrap();
        assert_eq!(load(&files), None);
        let known = ring(7, 4, 900);
        save(&files, &known).unwrap();
        assert_eq!(load(&files), Some(known.clone()));
        files.write("ring.a", b"garbage").unwrap();
        assert_eq!(load(&files), Some(known.clone()));
        files.write("ring.b", &known.encode()[1..]).unwrap();
        assert_eq!(load(&files), None);
    }
}
