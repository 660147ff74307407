//! Health gauges: gathers the counters of all modules into the birth and health messages.
//!
//! What belongs here: naming counters. What does not: counting (the modules), judging what is
//! unhealthy (the office).

use std::collections::BTreeMap;

use crate::analytics::{AnalyticsCounts, SUPPRESS_REASONS};
use crate::camera::{CameraCounts, CameraFault, StreamRole};
use crate::settings::{Settings, ZoneKind};
use crate::storage::StorageCounts;
use crate::units::{Boot, MonoTime, RingId, Timestamp, WallTime};
use crate::uplink::UplinkCounts;
use crate::uplink::wire::{Backlog, Birth, Health, Watermarks};

impl Birth {
    /// With what the office must know of the settings.
    pub fn with_settings(self, settings: &Settings) -> Birth {
        let zones = settings.motion.zones.iter();
        let privacy_zones = zones.filter(|zone| zone.kind == ZoneKind::Privacy).count() as u32;
        let (uplink, pace) = (&settings.uplink, settings.uplink.pace);
        Birth {
            privacy_zones: Some(privacy_zones),
            health_every: Some(uplink.health_every.into()),
            day_budget: Some(pace.day_budget),
            month_budget: Some(pace.month_budget),
            ..self
        }
    }
}

/// State of one camera stream.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum CameraState {
    /// No report yet.
    #[default]
    Unknown,
    /// It plays.
    Up {
        /// Codecs and sizes of its tracks, as text.
        tracks: String,
    },
    /// It does not play.
    Down {
        /// Start of the outage.
        since: Timestamp,
        /// Kind of the fault.
        fault: CameraFault,
    },
}

/// The last reported state and counters of all modules.
#[derive(Debug, Default)]
pub struct Gauges {
    main: CameraState,
    sub: CameraState,
    /// The camera has a sub-stream.
    has_sub: bool,
    /// Counters of the main and the sub-stream.
    camera_counts: [CameraCounts; 2],
    /// Number of the newest durable record.
    pub durable: u64,
    /// Wall time of the oldest footage in the ring; `None` while the ring is empty.
    pub oldest: Option<WallTime>,
    /// The previous boot ended with an ordered shutdown.
    pub clean_start: bool,
    /// The detector gets no usable pictures.
    pub blind: bool,
    /// The camera changes its parameter sets again and again.
    pub unstable: bool,
    /// Stream that the detector analyses.
    pub analytics_source: String,
    /// Storage's counters.
    pub storage: StorageCounts,
    /// The analytics thread's counters.
    pub analytics: AnalyticsCounts,
    /// The uplink's counters.
    pub uplink: UplinkCounts,
    /// Motion events started.
    pub motions: u64,
    /// Clips cut.
    pub clips: u64,
    /// Entries the office has receipted.
    pub receipted: u64,
    /// Failed attempts to connect to the camera.
    pub camera_tries: u64,
    /// Storage faults.
    pub storage_faults: u64,
    /// Pins that lost footage to the quota.
    pub pins_lost: u64,
    /// Rejected commands.
    pub commands: RejectedCommands,
    /// Entries rejected permanently and kept on the card.
    pub dead_letters: u64,
}

/// Commands rejected since boot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RejectedCommands {
    /// Rejected for a missing or invalid signature.
    pub unauthorized: u64,
    /// Correctly signed, but rejected because a rate limit was reached.
    pub throttled: u64,
}

/// Monotonic time at the start of the process (see [`crate::clock::SystemClock`]); uptime counts
/// from it.
/// from it.
const RUN_BEGINS: MonoTime = MonoTime(1_000_000);

/// Capabilities of this version in the birth message.
const CAPABILITIES: [&str; 13] = [
    "ring",
    "motion",
    "clips",
    "clip-get",
    "clip-cancel",
    "snapshot",
    "event-get",
    "lock",
    "ring-status",
    "log-tail",
    "restart",
    "ping",
    "config",
];

impl Gauges {
    /// Gauges of a device with or without a sub-stream.
    pub fn new(has_sub: bool) -> Gauges {
        Gauges { has_sub, ..Gauges::default() }
    }

