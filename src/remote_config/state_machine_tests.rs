//! Unit tests of the state machine: the bench plays card, office, camera and clock.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::action::{Applied, ConfigEffect, ConfigInput, FileFound};
use super::rejection::{RejectReason, Rejection};
use super::signed_command::{CommandRequest, add_signature};
use super::signed_document::Document;
use super::signed_document::tests::{OTHER, RFC, key, trusted};
use super::state_machine::{ConfigMachine, JUDGE_WITHIN, ProvenSettings, SAVE_WITHIN};
use super::state_record::{ConfigPhase, ConfigState};
use crate::settings::{KeyScope, Settings, TrustedKey, test_settings};
use crate::units::{ClockQuality, Digest, MonoTime, SiteId, Timestamp, WallTime};

const FILE: &str = "the file";

struct Bench {
    machine: ConfigMachine,
    now: u64,
    out: Vec<ConfigEffect>,
}

fn good() -> Settings {
    let mut settings = test_settings();
    settings.site = SiteId::parse("km-17").unwrap();
    settings.remote.keys = vec![trusted("office", RFC)];
    settings
}

impl Bench {
    fn new() -> Bench {
        let proven = BTreeSet::from([("127.0.0.1".to_owned(), 1883)]);
        let record = ConfigState::of_file(Digest::of(FILE.as_bytes()), String::new(), proven);
        let known = ProvenSettings { good: good(), bootstrap: good(), trying: None };
        let machine = ConfigMachine::new(record, known, [1; 32], stamp(1_000_000));
        let mut bench = Bench { machine, now: 1_000_000, out: Vec::new() };
        bench.input(ConfigInput::Picture);
        bench.input(ConfigInput::Footage(MonoTime(900_000)));
        bench
    }

    fn input(&mut self, input: ConfigInput) -> Vec<ConfigEffect> {
        self.now += 1000;
        let mut out = Vec::new();
        self.machine.handle(stamp(self.now), input, &mut out);
        self.out.extend(out.iter().cloned());
        out
    }

    fn pass(&mut self, micros: u64) -> Vec<ConfigEffect> {
        self.now += micros;
        self.input(ConfigInput::Tick)
    }

    fn saved(&mut self, outcome: Result<(), String>) -> Vec<ConfigEffect> {
        let generation = self.machine.record().generation;
        self.input(ConfigInput::Saved(generation, outcome))
    }

    fn judged(&mut self, outcome: Result<Box<Settings>, Rejection>) {
        let asked = self.out.iter().rev().find_map(|effect| match effect {
            ConfigEffect::Judge { sha256, .. } => Some(*sha256),
            _ => None,
        });
        self.input(ConfigInput::Judged(asked.expect("no validation was requested"), outcome));
    }

    fn send(&mut self, document: &Document) -> Vec<ConfigEffect> {
        let bytes = document.encode();
        self.input(ConfigInput::Document { len: bytes.len(), bytes })
    }

    /// Sends a document and stores each step up to its trial; returns the applied settings.
    fn try_out(&mut self, document: &Document, settings: Settings) -> Applied {
        assert!(matches!(self.send(document)[..], [ConfigEffect::Judge { .. }]));
        self.judged(Ok(Box::new(settings)));
        assert!(matches!(self.machine.record().phase, ConfigPhase::Staged(_)));
        self.saved(Ok(()));
        let out = self.saved(Ok(()));
        let applied = out.into_iter().find_map(|effect| {
            if let ConfigEffect::Apply(applied) = effect { Some(applied) } else { None }
        });
        *applied.expect("the change was stored twice and not applied")
    }

    fn refused(&self) -> RejectReason {
        let last = self.out.iter().rev().find_map(|effect| match effect {
            ConfigEffect::Event(data) if data["action"] == "refused" => {
                serde_json::from_value(data["reason"].clone()).ok()
            }
            _ => None,
        });
        last.expect("no rejection was reported")
    }

    fn report(&self) -> Value {
        self.machine.report()
    }

    fn confirm(&mut self) {
        let report = self.report();
        let confirm =
            json!({"id": report["id"], "sha256": report["sha256"], "nonce": report["nonce"]});
        self.input(ConfigInput::Confirm(confirm.to_string().into_bytes()));
    }

