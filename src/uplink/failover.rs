//! Broker failover: which broker to try next, in which MQTT version, and after which pause.
//!
//! | end of the connection | reaction |
//! |---|---|
//! | it held for 30 s or longer | the preferred broker again, within a second |
//! | no answer, no address (DNS), *server moved* | the next broker; this one later by its next address |
//! | no CONNACK, or *unsupported protocol version* | the other version at once, if `protocol = "auto"` |
//! | *retain not supported* | the same broker at once, without retained messages |
//! | *busy*, *quota exceeded*, *rate exceeded* | pause of 30 s to 5 min for this broker |
//! | *session taken over*, or closed within 10 s after CONNACK for the third time in a row | another client uses this client id: an alarm, and the same pause |
//! | not authorized, banned, untrusted certificate | pause of 1 min for this broker, doubling to 30 min: an operator must act |
//! | certificate not valid yet while this device's clock is not set | pause of 15 s to 30 s for this broker: the clock is set soon |
//! | a publish refused with an unlisted reason, which rumqttc cannot decode | the same broker at once and no outage, 20 times a minute |
//! | anything else | the next broker |
//!
//! After every broker was tried, a pause with full jitter follows, from 1 s doubling to 5 min. A
//! connection to a fallback broker ends after 30 min, so that the preferred one is tried again.
//!
//! What belongs here: that choice as a pure state machine; the caller supplies random numbers. What
//! does not: connecting ([`super::client`]).

use std::collections::VecDeque;

use crate::settings::Protocol;
use crate::units::MonoTime;

/// First and longest pause between rounds, in microseconds. Full jitter keeps devices from
/// reconnecting at the same moment.
const PAUSE_MIN: u64 = 1_000_000;
const PAUSE_MAX: u64 = 300_000_000;
/// Shortest pause for a busy broker, in microseconds.
const BUSY_MIN: u64 = 30_000_000;
/// Longest session in microseconds that another client with the same client id may have ended: such
/// a client reconnects within seconds, as this one does.
const SHORT_SESSION: u64 = 10_000_000;
/// Short sessions in a row, each closed by the broker, from which on another client is assumed. One
/// or two happen when a broker restarts.
const SHORT_SESSIONS_MAX: u32 = 3;
/// Refused publishes within a span in microseconds that are followed by a connection at once. A
/// limit of messages is found with 11 (256 KiB of a chunk down to 128 bytes).
const REFUSALS_MAX: usize = 20;
const REFUSALS_SPAN: u64 = 60_000_000;
/// First and longest pause for a broker that refuses the device, in microseconds.
const REFUSED_MIN: u64 = 60_000_000;
const REFUSED_MAX: u64 = 1_800_000_000;
/// Longest pause while the clock is not set, in microseconds.
const CLOCK_PAUSE: u64 = 30_000_000;
/// Microseconds after which a connection counts as stable: its end is no failure.
const STABLE_AFTER: u64 = 30_000_000;
/// Longest time on a fallback broker, in microseconds.
const FALLBACK_MAX: u64 = 1_800_000_000;

/// Why a connection ended, as far as it decides the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectFault {
    /// Any other fault, possibly temporary.
    Lost,
    /// No answer from the address.
    Unreachable,
    /// The name has no address.
    Name,
    /// The peer probably does not support this MQTT version.
    Version,
    /// The broker supports no retained messages, not even for the will.
    Retain,
    /// The broker is busy, or the device is over a quota.
    Busy,
    /// The broker closed the connection after CONNACK, without a reason that can be decoded.
    Closed,
    /// Another client uses this client id.
    TakenOver,
    /// A PubAck refused a publish with a reason that rumqttc does not know: the broker is sound.
    RefusedPublish,
    /// A received message exceeds [`super::client::PACKET_MAX`].
    TooLarge,
    /// The broker's certificate is not valid yet by this device's clock.
    NotYetValid,
    /// The same while the clock of this device is not set.
    ClockUnset,
    /// The broker refuses the device: an operator must act.
    Refused,
}

