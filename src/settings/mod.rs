//! Settings: always valid once made. Raw TOML is parsed in [`parse`], which reports every bad key at once.
//!
//! * [`parse`]: TOML → settings. [`load`] ⇄: from a file. [`pem`]: whether certificates and keys are what they should be.
//! * [`diff`]: what differs between two settings, room by room.
//!
//! What belongs here: one plain struct per room, each `PartialEq`, so that a change reaches only the module it touches.
//! What does not: reading files (that is the caller's, through [`load`]), how settings come to a device (`config`).

pub mod diff;
mod edit_distance;
pub mod load;
pub mod pem;
pub mod parse;
mod parse_motion;
pub mod rules;

use std::path::PathBuf;

use self::rules::Rule;
use crate::units::{Secret, SiteId};

/// Everything one device needs to know. Made only by [`parse`], so every value is in range.
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
    /// Who may change this remotely.
    pub remote: RemoteSettings,
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
    /// Microseconds without a frame until the stall is updates (default 5 s).
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
    pub snapshot_slots: u32,
    /// Bytes of one snapshot slot.
    pub still_bytes: u32,
    /// Percent of the budget that pins may hold before the oldest of the lowest class goes (default 50).
    pub pin_quota: u8,
    /// Bytes the card may be written with over its life by its data sheet; 0 (the default) when nobody has said.
    pub endurance: u64,
    /// The site whose card it must be; `None` takes any.
    pub site: Option<SiteId>,
}

/// What counts as motion.
#[derive(Debug, Clone, PartialEq)]
pub struct MotionSettings {
    /// Off: the device only records.
    pub enabled: bool,
    /// 1 (only the obvious) to 10 (everything that moves); default 5.
    pub sensitivity: u8,
    /// Pictures analysed per second at most (default 5).
    pub fps: f32,
    /// Zones; none means the whole picture is one zone named `all`.
    pub zones: Vec<Zone>,
    /// Rules; none means one named `analytics`: whatever moves in any zone.
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
    /// MQTT version; `None` tries 5, and 3.1.1 where that fails.
    pub protocol: Option<Protocol>,
    /// Seconds between keep-alives (default 30).
    pub keep_alive: u16,
    /// Bytes pending to the office at once: events and whole files, although clips lie in the ring and not twice (default 1 GiB).
    /// Entries beyond are shed in the order of [`crate::outbox`].
    pub outbox_bytes: u64,
    /// Largest chunk of a file in bytes (default 64 KiB).
    pub chunk: u32,
    /// Seconds between health messages (default 60).
    pub health_every: u16,
    /// How much of the way files may take.
    pub pace: BandwidthSettings,
    /// How files are named on the wire.
    pub files: FileProtocol,
    /// Other dialects spoken beside our own.
    pub integrations: Integrations,
    /// Further brokers, tried in this order when the one above cannot be reached.
    pub fallbacks: Vec<Broker>,
}

impl UplinkSettings {
    /// All brokers in the order they are tried.
    pub fn brokers(&self) -> Vec<Broker> {
        let first = Broker { host: self.host.clone(), port: self.port, tls: self.tls.clone(), login: self.login.clone() };
        std::iter::once(first).chain(self.fallbacks.iter().cloned()).collect()
    }

    /// The same settings with other brokers, at least one.
    #[must_use]
    pub fn with_brokers(&self, brokers: &[Broker]) -> UplinkSettings {
        let Some((first, fallbacks)) = brokers.split_first() else {
            return self.clone();
        };
        let Broker { host, port, tls, login } = first.clone();
        UplinkSettings { host, port, tls, login, fallbacks: fallbacks.to_vec(), ..self.clone() }
    }
}

/// How one broker is reached.
#[derive(Debug, Clone, PartialEq)]
pub struct Broker {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// As in [`UplinkSettings`].
    pub tls: Option<TlsSettings>,
    /// As in [`UplinkSettings`].
    pub login: Option<Login>,
}

impl Broker {
    /// True when its login goes over the network in the clear.
    pub fn shows_login(&self) -> bool {
        self.tls.is_none() && self.login.is_some() && !parse::is_local(&self.host)
    }

    /// What makes it the same broker, whatever certificates are used with it.
    pub fn address(&self) -> (String, u16) {
        (self.host.clone(), self.port)
    }
}

/// Who may change the configuration remotely, and how long a change may be on trial.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteSettings {
    /// Keys that may sign documents and commands; none: no document can come remotely, and only commands that read or send footage.
    pub keys: Vec<TrustedKey>,
    /// Seconds of running time after which a change that has not proven itself is taken back (default 600).
    pub trial: u64,
}

