//! The client machine against cameras that mean harm: endless input, and logins in answers.

use super::client::{Client, ClientOptions, Event};
use super::limits::{HELD_MAX, READ_MAX};
use super::set_up::Sound;
use crate::camera::Failure;
use crate::camera::auth_limiter::AuthOutcome;
use crate::settings::{Login, Transport};
use crate::units::{MonoTime, Secret};

const START: MonoTime = MonoTime(1_000_000);
const SDP: &str = "v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:track1\r\n";
/// Bytes of endless input that a session is given.
const ENDLESS: usize = 1 << 20;

fn client() -> Client {
    let options = ClientOptions {
        url: url::Url::parse("rtsp://10.0.0.2/cam").unwrap(),
        url_key: "camera.main_url",
        login: Some(Login { user: "admin".into(), password: Secret::new("S3cret/Pw77") }),
        transport: Transport::Tcp,
        udp_ports: [(0, 0); 2],
        sound: Sound::Off,
        seed: [7; 32],
        accepts: |_| Ok(()),
    };
    let mut client = Client::new(options);
    client.connected(START);
    client
}

/// Takes all events; the failure, if one is among them.
fn drain(client: &mut Client) -> Option<Failure> {
    let mut ended = None;
    while let Some(event) = client.poll(START) {
        if let Event::Ended(failure) = event {
            ended = Some(failure);
        }
    }
    ended
}

/// Why a session ends whose DESCRIBE is answered so.
fn end_of(answer: &str) -> Failure {
    let mut client = client();
    client.received(answer.as_bytes());
    let ended = drain(&mut client);
    client.tick(START.plus_secs(1));
    ended.or_else(|| drain(&mut client)).expect("the session goes on")
}

/// What stands before the endless input of each kind, and what is repeated.
fn endless(kind: usize) -> (String, Vec<u8>) {
    let open = "RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Type: application/sdp\r\n";
    let foreign = b"RTSP/1.0 200 OK\r\nCSeq: 999\r\n\r\n".to_vec();
    let with_body =
        [&b"RTSP/1.0 200 OK\r\nCSeq: 999\r\nContent-Length: 60000\r\n\r\n"[..], &[b'x'; 60_000]];
    match kind {
        0 => (format!("{open}\r\n{SDP}"), b"a=x:yyyyyyyy\r\n".to_vec()),
        1 => (format!("{open}Content-Length: 5\r\n\r\nv=0\r\n{SDP}"), b"a=x:yyyyyyyy\r\n".to_vec()),
        2 => (format!("{open}\r\nv=0\r\n"), with_body.concat()),
        3 => (format!("{open}Content-Length: {}\r\n\r\n{SDP}", SDP.len()), foreign),
        4 => (format!("{open}\r\n{SDP}"), b"\x01garbage\xff\x00$\x09".to_vec()),
        _ => (format!("{open}\r\n{SDP}"), [&b"$\x00\xea\x60"[..], &[0x80; 60_000]].concat()),
    }
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(36))]
    #[test]
    fn endless_input_of_any_kind_is_held_within_the_limit(
        kind in 0_usize..6, chunks in proptest::collection::vec(1_usize..=READ_MAX, 1..8), small in 0_usize..3,
    ) {
        let (first, piece) = endless(kind);
        let mut client = client();
        let mut input = first.into_bytes();
        let (mut given, mut ended, mut turn) = (0, None, 0);
        while given < ENDLESS && ended.is_none() {
            let len = if small == 0 { 1 + chunks[turn % chunks.len()] % 900 } else { chunks[turn % chunks.len()] };
            turn += 1;
            while input.len() < len {
                input.extend_from_slice(&piece);
            }
            client.received(&input[..len]);
            input.drain(..len);
            given += len;
            let held = client.held();
            proptest::prop_assert!(held <= HELD_MAX, "kind {}: {} bytes held after {}", kind, held, given);
            ended = drain(&mut client);
            client.take_output();
        }
        // Frames of a channel that is set up are media: all else ends the session.
        proptest::prop_assert!(ended.is_some() || kind == 5, "kind {} goes on", kind);
    }
}

#[test]
fn a_body_that_drips_for_ever_ends_within_the_time_of_an_answer() {
    let mut client = client();
    client.received(b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\nx");
    let mut now = START;
    for _ in 0..60 {
        now = now.plus_micros(400_000);
        client.received(b"x");
        while let Some(event) = client.poll(now) {
            if let Event::Ended((_, why)) = event {
                return assert!(why.contains("describes no media"), "{why}");
            }
        }
        client.tick(now);
    }
    panic!("the body is awaited for ever");
}

#[test]
fn a_camera_that_sends_each_answer_twice_is_kept() {
    let mut client = client();
    let describe =
        format!("RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: {}\r\n\r\n{SDP}", SDP.len());
    for (number, more) in [(2, "Session: 1\r\nTransport: RTP/AVP/TCP;interleaved=0-1\r\n"), (3, "")]
    {
        if number == 2 {
            client.received(describe.as_bytes());
            assert_eq!(drain(&mut client), None);
        }
        client.received(format!("RTSP/1.0 200 OK\r\nCSeq: {number}\r\n{more}\r\n").as_bytes());
        assert_eq!(drain(&mut client), None);
    }
    let mut now = START;
    for number in 4..200 {
        now = now.plus_secs(30);
        client.tick(now);
        let answer = format!("RTSP/1.0 200 OK\r\nCSeq: {number}\r\n\r\n");
        client.received(answer.repeat(2).as_bytes());
        assert_eq!(drain(&mut client), None, "answer {number}");
    }
}

#[test]
fn no_answer_brings_the_login_into_the_failure() {
    let pad = "x".repeat(50);
    for answer in [
        "RTSP/1.0 500 bad S3cret/Pw77 here\r\nCSeq: 1\r\n\r\n".to_owned(),
        "RTSP/1.0 500 bad S3cret%2FPw77\r\nCSeq: 1\r\n\r\n".to_owned(),
        "RTSP/1.0 500 bad s3cret%2fpw77\r\nCSeq: 1\r\n\r\n".to_owned(),
        format!("RTSP/1.0 500 {pad} S3cret/Pw77\r\nCSeq: 1\r\n\r\n"),
        "RTSP/1.0 abc S3cret/Pw77\r\nCSeq: 1\r\n\r\n".to_owned(),
        "RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n<html>login failed for admin S3cret/Pw77</html>".to_owned(),
        format!("RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n{pad} S3cret/Pw77"),
        "RTSP/1.0 302 Go\r\nCSeq: 1\r\nLocation: rtsp://10.0.0.3/S3cret/Pw77\r\n\r\n".to_owned(),
        "RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\nm=S3cret/Pw77 0 RTP/AVP 96\r\na=rtpmap:96 S3cret/Pw77/9\r\n".to_owned(),
    ] {
        let why = end_of(&answer).1.to_ascii_lowercase();
        assert!(!why.contains("s3cr"), "{answer} ends with: {why}");
    }
}

#[test]
fn a_fresh_nonce_called_stale_is_a_refusal_of_the_login() {
    let mut client = client();
    for number in 1..=2 {
        let answer = format!(
            "RTSP/1.0 401 No\r\nCSeq: {number}\r\nWWW-Authenticate: Digest realm=\"r\", nonce=\"{number}\", stale=true\r\n\r\n"
        );
        client.take_output();
        client.received(answer.as_bytes());
        let ended = drain(&mut client);
        assert_eq!(ended.is_some(), number == 2, "answer {number}: {ended:?}");
    }
    assert_eq!(client.auth_outcome(), AuthOutcome::Rejected);
}