impl ConnectFault {
    /// True for a fault that only an operator ends.
    pub fn needs_operator(self) -> bool {
        matches!(self, ConnectFault::Refused | ConnectFault::NotYetValid)
    }
}

/// The next connection attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// Index of the broker in the order of preference.
    pub broker: usize,
    /// MQTT version.
    pub protocol: Protocol,
    /// Whether the will may be retained.
    pub retain: bool,
    /// Attempts without an answer. The first attempt connects by name, each further one to the next
    /// address.
    pub unreachable_count: usize,
}

/// State of one broker.
#[derive(Debug)]
struct BrokerState {
    protocol: Protocol,
    /// The version is not confirmed by a connection yet.
    is_version_open: bool,
    /// The other version was tried since the last pause.
    tried_other_version: bool,
    retain: bool,
    unreachable_count: usize,
    refusals: u32,
    /// Sessions in a row that the broker closed within [`SHORT_SESSION`].
    short_sessions: u32,
    not_before: MonoTime,
}

/// Selects the broker of the next connection.
#[derive(Debug)]
pub struct BrokerSelector {
    brokers: Vec<BrokerState>,
    at: usize,
    failures: u32,
    up_since: Option<MonoTime>,
    /// Refused publishes within [`REFUSALS_SPAN`] that the same broker was connected to at once for.
    refused_at: VecDeque<MonoTime>,
}

impl BrokerSelector {
    /// A selector for `brokers` brokers. Without a `protocol` it tries MQTT 5 first, then 3.1.1.
    pub fn new(brokers: usize, protocol: Option<Protocol>) -> BrokerSelector {
        let state = || BrokerState {
            protocol: protocol.unwrap_or(Protocol::V5),
            is_version_open: protocol.is_none(),
            tried_other_version: false,
            retain: true,
            unreachable_count: 0,
            refusals: 0,
            short_sessions: 0,
            not_before: MonoTime(0),
        };
        BrokerSelector {
            brokers: (0..brokers.max(1)).map(|_| state()).collect(),
            at: 0,
            failures: 0,
            up_since: None,
            refused_at: VecDeque::new(),
        }
    }

    /// The next attempt.
    pub fn attempt(&self) -> Attempt {
        let BrokerState { protocol, retain, unreachable_count, .. } = &self.brokers[self.at];
        Attempt {
            broker: self.at,
            protocol: *protocol,
            retain: *retain,
            unreachable_count: *unreachable_count,
        }
    }

    /// The broker accepted the connection.
    pub fn connected(&mut self, now: MonoTime) {
        // A connection after a refused publish continues the one before.
        self.up_since.get_or_insert(now);
        let broker = &mut self.brokers[self.at];
        broker.is_version_open = false;
        broker.tried_other_version = false;
        broker.refusals = 0;
    }

    /// True when a connection to a fallback broker must end, so that the preferred broker is tried
    /// again.
    pub fn is_on_fallback(&self, now: MonoTime) -> bool {
        self.at > 0 && self.up_since.is_some_and(|since| now.since(since) >= FALLBACK_MAX)
    }

    /// The fault that the end of the connection shows: MQTT 3.1.1 has no reason for a session that
    /// another client has taken over, and rumqttc does not decode every one of MQTT 5 (ADR 0001).
    /// To be called before [`BrokerSelector::ended`].
    pub fn diagnose(&mut self, now: MonoTime, fault: ConnectFault) -> ConnectFault {
        let up_for = self.up_since.map(|since| now.since(since));
        let broker = &mut self.brokers[self.at];
        match up_for {
            Some(micros) if micros >= SHORT_SESSION => broker.short_sessions = 0,
            Some(_) if fault == ConnectFault::Closed => {
                broker.short_sessions = broker.short_sessions.saturating_add(1);
            }
            _ => {}
        }
        let is_repeated = broker.short_sessions >= SHORT_SESSIONS_MAX;
        if fault == ConnectFault::Closed && is_repeated { ConnectFault::TakenOver } else { fault }
    }

