//! Output of `taimat office`: tables, JSON and the lines of a running office.
//!
//! What belongs here: printing. What does not: selecting ([`super::office`]).
#![expect(clippy::disallowed_methods, reason = "shell: starts a thread or task")]

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use serde::Serialize;

use crate::escape::{shown, shown_json};
use crate::office::consistency_check::CheckReport;
use crate::office::notice::Notice;

/// Most lines that wait for the terminal; while it is stopped, further ones are counted.
const LINES: usize = 1024;
/// Time for the last lines at the end.
const LAST: Duration = Duration::from_millis(500);

pub(super) fn show<T: Serialize>(
    as_json: bool,
    rows: &[T],
    head: &str,
    line: impl Fn(&T) -> String,
) -> anyhow::Result<ExitCode> {
    if as_json {
        println!("{}", shown_json(&rows)?);
    } else {
        println!("{head}");
        rows.iter().for_each(|row| println!("{}", shown(&line(row))));
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints every difference and a summary; exit code 1 if there is a difference.
pub(super) fn show_check(checked: &CheckReport, as_json: bool) -> anyhow::Result<ExitCode> {
    if as_json {
        println!("{}", shown_json(checked)?);
    } else {
        for difference in &checked.differences {
            let (kind, path, detail) = (difference.kind, &difference.path, &difference.detail);
            println!("{kind:10} {}", shown(&format!("{path}: {detail}")));
        }
        println!(
            "{} files of {} bytes checked, {} of them hashed, {} unfinished: {} difference(s)",
            checked.files,
            checked.bytes,
            checked.hashed,
            checked.parts,
            checked.differences.len()
        );
    }
    Ok(if checked.differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The lines of a running office, written by a thread of their own: a stopped terminal stops nothing else.
pub(super) struct Lines {
    lines: Option<SyncSender<(u64, Notice)>>,
    lost: u64,
    ended: Receiver<()>,
}

impl Lines {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the operating system starts no thread.
    pub(super) fn start() -> std::io::Result<Lines> {
        let (lines, waiting) = sync_channel::<(u64, Notice)>(LINES);
        let (end, ended) = sync_channel(1);
        std::thread::Builder::new().name("lines".into()).spawn(move || {
            for (dropped, notice) in waiting {
                if dropped > 0 {
                    tracing::warn!(dropped, "notices dropped, the terminal accepted none");
                }
                if notice.is_log() {
                    notice.log();
                } else {
                    // The office continues when the reader of its output ends.
                    let _ = writeln!(std::io::stdout(), "{notice}");
                }
            }
            let _ = end.send(());
        })?;
        Ok(Lines { lines: Some(lines), lost: 0, ended })
    }

    /// Prints or logs a notice, or counts it as dropped while the terminal is stopped.
    pub(super) fn report(&mut self, notice: Notice) {
        let Some(lines) = &self.lines else { return };
        if lines.try_send((self.lost, notice)).is_ok() { self.lost = 0 } else { self.lost += 1 }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.lines = None;
        let _ = self.ended.recv_timeout(LAST);
    }
}
