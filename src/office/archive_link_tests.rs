//! Unit tests of the link: changes after the commit, requests of the console, rules.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

use super::super::archive::Archive;
use super::super::archive_thread::{OutgoingAnswer, start};
use super::super::ingest_outcome::Now;
use super::super::queries::Reader;
use super::super::retention_rules::{RetentionPurpose, RetentionRule};
use super::*;
use crate::clock::SystemClock;
use crate::evidence::manifest::of_still;
use crate::units::{ClockQuality, Timestamp};
use crate::uplink::wire::Health;

struct Running {
    dir: tempfile::TempDir,
    intake: Intake,
    answers: mpsc::Receiver<OutgoingAnswer>,
    client: ArchiveClient,
}

fn running(retention: Retention, prepare: impl FnOnce(&mut Archive)) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let mut archive = Archive::open(dir.path()).unwrap();
    prepare(&mut archive);
    let link = ArchiveLink::new(Arc::new(SystemClock::new()));
    let client = link.client();
    let (intake, answers) = start(archive, retention, link).unwrap();
    Running { dir, intake, answers, client }
}

fn state(conn: u64) -> (String, Vec<u8>) {
    let state = json!({"v": 1, "state": "online", "boot": 1, "conn": conn, "t": ""});
    ("taimat/v1/km-17/up/state".to_owned(), state.to_string().into_bytes())
}

/// A health message of now of a device with a good clock: it confirms the clock of the office.
fn health() -> (String, Vec<u8>) {
    let health = Health {
        v: 1,
        t: SystemClock::new().now().wall.rfc3339(),
        clock: ClockQuality::Ntp,
        ..Health::default()
    };
    ("taimat/v1/km-17/up/health".to_owned(), serde_json::to_vec(&health).unwrap())
}

fn lock_of(site: &str) -> NewLock {
    NewLock {
        site: site.into(),
        from: WallTime(0),
        to: WallTime(1_000_000),
        reason: "case 7".into(),
    }
}

#[tokio::test]
async fn a_change_is_announced_after_its_commit() {
    let running = running(Retention::default(), |_| ());
    let mut changes = running.client.subscribe();
    let (topic, payload) = state(1);
    running.intake.hand(topic, payload);
    assert_eq!(changes.recv().await.unwrap(), Change::Site { site: "km-17".into() });
    let status = Reader::open(running.dir.path()).unwrap().site("km-17", WallTime(0)).unwrap();
    assert_eq!(status.unwrap().presence, "online");
}

#[tokio::test]
async fn a_listener_that_does_not_read_delays_nothing() {
    let mut running = running(Retention::default(), |_| ());
    let mut changes = running.client.subscribe();
    let many = CAPACITY as u64 + 200;
    let feed = async {
        let (mut sent, mut seen) = (0, 0);
        while seen < many {
            // The queue of a site has 1,024 places, and a state counts as 20 messages of its rate.
            if sent < many && sent - seen < 100 {
                sent += 1;
                let topic = format!("taimat/v1/km-{sent}/up/state");
                running.intake.hand(topic, state(1).1);
                continue;
            }
            if let Some(OutgoingAnswer::Notice(_)) = running.answers.recv().await {
                seen += 1;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), feed).await.unwrap();
    assert!(matches!(changes.recv().await, Err(RecvError::Lagged(_))));
    assert!(changes.recv().await.is_ok(), "the newest changes are still there");
}

#[tokio::test]
async fn locks_are_made_by_the_archive_thread_or_refused() {
    let running = running(Retention::default(), |archive| {
        let now = Now { text: "2026-11-18T10:13:20.000Z", seconds: 1_795_000_400 };
        archive.take_all(&[state(1)], now).unwrap();
    });
    let client = &running.client;
    let id = client.lock(lock_of("km-17")).await.unwrap();
    let locks = Reader::open(running.dir.path()).unwrap().locks().unwrap();
    assert_eq!((locks.len(), locks[0].id, locks[0].reason.as_str()), (1, id, "case 7"));
    assert!(matches!(client.lock(lock_of("km-99")).await, Err(ArchiveError::NotFound(_))));
    let backwards = NewLock { to: WallTime(-1), ..lock_of("km-17") };
    assert!(matches!(client.lock(backwards).await, Err(ArchiveError::Invalid(_))));
    let wordless = NewLock { reason: String::new(), ..lock_of("km-17") };
    assert!(matches!(client.lock(wordless).await, Err(ArchiveError::Invalid(_))));
    client.unlock(id).await.unwrap();
    assert!(matches!(client.unlock(id).await, Err(ArchiveError::NotFound(_))));
    assert_eq!(client.ceilings().await.unwrap().days, 0);
}

#[tokio::test]
async fn requests_beyond_the_bound_or_the_end_are_answered_at_once() {
    let link = ArchiveLink::new(Arc::new(SystemClock::new()));
    let client = link.client();
    let waiting: Vec<_> = (0..REQUESTS_MAX)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.ceilings().await })
        })
        .collect();
    while link.shared.lock().requests.len() < REQUESTS_MAX {
        tokio::task::yield_now().await;
    }
    assert!(matches!(client.ceilings().await, Err(ArchiveError::Locked(_))));
    drop(Intake(link.shared.clone()));
    for request in waiting {
        assert!(matches!(request.await.unwrap(), Err(ArchiveError::Locked(_))));
    }
    assert!(matches!(client.ceilings().await, Err(ArchiveError::Locked(_))));
}

