//! Bandwidth estimate, rate limit and data budget for files. Events are never delayed here.
//!
//! | value | size | reason |
//! |---|---|---|
//! | a chunk | 0.75 s of bandwidth, 4 KiB to `uplink.chunk` | events wait behind sent bytes |
//! | unacknowledged chunks | 1.5 s of bandwidth, two chunks to 1 MiB | PINGREQ waits behind them |
//! | first estimate | 16 KiB/s | a slow mobile connection; measured within seconds |
//!
//! What belongs here: measuring and allowing, pure. What does not: which piece is next
//! ([`super::file_transfer`]).

use serde::{Deserialize, Serialize};

use crate::settings::BandwidthSettings;
use crate::units::{MonoTime, Timestamp, WallTime};

/// Smallest useful chunk in bytes; every chunk but the last is a multiple of it.
pub const CHUNK_MIN: u32 = 4096;
/// Bandwidth estimate before the first measurement, in bytes per second.
const FIRST_GUESS: f64 = 16_384.0;
/// Seconds of bandwidth that one chunk, and all unacknowledged chunks, may take.
const CHUNK_SECONDS: f64 = 0.75;
const IN_FLIGHT_SECONDS: f64 = 1.5;
/// Limit of unacknowledged chunks in bytes.
const IN_FLIGHT_MAX: u64 = 1 << 20;
/// Weight of a new measurement in the moving average.
const WEIGHT: f64 = 0.25;
/// Shortest measured interval in microseconds. Timer resolution distorts shorter ones.
const SAMPLE_MIN: u64 = 1_000;
const DAY: i64 = 86_400_000_000;

/// Bytes published in the current UTC day and month. Every outbox entry carries it, so that a
/// restart does not reset the budget. It is encoded as three numbers because an entry is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "(i64, u64, u64)", into = "(i64, u64, u64)")]
pub struct DataSpent {
    /// Days since 1970.
    pub day: i64,
    /// Bytes in this day.
    pub today: u64,
    /// Bytes in this month.
    pub month: u64,
}

/// Upper bound of a counter, larger than any budget that can be configured.
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
    /// The counters at `wall`: a new day or month starts at zero.
    fn at(self, wall: WallTime) -> DataSpent {
        let day = wall.0.div_euclid(DAY);
        if day == self.day {
            return self;
        }
        let same = month_of(wall) == month_of(WallTime(self.day.saturating_mul(DAY)));
        DataSpent { day, today: 0, month: if same { self.month } else { 0 } }
    }
}

/// Year and month of a time, e.g. `2026-11`.
fn month_of(wall: WallTime) -> String {
    wall.rfc3339().chars().take(7).collect()
}

/// Why a file must wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Throttle {
    /// Enough bytes are unacknowledged.
    InFlight,
    /// `uplink.rate_cap`.
    Cap,
    /// `uplink.day_budget` or `uplink.month_budget` is used up.
    Budget,
    /// `uplink.quiet_hours`, which delay clips but not requested files.
    Quiet,
}

/// Bandwidth and budget of one uplink.
#[derive(Debug)]
pub struct Bandwidth {
    settings: BandwidthSettings,
    /// Estimated bytes per second.
    rate: f64,
    /// Unacknowledged chunk bytes.
    in_flight: u64,
    /// Start of the current measurement; `None` while idle.
    busy_since: Option<MonoTime>,
    /// Bytes acknowledged in the current measurement.
    measured: u64,
    /// Time at which the rate cap allows the next chunk.
    next_at: MonoTime,
    spent: DataSpent,
}

impl Bandwidth {
    /// A limiter without measurements.
    pub fn new(settings: BandwidthSettings) -> Bandwidth {
        let spent = DataSpent::default();
        Bandwidth {
            settings,
            rate: FIRST_GUESS,
            in_flight: 0,
            busy_since: None,
            measured: 0,
            next_at: MonoTime(0),
            spent,
        }
    }

    /// Applies new settings; the used budget stays.
    pub fn change(&mut self, settings: BandwidthSettings) {
        self.settings = settings;
    }

    /// Restores the budget used by earlier boots.
    pub fn restore(&mut self, spent: DataSpent) {
        self.spent = spent;
    }

    /// The used budget.
    pub fn spent(&self) -> DataSpent {
        self.spent
    }

