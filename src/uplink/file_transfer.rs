//! One file on its way: `init` → the receiver says what it has → chunks → `fin` → `stored`. Resume is the receiver's: after any
//! loss `init` is sent again and only what the receiver lacks follows.
//!
//! What belongs here: which piece is next. What does not: publishing it ([`super::delivery`]), how fast ([`super::bandwidth`]).

use super::wire::Manifest;
use crate::clip::SharedFile;
use crate::units::MonoTime;

/// Bytes sent and not yet confirmed by a `have` at most: what a lost session may cost again.
pub const UNCONFIRMED_MAX: u64 = 1 << 20;
/// Microseconds without any answer until the exchange begins again with `init`; doubled each time up to the longest.
const ANSWER_WITHIN: u64 = 10_000_000;
const ANSWER_LONGEST: u64 = 300_000_000;
/// Microseconds for which a `have` that comes after `fin` may be a late word about chunks: it is confirmed when nothing else has come
/// so long after it, and after the broker took `fin`.
const DOUBT: u64 = 2_000_000;
/// Times `fin` may be answered with a demand for every byte again: an office whose disk spoils files would take them for ever.
const ROUNDS_MAX: u32 = 4;

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferStep {
    /// Publish the manifest.
    Init,
    /// Read a chunk, then publish it.
    Read {
        /// From.
        offset: u64,
        /// Bytes.
        len: u32,
    },
    /// Say that everything was sent.
    Fin,
}

/// Where the exchange stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TransferPhase {
    /// Nothing said on this connection.
    New,
    /// `init` said, its `have` awaited.
    Offered,
    /// Chunks are going out.
    Sending,
    /// `fin` said, `stored` awaited.
    Finished,
}

/// A file on its way.
pub struct Transfer {
    /// What it is.
    pub manifest: Manifest,
    /// Its name on the wire.
    pub fid: String,
    /// Its bytes.
    pub source: SharedFile,
    /// Times the exchange began again because nobody answered, in this start.
    pub retries: u64,
    phase: TransferPhase,
    /// Ranges the receiver lacks and that have not been read, in order.
    todo: Vec<(u64, u64)>,
    /// A chunk is being read: offset and length.
    reading: Option<(u64, u32)>,
    /// End of what was ever published.
    furthest: u64,
    /// Bytes sent since the last `have`.
    unconfirmed: u64,
    /// How long the next answer may take, and when that is over.
    patience: u64,
    answer_by: MonoTime,
    /// Nothing goes out before: nobody listens.
    not_before: MonoTime,
    /// The broker has taken `fin`.
    fin_taken: Option<MonoTime>,
    /// What the receiver said it lacks since `fin`, and when.
    doubt: Option<(MonoTime, Vec<(u64, u64)>)>,
    /// How often the whole file was asked for again.
    rounds: u32,
}

