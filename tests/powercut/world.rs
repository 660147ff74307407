//! One card, one camera, one agent, and one power cut after the other: record, cut, look at the wreck, recover, go on from there.
//!
//! The seed decides what is delayed, for how long, about when the power goes and which sectors survive. When the kernel's
//! threads run is not ours to decide: the same seed gives the same plan, not the same bytes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use taimat::sim::rng::Rng;
use taimat::storage::GapReason;
use taimat::units::Digest;

use super::agent::{Agent, configure};
use super::card::Card;
use super::drive::{Delays, Drive};
use super::mounts::{Mounted, run};
use super::survey::{Survey, tools_agree};

/// Bytes of the card: the ring, the agent's journal, ext4's own.
const CARD: u64 = 64 << 20;
/// A ring of the smallest segments there are: a fragment or two in each, so that every other flush recycles a file.
const STORAGE: &str = "segment = \"256 KiB\"\nbudget = \"3 MiB\"\nsnapshot_slots = 1";
const FILES: usize = 12;
/// How long a moment is waited for.
const MOMENT_WITHIN: Duration = Duration::from_secs(2);
/// How long a recovered agent may take to record again.
const RECORDS_WITHIN: Duration = Duration::from_secs(30);

/// What was seen over all cuts.
#[derive(Default)]
pub struct Tally {
    pub cuts: u64,
    /// Cuts while a flush was under way.
    in_flush: u64,
    /// Cuts while the head of a segment was pending.
    recycling: u64,
    /// Cuts of a ring that had not been recovered since the cut before.
    double: u64,
    acknowledged: u64,
    /// Promised records that were not there.
    lost: u64,
    /// The newest record when all was over, and how often every file had been used.
    last: u64,
    laps: f64,
    pending: u64,
    kept: u64,
    /// Files that were torn while being recycled.
    unreadable: usize,
    played: usize,
    recoveries: Vec<u64>,
    delays: Arc<Delays>,
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut times = self.recoveries.clone();
        times.sort_unstable();
        let at = |part: usize| times.get((times.len().saturating_sub(1)) * part / 2).copied().unwrap_or(0);
        let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        write!(
            f,
            "{} cuts ({} within a flush, {} while a segment was begun, {} before recovery from the last): {} records acknowledged, {} lost, newest {} after {:.1} laps; start after a \
             cut {}/{}/{} ms (min/median/max of {}); {} sectors pending, {} kept; {} flushes, {} delays of {} s in all; {} files \
             played, {} torn while recycled",
            self.cuts,
            self.in_flush,
            self.recycling,
            self.double,
            self.acknowledged,
            self.lost,
            self.last,
            self.laps,
            at(0),
            at(1),
            at(2),
            times.len(),
            self.pending,
            self.kept,
            load(&self.delays.flushes),
            load(&self.delays.count),
            load(&self.delays.millis) / 1000,
            self.played,
            self.unreadable
        )
    }
}

/// One world.
pub struct World {
    dir: tempfile::TempDir,
    random: Rng,
    honest: bool,
    config: PathBuf,
    /// The highest record ever called durable.
    promised: u64,
    /// An agent has told its start since the last ordered stop.
    begun: bool,
    /// Every record ever seen on the card after a cut or a recovery.
    known: BTreeMap<u64, Digest>,
    /// The newest whole record before recovery began, while it is not yet recovered.
    wrecked_at: Option<u64>,
    pub tally: Tally,
}

impl World {
    /// An empty card for the camera at `main_url`; it lies about flushes when it is not `honest`.
    ///
    /// # Errors
    /// When the file system cannot be made.
    pub fn new(seed: u64, honest: bool, main_url: &str) -> anyhow::Result<World> {
        let dir = tempfile::tempdir()?;
        for name in ["drive", "mnt"] {
            std::fs::create_dir(dir.path().join(name))?;
        }
        let config = configure(dir.path(), main_url, &dir.path().join("mnt/ring"), STORAGE)?;
        let (random, tally) = (Rng::new(seed), Tally::default());
        let world =
            World { dir, random, honest, config, promised: 0, begun: false, known: BTreeMap::new(), wrecked_at: None, tally };
        std::fs::File::create(world.image())?.set_len(CARD)?;
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-b", "4096", "-J", "size=4"]).arg(world.image()))?;
        Ok(world)
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("card.img")
    }

    fn ring(&self) -> PathBuf {
        self.mount_point().join("ring")
    }

