//! Tests of delivery against an archive and a broker that lose, duplicate and forget messages.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::evidence::manifest::of_still;
use crate::units::{RingId, WallTime};
use crate::uplink::ReturnReason;
use crate::uplink::wire::{Ack, Manifest, State};

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
    BrokerLimits { receive_max: 20, max_packet: 1 << 20, retain: true, at_least_once: true }
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
            let id = serde_json::from_slice::<serde_json::Value>(payload).ok()?["id"]
                .as_str()?
                .to_owned();
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

/// A delivery, an archive, and a broker between them that misbehaves by a list of random numbers.
struct World {
    delivery: Delivery,
    archive: Archive,
    sources: BTreeMap<EntryId, Arc<Vec<u8>>>,
    receipted: Vec<EntryId>,
    now: u64,
    behaviour: Vec<u8>,
    turn: usize,
    conn: u64,
}

impl World {
    fn new(behaviour: Vec<u8>) -> World {
        let delivery = new();
        let (archive, sources, receipted) = (Archive::default(), BTreeMap::new(), Vec::new());
        World { delivery, archive, sources, receipted, now: 1, behaviour, turn: 0, conn: 0 }
    }

    fn next_behaviour(&mut self) -> u8 {
        self.turn += 1;
        // Faults end after this many answers or this long, or nothing could ever be delivered.
        if self.turn > 400 || self.now > 12_000_000_000 {
            0
        } else {
            self.behaviour[self.turn % self.behaviour.len()]
        }
    }

    fn connect(&mut self) {
        self.conn += 1;
        let mut out = Vec::new();
        self.delivery.connected(stamp(self.now), self.conn, limits(), 0, &mut out);
        self.delivery.message(
            stamp(self.now),
            &topics::host_state("office"),
            b"{\"state\":\"online\"}",
            &mut out,
        );
        self.execute(out);
    }

    fn request(&mut self, request: UplinkRequest) {
        let mut out = Vec::new();
        self.delivery.request(stamp(self.now), request, &mut out);
        self.execute(out);
    }

    fn execute(&mut self, out: Vec<DeliveryEffect>) {
        let mut queue: VecDeque<DeliveryEffect> = out.into();
        while let Some(effect) = queue.pop_front() {
            let mut more = Vec::new();
            match effect {
                DeliveryEffect::Update(UplinkUpdate::Receipted { entry_id }) => {
                    self.receipted.push(entry_id)
                }
                DeliveryEffect::Update(_) => {}
                DeliveryEffect::Read { entry_id, offset, len } => {
                    let bytes = self.sources[&entry_id]
                        [offset as usize..offset as usize + len as usize]
                        .to_vec();
                    self.delivery.chunk(stamp(self.now), entry_id, offset, Ok(bytes), &mut more);
                }
                DeliveryEffect::Publish { token, topic, payload, .. } => {
                    self.broker(token, &topic, &payload, &mut more)
                }
            }
            queue.extend(more);
        }
    }

    fn broker(
        &mut self,
        token: Token,
        topic: &str,
        payload: &[u8],
        more: &mut Vec<DeliveryEffect>,
    ) {
        let now = stamp(self.now);
        match self.next_behaviour() {
            0..=199 => {
                let ack = self.archive.take(topic, payload);
                self.delivery.acked(now, token, Acked::Accepted, more);
                self.answer(ack, more);
            }
            // Acknowledged, then dropped.
            200..=215 => self.delivery.acked(now, token, Acked::Accepted, more),
            // Delivered twice.
            216..=230 => {
                let first = self.archive.take(topic, payload);
                let second = self.archive.take(topic, payload);
                self.delivery.acked(now, token, Acked::Accepted, more);
                self.answer(first, more);
                self.answer(second, more);
            }
            // Delivered, and the connection ends before any answer.
            231..=245 => {
                self.archive.take(topic, payload);
                self.delivery.lost("cut".into(), false, more);
            }
            _ => self.delivery.lost("cut".into(), false, more),
        }
    }

    fn answer(&mut self, ack: Option<Ack>, more: &mut Vec<DeliveryEffect>) {
        if let Some(ack) = ack {
            let payload = serde_json::to_vec(&ack).unwrap();
            self.delivery.message(stamp(self.now), &topics::dn(&site(), "ack"), &payload, more);
        }
    }

