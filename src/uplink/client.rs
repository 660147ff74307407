//! ⇄ One MQTT connection through `rumqttc`, version 5 or 3.1.1 behind one face. A fresh client each time, dropped on any error:
//! rumqttc forgets what is queued when a session is lost, so nothing is ever left in its hands.
//!
//! What belongs here: rumqttc's types, packet ids matched to names, what an error means. What does not: what is published, TLS
//! ([`super::tls`]).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rumqttc::v5::mqttbytes::v5 as p5;
use rumqttc::{TlsConfiguration, Transport, v5};

use super::delivery::{Acked, BrokerLimits};
use super::failover::ConnectFault;
use crate::settings::{Login, Protocol};

/// Requests queued in the client at most; the link's window is smaller.
const QUEUE: usize = 64;
/// Largest packet taken from the broker: receipts and commands are small, the office's clients also take chunks of 256 KiB.
pub const PACKET_MAX: u32 = 512 * 1024;
/// Publishes in flight the state table is made for; rumqttc's own default takes 13.8 MB.
const INFLIGHT: u16 = 64;
/// Seconds for TCP, TLS and CONNACK together.
const CONNECT_WITHIN: u64 = 15;

/// How to reach a broker.
#[derive(Clone)]
pub struct Options {
    /// MQTT client id.
    pub client_id: String,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// TLS, ready made.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// User and password.
    pub login: Option<Login>,
    /// Seconds.
    pub keep_alive: u16,
    /// Version.
    pub protocol: Protocol,
    /// Topic and payload of the will, and whether it is retained.
    pub will: Option<(String, Vec<u8>, bool)>,
}

/// What happened on the connection.
#[derive(Debug)]
pub enum ClientEvent {
    /// The broker took us, with these limits.
    Connected(BrokerLimits),
    /// It answered SUBSCRIBE: for each filter it is granted, or why not.
    Subscribed(Vec<Result<(), String>>),
    /// It answered a publish of ours.
    Acked(u64, Acked),
    /// A message came.
    Message(String, Vec<u8>),
    /// Nothing of interest.
    Other,
}

/// Why a connection ended.
#[derive(Debug, Clone)]
pub struct Disconnected {
    /// For people, without secrets.
    pub reason: String,
    /// What it means for the next attempt.
    pub fault: ConnectFault,
}

enum Loop {
    V5(Box<v5::EventLoop>),
    V311(Box<rumqttc::EventLoop>),
}

/// The receiving half: poll it.
pub struct Connection {
    events: Loop,
    /// Publishes given to the client, in order, until they have a packet id.
    queued: Arc<std::sync::Mutex<VecDeque<u64>>>,
    by_id: HashMap<u16, u64>,
    /// CONNACK has come.
    up: bool,
    /// It has ended, but what came before that is not all reported.
    ended: Option<Disconnected>,
}

#[derive(Clone)]
enum Client {
    V5(v5::AsyncClient),
    V311(rumqttc::AsyncClient),
}

/// The sending half.
#[derive(Clone)]
pub struct Sender {
    client: Client,
    queued: Arc<std::sync::Mutex<VecDeque<u64>>>,
}

/// Makes a client; it connects when polled.
pub fn connect(options: &Options) -> (Sender, Connection) {
    let transport = match &options.tls {
        Some(config) => Transport::tls_with_config(TlsConfiguration::Rustls(config.clone())),
        None => Transport::Tcp,
    };
    let mut network = rumqttc::NetworkOptions::new();
    network.set_connection_timeout(CONNECT_WITHIN);
    network.set_tcp_nodelay(true);
    let (client, events) = match options.protocol {
        Protocol::V5 => connect_v5(options, transport, network),
        Protocol::V311 => connect_v311(options, transport, network),
    };
    let queued = Arc::default();
    (Sender { client, queued: Arc::clone(&queued) }, Connection { events, queued, by_id: HashMap::new(), up: false, ended: None })
}

