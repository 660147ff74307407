//! The agent driven by hand: a storage that answers when told to, an office that receipts when told to.

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::camera::CameraFault;
use crate::motion::{Motion, MotionPhase};
use crate::storage::{FragmentRef, PinId, ReadFault, Span};
use crate::units::{Digest, Wall, WallQuality};
use crate::uplink::Letter;
use crate::uplink::wire::{self, Command};

struct NoFootage;

impl FootageReader for NoFootage {
    fn fragment(&self, fragment: &FragmentRef) -> Result<Vec<u8>, ReadFault> {
        Ok(vec![1; fragment.len as usize])
    }

    fn still(&self, _: Ticket) -> Result<Vec<u8>, ReadFault> {
        Err(ReadFault::Gone("still".into()))
    }
}

/// One box on the bench: remembers what a card would.
struct Bench {
    agent: Agent,
    now: Stamp,
    /// Entries on the card.
    card: Vec<(Ticket, Vec<u8>)>,
    newest: Option<(Ticket, Vec<u8>)>,
    boot: u32,
    /// Everything the agent wanted, in order, in words.
    log: Vec<String>,
    /// Locate orders not yet answered.
    asked: Vec<PinId>,
    hashing: Vec<u64>,
    sent: Vec<(Ticket, Letter)>,
    replies: Vec<wire::Reply>,
    /// The card refuses entries.
    card_full: bool,
}

fn settings() -> Settings {
    crate::settings::test_settings()
}

fn stamp(seconds: u64) -> Stamp {
    Stamp {
        mono: Mono(seconds * 1_000_000),
        wall: Wall(1_790_000_000_000_000 + seconds as i64 * 1_000_000),
        quality: WallQuality::Ntp,
    }
}

impl Bench {
    fn new() -> Bench {
        let agent = Agent::new(settings(), Arc::new(NoFootage), [7; 32]);
        let mut bench = Bench {
            agent,
            now: stamp(1),
            card: Vec::new(),
            newest: None,
            boot: 0,
            log: Vec::new(),
            asked: Vec::new(),
            hashing: Vec::new(),
            sent: Vec::new(),
            replies: Vec::new(),
            card_full: false,
        };
        bench.boot_up();
        bench
    }

    /// Power on: everything not on the card is forgotten.
    fn boot_up(&mut self) {
        self.boot += 1;
        self.agent = Agent::new(settings(), Arc::new(NoFootage), [self.boot as u8; 32]);
        (self.asked, self.hashing, self.sent) = (Vec::new(), Vec::new(), Vec::new());
        let (entries, newest) = (self.card.clone(), self.newest.clone());
        let found = Recovered { boot: Boot(self.boot), entries, newest, clean: self.boot == 1, ..Recovered::default() };
        self.give(Input::Storage(StorageNews::Started(Box::new(found))));
    }

    fn give(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut out = Vec::new();
            self.agent.handle(self.now, input, &mut out);
            for effect in out {
                inputs.extend(self.carry_out(effect));
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Storage(StorageOrder::Enqueue { ticket, entry, .. }) => {
                self.log.push(format!("journal {}", word_of(&entry)));
                if self.card_full {
                    let reason = "journal full".into();
                    return Some(Input::Storage(StorageNews::NotEnqueued { ticket, reason }));
                }
                self.card.push((ticket, entry.clone()));
                self.newest = Some((ticket, entry));
                Some(Input::Storage(StorageNews::Enqueued { ticket }))
            }
            Effect::Storage(StorageOrder::Release { ticket }) => {
                self.card.retain(|(kept, _)| *kept != ticket);
                None
            }
            Effect::Storage(StorageOrder::Locate { pin, query, .. }) => {
                self.log.push(format!("locate {query:?}"));
                self.asked.push(pin);
                None
            }
            Effect::Storage(StorageOrder::PinOpen { .. }) => self.say("pin"),
            Effect::Storage(StorageOrder::NoteGap(gap)) => self.say(&format!("note gap {}", gap.reason.word())),
            Effect::Storage(StorageOrder::Stop) => self.say("storage stop"),
            Effect::Uplink(UplinkOrder::Close) => self.say("uplink close"),
            Effect::StopCamera => self.say("camera stop"),
            Effect::Finished => self.say("finished"),
            Effect::Uplink(UplinkOrder::Send { ticket, letter }) => {
                self.log.push("send".into());
                self.sent.push((ticket, letter));
                None
            }
            Effect::Uplink(UplinkOrder::Reply(reply)) => {
                self.replies.push(*reply);
                None
            }
            Effect::Hash(order) => {
                self.hashing.push(order.job);
                None
            }
            _ => None,
        }
    }

