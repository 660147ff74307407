//! The RTSP client machine: time and bytes in; bytes to send, packets and events out.
//!
//! It does no I/O and reads no clock. One request is outstanding at a time; any response answers it.
//! [`super::set_up`] has the steps up to PLAY.

use std::collections::VecDeque;
use std::time::Duration;

use url::Url;

use super::auth::Authenticator;
use super::control_url::encoded;
use super::keep_alive::KeepAlive;
use super::limits::{ANSWER_TIMEOUT, OUTPUT_MAX, RECONNECTS_MAX, REQUESTS_MAX, TEARDOWN_TIMEOUT};
use super::message::{Decoder, Item, Message};
use super::open_body::OpenBody;
use super::set_up::{Sound, Track};
use crate::camera::auth_limiter::AuthOutcome;
use crate::camera::quirk::{Quirk, QuirkCounts};
use crate::camera::track_format::TrackFormat;
use crate::camera::{CameraFault, Failure};
use crate::redact::KnownLogin;
use crate::settings::{Login, Transport};
use crate::units::MonoTime;

/// What a session needs to know.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// URL of the stream, without a login.
    pub url: Url,
    /// Configuration key of the URL, for messages.
    pub url_key: &'static str,
    /// User and password, if configured.
    pub login: Option<Login>,
    /// Transport of RTP.
    pub transport: Transport,
    /// Local ports of RTP and RTCP of each track; only for UDP.
    pub udp_ports: [(u16, u16); 2],
    /// Whether sound is set up.
    pub sound: Sound,
    /// Random bytes.
    pub seed: [u8; 32],
    /// Whether a track can be recorded, and why not.
    pub accepts: fn(&TrackFormat) -> Result<(), String>,
}

/// What comes out of the machine.
#[derive(Debug, PartialEq)]
pub enum Event<'a> {
    /// The connection must be closed, and another one opened to this host and port.
    Connect(String, u16),
    /// A packet of a track.
    Packet {
        /// Index in [`Client::tracks`].
        track: usize,
        /// RTCP, not RTP.
        rtcp: bool,
        /// The whole packet.
        bytes: &'a [u8],
    },
    /// A track is set up: UDP paths can be opened.
    SetUp(usize),
    /// PLAY was answered.
    Playing,
    /// The session ended.
    Ended(Failure),
    /// TEARDOWN was answered, or need not be waited for.
    TornDown,
}

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Describe,
    SetUp(usize),
    Play,
    KeepAlive,
    TearDown,
}

/// A request, to be sent again after a 401.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) purpose: Purpose,
    pub(super) method: &'static str,
    pub(super) uri: String,
    pub(super) headers: Vec<(&'static str, String)>,
}

#[derive(Debug)]
pub(super) struct Pending {
    pub(super) request: Request,
    pub(super) cseq: u32,
    sent: MonoTime,
}

/// Where the session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    SetUp,
    Playing,
    TearingDown,
    Ended,
}

/// One RTSP session.
#[derive(Debug)]
pub struct Client {
    pub(super) options: ClientOptions,
    /// The login, for texts that must not show it.
    pub(super) known: KnownLogin,
    pub(super) auth: Authenticator,
    pub(super) decoder: Decoder,
    pub(super) keep_alive: KeepAlive,
    pub(super) phase: Phase,
    pub(super) tracks: Vec<Track>,
    /// The URL of PLAY and TEARDOWN; the stream's own before DESCRIBE was answered.
    pub(super) aggregate: String,
    /// Session ids that the camera gave, in their order; the first is used.
    pub(super) sessions: Vec<Vec<u8>>,
    pub(super) open_body: Option<OpenBody>,
    /// Tracks that are played one by one, in reverse; empty for PLAY of the whole session.
    pub(super) play_queue: Vec<String>,
    /// PLAY is sent with a range.
    pub(super) with_range: bool,
    /// Requests of the set-up so far.
    requests: u32,
    pub(super) redirects: u32,
    /// The camera answered DESCRIBE with 401 or a redirect, and is asked again on the same
    /// connection: if that ends, another one is opened.
    pub(super) reconnect: bool,
    /// Connections opened for that reason.
    pub(super) reconnects: u32,
    pub(super) server_requests: u32,
    /// Responses since the last one that answered a request.
    pub(super) unexpected: u32,
    cseq: u32,
    pub(super) pending: Option<Pending>,
    /// Numbers of keep-alive requests that were not answered.
    pub(super) abandoned: VecDeque<u32>,
    /// The latest response of the set-up that carried the number of its request.
    pub(super) numbered: Option<(u32, Message)>,
    pub(super) output: Vec<u8>,
    pub(super) events: VecDeque<Event<'static>>,
    pub(super) quirks: QuirkCounts,
    /// The camera sent at least one response.
    pub(super) answered: bool,
    pub(super) media_seen: bool,
    pub(super) is_full: bool,
    pub(super) refused: bool,
}

