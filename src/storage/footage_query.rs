//! Footage queries: finds fragments and gaps by time or record number over all segments.

use std::sync::Arc;
use std::time::Duration;

use super::clock_history::ClockHistory;
use super::disk::{Disk, DiskFault};
use super::scan::{ScanDepth, ScanItem, walk_past};
use super::segment_index::Index;
use super::{FragmentRef, Gap, GapReason, Span, SpanQuery};
use crate::camera::TrackParams;
use crate::format::record::RingRecord;
use crate::format::segment_head::{Segment, SegmentHead};
use crate::units::{Boot, Digest, MonoTime, Timestamp, WallTime};

/// A larger step of the wall clock against the monotonic clock of a boot, or against the media clock
/// from one boot to the next, begins another stretch.
const CLOCK_STEP: Duration = Duration::from_millis(500);

/// A fragment, gap or damaged stretch, in the order of record numbers.
pub(super) enum Piece {
    Fragment(Box<FragmentRef>),
    Gap {
        seq: u64,
        gap: Gap,
    },
    /// Segments that the query does not touch lie here.
    Skipped,
    /// Records that cannot be read.
    Damage {
        first: u64,
        last: u64,
        gap: Gap,
    },
}

impl Piece {
    fn damage(first: u64, last: u64, from: Timestamp, to: Timestamp, reason: GapReason) -> Piece {
        Piece::Damage { first, last, gap: Gap { from, to, reason, bytes: 0 }.in_order() }
    }

    pub(super) fn fragment(&self) -> Option<&FragmentRef> {
        match self {
            Piece::Fragment(fragment) => Some(fragment.as_ref()),
            Piece::Gap { .. } | Piece::Skipped | Piece::Damage { .. } => None,
        }
    }

    /// The boot that recorded the footage.
    fn boot(&self) -> Option<Boot> {
        self.fragment().map(|fragment| fragment.boot)
    }

    pub(super) fn seq(&self) -> u64 {
        match self {
            Piece::Fragment(fragment) => fragment.seq,
            Piece::Gap { seq, .. } | Piece::Damage { first: seq, .. } => *seq,
            Piece::Skipped => u64::MAX,
        }
    }
}

/// Finds the first stretch of footage of a query that fits one file; it starts on a key frame.
/// Unreadable records count as damage.
///
/// # Errors
/// Never fails today: unreadable segments yield gaps.
pub fn locate(
    disk: &dyn Disk,
    index: &Index,
    newest: u64,
    query: &SpanQuery,
) -> Result<Option<Span>, DiskFault> {
    Ok(locate_with_rest(disk, index, newest, query)?.map(|(span, _)| span))
}

/// As [`locate`], with the pieces around the span.
pub(super) fn locate_with_rest(
    disk: &dyn Disk,
    index: &Index,
    newest: u64,
    query: &SpanQuery,
) -> Result<Option<(Span, Vec<Piece>)>, DiskFault> {
    let (mut pieces, tracks) = pieces(disk, index, newest, query);
    let Some((first, last)) = stretch(&pieces, query) else {
        return Ok(None);
    };
    let Piece::Fragment(start) = &pieces[first] else {
        return Ok(None);
    };
    let layout = start.layout;
    let fits =
        |piece: &Piece| !matches!(piece, Piece::Fragment(fragment) if fragment.layout != layout);
    let end = (first..=last).take_while(|at| fits(&pieces[*at])).last().unwrap_or(first);
    let more = pieces[end + 1..]
        .iter()
        .any(|piece| matches!(piece, Piece::Fragment(f) if matches_query(f, query)));
    let tracks = tracks
        .into_iter()
        .find(|(of, _)| *of == layout)
        .map(|(_, tracks)| tracks)
        .unwrap_or_default();
    let mut span = Span { tracks, more, ..Span::default() };
    let (first, end) = with_adjacent_damage(&pieces, (first, end), query, more);
    for piece in pieces.drain(first..=end) {
        match piece {
            Piece::Fragment(fragment) => span.fragments.push(*fragment),
            Piece::Gap { gap, .. } => span.gaps.push(gap),
            Piece::Skipped => {}
            Piece::Damage { first, last, gap } => {
                span.gaps.push(gap);
                span.damaged.push((first, last));
            }
        }
    }
    Ok(Some((span, pieces)))
}

