//! A camera with quirks, as a pure machine: bytes and time in; bytes, datagrams and time out.
//!
//! It is the other side of the RTSP client ([`crate::camera`]) and shares no parser and no encoder
//! with it. [`quirks`]: what can be bent, and what a session must give then. [`footage`]: pictures
//! and sound of seeded bytes with a number in each. [`answers`], [`sdp`], [`login`]: RTSP.
//! [`film`], [`packets`]: media.

pub(crate) mod footage;
pub(crate) mod quirks;

mod again;
mod answers;
mod film;
pub(crate) mod login;
mod packets;
mod sdp;

use std::collections::BTreeMap;

use self::answers::{Request, take_request};
use self::film::Film;
use self::footage::{Footage, Picture};
use self::login::Login;
use self::packets::interleaved;
use self::quirks::CameraQuirk::{self, *};
use super::rng::Rng;
use crate::units::MonoTime;

/// Wall-clock time of monotonic 0, microseconds since 1970.
pub(crate) const WALL: i64 = 1_790_000_000_000_000;
/// When the network freezes, after the start of the camera, microseconds.
const FREEZE: u64 = 12_000_000;
/// When the camera closes a session, after its start, microseconds.
const CLOSE: u64 = 20_300_000;

/// What comes out of the camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Output {
    /// Bytes of the connection, as one read returns them.
    Bytes(Vec<u8>),
    /// A datagram to this port of the client.
    Datagram { port: u16, bytes: Vec<u8> },
    /// The camera closed the connection.
    Closed,
}

/// A sound frame as it was sent.
#[derive(Debug, Clone)]
pub(crate) struct SoundFrame {
    pub(crate) bytes: Vec<u8>,
    pub(crate) captured: MonoTime,
    pub(crate) damaged: bool,
}

#[derive(Debug)]
struct Track {
    is_sound: bool,
    channel: u8,
    /// The client's port, for UDP.
    port: Option<u16>,
}

#[derive(Debug, Default)]
struct Connection {
    input: Vec<u8>,
    tracks: Vec<Track>,
    session: Option<String>,
    film: Option<Film>,
    /// The latest sign of life of the client.
    alive_at: MonoTime,
    /// Nothing goes out any more.
    silent: bool,
    closing: bool,
}

/// A camera.
#[derive(Debug)]
pub(crate) struct QuirkyCamera {
    pub(crate) quirks: Vec<CameraQuirk>,
    footage: Footage,
    seed: u64,
    rng: Rng,
    born: MonoTime,
    login: Login,
    connection: Option<Connection>,
    /// Connections so far, also those that were refused.
    pub(crate) connections: u32,
    /// Sessions that played.
    pub(crate) sessions: u32,
    /// Sessions that the client ended with TEARDOWN.
    pub(crate) torn_down: u32,
    setups: u32,
    /// The camera notices at this time that its client has gone.
    free_at: MonoTime,
    /// What goes out, by time and order.
    out: BTreeMap<(MonoTime, u64), Output>,
    order: u64,
    /// No byte of the connection goes out before this time.
    tcp_after: MonoTime,
    frames: u64,
    /// Requests of the client.
    pub(crate) requests: Vec<(MonoTime, Request)>,
    /// All pictures sent.
    pub(crate) pictures: Vec<Picture>,
    /// All sound frames sent.
    pub(crate) sounds: Vec<SoundFrame>,
}

impl QuirkyCamera {
    /// A camera with these quirks, switched on at `now`.
    pub(crate) fn new(
        seed: u64,
        quirks: &[CameraQuirk],
        footage: Footage,
        now: MonoTime,
    ) -> QuirkyCamera {
        let mut footage = footage;
        for quirk in quirks {
            footage.gop = match quirk {
                GopOfOne => 1,
                GopOfMinute => footage.fps * 60,
                _ => footage.gop,
            };
        }
        QuirkyCamera {
            quirks: quirks.to_vec(),
            footage,
            seed,
            rng: Rng::new(seed),
            born: now,
            login: Login::new(quirks),
            connection: None,
            connections: 0,
            sessions: 0,
            torn_down: 0,
            setups: 0,
            free_at: now,
            out: BTreeMap::new(),
            order: 0,
            tcp_after: now,
            frames: 0,
            requests: Vec::new(),
            pictures: Vec::new(),
            sounds: Vec::new(),
        }
    }

