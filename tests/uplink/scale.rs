//! Scale tests: many devices on one broker and one office, and one device with a full outbox.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use taimat::sim::faulty_proxy::FaultyProxy;

use crate::harness::{Mosquitto, Rig, Running, Show, camera, local, pause, taimat, wait_for};

/// CPU time of a process, seconds.
fn cpu(running: u32) -> f64 {
    cpu_of(&format!("/proc/{running}/stat"))
}

fn cpu_of(stat: &str) -> f64 {
    let stat = std::fs::read_to_string(stat).unwrap_or_default();
    if stat.is_empty() {
        return 0.0;
    }
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// CPU time of each thread of a process by name, seconds.
fn threads(running: u32) -> BTreeMap<String, f64> {
    let mut used = BTreeMap::new();
    for thread in std::fs::read_dir(format!("/proc/{running}/task")).unwrap().flatten() {
        let name = std::fs::read_to_string(thread.path().join("comm"))
            .unwrap_or_default()
            .trim()
            .to_owned();
        let id = thread.file_name().to_string_lossy().into_owned();
        *used.entry(name).or_insert(0.0) += cpu_of(&format!("/proc/{running}/task/{id}/stat"));
    }
    used
}

/// Busy time of the busiest disk since the boot of the kernel, seconds.
fn disk_busy() -> f64 {
    let busy = |disk: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(disk.path().join("stat")).ok()?;
        stat.split_whitespace().nth(9)?.parse::<f64>().ok()
    };
    std::fs::read_dir("/sys/block").unwrap().flatten().filter_map(busy).fold(0.0, f64::max) / 1000.0
}

/// Idle time of all cores, with I/O wait, seconds.
fn machine_idle() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    let fields: Vec<f64> = stat
        .lines()
        .next()
        .unwrap()
        .split_whitespace()
        .skip(1)
        .map(|field| field.parse().unwrap())
        .collect();
    (fields[3] + fields[4]) / 100.0
}

/// A line of /proc/PID/status in MiB.
fn memory(running: &Running, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.0.id())).unwrap();
    let kib = status.lines().find_map(|text| text.strip_prefix(line)).unwrap();
    kib.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

fn fleet(what: &str, sites: u64, events: u64, files: u64, file_kib: u64) {
    let Some(broker) = Mosquitto::start("max_queued_messages 100000\nmax_connections -1") else {
        return;
    };
    let camera = camera();
    let rig = Rig::new(&camera, broker.port, broker.port, "");
    let office = rig.office();
    pause(1_000);
    let (broker_cpu, office_cpu, started) = (cpu(broker.id()), cpu(office.0.id()), Instant::now());
    let (disk, idle, threads) = (disk_busy(), machine_idle(), threads(office.0.id()));
    let words = [sites, events, files, file_kib].map(|number| number.to_string());
    let mut load = taimat();
    load.args([
        "sim",
        "--fleet",
        &words[0],
        "--port",
        &broker.port.to_string(),
        "--events",
        &words[1],
    ]);
    load.args(["--files", &words[2], "--file-kib", &words[3]]).stdout(std::process::Stdio::piped());
    let mut fleet = Running::start(&mut load);
    let mut fleet_cpu = 0.0;
    while fleet.0.try_wait().unwrap().is_none() {
        fleet_cpu = cpu(fleet.0.id()).max(fleet_cpu);
        pause(100);
    }
    let took = started.elapsed().as_secs_f64();
    let share = |used: f64| 100.0 * used / took;
    let mut said = String::new();
    std::io::Read::read_to_string(&mut fleet.0.stdout.take().unwrap(), &mut said).unwrap();
    print!("{what}: {said}");
    println!(
        "  devices {:.0} % of a core; disk busy {:.0} %, machine idle {:.0} % of two cores",
        share(fleet_cpu),
        share(disk_busy() - disk),
        share(machine_idle() - idle) / 2.0
    );
    for (name, used) in self::threads(office.0.id()) {
        println!(
            "  office thread {name}: {:.0} % of a core",
            share(used - threads.get(&name).copied().unwrap_or(0.0))
        );
    }
    println!(
        "  CPU of a core: broker {:.0} %, office {:.0} %; office memory {} MiB",
        share(cpu(broker.id()) - broker_cpu),
        share(cpu(office.0.id()) - office_cpu),
        memory(&office, "VmHWM")
    );
    assert!(fleet.0.wait().unwrap().success(), "not everything was receipted");
}

