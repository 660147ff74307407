//! Analytics: finds moving objects and scene changes in decoded pictures and reports them as updates.
//!
//! * [`decode`]: which access units are decoded and analysed, by what, and at which cost.
//! * [`detect`]: pictures in the size they are analysed in, the background model, regions that differ from it.
//! * [`scene`]: changes of light, shake, tampering.
//! * [`track`]: objects over time, zones and rules, the life of an event, its snapshot.
//! * [`detector`]: all of it, from picture to update. [`params`]: every threshold with its unit and reason.
//! * [`thread`]: the thread around it, an I/O module.
//!
//! What belongs here: decoding for analysis, the background model, regions, tracks, rules. What does not: event numbers,
//! clips, publishing (the agent's).

pub mod decode;
pub mod detect;
pub mod scene;
pub mod track;
pub mod detector;
pub mod params;
pub mod thread;

use self::track::rules::LineCount;
use crate::settings::rules::RulePriority;
use crate::units::Timestamp;

/// A box in the picture: x, y of the top left corner, width, height, all in 0..=1.
pub type PictureBox = [f32; 4];

/// What the analytics thread tells the agent.
#[derive(Debug, Clone, PartialEq)]
pub enum AnalyticsUpdate {
    /// An event of a zone began, changed or ended.
    Motion(MotionUpdate),
    /// The best picture of an event so far is final: a JPEG with privacy zones blacked out.
    Still {
        /// The event it belongs to.
        motion: u64,
        /// When the picture was taken.
        at: Timestamp,
        /// JPEG file bytes.
        jpeg: Vec<u8>,
    },
    /// A picture somebody asked for, or why there is none.
    Glance {
        /// The command that asked.
        req_id: String,
        /// When it was taken, and JPEG file bytes.
        outcome: Result<(Timestamp, Vec<u8>), String>,
    },
    /// The scene as a whole changed; open events are kept alive, none begins.
    Scene {
        /// What happened.
        change: SceneChange,
        /// When.
        at: Timestamp,
    },
    /// The detector cannot see: everything keeps being recorded, the office is reported.
    Blind {
        /// Since when.
        since: Timestamp,
        /// Why, as a sentence for people.
        reason: String,
    },
    /// It sees again.
    Seeing {
        /// Since when.
        at: Timestamp,
        /// Where the pictures come from: `sub`, `main` or `key-frames`.
        source: String,
    },
    /// Counters since the last report, about once a minute.
    Counts(Box<AnalyticsCounts>),
}

/// One change of one event of one zone set.
#[derive(Debug, Clone, PartialEq)]
pub struct MotionUpdate {
    /// Number of the event, unique within this start of the agent.
    pub event_no: u64,
    /// Began, changed or ended.
    pub phase: MotionPhase,
    /// When the picture that decided this was taken.
    pub at: Timestamp,
    /// When the motion itself began (the track's first hit, before it was confirmed).
    pub started_at: Timestamp,
    /// The rule that made it an event, by name.
    pub rule: String,
    /// The rule wants a clip of it.
    pub clip: bool,
    /// How urgent the rule calls it.
    pub priority: RulePriority,
    /// Zones it touches, by name.
    pub zones: Vec<String>,
    /// Direction of travel: degrees clockwise from "up" in the picture (0 up, 90 right), once there is one.
    pub direction: Option<f32>,
    /// Where it is now.
    pub bbox: PictureBox,
    /// Peak score 0..=1: how sure.
    pub score: f32,
    /// Confirmed tracks seen in this event.
    pub tracks: u32,
    /// Starts suppressed by the cooldown since the last event.
    pub suppressed: u32,
    /// The event this one continues, when the longest duration cut it.
    pub continued_from: Option<u64>,
}

#[cfg(any(test, feature = "sim"))]
impl MotionUpdate {
    /// An object that goes right, for tests and simulated worlds.
    pub fn drawn(motion: u64, phase: MotionPhase, at: Timestamp) -> MotionUpdate {
        MotionUpdate {
            event_no: motion,
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

/// Phase of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MotionPhase {
    /// A confirmed track satisfied a rule.
    Start,
    /// At most one a second, only on change.
    Update,
    /// Quiet long enough, or cut at the longest duration.
    End,
}

/// Changes of the scene as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SceneChange {
    /// The light or the camera's exposure jumped.
    Exposure,
    /// The camera went to night mode (colour vanished).
    IrOn,
    /// Back to day mode.
    IrOff,
    /// The camera looks elsewhere.
    Moved,
    /// Something covers the lens.
    Covered,
    /// The picture lost its edges.
    Blurred,
    /// Nothing but black.
    Black,
    /// What was covered, blurred or black is as it was before.
    Clear,
    /// The picture does not change at all, not even in its noise.
    Frozen,
}

impl SceneChange {
    /// The word used in payloads.
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

/// Counters of the analytics thread.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AnalyticsCounts {
    /// Pictures decoded.
    pub decoded: u64,
    /// Pictures analysed.
    pub analysed: u64,
    /// Access units dropped because decoding fell behind.
    pub dropped: u64,
    /// Access units the decoder refused.
    pub failed: u64,
    /// Pictures not looked at because the budget of time or heat was spent.
    pub passed: u64,
    /// Wakenings from key frames only.
    pub wakes: u64,
    /// What was seen and made no event, by reason.
    pub suppressed: Suppressed,
    /// What crossed the lines.
    pub lines: Vec<LineCount>,
}

/// Why something that was seen made no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SuppressReason {
    /// Light on an unchanged surface.
    LocalLight,
    /// A surface in another light.
    LightChange,
    /// No more than its region does all day.
    BackgroundActivity,
    /// As large as weather.
    Weather,
    /// The whole scene was changing.
    SceneChange,
    /// Too small for its rule.
    Size,
    /// Too slow or too fast for it.
    Speed,
    /// In another direction.
    Heading,
    /// Outside its hours.
    Hours,
    /// Within its cooldown.
    Cooldown,
}

/// Words of [`SuppressReason`], in its order.
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

/// How often each [`SuppressReason`] was the reason: the first five count regions in pictures, the others objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Suppressed(pub [u64; SUPPRESS_REASONS.len()]);

impl Suppressed {
    /// Counts one.
    pub fn count(&mut self, why: SuppressReason) {
        self.0[why as usize] += 1;
    }
}
