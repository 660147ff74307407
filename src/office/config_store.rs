//! Configurations in the archive: documents sent to devices, and the devices' reports.
//!
//! A device that asks gets the newest document of its site. A device that runs a document on trial
//! gets its confirmation.

use serde::Serialize;
use serde_json::{Value, json};

use super::archive::Archive;
use super::error::ArchiveError;
use super::ingest_outcome::IngestOutcome;
use super::notice::{Fault, Notice};
use crate::remote_config::signed_document::Document;
use crate::units::{Digest, SiteId};
use crate::uplink::topics;

/// Bytes of a report at most.
const REPORT_MAX: usize = 64 << 10;

/// One line of `office config history`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfigRow {
    /// Id of the document: key id, `-`, version.
    pub id: String,
    /// Version, from 1.
    pub version: u64,
    /// SHA-256 of the text, in hex.
    pub sha256: String,
    /// RFC 3339 time at which the document was signed.
    pub made: String,
    /// `committed`, the rejection, or empty before the device's report.
    pub outcome: String,
}

impl Archive {
    /// Stores a signed document before it is sent.
    ///
    /// # Errors
    /// When the database fails.
    pub fn store_config(&self, document: &Document, now: &str) -> Result<(), ArchiveError> {
        let Document { site, version, sig, .. } = document;
        let key = sig.as_ref().map(|sig| sig.key.clone()).unwrap_or_default();
        let entry = ConfigRow {
            id: format!("{key}-{version}"),
            version: *version,
            sha256: document.sha256().hex(),
            made: now.to_owned(),
            outcome: String::new(),
        };
        self.index.insert_config(site, &entry, &document.encode())
    }

    /// Ingests one message of `taimat/v1/{site}/up/config/…` in the transaction of its batch.
    pub(super) fn take_config(
        &self,
        site: &SiteId,
        tail: &str,
        payload: &[u8],
        now: &str,
    ) -> Result<IngestOutcome, ArchiveError> {
        match tail {
            "config/get" => self.config_requested(site),
            _ => self.config_reported(site, payload, now),
        }
    }

    /// Answers a device's request with the newest document.
    fn config_requested(&self, site: &SiteId) -> Result<IngestOutcome, ArchiveError> {
        // A document that the device rejected is sent too: the device knows its version as used.
        let document = self.index.newest_document(site.as_str())?;
        let publish = document.map(|document| (topics::dn(site, "config/answer"), document));
        Ok(IngestOutcome { publish, ..IngestOutcome::default() })
    }

    /// Stores a device's report, and confirms the document on trial.
    fn config_reported(
        &self,
        site: &SiteId,
        payload: &[u8],
        now: &str,
    ) -> Result<IngestOutcome, ArchiveError> {
        let report = Some(payload).filter(|payload| payload.len() <= REPORT_MAX);
        let Some(report) = report.and_then(|payload| serde_json::from_slice::<Value>(payload).ok())
        else {
            return Ok(IngestOutcome::fault(
                Fault::MessageInvalid,
                "a report of a configuration".to_owned(),
            ));
        };
        let before = self.reported(site)?;
        self.index.set_reported(site.as_str(), payload, now)?;
        for (part, last) in [("last", &report["last"]), ("refused", &report["refused"])] {
            if let Some(id) = last["id"].as_str() {
                // A repetition is rejected as `replayed`; the first outcome says what happened.
                let (outcome, is_last) = (outcome(part, last), part == "last");
                self.index.set_config_outcome(site.as_str(), id, &outcome, is_last)?;
            }
        }
        let (phase, id) = (&report["phase"], &report["id"]);
        let is_changed = before.is_none_or(|before| {
            (&before["phase"], &before["id"], &before["last"]) != (phase, id, &report["last"])
        });
        let notice = is_changed.then(|| Notice::Configuration {
            site: site.clone(),
            id: text(id).to_owned(),
            phase: text(phase).to_owned(),
        });
        let publish = self
            .confirmation(site, &report)?
            .map(|confirm| (topics::dn(site, "config/confirm"), confirm));
        Ok(IngestOutcome { publish, notice, ..IngestOutcome::default() })
    }

    /// The confirmation of a document on trial: it was sent from this archive, or it is a local
    /// edit or a rollback on the device.
    fn confirmation(&self, site: &SiteId, report: &Value) -> Result<Option<Vec<u8>>, ArchiveError> {
        let (Some(nonce), "trial") = (report["nonce"].as_str(), text(&report["phase"])) else {
            return Ok(None);
        };
        let (id, sha256) = (text(&report["id"]), text(&report["sha256"]));
        let is_ours = self.index.knows_config(site.as_str(), id, sha256)?;
        let is_local = report["origin"] == "file" || report["origin"] == "rollback";
        let confirm = json!({"id": id, "sha256": sha256, "nonce": nonce});
        Ok((is_ours || is_local).then(|| confirm.to_string().into_bytes()))
    }

