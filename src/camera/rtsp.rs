//! The RTSP client around `retina`: runs one task for each stream of the camera.
//!
//! It adds what retina leaves to its user: timeouts of each step, stall detection, reconnects, and
//! the wait for TEARDOWN. [`super::supervisor`] decides when to reconnect, [`super::frame_clock`]
//! computes capture times.
#![expect(
    clippy::disallowed_methods,
    reason = "shell: reads a clock, waits, uses the network, draws random numbers"
)]

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_core::Stream as _;
use retina::client::{
    Demuxed, InitialTimestampPolicy, PlayOptions, SessionGroup, UnknownRtcpSsrcPolicy,
};
use retina::codec::{AudioFrame, CodecItem, ParametersRef, VideoFrame};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tracing::Instrument as _;

use super::auth_limiter::{AuthLimiter, AuthOutcome, AuthPermit};
use super::frame_clock::FrameClock;
use super::rtsp_setup::{
    Failure, Sound, check_clock, describe, find, one_line, set_up_sound, setup_options, step,
};
use super::supervisor::{StreamCheck, StreamSupervisor};
use super::track_params::{audio_params, video_params};
use super::{CameraFault, CameraUpdate, Frame, StreamRole, TrackParams};
use crate::clock::{Clock, random};
use crate::settings::{CameraSettings, Transport};
use crate::wakeup::WakeupCoalescer;
use crate::watchdog::Heartbeat;

/// Timeout of TEARDOWN: cameras with few sessions reject the next one until it is done.
const TEARDOWN_TIMEOUT: Duration = Duration::from_secs(3);
/// Interval of the stall checks.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Interval of heartbeats during a pause.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);

/// The inputs of a stream task.
pub struct Stream {
    /// The stream.
    pub role: StreamRole,
    /// Settings of the camera.
    pub settings: CameraSettings,
    /// Source of time.
    pub clock: Arc<dyn Clock>,
    /// Limiter of password tries, shared by all streams of one camera.
    pub logins: Arc<Mutex<AuthLimiter>>,
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
    let mut camera = StreamTask {
        stream,
        frames,
        update,
        supervisor,
        clock,
        video_track: None,
        audio_track: None,
        sound: Sound::Wanted,
    };
    while !*stop.borrow() {
        let group = Arc::new(SessionGroup::default());
        let span = tracing::info_span!(
            "camera",
            stream = camera.stream.role.as_str(),
            run = camera.clock.run() + 1
        );
        let ended = tokio::select! {
            ended = camera.play(&group).instrument(span) => Some(ended),
            _ = stop.wait_for(|stop| *stop) => None,
        };
        camera.stream.heartbeat.beat();
        let _ = timeout(TEARDOWN_TIMEOUT, group.await_teardown()).await;
        let Some(((fault, detail), locked_for)) = ended else {
            return;
        };
        let (updates, pause) = camera.supervisor.failed(fault, detail, locked_for, random());
        for update in updates {
            let _ = camera.update.send(update).await;
        }
        camera.pause_before_retry(pause, &mut stop).await;
    }
}