/// An Ed25519 key that may sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedKey {
    /// Its name, for people.
    pub name: String,
    /// The public key.
    pub public: [u8; 32],
    /// What it may sign.
    pub scope: KeyScope,
}

/// What a key may sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyScope {
    /// Everything.
    All,
    /// Commands that read, or that keep and send footage: [`KeyScope::COMMANDS`].
    Commands,
}

impl KeyScope {
    /// The word for [`KeyScope::Commands`] in `remote.keys`.
    pub const WORD: &str = "commands";
    /// What a key of scope `commands` may sign; where no key is enrolled these need no signature.
    pub const COMMANDS: [&str; 10] =
        ["ping", "snapshot", "clip-get", "clip-cancel", "event-get", "lock", "unlock", "locks", "ring-status", "log-tail"];

    /// Whether a command of this name may be signed.
    pub fn allows(self, command: &str) -> bool {
        self == KeyScope::All || KeyScope::COMMANDS.contains(&command)
    }

    /// The word for people and programs.
    pub fn as_str(self) -> &'static str {
        match self {
            KeyScope::All => "all",
            KeyScope::Commands => KeyScope::WORD,
        }
    }
}

impl TrustedKey {
    /// What signatures call it: the first 16 hex digits of the SHA-256 of the public key.
    pub fn id(&self) -> String {
        key_id(&self.public)
    }
}

/// The id of a public key.
pub fn key_id(public: &[u8; 32]) -> String {
    crate::units::Digest::of(public).hex()[..16].to_owned()
}

/// How much of the way to the broker files may take; 0 means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BandwidthSettings {
    /// Bytes of chunks a second.
    pub rate_cap: u64,
    /// Bytes of any kind after which files wait for the next day (UTC).
    pub day_budget: u64,
    /// The same for a month.
    pub month_budget: u64,
    /// When clips nobody asked for wait.
    pub quiet: Option<QuietHours>,
}

/// Hours of every day, such as `22:00-05:30+07:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuietHours {
    /// Minutes after midnight in UTC.
    from: i64,
    to: i64,
}

impl QuietHours {
    /// Reads `HH:MM-HH:MM` with `+HH:MM`, `-HH:MM` or `Z` behind.
    pub fn parse(text: &str) -> Option<QuietHours> {
        let (hours, offset) = (text.get(..11)?, text.get(11..)?);
        let minutes = |text: &str| -> Option<i64> {
            let (hour, minute) = text.split_once(':')?;
            let two = |text: &str, most: i64| text.parse::<i64>().ok().filter(|n| text.len() == 2 && (0..=most).contains(n));
            Some(two(hour, 23)? * 60 + two(minute, 59)?)
        };
        let shift = match offset.split_at_checked(1)? {
            ("Z", "") => 0,
            ("+", ahead) => -minutes(ahead)?,
            ("-", behind) => minutes(behind)?,
            _ => return None,
        };
        let (from, to) = hours.split_once('-')?;
        let utc = |text| Some((minutes(text)? + shift).rem_euclid(24 * 60));
        Some(QuietHours { from: utc(from)?, to: utc(to)? })
    }

    /// True within the hours.
    pub fn holds(&self, wall: crate::units::WallTime) -> bool {
        let minute = wall.0.div_euclid(60_000_000).rem_euclid(24 * 60);
        if self.from <= self.to { (self.from..self.to).contains(&minute) } else { minute >= self.from || minute < self.to }
    }
}

/// How files are named on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileProtocol {
    /// Under `up/file/`, resumed by the receiver.
    Own,
    /// EMQX's `$file-async/`.
    Emqx,
}

/// Other dialects in which motion and health are reported; all off by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Integrations {
    /// Home Assistant device discovery.
    pub home_assistant: bool,
    /// Frigate's motion topics.
    pub frigate: bool,
    /// ONVIF events as JSON.
    pub onvif: bool,
}

/// Files of a mutual-TLS identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// PEM of the authorities the broker may be signed by.
    pub ca: PathBuf,
    /// PEM certificate chain of this device and its PEM key.
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

/// Settings for tests of modules that need some.
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
            snapshot_slots: 8,
            still_bytes: 64 << 10,
            pin_quota: 50,
            endurance: 0,
            site: None,
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
            protocol: Some(Protocol::V5),
            keep_alive: 30,
            outbox_bytes: 64 << 20,
            chunk: 64 << 10,
            health_every: 60,
            pace: BandwidthSettings::default(),
            files: FileProtocol::Own,
            integrations: Integrations::default(),
            fallbacks: Vec::new(),
        },
        remote: RemoteSettings { keys: Vec::new(), trial: 600 },
    }
}
