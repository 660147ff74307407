//! The session machine: which broker is tried next, in which version of MQTT, and after which pause.
//!
//! | what ended the connection | what follows |
//! |---|---|
//! | it held for 30 s or more | the preferred broker again, within a second |
//! | nobody there, no name (DNS), a server that moved | the next broker; this one by its next address |
//! | no CONNACK, or *unsupported protocol version* | with `protocol = "auto"` the other version at once |
//! | *retain not supported* | the same broker at once, nothing retained |
//! | *busy*, *quota exceeded*, *rate exceeded*, taken over by another client | this broker rests 30 s to 5 min |
//! | not authorised, banned, a certificate nobody believes | this broker rests 1 min, doubling to 30 min: it takes a person |
//! | anything else | the next broker |
//!
//! After every broker has been tried there is a pause with full jitter, from 1 s doubling to 5 min. On a broker that is not the
//! first, the connection is dropped after 30 min, so that the preferred one is tried again.
//!
//! What belongs here: that choice, pure; randomness comes as an argument. What does not: connecting ([`super::client`]).

use crate::settings::Protocol;
use crate::units::MonoTime;

/// First and longest pause between rounds, microseconds: full jitter, so that a commune's devices do not come back as one.
const PAUSE_MIN: u64 = 1_000_000;
const PAUSE_MAX: u64 = 300_000_000;
/// How long a broker that says it is busy is left alone, at least.
const BUSY_MIN: u64 = 30_000_000;
/// How long one that refuses us is left alone: first and longest. A storm of bad logins helps nobody.
const REFUSED_MIN: u64 = 60_000_000;
const REFUSED_MAX: u64 = 1_800_000_000;
/// A connection that held so long was a good one: its end is no failure.
const STEADY: u64 = 30_000_000;
/// Longest stay on a broker that is not the first.
const STRAY_MAX: u64 = 1_800_000_000;

/// Why a connection ended, as far as it changes what is tried next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectFault {
    /// Anything that may be better in a moment.
    Lost,
    /// Nobody answers there.
    Unreachable,
    /// The name has no address.
    Name,
    /// The peer does not speak this version, as far as one can tell.
    Version,
    /// The broker keeps no retained messages, not even a will.
    Retain,
    /// It is busy, or we are over a quota.
    Busy,
    /// A message came that is larger than we take.
    TooLarge,
    /// It refuses us: somebody must look.
    Refused,
}

/// What is tried next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// Which broker, by preference.
    pub broker: usize,
    /// In which version.
    pub protocol: Protocol,
    /// Whether the will may be retained.
    pub retain: bool,
    /// How often nobody answered there: the first try goes by name, each further one to the next address.
    pub misses: usize,
}

/// What is known of one broker.
#[derive(Debug)]
struct BrokerState {
    protocol: Protocol,
    /// The version is still open, and whether the other one was tried since the last pause.
    open: bool,
    flipped: bool,
    retain: bool,
    misses: usize,
    refusals: u32,
    not_before: MonoTime,
}

/// The session machine of one device.
#[derive(Debug)]
pub struct BrokerSelector {
    brokers: Vec<BrokerState>,
    at: usize,
    failures: u32,
    up_since: Option<MonoTime>,
}

impl BrokerSelector {
    /// A machine for so many brokers; no `protocol` means MQTT 5 and 3.1.1 where that fails.
    pub fn new(brokers: usize, protocol: Option<Protocol>) -> BrokerSelector {
        let known = || BrokerState {
            protocol: protocol.unwrap_or(Protocol::V5),
            open: protocol.is_none(),
            flipped: false,
            retain: true,
            misses: 0,
            refusals: 0,
            not_before: MonoTime(0),
        };
        BrokerSelector { brokers: (0..brokers.max(1)).map(|_| known()).collect(), at: 0, failures: 0, up_since: None }
    }

    /// What to try now.
    pub fn attempt(&self) -> Attempt {
        let BrokerState { protocol, retain, misses, .. } = &self.brokers[self.at];
        Attempt { broker: self.at, protocol: *protocol, retain: *retain, misses: *misses }
    }

