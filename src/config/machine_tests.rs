//! The machine driven by hand: a card that keeps when it is told to, an office that answers when it is told to.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::command::{Asked, add_signature};
use super::document::Document;
use super::document::tests::{OTHER, RFC, key, trusted};
use super::machine::{Applied, Effect, FileFound, Input, JUDGE_WITHIN, Known, Machine, SAVE_WITHIN};
use super::record::{Phase, Record};
use super::refusal::{Refusal, Why};
use crate::settings::{Scope, Settings, TrustedKey, test_settings};
use crate::units::{Digest, Mono, SiteId, Stamp, Wall, WallQuality};

const FILE: &str = "the file";

struct Bench {
    machine: Machine,
    now: u64,
    out: Vec<Effect>,
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
        let record = Record::of_file(Digest::of(FILE.as_bytes()), String::new(), proven);
        let known = Known { good: good(), bootstrap: good(), trying: None };
        let machine = Machine::new(record, known, [1; 32], stamp(1_000_000));
        let mut bench = Bench { machine, now: 1_000_000, out: Vec::new() };
        bench.tell(Input::Picture);
        bench.tell(Input::Footage(Mono(900_000)));
        bench
    }

    fn tell(&mut self, input: Input) -> Vec<Effect> {
        self.now += 1000;
        let mut out = Vec::new();
        self.machine.handle(stamp(self.now), input, &mut out);
        self.out.extend(out.iter().cloned());
        out
    }

    fn pass(&mut self, micros: u64) -> Vec<Effect> {
        self.now += micros;
        self.tell(Input::Tick)
    }

    fn saved(&mut self, outcome: Result<(), String>) -> Vec<Effect> {
        let generation = self.machine.record().generation;
        self.tell(Input::Saved(generation, outcome))
    }

    fn judged(&mut self, outcome: Result<Box<Settings>, Refusal>) {
        let asked = self.out.iter().rev().find_map(|effect| match effect {
            Effect::Judge { sha256, .. } => Some(*sha256),
            _ => None,
        });
        self.tell(Input::Judged(asked.expect("nothing is to be judged"), outcome));
    }

    fn send(&mut self, document: &Document) -> Vec<Effect> {
        let bytes = document.encode();
        self.tell(Input::Document { len: bytes.len(), bytes })
    }

    /// From the document to its trial; gives what is applied.
    fn try_out(&mut self, document: &Document, settings: Settings) -> Applied {
        assert!(matches!(self.send(document)[..], [Effect::Judge { .. }]));
        self.judged(Ok(Box::new(settings)));
        assert!(matches!(self.machine.record().phase, Phase::Staged(_)));
        self.saved(Ok(()));
        let out = self.saved(Ok(()));
        let applied = out.into_iter().find_map(|effect| if let Effect::Apply(applied) = effect { Some(applied) } else { None });
        *applied.expect("it was written down twice and not applied")
    }

    fn refused(&self) -> Why {
        let last = self.out.iter().rev().find_map(|effect| match effect {
            Effect::Event(data) if data["action"] == "refused" => serde_json::from_value(data["reason"].clone()).ok(),
            _ => None,
        });
        last.expect("no refusal was told")
    }

    fn report(&self) -> Value {
        self.machine.report()
    }

    fn confirm(&mut self) {
        let report = self.report();
        let confirm = json!({"id": report["id"], "sha256": report["sha256"], "nonce": report["nonce"]});
        self.tell(Input::Confirm(confirm.to_string().into_bytes()));
    }

    fn session(&mut self, epoch: u64) {
        self.tell(Input::Session { epoch, broker: ("127.0.0.1".into(), 1883) });
    }

    /// What is applied shows all it must over a broker, and is kept.
    fn prove(&mut self, applied: &Applied, host: &str) {
        self.tell(Input::Session { epoch: applied.epoch, broker: (host.into(), 1883) });
        self.confirm();
        self.tell(Input::Footage(Mono(self.now + 1)));
        self.pass(2_000_000);
        self.saved(Ok(()));
    }
}

