//! Many boxes, one broker, one office; and one box with as much as its outbox holds.

use std::time::Instant;

use crate::rig::{Mosquitto, Rig, Running, Show, camera, free_port, pause, taimat, wait_for};

/// Seconds of CPU a process has used.
fn cpu(running: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{running}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// A line of /proc/PID/status in MiB.
fn memory(running: &Running, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.0.id())).unwrap();
    let kib = status.lines().find_map(|text| text.strip_prefix(line)).unwrap();
    kib.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

fn fleet(what: &str, sites: u64, events: u64, files: u64, file_kib: u64) {
    let Some(broker) = Mosquitto::start("max_queued_messages 100000\nmax_connections -1") else { return };
    let camera = camera();
    let rig = Rig::new(&camera, broker.port, broker.port, "");
    let office = rig.office();
    pause(1_000);
    let (broker_cpu, office_cpu, begun) = (cpu(broker.id()), cpu(office.0.id()), Instant::now());
    let words = [sites, events, files, file_kib].map(|number| number.to_string());
    let mut load = taimat();
    load.args(["sim", "--fleet", &words[0], "--port", &broker.port.to_string(), "--events", &words[1]]);
    let out = load.args(["--files", &words[2], "--file-kib", &words[3]]).output().unwrap();
    let took = begun.elapsed().as_secs_f64();
    let share = |used: f64| 100.0 * used / took;
    print!("{what}: {}", String::from_utf8_lossy(&out.stdout));
    println!(
        "  CPU of a core: broker {:.0} %, office {:.0} %; office memory {} MiB",
        share(cpu(broker.id()) - broker_cpu),
        share(cpu(office.0.id()) - office_cpu),
        memory(&office, "VmHWM")
    );
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
#[ignore = "200 boxes at once: tests/run --full"]
fn two_hundred_boxes_on_one_broker_and_one_office() {
    fleet("events", 200, 200, 0, 0);
    fleet("events and files", 200, 50, 2, 256);
}

#[test]
#[ignore = "a full outbox: tests/run --full"]
fn memory_is_bounded_with_a_full_outbox_and_after_a_restart() {
    let camera = camera();
    let nobody = free_port();
    let rig = Rig::new(&camera, nobody, nobody, "");
    rig.configure("[clip]", "[clip]\nenabled = false\nsnapshot = false");
    let mut agent = rig.agent_with(Show { motions: 100_000, updates: 98, rate: 2_000 });
    wait_for("nothing was stored", 30, || rig.log().contains("seq=50"));
    let (empty, begun) = (memory(&agent, "VmRSS"), Instant::now());
    wait_for("the outbox does not fill", 300, || rig.log().contains("given up"));
    let seconds = begun.elapsed().as_secs_f64();
    println!("16,368 entries stored in {seconds:.1} s; memory {empty} MiB at the begin, {} MiB full", memory(&agent, "VmRSS"));
    agent.kill();
    let mut agent = rig.agent();
    wait_for("it did not start again", 60, || rig.log().matches("event kind=\"start\"").count() >= 2);
    pause(3_000);
    println!("after a restart: {} MiB, at most {} MiB", memory(&agent, "VmRSS"), memory(&agent, "VmHWM"));
    assert!(memory(&agent, "VmHWM") < 400);
    assert_eq!(agent.terminate(), Some(0));
}
