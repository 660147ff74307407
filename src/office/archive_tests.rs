//! Unit tests of the archive: messages of devices, one by one.

use std::path::PathBuf;

use serde_json::json;

use super::super::queries::{Filter, Reader};
use super::super::retention::Retention;
use super::super::store::file_store::flush_and_hash;
use super::super::store::files::{DirectoryStore, FileOps as _};
use super::super::store::index::NewFile;
use super::super::store::sqlite::simulated::{Damage, MemoryIndex};
use super::*;
use crate::evidence::manifest::{Manifest, of_still};
use crate::units::{Digest, Timestamp, WallTime};
use crate::uplink::wire::{Ack, Health};

/// A time of receipt.
const NOON: Now<'_> = Now { text: "2026-11-24T02:10:00.000Z", seconds: 1_000 };

fn site() -> SiteId {
    SiteId::parse("km-17").unwrap()
}

/// Ingests one message, and runs its flush and check at once.
fn take(archive: &mut Archive, topic: &str, payload: &[u8]) -> IngestOutcome {
    take_at(archive, topic, payload, WallTime(1_795_000_000_000_000))
}

fn take_at(archive: &mut Archive, topic: &str, payload: &[u8], now: WallTime) -> IngestOutcome {
    let text = now.rfc3339();
    let now = Now { text: &text, seconds: now.0 / 1_000_000 };
    let taken = archive.take_all(&[(topic.to_owned(), payload.to_vec())], now).unwrap();
    let outcome = taken.into_iter().next().map(|(_, outcome)| outcome).unwrap_or_default();
    let files = archive.files_below();
    if let Some(flush) = &outcome.flush {
        archive.flushed(flush, files.flush(&flush.file.path), now.seconds).unwrap();
    }
    match &outcome.check {
        Some(check) => archive.checked(check, &flush_and_hash(&*files, &check.path), now).unwrap(),
        None => outcome,
    }
}

/// Sends a whole file; returns the last answer.
fn send(archive: &mut Archive, manifest: &Manifest, bytes: &[u8], now: WallTime) -> Option<Ack> {
    let topic = |verb: &str| {
        topics::up(
            &SiteId::parse(&manifest.site).unwrap(),
            &format!("file/{}/{verb}", manifest.fid()),
        )
    };
    take_at(archive, &topic("init"), &manifest.bytes(), now);
    take_at(archive, &topic("0"), bytes, now);
    take_at(archive, &topic("fin"), b"{}", now).ack
}

fn up(tail: &str) -> String {
    topics::up(&site(), tail)
}

fn event(seq: u64) -> Vec<u8> {
    event_of(1, seq)
}

fn event_of(ring: u64, seq: u64) -> Vec<u8> {
    format!(
        r#"{{"specversion":"1.0","id":"E{ring}-{seq}","ring":"{ring:016x}","source":"taimat/km-17","type":"t","time":"2026-11-24T02:10:00.000Z","datacontenttype":"application/json","seq":{seq},"clock":"ntp","boot":1,"mono":1,"data":{{}}}}"#
    )
    .into_bytes()
}

#[test]
fn an_event_that_comes_twice_is_receipted_twice_and_kept_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut archive = Archive::open(dir.path()).unwrap();
    for _ in 0..2 {
        let ack = take(&mut archive, &up("event"), &event(1)).ack;
        assert_eq!(ack, Some(Ack::Event { id: "E1-1".into(), sha256: Digest::of(&event(1)) }));
    }
    take(&mut archive, &up("event"), &event(4));
    let row = &archive.sites().unwrap()[0];
    assert_eq!((row.events, row.highest_seq, row.missing_seq), (2, 4, 2));
}

#[test]
fn a_file_is_stored_with_the_right_digest_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = vec![7_u8; 1000];
    let manifest = of_still(&site(), "e", Timestamp::default(), &bytes);
    let fid = manifest.fid();
    let topic = |verb: &str| up(&format!("file/{fid}/{verb}"));
    let mut archive = Archive::open(dir.path()).unwrap();
    take(&mut archive, &topic("init"), &manifest.bytes());
    // More chunks than one flush covers.
    for at in 0..400 {
        take(&mut archive, &topic(&at.to_string()), &bytes[at..=at]);
    }
    drop(archive);
    let mut archive = Archive::open(dir.path()).unwrap();
    let ack = take(&mut archive, &topic("init"), &manifest.bytes()).ack;
    assert_eq!(ack, Some(Ack::Have { fid: fid.clone(), upto: 256, missing: Vec::new() }));
    take(&mut archive, &topic("256"), &[8; 744]);
    let ack = take(&mut archive, &topic("fin"), b"{}").ack;
    assert_eq!(
        ack,
        Some(Ack::Have { fid: fid.clone(), upto: 0, missing: Vec::new() }),
        "wrong bytes were stored"
    );
    take(&mut archive, &topic("0"), &bytes);
    let stored = Some(Ack::Stored { fid: fid.clone(), sha256: manifest.sha256 });
    assert_eq!(take(&mut archive, &topic("fin"), b"{}").ack, stored);
    assert_eq!(
        take(&mut archive, &topic("init"), &manifest.bytes()).ack,
        stored,
        "the file was requested again"
    );
    let row = &archive.files(&Filter { limit: 9, ..Filter::default() }).unwrap()[0];
    assert_eq!(std::fs::read(&row.path).unwrap(), bytes);
}

