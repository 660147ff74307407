//! `taimat demo`: three cameras with their devices, broker and office in one process.
#![expect(
    clippy::disallowed_methods,
    reason = "shell: reads a clock, waits, starts a thread or task, reads or writes files"
)]

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::{mpsc, watch};

use super::demo_web::{DemoWeb, start_web};
use super::run::{on_signal, runtime};
use crate::agent::runtime;
use crate::clock::SystemClock;
use crate::escape::shown_path;
use crate::office::archive::Archive;
use crate::office::archive_link::ArchiveLink;
use crate::office::notice::Notice;
use crate::office::queries::{EventRow, FileRow, Filter};
use crate::office::retention::Retention;
use crate::office::service::{self, OfficeService};
use crate::settings::{Protocol, Settings, load, parse};
use crate::sim::scene::Disturbance;
use crate::sim::street::Place;
use crate::sim::{broker, camera};
use crate::units::Digest;
use crate::uplink::client::Options;

/// Time after the demo for promised files to arrive, seconds.
const DRAIN: Duration = Duration::from_secs(25);
/// Wait for the first pictures of the simulated camera at most; it takes 2 s on two cores.
const CAMERA_START: Duration = Duration::from_secs(30);

/// Main stream of each camera, width and height: two cores draw, encode and analyse three of them
/// and show a browser; 1280x720 took most of one core.
const MAIN_SIZE: (usize, usize) = (960, 540);
/// Length of a demo without `--for`.
const LENGTH: Duration = Duration::from_secs(40);
/// Without `--for` on a terminal the console stays open after the verdict, this long at most: the
/// archive of the demo has no retention.
const STAY_MAX: Duration = Duration::from_secs(3_600);

/// Arguments of `taimat demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Length of the demo, e.g. 40s; 25s to 86400s. Without it: 40s, and on a terminal the console then stays open until Ctrl-C.
    #[arg(long = "for", value_parser = seconds)]
    length: Option<Duration>,
    /// Directory of ring and archive; without it a new one in the system's temporary directory.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Seed of the scene.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Disturbance: the first camera then shows the drawn test scene with it.
    #[arg(long, value_enum, default_value_t = Disturbance::None)]
    disturbance: Disturbance,
    /// Leave the web console out.
    #[arg(long)]
    no_web: bool,
}

impl Args {
    fn length(&self) -> Duration {
        self.length.unwrap_or(LENGTH)
    }

    /// Whether the console stays open after the verdict.
    fn stays(&self) -> bool {
        !self.no_web && self.length.is_none() && std::io::stdin().is_terminal()
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches('s');
    let whole: u64 =
        digits.parse().map_err(|_| format!("{text:?} is not a number of seconds such as 40s"))?;
    if (25..=86_400).contains(&whole) {
        Ok(Duration::from_secs(whole))
    } else {
        Err("at least 25s (the detector learns the empty road first), at most 86400s".into())
    }
}

/// Runs the whole chain. Exit code 0 needs an event and a clip at the office, the right digest of
/// every file, and a key frame at the start of every clip.
///
/// # Errors
/// A part cannot be started.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let out = args.out.clone().unwrap_or_else(|| {
        std::env::temp_dir().join(format!("taimat-demo-{}", std::process::id()))
    });
    std::fs::create_dir_all(&out).with_context(|| shown_path(&out))?;
    anyhow::ensure!(
        !out.join("ring").exists(),
        "{} already holds a demo: choose another --out",
        shown_path(&out)
    );
    let runtime = runtime().build()?;
    let outcome = runtime.block_on(play(&args, &out));
    runtime.shutdown_background();
    outcome?.map_or_else(|| verdict(&out), Ok)
}

/// The simulated cameras, once all have pictures: without them they would be cameras that are down.
async fn cameras(args: &Args) -> anyhow::Result<Vec<(Place, camera::SimCamera)>> {
    let start = |place: Place| {
        let disturbed = args.disturbance != Disturbance::None && place == Place::Road;
        let options = camera::Options {
            seed: args.seed,
            disturbance: args.disturbance,
            place: (!disturbed).then_some(place),
            main: MAIN_SIZE,
            ..camera::Options::default()
        };
        Ok((place, camera::SimCamera::start(options)?))
    };
    let lenses = Place::ALL.into_iter().map(start).collect::<anyhow::Result<Vec<_>>>()?;
    let until = Instant::now() + CAMERA_START;
    while lenses.iter().any(|(_, lens)| !lens.is_ready()) && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(lenses)
}

