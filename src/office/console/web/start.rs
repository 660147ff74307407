//! Start of the web listener: its runtime, its identity, what it prints.
#![expect(clippy::disallowed_methods, reason = "shell: starts threads, uses the network, waits")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use ring::signature::Ed25519KeyPair;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::event_ring::EventRing;
use super::server::Server;
use super::tls::{self, Identity};
use super::{Web, feed, limits, router};
use crate::clock::{Clock, SystemClock};
use crate::office::archive_link::ArchiveClient;
use crate::office::console::Console;
use crate::office::console::deletion_recorder::DeletionRecorder;
use crate::office::console::tables::map_tiles::MapTiles;
use crate::office::console::writer::console_dir;
use crate::office::pictures::Pictures;
use crate::office::queries::Reader;
use crate::office::thread_priority::yield_to_receipts;
use crate::units::Digest;
use crate::uplink::client::Options;

/// Threads of the web's runtime: it waits for sockets; what works has threads of its own.
const THREADS: usize = 2;

/// How commands reach devices.
#[derive(Clone)]
pub struct BrokerAccess {
    /// Connection to the broker.
    pub options: Options,
    /// 3.1.1 may be tried after MQTT 5.
    pub any_version: bool,
    /// Key that signs commands; `None`: unsigned.
    pub key: Option<Arc<Ed25519KeyPair>>,
}

/// What the listener needs.
pub struct WebOptions {
    /// Address to listen on; port 0 takes a free one.
    pub address: SocketAddr,
    /// Certificate and key; `None`: plain HTTP on loopback, else a self-signed one.
    pub identity: Option<Identity>,
    /// Names of this machine in a self-signed certificate, beside its address.
    pub names: Vec<String>,
    /// Directory of the archive.
    pub archive: PathBuf,
    /// How commands reach devices; `None`: they do not.
    pub broker: Option<BrokerAccess>,
    /// MBTiles file of a map.
    pub tiles: Option<PathBuf>,
    /// Token with which other machines read `/metrics`.
    pub machine_token: Option<String>,
}

/// A running listener. Dropping it ends it.
pub struct WebServer {
    /// Where it listens.
    pub address: SocketAddr,
    /// SHA-256 of the certificate; `None` without TLS.
    pub fingerprint: Option<Digest>,
    stop: watch::Sender<bool>,
    /// Ends with the listener.
    _deletions: DeletionRecorder,
    /// The runtime, and the task that serves.
    running: Option<(tokio::runtime::Runtime, tokio::task::JoinHandle<()>)>,
}

impl WebServer {
    /// Address of the page.
    pub fn url(&self) -> String {
        let scheme = if self.fingerprint.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        let Some((runtime, serving)) = self.running.take() else { return };
        if tokio::runtime::Handle::try_current().is_ok() {
            // Inside of another runtime nothing may wait.
            return runtime.shutdown_background();
        }
        let all_ended = async { timeout(limits::SHUTDOWN_TIMEOUT * 2, serving).await };
        let _ = runtime.block_on(all_ended);
        // Handlers that still run, such as a command that waits for its reply.
        runtime.shutdown_timeout(limits::SHUTDOWN_TIMEOUT);
    }
}

/// TLS of the listener and the SHA-256 of its certificate.
fn transport(
    options: &WebOptions,
    now_seconds: i64,
) -> anyhow::Result<Option<(TlsAcceptor, Digest)>> {
    let identity = match &options.identity {
        Some(identity) => identity.clone(),
        None if options.address.ip().is_loopback() => return Ok(None),
        None => {
            let mut names = options.names.clone();
            if !options.address.ip().is_unspecified() {
                names.push(options.address.ip().to_string());
            }
            names.push("localhost".into());
            tls::own(&console_dir(&options.archive), &names, now_seconds)?
        }
    };
    let (config, fingerprint) = tls::load(&identity)?;
    Ok(Some((TlsAcceptor::from(config), fingerprint)))
}