#[test]
fn a_device_cannot_write_outside_the_archive() {
    let dir = tempfile::tempdir().unwrap();
    let mut archive = Archive::open(dir.path()).unwrap();
    for name in ["../../etc/passwd", ".hidden", "a/b", ""] {
        let mut manifest = of_still(&site(), "e", Timestamp::default(), b"x");
        manifest.name = name.into();
        let fid = manifest.fid();
        let ack = take(&mut archive, &up(&format!("file/{fid}/init")), &manifest.bytes()).ack;
        assert!(matches!(ack, Some(Ack::Refused { .. })), "{name:?} was accepted");
    }
}

#[test]
fn a_late_lost_of_an_older_connection_is_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let mut archive = Archive::open(dir.path()).unwrap();
    let state = |word: &str, conn: u64| {
        format!(r#"{{"v":1,"state":"{word}","boot":1,"conn":{conn},"t":""}}"#).into_bytes()
    };
    for (word, conn) in [("online", 8), ("lost", 7), ("stopping", 7)] {
        take(&mut archive, &up("state"), &state(word, conn));
        assert_eq!(archive.sites().unwrap()[0].state, "online");
    }
}

#[test]
fn a_new_card_has_its_own_numbers_and_connections() {
    let dir = tempfile::tempdir().unwrap();
    let mut archive = Archive::open(dir.path()).unwrap();
    let state = |word: &str, ring: u64, conn: u64| {
        format!(r#"{{"v":1,"state":"{word}","ring":"{ring:016x}","boot":1,"conn":{conn},"t":""}}"#)
            .into_bytes()
    };
    let mut ingest = |message: Vec<u8>, tail: &str| {
        take(&mut archive, &up(tail), &message);
        archive.sites().unwrap().remove(0)
    };
    ingest(state("online", 5, 900), "state");
    for seq in 1..=9 {
        ingest(event_of(5, seq), "event");
    }
    assert_eq!(
        ingest(state("lost", 6, 1), "state").state,
        "online",
        "the state of an unknown ring is ignored"
    );
    ingest(state("online", 6, 1), "state");
    assert_eq!(
        ingest(state("lost", 5, 900), "state").state,
        "online",
        "the late will of the old card is ignored"
    );
    ingest(event_of(6, 1), "event");
    let row = ingest(event_of(6, 3), "event");
    assert_eq!((row.rings, row.events, row.highest_seq, row.missing_seq), (2, 11, 9, 1));
    assert_eq!(ingest(state("lost", 6, 1), "state").state, "lost");
}

#[test]
fn rings_that_are_online_by_turns_are_two_devices() {
    let dir = tempfile::tempdir().unwrap();
    let mut archive = Archive::open(dir.path()).unwrap();
    let mut online = |ring: u64, conn: u64, seconds: i64| {
        let state = format!(
            r#"{{"v":1,"state":"online","ring":"{ring:016x}","boot":1,"conn":{conn},"t":""}}"#
        );
        let outcome =
            take_at(&mut archive, &up("state"), state.as_bytes(), WallTime(seconds * 1_000_000));
        outcome.complaint.map(|complaint| (complaint.fault, complaint.detail))
    };
    assert!(online(5, 1, 0).is_none() && online(5, 2, 10).is_none());
    assert!(online(6, 1, 20).is_none(), "a new card");
    let (fault, detail) = online(5, 3, 30).unwrap();
    assert_eq!(fault, Fault::TwoDevices);
    assert!(detail.contains("0000000000000005") && detail.contains("0000000000000006"));
    assert!(online(6, 2, 40).is_some(), "each turn counts");
    assert!(online(5, 4, 2_000).is_none(), "a card that was put back");
}

#[test]
fn an_archive_without_ring_ids_is_upgraded() {
    let dir = tempfile::tempdir().unwrap();
    Damage::of(dir.path()).make_without_rings();
    let mut archive = Archive::open(dir.path()).unwrap();
    take(&mut archive, &up("event"), &event(1));
    let row = &archive.sites().unwrap()[0];
    assert_eq!((row.events, row.rings, row.missing_seq), (2, 2, 0));
}

/// A device's `loss_report` event with these numbers.
fn shed(seq: u64, ranges: &str) -> Vec<u8> {
    String::from_utf8(event(seq))
        .unwrap()
        .replace(r#""type":"t""#, r#""type":"vn.taimat.shed.v1""#)
        .replace(r#""data":{}"#, &format!(r#""data":{{"reason":"outbox_full","seq":{ranges}}}"#))
        .into_bytes()
}

fn health(confirmed: u64) -> Vec<u8> {
    let health = Health {
        ring: crate::units::RingId(1),
        watermarks: crate::uplink::wire::Watermarks { durable: 0, event: 20, confirmed },
        ..Health::default()
    };
    serde_json::to_vec(&health).unwrap()
}

#[test]
fn missing_numbers_are_shown_requested_and_explained() {
    let dir = tempfile::tempdir().unwrap();
    let mut archive = Archive::open(dir.path()).unwrap();
    for seq in [1, 2, 5, 6, 9] {
        take(&mut archive, &up("event"), &event(seq));
    }
    take(&mut archive, &up("event"), &shed(10, "[[0,0],[3,3],[9,7]]"));
    let all = Filter { limit: 99, ..Filter::default() };
    let shown = |archive: &Archive| -> Vec<(u64, u64, String)> {
        archive.gaps(&all).unwrap().into_iter().map(|row| (row.first, row.last, row.why)).collect()
    };
    let row = |first, last, why: &str| (first, last, why.to_owned());
    assert_eq!(
        shown(&archive),
        [row(4, 4, "on its way"), row(7, 8, "on its way"), row(3, 3, "outbox_full")]
    );
    let command = take(&mut archive, &up("health"), &health(7))
        .command
        .expect("no request for the missing events");
    assert_eq!((command.name, &command.body["seq"]), ("event-get", &json!([[4, 4], [7, 7]])));
    assert!(
        take(&mut archive, &up("health"), &health(7)).command.is_none(),
        "the request was sent just now"
    );
    assert_eq!(shown(&archive)[0], row(4, 4, "missing"));
    let answer = json!({"req_id": "gaps-1", "cmd": "event-get", "status": "ok",
        "data": {"ring": "0000000000000001", "found": 1, "gone": [[4, 4]]}});
    take(&mut archive, &up("rsp"), answer.to_string().as_bytes());
    assert!(shown(&archive).contains(&row(4, 4, "not on the device any more")));
    // Asked for by hand, the device names as gone what it delivered long ago.
    let answer = json!({"req_id": "by-hand", "cmd": "event-get", "status": "ok",
        "data": {"ring": "0000000000000001", "found": 0, "gone": [[1, 2], [5, 8]]}});
    take(&mut archive, &up("rsp"), answer.to_string().as_bytes());
    let gone: Vec<_> =
        shown(&archive).into_iter().filter(|row| row.2 == "not on the device any more").collect();
    let why = "not on the device any more";
    assert_eq!(gone, [row(4, 4, why), row(7, 8, why)]);
}

#[test]
fn chunks_in_any_order_make_one_whole_file() {
    let dir = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..100_000_u32).map(|n| (n * 7 % 251) as u8).collect();
    let manifest = of_still(&site(), "e", Timestamp::default(), &bytes);
    let fid = manifest.fid();
    let topic = |verb: &str| up(&format!("file/{fid}/{verb}"));
    let mut archive = Archive::open(dir.path()).unwrap();
    take(&mut archive, &topic("init"), &manifest.bytes());
    for at in [60_000, 20_000, 20_000, 80_000, 0] {
        take(&mut archive, &topic(&at.to_string()), &bytes[at..at + 10_000]);
    }
    let have = |upto, missing: &[(u64, u64)]| {
        Some(Ack::Have { fid: fid.clone(), upto, missing: missing.to_vec() })
    };
    let wanted = [(10_000, 20_000), (30_000, 60_000), (70_000, 80_000), (90_000, 100_000)];
    assert_eq!(take(&mut archive, &topic("fin"), b"{}").ack, have(10_000, &wanted));
    for (from, to) in wanted {
        take(&mut archive, &topic(&from.to_string()), &bytes[from as usize..to as usize]);
    }
    let stored = Some(Ack::Stored { fid: fid.clone(), sha256: manifest.sha256 });
    assert_eq!(take(&mut archive, &topic("fin"), b"{}").ack, stored);
}

/// The one unfinished file has this target, whose directory is there: as right before its move. Gives where it goes.
fn begin_move(dir: &Path, target: &str) -> PathBuf {
    Damage::of(dir).set_targets(target);
    let target = dir.join(target);
    std::fs::create_dir_all(target.parent().unwrap()).unwrap();
    target
}

#[test]
fn a_file_moved_by_a_killed_office_is_listed_at_the_next_run() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = vec![7_u8; 1000];
    let manifest = of_still(&site(), "e", Timestamp::default(), &bytes);
    let fid = manifest.fid();
    let topic = |verb: &str| up(&format!("file/{fid}/{verb}"));
    let mut archive = Archive::open(dir.path()).unwrap();
    take(&mut archive, &topic("init"), &manifest.bytes());
    take(&mut archive, &topic("0"), &bytes);
    // As `checked` leaves it between the move and the list.
    let target = begin_move(dir.path(), "files/km-17/1970-01-01/moved.jpg");
    std::fs::rename(dir.path().join(format!("partial/km-17-{fid}.part")), target).unwrap();
    drop(archive);
    let mut archive = Archive::open(dir.path()).unwrap();
    let stored = Some(Ack::Stored { fid: fid.clone(), sha256: manifest.sha256 });
    assert_eq!(
        take(&mut archive, &topic("init"), &manifest.bytes()).ack,
        stored,
        "all of it was requested again"
    );
    let row = &archive.files(&Filter { limit: 9, ..Filter::default() }).unwrap()[0];
    assert_eq!(std::fs::read(&row.path).unwrap(), bytes);
}

fn day(n: i64) -> WallTime {
    WallTime(n * 86_400_000_000)
}

/// A snapshot of a site, with the time that the device gives.
fn still(site: &str, n: u64, at: WallTime, size: usize) -> (Manifest, Vec<u8>) {
    let bytes = vec![n as u8; size];
    let at = Timestamp { wall: at, ..Timestamp::default() };
    (of_still(&SiteId::parse(site).unwrap(), &format!("e{n}"), at, &bytes), bytes)
}

fn kept(archive: &Archive) -> Vec<String> {
    archive
        .files(&Filter { limit: 999, ..Filter::default() })
        .unwrap()
        .into_iter()
        .map(|row| row.event)
        .collect()
}

#[test]
fn expired_files_are_released_unless_locked() {
    let dir = tempfile::tempdir().unwrap();
    let mut archive = Archive::open(dir.path()).unwrap();
    let mut sent = Vec::new();
    for (n, at) in [(1, 1), (2, 3), (3, 5)] {
        let (manifest, bytes) = still("km-17", n, day(at), 1000);
        send(&mut archive, &manifest, &bytes, day(at));
        sent.push(manifest);
    }
    archive.lock("km-17", (&day(3).rfc3339(), &day(4).rfc3339()), "case 7", "now").unwrap();
    let retention = Retention::new(2, 0);
    let gone = archive.release_expired(&retention, day(6)).unwrap();
    assert_eq!((gone.files, gone.bytes), (1, 1000), "the second is locked, the third is new");
    assert_eq!(kept(&archive), ["e2", "e3"]);
    assert_eq!(
        Archive::open(dir.path()).unwrap().files_below().list().unwrap().len(),
        2,
        "its bytes are still on the disk"
    );
    let ack =
        take(&mut archive, &up(&format!("file/{}/init", sent[0].fid())), &sent[0].bytes()).ack;
    assert!(matches!(ack, Some(Ack::Stored { .. })), "the device would send it again: {ack:?}");
    assert!(archive.unlock(archive.locks().unwrap()[0].id).unwrap());
    assert_eq!(archive.release_expired(&retention, day(6)).unwrap().files, 1);
}

#[test]
fn numbers_that_the_retention_released_are_not_missing() {
    let dir = tempfile::tempdir().unwrap();
    let mut archive = Archive::open(dir.path()).unwrap();
    let mut take_at = |topic: &str, payload: &[u8], at: WallTime| {
        let text = at.rfc3339();
        let now = Now { text: &text, seconds: at.0 / 1_000_000 };
        archive.take_all(&[(up(topic), payload.to_vec())], now).unwrap();
    };
    for seq in 1..=4 {
        take_at("event", &event(seq), day(1));
    }
    take_at("health", &health(4), day(1));
    take_at("event", &event(6), day(9));
    let released = archive.release_expired(&Retention::new(5, 0), day(9)).unwrap();
    assert_eq!(released.events, 4);
    let deleted = Reader::open(dir.path()).unwrap().deleted_totals().unwrap();
    let deleted: Vec<_> =
        deleted.iter().map(|one| (one.site.as_str(), one.purpose.as_str(), one.files)).collect();
    assert_eq!(deleted, [("km-17", "event", 4)], "for the audit trail");
    let gaps = archive.gaps(&Filter { limit: 99, ..Filter::default() }).unwrap();
    let gaps: Vec<_> = gaps.iter().map(|row| (row.first, row.last, row.why.as_str())).collect();
    assert_eq!(gaps, [(5, 5, "on its way")]);
}

#[test]
fn only_the_site_over_its_share_loses_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut archive = Archive::open(dir.path()).unwrap();
    for n in 0..5 {
        let (manifest, bytes) = still("km-17", n, day(100), 1000);
        send(&mut archive, &manifest, &bytes, day(100));
    }
    // A hostile device claims the newest times.
    for n in 10..60 {
        let (manifest, bytes) =
            still("km-18", n, WallTime::parse("9999-01-01T00:00:00Z").unwrap(), 1000);
        send(&mut archive, &manifest, &bytes, day(101));
    }
    let retention = Retention { days: 0, bytes: 10_000, floor: 5_000 };
    let gone = archive.release_expired(&retention, day(101)).unwrap();
    assert_eq!((gone.sites.len(), gone.sites["km-18"].files, gone.over), (1, 45, 0), "{gone:?}");
    assert_eq!(archive.sites().unwrap().iter().map(|row| row.files).collect::<Vec<_>>(), [5, 5]);
    let claimed = Damage::of(dir.path()).claimed_of("km-18");
    assert!(claimed.starts_with("9999"), "the claimed time is not recorded");
    // Every site is at its share, so the archive stays over its limit and reports that.
    let gone = archive
        .release_expired(&Retention { days: 0, bytes: 1_000, floor: 5_000 }, day(101))
        .unwrap();
    assert_eq!((gone.files, gone.over), (0, 9_000));
}

