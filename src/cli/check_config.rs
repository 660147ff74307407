//! `taimat check-config`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::json;

use crate::escape::{shown_json_line, shown_path};
use crate::redact::masked;
use crate::settings::parse::{Parsed, Problem, Problems, ReadFile};
use crate::settings::{KeyScope, Settings, StorageSettings, UplinkSettings, load, pem};
use crate::storage::placement::check_placement;
use crate::units::{SiteId, counted};
use crate::uplink::cert_expiry;

/// Bits a second of a camera whose rate is not known: a main stream of 1080p (docs/config.md).
const ASSUMED_RATE: u64 = 4_000_000;

/// Arguments of `taimat check-config`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file (TOML; every key is in docs/config.md).
    file: PathBuf,
    /// One JSON object instead of lines.
    #[arg(long)]
    json: bool,
}

/// Checks the file, and the certificates and keys that it names. Exit code 0 and a summary, or 2 and every bad key.
///
/// # Errors
/// The report cannot be written as JSON.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let checked = judge(load::parts(&args.file), &load::read);
    if args.json {
        println!("{}", shown_json_line(&as_json(&checked))?);
    } else {
        match &checked {
            Ok(settings) => summary(&args, settings),
            Err(problems) => {
                eprintln!(
                    "{}: {}\n{problems}",
                    shown_path(&args.file),
                    counted(problems.0.len(), "problem")
                )
            }
        }
    }
    Ok(if checked.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

/// All problems of the file that this command reports.
pub(super) fn problems(file: &Path) -> Option<Problems> {
    judge(load::parts(file), &load::read).err()
}

/// Collects all problems at once: checks the files and the directory of a section even if another section is bad.
fn judge(parsed: Parsed, read: ReadFile<'_>) -> Result<Settings, Problems> {
    let Parsed { whole, site, storage, uplink, mut problems } = parsed;
    if let Some(uplink) = &uplink {
        problems.extend(pem::check(uplink, read));
    }
    if let (Some(site), Some(uplink)) = (&site, &uplink) {
        problems.extend(others_certificates(site, uplink, read));
    }
    if let Some(storage) = &storage {
        problems.extend(no_room(storage));
    }
    let mut found: Vec<Problem> = Vec::with_capacity(problems.len());
    for problem in problems {
        // Two sections may name the same file.
        if !found.contains(&problem) {
            found.push(problem);
        }
    }
    whole.filter(|_| found.is_empty()).ok_or(Problems(found))
}

/// Finds certificates of another device: a broker that identifies devices by certificate rejects what this one sends, and ends the
/// session of the other.
fn others_certificates(site: &SiteId, uplink: &UplinkSettings, read: ReadFile<'_>) -> Vec<Problem> {
    let brokers = uplink.brokers();
    let others = brokers.iter().enumerate().filter_map(|(number, broker)| {
        let (path, _) = broker.tls.as_ref()?.identity.as_ref()?;
        let der = CertificateDer::from_pem_slice(read(path).ok()?.as_bytes()).ok()?;
        let name = cert_expiry::common_name(&der)?;
        let section = if number == 0 { "uplink".to_owned() } else { format!("uplink.fallbacks[{}]", number - 1) };
        (name != site.as_str()).then(|| Problem {
            key: format!("{section}.cert_file"),
            reason: format!(
                "{}: is the certificate of {name:?}, but site is {site}: the broker identifies the device by its certificate",
                shown_path(path)
            ),
        })
    });
    others.collect()
}

/// Finds a ring directory or a card that `run` would reject, or a card that is too small for `storage.budget`: the device would
/// record into memory only, or into a smaller ring.
fn no_room(storage: &StorageSettings) -> Vec<Problem> {
    let refused = check_placement(storage).err();
    refused
        .into_iter()
        .map(|(key, fault)| Problem { key: key.into(), reason: fault.to_string() })
        .collect()
}

fn as_json(checked: &Result<Settings, Problems>) -> serde_json::Value {
    match checked {
        Ok(settings) => {
            let warnings: Vec<_> = pins_below_an_event(settings).into_iter().collect();
            json!({"ok": true, "site": settings.site, "errors": [], "warnings": warnings})
        }
        Err(problems) => {
            let errors: Vec<_> = problems
                .0
                .iter()
                .map(|Problem { key, reason }| json!({"key": key, "reason": reason}))
                .collect();
            json!({"ok": false, "errors": errors, "warnings": []})
        }
    }
}

/// Warns where the clip of one long event does not fit into what pins may hold: its first footage can be evicted before it is sent.
fn pins_below_an_event(settings: &Settings) -> Option<String> {
    let (storage, clip, motion) = (&settings.storage, &settings.clip, &settings.motion);
    if !motion.enabled || !clip.enabled {
        return None;
    }
    let seconds = (clip.pre_roll + motion.max_event + clip.post_roll) / 1_000_000;
    // An event begins and ends within a segment, and pins hold whole ones.
    let segments = (seconds * ASSUMED_RATE / 8).div_ceil(storage.segment) + 1;
    let (held, needed) =
        (storage.budget / 100 * u64::from(storage.pin_quota), segments * storage.segment);
    (held < needed).then(|| {
        format!(
            "storage.pin_quota: pins may hold {} ({} % of storage.budget), and an event of motion.max_event takes \
             {} in whole segments ({seconds} s with its margins, at an assumed {} Mbit/s): its first footage may be \
             overwritten before its clip is sent; raise storage.budget or storage.pin_quota, or lower motion.max_event",
            mebibytes(held),
            storage.pin_quota,
            mebibytes(needed),
            ASSUMED_RATE / 1_000_000
        )
    })
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// A size in the largest unit that shows it whole.
fn segment_size(bytes: u64) -> String {
    match bytes {
        bytes if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        bytes => format!("{} KiB", bytes >> 10),
    }
}

fn summary(args: &Args, settings: &Settings) {
    let (camera, storage) = (&settings.camera, &settings.storage);
    println!("{}: ok", shown_path(&args.file));
    println!(
        "site {}, camera {}, analysed {}",
        settings.site,
        masked(camera.main_url.as_str()),
        masked(camera.sub_url.as_ref().unwrap_or(&camera.main_url).as_str())
    );
    println!(
        "ring {} in {} segments of {}",
        shown_path(&storage.dir),
        storage.budget / storage.segment,
        segment_size(storage.segment)
    );
    if let Some(warning) = pins_below_an_event(settings) {
        println!("  warning: {warning}");
    }
    for broker in settings.uplink.brokers() {
        let tls = if broker.tls.is_some() { "TLS" } else { "no TLS" };
        println!("office {}:{} ({tls})", broker.host, broker.port);
        if broker.shows_login() {
            println!(
                "  the login of {}:{} is sent unencrypted: anyone on the network can read it (uplink.allow_plain)",
                broker.host, broker.port
            );
        }
    }
    let names = |scope: KeyScope| {
        let keys: Vec<&str> = settings
            .remote
            .keys
            .iter()
            .filter(|key| key.scope == scope)
            .map(|key| key.name.as_str())
            .collect();
        if keys.is_empty() { "none".to_owned() } else { keys.join(", ") }
    };
    println!("remote configuration and commands by: {}", names(KeyScope::All));
    if settings.remote.keys.iter().any(|key| key.scope == KeyScope::Commands) {
        println!("remote commands, no configuration, also by: {}", names(KeyScope::Commands));
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;
    use crate::clock::{Clock as _, SystemClock};
    use crate::settings::{TlsSettings, parse, test_settings};
    use crate::storage::disk::RealDisk;
    use crate::storage::engine::Engine;

    #[test]
    fn a_card_too_small_for_its_budget_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = test_settings();
        settings.storage.dir = dir.path().join("ring");
        settings.storage.budget = 1 << 43;
        let key = no_room(&settings.storage).pop().map(|named| named.key);
        assert_eq!(key.as_deref(), Some("storage.budget"), "the ring is not made yet");
        assert!(!settings.storage.dir.exists(), "looking makes nothing");
        std::fs::create_dir(&settings.storage.dir).unwrap();
        let told = no_room(&settings.storage);
        assert!(
            told.len() == 1
                && told[0].key == "storage.budget"
                && told[0].reason.contains("lower storage.budget"),
            "{told:?}"
        );
        settings.storage.budget = 4 << 20;
        assert!(no_room(&settings.storage).is_empty());
    }

    #[test]
    fn a_pin_quota_below_one_event_is_a_warning() {
        let mut settings = test_settings();
        (settings.storage.segment, settings.storage.pin_quota) = (4 << 20, 50);
        settings.storage.budget = 200 << 20;
        (settings.clip.pre_roll, settings.clip.post_roll) = (5_000_000, 5_000_000);
        settings.motion.max_event = 120_000_000;
        assert_eq!(pins_below_an_event(&settings), None);
        settings.motion.max_event = 600_000_000;
        let warning = pins_below_an_event(&settings).unwrap();
        for part in [
            "hold 100.0 MiB (50 %",
            "takes 296.0 MiB",
            "610 s",
            "assumed 4 Mbit/s",
            "raise storage.budget",
        ] {
            assert!(warning.contains(part), "{warning}");
        }
        assert_eq!(as_json(&Ok(settings.clone()))["warnings"][0], warning);
        settings.clip.enabled = false;
        assert_eq!(pins_below_an_event(&settings), None, "no clip, no pin");
    }

    #[test]
    fn files_and_directory_are_judged_beside_a_bad_key() {
        let text = "site = \"a\"\ncamera.main_url = \"http://x/\"\nstorage.dir = \"/taimat-test-gone/ring\"\n\
                    uplink.host = \"far\"\nuplink.ca_file = \"/pem\"\n";
        let read = |_: &std::path::Path| Ok("nothing".to_owned());
        let named = judge(parse::parts(text, &read), &read).unwrap_err();
        let keys: Vec<&str> = named.0.iter().map(|problem| problem.key.as_str()).collect();
        assert_eq!(keys, ["camera.main_url", "uplink.ca_file", "storage.dir"]);
    }

    #[test]
    fn a_problem_is_listed_once() {
        let problem = || Problem { key: "uplink.ca_file".into(), reason: "/ca: gone".into() };
        let parsed = Parsed { problems: vec![problem(), problem()], ..Parsed::default() };
        let named = judge(parsed, &|_| Ok(String::new())).unwrap_err();
        assert_eq!(named.0, [problem()]);
    }

    #[test]
    fn a_ring_directory_that_run_would_refuse_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = test_settings();
        settings.storage.dir = dir.path().join("gone/ring");
        let named = no_room(&settings.storage);
        assert!(
            named.len() == 1 && named[0].key == "storage.dir" && named[0].reason.contains("gone"),
            "{named:?}"
        );
        assert!(!dir.path().join("gone").exists(), "looking makes nothing");
        settings.storage.dir = "/taimat-test-not-mounted".into();
        settings.storage.require_mount = true;
        let named = no_room(&settings.storage);
        assert!(
            named.len() == 1
                && named[0].key == "storage.dir"
                && named[0].reason.contains("mounted"),
            "{named:?}"
        );
        settings.storage.dir = dir.path().join("file");
        std::fs::write(&settings.storage.dir, "no directory").unwrap();
        settings.storage.require_mount = false;
        assert_eq!(
            no_room(&settings.storage).first().map(|named| named.key.as_str()),
            Some("storage.dir")
        );
    }

    #[test]
    fn a_card_of_another_site_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut storage = test_settings().storage;
        storage.dir = dir.path().join("ring");
        storage.require_mount = false;
        storage.segment = 256 << 10;
        storage.budget = 1 << 20;
        storage.site = Some(SiteId::parse("km-17").unwrap());
        let disk = std::sync::Arc::new(RealDisk::open(&storage.dir, false).unwrap());
        let now = SystemClock::new().now();
        drop(Engine::open(disk, &storage, now).unwrap());
        assert!(no_room(&storage).is_empty());
        storage.site = Some(SiteId::parse("km-18").unwrap());
        let named = no_room(&storage);
        assert!(named.len() == 1 && named[0].reason.contains("another site"), "{named:?}");
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
            settings.uplink.tls = Some(TlsSettings {
                ca: "/ca".into(),
                identity: Some(("/cert".into(), "/key".into())),
            });
            others_certificates(&settings.site, &settings.uplink, &read)
        };
        assert!(wrong("km-17").is_empty());
        let told = wrong("km-18");
        assert_eq!(told[0].key, "uplink.cert_file");
        assert!(
            told[0].reason.contains("km-17") && told[0].reason.contains("km-18"),
            "{}",
            told[0].reason
        );
    }
}