/// A span without footage, whose gaps tell why. `None` if the ring knows nothing of the range.
pub(super) fn explain_absence(
    disk: &dyn Disk,
    index: &Index,
    newest: u64,
    query: &SpanQuery,
) -> Option<Span> {
    let overlaps = |low: u64, high: u64, gap: &Gap| match *query {
        SpanQuery::Wall { from, to, .. } => gap.to.wall > from && gap.from.wall <= to,
        SpanQuery::Mono { from, to, .. } => gap.to.mono > from && gap.from.mono <= to,
        SpanQuery::Seq { first, last } => low <= last && high >= first,
    };
    let mut span = Span { gaps: evicted(index, query).into_iter().collect(), ..Span::default() };
    for piece in pieces(disk, index, newest, query).0 {
        match piece {
            Piece::Gap { seq, gap } if overlaps(seq, seq, &gap) => span.gaps.push(gap),
            Piece::Damage { first, last, gap } if overlaps(first, last, &gap) => {
                span.gaps.push(gap);
                span.damaged.push((first, last));
            }
            _ => {}
        }
    }
    (!span.gaps.is_empty()).then_some(span)
}

/// The gaps between two moments, where no footage is: what became of it, as far as the ring knows.
pub fn gaps_between(disk: &dyn Disk, index: &Index, from: WallTime, to: WallTime) -> Vec<Gap> {
    let query = SpanQuery::Wall { from, to, after: 0 };
    explain_absence(disk, index, u64::MAX, &query).map(|span| span.gaps).unwrap_or_default()
}

/// The part of a query before the oldest footage of a ring that has evicted footage.
fn evicted(index: &Index, query: &SpanQuery) -> Option<Gap> {
    let head =
        index.live().first().map(|segment| &segment.head).filter(|head| head.first_seq > 1)?;
    let oldest = index.clock_history.date(head.boot, head.start);
    let (from, to) = match *query {
        SpanQuery::Wall { from, to, .. } if from < oldest.wall => {
            (Timestamp { wall: from, ..oldest }, Timestamp { wall: to.min(oldest.wall), ..oldest })
        }
        SpanQuery::Mono { boot, from, to, .. }
            if boot < head.boot || boot == head.boot && from < oldest.mono =>
        {
            let to = if boot == head.boot { to.min(oldest.mono) } else { to };
            let at = |mono| {
                let wall =
                    WallTime(oldest.wall.0.saturating_sub(
                        oldest.mono.0.saturating_sub(mono).min(i64::MAX as u64) as i64,
                    ));
                index
                    .clock_history
                    .date(boot, Timestamp { mono: MonoTime(mono), wall, ..Timestamp::default() })
            };
            (at(from.0), at(to.0))
        }
        SpanQuery::Seq { first, .. } if first < head.first_seq => (oldest, oldest),
        _ => return None,
    };
    Some(Gap { from, to, reason: GapReason::EvictedPinned, bytes: 0 })
}

/// Track layouts by their digest.
type Tracks = Vec<(Digest, Vec<Arc<TrackParams>>)>;

