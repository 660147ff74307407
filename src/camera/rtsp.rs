//! ⇄ The RTSP shell around `retina`: one task a stream. Everything retina leaves to its user is here: time-outs around each
//! step, the watchdog on frames, reconnecting, waiting for TEARDOWN.
//!
//! What belongs here: retina's types and how they become [`Frame`]s. What does not: when to give up ([`super::supervisor`]),
//! what time it is ([`super::timeline`]).

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_core::Stream as _;
use retina::client::{
    Credentials, Demuxed, Described, InitialTimestampPolicy, PlayOptions, Session as Rtsp, SessionGroup, SessionOptions,
    SetupOptions, TcpTransportOptions, UdpTransportOptions, UnknownRtcpSsrcPolicy,
};
use retina::codec::{AudioFrame, CodecItem, FrameFormat, ParametersRef, VideoFrame, VideoParametersCodec};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use super::auth_limiter::{AuthLimiter, AuthPermit};
use super::supervisor::{StreamCheck, StreamSupervisor};
use super::timeline::Timeline;
use super::{CameraFault, CameraUpdate, Codec, Frame, StreamRole, TrackKind, TrackParams};
use crate::clock::Clock;
use crate::settings::{CameraSettings, Transport};
use crate::units::Digest;
use crate::wakeup::WakeupCoalescer;
use crate::watchdog::Heartbeat;

/// For each of connect + DESCRIBE, SETUP, PLAY: slow cameras take 3 s, none takes 10.
const STEP_WITHIN: Duration = Duration::from_secs(10);
/// For TEARDOWN: cameras with few sessions refuse the next one until it is done.
const TEARDOWN_WITHIN: Duration = Duration::from_secs(3);
/// How often the watchdog looks.
const WATCH_EVERY: Duration = Duration::from_millis(500);
/// How long before the end of the calendar sessions end: several looks at the clock and a set-up.
const CALENDAR_MARGIN: Duration = Duration::from_secs(120);

/// Bytes of a track's parameter sets together at most: those of cameras have some dozens.
const SETS_MAX: usize = 4096;
/// Bytes of a sample entry beside them.
const ENTRY_MORE: usize = 512;
/// How often a long pause shows that the task lives.
const BEAT_EVERY: Duration = Duration::from_secs(5);

/// What a stream is and needs.
pub struct Stream {
    /// Which one.
    pub role: StreamRole,
    /// Where it is.
    pub settings: CameraSettings,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// The tries of its password: all streams of one camera share them.
    pub logins: Arc<Mutex<AuthLimiter>>,
    /// That it lives.
    pub heartbeat: Heartbeat,
    /// Runs count from here: higher than every one a task before this has used.
    pub run: u32,
    /// Whom it keeps from resting while it opens a session: until then nothing is recorded.
    pub wakeup: WakeupCoalescer,
}

/// Runs one stream of the camera until `shutdown` becomes true: frames to `frames`, everything else to `updates`.
pub async fn run(
    stream: Stream,
    frames: impl FnMut(Arc<Frame>) + Send,
    update: mpsc::Sender<CameraUpdate>,
    mut stop: watch::Receiver<bool>,
) {
    let session =
        StreamSupervisor::new(stream.role, stream.settings.stall_after, stream.settings.reconnect_after, stream.clock.now());
    let timeline = Timeline::default();
    let run = stream.run;
    let mut camera = Camera { stream, frames, update, session, timeline, run, tracks: [None, None], sound: Sound::Wanted };
    while !*stop.borrow() {
        let group = Arc::new(SessionGroup::default());
        let ended = tokio::select! {
            ended = camera.play(&group) => Some(ended),
            _ = stop.wait_for(|stop| *stop) => None,
        };
        camera.stream.heartbeat.beat();
        let _ = timeout(TEARDOWN_WITHIN, group.await_teardown()).await;
        let Some((failure, closed_for)) = ended else {
            return;
        };
        let (told, pause) = camera.session.failed(failure.0, failure.1, closed_for, random());
        for update in told {
            let _ = camera.update.send(update).await;
        }
        camera.pause_before_retry(Duration::from_micros(pause), &mut stop).await;
    }
}

