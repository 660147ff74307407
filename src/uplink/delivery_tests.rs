//! The link against an archive that loses, doubles and forgets.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::evidence::manifest::of_still;
use crate::units::{RingId, WallTime};
use crate::uplink::ReturnReason;
use crate::uplink::wire::{Ack, Manifest};

fn site() -> SiteId {
    SiteId::parse("km-17").unwrap()
}

fn stamp(mono: u64) -> Timestamp {
    Timestamp { mono: MonoTime(mono), wall: WallTime(0), ..Timestamp::default() }
}

fn settings(files: FileProtocol) -> UplinkSettings {
    UplinkSettings { chunk: 5000, files, ..crate::settings::test_settings().uplink }
}

fn new() -> Delivery {
    Delivery::new(site(), 1, &settings(FileProtocol::Own))
}

fn limits() -> BrokerLimits {
    BrokerLimits { receive_max: 20, max_packet: 1 << 20, retain: true }
}

fn file(len: usize) -> (Manifest, Arc<Vec<u8>>) {
    let bytes: Vec<u8> = (0..len).map(|i| (i * 7 % 251) as u8).collect();
    (of_still(&site(), "e1", Timestamp::default(), &bytes), Arc::new(bytes))
}

/// An archive in memory, and the broker before it.
#[derive(Default)]
struct Archive {
    events: BTreeMap<String, u32>,
    files: BTreeMap<String, (Manifest, BTreeMap<u64, Vec<u8>>)>,
    stored: BTreeSet<String>,
    chunk_bytes: u64,
}

impl Archive {
    fn take(&mut self, topic: &str, payload: &[u8]) -> Option<Ack> {
        let (_, tail) = topics::read_up(topic)?;
        if tail == "event" {
            let id = serde_json::from_slice::<serde_json::Value>(payload).ok()?["id"].as_str()?.to_owned();
            *self.events.entry(id.clone()).or_default() += 1;
            return Some(Ack::Event { id, sha256: Digest::of(payload) });
        }
        let (fid, verb) = tail.strip_prefix("file/")?.split_once('/')?;
        let fid = fid.to_owned();
        match verb {
            "init" => {
                let manifest = serde_json::from_slice(payload).ok()?;
                let file = self.files.entry(fid.clone()).or_insert((manifest, BTreeMap::new()));
                Some(have(&fid, file))
            }
            "fin" => {
                let file = self.files.get(&fid)?;
                let bytes: Vec<u8> = file.1.values().flatten().copied().collect();
                if Digest::of(&bytes) != file.0.sha256 {
                    return Some(have(&fid, file));
                }
                self.stored.insert(fid.clone());
                Some(Ack::Stored { fid, sha256: Digest::of(&bytes) })
            }
            offset => {
                self.chunk_bytes += payload.len() as u64;
                let file = self.files.get_mut(&fid)?;
                file.1.insert(offset.parse().ok()?, payload.to_vec());
                Some(have(&fid, file))
            }
        }
    }
}

fn have(fid: &str, (manifest, chunks): &(Manifest, BTreeMap<u64, Vec<u8>>)) -> Ack {
    let (mut upto, mut end, mut missing) = (0, 0, Vec::new());
    for (at, bytes) in chunks {
        if *at > end {
            missing.push((end, *at));
        }
        end = end.max(at + bytes.len() as u64);
        if missing.is_empty() {
            upto = end;
        }
    }
    if !missing.is_empty() && end < manifest.size {
        missing.push((end, manifest.size));
    }
    Ack::Have { fid: fid.to_owned(), upto, missing }
}

/// A link, an archive, and a broker between them whose mood is a list of numbers.
struct World {
    link: Delivery,
    archive: Archive,
    sources: BTreeMap<EntryId, Arc<Vec<u8>>>,
    receipted: Vec<EntryId>,
    now: u64,
    mood: Vec<u8>,
    turn: usize,
    conn: u64,
}

impl World {
    fn new(mood: Vec<u8>) -> World {
        let link = new();
        let (archive, sources, receipted) = (Archive::default(), BTreeMap::new(), Vec::new());
        World { link, archive, sources, receipted, now: 1, mood, turn: 0, conn: 0 }
    }

    fn mood(&mut self) -> u8 {
        self.turn += 1;
        // Bad moods end, or nothing could ever be delivered: after so many answers, or so long.
        if self.turn > 400 || self.now > 12_000_000_000 { 0 } else { self.mood[self.turn % self.mood.len()] }
    }

