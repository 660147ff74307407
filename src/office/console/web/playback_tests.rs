//! Each `playback.start` has one `playback.stop`, with the seconds that were on the screen.

use serde_json::{Value, json};

use super::test_office::TestOffice;
use crate::office::console::acts::Ending;
use crate::office::console::people::rights::Role;
use crate::units::WallTime;

const SECOND: i64 = 1_000_000;

fn opened() -> (TestOffice, String) {
    let office = TestOffice::new();
    let user = office.user("op", &[(Role::Operator, "north")]);
    let cookie = office.session(user, true);
    play(&office, &cookie);
    (office, cookie)
}

fn play(office: &TestOffice, cookie: &str) {
    let path = format!("/api/v1/files/km-17/{}", office.clip);
    assert_eq!(office.get(&path, cookie).status, 200);
}

/// Reports ranges of the clip of km-17, in seconds since its first picture.
fn report(office: &TestOffice, cookie: &str, spans: &[(i64, i64)], ended: bool) {
    let file = office.stored_file("km-17", &office.clip);
    let start = WallTime::parse(&file.from).unwrap().0;
    let spans: Vec<_> =
        spans.iter().map(|(from, to)| (start + from * SECOND, start + to * SECOND)).collect();
    assert_eq!(send(office, cookie, "km-17", &office.clip, &json!(spans), ended), 204);
}

fn send(
    office: &TestOffice,
    cookie: &str,
    site: &str,
    fid: &str,
    spans: &Value,
    ended: bool,
) -> u16 {
    let body = json!({"site": site, "fid": fid, "spans": spans, "ended": ended});
    office.change("POST", "/api/v1/shown", cookie, &body).status
}

/// The playbacks of the trail: each act, and the seconds of a stop.
fn playbacks(office: &TestOffice) -> Vec<String> {
    let records = office.console.read(|tables| tables.audit_after(0, 999)).unwrap();
    let of = records.iter().filter(|one| one.act.starts_with("playback.") || one.act == "logout");
    of.map(|one| {
        let seconds = one.text.split_once(" seconds ").map_or("", |(_, rest)| rest);
        let seconds = seconds.split('\n').next().unwrap();
        format!("{} {seconds}", one.act.trim_start_matches("playback.")).trim_end().to_owned()
    })
    .collect()
}

#[test]
fn a_clip_that_ends_leaves_its_seconds_in_the_trail() {
    let (office, cookie) = opened();
    report(&office, &cookie, &[(0, 5)], false);
    assert_eq!(playbacks(&office), ["start"]);
    report(&office, &cookie, &[(5, 9)], true);
    assert_eq!(playbacks(&office), ["start", "stop 9"]);
    // Once more: the file is read again, then pictures come from what the browser has.
    play(&office, &cookie);
    report(&office, &cookie, &[], true);
    report(&office, &cookie, &[(15, 16)], true);
    let all = ["start", "stop 9", "start", "stop 9", "start", "stop 10"];
    assert_eq!(playbacks(&office), all);
}

#[test]
fn a_log_out_ends_the_clips_of_its_session() {
    let (office, cookie) = opened();
    report(&office, &cookie, &[(0, 5)], false);
    assert_eq!(office.change("POST", "/api/v1/logout", &cookie, &json!({})).status, 204);
    assert_eq!(playbacks(&office), ["start", "stop 5", "logout"]);
}

#[test]
fn a_page_that_goes_without_a_word_ends_its_clip() {
    let (office, cookie) = opened();
    report(&office, &cookie, &[(0, 5)], false);
    let later = |seconds: i64| {
        let end = move |store: &mut crate::office::console::writer::Store,
                        now: crate::units::WallTime| {
            store.end_playbacks(now.plus_micros(seconds * SECOND), Ending::Silent)
        };
        office.console.act(end).unwrap().len()
    };
    assert_eq!((later(60), later(121), later(121)), (0, 1, 0));
    assert_eq!(playbacks(&office), ["start", "stop 5"]);
    report(&office, &cookie, &[(5, 6)], false);
    assert_eq!(playbacks(&office), ["start", "stop 5", "start"], "it goes on");
}

#[test]
fn a_report_counts_within_the_times_of_its_file() {
    let (office, cookie) = opened();
    report(&office, &cookie, &[(-3_600, 3), (18, 86_400), (90, 99)], true);
    assert_eq!(playbacks(&office), ["start", "stop 5"]);
    let whole = json!([[i64::MIN, i64::MAX]]);
    play(&office, &cookie);
    assert_eq!(send(&office, &cookie, "km-17", &office.clip, &whole, true), 204);
    assert_eq!(playbacks(&office)[3..], ["stop 20"]);
    // Nothing of the file was shown, so nothing plays.
    report(&office, &cookie, &[(-9, -5), (90, 99)], false);
    assert_eq!(playbacks(&office).len(), 4);
}

#[test]
fn a_report_of_a_file_that_may_not_play_is_not_found() {
    let office = TestOffice::new();
    let user = office.user("viewer", &[(Role::Viewer, "north"), (Role::Viewer, "south")]);
    let cookie = office.session(user, true);
    let none = json!([]);
    assert_eq!(send(&office, &cookie, "km-17", &office.clip, &none, false), 204);
    assert_eq!(send(&office, &cookie, "km-17", "0123456789abcdef", &none, false), 404);
    // A clip with privacy zones needs the right `unmasked`; a site elsewhere is not known at all.
    assert_eq!(send(&office, &cookie, "km-18", &office.files[1].0, &none, false), 404);
    assert_eq!(send(&office, &cookie, "km-19", &office.files[2].0, &none, false), 404);
    let old = TestOffice::built(5, &[], |_| {});
    let user = old.user("viewer", &[(Role::Viewer, "north")]);
    let cookie = old.session(user, true);
    assert_eq!(send(&old, &cookie, "km-17", &old.clip, &none, false), 404, "too old for a viewer");
}
