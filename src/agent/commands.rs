//! Commands of the office: validation, deduplication, authorization and execution.
//!
//! Every command gets an answer. A repeated `req_id` gets the same answer again, and the command is
//! not executed twice. Where keys are enrolled, only signed commands are executed.
//! [`super::maintenance_commands`] holds the commands that are not about footage; topics and
//! transport belong to the uplink.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::access_trail::Authorization;
use super::events::{self, kind};
use super::outbox_entry::{ClipRange, OWED_MAX, PendingClip};
use super::spool::{EntryKind, TooLarge};
use super::{Agent, AgentEffect};
use crate::evidence::manifest::{Manifest, Purpose};
use crate::remote_config::signed_command::unknown;
use crate::remote_config::token_bucket::TokenBucket;
use crate::storage::StorageRequest;
use crate::storage::locks::Lock;
use crate::storage::missing_records::MissingRecords;
use crate::units::{ClockQuality, EntryId, Timestamp, WallTime};
use crate::uplink::UplinkRequest;
use crate::uplink::wire::{Command, Reply};

/// Answers kept for repeated commands. A broker redelivers at most one in-flight window of them.
const REMEMBERED_MAX: usize = 64;
/// Requested clips in progress. The other half of the clip jobs stays free for events.
const REQUESTS_MAX: usize = OWED_MAX / 2;
/// Pending snapshot commands. The analytics thread queues four requests; two places stay free for
/// settings and the stop.
const SNAPSHOT_REQUESTS_MAX: usize = 2;
/// Missing record ranges listed in one event. Each takes about 120 bytes, and the event must fit a
/// journal slot.
const MISSING_LISTED_MAX: usize = 2;
/// Characters of a `req_id`, which is part of file names and of journal entries.
const REQ_ID_MAX: usize = 64;

/// A recent command and its answer; `None` until it is answered.
struct RecentCommand {
    req_id: String,
    reply: Option<Reply>,
}

/// A `lock` or `unlock` command that storage has not answered yet.
struct LockRequest {
    lock: String,
    req_id: String,
}

/// Recent commands with their answers, and commands that wait for storage or analytics.
pub struct Commands {
    recent: VecDeque<RecentCommand>,
    lock_requests: VecDeque<LockRequest>,
    /// `req_id`s of snapshot commands that wait for the picture or for its durable entry.
    snapshot_requests: Vec<String>,
    /// Commands that cannot be answered, as warnings.
    unusable: TokenBucket,
}

impl Default for Commands {
    fn default() -> Commands {
        let unusable = TokenBucket::of_warnings();
        Commands {
            recent: VecDeque::new(),
            lock_requests: VecDeque::new(),
            snapshot_requests: Vec::new(),
            unusable,
        }
    }
}

impl Commands {
    fn answer(&mut self, reply: &Reply) {
        if let Some(recent) = self.recent.iter_mut().find(|recent| recent.req_id == reply.req_id) {
            recent.reply = Some(reply.clone());
        }
    }

    /// `None` for a new command; else its answer, as far as there is one.
    fn known(&self, req_id: &str) -> Option<Option<Reply>> {
        self.recent.iter().find(|recent| recent.req_id == req_id).map(|recent| recent.reply.clone())
    }

    fn remember(&mut self, req_id: &str) {
        self.recent.push_back(RecentCommand { req_id: req_id.to_owned(), reply: None });
        if self.recent.len() > REMEMBERED_MAX {
            self.recent.pop_front();
        }
    }
}

impl Agent {
    pub(super) fn command(&mut self, now: Timestamp, command: Command, out: &mut Vec<AgentEffect>) {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if command.req_id.is_empty()
            || command.req_id.len() > REQ_ID_MAX
            || !command.req_id.chars().all(is_allowed)
        {
            if self.commands.unusable.take(now.mono) {
                let suppressed = self.commands.unusable.dropped();
                tracing::warn!(
                    command = command.name,
                    suppressed,
                    "command ignored, no valid req_id; use 1 to 64 of a-z A-Z 0-9 - _"
                );
            }
            return;
        }
        if let Some(reply) = self.commands.known(&command.req_id) {
            out.extend(
                reply.map(|reply| AgentEffect::Uplink(UplinkRequest::Reply(Box::new(reply)))),
            );
            return;
        }
        // An unauthorized command must neither occupy a `req_id` nor evict a remembered answer.
        match self.may_command(now, &command, out) {
            Authorization::Now => {
                self.commands.remember(&command.req_id);
                self.carry_command(now, command, out);
            }
            // The command is executed once its number is durable.
            Authorization::Later => self.commands.remember(&command.req_id),
            Authorization::No(detail) => {
                if let Some(detail) = detail {
                    self.reply(&command.req_id, &command.name, "error", &detail, Value::Null, out);
                }
            }
        }
    }

