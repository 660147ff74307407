//! ⇄ `taimat check-config`.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use crate::mask::masked;
use crate::settings::raw::{Problem, Problems};
use crate::settings::{Settings, load, pem};

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
/// Never: a bad file is an answer.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let checked = load::load(&args.file).and_then(|settings| match pem::check(&settings, &load::read) {
        problems if problems.is_empty() => Ok(settings),
        problems => Err(Problems(problems)),
    });
    if args.json {
        println!("{}", as_json(&checked));
    } else {
        match &checked {
            Ok(settings) => summary(&args, settings),
            Err(problems) => eprintln!("{}: {} problem(s)\n{problems}", args.file.display(), problems.0.len()),
        }
    }
    Ok(if checked.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(2) })
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
