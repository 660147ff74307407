//! Settings: always valid once made. Raw TOML is parsed in [`raw`], which reports every bad key at once.
//!
//! What belongs here: one plain struct per room, each `PartialEq`, so that a change reaches only the room it touches.
//! What does not: reading files (that is the caller's, through [`load`]).

pub mod load;
pub mod raw;
mod raw_motion;
pub mod rules;

use std::path::PathBuf;

use self::rules::Rule;
use crate::units::{Secret, SiteId};

/// Everything one box needs to know. Made only by [`raw`], so every value is in range.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Which place this is.
    pub site: SiteId,
    /// The camera room's part.
    pub camera: CameraSettings,
    /// The ring's part.
    pub storage: StorageSettings,
    /// The motion room's part.
    pub motion: MotionSettings,
    /// How clips and snapshots are cut.
    pub clip: ClipSettings,
    /// The office's broker.
    pub uplink: UplinkSettings,
}

/// Where the camera is and how patient we are with it.
#[derive(Debug, Clone, PartialEq)]
pub struct CameraSettings {
    /// RTSP URL of the stream to record, without credentials.
    pub main_url: url::Url,
    /// RTSP URL of the stream to analyse; `None` analyses the main stream.
    pub sub_url: Option<url::Url>,
    /// User and password, read from a file.
    pub login: Option<Login>,
    /// Record audio where the camera sends it.
    pub audio: bool,
    /// RTP over TCP (the default) or UDP.
    pub transport: Transport,
    /// Microseconds without a frame until the stall is news (default 5 s).
    pub stall_after: u64,
    /// Microseconds without a frame until the session is dropped (default 15 s).
    pub reconnect_after: u64,
}

/// A camera or broker login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// User name.
    pub user: String,
    /// Password.
    pub password: Secret,
}

/// How RTP travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Interleaved in the RTSP connection.
    Tcp,
    /// Its own UDP ports (experimental in retina).
    Udp,
}

/// The ring on the card.
#[derive(Debug, Clone, PartialEq)]
pub struct StorageSettings {
    /// Directory of the ring; made if its parent exists.
    pub dir: PathBuf,
    /// Refuse to start when `dir` is on the root file system (its own mount is missing).
    pub require_mount: bool,
    /// Bytes all segment files may take together; rounded down to whole segments, at least 4.
    pub budget: u64,
    /// Bytes of one segment file: a multiple of 4 MiB for cards (default 16 MiB), any multiple of 4 KiB in tests.
    pub segment: u64,
    /// Slots of 4 KiB in the journal (two copies each): how many outbox entries it can hold.
    pub journal_slots: u32,
    /// Slots for snapshots waiting for the office.
    pub still_slots: u32,
    /// Bytes of one snapshot slot.
    pub still_bytes: u32,
    /// Percent of the budget that pins may hold before the oldest of the lowest class goes (default 50).
    pub pin_quota: u8,
    /// Bytes the card may be written with over its life by its data sheet; 0 (the default) when nobody has said.
    pub endurance: u64,
}

/// What counts as motion.
#[derive(Debug, Clone, PartialEq)]
pub struct MotionSettings {
    /// Off: the box only records.
    pub enabled: bool,
    /// 1 (only the obvious) to 10 (everything that moves); default 5.
    pub sensitivity: u8,
    /// Pictures analysed per second at most (default 5).
    pub fps: f32,
    /// Zones; none means the whole picture is one zone named `all`.
    pub zones: Vec<Zone>,
    /// Rules; none means one named `motion`: whatever moves in any zone.
    pub rules: Vec<Rule>,
    /// Microseconds of quiet that end an event (default 5 s).
    pub quiet_after: u64,
    /// Longest event in microseconds before it is continued in another (default 120 s).
    pub max_event: u64,
    /// Microseconds in which a rule raises no second event (default 0); suppressed starts are counted. Rules may have their own.
    pub cooldown: u64,
    /// Minutes east of UTC of the place, for hours of rules.
    pub utc_offset: i32,
    /// Decode key frames only while nothing happens.
    pub gating: bool,
    /// Percent of one core that decoding and judging may take.
    pub cpu: u8,
    /// Degrees Celsius of the board above which motion is judged on key frames only.
    pub max_temperature: u8,
}

