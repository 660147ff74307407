//! Card id: the site of a card and a random number drawn when the card was first used.

use crate::units::{Digest, SiteId};

/// Bytes of a card id.
pub const CARD_ID: usize = 16;
/// Identifies the recording on a card: digest of the site id, and a random number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CardId {
    site: [u8; 8],
    pub(crate) drawn: u64,
}

impl CardId {
    /// The id of a new card of `site`, with a random number `drawn`.
    pub fn new(site: Option<&SiteId>, drawn: u64) -> CardId {
        CardId { site: site_mark(site), drawn }
    }

    /// Encodes the id: the first 8 bytes of SHA-256 of the site id (zeros if unknown), then the
    /// number.
    pub fn bytes(self) -> [u8; CARD_ID] {
        let mut bytes = [0; CARD_ID];
        bytes[..8].copy_from_slice(&self.site);
        bytes[8..].copy_from_slice(&self.drawn.to_be_bytes());
        bytes
    }

    /// Decodes [`CardId::bytes`]; `None` if there are too few bytes.
    pub fn read(bytes: &[u8]) -> Option<CardId> {
        let (site, drawn) = bytes.get(..CARD_ID)?.split_at(8);
        Some(CardId {
            site: site.try_into().ok()?,
            drawn: u64::from_be_bytes(drawn.try_into().ok()?),
        })
    }

    /// True when the card may belong to `site`: the sites are equal, or one is unknown.
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