/// Fragments and gaps of the segments that a query may touch, with their track layouts.
fn pieces(disk: &dyn Disk, index: &Index, newest: u64, query: &SpanQuery) -> (Vec<Piece>, Tracks) {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut tracks = Vec::new();
    let mut behind = None;
    for at in candidates(index, newest, query) {
        if behind.replace(at + 1).is_some_and(|behind| behind < at) {
            pieces.push(Piece::Skipped);
        }
        let segment = &index.live()[at];
        // A segment abandoned after a failed flush may hold a record that was rewritten elsewhere.
        let last = index.last_seq(at, newest);
        let mut end = index.clock_history.date(segment.head.boot, segment.head.start);
        let mut damaged: Option<(u64, u64)> = None;
        let walked = walk_past(disk, segment, ScanDepth::Records);
        for found in &walked.found {
            match found {
                ScanItem::Record(offset, record) if record.seq <= last => {
                    let before = pieces.iter().rev().find_map(Piece::boot).unwrap_or(record.boot);
                    let begin = index.clock_history.date(record.boot, record.start);
                    pieces.extend(damaged.take().map(|(first, last)| {
                        Piece::damage(first, last, end, begin, GapReason::Damaged)
                    }));
                    pieces.extend(piece(&index.clock_history, segment, *offset, record, before));
                    end = index.clock_history.date(record.boot, record.end());
                }
                ScanItem::Record(..) => {}
                ScanItem::Damaged { first, last, .. } => damaged = Some((*first, *last)),
            }
        }
        // Damage up to the end of a file: the next segment, started right behind it, gives the last
        // number.
        let next = index
            .live()
            .get(at + 1)
            .filter(|next| next.head.lap == segment.head.lap + 1 && walked.next_seq <= last);
        if let Some(next) = next {
            let begin = index.clock_history.date(next.head.boot, next.head.start);
            pieces.push(Piece::damage(walked.next_seq, last, end, begin, GapReason::Damaged));
        } else {
            pieces.extend(missing_behind(index, at, walked.next_seq, end));
        }
        tracks.push((segment.layout, segment.head.tracks.clone()));
    }
    pieces.retain(|piece| piece.seq() > after(query));
    (pieces, tracks)
}

/// Missing records between a segment and the next, as a gap from the end of its footage to the next
/// head.
fn missing_behind(index: &Index, at: usize, from_seq: u64, end: Timestamp) -> Vec<Piece> {
    let next = index.live().get(at + 1);
    let to_seq = next.map_or(u64::MAX, |next| next.head.first_seq.saturating_sub(1));
    let begin = next.map_or(end, |next| index.clock_history.date(next.head.boot, next.head.start));
    let between = |(first, last): &(u64, u64)| (from_seq.max(*first), to_seq.min(*last));
    let lost = index.lost.list().iter().map(between).filter(|(first, last)| first <= last);
    lost.map(|(first, last)| Piece::damage(first, last, end, begin, GapReason::Missing)).collect()
}

