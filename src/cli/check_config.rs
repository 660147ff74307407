//! ⇄ `taimat check-config`.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::settings::load;

/// Arguments of `taimat check-config`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file (TOML; every key is in docs/config.md).
    file: PathBuf,
}

/// Checks the file: exit code 0 and a summary when it is good, 2 and every bad key when it is not.
///
/// # Errors
/// Never: a bad file is an answer.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match load::load(&args.file) {
        Ok(settings) => {
            let (camera, storage) = (&settings.camera, &settings.storage);
            println!("{}: ok", args.file.display());
            println!(
                "site {}, camera {}, analysed {}",
                settings.site,
                camera.main_url,
                camera.sub_url.as_ref().unwrap_or(&camera.main_url)
            );
            println!(
                "ring {} in {} segments of {} MiB",
                storage.dir.display(),
                storage.budget / storage.segment,
                storage.segment >> 20
            );
            let tls = if settings.uplink.tls.is_some() { "TLS" } else { "no TLS" };
            for broker in &settings.uplink.brokers {
                println!("office {}:{} ({tls})", broker.host, broker.port);
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(problems) => {
            eprintln!("{}: {} problem(s)\n{problems}", args.file.display(), problems.0.len());
            Ok(ExitCode::from(2))
        }
    }
}
