//! The configuration as the agent sees it: what it tells the machine, and what it does when the machine wants something.
//!
//! What belongs here: passing on, and applying settings to the agent's own state. What does not: any decision about a change
//! ([`crate::config::machine`]).

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::events::kind;
use super::keeper::{KeeperNews, KeeperOrder};
use super::{Agent, Effect};
use crate::config::command::Asked;
use crate::config::machine::{self, Applied, COMMANDS_MAX, Input, Machine};
use crate::config::refusal::Refusal;
use crate::settings::change::Change;
use crate::storage::StorageOrder;
use crate::units::Stamp;
use crate::uplink::UplinkOrder;
use crate::uplink::wire::Command;

/// The machine, and commands whose numbers are on their way to the card.
pub struct Configuration {
    pub(super) machine: Machine,
    guarded: VecDeque<Command>,
    /// What was wrong with the file at the start, until it is told.
    refused: Option<Refusal>,
}

impl Configuration {
    /// Whether a command may be carried out: `Some(true)` when its number is kept; `None` where it needs no signature.
    pub(super) fn command(
        &mut self,
        now: Stamp,
        asked: Asked<'_>,
        command: &Command,
        out: &mut Vec<machine::Effect>,
    ) -> Result<Option<bool>, Refusal> {
        let waits = self.machine.command(now, asked, out)?;
        if waits {
            self.guarded.push_back(command.clone());
        }
        Ok(waits.then_some(true))
    }
}

impl Agent {
    /// Tells the uplink who may sign, and above which number, when that is news: what cannot be good is not even verified.
    pub(super) fn tell_signers(&mut self, out: &mut Vec<Effect>) {
        let signers = match &self.configuration {
            Some(configuration) => configuration.machine.signers(),
            None => self.settings.remote.keys.iter().map(|key| (key.id(), 0)).collect(),
        };
        if self.signers.as_ref() != Some(&signers) {
            self.signers = Some(signers.clone());
            out.push(Effect::Uplink(UplinkOrder::Signers(signers)));
        }
    }

    /// The same agent with a configuration that can be changed while it runs. `refused`: what was wrong with the file at this start.
    #[must_use]
    pub fn with_configuration(mut self, machine: Machine, refused: Option<Refusal>) -> Agent {
        self.configuration = Some(Configuration { machine, guarded: VecDeque::with_capacity(COMMANDS_MAX), refused });
        self
    }

    /// Tells the machine, and does what it wants.
    pub(super) fn configure(&mut self, now: Stamp, input: Input, out: &mut Vec<Effect>) {
        let Some(configuration) = &mut self.configuration else {
            return;
        };
        let mut wanted = Vec::new();
        configuration.machine.handle(now, input, &mut wanted);
        self.configured(now, wanted, out);
        self.tell_signers(out);
    }

    pub(super) fn configured(&mut self, now: Stamp, wanted: Vec<machine::Effect>, out: &mut Vec<Effect>) {
        for effect in wanted {
            match effect {
                machine::Effect::Judge { text, sha256, probe } => {
                    out.push(Effect::Keep(KeeperOrder::Judge { text, sha256, probe }))
                }
                machine::Effect::Save(record, text) => out.push(Effect::Keep(KeeperOrder::Save(record, text))),
                machine::Effect::Apply(applied) => self.apply(*applied, out),
                machine::Effect::Restart => {
                    self.restart = true;
                    self.begin_stop(now, out);
                }
                machine::Effect::Report(report) => out.push(Effect::Uplink(UplinkOrder::Reported(bytes(&report)))),
                machine::Effect::Event(data) => self.event(now, kind::CONFIG, None, data),
                machine::Effect::Ask => out.push(Effect::Uplink(UplinkOrder::AskForConfig)),
                machine::Effect::Carry => {
                    let guarded = self.configuration.as_mut().and_then(|configuration| configuration.guarded.pop_front());
                    if let Some(command) = guarded {
                        self.carry_command(now, command, out);
                    }
                }
            }
        }
    }

