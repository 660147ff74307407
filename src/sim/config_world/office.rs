//! Office and local edits of the simulated device: changes, and the check that it is reachable.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::config_scenarios::{CRASHES, FAR, LATER, NEW, RESETS, Scenario, ScenarioText};
use super::{ConfigWorld, FAIR, STORMY};
use crate::remote_config::action::{ConfigInput, FileFound};
use crate::remote_config::signed_document::Document;
use crate::units::Digest;

impl ConfigWorld {
    /// Stores the report and confirms a trial without checking the nonce: the device must check it.
    pub(super) fn office_hears(&mut self, report: Value) {
        if report["phase"] == "trial" {
            let confirm = json!({"id": report["trial"]["id"], "sha256": report["trial"]["sha256"],
                "nonce": report["nonce"].as_str().unwrap_or_default()});
            self.late.push(ConfigInput::Confirm(confirm.to_string().into_bytes()));
        }
        self.report = report;
    }

    /// Signs a text, based on the device's last report.
    pub(super) fn send(&mut self, text: &str) {
        let prev = self.report["committed"]["sha256"].as_str().and_then(Digest::from_hex);
        let prev = prev.unwrap_or_else(|| Digest::of(self.file.as_bytes()));
        self.version += 1;
        self.texts.insert(Digest::of(text.as_bytes()), text.to_owned());
        let not_after = "2099-01-01T00:00:00.000Z".to_owned();
        let (site, version, config) = ("km-17".to_owned(), self.version, text.to_owned());
        let document =
            Document { v: 1, site, version, prev_sha256: prev, not_after, config, sig: None };
        self.desired = Some(document.signed(&self.office));
        self.request_config();
    }

    /// Applies a scenario, then runs the world for a while.
    pub fn play(&mut self, scenario: Scenario) {
        let text = ScenarioText::default();
        match scenario {
            Scenario::Good => self.send(&ScenarioText { sensitivity: 6, ..text }.toml()),
            Scenario::Move => {
                for hosts in [vec![NEW, FAR], vec![FAR]] {
                    self.send(&ScenarioText { hosts, ..text.clone() }.toml());
                    self.run(60_000_000);
                }
            }
            Scenario::Restart => self.send(&ScenarioText { segment: "2 MiB", ..text }.toml()),
            Scenario::WrongLogin => self.send(&ScenarioText { login: "/wrong", ..text }.toml()),
            Scenario::WrongCamera => self.send(&ScenarioText { camera: "wrong", ..text }.toml()),
            Scenario::DeadBroker => {
                self.send(&ScenarioText { hosts: vec![NEW, "dead.example"], ..text }.toml())
            }
            Scenario::Crashes => self.send(&ScenarioText { sensitivity: CRASHES, ..text }.toml()),
            Scenario::Resets => self.send(&ScenarioText { sensitivity: RESETS, ..text }.toml()),
            Scenario::Later => {
                self.bomb = self.now + 300_000_000;
                self.send(&ScenarioText { sensitivity: LATER, ..text }.toml());
            }
            Scenario::NoKeys => self.send(&ScenarioText { keys: false, ..text }.toml()),
            Scenario::Endless => {
                self.send(&ScenarioText { trial: "90000 h", ..text.clone() }.toml());
                self.run(30_000_000);
                self.send(&ScenarioText { login: "/wrong", ..text }.toml());
            }
            Scenario::GoodHand => self.hand(ScenarioText { sensitivity: 6, ..text }.toml()),
            Scenario::WrongHand => self.hand(ScenarioText { login: "/wrong", ..text }.toml()),
            Scenario::CallBack => self.inputs.push(ConfigInput::CallBack(0)),
        }
        self.run(STORMY);
    }

    fn hand(&mut self, text: String) {
        self.texts.insert(Digest::of(text.as_bytes()), text.clone());
        self.file.clone_from(&text);
        let outcome = self.judge(&text);
        self.inputs.push(ConfigInput::File(Box::new(FileFound { text, outcome })));
    }

    /// True if the device has reported a configuration with this broker; the office switches the
    /// others off only then.
    pub fn knows(&self, host: &str) -> bool {
        let committed = self.report["committed"]["sha256"].as_str().and_then(Digest::from_hex);
        committed.and_then(|sha256| self.texts.get(&sha256)).is_some_and(|text| text.contains(host))
    }

    /// True if the device has no session while the card hangs, although every broker answers: it
    /// waits for the card.
    pub fn waits_for_its_card(&self) -> bool {
        self.files.state().hangs && self.machine.is_some() && self.session.is_none()
    }

    /// Ends all faults and leaves one broker; true if the device then commits another change.
    pub fn is_under_control(&mut self, alive: &'static str) -> bool {
        self.files.state().faults.clear();
        self.release();
        self.cut_at_step = None;
        self.alive = BTreeSet::from([alive]);
        self.desired = None;
        let until = self.now + FAIR;
        let mut asked = String::new();
        while self.now < until {
            self.run(20_000_000);
            let busy = matches!(self.report["phase"].as_str(), Some("staged" | "trial"));
            let committed =
                self.report["committed"]["sha256"].as_str().unwrap_or_default().to_owned();
            if self.session.is_none() || busy {
                continue;
            }
            if !asked.is_empty() && committed == asked {
                return true;
            }
            let Some(text) =
                Digest::from_hex(&committed).and_then(|sha256| self.texts.get(&sha256))
            else {
                continue;
            };
            // The smallest change: the same text with the remaining broker and a harmless
            // sensitivity.
            let host = format!("host = \"{alive}\"");
            let lines = text.lines().map(|line| match line.split(' ').next() {
                Some("sensitivity") => "sensitivity = 4",
                Some("host") => &host,
                Some("fallbacks") => "fallbacks = []",
                _ => line,
            });
            let text = lines.collect::<Vec<_>>().join("\n")
                + &"\n# sent again".repeat(self.version as usize)
                + "\n";
            asked = Digest::of(text.as_bytes()).hex();
            self.send(&text);
        }
        false
    }
}
