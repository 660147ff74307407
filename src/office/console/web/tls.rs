//! TLS of the web listener: the certificate that was given, or a self-signed one that is made once.
#![expect(
    clippy::disallowed_methods,
    reason = "shell: reads or writes files, draws random numbers"
)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::regular_file::{Links, TEXT_MAX, read_text};
use crate::units::Digest;

/// Certificate and key of the web listener, as files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// PEM chain, the listener's certificate first.
    pub cert: PathBuf,
    /// PEM key.
    pub key: PathBuf,
}

/// Name of the certificate that the office makes.
const OWN_CERT: &str = "console.cert.pem";
/// Name of its key.
const OWN_KEY: &str = "console.key.pem";
/// Days that it holds: browsers refuse more than 825.
const OWN_DAYS: i64 = 800;

/// TLS 1.2 and 1.3 by ring with the certificate and key in two PEM texts; returns the SHA-256 of
/// the certificate, too.
///
/// # Errors
/// When there is no certificate or no key, or they do not belong together.
pub(crate) fn config(cert: &str, key: &str) -> anyhow::Result<(Arc<ServerConfig>, Digest)> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(cert.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| anyhow::anyhow!("no PEM certificate ({error})"))?;
    let first = chain.first().context("no PEM certificate")?;
    let fingerprint = Digest::of(first);
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|error| anyhow::anyhow!("no PEM key ({error})"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("certificate and key do not belong together")?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((Arc::new(config), fingerprint))
}

/// Reads the files of an identity.
///
/// # Errors
/// Names the file that cannot be used.
pub(crate) fn load(identity: &Identity) -> anyhow::Result<(Arc<ServerConfig>, Digest)> {
    let read = |path: &Path| {
        read_text(path, Links::Follow, TEXT_MAX).with_context(|| path.display().to_string())
    };
    let (cert, key) = (read(&identity.cert)?, read(&identity.key)?);
    config(&cert, &key)
        .with_context(|| format!("{} and {}", identity.cert.display(), identity.key.display()))
}

/// The identity in `dir`; makes a self-signed one on P-256 for `names` where there is none, or where
/// it has less than `OWN_DAYS` / 4 days left.
///
/// # Errors
/// When the files cannot be written.
pub(crate) fn own(dir: &Path, names: &[String], now_seconds: i64) -> anyhow::Result<Identity> {
    let identity = Identity { cert: dir.join(OWN_CERT), key: dir.join(OWN_KEY) };
    let made = identity.key.symlink_metadata().and_then(|meta| meta.modified()).ok();
    let age = made
        .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok())
        .map(|at| now_seconds - at.as_secs() as i64);
    let is_fresh = age.is_some_and(|age| age < OWN_DAYS * 86_400 * 3 / 4);
    if is_fresh && identity.cert.symlink_metadata().is_ok() {
        return Ok(identity);
    }
    let (cert, key) = self_signed(names, now_seconds)?;
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    write_private(&identity.key, &key)?;
    write_private(&identity.cert, &cert)?;
    Ok(identity)
}

/// A self-signed certificate for the names and its key, as PEM.
fn self_signed(names: &[String], now_seconds: i64) -> anyhow::Result<(String, String)> {
    use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair};
    let mut params = CertificateParams::new(names).context("a name of the web listener")?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "taimat console");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let day = |seconds: i64| {
        let date = jiff::Timestamp::from_second(seconds)
            .map(|at| at.to_zoned(jiff::tz::TimeZone::UTC).date());
        date.map(|date| {
            rcgen::date_time_ymd(i32::from(date.year()), date.month() as u8, date.day() as u8)
        })
    };
    params.not_before = day(now_seconds - 86_400)?;
    params.not_after = day(now_seconds + OWN_DAYS * 86_400)?;
    let key = KeyPair::generate()?;
    let cert = params.self_signed(&key)?;
    Ok((cert.pem(), key.serialize_pem()))
}

/// Writes a file that only the office's user reads, as a whole or not at all.
fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let aside = path.with_extension("new");
    let write = || {
        let _ = std::fs::remove_file(&aside);
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&aside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&aside, path)
    };
    write().with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_796_000_000;

    #[test]
    fn the_own_certificate_is_made_once_and_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let names = ["office.local".to_owned(), "10.0.0.7".to_owned()];
        let identity = own(dir.path(), &names, NOW).unwrap();
        let (_, first) = load(&identity).unwrap();
        let mode = std::fs::metadata(&identity.key).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let made = std::fs::metadata(&identity.key).unwrap().modified().unwrap();
        let made = made.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
        own(dir.path(), &names, made + 86_400).unwrap();
        assert_eq!(load(&identity).unwrap().1, first);
        own(dir.path(), &names, made + OWN_DAYS * 86_400).unwrap();
        assert_ne!(load(&identity).unwrap().1, first, "an old one is replaced");
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let names = ["localhost".to_owned()];
        let (cert, _) = self_signed(&names, NOW).unwrap();
        let (_, key) = self_signed(&names, NOW).unwrap();
        assert!(config(&cert, &key).is_err());
        assert!(config("", &key).is_err());
        assert!(config(&cert, "").is_err());
    }
}