    /// Executes a command that is new and authorized.
    pub(super) fn carry_command(
        &mut self,
        now: Timestamp,
        command: Command,
        out: &mut Vec<AgentEffect>,
    ) {
        let outcome =
            match command.name.as_str() {
                _ if !self.is_running() => Err("the device is shutting down".to_owned()),
                _ if is_expired(&command, now) => Err("expired before it arrived".to_owned()),
                name if let Err(detail) = check_arguments(name, &command) => Err(detail),
                "ping" => Ok(Some(
                    json!({"t": now.wall.rfc3339(), "clock": now.quality, "boot": self.boot.0}),
                )),
                "clip-get" => self.clip_get(now, &command, out).map(|()| None),
                "snapshot" => self.snapshot(&command, out).map(|()| None),
                "lock" => lock_request(&command)
                    .map(|request| self.request_storage(&command, request, out)),
                "unlock" => unlock_request(&command)
                    .map(|request| self.request_storage(&command, request, out)),
                "clip-cancel" => self.clip_cancel(now, &command, out).map(Some),
                "event-get" => self.event_get(&command).map(Some),
                "ring-status" => Ok(Some(self.ring_status(now))),
                "log-tail" => self.log_tail(&command, out).map(|()| None),
                "restart" => self.restart(now, &command, out).map(Some),
                "locks" => Ok(Some(json!(self.locks.iter().map(events::lock).collect::<Vec<_>>()))),
                "config-check" => self.config_check(&command, out).map(|()| None),
                "config-show" => self.config_show(&command, out).map(|()| None),
                name => Err(unknown(name)),
            };
        match outcome {
            Ok(Some(data)) => self.reply(&command.req_id, &command.name, "ok", "", data, out),
            // The answer follows when another thread has done its part.
            Ok(None) => {}
            Err(detail) => {
                self.reply(&command.req_id, &command.name, "error", &detail, Value::Null, out)
            }
        }
    }

    pub(super) fn reply(
        &mut self,
        req_id: &str,
        cmd: &str,
        status: &str,
        detail: &str,
        data: Value,
        out: &mut Vec<AgentEffect>,
    ) {
        let detail = crate::redact::masked(detail);
        let reply =
            Reply { req_id: req_id.into(), cmd: cmd.into(), status: status.into(), detail, data };
        self.commands.answer(&reply);
        out.push(AgentEffect::Uplink(UplinkRequest::Reply(Box::new(reply))));
    }

    /// Creates the job for a clip between two wall times.
    fn clip_get(
        &mut self,
        now: Timestamp,
        command: &Command,
        out: &mut Vec<AgentEffect>,
    ) -> Result<(), String> {
        let from = wall_arg(command, "from")?;
        let to = wall_arg(command, "to")?.min(now.wall);
        if from >= to {
            return Err(format!(
                "from ({}) must be before to ({}) and in the past",
                from.rfc3339(),
                to.rfc3339()
            ));
        }
        let longest = self.settings.clip.max_requested;
        if (to.0 - from.0) as u64 > longest {
            return Err(format!(
                "longer than clip.max_requested ({} s): request it in parts",
                longest / 1_000_000
            ));
        }
        if !self.jobs.has_room() || self.jobs.requested() >= REQUESTS_MAX {
            return Err("busy: too many clips in progress, ask again in a minute".into());
        }
        let range = ClipRange::Wall(from, to);
        self.start_job(
            PendingClip {
                event: command.req_id.clone(),
                purpose: Purpose::Requested,
                part: 1,
                range,
                after: 0,
            },
            None,
            out,
        );
        Ok(())
    }

