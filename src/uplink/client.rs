//! ⇄ One MQTT connection through `rumqttc`, version 5 or 3.1.1 behind one face. A fresh client each time, dropped on any error:
//! rumqttc forgets what is queued when a session is lost, so nothing is ever left in its hands.
//!
//! What belongs here: rumqttc's types, TLS, packet ids matched to names. What does not: what is published.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rumqttc::v5::mqttbytes::v5 as p5;
use rumqttc::{TlsConfiguration, Transport, v5};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::settings::{Login, Protocol, TlsSettings, load};

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
    /// Topic and retained payload of the will.
    pub will: Option<(String, Vec<u8>)>,
}

/// What happened on the connection.
#[derive(Debug)]
pub enum Seen {
    /// The broker took us; its Receive Maximum and maximum packet size.
    Connected(u16, u32),
    /// A publish of ours is acknowledged; with the reason when it was refused for good.
    Acked(u64, Option<String>),
    /// A message came.
    Message(String, Vec<u8>),
    /// Nothing of interest.
    Other,
}

/// Why a connection ended.
#[derive(Debug)]
pub struct Ended {
    /// For people, without secrets.
    pub reason: String,
    /// The broker refused us: somebody must look.
    pub refused: bool,
    /// A message came that is larger than we take.
    pub too_large: bool,
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
    let keep_alive = Duration::from_secs(options.keep_alive.max(5).into());
    let (client, events) = match options.protocol {
        Protocol::V5 => {
            let mut mqtt = v5::MqttOptions::new(&options.client_id, &options.host, options.port);
            mqtt.set_transport(transport).set_keep_alive(keep_alive).set_clean_start(true);
            mqtt.set_connection_timeout(CONNECT_WITHIN).set_network_options(network);
            mqtt.set_max_packet_size(Some(PACKET_MAX)).set_outgoing_inflight_upper_limit(INFLIGHT);
            if let Some(login) = &options.login {
                mqtt.set_credentials(&login.user, login.password.reveal());
            }
            if let Some((topic, payload)) = &options.will {
                let qos = v5::mqttbytes::QoS::AtLeastOnce;
                mqtt.set_last_will(p5::LastWill::new(topic, payload.clone(), qos, true, None));
            }
            let (client, events) = v5::AsyncClient::new(mqtt, QUEUE);
            (Client::V5(client), Loop::V5(Box::new(events)))
        }
        Protocol::V311 => {
            let mut mqtt = rumqttc::MqttOptions::new(&options.client_id, &options.host, options.port);
            mqtt.set_transport(transport).set_keep_alive(keep_alive).set_clean_session(true);
            mqtt.set_max_packet_size(PACKET_MAX as usize, PACKET_MAX as usize).set_inflight(INFLIGHT);
            if let Some(login) = &options.login {
                mqtt.set_credentials(&login.user, login.password.reveal());
            }
            if let Some((topic, payload)) = &options.will {
                mqtt.set_last_will(rumqttc::LastWill::new(topic, payload.clone(), rumqttc::QoS::AtLeastOnce, true));
            }
            let (client, mut events) = rumqttc::AsyncClient::new(mqtt, QUEUE);
            events.set_network_options(network);
            (Client::V311(client), Loop::V311(Box::new(events)))
        }
    };
    let queued = Arc::default();
    (Sender { client, queued: Arc::clone(&queued) }, Connection { events, queued, by_id: HashMap::new() })
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

