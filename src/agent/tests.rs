//! Tests of the agent against a simulated storage and office that answer only on request.

use std::sync::Arc;

use serde_json::json;

use super::outbox_entry::{Entry, OPEN_MAX, OWED_MAX, ZONES_MAX};
use super::*;
use crate::analytics::{MotionPhase, MotionUpdate};
use crate::camera::CameraFault;
use crate::camera::clock_belief::{ClockFault, ClockReport};
use crate::evidence::manifest::Purpose;
use crate::outbox::Priority;
use crate::remote_config::known_ring::KnownRing;
use crate::remote_config::state_machine::{ConfigMachine, ProvenSettings};
use crate::storage::clock_history::ClockSet;
use crate::storage::{Cell, FragmentRef, PinId, ReadFault, Recovered, Span, TrackChangeReport};
use crate::units::{ClockQuality, Digest, WallTime};
use crate::uplink::wire::{self, Command};
use crate::uplink::{Message, ReturnReason};

struct NoFootage;

impl FootageReader for NoFootage {
    fn fragment(&self, fragment: &FragmentRef) -> Result<Vec<u8>, ReadFault> {
        Ok(vec![1; fragment.len as usize])
    }

    fn snapshot(&self, _: EntryId) -> Result<Vec<u8>, ReadFault> {
        Err(ReadFault::Gone("still".into()))
    }
}

/// One device under test, with what its card would hold.
struct Bench {
    agent: Agent,
    now: Timestamp,
    /// Entries on the card.
    card: Vec<(EntryId, Vec<u8>)>,
    newest: Option<(EntryId, Vec<u8>)>,
    boot: u32,
    /// Cells on the card, in the order of their writes.
    cells: Vec<(Cell, Vec<u8>)>,
    /// The effects of the agent, in order, as text.
    log: Vec<String>,
    /// Pins of footage queries not answered yet.
    locating: Vec<PinId>,
    hashing: Vec<u64>,
    sent: Vec<(EntryId, Message)>,
    replies: Vec<wire::Reply>,
    /// Storage rejects entries.
    card_full: bool,
    /// Slots of its journal.
    slots: u32,
}

fn settings() -> Settings {
    crate::settings::test_settings()
}

fn stamp(seconds: u64) -> Timestamp {
    Timestamp {
        mono: MonoTime(seconds * 1_000_000),
        wall: WallTime(1_790_000_000_000_000 + seconds as i64 * 1_000_000),
        quality: ClockQuality::Ntp,
    }
}

impl Bench {
    /// A device whose journal has this many slots.
    fn of_slots(slots: u32) -> Bench {
        let mut bench = Bench::new();
        bench.slots = slots;
        bench.boot_up();
        bench
    }

    fn new() -> Bench {
        let agent = Agent::new(settings(), Arc::new(NoFootage), [7; 32]);
        let mut bench = Bench {
            agent,
            now: stamp(1),
            card: Vec::new(),
            newest: None,
            boot: 0,
            cells: Vec::new(),
            log: Vec::new(),
            locating: Vec::new(),
            hashing: Vec::new(),
            sent: Vec::new(),
            replies: Vec::new(),
            card_full: false,
            slots: 512,
        };
        bench.boot_up();
        bench
    }

    /// Boots after a power cut: only the card keeps its state.
    fn boot_up(&mut self) {
        self.boot += 1;
        self.agent = Agent::new(settings(), Arc::new(NoFootage), [self.boot as u8; 32]);
        self.locating.clear();
        self.hashing.clear();
        self.sent.clear();
        let (mut entries, newest) = (self.card.clone(), self.newest.clone());
        // The last entries arrive with `Started`.
        while entries.len() > 3 {
            let rest = entries.split_off(3);
            self.give(AgentInput::Storage(StorageUpdate::Found { entries }));
            entries = rest;
        }
        let (boot, slots, clean) = (Boot(self.boot), self.slots, self.boot == 1);
        let found = Recovered {
            ring: RingId(7),
            boot,
            slots,
            entries,
            newest,
            cells: self.cells.clone(),
            clean,
            ..Recovered::default()
        };
        self.give(AgentInput::Storage(StorageUpdate::Started(Box::new(found))));
    }

