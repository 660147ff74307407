//! What sessions with the quirky camera simulate, and what came of them.

use super::quirky_camera::footage::Footage;
use super::quirky_camera::quirks::CameraQuirk;
use crate::camera::Failure;
use crate::camera::quirk::QuirkCounts;
use crate::units::MonoTime;

/// A deliberate fault of the driver, which the verdict must notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// A picture is dropped without a word.
    DropPicture,
    /// A byte of a picture is flipped.
    FlipByte,
    /// A sound frame is dropped without a word.
    DropSound,
    /// A picture is recorded twice.
    Twice,
    /// Pictures are dated 3 s late.
    Date,
    /// Each packet writes a line of log.
    Chatter,
}

/// What is simulated.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) quirks: Vec<CameraQuirk>,
    pub(crate) footage: Footage,
    pub(crate) seconds: u64,
    pub(crate) sabotage: Option<Sabotage>,
}

impl Plan {
    pub(crate) fn has(&self, quirk: CameraQuirk) -> bool {
        self.quirks.contains(&quirk)
    }
}

/// A recorded unit before it has a time.
#[derive(Debug, Clone)]
pub(crate) struct Unit {
    /// Session of the camera.
    pub(crate) session: u32,
    pub(crate) data: Vec<u8>,
    pub(crate) lost: u32,
}

/// A recorded frame with its times.
#[derive(Debug, Clone)]
pub(crate) struct Dated {
    pub(crate) data: Vec<u8>,
    pub(crate) at: MonoTime,
    pub(crate) pts: i64,
    pub(crate) run: u32,
    pub(crate) timescale: u32,
}

/// What came of a plan.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// Video and sound units as the receivers gave them.
    pub(crate) units: [Vec<Unit>; 2],
    /// The same with their times.
    pub(crate) frames: [Vec<Dated>; 2],
    /// Why sessions and tries ended.
    pub(crate) ends: Vec<(MonoTime, Failure)>,
    /// Start, and end if it ended, of each session that played.
    pub(crate) played: Vec<(MonoTime, Option<MonoTime>)>,
    /// Outages: reported, and ended by another report.
    pub(crate) downs: u32,
    pub(crate) ups: u32,
    /// Times of lines of log.
    pub(crate) lines: Vec<MonoTime>,
    pub(crate) quirks: QuirkCounts,
    pub(crate) bad_packets: u32,
    pub(crate) without_sound: Option<String>,
    pub(crate) sound_dropped: u64,
    pub(crate) ended_at: MonoTime,
}
