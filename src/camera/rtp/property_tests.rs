//! Property of the RTP reader: whatever a camera sends, each picture comes out bit for bit or its
//! absence is counted before the next one.

use proptest::prelude::*;

use super::packetiser_tests::{Camera, Heard, Marks, Nals, format, sample};
use super::*;
use crate::sim::rng::Rng;

/// A camera and its ways.
#[derive(Debug, Clone)]
struct World {
    seed: u64,
    h265: bool,
    mtu: usize,
    marks: Marks,
    stamps: u8,
    transport: Transport,
    /// Packets lost per thousand.
    loss: u64,
    /// Restarts of the sequence numbers per thousand pictures; TCP only.
    restarts: u64,
    /// Packets are moved within windows of this many; UDP only.
    reorder: usize,
}

fn worlds() -> impl Strategy<Value = World> {
    let marks = prop_oneof![
        Just(Marks::Last),
        Just(Marks::All),
        Just(Marks::None),
        Just(Marks::Sei),
        Just(Marks::SeiAlone)
    ];
    let udp = prop_oneof![Just(Transport::Tcp), Just(Transport::Udp)];
    let losses = prop_oneof![Just(0_u64), Just(3), Just(50)];
    (
        any::<u64>(),
        any::<bool>(),
        8_usize..600,
        marks,
        0_u8..5,
        udp,
        losses,
        0_u64..100,
        1_usize..60,
    )
        .prop_map(|(seed, h265, mtu, marks, stamps, transport, loss, restarts, reorder)| {
            World { seed, h265, mtu, marks, stamps, transport, loss, restarts, reorder }
        })
}

/// A NAL unit of this head with bytes that need no emulation prevention.
fn nal(random: &mut Rng, head: &[u8], most: u64) -> Vec<u8> {
    let mut nal = head.to_vec();
    for _ in 0..=random.below(most) {
        nal.push(random.below(255) as u8 + 1);
    }
    nal
}

/// A picture with its number in it.
fn picture(random: &mut Rng, h265: bool, key: bool, sets: &[Vec<u8>]) -> Nals {
    let mut nals = Vec::new();
    let lead = random.below(4);
    if lead == 0 {
        nals.push(if h265 { vec![0x46, 1, 0x50] } else { vec![9, 0xf0] });
    }
    if key {
        nals.extend_from_slice(sets);
    }
    if lead == 1 {
        nals.push(nal(random, if h265 { &[0x4e, 1, 5] } else { &[6, 5] }, 60));
    }
    let head: &[u8] = match (h265, key) {
        (true, true) => &[0x26, 1],
        (true, false) => &[2, 1],
        (false, true) => &[0x65],
        (false, false) => &[0x41],
    };
    for at in 0..=random.below(4) {
        let most = if key { 3000 } else { 500 };
        let mut slice = nal(random, head, most);
        let first = slice.get_mut(head.len()).unwrap();
        *first = if at == 0 { *first | 0x80 } else { *first & 0x7f | 1 };
        nals.push(slice);
    }
    nals
}

/// The packets of a session in the order of their arrival, and the pictures.
fn session(world: &World) -> (Vec<Nals>, Nals) {
    let mut random = Rng::new(world.seed);
    let stream =
        if world.h265 { super::packetiser_tests::H265 } else { super::packetiser_tests::H264 };
    let drawn = super::packetiser_tests::pictures(stream, world.h265);
    let sets: Nals = drawn[0]
        .iter()
        .filter(|nal| {
            let kind = super::packetiser_tests::kind(nal, world.h265);
            if world.h265 { (32..35).contains(&kind) } else { kind == 7 || kind == 8 }
        })
        .cloned()
        .collect();
    let (mtu, marks) = (world.mtu, world.marks);
    let mut camera =
        Camera { mtu, marks, seq: random.below(65_536) as u16, ..Camera::new(world.h265) };
    let (mut pictures, mut packets) = (Vec::new(), Vec::new());
    for at in 0..60_u32 {
        let picture = picture(&mut random, world.h265, at % 12 == 0, &sets);
        camera.time = match world.stamps {
            0 => at * 3600,
            1 => at / 2 * 7200,
            2 => 9,
            3 => random.below(1 << 32) as u32,
            _ => 90_000_000 - at * 100,
        };
        packets.extend(camera.picture(&picture));
        pictures.push(picture);
        let restarts = world.transport == Transport::Tcp && world.loss == 0;
        if restarts && random.below(1000) < world.restarts {
            camera.seq = random.below(65_536) as u16;
        }
    }
    // A camera drops packets itself, and so does the network; the first picture arrives.
    // The loss of the last packet shows only in the next one.
    let last = packets.len() - 1;
    let keep =
        |at: usize, random: &mut Rng| at < 60 || at == last || random.below(1000) >= world.loss;
    let mut arriving: Nals = Vec::new();
    for (at, packet) in packets.into_iter().enumerate() {
        if keep(at, &mut random) {
            arriving.push(packet);
        }
    }
    if world.transport == Transport::Udp {
        let mut keyed: Vec<(u64, Vec<u8>)> = arriving
            .into_iter()
            .enumerate()
            .map(|(at, packet)| (at as u64 + random.below(world.reorder as u64), packet))
            .collect();
        keyed.sort_by_key(|(place, _)| *place);
        arriving = keyed.into_iter().map(|(_, packet)| packet).collect();
    }
    (pictures, arriving)
}

