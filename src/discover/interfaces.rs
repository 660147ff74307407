//! Network interfaces, from the kernel's answers (rtnetlink(7)): name, whether multicast works, addresses.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Interfaces at most: a machine with containers has dozens.
pub const INTERFACES_MAX: usize = 64;
/// Addresses of an interface at most.
const ADDRESSES_MAX: usize = 16;
const HEADER: usize = 16;
const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const DONE: u16 = 3;
const ERROR: u16 = 2;
const GET_LINK: u16 = 18;
const GET_ADDRESS: u16 = 22;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const DUMP: u16 = 0x301;
const IS_UP: u32 = 1;
const IS_LOOPBACK: u32 = 8;
const HAS_MULTICAST: u32 = 0x1000;
/// `IFA_F_DADFAILED | IFA_F_TENTATIVE`: such an address sends nothing.
const IS_UNUSABLE: u32 = 0x48;

/// An interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    /// Number, the scope of its IPv6 link-local addresses.
    pub index: u32,
    /// Name, e.g. `eth0`.
    pub name: String,
    flags: u32,
    /// IPv4 addresses, and IPv6 link-local ones.
    pub addresses: Vec<IpAddr>,
}

impl Interface {
    /// It is up, can multicast and is not the loopback.
    pub fn is_usable(&self) -> bool {
        self.flags & (IS_UP | IS_LOOPBACK | HAS_MULTICAST) == IS_UP | HAS_MULTICAST
    }
}

/// The requests for all interfaces and all addresses.
pub fn requests() -> [[u8; HEADER + 4]; 2] {
    [GET_LINK, GET_ADDRESS].map(|kind| {
        let mut message = [0; HEADER + 4];
        message[..4].copy_from_slice(&(HEADER as u32 + 4).to_ne_bytes());
        message[4..6].copy_from_slice(&kind.to_ne_bytes());
        message[6..8].copy_from_slice(&DUMP.to_ne_bytes());
        message
    })
}

/// Interfaces by number, from the messages that came so far.
#[derive(Debug, Default)]
pub struct Interfaces(BTreeMap<u32, Interface>);

impl Interfaces {
    /// Takes messages; true at the end of an answer.
    pub fn take(&mut self, mut bytes: &[u8]) -> bool {
        while let Some((length, kind)) = u32_at(bytes, 0).zip(u16_at(bytes, 4)) {
            let length = length as usize;
            let Some(message) = bytes.get(HEADER..length) else { return true };
            match kind {
                DONE | ERROR => return true,
                NEW_LINK => drop(self.link(message)),
                NEW_ADDRESS => drop(self.address(message)),
                _ => {}
            }
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        false
    }

    /// `struct ifinfomsg`: index at 4, flags at 8, attributes from 16.
    fn link(&mut self, message: &[u8]) -> Option<()> {
        let (index, flags) = (u32_at(message, 4)?, u32_at(message, 8)?);
        let name = attribute(message.get(16..)?, 3)?;
        let name = std::str::from_utf8(name).ok()?.trim_end_matches('\0').to_owned();
        if self.0.len() < INTERFACES_MAX {
            self.0.insert(index, Interface { index, name, flags, addresses: Vec::new() });
        }
        Some(())
    }

    /// `struct ifaddrmsg`: flags at 2, index at 4, attributes from 8.
    fn address(&mut self, message: &[u8]) -> Option<()> {
        let (flags, index) = (u32::from(*message.get(2)?), u32_at(message, 4)?);
        let attributes = message.get(8..)?;
        // The local address stands in attribute 2, and for IPv6 in 1.
        let local = attribute(attributes, 2).or_else(|| attribute(attributes, 1))?;
        let address = match local.len() {
            4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(local).ok()?)),
            _ => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(local).ok()?)),
        };
        let wanted = match address {
            IpAddr::V4(_) => true,
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        let interface = self.0.get_mut(&index)?;
        if wanted && flags & IS_UNUSABLE == 0 && interface.addresses.len() < ADDRESSES_MAX {
            interface.addresses.push(address);
        }
        Some(())
    }

    /// The interfaces, in the order of their numbers.
    pub fn list(self) -> Vec<Interface> {
        self.0.into_values().collect()
    }
}

/// The value of an attribute (`struct rtattr`: length, type, value; aligned to 4).
fn attribute(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    while let (Some(length), Some(kind)) = (u16_at(bytes, 0), u16_at(bytes, 2)) {
        let length = usize::from(length);
        let value = bytes.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
    None
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, fixed: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = fixed.to_vec();
        for (kind, value) in attributes {
            body.extend((4 + value.len() as u16).to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(*value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let mut out = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        out.extend(kind.to_ne_bytes());
        out.extend([0; 10]);
        out.extend(body);
        out
    }

    #[test]
    fn links_and_addresses_of_the_kernel_are_joined() {
        let mut link = vec![0; 16];
        link[4..8].copy_from_slice(&3_u32.to_ne_bytes());
        link[8..12].copy_from_slice(&(IS_UP | HAS_MULTICAST).to_ne_bytes());
        let mut address = vec![0; 8];
        address[4..8].copy_from_slice(&3_u32.to_ne_bytes());
        let local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
        let global = Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 1);
        let mut bytes = message(NEW_LINK, &link, &[(1, b"xy"), (3, b"cam0\0")]);
        bytes.extend(message(NEW_ADDRESS, &address, &[(1, &[10, 0, 0, 255]), (2, &[10, 0, 0, 1])]));
        bytes.extend(message(NEW_ADDRESS, &address, &[(1, &local.octets())]));
        bytes.extend(message(NEW_ADDRESS, &address, &[(1, &global.octets())]));
        address[2] = 0x40;
        bytes.extend(message(NEW_ADDRESS, &address, &[(1, &local.octets())]));
        let mut found = Interfaces::default();
        assert!(!found.take(&bytes));
        assert!(found.take(&message(DONE, &[], &[])));
        let list = found.list();
        assert_eq!((list.len(), list[0].name.as_str()), (1, "cam0"));
        assert!(list[0].is_usable());
        assert_eq!(list[0].addresses, [IpAddr::from([10, 0, 0, 1]), IpAddr::V6(local)]);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic_or_hang(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let mut found = Interfaces::default();
            found.take(&bytes);
            for kind in [NEW_LINK, NEW_ADDRESS] {
                found.take(&message(kind, &bytes, &[]));
            }
        }
    }
}
