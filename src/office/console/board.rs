//! Judgement of a site for the board: a state, and a code for the sentence that gives the reason.
//!
//! Pure: one table of thresholds. The pages have the sentences, in each language.

use serde_json::{Map, Value, json};

use crate::office::queries::rows::CameraReport;
use crate::units::{ClockQuality, WallTime};
use crate::uplink::wire::Health;

/// Seconds between two health messages where the birth says nothing else (docs/mqtt.md).
pub const HEALTH_EVERY: u32 = 60;
/// Health messages that may be missing before a site counts as silent: one is lost with a broken
/// connection, the second while the device connects again.
const SILENT_AFTER: i64 = 3;
/// Seconds that a camera has to begin after a boot: 10 s to connect, three tries of a log-in.
const STARTING_MAX: u64 = 120;
/// Seconds that entries may wait for the office: a clip of an evening's events on a slow link.
const BACKLOG_AGE: u64 = 3_600;
/// Percent of the card's life from which it is to be replaced: a tenth goes in some months.
const CARD_WORN: u64 = 80;
/// The worst clock quality that needs no attention: times of `rtc` can be minutes wrong.
const CLOCK_GOOD: ClockQuality = ClockQuality::Camera;
/// Seconds that sequence numbers may be missing: the device sends them again within minutes.
const MISSING_AGE: i64 = 3_600;
/// Percent of the SIM's budget above which the board warns.
const BUDGET_PERCENT: u64 = 90;
/// Days before the end of a device's certificate: a visit takes weeks to plan.
const CERTIFICATE_DAYS: i64 = 30;
/// Microseconds of a second.
const SECOND: i64 = 1_000_000;

/// What the archive knows of a site.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// `online`, `stopping`, `lost`, or empty before the first state.
    pub presence: String,
    /// Time of the last message.
    pub seen: Option<WallTime>,
    /// The last health message.
    pub health: Option<Health>,
    /// The newest report that the camera stopped or plays again.
    pub camera: Option<CameraReport>,
    /// Sequence numbers that are missing.
    pub missing: u64,
    /// Since when some have been missing.
    pub missing_since: Option<WallTime>,
    /// Seconds between two health messages; 0: [`HEALTH_EVERY`].
    pub health_every: u32,
    /// Used part of the SIM's budget.
    pub budget_percent: Option<u64>,
    /// Days until the device's certificate ends.
    pub certificate_days: Option<i64>,
    /// A demonstration: devices and office share one machine and so one clock.
    pub is_demo: bool,
}

/// State of a site, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It does not record, or it is unknown whether it does.
    Fault,
    /// It records, and something needs a look.
    Warn,
    /// It was never heard.
    Unknown,
    /// All is well.
    Ok,
}

impl State {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Fault => "fault",
            State::Warn => "warn",
            State::Unknown => "unknown",
            State::Ok => "ok",
        }
    }
}

/// A judgement.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// The state.
    pub state: State,
    /// Code of the sentence.
    pub code: &'static str,
    /// What the sentence names.
    pub args: Map<String, Value>,
}

fn judgement(state: State, code: &'static str, args: Value) -> Judgement {
    let Value::Object(args) = args else { return Judgement { state, code, args: Map::new() } };
    Judgement { state, code, args }
}

/// Judges a site: the first rule that applies gives the reason.
pub fn judge(facts: &Facts, now: WallTime) -> Judgement {
    if facts.presence.is_empty() && facts.health.is_none() {
        return judgement(State::Unknown, "never_heard", json!({}));
    }
    fault(facts, now).or_else(|| warning(facts, now)).unwrap_or_else(|| well(facts))
}

/// It records. The clock of a demonstration's machine is said, and is no alarm: it
/// cannot differ from the office's.
fn well(facts: &Facts) -> Judgement {
    let clock = facts.health.as_ref().map(|health| health.clock);
    match clock.filter(|clock| *clock < CLOCK_GOOD) {
        Some(clock) => judgement(State::Ok, "recording_demo", json!({"clock": clock})),
        None => judgement(State::Ok, "recording", json!({})),
    }
}

/// It does not record, or that is unknown.
fn fault(facts: &Facts, now: WallTime) -> Option<Judgement> {
    let since = || json!({"since": facts.seen.map(WallTime::rfc3339)});
    let fault = |code, args| Some(judgement(State::Fault, code, args));
    match facts.presence.as_str() {
        "lost" => return fault("lost", since()),
        "stopping" => return fault("stopping", since()),
        _ => {}
    }
    let every = if facts.health_every == 0 { HEALTH_EVERY } else { facts.health_every };
    let silence = facts.seen.map_or(i64::MAX, |seen| now.0.saturating_sub(seen.0));
    if silence > SILENT_AFTER * i64::from(every) * SECOND {
        return fault("silent", since());
    }
    let health = facts.health.as_ref();
    if health.is_some_and(|health| counter(health, "storage.memory_only") > 0) {
        return fault("memory_only", json!({}));
    }
    match camera(facts)? {
        "recording" => None,
        "starting" if health.is_some_and(|health| health.uptime <= STARTING_MAX) => None,
        "starting" | "" => fault("not_recording", json!({})),
        camera => fault("camera_down", json!({"fault": camera})),
    }
}

