//! Analytics: finds moving objects and scene changes in decoded pictures and reports them as
//! updates.
//!
//! * [`decode`]: selects access units, decodes them and limits the cost.
//! * [`detect`]: scales pictures, keeps the background model, finds regions that differ from it.
//! * [`scene`]: detects changes of light, shake and tampering.
//! * [`track`]: tracks objects, applies zones and rules, opens and ends events, takes snapshots.
//! * [`detector`]: runs these steps, from a picture to updates. [`scene_model`]: what it has learned
//!   of the scene.
//! * [`params`]: holds the thresholds, each with its unit and reason.
//! * [`thread`]: the I/O module, a thread that feeds access units to the analyzer.
//!
//! What belongs here: decoding for analysis, the background model, regions, tracks, rules. What
//! does not: event numbers on the wire, clips, publishing (the agent's).

pub mod decode;
pub mod detect;
pub(crate) mod scene;
pub(crate) mod track;
pub(crate) mod detector;
pub(crate) mod scene_model;
pub(crate) mod params;
pub(crate) mod thread;

use self::track::rules::LineCount;
use crate::settings::rules::RulePriority;
use crate::units::Timestamp;

/// A bounding box as shares of the picture, 0..=1: x and y of its top left corner, width, height.
pub type PictureBox = [f32; 4];

/// An update from the analytics thread to the agent.
#[derive(Debug, Clone, PartialEq)]
pub enum AnalyticsUpdate {
    /// An event started, changed or ended.
    Motion(MotionUpdate),
    /// The snapshot of an event is final: a JPEG with privacy zones blacked out.
    Snapshot {
        /// Number of the event, [`MotionUpdate::event_no`].
        event_no: u64,
        /// Capture time of the picture.
        at: Timestamp,
        /// JPEG file bytes.
        jpeg: Vec<u8>,
    },
    /// The answer to a requested snapshot.
    RequestedSnapshot {
        /// Id of the command that requested it.
        req_id: String,
        /// Capture time and JPEG file bytes, or the reason why there is no picture.
        outcome: Result<(Timestamp, Vec<u8>), String>,
    },
    /// The whole scene changed. Open events continue; no event starts.
    Scene {
        /// The kind of change.
        change: SceneChange,
        /// Capture time of the picture that showed it.
        at: Timestamp,
    },
    /// No pictures can be analysed. Recording continues; the agent reports it to the office.
    Unavailable {
        /// Time of the last decoded picture, or of the start of the wait for the first one.
        since: Timestamp,
        /// The cause, as a sentence for operators.
        reason: String,
    },
    /// Pictures are analysed, first after a start or after [`AnalyticsUpdate::Unavailable`], or
    /// from another source.
    Available {
        /// Capture time of the last decoded picture.
        at: Timestamp,
        /// The source of the pictures: `sub`, `main` or `key-frames`.
        source: String,
    },
    /// Counters since the start of the thread, sent every 30 s.
    Counts(Box<AnalyticsCounts>),
}

/// One change of one event of one rule.
#[derive(Debug, Clone, PartialEq)]
pub struct MotionUpdate {
    /// Number of the event, unique within one boot of the agent.
    pub event_no: u64,
    /// Whether the event started, changed or ended.
    pub phase: MotionPhase,
    /// Capture time of the picture that caused this update.
    pub at: Timestamp,
    /// Time of the first detection of the object, before it was confirmed.
    pub started_at: Timestamp,
    /// Name of the rule that fired.
    pub rule: String,
    /// True when the rule requests a clip.
    pub clip: bool,
    /// Priority that the rule assigns.
    pub priority: RulePriority,
    /// Names of the zones that the object has touched.
    pub zones: Vec<String>,
    /// Direction of travel: degrees clockwise from "up" in the picture (0 up, 90 right). `None`
    /// while the object has not travelled far enough.
    pub direction: Option<f32>,
    /// Latest bounding box of the object.
    pub bbox: PictureBox,
    /// Highest score of the event so far, 0..=1.
    pub score: f32,
    /// Number of confirmed tracks in this event.
    pub tracks: u32,
    /// Starts that the cooldown has suppressed since the last event of the rule.
    pub suppressed: u32,
    /// Number of the event that this one continues, when that one reached the longest duration.
    pub continued_from: Option<u64>,
}