/// Uniform in 0..1.
fn random() -> f64 {
    let mut bytes = [0; 4];
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes);
    f64::from(u32::from_be_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

struct Camera<F> {
    stream: Stream,
    frames: F,
    update: mpsc::Sender<CameraUpdate>,
    session: StreamSupervisor,
    timeline: Timeline,
    run: u32,
    /// Parameters of the video and the audio track now in force.
    tracks: [Option<Arc<TrackParams>>; 2],
    sound: Sound,
}

/// What is known of a stream's sound. Pictures never wait for it.
#[derive(Debug, Clone, PartialEq)]
enum Sound {
    /// It is set up where it is offered.
    Wanted,
    /// The camera fell silent when it was set up: the next session does without.
    Silenced(String),
    /// It is offered and cannot be had, because of this.
    None(String),
}

/// A step that failed, and whose fault it was.
type Failure = (CameraFault, String);

impl<F: FnMut(Arc<Frame>) + Send> Camera<F> {
    /// Waits before the next try, unless it is stopped.
    async fn pause_before_retry(&mut self, pause: Duration, stop: &mut watch::Receiver<bool>) {
        let until = Instant::now() + pause;
        while !*stop.borrow() && Instant::now() < until {
            self.stream.heartbeat.beat();
            let left = until.saturating_duration_since(Instant::now());
            let _ = timeout(left.min(BEAT_EVERY), stop.wait_for(|stop| *stop)).await;
        }
    }

    /// One session from connect to its end. Says why it ended, and for how many microseconds the camera's door is closed.
    async fn play(&mut self, group: &Arc<SessionGroup>) -> (Failure, u64) {
        self.tracks = [None, None];
        self.timeline = Timeline::default();
        if let Err(closed_for) = self.acquire_auth().await {
            return ((CameraFault::LockedOut, "this user and password were refused too often".into()), closed_for);
        }
        let hurry = self.stream.wakeup.low_latency();
        let opened = self.open(group).await;
        let refused = matches!(opened, Err((CameraFault::Unauthorized, _)));
        let taken = if refused { Some(false) } else { opened.as_ref().ok().map(|_| true) };
        let closed_for = self.logins().answered(self.stream.clock.now().mono, taken, random());
        match opened {
            Ok(demuxed) => {
                // TCP keeps what comes meanwhile. What UDP has no room for is lost.
                let _hurry = Some(hurry).filter(|_| self.stream.settings.transport == Transport::Udp);
                (self.listen(demuxed).await, 0)
            }
            Err(failure) => (failure, if refused { closed_for } else { 0 }),
        }
    }

    fn logins(&self) -> std::sync::MutexGuard<'_, AuthLimiter> {
        // A panic of the other stream leaves three numbers, each of them whole.
        self.stream.logins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for this stream's turn to show the password; gives the microseconds for which nobody may.
    async fn acquire_auth(&mut self) -> Result<(), u64> {
        loop {
            self.stream.heartbeat.beat();
            let door = self.logins().acquire(self.stream.clock.now().mono);
            match door {
                AuthPermit::Granted => return Ok(()),
                AuthPermit::LockedOut(closed_for) => return Err(closed_for),
                AuthPermit::Busy(wait) => tokio::time::sleep(Duration::from_micros(wait)).await,
            }
        }
    }

    /// Takes what the camera sends until the session is over; says why it ended.
    async fn listen(&mut self, mut demuxed: Demuxed) -> Failure {
        self.session.connected(self.stream.clock.now());
        let connected = self.stream.clock.now().mono;
        let mut look = tokio::time::interval(WATCH_EVERY);
        let mut last_error = None;
        loop {
            let item = tokio::select! {
                item = poll_fn(|context| Pin::new(&mut demuxed).poll_next(context)) => item,
                _ = look.tick() => {
                    self.stream.heartbeat.beat();
                    if let Err(failure) = check_clock(SystemTime::now()) {
                        return failure;
                    }
                    match self.session.watch(self.stream.clock.now(), connected) {
                        StreamCheck::Fine => continue,
                        StreamCheck::Tell(update) => {
                            let _ = self.update.send(update).await;
                            continue;
                        }
                        StreamCheck::Drop(fault, detail) => return (fault, detail),
                    }
                }
            };
            match item {
                None => return (CameraFault::Closed, last_error.unwrap_or_else(|| "the camera closed the session".into())),
                // retina goes on behind a bad packet and fuses the stream behind all else (`None` follows).
                Some(Err(error)) => {
                    let detail = one_line("stream", &error);
                    tracing::debug!(stream = self.stream.role.as_str(), "{detail}");
                    if let Some(failure) = self.session.error(&detail) {
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
        if self.tracks[0].is_none() || frame.has_new_parameters() {
            let Some(ParametersRef::Video(params)) = stream.parameters() else {
                return Ok(());
            };
            let params = video_params(params).inspect_err(|(_, detail)| _ = self.session.error(detail))?;
            self.tracks[0] = Some(Arc::new(params));
        }
        let Some(params) = self.tracks[0].clone() else {
            return Ok(());
        };
        let clock_rate = i64::from(params.timescale);
        let placed = self.timeline.map(frame.timestamp().elapsed() * 1_000_000 / clock_rate, now);
        if placed.new_run {
            self.run += 1;
        }
        // The camera's own ticks, unless it was an outlier: microseconds would round.
        let elapsed = frame.timestamp().elapsed();
        let pts = if elapsed * 1_000_000 / clock_rate == placed.pts { elapsed } else { placed.pts * clock_rate / 1_000_000 };
        let (key, lost) = (frame.is_random_access_point(), u32::from(frame.loss()));
        let (tracks, sound) = (&self.tracks, &self.sound);
        self.session.lost(lost);
        let up = self.session.frame(now, key, || describe_tracks(tracks, sound));
        let data = Bytes::from(frame.into_data());
        (self.frames)(Arc::new(Frame { role: self.stream.role, params, data, key, pts, run: self.run, at: placed.at, lost }));
        if let Some(update) = up {
            let _ = self.update.send(update).await;
        }
        Ok(())
    }

    fn audio(&mut self, demuxed: &Demuxed, frame: &AudioFrame) {
        let stream = &demuxed.streams()[frame.stream_id()];
        if self.tracks[1].is_none() {
            let Some(ParametersRef::Audio(params)) = stream.parameters() else {
                return;
            };
            self.tracks[1] = audio_params(stream.encoding_name(), params).map(Arc::new);
        }
        let Some(params) = self.tracks[1].clone() else {
            return;
        };
        let pts = frame.timestamp().elapsed();
        let micros = pts * 1_000_000 / i64::from(params.timescale.max(1));
        // Sound before the first picture has no place in time yet.
        let Some(at) = self.timeline.time_of(micros, self.stream.clock.now()) else {
            return;
        };
        let (data, lost) = (Bytes::copy_from_slice(frame.data()), u32::from(frame.loss()));
        self.session.lost(lost);
        (self.frames)(Arc::new(Frame { role: self.stream.role, params, data, key: true, pts, run: self.run, at, lost }));
    }

    /// Connects, describes, sets up what can be recorded, plays.
    async fn open(&mut self, group: &Arc<SessionGroup>) -> Result<Demuxed, Failure> {
        let (settings, role) = (&self.stream.settings, self.stream.role);
        let mut session = describe(settings, role, Some(group.clone())).await?;
        let video = find(&session, "video", &["h264", "h265"]);
        let Some(video) = video else {
            let names: Vec<&str> = session.streams().iter().map(|stream| stream.encoding_name()).collect();
            return Err((CameraFault::NoVideo, format!("no H.264 or H.265 video in this stream, only: {}", names.join(", "))));
        };
        self.stream.heartbeat.beat();
        step("SETUP", session.setup(video, setup_options(settings))).await?;
        let audio =
            find(&session, "audio", &["mpeg4-generic", "pcma", "pcmu"]).filter(|_| settings.audio && role == StreamRole::Main);
        if let Some(audio) = audio {
            self.stream.heartbeat.beat();
            self.sound = set_up_sound(&mut session, audio, setup_options(settings), &self.sound).await;
        }
        match &self.sound {
            Sound::Wanted => {}
            Sound::Silenced(why) => return Err((CameraFault::Protocol, format!("sound: {why}"))),
            Sound::None(why) => tracing::warn!("camera: recording without sound: {why}"),
        }
        self.stream.heartbeat.beat();
        let options = PlayOptions::default()
            .initial_timestamp(InitialTimestampPolicy::Permissive)
            .unknown_rtcp_ssrc(UnknownRtcpSsrcPolicy::ProcessPackets);
        let playing = step("PLAY", session.play(options)).await?;
        playing.demuxed().map_err(|error| (CameraFault::Protocol, one_line("PLAY", &error)))
    }
}

/// The first stream of a kind in one of the encodings.
fn find(session: &Rtsp<Described>, media: &str, encodings: &[&str]) -> Option<usize> {
    session.streams().iter().position(|stream| stream.media() == media && encodings.contains(&stream.encoding_name()))
}

fn setup_options(settings: &CameraSettings) -> SetupOptions {
    let transport = match settings.transport {
        Transport::Tcp => retina::client::Transport::Tcp(TcpTransportOptions::default()),
        Transport::Udp => retina::client::Transport::Udp(UdpTransportOptions::default()),
    };
    SetupOptions::default().transport(transport).frame_format(FrameFormat::MP4)
}

/// Sets up sound where it can be had; `image_cache` is what the session before knew.
async fn set_up_sound(session: &mut Rtsp<Described>, audio: usize, options: SetupOptions, known: &Sound) -> Sound {
    if let Sound::Silenced(why) = known {
        return Sound::None(why.clone());
    }
    let stream = &session.streams()[audio];
    if stream.parameters().is_none() {
        return Sound::None(format!("this kind of {} cannot be recorded", stream.encoding_name()));
    }
    match timeout(STEP_WITHIN, session.setup(audio, options)).await {
        Ok(Ok(())) => Sound::Wanted,
        Ok(Err(error)) if error.status_code().is_some() => Sound::None(one_line("SETUP", &error)),
        Ok(Err(error)) => Sound::Silenced(one_line("SETUP", &error)),
        Err(_) => Sound::Silenced(format!("SETUP: no answer within {} s", STEP_WITHIN.as_secs())),
    }
}

/// Connects and describes.
///
/// # Errors
/// Whose fault it is and why, without secrets.
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
    let creds = login.map(|login| Credentials { username: login.user.clone(), password: login.password.reveal().to_owned() });
    let mut options = SessionOptions::default().creds(creds).user_agent(format!("taimat/{}", env!("CARGO_PKG_VERSION")));
    if let Some(group) = group {
        options = options.session_group(group);
    }
    check_clock(SystemTime::now())?;
    let host = (url.host_str().unwrap_or_default().to_owned(), url.port().unwrap_or(554));
    // Asked apart, because retina's errors do not tell a dead address from a camera that talks nonsense.
    match timeout(STEP_WITHIN, tokio::net::TcpStream::connect((host.0.trim_matches(['[', ']']), host.1))).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err((CameraFault::Unreachable, format!("{}:{}: {error}", host.0, host.1))),
        Err(_) => return Err((CameraFault::Unreachable, format!("{}:{}: no answer", host.0, host.1))),
    }
    step("DESCRIBE", Rtsp::describe(url.clone(), options)).await
}

/// retina stamps each packet with a calendar's time and panics beyond the calendar: there is no session close to its end.
///
/// # Errors
/// Says so.
fn check_clock(now: SystemTime) -> Result<(), Failure> {
    let ahead = now.checked_add(CALENDAR_MARGIN).and_then(|ahead| jiff::Timestamp::try_from(ahead).ok());
    let why = || (CameraFault::Protocol, "this machine's clock is beyond the year 9999: set it".to_owned());
    ahead.map(|_| ()).ok_or_else(why)
}

/// One step of the set-up, bounded in time.
async fn step<T>(name: &str, step: impl Future<Output = Result<T, retina::Error>>) -> Result<T, Failure> {
    match timeout(STEP_WITHIN, step).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) if error.status_code() == Some(401) => {
            Err((CameraFault::Unauthorized, format!("{name}: the camera refuses this user and password")))
        }
        Ok(Err(error)) => Err((CameraFault::Protocol, one_line(name, &error))),
        Err(_) => Err((CameraFault::Protocol, format!("{name}: no answer within {} s", STEP_WITHIN.as_secs()))),
    }
}

/// A retina error without the connection's particulars, which it puts on lines of their own.
fn one_line(what: &str, error: &retina::Error) -> String {
    crate::redact::masked(&format!("{what}: {}", error.to_string().lines().next().unwrap_or_default()))
}

/// Parameter sets this large are no honest camera's; a segment's head has its bound, and one that is over it would never be read again.
///
/// # Errors
/// When there are too many bytes of them.
fn fits(bytes: usize) -> Result<(), Failure> {
    let why =
        || (CameraFault::NoKeyFrame, format!("parameter sets of {bytes} bytes; at most {SETS_MAX}: nobody could decode this"));
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
        _ => return Err((CameraFault::NoVideo, "a video codec taimat does not record".into())),
    };
    let bytes = sets.iter().map(|set| set.len()).sum();
    fits(bytes)?;
    let annex_b = sets.iter().flat_map(|set| [0, 0, 0, 1].into_iter().chain(set.iter().copied())).collect();
    let built = params.mp4_sample_entry().build();
    let sample_entry = built.map_err(|error| (CameraFault::Protocol, format!("parameter sets: {error}")))?;
    fits(sample_entry.len().saturating_sub(ENTRY_MORE))?;
    let (width, height) = params.pixel_dimensions();
    let size = (u16::try_from(width).unwrap_or(u16::MAX), u16::try_from(height).unwrap_or(u16::MAX));
    let digest = Digest::of(&sample_entry);
    Ok(TrackParams { kind: TrackKind::Video, codec, timescale: 90_000, sample_entry, annex_b, size, digest })
}

