//! Records of the office's commands in the console's audit trail.

use std::path::Path;

use super::office_user::ensure_owner;
use crate::clock::{Clock as _, SystemClock};
use crate::office::console::audit::record::{Entry, Origin};
use crate::office::console::writer::{Store, console_dir, has_console};

/// Writes the record of a command before it acts. An archive without a console has no trail.
///
/// # Errors
/// The record cannot be written: the command must not act then.
pub(super) fn record(archive: &Path, entry: Entry) -> anyhow::Result<()> {
    if !has_console(archive)? {
        return Ok(());
    }
    ensure_owner(archive)?;
    let by = Origin::command_line(rustix::process::getuid().as_raw());
    Store::open(&console_dir(archive))?.record(&by, SystemClock::new().now().wall, entry)?;
    Ok(())
}
