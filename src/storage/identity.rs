//! Whose parts lie in a ring's directory. Every part names its card: each head, each slot of the journal, each snapshot.
//!
//! | the parts say | taken as ours |
//! |---|---|
//! | nothing | a new card is named |
//! | only cards of other sites | nothing: the card is refused ([`super::open::StorageFault::OtherSite`]) |
//! | a card that the journal and at least one segment name | that one, whatever most segments say |
//! | journal and segments disagree altogether | what most segments say; of two with as many, the one recorded last |
//! | no segment is there | what the journal says |
//!
//! Where the device's site is known, parts of another site have no voice. A card that was moved to another board of the same site names
//! the same site, so it goes on. A part of another card never takes a place, is never sent, never pinned and never written over: a
//! segment stays where it lies, a journal or snapshots are kept under the name `foreign-NNNNN.taimat` before they are used again.
//!
//! What belongs here: that choice, and keeping a foreign file. What does not: reading what parts say ([`super::head_selection`], [`super::journal`]).

use std::collections::BTreeMap;

use super::disk::{Disk, DiskFault, FileId};
use crate::format::card_id::CardId;
use crate::units::{SiteId, WallTime};

/// Files of other cards that are kept at most: what is beyond it stays where it lies, and journal and snapshots go to memory.
pub const KEPT_MAX: u32 = 16;
/// Bytes copied at a time.
const PIECE: u64 = 1 << 20;
/// What to do about a part of another card.
pub const NEXT: &str = "neither listed, sent nor written over; move it to a directory of its own, look there with taimat ring list and \
     export, then take it away from here";

/// What the parts of a ring say of their card.
#[derive(Debug, Clone, Default)]
pub struct Voices {
    /// Cards that the copies of the journal name.
    pub journal: Vec<CardId>,
    /// Cards that segments name: how many, and the begin of the newest.
    pub segments: BTreeMap<CardId, (usize, WallTime)>,
}

impl Voices {
    /// A segment that begins at `open` names a card.
    pub fn segment(&mut self, card: CardId, start: WallTime) {
        let voice = self.segments.entry(card).or_insert((0, start));
        *voice = (voice.0 + 1, voice.1.max(start));
    }

    /// True when no part says anything.
    pub fn is_silent(&self) -> bool {
        self.journal.is_empty() && self.segments.is_empty()
    }

    /// The card that is ours, for a device of `site`, or for whoever looks; see the table above.
    pub fn agree(&self, site: Option<&SiteId>) -> Option<CardId> {
        let journal: Vec<CardId> = self.journal.iter().copied().filter(|card| card.may_be_of(site)).collect();
        let segments = self.segments.iter().filter(|(card, _)| card.may_be_of(site));
        let most = |both: bool| {
            let heard = segments.clone().filter(|(card, _)| !both || journal.contains(card));
            heard.max_by_key(|(_, voice)| **voice).map(|(card, _)| *card)
        };
        most(true).or_else(|| most(false)).or(journal.first().copied())
    }
}

/// Copies the first `len` bytes of a file with parts of another card to a free name, flushed, before it is used again; gives that name.
///
/// # Errors
/// When there is no room, the card refuses, or [`KEPT_MAX`] files are kept already.
pub fn keep(disk: &dyn Disk, file: FileId, len: u64) -> Result<String, DiskFault> {
    let files = disk.files()?;
    let free = (0..KEPT_MAX).map(FileId::Foreign).find(|kept| !files.contains_key(kept));
    let Some(kept) = free else {
        let reason = format!("{KEPT_MAX} files of other cards are kept here already: take them away");
        return Err(DiskFault { file: file.name(), what: "copy", offset: 0, reason });
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
    fn the_bytes_of_a_card_s_name_are_pinned() {
        let card = card("km-17", 0x0102_0304_0506_0708);
        assert_eq!(card.bytes()[8..], [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(card.bytes()[..8], Digest::of(b"km-17").0[..8]);
        assert_eq!(CardId::read(&card.bytes()), Some(card));
        assert_eq!(CardId::new(None, 1).bytes()[..8], [0; 8]);
    }

    #[test]
    fn the_voices_agree_as_the_table_says() {
        let site = SiteId::parse("km-17").unwrap();
        let (ours, older, other) = (card("km-17", 1), card("km-17", 2), card("km-18", 3));
        let voices = |journal: &[CardId], segments: &[(CardId, usize)]| {
            let mut voices = Voices { journal: journal.to_vec(), ..Voices::default() };
            segments.iter().for_each(|(card, n)| (0..*n).for_each(|_| voices.segment(*card, WallTime(card.drawn as i64))));
            voices
        };
        let agree = |journal: &[CardId], segments: &[(CardId, usize)]| voices(journal, segments).agree(Some(&site));
        assert_eq!(agree(&[], &[]), None);
        assert_eq!(agree(&[other], &[(other, 5)]), None, "a card of another site");
        assert_eq!(voices(&[other], &[(other, 5)]).agree(None), Some(other), "whoever looks takes it as it is");
        assert_eq!(agree(&[ours], &[(ours, 1), (older, 5)]), Some(ours), "the journal and one segment");
        assert_eq!(agree(&[older], &[(ours, 1)]), Some(ours), "a journal that no segment knows");
        assert_eq!(agree(&[], &[(ours, 2), (older, 2)]), Some(older), "the one recorded last");
        assert_eq!(agree(&[older, ours], &[(ours, 2)]), Some(ours), "one copy of the journal is another's");
        assert_eq!(agree(&[ours], &[(other, 9)]), Some(ours));
        assert_eq!(agree(&[other], &[(ours, 1), (other, 9)]), Some(ours));
    }
}
