//! `taimat office config`: sends signed configurations to one device or to many.
//!
//! What belongs here: arguments, printing, exit codes. What does not: the session with the broker
//! ([`crate::office::rollout_driver`]), waves ([`crate::office::rollout`]), storage
//! ([`crate::office::config_store`]).

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;

use super::broker::{Broker, ended as ended_in_flags, signing_key};
use super::office_filter::ensure_known;
use super::text_diff::diff;
use super::{office_file, office_trail};
use crate::clock::{SystemClock, random_id};
use crate::escape::{shown, shown_json, shown_lines, shown_path};
use crate::office::archive::Archive;
use crate::office::config_template;
use crate::office::console::audit::record::{Act, Entry};
use crate::office::office_config::OfficeConfig;
use crate::office::rollout_driver::{
    self, Progress, ProposedChange, RolloutDriver, RolloutError, RolloutObserver, RolloutSummary,
    Signing,
};
use crate::regular_file::{Links, TEXT_MAX, read_text};
use crate::settings::parse;
use crate::units::{Digest, SiteId};
use crate::uplink::connection_end;

/// Arguments of `taimat office config`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: OfficeConfigCommand,
}

/// A push with its directory and broker completed from the configuration file.
fn completed(pushing: Pushing, config: &OfficeConfig) -> anyhow::Result<Pushing> {
    let dir = office_file::dir(pushing.dir, config)?;
    let broker = office_file::broker(pushing.broker, &config.broker);
    Ok(Pushing { dir: Some(dir), broker, ..pushing })
}

/// Arguments of every push.
#[derive(Debug, clap::Args)]
struct Pushing {
    /// The signing key (taimat keygen --office).
    #[arg(long, value_name = "KEY")]
    sign: PathBuf,
    /// The archive's directory: the office answers devices from there, with the document and its confirmation.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Seconds to wait until a device reports `committed` or a reason.
    #[arg(long, default_value_t = 900)]
    wait: u64,
    /// Validity of the document, hours.
    #[arg(long, default_value_t = 72)]
    valid: u32,
    /// Send without a question; required if stdin is no terminal.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    broker: Broker,
}

