//! Records of the office's commands in the console's audit trail.

use std::path::Path;

use super::office_user::{Opened, open};
use crate::office::console::audit::record::Entry;
use crate::office::console::writer::has_console;

/// Writes the record of a command before it acts. An archive without a console has no trail.
///
/// # Errors
/// The record cannot be written: the command must not act then.
pub(super) fn record(archive: &Path, entry: Entry) -> anyhow::Result<()> {
    if !has_console(archive)? {
        return Ok(());
    }
    let Opened { mut store, by, now } = open(archive)?;
    store.record(&by, now, entry)?;
    Ok(())
}
