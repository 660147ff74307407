//! ⇄ `taimat keygen`.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};

use crate::units::{Digest, SiteId};

/// Arguments of `taimat keygen`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The site this box is for.
    #[arg(long)]
    site: String,
    /// Directory for the key; an existing key is never overwritten.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

/// Makes the box's own ECDSA P-256 key (PKCS#8 PEM, readable by its owner only); it never leaves the box.
///
/// # Errors
/// When the file exists or cannot be written.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let site = SiteId::parse(&args.site).map_err(anyhow::Error::msg)?;
    let random = SystemRandom::new();
    let document =
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).map_err(|_| anyhow::anyhow!("no randomness"))?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref(), &random);
    let pair = pair.map_err(|error| anyhow::anyhow!("the new key is unusable: {error}"))?;
    let path = args.dir.join(format!("{site}.key"));
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let mut file = file.with_context(|| path.display().to_string())?;
    file.write_all(pem(document.as_ref()).as_bytes())?;
    file.sync_all()?;
    println!("key: {} (keep it here; nobody else needs it)", path.display());
    println!("public key sha256: {}", Digest::of(pair.public_key().as_ref()).hex());
    println!("certificate request for the office: openssl req -new -key {} -subj /CN={site} -out {site}.csr", path.display());
    Ok(ExitCode::SUCCESS)
}

/// PEM (RFC 7468) of a PKCS#8 key.
fn pem(der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |chunk: &[u8]| {
        let value = (0..3).fold(0_u32, |value, i| value << 8 | u32::from(chunk.get(i).copied().unwrap_or(0)));
        (0..4)
            .map(|i| if i <= chunk.len() { char::from(ALPHABET[(value >> (18 - 6 * i)) as usize & 63]) } else { '=' })
            .collect::<String>()
    };
    let lines: Vec<String> = der.chunks(48).map(|line| line.chunks(3).map(group).collect()).collect();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
}
