//! What the office asks. Every command gets an answer; a repeated `req_id` gets the same answer again and nothing is carried out
//! twice. Where keys are enrolled, only signed commands are carried out.
//!
//! What belongs here: which commands there are, `clip-get`, `snapshot` and locks. What does not: the other commands
//! ([`super::maintenance_commands`]), topics and transport (the uplink).

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::access_trail::Authorization;
use super::events::{self, kind};
use super::outbox_entry::{ClipRange, OWED_MAX, PendingClip};
use super::spool::{EntryKind, TooLarge};
use super::{Agent, AgentEffect};
use crate::evidence::manifest::{Manifest, Purpose};
use crate::remote_config::signed_command::KNOWN;
use crate::remote_config::token_bucket::TokenBucket;
use crate::storage::StorageRequest;
use crate::storage::locks::Lock;
use crate::storage::missing_records::MissingRecords;
use crate::units::{ClockQuality, EntryId, Timestamp, WallTime};
use crate::uplink::UplinkRequest;
use crate::uplink::wire::{Command, Reply};

/// Answers kept for repeated commands: brokers redeliver what was in flight, at most a window of it.
const REMEMBERED_MAX: usize = 64;
/// Requested clips in the making at most, so that curiosity leaves room for events.
const REQUESTS_MAX: usize = OWED_MAX / 2;
/// Pictures asked for at once: the analytics thread takes four orders, and two places are for a change of settings and the stop.
const GLANCES_MAX: usize = 2;
/// Holes of a lock reported with their times: each is some 120 bytes of an event that must fit a journal slot.
const LOST_TOLD_MAX: usize = 2;
/// Characters of a `req_id`: it names files and lies in journal slots.
const REQ_ID_MAX: usize = 64;

/// Commands of late, and their answers once given.
pub struct Commands {
    seen: VecDeque<(String, Option<Reply>)>,
    /// (lock, `req_id`) of commands that storage has not answered yet.
    about_locks: VecDeque<(String, String)>,
    /// Commands that wait for a picture, or for its entry.
    snapshot_requests: Vec<String>,
    /// Commands that cannot be answered, as warnings.
    unusable: TokenBucket,
}

impl Default for Commands {
    fn default() -> Commands {
        let unusable = TokenBucket::of_warnings();
        Commands { seen: VecDeque::new(), about_locks: VecDeque::new(), snapshot_requests: Vec::new(), unusable }
    }
}

impl Commands {
    fn answer(&mut self, reply: &Reply) {
        if let Some((_, answer)) = self.seen.iter_mut().find(|(req_id, _)| *req_id == reply.req_id) {
            *answer = Some(reply.clone());
        }
    }

    /// The answer to a command that was carried out, when it is known by now; `None` for a new one.
    fn known(&self, req_id: &str) -> Option<Option<Reply>> {
        self.seen.iter().find(|(seen, _)| seen == req_id).map(|(_, reply)| reply.clone())
    }

    fn remember(&mut self, req_id: &str) {
        self.seen.push_back((req_id.to_owned(), None));
        if self.seen.len() > REMEMBERED_MAX {
            self.seen.pop_front();
        }
    }
}

impl Agent {
    pub(super) fn command(&mut self, now: Timestamp, command: Command, out: &mut Vec<AgentEffect>) {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if command.req_id.is_empty() || command.req_id.len() > REQ_ID_MAX || !command.req_id.chars().all(word) {
            if self.commands.unusable.take(now.mono) {
                let before = self.commands.unusable.dropped();
                tracing::warn!(
                    command = command.name,
                    before,
                    "command without a usable req_id (1 to 64 of a-z A-Z 0-9 - _): ignored"
                );
            }
            return;
        }
        if let Some(again) = self.commands.known(&command.req_id) {
            out.extend(again.map(|reply| AgentEffect::Uplink(UplinkRequest::Reply(Box::new(reply)))));
            return;
        }
        // Whoever may not command must neither take a name from somebody who may, nor push one out.
        match self.may_command(now, &command, out) {
            Authorization::Now => {
                self.commands.remember(&command.req_id);
                self.carry_command(now, command, out);
            }
            // It is carried out when its number is on the card.
            Authorization::Later => self.commands.remember(&command.req_id),
            Authorization::No(detail) => {
                if let Some(detail) = detail {
                    self.reply(&command.req_id, &command.name, "error", &detail, Value::Null, out);
                }
            }
        }
    }