/// Extends a stretch over adjacent damage that overlaps the query.
fn with_adjacent_damage(
    pieces: &[Piece],
    (first, last): (usize, usize),
    query: &SpanQuery,
    more: bool,
) -> (usize, usize) {
    let (mut begin, mut end) = (first, last);
    let wanted = |piece: &Piece| match (piece, query) {
        (Piece::Damage { gap, .. }, SpanQuery::Wall { from, to, .. }) => {
            gap.to.wall > *from && gap.from.wall <= *to
        }
        (Piece::Damage { gap, .. }, SpanQuery::Mono { from, to, .. }) => {
            gap.to.mono > *from && gap.from.mono <= *to
        }
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

/// Converts a record, with its times corrected. `before` is the boot of the footage in front of it.
fn piece(
    clock_history: &ClockHistory,
    segment: &Segment,
    offset: u64,
    record: &RingRecord,
    before: Boot,
) -> Option<Piece> {
    match record.gap() {
        Some(gap) => Some(Piece::Gap {
            seq: record.seq,
            gap: clock_history.date_gap(&gap, before, record.boot).in_order(),
        }),
        None => {
            let fragment = segment.fragment(record, offset)?;
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
        SpanQuery::Mono { boot, from, to, .. } => {
            fragment.boot == boot && fragment.start.mono <= to && end.mono > from
        }
        SpanQuery::Wall { from, to, .. } => fragment.start.wall <= to && end.wall > from,
        SpanQuery::Seq { first, last } => (first..=last).contains(&fragment.seq),
    }
}

/// True when the wall clock was not set between two consecutive fragments, so that one file can state
/// the times of both: its media time is its wall time.
pub(crate) fn is_same_clock(before: &FragmentRef, next: &FragmentRef) -> bool {
    let wall = next.start.wall.0.saturating_sub(before.start.wall.0);
    let is_close = |micros: i64| wall.abs_diff(micros) <= CLOCK_STEP.as_micros() as u64;
    if before.boot == next.boot {
        return is_close((next.start.mono.0 as i64).saturating_sub(before.start.mono.0 as i64));
    }
    next.start.wall >= before.end().wall
        && is_close((next.media as i64).saturating_sub(before.media as i64))
}

/// The first contiguous stretch of matches, extended back to a key frame. Gaps do not interrupt it.
/// Footage of another time and a clock that was set do.
fn stretch(pieces: &[Piece], query: &SpanQuery) -> Option<(usize, usize)> {
    let by_number = matches!(query, SpanQuery::Seq { .. });
    let matches =
        |at: &usize| matches!(&pieces[*at], Piece::Fragment(f) if matches_query(f, query));
    let hit = (0..pieces.len()).find(matches)?;
    let (mut last, mut before) = (hit, pieces[hit].fragment());
    for (at, piece) in pieces.iter().enumerate().skip(hit + 1) {
        match piece {
            Piece::Fragment(next)
                if matches(&at)
                    && (by_number || before.is_none_or(|before| is_same_clock(before, next))) =>
            {
                (last, before) = (at, Some(next.as_ref()));
            }
            Piece::Fragment(_) | Piece::Skipped => break,
            Piece::Gap { .. } | Piece::Damage { .. } => {}
        }
    }
    if by_number {
        return Some((hit, last));
    }
    let key = |at: &usize| matches!(&pieces[*at], Piece::Fragment(f) if f.key);
    let low = first_of_clock(pieces, hit);
    // Footage behind damage or behind a step of the clock is kept, even if it cannot be decoded.
    let behind_damage =
        hit.checked_sub(1).is_some_and(|at| matches!(pieces[at], Piece::Damage { .. }));
    let continues = low == hit && (low > 0 || after(query) > 0);
    let begin = (low..=hit).rev().find(key).or_else(|| (behind_damage || continues).then_some(hit));
    // Without a key frame before it, begin at the first key frame inside.
    Some((begin.or_else(|| (hit..=last).find(key))?, last))
}

/// The first fragment in front of `hit` from which on nothing is skipped and the clock was not set.
fn first_of_clock(pieces: &[Piece], hit: usize) -> usize {
    let mut low = hit;
    for at in (0..hit).rev() {
        match (&pieces[at], pieces[low].fragment()) {
            (Piece::Skipped, _) => break,
            (Piece::Fragment(before), Some(next)) if !is_same_clock(before, next) => break,
            (Piece::Fragment(_), _) => low = at,
            (Piece::Gap { .. } | Piece::Damage { .. }, _) => {}
        }
    }
    low
}

/// The segments that a query may touch, each with the one before it for its key frame, in order.
///
/// The wall clock may have been set between two heads, so a segment spans from its start to that of
/// the next, in either direction. It may also have been set further in boots between them.
fn candidates(index: &Index, newest: u64, query: &SpanQuery) -> Vec<usize> {
    let live = index.live();
    let head = |at: usize| live[at].head.as_ref();
    // The first head of a boot may start with the gap before that boot, on the clock of an earlier
    // one.
    let own_clock = |at: usize| at > 0 && head(at - 1).boot == head(at).boot;
    let touches = |at: usize| {
        let start = head(at);
        match *query {
            SpanQuery::Seq { first, last } => {
                start.first_seq <= last && index.last_seq(at, newest) >= first
            }
            SpanQuery::Mono { boot, from, to, .. } => {
                let known = |next: &usize| head(*next).boot != boot || own_clock(*next);
                let next = (at + 1..live.len()).find(known).map(head);
                start.boot <= boot
                    && (start.boot < boot || !own_clock(at) || start.start.mono <= to)
                    && next.is_none_or(|next| {
                        next.boot > boot || next.boot == boot && next.start.mono >= from
                    })
            }
            SpanQuery::Wall { from, to, .. } => {
                let wall =
                    |head: &SegmentHead| index.clock_history.date(head.boot, head.start).wall;
                let Some(next) = live.get(at + 1).map(|next| next.head.as_ref()) else {
                    return true;
                };
                let (begin, end) = (wall(start), wall(next));
                let boots = next.boot.0 - start.boot.0.min(next.boot.0);
                let unknown = boots > 1 || boots == 1 && end < begin;
                unknown || begin.min(end) <= to && begin.max(end) >= from
            }
        }
    };
    let hits = (0..live.len()).filter(|at| touches(*at));
    let mut found: Vec<usize> = hits.flat_map(|at| [at.saturating_sub(1), at]).collect();
    found.dedup();
    found
}
