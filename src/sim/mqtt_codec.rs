//! MQTT codec of a broker: one packet type for MQTT 5 and 3.1.1, over rumqttc's codec.

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::{self, v5 as p5};

pub use p5::PubAckReason as Reason;

/// Largest packet that is read, bytes; the broker has its own limit.
const READ_MAX: usize = 1 << 20;

/// MQTT version of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// MQTT 5.
    V5,
    /// MQTT 3.1.1.
    V311,
}

/// A packet from a client.
#[derive(Debug)]
pub enum ClientPacket {
    /// CONNECT.
    Connect {
        /// Client id.
        client_id: String,
        /// Will: topic, payload, retained.
        will: Option<(String, Vec<u8>, bool)>,
    },
    /// PUBLISH.
    Publish {
        /// Topic.
        topic: String,
        /// Payload.
        payload: Vec<u8>,
        /// Retain flag.
        retain: bool,
        /// Packet id.
        id: u16,
        /// Size of the packet, bytes.
        size: usize,
    },
    /// SUBSCRIBE.
    Subscribe {
        /// Packet id.
        id: u16,
        /// Topic filters.
        filters: Vec<String>,
    },
    /// PINGREQ.
    Ping,
    /// DISCONNECT.
    Disconnect,
    /// Any other packet.
    Other,
}

/// A packet from a broker.
pub enum BrokerPacket<'a> {
    /// CONNACK.
    ConnAck {
        /// Reason of a refusal; `None` for success.
        code: Option<p5::ConnectReturnCode>,
        /// Receive Maximum.
        receive_max: Option<u16>,
        /// Maximum Packet Size.
        max_packet: Option<u32>,
        /// Retain Available.
        retain: bool,
    },
    /// PUBLISH.
    Publish {
        /// Topic.
        topic: &'a str,
        /// Payload.
        payload: &'a [u8],
        /// Retain flag.
        retain: bool,
        /// Packet id.
        id: u16,
    },
    /// PUBACK.
    PubAck {
        /// Packet id.
        id: u16,
        /// Reason code.
        reason: p5::PubAckReason,
    },
    /// SUBACK.
    SubAck {
        /// Packet id.
        id: u16,
        /// Whether each filter is granted.
        granted: Vec<bool>,
    },
    /// PINGRESP.
    Pong,
}

impl Version {
    /// Protocol version in CONNECT: 5, or 4 for 3.1.1.
    pub fn number(self) -> u8 {
        if self == Version::V5 { 5 } else { 4 }
    }

    /// Removes the next packet from `buffer`; `Ok(None)` while it is incomplete.
    ///
    /// # Errors
    /// The bytes are not a packet.
    pub fn read(self, buffer: &mut BytesMut) -> Result<Option<ClientPacket>, String> {
        let before = buffer.len();
        match self {
            Version::V5 => match p5::Packet::read(buffer, Some(READ_MAX as u32)) {
                Ok(packet) => Ok(Some(client_packet_v5(packet, before - buffer.len()))),
                Err(mqttbytes::Error::InsufficientBytes(_)) => Ok(None),
                Err(error) => Err(error.to_string()),
            },
            Version::V311 => match rumqttc::Packet::read(buffer, READ_MAX) {
                Ok(packet) => Ok(Some(client_packet_v311(packet, before - buffer.len()))),
                Err(rumqttc::mqttbytes::Error::InsufficientBytes(_)) => Ok(None),
                Err(error) => Err(error.to_string()),
            },
        }
    }

