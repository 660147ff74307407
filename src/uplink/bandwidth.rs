//! The pace of files: how fast the way to the broker is, how much of it files may take, and when they must wait. Events never wait
//! here.
//!
//! | number | value | reason |
//! |---|---|---|
//! | a chunk | 0.75 s of the measured way, 4 KiB to `uplink.chunk` | an event waits behind what is already in the socket |
//! | chunks without PubAck | 1.5 s of it, two chunks at least, 1 MiB at most | two keep the way busy; PINGREQ waits behind them too |
//! | first guess | 16 KiB/s | a bad SIM; it is measured within seconds |
//!
//! What belongs here: measuring and allowing, pure. What does not: which piece is next ([`super::file_transfer`]).

use serde::{Deserialize, Serialize};

use crate::settings::BandwidthSettings;
use crate::units::{MonoTime, Timestamp, WallTime};

/// Smallest useful chunk in bytes; every chunk but the last is a multiple of it.
pub const CHUNK_MIN: u32 = 4096;
/// Bytes a second, before anything was measured.
const FIRST_GUESS: f64 = 16_384.0;
/// Seconds of the way that one chunk, and all chunks without PubAck, may take.
const CHUNK_SECONDS: f64 = 0.75;
const FLYING_SECONDS: f64 = 1.5;
/// Bytes of chunks without PubAck at most.
const FLYING_MAX: u64 = 1 << 20;
/// How much a new measurement counts.
const WEIGHT: f64 = 0.25;
/// Shortest time measured over, microseconds: below it a timer's grain decides.
const SAMPLE_MIN: u64 = 1_000;
const DAY: i64 = 86_400_000_000;

/// Bytes published in the day and the month that run, by UTC. It rides in every outbox entry, so that a restart does not forget it:
/// there it is three numbers, because an entry has its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "(i64, u64, u64)", into = "(i64, u64, u64)")]
pub struct DataSpent {
    /// Days since 1970.
    pub day: i64,
    /// In this day.
    pub today: u64,
    /// In this month.
    pub month: u64,
}

/// More than any budget that can be set: what is used beyond it makes no difference.
pub const SPENT_MAX: u64 = 1 << 44;

impl From<(i64, u64, u64)> for DataSpent {
    fn from((day, today, month): (i64, u64, u64)) -> DataSpent {
        DataSpent { day, today, month }
    }
}

impl From<DataSpent> for (i64, u64, u64) {
    fn from(spent: DataSpent) -> (i64, u64, u64) {
        (spent.day, spent.today, spent.month)
    }
}

impl DataSpent {
    /// The same at another time: a new day or month begins at nothing.
    fn at(self, wall: WallTime) -> DataSpent {
        let day = wall.0.div_euclid(DAY);
        if day == self.day {
            return self;
        }
        let same = month_of(wall) == month_of(WallTime(self.day.saturating_mul(DAY)));
        DataSpent { day, today: 0, month: if same { self.month } else { 0 } }
    }
}

/// `2026-11` of a time.
fn month_of(wall: WallTime) -> String {
    wall.rfc3339().chars().take(7).collect()
}

/// What keeps files waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Throttle {
    /// Enough is on its way.
    Flying,
    /// `uplink.rate_cap`.
    Cap,
    /// `uplink.day_budget` or `uplink.month_budget` is used up.
    Budget,
    /// `uplink.quiet_hours`, for clips nobody asked for.
    Quiet,
}

/// The pace of one link.
#[derive(Debug)]
pub struct Bandwidth {
    settings: BandwidthSettings,
    /// Bytes a second.
    rate: f64,
    /// Chunk bytes without PubAck.
    flying: u64,
    /// Since when the way is busy, and what it has moved since.
    busy: Option<MonoTime>,
    moved: u64,
    /// When the cap allows the next chunk.
    next: MonoTime,
    spent: DataSpent,
}

impl Bandwidth {
    /// Nothing measured yet.
    pub fn new(settings: BandwidthSettings) -> Bandwidth {
        let spent = DataSpent::default();
        Bandwidth { settings, rate: FIRST_GUESS, flying: 0, busy: None, moved: 0, next: MonoTime(0), spent }
    }

    /// Other settings: what is used stays used.
    pub fn change(&mut self, settings: BandwidthSettings) {
        self.settings = settings;
    }

