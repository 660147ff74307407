//! ⇄ The tail of the log: the last lines, kept in memory so that the office may look at them without a way into the device.
//!
//! What belongs here: keeping lines. What does not: what is masked ([`crate::redact`]), who may ask for them (the agent's commands).

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use tracing_subscriber::fmt::MakeWriter;

use crate::redact;

/// Bytes kept at most.
const KEPT: usize = 64 << 10;
/// Bytes of one line at most; the rest of it is cut.
const LINE: usize = 1 << 10;

/// The lines of this process.
static TAIL: OnceLock<LogTail> = OnceLock::new();

/// Lines, oldest first, each with its end, in one place that is never moved: a string for each would lie between everything that
/// comes and goes, and keep it from being given back.
#[derive(Debug)]
struct Lines(VecDeque<u8>);

impl Default for Lines {
    fn default() -> Lines {
        Lines(VecDeque::with_capacity(KEPT))
    }
}

/// Where log lines go beside standard error.
#[derive(Debug, Clone, Default)]
pub struct LogTail(Arc<Mutex<Lines>>);

impl LogTail {
    /// The tail of this process.
    pub fn shared() -> LogTail {
        TAIL.get_or_init(LogTail::default).clone()
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn push(&self, text: &str) {
        let kept = &mut self.lock().0;
        for line in text.lines() {
            let line = masked(line);
            while kept.len() + line.len() + 1 > KEPT {
                let end = kept.iter().position(|byte| *byte == b'\n').unwrap_or(kept.len() - 1);
                kept.drain(..=end);
            }
            kept.extend(line.bytes());
            kept.push_back(b'\n');
        }
    }

    /// The newest lines, oldest first: at most so many, and so many bytes together.
    pub fn last(&self, lines: usize, bytes: usize) -> Vec<String> {
        let mut left = bytes;
        let fits = |line: &&[u8]| {
            let fits = line.len() < left;
            left = left.saturating_sub(line.len() + 1);
            fits
        };
        let mut kept = self.lock();
        let Some(text) = kept.0.make_contiguous().strip_suffix(b"\n") else {
            return Vec::new();
        };
        let newest = text.rsplit(|byte| *byte == b'\n').take(lines).take_while(fits);
        let mut last: Vec<String> = newest.map(|line| String::from_utf8_lossy(line).into_owned()).collect();
        last.reverse();
        last
    }
}

impl io::Write for LogTail {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogTail {
    type Writer = LogTail;

    fn make_writer(&'a self) -> LogTail {
        self.clone()
    }
}

/// A line without colours and without anything that looks like a secret. Nothing here logs one; what a peer says may hold it.
fn masked(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some(at) = rest.find("\u{1b}[") {
        text.push_str(&rest[..at]);
        let code = &rest[at + 2..];
        rest = code.find('m').map_or("", |end| &code[end + 1..]);
    }
    text.push_str(rest);
    redact::masked(&text).chars().take(LINE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_looks_like_a_secret_leaves_the_box() {
        for (line, shown) in [
            ("camera: rtsp://admin:hunter2@10.0.0.2/main went", "camera: rtsp://***@10.0.0.2/main went"),
            ("password=hunter2 ok", "password=*** ok"),
            ("the password: hunter2 is wrong", "the password: *** is wrong"),
            ("\u{1b}[31mERROR\u{1b}[0m no broker at http://a/b", "ERROR no broker at http://a/b"),
        ] {
            assert_eq!(masked(line), shown);
        }
    }

    #[test]
    fn the_tail_is_bounded_in_lines_and_bytes_and_keeps_the_newest() {
        let tail = LogTail::default();
        (0..5_000).for_each(|n| tail.push(&format!("line {n} {}\n", "x".repeat(50))));
        assert!(tail.lock().0.len() <= KEPT);
        let last = tail.last(3, 10_000);
        assert_eq!((last.len(), last[2].starts_with("line 4999 ")), (3, true));
        assert_eq!(tail.last(100, 130).len(), 2);
        tail.push(&"y".repeat(100_000));
        assert_eq!(tail.last(1, 100_000)[0].len(), LINE);
    }

    #[test]
    fn short_and_empty_lines_count_towards_the_bound_too() {
        let tail = LogTail::default();
        (0..2 * KEPT).for_each(|_| tail.push("\n"));
        assert!(tail.last(usize::MAX, usize::MAX).len() <= KEPT);
        (0..KEPT).for_each(|_| tail.push("x\n"));
        assert_eq!(tail.last(usize::MAX, usize::MAX).len(), KEPT / 2);
        assert!(tail.lock().0.capacity() <= KEPT, "it was moved to a larger place");
    }
}
