//! The RTSP client around `retina`: runs one task for each stream of the camera.
//!
//! It adds what retina leaves to its user: timeouts of each step, stall detection, reconnects, and
//! the wait for TEARDOWN. [`super::supervisor`] decides when to reconnect, [`super::timeline`]
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
    Credentials, Demuxed, Described, InitialTimestampPolicy, PlayOptions, Session as Rtsp,
    SessionGroup, SessionOptions, SetupOptions, TcpTransportOptions, UdpTransportOptions,
    UnknownRtcpSsrcPolicy,
};
use retina::codec::{
    AudioFrame, CodecItem, FrameFormat, ParametersRef, VideoFrame, VideoParametersCodec,
};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tracing::Instrument as _;

use super::auth_limiter::{AuthLimiter, AuthOutcome, AuthPermit};
use super::supervisor::{StreamCheck, StreamSupervisor};
use super::timeline::Timeline;
use super::{CameraFault, CameraUpdate, Codec, Frame, StreamRole, TrackKind, TrackParams};
use crate::clock::Clock;
use crate::settings::{CameraSettings, Transport};
use crate::units::Digest;
use crate::wakeup::WakeupCoalescer;
use crate::watchdog::Heartbeat;

/// Timeout of connect, DESCRIBE, SETUP and PLAY each: slow cameras take 3 s, none takes 10.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout of TEARDOWN: cameras with few sessions reject the next one until it is done.
const TEARDOWN_TIMEOUT: Duration = Duration::from_secs(3);
/// Interval of the stall checks.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// How long before the end of the calendar a session ends: several clock readings and a set-up.
const CALENDAR_MARGIN: Duration = Duration::from_secs(120);

