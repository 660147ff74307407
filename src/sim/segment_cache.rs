//! Cache of parsed segment files, valid while their pages are unchanged.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::cow_image::{CowImage, Pages};
use super::strict_reader::{Reading, read};
use crate::storage::disk::FileId;

/// Parsed segment files by name.
#[derive(Default)]
pub struct SegmentCache(BTreeMap<FileId, (Arc<Pages>, Arc<ParsedSegment>)>);

/// Bytes of a file and their parsed content.
pub struct ParsedSegment {
    pub(super) bytes: Vec<u8>,
    pub(super) reading: Reading,
}

impl SegmentCache {
    /// Parses the files of a card into the cache.
    pub fn learn(&mut self, card: &CowImage) {
        for (file, pages) in card.files().filter(|(file, _)| matches!(file, FileId::Segment(_))) {
            let seen = self.read(file, pages);
            self.0.insert(file, (pages.clone(), seen));
        }
    }

    fn read(&self, file: FileId, pages: &Arc<Pages>) -> Arc<ParsedSegment> {
        match self.0.get(&file) {
            Some((known, seen)) if Arc::ptr_eq(known, pages) => seen.clone(),
            _ => {
                let bytes = pages.bytes();
                let reading = read(&bytes);
                Arc::new(ParsedSegment { bytes, reading })
            }
        }
    }

    /// The segments with footage, oldest first.
    pub(super) fn with_footage(&self, card: &CowImage) -> Vec<(u32, Arc<ParsedSegment>)> {
        let mut segments: Vec<_> = self
            .segments(card)
            .into_iter()
            .filter(|(_, seen)| seen.reading.head.is_some())
            .collect();
        segments.sort_by_key(|(_, seen)| {
            seen.reading.head.as_ref().map(|head| (head.first_seq, head.lap))
        });
        segments
    }

    pub(super) fn segments(&self, card: &CowImage) -> BTreeMap<u32, Arc<ParsedSegment>> {
        let segment = |(file, pages): (FileId, &Arc<Pages>)| match file {
            FileId::Segment(n) => Some((n, self.read(file, pages))),
            _ => None,
        };
        card.files().filter_map(segment).collect()
    }
}
