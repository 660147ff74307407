//! Copy-on-write card images, and the states in which a power cut may leave their sectors.
//!
//! A copy costs a few pointers, so millions of power cuts can be tried.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::rng::mix;
use crate::storage::disk::FileId;

/// Bytes that a card writes atomically.
pub const SECTOR: usize = 512;
/// Bytes that a card may tear as one unit; the unit of sharing.
pub const PAGE: usize = 4096;
/// Erase block of a card, bytes: a power cut during its rewrite may destroy all of it.
const ERASE: usize = 4 << 20;
/// Erase block for segments of tiny rings, which are smaller than a real one.
const ERASE_TINY: usize = 8 << 10;

type Page = [u8; PAGE];

/// Pages of one file; `None` is a page of zeros.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pages {
    len: usize,
    pages: Vec<Option<Arc<Page>>>,
}

/// All files of a card.
#[derive(Debug, Clone, Default)]
pub struct CowImage {
    files: BTreeMap<FileId, Arc<Pages>>,
    hash: u64,
}

/// A write that is not yet flushed.
#[derive(Debug, Clone)]
pub struct Pending {
    /// File.
    pub file: FileId,
    /// Offset in the file, bytes.
    pub offset: usize,
    /// Content.
    pub bytes: Arc<[u8]>,
}

impl Pages {
    /// Appends `len` bytes from offset `at` to `out`; false past the end.
    pub fn read(&self, at: usize, out: &mut Vec<u8>, len: usize) -> bool {
        if at + len > self.len {
            return false;
        }
        out.reserve(len);
        let mut from = at;
        while from < at + len {
            let within = from % PAGE;
            let n = (PAGE - within).min(at + len - from);
            match &self.pages[from / PAGE] {
                Some(page) => out.extend_from_slice(&page[within..within + n]),
                None => out.resize(out.len() + n, 0),
            }
            from += n;
        }
        true
    }

    /// The whole file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.read(0, &mut out, self.len);
        out
    }
}

impl CowImage {
    /// Files and their lengths.
    pub fn lengths(&self) -> BTreeMap<FileId, u64> {
        self.files.iter().map(|(file, pages)| (*file, pages.len as u64)).collect()
    }

    /// One file.
    #[cfg(test)]
    pub fn file(&self, file: FileId) -> Option<&Arc<Pages>> {
        self.files.get(&file)
    }

    /// All files.
    pub fn files(&self) -> impl Iterator<Item = (FileId, &Arc<Pages>)> {
        self.files.iter().map(|(file, pages)| (*file, pages))
    }

    /// Creates a file of zeros.
    pub fn create(&mut self, file: FileId, len: u64) {
        self.remove(file);
        let len = len as usize;
        self.files.insert(file, Arc::new(Pages { len, pages: vec![None; len.div_ceil(PAGE)] }));
        self.hash ^= mix(name_of(file) ^ len as u64);
    }

    /// Removes a file.
    pub fn remove(&mut self, file: FileId) {
        if let Some(pages) = self.files.remove(&file) {
            self.hash ^= file_hash(file, &pages);
        }
    }

    /// Exchanges the names of two files, as a bad repair of the file system may do.
    pub fn exchange(&mut self, one: FileId, other: FileId) {
        let (first, second) = (self.files.get(&one).cloned(), self.files.get(&other).cloned());
        for (file, pages) in [(one, second), (other, first)] {
            self.remove(file);
            if let Some(pages) = pages {
                self.hash ^= file_hash(file, &pages);
                self.files.insert(file, pages);
            }
        }
    }

    /// Copies a file from another card.
    pub fn take_from(&mut self, other: &CowImage, file: FileId) {
        match (self.files.get(&file), other.files.get(&file)) {
            (Some(mine), Some(other)) if Arc::ptr_eq(mine, other) => {}
            (_, Some(other)) => {
                self.remove(file);
                self.hash ^= file_hash(file, other);
                self.files.insert(file, other.clone());
            }
            (_, None) => {}
        }
    }

    /// Length of a file; 0 if it does not exist.
    pub fn len(&self, file: FileId) -> usize {
        self.files.get(&file).map_or(0, |pages| pages.len)
    }

