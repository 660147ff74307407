//! Uplink with each kind of broker: Mosquitto, NATS, and brokers with faults.

use std::sync::atomic::Ordering;
use taimat::sim::faulty_broker::{BrokerFaults, FaultyBroker};
use taimat::sim::faulty_proxy::FaultyProxy;

use crate::harness::{Mosquitto, Nats, Rig, Show, camera, local, pause, wait_for};

/// A short load: 12 motion events of 6 updates, at 20 updates a second.
const SHOW: Show = Show { motions: 12, updates: 4, rate: 20 };
/// Smallest number of its events: starts and ends.
const EVENTS: usize = 24;

/// Runs a device and an office at the broker: every event must arrive once, and files must be
/// whole.
fn delivers(what: &str, port: u16, office_port: u16, uplink: &str) -> Rig {
    let camera = camera();
    let rig = Rig::new(&camera, port, office_port, uplink);
    let _office = rig.office();
    let mut agent = rig.agent_with(SHOW);
    wait_for("nothing has come at all", 40, || rig.received().0.len() > 5);
    rig.wait_until_whole(EVENTS, 400);
    assert_eq!(agent.terminate(), Some(0), "{what}: the device did not stop in order");
    wait_for("the stop has not come", 20, || {
        rig.site().is_some_and(|site| site.state == "stopping")
    });
    let files = rig.files_are_whole();
    println!("{what}: {} events and {files} files, each once", rig.received().0.len());
    rig
}

#[test]
#[ignore = "another broker: tests/run --full"]
fn mosquitto_in_both_versions() {
    for protocol in ["5", "3.1.1"] {
        let Some(broker) = Mosquitto::start("") else { return };
        delivers(
            &format!("Mosquitto, MQTT {protocol}"),
            broker.port,
            broker.port,
            &format!("protocol = \"{protocol}\""),
        );
    }
}

#[test]
#[ignore = "another broker: tests/run --full"]
fn nats_alone_is_used_with_3_1_1() {
    let Some(nats) = Nats::start(1) else { return };
    let rig = delivers("NATS, one node", nats.ports[0], nats.ports[0], "");
    let log = rig.log();
    assert!(log.contains("broker connected"), "{log}");
}

#[test]
#[ignore = "three nodes elect their leaders: tests/run --full"]
fn nats_of_three_nodes_with_one_killed() {
    let Some(mut nats) = Nats::start(3) else { return };
    let camera = camera();
    let fallbacks = |port| format!("{{ host = \"127.0.0.1\", port = {port} }}");
    let rig = Rig::new(
        &camera,
        nats.ports[0],
        nats.ports[2],
        &format!("fallbacks = [{}, {}]", fallbacks(nats.ports[1]), fallbacks(nats.ports[2])),
    );
    let _office = rig.office();
    let mut agent = rig.agent_with(SHOW);
    wait_for("nothing has come", 60, || rig.received().0.len() > 10);
    nats.kill(0);
    rig.wait_until_whole(EVENTS, 240);
    assert_eq!(agent.terminate(), Some(0));
    println!(
        "NATS, three nodes, one killed: {} events and {} files, each once",
        rig.received().0.len(),
        rig.files_are_whole()
    );
}

#[test]
fn the_device_keeps_every_limit_of_a_strict_broker() {
    let broker = FaultyBroker::start(BrokerFaults::strict(), 1).unwrap();
    delivers("strict", broker.port, broker.port, "");
    let seen = broker.counts();
    assert!(seen.wrongs.is_empty(), "{:#?}", seen.wrongs);
    assert_eq!(seen.versions["km-17"], 5);
}

#[test]
#[ignore = "another broker: tests/run --full"]
fn everything_arrives_over_a_lossy_broker() {
    let broker = FaultyBroker::start(BrokerFaults::lossy(), 2).unwrap();
    delivers("lossy", broker.port, broker.port, "");
}

#[test]
#[ignore = "another broker: tests/run --full"]
fn everything_arrives_over_a_forgetful_broker_with_cuts() {
    let broker = FaultyBroker::start(BrokerFaults::forgetful(), 3).unwrap();
    let cutting = broker.clone();
    std::thread::spawn(move || {
        for _ in 0..4 {
            pause(4_000);
            cutting.cut();
        }
    });
    delivers("forgetful", broker.port, broker.port, "");
    assert!(broker.counts().connects["km-17"] >= 4);
}

#[test]
#[ignore = "another broker: tests/run --full"]
fn a_broker_with_only_3_1_1_is_tried_again_with_it() {
    let broker =
        FaultyBroker::start(BrokerFaults { speaks: (false, true), ..BrokerFaults::default() }, 4)
            .unwrap();
    delivers("3.1.1 only", broker.port, broker.port, "");
    assert_eq!(broker.counts().versions["km-17"], 4);
}

#[test]
#[ignore = "another broker: tests/run --full"]
fn a_refusal_is_an_alarm_and_never_a_hot_loop() {
    let camera = camera();
    let refuses = vec![("up/event".to_owned(), rumqttc_reason())];
    let broker =
        FaultyBroker::start(BrokerFaults { refuses, ..BrokerFaults::default() }, 5).unwrap();
    let rig = Rig::new(&camera, broker.port, broker.port, "");
    let _office = rig.office();
    let mut agent = rig.agent();
    wait_for("no alarm was raised", 30, || {
        rig.log().contains("does not let this device publish events")
    });
    pause(5_000);
    let sent = broker.counts().publishes.get("taimat/v1/km-17/up/event").copied().unwrap_or(0);
    assert!(sent <= 16, "{sent} events were published to a broker that refuses them");
    // After a repair of the access list everything arrives on the next connection.
    broker.change(|temper| temper.refuses.clear());
    broker.cut();
    wait_for("what was refused did not come", 30, || {
        rig.received().0.iter().any(|event| event.kind.contains("uplink.alarm"))
    });
    assert_eq!(agent.terminate(), Some(0));
}

