//! File transfer of one file: `init`, then the receiver's `have`, chunks, `fin`, and at last
//! `stored`.
//!
//! The receiver decides where a transfer resumes: after any loss `init` is sent again, and only the
//! missing bytes follow. What belongs here: the next step. What does not: publishing it
//! ([`super::delivery`]), the bandwidth ([`super::bandwidth`]).

use std::time::Duration;

use super::wire::Manifest;
use crate::clip::SharedFile;
use crate::units::MonoTime;

/// Bytes sent without a `have`, which a lost session may cost again.
pub const UNCONFIRMED_MAX: u64 = 1 << 20;
/// Time without an answer after which the exchange restarts with `init`; doubled each time up to
/// the maximum.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT_MAX: Duration = Duration::from_secs(300);
/// Time for which a `have` after `fin` may be a late answer to chunks. It counts when no other
/// answer followed for this long, and the broker accepted `fin` this long ago.
const LATE_HAVE: Duration = Duration::from_secs(2);
/// Number of times the receiver may answer `fin` by requesting the whole file: an office whose disk
/// damages files would request it forever.
const ROUNDS_MAX: u32 = 4;

/// The next step of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferStep {
    /// Publish the manifest.
    Init,
    /// Read a chunk, then publish it.
    Read {
        /// First byte.
        offset: u64,
        /// Number of bytes.
        len: u32,
    },
    /// Publish that every byte was sent.
    Fin,
}

/// State of the exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TransferPhase {
    /// Nothing is published on this connection.
    New,
    /// `init` is published, its `have` is awaited.
    Offered,
    /// Chunks are published.
    Sending,
    /// `fin` is published, `stored` is awaited.
    Finished,
}

/// A file in transfer.
pub struct Transfer {
    /// Name, size, hash and times of the file.
    pub manifest: Manifest,
    /// File id in the topics.
    pub fid: String,
    /// Source of its bytes.
    pub source: SharedFile,
    /// Times the exchange restarted without an answer since boot.
    pub retries: u64,
    phase: TransferPhase,
    /// Ranges `[from, to)` that the receiver lacks and that are not read yet, in order.
    todo: Vec<(u64, u64)>,
    /// Offset and length of the chunk that is being read.
    reading: Option<(u64, u32)>,
    /// Highest offset published so far.
    furthest: u64,
    /// Bytes sent since the last `have`.
    unconfirmed: u64,
    /// Timeout of the next answer, and its deadline.
    answer_timeout: Duration,
    answer_by: MonoTime,
    /// Nothing is published before this time, because there was no subscriber.
    not_before: MonoTime,
    /// Time at which the broker accepted `fin`.
    fin_accepted: Option<MonoTime>,
    /// Ranges that the receiver reported missing after `fin`, and when.
    late_have: Option<LateHave>,
    /// How often the receiver requested the whole file again.
    rounds: u32,
}

/// A `have` after `fin`, which may be a late answer to chunks.
struct LateHave {
    at: MonoTime,
    missing: Vec<(u64, u64)>,
}

impl Transfer {
    /// A transfer that has not started.
    pub fn new(manifest: Manifest, source: SharedFile) -> Transfer {
        let fid = manifest.fid();
        Transfer {
            manifest,
            fid,
            source,
            retries: 0,
            phase: TransferPhase::New,
            todo: Vec::new(),
            reading: None,
            furthest: 0,
            unconfirmed: 0,
            answer_timeout: ANSWER_TIMEOUT,
            answer_by: MonoTime(0),
            not_before: MonoTime(0),
            fin_accepted: None,
            late_have: None,
            rounds: 0,
        }
    }

    /// Restarts on a new connection, with the initial timeout.
    pub fn reconnected(&mut self) {
        self.answer_timeout = ANSWER_TIMEOUT;
        self.restart();
    }

    /// Restarts the exchange: on another connection, or with another archive.
    pub fn restart(&mut self) {
        self.phase = TransferPhase::New;
        self.todo.clear();
        self.reading = None;
        self.unconfirmed = 0;
        self.not_before = MonoTime(0);
        self.fin_accepted = None;
        self.late_have = None;
    }

