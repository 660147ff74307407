//! Subscriber from the documentation: `mosquitto_sub` and the script in docs/mqtt.md rebuild a
//! file.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{Mosquitto, Rig, Running, Show, camera, has, wait_for};

/// The script in docs/mqtt.md.
fn script() -> String {
    let docs = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/mqtt.md"))
        .unwrap();
    let (_, rest) = docs.split_once("```python\n").expect("docs/mqtt.md has no script");
    let script = rest.split_once("```").unwrap().0.to_owned();
    assert!(script.lines().count() <= 30, "{} lines", script.lines().count());
    script
}

#[test]
fn the_documented_script_rebuilds_a_clip() {
    let (true, Some(broker)) = (has("mosquitto_sub"), Mosquitto::start("")) else { return };
    let camera = camera();
    let rig = Rig::new(
        &camera,
        broker.port,
        broker.port,
        "integrations = [\"homeassistant\", \"frigate\", \"onvif\"]",
    );
    std::fs::write(rig.at("rebuild.py"), script()).unwrap();
    std::fs::create_dir(rig.at("stranger")).unwrap();
    let line = format!(
        "mosquitto_sub -p {} -q 1 -t 'taimat/v1/+/up/file/#' -F '%t %x' | python3 {} {}",
        broker.port,
        rig.at("rebuild.py"),
        rig.at("stranger")
    );
    let mut shell = Command::new("sh");
    let _stranger =
        Running::start(shell.args(["-c", &format!("exec {line}")]).stdout(Stdio::null()));
    let received = std::fs::File::create(rig.at("mirrors")).unwrap();
    let port = broker.port.to_string();
    let mut listen = Command::new("mosquitto_sub");
    listen.args([
        "-p",
        &port,
        "-q",
        "1",
        "-t",
        "homeassistant/#",
        "-t",
        "frigate/#",
        "-t",
        "taimat/v1/+/up/#",
        "-F",
        "%t %p",
    ]);
    let _listener = Running::start(listen.stdout(received));
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
    println!("{} bytes rebuilt by the script: {}", clip.size, name.display());
    let received = String::from_utf8_lossy(&std::fs::read(rig.at("mirrors")).unwrap()).into_owned();
    for words in [
        "homeassistant/device/taimat-km-17/config {",
        "frigate/km-17/motion ON",
        "up/onvif-ej/VideoSource/MotionAlarm/main {",
    ] {
        assert!(received.contains(words), "{words} was not received");
    }
    assert_eq!(agent.terminate(), Some(0));
}

/// Home Assistant's own schema, unpacked from its wheel.
fn home_assistant() -> Option<String> {
    let dir = format!("{}/target/tools/home-assistant", env!("CARGO_MANIFEST_DIR"));
    let script = format!(
        "[ -e {dir}/homeassistant/components/mqtt/schemas.py ] && exit 0; mkdir -p {dir} && cd {dir} &&
         python3 -m pip install -q --target . voluptuous==0.15.2 &&
         python3 -m pip download -q --no-deps --python-version 3.13 --only-binary=:all: homeassistant==2025.1.4 &&
         python3 -c \"import zipfile; z = zipfile.ZipFile('homeassistant-2025.1.4-py3-none-any.whl'); \
         [z.extract(n) for n in z.namelist() if n.startswith('homeassistant/components/mqtt/') or n == 'homeassistant/const.py']\""
    );
    let done =
        Command::new("sh").args(["-c", &script]).status().is_ok_and(|status| status.success());
    if !done {
        println!("SKIPPED: Home Assistant's schema cannot be fetched");
    }
    done.then_some(dir)
}

#[test]
#[ignore = "40 MB of Home Assistant: tests/run --full"]
fn the_device_discovery_passes_home_assistants_own_schema() {
    let (true, Some(broker), Some(theirs)) =
        (has("mosquitto_sub"), Mosquitto::start(""), home_assistant())
    else {
        return;
    };
    let camera = camera();
    let rig = Rig::new(&camera, broker.port, broker.port, "integrations = [\"homeassistant\"]");
    let mut agent = rig.agent();
    wait_for("it did not connect", 30, || rig.log().contains("broker connected"));
    let port = broker.port.to_string();
    let words = ["-p", &port, "-C", "1", "-W", "20", "-t", "homeassistant/device/+/config"];
    let payload = Command::new("mosquitto_sub").args(words).output().unwrap().stdout;
    let received = rig.at("discovery.json");
    std::fs::write(&received, payload).unwrap();
    let script = format!("{}/tests/uplink/home_assistant.py", env!("CARGO_MANIFEST_DIR"));
    let out = Command::new("python3")
        .args([&script, &theirs])
        .stdin(std::fs::File::open(received).unwrap())
        .output()
        .unwrap();
    print!("{}", String::from_utf8_lossy(&out.stdout));
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(agent.terminate(), Some(0));
}
