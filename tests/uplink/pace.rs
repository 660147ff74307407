//! Bandwidth use of the uplink: after an outage, and under rate cap, data budget and quiet hours.

use std::sync::atomic::Ordering;
use std::time::Instant;

use taimat::sim::faulty_proxy::FaultyProxy;
use taimat::units::WallTime;

use crate::harness::{Mosquitto, Rig, Show, camera, local, pause, wait_for};

/// Bandwidth of a bad mobile network, bytes a second.
const RATE: u64 = 256_000 / 8;

fn clips(rig: &Rig) -> usize {
    rig.received().1.iter().filter(|file| file.purpose == "clip").count()
}

/// Waits until the device has received this many motion events.
fn wait_for_motions(rig: &Rig, motions: usize) {
    wait_for("nothing moves", 60, || rig.log().matches("kind=\"motion.end\"").count() >= motions);
}

#[test]
#[ignore = "two minutes on a slow connection: tests/run --full"]
fn a_backlog_uses_80_percent_of_the_bandwidth() {
    let Some(broker) = Mosquitto::start("") else { return };
    let proxy = FaultyProxy::start(local(broker.port)).unwrap();
    proxy.way.rate_up.store(RATE, Ordering::Relaxed);
    proxy.way.rate_down.store(RATE, Ordering::Relaxed);
    proxy.way.latency_ms.store(40, Ordering::Relaxed);
    let camera = camera();
    let rig = Rig::new(&camera, proxy.port, broker.port, "");
    let _office = rig.office();
    let mut agent = rig.agent_with(Show { motions: 2, updates: 3, rate: 2 });
    wait_for("the office is not there", 30, || rig.site().is_some());
    proxy.way.closed.store(true, Ordering::Relaxed);
    proxy.cut();
    wait_for_motions(&rig, 2);
    pause(4_000);
    proxy.way.closed.store(false, Ordering::Relaxed);
    let (started, before) = (Instant::now(), proxy.way.up.load(Ordering::Relaxed));
    // Samples the forwarded bytes each second until the backlog is sent.
    let mut passed = vec![0];
    while clips(&rig) < 2 {
        pause(1_000);
        passed.push(proxy.way.up.load(Ordering::Relaxed) - before);
        assert!(started.elapsed().as_secs() < 300, "the backlog does not drain");
    }
    let first = passed.iter().position(|bytes| *bytes > RATE / 4).unwrap();
    let seconds = (passed.len() - 1 - first) as f64;
    let bytes = passed.last().unwrap() - passed[first];
    let share = bytes as f64 / seconds / RATE as f64;
    println!(
        "after an outage: {first} s until files began, then {bytes} bytes in {seconds:.0} s: {:.0} % of {RATE} bytes a second",
        share * 100.0
    );
    assert!(share >= 0.8, "{passed:?}");
    assert_eq!(agent.terminate(), Some(0));
}

#[test]
fn caps_budgets_and_quiet_hours_delay_files_but_no_event() {
    let Some(broker) = Mosquitto::start("") else { return };
    let proxy = FaultyProxy::start(local(broker.port)).unwrap();
    let camera = camera();
    let rig = Rig::new(&camera, proxy.port, broker.port, "rate_cap = \"160 KiB\"");
    let _office = rig.office();
    let up = || proxy.way.up.load(Ordering::Relaxed);
    // Rate cap: no second exceeds it by more than one chunk.
    let mut agent = rig.agent_with(Show { motions: 1, updates: 0, rate: 1 });
    wait_for("the clip does not begin", 60, || up() > 60_000);
    let (started, before) = (Instant::now(), up());
    wait_for("the clip did not come", 60, || clips(&rig) == 1);
    let (bytes, seconds) = (up() - before, started.elapsed().as_secs_f64());
    println!("capped at 160 KiB/s: {bytes} bytes in {seconds:.1} s");
    assert!(
        (bytes as f64) < (seconds + 1.0) * 160.0 * 1024.0 * 1.05,
        "{bytes} bytes in {seconds:.1} s"
    );
    assert_eq!(agent.terminate(), Some(0));
    // Used-up budget: the bytes of the day survive a restart, files wait, events arrive.
    rig.configure("rate_cap = \"160 KiB\"", "day_budget = \"20 KiB\"");
    hold_back(&rig, up, "a budget");
    // Quiet hours: clips of events wait.
    let hour = WallTime(
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros()
            as i64,
    )
    .rfc3339();
    let hour: u64 = hour[11..13].parse().unwrap();
    let quiet =
        format!("quiet_hours = \"{:02}:00-{:02}:59+00:00\"", (hour + 23) % 24, (hour + 1) % 24);
    rig.configure("day_budget = \"20 KiB\"", &quiet);
    hold_back(&rig, up, "quiet hours");
    // Afterwards every delayed clip arrives.
    rig.configure(&quiet, "");
    let mut agent = rig.agent();
    wait_for("what had to wait did not come", 90, || clips(&rig) == 3);
    rig.files_are_whole();
    assert_eq!(agent.terminate(), Some(0));
}

/// Checks that the events of a motion arrive and its clip does not.
fn hold_back(rig: &Rig, up: impl Fn() -> u64, by: &str) {
    let (had, ends) = (clips(rig), || {
        rig.received().0.iter().filter(|event| event.kind.contains("motion.end")).count()
    });
    let (before, bytes) = (ends(), up());
    let mut agent = rig.agent_with(Show { motions: 1, updates: 0, rate: 1 });
    wait_for("the events did not come", 60, || ends() > before);
    pause(5_000);
    println!("{by}: {} bytes, events came and no clip", up() - bytes);
    assert_eq!(clips(rig), had, "{by} did not delay the clip");
    assert!(up() - bytes < 64_000, "{} bytes", up() - bytes);
    assert_eq!(agent.terminate(), Some(0));
}
