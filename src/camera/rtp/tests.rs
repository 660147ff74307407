//! Tests of the RTP reader: the cases from the field (kinds E, F and J) and their variations.

use super::packetiser_tests::{
    Camera, H264, H265, Heard, Marks, Nals, format, hear, hear_tcp, kind, pictures, sample,
};
use super::*;
use crate::camera::Codec;
use crate::camera::quirk::Quirk;

/// The pictures of the drawn streams.
fn drawn(h265: bool) -> Vec<Nals> {
    pictures(if h265 { H265 } else { H264 }, h265)
}

fn samples(pictures: &[Nals], h265: bool) -> Vec<Vec<u8>> {
    pictures.iter().map(|picture| sample(picture, h265)).collect()
}

#[track_caller]
fn assert_whole(heard: &Heard, pictures: &[Nals], h265: bool) {
    assert_eq!(heard.bad, Vec::<String>::new());
    assert_eq!(heard.units.len(), pictures.len(), "{:?}", heard.quirks);
    assert!(heard.data() == samples(pictures, h265), "bytes differ");
    assert_eq!(heard.lost(), 0);
    assert!(heard.units[0].params.is_some());
    assert!(heard.units[1..].iter().all(|unit| unit.params.is_none()));
}

#[test]
fn the_drawn_streams_come_out_whole() {
    for h265 in [false, true] {
        for mtu in [20, 200, 1400] {
            let pictures = drawn(h265);
            let mut camera = Camera { mtu, ..Camera::new(h265) };
            let film = camera.film(&pictures);
            let heard = hear_tcp(h265, &film.concat());
            assert_whole(&heard, &pictures, h265);
            assert_eq!(heard.quirks, [Quirk::SetsMissing]);
            let gop = if h265 { vec![0, 5, 10] } else { vec![0, 5, 10, 15] };
            assert_eq!(heard.keys(), gop);
            let times: Vec<i64> = heard.units.iter().map(|unit| unit.rtp_time).collect();
            assert_eq!(times[1] - times[0], 3600);
            let params = heard.units[0].params.clone().unwrap();
            assert_eq!(params.codec, if h265 { Codec::H265 } else { Codec::H264 });
            assert_eq!(params.size, (96, 64));
        }
    }
}

/// What `retina`'s depacketizer makes of packets on its own, as it was used before.
fn old_way(h265: bool, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    use retina::codec::{CodecItem, Depacketizer, FrameFormat};
    let name = if h265 { "h265" } else { "h264" };
    let mut inner = Depacketizer::new("video", name, 90_000, None, None).unwrap();
    inner.set_frame_format(FrameFormat::MP4);
    let mut buffer = retina::testutil::DepacketizeBuf::new(65_536);
    let mut units = Vec::new();
    for packet in packets {
        let word = |at: usize| u32::from_be_bytes(packet[at..at + 4].try_into().unwrap());
        let clock = std::num::NonZeroU32::new(90_000).unwrap();
        let meta = retina::rtp::PacketMeta {
            ctx: retina::PacketContext::dummy(),
            stream_id: 0,
            timestamp: retina::Timestamp::new(word(4).into(), clock, 0).unwrap(),
            sequence_number: 0,
            ssrc: word(8),
            mark: packet[1] >= 128,
            loss: 0,
        };
        let _ = buffer.push(&mut inner, meta, &packet[12..]);
        while let Some(item) = inner.pull() {
            if let Ok(CodecItem::VideoFrame(frame)) = item {
                units.push(frame.into_data());
            }
        }
    }
    units
}

#[test]
fn a_right_stream_is_the_same_as_by_retina_alone() {
    for h265 in [false, true] {
        let pictures = drawn(h265);
        let film = Camera::new(h265).film(&pictures).concat();
        let heard = hear_tcp(h265, &film);
        assert!(heard.data() == old_way(h265, &film));
    }
}

// Kind E: the packets are right and the expectation wrong.

#[test]
fn any_ssrc_is_taken_and_a_change_loses_nothing() {
    let pictures = drawn(false);
    let mut camera = Camera::new(false);
    let mut film = camera.film(&pictures[..10]);
    camera.ssrc = 0xffff_ffff;
    film.extend(camera.film(&pictures[10..]));
    let heard = hear_tcp(false, &film.concat());
    assert_whole(&heard, &pictures, false);
    assert!(heard.quirks.contains(&Quirk::SsrcChange));
}

#[test]
fn an_ssrc_that_changes_with_each_packet_is_ignored() {
    let pictures = drawn(false);
    let mut film = Camera::new(false).film(&pictures).concat();
    for (at, packet) in film.iter_mut().enumerate() {
        packet[11] = at as u8;
    }
    assert_whole(&hear_tcp(false, &film), &pictures, false);
    let over_udp = hear(&format(false, None), Transport::Udp, &film);
    assert_whole(&over_udp, &pictures, false);
    assert!(over_udp.quirks.contains(&Quirk::SsrcChange));
}

#[test]
fn sequence_numbers_that_jump_over_tcp_are_a_note() {
    let pictures = drawn(false);
    for (from, to) in [(20_000, 5), (5, 40_000), (300, 299), (20_000, 18_000), (9, 9)] {
        let mut camera = Camera { seq: from, ..Camera::new(false) };
        let mut film = camera.film(&pictures[..7]);
        camera.seq = to;
        film.extend(camera.film(&pictures[7..]));
        let heard = hear_tcp(false, &film.concat());
        assert_whole(&heard, &pictures, false);
        assert_eq!(heard.quirks, [Quirk::SequenceJump, Quirk::SetsMissing], "{from} to {to}");
    }
}

