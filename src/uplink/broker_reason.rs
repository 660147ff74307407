//! Reason codes of MQTT 5 (2.4) in words, each with the next step of an operator.
//!
//! What belongs here: the words. What does not: what the uplink does about a code
//! ([`super::client`], [`super::failover`]).

/// Name and next step of a reason code.
pub struct Reason {
    /// The name in MQTT 5.
    pub name: &'static str,
    /// What an operator does; empty if nothing can be done here.
    pub next: &'static str,
}

/// The login is read with the configuration.
const LOGIN: &str = "check uplink.login_file (restart taimat after a change of it)";
const ACCESS: &str = "check the broker's access control list and the login of this device";
const LIMIT: &str = "raise the broker's limit (message_size_limit, max_packet_size)";
const QUOTA: &str = "raise the broker's quota for this device";

/// The reason with this code; `None` for a code that MQTT 5 does not define.
pub fn reason(code: u8) -> Option<Reason> {
    let (name, next) = match code {
        0x00 => ("normal disconnection", ""),
        0x04 => ("disconnect with will message", ""),
        0x10 => ("no matching subscribers", "start the office"),
        0x11 => ("no subscription existed", ""),
        0x18 => ("continue authentication", ""),
        0x19 => ("re-authenticate", ""),
        0x80 => ("unspecified error", "look into the log of the broker"),
        0x81 => ("malformed packet", "look into the log of the broker"),
        0x82 => ("protocol error", "look into the log of the broker"),
        0x83 => ("implementation specific error", "look into the log of the broker"),
        0x84 => ("unsupported protocol version", ""),
        0x85 => ("client identifier not valid", "the broker must accept the site as client id"),
        0x86 => ("bad user name or password", LOGIN),
        0x87 => ("not authorized", ACCESS),
        0x88 => ("server unavailable", "look whether the broker starts or stops"),
        0x89 => ("server busy", "look at the load of the broker"),
        0x8A => ("banned", "lift the ban at the broker"),
        0x8B => ("server shutting down", "start the broker again"),
        0x8C => ("bad authentication method", LOGIN),
        0x8D => ("keep alive timeout", "check the line, or raise uplink.keep_alive"),
        0x8E => (
            "session taken over",
            "check that no other device has this device's site or certificate",
        ),
        0x8F => ("topic filter invalid", ACCESS),
        0x90 => ("topic name invalid", ACCESS),
        0x91 => ("packet identifier in use", ""),
        0x92 => ("packet identifier not found", ""),
        0x93 => ("receive maximum exceeded", ""),
        0x94 => ("topic alias invalid", ""),
        0x95 => ("packet too large", LIMIT),
        0x96 => ("message rate too high", "raise the broker's rate, or lower uplink.rate_cap"),
        0x97 => ("quota exceeded", QUOTA),
        0x98 => ("administrative action", "ask who runs the broker"),
        0x99 => ("payload format invalid", ""),
        0x9A => ("retain not supported", ""),
        0x9B => ("QoS not supported", "allow QoS 1 at the broker: receipts need it"),
        0x9C => ("use another server", "set uplink.host to the other broker"),
        0x9D => ("server moved", "set uplink.host to the other broker"),
        0x9E => ("shared subscriptions not supported", ""),
        0x9F => ("connection rate exceeded", "raise the broker's rate"),
        0xA0 => ("maximum connect time", ""),
        0xA1 => ("subscription identifiers not supported", ""),
        0xA2 => ("wildcard subscriptions not supported", "allow wildcards at the broker"),
        _ => return None,
    };
    Some(Reason { name, next })
}

/// The code as a sentence: name, code and next step.
pub fn sentence(code: u8) -> String {
    match reason(code) {
        Some(Reason { name, next: "" }) => format!("{name} (0x{code:02x})"),
        Some(Reason { name, next }) => format!("{name} (0x{code:02x}): {next}"),
        None => format!(
            "reason 0x{code:02x}, which MQTT 5 does not define: look into the log of the broker"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_mqtt_5_has_a_name_and_others_a_number() {
        let known = (0..=255).filter(|code| reason(*code).is_some()).count();
        assert_eq!(known, 41);
        assert!(sentence(0x95).contains("packet too large (0x95): raise"), "{}", sentence(0x95));
        assert!(sentence(0xb7).contains("0xb7"), "{}", sentence(0xb7));
    }
}