/// Largest size of a track's parameter sets together, bytes: those of cameras have some dozens.
const SETS_MAX: usize = 4096;
/// Largest size of a sample entry without its parameter sets, bytes.
const ENTRY_MORE: usize = 512;
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
    let timeline = Timeline::default();
    let run = stream.run;
    let mut camera = StreamTask {
        stream,
        frames,
        update,
        supervisor,
        timeline,
        run,
        video_track: None,
        audio_track: None,
        sound: Sound::Wanted,
    };
    while !*stop.borrow() {
        let group = Arc::new(SessionGroup::default());
        let span = tracing::info_span!(
            "camera",
            stream = camera.stream.role.as_str(),
            run = camera.run + 1
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

/// A random number, uniform in 0..1.
fn random() -> f64 {
    let mut bytes = [0; 4];
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes);
    f64::from(u32::from_be_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

struct StreamTask<F> {
    stream: Stream,
    frames: F,
    update: mpsc::Sender<CameraUpdate>,
    supervisor: StreamSupervisor,
    timeline: Timeline,
    run: u32,
    /// Parameters of the current video track; `None` before its first frame.
    video_track: Option<Arc<TrackParams>>,
    /// Parameters of the current audio track; `None` before its first frame, and without audio.
    audio_track: Option<Arc<TrackParams>>,
    sound: Sound,
}

/// Whether audio is recorded. Video never waits for it.
#[derive(Debug, Clone, PartialEq)]
enum Sound {
    /// Audio is set up when the camera offers it.
    Wanted,
    /// The camera stopped answering when audio was set up: the next session does without.
    Silenced(String),
    /// The camera offers audio that cannot be recorded, for this reason.
    None(String),
}

/// The cause of a failure, and its detail for operators.
type Failure = (CameraFault, String);

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
        self.timeline = Timeline::default();
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
                (self.receive(demuxed).await, Duration::ZERO)
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
                Some(Ok(CodecItem::AudioFrame(frame))) => self.audio(&demuxed, &frame),
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
        let clock_rate = i64::from(params.timescale);
        let placed = self.timeline.map(frame.timestamp().elapsed() * 1_000_000 / clock_rate, now);
        if placed.new_run {
            self.run += 1;
        }
        // The camera's own ticks, unless it was an outlier: a conversion from microseconds would
        // round.
        let elapsed = frame.timestamp().elapsed();
        let pts = if elapsed * 1_000_000 / clock_rate == placed.pts {
            elapsed
        } else {
            placed.pts * clock_rate / 1_000_000
        };
        let (key, lost) = (frame.is_random_access_point(), u32::from(frame.loss()));
        let (video_track, audio_track, sound) = (&self.video_track, &self.audio_track, &self.sound);
        self.supervisor.lost(lost);
        let up =
            self.supervisor.frame(now, key, || describe_tracks([video_track, audio_track], sound));
        let data = Bytes::from(frame.into_data());
        (self.frames)(Arc::new(Frame {
            role: self.stream.role,
            params,
            data,
            key,
            pts,
            run: self.run,
            at: placed.at,
            lost,
        }));
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
        let micros = pts * 1_000_000 / i64::from(params.timescale.max(1));
        // Audio before the first video frame has no capture time yet.
        let Some(at) = self.timeline.time_of(micros, self.stream.clock.now()) else {
            return;
        };
        let (data, lost) = (Bytes::copy_from_slice(frame.data()), u32::from(frame.loss()));
        self.supervisor.lost(lost);
        (self.frames)(Arc::new(Frame {
            role: self.stream.role,
            params,
            data,
            key: true,
            pts,
            run: self.run,
            at,
            lost,
        }));
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

/// Index of the first stream of a media type in one of the encodings.
fn find(session: &Rtsp<Described>, media: &str, encodings: &[&str]) -> Option<usize> {
    session
        .streams()
        .iter()
        .position(|stream| stream.media() == media && encodings.contains(&stream.encoding_name()))
}

fn setup_options(settings: &CameraSettings) -> SetupOptions {
    let transport = match settings.transport {
        Transport::Tcp => retina::client::Transport::Tcp(TcpTransportOptions::default()),
        Transport::Udp => retina::client::Transport::Udp(UdpTransportOptions::default()),
    };
    SetupOptions::default().transport(transport).frame_format(FrameFormat::MP4)
}

/// Sets up audio where possible. `known` is the state after the previous session.
async fn set_up_sound(
    session: &mut Rtsp<Described>,
    audio: usize,
    options: SetupOptions,
    known: &Sound,
) -> Sound {
    if let Sound::Silenced(why) = known {
        return Sound::None(why.clone());
    }
    let stream = &session.streams()[audio];
    if stream.parameters().is_none() {
        return Sound::None(format!(
            "taimat does not record this kind of {}",
            stream.encoding_name()
        ));
    }
    match timeout(STEP_TIMEOUT, session.setup(audio, options)).await {
        Ok(Ok(())) => Sound::Wanted,
        Ok(Err(error)) if error.status_code().is_some() => Sound::None(one_line("SETUP", &error)),
        Ok(Err(error)) => Sound::Silenced(one_line("SETUP", &error)),
        Err(_) => Sound::Silenced(format!("SETUP: no answer within {} s", STEP_TIMEOUT.as_secs())),
    }
}

/// Connects to the camera and sends DESCRIBE.
///
/// # Errors
/// The cause, and a detail without secrets.
pub async fn describe(
    settings: &CameraSettings,
    role: StreamRole,
    group: Option<Arc<SessionGroup>>,
) -> Result<Rtsp<Described>, Failure> {
    let url = match role {
        StreamRole::Sub => settings.sub_url.as_ref().unwrap_or(&settings.main_url),
        StreamRole::Main => &settings.main_url,
    };
    let login = settings.login.as_ref();
    let creds = login.map(|login| Credentials {
        username: login.user.clone(),
        password: login.password.reveal().to_owned(),
    });
    let mut options = SessionOptions::default()
        .creds(creds)
        .user_agent(format!("taimat/{}", env!("CARGO_PKG_VERSION")));
    if let Some(group) = group {
        options = options.session_group(group);
    }
    check_clock(SystemTime::now())?;
    let host = url.host_str().unwrap_or_default();
    let port = url.port().unwrap_or(554);
    // A separate connect, because retina's errors do not distinguish an unreachable address from a
    // protocol error.
    match timeout(
        STEP_TIMEOUT,
        tokio::net::TcpStream::connect((host.trim_matches(['[', ']']), port)),
    )
    .await
    {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            return Err((CameraFault::Unreachable, format!("{host}:{port}: {error}")));
        }
        Err(_) => {
            return Err((
                CameraFault::Unreachable,
                format!("{host}:{port}: no answer within {} s", STEP_TIMEOUT.as_secs()),
            ));
        }
    }
    step("DESCRIBE", Rtsp::describe(url.clone(), options)).await
}

/// Rejects a clock close to the end of the calendar, where retina panics on its packet times.
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

/// Runs one step of session setup within its timeout.
async fn step<T>(
    name: &str,
    step: impl Future<Output = Result<T, retina::Error>>,
) -> Result<T, Failure> {
    match timeout(STEP_TIMEOUT, step).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) if error.status_code() == Some(401) => Err((
            CameraFault::Unauthorized,
            format!("{name}: the camera rejects this user and password"),
        )),
        Ok(Err(error)) => Err((CameraFault::Protocol, one_line(name, &error))),
        Err(_) => Err((
            CameraFault::Protocol,
            format!("{name}: no answer within {} s", STEP_TIMEOUT.as_secs()),
        )),
    }
}

