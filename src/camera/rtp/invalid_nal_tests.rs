//! Tests of NAL units that cannot be valid: beside the slices they cost nothing.

use super::packetiser_tests::{
    Camera, H264, H265, Heard, Nals, hear_tcp, is_slice, pictures, sample,
};
use crate::camera::quirk::Quirk;

/// NAL units that are no slices and that no decoder would take, without parameter sets.
fn invalid(h265: bool) -> Nals {
    let zeros = [&[5, 16][..], &[0; 16], &[0x80]].concat();
    let bodies: [&[u8]; 4] = [&zeros, &[5, 4, 0, 0, 2, 7, 0x80], &[0, 0, 0, 9], &[0, 0, 0, 0, 7]];
    // SEI, prefix NAL or suffix SEI, delimiter, end of sequence, filler, reserved, unspecified.
    let heads: &[&[u8]] = if h265 {
        &[&[0x4e, 1], &[0x50, 1], &[0x46, 1], &[0x48, 1], &[0x4c, 1], &[0x52, 1], &[0x6e, 1]]
    } else {
        &[&[6], &[14], &[9], &[10], &[12], &[22], &[31]]
    };
    let mut all: Nals =
        heads.iter().flat_map(|head| bodies.map(|body| [*head, body].concat())).collect();
    // The forbidden bit; a header cut off, or without a temporal id; nothing but zeros.
    let odd: &[&[u8]] = if h265 {
        &[&[0xce, 1, 5, 1, 7, 0x80], &[0x4e], &[0x46, 0, 0x50], &[0x4e, 0], &[0; 5]]
    } else {
        &[&[0x86, 5, 1, 7, 0x80], &[0x89, 0xf0], &[0], &[0; 5], &[0, 5, 6]]
    };
    all.extend(odd.iter().map(|nal| nal.to_vec()));
    all
}

fn slices(nals: &[Vec<u8>], h265: bool) -> Vec<u8> {
    let slices: Nals = nals.iter().filter(|nal| is_slice(nal, h265)).cloned().collect();
    sample(&slices, h265)
}

/// All slices of all pictures came out, each picture as one unit that ends with them.
#[track_caller]
fn assert_slices(heard: &Heard, film: &[Nals], h265: bool, of: &[u8]) {
    assert_eq!(heard.bad, Vec::<String>::new(), "{of:x?}");
    assert_eq!((heard.units.len(), heard.lost()), (film.len(), 0), "{of:x?}");
    for (unit, picture) in heard.units.iter().zip(film) {
        let slices = slices(picture, h265);
        assert!(unit.data.windows(slices.len()).any(|at| at == slices), "{of:x?}");
    }
}

#[test]
fn an_invalid_nal_unit_before_a_picture_costs_nothing() {
    for h265 in [false, true] {
        let film = pictures(if h265 { H265 } else { H264 }, h265);
        for nal in invalid(h265) {
            for mtu in [6, 1400] {
                let mut camera = Camera { mtu, ..Camera::new(h265) };
                let mut packets = Vec::new();
                for picture in &film {
                    camera.time -= 1800;
                    let payloads = camera.payloads(&nal);
                    packets.extend(payloads.iter().map(|payload| camera.packet(true, payload)));
                    camera.time += 1800;
                    packets.extend(camera.film(std::slice::from_ref(picture)).concat());
                }
                let heard = hear_tcp(h265, &packets);
                assert_slices(&heard, &film, h265, &nal);
                assert!(heard.data().iter().all(|data| !data.windows(5).any(|at| at == [0; 5])));
            }
        }
    }
}

#[test]
fn an_invalid_nal_unit_behind_a_picture_costs_nothing() {
    for h265 in [false, true] {
        let film = pictures(if h265 { H265 } else { H264 }, h265);
        for nal in invalid(h265) {
            let mut camera = Camera::new(h265);
            let mut packets = Vec::new();
            for picture in &film {
                packets.extend(camera.picture(picture));
                packets.push(camera.packet(false, &nal));
                camera.time += 3600;
            }
            assert_slices(&hear_tcp(h265, &packets), &film, h265, &nal);
        }
    }
}

#[test]
fn an_invalid_nal_unit_in_an_aggregation_costs_nothing() {
    for h265 in [false, true] {
        let film = pictures(if h265 { H265 } else { H264 }, h265);
        for nal in invalid(h265) {
            let mut camera = Camera { mtu: 40_000, ..Camera::new(h265) };
            let mut packets = Vec::new();
            for picture in &film {
                let mut payload = if h265 { vec![48 << 1, 1] } else { vec![24] };
                for part in std::iter::once(&nal).chain(picture) {
                    payload.extend((part.len() as u16).to_be_bytes());
                    payload.extend(part);
                }
                packets.push(camera.packet(true, &payload));
                camera.time += 3600;
            }
            let heard = hear_tcp(h265, &packets);
            assert_slices(&heard, &film, h265, &nal);
            // Reserved types are left out as the standard says, which is no quirk.
            if nal.len() > 6 && nal[0] != 22 {
                assert!(heard.quirks.contains(&Quirk::NalLeftOut), "{nal:x?} {:?}", heard.quirks);
            }
        }
    }
}

#[test]
fn an_invalid_nal_unit_between_fragments_costs_nothing() {
    for h265 in [false, true] {
        let film = pictures(if h265 { H265 } else { H264 }, h265);
        for nal in invalid(h265).into_iter().filter(|nal| nal[0] != 22) {
            let mut camera = Camera { mtu: 40, ..Camera::new(h265) };
            let mut packets = Vec::new();
            for picture in &film {
                let (slice, before) = picture.split_last().unwrap();
                for part in before {
                    let payloads = camera.payloads(part);
                    packets.extend(payloads.iter().map(|payload| camera.packet(false, payload)));
                }
                let payloads = camera.payloads(slice);
                for (at, payload) in payloads.iter().enumerate() {
                    if at == 1 {
                        packets.push(camera.packet(false, &nal));
                    }
                    packets.push(camera.packet(at + 1 == payloads.len(), payload));
                }
                camera.time += 3600;
            }
            assert_slices(&hear_tcp(h265, &packets), &film, h265, &nal);
        }
    }
}

#[test]
fn zeros_behind_nal_units_are_left_out() {
    for h265 in [false, true] {
        let film = pictures(if h265 { H265 } else { H264 }, h265);
        for zeros in 1..7 {
            for mtu in [7, 64, 1400] {
                let mut padded = film.clone();
                for nal in padded.iter_mut().flatten() {
                    nal.extend(vec![0; zeros]);
                }
                let mut camera = Camera { mtu, ..Camera::new(h265) };
                let heard = hear_tcp(h265, &camera.film(&padded).concat());
                assert_eq!((heard.lost(), heard.bad.len()), (0, 0), "{zeros} {mtu}");
                let expected: Vec<_> = film.iter().map(|nals| sample(nals, h265)).collect();
                assert!(heard.data() == expected, "{h265} {zeros} zeros in packets of {mtu}");
            }
        }
    }
}

#[test]
fn forbidden_bytes_in_an_h264_slice_cost_that_picture_alone() {
    let film = pictures(H264, false);
    for bytes in [[0, 0, 2], [0, 0, 0]] {
        let mut broken = film.clone();
        broken[7].last_mut().unwrap().extend([&bytes[..], &[9]].concat());
        let heard = hear_tcp(false, &Camera::new(false).film(&broken).concat());
        assert_eq!((heard.units.len(), heard.lost()), (film.len() - 1, 1));
        assert_eq!(heard.bad.len(), 1);
    }
}
