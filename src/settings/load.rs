//! ⇄ Settings from a file, with the files and credentials that it names.

use std::path::{Path, PathBuf};

use super::Settings;
use super::parse::{self, Parsed, Problem, Problems};

/// Bytes of a configuration or of a file it names at most.
const FILE_MAX: u64 = 1 << 20;

/// Loads the settings from `path`.
///
/// # Errors
/// All bad keys, or the error of reading the file.
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

/// Reads a file that a configuration names: a path or `credential:NAME`.
///
/// # Errors
/// The error of reading the file, or that it is larger than 1 MiB.
pub fn read(path: &Path) -> Result<String, String> {
    let path = &resolve(path)?;
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > FILE_MAX {
        return Err(format!("has {size} bytes, the maximum is {FILE_MAX}"));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

/// The path of a file that a configuration names. `credential:NAME` is a credential of systemd
/// (systemd.exec(5), `LoadCredential=`); other text is a path.
///
/// # Errors
/// When `$CREDENTIALS_DIRECTORY` is not set, or the name is malformed.
pub fn resolve(path: &Path) -> Result<PathBuf, String> {
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    locate(path, credentials.as_deref())
}

fn locate(path: &Path, credentials: Option<&Path>) -> Result<PathBuf, String> {
    let Some(name) = path.to_str().and_then(|text| text.strip_prefix("credential:")) else {
        return Ok(path.to_owned());
    };
    if name.is_empty() || name.starts_with('.') || name.contains('/') {
        return Err("a credential is named credential:NAME, without a path".into());
    }
    let dir = credentials.ok_or_else(|| {
        format!("$CREDENTIALS_DIRECTORY is not set: start taimat by systemd with LoadCredential={name}:FILE, or name a file here")
    })?;
    Ok(dir.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_lies_in_the_directory_of_systemd() {
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