#[test]
fn a_jump_back_within_a_fragmented_picture_harms_nothing() {
    let pictures = drawn(true);
    let mut film = Camera::new(true).film(&pictures).concat();
    for packet in &mut film[3..] {
        let seq = u16::from_be_bytes([packet[2], packet[3]]).wrapping_sub(30_000);
        packet[2..4].copy_from_slice(&seq.to_be_bytes());
    }
    assert_whole(&hear_tcp(true, &film), &pictures, true);
}

#[test]
fn sequence_numbers_that_never_move_harm_nothing() {
    let pictures = drawn(false);
    let mut film = Camera::new(false).film(&pictures).concat();
    for packet in &mut film {
        packet[2..4].copy_from_slice(&[0, 0]);
    }
    let heard = hear_tcp(false, &film);
    assert_whole(&heard, &pictures, false);
}

#[test]
fn numbers_that_sound_shares_are_soon_ignored() {
    // Each second number belongs to the other track: the first pictures look damaged.
    let pictures = drawn(false);
    let all: Vec<Nals> = pictures.iter().cycle().take(300).cloned().collect();
    for every in [1, 4] {
        let mut film = Camera::new(false).film(&all).concat();
        for (at, packet) in film.iter_mut().enumerate() {
            packet[2..4].copy_from_slice(&((at + at / every) as u16).to_be_bytes());
        }
        let heard = hear_tcp(false, &film);
        assert!(heard.quirks.contains(&Quirk::SequenceNoise));
        assert!(heard.units.len() >= 80, "{} of 300", heard.units.len());
        assert!(heard.lost() as usize >= 300 - heard.units.len());
        let tail = &heard.units[heard.units.len() - 80..];
        assert!(tail.iter().all(|unit| unit.lost == 0));
    }
}

#[test]
fn another_payload_type_than_promised_is_taken() {
    let pictures = drawn(false);
    let mut camera = Camera { payload_type: 35, ..Camera::new(false) };
    let mut film = camera.film(&pictures[..10]);
    camera.payload_type = 97;
    film.extend(camera.film(&pictures[10..]));
    let heard = hear_tcp(false, &film.concat());
    assert_whole(&heard, &pictures, false);
    assert!(heard.quirks.contains(&Quirk::PayloadTypeChange));
}

