//! Sessions of the real client with the quirky camera, in simulated time.
//!
//! The client machine, the RTP receivers, the frame clock, the supervisor and the limiter of logins
//! are those of the device; sockets, clocks and waits are simulated. [`super::camera_plan`]: what is
//! simulated, and what came of it; [`super::camera_verdict`] judges it.

use std::time::Duration;

use url::Url;

use super::camera_plan::{Dated, Plan, Record, Sabotage, Unit};
use super::quirky_camera::login::{PASSWORD, USER};
use super::quirky_camera::quirks::CameraQuirk::*;
use super::quirky_camera::quirks::Group;
use super::quirky_camera::{Output, QuirkyCamera, WALL};
use super::rng::Rng;
use crate::camera::auth_limiter::{AuthLimiter, AuthOutcome, AuthPermit, AuthRest};
use crate::camera::frame_clock::FrameClock;
use crate::camera::quirk::QuirkCounts;
use crate::camera::rtp::{MediaUnit, Received, TrackReceiver};
use crate::camera::rtsp::client::{Client, ClientOptions, Event};
use crate::camera::rtsp::set_up::Sound;
use crate::camera::supervisor::{StreamCheck, StreamSupervisor};
use crate::camera::track_format::TrackFormat;
use crate::camera::{
    CameraFault, CameraUpdate, Failure, Frame, StreamRole, TrackKind, TrackParams,
};
use crate::settings::{Login, Transport};
use crate::units::{ClockQuality, MonoTime, Secret, Timestamp, WallTime};

/// When the simulated device was switched on, microseconds.
const BOOT: MonoTime = MonoTime(1_000_000_000);
/// Time for TEARDOWN with all its sockets, microseconds.
const CLOSE: u64 = 3_500_000;
/// Without a frame for these times a stream stalls, and is connected to again, microseconds.
const STALLS: [u64; 2] = [5_000_000, 15_000_000];
/// Ports of the client for UDP.
const PORTS: [(u16, u16); 2] = [(5000, 5001), (5002, 5003)];

/// A track of the current session.
#[derive(Default)]
struct TrackState {
    params: Option<std::sync::Arc<TrackParams>>,
}

struct Driver {
    plan: Plan,
    now: MonoTime,
    end: MonoTime,
    rng: Rng,
    camera: QuirkyCamera,
    auth: AuthLimiter,
    supervisor: StreamSupervisor,
    clock: FrameClock,
    sound: Sound,
    receivers: Vec<TrackReceiver>,
    tracks: [TrackState; 2],
    playing_since: Option<MonoTime>,
    session_quirks: QuirkCounts,
    record: Record,
}

/// Runs a plan. Returns what was recorded, and the camera with what it sent.
pub(crate) fn run(plan: Plan) -> (Record, QuirkyCamera) {
    let camera = QuirkyCamera::new(plan.seed, &plan.quirks, plan.footage, BOOT);
    let mut driver = Driver {
        now: BOOT,
        end: BOOT.plus_secs(plan.seconds),
        rng: Rng::new(plan.seed ^ 0xd21e),
        camera,
        auth: AuthLimiter::default(),
        supervisor: StreamSupervisor::new(StreamRole::Main, STALLS[0], STALLS[1], stamp(BOOT)),
        clock: FrameClock::new(0),
        sound: Sound::Wanted,
        receivers: Vec::new(),
        tracks: Default::default(),
        playing_since: None,
        session_quirks: QuirkCounts::default(),
        record: Record::default(),
        plan,
    };
    driver.live();
    driver.record.ended_at = driver.now;
    driver.record.sound_dropped = driver.clock.sound_counts().dropped;
    (driver.record, driver.camera)
}

/// The clocks of the device at a monotonic time.
fn stamp(mono: MonoTime) -> Timestamp {
    let wall = WallTime(WALL + mono.0 as i64);
    Timestamp { mono, wall, quality: ClockQuality::Ntp }
}

impl Driver {
    fn random(&mut self) -> f64 {
        self.rng.below(1 << 20) as f64 / f64::from(1 << 20)
    }

    fn line(&mut self) {
        self.record.lines.push(self.now);
    }