    fn session(&mut self, epoch: u64) {
        self.input(ConfigInput::Session { epoch, broker: ("127.0.0.1".into(), 1883) });
    }

    /// Gives all evidence over a broker, and stores the commit.
    fn prove(&mut self, applied: &Applied, host: &str) {
        self.input(ConfigInput::Session { epoch: applied.epoch, broker: (host.into(), 1883) });
        self.confirm();
        self.input(ConfigInput::Footage(MonoTime(self.now + 1)));
        self.pass(2_000_000);
        self.saved(Ok(()));
    }
}

fn stamp(mono: u64) -> Timestamp {
    Timestamp {
        mono: MonoTime(mono),
        wall: WallTime::parse("2026-11-25T00:00:00Z").unwrap().plus_micros(mono as i64),
        quality: ClockQuality::Ntp,
    }
}

fn document(version: u64, prev: &str, config: &str) -> Document {
    let (site, not_after) = ("km-17".to_owned(), "2026-12-01T00:00:00.000Z".to_owned());
    let (prev_sha256, config) = (Digest::of(prev.as_bytes()), config.to_owned());
    Document { v: 1, site, version, prev_sha256, not_after, config, sig: None }.signed(&key(RFC))
}

fn zones() -> Settings {
    let mut settings = good();
    settings.motion.sensitivity = 7;
    settings
}

#[test]
fn each_step_is_stored_first_and_committed_on_evidence() {
    let mut bench = Bench::new();
    let applied = bench.try_out(&document(1, FILE, "new"), zones());
    assert!(applied.fresh && applied.settings.motion.sensitivity == 7);
    assert_eq!(bench.report()["phase"], "trial");
    bench.session(0);
    bench.confirm();
    bench.input(ConfigInput::Footage(MonoTime(bench.now + 1)));
    bench.pass(2_000_000);
    assert_eq!(bench.report()["phase"], "trial", "the session is older than the settings");
    bench.session(applied.epoch);
    bench.input(ConfigInput::Confirm(b"{\"id\":\"x\"}".to_vec()));
    bench.pass(2_000_000);
    let missing = bench.report()["trial"]["missing"].clone();
    assert_eq!(missing, json!(["no confirmation from the office over 127.0.0.1:1883"]));
    bench.confirm();
    let saved = matches!(bench.out.last(), Some(ConfigEffect::Save(record, None)) if record.phase == ConfigPhase::Idle);
    assert!(saved, "{:?}", bench.out.last());
    bench.saved(Ok(()));
    let report = bench.report();
    assert_eq!(
        (&report["phase"], &report["committed"]["sha256"]),
        (&json!("committed"), &json!(Digest::of(b"new")))
    );
    assert_eq!(report["older"][0]["sha256"], json!(Digest::of(FILE.as_bytes())));
}

#[test]
fn bad_confirmations_are_counted_and_one_a_minute_is_logged() {
    let mut bench = Bench::new();
    bench.try_out(&document(1, FILE, "new"), zones());
    bench.session(0);
    let other =
        json!({"id": "other", "sha256": Digest::default(), "nonce": "0"}).to_string().into_bytes();
    for _ in 0..219 {
        bench.input(ConfigInput::Confirm(b"{".to_vec()));
        bench.input(ConfigInput::Confirm(other.clone()));
    }
    assert_eq!(bench.machine.bad_confirms.dropped(), 2 * 219 - 1);
    bench.pass(61_000_000);
    bench.input(ConfigInput::Confirm(b"{".to_vec()));
    assert_eq!(bench.machine.bad_confirms.dropped(), 2 * 219 - 1);
}

