//! The task of one stream of the camera: drives the client machine over its sockets, and reconnects.
//!
//! [`super::client`] speaks RTSP, [`crate::camera::supervisor`] decides when to reconnect,
//! [`crate::camera::frame_clock`] computes capture times.
#![expect(
    clippy::disallowed_methods,
    reason = "shell: reads a clock, waits, uses the network, draws random numbers"
)]

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tracing::Instrument as _;

use super::client::{Client, ClientOptions, Event, address};
use super::connection::{Connection, UdpPorts};
use super::set_up::Sound;
use crate::camera::auth_limiter::{AuthPermit, AuthRest};
use crate::camera::frame_clock::FrameClock;
use crate::camera::quirk::QuirkCounts;
use crate::camera::rtp::{MediaUnit, Received, TrackReceiver};
use crate::camera::session_places::{SUB_REST, SharedSessions};
use crate::camera::supervisor::{StreamCheck, StreamSupervisor};
use crate::camera::track_format::TrackFormat;
use crate::camera::{
    CameraFault, CameraUpdate, Failure, Frame, StreamRole, TrackKind, TrackParams,
};
use crate::clock::{Clock, random, seed};
use crate::settings::{CameraSettings, Transport};
use crate::units::MonoTime;
use crate::wakeup::WakeupCoalescer;
use crate::watchdog::Heartbeat;

/// Interval of the stall checks.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// Interval of the same over UDP, where packets wait for others.
const UDP_CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// Time for TEARDOWN with all its sockets.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(3_500);
/// Interval of heartbeats during a pause.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);
/// How long before the end of the calendar a session ends: several clock readings and a set-up.
const CALENDAR_MARGIN: Duration = Duration::from_secs(120);

/// The inputs of a stream task.
pub struct Stream {
    /// The stream.
    pub role: StreamRole,
    /// Settings of the camera.
    pub settings: CameraSettings,
    /// Source of time.
    pub clock: Arc<dyn Clock>,
    /// What the streams of one camera share.
    pub shared: Arc<Mutex<SharedSessions>>,
    /// Heartbeat of the task.
    pub heartbeat: Heartbeat,
    /// Highest run number that earlier tasks of this stream have used.
    pub run: u32,
    /// Wake-up coalescing, disabled during session setup to shorten the recording gap.
    pub wakeup: WakeupCoalescer,
}

/// Runs one stream of the camera until `stop` becomes true. Frames go to `frames`, all else to
/// `update`.
pub async fn run(
    stream: Stream,
    frames: impl FnMut(Arc<Frame>) + Send,
    update: mpsc::Sender<CameraUpdate>,
    mut stop: watch::Receiver<bool>,
) {
    let supervisor = StreamSupervisor::new(
        stream.role,
        stream.settings.stall_after,
        stream.settings.reconnect_after,
        stream.clock.now(),
    );
    let clock = FrameClock::new(stream.run);
    let wants_sound = stream.settings.audio && stream.role == StreamRole::Main;
    let mut camera = StreamTask {
        stream,
        frames,
        update,
        supervisor,
        clock,
        video: TrackState::default(),
        audio: TrackState::default(),
        playing_since: None,
        quirks: QuirkCounts::default(),
        sound: if wants_sound { Sound::Wanted } else { Sound::Off },
    };
    while !*stop.borrow() {
        let span = tracing::info_span!(
            "camera",
            stream = camera.stream.role.as_str(),
            run = camera.clock.run() + 1
        );
        let ended = camera.session(&mut stop).instrument(span).await;
        camera.stream.heartbeat.beat();
        let Some(((fault, detail), rest)) = ended else {
            return;
        };
        let locked_for = match rest {
            AuthRest::Lockout(time) => time,
            AuthRest::Pause(time) => {
                camera.supervisor.rest_at_least(time);
                Duration::ZERO
            }
            AuthRest::None => Duration::ZERO,
        };
        let (updates, pause) = camera.supervisor.failed(fault, detail, locked_for, random());
        for update in updates {
            let _ = camera.update.send(update).await;
        }
        camera.pause_before_retry(pause, &mut stop).await;
    }
}

/// A track of the current session.
#[derive(Default)]
struct TrackState {
    /// Its parameters; `None` before its first frame.
    params: Option<Arc<TrackParams>>,
}

struct StreamTask<F> {
    stream: Stream,
    frames: F,
    update: mpsc::Sender<CameraUpdate>,
    supervisor: StreamSupervisor,
    clock: FrameClock,
    video: TrackState,
    audio: TrackState,
    /// Since when media is expected.
    playing_since: Option<MonoTime>,
    /// The quirks of this session that were reported.
    quirks: QuirkCounts,
    sound: Sound,
}

