//! The web console under load: first load, answers over a large archive, and what people who look
//! cost the office; each figure with its budget.
//!
//! * `first-load`: bytes on the wire and time until the board shows its sites, in a real browser;
//!   without one, the requests that the page makes.
//! * `newest`, `filter`, `text`, `rows`, `board`: answers of the HTTP API to a logged-in session, over
//!   1,000,000 motion events of 200 sites. The budget is for the 95th percentile.
//! * `receipts`: receipts a second with 50 people who look, as a part of those without: median of
//!   five pairs, whose halves take turns.
//! * `memory`: resident memory of the office with 50 people more than without.
//! * `binary`: growth of the office's binary by the console (`benches/console/binary_size.sh`, which
//!   builds both).
//! * `soak`: growth of resident memory an hour, with sites that send and ten people;
//!   `TAIMAT_SOAK_MINUTES` long, 6 without it. Only when named.
//!
//! Run: `cargo bench --bench console`, or `-- newest receipts` for some. Exit code 1 when a budget is
//! missed. `TAIMAT_BENCH_EVENTS` is the number of events; budgets are for the default.
#![expect(clippy::unwrap_used, reason = "a bench that cannot measure stops")]

mod answers;
mod archive;
mod first_load;
#[path = "../shared/fleet.rs"]
mod fleet;
mod http;
mod load;
mod office;
#[path = "../../tests/common/process.rs"]
mod process;
#[path = "../memory/series.rs"]
mod series;
mod viewers;

use std::process::{Command, ExitCode};

use process::{Running, free_port, wait_for};

/// Growth of the office's binary at most, bytes.
const BINARY: f64 = 6_000_000.0;

/// All figures, and those that are measured only when they are named.
const FIGURES: [&str; 9] =
    ["first-load", "newest", "filter", "text", "rows", "board", "receipts", "memory", "binary"];
const NAMED_ONLY: [&str; 1] = ["soak"];

/// Prints figures beside their budgets and remembers whether all were kept.
pub struct Report {
    missed: Vec<String>,
}

impl Report {
    /// A figure that must not exceed its budget.
    pub fn most(&mut self, name: &str, measured: f64, budget: f64, unit: &str, words: &str) {
        self.judge(
            name,
            measured <= budget,
            format!("{measured:.1} {unit} (budget {budget:.0})"),
            words,
        );
    }

    /// A figure that must reach its budget.
    pub fn least(&mut self, name: &str, measured: f64, budget: f64, unit: &str, words: &str) {
        self.judge(
            name,
            measured >= budget,
            format!("{measured:.1} {unit} (at least {budget:.0})"),
            words,
        );
    }

    /// Something that must hold.
    pub fn must(&mut self, name: &str, holds: bool, words: &str) {
        self.judge(name, holds, String::new(), words);
    }

    fn judge(&mut self, name: &str, is_kept: bool, figure: String, words: &str) {
        let mark = if is_kept { "kept  " } else { "MISSED" };
        println!("{mark} {name:<22} {figure:<34} {words}");
        if !is_kept {
            self.missed.push(name.to_owned());
        }
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let known = |word: &&String| !FIGURES.iter().chain(&NAMED_ONLY).any(|name| name == word);
    if let Some(other) = words.iter().find(known) {
        eprintln!("{other:?} is not one of {}, {}", FIGURES.join(", "), NAMED_ONLY.join(", "));
        return ExitCode::from(2);
    }
    let is_wanted = |name: &str| {
        words.iter().any(|word| word == name) || words.is_empty() && !NAMED_ONLY.contains(&name)
    };
    let mut report = Report { missed: Vec::new() };
    if is_wanted("first-load") {
        first_load::measure(&mut report);
    }
    answers::measure(&mut report, &is_wanted);
    if is_wanted("receipts") {
        load::receipts(&mut report);
    }
    if is_wanted("memory") {
        load::memory(&mut report);
    }
    if is_wanted("binary") {
        binary(&mut report);
    }
    if is_wanted("soak") {
        load::soak(&mut report);
    }
    if report.missed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("budgets missed: {}", report.missed.join(", "));
    ExitCode::FAILURE
}

/// Growth of the stripped binary of the office by the console.
fn binary(report: &mut Report) {
    let script = format!("{}/benches/console/binary_size.sh", env!("CARGO_MANIFEST_DIR"));
    let out = Command::new(script).stderr(std::process::Stdio::inherit()).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).trim().to_owned();
    if out.status.code() == Some(77) {
        return println!("{text}");
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    let ["before", before, "now", now] = fields[..] else { panic!("binary_size.sh: {text}") };
    let (before, now): (f64, f64) = (before.parse().unwrap(), now.parse().unwrap());
    let words = format!("{before:.0} bytes before the console, {now:.0} now");
    report.most("binary", (now - before) / 1e6, BINARY / 1e6, "MB", &words);
}
