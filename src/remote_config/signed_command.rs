//! Signed commands: signed bytes (Ed25519, RFC 8032), verification, replay protection.
//!
//! A signed command has `"n"` and `"sig":{"key","ed25519"}` beside its arguments, which must then
//! all be strings. The signature covers these lines, each ended by one line feed, with the
//! arguments sorted by the bytes of their names:
//!
//! ```text
//! taimat command 1
//! site km-17
//! name clip-get
//! n 1795572600000000
//! req_id r1
//! expires 2026-11-25T04:00:00.000Z
//! arg from <64 hex digits: SHA-256 of the text>
//! arg to <64 hex digits>
//! ```
//!
//! A command to all devices has `site *` in the second line; `*` is not a valid site id. One
//! signature serves all devices, and each device checks `n` itself.
//!
//! `n` is above every number that the key has used with this device; the office uses its clock in
//! microseconds. The device stores the highest number before it executes the command, so that a
//! command cannot be replayed after a restart ([`super::state_machine`]).

use ring::signature::Ed25519KeyPair;
use serde_json::{Map, Value, json};

use super::rejection::{RejectReason, Rejection};
use super::signed_document::{Signature, is_late, sign, verify};
use crate::settings::{KeyScope, TrustedKey};
use crate::units::{Digest, SiteId, Timestamp, WallTime};

/// A received command.
#[derive(Debug, Clone, Copy)]
pub struct CommandRequest<'a> {
    /// Name, the last level of the topic.
    pub name: &'a str,
    /// Id that the caller chose for the reply.
    pub req_id: &'a str,
    /// RFC 3339 time of expiry; `None` never expires.
    pub expires: Option<&'a str>,
    /// All other fields, with `n` and `sig`.
    pub args: &'a Map<String, Value>,
}

/// All commands, for messages.
pub const KNOWN: &str = "clip-get, clip-cancel, snapshot, event-get, lock, unlock, locks, ring-status, log-tail, restart, ping, \
                         config-check and config-show";

/// What becomes of an unsigned command where a key is enrolled.
const SIGN_IT: &str =
    "this device takes only signed commands (remote.keys): sign it with office cmd … --sign KEY";

/// Whether this version has a command of that name.
fn is_known(name: &str) -> bool {
    KNOWN.replace(" and ", ", ").split(", ").any(|known| known == name)
}

/// What is said of a command that no version, or only a later one, has.
pub fn unknown(name: &str) -> String {
    format!("no command {:?}: this version knows {KNOWN}", short(name))
}

/// The site of a command to all devices.
pub const EVERY: &str = "*";

/// Verified key and number of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandSignature {
    /// Id of the key.
    pub key: String,
    /// The number, above all former ones of the key.
    pub n: u64,
}

/// The signed bytes, for a site or [`EVERY`].
///
/// # Errors
/// `Unreadable` for an argument other than a string.
pub fn signed_bytes(site: &str, asked: CommandRequest<'_>, n: u64) -> Result<Vec<u8>, Rejection> {
    let CommandRequest { name, req_id, expires, args } = asked;
    let expires = expires.unwrap_or("-");
    let mut text = format!(
        "taimat command 1\nsite {site}\nname {name}\nn {n}\nreq_id {req_id}\nexpires {expires}\n"
    );
    let mut named: Vec<(&String, &Value)> =
        args.iter().filter(|(key, _)| *key != "n" && *key != "sig").collect();
    named.sort_by_key(|(key, _)| key.as_bytes());
    for (key, value) in named {
        let Some(value) = value.as_str() else {
            return Err(Rejection::new(
                RejectReason::Unreadable,
                format!("argument {:?} of a signed command must be text", short(key)),
            ));
        };
        text.push_str(&format!("arg {key} {}\n", Digest::of(value.as_bytes()).hex()));
    }
    Ok(text.into_bytes())
}

fn short(text: &str) -> String {
    text.chars().take(32).collect()
}

/// Adds `n` and `sig` to the arguments.
///
/// # Errors
/// `Unreadable` for an argument other than a string.
pub fn add_signature(
    site: &str,
    asked: CommandRequest<'_>,
    n: u64,
    key: &Ed25519KeyPair,
) -> Result<Map<String, Value>, Rejection> {
    let signature = sign(key, &signed_bytes(site, asked, n)?);
    let mut args = asked.args.clone();
    args.insert("n".into(), json!(n));
    args.insert("sig".into(), serde_json::to_value(signature).unwrap_or_default());
    Ok(args)
}

