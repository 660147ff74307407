//! The other dialect for files: EMQX's file transfer, asynchronous form (`$file-async/…`). There the broker itself puts files
//! together, and says so on `$file-response/{client}`. Its words are EMQX's; ours is only how they are made and read.
//!
//! What belongs here: names and payloads of that dialect. What does not: when they are published ([`super::delivery`]).

use serde_json::{Value, json};

use super::wire::Manifest;

/// What the broker answers on.
pub fn answers(client_id: &str) -> String {
    format!("$file-response/{client_id}")
}

/// `$file-async/{fid}/{tail}`.
pub fn topic(fid: &str, tail: &str) -> String {
    format!("$file-async/{fid}/{tail}")
}

/// The payload of `init`; our manifest travels as the user's data.
pub fn init(manifest: &Manifest) -> Vec<u8> {
    let init = json!({"name": manifest.name, "size": manifest.size, "checksum": manifest.sha256.hex(), "user_data": manifest});
    serde_json::to_vec(&init).unwrap_or_default()
}

/// The end of the topic of `fin`: size and digest of the whole.
pub fn fin(manifest: &Manifest) -> String {
    format!("fin/{}/{}", manifest.size, manifest.sha256.hex())
}

/// Which part of a transfer an answer is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmqxMessage {
    /// `init`.
    Init,
    /// A chunk.
    Chunk,
    /// `fin`: the file is put together, its digest was compared.
    Fin,
}

/// An answer of the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmqxReply {
    /// Which file.
    pub fid: String,
    /// About what.
    pub part: EmqxMessage,
    /// It worked.
    pub good: bool,
    /// The broker's words.
    pub reason: String,
}

/// Reads an answer; `None` for anything else.
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
    fn answers_are_read_as_emqx_writes_them() {
        let payload = |topic: &str, code: u8| {
            json!({"vsn": "0.1", "topic": topic, "packet_id": 1, "reason_code": code, "reason_description": "success"})
                .to_string()
        };
        let read = |topic: &str, code| answer("$file-response/km-17", payload(topic, code).as_bytes());
        assert_eq!(read("$file-async/ab/init", 0).map(|a| (a.part, a.good)), Some((EmqxMessage::Init, true)));
        assert_eq!(read("$file-async/ab/4096", 0).map(|a| a.part), Some(EmqxMessage::Chunk));
        assert_eq!(
            read("$file-async/ab/fin/9/ff", 131).map(|a| (a.fid, a.part, a.good)),
            Some(("ab".into(), EmqxMessage::Fin, false))
        );
        assert_eq!(read("taimat/v1/x", 0), None);
        assert_eq!(answer("taimat/v1/km-17/dn/ack", payload("$file-async/ab/init", 0).as_bytes()), None);
    }

    #[test]
    fn a_file_is_announced_with_size_digest_and_our_manifest() {
        let manifest = of_still(&SiteId::parse("km-17").unwrap(), "e", Timestamp::default(), b"x");
        let value: Value = serde_json::from_slice(&init(&manifest)).unwrap();
        assert_eq!((value["size"].as_u64(), value["checksum"].as_str()), (Some(1), Some(manifest.sha256.hex().as_str())));
        assert_eq!(value["user_data"]["event"], "e");
        assert_eq!(fin(&manifest), format!("fin/1/{}", manifest.sha256.hex()));
    }
}