    fn give(&mut self, input: AgentInput) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut out = Vec::new();
            self.agent.handle(self.now, input, &mut out);
            for effect in out {
                match effect {
                    AgentEffect::Storage(StorageRequest::EnqueueAll { entries }) => {
                        let one = |(entry_id, entry)| {
                            AgentEffect::Storage(StorageRequest::Enqueue {
                                entry_id,
                                entry,
                                snapshot: None,
                            })
                        };
                        let answers: Vec<AgentInput> = entries
                            .into_iter()
                            .map(one)
                            .filter_map(|one| self.execute(one))
                            .collect();
                        inputs.extend(answers.into_iter().rev());
                    }
                    effect => inputs.extend(self.execute(effect)),
                }
            }
        }
    }

    fn execute(&mut self, effect: AgentEffect) -> Option<AgentInput> {
        match effect {
            AgentEffect::Storage(request) => self.execute_storage(request),
            AgentEffect::Uplink(UplinkRequest::Close) => self.log_line("uplink close"),
            AgentEffect::StopCamera => self.log_line("camera stop"),
            AgentEffect::Finished => self.log_line("finished"),
            AgentEffect::Uplink(UplinkRequest::Send { entry_id, message }) => {
                self.log.push("send".into());
                self.sent.push((entry_id, message));
                None
            }
            AgentEffect::Config(ConfigRequest::Save(record, _)) => {
                self.log.push(format!(
                    "save {}",
                    if record.trial().is_some() { "a change" } else { "nothing new" }
                ));
                Some(AgentInput::Config(ConfigUpdate::Machine(action::ConfigInput::Saved(
                    record.generation,
                    Ok(()),
                ))))
            }
            AgentEffect::Apply { change, fresh, .. } => {
                self.log_line(&format!("apply {:?} fresh {fresh}", change.section_names()))
            }
            AgentEffect::Uplink(UplinkRequest::Reply(reply)) => {
                self.replies.push(*reply);
                None
            }
            AgentEffect::Hash(request) => {
                self.hashing.push(request.job);
                None
            }
            AgentEffect::Uplink(UplinkRequest::Cancel { entry_id }) => {
                self.log_line(&format!("cancel {}", entry_id.0))
            }
            AgentEffect::Uplink(UplinkRequest::Resend { entry_id }) => {
                self.log_line(&format!("again {}", entry_id.0))
            }
            AgentEffect::Snapshot { req_id } => self.log_line(&format!("snapshot {req_id}")),
            AgentEffect::LogTail { req_id, lines, .. } => {
                let lines = (0..lines.min(2)).map(|n| format!("line {n}")).collect();
                Some(AgentInput::LogTail { req_id, lines })
            }
            _ => None,
        }
    }

    fn execute_storage(&mut self, request: StorageRequest) -> Option<AgentInput> {
        match request {
            StorageRequest::Enqueue { entry_id, entry, .. } => {
                self.log.push(format!("journal {}", kind_of(&entry)));
                if self.card_full || self.card.len() >= self.slots as usize {
                    let reason = "journal full".into();
                    return Some(AgentInput::Storage(StorageUpdate::NotEnqueued {
                        entry_id,
                        reason,
                    }));
                }
                self.card.push((entry_id, entry.clone()));
                self.newest = Some((entry_id, entry));
                Some(AgentInput::Storage(StorageUpdate::Enqueued { entry_id }))
            }
            StorageRequest::Release { entry_ids } => {
                self.card.retain(|(kept, _)| !entry_ids.contains(kept));
                None
            }
            StorageRequest::Fetch { entry_id } => {
                self.log.push("fetch".into());
                let entry = self
                    .card
                    .iter()
                    .find(|(kept, _)| *kept == entry_id)
                    .map(|(_, entry)| entry.clone());
                let outcome = entry.ok_or_else(|| "damaged".to_owned());
                Some(AgentInput::Storage(StorageUpdate::Fetched { entry_id, outcome }))
            }
            StorageRequest::Locate { pin, query, .. } => {
                self.log.push(format!("locate {query:?}"));
                self.locating.push(pin);
                None
            }
            StorageRequest::PinOpen { .. } => self.log_line("pin"),
            StorageRequest::NoteGap(gap) => {
                self.log_line(&format!("note gap {}", gap.reason.as_str()))
            }
            StorageRequest::SaveCell { cell, bytes } => {
                self.cells.push((cell, bytes));
                None
            }
            StorageRequest::Flush => self.log_line("storage flush"),
            StorageRequest::Stop => self.log_line("storage stop"),
            StorageRequest::Resize { budget, pin_quota, .. } => {
                self.log_line(&format!("resize {budget} {pin_quota}"))
            }
            _ => None,
        }
    }

    fn log_line(&mut self, line: &str) -> Option<AgentInput> {
        self.log.push(line.to_owned());
        None
    }

    fn at(&mut self, seconds: u64) {
        self.now = stamp(seconds);
        self.give(AgentInput::Tick);
    }

    fn motion(&mut self, phase: MotionPhase) {
        self.moves(1, phase);
    }

    fn connect(&mut self) {
        self.give(AgentInput::Uplink(UplinkUpdate::Up { conn: 1 }));
    }

    /// Answers every footage query and every hash request.
    fn find_footage(&mut self, more: bool) {
        for pin in std::mem::take(&mut self.locating) {
            let span = Some(span(more));
            self.give(AgentInput::Storage(StorageUpdate::Located { pin, span }));
        }
        for job in std::mem::take(&mut self.hashing) {
            self.give(AgentInput::Hashed(Hashed {
                job,
                outcome: Ok(Digest::of(b"clip")),
                unreadable: Vec::new(),
            }));
        }
    }

    fn receipt_all(&mut self) {
        while let Some((entry_id, _)) = self.sent.pop() {
            self.give(AgentInput::Uplink(UplinkUpdate::Receipted { entry_id }));
        }
    }

    fn command(&mut self, name: &str, req_id: &str, args: Value) {
        let Value::Object(args) = args else { panic!("arguments are an object") };
        let command = Command { name: name.into(), req_id: req_id.into(), expires: None, args };
        self.give(AgentInput::Uplink(UplinkUpdate::Command(Box::new(command))));
    }

    /// All events on the card, as (sequence number, kind).
    fn events(&self) -> Vec<(u64, String)> {
        let event = |bytes: &Vec<u8>| match Entry::decode(bytes).ok()?.body {
            Body::Event { payload, .. } => serde_json::from_str::<wire::Event>(&payload).ok(),
            Body::File(_) => None,
        };
        self.card
            .iter()
            .filter_map(|(_, bytes)| event(bytes))
            .map(|event| (event.seq, event.kind))
            .collect()
    }

    /// Data of all events of a kind on the card.
    fn data(&self, kind: &str) -> Vec<Value> {
        let event = |(_, bytes): &(EntryId, Vec<u8>)| match Entry::decode(bytes).ok()?.body {
            Body::Event { payload, .. } => serde_json::from_str::<wire::Event>(&payload).ok(),
            Body::File(_) => None,
        };
        let named = format!("vn.taimat.{kind}.v1");
        self.card
            .iter()
            .filter_map(event)
            .filter(|event| event.kind == named)
            .map(|event| event.data)
            .collect()
    }

    fn gap(&mut self) {
        let gap = Gap { from: stamp(2), to: stamp(3), reason: GapReason::EvictedPinned, bytes: 1 };
        self.give(AgentInput::Storage(StorageUpdate::Gap(gap)));
    }

    fn moves(&mut self, motion: u64, phase: MotionPhase) {
        let motion = MotionUpdate::example(motion, phase, self.now);
        self.give(AgentInput::Analytics(AnalyticsUpdate::Motion(motion)));
    }

    fn has(&self, kind: &str) -> bool {
        self.events().iter().any(|(_, have)| *have == format!("vn.taimat.{kind}.v1"))
    }
}

fn kind_of(entry: &[u8]) -> String {
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
    Span {
        fragments: vec![fragment],
        tracks: Vec::new(),
        gaps: Vec::new(),
        damaged: Vec::new(),
        more,
    }
}

#[test]
fn an_event_is_pinned_then_journalled_then_sent() {
    let mut bench = Bench::new();
    bench.connect();
    bench.log.clear();
    bench.motion(MotionPhase::Start);
    assert_eq!(bench.log, ["pin", "journal vn.taimat.motion.start.v1", "send"]);
}

#[test]
fn a_receipt_releases_an_ended_event_and_its_clip() {
    let mut bench = Bench::new();
    bench.connect();
    bench.at(20);
    bench.motion(MotionPhase::Start);
    bench.at(24);
    bench.motion(MotionPhase::End);
    assert!(
        bench
            .log
            .iter()
            .any(|line| line.contains("from: MonoTime(15000000), to: MonoTime(29000000)")),
        "{:?}",
        bench.log
    );
    bench.find_footage(false);
    let file = bench.sent.iter().find_map(|(_, message)| match message {
        Message::File { manifest, .. } => Some(manifest.clone()),
        Message::Event { .. } => None,
    });
    let file = file.expect("no clip was sent");
    assert_eq!((file.purpose, file.records), (Purpose::Clip, (4, 4)));
    bench.receipt_all();
    assert!(bench.card.is_empty(), "{:?} is still on the card", bench.events());
}

#[test]
fn an_event_cut_by_a_power_cut_ends_after_the_restart() {
    let mut bench = Bench::new();
    bench.at(20);
    bench.motion(MotionPhase::Start);
    bench.boot_up();
    assert!(bench.has("motion.end"));
    assert!(
        bench.log.iter().any(|line| line.contains("boot: Boot(1), from: MonoTime(15000000)")),
        "{:?}",
        bench.log
    );
    bench.boot_up();
    assert!(!bench.locating.is_empty(), "a second power cut lost the pending clip");
    let numbers: Vec<u64> = bench.events().iter().map(|(seq, _)| *seq).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
}

#[test]
fn numbers_continue_after_everything_was_receipted() {
    let mut bench = Bench::new();
    bench.connect();
    bench.receipt_all();
    assert!(bench.card.is_empty());
    bench.boot_up();
    assert_eq!(bench.events()[0].0, 2, "the number of the first boot's event was used twice");
}

