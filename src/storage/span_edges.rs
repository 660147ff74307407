//! Span edges: names what a span lacks between the range that was asked for and its own begin and end.
//!
//! What belongs here: the causes of a late begin and an early end. What does not: finding the footage
//! (`super::footage_query`).

use std::time::Duration;

use super::footage_query::Piece;
use super::open_gap::OpenGap;
use super::{Gap, GapReason, Span, SpanQuery};
use crate::units::{Boot, MonoTime, Timestamp};

/// A shorter edge is none: a range begins and ends between two pictures.
const EDGE_MIN: Duration = Duration::from_millis(500);

/// What the engine knows of the time behind its newest record.
pub(super) struct RecordingState {
    /// The boot that records.
    pub(super) boot: Boot,
    /// The time of the answer: nothing behind it can be missing.
    pub(super) now: Timestamp,
    /// Number of the newest record.
    pub(super) newest: u64,
    /// The gap that is open behind the newest record.
    pub(super) open: Option<OpenGap>,
}

/// Adds gaps for the parts of the range before the first and behind the last fragment of `span`, whose
/// causes are in the pieces around it. A query by record numbers promises no time, and a part that
/// others follow has no end of its own.
pub(super) fn name_edges(
    around: &[Piece],
    query: &SpanQuery,
    state: &RecordingState,
    span: &mut Span,
) {
    let (Some(first), Some(last)) = (span.fragments.first(), span.fragments.last()) else {
        return;
    };
    let (first_seq, last_seq) = (first.seq, last.seq);
    let (begin, end, boot) = (first.start, last.end(), last.boot);
    let (from, to) = match *query {
        SpanQuery::Mono { boot, from, to, .. } if boot == first.boot && boot == last.boot => {
            let recorded = if boot == state.boot { to.min(state.now.mono) } else { to };
            (begin.at(from), end.at(recorded))
        }
        // The next part of a range by wall time may follow a step of the clock.
        SpanQuery::Wall { from, to, after } => (
            Timestamp { wall: if after > 0 { begin.wall } else { from }, ..begin },
            Timestamp { wall: to.min(state.now.wall), ..end },
        ),
        _ => return,
    };
    let starts_late = first_seq > 1 && is_edge(from, begin);
    let ends_early = !span.more && is_edge(end, to);
    if !starts_late && !ends_early {
        return;
    }
    let cause = |piece: &Piece| match piece {
        Piece::Gap { gap, .. } | Piece::Damage { gap, .. } => Some(gap.clone()),
        Piece::Fragment(_) | Piece::Skipped => None,
    };
    if starts_late {
        let before: Vec<Gap> =
            around.iter().filter(|piece| piece.seq() < first_seq).filter_map(cause).collect();
        let named = fill((from, begin), before, GapReason::EvictedPinned, &span.gaps);
        span.gaps.splice(0..0, named);
    }
    if ends_early {
        let is_behind = |piece: &&Piece| piece.seq() > last_seq;
        let mut behind: Vec<Gap> = around
            .iter()
            .filter(is_behind)
            .take_while(|piece| piece.fragment().is_none())
            .filter_map(cause)
            .collect();
        let mut rest = GapReason::CameraDown;
        if state.newest > last_seq {
            rest = GapReason::EvictedPinned;
        } else if let Some(open) = &state.open {
            behind.push(Gap { from: open.from, to, reason: open.reason, bytes: open.bytes });
        } else if boot != state.boot {
            rest = GapReason::PowerCut;
        }
        let named = fill((end, to), behind, rest, &span.gaps);
        span.gaps.extend(named);
    }
}

/// True when so much lies between two moments that a picture is missing.
fn is_edge(from: Timestamp, to: Timestamp) -> bool {
    to.wall.0.saturating_sub(from.wall.0) > EDGE_MIN.as_micros() as i64
}

/// Fills a range with the causes that lie in it, and with `rest` where none does. What the span
/// `known` names already is not named again.
fn fill(
    (from, to): (Timestamp, Timestamp),
    mut causes: Vec<Gap>,
    rest: GapReason,
    known: &[Gap],
) -> Vec<Gap> {
    causes.retain(|cause| !known.contains(cause));
    let mut all: Vec<(Gap, bool)> = causes.into_iter().map(|cause| (cause, true)).collect();
    all.extend(known.iter().map(|gap| (gap.clone(), false)));
    all.sort_by_key(|(gap, _)| (gap.from.wall, gap.to.wall));
    let (mut named, mut at) = (Vec::new(), from);
    let moment = |stamp: Timestamp| {
        let moved = stamp.wall.0.saturating_sub(from.wall.0).max(0) as u64;
        Timestamp { mono: MonoTime(from.mono.0.saturating_add(moved)), ..stamp }
    };
    for (gap, is_new) in all {
        if gap.to.wall <= at.wall || gap.from.wall >= to.wall {
            continue;
        }
        let begin = if gap.from.wall > at.wall { moment(gap.from) } else { at };
        let end = if gap.to.wall < to.wall { moment(gap.to) } else { to };
        if is_edge(at, begin) {
            named.push(Gap { from: at, to: begin, reason: rest, bytes: 0 });
        }
        if is_new {
            named.push(Gap { from: begin, to: end, ..gap });
        }
        at = end;
    }
    if is_edge(at, to) {
        named.push(Gap { from: at, to, reason: rest, bytes: 0 });
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::WallTime;

    fn second(n: i64) -> Timestamp {
        Timestamp {
            mono: MonoTime(n as u64 * 1_000_000),
            wall: WallTime(n * 1_000_000),
            ..Timestamp::default()
        }
    }

    fn gap(from: i64, to: i64, reason: GapReason) -> Gap {
        Gap { from: second(from), to: second(to), reason, bytes: 0 }
    }

    #[test]
    fn an_edge_is_filled_once_and_without_overlap() {
        use GapReason::{CameraDown, Damaged, EvictedPinned};
        let (known, cause) = (gap(8, 12, Damaged), gap(1, 5, CameraDown));
        let named = fill((second(3), second(10)), vec![cause], EvictedPinned, &[known]);
        assert_eq!(named, [gap(3, 5, CameraDown), gap(5, 8, EvictedPinned)]);
        assert!(fill((second(3), second(3)), Vec::new(), EvictedPinned, &[]).is_empty());
    }
}
