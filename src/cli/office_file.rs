//! Configuration file of the office's commands, and how flags win over it.
#![expect(clippy::disallowed_methods, reason = "shell: reads or writes files")]

use std::path::{Path, PathBuf};

use super::Usage;
use super::broker::Broker;
use crate::office::office_config::{self, BrokerConfig, OfficeConfig};
use crate::regular_file::{Links, read_text};

/// The file that is read without `--config`, when it is there.
const USUAL: &str = "/etc/taimat-office/office.toml";

/// Reads the file of `--config`, or the usual one.
///
/// # Errors
/// Every bad key, as the caller's mistake.
pub(super) fn load(named: Option<&Path>) -> anyhow::Result<OfficeConfig> {
    let path = named.unwrap_or(Path::new(USUAL));
    if named.is_none() && path.symlink_metadata().is_err() {
        return Ok(OfficeConfig::default());
    }
    let text = read_text(path, Links::Follow, office_config::FILE_MAX)
        .map_err(|error| Usage(format!("--config {}: {error}", path.display())))?;
    office_config::parse(&text).map_err(|problems| {
        Usage(format!("{}: {} problem(s)\n{problems}", path.display(), problems.0.len())).into()
    })
}

/// The directory of the archive: the flag's, or the file's.
///
/// # Errors
/// Names both when neither is given.
pub(super) fn dir(flag: Option<PathBuf>, config: &OfficeConfig) -> anyhow::Result<PathBuf> {
    let dir = flag.or_else(|| config.dir.clone());
    dir.ok_or_else(|| {
        Usage(format!(
            "name the archive's directory: --dir DIR, or `dir` in {USUAL} or --config FILE"
        ))
        .into()
    })
}

/// The broker of the flags, completed from the file. Certificate and key come from one of them, and
/// so do the host and what belongs to it.
pub(super) fn broker(flags: Broker, config: &BrokerConfig) -> Broker {
    // Another broker than the file's has nothing to do with the file's port and files.
    let config = if flags.broker.is_some() { &BrokerConfig::default() } else { config };
    let (cert, key) = match flags.cert {
        Some(cert) => (Some(cert), flags.key),
        None => (config.cert_file.clone(), config.key_file.clone()),
    };
    Broker {
        broker: flags.broker.or_else(|| config.host.clone()),
        port: flags.port.or(config.port),
        ca: flags.ca.or_else(|| config.ca_file.clone()),
        cert,
        key,
        login: flags.login.or_else(|| config.login_file.clone()),
        allow_plain: flags.allow_plain || config.allow_plain.unwrap_or(false),
        protocol: flags.protocol.or_else(|| config.protocol.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags() -> Broker {
        Broker {
            broker: None,
            port: None,
            ca: None,
            cert: None,
            key: None,
            login: None,
            allow_plain: false,
            protocol: None,
        }
    }

    #[test]
    fn flags_win_over_the_file() {
        let text = "dir = \"/a\"\n[broker]\nhost = \"file.example\"\nport = 8884\nca_file = \"/ca\"\nprotocol = \"5\"\n";
        let config = office_config::parse(text).unwrap();
        let both = broker(Broker { port: Some(9), ..flags() }, &config.broker);
        assert_eq!((both.broker.as_deref(), both.port), (Some("file.example"), Some(9)));
        assert_eq!((both.ca, both.protocol.as_deref()), (Some("/ca".into()), Some("5")));
        let other = Broker { broker: Some("other.example".into()), ..flags() };
        let other = broker(other, &config.broker);
        assert_eq!((other.port, other.ca), (None, None), "the file's broker is another one");
        assert_eq!(dir(Some("/b".into()), &config).unwrap(), Path::new("/b"));
        assert_eq!(dir(None, &config).unwrap(), Path::new("/a"));
        assert!(dir(None, &OfficeConfig::default()).unwrap_err().is::<Usage>());
    }

    #[test]
    fn a_bad_file_is_the_callers_mistake_with_every_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("office.toml");
        std::fs::write(&path, "dirr = \"/a\"\n[web]\nlisten = \"x\"\n").unwrap();
        let error = load(Some(&path)).unwrap_err();
        assert!(error.is::<Usage>());
        let text = error.to_string();
        assert!(text.contains("2 problem(s)") && text.contains("line 1: dirr"), "{text}");
        assert!(text.contains("line 3: web.listen"), "{text}");
        assert!(load(Some(&dir.path().join("gone.toml"))).unwrap_err().is::<Usage>());
    }
}
