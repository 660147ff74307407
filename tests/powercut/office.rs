//! Power cuts of the office: the real office archives events and files on ext4 over the faulty
//! card.
//!
//! Real devices and a publisher send. A subscriber to `dn/ack` stores every receipt; data receipted
//! before a cut must be present after it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde_json::{Value, json};
use taimat::sim::rng::Rng;
use taimat::units::Digest;

use super::card::Card;
use super::fuse_disk::{Delays, Drive};
use super::mounts::{Mounted, run};
use super::process::{Running, free_port, taimat};
use super::world::wait_until;

/// Size of the disk, bytes: some hundred files of [`FILE_KIB`], the database, ext4's metadata.
const DISK: u64 = 96 << 20;
const FILE_KIB: &str = "96";
/// Smallest number of receipted files before a cut.
const HEARD_MIN: usize = 2;
const HEARD_WITHIN: Duration = Duration::from_secs(30);
/// Interval of events, milliseconds: between them a disk with flushes of 0.1 s has time for files.
const EVENT_EVERY: u64 = 25;

/// Digests of receipts by site and name.
type Promises = BTreeMap<(String, String), String>;

/// An office and a broker under repeated power cuts.
pub struct Office {
    dir: tempfile::TempDir,
    random: Rng,
    honest: bool,
    port: u16,
    _broker: Running,
    round: u64,
    events: Promises,
    files: Promises,
    /// Cuts during a flush; pending sectors; surviving sectors.
    pub tally: [u64; 3],
    delays: Arc<Delays>,
}

impl Office {
    /// An empty archive on an empty disk. Without `honest` it ignores flushes from the second round
    /// on.
    ///
    /// # Errors
    /// This machine does not allow it.
    pub fn new(seed: u64, honest: bool) -> anyhow::Result<Office> {
        let dir = tempfile::tempdir()?;
        for name in ["drive", "mnt"] {
            std::fs::create_dir(dir.path().join(name))?;
        }
        let port = free_port();
        std::fs::write(
            dir.path().join("broker.conf"),
            format!("listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n"),
        )?;
        let broker = Running::start(
            Command::new("mosquitto")
                .arg("-c")
                .arg(dir.path().join("broker.conf"))
                .stderr(Stdio::null()),
        );
        wait_until(HEARD_WITHIN, || TcpStream::connect(("127.0.0.1", port)).is_ok());
        let (random, events, files) = (Rng::new(seed), Promises::new(), Promises::new());
        let (tally, delays) = ([0; 3], Arc::default());
        let office = Office {
            dir,
            random,
            honest,
            port,
            _broker: broker,
            round: 0,
            events,
            files,
            tally,
            delays,
        };
        File::create(office.at("disk.img"))?.set_len(DISK)?;
        run(Command::new("mkfs.ext4")
            .args(["-q", "-F", "-b", "4096", "-J", "size=4"])
            .arg(office.at("disk.img")))?;
        Ok(office)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Number of receipts of events and files before cuts.
    pub fn promised(&self) -> (usize, usize) {
        (self.events.len(), self.files.len())
    }

    /// Archives until a power cut, then compares the disk with the receipts.
    ///
    /// # Errors
    /// The first broken receipt.
    pub fn cut(&mut self) -> anyhow::Result<()> {
        self.round += 1;
        self.archive()?;
        self.inspect()
    }

    fn archive(&mut self) -> anyhow::Result<()> {
        let card = Card::new(std::fs::read(self.at("disk.img"))?, self.honest || self.round == 1);
        let drive = Drive::serve(card, &self.at("drive"), self.random.bits(), self.delays.clone())
            .context("FUSE")?;
        let mounted = Mounted::mount(&drive.file(), &self.at("mnt"))?;
        ensure!(mounted.sends_flushes(), "the loop device does not send flushes");
        let (heard, port) = (self.at(&format!("heard-{}", self.round)), self.port.to_string());
        let mut listen = Command::new("stdbuf");
        listen.args([
            "-oL",
            "mosquitto_sub",
            "-p",
            &port,
            "-t",
            "taimat/v1/+/dn/ack",
            "-F",
            "%t %p",
        ]);
        let _listener = Running::start(listen.stdout(File::create(&heard)?).stderr(Stdio::null()));
        let mut words = taimat();
        words.args(["office", "run", "--port", &port, "--dir"]).arg(self.at("mnt/archive"));
        let mut office = Running::start(words.stdout(Stdio::null()).stderr(Stdio::null()));
        let mut fleet = taimat();
        fleet.args([
            "sim",
            "--fleet",
            "3",
            "--port",
            &port,
            "--events",
            "0",
            "--files",
            "100000",
            "--file-kib",
            FILE_KIB,
        ]);
        let _boxes = Running::start(fleet.stdout(Stdio::null()).stderr(Stdio::null()));
        let _events = self.publish()?;
        wait_until(HEARD_WITHIN, || read(&heard).1.len() >= HEARD_MIN);
        std::thread::sleep(Duration::from_millis(self.random.below(3_000)));
        if self.random.one_in(2) {
            wait_until(Duration::from_secs(2), || drive.is_flushing());
            std::thread::sleep(Duration::from_millis(self.random.below(100)));
        }
        ensure!(office.0.try_wait()?.is_none(), "the office ended by itself");
        // Only receipts from before the cut are promises.
        let (events, files) = read(&heard);
        self.tally[0] += u64::from(drive.is_flushing());
        let wreck = drive.cut(&mut self.random);
        (self.tally[1], self.tally[2]) =
            (self.tally[1] + wreck.pending, self.tally[2] + wreck.kept);
        self.events.extend(events);
        self.files.extend(files);
        let _ = (office.0.kill(), office.0.wait());
        drop((mounted, drive));
        Ok(std::fs::write(self.at("disk.img"), wreck.image)?)
    }

    /// Publishes events of one site, one each [`EVENT_EVERY`], until the client ends.
    fn publish(&self) -> anyhow::Result<Running> {
        let mut publish = Command::new("mosquitto_pub");
        publish.args([
            "-p",
            &self.port.to_string(),
            "-q",
            "1",
            "-l",
            "-t",
            "taimat/v1/km-17/up/event",
        ]);
        let mut running = Running(publish.stdin(Stdio::piped()).stderr(Stdio::null()).spawn()?);
        let (mut lines, round) = (running.0.stdin.take().context("no pipe")?, self.round);
        std::thread::spawn(move || {
            for number in 1.. {
                let event = json!({"specversion": "1.0", "id": format!("r{round}-{number}"), "source": "taimat/km-17", "seq": number,
                    "type": "vn.taimat.scene.v1", "time": "2026-11-24T02:10:00.000Z", "datacontenttype": "application/json",
                    "ring": format!("{round:016x}"), "clock": "ntp", "boot": 1, "mono": number, "data": {"change": "clear"}});
                if writeln!(lines, "{event}").is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(EVENT_EVERY));
            }
        });
        Ok(running)
    }

