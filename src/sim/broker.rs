//! ⇄ The demo's broker: `rumqttd` in this process. In memory, no access list: for the demo and tests only.
//!
//! What belongs here: starting it. What does not: anything real; real brokers are Mosquitto and NATS.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};

/// Until the broker listens.
const START_WITHIN: Duration = Duration::from_secs(5);

/// Bytes and number of the pieces of its log: it keeps this much of everything that was ever sent, for each filter. What is on its way
/// at once is a window of 1 MiB a device, in packets of 512 KiB at most.
const SEGMENT_BYTES: usize = 1 << 20;
const SEGMENTS: usize = 3;

/// Starts a broker on 127.0.0.1 and gives its port (MQTT 3.1.1). It lives as long as the process.
///
/// # Errors
/// When no port is free or it does not come up.
pub fn start() -> anyhow::Result<u16> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("demo broker")?.local_addr()?.port();
    let connections = ConnectionSettings {
        connection_timeout_ms: 10_000,
        max_payload_size: 512 * 1024,
        max_inflight_count: 100,
        auth: None,
        external_auth: None,
        dynamic_filters: true,
    };
    let server = ServerSettings {
        name: "demo".into(),
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        tls: None,
        next_connection_delay_ms: 1,
        connections,
    };
    let router = RouterConfig {
        max_connections: 32,
        max_outgoing_packet_count: 200,
        max_segment_size: SEGMENT_BYTES,
        max_segment_count: SEGMENTS,
        ..RouterConfig::default()
    };
    let servers = HashMap::from([("demo".to_owned(), server)]);
    let config = Config { router, v4: Some(servers), ..Config::default() };
    thread::Builder::new().name("broker".into()).spawn(move || {
        if let Err(error) = Broker::new(config).start() {
            tracing::error!("demo broker: {error}");
        }
    })?;
    let until = Instant::now() + START_WITHIN;
    while std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        anyhow::ensure!(Instant::now() < until, "the demo broker did not come up on port {port}");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(port)
}