    /// The state of one stream.
    pub fn camera_mut(&mut self, role: StreamRole) -> &mut CameraState {
        match role {
            StreamRole::Main => &mut self.main,
            StreamRole::Sub => &mut self.sub,
        }
    }

    /// The fault of the sub-stream, while the camera has one that does not play.
    pub fn sub_fault(&self) -> Option<CameraFault> {
        match self.sub {
            CameraState::Down { fault, .. } if self.has_sub => Some(fault),
            _ => None,
        }
    }

    /// Resets the stream states after a change of the camera settings.
    pub fn camera_changed(&mut self, has_sub: bool) {
        self.main = CameraState::Unknown;
        self.sub = CameraState::Unknown;
        self.has_sub = has_sub;
    }

    /// The counters of one stream.
    pub fn camera_counts_mut(&mut self, role: StreamRole) -> &mut CameraCounts {
        &mut self.camera_counts[usize::from(role == StreamRole::Sub)]
    }

    /// The state of a stream as one word; `up` is the word for a playing one.
    fn camera_state_name(state: &CameraState, up: &'static str) -> &'static str {
        match state {
            CameraState::Up { .. } => up,
            CameraState::Down { fault, .. } => fault.as_str(),
            CameraState::Unknown => "starting",
        }
    }

    /// The health message.
    pub fn report(
        &self,
        now: Timestamp,
        ring: RingId,
        boot: Boot,
        watermarks: Watermarks,
        backlog: Backlog,
    ) -> Health {
        Health {
            v: 1,
            t: now.wall.rfc3339(),
            clock: now.quality,
            ring,
            boot: boot.0,
            uptime: now.mono.since(RUN_BEGINS) / 1_000_000,
            camera: Gauges::camera_state_name(&self.main, "recording").into(),
            sub: self.has_sub.then(|| Gauges::camera_state_name(&self.sub, "playing").into()),
            watermarks,
            backlog,
            counters: self.counters(),
        }
    }

    /// The birth message, without what only the settings know ([`Birth::with_settings`]).
    pub fn birth(&self, now: Timestamp, ring: RingId, boot: Boot, ring_bytes: u64) -> Birth {
        let camera = match &self.main {
            CameraState::Up { tracks } => tracks.clone(),
            CameraState::Unknown | CameraState::Down { .. } => String::new(),
        };
        Birth {
            v: 1,
            version: crate::VERSION.into(),
            ring,
            boot: boot.0,
            capabilities: CAPABILITIES.map(String::from).to_vec(),
            camera,
            ring_bytes,
            oldest: self.oldest.map(WallTime::rfc3339),
            clock: now.quality,
            clean_start: self.clean_start,
            privacy_zones: None,
            health_every: None,
            day_budget: None,
            month_budget: None,
        }
    }

    fn counters(&self) -> BTreeMap<String, u64> {
        let a = &self.analytics;
        let reasons = SUPPRESS_REASONS
            .iter()
            .zip(a.suppressed.0)
            .map(|(why, count)| (format!("motion.suppressed.{why}"), count));
        let lines = a.lines.iter().flat_map(|line| {
            [("left", line.left), ("right", line.right)]
                .map(|(side, count)| (format!("motion.line.{}.{side}", line.rule), count))
        });
        self.recording_counters()
            .into_iter()
            .chain(self.motion_counters())
            .chain(self.uplink_counters())
            .map(|(name, value)| (name.to_owned(), value))
            .chain(reasons)
            .chain(lines)
            .collect()
    }

    fn recording_counters(&self) -> [(&'static str, u64); 28] {
        let (s, [main, sub]) = (&self.storage, &self.camera_counts);
        [
            ("camera.connect_failures", self.camera_tries),
            ("camera.unstable", self.unstable.into()),
            ("camera.lost_packets", main.lost_packets),
            ("camera.bad_packets", main.bad_packets),
            ("camera.sound_dropped", main.sound.dropped),
            ("camera.sound_padded", main.sound.padded),
            ("camera.sub_lost_packets", sub.lost_packets),
            ("camera.sub_bad_packets", sub.bad_packets),
            ("storage.payload", s.payload),
            ("storage.written", s.written),
            ("storage.syncs", s.syncs),
            ("storage.frames", s.frames),
            ("storage.skipped", s.skipped),
            ("storage.used", s.used),
            ("storage.budget", s.budget),
            ("storage.short", s.short),
            ("storage.pinned", s.pinned),
            ("storage.slowest_sync_us", s.slowest_sync),
            ("storage.available", s.available),
            ("storage.lifetime", s.lifetime),
            (
                "storage.amplification_permille",
                (s.written * 1000).checked_div(s.payload).unwrap_or(0),
            ),
            ("storage.worn_percent", s.worn.into()),
            ("storage.days_left", s.days_left.into()),
            ("storage.memory_only", s.in_memory.into()),
            ("storage.scrubbed", s.scrubbed),
            ("storage.damaged", s.damaged),
            ("storage.faults", self.storage_faults),
            ("storage.pins_lost", self.pins_lost),
        ]
    }

    fn motion_counters(&self) -> [(&'static str, u64); 9] {
        let a = &self.analytics;
        [
            ("motion.decoded", a.decoded),
            ("motion.analysed", a.analysed),
            ("motion.dropped", a.dropped),
            ("motion.failed", a.failed),
            ("motion.skipped_budget", a.skipped_budget),
            ("motion.wakes", a.wakes),
            ("motion.blind", self.blind.into()),
            ("motion.events", self.motions),
            ("clip.made", self.clips),
        ]
    }

    fn uplink_counters(&self) -> [(&'static str, u64); 18] {
        let u = &self.uplink;
        [
            ("commands.refused", self.commands.unauthorized),
            ("commands.signed_dropped", self.commands.throttled),
            ("commands.unsigned_dropped", u.unsigned_dropped),
            ("commands.unverified_dropped", u.unverified_dropped),
            ("uplink.answers_dropped", u.answers_dropped),
            ("uplink.other_dropped", u.other_dropped),
            ("uplink.connects", u.connects),
            ("uplink.acked", u.acked),
            ("uplink.receipts", self.receipted),
            ("uplink.bytes", u.bytes),
            ("uplink.resent", u.resent),
            ("uplink.refused", u.refused),
            ("uplink.dead_letters", self.dead_letters),
            ("uplink.file_retries", u.file_retries),
            ("uplink.rate", u.rate),
            ("uplink.bytes_today", u.spent.today),
            ("uplink.bytes_month", u.spent.month),
            ("uplink.certificate_end", u.certificate_end),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::ClockQuality;

    #[test]
    fn a_camera_that_is_down_names_its_fault_in_every_heartbeat() {
        let mut gauges = Gauges::default();
        *gauges.camera_mut(StreamRole::Main) =
            CameraState::Down { since: Timestamp::default(), fault: CameraFault::Unauthorized };
        let now = Timestamp {
            mono: MonoTime(61_000_000),
            wall: WallTime(0),
            quality: ClockQuality::Unset,
        };
        let health =
            gauges.report(now, RingId(1), Boot(2), Watermarks::default(), Backlog::default());
        assert_eq!((health.camera.as_str(), health.uptime), ("unauthorized", 60));
        assert_eq!(health.sub, None, "the camera has no sub-stream");
    }

    #[test]
    fn a_failed_sub_stream_is_shown_beside_a_recording_main() {
        let mut gauges = Gauges::new(true);
        *gauges.camera_mut(StreamRole::Main) = CameraState::Up { tracks: "h264 1920x1080".into() };
        let states = |gauges: &Gauges| {
            let health = gauges.report(
                Timestamp::default(),
                RingId::default(),
                Boot(1),
                Watermarks::default(),
                Backlog::default(),
            );
            (health.camera, health.sub.unwrap_or_default())
        };
        assert_eq!(states(&gauges), ("recording".into(), "starting".into()));
        *gauges.camera_mut(StreamRole::Sub) =
            CameraState::Down { since: Timestamp::default(), fault: CameraFault::Stalled };
        gauges.camera_counts_mut(StreamRole::Main).lost_packets = 7;
        assert_eq!(states(&gauges), ("recording".into(), "stalled".into()));
        assert_eq!(gauges.sub_fault(), Some(CameraFault::Stalled));
        assert_eq!(gauges.counters()["camera.lost_packets"], 7);
    }
}
