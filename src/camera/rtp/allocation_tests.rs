//! Counts the heap allocations that one packet costs, from the socket's bytes to the picture.

use super::packetiser_tests::{Camera, H264, Nals, format, pictures};
use super::*;
use crate::camera::auth_limiter::AuthOutcome;
use crate::camera::rtsp::client::{Client, ClientOptions, Event};
use crate::camera::rtsp::set_up::Sound;
use crate::units::MonoTime;

/// Pictures of the measured film: a minute at 25 pictures a second.
const PICTURES: usize = 1_500;
/// Bytes of a read from the socket.
const READ: usize = 16 << 10;

/// A client whose camera plays one video track on channel 0.
fn playing() -> Client {
    let mut client = Client::new(ClientOptions {
        url: url::Url::parse("rtsp://10.0.0.2/cam").unwrap(),
        url_key: "camera.main_url",
        login: None,
        transport: Transport::Tcp,
        udp_ports: [(0, 0); 2],
        sound: Sound::Off,
        seed: [7; 32],
        accepts: |_| Ok(()),
    });
    client.connected(MonoTime(1_000_000));
    let sdp = "v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:track1\r\n";
    let described = format!("Content-Length: {}\r\n\r\n{sdp}", sdp.len());
    let set_up = "Session: 1\r\nTransport: RTP/AVP/TCP;interleaved=0-1\r\n\r\n";
    for (number, rest) in [(1, described.as_str()), (2, set_up), (3, "\r\n")] {
        client.received(format!("RTSP/1.0 200 OK\r\nCSeq: {number}\r\n{rest}").as_bytes());
        while client.poll(MonoTime(1_000_000)).is_some() {}
        client.take_output();
    }
    assert_eq!(client.auth_outcome(), AuthOutcome::NotAsked);
    client
}

/// The bytes on the socket of a film of `pictures` with packets of `mtu` bytes, and its packets.
fn on_the_socket(pictures: &[Nals], mtu: usize) -> (Vec<u8>, usize) {
    let mut camera = Camera { mtu, ..Camera::new(false) };
    let (mut bytes, mut count) = (Vec::new(), 0);
    for packet in camera.film(pictures).concat() {
        bytes.extend([b'$', 0]);
        bytes.extend((packet.len() as u16).to_be_bytes());
        bytes.extend(packet);
        count += 1;
    }
    (bytes, count)
}

#[test]
fn a_picture_costs_about_one_allocation() {
    let gop = pictures(H264, false);
    let film: Vec<Nals> = gop.iter().cycle().take(PICTURES).cloned().collect();
    let (bytes, packets) = on_the_socket(&film, 40);
    assert!(packets > 4 * PICTURES, "{packets} packets are too few for a camera's picture");
    let mut client = playing();
    let mut receiver = TrackReceiver::new(&format(false, None), Transport::Tcp).unwrap();
    let mut units = 0;
    let counted = allocation_counter::measure(|| {
        for (at, read) in bytes.chunks(READ).enumerate() {
            let now = MonoTime(1_000_000 + at as u64 * 1_000);
            client.received(read);
            while let Some(event) = client.poll(now) {
                if let Event::Packet { rtcp: false, bytes, .. } = event {
                    receiver.packet(bytes, now);
                    while let Some(received) = receiver.poll() {
                        units += usize::from(matches!(received, Received::Unit(_)));
                    }
                }
            }
        }
    });
    let (total, each) = (counted.count_total, counted.count_total as f64 / packets as f64);
    println!("SIZE {total} allocations, {packets} packets, {units} pictures: {each:.2} a packet");
    assert!(units + 1 >= PICTURES, "{units} of {PICTURES} pictures");
    assert!(each < 0.25, "{each:.2} allocations a packet");
}
