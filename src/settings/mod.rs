//! Settings of a device: one plain struct for each module, always in range.
//!
//! * [`parse`]: TOML to settings, or all bad keys at once. [`section`]: one table, with its keys.
//!   [`load`]: from a file. [`pem`]: checks of certificates and keys.
//! * [`diff`]: difference between two settings, by section. [`rules`]: rules of motion events.
//!
//! What belongs here: types, keys, defaults, ranges. What does not: reading files in [`parse`] (the
//! caller passes a reader), remote changes ([`crate::remote_config`]).

pub(crate) mod diff;
pub mod load;
pub(crate) mod pem;
pub mod parse;
mod parse_motion;
pub(crate) mod section;
pub(crate) mod rules;
mod values;

use std::path::PathBuf;

use self::rules::Rule;
use crate::units::{Secret, SiteId};

/// Settings of one device. Only [`parse`] makes them, so every value is in range.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Id of the site.
    pub site: SiteId,
    /// Camera: streams and timeouts.
    pub camera: CameraSettings,
    /// Ring on the card.
    pub storage: StorageSettings,
    /// Motion detection.
    pub motion: MotionSettings,
    /// Clips and snapshots.
    pub clip: ClipSettings,
    /// Connection to the office's broker.
    pub uplink: UplinkSettings,
    /// Remote changes.
    pub remote: RemoteSettings,
}

/// Streams, login and timeouts of the camera.
#[derive(Debug, Clone, PartialEq)]
pub struct CameraSettings {
    /// RTSP URL of the stream to record (main stream), without credentials.
    pub main_url: url::Url,
    /// RTSP URL of the stream to analyse (sub stream); `None` analyses the main stream.
    pub sub_url: Option<url::Url>,
    /// User and password; `None` connects without a login.
    pub login: Option<Login>,
    /// Record audio when the camera sends it.
    pub audio: bool,
    /// Transport of RTP (default TCP).
    pub transport: Transport,
    /// Microseconds without a frame until a stall is reported (default 5 s).
    pub stall_after: u64,
    /// Microseconds without a frame until the session is closed and opened again (default 15 s).
    pub reconnect_after: u64,
}

/// Login of a camera or broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// User name.
    pub user: String,
    /// Password.
    pub password: Secret,
}

impl Login {
    /// The login as texts must not show it.
    pub fn known(&self) -> crate::redact::KnownLogin {
        crate::redact::KnownLogin::new(&self.user, self.password.reveal())
    }
}

/// Transport of RTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Interleaved in the RTSP connection (RFC 2326, 10.12).
    Tcp,
    /// UDP ports of its own.
    Udp,
}

/// The ring on the card.
#[derive(Debug, Clone, PartialEq)]
pub struct StorageSettings {
    /// Directory of the ring; created when its parent exists.
    pub dir: PathBuf,
    /// Do not start when `dir` lies on the root file system, because the card is then not mounted.
    pub require_mount: bool,
    /// Bytes of all segment files; rounded down to whole segments, at least 4.
    pub budget: u64,
    /// Bytes of one segment file: a multiple of 4 MiB for cards (default 16 MiB), any multiple of 4
    /// KiB in tests.
    pub segment: u64,
    /// Slots of the journal, one for each outbox entry: 4 KiB in two copies.
    pub journal_slots: u32,
    /// Slots for snapshots that wait for the office.
    pub snapshot_slots: u32,
    /// Bytes of one snapshot slot.
    pub still_bytes: u32,
    /// Percent of the budget that pins may hold; beyond it the oldest pin of the lowest class is
    /// dropped (default 50).
    pub pin_quota: u8,
    /// Write endurance of the card by its data sheet, bytes; 0 (default) when unknown.
    pub endurance: u64,
    /// Site that the card must name; `None` accepts every card.
    pub site: Option<SiteId>,
}

