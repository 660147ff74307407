//! The motion room: looks at decoded pictures and says when something moved through the scene.
//!
//! * [`limits`]: every threshold, with unit and reason. [`luma`]: pictures in the size they are judged in.
//! * [`gate`]: changes of the whole scene. [`model`]: what the empty scene looks like. [`blobs`]: what differs from it, and is a
//!   thing. [`track`]: things over time. [`rules`]: zones. [`detector`]: all of it, from picture to news.
//! * [`decode`]: access units → pictures. [`still`]: the JPEG. [`sight`] ⇄: the thread.
//!
//! What belongs here: decoding for analysis, the background model, blobs, tracks, rules. What does not: event numbers,
//! clips, publishing (the agent's).

pub mod blobs;
pub mod decode;
pub mod detector;
pub mod gate;
pub mod limits;
pub mod luma;
pub mod model;
pub mod rules;
pub mod sight;
pub mod still;
pub mod track;

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
    Counts(SightCounts),
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
            SceneChange::Frozen => "frozen",
        }
    }
}

/// Counters of the sight thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SightCounts {
    /// Pictures decoded.
    pub decoded: u64,
    /// Pictures analysed.
    pub analysed: u64,
    /// Access units dropped because decoding fell behind.
    pub dropped: u64,
    /// Access units the decoder refused.
    pub failed: u64,
}
