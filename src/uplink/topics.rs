//! Topic names: `taimat/v1/{site}/up|dn/…`, so that the access control list of a broker has two
//! lines per site.
//!
//! Payloads are in [`super::wire`].

use crate::units::SiteId;

/// Prefix of every topic.
const ROOT: &str = "taimat/v1";

/// Filter of the office: everything that devices publish.
pub const ALL_UP: &str = "taimat/v1/+/up/#";
/// Filter of the answers of all devices.
pub const ALL_ANSWERS: &str = "taimat/v1/+/up/rsp";
/// Filter of a device for the states of archives.
pub const ALL_HOSTS: &str = "taimat/v1/host/+/state";

/// Filter of a device for commands to all devices.
pub const FLEET: &str = "taimat/v1/fleet/dn/cmd/+";

/// `taimat/v1/fleet/dn/cmd/{name}`: a command to all devices.
pub fn fleet(name: &str) -> String {
    format!("{ROOT}/fleet/dn/cmd/{name}")
}

/// `taimat/v1/{site}/up/{tail}`.
pub fn up(site: &SiteId, tail: &str) -> String {
    format!("{ROOT}/{site}/up/{tail}")
}

/// `taimat/v1/{site}/dn/{tail}`.
pub fn dn(site: &SiteId, tail: &str) -> String {
    format!("{ROOT}/{site}/dn/{tail}")
}

/// `taimat/v1/host/{host}/state`: the state of an archive.
pub fn host_state(host: &str) -> String {
    format!("{ROOT}/host/{host}/state")
}

/// Level of [`device_filters`] at which a device receives nothing but receipts.
pub const RECEIPTS_ONLY: u8 = 3;

/// The filters of a device. `level` counts the sessions that an oversized message ended; a retained
/// one would end every further session.
///
/// Level 1 leaves out the topic of retained documents, level 2 also commands and configurations,
/// level 3 also archive states.
pub fn device_filters(site: &SiteId, level: u8) -> Vec<String> {
    let down: &[&str] = match level {
        0 => &["#"],
        1 => &["ack", "cmd/#", "config/answer", "config/confirm"],
        _ => &["ack"],
    };
    let hosts = (level < RECEIPTS_ONLY).then(|| ALL_HOSTS.to_owned());
    down.iter().map(|tail| dn(site, tail)).chain(hosts).collect()
}

/// A topic that a device receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DownTopic<'a> {
    /// A receipt.
    Ack,
    /// A command of this name.
    Command(&'a str),
    /// A command of this name to all devices.
    Fleet(&'a str),
    /// A configuration document: the answer to `up/config/get`, or the retained one.
    Document,
    /// The office's confirmation of a configuration.
    Confirm,
    /// The state of an archive.
    Host(&'a str),
}

/// Parses a topic for a device of `site`; `None` for any other topic.
pub fn read_down<'a>(site: &SiteId, topic: &'a str) -> Option<DownTopic<'a>> {
    let tail = topic.strip_prefix(ROOT)?.strip_prefix('/')?;
    if let Some(host) = tail.strip_prefix("host/").and_then(|rest| rest.strip_suffix("/state")) {
        return Some(DownTopic::Host(host));
    }
    if let Some(name) = tail.strip_prefix("fleet/dn/cmd/") {
        return Some(DownTopic::Fleet(name));
    }
    match tail.strip_prefix(site.as_str())?.strip_prefix("/dn/")? {
        "ack" => Some(DownTopic::Ack),
        "config/desired" | "config/answer" => Some(DownTopic::Document),
        "config/confirm" => Some(DownTopic::Confirm),
        rest => rest.strip_prefix("cmd/").map(DownTopic::Command),
    }
}

/// Parses a topic for the office: the site and the part after `up/`.
pub fn read_up(topic: &str) -> Option<(SiteId, &str)> {
    let (site, tail) = topic.strip_prefix(ROOT)?.strip_prefix('/')?.split_once("/up/")?;
    Some((SiteId::parse(site).ok()?, tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_round_trip() {
        let site = SiteId::parse("km-17").unwrap();
        assert_eq!(read_down(&site, &dn(&site, "ack")), Some(DownTopic::Ack));
        assert_eq!(
            read_down(&site, &dn(&site, "cmd/clip-get")),
            Some(DownTopic::Command("clip-get"))
        );
        assert_eq!(read_down(&site, &fleet("ping")), Some(DownTopic::Fleet("ping")));
        assert_eq!(read_down(&site, &host_state("office")), Some(DownTopic::Host("office")));
        assert_eq!(read_up(&up(&site, "file/ab/0")), Some((site, "file/ab/0")));
    }

    #[test]
    fn reduced_subscriptions_always_include_receipts() {
        let site = SiteId::parse("km-17").unwrap();
        for level in 0..=RECEIPTS_ONLY {
            let filters = device_filters(&site, level);
            assert!(
                filters.contains(&dn(&site, if level == 0 { "#" } else { "ack" })),
                "{filters:?}"
            );
            assert_eq!(filters.contains(&dn(&site, "cmd/#")), level == 1);
        }
        assert_eq!(device_filters(&site, RECEIPTS_ONLY), [dn(&site, "ack")]);
    }

    #[test]
    fn topics_of_other_sites_are_not_parsed() {
        let site = SiteId::parse("km-1").unwrap();
        assert_eq!(read_down(&site, "taimat/v1/km-17/dn/ack"), None);
        assert_eq!(read_up("taimat/v1/KM/up/event"), None);
    }

    #[test]
    fn topics_of_reserved_sites_are_not_parsed() {
        for site in ["host", "enrol", "witness", "office", "claim-0a1b", "taimat-office-office"] {
            assert_eq!(read_up(&format!("taimat/v1/{site}/up/event")), None);
        }
    }
}
