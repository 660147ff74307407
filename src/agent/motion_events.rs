//! Motion event lifecycle: start, updates and end events, with their pins, clips and snapshots.
//!
//! What belongs here: the state of an event. What does not: motion detection
//! ([`crate::analytics`]), cutting clips ([`super::clip_jobs`]).

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::json;

use super::events::{self, kind};
use super::loss_report::LossReason;
use super::outbox_entry::{AgentState, Body, ClipRange, OPEN_MAX, OpenEvent, PendingClip};
use super::spool::{Draft, TooLarge};
use super::{Agent, AgentEffect};
use crate::analytics::{AnalyticsUpdate, MotionPhase, MotionUpdate};
use crate::evidence::manifest::{self, Purpose};
use crate::storage::{PinClass, PinId, StorageRequest};
use crate::units::{MonoTime, Timestamp};
use crate::uplink::integrations;

/// How far an open pin reaches back beyond the pre-roll, to include the key frame before it. The
/// longest GOP that cameras are set to in practice is 10 s.
const KEY_FRAME_REACH: Duration = Duration::from_secs(10);
/// Ended events remembered, because a snapshot can arrive after the end of its event.
const ENDED_MAX: usize = 16;

/// An event in progress.
struct MotionEvent {
    motion: u64,
    open: OpenEvent,
    pin: PinId,
    /// Its rule requests a clip.
    clip: bool,
}

/// Events in progress and those just ended.
#[derive(Default)]
pub struct MotionEvents {
    active: Vec<MotionEvent>,
    /// Motion number and start event id of events that have ended.
    ended: VecDeque<(u64, String)>,
    /// Events that the previous boot left open, until each has its end event.
    leftover: Vec<OpenEvent>,
    /// Events not opened since the last one that was, because too many were open or the agent shuts
    /// down.
    unopened: u32,
}

impl MotionEvents {
    /// True while an event is in progress.
    pub fn is_moving(&self) -> bool {
        !self.active.is_empty()
    }

    /// The open events that the state in an entry must carry.
    pub fn open(&self) -> Vec<OpenEvent> {
        let active = self.active.iter().map(|motion_event| &motion_event.open);
        active.chain(&self.leftover).take(OPEN_MAX).cloned().collect()
    }

    fn event_of(&self, motion: u64) -> Option<String> {
        let active = self
            .active
            .iter()
            .find(|motion_event| motion_event.motion == motion)
            .map(|motion_event| motion_event.open.event.clone());
        active.or_else(|| {
            self.ended.iter().find(|(ended, _)| *ended == motion).map(|(_, event)| event.clone())
        })
    }
}

impl Agent {
    pub(super) fn analytics_update(
        &mut self,
        now: Timestamp,
        update: AnalyticsUpdate,
        out: &mut Vec<AgentEffect>,
    ) {
        match update {
            AnalyticsUpdate::Motion(motion) => match motion.phase {
                MotionPhase::Start => {
                    let at = motion.at;
                    self.motion_start(motion, out);
                    self.publish_motion_state(at, out);
                }
                MotionPhase::Update => self.motion_update(&motion),
                MotionPhase::End => {
                    self.motion_end(&motion, out);
                    self.publish_motion_state(motion.at, out);
                }
            },
            AnalyticsUpdate::Snapshot { event_no: motion, at, jpeg } => {
                super::uplink_updates::publish_integrations(
                    integrations::snapshot(self.settings.uplink.integrations, &self.site, &jpeg),
                    out,
                );
                self.store_snapshot(motion, at, jpeg);
            }
            AnalyticsUpdate::RequestedSnapshot { req_id, outcome } => {
                self.snapshot_taken(&req_id, outcome, out)
            }
            AnalyticsUpdate::Scene { change, at } => {
                self.event(at, kind::SCENE, None, json!({"change": change.as_str()}))
            }
            AnalyticsUpdate::Unavailable { since, reason } => {
                self.gauges.blind = true;
                let reason = match self.gauges.sub_fault() {
                    Some(fault) => format!(
                        "the sub-stream, which is analysed, is down ({}): correct camera.sub_url, or remove it to \
                         analyse the main stream; recording continues",
                        fault.as_str()
                    ),
                    None => reason,
                };
                let data = json!({"since": since.wall.rfc3339(), "reason": events::text(&reason)});
                self.event(now, kind::BLIND, None, data);
            }
            AnalyticsUpdate::Available { at, source } => {
                // The first pictures after boot are no event; their return after an outage is.
                if std::mem::take(&mut self.gauges.blind) {
                    self.event(at, kind::SEEING, None, json!({"source": source}));
                }
                self.gauges.analytics_source = source;
            }
            AnalyticsUpdate::Counts(counts) => self.gauges.analytics = *counts,
        }
    }

