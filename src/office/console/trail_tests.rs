//! Tests of the trail as it is stored: damage is found, and an act without its record does not
//! happen.

use std::path::Path;

use super::audit::chain::Head;
use super::audit::head_file::{HeadFile, NAME as HEAD_NAME};
use super::audit::record::{Act, Actor, Entry, Origin, Outcome};
use super::error::ConsoleError;
use super::people::purpose::PurposeKind;
use super::people::rights::{ALL_SITES, Grant, Role};
use super::tables::rows::{AuditFilter, UserChange};
use super::tables::{NAME, Tables};
use super::writer::{Store, verify_read_only};
use crate::units::{Digest, SiteId, WallTime};

const NOW: WallTime = WallTime(1_795_487_467_412_000);

fn officer() -> Origin {
    Origin {
        who: Actor::User { id: 1, name: "binh".into(), role: Some(Role::Operator) },
        session: "9f0c3a55".into(),
        from: "10.1.4.21".into(),
        purpose: Some((PurposeKind::Case, "2026-0031".into())),
    }
}

fn playback() -> Entry {
    let site = SiteId::parse("km-17").unwrap();
    Entry::of(Act::PlaybackStart).site(&site).range(NOW, NOW).object("file").object("7be1")
}

/// A store with five records of different kinds.
fn filled(dir: &Path) -> Store {
    let mut store = Store::open(dir).unwrap();
    // The tests write thousands of times; what they show does not depend on flushes.
    store.tables().execute("PRAGMA synchronous = OFF").unwrap();
    store.record(&Origin::office(), NOW, Entry::of(Act::ConsoleStart)).unwrap();
    store.record(&Origin::unproven("x\ny", "::1"), NOW, Entry::of(Act::LoginFailed)).unwrap();
    store.record(&officer(), NOW, playback().reason("Va chạm trước chợ")).unwrap();
    store.record(&officer(), NOW, Entry::of(Act::Denied).result(Outcome::Denied)).unwrap();
    store.record(&Origin::command_line(0), NOW, Entry::of(Act::PeopleAdd).object("user")).unwrap();
    assert!(store.verify().unwrap().ok);
    store
}

const DROP_TRIGGERS: &str =
    "DROP TRIGGER audit_stays; DROP TRIGGER audit_remains; DROP TRIGGER audit_follows;
    DROP TRIGGER audit_text_stays; DROP TRIGGER audit_text_remains;";

fn sql_bytes(bytes: &[u8]) -> String {
    format!("X'{}'", crate::units::hex(bytes))
}

/// `sql` without the triggers, which are there again after it.
fn past_triggers(store: &Store, sql: &str) -> String {
    let made = store.tables().trail_triggers().unwrap().into_values().collect::<Vec<_>>();
    format!("{DROP_TRIGGERS} {sql}; {};", made.join("; "))
}

/// Runs `sql` in a transaction past the triggers, verifies, and rolls back.
fn fault_after(store: &Store, sql: &str) -> Option<String> {
    store.tables().execute(&format!("BEGIN; {}", past_triggers(store, sql))).unwrap();
    let report = store.verify().unwrap();
    store.tables().execute("ROLLBACK").unwrap();
    assert_eq!(report.ok, report.fault.is_none());
    report.fault.map(|fault| format!("{}: {}", fault.n, fault.what))
}

#[test]
fn every_flipped_byte_of_a_stored_trail_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    let mut flips = 0;
    for record in store.tables().audit_after(0, 100).unwrap() {
        let n = record.n;
        let mut columns = vec![
            ("audit", "text", record.text.clone().into_bytes(), "TEXT"),
            ("audit", "digest", record.digest.0.to_vec(), "BLOB"),
            ("audit", "who", record.who.into_bytes(), "TEXT"),
            ("audit", "act", record.act.into_bytes(), "TEXT"),
            ("audit", "site", record.site.into_bytes(), "TEXT"),
            ("audit", "object", record.object.into_bytes(), "TEXT"),
        ];
        if let Some(reason) = record.reason {
            columns.push(("audit_text", "text", reason.into_bytes(), "TEXT"));
        }
        for (table, column, bytes, kind) in columns {
            for at in 0..bytes.len() {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << (at % 8);
                let value = sql_bytes(&flipped);
                let sql =
                    format!("UPDATE {table} SET {column} = CAST({value} AS {kind}) WHERE n = {n}");
                assert!(fault_after(&store, &sql).is_some(), "{sql}");
                flips += 1;
            }
        }
        assert!(
            fault_after(&store, &format!("UPDATE audit SET t = t + 1 WHERE n = {n}")).is_some()
        );
    }
    assert!(flips > 1_000, "{flips}");
    assert!(store.verify().unwrap().ok);
}

