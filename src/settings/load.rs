//! Settings from a file, with the files and credentials that it names.
#![expect(clippy::disallowed_methods, reason = "shell: reads the environment")]

use std::path::{Path, PathBuf};

use super::Settings;
use super::parse::{self, Parsed, Problem, Problems};
use crate::regular_file::{Links, TEXT_MAX, read_text};

/// Loads the settings from `path`.
///
/// # Errors
/// All bad keys, or the error of reading the file.
pub fn load(path: &Path) -> Result<Settings, Problems> {
    let text = read(path)
        .map_err(|reason| Problems(vec![Problem { key: path.display().to_string(), reason }]))?;
    parse::parse(&text, &read)
}

/// The parts of the settings in `path` that can be read, and every bad key.
pub fn parts(path: &Path) -> Parsed {
    match read(path) {
        Ok(text) => parse::parts(&text, &read),
        Err(reason) => Parsed {
            problems: vec![Problem { key: path.display().to_string(), reason }],
            ..Parsed::default()
        },
    }
}

/// Reads a file that a configuration names: a path or `credential:NAME`.
///
/// # Errors
/// The error of reading the file, or that it is larger than 1 MiB.
pub fn read(path: &Path) -> Result<String, String> {
    read_text(&resolve(path)?, Links::Follow, TEXT_MAX).map_err(|error| error.to_string())
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
    use crate::regular_file::tests::{at_once, no_files};

    #[test]
    fn a_name_in_the_settings_that_is_no_file_fails_at_once() {
        let dir = tempfile::tempdir().unwrap();
        for (path, expected) in no_files(dir.path()) {
            let asked = path.clone();
            let error = at_once(move || read(&asked)).unwrap_err();
            assert!(error.contains(expected), "{}: {error}", path.display());
            let asked = path.clone();
            let error = at_once(move || load(&asked)).unwrap_err().to_string();
            assert!(
                error.contains(expected) && error.contains(&path.display().to_string()),
                "{error}"
            );
        }
    }

    #[test]
    fn a_credential_lies_in_the_directory_of_systemd() {
        let dir = Path::new("/run/credentials/taimat.service");
        assert_eq!(locate(Path::new("credential:camera"), Some(dir)), Ok(dir.join("camera")));
        assert_eq!(
            locate(Path::new("/etc/taimat/camera.login"), None),
            Ok("/etc/taimat/camera.login".into())
        );
        let error = locate(Path::new("credential:camera"), None).unwrap_err();
        assert!(error.contains("LoadCredential=camera:"), "{error}");
        for name in ["credential:", "credential:../shadow", "credential:a/b"] {
            assert!(locate(Path::new(name), Some(dir)).is_err(), "{name}");
        }
    }
}