    /// What earlier starts have used.
    pub fn restore(&mut self, spent: DataSpent) {
        self.spent = spent;
    }

    /// What is used up by now.
    pub fn spent(&self) -> DataSpent {
        self.spent
    }

    /// Bytes a second, as measured.
    pub fn rate(&self) -> u64 {
        self.rate as u64
    }

    /// The connection is gone, and what was in flight with it. What was measured stays a good guess.
    pub fn lost(&mut self) {
        (self.flying, self.busy, self.moved) = (0, None, 0);
    }

    /// Bytes of the next chunk, `most` at most.
    pub fn chunk(&self, most: u32) -> u32 {
        let fits = (self.rate * CHUNK_SECONDS).min(f64::from(most)) as u32;
        (fits - fits % CHUNK_MIN).max(CHUNK_MIN).min(most)
    }

    /// Why a file may not go on now; `asked` when somebody waits for it.
    pub fn throttle(&self, now: Timestamp, chunk: u32, asked: bool) -> Option<Throttle> {
        let spent = self.spent.at(now.wall);
        let over = |budget: u64, used: u64| budget > 0 && used >= budget;
        let flying_max = ((self.rate * FLYING_SECONDS) as u64).clamp(2 * u64::from(chunk), FLYING_MAX.max(2 * u64::from(chunk)));
        if over(self.settings.day_budget, spent.today) || over(self.settings.month_budget, spent.month) {
            Some(Throttle::Budget)
        } else if !asked && self.settings.quiet.is_some_and(|quiet| quiet.holds(now.wall)) {
            Some(Throttle::Quiet)
        } else if now.mono < self.next {
            Some(Throttle::Cap)
        } else {
            (self.flying > 0 && self.flying + u64::from(chunk) > flying_max).then_some(Throttle::Flying)
        }
    }

    /// Bytes of any kind are published.
    pub fn count(&mut self, now: Timestamp, bytes: u64) {
        self.spent = self.spent.at(now.wall);
        self.spent.today = (self.spent.today + bytes).min(SPENT_MAX);
        self.spent.month = (self.spent.month + bytes).min(SPENT_MAX);
    }

    /// A chunk is published.
    pub fn sent(&mut self, now: MonoTime, bytes: u64) {
        if let Some(micros) = (bytes * 1_000_000).checked_div(self.settings.rate_cap) {
            // Time not used is not saved up: a burst would be what the cap is against.
            self.next = self.next.max(now).plus_micros(micros);
        }
        self.busy.get_or_insert(now);
        self.flying += bytes;
    }

