//! Fuzz target of RTP: no sequence of packets panics, and what is held stays bounded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use taimat::camera::TrackKind;
use taimat::camera::rtp::{Received, TrackReceiver};
use taimat::camera::track_format::TrackFormat;
use taimat::settings::Transport;
use taimat::units::MonoTime;

// The first byte chooses codec and transport; then packets, each after its length in a byte, with a
// header that is mostly right. Some packets come again, alone or with those before them.
fuzz_target!(|data: &[u8]| {
    let Some((choice, mut rest)) = data.split_first() else { return };
    let (kind, encoding) = match choice & 3 {
        0 => (TrackKind::Video, "h264"),
        1 => (TrackKind::Video, "h265"),
        2 => (TrackKind::Audio, "mpeg4-generic"),
        _ => (TrackKind::Audio, "pcmu"),
    };
    let aac = "mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3;config=1188";
    let format = TrackFormat {
        kind,
        encoding: encoding.into(),
        clock_rate: if kind == TrackKind::Video { 90_000 } else { 48_000 },
        channels: None,
        fmtp: (choice & 3 == 2).then(|| aac.into()),
        payload_type: 96,
    };
    let transport = if choice & 4 == 0 { Transport::Tcp } else { Transport::Udp };
    let mut receiver = TrackReceiver::new(&format, transport).expect("a known format");
    let (mut seq, mut now, mut parameters) = (0_u16, 0, false);
    let mut latest: Vec<Vec<u8>> = Vec::new();
    while let [head, length, more @ ..] = rest {
        let (payload, more) = more.split_at(usize::from(*length).min(more.len()));
        rest = more;
        seq = seq.wrapping_add(if head & 0x70 == 0x70 { 9 } else { 1 });
        now += 1000 * u64::from(head & 15);
        let mut packet = vec![0x80, 96 | head & 0x80];
        packet.extend(seq.to_be_bytes());
        packet.extend((now as u32 / 8).to_be_bytes());
        packet.extend([0, 0, 0, if head & 0x0f == 0x0f { 2 } else { 1 }]);
        packet.extend_from_slice(payload);
        receiver.packet(if head & 0x7f == 0x7f { payload } else { &packet }, MonoTime(now));
        latest.push(packet);
        if head & 0x70 == 0x60 {
            let again = usize::from(head & 15) + 1;
            for packet in &latest[latest.len().saturating_sub(again)..] {
                receiver.packet(packet, MonoTime(now));
            }
        }
        receiver.tick(MonoTime(now));
        while let Some(received) = receiver.poll() {
            if let Received::Unit(unit) = received {
                assert!(unit.data.len() <= 9 << 20);
                parameters |= unit.params.is_some();
                assert!(parameters, "a unit came before its parameters");
            }
        }
    }
    receiver.finish();
});