#[test]
fn an_archive_with_one_day_of_retention_stops_growing() {
    let dir = tempfile::tempdir().unwrap();
    let files = Arc::new(crate::sim::office::files::SimFiles::default());
    let index = MemoryIndex::new().unwrap().open(None).unwrap();
    let store = Arc::new(DirectoryStore::over(dir.path(), files.clone()));
    let mut archive = Archive::open_over(index, store).unwrap();
    let (start, minute) = (day(100), 60_000_000);
    let (mut after_a_day, mut most) = (0, 0);
    // 17 devices, each with an event a minute: a clip and a snapshot. One transaction lists an
    // hour.
    for hour in 0..60 {
        let now = start.plus_micros(hour * 60 * minute);
        archive
            .transaction(|archive| {
                let time = now.rfc3339();
                for n in 0..17 * 60 * 2 {
                    let (site, fid) = (format!("km-{}", n % 17), format!("{hour}-{n}"));
                    let key = format!("files/{fid}");
                    archive.index.insert_file(&NewFile {
                        site: &site,
                        fid: &fid,
                        name: "",
                        key: &key,
                        purpose: "clip",
                        event: "",
                        size: 1000,
                        sha256: "",
                        start: &time,
                        end: &time,
                        manifest: b"",
                        received: &time,
                        claimed: None,
                    })?;
                    files.write_at(&key, 0, b"x")?;
                }
                Ok(())
            })
            .unwrap();
        // One pass of the retention, slice by slice.
        while archive.release_expired(&Retention::new(1, 0), now).unwrap().more {}
        while archive.sweep().unwrap() > 0 {}
        let there = files.list("files").unwrap().len();
        if hour == 25 {
            after_a_day = there;
        }
        most = most.max(there);
    }
    println!("files after 25 hours {after_a_day}, at most {most} in 60 hours");
    assert!(most <= after_a_day + 17 * 60 * 2, "the archive grows: {after_a_day}, then {most}");
}

