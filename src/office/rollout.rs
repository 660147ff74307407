//! Rollout of one configuration change to many devices, in waves; the first failure stops it.
//!
//! A second run resumes a stopped rollout: devices with the committed change are skipped, so a
//! rollout keeps no state of its own. The devices' reports are the input; the caller signs and
//! publishes.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::settings::KeyScope;
use crate::units::{Digest, MonoTime, SiteId};

/// Time for a device's report. The broker retains reports, so that of a known device arrives at
/// once.
const REPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// State of a device in a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetState {
    /// Its wave has not begun.
    Waiting,
    /// Its wave began at this time; its report is missing, or it is busy with another change.
    Asked(MonoTime),
    /// The document of this id was sent at this time.
    Sent(MonoTime, String),
    /// The device committed the document.
    Committed,
    /// The device ran this configuration before the rollout.
    Already,
    /// The device rejected the document or did not answer, with the reason.
    Failed(String),
}

impl fmt::Display for TargetState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TargetState::Waiting => f.write_str("waits for its wave"),
            TargetState::Asked(_) => f.write_str("its report is awaited"),
            TargetState::Sent(_, id) => write!(f, "sent {id}"),
            TargetState::Committed => f.write_str("committed"),
            TargetState::Already => f.write_str("runs it already"),
            TargetState::Failed(reason) => write!(f, "FAILED: {reason}"),
        }
    }
}

/// A document to sign and publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Send {
    /// The device's site.
    pub site: SiteId,
    /// Version, above every version that the device has seen.
    pub version: u64,
    /// SHA-256 of the configuration that it replaces.
    pub prev: Digest,
    /// The configuration, TOML.
    pub text: String,
}

/// A device of the rollout.
#[derive(Debug, Clone)]
struct Target {
    text: String,
    state: TargetState,
}

/// A change on its way to many devices.
#[derive(Debug)]
pub struct Rollout {
    key: String,
    wave: usize,
    /// Time for a device's outcome.
    timeout: Duration,
    targets: BTreeMap<SiteId, Target>,
    reports: BTreeMap<SiteId, Value>,
    /// Highest version sent to each device from this archive.
    used: BTreeMap<SiteId, u64>,
}

impl Rollout {
    /// A rollout of `texts` to `wave` devices at a time, signed by the key with the id `key`.
    /// `used` holds the highest version sent to each device; a device must report its outcome
    /// within `timeout`.
    pub fn new(
        key: &str,
        texts: BTreeMap<SiteId, String>,
        used: BTreeMap<SiteId, u64>,
        wave: usize,
        timeout: Duration,
    ) -> Rollout {
        let targets = texts
            .into_iter()
            .map(|(site, text)| (site, Target { text, state: TargetState::Waiting }))
            .collect();
        Rollout {
            key: key.to_owned(),
            wave: wave.max(1),
            timeout,
            targets,
            reports: BTreeMap::new(),
            used,
        }
    }

    /// Takes a device's report; returns the device's new state when it changed.
    pub fn reported(&mut self, site: &SiteId, report: Value) -> Option<TargetState> {
        let changed = self.targets.get_mut(site).and_then(|target| {
            let TargetState::Sent(_, id) = &target.state else {
                return None;
            };
            let state = outcome(id, &report)?;
            target.state = state.clone();
            Some(state)
        });
        self.reports.insert(site.clone(), report);
        changed
    }

