//! Health: what the modules counted, made into the birth and heartbeat messages.
//!
//! What belongs here: gathering and naming counters. What does not: counting (the modules), judging what is unhealthy (the office).

use std::collections::BTreeMap;

use crate::analytics::{AnalyticsCounts, SUPPRESS_REASONS};
use crate::camera::{CameraCounts, CameraFault, StreamRole};
use crate::storage::StorageCounts;
use crate::units::{Boot, MonoTime, RingId, Timestamp, WallTime};
use crate::uplink::UplinkCounts;
use crate::uplink::wire::{Backlog, Birth, Health, Watermarks};

/// What a stream of the camera does.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum CameraState {
    /// Nothing heard yet.
    #[default]
    Unknown,
    /// It plays.
    Up {
        /// What it carries, for people.
        tracks: String,
    },
    /// It does not.
    Down {
        /// Since when.
        since: Timestamp,
        /// Why.
        fault: CameraFault,
    },
}

/// Everything that is reported, as last heard.
#[derive(Debug, Default)]
pub struct Gauges {
    main: CameraState,
    sub: CameraState,
    /// There is a sub-stream.
    has_sub: bool,
    /// Of the main and the sub-stream.
    camera_counts: [CameraCounts; 2],
    /// Highest durable record.
    pub durable: u64,
    /// Oldest footage in the ring.
    pub oldest: Option<WallTime>,
    /// The last stop was in order.
    pub clean_start: bool,
    /// The detector cannot see.
    pub blind: bool,
    /// Where the detector's pictures come from.
    pub sight_source: String,
    /// Storage's counters.
    pub storage: StorageCounts,
    /// The analytics thread's counters.
    pub analytics: AnalyticsCounts,
    /// The uplink's counters.
    pub uplink: UplinkCounts,
    /// Motion events begun.
    pub motions: u64,
    /// Clips cut.
    pub clips: u64,
    /// Entries the office has receipted.
    pub receipted: u64,
    /// Failed tries to reach the camera.
    pub camera_tries: u64,
    /// Times the card misbehaved.
    pub storage_troubles: u64,
    /// Pins that lost footage to the quota.
    pub pins_lost: u64,
    /// Commands refused for want of a good signature; validly signed ones over their share.
    pub commands: (u64, u64),
    /// Entries refused for good and kept.
    pub dead_letters: u64,
}

/// Microseconds on the monotonic clock when a run begins (see [`crate::clock::SystemClock`]): uptime counts from there.
const RUN_BEGINS: MonoTime = MonoTime(1_000_000);

/// What this version can do, as the birth message says it.
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
    /// Nothing heard yet of a device with or without a sub-stream.
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

    /// Other streams are asked from now on.
    pub fn camera_changed(&mut self, has_sub: bool) {
        (self.main, self.sub, self.has_sub) = (CameraState::Unknown, CameraState::Unknown, has_sub);
    }

    /// The counters of one stream.
    pub fn camera_counts_mut(&mut self, role: StreamRole) -> &mut CameraCounts {
        &mut self.camera_counts[usize::from(role == StreamRole::Sub)]
    }

    /// A stream in one word; `up` is the word for one that plays.
    fn camera_state_name(state: &CameraState, up: &'static str) -> &'static str {
        match state {
            CameraState::Up { .. } => up,
            CameraState::Down { fault, .. } => fault.as_str(),
            CameraState::Unknown => "starting",
        }
    }

    /// A heartbeat.
    pub fn report(&self, now: Timestamp, ring: RingId, boot: Boot, watermarks: Watermarks, backlog: Backlog) -> Health {
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

    /// The birth message.
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
        }
    }

    fn counters(&self) -> BTreeMap<String, u64> {
        let (s, m, u) = (&self.storage, &self.analytics, &self.uplink);
        let [main, sub] = &self.camera_counts;
        let pairs = [
            ("camera.connect_failures", self.camera_tries),
            ("camera.lost_packets", main.lost_packets),
            ("camera.bad_packets", main.bad_packets),
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
            ("storage.amplification_permille", (s.written * 1000).checked_div(s.payload).unwrap_or(0)),
            ("storage.worn_percent", s.worn.into()),
            ("storage.days_left", s.days_left.into()),
            ("storage.memory_only", s.in_memory.into()),
            ("storage.scrubbed", s.scrubbed),
            ("storage.damaged", s.damaged),
            ("storage.faults", self.storage_troubles),
            ("storage.pins_lost", self.pins_lost),
            ("motion.decoded", m.decoded),
            ("motion.analysed", m.analysed),
            ("motion.dropped", m.dropped),
            ("motion.failed", m.failed),
            ("motion.skipped_budget", m.passed),
            ("motion.wakes", m.wakes),
            ("motion.blind", self.blind.into()),
            ("motion.events", self.motions),
            ("clip.made", self.clips),
            ("commands.refused", self.commands.0),
            ("commands.signed_dropped", self.commands.1),
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
        ];
        let reasons = SUPPRESS_REASONS.iter().zip(m.suppressed.0).map(|(why, count)| (format!("motion.suppressed.{why}"), count));
        let lines = m.lines.iter().flat_map(|line| {
            [("left", line.left), ("right", line.right)].map(|(way, count)| (format!("motion.line.{}.{way}", line.rule), count))
        });
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(reasons).chain(lines).collect()
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
        let now = Timestamp { mono: MonoTime(61_000_000), wall: WallTime(0), quality: ClockQuality::Unset };
        let health = gauges.report(now, RingId(1), Boot(2), Watermarks::default(), Backlog::default());
        assert_eq!((health.camera.as_str(), health.uptime), ("unauthorized", 60));
        assert_eq!(health.sub, None, "there is none");
    }

    #[test]
    fn a_failed_sub_stream_is_shown_beside_a_recording_main() {
        let mut gauges = Gauges::new(true);
        *gauges.camera_mut(StreamRole::Main) = CameraState::Up { tracks: "h264 1920x1080".into() };
        let word = |gauges: &Gauges| {
            let health =
                gauges.report(Timestamp::default(), RingId::default(), Boot(1), Watermarks::default(), Backlog::default());
            (health.camera, health.sub.unwrap_or_default())
        };
        assert_eq!(word(&gauges), ("recording".into(), "starting".into()));
        *gauges.camera_mut(StreamRole::Sub) = CameraState::Down { since: Timestamp::default(), fault: CameraFault::Stalled };
        gauges.camera_counts_mut(StreamRole::Main).lost_packets = 7;
        assert_eq!(word(&gauges), ("recording".into(), "stalled".into()));
        assert_eq!(gauges.counters()["camera.lost_packets"], 7);
    }
}