    /// Queues a subscription with QoS 1.
    pub fn subscribe(&self, filter: &str) {
        // A fresh client's queue is empty: this cannot be full.
        let _ = match &self.client {
            Client::V5(client) => client.try_subscribe(filter, v5::mqttbytes::QoS::AtLeastOnce).is_ok(),
            Client::V311(client) => client.try_subscribe(filter, rumqttc::QoS::AtLeastOnce).is_ok(),
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
    /// When the connection ended; this client is of no more use.
    pub async fn poll(&mut self) -> Result<Seen, Ended> {
        let name = |token: Option<u64>, refused| token.map_or(Seen::Other, |token| Seen::Acked(token, refused));
        match &mut self.events {
            Loop::V5(events) => match events.poll().await {
                Ok(v5::Event::Incoming(p5::Packet::ConnAck(ack))) => {
                    let properties = ack.properties.as_ref();
                    let window = properties.and_then(|p| p.receive_max).unwrap_or(u16::MAX);
                    Ok(Seen::Connected(window, properties.and_then(|p| p.max_packet_size).unwrap_or(PACKET_MAX)))
                }
                Ok(v5::Event::Incoming(p5::Packet::PubAck(ack))) => Ok(name(self.by_id.remove(&ack.pkid), refusal(ack.reason))),
                Ok(v5::Event::Incoming(p5::Packet::Publish(publish))) => {
                    Ok(Seen::Message(String::from_utf8_lossy(&publish.topic).into_owned(), publish.payload.to_vec()))
                }
                Ok(v5::Event::Outgoing(rumqttc::Outgoing::Publish(id))) => Ok(self.sent(id)),
                Ok(_) => Ok(Seen::Other),
                Err(error) => Err(ended_v5(&error)),
            },
            Loop::V311(events) => match events.poll().await {
                Ok(rumqttc::Event::Incoming(rumqttc::Packet::ConnAck(_))) => Ok(Seen::Connected(u16::MAX, PACKET_MAX)),
                Ok(rumqttc::Event::Incoming(rumqttc::Packet::PubAck(ack))) => Ok(name(self.by_id.remove(&ack.pkid), None)),
                Ok(rumqttc::Event::Incoming(rumqttc::Packet::Publish(publish))) => {
                    Ok(Seen::Message(publish.topic.clone(), publish.payload.to_vec()))
                }
                Ok(rumqttc::Event::Outgoing(rumqttc::Outgoing::Publish(id))) => Ok(self.sent(id)),
                Ok(_) => Ok(Seen::Other),
                Err(error) => Err(ended_v311(&error)),
            },
        }
    }

    /// A queued publish got its packet id; they leave in the order they were queued.
    fn sent(&mut self, id: u16) -> Seen {
        let token = self.queued.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop_front();
        if let Some(token) = token {
            self.by_id.insert(id, token);
        }
        Seen::Other
    }
}

/// Reasons that will not change by trying again; quota and the like are answered by the receipt time-out.
fn refusal(reason: p5::PubAckReason) -> Option<String> {
    use p5::PubAckReason::{NotAuthorized, PayloadFormatInvalid, TopicNameInvalid};
    matches!(reason, NotAuthorized | TopicNameInvalid | PayloadFormatInvalid).then(|| format!("the broker refuses: {reason:?}"))
}

fn ended_v5(error: &v5::ConnectionError) -> Ended {
    use p5::ConnectReturnCode as Code;
    let refused = matches!(
        error,
        v5::ConnectionError::ConnectionRefused(
            Code::BadUserNamePassword | Code::NotAuthorized | Code::Banned | Code::ClientIdentifierNotValid
        )
    );
    ended(error.to_string(), refused)
}

fn ended_v311(error: &rumqttc::ConnectionError) -> Ended {
    use rumqttc::ConnectReturnCode as Code;
    let refused = matches!(
        error,
        rumqttc::ConnectionError::ConnectionRefused(Code::BadUserNamePassword | Code::NotAuthorized | Code::BadClientId)
    );
    ended(error.to_string(), refused)
}

/// Says which setting a refusal is about. TLS alerts (RFC 8446 6.2) arrive as words inside an I/O error.
fn ended(reason: String, refused: bool) -> Ended {
    let about = if reason.contains("fatal alert") {
        "the broker does not accept this box's certificate: look at uplink.cert_file and at the broker's authority"
    } else if reason.contains("invalid peer certificate") {
        "this box does not believe the broker's certificate: look at uplink.ca_file and uplink.host"
    } else if refused {
        "the broker refuses this box: look at uplink.login_file, uplink.cert_file and the broker's own log"
    } else {
        // rumqttc says it in words only, and in others for each version.
        let words = reason.to_lowercase();
        let too_large = words.contains("payload size") && words.contains("exceeded");
        return Ended { reason, refused, too_large };
    };
    Ended { reason: format!("{about} ({reason})"), refused: true, too_large: false }
}

/// A TLS configuration that trusts only the given authority and shows the given certificate.
///
/// # Errors
/// Names the file that cannot be used.
pub fn tls_config(settings: &TlsSettings) -> anyhow::Result<Arc<rustls::ClientConfig>> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates(&settings.ca)? {
        roots.add(certificate).with_context(|| format!("{}: not an authority", settings.ca.display()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("TLS versions")?
        .with_root_certificates(roots);
    let config = match &settings.identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let file = load::resolve(key).map_err(|error| anyhow::anyhow!("{}: {error}", key.display()))?;
            let private = PrivateKeyDer::from_pem_file(file).map_err(|error| anyhow::anyhow!("{}: {error}", key.display()))?;
            let chain = certificates(chain)?;
            builder.with_client_auth_cert(chain, private).with_context(|| format!("{}: key and certificate", key.display()))?
        }
    };
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let file = load::resolve(path).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    let read = CertificateDer::pem_file_iter(file).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    let list: Result<Vec<_>, _> = read.collect();
    let list = list.map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    anyhow::ensure!(!list.is_empty(), "{}: no certificate in this file", path.display());
    Ok(list)
}
