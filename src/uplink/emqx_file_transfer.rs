//! EMQX file transfer in its asynchronous form (`$file-async/…`): topics, payloads and answers.
//!
//! The broker itself assembles files and reports on `$file-response/{client}`. When to publish is
//! decided in [`super::delivery`].

use serde_json::{Value, json};

use super::wire::Manifest;

/// Topic of the broker's answers.
pub fn answers(client_id: &str) -> String {
    format!("$file-response/{client_id}")
}

/// `$file-async/{fid}/{tail}`.
pub fn topic(fid: &str, tail: &str) -> String {
    format!("$file-async/{fid}/{tail}")
}

/// The payload of `init`. The manifest is its `user_data`.
pub fn init(manifest: &Manifest) -> Vec<u8> {
    let init = json!({"name": manifest.name, "size": manifest.size, "checksum": manifest.sha256.hex(), "user_data": manifest});
    serde_json::to_vec(&init).unwrap_or_default()
}

/// The last levels of the `fin` topic: size and SHA-256 of the file.
pub fn fin(manifest: &Manifest) -> String {
    format!("fin/{}/{}", manifest.size, manifest.sha256.hex())
}

/// The step of a transfer that an answer concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmqxMessage {
    /// `init`.
    Init,
    /// A chunk.
    Chunk,
    /// `fin`: the broker has assembled the file and checked its digest.
    Fin,
}

/// An answer of the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmqxReply {
    /// File id.
    pub fid: String,
    /// The step.
    pub part: EmqxMessage,
    /// True on success (`reason_code` 0).
    pub good: bool,
    /// The broker's description of the result.
    pub reason: String,
}

/// Parses an answer; `None` for any other message.
pub fn answer(topic: &str, payload: &[u8]) -> Option<EmqxReply> {
    topic.strip_prefix("$file-response/")?;
    let value: Value = serde_json::from_slice(payload).ok()?;
    let (fid, tail) = value["topic"].as_str()?.strip_prefix("$file-async/")?.split_once('/')?;
    let part = match tail.split('/').next()? {
        "init" => EmqxMessage::Init,
        "fin" => EmqxMessage::Fin,
        offset => offset.parse::<u64>().ok().map(|_| EmqxMessage::Chunk)?,
    };
    let reason = value["reason_description"].as_str().unwrap_or_default().to_owned();
    Some(EmqxReply { fid: fid.to_owned(), part, good: value["reason_code"] == 0, reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::manifest::of_still;
    use crate::units::{SiteId, Timestamp};

    #[test]
    fn answers_are_parsed_as_emqx_writes_them() {
        let payload = |topic: &str, code: u8| {
            json!({"vsn": "0.1", "topic": topic, "packet_id": 1, "reason_code": code, "reason_description": "success"})
                .to_string()
        };
        let read =
            |topic: &str, code| answer("$file-response/km-17", payload(topic, code).as_bytes());
        assert_eq!(
            read("$file-async/ab/init", 0).map(|a| (a.part, a.good)),
            Some((EmqxMessage::Init, true))
        );
        assert_eq!(read("$file-async/ab/4096", 0).map(|a| a.part), Some(EmqxMessage::Chunk));
        assert_eq!(
            read("$file-async/ab/fin/9/ff", 131).map(|a| (a.fid, a.part, a.good)),
            Some(("ab".into(), EmqxMessage::Fin, false))
        );
        assert_eq!(read("taimat/v1/x", 0), None);
        assert_eq!(
            answer("taimat/v1/km-17/dn/ack", payload("$file-async/ab/init", 0).as_bytes()),
            None
        );
    }

    #[test]
    fn init_carries_size_digest_and_manifest() {
        let manifest = of_still(&SiteId::parse("km-17").unwrap(), "e", Timestamp::default(), b"x");
        let value: Value = serde_json::from_slice(&init(&manifest)).unwrap();
        assert_eq!(
            (value["size"].as_u64(), value["checksum"].as_str()),
            (Some(1), Some(manifest.sha256.hex().as_str()))
        );
        assert_eq!(value["user_data"]["event"], "e");
        assert_eq!(fin(&manifest), format!("fin/1/{}", manifest.sha256.hex()));
    }
}
