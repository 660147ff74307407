//! A small packetiser for the tests: it shares no code with the reader.

use bytes::Bytes;

use super::{MediaUnit, Received, TrackReceiver};
use crate::camera::TrackKind;
use crate::camera::quirk::Quirk;
use crate::camera::track_format::TrackFormat;
use crate::settings::Transport;
use crate::units::MonoTime;

pub(super) const H264: &[u8] = include_bytes!("golden/drawn.h264");
pub(super) const H265: &[u8] = include_bytes!("golden/drawn.h265");

/// NAL units.
pub(super) type Nals = Vec<Vec<u8>>;

/// The pictures of an Annex B stream, each with what stands before it.
pub(super) fn pictures(stream: &[u8], h265: bool) -> Vec<Nals> {
    let mut nals: Nals = Vec::new();
    let mut at = 0;
    while at + 3 <= stream.len() {
        if stream[at..].starts_with(&[0, 0, 1]) {
            nals.push(Vec::new());
            at += 3;
        } else {
            if let Some(nal) = nals.last_mut() {
                nal.push(stream[at]);
            }
            at += 1;
        }
    }
    if let Some(nal) = nals.last_mut() {
        nal.extend(&stream[at..]);
    }
    let mut pictures: Vec<Nals> = Vec::new();
    let mut sliced = true;
    for mut nal in nals {
        while nal.last() == Some(&0) {
            nal.pop();
        }
        let slice = is_slice(&nal, h265);
        let first = slice && nal[if h265 { 2 } else { 1 }] >= 0x80;
        if sliced && (first || !slice) {
            pictures.push(Vec::new());
            sliced = false;
        }
        sliced |= slice;
        pictures.last_mut().unwrap().push(nal);
    }
    pictures
}

pub(super) fn kind(nal: &[u8], h265: bool) -> u8 {
    if h265 { nal[0] / 2 % 64 } else { nal[0] % 32 }
}

pub(super) fn is_slice(nal: &[u8], h265: bool) -> bool {
    let kind = kind(nal, h265);
    if h265 { kind < 32 } else { kind == 1 || kind == 5 }
}

fn is_set(nal: &[u8], h265: bool) -> bool {
    let kind = kind(nal, h265);
    if h265 { (32..35).contains(&kind) } else { kind == 7 || kind == 8 }
}

/// What a picture is in an MP4 file: each NAL unit but parameter sets, after its length.
pub(super) fn sample(picture: &[Vec<u8>], h265: bool) -> Vec<u8> {
    let mut sample = Vec::new();
    for nal in picture.iter().filter(|nal| !is_set(nal, h265)) {
        sample.extend((nal.len() as u32).to_be_bytes());
        sample.extend(nal);
    }
    sample
}

/// Where a camera sets the marker bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marks {
    Last,
    All,
    None,
    /// On all NAL units that are no slices, and the last packet.
    Sei,
    /// On SEI and sets alone.
    SeiAlone,
}

/// A camera that sends pictures.
#[derive(Debug, Clone)]
pub(super) struct Camera {
    pub(super) h265: bool,
    pub(super) seq: u16,
    pub(super) ssrc: u32,
    pub(super) payload_type: u8,
    pub(super) mtu: usize,
    pub(super) time: u32,
    pub(super) marks: Marks,
}

impl Camera {
    pub(super) fn new(h265: bool) -> Camera {
        let (seq, ssrc, payload_type) = (65_000, 0x1122_3344, 96);
        Camera { h265, seq, ssrc, payload_type, mtu: 200, time: 123_456, marks: Marks::Last }
    }

