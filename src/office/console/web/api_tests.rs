//! Tests of the API over a real listener: every row of the route table for every role and group,
//! and what no user may do.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::route::{Access, Field, Gives, Kind, Method, Route, Takes};
use super::router::routes;
use super::test_office::{PRIVACY_ZONES, SITES, TestOffice, ask, state};
use crate::clock::{Clock as _, SystemClock};
use crate::office::console::people::rights::{ALL_SITES, Allowance, Right, Role, Scope, allows};
use crate::office::console::plan_image::test_jpeg;
use crate::office::console::tables::rows::{AuditFilter, RetentionRow};
use crate::office::media::test_clip;
use crate::units::ClockQuality;
use crate::uplink::wire::Health;

/// Query and body of a request that a row takes.
fn sample(office: &TestOffice, route: &Route, site: &str) -> (String, Vec<u8>) {
    let at = SITES.iter().position(|(one, _)| *one == site).unwrap_or_default();
    let (clip, snapshot) = &office.files[at];
    let fid = if route.path.ends_with("/files/{site}/{fid}") { snapshot } else { clip };
    let mut path = route
        .path
        .replace("{site}", site)
        .replace("{fid}", fid)
        .replace("{n}", "0")
        .replace("{z}/{x}/{y}", "1/0/1")
        .replace("{*path}", "index.html");
    let id = if path.contains("motion-events") { format!("M-{site}") } else { "4711".into() };
    path = path.replace("{id}", &id);
    let range = "from=2026-11-01T00:00:00Z&to=2026-12-01T00:00:00Z";
    if route.query.iter().any(|field| field.is_required && field.name == "from") {
        path = format!("{path}?{range}&sites=km-17");
    }
    let body = match route.path {
        "/api/v1/purpose" => json!({"kind": "duty"}),
        "/api/v1/password" => json!({"old": "x", "new": "y"}),
        "/api/v1/users" => json!({"name": "x"}),
        "/api/v1/groups" => json!({"groups": [{"id": "north"}, {"id": "south"}]}),
        "/api/v1/places" => {
            json!({"places": SITES.map(|(site, group)| json!({"site": site, "name_vi": "", "name_en": "", "group": group}))})
        }
        "/api/v1/retention" | "/api/v1/retention/preview" => {
            json!({"rules": [{"group": "north", "purpose": "clip", "days": 30, "ground": "Law 91/2025"}]})
        }
        "/api/v1/locks" => {
            json!({"site": "km-17", "from": "2026-11-24T02:00:00Z", "to": "2026-11-24T03:00:00Z", "title": "theft"})
        }
        "/api/v1/locks/{id}" => json!({"reason": "over"}),
        "/api/v1/shown" => json!({"site": "km-17", "fid": office.clip, "spans": [[1, 2]]}),
        "/api/v1/motion-events/{site}/{id}" => json!({"verdict": "real", "note": "seen"}),
        _ => json!({}),
    };
    let body = match route.takes {
        Takes::Nothing => Vec::new(),
        Takes::Json(_) => body.to_string().into_bytes(),
        Takes::Image => test_jpeg(),
    };
    (path, body)
}

fn request(
    office: &TestOffice,
    route: &Route,
    site: &str,
    cookie: &str,
) -> super::test_office::Got {
    let (path, body) = sample(office, route, site);
    let kind = match route.takes {
        Takes::Nothing => "",
        Takes::Json(_) => "content-type: application/json\r\n",
        Takes::Image => "content-type: image/jpeg\r\n",
    };
    let headers = format!("{cookie}{kind}");
    ask(office.web.address, route.method.as_str(), &path, &headers, &body)
}

/// Whether one of the grants allows the right for a group, by the matrix alone.
fn may(grants: &[(Role, &str)], right: Right, group: &str) -> bool {
    grants.iter().any(|(role, of)| {
        let covers = match right.scope() {
            Scope::Office => *of == ALL_SITES,
            Scope::Site => *of == ALL_SITES || *of == group,
        };
        covers && allows(*role, right) != Allowance::No
    })
}

/// Statuses with which a request that the guard lets through may end: `4711` is no user, there is no
/// broker, a password is wrong.
fn is_answered(route: &Route, status: u16, code: &str) -> bool {
    let odd = match route.path {
        "/api/v1/users/{id}"
        | "/api/v1/users/{id}/reset"
        | "/api/v1/sessions/{id}"
        | "/api/v1/locks/{id}" => 404,
        "/api/v1/users" if route.method == Method::Post => 422,
        "/api/v1/password" => 403,
        "/api/v1/plan" if route.method == Method::Get => 404,
        "/api/v1/files/{site}/{fid}/pictures/{n}" => 422,
        path if path.contains("/commands/") => 501,
        _ => 200,
    };
    status == odd
        || status == 200
        || status == 204
        || (route.path == "/api/v1/password" && code == "locked")
}

#[test]
fn every_row_answers_each_role_and_group_as_the_matrix() {
    let office = TestOffice::new();
    let scopes = [ALL_SITES, "north", "south"];
    let mut people: Vec<(String, Vec<(Role, &str)>)> = vec![("no-role".into(), Vec::new())];
    for role in Role::ALL {
        for scope in scopes {
            let name = format!("{}.{}", role.as_str(), scope.replace('*', "all"));
            people.push((name, vec![(role, scope)]));
        }
    }
    let mut seen = BTreeSet::new();
    let mut checked = 0;
    for (name, grants) in &people {
        let user = office.user(name, grants);
        let mut cookie = office.session(user, true);
        for route in routes().filter(|route| route.access != Access::Open) {
            seen.insert((route.method.as_str(), route.path));
            if route.path == "/api/v1/stream" {
                let may = scopes.iter().any(|scope| may(grants, Right::Board, scope));
                let got = Events::open(&office, &cookie, "").next("HTTP/1.1 ").unwrap();
                assert!(got.starts_with(if may { "200" } else { "403" }), "{name}: {got}");
                continue;
            }
            for site in sites_of(route) {
                let expected = expected(route, site, grants);
                let got = request(&office, route, site, &cookie);
                let (status, code) = (got.status, got.code());
                let (method, path) = (route.method.as_str(), route.path);
                let about = format!("{name}: {method} {path} {site}: {status} {code}");
                match expected {
                    Some(refused) => assert_eq!((status, code.as_str()), refused, "{about}"),
                    None => assert!(is_answered(route, status, &code), "{about}: {:?}", got.json()),
                }
                checked += 1;
                if route.path == "/api/v1/logout" {
                    cookie = office.session(user, true);
                }
            }
        }
    }
    let rows = routes().filter(|route| route.access != Access::Open).count();
    assert_eq!(seen.len(), rows, "each row was asked");
    assert!(checked > 800, "{checked} requests only");
    assert!(office.console.verify().unwrap().ok);
}