    /// Reads bytes; `None` past the end of the file.
    pub fn read(&self, file: FileId, at: usize, len: usize) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        self.files.get(&file)?.read(at, &mut out, len).then_some(out)
    }

    /// Writes bytes inside the file; does nothing past its end.
    pub fn write(&mut self, file: FileId, at: usize, bytes: &[u8]) {
        let Some(pages) = self.files.get_mut(&file).filter(|pages| at + bytes.len() <= pages.len)
        else {
            return;
        };
        let pages = Arc::make_mut(pages);
        let mut done = 0;
        while done < bytes.len() {
            let (from, within) = (at + done, (at + done) % SECTOR);
            let n = (SECTOR - within).min(bytes.len() - done);
            let page = pages.pages[from / PAGE].get_or_insert_with(|| Arc::new([0; PAGE]));
            let target = from % PAGE..from % PAGE + n;
            if page[target.clone()] != bytes[done..done + n] {
                let page = Arc::make_mut(page);
                let sector = from % PAGE - within..from % PAGE - within + SECTOR;
                self.hash ^= sector_hash(file, from - within, &page[sector.clone()]);
                page[target].copy_from_slice(&bytes[done..done + n]);
                self.hash ^= sector_hash(file, from - within, &page[sector]);
            }
            done += n;
        }
    }

    /// Fills whole pages with `page`.
    pub fn spoil(&mut self, file: FileId, range: std::ops::Range<usize>, page: &Arc<Page>) {
        let Some(pages) = self.files.get_mut(&file) else {
            return;
        };
        let pages = Arc::make_mut(pages);
        for n in range.start / PAGE..range.end.min(pages.len) / PAGE {
            pages.pages[n] = Some(page.clone());
            self.hash = mix(self.hash ^ n as u64 ^ u64::from(page[0]) << 32);
        }
    }

    /// Hash of all files.
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

fn name_of(file: FileId) -> u64 {
    match file {
        FileId::Segment(n) => u64::from(n) << 40,
        FileId::Journal => u64::MAX << 40,
        FileId::Snapshots => (u64::MAX - 1) << 40,
        FileId::Foreign(n) => ((u64::MAX - 2) << 40) ^ u64::from(n),
    }
}

fn file_hash(file: FileId, pages: &Pages) -> u64 {
    let sectors = pages.pages.iter().enumerate().flat_map(|(n, page)| {
        page.iter()
            .flat_map(|page| page.chunks(SECTOR))
            .enumerate()
            .map(move |(k, sector)| (n * PAGE + k * SECTOR, sector))
    });
    sectors.fold(mix(name_of(file) ^ pages.len as u64), |hash, (at, sector)| {
        hash ^ sector_hash(file, at, sector)
    })
}

