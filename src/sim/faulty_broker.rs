//! MQTT broker with faults: strict limits, losses, duplicates, refusals, missing PubAcks.
//!
//! It supports MQTT 5 and 3.1.1 with QoS 1, in memory. Tests with real brokers use Mosquitto and
//! NATS.
#![expect(clippy::disallowed_methods, reason = "shell: starts a thread or task, uses the network")]

use std::collections::{BTreeMap, HashMap};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::v5 as p5;

use super::mqtt_codec::{BrokerPacket, ClientPacket, Version};
use super::rng::Rng;

/// Delay of PubAcks, so that a client that exceeds Receive Maximum is detected.
const GATHER: Duration = Duration::from_millis(3);

/// Faults of the broker.
#[derive(Debug, Clone)]
pub struct BrokerFaults {
    /// Whether it supports MQTT 5 and 3.1.1.
    pub speaks: (bool, bool),
    /// Maximum Packet Size, bytes; a larger packet ends the connection.
    pub max_packet: Option<u32>,
    /// Receive Maximum; one more unacknowledged publish ends the connection.
    pub receive_max: Option<u16>,
    /// Retain Available. If false, a retained will or publish ends the connection.
    pub retain: bool,
    /// One in this many publishes is acknowledged and then lost; 0: none.
    pub drops: u64,
    /// One in this many publishes is delivered twice; 0: none.
    pub doubles: u64,
    /// PubAcks come in reverse order.
    pub reorders: bool,
    /// Retained messages are dropped when their client disconnects.
    pub forgets: bool,
    /// No PubAck is sent.
    pub deaf: bool,
    /// Parts of topics whose publishes are refused, and the reason (MQTT 5).
    pub refuses: Vec<(String, p5::PubAckReason)>,
    /// Part of filters whose subscriptions are refused.
    pub refuses_filter: Option<String>,
    /// Reason with which every CONNECT is refused (MQTT 5).
    pub turns_away: Option<p5::ConnectReturnCode>,
}

impl Default for BrokerFaults {
    fn default() -> BrokerFaults {
        BrokerFaults {
            speaks: (true, true),
            max_packet: None,
            receive_max: None,
            retain: true,
            drops: 0,
            doubles: 0,
            reorders: false,
            forgets: false,
            deaf: false,
            refuses: Vec::new(),
            refuses_filter: None,
            turns_away: None,
        }
    }
}

impl BrokerFaults {
    /// 4 KiB packets, one publish at a time, no retained messages.
    pub fn strict() -> BrokerFaults {
        BrokerFaults {
            max_packet: Some(4096),
            receive_max: Some(1),
            retain: false,
            ..BrokerFaults::default()
        }
    }

    /// Loses one publish in nine, doubles one in eleven, acknowledges out of order.
    pub fn lossy() -> BrokerFaults {
        BrokerFaults { drops: 9, doubles: 11, reorders: true, ..BrokerFaults::default() }
    }

    /// Drops all state of a client that disconnects.
    pub fn forgetful() -> BrokerFaults {
        BrokerFaults { forgets: true, ..BrokerFaults::default() }
    }
}

/// Counts for tests.
#[derive(Debug, Default, Clone)]
pub struct BrokerCounts {
    /// Connections by client id.
    pub connects: BTreeMap<String, u64>,
    /// MQTT version by client id.
    pub versions: BTreeMap<String, u8>,
    /// Publishes by topic.
    pub publishes: BTreeMap<String, u64>,
    /// PINGREQ packets.
    pub pings: u64,
    /// Violations of limits by clients.
    pub wrongs: Vec<String>,
}

struct Client {
    stream: TcpStream,
    version: Version,
    filters: Vec<String>,
    next_id: u16,
}

#[derive(Default)]
struct State {
    faults: BrokerFaults,
    counts: BrokerCounts,
    clients: HashMap<u64, Client>,
    retained: BTreeMap<String, (u64, Vec<u8>)>,
    next_client: u64,
    rng: Option<Rng>,
}

/// The broker. It runs until the process ends.
#[derive(Clone)]
pub struct FaultyBroker {
    /// Port on 127.0.0.1.
    pub port: u16,
    state: Arc<Mutex<State>>,
}