#[test]
fn unfinished_files_are_bounded_and_dropped_after_a_week() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let mut archive = Archive::open(dir.path()).unwrap();
        for n in 0..50 {
            let (manifest, _) = still("km-17", round * 100 + n, day(100), 1000);
            let topic = |verb: &str| up(&format!("file/{}/{verb}", manifest.fid()));
            take_at(
                &mut archive,
                &topic("init"),
                &manifest.bytes(),
                day(100).plus_micros(round as i64 * 1_000_000),
            );
            take_at(&mut archive, &topic("0"), b"x", day(100));
        }
        archive.sweep().unwrap();
    }
    let mut archive = Archive::open(dir.path()).unwrap();
    assert_eq!(
        archive.files_below().list_unfinished().unwrap().len(),
        64,
        "a restart resets the bound"
    );
    assert_eq!(archive.release_expired(&Retention::default(), day(106)).unwrap().parts, 0);
    assert_eq!(archive.release_expired(&Retention::default(), day(108)).unwrap().parts, 64);
    assert!(archive.files_below().list_unfinished().unwrap().is_empty());
}

#[test]
fn a_file_in_too_many_pieces_accepts_no_further_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut archive = Archive::open(dir.path()).unwrap();
    let (manifest, bytes) = still("km-17", 1, day(100), 10_000);
    let topic = |verb: &str| up(&format!("file/{}/{verb}", manifest.fid()));
    take(&mut archive, &topic("init"), &manifest.bytes());
    let refused = (0..2_000)
        .filter(|n| take(&mut archive, &topic(&(n * 2).to_string()), b"x").complaint.is_some())
        .count();
    assert_eq!(refused, 2_000 - 1_024);
    take(&mut archive, &topic("0"), &bytes);
    assert!(matches!(take(&mut archive, &topic("fin"), b"{}").ack, Some(Ack::Stored { .. })));
}

