//! MQTT client: one connection through `rumqttc`, in version 5 or 3.1.1, behind one interface.
//!
//! Every connection gets a new client, dropped on any error: rumqttc loses its queue with a
//! session, so nothing is left in it. What belongs here: rumqttc's types, packet ids, and the
//! meaning of its errors. What does not: what is published, TLS ([`super::tls`]).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rumqttc::v5::mqttbytes::v5 as p5;
use rumqttc::{TlsConfiguration, Transport, v5};

use super::connection_end::{QOS_0, acked, ended_v5, ended_v311, unlisted_reason};
use super::delivery::{Acked, BrokerLimits};
use super::failover::ConnectFault;
use crate::settings::{Login, Protocol};

/// Requests queued in the client; the delivery's window is smaller.
const QUEUE: usize = 64;
/// Largest packet accepted from the broker in bytes. Receipts and commands are small; the office
/// also receives chunks of 256 KiB.
pub const PACKET_MAX: u32 = 512 * 1024;
/// Size of rumqttc's table of publishes in flight; its default takes 13.8 MB.
const INFLIGHT: u16 = 64;
/// Timeout in seconds for TCP, TLS and CONNACK together.
const CONNECT_TIMEOUT: u64 = 15;

/// How to reach a broker.
#[derive(Clone)]
pub struct Options {
    /// MQTT client id.
    pub client_id: String,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// TLS configuration; `None` for plain TCP.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// User and password; `None` for an anonymous connection.
    pub login: Option<Login>,
    /// Keep alive in seconds; at least 5 is used.
    pub keep_alive: u16,
    /// MQTT version.
    pub protocol: Protocol,
    /// Topic and payload of the will, and whether it is retained.
    pub will: Option<(String, Vec<u8>, bool)>,
}

/// An event of the connection.
#[derive(Debug)]
pub enum ClientEvent {
    /// The broker accepted the connection, with these limits.
    Connected(BrokerLimits),
    /// SUBACK: for each filter `Ok` when it is granted, else the reason.
    Subscribed(Vec<Result<(), String>>),
    /// PUBACK for the publish with this token.
    Acked(u64, Acked),
    /// The broker refused one of the publishes with these tokens for an unlisted reason; the end
    /// of the connection follows.
    RefusedOneOf(u8, Vec<u64>),
    /// A message arrived: topic and payload.
    Message(String, Vec<u8>),
    /// Any other packet.
    Other,
}

/// Why a connection ended.
#[derive(Debug, Clone)]
pub struct Disconnected {
    /// Cause as text, without secrets.
    pub reason: String,
    /// Kind of fault, which decides the next attempt.
    pub fault: ConnectFault,
}

enum Loop {
    V5(Box<v5::EventLoop>),
    V311(Box<rumqttc::EventLoop>),
}

