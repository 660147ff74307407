//! ⇄ Settings from a file.
//!
//! What belongs here: reading it and the files it names. What does not: what keys mean ([`super::raw`]).

use std::path::Path;

use super::Settings;
use super::raw::{self, Problem, Problems};

/// Bytes of a configuration or of a file it names at most.
const FILE_MAX: u64 = 1 << 20;

/// Loads the settings in `path`.
///
/// # Errors
/// Every bad key, or why the file cannot be read.
pub fn load(path: &Path) -> Result<Settings, Problems> {
    let text = read(path).map_err(|reason| Problems(vec![Problem { key: path.display().to_string(), reason }]))?;
    raw::parse(&text, &read)
}

fn read(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > FILE_MAX {
        return Err(format!("{size} bytes; at most {FILE_MAX}"));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}