#[test]
fn an_event_id_with_other_bytes_is_kept_beside_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut archive = Archive::open(dir.path()).unwrap();
    let other = String::from_utf8(event(1))
        .unwrap()
        .replace(r#""data":{}"#, r#""data":{"a":1}"#)
        .into_bytes();
    for payload in [&event(1), &other, &event(1), &other] {
        let ack = take(&mut archive, &up("event"), payload).ack;
        assert_eq!(ack, Some(Ack::Event { id: "E1-1".into(), sha256: Digest::of(payload) }));
    }
    let second = format!("E1-1~{}", &Digest::of(&other).hex()[..16]);
    assert_eq!(archive.index.event_equals("km-17", "E1-1", &event(1)).unwrap(), Some(true));
    assert_eq!(archive.index.event_equals("km-17", &second, &other).unwrap(), Some(true));
    assert_eq!(archive.sites().unwrap()[0].events, 2);
}

#[test]
fn an_event_is_exported_with_its_files_manifests_and_digests() {
    let dir = tempfile::tempdir().unwrap();
    let mut archive = Archive::open(dir.path()).unwrap();
    take(&mut archive, &up("event"), &event(1));
    let bytes = vec![9_u8; 500];
    let manifest = of_still(&site(), "E1-1", Timestamp::default(), &bytes);
    let topic = |verb: &str| up(&format!("file/{}/{verb}", manifest.fid()));
    for (verb, payload) in
        [("init", manifest.bytes()), ("0", bytes.clone()), ("fin", b"{}".to_vec())]
    {
        take(&mut archive, &topic(verb), &payload);
    }
    let out = dir.path().join("out");
    assert_eq!(archive.export("km-17", "E1-1", &out).unwrap(), (1, 1));
    assert_eq!(std::fs::read(out.join(&manifest.name)).unwrap(), bytes);
    let sums = std::fs::read_to_string(out.join("SHA256SUMS")).unwrap();
    for line in sums.lines() {
        let (digest, name) = line.split_once("  ").unwrap();
        assert_eq!(Digest::of(&std::fs::read(out.join(name)).unwrap()).hex(), digest, "{name}");
    }
    assert_eq!(sums.lines().count(), 3);
    assert!(
        !dir.path().read_dir().unwrap().any(|e| e
            .unwrap()
            .file_name()
            .to_string_lossy()
            .contains("unfinished"))
    );
    assert!(archive.export("km-17", "nothing", &dir.path().join("other")).is_err());
}

