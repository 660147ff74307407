//! `taimat office lock`.

use std::path::Path;
use std::process::ExitCode;

use super::office_filter::{ensure_known, span};
use super::office_print::show;
use crate::clock::{Clock as _, SystemClock};
use crate::office::archive::Archive;
use crate::office::archive_lock::claim;
use crate::office::error::ArchiveError;
use crate::office::operator_socket::{self, OperatorRequest};

/// Locks files of a site (`locked`: site and reason), or ends the lock `end`; then shows all locks.
///
/// # Errors
/// The archive cannot be read, or the lock is refused.
pub(super) fn lock(
    dir: &Path,
    locked: Option<(String, String)>,
    (from, to): (&str, &str),
    end: Option<i64>,
) -> anyhow::Result<ExitCode> {
    let archive = Archive::open_read_only(dir)?;
    if let Some((site, reason)) = locked {
        let (from, to) = span(from, to)?;
        ensure_known(&archive, &site)?;
        let (from, to) = (from.rfc3339(), to.rfc3339());
        change_locks(dir, archive, &OperatorRequest::Lock { site, from, to, reason })?;
    } else if let Some(id) = end {
        change_locks(dir, archive, &OperatorRequest::Unlock { id })?;
    }
    let archive = Archive::open_read_only(dir)?;
    show(
        false,
        &archive.locks()?,
        "lock  site            from                      to                        reason",
        |row| {
            format!(
                "{:>4}  {:15} {:24}  {:24}  {}",
                row.id, row.site, row.start, row.end, row.reason
            )
        },
    )
}

/// The archive thread alone writes locks: the running office makes and ends them. Without one this
/// process is the only writer, and keeps offices out meanwhile.
fn change_locks(dir: &Path, mut archive: Archive, request: &OperatorRequest) -> anyhow::Result<()> {
    let _claimed = match claim(dir) {
        Ok(claimed) => claimed,
        Err(ArchiveError::Locked(_)) => return operator_socket::ask(dir, request).map(drop),
        Err(error) => return Err(error.into()),
    };
    match request {
        OperatorRequest::Lock { site, from, to, reason } => {
            let now = SystemClock::new().now().wall.rfc3339();
            archive.lock(site, (from, to), reason, &now)?;
        }
        OperatorRequest::Unlock { id } => {
            anyhow::ensure!(archive.unlock(*id)?, "there is no lock {id}");
        }
    }
    Ok(())
}