    fn connect(&mut self) {
        self.conn += 1;
        let mut out = Vec::new();
        self.link.connected(stamp(self.now), self.conn, limits(), 0, &mut out);
        self.link.message(stamp(self.now), &topics::host_state("office"), b"{\"state\":\"online\"}", &mut out);
        self.execute(out);
    }

    fn order(&mut self, order: UplinkRequest) {
        let mut out = Vec::new();
        self.link.order(stamp(self.now), order, &mut out);
        self.execute(out);
    }

    fn execute(&mut self, out: Vec<DeliveryEffect>) {
        let mut queue: VecDeque<DeliveryEffect> = out.into();
        while let Some(effect) = queue.pop_front() {
            let mut more = Vec::new();
            match effect {
                DeliveryEffect::News(UplinkUpdate::Receipted { entry_id }) => self.receipted.push(entry_id),
                DeliveryEffect::News(_) => {}
                DeliveryEffect::Read { entry_id, offset, len } => {
                    let bytes = self.sources[&entry_id][offset as usize..offset as usize + len as usize].to_vec();
                    self.link.chunk(stamp(self.now), entry_id, offset, Ok(bytes), &mut more);
                }
                DeliveryEffect::Publish { token, topic, payload, .. } => self.broker(token, &topic, &payload, &mut more),
            }
            queue.extend(more);
        }
    }

    fn broker(&mut self, token: Token, topic: &str, payload: &[u8], more: &mut Vec<DeliveryEffect>) {
        let now = stamp(self.now);
        match self.mood() {
            0..=199 => {
                let ack = self.archive.take(topic, payload);
                self.link.acked(now, token, Acked::Taken, more);
                self.answer(ack, more);
            }
            // Acknowledged, then dropped.
            200..=215 => self.link.acked(now, token, Acked::Taken, more),
            // Delivered twice.
            216..=230 => {
                let first = self.archive.take(topic, payload);
                let second = self.archive.take(topic, payload);
                self.link.acked(now, token, Acked::Taken, more);
                self.answer(first, more);
                self.answer(second, more);
            }
            // Delivered, and the connection dies before anything comes back.
            231..=245 => {
                self.archive.take(topic, payload);
                self.link.lost("cut".into(), false, more);
            }
            _ => self.link.lost("cut".into(), false, more),
        }
    }

    fn answer(&mut self, ack: Option<Ack>, more: &mut Vec<DeliveryEffect>) {
        if let Some(ack) = ack {
            let payload = serde_json::to_vec(&ack).unwrap();
            self.link.message(stamp(self.now), &topics::dn(&site(), "ack"), &payload, more);
        }
    }

    fn wait(&mut self) {
        self.now += 40_000_000;
        if self.link.connected.is_none() {
            self.connect();
        }
        let mut out = Vec::new();
        self.link.advance(stamp(self.now), &mut out);
        self.execute(out);
    }
}

fn messages(world: &mut World, events: u64, file_len: usize) {
    for n in 1..=events {
        let payload = format!("{{\"id\":\"e{n}\"}}").into_bytes();
        world.order(UplinkRequest::Send { entry_id: EntryId(n), message: Message::Event { id: format!("e{n}"), payload } });
    }
    let (manifest, bytes) = file(file_len);
    world.sources.insert(EntryId(100), bytes.clone());
    let message = Message::File { manifest: Box::new(manifest), source: bytes };
    world.order(UplinkRequest::Send { entry_id: EntryId(100), message });
}

#[test]
fn no_number_of_answers_pushes_out_what_the_box_is() {
    let mut link = new();
    let birth = crate::health::Gauges::default().birth(stamp(1), RingId(9), Boot(1), 0);
    let mut out = Vec::new();
    link.order(stamp(1), UplinkRequest::Birth(Box::new(birth)), &mut out);
    link.connected(stamp(1), 1, BrokerLimits { receive_max: 1, ..limits() }, 0, &mut out);
    for n in 0..1000 {
        let reply = Reply { req_id: n.to_string(), cmd: "ping".into(), status: "ok".into(), ..ping() };
        link.order(stamp(1), UplinkRequest::Reply(Box::new(reply)), &mut out);
    }
    let kept: Vec<&str> = link.unsent.iter().map(|(topic, _, _)| topic.as_str()).collect();
    assert!(kept.len() <= UNSENT_MAX && kept.iter().any(|topic| topic.ends_with("up/birth")), "{kept:?}");
    assert!(link.counts.answers_dropped > 900);
}

