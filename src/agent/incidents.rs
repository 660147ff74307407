//! Motion events from their first picture to their end, and what each owes: a pin at once, a clip at the end, a still between.
//!
//! What belongs here: the life of an event. What does not: judging motion (the motion room), cutting clips ([`super::jobs`]).

use std::collections::VecDeque;

use serde_json::json;

use super::desk::{Draft, TooLarge};
use super::entry::After;
use super::entry::{Body, OPEN_MAX, Open, Owed, Range};
use super::events::{self, kind};
use super::shed::Why;
use super::{Agent, Effect};
use crate::evidence::manifest::{self, Purpose};
use crate::motion::{Motion, MotionPhase, SightNews};
use crate::outbox::Kind;
use crate::storage::{PinClass, PinId, StorageOrder};
use crate::units::{Mono, Stamp};
use crate::uplink::mirror;

/// Microseconds an open pin reaches further back than the pre-roll, for the key frame before it: the longest GOP cameras are
/// set to in practice is 10 s.
const KEY_FRAME_REACH: u64 = 10_000_000;
/// Ended events remembered, because their still may come after their end.
const ENDED_MAX: usize = 16;

/// An event in progress.
struct Incident {
    motion: u64,
    open: Open,
    pin: PinId,
    /// Its rule wants a clip.
    clip: bool,
}

/// Events in progress and those just ended.
#[derive(Default)]
pub struct Incidents {
    going: Vec<Incident>,
    /// (motion, id of its start event) of events that have ended.
    ended: VecDeque<(u64, String)>,
    /// Events the last start left open, until each has been ended.
    leftover: Vec<Open>,
    /// Events that were not opened because too many were open or the agent stops, since the last one that was.
    unopened: u32,
}

impl Incidents {
    /// True while an event goes on.
    pub fn is_moving(&self) -> bool {
        !self.going.is_empty()
    }

    /// What an entry must remember of them.
    pub fn open(&self) -> Vec<Open> {
        let going = self.going.iter().map(|incident| &incident.open);
        going.chain(&self.leftover).take(OPEN_MAX).cloned().collect()
    }

    fn event_of(&self, motion: u64) -> Option<String> {
        let going = self.going.iter().find(|incident| incident.motion == motion).map(|incident| incident.open.event.clone());
        going.or_else(|| self.ended.iter().find(|(ended, _)| *ended == motion).map(|(_, event)| event.clone()))
    }
}

impl Agent {
    pub(super) fn sight_news(&mut self, now: Stamp, news: SightNews, out: &mut Vec<Effect>) {
        match news {
            SightNews::Motion(motion) => match motion.phase {
                MotionPhase::Start => {
                    let at = motion.at;
                    self.motion_start(motion, out);
                    self.mirror_motion(at, out);
                }
                MotionPhase::Update => self.motion_update(&motion),
                MotionPhase::End => {
                    self.motion_end(&motion, out);
                    self.mirror_motion(motion.at, out);
                }
            },
            SightNews::Still { motion, at, jpeg } => {
                super::heard::tell_mirrors(mirror::snapshot(self.settings.uplink.integrations, &self.site, &jpeg), out);
                self.still(motion, at, jpeg);
            }
            SightNews::Glance { req_id, outcome } => self.glanced(&req_id, outcome, out),
            SightNews::Scene { change, at } => self.event(at, kind::SCENE, None, json!({"change": change.word()})),
            SightNews::Blind { since, reason } => {
                self.gauges.blind = true;
                let data = json!({"since": since.wall.rfc3339(), "reason": events::text(&reason)});
                self.event(now, kind::BLIND, None, data);
            }
            SightNews::Seeing { at, source } => {
                // The first sight after a start is no news: only its return is.
                if std::mem::take(&mut self.gauges.blind) {
                    self.event(at, kind::SEEING, None, json!({"source": source}));
                }
                self.gauges.sight_source = source;
            }
            SightNews::Counts(counts) => self.gauges.sight = *counts,
        }
    }

    /// The order of an event: pin the footage first, then the journal, then the network.
    fn motion_start(&mut self, motion: Motion, out: &mut Vec<Effect>) {
        if !self.desk.has_room() {
            return self.untold.event(Why::StorageStalled);
        }
        if self.incidents.going.len() >= OPEN_MAX || !self.is_running() {
            self.incidents.unopened += 1;
            return;
        }
        let pin = self.jobs.new_pin();
        let reach = self.settings.clip.pre_roll + KEY_FRAME_REACH;
        let from = Mono(motion.began.mono.0.saturating_sub(reach));
        out.push(Effect::Storage(StorageOrder::PinOpen { pin, class: PinClass::Event, from }));
        let event = self.ulids.next(motion.began.wall);
        let mut data = events::motion(&motion, &event);
        if let Some(before) = motion.continued_from.and_then(|before| self.incidents.event_of(before)) {
            data["continued_from"] = json!(before);
        }
        let unopened = self.take_unopened();
        if unopened > 0 {
            data["unopened"] = json!(unopened);
        }
        let open = Open { event: event.clone(), boot: self.boot, began: motion.began };
        self.incidents.going.push(Incident { motion: motion.motion, open, pin, clip: motion.clip });
        self.gauges.motions += 1;
        self.event(motion.at, kind::MOTION_START, Some(event), data);
    }