#[test]
fn foreign_payload_types_and_rtcp_are_passed_over() {
    let pictures = drawn(false);
    let mut camera = Camera::new(false);
    let mut film = Vec::new();
    for picture in &pictures {
        film.extend(camera.film(std::slice::from_ref(picture)).concat());
        camera.payload_type = 127;
        film.push(camera.packet(true, &[1, 2, 3]));
        camera.payload_type = 96;
        film.push(vec![0x80, 200, 0, 6, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
    let heard = hear_tcp(false, &film);
    assert_whole(&heard, &pictures, false);
    assert!(heard.quirks.contains(&Quirk::ForeignPayloadType));
    assert!(heard.quirks.contains(&Quirk::RtcpAmongRtp));
}

#[test]
fn a_small_step_forward_is_loss_and_counted() {
    let pictures = drawn(false);
    let mut camera = Camera::new(false);
    let mut film = camera.film(&pictures);
    let gone = film.remove(7).len() + film.remove(7).len();
    let heard = hear_tcp(false, &film.concat());
    assert_eq!(heard.units.len(), 18);
    assert_eq!(heard.units[7].lost as usize, gone);
    assert_eq!(heard.lost() as usize, gone);
    // The middle of a fragmented slice: that picture alone is lost.
    let mut film = Camera::new(false).film(&pictures);
    film[10].remove(5);
    let heard = hear_tcp(false, &film.concat());
    let mut expected = samples(&pictures, false);
    expected.remove(10);
    assert!(heard.data() == expected && heard.units[10].lost == 1 && heard.lost() == 1);
}

#[test]
fn a_foreign_packet_over_udp_does_not_take_the_track() {
    let pictures = drawn(false);
    let format = format(false, None);
    let mut other = Camera { ssrc: 666, seq: 4, ..Camera::new(false) };
    let mut film = Vec::new();
    let mut camera = Camera::new(false);
    for picture in &pictures {
        // The very first packet is foreign, too.
        film.extend([other.packet(true, &[0x65, 0x88]), other.packet(true, &[0x65, 0x88])]);
        film.extend(camera.film(std::slice::from_ref(picture)).concat());
    }
    let heard = hear(&format, Transport::Udp, &film);
    let ours = heard.data();
    let expected = samples(&pictures, false);
    assert!(expected.iter().all(|sample| ours.iter().any(|data| data == sample)));
    assert!(heard.quirks.contains(&Quirk::ForeignSsrc));
    assert_eq!(heard.units.len(), pictures.len() + 2 * usize::from(ours[0] != expected[0]));
}

#[test]
fn a_restart_over_udp_is_followed() {
    let pictures = drawn(false);
    let mut camera = Camera::new(false);
    let mut film = camera.film(&pictures[..10]);
    camera.seq = 30_000;
    film.extend(camera.film(&pictures[10..]));
    let heard = hear(&format(false, None), Transport::Udp, &film.concat());
    assert!(heard.data() == samples(&pictures, false));
    assert!(heard.lost() <= 1 && heard.quirks.contains(&Quirk::SequenceJump));
}

// Kind J: UDP.

#[test]
fn packets_in_another_order_over_udp_are_put_in_order() {
    for h265 in [false, true] {
        let pictures = drawn(h265);
        let mut film = Camera::new(h265).film(&pictures).concat();
        for at in (0..film.len() - 1).step_by(7) {
            film.swap(at, at + 1);
        }
        let again = film[20].clone();
        film.insert(30, again);
        let heard = hear(&format(h265, None), Transport::Udp, &film);
        assert_whole(&heard, &pictures, h265);
        assert!(heard.quirks.contains(&Quirk::Reordered));
        assert!(heard.quirks.contains(&Quirk::LatePackets));
    }
}

/// Packets of a film with other sequence numbers, one each 5 ms, over UDP.
fn heard_numbered(film: &[Vec<u8>], number: impl Fn(usize) -> u16) -> Heard {
    let mut receiver = TrackReceiver::new(&format(false, None), Transport::Udp).unwrap();
    let mut heard = Heard::default();
    for (at, packet) in film.iter().enumerate() {
        let mut packet = packet.clone();
        packet[2..4].copy_from_slice(&number(at).to_be_bytes());
        receiver.packet(&packet, MonoTime(1_000_000 + at as u64 * 5_000));
        heard.take(&mut receiver);
    }
    receiver.finish();
    heard.take(&mut receiver);
    heard
}

#[test]
fn numbers_over_udp_that_mean_nothing_lose_nothing() {
    let pictures = drawn(false);
    let film = Camera::new(false).film(&pictures).concat();
    let random = |at: usize| (at as u16).wrapping_mul(40_503).wrapping_add(77).rotate_left(5);
    let numbers: [&dyn Fn(usize) -> u16; 4] =
        [&|_| 0, &random, &|at| (at % 2) as u16, &|at| if at % 2 == 0 { 7 } else { 30_000 }];
    for (which, number) in numbers.iter().enumerate() {
        let heard = heard_numbered(&film, number);
        assert!(heard.quirks.contains(&Quirk::SequenceNoise), "{which}: {:?}", heard.quirks);
        assert!(heard.data() == samples(&pictures, false), "{which}: {}", heard.units.len());
        assert_eq!(heard.lost(), 0, "{which}");
    }
}

#[test]
fn numbers_over_udp_that_stop_later_are_counted_and_ignored() {
    let pictures = drawn(false);
    let all: Vec<Nals> = pictures.iter().cycle().take(200).cloned().collect();
    let film = Camera::new(false).film(&all).concat();
    for number in [|at: usize| at.min(100) as u16, |at: usize| (at % 20) as u16] {
        let heard = heard_numbered(&film, number);
        assert!(heard.quirks.contains(&Quirk::SequenceNoise), "{:?}", heard.quirks);
        assert!(heard.lost() > 0 && heard.units.len() >= 150, "{} of 200", heard.units.len());
        let tail = &heard.units[heard.units.len() - 100..];
        assert!(tail.iter().all(|unit| unit.lost == 0));
    }
}

#[test]
fn a_stray_packet_over_udp_does_not_spoil_the_numbers() {
    let pictures = drawn(false);
    let mut film = Camera::new(false).film(&pictures).concat();
    for at in [2, 5, 40] {
        let mut stray = film[at].clone();
        stray[2] ^= 0x80;
        stray[14] ^= 1;
        film.insert(at, stray);
    }
    film.swap(20, 21);
    let heard = hear(&format(false, None), Transport::Udp, &film);
    assert!(!heard.quirks.contains(&Quirk::SequenceNoise), "{:?}", heard.quirks);
    assert!(heard.data() == samples(&pictures, false), "{}", heard.units.len());
}

#[test]
fn a_lost_packet_holds_others_back_for_100_ms() {
    let pictures = drawn(false);
    let mut film = Camera::new(false).film(&pictures[..3]);
    film[1].remove(1);
    let mut receiver = TrackReceiver::new(&format(false, None), Transport::Udp).unwrap();
    let mut heard = Heard::default();
    for packet in film.concat() {
        receiver.packet(&packet, MonoTime(1_000_000));
    }
    receiver.tick(MonoTime(1_099_999));
    heard.take(&mut receiver);
    assert_eq!(heard.units.len(), 0);
    receiver.tick(MonoTime(1_100_000));
    receiver.finish();
    heard.take(&mut receiver);
    assert!(heard.units.len() == 2 && heard.units[1].lost == 1);
}

// Kind F: what is a picture.

#[test]
fn any_habit_of_the_marker_bit_yields_whole_pictures() {
    for h265 in [false, true] {
        for marks in [Marks::Last, Marks::All, Marks::None, Marks::Sei, Marks::SeiAlone] {
            for mtu in [30, 200, 1400] {
                let pictures = drawn(h265);
                let mut camera = Camera { mtu, marks, ..Camera::new(h265) };
                let film = camera.film(&pictures).concat();
                let heard = hear_tcp(h265, &film);
                assert_whole(&heard, &pictures, h265);
                let old = old_way(h265, &film);
                if marks == Marks::All && mtu < 1400 {
                    assert_ne!(old, samples(&pictures, h265), "the old way fails");
                    assert!(heard.quirks.contains(&Quirk::MarkerWrong));
                }
            }
        }
    }
}

#[test]
fn a_right_marker_ends_its_picture_at_once() {
    let pictures = drawn(false);
    let mut receiver = TrackReceiver::new(&format(false, None), Transport::Tcp).unwrap();
    let mut units = Vec::new();
    for packets in Camera::new(false).film(&pictures) {
        for packet in packets {
            receiver.packet(&packet, MonoTime(0));
        }
        units.push(std::iter::from_fn(|| receiver.poll()).count());
    }
    assert_eq!(units[..3], [0, 1, 2], "learned from two, then trusted");
    assert!(units[3..].iter().all(|count| *count == 1));
}

/// SEI and delimiter alone, with stamps of their own.
fn lonely(camera: &mut Camera, at: usize) -> Nals {
    let (sei, delimiter) = ([6, 5, 1, 7, 0x80], [9, 0xf0]);
    let (sei_265, delimiter_265) = ([0x4e, 1, 5, 1, 7, 0x80], [0x46, 1, 0x50]);
    camera.time = camera.time.wrapping_sub(1800);
    let payload: &[u8] = match (at % 5, camera.h265) {
        (3, false) => &sei,
        (3, true) => &sei_265,
        (4, false) => &delimiter,
        (4, true) => &delimiter_265,
        _ => &[],
    };
    let packets = if payload.is_empty() { Vec::new() } else { vec![camera.packet(true, payload)] };
    camera.time = camera.time.wrapping_add(1800);
    packets
}

#[test]
fn sei_and_delimiters_alone_are_no_samples() {
    for h265 in [false, true] {
        let pictures = drawn(h265);
        let mut camera = Camera::new(h265);
        let mut film = Vec::new();
        for (at, picture) in pictures.iter().enumerate() {
            film.extend(lonely(&mut camera, at));
            film.extend(camera.film(std::slice::from_ref(picture)).concat());
        }
        let heard = hear_tcp(h265, &film);
        assert_eq!(heard.units.len(), pictures.len());
        assert!(heard.quirks.contains(&Quirk::SeiAlone) && heard.lost() == 0);
        assert!(heard.keys().iter().all(|at| at % 5 == 0));
        assert!(old_way(h265, &film).len() > pictures.len(), "the old way fails");
        for (unit, picture) in heard.units.iter().zip(&pictures) {
            let slices = picture.iter().filter(|nal| kind(nal, h265) < if h265 { 32 } else { 6 });
            let whole = slices.cloned().collect::<Nals>();
            assert!(unit.data.ends_with(&sample(&whole, h265)), "all slices, behind all else");
        }
    }
}

#[test]
fn sei_behind_a_picture_with_its_stamp_is_no_sample() {
    for h265 in [true, false] {
        let pictures = drawn(h265);
        let sei: &[u8] = if h265 { &[0x4e, 1, 5, 1, 7, 0x80] } else { &[6, 5, 1, 7, 0x80] };
        let mut camera = Camera::new(h265);
        let mut film = Vec::new();
        for picture in &pictures {
            film.extend(camera.picture(picture));
            film.extend([camera.packet(true, sei), camera.packet(true, sei)]);
            camera.time += 3600;
        }
        let heard = hear_tcp(h265, &film);
        assert_eq!(heard.units.len(), pictures.len());
        assert_eq!((heard.lost(), heard.bad.len()), (0, 0));
        assert!(heard.data()[1..].iter().all(|data| data.windows(3).any(|w| w == [5, 1, 7])));
        let whole = old_way(h265, &film) == samples(&pictures, h265);
        assert!(!whole, "the old way fails");
    }
}

#[test]
fn stamps_say_nothing_about_where_pictures_end() {
    for h265 in [false, true] {
        for habit in 0..4 {
            let pictures = drawn(h265);
            let marks = if habit == 3 { Marks::None } else { Marks::Last };
            let mut camera = Camera { marks, ..Camera::new(h265) };
            let mut film = camera.film(&pictures);
            let mut sent = 0;
            for (at, packet) in film
                .iter_mut()
                .enumerate()
                .flat_map(|(at, packets)| packets.iter_mut().map(move |packet| (at, packet)))
            {
                sent += 1;
                let time: u32 = match habit {
                    0 => 77,                                // frozen
                    1 => (at as u32 / 2) * 7200,            // in pairs
                    2 => sent * 90,                         // each packet its own
                    _ => 50_000_u32.wrapping_sub(sent * 9), // backward
                };
                packet[4..8].copy_from_slice(&time.to_be_bytes());
            }
            assert_whole(&hear_tcp(h265, &film.concat()), &pictures, h265);
        }
    }
}

#[test]
fn time_stamps_go_on_beyond_their_wrap() {
    let pictures = drawn(false);
    let mut camera = Camera { time: u32::MAX - 5000, ..Camera::new(false) };
    let heard = hear_tcp(false, &camera.film(&pictures).concat());
    let times: Vec<i64> = heard.units.iter().map(|unit| unit.rtp_time).collect();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 3600));
}

/// A picture of a P slice, or of an IDR slice with its sets.
fn plain(stream: &[Nals], key: bool) -> Nals {
    stream[if key { 0 } else { 1 }].clone()
}

#[test]
fn a_gop_begins_at_a_recovery_point() {
    let pictures = drawn(false);
    let point = vec![6, 6, 1, 0xc0, 0x80];
    let mut all = Vec::new();
    for at in 0..40 {
        let mut picture = plain(&pictures, at == 0);
        if at % 10 == 0 && at > 0 {
            picture.insert(1, point.clone());
        }
        all.push(picture);
    }
    let heard = hear_tcp(false, &Camera::new(false).film(&all).concat());
    assert_whole(&heard, &all, false);
    assert_eq!(heard.keys(), [0, 10, 20, 30]);
    assert!(heard.quirks.contains(&Quirk::RecoveryPoint));
    // On every picture it says nothing: every eighth counts.
    let mut each = vec![plain(&pictures, true)];
    for _ in 0..40 {
        let mut picture = plain(&pictures, false);
        picture.insert(1, point.clone());
        each.push(picture);
    }
    let heard = hear_tcp(false, &Camera::new(false).film(&each).concat());
    assert_eq!(heard.keys(), [0, 9, 18, 27, 36]);
}

#[test]
fn an_i_picture_is_a_key_when_no_other_comes() {
    let pictures = drawn(false);
    // first_mb 0, slice_type 7 (I), then what may be.
    let intra = vec![vec![0x41, 0b1000_1000, 0x33, 0x21]];
    let mut all = vec![plain(&pictures, true)];
    for at in 1..400 {
        all.push(if at % 50 == 0 { intra.clone() } else { plain(&pictures, false) });
    }
    let mut receiver = TrackReceiver::new(&format(false, None), Transport::Tcp).unwrap();
    let mut heard = Heard::default();
    for (at, packets) in Camera::new(false).film(&all).into_iter().enumerate() {
        for packet in packets {
            receiver.packet(&packet, MonoTime(at as u64 * 40_000));
        }
        heard.take(&mut receiver);
    }
    // After 10 s, which 250 pictures take.
    assert_eq!(heard.keys(), [0, 250]);
    assert!(heard.quirks.contains(&Quirk::IntraKey));
}

#[test]
fn fragments_without_end_bit_or_with_other_types_are_whole() {
    for h265 in [false, true] {
        for change in [0, 1] {
            let pictures = drawn(h265);
            let mut film = Camera::new(h265).film(&pictures).concat();
            let (kinds, at) = if h265 { (49 * 2, 14) } else { (28, 13) };
            for packet in &mut film {
                let fragment =
                    if h265 { packet[12] & 0x7e == kinds } else { packet[12] & 0x1f == kinds };
                if fragment && change == 0 {
                    packet[at] &= !0x40;
                } else if fragment && packet[at] & 0x80 == 0 {
                    packet[at] = packet[at] & 0xc0 | 1;
                }
            }
            let heard = hear_tcp(h265, &film);
            assert_whole(&heard, &pictures, h265);
            let quirk = if change == 0 { Quirk::FragmentEnd } else { Quirk::FragmentType };
            assert!(heard.quirks.contains(&quirk), "{h265} {change} {:?}", heard.quirks);
        }
    }
}

/// All NAL units in one aggregation packet.
fn aggregate(nals: &[Vec<u8>], h265: bool) -> Vec<u8> {
    let mut payload = if h265 { vec![48 * 2, 1] } else { vec![24] };
    for nal in nals {
        payload.extend((nal.len() as u16).to_be_bytes());
        payload.extend(nal);
    }
    payload
}

#[test]
fn aggregated_pictures_and_empty_nals_are_read() {
    for h265 in [false, true] {
        let pictures = drawn(h265);
        let mut camera = Camera::new(h265);
        let mut film = Vec::new();
        for picture in &pictures {
            let mut nals = picture.clone();
            nals.insert(1, Vec::new());
            film.push(camera.packet(true, &aggregate(&nals, h265)));
            film.push(camera.packet(true, &[]));
            camera.time += 3600;
        }
        let heard = hear_tcp(h265, &film);
        assert_whole(&heard, &pictures, h265);
        assert!(heard.quirks.contains(&Quirk::EmptyNal));
    }
}

#[test]
fn start_codes_in_payloads_separate_nal_units() {
    for h265 in [false, true] {
        for (leading, mtu) in [(false, 9000), (true, 9000), (false, 300)] {
            let pictures = drawn(h265);
            let mut camera = Camera { mtu, ..Camera::new(h265) };
            let mut joined = Vec::new();
            for picture in &pictures {
                let mut stream = Vec::new();
                for (at, nal) in picture.iter().enumerate() {
                    if at > 0 || leading {
                        stream.extend([0, 0, 0, 1]);
                    }
                    stream.extend(nal);
                }
                joined.push(vec![stream]);
            }
            let heard = hear_tcp(h265, &camera.film(&joined).concat());
            assert!(heard.quirks.contains(&Quirk::StartCodes));
            assert_whole(&heard, &pictures, h265);
        }
    }
}

#[test]
fn one_bad_nal_costs_one_picture_and_no_more() {
    for h265 in [false, true] {
        let bad: [&[u8]; 5] = [
            &[0x85, 0xff, 1],
            if h265 { &[0x26, 0, 1] } else { &[2, 1] },
            if h265 { &[49 * 2, 1] } else { &[28] },
            if h265 { &[48 * 2, 1, 0, 9, 1] } else { &[24, 0, 9, 1] },
            if h265 { &[50 * 2, 1, 9] } else { &[26, 1, 9] },
        ];
        for payload in bad {
            let pictures = drawn(h265);
            let mut camera = Camera { mtu: 40, ..Camera::new(h265) };
            let mut film = camera.film(&pictures[..5]);
            let last = film[4].pop().unwrap();
            camera.seq -= 1;
            let broken = camera.packet(false, payload);
            let mut again = last.clone();
            again[2..4].copy_from_slice(&camera.seq.to_be_bytes());
            camera.seq += 1;
            film[4].extend([broken, again]);
            film.extend(camera.film(&pictures[5..]));
            let heard = hear_tcp(h265, &film.concat());
            assert_eq!(heard.bad.len(), 1, "{payload:?} {:?}", heard.bad);
            assert_eq!(heard.lost(), 1, "{payload:?}");
            let mut expected = samples(&pictures, h265);
            expected.remove(4);
            assert!(heard.data() == expected, "{payload:?} {}", heard.units.len());
        }
    }
}

// Parameter sets and codecs.

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let word = group.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte))
            << (8 * (3 - group.len()));
        for at in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * at)) as usize % 64] as char;
            text.push(if at <= group.len() { digit } else { '=' });
        }
    }
    text
}

