//! End of a connection and answers to publishes: rumqttc's errors and reason codes as faults and
//! sentences.
//!
//! What belongs here: their meaning. What does not: the connection ([`super::client`]), the words
//! of MQTT 5 ([`super::broker_reason`]).

use rumqttc::v5;
use rumqttc::v5::mqttbytes::v5 as p5;

use super::broker_reason::sentence;
use super::client::Disconnected;
use super::delivery::Acked;
use super::failover::ConnectFault;
use crate::units::{ClockQuality, Timestamp, WallTime};

/// Why a broker is refused that grants QoS 0 only.
pub const QOS_0: &str =
    "the broker grants only QoS 0: allow QoS 1 at the broker, receipts need it (Maximum QoS)";

/// Maps a PUBACK reason (MQTT 5, 3.4.2.1).
pub(super) fn acked(reason: p5::PubAckReason) -> Acked {
    use p5::PubAckReason as Reason;
    let code = match reason {
        Reason::Success => 0x00,
        Reason::NoMatchingSubscribers => 0x10,
        Reason::UnspecifiedError => 0x80,
        Reason::ImplementationSpecificError => 0x83,
        Reason::NotAuthorized => 0x87,
        Reason::TopicNameInvalid => 0x90,
        Reason::PacketIdentifierInUse => 0x91,
        Reason::QuotaExceeded => 0x97,
        Reason::PayloadFormatInvalid => 0x99,
    };
    let text = sentence(code);
    match reason {
        Reason::Success => Acked::Accepted,
        Reason::NoMatchingSubscribers => Acked::NoSubscriber,
        Reason::NotAuthorized => Acked::NotAuthorized(text),
        Reason::TopicNameInvalid | Reason::PayloadFormatInvalid => {
            Acked::Invalid(format!("the broker rejects it: {text}"))
        }
        Reason::QuotaExceeded
        | Reason::PacketIdentifierInUse
        | Reason::UnspecifiedError
        | Reason::ImplementationSpecificError => Acked::Busy(text),
    }
}

/// The reason code at which rumqttc gave up. After CONNACK only a PubAck has one that MQTT 5 lists
/// for no such packet: rumqttc knows every code of a DISCONNECT.
pub(super) fn unlisted_reason(error: &v5::ConnectionError) -> Option<u8> {
    use v5::mqttbytes::Error::InvalidConnectReturnCode;
    use v5::{ConnectionError as Error, StateError::Deserialization};
    match error {
        Error::MqttState(Deserialization(InvalidConnectReturnCode(code))) => Some(*code),
        _ => None,
    }
}

/// Maps the end of a connection; `up` when CONNACK was received.
pub(super) fn ended_v5(error: &v5::ConnectionError, up: bool) -> Disconnected {
    use v5::{ConnectionError as Error, StateError};
    if let Some(code) = unlisted_reason(error).filter(|_| up) {
        let reason = format!("the broker refuses a publish: {}", sentence(code));
        return Disconnected { reason, fault: ConnectFault::RefusedPublish };
    }
    let fault = match error {
        Error::ConnectionRefused(code) => refused_v5(*code),
        Error::MqttState(StateError::ServerDisconnect { reason_code, .. }) => {
            disconnected(*reason_code)
        }
        Error::Io(error) => io_fault(error, up),
        Error::Timeout(_) => ConnectFault::Unreachable,
        Error::MqttState(
            StateError::Deserialization(_) | StateError::ConnectionAborted | StateError::Io(_),
        ) if !up => ConnectFault::Version,
        Error::MqttState(StateError::ConnectionAborted) => ConnectFault::Closed,
        Error::MqttState(StateError::Io(error)) => io_fault(error, up),
        Error::NotConnAck(_) => ConnectFault::Version,
        _ => ConnectFault::Lost,
    };
    let reason = match error {
        Error::ConnectionRefused(p5::ConnectReturnCode::QoSNotSupported) => QOS_0.to_owned(),
        Error::MqttState(StateError::ServerDisconnect { reason_code, reason_string }) => {
            let said = reason_string.as_ref().map(|said| format!(" ({said})")).unwrap_or_default();
            format!("the broker ended the session: {}{said}", sentence(*reason_code as u8))
        }
        error => error.to_string(),
    };
    ended(reason, fault)
}

pub(super) fn ended_v311(error: &rumqttc::ConnectionError, up: bool) -> Disconnected {
    use rumqttc::{ConnectReturnCode as Code, ConnectionError as Error, StateError};
    let fault = match error {
        Error::ConnectionRefused(Code::RefusedProtocolVersion) => ConnectFault::Version,
        Error::ConnectionRefused(Code::ServiceUnavailable) => ConnectFault::Busy,
        Error::ConnectionRefused(_) => ConnectFault::Refused,
        Error::Io(error) => io_fault(error, up),
        Error::NetworkTimeout => ConnectFault::Unreachable,
        Error::MqttState(
            StateError::Deserialization(_) | StateError::ConnectionAborted | StateError::Io(_),
        ) if !up => ConnectFault::Version,
        Error::MqttState(StateError::ConnectionAborted) => ConnectFault::Closed,
        Error::MqttState(StateError::Io(error)) => io_fault(error, up),
        Error::NotConnAck(_) => ConnectFault::Version,
        _ => ConnectFault::Lost,
    };
    ended(error.to_string(), fault)
}

