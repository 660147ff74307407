use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;

use super::*;
use crate::settings::key_id;
use crate::units::{ClockQuality, Timestamp, WallTime};

/// A clock that the test sets, in seconds.
#[derive(Default)]
struct SetClock(AtomicU64);

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        let seconds = self.0.load(Ordering::Relaxed);
        let wall = WallTime::parse("2026-11-25T03:00:00Z").unwrap();
        Timestamp {
            mono: MonoTime(seconds * 1_000_000),
            wall: wall.plus_micros(seconds as i64 * 1_000_000),
            quality: ClockQuality::Ntp,
        }
    }
}

/// Notes the progress; confirms a wave unless it declines.
#[derive(Default)]
struct FakeObserver {
    lines: Vec<String>,
    proposed: Vec<ProposedChange>,
    declines: bool,
}

impl RolloutObserver for FakeObserver {
    fn progress(&mut self, progress: Progress) {
        self.lines.push(progress.to_string());
    }

    fn confirm(&mut self, changes: &[ProposedChange]) -> bool {
        self.proposed.extend_from_slice(changes);
        !self.declines
    }
}

/// Token, topic, payload, retain.
type QueuedPublish = (u64, String, Vec<u8>, bool);

/// A client's queue with room for some messages.
struct FakePublisher {
    room: usize,
    queue: RefCell<Vec<QueuedPublish>>,
}

impl FakePublisher {
    fn new(room: usize) -> FakePublisher {
        FakePublisher { room, queue: RefCell::default() }
    }

    fn tokens(&self) -> Vec<u64> {
        self.queue.borrow().iter().map(|(token, ..)| *token).collect()
    }
}

impl Publisher for FakePublisher {
    fn publish(&self, token: u64, topic: &str, payload: Vec<u8>, retain: bool) -> bool {
        let mut queue = self.queue.borrow_mut();
        if queue.len() < self.room {
            queue.push((token, topic.to_owned(), payload, retain));
            return true;
        }
        false
    }
}

struct Bench {
    _dir: tempfile::TempDir,
    clock: SetClock,
    observer: FakeObserver,
    driver: RolloutDriver,
    key_id: String,
}

impl Bench {
    fn new(sites: &[&str]) -> Bench {
        use ring::signature::KeyPair as _;
        let dir = tempfile::tempdir().unwrap();
        let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let key_id = key_id(key.public_key().as_ref().try_into().unwrap());
        let signing =
            Signing { key, key_id: key_id.clone(), valid: Duration::from_secs(72 * 3600) };
        let texts = sites.iter().map(|site| (site_id(site), new_text(site))).collect();
        let archive = Archive::open(dir.path()).unwrap();
        let timeout = Duration::from_secs(900);
        let driver = RolloutDriver::new(archive, signing, texts, sites.len(), timeout).unwrap();
        let (clock, observer) = Default::default();
        Bench { _dir: dir, clock, observer, driver, key_id }
    }

    /// A report of a device with the old configuration; `more` overrides its fields.
    fn report(&mut self, site: &str, more: &Value) {
        let mut report = json!({"phase": "idle", "keys": [{"key": self.key_id}],
            "committed": {"sha256": Digest::of(b"old")}, "last": null});
        for (name, value) in more.as_object().unwrap() {
            report[name] = value.clone();
        }
        let topic = format!("taimat/v1/{site}/up/config/reported");
        self.driver.message(&topic, report.to_string().as_bytes(), &mut self.observer);
    }

    fn step(&mut self, second: u64, publisher: &FakePublisher) {
        self.clock.0.store(second, Ordering::Relaxed);
        self.driver.step(&self.clock, publisher, &mut self.observer).unwrap();
    }

    fn first_id(&self) -> String {
        format!("{}-1", self.key_id)
    }
}

fn site_id(site: &str) -> SiteId {
    SiteId::parse(site).unwrap()
}

fn new_text(site: &str) -> String {
    format!("site = \"{site}\"\n")
}

#[test]
fn a_committed_document_completes_the_rollout() {
    let mut bench = Bench::new(&["km-17"]);
    let publisher = FakePublisher::new(64);
    bench.report("km-17", &json!({}));
    bench.step(1, &publisher);
    {
        let queue = publisher.queue.borrow();
        let topics: Vec<(&str, bool)> =
            queue.iter().map(|(_, topic, _, retain)| (topic.as_str(), *retain)).collect();
        assert_eq!(
            topics,
            [
                ("taimat/v1/km-17/dn/config/desired", true),
                ("taimat/v1/km-17/dn/config/answer", false)
            ]
        );
        let document: Value = serde_json::from_slice(&queue[0].2).unwrap();
        assert_eq!(document["config"], new_text("km-17"));
        assert_eq!(document["not_after"], "2026-11-28T03:00:01.000Z");
    }
    let stored = bench.driver.archive.documents(&site_id("km-17")).unwrap();
    assert_eq!(stored.len(), 1, "a device that asks gets it from the archive");
    bench.report("km-17", &json!({"phase": "trial"}));
    let id = bench.first_id();
    bench.report("km-17", &json!({"phase": "committed", "last": {"id": id, "refusal": null}}));
    assert!(bench.driver.is_over() && bench.driver.summary().is_complete());
    let lines = ["km-17: sent ", "km-17: trial", "km-17: committed"];
    assert_eq!(bench.observer.lines.len(), lines.len(), "{:?}", bench.observer.lines);
    for (line, start) in bench.observer.lines.iter().zip(lines) {
        assert!(line.starts_with(start), "{line}");
    }
    assert_eq!(bench.observer.proposed[0].old, None, "the old text was not sent from here");
}