impl Client {
    /// A session that waits for its connection.
    pub fn new(options: ClientOptions) -> Client {
        let auth = Authenticator::new(options.login.clone(), options.seed);
        let known = options.login.as_ref().map(Login::known).unwrap_or_default();
        Client {
            aggregate: encoded(options.url.as_str()),
            options,
            auth,
            decoder: Decoder::new(known.clone()),
            known,
            keep_alive: KeepAlive::default(),
            phase: Phase::SetUp,
            tracks: Vec::new(),
            sessions: Vec::new(),
            open_body: None,
            play_queue: Vec::new(),
            with_range: true,
            requests: 0,
            redirects: 0,
            reconnect: false,
            reconnects: 0,
            server_requests: 0,
            unexpected: 0,
            cseq: 0,
            pending: None,
            abandoned: VecDeque::new(),
            numbered: None,
            output: Vec::new(),
            events: VecDeque::new(),
            quirks: QuirkCounts::default(),
            answered: false,
            media_seen: false,
            is_full: false,
            refused: false,
        }
    }

    /// The connection is open: asks for the description of the stream.
    pub fn connected(&mut self, now: MonoTime) {
        self.quirks.add(&self.decoder.quirks);
        self.decoder = Decoder::new(self.known.clone());
        self.output.clear();
        self.reconnect = false;
        self.describe(now);
    }

    /// Takes received bytes. [`Client::poll`] must be called until it returns `None` before more.
    pub fn received(&mut self, bytes: &[u8]) {
        self.decoder.received(bytes);
    }

    /// The bytes to send now.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// The tracks that are set up.
    pub fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    /// Whether sound is recorded.
    pub fn sound(&self) -> &Sound {
        &self.options.sound
    }

    /// Deviations so far.
    pub fn quirks(&self) -> QuirkCounts {
        let mut all = self.quirks;
        all.add(&self.decoder.quirks);
        all
    }

    /// What the camera thinks of the login.
    pub fn auth_outcome(&self) -> AuthOutcome {
        match (self.refused, self.auth.is_accepted()) {
            (true, _) => AuthOutcome::Rejected,
            (false, true) => AuthOutcome::Accepted,
            (false, false) => AuthOutcome::NotAsked,
        }
    }

    /// How often the login was sent before the camera accepted it.
    pub fn logins_sent(&self) -> u32 {
        self.auth.unproven()
    }

    /// True when the camera has no place for this session.
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// Bytes held: received, of an open body, to be sent, and of events.
    pub fn held(&self) -> usize {
        let body = self.open_body.as_ref().map_or(0, |open| open.message.body.len());
        let response = self.numbered.as_ref().map_or(0, |(_, message)| message.size());
        let events = self.events.len() * std::mem::size_of::<Event<'static>>();
        self.decoder.held() + body + response + self.output.len() + events
    }

    /// Media came over UDP.
    pub fn media_came(&mut self) {
        self.media_seen = true;
    }

