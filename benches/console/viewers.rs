//! People who look at the console: each has a stream of events and a connection of its own, and
//! asks in turn for the board, events, a filter, a picture and parts of a clip.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::archive::{self, CLIP, RULES, Shape};
use super::http::Client;
use taimat::units::Digest;

/// People at once.
pub const VIEWERS: usize = 50;
/// Bytes of one range of a clip: a second of a camera's main stream.
const RANGE: usize = 256 << 10;
/// Steps of a round; one person looks at another event in each.
const STEPS: u64 = 8;

/// What all viewers together did.
#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    failed: AtomicU64,
    bytes: AtomicU64,
    streamed: AtomicU64,
    /// Microseconds of the slowest answer.
    slowest: AtomicU64,
}

/// Running viewers.
pub struct Viewers {
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    threads: Vec<JoinHandle<()>>,
    started: Instant,
}

/// Description of what the viewers did, and whether every request was answered.
pub struct Looked {
    pub words: String,
    pub is_whole: bool,
}

impl Viewers {
    /// Starts one viewer for each cookie, who asks once in `pause`.
    pub fn start(web: u16, cookies: &[String], shape: Shape, pause: Duration) -> Viewers {
        let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(Counts::default()));
        let mut threads = Vec::new();
        for (number, cookie) in cookies.iter().enumerate() {
            let from = Ipv4Addr::new(127, 0, 1, 1 + number as u8);
            let stream = Client::open(web, cookie, from).unwrap();
            let (until, seen) = (stop.clone(), counts.clone());
            threads.push(std::thread::spawn(move || {
                let ended = stream.stream(|bytes| {
                    seen.streamed.fetch_add(bytes.len() as u64, Relaxed);
                    !until.load(Relaxed)
                });
                if ended.is_err() || !until.load(Relaxed) {
                    seen.failed.fetch_add(1, Relaxed);
                }
            }));
            let client = Client::open(web, cookie, from).unwrap();
            let (until, seen) = (stop.clone(), counts.clone());
            let delay = pause * number as u32 / cookies.len() as u32;
            threads.push(std::thread::spawn(move || {
                std::thread::sleep(delay);
                look(client, number as u64, shape, pause, &until, &seen);
            }));
        }
        Viewers { stop, counts, threads, started: Instant::now() }
    }

    /// Ends all of them. A stream ends with its next bytes, 10 s later at most.
    pub fn end(self) -> Looked {
        let seconds = self.started.elapsed().as_secs_f64();
        let Counts { requests, failed, bytes, streamed, slowest } = &*self.counts;
        let number = |of: &AtomicU64| of.load(Relaxed) as f64;
        let words = format!(
            "{:.0} requests/s, {:.1} MB/s of answers, {:.0} KB/s of events, slowest {:.0} ms, {} failed",
            number(requests) / seconds,
            number(bytes) / seconds / 1e6,
            number(streamed) / seconds / 1e3,
            number(slowest) / 1e3,
            failed.load(Relaxed)
        );
        let is_whole = failed.load(Relaxed) == 0;
        self.stop.store(true, Relaxed);
        for thread in self.threads {
            let _ = thread.join();
        }
        Looked { words, is_whole }
    }
}

/// What a person asks for in a step: the path, and a range.
fn question(viewer: u64, step: u64, shape: Shape) -> (String, String) {
    // Each round another event, so that each is a record in the audit trail.
    let newest = shape.events - 1 - (viewer * 131 + step / STEPS * 7) % shape.with_files;
    let site = archive::site(newest % shape.sites);
    let file = |purpose: &str| {
        let digest = Digest::of(format!("{}{purpose}", archive::event(newest)).as_bytes()).hex();
        format!("/api/v1/files/{site}/{}", &digest[..32])
    };
    let none = String::new();
    match step % STEPS {
        0 => ("/api/v1/sites".to_owned(), none),
        1 => ("/api/v1/motion-events?limit=100".to_owned(), none),
        2 => {
            let rule = RULES[viewer as usize % RULES.len()];
            (format!("/api/v1/motion-events?limit=100&site={site}&rule={rule}"), none)
        }
        3 => (file("snapshot"), none),
        part => {
            let first = (part as usize - 4) * RANGE;
            let last = (first + RANGE).min(CLIP) - 1;
            (file("clip"), format!("range: bytes={first}-{last}\r\n"))
        }
    }
}

fn look(
    mut client: Client,
    viewer: u64,
    shape: Shape,
    pause: Duration,
    until: &AtomicBool,
    seen: &Counts,
) {
    let mut due = Instant::now();
    // Not all begin with the board.
    for step in viewer.. {
        if until.load(Relaxed) {
            return;
        }
        let (path, range) = question(viewer, step, shape);
        let asked = Instant::now();
        match client.get_with(&path, &range) {
            Ok(answer) => {
                let wanted = if range.is_empty() { 200 } else { 206 };
                if answer.status != wanted {
                    eprintln!("{path}: {} {}", answer.status, answer.text());
                    seen.failed.fetch_add(1, Relaxed);
                }
                seen.bytes.fetch_add(answer.bytes as u64, Relaxed);
            }
            Err(error) => {
                eprintln!("{path}: {error}");
                seen.failed.fetch_add(1, Relaxed);
                return;
            }
        }
        seen.requests.fetch_add(1, Relaxed);
        seen.slowest.fetch_max(asked.elapsed().as_micros() as u64, Relaxed);
        due += pause;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}