#[test]
fn a_rejecting_device_fails_with_its_reason() {
    let mut bench = Bench::new(&["km-17"]);
    bench.report("km-17", &json!({}));
    bench.step(1, &FakePublisher::new(64));
    let refusal = json!({"why": "probe", "detail": "no key frame"});
    let id = bench.first_id();
    bench.report("km-17", &json!({"phase": "refused", "last": {"id": id, "refusal": refusal}}));
    let summary = bench.driver.summary();
    assert_eq!(summary.failed, [(site_id("km-17"), "probe: no key frame".to_owned())]);
    assert_eq!((summary.documents_sent, summary.is_complete()), (1, false));
}

#[test]
fn a_device_without_an_outcome_fails_after_the_timeout() {
    let mut bench = Bench::new(&["km-17"]);
    let publisher = FakePublisher::new(64);
    bench.report("km-17", &json!({}));
    bench.step(1, &publisher);
    bench.step(900, &publisher);
    assert!(!bench.driver.is_over());
    bench.step(902, &publisher);
    let failed = bench.driver.summary().failed;
    assert!(bench.driver.is_over() && failed[0].1.contains("within 900 s"), "{failed:?}");
}

#[test]
fn nothing_is_sent_when_the_operator_declines() {
    let mut bench = Bench::new(&["km-17"]);
    let publisher = FakePublisher::new(64);
    bench.observer.declines = true;
    bench.report("km-17", &json!({}));
    bench.step(1, &publisher);
    bench.step(2, &publisher);
    let summary = bench.driver.summary();
    assert!(bench.driver.is_over() && publisher.tokens().is_empty());
    assert_eq!((summary.documents_sent, summary.waiting), (0, 1));
    assert_eq!(bench.driver.archive.documents(&site_id("km-17")).unwrap().len(), 0);
    assert_eq!(bench.observer.proposed.len(), 1, "it is asked once");
}

#[test]
fn nothing_is_sent_with_a_key_of_scope_commands() {
    let mut bench = Bench::new(&["km-17"]);
    let publisher = FakePublisher::new(64);
    let keys = json!([{"key": bench.key_id, "scope": "commands"}]);
    bench.report("km-17", &json!({"keys": keys}));
    bench.step(1, &publisher);
    let summary = bench.driver.summary();
    assert!(bench.driver.is_over() && publisher.tokens().is_empty());
    assert_eq!((summary.documents_sent, summary.failed.len()), (0, 1));
}

#[test]
fn a_device_that_runs_its_configuration_is_left_alone() {
    let mut bench = Bench::new(&["km-17"]);
    let running = Digest::of(new_text("km-17").as_bytes());
    bench.report("km-17", &json!({"committed": {"sha256": running}}));
    bench.step(1, &FakePublisher::new(64));
    let summary = bench.driver.summary();
    assert_eq!((summary.already, summary.documents_sent), (1, 0));
    assert!(summary.is_complete());
}

#[test]
fn a_wave_that_fills_the_clients_queue_is_sent_in_parts() {
    let names: Vec<String> = (0..40).map(|n| format!("km-{n:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut bench = Bench::new(&names);
    names.iter().for_each(|name| bench.report(name, &json!({})));
    let publisher = FakePublisher::new(63);
    bench.step(1, &publisher);
    assert_eq!(publisher.tokens(), (1..=63).collect::<Vec<u64>>());
    for token in publisher.tokens() {
        bench.driver.acked(token, Acked::Accepted, &mut bench.observer);
    }
    let publisher = FakePublisher::new(63);
    bench.step(2, &publisher);
    assert_eq!(publisher.tokens(), (64..=80).collect::<Vec<u64>>());
}

#[test]
fn the_next_session_sends_what_was_not_acknowledged() {
    let mut bench = Bench::new(&["km-17"]);
    bench.report("km-17", &json!({}));
    bench.step(1, &FakePublisher::new(64));
    bench.driver.acked(1, Acked::NoSubscriber, &mut bench.observer);
    bench.driver.session_opened();
    let publisher = FakePublisher::new(64);
    bench.step(2, &publisher);
    bench.step(3, &publisher);
    assert_eq!(publisher.tokens(), [2]);
    let sent = bench.observer.lines.iter().filter(|line| line.contains("sent")).count();
    assert_eq!(sent, 1, "it is reported once");
}

#[test]
fn a_device_fails_when_the_broker_rejects_both_messages() {
    let mut bench = Bench::new(&["km-17", "km-18"]);
    ["km-17", "km-18"].iter().for_each(|site| bench.report(site, &json!({})));
    bench.step(1, &FakePublisher::new(64));
    let rejected = || Acked::NotAuthorized("NotAuthorized".into());
    for (token, acked) in [(1, rejected()), (2, rejected()), (3, Acked::Accepted), (4, rejected())]
    {
        bench.driver.acked(token, acked, &mut bench.observer);
    }
    let summary = bench.driver.summary();
    assert_eq!(summary.failed.len(), 1);
    assert!(summary.failed[0].1.contains("the broker rejects"), "{summary:?}");
    assert_eq!(summary.open, 1, "km-18 has the retained document");
}

#[test]
fn the_timeout_begins_after_the_confirmation() {
    struct Slow<'a>(&'a SetClock);
    impl RolloutObserver for Slow<'_> {
        fn progress(&mut self, _: Progress) {}
        fn confirm(&mut self, _: &[ProposedChange]) -> bool {
            self.0.0.store(2000, Ordering::Relaxed);
            true
        }
    }
    let mut bench = Bench::new(&["km-17"]);
    bench.report("km-17", &json!({}));
    let publisher = FakePublisher::new(64);
    bench.driver.step(&bench.clock, &publisher, &mut Slow(&bench.clock)).unwrap();
    bench.step(2001, &publisher);
    assert_eq!(bench.driver.summary().open, 1);
}
