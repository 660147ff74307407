//! Tests of the RTSP client against the simulated camera.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::rtsp::{self, Stream};
use super::{CameraFault, CameraUpdate, StreamRole};
use crate::clock::SystemClock;
use crate::settings::parse;
use crate::sim::camera::{Options, SimCamera, Sound};
use crate::wakeup::WakeupCoalescer;
use crate::watchdog::Heartbeat;

/// The inputs of the task of a main stream.
fn stream(main_url: &str) -> Stream {
    let text = format!(
        "site = \"a\"\nstorage.dir = \"/\"\nuplink.host = \"localhost\"\n[camera]\nmain_url = {main_url:?}\nlogin_file = \"login\"",
    );
    let settings = parse::parse(&text, &|_| Ok("admin:taimat".into())).unwrap().camera;
    Stream {
        role: StreamRole::Main,
        settings,
        clock: Arc::new(SystemClock::new()),
        shared: Arc::default(),
        heartbeat: Heartbeat::default(),
        run: 0,
        wakeup: WakeupCoalescer::default(),
    }
}

/// Plays the main stream of a camera until `until` returns a value for an update.
fn play<T>(camera: &SimCamera, mut until: impl FnMut(CameraUpdate) -> Option<T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let found = runtime.block_on(async {
        let (update, mut updates) = mpsc::channel(16);
        let (_stop, stopped) = watch::channel(false);
        tokio::spawn(rtsp::run(stream(&camera.main_url()), |_| {}, update, stopped));
        let seen = async {
            loop {
                if let Some(found) = until(updates.recv().await.unwrap()) {
                    return found;
                }
            }
        };
        timeout(Duration::from_secs(20), seen).await
    });
    runtime.shutdown_background();
    found.expect("no such update within 20 s")
}

fn camera(sound: Sound) -> SimCamera {
    SimCamera::start(Options { main: (64, 48), sub: (64, 48), sound, ..Options::default() })
        .unwrap()
}

#[test]
fn pictures_are_recorded_without_unusable_sound() {
    for (sound, why) in [(Sound::LowBitRate, "mpeg4-generic"), (Sound::Refused, "461")] {
        let tracks = play(&camera(sound), |update| match update {
            CameraUpdate::Up { tracks, .. } => Some(tracks),
            // The camera may still be starting and answer the first DESCRIBE with 503.
            _ => None,
        });
        assert!(
            tracks.starts_with("h264 64x48, without sound: ") && tracks.contains(why),
            "{tracks}"
        );
    }
}

#[test]
fn damaged_packets_are_counted_and_the_session_goes_on() {
    let camera = camera(Sound::None);
    let mut up = false;
    let counts = play(&camera, |update| match update {
        CameraUpdate::Up { .. } => {
            up = true;
            camera.faults().bad_packets.store(50, Ordering::Relaxed);
            None
        }
        CameraUpdate::Counts { counts, .. } => Some(counts).filter(|_| up),
        CameraUpdate::Quirks { .. } => None,
        // The camera may still be starting and answer the first DESCRIBE with 503.
        other => {
            if up {
                panic!("{other:?}")
            } else {
                None
            }
        }
    });
    assert!(counts.bad_packets + counts.lost_packets > 0, "{counts:?}");
}

/// The first failure of a stream whose camera has this URL.
fn first_failure(url: &str) -> (CameraFault, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let found = runtime.block_on(async {
        let (update, mut updates) = mpsc::channel(16);
        let (_stop, stopped) = watch::channel(false);
        tokio::spawn(rtsp::run(stream(url), |_| {}, update, stopped));
        loop {
            if let Some(CameraUpdate::Down { fault, detail, .. }) = updates.recv().await {
                return (fault, detail);
            }
        }
    });
    runtime.shutdown_background();
    found
}

#[test]
fn a_port_that_accepts_and_stays_silent_is_named_so() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    let (fault, detail) = first_failure(&format!("rtsp://{}/", port.local_addr().unwrap()));
    assert_eq!(fault, CameraFault::Protocol, "{detail}");
    for part in [
        "accepts connections",
        "no RTSP answer within 5 s",
        "check port and protocol of camera.main_url",
    ] {
        assert!(detail.contains(part), "{detail}");
    }
}

#[test]
fn a_port_of_another_protocol_is_named_so() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rtsp://{}/", port.local_addr().unwrap());
    let greeting = std::thread::spawn(move || {
        let (mut client, _) = port.accept().unwrap();
        client.write_all(b"SSH-2.0-x").unwrap();
        client
    });
    let (fault, detail) = first_failure(&url);
    assert_eq!(fault, CameraFault::Protocol, "{detail}");
    assert!(detail.contains("sends no RTSP answer") && detail.contains("check port"), "{detail}");
    drop(greeting.join().unwrap());
}

#[test]
fn a_refused_connection_names_the_next_step() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (fault, detail) = first_failure(&format!("rtsp://{port}/"));
    assert_eq!(fault, CameraFault::Unreachable);
    assert!(detail.contains("refused") && detail.contains("check the port"), "{detail}");
}

#[test]
fn a_host_name_without_address_names_the_next_step() {
    let (fault, detail) = first_failure("rtsp://no-such-camera.invalid/");
    assert_eq!(fault, CameraFault::Unreachable);
    assert!(detail.contains("check the host name"), "{detail}");
}

/// Answers one session up to PLAY, then sends media without end and reads nothing more.
fn flood(mut camera: TcpStream) {
    const SDP: &str =
        "v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:track1\r\n";
    let mut reader = BufReader::new(camera.try_clone().unwrap());
    let mut plays = false;
    while !plays {
        let (mut head, mut line) = (String::new(), String::new());
        while reader.read_line(&mut line).unwrap_or(0) > 2 {
            head.push_str(&std::mem::take(&mut line));
        }
        let number = head.split("CSeq: ").nth(1).and_then(|rest| rest.lines().next());
        let Some(number) = number else { return };
        let (more, body) = match head.split(' ').next().unwrap() {
            "DESCRIBE" => ("Content-Type: application/sdp\r\n", SDP),
            "SETUP" => ("Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n", ""),
            _ => ("Session: 1\r\n", ""),
        };
        plays = head.starts_with("PLAY");
        let len = body.len();
        let answer = format!(
            "RTSP/1.0 200 OK\r\nCSeq: {number}\r\n{more}Content-Length: {len}\r\n\r\n{body}"
        );
        camera.write_all(answer.as_bytes()).unwrap();
    }
    let mut seq = 0_u16;
    let mut packet = [&[b'$', 0, 4, 0, 0x80, 0xe0][..], &[0x41; 1022]].concat();
    loop {
        packet[6..8].copy_from_slice(&seq.to_be_bytes());
        seq = seq.wrapping_add(1);
        if camera.write_all(&packet).is_err() {
            return;
        }
    }
}

#[test]
fn a_stop_does_not_wait_for_a_camera_that_floods() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rtsp://127.0.0.1:{}/a", listener.local_addr().unwrap().port());
    let camera = std::thread::spawn(move || flood(listener.accept().unwrap().0));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let took = runtime.block_on(async {
        let (update, mut updates) = mpsc::channel(256);
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(rtsp::run(stream(&url), |_| {}, update, stopped));
        tokio::spawn(async move { while updates.recv().await.is_some() {} });
        tokio::time::sleep(Duration::from_secs(2)).await;
        let begin = std::time::Instant::now();
        stop.send(true).unwrap();
        task.await.unwrap();
        begin.elapsed()
    });
    camera.join().unwrap();
    assert!(took < Duration::from_millis(1_500), "{took:?}");
}
