//! Unit tests of the reader: what messages of a device become on its pages, and upgrades of older
//! archives.

use serde_json::{Value, json};

use super::rows::{EventFilter, MotionFilter};
use super::*;
use crate::evidence::manifest::of_still;
use crate::office::archive::Archive;
use crate::office::change::Change;
use crate::office::ingest_outcome::{IngestOutcome, Now};
use crate::office::store::file_store::flush_and_hash;
use crate::office::store::index::NewEvent;
use crate::office::store::sqlite::simulated::Damage;
use crate::units::{RingId, SiteId, Timestamp, WallTime};
use crate::uplink::topics;
use crate::uplink::wire::Health;

/// 2026-11-18T10:13:20Z.
const T0: WallTime = WallTime(1_795_000_400_000_000);
const MINUTE: i64 = 60_000_000;

fn at(minutes: i64) -> WallTime {
    T0.plus_micros(minutes * MINUTE)
}

struct Office {
    dir: tempfile::TempDir,
    archive: Archive,
    seq: u64,
}

fn office() -> Office {
    let dir = tempfile::tempdir().unwrap();
    let archive = Archive::open(dir.path()).unwrap();
    Office { dir, archive, seq: 0 }
}

/// An event as a device writes it.
fn event(seq: u64, kind: &str, time: WallTime, id: &str, data: &Value) -> Vec<u8> {
    json!({"specversion": "1.0", "id": id, "source": "taimat/km-17", "type": format!("vn.taimat.{kind}.v1"), "time": time.rfc3339(),
        "datacontenttype": "application/json", "seq": seq, "ring": "0000000000000001", "clock": "ntp", "boot": 1, "mono": 1, "data": data})
    .to_string()
    .into_bytes()
}

impl Office {
    fn take(&mut self, site: &str, tail: &str, payload: &[u8], now: WallTime) -> IngestOutcome {
        let topic = topics::up(&SiteId::parse(site).unwrap(), tail);
        let text = now.rfc3339();
        let now = Now { text: &text, seconds: now.0 / 1_000_000 };
        let taken = self.archive.take_all(&[(topic, payload.to_vec())], now).unwrap();
        let outcome = taken.into_iter().next().unwrap().1;
        let files = self.archive.files_below();
        match &outcome.check {
            Some(check) => {
                let digest = flush_and_hash(&*files, &check.path);
                self.archive.checked(check, &digest, now).unwrap()
            }
            None => outcome,
        }
    }

    fn event(
        &mut self,
        site: &str,
        kind: &str,
        time: WallTime,
        id: &str,
        data: &Value,
    ) -> IngestOutcome {
        self.seq += 1;
        let payload = event(self.seq, kind, time, id, data);
        self.take(site, "event", &payload, time)
    }

    /// The three messages of a motion event.
    fn motion(&mut self, site: &str, id: &str, start: WallTime, rule: &str) {
        let data = json!({"event": id, "started_at": start.rfc3339(), "rule": rule, "zones": ["road"], "score": 0.5, "tracks": 1});
        self.event(site, "motion.start", start, id, &data);
        let mut data = data;
        data["seconds"] = json!(12);
        data["clip"] = json!("planned");
        self.event(site, "motion.end", start.plus_micros(12_000_000), &format!("{id}-end"), &data);
    }

    fn snapshot(&mut self, site: &str, event: &str, now: WallTime) -> String {
        let still = of_still(
            &SiteId::parse(site).unwrap(),
            event,
            Timestamp { wall: now, ..Timestamp::default() },
            b"JPEG",
        );
        let topic = |verb: &str| format!("file/{}/{verb}", still.fid());
        self.take(site, &topic("init"), &still.bytes(), now);
        self.take(site, &topic("0"), b"JPEG", now);
        let stored = self.take(site, &topic("fin"), b"{}", now);
        assert!(matches!(stored.change, Some(Change::File { .. })), "{stored:?}");
        still.fid()
    }

