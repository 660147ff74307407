//! `taimat keygen`: makes the key of a device or a signing key of an office.
#![expect(
    clippy::disallowed_methods,
    reason = "shell: reads or writes files, draws random numbers"
)]

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};

use crate::escape::shown_path;
use crate::settings::KeyScope;
use crate::units::{Digest, SiteId, base64, hex};

/// Arguments of `taimat keygen`.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("whom").required(true).args(["site", "office"])))]
pub struct Args {
    /// Site of the device.
    #[arg(long)]
    site: Option<String>,
    /// Instead, make a signing key with this name.
    #[arg(long)]
    office: Option<String>,
    /// With --office: what the key may sign. `commands`: ping, snapshot, clip-get, clip-cancel,
    /// event-get,
    /// lock, unlock, locks, ring-status, log-tail. `all` (default): also configurations and
    /// restarts.
    #[arg(long, value_parser = ["all", KeyScope::WORD], conflicts_with = "site")]
    scope: Option<String>,
    /// Directory for the key; an existing key is never overwritten.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

/// File names of `deploy/mosquitto/make-certs.sh`.
const FILES_OF_CERTS: [&str; 3] = ["broker", "ca", "office-ca"];

/// Makes a device's ECDSA P-256 key or an office's Ed25519 key (PKCS#8 PEM, readable by its owner
/// only).
///
/// # Errors
/// The file exists or cannot be written.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match (&args.office, &args.site) {
        (Some(name), _) => office(name, &args),
        (None, site) => site_key(site.as_deref().unwrap_or_default(), &args),
    }
}

/// Makes the signing key; devices enrol its public half.
fn office(name: &str, args: &Args) -> anyhow::Result<ExitCode> {
    let word = (1..=32).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    anyhow::ensure!(
        word,
        "{name:?} is not a valid key name: use 1 to 32 of a-z A-Z 0-9 '-' '_' '.'"
    );
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
        .map_err(|_| anyhow::anyhow!("no randomness"))?;
    let pair = Ed25519KeyPair::from_pkcs8(document.as_ref());
    let pair = pair.map_err(|error| anyhow::anyhow!("the new key is unusable: {error}"))?;
    let path = args.dir.join(format!("{name}.sign.key"));
    put(&path, document.as_ref())?;
    let (scope, place) = match args.scope.as_deref() == Some(KeyScope::WORD) {
        true => (
            format!("{}:", KeyScope::WORD),
            "keep it where operators sign commands; it cannot sign configurations",
        ),
        false => (
            String::new(),
            "keep it where you sign configurations, and keep a copy in a safe place",
        ),
    };
    println!("key: {} ({place})", shown_path(&path));
    println!(
        "for the devices, in [remote]: keys = [\"{name}:{scope}{}\"]",
        hex(pair.public_key().as_ref())
    );
    Ok(ExitCode::SUCCESS)
}

/// Creates a file with mode 0600; it must not exist.
fn put(path: &Path, der: &[u8]) -> anyhow::Result<()> {
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.with_context(|| match path.exists() {
        true => format!(
            "{} exists and is never overwritten, because devices may trust it. Move it away to make a new key",
            shown_path(path)
        ),
        false if path.parent().is_some_and(|dir| !dir.as_os_str().is_empty() && !dir.exists()) => {
            format!("{}: --dir does not exist: create it first", shown_path(path))
        }
        false => shown_path(path),
    })?;
    file.write_all(pem(der).as_bytes())?;
    file.sync_all()?;
    Ok(())
}

fn site_key(site: &str, args: &Args) -> anyhow::Result<ExitCode> {
    let site = SiteId::parse(site).map_err(anyhow::Error::msg)?;
    let taken = FILES_OF_CERTS.contains(&site.as_str());
    anyhow::ensure!(!taken, "{site}: reserved; make-certs.sh writes files with this name");
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random)
        .map_err(|_| anyhow::anyhow!("no randomness"))?;
    let pair =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref(), &random);
    let pair = pair.map_err(|error| anyhow::anyhow!("the new key is unusable: {error}"))?;
    let path = args.dir.join(format!("{site}.key"));
    put(&path, document.as_ref())?;
    println!("key: {} (keep it on this device only)", shown_path(&path));
    let digest = Digest::of(pair.public_key().as_ref());
    println!("public key sha256: {}", digest.hex());
    println!("the same in digits: {}", digest.digits());
    let request = args.dir.join(format!("{site}.csr"));
    println!(
        "make the certificate request for the office: openssl req -new -key {} -subj /CN={site} -out {}",
        shown_path(&path),
        shown_path(&request)
    );
    Ok(ExitCode::SUCCESS)
}

/// PEM (RFC 7468) of a PKCS#8 key.
fn pem(der: &[u8]) -> String {
    let lines: Vec<String> = der.chunks(48).map(base64).collect();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
}