    fn say(&mut self, word: &str) -> Option<Input> {
        self.log.push(word.to_owned());
        None
    }

    fn at(&mut self, seconds: u64) {
        self.now = stamp(seconds);
        self.give(Input::Tick);
    }

    fn motion(&mut self, phase: MotionPhase) {
        let motion = Motion {
            motion: 1,
            phase,
            at: self.now,
            began: self.now,
            zones: vec!["all".into()],
            direction: None,
            place: [0.0; 4],
            score: 0.9,
            tracks: 1,
            suppressed: 0,
            continued_from: None,
        };
        self.give(Input::Sight(SightNews::Motion(motion)));
    }

    fn connect(&mut self) {
        self.give(Input::Uplink(UplinkNews::Up { conn: 1 }));
    }

    /// Answers every open question of the agent about footage.
    fn find_footage(&mut self, more: bool) {
        for pin in std::mem::take(&mut self.asked) {
            let span = Some(span(more));
            self.give(Input::Storage(StorageNews::Located { pin, span }));
        }
        for job in std::mem::take(&mut self.hashing) {
            self.give(Input::Hashed(Hashed { job, outcome: Ok(Digest::of(b"clip")) }));
        }
    }

    fn receipt_all(&mut self) {
        while let Some((ticket, _)) = self.sent.pop() {
            self.give(Input::Uplink(UplinkNews::Receipted { ticket }));
        }
    }

    fn command(&mut self, name: &str, req_id: &str, args: Value) {
        let Value::Object(args) = args else { panic!("arguments are an object") };
        let command = Command { name: name.into(), req_id: req_id.into(), expires: None, args };
        self.give(Input::Uplink(UplinkNews::Command(Box::new(command))));
    }

    /// All events on the card, by (number, kind).
    fn events(&self) -> Vec<(u64, String)> {
        let event = |bytes: &Vec<u8>| match Entry::decode(bytes).unwrap().body {
            Body::Event { payload, .. } => serde_json::from_str::<wire::Event>(&payload).ok(),
            Body::File(_) => None,
        };
        self.card.iter().filter_map(|(_, bytes)| event(bytes)).map(|event| (event.seq, event.kind)).collect()
    }

    fn has(&self, kind: &str) -> bool {
        self.events().iter().any(|(_, have)| *have == format!("vn.taimat.{kind}.v1"))
    }
}

fn word_of(entry: &[u8]) -> String {
    match Entry::decode(entry).unwrap().body {
        Body::Event { payload, .. } => serde_json::from_str::<wire::Event>(&payload).unwrap().kind,
        Body::File(manifest) => format!("{:?}", manifest.purpose),
    }
}

fn span(more: bool) -> Span {
    let fragment = FragmentRef {
        seq: 4,
        segment: 0,
        lap: 1,
        offset: 4096,
        len: 1000,
        key: true,
        boot: Boot(1),
        start: stamp(5),
        duration: 2_000_000,
        media: 0,
        lead: 0,
        base: 0,
        payload: 900,
        layout: Digest::default(),
    };
    Span { fragments: vec![fragment], tracks: Vec::new(), gaps: Vec::new(), more }
}