    fn mount_point(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    /// The card on the drive of this process, and mounted. The mount goes first when both are dropped.
    ///
    /// # Errors
    /// When this machine does not allow it.
    pub fn plug_in(&mut self) -> anyhow::Result<(Mounted, Drive)> {
        let card = Card::new(std::fs::read(self.image())?, self.honest);
        let delays = self.tally.delays.clone();
        let drive = Drive::serve(card, &self.dir.path().join("drive"), self.random.bits(), delays).context("FUSE")?;
        let mounted = Mounted::mount(&drive.file(), &self.mount_point())?;
        ensure!(mounted.sends_flushes(), "the loop device does not send flushes");
        Ok((mounted, drive))
    }

    /// Records until the power goes, looks at what is left, and recovers it, mostly: one wreck in four meets the next cut as
    /// it is. `last` lets a player see every file.
    ///
    /// # Errors
    /// Says which promise was broken.
    pub fn cut(&mut self, last: bool) -> anyhow::Result<()> {
        self.record()?;
        self.tally.cuts += 1;
        self.inspect(last)?;
        if last || !self.random.one_in(4) { self.recover(last) } else { Ok(()) }
    }

    /// Records on the volatile card; the image is what the cut left.
    fn record(&mut self) -> anyhow::Result<()> {
        let (mounted, drive) = self.plug_in()?;
        let mut agent = Agent::start(&self.config)?;
        self.wait_for_the_moment(&drive);
        agent.still_runs()?;
        // What was read before the cut is a promise; what is read after it is none.
        let promised = agent.promised();
        self.begun |= agent.started_after().is_some();
        self.tally.in_flush += u64::from(drive.is_flushing());
        self.tally.recycling += u64::from(drive.ask(Card::has_pending_head));
        let wreck = drive.cut(&mut self.random);
        self.promised = self.promised.max(promised);
        self.tally.acknowledged += agent.acknowledged();
        agent.kill();
        drop(mounted);
        drop(drive);
        self.tally.double += u64::from(self.wrecked_at.is_some());
        self.tally.pending += wreck.pending;
        self.tally.kept += wreck.kept;
        std::fs::write(self.image(), wreck.image)?;
        Ok(())
    }

    /// Waits until the power goes: at any time, a little after the begin of a flush, when so many sectors are pending, or when
    /// a file is about to be recycled.
    fn wait_for_the_moment(&mut self, drive: &Drive) {
        let pause = if self.random.one_in(4) { self.random.below(1000) } else { 1000 + self.random.below(4000) };
        let (kind, sectors, after) = (self.random.below(4), 1 + self.random.below(300), self.random.below(100));
        std::thread::sleep(Duration::from_millis(pause));
        match kind {
            0 => {}
            1 => {
                wait_until(MOMENT_WITHIN, || drive.is_flushing());
                std::thread::sleep(Duration::from_millis(after));
            }
            2 => wait_until(MOMENT_WITHIN, || drive.ask(Card::pending_sectors) >= sectors),
            _ => wait_until(MOMENT_WITHIN, || drive.ask(Card::has_pending_head)),
        }
    }

    /// Looks at the wreck as it is; only ext4 has replayed its journal.
    fn inspect(&mut self, all: bool) -> anyhow::Result<()> {
        let _mounted = Mounted::mount(&self.image(), &self.mount_point())?;
        let survey = self.survey(all, true).context("before recovery")?;
        self.tally.unreadable += survey.unreadable;
        self.wrecked_at = Some(survey.last());
        Ok(())
    }

    /// Starts the agent on the wreck, lets it record, stops it in order, and looks again.
    fn recover(&mut self, all: bool) -> anyhow::Result<()> {
        let _mounted = Mounted::mount(&self.image(), &self.mount_point())?;
        let mut agent = Agent::start(&self.config)?;
        wait_until(RECORDS_WITHIN, || agent.promised() > 0);
        agent.still_runs()?;
        self.tally.recoveries.push(agent.started_after().with_context(|| format!("no start event\n{}", agent.log()))?);
        agent.stop()?;
        ensure!(agent.promised() > self.promised, "nothing new was recorded after recovery\n{}", agent.log());
        self.promised = agent.promised();
        self.tally.acknowledged += agent.acknowledged();
        let survey = self.survey(all, false).context("after recovery")?;
        // An agent that had not told its start when the power went had nothing to interrupt: the hole may be the ordered stop's.
        let reasons = if self.begun { &[GapReason::PowerCut][..] } else { &[GapReason::PowerCut, GapReason::Stopped] };
        let before = self.wrecked_at.take().unwrap_or(0);
        ensure!(before == 0 || survey.explains(before, reasons), "no gap record behind record {before} names the power cut");
        self.begun = false;
        (self.tally.last, self.tally.laps) = (survey.last(), f64::from(survey.lap) / FILES as f64);
        Ok(())
    }

    /// The ring keeps every promise and plays; its newest file may be `torn`.
    fn survey(&mut self, all: bool, torn: bool) -> anyhow::Result<Survey> {
        let survey = Survey::of(&self.ring())?;
        self.tally.lost += self.promised.saturating_sub(survey.last());
        survey.keeps(self.promised, FILES)?;
        survey.agrees_with(&mut self.known)?;
        tools_agree(&self.ring(), &survey)?;
        let which = if all { (0..survey.segments()).collect() } else { survey.sample(1, |limit| self.random.below(limit)) };
        self.tally.played += which.len();
        survey.play(&which, torn)?;
        Ok(survey)
    }
}

/// Waits until `ready`, at most `within`.
pub fn wait_until(within: Duration, ready: impl Fn() -> bool) {
    let until = Instant::now() + within;
    while !ready() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Which of these tools this machine lacks.
pub fn missing(tools: &[&str]) -> Option<String> {
    let lacks = |tool: &&&str| {
        let found = Command::new("sh").args(["-c", &format!("command -v {tool} >/dev/null")]).status();
        found.is_ok_and(|status| !status.success())
    };
    tools.iter().find(lacks).map(|tool| format!("{tool} is not installed"))
}

/// Why this machine cannot run the rig, when it cannot.
pub fn obstacle() -> Option<String> {
    if let Some(reason) = missing(&["losetup", "mkfs.ext4", "mount", "mountpoint", "ffmpeg", "ffprobe"]) {
        return Some(reason);
    }
    if !Path::new("/dev/fuse").exists() {
        return Some("there is no /dev/fuse".into());
    }
    World::new(0, true, "rtsp://127.0.0.1:9/")
        .and_then(|mut world| world.plug_in().map(drop))
        .err()
        .map(|error| format!("{error:#}"))
}