#[test]
fn a_change_without_a_session_is_rolled_back_with_the_reason() {
    let mut bench = Bench::new();
    let applied = bench.try_out(&document(1, FILE, "new"), zones());
    bench.input(ConfigInput::NoSession("connection refused".into()));
    bench.pass(599_000_000);
    assert_eq!(bench.report()["phase"], "trial");
    bench.pass(2_000_000);
    // The first save holds the elapsed time.
    let out: Vec<ConfigEffect> = (0..2).flat_map(|_| bench.saved(Ok(()))).collect();
    let back = out.iter().any(|effect| matches!(effect, ConfigEffect::Apply(back) if back.settings.motion.sensitivity == 5 && back.fresh && back.epoch > applied.epoch));
    assert!(back, "{out:?}");
    let report = bench.report();
    assert_eq!(
        (&report["phase"], &report["committed"]["sha256"]),
        (&json!("rolled_back"), &json!(Digest::of(FILE.as_bytes())))
    );
    let detail = report["last"]["refusal"]["detail"].as_str().unwrap();
    assert!(
        detail.contains("connection refused") && detail.contains("no durable footage"),
        "{detail}"
    );
}

#[test]
fn another_camera_has_a_minute_for_its_first_key_frame() {
    let mut bench = Bench::new();
    let mut other = good();
    other.camera.main_url = url::Url::parse("rtsp://elsewhere/").unwrap();
    let applied = bench.try_out(&document(1, FILE, "new"), other);
    bench.session(applied.epoch);
    bench.confirm();
    bench.input(ConfigInput::NoPicture("no_video: nothing".into()));
    bench.pass(59_000_000);
    assert_eq!(bench.report()["phase"], "trial");
    bench.pass(2_000_000);
    assert_eq!(bench.report()["phase"], "rolled_back");
    assert!(
        bench.report()["last"]["refusal"]["detail"]
            .as_str()
            .unwrap()
            .contains("no key frame (no_video: nothing)")
    );
}

#[test]
fn evidence_that_failed_before_is_not_required() {
    let mut bench = Bench::new();
    bench.input(ConfigInput::NoPicture("unreachable: dead".into()));
    let applied = bench.try_out(&document(1, FILE, "new"), zones());
    bench.session(applied.epoch);
    bench.confirm();
    bench.pass(2_000_000);
    bench.saved(Ok(()));
    assert_eq!(bench.report()["phase"], "committed");
}

#[test]
fn each_rejected_document_is_reported_once_and_changes_nothing() {
    let mut bench = Bench::new();
    let before = bench.machine.record().committed.clone();
    let late = Document {
        not_after: "2026-11-01T00:00:00Z".into(),
        sig: None,
        ..document(1, FILE, "new")
    }
    .signed(&key(RFC));
    let foreign =
        Document { site: "km-18".into(), sig: None, ..document(1, FILE, "new") }.signed(&key(RFC));
    let cases = [
        (Document { sig: None, ..document(1, FILE, "new") }, RejectReason::Unsigned),
        (document(1, FILE, "new").signed(&key(OTHER)), RejectReason::UnknownKey),
        (Document { version: 2, ..document(1, FILE, "new") }, RejectReason::BadSignature),
        (foreign, RejectReason::WrongSite),
        (late, RejectReason::Expired),
        (document(1, "another file", "new"), RejectReason::Stale),
    ];
    for (document, why) in &cases {
        bench.send(document);
        assert_eq!(bench.refused(), *why);
        assert!(bench.send(document).is_empty(), "the rejection is reported twice");
    }
    bench.input(ConfigInput::Document { bytes: Vec::new(), len: 10 << 20 });
    assert_eq!(bench.refused(), RejectReason::TooLarge);
    let whole = document(1, FILE, "new").encode();
    bench.input(ConfigInput::Document { bytes: whole[..50].to_vec(), len: 50 });
    assert_eq!(bench.refused(), RejectReason::Unreadable);
    assert_eq!(bench.machine.record().committed, before);
    assert!(
        bench
            .out
            .iter()
            .all(|effect| !matches!(effect, ConfigEffect::Save(..) | ConfigEffect::Apply(_)))
    );
}