impl FaultyBroker {
    /// Starts a broker with these faults; `seed` is for the random ones.
    ///
    /// # Errors
    /// No port is free.
    pub fn start(faults: BrokerFaults, seed: u64) -> std::io::Result<FaultyBroker> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let state = State { faults, rng: Some(Rng::new(seed)), ..State::default() };
        let broker = FaultyBroker {
            port: listener.local_addr()?.port(),
            state: Arc::new(Mutex::new(state)),
        };
        let serving = broker.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let broker = serving.clone();
                thread::spawn(move || broker.serve(stream));
            }
        });
        Ok(broker)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Changes the faults.
    pub fn change(&self, how: impl FnOnce(&mut BrokerFaults)) {
        how(&mut self.lock().faults);
    }

    /// The counts so far.
    pub fn counts(&self) -> BrokerCounts {
        self.lock().counts.clone()
    }

    /// Closes every connection.
    pub fn cut(&self) {
        for client in self.lock().clients.values() {
            let _ = client.stream.shutdown(Shutdown::Both);
        }
    }

    fn serve(&self, mut stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let mut buffer = BytesMut::new();
        let Some(version) = read_version(&mut stream, &mut buffer) else {
            return;
        };
        let Some((client, will)) = self.accept(&mut stream, &mut buffer, version) else {
            return;
        };
        let orderly = self.serve_client(client, &mut stream, &mut buffer, version);
        let mut state = self.lock();
        state.clients.remove(&client);
        if state.faults.forgets {
            state.retained.retain(|_, (owner, _)| *owner != client);
        }
        if let Some((topic, payload, retain)) = will.filter(|_| !orderly) {
            state.publish(client, &topic, &payload, retain);
        }
    }

    /// Reads CONNECT and answers CONNACK.
    fn accept(
        &self,
        stream: &mut TcpStream,
        buffer: &mut BytesMut,
        version: Version,
    ) -> Option<(u64, Will)> {
        let packet = loop {
            match version.read(buffer) {
                Ok(Some(packet)) => break packet,
                Ok(None) => read_more(stream, buffer)?,
                Err(_) => return None,
            }
        };
        let ClientPacket::Connect { client_id, will } = packet else {
            return None;
        };
        let mut state = self.lock();
        let faults = state.faults.clone();
        *state.counts.connects.entry(client_id.clone()).or_default() += 1;
        state.counts.versions.insert(client_id, version.number());
        let spoken = if version == Version::V5 { faults.speaks.0 } else { faults.speaks.1 };
        let code = if !spoken {
            Some(p5::ConnectReturnCode::UnsupportedProtocolVersion)
        } else if !faults.retain
            && version == Version::V5
            && will.as_ref().is_some_and(|(_, _, retain)| *retain)
        {
            Some(p5::ConnectReturnCode::RetainNotSupported)
        } else {
            faults.turns_away
        };
        let refused = code.is_some();
        send(
            stream,
            version,
            BrokerPacket::ConnAck {
                code,
                receive_max: faults.receive_max,
                max_packet: faults.max_packet,
                retain: faults.retain,
            },
        );
        if refused {
            return None;
        }
        state.next_client += 1;
        let id = state.next_client;
        let own = stream.try_clone().ok()?;
        state.clients.insert(id, Client { stream: own, version, filters: Vec::new(), next_id: 0 });
        Some((id, will))
    }

    /// Serves a client until the connection ends; true after DISCONNECT.
    fn serve_client(
        &self,
        client: u64,
        stream: &mut TcpStream,
        buffer: &mut BytesMut,
        version: Version,
    ) -> bool {
        let _ = stream.set_read_timeout(Some(GATHER));
        let mut unacked: Vec<(u16, p5::PubAckReason)> = Vec::new();
        loop {
            match version.read(buffer) {
                Ok(Some(ClientPacket::Disconnect)) => return true,
                Ok(Some(packet)) => {
                    match self.handle_packet(client, packet, stream, version, &mut unacked) {
                        Some(()) => {}
                        None => return false,
                    }
                }
                Ok(None) => match read_more_or_wait(stream, buffer) {
                    Some(true) => {}
                    Some(false) => self.acknowledge(stream, version, &mut unacked),
                    None => return false,
                },
                Err(_) => return true,
            }
        }
    }

    /// Handles one packet; `None`: the connection ends.
    fn handle_packet(
        &self,
        client: u64,
        packet: ClientPacket,
        stream: &mut TcpStream,
        version: Version,
        unacked: &mut Vec<(u16, p5::PubAckReason)>,
    ) -> Option<()> {
        let mut state = self.lock();
        match packet {
            ClientPacket::Publish { topic, payload, retain, id, size } => {
                *state.counts.publishes.entry(topic.clone()).or_default() += 1;
                if let Some(wrong) = state.breaks(&topic, retain, size, unacked.len()) {
                    state.counts.wrongs.push(wrong);
                    return None;
                }
                let refusal = state
                    .faults
                    .refuses
                    .iter()
                    .find(|(words, _)| topic.contains(words))
                    .map(|(_, reason)| *reason);
                unacked.push((id, refusal.unwrap_or(p5::PubAckReason::Success)));
                if refusal.is_none() {
                    state.pass_on(client, &topic, &payload, retain);
                }
            }
            ClientPacket::Subscribe { id, filters } => {
                let refused = |filter: &String| {
                    state.faults.refuses_filter.as_ref().is_some_and(|words| filter.contains(words))
                };
                let granted: Vec<bool> = filters.iter().map(|filter| !refused(filter)).collect();
                send(stream, version, BrokerPacket::SubAck { id, granted: granted.clone() });
                let filters: Vec<String> = filters
                    .into_iter()
                    .zip(granted)
                    .filter(|(_, granted)| *granted)
                    .map(|(f, _)| f)
                    .collect();
                state.subscribe(client, filters);
            }
            ClientPacket::Ping => {
                state.counts.pings += 1;
                send(stream, version, BrokerPacket::Pong);
            }
            ClientPacket::Connect { .. } | ClientPacket::Disconnect | ClientPacket::Other => {}
        }
        Some(())
    }

    fn acknowledge(
        &self,
        stream: &mut TcpStream,
        version: Version,
        unacked: &mut Vec<(u16, p5::PubAckReason)>,
    ) {
        let faults = self.lock().faults.clone();
        if faults.deaf {
            return;
        }
        if faults.reorders {
            unacked.reverse();
        }
        for (id, reason) in unacked.drain(..) {
            send(stream, version, BrokerPacket::PubAck { id, reason });
        }
    }
}

