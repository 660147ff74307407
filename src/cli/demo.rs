//! ⇄ `taimat demo`.

use std::process::ExitCode;

/// Arguments of `taimat demo`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Carries it out.
///
/// # Errors
/// Always, until its room is built.
pub fn run(_args: Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not built yet")
}
