//! RTSP camera, simulated: renders the scene, encodes it and serves it with faults.
//!
//! Digest and Basic authentication (RFC 2617), RTP interleaved in the TCP connection (RFC 2326
//! 10.12),
//! H.264 payloads (RFC 6184), Sender Reports (RFC 3550 6.4.1).
#![expect(
    clippy::disallowed_methods,
    reason = "shell: reads a clock, waits, starts a thread or task, uses the network"
)]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use rtsp_types::{HeaderName, Message, Method, Request, Response, StatusCode, Version, headers};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;

pub use super::camera_options::{Options, Sound};
use super::encode::{AccessUnit, Camera264};
use super::rtp::{interleave, packet, payloads, sender_report};
use super::rtsp_auth::{challenge, digest_matches};
use super::scene::{Picture, Scene};
use super::street::Street;
use crate::units::{base64, hex};

/// Access units that wait for a slow client; it loses older ones.
const LAG: usize = 64;
/// Largest request, bytes.
const REQUEST_MAX: usize = 16 * 1024;

/// Faults that tests switch while the camera runs.
#[derive(Debug, Default)]
pub struct Faults {
    /// Sessions stay open, but no frame is sent.
    pub stall: AtomicBool,
    /// Connections are closed and refused.
    pub down: AtomicBool,
    /// Number of damaged packets sent before the next picture.
    pub bad_packets: AtomicU32,
    /// Number of requests with a wrong password.
    pub denied: AtomicU32,
    /// Pictures of the main stream that were skipped because the machine was too slow.
    pub skipped: Mutex<Vec<u64>>,
}

/// What is in front of the camera.
#[derive(Clone)]
enum View {
    Scene(Scene),
    Street(Street),
}

impl View {
    fn draw(&self, time: f64, (width, height): (usize, usize)) -> Picture {
        match self {
            View::Scene(scene) => scene.draw(time, width, height),
            View::Street(street) => street.draw(time, width, height),
        }
    }
}

struct Unit {
    unit: AccessUnit,
    number: u64,
}

struct Stream {
    units: broadcast::Sender<Arc<Unit>>,
    /// SPS and PPS of the last key frame.
    sets: RwLock<Option<(Vec<u8>, Vec<u8>)>>,
}

struct Shared {
    options: Options,
    streams: [Stream; 2],
    faults: Arc<Faults>,
    started: Instant,
    stop: AtomicBool,
}

/// A running camera; stops when dropped.
pub struct SimCamera {
    addr: SocketAddr,
    shared: Arc<Shared>,
    scene: Scene,
}

impl SimCamera {
    /// Starts rendering and listening.
    ///
    /// # Errors
    /// The port is in use, or the encoder does not support the sizes.
    pub fn start(options: Options) -> anyhow::Result<SimCamera> {
        let scene = Scene::new(options.seed, options.disturbance, options.seconds);
        let view = match options.place {
            Some(place) => View::Street(Street::new(place, options.seed, options.seconds)),
            None => View::Scene(scene.clone()),
        };
        let listener =
            std::net::TcpListener::bind((options.ip, options.port)).context("simulated camera")?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let stream = || Stream { units: broadcast::channel(LAG).0, sets: RwLock::new(None) };
        let shared = Arc::new(Shared {
            streams: [stream(), stream()],
            faults: Arc::default(),
            started: Instant::now(),
            stop: AtomicBool::new(false),
            options,
        });
        for (index, (size, bitrate)) in
            [(shared.options.main, 2_000_000), (shared.options.sub, 400_000)]
                .into_iter()
                .enumerate()
        {
            let encoder = Camera264::new(size.0, size.1, shared.options.fps, bitrate)?;
            let (shared, view) = (shared.clone(), view.clone());
            thread::Builder::new()
                .name(format!("encoder-{index}"))
                .spawn(move || encode_stream(&shared, index, size, &view, encoder))?;
        }
        let serving = shared.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name("camera".into()).spawn(move || {
            runtime.block_on(async {
                if let Ok(listener) = TcpListener::from_std(listener) {
                    serve(listener, serving).await;
                }
            });
        })?;
        Ok(SimCamera { addr, shared, scene })
    }

    /// URL of the main stream.
    pub fn main_url(&self) -> String {
        format!("rtsp://{}/main", self.addr)
    }

    /// URL of the sub-stream.
    pub fn sub_url(&self) -> String {
        format!("rtsp://{}/sub", self.addr)
    }

    /// True once every stream can be described.
    pub fn is_ready(&self) -> bool {
        let has_sets = |stream: &Stream| stream.sets.read().is_ok_and(|sets| sets.is_some());
        self.shared.streams.iter().all(has_sets)
    }

    /// The faults of this camera.
    pub fn faults(&self) -> &Arc<Faults> {
        &self.shared.faults
    }

    /// The scene in front of the camera, unless a street is.
    pub fn scene(&self) -> &Scene {
        &self.scene
    }
}

