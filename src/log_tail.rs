//! The log tail: keeps the last log lines in memory for the office.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use tracing_subscriber::fmt::MakeWriter;

use crate::redact;

/// Largest size of the kept lines, bytes.
const BYTES_MAX: usize = 64 << 10;
/// Largest size of one line, characters; the rest is cut.
const LINE_MAX: usize = 1 << 10;

/// The log tail of this process.
static TAIL: OnceLock<LogTail> = OnceLock::new();

/// Lines, oldest first, each with its line feed, in one buffer that never moves. A string for each
/// line would fragment the heap.
#[derive(Debug)]
struct Lines {
    bytes: VecDeque<u8>,
}

impl Default for Lines {
    fn default() -> Lines {
        Lines { bytes: VecDeque::with_capacity(BYTES_MAX) }
    }
}

/// A log writer that keeps the last lines, beside standard error.
#[derive(Debug, Clone, Default)]
pub struct LogTail(Arc<Mutex<Lines>>);

impl LogTail {
    /// The log tail of this process.
    pub fn shared() -> LogTail {
        TAIL.get_or_init(LogTail::default).clone()
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn push(&self, text: &str) {
        let kept = &mut self.lock().bytes;
        for line in text.lines() {
            let line = masked(line);
            while kept.len() + line.len() + 1 > BYTES_MAX {
                let end = kept.iter().position(|byte| *byte == b'\n').unwrap_or(kept.len() - 1);
                kept.drain(..=end);
            }
            kept.extend(line.bytes());
            kept.push_back(b'\n');
        }
    }

    /// The newest lines, oldest first: at most `lines` of them and `bytes` together.
    pub fn last(&self, lines: usize, bytes: usize) -> Vec<String> {
        let mut left = bytes;
        let fits = |line: &&[u8]| {
            let fits = line.len() < left;
            left = left.saturating_sub(line.len() + 1);
            fits
        };
        let mut kept = self.lock();
        let Some(text) = kept.bytes.make_contiguous().strip_suffix(b"\n") else {
            return Vec::new();
        };
        let newest = text.rsplit(|byte| *byte == b'\n').take(lines).take_while(fits);
        let mut last: Vec<String> =
            newest.map(|line| String::from_utf8_lossy(line).into_owned()).collect();
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

/// A line without colours and credentials. taimat logs no secret, but the text of a peer may
/// contain one.
fn masked(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some(at) = rest.find("\u{1b}[") {
        text.push_str(&rest[..at]);
        let code = &rest[at + 2..];
        rest = code.find('m').map_or("", |end| &code[end + 1..]);
    }
    text.push_str(rest);
    redact::masked(&text).chars().take(LINE_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_contain_no_credentials_and_no_colours() {
        for (line, shown) in [
            (
                "camera: rtsp://admin:hunter2@10.0.0.2/main went",
                "camera: rtsp://***@10.0.0.2/main went",
            ),
            ("password=hunter2 ok", "password=*** ok"),
            ("the password: hunter2 is wrong", "the password: *** is wrong"),
            ("\u{1b}[31mERROR\u{1b}[0m no broker at http://a/b", "ERROR no broker at http://a/b"),
        ] {
            assert_eq!(masked(line), shown);
        }
    }

    #[test]
    fn the_tail_keeps_the_newest_lines_within_its_bounds() {
        let tail = LogTail::default();
        (0..5_000).for_each(|n| tail.push(&format!("line {n} {}\n", "x".repeat(50))));
        assert!(tail.lock().bytes.len() <= BYTES_MAX);
        let last = tail.last(3, 10_000);
        assert_eq!((last.len(), last[2].starts_with("line 4999 ")), (3, true));
        assert_eq!(tail.last(100, 130).len(), 2);
        tail.push(&"y".repeat(100_000));
        assert_eq!(tail.last(1, 100_000)[0].len(), LINE_MAX);
    }

    #[test]
    fn short_and_empty_lines_count_towards_the_bound() {
        let tail = LogTail::default();
        (0..2 * BYTES_MAX).for_each(|_| tail.push("\n"));
        assert!(tail.last(usize::MAX, usize::MAX).len() <= BYTES_MAX);
        (0..BYTES_MAX).for_each(|_| tail.push("x\n"));
        assert_eq!(tail.last(usize::MAX, usize::MAX).len(), BYTES_MAX / 2);
        assert!(tail.lock().bytes.capacity() <= BYTES_MAX, "the buffer has grown");
    }
}
