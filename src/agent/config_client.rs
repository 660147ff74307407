//! Configuration client of the agent: feeds the configuration state machine and executes its
//! effects.
//!
//! What belongs here: passing inputs and effects, and applying settings to the agent's own state.
//! What does not: any decision about a change ([`crate::remote_config::state_machine`]).

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::config_thread::{ConfigRequest, ConfigUpdate};
use super::events::{self, kind};
use super::{Agent, AgentEffect};
use crate::remote_config::action::{self, Applied, ConfigInput};
use crate::remote_config::known_ring::KnownRing;
use crate::remote_config::rejection::Rejection;
use crate::remote_config::signed_command::CommandRequest;
use crate::remote_config::state_machine::{COMMANDS_MAX, ConfigMachine};
use crate::settings::diff::SettingsDiff;
use crate::storage::StorageRequest;
use crate::units::Timestamp;
use crate::uplink::UplinkRequest;
use crate::uplink::wire::Command;

/// The state machine, and signed commands whose numbers are not durable yet.
pub struct ConfigClient {
    pub(super) machine: ConfigMachine,
    awaiting_number: VecDeque<Command>,
    /// Why boot rejected the configuration file; taken once it is reported.
    refused: Option<Rejection>,
    /// The ring of the last boot, `Some(None)` at the first one; `None` with a ring in memory.
    ring: Option<Option<KnownRing>>,
}

impl ConfigClient {
    /// Authorizes a command: `Some(true)` when it must wait until its number is durable, `None`
    /// when it needs no signature.
    pub(super) fn command(
        &mut self,
        now: Timestamp,
        request: CommandRequest<'_>,
        command: &Command,
        out: &mut Vec<action::ConfigEffect>,
    ) -> Result<Option<bool>, Rejection> {
        let waits = self.machine.command(now, request, out)?;
        if waits {
            self.awaiting_number.push_back(command.clone());
        }
        Ok(waits.then_some(true))
    }
}

impl Agent {
    /// Sends the enrolled keys and their highest numbers to the uplink when they changed. The
    /// uplink drops commands that cannot be valid before it verifies their signature.
    pub(super) fn publish_signers(&mut self, out: &mut Vec<AgentEffect>) {
        let signers = match &self.configuration {
            Some(configuration) => configuration.machine.signers(),
            None => self.settings.remote.keys.iter().map(|key| (key.id(), 0)).collect(),
        };
        if self.signers.as_ref() != Some(&signers) {
            self.signers = Some(signers.clone());
            out.push(AgentEffect::Uplink(UplinkRequest::Signers(signers)));
        }
    }

    /// Adds a configuration that can change at runtime. `refused` says why boot rejected the
    /// configuration file; `None` when it did not. `ring` is the ring of the last boot, `Some(None)`
    /// at the first one; `None` when the ring lies in memory.
    #[must_use]
    pub fn with_configuration(
        mut self,
        machine: ConfigMachine,
        refused: Option<Rejection>,
        ring: Option<Option<KnownRing>>,
    ) -> Agent {
        self.configuration = Some(ConfigClient {
            machine,
            awaiting_number: VecDeque::with_capacity(COMMANDS_MAX),
            refused,
            ring,
        });
        self
    }

    /// Compares the ring of this boot with that of the last one, reports a new or another one, and
    /// remembers it.
    pub(super) fn compare_ring(&mut self, now: Timestamp, record: u64, out: &mut Vec<AgentEffect>) {
        let known = self.configuration.as_mut().and_then(|configuration| configuration.ring.take());
        let Some(before) = known else { return };
        let dir = self.settings.storage.dir.display().to_string();
        let (ring, boot, at) = (self.ring, self.boot, now.wall.rfc3339());
        let found = KnownRing { dir, ring, boot, record, at };
        if let Some((before, change)) =
            before.and_then(|before| before.change(&found).map(|change| (before, change)))
        {
            tracing::warn!(
                dir = found.dir, ring = %ring, before = %before.ring, last_boot = before.at,
                "{}; check the card", change.meaning()
            );
            let before = json!({"ring": before.ring, "boot": before.boot, "record": before.record, "at": before.at});
            let detail = events::text(change.meaning());
            let data =
                json!({"state": change.as_str(), "ring": ring, "before": before, "detail": detail});
            self.event(now, kind::CARD, None, data);
        }
        out.push(AgentEffect::Config(ConfigRequest::RememberRing(Box::new(found))));
    }

    /// Feeds one input to the state machine and executes its effects.
    pub(super) fn configure(
        &mut self,
        now: Timestamp,
        input: ConfigInput,
        out: &mut Vec<AgentEffect>,
    ) {
        let Some(configuration) = &mut self.configuration else {
            return;
        };
        let mut effects = Vec::new();
        configuration.machine.handle(now, input, &mut effects);
        self.configured(now, effects, out);
        self.publish_signers(out);
    }

