//! The ordered shutdown, following the data: camera closed → events ended and journalled → `stopping` said → storage last. Each
//! step has a deadline, so that a hung peer delays the end and cannot prevent it. Clips still pending are in the journal with the
//! last entry and are cut at the next start: waiting for their post-roll would only make a stop longer, not safer.
//!
//! What belongs here: the order and the deadlines. What does not: signals (the wiring).

use serde_json::json;

use super::events::kind;
use super::{Agent, AgentEffect, AgentPhase};
use crate::storage::StorageRequest;
use crate::units::{MonoTime, Timestamp};
use crate::uplink::UplinkRequest;

/// Microseconds for TEARDOWN to be answered.
const CAMERA_WITHIN: u64 = 4_000_000;
/// Microseconds for the last drafts to become durable.
const JOURNAL_WITHIN: u64 = 5_000_000;
/// Microseconds for `stopping` and DISCONNECT.
const UPLINK_WITHIN: u64 = 4_000_000;
/// Microseconds for the last fragment to be flushed; SD cards stall for seconds.
const STORAGE_WITHIN: u64 = 10_000_000;

/// How far the shutdown has come: each step is named for what it awaits.
#[derive(Debug, Clone, Copy)]
pub enum ShutdownStep {
    /// The camera's TEARDOWN.
    Camera(MonoTime),
    /// The journal.
    Journal(MonoTime),
    /// The broker.
    Uplink(MonoTime),
    /// The last flush.
    Storage(MonoTime),
}

impl ShutdownStep {
    /// When this step is dropped.
    pub fn deadline(&self) -> MonoTime {
        let (ShutdownStep::Camera(at) | ShutdownStep::Journal(at) | ShutdownStep::Uplink(at) | ShutdownStep::Storage(at)) = self;
        *at
    }
}

impl Agent {
    pub(super) fn start_shutdown(&mut self, now: Timestamp, out: &mut Vec<AgentEffect>) {
        match self.phase {
            AgentPhase::Running => {
                self.configure(now, crate::remote_config::state_machine::ConfigInput::Stop, out);
                out.push(AgentEffect::StopCamera);
                self.phase = AgentPhase::Stopping(ShutdownStep::Camera(now.mono.plus_micros(CAMERA_WITHIN)));
            }
            // Nothing is open yet but the ring itself.
            AgentPhase::Starting => self.close_storage(now, out),
            AgentPhase::Stopping(_) | AgentPhase::Finished => {}
        }
    }

    pub(super) fn camera_stopped(&mut self, now: Timestamp, out: &mut Vec<AgentEffect>) {
        if matches!(self.phase, AgentPhase::Stopping(ShutdownStep::Camera(_))) {
            self.end_all(now, out);
            let unopened = self.take_unopened();
            self.event(now, kind::STOP, None, if unopened > 0 { json!({"unopened": unopened}) } else { json!({}) });
            self.phase = AgentPhase::Stopping(ShutdownStep::Journal(now.mono.plus_micros(JOURNAL_WITHIN)));
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

    /// Takes the next step when this one is done or its time is over.
    pub(super) fn advance_stop(&mut self, now: Timestamp, out: &mut Vec<AgentEffect>) {
        let AgentPhase::Stopping(step) = self.phase else {
            return;
        };
        let late = now.mono >= step.deadline();
        if late {
            tracing::warn!(?step, "shutdown: not done in time, going on");
        }
        match step {
            ShutdownStep::Camera(_) if late => self.camera_stopped(now, out),
            ShutdownStep::Journal(_) if late || self.spool.is_idle() => {
                out.push(AgentEffect::Uplink(UplinkRequest::Close));
                self.phase = AgentPhase::Stopping(ShutdownStep::Uplink(now.mono.plus_micros(UPLINK_WITHIN)));
            }
            ShutdownStep::Uplink(_) if late => self.close_storage(now, out),
            ShutdownStep::Storage(_) if late => self.storage_stopped(out),
            _ => {}
        }
    }

    fn close_storage(&mut self, now: Timestamp, out: &mut Vec<AgentEffect>) {
        out.push(AgentEffect::Storage(StorageRequest::Stop));
        self.phase = AgentPhase::Stopping(ShutdownStep::Storage(now.mono.plus_micros(STORAGE_WITHIN)));
    }
}