    /// The documents to send now. Calls `on_change` for each device with a new state.
    pub fn next(
        &mut self,
        now: MonoTime,
        mut on_change: impl FnMut(&SiteId, &TargetState),
    ) -> Vec<Send> {
        let elapsed = |since: MonoTime| Duration::from_micros(now.since(since));
        let open = self
            .targets
            .values()
            .any(|target| matches!(target.state, TargetState::Asked(_) | TargetState::Sent(..)));
        if !open && !self.is_stopped() {
            let waiting =
                self.targets.values_mut().filter(|target| target.state == TargetState::Waiting);
            waiting.take(self.wave).for_each(|target| target.state = TargetState::Asked(now));
        }
        let mut sends = Vec::new();
        for (site, target) in &mut self.targets {
            let next = match &target.state {
                TargetState::Asked(since) => match self.reports.get(site) {
                    None if elapsed(*since) >= REPORT_TIMEOUT => {
                        Some(TargetState::Failed("it has never reported its configuration".into()))
                    }
                    Some(report) if is_free(report) => {
                        let used = self.used.get(site).copied().unwrap_or(0);
                        Some(first_step(site, &self.key, target, report, used, now, &mut sends))
                    }
                    Some(_) if elapsed(*since) >= self.timeout => {
                        Some(TargetState::Failed("it is still busy with another change".into()))
                    }
                    _ => None,
                },
                TargetState::Sent(since, _) if elapsed(*since) >= self.timeout => {
                    let phase = self
                        .reports
                        .get(site)
                        .map_or("?", |report| report["phase"].as_str().unwrap_or("?"));
                    Some(TargetState::Failed(format!(
                        "no outcome within {} s; its phase is {phase}; taimat office run must be running on this archive",
                        self.timeout.as_secs()
                    )))
                }
                _ => None,
            };
            if let Some(state) = next {
                on_change(site, &state);
                target.state = state;
            }
        }
        sends
    }

    /// The document for this device was published at this time, which begins its timeout.
    pub fn sent_at(&mut self, site: &SiteId, now: MonoTime) {
        if let Some(Target { state: TargetState::Sent(since, _), .. }) = self.targets.get_mut(site)
        {
            *since = now;
        }
    }

    /// The document for this device was not published: the device is not begun.
    pub fn not_sent(&mut self, site: &SiteId) {
        if let Some(target) = self.targets.get_mut(site) {
            target.state = TargetState::Waiting;
        }
    }

    /// The broker accepts no document for this device; returns its new state.
    pub fn rejected(&mut self, site: &SiteId, reason: &str) -> Option<TargetState> {
        let target = self.targets.get_mut(site)?;
        if !matches!(target.state, TargetState::Sent(..)) {
            return None;
        }
        target.state = TargetState::Failed(format!("the broker rejects the document: {reason}"));
        Some(target.state.clone())
    }

    /// True after the first failure; no further wave begins.
    pub fn is_stopped(&self) -> bool {
        self.targets.values().any(|target| matches!(target.state, TargetState::Failed(_)))
    }

    /// True when no device will change its state any more.
    pub fn is_over(&self) -> bool {
        let open = self
            .targets
            .values()
            .any(|target| matches!(target.state, TargetState::Asked(_) | TargetState::Sent(..)));
        let waits = self.targets.values().any(|target| target.state == TargetState::Waiting);
        !open && (!waits || self.is_stopped())
    }

    /// All devices with their states, sorted by site.
    pub fn states(&self) -> impl Iterator<Item = (&SiteId, &TargetState)> {
        self.targets.iter().map(|(site, target)| (site, &target.state))
    }

    /// The newest report of a device.
    pub fn report(&self, site: &SiteId) -> Option<&Value> {
        self.reports.get(site)
    }
}

/// The state of a device after its first report: sends the document, unless the device runs it
/// already.
fn first_step(
    site: &SiteId,
    key: &str,
    target: &Target,
    report: &Value,
    used: u64,
    now: MonoTime,
    sends: &mut Vec<Send>,
) -> TargetState {
    let running =
        report["committed"]["sha256"].as_str().and_then(Digest::from_hex).unwrap_or_default();
    if running == Digest::of(target.text.as_bytes()) {
        return TargetState::Already;
    }
    let Some(known) =
        report["keys"].as_array().and_then(|keys| keys.iter().find(|known| known["key"] == key))
    else {
        return TargetState::Failed(format!("unknown_key: key {key} is not among its remote.keys"));
    };
    if known["scope"] == KeyScope::WORD {
        return TargetState::Failed(format!(
            "scope: key {key} may sign commands only there: sign with a key without a scope"
        ));
    }
    let version = report["seen"][key].as_u64().unwrap_or(0).max(used) + 1;
    sends.push(Send { site: site.clone(), version, prev: running, text: target.text.clone() });
    TargetState::Sent(now, format!("{key}-{version}"))
}