    pub(super) fn packet(&mut self, marker: bool, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x80, self.payload_type + if marker { 128 } else { 0 }];
        packet.extend(self.seq.to_be_bytes());
        packet.extend(self.time.to_be_bytes());
        packet.extend(self.ssrc.to_be_bytes());
        packet.extend(payload);
        self.seq = self.seq.wrapping_add(1);
        packet
    }

    /// The payloads of a NAL unit.
    pub(super) fn payloads(&self, nal: &[u8]) -> Nals {
        if nal.len() <= self.mtu {
            return vec![nal.to_vec()];
        }
        let (head, body) = nal.split_at(if self.h265 { 2 } else { 1 });
        let count = body.len().div_ceil(self.mtu);
        let mut all = Vec::new();
        for (i, piece) in body.chunks(self.mtu).enumerate() {
            let flags = if i == 0 { 128 } else { 0 } + if i + 1 == count { 64 } else { 0 };
            let mut payload = if self.h265 {
                vec![(head[0] & 0x81) + 49 * 2, head[1], flags + head[0] / 2 % 64]
            } else {
                vec![head[0] / 32 * 32 + 28, flags + head[0] % 32]
            };
            payload.extend(piece);
            all.push(payload);
        }
        all
    }

    /// The packets of a picture.
    pub(super) fn picture(&mut self, nals: &[Vec<u8>]) -> Nals {
        let mut packets = Vec::new();
        for (i, nal) in nals.iter().enumerate() {
            let payloads = self.payloads(nal);
            let count = payloads.len();
            for (j, payload) in payloads.into_iter().enumerate() {
                let last = i + 1 == nals.len() && j + 1 == count;
                let other = !is_slice(nal, self.h265) && j + 1 == count;
                let marker = match self.marks {
                    Marks::Last => last,
                    Marks::All => true,
                    Marks::None => false,
                    Marks::Sei => last || other,
                    Marks::SeiAlone => other,
                };
                packets.push(self.packet(marker, &payload));
            }
        }
        packets
    }

    /// The packets of pictures at 25 pictures a second.
    pub(super) fn film(&mut self, pictures: &[Nals]) -> Vec<Nals> {
        let mut film = Vec::new();
        for picture in pictures {
            film.push(self.picture(picture));
            self.time = self.time.wrapping_add(3600);
        }
        film
    }
}

pub(super) fn format(h265: bool, fmtp: Option<&str>) -> TrackFormat {
    TrackFormat {
        kind: TrackKind::Video,
        encoding: if h265 { "h265" } else { "h264" }.into(),
        clock_rate: 90_000,
        channels: None,
        fmtp: fmtp.map(str::to_owned),
        payload_type: 96,
    }
}

/// What came out of a receiver.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) units: Vec<MediaUnit>,
    pub(super) bad: Vec<String>,
    pub(super) quirks: Vec<Quirk>,
}

impl Heard {
    pub(super) fn data(&self) -> Vec<Bytes> {
        self.units.iter().map(|unit| unit.data.clone()).collect()
    }

    pub(super) fn lost(&self) -> u32 {
        self.units.iter().map(|unit| unit.lost).sum()
    }

    pub(super) fn keys(&self) -> Vec<usize> {
        let keys = self.units.iter().enumerate().filter(|(_, unit)| unit.key);
        keys.map(|(at, _)| at).collect()
    }

    pub(super) fn take(&mut self, receiver: &mut TrackReceiver) {
        while let Some(received) = receiver.poll() {
            match received {
                Received::Unit(unit) => self.units.push(unit),
                Received::Bad(why) => self.bad.push(why),
            }
        }
        self.quirks = receiver.quirks().seen().map(|(quirk, _)| quirk).collect();
    }
}

/// Gives packets to a receiver, 1 ms apart, and finishes it.
pub(super) fn hear(format: &TrackFormat, transport: Transport, packets: &[Vec<u8>]) -> Heard {
    let mut receiver = TrackReceiver::new(format, transport).unwrap();
    let mut heard = Heard::default();
    for (at, packet) in packets.iter().enumerate() {
        receiver.packet(packet, MonoTime(at as u64 * 1000));
        heard.take(&mut receiver);
    }
    receiver.finish();
    heard.take(&mut receiver);
    heard
}

/// Hears packets of the drawn streams over TCP.
pub(super) fn hear_tcp(h265: bool, packets: &[Vec<u8>]) -> Heard {
    hear(&format(h265, None), Transport::Tcp, packets)
}
