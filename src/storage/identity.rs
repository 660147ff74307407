//! Card identity: determines the owner of a ring directory from the card ids in its parts.
//!
//! Each segment head, journal slot and snapshot carries the id of its card.
//!
//! | ids found | owner |
//! |---|---|
//! | none | a new card id is drawn |
//! | only cards of other sites | none: the card is rejected ([`super::open::StorageFault::OtherSite`]) |
//! | a card in the journal and in at least one segment | that card, whatever most segments say |
//! | no card in both journal and segments | the card of most segments; of equal ones, the one recorded last |
//! | no segments | the card of the journal |
//!
//! Ids of other sites do not count if the site of the device is known. A card moved to another
//! board of the same site keeps its id. Parts of another card are never overwritten, sent or pinned:
//! a segment stays where it is; a journal or snapshot file is copied to `foreign-NNNNN.taimat`
//! before it is reused.

use std::collections::BTreeMap;

use super::disk::{Disk, DiskFault, FileId};
use crate::format::card_id::CardId;
use crate::units::{SiteId, WallTime};

/// Most copied files of other cards. Beyond it, foreign files stay as they are, and journal and
/// snapshots are kept in memory.
pub const KEPT_MAX: u32 = 16;
/// Bytes copied at a time.
const PIECE: u64 = 1 << 20;
/// Next step for a part of another card.
pub const NEXT: &str = "it is not listed, sent or overwritten; move it to a directory of its own and inspect it there with \
     taimat ring list and export";

/// Card ids found in the parts of a ring.
#[derive(Debug, Clone, Default)]
pub struct CardVotes {
    /// Cards named by the copies of the journal.
    pub journal: Vec<CardId>,
    /// Cards named by segments.
    pub segments: BTreeMap<CardId, SegmentVotes>,
}

/// The segments that name one card. Ordered by count, then by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentVotes {
    /// Number of segments.
    pub count: usize,
    /// Start of the newest of them.
    pub newest: WallTime,
}

impl CardVotes {
    /// Adds a segment of `card` that begins at `start`.
    pub fn add_segment(&mut self, card: CardId, start: WallTime) {
        let votes = self.segments.entry(card).or_insert(SegmentVotes { count: 0, newest: start });
        votes.count += 1;
        votes.newest = votes.newest.max(start);
    }

    /// True when no part carries an id.
    pub fn is_empty(&self) -> bool {
        self.journal.is_empty() && self.segments.is_empty()
    }

    /// The owner of the ring by the table above. `site` is the site of the device; `None` accepts
    /// every site.
    pub fn elect(&self, site: Option<&SiteId>) -> Option<CardId> {
        let journal: Vec<CardId> =
            self.journal.iter().copied().filter(|card| card.may_be_of(site)).collect();
        let segments = self.segments.iter().filter(|(card, _)| card.may_be_of(site));
        let most = |both: bool| {
            let candidates = segments.clone().filter(|(card, _)| !both || journal.contains(card));
            candidates.max_by_key(|(_, votes)| **votes).map(|(card, _)| *card)
        };
        most(true).or_else(|| most(false)).or(journal.first().copied())
    }
}

/// Copies the first `len` bytes of a file with parts of another card to a free name and flushes the copy. Returns the name.
///
/// # Errors
/// If there is no room, the card reports an error, or [`KEPT_MAX`] copies exist already.
pub fn keep(disk: &dyn Disk, file: FileId, len: u64) -> Result<String, DiskFault> {
    let files = disk.files()?;
    let free = (0..KEPT_MAX).map(FileId::Foreign).find(|kept| !files.contains_key(kept));
    let Some(kept) = free else {
        let reason =
            format!("{KEPT_MAX} files of other cards are already kept here: move them away");
        return Err(DiskFault { file: file.name(), what: "copy", offset: 0, reason, gone: false });
    };
    disk.create(kept, len)?;
    let mut at = 0;
    while at < len {
        let n = (len - at).min(PIECE);
        disk.write(kept, at, &disk.read(file, at, n as usize)?)?;
        at += n;
    }
    disk.sync(kept)?;
    Ok(kept.name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Digest;

    fn card(site: &str, drawn: u64) -> CardId {
        CardId::new(Some(&SiteId::parse(site).unwrap()), drawn)
    }

    #[test]
    fn card_id_bytes_are_fixed() {
        let card = card("km-17", 0x0102_0304_0506_0708);
        assert_eq!(card.bytes()[8..], [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(card.bytes()[..8], Digest::of(b"km-17").0[..8]);
        assert_eq!(CardId::read(&card.bytes()), Some(card));
        assert_eq!(CardId::new(None, 1).bytes()[..8], [0; 8]);
    }

    #[test]
    fn the_owner_is_elected_by_the_table() {
        let site = SiteId::parse("km-17").unwrap();
        let (ours, older, other) = (card("km-17", 1), card("km-17", 2), card("km-18", 3));
        let votes = |journal: &[CardId], segments: &[(CardId, usize)]| {
            let mut votes = CardVotes { journal: journal.to_vec(), ..CardVotes::default() };
            segments.iter().for_each(|(card, n)| {
                (0..*n).for_each(|_| votes.add_segment(*card, WallTime(card.drawn as i64)))
            });
            votes
        };
        let elect = |journal: &[CardId], segments: &[(CardId, usize)]| {
            votes(journal, segments).elect(Some(&site))
        };
        assert_eq!(elect(&[], &[]), None);
        assert_eq!(elect(&[other], &[(other, 5)]), None, "a card of another site");
        assert_eq!(
            votes(&[other], &[(other, 5)]).elect(None),
            Some(other),
            "a reader without a site accepts it"
        );
        assert_eq!(
            elect(&[ours], &[(ours, 1), (older, 5)]),
            Some(ours),
            "named by the journal and one segment"
        );
        assert_eq!(elect(&[older], &[(ours, 1)]), Some(ours), "a journal that no segment confirms");
        assert_eq!(elect(&[], &[(ours, 2), (older, 2)]), Some(older), "the one recorded last");
        assert_eq!(
            elect(&[older, ours], &[(ours, 2)]),
            Some(ours),
            "one copy of the journal names another card"
        );
        assert_eq!(elect(&[ours], &[(other, 9)]), Some(ours));
        assert_eq!(elect(&[other], &[(ours, 1), (other, 9)]), Some(ours));
    }
}