impl Drop for SimCamera {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

/// Renders and encodes one stream in real time. A slow machine skips pictures, as a camera would.
fn encode_stream(
    shared: &Shared,
    index: usize,
    size: (usize, usize),
    view: &View,
    mut encoder: Camera264,
) {
    let fps = u64::from(shared.options.fps);
    let mut number = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        let due = Duration::from_micros(number * 1_000_000 / fps);
        let now = shared.started.elapsed();
        if now < due {
            thread::sleep(due - now);
        } else if now > due + Duration::from_millis(500) {
            let next = (now.as_micros() as u64 * fps / 1_000_000).max(number + 1);
            if let Ok(mut skipped) = shared.faults.skipped.lock()
                && index == 0
            {
                skipped.extend(number..next);
            }
            number = next;
        }
        let picture = view.draw(number as f64 / fps as f64, size);
        let Ok(unit) = encoder.encode(&picture, number) else {
            return;
        };
        let stream = &shared.streams[index];
        let set = |kind: u8| {
            unit.nals
                .iter()
                .find(|nal| nal.first().is_some_and(|head| head & 0x1f == kind))
                .cloned()
        };
        if let (Some(sps), Some(pps)) = (set(7), set(8))
            && let Ok(mut sets) = stream.sets.write()
        {
            *sets = Some((sps, pps));
        }
        if !shared.faults.stall.load(Ordering::Relaxed) {
            let _ = stream.units.send(Arc::new(Unit { unit, number }));
        }
        number += 1;
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    while !shared.stop.load(Ordering::Relaxed) {
        let accepted = tokio::time::timeout(Duration::from_millis(200), listener.accept()).await;
        if let Ok(Ok((socket, _))) = accepted
            && !shared.faults.down.load(Ordering::Relaxed)
        {
            let shared = shared.clone();
            tokio::spawn(async move {
                let _ = Client { socket, shared, session: None }.serve().await;
            });
        }
    }
}

/// An RTSP session after SETUP.
struct Playing {
    units: broadcast::Receiver<Arc<Unit>>,
    channel: u8,
    seq: u16,
    packets: u32,
    bytes: u32,
    /// The first key frame was sent; no frame goes out before it.
    keyed: bool,
    playing: bool,
}

struct Client {
    socket: TcpStream,
    shared: Arc<Shared>,
    session: Option<Playing>,
}

impl Client {
    async fn serve(&mut self) -> anyhow::Result<()> {
        self.socket.set_nodelay(true)?;
        let mut buffer = Vec::new();
        let mut piece = vec![0; 4096];
        loop {
            if self.shared.faults.down.load(Ordering::Relaxed)
                || self.shared.stop.load(Ordering::Relaxed)
            {
                return Ok(());
            }
            let playing = self.session.as_mut().filter(|session| session.playing);
            let unit = async {
                match playing {
                    Some(session) => session.units.recv().await.ok(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                unit = unit => {
                    if let Some(unit) = unit {
                        self.send(&unit).await?;
                    }
                }
                read = self.socket.read(&mut piece) => {
                    let n = read?;
                    anyhow::ensure!(n > 0 && buffer.len() + n <= REQUEST_MAX, "closed");
                    buffer.extend_from_slice(&piece[..n]);
                    while let Ok((message, used)) = Message::<Vec<u8>>::parse(&buffer) {
                        buffer.drain(..used);
                        if let Message::Request(request) = message
                            && !self.answer(&request).await?
                        {
                            return Ok(());
                        }
                    }
                }
                () = tokio::time::sleep(Duration::from_millis(200)) => {}
            }
        }
    }

    /// Answers one request; false: the connection ends.
    async fn answer(&mut self, request: &Request<Vec<u8>>) -> anyhow::Result<bool> {
        let path = request.request_uri().map(|url| url.path().to_owned()).unwrap_or_default();
        let stream = usize::from(path.starts_with("/sub"));
        let reply = |status| {
            let builder = Response::builder(Version::V1_0, status);
            match request.header(&headers::CSEQ) {
                Some(number) => builder.header(headers::CSEQ, number.as_str()),
                None => builder,
            }
        };
        let session = "12345678";
        let open = *request.method() == Method::Options;
        let response = if !open && !self.is_allowed(request) {
            let challenge = challenge(self.shared.options.basic);
            reply(StatusCode::Unauthorized)
                .header(headers::WWW_AUTHENTICATE, challenge)
                .build(Vec::new())
        } else {
            match request.method() {
                Method::Options => {
                    let methods = "OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, TEARDOWN";
                    reply(StatusCode::Ok).header(headers::PUBLIC, methods).build(Vec::new())
                }
                Method::Describe => match self.sdp(stream) {
                    Some(sdp) => {
                        let base =
                            request.request_uri().map(|url| format!("{url}/")).unwrap_or_default();
                        let ok =
                            reply(StatusCode::Ok).header(headers::CONTENT_TYPE, "application/sdp");
                        ok.header(
                            HeaderName::from_static_str("Content-Base").context("name")?,
                            base,
                        )
                        .build(sdp.into_bytes())
                    }
                    None => reply(StatusCode::ServiceUnavailable).build(Vec::new()),
                },
                Method::Setup if path.ends_with("track2") => {
                    reply(StatusCode::UnsupportedTransport).build(Vec::new())
                }
                Method::Setup => {
                    self.set_up(stream);
                    let transport = "RTP/AVP/TCP;unicast;interleaved=0-1;ssrc=7461696D";
                    let ok = reply(StatusCode::Ok).header(headers::TRANSPORT, transport);
                    ok.header(headers::SESSION, format!("{session};timeout=60")).build(Vec::new())
                }
                Method::Play => {
                    if let Some(playing) = &mut self.session {
                        playing.playing = true;
                        playing.units = playing.units.resubscribe();
                    }
                    reply(StatusCode::Ok).header(headers::SESSION, session).build(Vec::new())
                }
                Method::Teardown => {
                    reply(StatusCode::Ok).header(headers::SESSION, session).build(Vec::new())
                }
                _ => reply(StatusCode::Ok).build(Vec::new()),
            }
        };
        let mut bytes = Vec::new();
        response.write(&mut bytes)?;
        self.socket.write_all(&bytes).await?;
        Ok(*request.method() != Method::Teardown)
    }

    /// Starts the session of a stream, still paused.
    fn set_up(&mut self, stream: usize) {
        self.session = Some(Playing {
            units: self.shared.streams[stream].units.subscribe(),
            channel: 0,
            seq: 1,
            packets: 0,
            bytes: 0,
            keyed: false,
            playing: false,
        });
    }

    /// Whether the request has the right login; counts wrong ones.
    fn is_allowed(&self, request: &Request<Vec<u8>>) -> bool {
        let Some((user, password)) = &self.shared.options.login else {
            return true;
        };
        let Some(given) = request.header(&headers::AUTHORIZATION).map(|value| value.as_str())
        else {
            return false;
        };
        let right = if self.shared.options.basic {
            given == format!("Basic {}", base64(format!("{user}:{password}").as_bytes()))
        } else {
            match digest_matches(given, request.method().into(), user, password) {
                Some(right) => right,
                None => return false,
            }
        };
        if !right {
            self.shared.faults.denied.fetch_add(1, Ordering::Relaxed);
        }
        right
    }

    fn sdp(&self, stream: usize) -> Option<String> {
        let (sps, pps) = self.shared.streams[stream].sets.read().ok()?.clone()?;
        let sound = match self.shared.options.sound {
            Sound::LowBitRate if stream == 0 => {
                "m=audio 0 RTP/AVP 97\r\na=rtpmap:97 mpeg4-generic/8000/1\r\na=fmtp:97 streamtype=5;profile-level-id=1;\
                 mode=AAC-lbr;config=1588;sizelength=6;indexlength=2;indexdeltalength=2\r\na=control:track2\r\n"
            }
            Sound::Refused if stream == 0 => {
                "m=audio 0 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=control:track2\r\n"
            }
            _ => "",
        };
        Some(format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=taimat simulated camera\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n\
             c=IN IP4 0.0.0.0\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1;profile-level-id={};\
             sprop-parameter-sets={},{}\r\na=control:track1\r\n{sound}",
            hex(sps.get(1..4)?).to_uppercase(),
            base64(&sps),
            base64(&pps)
        ))
    }

    /// Sends one access unit, and a Sender Report with each key frame.
    async fn send(&mut self, unit: &Unit) -> anyhow::Result<()> {
        let fps = u64::from(self.shared.options.fps);
        let time = (unit.number * 90_000 / fps) as u32;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let Some(session) = self.session.as_mut() else {
            return Ok(());
        };
        if !session.keyed && !unit.unit.key {
            return Ok(());
        }
        session.keyed = true;
        let mut out = Vec::new();
        if unit.unit.key {
            interleave(
                &mut out,
                session.channel + 1,
                &sender_report(now, time, session.packets, session.bytes),
            );
        }
        for _ in 0..self.shared.faults.bad_packets.swap(0, Ordering::Relaxed) {
            // A middle fragment of a NAL unit (FU-A, RFC 6184 5.8) without a start fragment.
            let bytes = packet(session.seq, time, false, &[0x7c, 0x05, 0, 0]);
            session.seq = session.seq.wrapping_add(1);
            interleave(&mut out, session.channel, &bytes);
        }
        let last = unit.unit.nals.len() - 1;
        for (i, nal) in unit.unit.nals.iter().enumerate() {
            for payload in payloads(nal) {
                let end = i == last && payload.ends_nal;
                let bytes = packet(session.seq, time, end, &payload.bytes);
                session.seq = session.seq.wrapping_add(1);
                session.packets = session.packets.wrapping_add(1);
                session.bytes = session.bytes.wrapping_add(payload.bytes.len() as u32);
                interleave(&mut out, session.channel, &bytes);
            }
        }
        Ok(self.socket.write_all(&out).await?)
    }
}