    /// The next event, or `None` until more bytes or time come.
    pub fn poll(&mut self, now: MonoTime) -> Option<Event<'_>> {
        let (track, rtcp, place) = loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            if self.phase == Phase::Ended {
                return None;
            }
            if self.open_body.is_some() {
                self.read_open_body(now);
                if self.open_body.is_some() {
                    return None;
                }
                continue;
            }
            match self.decoder.next_item() {
                Ok(None) => return None,
                Ok(Some(Item::Frame(channel, place))) => {
                    if let Some((track, rtcp)) = self.frame(channel, place.clone()) {
                        break (track, rtcp, place);
                    }
                }
                Ok(Some(Item::Message(message))) => self.message(*message, now),
                Err(_) if self.phase == Phase::TearingDown => self.torn_down(),
                Err(why) => self.fail(CameraFault::Protocol, &why),
            }
        };
        Some(Event::Packet { track, rtcp, bytes: self.decoder.bytes(place) })
    }

    /// When [`Client::tick`] is due next.
    pub fn next_tick(&self) -> Option<MonoTime> {
        let answer = self.pending.as_ref().and_then(|pending| {
            Some(pending.sent.plus(match pending.request.purpose {
                Purpose::KeepAlive => return None,
                Purpose::TearDown => TEARDOWN_TIMEOUT,
                purpose => self.answer_timeout(purpose),
            }))
        });
        let body = self.open_body.as_ref().map(OpenBody::ends_at);
        let keep_alive = self.keep_alive.due().filter(|_| self.phase == Phase::Playing);
        [answer, body, keep_alive].into_iter().flatten().min()
    }

    /// Time has passed.
    pub fn tick(&mut self, now: MonoTime) {
        if self.next_tick().is_none_or(|due| now < due) || self.phase == Phase::Ended {
            return;
        }
        if let Some(open) = self.open_body.take_if(|open| now >= open.ends_at()) {
            self.described(&open.message, now);
        }
        if self.phase == Phase::Playing && self.keep_alive.due().is_some_and(|due| now >= due) {
            self.send_keep_alive(now);
        }
        let Some(pending) = &self.pending else { return };
        let waited = now.duration_since(pending.sent);
        match pending.request.purpose {
            Purpose::TearDown if waited >= TEARDOWN_TIMEOUT => self.torn_down(),
            Purpose::KeepAlive | Purpose::TearDown => {}
            purpose if waited < self.answer_timeout(purpose) => {}
            Purpose::Play if self.media_seen => {
                self.quirks.note(Quirk::PlaySilent);
                self.abandon();
                self.playing(now);
            }
            purpose => {
                let method = pending.request.method;
                let why = self.silence(method);
                if let Purpose::SetUp(track) = purpose
                    && track > 0
                {
                    self.options.sound = Sound::Silenced(why.clone());
                    return self.fail(CameraFault::Protocol, &format!("sound: {why}"));
                }
                self.fail(CameraFault::Protocol, &why);
            }
        }
    }

    /// Longest wait for an answer. Media answers PLAY as well: the first keep-alive, which the
    /// camera needs in time, does not wait behind it.
    fn answer_timeout(&self, purpose: Purpose) -> Duration {
        let answered = purpose == Purpose::Play && self.media_seen;
        if answered { ANSWER_TIMEOUT.min(self.keep_alive.interval()) } else { ANSWER_TIMEOUT }
    }

    /// The connection ended, for this reason; `None` when the camera closed it.
    pub fn closed(&mut self, error: Option<&str>) {
        match self.phase {
            Phase::Ended => {}
            Phase::TearingDown => self.torn_down(),
            Phase::Playing => {
                let why = error.unwrap_or("the camera closed the session");
                self.fail(CameraFault::Closed, why);
            }
            Phase::SetUp if self.reconnect && self.reconnects < RECONNECTS_MAX => {
                self.reconnect = false;
                self.reconnects += 1;
                self.auth.reconnected();
                self.pending = None;
                let (host, port) = address(&self.options.url);
                self.events.push_back(Event::Connect(host, port));
            }
            Phase::SetUp => {
                let method = self.pending.as_ref().map_or("set-up", |p| p.request.method);
                // A camera without a place for another client accepts and closes.
                self.is_full |= !self.answered;
                let how = error.unwrap_or("the camera closed the connection");
                let why = match self.decoder.incomplete_body() {
                    Some((have, want)) => {
                        format!(
                            "{method}: the answer is incomplete: {have} of {want} bytes, then {how}"
                        )
                    }
                    None => format!("{method}: {how}"),
                };
                self.fail(CameraFault::Closed, &why);
            }
        }
    }

    /// Ends the session: TEARDOWN, where there is something to end. [`Event::TornDown`] follows.
    pub fn tear_down(&mut self, now: MonoTime) {
        let begun = self.tracks.iter().any(|track| track.asked);
        self.events.clear();
        self.open_body = None;
        self.abandon();
        self.phase = Phase::TearingDown;
        if !begun || self.reconnect {
            return self.torn_down();
        }
        self.send_tear_down(now);
    }

    pub(super) fn send_tear_down(&mut self, now: MonoTime) {
        let (purpose, method, uri) = (Purpose::TearDown, "TEARDOWN", self.aggregate.clone());
        self.send(Request { purpose, method, uri, headers: Vec::new() }, now);
    }

    pub(super) fn torn_down(&mut self) {
        self.phase = Phase::Ended;
        self.pending = None;
        self.events.push_back(Event::TornDown);
    }

    /// Ends the session with a failure.
    pub(super) fn fail(&mut self, fault: CameraFault, why: &str) {
        self.phase = Phase::Ended;
        self.pending = None;
        self.events.push_back(Event::Ended((fault, self.known.masked(why))));
    }

    pub(super) fn playing(&mut self, now: MonoTime) {
        self.phase = Phase::Playing;
        self.keep_alive.start(now);
        self.events.push_back(Event::Playing);
    }

    fn abandon(&mut self) {
        if let Some(pending) = self.pending.take() {
            self.abandoned.push_back(pending.cseq);
            if self.abandoned.len() > 8 {
                self.abandoned.pop_front();
            }
        }
    }

    pub(super) fn send_keep_alive(&mut self, now: MonoTime) {
        if self.pending.is_some() {
            self.quirks.note(Quirk::KeepAliveSilent);
            self.abandon();
        }
        let (method, uri) = (self.keep_alive.method(), self.aggregate.clone());
        self.send(Request { purpose: Purpose::KeepAlive, method, uri, headers: Vec::new() }, now);
        self.keep_alive.start(now);
    }

    /// Sends a request.
    pub(super) fn send(&mut self, request: Request, now: MonoTime) {
        self.auth.begin_request();
        self.transmit(request, now);
    }

    pub(super) fn transmit(&mut self, request: Request, now: MonoTime) {
        if self.phase == Phase::SetUp {
            self.requests += 1;
            if self.requests > REQUESTS_MAX {
                let why = format!("{} requests, and the set-up is not done", REQUESTS_MAX);
                return self.fail(CameraFault::Protocol, &why);
            }
        }
        self.cseq += 1;
        let mut text =
            format!("{} {} RTSP/1.0\r\nCSeq: {}\r\n", request.method, request.uri, self.cseq)
                .into_bytes();
        for (name, value) in &request.headers {
            text.extend(format!("{name}: {value}\r\n").bytes());
        }
        if let Some(id) = self.sessions.first() {
            text.extend_from_slice(b"Session: ");
            text.extend_from_slice(id);
            text.extend_from_slice(b"\r\n");
        }
        if let Some(value) = self.auth.header(request.method, &request.uri, b"") {
            text.extend_from_slice(b"Authorization: ");
            text.extend_from_slice(&value);
            text.extend_from_slice(b"\r\n");
        }
        text.extend(format!("User-Agent: taimat/{}\r\n\r\n", env!("CARGO_PKG_VERSION")).bytes());
        if self.output.len() + text.len() > OUTPUT_MAX {
            let why = format!("more than {OUTPUT_MAX} bytes of requests wait");
            return self.fail(CameraFault::Protocol, &why);
        }
        self.output.extend_from_slice(&text);
        self.pending = Some(Pending { request, cseq: self.cseq, sent: now });
    }
}

/// Host and port that a URL is connected to.
pub fn address(url: &Url) -> (String, u16) {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    (host, url.port().unwrap_or(554))
}