/// The settings of the device at one place.
fn settings_of(
    place: Place,
    lens: &camera::SimCamera,
    out: &Path,
    port: u16,
) -> anyhow::Result<Settings> {
    let ring = out.join("ring").join(place.site());
    std::fs::create_dir_all(&ring).with_context(|| ring.display().to_string())?;
    let login = out.join("camera.login");
    std::fs::write(&login, "admin:taimat\n")?;
    let text = format!(
        "site = \"{}\"\n[camera]\nmain_url = \"{}\"\nsub_url = \"{}\"\nlogin_file = {:?}\n[storage]\ndir = {:?}\nrequire_mount = false\n\
         budget = \"64 MiB\"\nsegment = \"4 MiB\"\n[uplink]\nhost = \"127.0.0.1\"\nport = {port}\nprotocol = \"3.1.1\"\nhealth_every = \"10 s\"\n",
        place.site(),
        lens.main_url(),
        lens.sub_url(),
        login,
        ring
    );
    Ok(parse::parse(&text, &load::read)?)
}

/// The office on the embedded broker.
fn office_at(port: u16) -> OfficeService {
    let options = Options {
        client_id: "taimat-office".into(),
        host: "127.0.0.1".into(),
        port,
        tls: None,
        login: None,
        keep_alive: 30,
        protocol: Protocol::V311,
        will: None,
    };
    OfficeService {
        options,
        any_version: false,
        host: "office".into(),
        sites: Vec::new(),
        retention: Retention::default(),
        link: ArchiveLink::new(Arc::new(SystemClock::new())),
    }
}

/// The console, started and asked on a thread that may block.
async fn console_at(out: &Path, office: &OfficeService) -> anyhow::Result<Arc<DemoWeb>> {
    let (dir, options, archive) = (out.to_owned(), office.options.clone(), office.link.client());
    let web = tokio::task::spawn_blocking(move || start_web(&dir, options, archive)).await??;
    Ok(Arc::new(web))
}

/// Prints a new one-time link.
async fn print_link(web: &Arc<DemoWeb>) -> anyhow::Result<()> {
    let web = web.clone();
    let link = tokio::task::spawn_blocking(move || web.link()).await??;
    println!("console: open once in a browser of this machine: {link}");
    Ok(())
}

/// Plays the demo; a verdict if it was given while the console stayed open.
async fn play(args: &Args, out: &Path) -> anyhow::Result<Option<ExitCode>> {
    let port = broker::start()?;
    let lenses = cameras(args).await?;
    let settings = lenses
        .iter()
        .map(|(place, lens)| settings_of(*place, lens, out, port))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let archive = Archive::open(out)?;
    let office = office_at(port);
    let web = match args.no_web {
        true => None,
        false => Some(console_at(out, &office).await?),
    };
    for (place, lens) in &lenses {
        println!("camera {} (simulated) of device {}", lens.main_url(), place.site());
    }
    println!("broker 127.0.0.1:{port} (embedded); everything else is real");
    println!("playing for {} s into {}", args.length().as_secs(), shown_path(out));
    if let Some(web) = &web {
        print_link(web).await?;
    }
    let started = Instant::now();
    let report =
        move |notice: Notice| println!("[{:5.1} s] {notice}", started.elapsed().as_secs_f32());
    let (_commands, commands) = mpsc::channel(1);
    let (office_stop, office_stopped) = watch::channel(false);
    let office = tokio::spawn(async move {
        service::run(archive, office, commands, office_stopped, report).await
    });
    let (agent_stop, agent_stopped) = watch::channel(false);
    let run = |settings| {
        let clock = Arc::new(SystemClock::new());
        tokio::spawn(runtime::run(settings, clock, agent_stopped.clone()))
    };
    let agents: Vec<_> = settings.into_iter().map(run).collect();
    let verdict = watch_play(args, out, started, &lenses, web.as_ref()).await?;
    let _ = agent_stop.send(true);
    for agent in agents {
        agent.await??;
    }
    let _ = office_stop.send(true);
    office.await??;
    Ok(verdict)
}

