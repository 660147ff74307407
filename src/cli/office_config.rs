//! `taimat office config`: signed configurations to one device or to many.
//!
//! What belongs here: words for people, the session with the broker. What does not: waves ([`crate::office::rollout`]), what is kept
//! ([`crate::office::config_store`]).
#![expect(clippy::disallowed_methods, reason = "shell: reads a clock, waits, draws random numbers")]

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde::Deserialize;
use serde_json::Value;

use super::office::{Broker, options};
use super::text_diff::diff;
use crate::clock::{Clock as _, SystemClock};
use crate::escape::{shown, shown_json, shown_lines};
use crate::office::archive::Archive;
use crate::office::config_template;
use crate::office::rollout::{Rollout, Send, TargetState};
use crate::regular_file::{Links, TEXT_MAX, read_text};
use crate::remote_config::signed_document::Document;
use crate::settings::{key_id, parse};
use crate::units::{Digest, MonoTime, SiteId};
use crate::uplink::client::{self, ClientEvent, Sender};
use crate::uplink::topics;

/// What an office hears of configurations.
const ALL_REPORTED: &str = "taimat/v1/+/up/config/reported";
/// How often waves are looked at while nothing comes.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Arguments of `taimat office config`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: OfficeConfigCommand,
}

/// What every push needs.
#[derive(Debug, clap::Args)]
struct Pushing {
    /// The signing key (taimat keygen --office).
    #[arg(long, value_name = "KEY")]
    sign: PathBuf,
    /// The archive's directory: devices that ask get the document from there, and their confirmation.
    #[arg(long)]
    dir: PathBuf,
    /// Seconds a device may take until it says committed, or why not.
    #[arg(long, default_value_t = 900)]
    wait: u64,
    /// Hours the document stays valid.
    #[arg(long, default_value_t = 72)]
    valid: u32,
    /// Send without asking; needed where stdin is no terminal.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    broker: Broker,
}

#[derive(Debug, clap::Subcommand)]
enum OfficeConfigCommand {
    /// Send a device its whole configuration and wait until it is committed, or why it is not.
    Push {
        /// The site.
        site: String,
        /// The TOML file, as it would stand on the device.
        file: PathBuf,
        #[command(flatten)]
        pushing: Pushing,
    },
    /// Send many devices theirs, made from one template, in waves; stops when one fails, and goes on when it is run again.
    Fleet {
        /// TOML: template = "FILE", wave = 10, and a table [sites.ID] with the values of each device.
        plan: PathBuf,
        #[command(flatten)]
        pushing: Pushing,
    },
    /// Show what a device runs, as it reported it.
    Show {
        /// The site.
        site: String,
        /// The archive's directory.
        #[arg(long)]
        dir: PathBuf,
        /// The text in force instead, where it was sent from here.
        #[arg(long)]
        text: bool,
    },
    /// List what was sent to a device, and how each ended.
    History {
        /// The site.
        site: String,
        /// The archive's directory.
        #[arg(long)]
        dir: PathBuf,
        /// JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
}

/// Carries it out: exit code 0 when everything is committed, 1 when a device failed, 2 when nothing could be sent.
///
/// # Errors
/// When the archive, the key or the broker cannot be used.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.what {
        OfficeConfigCommand::Push { site, file, pushing } => {
            let site = SiteId::parse(&site).map_err(anyhow::Error::msg)?;
            let text = read_text(&file, Links::Follow, TEXT_MAX)
                .with_context(|| file.display().to_string())?;
            push(BTreeMap::from([(site, text)]), 1, &pushing, std::io::stdin().is_terminal())
        }
        OfficeConfigCommand::Fleet { plan, pushing } => {
            let (texts, wave) = planned(&plan)?;
            push(texts, wave, &pushing, std::io::stdin().is_terminal())
        }
        OfficeConfigCommand::Show { site, dir, text } => show(&site, &dir, text),
        OfficeConfigCommand::History { site, dir, json } => history(&site, &dir, json),
    }
}

/// Bytes of a plan at most: some lines for each of a few thousand sites.
const PLAN_MAX: u64 = 16 << 20;

/// Reads a signing key.
///
/// # Errors
/// Names the file that is none.
pub fn signing_key(path: &Path) -> anyhow::Result<(Ed25519KeyPair, String)> {
    use rustls_pki_types::PrivateKeyDer;
    use rustls_pki_types::pem::PemObject as _;
    let text =
        read_text(path, Links::Follow, TEXT_MAX).with_context(|| path.display().to_string())?;
    let der = PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_der());
    let pair =
        pair.map_err(|error| anyhow::anyhow!("{}: no Ed25519 key: {error}", path.display()))?;
    let mut public = [0; 32];
    public.copy_from_slice(pair.public_key().as_ref());
    Ok((pair, key_id(&public)))
}

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
    let text =
        read_text(path, Links::Follow, PLAN_MAX).with_context(|| path.display().to_string())?;
    let plan: Plan = toml::from_str(&text).with_context(|| path.display().to_string())?;
    let template_path = path.parent().unwrap_or(Path::new(".")).join(&plan.template);
    let template = read_text(&template_path, Links::Follow, TEXT_MAX)
        .with_context(|| template_path.display().to_string())?;
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