#[test]
fn removed_exchanged_and_added_records_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    for n in 1..=5 {
        let remove = format!("DELETE FROM audit WHERE n = {n}");
        assert!(fault_after(&store, &remove).is_some(), "{n}");
        // With the numbers of those behind it moved up.
        let close = format!("{remove}; UPDATE audit SET n = n - 1 WHERE n > {n}");
        assert!(fault_after(&store, &close).is_some(), "{n}");
        let cut = format!("DELETE FROM audit WHERE n >= {n}");
        let fault = fault_after(&store, &cut).unwrap();
        assert!(fault.contains("trail ends with record"), "{fault}");
        let double = format!(
            "INSERT INTO audit SELECT 6, text, digest, t, who, act, site, object FROM audit WHERE n = {n}"
        );
        assert!(fault_after(&store, &double).is_some(), "{n}");
    }
    let exchange = "UPDATE audit SET n = 99 WHERE n = 2; UPDATE audit SET n = 2 WHERE n = 4; UPDATE audit SET n = 4 WHERE n = 99";
    assert!(fault_after(&store, exchange).is_some());
    let hidden = "INSERT INTO audit SELECT -1, text, digest, t, who, act, site, object FROM audit WHERE n = 1";
    assert!(fault_after(&store, hidden).is_some());
    assert!(fault_after(&store, "DELETE FROM audit_text").is_some());
    assert!(fault_after(&store, "INSERT INTO audit_text VALUES (4, 'x')").is_some());
    assert!(fault_after(&store, "INSERT INTO audit_text VALUES (77, 'x')").is_some());
    assert!(store.verify().unwrap().ok);
}

#[test]
fn a_trail_that_was_written_again_is_found_by_its_head() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let noted = filled(dir.path()).verify().unwrap().head;
    // The same five acts with one name changed: a sound chain of its own.
    let mut forged = filled(other.path());
    let cut = past_triggers(&forged, "DELETE FROM audit WHERE n = 5");
    forged.tables().execute(&cut).unwrap();
    drop(forged);
    std::fs::remove_file(other.path().join(HEAD_NAME)).unwrap();
    forged = Store::open(other.path()).unwrap();
    forged.record(&Origin::command_line(9), NOW, Entry::of(Act::PeopleAdd)).unwrap();
    drop(forged);
    std::fs::copy(dir.path().join(HEAD_NAME), other.path().join(HEAD_NAME)).unwrap();
    let report = verify_read_only(other.path()).unwrap();
    assert!(!report.ok && report.head != noted, "{report:?}");
    // Both files written again are found by a head that was noted elsewhere, and by nothing else.
    std::fs::remove_file(other.path().join(HEAD_NAME)).unwrap();
    let report = verify_read_only(other.path()).unwrap();
    assert!(!report.ok, "without the head file: {report:?}");
}

#[test]
fn the_database_refuses_to_change_or_delete_records() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    for sql in [
        "UPDATE audit SET act = 'login' WHERE n = 2",
        "DELETE FROM audit WHERE n = 5",
        "DELETE FROM audit",
        "INSERT OR REPLACE INTO audit SELECT * FROM audit WHERE n = 3",
        "INSERT INTO audit SELECT 9, text, digest, t, who, act, site, object FROM audit WHERE n = 3",
        "UPDATE audit_text SET text = 'x'",
        "DELETE FROM audit_text",
    ] {
        let refused = store.tables().execute(sql).unwrap_err().to_string();
        assert!(refused.contains("append-only"), "{sql}: {refused}");
    }
    assert!(store.verify().unwrap().ok);
}

#[test]
fn a_reason_is_blacked_out_by_a_further_record() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = filled(dir.path());
    assert!(store.redact_reason(&officer(), NOW, 2, "none there").is_err());
    assert_eq!(store.redact_reason(&officer(), NOW, 3, "tên người bị hại").unwrap().0, 6);
    let page = store.tables().audit_page(&AuditFilter::default(), 10).unwrap();
    assert_eq!(page[3].reason, None);
    assert_eq!(page[0].reason.as_deref(), Some("tên người bị hại"));
    assert!(store.verify().unwrap().ok);
}