    /// Carries out a command that is new and allowed.
    pub(super) fn carry_command(&mut self, now: Timestamp, command: Command, out: &mut Vec<AgentEffect>) {
        let verdict = match command.name.as_str() {
            _ if !self.is_running() => Err("the box is shutting down".to_owned()),
            _ if is_expired(&command, now) => Err("expired before it arrived".to_owned()),
            "ping" => Ok(Some(json!({"t": now.wall.rfc3339(), "clock": now.quality, "boot": self.boot.0}))),
            "clip-get" => self.clip_get(now, &command, out).map(|()| None),
            "snapshot" => self.snapshot(&command, out).map(|()| None),
            "lock" => lock_order(&command).map(|order| self.request_storage(&command, order, out)),
            "unlock" => unlock_order(&command).map(|order| self.request_storage(&command, order, out)),
            "clip-cancel" => self.clip_cancel(now, &command, out).map(Some),
            "event-get" => self.event_get(&command).map(Some),
            "ring-status" => Ok(Some(self.ring_status(now))),
            "log-tail" => self.log_tail(&command, out).map(|()| None),
            "restart" => self.restart(now, &command, out).map(Some),
            "locks" => Ok(Some(json!(self.locks.iter().map(events::lock).collect::<Vec<_>>()))),
            "config-check" => self.config_check(&command, out).map(|()| None),
            "config-show" => self.config_show(&command, out).map(|()| None),
            name => Err(format!("no command {name:?}: this version knows {KNOWN}")),
        };
        match verdict {
            Ok(Some(data)) => self.reply(&command.req_id, &command.name, "ok", "", data, out),
            // The answer follows when the footage has been found.
            Ok(None) => {}
            Err(detail) => self.reply(&command.req_id, &command.name, "error", &detail, Value::Null, out),
        }
    }

    pub(super) fn reply(&mut self, req_id: &str, cmd: &str, status: &str, detail: &str, data: Value, out: &mut Vec<AgentEffect>) {
        let detail = crate::redact::masked(detail);
        let reply = Reply { req_id: req_id.into(), cmd: cmd.into(), status: status.into(), detail, data };
        self.commands.answer(&reply);
        out.push(AgentEffect::Uplink(UplinkRequest::Reply(Box::new(reply))));
    }

    /// Promises the footage between two wall times as a file.
    fn clip_get(&mut self, now: Timestamp, command: &Command, out: &mut Vec<AgentEffect>) -> Result<(), String> {
        let from = wall_arg(command, "from")?;
        let to = wall_arg(command, "to")?.min(now.wall);
        if from >= to {
            return Err(format!("from ({}) must lie before to ({}), and before now", from.rfc3339(), to.rfc3339()));
        }
        let longest = self.settings.clip.max_requested;
        if (to.0 - from.0) as u64 > longest {
            return Err(format!("longer than clip.max_requested ({} s): ask in pieces", longest / 1_000_000));
        }
        if !self.jobs.has_room() || self.jobs.requested() >= REQUESTS_MAX {
            return Err("busy: too many clips in the making, ask again in a minute".into());
        }
        let range = ClipRange::Wall(from, to);
        self.start_job(
            PendingClip { event: command.req_id.clone(), purpose: Purpose::Requested, part: 1, range, after: 0 },
            None,
            out,
        );
        Ok(())
    }

    /// Asks the analytics thread for a picture.
    fn snapshot(&mut self, command: &Command, out: &mut Vec<AgentEffect>) -> Result<(), String> {
        if command.args.contains_key("t") {
            return Err("a snapshot shows what is now: ask for the past with clip-get".into());
        }
        if self.commands.snapshot_requests.len() >= GLANCES_MAX {
            return Err("busy: too many pictures asked for, ask again in a minute".into());
        }
        self.commands.snapshot_requests.push(command.req_id.clone());
        out.push(AgentEffect::Glance { req_id: command.req_id.clone() });
        Ok(())
    }

    /// The picture somebody asked for becomes an entry, as the still of an event does; it is answered when that is durable.
    pub(super) fn snapshot_taken(
        &mut self,
        req_id: &str,
        outcome: Result<(Timestamp, Vec<u8>), String>,
        out: &mut Vec<AgentEffect>,
    ) {
        let drafted = outcome.and_then(|(at, jpeg)| {
            if !self.spool.has_room() {
                return Err("the card stands still: ask again later".to_owned());
            }
            let drafted = self.draft_snapshot(req_id, at, jpeg);
            drafted.map_err(|TooLarge(bytes)| format!("its manifest of {bytes} bytes is larger than a journal slot"))
        });
        if let Err(detail) = drafted {
            self.commands.snapshot_requests.retain(|asked| asked != req_id);
            self.reply(req_id, "snapshot", "error", &detail, Value::Null, out);
        }
    }

    /// Hands a command about locks to storage; its answer becomes the command's.
    fn request_storage(&mut self, command: &Command, order: StorageRequest, out: &mut Vec<AgentEffect>) -> Option<Value> {
        let (StorageRequest::Lock { id, .. } | StorageRequest::Unlock { id }) = &order else {
            return None;
        };
        self.commands.about_locks.push_back((id.clone(), command.req_id.clone()));
        if self.commands.about_locks.len() > REMEMBERED_MAX {
            self.commands.about_locks.pop_front();
        }
        out.push(AgentEffect::Storage(order));
        None
    }