/// Waits for the end of the demo; without `--for` on a terminal, gives the verdict before it.
async fn watch_play(
    args: &Args,
    out: &Path,
    started: Instant,
    lenses: &[(Place, camera::SimCamera)],
    web: Option<&Arc<DemoWeb>>,
) -> anyhow::Result<Option<ExitCode>> {
    let mut signal = on_signal()?;
    let length = args.length();
    let is_interrupted = tokio::select! {
        () = tokio::time::sleep(length) => {
            drained(out, started + length + DRAIN).await?;
            false
        }
        _ = signal.wait_for(|stop| *stop) => true,
    };
    if is_interrupted {
        println!("interrupted: clips may be missing");
    }
    let of_camera = |(_, lens): &(Place, camera::SimCamera)| {
        lens.faults().skipped.lock().map_or(0, |skipped| skipped.len())
    };
    let skipped: usize = lenses.iter().map(of_camera).sum();
    if skipped > 0 {
        println!(
            "this machine was too slow for the simulated cameras: they skipped {skipped} pictures"
        );
    }
    let Some(web) = web.filter(|_| args.stays() && !is_interrupted) else { return Ok(None) };
    let code = verdict(out)?;
    print_link(web).await?;
    println!("the cameras go on and the console stays open until Ctrl-C, for an hour at most");
    let _ = tokio::time::timeout(STAY_MAX, signal.wait_for(|stop| *stop)).await;
    Ok(Some(code))
}

/// Waits until each ended event has its clip, or until the timeout.
async fn drained(out: &Path, until: Instant) -> anyhow::Result<()> {
    let archive = Archive::open_read_only(out)?;
    while Instant::now() < until {
        let (events, clips) = found(&archive)?;
        let ids = |kind: &str| -> Vec<String> {
            let of =
                events.iter().filter(|event| event.kind == format!("vn.taimat.motion.{kind}.v1"));
            of.filter_map(|event| event.data["event"].as_str().map(String::from)).collect()
        };
        let (starts, ends) = (ids("start"), ids("end"));
        let clipped =
            |id: &String| clips.iter().any(|clip| clip.event == *id && clip.purpose == "clip");
        if !ends.is_empty() && starts.len() == ends.len() && ends.iter().all(clipped) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    Ok(())
}

fn found(archive: &Archive) -> anyhow::Result<(Vec<EventRow>, Vec<FileRow>)> {
    let all = Filter { limit: 10_000, ..Filter::default() };
    Ok((archive.events(&all)?, archive.files(&all)?))
}

/// Prints the content of the office's archive; true if the demo succeeded.
fn verdict(out: &Path) -> anyhow::Result<ExitCode> {
    let archive = Archive::open_read_only(out)?;
    let (events, files) = found(&archive)?;
    let motions = events.iter().filter(|event| event.kind == "vn.taimat.motion.start.v1").count();
    println!(
        "\nthe office received {} events, {motions} of them starts of motion, and {} files:",
        events.len(),
        files.len()
    );
    let mut judged = Vec::new();
    for file in &files {
        let bytes = std::fs::read(&file.path).with_context(|| shown_path(&file.path))?;
        let clip = file.purpose == "clip";
        let right =
            Digest::of(&bytes).hex() == file.sha256 && (!clip || starts_with_key_frame(&bytes));
        judged.push((clip, right));
        let words = if right { "hash checked" } else { "NOT AS IT SHOULD BE" };
        println!(
            "  {:9} {:>9} bytes  {words}  {}",
            file.purpose,
            file.size,
            shown_path(&file.path)
        );
    }
    let wrong = shortfall(motions, &judged);
    println!("{}", wrong.unwrap_or("the chain works"));
    Ok(if wrong.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The first problem, from the number of motion starts and, for each file, whether it is a clip and
/// valid.
fn shortfall(motions: usize, files: &[(bool, bool)]) -> Option<&'static str> {
    if files.iter().any(|(_, right)| !right) {
        return Some("A FILE IS NOT AS IT SHOULD BE");
    }
    let clips = files.iter().filter(|(clip, _)| *clip).count();
    (motions == 0 || clips == 0).then_some("NO EVENT WITH A CLIP ARRIVED")
}

/// Whether every record of the clip is whole and the first one starts with a key frame.
fn starts_with_key_frame(clip: &[u8]) -> bool {
    crate::evidence::verify::check(clip)
        .is_ok_and(|report| report.begins_with_key && report.problems.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_file_fails_the_demo() {
        let (clip, snapshot) = ((true, true), (false, true));
        assert_eq!(shortfall(2, &[clip, snapshot, clip]), None);
        assert!(shortfall(2, &[clip, snapshot, (true, false)]).is_some());
        assert!(shortfall(2, &[clip, (false, false)]).is_some());
        assert!(shortfall(2, &[snapshot]).is_some() && shortfall(0, &[clip]).is_some());
    }
}