    fn wait(&mut self) {
        self.now += 40_000_000;
        if self.delivery.connected.is_none() {
            self.connect();
        }
        let mut out = Vec::new();
        self.delivery.advance(stamp(self.now), &mut out);
        self.execute(out);
    }
}

fn messages(world: &mut World, events: u64, file_len: usize) {
    for n in 1..=events {
        let payload = format!("{{\"id\":\"e{n}\"}}").into_bytes();
        world.request(UplinkRequest::Send {
            entry_id: EntryId(n),
            message: Message::Event { id: format!("e{n}"), payload },
        });
    }
    let (manifest, bytes) = file(file_len);
    world.sources.insert(EntryId(100), bytes.clone());
    let message = Message::File { manifest: Box::new(manifest), source: bytes };
    world.request(UplinkRequest::Send { entry_id: EntryId(100), message });
}

#[test]
fn a_flood_of_answers_does_not_evict_the_birth_message() {
    let mut delivery = new();
    let birth = crate::health::Gauges::default().birth(stamp(1), RingId(9), Boot(1), 0);
    let mut out = Vec::new();
    delivery.request(stamp(1), UplinkRequest::Birth(Box::new(birth)), &mut out);
    delivery.connected(stamp(1), 1, BrokerLimits { receive_max: 1, ..limits() }, 0, &mut out);
    for n in 0..1000 {
        let reply =
            Reply { req_id: n.to_string(), cmd: "ping".into(), status: "ok".into(), ..ping() };
        delivery.request(stamp(1), UplinkRequest::Reply(Box::new(reply)), &mut out);
    }
    let kept: Vec<&str> = delivery.queued.iter().map(|message| message.topic.as_str()).collect();
    assert!(
        kept.len() <= QUEUED_MAX && kept.iter().any(|topic| topic.ends_with("up/birth")),
        "{kept:?}"
    );
    assert!(delivery.counts.answers_dropped > 900);
}

fn ping() -> Reply {
    Reply {
        req_id: String::new(),
        cmd: String::new(),
        status: String::new(),
        detail: String::new(),
        data: Default::default(),
    }
}

#[test]
fn bytes_that_are_published_again_are_counted() {
    let mut world = World::new(vec![0]);
    world.connect();
    messages(&mut world, 3, 20_000);
    assert_eq!((world.receipted.len(), world.delivery.counts.resent), (4, 0));
    // Always acknowledged and dropped: the next session sends the events again, and its archive
    // causes one more publish.
    let mut world = World::new(vec![200]);
    world.connect();
    messages(&mut world, 3, 20_000);
    world.delivery.lost("cut".into(), false, &mut Vec::new());
    world.connect();
    assert_eq!(
        world.delivery.counts.resent,
        2 * 3 * "{\"id\":\"e1\"}".len() as u64,
        "no chunk was requested yet"
    );
}

#[test]
fn a_puback_alone_delivers_nothing() {
    let mut world = World::new(vec![210]);
    world.connect();
    messages(&mut world, 3, 9_000);
    assert!(world.receipted.is_empty());
}

#[test]
fn without_faults_everything_is_delivered_exactly_once() {
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
    assert_eq!(world.turn, turns, "the timeout is five minutes by now");
    world.delivery.lost("cut".into(), false, &mut Vec::new());
    world.connect();
    let turns = world.turn;
    world.wait();
    assert!(world.turn > turns, "the manifest is not sent 40 s after the connection");
}

#[test]
fn no_archive_means_no_chunks() {
    let mut world = World::new(vec![0]);
    let mut out = Vec::new();
    world.delivery.connected(stamp(1), 1, limits(), 0, &mut out);
    messages(&mut world, 0, 9_000);
    assert!(world.archive.files.is_empty());
    world.connect();
    assert_eq!(world.receipted, [EntryId(100)]);
}

#[test]
fn an_unreadable_file_is_returned_and_aborted() {
    let mut delivery = new();
    let mut out = Vec::new();
    delivery.connected(stamp(1), 1, limits(), 0, &mut out);
    let (manifest, bytes) = file(100);
    delivery.request(
        stamp(1),
        UplinkRequest::Send {
            entry_id: EntryId(1),
            message: Message::File { manifest: Box::new(manifest), source: bytes },
        },
        &mut out,
    );
    out.clear();
    delivery.chunk(stamp(1), EntryId(1), 0, Err("gone".into()), &mut out);
    assert!(out.iter().any(|effect| matches!(
        effect,
        DeliveryEffect::Update(UplinkUpdate::Returned { why: ReturnReason::Unreadable(_), .. })
    )));
    assert!(out.iter().any(
        |effect| matches!(effect, DeliveryEffect::Publish { topic, .. } if topic.ends_with("abort"))
    ));
}

