//! Every case from the field has a row in docs/camera-quirks.md that names what shows it, and each
//! kind of fault has at least six rows beside its cases.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Rows of a kind beside its cases at least.
const VARIATIONS_MIN: usize = 6;
/// Pairs of quirks at least.
const PAIRS_MIN: usize = 20;

/// The cases of each kind.
const CASES: [(&str, &[&str]); 10] = [
    (
        "A",
        &[
            "nonce_rotates",
            "auth_int",
            "auth_none_header",
            "no_login",
            "sub_unauthorized",
            "unauthorized_once",
        ],
    ),
    (
        "B",
        &[
            "stamps_fast",
            "stamps_frozen",
            "stamps_jump_back_3s",
            "stamps_pairs",
            "stamps_back_1s_each_gop",
        ],
    ),
    ("C", &["rtptime_zero", "audio_runaway", "audio_slow", "audio_slow_1pct"]),
    (
        "D",
        &[
            "transport_spaces_only",
            "session_more_params",
            "content_type_charset",
            "cseq_zero",
            "sdp_h3c",
            "sdp_numbers",
            "setup_no_session",
            "rtp_info_broken",
            "status_no_reason",
            "realm_utf8",
            "length_too_long",
            "redirect_302",
            "session_changes",
        ],
    ),
    ("E", &["ssrc_setup_wrong", "seq_back_mid"]),
    ("F", &["mark_every_packet", "sei_only_units", "sei_after_picture"]),
    ("G", &["keepalive_silent", "gap_twice"]),
    ("H", &["mqtt_message_size_limit", "mqtt_same_site_twice", "mqtt_tls_clock"]),
    ("I", &["url_password_path", "url_password_slash", "config_host_forms", "setup_461"]),
    ("J", &["one_client_slow_close", "udp_reorder"]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The rows of the table under a heading of the document, each in its cells.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(root().join("docs/camera-quirks.md")).unwrap();
    let section = text.split("\n## ").find(|section| section.starts_with(heading));
    let section = section.unwrap_or_else(|| panic!("no heading {heading}"));
    let lines = section.lines().filter(|line| line.starts_with('|')).skip(2);
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect();
    lines.map(cells).collect()
}

/// The text of all sources and tests.
fn sources() -> String {
    let mut all = String::new();
    let mut dirs = vec![root().join("src"), root().join("tests")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                all += &std::fs::read_to_string(&path).unwrap();
            }
        }
    }
    all
}

/// What a row names as `quirk NAME` or `test NAME`.
fn named(cell: &str) -> Vec<(String, String)> {
    let of = |part: &str| {
        let (what, name) = part.trim().split_once(' ').unwrap();
        (what.to_owned(), name.trim_matches('`').to_owned())
    };
    cell.split(',').map(of).collect()
}

#[test]
fn each_case_names_a_quirk_or_test_that_exists() {
    let (cases, quirks, sources) = (rows("Cases"), rows("Quirks"), sources());
    for (kind, names) in CASES {
        for name in names {
            let row = cases.iter().find(|row| row[1] == kind && row[2] == format!("`{name}`"));
            assert!(row.is_some(), "docs/camera-quirks.md lacks the case {name} of kind {kind}");
        }
    }
    for row in &cases {
        for (what, name) in named(&row[4]) {
            let exists = match what.as_str() {
                "quirk" => quirks.iter().any(|quirk| quirk[2] == name),
                "test" => sources.contains(&format!("fn {name}(")),
                other => panic!("{other} {name}: neither quirk nor test"),
            };
            assert!(exists, "{}: {what} {name} does not exist", row[2]);
        }
    }
}

#[test]
fn each_kind_has_six_rows_beside_its_cases() {
    let mut shown: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in rows("Quirks") {
        shown.entry(row[1].clone()).or_default().insert(row[2].clone());
    }
    for row in rows("Cases") {
        let names = named(&row[4]).into_iter().map(|(_, name)| name);
        shown.entry(row[1].clone()).or_default().extend(names);
    }
    for (kind, names) in CASES {
        let count = shown.get(kind).map_or(0, BTreeSet::len);
        let least = names.len() + VARIATIONS_MIN;
        assert!(count >= least, "kind {kind}: {count} rows, {least} are needed");
    }
}

#[test]
fn at_least_twenty_pairs_have_a_row() {
    let pairs = rows("Pairs");
    assert!(pairs.len() >= PAIRS_MIN, "{} pairs", pairs.len());
}