fn is_free(report: &Value) -> bool {
    !matches!(report["phase"].as_str(), Some("staged" | "trial"))
}

/// The outcome of the document `id` on a device; `None` before it has one.
fn outcome(id: &str, report: &Value) -> Option<TargetState> {
    if report["refused"]["id"] == id {
        return Some(TargetState::Failed(line(&report["refused"]["refusal"])));
    }
    if report["last"]["id"] != id || !is_free(report) {
        return None;
    }
    Some(match &report["last"]["refusal"] {
        Value::Null => TargetState::Committed,
        refusal => TargetState::Failed(line(refusal)),
    })
}

/// A rejection of a device's report in one line.
pub fn line(refusal: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let keys = refusal["errors"].as_array().cloned().unwrap_or_default();
    let keys: Vec<String> = keys
        .iter()
        .map(|error| format!("{}: {}", text(&error["key"]), text(&error["reason"])))
        .collect();
    let more = if keys.is_empty() { String::new() } else { format!(": {}", keys.join("; ")) };
    format!("{}: {}{more}", text(&refusal["why"]), text(&refusal["detail"]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const KEY: &str = "k";

    /// A device that commits each document, or rolls it back.
    struct SimDevice {
        committed: Digest,
        seen: u64,
        last: Value,
        fails: bool,
    }

    impl SimDevice {
        fn report(&self) -> Value {
            json!({"phase": "committed", "committed": {"sha256": self.committed}, "keys": [{"key": KEY}], "seen": {KEY: self.seen},
                "last": self.last})
        }

        fn take(&mut self, send: &Send) {
            assert_eq!(
                send.prev, self.committed,
                "{}: the document replaces another configuration than the running one",
                send.site
            );
            assert!(send.version > self.seen);
            self.seen = send.version;
            let refusal = if self.fails {
                json!({"why": "trial", "detail": "no key frame"})
            } else {
                Value::Null
            };
            if !self.fails {
                self.committed = Digest::of(send.text.as_bytes());
            }
            self.last = json!({"id": format!("{KEY}-{}", send.version), "refusal": refusal});
        }
    }

    fn fleet() -> BTreeMap<SiteId, SimDevice> {
        let site = |n: u32| SiteId::parse(&format!("km-{n:02}")).unwrap();
        let made = |n| SimDevice {
            committed: Digest::of(b"before"),
            seen: 0,
            last: Value::Null,
            fails: n == 23,
        };
        (1..=50).map(|n| (site(n), made(n))).collect()
    }

    /// Runs a rollout to its end; returns the largest wave and the number of sent documents.
    fn drive(fleet: &mut BTreeMap<SiteId, SimDevice>, wave: usize) -> (Rollout, usize, usize) {
        let texts = fleet.keys().map(|site| (site.clone(), format!("site = \"{site}\""))).collect();
        let mut rollout = Rollout::new(KEY, texts, BTreeMap::new(), wave, Duration::from_secs(900));
        for (site, sim) in fleet.iter() {
            assert_eq!(rollout.reported(site, sim.report()), None);
        }
        let (mut now, mut most, mut sent) = (0, 0, 0);
        while !rollout.is_over() {
            now += 1_000_000;
            let sends = rollout.next(MonoTime(now), |_, _| ());
            most = most.max(sends.len());
            sent += sends.len();
            for send in sends {
                let sim = fleet.get_mut(&send.site).unwrap();
                sim.take(&send);
                rollout.reported(&send.site, sim.report());
            }
            assert!(now < 600_000_000, "the rollout does not end");
        }
        (rollout, most, sent)
    }

    #[test]
    fn a_rollout_of_fifty_stops_at_a_failure_and_resumes() {
        let mut fleet = fleet();
        let (rollout, most, sent) = drive(&mut fleet, 10);
        assert_eq!((most, sent), (10, 30), "three waves");
        let failed: Vec<&str> = rollout
            .states()
            .filter(|(_, state)| matches!(state, TargetState::Failed(_)))
            .map(|(site, _)| site.as_str())
            .collect();
        assert_eq!(failed, ["km-23"]);
        let count = |rollout: &Rollout, wanted: TargetState| {
            rollout.states().filter(|(_, state)| **state == wanted).count()
        };
        assert_eq!(
            (count(&rollout, TargetState::Committed), count(&rollout, TargetState::Waiting)),
            (29, 20)
        );
        let of = |fleet: &BTreeMap<SiteId, SimDevice>, text: &dyn Fn(&SiteId) -> String| {
            fleet
                .iter()
                .filter(|(site, sim)| sim.committed == Digest::of(text(site).as_bytes()))
                .count()
        };
        let new = |site: &SiteId| format!("site = \"{site}\"");
        assert_eq!(
            (of(&fleet, &new), of(&fleet, &|_| "before".into())),
            (29, 21),
            "each device runs either configuration"
        );
        fleet.values_mut().for_each(|sim| sim.fails = false);
        let (rollout, _, sent) = drive(&mut fleet, 10);
        assert_eq!(
            (sent, count(&rollout, TargetState::Committed), count(&rollout, TargetState::Already)),
            (21, 21, 29)
        );
        assert_eq!(of(&fleet, &new), 50);
    }

    #[test]
    fn a_silent_device_and_one_without_the_key_fail() {
        let site = |name: &str| SiteId::parse(name).unwrap();
        let texts = ["silent", "foreign"].map(|name| (site(name), "text".to_owned())).into();
        let mut rollout = Rollout::new(KEY, texts, BTreeMap::new(), 2, Duration::from_secs(60));
        rollout.reported(
            &site("foreign"),
            json!({"phase": "idle", "keys": [], "committed": {"sha256": Digest::of(b"x")}}),
        );
        for second in [0, 5, 11] {
            assert!(rollout.next(MonoTime(second * 1_000_000), |_, _| ()).is_empty());
        }
        let states: Vec<String> = rollout.states().map(|(_, state)| format!("{state:?}")).collect();
        assert!(states[0].contains("unknown_key"), "{states:?}");
        assert!(states[1].contains("never reported"), "{states:?}");
        assert!(rollout.is_over());
    }

    #[test]
    fn nothing_is_sent_with_a_key_for_commands() {
        let site = SiteId::parse("km-17").unwrap();
        let mut rollout = Rollout::new(
            KEY,
            [(site.clone(), "text".to_owned())].into(),
            BTreeMap::new(),
            1,
            Duration::from_secs(60),
        );
        let keys = json!([{"name": "desk", "key": KEY, "scope": "commands"}]);
        rollout.reported(
            &site,
            json!({"phase": "idle", "keys": keys, "committed": {"sha256": Digest::of(b"x")}}),
        );
        assert!(rollout.next(MonoTime(0), |_, _| ()).is_empty(), "the device would reject it");
        let (_, state) = rollout.states().next().unwrap();
        assert!(
            matches!(state, TargetState::Failed(reason) if reason.starts_with("scope: ")),
            "{state:?}"
        );
    }

    #[test]
    fn a_missing_outcome_fails_with_the_phase() {
        let site = SiteId::parse("slow").unwrap();
        let mut rollout = Rollout::new(
            KEY,
            BTreeMap::from([(site.clone(), "text".into())]),
            BTreeMap::from([(site.clone(), 7)]),
            1,
            Duration::from_secs(60),
        );
        let report = |phase: &str| json!({"phase": phase, "keys": [{"key": KEY}], "committed": {"sha256": Digest::of(b"x")}});
        rollout.reported(&site, report("trial"));
        assert!(rollout.next(MonoTime(0), |_, _| ()).is_empty(), "it is busy");
        rollout.reported(&site, report("committed"));
        assert_eq!(
            rollout.next(MonoTime(1_000_000), |_, _| ())[0].version,
            8,
            "a version that the archive has used is not used again"
        );
        rollout.reported(&site, report("trial"));
        assert!(rollout.next(MonoTime(62_000_000), |_, _| ()).is_empty());
        let (_, state) = rollout.states().next().unwrap();
        assert!(
            matches!(state, TargetState::Failed(reason) if reason.contains("phase is trial")),
            "{state:?}"
        );
    }
}
