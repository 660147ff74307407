//! Maintenance commands: resends, cancelled files, ring status, log tail and restart.
//!
//! What belongs here: those commands. What does not: deduplication and answers
//! ([`super::commands`]).

use serde_json::{Value, json};

use super::commands::text_arg;
use super::spool::{EntryKind, SpooledEntry};
use super::{Agent, AgentEffect};
use crate::units::{EntryId, Timestamp};
use crate::uplink::UplinkRequest;
use crate::uplink::wire::Command;

/// Ranges in one `event-get` and in its answer: both must fit one MQTT packet.
const RANGES_MAX: usize = 32;
/// The form of the argument `seq`.
const RANGES: &str = "ranges of numbers, first and last of each, such as seq=[[1,20],[31,31]]";
/// Highest number of an event: the office counts in signed 64 bits (docs/mqtt.md).
const NUMBER_MAX: u64 = i64::MAX as u64;
/// Characters of a wrong argument that its rejection repeats at most.
const SHOWN_MAX: usize = 60;
/// Events with resend priority at once: four windows of the outbox.
const RESENDS_MAX: usize = 64;
/// Log lines in one answer: the default and the maximum.
const TAIL_LINES: u64 = 50;
const TAIL_LINES_MAX: u64 = 500;
/// Bytes of these lines. The default fits the 4 KiB packets of the smallest brokers.
const TAIL_BYTES: u64 = 3_000;
const TAIL_BYTES_MAX: u64 = 32_768;

/// Sequence numbers that the office requested, and the entry id up to which they are resent.
#[derive(Debug, Default)]
pub struct ResendRanges {
    ranges: Vec<(u64, u64)>,
    after: EntryId,
}

