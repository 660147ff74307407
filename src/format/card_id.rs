//! The name of a card: the site it belongs to and a number drawn when it was begun.

use crate::units::{Digest, SiteId};

/// Bytes of a card's name.
pub const CARD_ID: usize = 16;
/// The name of a card's recording: which site it is of, and a number drawn when it was begun.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CardId {
    site: [u8; 8],
    pub(crate) drawn: u64,
}

impl CardId {
    /// A new card of a site.
    pub fn new(site: Option<&SiteId>, drawn: u64) -> CardId {
        CardId { site: site_mark(site), drawn }
    }

    /// Its bytes on the card: the first 8 of SHA-256 of the site's name (zeros where none is known), then the number.
    pub fn bytes(self) -> [u8; CARD_ID] {
        let mut bytes = [0; CARD_ID];
        bytes[..8].copy_from_slice(&self.site);
        bytes[8..].copy_from_slice(&self.drawn.to_be_bytes());
        bytes
    }

    /// Reads what [`CardId::bytes`] gives; `None` where there are too few bytes.
    pub fn read(bytes: &[u8]) -> Option<CardId> {
        let (site, drawn) = bytes.get(..CARD_ID)?.split_at(8);
        Some(CardId { site: site.try_into().ok()?, drawn: u64::from_be_bytes(drawn.try_into().ok()?) })
    }

    /// True where it can be of this site: one of them does not say.
    pub fn may_be_of(self, site: Option<&SiteId>) -> bool {
        site.is_none() || self.site == [0; 8] || self.site == site_mark(site)
    }
}

impl std::fmt::Display for CardId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "card {:016x}", self.drawn)
    }
}

fn site_mark(site: Option<&SiteId>) -> [u8; 8] {
    let mut mark = [0; 8];
    if let Some(site) = site {
        mark.copy_from_slice(&Digest::of(site.as_str().as_bytes()).0[..8]);
    }
    mark
}