/// What can be judged here: schema and ranges. Files that the text names lie on the device.
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
        eprintln!("nothing was sent:\n{wrong}");
        return Ok(ExitCode::from(2));
    }
    // Before the session: a question without an answer would be asked in each of its tries.
    if !pushing.yes && !terminal {
        eprintln!(
            "nothing was sent: stdin is no terminal, so there is no one to ask: --yes sends without asking"
        );
        return Ok(ExitCode::from(2));
    }
    let (key, key_id) = signing_key(&pushing.sign)?;
    let archive = Archive::open(&pushing.dir)?;
    let mut used = BTreeMap::new();
    for site in texts.keys() {
        let prefix = format!("{key_id}-");
        let highest = archive
            .configs(site)?
            .into_iter()
            .filter(|row| row.id.starts_with(&prefix))
            .map(|row| row.version)
            .max();
        used.extend(highest.map(|highest| (site.clone(), highest)));
    }
    let office = Office { key, key_id, archive, clock: SystemClock::new(), pushing };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut rollout =
        Rollout::new(&office.key_id, texts, used, wave, Duration::from_secs(pushing.wait));
    let outcome = runtime.block_on(office.drive(&mut rollout));
    runtime.shutdown_background();
    let sent = outcome?;
    summary(&rollout);
    let failed = rollout.is_stopped();
    Ok(if failed {
        ExitCode::FAILURE
    } else if sent {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(2)
    })
}

/// The last lines: how each device ended, and what to do next.
fn summary(rollout: &Rollout) {
    let count = |wanted: fn(&TargetState) -> bool| {
        rollout.states().filter(|(_, state)| wanted(state)).count()
    };
    let (committed, already) = (
        count(|state| *state == TargetState::Committed),
        count(|state| *state == TargetState::Already),
    );
    let (failed, untouched) = (
        count(|state| matches!(state, TargetState::Failed(_))),
        count(|state| *state == TargetState::Waiting),
    );
    println!(
        "{committed} committed, {already} had it already, {failed} failed, {untouched} not begun"
    );
    for (site, state) in rollout.states() {
        if let TargetState::Failed(reason) = state {
            println!("{site} FAILED: {}", shown(reason));
        }
    }
    if failed > 0 && untouched > 0 {
        println!("stopped: run the same command again to go on");
    }
}

struct Office<'a> {
    key: Ed25519KeyPair,
    key_id: String,
    archive: Archive,
    clock: SystemClock,
    pushing: &'a Pushing,
}