#[test]
fn a_page_of_the_trail_is_filtered() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    let numbers = |filter: AuditFilter| {
        let page = store.tables().audit_page(&filter, 2).unwrap();
        page.iter().map(|record| record.n).collect::<Vec<_>>()
    };
    assert_eq!(numbers(AuditFilter::default()), [5, 4]);
    assert_eq!(numbers(AuditFilter { before: Some(4), ..AuditFilter::default() }), [3, 2]);
    assert_eq!(numbers(AuditFilter { who: "binh".into(), ..AuditFilter::default() }), [4, 3]);
    assert_eq!(numbers(AuditFilter { site: "km-17".into(), ..AuditFilter::default() }), [3]);
    assert_eq!(numbers(AuditFilter { act: "denied".into(), ..AuditFilter::default() }), [4]);
    let later = AuditFilter { from: Some(NOW.plus_micros(1)), ..AuditFilter::default() };
    assert_eq!(numbers(later), [0; 0]);
}

fn add(store: &mut Store, name: &str) -> Result<i64, ConsoleError> {
    let grants = [Grant { group: ALL_SITES.into(), role: Role::Admin, until: None }];
    let token = Digest::of(name.as_bytes());
    store.add_user(&Origin::command_line(0), NOW, (name, "vi"), &grants, &token)
}

/// An act under a fault fails and leaves nothing; after the fault it works.
fn nothing_happens_while(fault: &str, mend: &str) {
    let dir = tempfile::tempdir().unwrap();
    let mut store = filled(dir.path());
    store.tables().execute("PRAGMA busy_timeout = 0").unwrap();
    let before = store.verify().unwrap().head;
    store.tables().execute(fault).unwrap();
    let refused = add(&mut store, "lan").unwrap_err();
    assert!(matches!(refused, ConsoleError::Trail(_) | ConsoleError::Storage(_)), "{refused}");
    assert_eq!(store.tables().user_count().unwrap(), 0, "{fault}");
    assert_eq!(store.verify().unwrap().head, before, "{fault}");
    store.tables().execute(mend).unwrap();
    add(&mut store, "lan").unwrap();
    let after = store.verify().unwrap();
    assert!(after.ok && after.head.n == 7, "{after:?}");
}

#[test]
fn nothing_happens_when_the_record_is_refused() {
    nothing_happens_while(
        "CREATE TRIGGER broken BEFORE INSERT ON audit BEGIN SELECT raise(ABORT, 'no'); END",
        "DROP TRIGGER broken",
    );
}

#[test]
fn nothing_happens_when_the_text_of_a_reason_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = filled(dir.path());
    let trigger =
        "CREATE TRIGGER broken BEFORE INSERT ON audit_text BEGIN SELECT raise(ABORT, 'no'); END";
    store.tables().execute(trigger).unwrap();
    let refused = store.record(&officer(), NOW, playback().reason("x")).unwrap_err();
    assert!(matches!(refused, ConsoleError::Trail(_)), "{refused}");
    assert_eq!(store.verify().unwrap().head.n, 5);
}

#[test]
fn nothing_happens_on_a_read_only_database() {
    nothing_happens_while("PRAGMA query_only = ON", "PRAGMA query_only = OFF");
}

#[test]
fn nothing_happens_on_a_full_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = filled(dir.path());
    store.tables().execute("PRAGMA max_page_count = 1").unwrap();
    let mut last = 5;
    let refused = loop {
        let before = store.tables().user_count().unwrap();
        match add(&mut store, &format!("user{last}")) {
            Ok(_) => last += 2,
            Err(refused) => {
                assert_eq!(store.tables().user_count().unwrap(), before);
                break refused;
            }
        }
    };
    assert!(refused.to_string().contains("full"), "{refused}");
    let report = store.verify().unwrap();
    assert!(report.ok && report.head.n == last && report.notes.is_empty(), "{report:?}");
    store.tables().execute("PRAGMA max_page_count = 100000").unwrap();
    add(&mut store, "lan").unwrap();
    assert!(store.verify().unwrap().ok);
}

#[test]
fn nothing_happens_while_another_program_holds_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = filled(dir.path());
    store.tables().execute("PRAGMA busy_timeout = 0").unwrap();
    let other = Tables::open(dir.path()).unwrap();
    other.begin().unwrap();
    let refused = add(&mut store, "lan").unwrap_err();
    assert!(matches!(refused, ConsoleError::Trail(_)), "{refused}");
    assert_eq!(refused.http_status(), 503);
    other.roll_back();
    add(&mut store, "lan").unwrap();
    assert!(store.verify().unwrap().ok);
}