    /// Checks a copy of the disk after the cut; the office itself recovers it.
    fn inspect(&self) -> anyhow::Result<()> {
        std::fs::copy(self.at("disk.img"), self.at("copy.img"))?;
        let _mounted = Mounted::mount(&self.at("copy.img"), &self.at("mnt"))?;
        let archive = self.at("mnt/archive");
        let db = Connection::open(archive.join("taimat.sqlite"))?;
        let whole: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        ensure!(whole == "ok", "the database: {whole}");
        for ((site, id), sha256) in &self.events {
            let words = "SELECT payload FROM events WHERE site = ?1 AND id = ?2";
            let payload: Option<Vec<u8>> =
                db.query_row(words, params![site, id], |row| row.get(0)).optional()?;
            let payload = payload
                .with_context(|| format!("event {id} of {site} was receipted and is gone"))?;
            ensure!(
                Digest::of(&payload).hex() == *sha256,
                "event {id} of {site} reads differently"
            );
        }
        for ((site, fid), sha256) in &self.files {
            let words = "SELECT path FROM files WHERE site = ?1 AND fid = ?2";
            let path: Option<String> =
                db.query_row(words, params![site, fid], |row| row.get(0)).optional()?;
            let path = archive.join(path.with_context(|| {
                format!("file {fid} of {site} was receipted and is not listed")
            })?);
            let bytes = std::fs::read(&path)
                .with_context(|| format!("file {fid} of {site}: {}", path.display()))?;
            ensure!(Digest::of(&bytes).hex() == *sha256, "file {fid} of {site} reads differently");
        }
        Ok(())
    }
}

/// Parses the stored receipts, of events and of files.
fn read(heard: &std::path::Path) -> (Promises, Promises) {
    let (mut events, mut files) = (Promises::new(), Promises::new());
    // The last line may be incomplete.
    let text = std::fs::read_to_string(heard).unwrap_or_default();
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let Some((topic, payload)) = line.split_once(' ') else { continue };
        let ack: Value = serde_json::from_str(payload).unwrap();
        let word = |key: &str| ack[key].as_str().unwrap_or_default().to_owned();
        let site = topic.split('/').nth(2).unwrap_or_default().to_owned();
        match ack["t"].as_str() {
            Some("event") => events.insert((site, word("id")), word("sha256")),
            Some("stored") => files.insert((site, word("fid")), word("sha256")),
            _ => None,
        };
    }
    (events, files)
}