    fn health(&mut self, site: &str, now: WallTime, boot: u32, counters: &[(&str, u64)]) {
        let counters = counters.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
        let uptime = now.0.unsigned_abs() / 1_000_000;
        let health = Health { ring: RingId(1), boot, uptime, counters, ..Health::default() };
        self.take(site, "health", &serde_json::to_vec(&health).unwrap(), now);
    }

    fn state(&mut self, site: &str, word: &str, conn: u64, now: WallTime) {
        let state = json!({"v": 1, "state": word, "ring": "0000000000000001", "boot": 1, "conn": conn, "t": ""});
        self.take(site, "state", state.to_string().as_bytes(), now);
    }

    fn reader(&self) -> Reader {
        Reader::open(self.dir.path()).unwrap()
    }
}

#[test]
fn a_motion_event_is_one_row_with_clip_and_snapshot() {
    let mut office = office();
    office.motion("km-17", "M1", at(0), "gate");
    let fid = office.snapshot("km-17", "M1", at(1));
    let page = office.reader().motion_events(&MotionFilter::default()).unwrap();
    let [row] = &page.events[..] else { panic!("{page:?}") };
    assert_eq!((row.id.as_str(), row.state, row.seconds), ("M1", "closed", Some(12)));
    assert_eq!((row.start.as_str(), row.clock), (&*at(0).rfc3339(), "ntp"));
    assert_eq!((row.snapshot.as_ref(), row.clip.as_ref()), (Some(&fid), None));
    assert_eq!(page.next, None);
    let reader = office.reader();
    let file = reader.file("km-17", &fid).unwrap().unwrap();
    assert_eq!(reader.file_read(&file.key, 1..99).unwrap(), b"PEG");
    assert_eq!(file.media_type, "image/jpeg");
    assert_eq!(reader.snapshot_of("km-17").unwrap().unwrap().fid, fid);
    assert_eq!(reader.motion_event("km-17", "M1").unwrap().as_ref(), Some(row));
    assert_eq!(reader.motion_event("km-18", "M1").unwrap(), None);
}

#[test]
fn an_end_before_its_start_is_the_same_motion_event() {
    let mut office = office();
    let data = json!({"event": "M1", "started_at": at(0).rfc3339(), "rule": "gate", "seconds": 5, "clip": "off"});
    office.event("km-17", "motion.end", at(1), "E", &data);
    let change = office.event("km-17", "motion.start", at(0), "M1", &data).change;
    assert_eq!(change, Some(Change::MotionEvent { site: "km-17".into(), id: "M1".into() }));
    let rows = office.reader().motion_events(&MotionFilter::default()).unwrap().events;
    assert_eq!((rows.len(), rows[0].state, rows[0].seconds), (1, "closed", Some(5)));
}

#[test]
fn pages_of_motion_events_have_each_row_once() {
    let mut office = office();
    for n in 0..25 {
        // Some at the same moment, of two sites.
        let site = if n % 2 == 0 { "km-17" } else { "km-18" };
        office.motion(site, &format!("M{n}"), at(n / 3), if n % 5 == 0 { "gate" } else { "road" });
    }
    let reader = office.reader();
    let all = |filter: MotionFilter| {
        let (mut ids, mut before) = (Vec::new(), None);
        loop {
            let page = reader.motion_events(&MotionFilter { before, ..filter.clone() }).unwrap();
            ids.extend(page.events.into_iter().map(|row| row.id));
            before = page.next;
            if before.is_none() {
                return ids;
            }
        }
    };
    let whole = all(MotionFilter::default());
    assert_eq!(whole.len(), 25);
    assert_eq!(all(MotionFilter { limit: 4, ..MotionFilter::default() }), whole);
    let two = Some(vec!["km-17".to_owned(), "km-18".to_owned()]);
    assert_eq!(all(MotionFilter { sites: two, limit: 7, ..MotionFilter::default() }), whole);
    let one = Some(vec!["km-18".to_owned()]);
    assert_eq!(all(MotionFilter { sites: one, limit: 5, ..MotionFilter::default() }).len(), 12);
    let none = Some(Vec::new());
    assert!(all(MotionFilter { sites: none, ..MotionFilter::default() }).is_empty());
    let gate = MotionFilter { rule: Some("gate".into()), ..MotionFilter::default() };
    assert_eq!(all(gate).len(), 5);
    let text = MotionFilter { text: Some("GATE".into()), ..MotionFilter::default() };
    assert_eq!(all(text).len(), 5);
    let zone = |zone: &str| MotionFilter { zone: Some(zone.into()), ..MotionFilter::default() };
    assert_eq!((all(zone("road")).len(), all(zone("roa")).len()), (25, 0));
    let early = MotionFilter { to: Some(at(2)), ..MotionFilter::default() };
    assert_eq!(all(early).len(), 6);
    let bad = MotionFilter { before: Some("x".into()), ..MotionFilter::default() };
    assert!(matches!(reader.motion_events(&bad), Err(ArchiveError::Invalid(_))));
}

