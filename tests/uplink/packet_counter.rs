//! TCP proxy in front of a broker that counts MQTT control packets by type.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// Types of control packets (MQTT 5, 2.1.2).
pub const CONNECT: u8 = 1;
pub const PINGREQ: u8 = 12;
pub const PINGRESP: u8 = 13;

/// Counts so far.
#[derive(Clone, Default)]
pub struct Tap {
    pub port: u16,
    seen: Arc<Mutex<BTreeMap<u8, u64>>>,
}

impl Tap {
    /// Starts a proxy in front of `to`. It runs until the process ends.
    pub fn start(to: SocketAddr) -> Tap {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let tap = Tap { port: listener.local_addr().unwrap().port(), ..Tap::default() };
        let serving = tap.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(to) else { continue };
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                serving.pass(client.try_clone().unwrap(), server.try_clone().unwrap());
                serving.pass(server, client);
            }
        });
        tap
    }

    /// Packets of a type, in both directions.
    pub fn count(&self, kind: u8) -> u64 {
        self.seen.lock().unwrap().get(&kind).copied().unwrap_or(0)
    }

    fn pass(&self, mut from: TcpStream, mut to: TcpStream) {
        let tap = self.clone();
        thread::spawn(move || {
            let (mut bytes, mut framing) = ([0; 4096], Framing::default());
            while let Ok(n) = from.read(&mut bytes) {
                if n == 0 || to.write_all(&bytes[..n]).is_err() {
                    break;
                }
                let mut seen = tap.seen.lock().unwrap();
                bytes[..n]
                    .iter()
                    .filter_map(|byte| framing.take(*byte))
                    .for_each(|kind| *seen.entry(kind).or_default() += 1);
            }
            let _ = to.shutdown(Shutdown::Both);
        });
    }
}

/// Parser of one direction (MQTT 5, 2.1): a type, the length in 7-bit groups (lowest first), the
/// bytes.
#[derive(Default)]
struct Framing {
    kind: Option<u8>,
    length: u64,
    shift: u32,
    body: u64,
}

impl Framing {
    /// Parses a byte; returns the packet's type with its last byte.
    fn take(&mut self, byte: u8) -> Option<u8> {
        if self.body > 0 {
            self.body -= 1;
            return if self.body == 0 { self.kind.take() } else { None };
        }
        if self.kind.is_none() {
            (self.kind, self.length, self.shift) = (Some(byte >> 4), 0, 0);
            return None;
        }
        self.length |= u64::from(byte & 0x7f) << self.shift;
        self.shift += 7;
        if byte & 0x80 == 0 {
            self.body = self.length;
        }
        if byte & 0x80 == 0 && self.body == 0 { self.kind.take() } else { None }
    }
}

#[test]
fn packets_of_any_length_are_counted_by_type() {
    let mut stream = vec![0xc0, 0];
    stream.extend([0x30, 0x83, 0x01].iter().chain(&[0xc0; 131]));
    stream.extend([0xd0, 0, 0x40, 2, 0, 1]);
    let mut framing = Framing::default();
    let kinds: Vec<u8> = stream.into_iter().filter_map(|byte| framing.take(byte)).collect();
    assert_eq!(kinds, [PINGREQ, 3, PINGRESP, 4]);
}