    /// A device's newest report of its configuration.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn reported(&self, site: &SiteId) -> Result<Option<Value>, ArchiveError> {
        let payload = self.index.reported(site.as_str())?;
        Ok(payload.and_then(|payload| serde_json::from_slice(&payload).ok()))
    }

    /// The text of a configuration; `None` when it was not sent from this archive.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn config_text(
        &self,
        site: &SiteId,
        sha256: &Digest,
    ) -> Result<Option<String>, ArchiveError> {
        let document = self.index.document_of(site.as_str(), &sha256.hex())?;
        Ok(document
            .and_then(|bytes| Document::decode(&bytes, bytes.len()).ok())
            .map(|document| document.config))
    }

    /// The documents sent to a device, oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn documents(&self, site: &SiteId) -> Result<Vec<Document>, ArchiveError> {
        let documents = self.index.documents(site.as_str())?;
        Ok(documents.iter().filter_map(|bytes| Document::decode(bytes, bytes.len()).ok()).collect())
    }

    /// The history of a device's documents, oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn configs(&self, site: &SiteId) -> Result<Vec<ConfigRow>, ArchiveError> {
        self.index.configs(site.as_str())
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

/// The outcome of a document in one line: `committed` or the rejection.
fn outcome(part: &str, last: &Value) -> String {
    match &last["refusal"] {
        Value::Null if part == "last" => "committed".into(),
        refusal => super::rollout::line(refusal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote_config::signed_document::tests::{RFC, key};

    fn document(version: u64) -> Document {
        let config = format!("version {version}");
        let not_after = "2030-01-01T00:00:00.000Z".into();
        let document = Document {
            v: 1,
            site: "km-17".into(),
            version,
            prev_sha256: Digest::default(),
            not_after,
            config,
            sig: None,
        };
        document.signed(&key(RFC))
    }

    #[test]
    fn a_device_gets_the_newest_document_and_its_own_nonce() {
        let dir = tempfile::tempdir().unwrap();
        let archive = Archive::open(dir.path()).unwrap();
        let site = SiteId::parse("km-17").unwrap();
        let take = |tail: &str, payload: &Value| {
            let answer =
                archive.take_config(&site, tail, payload.to_string().as_bytes(), "t").unwrap();
            answer
                .publish
                .map(|(topic, payload)| (topic.replace("taimat/v1/km-17/dn/", ""), payload))
        };
        assert_eq!(take("config/get", &json!({})), None);
        for version in [1, 2] {
            archive.store_config(&document(version), "2026-11-25T00:00:00Z").unwrap();
        }
        let (tail, newest) = take("config/get", &json!({})).unwrap();
        assert_eq!(
            (tail.as_str(), Document::decode(&newest, newest.len()).unwrap()),
            ("config/answer", document(2))
        );
        let id = format!("{}-2", document(2).sig.unwrap().key);
        let trial = |id: &str, sha256: Digest, origin: &str| json!({"phase": "trial", "id": id, "sha256": sha256, "origin": origin, "nonce": "n1"});
        let (tail, confirm) =
            take("config/reported", &trial(&id, document(2).sha256(), "key")).unwrap();
        let confirm: Value = serde_json::from_slice(&confirm).unwrap();
        assert_eq!(
            (tail.as_str(), &confirm["nonce"], &confirm["id"]),
            ("config/confirm", &json!("n1"), &json!(id))
        );
        assert_eq!(
            take("config/reported", &trial(&id, document(1).sha256(), "key")),
            None,
            "another text than was sent"
        );
        assert!(take("config/reported", &trial("file-1", Digest::default(), "file")).is_some());
        let done = json!({"phase": "committed", "id": id, "last": {"id": id, "refusal": null}});
        assert_eq!(take("config/reported", &done), None);
        assert_eq!(archive.configs(&site).unwrap()[1].outcome, "committed");
        let again = json!({"phase": "committed", "id": id, "refused": {"id": id, "refusal": {"why": "replayed", "detail": "again"}}});
        assert_eq!(take("config/reported", &again), None);
        assert_eq!(
            archive.configs(&site).unwrap()[1].outcome,
            "committed",
            "a repetition leaves it committed"
        );
        let id = id.replace("-2", "-1");
        let whys = ["busy", "schema", "replayed", "expired"];
        for why in whys {
            let refused = json!({"id": id, "refusal": {"why": why, "detail": "so"}});
            take("config/reported", &json!({"phase": "committed", "refused": refused}));
        }
        assert_eq!(archive.configs(&site).unwrap()[0].outcome, "schema: so", "the first reason");
        assert_eq!(
            archive.config_text(&site, &document(1).sha256()).unwrap().unwrap(),
            "version 1"
        );
    }
}