/// The first line of a retina error: the following lines describe the connection.
fn one_line(what: &str, error: &retina::Error) -> String {
    crate::redact::masked(&format!(
        "{what}: {}",
        error.to_string().lines().next().unwrap_or_default()
    ))
}

/// Checks the size of parameter sets. A segment head has a size limit, and a larger one could never
/// be read again.
///
/// # Errors
/// When the parameter sets are too large.
fn fits(bytes: usize) -> Result<(), Failure> {
    let why = || {
        (
            CameraFault::NoKeyFrame,
            format!(
                "parameter sets of {bytes} bytes are too large: at most {SETS_MAX} bytes are recorded"
            ),
        )
    };
    if bytes <= SETS_MAX { Ok(()) } else { Err(why()) }
}

/// The parameters of a video track.
///
/// # Errors
/// When the codec cannot be recorded.
pub fn video_params(params: &retina::codec::VideoParameters) -> Result<TrackParams, Failure> {
    let (codec, sets) = match params.codec_params() {
        VideoParametersCodec::H264 { sps, pps } => (Codec::H264, vec![sps, pps]),
        VideoParametersCodec::H265 { vps, sps, pps } => (Codec::H265, vec![vps, sps, pps]),
        _ => return Err((CameraFault::NoVideo, "taimat does not record this video codec".into())),
    };
    let bytes = sets.iter().map(|set| set.len()).sum();
    fits(bytes)?;
    let annex_b =
        sets.iter().flat_map(|set| [0, 0, 0, 1].into_iter().chain(set.iter().copied())).collect();
    let built = params.mp4_sample_entry().build();
    let sample_entry =
        built.map_err(|error| (CameraFault::Protocol, format!("parameter sets: {error}")))?;
    fits(sample_entry.len().saturating_sub(ENTRY_MORE))?;
    let (width, height) = params.pixel_dimensions();
    let size =
        (u16::try_from(width).unwrap_or(u16::MAX), u16::try_from(height).unwrap_or(u16::MAX));
    let digest = Digest::of(&sample_entry);
    Ok(TrackParams {
        kind: TrackKind::Video,
        codec,
        timescale: 90_000,
        sample_entry,
        annex_b,
        size,
        digest,
    })
}

fn audio_params(encoding: &str, params: &retina::codec::AudioParameters) -> Option<TrackParams> {
    let (codec, sample_entry) = match encoding {
        "mpeg4-generic" => (Codec::Aac, params.mp4_sample_entry().build().ok()?),
        "pcma" => {
            (Codec::PcmAlaw, g711_entry(b"alaw", params.clock_rate(), params.channels().get()))
        }
        "pcmu" => {
            (Codec::PcmMulaw, g711_entry(b"ulaw", params.clock_rate(), params.channels().get()))
        }
        _ => return None,
    };
    if sample_entry.len() > SETS_MAX {
        return None;
    }
    let digest = Digest::of(&sample_entry);
    let (kind, timescale) = (TrackKind::Audio, params.clock_rate());
    Some(TrackParams {
        kind,
        codec,
        timescale,
        sample_entry,
        annex_b: Vec::new(),
        size: (0, 0),
        digest,
    })
}

/// An `AudioSampleEntry` (ISO/IEC 14496-12 12.2.3) for G.711, with the type names of QuickTime.
fn g711_entry(name: &[u8; 4], rate: u32, channels: u16) -> Vec<u8> {
    let mut entry = Vec::with_capacity(36);
    entry.extend(36_u32.to_be_bytes());
    entry.extend(name);
    entry.extend([0, 0, 0, 0, 0, 0, 0, 1]);
    entry.extend([0; 8]);
    entry.extend(channels.to_be_bytes());
    entry.extend(16_u16.to_be_bytes());
    entry.extend([0; 4]);
    entry.extend((rate << 16).to_be_bytes());
    entry
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

    #[test]
    fn parameter_sets_over_4_kib_are_rejected() {
        assert_eq!(fits(4096), Ok(()));
        assert!(
            matches!(fits(4097), Err((CameraFault::NoKeyFrame, detail)) if detail.contains("4097 bytes"))
        );
    }
}
