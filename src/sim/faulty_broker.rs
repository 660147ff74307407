//! ⇄ A broker with a temper, for tests: strict about its limits, lossy, forgetful, busy, deaf. MQTT 5 and 3.1.1, QoS 1, in memory.
//!
//! What belongs here: everything a real broker may do and a healthy one does not. What does not: proof that brokers work; that is
//! Mosquitto's and NATS's part.

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

/// How long the broker gathers what comes before it acknowledges: a client that goes over its window is then seen to.
const GATHER: Duration = Duration::from_millis(3);

/// What the broker does to its clients.
#[derive(Debug, Clone)]
pub struct BrokerFaults {
    /// Versions it speaks: 5, 3.1.1.
    pub speaks: (bool, bool),
    /// Largest packet it takes; one that is larger ends the connection.
    pub max_packet: Option<u32>,
    /// Publishes without PubAck it bears; one more ends the connection.
    pub receive_max: Option<u16>,
    /// It keeps retained messages. Without, a retained will or publish ends the connection.
    pub retain: bool,
    /// It loses one in so many publishes after it has acknowledged them; 0 none.
    pub drops: u64,
    /// It delivers one in so many twice.
    pub doubles: u64,
    /// It acknowledges in the opposite order.
    pub reorders: bool,
    /// It forgets retained messages when their client goes, and what it has gathered for others.
    pub forgets: bool,
    /// It acknowledges nothing.
    pub deaf: bool,
    /// It answers publishes to topics with these words so instead of passing them on (MQTT 5).
    pub refuses: Vec<(String, p5::PubAckReason)>,
    /// It refuses subscriptions to filters with these words.
    pub refuses_filter: Option<String>,
    /// It refuses every CONNECT so (MQTT 5).
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
    /// 4 KiB packets, one publish at a time, nothing retained.
    pub fn strict() -> BrokerFaults {
        BrokerFaults { max_packet: Some(4096), receive_max: Some(1), retain: false, ..BrokerFaults::default() }
    }

    /// Loses one in nine after acknowledging it, doubles one in eleven, acknowledges out of order.
    pub fn lossy() -> BrokerFaults {
        BrokerFaults { drops: 9, doubles: 11, reorders: true, ..BrokerFaults::default() }
    }

    /// Forgets everything about a client that goes.
    pub fn forgetful() -> BrokerFaults {
        BrokerFaults { forgets: true, ..BrokerFaults::default() }
    }
}

/// What a test may ask afterwards.
#[derive(Debug, Default, Clone)]
pub struct BrokerCounts {
    /// Connections, by client.
    pub connects: BTreeMap<String, u64>,
    /// Versions they came in.
    pub versions: BTreeMap<String, u8>,
    /// Publishes by topic.
    pub publishes: BTreeMap<String, u64>,
    /// PINGREQs.
    pub pings: u64,
    /// Limits that clients broke.
    pub wrongs: Vec<String>,
}

struct Client {
    words: TcpStream,
    version: Version,
    filters: Vec<String>,
    next_id: u16,
}

#[derive(Default)]
struct State {
    temper: BrokerFaults,
    seen: BrokerCounts,
    clients: HashMap<u64, Client>,
    retained: BTreeMap<String, (u64, Vec<u8>)>,
    next_client: u64,
    rng: Option<Rng>,
}

/// The broker. It lives as long as the process.
#[derive(Clone)]
pub struct FaultyBroker {
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    state: Arc<Mutex<State>>,
}

impl FaultyBroker {
    /// Starts a broker of this temper; its dice are thrown by `seed`.
    ///
    /// # Errors
    /// When no port is free.
    pub fn start(temper: BrokerFaults, seed: u64) -> std::io::Result<FaultyBroker> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let state = State { temper, rng: Some(Rng::new(seed)), ..State::default() };
        let broker = FaultyBroker { port: listener.local_addr()?.port(), state: Arc::new(Mutex::new(state)) };
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

    /// Changes its temper.
    pub fn change(&self, how: impl FnOnce(&mut BrokerFaults)) {
        how(&mut self.lock().temper);
    }

    /// What it has seen so far.
    pub fn counts(&self) -> BrokerCounts {
        self.lock().seen.clone()
    }

    /// Cuts every connection.
    pub fn cut(&self) {
        for client in self.lock().clients.values() {
            let _ = client.words.shutdown(Shutdown::Both);
        }
    }

    fn serve(&self, mut stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let mut buffer = BytesMut::new();
        let Some(version) = read_version(&mut stream, &mut buffer) else {
            return;
        };
        let Some((client, will)) = self.greet(&mut stream, &mut buffer, version) else {
            return;
        };
        let orderly = self.converse(client, &mut stream, &mut buffer, version);
        let mut state = self.lock();
        state.clients.remove(&client);
        if state.temper.forgets {
            state.retained.retain(|_, (owner, _)| *owner != client);
        }
        if let Some((topic, payload, retain)) = will.filter(|_| !orderly) {
            state.publish(client, &topic, &payload, retain);
        }
    }