#[test]
fn pages_of_events_have_each_row_once() {
    let mut office = office();
    for n in 0..10 {
        office.event("km-17", "scene", at(n / 4), &format!("S{n}"), &json!({"change": "moved"}));
    }
    office.event("km-18", "camera.down", at(9), "C", &json!({"stream": "main"}));
    let reader = office.reader();
    let filter = EventFilter { limit: 3, ..EventFilter::default() };
    let (mut ids, mut before) = (Vec::new(), None);
    loop {
        let page = reader.events(&EventFilter { before, ..filter.clone() }).unwrap();
        ids.extend(page.events.into_iter().map(|row| row.id));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(ids, ["C", "S9", "S8", "S7", "S6", "S5", "S4", "S3", "S2", "S1", "S0"]);
    let kind = EventFilter { kind: Some("camera.down".into()), ..filter };
    let page = reader.events(&kind).unwrap();
    assert_eq!((page.events.len(), &page.events[0].data["stream"]), (1, &json!("main")));
}

#[test]
fn gaps_lie_on_the_axis_and_count_on_the_board_once() {
    let mut office = office();
    let gap = |from: i64, to: i64| json!({"from": at(from).rfc3339(), "to": at(to).rfc3339(), "reason": "power_cut", "bytes": 0});
    office.event("km-17", "gap", at(20), "G1", &gap(-30, 10));
    office.event("km-17", "gap", at(20), "G2", &gap(5, 12));
    office.motion("km-17", "M1", at(11), "gate");
    let reader = office.reader();
    let status = reader.site("km-17", at(0)).unwrap().unwrap();
    assert_eq!((status.gaps.count, status.gaps.seconds), (2, 12 * 60));
    let axis = reader.axis(&["km-17".into(), "km-99".into()], at(11), at(30)).unwrap();
    assert_eq!((axis[0].gaps.len(), axis[0].gaps[0].reason.as_str()), (1, "power_cut"));
    assert_eq!((axis[0].events.len(), axis[1].events.len()), (1, 0));
    assert_eq!(reader.gaps("km-17", at(-60), at(60)).unwrap().len(), 2);
}

#[test]
fn health_becomes_series_and_hourly_counts() {
    let mut office = office();
    office.health("km-17", at(0), 1, &[("motion.line.gate.left", 5), ("uplink.rate", 900)]);
    office.health("km-17", at(1), 1, &[("motion.line.gate.left", 9), ("uplink.rate", 800)]);
    office.health("km-17", at(2), 2, &[("motion.line.gate.left", 2), ("motion.blind", 1)]);
    office.health("km-17", at(30), 2, &[("motion.line.gate.left", 3)]);
    let reader = office.reader();
    let series = reader.health("km-17", at(-60), at(60), 60).unwrap();
    assert_eq!((series.step, series.t.len()), (60, 4));
    assert_eq!(series.series["rate"][..2], [Some(900), Some(800)]);
    let young = reader.health("km-17", at(-600), at(60), 60).unwrap();
    assert_eq!((young.step, young.t.len()), (60, 4), "no older hours, so nothing is lost");
    let coarse = reader.health("km-17", at(-600), at(600), 7_200).unwrap();
    assert_eq!((coarse.step, coarse.t.len()), (7_200, 1));
    assert_eq!(coarse.series["blind"], [Some(1)]);
    let counts = reader.counts("km-17", at(-120), at(120)).unwrap();
    let count =
        |way: &str| counts.iter().filter(|row| row.way == way).map(|row| row.n).sum::<u64>();
    assert_eq!((count("left"), count("watched"), count("blind")), (12, 60, 60));
    assert!(!reader.site("km-17", at(0)).unwrap().unwrap().health_at.is_empty());
}

#[test]
fn presence_has_intervals_and_no_repeats() {
    let mut office = office();
    office.state("km-17", "online", 1, at(0));
    office.state("km-17", "online", 2, at(5));
    office.state("km-17", "lost", 2, at(10));
    office.state("km-17", "online", 3, at(11));
    let rows = office.reader().presence("km-17", at(1), at(60)).unwrap();
    let states: Vec<&str> = rows.iter().map(|row| row.state.as_str()).collect();
    assert_eq!(states, ["online", "lost", "online"]);
    assert_eq!((rows[0].to.as_ref(), rows[2].to.as_ref()), (Some(&at(10).rfc3339()), None));
    let late = office.reader().presence("km-17", at(20), at(60)).unwrap();
    assert_eq!(late.len(), 1);
}

#[test]
fn a_reader_can_change_nothing_and_four_serve_many() {
    let mut office = office();
    office.motion("km-17", "M1", at(0), "gate");
    let reader = office.reader();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            let reader = reader.clone();
            scope.spawn(move || {
                for _ in 0..20 {
                    assert_eq!(reader.board(at(0)).unwrap().len(), 1);
                }
            });
        }
        for n in 0..20 {
            office.motion("km-17", &format!("N{n}"), at(n), "gate");
        }
    });
    assert_eq!(reader.motion_events(&MotionFilter::default()).unwrap().events.len(), 21);
    let totals = reader.storage_totals(at(0)).unwrap();
    assert!(totals.free_bytes > 0 && totals.rows.is_empty());
}

