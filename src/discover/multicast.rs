//! The probe on the network: one UDP socket for each usable interface and address, open only while the command asks.
#![expect(clippy::disallowed_methods, reason = "shell: reads a clock, waits, uses the network")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, netlink};

use super::devices::{Device, Devices};
use super::interfaces::{Interface, Interfaces, requests};
use super::ws_discovery::{self, DATAGRAM_MAX, GROUP_V4, GROUP_V6, PORT, TYPES};
use crate::clock::{random, seed};

/// Between two looks at the sockets.
const POLL: Duration = Duration::from_millis(10);
/// Answers that are read from one socket before the next one has its turn.
const TURN: usize = 64;
/// Messages of the kernel at most; each holds many interfaces.
const KERNEL_MESSAGES_MAX: usize = 256;

/// All interfaces of this machine.
///
/// # Errors
/// The kernel does not answer.
pub fn interfaces() -> anyhow::Result<Vec<Interface>> {
    // Protocol 0 is NETLINK_ROUTE.
    let socket = rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, None)
        .context("asking for the network interfaces")?;
    let mut found = Interfaces::default();
    let mut buffer = vec![0_u8; 64 * 1024];
    for request in requests() {
        let kernel = netlink::SocketAddrNetlink::new(0, 0);
        rustix::net::sendto(&socket, &request, SendFlags::empty(), &kernel)?;
        for _ in 0..KERNEL_MESSAGES_MAX {
            let (length, _) =
                rustix::net::recv(&socket, buffer.as_mut_slice(), RecvFlags::empty())?;
            if length == 0 || found.take(&buffer[..length]) {
                break;
            }
        }
    }
    Ok(found.list())
}

/// A socket, and where its probes go.
struct Asker {
    interface: String,
    socket: UdpSocket,
    group: SocketAddr,
}

fn open(interface: &Interface, address: IpAddr) -> std::io::Result<Asker> {
    let (local, group) = match address {
        IpAddr::V4(_) => (SocketAddr::new(address, 0), SocketAddr::from((GROUP_V4, PORT))),
        IpAddr::V6(v6) => (
            SocketAddrV6::new(v6, 0, 0, interface.index).into(),
            SocketAddrV6::new(GROUP_V6, PORT, 0, interface.index).into(),
        ),
    };
    let socket = UdpSocket::bind(local)?;
    if address.is_ipv4() {
        let index = interface.index;
        rustix::net::sockopt::set_ip_multicast_if_with_ifindex(
            &socket,
            &Ipv4Addr::UNSPECIFIED,
            &Ipv4Addr::UNSPECIFIED,
            index,
        )?;
    } else {
        rustix::net::sockopt::set_ipv6_multicast_if(&socket, interface.index)?;
    }
    socket.set_nonblocking(true)?;
    Ok(Asker { interface: interface.name.clone(), socket, group })
}

/// What a search found.
#[derive(Debug, Default)]
pub struct Search {
    /// The cameras that answered.
    pub devices: Vec<Device>,
    /// What was left out, and interfaces that could not be asked.
    pub notes: Vec<String>,
}

/// Sends probes on `interfaces` and listens for `how_long`. `progress` hears each camera when it answers first.
///
/// # Errors
/// No interface can be asked.
pub fn search(
    interfaces: &[Interface],
    how_long: Duration,
    mut progress: impl FnMut(&str),
) -> anyhow::Result<Search> {
    let mut search = Search::default();
    let mut askers = Vec::new();
    for interface in interfaces {
        for address in &interface.addresses {
            match open(interface, *address) {
                Ok(asker) => {
                    progress(&format!("probing on {} from {address}", interface.name));
                    askers.push(asker);
                }
                Err(error) => search.notes.push(format!("{} {address}: {error}", interface.name)),
            }
        }
    }
    anyhow::ensure!(
        !askers.is_empty(),
        "no network interface can be asked{}",
        reasons(&search.notes)
    );
    let seeds = seed()?;
    let probes: Vec<String> = TYPES
        .iter()
        .zip(seeds.chunks_exact(16))
        .filter_map(|(kind, bytes)| {
            Some(ws_discovery::probe(&ws_discovery::uuid(bytes.try_into().ok()?), *kind))
        })
        .collect();
    let begin = Instant::now();
    let mut due = ws_discovery::schedule(random()).into_iter().peekable();
    let mut devices = Devices::default();
    let mut buffer = vec![0; DATAGRAM_MAX];
    while begin.elapsed() < how_long {
        if due.next_if(|at| begin.elapsed() >= *at).is_some() {
            send(&askers, &probes, &mut search.notes);
        }
        for asker in &askers {
            hear(asker, &mut buffer, &mut devices, &mut progress);
        }
        std::thread::sleep(POLL);
    }
    for (count, what) in [
        (
            devices.dropped,
            "answers beyond the limits were left out: ask with --interface or --host",
        ),
        (devices.unreadable, "answers were not readable"),
        (devices.others, "answers came from devices that are no cameras"),
    ] {
        if count > 0 {
            search.notes.push(format!("{count} {what}"));
        }
    }
    search.devices = devices.list();
    Ok(search)
}

fn reasons(notes: &[String]) -> String {
    if notes.is_empty() { String::new() } else { format!(": {}", notes.join("; ")) }
}

fn send(askers: &[Asker], probes: &[String], notes: &mut Vec<String>) {
    for asker in askers {
        for probe in probes {
            if let Err(error) = asker.socket.send_to(probe.as_bytes(), asker.group) {
                let note = format!("{}: the probe could not be sent: {error}", asker.interface);
                if !notes.contains(&note) {
                    notes.push(note);
                }
            }
        }
    }
}

fn hear(asker: &Asker, buffer: &mut [u8], devices: &mut Devices, progress: &mut impl FnMut(&str)) {
    for _ in 0..TURN {
        // An error of one datagram (a port that is closed over there) is no error of the search.
        let Ok((length, from)) = asker.socket.recv_from(buffer) else { return };
        if !devices.has_room() {
            continue;
        }
        match ws_discovery::matches(&buffer[..length]) {
            Ok(found) => {
                for found in found {
                    if devices.take(from, &asker.interface, found) {
                        progress(&format!("{} answered on {}", from.ip(), asker.interface));
                    }
                }
            }
            Err(_) => devices.unreadable += 1,
        }
    }
}
