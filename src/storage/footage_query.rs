//! Finding footage by time or number, over all segments.
//!
//! What belongs here: from a query to a span. What does not: waiting for footage that is not yet durable ([`super::engine`]).

use std::sync::Arc;

use super::clock_history::ClockHistory;
use super::disk::{Disk, DiskFault};
use super::scan::{ScanDepth, ScanItem, walk_past};
use super::segment_index::Index;
use super::{FragmentRef, Gap, GapReason, Span, SpanQuery};
use crate::camera::TrackParams;
use crate::format::record::RingRecord;
use crate::format::segment_head::{Segment, SegmentHead};
use crate::units::{Boot, Digest, MonoTime, Timestamp, WallTime};

/// Footage and gaps in the order of their numbers.
enum Piece {
    Fragment(Box<FragmentRef>),
    Hole(u64, Gap),
    /// Records that cannot be read: first and last.
    Damage(u64, u64, Gap),
}

impl Piece {
    fn damage(first: u64, last: u64, from: Timestamp, to: Timestamp, reason: GapReason) -> Piece {
        Piece::Damage(first, last, Gap { from, to, reason, bytes: 0 })
    }

    /// The start that footage was recorded in.
    fn boot(&self) -> Option<Boot> {
        match self {
            Piece::Fragment(fragment) => Some(fragment.boot),
            Piece::Hole(..) | Piece::Damage(..) => None,
        }
    }

    fn seq(&self) -> u64 {
        match self {
            Piece::Fragment(fragment) => fragment.seq,
            Piece::Hole(seq, _) | Piece::Damage(seq, ..) => *seq,
        }
    }
}

/// The footage a query means: one file's worth, starting on a key frame.
/// What the card refuses to read is damage.
///
/// # Errors
/// None today: a card that cannot be read at all gives gaps.
pub fn locate(disk: &dyn Disk, index: &Index, newest: u64, query: &SpanQuery) -> Result<Option<Span>, DiskFault> {
    let (mut pieces, tracks) = pieces(disk, index, newest, query);
    let Some((first, last)) = stretch(&pieces, query) else {
        return Ok(None);
    };
    let Piece::Fragment(start) = &pieces[first] else {
        return Ok(None);
    };
    let layout = start.layout;
    let fits = |piece: &Piece| !matches!(piece, Piece::Fragment(fragment) if fragment.layout != layout);
    let end = (first..=last).take_while(|at| fits(&pieces[*at])).last().unwrap_or(first);
    let more = pieces[end + 1..].iter().any(|piece| matches!(piece, Piece::Fragment(f) if matches_query(f, query)));
    let tracks = tracks.into_iter().find(|(of, _)| *of == layout).map(|(_, tracks)| tracks).unwrap_or_default();
    let mut span = Span { tracks, more, ..Span::default() };
    let (first, end) = beside(&pieces, (first, end), query, more);
    for piece in pieces.drain(first..=end) {
        match piece {
            Piece::Fragment(fragment) => span.fragments.push(*fragment),
            Piece::Hole(_, gap) => span.gaps.push(gap),
            Piece::Damage(first, last, gap) => {
                span.gaps.push(gap);
                span.damaged.push((first, last));
            }
        }
    }
    Ok(Some(span))
}

/// Why there is nothing of a query: a span without footage whose gaps say what became of it. `None` when nothing was recorded then, as
/// far as the ring knows.
pub(super) fn nothing(disk: &dyn Disk, index: &Index, newest: u64, query: &SpanQuery) -> Option<Span> {
    let asked = |seq: (u64, u64), gap: &Gap| match *query {
        SpanQuery::Wall { from, to, .. } => gap.to.wall > from && gap.from.wall <= to,
        SpanQuery::Mono { from, to, .. } => gap.to.mono > from && gap.from.mono <= to,
        SpanQuery::Seq { first, last } => seq.0 <= last && seq.1 >= first,
    };
    let mut span = Span { gaps: evicted(index, query).into_iter().collect(), ..Span::default() };
    for piece in pieces(disk, index, newest, query).0 {
        match piece {
            Piece::Hole(seq, gap) if asked((seq, seq), &gap) => span.gaps.push(gap),
            Piece::Damage(first, last, gap) if asked((first, last), &gap) => {
                span.gaps.push(gap);
                span.damaged.push((first, last));
            }
            Piece::Fragment(_) | Piece::Hole(..) | Piece::Damage(..) => {}
        }
    }
    (!span.gaps.is_empty()).then_some(span)
}