fn hear(world: &World, packets: &[Vec<u8>]) -> Heard {
    let mut receiver = TrackReceiver::new(&format(world.h265, None), world.transport).unwrap();
    let mut heard = Heard::default();
    for (at, packet) in packets.iter().enumerate() {
        receiver.packet(packet, MonoTime(at as u64 * 500));
        heard.take(&mut receiver);
    }
    receiver.finish();
    heard.take(&mut receiver);
    heard
}

/// The slices of a sample: SEI may have moved to the next picture.
fn slices(sample: &[u8], h265: bool) -> Vec<u8> {
    let (mut out, mut at) = (Vec::new(), 0);
    while at < sample.len() {
        let length = u32::from_be_bytes(sample[at..at + 4].try_into().unwrap()) as usize;
        let nal = &sample[at + 4..at + 4 + length];
        if super::packetiser_tests::is_slice(nal, h265) {
            out.extend_from_slice(nal);
        }
        at += 4 + length;
    }
    out
}

fn check(world: &World) -> Result<(), TestCaseError> {
    let (pictures, packets) = session(world);
    let heard = hear(world, &packets);
    let clean = world.loss == 0;
    let mut next = 0;
    for unit in &heard.units {
        let data = slices(&unit.data, world.h265);
        let found = pictures[next..]
            .iter()
            .position(|picture| slices(&sample(picture, world.h265), world.h265) == data);
        let Some(skipped) = found else {
            return Err(TestCaseError::fail(format!("a unit that was never sent, after {next}")));
        };
        prop_assert!(skipped == 0 || unit.lost > 0, "{} missing uncounted at {}", skipped, next);
        if clean && unit.lost == 0 {
            let whole = sample(&pictures[next + skipped], world.h265);
            prop_assert!(unit.data == whole, "the picture {} differs", next + skipped);
        }
        next += skipped + 1;
    }
    if clean && world.transport == Transport::Udp {
        prop_assert_eq!(heard.units.len(), pictures.len());
        prop_assert_eq!(heard.lost(), 0);
    }
    if clean && world.transport == Transport::Tcp {
        // A restart by a small step forward looks like loss.
        let missing = pictures.len() - heard.units.len();
        prop_assert!(missing <= 3, "{} pictures are missing", missing);
    }
    prop_assert_eq!(heard.bad, Vec::<String>::new());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_picture_comes_out_or_its_absence_is_counted(world in worlds()) {
        check(&world)?;
    }

    #[test]
    fn no_bytes_make_the_reader_fail(
        packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..200),
        h265 in any::<bool>(),
        udp in any::<bool>(),
    ) {
        let transport = if udp { Transport::Udp } else { Transport::Tcp };
        let mut receiver = TrackReceiver::new(&format(h265, None), transport).unwrap();
        for (at, mut packet) in packets.into_iter().enumerate() {
            if let Some(first) = packet.first_mut() {
                *first = *first & 0x3f | 0x80;
            }
            if packet.len() > 11 && at % 2 == 0 {
                packet[1] = 96;
                packet[2..12].copy_from_slice(&[0, at as u8, 0, 0, 0, 0, 0, 0, 0, 9]);
            }
            receiver.packet(&packet, MonoTime(at as u64 * 20_000));
            while receiver.poll().is_some() {}
        }
    }
}
