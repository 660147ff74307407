//! ⇄ Settings from a file.
//!
//! What belongs here: reading it and the files it names. What does not: what keys mean ([`super::parse`]).

use std::path::{Path, PathBuf};

use super::Settings;
use super::parse::{self, Parsed, Problem, Problems};

/// Bytes of a configuration or of a file it names at most.
const FILE_MAX: u64 = 1 << 20;

/// Loads the settings in `path`.
///
/// # Errors
/// Every bad key, or why the file cannot be read.
pub fn load(path: &Path) -> Result<Settings, Problems> {
    let text = read(path).map_err(|reason| Problems(vec![Problem { key: path.display().to_string(), reason }]))?;
    parse::parse(&text, &read)
}

/// The parts of the settings in `path` that can be read, and every bad key.
pub fn parts(path: &Path) -> Parsed {
    match read(path) {
        Ok(text) => parse::parts(&text, &read),
        Err(reason) => Parsed { problems: vec![Problem { key: path.display().to_string(), reason }], ..Parsed::default() },
    }
}

/// Reads a file that settings name, which may be a credential.
///
/// # Errors
/// Why it cannot be read.
pub fn read(path: &Path) -> Result<String, String> {
    let path = &resolve(path)?;
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > FILE_MAX {
        return Err(format!("{size} bytes; at most {FILE_MAX}"));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

/// Where a file that settings name lies: `credential:NAME` is what the service manager hands over (systemd.exec(5), `LoadCredential=`),
/// anything else is a path.
///
/// # Errors
/// When there are no credentials, or the name is none.
pub fn resolve(path: &Path) -> Result<PathBuf, String> {
    let handed = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    locate(path, handed.as_deref())
}

fn locate(path: &Path, handed: Option<&Path>) -> Result<PathBuf, String> {
    let Some(name) = path.to_str().and_then(|text| text.strip_prefix("credential:")) else {
        return Ok(path.to_owned());
    };
    if name.is_empty() || name.starts_with('.') || name.contains('/') {
        return Err("a credential is named credential:NAME, without a path".into());
    }
    let dir = handed.ok_or_else(|| {
        format!("$CREDENTIALS_DIRECTORY is not set: start taimat by systemd with LoadCredential={name}:FILE, or name a file here")
    })?;
    Ok(dir.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_found_where_the_service_manager_puts_it() {
        let dir = Path::new("/run/credentials/taimat.service");
        assert_eq!(locate(Path::new("credential:camera"), Some(dir)), Ok(dir.join("camera")));
        assert_eq!(locate(Path::new("/etc/taimat/camera.login"), None), Ok("/etc/taimat/camera.login".into()));
        let error = locate(Path::new("credential:camera"), None).unwrap_err();
        assert!(error.contains("LoadCredential=camera:"), "{error}");
        for name in ["credential:", "credential:../shadow", "credential:a/b"] {
            assert!(locate(Path::new(name), Some(dir)).is_err(), "{name}");
        }
    }
}