    /// Requests a picture from the analytics thread.
    fn snapshot(&mut self, command: &Command, out: &mut Vec<AgentEffect>) -> Result<(), String> {
        if command.args.contains_key("t") {
            return Err("a snapshot shows the present: request the past with clip-get".into());
        }
        if self.commands.snapshot_requests.len() >= SNAPSHOT_REQUESTS_MAX {
            return Err("busy: too many snapshots in progress, ask again in a minute".into());
        }
        self.commands.snapshot_requests.push(command.req_id.clone());
        out.push(AgentEffect::Snapshot { req_id: command.req_id.clone() });
        Ok(())
    }

    /// Stores a requested snapshot as an outbox entry, like the snapshot of an event. The command
    /// is answered once the entry is durable.
    pub(super) fn snapshot_taken(
        &mut self,
        req_id: &str,
        outcome: Result<(Timestamp, Vec<u8>), String>,
        out: &mut Vec<AgentEffect>,
    ) {
        let drafted = outcome.and_then(|(at, jpeg)| {
            if !self.spool.has_room() {
                return Err("storage stalls: ask again later".to_owned());
            }
            let drafted = self.draft_snapshot(req_id, at, jpeg);
            drafted.map_err(|TooLarge(bytes)| {
                format!("its manifest of {bytes} bytes is larger than a journal slot")
            })
        });
        if let Err(detail) = drafted {
            self.commands.snapshot_requests.retain(|pending| pending != req_id);
            self.reply(req_id, "snapshot", "error", &detail, Value::Null, out);
        }
    }

    /// Sends a lock request to storage; [`Agent::lock_answered`] answers the command.
    fn request_storage(
        &mut self,
        command: &Command,
        request: StorageRequest,
        out: &mut Vec<AgentEffect>,
    ) -> Option<Value> {
        let (StorageRequest::Lock { id, .. } | StorageRequest::Unlock { id }) = &request else {
            return None;
        };
        self.commands
            .lock_requests
            .push_back(LockRequest { lock: id.clone(), req_id: command.req_id.clone() });
        if self.commands.lock_requests.len() > REMEMBERED_MAX {
            self.commands.lock_requests.pop_front();
        }
        out.push(AgentEffect::Storage(request));
        None
    }

    /// Reports lost records of a lock in the log and as an event.
    pub(super) fn lock_broken(&mut self, now: Timestamp, lock: &Lock, lost: &[MissingRecords]) {
        for gap in lost {
            tracing::error!(lock = lock.id, reason = lock.reason, %gap, "locked footage lost; check the card");
        }
        // The command `locks` reports the reason and all missing ranges. The event lists the new
        // gaps, as many as fit.
        let mut data =
            events::lock(&Lock { missing: Vec::new(), reason: String::new(), ..lock.clone() });
        data["action"] = json!("broken");
        data["lost"] = lost.iter().take(MISSING_LISTED_MAX).map(events::lost).collect();
        data["gaps"] = json!(lost.iter().map(|lost| lost.gaps).sum::<usize>());
        self.event(now, kind::LOCK, None, data);
    }