/// Fills an archive of an older schema with events, as its office stored them.
fn older(schema: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let older = Damage::of(dir.path());
    older.make_older(schema, &at(9).rfc3339());
    let motion =
        json!({"event": "M1", "started_at": at(0).rfc3339(), "rule": "gate", "zones": ["road"]});
    let mut end = motion.clone();
    end["seconds"] = json!(7);
    let gap = json!({"from": at(1).rfc3339(), "to": at(2).rfc3339(), "reason": "camera_down", "bytes": 9});
    let events = [
        (1, "motion.start", "M1", motion),
        (2, "motion.end", "M2", end),
        (3, "gap", "G1", gap),
        (6, "scene", "S1", json!({"change": "moved"})),
    ];
    for (seq, kind, id, data) in events {
        older.add_event(&NewEvent {
            site: "km-17",
            id,
            seq,
            kind: &format!("vn.taimat.{kind}.v1"),
            time: &at(0).rfc3339(),
            payload: &event(seq, kind, at(0), id, &data),
            received: &at(1).rfc3339(),
            ring: "0000000000000001",
        });
    }
    // What an older office accepted and this one would not.
    older.add_event(&NewEvent {
        site: "km-17",
        id: "OLD",
        seq: 7,
        kind: "t",
        time: "yesterday",
        payload: b"{",
        received: "after a restart",
        ring: "0000000000000001",
    });
    dir
}

