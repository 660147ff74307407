//! Checks of the PEM files in the settings: authorities, certificate chain, and the matching key.
//!
//! [`super::parse`] does not run them: a device with an expired or wrong certificate must still
//! record.

use std::path::Path;

use rustls::RootCertStore;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::parse::{Problem, ReadFile};
use super::{TlsSettings, UplinkSettings};

/// All unusable PEM files, by configuration key.
pub fn check(uplink: &UplinkSettings, read: ReadFile<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (number, broker) in uplink.brokers().iter().enumerate() {
        let section = if number == 0 {
            "uplink".to_owned()
        } else {
            format!("uplink.fallbacks[{}]", number - 1)
        };
        if let Some(tls) = &broker.tls {
            problems.extend(check_tls(&section, tls, read));
        }
    }
    problems
}

fn check_tls(section: &str, tls: &TlsSettings, read: ReadFile<'_>) -> Vec<Problem> {
    let bad = |key: &str, path: &Path, reason: String| Problem {
        key: format!("{section}.{key}"),
        reason: format!("{}: {reason}", path.display()),
    };
    let mut problems = Vec::new();
    if let Err(reason) = authority(&tls.ca, read) {
        problems.push(bad("ca_file", &tls.ca, reason));
    }
    let Some((cert, key)) = &tls.identity else {
        return problems;
    };
    let chain = certificates(cert, read);
    let private = private_key(key, read);
    match (chain, private) {
        (Ok(chain), Ok(private)) => {
            if let Err(error) =
                CertifiedKey::from_der(chain, private, &rustls::crypto::ring::default_provider())
            {
                problems.push(bad("key_file", key, unfit(cert, &error)));
            }
        }
        (chain, private) => {
            problems.extend(chain.err().map(|reason| bad("cert_file", cert, reason)));
            problems.extend(private.err().map(|reason| bad("key_file", key, reason)));
        }
    }
    problems
}

/// Why a key does not go with a certificate, and what to do.
pub fn unfit(cert: &Path, error: &rustls::Error) -> String {
    let cert = cert.display();
    match error {
        rustls::Error::InconsistentKeys(_) => {
            format!(
                "is not the key of the certificate in {cert}; name the key that was made with it"
            )
        }
        error => format!("cannot be used with the certificate in {cert}: {error}"),
    }
}

/// Why a file yields no private key, and what to do.
pub fn no_private_key(error: &rustls_pki_types::pem::Error) -> String {
    match error {
        rustls_pki_types::pem::Error::NoItemsFound => {
            "holds no private key; name the file that begins with -----BEGIN PRIVATE KEY-----"
                .into()
        }
        error => format!("holds no readable private key: {error}"),
    }
}

fn authority(path: &Path, read: ReadFile<'_>) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, read)? {
        roots
            .add(certificate)
            .map_err(|error| format!("is not a certificate authority: {error}"))?;
    }
    Ok(())
}

fn certificates(path: &Path, read: ReadFile<'_>) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read(path)?;
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let list = list.map_err(|error| format!("is not PEM: {error}"))?;
    if list.is_empty() {
        Err("holds no certificate; name the file that begins with -----BEGIN CERTIFICATE-----"
            .into())
    } else {
        Ok(list)
    }
}

fn private_key(path: &Path, read: ReadFile<'_>) -> Result<PrivateKeyDer<'static>, String> {
    let text = read(path)?;
    PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|error| no_private_key(&error))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

    use super::*;
    use crate::settings::test_settings;

    #[test]
    fn ca_chain_and_key_are_checked_and_must_match() {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let leaf =
            CertificateParams::new(vec!["km-17".to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
        let files: BTreeMap<&str, String> = BTreeMap::from([
            ("/ca", ca.pem()),
            ("/cert", leaf.pem()),
            ("/key", key.serialize_pem()),
            ("/other", other.serialize_pem()),
            ("/text", "nothing".to_owned()),
        ]);
        let read = |path: &Path| {
            files.get(path.to_str().unwrap()).cloned().ok_or_else(|| "No such file".to_owned())
        };
        let wrong = |ca: &str, cert: &str, key: &str| -> Vec<String> {
            let mut settings = test_settings();
            settings.uplink.tls =
                Some(TlsSettings { ca: ca.into(), identity: Some((cert.into(), key.into())) });
            check(&settings.uplink, &read).into_iter().map(|problem| problem.key).collect()
        };
        assert!(wrong("/ca", "/cert", "/key").is_empty());
        assert_eq!(wrong("/ca", "/cert", "/other"), ["uplink.key_file"]);
        let mut settings = test_settings();
        let identity = |key: &str| Some(("/cert".into(), key.into()));
        for (key, sentence) in [("/other", "is not the key of"), ("/cert", "holds no private key")]
        {
            settings.uplink.tls = Some(TlsSettings { ca: "/ca".into(), identity: identity(key) });
            let reason = check(&settings.uplink, &read).remove(0).reason;
            assert!(reason.contains(sentence) && reason.contains("; name"), "{reason}");
            assert!(!reason.contains("KeyMismatch") && !reason.contains("items"), "{reason}");
        }
        assert_eq!(
            wrong("/text", "/key", "/cert"),
            ["uplink.ca_file", "uplink.cert_file", "uplink.key_file"]
        );
        assert_eq!(wrong("/gone", "/cert", "/key"), ["uplink.ca_file"]);
    }
}
