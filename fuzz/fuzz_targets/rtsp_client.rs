//! Fuzz target of the RTSP client machine: whatever a camera sends, it ends or waits, asks a bounded
//! number of times, and shows no password.
#![no_main]

use libfuzzer_sys::fuzz_target;
use taimat::camera::rtsp::client::{Client, ClientOptions, Event};
use taimat::camera::rtsp::limits::BUFFER_MAX;
use taimat::camera::rtsp::set_up::Sound;
use taimat::settings::{Login, Transport};
use taimat::units::{MonoTime, Secret};

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else { return };
    let mut client = Client::new(ClientOptions {
        url: url::Url::parse("rtsp://10.0.0.2/cam").expect("valid URL"),
        url_key: "camera.main_url",
        login: (first & 1 != 0).then(|| Login { user: "admin".into(), password: Secret::new("hunter2-secret") }),
        transport: if first & 2 != 0 { Transport::Udp } else { Transport::Tcp },
        udp_ports: [(5000, 5001), (5002, 5003)],
        sound: Sound::Wanted,
        seed: [0; 32],
        accepts: |_| Ok(()),
    });
    let mut now = MonoTime(1);
    client.connected(now);
    let (mut requests, mut ended) = (0, false);
    // 0xff ends a piece: half a second passes, and the camera answers what was asked.
    for piece in rest.split(|byte| *byte == 0xff) {
        requests += client.take_output().windows(4).filter(|four| *four == b"\r\n\r\n").count();
        client.received(piece);
        let mut events = 0;
        while let Some(event) = client.poll(now) {
            events += 1;
            assert!(events <= piece.len() + 16);
            match event {
                Event::Ended((_, why)) => {
                    // Parts of it may come from the camera; the password as a whole never leaves.
                    assert!(first & 1 == 0 || !why.contains("hunter2-secret"), "{why}");
                    ended = true;
                }
                Event::Connect(..) => {
                    client.connected(now);
                    break;
                }
                _ => {}
            }
        }
        assert!(client.held() <= BUFFER_MAX + piece.len());
        now = now.plus_micros(500_000);
        client.tick(now);
    }
    assert!(requests <= 100 + 4 * rest.len() / 8, "{requests} requests");
    client.closed(None);
    while client.poll(now).is_some_and(|event| !matches!(event, Event::Connect(..))) {}
    client.tear_down(now);
    client.tick(now.plus_secs(60));
    let torn_down = std::iter::from_fn(|| client.poll(now).map(|event| event == Event::TornDown)).any(|is| is);
    assert!(torn_down, "ended: {ended}");
});
