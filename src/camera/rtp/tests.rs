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