    /// A chunk is acknowledged by the broker: the way has moved it.
    pub fn acked(&mut self, now: MonoTime, bytes: u64) {
        self.flying = self.flying.saturating_sub(bytes);
        self.moved += bytes;
        let micros = self.busy.map_or(0, |since| now.since(since));
        if micros >= SAMPLE_MIN {
            let sample = self.moved as f64 * 1e6 / micros as f64;
            self.rate += (sample - self.rate) * WEIGHT;
            (self.busy, self.moved) = (Some(now), 0);
        }
        if self.flying == 0 {
            (self.busy, self.moved) = (None, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::QuietHours;
    use crate::units::ClockQuality;

    fn stamp(micros: u64) -> Timestamp {
        Timestamp { mono: MonoTime(micros), wall: WallTime(1_790_000_000_000_000 + micros as i64), quality: ClockQuality::Ntp }
    }

    fn pace(settings: BandwidthSettings) -> Bandwidth {
        Bandwidth::new(settings)
    }

    /// Moves `bytes` over a way of `rate` bytes a second, as fast as the pace allows; gives the longest queue before the way, µs.
    fn moves(pace: &mut Bandwidth, rate: u64, bytes: u64) -> u64 {
        let (mut now, mut sent, mut free, mut longest) = (0_u64, 0, 0_u64, 0);
        let mut flying = std::collections::VecDeque::new();
        while sent < bytes {
            let chunk = pace.chunk(65_536);
            if pace.throttle(stamp(now), chunk, true).is_none() {
                pace.sent(MonoTime(now), chunk.into());
                free = free.max(now) + u64::from(chunk) * 1_000_000 / rate;
                longest = longest.max(free - now);
                flying.push_back((free, chunk));
                sent += u64::from(chunk);
            } else if let Some((at, chunk)) = flying.pop_front() {
                now = now.max(at);
                pace.acked(MonoTime(now), chunk.into());
            } else {
                panic!("held back with nothing on its way");
            }
        }
        flying.into_iter().for_each(|(at, chunk)| pace.acked(MonoTime(at), chunk.into()));
        longest
    }

    #[test]
    fn an_event_waits_behind_two_seconds_of_data_at_most() {
        for rate in [8_000, 32_000, 1_000_000] {
            let mut pace = pace(BandwidthSettings::default());
            moves(&mut pace, rate, 400_000);
            let longest = moves(&mut pace, rate, 400_000);
            assert!(longest <= 2_000_000, "{rate} bytes a second: {longest} µs");
            let measured = pace.rate() as f64 / rate as f64;
            assert!((0.8..1.3).contains(&measured), "{rate} bytes a second measured as {}", pace.rate());
        }
    }

    #[test]
    fn chunks_follow_the_way_and_the_brokers_limit() {
        let mut pace = pace(BandwidthSettings::default());
        assert_eq!((pace.chunk(65_536), pace.chunk(3_840)), (12_288, 3_840));
        moves(&mut pace, 4_000, 100_000);
        assert_eq!(pace.chunk(65_536), CHUNK_MIN);
        moves(&mut pace, 10_000_000, 4_000_000);
        assert_eq!(pace.chunk(65_536), 65_536);
    }

    #[test]
    fn a_cap_is_kept_over_any_length_of_time() {
        let mut pace = pace(BandwidthSettings { rate_cap: 10_000, ..BandwidthSettings::default() });
        let (mut now, mut sent) = (0, 0);
        while now < 60_000_000 {
            if pace.throttle(stamp(now), 4096, true).is_none() {
                pace.sent(MonoTime(now), 4096);
                pace.acked(MonoTime(now), 4096);
                sent += 4096;
            }
            now += 10_000;
        }
        assert!((590_000..=604_096).contains(&sent), "{sent} bytes in a minute");
    }

    #[test]
    fn a_budget_holds_files_until_the_next_day_or_month() {
        let mut pace = pace(BandwidthSettings { day_budget: 1000, month_budget: 2500, ..BandwidthSettings::default() });
        let day = |n: i64| Timestamp {
            wall: WallTime::parse("2026-11-28T12:00:00Z").unwrap().plus_micros(n * DAY),
            ..Timestamp::default()
        };
        for n in 0..2 {
            assert_eq!(pace.throttle(day(n), 100, true), None, "day {n}");
            pace.count(day(n), 1200);
            assert_eq!(pace.throttle(day(n), 100, true), Some(Throttle::Budget), "day {n}");
        }
        pace.count(day(2), 200);
        assert_eq!(pace.throttle(day(2), 100, true), Some(Throttle::Budget), "the month is used up");
        assert_eq!(pace.throttle(day(3), 100, true), None, "December");
    }

    #[test]
    fn what_is_spent_outlives_a_restart() {
        let settings = BandwidthSettings { day_budget: 1000, ..BandwidthSettings::default() };
        let mut before = pace(settings);
        before.count(stamp(0), 1000);
        let mut after = pace(settings);
        after.restore(before.spent());
        assert_eq!(after.throttle(stamp(1), 100, true), Some(Throttle::Budget));
    }

    #[test]
    fn quiet_hours_hold_what_nobody_asked_for_and_cross_midnight() {
        let quiet = QuietHours::parse("22:00-05:30+07:00").unwrap();
        let pace = pace(BandwidthSettings { quiet: Some(quiet), ..BandwidthSettings::default() });
        let at = |text: &str| Timestamp { wall: WallTime::parse(text).unwrap(), ..Timestamp::default() };
        for (time, held) in
            [("21:59", false), ("22:00", true), ("02:00", true), ("05:29", true), ("05:30", false), ("12:00", false)]
        {
            let now = at(&format!("2026-11-25T{time}:00+07:00"));
            assert_eq!(pace.throttle(now, 100, false).is_some(), held, "{time}");
            assert_eq!(pace.throttle(now, 100, true), None, "{time}");
        }
    }
}
