//! The link against an archive that loses, doubles and forgets.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::evidence::manifest::of_still;
use crate::units::{RingId, Wall};
use crate::uplink::wire::Manifest;

fn site() -> SiteId {
    SiteId::parse("km-17").unwrap()
}

fn stamp(mono: u64) -> Stamp {
    Stamp { mono: Mono(mono), wall: Wall(0), ..Stamp::default() }
}

fn file(len: usize) -> (Manifest, Arc<Vec<u8>>) {
    let bytes: Vec<u8> = (0..len).map(|i| (i * 7 % 251) as u8).collect();
    (of_still(&site(), "e1", Stamp::default(), &bytes), Arc::new(bytes))
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
    link: Link,
    archive: Archive,
    sources: BTreeMap<Ticket, Arc<Vec<u8>>>,
    receipted: Vec<Ticket>,
    now: u64,
    mood: Vec<u8>,
    turn: usize,
    conn: u64,
}

impl World {
    fn new(mood: Vec<u8>) -> World {
        let link = Link::new(site(), 1, 5000);
        let (archive, sources, receipted) = (Archive::default(), BTreeMap::new(), Vec::new());
        World { link, archive, sources, receipted, now: 1, mood, turn: 0, conn: 0 }
    }

    fn mood(&mut self) -> u8 {
        self.turn += 1;
        // Bad moods end, or nothing could ever be delivered.
        if self.turn > 400 { 0 } else { self.mood[self.turn % self.mood.len()] }
    }

    fn connect(&mut self) {
        self.conn += 1;
        let mut out = Vec::new();
        self.link.connected(stamp(self.now), self.conn, 20, 1 << 20, &mut out);
        self.link.message(Mono(self.now), &topics::host_state("office"), b"{\"state\":\"online\"}", &mut out);
        self.carry_out(out);
    }

    fn order(&mut self, order: UplinkOrder) {
        let mut out = Vec::new();
        self.link.order(Mono(self.now), order, &mut out);
        self.carry_out(out);
    }

    fn carry_out(&mut self, out: Vec<Effect>) {
        let mut queue: VecDeque<Effect> = out.into();
        while let Some(effect) = queue.pop_front() {
            let mut more = Vec::new();
            match effect {
                Effect::News(UplinkNews::Receipted { ticket }) => self.receipted.push(ticket),
                Effect::News(_) => {}
                Effect::Read { ticket, offset, len } => {
                    let bytes = self.sources[&ticket][offset as usize..offset as usize + len as usize].to_vec();
                    self.link.chunk(Mono(self.now), ticket, offset, Ok(bytes), &mut more);
                }
                Effect::Publish { token, topic, payload, .. } => self.broker(token, &topic, &payload, &mut more),
            }
            queue.extend(more);
        }
    }

