//! The office of a box on a pole, and the hand at it: what they do to it, and whether they have it under control afterwards.
//!
//! What belongs here: wishes and judgement. What does not: how the box fares ([`super`]).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::texts::{CRASHES, FAR, LATER, NEW, RESETS, Scenario, Text};
use super::{FAIR, STORMY, World};
use crate::config::document::Document;
use crate::config::machine::{FileFound, Input};
use crate::units::Digest;

impl World {
    /// The office keeps what is reported, and confirms what is on trial, whatever the nonce: it is the box that must know better.
    pub(super) fn office_hears(&mut self, report: Value) {
        if report["phase"] == "trial" {
            let confirm = json!({"id": report["trial"]["id"], "sha256": report["trial"]["sha256"],
                "nonce": report["nonce"].as_str().unwrap_or_default()});
            self.late.push(Input::Confirm(confirm.to_string().into_bytes()));
        }
        self.report = report;
    }

    /// The office signs a text for the box, as it reported last.
    pub(super) fn send(&mut self, text: &str) {
        let prev = self.report["committed"]["sha256"].as_str().and_then(Digest::from_hex);
        let prev = prev.unwrap_or_else(|| Digest::of(self.file.as_bytes()));
        self.version += 1;
        self.texts.insert(Digest::of(text.as_bytes()), text.to_owned());
        let not_after = "2099-01-01T00:00:00.000Z".to_owned();
        let (site, version, config) = ("km-17".to_owned(), self.version, text.to_owned());
        let document = Document { v: 1, site, version, prev_sha256: prev, not_after, config, sig: None };
        self.desired = Some(document.signed(&self.office));
        self.ask();
    }

    /// Does it to the box, and lets the world go on for a while.
    pub fn play(&mut self, scenario: Scenario) {
        let text = Text::default();
        match scenario {
            Scenario::Good => self.send(&Text { sensitivity: 6, ..text }.toml()),
            Scenario::Move => {
                for hosts in [vec![NEW, FAR], vec![FAR]] {
                    self.send(&Text { hosts, ..text.clone() }.toml());
                    self.run(60_000_000);
                }
            }
            Scenario::Restart => self.send(&Text { segment: "2 MiB", ..text }.toml()),
            Scenario::WrongLogin => self.send(&Text { login: "/wrong", ..text }.toml()),
            Scenario::WrongCamera => self.send(&Text { camera: "wrong", ..text }.toml()),
            Scenario::DeadBroker => self.send(&Text { hosts: vec![NEW, "dead.example"], ..text }.toml()),
            Scenario::Crashes => self.send(&Text { sensitivity: CRASHES, ..text }.toml()),
            Scenario::Resets => self.send(&Text { sensitivity: RESETS, ..text }.toml()),
            Scenario::Later => {
                self.bomb = self.now + 300_000_000;
                self.send(&Text { sensitivity: LATER, ..text }.toml());
            }
            Scenario::NoKeys => self.send(&Text { keys: false, ..text }.toml()),
            Scenario::Endless => {
                self.send(&Text { trial: "90000 h", ..text.clone() }.toml());
                self.run(30_000_000);
                self.send(&Text { login: "/wrong", ..text }.toml());
            }
            Scenario::GoodHand => self.hand(Text { sensitivity: 6, ..text }.toml()),
            Scenario::WrongHand => self.hand(Text { login: "/wrong", ..text }.toml()),
            Scenario::CallBack => self.inputs.push(Input::CallBack(0)),
        }
        self.run(STORMY);
    }

    fn hand(&mut self, text: String) {
        self.texts.insert(Digest::of(text.as_bytes()), text.clone());
        self.file.clone_from(&text);
        let outcome = self.judge(&text);
        self.inputs.push(Input::File(Box::new(FileFound { text, outcome })));
    }

    /// True when the box has told its office that it is set up with this broker: only then does anybody switch the others off.
    pub fn knows(&self, host: &str) -> bool {
        let committed = self.report["committed"]["sha256"].as_str().and_then(Digest::from_hex);
        committed.and_then(|sha256| self.texts.get(&sha256)).is_some_and(|text| text.contains(host))
    }

    /// True while the card hangs and no broker was reached, though all of them live: the box waits for an answer that never comes.
    pub fn waits_for_its_card(&self) -> bool {
        self.files.state().hangs && self.machine.is_some() && self.session.is_none()
    }

    /// From now on only one broker answers, and nothing else goes wrong: the box must take another change from its office.
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
            let committed = self.report["committed"]["sha256"].as_str().unwrap_or_default().to_owned();
            if self.session.is_none() || busy {
                continue;
            }
            if !asked.is_empty() && committed == asked {
                return true;
            }
            let Some(text) = Digest::from_hex(&committed).and_then(|sha256| self.texts.get(&sha256)) else {
                continue;
            };
            // The least that can be asked: the same, but over the broker that lives, and with a sensitivity that does no harm.
            let host = format!("host = \"{alive}\"");
            let lines = text.lines().map(|line| match line.split(' ').next() {
                Some("sensitivity") => "sensitivity = 4",
                Some("host") => &host,
                Some("fallbacks") => "fallbacks = []",
                _ => line,
            });
            let text = lines.collect::<Vec<_>>().join("\n") + &"\n# asked again".repeat(self.version as usize) + "\n";
            asked = Digest::of(text.as_bytes()).hex();
            self.send(&text);
        }
        false
    }
}
