//! The client machine against stub cameras: one for each case from the field, and variations.
//!
//! The stubs write their bytes by hand and read requests with a few lines of their own: they share
//! no parser and no digest with the client.

use md5::{Digest as _, Md5};

use super::client::{Client, ClientOptions, Event};
use super::set_up::Sound;
use crate::camera::auth_limiter::AuthOutcome;
use crate::camera::track_format::TrackFormat;
use crate::camera::{CameraFault, Failure};
use crate::settings::{Login, Transport};
use crate::units::{MonoTime, Secret};

/// Packets that a stub sends of each track.
const PACKETS: usize = 20;
const SDP_HEAD: &str =
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=cam\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=control:*\r\n";
const SDP_VIDEO: &str = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:track1\r\n";
const SDP_AUDIO: &str = "m=audio 0 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\na=control:track2\r\n";

/// A request, as the stub reads it.
#[derive(Clone)]
struct Asked {
    method: String,
    url: String,
    cseq: String,
    text: String,
}

impl Asked {
    fn header(&self, name: &str) -> Option<&str> {
        self.text.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")))
    }

    fn auth(&self, field: &str) -> String {
        let text = self.header("Authorization").unwrap_or_default();
        let at = text.find(&format!("{field}=")).map_or(text.len(), |at| at + field.len() + 1);
        let rest = &text[at..];
        match rest.strip_prefix('"') {
            Some(quoted) => quoted.split('"').next().unwrap().to_owned(),
            None => rest.split([',', ' ']).next().unwrap_or_default().to_owned(),
        }
    }
}

/// What a stub camera does with a request: it may change the regular answer.
type Bend = fn(&mut Stub, &Asked, String) -> String;

/// A stub camera.
struct Stub {
    bend: Bend,
    sdp: String,
    asked: Vec<Asked>,
    /// Channels of RTP of each track, in the order of SETUP.
    channels: Vec<u8>,
    types: Vec<u8>,
    ssrc: u32,
    connections: usize,
    playing: bool,
    /// Free use of a bend.
    n: usize,
    /// The connection ends after the answer.
    hang_up: bool,
}

fn ok(asked: &Asked, more: &str) -> String {
    format!("RTSP/1.0 200 OK\r\nCSeq: {}\r\n{more}\r\n", asked.cseq)
}

fn status(asked: &Asked, line: &str, more: &str) -> String {
    format!("RTSP/1.0 {line}\r\nCSeq: {}\r\n{more}\r\n", asked.cseq)
}

fn described(asked: &Asked, headers: &str, sdp: &str) -> String {
    ok(asked, &format!("{headers}Content-Length: {}\r\n", sdp.len())) + sdp
}

impl Stub {
    fn new(bend: Bend) -> Stub {
        let sdp = format!("{SDP_HEAD}{SDP_VIDEO}{SDP_AUDIO}");
        Stub {
            bend,
            sdp,
            asked: Vec::new(),
            channels: Vec::new(),
            types: Vec::new(),
            ssrc: 0x1122_3344,
            connections: 0,
            playing: false,
            n: 0,
            hang_up: false,
        }
    }

    fn answer(&mut self, asked: Asked) -> Vec<u8> {
        let regular = match asked.method.as_str() {
            "DESCRIBE" => {
                let headers = format!(
                    "Content-Base: {}/\r\nContent-Type: application/sdp\r\n",
                    asked.url.trim_end_matches('/')
                );
                described(&asked, &headers, &self.sdp)
            }
            "SETUP" => {
                let transport = asked.header("Transport").unwrap().to_owned();
                let channel = transport.split("interleaved=").nth(1);
                let channel =
                    channel.map_or(0, |text| text.split('-').next().unwrap().parse().unwrap());
                self.channels.push(channel);
                self.types.push(if asked.url.ends_with("track2") { 8 } else { 96 });
                ok(
                    &asked,
                    &format!(
                        "Transport: {transport};ssrc=11223344\r\nSession: 12345678;timeout=60\r\n"
                    ),
                )
            }
            "PLAY" => ok(&asked, "Session: 12345678\r\nRange: npt=0.000-\r\n"),
            "OPTIONS" => {
                ok(&asked, "Public: OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, TEARDOWN\r\n")
            }
            _ => ok(&asked, ""),
        };
        self.asked.push(asked.clone());
        let tracks = self.channels.len();
        let answer = (self.bend)(self, &asked, regular);
        let taken =
            answer.split("\n").any(|line| line.starts_with("RTSP/") && line.contains(" 200"));
        if asked.method == "SETUP" && !taken && self.channels.len() == tracks {
            self.channels.pop();
            self.types.pop();
        }
        self.playing |= asked.method == "PLAY" && taken;
        answer.into_bytes()
    }

    /// The media of one picture: an RTP packet of each track, and a Sender Report.
    fn media(&self, seq: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (channel, kind) in self.channels.iter().zip(&self.types) {
            bytes.extend([b'$', *channel, 0, 14, 0x80, *kind, 0, seq, 0, 0, seq, 0]);
            bytes.extend(self.ssrc.to_be_bytes());
            bytes.extend([0x65, seq]);
            bytes.extend([b'$', channel + 1, 0, 8, 0x80, 200, 0, 1, 0, 0, 0, 1]);
        }
        bytes
    }
}

/// What came of a session.
#[derive(Debug)]
struct Outcome {
    /// Packets of each track that the client gave out.
    packets: [usize; 2],
    ended: Option<Failure>,
    quirks: Vec<&'static str>,
    auth: AuthOutcome,
    full: bool,
    sound: Sound,
    /// Methods that the camera was asked for, in order.
    methods: String,
    torn_down: bool,
    connections: usize,
    seconds: u64,
}

fn options(url: &str, login: Option<(&str, &str)>) -> ClientOptions {
    let login =
        login.map(|(user, password)| Login { user: user.into(), password: Secret::new(password) });
    ClientOptions {
        url: url::Url::parse(url).unwrap(),
        url_key: "camera.main_url",
        login,
        transport: Transport::Tcp,
        udp_ports: [(5000, 5001), (5002, 5003)],
        sound: Sound::Wanted,
        seed: [1; 32],
        accepts: |_: &TrackFormat| Ok(()),
    }
}

