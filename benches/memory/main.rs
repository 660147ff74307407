//! Growth of resident memory: each part runs as a process of its own, with its peers as other
//! processes.
//!
//! Every ten seconds a sample goes into a CSV file. The growth an hour is the slope of a
//! least-squares line, without the first 15 minutes.
//!
//! * `show`: the agent with a simulated camera that ends its sessions every minute, and with
//!   injected
//!   motion every few seconds: start, updates, end, clip, some snapshots. The budget is for this
//!   part,
//!   because its events do not depend on the load of the machine.
//! * `agent`: the same with the real detector. A busy machine gives few events, so its growth
//!   counts
//!   only if events came from the start.
//! * `office`: the office, with events and files of 17 sites at a steady rate.
//! * `sessions`: the agent's camera side, some hundred sessions a minute, ended by either side. No
//!   budget.
//! * `demo`: everything in one process, as `taimat demo` runs it. No budget.
//!
//! Run: `cargo bench --bench memory -- agent show office --minutes 120 --out DIR` (two hours).
//! Shorter: `--minutes 20 --settle 5 --reconnect 5 --every 1`.
//! Print the result, also during a run: `cargo bench --bench memory -- --read DIR`.
//! `TAIMAT_BINARY` names another binary, or a wrapper such as a heap profiler.
#![expect(clippy::unwrap_used, reason = "a bench that cannot measure stops")]

#[path = "../shared/fleet.rs"]
mod fleet;
#[path = "../../tests/peers/harness.rs"]
#[expect(dead_code, reason = "tests use more of it")]
mod harness;
mod series;
mod sessions;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use harness::{Rig, Running, free_port, has, small_camera, taimat, wait_for};
use series::{Sample, Series};
use taimat::sim::camera::SimCamera;

/// Budget of growth for agent and office, MiB an hour.
const BUDGET: f64 = 0.5;
/// Interval of samples, seconds.
const SAMPLE: u64 = 10;
/// Size of the ring, MiB: ring and index are full before the counted time.
const RING: u32 = 16;
/// Outage of the camera when it ends its sessions, seconds.
const AWAY: u64 = 1;

/// Argument that makes this program the process that opens sessions.
const SESSIONS: &str = "--sessions-of";

/// Plan of the measurement.
struct Plan {
    parts: Vec<String>,
    minutes: u64,
    /// Minutes at the start that do not count.
    settle: u64,
    /// Interval of ends of the camera's sessions, seconds; 0: never.
    reconnect: u64,
    /// Interval of motion updates, and of messages of each site, seconds.
    every: u64,
    out: PathBuf,
    read: bool,
}

impl Plan {
    fn of_words() -> Plan {
        let out = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/memory");
        let mut plan = Plan {
            parts: Vec::new(),
            minutes: 120,
            settle: 15,
            reconnect: 60,
            every: 4,
            out,
            read: false,
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut number = || words.next().unwrap().parse().unwrap();
            match word.as_str() {
                "--minutes" => plan.minutes = number(),
                "--settle" => plan.settle = number(),
                "--reconnect" => plan.reconnect = number(),
                "--every" => plan.every = number(),
                "--out" => plan.out = words.next().unwrap().into(),
                "--read" => (plan.read, plan.out) = (true, words.next().unwrap().into()),
                "--bench" => {}
                part => plan.parts.push(part.to_owned()),
            }
        }
        if plan.parts.is_empty() {
            plan.parts = ["agent", "show", "office"].map(String::from).to_vec();
        }
        plan
    }
}

/// A measured process and its peers.
struct Measured {
    name: String,
    process: Running,
    camera: Option<SimCamera>,
    rig: Option<Rig>,
    _peers: Vec<Running>,
}

fn main() -> ExitCode {
    if let [_, word, url, login] = &std::env::args().collect::<Vec<_>>()[..]
        && word == SESSIONS
    {
        sessions::run(url, login);
    }
    let plan = Plan::of_words();
    if !plan.read {
        if !has("mosquitto") {
            return ExitCode::SUCCESS;
        }
        measure(&plan);
    }
    ExitCode::from(u8::from(!series::report(&plan.out, plan.settle, BUDGET)))
}