#[test]
#[ignore = "200 devices at once: tests/run --full"]
fn two_hundred_devices_on_one_broker_and_one_office() {
    fleet("events", 200, 1_000, 0, 0);
    fleet("events and files", 200, 50, 2, 256);
}

/// Starts an office for some sites, with its own directory.
fn shard(rig: &Rig, host: &str, sites: &[&str]) -> Running {
    let mut office = taimat();
    office.args([
        "office",
        "run",
        "--port",
        &rig.office_port.to_string(),
        "--host",
        host,
        "--dir",
        &rig.at(host),
    ]);
    sites.iter().for_each(|site| _ = office.args(["--site", site]));
    Running::start(office.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()))
}

/// Sites of an office, with the numbers of their events and files.
fn archived(rig: &Rig, host: &str) -> Vec<(String, u64, u64)> {
    let archive =
        taimat::office::archive::Archive::open_read_only(std::path::Path::new(&rig.at(host)));
    let rows = archive.ok().and_then(|archive| archive.sites().ok()).unwrap_or_default();
    rows.into_iter().map(|row| (row.site, row.events, row.files)).collect()
}

#[test]
fn offices_that_share_sites_archive_each_event_once() {
    let Some(broker) = Mosquitto::start("") else { return };
    let camera = camera();
    let rig = Rig::new(&camera, broker.port, broker.port, "");
    let mut a = shard(&rig, "a", &["load-0", "load-2"]);
    let _b = shard(&rig, "b", &["load-1", "load-3"]);
    pause(1_000);
    let mut load = taimat();
    load.args([
        "sim",
        "--fleet",
        "4",
        "--port",
        &broker.port.to_string(),
        "--events",
        "2000",
        "--files",
        "2",
        "--file-kib",
        "64",
    ]);
    let mut fleet = Running::start(load.stdout(std::process::Stdio::null()));
    wait_for("nothing is archived", 20, || {
        archived(&rig, "a").iter().any(|(_, events, _)| *events > 100)
    });
    // One office is down for a while: the other continues, and the first one's sites wait.
    a.kill();
    pause(2_000);
    let away: Vec<(String, u64, u64)> = archived(&rig, "a");
    let _a = shard(&rig, "a", &["load-0", "load-2"]);
    let status = fleet.0.wait().unwrap();
    println!(
        "office a had {away:?} when it was killed; then a {:?}, b {:?}",
        archived(&rig, "a"),
        archived(&rig, "b")
    );
    assert!(status.success(), "not everything was receipted");
    for (host, sites) in [("a", ["load-0", "load-2"]), ("b", ["load-1", "load-3"])] {
        assert_eq!(
            archived(&rig, host),
            sites.map(|site| (site.to_owned(), 2000, 2)),
            "office {host}"
        );
    }
}

/// Stops a device with 2,000 waiting events while they go over a link of `rate` bytes a second, or over
/// one that went silent. Returns the time that the stop took.
fn stop_with_a_full_outbox(rate: u64, is_silent: bool) -> Option<Duration> {
    let broker = Mosquitto::start("")?;
    let camera = camera();
    let way = FaultyProxy::start(local(broker.port)).unwrap();
    way.way.closed.store(true, Ordering::Relaxed);
    way.way.rate_up.store(rate, Ordering::Relaxed);
    way.way.latency_ms.store(150, Ordering::Relaxed);
    let rig = Rig::new(&camera, way.port, broker.port, "");
    rig.configure("[clip]", "[clip]\nenabled = false\nsnapshot = false");
    let mut agent = rig.agent_with(Show { motions: 20, updates: 98, rate: 2_000 });
    wait_for("the outbox does not fill", 120, || rig.log().matches("motion.end").count() >= 20);
    agent.kill();
    let _office = rig.office();
    let mut agent = rig.agent();
    way.way.closed.store(false, Ordering::Relaxed);
    wait_for("nothing arrives", 60, || rig.site().is_some_and(|site| site.events > 20));
    way.way.half_open.store(is_silent, Ordering::Relaxed);
    pause(500);
    let started = Instant::now();
    assert_eq!(agent.terminate(), Some(0));
    let took = started.elapsed();
    println!("{rate} bytes/s, silent {is_silent}: stopped within {took:?}");
    if !is_silent {
        wait_for("the state does not arrive", 10, || {
            rig.site().is_some_and(|site| site.state != "online")
        });
        println!("the office shows {:?}", rig.site().unwrap().state);
    }
    Some(took)
}

