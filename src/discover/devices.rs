//! The devices that answered a probe: each sender once, bounded, with the addresses of one device joined.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::device::{PATH, Service};
use super::interview::SERVICES_MAX;
use super::ws_discovery::{Match, WORDS_MAX};

/// Devices at most: a larger network is asked interface by interface.
pub const DEVICES_MAX: usize = 256;
/// Answers that are read at most; ten for each device, which repeats them.
pub const ANSWERS_MAX: usize = 4096;

/// A device to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The address that answered, with its scope; the port means nothing.
    pub address: SocketAddr,
    /// The interface on which it answered; empty for `--host`.
    pub interface: String,
    /// Its IPv6 link-local address, where it answered on IPv4, too.
    pub also: Option<SocketAddr>,
    /// Where its Device service may be, the likeliest first.
    pub services: Vec<Service>,
    /// Its name by its scopes.
    pub name: Option<String>,
}

/// What was heard from one sender.
#[derive(Debug, Clone)]
struct Sender {
    address: SocketAddr,
    interface: String,
    found: Match,
}

/// What answered so far.
#[derive(Debug, Default)]
pub struct Devices {
    senders: BTreeMap<(IpAddr, u32), Sender>,
    answers: usize,
    /// Answers beyond [`ANSWERS_MAX`], and devices beyond [`DEVICES_MAX`].
    pub dropped: usize,
    /// Answers that were no XML.
    pub unreadable: usize,
    /// Devices that are no cameras.
    pub others: usize,
}

impl Devices {
    /// Whether one more answer is read; counted.
    pub fn has_room(&mut self) -> bool {
        self.answers += 1;
        let room = self.answers <= ANSWERS_MAX;
        self.dropped += usize::from(!room);
        room
    }

    /// Takes what a sender says; true if it is new.
    pub fn take(&mut self, from: SocketAddr, interface: &str, found: Match) -> bool {
        if !found.is_onvif {
            self.others += 1;
            return false;
        }
        let scope = if let SocketAddr::V6(v6) = from { v6.scope_id() } else { 0 };
        if let Some(known) = self.senders.get_mut(&(from.ip(), scope)) {
            let new: Vec<String> =
                found.xaddrs.into_iter().filter(|one| !known.found.xaddrs.contains(one)).collect();
            let room = WORDS_MAX.saturating_sub(known.found.xaddrs.len());
            known.found.xaddrs.extend(new.into_iter().take(room));
            return false;
        }
        if self.senders.len() == DEVICES_MAX {
            self.dropped += 1;
            return false;
        }
        let sender = Sender { address: from, interface: interface.to_owned(), found };
        self.senders.insert((from.ip(), scope), sender);
        true
    }

    /// The devices, by address. An IPv6 address joins the IPv4 address of the same name for itself; cameras of one
    /// image share that name, so it never joins two IPv4 addresses.
    pub fn list(self) -> Vec<Device> {
        let (fourth, sixth): (Vec<Sender>, Vec<Sender>) =
            self.senders.into_values().partition(|sender| sender.address.is_ipv4());
        let mut devices: Vec<Device> = fourth.iter().map(device).collect();
        for sender in sixth {
            let same = |(_, other): &(usize, &Sender)| {
                !sender.found.endpoint.is_empty() && other.found.endpoint == sender.found.endpoint
            };
            let mut known = fourth.iter().enumerate().filter(same);
            match (known.next(), known.next()) {
                (Some((at, _)), None) => devices[at].also = Some(sender.address),
                _ => devices.push(device(&sender)),
            }
        }
        devices
    }
}

fn device(sender: &Sender) -> Device {
    let name = sender.found.name.clone().or_else(|| sender.found.hardware.clone());
    Device {
        address: sender.address,
        interface: sender.interface.clone(),
        also: None,
        services: services(&sender.found.xaddrs, &sender.address),
        name,
    }
}

/// Ports and paths that a device names, those beside its own address first, and the usual one last.
fn services(xaddrs: &[String], address: &SocketAddr) -> Vec<Service> {
    let own = address.ip().to_string();
    let is_own = |text: &&String| text.contains(&own);
    let (near, far): (Vec<&String>, Vec<&String>) = xaddrs.iter().partition(is_own);
    let usual = Service { port: 80, path: PATH.into() };
    let mut found: Vec<Service> = Vec::new();
    for service in near.into_iter().chain(far).filter_map(|text| Service::parse(text)) {
        if !found.contains(&service) && found.len() < SERVICES_MAX - 1 {
            found.push(service);
        }
    }
    if !found.contains(&usual) {
        found.push(usual);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(endpoint: &str, xaddrs: &[&str]) -> Match {
        Match {
            endpoint: endpoint.into(),
            xaddrs: xaddrs.iter().map(|text| (*text).to_owned()).collect(),
            is_onvif: true,
            ..Match::default()
        }
    }

    #[test]
    fn a_hundred_duplicates_are_one_device_with_its_addresses() {
        let mut devices = Devices::default();
        let (v4, v6) = ("10.0.0.2:3702".parse().unwrap(), "[fe80::2%3]:3702".parse().unwrap());
        let own = ["http://1.2.3.4/far", "http://10.0.0.2:8899/near", "https://10.0.0.2/tls"];
        for i in 0..100 {
            assert_eq!(devices.take(v4, "cam0", found("urn:1", &own)), i == 0);
            devices.take(v6, "cam0", found("urn:1", &[]));
        }
        devices.take("10.0.0.9:3702".parse().unwrap(), "cam0", Match::default());
        assert_eq!(devices.others, 1);
        let list = devices.list();
        assert_eq!((list.len(), list[0].also), (1, Some(v6)));
        let shown: Vec<(u16, &str)> =
            list[0].services.iter().map(|one| (one.port, one.path.as_str())).collect();
        assert_eq!(shown, [(8899, "/near"), (80, "/far"), (80, PATH)]);
    }

    #[test]
    fn cameras_of_one_image_stay_two_devices() {
        let mut devices = Devices::default();
        for address in ["10.0.0.2:1", "10.0.0.3:1", "[fe80::2%3]:1"] {
            devices.take(address.parse().unwrap(), "cam0", found("urn:same", &[]));
        }
        assert_eq!(devices.list().len(), 3);
    }

    #[test]
    fn devices_answers_and_addresses_beyond_the_bounds_are_dropped() {
        let mut devices = Devices::default();
        for i in 0..DEVICES_MAX as u32 + 10 {
            let address = SocketAddr::new(IpAddr::V4((0x0a00_0000 + i).into()), 1);
            devices.take(address, "cam0", found("", &[]));
        }
        assert_eq!(devices.dropped, 10);
        for i in 0..100 {
            let path = format!("http://10.0.0.0/{i}");
            devices.take("10.0.0.0:1".parse().unwrap(), "cam0", found("", &[&path]));
        }
        assert!((0..ANSWERS_MAX).all(|_| devices.has_room()) && !devices.has_room());
        let list = devices.list();
        assert_eq!((list.len(), list[0].services.len()), (DEVICES_MAX, SERVICES_MAX));
    }
}