#[test]
fn the_id_of_an_end_event_exports_its_start_and_its_clip() {
    let dir = tempfile::tempdir().unwrap();
    let mut archive = Archive::open(dir.path()).unwrap();
    let related = |seq: u64| {
        String::from_utf8(event(seq)).unwrap().replace("{}", r#"{"event":"E1-1"}"#).into_bytes()
    };
    take(&mut archive, &up("event"), &related(1));
    take(&mut archive, &up("event"), &related(2));
    take(&mut archive, &up("event"), &event(3));
    let bytes = vec![9_u8; 500];
    let manifest = of_still(&site(), "E1-1", Timestamp::default(), &bytes);
    assert!(send(&mut archive, &manifest, &bytes, day(0)).is_some());
    for (id, files_and_events) in [("E1-1", (1, 2)), ("E1-2", (1, 2)), ("E1-3", (0, 1))] {
        assert_eq!(
            archive.export("km-17", id, &dir.path().join(id)).unwrap(),
            files_and_events,
            "{id}"
        );
    }
}

/// A file as an honest device sends it: manifest, topic of a verb, bytes.
/// Manifest and bytes of a file.
fn honest(n: u8) -> (Manifest, Vec<u8>) {
    let bytes = vec![n; 1000];
    (of_still(&site(), &format!("e{n}"), Timestamp::default(), &bytes), bytes)
}

#[test]
fn an_index_that_refuses_once_leaves_no_receipt_without_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let mut archive = Archive::open(dir.path()).unwrap();
    let (manifest, bytes) = honest(7);
    let topic = |verb: &str| up(&format!("file/{}/{verb}", manifest.fid()));
    take(&mut archive, &topic("init"), &manifest.bytes());
    take(&mut archive, &topic("0"), &bytes);
    Damage::of(dir.path()).refuse_files();
    let fin = |archive: &mut Archive| {
        let taken = archive.take_all(&[(topic("fin"), b"{}".to_vec())], NOON).unwrap();
        taken.into_iter().filter_map(|(_, o)| o.check).collect::<Vec<_>>()
    };
    for _ in 0..2 {
        for check in fin(&mut archive) {
            let digest = flush_and_hash(&*archive.files_below(), &check.path);
            assert!(archive.checked(&check, &digest, NOON).is_err());
        }
    }
    Damage::of(dir.path()).accept_files();
    drop(archive);
    let mut archive = Archive::open(dir.path()).unwrap();
    let ack = take(&mut archive, &topic("init"), &manifest.bytes()).ack;
    assert!(matches!(ack, Some(Ack::Stored { .. })), "{ack:?}");
    let row = &archive.files(&Filter { limit: 9, ..Filter::default() }).unwrap()[0];
    assert_eq!(std::fs::read(&row.path).unwrap(), bytes, "the receipted bytes are gone");
}

#[test]
fn a_bad_message_of_another_device_does_not_block_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut archive = Archive::open(dir.path()).unwrap();
    let (manifest, bytes) = honest(7);
    let topic = |verb: &str| up(&format!("file/{}/{verb}", manifest.fid()));
    take(&mut archive, &topic("init"), &manifest.bytes());
    take(&mut archive, &topic("0"), &bytes);
    let bad = (up("event"), event(u64::MAX));
    let now = NOON;
    let taken = archive.take_all(&[(topic("fin"), b"{}".to_vec()), bad], now).unwrap();
    let check = taken[0].1.check.clone().expect("no check was requested");
    assert!(
        matches!(taken[1].1.ack, Some(Ack::EventRefused { .. })) && taken[1].1.complaint.is_some()
    );
    // The result is lost: the check is repeated, and the next result counts.
    assert!(archive.overdue(1_030).is_empty());
    assert_eq!(archive.overdue(1_060).first(), Some(&check));
    let digest = flush_and_hash(&*archive.files_below(), &check.path);
    let ack = archive.checked(&check, &digest, now).unwrap().ack;
    assert!(matches!(ack, Some(Ack::Stored { .. })), "stuck: {ack:?}");
}