fn connect_v5(options: &Options, transport: Transport, network: rumqttc::NetworkOptions) -> (Client, Loop) {
    let mut mqtt = v5::MqttOptions::new(&options.client_id, &options.host, options.port);
    mqtt.set_transport(transport).set_keep_alive(Duration::from_secs(options.keep_alive.max(5).into())).set_clean_start(true);
    mqtt.set_connection_timeout(CONNECT_WITHIN).set_network_options(network);
    mqtt.set_max_packet_size(Some(PACKET_MAX)).set_outgoing_inflight_upper_limit(INFLIGHT);
    if let Some(login) = &options.login {
        mqtt.set_credentials(&login.user, login.password.reveal());
    }
    if let Some((topic, payload, retain)) = &options.will {
        mqtt.set_last_will(p5::LastWill::new(topic, payload.clone(), v5::mqttbytes::QoS::AtLeastOnce, *retain, None));
    }
    let (client, events) = v5::AsyncClient::new(mqtt, QUEUE);
    (Client::V5(client), Loop::V5(Box::new(events)))
}

fn connect_v311(options: &Options, transport: Transport, network: rumqttc::NetworkOptions) -> (Client, Loop) {
    let mut mqtt = rumqttc::MqttOptions::new(&options.client_id, &options.host, options.port);
    mqtt.set_transport(transport).set_keep_alive(Duration::from_secs(options.keep_alive.max(5).into())).set_clean_session(true);
    mqtt.set_max_packet_size(PACKET_MAX as usize, PACKET_MAX as usize).set_inflight(INFLIGHT);
    if let Some(login) = &options.login {
        mqtt.set_credentials(&login.user, login.password.reveal());
    }
    if let Some((topic, payload, retain)) = &options.will {
        mqtt.set_last_will(rumqttc::LastWill::new(topic, payload.clone(), rumqttc::QoS::AtLeastOnce, *retain));
    }
    let (client, mut events) = rumqttc::AsyncClient::new(mqtt, QUEUE);
    events.set_network_options(network);
    (Client::V311(client), Loop::V311(Box::new(events)))
}

impl Sender {
    /// Queues a publish with QoS 1 under a name; false when the queue is full.
    pub fn publish(&self, token: u64, topic: &str, payload: Vec<u8>, retain: bool) -> bool {
        let mut queued = self.queued.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let taken = match &self.client {
            Client::V5(client) => client.try_publish(topic, v5::mqttbytes::QoS::AtLeastOnce, retain, payload).is_ok(),
            Client::V311(client) => client.try_publish(topic, rumqttc::QoS::AtLeastOnce, retain, payload).is_ok(),
        };
        if taken {
            queued.push_back(token);
        }
        taken
    }

    /// Queues one SUBSCRIBE with QoS 1.
    pub fn subscribe(&self, filters: &[String]) {
        let v5_filter = |filter: &String| p5::Filter::new(filter, v5::mqttbytes::QoS::AtLeastOnce);
        let v311_filter = |filter: &String| rumqttc::SubscribeFilter::new(filter.clone(), rumqttc::QoS::AtLeastOnce);
        // A fresh client's queue is empty: this cannot be full.
        let _ = match &self.client {
            Client::V5(client) => client.try_subscribe_many(filters.iter().map(v5_filter)).is_ok(),
            Client::V311(client) => client.try_subscribe_many(filters.iter().map(v311_filter)).is_ok(),
        };
    }

    /// Queues DISCONNECT.
    pub fn disconnect(&self) {
        let _ = match &self.client {
            Client::V5(client) => client.try_disconnect().is_ok(),
            Client::V311(client) => client.try_disconnect().is_ok(),
        };
    }
}

impl Connection {
    /// Waits for the next thing to happen. Not cancel-safe: pin the future and poll it to its end.
    ///
    /// # Errors
    /// When the connection ended; this client is of no more use. What came before the end is reported first.
    pub async fn poll(&mut self) -> Result<ClientEvent, Disconnected> {
        if self.ended.is_none() {
            let polled = match &mut self.events {
                Loop::V5(events) => {
                    events.poll().await.map(|event| Incoming::V5(Box::new(event))).map_err(|error| ended_v5(&error, self.up))
                }
                Loop::V311(events) => events.poll().await.map(Incoming::V311).map_err(|error| ended_v311(&error, self.up)),
            };
            match polled {
                Ok(heard) => return Ok(self.client_event(heard)),
                Err(ended) => self.ended = Some(ended),
            }
        }
        // Acknowledgements that came with the end are as good as any.
        let left = match &mut self.events {
            Loop::V5(events) => events.state.events.pop_front().map(|event| Incoming::V5(Box::new(event))),
            Loop::V311(events) => events.state.events.pop_front().map(Incoming::V311),
        };
        match (left, &self.ended) {
            (None, Some(ended)) => Err(ended.clone()),
            (left, _) => Ok(left.map_or(ClientEvent::Other, |heard| self.client_event(heard))),
        }
    }