#[cfg(any(test, feature = "sim"))]
impl MotionUpdate {
    /// An object that moves to the right, for tests and simulated worlds.
    pub fn example(event_no: u64, phase: MotionPhase, at: Timestamp) -> MotionUpdate {
        MotionUpdate {
            event_no,
            phase,
            at,
            started_at: at,
            rule: "motion".into(),
            clip: true,
            priority: RulePriority::Normal,
            zones: vec!["all".into()],
            direction: Some(90.0),
            bbox: [0.1, 0.2, 0.3, 0.4],
            score: 0.5,
            tracks: 1,
            suppressed: 0,
            continued_from: None,
        }
    }
}

/// The phase of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MotionPhase {
    /// The rule fired for a confirmed track.
    Start,
    /// Zones, direction or tracks changed; sent at most once a second.
    Update,
    /// No object of the event moved for the quiet time, or the event reached its longest duration.
    End,
}

/// Changes of the scene as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SceneChange {
    /// The light or the camera's exposure changed in one step.
    Exposure,
    /// The camera switched to night mode: the colour vanished.
    IrOn,
    /// The camera switched back to day mode.
    IrOff,
    /// The camera shows another view.
    Moved,
    /// Something covers the lens.
    Covered,
    /// The lens is out of focus: the edges of the picture are gone.
    Blurred,
    /// The picture is black.
    Black,
    /// The picture is normal again after [`SceneChange::Covered`], [`SceneChange::Blurred`] or
    /// [`SceneChange::Black`].
    Clear,
    /// The picture does not change at all, not even its noise.
    Frozen,
}

impl SceneChange {
    /// The name in payloads.
    pub fn as_str(self) -> &'static str {
        match self {
            SceneChange::Exposure => "exposure",
            SceneChange::IrOn => "ir_on",
            SceneChange::IrOff => "ir_off",
            SceneChange::Moved => "moved",
            SceneChange::Covered => "covered",
            SceneChange::Blurred => "blurred",
            SceneChange::Black => "black",
            SceneChange::Clear => "clear",
            SceneChange::Frozen => "frozen",
        }
    }
}

/// Counters of the analytics thread since its start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AnalyticsCounts {
    /// Pictures decoded.
    pub decoded: u64,
    /// Pictures analysed.
    pub analysed: u64,
    /// Access units dropped because decoding fell behind.
    pub dropped: u64,
    /// Access units that the decoder rejected.
    pub failed: u64,
    /// Pictures and access units that the CPU or temperature limit left out.
    pub skipped_budget: u64,
    /// Times that the analyzer left the key-frames-only mode because something happened.
    pub wakes: u64,
    /// Regions and objects that started no event, by reason.
    pub suppressed: Suppressed,
    /// Objects that crossed each line.
    pub lines: Vec<LineCount>,
}

/// Why a region or an object started no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SuppressReason {
    /// Light on an unchanged surface.
    LocalLight,
    /// A surface in another light.
    LightChange,
    /// The region does not exceed the usual activity of its place.
    BackgroundActivity,
    /// The region covers more than half of the picture, as rain or fog does.
    Weather,
    /// The lens is covered or out of focus, or the picture is black.
    SceneChange,
    /// The object is smaller than its rule requires.
    Size,
    /// The object is slower or faster than its rule requires.
    Speed,
    /// The object moves in another direction than its rule requires.
    Heading,
    /// The time is outside the hours of the rule.
    Hours,
    /// The cooldown of the rule has not passed.
    Cooldown,
}

/// Names of [`SuppressReason`] in counters, in its order.
pub const SUPPRESS_REASONS: [&str; 10] = [
    "local_light",
    "light_change",
    "background_activity",
    "weather",
    "scene_change",
    "size",
    "speed",
    "heading",
    "hours",
    "cooldown",
];

/// Count of each [`SuppressReason`]: the first five count regions in pictures, the others objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Suppressed(pub [u64; SUPPRESS_REASONS.len()]);

impl Suppressed {
    /// Counts one region or object.
    pub fn count(&mut self, why: SuppressReason) {
        self.0[why as usize] += 1;
    }
}
