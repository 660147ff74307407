//! Who may command, and the trail of it: `access_trail` events. Strangers' messages must cost neither card nor outbox: what is refused is
//! reported as far as its share reaches, counted beyond it, and travels in a lane that is shed before everything else.
//!
//! What belongs here: that trail and its limits. What does not: judging signatures ([`crate::remote_config::signed_command`]).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::events::kind;
use super::{Agent, AgentEffect};
use crate::remote_config::rejection::{RejectReason, Rejection};
use crate::remote_config::signed_command::{self, CommandRequest};
use crate::remote_config::token_bucket::TokenBucket;
use crate::units::{MonoTime, Timestamp};
use crate::uplink::wire::Command;

/// Refusals reported as events: 20 in a minute, and then one a minute, so that 10,000 refused commands write less than 1 MiB to the card
/// however slowly they come.
const REFUSED: TokenBucket = TokenBucket::new(20, 60_000_000);
/// The same for accepted commands that only read; what keeps, sends or changes something is always reported.
const ACCEPTED: TokenBucket = TokenBucket::new(20, 60_000_000);
/// Refusals answered: 10, and then two a second. Answers are small, the way to the office is too.
const ANSWERED: TokenBucket = TokenBucket::new(10, 500_000);
/// Commands that only read.
const READ: [&str; 5] = ["ping", "locks", "ring-status", "log-tail", "event-get"];
/// Of a full outbox in percent, from which on refusals are only counted, and acceptances.
const REFUSED_BELOW: u64 = 50;
const ACCEPTED_BELOW: u64 = 75;
/// Characters of a key's id and of a command's name, as they are reported.
const KEY_MAX: usize = 16;
const NAME_MAX: usize = 32;

/// The trail.
pub struct AccessTrail {
    refused: TokenBucket,
    accepted: TokenBucket,
    answered: TokenBucket,
    /// Not reported since the last event.
    suppressed_count: u64,
    /// Refused for want of a signature or of a good one; refused because their share was spent.
    pub counts: (u64, u64),
    /// Highest number of each key, where no configuration is kept: of this start only.
    highest: BTreeMap<String, u64>,
}

impl Default for AccessTrail {
    fn default() -> AccessTrail {
        let (refused, accepted, answered) = (REFUSED, ACCEPTED, ANSWERED);
        AccessTrail { refused, accepted, answered, suppressed_count: 0, counts: (0, 0), highest: BTreeMap::new() }
    }
}

/// What is to be done with a command.
pub(super) enum Authorization {
    /// Carry it out.
    Now,
    /// When its number is kept.
    Later,
    /// Refused; answered when the share of answers reaches.
    No(Option<String>),
}

impl AccessTrail {
    /// Whether an event may tell of this, by how full the outbox is; what may not is counted.
    fn may_report(&mut self, now: MonoTime, name: &str, refused: bool, full: u64) -> bool {
        let may = match refused {
            true => full < REFUSED_BELOW && self.refused.take(now),
            false if full >= ACCEPTED_BELOW => false,
            false => !READ.contains(&name) || self.accepted.take(now),
        };
        self.suppressed_count += u64::from(!may);
        may
    }
}

impl Agent {
    /// Whether a command may be carried out now. A signed one waits until its number is on the card; acceptances and refusals are reported.
    pub(super) fn may_command(&mut self, now: Timestamp, command: &Command, out: &mut Vec<AgentEffect>) -> Authorization {
        let asked = CommandRequest {
            name: &command.name,
            req_id: &command.req_id,
            expires: command.expires.as_deref(),
            args: &command.args,
        };
        let mut wanted = Vec::new();
        let verdict = match &mut self.configuration {
            Some(configuration) => configuration.command(now, asked, command, &mut wanted),
            None => self.guard(now, asked),
        };
        let may = match verdict {
            // Nobody signed it, and nobody had to: there is no trail to keep.
            Ok(None) => return Authorization::Now,
            Ok(Some(waits)) => {
                self.report_access(now, command, None);
                if waits { Authorization::Later } else { Authorization::Now }
            }
            Err(refusal) => {
                let busy = refusal.why == RejectReason::Busy;
                let (refused, over) = &mut self.access.counts;
                *(if busy { over } else { refused }) += 1;
                if !busy {
                    self.report_access(now, command, Some(&refusal));
                }
                Authorization::No(self.access.answered.take(now.mono).then(|| refusal.line()))
            }
        };
        self.configured(now, wanted, out);
        self.publish_signers(out);
        may
    }

    /// Where no configuration is kept: `Some(false)` for a good signature, `None` where none is needed.
    fn guard(&mut self, now: Timestamp, asked: CommandRequest<'_>) -> Result<Option<bool>, Rejection> {
        let keys = &self.settings.remote.keys;
        if keys.is_empty() || !asked.args.contains_key("sig") {
            return signed_command::unsigned(keys, asked).map(|()| None);
        }
        let highest = |key: &str| self.access.highest.get(key).copied().unwrap_or(0);
        let signed = signed_command::check(&self.site, keys, asked, now, highest)?;
        self.access.highest.insert(signed.key, signed.n);
        Ok(Some(false))
    }

    fn report_access(&mut self, now: Timestamp, command: &Command, refusal: Option<&Rejection>) {
        let full = self.outbox.percent();
        let tell = self.spool.is_clear() || refusal.is_none();
        if !self.access.may_report(now.mono, &command.name, refusal.is_some(), if tell { full } else { 100 }) {
            return;
        }
        let key = command.args.get("sig").and_then(|sig| sig["key"].as_str()).unwrap_or_default();
        let (key, name): (String, String) = (key.chars().take(KEY_MAX).collect(), command.name.chars().take(NAME_MAX).collect());
        let mut data = json!({"command": name, "req_id": command.req_id, "key": key, "verdict": "accepted"});
        if let Some(refusal) = refusal {
            data["verdict"] = json!(refusal.why);
            data["detail"] = json!(refusal.detail);
        }
        if self.access.suppressed_count > 0 {
            data["suppressed_count"] = Value::from(std::mem::take(&mut self.access.suppressed_count));
        }
        self.event(now, kind::ACCESS, None, data);
    }
}