    /// Whether it has a quirk.
    pub(crate) fn has(&self, quirk: CameraQuirk) -> bool {
        self.quirks.contains(&quirk)
    }

    fn is_udp(&self) -> bool {
        self.quirks.iter().any(|quirk| quirk.is_udp())
    }

    /// Requests with credentials that were refused.
    pub(crate) fn denied(&self) -> u32 {
        self.login.denied
    }

    /// Time from picture to picture, microseconds.
    pub(crate) fn picture_micros(&self) -> u64 {
        1_000_000 / self.footage.fps
    }

    fn ssrc(&self, is_sound: bool) -> u32 {
        (self.seed as u32 | 0x100) ^ if is_sound { 0x5500_0000 } else { 0 }
    }

    /// The stamp of the first picture of a session.
    fn stamp_base(&self) -> u32 {
        match () {
            () if self.has(StampsWrap) => u32::MAX - 450_000,
            () if self.has(RtptimeZero) => 3_000_000_000,
            () => 123_456 + self.sessions * 1_000_000,
        }
    }

    /// The client opens a connection; false when it is refused.
    pub(crate) fn connect(&mut self, now: MonoTime) -> bool {
        self.connections += 1;
        let gone = self.has(RebootsOnce) && self.is_rebooting(now);
        if gone || self.has(RefusedAtFirst) && self.connections <= 3 {
            return false;
        }
        self.out.clear();
        self.tcp_after = now;
        let mut conn = Connection { alive_at: now, ..Connection::default() };
        if self.has(OneClientSlowClose) && (self.connection.is_some() || now < self.free_at) {
            conn.closing = true;
            self.push(now.plus_micros(1000), Output::Closed);
        }
        self.login.connected(now);
        self.connection = Some(conn);
        true
    }

    /// Pictures of the session before with which the next one begins.
    fn latest_gop(&self) -> u64 {
        let gop = self.footage.gop as usize;
        let before = self.pictures.len().saturating_sub(gop / 2);
        let key = self.pictures[..before].iter().rposition(|picture| picture.key);
        match key.filter(|_| self.has(FramesAgain)) {
            Some(key) => (self.pictures.len() - key) as u64,
            None => 0,
        }
    }

    fn is_rebooting(&self, now: MonoTime) -> bool {
        (CLOSE..CLOSE + 10_000_000).contains(&now.since(self.born))
    }

    /// The client closed its connection.
    pub(crate) fn closed_by_client(&mut self, now: MonoTime) {
        let busy = self.connection.take().is_some_and(|conn| !conn.closing);
        if busy {
            self.free_at = now.plus_secs(1);
        }
        self.out.clear();
    }

    /// Bytes of the client.
    pub(crate) fn receive(&mut self, bytes: &[u8], now: MonoTime) {
        let Some(conn) = &mut self.connection else { return };
        if conn.silent || conn.closing {
            return;
        }
        conn.input.extend_from_slice(bytes);
        while let Some(request) =
            self.connection.as_mut().and_then(|conn| take_request(&mut conn.input))
        {
            self.answer(&request, now);
            self.requests.push((now, request));
            if self.requests.len() > 2000 {
                self.requests.remove(0);
            }
        }
    }

    /// When [`QuirkyCamera::poll`] is due next.
    pub(crate) fn next_deadline(&self) -> Option<MonoTime> {
        let out = self.out.first_key_value().map(|(key, _)| key.0);
        let conn = self.connection.as_ref().filter(|conn| !conn.silent && !conn.closing);
        let film = conn.and_then(|conn| conn.film.as_ref()).map(|film| film.next(self));
        let life = conn.and_then(|conn| self.life_ends(conn.alive_at, conn.film.as_ref()));
        [out, film, life].into_iter().flatten().min()
    }