    fn client_event(&mut self, heard: Incoming) -> ClientEvent {
        match heard {
            Incoming::V5(event) => self.seen_v5(*event),
            Incoming::V311(event) => self.seen_v311(event),
        }
    }

    fn seen_v5(&mut self, event: v5::Event) -> ClientEvent {
        match event {
            v5::Event::Incoming(p5::Packet::ConnAck(ack)) => {
                self.up = true;
                ClientEvent::Connected(limits(ack.properties.as_ref()))
            }
            v5::Event::Incoming(p5::Packet::SubAck(ack)) => {
                let granted = |code: &p5::SubscribeReasonCode| match code {
                    p5::SubscribeReasonCode::Success(_) => Ok(()),
                    code => Err(format!("{code:?}")),
                };
                ClientEvent::Subscribed(ack.return_codes.iter().map(granted).collect())
            }
            v5::Event::Incoming(p5::Packet::PubAck(ack)) => self.named(ack.pkid, acked(ack.reason)),
            v5::Event::Incoming(p5::Packet::Publish(publish)) => {
                ClientEvent::Message(String::from_utf8_lossy(&publish.topic).into_owned(), publish.payload.to_vec())
            }
            v5::Event::Outgoing(rumqttc::Outgoing::Publish(id)) => self.sent(id),
            _ => ClientEvent::Other,
        }
    }

    fn seen_v311(&mut self, event: rumqttc::Event) -> ClientEvent {
        match event {
            rumqttc::Event::Incoming(rumqttc::Packet::ConnAck(_)) => {
                self.up = true;
                ClientEvent::Connected(BrokerLimits { receive_max: u16::MAX, max_packet: PACKET_MAX, retain: true })
            }
            rumqttc::Event::Incoming(rumqttc::Packet::SubAck(ack)) => {
                let granted = |code: &rumqttc::SubscribeReasonCode| match code {
                    rumqttc::SubscribeReasonCode::Success(_) => Ok(()),
                    rumqttc::SubscribeReasonCode::Failure => Err("refused".to_owned()),
                };
                ClientEvent::Subscribed(ack.return_codes.iter().map(granted).collect())
            }
            rumqttc::Event::Incoming(rumqttc::Packet::PubAck(ack)) => self.named(ack.pkid, Acked::Taken),
            rumqttc::Event::Incoming(rumqttc::Packet::Publish(publish)) => {
                ClientEvent::Message(publish.topic.clone(), publish.payload.to_vec())
            }
            rumqttc::Event::Outgoing(rumqttc::Outgoing::Publish(id)) => self.sent(id),
            _ => ClientEvent::Other,
        }
    }

    fn named(&mut self, id: u16, acked: Acked) -> ClientEvent {
        self.by_id.remove(&id).map_or(ClientEvent::Other, |token| ClientEvent::Acked(token, acked))
    }

    /// A queued publish got its packet id; they leave in the order they were queued.
    fn sent(&mut self, id: u16) -> ClientEvent {
        let token = self.queued.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop_front();
        if let Some(token) = token {
            self.by_id.insert(id, token);
        }
        ClientEvent::Other
    }
}

/// An event of either version.
enum Incoming {
    V5(Box<v5::Event>),
    V311(rumqttc::Event),
}

fn limits(properties: Option<&p5::ConnAckProperties>) -> BrokerLimits {
    BrokerLimits {
        receive_max: properties.and_then(|p| p.receive_max).unwrap_or(u16::MAX),
        max_packet: properties.and_then(|p| p.max_packet_size).unwrap_or(PACKET_MAX),
        retain: properties.and_then(|p| p.retain_available) != Some(0),
    }
}