#[test]
fn files_with_one_name_are_exported_under_different_names() {
    let dir = tempfile::tempdir().unwrap();
    let mut archive = Archive::open(dir.path()).unwrap();
    for (n, name) in [
        (1, "events.jsonl"),
        (2, "a.jpg"),
        (3, "a.jpg"),
        (4, "a-2.jpg"),
        (5, "a.jpg.manifest.json"),
    ] {
        let (mut manifest, bytes) = still("km-17", n, day(100), 100);
        (manifest.name, manifest.event) = (name.into(), "E1-1".into());
        assert!(matches!(
            send(&mut archive, &manifest, &bytes, day(100)),
            Some(Ack::Stored { .. })
        ));
    }
    take(&mut archive, &up("event"), &event(1));
    let out = dir.path().join("out");
    assert_eq!(archive.export("km-17", "E1-1", &out).unwrap(), (5, 1));
    let sums = std::fs::read_to_string(out.join("SHA256SUMS")).unwrap();
    assert_eq!(sums.lines().count(), 11, "{sums}");
    for line in sums.lines() {
        let (digest, name) = line.split_once("  ").unwrap();
        assert_eq!(Digest::of(&std::fs::read(out.join(name)).unwrap()).hex(), digest, "{name}");
    }
    // A damaged file leaves no partial directory.
    let row = &archive.files(&Filter { limit: 9, ..Filter::default() }).unwrap()[0];
    std::fs::write(&row.path, b"x").unwrap();
    let half = dir.path().join("half");
    let refusal = format!("{:#}", archive.export("km-17", "E1-1", &half).unwrap_err());
    assert!(
        refusal.contains(&row.path.display().to_string())
            && refusal.contains("--skip-bad")
            && !half.exists(),
        "{refusal}"
    );
    let (files, events, bad) = archive.export_good("km-17", "E1-1", &half).unwrap();
    assert_eq!((files, events, bad.len()), (4, 1, 1), "{bad:?}");
    assert!(bad[0].contains(&row.path.display().to_string()), "{bad:?}");
    assert_eq!(std::fs::read_to_string(half.join("SHA256SUMS")).unwrap().lines().count(), 9);
    let checked = archive.check(true).unwrap();
    assert_eq!(
        checked.differences.iter().map(|difference| difference.kind).collect::<Vec<_>>(),
        ["size"]
    );
}

/// FAT and Windows ignore case, reserve the names of DOS devices, and drop a last dot or space.
#[test]
fn exported_names_are_files_on_fat_and_windows() {
    let dir = tempfile::tempdir().unwrap();
    let mut archive = Archive::open(dir.path()).unwrap();
    let names = [
        "events.jsonl",
        "sha256sums",
        "con",
        "nul.jpg",
        "com1.a.mp4",
        "a.jpg",
        "a.jpg.manifest.json",
        "last.",
        "b.mp4",
    ];
    for (n, name) in (1..).zip(names) {
        let (mut manifest, bytes) = still("km-17", n, day(100), 100);
        (manifest.name, manifest.event) = (name.into(), "E1-1".into());
        assert!(
            matches!(send(&mut archive, &manifest, &bytes, day(100)), Some(Ack::Stored { .. })),
            "{name}"
        );
    }
    // Names that an older archive accepted.
    for (from, to) in [("b.mp4", "A.JPG"), ("last.", "last. ")] {
        Damage::of(dir.path()).rename_files(from, to);
    }
    let out = dir.path().join("out");
    assert_eq!(archive.export("km-17", "E1-1", &out).unwrap(), (9, 0));
    let mut there = std::collections::BTreeSet::new();
    for entry in out.read_dir().unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap().to_ascii_lowercase();
        let stem = name.split('.').next().unwrap();
        assert!(!["con", "nul", "com1"].contains(&stem) && !name.ends_with(['.', ' ']), "{name}");
        assert!(there.insert(name.clone()), "two files are named {name}");
    }
    assert_eq!(there.len(), 2 * 9 + 2, "{there:?}");
}

#[test]
fn an_event_without_optional_fields_is_receipted() {
    let dir = tempfile::tempdir().unwrap();
    let mut archive = Archive::open(dir.path()).unwrap();
    for (n, field) in (1..).zip([
        "specversion",
        "source",
        "datacontenttype",
        "ring",
        "clock",
        "boot",
        "mono",
        "data",
    ]) {
        let mut event: serde_json::Value = serde_json::from_slice(&event(n)).unwrap();
        event.as_object_mut().unwrap().remove(field).unwrap();
        let ack = take(&mut archive, &up("event"), event.to_string().as_bytes()).ack;
        assert!(matches!(ack, Some(Ack::Event { .. })), "without {field}: {ack:?}");
    }
    let rows = archive.events(&Filter { limit: 99, ..Filter::default() }).unwrap();
    assert_eq!(rows.len(), 8);
}

#[test]
fn a_refused_event_is_answered_with_the_field() {
    let dir = tempfile::tempdir().unwrap();
    let mut archive = Archive::open(dir.path()).unwrap();
    let mut bad: Vec<(&str, serde_json::Value)> = Vec::new();
    for field in ["id", "type", "time", "seq"] {
        let mut event: serde_json::Value = serde_json::from_slice(&event(1)).unwrap();
        event.as_object_mut().unwrap().remove(field).unwrap();
        bad.push((field, event));
    }
    for (field, value) in [
        ("clock", json!(7)),
        ("boot", json!("x")),
        ("mono", json!(-1)),
        ("datacontenttype", json!([])),
        ("ring", json!("g")),
    ] {
        let mut event: serde_json::Value = serde_json::from_slice(&event(1)).unwrap();
        event[field] = value;
        bad.push((field, event));
    }
    for (field, event) in bad {
        let payload = event.to_string().into_bytes();
        let outcome = take(&mut archive, &up("event"), &payload);
        let answer = serde_json::to_value(&outcome.ack).unwrap();
        assert_eq!(
            (answer["t"].as_str(), answer["sha256"].as_str()),
            (Some("event-refused"), Some(&*Digest::of(&payload).hex()))
        );
        assert!(
            answer["reason"].as_str().unwrap().contains(&format!("`{field}`")),
            "{field}: {answer}"
        );
        assert!(outcome.complaint.unwrap().detail.contains(&format!("`{field}`")), "{field}");
    }
    assert!(archive.events(&Filter { limit: 99, ..Filter::default() }).unwrap().is_empty());
}

