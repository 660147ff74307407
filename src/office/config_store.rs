//! ⇄ Configurations in the archive: what was sent to each device, and what it answered. A device that asks gets the newest document; one that
//! tries it gets its confirmation, on the session it tries it with.
//!
//! What belongs here: keeping and answering. What does not: signing and sending ([`super::rollout`], the command line).

use rusqlite::{OptionalExtension as _, params};
use serde::Serialize;
use serde_json::{Value, json};

use super::archive::{Archive, IngestOutcome};
use crate::remote_config::signed_document::Document;
use crate::units::{Digest, SiteId};
use crate::uplink::topics;

/// The tables.
pub(super) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS configs (site TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL, sha256 TEXT NOT NULL,
        document BLOB NOT NULL, made TEXT NOT NULL, outcome TEXT NOT NULL DEFAULT '', PRIMARY KEY (site, id));
    CREATE TABLE IF NOT EXISTS reported (site TEXT PRIMARY KEY, payload BLOB NOT NULL, received TEXT NOT NULL);
";
/// Bytes of a report at most.
const REPORT_MAX: usize = 64 << 10;

/// What a message about a configuration leads to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct ConfigAnswer {
    /// Topic and payload.
    publish: Option<(String, Vec<u8>)>,
    /// For people who watch.
    line: Option<String>,
}

/// One line of `office config history`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfigRow {
    /// Key and number.
    pub id: String,
    /// The number.
    pub version: u64,
    /// Of its text.
    pub sha256: String,
    /// RFC 3339 time it was made.
    pub made: String,
    /// `committed`, why not, or empty while the device has not said.
    pub outcome: String,
}

impl Archive {
    /// Keeps a document that is about to be sent.
    ///
    /// # Errors
    /// When the database refuses, or the document is not signed.
    pub fn store_config(&self, document: &Document, now: &str) -> anyhow::Result<()> {
        let Document { site, version, sig, .. } = document;
        let key = sig.as_ref().map(|sig| sig.key.clone()).unwrap_or_default();
        self.index.db.execute(
            "INSERT OR REPLACE INTO configs (site, id, version, sha256, document, made) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![site, format!("{key}-{version}"), version, document.sha256().hex(), document.encode(), now],
        )?;
        Ok(())
    }

    /// Takes one message from `taimat/v1/{site}/up/config/…`, within its batch's transaction.
    pub(super) fn take_config(&self, site: &SiteId, tail: &str, payload: &[u8], now: &str) -> anyhow::Result<IngestOutcome> {
        let answer = match tail {
            "config/get" => self.config_asked(site),
            _ => self.config_reported(site, payload, now),
        }?;
        Ok(IngestOutcome { publish: answer.publish, line: answer.line, ..IngestOutcome::default() })
    }

    /// A device asks what it should run.
    fn config_asked(&self, site: &SiteId) -> anyhow::Result<ConfigAnswer> {
        // One that was refused need not be sent again: its number is used up.
        let query = "SELECT document FROM configs WHERE site = ?1 ORDER BY made DESC, version DESC LIMIT 1";
        let document: Option<Vec<u8>> = self.index.db.query_row(query, params![site.as_str()], |row| row.get(0)).optional()?;
        let publish = document.map(|document| (topics::dn(site, "config/answer"), document));
        Ok(ConfigAnswer { publish, line: None })
    }

    /// A device says what it runs. What is on trial is confirmed when it is ours, or a hand's on the device.
    fn config_reported(&self, site: &SiteId, payload: &[u8], now: &str) -> anyhow::Result<ConfigAnswer> {
        let Some(report) =
            Some(payload).filter(|payload| payload.len() <= REPORT_MAX).and_then(|p| serde_json::from_slice::<Value>(p).ok())
        else {
            return Ok(ConfigAnswer { line: Some(format!("{site}: a report that cannot be read")), publish: None });
        };
        let before = self.reported(site)?;
        self.index.change(
            "INSERT OR REPLACE INTO reported (site, payload, received) VALUES (?1, ?2, ?3)",
            params![site.as_str(), payload, now],
        )?;
        for (part, last) in [("last", &report["last"]), ("refused", &report["refused"])] {
            if let Some(id) = last["id"].as_str() {
                // A refused repeat of what runs does not undo it.
                let change = "UPDATE configs SET outcome = ?3 WHERE site = ?1 AND id = ?2 AND (?4 OR outcome != 'committed')";
                self.index.change(change, params![site.as_str(), id, outcome(part, last), part == "last"])?;
            }
        }
        let (phase, id) = (&report["phase"], &report["id"]);
        let update =
            before.is_none_or(|before| (&before["phase"], &before["id"], &before["last"]) != (phase, id, &report["last"]));
        let line = update.then(|| format!("{site}  configuration {}: {}", text(id), text(phase)));
        let publish = self.confirmation(site, &report)?.map(|confirm| (topics::dn(site, "config/confirm"), confirm));
        Ok(ConfigAnswer { publish, line })
    }