    /// True when the connection ended for one refused publish: the same broker follows at once. To
    /// be called before [`BrokerSelector::ended`], which is not called then.
    pub fn continues(&mut self, now: MonoTime, fault: ConnectFault) -> bool {
        while self.refused_at.front().is_some_and(|at| now.since(*at) >= REFUSALS_SPAN) {
            self.refused_at.pop_front();
        }
        let is_one = fault == ConnectFault::RefusedPublish && self.refused_at.len() < REFUSALS_MAX;
        if is_one {
            self.refused_at.push_back(now);
        }
        is_one
    }

    /// The connection ended or failed. Returns the pause before the next attempt in microseconds;
    /// `random` is in 0..1.
    pub fn ended(&mut self, now: MonoTime, fault: ConnectFault, random: f64) -> u64 {
        let up_for = self.up_since.take().map(|since| now.since(since));
        self.back_off(now, fault, random);
        let quick = part(PAUSE_MIN, random);
        let pause = match up_for {
            _ if fault == ConnectFault::ClockUnset => quick,
            Some(micros) if micros >= STABLE_AFTER => {
                self.at = 0;
                self.failures = 0;
                quick
            }
            _ if self.retries_differently(fault) => quick,
            _ => self.next_broker(random),
        };
        self.choose_available(now, pause)
    }

    /// Sets the pause of a broker that refuses the device or is busy.
    fn back_off(&mut self, now: MonoTime, fault: ConnectFault, random: f64) {
        let broker = &mut self.brokers[self.at];
        let pause = match fault {
            ConnectFault::Busy | ConnectFault::TakenOver => {
                BUSY_MIN + part(PAUSE_MAX - BUSY_MIN, random)
            }
            // The clock may be set at any moment.
            ConnectFault::ClockUnset => CLOCK_PAUSE / 2 + part(CLOCK_PAUSE / 2, random),
            ConnectFault::Refused | ConnectFault::NotYetValid => {
                let longest = doubled(REFUSED_MIN, broker.refusals, REFUSED_MAX);
                broker.refusals += 1;
                longest / 2 + part(longest / 2, random)
            }
            _ => return,
        };
        broker.not_before = now.plus_micros(pause);
    }

    /// True when the same broker must be tried at once with other options.
    fn retries_differently(&mut self, fault: ConnectFault) -> bool {
        let broker = &mut self.brokers[self.at];
        match fault {
            ConnectFault::Version if broker.is_version_open => {
                broker.protocol =
                    if broker.protocol == Protocol::V5 { Protocol::V311 } else { Protocol::V5 };
                broker.tried_other_version = !broker.tried_other_version;
                broker.tried_other_version
            }
            ConnectFault::Retain => std::mem::replace(&mut broker.retain, false),
            ConnectFault::Unreachable => {
                broker.unreachable_count += 1;
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

    /// Chooses a broker and its pause: the current one, else the first that is not paused, else the
    /// one whose pause ends first.
    fn choose_available(&mut self, now: MonoTime, pause: u64) -> u64 {
        let then = now.plus_micros(pause);
        if self.brokers[self.at].not_before <= then {
            return pause;
        }
        let ready = self.brokers.iter().position(|broker| broker.not_before <= then);
        let soonest = || (0..self.brokers.len()).min_by_key(|at| self.brokers[*at].not_before);
        self.at = ready.or_else(soonest).unwrap_or(0);
        pause.max(self.brokers[self.at].not_before.since(now))
    }
}

/// `first` doubled `times` times, at most `max`.
fn doubled(first: u64, times: u32, max: u64) -> u64 {
    first.saturating_mul(1 << times.min(20)).min(max)
}

/// `whole` times a random number.
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
        let mut selector = BrokerSelector::new(1, None);
        let ceilings: Vec<u64> = (0..12)
            .map(|_| selector.ended(at(0), ConnectFault::Lost, 0.999_999) / SECOND + 1)
            .collect();
        assert_eq!(ceilings, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300]);
        assert_eq!(selector.ended(at(0), ConnectFault::Lost, 0.0), 0, "the whole range is used");
    }