impl Default for MotionSettings {
    /// As `docs/config.md` has them.
    fn default() -> MotionSettings {
        MotionSettings {
            enabled: true,
            sensitivity: 5,
            fps: 5.0,
            zones: Vec::new(),
            rules: Vec::new(),
            quiet_after: 5_000_000,
            max_event: 120_000_000,
            cooldown: 0,
            utc_offset: 7 * 60,
            gating: true,
            cpu: 50,
            max_temperature: 80,
        }
    }
}

/// A named polygon of the picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Zone {
    /// Its name, as it appears in events.
    pub name: String,
    /// What it is for.
    pub kind: ZoneKind,
    /// At least three corners, x and y in 0..=1 of width and height, origin top left.
    pub polygon: Vec<[f32; 2]>,
}

/// What a zone is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZoneKind {
    /// Motion in it raises events.
    Include,
    /// Motion in it is ignored.
    Exclude,
    /// Nobody may look: ignored, and blacked out in snapshots.
    Privacy,
}

/// How clips and snapshots are cut.
#[derive(Debug, Clone, PartialEq)]
pub struct ClipSettings {
    /// Send clips of events.
    pub enabled: bool,
    /// Send a snapshot of each event's best picture.
    pub snapshot: bool,
    /// Microseconds before the event (default 5 s), extended back to the key frame before it.
    pub pre_roll: u64,
    /// Microseconds after the event (default 5 s).
    pub post_roll: u64,
    /// Longest clip a `clip-get` may ask for, in microseconds (default 10 min).
    pub max_requested: u64,
}

/// The broker at the office.
#[derive(Debug, Clone, PartialEq)]
pub struct UplinkSettings {
    /// Broker host name or address.
    pub host: String,
    /// Broker port.
    pub port: u16,
    /// TLS with a private authority and client certificate; `None` is plain TCP, for a broker on this machine only.
    pub tls: Option<TlsSettings>,
    /// Broker user and password, where certificates are not used.
    pub login: Option<Login>,
    /// MQTT version.
    pub protocol: Protocol,
    /// Seconds between keep-alives (default 30).
    pub keep_alive: u16,
    /// Bytes owed to the office at once: events and whole files, although clips lie in the ring and not twice (default 1 GiB).
    /// Entries beyond are shed in the order of [`crate::outbox`].
    pub outbox_bytes: u64,
    /// Largest chunk of a file in bytes (default 64 KiB).
    pub chunk: u32,
    /// Seconds between health messages (default 60).
    pub health_every: u16,
}

/// Files of a mutual-TLS identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// PEM of the authorities the broker may be signed by.
    pub ca: PathBuf,
    /// PEM certificate chain of this box and its PEM key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// MQTT version to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// MQTT 5.
    V5,
    /// MQTT 3.1.1.
    V311,
}

/// Settings for tests of rooms that need some.
#[cfg(test)]
pub(crate) fn test_settings() -> Settings {
    Settings {
        site: SiteId::parse("km-17").unwrap(),
        camera: CameraSettings {
            main_url: url::Url::parse("rtsp://127.0.0.1/main").unwrap(),
            sub_url: None,
            login: None,
            audio: true,
            transport: Transport::Tcp,
            stall_after: 5_000_000,
            reconnect_after: 15_000_000,
        },
        storage: StorageSettings {
            dir: PathBuf::from("ring"),
            require_mount: false,
            budget: 64 << 20,
            segment: 1 << 20,
            journal_slots: 512,
            still_slots: 8,
            still_bytes: 64 << 10,
            pin_quota: 50,
            endurance: 0,
        },
        motion: MotionSettings::default(),
        clip: ClipSettings {
            enabled: true,
            snapshot: true,
            pre_roll: 5_000_000,
            post_roll: 5_000_000,
            max_requested: 600_000_000,
        },
        uplink: UplinkSettings {
            host: "127.0.0.1".into(),
            port: 1883,
            tls: None,
            login: None,
            protocol: Protocol::V5,
            keep_alive: 30,
            outbox_bytes: 64 << 20,
            chunk: 64 << 10,
            health_every: 60,
        },
    }
}
