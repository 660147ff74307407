//! Admission control for received messages: rate limits per kind, applied before parsing and
//! signature verification.
//!
//! A flood costs a few comparisons per message. Unsigned messages never use up the limit of
//! messages that may be validly signed.
//!
//! | message | limit |
//! |---|---|
//! | a command without a valid-looking signature: unsigned, unknown key, used number, expired | 10, then 2 per second |
//! | a command whose signature must be verified | 50, then 50 per second |
//! | a configuration document | 16, then one per second; requested again after the flood |
//! | a confirmation; the state of an archive | 20, then 5 per second each |
//!
//! Validly signed commands have a further limit after verification
//! ([`crate::remote_config::state_machine`]).

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::wire::Command;
use crate::remote_config::signed_document::{DOCUMENT_MAX, is_late};
use crate::remote_config::token_bucket::TokenBucket;
use crate::units::{Timestamp, WallTime};

/// Maximum size of a command in bytes: `config-check` carries a whole text, whose size JSON escapes
/// may double.
const COMMAND_MAX: usize = DOCUMENT_MAX;
/// A longer command counts against the verification limit before it is parsed.
const SHORT: usize = 4096;

/// Messages dropped since boot.
#[derive(Debug, Clone, Copy)]
pub struct DroppedMessages {
    /// Commands without a valid-looking signature.
    pub unsigned: u64,
    /// Commands whose signature was not verified.
    pub unverified: u64,
    /// All other messages.
    pub other: u64,
}

/// Rate limits of received messages, with their counters.
#[derive(Debug)]
pub struct IncomingLimiter {
    unsigned: TokenBucket,
    unverified: TokenBucket,
    documents: TokenBucket,
    confirms: TokenBucket,
    hosts: TokenBucket,
    /// Events resent at the office's request.
    resends: TokenBucket,
    /// Log lines about invalid messages.
    unreadable: TokenBucket,
    /// A document was dropped and none was requested since.
    document_missing: bool,
    /// Enrolled keys and the highest command number of each.
    signers: BTreeMap<String, u64>,
}

impl Default for IncomingLimiter {
    fn default() -> IncomingLimiter {
        IncomingLimiter {
            unsigned: TokenBucket::new(10, 500_000),
            unverified: TokenBucket::new(50, 20_000),
            documents: TokenBucket::new(16, 1_000_000),
            confirms: TokenBucket::new(20, 200_000),
            hosts: TokenBucket::new(20, 200_000),
            resends: TokenBucket::new(64, 250_000),
            unreadable: TokenBucket::new(1, 60_000_000),
            document_missing: false,
            signers: BTreeMap::new(),
        }
    }
}

impl IncomingLimiter {
    /// Replaces the enrolled keys and their highest command numbers.
    pub fn set_signers(&mut self, signers: Vec<(String, u64)>) {
        self.signers = signers.into_iter().collect();
    }

    /// Parses the command in `payload`; `None` when it is invalid or over its limit.
    pub fn command(&mut self, now: Timestamp, name: &str, payload: &[u8]) -> Option<Box<Command>> {
        let mono = now.mono;
        if !contains(payload, b"\"sig\"") {
            return self.unsigned.take(mono).then(|| self.read(now, name, payload)).flatten();
        }
        let long = payload.len() > SHORT;
        if payload.len() > COMMAND_MAX || long && !self.unverified.take(mono) {
            return self.unread(now, name, "too long, or too many long commands");
        }
        let command = self.read(now, name, payload)?;
        let limit = if !self.may_be_valid(now, &command) {
            &mut self.unsigned
        } else if long {
            return Some(command);
        } else {
            &mut self.unverified
        };
        limit.take(mono).then_some(command)
    }

    /// False when the device would reject the command whatever its signature.
    fn may_be_valid(&self, now: Timestamp, command: &Command) -> bool {
        let key = command.args.get("sig").and_then(|sig| sig["key"].as_str());
        let highest = key.and_then(|key| self.signers.get(key));
        let n = command.args.get("n").and_then(Value::as_u64);
        let until = command.expires.as_deref().and_then(|expires| WallTime::parse(expires).ok());
        highest.zip(n).is_some_and(|(highest, n)| n > *highest)
            && until.is_some_and(|until| !is_late(until, now))
    }

    fn read(&mut self, now: Timestamp, name: &str, payload: &[u8]) -> Option<Box<Command>> {
        if payload.len() > COMMAND_MAX {
            return self.unread(now, name, "too long");
        }
        match serde_json::from_slice::<Command>(payload) {
            Ok(command) => Some(Box::new(Command { name: name.to_owned(), ..command })),
            Err(error) => self.unread(now, name, &error.to_string()),
        }
    }

    /// Counts an invalid message, and logs one a minute.
    pub fn unread<T>(&mut self, now: Timestamp, what: &str, why: &str) -> Option<T> {
        if self.unreadable.take(now.mono) {
            let (what, before): (String, u64) =
                (what.chars().take(32).collect(), self.unreadable.dropped());
            tracing::warn!(
                topic = what,
                reason = why,
                before,
                "invalid messages dropped, one logged a minute; check who publishes them"
            );
        }
        None
    }

    /// Whether a configuration document is within its limit.
    pub fn document(&mut self, now: Timestamp) -> bool {
        let may = self.documents.take(now.mono);
        self.document_missing |= !may;
        may
    }