#[test]
fn a_receipt_for_other_bytes_is_ignored() {
    let mut world = World::new(vec![210]);
    world.connect();
    messages(&mut world, 1, 10);
    let mut out = Vec::new();
    world.answer(Some(Ack::Event { id: "e1".into(), sha256: Digest::of(b"other") }), &mut out);
    assert!(
        !out.iter()
            .any(|effect| matches!(effect, DeliveryEffect::Update(UplinkUpdate::Receipted { .. })))
    );
}

#[test]
fn connection_numbers_rise_over_attempts_and_boots() {
    let numbers = [(1, 1), (1, 65_536), (1, u32::MAX), (2, 1), (3, 0)]
        .map(|(boot, tries)| connection_number(Boot(boot), tries));
    assert!(numbers.is_sorted_by(|one, other| one < other), "{numbers:?}");
}

#[test]
fn the_state_names_the_ring_of_the_birth_message() {
    let mut delivery = new();
    assert!(!delivery.is_born());
    let birth = crate::health::Gauges::default().birth(stamp(1), RingId(9), Boot(1), 0);
    delivery.request(stamp(1), UplinkRequest::Birth(Box::new(birth)), &mut Vec::new());
    let state: State = serde_json::from_slice(&delivery.state("lost", 5, stamp(1))).unwrap();
    assert!(delivery.is_born());
    assert_eq!((state.ring, state.conn), (RingId(9), 5));
}

#[test]
fn the_state_keeps_its_ring_when_the_card_is_lost() {
    let mut delivery = new();
    for ring in [9, 77] {
        let birth = crate::health::Gauges::default().birth(stamp(1), RingId(ring), Boot(1), 0);
        delivery.request(stamp(1), UplinkRequest::Birth(Box::new(birth)), &mut Vec::new());
    }
    let state: State = serde_json::from_slice(&delivery.state("stopping", 5, stamp(1))).unwrap();
    assert_eq!(state.ring, RingId(9), "an office ignores `stopping` of a ring that was not online");
}