/// Motion detection.
#[derive(Debug, Clone, PartialEq)]
pub struct MotionSettings {
    /// False: the device only records.
    pub enabled: bool,
    /// 1 (large, clear motion only) to 10 (all motion); default 5.
    pub sensitivity: u8,
    /// Analysed pictures per second at most (default 5).
    pub fps: f32,
    /// Zones; empty is one zone `all` of the whole picture.
    pub zones: Vec<Zone>,
    /// Rules; empty is one rule `analytics` for an object in any zone.
    pub rules: Vec<Rule>,
    /// Microseconds without motion that end an event (default 5 s).
    pub quiet_after: u64,
    /// Microseconds of an event at most; a new event then continues it (default 120 s).
    pub max_event: u64,
    /// Microseconds after an event in which its rule raises no other one (default 0); suppressed
    /// starts are counted. A rule may have its own value.
    pub cooldown: u64,
    /// Offset of local time from UTC, minutes, positive to the east; for the hours of rules.
    pub utc_offset: i32,
    /// Decode only key frames while the access units show no motion.
    pub gating: bool,
    /// Percent of one core for decoding and detection at most.
    pub cpu: u8,
    /// Temperature of the board, degrees Celsius, above which only key frames are analysed.
    pub max_temperature: u8,
}

impl Default for MotionSettings {
    /// The defaults of docs/config.md.
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
    /// Name, as in events.
    pub name: String,
    /// Effect on motion inside.
    pub kind: ZoneKind,
    /// Three to 32 corners `[x, y]`, 0 to 1 of width and height, origin top left.
    pub polygon: Vec<[f32; 2]>,
}

/// Effect of a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZoneKind {
    /// Motion in it raises events.
    Include,
    /// Motion in it is ignored.
    Exclude,
    /// Motion in it is ignored, and snapshots show it black.
    Privacy,
}

/// Clips and snapshots of events.
#[derive(Debug, Clone, PartialEq)]
pub struct ClipSettings {
    /// Send clips of events.
    pub enabled: bool,
    /// Send a snapshot of each event's best picture.
    pub snapshot: bool,
    /// Microseconds of a clip before its event (default 5 s), extended to the key frame before.
    pub pre_roll: u64,
    /// Microseconds of a clip after its event (default 5 s).
    pub post_roll: u64,
    /// Microseconds of a requested clip (`clip-get`) at most (default 10 min).
    pub max_requested: u64,
}

/// Connection to the office's broker.
#[derive(Debug, Clone, PartialEq)]
pub struct UplinkSettings {
    /// Broker host name or address.
    pub host: String,
    /// Broker port.
    pub port: u16,
    /// TLS; `None` is plain TCP, which only a broker on this machine or `uplink.allow_plain`
    /// allows.
    pub tls: Option<TlsSettings>,
    /// User and password at the broker; `None` connects without a login.
    pub login: Option<Login>,
    /// MQTT version; `None` tries 5, then 3.1.1.
    pub protocol: Option<Protocol>,
    /// Keep-alive interval of MQTT, seconds (default 30).
    pub keep_alive: u16,
    /// Pending bytes in the outbox at most: events and whole files (default 1 GiB). A clip counts,
    /// although its footage lies in the ring only once. [`crate::outbox`] sheds entries beyond.
    pub outbox_bytes: u64,
    /// Bytes of one chunk of a file at most (default 64 KiB).
    pub chunk: u32,
    /// Seconds between health messages (default 60).
    pub health_every: u16,
    /// Bandwidth limits of files.
    pub pace: BandwidthSettings,
    /// Protocol of file transfers.
    pub files: FileProtocol,
    /// Third-party formats published beside the own one.
    pub integrations: Integrations,
    /// Brokers to try, in this order, when the first one is unreachable.
    pub fallbacks: Vec<Broker>,
}

impl UplinkSettings {
    /// All brokers in the order of attempts.
    pub fn brokers(&self) -> Vec<Broker> {
        let first = Broker {
            host: self.host.clone(),
            port: self.port,
            tls: self.tls.clone(),
            login: self.login.clone(),
        };
        std::iter::once(first).chain(self.fallbacks.iter().cloned()).collect()
    }

    /// These settings with other brokers; unchanged for an empty list.
    #[must_use]
    pub fn with_brokers(&self, brokers: &[Broker]) -> UplinkSettings {
        let Some((first, fallbacks)) = brokers.split_first() else {
            return self.clone();
        };
        let Broker { host, port, tls, login } = first.clone();
        UplinkSettings { host, port, tls, login, fallbacks: fallbacks.to_vec(), ..self.clone() }
    }
}

/// Address and credentials of a broker.
#[derive(Debug, Clone, PartialEq)]
pub struct Broker {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// TLS; `None` is plain TCP.
    pub tls: Option<TlsSettings>,
    /// User and password; `None` connects without a login.
    pub login: Option<Login>,
}