#[test]
fn a_document_by_a_key_for_commands_is_rejected_with_its_id() {
    let mut bench = Bench::new();
    let mut settings = good();
    settings.remote.keys.push(TrustedKey { scope: KeyScope::Commands, ..trusted("desk", OTHER) });
    let applied = bench.try_out(&document(1, FILE, "with the desk's key"), settings);
    bench.prove(&applied, "127.0.0.1");
    let desk = trusted("desk", OTHER).id();
    bench.send(&document(7, "with the desk's key", "new").signed(&key(OTHER)));
    let rejected = |bench: &Bench| (bench.report()["refused"]["id"].clone(), bench.refused());
    assert_eq!(rejected(&bench), (json!(format!("{desk}-7")), RejectReason::Scope));
    // The signer is unproven, or the document is for another device: the id must not name a key.
    bench.send(&Document { version: 8, ..document(7, FILE, "new").signed(&key(OTHER)) });
    assert_eq!(rejected(&bench), (json!("?-8"), RejectReason::BadSignature));
    let foreign = Document { site: "km-18".into(), sig: None, ..document(9, FILE, "new") };
    bench.send(&foreign.signed(&key(OTHER)));
    assert_eq!(rejected(&bench), (json!("?-9"), RejectReason::WrongSite));
}

#[test]
fn a_document_with_bad_keys_uses_its_version() {
    let mut bench = Bench::new();
    bench.send(&document(5, FILE, "bad"));
    bench.judged(Err(Rejection::bad_key(RejectReason::Invalid, "camera.foo", "is not a key")));
    bench.saved(Ok(()));
    assert_eq!(bench.report()["last"]["refusal"]["errors"][0]["key"], "camera.foo");
    assert!(bench.send(&document(5, FILE, "bad")).is_empty(), "the document was answered");
    for again in [document(5, FILE, "other"), document(4, FILE, "other")] {
        bench.send(&again);
        assert_eq!(bench.refused(), RejectReason::Replayed);
    }
    assert!(matches!(bench.send(&document(6, FILE, "other"))[..], [ConfigEffect::Judge { .. }]));
}

#[test]
fn a_second_change_is_busy_and_requested_again_later() {
    let mut bench = Bench::new();
    let applied = bench.try_out(&document(1, FILE, "new"), zones());
    bench.send(&document(2, FILE, "newer"));
    assert_eq!(bench.refused(), RejectReason::Busy);
    bench.session(applied.epoch);
    bench.confirm();
    bench.input(ConfigInput::Footage(MonoTime(bench.now + 1)));
    bench.pass(2_000_000);
    let out = bench.saved(Ok(()));
    assert!(out.contains(&ConfigEffect::Ask), "{out:?}");
    assert!(matches!(bench.send(&document(2, "new", "newer"))[..], [ConfigEffect::Judge { .. }]));
}

#[test]
fn a_read_only_card_allows_a_change_without_a_restart() {
    let mut bench = Bench::new();
    bench.send(&document(1, FILE, "new"));
    bench.judged(Ok(Box::new(zones())));
    bench.saved(Err("read-only".into()));
    let out = bench.saved(Err("read-only".into()));
    assert!(out.iter().any(|effect| matches!(effect, ConfigEffect::Apply(_))));
    assert_eq!(
        (bench.report()["stored"].clone(), bench.report()["not_stored"].clone()),
        (json!(false), json!("read-only"))
    );
    let mut bench = Bench::new();
    let mut restart = good();
    restart.storage.segment = 2 << 20;
    bench.send(&document(1, FILE, "new"));
    bench.judged(Ok(Box::new(restart)));
    bench.saved(Err("read-only".into()));
    assert_eq!(bench.report()["last"]["refusal"]["why"], "not_stored");
    assert!(
        bench
            .out
            .iter()
            .all(|effect| !matches!(effect, ConfigEffect::Apply(_) | ConfigEffect::Restart))
    );
}

