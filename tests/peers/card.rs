//! Ring with the real binary: a frozen process, and an ext4 that becomes read-only.

use std::path::Path;
use std::process::Command;

use crate::harness::{Rig, Running, seconds, small_camera, taimat, wait_for};

fn signal(running: &Running, name: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &running.0.id().to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
}

/// The problems that `ring check` finds.
fn problems(dir: &str) -> String {
    let out = taimat().args(["ring", "check", "--json", "--dir", dir]).output().unwrap();
    let checked: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert!(checked["records"].as_u64().unwrap() > 5, "{checked}");
    let problems = checked["problems"].to_string();
    assert_eq!(out.status.success(), problems == "[]", "exit code and list of problems differ");
    problems
}

#[test]
fn an_agent_frozen_for_a_while_records_a_gap() {
    let camera = small_camera();
    let rig = Rig::simulated(&camera, 48);
    let mut agent = rig.agent();
    seconds(6);
    signal(&agent, "STOP");
    seconds(22);
    signal(&agent, "CONT");
    seconds(10);
    assert_eq!(agent.terminate(), Some(0));
    assert_eq!(problems(&rig.at("ring")), "[]", "a gap has no record\n{}", rig.log());
    rig.ring_is_whole();
    let gaps: Vec<_> =
        rig.ring_list().iter().filter_map(|line| Some(line["gap"].as_str()?.to_owned())).collect();
    println!("frozen for 22 s: {gaps:?}");
}

/// An ext4 on a loop device that becomes read-only at the first error (`errors=remount-ro`), as on
/// cards.
struct Card {
    at: String,
    device: String,
}

impl Card {
    fn insert(image: &str, at: &str) -> Option<Card> {
        std::fs::create_dir_all(at).unwrap();
        let run = |command: &str, args: &[&str]| {
            Command::new(command).args(args).output().ok().filter(|out| out.status.success())
        };
        if !Path::new(image).exists() {
            std::fs::File::create(image).unwrap().set_len(128 << 20).unwrap();
            run("/usr/sbin/mkfs.ext4", &["-q", image])?;
        }
        let device = String::from_utf8(run("/usr/sbin/losetup", &["-f", "--show", image])?.stdout)
            .unwrap()
            .trim()
            .to_owned();
        let mounted = run("mount", &["-o", "errors=remount-ro", &device, at]);
        let card = Card { at: at.to_owned(), device };
        mounted.map(|_| card)
    }

    /// Makes the kernel find an error in the file system (Documentation/ABI/testing/sysfs-fs-ext4).
    fn fail(&self) -> bool {
        let name = self.device.rsplit('/').next().unwrap();
        std::fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "taimat's test").is_ok()
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l", &self.at]).status();
        let _ = Command::new("/usr/sbin/losetup").args(["-d", &self.device]).status();
    }
}

#[test]
fn a_real_read_only_card_is_recorded_to_after_a_restart() {
    let camera = small_camera();
    let rig = Rig::simulated(&camera, 32);
    let Some(card) = Card::insert(&rig.at("image"), &rig.at("ring")) else {
        println!("SKIPPED: loop devices or mounting are not allowed here");
        return;
    };
    let mut agent = rig.agent();
    seconds(6);
    if !card.fail() {
        println!("SKIPPED: this kernel has no trigger_fs_error");
        return;
    }
    wait_for("the lost card is not logged", 40, || {
        rig.log().contains("recording continues in RAM only")
    });
    // The agent continues in memory and stops in order.
    seconds(4);
    assert_eq!(agent.terminate(), Some(0), "{}", rig.log());
    drop(card);
    let repaired =
        Command::new("/usr/sbin/e2fsck").args(["-fy", &rig.at("image")]).output().unwrap();
    assert!(
        repaired.status.code().is_some_and(|code| code <= 1),
        "{}",
        String::from_utf8_lossy(&repaired.stdout)
    );
    let _card = Card::insert(&rig.at("image"), &rig.at("ring")).unwrap();
    agent = rig.agent();
    seconds(9);
    assert_eq!(agent.terminate(), Some(0));
    assert_eq!(problems(&rig.at("ring")), "[]");
    rig.ring_is_whole();
    let gaps: Vec<_> =
        rig.ring_list().iter().filter_map(|line| Some(line["gap"].as_str()?.to_owned())).collect();
    assert!(
        gaps.contains(&"disk_error".to_owned()),
        "the footage in memory left no gap record: {gaps:?}"
    );
}