impl Broker {
    /// True when the login travels unencrypted over a network.
    pub fn shows_login(&self) -> bool {
        self.tls.is_none() && self.login.is_some() && !parse::is_local(&self.host)
    }

    /// Host and port: the identity of a broker, whatever its certificates are.
    pub fn address(&self) -> (String, u16) {
        (self.host.clone(), self.port)
    }
}

/// Keys of remote changes and commands, and the time of a trial.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteSettings {
    /// Enrolled keys. Without one, no remote change is possible, and only the commands of
    /// [`KeyScope::COMMANDS`] are executed.
    pub keys: Vec<TrustedKey>,
    /// Seconds of running time after which an unproven change is rolled back (default 600).
    pub trial: u64,
}

/// An enrolled Ed25519 key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedKey {
    /// Name, for messages.
    pub name: String,
    /// The public key.
    pub public: [u8; 32],
    /// Scope of valid signatures.
    pub scope: KeyScope,
}

/// Scope of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyScope {
    /// Configurations and all commands.
    All,
    /// The commands of [`KeyScope::COMMANDS`].
    Commands,
}

impl KeyScope {
    /// [`KeyScope::Commands`] as it stands in `remote.keys`.
    pub const WORD: &str = "commands";
    /// Commands that read, keep or send footage. They need no signature when no key is enrolled.
    pub const COMMANDS: [&str; 10] = [
        "ping",
        "snapshot",
        "clip-get",
        "clip-cancel",
        "event-get",
        "lock",
        "unlock",
        "locks",
        "ring-status",
        "log-tail",
    ];

    /// True when the scope includes the command.
    pub fn allows(self, command: &str) -> bool {
        self == KeyScope::All || KeyScope::COMMANDS.contains(&command)
    }

    /// The scope as it stands in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            KeyScope::All => "all",
            KeyScope::Commands => KeyScope::WORD,
        }
    }
}

impl TrustedKey {
    /// Id in signatures: the first 16 hexadecimal digits of the SHA-256 of the public key.
    pub fn id(&self) -> String {
        key_id(&self.public)
    }
}

/// Id of a public key: the first 16 hexadecimal digits of its SHA-256.
pub fn key_id(public: &[u8; 32]) -> String {
    crate::units::Digest::of(public).hex()[..16].to_owned()
}

/// Bandwidth limits of files; 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BandwidthSettings {
    /// Bytes of chunks per second.
    pub rate_cap: u64,
    /// Sent bytes of all kinds in a day (UTC) after which files wait for the next one.
    pub day_budget: u64,
    /// Sent bytes of all kinds in a month (UTC) after which files wait for the next one.
    pub month_budget: u64,
    /// Hours in which clips of events wait; requested clips do not. `None` is never.
    pub quiet: Option<QuietHours>,
}

/// Hours of every day, such as `22:00-05:30+07:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuietHours {
    /// Minute of the day (UTC).
    from: i64,
    to: i64,
}

impl QuietHours {
    /// Parses `HH:MM-HH:MM` followed by `+HH:MM`, `-HH:MM` or `Z`.
    pub fn parse(text: &str) -> Option<QuietHours> {
        let (hours, offset) = (text.get(..11)?, text.get(11..)?);
        let minutes = |text: &str| -> Option<i64> {
            let (hour, minute) = text.split_once(':')?;
            let two = |text: &str, most: i64| {
                text.parse::<i64>().ok().filter(|n| text.len() == 2 && (0..=most).contains(n))
            };
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

    /// True when `wall` lies within the hours.
    pub fn holds(&self, wall: crate::units::WallTime) -> bool {
        let minute = wall.0.div_euclid(60_000_000).rem_euclid(24 * 60);
        if self.from <= self.to {
            (self.from..self.to).contains(&minute)
        } else {
            minute >= self.from || minute < self.to
        }
    }
}

/// Protocol of file transfers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileProtocol {
    /// Topics `up/file/…` (docs/mqtt.md); the receiver resumes a transfer.
    Own,
    /// File transfer of EMQX: topics `$file-async/…`.
    Emqx,
}

/// Third-party formats of motion and health; all off by default.
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
    /// PEM file of the authorities for the broker's certificate.
    pub ca: PathBuf,
    /// PEM files of the certificate chain and key of this device; `None` sends no client
    /// certificate.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Version of MQTT.
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