fn ping() -> Reply {
    Reply { req_id: String::new(), cmd: String::new(), status: String::new(), detail: String::new(), data: Default::default() }
}

#[test]
fn bytes_that_are_published_again_are_counted() {
    let mut world = World::new(vec![0]);
    world.connect();
    messages(&mut world, 3, 20_000);
    assert_eq!((world.receipted.len(), world.link.counts.resent), (4, 0));
    // Acknowledged and dropped, every time: the events go out again with the next session, and once more for its archive.
    let mut world = World::new(vec![200]);
    world.connect();
    messages(&mut world, 3, 20_000);
    world.link.lost("cut".into(), false, &mut Vec::new());
    world.connect();
    assert_eq!(world.link.counts.resent, 2 * 3 * "{\"id\":\"e1\"}".len() as u64, "no chunk was asked for yet");
}

#[test]
fn a_puback_alone_delivers_nothing() {
    let mut world = World::new(vec![210]);
    world.connect();
    messages(&mut world, 3, 9_000);
    assert!(world.receipted.is_empty());
}

#[test]
fn a_good_day_delivers_everything_once() {
    let mut world = World::new(vec![0]);
    world.connect();
    messages(&mut world, 3, 12_345);
    assert_eq!(world.receipted.len(), 4);
    assert_eq!(world.archive.chunk_bytes, 12_345);
    assert!(world.archive.events.values().all(|times| *times == 1));
}

#[test]
fn a_new_connection_does_not_inherit_the_old_backoff() {
    let mut world = World::new(vec![210]);
    world.connect();
    messages(&mut world, 0, 9_000);
    for _ in 0..60 {
        world.wait();
    }
    let turns = world.turn;
    world.wait();
    assert_eq!(world.turn, turns, "five minutes of patience by now");
    world.link.lost("cut".into(), false, &mut Vec::new());
    world.connect();
    let turns = world.turn;
    world.wait();
    assert!(world.turn > turns, "the manifest again, 40 s after the connection");
}

#[test]
fn no_archive_means_no_chunks() {
    let mut world = World::new(vec![0]);
    let mut out = Vec::new();
    world.link.connected(stamp(1), 1, limits(), 0, &mut out);
    messages(&mut world, 0, 9_000);
    assert!(world.archive.files.is_empty());
    world.connect();
    assert_eq!(world.receipted, [EntryId(100)]);
}

#[test]
fn a_file_that_cannot_be_read_comes_back() {
    let mut link = new();
    let mut out = Vec::new();
    link.connected(stamp(1), 1, limits(), 0, &mut out);
    let (manifest, bytes) = file(100);
    link.order(
        stamp(1),
        UplinkRequest::Send { entry_id: EntryId(1), message: Message::File { manifest: Box::new(manifest), source: bytes } },
        &mut out,
    );
    out.clear();
    link.chunk(stamp(1), EntryId(1), 0, Err("gone".into()), &mut out);
    assert!(
        out.iter().any(|effect| matches!(
            effect,
            DeliveryEffect::News(UplinkUpdate::Returned { why: ReturnReason::Unreadable(_), .. })
        ))
    );
    assert!(out.iter().any(|effect| matches!(effect, DeliveryEffect::Publish { topic, .. } if topic.ends_with("abort"))));
}

#[test]
fn a_late_receipt_for_other_bytes_is_not_ours() {
    let mut world = World::new(vec![210]);
    world.connect();
    messages(&mut world, 1, 10);
    let mut out = Vec::new();
    world.answer(Some(Ack::Event { id: "e1".into(), sha256: Digest::of(b"other") }), &mut out);
    assert!(!out.iter().any(|effect| matches!(effect, DeliveryEffect::News(UplinkUpdate::Receipted { .. }))));
}

#[test]
fn a_connection_number_rises_over_tries_and_boots() {
    let numbers = [(1, 1), (1, 65_536), (1, u32::MAX), (2, 1), (3, 0)].map(|(boot, tries)| connection_number(Boot(boot), tries));
    assert!(numbers.is_sorted_by(|one, other| one < other), "{numbers:?}");
}

#[test]
fn the_state_names_the_ring_of_the_birth_message() {
    let mut link = new();
    assert!(!link.is_born());
    let birth = crate::health::Gauges::default().birth(stamp(1), RingId(9), Boot(1), 0);
    link.order(stamp(1), UplinkRequest::Birth(Box::new(birth)), &mut Vec::new());
    let state: State = serde_json::from_slice(&link.state("lost", 5, stamp(1))).unwrap();
    assert!(link.is_born());
    assert_eq!((state.ring, state.conn), (RingId(9), 5));
}