    #[test]
    fn the_preferred_broker_is_tried_first_after_a_connection() {
        let mut selector = BrokerSelector::new(3, None);
        let mut order = vec![selector.attempt().broker];
        for _ in 0..4 {
            selector.ended(at(1), ConnectFault::Unreachable, 0.5);
            order.push(selector.attempt().broker);
        }
        assert_eq!(order, [0, 1, 2, 0, 1]);
        selector.connected(at(10));
        selector.ended(at(10 + 60), ConnectFault::Lost, 0.5);
        assert_eq!(selector.attempt().broker, 0);
    }

    #[test]
    fn a_connection_to_a_fallback_ends_after_half_an_hour() {
        let mut selector = BrokerSelector::new(2, None);
        selector.connected(at(0));
        assert!(!selector.is_on_fallback(at(10_000)), "this is the preferred one");
        selector.ended(at(1), ConnectFault::Lost, 0.5);
        selector.connected(at(2));
        assert!(!selector.is_on_fallback(at(1_801)) && selector.is_on_fallback(at(1_802)));
    }

    #[test]
    fn a_broker_that_speaks_only_3_1_1_is_remembered() {
        let mut selector = BrokerSelector::new(1, None);
        assert_eq!(selector.attempt().protocol, Protocol::V5);
        assert!(selector.ended(at(0), ConnectFault::Version, 0.9) < SECOND);
        assert_eq!(selector.attempt().protocol, Protocol::V311);
        selector.connected(at(1));
        selector.ended(at(100), ConnectFault::Lost, 0.5);
        selector.ended(at(101), ConnectFault::Version, 0.5);
        assert_eq!(selector.attempt().protocol, Protocol::V311, "a confirmed version stays");
    }

    #[test]
    fn a_peer_that_speaks_neither_version_is_retried_slowly() {
        let mut selector = BrokerSelector::new(1, None);
        let pauses: Vec<u64> =
            (0..8).map(|_| selector.ended(at(0), ConnectFault::Version, 0.999) / SECOND).collect();
        assert_eq!(pauses, [0, 1, 0, 3, 0, 7, 0, 15]);
    }

    #[test]
    fn a_configured_version_is_never_changed() {
        let mut selector = BrokerSelector::new(1, Some(Protocol::V5));
        selector.ended(at(0), ConnectFault::Version, 0.5);
        assert_eq!(selector.attempt().protocol, Protocol::V5);
    }

    #[test]
    fn a_broker_without_retain_is_retried_without_it_at_once() {
        let mut selector = BrokerSelector::new(1, None);
        assert!(selector.attempt().retain);
        assert!(
            selector.ended(at(0), ConnectFault::Retain, 0.9) < SECOND && !selector.attempt().retain
        );
    }

    #[test]
    fn a_refusing_broker_is_retried_after_half_a_minute_at_least() {
        let mut selector = BrokerSelector::new(1, None);
        let pauses: Vec<u64> =
            (0..7).map(|_| selector.ended(at(0), ConnectFault::Refused, 0.0) / SECOND).collect();
        assert_eq!(pauses, [30, 60, 120, 240, 480, 900, 900]);
        let mut selector = BrokerSelector::new(2, None);
        assert!(selector.ended(at(0), ConnectFault::Refused, 0.5) < SECOND);
        assert_eq!(selector.attempt().broker, 1);
        selector.ended(at(1), ConnectFault::Lost, 0.1);
        assert_eq!(selector.attempt().broker, 1, "the first broker is paused");
    }

    #[test]
    fn a_busy_broker_is_paused_for_half_a_minute_at_least() {
        let mut selector = BrokerSelector::new(1, None);
        assert!(selector.ended(at(0), ConnectFault::Busy, 0.0) >= 30 * SECOND);
    }

