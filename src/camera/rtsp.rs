//! ⇄ The RTSP shell around `retina`: one task a stream. Everything retina leaves to its user is here: time-outs around each
//! step, the watchdog on frames, reconnecting, waiting for TEARDOWN.
//!
//! What belongs here: retina's types and how they become [`Frame`]s. What does not: when to give up ([`super::session`]),
//! what time it is ([`super::timeline`]).

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream as _;
use retina::client::{
    Credentials, Demuxed, Described, InitialTimestampPolicy, PlayOptions, Session as Rtsp, SessionGroup, SessionOptions,
    SetupOptions, TcpTransportOptions, UdpTransportOptions, UnknownRtcpSsrcPolicy,
};
use retina::codec::{AudioFrame, CodecItem, FrameFormat, ParametersRef, VideoFrame, VideoParametersCodec};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::session::{Session, Watch};
use super::timeline::Timeline;
use super::{CameraFault, CameraNews, Codec, Frame, Role, TrackKind, TrackParams};
use crate::clock::Clock;
use crate::settings::{CameraSettings, Transport};
use crate::units::Digest;

/// For each of connect + DESCRIBE, SETUP, PLAY: slow cameras take 3 s, none takes 10.
const STEP_WITHIN: Duration = Duration::from_secs(10);
/// For TEARDOWN: cameras with few sessions refuse the next one until it is done.
const TEARDOWN_WITHIN: Duration = Duration::from_secs(3);
/// How often the watchdog looks.
const WATCH_EVERY: Duration = Duration::from_millis(500);

/// Runs one stream of the camera until `stop` becomes true: frames to `frames`, everything else to `news`.
pub async fn run(
    role: Role,
    settings: CameraSettings,
    clock: Arc<dyn Clock>,
    frames: impl FnMut(Arc<Frame>) + Send,
    news: mpsc::Sender<CameraNews>,
    mut stop: watch::Receiver<bool>,
) {
    let session = Session::new(role, settings.stall_after, settings.reconnect_after, clock.now());
    let timeline = Timeline::default();
    let mut camera = Camera { role, settings, clock, frames, news, session, timeline, run: 0, tracks: [None, None] };
    while !*stop.borrow() {
        let group = Arc::new(SessionGroup::default());
        let (fault, detail) = tokio::select! {
            ended = camera.stream(&group) => ended,
            _ = stop.wait_for(|stop| *stop) => (CameraFault::Stopped, String::new()),
        };
        let _ = timeout(TEARDOWN_WITHIN, group.await_teardown()).await;
        if fault == CameraFault::Stopped {
            return;
        }
        let (told, pause) = camera.session.failed(fault, detail, random());
        for news in told {
            let _ = camera.news.send(news).await;
        }
        let _ = timeout(Duration::from_micros(pause), stop.wait_for(|stop| *stop)).await;
    }
}

