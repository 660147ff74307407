//! MQTT broker of the demo: `rumqttd` in this process, without an access list.
//!
//! It keeps everything in memory and serves only the demo and tests.
#![expect(
    clippy::disallowed_methods,
    reason = "shell: reads a clock, waits, starts a thread or task, uses the network"
)]

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};

/// Time for the broker to listen.
const START_WITHIN: Duration = Duration::from_secs(5);

/// Size and number of the segments of the broker's log, which it keeps for each filter. A device
/// has at most 1 MiB in flight, in packets of at most 512 KiB.
const SEGMENT_BYTES: usize = 1 << 20;
const SEGMENTS: usize = 3;

/// Starts a broker on 127.0.0.1 and returns its port (MQTT 3.1.1). It runs until the process ends.
///
/// # Errors
/// No port is free, or the broker does not listen in time.
pub fn start() -> anyhow::Result<u16> {
    let port =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("demo broker")?.local_addr()?.port();
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
            tracing::error!(%error, "demo broker ended; restart the demo");
        }
    })?;
    let until = Instant::now() + START_WITHIN;
    while std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        anyhow::ensure!(Instant::now() < until, "the demo broker does not listen on port {port}");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(port)
}
