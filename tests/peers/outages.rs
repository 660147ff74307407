//! Outages of agent, camera, broker and office: all promises made meanwhile are kept.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use taimat::sim::camera::SimCamera;
use taimat::sim::encode::counters;
use taimat::sim::rng::Rng;
use taimat::storage::disk::{Disk, FileId, RealDisk};
use taimat::storage::recovery::read;
use taimat::storage::scan::{ScanDepth, ScanItem, walk};
use taimat::units::WallTime;

use crate::harness::{Rig, Running, has, seconds, small_camera, wait_for};

/// Largest loss of a kill, seconds: one fragment, and the time to write it.
const LOSS_MAX: f64 = 1.3;

/// Time until an agent has recorded its first footage, seconds: the camera has a key frame every 2
/// s.
const FIRST_WITHIN: f64 = 5.0;

/// Kills the agent with SIGKILL after each pause (milliseconds) and starts it again; returns the
/// times of the kills.
fn kill(rig: &Rig, agent: &mut Running, pauses: &[u64]) -> Vec<WallTime> {
    let mut moments = Vec::new();
    for pause in pauses {
        std::thread::sleep(Duration::from_millis(*pause));
        agent.0.kill().unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        moments.push(WallTime(now.as_micros() as i64));
        agent.0.wait().unwrap();
        *agent = rig.agent();
    }
    moments
}

/// Footage lost to each kill, seconds: from the end of the last footage to the kill. `None` if the
/// agent had recorded nothing yet.
fn losses(rig: &Rig, kills: &[WallTime]) -> Vec<Option<f64>> {
    let ends: Vec<i64> = rig
        .ring_list()
        .iter()
        .filter(|line| line["gap"].is_null())
        .map(|line| WallTime::parse(line["to"].as_str().unwrap()).unwrap().0)
        .collect();
    let before = |kill: &WallTime| {
        *ends.iter().filter(|end| **end <= kill.0 + 100_000).max().expect("footage before the kill")
    };
    let lives = std::iter::once(i64::MIN).chain(kills.iter().map(|kill| kill.0)).zip(kills);
    lives
        .map(|(begin, kill)| (before(kill) > begin).then(|| (kill.0 - before(kill)) as f64 / 1e6))
        .collect()
}

/// Checks that every kill cost at most a fragment and that every longer run left footage; returns
/// the number of kills that interrupted footage.
fn kills_cost_little(rig: &Rig, kills: &[WallTime]) -> usize {
    let lost = losses(rig, kills);
    println!("{} kills lost {lost:.2?} s", kills.len());
    for (at, lost) in lost.iter().enumerate() {
        let begin = at.checked_sub(1).map_or(i64::MIN, |before| kills[before].0);
        let life = kills[at].0.saturating_sub(begin) as f64 / 1e6;
        // A run longer than start, connection, key frame and fragment must leave footage.
        assert!(
            lost.map_or(life < FIRST_WITHIN, |lost| lost <= LOSS_MAX),
            "kill {at} after {life:.1} s: {lost:?}"
        );
    }
    lost.iter().flatten().count()
}

/// Checks that the ring has every record that the agent logged as durable before a kill.
fn durable_records_are_there(rig: &Rig) -> u64 {
    let log = rig.log();
    let number =
        |line: &str| line.split("seq=").nth(1)?.split_whitespace().next()?.parse::<u64>().ok();
    let logged =
        log.lines().filter(|line| line.contains("durable")).filter_map(number).max().unwrap();
    let mut expected = 1;
    for line in rig.ring_list() {
        // A gap is one record with its own number between two ranges of footage.
        let Some((first, last)) = line["records"]
            .as_array()
            .map(|pair| (pair[0].as_u64().unwrap(), pair[1].as_u64().unwrap()))
        else {
            expected += 1;
            continue;
        };
        assert_eq!(first, expected, "records before {first} are missing: {:#?}", rig.ring_list());
        expected = last + 1;
    }
    assert!(expected > logged, "record {logged} was durable, and the ring ends before {expected}");
    logged
}