#[test]
fn older_archives_get_the_history_of_their_events() {
    for schema in [
        include_str!("../store/sqlite/old_schemas/0.sql"),
        include_str!("../store/sqlite/old_schemas/2.sql"),
    ] {
        let dir = older(schema);
        let refused = Reader::open(dir.path()).err().unwrap();
        assert!(refused.line().contains("taimat office run"), "{}", refused.line());
        assert!(Archive::open_read_only(dir.path()).is_err());
        for _ in 0..2 {
            let archive = Archive::open(dir.path()).unwrap();
            let row = &archive.sites().unwrap()[0];
            assert_eq!((row.events, row.highest_seq, row.missing_seq), (5, 7, 2));
            let reader = Reader::open(dir.path()).unwrap();
            let motion = reader.motion_events(&MotionFilter::default()).unwrap().events;
            assert_eq!(
                (motion.len(), motion[0].seconds, motion[0].rule.as_str()),
                (1, Some(7), "gate")
            );
            assert_eq!(reader.gaps("km-17", at(0), at(9)).unwrap().len(), 1);
            let presence = reader.presence("km-17", at(0), at(99)).unwrap();
            assert_eq!((presence.len(), presence[0].from.clone()), (1, at(9).rfc3339()));
            let counts = reader.counts("km-17", at(-60), at(60)).unwrap();
            assert_eq!(counts.iter().map(|row| row.n).collect::<Vec<_>>(), [1, 1]);
        }
    }
}

#[test]
fn totals_stay_true_while_events_come_and_go() {
    let mut office = office();
    for n in [1, 2, 4] {
        office.seq = n - 1;
        office.event("km-17", "scene", at(n as i64), &format!("S{n}"), &json!({}));
    }
    // A second event with a number that is there.
    office.seq = 3;
    office.event("km-17", "scene", at(5), "T4", &json!({}));
    let row = |office: &Office| {
        let row = &office.archive.sites().unwrap()[0];
        (row.events, row.highest_seq, row.missing_seq)
    };
    assert_eq!(row(&office), (4, 4, 1));
    Damage::of(office.dir.path()).delete_events_to(2);
    assert_eq!(row(&office), (2, 4, 1), "what the retention took is not missing");
}

/// All ids that a filter finds, page by page, and the number of pages.
fn all_pages(reader: &Reader, filter: &MotionFilter) -> (Vec<String>, u32) {
    let (mut filter, mut ids, mut pages) = (filter.clone(), Vec::new(), 0);
    loop {
        let page = reader.motion_events(&filter).unwrap();
        pages += 1;
        assert!(page.scanned <= filter.scan, "{page:?}");
        assert_eq!(page.next.is_some(), page.searched_to.is_some(), "{page:?}");
        ids.extend(page.events.into_iter().map(|row| row.id));
        filter.before = page.next;
        if filter.before.is_none() {
            return (ids, pages);
        }
    }
}

#[test]
fn a_search_reads_so_many_rows_a_page_and_goes_on() {
    let mut office = office();
    for n in 0..20 {
        let rule = if n == 3 { "Cổng" } else { "road" };
        office.motion(&format!("km-{}", n % 3), &format!("M{n:02}"), at(n), rule);
    }
    let reader = office.reader();
    let any = MotionFilter { scan: 6, ..MotionFilter::default() };
    let text = |text: &str| MotionFilter { text: Some(text.into()), ..any.clone() };
    let first = reader.motion_events(&text("cong")).unwrap();
    assert_eq!((first.events.len(), first.scanned), (0, 6));
    assert_eq!(first.searched_to, Some(at(14).rfc3339()));
    let found = |filter: &MotionFilter| all_pages(&reader, filter);
    assert_eq!(found(&text("cong")), (vec!["M03".into()], 4));
    assert_eq!(found(&text("nothing")), (vec![], 4));
    assert_eq!(found(&MotionFilter { zone: Some("bridge".into()), ..any.clone() }), (vec![], 4));
    assert_eq!(found(&MotionFilter { zone: Some("road".into()), ..any.clone() }).0.len(), 20);
    let sites = Some(vec!["km-0".to_owned(), "km-1".to_owned()]);
    let few = MotionFilter { sites: sites.clone(), rule: Some("none".into()), ..any.clone() };
    assert_eq!(found(&few), (vec![], 3));
    let many = sites.into_iter().flatten().chain((0..90).map(|n| format!("quiet-{n}"))).collect();
    assert_eq!(found(&MotionFilter { sites: Some(many), ..any.clone() }).0.len(), 14);
    let named = MotionFilter { text_sites: vec!["km-2".into()], ..text("cong") };
    assert_eq!(found(&named).0, ["M17", "M14", "M11", "M08", "M05", "M03", "M02"]);
}