/// Zeros hash to 0, so a new file needs no hashing.
fn sector_hash(file: FileId, at: usize, sector: &[u8]) -> u64 {
    let (words, _) = sector.as_chunks::<8>();
    let content = words.iter().fold(0_u64, |hash, word| {
        (hash.rotate_left(5) ^ u64::from_le_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    });
    if content == 0 { 0 } else { mix(content ^ mix(name_of(file) ^ at as u64)) }
}

/// Range of the erase block around an offset. With `beside`, both copies of the journal share one.
pub fn erase_block(file: FileId, at: usize, beside: bool) -> std::ops::Range<usize> {
    let size = match file {
        FileId::Segment(_) => ERASE_TINY,
        FileId::Journal if beside => 4 * ERASE,
        FileId::Journal | FileId::Snapshots | FileId::Foreign(_) => ERASE,
    };
    let start = at / size * size;
    start..start + size
}

/// The possible states after a power cut of each sector written since its last flush.
///
/// A sector holds its durable content or any version written since. These are all subsets of the
/// writes in all orders: the kernel never has two versions of a page in flight, and a card keeps
/// the order of writes to one sector. An older version survives only if the newer one did not
/// arrive. The order between different sectors has no effect.
#[derive(Debug, Default, Clone)]
pub struct Choices {
    /// File, offset, and the versions after the durable one.
    sectors: Vec<(FileId, usize, Vec<[u8; SECTOR]>)>,
}

impl Choices {
    /// The choices of `pending` over `durable`, without sectors that do not change.
    pub fn new(durable: &CowImage, pending: &[Pending]) -> Choices {
        let mut at: BTreeMap<(FileId, usize), Vec<[u8; SECTOR]>> = BTreeMap::new();
        for Pending { file, offset, bytes } in pending {
            let end = offset + bytes.len();
            for sector in (offset / SECTOR * SECTOR..end).step_by(SECTOR) {
                let versions = at.entry((*file, sector)).or_default();
                let old =
                    versions.last().copied().unwrap_or_else(|| sector_of(durable, *file, sector));
                let mut new = old;
                let (from, to) = ((*offset).max(sector), end.min(sector + SECTOR));
                new[from - sector..to - sector].copy_from_slice(&bytes[from - offset..to - offset]);
                if new != old {
                    versions.push(new);
                }
            }
        }
        let sectors = at.into_iter().filter(|(_, versions)| !versions.is_empty());
        Choices { sectors: sectors.map(|((file, at), versions)| (file, at, versions)).collect() }
    }

    /// Number of sectors with more than one possible state.
    pub fn len(&self) -> usize {
        self.sectors.len()
    }

    /// True if a power cut has only one outcome.
    pub fn is_empty(&self) -> bool {
        self.sectors.is_empty()
    }

    /// Number of outcomes, saturating.
    pub fn outcomes(&self) -> u64 {
        self.sectors
            .iter()
            .fold(1, |all, (_, _, versions)| all.saturating_mul(versions.len() as u64 + 1))
    }

    /// The outcome in which sector `i` has the state `pick(i, states)`; 0 is the durable one.
    pub fn apply(&self, durable: &CowImage, mut pick: impl FnMut(usize, u64) -> u64) -> CowImage {
        let mut card = durable.clone();
        for (i, (file, at, versions)) in self.sectors.iter().enumerate() {
            let state = pick(i, versions.len() as u64 + 1);
            if let Some(version) =
                (state as usize).checked_sub(1).and_then(|version| versions.get(version))
            {
                card.write(*file, *at, version);
            }
        }
        card
    }

    /// Outcome `number` of [`Choices::outcomes`].
    pub fn outcome(&self, durable: &CowImage, mut number: u64) -> CowImage {
        self.apply(durable, |_, states| {
            let state = number % states;
            number /= states;
            state
        })
    }
}

fn sector_of(card: &CowImage, file: FileId, at: usize) -> [u8; SECTOR] {
    let mut out = [0; SECTOR];
    let n = card.len(file).saturating_sub(at).min(SECTOR);
    if let Some(bytes) = card.read(file, at, n) {
        out[..n].copy_from_slice(&bytes);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(offset: usize, byte: u8, len: usize) -> Pending {
        Pending { file: FileId::Journal, offset, bytes: vec![byte; len].into() }
    }

    #[test]
    fn a_sector_written_twice_survives_as_any_of_its_three_states() {
        let mut card = CowImage::default();
        card.create(FileId::Journal, 8192);
        let choices =
            Choices::new(&card, &[pending(0, 1, 512), pending(0, 2, 512), pending(512, 3, 10)]);
        let seen: Vec<(u8, u8)> = (0..choices.outcomes())
            .map(|number| choices.outcome(&card, number).read(FileId::Journal, 0, 1024).unwrap())
            .map(|bytes| (bytes[0], bytes[512]))
            .collect();
        assert_eq!(seen, [(0, 0), (1, 0), (2, 0), (0, 3), (1, 3), (2, 3)]);
    }

    #[test]
    fn writing_what_is_there_already_is_no_choice() {
        let mut card = CowImage::default();
        card.create(FileId::Journal, 8192);
        card.write(FileId::Journal, 0, &[7; 512]);
        assert!(Choices::new(&card, &[pending(0, 7, 512), pending(4096, 0, 4096)]).is_empty());
    }

    #[test]
    fn copies_share_pages_and_equal_cards_have_equal_hashes() {
        let mut one = CowImage::default();
        one.create(FileId::Journal, 8192);
        let mut other = one.clone();
        one.write(FileId::Journal, 100, &[5; 600]);
        assert_ne!(one.hash(), other.hash());
        assert_eq!(other.read(FileId::Journal, 100, 1).unwrap(), [0]);
        other.write(FileId::Journal, 100, &[9; 600]);
        other.write(FileId::Journal, 100, &[5; 600]);
        assert_eq!(one.hash(), other.hash());
    }
}