    /// The broker accepted `init` or `fin`.
    pub fn accepted(&mut self, now: MonoTime) {
        if self.phase == TransferPhase::Finished {
            self.fin_accepted = Some(now);
        }
    }

    /// There is no subscriber: restarts the exchange after the current timeout.
    pub fn no_subscriber(&mut self, now: MonoTime) {
        self.restart();
        self.retries += 1;
        self.not_before = self.timeout_after(now);
        self.double_timeout();
    }

    /// True when the receiver requested the whole file so often that it will not store it.
    pub fn is_hopeless(&self) -> bool {
        self.rounds > ROUNDS_MAX
    }

    /// The receiver confirmed something.
    pub fn confirmed(&mut self, now: MonoTime) {
        self.answer_timeout = ANSWER_TIMEOUT;
        self.answer_by = self.timeout_after(now);
        self.unconfirmed = 0;
    }

    /// The receiver has everything below `upto`, and above it everything but `missing`.
    pub fn have(&mut self, now: MonoTime, upto: u64, missing: &[(u64, u64)]) {
        self.confirmed(now);
        // While chunks are sent, a `have` only confirms. After `init` and `fin` it decides what to
        // send.
        if self.phase == TransferPhase::Sending || self.phase == TransferPhase::New {
            return;
        }
        let size = self.manifest.size;
        let all = [(upto, size)];
        let ranges = if missing.is_empty() { &all[..] } else { missing };
        let todo = ranges
            .iter()
            .map(|(from, to)| (*from, (*to).min(size)))
            .filter(|(from, to)| from < to)
            .collect();
        if self.phase == TransferPhase::Finished {
            self.late_have = Some(LateHave { at: now, missing: todo });
        } else {
            self.todo = todo;
            self.phase = TransferPhase::Sending;
        }
    }

    /// Acts on a `have` after `fin` once it is no late answer: the receiver lacks these ranges.
    fn apply_late_have(&mut self, now: MonoTime) {
        let is_old = |since: MonoTime| now.since(since) >= LATE_HAVE.as_micros() as u64;
        if self.fin_accepted.is_some_and(is_old)
            && let Some(LateHave { missing, .. }) = self.late_have.take_if(|have| is_old(have.at))
        {
            self.rounds += u32::from(missing == [(0, self.manifest.size)]);
            self.todo = missing;
            self.phase = TransferPhase::Sending;
            self.fin_accepted = None;
        }
    }

    /// A chunk was read and is published now. Returns how many of its bytes were published before;
    /// `None` when the chunk is no longer wanted.
    pub fn sent(&mut self, now: MonoTime, offset: u64, len: u64) -> Option<u64> {
        self.reading.take_if(|(wanted, n)| *wanted == offset && u64::from(*n) == len)?;
        self.unconfirmed += len;
        self.answer_by = self.timeout_after(now);
        let again = self.furthest.min(offset + len).saturating_sub(offset);
        self.furthest = self.furthest.max(offset + len);
        Some(again)
    }

    /// The next step, if there is one; chunks have at most `chunk` bytes. The caller starts it with
    /// [`Transfer::start_step`].
    pub fn next_step(&mut self, now: MonoTime, chunk: u32) -> Option<TransferStep> {
        self.apply_late_have(now);
        if self.phase != TransferPhase::New && self.reading.is_none() && now >= self.answer_by {
            // The bandwidth limit calls `throttled`, so a throttled file does not reach this
            // deadline.
            self.double_timeout();
            self.retries += 1;
            self.restart();
        }
        match self.phase {
            TransferPhase::New => (now >= self.not_before).then_some(TransferStep::Init),
            TransferPhase::Sending if self.reading.is_none() => match self.todo.first() {
                None => Some(TransferStep::Fin),
                Some(_) if self.unconfirmed >= UNCONFIRMED_MAX => None,
                Some((from, to)) => Some(TransferStep::Read {
                    offset: *from,
                    len: u64::from(chunk).min(to - from) as u32,
                }),
            },
            TransferPhase::Sending | TransferPhase::Offered | TransferPhase::Finished => None,
        }
    }

    /// The bandwidth limit delays this file: the receiver is not late.
    pub fn throttled(&mut self, now: MonoTime) {
        self.answer_by = self.answer_by.max(self.timeout_after(now));
    }