impl Transfer {
    /// A file of which nothing is known at the receiver.
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
            patience: ANSWER_WITHIN,
            answer_by: MonoTime(0),
            not_before: MonoTime(0),
            fin_taken: None,
            doubt: None,
            rounds: 0,
        }
    }

    /// A new connection: what the last one taught of the receiver's patience says nothing of this one.
    pub fn reconnected(&mut self) {
        self.patience = ANSWER_WITHIN;
        self.restart();
    }

    /// Begins the exchange again: another connection, or another archive.
    pub fn restart(&mut self) {
        self.phase = TransferPhase::New;
        self.todo.clear();
        self.reading = None;
        self.unconfirmed = 0;
        self.not_before = MonoTime(0);
        (self.fin_taken, self.doubt) = (None, None);
    }

    /// The broker has taken `init` or `fin`.
    pub fn taken(&mut self, now: MonoTime) {
        if self.phase == TransferPhase::Finished {
            self.fin_taken = Some(now);
        }
    }

    /// Nobody listens: the exchange begins again, but not before the patience is over.
    pub fn unheard(&mut self, now: MonoTime) {
        self.restart();
        self.retries += 1;
        self.not_before = now.plus_micros(self.patience);
        self.patience = (self.patience * 2).min(ANSWER_LONGEST);
    }

    /// True when the receiver has asked for the whole file so often that it will not keep it.
    pub fn is_hopeless(&self) -> bool {
        self.rounds > ROUNDS_MAX
    }

    /// The receiver says that it took something.
    pub fn confirmed(&mut self, now: MonoTime) {
        self.patience = ANSWER_WITHIN;
        self.answer_by = now.plus_micros(self.patience);
        self.unconfirmed = 0;
    }

    /// The receiver says what it has: everything below `upto`, and above it all but `missing`.
    pub fn have(&mut self, now: MonoTime, upto: u64, missing: &[(u64, u64)]) {
        self.confirmed(now);
        // While chunks go out, a `have` only confirms; after `init` and `fin` it says what to send.
        if self.phase == TransferPhase::Sending || self.phase == TransferPhase::New {
            return;
        }
        let size = self.manifest.size;
        let all = [(upto, size)];
        let ranges = if missing.is_empty() { &all[..] } else { missing };
        let todo = ranges.iter().map(|(from, to)| (*from, (*to).min(size))).filter(|(from, to)| from < to).collect();
        if self.phase == TransferPhase::Finished {
            self.doubt = Some((now, todo));
        } else {
            (self.todo, self.phase) = (todo, TransferPhase::Sending);
        }
    }

    /// What the receiver said since `fin` was no late word: it lacks that.
    fn believe(&mut self, now: MonoTime) {
        let over = |since: &MonoTime| now.since(*since) >= DOUBT;
        if self.fin_taken.as_ref().is_some_and(over)
            && let Some((_, todo)) = self.doubt.take_if(|(said, _)| over(said))
        {
            self.rounds += u32::from(todo == [(0, self.manifest.size)]);
            (self.todo, self.phase, self.fin_taken) = (todo, TransferPhase::Sending, None);
        }
    }

    /// A chunk was read and is published now: gives how many of its bytes had been published before; `None` when nobody waits for
    /// it any more.
    pub fn sent(&mut self, now: MonoTime, offset: u64, len: u64) -> Option<u64> {
        self.reading.take_if(|(wanted, n)| *wanted == offset && u64::from(*n) == len)?;
        self.unconfirmed += len;
        self.answer_by = now.plus_micros(self.patience);
        let again = self.furthest.min(offset + len).saturating_sub(offset);
        self.furthest = self.furthest.max(offset + len);
        Some(again)
    }

    /// What is wanted next, if anything is: a chunk of `chunk` bytes at most. Taken with [`Transfer::take`].
    pub fn wants(&mut self, now: MonoTime, chunk: u32) -> Option<TransferStep> {
        self.believe(now);
        if self.phase != TransferPhase::New && self.reading.is_none() && now >= self.answer_by {
            // Held back by the pace it asks for nothing, and nobody owes it an answer.
            self.patience = (self.patience * 2).min(ANSWER_LONGEST);
            self.retries += 1;
            self.restart();
        }
        match self.phase {
            TransferPhase::New => (now >= self.not_before).then_some(TransferStep::Init),
            TransferPhase::Sending if self.reading.is_none() => match self.todo.first() {
                None => Some(TransferStep::Fin),
                Some(_) if self.unconfirmed >= UNCONFIRMED_MAX => None,
                Some((from, to)) => Some(TransferStep::Read { offset: *from, len: u64::from(chunk).min(to - from) as u32 }),
            },
            TransferPhase::Sending | TransferPhase::Offered | TransferPhase::Finished => None,
        }
    }

    /// The pace holds this file back: the receiver is not late.
    pub fn throttled(&mut self, now: MonoTime) {
        self.answer_by = self.answer_by.max(now.plus_micros(self.patience));
    }

    /// Does the step. At most one read is out at a time.
    pub fn take(&mut self, now: MonoTime, step: TransferStep) {
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
        self.answer_by = now.plus_micros(self.patience);
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
        let step = transfer.wants(now, 4096)?;
        transfer.take(now, step);
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
    fn an_office_that_spoils_every_file_is_not_fed_for_ever() {
        let (mut transfer, mut fins, mut now) = (transfer(10), 0, MonoTime(1));
        while !transfer.is_hopeless() {
            match step(&mut transfer, now) {
                Some(TransferStep::Fin) => {
                    fins += 1;
                    transfer.taken(now);
                }
                Some(_) => {}
                None => transfer.have(now, 0, &[]),
            }
            now = now.plus_micros(if fins > 0 { DOUBT } else { 1 });
            // The answer is confirmed with the next look.
            transfer.wants(now.plus_micros(DOUBT), 4096);
        }
        assert_eq!(fins, ROUNDS_MAX + 1);
    }

    #[test]
    fn a_late_have_does_not_resend_the_end_of_a_file() {
        let mut transfer = transfer(10_000);
        step(&mut transfer, MonoTime(0));
        transfer.have(MonoTime(0), 0, &[]);
        while step(&mut transfer, MonoTime(1)) != Some(TransferStep::Fin) {}
        // What the office had when it took the first chunk, on its way while the others went.
        transfer.have(MonoTime(2), 4096, &[]);
        transfer.taken(MonoTime(3));
        assert_eq!(transfer.wants(MonoTime(1_900_000), 4096), None);
        assert_eq!(
            transfer.wants(MonoTime(2_000_003), 4096),
            Some(TransferStep::Read { offset: 4096, len: 4096 }),
            "nothing else came"
        );
    }

    #[test]
    fn a_file_that_the_pace_holds_back_does_not_blame_the_office() {
        let mut transfer = transfer(10_000);
        step(&mut transfer, MonoTime(0));
        transfer.have(MonoTime(0), 0, &[]);
        for second in 0..100 {
            let now = MonoTime(second * 1_000_000);
            assert!(matches!(transfer.wants(now, 4096), Some(TransferStep::Read { .. })));
            transfer.throttled(now);
        }
        assert_eq!(transfer.retries, 0);
    }
}