/// What a reason of MQTT 5 (3.4.2.1) means for the publish.
fn acked(reason: p5::PubAckReason) -> Acked {
    use p5::PubAckReason as Reason;
    let words = format!("{reason:?}");
    match reason {
        Reason::Success => Acked::Taken,
        Reason::NoMatchingSubscribers => Acked::Unheard,
        Reason::NotAuthorized => Acked::Forbidden(words),
        Reason::TopicNameInvalid | Reason::PayloadFormatInvalid => Acked::Invalid(format!("the broker refuses: {words}")),
        Reason::QuotaExceeded
        | Reason::PacketIdentifierInUse
        | Reason::UnspecifiedError
        | Reason::ImplementationSpecificError => Acked::Busy(words),
    }
}

/// What the end of a connection means; `up` when CONNACK had come.
fn ended_v5(error: &v5::ConnectionError, up: bool) -> Disconnected {
    use v5::{ConnectionError as Error, StateError};
    let fault = match error {
        Error::ConnectionRefused(code) => refused_v5(*code),
        Error::MqttState(StateError::ServerDisconnect { reason_code, .. }) => disconnected(*reason_code),
        Error::Io(error) => io_fault(error, up),
        Error::Timeout(_) => ConnectFault::Unreachable,
        Error::MqttState(StateError::Deserialization(_) | StateError::ConnectionAborted | StateError::Io(_)) if !up => {
            ConnectFault::Version
        }
        Error::NotConnAck(_) => ConnectFault::Version,
        _ => ConnectFault::Lost,
    };
    ended(error.to_string(), fault)
}

fn ended_v311(error: &rumqttc::ConnectionError, up: bool) -> Disconnected {
    use rumqttc::{ConnectReturnCode as Code, ConnectionError as Error, StateError};
    let fault = match error {
        Error::ConnectionRefused(Code::RefusedProtocolVersion) => ConnectFault::Version,
        Error::ConnectionRefused(Code::ServiceUnavailable) => ConnectFault::Busy,
        Error::ConnectionRefused(_) => ConnectFault::Refused,
        Error::Io(error) => io_fault(error, up),
        Error::NetworkTimeout => ConnectFault::Unreachable,
        Error::MqttState(StateError::Deserialization(_) | StateError::ConnectionAborted | StateError::Io(_)) if !up => {
            ConnectFault::Version
        }
        Error::NotConnAck(_) => ConnectFault::Version,
        _ => ConnectFault::Lost,
    };
    ended(error.to_string(), fault)
}

/// Reasons of CONNACK (MQTT 5, 3.2.2.2).
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
        Code::Success | Code::UnspecifiedError | Code::ImplementationSpecificError => ConnectFault::Lost,
        _ => ConnectFault::Refused,
    }
}

/// Reasons of a DISCONNECT by the broker (MQTT 5, 3.14.2.1).
fn disconnected(code: p5::DisconnectReasonCode) -> ConnectFault {
    use p5::DisconnectReasonCode as Code;
    match code {
        Code::ServerBusy
        | Code::MessageRateTooHigh
        | Code::QuotaExceeded
        | Code::ConnectionRateExceeded
        | Code::SessionTakenOver => ConnectFault::Busy,
        Code::NotAuthorized | Code::AdministrativeAction => ConnectFault::Refused,
        Code::UseAnotherServer | Code::ServerMoved => ConnectFault::Unreachable,
        Code::RetainNotSupported => ConnectFault::Retain,
        _ => ConnectFault::Lost,
    }
}

fn io_fault(error: &std::io::Error, up: bool) -> ConnectFault {
    use std::io::ErrorKind as Kind;
    match error.kind() {
        Kind::ConnectionRefused | Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::TimedOut | Kind::AddrNotAvailable => {
            ConnectFault::Unreachable
        }
        Kind::UnexpectedEof | Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe if !up => ConnectFault::Version,
        // The resolver's errors have no kind of their own.
        _ if error.to_string().contains("lookup address") || error.to_string().contains("resolve") => ConnectFault::Name,
        _ => ConnectFault::Lost,
    }
}

