//! The ordered shutdown, following the data: camera closed → events ended and journalled → `stopping` said → storage last. Each
//! step has a deadline, so that a hung peer delays the end and cannot prevent it. Clips still owed are in the journal with the
//! last entry and are cut at the next start: waiting for their post-roll would only make a stop longer, not safer.
//!
//! What belongs here: the order and the deadlines. What does not: signals (the wiring).

use serde_json::json;

use super::events::kind;
use super::{Agent, Effect, Phase};
use crate::storage::StorageOrder;
use crate::units::{Mono, Stamp};
use crate::uplink::UplinkOrder;

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
pub enum Stopping {
    /// The camera's TEARDOWN.
    Camera(Mono),
    /// The journal.
    Journal(Mono),
    /// The broker.
    Uplink(Mono),
    /// The last flush.
    Storage(Mono),
}

impl Stopping {
    /// When this step is given up.
    pub fn deadline(&self) -> Mono {
        let (Stopping::Camera(at) | Stopping::Journal(at) | Stopping::Uplink(at) | Stopping::Storage(at)) = self;
        *at
    }
}

impl Agent {
    pub(super) fn begin_stop(&mut self, now: Stamp, out: &mut Vec<Effect>) {
        match self.phase {
            Phase::Running => {
                self.configure(now, crate::config::machine::Input::Stop, out);
                out.push(Effect::StopCamera);
                self.phase = Phase::Stopping(Stopping::Camera(now.mono.plus_micros(CAMERA_WITHIN)));
            }
            // Nothing is open yet but the ring itself.
            Phase::Starting => self.close_storage(now, out),
            Phase::Stopping(_) | Phase::Finished => {}
        }
    }

    pub(super) fn camera_stopped(&mut self, now: Stamp, out: &mut Vec<Effect>) {
        if matches!(self.phase, Phase::Stopping(Stopping::Camera(_))) {
            self.end_all(now, out);
            let unopened = self.take_unopened();
            self.event(now, kind::STOP, None, if unopened > 0 { json!({"unopened": unopened}) } else { json!({}) });
            self.phase = Phase::Stopping(Stopping::Journal(now.mono.plus_micros(JOURNAL_WITHIN)));
        }
    }

    pub(super) fn uplink_closed(&mut self, now: Stamp, out: &mut Vec<Effect>) {
        if matches!(self.phase, Phase::Stopping(Stopping::Uplink(_))) {
            self.close_storage(now, out);
        }
    }

    pub(super) fn storage_stopped(&mut self, out: &mut Vec<Effect>) {
        self.phase = Phase::Finished;
        out.push(Effect::Finished);
    }

    /// Takes the next step when this one is done or its time is over.
    pub(super) fn advance_stop(&mut self, now: Stamp, out: &mut Vec<Effect>) {
        let Phase::Stopping(step) = self.phase else {
            return;
        };
        let late = now.mono >= step.deadline();
        if late {
            tracing::warn!(?step, "shutdown: not done in time, going on");
        }
        match step {
            Stopping::Camera(_) if late => self.camera_stopped(now, out),
            Stopping::Journal(_) if late || self.desk.is_idle() => {
                out.push(Effect::Uplink(UplinkOrder::Close));
                self.phase = Phase::Stopping(Stopping::Uplink(now.mono.plus_micros(UPLINK_WITHIN)));
            }
            Stopping::Uplink(_) if late => self.close_storage(now, out),
            Stopping::Storage(_) if late => self.storage_stopped(out),
            _ => {}
        }
    }

    fn close_storage(&mut self, now: Stamp, out: &mut Vec<Effect>) {
        out.push(Effect::Storage(StorageOrder::Stop));
        self.phase = Phase::Stopping(Stopping::Storage(now.mono.plus_micros(STORAGE_WITHIN)));
    }
}
