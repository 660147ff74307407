//! Pending query: a query that waits until the footage it selects is durable.

use std::time::Duration;

use super::{PinClass, PinId, SpanQuery};
use crate::units::{Boot, MonoTime, Timestamp};

/// A query is answered with the footage available this long after its end. A fragment
/// may last one second, and a card may stall for a few.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);

/// A query whose end is not durable yet.
pub(super) struct PendingQuery {
    pub(super) pin: PinId,
    pub(super) class: PinClass,
    pub(super) query: SpanQuery,
    /// Time at which it is answered with the footage available.
    until: MonoTime,
}

impl PendingQuery {
    /// A query that was asked `now`.
    pub(super) fn new(
        now: MonoTime,
        pin: PinId,
        class: PinClass,
        query: SpanQuery,
    ) -> PendingQuery {
        let until = match query {
            SpanQuery::Mono { to, .. } => to.plus(QUERY_TIMEOUT),
            SpanQuery::Wall { .. } => now.plus(QUERY_TIMEOUT),
            SpanQuery::Seq { .. } => now,
        };
        PendingQuery { pin, class, query, until }
    }

    /// True when the queried range is durable or the query has timed out. Footage of another boot
    /// is durable or lost.
    pub(super) fn is_due(&self, now: MonoTime, this: Boot, durable: Timestamp) -> bool {
        now >= self.until
            || match self.query {
                SpanQuery::Mono { boot, to, .. } => boot != this || to <= durable.mono,
                SpanQuery::Wall { to, .. } => to <= durable.wall,
                SpanQuery::Seq { .. } => true,
            }
    }
}