#[test]
fn footage_is_pinned_before_the_event_is_journalled_and_journalled_before_it_is_sent() {
    let mut bench = Bench::new();
    bench.connect();
    bench.log.clear();
    bench.motion(MotionPhase::Start);
    assert_eq!(bench.log, ["pin", "journal vn.taimat.motion.start.v1", "send"]);
}

#[test]
fn an_event_ends_with_its_clip_and_both_are_let_go_by_the_receipt() {
    let mut bench = Bench::new();
    bench.connect();
    bench.at(20);
    bench.motion(MotionPhase::Start);
    bench.at(24);
    bench.motion(MotionPhase::End);
    assert!(bench.log.iter().any(|line| line.contains("from: Mono(15000000), to: Mono(29000000)")), "{:?}", bench.log);
    bench.find_footage(false);
    let file = bench.sent.iter().find_map(|(_, letter)| match letter {
        Letter::File { manifest, .. } => Some(manifest.clone()),
        Letter::Event { .. } => None,
    });
    let file = file.expect("no clip was sent");
    assert_eq!((file.purpose, file.records), (Purpose::Clip, (4, 4)));
    bench.receipt_all();
    assert!(bench.card.is_empty(), "{:?} is still on the card", bench.events());
}

#[test]
fn an_event_cut_by_a_power_cut_is_ended_after_the_restart_with_its_clip() {
    let mut bench = Bench::new();
    bench.at(20);
    bench.motion(MotionPhase::Start);
    bench.boot_up();
    assert!(bench.has("motion.end"));
    assert!(bench.log.iter().any(|line| line.contains("boot: Boot(1), from: Mono(15000000)")), "{:?}", bench.log);
    bench.boot_up();
    assert!(!bench.asked.is_empty(), "a second power cut lost the clip that was owed");
    let numbers: Vec<u64> = bench.events().iter().map(|(seq, _)| *seq).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
}

#[test]
fn numbers_go_on_after_everything_was_receipted_and_released() {
    let mut bench = Bench::new();
    bench.connect();
    bench.receipt_all();
    assert!(bench.card.is_empty());
    bench.boot_up();
    assert_eq!(bench.events()[0].0, 2, "the number of the first start's event was given twice");
}

#[test]
fn a_refused_journal_entry_is_tried_again_and_no_number_is_skipped() {
    let mut bench = Bench::new();
    bench.card_full = true;
    bench.motion(MotionPhase::Start);
    bench.motion(MotionPhase::End);
    let before = bench.card.len();
    bench.card_full = false;
    bench.at(7);
    assert_eq!(bench.card.len(), before + 2);
    let numbers: Vec<u64> = bench.events().iter().map(|(seq, _)| *seq).collect();
    assert_eq!(numbers, [1, 2, 3]);
}

#[test]
fn a_card_that_stands_still_bounds_what_waits_and_the_rest_is_told_by_number() {
    let mut bench = Bench::new();
    bench.card_full = true;
    for _ in 0..desk::WAITING_MAX + 50 {
        bench.give(Input::Storage(StorageNews::Hole(Gap {
            from: stamp(2),
            to: stamp(3),
            reason: GapReason::FellBehind,
            bytes: 1,
        })));
    }
    bench.card_full = false;
    for seconds in 7..9 {
        bench.at(seconds);
    }
    let events = bench.events();
    let numbers: Vec<u64> = events.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    assert!(bench.has("shed"), "the events that found no room were never told");
}

#[test]
fn footage_that_is_gone_is_told_and_no_longer_owed() {
    let mut bench = Bench::new();
    bench.motion(MotionPhase::Start);
    bench.motion(MotionPhase::End);
    let pin = bench.asked.pop().unwrap();
    bench.give(Input::Storage(StorageNews::Located { pin, span: None }));
    assert!(bench.has("file.lost"));
    bench.boot_up();
    assert!(bench.asked.is_empty(), "the lost clip is asked for again");
}