proptest! {
    #[test]
    fn every_message_is_receipted_exactly_once(behaviour in proptest::collection::vec(any::<u8>(), 1..60)) {
        let mut world = World::new(behaviour);
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

/// A connected delivery with events, and what it published: token and last level of the topic.
fn with_events(
    limits: BrokerLimits,
    events: u64,
    bytes: usize,
) -> (Delivery, Vec<(Token, String)>) {
    let (mut delivery, mut out) = (new(), Vec::new());
    delivery.connected(stamp(1), 1, limits, 0, &mut out);
    for n in 1..=events {
        let message = Message::Event { id: format!("e{n}"), payload: vec![b'x'; bytes] };
        delivery.request(stamp(1), UplinkRequest::Send { entry_id: EntryId(n), message }, &mut out);
    }
    (delivery, published(&out))
}

fn published(out: &[DeliveryEffect]) -> Vec<(Token, String)> {
    let of = |effect: &DeliveryEffect| match effect {
        DeliveryEffect::Publish { token, topic, .. } => {
            Some((*token, topic.rsplit('/').next().unwrap_or_default().to_owned()))
        }
        _ => None,
    };
    out.iter().filter_map(of).collect()
}

#[test]
fn the_window_is_a_span_from_the_oldest_unacknowledged_publish() {
    let (mut delivery, sent) = with_events(limits(), 40, 10);
    assert_eq!(sent.len() as u64, WINDOW, "state and config/get among them");
    // All but the oldest are acknowledged: nothing more is published, or packet ids would be
    // reused.
    let mut out = Vec::new();
    for (token, _) in &sent[1..] {
        delivery.acked(stamp(2), *token, Acked::Accepted, &mut out);
    }
    assert!(published(&out).is_empty());
    delivery.acked(stamp(2), sent[0].0, Acked::Accepted, &mut out);
    assert_eq!(published(&out).len() as u64, WINDOW);
}

#[test]
fn a_receive_maximum_of_one_sends_one_at_a_time() {
    let (mut delivery, sent) = with_events(BrokerLimits { receive_max: 1, ..limits() }, 5, 10);
    assert_eq!(sent.len(), 1);
    let mut out = Vec::new();
    delivery.acked(stamp(2), sent[0].0, Acked::Accepted, &mut out);
    assert_eq!(published(&out).len(), 1);
}

#[test]
fn an_unacknowledged_publish_is_overdue_after_45_s() {
    let (mut delivery, sent) = with_events(limits(), 10, 10);
    for second in 1..=44 {
        let token = sent.get(second as usize).map_or(0, |(token, _)| *token);
        delivery.acked(stamp(second * 1_000_000), token, Acked::Accepted, &mut Vec::new());
        assert!(!delivery.is_overdue(MonoTime(second * 1_000_000)));
    }
    assert!(delivery.is_overdue(MonoTime(46_000_000)));
}

#[test]
fn a_message_larger_than_the_packet_limit_is_returned() {
    let (mut delivery, mut out) = (new(), Vec::new());
    delivery.connected(stamp(1), 1, BrokerLimits { max_packet: 1_000, ..limits() }, 0, &mut out);
    out.clear();
    let message = Message::Event { id: "e".into(), payload: vec![b'x'; 2_000] };
    delivery.request(stamp(1), UplinkRequest::Send { entry_id: EntryId(1), message }, &mut out);
    assert!(published(&out).is_empty());
    let was_returned = |effect: &DeliveryEffect| {
        matches!(
            effect,
            DeliveryEffect::Update(UplinkUpdate::Returned { why: ReturnReason::Refused(_), .. })
        )
    };
    assert!(out.iter().any(was_returned), "{out:?}");
}

#[test]
fn an_event_the_office_rejects_is_returned_with_the_reason() {
    let (mut delivery, mut out) = (new(), Vec::new());
    delivery.connected(stamp(1), 1, limits(), 0, &mut out);
    let payload = b"{\"seq\":\"x\"}".to_vec();
    let digest = Digest::of(&payload).hex();
    let message = Message::Event { id: "e1".into(), payload };
    delivery.request(stamp(2), UplinkRequest::Send { entry_id: EntryId(1), message }, &mut out);
    out.clear();
    let refusal = |sha256: &str| {
        format!(
            r#"{{"t":"event-refused","id":"e1","sha256":"{sha256}","reason":"`seq`: no number"}}"#
        )
    };
    delivery.message(
        stamp(3),
        "taimat/v1/km-17/dn/ack",
        refusal(&"0".repeat(64)).as_bytes(),
        &mut out,
    );
    assert!(
        !out.iter()
            .any(|effect| matches!(effect, DeliveryEffect::Update(UplinkUpdate::Returned { .. }))),
        "of other bytes"
    );
    delivery.message(stamp(3), "taimat/v1/km-17/dn/ack", refusal(&digest).as_bytes(), &mut out);
    let why = ReturnReason::Refused("the office rejects it: `seq`: no number".into());
    assert!(
        out.contains(&DeliveryEffect::Update(UplinkUpdate::Returned { entry_id: EntryId(1), why })),
        "{out:?}"
    );
    out.clear();
    delivery.advance(stamp(400_000_000), &mut out);
    assert!(
        !out.iter().any(|effect| matches!(effect, DeliveryEffect::Publish { topic, .. } if topic.ends_with("/event"))),
        "again"
    );
}

#[test]
fn nothing_is_retained_where_the_broker_cannot() {
    let (mut delivery, mut out) = (new(), Vec::new());
    delivery.connected(stamp(1), 1, BrokerLimits { retain: false, ..limits() }, 0, &mut out);
    assert!(
        out.iter().all(|effect| !matches!(effect, DeliveryEffect::Publish { retain: true, .. }))
    );
    assert!(!delivery.retains());
}

#[test]
fn an_unauthorized_class_raises_an_alarm_and_pauses_10_min() {
    let (mut delivery, sent) = with_events(limits(), 4, 10);
    let mut out = Vec::new();
    for (token, _) in sent.iter().filter(|(_, topic)| topic == "event") {
        delivery.acked(stamp(2), *token, Acked::NotAuthorized("NotAuthorized".into()), &mut out);
    }
    let alarms = out
        .iter()
        .filter(|effect| matches!(effect, DeliveryEffect::Update(UplinkUpdate::Alarm { .. })))
        .count();
    assert_eq!((alarms, published(&out).len()), (1, 0));
    out.clear();
    delivery.advance(stamp(599_000_000), &mut out);
    assert!(published(&out).is_empty(), "retried within the pause");
    delivery.advance(stamp(601_000_000), &mut out);
    assert_eq!(published(&out).len(), 4, "nothing was dropped");
}

#[test]
fn a_busy_broker_pauses_all_publishes_and_drops_none() {
    let (mut delivery, sent) = with_events(limits(), 1, 10);
    let mut token = sent.last().unwrap().0;
    let mut now = 2;
    for pause in [10_u64, 20, 40] {
        let mut out = Vec::new();
        delivery.acked(stamp(now), token, Acked::Busy("QuotaExceeded".into()), &mut out);
        delivery.advance(stamp(now + pause * 1_000_000 - 1), &mut out);
        assert!(published(&out).is_empty(), "within {pause} s");
        now += pause * 1_000_000;
        delivery.advance(stamp(now), &mut out);
        token = published(&out)[0].0;
    }
}

#[test]
fn an_event_without_subscribers_waits_for_an_archive() {
    let (mut delivery, sent) = with_events(limits(), 1, 10);
    let mut out = Vec::new();
    delivery.acked(stamp(2), sent.last().unwrap().0, Acked::NoSubscriber, &mut out);
    delivery.advance(stamp(5_000_000), &mut out);
    assert!(published(&out).is_empty());
    delivery.message(
        stamp(5_000_000),
        &topics::host_state("office"),
        b"{\"state\":\"online\"}",
        &mut out,
    );
    assert_eq!(published(&out).len(), 1);
}

#[test]
fn an_invalid_publish_is_a_dead_letter() {
    let (mut delivery, sent) = with_events(limits(), 1, 10);
    let mut out = Vec::new();
    delivery.acked(
        stamp(2),
        sent.last().unwrap().0,
        Acked::Invalid("TopicNameInvalid".into()),
        &mut out,
    );
    assert!(matches!(
        out[0],
        DeliveryEffect::Update(UplinkUpdate::Returned { why: ReturnReason::Refused(_), .. })
    ));
}

#[test]
fn a_fleet_command_runs_once_at_a_moment_of_each_site() {
    let mut moments = std::collections::BTreeSet::new();
    for site in ["km-1", "km-2", "km-3", "km-4"] {
        let mut delivery =
            Delivery::new(SiteId::parse(site).unwrap(), 1, &settings(FileProtocol::Own));
        let mut out = Vec::new();
        delivery.connected(stamp(1), 1, limits(), 0, &mut out);
        delivery.message(
            stamp(1),
            &topics::fleet("ping"),
            b"{\"req_id\":\"r1\",\"within\":100}",
            &mut out,
        );
        let commands = |out: &[DeliveryEffect]| {
            out.iter()
                .filter(|effect| matches!(effect, DeliveryEffect::Update(UplinkUpdate::Command(_))))
                .count()
        };
        assert_eq!(commands(&out), 0, "{site} answers at once");
        let moment = (1..=101).find(|second| {
            delivery.advance(stamp(second * 1_000_000), &mut out);
            commands(&out) > 0
        });
        moments.insert(moment.expect("the command was not run"));
        delivery.advance(stamp(500_000_000), &mut out);
        assert_eq!(commands(&out), 1);
    }
    assert!(moments.len() > 2, "{moments:?}");
}

#[test]
fn files_wait_after_an_outage_and_events_do_not() {
    let (mut delivery, mut out) = (new(), Vec::new());
    delivery.connected(stamp(1), 1, limits(), 20_000_000, &mut out);
    delivery.message(stamp(1), &topics::host_state("office"), b"{\"state\":\"online\"}", &mut out);
    out.clear();
    let (manifest, source) = file(100);
    let message = Message::File { manifest: Box::new(manifest), source };
    delivery.request(stamp(1), UplinkRequest::Send { entry_id: EntryId(1), message }, &mut out);
    let message = Message::Event { id: "e".into(), payload: b"{}".to_vec() };
    delivery.request(stamp(1), UplinkRequest::Send { entry_id: EntryId(2), message }, &mut out);
    assert_eq!(
        published(&out).iter().map(|(_, topic)| topic.as_str()).collect::<Vec<_>>(),
        ["event"]
    );
    delivery.advance(stamp(21_000_000), &mut out);
    assert!(published(&out).iter().any(|(_, topic)| topic == "init"));
}

#[test]
fn a_cancelled_file_is_aborted() {
    let (mut delivery, mut out) = (new(), Vec::new());
    delivery.connected(stamp(1), 1, limits(), 0, &mut out);
    let (manifest, source) = file(100);
    let message = Message::File { manifest: Box::new(manifest), source };
    delivery.request(stamp(1), UplinkRequest::Send { entry_id: EntryId(1), message }, &mut out);
    out.clear();
    delivery.request(stamp(2), UplinkRequest::Cancel { entry_id: EntryId(1) }, &mut out);
    assert_eq!(
        published(&out).iter().map(|(_, topic)| topic.as_str()).collect::<Vec<_>>(),
        ["abort"]
    );
    assert!(delivery.source(EntryId(1)).is_none());
}

#[test]
fn a_file_over_emqx_is_receipted_by_the_answer_to_fin() {
    let mut delivery = Delivery::new(site(), 1, &settings(FileProtocol::Emqx));
    let mut out = Vec::new();
    delivery.connected(stamp(1), 1, limits(), 0, &mut out);
    let (manifest, bytes) = file(9_000);
    let fid = manifest.fid();
    let message = Message::File { manifest: Box::new(manifest), source: bytes.clone() };
    delivery.request(stamp(1), UplinkRequest::Send { entry_id: EntryId(1), message }, &mut out);
    let (mut done, mut topics_seen, mut rounds) = (false, Vec::new(), 0);
    while !done {
        rounds += 1;
        assert!(rounds < 50, "{topics_seen:?}");
        for effect in std::mem::take(&mut out) {
            match effect {
                DeliveryEffect::Publish { token, topic, .. } => {
                    delivery.acked(stamp(2), token, Acked::Accepted, &mut out);
                    if topic.starts_with("$file-async/") {
                        let answer = format!(r#"{{"topic":"{topic}","reason_code":0}}"#);
                        delivery.message(
                            stamp(2),
                            "$file-response/km-17",
                            answer.as_bytes(),
                            &mut out,
                        );
                        topics_seen.push(topic.replace(&fid, "F"));
                    }
                }
                DeliveryEffect::Read { entry_id, offset, len } => {
                    let piece = bytes[offset as usize..offset as usize + len as usize].to_vec();
                    delivery.chunk(stamp(2), entry_id, offset, Ok(piece), &mut out);
                }
                DeliveryEffect::Update(UplinkUpdate::Receipted { entry_id }) => {
                    done = entry_id == EntryId(1)
                }
                DeliveryEffect::Update(_) => {}
            }
        }
    }
    assert_eq!(topics_seen[..3], ["$file-async/F/init", "$file-async/F/0", "$file-async/F/4096"]);
    assert!(topics_seen.last().unwrap().starts_with("$file-async/F/fin/9000/"));
}

/// What a broker did with the messages given to it.
#[derive(Default)]
struct Refused {
    largest_chunk: usize,
    receipted: Vec<EntryId>,
    returned: Vec<EntryId>,
    alarms: usize,
    outages: usize,
    reconnects: usize,
}

/// Delivers a file (entry 1) and events of these sizes (from entry 2 on) through a broker that
/// answers some publishes with an unlisted reason, at which the client loses the packet id and the
/// connection. Of the publishes in flight behind it, every second one reached the archive.
fn through_refusals(events: &[usize], refuses: impl Fn(&str, &[u8]) -> Option<u8>) -> Refused {
    let (mut delivery, mut archive, mut out) = (new(), Archive::default(), Vec::new());
    let mut seen = Refused::default();
    let connect = |delivery: &mut Delivery, now, conn, out: &mut Vec<DeliveryEffect>| {
        delivery.connected(now, conn, limits(), 0, out);
        let host = br#"{"v":1,"state":"online","host":"a"}"#;
        delivery.message(now, "taimat/v1/host/a/state", host, out);
    };
    connect(&mut delivery, stamp(1), 1, &mut out);
    let (manifest, bytes) = file(20_000);
    let message = Message::File { manifest: Box::new(manifest), source: bytes.clone() };
    delivery.request(stamp(1), UplinkRequest::Send { entry_id: EntryId(1), message }, &mut out);
    for (entry_id, len) in (2..).zip(events) {
        let payload = event_of(entry_id, *len);
        let message = Message::Event { id: format!("e{entry_id}"), payload };
        let entry_id = EntryId(entry_id);
        delivery.request(stamp(1), UplinkRequest::Send { entry_id, message }, &mut out);
    }
    for turn in 2..4_000 {
        let now = stamp(turn * 100_000);
        delivery.advance(now, &mut out);
        while !out.is_empty() {
            let mut refused: Option<(u8, Vec<Token>)> = None;
            for effect in std::mem::take(&mut out) {
                match effect {
                    DeliveryEffect::Publish { token, topic, payload, .. } => {
                        if let Some((_, in_flight)) = &mut refused {
                            in_flight.push(token);
                            if token % 2 == 0 && refuses(&topic, &payload).is_none() {
                                archive.take(&topic, &payload);
                            }
                            continue;
                        }
                        if let Some(code) = refuses(&topic, &payload) {
                            refused = Some((code, vec![token]));
                            continue;
                        }
                        delivery.acked(now, token, Acked::Accepted, &mut out);
                        if topic.contains("/file/") && !topic.ends_with("init") {
                            seen.largest_chunk = seen.largest_chunk.max(payload.len());
                        }
                        if let Some(ack) = archive.take(&topic, &payload) {
                            let ack = serde_json::to_vec(&ack).unwrap();
                            delivery.message(now, "taimat/v1/km-17/dn/ack", &ack, &mut out);
                        }
                    }
                    DeliveryEffect::Read { entry_id, offset, len } => {
                        let piece = bytes[offset as usize..][..len as usize].to_vec();
                        delivery.chunk(now, entry_id, offset, Ok(piece), &mut out);
                    }
                    DeliveryEffect::Update(update) => seen.update(update),
                }
            }
            if let Some((code, mut in_flight)) = refused {
                // What was published before the client saw the end is in flight, too.
                let more = std::mem::take(&mut out);
                in_flight.extend(published(&more).into_iter().map(|(token, _)| token));
                out.extend(more.into_iter().filter(|e| matches!(e, DeliveryEffect::Update(_))));
                delivery.refused_one_of(now, code, &in_flight, &mut out);
                delivery.interrupted("refused");
                seen.reconnects += 1;
                assert!(seen.reconnects < 200, "endless");
                connect(&mut delivery, now, 1 + seen.reconnects as u64, &mut out);
            }
        }
    }
    seen.receipted.sort_unstable();
    seen.returned.sort_unstable();
    seen
}

/// An event of this size at least.
fn event_of(entry_id: u64, len: usize) -> Vec<u8> {
    let x = "x".repeat(len.saturating_sub(20));
    format!("{{\"id\":\"e{entry_id}\",\"x\":\"{x}\"}}").into_bytes()
}

impl Refused {
    fn update(&mut self, update: UplinkUpdate) {
        match update {
            UplinkUpdate::Receipted { entry_id } => self.receipted.push(entry_id),
            UplinkUpdate::Returned { entry_id, .. } => self.returned.push(entry_id),
            UplinkUpdate::Alarm { .. } => self.alarms += 1,
            UplinkUpdate::Down { .. } => self.outages += 1,
            _ => {}
        }
    }
}

fn through_a_limit(limit: usize, events: &[usize]) -> Refused {
    through_refusals(events, |_, payload| (payload.len() > limit).then_some(0x95))
}

#[test]
fn a_limit_that_the_broker_does_not_announce_is_obeyed() {
    let seen = through_a_limit(2_000, &[3_000, 30]);
    assert!((500..=2_000).contains(&seen.largest_chunk), "{}", seen.largest_chunk);
    assert_eq!((seen.receipted, seen.returned), (vec![EntryId(1), EntryId(3)], vec![EntryId(2)]));
    assert!((1..=5).contains(&seen.alarms), "{}", seen.alarms);
    assert_eq!(seen.outages, 0, "a refusal is no outage");
}

#[test]
fn what_never_fits_is_given_up_and_the_rest_goes_on() {
    let seen = through_a_limit(60, &[3_000, 30]);
    assert_eq!((seen.receipted, seen.returned), (vec![EntryId(3)], vec![EntryId(1), EntryId(2)]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_limit_lets_through_what_fits_and_names_the_rest(
        limit in 30_usize..8_000,
        events in proptest::collection::vec(20_usize..6_000, 0..24),
    ) {
        let seen = through_a_limit(limit, &events);
        let manifest = file(20_000).0.bytes().len();
        let sizes = (2..).zip(&events).map(|(n, len)| (EntryId(n), event_of(n, *len).len()));
        let file = [(EntryId(1), manifest.max(CHUNK_FLOOR as usize))];
        let (fit, unfit): (Vec<_>, Vec<_>) =
            file.into_iter().chain(sizes).partition(|(_, bytes)| *bytes <= limit);
        let entries = |of: &[(EntryId, usize)]| of.iter().map(|(n, _)| *n).collect::<Vec<_>>();
        prop_assert_eq!(&seen.receipted, &entries(&fit));
        prop_assert_eq!(&seen.returned, &entries(&unfit));
        // Halves of a chunk of 5,000 bytes, each unfitting message once, and state and request.
        let halves = (5_000_f64 / limit.max(128) as f64).log2().max(0.0).ceil() as usize;
        prop_assert!(seen.reconnects <= halves + unfit.len() + 3, "{}", seen.reconnects);
        prop_assert_eq!(seen.outages, 0);
    }
}

#[test]
fn an_unknown_reason_refuses_one_message_by_name() {
    let seen = through_refusals(&[30; 12], |_, payload| {
        payload.starts_with(b"{\"id\":\"e7\"").then_some(0xb7)
    });
    assert_eq!(seen.returned, [EntryId(7)]);
    assert_eq!(seen.receipted.len(), 12, "{:?}", seen.receipted);
    assert!((3..=4).contains(&seen.reconnects), "{}", seen.reconnects);
    let seen = through_refusals(&[30], |topic, _| topic.ends_with("/state").then_some(0xb7));
    assert_eq!(seen.receipted, [EntryId(1), EntryId(2)], "the state alone is left out");
    assert!(seen.reconnects <= 4, "{}", seen.reconnects);
}

#[test]
fn a_refusal_loses_no_answer_and_a_new_connection_forgets() {
    let (mut delivery, sent) = with_events(limits(), 1, 3_000);
    let mut out = Vec::new();
    delivery.request(stamp(2), UplinkRequest::Reply(Box::new(ping())), &mut out);
    let tokens: Vec<Token> = sent.iter().chain(&published(&out)).map(|(token, _)| *token).collect();
    delivery.refused_one_of(stamp(3), 0x95, &tokens, &mut out);
    delivery.interrupted("refused");
    out.clear();
    delivery.connected(stamp(4), 2, limits(), 0, &mut out);
    assert_eq!(published(&out).iter().filter(|(_, topic)| topic == "rsp").count(), 1);
    let large = |delivery: &mut Delivery, n| {
        let (id, payload) = (format!("e{n}"), vec![b'x'; 4_000]);
        let message = Message::Event { id, payload };
        let (mut out, entry_id) = (Vec::new(), EntryId(n));
        delivery.request(stamp(5), UplinkRequest::Send { entry_id, message }, &mut out);
        published(&out).len()
    };
    assert_eq!(large(&mut delivery, 8), 0, "returned without a try");
    delivery.lost("cut".into(), false, &mut out);
    delivery.connected(stamp(6), 3, limits(), 0, &mut out);
    assert_eq!(large(&mut delivery, 9), 1, "the limit may be another now");
}

#[test]
fn a_busy_reason_without_a_name_pauses_and_drops_nothing() {
    let (mut delivery, sent) = with_events(limits(), 3, 10);
    let tokens: Vec<Token> = sent.iter().map(|(token, _)| *token).collect();
    let mut out = Vec::new();
    delivery.refused_one_of(stamp(2), 0x96, &tokens, &mut out);
    delivery.interrupted("refused");
    delivery.connected(stamp(3), 2, limits(), 0, &mut out);
    assert!(!published(&out).iter().any(|(_, topic)| topic == "event"), "{out:?}");
    out.clear();
    delivery.advance(stamp(11_000_000), &mut out);
    assert_eq!(published(&out).iter().filter(|(_, topic)| topic == "event").count(), 3);
}
