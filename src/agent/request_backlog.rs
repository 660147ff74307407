//! Orders that wait because their part has no room for them. What strangers can make the device say waits in lanes of its own, from
//! which the oldest is dropped; what is left a part must take in time. Whether it does is judged by time and never by how many wait:
//! else whoever sends much could end the process.
//!
//! What belongs here: those lanes, and that judgement. What does not: giving orders (the wiring).

use std::collections::VecDeque;

use crate::units::MonoTime;
use crate::uplink::UplinkRequest;

/// Answers that wait at most: as many as the uplink keeps for a connection.
const ANSWERS_MAX: usize = 32;
/// Events that are to be sent again, and messages in other dialects.
const AGAIN_MAX: usize = 64;
const MIRRORS_MAX: usize = 64;
/// Microseconds in which a part must take an order: three times what its heartbeat allows it to be silent, and then some.
pub const TAKEN_WITHIN: u64 = 90_000_000;
/// Microseconds between two lines of the log about what was dropped.
const TELL_EVERY: u64 = 60_000_000;

/// Orders to one part.
#[derive(Debug)]
pub struct RequestBacklog<T> {
    part: &'static str,
    orders: VecDeque<T>,
    /// When the part last took an order, or had none to take.
    taken: MonoTime,
    dropped: u64,
    /// How many drops were reported, and when.
    told: (u64, MonoTime),
}

impl<T> RequestBacklog<T> {
    /// Nothing waits for `register`.
    pub fn new(part: &'static str, now: MonoTime) -> RequestBacklog<T> {
        RequestBacklog { part, orders: VecDeque::new(), taken: now, dropped: 0, told: (0, MonoTime(0)) }
    }

    /// A further order.
    pub fn push(&mut self, order: T) {
        self.orders.push_back(order);
    }

    /// Offers what waits, in order; what is handed back waits on.
    pub fn offer(&mut self, now: MonoTime, mut take: impl FnMut(T) -> Result<(), T>) {
        while let Some(order) = self.orders.pop_front() {
            if let Err(order) = take(order) {
                self.orders.push_front(order);
                break;
            }
            self.taken = now;
        }
        if self.orders.is_empty() {
            self.taken = now;
        }
        if self.dropped > self.told.0 && (self.told.0 == 0 || now.since(self.told.1) >= TELL_EVERY) {
            let dropped = self.dropped - self.told.0;
            tracing::warn!(part = self.part, dropped, "answers were dropped before they could be sent: somebody asks too much");
            self.told = (self.dropped, now);
        }
    }

    /// There is nobody to take orders yet.
    pub fn offer_none(&mut self, now: MonoTime) {
        self.taken = now;
    }

    /// Whether the part works.
    ///
    /// # Errors
    /// When it has taken nothing for too long.
    pub fn ensure_taken(&self, now: MonoTime) -> anyhow::Result<()> {
        let (part, waiting, seconds) = (self.part, self.orders.len(), now.since(self.taken) / 1_000_000);
        let taken = now.since(self.taken) < TAKEN_WITHIN;
        anyhow::ensure!(taken, "{part} has taken no order for {seconds} s: {waiting} wait, a new start is needed");
        Ok(())
    }
}

impl RequestBacklog<UplinkRequest> {
    /// A further order, in its lane: a full one loses its oldest.
    pub fn push_bounded(&mut self, order: UplinkRequest) {
        if let Some(most) = most(&order) {
            let same = |other: &UplinkRequest| std::mem::discriminant(other) == std::mem::discriminant(&order);
            if self.orders.iter().filter(|other| same(other)).count() >= most
                && let Some(oldest) = self.orders.iter().position(same)
            {
                self.orders.remove(oldest);
                self.dropped += u64::from(most > 1);
            }
        }
        self.orders.push_back(order);
    }
}

/// How many orders of this kind may wait. Of what tells a state only the newest is of use; what is without a bound here is bounded by
/// the agent: a window of messages, one change of settings.
fn most(order: &UplinkRequest) -> Option<usize> {
    match order {
        UplinkRequest::Reply(_) => Some(ANSWERS_MAX),
        UplinkRequest::Again { .. } => Some(AGAIN_MAX),
        UplinkRequest::Mirror { .. } => Some(MIRRORS_MAX),
        UplinkRequest::Birth(_)
        | UplinkRequest::Health(_)
        | UplinkRequest::Reported(_)
        | UplinkRequest::AskForConfig
        | UplinkRequest::Signers(_) => Some(1),
        UplinkRequest::Send { .. }
        | UplinkRequest::Cancel { .. }
        | UplinkRequest::Spent(_)
        | UplinkRequest::Settings { .. }
        | UplinkRequest::Close => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::EntryId;
    use crate::uplink::wire::Reply;

    fn answer(n: u64) -> UplinkRequest {
        let reply = Reply {
            req_id: n.to_string(),
            cmd: "ping".into(),
            status: "ok".into(),
            detail: String::new(),
            data: Default::default(),
        };
        UplinkRequest::Reply(Box::new(reply))
    }

    #[test]
    fn answers_without_end_end_nothing_and_the_newest_are_kept() {
        let mut waiting = RequestBacklog::new("uplink", MonoTime(0));
        waiting.push_bounded(UplinkRequest::Cancel { entry_id: EntryId(1) });
        for n in 0..100_000 {
            waiting.push_bounded(answer(n));
            waiting.push_bounded(UplinkRequest::Again { entry_id: EntryId(n) });
            waiting.push_bounded(UplinkRequest::AskForConfig);
        }
        waiting.push_bounded(UplinkRequest::Close);
        waiting.offer(MonoTime(1), Err);
        assert!(waiting.ensure_taken(MonoTime(1)).is_ok());
        let mut taken = Vec::new();
        waiting.offer(MonoTime(2), |order| {
            taken.push(format!("{order:?}"));
            Ok(())
        });
        assert_eq!(taken.len(), 1 + ANSWERS_MAX + AGAIN_MAX + 1 + 1);
        assert!(taken[0].contains("Cancel") && taken.last().unwrap().contains("Close"), "in order");
        assert!(taken.iter().any(|order| order.contains("99999")), "{taken:?}");
    }

    #[test]
    fn a_part_that_takes_nothing_in_time_is_found() {
        let mut waiting = RequestBacklog::new("storage", MonoTime(0));
        let offer = |waiting: &mut RequestBacklog<u8>, at: u64, takes: bool| {
            waiting.push(1);
            waiting.offer(MonoTime(at), |order| if takes { Ok(()) } else { Err(order) });
            waiting.ensure_taken(MonoTime(at))
        };
        for at in 0..5_000 {
            assert!(offer(&mut waiting, at, false).is_ok(), "however many wait");
        }
        assert!(offer(&mut waiting, 80_000_000, true).is_ok());
        assert!(offer(&mut waiting, 160_000_000, false).is_ok());
        let error = offer(&mut waiting, 171_000_000, false).unwrap_err().to_string();
        assert!(error.starts_with("storage has taken no order"), "{error}");
    }
}