    /// When the camera ends a connection whose client gave its latest sign of life at `alive_at`.
    fn life_ends(&self, alive_at: MonoTime, film: Option<&Film>) -> Option<MonoTime> {
        let reboot = self.has(RebootsOnce).then(|| self.born.plus_micros(CLOSE));
        let reboot = reboot.filter(|at| alive_at <= *at);
        let Some(film) = film else { return reboot };
        let strict = match () {
            () if self.has(TimeoutStrict) => Some(alive_at.plus_secs(11)),
            () if self.has(KeepAlive501) => Some(alive_at.plus_secs(21)),
            () => None,
        };
        let closes = match () {
            () if self.has(EofAfterPlay) && self.sessions <= 2 => {
                Some(film.since.plus_micros(5_000))
            }
            () if self.has(ClosesMidGop) || self.has(ByeAndClose) || self.has(FramesAgain) => {
                Some(film.since.plus_micros(CLOSE))
            }
            () if self.has(UnauthorizedThrice) && self.sessions == 1 => {
                Some(film.since.plus_micros(CLOSE))
            }
            () if self.has(HalfOpen) && self.sessions == 1 => Some(film.since.plus_secs(15)),
            () => None,
        };
        [reboot, strict, closes].into_iter().flatten().min()
    }

    /// What comes out next, at `now` or before; `None` until time passes.
    pub(crate) fn poll(&mut self, now: MonoTime) -> Option<Output> {
        while let Some(conn) = &mut self.connection {
            if conn.silent || conn.closing {
                break;
            }
            let alive_at = conn.alive_at;
            let mut film = conn.film.take();
            let ends = self.life_ends(alive_at, film.as_ref()).is_some_and(|at| at <= now);
            let due = !ends && film.as_ref().is_some_and(|film| film.next(self) <= now);
            if ends {
                self.end(film.as_mut(), now);
            } else if let Some(film) = film.as_mut().filter(|_| due) {
                film.run(self, now);
            }
            if let Some(conn) = &mut self.connection {
                conn.film = film;
            }
            if !due {
                break;
            }
        }
        let first = self.out.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// The camera ends the connection, or falls silent.
    fn end(&mut self, film: Option<&mut Film>, now: MonoTime) {
        let silent = self.has(HalfOpen) && self.sessions == 1;
        if let Some(film) = film.filter(|_| self.has(ByeAndClose)) {
            film.say_bye(self, now);
        }
        if !silent {
            self.push(now.max(self.tcp_after), Output::Closed);
        }
        if let Some(conn) = &mut self.connection {
            (conn.silent, conn.closing) = (silent, !silent);
        }
    }

    fn push(&mut self, at: MonoTime, output: Output) {
        self.order += 1;
        self.out.insert((at, self.order), output);
    }

    /// Sends bytes of the connection at `at`, as the network passes them on.
    fn send_later(&mut self, bytes: Vec<u8>, at: MonoTime) {
        let lump = 500_000;
        let freeze = self.born.plus_micros(FREEZE);
        let length = match () {
            () if self.has(FreezeTenSeconds) => 10_000_000,
            () if self.has(FreezeThirtySeconds) => 30_000_000,
            () => 0,
        };
        let mut at = match () {
            () if self.has(Coalesced) => MonoTime(at.0.div_ceil(lump) * lump),
            () if at >= freeze && at.since(freeze) < length => freeze.plus_micros(length),
            () => at,
        };
        if self.has(SplitAnywhere) {
            at = at.max(self.tcp_after);
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (piece, more) = rest.split_at(1 + self.rng.below(rest.len() as u64) as usize);
                self.push(at, Output::Bytes(piece.to_vec()));
                at = at.plus_micros(self.rng.below(300));
                rest = more;
            }
            self.tcp_after = at;
        } else if self.has(OneByteAtATime) {
            for byte in bytes {
                self.push(at, Output::Bytes(vec![byte]));
            }
        } else {
            self.push(at, Output::Bytes(bytes));
        }
    }