/// What of a query lies before the oldest footage of a ring that has evicted some.
fn evicted(index: &Index, query: &SpanQuery) -> Option<Gap> {
    let head = index.live().first().map(|segment| &segment.head).filter(|head| head.first_seq > 1)?;
    let oldest = index.clock_history.date(head.boot, head.start);
    let (from, to) = match *query {
        SpanQuery::Wall { from, to, .. } if from < oldest.wall => {
            (Timestamp { wall: from, ..oldest }, Timestamp { wall: to.min(oldest.wall), ..oldest })
        }
        SpanQuery::Mono { boot, from, to, .. } if boot < head.boot || boot == head.boot && from < oldest.mono => {
            let to = if boot == head.boot { to.min(oldest.mono) } else { to };
            let at = |mono| {
                let wall = WallTime(oldest.wall.0.saturating_sub(oldest.mono.0.saturating_sub(mono).min(i64::MAX as u64) as i64));
                index.clock_history.date(boot, Timestamp { mono: MonoTime(mono), wall, ..Timestamp::default() })
            };
            (at(from.0), at(to.0))
        }
        SpanQuery::Seq { first, .. } if first < head.first_seq => (oldest, oldest),
        _ => return None,
    };
    Some(Gap { from, to, reason: GapReason::EvictedPinned, bytes: 0 })
}

/// Tracks by their layout.
type Tracks = Vec<(Digest, Vec<Arc<TrackParams>>)>;

/// Footage and gaps of the segments that a query may touch, and the tracks of these.
fn pieces(disk: &dyn Disk, index: &Index, newest: u64, query: &SpanQuery) -> (Vec<Piece>, Tracks) {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut tracks = Vec::new();
    for at in candidates(index, newest, query) {
        let segment = &index.live()[at];
        // A segment dropped after a failed flush may hold a record that was written again elsewhere.
        let last = index.last_seq(at, newest);
        let mut end = index.clock_history.date(segment.head.boot, segment.head.start);
        let mut hole: Option<(u64, u64)> = None;
        let walked = walk_past(disk, segment, ScanDepth::Records);
        for found in &walked.found {
            match found {
                ScanItem::Record(offset, record) if record.seq <= last => {
                    let before = pieces.iter().rev().find_map(Piece::boot).unwrap_or(record.boot);
                    let begin = index.clock_history.date(record.boot, record.start);
                    pieces.extend(hole.take().map(|(first, last)| Piece::damage(first, last, end, begin, GapReason::Damaged)));
                    pieces.extend(piece(&index.clock_history, segment, *offset, record, before));
                    end = index.clock_history.date(record.boot, record.end());
                }
                ScanItem::Record(..) => {}
                ScanItem::Damaged { first, last, .. } => hole = Some((*first, *last)),
            }
        }
        // Damage up to the end of a file: the next one, begun right behind it, says how far its numbers went.
        let next = index.live().get(at + 1).filter(|next| next.head.lap == segment.head.lap + 1 && walked.next_seq <= last);
        if let Some(next) = next {
            let begin = index.clock_history.date(next.head.boot, next.head.start);
            pieces.push(Piece::damage(walked.next_seq, last, end, begin, GapReason::Damaged));
        } else {
            pieces.extend(lost_behind(index, at, walked.next_seq, end));
        }
        tracks.push((segment.layout, segment.head.tracks.clone()));
    }
    pieces.retain(|piece| piece.seq() > after(query));
    (pieces, tracks)
}

/// What is in no file between a segment and the next: from the end of its footage to the head of the next.
fn lost_behind(index: &Index, at: usize, from_seq: u64, end: Timestamp) -> Vec<Piece> {
    let next = index.live().get(at + 1);
    let to_seq = next.map_or(u64::MAX, |next| next.head.first_seq.saturating_sub(1));
    let begin = next.map_or(end, |next| index.clock_history.date(next.head.boot, next.head.start));
    let between = |(first, last): &(u64, u64)| (from_seq.max(*first), to_seq.min(*last));
    let lost = index.lost.list().iter().map(between).filter(|(first, last)| first <= last);
    lost.map(|(first, last)| Piece::damage(first, last, end, begin, GapReason::Missing)).collect()
}

