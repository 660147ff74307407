//! Power cuts on a real kernel: the real binary records onto ext4 on a loop device over a FUSE
//! card.
//!
//! The card has a volatile cache with slow flushes. A cut keeps the flushed sectors and a random
//! part of the others; every record that the agent logged as durable must survive.
//!
//! Needs root, FUSE and loop devices. `TAIMAT_POWERCUT_SEED` chooses another plan.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod agent;
mod card;
mod fuse_disk;
mod full;
mod mounts;
mod office;
#[path = "../common/process.rs"]
#[expect(dead_code, reason = "the harness of whole chains uses more of it")]
mod process;
mod ring_audit;
mod world;

use taimat::sim::camera::{Options, SimCamera};

use office::Office;
use world::{World, missing, obstacle};

/// A simulated camera small enough for a busy test machine.
fn camera() -> SimCamera {
    SimCamera::start(Options { main: (640, 360), sub: (320, 180), ..Options::default() }).unwrap()
}

fn seed() -> u64 {
    std::env::var("TAIMAT_POWERCUT_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(17)
}

/// Cuts the power `cuts` times in one world and panics at the first broken promise.
fn survive(cuts: u64) {
    if let Some(reason) = obstacle() {
        return println!("SKIPPED: {reason}");
    }
    let (camera, seed) = (camera(), seed());
    println!("seed {seed}: TAIMAT_POWERCUT_SEED={seed} repeats the plan, not the kernel's timing");
    let mut world = World::new(seed, true, &camera.main_url()).unwrap();
    for cut in 1..=cuts {
        if let Err(error) = world.cut(cut == cuts) {
            panic!("seed {seed}, cut {cut}: {error:#}\nbefore it: {}", world.tally);
        }
    }
    println!("{}", world.tally);
}

#[test]
fn nothing_promised_is_lost_over_ten_power_cuts() {
    survive(10);
}

#[test]
#[ignore = "a quarter of an hour: tests/run --full"]
fn nothing_promised_is_lost_over_a_hundred_power_cuts() {
    survive(100);
}

#[test]
fn a_card_that_ignores_flushes_fails_the_checks() {
    if let Some(reason) = obstacle() {
        return println!("SKIPPED: {reason}");
    }
    let (camera, seed) = (camera(), seed());
    let mut world = World::new(seed, false, &camera.main_url()).unwrap();
    let broken = (1..=10).find_map(|cut| Some((cut, world.cut(false).err()?)));
    let (cut, error) = broken.expect("ten cuts of a card that flushes nothing broke no promise");
    println!("seed {seed}: a check failed at cut {cut}: {error:#}");
}

/// Reason why this machine cannot run the office tests; `None` if it can.
fn office_obstacle() -> Option<String> {
    missing(&["mosquitto", "mosquitto_sub", "mosquitto_pub", "stdbuf"]).or_else(obstacle)
}

/// Cuts the power of the office `cuts` times and panics at the first broken receipt.
fn office_survives(cuts: u64) {
    if let Some(reason) = office_obstacle() {
        return println!("SKIPPED: {reason}");
    }
    let seed = seed();
    let mut office = Office::new(seed, true).unwrap();
    for cut in 1..=cuts {
        if let Err(error) = office.cut() {
            panic!("seed {seed}, cut {cut} of the office: {error:#}");
        }
    }
    let ((events, files), [in_flush, pending, kept]) = (office.promised(), office.tally);
    println!(
        "{cuts} power cuts of the office ({in_flush} within a flush; {pending} sectors pending, {kept} kept): {events} events and {files} \
         files receipted before a cut, 0 lost"
    );
    assert!(events > 0 && files > 0);
}

#[test]
fn receipted_data_survives_two_power_cuts() {
    office_survives(2);
}

#[test]
#[ignore = "ten minutes: tests/run --full"]
fn receipted_data_survives_fifty_power_cuts() {
    office_survives(50);
}

#[test]
#[ignore = "a minute: tests/run --full"]
fn an_office_disk_that_ignores_flushes_fails_the_checks() {
    if let Some(reason) = office_obstacle() {
        return println!("SKIPPED: {reason}");
    }
    let mut office = Office::new(seed(), false).unwrap();
    let broken = (1..=10).find_map(|cut| Some((cut, office.cut().err()?)));
    let (cut, error) = broken.expect("ten cuts of a disk that flushes nothing broke no promise");
    println!("a check failed at cut {cut}: {error:#}");
}

#[test]
fn an_office_with_a_disk_filled_by_others_keeps_receipts() {
    if let Some(reason) = missing(&["losetup", "mount", "mkfs.ext4"]).or_else(obstacle) {
        return println!("SKIPPED: {reason}");
    }
    let (dir, seed) = (tempfile::tempdir().unwrap(), seed());
    let tally = full::survive(dir.path(), seed);
    mounts::until_let_go(dir.path());
    let tally = tally.unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
    println!(
        "{} of {} clips have their SHA-256 ({} receipted while the disk was full), {} restarts, {} refusals told; check --deep: clean",
        tally.files,
        full::CLIPS,
        tally.receipts_while_full,
        tally.restarts,
        tally.complaints
    );
    assert_eq!(tally.files, full::CLIPS);
}