/// `fmtp` of an SDP with these sets.
fn sprop(picture: &Nals, h265: bool) -> String {
    let set =
        |wanted: u8| base64(picture.iter().find(|nal| kind(nal, h265) == wanted).expect("a set"));
    if h265 {
        format!("sprop-vps={}; sprop-sps={}; sprop-pps={}; ", set(32), set(33), set(34))
    } else {
        format!("packetization-mode=1; sprop-parameter-sets={},{};", set(7), set(8))
    }
}

/// Pictures without parameter sets.
fn without_sets(pictures: &[Nals], h265: bool) -> Vec<Nals> {
    let set = |nal: &Vec<u8>| {
        let kind = kind(nal, h265);
        if h265 { (32..35).contains(&kind) } else { kind == 7 || kind == 8 }
    };
    pictures.iter().map(|picture| picture.iter().filter(|n| !set(n)).cloned().collect()).collect()
}

#[test]
fn sets_of_the_sdp_alone_are_enough() {
    for h265 in [false, true] {
        let pictures = drawn(h265);
        let bare = without_sets(&pictures, h265);
        let film = Camera::new(h265).film(&bare).concat();
        let sdp = sprop(&pictures[0], h265);
        let heard = hear(&format(h265, Some(&sdp)), Transport::Tcp, &film);
        assert_whole(&heard, &pictures, h265);
        assert_eq!(heard.quirks, []);
        // Without any set nothing can be recorded, which is said once in a while.
        let heard = hear_tcp(h265, &film);
        assert_eq!((heard.units.len(), heard.bad.len()), (0, 1), "{:?}", heard.bad);
    }
}

