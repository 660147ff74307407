//! First load of the console: bytes on the wire and time until the page is there.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Instant;

use super::Report;
use super::archive::{self, Shape};
use super::office::{Office, work_dir};
use super::process::free_port;

/// A commune.
const SHAPE: Shape = Shape { sites: 17, events: 2_000, with_files: 100 };
/// Loads with an empty cache; the median counts.
const LOADS: usize = 7;
/// Bytes on the wire, and ms until the page is there.
const BYTES: f64 = 180_000.0;
const TIME: f64 = 1_000.0;

/// One load.
struct Load {
    ms: f64,
    bytes: f64,
    words: String,
}

/// Measures the board and the log-in page.
pub fn measure(report: &mut Report) {
    let dir = work_dir();
    let archive = dir.path().join("archive");
    archive::make(&archive, SHAPE);
    let cookie = archive::people(&archive, SHAPE, 1).remove(0);
    let office = Office::start(&archive, free_port(), &[]);
    for (page, cookie) in [("board", cookie.as_str()), ("log-in", "")] {
        let (by, mut loads) = match in_browser(&office, cookie) {
            Some(loads) => ("chromium", loads),
            None => (
                "the page's requests, without a browser",
                (0..LOADS).map(|_| by_requests(&office, cookie)).collect(),
            ),
        };
        loads.sort_by(|a, b| a.ms.total_cmp(&b.ms));
        let (middle, last) = (&loads[LOADS / 2], &loads[LOADS - 1]);
        let words = format!("{page}, {by}; {}", middle.words);
        report.most("first-load-bytes", middle.bytes / 1e3, BYTES / 1e3, "KB", &words);
        let words =
            format!("{page}, {by}: median of {LOADS}, {:.0} to {:.0} ms", loads[0].ms, last.ms);
        report.most("first-load-time", middle.ms, TIME, "ms", &words);
    }
}

/// `None` without node or a browser.
fn in_browser(office: &Office, cookie: &str) -> Option<Vec<Load>> {
    let script = format!("{}/benches/console/first_load.mjs", env!("CARGO_MANIFEST_DIR"));
    let mut node = Command::new("node");
    node.arg(script).arg(format!("http://127.0.0.1:{}", office.web));
    let out = node.args([cookie, &SHAPE.sites.to_string(), &LOADS.to_string()]).output().ok()?;
    if out.status.code() == Some(77) {
        return None;
    }
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let load = |line: &str| {
        let found: serde_json::Value = serde_json::from_str(line).unwrap();
        let number = |key: &str| found[key].as_f64().unwrap();
        let words = format!(
            "{:.0} requests, beside {:.1} KB of pictures",
            number("requests"),
            number("pictures") / 1e3
        );
        Load { ms: number("ms"), bytes: number("bytes"), words }
    };
    Some(text.lines().map(load).collect())
}

/// The requests of the page one after the other: the page itself, everything that it and its
/// modules name, and the API.
fn by_requests(office: &Office, cookie: &str) -> Load {
    let started = Instant::now();
    let mut client = office.client(cookie);
    let page = if cookie.is_empty() { "/ui/pages/login.js" } else { "/ui/pages/board.js" };
    let mut waiting = vec![
        "/".to_owned(),
        "/ui/i18n/vi.json".to_owned(),
        page.to_owned(),
        "/api/v1/state".to_owned(),
    ];
    if !cookie.is_empty() {
        waiting.extend(["/api/v1/me", "/api/v1/sites"].map(str::to_owned));
    }
    let (mut known, mut bytes): (BTreeSet<String>, usize) = (waiting.iter().cloned().collect(), 0);
    while let Some(path) = waiting.pop() {
        let answer = client.get(&path);
        bytes += answer.bytes;
        for named in names(&path, &answer.text()) {
            if known.insert(named.clone()) {
                waiting.push(named);
            }
        }
    }
    let words = format!("{} requests one after the other", known.len());
    Load { ms: started.elapsed().as_secs_f64() * 1e3, bytes: bytes as f64, words }
}

/// Paths that a page or a module names at its head.
fn names(path: &str, text: &str) -> Vec<String> {
    let base = url::Url::parse(&format!("http://office{path}")).unwrap();
    let quoted = |line: &str, before: &str, end: char| {
        let (_, rest) = line.split_once(before)?;
        Some(base.join(rest.split(end).next()?).unwrap().path().to_owned())
    };
    let is_page = path == "/";
    let named = |line: &str| match is_page {
        true => quoted(line, "href=\"", '"').or_else(|| quoted(line, "src=\"", '"')),
        false
            if line.starts_with("import ")
                || line.starts_with("export ")
                || line.starts_with("} from") =>
        {
            quoted(line, "from '", '\'')
        }
        false => None,
    };
    text.lines().filter_map(named).collect()
}