    fn live(&mut self) {
        while self.now < self.end {
            let Some((failure, rest)) = self.session() else { return };
            self.record.ends.push((self.now, failure.clone()));
            let locked_for = match rest {
                AuthRest::Lockout(time) => time,
                AuthRest::Pause(time) => {
                    self.supervisor.rest_at_least(time);
                    Duration::ZERO
                }
                AuthRest::None => Duration::ZERO,
            };
            let random = self.random();
            let (updates, pause) = self.supervisor.failed(failure.0, failure.1, locked_for, random);
            for update in updates {
                self.update(update);
            }
            self.now = self.now.plus(pause);
        }
    }

    /// An update of the agent: each writes a line, but for counters.
    fn update(&mut self, update: CameraUpdate) {
        match update {
            CameraUpdate::Counts { .. } => return,
            CameraUpdate::Down { fault, .. } if fault != CameraFault::LockedOut => {
                self.record.downs += 1;
            }
            CameraUpdate::Up { .. } => self.record.ups += 1,
            _ => {}
        }
        self.line();
    }

    /// Waits for the permission to send the password.
    fn permit(&mut self) -> Option<Result<(), (Failure, AuthRest)>> {
        while self.now < self.end {
            match self.auth.acquire(StreamRole::Main, self.now) {
                AuthPermit::Granted => return Some(Ok(())),
                AuthPermit::LockedOut(rest) => {
                    let failure = (CameraFault::LockedOut, "rejected too often".to_owned());
                    return Some(Err((failure, AuthRest::Lockout(rest))));
                }
                AuthPermit::Busy(wait) => self.now = self.now.plus(wait),
            }
        }
        None
    }

    /// One session from connect to TEARDOWN; `None` at the end of the plan.
    fn session(&mut self) -> Option<(Failure, AuthRest)> {
        if let Err(ended) = self.permit()? {
            return Some(ended);
        }
        (self.tracks, self.playing_since) = (Default::default(), None);
        self.session_quirks = QuirkCounts::default();
        self.receivers.clear();
        self.clock.restart();
        let (outcome, failure) = if self.camera.connect(self.now) {
            let mut client = Client::new(self.options());
            let mut open = true;
            let failure = self.drive(&mut client, &mut open);
            self.finish(&client);
            if failure.is_some() {
                self.close(&mut client, open);
            }
            self.record.quirks.add(&client.quirks());
            for receiver in &self.receivers {
                self.record.quirks.add(receiver.quirks());
            }
            self.sound = client.sound().clone();
            (client.auth_outcome(), failure?)
        } else {
            (AuthOutcome::NotAsked, (CameraFault::Unreachable, "connection refused".to_owned()))
        };
        if self.playing_since.is_some()
            && let Some(last) = self.record.played.last_mut()
        {
            last.1 = Some(self.now);
        }
        let random = self.random();
        Some((failure, self.auth.answered(StreamRole::Main, self.now, outcome, random)))
    }

    fn options(&self) -> ClientOptions {
        let has_login = self.plan.quirks.iter().any(|quirk| {
            (quirk.group() == Group::Login || quirk.needs_login())
                && !matches!(quirk, NoLogin | NoLoginBasic)
        });
        let path = if self.plan.quirks.iter().any(|quirk| quirk.has_url_password()) {
            "user=admin_password=tlJwpbo6_channel=1_stream=0.sdp?real_stream"
        } else {
            "cam"
        };
        let login = Login { user: USER.to_owned(), password: Secret::new(PASSWORD) };
        ClientOptions {
            url: Url::parse(&format!("rtsp://camera.test/{path}")).expect("a URL"),
            url_key: "camera.main_url",
            login: has_login.then_some(login),
            transport: self.transport(),
            udp_ports: PORTS,
            sound: self.sound.clone(),
            seed: [self.plan.seed as u8; 32],
            accepts,
        }
    }

    fn transport(&self) -> Transport {
        if self.plan.quirks.iter().any(|quirk| quirk.is_udp()) {
            Transport::Udp
        } else {
            Transport::Tcp
        }
    }

