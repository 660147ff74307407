//! Prefix: what stands before a picture and waits for it.

use super::limits::{PREFIX_MAX, PREFIX_NALS_MAX};
use crate::units::MonoTime;

/// Delimiter, SEI and others that belong to the next picture.
#[derive(Debug, Default)]
pub(super) struct Prefix {
    delimiter: Vec<u8>,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    recovery: bool,
    /// Time stamp of the latest NAL unit, and arrival of the first one with it.
    first: Option<(i64, MonoTime)>,
    /// NAL units of several time stamps wait.
    mixed: bool,
}

impl Prefix {
    /// An access unit delimiter: it stands first in its unit, and there is one.
    pub(super) fn delimiter(&mut self, nal: &[u8]) {
        self.delimiter.clear();
        self.delimiter.extend_from_slice(nal);
    }

    /// A recovery point waits here.
    pub(super) fn recovery_point(&mut self) {
        self.recovery = true;
    }

    /// Another NAL unit. False if there is no room for it.
    pub(super) fn add(&mut self, nal: &[u8]) -> bool {
        if self.bytes.len() + nal.len() > PREFIX_MAX || self.ends.len() >= PREFIX_NALS_MAX {
            return false;
        }
        self.bytes.extend_from_slice(nal);
        self.ends.push(self.bytes.len());
        true
    }

    /// Something before a picture came, whether it is kept or not.
    pub(super) fn came(&mut self, time: i64, arrival: MonoTime) {
        if self.first.is_none_or(|(before, _)| before != time) {
            self.mixed |= self.first.is_some();
            self.first = Some((time, arrival));
        }
    }

    /// Arrival of a picture: that of its first packet with its time stamp. The second value is
    /// false if something that waits has another time stamp.
    pub(super) fn arrival_of(&self, time: i64, arrival: MonoTime) -> (MonoTime, bool) {
        match self.first {
            Some((at, first)) if at == time => (first, !self.mixed),
            Some(_) => (arrival, false),
            None => (arrival, true),
        }
    }

    /// Whether a recovery point waited here.
    pub(super) fn take_recovery(&mut self) -> bool {
        std::mem::take(&mut self.recovery)
    }

    /// Gives all of it in its order, and keeps the buffers.
    pub(super) fn drain(&mut self, mut each: impl FnMut(&[u8])) {
        if !self.delimiter.is_empty() {
            each(&self.delimiter);
        }
        let mut start = 0;
        for end in &self.ends {
            each(&self.bytes[start..*end]);
            start = *end;
        }
        self.clear();
    }

    /// Drops all of it.
    pub(super) fn clear(&mut self) {
        self.delimiter.clear();
        self.bytes.clear();
        self.ends.clear();
        (self.recovery, self.first, self.mixed) = (false, None, false);
    }
}