#[test]
fn sets_of_the_stream_win_over_those_of_the_sdp() {
    for h265 in [false, true] {
        let pictures = drawn(h265);
        let right = hear_tcp(h265, &Camera::new(h265).film(&pictures).concat());
        let mut other = pictures[0].clone();
        let pps = other.iter_mut().find(|nal| kind(nal, h265) == if h265 { 34 } else { 8 });
        *pps.unwrap() = if h265 {
            vec![0x44, 1, 0xc0, 0x73, 0xc0, 0x4c, 0x90]
        } else {
            vec![0x68, 0xcb, 0x83, 0xcb, 0x20]
        };
        for sdp in [sprop(&other, h265), "sprop-parameter-sets=!!".into(), "x;y".into()] {
            let film = Camera::new(h265).film(&pictures).concat();
            let heard = hear(&format(h265, Some(&sdp)), Transport::Tcp, &film);
            assert_whole(&heard, &pictures, h265);
            assert_eq!(heard.units[0].params, right.units[0].params);
        }
    }
}

/// Another SPS of the same codec: 64x48.
const OTHER_SPS: [u8; 13] =
    [0x67, 0x42, 0xc0, 0x0a, 0xdc, 0x13, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10];

#[test]
fn sets_that_change_in_the_stream_come_with_their_picture() {
    let pictures = drawn(false);
    let mut all = pictures.clone();
    // A PPS alone that changes, at the third GOP.
    let pps = all[10].iter_mut().find(|nal| kind(nal, false) == 8).unwrap();
    *pps = vec![0x68, 0xcb, 0x83, 0xcb, 0x20];
    all[10].retain(|nal| kind(nal, false) != 7);
    let heard = hear_tcp(false, &Camera::new(false).film(&all).concat());
    let changed: Vec<usize> =
        (0..heard.units.len()).filter(|at| heard.units[*at].params.is_some()).collect();
    assert_eq!(changed, [0, 10, 15], "and back at the fourth");
    assert!(heard.quirks.contains(&Quirk::SetsChange));
    // An SPS that cannot be read: the one before it stays.
    let mut all = pictures.clone();
    let sps = all[10].iter_mut().find(|nal| kind(nal, false) == 7).unwrap();
    *sps = vec![0x67, 0xff];
    let heard = hear_tcp(false, &Camera::new(false).film(&all).concat());
    assert!(heard.units.len() == 20 && heard.bad.len() == 1, "{:?}", heard.bad);
    assert_eq!(heard.lost(), 0);
    let mut huge = pictures.clone();
    huge[10].insert(1, [&OTHER_SPS[..], &[7; 5000]].concat());
    let heard = hear_tcp(false, &Camera::new(false).film(&huge).concat());
    assert!(heard.units.len() == 20 && heard.bad[0].contains("too large"), "{:?}", heard.bad);
}