#[derive(Debug, clap::Subcommand)]
enum OfficeConfigCommand {
    /// Send a device its whole configuration, and wait until it is committed or fails.
    Push {
        /// The site.
        site: String,
        /// The TOML file for the device.
        file: PathBuf,
        #[command(flatten)]
        pushing: Pushing,
    },
    /// Send many devices configurations from one template, in waves. Stops at the first failure; run it again to continue.
    Fleet {
        /// TOML: template = "FILE", wave = 10, and a table [sites.ID] with the values of each device.
        plan: PathBuf,
        #[command(flatten)]
        pushing: Pushing,
    },
    /// Show the configuration report of a device.
    Show {
        /// The site.
        site: String,
        /// The archive's directory.
        #[arg(long)]
        dir: Option<PathBuf>,
        /// Show the text of the active configuration, if this office sent it.
        #[arg(long)]
        text: bool,
    },
    /// List the documents sent to a device, with their outcomes.
    History {
        /// The site.
        site: String,
        /// The archive's directory.
        #[arg(long)]
        dir: Option<PathBuf>,
        /// JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
}

/// Runs `taimat office config`. Exit code of a push: 0 if every device runs its configuration, 2 if
/// nothing was sent, for any cause, else 1.
///
/// # Errors
/// The archive cannot be read for `show` and `history`.
pub fn run(args: Args, config: &OfficeConfig) -> anyhow::Result<ExitCode> {
    let terminal = std::io::stdin().is_terminal();
    let outcome = match args.what {
        OfficeConfigCommand::Push { site, file, pushing } => one(&site, &file)
            .and_then(|texts| push(texts, 1, &completed(pushing, config)?, terminal)),
        OfficeConfigCommand::Fleet { plan, pushing } => planned(&plan)
            .and_then(|(texts, wave)| push(texts, wave, &completed(pushing, config)?, terminal)),
        OfficeConfigCommand::Show { site, dir, text } => {
            return show(&site, &office_file::dir(dir, config)?, text);
        }
        OfficeConfigCommand::History { site, dir, json } => {
            return history(&site, &office_file::dir(dir, config)?, json);
        }
    };
    Ok(outcome.unwrap_or_else(|error| nothing_sent(&format!("{error:#}"))))
}

/// The text for one device.
fn one(site: &str, file: &Path) -> anyhow::Result<BTreeMap<SiteId, String>> {
    let site = SiteId::parse(site).map_err(anyhow::Error::msg)?;
    let text = read_text(file, Links::Follow, TEXT_MAX).with_context(|| shown_path(file))?;
    Ok(BTreeMap::from([(site, text)]))
}

/// Bytes of a plan at most: some lines for each of a few thousand sites.
const PLAN_MAX: u64 = 16 << 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plan {
    template: PathBuf,
    #[serde(default = "ten")]
    wave: usize,
    sites: BTreeMap<String, BTreeMap<String, toml::Value>>,
}

fn ten() -> usize {
    10
}

/// The text of each device of a plan.
fn planned(path: &Path) -> anyhow::Result<(BTreeMap<SiteId, String>, usize)> {
    let text = read_text(path, Links::Follow, PLAN_MAX).with_context(|| shown_path(path))?;
    let plan: Plan = toml::from_str(&text).with_context(|| shown_path(path))?;
    let template_path = path.parent().unwrap_or(Path::new(".")).join(&plan.template);
    let template = read_text(&template_path, Links::Follow, TEXT_MAX)
        .with_context(|| shown_path(&template_path))?;
    let mut texts = BTreeMap::new();
    for (site, values) in plan.sites {
        let plain =
            |value: toml::Value| value.as_str().map_or_else(|| value.to_string(), String::from);
        let values = values.into_iter().map(|(name, value)| (name, plain(value))).collect();
        let filled = config_template::fill(&template, &site, &values)
            .map_err(|reason| anyhow::anyhow!("{site}: {reason}"))?;
        texts.insert(SiteId::parse(&site).map_err(anyhow::Error::msg)?, filled);
    }
    Ok((texts, plan.wave))
}

/// Checks schema and ranges. Files that the text names are on the device and are not checked.
fn judged(texts: &BTreeMap<SiteId, String>) -> Result<(), String> {
    let there = |_: &Path| Ok("user:password".to_owned());
    let wrong = texts.iter().filter_map(|(site, text)| match parse::parse(text, &there) {
        Ok(settings) if settings.site == *site => None,
        Ok(settings) => Some(format!("{site}: site is {:?}", settings.site.as_str())),
        Err(problems) => Some(format!("{site}:\n{problems}")),
    });
    let wrong: Vec<String> = wrong.collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

fn push(
    texts: BTreeMap<SiteId, String>,
    wave: usize,
    pushing: &Pushing,
    terminal: bool,
) -> anyhow::Result<ExitCode> {
    if let Err(wrong) = judged(&texts) {
        return Ok(nothing_sent(&format!("\n{wrong}")));
    }
    // Before the session: otherwise every attempt to connect would repeat the question.
    if !pushing.yes && !terminal {
        return Ok(nothing_sent("stdin is no terminal: use --yes to send without a question"));
    }
    let (key, key_id) = signing_key(&pushing.sign)?;
    let valid = Duration::from_secs(u64::from(pushing.valid) * 3600);
    let signing = Signing { key, key_id, valid };
    let dir = pushing.dir.as_deref().context("a push has a directory")?;
    let archive = Archive::open_existing(dir)?;
    let timeout = Duration::from_secs(pushing.wait);
    let mut driver = RolloutDriver::new(archive, signing, texts, wave, timeout)?;
    let options = pushing.broker.options(format!("taimat-config-{}", random_id()?))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(rollout_driver::run(
        &mut driver,
        options.clone(),
        pushing.broker.any_version(),
        &SystemClock::new(),
        &mut Terminal { yes: pushing.yes, archive: dir },
    ));
    runtime.shutdown_background();
    let summary = driver.summary();
    if let Err(error) = ended {
        let error = match error {
            RolloutError::Disconnected(reason) => {
                anyhow::Error::msg(ended_in_flags(&options, &reason))
            }
            RolloutError::Archive(error) => error.into(),
        };
        if summary.documents_sent == 0 {
            return Err(error);
        }
        eprintln!("{error:#}");
    }
    print_summary(&summary);
    Ok(exit_code(&summary))
}

/// Reports that nothing was sent and why; exit code 2.
fn nothing_sent(reason: &str) -> ExitCode {
    eprintln!("nothing was sent: {reason}");
    ExitCode::from(2)
}

/// 0 if every device runs its configuration, 2 if nothing was sent, else 1.
fn exit_code(summary: &RolloutSummary) -> ExitCode {
    if summary.is_complete() {
        ExitCode::SUCCESS
    } else if summary.documents_sent == 0 {
        ExitCode::from(2)
    } else {
        ExitCode::FAILURE
    }
}

/// Prints the outcome of each device and the next step.
fn print_summary(summary: &RolloutSummary) {
    let RolloutSummary { committed, already, open, waiting, failed, documents_sent } = summary;
    let without = if *open > 0 { format!(", {open} without an outcome") } else { String::new() };
    println!(
        "{committed} committed, {already} had it already, {} failed, {waiting} not begun{without}",
        failed.len()
    );
    if !failed.is_empty() {
        println!("{}", failed_line(failed));
    }
    if *documents_sent == 0 && !summary.is_complete() {
        println!("nothing was sent");
    } else if !failed.is_empty() {
        println!(
            "mend the cause of each failure, then run the command again; a text that failed its probe fails again"
        );
    } else if !summary.is_complete() {
        println!("run the same command again to continue");
    }
}

/// The sites that failed. The lines of progress hold the reasons.
fn failed_line(failed: &[(SiteId, String)]) -> String {
    let sites: Vec<&str> = failed.iter().map(|(site, _)| site.as_str()).collect();
    format!("failed, for the reasons above: {}", sites.join(", "))
}

/// Prints the progress of a rollout and asks before each wave.
struct Terminal<'a> {
    yes: bool,
    archive: &'a Path,
}

impl RolloutObserver for Terminal<'_> {
    fn progress(&mut self, progress: Progress) {
        match progress {
            Progress::Disconnected(_) => {
                eprintln!("{}", shown(&connection_end::in_flags(&progress.to_string())));
            }
            _ => println!("{}", shown(&progress.to_string())),
        }
    }

