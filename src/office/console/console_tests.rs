//! Tests of people through [`Console`]: log-in, sessions, links, purposes.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use super::audit::record::{Act, Origin};
use super::error::ConsoleError;
use super::handle::{Console, new_token};
use super::people::purpose::PurposeKind;
use super::people::rights::{ALL_SITES, Grant, Right, Role};
use super::people::session::{Decision, NewSession};
use super::tables::rows::{AuditFilter, GroupRow, PlaceRow, RetentionRow, UserChange};
use crate::clock::Clock;
use crate::office::console::acts::Verdict;
use crate::units::{ClockQuality, MonoTime, Secret, SiteId, Timestamp, WallTime};

struct TestClock(Mutex<u64>);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let secs = *self.0.lock().unwrap();
        let wall = WallTime(1_795_487_467_000_000 + secs as i64 * 1_000_000);
        Timestamp { mono: MonoTime((secs + 10_000) * 1_000_000), wall, quality: ClockQuality::Ntp }
    }
}

struct World {
    dir: tempfile::TempDir,
    clock: Arc<TestClock>,
    console: Console,
}

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const DESK: &str = "10.1.4.21";

fn password() -> Secret {
    Secret::new("bon con trau uong tra")
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(TestClock(Mutex::new(0)));
        let console = Console::open(dir.path(), clock.clone()).unwrap();
        World { dir, clock, console }
    }

    fn wait(&self, secs: u64) {
        *self.clock.0.lock().unwrap() += secs;
    }

    /// With the admin `quan`.
    fn with_admin() -> (World, NewSession) {
        let world = World::new();
        let token = world.console.first_admin_token().unwrap().unwrap();
        let admin = world.console.first_admin(token.reveal(), "quan", &password(), LOOPBACK);
        (world, admin.unwrap())
    }

    /// A user with a password.
    fn user(&self, admin: &NewSession, name: &'static str, role: Role) -> i64 {
        let by = admin.session.acts(Some(Role::Admin), DESK, self.console.now());
        let (token, digest) = new_token().unwrap();
        let grants = [Grant { group: ALL_SITES.into(), role, until: None }];
        let added = self
            .console
            .act(move |store, now| store.add_user(&by, now, (name, "vi"), &grants, &digest));
        self.console.redeem(token.reveal(), &password(), DESK).unwrap();
        added.unwrap()
    }

    fn acts(&self) -> Vec<String> {
        let filter = AuditFilter::default();
        let page = self.console.read(|tables| tables.audit_page(&filter, 1_000)).unwrap();
        page.into_iter().rev().map(|record| record.act).collect()
    }
}

#[test]
fn the_first_admin_needs_the_link_on_loopback_within_30_minutes() {
    let world = World::new();
    let console = &world.console;
    assert!(console.needs_first_admin().unwrap());
    let old = console.first_admin_token().unwrap().unwrap();
    let bad = |token: &Secret, from: IpAddr| {
        let refused = console.first_admin(token.reveal(), "quan", &password(), from).unwrap_err();
        assert!(matches!(refused, ConsoleError::BadToken), "{refused}");
        world.wait(31);
    };
    bad(&Secret::new("0".repeat(64)), LOOPBACK);
    bad(&old, IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9)));
    world.wait(1_800);
    bad(&old, LOOPBACK);
    let token = console.first_admin_token().unwrap().unwrap();
    bad(&old, LOOPBACK);
    let weak = console.first_admin(token.reveal(), "quan", &Secret::new("quan"), LOOPBACK);
    assert!(matches!(weak, Err(ConsoleError::WeakPassword(_))));
    let admin = console.first_admin(token.reveal(), "quan", &password(), LOOPBACK).unwrap();
    assert_eq!(admin.session.grants[0].role, Role::Admin);
    assert!(console.session(admin.cookie.reveal()).unwrap().is_some());
    bad(&token, LOOPBACK);
    assert!(console.first_admin_token().unwrap().is_none());
    assert!(console.verify().unwrap().ok);
}