/// The receiving half, to be polled.
pub struct Connection {
    events: Loop,
    /// Tokens of publishes that have no packet id yet, in order.
    queued: Arc<std::sync::Mutex<VecDeque<u64>>>,
    by_id: HashMap<u16, u64>,
    /// CONNACK was received.
    up: bool,
    /// The connection has ended; the events before its end may not all be reported yet.
    ended: Option<Disconnected>,
    /// The reason of a PubAck that ended the connection, until it is reported.
    refusal: Option<u8>,
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

/// Creates a client, which connects when polled.
pub fn connect(options: &Options) -> (Sender, Connection) {
    let transport = match &options.tls {
        Some(config) => Transport::tls_with_config(TlsConfiguration::Rustls(config.clone())),
        None => Transport::Tcp,
    };
    let mut network = rumqttc::NetworkOptions::new();
    network.set_connection_timeout(CONNECT_TIMEOUT);
    network.set_tcp_nodelay(true);
    let (client, events) = match options.protocol {
        Protocol::V5 => connect_v5(options, transport, network),
        Protocol::V311 => connect_v311(options, transport, network),
    };
    let queued = Arc::default();
    (
        Sender { client, queued: Arc::clone(&queued) },
        Connection { events, queued, by_id: HashMap::new(), up: false, ended: None, refusal: None },
    )
}

fn connect_v5(
    options: &Options,
    transport: Transport,
    network: rumqttc::NetworkOptions,
) -> (Client, Loop) {
    let mut mqtt = v5::MqttOptions::new(&options.client_id, &options.host, options.port);
    mqtt.set_transport(transport)
        .set_keep_alive(Duration::from_secs(options.keep_alive.max(5).into()))
        .set_clean_start(true);
    mqtt.set_connection_timeout(CONNECT_TIMEOUT).set_network_options(network);
    mqtt.set_max_packet_size(Some(PACKET_MAX)).set_outgoing_inflight_upper_limit(INFLIGHT);
    if let Some(login) = &options.login {
        mqtt.set_credentials(&login.user, login.password.reveal());
    }
    if let Some((topic, payload, retain)) = &options.will {
        mqtt.set_last_will(p5::LastWill::new(
            topic,
            payload.clone(),
            v5::mqttbytes::QoS::AtLeastOnce,
            *retain,
            None,
        ));
    }
    let (client, events) = v5::AsyncClient::new(mqtt, QUEUE);
    (Client::V5(client), Loop::V5(Box::new(events)))
}

fn connect_v311(
    options: &Options,
    transport: Transport,
    network: rumqttc::NetworkOptions,
) -> (Client, Loop) {
    let mut mqtt = rumqttc::MqttOptions::new(&options.client_id, &options.host, options.port);
    mqtt.set_transport(transport)
        .set_keep_alive(Duration::from_secs(options.keep_alive.max(5).into()))
        .set_clean_session(true);
    mqtt.set_max_packet_size(PACKET_MAX as usize, PACKET_MAX as usize).set_inflight(INFLIGHT);
    if let Some(login) = &options.login {
        mqtt.set_credentials(&login.user, login.password.reveal());
    }
    if let Some((topic, payload, retain)) = &options.will {
        mqtt.set_last_will(rumqttc::LastWill::new(
            topic,
            payload.clone(),
            rumqttc::QoS::AtLeastOnce,
            *retain,
        ));
    }
    let (client, mut events) = rumqttc::AsyncClient::new(mqtt, QUEUE);
    events.set_network_options(network);
    (Client::V311(client), Loop::V311(Box::new(events)))
}

impl Sender {
    /// Queues a publish with QoS 1 under a token; returns false when the queue is full.
    pub fn publish(&self, token: u64, topic: &str, payload: Vec<u8>, retain: bool) -> bool {
        let mut queued = self.queued.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let queued_it = match &self.client {
            Client::V5(client) => {
                client.try_publish(topic, v5::mqttbytes::QoS::AtLeastOnce, retain, payload).is_ok()
            }
            Client::V311(client) => {
                client.try_publish(topic, rumqttc::QoS::AtLeastOnce, retain, payload).is_ok()
            }
        };
        if queued_it {
            queued.push_back(token);
        }
        queued_it
    }

    /// Queues one SUBSCRIBE with QoS 1.
    pub fn subscribe(&self, filters: &[String]) {
        let v5_filter = |filter: &String| p5::Filter::new(filter, v5::mqttbytes::QoS::AtLeastOnce);
        let v311_filter = |filter: &String| {
            rumqttc::SubscribeFilter::new(filter.clone(), rumqttc::QoS::AtLeastOnce)
        };
        // The queue of a new client is empty, so it has room.
        let _ = match &self.client {
            Client::V5(client) => client.try_subscribe_many(filters.iter().map(v5_filter)).is_ok(),
            Client::V311(client) => {
                client.try_subscribe_many(filters.iter().map(v311_filter)).is_ok()
            }
        };
    }