/// The same picture parameter set with number 1: the bits behind its header move by two.
fn renumbered(pps: &[u8], header: usize) -> Vec<u8> {
    let bits = pps[header..].iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1));
    let mut all: Vec<u8> = [0, 1].into_iter().chain(bits.skip(1)).collect();
    all.insert(2, 0);
    all.resize(all.len().div_ceil(8) * 8, 0);
    let bytes = all.chunks(8).map(|bits| bits.iter().fold(0, |byte, bit| byte << 1 | bit));
    let mut other: Vec<u8> = pps[..header].iter().copied().chain(bytes).collect();
    while other.last() == Some(&0) {
        other.pop();
    }
    other
}

#[test]
fn picture_parameter_sets_of_several_numbers_are_all_kept() {
    for h265 in [false, true] {
        let mut pictures = drawn(h265);
        let (wanted, header) = if h265 { (34, 2) } else { (8, 1) };
        for picture in &mut pictures {
            let pps = picture.iter().position(|nal| kind(nal, h265) == wanted);
            if let Some(at) = pps {
                let second = renumbered(&picture[at], header);
                picture.insert(at + 1, second);
            }
        }
        let heard = hear_tcp(h265, &Camera::new(h265).film(&pictures).concat());
        assert_whole(&heard, &pictures, h265);
        assert!(!heard.quirks.contains(&Quirk::SetsChange));
        let params = heard.units[0].params.as_deref().unwrap();
        let entry = &params.sample_entry;
        assert_eq!(entry[..4], (entry.len() as u32).to_be_bytes());
        let sets = pictures[0].iter().filter(|nal| kind(nal, h265) == wanted);
        let together: Vec<u8> = sets
            .flat_map(|nal| (nal.len() as u16).to_be_bytes().into_iter().chain(nal.clone()))
            .collect();
        let at = entry.windows(together.len()).position(|window| window == together).unwrap();
        assert_eq!(entry[at - 1], 2, "their number");
        assert_eq!(
            params.annex_b.windows(4).filter(|w| *w == [0, 0, 0, 1]).count(),
            3 + usize::from(h265)
        );
        assert_eq!(params.digest, crate::units::Digest::of(entry));
    }
}