/// Topic, payload, retained.
type Will = Option<(String, Vec<u8>, bool)>;

impl State {
    /// The limit that a publish violates.
    fn breaks(&self, topic: &str, retain: bool, size: usize, unacked: usize) -> Option<String> {
        let faults = &self.faults;
        if faults.max_packet.is_some_and(|most| size > most as usize) {
            return Some(format!("{topic}: a packet of {size} bytes"));
        }
        if faults.receive_max.is_some_and(|most| unacked >= usize::from(most)) {
            return Some(format!("{topic}: {unacked} publishes were not acknowledged yet"));
        }
        (retain && !faults.retain).then(|| format!("{topic}: retained"))
    }

    fn pass_on(&mut self, client: u64, topic: &str, payload: &[u8], retain: bool) {
        let (drops, doubles) = (self.faults.drops, self.faults.doubles);
        let mut dice =
            |one_in: u64| one_in > 0 && self.rng.as_mut().is_some_and(|rng| rng.one_in(one_in));
        let times = if dice(drops) { 0 } else { 1 + usize::from(dice(doubles)) };
        for _ in 0..times {
            self.publish(client, topic, payload, retain);
        }
    }

    fn publish(&mut self, owner: u64, topic: &str, payload: &[u8], retain: bool) {
        if retain && self.faults.retain {
            self.retained.insert(topic.to_owned(), (owner, payload.to_vec()));
        }
        for client in self.clients.values_mut() {
            if client.filters.iter().any(|filter| matches(filter, topic)) {
                client.forward(topic, payload, false);
            }
        }
    }

    fn subscribe(&mut self, client: u64, filters: Vec<String>) {
        if let Some(client) = self.clients.get_mut(&client) {
            for (topic, (_, payload)) in &self.retained {
                if filters.iter().any(|filter| matches(filter, topic)) {
                    client.forward(topic, payload, true);
                }
            }
            client.filters.extend(filters);
        }
    }
}

impl Client {
    fn forward(&mut self, topic: &str, payload: &[u8], retain: bool) {
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        send(
            &mut self.stream,
            self.version,
            BrokerPacket::Publish { topic, payload, retain, id: self.next_id },
        );
    }
}

fn send(stream: &mut TcpStream, version: Version, packet: BrokerPacket<'_>) {
    // A closed connection is noticed by its reader.
    let _ = stream.write_all(&version.write(packet));
}

/// Whether `topic` matches `filter` (MQTT 5, 4.7).
fn matches(filter: &str, topic: &str) -> bool {
    let (mut filter, mut topic) = (filter.split('/'), topic.split('/'));
    loop {
        match (filter.next(), topic.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
}

/// Reads until the protocol version of CONNECT is known.
fn read_version(stream: &mut TcpStream, buffer: &mut BytesMut) -> Option<Version> {
    loop {
        let after_length = buffer.iter().skip(1).position(|byte| byte & 0x80 == 0).map(|at| at + 2);
        if let Some(level) = after_length.and_then(|at| buffer.get(at + 6)) {
            return Some(if *level == 5 { Version::V5 } else { Version::V311 });
        }
        read_more(stream, buffer)?;
    }
}

fn read_more(stream: &mut TcpStream, buffer: &mut BytesMut) -> Option<()> {
    read_more_or_wait(stream, buffer).map(|_| ())
}

/// True after data, false after a timeout, `None` at the end of the stream.
fn read_more_or_wait(stream: &mut TcpStream, buffer: &mut BytesMut) -> Option<bool> {
    let mut piece = [0; 16 * 1024];
    match stream.read(&mut piece) {
        Ok(0) => None,
        Ok(n) => {
            buffer.extend_from_slice(&piece[..n]);
            Some(true)
        }
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
            ) =>
        {
            Some(false)
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_topics_as_mqtt_defines() {
        for (filter, topic, fits) in [
            ("a/+/up/#", "a/b/up/event", true),
            ("a/+/up/#", "a/b/up", true),
            ("a/+/up/#", "a/b/dn/ack", false),
            ("a/b", "a/b/c", false),
            ("a/b/c", "a/b", false),
            ("#", "a", true),
        ] {
            assert_eq!(matches(filter, topic), fits, "{filter} {topic}");
        }
    }
}
