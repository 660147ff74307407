//! One change to many devices: in waves, stopped by the first failure, resumed by doing it again. What is committed already is left
//! alone, so nothing needs to be remembered between two tries.
//!
//! What belongs here: which box is next, and how it ended, pure over what devices report. What does not: signing, MQTT.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::settings::KeyScope;
use crate::units::{Digest, MonoTime, SiteId};

/// Microseconds a device may take to say what it runs: reports are retained, so one that ever spoke is known at once.
const KNOWN_WITHIN: u64 = 10_000_000;

/// Where a device stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetState {
    /// Its wave has not come.
    Waiting,
    /// It must first say what it runs, or finish what it is at.
    Asked(MonoTime),
    /// The document is on its way; its id.
    Sent(MonoTime, String),
    /// It runs it.
    Committed,
    /// It ran it before.
    Already,
    /// It does not, and why.
    Failed(String),
}

/// A document to be signed and published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Send {
    /// For whom.
    pub site: SiteId,
    /// Its number.
    pub version: u64,
    /// What it replaces.
    pub prev: Digest,
    /// The text.
    pub text: String,
}

/// One box.
#[derive(Debug, Clone)]
struct Target {
    text: String,
    state: TargetState,
}

/// The change on its way to all of them.
#[derive(Debug)]
pub struct Rollout {
    key: String,
    wave: usize,
    /// Microseconds a device may take for its verdict.
    within: u64,
    targets: BTreeMap<SiteId, Target>,
    reports: BTreeMap<SiteId, Value>,
    /// Numbers used for each device, as far as the archive knows.
    used: BTreeMap<SiteId, u64>,
}

impl Rollout {
    /// A change of these texts, signed by the key of this id, `wave` devices at a time. `used` are the highest numbers known to be taken.
    pub fn new(key: &str, texts: BTreeMap<SiteId, String>, used: BTreeMap<SiteId, u64>, wave: usize, within: u64) -> Rollout {
        let targets = texts.into_iter().map(|(site, text)| (site, Target { text, state: TargetState::Waiting })).collect();
        Rollout { key: key.to_owned(), wave: wave.max(1), within, targets, reports: BTreeMap::new(), used }
    }

    /// A device said what it runs; gives its state when that changed.
    pub fn reported(&mut self, site: &SiteId, report: Value) -> Option<TargetState> {
        let changed = self.targets.get_mut(site).and_then(|target| {
            let TargetState::Sent(_, id) = &target.state else {
                return None;
            };
            let state = verdict(id, &report)?;
            target.state = state.clone();
            Some(state)
        });
        self.reports.insert(site.clone(), report);
        changed
    }

    /// What is to be sent now; `reported` hears of devices whose time is over, or that have it already.
    pub fn next(&mut self, now: MonoTime, mut told: impl FnMut(&SiteId, &TargetState)) -> Vec<Send> {
        let open = self.targets.values().any(|target| matches!(target.state, TargetState::Asked(_) | TargetState::Sent(..)));
        if !open && !self.is_stopped() {
            let waiting = self.targets.values_mut().filter(|target| target.state == TargetState::Waiting);
            waiting.take(self.wave).for_each(|target| target.state = TargetState::Asked(now));
        }
        let mut sends = Vec::new();
        for (site, target) in &mut self.targets {
            let next = match &target.state {
                TargetState::Asked(since) => match self.reports.get(site) {
                    None if now.since(*since) >= KNOWN_WITHIN => {
                        Some(TargetState::Failed("it has never said what it runs".into()))
                    }
                    Some(report) if is_free(report) => {
                        let used = self.used.get(site).copied().unwrap_or(0);
                        Some(first_step(site, &self.key, target, report, used, now, &mut sends))
                    }
                    Some(_) if now.since(*since) >= self.within => {
                        Some(TargetState::Failed("it is still busy with another change".into()))
                    }
                    _ => None,
                },
                TargetState::Sent(since, _) if now.since(*since) >= self.within => {
                    let phase = self.reports.get(site).map_or("?", |report| report["phase"].as_str().unwrap_or("?"));
                    Some(TargetState::Failed(format!("no verdict within {} s; its phase is {phase}", self.within / 1_000_000)))
                }
                _ => None,
            };
            if let Some(state) = next {
                told(site, &state);
                target.state = state;
            }
        }
        sends
    }