#[test]
fn nothing_happens_when_the_head_cannot_be_noted() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = filled(dir.path());
    let before = store.verify().unwrap();
    store.take_head_file(HeadFile::open_read_only(dir.path()).unwrap());
    let refused = add(&mut store, "lan").unwrap_err();
    assert!(matches!(refused, ConsoleError::Trail(_)), "{refused}");
    assert_eq!(store.tables().user_count().unwrap(), 0);
    assert_eq!(store.verify().unwrap(), before);
}

#[test]
fn two_programs_write_one_chain() {
    let dir = tempfile::tempdir().unwrap();
    let (mut office, mut command) = (filled(dir.path()), Store::open(dir.path()).unwrap());
    for turn in 0..6 {
        let store = if turn % 2 == 0 { &mut office } else { &mut command };
        store.record(&officer(), NOW, playback()).unwrap();
    }
    let report = verify_read_only(dir.path()).unwrap();
    assert!(report.ok && report.head.n == 11 && report.notes.is_empty(), "{report:?}");
}

#[test]
fn an_act_that_a_power_cut_ended_is_noted() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path()));
    let head = Head { n: 6, digest: Digest::of(b"begun") };
    let before = Store::open(dir.path()).unwrap().tables().audit_head().unwrap();
    HeadFile::open(dir.path()).unwrap().set_pending(before, head).unwrap();
    let report = verify_read_only(dir.path()).unwrap();
    assert!(report.ok && report.notes[0].contains("act 6 was begun"), "{report:?}");
    let mut store = Store::open(dir.path()).unwrap();
    store.record(&officer(), NOW, playback()).unwrap();
    let report = store.verify().unwrap();
    assert!(report.ok && report.head.n == 7, "{report:?}");
    assert!(report.notes[0].contains("record 6: an act before it"), "{report:?}");
    store.record(&officer(), NOW, playback()).unwrap();
    assert_eq!(store.verify().unwrap().head.n, 8, "it is recorded once");
}

#[test]
fn acts_of_many_records_that_fail_leave_the_trail_sound() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = filled(dir.path());
    for records in [2, 1, 3, 4, 2] {
        // The commit fails, as on a full disk: the head is noted before.
        store.tables().execute("CREATE TABLE parent (id INTEGER PRIMARY KEY); CREATE TABLE child (id REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED)").unwrap();
        let failed = store.act_of_many(NOW, |tables| {
            tables.execute("INSERT INTO child VALUES (4711)")?;
            Ok(((), (0..records).map(|_| (officer(), playback())).collect()))
        });
        assert!(failed.is_err());
        store.tables().execute("DROP TABLE child; DROP TABLE parent").unwrap();
        let report = store.verify().unwrap();
        assert!(report.ok && report.notes.is_empty(), "{records}: {report:?}");
    }
    store.record(&officer(), NOW, playback()).unwrap();
    assert_eq!(store.verify().unwrap().head.n, 6);
}

#[test]
fn one_blank_half_of_the_head_file_is_a_fault() {
    for half in 0..2 {
        let dir = tempfile::tempdir().unwrap();
        let mut store = filled(dir.path());
        let path = dir.path().join(HEAD_NAME);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[half * 512..][..512].fill(b' ');
        std::fs::write(&path, bytes).unwrap();
        store.take_head_file(HeadFile::open(dir.path()).unwrap());
        assert!(!store.verify().unwrap().ok, "{half}");
        store.record(&officer(), NOW, playback()).unwrap();
        assert!(!store.verify().unwrap().ok, "{half}: a later act does not hide it");
    }
}

/// Verify finds the lost head file, and still does after the next act.
fn assert_head_missing(dir: &Path) {
    let mut store = Store::open(dir).unwrap();
    assert!(!store.verify().unwrap().ok);
    store.record(&officer(), NOW, playback()).unwrap();
    let fault = store.verify().unwrap().fault.unwrap();
    assert!(fault.what.contains("head_missing"), "{fault:?}");
}

#[test]
fn an_emptied_trail_with_users_is_a_fault() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    store.tables().execute("INSERT INTO users (name, made) VALUES ('an', 1); DROP TRIGGER audit_remains; DROP TRIGGER audit_text_remains; DELETE FROM audit_text; DELETE FROM audit").unwrap();
    drop(store);
    std::fs::remove_file(dir.path().join(HEAD_NAME)).unwrap();
    assert_head_missing(dir.path());
}