    /// Measured bandwidth in bytes per second.
    pub fn rate(&self) -> u64 {
        self.rate as u64
    }

    /// The connection ended, and the chunks in flight with it. The estimate stays.
    pub fn lost(&mut self) {
        self.in_flight = 0;
        self.busy_since = None;
        self.measured = 0;
    }

    /// Size of the next chunk in bytes, at most `max`.
    pub fn chunk(&self, max: u32) -> u32 {
        let fits = (self.rate * CHUNK_SECONDS).min(f64::from(max)) as u32;
        (fits - fits % CHUNK_MIN).max(CHUNK_MIN).min(max)
    }

    /// Why the next chunk of a file must wait; `requested` when a command requested the file.
    pub fn throttle(&self, now: Timestamp, chunk: u32, requested: bool) -> Option<Throttle> {
        let spent = self.spent.at(now.wall);
        let over = |budget: u64, used: u64| budget > 0 && used >= budget;
        let in_flight_max = ((self.rate * IN_FLIGHT_SECONDS) as u64)
            .clamp(2 * u64::from(chunk), IN_FLIGHT_MAX.max(2 * u64::from(chunk)));
        if over(self.settings.day_budget, spent.today)
            || over(self.settings.month_budget, spent.month)
        {
            Some(Throttle::Budget)
        } else if !requested && self.settings.quiet.is_some_and(|quiet| quiet.holds(now.wall)) {
            Some(Throttle::Quiet)
        } else if now.mono < self.next_at {
            Some(Throttle::Cap)
        } else {
            (self.in_flight > 0 && self.in_flight + u64::from(chunk) > in_flight_max)
                .then_some(Throttle::InFlight)
        }
    }

    /// Counts published bytes of any kind against the budget.
    pub fn count(&mut self, now: Timestamp, bytes: u64) {
        self.spent = self.spent.at(now.wall);
        self.spent.today = (self.spent.today + bytes).min(SPENT_MAX);
        self.spent.month = (self.spent.month + bytes).min(SPENT_MAX);
    }

    /// A chunk was published.
    pub fn sent(&mut self, now: MonoTime, bytes: u64) {
        if let Some(micros) = (bytes * 1_000_000).checked_div(self.settings.rate_cap) {
            // Unused time is not accumulated: the cap exists to prevent bursts.
            self.next_at = self.next_at.max(now).plus_micros(micros);
        }
        self.busy_since.get_or_insert(now);
        self.in_flight += bytes;
    }

