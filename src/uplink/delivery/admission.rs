//! The gate in front of everything the broker sends: how much of it is looked at. It stands before any reading and verifying, so that
//! a flood costs a few comparisons a message, and what nobody signed never takes the share of what may be signed.
//!
//! | what comes | share |
//! |---|---|
//! | a command without a signature that can be good: none, of an unknown key, of a number that was used, late | 10, then 2 a second |
//! | a command whose signature must be verified | 50, then 50 a second |
//! | a configuration document | 16, then one a second; asked for again when the flood is over |
//! | a confirmation; an archive's state | 20, then 5 a second each |
//!
//! Validly signed commands have a share of their own, behind the verification ([`crate::remote_config::state_machine`]).
//!
//! What belongs here: counting and dropping. What does not: judging signatures, or what a command does (the agent).

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::wire::Command;
use crate::remote_config::signed_document::{DOCUMENT_MAX, is_late};
use crate::remote_config::token_bucket::TokenBucket;
use crate::units::{Timestamp, WallTime};

/// Bytes of a command at most: `config-check` carries a whole text, which JSON may double.
const COMMAND_MAX: usize = DOCUMENT_MAX;
/// A command longer than this costs the share of verifications before it is read.
const SHORT: usize = 4096;

/// The shares, and what they count.
#[derive(Debug)]
pub struct IncomingLimiter {
    unsigned: TokenBucket,
    unverified: TokenBucket,
    documents: TokenBucket,
    confirms: TokenBucket,
    hosts: TokenBucket,
    /// Events that are sent again because somebody asked.
    resends: TokenBucket,
    /// What could not be read: a line of the log each would be a flood too.
    unreadable: TokenBucket,
    /// A document was dropped, and none was asked for since.
    asks: bool,
    /// Who may sign, and the highest number each has used.
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
            asks: false,
            signers: BTreeMap::new(),
        }
    }
}

impl IncomingLimiter {
    /// Other keys may sign, or have used higher numbers.
    pub fn set_signers(&mut self, signers: Vec<(String, u64)>) {
        self.signers = signers.into_iter().collect();
    }

    /// The command in `payload`, when its share allows.
    pub fn command(&mut self, now: Timestamp, name: &str, payload: &[u8]) -> Option<Box<Command>> {
        let mono = now.mono;
        if !holds(payload, b"\"sig\"") {
            return self.unsigned.take(mono).then(|| self.read(now, name, payload)).flatten();
        }
        let long = payload.len() > SHORT;
        if payload.len() > COMMAND_MAX || long && !self.unverified.take(mono) {
            return self.unread(now, name, "it is too long, or too many of its length came");
        }
        let command = self.read(now, name, payload)?;
        let share = if !self.may_be_good(now, &command) {
            &mut self.unsigned
        } else if long {
            return Some(command);
        } else {
            &mut self.unverified
        };
        share.take(mono).then_some(command)
    }

    /// False when no verification is needed to know that the device will not take it.
    fn may_be_good(&self, now: Timestamp, command: &Command) -> bool {
        let key = command.args.get("sig").and_then(|sig| sig["key"].as_str());
        let highest = key.and_then(|key| self.signers.get(key));
        let n = command.args.get("n").and_then(Value::as_u64);
        let until = command.expires.as_deref().and_then(|expires| WallTime::parse(expires).ok());
        highest.zip(n).is_some_and(|(highest, n)| n > *highest) && until.is_some_and(|until| !is_late(until, now))
    }

    fn read(&mut self, now: Timestamp, name: &str, payload: &[u8]) -> Option<Box<Command>> {
        if payload.len() > COMMAND_MAX {
            return self.unread(now, name, "it is too long");
        }
        match serde_json::from_slice::<Command>(payload) {
            Ok(command) => Some(Box::new(Command { name: name.to_owned(), ..command })),
            Err(error) => self.unread(now, name, &error.to_string()),
        }
    }

    /// Something could not be read: counted, and one a minute reported.
    pub fn unread<T>(&mut self, now: Timestamp, what: &str, why: &str) -> Option<T> {
        if self.unreadable.take(now.mono) {
            let (what, before): (String, u64) = (what.chars().take(32).collect(), self.unreadable.dropped());
            tracing::warn!(what, before, "a message that cannot be read: {why}");
        }
        None
    }

    /// Whether a configuration document may be looked at.
    pub fn document(&mut self, now: Timestamp) -> bool {
        let may = self.documents.take(now.mono);
        self.asks |= !may;
        may
    }

    /// True once, when a document was dropped and the flood is over.
    pub fn should_rerequest(&mut self, now: Timestamp) -> bool {
        let asks = self.asks && self.documents.is_full(now.mono);
        self.asks &= !asks;
        asks
    }