#[test]
fn a_local_edit_needs_the_office_only_when_it_touches_uplink() {
    let mut bench = Bench::new();
    let found = |text: &str, settings: Settings| {
        ConfigInput::File(Box::new(FileFound {
            text: text.into(),
            outcome: Ok(Box::new(settings)),
        }))
    };
    assert!(bench.input(found(FILE, good())).is_empty(), "the same file");
    bench.input(found("edited", zones()));
    bench.saved(Ok(()));
    bench.saved(Ok(()));
    bench.input(ConfigInput::Footage(MonoTime(bench.now + 1)));
    bench.pass(2_000_000);
    bench.saved(Ok(()));
    let report = bench.report();
    assert_eq!(
        (&report["phase"], &report["origin"], &report["file"]),
        (&json!("committed"), &json!("file"), &json!(Digest::of(b"edited")))
    );
    let mut moved = zones();
    moved.uplink.host = "elsewhere".into();
    bench.input(found("moved", moved));
    bench.saved(Ok(()));
    bench.saved(Ok(()));
    bench.input(ConfigInput::Footage(MonoTime(bench.now + 1)));
    bench.pass(2_000_000);
    assert_eq!(bench.report()["phase"], "trial", "the new broker is not proven");
}

fn edited(text: &str, settings: Settings) -> ConfigInput {
    let outcome = Ok(Box::new(settings));
    ConfigInput::File(Box::new(FileFound { text: text.into(), outcome }))
}

/// A bench with a mistyped camera on trial by a local edit.
fn mistyped() -> Bench {
    let mut bench = Bench::new();
    let mut wrong = good();
    wrong.camera.main_url = url::Url::parse("rtsp://127.0.0.1/mistyped").unwrap();
    bench.input(edited("wrong", wrong));
    bench.saved(Ok(()));
    bench.saved(Ok(()));
    bench.input(ConfigInput::NoPicture("404".into()));
    assert_eq!(bench.report()["phase"], "trial");
    bench
}

#[test]
fn the_right_file_put_back_ends_its_trial_at_once() {
    let mut bench = mistyped();
    bench.pass(15_000_000);
    bench.input(edited(FILE, good()));
    let out = bench.saved(Ok(()));
    let applied = out.iter().find_map(|effect| match effect {
        ConfigEffect::Apply(applied) => Some(applied.settings.camera.clone()),
        _ => None,
    });
    assert_eq!(applied, Some(good().camera), "{out:?}");
    assert_eq!(bench.machine.record().phase, ConfigPhase::Idle);
    assert_eq!(bench.machine.record().file, Digest::of(FILE.as_bytes()));
    assert_eq!(bench.report()["last"]["refusal"]["why"], "replaced");
}

#[test]
fn a_second_edit_in_a_trial_goes_on_trial_itself() {
    let mut bench = mistyped();
    bench.input(edited("right", zones()));
    bench.saved(Ok(()));
    bench.saved(Ok(()));
    bench.saved(Ok(()));
    let trial = bench.machine.record().trial().unwrap();
    assert_eq!(trial.next.sha256, Digest::of(b"right"));
    assert_eq!(bench.machine.in_force().motion, zones().motion);
}

#[test]
fn a_bad_edit_and_the_same_file_leave_the_trial_alone() {
    let mut bench = mistyped();
    let refusal = Rejection::new(RejectReason::Invalid, "half a file");
    let bad = FileFound { text: "half".into(), outcome: Err(refusal) };
    bench.input(ConfigInput::File(Box::new(bad)));
    bench.input(edited("wrong", good()));
    assert_eq!(bench.report()["phase"], "trial");
}

#[test]
fn an_edit_in_a_trial_of_the_office_waits_for_its_end() {
    let mut bench = Bench::new();
    let applied = bench.try_out(&document(1, FILE, "new"), zones());
    bench.input(edited("edited", good()));
    assert_eq!(bench.report()["phase"], "trial");
    bench.prove(&applied, "127.0.0.1");
    assert_eq!(bench.machine.record().trial().unwrap().next.sha256, Digest::of(b"edited"));
}

#[test]
fn on_trial_only_the_new_broker_is_tried() {
    let mut bench = Bench::new();
    let mut two = good();
    two.uplink.fallbacks =
        vec![crate::settings::Broker { host: "new".into(), port: 1883, tls: None, login: None }];
    let applied = bench.try_out(&document(1, FILE, "two"), two.clone());
    let hosts = |settings: &Settings| {
        settings.uplink.brokers().into_iter().map(|broker| broker.host).collect::<Vec<_>>()
    };
    assert_eq!(hosts(&applied.settings), ["new"]);
    bench.prove(&applied, "new");
    let mut only = good();
    only.uplink.host = "new".into();
    let applied = bench.try_out(&document(2, "two", "only"), only);
    assert_eq!(hosts(&applied.settings), ["new"]);
    bench.prove(&applied, "new");
    assert_eq!(
        hosts(&bench.machine.in_force()),
        ["new", "127.0.0.1"],
        "the bootstrap's broker is the last one"
    );
}