impl Office<'_> {
    /// One session until everything has ended; false when nobody wanted it sent.
    async fn drive(&self, rollout: &mut Rollout) -> anyhow::Result<bool> {
        let options = options(
            &self.pushing.broker,
            format!("taimat-config-{}", &Digest::of(&seed()?).hex()[..12]),
        )?;
        let mut lost = 0;
        loop {
            match self.session(&options, rollout).await {
                Ok(wanted) => return Ok(wanted),
                // What is under way goes on without us; reports are retained.
                Err(error) if lost < 20 => {
                    lost += 1;
                    eprintln!("{error:#}; trying again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn session(
        &self,
        options: &client::Options,
        rollout: &mut Rollout,
    ) -> anyhow::Result<bool> {
        let (sender, mut connection) = client::connect(options);
        sender.subscribe(&[ALL_REPORTED.to_owned()]);
        let started = Instant::now();
        loop {
            // Cut short between polls is a lost event: so each poll is awaited to its end, and looked away from only in between.
            let seen = {
                let mut poll = std::pin::pin!(connection.poll());
                loop {
                    match tokio::time::timeout(POLL_INTERVAL, &mut poll).await {
                        Ok(seen) => break seen,
                        Err(_) if !self.step(rollout, &sender, started)? => return Ok(false),
                        Err(_) if rollout.is_over() => return Ok(true),
                        Err(_) => {}
                    }
                }
            };
            match seen {
                Ok(ClientEvent::Message(topic, payload)) => {
                    let site = topics::read_up(&topic).map(|(site, _)| site);
                    let report = serde_json::from_slice::<Value>(&payload);
                    if let (Some(site), Ok(report)) = (site, report) {
                        self.reported(rollout, &site, report);
                    }
                }
                Ok(_) => {}
                Err(ended) => {
                    bail!("{}:{}: {}", options.host, options.port, client::in_flags(&ended.reason))
                }
            }
            if !self.step(rollout, &sender, started)? {
                return Ok(false);
            }
            if rollout.is_over() {
                return Ok(true);
            }
        }
    }

    fn reported(&self, rollout: &mut Rollout, site: &SiteId, report: Value) {
        let word = |report: Option<&Value>| {
            report.and_then(|report| report["phase"].as_str()).unwrap_or("?").to_owned()
        };
        let (before, now) = (word(rollout.report(site)), word(Some(&report)));
        let sent = rollout
            .states()
            .any(|(other, state)| other == site && matches!(state, TargetState::Sent(..)));
        if let Some(state) = rollout.reported(site, report) {
            println!("{site}: {}", shown(&describe_state(&state)));
        } else if sent && before != now {
            println!("{site}: {}", shown(&now));
        }
    }

    /// Sends what is due; false when nobody wanted it sent.
    fn step(
        &self,
        rollout: &mut Rollout,
        sender: &Sender,
        started: Instant,
    ) -> anyhow::Result<bool> {
        let now = MonoTime(started.elapsed().as_micros() as u64);
        let sends = rollout.next(now, |site, state| {
            if !matches!(state, TargetState::Sent(..)) {
                println!("{site}: {}", shown(&describe_state(state)));
            }
        });
        if sends.is_empty() {
            return Ok(true);
        }
        if !self.wanted(&sends)? {
            return Ok(false);
        }
        for send in sends {
            let now = self.clock.now().wall;
            let not_after =
                now.plus_micros(i64::from(self.pushing.valid) * 3_600_000_000).rfc3339();
            let Send { site, version, prev, text } = send;
            let document = Document {
                v: 1,
                site: site.to_string(),
                version,
                prev_sha256: prev,
                not_after,
                config: text,
                sig: None,
            };
            let document = document.signed(&self.key);
            self.archive.store_config(&document, &now.rfc3339())?;
            // Retained for who comes later; and as an answer, for a device that does not listen to what is retained any more.
            for (tail, retain) in [("config/desired", true), ("config/answer", false)] {
                ensure!(
                    sender.publish(1, &topics::dn(&site, tail), document.encode(), retain),
                    "the broker takes nothing"
                );
            }
            println!("{site}: sent {}-{version}", self.key_id);
        }
        Ok(true)
    }

    /// Shows what would change, and asks.
    fn wanted(&self, sends: &[Send]) -> anyhow::Result<bool> {
        for Send { site, prev, text, .. } in sends {
            match self.archive.config_text(site, prev)? {
                Some(old) => {
                    println!("--- {site} now\n+++ {site} then\n{}", shown_lines(&diff(&old, text)))
                }
                None => println!(
                    "{site}: what runs there ({}) was not sent from here: the whole text is new",
                    &prev.hex()[..12]
                ),
            }
        }
        if self.pushing.yes {
            return Ok(true);
        }
        print!("send to {} box(es)? [y/N] ", sends.len());
        std::io::stdout().flush()?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }
}

fn describe_state(state: &TargetState) -> String {
    match state {
        TargetState::Waiting => "waits for its wave".into(),
        TargetState::Asked(_) => "asked".into(),
        TargetState::Sent(_, id) => format!("sent {id}"),
        TargetState::Committed => "committed".into(),
        TargetState::Already => "runs it already".into(),
        TargetState::Failed(reason) => format!("FAILED: {reason}"),
    }
}

fn seed() -> anyhow::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    let filled = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes);
    filled.ok().context("the system gives no randomness")?;
    Ok(bytes)
}

fn show(site: &str, dir: &Path, text: bool) -> anyhow::Result<ExitCode> {
    let site = SiteId::parse(site).map_err(anyhow::Error::msg)?;
    let archive = Archive::open(dir)?;
    let report =
        archive.reported(&site)?.with_context(|| format!("{site} has never said what it runs"))?;
    if !text {
        println!("{}", shown_json(&report)?);
        return Ok(ExitCode::SUCCESS);
    }
    let sha256 = report["sha256"].as_str().and_then(Digest::from_hex).unwrap_or_default();
    let text = archive.config_text(&site, &sha256)?;
    let missing = || {
        format!(
            "{} was not sent from here: ask the box (office cmd {site} config-show)",
            sha256.hex()
        )
    };
    super::print_text(&text.with_context(missing)?);
    Ok(ExitCode::SUCCESS)
}

fn history(site: &str, dir: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let site = SiteId::parse(site).map_err(anyhow::Error::msg)?;
    let rows = Archive::open(dir)?.configs(&site)?;
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
            broker: "127.0.0.1".into(),
            port: Some(9),
            ca: None,
            cert: None,
            key: None,
            login: None,
            allow_plain: false,
            protocol: "auto".into(),
        };
        Pushing { sign: "/gone/key".into(), dir: "/gone".into(), wait: 1, valid: 1, yes, broker }
    }

    #[test]
    fn a_push_that_can_ask_nobody_ends_before_it_connects() {
        let (two, error) =
            (format!("{:?}", ExitCode::from(2)), "an error about the key".to_owned());
        let outcome = |yes: bool, terminal: bool| {
            push(BTreeMap::new(), 1, &pushing(yes), terminal)
                .map_or(error.clone(), |code| format!("{code:?}"))
        };
        assert_eq!(outcome(false, false), two);
        assert_eq!(
            [outcome(true, false), outcome(false, true)],
            [error.clone(), error.clone()],
            "the key is looked at then"
        );
    }
}