/// Why a session ended, and the rest that its login takes.
type Ended = (Failure, AuthRest);

impl<F: FnMut(Arc<Frame>) + Send> StreamTask<F> {
    /// Waits before the next try, or until `stop` becomes true.
    async fn pause_before_retry(&mut self, pause: Duration, stop: &mut watch::Receiver<bool>) {
        let until = Instant::now() + pause;
        while !*stop.borrow() && Instant::now() < until {
            self.stream.heartbeat.beat();
            let left = until.saturating_duration_since(Instant::now());
            let _ = timeout(left.min(HEARTBEAT_INTERVAL), stop.wait_for(|stop| *stop)).await;
        }
    }

    fn now(&self) -> MonoTime {
        self.stream.clock.now().mono
    }

    fn shared(&self) -> std::sync::MutexGuard<'_, SharedSessions> {
        // A panic of the other stream leaves plain numbers, each of them whole.
        self.stream.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one session from connect to TEARDOWN. Returns why it ended; `None` when `stop` became
    /// true.
    async fn session(&mut self, stop: &mut watch::Receiver<bool>) -> Option<Ended> {
        (self.video, self.audio) = (TrackState::default(), TrackState::default());
        (self.playing_since, self.quirks) = (None, QuirkCounts::default());
        self.clock.restart();
        let role = self.stream.role;
        if role == StreamRole::Main {
            let now = self.now();
            self.shared().places.main_sets_up(now);
        }
        let permit = tokio::select! {
            permit = self.permit() => permit,
            _ = stop.wait_for(|stop| *stop) => return None,
        };
        if let Err(ended) = permit {
            return Some(ended);
        }
        let low_latency_guard = self.stream.wakeup.low_latency();
        let mut client = None;
        let result = tokio::select! {
            result = self.connect() => result,
            _ = stop.wait_for(|stop| *stop) => Err((CameraFault::Stopped, String::new())),
        };
        let failure = match result {
            Ok((connection, ports)) => {
                let client = client.insert(Client::new(self.options(&ports)));
                // The kernel buffers TCP data during parks; UDP packets without room are lost.
                let guard = Some(low_latency_guard);
                let mut sockets = Sockets { connection, ports, guard, receivers: Vec::new() };
                let failure = tokio::select! {
                    failure = self.drive(client, &mut sockets) => failure,
                    _ = stop.wait_for(|stop| *stop) => (CameraFault::Stopped, String::new()),
                };
                self.finish(client, &mut sockets).await;
                self.stream.heartbeat.beat();
                let close = close(client, &mut sockets.connection, &self.stream.clock);
                let _ = timeout(CLOSE_TIMEOUT, close).await;
                self.sound = client.sound().clone();
                failure
            }
            Err(failure) => failure,
        };
        self.session_ended(client.as_ref(), failure)
    }

    /// Tells the other stream and the limiter of logins how the session went.
    fn session_ended(&mut self, client: Option<&Client>, failure: Failure) -> Option<Ended> {
        use crate::camera::auth_limiter::AuthOutcome::NotAsked;
        let (now, role) = (self.now(), self.stream.role);
        let outcome = client.map_or(NotAsked, Client::auth_outcome);
        let full = client.is_some_and(Client::is_full);
        let rest = self.shared().auth.answered(role, now, outcome, random());
        let places = &mut self.shared().places;
        match role {
            StreamRole::Main => places.main_ended(now, full),
            StreamRole::Sub => places.sub_ended(now, full),
        }
        (failure.0 != CameraFault::Stopped).then_some((failure, rest))
    }

    /// Waits for a place and for the permission to send the password.
    async fn permit(&mut self) -> Result<(), Ended> {
        let role = self.stream.role;
        while role == StreamRole::Sub {
            self.stream.heartbeat.beat();
            let now = self.now();
            let place = self.shared().places.sub_may_connect(now);
            match place {
                Ok(()) => break,
                Err((rest, true)) => {
                    let minutes = SUB_REST.as_secs() / 60;
                    let detail = format!(
                        "the camera has no place for a second session: the sub-stream rests for {minutes} min, the main stream is recorded"
                    );
                    return Err(((CameraFault::Protocol, detail), AuthRest::Pause(rest)));
                }
                Err((wait, false)) => tokio::time::sleep(wait).await,
            }
        }
        loop {
            self.stream.heartbeat.beat();
            let now = self.now();
            let permit = self.shared().auth.acquire(role, now);
            match permit {
                AuthPermit::Granted => break,
                AuthPermit::LockedOut(rest) => {
                    let detail = "the camera rejected this user and password too often".into();
                    return Err(((CameraFault::LockedOut, detail), AuthRest::Lockout(rest)));
                }
                AuthPermit::Busy(wait) => tokio::time::sleep(wait.min(HEARTBEAT_INTERVAL)).await,
            }
        }
        if role == StreamRole::Sub {
            let now = self.now();
            self.shared().places.sub_connects(now);
        }
        Ok(())
    }

