//! What people who look at the console cost the office: receipts, memory, growth over time.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Report;
use super::archive::{self, Shape};
use super::fleet::{SENDERS, fleet, open_broker, steady};
use super::office::{Office, copy, work_dir};
use super::process::{Running, has, taimat};
use super::series::{self, Sample, Series};
use super::viewers::{VIEWERS, Viewers};

/// The archive that each measurement begins with.
const SHAPE: Shape = Shape { sites: 40, events: 20_000, with_files: 600 };
/// Receipts with people who look, percent of those without, at least; pairs.
const RECEIPTS: f64 = 95.0;
const PAIRS: usize = 5;
/// Seconds of one half of a pair.
const HALF: f64 = 12.0;
/// A person asks once in this time.
const PAUSE: Duration = Duration::from_secs(2);
/// Memory of the office with people more than without at most, MiB.
const MEMORY: f64 = 96.0;
/// Seconds that memory is looked at without people, and with them.
const WITHOUT: u64 = 20;
const WITH: u64 = 60;
/// Growth of memory at most, MiB an hour; interval of its samples in seconds.
const GROWTH: f64 = 1.0;
const SAMPLE: u64 = 10;
/// People in the soak.
const SOAKERS: usize = 10;

/// A prepared archive and the sessions of its people.
struct Prepared {
    dir: tempfile::TempDir,
    cookies: Vec<String>,
}

impl Prepared {
    /// `None` without a broker.
    fn new(people: usize) -> Option<Prepared> {
        if !has("mosquitto") {
            return None;
        }
        let dir = work_dir();
        let archive = dir.path().join("prepared");
        archive::make(&archive, SHAPE);
        let cookies = archive::people(&archive, SHAPE, people);
        Some(Prepared { dir, cookies })
    }

    /// A broker, its port, and an office over a fresh copy.
    fn start(&self, words: &[&str]) -> (Running, u16, Office) {
        let (broker, port) = open_broker(self.dir.path());
        let copied = copy(&self.dir.path().join("prepared"), self.dir.path().join("archive"));
        let office = Office::start(&copied, port, words);
        (broker, port, office)
    }
}

/// Receipts a second of one half, the CPU seconds of the office, and what the people did.
struct Half {
    rate: f64,
    words: String,
    is_whole: bool,
}

fn half(prepared: &Prepared, messages: u64, is_looked_at: bool) -> Half {
    let (_broker, port, mut office) = prepared.start(&[]);
    let viewers = is_looked_at.then(|| Viewers::start(office.web, &prepared.cookies, SHAPE, PAUSE));
    // The office's connection to the broker, and the first requests of all people.
    std::thread::sleep(Duration::from_secs(3));
    let before = office.cpu();
    let out = fleet(taimat(), port, messages, 0).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "the fleet: {text}");
    let (_, rate) = text.split_once(" s: ").unwrap();
    let rate: f64 = rate.split(' ').next().unwrap().parse().unwrap();
    let cpu = office.cpu() - before;
    let looked = viewers.map(Viewers::end);
    let is_whole = looked.as_ref().is_none_or(|looked| looked.is_whole);
    let looked = looked.map(|looked| looked.words).unwrap_or_default();
    office.process.terminate();
    Half { rate, words: format!("office used {cpu:.1} s of CPU; {looked}"), is_whole }
}

/// Receipts a second with and without people.
pub fn receipts(report: &mut Report) {
    let Some(prepared) = Prepared::new(VIEWERS) else { return };
    // How many messages fill the time; it also warms the disk.
    let tried = half(&prepared, 150, false);
    let messages = ((tried.rate * HALF) as u64 / SENDERS).clamp(100, 100_000);
    println!("       receipts               {messages} messages of each of {SENDERS} sites a half");
    let (mut parts, mut is_whole) = (Vec::new(), true);
    for pair in 0..PAIRS {
        // Neither half is always the first.
        let order = if pair % 2 == 0 { [false, true] } else { [true, false] };
        let mut rates = [0.0; 2];
        for is_looked_at in order {
            let half = half(&prepared, messages, is_looked_at);
            let people = if is_looked_at { VIEWERS } else { 0 };
            println!(
                "       pair {pair}, {people:>2} people: {:>6.0} receipts/s; {}",
                half.rate, half.words
            );
            rates[usize::from(is_looked_at)] = half.rate;
            is_whole &= half.is_whole;
        }
        parts.push(100.0 * rates[1] / rates[0]);
    }
    let words = parts.iter().map(|part| format!("{part:.1}")).collect::<Vec<_>>().join(" ");
    parts.sort_by(f64::total_cmp);
    let words = format!("median of five pairs: {words}");
    report.least("receipts", parts[PAIRS / 2], RECEIPTS, "% of without", &words);
    report.must("receipts-answered", is_whole, "every request of the people was answered");
}

/// Memory of the office with people more than without.
pub fn memory(report: &mut Report) {
    let Some(prepared) = Prepared::new(VIEWERS) else { return };
    let (_broker, port, mut office) = prepared.start(&[]);
    let _fleet = steady(taimat(), port, WITHOUT + WITH, 1);
    let most = |seconds: u64| {
        let until = Instant::now() + Duration::from_secs(seconds);
        let mut most: f64 = 0.0;
        while Instant::now() < until {
            most = most.max(office.rss());
            std::thread::sleep(Duration::from_millis(200));
        }
        most
    };
    let without = most(WITHOUT);
    let viewers = Viewers::start(office.web, &prepared.cookies, SHAPE, PAUSE / 4);
    let with = most(WITH);
    let looked = viewers.end();
    let words =
        format!("{without:.1} MiB without, at most {with:.1} with 50 people; {}", looked.words);
    office.process.terminate();
    report.most("memory", with - without, MEMORY, "MiB", &words);
    report.must("memory-answered", looked.is_whole, "every request of the people was answered");
}

/// Growth of the office over time, with sites that send and people who look.
pub fn soak(report: &mut Report) {
    let Some(prepared) = Prepared::new(SOAKERS) else { return };
    let minutes: u64 = std::env::var("TAIMAT_SOAK_MINUTES").map_or(6, |text| text.parse().unwrap());
    let settle = (minutes / 4).min(15);
    let out: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/console-soak");
    let _ = std::fs::remove_dir_all(&out);
    std::fs::create_dir_all(&out).unwrap();
    let (_broker, port, mut office) = prepared.start(&["--keep-gib", "1"]);
    // A message of each site each second: what is kept for pages is full before the counted time.
    let _fleet = steady(taimat(), port, minutes * 60, 1);
    let viewers = Viewers::start(office.web, &prepared.cookies, SHAPE, PAUSE);
    let mut samples = Series::begin(&out, "console");
    let started = Instant::now();
    for second in (SAMPLE..=minutes * 60).step_by(SAMPLE as usize) {
        let due = started + Duration::from_secs(second);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        assert!(office.process.0.try_wait().unwrap().is_none(), "the office has ended");
        samples.add(Sample::of(second, office.process.0.id()));
    }
    let looked = viewers.end();
    let is_kept = series::report(&out, settle, GROWTH);
    let words = format!("growth of memory in {minutes} minutes; {}", looked.words);
    let code = office.process.terminate();
    // A shorter run shows the first growth of caches: its slope is printed and not judged.
    report.must("soak", is_kept || minutes < 60, &words);
    report.must(
        "soak-answered",
        looked.is_whole && code == Some(0),
        "every request was answered, and the office ended well",
    );
}
