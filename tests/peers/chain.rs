//! `clip-get` through the whole chain.

use std::time::{SystemTime, UNIX_EPOCH};

use taimat::units::WallTime;

use crate::harness::{Rig, has, seconds, small_camera, taimat, wait_for};

#[test]
fn a_requested_past_range_arrives_and_verifies() {
    requests_past_range("5");
}

#[test]
fn a_requested_past_range_arrives_over_mqtt_3_1_1() {
    requests_past_range("3.1.1");
}

fn requests_past_range(protocol: &str) {
    if !has("mosquitto") {
        return;
    }
    let camera = small_camera();
    let rig = Rig::simulated(&camera, 48);
    rig.configure_uplink(&format!("protocol = \"{protocol}\""));
    let speak = ["--protocol", protocol];
    let _broker = rig.broker();
    let _office = rig.office_with(&speak);
    let mut agent = rig.agent();
    seconds(9);
    let now = WallTime(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64);
    let (from, to) = (
        format!("from={}", now.plus_micros(-6_000_000)),
        format!("to={}", now.plus_micros(-2_000_000)),
    );
    let words = ["office", "cmd", "km-17", "clip-get", &from, &to];
    let answer = taimat().args(words).args(rig.office_login()).args(speak).output().unwrap();
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    let requested = || rig.received().1.into_iter().find(|file| file.purpose == "requested");
    wait_for("the requested range never arrived", 20, || requested().is_some());
    wait_for("an event is missing", 20, || {
        !rig.received().0.is_empty() && rig.archive().unwrap().sites().unwrap()[0].missing_seq == 0
    });
    let verify = taimat().arg("verify").arg(requested().unwrap().path).output().unwrap();
    assert_eq!(
        verify.status.code(),
        Some(3),
        "consistent, unsigned: {}",
        String::from_utf8_lossy(&verify.stdout)
    );
    assert_eq!(agent.terminate(), Some(0));
}