    fn motion_update(&mut self, motion: &Motion) {
        if let Some(event) = self.incidents.event_of(motion.motion) {
            self.event(motion.at, kind::MOTION_UPDATE, None, events::motion(motion, &event));
        }
    }

    fn motion_end(&mut self, motion: &Motion, out: &mut Vec<Effect>) {
        let Some(index) = self.incidents.going.iter().position(|incident| incident.motion == motion.motion) else {
            return;
        };
        let incident = self.incidents.going.remove(index);
        let mut data = events::motion(motion, &incident.open.event);
        data["seconds"] = json!(motion.at.mono.since(incident.open.began.mono) / 1_000_000);
        let range = self.clip_range(&incident.open, motion.at.mono);
        data["clip"] = json!(self.owe_clip(&incident.open.event, Some(incident.pin), range, motion.clip, out));
        self.incidents.ended.push_back((incident.motion, incident.open.event));
        if self.incidents.ended.len() > ENDED_MAX {
            self.incidents.ended.pop_front();
        }
        self.event(motion.at, kind::MOTION_END, None, data);
    }

    /// The footage of an event's clip: pre-roll before it began, post-roll after `end`.
    fn clip_range(&self, open: &Open, end: Mono) -> Range {
        let from = Mono(open.began.mono.0.saturating_sub(self.settings.clip.pre_roll));
        Range::Mono(open.boot, from, end.plus_micros(self.settings.clip.post_roll))
    }

    /// Promises the clip of an event if clips are wanted and few enough are in the making; says which for its end event.
    fn owe_clip(&mut self, event: &str, pin: Option<PinId>, range: Range, wanted: bool, out: &mut Vec<Effect>) -> &'static str {
        let owed = Owed { event: event.to_owned(), purpose: Purpose::Clip, part: 1, range, after: 0 };
        let verdict = match self.settings.clip.enabled && wanted {
            false => "off",
            true if !self.jobs.has_room() => "shed",
            true => {
                self.begin_job(owed, pin, out);
                return "planned";
            }
        };
        out.extend(pin.map(|pin| Effect::Storage(StorageOrder::Unpin { pin })));
        verdict
    }

    fn still(&mut self, motion: u64, at: Stamp, jpeg: Vec<u8>) {
        let Some(event) = self.incidents.event_of(motion).filter(|_| self.settings.clip.snapshot) else {
            return;
        };
        if !self.desk.has_room() {
            return self.untold.file(Why::StorageStalled, event, jpeg.len() as u64);
        }
        let bytes = jpeg.len() as u64;
        if self.draft_still(&event, at, jpeg).is_err() {
            self.untold.file(Why::TooLarge, event, bytes);
        }
    }

    /// A picture becomes an entry; there is room for it.
    pub(super) fn draft_still(&mut self, event: &str, at: Stamp, jpeg: Vec<u8>) -> Result<(), TooLarge> {
        let body = Body::File(Box::new(manifest::of_still(&self.site, event, at, &jpeg)));
        let after = self.after(self.desk.next_seq());
        self.desk.put(Draft { after, body, kind: Kind::Snapshot, still: Some(jpeg), footage: None })
    }

    /// Ends events that will see no end of their own: the agent stops, or a power cut stopped it.
    fn end_unseen(&mut self, at: Stamp, open: Open, why: &str, (pin, wanted): (Option<PinId>, bool), out: &mut Vec<Effect>) {
        let last_moment =
            if open.boot == self.boot { at.mono } else { open.began.mono.plus_micros(self.settings.motion.max_event) };
        let range = self.clip_range(&open, last_moment);
        let clip = self.owe_clip(&open.event, pin, range, wanted, out);
        let data = json!({"event": open.event, "started_at": open.began.wall.rfc3339(), "reason": why, "clip": clip});
        self.event(at, kind::MOTION_END, None, data);
    }

    /// Ends every open event because the agent stops. Their clips stay owed and are cut at the next start.
    pub(super) fn end_all(&mut self, at: Stamp, out: &mut Vec<Effect>) {
        while let Some(incident) = self.incidents.going.pop() {
            self.end_unseen(at, incident.open, "stopped", (Some(incident.pin), incident.clip), out);
        }
    }

    /// Events that were not opened since the last one that was.
    pub(super) fn take_unopened(&mut self) -> u32 {
        std::mem::take(&mut self.incidents.unopened)
    }

    /// Takes over what the last start left, before the first entry of this start is made: that entry must still carry it.
    pub(super) fn take_over(&mut self, after: After, out: &mut Vec<Effect>) {
        for owed in after.owed {
            self.begin_job(owed, None, out);
        }
        self.incidents.leftover = after.open;
    }

    /// Ends the events whose end the last start never saw; each leaves the carried state with its own end event.
    pub(super) fn end_leftover(&mut self, now: Stamp, out: &mut Vec<Effect>) {
        while let Some(open) = self.incidents.leftover.pop() {
            self.end_unseen(now, open, "restart", (None, true), out);
        }
    }
}