#[test]
fn video_of_another_codec_than_the_sdp_says_is_recorded() {
    for h265 in [false, true] {
        let pictures = drawn(h265);
        let film = Camera::new(h265).film(&pictures).concat();
        let heard = hear(&format(!h265, None), Transport::Tcp, &film);
        // The delimiter before the first parameter sets is gone with the wrong reader.
        assert!(heard.data()[1..] == samples(&pictures[1..], h265), "{:?}", heard.bad);
        let first = sample(&pictures[0][1..], h265);
        assert!(heard.data()[0] == first && heard.keys()[0] == 0);
        assert!(heard.quirks.contains(&Quirk::OtherCodec));
        let codec = heard.units[0].params.as_ref().unwrap().codec;
        assert_eq!(codec, if h265 { Codec::H265 } else { Codec::H264 });
        // Without sets it is named.
        let bare: Vec<Nals> = vec![without_sets(&pictures, h265); 3].concat();
        let film = Camera::new(h265).film(&bare).concat();
        let heard = hear(&format(!h265, None), Transport::Tcp, &film);
        assert_eq!(heard.units.len(), 0);
        assert!(heard.bad.iter().any(|why| why.contains("while its SDP says")), "{h265}");
    }
}

// Bounds.

#[test]
fn a_picture_without_end_is_cut_and_named() {
    for h265 in [false, true] {
        let pictures = drawn(h265);
        let mut camera = Camera { mtu: 60_000, ..Camera::new(h265) };
        let mut film = camera.film(&pictures[..2]).concat();
        let slice: &[u8] = if h265 { &[2, 1] } else { &[0x41] };
        let endless = [slice, &vec![0xaa; 20 << 20]].concat();
        film.extend(camera.picture(&[endless]));
        film.extend(camera.film(&pictures[2..]).concat());
        let heard = hear_tcp(h265, &film);
        assert_eq!(heard.bad.len(), 1, "{:?}", heard.bad);
        assert!(heard.bad[0].contains("8 MiB"));
        assert!(heard.data() == samples(&pictures, h265));
        assert_eq!(heard.units[2].lost, 1);
    }
}

#[test]
fn a_key_frame_of_5_mib_comes_out_whole() {
    let pictures = drawn(false);
    let mut large = pictures[0].clone();
    large.last_mut().unwrap().extend(vec![0x55; 5 << 20]);
    let all = vec![large, pictures[1].clone(), pictures[2].clone()];
    let heard = hear_tcp(false, &Camera { mtu: 1400, ..Camera::new(false) }.film(&all).concat());
    assert_whole(&heard, &all, false);
}

// Sound.

fn audio(encoding: &str, rate: u32, fmtp: Option<&str>) -> TrackFormat {
    TrackFormat {
        kind: TrackKind::Audio,
        encoding: encoding.into(),
        clock_rate: rate,
        channels: None,
        fmtp: fmtp.map(str::to_owned),
        payload_type: 97,
    }
}

const HBR: &str = "streamtype=5;profile-level-id=1;mode=AAC-hbr;sizelength=13;indexlength=3;\
                   indexdeltalength=3;config=1188";