/// Maps a CONNACK reason (MQTT 5, 3.2.2.2).
fn refused_v5(code: p5::ConnectReturnCode) -> ConnectFault {
    use p5::ConnectReturnCode as Code;
    match code {
        Code::UnsupportedProtocolVersion | Code::RefusedProtocolVersion => ConnectFault::Version,
        Code::RetainNotSupported => ConnectFault::Retain,
        Code::ServerBusy
        | Code::ServerUnavailable
        | Code::ServiceUnavailable
        | Code::QuotaExceeded
        | Code::ConnectionRateExceeded => ConnectFault::Busy,
        Code::UseAnotherServer | Code::ServerMoved => ConnectFault::Unreachable,
        Code::Success | Code::UnspecifiedError | Code::ImplementationSpecificError => {
            ConnectFault::Lost
        }
        _ => ConnectFault::Refused,
    }
}

/// Maps the reason of the broker's DISCONNECT (MQTT 5, 3.14.2.1).
fn disconnected(code: p5::DisconnectReasonCode) -> ConnectFault {
    use p5::DisconnectReasonCode as Code;
    match code {
        Code::ServerBusy
        | Code::MessageRateTooHigh
        | Code::QuotaExceeded
        | Code::ConnectionRateExceeded => ConnectFault::Busy,
        Code::SessionTakenOver => ConnectFault::TakenOver,
        Code::NotAuthorized | Code::AdministrativeAction => ConnectFault::Refused,
        Code::UseAnotherServer | Code::ServerMoved => ConnectFault::Unreachable,
        Code::RetainNotSupported => ConnectFault::Retain,
        _ => ConnectFault::Lost,
    }
}

fn io_fault(error: &std::io::Error, up: bool) -> ConnectFault {
    use std::io::ErrorKind as Kind;
    let text = error.to_string();
    let cut = if up { ConnectFault::Closed } else { ConnectFault::Version };
    match error.kind() {
        Kind::ConnectionRefused
        | Kind::HostUnreachable
        | Kind::NetworkUnreachable
        | Kind::TimedOut
        | Kind::AddrNotAvailable => ConnectFault::Unreachable,
        Kind::UnexpectedEof
        | Kind::ConnectionReset
        | Kind::ConnectionAborted
        | Kind::BrokenPipe => cut,
        // Errors of the resolver have no `ErrorKind` of their own.
        _ if text.contains("lookup address") || text.contains("resolve") => ConnectFault::Name,
        _ => ConnectFault::Lost,
    }
}

/// Adds the setting that a fault concerns. TLS alerts (RFC 8446, 6.2) arrive as text inside an I/O
/// error.
pub(super) fn ended(reason: String, fault: ConnectFault) -> Disconnected {
    let reason = with_dates(&crate::redact::masked(&reason));
    let named = reason.starts_with(QOS_0) || reason.starts_with("the broker ended the session");
    let advice = if named {
        return Disconnected { reason, fault };
    } else if reason.contains("certificate not valid yet") || reason.contains("NotValidYet") {
        return Disconnected {
            reason: format!(
                "the broker's certificate is not valid yet by this device's clock: check the clock, then the certificate ({reason})"
            ),
            fault: ConnectFault::NotYetValid,
        };
    } else if reason.contains("certificate expired") {
        "the broker's certificate has expired by this device's clock: check this device's clock, then renew the certificate"
    } else if reason.contains("corrupt message") {
        let reason = format!(
            "no TLS is spoken at this port: check uplink.port (with TLS it is usually 8883) ({reason})"
        );
        return Disconnected { reason, fault };
    } else if reason.contains("fatal alert") {
        "the broker does not accept this device's certificate: check uplink.cert_file and the certificate authority of the broker"
    } else if reason.contains("invalid peer certificate") {
        "this device does not trust the broker's certificate: check uplink.ca_file and uplink.host"
    } else if fault == ConnectFault::Refused {
        "the broker refuses this device: check uplink.login_file (restart taimat after a change of it), uplink.cert_file and the log of the broker"
    } else if fault == ConnectFault::Name {
        "the broker's name has no address: check uplink.host and this device's DNS"
    } else {
        let step = next_step(&reason, fault);
        // rumqttc reports an oversized packet as text only, which differs between its versions.
        let text = reason.to_lowercase();
        let too_large = text.contains("payload size") && text.contains("exceeded");
        return Disconnected {
            reason: step.map_or_else(|| reason.clone(), |step| format!("{step} ({reason})")),
            fault: if too_large { ConnectFault::TooLarge } else { fault },
        };
    };
    Disconnected {
        reason: format!("{advice} ({reason})"),
        fault: if fault == ConnectFault::Name { fault } else { ConnectFault::Refused },
    }
}