#[test]
fn the_whole_id_of_an_event_is_found_without_a_search() {
    let mut office = office();
    for n in 0..20 {
        office.motion("km-17", &format!("M{n:02}"), at(n), "gate");
    }
    let reader = office.reader();
    let id = |text: &str| MotionFilter { text: Some(text.into()), ..MotionFilter::default() };
    let page = reader.motion_events(&MotionFilter { scan: 1, ..id("m03") }).unwrap();
    assert_eq!((page.events[0].id.as_str(), page.scanned, page.next), ("M03", 0, None));
    let other = MotionFilter { sites: Some(vec!["km-18".into()]), ..id("M03") };
    assert_eq!(reader.motion_events(&other).unwrap().events, []);
    assert_eq!(
        reader.motion_events(&MotionFilter { from: Some(at(4)), ..id("M03") }).unwrap().events,
        []
    );
    let only = ["M01", "M09", "M05", "gone"].map(|id| ("km-17".to_owned(), id.to_owned()));
    let only = MotionFilter { only: Some(only.to_vec()), limit: 2, ..MotionFilter::default() };
    assert_eq!(all_pages(&reader, &only), (vec!["M09".into(), "M05".into(), "M01".into()], 2));
}

/// Median of nine runs, microseconds.
fn median(mut run: impl FnMut()) -> u128 {
    let mut times: Vec<u128> = (0..9)
        .map(|_| {
            let started = std::time::Instant::now();
            run();
            started.elapsed().as_micros()
        })
        .collect();
    times.sort_unstable();
    times[4]
}