#[test]
fn check_names_every_difference_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut archive = Archive::open(dir.path()).unwrap();
    for n in 1..=3 {
        let (manifest, bytes) = still("km-17", n, day(100), 1000);
        send(&mut archive, &manifest, &bytes, day(100));
    }
    let (open, _) = still("km-17", 9, day(100), 1000);
    take(&mut archive, &up(&format!("file/{}/init", open.fid())), &open.bytes());
    assert_eq!(archive.check(true).unwrap().differences, []);
    let rows = archive.files(&Filter { limit: 9, ..Filter::default() }).unwrap();
    std::fs::remove_file(&rows[0].path).unwrap();
    std::fs::write(&rows[1].path, vec![0; 1000]).unwrap();
    std::fs::write(rows[2].path.with_file_name("stranger"), b"x").unwrap();
    std::fs::write(dir.path().join("partial/left.part"), b"x").unwrap();
    let kinds = |deep| {
        archive.check(deep).unwrap().differences.into_iter().map(|d| d.kind).collect::<Vec<_>>()
    };
    assert_eq!(kinds(false), ["missing", "unlisted", "left part"]);
    assert_eq!(kinds(true), ["missing", "digest", "unlisted", "left part"]);
}

#[test]
fn the_largest_sequence_numbers_break_no_query() {
    let dir = tempfile::tempdir().unwrap();
    let mut archive = Archive::open(dir.path()).unwrap();
    for ring in 1..=3 {
        let ack = take(&mut archive, &up("event"), &event_of(ring, i64::MAX as u64)).ack;
        assert!(ack.is_some());
        take(&mut archive, &up("event"), &event_of(ring, 1));
    }
    assert_eq!(archive.sites().unwrap()[0].events, 6);
    assert_eq!(archive.gaps(&Filter { limit: 9, ..Filter::default() }).unwrap().len(), 3);
}

#[test]
fn a_move_that_an_older_office_emptied_is_asked_for_again() {
    let dir = tempfile::tempdir().unwrap();
    let (manifest, bytes) = still("km-17", 1, day(100), 1000);
    let fid = manifest.fid();
    let topic = |verb: &str| up(&format!("file/{fid}/{verb}"));
    let mut archive = Archive::open(dir.path()).unwrap();
    take(&mut archive, &topic("init"), &manifest.bytes());
    std::fs::write(begin_move(dir.path(), "files/km-17/1970-04-11/moved.jpg"), b"").unwrap();
    // As an archive of before: no sums, no version.
    drop(archive);
    Damage::of(dir.path()).forget_sums();
    let mut archive = Archive::open(dir.path()).unwrap();
    let checks = archive.moves(NOON).unwrap();
    let digest = flush_and_hash(&*archive.files_below(), &checks[0].path);
    let ack = archive.checked(&checks[0], &digest, NOON).unwrap().ack;
    assert_eq!(
        ack,
        Some(Ack::Have { fid: fid.clone(), upto: 0, missing: Vec::new() }),
        "the file was listed without a check"
    );
    assert!(matches!(send(&mut archive, &manifest, &bytes, day(100)), Some(Ack::Stored { .. })));
    archive.sweep().unwrap();
    assert_eq!(archive.check(true).unwrap().differences, []);
}

/// Inodes of the files on which this process holds a POSIX lock.
fn locked_inodes() -> Vec<u64> {
    let own = std::process::id().to_string();
    let locks = std::fs::read_to_string("/proc/locks").unwrap();
    let mine = locks
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words[4] == own);
    mine.filter_map(|words| words[5].rsplit(':').next()?.parse().ok()).collect()
}

#[test]
fn an_open_archive_keeps_sqlites_lock_on_its_memory() {
    use std::os::unix::fs::MetadataExt as _;

    let dir = tempfile::tempdir().unwrap();
    let _archive = Archive::open(dir.path()).unwrap();
    let shared = std::fs::metadata(dir.path().join("taimat.sqlite-shm")).unwrap().ino();
    assert!(locked_inodes().contains(&shared), "another program would truncate it");
}

#[test]
fn announced_files_cost_no_other_site_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut archive = Archive::open(dir.path()).unwrap();
    for n in 0..5 {
        let (manifest, bytes) = still("km-17", n, day(100), 1000);
        send(&mut archive, &manifest, &bytes, day(100));
    }
    for n in 0..8 {
        let (manifest, _) = still("km-18", n, day(101), 1);
        let manifest = Manifest { size: 2 << 30, ..manifest };
        let topic =
            topics::up(&SiteId::parse("km-18").unwrap(), &format!("file/{}/init", manifest.fid()));
        take_at(&mut archive, &topic, &manifest.bytes(), day(101));
    }
    let (files, announced) = archive.index.sum_of_parts("km-18").unwrap();
    assert_eq!((files, announced), (4, 8 << 30), "four of the largest at most");
    let retention = Retention { floor: 0, ..Retention::new(0, 6 << 30) };
    let gone = archive.release_expired(&retention, day(102)).unwrap();
    assert_eq!((gone.files, gone.parts, gone.over), (0, 2, 0), "the announcing site pays");
    assert_eq!(kept(&archive).len(), 5);
}