#[test]
fn a_signed_command_waits_until_its_number_is_stored() {
    let mut bench = Bench::new();
    let site = SiteId::parse("km-17").unwrap();
    let plain = serde_json::Map::new();
    let asked = CommandRequest {
        name: "ping",
        req_id: "r1",
        expires: Some("2026-11-25T01:00:00Z"),
        args: &plain,
    };
    let signed = add_signature(site.as_str(), asked, 9, &key(RFC)).unwrap();
    let asked = CommandRequest { args: &signed, ..asked };
    let mut out = Vec::new();
    assert_eq!(bench.machine.command(stamp(bench.now), asked, &mut out), Ok(true));
    let kept = matches!(&out[..], [ConfigEffect::Save(record, None)] if record.commands.values().copied().eq([9]));
    assert!(kept, "{out:?}");
    assert_eq!(bench.saved(Ok(())), [ConfigEffect::Carry]);
    assert_eq!(
        bench.machine.command(stamp(bench.now), asked, &mut out).unwrap_err().why,
        RejectReason::Replayed
    );
    let unsigned = CommandRequest { args: &plain, ..asked };
    assert_eq!(
        bench.machine.command(stamp(bench.now), unsigned, &mut out).unwrap_err().why,
        RejectReason::Unsigned
    );
}

#[test]
fn endless_rejections_do_not_fill_the_outbox() {
    let mut bench = Bench::new();
    for n in 0..100 {
        bench.input(ConfigInput::Document { bytes: vec![n], len: 1 });
    }
    let events = bench.out.iter().filter(|effect| matches!(effect, ConfigEffect::Event(_))).count();
    assert_eq!(events, 20);
    bench.pass(60_000_000);
    bench.input(ConfigInput::Document { bytes: vec![200], len: 1 });
    let suppressed_count = bench.out.iter().rev().find_map(|effect| {
        if let ConfigEffect::Event(data) = effect {
            Some(data["suppressed_count"].clone())
        } else {
            None
        }
    });
    assert_eq!(suppressed_count, Some(json!(80)));
}

#[test]
fn a_hung_card_delays_no_rollback() {
    let mut bench = Bench::new();
    let next = good();
    bench.try_out(&document(1, FILE, "next"), next);
    let limit = good().remote.trial * 1_000_000;
    bench.pass(limit);
    let hung = bench.machine.record().generation;
    assert_eq!(bench.machine.as_str(), "rolled_back");
    assert!(
        bench.machine.deadline() <= MonoTime(bench.now + SAVE_WITHIN),
        "the deadline is later than the limit of a save"
    );
    let applied =
        |out: &[ConfigEffect]| out.iter().any(|effect| matches!(effect, ConfigEffect::Apply(_)));
    assert!(!applied(&bench.pass(SAVE_WITHIN - 2_000_000)));
    assert!(applied(&bench.pass(2_000_000)), "the rollback waits for the card");
    let report = bench.report();
    assert_eq!(report["stored"], false, "{report}");
    bench.input(ConfigInput::Saved(hung - 1, Err("an older one".into())));
    let out = bench.input(ConfigInput::Saved(hung, Ok(())));
    assert!(!applied(&out), "twice");
    assert_eq!(bench.report()["stored"], true, "the late save counts as stored");
}

#[test]
fn a_validation_without_an_answer_ends_in_time() {
    let mut bench = Bench::new();
    bench.send(&document(1, FILE, "next"));
    bench.pass(JUDGE_WITHIN);
    assert_eq!(bench.refused(), RejectReason::Unreadable);
    bench.saved(Ok(()));
    assert!(!bench.machine.is_busy());
    // A late answer is ignored.
    bench.judged(Ok(Box::new(good())));
    assert!(!bench.machine.is_busy());
}