    /// A device failed: no further wave begins.
    pub fn is_stopped(&self) -> bool {
        self.targets.values().any(|target| matches!(target.state, TargetState::Failed(_)))
    }

    /// Nothing more will happen.
    pub fn is_over(&self) -> bool {
        let open = self.targets.values().any(|target| matches!(target.state, TargetState::Asked(_) | TargetState::Sent(..)));
        let waits = self.targets.values().any(|target| target.state == TargetState::Waiting);
        !open && (!waits || self.is_stopped())
    }

    /// Each box and where it stands.
    pub fn states(&self) -> impl Iterator<Item = (&SiteId, &TargetState)> {
        self.targets.iter().map(|(site, target)| (site, &target.state))
    }

    /// What a device reported last.
    pub fn report(&self, site: &SiteId) -> Option<&Value> {
        self.reports.get(site)
    }
}

/// Sends a device its document, unless it runs it already.
fn first_step(
    site: &SiteId,
    key: &str,
    target: &Target,
    report: &Value,
    used: u64,
    now: MonoTime,
    sends: &mut Vec<Send>,
) -> TargetState {
    let running = report["committed"]["sha256"].as_str().and_then(Digest::from_hex).unwrap_or_default();
    if running == Digest::of(target.text.as_bytes()) {
        return TargetState::Already;
    }
    let Some(known) = report["keys"].as_array().and_then(|keys| keys.iter().find(|known| known["key"] == key)) else {
        return TargetState::Failed(format!("unknown_key: key {key} is not among its remote.keys"));
    };
    if known["scope"] == KeyScope::WORD {
        return TargetState::Failed(format!("scope: key {key} may sign commands only there: sign with a key without a scope"));
    }
    let version = report["seen"][key].as_u64().unwrap_or(0).max(used) + 1;
    sends.push(Send { site: site.clone(), version, prev: running, text: target.text.clone() });
    TargetState::Sent(now, format!("{key}-{version}"))
}

fn is_free(report: &Value) -> bool {
    !matches!(report["phase"].as_str(), Some("staged" | "trial"))
}