    fn broker(&mut self, token: Token, topic: &str, payload: &[u8], more: &mut Vec<Effect>) {
        let now = Mono(self.now);
        match self.mood() {
            0..=199 => {
                let ack = self.archive.take(topic, payload);
                self.link.acked(now, token, None, more);
                self.answer(ack, more);
            }
            // Acknowledged, then dropped.
            200..=215 => self.link.acked(now, token, None, more),
            // Delivered twice.
            216..=230 => {
                let first = self.archive.take(topic, payload);
                let second = self.archive.take(topic, payload);
                self.link.acked(now, token, None, more);
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

    fn answer(&mut self, ack: Option<Ack>, more: &mut Vec<Effect>) {
        if let Some(ack) = ack {
            let payload = serde_json::to_vec(&ack).unwrap();
            self.link.message(Mono(self.now), &topics::dn(&site(), "ack"), &payload, more);
        }
    }

    fn wait(&mut self) {
        self.now += 40_000_000;
        if self.link.connected.is_none() {
            self.connect();
        }
        let mut out = Vec::new();
        self.link.advance(Mono(self.now), &mut out);
        self.carry_out(out);
    }
}

fn letters(world: &mut World, events: u64, file_len: usize) {
    for n in 1..=events {
        let payload = format!("{{\"id\":\"e{n}\"}}").into_bytes();
        world.order(UplinkOrder::Send { ticket: Ticket(n), letter: Letter::Event { id: format!("e{n}"), payload } });
    }
    let (manifest, bytes) = file(file_len);
    world.sources.insert(Ticket(100), bytes.clone());
    let letter = Letter::File { manifest: Box::new(manifest), source: bytes };
    world.order(UplinkOrder::Send { ticket: Ticket(100), letter });
}

#[test]
fn bytes_that_are_published_again_are_counted() {
    let mut world = World::new(vec![0]);
    world.connect();
    letters(&mut world, 3, 20_000);
    assert_eq!((world.receipted.len(), world.link.counts.resent), (4, 0));
    // Acknowledged and dropped, every time: the events go out again with the next session, and once more for its archive.
    let mut world = World::new(vec![200]);
    world.connect();
    letters(&mut world, 3, 20_000);
    world.link.lost("cut".into(), false, &mut Vec::new());
    world.connect();
    assert_eq!(world.link.counts.resent, 2 * 3 * "{\"id\":\"e1\"}".len() as u64, "no chunk was asked for yet");
}

#[test]
fn a_puback_alone_delivers_nothing() {
    let mut world = World::new(vec![210]);
    world.connect();
    letters(&mut world, 3, 9_000);
    assert!(world.receipted.is_empty());
}

#[test]
fn a_good_day_delivers_everything_once() {
    let mut world = World::new(vec![0]);
    world.connect();
    letters(&mut world, 3, 12_345);
    assert_eq!(world.receipted.len(), 4);
    assert_eq!(world.archive.chunk_bytes, 12_345);
    assert!(world.archive.events.values().all(|times| *times == 1));
}

#[test]
fn no_archive_means_no_chunks() {
    let mut world = World::new(vec![0]);
    let mut out = Vec::new();
    world.link.connected(stamp(1), 1, 20, 1 << 20, &mut out);
    letters(&mut world, 0, 9_000);
    assert!(world.archive.files.is_empty());
    world.connect();
    assert_eq!(world.receipted, [Ticket(100)]);
}

#[test]
fn a_file_that_cannot_be_read_comes_back() {
    let mut link = Link::new(site(), 1, 5000);
    let mut out = Vec::new();
    link.connected(stamp(1), 1, 20, 1 << 20, &mut out);
    let (manifest, bytes) = file(100);
    link.order(
        Mono(1),
        UplinkOrder::Send { ticket: Ticket(1), letter: Letter::File { manifest: Box::new(manifest), source: bytes } },
        &mut out,
    );
    out.clear();
    link.chunk(Mono(1), Ticket(1), 0, Err("gone".into()), &mut out);
    assert!(
        out.iter().any(|effect| matches!(effect, Effect::News(UplinkNews::Returned { why: ReturnReason::Unreadable(_), .. })))
    );
    assert!(out.iter().any(|effect| matches!(effect, Effect::Publish { topic, .. } if topic.ends_with("abort"))));
}

#[test]
fn a_late_receipt_for_other_bytes_is_not_ours() {
    let mut world = World::new(vec![210]);
    world.connect();
    letters(&mut world, 1, 10);
    let mut out = Vec::new();
    world.answer(Some(Ack::Event { id: "e1".into(), sha256: Digest::of(b"other") }), &mut out);
    assert!(!out.iter().any(|effect| matches!(effect, Effect::News(UplinkNews::Receipted { .. }))));
}

#[test]
fn a_connection_number_rises_over_any_number_of_tries_and_starts() {
    let numbers = [(1, 1), (1, 65_536), (1, u32::MAX), (2, 1), (3, 0)].map(|(boot, tries)| connection_number(Boot(boot), tries));
    assert!(numbers.is_sorted_by(|one, other| one < other), "{numbers:?}");
}

#[test]
fn the_state_names_the_ring_of_the_birth_message() {
    let mut link = Link::new(site(), 1, 5000);
    assert!(!link.is_born());
    let birth = crate::health::Gauges::default().birth(stamp(1), RingId(9), Boot(1), 0);
    link.order(Mono(1), UplinkOrder::Birth(Box::new(birth)), &mut Vec::new());
    let state: State = serde_json::from_slice(&link.state("lost", 5, stamp(1))).unwrap();
    assert!(link.is_born());
    assert_eq!((state.ring, state.conn), (RingId(9), 5));
}

proptest! {
    #[test]
    fn every_letter_is_receipted_exactly_once_whatever_the_broker_does(mood in proptest::collection::vec(any::<u8>(), 1..60)) {
        let mut world = World::new(mood);
        world.connect();
        letters(&mut world, 5, 60_000);
        for _ in 0..600 {
            world.wait();
        }
        world.receipted.sort();
        prop_assert_eq!(&world.receipted, &[1, 2, 3, 4, 5, 100].map(Ticket));
        prop_assert_eq!(world.archive.stored.len(), 1);
    }
}