    /// Sends a packet of a track, if the client has set it up.
    fn send_packet(&mut self, is_sound: bool, is_rtcp: bool, packet: &[u8], at: MonoTime) {
        let Some(conn) = &self.connection else { return };
        let of = |sound: bool| conn.tracks.iter().rev().find(|track| track.is_sound == sound);
        let Some(track) = of(is_sound) else { return };
        if self.is_udp() {
            let port = track.port.unwrap_or(0) + u16::from(is_rtcp);
            return self.push(at, Output::Datagram { port, bytes: packet.to_vec() });
        }
        let place = match () {
            () if self.has(ChannelsSwapped) => of(!is_sound),
            () if self.has(ChannelsSwapMid) && at.since(self.born) > FREEZE => of(!is_sound),
            () if self.has(ChannelShared) => of(false),
            () => None,
        };
        let channel = place.unwrap_or(track).channel;
        let channel = channel + if self.has(WrongChannel) { 8 } else { 0 };
        let channel = channel + u8::from(is_rtcp != self.has(OddChannel));
        self.frames += 1;
        let garbage = self.has(GarbageBeforeFrame) && self.frames.is_multiple_of(97);
        let mut bytes = if garbage { vec![0, 1, 0xff, 7, 9] } else { Vec::new() };
        bytes.extend(interleaved(channel, packet));
        self.send_later(bytes, at);
    }
}

#[cfg(test)]
mod tests {
    use super::footage::{Shape, Sound, Video, number_of, sets, slices};
    use super::*;

    #[test]
    fn every_slice_carries_its_number_and_no_start_code() {
        for (video, key) in [(Video::H264, true), (Video::H264, false), (Video::H265, true)] {
            let shape = Shape { slices: 4, key_bytes: 9_000, not_idr: false, sets: 0 };
            for (at, slice) in slices(video, 77, key, 5, shape).into_iter().enumerate() {
                assert_eq!(number_of(&slice), Some(77));
                let starts = slice.windows(3).any(|w| w[..2] == [0, 0] && w[2] < 3);
                assert!(!starts, "slice {at} of {video:?} has a start code");
            }
        }
    }

    #[test]
    fn both_codecs_have_two_pairs_of_parameter_sets() {
        for video in [Video::H264, Video::H265] {
            let count = if video == Video::H264 { 2 } else { 3 };
            assert_eq!([sets(video, 0).len(), sets(video, 1).len()], [count; 2]);
            assert_ne!(sets(video, 0), sets(video, 1));
        }
    }

    /// What a client with the plainest requests receives within 5 s.
    fn plain_session(quirks: &[CameraQuirk]) -> (QuirkyCamera, String) {
        let start = MonoTime(1_000_000_000);
        let footage = Footage { video: Video::H264, sound: Sound::Pcmu, fps: 10, gop: 20 };
        let mut camera = QuirkyCamera::new(1, quirks, footage, start);
        assert!(camera.connect(start));
        let mut text = String::new();
        for request in [
            "DESCRIBE rtsp://camera.test/cam RTSP/1.0\r\nCSeq: 1\r\n\r\n",
            "SETUP rtsp://camera.test/cam/track1 RTSP/1.0\r\nCSeq: 2\r\nTransport: RTP/AVP/TCP;interleaved=0-1\r\n\r\n",
            "PLAY rtsp://camera.test/cam RTSP/1.0\r\nCSeq: 3\r\nSession: 12345671\r\n\r\n",
        ] {
            camera.receive(request.as_bytes(), start);
        }
        while let Some(at) = camera.next_deadline().filter(|at| at.since(start) < 5_000_000) {
            while let Some(output) = camera.poll(at) {
                if let Output::Bytes(bytes) = output {
                    text += &String::from_utf8_lossy(&bytes);
                }
            }
        }
        (camera, text)
    }

    #[test]
    fn a_plain_client_gets_answers_and_numbered_pictures() {
        let (camera, text) = plain_session(&[]);
        assert_eq!(text.matches("RTSP/1.0 200 OK").count(), 3, "{text}");
        assert!(camera.pictures.len() >= 48, "{}", camera.pictures.len());
        assert_eq!(text.matches("tq-frame").count(), camera.pictures.len());
    }

    #[test]
    fn a_camera_with_a_login_answers_401_to_a_plain_client() {
        let (camera, text) = plain_session(&[AuthInt]);
        assert!(text.starts_with("RTSP/1.0 401") && text.contains("auth,auth-int"), "{text}");
        assert!(camera.pictures.is_empty());
    }
}