fn stamp(mono: u64) -> Stamp {
    Stamp {
        mono: Mono(mono),
        wall: Wall::parse("2026-11-25T00:00:00Z").unwrap().plus_micros(mono as i64),
        quality: WallQuality::Ntp,
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
fn a_change_is_written_down_before_each_step_and_committed_on_evidence() {
    let mut bench = Bench::new();
    let applied = bench.try_out(&document(1, FILE, "new"), zones());
    assert!(applied.fresh && applied.settings.motion.sensitivity == 7);
    assert_eq!(bench.report()["phase"], "trial");
    bench.session(0);
    bench.confirm();
    bench.tell(Input::Footage(Mono(bench.now + 1)));
    bench.pass(2_000_000);
    assert_eq!(bench.report()["phase"], "trial", "the session is older than the settings");
    bench.session(applied.epoch);
    bench.tell(Input::Confirm(b"{\"id\":\"x\"}".to_vec()));
    bench.pass(2_000_000);
    let missing = bench.report()["trial"]["missing"].clone();
    assert_eq!(missing, json!(["no confirmation from the office over 127.0.0.1:1883"]));
    bench.confirm();
    let saved = matches!(bench.out.last(), Some(Effect::Save(record, None)) if record.phase == Phase::Idle);
    assert!(saved, "{:?}", bench.out.last());
    bench.saved(Ok(()));
    let report = bench.report();
    assert_eq!((&report["phase"], &report["committed"]["sha256"]), (&json!("committed"), &json!(Digest::of(b"new"))));
    assert_eq!(report["older"][0]["sha256"], json!(Digest::of(FILE.as_bytes())));
}

#[test]
fn without_the_office_it_is_taken_back_in_time_with_the_reason() {
    let mut bench = Bench::new();
    let applied = bench.try_out(&document(1, FILE, "new"), zones());
    bench.tell(Input::NoSession("connection refused".into()));
    bench.pass(599_000_000);
    assert_eq!(bench.report()["phase"], "trial");
    bench.pass(2_000_000);
    // The first of them is the note of how long it had run.
    let out: Vec<Effect> = (0..2).flat_map(|_| bench.saved(Ok(()))).collect();
    let back = out.iter().any(|effect| matches!(effect, Effect::Apply(back) if back.settings.motion.sensitivity == 5 && back.fresh && back.epoch > applied.epoch));
    assert!(back, "{out:?}");
    let report = bench.report();
    assert_eq!((&report["phase"], &report["committed"]["sha256"]), (&json!("rolled_back"), &json!(Digest::of(FILE.as_bytes()))));
    let detail = report["last"]["refusal"]["detail"].as_str().unwrap();
    assert!(detail.contains("connection refused") && detail.contains("no durable footage"), "{detail}");
}

#[test]
fn another_camera_has_a_minute_for_its_first_key_frame() {
    let mut bench = Bench::new();
    let mut other = good();
    other.camera.main_url = url::Url::parse("rtsp://elsewhere/").unwrap();
    let applied = bench.try_out(&document(1, FILE, "new"), other);
    bench.session(applied.epoch);
    bench.confirm();
    bench.tell(Input::NoPicture("no_video: nothing".into()));
    bench.pass(59_000_000);
    assert_eq!(bench.report()["phase"], "trial");
    bench.pass(2_000_000);
    assert_eq!(bench.report()["phase"], "rolled_back");
    assert!(bench.report()["last"]["refusal"]["detail"].as_str().unwrap().contains("no key frame (no_video: nothing)"));
}

#[test]
fn what_failed_before_is_not_asked_for() {
    let mut bench = Bench::new();
    bench.tell(Input::NoPicture("unreachable: dead".into()));
    let applied = bench.try_out(&document(1, FILE, "new"), zones());
    bench.session(applied.epoch);
    bench.confirm();
    bench.pass(2_000_000);
    bench.saved(Ok(()));
    assert_eq!(bench.report()["phase"], "committed");
}

#[test]
fn every_refusal_of_a_document_is_told_once_by_name_and_nothing_changes() {
    let mut bench = Bench::new();
    let before = bench.machine.record().committed.clone();
    let late = Document { not_after: "2026-11-01T00:00:00Z".into(), sig: None, ..document(1, FILE, "new") }.signed(&key(RFC));
    let foreign = Document { site: "km-18".into(), sig: None, ..document(1, FILE, "new") }.signed(&key(RFC));
    let cases = [
        (Document { sig: None, ..document(1, FILE, "new") }, Why::Unsigned),
        (document(1, FILE, "new").signed(&key(OTHER)), Why::UnknownKey),
        (Document { version: 2, ..document(1, FILE, "new") }, Why::BadSignature),
        (foreign, Why::Foreign),
        (late, Why::Expired),
        (document(1, "another file", "new"), Why::Stale),
    ];
    for (document, why) in &cases {
        bench.send(document);
        assert_eq!(bench.refused(), *why);
        assert!(bench.send(document).is_empty(), "told twice");
    }
    bench.tell(Input::Document { bytes: Vec::new(), len: 10 << 20 });
    assert_eq!(bench.refused(), Why::TooLarge);
    let whole = document(1, FILE, "new").encode();
    bench.tell(Input::Document { bytes: whole[..50].to_vec(), len: 50 });
    assert_eq!(bench.refused(), Why::Unreadable);
    assert_eq!(bench.machine.record().committed, before);
    assert!(bench.out.iter().all(|effect| !matches!(effect, Effect::Save(..) | Effect::Apply(_))));
}

#[test]
fn a_key_for_commands_is_refused_with_the_documents_id() {
    let mut bench = Bench::new();
    let mut settings = good();
    settings.remote.keys.push(TrustedKey { scope: Scope::Commands, ..trusted("desk", OTHER) });
    let applied = bench.try_out(&document(1, FILE, "with the desk's key"), settings);
    bench.prove(&applied, "127.0.0.1");
    let desk = trusted("desk", OTHER).id();
    bench.send(&document(7, "with the desk's key", "new").signed(&key(OTHER)));
    let told = |bench: &Bench| (bench.report()["refused"]["id"].clone(), bench.refused());
    assert_eq!(told(&bench), (json!(format!("{desk}-7")), Why::Scope));
    // Who signed it is not proven, or it was another box's: it must not pass for a document of that number.
    bench.send(&Document { version: 8, ..document(7, FILE, "new").signed(&key(OTHER)) });
    assert_eq!(told(&bench), (json!("?-8"), Why::BadSignature));
    let foreign = Document { site: "km-18".into(), sig: None, ..document(9, FILE, "new") };
    bench.send(&foreign.signed(&key(OTHER)));
    assert_eq!(told(&bench), (json!("?-9"), Why::Foreign));
}

#[test]
fn bad_keys_use_up_the_version_and_a_lower_one_is_a_repeat() {
    let mut bench = Bench::new();
    bench.send(&document(5, FILE, "bad"));
    bench.judged(Err(Refusal::bad_key(Why::Invalid, "camera.foo", "is not a key")));
    bench.saved(Ok(()));
    assert_eq!(bench.report()["last"]["refusal"]["errors"][0]["key"], "camera.foo");
    assert!(bench.send(&document(5, FILE, "bad")).is_empty(), "it was answered");
    for again in [document(5, FILE, "other"), document(4, FILE, "other")] {
        bench.send(&again);
        assert_eq!(bench.refused(), Why::Replayed);
    }
    assert!(matches!(bench.send(&document(6, FILE, "other"))[..], [Effect::Judge { .. }]));
}

#[test]
fn one_change_at_a_time_and_the_office_is_asked_again_after_it() {
    let mut bench = Bench::new();
    let applied = bench.try_out(&document(1, FILE, "new"), zones());
    bench.send(&document(2, FILE, "newer"));
    assert_eq!(bench.refused(), Why::Busy);
    bench.session(applied.epoch);
    bench.confirm();
    bench.tell(Input::Footage(Mono(bench.now + 1)));
    bench.pass(2_000_000);
    let out = bench.saved(Ok(()));
    assert!(out.contains(&Effect::Ask), "{out:?}");
    assert!(matches!(bench.send(&document(2, "new", "newer"))[..], [Effect::Judge { .. }]));
}

#[test]
fn a_card_that_keeps_nothing_allows_what_needs_no_restart() {
    let mut bench = Bench::new();
    bench.send(&document(1, FILE, "new"));
    bench.judged(Ok(Box::new(zones())));
    bench.saved(Err("read-only".into()));
    let out = bench.saved(Err("read-only".into()));
    assert!(out.iter().any(|effect| matches!(effect, Effect::Apply(_))));
    assert_eq!((bench.report()["stored"].clone(), bench.report()["not_stored"].clone()), (json!(false), json!("read-only")));
    let mut bench = Bench::new();
    let mut restart = good();
    restart.storage.segment = 2 << 20;
    bench.send(&document(1, FILE, "new"));
    bench.judged(Ok(Box::new(restart)));
    bench.saved(Err("read-only".into()));
    assert_eq!(bench.report()["last"]["refusal"]["why"], "not_stored");
    assert!(bench.out.iter().all(|effect| !matches!(effect, Effect::Apply(_) | Effect::Restart)));
}

#[test]
fn an_edited_file_becomes_a_version_and_needs_no_office_unless_it_touches_it() {
    let mut bench = Bench::new();
    let found =
        |text: &str, settings: Settings| Input::File(Box::new(FileFound { text: text.into(), outcome: Ok(Box::new(settings)) }));
    assert!(bench.tell(found(FILE, good())).is_empty(), "the same file");
    bench.tell(found("edited", zones()));
    bench.saved(Ok(()));
    bench.saved(Ok(()));
    bench.tell(Input::Footage(Mono(bench.now + 1)));
    bench.pass(2_000_000);
    bench.saved(Ok(()));
    let report = bench.report();
    assert_eq!(
        (&report["phase"], &report["origin"], &report["file"]),
        (&json!("committed"), &json!("file"), &json!(Digest::of(b"edited")))
    );
    let mut moved = zones();
    moved.uplink.host = "elsewhere".into();
    bench.tell(found("moved", moved));
    bench.saved(Ok(()));
    bench.saved(Ok(()));
    bench.tell(Input::Footage(Mono(bench.now + 1)));
    bench.pass(2_000_000);
    assert_eq!(bench.report()["phase"], "trial", "it must prove the new broker");
}

#[test]
fn on_trial_only_the_new_broker_is_tried_and_afterwards_the_bootstrap_too() {
    let mut bench = Bench::new();
    let mut two = good();
    two.uplink.fallbacks = vec![crate::settings::Broker { host: "new".into(), port: 1883, tls: None, login: None }];
    let applied = bench.try_out(&document(1, FILE, "two"), two.clone());
    let hosts = |settings: &Settings| settings.uplink.brokers().into_iter().map(|broker| broker.host).collect::<Vec<_>>();
    assert_eq!(hosts(&applied.settings), ["new"]);
    bench.prove(&applied, "new");
    let mut only = good();
    only.uplink.host = "new".into();
    let applied = bench.try_out(&document(2, "two", "only"), only);
    assert_eq!(hosts(&applied.settings), ["new"]);
    bench.prove(&applied, "new");
    assert_eq!(hosts(&bench.machine.in_force()), ["new", "127.0.0.1"], "the broker it was set up with is the last resort");
}

#[test]
fn a_signed_command_waits_for_its_number_to_be_kept_and_is_taken_once() {
    let mut bench = Bench::new();
    let site = SiteId::parse("km-17").unwrap();
    let plain = serde_json::Map::new();
    let asked = Asked { name: "ping", req_id: "r1", expires: Some("2026-11-25T01:00:00Z"), args: &plain };
    let signed = add_signature(site.as_str(), asked, 9, &key(RFC)).unwrap();
    let asked = Asked { args: &signed, ..asked };
    let mut out = Vec::new();
    assert_eq!(bench.machine.command(stamp(bench.now), asked, &mut out), Ok(true));
    let kept = matches!(&out[..], [Effect::Save(record, None)] if record.commands.values().copied().eq([9]));
    assert!(kept, "{out:?}");
    assert_eq!(bench.saved(Ok(())), [Effect::Carry]);
    assert_eq!(bench.machine.command(stamp(bench.now), asked, &mut out).unwrap_err().why, Why::Replayed);
    let unsigned = Asked { args: &plain, ..asked };
    assert_eq!(bench.machine.command(stamp(bench.now), unsigned, &mut out).unwrap_err().why, Why::Unsigned);
}

#[test]
fn refusals_without_end_do_not_fill_the_outbox() {
    let mut bench = Bench::new();
    for n in 0..100 {
        bench.tell(Input::Document { bytes: vec![n], len: 1 });
    }
    let events = bench.out.iter().filter(|effect| matches!(effect, Effect::Event(_))).count();
    assert_eq!(events, 20);
    bench.pass(60_000_000);
    bench.tell(Input::Document { bytes: vec![200], len: 1 });
    let suppressed_count = bench
        .out
        .iter()
        .rev()
        .find_map(|effect| if let Effect::Event(data) = effect { Some(data["suppressed_count"].clone()) } else { None });
    assert_eq!(suppressed_count, Some(json!(80)));
}

#[test]
fn a_card_that_hangs_keeps_no_roll_back_waiting_and_its_late_answers_change_nothing() {
    let mut bench = Bench::new();
    let next = good();
    bench.try_out(&document(1, FILE, "next"), next);
    let limit = good().remote.trial * 1_000_000;
    bench.pass(limit);
    let hung = bench.machine.record().generation;
    assert_eq!(bench.machine.word(), "rolled_back");
    assert!(bench.machine.deadline() <= Mono(bench.now + SAVE_WITHIN), "somebody must look then");
    let applied = |out: &[Effect]| out.iter().any(|effect| matches!(effect, Effect::Apply(_)));
    assert!(!applied(&bench.pass(SAVE_WITHIN - 2_000_000)));
    assert!(applied(&bench.pass(2_000_000)), "the last known good configuration waits for the card");
    let report = bench.report();
    assert_eq!(report["stored"], false, "{report}");
    bench.tell(Input::Saved(hung - 1, Err("an older one".into())));
    let out = bench.tell(Input::Saved(hung, Ok(())));
    assert!(!applied(&out), "twice");
    assert_eq!(bench.report()["stored"], true, "it is on the card after all");
}

#[test]
fn a_text_that_nobody_judges_does_not_keep_others_out() {
    let mut bench = Bench::new();
    bench.send(&document(1, FILE, "next"));
    bench.pass(JUDGE_WITHIN);
    assert_eq!(bench.refused(), Why::Unreadable);
    bench.saved(Ok(()));
    assert!(!bench.machine.is_busy());
    // The answer comes after all: nobody asked.
    bench.judged(Ok(Box::new(good())));
    assert!(!bench.machine.is_busy());
}
