//! Pictures somebody asked for: the next one that is decoded, as a JPEG with privacy zones blacked out.
//!
//! What belongs here: who waits for a picture, and for how long. What does not: which pictures are decoded (`scheduler`), who may
//! ask (the agent).

use super::snapshot;
use crate::analytics::AnalyticsUpdate;
use crate::analytics::detect::picture::Picture;
use crate::analytics::params::GLANCE_WITHIN;
use crate::settings::Zone;
use crate::units::{MonoTime, Timestamp};

/// Who waits for a picture. The agent bounds how many.
#[derive(Default)]
pub struct SnapshotRequests {
    /// The command that asks, and when it has waited long enough.
    asked: Vec<(String, MonoTime)>,
    /// Answers not yet taken.
    answers: Vec<AnalyticsUpdate>,
}

impl SnapshotRequests {
    /// Somebody wants a picture.
    pub fn request(&mut self, req_id: String, now: MonoTime) {
        self.asked.push((req_id, now.plus_micros(GLANCE_WITHIN)));
    }

    /// True while somebody waits.
    pub fn is_asked(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Everybody who waits gets this picture, of at most `most` bytes.
    pub fn show(&mut self, picture: &Picture, at: Timestamp, zones: &[Zone], most: usize) {
        if self.asked.is_empty() {
            return;
        }
        let jpeg =
            snapshot::jpeg(picture, zones, most).ok_or_else(|| format!("no JPEG of at most {most} bytes can be made of it"));
        let answer = |(req_id, _)| AnalyticsUpdate::Glance { req_id, outcome: jpeg.clone().map(|jpeg| (at, jpeg)) };
        self.answers.extend(self.asked.drain(..).map(answer));
    }

    /// What is to be reported: pictures, and to those who have waited too long that none came.
    pub fn take(&mut self, now: MonoTime, out: &mut Vec<AnalyticsUpdate>) {
        out.append(&mut self.answers);
        for (req_id, _) in self.asked.extract_if(.., |(_, until)| *until <= now) {
            let outcome = Err(format!("no picture within {} s", GLANCE_WITHIN / 1_000_000));
            out.push(AnalyticsUpdate::Glance { req_id, outcome });
        }
    }
}
