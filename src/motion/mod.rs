//! The motion room: looks at decoded pictures and says when something moved through the scene.
//!
//! * [`limits`]: every threshold, with unit and reason. [`luma`]: pictures in the size they are judged in.
//! * [`gate`] and [`tamper`]: changes of the whole scene. [`steady`]: shake and slow light taken out.
//! * [`model`]: what the empty scene looks like. [`blobs`]: what differs from it, and is a thing. [`churn`]: how restless a region
//!   is. [`track`]: things over time.
//! * [`rules`]: zones, lines and what must happen there. [`story`]: an event's life. [`detector`]: all of it, from picture to news;
//!   [`stages`] are its parts by name.
//! * [`decode`]: access units → pictures, as far as their [`numbers`] follow. [`eye`]: which are decoded and looked at, by their
//!   [`sizes`] and the [`strain`] of the board. [`still`]: the JPEG. [`glance`]: pictures somebody asked for.
//!   [`sight`] ⇄: the thread.
//!
//! What belongs here: decoding for analysis, the background model, blobs, tracks, rules. What does not: event numbers,
//! clips, publishing (the agent's).

pub mod blobs;
pub mod churn;
pub mod decode;
pub mod detector;
pub mod eye;
pub mod faint;
pub mod gate;
pub mod glance;
pub mod holes;
pub mod limits;
pub mod luma;
pub mod model;
pub mod numbers;
pub mod rules;
pub mod sight;
pub mod sizes;
pub mod stages;
pub mod steady;
pub mod still;
pub mod story;
pub mod strain;
pub mod tamper;
pub mod track;

use self::rules::LineCount;
use crate::settings::rules::Priority;
use crate::units::Stamp;

/// A box in the picture: x, y of the top left corner, width, height, all in 0..=1.
pub type PictureBox = [f32; 4];

/// What the sight thread tells the agent.
#[derive(Debug, Clone, PartialEq)]
pub enum SightNews {
    /// An event of a zone began, changed or ended.
    Motion(Motion),
    /// The best picture of an event so far is final: a JPEG with privacy zones blacked out.
    Still {
        /// The event it belongs to.
        motion: u64,
        /// When the picture was taken.
        at: Stamp,
        /// JPEG file bytes.
        jpeg: Vec<u8>,
    },
    /// A picture somebody asked for, or why there is none.
    Glance {
        /// The command that asked.
        req_id: String,
        /// When it was taken, and JPEG file bytes.
        outcome: Result<(Stamp, Vec<u8>), String>,
    },
    /// The scene as a whole changed; open events are kept alive, none begins.
    Scene {
        /// What happened.
        change: SceneChange,
        /// When.
        at: Stamp,
    },
    /// The detector cannot see: everything keeps being recorded, the office is told.
    Blind {
        /// Since when.
        since: Stamp,
        /// Why, as a sentence for people.
        reason: String,
    },
    /// It sees again.
    Seeing {
        /// Since when.
        at: Stamp,
        /// Where the pictures come from: `sub`, `main` or `key-frames`.
        source: String,
    },
    /// Counters since the last report, about once a minute.
    Counts(Box<SightCounts>),
}

/// One change of one event of one zone set.
#[derive(Debug, Clone, PartialEq)]
pub struct Motion {
    /// Number of the event, unique within this start of the agent.
    pub motion: u64,
    /// Began, changed or ended.
    pub phase: MotionPhase,
    /// When the picture that decided this was taken.
    pub at: Stamp,
    /// When the motion itself began (the track's first hit, before it was confirmed).
    pub began: Stamp,
    /// The rule that made it an event, by name.
    pub rule: String,
    /// The rule wants a clip of it.
    pub clip: bool,
    /// How urgent the rule calls it.
    pub priority: Priority,
    /// Zones it touches, by name.
    pub zones: Vec<String>,
    /// Direction of travel: degrees clockwise from "up" in the picture (0 up, 90 right), once there is one.
    pub direction: Option<f32>,
    /// Where it is now.
    pub place: PictureBox,
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
impl Motion {
    /// A thing that goes right, for tests and simulated worlds.
    pub fn drawn(motion: u64, phase: MotionPhase, at: Stamp) -> Motion {
        Motion {
            motion,
            phase,
            at,
            began: at,
            rule: "motion".into(),
            clip: true,
            priority: Priority::Normal,
            zones: vec!["all".into()],
            direction: Some(90.0),
            place: [0.1, 0.2, 0.3, 0.4],
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
    pub fn word(self) -> &'static str {
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

/// Counters of the sight thread.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SightCounts {
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
pub enum Why {
    /// Light on an unchanged surface.
    Glow,
    /// A surface in another light.
    Relit,
    /// No more than its region does all day.
    Churn,
    /// As large as weather.
    Weather,
    /// The whole scene was changing.
    Hold,
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

/// Words of [`Why`], in its order.
pub const WHYS: [&str; 10] = ["local_light", "light_change", "background_activity", "weather", "scene_change", "size", "speed", "heading", "hours", "cooldown"];

/// How often each [`Why`] was the reason: the first five count regions in pictures, the others things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Suppressed(pub [u64; WHYS.len()]);

impl Suppressed {
    /// Counts one.
    pub fn count(&mut self, why: Why) {
        self.0[why as usize] += 1;
    }
}