proptest! {
    #[test]
    fn every_message_is_receipted_exactly_once(mood in proptest::collection::vec(any::<u8>(), 1..60)) {
        let mut world = World::new(mood);
        world.connect();
        messages(&mut world, 5, 60_000);
        for _ in 0..600 {
            world.wait();
        }
        world.receipted.sort();
        prop_assert_eq!(&world.receipted, &[1, 2, 3, 4, 5, 100].map(EntryId));
        prop_assert_eq!(world.archive.stored.len(), 1);
    }
}

/// A connected link with events handed to it, and what it published: token and topic.
fn with_events(limits: BrokerLimits, events: u64, bytes: usize) -> (Delivery, Vec<(Token, String)>) {
    let (mut link, mut out) = (new(), Vec::new());
    link.connected(stamp(1), 1, limits, 0, &mut out);
    for n in 1..=events {
        let message = Message::Event { id: format!("e{n}"), payload: vec![b'x'; bytes] };
        link.order(stamp(1), UplinkRequest::Send { entry_id: EntryId(n), message }, &mut out);
    }
    (link, published(&out))
}

fn published(out: &[DeliveryEffect]) -> Vec<(Token, String)> {
    let of = |effect: &DeliveryEffect| match effect {
        DeliveryEffect::Publish { token, topic, .. } => Some((*token, topic.rsplit('/').next().unwrap_or_default().to_owned())),
        _ => None,
    };
    out.iter().filter_map(of).collect()
}

#[test]
fn the_window_is_a_span_from_the_oldest_unacknowledged_publish() {
    let (mut link, sent) = with_events(limits(), 40, 10);
    assert_eq!(sent.len() as u64, WINDOW, "state and config/get among them");
    // All but the oldest are acknowledged: nothing more goes out, or packet ids would meet.
    let mut out = Vec::new();
    for (token, _) in &sent[1..] {
        link.acked(stamp(2), *token, Acked::Taken, &mut out);
    }
    assert!(published(&out).is_empty());
    link.acked(stamp(2), sent[0].0, Acked::Taken, &mut out);
    assert_eq!(published(&out).len() as u64, WINDOW);
}

#[test]
fn a_receive_maximum_of_one_means_one_at_a_time() {
    let (mut link, sent) = with_events(BrokerLimits { receive_max: 1, ..limits() }, 5, 10);
    assert_eq!(sent.len(), 1);
    let mut out = Vec::new();
    link.acked(stamp(2), sent[0].0, Acked::Taken, &mut out);
    assert_eq!(published(&out).len(), 1);
}

#[test]
fn the_oldest_publish_has_a_deadline() {
    let (mut link, sent) = with_events(limits(), 10, 10);
    for second in 1..=44 {
        let token = sent.get(second as usize).map_or(0, |(token, _)| *token);
        link.acked(stamp(second * 1_000_000), token, Acked::Taken, &mut Vec::new());
        assert!(!link.is_overdue(MonoTime(second * 1_000_000)));
    }
    assert!(link.is_overdue(MonoTime(46_000_000)));
}

#[test]
fn nothing_larger_than_the_broker_allows_is_published() {
    let (mut link, mut out) = (new(), Vec::new());
    link.connected(stamp(1), 1, BrokerLimits { max_packet: 1_000, ..limits() }, 0, &mut out);
    out.clear();
    let message = Message::Event { id: "e".into(), payload: vec![b'x'; 2_000] };
    link.order(stamp(1), UplinkRequest::Send { entry_id: EntryId(1), message }, &mut out);
    assert!(published(&out).is_empty());
    let came_back = |effect: &DeliveryEffect| {
        matches!(effect, DeliveryEffect::News(UplinkUpdate::Returned { why: ReturnReason::Refused(_), .. }))
    };
    assert!(out.iter().any(came_back), "{out:?}");
}