    /// Starts a step. At most one read is in flight.
    pub fn start_step(&mut self, now: MonoTime, step: TransferStep) {
        match step {
            TransferStep::Init => self.phase = TransferPhase::Offered,
            TransferStep::Fin => self.phase = TransferPhase::Finished,
            TransferStep::Read { offset, len } => {
                self.reading = Some((offset, len));
                let end = offset + u64::from(len);
                match self.todo.first_mut() {
                    Some((from, to)) if end < *to => *from = end,
                    _ => _ = self.todo.remove(0),
                }
                return;
            }
        }
        self.answer_by = self.timeout_after(now);
    }

    fn timeout_after(&self, now: MonoTime) -> MonoTime {
        now.plus_micros(self.answer_timeout.as_micros() as u64)
    }

    fn double_timeout(&mut self) {
        self.answer_timeout = (self.answer_timeout * 2).min(ANSWER_TIMEOUT_MAX);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::evidence::manifest::of_still;
    use crate::units::{SiteId, Timestamp};

    fn transfer(len: usize) -> Transfer {
        let bytes = vec![7; len];
        let site = SiteId::parse("km-17").unwrap();
        Transfer::new(of_still(&site, "e", Timestamp::default(), &bytes), Arc::new(bytes))
    }

    fn step(transfer: &mut Transfer, now: MonoTime) -> Option<TransferStep> {
        let step = transfer.next_step(now, 4096)?;
        transfer.start_step(now, step);
        if let TransferStep::Read { offset, len } = step {
            transfer.sent(now, offset, len.into());
        }
        Some(step)
    }

    #[test]
    fn silence_doubles_the_timeout_up_to_five_minutes() {
        let mut transfer = transfer(10);
        let mut inits = Vec::new();
        for second in 0..1500 {
            if step(&mut transfer, MonoTime(second * 1_000_000)) == Some(TransferStep::Init) {
                inits.push(second);
            }
        }
        assert_eq!(inits, [0, 10, 30, 70, 150, 310, 610, 910, 1210]);
        assert_eq!(transfer.retries, 8);
    }

    #[test]
    fn a_receiver_that_never_keeps_a_file_is_given_up_after_rounds() {
        let (mut transfer, mut fins, mut now) = (transfer(10), 0, MonoTime(1));
        let late = LATE_HAVE.as_micros() as u64;
        while !transfer.is_hopeless() {
            match step(&mut transfer, now) {
                Some(TransferStep::Fin) => {
                    fins += 1;
                    transfer.accepted(now);
                }
                Some(_) => {}
                None => transfer.have(now, 0, &[]),
            }
            now = now.plus_micros(if fins > 0 { late } else { 1 });
            // The `have` is applied once it is old enough.
            transfer.next_step(now.plus_micros(late), 4096);
        }
        assert_eq!(fins, ROUNDS_MAX + 1);
    }

    #[test]
    fn a_late_have_does_not_resend_the_end_of_a_file() {
        let mut transfer = transfer(10_000);
        step(&mut transfer, MonoTime(0));
        transfer.have(MonoTime(0), 0, &[]);
        while step(&mut transfer, MonoTime(1)) != Some(TransferStep::Fin) {}
        // The answer to the first chunk, which arrives after `fin`.
        transfer.have(MonoTime(2), 4096, &[]);
        transfer.accepted(MonoTime(3));
        assert_eq!(transfer.next_step(MonoTime(1_900_000), 4096), None);
        assert_eq!(
            transfer.next_step(MonoTime(2_000_003), 4096),
            Some(TransferStep::Read { offset: 4096, len: 4096 }),
            "no other answer followed"
        );
    }

    #[test]
    fn a_throttled_file_does_not_count_as_a_late_receiver() {
        let mut transfer = transfer(10_000);
        step(&mut transfer, MonoTime(0));
        transfer.have(MonoTime(0), 0, &[]);
        for second in 0..100 {
            let now = MonoTime(second * 1_000_000);
            assert!(matches!(transfer.next_step(now, 4096), Some(TransferStep::Read { .. })));
            transfer.throttled(now);
        }
        assert_eq!(transfer.retries, 0);
    }
}
