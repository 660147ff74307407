//! Segments of the reference model, as the strict reader finds them on a card.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::faulty_disk::FaultyDisk;
use super::strict_reader;
use crate::format::segment_head::head_digest;
use crate::storage::disk::FileId;
use crate::units::Digest;

/// A segment of the model.
pub(super) struct Held {
    pub(super) file: u32,
    pub(super) first: u64,
    pub(super) layout: Digest,
    /// Number, offset, bytes, and whether it is footage.
    pub(super) records: Vec<(u64, usize, Arc<[u8]>, bool)>,
}

/// The segments of a card, oldest first, and its files without footage.
pub(super) fn read_card(disk: &FaultyDisk) -> (Vec<Held>, BTreeSet<u32>) {
    let (mut heads, mut held, mut blank) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (file, pages) in disk.live().files() {
        let FileId::Segment(file) = file else { continue };
        let bytes = pages.bytes();
        let reading = strict_reader::read(&bytes);
        match reading.head {
            Some(head) => heads.push((head, file, reading.records, bytes)),
            None => _ = blank.insert(file),
        }
    }
    heads.sort_by_key(|(head, ..)| (head.first_seq, head.lap));
    for at in 0..heads.len() {
        let next = heads.get(at + 1).map_or(u64::MAX, |(head, ..)| head.first_seq);
        let (head, file, records, bytes) = &heads[at];
        let whole =
            |lies: &strict_reader::SegmentAt| bytes[lies.offset..lies.offset + lies.len].into();
        let counts = records.iter().filter(|lies| lies.seq < next);
        let records =
            counts.map(|lies| (lies.seq, lies.offset, whole(lies), lies.gap.is_none())).collect();
        held.push(Held {
            file: *file,
            first: head.first_seq,
            layout: head_digest(&head.tracks),
            records,
        });
    }
    (held, blank)
}