    /// Drives a session. Returns why it ended; `None` at the end of the plan.
    fn drive(&mut self, client: &mut Client, open: &mut bool) -> Option<Failure> {
        client.connected(self.now);
        let interval = if self.transport() == Transport::Udp { 100_000 } else { 500_000 };
        let mut next_check = self.now;
        loop {
            if let Some(failure) = self.work(client) {
                return Some(failure);
            }
            let due = self.camera.next_deadline().map_or(next_check, |at| at.min(next_check));
            self.now = self.now.max(due);
            if self.now >= self.end {
                self.now = self.end;
                return None;
            }
            while let Some(output) = self.camera.poll(self.now) {
                match output {
                    Output::Bytes(bytes) => client.received(&bytes),
                    Output::Closed => {
                        *open = false;
                        client.closed(None);
                    }
                    Output::Datagram { port, bytes } => {
                        client.media_came();
                        let track = PORTS.iter().position(|ports| ports.0 == port);
                        let track = track.filter(|track| *track < self.receivers.len());
                        let failure = track.and_then(|track| self.packet(client, track, &bytes));
                        if failure.is_some() {
                            return failure;
                        }
                    }
                }
                if let Some(failure) = self.work(client) {
                    return Some(failure);
                }
            }
            if self.now >= next_check {
                next_check = self.now.plus_micros(interval);
                if let Some(failure) = self.check(client) {
                    return Some(failure);
                }
            }
        }
    }

    fn packet(&mut self, client: &Client, track: usize, bytes: &[u8]) -> Option<Failure> {
        if self.plan.sabotage == Some(Sabotage::Chatter) {
            self.line();
        }
        self.receivers.get_mut(track)?.packet(bytes, self.now);
        self.units(client, track)
    }

    /// Sends what the machine wants to send, and takes its events until none is left.
    fn work(&mut self, client: &mut Client) -> Option<Failure> {
        loop {
            let output = client.take_output();
            if !output.is_empty() {
                self.camera.receive(&output, self.now);
            }
            let packet = match client.poll(self.now) {
                None => return None,
                Some(Event::Packet { rtcp: true, .. }) => continue,
                Some(Event::Packet { track, bytes, .. }) => (track, bytes.to_vec()),
                Some(Event::SetUp(track)) => {
                    let format = client.tracks()[track].format.clone();
                    match TrackReceiver::new(&format, self.transport()) {
                        Ok(receiver) => self.receivers.push(receiver),
                        Err(why) => return Some((CameraFault::Protocol, why)),
                    }
                    continue;
                }
                Some(Event::Playing) => {
                    self.begin(client);
                    self.report_quirks(client);
                    continue;
                }
                Some(Event::Connect(host, port)) => {
                    self.camera.closed_by_client(self.now);
                    if host != "camera.test" || !self.camera.connect(self.now) {
                        let why = format!("{host}:{port}: connection refused");
                        return Some((CameraFault::Unreachable, why));
                    }
                    client.connected(self.now);
                    continue;
                }
                Some(Event::Ended(failure)) => {
                    if self.playing_since.is_none() {
                        self.report_quirks(client);
                    }
                    return Some(failure);
                }
                Some(Event::TornDown) => {
                    return Some((CameraFault::Closed, "the session is closed".into()));
                }
            };
            if let Some(failure) = self.packet(client, packet.0, &packet.1) {
                return Some(failure);
            }
        }
    }

    fn begin(&mut self, client: &Client) {
        if self.playing_since.is_some() {
            return;
        }
        self.playing_since = Some(self.now);
        self.record.played.push((self.now, None));
        self.supervisor.connected(stamp(self.now));
        if let Sound::None(why) = client.sound() {
            self.record.without_sound = Some(why.clone());
            self.line();
        }
    }

    /// New quirks: one line of log.
    fn report_quirks(&mut self, client: &Client) {
        let mut all = client.quirks();
        for receiver in &self.receivers {
            all.add(receiver.quirks());
        }
        let known: Vec<_> = self.session_quirks.seen().map(|(quirk, _)| quirk).collect();
        if all.seen().any(|(quirk, _)| !known.contains(&quirk)) {
            self.session_quirks = all;
            self.line();
        }
    }

    fn check(&mut self, client: &mut Client) -> Option<Failure> {
        client.tick(self.now);
        for track in 0..self.receivers.len() {
            self.receivers[track].tick(self.now);
            if let Some(failure) = self.units(client, track) {
                return Some(failure);
            }
        }
        self.take_frames();
        let connected = self.playing_since?;
        self.report_quirks(client);
        match self.supervisor.check(stamp(self.now), connected) {
            StreamCheck::Fine => None,
            StreamCheck::Report(update) => {
                self.update(update);
                None
            }
            StreamCheck::Drop(fault, detail) => Some((fault, detail)),
        }
    }