/// Damage right beside a stretch that takes some of what was asked for: before it and behind it.
fn beside(pieces: &[Piece], (first, last): (usize, usize), query: &SpanQuery, more: bool) -> (usize, usize) {
    let (mut begin, mut end) = (first, last);
    let wanted = |piece: &Piece| match (piece, query) {
        (Piece::Damage(.., gap), SpanQuery::Wall { from, to, .. }) => gap.to.wall > *from && gap.from.wall <= *to,
        (Piece::Damage(.., gap), SpanQuery::Mono { from, to, .. }) => gap.to.mono > *from && gap.from.mono <= *to,
        _ => false,
    };
    while begin > 0 && wanted(&pieces[begin - 1]) {
        begin -= 1;
    }
    while !more && pieces.get(end + 1).is_some_and(wanted) {
        end += 1;
    }
    (begin, end)
}

/// A record as its times are understood now; `before` is the start of the footage in front of it.
fn piece(clock_history: &ClockHistory, segment: &Segment, offset: u64, record: &RingRecord, before: Boot) -> Option<Piece> {
    match record.gap() {
        Some(gap) => Some(Piece::Hole(record.seq, clock_history.date_gap(&gap, before, record.boot))),
        None => {
            let fragment = record.fragment(segment, offset)?;
            let start = clock_history.date(fragment.boot, fragment.start);
            Some(Piece::Fragment(Box::new(FragmentRef { start, ..fragment })))
        }
    }
}

fn after(query: &SpanQuery) -> u64 {
    match query {
        SpanQuery::Mono { after, .. } | SpanQuery::Wall { after, .. } => *after,
        SpanQuery::Seq { .. } => 0,
    }
}

fn matches_query(fragment: &FragmentRef, query: &SpanQuery) -> bool {
    let end = fragment.end();
    match *query {
        SpanQuery::Mono { boot, from, to, .. } => fragment.boot == boot && fragment.start.mono <= to && end.mono > from,
        SpanQuery::Wall { from, to, .. } => fragment.start.wall <= to && end.wall > from,
        SpanQuery::Seq { first, last } => (first..=last).contains(&fragment.seq),
    }
}

/// The first unbroken stretch of matches, from the key frame at or before its first. A gap does not break it; footage of
/// another time between two matches (the clock was set back) does.
fn stretch(pieces: &[Piece], query: &SpanQuery) -> Option<(usize, usize)> {
    let matches = |at: &usize| matches!(&pieces[*at], Piece::Fragment(f) if matches_query(f, query));
    let hit = (0..pieces.len()).find(matches)?;
    let mut last = hit;
    for (at, piece) in pieces.iter().enumerate().skip(hit + 1) {
        match piece {
            Piece::Fragment(_) if matches(&at) => last = at,
            Piece::Fragment(_) => break,
            Piece::Hole(..) | Piece::Damage(..) => {}
        }
    }
    if matches!(query, SpanQuery::Seq { .. }) {
        return Some((hit, last));
    }
    let key = |at: &usize| matches!(&pieces[*at], Piece::Fragment(f) if f.key);
    let before = (0..=hit).rev().find(key);
    // Behind damage what is left is left, whether it can be decoded or not.
    let behind_damage = hit.checked_sub(1).is_some_and(|at| matches!(pieces[at], Piece::Damage(..)));
    let begin = before.or_else(|| behind_damage.then_some(hit));
    // Without a key frame before it the pictures cannot be decoded: begin at the first one inside.
    Some((begin.or_else(|| (hit..=last).find(key))?, last))
}

/// The segments a query may touch, with one neighbour before for the key frame. Wall clocks may have jumped between two
/// segments, so each is taken to span from its own start to the next one's in either direction.
fn candidates(index: &Index, newest: u64, query: &SpanQuery) -> std::ops::Range<usize> {
    let live = index.live();
    let touches = |at: usize| {
        let start = live[at].head.as_ref();
        let next = live.get(at + 1).map(|next| next.head.as_ref());
        match *query {
            SpanQuery::Seq { first, last } => start.first_seq <= last && index.last_seq(at, newest) >= first,
            SpanQuery::Mono { boot, from, to, .. } => {
                start.boot <= boot
                    && (start.boot < boot || start.start.mono <= to)
                    && next.is_none_or(|next| next.boot > boot || next.boot == boot && next.start.mono >= from)
            }
            SpanQuery::Wall { from, to, .. } => {
                let wall = |head: &SegmentHead| index.clock_history.date(head.boot, head.start).wall;
                let (begin, end) = (wall(start), next.map_or(WallTime(i64::MAX), wall));
                begin.min(end) <= to && begin.max(end) >= from
            }
        }
    };
    let hits: Vec<usize> = (0..live.len()).filter(|at| touches(*at)).collect();
    match (hits.first(), hits.last()) {
        (Some(first), Some(last)) => first.saturating_sub(1)..last + 1,
        _ => 0..0,
    }
}
