//! Options of the office's commands: the broker, its TLS and login files, the signing key.
//!
//! What belongs here: arguments that several office commands share, and the files they name. What
//! does not: the connection ([`crate::uplink::client`]).

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;

use super::Usage;
use crate::escape::shown_path;
use crate::regular_file::{Links, TEXT_MAX, read_text};
use crate::settings::{Login, Protocol, TlsSettings, key_id, parse};
use crate::units::Secret;
use crate::uplink::client::{Disconnected, Options};
use crate::uplink::connection_end;
use crate::uplink::tls;

/// How to reach the broker.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Broker {
    /// Host name or address; 127.0.0.1 by default.
    #[arg(long)]
    pub(super) broker: Option<String>,
    /// Port; 8883 with --ca, else 1883.
    #[arg(long)]
    pub(super) port: Option<u16>,
    /// PEM of the broker's certificate authority; switches TLS on.
    #[arg(long)]
    pub(super) ca: Option<PathBuf>,
    /// PEM certificate chain of the office.
    #[arg(long, requires = "key")]
    pub(super) cert: Option<PathBuf>,
    /// PEM key of this certificate.
    #[arg(long, requires = "cert")]
    pub(super) key: Option<PathBuf>,
    /// A file with one line user:password.
    #[arg(long)]
    pub(super) login: Option<PathBuf>,
    /// Allow a broker on another machine without TLS: everything is sent unencrypted, the password
    /// too.
    #[arg(long)]
    pub(super) allow_plain: bool,
    /// MQTT version; auto, the default, is 5, and 3.1.1 where that fails.
    #[arg(long, value_parser = ["auto", "5", "3.1.1"])]
    pub(super) protocol: Option<String>,
}

impl Broker {
    /// True when 3.1.1 may be tried after MQTT 5.
    pub(super) fn any_version(&self) -> bool {
        self.protocol.as_deref().is_none_or(|protocol| protocol == "auto")
    }

    /// The options of a connection with this client id.
    ///
    /// # Errors
    /// A broker on another machine without TLS, or a file that cannot be used.
    pub(super) fn options(&self, client_id: String) -> anyhow::Result<Options> {
        let host = self.broker.as_deref().unwrap_or("127.0.0.1");
        if !parse::is_host(host) {
            return Err(Usage(format!(
                "--broker {host:?}: must be the name or the address of a host alone; its port is another option: --port"
            ))
            .into());
        }
        let plain = self.ca.is_none() && !parse::is_local(host);
        if self.cert.is_some() && self.ca.is_none() {
            return Err(Usage("--cert needs --ca, which switches TLS on".into()).into());
        }
        if plain && !self.allow_plain {
            return Err(Usage(format!(
                "{host} is another machine: give --ca, or --allow-plain to send everything unencrypted, a password too"
            ))
            .into());
        }
        if plain && self.login.is_some() {
            tracing::warn!(broker = %host, "the password goes unencrypted to the broker (--allow-plain): use --ca");
        }
        let tls = self.ca.as_ref().map(|ca| TlsSettings {
            ca: ca.clone(),
            identity: self.cert.clone().zip(self.key.clone()),
        });
        Ok(Options {
            client_id,
            host: host.to_owned(),
            port: self.port.unwrap_or(if tls.is_some() { 8883 } else { 1883 }),
            tls: tls.as_ref().map(|tls| tls::config(tls, None)).transpose()?,
            login: self.login.as_deref().map(read_login).transpose()?,
            keep_alive: 30,
            protocol: if self.protocol.as_deref() == Some("3.1.1") {
                Protocol::V311
            } else {
                Protocol::V5
            },
            will: None,
        })
    }
}

fn read_login(path: &Path) -> anyhow::Result<Login> {
    let text = read_text(path, Links::Follow, TEXT_MAX)
        .map_err(|error| Usage(format!("--login {}: {error}", shown_path(path))))?;
    let (user, password) = text.trim_end().split_once(':').ok_or_else(|| {
        Usage(format!("--login {}: expected one line user:password", shown_path(path)))
    })?;
    Ok(Login { user: user.into(), password: Secret::new(password) })
}

/// Why a connection ended, in the words of the office's flags.
pub(super) fn ended(options: &Options, ended: &Disconnected) -> String {
    format!("{}:{}: {}", options.host, options.port, connection_end::in_flags(&ended.reason))
}

/// Reads the signing key of `--sign`; returns it with its key id.
///
/// # Errors
/// Names the flag, the file and what to do.
pub(super) fn signing_key(path: &Path) -> anyhow::Result<(Ed25519KeyPair, String)> {
    let named = || format!("--sign {}", shown_path(path));
    let text = read_text(path, Links::Follow, TEXT_MAX).with_context(named)?;
    let wanted = "no Ed25519 key; taimat keygen --office NAME makes NAME.sign.key";
    let der = PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|_| anyhow::anyhow!("{}: {wanted}", named()))?;
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_der())
        .map_err(|error| anyhow::anyhow!("{}: {wanted} ({error})", named()))?;
    let mut public = [0; 32];
    public.copy_from_slice(pair.public_key().as_ref());
    Ok((pair, key_id(&public)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_the_host_names_the_option_for_it() {
        let broker = Broker {
            broker: Some("127.0.0.1:21883".into()),
            port: None,
            ca: None,
            cert: None,
            key: None,
            login: None,
            allow_plain: false,
            protocol: Some("auto".into()),
        };
        let error = broker.options("x".into()).err().unwrap().to_string();
        assert!(error.contains("--port") && !error.contains("another machine"), "{error}");
        for host in ["127.0.0.1", "::1", "localhost"] {
            assert!(
                Broker { broker: Some(host.into()), ..broker.clone() }.options("x".into()).is_ok()
            );
        }
    }

    #[test]
    fn a_signing_key_that_cannot_be_used_names_flag_and_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("other.key");
        std::fs::write(&path, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
            .unwrap();
        for path in [dir.path().join("gone.key"), path] {
            let text = format!("{:#}", signing_key(&path).unwrap_err());
            assert!(text.starts_with(&format!("--sign {}: ", path.display())), "{text}");
        }
    }

    #[test]
    fn a_login_file_that_cannot_be_read_is_wrong_usage() {
        let error = read_login(Path::new("/taimat-test-gone")).unwrap_err();
        assert!(error.is::<Usage>() && error.to_string().contains("--login"), "{error:#}");
    }
}
