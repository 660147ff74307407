//! Office on a full disk: the real archive on a small ext4 that another program keeps full.
//!
//! Honest devices send again without a receipt, and the office restarts in between. Every receipted
//! file must have its bytes, and the consistency check must find nothing.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use taimat::clock::SystemClock;
use taimat::evidence::manifest::{Manifest, of_still};
use taimat::office::archive::Archive;
use taimat::office::archive_thread::{self, ArchiveLink, Intake, OutgoingAnswer};
use taimat::office::notice::Notice;
use taimat::office::queries::Filter;
use taimat::office::retention::Retention;
use taimat::sim::rng::Rng;
use taimat::units::{Digest, SiteId, Timestamp, WallTime};
use taimat::uplink::topics;
use taimat::uplink::wire::Ack;

use super::mounts::{Mounted, run};

const DISK: u64 = 24 << 20;
pub const CLIPS: usize = 100;
const CHUNK: usize = 16 << 10;
/// Clips in transfer at once.
const AT_ONCE: usize = 4;
/// Time with a full disk, and the timeout after it.
const FULL: Duration = Duration::from_secs(40);
const LIMIT: Duration = Duration::from_secs(300);
/// Time without an answer after which a device starts a file again.
const PATIENCE: Duration = Duration::from_millis(700);

struct Clip {
    manifest: Manifest,
    bytes: Vec<u8>,
    sent: Option<Instant>,
    stored: bool,
}

/// Result of a run.
pub struct Tally {
    pub receipts_while_full: usize,
    pub restarts: usize,
    pub complaints: usize,
    pub files: usize,
}

/// Fills the disk, frees a little and fills it again, until `stop`; then it frees everything. On
/// `give`
/// it frees enough for an office to start.
fn neighbour(path: &Path, seed: u64, stop: &AtomicBool, give: &AtomicBool) {
    let mut random = Rng::new(seed);
    while !stop.load(Ordering::Relaxed) {
        let file = OpenOptions::new().create(true).append(true).open(path);
        if let Ok(mut file) = file {
            let mut piece = 64 << 10;
            while piece >= 512 && !stop.load(Ordering::Relaxed) {
                if file.write_all(&vec![7; piece]).is_err() {
                    piece /= 2;
                }
            }
            let len = file.metadata().map_or(0, |about| about.len());
            std::thread::sleep(Duration::from_millis(random.below(150)));
            if give.swap(false, Ordering::Relaxed) {
                let _ = file.set_len(len.saturating_sub(2 << 20));
                std::thread::sleep(Duration::from_millis(300));
            }
            let len = file.metadata().map_or(0, |about| about.len());
            let _ = file.set_len(len.saturating_sub(random.below(400) << 10));
        }
        std::thread::sleep(Duration::from_millis(random.below(150)));
    }
    let _ = std::fs::remove_file(path);
}

struct Sender {
    clips: Vec<Clip>,
    tally: Tally,
}

impl Sender {
    fn topic(clip: &Clip, verb: &str) -> String {
        topics::up(
            &SiteId::parse(&clip.manifest.site).unwrap(),
            &format!("file/{}/{verb}", clip.manifest.fid()),
        )
    }

    /// Starts the due transfers.
    fn begin(&mut self, intake: &Intake) {
        for clip in self.clips.iter_mut().filter(|clip| !clip.stored).take(AT_ONCE) {
            if clip.sent.is_none_or(|at| at.elapsed() >= PATIENCE) {
                clip.sent = Some(Instant::now());
                intake.hand(Sender::topic(clip, "init"), clip.manifest.bytes());
            }
        }
    }