#[test]
fn a_trigger_on_another_table_is_a_fault() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    store
        .tables()
        .execute("CREATE TRIGGER zz BEFORE INSERT ON shown BEGIN SELECT raise(ignore); END")
        .unwrap();
    let fault = store.verify().unwrap().fault.unwrap();
    assert!(fault.what.contains("the trigger zz"), "{fault:?}");
}

#[test]
fn acts_after_a_cut_do_not_hide_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = filled(dir.path());
    store.tables().execute("DROP TRIGGER audit_remains; DELETE FROM audit WHERE n > 3").unwrap();
    for _ in 0..4 {
        store.record(&officer(), NOW, playback()).unwrap();
    }
    let report = store.verify().unwrap();
    let fault = report.fault.unwrap();
    assert!(fault.n == 4 && fault.what.contains("removed 5"), "{fault:?}");
    assert_eq!(store.tables().audit_head().unwrap().n, 8, "it is recorded once");
}

#[test]
fn a_lost_head_file_is_found_before_and_after_the_next_act() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path()));
    std::fs::remove_file(dir.path().join(HEAD_NAME)).unwrap();
    assert!(!verify_read_only(dir.path()).unwrap().ok);
    assert_head_missing(dir.path());
}

#[test]
fn the_first_user_is_an_admin() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = filled(dir.path());
    let grants = [Grant { group: ALL_SITES.into(), role: Role::Operator, until: None }];
    let (by, token) = (Origin::command_line(0), Digest::of(b"x"));
    let refused = store.add_user(&by, NOW, ("lan", "vi"), &grants, &token);
    assert!(matches!(refused, Err(ConsoleError::Conflict(_))));
    assert_eq!((store.tables().user_count().unwrap(), store.verify().unwrap().head.n), (0, 5));
}

#[test]
fn an_act_without_a_change_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = filled(dir.path());
    let id = add(&mut store, "lan").unwrap();
    let nothing = store.change_user(&officer(), NOW, id, &UserChange::default());
    assert!(matches!(nothing, Err(ConsoleError::Invalid(_))));
    assert_eq!(store.verify().unwrap().head.n, 7);
}

#[test]
fn the_console_is_readable_by_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let _store = filled(dir.path());
    for name in [NAME, "console.sqlite-wal", HEAD_NAME] {
        let mode = std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_trigger_that_is_gone_or_changed_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    let found = |sql: &str| {
        store.tables().execute(&format!("BEGIN; {sql}")).unwrap();
        let report = store.verify().unwrap();
        store.tables().execute("ROLLBACK").unwrap();
        report.fault.map(|fault| fault.what).unwrap_or_default()
    };
    for name in
        ["audit_stays", "audit_remains", "audit_follows", "audit_text_stays", "audit_text_remains"]
    {
        let fault = found(&format!("DROP TRIGGER {name}"));
        assert!(fault.contains(&format!("{name} is missing")), "{fault}");
    }
    let fault = found(
        "DROP TRIGGER audit_stays; CREATE TRIGGER audit_stays BEFORE UPDATE ON audit BEGIN SELECT 1; END",
    );
    assert!(fault.contains("audit_stays is another one"), "{fault}");
    let fault =
        found("CREATE TRIGGER silent BEFORE INSERT ON audit BEGIN SELECT raise(IGNORE); END");
    assert!(fault.contains("silent is not of this taimat"), "{fault}");
    assert!(store.verify().unwrap().ok);
}

#[test]
fn a_head_file_that_is_empty_or_behind_is_a_fault() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = filled(dir.path());
    let path = dir.path().join(HEAD_NAME);
    let older = std::fs::read(&path).unwrap();
    for bytes in [vec![b' '; 1024], vec![0; 1024], Vec::new(), older[..512].to_vec()] {
        std::fs::write(&path, &bytes).unwrap();
        let report = verify_read_only(dir.path()).unwrap();
        let what = report.fault.map(|fault| fault.what).unwrap_or_default();
        assert!(what.contains("empty or damaged") || what.contains("shorter"), "{what}");
    }
    std::fs::write(&path, &older).unwrap();
    assert!(verify_read_only(dir.path()).unwrap().ok);
    for _ in 0..3 {
        store.record(&officer(), NOW, playback()).unwrap();
    }
    std::fs::write(&path, &older).unwrap();
    let report = verify_read_only(dir.path()).unwrap();
    let what = report.fault.map(|fault| fault.what).unwrap_or_default();
    assert!(what.contains("ends with record 5, the trail with 8"), "{what}");
}
