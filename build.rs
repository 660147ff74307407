//! Puts the commit of the sources into the binary as `TAIMAT_COMMIT`, so that a build can be told from another of the
//! same version. An environment variable of that name wins: builds from an archive have no repository to ask.

use std::path::Path;
use std::process::Command;

/// What a change of would make another binary.
const INPUTS: [&str; 4] = ["src", "build.rs", "Cargo.toml", "Cargo.lock"];

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .args(arguments)
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

/// The commit's first 12 digits, with `.modified` behind them if the sources differ from it; `unknown` without a repository.
fn commit() -> String {
    if let Ok(given) = std::env::var("TAIMAT_COMMIT") {
        return given;
    }
    let Some(hash) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".into() };
    let mut status = vec!["status", "--porcelain", "--"];
    status.extend(INPUTS);
    match git(&status) {
        Some(changes) if changes.is_empty() => hash,
        _ => format!("{hash}.modified"),
    }
}

fn main() {
    println!("cargo::rerun-if-env-changed=TAIMAT_COMMIT");
    for input in INPUTS {
        println!("cargo::rerun-if-changed={input}");
    }
    // The files that a commit or a checkout changes. One that is missing would run this script at each build.
    let branch = git(&["symbolic-ref", "-q", "HEAD"]);
    for name in ["HEAD"].into_iter().chain(branch.as_deref()) {
        if let Some(path) =
            git(&["rev-parse", "--git-path", name]).filter(|path| Path::new(path).exists())
        {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    println!("cargo::rustc-env=TAIMAT_COMMIT={}", commit());
}