    /// The broker acknowledged a chunk.
    pub fn acked(&mut self, now: MonoTime, bytes: u64) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
        self.measured += bytes;
        let micros = self.busy_since.map_or(0, |since| now.since(since));
        if micros >= SAMPLE_MIN {
            let sample = self.measured as f64 * 1e6 / micros as f64;
            self.rate += (sample - self.rate) * WEIGHT;
            self.busy_since = Some(now);
            self.measured = 0;
        }
        if self.in_flight == 0 {
            self.busy_since = None;
            self.measured = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::QuietHours;
    use crate::units::ClockQuality;

    fn stamp(micros: u64) -> Timestamp {
        Timestamp {
            mono: MonoTime(micros),
            wall: WallTime(1_790_000_000_000_000 + micros as i64),
            quality: ClockQuality::Ntp,
        }
    }

    fn bandwidth(settings: BandwidthSettings) -> Bandwidth {
        Bandwidth::new(settings)
    }

    /// Sends `bytes` over a connection of `rate` bytes per second; returns the longest queueing
    /// delay in µs.
    fn moves(limiter: &mut Bandwidth, rate: u64, bytes: u64) -> u64 {
        let (mut now, mut sent, mut free, mut longest) = (0_u64, 0, 0_u64, 0);
        let mut in_flight = std::collections::VecDeque::new();
        while sent < bytes {
            let chunk = limiter.chunk(65_536);
            if limiter.throttle(stamp(now), chunk, true).is_none() {
                limiter.sent(MonoTime(now), chunk.into());
                free = free.max(now) + u64::from(chunk) * 1_000_000 / rate;
                longest = longest.max(free - now);
                in_flight.push_back((free, chunk));
                sent += u64::from(chunk);
            } else if let Some((at, chunk)) = in_flight.pop_front() {
                now = now.max(at);
                limiter.acked(MonoTime(now), chunk.into());
            } else {
                panic!("throttled with nothing in flight");
            }
        }
        in_flight.into_iter().for_each(|(at, chunk)| limiter.acked(MonoTime(at), chunk.into()));
        longest
    }

    #[test]
    fn an_event_queues_behind_at_most_two_seconds_of_data() {
        for rate in [8_000, 32_000, 1_000_000] {
            let mut limiter = bandwidth(BandwidthSettings::default());
            moves(&mut limiter, rate, 400_000);
            let longest = moves(&mut limiter, rate, 400_000);
            assert!(longest <= 2_000_000, "{rate} bytes a second: {longest} µs");
            let measured = limiter.rate() as f64 / rate as f64;
            assert!(
                (0.8..1.3).contains(&measured),
                "{rate} bytes a second measured as {}",
                limiter.rate()
            );
        }
    }

    #[test]
    fn chunk_size_follows_the_bandwidth_and_the_brokers_limit() {
        let mut limiter = bandwidth(BandwidthSettings::default());
        assert_eq!((limiter.chunk(65_536), limiter.chunk(3_840)), (12_288, 3_840));
        moves(&mut limiter, 4_000, 100_000);
        assert_eq!(limiter.chunk(65_536), CHUNK_MIN);
        moves(&mut limiter, 10_000_000, 4_000_000);
        assert_eq!(limiter.chunk(65_536), 65_536);
    }

    #[test]
    fn a_cap_is_kept_over_any_length_of_time() {
        let mut limiter =
            bandwidth(BandwidthSettings { rate_cap: 10_000, ..BandwidthSettings::default() });
        let (mut now, mut sent) = (0, 0);
        while now < 60_000_000 {
            if limiter.throttle(stamp(now), 4096, true).is_none() {
                limiter.sent(MonoTime(now), 4096);
                limiter.acked(MonoTime(now), 4096);
                sent += 4096;
            }
            now += 10_000;
        }
        assert!((590_000..=604_096).contains(&sent), "{sent} bytes in a minute");
    }

    #[test]
    fn a_budget_holds_files_until_the_next_day_or_month() {
        let mut limiter = bandwidth(BandwidthSettings {
            day_budget: 1000,
            month_budget: 2500,
            ..BandwidthSettings::default()
        });
        let day = |n: i64| Timestamp {
            wall: WallTime::parse("2026-11-28T12:00:00Z").unwrap().plus_micros(n * DAY),
            ..Timestamp::default()
        };
        for n in 0..2 {
            assert_eq!(limiter.throttle(day(n), 100, true), None, "day {n}");
            limiter.count(day(n), 1200);
            assert_eq!(limiter.throttle(day(n), 100, true), Some(Throttle::Budget), "day {n}");
        }
        limiter.count(day(2), 200);
        assert_eq!(
            limiter.throttle(day(2), 100, true),
            Some(Throttle::Budget),
            "the month is used up"
        );
        assert_eq!(limiter.throttle(day(3), 100, true), None, "December");
    }

    #[test]
    fn the_used_budget_survives_a_restart() {
        let settings = BandwidthSettings { day_budget: 1000, ..BandwidthSettings::default() };
        let mut before = bandwidth(settings);
        before.count(stamp(0), 1000);
        let mut after = bandwidth(settings);
        after.restore(before.spent());
        assert_eq!(after.throttle(stamp(1), 100, true), Some(Throttle::Budget));
    }

    #[test]
    fn quiet_hours_delay_clips_across_midnight_but_no_requests() {
        let quiet = QuietHours::parse("22:00-05:30+07:00").unwrap();
        let limiter =
            bandwidth(BandwidthSettings { quiet: Some(quiet), ..BandwidthSettings::default() });
        let at =
            |text: &str| Timestamp { wall: WallTime::parse(text).unwrap(), ..Timestamp::default() };
        for (time, held) in [
            ("21:59", false),
            ("22:00", true),
            ("02:00", true),
            ("05:29", true),
            ("05:30", false),
            ("12:00", false),
        ] {
            let now = at(&format!("2026-11-25T{time}:00+07:00"));
            assert_eq!(limiter.throttle(now, 100, false).is_some(), held, "{time}");
            assert_eq!(limiter.throttle(now, 100, true), None, "{time}");
        }
    }
}