    /// Queues DISCONNECT; false if the queue is full.
    pub fn disconnect(&self) -> bool {
        match &self.client {
            Client::V5(client) => client.try_disconnect().is_ok(),
            Client::V311(client) => client.try_disconnect().is_ok(),
        }
    }
}

impl Connection {
    /// Waits for the next event. Not cancel-safe: pin the future and poll it to its end.
    ///
    /// # Errors
    /// When the connection has ended and every event before its end is reported. The client cannot
    /// be used again.
    pub async fn poll(&mut self) -> Result<ClientEvent, Disconnected> {
        if self.ended.is_none() {
            let polled = match &mut self.events {
                Loop::V5(events) => {
                    events.poll().await.map(|event| Incoming::V5(Box::new(event))).map_err(
                        |error| {
                            self.refusal = unlisted_reason(&error).filter(|_| self.up);
                            ended_v5(&error, self.up)
                        },
                    )
                }
                Loop::V311(events) => events
                    .poll()
                    .await
                    .map(Incoming::V311)
                    .map_err(|error| ended_v311(&error, self.up)),
            };
            match polled {
                Ok(event) => return Ok(self.client_event(event)),
                Err(ended) => self.ended = Some(ended),
            }
        }
        // Acknowledgements received before the end are valid.
        let left = match &mut self.events {
            Loop::V5(events) => {
                events.state.events.pop_front().map(|event| Incoming::V5(Box::new(event)))
            }
            Loop::V311(events) => events.state.events.pop_front().map(Incoming::V311),
        };
        match (left, &mut self.ended) {
            (None, Some(ended)) => match self.refusal.take() {
                Some(_) if self.by_id.is_empty() => {
                    ended.fault = ConnectFault::Lost;
                    Err(ended.clone())
                }
                Some(code) => {
                    let in_flight = self.by_id.drain().map(|(_, token)| token).collect();
                    Ok(ClientEvent::RefusedOneOf(code, in_flight))
                }
                None => Err(ended.clone()),
            },
            (left, _) => Ok(left.map_or(ClientEvent::Other, |event| self.client_event(event))),
        }
    }

    fn client_event(&mut self, event: Incoming) -> ClientEvent {
        match event {
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
                    p5::SubscribeReasonCode::Success(v5::mqttbytes::QoS::AtMostOnce) => {
                        Err(QOS_0.to_owned())
                    }
                    p5::SubscribeReasonCode::Success(_) => Ok(()),
                    code => Err(format!("{code:?}")),
                };
                ClientEvent::Subscribed(ack.return_codes.iter().map(granted).collect())
            }
            v5::Event::Incoming(p5::Packet::PubAck(ack)) => self.acked(ack.pkid, acked(ack.reason)),
            v5::Event::Incoming(p5::Packet::Publish(publish)) => ClientEvent::Message(
                String::from_utf8_lossy(&publish.topic).into_owned(),
                publish.payload.to_vec(),
            ),
            v5::Event::Outgoing(rumqttc::Outgoing::Publish(id)) => self.sent(id),
            _ => ClientEvent::Other,
        }
    }

    fn seen_v311(&mut self, event: rumqttc::Event) -> ClientEvent {
        match event {
            rumqttc::Event::Incoming(rumqttc::Packet::ConnAck(_)) => {
                self.up = true;
                ClientEvent::Connected(BrokerLimits::of_broker(u16::MAX, PACKET_MAX))
            }
            rumqttc::Event::Incoming(rumqttc::Packet::SubAck(ack)) => {
                let granted = |code: &rumqttc::SubscribeReasonCode| match code {
                    rumqttc::SubscribeReasonCode::Success(rumqttc::QoS::AtMostOnce) => {
                        Err(QOS_0.to_owned())
                    }
                    rumqttc::SubscribeReasonCode::Success(_) => Ok(()),
                    rumqttc::SubscribeReasonCode::Failure => Err("refused".to_owned()),
                };
                ClientEvent::Subscribed(ack.return_codes.iter().map(granted).collect())
            }
            rumqttc::Event::Incoming(rumqttc::Packet::PubAck(ack)) => {
                self.acked(ack.pkid, Acked::Accepted)
            }
            rumqttc::Event::Incoming(rumqttc::Packet::Publish(publish)) => {
                ClientEvent::Message(publish.topic.clone(), publish.payload.to_vec())
            }
            rumqttc::Event::Outgoing(rumqttc::Outgoing::Publish(id)) => self.sent(id),
            _ => ClientEvent::Other,
        }
    }

    fn acked(&mut self, id: u16, acked: Acked) -> ClientEvent {
        self.by_id.remove(&id).map_or(ClientEvent::Other, |token| ClientEvent::Acked(token, acked))
    }

    /// Assigns a packet id to the oldest queued publish: publishes leave in the order of the queue.
    fn sent(&mut self, id: u16) -> ClientEvent {
        let token =
            self.queued.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop_front();
        if let Some(token) = token {
            self.by_id.insert(id, token);
        }
        ClientEvent::Other
    }
}

/// A client event of either version.
enum Incoming {
    V5(Box<v5::Event>),
    V311(rumqttc::Event),
}