    /// Whether a confirmation may be looked at.
    pub fn confirm(&mut self, now: Timestamp) -> bool {
        self.confirms.take(now.mono)
    }

    /// Whether an archive's state may be looked at.
    pub fn host(&mut self, now: Timestamp) -> bool {
        self.hosts.take(now.mono)
    }

    /// Whether an event may be sent again at somebody's wish.
    pub fn resend(&mut self, now: Timestamp) -> bool {
        self.resends.take(now.mono)
    }

    /// Commands dropped without and with a signature that might be good, and all else.
    pub fn dropped(&self) -> (u64, u64, u64) {
        let others = [&self.documents, &self.confirms, &self.hosts, &self.resends, &self.unreadable];
        (self.unsigned.dropped(), self.unverified.dropped(), others.iter().map(|bucket| bucket.dropped()).sum())
    }

    /// Tells the log what was dropped, once a minute.
    pub fn report_drops(&mut self, now: Timestamp) {
        for (bucket, what) in [
            (&mut self.unsigned, "commands that nobody signed"),
            (&mut self.unverified, "commands with signatures to verify"),
            (&mut self.documents, "configuration documents"),
            (&mut self.confirms, "confirmations"),
            (&mut self.hosts, "states of archives"),
        ] {
            if let Some(dropped) = bucket.due_report(now.mono) {
                tracing::warn!(dropped, "more {what} than their share: not looked at; who may publish under dn/ at the broker?");
            }
        }
    }
}

/// Whether these bytes stand anywhere in those.
fn holds(bytes: &[u8], these: &[u8]) -> bool {
    bytes.windows(these.len()).any(|window| window == these)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{ClockQuality, MonoTime};

    fn at(micros: u64) -> Timestamp {
        Timestamp { mono: MonoTime(micros), wall: WallTime(1_790_000_000_000_000 + micros as i64), quality: ClockQuality::Ntp }
    }

    fn signed(key: &str, n: u64, expires: &str) -> Vec<u8> {
        let sig = "00".repeat(64);
        format!("{{\"req_id\":\"r{n}\",\"expires\":\"{expires}\",\"n\":{n},\"sig\":{{\"key\":\"{key}\",\"ed25519\":\"{sig}\"}}}}")
            .into_bytes()
    }

    fn gate() -> IncomingLimiter {
        let mut gate = IncomingLimiter::default();
        gate.set_signers(vec![("k".into(), 100)]);
        gate
    }

    const LATER: &str = "2030-01-01T00:00:00Z";

    #[test]
    fn a_flood_without_signatures_leaves_the_share_of_the_signed() {
        let mut gate = gate();
        let (mut unsigned, mut good) = (0, 0);
        for n in 0..100_000_u64 {
            let now = at(n * 200);
            let no = [
                b"{\"req_id\":\"x\"}".to_vec(),
                signed("k", 99, LATER),
                signed("other", 900, LATER),
                signed("k", 900, "2020-01-01T00:00:00Z"),
            ];
            unsigned += u64::from(gate.command(now, "ping", &no[n as usize % 4]).is_some());
            if n % 1000 == 0 {
                good += u64::from(gate.command(now, "ping", &signed("k", 101 + n, LATER)).is_some());
            }
        }
        assert_eq!((unsigned, good), (10 + 2 * 20 - 1, 100));
        let (dropped, unverified, _) = gate.dropped();
        assert_eq!((dropped, unverified), (100_000 - 49, 0));
    }

    #[test]
    fn at_most_fifty_signatures_a_second_are_verified() {
        let mut gate = gate();
        let passed = (0..10_000).filter(|n| gate.command(at(n * 1000), "ping", &signed("k", 101 + n, LATER)).is_some()).count();
        assert_eq!(passed, 50 + 50 * 10 - 1);
    }

    #[test]
    fn junk_is_never_a_command_and_long_junk_is_not_even_read() {
        let mut gate = gate();
        let long = [b"{\"sig\":\"".to_vec(), vec![b'x'; COMMAND_MAX]].concat();
        for payload in [&b"\xff\xfe"[..], b"", b"[]", b"{\"sig\":1}", b"{\"req_id\":7,\"sig\":{}}", &long] {
            assert!((0..200).all(|n| gate.command(at(n), "ping", payload).is_none()));
        }
    }

    #[test]
    fn a_document_that_was_dropped_is_asked_for_when_it_is_quiet() {
        let mut gate = gate();
        assert_eq!((0..100).filter(|n| gate.document(at(*n))).count(), 16);
        assert!(!gate.should_rerequest(at(1_000_000)));
        assert!(gate.should_rerequest(at(17_000_000)) && !gate.should_rerequest(at(17_000_001)), "once");
    }
}