#[test]
fn unknown_disabled_and_wrong_are_one_answer_and_five_lock() {
    let (world, admin) = World::with_admin();
    let id = world.user(&admin, "binh", Role::Operator);
    let by = admin.session.acts(Some(Role::Admin), DESK, world.console.now());
    world.console.login("binh", &password(), DESK).unwrap();
    let change = UserChange { is_disabled: Some(true), ..UserChange::default() };
    world.console.act(move |store, now| store.change_user(&by, now, id, &change)).unwrap();
    let wrong = Secret::new("wrong");
    let login = |name, password: &Secret| world.console.login(name, password, DESK).unwrap_err();
    for (name, password) in [("binh", &password()), ("khong-co", &wrong), ("quan", &wrong)] {
        let refused = login(name, password);
        assert_eq!((refused.code(), refused.http_status()), ("login_failed", 401));
    }
    login("quan", &wrong);
    let locked = login("quan", &wrong);
    assert!(matches!(locked, ConsoleError::Locked { retry_after: 300 }), "{locked}");
    let before = world.acts().len();
    let locked = login("quan", &password());
    assert!(matches!(locked, ConsoleError::Locked { retry_after: 300 }), "even the right one");
    assert_eq!(world.acts().len(), before, "a flood fills no trail");
    assert_eq!(world.console.login_counts().0, 1);
    world.wait(300);
    world.console.login("quan", &password(), DESK).unwrap();
    assert_eq!(world.acts().iter().filter(|act| *act == "login.failed").count(), 5);
    assert_eq!(world.acts().iter().filter(|act| *act == "login.locked").count(), 1);
    assert!(world.console.verify().unwrap().ok);
}

#[test]
fn a_session_ends_idle_whole_logged_out_and_revoked() {
    let (world, admin) = World::with_admin();
    let console = &world.console;
    let holds = |cookie: &Secret| console.session(cookie.reveal()).unwrap().is_some();
    let login = || console.login("quan", &password(), DESK).unwrap();
    assert!(console.session("").unwrap().is_none() && console.session("zz").unwrap().is_none());
    let idle = login();
    world.wait(29 * 60);
    assert!(console.session_unused(idle.cookie.reveal()).unwrap().is_some());
    world.wait(61);
    assert!(!holds(&idle.cookie), "an open stream is no use");
    let busy = login();
    for _ in 0..(12 * 60 / 20) - 1 {
        world.wait(20 * 60);
        assert!(holds(&busy.cookie));
        // The use is stored by the writer's thread, after the answer.
        console.act(|_, _| Ok(())).unwrap();
    }
    world.wait(20 * 60);
    assert!(!holds(&busy.cookie), "12 h are over");
    let (one, two) = (login(), login());
    console.logout(&one.session, DESK).unwrap();
    assert!(!holds(&one.cookie) && holds(&two.cookie));
    assert!(console.logout(&one.session, DESK).is_err());
    let by = admin.session.acts(Some(Role::Admin), DESK, console.now());
    let id = two.session.id.clone();
    assert_eq!(console.read(|tables| tables.sessions()).unwrap()[0].id, id);
    console.act(move |store, now| store.revoke_session(&by, now, &id)).unwrap();
    assert!(!holds(&two.cookie));
    let text = format!("{two:?}");
    assert!(!text.contains(two.cookie.reveal()), "a cookie is never printed");
}

#[test]
fn a_change_of_rights_or_password_ends_the_sessions() {
    let (world, admin) = World::with_admin();
    let console = &world.console;
    let id = world.user(&admin, "binh", Role::Viewer);
    let by = admin.session.acts(Some(Role::Admin), DESK, console.now());
    let first = console.login("binh", &password(), DESK).unwrap();
    let grants = vec![Grant { group: ALL_SITES.into(), role: Role::Operator, until: None }];
    let change = UserChange { grants: Some(grants), ..UserChange::default() };
    console.act(move |store, now| store.change_user(&by, now, id, &change)).unwrap();
    assert!(console.session(first.cookie.reveal()).unwrap().is_none());
    let second = console.login("binh", &password(), DESK).unwrap();
    assert_eq!(second.session.grants[0].role, Role::Operator);
    let (old, new) = (password(), Secret::new("nam con meo ngoi choi"));
    let wrong = console.set_password(&second.session, DESK, &new, &new);
    assert!(matches!(wrong, Err(ConsoleError::LoginFailed)));
    console.set_password(&second.session, DESK, &old, &new).unwrap();
    assert!(console.session(second.cookie.reveal()).unwrap().is_none());
    console.login("binh", &new, DESK).unwrap();
    let acts = world.acts();
    for act in ["right.grant", "right.revoke", "people.add", "people.password", "login"] {
        assert!(acts.iter().any(|found| found == act), "{act}: {acts:?}");
    }
    assert!(console.verify().unwrap().ok);
}

