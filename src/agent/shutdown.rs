//! Ordered shutdown along the data flow: cameras, open events, journal, uplink, then storage.
//!
//! Each step has a deadline, so that a hung peer delays the end but cannot prevent it. Pending
//! clips stay in the journal with the last entry and are cut after the next boot: waiting for their
//! post-roll would lengthen the shutdown and save nothing. Signals belong to [`super::runtime`].

use std::time::Duration;

use serde_json::json;

use super::events::kind;
use super::{Agent, AgentEffect, AgentPhase};
use crate::camera::StreamRole;
use crate::health::CameraState;
use crate::storage::{Gap, GapReason, StorageRequest};
use crate::units::{MonoTime, Timestamp};
use crate::uplink::UplinkRequest;

/// Time for the camera tasks to end: each waits 0.8 s for the answer to TEARDOWN.
const CAMERA_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for the last drafts to become durable.
const JOURNAL_TIMEOUT: Duration = Duration::from_secs(5);
/// Time to publish the state `stopping` and to disconnect.
const UPLINK_TIMEOUT: Duration = Duration::from_secs(2);
/// Time to flush the last fragment; SD cards stall for seconds.
const STORAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// The shutdown step in progress, named for what it awaits, with its deadline.
#[derive(Debug, Clone, Copy)]
pub enum ShutdownStep {
    /// The camera's answer to TEARDOWN.
    Camera(MonoTime),
    /// The durability of the last drafts.
    Journal(MonoTime),
    /// The end of the uplink.
    Uplink(MonoTime),
    /// The last flush of storage.
    Storage(MonoTime),
}

impl ShutdownStep {
    fn camera(now: MonoTime) -> ShutdownStep {
        ShutdownStep::Camera(now.plus_micros(CAMERA_TIMEOUT.as_micros() as u64))
    }

    fn journal(now: MonoTime) -> ShutdownStep {
        ShutdownStep::Journal(now.plus_micros(JOURNAL_TIMEOUT.as_micros() as u64))
    }

    fn uplink(now: MonoTime) -> ShutdownStep {
        ShutdownStep::Uplink(now.plus_micros(UPLINK_TIMEOUT.as_micros() as u64))
    }

    fn storage(now: MonoTime) -> ShutdownStep {
        ShutdownStep::Storage(now.plus_micros(STORAGE_TIMEOUT.as_micros() as u64))
    }
    /// When the next step starts even if this one is not complete.
    pub fn deadline(&self) -> MonoTime {
        let (ShutdownStep::Camera(at)
        | ShutdownStep::Journal(at)
        | ShutdownStep::Uplink(at)
        | ShutdownStep::Storage(at)) = self;
        *at
    }
}

impl Agent {
    pub(super) fn start_shutdown(&mut self, now: Timestamp, out: &mut Vec<AgentEffect>) {
        match self.phase {
            AgentPhase::Running => {
                self.configure(now, crate::remote_config::action::ConfigInput::Stop, out);
                self.end_footage(now, out);
                out.push(AgentEffect::StopCamera);
                self.phase = AgentPhase::Stopping(ShutdownStep::camera(now.mono));
            }
            // Only the ring is open.
            AgentPhase::Starting => self.close_storage(now, out),
            AgentPhase::Stopping(_) | AgentPhase::Finished => {}
        }
    }

    /// Reports to storage that the footage ends here, and an outage of the camera that has no end.
    fn end_footage(&mut self, now: Timestamp, out: &mut Vec<AgentEffect>) {
        if let CameraState::Down { since, .. } = self.gauges.camera_mut(StreamRole::Main) {
            let gap = Gap { from: *since, to: now, reason: GapReason::CameraDown, bytes: 0 };
            out.push(AgentEffect::Storage(StorageRequest::NoteGap(gap)));
        }
        out.push(AgentEffect::Storage(StorageRequest::Stopping { at: now }));
    }

    pub(super) fn camera_stopped(&mut self, now: Timestamp, out: &mut Vec<AgentEffect>) {
        if matches!(self.phase, AgentPhase::Stopping(ShutdownStep::Camera(_))) {
            // The footage is whole before the slower steps: a supervisor may be impatient.
            out.push(AgentEffect::Storage(StorageRequest::Flush));
            self.joined_gaps(now, true);
            self.end_all(now, out);
            let unopened = self.take_unopened();
            self.event(
                now,
                kind::STOP,
                None,
                if unopened > 0 { json!({"unopened": unopened}) } else { json!({}) },
            );
            self.phase = AgentPhase::Stopping(ShutdownStep::journal(now.mono));
        }
    }

    pub(super) fn uplink_closed(&mut self, now: Timestamp, out: &mut Vec<AgentEffect>) {
        if matches!(self.phase, AgentPhase::Stopping(ShutdownStep::Uplink(_))) {
            self.close_storage(now, out);
        }
    }

    pub(super) fn storage_stopped(&mut self, out: &mut Vec<AgentEffect>) {
        self.phase = AgentPhase::Finished;
        out.push(AgentEffect::Finished);
    }

    /// Starts the next step when this one is complete or its deadline has passed.
    pub(super) fn advance_stop(&mut self, now: Timestamp, out: &mut Vec<AgentEffect>) {
        let AgentPhase::Stopping(step) = self.phase else {
            return;
        };
        let late = now.mono >= step.deadline();
        if late {
            tracing::warn!(
                ?step,
                "shutdown step not complete at its deadline; continuing with the next step"
            );
        }
        match step {
            ShutdownStep::Camera(_) if late => self.camera_stopped(now, out),
            ShutdownStep::Journal(_) if late || self.spool.is_idle() => {
                out.push(AgentEffect::Uplink(UplinkRequest::Close));
                self.phase = AgentPhase::Stopping(ShutdownStep::uplink(now.mono));
            }
            ShutdownStep::Uplink(_) if late => self.close_storage(now, out),
            ShutdownStep::Storage(_) if late => self.storage_stopped(out),
            _ => {}
        }
    }

    fn close_storage(&mut self, now: Timestamp, out: &mut Vec<AgentEffect>) {
        out.push(AgentEffect::Storage(StorageRequest::Stop));
        self.phase = AgentPhase::Stopping(ShutdownStep::storage(now.mono));
    }
}
