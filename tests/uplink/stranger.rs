//! Somebody else's subscriber: `mosquitto_sub` and the script in docs/mqtt.md rebuild a file from what anybody may hear.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::rig::{Mosquitto, Rig, Running, Show, camera, has, wait_for};

/// The script as it stands in the documentation.
fn script() -> String {
    let docs = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/mqtt.md")).unwrap();
    let (_, rest) = docs.split_once("```python\n").expect("docs/mqtt.md has no script");
    let script = rest.split_once("```").unwrap().0.to_owned();
    assert!(script.lines().count() <= 30, "{} lines", script.lines().count());
    script
}

#[test]
fn a_stranger_rebuilds_a_clip_from_the_documentation_alone() {
    let (true, Some(broker)) = (has("mosquitto_sub"), Mosquitto::start("")) else { return };
    let camera = camera();
    let rig = Rig::new(&camera, broker.port, broker.port, "mirrors = [\"homeassistant\", \"frigate\", \"onvif\"]");
    std::fs::write(rig.at("rebuild.py"), script()).unwrap();
    std::fs::create_dir(rig.at("stranger")).unwrap();
    let line = format!(
        "mosquitto_sub -p {} -q 1 -t 'taimat/v1/+/up/file/#' -F '%t %x' | python3 {} {}",
        broker.port,
        rig.at("rebuild.py"),
        rig.at("stranger")
    );
    let mut shell = Command::new("sh");
    let _stranger = Running::start(shell.args(["-c", &format!("exec {line}")]).stdout(Stdio::null()));
    let heard = std::fs::File::create(rig.at("mirrors")).unwrap();
    let port = broker.port.to_string();
    let mut listen = Command::new("mosquitto_sub");
    listen.args(["-p", &port, "-q", "1", "-t", "homeassistant/#", "-t", "frigate/#", "-t", "taimat/v1/+/up/#", "-F", "%t %p"]);
    let _listener = Running::start(listen.stdout(heard));
    let _office = rig.office();
    let mut agent = rig.agent_with(Show { motions: 2, updates: 2, rate: 2 });
    rig.wait_until_whole(4, 90);
    wait_for("no clip came", 60, || rig.received().1.iter().any(|file| file.purpose == "clip"));
    let (_, files) = rig.received();
    let clip = files.iter().find(|file| file.purpose == "clip").unwrap();
    let name = clip.path.file_name().unwrap();
    let theirs = Path::new(&rig.at("stranger")).join(name);
    wait_for("the stranger has no such file", 20, || theirs.exists());
    assert_eq!(std::fs::read(&theirs).unwrap(), std::fs::read(&clip.path).unwrap());
    println!("{} bytes rebuilt by a stranger: {}", clip.size, name.display());
    let heard = String::from_utf8_lossy(&std::fs::read(rig.at("mirrors")).unwrap()).into_owned();
    for words in
        ["homeassistant/device/taimat-km-17/config {", "frigate/km-17/motion ON", "up/onvif-ej/VideoSource/MotionAlarm/main {"]
    {
        assert!(heard.contains(words), "{words} was not heard");
    }
    assert_eq!(agent.terminate(), Some(0));
}