    /// The first thing said after a start: a file that was refused, and the state of the configuration.
    pub(super) fn configuration_started(&mut self, now: Stamp) {
        let Some(configuration) = &mut self.configuration else {
            return;
        };
        let record = configuration.machine.record();
        let (word, last) = (configuration.machine.word(), record.last.as_ref());
        let told = match word {
            "safe_mode" | "rolled_back" | "trial" => {
                let refusal = last.and_then(|last| last.refusal.as_ref()).filter(|_| word != "trial");
                let id =
                    record.trial().map_or_else(|| last.map(|last| last.next.id.clone()), |trial| Some(trial.next.id.clone()));
                Some(crate::config::report::event(word, &id.unwrap_or_default(), None, refusal))
            }
            _ => None,
        };
        let refused =
            configuration.refused.take().map(|refusal| crate::config::report::event("refused", "file", None, Some(&refusal)));
        for data in told.into_iter().chain(refused) {
            self.event(now, kind::CONFIG, None, data);
        }
    }

    /// Goes on under other settings: the agent's own, then each room that is touched.
    fn apply(&mut self, applied: Applied, out: &mut Vec<Effect>) {
        let Applied { settings, epoch, fresh } = applied;
        let change = Change::between(&self.settings, &settings);
        if change.storage {
            let storage = &settings.storage;
            let (budget, pin_quota, endurance) = (storage.budget, storage.pin_quota, storage.endurance);
            out.push(Effect::Storage(StorageOrder::Resize { budget, pin_quota, endurance }));
        }
        if change.uplink {
            self.outbox.resize(settings.uplink.outbox_bytes);
        }
        if change.camera {
            self.gauges.camera_changed(settings.camera.sub_url.is_some());
        }
        // What shapes files counts from the next start on, whatever the settings say now.
        let mut storage = self.settings.storage.clone();
        (storage.budget, storage.pin_quota, storage.endurance) =
            (settings.storage.budget, settings.storage.pin_quota, settings.storage.endurance);
        self.settings = crate::settings::Settings { storage, site: self.settings.site.clone(), ..settings };
        let settings = Box::new(self.settings.clone());
        out.push(Effect::Apply { settings, change: Box::new(change), epoch, fresh });
    }

    pub(super) fn keeper_news(&mut self, now: Stamp, news: KeeperNews, out: &mut Vec<Effect>) {
        match news {
            KeeperNews::Machine(input) => self.configure(now, input, out),
            KeeperNews::Checked { req_id, cmd, outcome } => match outcome {
                Ok(found) => self.reply(&req_id, cmd, "ok", "", found, out),
                Err(refusal) => {
                    let data = json!({"reason": refusal.why, "errors": refusal.errors});
                    self.reply(&req_id, cmd, "error", &refusal.detail, data, out);
                }
            },
        }
    }

    /// `config-check`: a dry run beside everything else. `probe` is `"yes"` to ask camera and brokers too.
    pub(super) fn config_check(&mut self, command: &Command, out: &mut Vec<Effect>) -> Result<(), String> {
        if self.configuration.is_none() {
            return Err("this box keeps no configurations".into());
        }
        let text = command.args.get("config").and_then(Value::as_str).ok_or("config is missing: the whole TOML text")?.to_owned();
        if text.len() > crate::config::document::CONFIG_MAX {
            return Err(format!("config has {} bytes; at most {}", text.len(), crate::config::document::CONFIG_MAX));
        }
        let probe = command.args.get("probe").is_some_and(|probe| probe == "yes");
        let (req_id, now) = (command.req_id.clone(), Box::new(self.settings.clone()));
        out.push(Effect::Keep(KeeperOrder::Check { req_id, text, now, probe }));
        Ok(())
    }

    /// `config-show`: the text in force; it holds no secrets, only the names of files that do.
    pub(super) fn config_show(&self, command: &Command, out: &mut Vec<Effect>) -> Result<(), String> {
        let configuration = self.configuration.as_ref().ok_or("this box keeps no configurations")?;
        let sha256 = configuration.machine.record().committed.sha256;
        out.push(Effect::Keep(KeeperOrder::Show { req_id: command.req_id.clone(), sha256 }));
        Ok(())
    }
}

fn bytes(report: &Value) -> Vec<u8> {
    serde_json::to_vec(report).unwrap_or_default()
}