    /// The broker took us.
    pub fn connected(&mut self, now: MonoTime) {
        self.up_since = Some(now);
        let known = &mut self.brokers[self.at];
        (known.open, known.flipped, known.refusals) = (false, false, 0);
    }

    /// True when it is time to try the preferred broker again.
    pub fn is_on_fallback(&self, now: MonoTime) -> bool {
        self.at > 0 && self.up_since.is_some_and(|since| now.since(since) >= STRAY_MAX)
    }

    /// The connection ended, or never came about. Gives the pause before the next attempt in microseconds; `random` is in 0..1.
    pub fn ended(&mut self, now: MonoTime, fault: ConnectFault, random: f64) -> u64 {
        let up_for = self.up_since.take().map(|since| now.since(since));
        self.back_off(now, fault, random);
        let quick = part(PAUSE_MIN, random);
        let pause = match up_for {
            Some(micros) if micros >= STEADY => {
                (self.at, self.failures) = (0, 0);
                quick
            }
            _ if self.changed(fault) => quick,
            _ => self.next_broker(random),
        };
        self.awake(now, pause)
    }

    /// A broker that refuses or is busy rests.
    fn back_off(&mut self, now: MonoTime, fault: ConnectFault, random: f64) {
        let known = &mut self.brokers[self.at];
        let rest = match fault {
            ConnectFault::Busy => BUSY_MIN + part(PAUSE_MAX - BUSY_MIN, random),
            ConnectFault::Refused => {
                let longest = doubled(REFUSED_MIN, known.refusals, REFUSED_MAX);
                known.refusals += 1;
                longest / 2 + part(longest / 2, random)
            }
            _ => return,
        };
        known.not_before = now.plus_micros(rest);
    }

    /// True when the same broker is to be tried at once in another way.
    fn changed(&mut self, fault: ConnectFault) -> bool {
        let known = &mut self.brokers[self.at];
        match fault {
            ConnectFault::Version if known.open => {
                known.protocol = if known.protocol == Protocol::V5 { Protocol::V311 } else { Protocol::V5 };
                known.flipped = !known.flipped;
                known.flipped
            }
            ConnectFault::Retain => std::mem::replace(&mut known.retain, false),
            ConnectFault::Unreachable => {
                known.misses += 1;
                false
            }
            _ => false,
        }
    }

    fn next_broker(&mut self, random: f64) -> u64 {
        self.at += 1;
        if self.at < self.brokers.len() {
            return part(PAUSE_MIN, random);
        }
        self.at = 0;
        self.failures += 1;
        part(doubled(PAUSE_MIN, self.failures, PAUSE_MAX), random)
    }

    /// The pause until a broker may be tried: the chosen one, else the first in order that does not rest, else who rests the least.
    fn awake(&mut self, now: MonoTime, pause: u64) -> u64 {
        let then = now.plus_micros(pause);
        if self.brokers[self.at].not_before <= then {
            return pause;
        }
        let ready = self.brokers.iter().position(|known| known.not_before <= then);
        let soonest = || (0..self.brokers.len()).min_by_key(|at| self.brokers[*at].not_before);
        self.at = ready.or_else(soonest).unwrap_or(0);
        pause.max(self.brokers[self.at].not_before.since(now))
    }
}

/// `first` doubled so many times, never more than `most`.
fn doubled(first: u64, times: u32, most: u64) -> u64 {
    first.saturating_mul(1 << times.min(20)).min(most)
}