/// Says which setting a refusal is about. TLS alerts (RFC 8446 6.2) arrive as words inside an I/O error.
fn ended(reason: String, fault: ConnectFault) -> Disconnected {
    let reason = crate::redact::masked(&reason);
    let about = if reason.contains("fatal alert") {
        "the broker does not accept this box's certificate: look at uplink.cert_file and at the broker's authority"
    } else if reason.contains("invalid peer certificate") {
        "this box does not believe the broker's certificate: look at uplink.ca_file and uplink.host"
    } else if fault == ConnectFault::Refused {
        "the broker refuses this box: look at uplink.login_file, uplink.cert_file and the broker's own log"
    } else if fault == ConnectFault::Name {
        "the broker's name has no address: look at uplink.host and at this box's DNS"
    } else {
        // rumqttc says it in words only, and in others for each version.
        let words = reason.to_lowercase();
        let too_large = words.contains("payload size") && words.contains("exceeded");
        return Disconnected { reason, fault: if too_large { ConnectFault::TooLarge } else { fault } };
    };
    Disconnected {
        reason: format!("{about} ({reason})"),
        fault: if fault == ConnectFault::Name { fault } else { ConnectFault::Refused },
    }
}

/// The same words for who has flags instead of settings: the office's commands.
pub fn in_flags(reason: &str) -> String {
    let words = [
        ("this box's certificate", "this office's certificate"),
        ("this box's DNS", "this machine's DNS"),
        ("this box", "this office"),
        ("uplink.login_file", "--login"),
        ("uplink.cert_file", "--cert"),
        ("uplink.ca_file", "--ca"),
        ("uplink.host", "--broker"),
    ];
    words.iter().fold(reason.to_owned(), |reason, (setting, flag)| reason.replace(setting, flag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_office_is_told_of_its_flags_and_not_of_a_box() {
        let reasons = ["received fatal alert: CertificateUnknown", "invalid peer certificate: UnknownIssuer"]
            .map(|reason| ended(reason.into(), ConnectFault::Lost));
        for reason in
            reasons.into_iter().chain([ConnectFault::Refused, ConnectFault::Name].map(|fault| ended("no".into(), fault)))
        {
            let told = in_flags(&reason.reason);
            assert!(told.contains("--") && !told.contains("uplink.") && !told.contains("box"), "{told}");
        }
    }

    #[test]
    fn every_reason_of_a_puback_has_its_own_meaning() {
        use p5::PubAckReason as Reason;
        assert_eq!(acked(Reason::Success), Acked::Taken);
        assert_eq!(acked(Reason::NoMatchingSubscribers), Acked::Unheard);
        assert!(matches!(acked(Reason::NotAuthorized), Acked::Forbidden(_)));
        assert!(
            matches!(acked(Reason::QuotaExceeded), Acked::Busy(_))
                && matches!(acked(Reason::PacketIdentifierInUse), Acked::Busy(_))
        );
        assert!(matches!(acked(Reason::TopicNameInvalid), Acked::Invalid(_)));
    }

    #[test]
    fn eof_before_connack_may_be_a_version_fault() {
        let cut = |up| ended_v5(&v5::ConnectionError::Io(std::io::ErrorKind::ConnectionReset.into()), up).fault;
        assert_eq!((cut(false), cut(true)), (ConnectFault::Version, ConnectFault::Lost));
        let dns = std::io::Error::other("failed to lookup address information: Name or service not known");
        let ended = ended_v5(&v5::ConnectionError::Io(dns), false);
        assert_eq!(ended.fault, ConnectFault::Name);
        assert!(ended.reason.contains("uplink.host"), "{}", ended.reason);
    }

    #[test]
    fn a_refused_connect_names_the_settings() {
        use p5::ConnectReturnCode as Code;
        let refused = |code| ended_v5(&v5::ConnectionError::ConnectionRefused(code), false);
        assert!(refused(Code::NotAuthorized).reason.contains("uplink.login_file"));
        for (code, fault) in [
            (Code::QuotaExceeded, ConnectFault::Busy),
            (Code::UnsupportedProtocolVersion, ConnectFault::Version),
            (Code::RetainNotSupported, ConnectFault::Retain),
            (Code::ServerMoved, ConnectFault::Unreachable),
        ] {
            assert_eq!(refused(code).fault, fault);
        }
    }
}
