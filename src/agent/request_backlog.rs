//! Bounded backlog of requests that a full channel did not accept.
//!
//! Requests that remote senders can cause have their own bound each, and the oldest of a kind is
//! dropped. All other requests must be accepted within [`ACCEPT_TIMEOUT`], else the process ends.
//! That judgement depends on time and never on the length of the backlog: else a flood of commands
//! could end the process.

use std::collections::VecDeque;
use std::time::Duration;

use crate::units::MonoTime;
use crate::uplink::UplinkRequest;

/// Pending answers: as many as the uplink keeps for one connection.
const ANSWERS_MAX: usize = 32;
/// Pending resends, and pending messages of the integrations.
const RESENDS_MAX: usize = 64;
const INTEGRATIONS_MAX: usize = 64;
/// Time within which a thread or task must accept a request: three times its heartbeat timeout.
pub const ACCEPT_TIMEOUT: Duration = Duration::from_secs(90);
/// Minimum time between two log lines about dropped requests.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Pending requests to one thread or task.
#[derive(Debug)]
pub struct RequestBacklog<T> {
    part: &'static str,
    requests: VecDeque<T>,
    /// Last time a request was accepted or none was pending.
    accepted_at: MonoTime,
    dropped: u64,
    /// Part of `dropped` that the log has reported.
    reported: u64,
    reported_at: MonoTime,
}

impl<T> RequestBacklog<T> {
    /// An empty backlog for `part`.
    pub fn new(part: &'static str, now: MonoTime) -> RequestBacklog<T> {
        let (requests, reported_at) = (VecDeque::new(), MonoTime(0));
        RequestBacklog { part, requests, accepted_at: now, dropped: 0, reported: 0, reported_at }
    }

    /// Appends a request.
    pub fn push(&mut self, request: T) {
        self.requests.push_back(request);
    }

    /// Offers the requests to `accept`, in order. The first that it hands back, and those behind
    /// it, stay pending.
    pub fn offer(&mut self, now: MonoTime, mut accept: impl FnMut(T) -> Result<(), T>) {
        while let Some(request) = self.requests.pop_front() {
            if let Err(request) = accept(request) {
                self.requests.push_front(request);
                break;
            }
            self.accepted_at = now;
        }
        if self.requests.is_empty() {
            self.accepted_at = now;
        }
        let is_due =
            self.reported == 0 || now.since(self.reported_at) >= LOG_INTERVAL.as_micros() as u64;
        if self.dropped > self.reported && is_due {
            let dropped = self.dropped - self.reported;
            tracing::warn!(
                part = self.part,
                dropped,
                "requests dropped, a sender floods the device; check who sends commands"
            );
            self.reported = self.dropped;
            self.reported_at = now;
        }
    }

    /// The receiver does not run yet: nothing is overdue.
    pub fn offer_none(&mut self, now: MonoTime) {
        self.accepted_at = now;
    }

    /// Checks that the receiver accepts requests.
    ///
    /// # Errors
    /// When it accepted none for [`ACCEPT_TIMEOUT`] although requests were pending.
    pub fn ensure_accepting(&self, now: MonoTime) -> anyhow::Result<()> {
        let (part, pending, silent) = (self.part, self.requests.len(), now.since(self.accepted_at));
        let accepts = silent < ACCEPT_TIMEOUT.as_micros() as u64;
        let seconds = silent / 1_000_000;
        anyhow::ensure!(
            accepts,
            "{part} accepted no request for {seconds} s, {pending} are pending; restarting the process"
        );
        Ok(())
    }
}

impl RequestBacklog<UplinkRequest> {
    /// Appends a request; drops the oldest of its kind when that kind has reached its bound.
    pub fn push_bounded(&mut self, request: UplinkRequest) {
        if let Some(bound) = bound_of(&request) {
            let same = |other: &UplinkRequest| {
                std::mem::discriminant(other) == std::mem::discriminant(&request)
            };
            if self.requests.iter().filter(|other| same(other)).count() >= bound
                && let Some(oldest) = self.requests.iter().position(same)
            {
                self.requests.remove(oldest);
                self.dropped += u64::from(bound > 1);
            }
        }
        self.requests.push_back(request);
    }
}

/// How many requests of this kind may be pending. Of a request that carries a state only the newest
/// matters. The agent itself bounds the kinds without a number: a window of messages, one change of
/// settings.
fn bound_of(request: &UplinkRequest) -> Option<usize> {
    match request {
        UplinkRequest::Reply(_) => Some(ANSWERS_MAX),
        UplinkRequest::Resend { .. } => Some(RESENDS_MAX),
        UplinkRequest::Integration { .. } => Some(INTEGRATIONS_MAX),
        UplinkRequest::Birth(_)
        | UplinkRequest::Health(_)
        | UplinkRequest::Reported(_)
        | UplinkRequest::RequestConfig
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
    fn a_flood_of_answers_keeps_the_newest_and_passes_the_check() {
        let mut backlog = RequestBacklog::new("uplink", MonoTime(0));
        backlog.push_bounded(UplinkRequest::Cancel { entry_id: EntryId(1) });
        for n in 0..100_000 {
            backlog.push_bounded(answer(n));
            backlog.push_bounded(UplinkRequest::Resend { entry_id: EntryId(n) });
            backlog.push_bounded(UplinkRequest::RequestConfig);
        }
        backlog.push_bounded(UplinkRequest::Close);
        backlog.offer(MonoTime(1), Err);
        assert!(backlog.ensure_accepting(MonoTime(1)).is_ok());
        let mut taken = Vec::new();
        backlog.offer(MonoTime(2), |request| {
            taken.push(format!("{request:?}"));
            Ok(())
        });
        assert_eq!(taken.len(), 1 + ANSWERS_MAX + RESENDS_MAX + 1 + 1);
        assert!(taken[0].contains("Cancel") && taken.last().unwrap().contains("Close"), "in order");
        assert!(taken.iter().any(|request| request.contains("99999")), "{taken:?}");
    }

    #[test]
    fn a_receiver_that_accepts_nothing_for_90_s_is_an_error() {
        let mut backlog = RequestBacklog::new("storage", MonoTime(0));
        let offer = |backlog: &mut RequestBacklog<u8>, at: u64, takes: bool| {
            backlog.push(1);
            backlog.offer(MonoTime(at), |request| if takes { Ok(()) } else { Err(request) });
            backlog.ensure_accepting(MonoTime(at))
        };
        for at in 0..5_000 {
            assert!(
                offer(&mut backlog, at, false).is_ok(),
                "the length of the backlog does not count"
            );
        }
        assert!(offer(&mut backlog, 80_000_000, true).is_ok());
        assert!(offer(&mut backlog, 160_000_000, false).is_ok());
        let error = offer(&mut backlog, 171_000_000, false).unwrap_err().to_string();
        assert!(error.starts_with("storage accepted no request"), "{error}");
    }
}
