//! Each `playback.start` has one `playback.stop`, with the seconds that were on the screen.

use serde_json::{Value, json};

use super::test_office::TestOffice;
use crate::office::console::acts::Ending;
use crate::office::console::people::rights::Role;

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

fn report(office: &TestOffice, cookie: &str, spans: &Value, ended: bool) {
    let body = json!({"site": "km-17", "fid": office.clip, "spans": spans, "ended": ended});
    assert_eq!(office.change("POST", "/api/v1/shown", cookie, &body).status, 204);
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
    report(&office, &cookie, &json!([[0, 5 * SECOND]]), false);
    assert_eq!(playbacks(&office), ["start"]);
    report(&office, &cookie, &json!([[5 * SECOND, 9 * SECOND]]), true);
    assert_eq!(playbacks(&office), ["start", "stop 9"]);
    // Once more: the file is read again, then pictures come from what the browser has.
    play(&office, &cookie);
    report(&office, &cookie, &json!([]), true);
    report(&office, &cookie, &json!([[20 * SECOND, 21 * SECOND]]), true);
    let all = ["start", "stop 9", "start", "stop 9", "start", "stop 10"];
    assert_eq!(playbacks(&office), all);
}

#[test]
fn a_log_out_ends_the_clips_of_its_session() {
    let (office, cookie) = opened();
    report(&office, &cookie, &json!([[0, 5 * SECOND]]), false);
    assert_eq!(office.change("POST", "/api/v1/logout", &cookie, &json!({})).status, 204);
    assert_eq!(playbacks(&office), ["start", "stop 5", "logout"]);
}

#[test]
fn a_page_that_goes_without_a_word_ends_its_clip() {
    let (office, cookie) = opened();
    report(&office, &cookie, &json!([[0, 5 * SECOND]]), false);
    let later = |seconds: i64| {
        let end = move |store: &mut crate::office::console::writer::Store,
                        now: crate::units::WallTime| {
            store.end_playbacks(now.plus_micros(seconds * SECOND), Ending::Silent)
        };
        office.console.act(end).unwrap().len()
    };
    assert_eq!((later(60), later(121), later(121)), (0, 1, 0));
    assert_eq!(playbacks(&office), ["start", "stop 5"]);
    report(&office, &cookie, &json!([[5 * SECOND, 6 * SECOND]]), false);
    assert_eq!(playbacks(&office), ["start", "stop 5", "start"], "it goes on");
}
