//! Topic names: `taimat/v1/{site}/up|dn/…`, so that a broker's access list is two lines a site.
//!
//! What belongs here: making and reading names. What does not: payloads ([`super::wire`]).

use crate::units::SiteId;

/// In front of everything.
const ROOT: &str = "taimat/v1";

/// What the office subscribes to.
pub const ALL_UP: &str = "taimat/v1/+/up/#";
/// Where the answers of all devices are heard.
pub const ALL_ANSWERS: &str = "taimat/v1/+/up/rsp";
/// What a device subscribes to for the archive's presence.
pub const ALL_HOSTS: &str = "taimat/v1/host/+/state";

/// What a device subscribes to for commands to all devices.
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

/// `taimat/v1/host/{host}/state`: an archive's presence.
pub fn host_state(host: &str) -> String {
    format!("{ROOT}/host/{host}/state")
}

/// How wary a device may become of messages too large to be taken.
pub const WARY_MAX: u8 = 3;

/// What a device subscribes to. `wary`: how often in a row a message too large ended the session; what is retained would end every further one.
/// 1: without the one topic where documents are retained. 2: without commands and configurations. 3: receipts only.
pub fn of_box(site: &SiteId, wary: u8) -> Vec<String> {
    let down: &[&str] = match wary {
        0 => &["#"],
        1 => &["ack", "cmd/#", "config/answer", "config/confirm"],
        _ => &["ack"],
    };
    let hosts = (wary < WARY_MAX).then(|| ALL_HOSTS.to_owned());
    down.iter().map(|tail| dn(site, tail)).chain(hosts).collect()
}

/// What a topic is, seen from a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DownTopic<'a> {
    /// A receipt.
    Ack,
    /// A command of this name.
    Command(&'a str),
    /// The same, to all devices.
    Fleet(&'a str),
    /// A configuration document: the answer to `up/config/get`, or the retained one.
    Document,
    /// The office's confirmation of a configuration.
    Confirm,
    /// An archive's presence.
    Host(&'a str),
}

/// Reads a topic a device of `site` may receive; `None` for anything else.
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

/// Reads a topic the office receives: the site and what comes after `up/`.
pub fn read_up(topic: &str) -> Option<(SiteId, &str)> {
    let (site, tail) = topic.strip_prefix(ROOT)?.strip_prefix('/')?.split_once("/up/")?;
    Some((SiteId::parse(site).ok()?, tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_being_read_back() {
        let site = SiteId::parse("km-17").unwrap();
        assert_eq!(read_down(&site, &dn(&site, "ack")), Some(DownTopic::Ack));
        assert_eq!(read_down(&site, &dn(&site, "cmd/clip-get")), Some(DownTopic::Command("clip-get")));
        assert_eq!(read_down(&site, &fleet("ping")), Some(DownTopic::Fleet("ping")));
        assert_eq!(read_down(&site, &host_state("office")), Some(DownTopic::Host("office")));
        assert_eq!(read_up(&up(&site, "file/ab/0")), Some((site, "file/ab/0")));
    }

    #[test]
    fn a_wary_box_hears_less_and_receipts_always() {
        let site = SiteId::parse("km-17").unwrap();
        for wary in 0..=WARY_MAX {
            let heard = of_box(&site, wary);
            assert!(heard.contains(&dn(&site, if wary == 0 { "#" } else { "ack" })), "{heard:?}");
            assert_eq!(heard.contains(&dn(&site, "cmd/#")), wary == 1);
        }
        assert_eq!(of_box(&site, WARY_MAX), [dn(&site, "ack")]);
    }

    #[test]
    fn another_sites_topics_are_not_ours() {
        let site = SiteId::parse("km-1").unwrap();
        assert_eq!(read_down(&site, "taimat/v1/km-17/dn/ack"), None);
        assert_eq!(read_up("taimat/v1/KM/up/event"), None);
    }

    #[test]
    fn messages_of_reserved_sites_are_not_read() {
        for site in ["host", "enrol", "witness", "office", "claim-0a1b", "taimat-office-office"] {
            assert_eq!(read_up(&format!("taimat/v1/{site}/up/event")), None);
        }
    }
}