fn limits(properties: Option<&p5::ConnAckProperties>) -> BrokerLimits {
    BrokerLimits {
        receive_max: properties.and_then(|p| p.receive_max).unwrap_or(u16::MAX),
        max_packet: properties.and_then(|p| p.max_packet_size).unwrap_or(PACKET_MAX),
        retain: properties.and_then(|p| p.retain_available) != Some(0),
        at_least_once: properties.and_then(|p| p.max_qos) != Some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::super::connection_end::ended;
    use super::*;
    use crate::uplink::connection_end::in_flags;

    #[test]
    fn reasons_for_an_office_name_its_flags_and_no_device() {
        let reasons =
            ["received fatal alert: CertificateUnknown", "invalid peer certificate: UnknownIssuer"]
                .map(|reason| ended(reason.into(), ConnectFault::Lost));
        for reason in reasons.into_iter().chain(
            [ConnectFault::Refused, ConnectFault::Name].map(|fault| ended("no".into(), fault)),
        ) {
            let text = in_flags(&reason.reason);
            assert!(
                text.contains("--") && !text.contains("uplink.") && !text.contains("device"),
                "{text}"
            );
        }
    }

    #[test]
    fn puback_reasons_map_to_their_meaning() {
        use p5::PubAckReason as Reason;
        assert_eq!(acked(Reason::Success), Acked::Accepted);
        assert_eq!(acked(Reason::NoMatchingSubscribers), Acked::NoSubscriber);
        assert!(matches!(acked(Reason::NotAuthorized), Acked::NotAuthorized(_)));
        assert!(
            matches!(acked(Reason::QuotaExceeded), Acked::Busy(_))
                && matches!(acked(Reason::PacketIdentifierInUse), Acked::Busy(_))
        );
        assert!(matches!(acked(Reason::TopicNameInvalid), Acked::Invalid(_)));
    }

    #[test]
    fn a_reset_before_connack_may_be_a_version_fault() {
        let cut = |up| {
            ended_v5(&v5::ConnectionError::Io(std::io::ErrorKind::ConnectionReset.into()), up).fault
        };
        assert_eq!((cut(false), cut(true)), (ConnectFault::Version, ConnectFault::Closed));
        let dns = std::io::Error::other(
            "failed to lookup address information: Name or service not known",
        );
        let ended = ended_v5(&v5::ConnectionError::Io(dns), false);
        assert_eq!(ended.fault, ConnectFault::Name);
        assert!(ended.reason.contains("uplink.host"), "{}", ended.reason);
    }

    #[test]
    fn a_session_taken_over_has_a_fault_of_its_own() {
        use p5::DisconnectReasonCode as Code;
        let fault = |error| ended_v5(&v5::ConnectionError::MqttState(error), true).fault;
        let taken = v5::StateError::ServerDisconnect {
            reason_code: Code::SessionTakenOver,
            reason_string: None,
        };
        assert_eq!(fault(taken), ConnectFault::TakenOver);
        assert_eq!(fault(v5::StateError::ConnectionAborted), ConnectFault::Closed);
        let closed = rumqttc::ConnectionError::MqttState(rumqttc::StateError::ConnectionAborted);
        assert_eq!(ended_v311(&closed, true).fault, ConnectFault::Closed);
    }

    #[test]
    fn connack_reasons_map_to_faults_and_name_the_settings() {
        use p5::ConnectReturnCode as Code;
        let refused = |code| ended_v5(&v5::ConnectionError::ConnectionRefused(code), false);
        assert!(
            refused(Code::NotAuthorized)
                .reason
                .contains("uplink.login_file (restart taimat after a change of it)")
        );
        for (code, fault) in [
            (Code::QuotaExceeded, ConnectFault::Busy),
            (Code::UnsupportedProtocolVersion, ConnectFault::Version),
            (Code::RetainNotSupported, ConnectFault::Retain),
            (Code::ServerMoved, ConnectFault::Unreachable),
        ] {
            assert_eq!(refused(code).fault, fault);
        }
    }

    /// Sends these packets after CONNACK and reports what the client makes of them.
    async fn answered(
        connack: &'static [u8],
        packets: &'static [u8],
    ) -> (Vec<String>, Disconnected) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let broker = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = [0; 4096];
            let _ = stream.read(&mut bytes).await;
            stream.write_all(connack).await.unwrap();
            tokio::time::sleep(Duration::from_millis(200)).await;
            let _ = stream.read(&mut bytes).await;
            let _ = stream.write_all(packets).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        });
        let options = Options {
            client_id: "km-17".into(),
            host: "127.0.0.1".into(),
            port,
            tls: None,
            login: None,
            keep_alive: 30,
            protocol: Protocol::V5,
            will: None,
        };
        let (sender, mut connection) = connect(&options);
        for token in 1..=3 {
            assert!(sender.publish(token, "t", vec![1], false));
        }
        let mut seen = Vec::new();
        let ended = loop {
            match connection.poll().await {
                Ok(ClientEvent::Other) => {}
                Ok(event) => seen.push(format!("{event:?}")),
                Err(ended) => break ended,
            }
        };
        broker.await.unwrap();
        (seen, ended)
    }

    const CONNACK: &[u8] = &[0x20, 3, 0, 0, 0];

    #[tokio::test]
    async fn an_unlisted_puback_reason_refuses_one_in_flight() {
        // The answers before it count; 3 is in flight, and so is 2, which is refused.
        let packets = &[0x40, 2, 0, 1, 0x40, 3, 0, 2, 0x95, 0x40, 2, 0, 3];
        let (seen, ended) = answered(CONNACK, packets).await;
        assert_eq!((seen.len(), seen[1].as_str()), (3, "Acked(1, Accepted)"), "{seen:?}");
        assert!(
            ["RefusedOneOf(149, [2, 3])", "RefusedOneOf(149, [3, 2])"].contains(&seen[2].as_str()),
            "{seen:?}"
        );
        assert_eq!(ended.fault, ConnectFault::RefusedPublish);
        assert!(ended.reason.contains("packet too large (0x95)"), "{}", ended.reason);
        let (seen, ended) = answered(CONNACK, &[0x40, 4, 0, 2, 0xb7, 0]).await;
        assert!(seen[1].starts_with("RefusedOneOf(183, ["), "{seen:?}");
        assert_eq!(ended.fault, ConnectFault::RefusedPublish);
    }

    #[tokio::test]
    async fn an_unlisted_reason_without_a_publish_is_a_fault() {
        let packets = &[0x40, 2, 0, 1, 0x40, 2, 0, 2, 0x40, 2, 0, 3, 0x40, 3, 0, 1, 0xb7];
        let (_, ended) = answered(CONNACK, packets).await;
        assert_eq!(ended.fault, ConnectFault::Lost, "{}", ended.reason);
        // Before CONNACK it is a CONNACK that rumqttc does not know.
        let (seen, ended) = answered(&[0x20, 3, 0, 0xb7, 0], &[]).await;
        assert_eq!((seen.len(), ended.fault), (0, ConnectFault::Version));
    }

    #[tokio::test]
    async fn a_disconnect_names_its_reason_and_text() {
        let packets = &[0xe0, 7, 0x95, 5, 0x1f, 0, 2, b'n', b'o'];
        let (_, ended) = answered(CONNACK, packets).await;
        assert!(ended.reason.contains("packet too large (0x95)"), "{}", ended.reason);
        assert!(ended.reason.ends_with("(no)"), "{}", ended.reason);
        // A DISCONNECT of one byte loses its reason in rumqttc (ADR 0001).
        let (_, ended) = answered(CONNACK, &[0xe0, 1, 0x8e]).await;
        assert_eq!(ended.fault, ConnectFault::Closed, "{}", ended.reason);
    }

    #[tokio::test]
    async fn a_broker_of_qos_0_says_so_in_its_limits() {
        let connack = &[0x20, 5, 0, 0, 2, 0x24, 0];
        let (seen, _) = answered(connack, &[0xe0, 0]).await;
        assert!(seen[0].contains("at_least_once: false"), "{seen:?}");
        let (_, ended) = answered(&[0x20, 3, 0, 0x9b, 0], &[]).await;
        assert_eq!((ended.reason.as_str(), ended.fault), (QOS_0, ConnectFault::Refused));
    }

    #[test]
    fn a_certificate_of_the_future_has_a_fault_of_its_own() {
        let reason = "invalid peer certificate: certificate not valid yet: verification time 20";
        let ended = ended(reason.into(), ConnectFault::Lost);
        assert_eq!(ended.fault, ConnectFault::NotYetValid);
        assert!(ended.reason.contains("clock"), "{}", ended.reason);
    }
}