struct StreamTask<F> {
    stream: Stream,
    frames: F,
    update: mpsc::Sender<CameraUpdate>,
    supervisor: StreamSupervisor,
    clock: FrameClock,
    /// Parameters of the current video track; `None` before its first frame.
    video_track: Option<Arc<TrackParams>>,
    /// Parameters of the current audio track; `None` before its first frame, and without audio.
    audio_track: Option<Arc<TrackParams>>,
    sound: Sound,
}

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

    /// Runs one session from connect to its end. Returns why it ended and the remaining lockout of
    /// the password.
    async fn play(&mut self, group: &Arc<SessionGroup>) -> (Failure, Duration) {
        self.video_track = None;
        self.audio_track = None;
        self.clock.restart();
        if let Err(locked_for) = self.acquire_auth().await {
            let detail = "the camera rejected this user and password too often".into();
            return ((CameraFault::LockedOut, detail), locked_for);
        }
        let low_latency_guard = self.stream.wakeup.low_latency();
        let opened = self.open(group).await;
        let outcome = match &opened {
            Ok(_) => AuthOutcome::Accepted,
            Err((CameraFault::Unauthorized, _)) => AuthOutcome::Rejected,
            Err(_) => AuthOutcome::NotAsked,
        };
        let locked_for = self.logins().answered(self.stream.clock.now().mono, outcome, random());
        match opened {
            Ok(demuxed) => {
                // The kernel buffers TCP data meanwhile; UDP packets without room are lost.
                let _low_latency_guard = Some(low_latency_guard)
                    .filter(|_| self.stream.settings.transport == Transport::Udp);
                let failure = self.receive(demuxed).await;
                self.clock.flush();
                self.pass_on().await;
                (failure, Duration::ZERO)
            }
            Err(failure) if outcome == AuthOutcome::Rejected => (failure, locked_for),
            Err(failure) => (failure, Duration::ZERO),
        }
    }

    fn logins(&self) -> std::sync::MutexGuard<'_, AuthLimiter> {
        // A panic of the other stream leaves three numbers, each of them whole.
        self.stream.logins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the permission to send the password. Returns the lockout when there is one.
    async fn acquire_auth(&mut self) -> Result<(), Duration> {
        loop {
            self.stream.heartbeat.beat();
            let permit = self.logins().acquire(self.stream.clock.now().mono);
            match permit {
                AuthPermit::Granted => return Ok(()),
                AuthPermit::LockedOut(locked_for) => return Err(locked_for),
                AuthPermit::Busy(wait) => tokio::time::sleep(wait).await,
            }
        }
    }

    /// Receives frames until the session ends. Returns why it ended.
    async fn receive(&mut self, mut demuxed: Demuxed) -> Failure {
        self.supervisor.connected(self.stream.clock.now());
        let connected = self.stream.clock.now().mono;
        let mut next_check = tokio::time::interval(CHECK_INTERVAL);
        let mut last_error = None;
        loop {
            let item = tokio::select! {
                item = poll_fn(|context| Pin::new(&mut demuxed).poll_next(context)) => item,
                _ = next_check.tick() => {
                    self.stream.heartbeat.beat();
                    if let Err(failure) = check_clock(SystemTime::now()) {
                        return failure;
                    }
                    self.pass_on().await;
                    match self.supervisor.check(self.stream.clock.now(), connected) {
                        StreamCheck::Fine => continue,
                        StreamCheck::Report(update) => {
                            let _ = self.update.send(update).await;
                            continue;
                        }
                        StreamCheck::Drop(fault, detail) => return (fault, detail),
                    }
                }
            };
            match item {
                None => {
                    return (
                        CameraFault::Closed,
                        last_error.unwrap_or_else(|| "the camera closed the session".into()),
                    );
                }
                // retina continues after a bad packet; after any other error the stream ends
                // (`None` follows).
                Some(Err(error)) => {
                    let detail = one_line("stream", &error);
                    tracing::debug!(error = %detail, "camera stream error; receiving continues");
                    if let Some(failure) = self.supervisor.error(&detail) {
                        return failure;
                    }
                    last_error = Some(detail);
                    continue;
                }
                Some(Ok(CodecItem::VideoFrame(frame))) => {
                    if let Err(failure) = self.video(&demuxed, frame).await {
                        return failure;
                    }
                }
                Some(Ok(CodecItem::AudioFrame(frame))) => {
                    self.audio(&demuxed, &frame);
                    self.pass_on().await;
                }
                Some(Ok(_)) => {}
            }
            last_error = None;
        }
    }

    async fn video(&mut self, demuxed: &Demuxed, frame: VideoFrame) -> Result<(), Failure> {
        let now = self.stream.clock.now();
        let stream = &demuxed.streams()[frame.stream_id()];
        if self.video_track.is_none() || frame.has_new_parameters() {
            let Some(ParametersRef::Video(params)) = stream.parameters() else {
                return Ok(());
            };
            let params = video_params(params)
                .inspect_err(|(_, detail)| _ = self.supervisor.error(detail))?;
            self.video_track = Some(Arc::new(params));
        }
        let Some(params) = self.video_track.clone() else {
            return Ok(());
        };
        let (key, lost) = (frame.is_random_access_point(), u32::from(frame.loss()));
        let (video_track, audio_track, sound) = (&self.video_track, &self.audio_track, &self.sound);
        self.supervisor.lost(lost);
        let up =
            self.supervisor.frame(now, key, || describe_tracks([video_track, audio_track], sound));
        let (pts, role) = (frame.timestamp().elapsed(), self.stream.role);
        let data = Bytes::from(frame.into_data());
        self.clock.push(Frame { role, params, data, key, pts, run: 0, at: now, lost });
        self.pass_on().await;
        if let Some(update) = up {
            let _ = self.update.send(update).await;
        }
        Ok(())
    }

    fn audio(&mut self, demuxed: &Demuxed, frame: &AudioFrame) {
        let stream = &demuxed.streams()[frame.stream_id()];
        if self.audio_track.is_none() {
            let Some(ParametersRef::Audio(params)) = stream.parameters() else {
                return;
            };
            self.audio_track = audio_params(stream.encoding_name(), params).map(Arc::new);
        }
        let Some(params) = self.audio_track.clone() else {
            return;
        };
        let pts = frame.timestamp().elapsed();
        let (at, role) = (self.stream.clock.now(), self.stream.role);
        let (data, lost) = (Bytes::copy_from_slice(frame.data()), u32::from(frame.loss()));
        self.supervisor.lost(lost);
        self.clock.push(Frame { role, params, data, key: true, pts, run: 0, at, lost });
        self.supervisor.sound(self.clock.sound_counts());
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

    /// Connects, sets up the tracks that can be recorded, and plays.
    async fn open(&mut self, group: &Arc<SessionGroup>) -> Result<Demuxed, Failure> {
        let (settings, role) = (&self.stream.settings, self.stream.role);
        let mut session = describe(settings, role, Some(group.clone())).await?;
        let video = find(&session, "video", &["h264", "h265"]);
        let Some(video) = video else {
            let names: Vec<&str> =
                session.streams().iter().map(|stream| stream.encoding_name()).collect();
            return Err((
                CameraFault::NoVideo,
                format!("no H.264 or H.265 video in this stream, only: {}", names.join(", ")),
            ));
        };
        self.stream.heartbeat.beat();
        step("SETUP", session.setup(video, setup_options(settings))).await?;
        let audio = find(&session, "audio", &["mpeg4-generic", "pcma", "pcmu"])
            .filter(|_| settings.audio && role == StreamRole::Main);
        if let Some(audio) = audio {
            self.stream.heartbeat.beat();
            self.sound =
                set_up_sound(&mut session, audio, setup_options(settings), &self.sound).await;
        }
        match &self.sound {
            Sound::Wanted => {}
            Sound::Silenced(why) => return Err((CameraFault::Protocol, format!("sound: {why}"))),
            Sound::None(why) => {
                tracing::warn!(reason = %why, "camera audio cannot be recorded; recording continues without it");
            }
        }
        self.stream.heartbeat.beat();
        let options = PlayOptions::default()
            .initial_timestamp(InitialTimestampPolicy::Permissive)
            .unknown_rtcp_ssrc(UnknownRtcpSsrcPolicy::ProcessPackets);
        let playing = step("PLAY", session.play(options)).await?;
        playing.demuxed().map_err(|error| (CameraFault::Protocol, one_line("PLAY", &error)))
    }
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
        Sound::Wanted | Sound::Silenced(_) => carried,
    }
}
