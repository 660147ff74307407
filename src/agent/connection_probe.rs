//! Connection probe: tests a camera or a broker without using it, for the dry run of a change.
//!
//! What belongs here: one attempt, bounded in time. What does not: what follows from its result.
#![expect(
    clippy::disallowed_methods,
    reason = "shell: waits, starts a thread or task, uses the network"
)]

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::camera::{CameraFault, CameraUpdate, StreamRole, rtsp};
use crate::clock::Clock;
use crate::settings::{Broker, CameraSettings, Protocol};
use crate::units::SiteId;
use crate::uplink::client::{self, ClientEvent, Options};
use crate::uplink::failover::ConnectFault;
use crate::uplink::tls;
use crate::wakeup::WakeupCoalescer;
use crate::watchdog::Heartbeat;

/// Timeout for the first key frame: slow cameras take 3 s to answer, and a GOP may be 10 s long.
const KEY_FRAME_TIMEOUT: Duration = Duration::from_secs(20);
/// Timeout for TEARDOWN.
const TEARDOWN_TIMEOUT: Duration = Duration::from_secs(4);
/// Timeout for TCP, TLS and CONNACK.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Bytes of an RTSP response header that are read.
const HEAD_MAX: u64 = 8192;

/// Plays one stream of a camera until its first key frame. Returns its tracks.
///
/// # Errors
/// The kind of fault and its cause.
pub async fn camera(
    settings: CameraSettings,
    role: StreamRole,
    clock: Arc<dyn Clock>,
) -> Result<String, (CameraFault, String)> {
    let (updates, mut received) = mpsc::channel(16);
    let (stop, stopped) = watch::channel(false);
    let stream = rtsp::Stream {
        role,
        settings,
        clock,
        shared: Arc::default(),
        heartbeat: Heartbeat::default(),
        run: 0,
        wakeup: WakeupCoalescer::default(),
    };
    let playing = tokio::spawn(rtsp::run(stream, |_| (), updates, stopped));
    // The first failure is the answer: a second attempt with a wrong password brings the account
    // closer to its lockout.
    let answer = timeout(KEY_FRAME_TIMEOUT, async {
        loop {
            match received.recv().await {
                Some(CameraUpdate::Up { tracks, .. }) => return Ok(tracks),
                Some(CameraUpdate::Down { fault, detail, .. }) => return Err((fault, detail)),
                Some(_) => {}
                None => return Err((CameraFault::Closed, "the session ended".into())),
            }
        }
    });
    let late = || {
        (CameraFault::NoKeyFrame, format!("no key frame within {} s", KEY_FRAME_TIMEOUT.as_secs()))
    };
    let answer = answer.await.unwrap_or_else(|_| Err(late()));
    let _ = stop.send(true);
    let _ = timeout(TEARDOWN_TIMEOUT, playing).await;
    answer
}

/// Checks that a camera offers Digest authentication (RFC 7616), which does not reveal the
/// password. Sends nothing secret.
///
/// # Errors
/// When it offers no Digest, or does not answer.
pub async fn offers_digest(url: &url::Url) -> Result<(), String> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = url.port().unwrap_or(554);
    let response = timeout(CONNECT_TIMEOUT, async {
        let mut stream = TcpStream::connect((host.as_str(), port)).await?;
        let request =
            format!("DESCRIBE {url} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let (mut head, mut lines) = (String::new(), BufReader::new(stream.take(HEAD_MAX)).lines());
        while let Some(line) = lines.next_line().await?.filter(|line| !line.is_empty()) {
            head += &(line.to_ascii_lowercase() + "\n");
        }
        std::io::Result::Ok(head)
    });
    let head = response
        .await
        .map_err(|_| "no answer in time".to_owned())?
        .map_err(|error| error.to_string())?;
    let digest = head
        .lines()
        .filter_map(|line| line.strip_prefix("www-authenticate:"))
        .any(|line| line.contains("digest "));
    if digest { Ok(()) } else { Err("it requests the password in clear text".into()) }
}

/// Connects once to a broker, under a separate client id. A broker that binds client ids to
/// certificates ends the device's own session there all the same.
///
/// # Errors
/// The cause and the kind of fault.
pub async fn broker(
    site: &SiteId,
    broker: &Broker,
    protocol: Option<Protocol>,
) -> Result<(), (String, ConnectFault)> {
    match broker_with(site, broker, protocol.unwrap_or(Protocol::V5)).await {
        Err((_, ConnectFault::Version)) if protocol.is_none() => {
            broker_with(site, broker, Protocol::V311).await
        }
        answer => answer,
    }
}

async fn broker_with(
    site: &SiteId,
    broker: &Broker,
    protocol: Protocol,
) -> Result<(), (String, ConnectFault)> {
    let tls = broker.tls.as_ref().map(|tls| tls::config(tls, None)).transpose();
    let options = Options {
        client_id: format!("taimat-{site}-probe"),
        host: broker.host.clone(),
        port: broker.port,
        tls: tls.map_err(|error| (format!("{error:#}"), ConnectFault::Refused))?,
        login: broker.login.clone(),
        keep_alive: 30,
        protocol,
        will: None,
    };
    let (sender, mut connection) = client::connect(&options);
    let answer = timeout(CONNECT_TIMEOUT, async {
        loop {
            match connection.poll().await {
                Ok(ClientEvent::Connected(..)) => return Ok(()),
                Ok(_) => {}
                Err(ended) => return Err((ended.reason, ended.fault)),
            }
        }
    });
    let late = |_| {
        Err((
            format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()),
            ConnectFault::Unreachable,
        ))
    };
    let answer = answer.await.unwrap_or_else(late);
    sender.disconnect();
    let _ = timeout(Duration::from_millis(200), connection.poll()).await;
    answer
}