/// Verifies a command: enrolled key, scope, expiry and number. `highest` returns the highest number
/// that a key has used.
///
/// # Errors
/// The rejection.
pub fn check(
    site: &SiteId,
    keys: &[TrustedKey],
    asked: CommandRequest<'_>,
    now: Timestamp,
    highest: impl Fn(&str) -> u64,
) -> Result<CommandSignature, Rejection> {
    let Some(signature) = asked.args.get("sig") else {
        return Err(Rejection::new(RejectReason::Unsigned, SIGN_IT));
    };
    if keys.is_empty() {
        return Err(Rejection::new(
            RejectReason::NoKeys,
            "no key is enrolled here: remote.keys is empty",
        ));
    }
    let signature: Signature = serde_json::from_value(signature.clone())
        .map_err(|error| Rejection::new(RejectReason::Unreadable, format!("sig: {error}")))?;
    let n = asked.args.get("n").and_then(Value::as_u64);
    let n = n.ok_or_else(|| {
        Rejection::new(
            RejectReason::Unreadable,
            "n is missing: a whole number higher than every one before",
        )
    })?;
    let signed_for = |whom: &str| verify(keys, &signature, &signed_bytes(whom, asked, n)?);
    let key = match signed_for(site.as_str()) {
        Err(refusal) if refusal.why == RejectReason::BadSignature => signed_for(EVERY)?,
        judged => judged?,
    };
    if !key.scope.allows(asked.name) {
        let detail = match is_known(asked.name) {
            true => format!("key {} may sign only {}", key.name, KeyScope::COMMANDS.join(", ")),
            false => unknown(asked.name),
        };
        return Err(Rejection::new(RejectReason::Scope, detail));
    }
    let key = key.id();
    let until = asked
        .expires
        .ok_or_else(|| Rejection::new(RejectReason::Unreadable, "a signed command must expire"))?;
    let until = WallTime::parse(until)
        .map_err(|reason| Rejection::new(RejectReason::Unreadable, format!("expires: {reason}")))?;
    if is_late(until, now) {
        return Err(Rejection::new(
            RejectReason::Expired,
            format!("expired {until}; here it is {}", now.wall),
        ));
    }
    if n <= highest(&key) {
        return Err(Rejection::new(
            RejectReason::Replayed,
            format!("n {n} is not higher than {}", highest(&key)),
        ));
    }
    Ok(CommandSignature { key, n })
}

