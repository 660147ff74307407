//! Independent office of thirty lines, written from docs/mqtt.md, with Mosquitto's clients.

use std::path::Path;
use std::process::Command;

use crate::harness::{Rig, Running, has, plays, small_camera, taimat, wait_for};

#[test]
#[ignore = "documented_subscriber.rs runs every day instead: tests/run --full"]
fn an_office_from_the_document_gets_clips_byte_for_byte() {
    if !has("mosquitto") || !has("mosquitto_sub") || !has("python3") {
        return;
    }
    let camera = small_camera();
    let rig = Rig::simulated(&camera, 48);
    let _broker = rig.broker();
    let folder = rig.dir.path().join("third-party");
    std::fs::create_dir(&folder).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/third_party.py");
    let login =
        ["-h", "localhost", "-p", &rig.office_port.to_string(), "--cafile", &rig.at("ca.pem")]
            .map(String::from);
    let identity =
        ["--cert", &rig.at("office.pem"), "--key", &rig.at("office.key")].map(String::from);
    let _office =
        Running::start(Command::new("python3").arg(script).arg(&folder).args(login).args(identity));
    let mut agent = rig.agent();
    let clips = || {
        let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        files
            .filter(|path| path.extension().is_some_and(|extension| extension == "mp4"))
            .collect::<Vec<_>>()
    };
    wait_for("no clip has come", 60, || !clips().is_empty());
    // The script has compared each file with the manifest's SHA-256; this compares it with the
    // records.
    for clip in clips() {
        let verify = taimat().arg("verify").arg(&clip).output().unwrap();
        assert_eq!(
            verify.status.code(),
            Some(3),
            "consistent, unsigned: {}",
            String::from_utf8_lossy(&verify.stdout)
        );
        if has("ffmpeg") {
            plays(&clip);
        }
    }
    assert_eq!(agent.terminate(), Some(0), "{}", rig.log());
}
