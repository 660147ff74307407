//! Card in memory with a volatile cache: a write is sure to survive a power cut only after a flush.

use std::collections::VecDeque;

use taimat::sim::rng::Rng;

/// Bytes that a card writes atomically.
pub const SECTOR: usize = 512;

/// The card.
pub struct Card {
    /// Content that reads return.
    seen: Vec<u8>,
    /// Durable content.
    durable: Vec<u8>,
    /// Unflushed writes, oldest first.
    pending: VecDeque<(usize, Vec<u8>)>,
    /// Number of durable writes: the number of the first pending one.
    settled: u64,
    honest: bool,
}

/// Result of a power cut.
pub struct Wreck {
    pub image: Vec<u8>,
    /// Pending sectors, and the number that survived.
    pub pending: u64,
    pub kept: u64,
}

/// Choice of surviving sectors.
enum Fate {
    None,
    All,
    /// The sectors before this one.
    Prefix(u64),
    /// Each sector with this probability in %.
    Chance(u64),
}

impl Card {
    /// A card with the content `image`. Without `honest` it confirms flushes but flushes nothing.
    pub fn new(image: Vec<u8>, honest: bool) -> Card {
        Card { seen: image.clone(), durable: image, pending: VecDeque::new(), settled: 0, honest }
    }

    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// At most `len` bytes from `at` on; fewer at the end of the card.
    pub fn read(&self, at: usize, len: usize) -> &[u8] {
        let end = (at + len).min(self.len());
        &self.seen[at.min(end)..end]
    }

    pub fn write(&mut self, at: usize, bytes: &[u8]) {
        self.seen[at..at + bytes.len()].copy_from_slice(bytes);
        self.pending.push_back((at, bytes.to_vec()));
    }

    /// Number of writes so far, and of pending ones.
    pub fn writes(&self) -> (u64, u64) {
        let pending = self.pending.len() as u64;
        (self.settled + pending, pending)
    }

    pub fn pending_sectors(&self) -> u64 {
        self.pending.iter().map(|(_, bytes)| bytes.len().div_ceil(SECTOR) as u64).sum()
    }

    /// True while a segment head is pending: a new file gets its first one, or an old file is reused.
    pub fn has_pending_head(&self) -> bool {
        self.pending.iter().any(|(_, bytes)| bytes.get(4..8) == Some(b"ftyp"))
    }

    /// Makes the first `upto` writes durable.
    pub fn settle(&mut self, upto: u64) {
        while self.honest && self.settled < upto {
            let Some((at, bytes)) = self.pending.pop_front() else { return };
            self.durable[at..at + bytes.len()].copy_from_slice(&bytes);
            self.settled += 1;
        }
    }

    /// Cuts the power and returns the content of the card.
    pub fn cut(&self, random: &mut Rng) -> Wreck {
        let fate = match random.below(6) {
            0 => Fate::None,
            1 => Fate::All,
            2 => Fate::Prefix(random.below(self.pending_sectors() + 1)),
            _ => Fate::Chance([5, 50, 95][random.below(3) as usize]),
        };
        let mut wreck = Wreck { image: self.durable.clone(), pending: 0, kept: 0 };
        for (at, bytes) in &self.pending {
            for (index, sector) in bytes.chunks(SECTOR).enumerate() {
                let survives = match fate {
                    Fate::None => false,
                    Fate::All => true,
                    Fate::Prefix(end) => wreck.pending < end,
                    Fate::Chance(percent) => random.below(100) < percent,
                };
                wreck.pending += 1;
                if survives {
                    let at = at + index * SECTOR;
                    wreck.image[at..at + sector.len()].copy_from_slice(sector);
                    wreck.kept += 1;
                }
            }
        }
        wreck
    }
}

#[test]
fn a_write_is_seen_at_once_and_is_sure_only_after_a_flush() {
    let mut card = Card::new(vec![0; 8 * SECTOR], true);
    card.write(SECTOR, &[1; SECTOR]);
    let before = card.writes().0;
    card.write(2 * SECTOR, &[2; SECTOR]);
    assert_eq!(card.read(SECTOR, 2 * SECTOR), [[1; SECTOR], [2; SECTOR]].concat());
    card.settle(before);
    let survived = |random: &mut Rng| card.cut(random).image[2 * SECTOR] == 2;
    let mut random = Rng::new(1);
    assert!((0..100).all(|_| card.cut(&mut random).image[SECTOR] == 1), "a flushed write was lost");
    let kept = (0..100).filter(|_| survived(&mut random)).count();
    assert!((10..90).contains(&kept), "a pending write survived {kept} of 100 cuts");
}

#[test]
fn a_cut_keeps_sectors_whole_and_their_order() {
    let mut card = Card::new(vec![0; 64 * SECTOR], true);
    card.write(0, &[1; 64 * SECTOR]);
    card.write(0, &[2; 64 * SECTOR]);
    let mut random = Rng::new(2);
    let (mut torn, mut whole) = (0, 0);
    for _ in 0..100 {
        let wreck = card.cut(&mut random);
        let sectors: Vec<&[u8]> = wreck.image.chunks(SECTOR).collect();
        assert!(
            sectors.iter().all(|sector| sector.iter().all(|byte| *byte == sector[0])),
            "a sector was torn"
        );
        let distinct: std::collections::BTreeSet<u8> =
            sectors.iter().map(|sector| sector[0]).collect();
        torn += u32::from(distinct.len() > 1);
        whole += u32::from(distinct.len() == 1);
        assert!(
            wreck.kept < wreck.pending || distinct == [2].into(),
            "an older write covers a newer one"
        );
    }
    assert!(torn > 20 && whole > 10, "{torn} torn, {whole} whole");
}

#[test]
fn a_card_that_lies_flushes_nothing() {
    let mut card = Card::new(vec![0; SECTOR], false);
    card.write(0, &[1; SECTOR]);
    card.settle(1);
    let mut random = Rng::new(3);
    assert!((0..100).any(|_| card.cut(&mut random).image[0] == 0));
}
