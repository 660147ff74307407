//! Finding footage by time or number, over all segments.
//!
//! What belongs here: from a query to a span. What does not: waiting for footage that is not yet durable ([`super::engine`]).

use super::dates::Dates;
use super::disk::{Disk, DiskFault};
use super::format::{Record, SegmentHead};
use super::index::{Index, Segment};
use super::walk::{Depth, Found, walk};
use super::{FragmentRef, Gap, Span, SpanQuery};
use crate::units::{Boot, Wall};

/// Footage and holes in the order of their numbers.
enum Piece {
    Fragment(Box<FragmentRef>),
    Hole(u64, Gap),
}

impl Piece {
    /// The start that footage was recorded in.
    fn boot(&self) -> Option<Boot> {
        match self {
            Piece::Fragment(fragment) => Some(fragment.boot),
            Piece::Hole(..) => None,
        }
    }

    fn seq(&self) -> u64 {
        match self {
            Piece::Fragment(fragment) => fragment.seq,
            Piece::Hole(seq, _) => *seq,
        }
    }
}

/// The footage a query means: one file's worth, starting on a key frame.
///
/// # Errors
/// When the card refuses to read.
pub fn locate(disk: &dyn Disk, index: &Index, newest: u64, query: &SpanQuery) -> Result<Option<Span>, DiskFault> {
    let wanted = candidates(index, newest, query);
    let mut pieces: Vec<Piece> = Vec::new();
    let mut tracks = Vec::new();
    for at in wanted {
        let segment = &index.live()[at];
        // A segment given up after a failed flush may hold a record that was written again elsewhere.
        let last = index.last_seq(at, newest);
        for found in walk(disk, segment, Depth::Records)?.found {
            if let Found::Record(offset, record) = found
                && record.seq <= last
            {
                let before = pieces.iter().rev().find_map(Piece::boot).unwrap_or(record.boot);
                pieces.extend(piece(&index.dates, segment, offset, &record, before));
            }
        }
        tracks.push((segment.layout, segment.head.tracks.clone()));
    }
    pieces.retain(|piece| piece.seq() > after(query));
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
    let mut span = Span { fragments: Vec::new(), tracks: Vec::new(), gaps: Vec::new(), more };
    span.tracks = tracks.into_iter().find(|(of, _)| *of == layout).map(|(_, tracks)| tracks).unwrap_or_default();
    for piece in pieces.drain(first..=end) {
        match piece {
            Piece::Fragment(fragment) => span.fragments.push(*fragment),
            Piece::Hole(_, gap) => span.gaps.push(gap),
        }
    }
    Ok(Some(span))
}

/// A record as its times are understood now; `before` is the start of the footage in front of it.
fn piece(dates: &Dates, segment: &Segment, offset: u64, record: &Record, before: Boot) -> Option<Piece> {
    match record.hole() {
        Some(gap) => Some(Piece::Hole(record.seq, dates.date_gap(&gap, before, record.boot))),
        None => {
            let fragment = record.fragment(segment, offset)?;
            let start = dates.date(fragment.boot, fragment.start);
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

/// The first unbroken stretch of matches, from the key frame at or before its first. A hole does not break it; footage of
/// another time between two matches (the clock was set back) does.
fn stretch(pieces: &[Piece], query: &SpanQuery) -> Option<(usize, usize)> {
    let matches = |at: &usize| matches!(&pieces[*at], Piece::Fragment(f) if matches_query(f, query));
    let hit = (0..pieces.len()).find(matches)?;
    let mut last = hit;
    for (at, piece) in pieces.iter().enumerate().skip(hit + 1) {
        match piece {
            Piece::Fragment(_) if matches(&at) => last = at,
            Piece::Fragment(_) => break,
            Piece::Hole(..) => {}
        }
    }
    if matches!(query, SpanQuery::Seq { .. }) {
        return Some((hit, last));
    }
    let key = |at: &usize| matches!(&pieces[*at], Piece::Fragment(f) if f.key);
    let before = (0..=hit).rev().find(key);
    // Without a key frame before it the pictures cannot be decoded: begin at the first one inside.
    Some((before.or_else(|| (hit..=last).find(key))?, last))
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
                let wall = |head: &SegmentHead| index.dates.date(head.boot, head.start).wall;
                let (begin, end) = (wall(start), next.map_or(Wall(i64::MAX), wall));
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