    /// Locked evidence is lost: a person must know, and the office too.
    pub(super) fn lock_broken(&mut self, now: Timestamp, lock: &Lock, lost: &[MissingRecords]) {
        for hole in lost {
            tracing::error!(lock = lock.id, reason = lock.reason, "locked footage is lost: {hole}: look at the card");
        }
        // `locks` says why it is kept and what is missing in all; the event tells the new gaps, as many as fit.
        let mut data = events::lock(&Lock { missing: Vec::new(), reason: String::new(), ..lock.clone() });
        data["action"] = json!("broken");
        data["lost"] = lost.iter().take(LOST_TOLD_MAX).map(events::lost).collect();
        data["gaps"] = json!(lost.iter().map(|lost| lost.holes).sum::<usize>());
        self.event(now, kind::LOCK, None, data);
    }

    /// Storage locked footage, let it go, or would not. Who asked is answered, and what was done is an event: part of the trail of
    /// who kept what and who let it go.
    pub(super) fn lock_answered(
        &mut self,
        now: Timestamp,
        cmd: &'static str,
        id: &str,
        outcome: Result<Lock, String>,
        out: &mut Vec<AgentEffect>,
    ) {
        let asked = self.commands.about_locks.iter().position(|(about, _)| about == id);
        let req_id = asked.and_then(|at| self.commands.about_locks.remove(at)).map(|(_, req_id)| req_id);
        let verdict = outcome.map(|lock| {
            self.locks.retain(|other| other.id != lock.id);
            let mut data = events::lock(&lock);
            if cmd == "lock" {
                self.locks.push(lock);
            }
            data["action"] = json!(cmd);
            data["req_id"] = json!(req_id);
            self.event(now, kind::LOCK, None, data.clone());
            data
        });
        let Some(req_id) = req_id else {
            return;
        };
        match verdict {
            Ok(data) => self.reply(&req_id, cmd, "ok", "", data, out),
            Err(detail) => self.reply(&req_id, cmd, "error", &detail, Value::Null, out),
        }
    }

    /// Answers a `clip-get` or `snapshot` when its file has become the durable entry `entry id`: what is accepted outlives a power cut.
    pub(super) fn answer_with_file(&mut self, entry_id: EntryId, out: &mut Vec<AgentEffect>) {
        let Some(EntryKind::File(manifest)) = self.spool.entry_mut(entry_id).map(|held| &held.what) else {
            return;
        };
        let Manifest { name, purpose, event, size, from, to, clock, gaps, part, last, .. } = manifest.as_ref();
        let asked = self.commands.snapshot_requests.iter().position(|req_id| req_id == event);
        let cmd = match (purpose, asked) {
            (Purpose::Requested, _) => "clip-get",
            (Purpose::Snapshot, Some(at)) => {
                self.commands.snapshot_requests.remove(at);
                "snapshot"
            }
            _ => return,
        };
        let data = json!({"fid": manifest.fid(), "name": name, "size": size, "part": part, "last": last, "from": from, "to": to,
            "clock": clock, "gaps": gaps});
        let req_id = event.clone();
        self.reply(&req_id, cmd, "accepted", "the file follows", data, out);
    }

    /// Answers a `clip-get` of which a part is not there.
    pub(super) fn answer_error(&mut self, owed: &PendingClip, reason: &str, out: &mut Vec<AgentEffect>) {
        self.reply(&owed.event, "clip-get", "error", reason, json!({"part": owed.part}), out);
    }
}

/// An expiry only counts on a clock that somebody has set.
fn is_expired(command: &Command, now: Timestamp) -> bool {
    let expires = command.expires.as_deref().and_then(|text| WallTime::parse(text).ok());
    now.quality > ClockQuality::Unset && expires.is_some_and(|expires| expires < now.wall)
}

/// A lock is named by the command that makes it, so that the same command makes it once.
fn lock_order(command: &Command) -> Result<StorageRequest, String> {
    let (from, to) = (wall_arg(command, "from")?, wall_arg(command, "to")?);
    let reason = text_arg(command, "reason", "why it must be kept, e.g. a case number")?;
    Ok(StorageRequest::Lock { id: command.req_id.clone(), from, to, reason })
}

fn unlock_order(command: &Command) -> Result<StorageRequest, String> {
    Ok(StorageRequest::Unlock { id: text_arg(command, "id", "the lock's id, as the command locks shows it")? })
}

pub(super) fn text_arg(command: &Command, key: &str, what: &str) -> Result<String, String> {
    let text = command.args.get(key).and_then(Value::as_str);
    text.map(String::from).ok_or_else(|| format!("{key} is missing: {what}"))
}

fn wall_arg(command: &Command, key: &str) -> Result<WallTime, String> {
    let value = command.args.get(key).ok_or_else(|| format!("{key} is missing: an RFC 3339 time"))?;
    let text = value.as_str().ok_or_else(|| format!("{key} must be text: an RFC 3339 time"))?;
    WallTime::parse(text).map_err(|reason| format!("{key}: {reason}"))
}