/// A random part of `whole`.
fn part(whole: u64, random: f64) -> u64 {
    (whole as f64 * random) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn at(seconds: u64) -> MonoTime {
        MonoTime(seconds * SECOND)
    }

    #[test]
    fn pauses_are_full_jitter_from_a_second_to_five_minutes() {
        let mut session = BrokerSelector::new(1, None);
        let ceilings: Vec<u64> = (0..12).map(|_| session.ended(at(0), ConnectFault::Lost, 0.999_999) / SECOND + 1).collect();
        assert_eq!(ceilings, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300]);
        assert_eq!(session.ended(at(0), ConnectFault::Lost, 0.0), 0, "the whole range is used");
    }

    #[test]
    fn the_preferred_broker_is_tried_first_after_a_connection() {
        let mut session = BrokerSelector::new(3, None);
        let mut order = vec![session.attempt().broker];
        for _ in 0..4 {
            session.ended(at(1), ConnectFault::Unreachable, 0.5);
            order.push(session.attempt().broker);
        }
        assert_eq!(order, [0, 1, 2, 0, 1]);
        session.connected(at(10));
        session.ended(at(10 + 60), ConnectFault::Lost, 0.5);
        assert_eq!(session.attempt().broker, 0);
    }

    #[test]
    fn a_stay_on_another_broker_ends_after_half_an_hour() {
        let mut session = BrokerSelector::new(2, None);
        session.connected(at(0));
        assert!(!session.is_on_fallback(at(10_000)), "this is the preferred one");
        session.ended(at(1), ConnectFault::Lost, 0.5);
        session.connected(at(2));
        assert!(!session.is_on_fallback(at(1_801)) && session.is_on_fallback(at(1_802)));
    }

    #[test]
    fn a_broker_that_speaks_only_3_1_1_is_remembered() {
        let mut session = BrokerSelector::new(1, None);
        assert_eq!(session.attempt().protocol, Protocol::V5);
        assert!(session.ended(at(0), ConnectFault::Version, 0.9) < SECOND);
        assert_eq!(session.attempt().protocol, Protocol::V311);
        session.connected(at(1));
        session.ended(at(100), ConnectFault::Lost, 0.5);
        session.ended(at(101), ConnectFault::Version, 0.5);
        assert_eq!(session.attempt().protocol, Protocol::V311, "known is known");
    }

    #[test]
    fn a_peer_that_speaks_neither_version_is_retried_slowly() {
        let mut session = BrokerSelector::new(1, None);
        let pauses: Vec<u64> = (0..8).map(|_| session.ended(at(0), ConnectFault::Version, 0.999) / SECOND).collect();
        assert_eq!(pauses, [0, 1, 0, 3, 0, 7, 0, 15]);
    }

    #[test]
    fn a_version_that_was_chosen_stays() {
        let mut session = BrokerSelector::new(1, Some(Protocol::V5));
        session.ended(at(0), ConnectFault::Version, 0.5);
        assert_eq!(session.attempt().protocol, Protocol::V5);
    }

    #[test]
    fn a_broker_without_retain_is_retried_without_it_at_once() {
        let mut session = BrokerSelector::new(1, None);
        assert!(session.attempt().retain);
        assert!(session.ended(at(0), ConnectFault::Retain, 0.9) < SECOND && !session.attempt().retain);
    }

    #[test]
    fn a_refusal_is_never_retried_hot() {
        let mut session = BrokerSelector::new(1, None);
        let pauses: Vec<u64> = (0..7).map(|_| session.ended(at(0), ConnectFault::Refused, 0.0) / SECOND).collect();
        assert_eq!(pauses, [30, 60, 120, 240, 480, 900, 900]);
        let mut session = BrokerSelector::new(2, None);
        assert!(session.ended(at(0), ConnectFault::Refused, 0.5) < SECOND);
        assert_eq!(session.attempt().broker, 1);
        session.ended(at(1), ConnectFault::Lost, 0.1);
        assert_eq!(session.attempt().broker, 1, "the first one rests");
    }

    #[test]
    fn a_busy_broker_rests_for_half_a_minute_at_least() {
        let mut session = BrokerSelector::new(1, None);
        assert!(session.ended(at(0), ConnectFault::Busy, 0.0) >= 30 * SECOND);
    }

    #[test]
    fn a_connection_that_breaks_at_once_counts_as_a_failure() {
        let mut session = BrokerSelector::new(1, None);
        for turn in 0..5 {
            session.connected(at(turn));
            session.ended(at(turn), ConnectFault::Lost, 0.5);
        }
        session.connected(at(9));
        assert_eq!(session.ended(at(9), ConnectFault::Lost, 0.999_999) / SECOND, 63);
    }

    #[test]
    fn an_address_where_nobody_answers_is_followed_by_the_next_one() {
        let mut session = BrokerSelector::new(1, None);
        session.ended(at(0), ConnectFault::Unreachable, 0.5);
        session.ended(at(0), ConnectFault::Name, 0.5);
        assert_eq!(session.attempt().misses, 1);
    }
}