/// The same numbers in sorted, disjoint ranges.
fn merged(mut ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    ranges.retain(|(first, last)| first <= last);
    ranges.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

impl Agent {
    /// `event-get`: resends the requested events that are still stored next, and names those that
    /// are gone.
    pub(super) fn event_get(&mut self, command: &Command) -> Result<Value, String> {
        let ring = text_arg(command, "ring", "the ring whose numbers are meant")?;
        let seq = command.args.get("seq").ok_or_else(|| format!("seq is missing: {RANGES}"))?;
        let ranges: Option<Vec<(u64, u64)>> = match seq.as_str() {
            Some(text) => serde_json::from_str(text).ok(),
            None => serde_json::from_value(seq.clone()).ok(),
        };
        let ranges = ranges.ok_or_else(|| {
            let shown: String = seq.to_string().chars().take(SHOWN_MAX).collect();
            format!("seq must be {RANGES}, not {shown}")
        })?;
        if ranges.len() > RANGES_MAX {
            return Err(format!("at most {RANGES_MAX} ranges at once"));
        }
        if let Some((first, last)) = ranges.iter().find(|(first, last)| first > last) {
            return Err(format!("seq: [{first},{last}] ends before it begins"));
        }
        if let Some((first, last)) =
            ranges.iter().find(|(first, last)| *first == 0 || *last > NUMBER_MAX)
        {
            return Err(format!(
                "seq: [{first},{last}] names numbers that no event has: they count from 1 to {NUMBER_MAX}"
            ));
        }
        let is_id = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if ring.len() != 16 || !ring.chars().all(is_id) {
            let shown: String = ring.chars().take(SHOWN_MAX).collect();
            return Err(format!(
                "ring must be 16 digits 0 to 9 and a to f, as ring-status has it, not {shown}"
            ));
        }
        let ranges = merged(ranges);
        if ring != self.ring.to_string() {
            // Numbers of another ring are gone with its card.
            return Ok(json!({"ring": ring, "found": 0, "gone": ranges}));
        }
        let (found, mut gone) = self.spool.resolve_ranges(&ranges);
        gone.truncate(RANGES_MAX);
        self.wanted = ResendRanges { ranges, after: EntryId(0) };
        Ok(json!({"ring": ring, "found": found, "gone": gone}))
    }

    /// Gives resend priority to requested events, a few at a time, so that no queue fills.
    pub(super) fn prioritize_resends(&mut self, out: &mut Vec<AgentEffect>) {
        while !self.wanted.ranges.is_empty() && self.outbox.prioritized() < RESENDS_MAX {
            let Some(entry_id) = self.spool.next_wanted(&self.wanted) else {
                self.wanted = ResendRanges::default();
                return;
            };
            self.wanted.after = entry_id;
            if self.outbox.prioritize(entry_id) {
                out.push(AgentEffect::Uplink(UplinkRequest::Resend { entry_id }));
            }
        }
    }

    /// `clip-cancel`: drops a pending file that the office no longer wants.
    pub(super) fn clip_cancel(
        &mut self,
        now: Timestamp,
        command: &Command,
        out: &mut Vec<AgentEffect>,
    ) -> Result<Value, String> {
        let fid = text_arg(command, "fid", "the file's id, as the answer to clip-get shows it")?;
        let entry_id = self.spool.file_of(&fid).ok_or_else(|| {
            format!("no file {fid} is pending: it was delivered or never existed")
        })?;
        self.outbox.receipted(entry_id);
        out.push(AgentEffect::Uplink(UplinkRequest::Cancel { entry_id }));
        self.file_lost(now, entry_id, &format!("cancelled by {}", command.req_id));
        Ok(json!({"fid": fid}))
    }

    pub(super) fn ring_status(&mut self, now: Timestamp) -> Value {
        let storage = self.gauges.storage;
        let oldest = self.gauges.oldest.map(|wall| wall.rfc3339());
        let backlog = self.outbox.backlog(now.mono);
        // 0 stands for unknown, unless the card is worn out.
        let days_left = (storage.days_left > 0 || storage.worn >= 100).then_some(storage.days_left);
        json!({
            "ring": self.ring, "boot": self.boot.0, "budget": storage.budget, "used": storage.used, "pinned": storage.pinned,
            "available": storage.available, "oldest": oldest, "durable": self.gauges.durable, "worn_percent": storage.worn,
            "days_left": days_left, "memory_only": storage.in_memory, "locks": self.locks.len(),
            "backlog": backlog, "dead_letters": self.outbox.dead_letters(), "confirmed": self.spool.confirmed(),
        })
    }

    pub(super) fn log_tail(
        &mut self,
        command: &Command,
        out: &mut Vec<AgentEffect>,
    ) -> Result<(), String> {
        let argument = |key: &str, default: u64, most: u64| match command.args.get(key) {
            None => Ok(default),
            Some(_) => command
                .number(key)
                .map(|n| n.min(most))
                .ok_or_else(|| format!("{key} must be a number")),
        };
        let lines = argument("lines", TAIL_LINES, TAIL_LINES_MAX)? as usize;
        let bytes = argument("bytes", TAIL_BYTES, TAIL_BYTES_MAX)? as usize;
        out.push(AgentEffect::LogTail { req_id: command.req_id.clone(), lines, bytes });
        Ok(())
    }

    pub(super) fn answer_log_tail(
        &mut self,
        req_id: &str,
        lines: &[String],
        out: &mut Vec<AgentEffect>,
    ) {
        self.reply(req_id, "log-tail", "ok", "", json!({"lines": lines}), out);
    }

    /// `restart`: shuts down in order; the service manager starts the device again. The command
    /// must name the current boot. Otherwise a command that a broker delivers twice would restart
    /// the device twice.
    pub(super) fn restart(
        &mut self,
        now: Timestamp,
        command: &Command,
        out: &mut Vec<AgentEffect>,
    ) -> Result<Value, String> {
        let boot = command
            .number("boot")
            .ok_or("boot is missing: the number of the current boot, as ping returns it")?;
        if boot != u64::from(self.boot.0) {
            return Err(format!("the current boot is {}, not {boot}", self.boot.0));
        }
        tracing::warn!(req_id = command.req_id, "restart command received; shutting down");
        self.start_shutdown(now, out);
        Ok(json!({"boot": boot}))
    }
}

impl super::spool::Spool {
    /// Counts the numbers in these ranges (sorted and disjoint) that are stored, and lists the
    /// ranges that are not. Numbers not assigned yet are in neither.
    fn resolve_ranges(&self, ranges: &[(u64, u64)]) -> (u64, Vec<(u64, u64)>) {
        let mut stored: Vec<u64> =
            self.stored_numbers().map(|(seq, _)| seq).chain(self.unstored_numbers()).collect();
        stored.sort_unstable();
        stored.dedup();
        let (mut found, mut gone) = (0, Vec::new());
        for (first, last) in ranges {
            let last = (*last).min(self.next_seq() - 1);
            let mut next = *first;
            for seq in stored[stored.partition_point(|seq| seq < first)..]
                .iter()
                .take_while(|seq| **seq <= last)
            {
                if *seq > next {
                    gone.push((next, seq - 1));
                }
                next = seq + 1;
                found += 1;
            }
            if next <= last {
                gone.push((next, last));
            }
        }
        (found, gone)
    }

    /// The next requested event that is stored.
    fn next_wanted(&self, wanted: &ResendRanges) -> Option<EntryId> {
        let is_requested =
            |seq: u64| wanted.ranges.iter().any(|(first, last)| (*first..=*last).contains(&seq));
        self.stored_after(wanted.after)
            .find(
                |(entry_id, held)| matches!(held.what, EntryKind::Event { seq, .. } if is_requested(seq) && self.is_of_this_ring(*entry_id)),
            )
            .map(|(entry_id, _)| entry_id)
    }

    /// The entry of the file with this id.
    fn file_of(&self, fid: &str) -> Option<EntryId> {
        let is_it = |held: &SpooledEntry| matches!(&held.what, EntryKind::File(manifest) if manifest.fid() == fid);
        self.stored().find(|(_, held)| is_it(held)).map(|(entry_id, _)| entry_id)
    }
}