#[test]
fn a_refused_journal_write_is_retried_without_a_seq_gap() {
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
fn a_stalled_card_bounds_the_drafts_and_reports_the_rest() {
    let mut bench = Bench::new();
    bench.card_full = true;
    for _ in 0..spool::WAITING_MAX + 50 {
        bench.gap();
    }
    bench.card_full = false;
    for seconds in 7..9 {
        bench.at(seconds);
    }
    let events = bench.events();
    let numbers: Vec<u64> = events.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    // The rejected draft waits with the others.
    assert_eq!(
        bench.data("shed"),
        [json!({"reason": "storage_stalled", "events": 50, "files": 0})]
    );
}

#[test]
fn a_clip_without_footage_is_reported_and_not_pending() {
    let mut bench = Bench::new();
    bench.motion(MotionPhase::Start);
    bench.motion(MotionPhase::End);
    let pin = bench.locating.pop().unwrap();
    bench.give(AgentInput::Storage(StorageUpdate::Located { pin, span: None }));
    assert!(bench.has("file.lost"));
    bench.boot_up();
    assert!(bench.locating.is_empty(), "the lost clip is located again");
}

/// A span of three records, from second 5 on.
fn long_span() -> Span {
    let first = span(false).fragments[0].clone();
    let fragment = |n: u64| FragmentRef {
        seq: 4 + n,
        start: stamp(5 + 2 * n),
        media: n * 2_000_000,
        ..first.clone()
    };
    Span { fragments: (0..3).map(fragment).collect(), ..span(false) }
}

impl Bench {
    /// Manifests of the files on the card.
    fn files(&self) -> Vec<crate::evidence::manifest::Manifest> {
        let file = |bytes: &Vec<u8>| match Entry::decode(bytes).ok()?.body {
            Body::File(manifest) => Some(*manifest),
            Body::Event { .. } => None,
        };
        self.card.iter().filter_map(|(_, bytes)| file(bytes)).collect()
    }

    fn find(&mut self, span: Span) {
        let pin = self.locating.pop().unwrap();
        self.give(AgentInput::Storage(StorageUpdate::Located { pin, span: Some(span) }));
    }

    fn hash(&mut self, content: &[u8], bad: &[u64]) {
        let job = self.hashing.pop().unwrap();
        let unreadable = bad.iter().map(|seq| (*seq, GapReason::Damaged)).collect();
        let outcome = if bad.is_empty() { Ok(Digest::of(content)) } else { Err("damaged".into()) };
        self.give(AgentInput::Hashed(Hashed { job, outcome, unreadable }));
    }

    /// A clip of three records that is being sent.
    fn clip_in_flight(&mut self) -> EntryId {
        self.connect();
        self.motion(MotionPhase::Start);
        self.motion(MotionPhase::End);
        self.find(long_span());
        self.hash(b"whole", &[]);
        self.sent.iter().find(|(_, message)| matches!(message, Message::File { .. })).unwrap().0
    }

    fn spoil(&mut self, entry_id: EntryId) {
        let why = ReturnReason::Unreadable("record 5: damaged".into());
        self.give(AgentInput::Uplink(UplinkUpdate::Returned { entry_id, why }));
    }
}

#[test]
fn damage_after_hashing_costs_the_clip_only_that_record() {
    let mut bench = Bench::new();
    let entry_id = bench.clip_in_flight();
    bench.spoil(entry_id);
    assert!(!bench.has("file.lost") && bench.locating.len() == 1, "the rest is lost");
    assert_eq!(bench.files().len(), 1, "the entry was released before the rest is stored");
    bench.find(long_span());
    bench.hash(b"", &[5]);
    bench.hash(b"rest", &[]);
    let files = bench.files();
    assert_eq!(files.len(), 1);
    assert_eq!(
        (files[0].sha256, files[0].missing.clone(), files[0].records),
        (Digest::of(b"rest"), vec![(5, 5)], (4, 6))
    );
    assert_eq!(files[0].gaps[0].2, "damaged");
    assert!(
        matches!(&bench.sent.last().unwrap().1, Message::File { manifest, .. } if manifest.sha256 == Digest::of(b"rest"))
    );
    assert!(!bench.has("file.lost"));
}

#[test]
fn a_clip_whose_records_are_all_damaged_reports_it() {
    let mut bench = Bench::new();
    let entry_id = bench.clip_in_flight();
    bench.spoil(entry_id);
    bench.find(long_span());
    bench.hash(b"", &[4, 5, 6]);
    let lost = bench.data("file.lost");
    let reason = lost[0]["reason"].as_str().unwrap();
    assert!(
        reason.contains("recorded and damaged since") && reason.contains(&stamp(5).wall.rfc3339()),
        "{reason}"
    );
    assert!(bench.files().is_empty());
}

#[test]
fn a_clip_that_repeatedly_fails_to_read_is_reported_lost() {
    let mut bench = Bench::new();
    let mut entry_id = bench.clip_in_flight();
    for _ in 0..10 {
        bench.spoil(entry_id);
        if bench.locating.is_empty() {
            break;
        }
        bench.find(long_span());
        bench.hash(b"whole", &[]);
        assert!(bench.files().len() <= 1, "the same file is written again");
        if bench.has("file.lost") {
            break;
        }
        entry_id = bench.sent.last().unwrap().0;
    }
    assert!(bench.has("file.lost") && bench.files().is_empty());
}

#[test]
fn a_power_cut_while_a_clip_is_rebuilt_loses_nothing() {
    let mut bench = Bench::new();
    let entry_id = bench.clip_in_flight();
    bench.spoil(entry_id);
    bench.find(long_span());
    bench.boot_up();
    assert_eq!((bench.files().len(), bench.locating.len()), (1, 1), "located twice, or forgotten");
}

#[test]
fn a_clip_get_of_lost_footage_reports_the_reason() {
    for (reason, expected) in [
        (GapReason::Damaged, "recorded and damaged since"),
        (GapReason::EvictedPinned, "evicted since"),
        (GapReason::CameraDown, "never recorded (camera_down)"),
    ] {
        let mut bench = Bench::new();
        bench.command(
            "clip-get",
            "r1",
            json!({"from": "1970-01-01T00:00:02Z", "to": "1970-01-01T00:00:09Z"}),
        );
        let gap = Gap { from: stamp(3), to: stamp(8), reason, bytes: 0 };
        bench.find(Span { fragments: Vec::new(), gaps: vec![gap], ..span(false) });
        let reply = bench.replies.last().unwrap();
        assert_eq!(reply.status, "error");
        assert!(
            reply.detail.contains(expected) && reply.detail.contains(&stamp(3).wall.rfc3339()),
            "{reply:?}"
        );
    }
}

#[test]
fn a_clip_across_a_change_of_parameters_has_parts() {
    let mut bench = Bench::new();
    bench.at(20);
    bench.motion(MotionPhase::Start);
    bench.at(24);
    bench.motion(MotionPhase::End);
    bench.find_footage(true);
    assert_eq!(bench.locating.len(), 1, "the rest of the clip was not located");
    assert!(bench.log.iter().any(|line| line.contains("after: 4")), "{:?}", bench.log);
}

#[test]
fn a_repeated_clip_get_gets_the_same_answer() {
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
fn a_command_with_a_bad_argument_names_the_argument() {
    let mut bench = Bench::new();
    bench.at(100);
    bench.command("clip-get", "a", json!({"from": "yesterday", "to": "2026-01-01T00:00:00Z"}));
    bench.command(
        "clip-get",
        "b",
        json!({"from": stamp(9).wall.rfc3339(), "to": stamp(5).wall.rfc3339()}),
    );
    bench.command(
        "clip-get",
        "c",
        json!({"from": "2026-01-01T00:00:00Z", "to": stamp(5).wall.rfc3339()}),
    );
    bench.command("ping", "e", json!({"foo": "bar", "sig": 1, "within": 3}));
    assert_eq!(bench.replies.pop().unwrap().detail, "no argument \"foo\": ping takes no arguments");
    bench.command("unlock", "f", json!({"lock": 7}));
    assert_eq!(bench.replies.pop().unwrap().detail, "no argument \"lock\": unlock takes id");
    bench.command("reboot", "d", json!({}));
    let details: Vec<_> = bench.replies.iter().map(|reply| reply.detail.clone()).collect();
    for (detail, word) in details.iter().zip(["from:", "before", "max_requested", "reboot"]) {
        assert!(detail.contains(word), "{detail:?} does not name {word:?}");
    }
    assert_eq!(details.len(), 4);
}

#[test]
fn motion_without_its_sub_stream_names_the_next_step() {
    let mut bench = Bench::new();
    let unavailable = || {
        AgentInput::Analytics(AnalyticsUpdate::Unavailable {
            since: stamp(2),
            reason: "the camera sends no pictures".into(),
        })
    };
    bench.give(unavailable());
    bench.agent.gauges.camera_changed(true);
    bench.give(AgentInput::Camera(CameraUpdate::Down {
        role: StreamRole::Sub,
        fault: CameraFault::Unauthorized,
        detail: "401".into(),
        since: stamp(2),
    }));
    bench.give(unavailable());
    let reasons = bench.data("analytics.unavailable");
    assert_eq!(reasons[0]["reason"], "the camera sends no pictures");
    let reason = reasons[1]["reason"].as_str().unwrap();
    assert!(reason.contains("(unauthorized)") && reason.contains("camera.sub_url"), "{reason}");
    assert!(reason.ends_with("recording continues"), "{reason}");
}

#[test]
fn a_camera_outage_becomes_a_gap_record_and_two_events() {
    let mut bench = Bench::new();
    let up = |at| {
        AgentInput::Camera(CameraUpdate::Up {
            role: StreamRole::Main,
            tracks: "h264 1280x720".into(),
            at,
        })
    };
    bench.give(up(stamp(2)));
    let (fault, detail) = (CameraFault::Stalled, "no frame for 15 s".to_owned());
    bench.give(AgentInput::Camera(CameraUpdate::Down {
        role: StreamRole::Main,
        fault,
        detail,
        since: stamp(10),
    }));
    bench.give(up(stamp(40)));
    assert!(bench.has("camera.down") && bench.has("camera.up"));
    let report = ClockReport { fault: Some(ClockFault::Fast), rate: 1.25 };
    bench.give(AgentInput::Camera(CameraUpdate::Clock { role: StreamRole::Main, report }));
    assert!(bench.has("camera.clock"));
    assert_eq!(bench.log.iter().filter(|line| *line == "note gap camera_down").count(), 1);
}

#[test]
fn a_flood_of_gaps_is_few_events_that_cover_all_of_it() {
    for reason in [GapReason::FellBehind, GapReason::NoKeyFrame, GapReason::ParameterChanges] {
        let mut bench = Bench::new();
        let begin = bench.now;
        for n in 0..300 {
            bench.now = begin.after(n * 50_000);
            let (from, to) = (bench.now, bench.now.after(20_000));
            bench.give(AgentInput::Storage(StorageUpdate::Gap(Gap { from, to, reason, bytes: 1 })));
        }
        assert_eq!(bench.data("gap").len(), 4, "the first ones are events at once");
        assert!(bench.agent.deadline() <= begin.after(60_000_000).mono);
        bench.now = begin.after(60_000_000);
        bench.give(AgentInput::Tick);
        let gaps = bench.data("gap");
        assert_eq!(gaps.len(), 5, "{gaps:?}");
        let span = &gaps[4];
        assert_eq!((&span["gaps"], &span["lost_ms"]), (&json!(296), &json!(5920)));
        assert_eq!(span["bytes"], 296);
        let (from, to) = (begin.after(200_000), begin.after(299 * 50_000 + 20_000));
        assert_eq!(span["from"], json!(from.wall.rfc3339()));
        assert_eq!(span["to"], json!(to.wall.rfc3339()));
    }
}

#[test]
fn changing_parameters_are_reported_as_one_event() {
    let mut bench = Bench::new();
    let report = TrackChangeReport { is_stable: false, changes: 2, left_out: 1 };
    bench.give(AgentInput::Storage(StorageUpdate::TrackChanges(report)));
    let reports = bench.data("camera.parameters");
    assert_eq!((reports.len(), &reports[0]["state"]), (1, &serde_json::json!("unstable")));
    assert!(bench.agent.gauges.unstable, "health shows it");
    let report = TrackChangeReport { is_stable: true, changes: 60, left_out: 540 };
    bench.give(AgentInput::Storage(StorageUpdate::TrackChanges(report)));
    assert!(!bench.agent.gauges.unstable);
}

#[test]
fn joined_gaps_are_reported_before_a_stop_ends() {
    let mut bench = Bench::new();
    for second in 2..12 {
        let (from, to) = (stamp(second), stamp(second + 1));
        let gap = Gap { from, to, reason: GapReason::FellBehind, bytes: 1 };
        bench.give(AgentInput::Storage(StorageUpdate::Gap(gap)));
    }
    bench.give(AgentInput::Stop);
    bench.give(AgentInput::CameraStopped);
    assert_eq!(bench.data("gap").last().unwrap()["gaps"], 6);
}

#[test]
fn an_accepted_login_is_remembered_over_a_power_cut() {
    let mut bench = Bench::new();
    let mut camera = settings().camera;
    let password = crate::units::Secret::new("secret");
    camera.login = Some(crate::settings::Login { user: "admin".into(), password });
    let login = LoginMark::of(&camera).unwrap();
    bench.boot_up();
    assert_eq!(bench.agent.login, None);
    for _ in 0..3 {
        bench.give(AgentInput::Camera(CameraUpdate::LoginAccepted { login }));
        bench.boot_up();
        assert_eq!(bench.agent.login, Some(login));
    }
    assert_eq!(bench.cells, [(Cell::Login, login.encode())], "written once");
}

#[test]
fn a_shutdown_follows_the_data_and_storage_is_last() {
    let mut bench = Bench::new();
    bench.motion(MotionPhase::Start);
    bench.log.clear();
    bench.give(AgentInput::Stop);
    bench.give(AgentInput::CameraStopped);
    bench.give(AgentInput::Uplink(UplinkUpdate::Closed));
    bench.give(AgentInput::Storage(StorageUpdate::Stopped));
    bench.log.retain(|line| !line.starts_with("locate"));
    let order = [
        "camera stop",
        "storage flush",
        "journal vn.taimat.motion.end.v1",
        "journal vn.taimat.stop.v1",
        "uplink close",
        "storage stop",
        "finished",
    ];
    assert_eq!(bench.log, order);
}

#[test]
fn a_shutdown_ends_even_when_no_peer_answers() {
    let mut bench = Bench::new();
    bench.give(AgentInput::Stop);
    for seconds in 2..40 {
        bench.at(seconds);
    }
    assert!(bench.agent.is_finished());
    assert!(bench.has("stop"));
}

/// All numbers in the `seq` ranges of `shed` events.
fn named(shed: &[Value]) -> Vec<u64> {
    let ranges = shed.iter().filter_map(|data| data["seq"].as_array()).flatten();
    let ends = ranges.map(|range| (range[0].as_u64().unwrap(), range[1].as_u64().unwrap()));
    ends.flat_map(|(first, last)| first..=last).collect()
}

#[test]
fn a_journal_smaller_than_configured_sheds_and_never_stalls() {
    let mut bench = Bench::of_slots(40);
    for _ in 0..200 {
        bench.gap();
    }
    assert!(bench.agent.spool.is_idle(), "an entry waits for a slot that is never freed");
    let kept: Vec<u64> = bench.events().iter().map(|(seq, _)| *seq).collect();
    let shed = named(&bench.data("shed"));
    let highest = *kept.iter().max().unwrap();
    let mut all: Vec<u64> = kept.iter().chain(&shed).copied().collect();
    all.sort_unstable();
    assert_eq!(all, (1..=highest).collect::<Vec<_>>(), "kept {kept:?}, shed {shed:?}");
    assert!(highest < 300, "shed reports cause further shedding: {highest} events for 200 gaps");
}

#[test]
fn losses_while_the_spool_is_full_are_reported_later() {
    let mut bench = Bench::of_slots(40);
    for _ in 0..22 {
        bench.gap();
    }
    bench.card_full = true;
    for _ in 0..spool::WAITING_MAX {
        bench.gap();
    }
    bench.card_full = false;
    for seconds in 7..400 {
        bench.at(seconds);
    }
    let kept = bench.events().into_iter().map(|(seq, _)| seq);
    let mut all: Vec<u64> = kept.chain(named(&bench.data("shed"))).collect();
    all.sort_unstable();
    assert_eq!(all, (1..=*all.last().unwrap()).collect::<Vec<_>>());
}

#[test]
fn an_unopened_event_is_counted_once() {
    let mut bench = Bench::new();
    for motion in 1..=OPEN_MAX as u64 + 3 {
        bench.moves(motion, MotionPhase::Start);
    }
    bench.moves(1, MotionPhase::End);
    bench.moves(99, MotionPhase::Start);
    let unopened: Vec<_> =
        bench.data("motion.start").iter().filter_map(|data| data["unopened"].as_u64()).collect();
    assert_eq!(unopened, [3]);
    assert!(!bench.has("shed"), "{:?}", bench.data("shed"));
    bench.moves(100, MotionPhase::Start);
    bench.give(AgentInput::Stop);
    bench.moves(101, MotionPhase::Start);
    bench.give(AgentInput::CameraStopped);
    assert_eq!(bench.data("stop"), [json!({"unopened": 2})]);
}

#[test]
fn a_snapshot_without_room_is_reported_with_its_event() {
    let mut bench = Bench::new();
    bench.motion(MotionPhase::Start);
    bench.card_full = true;
    for _ in 0..spool::WAITING_MAX {
        bench.gap();
    }
    let jpeg = vec![1; 10];
    bench.give(AgentInput::Analytics(AnalyticsUpdate::Snapshot {
        event_no: 1,
        at: stamp(2),
        jpeg,
    }));
    bench.card_full = false;
    for seconds in 7..9 {
        bench.at(seconds);
    }
    let event = bench.data("motion.start")[0]["event"].clone();
    let expected = json!({"reason": "storage_stalled", "events": 0, "files": 1, "bytes": 10, "file_events": [event]});
    assert_eq!(bench.data("shed"), [expected]);
}

#[test]
fn an_event_larger_than_a_slot_is_sent_without_its_data() {
    let mut bench = Bench::new();
    let data = json!({"event": "e1", "detail": "x".repeat(5_000)});
    bench.agent.event(stamp(2), kind::STORAGE, None, data);
    bench.gap();
    assert_eq!(bench.data("storage.fault")[0]["event"], "e1");
    assert!(bench.data("storage.fault")[0]["too_large"].as_u64().unwrap() > 5_000);
    assert!(bench.has("gap") && bench.agent.spool.is_idle());
}

#[test]
fn an_unreadable_newest_entry_does_not_reuse_numbers() {
    let mut bench = Bench::new();
    for _ in 0..5 {
        bench.gap();
    }
    let before = bench.events().last().unwrap().0;
    let (last, bytes) = bench.card.last_mut().unwrap();
    *bytes = b"{\"of\":\"another version\"}".to_vec();
    bench.newest = Some((*last, bytes.clone()));
    bench.boot_up();
    let numbers: Vec<u64> = bench.events().iter().map(|(seq, _)| *seq).collect();
    assert!(
        numbers.iter().all(|seq| numbers.iter().filter(|other| *other == seq).count() == 1),
        "{numbers:?}"
    );
    assert!(!numbers.contains(&before) && numbers.contains(&(before + 1)), "{numbers:?}");
    let expected = json!({"reason": "unreadable", "events": 0, "files": 0, "seq": [[before, before]], "entries": 1});
    assert_eq!(bench.data("shed"), [expected]);
}

#[test]
fn unreadable_entries_are_reported_with_their_possible_numbers() {
    let mut bench = Bench::new();
    for _ in 0..9 {
        bench.gap();
    }
    for at in [2, 3, 6] {
        bench.card[at].1 = b"?".to_vec();
    }
    bench.boot_up();
    let shed = bench.data("shed");
    assert_eq!(
        (shed.len(), shed[0]["entries"].as_u64(), named(&shed)),
        (1, Some(3), vec![3, 4, 7])
    );
}

#[test]
fn numbers_continue_when_no_entry_is_readable() {
    let mut bench = Bench::new();
    bench.connect();
    for _ in 0..9 {
        bench.gap();
    }
    bench.receipt_all();
    assert!(bench.card.is_empty());
    bench.newest.as_mut().unwrap().1 = b"?".to_vec();
    bench.boot_up();
    assert_eq!(bench.events()[0].0, 11);
}

#[test]
fn every_part_of_a_split_clip_becomes_pending() {
    let mut bench = Bench::new();
    for motion in 1..=OWED_MAX as u64 {
        bench.moves(motion, MotionPhase::Start);
        bench.moves(motion, MotionPhase::End);
    }
    assert_eq!(bench.locating.len(), OWED_MAX);
    bench.find_footage(true);
    assert_eq!(bench.locating.len(), OWED_MAX, "the rest of a clip was forgotten");
    bench.boot_up();
    assert!(bench.locating.len() >= OWED_MAX, "the rest of a clip did not survive a power cut");
}

#[test]
fn a_clip_get_is_accepted_only_when_its_file_is_in_the_journal() {
    let mut bench = Bench::new();
    bench.at(100);
    bench.command(
        "clip-get",
        "r1",
        json!({"from": stamp(5).wall.rfc3339(), "to": stamp(9).wall.rfc3339()}),
    );
    bench.card_full = true;
    bench.find_footage(false);
    assert!(bench.replies.is_empty(), "{:?}", bench.replies);
    bench.card_full = false;
    bench.at(110);
    assert_eq!(
        (bench.replies[0].status.as_str(), &bench.replies[0].data["last"]),
        ("accepted", &json!(true))
    );
}

#[test]
fn every_message_names_the_ring_its_numbers_count_in() {
    let mut bench = Bench::new();
    bench.gap();
    let event = |bytes: &[u8]| match Entry::decode(bytes).unwrap().body {
        Body::Event { payload, .. } => serde_json::from_str::<wire::Event>(&payload).unwrap(),
        Body::File(manifest) => panic!("{manifest:?}"),
    };
    assert!(bench.card.iter().all(|(_, bytes)| event(bytes).ring == RingId(7)));
    assert_eq!(
        (bench.agent.birth(stamp(1)).ring, bench.agent.health(stamp(1)).ring),
        (RingId(7), RingId(7))
    );
    // An entry of another ring does not set the next number: a new ring counts from 1.
    for (_, bytes) in bench.card.iter_mut().chain(&mut bench.newest) {
        let mut entry = Entry::decode(bytes).unwrap();
        entry.after.ring = RingId(6);
        *bytes = entry.encode();
    }
    bench.card.clear();
    bench.boot_up();
    assert_eq!(bench.events()[0].0, 1);
}

#[test]
fn numbers_given_in_memory_count_in_a_ring_of_their_own() {
    let mut bench = Bench::new();
    bench.gap();
    let before = bench.events().last().unwrap().0;
    bench.give(AgentInput::Storage(StorageUpdate::CardLost {
        journal: true,
        detail: "read-only".into(),
    }));
    bench.gap();
    let event = |bytes: &[u8]| match Entry::decode(bytes).unwrap().body {
        Body::Event { payload, .. } => serde_json::from_str::<wire::Event>(&payload).unwrap(),
        Body::File(manifest) => panic!("{manifest:?}"),
    };
    let events: Vec<wire::Event> = bench.card.iter().map(|(_, bytes)| event(bytes)).collect();
    let (card, memory): (Vec<_>, Vec<_>) = events.iter().partition(|event| event.ring == RingId(7));
    assert_eq!(card.last().unwrap().seq, before, "the next boot continues here");
    let numbers: Vec<u64> = memory.iter().map(|event| event.seq).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    assert!(numbers.len() >= 2 && memory.iter().all(|event| event.ring == memory[0].ring));
    assert_eq!(bench.agent.birth(stamp(1)).ring, memory[0].ring);
}

#[cfg(feature = "sim")]
#[test]
fn a_card_keeps_its_ring_id_when_settings_change() {
    use crate::sim::faulty_disk::FaultyDisk;
    use crate::storage::engine::Engine;
    let open = |disk: &FaultyDisk, slots: u32| {
        let settings =
            crate::settings::StorageSettings { journal_slots: slots, ..settings().storage };
        let (_, update) = Engine::open(Arc::new(disk.clone()), &settings, stamp(1)).unwrap();
        let Some(StorageUpdate::Started(found)) = update.into_iter().next() else {
            panic!("no start")
        };
        (found.ring, found.boot, found.slots)
    };
    let disk = FaultyDisk::new(None);
    let first = open(&disk, 64);
    assert_ne!(first.0, RingId::default());
    assert_eq!(open(&disk, 2048), (first.0, Boot(2), 60));
}

#[test]
fn the_zones_of_an_event_are_bounded() {
    let mut bench = Bench::new();
    let zones = vec!["z".repeat(32); ZONES_MAX + 1];
    let motion = MotionUpdate { zones, ..MotionUpdate::example(1, MotionPhase::Start, stamp(2)) };
    bench.give(AgentInput::Analytics(AnalyticsUpdate::Motion(motion)));
    assert_eq!(bench.data("motion.start")[0]["zone_count"], ZONES_MAX + 1);
}

#[test]
fn each_lock_command_is_answered_and_leaves_an_event() {
    let mut bench = Bench::new();
    let lock = Lock {
        id: "r1".into(),
        from: stamp(5).wall,
        to: stamp(9).wall,
        first: 3,
        last: 8,
        reason: "case 7".into(),
        missing: Vec::new(),
    };
    let args = json!({"from": lock.from.rfc3339(), "to": lock.to.rfc3339(), "reason": "case 7"});
    bench.command("lock", "r1", args);
    assert!(bench.replies.is_empty(), "the answer waits for the journal");
    bench.give(AgentInput::Storage(StorageUpdate::Locked {
        id: "r1".into(),
        outcome: Ok(lock.clone()),
    }));
    bench.command("locks", "r2", json!({}));
    bench.command("unlock", "r3", json!({"id": "r1"}));
    bench.give(AgentInput::Storage(StorageUpdate::Unlocked { id: "r1".into(), outcome: Ok(lock) }));
    bench.command("locks", "r4", json!({}));
    let data: Vec<_> =
        bench.replies.iter().map(|reply| (reply.status.as_str(), reply.data.clone())).collect();
    assert!(data.iter().all(|(status, _)| *status == "ok"), "{data:?}");
    assert_eq!(
        (data[0].1["records"].clone(), data[1].1[0]["id"].clone()),
        (json!([3, 8]), json!("r1"))
    );
    assert_eq!(data[3].1, json!([]));
    let trail: Vec<_> = bench
        .data("lock")
        .iter()
        .map(|data| (data["action"].clone(), data["req_id"].clone()))
        .collect();
    assert_eq!(trail, [(json!("lock"), json!("r1")), (json!("unlock"), json!("r3"))]);
}

#[test]
fn a_rejected_lock_is_answered_and_leaves_no_event() {
    let mut bench = Bench::new();
    bench.command(
        "lock",
        "r1",
        json!({"from": stamp(5).wall.rfc3339(), "to": stamp(9).wall.rfc3339()}),
    );
    assert!(bench.replies[0].detail.contains("reason is missing"), "{:?}", bench.replies);
    // `office cmd unlock id=7` sends a number.
    bench.command("unlock", "r2", json!({"id": 7}));
    bench.give(AgentInput::Storage(StorageUpdate::Unlocked {
        id: "7".into(),
        outcome: Err("there is no lock \"7\"".into()),
    }));
    assert_eq!(
        (bench.replies[1].status.as_str(), bench.replies[1].detail.as_str()),
        ("error", "there is no lock \"7\"")
    );
    assert!(!bench.has("lock"));
}

impl Bench {
    /// A lock of evidence whose reason is free text. Gives the entry of its event.
    fn lock_because(&mut self, reason: &str) -> EntryId {
        let (from, to) = (stamp(5).wall, stamp(9).wall);
        let lock = Lock {
            id: "r1".into(),
            from,
            to,
            first: 3,
            last: 8,
            reason: reason.into(),
            missing: Vec::new(),
        };
        self.command(
            "lock",
            "r1",
            json!({"from": from.rfc3339(), "to": to.rfc3339(), "reason": reason}),
        );
        self.give(AgentInput::Storage(StorageUpdate::Locked {
            id: "r1".into(),
            outcome: Ok(lock),
        }));
        assert!(self.has("lock"));
        self.card.last().expect("the event is on the card").0
    }
}

#[test]
fn free_text_in_an_event_never_sets_its_priority() {
    for reason in ["motion.update", "vn.taimat.access.v1", "vn.taimat.motion.update.v1"] {
        let mut bench = Bench::new();
        let lock = bench.lock_because(reason);
        bench.boot_up();
        assert_eq!(
            bench.agent.spool.entry_mut(lock).map(|held| held.meta().kind),
            Some(Priority::Event),
            "{reason}"
        );
        bench.at(7 * 3600);
        assert!(bench.has("lock"), "{reason}: an event is never too old");
    }
}

#[test]
fn free_text_in_an_event_never_makes_it_a_report() {
    let mut bench = Bench::new();
    let lock = bench.lock_because("vn.taimat.delivery.refused.v1");
    bench.give(AgentInput::Uplink(UplinkUpdate::Returned {
        entry_id: lock,
        why: ReturnReason::Refused("no".into()),
    }));
    assert!(bench.has("delivery.refused"), "the refusal of a lock is reported");
}

#[test]
fn a_boot_keeps_the_priority_of_every_entry() {
    let mut bench = Bench::new();
    bench.motion(MotionPhase::Start);
    bench.motion(MotionPhase::Update);
    bench.command("no-such-command", "r9", json!({}));
    bench.agent.unreported.event(LossReason::StorageStalled);
    bench.at(2);
    let of = |bench: &Bench| -> Vec<(EntryId, Priority)> {
        bench.agent.spool.stored().map(|(entry_id, held)| (entry_id, held.meta().kind)).collect()
    };
    let before = of(&bench);
    assert!(before.iter().any(|(_, priority)| *priority == Priority::Update), "{before:?}");
    bench.boot_up();
    assert_eq!(of(&bench)[..before.len()], before);
}

#[test]
fn event_get_resends_stored_numbers_and_names_the_others() {
    let mut bench = Bench::new();
    bench.connect();
    bench.motion(MotionPhase::Start);
    bench.receipt_all();
    bench.motion(MotionPhase::Update);
    bench.log.clear();
    let highest = bench.agent.spool.next_seq() - 1;
    let ring = RingId(7).to_string();
    bench.command("event-get", "r1", json!({"ring": ring, "seq": [[1, highest + 5]]}));
    let reply = bench.replies.pop().unwrap();
    assert_eq!((reply.status.as_str(), &reply.data["found"]), ("ok", &json!(1)));
    assert_eq!(
        reply.data["gone"],
        json!([[1, highest - 1]]),
        "delivered numbers are gone, unassigned ones are not"
    );
    assert!(bench.log.iter().any(|line| line.starts_with("again")), "{:?}", bench.log);
    bench.command("event-get", "r2", json!({"ring": "00000000000000ff", "seq": [[3, 4]]}));
    assert_eq!(
        bench.replies.pop().unwrap().data["gone"],
        json!([[3, 4]]),
        "numbers of another card are gone"
    );
    for (ring, seq, why) in [
        (ring.clone(), json!([[1, 2], [9, 3]]), "[9,3] ends before it begins"),
        ("00000000000000FF".into(), json!([[3, 4]]), "16 digits 0 to 9 and a to f"),
        ("ff".into(), json!([[3, 4]]), "16 digits 0 to 9 and a to f"),
    ] {
        bench.command(
            "event-get",
            &format!("w{seq}{ring}").replace(['[', ']', ','], "x"),
            json!({"ring": ring, "seq": seq}),
        );
        let reply = bench.replies.pop().unwrap();
        assert!(format!("{reply:?}").contains(why), "{reply:?}");
    }
    bench.command("event-get", "r3", json!({"ring": ring}));
    assert_eq!(bench.replies.pop().unwrap().status, "error");
}

#[test]
fn a_cancelled_file_is_dropped_and_reported() {
    let mut bench = Bench::new();
    bench.connect();
    bench.command(
        "clip-get",
        "r1",
        json!({"from": "2026-09-21T14:13:20Z", "to": "2026-09-21T14:13:30Z"}),
    );
    bench.at(200);
    bench.find_footage(false);
    let fid = bench.replies.iter().find_map(|reply| reply.data["fid"].as_str().map(String::from));
    let Some(fid) = fid else { panic!("{:?}", bench.replies) };
    bench.command("clip-cancel", "r2", json!({"fid": fid}));
    let reply = bench.replies.pop().unwrap();
    assert_eq!(reply.status, "ok", "{}", reply.detail);
    assert!(bench.log.iter().any(|line| line.starts_with("cancel")), "{:?}", bench.log);
    assert!(
        bench.log.iter().any(|line| line == "journal file.lost" || line.contains("file.lost")),
        "{:?}",
        bench.log
    );
    bench.command("clip-cancel", "r3", json!({"fid": fid}));
    assert_eq!(bench.replies.pop().unwrap().status, "error", "the file is no longer pending");
}

#[test]
fn ring_status_and_log_tail_are_answered() {
    let mut bench = Bench::new();
    bench.connect();
    bench.command("ring-status", "r1", json!({}));
    let data = bench.replies.pop().unwrap().data;
    assert_eq!(
        (&data["ring"], &data["boot"], &data["dead_letters"]),
        (&json!("0000000000000007"), &json!(1), &json!(0))
    );
    for (req_id, lines) in [("r2", json!(9)), ("r4", json!("9"))] {
        bench.command("log-tail", req_id, json!({"lines": lines}));
        assert_eq!(bench.replies.pop().unwrap().data, json!({"lines": ["line 0", "line 1"]}));
    }
    bench.command("log-tail", "r3", json!({"lines": "many"}));
    assert_eq!(bench.replies.pop().unwrap().status, "error");
}

#[test]
fn numbers_that_are_no_ranges_are_refused_with_the_right_form() {
    let mut bench = Bench::new();
    bench.connect();
    for (args, what) in
        [(json!({"ring": "1", "seq": 1}), "not 1"), (json!({"ring": "1"}), "is missing")]
    {
        let req_id = format!("r{}", what.len());
        bench.command("event-get", &req_id, args);
        let named = bench.replies.pop().unwrap().detail;
        assert!(named.contains(what) && named.contains("[[1,20]"), "{named}");
    }
}

#[test]
fn numbers_that_no_event_has_are_refused_by_name() {
    let mut bench = Bench::new();
    bench.connect();
    let ring = bench.agent.ring.to_string();
    let seqs = [json!([[0, 5]]), json!([[0, 0]]), json!([[3, 1_u64 << 63]])];
    for (at, seq) in seqs.into_iter().enumerate() {
        bench.command("event-get", &format!("r{at}"), json!({"ring": ring, "seq": seq}));
        let reply = bench.replies.pop().unwrap();
        assert!(reply.detail.contains("no event has"), "{}", reply.detail);
    }
}

#[test]
fn a_clock_that_is_only_read_again_is_no_event() {
    let mut bench = Bench::new();
    bench.connect();
    let named = |bench: &Bench| bench.log.iter().filter(|line| line.contains("clock")).count();
    let before = named(&bench);
    let mut set = |before: ClockQuality, now: ClockQuality, step: i64| {
        let now = Timestamp { quality: now, ..Timestamp::default() };
        bench.give(AgentInput::Storage(StorageUpdate::ClockSet(ClockSet { before, now, step })));
        named(&bench)
    };
    assert_eq!(set(ClockQuality::Rtc, ClockQuality::Rtc, 0), before);
    assert_eq!(set(ClockQuality::Rtc, ClockQuality::Rtc, -49_000), before);
    assert_eq!(set(ClockQuality::Rtc, ClockQuality::Ntp, 0), before + 1);
    assert_eq!(set(ClockQuality::Ntp, ClockQuality::Ntp, 600_000), before + 2);
}

#[test]
fn an_uplink_alarm_is_reported_once_an_hour() {
    let mut bench = Bench::new();
    bench.connect();
    let alarm = || {
        AgentInput::Uplink(UplinkUpdate::Alarm { what: Alarm::NotAuthorized, detail: "no".into() })
    };
    let alarms =
        |bench: &Bench| bench.log.iter().filter(|line| line.contains("uplink.alarm")).count();
    bench.give(alarm());
    bench.give(alarm());
    assert_eq!(alarms(&bench), 1);
    bench.at(3_700);
    bench.give(alarm());
    assert_eq!(alarms(&bench), 2);
    let refused =
        |bench: &Bench| bench.log.iter().filter(|line| line.contains("delivery.refused")).count();
    for _ in 0..20 {
        let Some((entry_id, _)) = bench.sent.pop() else { break };
        bench.give(AgentInput::Uplink(UplinkUpdate::Returned {
            entry_id,
            why: ReturnReason::Refused("never".into()),
        }));
    }
    let once = refused(&bench);
    while let Some((entry_id, _)) = bench.sent.pop() {
        bench.give(AgentInput::Uplink(UplinkUpdate::Returned {
            entry_id,
            why: ReturnReason::Refused("never".into()),
        }));
    }
    assert_eq!(refused(&bench), once, "a rejected rejection event is reported again");
}

/// Boots an agent that remembers `known` with the ring `found`, boot 5 and 100 records. Returns the
/// `card` event and the ring that it remembers for the next boot.
fn boots_with(
    known: Option<Option<KnownRing>>,
    ring: RingId,
    record: u64,
) -> (Option<Value>, Option<KnownRing>) {
    let record_of = crate::remote_config::state_record::ConfigState::of_file;
    let config = record_of(Digest::of(b"file"), String::new(), Default::default());
    let settings_known = ProvenSettings { good: settings(), bootstrap: settings(), trying: None };
    let machine = ConfigMachine::new(config, settings_known, [1; 32], stamp(1));
    let agent = Agent::new(settings(), Arc::new(NoFootage), [7; 32]);
    let mut agent = agent.with_configuration(machine, None, known);
    let found =
        Recovered { ring, boot: Boot(5), slots: 512, last_seq: record, ..Recovered::default() };
    let mut out = Vec::new();
    let input = AgentInput::Storage(StorageUpdate::Started(Box::new(found)));
    agent.handle(stamp(1), input, &mut out);
    let (mut event, mut remembered) = (None, None);
    for effect in out {
        match effect {
            AgentEffect::Config(ConfigRequest::RememberRing(known)) => remembered = Some(*known),
            AgentEffect::Storage(StorageRequest::EnqueueAll { entries }) => {
                let mut data = entries.iter().filter_map(|(_, entry)| {
                    let Body::Event { payload, .. } = Entry::decode(entry).ok()?.body else {
                        return None;
                    };
                    let event: Value = serde_json::from_str(&payload).ok()?;
                    (event["type"] == "vn.taimat.card.v1").then(|| event["data"].clone())
                });
                event = data.next_back().or(event);
            }
            _ => {}
        }
    }
    (event, remembered)
}

#[test]
fn a_new_or_exchanged_ring_is_reported_and_a_first_is_not() {
    let (event, first) = boots_with(Some(None), RingId(7), 0);
    assert_eq!(event, None, "a first start warns");
    let first = first.expect("the ring is remembered");
    assert_eq!((first.ring, first.boot, first.record), (RingId(7), Boot(5), 0));
    let known = Some(Some(KnownRing { boot: Boot(4), ..first.clone() }));
    assert_eq!(boots_with(known.clone(), RingId(7), 100).0, None, "the same ring");
    for (ring, record, state) in
        [(RingId(8), 0, "new_ring"), (RingId(8), 100, "other_ring"), (RingId(7), 0, "older_ring")]
    {
        let known = if ring == RingId(7) { Some(Some(first.clone())) } else { known.clone() };
        let (event, next) = boots_with(known, ring, record);
        let event = event.unwrap_or_else(|| panic!("{state} is not reported"));
        assert_eq!((&event["state"], &event["ring"]), (&json!(state), &json!(ring)));
        assert_eq!(event["before"]["ring"], json!(RingId(7)));
        assert_eq!(next.unwrap().ring, ring, "it is reported at each boot");
    }
    let (event, remembered) = boots_with(None, RingId(9), 0);
    assert_eq!((event, remembered), (None, None), "a ring in memory is not remembered");
}

#[test]
fn changed_settings_reach_only_the_modules_they_change() {
    let mut bench = Bench::new();
    let record = crate::remote_config::state_record::ConfigState::of_file(
        Digest::of(b"file"),
        String::new(),
        Default::default(),
    );
    let known = ProvenSettings { good: settings(), bootstrap: settings(), trying: None };
    let machine = ConfigMachine::new(record, known, [1; 32], bench.now);
    let agent =
        std::mem::replace(&mut bench.agent, Agent::new(settings(), Arc::new(NoFootage), [7; 32]));
    bench.agent = agent.with_configuration(machine, None, None);
    bench.connect();
    bench.log.clear();
    let mut next = settings();
    next.storage.budget = 32 << 20;
    next.storage.pin_quota = 30;
    next.motion.sensitivity = 7;
    let found = action::FileFound { text: "edited".into(), outcome: Ok(Box::new(next)) };
    bench.give(AgentInput::Config(ConfigUpdate::Machine(action::ConfigInput::File(Box::new(
        found,
    )))));
    let log: Vec<&String> =
        bench.log.iter().filter(|line| !line.starts_with("journal") && *line != "send").collect();
    assert_eq!(
        log,
        [
            "save a change",
            "save a change",
            "resize 33554432 30",
            "apply [\"storage\", \"motion\"] fresh true"
        ]
    );
    bench.log.clear();
    bench.at(60);
    let log: Vec<&String> =
        bench.log.iter().filter(|line| !line.starts_with("journal") && *line != "send").collect();
    assert_eq!(
        log,
        ["save nothing new", "apply [] fresh false"],
        "committed, and nothing more to apply"
    );
    let actions: Vec<String> = bench
        .card
        .iter()
        .filter_map(|(_, entry)| match Entry::decode(entry).unwrap().body {
            Body::Event { payload, .. } => serde_json::from_str::<Value>(&payload).unwrap()["data"]
                ["action"]
                .as_str()
                .map(String::from),
            Body::File(_) => None,
        })
        .collect();
    assert_eq!(actions, ["staged", "committed"]);
}

#[test]
fn a_snapshot_is_durable_before_it_is_accepted() {
    let mut bench = Bench::new();
    bench.connect();
    bench.command("snapshot", "r1", json!({}));
    bench.command("snapshot", "r1", json!({}));
    assert_eq!(bench.log.iter().filter(|line| *line == "snapshot r1").count(), 1);
    assert!(bench.replies.is_empty(), "accepted before there is a picture");
    bench.command("snapshot", "r2", json!({}));
    bench.command("snapshot", "r3", json!({}));
    assert!(bench.replies.pop().unwrap().detail.starts_with("busy"));
    bench.give(AgentInput::Analytics(AnalyticsUpdate::RequestedSnapshot {
        req_id: "r1".into(),
        outcome: Ok((bench.now, vec![1, 2, 3])),
    }));
    let reply = bench.replies.pop().unwrap();
    assert_eq!(
        (reply.cmd.as_str(), reply.status.as_str(), &reply.data["size"]),
        ("snapshot", "accepted", &json!(3))
    );
    bench.command("snapshot", "r1", json!({}));
    assert_eq!(bench.replies.pop().unwrap(), reply, "the same answer again, and no second picture");
    let messages = bench.sent.iter().filter_map(|(_, message)| match message {
        Message::File { manifest, .. } => Some((manifest.purpose, manifest.event.clone())),
        Message::Event { .. } => None,
    });
    assert_eq!(messages.collect::<Vec<_>>(), [(Purpose::Snapshot, "r1".to_owned())]);
    bench.give(AgentInput::Analytics(AnalyticsUpdate::RequestedSnapshot {
        req_id: "r2".into(),
        outcome: Err("no picture".into()),
    }));
    assert_eq!(bench.replies.pop().unwrap().status, "error");
    bench.command("snapshot", "r4", json!({"t": "2026-09-21T14:13:20Z"}));
    assert_eq!(bench.replies.pop().unwrap().status, "error", "a snapshot of the past is rejected");
}

#[test]
fn a_backlog_larger_than_memory_is_sent_exactly_once() {
    let mut bench = Bench::of_slots(100_000);
    // A reboot after each half.
    for half in 0..2 {
        for n in 0..4_000 {
            bench.at(10 + half * 4_000 + n);
            bench.gap();
        }
        bench.boot_up();
    }
    let numbers: Vec<u64> = bench.events().iter().map(|(seq, _)| *seq).collect();
    assert!(numbers.len() > 5_000 && numbers.is_sorted());
    bench.connect();
    let mut sent = Vec::new();
    while let Some((entry_id, message)) = bench.sent.pop() {
        let Message::Event { payload, .. } = message else { panic!("{message:?}") };
        sent.push(serde_json::from_slice::<wire::Event>(&payload).unwrap().seq);
        bench.give(AgentInput::Uplink(UplinkUpdate::Receipted { entry_id }));
    }
    sent.sort_unstable();
    assert_eq!(sent, numbers);
    let fetched = bench.log.iter().filter(|line| *line == "fetch").count();
    assert!(
        fetched > 0 && fetched < numbers.len(),
        "{fetched} of {} were read from the card",
        numbers.len()
    );
    assert!(bench.card.is_empty());
}

#[test]
fn an_unreadable_event_is_kept_and_sent_after_the_next_boot() {
    let mut bench = Bench::of_slots(100_000);
    for n in 0..8_000 {
        bench.at(10 + n);
        bench.gap();
    }
    let (entry_id, bytes) = bench.card.remove(1);
    bench.connect();
    while let Some((entry_id, _)) = bench.sent.pop() {
        bench.give(AgentInput::Uplink(UplinkUpdate::Receipted { entry_id }));
    }
    assert_eq!(bench.agent.outbox.dead_letters(), 1);
    assert!(bench.log.iter().any(|line| line.contains("delivery.refused")));
    bench.card.push((entry_id, bytes));
    bench.boot_up();
    bench.connect();
    assert!(
        bench.sent.iter().any(|(sent, _)| *sent == entry_id),
        "it is not sent after the next boot"
    );
}

#[test]
fn clips_found_at_a_boot_are_located_a_few_at_a_time() {
    let mut bench = Bench::new();
    bench.slots = 100_000;
    let mut manifest =
        crate::evidence::manifest::of_span(&bench.agent.site, Purpose::Clip, "e", 1, &span(false));
    let about = crate::evidence::manifest::about(&manifest);
    manifest.size =
        crate::clip::FileSource::len(&crate::clip::virtual_file::VirtualClip::assemble(
            &span(false),
            &about,
            Arc::new(NoFootage),
        ));
    for n in 0..3_000 {
        let body = Body::File(Box::new(manifest.clone()));
        let after = AgentState { ring: RingId(7), next_seq: 2, ..AgentState::default() };
        bench.card.push((EntryId(100 + n), Entry { after, body }.encode()));
    }
    bench.newest = bench.card.last().cloned();
    bench.boot_up();
    let mut found = 0;
    while !bench.locating.is_empty() {
        assert!(bench.locating.len() <= 16, "{} queries at once", bench.locating.len());
        found += bench.locating.len();
        bench.find_footage(false);
    }
    assert_eq!(found, 3_000);
}

#[path = "flood_tests.rs"]
mod flood_tests;
