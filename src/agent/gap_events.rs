//! Gap events: their number is limited by reason, so that a flood of gaps fills neither outbox nor
//! log.
//!
//! All gaps are on the card. The first ones of a reason are events at once; those that follow within
//! the minute become one event over their whole span, so that the office names every loss.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::Agent;
use super::events::{self, kind};
use crate::storage::{Gap, GapReason};
use crate::units::{MonoTime, Timestamp};

/// Gaps of one reason that are events at once. A camera or card with a few faults a minute is
/// reported as it is.
const AT_ONCE: u32 = 4;
/// Time in which further gaps of a reason are one event.
const SPAN: Duration = Duration::from_secs(60);

/// The gaps of one reason since its minute began.
#[derive(Debug)]
struct ReasonWindow {
    end: MonoTime,
    at_once: u32,
    /// The joined gaps, their number, and the microseconds missing in them.
    joined: Option<(Gap, u64, u64)>,
}

/// Limits gap events by reason.
#[derive(Debug, Default)]
pub(super) struct GapEvents {
    windows: BTreeMap<GapReason, ReasonWindow>,
}

impl GapEvents {
    /// True if this gap is an event of its own; else it is joined to the others of its minute.
    fn admits(&mut self, now: MonoTime, gap: &Gap) -> bool {
        if !comes_in_floods(gap.reason) {
            return true;
        }
        let fresh = || ReasonWindow { end: now.plus(SPAN), at_once: 0, joined: None };
        let window = self.windows.entry(gap.reason).or_insert_with(fresh);
        if now >= window.end && window.joined.is_none() {
            *window = fresh();
        }
        if window.at_once < AT_ONCE {
            window.at_once += 1;
            return true;
        }
        let lost = gap.to.mono.since(gap.from.mono);
        match &mut window.joined {
            Some((span, count, micros)) => {
                (*count, *micros) = (*count + 1, *micros + lost);
                span.bytes += gap.bytes;
                span.to = if span.to.mono < gap.to.mono { gap.to } else { span.to };
                span.from = if gap.from.mono < span.from.mono { gap.from } else { span.from };
            }
            None => window.joined = Some((gap.clone(), 1, lost)),
        }
        false
    }

    /// Takes the joined gaps of the minutes that are over, or of all. A flood that goes on is one
    /// event a minute.
    fn take_due(&mut self, now: MonoTime, is_all: bool) -> Vec<(Timestamp, Value)> {
        let mut due = Vec::new();
        for window in self.windows.values_mut().filter(|window| is_all || now >= window.end) {
            if let Some((gap, count, lost)) = window.joined.take() {
                let mut data = events::gap(&gap);
                data["gaps"] = json!(count);
                data["lost_ms"] = json!(lost / 1000);
                due.push((gap.from, data));
                (window.end, window.at_once) = (now.plus(SPAN), AT_ONCE);
            }
        }
        due
    }

    /// When the next joined gaps are due.
    pub(super) fn deadline(&self) -> Option<MonoTime> {
        let waiting = self.windows.values().filter(|window| window.joined.is_some());
        waiting.map(|window| window.end).min()
    }
}

/// True for gaps that a camera or card in trouble can cause again and again while it records. The
/// others may lie far apart, and an event over their span would call footage lost that is there.
fn comes_in_floods(reason: GapReason) -> bool {
    match reason {
        GapReason::CameraDown
        | GapReason::FellBehind
        | GapReason::DiskError
        | GapReason::TooLarge
        | GapReason::NoKeyFrame
        | GapReason::ParameterChanges => true,
        GapReason::PowerCut
        | GapReason::Stopped
        | GapReason::EvictedPinned
        | GapReason::Damaged
        | GapReason::Missing => false,
    }
}

impl Agent {
    /// Reports a gap, at once or with the others of its minute.
    pub(super) fn gap(&mut self, now: Timestamp, gap: &Gap) {
        if !matches!(self.phase, super::AgentPhase::Running) {
            // The stop waits for no minute.
            return self.event(gap.from, kind::GAP, None, events::gap(gap));
        }
        self.joined_gaps(now, false);
        if self.gap_events.admits(now.mono, gap) {
            self.event(gap.from, kind::GAP, None, events::gap(gap));
        }
    }

    /// Reports the joined gaps of the minutes that are over, or of all.
    pub(super) fn joined_gaps(&mut self, now: Timestamp, is_all: bool) {
        for (from, data) in self.gap_events.take_due(now.mono, is_all) {
            self.event(from, kind::GAP, None, data);
        }
    }
}