/// State of the camera, in the words of a health message: as the newer of the health message and
/// the camera's event says. An event is older when it waited for the office while health did not.
pub fn camera(facts: &Facts) -> Option<&str> {
    let said = facts.health.as_ref().map(|health| (WallTime::parse(&health.t).ok(), health));
    let is_newer = |report: &&CameraReport| said.is_none_or(|(at, _)| at < Some(report.at));
    match facts.camera.as_ref().filter(is_newer) {
        Some(report) => Some(&report.state),
        None => said.map(|(_, health)| health.camera.as_str()),
    }
}

/// It records, and something needs a look.
fn warning(facts: &Facts, now: WallTime) -> Option<Judgement> {
    let warn = |code, args| Some(judgement(State::Warn, code, args));
    let Some(health) = &facts.health else { return warn("starting", json!({})) };
    if camera(facts) == Some("starting") {
        return warn("starting", json!({}));
    }
    if counter(health, "motion.blind") > 0 {
        return warn("blind", json!({}));
    }
    if counter(health, "camera.unstable") > 0 {
        return warn("unstable", json!({"count": counter(health, "storage.skipped")}));
    }
    if health.backlog.n > 0 && health.backlog.oldest > BACKLOG_AGE {
        let since = backlog_since(health).map(WallTime::rfc3339);
        return warn("backlog_old", json!({"bytes": health.backlog.bytes, "since": since}));
    }
    let worn = counter(health, "storage.worn_percent");
    if worn >= CARD_WORN {
        return warn("card_worn", json!({"percent": worn}));
    }
    if health.clock < CLOCK_GOOD && !facts.is_demo {
        return warn("clock_poor", json!({"clock": health.clock}));
    }
    let missing_for = facts.missing_since.map_or(0, |since| now.0.saturating_sub(since.0));
    if facts.missing > 0 && missing_for > MISSING_AGE * SECOND {
        return warn("missing", json!({"count": facts.missing}));
    }
    if let Some(percent) = facts.budget_percent.filter(|percent| *percent > BUDGET_PERCENT) {
        return warn("sim_budget", json!({"percent": percent}));
    }
    if let Some(days) = facts.certificate_days.filter(|days| *days < CERTIFICATE_DAYS) {
        return warn("certificate", json!({"days": days}));
    }
    None
}

/// Since when the oldest entry has waited for the office.
pub fn backlog_since(health: &Health) -> Option<WallTime> {
    let said = WallTime::parse(&health.t).ok().filter(|_| health.backlog.n > 0)?;
    let age = i64::try_from(health.backlog.oldest).unwrap_or(i64::MAX);
    Some(said.plus_micros(age.saturating_mul(-SECOND)))
}