    fn confirm(&mut self, changes: &[ProposedChange]) -> bool {
        for ProposedChange { site, running, old, new } in changes {
            match old {
                Some(old) => {
                    println!("--- {site} now\n+++ {site} then\n{}", shown_lines(&diff(old, new)));
                }
                None => println!(
                    "{site}: this office did not send its configuration ({}), so no difference can be shown: \
                     `taimat office cmd {site} config-show --sign KEY` prints the text of the device",
                    &running.hex()[..12]
                ),
            }
        }
        (self.yes || asked(changes.len())) && recorded(self.archive, changes)
    }
}

/// Records each configuration before it is sent; without its record none is.
fn recorded(archive: &Path, changes: &[ProposedChange]) -> bool {
    for ProposedChange { site, new, .. } in changes {
        let digest = Digest::of(new.as_bytes()).hex();
        let entry = Entry::of(Act::DeviceCommand).site(site).object("config-push").object(digest);
        if let Err(error) = office_trail::record(archive, entry) {
            eprintln!("{site}: not sent, for the audit trail has no record of it: {error:#}");
            return false;
        }
    }
    true
}

/// Asks the operator. No answer is no.
fn asked(devices: usize) -> bool {
    print!("send to {devices} device(s)? [y/N] ");
    let mut answer = String::new();
    std::io::stdout().flush().is_ok()
        && std::io::stdin().read_line(&mut answer).is_ok()
        && matches!(answer.trim(), "y" | "Y" | "yes")
}

fn show(site: &str, dir: &Path, text: bool) -> anyhow::Result<ExitCode> {
    let site = SiteId::parse(site).map_err(anyhow::Error::msg)?;
    let archive = Archive::open_read_only(dir)?;
    let report = archive
        .reported(&site)?
        .with_context(|| format!("{site} has not reported its configuration"))?;
    if !text {
        println!("{}", shown_json(&report)?);
        return Ok(ExitCode::SUCCESS);
    }
    let sha256 = report["sha256"].as_str().and_then(Digest::from_hex).unwrap_or_default();
    let text = archive.config_text(&site, &sha256)?;
    let missing = || {
        format!(
            "this office did not send {}: ask the device (office cmd {site} config-show)",
            sha256.hex()
        )
    };
    super::print_text(&text.with_context(missing)?);
    Ok(ExitCode::SUCCESS)
}

