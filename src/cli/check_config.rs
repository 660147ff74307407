//! ⇄ `taimat check-config`.

use std::path::PathBuf;
use std::process::ExitCode;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::json;

use crate::escape::shown_json_line;
use crate::redact::masked;
use crate::settings::parse::{Problem, Problems, ReadFile};
use crate::settings::{Settings, load, pem};
use crate::storage::disk::RealDisk;
use crate::storage::open::room;
use crate::uplink::cert_expiry;

/// Arguments of `taimat check-config`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file (TOML; every key is in docs/config.md).
    file: PathBuf,
    /// One JSON object instead of lines.
    #[arg(long)]
    json: bool,
}

/// Checks the file, and the certificates and keys it names: exit code 0 and a summary when all is good, 2 and every bad key when not.
///
/// # Errors
/// When the answer cannot be written as JSON: a bad file is an answer.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let checked = load::load(&args.file).and_then(|settings| {
        let problems =
            [pem::check(&settings, &load::read), others_certificates(&settings, &load::read), no_room(&settings)].concat();
        if problems.is_empty() { Ok(settings) } else { Err(Problems(problems)) }
    });
    if args.json {
        println!("{}", shown_json_line(&as_json(&checked))?);
    } else {
        match &checked {
            Ok(settings) => summary(&args, settings),
            Err(problems) => eprintln!("{}: {} problem(s)\n{problems}", args.file.display(), problems.0.len()),
        }
    }
    Ok(if checked.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

/// Certificates of another box: a broker that knows devices by them lets this one send nothing, and ends the other's session.
fn others_certificates(settings: &Settings, read: ReadFile<'_>) -> Vec<Problem> {
    let brokers = settings.uplink.brokers();
    let others = brokers.iter().enumerate().filter_map(|(number, broker)| {
        let (path, _) = broker.tls.as_ref()?.identity.as_ref()?;
        let der = CertificateDer::from_pem_slice(read(path).ok()?.as_bytes()).ok()?;
        let name = cert_expiry::common_name(&der)?;
        let section = if number == 0 { "uplink".to_owned() } else { format!("uplink.fallbacks[{}]", number - 1) };
        (name != settings.site.as_str()).then(|| Problem {
            key: format!("{section}.cert_file"),
            reason: format!(
                "{}: is the certificate of {name:?}, and site is {}: the broker knows a box by it",
                path.display(),
                settings.site
            ),
        })
    });
    others.collect()
}

/// A card that is there and too small for `storage.budget`: the device would record into memory only, or into a smaller ring.
fn no_room(settings: &Settings) -> Vec<Problem> {
    // A directory that is not there yet is made at the first start, mostly on another machine than this.
    let looked = RealDisk::open_read_only(&settings.storage.dir).ok().and_then(|disk| room(&disk, &settings.storage).ok());
    let short = looked.filter(|(wanted, available)| wanted > available);
    let told = short.map(|(wanted, available)| Problem {
        key: "storage.budget".into(),
        reason: format!(
            "{}: the ring still needs {} MiB and the file system has {}: lower storage.budget or free some space",
            settings.storage.dir.display(),
            wanted.div_ceil(1 << 20),
            available >> 20
        ),
    });
    told.into_iter().collect()
}

fn as_json(checked: &Result<Settings, Problems>) -> serde_json::Value {
    match checked {
        Ok(settings) => json!({"ok": true, "site": settings.site, "errors": []}),
        Err(problems) => {
            let errors: Vec<_> = problems.0.iter().map(|Problem { key, reason }| json!({"key": key, "reason": reason})).collect();
            json!({"ok": false, "errors": errors})
        }
    }
}

fn summary(args: &Args, settings: &Settings) {
    let (camera, storage) = (&settings.camera, &settings.storage);
    println!("{}: ok", args.file.display());
    println!(
        "site {}, camera {}, analysed {}",
        settings.site,
        masked(camera.main_url.as_str()),
        masked(camera.sub_url.as_ref().unwrap_or(&camera.main_url).as_str())
    );
    println!("ring {} in {} segments of {} MiB", storage.dir.display(), storage.budget / storage.segment, storage.segment >> 20);
    for broker in settings.uplink.brokers() {
        let tls = if broker.tls.is_some() { "TLS" } else { "no TLS" };
        println!("office {}:{} ({tls})", broker.host, broker.port);
        if broker.shows_login() {
            println!(
                "  the login of {}:{} is sent in the clear: anybody on the way can read it (uplink.allow_plain)",
                broker.host, broker.port
            );
        }
    }
    let keys: Vec<&str> = settings.remote.keys.iter().map(|key| key.name.as_str()).collect();
    println!("configured from afar by: {}", if keys.is_empty() { "nobody".to_owned() } else { keys.join(", ") });
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;
    use crate::settings::{TlsSettings, test_settings};
    use crate::units::SiteId;

    #[test]
    fn a_card_too_small_for_its_budget_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = test_settings();
        settings.storage.dir = dir.path().join("ring");
        settings.storage.budget = 1 << 43;
        assert!(no_room(&settings).is_empty(), "a directory that is not there yet says nothing");
        std::fs::create_dir(&settings.storage.dir).unwrap();
        let told = no_room(&settings);
        assert!(
            told.len() == 1 && told[0].key == "storage.budget" && told[0].reason.contains("lower storage.budget"),
            "{told:?}"
        );
        settings.storage.budget = 4 << 20;
        assert!(no_room(&settings).is_empty());
    }

    #[test]
    fn the_certificate_of_another_box_is_named() {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "km-17");
        let pem = params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
        let read = |_: &std::path::Path| Ok(pem.clone());
        let wrong = |site: &str| {
            let mut settings = test_settings();
            settings.site = SiteId::parse(site).unwrap();
            settings.uplink.tls = Some(TlsSettings { ca: "/ca".into(), identity: Some(("/cert".into(), "/key".into())) });
            others_certificates(&settings, &read)
        };
        assert!(wrong("km-17").is_empty());
        let told = wrong("km-18");
        assert_eq!(told[0].key, "uplink.cert_file");
        assert!(told[0].reason.contains("km-17") && told[0].reason.contains("km-18"), "{}", told[0].reason);
    }
}