#[test]
fn a_clip_across_a_change_of_parameters_comes_in_parts() {
    let mut bench = Bench::new();
    bench.at(20);
    bench.motion(MotionPhase::Start);
    bench.at(24);
    bench.motion(MotionPhase::End);
    bench.find_footage(true);
    assert_eq!(bench.asked.len(), 1, "the rest of the clip was not asked for");
    assert!(bench.log.iter().any(|line| line.contains("after: 4")), "{:?}", bench.log);
}

#[test]
fn a_requested_range_is_answered_with_its_file_and_a_repeat_with_the_same_answer() {
    let mut bench = Bench::new();
    bench.at(100);
    let args = json!({"from": stamp(5).wall.rfc3339(), "to": stamp(9).wall.rfc3339()});
    bench.command("clip-get", "r1", args.clone());
    bench.find_footage(false);
    bench.command("clip-get", "r1", args);
    let statuses: Vec<_> = bench.replies.iter().map(|reply| reply.status.as_str()).collect();
    assert_eq!(statuses, ["accepted", "accepted"]);
    assert_eq!(bench.log.iter().filter(|line| line.starts_with("locate")).count(), 1);
}

#[test]
fn a_command_that_cannot_be_carried_out_says_which_argument_is_wrong() {
    let mut bench = Bench::new();
    bench.at(100);
    bench.command("clip-get", "a", json!({"from": "yesterday", "to": "2026-01-01T00:00:00Z"}));
    bench.command("clip-get", "b", json!({"from": stamp(9).wall.rfc3339(), "to": stamp(5).wall.rfc3339()}));
    bench.command("clip-get", "c", json!({"from": "2026-01-01T00:00:00Z", "to": stamp(5).wall.rfc3339()}));
    bench.command("reboot", "d", json!({}));
    let details: Vec<_> = bench.replies.iter().map(|reply| reply.detail.clone()).collect();
    for (detail, word) in details.iter().zip(["from:", "before", "max_requested", "reboot"]) {
        assert!(detail.contains(word), "{detail:?} does not name {word:?}");
    }
    assert_eq!(details.len(), 4);
}

#[test]
fn a_camera_outage_becomes_a_gap_record_and_two_events() {
    let mut bench = Bench::new();
    let up = |at| Input::Camera(CameraNews::Up { role: Role::Main, tracks: "h264 1280x720".into(), at });
    bench.give(up(stamp(2)));
    let (fault, detail) = (CameraFault::Stalled, "no frame for 15 s".to_owned());
    bench.give(Input::Camera(CameraNews::Down { role: Role::Main, fault, detail, since: stamp(10) }));
    bench.give(up(stamp(40)));
    assert!(bench.has("camera.down") && bench.has("camera.up"));
    assert_eq!(bench.log.iter().filter(|line| *line == "note gap camera_down").count(), 1);
}

#[test]
fn a_stop_follows_the_data_and_storage_is_last() {
    let mut bench = Bench::new();
    bench.motion(MotionPhase::Start);
    bench.log.clear();
    bench.give(Input::Stop);
    bench.give(Input::CameraStopped);
    bench.give(Input::Uplink(UplinkNews::Closed));
    bench.give(Input::Storage(StorageNews::Stopped));
    bench.log.retain(|line| !line.starts_with("locate"));
    let order = [
        "camera stop",
        "journal vn.taimat.motion.end.v1",
        "journal vn.taimat.stop.v1",
        "uplink close",
        "storage stop",
        "finished",
    ];
    assert_eq!(bench.log, order);
}

#[test]
fn a_stop_ends_even_when_nobody_answers() {
    let mut bench = Bench::new();
    bench.give(Input::Stop);
    for seconds in 2..40 {
        bench.at(seconds);
    }
    assert!(bench.agent.is_finished());
    assert!(bench.has("stop"));
}