/// Permits an unsigned command: only the commands of [`KeyScope::COMMANDS`], and only without an
/// enrolled key.
///
/// # Errors
/// `Unsigned`.
pub fn unsigned(keys: &[TrustedKey], asked: CommandRequest<'_>) -> Result<(), Rejection> {
    if !keys.is_empty() {
        return Err(Rejection::new(RejectReason::Unsigned, SIGN_IT));
    }
    if KeyScope::Commands.allows(asked.name) {
        return Ok(());
    }
    let detail = match is_known(asked.name) {
        true => format!(
            "{:?} must be signed: enrol a key by hand (remote.keys), then sign it with office cmd … --sign KEY",
            asked.name
        ),
        false => unknown(asked.name),
    };
    Err(Rejection::new(RejectReason::Unsigned, detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote_config::signed_document::tests::{OTHER, RFC, key, trusted};
    use crate::units::{ClockQuality, MonoTime};

    fn now() -> Timestamp {
        Timestamp {
            mono: MonoTime(1),
            wall: WallTime::parse("2026-11-25T03:00:00Z").unwrap(),
            quality: ClockQuality::Ntp,
        }
    }

    fn args() -> Map<String, Value> {
        let Value::Object(args) =
            json!({"to": "2026-11-25T02:10:00Z", "from": "2026-11-25T02:00:00Z"})
        else {
            unreachable!()
        };
        args
    }

    #[test]
    fn the_signed_bytes_of_a_command_are_what_the_document_says() {
        let site = SiteId::parse("km-17").unwrap();
        let asked = CommandRequest {
            name: "clip-get",
            req_id: "r1",
            expires: Some("2026-11-25T04:00:00.000Z"),
            args: &args(),
        };
        let bytes = String::from_utf8(signed_bytes(site.as_str(), asked, 12).unwrap()).unwrap();
        let lines = "taimat command 1\nsite km-17\nname clip-get\nn 12\nreq_id r1\nexpires 2026-11-25T04:00:00.000Z\n\
                     arg from ce1f11fcd6f30edfcde8fa3da2dcb776a87779c87e78e3c2a990b3be30d06880\narg to 8451d74d9895b79f3dcffc7f2d11cc28bd71de41436f6736ee31bd6052e11e3b\n";
        assert_eq!(bytes, lines);
        let signed = add_signature(site.as_str(), asked, 12, &key(RFC)).unwrap();
        assert_eq!(
            signed["sig"]["ed25519"],
            "282a0e1d2681e810781ea77e5a85fa8efd1faab4d2f4f8db9a9d4ededee0b2b35f3027818a1d6842e240b60025c9f61c54e882bd7ad3634c4d44d63af4f24d01"
        );
    }

    #[test]
    fn a_command_runs_once_for_an_enrolled_key_in_time() {
        let (site, other) = (SiteId::parse("km-17").unwrap(), SiteId::parse("km-18").unwrap());
        let keys = [trusted("office", RFC)];
        let plain = args();
        let expires = Some("2026-11-25T03:30:00Z");
        let asked = CommandRequest { name: "clip-get", req_id: "r1", expires, args: &plain };
        let signed = add_signature(site.as_str(), asked, 12, &key(RFC)).unwrap();
        let judged = |asked: CommandRequest<'_>, site: &SiteId, highest: u64, now: Timestamp| {
            check(site, &keys, asked, now, |_| highest)
        };
        let asked = CommandRequest { args: &signed, ..asked };
        assert_eq!(
            judged(asked, &site, 11, now()),
            Ok(CommandSignature { key: keys[0].id(), n: 12 })
        );
        let why =
            |asked, site: &SiteId, highest, now| judged(asked, site, highest, now).unwrap_err().why;
        assert_eq!(why(asked, &site, 12, now()), RejectReason::Replayed);
        assert_eq!(why(asked, &other, 0, now()), RejectReason::BadSignature);
        assert_eq!(
            why(CommandRequest { name: "unlock", ..asked }, &site, 0, now()),
            RejectReason::BadSignature
        );
        assert_eq!(
            why(CommandRequest { req_id: "r2", ..asked }, &site, 0, now()),
            RejectReason::BadSignature
        );
        assert_eq!(
            why(CommandRequest { expires: None, ..asked }, &site, 0, now()),
            RejectReason::BadSignature
        );
        assert_eq!(
            why(CommandRequest { args: &plain, ..asked }, &site, 0, now()),
            RejectReason::Unsigned
        );
        let late = Timestamp { wall: now().wall.plus_micros(3_600_000_000), ..now() };
        assert_eq!(why(asked, &site, 0, late), RejectReason::Expired);
        assert!(
            judged(asked, &site, 0, Timestamp { quality: ClockQuality::Rtc, ..late }).is_ok(),
            "a clock that may be a day off"
        );
        let foreign =
            add_signature(site.as_str(), CommandRequest { args: &plain, ..asked }, 12, &key(OTHER))
                .unwrap();
        assert_eq!(
            why(CommandRequest { args: &foreign, ..asked }, &site, 0, now()),
            RejectReason::UnknownKey
        );
        let mut more = signed.clone();
        more.insert("reason".into(), json!("added"));
        assert_eq!(
            why(CommandRequest { args: &more, ..asked }, &site, 0, now()),
            RejectReason::BadSignature
        );
        let mut number = signed.clone();
        number.insert("reason".into(), json!(7));
        assert_eq!(
            why(CommandRequest { args: &number, ..asked }, &site, 0, now()),
            RejectReason::Unreadable
        );
    }

    #[test]
    fn a_key_for_commands_signs_what_reads_or_sends_footage_only() {
        let site = SiteId::parse("km-17").unwrap();
        let keys = [TrustedKey { scope: KeyScope::Commands, ..trusted("desk", RFC) }];
        let plain = Map::new();
        let expires = Some("2026-11-25T03:30:00Z");
        let verdict = |name: &str, keys: &[TrustedKey]| {
            let asked = CommandRequest { name, req_id: "r1", expires, args: &plain };
            let signed = add_signature(site.as_str(), asked, 12, &key(RFC)).unwrap();
            check(&site, keys, CommandRequest { args: &signed, ..asked }, now(), |_| 0)
                .map(|_| ())
                .map_err(|refusal| refusal.why)
        };
        for name in ["config-check", "config-show", "probe", "restart", "update", "whatever-comes"]
        {
            assert_eq!(verdict(name, &keys), Err(RejectReason::Scope), "{name}");
            assert_eq!(verdict(name, &[trusted("office", RFC)]), Ok(()), "{name}");
            let asked = CommandRequest { name, req_id: "r1", expires, args: &plain };
            assert_eq!(
                unsigned(&[], asked).unwrap_err().why,
                RejectReason::Unsigned,
                "{name} without a key"
            );
        }
        for name in KeyScope::COMMANDS {
            assert_eq!(verdict(name, &keys), Ok(()), "{name}");
            let asked = CommandRequest { name, req_id: "r1", expires, args: &plain };
            assert_eq!(unsigned(&[], asked), Ok(()));
            assert_eq!(unsigned(&keys, asked).unwrap_err().why, RejectReason::Unsigned);
        }
    }

    #[test]
    fn an_unknown_command_is_called_unknown_before_unsigned() {
        let plain = Map::new();
        let detail = |name: &str| {
            let asked = CommandRequest { name, req_id: "r1", expires: None, args: &plain };
            unsigned(&[], asked).unwrap_err().detail
        };
        assert!(
            detail("pong").contains("no command \"pong\"")
                && detail("pong").contains("config-show"),
            "{}",
            detail("pong")
        );
        assert!(detail("restart").contains("must be signed"), "{}", detail("restart"));
        assert!(
            KeyScope::COMMANDS
                .iter()
                .chain(&["restart", "config-check", "config-show"])
                .all(|name| is_known(name))
        );
    }

    #[test]
    fn an_unknown_command_is_called_unknown_whoever_signs_it() {
        let (site, plain) = (SiteId::parse("km-17").unwrap(), Map::new());
        let keys = [TrustedKey { scope: KeyScope::Commands, ..trusted("desk", RFC) }];
        let asked = CommandRequest {
            name: "pong",
            req_id: "r1",
            expires: Some("2026-11-25T03:30:00Z"),
            args: &plain,
        };
        let signed = add_signature(site.as_str(), asked, 12, &key(RFC)).unwrap();
        let refused = check(&site, &keys, CommandRequest { args: &signed, ..asked }, now(), |_| 0)
            .unwrap_err();
        assert!(refused.detail.contains("no command \"pong\""), "{}", refused.detail);
        let word = unsigned(&[], CommandRequest { name: "and", ..asked }).unwrap_err();
        assert!(word.detail.contains("no command \"and\""), "{}", word.detail);
    }

    #[test]
    fn an_unsigned_command_is_refused_with_the_way_to_sign_it() {
        let (site, plain, keys) =
            (SiteId::parse("km-17").unwrap(), Map::new(), [trusted("office", RFC)]);
        let asked = CommandRequest { name: "restart", req_id: "r1", expires: None, args: &plain };
        let named = [
            unsigned(&keys, asked),
            unsigned(&[], asked),
            check(&site, &keys, asked, now(), |_| 0).map(|_| ()),
        ];
        assert!(
            named
                .iter()
                .all(|named| named.as_ref().is_err_and(|named| named.detail.contains("--sign"))),
            "{named:?}"
        );
    }

    #[test]
    fn a_command_signed_for_all_boxes_is_taken_by_each_of_them_once() {
        let keys = [trusted("office", RFC)];
        let plain = args();
        let asked = CommandRequest {
            name: "clip-get",
            req_id: "r1",
            expires: Some("2026-11-25T03:30:00Z"),
            args: &plain,
        };
        let signed = add_signature(EVERY, asked, 12, &key(RFC)).unwrap();
        let asked = CommandRequest { args: &signed, ..asked };
        for site in ["km-17", "km-18"] {
            let judged = |asked: CommandRequest<'_>, highest: u64| {
                check(&SiteId::parse(site).unwrap(), &keys, asked, now(), |_| highest)
            };
            assert_eq!(judged(asked, 11), Ok(CommandSignature { key: keys[0].id(), n: 12 }));
            assert_eq!(judged(asked, 12).unwrap_err().why, RejectReason::Replayed);
            assert_eq!(
                judged(CommandRequest { name: "unlock", ..asked }, 0).unwrap_err().why,
                RejectReason::BadSignature
            );
        }
        assert!(SiteId::parse(EVERY).is_err(), "no box may be called so");
    }
}
