//! Power-cut world of one agent: record, cut, check the card, recover, repeat.
//!
//! The seed decides delays, approximate times of cuts and surviving sectors. The kernel schedules
//! its own threads, so the same seed gives the same plan but not the same bytes.

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
use super::fuse_disk::{Delays, Drive};
use super::mounts::{Mounted, run};
use super::ring_audit::{Survey, tools_agree};

/// Size of the card, bytes: ring, journal, ext4's metadata.
const CARD: u64 = 64 << 20;
/// A ring of the smallest segments, with one or two fragments each: every other flush reuses a
/// file.
const STORAGE: &str = "segment = \"256 KiB\"\nbudget = \"3 MiB\"\nsnapshot_slots = 1";
const FILES: usize = 12;
/// Timeout of the wait for a cut.
const MOMENT_WITHIN: Duration = Duration::from_secs(2);
/// Timeout for a recovered agent to record again.
const RECORDS_WITHIN: Duration = Duration::from_secs(30);

/// Counts over all cuts.
#[derive(Default)]
pub struct Tally {
    pub cuts: u64,
    /// Cuts during a flush.
    in_flush: u64,
    /// Cuts while the head of a segment was pending.
    recycling: u64,
    /// Cuts of a ring that was not recovered after the cut before.
    double: u64,
    acknowledged: u64,
    /// Lost durable records.
    lost: u64,
    /// Newest record at the end, and laps of the ring.
    last: u64,
    laps: f64,
    pending: u64,
    kept: u64,
    /// Files torn during reuse.
    unreadable: usize,
    played: usize,
    recoveries: Vec<u64>,
    delays: Arc<Delays>,
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut times = self.recoveries.clone();
        times.sort_unstable();
        let at = |part: usize| {
            times.get((times.len().saturating_sub(1)) * part / 2).copied().unwrap_or(0)
        };
        let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        write!(
            f,
            "{} cuts ({} within a flush, {} while a segment was started, {} before recovery from the last): {} records acknowledged, {} lost, newest {} after {:.1} laps; start after a \
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
    /// Highest record ever logged as durable.
    promised: u64,
    /// True if an agent reported its start since the last ordered stop.
    started: bool,
    /// All records ever found on the card after a cut or a recovery.
    known: BTreeMap<u64, Digest>,
    /// Newest whole record before an outstanding recovery.
    wrecked_at: Option<u64>,
    pub tally: Tally,
}

impl World {
    /// An empty card for the camera at `main_url`; without `honest` it ignores flushes.
    ///
    /// # Errors
    /// The file system cannot be made.
    pub fn new(seed: u64, honest: bool, main_url: &str) -> anyhow::Result<World> {
        let dir = tempfile::tempdir()?;
        for name in ["drive", "mnt"] {
            std::fs::create_dir(dir.path().join(name))?;
        }
        let config = configure(dir.path(), main_url, &dir.path().join("mnt/ring"), STORAGE)?;
        let (random, tally) = (Rng::new(seed), Tally::default());
        let world = World {
            dir,
            random,
            honest,
            config,
            promised: 0,
            started: false,
            known: BTreeMap::new(),
            wrecked_at: None,
            tally,
        };
        std::fs::File::create(world.image())?.set_len(CARD)?;
        run(Command::new("mkfs.ext4")
            .args(["-q", "-F", "-b", "4096", "-J", "size=4"])
            .arg(world.image()))?;
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

    /// Serves and mounts the card. The mount is dropped first.
    ///
    /// # Errors
    /// This machine does not allow it.
    pub fn plug_in(&mut self) -> anyhow::Result<(Mounted, Drive)> {
        let card = Card::new(std::fs::read(self.image())?, self.honest);
        let delays = self.tally.delays.clone();
        let drive = Drive::serve(card, &self.dir.path().join("drive"), self.random.bits(), delays)
            .context("FUSE")?;
        let mounted = Mounted::mount(&drive.file(), &self.mount_point())?;
        ensure!(mounted.sends_flushes(), "the loop device does not send flushes");
        Ok((mounted, drive))
    }

    /// Records until a cut, checks the card and recovers it; one card in four is cut again without
    /// recovery. With `last` a player opens every file.
    ///
    /// # Errors
    /// The first broken promise.
    pub fn cut(&mut self, last: bool) -> anyhow::Result<()> {
        self.record()?;
        self.tally.cuts += 1;
        self.inspect(last)?;
        if last || !self.random.one_in(4) { self.recover(last) } else { Ok(()) }
    }

    /// Records on the volatile card until a cut; returns its image.
    fn record(&mut self) -> anyhow::Result<()> {
        let (mounted, drive) = self.plug_in()?;
        let mut agent = Agent::start(&self.config)?;
        self.wait_for_the_moment(&drive);
        agent.still_runs()?;
        // Only promises read before the cut count.
        let promised = agent.promised();
        self.started |= agent.started_after().is_some();
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

    /// Waits for the moment of a cut: a random time, a little after the start of a flush, a number
    /// of pending sectors, or the reuse of a file.
    fn wait_for_the_moment(&mut self, drive: &Drive) {
        let pause = if self.random.one_in(4) {
            self.random.below(1000)
        } else {
            1000 + self.random.below(4000)
        };
        let (kind, sectors, after) =
            (self.random.below(4), 1 + self.random.below(300), self.random.below(100));
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

    /// Checks the card before recovery; only ext4 has replayed its journal.
    fn inspect(&mut self, all: bool) -> anyhow::Result<()> {
        let _mounted = Mounted::mount(&self.image(), &self.mount_point())?;
        let survey = self.survey(all, true).context("before recovery")?;
        self.tally.unreadable += survey.unreadable;
        self.wrecked_at = Some(survey.last());
        Ok(())
    }

    /// Starts the agent on the card, lets it record, stops it in order, and checks again.
    fn recover(&mut self, all: bool) -> anyhow::Result<()> {
        let _mounted = Mounted::mount(&self.image(), &self.mount_point())?;
        let mut agent = Agent::start(&self.config)?;
        wait_until(RECORDS_WITHIN, || agent.promised() > 0);
        agent.still_runs()?;
        self.tally.recoveries.push(
            agent.started_after().with_context(|| format!("no start event\n{}", agent.log()))?,
        );
        agent.stop()?;
        ensure!(
            agent.promised() > self.promised,
            "nothing new was recorded after recovery\n{}",
            agent.log()
        );
        self.promised = agent.promised();
        self.tally.acknowledged += agent.acknowledged();
        let survey = self.survey(all, false).context("after recovery")?;
        // If the agent had not reported its start before the cut, the gap may be the ordered
        // stop's.
        let reasons = if self.started {
            &[GapReason::PowerCut][..]
        } else {
            &[GapReason::PowerCut, GapReason::Stopped]
        };
        let before = self.wrecked_at.take().unwrap_or(0);
        ensure!(
            before == 0 || survey.explains(before, reasons),
            "no gap record behind record {before} names the power cut"
        );
        self.started = false;
        (self.tally.last, self.tally.laps) = (survey.last(), f64::from(survey.lap) / FILES as f64);
        Ok(())
    }

    /// Checks that the ring keeps all promises and plays; its newest file may be `torn`.
    fn survey(&mut self, all: bool, torn: bool) -> anyhow::Result<Survey> {
        let survey = Survey::of(&self.ring())?;
        self.tally.lost += self.promised.saturating_sub(survey.last());
        survey.keeps(self.promised, FILES)?;
        survey.agrees_with(&mut self.known)?;
        tools_agree(&self.ring(), &survey)?;
        let which = if all {
            (0..survey.segments()).collect()
        } else {
            survey.sample(1, |limit| self.random.below(limit))
        };
        self.tally.played += which.len();
        survey.play(&which, torn)?;
        Ok(survey)
    }
}

/// Waits until `ready`, for at most `within`.
pub fn wait_until(within: Duration, ready: impl Fn() -> bool) {
    let until = Instant::now() + within;
    while !ready() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The tools that are not installed.
pub fn missing(tools: &[&str]) -> Option<String> {
    let lacks = |tool: &&&str| {
        let found =
            Command::new("sh").args(["-c", &format!("command -v {tool} >/dev/null")]).status();
        found.is_ok_and(|status| !status.success())
    };
    tools.iter().find(lacks).map(|tool| format!("{tool} is not installed"))
}

/// Reason why this machine cannot run the tests; `None` if it can.
pub fn obstacle() -> Option<String> {
    if let Some(reason) =
        missing(&["losetup", "mkfs.ext4", "mount", "mountpoint", "ffmpeg", "ffprobe"])
    {
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
