//! Fleet simulation: many real uplinks with synthetic events and files, as load for broker and
//! office.
#![expect(
    clippy::disallowed_methods,
    reason = "shell: reads a clock, waits, starts a thread or task"
)]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::json;
use tokio::sync::mpsc;

use crate::clip::SharedFile;
use crate::clock::{Clock, SystemClock};
use crate::evidence::manifest::of_still;
use crate::health::Gauges;
use crate::settings::parse;
use crate::units::{Boot, EntryId, RingId, SiteId};
use crate::uplink::wire::Event;
use crate::uplink::{Message, UplinkRequest, UplinkUpdate, task};
use crate::wakeup::WakeupCoalescer;
use crate::watchdog::Heartbeat;

/// Entries of a site in flight, as from the outbox.
const WINDOW: u64 = 16;
/// Time without a receipt after which a site ends.
const PATIENCE: Duration = Duration::from_secs(60);

/// Load of each site.
#[derive(Debug, Clone, Copy)]
pub struct FleetLoad {
    /// Number of sites.
    pub sites: u64,
    /// Port of the broker on 127.0.0.1.
    pub port: u16,
    /// Events of each site.
    pub events: u64,
    /// Files of each site, spread evenly over its events.
    pub files: u64,
    /// Size of each file, bytes.
    pub file_bytes: usize,
    /// Interval of a site's messages; zero for full speed.
    pub every: Duration,
}

impl FleetLoad {
    /// Number of files among a site's first `number` messages.
    fn files_upto(&self, number: u64) -> u64 {
        number * self.files / (self.events + self.files).max(1)
    }
}

/// Runs all sites until everything is receipted; exit code 1 if something is not.
///
/// # Errors
/// The runtime cannot be started.
pub fn run(load: FleetLoad) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let started = Instant::now();
    let receipts = runtime.block_on(async {
        let sites: Vec<_> =
            (0..load.sites).map(|number| tokio::spawn(site(number, load))).collect();
        let mut receipts = 0;
        for site in sites {
            receipts += site.await??;
        }
        anyhow::Ok(receipts)
    })?;
    runtime.shutdown_background();
    let seconds = started.elapsed().as_secs_f64();
    let wanted = load.sites * (load.events + load.files);
    let bytes = (load.sites * load.files) as f64 * load.file_bytes as f64;
    println!(
        "{} sites, {wanted} messages, {receipts} receipted in {seconds:.1} s: {:.0} receipts a second, {:.1} MB of files a second",
        load.sites,
        receipts as f64 / seconds,
        bytes / seconds / 1e6
    );
    Ok(if receipts == wanted { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs one site; returns the number of its receipts.
async fn site(number: u64, load: FleetLoad) -> anyhow::Result<u64> {
    let clock = Arc::new(SystemClock::new());
    let text = format!(
        "site = \"load-{number}\"\ncamera.main_url = \"rtsp://127.0.0.1/\"\nstorage.dir = \"/\"\nuplink.host = \"127.0.0.1\"\nuplink.port = {}\n",
        load.port
    );
    let settings = parse::parse(&text, &|_| Err("no files".into()))
        .map_err(|problems| anyhow::anyhow!("{problems}"))?;
    let (orders, waiting) = mpsc::channel(64);
    let (update, mut heard) = mpsc::channel(64);
    let ring = RingId(number + 1);
    let (site, wakeup) = (settings.site.clone(), WakeupCoalescer::default());
    let start = task::UplinkStart {
        settings: settings.uplink,
        site,
        boot: Boot(1),
        clock: clock.clone(),
        wakeup,
    };
    let task = tokio::spawn(task::run(start, waiting, update, Heartbeat::default()));
    let birth = Gauges::default().birth(clock.now(), ring, Boot(1), 0);
    orders.send(UplinkRequest::Birth(Box::new(birth))).await.ok().context("the uplink ended")?;
    let (mut sent, mut receipts) = (0, 0);
    let wanted = load.events + load.files;
    let mut due = tokio::time::Instant::now();
    while receipts < wanted {
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(due), if sent < wanted && sent - receipts < WINDOW => {
                sent += 1;
                due += load.every;
                let message = message(&settings.site, sent, ring, load, clock.as_ref());
                orders.send(UplinkRequest::Send { entry_id: EntryId(sent), message }).await.ok().context("the uplink ended")?;
            }
            update = tokio::time::timeout(PATIENCE, heard.recv()) => match update {
                Ok(Some(UplinkUpdate::Receipted { .. })) => receipts += 1,
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break,
            },
        }
    }
    let _ = orders.send(UplinkRequest::Close).await.is_ok();
    heard.close();
    let _ = task.await.is_ok();
    Ok(receipts)
}

fn message(
    site: &SiteId,
    number: u64,
    ring: RingId,
    load: FleetLoad,
    clock: &SystemClock,
) -> Message {
    let now = clock.now();
    let files = load.files_upto(number);
    if files > load.files_upto(number - 1) {
        let bytes: Vec<u8> =
            (0..load.file_bytes).map(|at| (at as u64 * number % 251) as u8).collect();
        let manifest = Box::new(of_still(site, &format!("{site}-{number}"), now, &bytes));
        let source: SharedFile = Arc::new(bytes);
        return Message::File { manifest, source };
    }
    let id = format!("{site}-{number}");
    let event = Event {
        specversion: "1.0".into(),
        id: id.clone(),
        source: format!("taimat/{site}"),
        kind: "vn.taimat.motion.update.v1".into(),
        time: now.wall.rfc3339(),
        datacontenttype: "application/json".into(),
        seq: number - files,
        ring,
        clock: now.quality,
        boot: 1,
        mono: now.mono.0,
        data: json!({"event": id, "box": [0.1, 0.2, 0.3, 0.4], "score": 0.5, "tracks": 1, "zones": ["road"]}),
    };
    Message::Event { id, payload: serde_json::to_vec(&event).unwrap_or_default() }
}
