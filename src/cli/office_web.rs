//! Flags of the web listener of `office run`, and what it prints at its start.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Usage;
use super::broker::signing_key;
use crate::clock::SystemClock;
use crate::office::archive_link::ArchiveClient;
use crate::office::console::Console;
use crate::office::console::web::tls::Identity;
use crate::office::console::web::{BrokerAccess, WebOptions, WebServer, start};
use crate::office::office_config::OfficeConfig;
use crate::regular_file::{Links, TEXT_MAX, read_text};
use crate::uplink::client::Options;

/// Flags of the web listener.
#[derive(Debug, clap::Args)]
pub(super) struct WebFlags {
    /// Serve the web console on this address and port, e.g. 127.0.0.1:8443. Plain HTTP on loopback, TLS elsewhere; off without it.
    #[arg(long, value_name = "ADDR:PORT")]
    web: Option<SocketAddr>,
    /// PEM certificate chain of the web console; without it a self-signed one is made.
    #[arg(long, requires_all = ["web", "web_key"])]
    web_cert: Option<PathBuf>,
    /// PEM key of this certificate.
    #[arg(long, requires = "web_cert")]
    web_key: Option<PathBuf>,
}

/// Starts the web listener if a flag or the configuration file wants it, and prints its address.
///
/// # Errors
/// When it cannot listen, or a file cannot be used.
pub(super) fn start_web(
    flags: WebFlags,
    config: &OfficeConfig,
    dir: &Path,
    (options, any_version): (&Options, bool),
    archive: ArchiveClient,
) -> anyhow::Result<Option<WebServer>> {
    let Some(address) = flags.web.or(config.web.enabled.then_some(config.web.listen)) else {
        return Ok(None);
    };
    let files = flags.web_cert.zip(flags.web_key).or_else(|| config.web.identity.clone());
    let key = config.sign_file.as_deref().map(signing_key).transpose()?;
    let token = config.metrics_token_file.as_deref().map(read_token).transpose()?;
    let console = Console::open(dir, Arc::new(SystemClock::new()))?;
    let web = WebOptions {
        address,
        identity: files.map(|(cert, key)| Identity { cert, key }),
        names: Vec::new(),
        archive: dir.to_owned(),
        broker: Some(BrokerAccess {
            options: options.clone(),
            any_version,
            key: key.map(|(key, _)| Arc::new(key)),
        }),
        tiles: config.web.tiles_file.clone(),
        machine_token: token,
    };
    let server = start(web, console.clone(), archive)?;
    announce(&server, &console)?;
    Ok(Some(server))
}

fn read_token(path: &Path) -> anyhow::Result<String> {
    let text = read_text(path, Links::Follow, TEXT_MAX)
        .map_err(|error| Usage(format!("{}: {error}", path.display())))?;
    match text.trim() {
        "" => Err(Usage(format!("{}: the token is empty", path.display())).into()),
        token => Ok(token.to_owned()),
    }
}

/// Prints the address, the fingerprint, and the link for the first admin.
fn announce(server: &WebServer, console: &Console) -> anyhow::Result<()> {
    println!("console: {}/", server.url());
    if let Some(fingerprint) = &server.fingerprint {
        let pairs: Vec<String> = fingerprint.0.iter().map(|byte| format!("{byte:02X}")).collect();
        println!("console: SHA-256 of its certificate, as a browser shows it {}", pairs.join(":"));
        println!("console: the same in digits {}", fingerprint.digits());
    }
    if let Some(token) = console.first_admin_token()? {
        let ip = server.address.ip();
        if ip.is_loopback() || ip.is_unspecified() {
            let host = if ip.is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { ip };
            let scheme = if server.fingerprint.is_some() { "https" } else { "http" };
            let to = SocketAddr::new(host, server.address.port());
            println!(
                "console: open on this machine within 30 minutes {scheme}://{to}/#/first-admin/{}",
                token.reveal()
            );
        } else {
            println!("console: there is no user yet; taimat office user add makes the first");
        }
    }
    Ok(())
}