/// Plays a stub for some seconds of media, its bytes split by `seed`, and tears the session down.
fn play_with(options: ClientOptions, stub: &mut Stub, seed: u64, seconds: u64) -> Outcome {
    let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut client = Client::new(options);
    let mut now = MonoTime(1_000_000);
    let (mut packets, mut ended, mut torn_down) = ([0; 2], None, false);
    stub.connections += 1;
    client.connected(now);
    let (mut tearing, mut media, mut quiet_steps) = (false, 0_usize, 0);
    let mut requests = Vec::new();
    while quiet_steps < 100 + 2 * seconds {
        let mut bytes = Vec::new();
        requests.extend(client.take_output());
        while let Some(end) = requests.windows(4).position(|four| four == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&requests[..end]).into_owned();
            requests.drain(..end + 4);
            let mut words = text.split(' ');
            if text.starts_with("RTSP/") {
                stub.asked.push(Asked {
                    method: "ANSWER".into(),
                    url: String::new(),
                    cseq: String::new(),
                    text,
                });
                continue;
            }
            let (method, url) = (words.next().unwrap().into(), words.next().unwrap().into());
            let cseq = text.split("CSeq: ").nth(1).unwrap().split("\r\n").next().unwrap().into();
            bytes.extend(stub.answer(Asked { method, url, cseq, text }));
        }
        if stub.playing && media < PACKETS {
            bytes.extend(stub.media(media as u8));
            media += 1;
        }
        let idle = bytes.is_empty();
        let mut rest = &bytes[..];
        loop {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let len = (1 + (random >> 33) as usize % 300).min(rest.len());
            client.received(&rest[..len]);
            rest = &rest[len..];
            while let Some(event) = client.poll(now) {
                match event {
                    Event::Packet { track, rtcp, bytes } => {
                        assert_eq!(rtcp, bytes[1] == 200);
                        packets[track] += usize::from(!rtcp);
                    }
                    Event::Ended(failure) => ended = Some(failure),
                    Event::TornDown => torn_down = true,
                    Event::Connect(..) => {
                        stub.connections += 1;
                        client.connected(now);
                    }
                    Event::SetUp(_) | Event::Playing => {}
                }
            }
            if rest.is_empty() {
                break;
            }
        }
        if std::mem::take(&mut stub.hang_up) {
            client.closed(None);
            requests.clear();
            while let Some(event) = client.poll(now) {
                match event {
                    Event::Connect(..) => {
                        stub.connections += 1;
                        client.connected(now);
                    }
                    Event::Ended(failure) => ended = Some(failure),
                    Event::TornDown => torn_down = true,
                    _ => {}
                }
            }
            if torn_down {
                break;
            }
            continue;
        }
        if torn_down {
            break;
        }
        if idle {
            quiet_steps += 1;
            now = now.plus_micros(500_000);
            client.tick(now);
            let done = ended.is_some() || now >= MonoTime(1_000_000).plus_secs(seconds);
            if done && !tearing {
                tearing = true;
                stub.playing = false;
                client.tear_down(now);
            }
        }
    }
    let methods =
        stub.asked.iter().map(|asked| asked.method.as_str()).collect::<Vec<_>>().join(" ");
    Outcome {
        packets,
        ended,
        quirks: client.quirks().seen().map(|(quirk, _)| quirk.name()).collect(),
        auth: client.auth_outcome(),
        full: client.is_full(),
        sound: client.sound().clone(),
        methods,
        torn_down,
        connections: stub.connections,
        seconds: now.0 / 1_000_000,
    }
}

fn play(bend: Bend) -> Outcome {
    play_with(options("rtsp://10.0.0.2/cam", None), &mut Stub::new(bend), 7, 20)
}

fn play_login(bend: Bend) -> Outcome {
    let options = options("rtsp://10.0.0.2/cam", Some(("user", "secret")));
    play_with(options, &mut Stub::new(bend), 7, 20)
}

/// Asserts that everything was received, at any split of the bytes.
fn assert_plays(name: &str, bend: Bend, login: bool, quirks: &[&str]) {
    for seed in 0..20 {
        let login = Some(("user", "secret")).filter(|_| login);
        let options = options("rtsp://10.0.0.2/cam", login);
        let outcome = play_with(options, &mut Stub::new(bend), seed, 20);
        assert_eq!(outcome.ended, None, "{name}, seed {seed}: {outcome:?}");
        assert_eq!(outcome.packets, [PACKETS; 2], "{name}, seed {seed}: {outcome:?}");
        assert_eq!(outcome.quirks, quirks, "{name}, seed {seed}");
        assert!(outcome.torn_down && outcome.methods.ends_with("TEARDOWN"), "{name}: {outcome:?}");
    }
}

/// Asserts that the session ends with these words.
fn assert_ends(name: &str, bend: Bend, login: bool, words: &[&str]) -> Outcome {
    let outcome = if login { play_login(bend) } else { play(bend) };
    let (_, why) = outcome.ended.clone().unwrap_or_else(|| panic!("{name} plays: {outcome:?}"));
    for word in words {
        assert!(why.contains(word), "{name}: {why}");
    }
    outcome
}