    /// Answers a `lock` or `unlock` command with storage's outcome. A success also becomes an
    /// event: the audit trail of locks.
    pub(super) fn lock_answered(
        &mut self,
        now: Timestamp,
        cmd: &'static str,
        id: &str,
        outcome: Result<Lock, String>,
        out: &mut Vec<AgentEffect>,
    ) {
        let index = self.commands.lock_requests.iter().position(|request| request.lock == id);
        let req_id = index
            .and_then(|index| self.commands.lock_requests.remove(index))
            .map(|request| request.req_id);
        let outcome = outcome.map(|lock| {
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
        match outcome {
            Ok(data) => self.reply(&req_id, cmd, "ok", "", data, out),
            Err(detail) => self.reply(&req_id, cmd, "error", &detail, Value::Null, out),
        }
    }

    /// Answers a `clip-get` or `snapshot` once its file is a durable entry: an accepted command
    /// survives a power cut.
    pub(super) fn answer_with_file(&mut self, entry_id: EntryId, out: &mut Vec<AgentEffect>) {
        let Some(EntryKind::File(manifest)) = self.spool.entry_mut(entry_id).map(|held| &held.what)
        else {
            return;
        };
        let Manifest { name, purpose, event, size, from, to, clock, gaps, part, last, .. } =
            manifest.as_ref();
        let index = self.commands.snapshot_requests.iter().position(|req_id| req_id == event);
        let cmd = match (purpose, index) {
            (Purpose::Requested, _) => "clip-get",
            (Purpose::Snapshot, Some(index)) => {
                self.commands.snapshot_requests.remove(index);
                "snapshot"
            }
            _ => return,
        };
        let data = json!({"fid": manifest.fid(), "name": name, "size": size, "part": part, "last": last, "from": from, "to": to,
            "clock": clock, "gaps": gaps});
        let req_id = event.clone();
        self.reply(&req_id, cmd, "accepted", "the file follows", data, out);
    }

    /// Answers a `clip-get` of which one part has no footage.
    pub(super) fn answer_error(
        &mut self,
        clip: &PendingClip,
        reason: &str,
        out: &mut Vec<AgentEffect>,
    ) {
        self.reply(&clip.event, "clip-get", "error", reason, json!({"part": clip.part}), out);
    }
}

/// An expiry is checked only when the clock has been set.
fn is_expired(command: &Command, now: Timestamp) -> bool {
    let expires = command.expires.as_deref().and_then(|text| WallTime::parse(text).ok());
    now.quality > ClockQuality::Unset && expires.is_some_and(|expires| expires < now.wall)
}

/// The lock's id is the `req_id` of its command, so that a repeated command makes one lock.
fn lock_request(command: &Command) -> Result<StorageRequest, String> {
    let (from, to) = (wall_arg(command, "from")?, wall_arg(command, "to")?);
    let reason = text_arg(command, "reason", "why it must be kept, e.g. a case number")?;
    Ok(StorageRequest::Lock { id: command.req_id.clone(), from, to, reason })
}

fn unlock_request(command: &Command) -> Result<StorageRequest, String> {
    Ok(StorageRequest::Unlock {
        id: text_arg(command, "id", "the lock's id, as the command locks shows it")?,
    })
}

/// Arguments of each command. Those of every command are in [`COMMON`].
const ARGUMENTS: [(&str, &[&str]); 13] = [
    ("ping", &[]),
    ("clip-get", &["from", "to"]),
    ("clip-cancel", &["fid"]),
    // `t` has its own rejection.
    ("snapshot", &["t"]),
    ("event-get", &["ring", "seq"]),
    ("ring-status", &[]),
    ("log-tail", &["lines", "bytes"]),
    ("restart", &["boot"]),
    ("lock", &["from", "to", "reason"]),
    ("unlock", &["id"]),
    ("locks", &[]),
    ("config-show", &[]),
    ("config-check", &["config", "probe"]),
];
/// Signature, its number, and the seconds within which a fleet answers.
const COMMON: [&str; 3] = ["sig", "n", "within"];
/// Characters of an unknown argument's name that its rejection repeats at most.
const NAME_SHOWN_MAX: usize = 40;

/// Rejects an argument that the command does not have: a typing error would change its meaning.
fn check_arguments(name: &str, command: &Command) -> Result<(), String> {
    let Some((_, known)) = ARGUMENTS.iter().find(|(known, _)| *known == name) else {
        return Ok(());
    };
    let is_known = |key: &&String| known.contains(&key.as_str()) || COMMON.contains(&key.as_str());
    let Some(key) = command.args.keys().find(|key| !is_known(key)) else {
        return Ok(());
    };
    let key: String = key.chars().take(NAME_SHOWN_MAX).collect();
    let takes = if known.is_empty() || name == "snapshot" {
        "takes no arguments".to_owned()
    } else {
        format!("takes {}", known.join(", "))
    };
    Err(format!("no argument {key:?}: {name} {takes}"))
}

/// A text; a number is read as its digits.
pub(super) fn text_arg(command: &Command, key: &str, what: &str) -> Result<String, String> {
    match command.args.get(key) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(_) => Err(format!("{key} must be text: {what}")),
        None => Err(format!("{key} is missing: {what}")),
    }
}

fn wall_arg(command: &Command, key: &str) -> Result<WallTime, String> {
    let value =
        command.args.get(key).ok_or_else(|| format!("{key} is missing: an RFC 3339 time"))?;
    let text = value.as_str().ok_or_else(|| format!("{key} must be text: an RFC 3339 time"))?;
    WallTime::parse(text).map_err(|reason| format!("{key}: {reason}"))
}
