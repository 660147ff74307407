//! What the office asks besides footage: numbers it lacks, files it no longer wants, how the ring is, what the log says, a restart.
//!
//! What belongs here: those commands. What does not: remembering and answering them ([`super::commands`]).

use serde_json::{Value, json};

use super::commands::text_arg;
use super::desk::{Held, What};
use super::{Agent, Effect};
use crate::units::{Stamp, Ticket};
use crate::uplink::UplinkOrder;
use crate::uplink::wire::Command;

/// Ranges in one `event-get` at most, and in its answer: a box is no search engine, and a packet has its bound.
const RANGES_MAX: usize = 32;
/// Lines of the log in one answer, unless the command says less, and at most.
const TAIL_LINES: u64 = 50;
const TAIL_LINES_MAX: u64 = 500;
/// Bytes of them: what the smallest brokers' packets of 4 KiB hold, and at most.
const TAIL_BYTES: u64 = 3_000;
const TAIL_BYTES_MAX: u64 = 32_768;

impl Agent {
    /// The office lacks numbers: those that are still here go next, those that are not are named.
    pub(super) fn event_get(&mut self, command: &Command, out: &mut Vec<Effect>) -> Result<Value, String> {
        let ring = text_arg(command, "ring", "the ring whose numbers are meant")?;
        let ranges: Vec<(u64, u64)> = command
            .args
            .get("seq")
            .and_then(|value| match value.as_str() {
                Some(text) => serde_json::from_str(text).ok(),
                None => serde_json::from_value(value.clone()).ok(),
            })
            .ok_or("seq is missing: ranges [[first,last],…]")?;
        if ranges.len() > RANGES_MAX {
            return Err(format!("at most {RANGES_MAX} ranges at once"));
        }
        let (mut found, mut gone) = (0_u64, Vec::new());
        for (first, last) in ranges {
            // Numbers of a card that is not here any more are gone; those not given out yet are no loss.
            let last = if ring == self.ring.to_string() { last.min(self.desk.next_seq() - 1) } else { last };
            let held = if ring == self.ring.to_string() { self.desk.numbers(first, last) } else { Vec::new() };
            let mut next = first;
            for (seq, ticket) in held {
                if seq > next {
                    gone.push((next, seq - 1));
                }
                next = seq + 1;
                found += 1;
                self.hurry(ticket, out);
            }
            if next <= last {
                gone.push((next, last));
            }
        }
        gone.truncate(RANGES_MAX);
        Ok(json!({"ring": ring, "found": found, "gone": gone}))
    }

    fn hurry(&mut self, ticket: Option<Ticket>, out: &mut Vec<Effect>) {
        if let Some(ticket) = ticket {
            self.outbox.hurry(ticket);
            out.push(Effect::Uplink(UplinkOrder::Again { ticket }));
        }
    }

    /// The office does not want a file any more.
    pub(super) fn clip_cancel(&mut self, now: Stamp, command: &Command, out: &mut Vec<Effect>) -> Result<Value, String> {
        let fid = text_arg(command, "fid", "the file's id, as the answer to clip-get shows it")?;
        let ticket = self.desk.file_of(&fid).ok_or_else(|| format!("no file {fid} is owed: it was delivered, or never was"))?;
        self.outbox.receipted(ticket);
        out.push(Effect::Uplink(UplinkOrder::Cancel { ticket }));
        self.file_lost(now, ticket, &format!("cancelled by {}", command.req_id));
        Ok(json!({"fid": fid}))
    }

    pub(super) fn ring_status(&mut self, now: Stamp) -> Value {
        let storage = self.gauges.storage;
        let oldest = self.gauges.oldest.map(|wall| wall.rfc3339());
        let backlog = self.outbox.backlog(now.mono);
        json!({
            "ring": self.ring, "boot": self.boot.0, "budget": storage.budget, "used": storage.used, "pinned": storage.pinned,
            "available": storage.available, "oldest": oldest, "durable": self.gauges.durable, "worn_percent": storage.worn,
            "days_left": storage.days_left, "memory_only": storage.in_memory, "locks": self.locks.len(),
            "backlog": backlog, "dead_letters": self.outbox.dead_letters(), "confirmed": self.desk.confirmed(),
        })
    }

    pub(super) fn log_tail(&mut self, command: &Command, out: &mut Vec<Effect>) -> Result<(), String> {
        let argument = |key: &str, default: u64, most: u64| match command.args.get(key) {
            None => Ok(default),
            Some(_) => command.number(key).map(|n| n.min(most)).ok_or_else(|| format!("{key} must be a number")),
        };
        let lines = argument("lines", TAIL_LINES, TAIL_LINES_MAX)? as usize;
        let bytes = argument("bytes", TAIL_BYTES, TAIL_BYTES_MAX)? as usize;
        out.push(Effect::Tail { req_id: command.req_id.clone(), lines, bytes });
        Ok(())
    }

    pub(super) fn answer_log_tail(&mut self, req_id: &str, lines: &[String], out: &mut Vec<Effect>) {
        self.reply(req_id, "log-tail", "ok", "", json!({"lines": lines}), out);
    }

    /// Stops in order; the service manager starts the box again. It must name the start it means: a command that a broker delivers
    /// twice would otherwise restart the box twice.
    pub(super) fn restart(&mut self, now: Stamp, command: &Command, out: &mut Vec<Effect>) -> Result<Value, String> {
        let boot = command.number("boot").ok_or("boot is missing: the start that is meant, as ping tells it")?;
        if boot != u64::from(self.boot.0) {
            return Err(format!("this is start {}, not {boot}", self.boot.0));
        }
        tracing::warn!(req_id = command.req_id, "restart: the office asks for it");
        self.begin_stop(now, out);
        Ok(json!({"boot": boot}))
    }
}

impl super::desk::Desk {
    /// Numbers of events in `first..=last` that are here, and their tickets once they have one.
    fn numbers(&self, first: u64, last: u64) -> Vec<(u64, Option<Ticket>)> {
        let asked = |(seq, _): &(u64, Option<Ticket>)| (first..=last).contains(seq);
        let stored = self.stored_numbers().map(|(seq, ticket)| (seq, Some(ticket)));
        let mut numbers: Vec<_> = stored.chain(self.unstored_numbers().map(|seq| (seq, None))).filter(asked).collect();
        numbers.sort_unstable();
        numbers
    }

    /// The ticket of the file with this id.
    fn file_of(&self, fid: &str) -> Option<Ticket> {
        let is_it = |held: &Held| matches!(&held.what, What::File(manifest) if manifest.fid() == fid);
        self.stored().find(|(_, held)| is_it(held)).map(|(ticket, _)| ticket)
    }
}