/// Uniform in 0..1.
fn random() -> f64 {
    let mut bytes = [0; 4];
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes);
    f64::from(u32::from_be_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

struct Camera<F> {
    role: Role,
    settings: CameraSettings,
    clock: Arc<dyn Clock>,
    frames: F,
    news: mpsc::Sender<CameraNews>,
    session: Session,
    timeline: Timeline,
    run: u32,
    /// Parameters of the video and the audio track now in force.
    tracks: [Option<Arc<TrackParams>>; 2],
}

/// A step that failed, and whose fault it was.
type Failure = (CameraFault, String);

impl<F: FnMut(Arc<Frame>) + Send> Camera<F> {
    /// One session from connect to its end; says why it ended.
    async fn stream(&mut self, group: &Arc<SessionGroup>) -> Failure {
        self.tracks = [None, None];
        self.timeline = Timeline::default();
        let mut demuxed = match open(&self.settings, self.role, group).await {
            Ok(demuxed) => demuxed,
            Err(failure) => return failure,
        };
        self.session.connected(self.clock.now());
        let connected = self.clock.now().mono;
        let mut look = tokio::time::interval(WATCH_EVERY);
        loop {
            let item = tokio::select! {
                item = poll_fn(|context| Pin::new(&mut demuxed).poll_next(context)) => item,
                _ = look.tick() => {
                    match self.session.watch(self.clock.now(), connected) {
                        Watch::Fine => continue,
                        Watch::Tell(news) => {
                            let _ = self.news.send(news).await;
                            continue;
                        }
                        Watch::Drop(fault, detail) => return (fault, detail),
                    }
                }
            };
            match item {
                None => return (CameraFault::Closed, "the camera closed the session".into()),
                Some(Err(error)) => return (CameraFault::Closed, one_line("stream", &error)),
                Some(Ok(CodecItem::VideoFrame(frame))) => {
                    if let Err(failure) = self.video(&demuxed, frame).await {
                        return failure;
                    }
                }
                Some(Ok(CodecItem::AudioFrame(frame))) => self.audio(&demuxed, &frame),
                Some(Ok(_)) => {}
            }
        }
    }

    async fn video(&mut self, demuxed: &Demuxed, frame: VideoFrame) -> Result<(), Failure> {
        let now = self.clock.now();
        let stream = &demuxed.streams()[frame.stream_id()];
        if self.tracks[0].is_none() || frame.has_new_parameters() {
            let Some(ParametersRef::Video(params)) = stream.parameters() else {
                return Ok(());
            };
            self.tracks[0] = Some(Arc::new(video_params(params)?));
        }
        let Some(params) = self.tracks[0].clone() else {
            return Ok(());
        };
        let clock_rate = i64::from(params.timescale);
        let placed = self.timeline.place(frame.timestamp().elapsed() * 1_000_000 / clock_rate, now);
        if placed.new_run {
            self.run += 1;
        }
        // The camera's own ticks, unless it was an outlier: microseconds would round.
        let elapsed = frame.timestamp().elapsed();
        let pts = if elapsed * 1_000_000 / clock_rate == placed.pts { elapsed } else { placed.pts * clock_rate / 1_000_000 };
        let (key, lost) = (frame.is_random_access_point(), u32::from(frame.loss()));
        let tracks = &self.tracks;
        let up = self.session.frame(now, key, || words(tracks));
        let data = Bytes::from(frame.into_data());
        (self.frames)(Arc::new(Frame { role: self.role, params, data, key, pts, run: self.run, at: placed.at, lost }));
        if let Some(news) = up {
            let _ = self.news.send(news).await;
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
        let Some(at) = self.timeline.time_of(micros, self.clock.now()) else {
            return;
        };
        let (data, lost) = (Bytes::copy_from_slice(frame.data()), u32::from(frame.loss()));
        (self.frames)(Arc::new(Frame { role: self.role, params, data, key: true, pts, run: self.run, at, lost }));
    }
}

/// Connects, describes, sets up what can be recorded, plays.
async fn open(settings: &CameraSettings, role: Role, group: &Arc<SessionGroup>) -> Result<Demuxed, Failure> {
    let mut session = describe(settings, role, Some(group.clone())).await?;
    let video = session
        .streams()
        .iter()
        .position(|stream| stream.media() == "video" && matches!(stream.encoding_name(), "h264" | "h265"));
    let Some(video) = video else {
        let names: Vec<&str> = session.streams().iter().map(|stream| stream.encoding_name()).collect();
        return Err((CameraFault::NoVideo, format!("no H.264 or H.265 video in this stream, only: {}", names.join(", "))));
    };
    let audio = session
        .streams()
        .iter()
        .position(|stream| stream.media() == "audio" && matches!(stream.encoding_name(), "mpeg4-generic" | "pcma" | "pcmu"));
    let audio = audio.filter(|_| settings.audio && role == Role::Main);
    for index in [Some(video), audio].into_iter().flatten() {
        let transport = match settings.transport {
            Transport::Tcp => retina::client::Transport::Tcp(TcpTransportOptions::default()),
            Transport::Udp => retina::client::Transport::Udp(UdpTransportOptions::default()),
        };
        let options = SetupOptions::default().transport(transport).frame_format(FrameFormat::MP4);
        step("SETUP", session.setup(index, options)).await?;
    }
    let options = PlayOptions::default()
        .initial_timestamp(InitialTimestampPolicy::Permissive)
        .unknown_rtcp_ssrc(UnknownRtcpSsrcPolicy::ProcessPackets);
    let playing = step("PLAY", session.play(options)).await?;
    playing.demuxed().map_err(|error| (CameraFault::Protocol, error.to_string()))
}

/// Connects and describes.
///
/// # Errors
/// Whose fault it is and why, without secrets.
pub async fn describe(
    settings: &CameraSettings,
    role: Role,
    group: Option<Arc<SessionGroup>>,
) -> Result<Rtsp<Described>, Failure> {
    let url = match role {
        Role::Sub => settings.sub_url.as_ref().unwrap_or(&settings.main_url),
        Role::Main => &settings.main_url,
    };
    let login = settings.login.as_ref();
    let creds = login.map(|login| Credentials { username: login.user.clone(), password: login.password.reveal().to_owned() });
    let mut options = SessionOptions::default().creds(creds).user_agent(format!("taimat/{}", env!("CARGO_PKG_VERSION")));
    if let Some(group) = group {
        options = options.session_group(group);
    }
    let host = (url.host_str().unwrap_or_default().to_owned(), url.port().unwrap_or(554));
    // Asked apart, because retina's errors do not tell a dead address from a camera that talks nonsense.
    match timeout(STEP_WITHIN, tokio::net::TcpStream::connect((host.0.trim_matches(['[', ']']), host.1))).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err((CameraFault::Unreachable, format!("{}:{}: {error}", host.0, host.1))),
        Err(_) => return Err((CameraFault::Unreachable, format!("{}:{}: no answer", host.0, host.1))),
    }
    step("DESCRIBE", Rtsp::describe(url.clone(), options)).await
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
    format!("{what}: {}", error.to_string().lines().next().unwrap_or_default())
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
    let annex_b = sets.iter().flat_map(|set| [0, 0, 0, 1].into_iter().chain(set.iter().copied())).collect();
    let built = params.mp4_sample_entry().build();
    let sample_entry = built.map_err(|error| (CameraFault::Protocol, format!("parameter sets: {error}")))?;
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
fn words(tracks: &[Option<Arc<TrackParams>>; 2]) -> String {
    let word = |params: &Arc<TrackParams>| match params.kind {
        TrackKind::Video => format!("{} {}x{}", params.codec.word(), params.size.0, params.size.1),
        TrackKind::Audio => params.codec.word().to_owned(),
    };
    tracks.iter().flatten().map(word).collect::<Vec<_>>().join(" + ")
}