#[test]
fn an_event_the_office_refuses_comes_back_with_the_reason() {
    let (mut link, mut out) = (new(), Vec::new());
    link.connected(stamp(1), 1, limits(), 0, &mut out);
    let payload = b"{\"seq\":\"x\"}".to_vec();
    let digest = Digest::of(&payload).hex();
    let message = Message::Event { id: "e1".into(), payload };
    link.order(stamp(2), UplinkRequest::Send { entry_id: EntryId(1), message }, &mut out);
    out.clear();
    let refusal = |sha256: &str| format!(r#"{{"t":"event-refused","id":"e1","sha256":"{sha256}","reason":"`seq`: no number"}}"#);
    link.message(stamp(3), "taimat/v1/km-17/dn/ack", refusal(&"0".repeat(64)).as_bytes(), &mut out);
    assert!(!out.iter().any(|effect| matches!(effect, DeliveryEffect::News(UplinkUpdate::Returned { .. }))), "of other bytes");
    link.message(stamp(3), "taimat/v1/km-17/dn/ack", refusal(&digest).as_bytes(), &mut out);
    let why = ReturnReason::Refused("the office refuses it: `seq`: no number".into());
    assert!(out.contains(&DeliveryEffect::News(UplinkUpdate::Returned { entry_id: EntryId(1), why })), "{out:?}");
    out.clear();
    link.advance(stamp(400_000_000), &mut out);
    assert!(
        !out.iter().any(|effect| matches!(effect, DeliveryEffect::Publish { topic, .. } if topic.ends_with("/event"))),
        "again"
    );
}

#[test]
fn a_broker_that_retains_nothing_is_asked_to_retain_nothing() {
    let (mut link, mut out) = (new(), Vec::new());
    link.connected(stamp(1), 1, BrokerLimits { retain: false, ..limits() }, 0, &mut out);
    assert!(out.iter().all(|effect| !matches!(effect, DeliveryEffect::Publish { retain: true, .. })));
    assert!(!link.retains());
}

#[test]
fn what_is_not_allowed_is_an_alarm_and_rests_for_ten_minutes() {
    let (mut link, sent) = with_events(limits(), 4, 10);
    let mut out = Vec::new();
    for (token, _) in sent.iter().filter(|(_, topic)| topic == "event") {
        link.acked(stamp(2), *token, Acked::Forbidden("NotAuthorized".into()), &mut out);
    }
    let alarms = out.iter().filter(|effect| matches!(effect, DeliveryEffect::News(UplinkUpdate::Alarm { .. }))).count();
    assert_eq!((alarms, published(&out).len()), (1, 0));
    out.clear();
    link.advance(stamp(599_000_000), &mut out);
    assert!(published(&out).is_empty(), "a hot retry");
    link.advance(stamp(601_000_000), &mut out);
    assert_eq!(published(&out).len(), 4, "nothing was dropped");
}

#[test]
fn a_quota_pauses_everything_and_drops_nothing() {
    let (mut link, sent) = with_events(limits(), 1, 10);
    let mut token = sent.last().unwrap().0;
    let mut now = 2;
    for pause in [10_u64, 20, 40] {
        let mut out = Vec::new();
        link.acked(stamp(now), token, Acked::Busy("QuotaExceeded".into()), &mut out);
        link.advance(stamp(now + pause * 1_000_000 - 1), &mut out);
        assert!(published(&out).is_empty(), "within {pause} s");
        now += pause * 1_000_000;
        link.advance(stamp(now), &mut out);
        token = published(&out)[0].0;
    }
}

#[test]
fn an_event_nobody_heard_waits_for_an_archive_or_its_time() {
    let (mut link, sent) = with_events(limits(), 1, 10);
    let mut out = Vec::new();
    link.acked(stamp(2), sent.last().unwrap().0, Acked::Unheard, &mut out);
    link.advance(stamp(5_000_000), &mut out);
    assert!(published(&out).is_empty());
    link.message(stamp(5_000_000), &topics::host_state("office"), b"{\"state\":\"online\"}", &mut out);
    assert_eq!(published(&out).len(), 1);
}

#[test]
fn an_invalid_publish_is_a_dead_letter() {
    let (mut link, sent) = with_events(limits(), 1, 10);
    let mut out = Vec::new();
    link.acked(stamp(2), sent.last().unwrap().0, Acked::Invalid("TopicNameInvalid".into()), &mut out);
    assert!(matches!(out[0], DeliveryEffect::News(UplinkUpdate::Returned { why: ReturnReason::Refused(_), .. })));
}

#[test]
fn a_command_to_all_boxes_comes_at_a_moment_of_its_own_and_once() {
    let mut moments = std::collections::BTreeSet::new();
    for site in ["km-1", "km-2", "km-3", "km-4"] {
        let mut link = Delivery::new(SiteId::parse(site).unwrap(), 1, &settings(FileProtocol::Own));
        let mut out = Vec::new();
        link.connected(stamp(1), 1, limits(), 0, &mut out);
        link.message(stamp(1), &topics::fleet("ping"), b"{\"req_id\":\"r1\",\"within\":100}", &mut out);
        let commands = |out: &[DeliveryEffect]| {
            out.iter().filter(|effect| matches!(effect, DeliveryEffect::News(UplinkUpdate::Command(_)))).count()
        };
        assert_eq!(commands(&out), 0, "{site} answers at once");
        let moment = (1..=101).find(|second| {
            link.advance(stamp(second * 1_000_000), &mut out);
            commands(&out) > 0
        });
        moments.insert(moment.expect("it never came"));
        link.advance(stamp(500_000_000), &mut out);
        assert_eq!(commands(&out), 1);
    }
    assert!(moments.len() > 2, "{moments:?}");
}

#[test]
fn files_wait_after_an_outage_and_events_do_not() {
    let (mut link, mut out) = (new(), Vec::new());
    link.connected(stamp(1), 1, limits(), 20_000_000, &mut out);
    link.message(stamp(1), &topics::host_state("office"), b"{\"state\":\"online\"}", &mut out);
    out.clear();
    let (manifest, source) = file(100);
    let message = Message::File { manifest: Box::new(manifest), source };
    link.order(stamp(1), UplinkRequest::Send { entry_id: EntryId(1), message }, &mut out);
    let message = Message::Event { id: "e".into(), payload: b"{}".to_vec() };
    link.order(stamp(1), UplinkRequest::Send { entry_id: EntryId(2), message }, &mut out);
    assert_eq!(published(&out).iter().map(|(_, topic)| topic.as_str()).collect::<Vec<_>>(), ["event"]);
    link.advance(stamp(21_000_000), &mut out);
    assert!(published(&out).iter().any(|(_, topic)| topic == "init"));
}

#[test]
fn a_cancelled_file_is_taken_back() {
    let (mut link, mut out) = (new(), Vec::new());
    link.connected(stamp(1), 1, limits(), 0, &mut out);
    let (manifest, source) = file(100);
    let message = Message::File { manifest: Box::new(manifest), source };
    link.order(stamp(1), UplinkRequest::Send { entry_id: EntryId(1), message }, &mut out);
    out.clear();
    link.order(stamp(2), UplinkRequest::Cancel { entry_id: EntryId(1) }, &mut out);
    assert_eq!(published(&out).iter().map(|(_, topic)| topic.as_str()).collect::<Vec<_>>(), ["abort"]);
    assert!(link.source(EntryId(1)).is_none());
}

#[test]
fn emqx_gets_a_file_in_its_own_words_and_its_word_settles_it() {
    let mut link = Delivery::new(site(), 1, &settings(FileProtocol::Emqx));
    let mut out = Vec::new();
    link.connected(stamp(1), 1, limits(), 0, &mut out);
    let (manifest, bytes) = file(9_000);
    let fid = manifest.fid();
    let message = Message::File { manifest: Box::new(manifest), source: bytes.clone() };
    link.order(stamp(1), UplinkRequest::Send { entry_id: EntryId(1), message }, &mut out);
    let (mut done, mut topics_seen, mut rounds) = (false, Vec::new(), 0);
    while !done {
        rounds += 1;
        assert!(rounds < 50, "{topics_seen:?}");
        for effect in std::mem::take(&mut out) {
            match effect {
                DeliveryEffect::Publish { token, topic, .. } => {
                    link.acked(stamp(2), token, Acked::Taken, &mut out);
                    if topic.starts_with("$file-async/") {
                        let answer = format!(r#"{{"topic":"{topic}","reason_code":0}}"#);
                        link.message(stamp(2), "$file-response/km-17", answer.as_bytes(), &mut out);
                        topics_seen.push(topic.replace(&fid, "F"));
                    }
                }
                DeliveryEffect::Read { entry_id, offset, len } => {
                    let piece = bytes[offset as usize..offset as usize + len as usize].to_vec();
                    link.chunk(stamp(2), entry_id, offset, Ok(piece), &mut out);
                }
                DeliveryEffect::News(UplinkUpdate::Receipted { entry_id }) => done = entry_id == EntryId(1),
                DeliveryEffect::News(_) => {}
            }
        }
    }
    assert_eq!(topics_seen[..3], ["$file-async/F/init", "$file-async/F/0", "$file-async/F/4096"]);
    assert!(topics_seen.last().unwrap().starts_with("$file-async/F/fin/9000/"));
}