/// Sites for which a row is asked: one of each group, one that does not exist.
fn sites_of(route: &Route) -> &'static [&'static str] {
    let has_site = route.path.contains("{site}");
    if has_site { &["km-17", "km-18", "km-19", "nowhere"] } else { &["km-17"] }
}

/// The refusal of a row for grants, by the matrix alone; `None`: it is answered.
fn expected(route: &Route, site: &str, grants: &[(Role, &str)]) -> Option<(u16, &'static str)> {
    const FORBIDDEN: (u16, &str) = (403, "forbidden");
    const NOT_FOUND: (u16, &str) = (404, "not_found");
    let in_north = |right| (!may(grants, right, "north")).then_some(NOT_FOUND);
    let anywhere = |right| [ALL_SITES, "north", "south"].iter().any(|at| may(grants, right, at));
    let group = SITES.iter().find(|(one, _)| *one == site).map(|(_, group)| *group);
    match route.access {
        Access::Open | Access::Machine | Access::Session => None,
        Access::Office(right) => (!may(grants, right, ALL_SITES)).then_some(FORBIDDEN),
        Access::AnySite(right) if !anywhere(right) => Some(FORBIDDEN),
        // These name a site of the group north in their query or body.
        Access::AnySite(_) => match (route.method, route.path) {
            (_, "/api/v1/axis") => in_north(Right::Board),
            (Method::Post, "/api/v1/locks") => in_north(Right::Lock),
            (_, "/api/v1/shown") => in_north(Right::Clip),
            _ => None,
        },
        Access::Site(_) | Access::File => {
            let Some(group) = group.filter(|group| may(grants, Right::Board, group)) else {
                return Some(NOT_FOUND);
            };
            let right = match route.access {
                Access::Site(right) => right,
                _ if route.path.ends_with("{fid}") => Right::Snapshot,
                _ => Right::Clip,
            };
            if !may(grants, right, group) {
                return Some(FORBIDDEN);
            }
            let zones = PRIVACY_ZONES.iter().find(|(one, _)| *one == site).map(|(_, zones)| *zones);
            let is_masked = right == Right::Clip && zones != Some(0);
            (is_masked && !may(grants, Right::Unmasked, group)).then_some((403, "privacy_zones"))
        }
    }
}

#[test]
fn ids_of_another_site_lead_nowhere() {
    let office = TestOffice::new();
    let user = office.user("ev", &[(Role::Evidence, "north"), (Role::Evidence, "south")]);
    let cookie = office.session(user, true);
    for (clip, snapshot) in &office.files[1..] {
        for path in
            [snapshot.clone(), clip.clone(), format!("{clip}/index"), format!("{clip}/pictures/0")]
        {
            let got = office.get(&format!("/api/v1/files/km-17/{path}"), &cookie);
            assert_eq!((got.status, got.code().as_str()), (404, "not_found"), "{path}");
        }
    }
    let event = office.get("/api/v1/motion-events/km-17/M-km-18", &cookie);
    assert_eq!((event.status, event.code().as_str()), (404, "not_found"));
    // A lock and a session that are there, and are of others.
    let evidence = office.user("ev-all", &[(Role::Evidence, "*")]);
    let all = office.session(evidence, true);
    let lock = json!({"site": "km-19", "from": "2026-11-24T02:00:00Z", "to": "2026-11-24T03:00:00Z", "title": "t"});
    let made = office.change("POST", "/api/v1/locks", &all, &lock);
    assert_eq!(made.status, 200, "{:?}", made.json());
    let path = format!("/api/v1/locks/{}", made.json()["id"]);
    let end = |cookie: &str| office.change("DELETE", &path, cookie, &json!({"reason": "over"}));
    assert_eq!((end(&cookie).status, end(&cookie).code().as_str()), (404, "not_found"));
    assert_eq!(office.get("/api/v1/locks", &cookie).json()["locks"], json!([]));
    let own = office.get("/api/v1/sessions", &all).json()["sessions"][0]["id"].clone();
    let revoke = format!("/api/v1/sessions/{}", own.as_str().unwrap());
    let got = office.change("DELETE", &revoke, &cookie, &json!({}));
    assert_eq!((got.status, got.code().as_str()), (404, "not_found"));
    assert_eq!(end(&all).status, 204);
}

#[test]
fn without_a_session_only_open_rows_answer() {
    let office = TestOffice::new();
    for cookie in ["", "cookie: s=00\r\n", "cookie: s=../../etc\r\n"] {
        for route in routes() {
            let got = request(&office, route, "km-17", cookie);
            let about = format!("{} {}", route.method.as_str(), route.path);
            match route.access {
                Access::Open => assert_ne!(got.code(), "session_expired", "{about}"),
                Access::Machine => assert_eq!(got.status, 200, "{about}"),
                _ => assert_eq!(
                    (got.status, got.code().as_str()),
                    (401, "session_expired"),
                    "{about}"
                ),
            }
        }
    }
}

#[test]
fn footage_needs_a_purpose_and_leaves_a_record() {
    let office = TestOffice::new();
    let user = office.user("op", &[(Role::Operator, "north")]);
    let cookie = office.session(user, false);
    let path = format!("/api/v1/files/km-17/{}", office.snapshot);
    let got = office.get(&path, &cookie);
    assert_eq!((got.status, got.code().as_str()), (403, "purpose_missing"));
    assert_eq!(office.get("/api/v1/me", &cookie).json()["purpose"], Value::Null);
    let bad = office.change("POST", "/api/v1/purpose", &cookie, &json!({"kind": "case"}));
    assert_eq!((bad.status, bad.code().as_str()), (422, "purpose_bad"));
    let set = json!({"kind": "case", "case": "2026-0031", "reason": "theft"});
    assert_eq!(office.change("POST", "/api/v1/purpose", &cookie, &set).status, 204);
    let before = office.console.read(|tables| tables.audit_head()).unwrap().n;
    for _ in 0..5 {
        let got = office.get(&path, &cookie);
        assert_eq!((got.status, got.body.as_slice()), (200, &b"\xff\xd8\xffJPEG"[..]));
        assert_eq!(got.header("cache-control"), Some("private, no-store"));
    }
    let records = office.console.read(|tables| tables.audit_after(before, 9)).unwrap();
    assert_eq!(records.len(), 1, "one record for five requests");
    assert_eq!((records[0].act.as_str(), records[0].site.as_str()), ("snapshot.view", "km-17"));
    assert!(records[0].text.contains("2026-0031"), "{}", records[0].text);
    let auditor = office.user("auditor", &[(Role::Auditor, "*")]);
    let cookie = office.session(auditor, false);
    let page = office.get("/api/v1/audit?act=snapshot.view", &cookie).json();
    assert_eq!(page["records"][0]["purpose"]["case"], "2026-0031");
    assert_eq!(page["records"][0]["role"], "operator");
}

