//! Command authorization and its audit trail: `access` events with rate limits.
//!
//! Unauthenticated messages must cost neither card space nor outbox room. A rejection is reported
//! within a rate limit, counted beyond it, and its event is shed before every other class.
//! Signatures are verified in [`crate::remote_config::signed_command`].

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::events::kind;
use super::{Agent, AgentEffect};
use crate::health::RejectedCommands;
use crate::remote_config::rejection::{RejectReason, Rejection};
use crate::remote_config::signed_command::{self, CommandRequest};
use crate::remote_config::token_bucket::TokenBucket;
use crate::units::{MonoTime, Timestamp};
use crate::uplink::wire::Command;

/// Rejections reported as events: 20 at once, then one a minute. 10,000 rejected commands thus
/// write less than 1 MiB to the card at any rate.
const REFUSED: TokenBucket = TokenBucket::new(20, 60_000_000);
/// The same limit for accepted commands that only read. A command that keeps, sends or changes
/// something is always reported.
const ACCEPTED: TokenBucket = TokenBucket::new(20, 60_000_000);
/// Rejections answered: ten at once, then two a second, to spare the uplink.
const ANSWERED: TokenBucket = TokenBucket::new(10, 500_000);
/// Commands that only read.
const READ: [&str; 5] = ["ping", "locks", "ring-status", "log-tail", "event-get"];
/// Fill level of the outbox in percent from which on rejections, and acceptances, are only counted.
const REFUSED_BELOW: u64 = 50;
const ACCEPTED_BELOW: u64 = 75;
/// Characters of a key id and of a command name in an event.
const KEY_MAX: usize = 16;
const NAME_MAX: usize = 32;

/// Rate limits and counters of the audit trail.
pub struct AccessTrail {
    refused: TokenBucket,
    accepted: TokenBucket,
    answered: TokenBucket,
    /// Commands that no event reports, since the last event.
    suppressed_count: u64,
    /// Rejected commands since boot.
    pub rejected: RejectedCommands,
    /// Highest command number of each key since boot. Used only where the device stores no
    /// configuration.
    highest: BTreeMap<String, u64>,
}

impl Default for AccessTrail {
    fn default() -> AccessTrail {
        let (refused, accepted, answered) = (REFUSED, ACCEPTED, ANSWERED);
        AccessTrail {
            refused,
            accepted,
            answered,
            suppressed_count: 0,
            rejected: RejectedCommands::default(),
            highest: BTreeMap::new(),
        }
    }
}

/// The outcome of authorization.
pub(super) enum Authorization {
    /// Execute the command.
    Now,
    /// Execute the command once its number is durable.
    Later,
    /// Rejected, with the answer to send; `None` when the answer limit is reached.
    No(Option<String>),
}

impl AccessTrail {
    /// Whether an event may report this command, at a fill level of `full` percent. A command that
    /// may not be reported is counted.
    fn may_report(&mut self, now: MonoTime, name: &str, refused: bool, full: u64) -> bool {
        let may = if refused {
            full < REFUSED_BELOW && self.refused.take(now)
        } else {
            full < ACCEPTED_BELOW && (!READ.contains(&name) || self.accepted.take(now))
        };
        self.suppressed_count += u64::from(!may);
        may
    }
}

impl Agent {
    /// Whether a command may be executed now. A signed one waits until its number is durable.
    /// Acceptances and rejections are reported.
    pub(super) fn may_command(
        &mut self,
        now: Timestamp,
        command: &Command,
        out: &mut Vec<AgentEffect>,
    ) -> Authorization {
        let request = CommandRequest {
            name: &command.name,
            req_id: &command.req_id,
            expires: command.expires.as_deref(),
            args: &command.args,
        };
        let mut effects = Vec::new();
        let verdict = match &mut self.configuration {
            Some(configuration) => configuration.command(now, request, command, &mut effects),
            None => self.check_signature(now, request),
        };
        let may = match verdict {
            // The command is unsigned and needs no signature: no audit event.
            Ok(None) => return Authorization::Now,
            Ok(Some(waits)) => {
                self.report_access(now, command, None);
                if waits { Authorization::Later } else { Authorization::Now }
            }
            Err(refusal) => {
                let busy = refusal.why == RejectReason::Busy;
                let counts = &mut self.access.rejected;
                *(if busy { &mut counts.throttled } else { &mut counts.unauthorized }) += 1;
                if !busy {
                    self.report_access(now, command, Some(&refusal));
                }
                Authorization::No(self.access.answered.take(now.mono).then(|| refusal.line()))
            }
        };
        self.configured(now, effects, out);
        self.publish_signers(out);
        may
    }

    /// Checks a command where the device stores no configuration: `Some(false)` for a valid
    /// signature, `None` where none is needed.
    fn check_signature(
        &mut self,
        now: Timestamp,
        request: CommandRequest<'_>,
    ) -> Result<Option<bool>, Rejection> {
        let keys = &self.settings.remote.keys;
        if keys.is_empty() || !request.args.contains_key("sig") {
            return signed_command::unsigned(keys, request).map(|()| None);
        }
        let highest = |key: &str| self.access.highest.get(key).copied().unwrap_or(0);
        let signed = signed_command::check(&self.site, keys, request, now, highest)?;
        self.access.highest.insert(signed.key, signed.n);
        Ok(Some(false))
    }

    fn report_access(&mut self, now: Timestamp, command: &Command, refusal: Option<&Rejection>) {
        let full = self.outbox.percent();
        // While drafts wait for the card, a rejection is treated as if the outbox were full.
        let full = if self.spool.is_clear() || refusal.is_none() { full } else { 100 };
        if !self.access.may_report(now.mono, &command.name, refusal.is_some(), full) {
            return;
        }
        let key = command.args.get("sig").and_then(|sig| sig["key"].as_str()).unwrap_or_default();
        let (key, name): (String, String) =
            (key.chars().take(KEY_MAX).collect(), command.name.chars().take(NAME_MAX).collect());
        let mut data =
            json!({"command": name, "req_id": command.req_id, "key": key, "verdict": "accepted"});
        if let Some(refusal) = refusal {
            data["verdict"] = json!(refusal.why);
            data["detail"] = json!(refusal.detail);
        }
        if self.access.suppressed_count > 0 {
            data["suppressed_count"] =
                Value::from(std::mem::take(&mut self.access.suppressed_count));
        }
        self.event(now, kind::ACCESS, None, data);
    }
}