    async fn connect(&mut self) -> Result<(Connection, UdpPorts), Failure> {
        check_clock(SystemTime::now())?;
        let (host, port) = address(self.url().0);
        let connection = Connection::open(&host, port).await?;
        let ports = match self.stream.settings.transport {
            Transport::Tcp => UdpPorts::default(),
            Transport::Udp => UdpPorts::bind(connection.peer(), 2)
                .await
                .map_err(|error| (CameraFault::Protocol, format!("UDP ports: {error}")))?,
        };
        Ok((connection, ports))
    }

    /// The URL of the stream, and its configuration key.
    fn url(&self) -> (&url::Url, &'static str) {
        let settings = &self.stream.settings;
        match (self.stream.role, &settings.sub_url) {
            (StreamRole::Sub, Some(url)) => (url, "camera.sub_url"),
            _ => (&settings.main_url, "camera.main_url"),
        }
    }

    fn options(&self, ports: &UdpPorts) -> ClientOptions {
        let (url, url_key) = self.url();
        ClientOptions {
            url: url.clone(),
            url_key,
            login: self.stream.settings.login.clone(),
            transport: self.stream.settings.transport,
            udp_ports: ports.ports(),
            sound: self.sound.clone(),
            // Without a random source the client nonce is known, and the nonce of the camera still
            // is not.
            seed: seed().unwrap_or_default(),
            accepts,
        }
    }

