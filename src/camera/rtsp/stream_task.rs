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

use super::client::{Client, ClientOptions, address};
use super::connection::{Connection, UdpPorts};
use super::session_loop::{Sockets, close};
use super::set_up::Sound;
use crate::camera::auth_limiter::{AuthPermit, AuthRest};
use crate::camera::frame_clock::FrameClock;
use crate::camera::quirk::QuirkCounts;
use crate::camera::rtp::TrackReceiver;
use crate::camera::session_places::{SUB_REST, SharedSessions};
use crate::camera::size_notice::SizeNotice;
use crate::camera::sound_clock::SoundNotice;
use crate::camera::supervisor::StreamSupervisor;
use crate::camera::track_format::TrackFormat;
use crate::camera::{CameraFault, CameraUpdate, Failure, Frame, StreamRole, TrackParams};
use crate::clock::{Clock, random, seed};
use crate::redact::KnownLogin;
use crate::settings::{CameraSettings, Login, Transport};
use crate::units::MonoTime;
use crate::wakeup::WakeupCoalescer;
use crate::watchdog::Heartbeat;

/// Time for TEARDOWN with all its sockets, before the next session.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(3_500);
/// The same when the task ends: no session follows at once, and a camera that floods or hangs must
/// not delay the end of the process.
const LAST_CLOSE_TIMEOUT: Duration = Duration::from_millis(800);
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
    let known = stream.settings.login.as_ref().map(Login::known).unwrap_or_default();
    let mut camera = StreamTask {
        known,
        stream,
        frames,
        update,
        supervisor,
        clock,
        video: None,
        audio: None,
        playing_since: None,
        unit_came: false,
        quirks: QuirkCounts::default(),
        sound_notice: SoundNotice::default(),
        size_notice: SizeNotice::default(),
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

pub(super) struct StreamTask<F> {
    pub(super) stream: Stream,
    pub(super) frames: F,
    pub(super) update: mpsc::Sender<CameraUpdate>,
    pub(super) supervisor: StreamSupervisor,
    pub(super) clock: FrameClock,
    /// Parameters of the current video track; `None` before its first frame.
    pub(super) video: Option<Arc<TrackParams>>,
    /// Parameters of the current audio track; `None` before its first frame, and without audio.
    pub(super) audio: Option<Arc<TrackParams>>,
    /// Since when media is expected.
    pub(super) playing_since: Option<MonoTime>,
    /// A frame came since the last check.
    pub(super) unit_came: bool,
    /// The quirks of this session that were reported.
    pub(super) quirks: QuirkCounts,
    /// When corrected sound is logged.
    pub(super) sound_notice: SoundNotice,
    /// When a change of the picture's size is logged.
    pub(super) size_notice: SizeNotice,
    pub(super) sound: Sound,
    /// The login, for texts that must not show it.
    pub(super) known: KnownLogin,
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

    pub(super) fn now(&self) -> MonoTime {
        self.stream.clock.now().mono
    }

    pub(super) fn shared(&self) -> std::sync::MutexGuard<'_, SharedSessions> {
        // A panic of the other stream leaves plain numbers, each of them whole.
        self.stream.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one session from connect to TEARDOWN. Returns why it ended; `None` when `stop` became
    /// true.
    async fn session(&mut self, stop: &mut watch::Receiver<bool>) -> Option<Ended> {
        (self.video, self.audio) = (None, None);
        (self.playing_since, self.quirks) = (None, QuirkCounts::default());
        self.clock.restart();
        self.sound_notice.restart(self.clock.sound_counts());
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
                self.stream.heartbeat.beat();
                self.finish(client, &mut sockets).await;
                let close = close(client, &mut sockets.connection, &self.stream.clock);
                let last = failure.0 == CameraFault::Stopped;
                let limit = if last { LAST_CLOSE_TIMEOUT } else { CLOSE_TIMEOUT };
                let _ = timeout(limit, close).await;
                self.sound = client.sound().clone();
                failure
            }
            Err(failure) => failure,
        };
        self.session_ended(client.as_ref(), failure)
    }

    /// Reports the end of a session to the other stream and to the limiter of logins.
    fn session_ended(&mut self, client: Option<&Client>, failure: Failure) -> Option<Ended> {
        use crate::camera::auth_limiter::AuthOutcome::{NotAsked, Rejected};
        let (now, role) = (self.now(), self.stream.role);
        let outcome = client.map_or(NotAsked, Client::auth_outcome);
        let full = client.is_some_and(Client::is_full);
        // While it played, the outcome was reported at its begin.
        if outcome == Rejected {
            let more = client.map_or(0, Client::logins_sent).saturating_sub(1);
            self.shared().auth.also_rejected(role, more);
        }
        let rest = match self.playing_since {
            Some(_) => AuthRest::None,
            None => self.shared().auth.answered(role, now, outcome, random()),
        };
        let places = &mut self.shared().places;
        match role {
            StreamRole::Main => places.main_ended(now, full),
            StreamRole::Sub => places.sub_ended(now, full),
        }
        (failure.0 != CameraFault::Stopped).then_some((failure, rest))
    }

    /// Waits for a place beside the main stream.
    async fn place(&mut self) -> Result<(), Ended> {
        loop {
            self.stream.heartbeat.beat();
            let now = self.now();
            let place = self.shared().places.sub_may_connect(now);
            match place {
                Ok(()) => return Ok(()),
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
    }

    /// Waits for a place and for the permission to send the password.
    async fn permit(&mut self) -> Result<(), Ended> {
        let role = self.stream.role;
        if role == StreamRole::Sub {
            self.place().await?;
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
}

/// Whether a track can be recorded.
fn accepts(format: &TrackFormat) -> Result<(), String> {
    TrackReceiver::new(format, Transport::Tcp).map(drop)
}

/// Rejects a clock close to the end of the calendar, where conversions of wall time fail.
///
/// # Errors
/// When the clock is within [`CALENDAR_MARGIN`] of the end of the year 9999.
pub(super) fn check_clock(now: SystemTime) -> Result<(), Failure> {
    let ahead =
        now.checked_add(CALENDAR_MARGIN).and_then(|ahead| jiff::Timestamp::try_from(ahead).ok());
    let why = || {
        (CameraFault::Protocol, "this machine's clock is beyond the year 9999: set it".to_owned())
    };
    ahead.map(|_| ()).ok_or_else(why)
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
