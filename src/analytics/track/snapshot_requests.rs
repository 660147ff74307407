//! Snapshot requests: answered with the next decoded picture, or with an error after a time limit.

use super::snapshot;
use crate::analytics::AnalyticsUpdate;
use crate::analytics::detect::picture::Picture;
use crate::analytics::params::SNAPSHOT_TIMEOUT;
use crate::settings::Zone;
use crate::units::{MonoTime, Timestamp};

/// One pending request.
struct PendingRequest {
    /// Id of the command that requests the snapshot.
    req_id: String,
    deadline: MonoTime,
}

/// The pending snapshot requests. The agent limits their number.
#[derive(Default)]
pub struct SnapshotRequests {
    /// Requests without an answer yet.
    pending: Vec<PendingRequest>,
    /// Answers that [`SnapshotRequests::take`] has not fetched.
    answers: Vec<AnalyticsUpdate>,
}

impl SnapshotRequests {
    /// Adds a request.
    pub fn request(&mut self, req_id: String, now: MonoTime) {
        self.pending.push(PendingRequest { req_id, deadline: now.plus(SNAPSHOT_TIMEOUT) });
    }

    /// True while a request is pending.
    pub fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Answers all pending requests with this picture, as a JPEG of at most `max_bytes` bytes.
    pub fn answer_all(
        &mut self,
        picture: &Picture,
        at: Timestamp,
        zones: &[Zone],
        max_bytes: usize,
    ) {
        if self.pending.is_empty() {
            return;
        }
        let jpeg = snapshot::jpeg(picture, zones, max_bytes)
            .ok_or_else(|| format!("the picture does not fit into a JPEG of {max_bytes} bytes"));
        let answer = |request: PendingRequest| {
            let outcome = jpeg.clone().map(|jpeg| (at, jpeg));
            AnalyticsUpdate::RequestedSnapshot { req_id: request.req_id, outcome }
        };
        self.answers.extend(self.pending.drain(..).map(answer));
    }

    /// Moves the answers to `out`, and an error for each request that has timed out.
    pub fn take(&mut self, now: MonoTime, out: &mut Vec<AnalyticsUpdate>) {
        out.append(&mut self.answers);
        for request in self.pending.extract_if(.., |request| request.deadline <= now) {
            let outcome =
                Err(format!("the camera sent no picture within {} s", SNAPSHOT_TIMEOUT.as_secs()));
            out.push(AnalyticsUpdate::RequestedSnapshot { req_id: request.req_id, outcome });
        }
    }
}