    /// Takes what a track has received.
    fn units(&mut self, client: &Client, track: usize) -> Option<Failure> {
        while let Some(received) = self.receivers.get_mut(track)?.poll() {
            match received {
                Received::Bad(detail) => {
                    self.record.bad_packets += 1;
                    if let Some(failure) = self.supervisor.error(&detail) {
                        return Some(failure);
                    }
                }
                Received::Unit(unit) => {
                    self.begin(client);
                    self.unit(client.tracks()[track].format.kind, unit);
                }
            }
        }
        None
    }

    fn unit(&mut self, kind: TrackKind, mut unit: MediaUnit) {
        let index = usize::from(kind == TrackKind::Audio);
        let recorded = self.record.units[index].len();
        let mut data = unit.data.to_vec();
        match self.plan.sabotage {
            Some(Sabotage::DropPicture) if index == 0 && recorded == 57 => {
                self.plan.sabotage = None;
                return;
            }
            Some(Sabotage::DropSound) if index == 1 && recorded == 57 => {
                self.plan.sabotage = None;
                return;
            }
            Some(Sabotage::FlipByte) if index == 0 && recorded == 57 => {
                let middle = data.len() / 2;
                data[middle] ^= 1;
            }
            _ => {}
        }
        if let Some(params) = unit.params.take() {
            self.tracks[index].params = Some(params);
        }
        let copy = Unit { session: self.camera.sessions, data, lost: unit.lost };
        if self.plan.sabotage == Some(Sabotage::Twice) && index == 0 && recorded == 57 {
            self.record.units[0].push(copy.clone());
        }
        self.record.units[index].push(copy);
        let Some(params) = self.tracks[index].params.clone() else { return };
        if kind == TrackKind::Video {
            self.supervisor.lost(unit.lost);
            let now = stamp(self.now);
            if let Some(update) = self.supervisor.frame(now, unit.key, String::new) {
                self.update(update);
            }
        }
        self.clock.push(Frame {
            role: StreamRole::Main,
            params,
            data: unit.data,
            key: unit.key,
            pts: unit.rtp_time,
            run: 0,
            at: stamp(self.now).at(unit.arrival),
            lost: unit.lost,
        });
        self.take_frames();
    }

    /// Takes the frames that have their times.
    fn take_frames(&mut self) {
        let late = if self.plan.sabotage == Some(Sabotage::Date) { 3_000_000 } else { 0 };
        while let Some(frame) = self.clock.pop(stamp(self.now)) {
            let index = usize::from(frame.kind() == TrackKind::Audio);
            self.record.frames[index].push(Dated {
                data: frame.data.to_vec(),
                at: frame.at.mono.plus_micros(late),
                pts: frame.pts,
                run: frame.run,
                timescale: frame.params.timescale,
            });
        }
        if self.clock.report().is_some() {
            self.line();
        }
    }

    /// Takes all that is complete at the end of a session.
    fn finish(&mut self, client: &Client) {
        for track in 0..self.receivers.len() {
            self.receivers[track].finish();
            self.units(client, track);
        }
        self.clock.flush();
        self.take_frames();
    }

    /// TEARDOWN.
    fn close(&mut self, client: &mut Client, open: bool) {
        let until = self.now.plus_micros(CLOSE);
        client.tear_down(self.now);
        let mut torn_down = !open;
        while !torn_down {
            let output = client.take_output();
            if !output.is_empty() {
                self.camera.receive(&output, self.now);
            }
            while let Some(event) = client.poll(self.now) {
                torn_down |= event == Event::TornDown;
            }
            let next = self.camera.next_deadline().filter(|at| *at < until);
            let Some(next) = next.filter(|_| !torn_down) else { break };
            self.now = self.now.max(next);
            match self.camera.poll(self.now) {
                Some(Output::Bytes(bytes)) => client.received(&bytes),
                Some(Output::Closed) => torn_down = true,
                _ => {}
            }
        }
        if !torn_down {
            self.now = until;
        }
        self.camera.closed_by_client(self.now);
    }
}

/// Whether a track can be recorded.
fn accepts(format: &TrackFormat) -> Result<(), String> {
    TrackReceiver::new(format, Transport::Tcp).map(drop)
}