    /// Starts an event. The order is: pin the footage, then the journal, then the network.
    fn motion_start(&mut self, motion: MotionUpdate, out: &mut Vec<AgentEffect>) {
        if !self.spool.has_room() {
            return self.unreported.event(LossReason::StorageStalled);
        }
        if self.motion_events.active.len() >= OPEN_MAX || !self.is_running() {
            self.motion_events.unopened += 1;
            return;
        }
        let pin = self.jobs.new_pin();
        let reach = self.settings.clip.pre_roll + KEY_FRAME_REACH.as_micros() as u64;
        let from = MonoTime(motion.started_at.mono.0.saturating_sub(reach));
        out.push(AgentEffect::Storage(StorageRequest::PinOpen {
            pin,
            class: PinClass::Event,
            from,
        }));
        let event = self.ulids.next(motion.started_at.wall);
        let mut data = events::motion(&motion, &event);
        if let Some(before) =
            motion.continued_from.and_then(|before| self.motion_events.event_of(before))
        {
            data["continued_from"] = json!(before);
        }
        let unopened = self.take_unopened();
        if unopened > 0 {
            data["unopened"] = json!(unopened);
        }
        let open =
            OpenEvent { event: event.clone(), boot: self.boot, started_at: motion.started_at };
        self.motion_events.active.push(MotionEvent {
            motion: motion.event_no,
            open,
            pin,
            clip: motion.clip,
        });
        self.gauges.motions += 1;
        self.event(motion.at, kind::MOTION_START, Some(event), data);
    }

    fn motion_update(&mut self, motion: &MotionUpdate) {
        if let Some(event) = self.motion_events.event_of(motion.event_no) {
            self.event(motion.at, kind::MOTION_UPDATE, None, events::motion(motion, &event));
        }
    }

    fn motion_end(&mut self, motion: &MotionUpdate, out: &mut Vec<AgentEffect>) {
        let Some(index) = self
            .motion_events
            .active
            .iter()
            .position(|motion_event| motion_event.motion == motion.event_no)
        else {
            return;
        };
        let motion_event = self.motion_events.active.remove(index);
        let mut data = events::motion(motion, &motion_event.open.event);
        data["seconds"] =
            json!(motion.at.mono.since(motion_event.open.started_at.mono) / 1_000_000);
        let range = self.clip_range(&motion_event.open, motion.at.mono);
        data["clip"] = json!(self.schedule_clip(
            &motion_event.open.event,
            Some(motion_event.pin),
            range,
            motion.clip,
            out
        ));
        self.motion_events.ended.push_back((motion_event.motion, motion_event.open.event));
        if self.motion_events.ended.len() > ENDED_MAX {
            self.motion_events.ended.pop_front();
        }
        self.event(motion.at, kind::MOTION_END, None, data);
    }

    /// The footage of an event's clip: from the pre-roll before its start to the post-roll after
    /// `end`.
    fn clip_range(&self, open: &OpenEvent, end: MonoTime) -> ClipRange {
        let from = MonoTime(open.started_at.mono.0.saturating_sub(self.settings.clip.pre_roll));
        ClipRange::Mono(open.boot, from, end.plus_micros(self.settings.clip.post_roll))
    }