/// The next step after a fault of the connection that is no refusal.
fn next_step(reason: &str, fault: ConnectFault) -> Option<&'static str> {
    let ended = ["closed", "eof", "reset", "aborted"];
    let text = reason.to_lowercase();
    match fault {
        ConnectFault::Unreachable if text.contains("refused") => Some(
            "nothing accepts connections there: check uplink.host and uplink.port, and that the broker runs",
        ),
        ConnectFault::Version if ended.iter().any(|end| text.contains(end)) => Some(
            "the connection ended before the broker answered: if this is its TLS port, set uplink.ca_file",
        ),
        _ => None,
    }
}

/// Writes the seconds since 1970 that rustls names as dates.
fn with_dates(reason: &str) -> String {
    if !reason.contains("(UNIX)") {
        return reason.to_owned();
    }
    let dated = |word: &str| {
        let digits = word.trim_end_matches(',');
        match digits.parse::<i64>() {
            Ok(seconds) if (9..=11).contains(&digits.len()) => {
                format!("{}{}", WallTime(seconds * 1_000_000).rfc3339(), &word[digits.len()..])
            }
            _ => word.to_owned(),
        }
    };
    let words: Vec<String> = reason.replace(" (UNIX)", "").split(' ').map(dated).collect();
    words.join(" ")
}

/// Replaces the settings in a reason by the flags of the office commands.
#[cfg(feature = "office")]
pub fn in_flags(reason: &str) -> String {
    let replacements = [
        ("this device's certificate", "this office's certificate"),
        ("this device's DNS", "this computer's DNS"),
        ("this device's clock", "this computer's clock"),
        ("this device", "this office"),
        // A command reads it at each start.
        (" (restart taimat after a change of it)", ""),
        ("uplink.login_file", "--login"),
        ("uplink.cert_file", "--cert"),
        ("uplink.ca_file", "--ca"),
        ("uplink.host", "--broker"),
        ("uplink.port", "--port"),
    ];
    replacements
        .iter()
        .fold(reason.to_owned(), |reason, (setting, flag)| reason.replace(setting, flag))
}

/// The end of an attempt whose settings cannot be used.
pub(super) fn unusable(error: &anyhow::Error) -> Disconnected {
    Disconnected { reason: format!("{error:#}"), fault: ConnectFault::Refused }
}

/// The end of a session whose broker grants only QoS 0.
pub(super) fn of_qos_0() -> Disconnected {
    Disconnected { reason: QOS_0.into(), fault: ConnectFault::Refused }
}

/// While the clock is not set, a certificate that is not valid yet is the clock's fault.
pub(super) fn by_clock(ended: Disconnected, now: Timestamp) -> Disconnected {
    if ended.fault != ConnectFault::NotYetValid || now.quality > ClockQuality::Unset {
        return ended;
    }
    let reason = format!(
        "this device's clock is not set ({}), so the broker's certificate seems not valid yet: the device          tries again every half minute; check that it reaches a time server",
        now.wall.rfc3339()
    );
    Disconnected { reason, fault: ConnectFault::ClockUnset }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_a_connection_names_the_next_step() {
        for (reason, fault, step) in [
            (
                "invalid peer certificate: certificate expired: verification time 1893456000 (UNIX), but certificate is not valid after 1795000000 (9 seconds ago)",
                ConnectFault::Lost,
                "check this device's clock",
            ),
            (
                "received corrupt message of type InvalidContentType",
                ConnectFault::Lost,
                "uplink.port",
            ),
            ("Connection refused (os error 111)", ConnectFault::Unreachable, "uplink.port"),
            ("Connection reset by peer", ConnectFault::Version, "uplink.ca_file"),
        ] {
            let ended = ended(reason.into(), fault);
            assert!(ended.reason.contains(step), "{}", ended.reason);
            if reason.contains("UNIX") {
                assert!(ended.reason.contains("2030-01-01T00:00:00"), "{}", ended.reason);
                assert!(!ended.reason.contains("UNIX"));
            } else {
                assert_eq!(ended.fault, fault);
            }
        }
    }

    #[test]
    fn an_unset_clock_explains_a_certificate_of_the_future() {
        let ended = || Disconnected { reason: "x".into(), fault: ConnectFault::NotYetValid };
        let unset = by_clock(ended(), Timestamp::default());
        assert_eq!(unset.fault, ConnectFault::ClockUnset);
        assert!(unset.reason.contains("clock is not set (1970-"), "{}", unset.reason);
        let set = Timestamp { quality: ClockQuality::Ntp, ..Timestamp::default() };
        assert_eq!(by_clock(ended(), set).fault, ConnectFault::NotYetValid);
    }
}