    fn hear(&mut self, intake: &Intake, answer: OutgoingAnswer, full: bool) -> anyhow::Result<()> {
        let payload = match answer {
            OutgoingAnswer::Publish(_, payload) => payload,
            OutgoingAnswer::Notice(notice) => {
                self.tally.complaints += usize::from(matches!(notice, Notice::Fault(_)));
                return Ok(());
            }
        };
        let Ok(ack) = serde_json::from_slice::<Ack>(&payload) else { return Ok(()) };
        let (Ack::Have { fid, .. } | Ack::Stored { fid, .. } | Ack::Refused { fid, .. }) = &ack
        else {
            return Ok(());
        };
        let clip = self
            .clips
            .iter_mut()
            .find(|clip| clip.manifest.fid() == *fid)
            .context("an answer about nothing")?;
        match ack {
            Ack::Stored { .. } => {
                self.tally.receipts_while_full += usize::from(full && !clip.stored);
                clip.stored = true;
            }
            Ack::Refused { reason, .. } => {
                anyhow::bail!("{} was refused: {reason}", clip.manifest.name)
            }
            Ack::Have { upto, missing, .. }
                if clip.sent.is_some_and(|at| at.elapsed() < PATIENCE) =>
            {
                let all = [(upto, clip.manifest.size)];
                // Only the `have` after `init`: later ones only open the window.
                if clip.sent.is_some_and(|at| at.elapsed() < PATIENCE / 2) {
                    for (from, to) in if missing.is_empty() { &all[..] } else { &missing } {
                        for at in (*from..*to).step_by(CHUNK) {
                            let end = (at + CHUNK as u64).min(*to) as usize;
                            intake.hand(
                                Sender::topic(clip, &at.to_string()),
                                clip.bytes[at as usize..end].to_vec(),
                            );
                        }
                    }
                    clip.sent = Some(Instant::now() - PATIENCE / 2);
                    intake.hand(Sender::topic(clip, "fin"), b"{}".to_vec());
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Runs the test in `dir`.
///
/// # Errors
/// An untrue receipt, a clip without a receipt, or a missing right on this machine.
pub fn survive(dir: &Path, seed: u64) -> anyhow::Result<Tally> {
    std::fs::create_dir_all(dir.join("mnt"))?;
    File::create(dir.join("disk.img"))?.set_len(DISK)?;
    run(Command::new("mkfs.ext4")
        .args(["-q", "-F", "-b", "1024", "-m", "0", "-J", "size=1"])
        .arg(dir.join("disk.img")))?;
    let mounted = Mounted::mount(&dir.join("disk.img"), &dir.join("mnt"))?;
    let archive = mounted.dir.join("archive");
    let mut random = Rng::new(seed);
    let clip = |n: usize, random: &mut Rng| {
        let bytes: Vec<u8> =
            (0..(40 << 10) + random.below(90 << 10)).map(|_| random.bits() as u8).collect();
        let at = Timestamp {
            wall: WallTime(1_795_000_000_000_000 + n as i64 / 3),
            ..Timestamp::default()
        };
        let manifest = of_still(
            &SiteId::parse(&format!("km-{}", n % 3)).unwrap(),
            &format!("e{n}"),
            at,
            &bytes,
        );
        Clip { manifest, bytes, sent: None, stored: false }
    };
    let clips = (0..CLIPS).map(|n| clip(n, &mut random)).collect();
    let tally = Tally { receipts_while_full: 0, restarts: 0, complaints: 0, files: 0 };
    let mut sender = Sender { clips, tally };
    drop(Archive::open(&archive)?);
    let (stop, started) = (Arc::new(AtomicBool::new(false)), Instant::now());
    let give = Arc::new(AtomicBool::new(false));
    let (told, asked, path) = (stop.clone(), give.clone(), mounted.dir.join("neighbour"));
    let filling = std::thread::spawn(move || neighbour(&path, seed, &told, &asked));
    let ended = office(&archive, &mut sender, &mut random, (&stop, &give), started);
    stop.store(true, Ordering::Relaxed);
    filling.join().ok().context("the neighbour ended by itself")?;
    ended?;
    judge(&archive, &mut sender)?;
    Ok(sender.tally)
}

/// Runs one office after the other until every clip is receipted.
fn office(
    archive: &Path,
    sender: &mut Sender,
    random: &mut Rng,
    (stop, give): (&AtomicBool, &AtomicBool),
    started: Instant,
) -> anyhow::Result<()> {
    while sender.clips.iter().any(|clip| !clip.stored) {
        ensure!(
            started.elapsed() < LIMIT,
            "{} clips are stuck",
            sender.clips.iter().filter(|clip| !clip.stored).count()
        );
        // An office does not start on a full disk.
        let Ok(open) = Archive::open(archive) else {
            give.store(true, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(50));
            stop.fetch_or(started.elapsed() > FULL, Ordering::Relaxed);
            continue;
        };
        let link = ArchiveLink::new(Arc::new(SystemClock::new()));
        let (intake, mut answers) = archive_thread::start(open, Retention::default(), link)?;
        let until = Instant::now() + Duration::from_millis(2_000 + random.below(6_000));
        while Instant::now() < until && sender.clips.iter().any(|clip| !clip.stored) {
            sender.begin(&intake);
            let full = !stop.load(Ordering::Relaxed);
            stop.fetch_or(started.elapsed() > FULL, Ordering::Relaxed);
            match answers.try_recv() {
                Ok(answer) => sender.hear(&intake, answer, full)?,
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        drop(intake);
        // Reads its last messages until its threads end.
        while answers.blocking_recv().is_some() {}
        sender.clips.iter_mut().for_each(|clip| clip.sent = None);
        sender.tally.restarts += 1;
    }
    Ok(())
}

fn judge(archive: &Path, sender: &mut Sender) -> anyhow::Result<()> {
    let mut open = Archive::open(archive)?;
    while open.sweep()? > 0 {}
    let checked = open.check(true)?;
    ensure!(checked.differences.is_empty(), "office check --deep: {:?}", checked.differences);
    let rows = open.files(&Filter { limit: 10_000, ..Filter::default() })?;
    let listed: BTreeMap<String, &Path> =
        rows.iter().map(|row| (row.sha256.clone(), row.path.as_path())).collect();
    for clip in sender.clips.iter().filter(|clip| clip.stored) {
        let path = listed.get(&clip.manifest.sha256.hex()).context("receipted and not listed")?;
        let bytes = std::fs::read(path)?;
        ensure!(
            Digest::of(&bytes) == clip.manifest.sha256,
            "{} was receipted and has {} bytes",
            path.display(),
            bytes.len()
        );
        sender.tally.files += 1;
    }
    Ok(())
}