    #[test]
    fn an_unset_clock_is_retried_within_half_a_minute() {
        let mut selector = BrokerSelector::new(1, None);
        for _ in 0..100 {
            let pause = selector.ended(at(0), ConnectFault::ClockUnset, 0.999_999) / SECOND;
            assert!((14..=30).contains(&pause), "{pause}");
        }
    }

    #[test]
    fn a_third_short_session_in_a_row_shows_another_client() {
        let mut selector = BrokerSelector::new(1, None);
        let mut session = |from: u64, to: u64, fault| {
            selector.connected(at(from));
            let shown = selector.diagnose(at(to), fault);
            (shown, selector.ended(at(to), shown, 0.0) / SECOND)
        };
        let (closed, taken) = (ConnectFault::Closed, ConnectFault::TakenOver);
        assert_eq!([session(0, 2, closed).0, session(3, 5, closed).0], [closed; 2]);
        assert_eq!(session(6, 15, closed), (taken, 30), "it rests like a busy broker");
        assert_eq!(session(50, 52, closed), (taken, 30));
        assert_eq!(session(100, 110, closed).0, closed, "a longer session ends the row");
        assert_eq!(session(111, 112, closed).0, closed);
    }

    #[test]
    fn only_a_close_of_the_broker_shows_another_client() {
        let mut selector = BrokerSelector::new(1, None);
        for turn in 0..5 {
            selector.connected(at(turn));
            assert_eq!(selector.diagnose(at(turn), ConnectFault::Lost), ConnectFault::Lost);
            selector.ended(at(turn), ConnectFault::Lost, 0.5);
            let refused = selector.diagnose(at(turn), ConnectFault::Unreachable);
            assert_eq!(refused, ConnectFault::Unreachable);
        }
    }

    #[test]
    fn a_refused_publish_is_followed_at_once_20_times_a_minute() {
        let mut selector = BrokerSelector::new(2, None);
        let refused = ConnectFault::RefusedPublish;
        for n in 0..20 {
            selector.connected(at(n));
            assert_eq!(selector.diagnose(at(n), refused), refused);
            assert!(selector.continues(at(n), refused));
            assert_eq!(selector.attempt().broker, 0);
        }
        selector.connected(at(20));
        assert!(!selector.continues(at(20), refused), "a broken broker is no busy loop");
        selector.ended(at(20), refused, 0.5);
        assert_eq!(selector.attempt().broker, 1);
        assert!(!selector.continues(at(59), refused) && selector.continues(at(60), refused));
        assert!(!selector.continues(at(200), ConnectFault::Lost));
    }

    #[test]
    fn refused_publishes_do_not_keep_a_fallback_for_ever() {
        let mut selector = BrokerSelector::new(2, None);
        selector.ended(at(0), ConnectFault::Lost, 0.5);
        for n in 1..=31 {
            selector.connected(at(n * 60));
            assert_eq!(selector.is_on_fallback(at(n * 60)), n == 31);
            assert!(selector.continues(at(n * 60), ConnectFault::RefusedPublish));
        }
    }

    #[test]
    fn a_session_taken_over_rests_even_after_a_long_time() {
        let mut selector = BrokerSelector::new(1, None);
        selector.connected(at(0));
        assert_eq!(selector.ended(at(600), ConnectFault::TakenOver, 0.0) / SECOND, 30);
    }

    #[test]
    fn a_connection_that_breaks_at_once_counts_as_a_failure() {
        let mut selector = BrokerSelector::new(1, None);
        for turn in 0..5 {
            selector.connected(at(turn));
            selector.ended(at(turn), ConnectFault::Lost, 0.5);
        }
        selector.connected(at(9));
        assert_eq!(selector.ended(at(9), ConnectFault::Lost, 0.999_999) / SECOND, 63);
    }

    #[test]
    fn an_unreachable_address_is_followed_by_the_next_one() {
        let mut selector = BrokerSelector::new(1, None);
        selector.ended(at(0), ConnectFault::Unreachable, 0.5);
        selector.ended(at(0), ConnectFault::Name, 0.5);
        assert_eq!(selector.attempt().unreachable_count, 1);
    }
}