    /// Executes effects of the state machine.
    pub(super) fn configured(
        &mut self,
        now: Timestamp,
        effects: Vec<action::ConfigEffect>,
        out: &mut Vec<AgentEffect>,
    ) {
        for effect in effects {
            match effect {
                action::ConfigEffect::Judge { text, sha256, probe } => {
                    out.push(AgentEffect::Config(ConfigRequest::Judge { text, sha256, probe }))
                }
                action::ConfigEffect::Save(record, text) => {
                    out.push(AgentEffect::Config(ConfigRequest::Save(record, text)))
                }
                action::ConfigEffect::Apply(applied) => self.apply(*applied, out),
                action::ConfigEffect::Restart => {
                    self.restart = true;
                    self.start_shutdown(now, out);
                }
                action::ConfigEffect::Report(report) => {
                    out.push(AgentEffect::Uplink(UplinkRequest::Reported(bytes(&report))))
                }
                action::ConfigEffect::Event(data) => self.event(now, kind::CONFIG, None, data),
                action::ConfigEffect::Ask => {
                    out.push(AgentEffect::Uplink(UplinkRequest::RequestConfig))
                }
                action::ConfigEffect::Carry => {
                    let next = self
                        .configuration
                        .as_mut()
                        .and_then(|configuration| configuration.awaiting_number.pop_front());
                    if let Some(command) = next {
                        self.carry_command(now, command, out);
                    }
                }
            }
        }
    }

    /// Reports the configuration after boot: a change that is on trial or was rolled back, and a
    /// rejected file.
    pub(super) fn configuration_started(&mut self, now: Timestamp) {
        let Some(configuration) = &mut self.configuration else {
            return;
        };
        let record = configuration.machine.record();
        let (word, last) = (configuration.machine.as_str(), record.last.as_ref());
        let state = match word {
            "safe_mode" | "rolled_back" | "trial" => {
                let refusal =
                    last.and_then(|last| last.refusal.as_ref()).filter(|_| word != "trial");
                let id = record.trial().map_or_else(
                    || last.map(|last| last.next.id.clone()),
                    |trial| Some(trial.next.id.clone()),
                );
                Some(crate::remote_config::status_report::event(
                    word,
                    &id.unwrap_or_default(),
                    None,
                    refusal,
                ))
            }
            _ => None,
        };
        let refused = configuration.refused.take().map(|refusal| {
            crate::remote_config::status_report::event("refused", "file", None, Some(&refusal))
        });
        for data in state.into_iter().chain(refused) {
            self.event(now, kind::CONFIG, None, data);
        }
    }

    /// Applies new settings: first the agent's own, then those of each changed module.
    fn apply(&mut self, applied: Applied, out: &mut Vec<AgentEffect>) {
        let Applied { settings, epoch, fresh } = applied;
        let change = SettingsDiff::between(&self.settings, &settings);
        if change.storage {
            let storage = &settings.storage;
            let (budget, pin_quota, endurance) =
                (storage.budget, storage.pin_quota, storage.endurance);
            out.push(AgentEffect::Storage(StorageRequest::Resize { budget, pin_quota, endurance }));
        }
        if change.uplink {
            self.outbox.resize(settings.uplink.outbox_bytes);
        }
        if change.camera {
            self.gauges.camera_changed(settings.camera.sub_url.is_some());
        }
        // The other storage settings shape files and take effect at the next boot.
        let mut storage = self.settings.storage.clone();
        storage.budget = settings.storage.budget;
        storage.pin_quota = settings.storage.pin_quota;
        storage.endurance = settings.storage.endurance;
        self.settings =
            crate::settings::Settings { storage, site: self.settings.site.clone(), ..settings };
        let settings = Box::new(self.settings.clone());
        out.push(AgentEffect::Apply { settings, change: Box::new(change), epoch, fresh });
    }

    pub(super) fn config_update(
        &mut self,
        now: Timestamp,
        update: ConfigUpdate,
        out: &mut Vec<AgentEffect>,
    ) {
        match update {
            ConfigUpdate::Machine(input) => self.configure(now, input, out),
            ConfigUpdate::Checked { req_id, cmd, outcome } => match outcome {
                Ok(found) => self.reply(&req_id, cmd, "ok", "", found, out),
                Err(refusal) => {
                    let data = json!({"reason": refusal.why, "errors": refusal.errors});
                    self.reply(&req_id, cmd, "error", &refusal.detail, data, out);
                }
            },
        }
    }

    /// `config-check`: a dry run. With `probe` set to `"yes"` it also connects to the camera and
    /// the brokers.
    pub(super) fn config_check(
        &mut self,
        command: &Command,
        out: &mut Vec<AgentEffect>,
    ) -> Result<(), String> {
        if self.configuration.is_none() {
            return Err("this device stores no configurations".into());
        }
        let text = command
            .args
            .get("config")
            .and_then(Value::as_str)
            .ok_or("config is missing: the whole TOML text")?
            .to_owned();
        if text.len() > crate::remote_config::signed_document::CONFIG_MAX {
            return Err(format!(
                "config has {} bytes; at most {}",
                text.len(),
                crate::remote_config::signed_document::CONFIG_MAX
            ));
        }
        let probe = match command.args.get("probe") {
            None => false,
            Some(probe) if probe == "yes" => true,
            Some(_) => return Err("probe must be yes, or be left out".into()),
        };
        let (req_id, now) = (command.req_id.clone(), Box::new(self.settings.clone()));
        out.push(AgentEffect::Config(ConfigRequest::Check { req_id, text, now, probe }));
        Ok(())
    }

    /// `config-show`: the text in force. It holds no secrets, only the names of files that do.
    pub(super) fn config_show(
        &self,
        command: &Command,
        out: &mut Vec<AgentEffect>,
    ) -> Result<(), String> {
        let configuration =
            self.configuration.as_ref().ok_or("this device stores no configurations")?;
        let sha256 = configuration.machine.record().committed.sha256;
        out.push(AgentEffect::Config(ConfigRequest::Show {
            req_id: command.req_id.clone(),
            sha256,
        }));
        Ok(())
    }
}

fn bytes(report: &Value) -> Vec<u8> {
    serde_json::to_vec(report).unwrap_or_default()
}