/// Stores a snapshot that was received days before now.
fn store(archive: &mut Archive, site: &str, days: i64) {
    let now = SystemClock::new().now().wall.plus_micros(-days * 86_400_000_000);
    let text = now.rfc3339();
    let at = Now { text: &text, seconds: now.0 / 1_000_000 };
    let id = SiteId::parse(site).unwrap();
    let shot = Timestamp { wall: now, ..Timestamp::default() };
    let still = of_still(&id, &format!("E{days}"), shot, b"JPEG");
    let topic = |verb: &str| format!("taimat/v1/{site}/up/file/{}/{verb}", still.fid());
    let messages = [
        (topic("init"), still.bytes()),
        (topic("0"), b"JPEG".to_vec()),
        (topic("fin"), b"{}".to_vec()),
    ];
    for (_, outcome) in archive.take_all(&messages, at).unwrap() {
        if let Some(check) = outcome.check {
            let digest = super::super::store::file_store::flush_and_hash(
                &*archive.files_below(),
                &check.path,
            );
            archive.checked(&check, &digest, at).unwrap();
        }
    }
}

#[tokio::test]
async fn rules_release_what_the_preview_says_and_no_lock() {
    let running = running(Retention::new(300, 0), |archive| {
        for site in ["km-17", "km-18"] {
            for days in [5, 20, 100, 200] {
                store(archive, site, days);
            }
        }
        let old = SystemClock::new().now().wall.plus_micros(-201 * 86_400_000_000);
        let range = (old.rfc3339(), old.plus_micros(2 * 86_400_000_000).rfc3339());
        archive.lock("km-17", (&range.0, &range.1), "case 7", "now").unwrap();
    });
    let rule = |sites: Option<&str>, days| RetentionRule {
        purpose: RetentionPurpose::Snapshot,
        sites: sites.map(|site| [site.to_owned()].into()),
        days,
    };
    let rules = RetentionRules { rules: vec![rule(None, 90), rule(Some("km-17"), 10)] };
    let reader = Reader::open(running.dir.path()).unwrap();
    let retention = running.client.ceilings().await.unwrap();
    let now = SystemClock::new().now().wall;
    let preview = reader.retention_preview(&rules, &retention, now).unwrap();
    assert_eq!((preview.files, preview.bytes, preview.locked), (4, 16, 1));
    assert_eq!(
        reader.storage_totals(now).unwrap().rows.iter().map(|row| row.files).sum::<u64>(),
        8
    );
    let mut changes = running.client.subscribe();
    running.client.set_rules(rules).await.unwrap();
    running.client.run_retention().await.unwrap();
    // The pass has run when the next request is answered; the clock is not confirmed yet.
    running.client.run_retention().await.unwrap();
    running.client.ceilings().await.unwrap();
    assert_eq!(reader.deleted_totals().unwrap(), [], "footage is deleted by a clock on trust");
    let (topic, payload) = health();
    running.intake.hand(topic, payload);
    let started = Instant::now();
    let mut released = Vec::new();
    while released.len() < 2 && started.elapsed() < Duration::from_secs(20) {
        let change = tokio::time::timeout(Duration::from_secs(20), changes.recv()).await;
        if let Change::Released { site, files, .. } = change.unwrap().unwrap() {
            released.push((site, files));
        }
    }
    assert_eq!(released, [("km-17".to_owned(), 2), ("km-18".to_owned(), 2)]);
    let deleted = reader.deleted_totals().unwrap();
    let deleted = deleted.iter().map(|total| (total.site.as_str(), total.files, total.bytes));
    assert_eq!(deleted.collect::<Vec<_>>(), [("km-17", 2, 8), ("km-18", 2, 8)]);
    let left =
        reader.files(&super::super::queries::rows::FileFilter { limit: 99, ..Default::default() });
    let mut left: Vec<String> =
        left.unwrap().into_iter().map(|file| format!("{} {}", file.site, file.event)).collect();
    left.sort();
    assert_eq!(left, ["km-17 E200", "km-17 E5", "km-18 E20", "km-18 E5"]);
}