fn md5(text: &str) -> String {
    Md5::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a request has the digest of user `user` and password `secret`.
fn is_right(asked: &Asked, realm: &str, nonce: &str) -> bool {
    let (a1, a2) =
        (md5(&format!("user:{realm}:secret")), md5(&format!("{}:{}", asked.method, asked.url)));
    let a2 = if asked.auth("qop") == "auth-int" {
        md5(&format!("{}:{}:{}", asked.method, asked.url, md5("")))
    } else {
        a2
    };
    let a1 = if asked.auth("algorithm").ends_with("-sess") {
        md5(&format!("{a1}:{nonce}:{}", asked.auth("cnonce")))
    } else {
        a1
    };
    let middle = match asked.auth("qop").as_str() {
        "" => String::new(),
        qop => format!("{}:{}:{qop}:", asked.auth("nc"), asked.auth("cnonce")),
    };
    asked.auth("nonce") == nonce
        && asked.auth("response") == md5(&format!("{a1}:{nonce}:{middle}{a2}"))
}

fn unauthorized(asked: &Asked, challenge: &str) -> String {
    status(asked, "401 Unauthorized", challenge)
}

#[test]
fn a_regular_camera_plays_without_quirks() {
    assert_plays("regular", |_, _, regular| regular, false, &[]);
    let outcome = play(|_, _, regular| regular);
    assert_eq!(outcome.methods, "DESCRIBE SETUP SETUP PLAY TEARDOWN");
    assert_eq!((outcome.connections, outcome.auth), (1, AuthOutcome::NotAsked));
}

/// Kind A of the field cases: refusals that are none.
#[test]
fn a_right_login_is_taken_however_it_is_asked_for() {
    let cases: [(&str, Bend, &[&str]); 17] = [
        (
            "plain digest",
            |_, asked, regular| {
                if is_right(asked, "cam", "n") {
                    regular
                } else {
                    unauthorized(asked, "WWW-Authenticate: Digest realm=\"cam\", nonce=\"n\"\r\n")
                }
            },
            &[],
        ),
        (
            "nonce_rotates",
            |stub, asked, regular| {
                let right = is_right(asked, "cam", &format!("n{}", stub.n));
                stub.n += 1;
                if right {
                    regular
                } else {
                    unauthorized(
                        asked,
                        &format!(
                            "WWW-Authenticate: Digest realm=\"cam\", nonce=\"n{}\", stale=true\r\n",
                            stub.n
                        ),
                    )
                }
            },
            &["nonce_changed"],
        ),
        (
            "auth_int offered",
            |_, asked, regular| {
                if is_right(asked, "onvif", "5dcd")
                    && asked.auth("qop") == "auth"
                    && asked.auth("opaque") == "528eacb9"
                {
                    regular
                } else {
                    unauthorized(
                        asked,
                        "WWW-Authenticate: Digest realm=\"onvif\", qop=\"auth,auth-int\", nonce=\"5dcd\", opaque=\"528eacb9\"\r\n",
                    )
                }
            },
            &[],
        ),
        (
            "auth_none_header",
            |_, asked, regular| {
                if asked.header("Authorization") == Some("Basic dXNlcjpzZWNyZXQ=") {
                    regular
                } else {
                    unauthorized(asked, "")
                }
            },
            &["challenge"],
        ),
        (
            "realm_utf8",
            |_, asked, regular| {
                if is_right(asked, "Camera đường 17", "abc") {
                    regular
                } else {
                    unauthorized(
                        asked,
                        "WWW-Authenticate: Digest realm=\"Camera đường 17\", nonce=\"abc\"\r\n",
                    )
                }
            },
            &["header_bytes"],
        ),
        // Variations.
        (
            "auth-int alone",
            |_, asked, regular| {
                if is_right(asked, "r", "n") && asked.auth("qop") == "auth-int" {
                    regular
                } else {
                    unauthorized(
                        asked,
                        "WWW-Authenticate: Digest realm=\"r\", qop=\"auth-int\", nonce=\"n\"\r\n",
                    )
                }
            },
            &[],
        ),
        (
            "MD5-sess",
            |_, asked, regular| {
                if is_right(asked, "r", "n") && asked.auth("algorithm") == "MD5-sess" {
                    regular
                } else {
                    unauthorized(
                        asked,
                        "WWW-Authenticate: Digest realm=\"r\", qop=\"auth\", algorithm=MD5-sess, nonce=\"n\"\r\n",
                    )
                }
            },
            &[],
        ),
        (
            "a new nonce without stale",
            |stub, asked, regular| {
                let nonce = if stub.asked.iter().any(|asked| asked.method == "SETUP") {
                    "second"
                } else {
                    "first"
                };
                if is_right(asked, "r", nonce) {
                    regular
                } else {
                    unauthorized(
                        asked,
                        &format!("WWW-Authenticate: Digest realm=\"r\", nonce=\"{nonce}\"\r\n"),
                    )
                }
            },
            &["nonce_changed"],
        ),
        (
            "a password in clear is asked for first",
            |_, asked, regular| {
                if is_right(asked, "r", "n") {
                    regular
                } else {
                    unauthorized(
                        asked,
                        "WWW-Authenticate: Basic realm=\"r\"\r\nWWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\n",
                    )
                }
            },
            &[],
        ),
        (
            "unquoted values",
            |_, asked, regular| {
                if is_right(asked, "IP Camera(1)", "n==") {
                    regular
                } else {
                    unauthorized(
                        asked,
                        "WWW-Authenticate: Digest realm=IP Camera(1), nonce=n==, algorithm=MD5\r\n",
                    )
                }
            },
            &["challenge"],
        ),
        (
            "no scheme",
            |_, asked, regular| {
                if is_right(asked, "r", "n") {
                    regular
                } else {
                    unauthorized(asked, "WWW-Authenticate: realm=\"r\", nonce=\"n\"\r\n")
                }
            },
            &["challenge"],
        ),
        (
            "an unknown hash beside Basic",
            |_, asked, regular| {
                if asked.header("Authorization") == Some("Basic dXNlcjpzZWNyZXQ=") {
                    regular
                } else {
                    unauthorized(
                        asked,
                        "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", algorithm=SHA-512-256, Basic realm=\"r\"\r\n",
                    )
                }
            },
            &[],
        ),
        (
            "the nonce counter must rise",
            |stub, asked, regular| {
                let count = usize::from_str_radix(&asked.auth("nc"), 16).unwrap_or(0);
                if is_right(asked, "r", "n") && count == stub.n + 1 {
                    stub.n = count;
                    regular
                } else {
                    unauthorized(
                        asked,
                        "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", qop=auth\r\n",
                    )
                }
            },
            &[],
        ),
        (
            "only SETUP asks for a login",
            |_, asked, regular| {
                if asked.method != "SETUP" || is_right(asked, "r", "n") {
                    regular
                } else {
                    unauthorized(asked, "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\n")
                }
            },
            &[],
        ),
        (
            "the nonce of each answer is the next",
            |stub, asked, regular| {
                let right = is_right(asked, "r", &format!("n{}", stub.n));
                if right {
                    stub.n += 1;
                    regular.replacen(
                        "\r\n",
                        &format!("\r\nAuthentication-Info: nextnonce=\"n{}\"\r\n", stub.n),
                        1,
                    )
                } else {
                    unauthorized(
                        asked,
                        &format!("WWW-Authenticate: Digest realm=\"r\", nonce=\"n{}\"\r\n", stub.n),
                    )
                }
            },
            &[],
        ),
        (
            "each 401 closes the connection, each connection has a nonce",
            |stub, asked, regular| {
                let nonce = format!("n{}", stub.connections);
                if is_right(asked, "r", &nonce) {
                    return regular;
                }
                stub.hang_up = stub.connections < 3;
                unauthorized(
                    asked,
                    &format!("WWW-Authenticate: Digest realm=\"r\", nonce=\"{nonce}\"\r\n"),
                )
            },
            &["nonce_changed"],
        ),
        (
            "the connection ends no session with 401 to TEARDOWN",
            |_, asked, regular| {
                if asked.method == "TEARDOWN" { unauthorized(asked, "") } else { regular }
            },
            &["challenge"],
        ),
    ];
    for (name, bend, quirks) in cases {
        if name.starts_with("the connection") {
            let outcome = play_login(bend);
            assert_eq!((outcome.packets, outcome.torn_down), ([PACKETS; 2], true), "{outcome:?}");
            continue;
        }
        assert_plays(name, bend, true, quirks);
    }
}

#[test]
fn a_login_without_configuration_is_no_refusal() {
    let outcome = assert_ends(
        "no_login",
        |_, asked, _| unauthorized(asked, "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\n"),
        false,
        &["the camera asks for a login: set camera.login_file"],
    );
    assert_eq!(outcome.auth, AuthOutcome::NotAsked);
    assert_eq!(outcome.ended.unwrap().0, CameraFault::Unauthorized);
}

#[test]
fn refusals_are_told_apart() {
    let digest = |_: &mut Stub, asked: &Asked, _: String| {
        unauthorized(asked, "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\n")
    };
    let outcome = assert_ends(
        "wrong",
        digest,
        true,
        &["DESCRIBE: the camera rejects this user and password"],
    );
    assert_eq!(
        (outcome.auth, outcome.methods.as_str()),
        (AuthOutcome::Rejected, "DESCRIBE DESCRIBE")
    );
    let stale = |stub: &mut Stub, asked: &Asked, _: String| {
        stub.n += 1;
        unauthorized(
            asked,
            &format!("WWW-Authenticate: Digest realm=\"r\", nonce=\"{}\", stale=true\r\n", stub.n),
        )
    };
    let outcome = assert_ends("always stale", stale, true, &["rejects"]);
    assert_eq!(outcome.methods, "DESCRIBE DESCRIBE", "one login a session");
    let silent = |_: &mut Stub, asked: &Asked, _: String| unauthorized(asked, "");
    let outcome = assert_ends("no challenge", silent, true, &["rejects", "does not say how"]);
    assert_eq!(
        (outcome.auth, outcome.methods.as_str()),
        (AuthOutcome::Rejected, "DESCRIBE DESCRIBE")
    );
    let sha512 = |_: &mut Stub, asked: &Asked, _: String| {
        unauthorized(
            asked,
            "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", algorithm=SHA-512-256\r\n",
        )
    };
    let outcome =
        assert_ends("SHA-512-256", sha512, true, &["digest SHA-512-256", "does not know"]);
    assert_eq!((outcome.auth, outcome.methods.as_str()), (AuthOutcome::NotAsked, "DESCRIBE"));
    let play_only = |_: &mut Stub, asked: &Asked, regular: String| {
        if asked.method != "PLAY" && is_right(asked, "r", "n") {
            return regular;
        }
        unauthorized(asked, "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\n")
    };
    let outcome =
        assert_ends("no right to play", play_only, true, &["PLAY: 401", "accepts the login"]);
    assert_eq!(outcome.auth, AuthOutcome::Accepted, "the password is right");
    let nothing_secret = format!("{:?}", play_login(digest).ended);
    assert!(!nothing_secret.contains("secret"), "{nothing_secret}");
}

/// Kinds D and E of the field cases: hints taken for conditions.
#[test]
fn what_other_clients_skip_ends_no_session() {
    let cases: [(&str, Bend, &[&str]); 34] = [
        (
            "transport_spaces_only",
            |_, _, regular| regular.replace("RTP/AVP/TCP;unicast;", "RTP/AVP/TCP; unicast; "),
            &["transport_header"],
        ),
        (
            "session_more_params",
            |_, _, regular| regular.replace("timeout=60", "timeout=60;server=7"),
            &["session_header"],
        ),
        (
            "content_type_charset",
            |_, _, regular| regular.replace("application/sdp", "application/sdp; charset=utf-8"),
            &[],
        ),
        (
            "cseq_zero",
            |_, asked, regular| {
                regular.replace(&format!("CSeq: {}\r\n", asked.cseq), "CSeq: 0\r\n")
            },
            &["cseq"],
        ),
        (
            "sdp_h3c",
            |stub, asked, regular| {
                if asked.method != "DESCRIBE" {
                    return regular;
                }
                let sdp = "v=0\r\no=- 1001 1 IN\r\ns=VCP IPC Realtime stream\r\nm=application 0 RTP/AVP 107\r\nc=IN\r\na=control:rtsp://192.168.0.60/media/video1/metadata\r\na=rtpmap:107 vnd.onvif.metadata/90000\r\na=recvonly\r\nm=video 0 RTP/AVP 105\r\nc=IN\r\na=rtpmap:105 H264/90000\r\na=control:rtsp://192.168.0.60/media/video1/track1\r\na=recvonly\r\nm=audio 0 RTP/AVP 8\r\na=control:rtsp://192.168.0.60/media/video1/track2\r\n";
                stub.n = 1;
                described(asked, "Content-Type: application/sdp\r\n", sdp)
            },
            &["sdp_line", "control_url"],
        ),
        (
            "sdp_numbers",
            |stub, asked, regular| {
                if asked.method != "DESCRIBE" {
                    regular
                } else {
                    described(
                        asked,
                        "",
                        &stub
                            .sdp
                            .replace("o=- 1 1 IN", "o=- 1698143674.978737 -8959200248001175080 IN")
                            .replace("t=0 0", "t=0 2EC08200"),
                    )
                }
            },
            &["sdp_line"],
        ),
        (
            "setup_no_session",
            |_, _, regular| regular.replace("Session: 12345678;timeout=60\r\n", ""),
            &["no_session"],
        ),
        (
            "rtp_info_broken",
            |_, asked, regular| {
                if asked.method == "PLAY" {
                    ok(asked, "RTP-Info: track1;seq=1000;rtptime=0\r\n")
                } else {
                    regular
                }
            },
            &["rtp_info"],
        ),
        ("status_no_reason", |_, _, regular| regular.replace("200 OK", "200"), &["status_line"]),
        (
            "redirect_302",
            |_, asked, regular| {
                if asked.url.ends_with("/moved") || asked.method != "DESCRIBE" {
                    regular
                } else {
                    status(asked, "302 Moved Temporarily", "Location: rtsp://10.0.0.2/moved\r\n")
                }
            },
            &["redirect"],
        ),
        (
            "session_changes",
            |stub, asked, regular| {
                stub.n += usize::from(asked.method == "SETUP");
                regular.replace("12345678;", &format!("{};", stub.n))
            },
            &["session_changed"],
        ),
        (
            "ssrc_setup_wrong",
            |_, _, regular| regular.replace("ssrc=11223344", "ssrc=5D4A00C6"),
            &["ssrc_promise"],
        ),
        // Variations.
        (
            "no CSeq",
            |_, asked, regular| regular.replace(&format!("CSeq: {}\r\n", asked.cseq), ""),
            &["cseq"],
        ),
        (
            "the previous CSeq",
            |_, asked, regular| {
                let n: u32 = asked.cseq.parse().unwrap();
                regular.replace(&format!("CSeq: {n}\r\n"), &format!("CSeq: {}\r\n", n - 1))
            },
            &["cseq"],
        ),
        (
            "a CSeq that is no number",
            |_, _, regular| regular.replace("CSeq: ", "CSeq: x"),
            &["cseq"],
        ),
        (
            "LF alone",
            |_, asked, regular| {
                if asked.method == "DESCRIBE" {
                    regular.replacen("\r\n\r\n", "\n\n", 1).replacen("\r\nC", "\nC", 4)
                } else {
                    regular.replace("\r\n", "\n")
                }
            },
            &["line_ends"],
        ),
        (
            "bytes outside of ASCII",
            |_, _, regular| regular.replacen("\r\n", "\r\nServer: Máy ảnh \u{7f}\r\n", 1),
            &["header_bytes"],
        ),
        (
            "a line without a colon",
            |_, _, regular| regular.replacen("\r\n", "\r\nhello world\r\n", 1),
            &["line_ends"],
        ),
        ("RTSP 2.0", |_, _, regular| regular.replace("RTSP/1.0", "RTSP/2.0"), &["rtsp_2"]),
        (
            "names in capitals, blanks before colons",
            |_, _, regular| {
                regular.replace("Session: ", "SESSION : ").replace("Transport: ", "TRANSPORT  :")
            },
            &[],
        ),
        (
            "no Transport",
            |_, asked, regular| {
                if asked.method == "SETUP" {
                    ok(asked, "Session: 12345678;timeout=60\r\n")
                } else {
                    regular
                }
            },
            &["transport_header"],
        ),
        (
            "other channels",
            |stub, asked, regular| {
                if asked.method != "SETUP" {
                    return regular;
                }
                let last = stub.channels.len() - 1;
                let asked_for = stub.channels[last];
                stub.channels[last] = 10 + asked_for;
                regular.replace(
                    &format!("interleaved={asked_for}-{}", asked_for + 1),
                    &format!("interleaved={}-{}", asked_for + 10, asked_for + 11),
                )
            },
            &["channel"],
        ),
        (
            "other channels than it says",
            |stub, asked, regular| {
                if asked.method == "PLAY" {
                    stub.channels = vec![2, 0];
                }
                regular.replace("interleaved=", "x-interleaved=")
            },
            &["transport_header", "channel"],
        ),
        (
            "both tracks on one channel",
            |stub, asked, regular| {
                if asked.method == "PLAY" {
                    stub.channels = vec![0, 0];
                }
                regular.replace("interleaved=2-3", "interleaved=0-1")
            },
            &["channel"],
        ),
        (
            "a session id with blanks around",
            |_, _, regular| {
                regular
                    .replace("Session: 12345678;timeout=60", "Session:  12345678 ; timeout = 60 ")
            },
            &[],
        ),
        (
            "no Content-Length",
            |_, _, regular| {
                let at = regular.find("Content-Length");
                match at {
                    Some(at) => {
                        let end = at + regular[at..].find("\r\n").unwrap() + 2;
                        format!("{}{}", &regular[..at], &regular[end..])
                    }
                    None => regular,
                }
            },
            &["body_length"],
        ),
        (
            "Content-Length too small",
            |stub, asked, regular| {
                if asked.method == "DESCRIBE" {
                    ok(asked, "Content-Length: 150\r\n") + &stub.sdp
                } else {
                    regular
                }
            },
            &["body_length"],
        ),
        (
            "no Content-Type",
            |_, _, regular| regular.replace("Content-Type: application/sdp\r\n", ""),
            &[],
        ),
        (
            "a content type of its own",
            |_, _, regular| regular.replace("application/sdp", "text/html"),
            &["content_type"],
        ),
        (
            "Content-Base of another host",
            |_, _, regular| {
                regular.replace(
                    "Content-Base: rtsp://10.0.0.2/cam/",
                    "Content-Base: rtsp://192.168.1.108:554/cam/",
                )
            },
            &["control_url"],
        ),
        (
            "a redirect to a path",
            |_, asked, regular| {
                if asked.url.ends_with("/moved") || asked.method != "DESCRIBE" {
                    regular
                } else {
                    status(asked, "301 Moved", "location: /moved\r\n")
                }
            },
            &["redirect"],
        ),
        (
            "a redirect that closes the connection",
            |stub, asked, regular| {
                if stub.connections > 1 || asked.method != "DESCRIBE" {
                    return regular;
                }
                if stub.asked.len() > 1 {
                    stub.hang_up = true;
                    return String::new();
                }
                status(asked, "302 Moved", "Location: rtsp://10.0.0.2:554/moved\r\n")
            },
            &["redirect"],
        ),
        (
            "PLAY track by track",
            |_, asked, regular| {
                if asked.method == "PLAY" && !asked.url.contains("track") {
                    status(asked, "459 Aggregate Operation Not Allowed", "")
                } else {
                    regular
                }
            },
            &["play_alone"],
        ),
        (
            "a range is not understood",
            |_, asked, regular| {
                if asked.header("Range").is_some() {
                    status(asked, "457 Invalid Range", "")
                } else {
                    regular
                }
            },
            &["play_alone"],
        ),
    ];
    for (name, bend, quirks) in cases {
        let bend_types = name == "sdp_h3c";
        if bend_types {
            let outcome = play(bend);
            assert_eq!(
                (outcome.ended.is_none(), &outcome.quirks[..]),
                (true, quirks),
                "{outcome:?}"
            );
            continue;
        }
        let quiet = name == "PLAY track by track" || name == "a range is not understood";
        if quiet {
            let outcome = play(bend);
            assert_eq!((outcome.ended, &outcome.quirks[..]), (None, quirks), "{name}");
            assert_eq!(outcome.packets, [PACKETS; 2], "{name}");
            continue;
        }
        assert_plays(name, bend, false, quirks);
    }
}

#[test]
fn the_camera_may_ask_and_send_garbage() {
    let outcome = play(|stub, asked, regular| {
        stub.n += 1;
        match asked.method.as_str() {
            "SETUP" => {
                format!("OPTIONS rtsp://10.0.0.2/ RTSP/1.0\r\nCSeq: 9{}\r\n\r\n{regular}", stub.n)
            }
            "PLAY" => format!(
                "{regular}\u{1}\u{2}junk $$ RT\u{3}ANNOUNCE rtsp://h/ RTSP/1.0\r\nCSeq: 7\r\nContent-Length: 3\r\n\r\nv=0"
            ),
            _ => regular,
        }
    });
    assert_eq!(outcome.packets, [PACKETS; 2], "{outcome:?}");
    assert_eq!(outcome.quirks, ["garbage", "server_request"]);
    assert_eq!(outcome.methods.matches("ANSWER").count(), 3);
}

#[test]
fn an_answered_request_of_the_camera_has_a_status() {
    let mut stub = Stub::new(|_, asked, regular| match asked.method.as_str() {
        "DESCRIBE" => format!(
            "GET_PARAMETER rtsp://h/ RTSP/1.0\r\nCSeq: 41\r\n\r\nREDIRECT rtsp://h/ RTSP/1.0\r\nCSeq: 4x2\r\n\r\n{regular}"
        ),
        _ => regular,
    });
    play_with(options("rtsp://10.0.0.2/cam", None), &mut stub, 1, 20);
    let answers: Vec<&str> = stub
        .asked
        .iter()
        .filter(|asked| asked.method == "ANSWER")
        .map(|asked| asked.text.as_str())
        .collect();
    assert_eq!(
        answers,
        ["RTSP/1.0 200 OK\r\nCSeq: 41", "RTSP/1.0 501 Not Implemented\r\nCSeq: 42"]
    );
}

#[test]
fn failures_name_the_repair() {
    let cases: [(&str, Bend, bool, &[&str]); 14] = [
        (
            "length_too_long",
            |_, asked, regular| {
                if asked.method == "DESCRIBE" {
                    let n = regular.split("\r\n\r\n").nth(1).unwrap().len();
                    regular.replace(
                        &format!("Content-Length: {n}"),
                        &format!("Content-Length: {}", n + 2),
                    )
                } else {
                    regular
                }
            },
            false,
            &["DESCRIBE: the answer is incomplete: ", " bytes within 10 s"],
        ),
        (
            "setup_461",
            |_, asked, regular| {
                if asked.method == "SETUP" {
                    status(asked, "461 Unsupported Transport", "")
                } else {
                    regular
                }
            },
            false,
            &["the camera does not send over TCP: set camera.transport = \"udp\""],
        ),
        (
            "404",
            |_, asked, _| status(asked, "404 Not Found", ""),
            false,
            &["DESCRIBE: 404", "camera.main_url"],
        ),
        ("a silent camera", |_, _, _| String::new(), false, &["DESCRIBE: no answer within 10 s"]),
        (
            "half an answer",
            |_, asked, _| format!("RTSP/1.0 200 OK\r\nCSeq: {}\r\n", asked.cseq),
            false,
            &["DESCRIBE: no complete answer within 10 s, only: RTSP/1.0 200 OK"],
        ),
        (
            "a redirect to another host with a login",
            |_, asked, _| status(asked, "302 Moved", "Location: rtsp://evil.example/cam\r\n"),
            true,
            &["another host", "evil.example", "the login is not sent there"],
        ),
        (
            "a redirect for ever",
            |_, asked, _| status(asked, "302 Moved", "Location: rtsp://10.0.0.2/cam\r\n"),
            false,
            &["more than 3 times"],
        ),
        (
            "a redirect to HTTP",
            |_, asked, _| status(asked, "302 Moved", "Location: http://10.0.0.2/cam\r\n"),
            false,
            &["no RTSP URL", "camera.main_url"],
        ),
        (
            "a redirect to nowhere",
            |_, asked, _| status(asked, "302 Moved", ""),
            false,
            &["no RTSP URL"],
        ),
        (
            "HTTP",
            |_, _, _| "HTTP/1.1 400 Bad Request\r\n\r\n".into(),
            false,
            &["HTTP: this is not the RTSP port"],
        ),
        (
            "no video",
            |_, asked, _| {
                described(
                    asked,
                    "",
                    &format!("{SDP_HEAD}m=video 0 RTP/AVP 26\r\nm=audio 0 RTP/AVP 8\r\n"),
                )
            },
            false,
            &["no H.264 or H.265 video", "pcma"],
        ),
        (
            "a page",
            |_, asked, _| described(asked, "Content-Type: text/html\r\n", "<html>login</html>"),
            false,
            &["describes no media", "<html>"],
        ),
        (
            "the camera has no session left",
            |_, asked, _| status(asked, "453 Not Enough Bandwidth", ""),
            false,
            &["453", "no place for another session"],
        ),
        (
            "another error",
            |_, asked, _| status(asked, "500 password=hunter2", ""),
            false,
            &["DESCRIBE: 500: password=***"],
        ),
    ];
    for (name, bend, login, words) in cases {
        let outcome = assert_ends(name, bend, login, words);
        assert!(outcome.seconds <= 20, "{name}");
    }
    let mut udp = options("rtsp://10.0.0.2/cam", None);
    udp.transport = Transport::Udp;
    let mut stub =
        Stub::new(
            |_, asked, regular| {
                if asked.method == "SETUP" { status(asked, "461 No", "") } else { regular }
            },
        );
    let (_, why) = play_with(udp, &mut stub, 1, 20).ended.unwrap();
    assert!(why.contains("set camera.transport = \"tcp\""), "{why}");
    assert!(stub.asked[1].text.contains("Transport: RTP/AVP;unicast;client_port=5000-5001"));
}

#[test]
fn a_login_in_the_path_stands_in_no_message() {
    let url = "rtsp://10.0.0.2/user=admin_password=tlJwpbo6_channel=1_stream=0.sdp?real_stream";
    let bends: [Bend; 4] = [
        |_, asked, _| status(asked, "404 Not Found", ""),
        |_, asked, _| {
            status(
                asked,
                "302 Moved",
                &format!("Location: {}x\r\n", asked.url.replace("rtsp", "http")),
            )
        },
        |_, asked, _| described(asked, "", &asked.url),
        |_, asked, _| asked.url.clone(),
    ];
    for bend in bends {
        let outcome = play_with(options(url, None), &mut Stub::new(bend), 3, 20);
        let (_, why) = outcome.ended.unwrap();
        assert!(!why.contains("tlJwpbo6"), "{why}");
    }
    let html: Bend = |_, _, regular| regular.replace("application/sdp", "text/html");
    let outcome = play_with(options(url, None), &mut Stub::new(html), 3, 20);
    assert_eq!((outcome.packets, &outcome.quirks[..]), ([PACKETS; 2], &["content_type"][..]));
}

/// Kind G of the field cases: media is the sign of life.
#[test]
fn keep_alive_requests_end_no_session() {
    let cases: [(&str, Bend, &[&str], &str); 10] = [
        ("answered", |_, _, regular| regular, &[], "OPTIONS GET_PARAMETER GET_PARAMETER"),
        (
            "keepalive_silent",
            |stub, asked, regular| {
                if stub.playing && asked.method != "TEARDOWN" && asked.method != "PLAY" {
                    String::new()
                } else {
                    regular
                }
            },
            &["keep_alive_silent"],
            "OPTIONS OPTIONS OPTIONS",
        ),
        (
            "GET_PARAMETER is refused",
            |_, asked, regular| {
                if asked.method == "GET_PARAMETER" {
                    status(asked, "501 Not Implemented", "")
                } else {
                    regular
                }
            },
            &["keep_alive_refused"],
            "OPTIONS GET_PARAMETER OPTIONS OPTIONS",
        ),
        (
            "everything is refused",
            |stub, asked, regular| {
                if stub.playing && asked.method != "TEARDOWN" && asked.method != "PLAY" {
                    status(asked, "400 Bad Request", "")
                } else {
                    regular
                }
            },
            &["keep_alive_refused"],
            "OPTIONS SET_PARAMETER OPTIONS",
        ),
        (
            "GET_PARAMETER is not named",
            |_, _, regular| regular.replace("GET_PARAMETER, ", ""),
            &[],
            "OPTIONS OPTIONS OPTIONS",
        ),
        (
            "refused with the previous CSeq",
            |stub, asked, regular| {
                if stub.playing && asked.method.ends_with("S") {
                    let n: u32 = asked.cseq.parse().unwrap();
                    format!("RTSP/1.0 400 Bad Request\r\nCSeq: {}\r\n\r\n", n - 1)
                } else {
                    regular
                }
            },
            &["cseq", "keep_alive_refused"],
            "OPTIONS SET_PARAMETER SET_PARAMETER",
        ),
        (
            "the session is said to be unknown",
            |_, asked, regular| {
                if asked.method == "OPTIONS" {
                    status(asked, "454 Session Not Found", "")
                } else {
                    regular
                }
            },
            &["keep_alive_refused"],
            "OPTIONS SET_PARAMETER",
        ),
        (
            "answered twice",
            |_, asked, regular| {
                if asked.method == "OPTIONS" {
                    format!("{regular}{regular}{regular}")
                } else {
                    regular
                }
            },
            &["cseq", "unexpected_response"],
            "OPTIONS GET_PARAMETER",
        ),
        (
            "asked for a login again",
            |_, asked, regular| {
                if asked.method == "OPTIONS" {
                    unauthorized(asked, "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\n")
                } else {
                    regular
                }
            },
            &["keep_alive_refused"],
            "OPTIONS SET_PARAMETER",
        ),
        (
            "answered one request late",
            |stub, asked, regular| {
                if !stub.playing || asked.method == "PLAY" || asked.method == "TEARDOWN" {
                    return regular;
                }
                stub.n += 1;
                if stub.n == 1 {
                    String::new()
                } else {
                    let n: u32 = asked.cseq.parse().unwrap();
                    format!("RTSP/1.0 200 OK\r\nCSeq: {}\r\n\r\n", n - 1)
                }
            },
            &["keep_alive_silent"],
            "OPTIONS OPTIONS",
        ),
    ];
    for (name, bend, quirks, methods) in cases {
        let options = options("rtsp://10.0.0.2/cam", None);
        let outcome = play_with(options, &mut Stub::new(bend), 5, 100);
        assert_eq!(
            (outcome.ended.clone(), outcome.packets),
            (None, [PACKETS; 2]),
            "{name}: {outcome:?}"
        );
        assert_eq!(outcome.quirks, quirks, "{name}: {}", outcome.methods);
        let set_up = "DESCRIBE SETUP SETUP PLAY ";
        let later = outcome.methods.strip_prefix(set_up).unwrap();
        assert!(later.starts_with(methods), "{name}: {later}");
        assert!(outcome.methods.len() < 200, "{name} floods: {}", outcome.methods);
    }
}

#[test]
fn keep_alive_requests_come_at_half_the_timeout() {
    let bend: Bend = |_, _, regular| regular.replace("timeout=60", "timeout=20");
    let outcome = play_with(options("rtsp://10.0.0.2/cam", None), &mut Stub::new(bend), 5, 65);
    assert_eq!(outcome.methods.matches("GET_PARAMETER").count(), 6, "{}", outcome.methods);
}

#[test]
fn media_without_an_answer_to_play_plays() {
    let silent: Bend = |stub, asked, regular| {
        stub.playing |= asked.method == "PLAY";
        if asked.method == "PLAY" { String::new() } else { regular }
    };
    let outcome = play_with(options("rtsp://10.0.0.2/cam", None), &mut Stub::new(silent), 5, 30);
    assert_eq!((outcome.ended, outcome.packets), (None, [PACKETS; 2]));
    assert_eq!(outcome.quirks, ["play_silent"]);
}

#[test]
fn refused_sound_leaves_the_pictures() {
    let refused: Bend = |stub, asked, regular| {
        if asked.url.ends_with("track2") {
            stub.channels.pop();
            return status(asked, "461 Unsupported Transport", "");
        }
        regular
    };
    let outcome = play(refused);
    assert_eq!((outcome.ended, outcome.packets), (None, [PACKETS, 0]));
    assert!(matches!(&outcome.sound, Sound::None(why) if why.contains("461")));
    let silent: Bend =
        |_, asked, regular| if asked.url.ends_with("track2") { String::new() } else { regular };
    let outcome = assert_ends("silent", silent, false, &["sound: SETUP: no answer"]);
    assert!(matches!(outcome.sound, Sound::Silenced(_)));
    let mut again = options("rtsp://10.0.0.2/cam", None);
    again.sound = outcome.sound;
    let outcome = play_with(again, &mut Stub::new(silent), 1, 20);
    assert_eq!(outcome.packets, [PACKETS, 0]);
}

/// Kind J of the field cases: cameras with one place.
#[test]
fn a_camera_without_a_place_is_recognised() {
    let cases: [(&str, Bend, bool); 6] = [
        (
            "closes at once",
            |stub, _, _| {
                stub.hang_up = true;
                String::new()
            },
            true,
        ),
        ("453 to DESCRIBE", |_, asked, _| status(asked, "453 Not Enough Bandwidth", ""), true),
        (
            "503 to SETUP",
            |_, asked, regular| {
                if asked.method == "SETUP" {
                    status(asked, "503 Service Unavailable", "")
                } else {
                    regular
                }
            },
            true,
        ),
        (
            "453 to PLAY",
            |_, asked, regular| {
                if asked.method == "PLAY" {
                    status(asked, "453 Not Enough Bandwidth", "")
                } else {
                    regular
                }
            },
            true,
        ),
        (
            "closes after an answer",
            |stub, asked, regular| {
                stub.hang_up = asked.method == "SETUP";
                if stub.hang_up { String::new() } else { regular }
            },
            false,
        ),
        ("404", |_, asked, _| status(asked, "404 Not Found", ""), false),
    ];
    for (name, bend, full) in cases {
        let outcome = play(bend);
        assert_eq!(outcome.full, full, "{name}: {outcome:?}");
        assert_eq!(outcome.connections, 1, "{name}");
        assert!(outcome.ended.is_some(), "{name}");
    }
}

#[test]
fn sessions_are_closed_whatever_the_answer() {
    let bends: [Bend; 4] = [
        |stub, asked, regular| {
            stub.hang_up = asked.method == "TEARDOWN";
            if stub.hang_up { String::new() } else { regular }
        },
        |_, asked, regular| if asked.method == "TEARDOWN" { String::new() } else { regular },
        |_, asked, regular| {
            if asked.method == "TEARDOWN" {
                status(asked, "454 Session Not Found", "")
            } else {
                regular
            }
        },
        |_, asked, regular| {
            if asked.method == "TEARDOWN" { "\u{1}RTSP/1.0 xyz\r\n\r\n".into() } else { regular }
        },
    ];
    for bend in bends {
        let outcome = play(bend);
        assert!(outcome.torn_down && outcome.ended.is_none(), "{outcome:?}");
        assert!(outcome.seconds <= 25, "{outcome:?}");
    }
    let two: Bend = |stub, asked, regular| {
        stub.n += usize::from(asked.method == "SETUP");
        regular.replace("12345678;", &format!("s{};", stub.n))
    };
    let mut stub = Stub::new(two);
    play_with(options("rtsp://10.0.0.2/cam", None), &mut stub, 1, 20);
    let ids: Vec<Option<&str>> = stub
        .asked
        .iter()
        .filter(|asked| asked.method == "TEARDOWN")
        .map(|asked| asked.header("Session"))
        .collect();
    assert_eq!(ids, [Some("s1"), Some("s2")], "no session is left behind");
}

#[test]
fn a_second_session_is_played_when_the_first_is_not() {
    let mut stub = Stub::new(|stub, asked, regular| {
        stub.n += usize::from(asked.method == "SETUP");
        if asked.method == "PLAY" && asked.header("Session") == Some("s1") {
            return status(asked, "454 Session Not Found", "");
        }
        regular.replace("12345678;", &format!("s{};", stub.n))
    });
    let outcome = play_with(options("rtsp://10.0.0.2/cam", None), &mut stub, 1, 20);
    assert_eq!((outcome.ended, outcome.packets), (None, [PACKETS; 2]));
}

#[test]
fn endless_answers_end_by_name_with_little_memory() {
    for (first, piece, word) in [
        ("RTSP/1.0 200 OK\r\n", "X: y\r\n", "64 header lines"),
        ("RTSP/1.0 200 OK\r\nX: ", "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy", "header line"),
        ("RTSP/1.0 200 OK\r\nContent-Length: 70000\r\n\r\n", "v=0\r\n", "too large"),
        ("\u{1}", "\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}", "no RTSP"),
    ] {
        let mut client = Client::new(options("rtsp://10.0.0.2/cam", None));
        client.connected(MonoTime(0));
        client.received(first.as_bytes());
        let mut why = None;
        'feed: for _ in 0..100_000 {
            client.received(piece.as_bytes());
            while let Some(event) = client.poll(MonoTime(0)) {
                if let Event::Ended((_, detail)) = event {
                    why = Some(detail);
                    break 'feed;
                }
            }
            assert!(client.held() < 160 * 1024);
        }
        assert!(why.as_deref().is_some_and(|why| why.contains(word)), "{why:?}");
    }
}

