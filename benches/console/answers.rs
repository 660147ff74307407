//! Answers of the HTTP API over a large archive.

use std::time::Instant;

use super::Report;
use super::archive::{self, DAY, RULES, Shape};
use super::http::Client;
use super::office::{Office, work_dir};
use super::process::free_port;
use taimat::units::WallTime;

/// The archive.
const SITES: u64 = 200;
const EVENTS: u64 = 1_000_000;
const WITH_FILES: u64 = 5_000;
/// Measured requests of each kind, after some that warm the caches.
const REQUESTS: u64 = 60;
const WARM_UP: u64 = 10;
/// Budgets of the 95th percentile, ms.
const NEWEST: f64 = 20.0;
const FILTER: f64 = 50.0;
const ROWS: f64 = 150.0;
const BOARD: f64 = 100.0;

/// Median and 95th percentile of the times of [`REQUESTS`] calls, ms; what a call returns is its
/// number of bytes.
fn times(mut ask: impl FnMut(u64) -> usize) -> (f64, f64, usize) {
    let mut bytes = (0..WARM_UP).map(&mut ask).max().unwrap_or_default();
    let one = |turn| {
        let started = Instant::now();
        bytes = ask(WARM_UP + turn);
        started.elapsed().as_secs_f64() * 1e3
    };
    let mut times: Vec<f64> = (0..REQUESTS).map(one).collect();
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times[((times.len() as f64 * part).ceil() as usize).max(1) - 1];
    (at(0.5), at(0.95), bytes)
}

/// `next` of a page, if more follows. It is the last member; parsing the rest would be the client's
/// time.
fn next_of(text: &str) -> Option<String> {
    let (_, last) = text.rsplit_once("\"next\":\"")?;
    last.split('"').next().map(str::to_owned)
}

struct Asked<'a> {
    report: &'a mut Report,
    client: Client,
}

impl Asked<'_> {
    fn judge(&mut self, name: &str, budget: f64, what: &str, path: impl Fn(u64) -> String) {
        let client = &mut self.client;
        let (p50, p95, bytes) = times(|turn| client.get(&path(turn)).bytes);
        let words = format!("p95; p50 {p50:.1} ms, {bytes} bytes: {what}");
        self.report.most(name, p95, budget, "ms", &words);
    }

    /// Prints the time to search all events for a text that none has.
    fn whole_search(&mut self) {
        let started = Instant::now();
        let (mut next, mut requests) = (String::new(), 0);
        loop {
            let path = format!("/api/v1/motion-events?limit=100&q=zz&before={next}");
            let text = self.client.get(&path).text();
            requests += 1;
            let Some(last) = next_of(&text) else { break };
            next = last;
        }
        let took = started.elapsed().as_secs_f64();
        println!(
            "       text                   {took:.1} s: all events searched in {requests} requests"
        );
    }

    /// 10,000 rows in pages of `page`; `None` as budget only prints.
    fn rows(&mut self, page: u64, budget: Option<f64>) {
        let client = &mut self.client;
        let (p50, p95, bytes) = times(|_| {
            let (mut next, mut rows, mut bytes) = (String::new(), 0, 0);
            while rows < 10_000 {
                let path = format!("/api/v1/motion-events?limit={page}&before={next}");
                let answer = client.get(&path);
                bytes += answer.bytes;
                next = next_of(&answer.text()).unwrap();
                rows += page;
            }
            bytes
        });
        let words = format!("p95; p50 {p50:.1} ms, {bytes} bytes: 10,000 rows in pages of {page}");
        match budget {
            Some(budget) => self.report.most("rows", p95, budget, "ms", &words),
            None => println!(
                "       rows                   {p95:.1} ms                           {words}"
            ),
        }
    }
}

/// Measures the wanted ones of `newest`, `filter`, `text`, `rows`, `board`.
pub fn measure(report: &mut Report, is_wanted: &impl Fn(&str) -> bool) {
    if !["newest", "filter", "text", "rows", "board"].iter().any(|name| is_wanted(name)) {
        return;
    }
    let dir = work_dir();
    let archive = dir.path().join("archive");
    let events = std::env::var("TAIMAT_BENCH_EVENTS").map_or(EVENTS, |text| text.parse().unwrap());
    let shape = Shape { sites: SITES, events, with_files: WITH_FILES.min(events) };
    let now = archive::make(&archive, shape);
    let cookie = archive::people(&archive, shape, 1).remove(0);
    // No broker is there: the office tries again, and the console works.
    let office = Office::start(&archive, free_port(), &[]);
    let mut asked = Asked { report, client: office.client(&cookie) };
    if is_wanted("newest") {
        asked.judge("newest", NEWEST, "newest 100 events", |_| {
            "/api/v1/motion-events?limit=100".to_owned()
        });
    }
    if is_wanted("filter") {
        filters(&mut asked, shape, now);
    }
    if is_wanted("text") {
        let text = |q: String| format!("/api/v1/motion-events?limit=100&q={q}");
        asked.judge("text", FILTER, "100 events by a text that many have", |_| {
            text("market".into())
        });
        asked.judge("text", FILTER, "by a site in the text field", |turn| {
            text(archive::site(turn % SITES))
        });
        asked.judge("text", FILTER, "by the id of one old event", |turn| {
            text(archive::event(1_000 + turn))
        });
        asked
            .judge("text", FILTER, "by a text that no event has", |turn| text(format!("zz{turn}")));
        asked.whole_search();
    }
    if is_wanted("rows") {
        asked.rows(1_000, Some(ROWS));
        asked.rows(100, None);
    }
    if is_wanted("board") {
        asked.judge("board", BOARD, "board of 200 sites", |_| "/api/v1/sites".to_owned());
    }
    println!("       the office used {:.0} MiB at the end", office.rss());
}

fn filters(asked: &mut Asked<'_>, shape: Shape, now: WallTime) {
    let list = "/api/v1/motion-events?limit=100";
    let site = |turn: u64| archive::site(turn * 37 % shape.sites);
    let rule = |turn: u64| RULES[turn as usize % RULES.len()];
    let times = |turn: u64, days: i64| {
        let to = now.plus_micros(-((turn % 12) as i64) * DAY);
        format!("from={}&to={}", to.plus_micros(-days * DAY).rfc3339(), to.rfc3339())
    };
    asked.judge("filter", FILTER, "site, rule and five days", |turn| {
        format!("{list}&site={}&rule={}&{}", site(turn), rule(turn), times(turn, 5))
    });
    asked.judge("filter", FILTER, "rule and an old day", |turn| {
        format!("{list}&rule={}&{}", rule(turn), times(turn + 7, 1))
    });
    asked.judge("filter", FILTER, "site and zone", |turn| {
        format!("{list}&site={}&zone=bridge", site(turn))
    });
    asked.judge("filter", FILTER, "a zone that no event has, one day", |turn| {
        format!("{list}&zone=none&{}", times(turn, 1))
    });
    asked.judge("filter", FILTER, "a rule that no event has", |turn| {
        format!("{list}&rule=none-{turn}")
    });
    asked.judge("filter", FILTER, "handled, of which there are none", |_| {
        format!("{list}&handled=yes")
    });
}
