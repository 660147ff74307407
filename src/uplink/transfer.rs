//! One file on its way: `init` → the receiver says what it has → chunks → `fin` → `stored`. Resume is the receiver's: after any
//! loss `init` is sent again and only what the receiver lacks follows.
//!
//! What belongs here: which piece is next. What does not: publishing it ([`super::link`]).

use super::wire::Manifest;
use crate::clip::SharedFile;
use crate::units::Mono;

/// Smallest useful chunk in bytes.
pub const CHUNK_MIN: u32 = 4096;
/// Bytes sent and not yet confirmed by a `have` at most: what a lost session may cost again.
pub const UNCONFIRMED_MAX: u64 = 1 << 20;
/// Microseconds without any answer until the exchange begins again with `init`.
const ANSWER_WITHIN: u64 = 30_000_000;

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
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
enum Phase {
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
    chunk: u32,
    phase: Phase,
    /// Ranges the receiver lacks and that have not been read, in order.
    todo: Vec<(u64, u64)>,
    /// A chunk is being read: offset and length.
    reading: Option<(u64, u32)>,
    /// End of what was ever published.
    furthest: u64,
    /// Bytes sent since the last `have`.
    unconfirmed: u64,
    answer_by: Mono,
}

impl Transfer {
    /// A file of which nothing is known at the receiver.
    pub fn new(manifest: Manifest, source: SharedFile, chunk: u32) -> Transfer {
        let fid = manifest.fid();
        let answer_by = Mono(0);
        Transfer {
            manifest,
            fid,
            source,
            chunk,
            phase: Phase::New,
            todo: Vec::new(),
            reading: None,
            furthest: 0,
            unconfirmed: 0,
            answer_by,
        }
    }

    /// Begins the exchange again: a new connection, a new archive, or no answer.
    pub fn restart(&mut self, chunk: u32) {
        self.chunk = chunk;
        self.phase = Phase::New;
        self.todo.clear();
        self.reading = None;
        self.unconfirmed = 0;
    }

    /// The receiver says what it has: everything below `upto`, and above it all but `missing`.
    pub fn have(&mut self, now: Mono, upto: u64, missing: &[(u64, u64)]) {
        self.answer_by = now.plus_micros(ANSWER_WITHIN);
        self.unconfirmed = 0;
        // While chunks go out, a `have` only confirms; after `init` and `fin` it says what to send.
        if self.phase == Phase::Sending || self.phase == Phase::New {
            return;
        }
        let size = self.manifest.size;
        let all = [(upto, size)];
        let ranges = if missing.is_empty() { &all[..] } else { missing };
        self.todo = ranges.iter().map(|(from, to)| (*from, (*to).min(size))).filter(|(from, to)| from < to).collect();
        self.phase = Phase::Sending;
    }

    /// A chunk was read and is published now: gives how many of its bytes had been published before; `None` when nobody waits for
    /// it any more.
    pub fn sent(&mut self, now: Mono, offset: u64, len: u64) -> Option<u64> {
        self.reading.take_if(|(wanted, n)| *wanted == offset && u64::from(*n) == len)?;
        self.unconfirmed += len;
        self.answer_by = now.plus_micros(ANSWER_WITHIN);
        let again = self.furthest.min(offset + len).saturating_sub(offset);
        self.furthest = self.furthest.max(offset + len);
        Some(again)
    }

    /// The next step, if there is one now. At most one read is out at a time.
    pub fn next(&mut self, now: Mono) -> Option<Step> {
        if self.phase != Phase::New && self.reading.is_none() && now >= self.answer_by {
            self.restart(self.chunk);
        }
        match self.phase {
            Phase::New => {
                self.phase = Phase::Offered;
                self.answer_by = now.plus_micros(ANSWER_WITHIN);
                Some(Step::Init)
            }
            Phase::Sending if self.reading.is_none() => self.next_chunk(now),
            Phase::Sending | Phase::Offered | Phase::Finished => None,
        }
    }

    fn next_chunk(&mut self, now: Mono) -> Option<Step> {
        let Some((from, to)) = self.todo.first().copied() else {
            self.phase = Phase::Finished;
            self.answer_by = now.plus_micros(ANSWER_WITHIN);
            return Some(Step::Fin);
        };
        if self.unconfirmed >= UNCONFIRMED_MAX {
            return None;
        }
        let len = u64::from(self.chunk).min(to - from) as u32;
        match from + u64::from(len) {
            end if end < to => self.todo[0].0 = end,
            _ => {
                self.todo.remove(0);
            }
        }
        self.reading = Some((from, len));
        Some(Step::Read { offset: from, len })
    }
}
