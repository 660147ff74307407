//! TLS configuration: trusted certificate authorities, the client certificate, and their expiry.
//!
//! What belongs here: certificates from files, rustls's configuration. What does not: the
//! connection ([`super::client`]).

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::cert_expiry;
use crate::settings::pem::{no_private_key, unfit};
use crate::settings::{TlsSettings, load};
use crate::units::WallTime;

/// A TLS configuration that trusts only the given authority and sends the given client certificate.
/// `name` is the host name to verify when the connection goes to an IP address.
///
/// # Errors
/// When a file cannot be used; the error names it.
pub fn config(
    settings: &TlsSettings,
    name: Option<&str>,
) -> anyhow::Result<Arc<rustls::ClientConfig>> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates(&settings.ca)? {
        roots
            .add(certificate)
            .with_context(|| format!("{}: not a certificate authority", settings.ca.display()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .context("TLS roots")?;
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("TLS versions")?
        .with_webpki_verifier(verifier.clone());
    let mut config = match &settings.identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let text =
                load::read(key).map_err(|error| anyhow::anyhow!("{}: {error}", key.display()))?;
            let private = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|error| {
                anyhow::anyhow!("{}: {}", key.display(), no_private_key(&error))
            })?;
            builder
                .with_client_auth_cert(certificates(chain)?, private)
                .map_err(|error| anyhow::anyhow!("{}: {}", key.display(), unfit(chain, &error)))?
        }
    };
    if let Some(name) = name {
        let name = ServerName::try_from(name.to_owned())
            .with_context(|| format!("{name:?} is not a valid server name"))?;
        config.dangerous().set_certificate_verifier(Arc::new(NameVerifier { verifier, name }));
    }
    Ok(Arc::new(config))
}

/// Expiry of each certificate file: its configuration key and the earliest end in it.
pub fn expiries(settings: &TlsSettings) -> Vec<(&'static str, WallTime)> {
    let client = settings.identity.as_ref().map(|(chain, _)| ("cert_file", chain));
    let files = [Some(("ca_file", &settings.ca)), client].into_iter().flatten();
    let earliest =
        |path| certificates(path).ok()?.iter().filter_map(|der| cert_expiry::not_after(der)).min();
    files.filter_map(|(key, path)| Some((key, earliest(path)?))).collect()
}

/// WebPKI verifier that checks the configured host name instead of the IP address.
#[derive(Debug)]
struct NameVerifier {
    verifier: Arc<WebPkiServerVerifier>,
    name: ServerName<'static>,
}

impl ServerCertVerifier for NameVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _address: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verifier.verify_server_cert(end_entity, intermediates, &self.name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let text = load::read(path).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let list = list.map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    anyhow::ensure!(!list.is_empty(), "{}: no certificate in this file", path.display());
    Ok(list)
}