/// Checks by the numbers in the pictures that none is missing outside gap records; returns the
/// numbers of pictures and of gaps.
fn no_picture_is_missing(rig: &Rig, camera: &SimCamera) -> (u64, u64) {
    let disk: Arc<dyn Disk> =
        Arc::new(RealDisk::open_read_only(Path::new(&rig.at("ring"))).unwrap());
    let never_made = camera.faults().skipped.lock().unwrap().clone();
    let (mut pictures, mut gaps, mut expected) = (0, 0, None);
    for segment in read(&disk).unwrap().index.live() {
        for found in walk(disk.as_ref(), segment, ScanDepth::Content).unwrap().found {
            let ScanItem::Record(offset, record) = found else { panic!("damaged") };
            if record.gap().is_some() {
                (gaps, expected) = (gaps + 1, None);
                continue;
            }
            let bytes = disk
                .read(FileId::Segment(segment.head.segment), offset, record.len as usize)
                .unwrap();
            for number in counters(&bytes) {
                while let Some(next) = expected.filter(|next| never_made.contains(next)) {
                    expected = Some(next + 1);
                }
                assert!(
                    expected.is_none_or(|next| next == number),
                    "record {}: {number} comes, not {expected:?}",
                    record.seq
                );
                (pictures, expected) = (pictures + 1, Some(number + 1));
            }
        }
    }
    (pictures, gaps)
}

/// Duration of each peer's outage, seconds.
struct Away {
    camera: u64,
    broker: u64,
    office: u64,
}

fn go_through(kills: &[u64], away: &Away) {
    let camera = small_camera();
    let rig = Rig::simulated(&camera, 400);
    let mut broker = rig.broker();
    let mut office = rig.office();
    let mut agent = rig.agent();
    seconds(14);
    let kills = kill(&rig, &mut agent, kills);
    seconds(4);
    camera.faults().down.store(true, Ordering::Relaxed);
    seconds(away.camera);
    camera.faults().down.store(false, Ordering::Relaxed);
    seconds(4);
    drop(broker);
    seconds(away.broker);
    let behind = rig.received().0.len();
    broker = rig.broker();
    let back = Instant::now();
    wait_for("no backlog came in", 120, || rig.received().0.len() > behind);
    println!(
        "after {} s without a broker the backlog began to come in within {:.1} s",
        away.broker,
        back.elapsed().as_secs_f32()
    );
    drop(office);
    seconds(away.office);
    office = rig.office();
    seconds(8);
    rig.wait_until_whole(120);
    assert_eq!(agent.terminate(), Some(0), "the agent did not stop in order");
    // Clips in progress at the stop stay pending and arrive after the next boot.
    agent = rig.agent();
    seconds(3);
    rig.wait_until_whole(60);
    assert_eq!(agent.terminate(), Some(0), "the agent did not stop in order the second time");
    seconds(1);
    rig.ring_is_whole();
    let durable = durable_records_are_there(&rig);
    let (pictures, gaps) = no_picture_is_missing(&rig, &camera);
    println!(
        "{pictures} pictures are in the ring, and none is missing outside its {gaps} gap records"
    );
    let ended = kills_cost_little(&rig, &kills);
    let (events, files) = rig.received();
    println!(
        "all {durable} durable records are present; the office has {} events and {} files, each once",
        events.len(),
        files.len()
    );
    let reasons = rig.gap_reasons();
    let cuts = reasons.iter().filter(|reason| *reason == "power_cut").count();
    assert!(cuts >= ended, "{ended} kills ended footage, but gap records are {reasons:?}");
    // The kills, the camera's outage and the ordered stop.
    assert!(pictures > 200 && gaps >= ended as u64 + 2, "{pictures} pictures, {gaps} gaps");
    assert!(
        reasons.iter().any(|reason| reason.starts_with("camera")),
        "the camera's outage left no gap record: {reasons:?}"
    );
    assert_eq!(rig.archive().unwrap().sites().unwrap()[0].state, "stopping");
    drop((office, broker));
}

/// Pauses in milliseconds between 1.5 and 8 s, the same in every run.
fn pauses(n: usize) -> Vec<u64> {
    let mut random = Rng::new(17);
    (0..n).map(|_| 1500 + random.below(6500)).collect()
}

#[test]
fn nothing_is_lost_when_agent_and_peers_are_killed() {
    if has("mosquitto") {
        go_through(&pauses(3), &Away { camera: 5, broker: 6, office: 4 });
    }
}

#[test]
#[ignore = "five minutes: tests/run --full"]
fn nothing_is_lost_over_ten_kills_and_long_outages() {
    if has("mosquitto") {
        go_through(&pauses(10), &Away { camera: 30, broker: 60, office: 60 });
    }
}
