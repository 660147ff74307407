//! ⇄ Asking a camera or a broker whether it would do, without using it: the dry run of a change.
//!
//! What belongs here: one try, bounded in time, its answer in words. What does not: what follows from it.

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

/// For a camera to give a key frame: slow ones take 3 s to answer, and the GOP may be 10 s long.
const CAMERA_WITHIN: Duration = Duration::from_secs(20);
/// For TEARDOWN.
const CLOSE_WITHIN: Duration = Duration::from_secs(4);
/// For TCP, TLS and CONNACK.
const BROKER_WITHIN: Duration = Duration::from_secs(15);

/// Bytes of an answer's head that are read.
const HEAD_MAX: u64 = 8192;

/// One stream of a camera until its first key frame.
///
/// # Errors
/// Whose fault it is, and why.
pub async fn camera(settings: CameraSettings, role: StreamRole, clock: Arc<dyn Clock>) -> Result<String, (CameraFault, String)> {
    let (update, mut told) = mpsc::channel(16);
    let (stop, stopped) = watch::channel(false);
    let stream = rtsp::Stream {
        role,
        settings,
        clock,
        logins: Arc::default(),
        heartbeat: Heartbeat::default(),
        run: 0,
        wakeup: WakeupCoalescer::default(),
    };
    let playing = tokio::spawn(rtsp::run(stream, |_| (), update, stopped));
    // The first failure is the answer: a second try with a wrong password brings the account nearer to its lock.
    let answer = timeout(CAMERA_WITHIN, async {
        loop {
            match told.recv().await {
                Some(CameraUpdate::Up { tracks, .. }) => return Ok(tracks),
                Some(CameraUpdate::Down { fault, detail, .. }) => return Err((fault, detail)),
                Some(_) => {}
                None => return Err((CameraFault::Closed, "the session ended".into())),
            }
        }
    });
    let late = || (CameraFault::NoKeyFrame, format!("no key frame within {} s", CAMERA_WITHIN.as_secs()));
    let answer = answer.await.unwrap_or_else(|_| Err(late()));
    let _ = stop.send(true);
    let _ = timeout(CLOSE_WITHIN, playing).await;
    answer
}

/// Whether a camera asks for a login in a way that does not show the password: it offers Digest (RFC 7616). Nothing secret is sent.
///
/// # Errors
/// Why it does not, or does not answer.
pub async fn offers_digest(url: &url::Url) -> Result<(), String> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = url.port().unwrap_or(554);
    let asked = timeout(BROKER_WITHIN, async {
        let mut stream = TcpStream::connect((host.as_str(), port)).await?;
        let words = format!("DESCRIBE {url} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\n\r\n");
        stream.write_all(words.as_bytes()).await?;
        let (mut head, mut lines) = (String::new(), BufReader::new(stream.take(HEAD_MAX)).lines());
        while let Some(line) = lines.next_line().await?.filter(|line| !line.is_empty()) {
            head += &(line.to_ascii_lowercase() + "\n");
        }
        std::io::Result::Ok(head)
    });
    let head = asked.await.map_err(|_| "no answer in time".to_owned())?.map_err(|error| error.to_string())?;
    let digest = head.lines().filter_map(|line| line.strip_prefix("www-authenticate:")).any(|line| line.contains("digest "));
    if digest { Ok(()) } else { Err("it asks for the password in the clear".into()) }
}

/// One connection to a broker, under a client id of its own. A broker that binds client ids to certificates ends the device's session
/// all the same, if it has one there.
///
/// # Errors
/// Why there is none, and what it means.
pub async fn broker(site: &SiteId, broker: &Broker, protocol: Option<Protocol>) -> Result<(), (String, ConnectFault)> {
    match broker_in(site, broker, protocol.unwrap_or(Protocol::V5)).await {
        Err((_, ConnectFault::Version)) if protocol.is_none() => broker_in(site, broker, Protocol::V311).await,
        answer => answer,
    }
}

async fn broker_in(site: &SiteId, broker: &Broker, protocol: Protocol) -> Result<(), (String, ConnectFault)> {
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
    let answer = timeout(BROKER_WITHIN, async {
        loop {
            match connection.poll().await {
                Ok(ClientEvent::Connected(..)) => return Ok(()),
                Ok(_) => {}
                Err(ended) => return Err((ended.reason, ended.fault)),
            }
        }
    });
    let late = |_| Err((format!("no answer within {} s", BROKER_WITHIN.as_secs()), ConnectFault::Unreachable));
    let answer = answer.await.unwrap_or_else(late);
    sender.disconnect();
    let _ = timeout(Duration::from_millis(200), connection.poll()).await;
    answer
}