    /// Drives one session. Returns why it ended.
    async fn drive(&mut self, client: &mut Client, sockets: &mut Sockets) -> Failure {
        client.connected(self.now());
        let udp = self.stream.settings.transport == Transport::Udp;
        let interval = if udp { UDP_CHECK_INTERVAL } else { CHECK_INTERVAL };
        let mut next_check = tokio::time::interval(interval);
        next_check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if let Some(failure) = self.work(client, sockets).await {
                return failure;
            }
            tokio::select! {
                read = sockets.connection.read() => match read {
                    Ok([]) => client.closed(None),
                    Ok(bytes) => client.received(bytes),
                    Err(error) => client.closed(Some(&error.to_string())),
                },
                (track, rtcp, bytes) = sockets.ports.receive() => {
                    client.media_came();
                    let arrival = self.stream.clock.now().mono;
                    if let Some(receiver) = sockets.receivers.get_mut(track).filter(|_| !rtcp) {
                        receiver.packet(bytes, arrival);
                    }
                    if let Some(failure) = self.units(client, sockets, track).await {
                        return failure;
                    }
                }
                _ = next_check.tick() => {
                    if let Some(failure) = self.check(client, sockets).await {
                        return failure;
                    }
                }
            }
        }
    }

    /// Sends what the machine wants to send, and takes its events until none is left.
    async fn work(&mut self, client: &mut Client, sockets: &mut Sockets) -> Option<Failure> {
        loop {
            let output = client.take_output();
            if !output.is_empty()
                && let Err(error) = sockets.connection.write(&output).await
            {
                // A camera may answer and close before it has read everything.
                tracing::debug!(%error, "a request could not be sent");
            }
            let arrival = self.now();
            match client.poll(arrival) {
                None => return None,
                Some(Event::Packet { track, rtcp, bytes }) => {
                    if rtcp {
                        continue;
                    }
                    let Some(receiver) = sockets.receivers.get_mut(track) else { continue };
                    receiver.packet(bytes, arrival);
                    let failure = self.units(client, sockets, track).await;
                    if failure.is_some() {
                        return failure;
                    }
                }
                Some(Event::SetUp(track)) => {
                    let failure = self.set_up(client, sockets, track).await;
                    if failure.is_some() {
                        return failure;
                    }
                }
                Some(Event::Playing) => {
                    self.begin(client);
                    self.report_quirks(client, sockets, true).await;
                    if self.stream.settings.transport == Transport::Tcp {
                        sockets.guard = None;
                    }
                }
                Some(Event::Connect(host, port)) => {
                    match Connection::open(&host, port).await {
                        Ok(connection) => sockets.connection = connection,
                        Err(failure) => return Some(failure),
                    }
                    client.connected(self.now());
                }
                Some(Event::Ended(failure)) => {
                    if self.playing_since.is_none() {
                        self.report_quirks(client, sockets, true).await;
                    }
                    return Some(failure);
                }
                Some(Event::TornDown) => {
                    return Some((CameraFault::Closed, "the session is closed".into()));
                }
            }
            // An endless burst must not keep the heartbeat and the checks waiting.
            tokio::task::consume_budget().await;
        }
    }

    /// A track is set up: packets may come.
    async fn set_up(
        &mut self,
        client: &Client,
        sockets: &mut Sockets,
        track: usize,
    ) -> Option<Failure> {
        self.stream.heartbeat.beat();
        let set_up = &client.tracks()[track];
        match TrackReceiver::new(&set_up.format, self.stream.settings.transport) {
            Ok(receiver) => sockets.receivers.push(receiver),
            Err(why) => return Some((CameraFault::Protocol, why)),
        }
        if let Some(ports) = set_up.server_ports {
            let peer = sockets.connection.peer();
            sockets.ports.open_path(track, peer, set_up.source.as_deref(), ports).await;
        }
        None
    }

    /// Media is expected from now on.
    fn begin(&mut self, client: &Client) {
        if self.playing_since.is_some() {
            return;
        }
        let now = self.stream.clock.now();
        self.playing_since = Some(now.mono);
        self.supervisor.connected(now);
        self.sound = client.sound().clone();
        if let Sound::None(reason) = &self.sound {
            tracing::warn!(
                reason,
                "camera audio cannot be recorded; recording continues without it"
            );
        }
        if self.stream.role == StreamRole::Main {
            self.shared().places.main_plays();
        }
    }

    /// Reports quirks that are new. Those of the set-up stand in one line.
    async fn report_quirks(&mut self, client: &Client, sockets: &Sockets, set_up: bool) {
        let mut all = client.quirks();
        for receiver in &sockets.receivers {
            all.add(receiver.quirks());
        }
        let is_new = |(quirk, _): &(_, _)| self.quirks.seen().all(|(known, _)| known != *quirk);
        let new: Vec<&str> = all.seen().filter(is_new).map(|(quirk, _)| quirk.name()).collect();
        if new.is_empty() {
            return;
        }
        let quirks = new.join(" ");
        if set_up {
            tracing::info!(quirks, "the camera deviates from its protocols; this is tolerated");
        } else {
            tracing::info!(quirks, "another deviation of the camera; this is tolerated");
        }
        self.quirks = all;
        let update = CameraUpdate::Quirks { role: self.stream.role, quirks: all };
        let _ = self.update.send(update).await;
    }

    /// The checks of each interval.
    async fn check(&mut self, client: &mut Client, sockets: &mut Sockets) -> Option<Failure> {
        self.stream.heartbeat.beat();
        if let Err(failure) = check_clock(SystemTime::now()) {
            return Some(failure);
        }
        let now = self.stream.clock.now();
        client.tick(now.mono);
        for track in 0..sockets.receivers.len() {
            sockets.receivers[track].tick(now.mono);
            let failure = self.units(client, sockets, track).await;
            if failure.is_some() {
                return failure;
            }
        }
        if self.stream.role == StreamRole::Sub && self.shared().places.sub_must_end() {
            let detail = "the camera has no place for a second session: the main stream needs it";
            return Some((CameraFault::Protocol, detail.into()));
        }
        self.pass_on().await;
        let connected = self.playing_since?;
        self.report_quirks(client, sockets, false).await;
        match self.supervisor.check(now, connected) {
            StreamCheck::Fine => None,
            StreamCheck::Report(update) => {
                let _ = self.update.send(update).await;
                None
            }
            StreamCheck::Drop(fault, detail) => Some((fault, detail)),
        }
    }

    /// Takes what a track has received.
    async fn units(
        &mut self,
        client: &Client,
        sockets: &mut Sockets,
        track: usize,
    ) -> Option<Failure> {
        while let Some(received) = sockets.receivers.get_mut(track)?.poll() {
            match received {
                Received::Bad(detail) => {
                    let detail = crate::redact::masked(&detail);
                    tracing::debug!(error = %detail, "camera stream error; receiving continues");
                    let failure = self.supervisor.error(&detail);
                    if failure.is_some() {
                        return failure;
                    }
                }
                Received::Unit(unit) => {
                    self.begin(client);
                    if client.tracks()[track].format.kind == TrackKind::Video {
                        self.video_unit(unit).await;
                    } else {
                        self.audio_unit(unit).await;
                    }
                }
            }
        }
        None
    }

    async fn video_unit(&mut self, unit: MediaUnit) {
        if let Some(params) = unit.params {
            self.video.params = Some(params);
        }
        let Some(params) = self.video.params.clone() else { return };
        let now = self.stream.clock.now();
        self.supervisor.lost(unit.lost);
        let tracks = [&self.video.params, &self.audio.params];
        let sound = &self.sound;
        let up = self.supervisor.frame(now, unit.key, || describe_tracks(tracks, sound));
        let (pts, role) = (unit.rtp_time, self.stream.role);
        let (data, key, lost, at) = (unit.data, unit.key, unit.lost, now.at(unit.arrival));
        self.clock.push(Frame { role, params, data, key, pts, run: 0, at, lost });
        self.pass_on().await;
        if let Some(update) = up {
            let _ = self.update.send(update).await;
        }
    }

    async fn audio_unit(&mut self, unit: MediaUnit) {
        if let Some(params) = unit.params {
            self.audio.params = Some(params);
        }
        let Some(params) = self.audio.params.clone() else { return };
        let at = self.stream.clock.now().at(unit.arrival);
        self.supervisor.lost(unit.lost);
        let (pts, role) = (unit.rtp_time, self.stream.role);
        let (data, lost) = (unit.data, unit.lost);
        self.clock.push(Frame { role, params, data, key: true, pts, run: 0, at, lost });
        self.supervisor.sound(self.clock.sound_counts());
        self.pass_on().await;
    }

    /// Passes on the frames that have their times, and what changed in the camera's clock.
    async fn pass_on(&mut self) {
        while let Some(frame) = self.clock.pop(self.stream.clock.now()) {
            (self.frames)(Arc::new(frame));
        }
        if let Some(report) = self.clock.report() {
            let update = CameraUpdate::Clock { role: self.stream.role, report };
            let _ = self.update.send(update).await;
        }
    }

    /// Takes what is complete at the end of a session.
    async fn finish(&mut self, client: &Client, sockets: &mut Sockets) {
        for track in 0..sockets.receivers.len() {
            sockets.receivers[track].finish();
            let _ = self.units(client, sockets, track).await;
        }
        self.clock.flush();
        self.pass_on().await;
    }
}