#[test]
fn no_footage_without_its_record_in_the_trail() {
    let office = TestOffice::new();
    let user = office.user("op", &[(Role::Operator, "*")]);
    let cookie = office.session(user, true);
    office
        .console
        .act(|store, _| {
            store.tables().execute(
                "CREATE TRIGGER no BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no'); END",
            )
        })
        .unwrap();
    let got = office.get(&format!("/api/v1/files/km-17/{}", office.snapshot), &cookie);
    assert_eq!((got.status, got.code().as_str()), (503, "audit_unavailable"));
    assert!(!got.body.windows(4).any(|four| four == b"JPEG"));
}

#[test]
fn ranges_of_a_clip_are_its_bytes() {
    let office = TestOffice::new();
    let user = office.user("ev", &[(Role::Evidence, "*")]);
    let cookie = office.session(user, true);
    let path = format!("/api/v1/files/km-17/{}", office.clip);
    let whole = &office.clip_bytes;
    let ranged = |range: &str, more: &str| {
        office.ask("GET", &path, &format!("{cookie}range: {range}\r\n{more}"), "")
    };
    let all = office.get(&path, &cookie);
    assert_eq!((all.status, &all.body), (200, whole));
    let etag = all.header("etag").unwrap().to_owned();
    let size = whole.len();
    let part = ranged("bytes=100-199", "");
    assert_eq!((part.status, part.body.as_slice()), (206, &whole[100..200]));
    assert_eq!(part.header("content-range"), Some(format!("bytes 100-199/{size}").as_str()));
    assert_eq!(ranged("bytes=-7", "").body, whole[size - 7..]);
    assert_eq!(ranged(&format!("bytes={size}-"), "").status, 416);
    assert_eq!(ranged("bytes=0-0", "if-range: \"other\"\r\n").status, 200);
    assert_eq!(ranged("bytes=0-0", &format!("if-range: {etag}\r\n")).status, 206);
    let same = office.ask("GET", &path, &format!("{cookie}if-none-match: {etag}\r\n"), "");
    assert_eq!((same.status, same.body.len()), (304, 0));
    let silent = office.get(&format!("{path}?tracks=video"), &cookie);
    assert_eq!((silent.status, silent.body.len()), (200, size));
    assert_ne!(&silent.body, whole);
    assert_ne!(silent.header("etag"), Some(etag.as_str()));
    let head = office.ask("HEAD", &path, &cookie, "");
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[test]
fn who_may_not_hear_gets_a_file_without_sound() {
    let office = TestOffice::new();
    let operator = office.user("op", &[(Role::Operator, "*")]);
    let cookie = office.session(operator, true);
    let path = format!("/api/v1/files/km-17/{}", office.clip);
    let silent = office.get(&path, &cookie);
    assert_eq!((silent.status, silent.body.len()), (200, office.clip_bytes.len()));
    // Sound samples of the test's clips are of 0x55; four of them stand nowhere else.
    let has_sound = |bytes: &[u8]| bytes.windows(4).any(|four| four == [0x55; 4]);
    assert!(has_sound(&office.clip_bytes) && !has_sound(&silent.body));
    let at = office.clip_bytes.windows(4).position(|four| four == [0x55; 4]).unwrap();
    for range in [(at, at), (at + 1, at + 1), (at - 9, at + 900), (at + 3, at + 4_000)] {
        let ranged = format!("{cookie}range: bytes={}-{}\r\n", range.0, range.1);
        let got = office.ask("GET", &path, &ranged, "");
        assert_eq!((got.status, &got.body[..]), (206, &silent.body[range.0..=range.1]));
    }
    let index = office.get(&format!("{path}/index"), &cookie).json();
    let tracks: Vec<&str> = index["codecs"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|codec| codec["track"].as_str())
        .collect();
    assert_eq!(tracks, ["video"]);
    // The evidence officer hears it, unless he asks for the pictures alone.
    let evidence = office.session(office.user("ev", &[(Role::Evidence, "*")]), true);
    assert_eq!(office.get(&path, &evidence).body, office.clip_bytes);
    assert_eq!(office.get(&format!("{path}?tracks=video"), &evidence).body, silent.body);
}

#[test]
fn lists_name_sites_of_the_own_groups_alone() {
    let office = TestOffice::built(
        0,
        &[("north", 400), ("south", 500)].map(|(group, days)| RetentionRow {
            group: group.into(),
            purpose: "clip".into(),
            days,
            ground: "Law 91/2025".into(),
        }),
        |_| {},
    );
    settle(&office);
    let user = office.user("north.all", &Role::ALL.map(|role| (role, "north")));
    let cookie = office.session(user, true);
    let range = "from=2026-11-01T00:00:00Z&to=2026-12-31T00:00:00Z";
    for path in [
        "/api/v1/me",
        "/api/v1/sites",
        "/api/v1/motion-events",
        "/api/v1/motion-events?site=km-18",
        "/api/v1/motion-events?q=km-18",
        "/api/v1/places",
        "/api/v1/groups",
        "/api/v1/retention",
        "/api/v1/locks",
        "/api/v1/stats/storage",
        &format!("/api/v1/axis?sites=km-17&{range}"),
    ] {
        let got = office.get(path, &cookie);
        let text = String::from_utf8(got.body).unwrap();
        assert_eq!(got.status, 200, "{path}: {text}");
        for foreign in ["km-18", "km-19", "south"] {
            assert!(!text.contains(foreign), "{path} names {foreign}: {text}");
        }
    }
    let both = office.get(&format!("/api/v1/axis?sites=km-17,km-18&{range}"), &cookie);
    assert_eq!(both.status, 404);
}

#[test]
fn rules_of_a_group_count_from_the_start_of_the_office() {
    let rule = |group: &str, days: u32| RetentionRow {
        group: group.into(),
        purpose: "clip".into(),
        days,
        ground: "Law 91/2025".into(),
    };
    // Files are two days old. Those of the group north stay for a year, the others for a day.
    let office = TestOffice::built(2, &[rule("*", 1), rule("north", 365)], |_| {});
    let user = office.user("op", &[(Role::Operator, "*")]);
    let cookie = office.session(user, true);
    let status = |at: usize| {
        let (site, (clip, _)) = (SITES[at].0, &office.files[at]);
        office.get(&format!("/api/v1/files/{site}/{clip}"), &cookie).status
    };
    let now = SystemClock::new().now().wall;
    let health = Health { v: 1, t: now.rfc3339(), clock: ClockQuality::Ntp, ..Health::default() };
    office.message(SITES[0].0, "health", &serde_json::to_value(&health).unwrap());
    let began = Instant::now();
    while status(1) != 404 {
        assert!(began.elapsed() < Duration::from_secs(20), "the rules are not in force");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(office.archive.run_retention()).unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!((status(0), status(1)), (200, 404), "footage of the group north is gone");
    let filter = AuditFilter { act: "retention.delete".into(), ..AuditFilter::default() };
    let recorded = || office.console.read(|tables| tables.audit_page(&filter, 100)).unwrap();
    while recorded().is_empty() {
        assert!(began.elapsed() < Duration::from_secs(40), "no record of what was deleted");
        std::thread::sleep(Duration::from_millis(100));
    }
    let records = recorded();
    assert!(records.iter().all(|record| record.site != SITES[0].0), "{records:?}");
    assert!(records.iter().any(|record| record.site == SITES[1].0), "{records:?}");
}

#[test]
fn a_clip_of_sound_alone_is_for_who_may_hear() {
    let office = TestOffice::new();
    let operator = office.session(office.user("op", &[(Role::Operator, "*")]), true);
    let evidence = office.session(office.user("ev", &[(Role::Evidence, "*")]), true);
    let seconds = [test_clip::Second { video: Vec::new(), ..test_clip::Second::at(3) }];
    let (manifest, bytes) = test_clip::clip(&[test_clip::alaw_track()], &seconds);
    let fid = office.file(&manifest, &bytes, &evidence);
    let path = format!("/api/v1/files/km-17/{fid}");
    for (path, status) in [(path.clone(), 404), (format!("{path}/index"), 404)] {
        assert_eq!(office.get(&path, &operator).status, status, "{path}");
        assert_eq!(office.get(&path, &evidence).status, 200, "{path}");
        assert_eq!(office.get(&format!("{path}?tracks=video"), &evidence).status, 404, "{path}");
    }
}

#[test]
fn a_viewer_sees_clips_that_began_within_72_hours() {
    let office = TestOffice::new();
    let viewer = office.session(office.user("viewer", &[(Role::Viewer, "*")]), true);
    let operator = office.session(office.user("op", &[(Role::Operator, "*")]), true);
    let now = crate::clock::Clock::now(&crate::clock::SystemClock::new()).wall;
    let hours_ago = |hours: i64| now.plus_micros(-hours * 3_600_000_000).rfc3339();
    let seconds = [test_clip::Second::at(3)];
    // The third one ended lately, and begins with what is too old.
    for (from, to, is_recent) in [(71, 70, true), (80, 79, false), (80, 1, false)] {
        let (mut manifest, bytes) = test_clip::clip(&[test_clip::avc_track()], &seconds);
        (manifest.from, manifest.to) = (hours_ago(from), hours_ago(to));
        let fid = office.file(&manifest, &bytes, &operator);
        for tail in ["", "/index", "/pictures/0"] {
            let got = office.get(&format!("/api/v1/files/km-17/{fid}{tail}"), &viewer);
            let refused = (got.status, got.code() == "too_old") == (403, true);
            assert_eq!(refused, !is_recent, "{from} to {to} {tail}: {} {}", got.status, got.code());
        }
    }
}

#[test]
fn clips_with_privacy_zones_need_the_right_unmasked() {
    let office = TestOffice::new();
    let viewer = office.session(office.user("viewer", &[(Role::Viewer, "*")]), true);
    let operator = office.user("op", &[(Role::Operator, "*")]);
    let (duty, idle) = (office.session(operator, true), office.session(operator, false));
    let tails = ["", "/index", "/pictures/0"];
    let of = |site: &str, cookie: &str| {
        let (clip, _) = &office.files[SITES.iter().position(|(one, _)| *one == site).unwrap()];
        tails.map(|tail| {
            let got = office.get(&format!("/api/v1/files/{site}/{clip}{tail}"), cookie);
            if got.status == 403 { got.code() } else { got.status.to_string() }
        })
    };
    // The pictures of the test are no pictures that a decoder reads: 422.
    assert_eq!(of("km-17", &viewer), ["200", "200", "422"], "it has none");
    assert_eq!(of("km-18", &viewer), ["privacy_zones"; 3], "it has two");
    assert_eq!(of("km-19", &viewer), ["privacy_zones"; 3], "it does not say it");
    assert_eq!(of("km-18", &duty), ["200", "200", "422"]);
    assert_eq!(of("km-18", &idle), ["purpose_missing"; 3]);
    let snapshot = format!("/api/v1/files/km-18/{}", office.files[1].1);
    assert_eq!(office.get(&snapshot, &viewer).status, 200, "its zones are black");
    let records = office.console.read(|tables| tables.audit_after(0, 999)).unwrap();
    let opened = |site: &str| {
        records.iter().find(|one| one.act == "playback.start" && one.site == site).unwrap()
    };
    assert!(opened("km-18").text.contains("unmasked"), "{}", opened("km-18").text);
    assert!(!opened("km-17").text.contains("unmasked"));
    assert!(records.iter().any(|one| one.act == "denied" && one.site == "km-18"));
    // A new configuration: the device says it in its next birth.
    settle(&office);
    let birth = json!({"v": 1, "version": "0.1.0", "ring": "0000000000000001", "boot": 1, "capabilities": [],
        "camera": "h264", "ring_bytes": 1, "oldest": null, "clock": "ntp", "clean_start": true, "privacy_zones": 1});
    office.message("km-17", "birth", &birth);
    let began = Instant::now();
    while of("km-17", &viewer)[0] == "200" {
        assert!(began.elapsed() < Duration::from_secs(3), "the new zones do not count");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(of("km-17", &viewer), ["privacy_zones"; 3]);
}

#[test]
fn requests_of_other_sites_change_nothing() {
    let office = TestOffice::new();
    let user = office.user("op", &[(Role::Operator, "*")]);
    let cookie = office.session(user, true);
    let path = "/api/v1/motion-events/km-17/M-km-17";
    let body = json!({"verdict": "real"}).to_string();
    let patch = |headers: &str| {
        office.ask(
            "PATCH",
            path,
            &format!("{cookie}content-type: application/json\r\n{headers}"),
            &body,
        )
    };
    for hostile in
        ["origin: http://evil.example\r\n", "sec-fetch-site: cross-site\r\n", "origin: null\r\n"]
    {
        let got = patch(hostile);
        assert_eq!((got.status, got.code().as_str()), (403, "wrong_origin"), "{hostile}");
    }
    let plain = office.ask("PATCH", path, &format!("{cookie}content-type: text/plain\r\n"), &body);
    assert_eq!(plain.status, 415);
    assert_eq!(office.get(path, &cookie).json()["handled"], Value::Null);
    let own = patch(&format!("origin: http://{}\r\n", office.web.address));
    assert_eq!((own.status, own.json()["handled"]["verdict"].as_str()), (200, Some("real")));
    let listed = office.get("/api/v1/motion-events?handled=yes", &cookie).json();
    assert_eq!(listed["events"].as_array().unwrap().len(), 1);
}

#[test]
fn a_text_finds_events_by_the_name_of_their_site() {
    let office = TestOffice::new();
    let user = office.user("op", &[(Role::Operator, "*")]);
    let cookie = office.session(user, true);
    let found = |query: &str| {
        let page = office.get(&format!("/api/v1/motion-events?{query}"), &cookie).json();
        let ids = page["events"].as_array().unwrap().iter();
        assert_eq!((&page["next"], &page["searched_to"]), (&Value::Null, &Value::Null), "{query}");
        let mut ids: Vec<String> =
            ids.map(|event| event["id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids
    };
    let all = found("");
    assert_eq!(all.len(), SITES.len());
    // `Điểm`, composed, decomposed, in capitals and without marks.
    for text in ["%C4%91i%E1%BB%83m", "%C4%91ie%CC%82%CC%89m", "%C4%90I%E1%BB%82M", "diem"] {
        assert_eq!(found(&format!("q={text}")), all, "{text}");
    }
    assert_eq!(found("q=Diem%20KM-17"), ["M-km-17"]);
    assert_eq!(found("q=km-17"), ["M-km-17"]);
    assert_eq!(found("q=m-km-17"), ["M-km-17"]);
    assert_eq!(found("q=nowhere"), [""; 0]);
    assert_eq!(found("handled=yes"), [""; 0]);
    assert_eq!(found("handled=no"), all);
}

#[test]
fn paths_lead_to_no_file_outside_of_the_tables() {
    let office = TestOffice::new();
    let user = office.user("ev", &[(Role::Evidence, "*"), (Role::Admin, "*")]);
    let cookie = office.session(user, true);
    for path in [
        "/ui/../../../../etc/passwd",
        "/ui/..%2f..%2fCargo.toml",
        "/ui//etc/passwd",
        "/ui/index.html/",
        "/etc/passwd",
        "/api/v1/files/km-17/..%2f..%2ftaimat.sqlite",
        "/api/v1/files/..%2fkm-17/x",
        "/api/v1/files/km-17/%00",
        "/api/v1/sites/KM-17",
        "/api/v1/sites/km-17%27%20OR%201=1",
        "/api/v1/motion-events/km-17/%ff",
    ] {
        let got = office.get(path, &cookie);
        assert!(matches!(got.status, 400 | 404), "{path}: {}", got.status);
        assert_eq!(got.header("x-content-type-options"), Some("nosniff"), "{path}");
    }
    assert_eq!(office.ask("TRACE", "/api/v1/sites", &cookie, "").status, 405);
    assert_eq!(office.ask("DELETE", "/api/v1/sites", &cookie, "").code(), "method_not_allowed");
}

#[test]
fn bodies_beyond_their_limit_are_refused() {
    let office = TestOffice::new();
    let user = office.user("admin", &[(Role::Admin, "*")]);
    let cookie = office.session(user, false);
    let headers = format!("{cookie}content-type: application/json\r\n");
    let large = vec![b' '; (1 << 20) + 1];
    let got = ask(office.web.address, "PUT", "/api/v1/places", &headers, &large);
    assert_eq!((got.status, got.code().as_str()), (413, "too_large"));
    let got = office.ask("PUT", "/api/v1/places", &headers, "{\"places\": [{}]}");
    assert_eq!((got.status, got.code().as_str()), (400, "bad_request"));
    let head = format!("cookie: s={}\r\n", "a".repeat(20 << 10));
    assert_eq!(office.get("/api/v1/me", &head).status, 431);
    let image = vec![0; (20 << 20) + 1];
    let jpeg = format!("{cookie}content-type: image/jpeg\r\n");
    assert_eq!(ask(office.web.address, "PUT", "/api/v1/plan", &jpeg, &image).status, 413);
}

#[test]
fn of_the_plan_only_the_pixels_are_kept() {
    let office = TestOffice::new();
    let user = office.user("admin", &[(Role::Admin, "*")]);
    let cookie = office.session(user, false);
    let put = |kind: &str, bytes: &[u8]| {
        let headers = format!("{cookie}content-type: {kind}\r\n");
        let got = ask(office.web.address, "PUT", "/api/v1/plan", &headers, bytes);
        (got.status, got.code())
    };
    let refused = (415, "wrong_type".to_owned());
    assert_eq!(put("image/jpeg", b"\xff\xd8\xffan image"), refused);
    assert_eq!(put("image/png", &test_jpeg()), refused);
    assert_eq!(put("image/svg+xml", b"<svg/>"), refused);
    let mut bomb = test_jpeg();
    let at = bomb.windows(2).position(|two| two == [0xff, 0xc0]).unwrap();
    bomb[at + 5..at + 9].copy_from_slice(&[0xea, 0x60, 0xea, 0x60]);
    assert_eq!(put("image/jpeg", &bomb), (413, "too_large".to_owned()));
    assert_eq!(office.get("/api/v1/plan", &cookie).status, 404);
    assert_eq!(office.get("/api/v1/places", &cookie).json()["plan"], false);
    let laden = [&test_jpeg()[..], b"SECRET"].concat();
    assert_eq!(put("image/jpeg", &laden).0, 204);
    let got = office.get("/api/v1/plan", &cookie);
    assert_eq!((got.status, got.header("content-type")), (200, Some("image/jpeg")));
    assert!(got.body.starts_with(b"\xff\xd8\xff") && got.body.ends_with(b"\xff\xd9"));
    assert_eq!(office.get("/api/v1/places", &cookie).json()["plan"], true);
    let tag = got.header("etag").unwrap().to_owned();
    let again = |tag: &str| {
        office.ask("GET", "/api/v1/plan", &format!("{cookie}if-none-match: {tag}\r\n"), "").status
    };
    assert_eq!(again(&tag), 304);
    // Another plan has another tag.
    let pixels = [9; 16 * 16 * 3];
    let mut other = Vec::new();
    let encoder = jpeg_encoder::Encoder::new(&mut other, 90);
    encoder.encode(&pixels, 16, 16, jpeg_encoder::ColorType::Rgb).unwrap();
    assert_eq!(put("image/jpeg", &other).0, 204);
    assert_eq!(again(&tag), 200);
}

#[test]
fn tiles_come_from_the_named_file_alone() {
    let office = TestOffice::new();
    let user = office.user("viewer", &[(Role::Viewer, "south")]);
    let cookie = office.session(user, false);
    let extent = office.get("/api/v1/tiles", &cookie).json();
    assert_eq!((&extent["min_zoom"], &extent["bounds"][3]), (&json!(1), &json!(20.7)));
    assert_eq!(office.get("/api/v1/places", &cookie).json()["tiles"], extent);
    let tile = office.get("/api/v1/tiles/1/0/1", &cookie);
    assert_eq!((tile.status, tile.header("content-type")), (200, Some("image/png")));
    for path in [
        "1/0/0",
        "1/2/1",
        "99/0/0",
        "-1/0/0",
        "1/0/..%2f1",
        "1/0/1%00",
        "1/0/99999999999",
        "x/y/z",
        "1.0/0/1",
    ] {
        assert_eq!(office.get(&format!("/api/v1/tiles/{path}"), &cookie).status, 404, "{path}");
    }
    let office = TestOffice::with(|options| options.tiles = None);
    let user = office.user("viewer", &[(Role::Viewer, "*")]);
    let cookie = office.session(user, false);
    assert_eq!(office.get("/api/v1/tiles", &cookie).status, 404);
    assert_eq!(office.get("/api/v1/tiles/1/0/1", &cookie).status, 404);
    assert_eq!(office.get("/api/v1/places", &cookie).json()["tiles"], Value::Null);
}

#[test]
fn a_slow_head_is_cut_off_and_disturbs_no_other() {
    let office = TestOffice::new();
    let mut slow: Vec<TcpStream> =
        (0..60).map(|_| TcpStream::connect(office.web.address).unwrap()).collect();
    for stream in &mut slow {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: 127").unwrap();
    }
    let began = Instant::now();
    assert_eq!(office.get("/", "").status, 200);
    assert!(began.elapsed() < Duration::from_secs(5));
    let mut refused = 0;
    let more: Vec<TcpStream> =
        (0..20).map(|_| TcpStream::connect(office.web.address).unwrap()).collect();
    for mut stream in more {
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        refused += usize::from(matches!(stream.read(&mut [0; 1]), Ok(0)));
    }
    assert!(refused >= 10, "{refused} of 20 above 64 were refused");
    for stream in &mut slow {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }
    assert!(began.elapsed() < Duration::from_secs(20), "slow heads stay open");
}

#[test]
fn every_answer_has_the_strict_headers() {
    let office = TestOffice::new();
    for path in ["/", "/ui/index.html", "/api/v1/state", "/api/v1/me", "/nothing"] {
        let got = office.get(path, "");
        let policy = got.header("content-security-policy").unwrap_or_default();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{path}: {policy}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(got.header(name), Some(value), "{path}");
        }
    }
    let foreign = office.ask("GET", "/api/v1/state", "host: evil.example\r\n", "");
    assert!(matches!(foreign.status, 400 | 421), "{}", foreign.status);
}

/// Reads a stream of events line by line.
struct Events(BufReader<TcpStream>);

impl Events {
    fn open(office: &TestOffice, cookie: &str, last: &str) -> Events {
        let mut stream = TcpStream::connect(office.web.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let host = office.web.address;
        let head = format!("GET /api/v1/stream HTTP/1.1\r\nhost: {host}\r\n{cookie}{last}\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        Events(BufReader::new(stream))
    }

    /// The next line that begins so, without the beginning.
    fn next(&mut self, begins: &str) -> Option<String> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.0.read_line(&mut line).ok()? == 0 {
                return None;
            }
            // The chunk that ends the body; the connection itself may stay open for a while.
            if line == "0\r\n" {
                return None;
            }
            if let Some(rest) = line.strip_prefix(begins) {
                return Some(rest.trim_end().to_owned());
            }
        }
    }
}

/// Waits until the pages know all sites.
fn settle(office: &TestOffice) -> u64 {
    let user = office.user("waiter", &[(Role::Viewer, "*")]);
    let mut events = Events::open(office, &office.session(user, false), "last-event-id: 0\r\n");
    assert_eq!(events.next("event: ").as_deref(), Some("reset"));
    std::thread::sleep(Duration::from_millis(500));
    events.next("id: ").unwrap().parse().unwrap()
}

#[test]
fn a_site_turns_to_fault_within_three_seconds_of_its_will() {
    let office = TestOffice::new();
    settle(&office);
    let user = office.user("viewer", &[(Role::Viewer, "north")]);
    let cookie = office.session(user, false);
    let mut events = Events::open(&office, &cookie, "");
    events.next("retry: ").unwrap();
    let began = Instant::now();
    for site in ["km-18", "km-17"] {
        office.message(site, "state", &state("lost", 7));
    }
    let data = events.next("data: ").unwrap();
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let site: Value = serde_json::from_str(&data).unwrap();
    assert_eq!((site["site"].as_str(), site["state"].as_str()), (Some("km-17"), Some("fault")));
    assert_eq!(site["reason"]["code"], "lost");
}

#[test]
fn a_stream_goes_on_where_it_was_and_resets_when_it_cannot() {
    let office = TestOffice::new();
    settle(&office);
    let user = office.user("viewer", &[(Role::Viewer, "*")]);
    let cookie = office.session(user, false);
    let change = |site: &str, word: &str, conn: u64| {
        office.message(site, "state", &state(word, conn));
    };
    let mut events = Events::open(&office, &cookie, "");
    events.next("retry: ").unwrap();
    change("km-17", "lost", 7);
    let first: u64 = events.next("id: ").unwrap().parse().unwrap();
    drop(events);
    change("km-18", "lost", 7);
    std::thread::sleep(Duration::from_millis(600));
    change("km-19", "lost", 7);
    let mut events = Events::open(&office, &cookie, &format!("last-event-id: {first}\r\n"));
    let mut seen = BTreeSet::new();
    while seen.len() < 2 {
        let data: Value = serde_json::from_str(&events.next("data: ").unwrap()).unwrap();
        seen.insert(data["site"].as_str().unwrap().to_owned());
    }
    assert_eq!(seen, BTreeSet::from(["km-18".to_owned(), "km-19".to_owned()]));
    for unknown in
        ["last-event-id: 5\r\n", "last-event-id: x\r\n", "last-event-id: 99999999999999999\r\n"]
    {
        let mut events = Events::open(&office, &cookie, unknown);
        assert_eq!(events.next("event: ").as_deref(), Some("reset"), "{unknown}");
    }
}

#[test]
fn a_session_has_four_streams_and_they_end_with_it() {
    let office = TestOffice::new();
    let user = office.user("viewer", &[(Role::Viewer, "*")]);
    let cookie = office.session(user, false);
    let mut open: Vec<Events> = (0..4).map(|_| Events::open(&office, &cookie, "")).collect();
    open.iter_mut().for_each(|events| drop(events.next("retry: ").unwrap()));
    let fifth = office.get("/api/v1/stream", &cookie);
    assert_eq!((fifth.status, fifth.code().as_str()), (429, "too_many_requests"));
    assert_eq!(office.change("POST", "/api/v1/logout", &cookie, &json!({})).status, 204);
    assert_eq!(office.get("/api/v1/me", &cookie).status, 401);
    let began = Instant::now();
    // Events until the stream looks at its session again are on their way.
    while open[0].next("event: ").is_some() {}
    assert!(began.elapsed() < Duration::from_secs(12));
}

#[test]
fn streams_that_open_at_once_are_four_as_well() {
    let office = TestOffice::new();
    let user = office.user("viewer", &[(Role::Viewer, "*")]);
    let cookie = office.session(user, false);
    let open: Vec<_> = (0..24)
        .map(|_| {
            let mut stream = TcpStream::connect(office.web.address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let host = office.web.address;
            let head = format!("GET /api/v1/stream HTTP/1.1\r\nhost: {host}\r\n{cookie}\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            Events(BufReader::new(stream))
        })
        .collect();
    let mut open = open;
    let statuses: Vec<String> =
        open.iter_mut().map(|events| events.next("HTTP/1.1 ").unwrap()).collect();
    let accepted = statuses.iter().filter(|status| status.starts_with("200")).count();
    assert_eq!(accepted, 4, "{statuses:?}");
    drop(open);
    // A stream that ended gives its place back.
    let began = Instant::now();
    while !Events::open(&office, &cookie, "").next("HTTP/1.1 ").unwrap().starts_with("200") {
        assert!(began.elapsed() < Duration::from_secs(15), "no place is free");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn wrong_logins_are_refused_while_others_go_on() {
    let office = TestOffice::new();
    let user = office.user("admin", &[(Role::Admin, "*")]);
    let cookie = office.session(user, false);
    let mut codes = BTreeSet::new();
    let mut slowest = Duration::ZERO;
    for n in 0..400 {
        let body = json!({"name": format!("user{}", n % 7), "password": "wrong"});
        let got = office.change("POST", "/api/v1/login", "", &body);
        assert!(matches!(got.status, 401 | 429 | 503), "{}", got.status);
        assert!(got.header("set-cookie").is_none());
        codes.insert(got.code());
        if n % 20 == 0 {
            let began = Instant::now();
            assert_eq!(office.get("/api/v1/sites", &cookie).status, 200);
            office.message("km-17", "state", &state("online", 8));
            slowest = slowest.max(began.elapsed());
        }
    }
    assert!(codes.contains("locked"), "{codes:?}");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    let locked =
        office.change("POST", "/api/v1/login", "", &json!({"name": "user1", "password": "x"}));
    assert!(locked.json()["retry_after"].as_u64().unwrap() > 0);
    assert!(locked.header("retry-after").is_some());
}

#[test]
fn the_first_admin_is_made_once_by_the_link() {
    let office = TestOffice::new();
    assert_eq!(office.get("/api/v1/state", "").json()["first_admin"], true);
    let token = office.console.first_admin_token().unwrap().unwrap();
    let body = |token: &str, password: &str| json!({"token": token, "name": "chief", "password": password});
    let wrong = office.change("POST", "/api/v1/first-admin", "", &body("00", "long enough it is"));
    assert_eq!((wrong.status, wrong.code().as_str()), (403, "token_bad"));
    let weak = office.change("POST", "/api/v1/first-admin", "", &body(token.reveal(), "password"));
    assert_eq!((weak.status, weak.code().as_str()), (422, "weak_password"));
    let good = body(token.reveal(), "nước mắm trên cầu 17");
    let made = office.change("POST", "/api/v1/first-admin", "", &good);
    assert_eq!(made.status, 204, "{:?}", made.json());
    let cookie = made.header("set-cookie").unwrap();
    assert!(cookie.contains("HttpOnly; SameSite=Strict"), "{cookie}");
    let cookie = format!("cookie: {}\r\n", cookie.split(';').next().unwrap());
    let me = office.get("/api/v1/me", &cookie).json();
    assert_eq!(me["user"]["name"], "chief");
    assert!(me["rights"]["*"].as_array().unwrap().contains(&json!("people")));
    assert_eq!(office.change("POST", "/api/v1/first-admin", "", &good).status, 403);
    assert_eq!(office.get("/api/v1/state", "").json()["first_admin"], false);
    let login = json!({"name": "chief", "password": "nước mắm trên cầu 17"});
    assert_eq!(office.change("POST", "/api/v1/login", "", &login).status, 204);
}

#[test]
fn a_flood_of_logins_leaves_threads_for_others() {
    let office = TestOffice::new();
    let user = office.user("admin", &[(Role::Admin, "*")]);
    let cookie = office.session(user, false);
    let to = office.web.address;
    let flood: Vec<_> = (0..40)
        .map(|n| {
            std::thread::spawn(move || {
                let body = json!({"name": format!("user{n}"), "password": "wrong"}).to_string();
                let json = "content-type: application/json\r\n";
                ask(to, "POST", "/api/v1/login", json, body.as_bytes()).status
            })
        })
        .collect();
    let began = Instant::now();
    assert_eq!(office.get("/api/v1/me", &cookie).status, 200);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    for one in flood {
        assert!(matches!(one.join().unwrap(), 401 | 429 | 503));
    }
}

#[test]
fn tls_serves_the_page_with_the_own_certificate() {
    let certs = tempfile::tempdir().unwrap();
    let now = crate::clock::Clock::now(&crate::clock::SystemClock::new()).wall.0 / 1_000_000;
    let identity = super::tls::own(certs.path(), &["localhost".to_owned()], now).unwrap();
    let cert = std::fs::read_to_string(&identity.cert).unwrap();
    let office = TestOffice::with(|options| options.identity = Some(identity));
    assert!(office.web.url().starts_with("https://"));
    let mut roots = rustls::RootCertStore::empty();
    use rustls_pki_types::pem::PemObject as _;
    roots.add(rustls_pki_types::CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let client = rustls::ClientConnection::new(std::sync::Arc::new(config), name).unwrap();
    let stream = TcpStream::connect(office.web.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut stream = rustls::StreamOwned::new(client, stream);
    let token = office.console.first_admin_token().unwrap().unwrap();
    let body =
        json!({"token": token.reveal(), "name": "chief", "password": "nước mắm trên cầu 17"})
            .to_string();
    let length = body.len();
    let head = format!(
        "POST /api/v1/first-admin HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let got = super::test_office::parse(&bytes);
    assert_eq!(got.status, 204, "{:?}", got.json());
    let cookie = got.header("set-cookie").unwrap();
    assert!(cookie.starts_with("__Host-s=") && cookie.contains("; Secure;"), "{cookie}");
}

/// Every documented member stands in the answer, with its type.
fn check(fields: &[Field], value: &Value, about: &str) {
    for field in fields {
        let about = format!("{about}.{}", field.name);
        let Some(found) = value.get(field.name) else { panic!("{about} is missing in {value}") };
        if found.is_null() {
            assert!(!field.is_required || matches!(field.kind, Kind::Any), "{about} is null");
            continue;
        }
        match field.kind {
            Kind::Text | Kind::Time => assert!(found.is_string(), "{about}: {found}"),
            Kind::Number => assert!(found.is_number(), "{about}: {found}"),
            Kind::Whole => assert!(found.is_i64() || found.is_u64(), "{about}: {found}"),
            Kind::Bool => assert!(found.is_boolean(), "{about}: {found}"),
            Kind::Any => {}
            Kind::Object(fields) => check(fields, found, &about),
            Kind::List(fields) => {
                let list = found.as_array().unwrap_or_else(|| panic!("{about}: {found}"));
                list.iter().for_each(|one| check(fields, one, &about));
            }
            Kind::Values(_) => assert!(found.is_array(), "{about}: {found}"),
            Kind::Map(_) => assert!(found.is_object(), "{about}: {found}"),
        }
    }
}

#[test]
fn real_answers_have_every_documented_field() {
    let office = TestOffice::new();
    let roles = Role::ALL.map(|role| (role, "*"));
    let user = office.user("all", &roles);
    let cookie = office.session(user, true);
    office.change(
        "PATCH",
        "/api/v1/motion-events/km-17/M-km-17",
        &cookie,
        &json!({"verdict": "real", "note": "n"}),
    );
    office.get(&format!("/api/v1/files/km-17/{}", office.snapshot), &cookie);
    let mut checked = 0;
    for route in routes().filter(|route| route.method == Method::Get) {
        let got = match route.gives {
            Gives::Json(_) | Gives::Rows(_) => request(&office, route, "km-17", &cookie),
            _ => continue,
        };
        assert_eq!(got.status, 200, "{}: {:?}", route.path, got.json());
        match route.gives {
            Gives::Json(fields) => check(fields, &got.json(), route.path),
            Gives::Rows(fields) => {
                let rows = got.json();
                rows.as_array().unwrap().iter().for_each(|row| check(fields, row, route.path));
            }
            _ => {}
        }
        checked += 1;
    }
    assert!(checked >= 15, "{checked}");
    let document = office.get("/api/v1/openapi.json", &cookie).json();
    assert_eq!(document["openapi"], "3.1.0");
    for route in routes() {
        let path = route.path.replace("{*", "{");
        assert!(document["paths"][path].is_object(), "{}", route.path);
    }
}

#[test]
fn metrics_name_sites_and_no_users() {
    let office = TestOffice::new();
    office.user("tran.van.b", &[(Role::Viewer, "*")]);
    let got = office.get("/metrics", "");
    let text = String::from_utf8(got.body).unwrap();
    assert_eq!(got.status, 200);
    assert!(text.contains("taimat_site_up{site=\"km-17\"} 1"), "{text}");
    assert!(!text.contains("tran.van.b"));
    let series = text.lines().filter(|line| line.contains("site=\"km-17\"")).count();
    assert!((3..=30).contains(&series), "{series} series");
    assert_eq!(office.get("/healthz", "").json()["ok"], true);
}

#[test]
fn the_listener_ends_within_its_time_with_open_streams() {
    let office = TestOffice::new();
    let user = office.user("viewer", &[(Role::Viewer, "*")]);
    let cookie = office.session(user, false);
    let mut events = Events::open(&office, &cookie, "");
    events.next("retry: ").unwrap();
    assert!(office.dir().exists());
    let TestOffice { web, .. } = office;
    let began = Instant::now();
    drop(web);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(events.next("event: "), None);
}

#[test]
fn the_valid_one_of_several_cookies_counts() {
    let office = TestOffice::new();
    let user = office.user("op", &[(Role::Operator, "north")]);
    let own = office.session(user, true);
    let own = own.trim_start_matches("cookie: ").trim();
    let other = format!("s={}", "0".repeat(64));
    let ask = |pairs: &[&str]| {
        office.get("/api/v1/sites", &format!("cookie: {}\r\n", pairs.join("; "))).status
    };
    assert_eq!(ask(&[own]), 200);
    assert_eq!(ask(&[&other, own]), 200);
    assert_eq!(ask(&["s=", "s=x", &other, own]), 200);
    assert_eq!(ask(&[own, &other]), 200);
    assert_eq!(ask(&[&other, &other]), 401);
    assert_eq!(ask(&[&other, &other, &other, &other, own]), 401, "four are tried");
    // The session of a stream and of a file's pieces is that of the valid cookie.
    let both = format!("cookie: {other}; {own}\r\n");
    let path = format!("/api/v1/files/km-17/{}", office.clip);
    let (got, alone) = (office.get(&path, &both), office.get(&path, &format!("cookie: {own}\r\n")));
    assert_eq!((got.status, got.body.len()), (200, alone.body.len()));
}

#[test]
fn a_log_out_that_cannot_be_written_ends_the_session() {
    let office = TestOffice::new();
    let user = office.user("op", &[(Role::Operator, "north")]);
    let cookie = office.session(user, true);
    let read_only = |is_on: bool| {
        let sql = format!("PRAGMA query_only = {}", u8::from(is_on));
        office.console.act(move |store, _| store.tables().execute(&sql)).unwrap();
    };
    read_only(true);
    let got = office.change("POST", "/api/v1/logout", &cookie, &json!({}));
    assert_eq!((got.status, got.code().as_str()), (503, "audit_unavailable"));
    assert!(got.json()["detail"].as_str().unwrap().contains("has ended until"), "{}", got.json());
    assert!(got.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert_eq!(office.get("/api/v1/sites", &cookie).status, 401);
    read_only(false);
    assert_eq!(office.get("/api/v1/sites", &cookie).status, 401, "it does not come back");
}