proptest::proptest! {
    /// Whatever a camera answers, the session ends or plays, and never asks for ever.
    #[test]
    fn no_camera_keeps_the_machine_busy(seed in 0_u64..u64::MAX, picks in proptest::collection::vec((0_u8..14, 0_u8..255), 1..20)) {
        std::thread_local!(static PICKS: std::cell::RefCell<Vec<(u8, u8)>> = const { std::cell::RefCell::new(Vec::new()) });
        PICKS.set(picks);
        let bend: Bend = |stub, asked, regular| {
            stub.n += 1;
            let (pick, byte) = PICKS.with_borrow(|picks| picks[stub.n % picks.len()]);
            match pick {
                0 => String::new(),
                1 => status(asked, "401 No", "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", stale=true\r\n"),
                2 => status(asked, "401 No", ""),
                3 => status(asked, "302 Moved", "Location: rtsp://10.0.0.2/x\r\n"),
                4 => status(asked, &format!("4{byte:02}"), ""),
                5 => format!("{}{regular}", char::from(byte)),
                6 => regular.replace("CSeq: ", "CSeq: 9"),
                7 => { stub.hang_up = true; regular }
                8 => regular[..regular.len() * usize::from(byte) / 255].to_owned(),
                9 => regular.replace("Session", "Sessi"),
                10 => regular.replace("Content-Length: ", "Content-Length: 9"),
                _ => regular,
            }
        };
        let options = options("rtsp://10.0.0.2/cam", Some(("user", "secret")));
        let outcome = play_with(options, &mut Stub::new(bend), seed, 60);
        proptest::prop_assert!(outcome.methods.split(' ').count() < 60, "{}", outcome.methods);
        proptest::prop_assert!(outcome.torn_down || outcome.ended.is_some());
    }
}