/// The sockets and receivers of one session.
struct Sockets {
    connection: Connection,
    ports: UdpPorts,
    /// Keeps the network thread awake.
    guard: Option<crate::wakeup::LowLatencyGuard>,
    receivers: Vec<TrackReceiver>,
}

/// Sends TEARDOWN and waits for its answer.
async fn close(client: &mut Client, connection: &mut Connection, clock: &Arc<dyn Clock>) {
    client.tear_down(clock.now().mono);
    loop {
        let output = client.take_output();
        if !output.is_empty() && connection.write(&output).await.is_err() {
            return;
        }
        while let Some(event) = client.poll(clock.now().mono) {
            if event == Event::TornDown {
                return;
            }
        }
        match connection.read().await {
            Ok([]) | Err(_) => return,
            Ok(bytes) => client.received(bytes),
        }
    }
}

/// Whether a track can be recorded.
fn accepts(format: &TrackFormat) -> Result<(), String> {
    TrackReceiver::new(format, Transport::Tcp).map(drop)
}

/// Rejects a clock close to the end of the calendar, where conversions of wall time fail.
///
/// # Errors
/// When the clock is within [`CALENDAR_MARGIN`] of the end of the year 9999.
fn check_clock(now: SystemTime) -> Result<(), Failure> {
    let ahead =
        now.checked_add(CALENDAR_MARGIN).and_then(|ahead| jiff::Timestamp::try_from(ahead).ok());
    let why = || {
        (CameraFault::Protocol, "this machine's clock is beyond the year 9999: set it".to_owned())
    };
    ahead.map(|_| ()).ok_or_else(why)
}

/// The recorded tracks, for operators.
fn describe_tracks(tracks: [&Option<Arc<TrackParams>>; 2], sound: &Sound) -> String {
    let carried = tracks
        .into_iter()
        .flatten()
        .map(|params| params.describe())
        .collect::<Vec<_>>()
        .join(" + ");
    match sound {
        Sound::None(why) => format!("{carried}, without sound: {why}"),
        Sound::Off | Sound::Wanted | Sound::Silenced(_) => carried,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_session_begins_where_the_calendar_ends() {
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_207_200);
        assert_eq!(check_clock(end - Duration::from_secs(300)), Ok(()));
        for close in [end - Duration::from_secs(60), end + Duration::from_secs(90_000)] {
            assert!(check_clock(close).is_err_and(|(_, why)| why.contains("9999")));
        }
    }
}