#[test]
fn g711_and_aac_come_out_as_frames() {
    for (name, codec) in [("pcma", Codec::PcmAlaw), ("pcmu", Codec::PcmMulaw)] {
        let format = audio(name, 8000, None);
        let mut camera = Camera { payload_type: 97, ..Camera::new(false) };
        let packets: Nals = (0..5)
            .map(|at| {
                camera.time += 160;
                camera.packet(false, &[at; 160])
            })
            .collect();
        let heard = hear(&format, Transport::Tcp, &packets);
        assert!(heard.units.len() == 5 && heard.units.iter().all(|unit| unit.key));
        assert_eq!(heard.units[0].params.as_ref().unwrap().codec, codec);
        assert_eq!(heard.units[4].data, vec![4; 160]);
    }
    let format = audio("mpeg4-generic", 48_000, Some(HBR));
    for marker in [true, false] {
        let mut camera = Camera { payload_type: 97, ..Camera::new(false) };
        let packets = [
            camera.packet(marker, &[0, 16, 0, 32, 1, 2, 3, 4]),
            camera.packet(marker, &[0, 32, 0, 16, 0, 24, 1, 2, 3, 4, 5]),
            // One frame in two packets.
            camera.packet(marker, &[0, 16, 0, 40, 1, 2, 3]),
            camera.packet(marker, &[0, 16, 0, 40, 4, 5]),
            camera.packet(marker, &[0, 16, 0, 8, 9]),
        ];
        let heard = hear(&format, Transport::Tcp, &packets);
        let data: Vec<&[u8]> = heard.units.iter().map(|unit| &unit.data[..]).collect();
        let expected: [&[u8]; 5] = [&[1, 2, 3, 4], &[1, 2], &[3, 4, 5], &[1, 2, 3, 4, 5], &[9]];
        assert_eq!(data, expected, "{:?}", heard.bad);
        assert_eq!(heard.units[2].rtp_time - heard.units[1].rtp_time, 1024);
    }
}

#[test]
fn bad_sound_costs_a_frame_and_low_bit_rate_is_refused() {
    let low = HBR.replace("AAC-hbr", "AAC-lbr");
    let why = TrackReceiver::new(&audio("mpeg4-generic", 8000, Some(&low)), Transport::Tcp);
    assert!(why.err().unwrap().contains("AAC-lbr"));
    let format = audio("mpeg4-generic", 48_000, Some(HBR));
    let mut camera = Camera { payload_type: 97, ..Camera::new(false) };
    let good = [0, 16, 0, 32, 1, 2, 3, 4];
    for bad in [&[0, 15, 1][..], &[0], &[0, 32, 0, 16, 0, 17, 1, 2, 3, 4], &[0, 16, 0, 200, 1]] {
        let packets =
            [camera.packet(true, &good), camera.packet(true, bad), camera.packet(true, &good)];
        let heard = hear(&format, Transport::Tcp, &packets);
        assert!(heard.units.len() >= 2 && heard.units[0].lost == 0, "{bad:?}");
        assert_eq!(heard.bad.len() + usize::from(bad.len() == 5), 1, "{bad:?} {:?}", heard.bad);
    }
}

#[test]
fn comfort_noise_is_no_sound() {
    let format = audio("pcmu", 8000, None);
    let mut camera = Camera::new(false);
    let mut packets = Vec::new();
    for at in 0..40 {
        camera.payload_type = if at % 20 < 10 { 97 } else { 13 };
        packets.push(camera.packet(false, &[at; 80]));
    }
    let heard = hear(&format, Transport::Tcp, &packets);
    assert!(heard.units.len() == 20 && heard.lost() == 0);
}

#[test]
fn packets_that_come_twice_over_tcp_are_taken_once() {
    for h265 in [false, true] {
        let pictures = drawn(h265);
        let mut camera = Camera { mtu: 100, ..Camera::new(h265) };
        let film = camera.film(&pictures);
        let each = |packets: Vec<Vec<u8>>| packets.into_iter().flat_map(|p| [p.clone(), p]);
        let doubled: Vec<Vec<u8>> = each(film.concat()).collect();
        let some = film.concat().into_iter().enumerate();
        let some: Vec<Vec<u8>> =
            some.flat_map(|(n, p)| vec![p; if n % 20 == 0 { 2 } else { 1 }]).collect();
        let twice = |picture: &Vec<Vec<u8>>| [picture.clone(), picture.clone()].concat();
        let whole: Vec<Vec<u8>> = film.iter().flat_map(twice).collect();
        for (name, packets) in [("each", doubled), ("some", some), ("pictures", whole)] {
            let heard = hear_tcp(h265, &packets);
            assert_eq!(heard.units.len(), pictures.len(), "{name}: {:?}", heard.quirks);
            assert_whole(&heard, &pictures, h265);
            assert_eq!(heard.quirks, [Quirk::RepeatedPackets, Quirk::SetsMissing], "{name}");
        }
    }
}

#[test]
fn equal_packets_with_a_constant_sequence_number_all_count() {
    use super::repeats::Known;
    let mut repeats = super::repeats::Repeats::default();
    let mut seen = |payload: u8| {
        let packet = [&[0x80, 96, 0, 0, 0, 0, 0, 1, 0, 0, 0, 9][..], &[payload]].concat();
        let header = super::header::Header::parse(&packet).unwrap();
        repeats.compare(&header, &packet[12..])
    };
    assert_eq!([1, 1].map(&mut seen), [Known::New, Known::Repeated]);
    assert_eq!([2, 1, 2, 1].map(&mut seen), [Known::NumberReused; 4]);
}