/// Not authorized (0x87).
fn rumqttc_reason() -> taimat::sim::mqtt_codec::Reason {
    taimat::sim::mqtt_codec::Reason::NotAuthorized
}

#[test]
#[ignore = "another broker: tests/run --full"]
fn a_refused_subscription_disconnects_with_an_alarm() {
    let camera = camera();
    let broker = FaultyBroker::start(
        BrokerFaults { refuses_filter: Some("km-17/dn".into()), ..BrokerFaults::default() },
        6,
    )
    .unwrap();
    let rig = Rig::new(&camera, broker.port, broker.port, "");
    let _agent = rig.agent();
    wait_for("nobody noticed", 30, || {
        rig.log().contains("refuses the subscription to taimat/v1/km-17/dn/#")
    });
    pause(5_000);
    assert_eq!(broker.counts().connects["km-17"], 1, "the device connected again at once");
}

#[test]
#[ignore = "another broker: tests/run --full"]
fn fails_over_from_a_black_hole_to_the_other_broker() {
    let (first, second) = (
        FaultyBroker::start(BrokerFaults::default(), 7).unwrap(),
        FaultyBroker::start(BrokerFaults::default(), 8).unwrap(),
    );
    let proxy = FaultyProxy::start(local(first.port)).unwrap();
    let camera = camera();
    let rig = Rig::new(
        &camera,
        proxy.port,
        second.port,
        &format!("fallbacks = [{{ host = \"127.0.0.1\", port = {} }}]", second.port),
    );
    let mut agent = rig.agent();
    wait_for("the preferred broker was not taken", 20, || {
        first.counts().connects.contains_key("km-17")
    });
    proxy.way.closed.store(true, Ordering::Relaxed);
    proxy.cut();
    wait_for("the other broker was not tried", 30, || {
        second.counts().connects.contains_key("km-17")
    });
    assert_eq!(agent.terminate(), Some(0));
}

#[test]
#[ignore = "a half-open connection takes its keep-alive and acknowledgement deadlines: tests/run --full"]
fn fails_over_from_half_open_and_deaf_connections() {
    let broker = FaultyBroker::start(BrokerFaults::default(), 9).unwrap();
    let proxy = FaultyProxy::start(local(broker.port)).unwrap();
    let camera = camera();
    let rig = Rig::new(&camera, proxy.port, broker.port, "keep_alive = \"5 s\"");
    let _office = rig.office();
    let mut agent = rig.agent_with(SHOW);
    wait_for("nothing has come", 40, || rig.received().0.len() > 5);
    proxy.way.half_open.store(true, Ordering::Relaxed);
    wait_for("a half-open way was not noticed", 60, || rig.log().contains("no broker"));
    proxy.way.half_open.store(false, Ordering::Relaxed);
    wait_for("it did not come back", 60, || broker.counts().connects["km-17"] >= 2);
    broker.change(|temper| temper.deaf = true);
    wait_for("a deaf broker was not noticed", 90, || rig.log().contains("no PubAck in time"));
    broker.change(|temper| temper.deaf = false);
    rig.wait_until_whole(EVENTS, 180);
    assert_eq!(agent.terminate(), Some(0));
}

#[test]
#[ignore = "another broker: tests/run --full"]
fn mosquitto_with_a_message_limit_gets_smaller_chunks() {
    let Some(broker) = Mosquitto::start("message_size_limit 20000") else { return };
    let rig = delivers("Mosquitto, limit of 20,000 bytes", broker.port, broker.port, "");
    let log = rig.log();
    assert!(log.contains("packet too large (0x95): raise the broker's limit"), "{log}");
    assert!(!log.contains("no broker connection"), "a refusal is no outage: {log}");
    // From 256 KiB to less than 20,000 bytes are four halves.
    let again = log.matches("connecting again after a refused publish").count();
    assert!((1..=8).contains(&again), "{again} connections for refusals");
}

#[test]
#[ignore = "another broker: tests/run --full"]
fn mosquitto_of_qos_0_is_refused_by_name() {
    let Some(broker) = Mosquitto::start("max_qos 0") else { return };
    // Mosquitto gives a client of 3.1.1 no reason: the default, "auto", begins with 5.
    let camera = camera();
    let rig = Rig::new(&camera, broker.port, broker.port, "");
    let _agent = rig.agent();
    wait_for("the reason is not in the log", 30, || rig.log().contains("allow QoS 1"));
}

#[test]
#[ignore = "another broker: tests/run --full"]
fn two_devices_of_one_site_are_named_by_device_and_office() {
    for protocol in ["5", "3.1.1"] {
        let Some(broker) = Mosquitto::start("") else { return };
        let camera = camera();
        let more = format!("protocol = \"{protocol}\"");
        let rigs = [(); 2].map(|()| Rig::new(&camera, broker.port, broker.port, &more));
        let _office = rigs[0].office();
        let _agents = rigs.each_ref().map(|rig| rig.agent());
        // Mosquitto 2.0.11 closes without a reason. The device that is closed three times names the
        // other one and rests, so that the other one keeps its session.
        wait_for("the other device is not named", 120, || {
            rigs.iter().any(|rig| rig.log().contains("another client uses this client id"))
        });
        // The other device does not notice, so the office names both by their rings.
        let report = || std::fs::read_to_string(rigs[0].dir.path().join("office.err"));
        wait_for("the office does not name them", 120, || {
            report().is_ok_and(|text| text.contains("two devices run with one site"))
        });
    }
}
