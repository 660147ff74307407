//! Configuration of the simulated RTSP camera.

use super::scene::Disturbance;
use super::street::Place;

/// Configuration of the camera.
#[derive(Debug, Clone)]
pub struct Options {
    /// Seed of the scene.
    pub seed: u64,
    /// Disturbance of the scene.
    pub disturbance: Disturbance,
    /// The street in front of the camera; `None` for the scene.
    pub place: Option<Place>,
    /// Seconds of planned crossings.
    pub seconds: f64,
    /// Pictures a second of both streams.
    pub fps: u32,
    /// Main stream: width, height.
    pub main: (usize, usize),
    /// Sub-stream: width, height.
    pub sub: (usize, usize),
    /// User and password; `None` accepts every client.
    pub login: Option<(String, String)>,
    /// Sound that the main stream announces.
    pub sound: Sound,
    /// Request Basic authentication (RFC 7617), as old cameras do, instead of Digest.
    pub basic: bool,
    /// Address to listen on.
    pub ip: std::net::IpAddr,
    /// Port; 0 for any free one.
    pub port: u16,
}

/// Sound that a camera announces but does not deliver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sound {
    /// No sound.
    None,
    /// AAC in low bit rate mode (RFC 3640 3.3.5), which few clients implement.
    LowBitRate,
    /// G.711; the camera rejects its SETUP.
    Refused,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            seed: 1,
            disturbance: Disturbance::None,
            place: None,
            seconds: 3600.0,
            fps: 10,
            main: (1280, 720),
            sub: (640, 360),
            login: Some(("admin".into(), "taimat".into())),
            sound: Sound::None,
            basic: false,
            ip: std::net::Ipv4Addr::LOCALHOST.into(),
            port: 0,
        }
    }
}