/// A counter of the health message; 0 where the device has none.
pub fn counter(health: &Health, name: &str) -> u64 {
    health.counters.get(name).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uplink::wire::Backlog;

    const NOW: WallTime = WallTime(1_796_000_000 * SECOND);

    fn well() -> Facts {
        let health = Health {
            t: NOW.rfc3339(),
            clock: ClockQuality::Ntp,
            uptime: 3_600,
            camera: "recording".into(),
            ..Health::default()
        };
        Facts {
            presence: "online".into(),
            seen: Some(NOW.plus_micros(-SECOND)),
            health: Some(health),
            ..Facts::default()
        }
    }

    fn with(change: impl FnOnce(&mut Facts, &mut Health)) -> (State, &'static str) {
        let mut facts = well();
        let mut health = facts.health.take().unwrap();
        change(&mut facts, &mut health);
        facts.health = Some(health);
        let judged = judge(&facts, NOW);
        (judged.state, judged.code)
    }

    fn counting(name: &str, value: u64) -> (State, &'static str) {
        with(|_, health| {
            health.counters.insert(name.into(), value);
        })
    }

    #[test]
    fn the_clock_of_a_demonstration_is_said_and_no_alarm() {
        let mut facts = well();
        facts.is_demo = true;
        assert_eq!(judge(&facts, NOW).code, "recording");
        if let Some(health) = &mut facts.health {
            health.clock = ClockQuality::Rtc;
        }
        let judged = judge(&facts, NOW);
        assert_eq!((judged.state, judged.code), (State::Ok, "recording_demo"));
        assert_eq!(judged.args["clock"], "rtc");
        facts.is_demo = false;
        assert_eq!(judge(&facts, NOW).code, "clock_poor");
    }

    #[test]
    fn a_site_that_records_is_well() {
        assert_eq!(with(|_, _| {}), (State::Ok, "recording"));
        assert_eq!(judge(&Facts::default(), NOW).code, "never_heard");
        assert_eq!(judge(&Facts::default(), NOW).state, State::Unknown);
    }

    #[test]
    fn a_site_that_does_not_record_is_at_fault() {
        let silent = |seconds: i64| {
            with(move |facts, _| facts.seen = Some(NOW.plus_micros(-seconds * SECOND)))
        };
        assert_eq!(with(|facts, _| facts.presence = "lost".into()), (State::Fault, "lost"));
        assert_eq!(with(|facts, _| facts.presence = "stopping".into()).0, State::Fault);
        assert_eq!(silent(180), (State::Ok, "recording"));
        assert_eq!(silent(181), (State::Fault, "silent"));
        assert_eq!(counting("storage.memory_only", 1), (State::Fault, "memory_only"));
        let camera = |state: &str| with(|_, health| health.camera = state.into());
        assert_eq!(camera("unauthorized"), (State::Fault, "camera_down"));
        assert_eq!(camera("starting"), (State::Fault, "not_recording"));
        let slow = |facts: &mut Facts, _: &mut Health| {
            facts.health_every = 300;
            facts.seen = Some(NOW.plus_micros(-600 * SECOND));
        };
        assert_eq!(with(slow), (State::Ok, "recording"), "its own interval counts");
    }

    #[test]
    fn a_camera_event_counts_until_a_newer_health_message() {
        let event = |seconds: i64, state: &str| {
            Some(CameraReport { at: NOW.plus_micros(seconds * SECOND), state: state.into() })
        };
        let down = with(|facts, _| facts.camera = event(1, "silent"));
        assert_eq!(down, (State::Fault, "camera_down"));
        let up = |seconds: i64| {
            with(move |facts, health| {
                health.camera = "silent".into();
                facts.camera = event(seconds, "recording");
            })
        };
        assert_eq!(up(1), (State::Ok, "recording"));
        assert_eq!(up(-1), (State::Fault, "camera_down"), "health is newer");
        let first = Facts { health: None, camera: event(0, "silent"), ..well() };
        assert_eq!(judge(&first, NOW).code, "camera_down");
        assert_eq!(judge(&first, NOW).args["fault"], "silent");
    }

    #[test]
    fn each_threshold_warns_where_it_begins() {
        let backlog =
            |oldest| with(move |_, health| health.backlog = Backlog { n: 1, bytes: 7, oldest });
        assert_eq!(backlog(3_600).0, State::Ok);
        assert_eq!(backlog(3_601), (State::Warn, "backlog_old"));
        assert_eq!(counting("storage.worn_percent", 79).0, State::Ok);
        assert_eq!(counting("storage.worn_percent", 80), (State::Warn, "card_worn"));
        assert_eq!(counting("motion.blind", 1), (State::Warn, "blind"));
        assert_eq!(counting("camera.unstable", 1), (State::Warn, "unstable"));
        let clock = |clock| with(move |_, health| health.clock = clock);
        assert_eq!(clock(ClockQuality::Camera).0, State::Ok);
        assert_eq!(clock(ClockQuality::Rtc), (State::Warn, "clock_poor"));
        let missing = |age: i64| {
            with(move |facts, _| {
                facts.missing = 2;
                facts.missing_since = Some(NOW.plus_micros(-age * SECOND));
            })
        };
        assert_eq!(missing(3_600).0, State::Ok);
        assert_eq!(missing(3_601), (State::Warn, "missing"));
        assert_eq!(with(|facts, _| facts.budget_percent = Some(90)).0, State::Ok);
        assert_eq!(with(|facts, _| facts.budget_percent = Some(91)).1, "sim_budget");
        assert_eq!(with(|facts, _| facts.certificate_days = Some(30)).0, State::Ok);
        assert_eq!(with(|facts, _| facts.certificate_days = Some(29)).1, "certificate");
        let booted = with(|_, health| {
            health.camera = "starting".into();
            health.uptime = 5;
        });
        assert_eq!(booted, (State::Warn, "starting"));
    }

    #[test]
    fn a_fault_is_the_reason_before_a_warning() {
        let both = with(|facts, health| {
            facts.presence = "lost".into();
            health.counters.insert("storage.worn_percent".into(), 99);
        });
        assert_eq!(both, (State::Fault, "lost"));
        let judged = judge(&Facts { presence: "lost".into(), ..well() }, NOW);
        assert_eq!(judged.args["since"], NOW.plus_micros(-SECOND).rfc3339());
    }
}
