//! Order of a ring's records: numbers, links, and time without silent gaps.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::cow_image::CowImage;
use super::segment_cache::{ParsedSegment, SegmentCache};
use super::strict_reader::SegmentAt;
use super::violation::Violation;
use crate::format::segment_head::SegmentHead;

/// Longest distance of two fragments without a gap, microseconds: a picture, two reordered
/// pictures,
/// and rounding. Outages of the workload are longer.
const NO_HOLE: i64 = 140_000;

/// The records in order; of two with one number, the one in the later segment. In the `damaged`
/// files the records behind the damage count, too.
pub(super) fn present_records<'a>(
    segments: &'a [(u32, Arc<ParsedSegment>)],
    damaged: &BTreeSet<u32>,
) -> Vec<(usize, &'a SegmentAt)> {
    let mut present = Vec::new();
    for (at, (file, seen)) in segments.iter().enumerate() {
        let next = segments.get(at + 1).and_then(|(_, seen)| seen.reading.head.as_ref());
        let next = next.map_or(u64::MAX, |head| head.first_seq);
        let behind = seen.reading.behind.iter().filter(|_| damaged.contains(file));
        let records = seen.reading.records.iter().chain(behind);
        present.extend(records.filter(|lies| lies.seq < next).map(|lies| (at, lies)));
    }
    present
}

/// Checks that numbers rise, and that each record has the digest of the one before if that is
/// present.
pub(super) fn in_order(
    segments: &[(u32, Arc<ParsedSegment>)],
    present: &[(usize, &SegmentAt)],
) -> Result<(), Violation> {
    for pair in present.windows(2) {
        let ((_, before), (at, after)) = (pair[0], pair[1]);
        let follows = after.seq > before.seq
            && (after.seq > before.seq + 1 || after.links.0 == before.links.1);
        if !follows {
            let file = segments[at].0;
            return Err(Violation::Order(format!(
                "record {} in segment {file} does not follow record {}",
                after.seq, before.seq
            )));
        }
    }
    Ok(())
}

/// Checks that footage, gap records and evictions cover all time.
pub(super) fn no_silent_gap(
    evicted: &[(i64, i64)],
    present: &[(usize, &SegmentAt)],
) -> Result<(), Violation> {
    let mut spans = evicted.to_vec();
    spans.extend(present.iter().map(|(_, lies)| (lies.span.0.wall.0, lies.span.1.wall.0)));
    spans.sort_unstable();
    let mut reach = spans.first().map_or(0, |(from, _)| *from);
    for (from, to) in spans {
        if from > reach + NO_HOLE {
            return Err(Violation::Unnamed(format!("{} ms before {from}", (from - reach) / 1000)));
        }
        reach = reach.max(to);
    }
    Ok(())
}

/// Adds a span of time to merged ones.
pub(super) fn join(spans: &mut Vec<(i64, i64)>, span: (i64, i64)) {
    spans.push(span);
    spans.sort_unstable();
    let mut joined: Vec<(i64, i64)> = Vec::new();
    for (from, to) in spans.drain(..) {
        match joined.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => joined.push((from, to)),
        }
    }
    *spans = joined;
}

/// True if the newest head on the card lists the records of this file as present.
pub fn is_expected(card: &CowImage, file: u32) -> bool {
    let segments = SegmentCache::default().with_footage(card);
    let head =
        |(of, seen): &(u32, Arc<ParsedSegment>)| seen.reading.head.clone().map(|head| (*of, head));
    let heads: Vec<(u32, SegmentHead)> = segments.iter().filter_map(head).collect();
    let first = heads.iter().find(|(of, _)| *of == file).map(|(_, head)| head.first_seq);
    // Records of a refused flush were written again in another file.
    if heads.iter().any(|(of, head)| *of != file && Some(head.first_seq) == first) {
        return false;
    }
    let newest = heads.last().map(|(_, head)| &head.inventory.present);
    let present = |first: u64, list: &Vec<(u64, u64)>| {
        list.iter().any(|(from, to)| (*from..=*to).contains(&first))
    };
    first.zip(newest).is_some_and(|(first, list)| present(first, list))
}