/// Runs all parts for the planned time, with a file of samples for each.
fn measure(plan: &Plan) {
    std::fs::create_dir_all(&plan.out).unwrap();
    let mut all: Vec<Measured> = plan.parts.iter().map(|part| start(part, plan)).collect();
    let mut series: Vec<Series> =
        all.iter().map(|one| Series::begin(&plan.out, &one.name)).collect();
    let started = Instant::now();
    for second in 1..=plan.minutes * 60 {
        std::thread::sleep(
            (started + Duration::from_secs(second)).saturating_duration_since(Instant::now()),
        );
        let away = plan.reconnect > 0 && second % plan.reconnect < AWAY;
        all.iter()
            .flat_map(|one| &one.camera)
            .for_each(|camera| camera.faults().down.store(away, Ordering::Relaxed));
        for (one, series) in all.iter_mut().zip(&mut series).filter(|_| second % SAMPLE == 0) {
            assert!(one.process.0.try_wait().unwrap().is_none(), "{} has ended", one.name);
            series.add(Sample::of(second, one.process.0.id()));
        }
    }
    for one in &mut all {
        let sites =
            one.rig.as_ref().and_then(|rig| rig.archive()?.sites().ok()).unwrap_or_default();
        let (events, files): (u64, u64) =
            (sites.iter().map(|row| row.events).sum(), sites.iter().map(|row| row.files).sum());
        println!(
            "{}: the office has {events} events and {files} files; exit code {:?}",
            one.name,
            one.process.terminate()
        );
    }
}

fn start(part: &str, plan: &Plan) -> Measured {
    let name = part.to_owned();
    match part {
        "agent" | "show" => {
            let camera = small_camera();
            let rig = Rig::simulated(&camera, RING);
            let peers = vec![rig.broker(), rig.office_with(&["--keep-gib", "1"])];
            let process = if part == "agent" { rig.agent() } else { show(&rig, plan.every) };
            Measured { name, process, camera: Some(camera), rig: Some(rig), _peers: peers }
        }
        "office" => {
            let rig = Rig::new("rtsp://127.0.0.1:9/", None, "");
            let (broker, port) = fleet::open_broker(rig.dir.path());
            let (dir, at) = (rig.at("archive"), port.to_string());
            let words = ["office", "run", "--keep-gib", "1", "--dir", &dir, "--port", &at]
                .map(String::from);
            let process =
                Running::start(taimat().args(words).stdout(Stdio::null()).stderr(Stdio::null()));
            // Not `taimat()`: a profiler that it names is for the office.
            let sites = Command::new(env!("CARGO_BIN_EXE_taimat"));
            let fleet = fleet::steady(sites, port, plan.minutes * 60, plan.every);
            let peers = vec![fleet, broker];
            Measured { name, process, camera: None, rig: Some(rig), _peers: peers }
        }
        "sessions" => {
            let camera = small_camera();
            let rig = Rig::simulated(&camera, RING);
            let told = std::fs::File::create(plan.out.join("sessions.log")).unwrap();
            let mut opener = Command::new(std::env::current_exe().unwrap());
            opener.arg(SESSIONS).args([camera.main_url(), rig.at("login")]).stdout(told);
            Measured {
                name,
                process: Running::start(&mut opener),
                camera: Some(camera),
                rig: Some(rig),
                _peers: Vec::new(),
            }
        }
        "demo" => {
            let dir = plan.out.join("demo");
            let _ = std::fs::remove_dir_all(&dir);
            let length = format!("{}s", plan.minutes * 60 + 60);
            let mut demo = taimat();
            demo.args(["demo", "--for", &length, "--out"])
                .arg(&dir)
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            Measured {
                name,
                process: Running::start(&mut demo),
                camera: None,
                rig: None,
                _peers: Vec::new(),
            }
        }
        other => panic!("{other:?} is not one of agent, show, office, sessions, demo"),
    }
}

/// The harness's agent with injected motion.
fn show(rig: &Rig, every: u64) -> Running {
    let log = std::fs::File::create(rig.at("agent.log")).unwrap();
    // An event is a start, an update and an end, one a second; pauses are further updates, which
    // the agent mostly drops.
    let (updates, config) = ((every * 3).saturating_sub(2).to_string(), rig.config());
    let words = ["sim", "--rate", "1", "--updates", &updates, "--load-test"];
    Running::start(
        taimat()
            .args(words)
            .arg(config)
            .env("TAIMAT_LOG", "info")
            .stdout(Stdio::null())
            .stderr(log),
    )
}