    /// Starts the clip job of an event if a clip is wanted and there is room for a job. Returns the
    /// word for the event's `clip` field.
    fn schedule_clip(
        &mut self,
        event: &str,
        pin: Option<PinId>,
        range: ClipRange,
        wanted: bool,
        out: &mut Vec<AgentEffect>,
    ) -> &'static str {
        if self.settings.clip.enabled && wanted && self.jobs.has_room() {
            let clip = PendingClip {
                event: event.to_owned(),
                purpose: Purpose::Clip,
                part: 1,
                range,
                after: 0,
            };
            self.start_job(clip, pin, out);
            return "planned";
        }
        if self.settings.clip.enabled && wanted { "shed" } else { "off" }
    }

    fn store_snapshot(&mut self, motion: u64, at: Timestamp, jpeg: Vec<u8>) {
        let Some(event) =
            self.motion_events.event_of(motion).filter(|_| self.settings.clip.snapshot)
        else {
            return;
        };
        if !self.spool.has_room() {
            return self.unreported.file(LossReason::StorageStalled, event, jpeg.len() as u64);
        }
        let bytes = jpeg.len() as u64;
        if self.draft_snapshot(&event, at, jpeg).is_err() {
            self.unreported.file(LossReason::TooLarge, event, bytes);
        }
    }

    /// Drafts a snapshot entry. The caller has checked [`super::spool::Spool::has_room`].
    pub(super) fn draft_snapshot(
        &mut self,
        event: &str,
        at: Timestamp,
        jpeg: Vec<u8>,
    ) -> Result<(), TooLarge> {
        let body = Body::File(Box::new(manifest::of_still(&self.site, event, at, &jpeg)));
        let after = self.after(self.spool.next_seq());
        self.spool.put(Draft { after, body, still: Some(jpeg), footage: None })
    }

    /// Ends an event whose end analytics will not report, because the agent shuts down or rebooted.
    fn end_unobserved(
        &mut self,
        at: Timestamp,
        open: OpenEvent,
        why: &str,
        (pin, wanted): (Option<PinId>, bool),
        out: &mut Vec<AgentEffect>,
    ) {
        let last_moment = if open.boot == self.boot {
            at.mono
        } else {
            open.started_at.mono.plus_micros(self.settings.motion.max_event)
        };
        let range = self.clip_range(&open, last_moment);
        let clip = self.schedule_clip(&open.event, pin, range, wanted, out);
        let data = json!({"event": open.event, "started_at": open.started_at.wall.rfc3339(), "reason": why, "clip": clip});
        self.event(at, kind::MOTION_END, None, data);
    }

    /// Ends every open event because the agent shuts down. Their clips stay pending and are cut
    /// after the next boot.
    pub(super) fn end_all(&mut self, at: Timestamp, out: &mut Vec<AgentEffect>) {
        while let Some(motion_event) = self.motion_events.active.pop() {
            self.end_unobserved(
                at,
                motion_event.open,
                "stopped",
                (Some(motion_event.pin), motion_event.clip),
                out,
            );
        }
    }

    /// Takes the number of events that were not opened since the last one that was.
    pub(super) fn take_unopened(&mut self) -> u32 {
        std::mem::take(&mut self.motion_events.unopened)
    }

    /// Takes over the open events and pending clips of the previous boot. It runs before the first
    /// entry of this boot, because that entry must still carry them.
    pub(super) fn take_over(&mut self, after: AgentState, out: &mut Vec<AgentEffect>) {
        for clip in after.owed {
            self.start_job(clip, None, out);
        }
        self.motion_events.leftover = after.open;
    }

    /// Ends the events that the previous boot left open. Each leaves the carried state with its own
    /// end event.
    pub(super) fn end_leftover(&mut self, now: Timestamp, out: &mut Vec<AgentEffect>) {
        while let Some(open) = self.motion_events.leftover.pop() {
            self.end_unobserved(now, open, "restart", (None, true), out);
        }
    }
}
