//! `taimat office lock`.

use std::path::Path;
use std::process::ExitCode;

use super::office_filter::{ensure_known, span};
use super::office_print::show;
use super::{Usage, office_trail};
use crate::clock::{Clock as _, SystemClock};
use crate::escape::shown;
use crate::office::archive::Archive;
use crate::office::archive_lock::claim;
use crate::office::console::audit::record::{Act, Entry};
use crate::office::console::tables::Tables;
use crate::office::console::writer::{console_dir, has_console};
use crate::office::error::ArchiveError;
use crate::office::operator_socket::{self, OperatorRequest};
use crate::units::SiteId;

/// Locks files of a site, or ends the lock `end`; then shows all locks. The record comes first.
///
/// # Errors
/// The archive cannot be read, the record cannot be written, or the lock is refused.
pub(super) fn lock(
    dir: &Path,
    (site, reason): (Option<String>, Option<String>),
    (from, to): (&str, &str),
    end: Option<i64>,
) -> anyhow::Result<ExitCode> {
    let mut archive = Archive::open_read_only(dir)?;
    let reason = reason.unwrap_or_default();
    if let Some(site) = site {
        let (from, to) = span(from, to)?;
        ensure_known(&archive, &site)?;
        let id = SiteId::parse(&site).map_err(Usage)?;
        office_trail::record(dir, Entry::of(Act::Lock).site(&id).range(from, to).reason(&reason))?;
        let (from, to) = (from.rfc3339(), to.rfc3339());
        change_locks(dir, &mut archive, &OperatorRequest::Lock { site, from, to, reason })?;
    } else if let Some(id) = end {
        record_end(dir, &archive, id, reason.trim())?;
        change_locks(dir, &mut archive, &OperatorRequest::Unlock { id })?;
    }
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

/// Records that a lock ends. An operator made it in the console: it does not end without a reason.
fn record_end(dir: &Path, archive: &Archive, id: i64, reason: &str) -> anyhow::Result<()> {
    let locks = archive.locks()?;
    let lock = locks.iter().find(|lock| lock.id == id);
    let lock = lock.ok_or_else(|| anyhow::anyhow!("there is no lock {id}"))?;
    if !has_console(dir)? {
        return Ok(());
    }
    let notes = Tables::open_read_only(&console_dir(dir))?.lock_notes()?;
    let note = notes.iter().find(|note| note.id == id && note.site == lock.site);
    if let Some(note) = note.filter(|_| reason.is_empty()) {
        let by = shown(&note.by);
        return Err(Usage(format!(
            "{by} made lock {id} in the console: say with --reason why it ends"
        ))
        .into());
    }
    let mut entry = Entry::of(Act::Unlock).object("lock").object(id.to_string());
    entry.site = SiteId::parse(&lock.site).ok();
    entry.reason = Some(reason.to_owned()).filter(|reason| !reason.is_empty());
    office_trail::record(dir, entry)
}

/// The archive thread alone writes locks: the running office makes and ends them. Without one this
/// process is the only writer, and keeps offices out meanwhile.
fn change_locks(
    dir: &Path,
    archive: &mut Archive,
    request: &OperatorRequest,
) -> anyhow::Result<()> {
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

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::office::console::people::rights::{ALL_SITES, Grant, Role};
    use crate::office::console::tables::rows::LockNote;
    use crate::office::console::writer::Store;
    use crate::units::{Digest, WallTime};

    fn taimat(args: &[&str]) -> anyhow::Result<ExitCode> {
        let args = std::iter::once("taimat").chain(args.iter().copied());
        crate::cli::run(crate::cli::Cli::try_parse_from(args)?)
    }

    #[test]
    fn a_lock_of_the_console_ends_with_a_reason_and_a_record() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().to_str().unwrap();
        let range = ("2026-11-24T02:00:00Z", "2026-11-24T03:00:00Z");
        let mut archive = Archive::open(dir.path()).unwrap();
        archive.lock("km-17", range, "case 12", range.0).unwrap();
        drop(archive);
        let end = ["office", "lock", "--dir", at, "--end", "1"];
        let mut store = Store::open(&console_dir(dir.path())).unwrap();
        let grants = [Grant { group: ALL_SITES.to_owned(), role: Role::Admin, until: None }];
        let by = crate::office::console::audit::record::Origin::command_line(0);
        let user = ("op", "vi");
        store.add_user(&by, WallTime(0), user, &grants, &Digest::of(b"x")).unwrap();
        let id = store.tables().users().unwrap()[0].id;
        let note = LockNote {
            id: 1,
            site: "km-17".into(),
            title: "case 12".into(),
            case: String::new(),
            review: None,
            by: String::new(),
            at: WallTime(0),
        };
        store.tables().set_lock_note(&note, id).unwrap();
        assert_eq!(taimat(&end).unwrap(), ExitCode::from(2), "refused: it needs --reason");
        taimat(&[&end[..], &["--reason", "wrong range"]].concat()).unwrap();
        let records = store.tables().audit_after(0, 9).unwrap();
        let last = records.last().unwrap();
        assert_eq!((last.act.as_str(), last.site.as_str()), ("unlock", "km-17"));
        assert!(last.who.starts_with("command_line"), "{}", last.who);
        assert_eq!(last.reason.as_deref(), Some("wrong range"));
        assert!(Archive::open_read_only(dir.path()).unwrap().locks().unwrap().is_empty());
    }
}