fn history(site: &str, dir: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let site = SiteId::parse(site).map_err(anyhow::Error::msg)?;
    let archive = Archive::open_read_only(dir)?;
    let rows = archive.configs(&site)?;
    if rows.is_empty() {
        ensure_known(&archive, site.as_str())?;
    }
    if json {
        println!("{}", shown_json(&rows)?);
        return Ok(ExitCode::SUCCESS);
    }
    println!("made                      version  sha256        outcome");
    for row in rows {
        println!(
            "{:24}  {:>7}  {}  {}",
            row.made,
            row.version,
            &row.sha256[..12],
            shown(&row.outcome)
        );
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pushing(yes: bool) -> Pushing {
        let broker = Broker {
            broker: None,
            port: Some(9),
            ca: None,
            cert: None,
            key: None,
            login: None,
            allow_plain: false,
            protocol: None,
        };
        Pushing {
            sign: "/gone/key".into(),
            dir: Some("/gone".into()),
            wait: 1,
            valid: 1,
            yes,
            broker,
        }
    }

    fn code(outcome: ExitCode) -> String {
        format!("{outcome:?}")
    }

    #[test]
    fn a_push_without_an_answer_ends_before_it_connects() {
        let outcome =
            |yes, terminal| push(BTreeMap::new(), 1, &pushing(yes), terminal).map(code).ok();
        assert_eq!(outcome(false, false), Some(code(ExitCode::from(2))));
        assert_eq!([outcome(true, false), outcome(false, true)], [None, None], "the key is read");
    }

    #[test]
    fn a_push_without_a_readable_file_or_key_exits_with_2() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().join("plan.toml");
        std::fs::write(&there, "template = \"plan.toml\"\n[sites]\n").unwrap();
        for plan in [there, dir.path().join("gone.toml")] {
            let what = OfficeConfigCommand::Fleet { plan, pushing: pushing(true) };
            assert_eq!(
                code(run(Args { what }, &OfficeConfig::default()).unwrap()),
                code(ExitCode::from(2))
            );
        }
    }

    fn taimat(args: &[&str]) -> String {
        use clap::Parser as _;
        let args = std::iter::once("taimat").chain(args.iter().copied());
        code(crate::cli::run(crate::cli::Cli::try_parse_from(args).unwrap()).unwrap())
    }

    #[test]
    fn a_push_to_a_refusing_broker_exits_with_2() {
        use std::io::Read as _;
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        taimat(&["keygen", "--office", "office", "--dir", &at("")]);
        let text = "site = \"km-17\"\nstorage.dir = \"/ring\"\nuplink.host = \"localhost\"\n\
                    camera.main_url = \"rtsp://127.0.0.1/main\"\n";
        std::fs::write(at("km-17.toml"), text).unwrap();
        let broker = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = broker.local_addr().unwrap().port().to_string();
        let refusing = std::thread::spawn(move || {
            let (mut stream, _) = broker.accept().unwrap();
            let _ = stream.read(&mut [0; 512]).unwrap();
            // CONNACK, MQTT 5: not authorized.
            stream.write_all(&[0x20, 3, 0, 0x87, 0]).unwrap();
        });
        let (file, sign, archive) = (at("km-17.toml"), at("office.sign.key"), at("archive"));
        Archive::open(Path::new(&archive)).unwrap();
        let push = ["office", "config", "push", "km-17", &file, "--yes", "--port", &port];
        let files = ["--sign", &sign, "--dir", &archive];
        assert_eq!(taimat(&[&push[..], &files[..]].concat()), code(ExitCode::from(2)));
        refusing.join().unwrap();
    }

    #[test]
    fn exit_codes_say_complete_failed_or_nothing_sent() {
        let summary = |documents_sent: usize, failed: &[&str]| RolloutSummary {
            documents_sent,
            failed: failed
                .iter()
                .map(|site| (SiteId::parse(site).unwrap(), "scope".to_owned()))
                .collect(),
            ..RolloutSummary::default()
        };
        let codes = [summary(0, &[]), summary(1, &[]), summary(0, &["a"]), summary(1, &["a"])]
            .map(|summary| code(exit_code(&summary)));
        let wanted = [0, 0, 2, 1].map(|number| code(ExitCode::from(number)));
        assert_eq!(codes, wanted);
    }
}