/// Prints the budget beside each measurement. It fills a million events, which takes a minute:
/// `cargo test --lib -- --ignored --nocapture a_million_events`.
#[test]
#[ignore = "takes a minute; run it for its figures"]
fn a_million_events_are_read_within_their_budgets() {
    use crate::office::queries::Filter;

    let dir = tempfile::tempdir().unwrap();
    drop(Archive::open(dir.path()).unwrap());
    Damage::of(dir.path()).fill(200, 1_000_000);
    let archive = Archive::open_read_only(dir.path()).unwrap();
    let reader = Reader::open(dir.path()).unwrap();
    let newest = Filter { limit: 100, ..Filter::default() };
    let of_site = Filter { site: Some("km-17".into()), ..newest.clone() };
    let of_kind = Filter { kind: Some("camera.down".into()), ..newest.clone() };
    let motion = MotionFilter::default();
    let rare = MotionFilter { rule: Some("rare".into()), ..motion.clone() };
    let two = Some(vec!["km-1".to_owned(), "km-2".to_owned()]);
    let two = MotionFilter { sites: two, ..motion.clone() };
    let many = MotionFilter { limit: 10_000, scan: 10_000, ..motion.clone() };
    let quiet = (0..20).map(|n| format!("quiet-{n}")).collect();
    let quiet = MotionFilter { sites: Some(quiet), ..motion.clone() };
    let group = (0..60).map(|n| format!("km-{n}")).collect();
    let group = MotionFilter { sites: Some(group), ..motion.clone() };
    let word = MotionFilter { text: Some("rare".into()), ..motion.clone() };
    let nowhere = MotionFilter { text: Some("nowhere".into()), ..motion.clone() };
    let zone = MotionFilter { zone: Some("none".into()), ..motion.clone() };
    let old = MotionFilter { text: Some("M000001234".into()), ..motion.clone() };
    let sites = Some((0..64).map(|n| format!("km-{n}")).collect());
    let no_rule = MotionFilter { sites, rule: Some("none".into()), ..motion.clone() };
    let figures = [
        (
            "office events, newest 100",
            5_000,
            median(|| assert_eq!(archive.events(&newest).unwrap().len(), 100)),
        ),
        (
            "office events --site",
            5_000,
            median(|| assert_eq!(archive.events(&of_site).unwrap().len(), 100)),
        ),
        (
            "office events --kind",
            5_000,
            median(|| assert_eq!(archive.events(&of_kind).unwrap().len(), 100)),
        ),
        (
            "office sites, 200 of them",
            5_000,
            median(|| assert_eq!(archive.sites().unwrap().len(), 200)),
        ),
        (
            "motion events, newest 100",
            20_000,
            median(|| assert_eq!(reader.motion_events(&motion).unwrap().events.len(), 100)),
        ),
        (
            "motion events of a rare rule",
            50_000,
            median(|| assert_eq!(reader.motion_events(&rare).unwrap().events.len(), 100)),
        ),
        (
            "motion events of two sites",
            50_000,
            median(|| assert_eq!(reader.motion_events(&two).unwrap().events.len(), 100)),
        ),
        (
            "motion events of 20 quiet sites",
            50_000,
            median(|| assert_eq!(reader.motion_events(&quiet).unwrap().events.len(), 0)),
        ),
        (
            "motion events of 60 sites",
            50_000,
            median(|| assert_eq!(reader.motion_events(&group).unwrap().events.len(), 100)),
        ),
        (
            "motion events, 10,000 rows",
            150_000,
            median(|| assert_eq!(reader.motion_events(&many).unwrap().events.len(), 10_000)),
        ),
        (
            "a word in one event of 1,000",
            50_000,
            median(|| drop(reader.motion_events(&word).unwrap())),
        ),
        ("a word in no event", 50_000, median(|| drop(reader.motion_events(&nowhere).unwrap()))),
        ("a zone of no event", 50_000, median(|| drop(reader.motion_events(&zone).unwrap()))),
        (
            "the id of an old event",
            50_000,
            median(|| assert_eq!(reader.motion_events(&old).unwrap().events.len(), 1)),
        ),
        (
            "a rule of no event, 64 sites",
            50_000,
            median(|| drop(reader.motion_events(&no_rule).unwrap())),
        ),
        (
            "board of 200 sites",
            100_000,
            median(|| assert_eq!(reader.board(at(0)).unwrap().len(), 200)),
        ),
    ];
    let started = std::time::Instant::now();
    let (_, pages) = all_pages(&reader, &nowhere);
    println!(
        "{:32} {:>8} ms, {pages} pages",
        "a word in no event, all pages",
        started.elapsed().as_millis()
    );
    for (what, budget, took) in figures {
        println!("{what:32} {took:>8} µs of {budget}");
    }
    assert_eq!(figures.iter().find(|(_, budget, took)| took > budget), None);
}

#[test]
fn the_board_has_the_camera_event_since_the_last_health() {
    let mut office = office();
    let health = |t: WallTime| {
        let health = Health { t: t.rfc3339(), camera: "recording".into(), ..Health::default() };
        serde_json::to_vec(&health).unwrap()
    };
    let camera = |office: &Office| {
        let sites = Reader::open(office.dir.path()).unwrap().board(at(0)).unwrap();
        sites[0].camera.clone().map(|report| (report.at, report.state))
    };
    let down = |stream: &str| json!({"stream": stream, "fault": "silent", "detail": ""});
    office.take("km-17", "health", &health(at(10)), at(10));
    office.event("km-17", "camera.down", at(9), "old", &down("main"));
    assert_eq!(camera(&office), None, "received before the health message");
    office.event("km-17", "camera.down", at(11), "sub", &down("sub"));
    assert_eq!(camera(&office), None, "the camera's other stream");
    let outcome = office.event("km-17", "camera.down", at(12), "down", &down("main"));
    assert_eq!(outcome.change, Some(Change::Site { site: "km-17".into() }));
    assert_eq!(camera(&office), Some((at(12), "silent".into())));
    let outcome = office.event("km-17", "camera.up", at(13), "up", &json!({"stream": "main"}));
    assert_eq!(outcome.change, Some(Change::Site { site: "km-17".into() }));
    assert_eq!(camera(&office), Some((at(13), "recording".into())));
    office.take("km-17", "health", &health(at(14)), at(14));
    assert_eq!(camera(&office), None);
}