/// Every minute, and at once after a start, records the ends of playbacks whose page has gone.
async fn end_silent_playbacks(web: Arc<Web>, mut stopped: watch::Receiver<bool>) {
    loop {
        let sweeping = web.clone();
        let _ = tokio::task::spawn_blocking(move || sweeping.end_silent_playbacks()).await;
        // An answer or a closed channel: the listener ends.
        if timeout(limits::PLAYBACK_SWEEP, stopped.changed()).await.is_ok() {
            return;
        }
    }
}

/// The map; `None` without a usable file: footage is received without a map, too.
fn open_tiles(path: &Path) -> Option<MapTiles> {
    let opened = MapTiles::open(path);
    if let Err(error) = &opened {
        tracing::warn!(%error, "map of the console not shown; mend the file of web.tiles_file, then start again");
    }
    opened.ok()
}

/// Hands the rules of the retention to the archive.
fn hand_rules(web: &Web) {
    if let Err(problem) = web.hand_rules() {
        let detail = problem.detail;
        tracing::warn!(
            detail,
            "rules of the retention not in force; save them again in the console"
        );
    }
}

/// Starts the listener on a runtime of its own. `console` and `archive` are those of the running
/// office; the archive thread may begin later.
///
/// # Errors
/// When the address is taken, the certificate cannot be used, the archive cannot be read, or no
/// thread can be started.
pub fn start(
    options: WebOptions,
    console: Console,
    archive: ArchiveClient,
) -> anyhow::Result<WebServer> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let now = clock.now().wall;
    let transport = transport(&options, now.0.div_euclid(1_000_000))?;
    let reader = Reader::open(&options.archive)?;
    let tiles = options.tiles.as_deref().and_then(open_tiles);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .max_blocking_threads(limits::HANDLER_THREADS)
        .thread_name("web")
        .on_thread_start(yield_to_receipts)
        .enable_all()
        .build()?;
    let listener = runtime
        .block_on(TcpListener::bind(options.address))
        .with_context(|| format!("--web {}", options.address))?;
    let address = listener.local_addr()?;
    let changes = archive.subscribe();
    let (stop, stopped) = watch::channel(false);
    // Above every number of an earlier run: the ring counts on from the milliseconds since 1970.
    let first = now.0.div_euclid(1_000).unsigned_abs();
    let deletions = DeletionRecorder::start(&options.archive, Some(console.clone()))?;
    let web = Arc::new(Web {
        console,
        archive,
        reader,
        clock,
        broker: options.broker,
        machine_token: options.machine_token.map(|token| Digest::of(token.trim().as_bytes())),
        heavy: Arc::new(Semaphore::new(limits::HEAVY_READS)),
        commands: Arc::new(Semaphore::new(limits::COMMANDS)),
        logins: Arc::new(Semaphore::new(limits::LOGINS)),
        open: Arc::default(),
        counts: Default::default(),
        ring: Mutex::new(EventRing::new(first, limits::STREAM_RING)),
        newest: watch::Sender::new(first),
        opened: Mutex::default(),
        indexes: Mutex::default(),
        pictures: Pictures::start()?,
        tiles,
        decoding: Mutex::default(),
        streams: Mutex::default(),
        groups: Default::default(),
        privacy: Default::default(),
        missing: Mutex::default(),
        runtime: runtime.handle().clone(),
        stop: stopped.clone(),
    });
    let (tls, fingerprint) = match transport {
        Some((tls, fingerprint)) => (Some(tls), Some(fingerprint)),
        None => (None, None),
    };
    let server = Server { listener, tls, router: router::router(&web), open: web.open.clone() };
    let rules = web.clone();
    runtime.spawn_blocking(move || hand_rules(&rules));
    runtime.spawn(end_silent_playbacks(web.clone(), stopped.clone()));
    runtime.spawn(feed::run(web, changes));
    let serving = runtime.spawn(server.run(stopped));
    Ok(WebServer {
        address,
        fingerprint,
        stop,
        _deletions: deletions,
        running: Some((runtime, serving)),
    })
}