    /// CONNECT and CONNACK.
    fn greet(&self, stream: &mut TcpStream, buffer: &mut BytesMut, version: Version) -> Option<(u64, Will)> {
        let heard = loop {
            match version.read(buffer) {
                Ok(Some(heard)) => break heard,
                Ok(None) => read_more(stream, buffer)?,
                Err(_) => return None,
            }
        };
        let ClientPacket::Connect { client_id, will } = heard else {
            return None;
        };
        let mut state = self.lock();
        let temper = state.temper.clone();
        *state.seen.connects.entry(client_id.clone()).or_default() += 1;
        state.seen.versions.insert(client_id, version.number());
        let spoken = if version == Version::V5 { temper.speaks.0 } else { temper.speaks.1 };
        let code = if !spoken {
            Some(p5::ConnectReturnCode::UnsupportedProtocolVersion)
        } else if !temper.retain && version == Version::V5 && will.as_ref().is_some_and(|(_, _, retain)| *retain) {
            Some(p5::ConnectReturnCode::RetainNotSupported)
        } else {
            temper.turns_away
        };
        let refused = code.is_some();
        send(
            stream,
            version,
            BrokerPacket::ConnAck { code, receive_max: temper.receive_max, max_packet: temper.max_packet, retain: temper.retain },
        );
        if refused {
            return None;
        }
        state.next_client += 1;
        let id = state.next_client;
        let words = stream.try_clone().ok()?;
        state.clients.insert(id, Client { words, version, filters: Vec::new(), next_id: 0 });
        Some((id, will))
    }

    /// Hears a client until it goes; true when it said so.
    fn converse(&self, client: u64, stream: &mut TcpStream, buffer: &mut BytesMut, version: Version) -> bool {
        let _ = stream.set_read_timeout(Some(GATHER));
        let mut unacked: Vec<(u16, p5::PubAckReason)> = Vec::new();
        loop {
            match version.read(buffer) {
                Ok(Some(ClientPacket::Disconnect)) => return true,
                Ok(Some(heard)) => match self.handle_packet(client, heard, stream, version, &mut unacked) {
                    Some(()) => {}
                    None => return false,
                },
                Ok(None) => match read_more_or_wait(stream, buffer) {
                    Some(true) => {}
                    Some(false) => self.acknowledge(stream, version, &mut unacked),
                    None => return false,
                },
                Err(_) => return true,
            }
        }
    }

    /// Takes one packet; `None` ends the connection.
    fn handle_packet(
        &self,
        client: u64,
        heard: ClientPacket,
        stream: &mut TcpStream,
        version: Version,
        unacked: &mut Vec<(u16, p5::PubAckReason)>,
    ) -> Option<()> {
        let mut state = self.lock();
        match heard {
            ClientPacket::Publish { topic, payload, retain, id, size } => {
                *state.seen.publishes.entry(topic.clone()).or_default() += 1;
                if let Some(wrong) = state.breaks(&topic, retain, size, unacked.len()) {
                    state.seen.wrongs.push(wrong);
                    return None;
                }
                let refusal = state.temper.refuses.iter().find(|(words, _)| topic.contains(words)).map(|(_, reason)| *reason);
                unacked.push((id, refusal.unwrap_or(p5::PubAckReason::Success)));
                if refusal.is_none() {
                    state.pass_on(client, &topic, &payload, retain);
                }
            }
            ClientPacket::Subscribe { id, filters } => {
                let refused = |filter: &String| state.temper.refuses_filter.as_ref().is_some_and(|words| filter.contains(words));
                let granted: Vec<bool> = filters.iter().map(|filter| !refused(filter)).collect();
                send(stream, version, BrokerPacket::SubAck { id, granted: granted.clone() });
                let filters: Vec<String> =
                    filters.into_iter().zip(granted).filter(|(_, granted)| *granted).map(|(f, _)| f).collect();
                state.subscribe(client, filters);
            }
            ClientPacket::Ping => {
                state.seen.pings += 1;
                send(stream, version, BrokerPacket::Pong);
            }
            ClientPacket::Connect { .. } | ClientPacket::Disconnect | ClientPacket::Other => {}
        }
        Some(())
    }

    fn acknowledge(&self, stream: &mut TcpStream, version: Version, unacked: &mut Vec<(u16, p5::PubAckReason)>) {
        let temper = self.lock().temper.clone();
        if temper.deaf {
            return;
        }
        if temper.reorders {
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
    /// Which limit a publish breaks.
    fn breaks(&self, topic: &str, retain: bool, size: usize, unacked: usize) -> Option<String> {
        let temper = &self.temper;
        if temper.max_packet.is_some_and(|most| size > most as usize) {
            return Some(format!("{topic}: a packet of {size} bytes"));
        }
        if temper.receive_max.is_some_and(|most| unacked >= usize::from(most)) {
            return Some(format!("{topic}: {unacked} publishes were not acknowledged yet"));
        }
        (retain && !temper.retain).then(|| format!("{topic}: retained"))
    }

    fn pass_on(&mut self, client: u64, topic: &str, payload: &[u8], retain: bool) {
        let (drops, doubles) = (self.temper.drops, self.temper.doubles);
        let mut dice = |one_in: u64| one_in > 0 && self.rng.as_mut().is_some_and(|rng| rng.one_in(one_in));
        let times = if dice(drops) { 0 } else { 1 + usize::from(dice(doubles)) };
        for _ in 0..times {
            self.publish(client, topic, payload, retain);
        }
    }

    fn publish(&mut self, owner: u64, topic: &str, payload: &[u8], retain: bool) {
        if retain && self.temper.retain {
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
        send(&mut self.words, self.version, BrokerPacket::Publish { topic, payload, retain, id: self.next_id });
    }
}

fn send(stream: &mut TcpStream, version: Version, word: BrokerPacket<'_>) {
    // Who does not listen finds out by itself.
    let _ = stream.write_all(&version.write(word));
}

/// True when `topic` matches `filter`.
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

/// Reads until the protocol level of CONNECT is there.
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

/// True when something came, false when nothing did for now, `None` when nothing will.
fn read_more_or_wait(stream: &mut TcpStream, buffer: &mut BytesMut) -> Option<bool> {
    let mut piece = [0; 16 * 1024];
    match stream.read(&mut piece) {
        Ok(0) => None,
        Ok(n) => {
            buffer.extend_from_slice(&piece[..n]);
            Some(true)
        }
        Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => Some(false),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_mqtt_says() {
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