#[test]
fn the_last_admin_stays() {
    let (world, admin) = World::with_admin();
    let by = admin.session.acts(Some(Role::Admin), DESK, world.console.now());
    let id = admin.session.user;
    for change in [
        UserChange { is_disabled: Some(true), ..UserChange::default() },
        UserChange { grants: Some(Vec::new()), ..UserChange::default() },
    ] {
        let by = by.clone();
        let kept = world.console.act(move |store, now| store.change_user(&by, now, id, &change));
        assert!(matches!(kept, Err(ConsoleError::Conflict(_))));
    }
    assert!(world.console.session(admin.cookie.reveal()).unwrap().is_some());
}

#[test]
fn a_reset_link_counts_once_and_a_day() {
    let (world, admin) = World::with_admin();
    let console = &world.console;
    let id = admin.session.user;
    let reset = || {
        let (token, digest) = new_token().unwrap();
        let by = Origin::command_line(0);
        console.act(move |store, now| store.reset_user(&by, now, id, &digest)).unwrap();
        token
    };
    let (replaced, old) = (reset(), reset());
    let new = Secret::new("nam con meo ngoi choi");
    let bad = |token: &Secret| {
        let refused = console.redeem(token.reveal(), &new, DESK).unwrap_err();
        assert!(matches!(refused, ConsoleError::BadToken), "{refused}");
        world.wait(31);
    };
    bad(&replaced);
    world.wait(24 * 3_600);
    bad(&old);
    let token = reset();
    assert!(matches!(
        console.redeem(token.reveal(), &Secret::new("x"), DESK),
        Err(ConsoleError::WeakPassword(_))
    ));
    console.login("quan", &password(), DESK).unwrap();
    console.redeem(token.reveal(), &new, DESK).unwrap();
    bad(&token);
    console.login("quan", &new, DESK).unwrap();
}

#[test]
fn footage_needs_a_purpose_that_lasts_four_hours() {
    let (world, admin) = World::with_admin();
    let console = &world.console;
    world.user(&admin, "binh", Role::Operator);
    let login = console.login("binh", &password(), DESK).unwrap();
    let decide = |right| {
        let session = console.session(login.cookie.reveal()).unwrap().unwrap();
        session.decide(right, "", console.now())
    };
    assert_eq!(decide(Right::Board), Decision::Allowed(Role::Operator, None));
    assert_eq!(decide(Right::Clip), Decision::PurposeMissing);
    assert_eq!(decide(Right::Sound), Decision::Denied);
    let missing = console.set_purpose(&login.session, DESK, (PurposeKind::Case, ""), None);
    assert!(matches!(missing, Err(ConsoleError::Invalid(_))));
    let reason = Some("theo yêu cầu".to_owned());
    console.set_purpose(&login.session, DESK, (PurposeKind::Case, "2026-0031"), reason).unwrap();
    assert_eq!(decide(Right::Clip), Decision::Allowed(Role::Operator, None));
    for _ in 0..12 {
        world.wait(20 * 60);
        console.session(login.cookie.reveal()).unwrap().unwrap();
        console.act(|_, _| Ok(())).unwrap();
    }
    assert_eq!(decide(Right::Clip), Decision::PurposeMissing);
    let filter = AuditFilter { act: "purpose.set".into(), ..AuditFilter::default() };
    let page = console.read(|tables| tables.audit_page(&filter, 9)).unwrap();
    assert!(page[0].text.contains("\npurpose case 2026-0031\nreason "), "{}", page[0].text);
    assert_eq!(page[0].reason.as_deref(), Some("theo yêu cầu"));
}

#[test]
fn only_a_demonstration_has_its_user() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(TestClock(Mutex::new(0)));
    let demo = Console::open_demo(dir.path(), clock.clone()).unwrap();
    assert!(!demo.needs_first_admin().unwrap() && demo.first_admin_token().unwrap().is_none());
    let token = demo.demo_token().unwrap();
    let login = demo.demo_login(token.reveal(), "127.0.0.1").unwrap();
    assert!(demo.demo_login(token.reveal(), "127.0.0.1").is_err(), "the link counts once");
    let session = demo.session(login.cookie.reveal()).unwrap().unwrap();
    assert!(session.is_demo);
    assert_eq!(session.purpose.as_ref().unwrap().kind, PurposeKind::Training);
    assert!(matches!(session.decide(Right::Clip, "", demo.now()), Decision::Allowed(..)));
    assert!(matches!(session.decide(Right::People, "", demo.now()), Decision::Allowed(..)));
    assert_eq!(session.decide(Right::AuditRead, "", demo.now()), Decision::Denied);
    let failed = demo.login("demo", &Secret::new(""), "127.0.0.1").unwrap_err();
    assert!(matches!(failed, ConsoleError::LoginFailed), "it has no password");
    drop(demo);
    assert!(matches!(Console::open(dir.path(), clock.clone()), Err(ConsoleError::Conflict(_))));
    let (world, _) = World::with_admin();
    assert!(world.console.demo_token().is_err());
    assert!(Console::open_demo(world.dir.path(), clock).is_err());
}