    fn confirmation(&self, site: &SiteId, report: &Value) -> anyhow::Result<Option<Vec<u8>>> {
        let (Some(nonce), "trial") = (report["nonce"].as_str(), text(&report["phase"])) else {
            return Ok(None);
        };
        let (id, sha256) = (text(&report["id"]), text(&report["sha256"]));
        let query = "SELECT count(*) FROM configs WHERE site = ?1 AND id = ?2 AND sha256 = ?3";
        let ours: u64 = self.index.db.query_row(query, params![site.as_str(), id, sha256], |row| row.get(0))?;
        let by_hand = report["origin"] == "file" || report["origin"] == "rollback";
        let confirm = json!({"id": id, "sha256": sha256, "nonce": nonce});
        Ok((ours > 0 || by_hand).then(|| confirm.to_string().into_bytes()))
    }

    /// What a device said last of its configuration.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn reported(&self, site: &SiteId) -> anyhow::Result<Option<Value>> {
        let query = "SELECT payload FROM reported WHERE site = ?1";
        let payload: Option<Vec<u8>> = self.index.db.query_row(query, params![site.as_str()], |row| row.get(0)).optional()?;
        Ok(payload.and_then(|payload| serde_json::from_slice(&payload).ok()))
    }

    /// The text of a configuration, when it was sent from here.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn config_text(&self, site: &SiteId, sha256: &Digest) -> anyhow::Result<Option<String>> {
        let query = "SELECT document FROM configs WHERE site = ?1 AND sha256 = ?2 LIMIT 1";
        let document: Option<Vec<u8>> =
            self.index.db.query_row(query, params![site.as_str(), sha256.hex()], |row| row.get(0)).optional()?;
        Ok(document.and_then(|bytes| Document::decode(&bytes, bytes.len()).ok()).map(|document| document.config))
    }

    /// The documents sent to a device, oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn documents(&self, site: &SiteId) -> anyhow::Result<Vec<Document>> {
        let mut query = self.index.db.prepare("SELECT document FROM configs WHERE site = ?1 ORDER BY made, version")?;
        let rows = query.query_map(params![site.as_str()], |row| row.get::<_, Vec<u8>>(0))?;
        let documents = rows.collect::<Result<Vec<_>, _>>()?;
        Ok(documents.iter().filter_map(|bytes| Document::decode(bytes, bytes.len()).ok()).collect())
    }

    /// Everything sent to a device, oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn configs(&self, site: &SiteId) -> anyhow::Result<Vec<ConfigRow>> {
        let query = "SELECT id, version, sha256, made, outcome FROM configs WHERE site = ?1 ORDER BY made, version";
        let mut query = self.index.db.prepare(query)?;
        let rows = query.query_map(params![site.as_str()], |row| {
            Ok(ConfigRow { id: row.get(0)?, version: row.get(1)?, sha256: row.get(2)?, made: row.get(3)?, outcome: row.get(4)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

/// How a document ended, in one line.
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
        let document =
            Document { v: 1, site: "km-17".into(), version, prev_sha256: Digest::default(), not_after, config, sig: None };
        document.signed(&key(RFC))
    }

    #[test]
    fn a_box_gets_the_newest_document_and_its_own_nonce_back() {
        let dir = tempfile::tempdir().unwrap();
        let archive = Archive::open(dir.path()).unwrap();
        let site = SiteId::parse("km-17").unwrap();
        let take = |tail: &str, payload: &Value| {
            let answer = archive.take_config(&site, tail, payload.to_string().as_bytes(), "t").unwrap();
            answer.publish.map(|(topic, payload)| (topic.replace("taimat/v1/km-17/dn/", ""), payload))
        };
        assert_eq!(take("config/get", &json!({})), None);
        for version in [1, 2] {
            archive.store_config(&document(version), "2026-11-25T00:00:00Z").unwrap();
        }
        let (tail, newest) = take("config/get", &json!({})).unwrap();
        assert_eq!((tail.as_str(), Document::decode(&newest, newest.len()).unwrap()), ("config/answer", document(2)));
        let id = format!("{}-2", document(2).sig.unwrap().key);
        let trial = |id: &str, sha256: Digest, origin: &str| json!({"phase": "trial", "id": id, "sha256": sha256, "origin": origin, "nonce": "n1"});
        let (tail, confirm) = take("config/reported", &trial(&id, document(2).sha256(), "key")).unwrap();
        let confirm: Value = serde_json::from_slice(&confirm).unwrap();
        assert_eq!((tail.as_str(), &confirm["nonce"], &confirm["id"]), ("config/confirm", &json!("n1"), &json!(id)));
        assert_eq!(take("config/reported", &trial(&id, document(1).sha256(), "key")), None, "not what was sent");
        assert!(take("config/reported", &trial("file-1", Digest::default(), "file")).is_some());
        let done = json!({"phase": "committed", "id": id, "last": {"id": id, "refusal": null}});
        assert_eq!(take("config/reported", &done), None);
        assert_eq!(archive.configs(&site).unwrap()[1].outcome, "committed");
        let again =
            json!({"phase": "committed", "id": id, "refused": {"id": id, "refusal": {"why": "replayed", "detail": "again"}}});
        assert_eq!(take("config/reported", &again), None);
        assert_eq!(archive.configs(&site).unwrap()[1].outcome, "committed", "a repeat does not undo it");
        assert_eq!(archive.config_text(&site, &document(1).sha256()).unwrap().unwrap(), "version 1");
    }
}