/// How a device ended with the document of this id; `None` while it has not.
fn verdict(id: &str, report: &Value) -> Option<TargetState> {
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

/// A refusal in one line, as a device reports it.
pub fn line(refusal: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let keys = refusal["errors"].as_array().cloned().unwrap_or_default();
    let keys: Vec<String> = keys.iter().map(|error| format!("{}: {}", text(&error["key"]), text(&error["reason"]))).collect();
    let more = if keys.is_empty() { String::new() } else { format!(": {}", keys.join("; ")) };
    format!("{}: {}{more}", text(&refusal["why"]), text(&refusal["detail"]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const KEY: &str = "k";

    /// A device that commits what it gets, or takes it back.
    struct SimBox {
        committed: Digest,
        seen: u64,
        last: Value,
        fails: bool,
    }

    impl SimBox {
        fn report(&self) -> Value {
            json!({"phase": "committed", "committed": {"sha256": self.committed}, "keys": [{"key": KEY}], "seen": {KEY: self.seen},
                "last": self.last})
        }

        fn take(&mut self, send: &Send) {
            assert_eq!(send.prev, self.committed, "{} was sent something that does not replace what it runs", send.site);
            assert!(send.version > self.seen);
            self.seen = send.version;
            let refusal = if self.fails { json!({"why": "trial", "detail": "no key frame"}) } else { Value::Null };
            if !self.fails {
                self.committed = Digest::of(send.text.as_bytes());
            }
            self.last = json!({"id": format!("{KEY}-{}", send.version), "refusal": refusal});
        }
    }

    fn fleet() -> BTreeMap<SiteId, SimBox> {
        let site = |n: u32| SiteId::parse(&format!("km-{n:02}")).unwrap();
        let made = |n| SimBox { committed: Digest::of(b"before"), seen: 0, last: Value::Null, fails: n == 23 };
        (1..=50).map(|n| (site(n), made(n))).collect()
    }

    /// Runs a rollout to its end; gives how many were under way at once at most, and how many were sent.
    fn drive(fleet: &mut BTreeMap<SiteId, SimBox>, wave: usize) -> (Rollout, usize, usize) {
        let texts = fleet.keys().map(|site| (site.clone(), format!("site = \"{site}\""))).collect();
        let mut rollout = Rollout::new(KEY, texts, BTreeMap::new(), wave, 900_000_000);
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
            assert!(now < 600_000_000, "it never ends");
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
        let count = |rollout: &Rollout, wanted: TargetState| rollout.states().filter(|(_, state)| **state == wanted).count();
        assert_eq!((count(&rollout, TargetState::Committed), count(&rollout, TargetState::Waiting)), (29, 20));
        let of = |fleet: &BTreeMap<SiteId, SimBox>, text: &dyn Fn(&SiteId) -> String| {
            fleet.iter().filter(|(site, sim)| sim.committed == Digest::of(text(site).as_bytes())).count()
        };
        let new = |site: &SiteId| format!("site = \"{site}\"");
        assert_eq!((of(&fleet, &new), of(&fleet, &|_| "before".into())), (29, 21), "each box runs the one or the other");
        fleet.values_mut().for_each(|sim| sim.fails = false);
        let (rollout, _, sent) = drive(&mut fleet, 10);
        assert_eq!((sent, count(&rollout, TargetState::Committed), count(&rollout, TargetState::Already)), (21, 21, 29));
        assert_eq!(of(&fleet, &new), 50);
    }

    #[test]
    fn a_box_that_says_nothing_or_does_not_know_the_key_is_named() {
        let site = |name: &str| SiteId::parse(name).unwrap();
        let texts = ["silent", "foreign"].map(|name| (site(name), "text".to_owned())).into();
        let mut rollout = Rollout::new(KEY, texts, BTreeMap::new(), 2, 60_000_000);
        rollout.reported(&site("foreign"), json!({"phase": "idle", "keys": [], "committed": {"sha256": Digest::of(b"x")}}));
        for second in [0, 5, 11] {
            assert!(rollout.next(MonoTime(second * 1_000_000), |_, _| ()).is_empty());
        }
        let said: Vec<String> = rollout.states().map(|(_, state)| format!("{state:?}")).collect();
        assert!(said[0].contains("unknown_key") && said[1].contains("never said"), "{said:?}");
        assert!(rollout.is_over());
    }

    #[test]
    fn nothing_is_sent_with_a_key_for_commands() {
        let site = SiteId::parse("km-17").unwrap();
        let mut rollout = Rollout::new(KEY, [(site.clone(), "text".to_owned())].into(), BTreeMap::new(), 1, 60_000_000);
        let keys = json!([{"name": "desk", "key": KEY, "scope": "commands"}]);
        rollout.reported(&site, json!({"phase": "idle", "keys": keys, "committed": {"sha256": Digest::of(b"x")}}));
        assert!(rollout.next(MonoTime(0), |_, _| ()).is_empty(), "it would be refused");
        let (_, state) = rollout.states().next().unwrap();
        assert!(matches!(state, TargetState::Failed(reason) if reason.starts_with("scope: ")), "{state:?}");
    }

    #[test]
    fn a_verdict_that_does_not_come_is_told_with_the_phase() {
        let site = SiteId::parse("slow").unwrap();
        let mut rollout = Rollout::new(
            KEY,
            BTreeMap::from([(site.clone(), "text".into())]),
            BTreeMap::from([(site.clone(), 7)]),
            1,
            60_000_000,
        );
        let report = |phase: &str| json!({"phase": phase, "keys": [{"key": KEY}], "committed": {"sha256": Digest::of(b"x")}});
        rollout.reported(&site, report("trial"));
        assert!(rollout.next(MonoTime(0), |_, _| ()).is_empty(), "it is busy");
        rollout.reported(&site, report("committed"));
        assert_eq!(rollout.next(MonoTime(1_000_000), |_, _| ())[0].version, 8, "numbers the archive has used are not used again");
        rollout.reported(&site, report("trial"));
        assert!(rollout.next(MonoTime(62_000_000), |_, _| ()).is_empty());
        let (_, state) = rollout.states().next().unwrap();
        assert!(matches!(state, TargetState::Failed(reason) if reason.contains("phase is trial")), "{state:?}");
    }
}