fn audio_params(encoding: &str, params: &retina::codec::AudioParameters) -> Option<TrackParams> {
    let (codec, sample_entry) = match encoding {
        "mpeg4-generic" => (Codec::Aac, params.mp4_sample_entry().build().ok()?),
        "pcma" => (Codec::PcmAlaw, g711_entry(b"alaw", params.clock_rate(), params.channels().get())),
        "pcmu" => (Codec::PcmMulaw, g711_entry(b"ulaw", params.clock_rate(), params.channels().get())),
        _ => return None,
    };
    if sample_entry.len() > SETS_MAX {
        return None;
    }
    let digest = Digest::of(&sample_entry);
    let (kind, timescale) = (TrackKind::Audio, params.clock_rate());
    Some(TrackParams { kind, codec, timescale, sample_entry, annex_b: Vec::new(), size: (0, 0), digest })
}

/// An `AudioSampleEntry` (ISO/IEC 14496-12 12.2.3) for G.711, with the names QuickTime gave them.
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

/// What is carried, for people.
fn describe_tracks(tracks: &[Option<Arc<TrackParams>>; 2], sound: &Sound) -> String {
    let carried = tracks.iter().flatten().map(|params| params.describe()).collect::<Vec<_>>().join(" + ");
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
    fn parameter_sets_over_4_kib_are_a_fault_of_the_picture() {
        assert_eq!(fits(4096), Ok(()));
        assert!(matches!(fits(4097), Err((CameraFault::NoKeyFrame, detail)) if detail.contains("4097 bytes")));
    }
}