    /// True once, when a document was dropped and the flood is over.
    pub fn should_rerequest(&mut self, now: Timestamp) -> bool {
        let is_due = self.document_missing && self.documents.is_full(now.mono);
        self.document_missing &= !is_due;
        is_due
    }

    /// Whether a confirmation is within its limit.
    pub fn confirm(&mut self, now: Timestamp) -> bool {
        self.confirms.take(now.mono)
    }

    /// Whether the state of an archive is within its limit.
    pub fn host(&mut self, now: Timestamp) -> bool {
        self.hosts.take(now.mono)
    }

    /// Whether a requested resend is within its limit.
    pub fn resend(&mut self, now: Timestamp) -> bool {
        self.resends.take(now.mono)
    }

    /// Messages dropped since boot.
    pub fn dropped(&self) -> DroppedMessages {
        let others =
            [&self.documents, &self.confirms, &self.hosts, &self.resends, &self.unreadable];
        let other = others.iter().map(|bucket| bucket.dropped()).sum();
        DroppedMessages {
            unsigned: self.unsigned.dropped(),
            unverified: self.unverified.dropped(),
            other,
        }
    }

    /// Logs dropped messages, once a minute per kind.
    pub fn report_drops(&mut self, now: Timestamp) {
        for (bucket, what) in [
            (&mut self.unsigned, "commands without a valid signature"),
            (&mut self.unverified, "commands with signatures to verify"),
            (&mut self.documents, "configuration documents"),
            (&mut self.confirms, "confirmations"),
            (&mut self.hosts, "archive states"),
        ] {
            if let Some(dropped) = bucket.due_report(now.mono) {
                tracing::warn!(
                    dropped,
                    kind = what,
                    "messages over their rate limit dropped; check who may publish under dn/ at the broker"
                );
            }
        }
    }
}

/// Whether `bytes` contains `pattern`.
fn contains(bytes: &[u8], pattern: &[u8]) -> bool {
    bytes.windows(pattern.len()).any(|window| window == pattern)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{ClockQuality, MonoTime};

    fn at(micros: u64) -> Timestamp {
        Timestamp {
            mono: MonoTime(micros),
            wall: WallTime(1_790_000_000_000_000 + micros as i64),
            quality: ClockQuality::Ntp,
        }
    }

    fn signed(key: &str, n: u64, expires: &str) -> Vec<u8> {
        let sig = "00".repeat(64);
        format!("{{\"req_id\":\"r{n}\",\"expires\":\"{expires}\",\"n\":{n},\"sig\":{{\"key\":\"{key}\",\"ed25519\":\"{sig}\"}}}}")
            .into_bytes()
    }

    fn limiter() -> IncomingLimiter {
        let mut limiter = IncomingLimiter::default();
        limiter.set_signers(vec![("k".into(), 100)]);
        limiter
    }

    const LATER: &str = "2030-01-01T00:00:00Z";

    #[test]
    fn unsigned_floods_do_not_use_up_the_limit_of_signed_commands() {
        let mut limiter = limiter();
        let (mut unsigned, mut valid) = (0, 0);
        for n in 0..100_000_u64 {
            let now = at(n * 200);
            let invalid = [
                b"{\"req_id\":\"x\"}".to_vec(),
                signed("k", 99, LATER),
                signed("other", 900, LATER),
                signed("k", 900, "2020-01-01T00:00:00Z"),
            ];
            unsigned += u64::from(limiter.command(now, "ping", &invalid[n as usize % 4]).is_some());
            if n % 1000 == 0 {
                valid +=
                    u64::from(limiter.command(now, "ping", &signed("k", 101 + n, LATER)).is_some());
            }
        }
        assert_eq!((unsigned, valid), (10 + 2 * 20 - 1, 100));
        let dropped = limiter.dropped();
        assert_eq!((dropped.unsigned, dropped.unverified), (100_000 - 49, 0));
    }

    #[test]
    fn at_most_fifty_signatures_a_second_are_verified() {
        let mut limiter = limiter();
        let passed = (0..10_000)
            .filter(|n| {
                limiter.command(at(n * 1000), "ping", &signed("k", 101 + n, LATER)).is_some()
            })
            .count();
        assert_eq!(passed, 50 + 50 * 10 - 1);
    }

    #[test]
    fn invalid_payloads_are_never_commands() {
        let mut limiter = limiter();
        let long = [b"{\"sig\":\"".to_vec(), vec![b'x'; COMMAND_MAX]].concat();
        for payload in
            [&b"\xff\xfe"[..], b"", b"[]", b"{\"sig\":1}", b"{\"req_id\":7,\"sig\":{}}", &long]
        {
            assert!((0..200).all(|n| limiter.command(at(n), "ping", payload).is_none()));
        }
    }

    #[test]
    fn a_dropped_document_is_requested_once_after_the_flood() {
        let mut limiter = limiter();
        assert_eq!((0..100).filter(|n| limiter.document(at(*n))).count(), 16);
        assert!(!limiter.should_rerequest(at(1_000_000)));
        assert!(
            limiter.should_rerequest(at(17_000_000)) && !limiter.should_rerequest(at(17_000_001)),
            "once"
        );
    }
}