#[test]
fn a_full_outbox_delays_no_stop() {
    for (rate, is_silent) in [(8_000, false), (1_000_000, true)] {
        let Some(took) = stop_with_a_full_outbox(rate, is_silent) else { return };
        assert!(took.as_millis() < 2_000, "{took:?}");
    }
}

/// Events in the backlog, and journal slots for them.
const BACKLOG: u64 = 100_000;
const SLOTS: u64 = 131_072;

/// Bytes that a process has written.
fn written(running: &Running) -> u64 {
    let io = std::fs::read_to_string(format!("/proc/{}/io", running.0.id())).unwrap();
    io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).unwrap().parse().unwrap()
}

#[test]
#[ignore = "a backlog of 100,000 events: tests/run --full"]
fn memory_is_bounded_with_a_backlog_of_100_000_events() {
    let Some(broker) = Mosquitto::start("") else { return };
    let camera = camera();
    let way = FaultyProxy::start(local(broker.port)).unwrap();
    way.way.closed.store(true, Ordering::Relaxed);
    let rig = Rig::new(&camera, way.port, broker.port, "outbox = \"1 GiB\"");
    rig.configure("[clip]", "[clip]\nenabled = false\nsnapshot = false");
    rig.configure("journal_slots = 16384", &format!("journal_slots = {SLOTS}"));
    let mut agent = rig.agent_with(Show { motions: BACKLOG, updates: 98, rate: 4_000 });
    wait_for("nothing was stored", 120, || rig.log().contains("seq=50"));
    let (empty, started) = (memory(&agent, "VmRSS"), Instant::now());
    let until = format!("seq={BACKLOG}");
    while !rig.log().contains(&until) {
        pause(3_000);
        assert!(started.elapsed().as_secs() < 400, "the outbox does not fill");
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("{BACKLOG} events stored in {seconds:.1} s");
    println!("memory {empty} MiB at the start, {} MiB with the backlog", memory(&agent, "VmRSS"));
    agent.kill();
    let started = Instant::now();
    let mut agent = rig.agent();
    wait_for("it did not start again", 120, || {
        rig.log().matches("event kind=\"start\"").count() >= 2
    });
    println!(
        "the next boot took {:.1} s and wrote {} MiB",
        started.elapsed().as_secs_f64(),
        written(&agent) >> 20
    );
    pause(3_000);
    println!(
        "after a restart: {} MiB, at most {} MiB",
        memory(&agent, "VmRSS"),
        memory(&agent, "VmHWM")
    );
    assert!(memory(&agent, "VmHWM") < 128);
    let (_office, started) = (rig.office(), Instant::now());
    way.way.closed.store(false, Ordering::Relaxed);
    let confirmed = || rig.site().is_some_and(|site| site.events >= BACKLOG);
    while !confirmed() {
        pause(2_000);
        assert!(started.elapsed().as_secs() < 600, "{:?}", rig.site());
    }
    println!(
        "all of them at the office after {:.0} s; memory at most {} MiB",
        started.elapsed().as_secs_f64(),
        memory(&agent, "VmHWM")
    );
    rig.wait_until_whole(BACKLOG as usize, 120);
    assert!(memory(&agent, "VmHWM") < 128);
    assert_eq!(agent.terminate(), Some(0));
}