#[test]
fn groups_places_and_rules_are_checked_and_recorded() {
    let (world, admin) = World::with_admin();
    let by = admin.session.acts(Some(Role::Admin), DESK, world.console.now());
    let group = GroupRow { name: "bac".into(), title_vi: "Bắc".into(), title_en: "North".into() };
    let place = PlaceRow {
        site: "km-17".into(),
        name_vi: "Cổng chợ".into(),
        name_en: "Market gate".into(),
        group: "bac".into(),
        x: Some(0.5),
        y: Some(0.25),
        heading: Some(90.0),
        fov: Some(70.0),
        range: Some(0.1),
    };
    let rule = RetentionRow {
        group: "bac".into(),
        purpose: "clip".into(),
        days: 30,
        ground: "NĐ 356".into(),
    };
    let console = world.console.clone();
    let outcome = console.act(move |store, now| {
        let by = &by;
        assert!(store.set_places(by, now, std::slice::from_ref(&place)).is_err(), "no such group");
        store.set_groups(by, now, std::slice::from_ref(&group))?;
        store.set_places(by, now, std::slice::from_ref(&place))?;
        let off = PlaceRow { x: Some(f64::NAN), ..place.clone() };
        assert!(store.set_places(by, now, &[off]).is_err());
        store.set_retention(by, now, std::slice::from_ref(&rule))?;
        let groundless = RetentionRow { ground: " ".into(), ..rule.clone() };
        assert!(store.set_retention(by, now, &[groundless]).is_err());
        assert!(matches!(store.set_groups(by, now, &[]), Err(ConsoleError::Conflict(_))), "in use");
        assert!(store.set_places(by, now, &[place]).is_err(), "nothing is changed");
        Ok(())
    });
    outcome.unwrap();
    assert_eq!(console.read(|tables| tables.site_groups()).unwrap()["km-17"], "bac");
    let acts = world.acts();
    for act in [Act::GroupChange, Act::PlaceChange, Act::RetentionChange] {
        assert_eq!(acts.iter().filter(|found| *found == act.as_str()).count(), 1, "{acts:?}");
    }
}

#[test]
fn events_are_handled_noted_and_shown() {
    let (world, admin) = World::with_admin();
    let console = &world.console;
    world.user(&admin, "binh", Role::Operator);
    let login = console.login("binh", &password(), DESK).unwrap();
    let by = login.session.acts(Some(Role::Operator), DESK, console.now());
    let site = SiteId::parse("km-17").unwrap();
    let session = login.session.clone();
    let seconds = console.act(move |store, now| {
        let event = (&site, "0001-7");
        store.handle_event(&by, now, event, Some(Verdict::FalseAlarm), Some("con trâu"))?;
        store.add_note(&by, now, event, "xem lại")?;
        assert!(store.add_note(&by, now, event, " ").is_err());
        assert!(store.add_note(&Origin::office(), now, event, "x").is_err());
        store.shown(&session, (&site, "7be1"), &[(0, 5_000_000)])?;
        assert!(store.shown(&session, (&site, "7be1"), &[(0, 1); 65]).is_err());
        store.shown(&session, (&site, "7be1"), &[(5_000_000, 9_000_000), (4, 2)])
    });
    assert_eq!(seconds.unwrap(), 9);
    let handled = console.read(|tables| tables.handled("km-17", "0001-7")).unwrap().unwrap();
    assert_eq!((handled.by.as_str(), handled.verdict.as_str()), ("binh", "false_alarm"));
    let notes = console.read(|tables| tables.notes("km-17", "0001-7")).unwrap();
    assert_eq!(
        notes.iter().map(|note| note.text.as_str()).collect::<Vec<_>>(),
        ["con trâu", "xem lại"]
    );
    let shown = console.read(|tables| tables.shown("km-17", WallTime(0), WallTime(9), 10)).unwrap();
    assert_eq!((shown.len(), shown[0].end), (1, WallTime(9_000_000)));
    assert!(console.verify().unwrap().ok);
}
