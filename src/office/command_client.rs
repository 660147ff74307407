//! Command client: sends one command to a device, or to all of them, and waits for the reply.
//!
//! What belongs here: the command's message and its session with the broker. What does not: reading
//! arguments and printing (`cli`).
#![expect(clippy::disallowed_methods, reason = "shell: reads a clock, waits")]

use std::time::{Duration, Instant};

use ring::signature::Ed25519KeyPair;
use serde_json::{Map, Value, json};

use crate::remote_config::rejection::Rejection;
use crate::remote_config::signed_command::{CommandRequest, EVERY, add_signature};
use crate::settings::Protocol;
use crate::units::{SiteId, WallTime};
use crate::uplink::client::{self, ClientEvent, Disconnected, Options};
use crate::uplink::failover::ConnectFault;
use crate::uplink::topics;

/// Time until a command expires: a device that connects later must not carry out yesterday's
/// command.
const EXPIRES_AFTER: Duration = Duration::from_secs(3600);

/// A command, ready to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceCommand {
    topic: String,
    reply_filter: String,
    payload: Vec<u8>,
    req_id: String,
}

/// Why a command has no reply.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The connection to the broker failed or ended.
    #[error("{}", .0.reason)]
    Disconnected(Disconnected),
    /// No reply came in time; the device may have received the command.
    #[error("no reply within {} s", .0.as_secs())]
    NoReply(Duration),
}

impl DeviceCommand {
    /// The command `name` for one site, or for all devices without a `site`. `req_id` marks the
    /// reply. With a `key` the command is signed; all `args` must then be strings.
    ///
    /// # Errors
    /// An argument of a signed command is no string.
    pub fn new(
        site: Option<&SiteId>,
        name: &str,
        args: Map<String, Value>,
        req_id: &str,
        now: WallTime,
        key: Option<&Ed25519KeyPair>,
    ) -> Result<DeviceCommand, Rejection> {
        let expires = now.plus_micros(EXPIRES_AFTER.as_micros() as i64).rfc3339();
        let mut body = match key {
            None => args,
            Some(key) => {
                let request = CommandRequest { name, req_id, expires: Some(&expires), args: &args };
                let whom = site.map_or(EVERY, SiteId::as_str);
                add_signature(whom, request, now.0.unsigned_abs(), key)?
            }
        };
        body.insert("req_id".into(), json!(req_id));
        body.insert("expires".into(), json!(expires));
        let (topic, reply_filter) = match site {
            None => (topics::fleet(name), topics::ALL_ANSWERS.to_owned()),
            Some(site) => (topics::dn(site, &format!("cmd/{name}")), topics::up(site, "rsp")),
        };
        let payload = Value::Object(body).to_string().into_bytes();
        Ok(DeviceCommand { topic, reply_filter, payload, req_id: req_id.to_owned() })
    }

    /// The reply that a payload holds, if it answers this command.
    fn reply(&self, payload: &[u8]) -> Option<Value> {
        let reply: Value = serde_json::from_slice(payload).ok()?;
        (reply["req_id"] == self.req_id).then_some(reply)
    }
}

/// Sends the command and returns the first reply within `timeout`. With `any_version` 3.1.1 is
/// tried where MQTT 5 fails.
///
/// # Errors
/// The broker cannot be reached or ends the connection, or no reply comes.
pub async fn send(
    options: &Options,
    any_version: bool,
    command: &DeviceCommand,
    timeout: Duration,
) -> Result<Value, CommandError> {
    let until = Instant::now() + timeout;
    let reply = match session(options, command, until).await {
        Err(ended) if ended.fault == ConnectFault::Version && any_version => {
            let options = Options { protocol: Protocol::V311, ..options.clone() };
            session(&options, command, until).await
        }
        reply => reply,
    };
    reply.map_err(CommandError::Disconnected)?.ok_or(CommandError::NoReply(timeout))
}

/// One session; `None` when no reply comes before `until`.
async fn session(
    options: &Options,
    command: &DeviceCommand,
    until: Instant,
) -> Result<Option<Value>, Disconnected> {
    let (sender, mut connection) = client::connect(options);
    sender.subscribe(std::slice::from_ref(&command.reply_filter));
    // The queue of a new client has room.
    sender.publish(1, &command.topic, command.payload.clone(), false);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        // A poll that is cut short may lose an event; after it, none is read any more.
        match tokio::time::timeout(left, connection.poll()).await {
            Err(_) => return Ok(None),
            Ok(Err(ended)) => return Err(ended),
            Ok(Ok(ClientEvent::Message(_, payload))) => {
                if let Some(reply) = command.reply(&payload) {
                    return Ok(Some(reply));
                }
            }
            Ok(Ok(_)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> WallTime {
        WallTime::parse("2026-11-25T03:00:00Z").unwrap()
    }

    #[test]
    fn a_command_names_topic_reply_and_expiry() {
        let site = SiteId::parse("km-17").unwrap();
        let args: Map<String, Value> = [("lines".to_owned(), json!(50))].into_iter().collect();
        let one = DeviceCommand::new(Some(&site), "log-tail", args.clone(), "r1", now(), None);
        let one = one.unwrap();
        assert_eq!(
            (one.topic.as_str(), one.reply_filter.as_str()),
            ("taimat/v1/km-17/dn/cmd/log-tail", "taimat/v1/km-17/up/rsp")
        );
        let body: Value = serde_json::from_slice(&one.payload).unwrap();
        assert_eq!(
            body,
            json!({"lines": 50, "req_id": "r1", "expires": "2026-11-25T04:00:00.000Z"})
        );
        let all = DeviceCommand::new(None, "ping", Map::new(), "r1", now(), None).unwrap();
        assert_eq!(all.topic, "taimat/v1/fleet/dn/cmd/ping");
    }

    #[test]
    fn a_signed_command_takes_only_text_arguments() {
        let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let signed = |value: Value| {
            let args = [("lines".to_owned(), value)].into_iter().collect();
            DeviceCommand::new(None, "log-tail", args, "r1", now(), Some(&key))
        };
        let payload = signed(json!("50")).unwrap().payload;
        let body: Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(body["n"], json!(now().0));
        assert!(body["sig"]["ed25519"].is_string() && signed(json!(50)).is_err());
    }

    #[test]
    fn only_the_reply_with_the_request_id_counts() {
        let command = DeviceCommand::new(None, "ping", Map::new(), "r1", now(), None).unwrap();
        let answers = |text: &str| command.reply(text.as_bytes()).is_some();
        assert!(answers(r#"{"req_id":"r1","status":"done"}"#));
        assert!(!answers(r#"{"req_id":"r2"}"#) && !answers("no JSON") && !answers("{}"));
    }

    #[tokio::test]
    async fn a_broker_that_is_not_there_is_named() {
        let options = Options {
            client_id: "test".into(),
            host: "127.0.0.1".into(),
            port: 1,
            tls: None,
            login: None,
            keep_alive: 30,
            protocol: Protocol::V5,
            will: None,
        };
        let command = DeviceCommand::new(None, "ping", Map::new(), "r1", now(), None).unwrap();
        let error = send(&options, true, &command, Duration::from_secs(20)).await.unwrap_err();
        let CommandError::Disconnected(ended) = error else { panic!("{error}") };
        assert_eq!(ended.fault, ConnectFault::Unreachable);
    }
}