    /// The bytes of a packet.
    pub fn write(self, packet: BrokerPacket<'_>) -> BytesMut {
        let mut bytes = BytesMut::new();
        // Writing to memory fails only for packets over the limit of the protocol.
        let _ = match self {
            Version::V5 => packet_v5(packet).write(&mut bytes, None).is_ok(),
            Version::V311 => packet_v311(packet).write(&mut bytes, READ_MAX).is_ok(),
        };
        bytes
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn client_packet_v5(packet: p5::Packet, size: usize) -> ClientPacket {
    match packet {
        p5::Packet::Connect(connect, will, _) => {
            let will = will.map(|will| (text(&will.topic), will.message.to_vec(), will.retain));
            ClientPacket::Connect { client_id: connect.client_id, will }
        }
        p5::Packet::Publish(p) => ClientPacket::Publish {
            topic: text(&p.topic),
            payload: p.payload.to_vec(),
            retain: p.retain,
            id: p.pkid,
            size,
        },
        p5::Packet::Subscribe(s) => ClientPacket::Subscribe {
            id: s.pkid,
            filters: s.filters.into_iter().map(|f| f.path).collect(),
        },
        p5::Packet::PingReq(_) => ClientPacket::Ping,
        p5::Packet::Disconnect(_) => ClientPacket::Disconnect,
        _ => ClientPacket::Other,
    }
}

fn client_packet_v311(packet: rumqttc::Packet, size: usize) -> ClientPacket {
    match packet {
        rumqttc::Packet::Connect(connect) => {
            let will =
                connect.last_will.map(|will| (will.topic, will.message.to_vec(), will.retain));
            ClientPacket::Connect { client_id: connect.client_id, will }
        }
        rumqttc::Packet::Publish(p) => ClientPacket::Publish {
            topic: p.topic,
            payload: p.payload.to_vec(),
            retain: p.retain,
            id: p.pkid,
            size,
        },
        rumqttc::Packet::Subscribe(s) => ClientPacket::Subscribe {
            id: s.pkid,
            filters: s.filters.into_iter().map(|f| f.path).collect(),
        },
        rumqttc::Packet::PingReq => ClientPacket::Ping,
        rumqttc::Packet::Disconnect => ClientPacket::Disconnect,
        _ => ClientPacket::Other,
    }
}

fn packet_v5(packet: BrokerPacket<'_>) -> p5::Packet {
    match packet {
        BrokerPacket::ConnAck { code, receive_max, max_packet, retain } => {
            let properties = p5::ConnAckProperties {
                session_expiry_interval: None,
                receive_max,
                max_qos: None,
                retain_available: (!retain).then_some(0),
                max_packet_size: max_packet,
                assigned_client_identifier: None,
                topic_alias_max: None,
                reason_string: None,
                user_properties: Vec::new(),
                wildcard_subscription_available: None,
                subscription_identifiers_available: None,
                shared_subscription_available: None,
                server_keep_alive: None,
                response_information: None,
                server_reference: None,
                authentication_method: None,
                authentication_data: None,
            };
            let code = code.unwrap_or(p5::ConnectReturnCode::Success);
            p5::Packet::ConnAck(p5::ConnAck {
                session_present: false,
                code,
                properties: Some(properties),
            })
        }
        BrokerPacket::Publish { topic, payload, retain, id } => {
            let mut publish =
                p5::Publish::new(topic, mqttbytes::QoS::AtLeastOnce, payload.to_vec(), None);
            publish.retain = retain;
            publish.pkid = id;
            p5::Packet::Publish(publish)
        }
        BrokerPacket::PubAck { id, reason } => {
            p5::Packet::PubAck(p5::PubAck { pkid: id, reason, properties: None })
        }
        BrokerPacket::SubAck { id, granted } => {
            let code = |granted| {
                if granted {
                    p5::SubscribeReasonCode::Success(mqttbytes::QoS::AtLeastOnce)
                } else {
                    p5::SubscribeReasonCode::NotAuthorized
                }
            };
            p5::Packet::SubAck(p5::SubAck {
                pkid: id,
                return_codes: granted.into_iter().map(code).collect(),
                properties: None,
            })
        }
        BrokerPacket::Pong => p5::Packet::PingResp(p5::PingResp),
    }
}

fn packet_v311(packet: BrokerPacket<'_>) -> rumqttc::Packet {
    match packet {
        BrokerPacket::ConnAck { code, .. } => {
            let code = match code {
                None => rumqttc::ConnectReturnCode::Success,
                Some(p5::ConnectReturnCode::UnsupportedProtocolVersion) => {
                    rumqttc::ConnectReturnCode::RefusedProtocolVersion
                }
                Some(_) => rumqttc::ConnectReturnCode::NotAuthorized,
            };
            rumqttc::Packet::ConnAck(rumqttc::ConnAck::new(code, false))
        }
        BrokerPacket::Publish { topic, payload, retain, id } => {
            let mut publish =
                rumqttc::Publish::new(topic, rumqttc::QoS::AtLeastOnce, payload.to_vec());
            publish.retain = retain;
            publish.pkid = id;
            rumqttc::Packet::Publish(publish)
        }
        BrokerPacket::PubAck { id, .. } => rumqttc::Packet::PubAck(rumqttc::PubAck::new(id)),
        BrokerPacket::SubAck { id, granted } => {
            let code = |granted| {
                if granted {
                    rumqttc::SubscribeReasonCode::Success(rumqttc::QoS::AtLeastOnce)
                } else {
                    rumqttc::SubscribeReasonCode::Failure
                }
            };
            rumqttc::Packet::SubAck(rumqttc::SubAck::new(
                id,
                granted.into_iter().map(code).collect(),
            ))
        }
        BrokerPacket::Pong => rumqttc::Packet::PingResp,
    }
}
