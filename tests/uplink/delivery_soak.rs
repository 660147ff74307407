//! Delivery soak test: numbers given by a device, compared with the office, after repeated kills.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Instant;

use taimat::sim::faulty_proxy::FaultyProxy;
use taimat::sim::rng::Rng;

use crate::harness::{Mosquitto, Rig, Running, Show, camera, local, pause, wait_for};

/// Plan of a run.
struct Storm {
    /// Smallest number of events.
    events: usize,
    /// Smallest number of clips.
    clips: usize,
    /// Kills of each of agent, broker and office.
    kills: u64,
    /// Motion updates a second, and per motion event.
    show: Show,
    /// Timeout for the remaining events, seconds.
    drain: u64,
}

struct Players {
    agent: Running,
    office: Running,
}

/// One fault, chosen by the seed.
fn strike(
    rig: &Rig,
    broker: &mut Mosquitto,
    proxy: &FaultyProxy,
    players: &mut Players,
    what: u64,
    show: Show,
    random: &mut Rng,
) {
    match what {
        0 => {
            players.agent.kill();
            players.agent = rig.agent_with(show);
        }
        1 => {
            broker.kill(false);
            pause(random.below(2_000));
            broker.up();
        }
        2 => {
            players.office.kill();
            pause(random.below(2_000));
            players.office = rig.office();
        }
        _ => proxy.way.cut_after.store(1 + random.below(200_000), Ordering::Relaxed),
    }
}

fn ledger(seed: u64, storm: &Storm) {
    let Some(mut broker) = Mosquitto::start("") else { return };
    let proxy = FaultyProxy::start(local(broker.port)).unwrap();
    let camera = camera();
    let rig = Rig::new(&camera, proxy.port, broker.port, "");
    let mut players = Players { agent: rig.agent_with(storm.show), office: rig.office() };
    let (mut random, started) = (Rng::new(seed), Instant::now());
    wait_for("nothing came at all", 60, || rig.received().0.len() > 3);
    let mut blows: BTreeMap<u64, u64> = BTreeMap::new();
    for round in 0..storm.kills {
        // Kills of agent, broker and office in random order, and cuts of the connection.
        let mut order = [0, 1, 2, 3];
        for at in 0..4 {
            order.swap(at, random.below(4) as usize);
        }
        for what in order {
            pause(1_000 + random.below(3_000));
            strike(&rig, &mut broker, &proxy, &mut players, what, storm.show, &mut random);
            *blows.entry(what).or_default() += 1;
        }
        if round == storm.kills / 2 {
            broker.kill(true);
            broker.up();
        }
    }
    proxy.way.cut_after.store(0, Ordering::Relaxed);
    wait_for("the show is too slow", 1_200, || rig.received().0.len() >= storm.events);
    assert_eq!(players.agent.terminate(), Some(0), "the device did not stop in order");
    players.agent = rig.agent();
    rig.wait_until_whole(storm.events, storm.drain);
    let health_says_all = || {
        let archive = rig.archive()?;
        let gaps = archive
            .gaps(&taimat::office::queries::Filter { limit: 1000, ..Default::default() })
            .ok()?;
        gaps.is_empty().then_some(())
    };
    wait_for("numbers are missing", 60, || health_says_all().is_some());
    let status = rig.command("ring-status", &[]);
    let (events, files) = rig.received();
    let highest = events.iter().map(|event| event.seq).max().unwrap();
    let ids: std::collections::BTreeSet<&String> = events.iter().map(|event| &event.id).collect();
    let clips = files.iter().filter(|file| file.purpose == "clip").count();
    println!("soak of seed {seed}, {} s", started.elapsed().as_secs());
    println!(
        "  killed -9: agent {}, broker {} (database deleted once), office {}",
        blows[&0],
        blows[&1] + 1,
        blows[&2]
    );
    println!("  connection cut {} times at random bytes", proxy.way.cuts.load(Ordering::Relaxed));
    println!(
        "  events given a number {highest}, at the office {}, lost {}",
        events.len(),
        highest - events.len() as u64
    );
    println!(
        "  events with another's id {}, clips {clips}, files whole {}",
        events.len() - ids.len(),
        rig.files_are_whole()
    );
    println!("  still pending on the device: {}", status["data"]["backlog"]["n"]);
    assert_eq!((highest, ids.len()), (events.len() as u64, events.len()));
    assert!(clips >= storm.clips, "{clips} clips");
    assert_eq!(players.agent.terminate(), Some(0));
}

#[test]
fn a_short_storm_loses_nothing() {
    let show = Show { motions: 1_000, updates: 18, rate: 60 };
    ledger(7, &Storm { events: 400, clips: 3, kills: 1, show, drain: 120 });
}

#[test]
#[ignore = "ten minutes: tests/run --full"]
fn ten_thousand_events_survive_ten_kills_of_everything() {
    let show = Show { motions: 100_000, updates: 98, rate: 60 };
    ledger(11, &Storm { events: 10_000, clips: 50, kills: 10, show, drain: 600 });
}
