//! `taimat office`.
#![expect(clippy::disallowed_methods, reason = "shell: reads a clock, waits, draws random numbers")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::office_filter::{EVENT_KINDS, FILE_KINDS, Wanted, explain_empty, filter};
use super::office_print::{Lines, show, show_check};
use super::run::on_signal;
use crate::clock::{Clock as _, SystemClock};
use crate::escape::{shown, shown_json};
use crate::office::archive::Archive;
use crate::office::archive_lock::claim;
use crate::office::index;
use crate::office::retention::Retention;
use crate::office::service::{self, OfficeService};
use crate::regular_file::{Links, TEXT_MAX, read_text};
use crate::remote_config::signed_command::{CommandRequest, EVERY, add_signature};
use crate::settings::{Login, Protocol, TlsSettings, parse};
use crate::units::{Digest, Secret, SiteId, WallTime};
use crate::uplink::client::{self, ClientEvent, Disconnected, Options};
use crate::uplink::failover::ConnectFault;
use crate::uplink::{tls, topics};

/// Seconds a command stays valid: a device that comes back later must not act on yesterday's wish.
const COMMAND_VALID: i64 = 3600;
/// Free bytes below which who looks at an archive is warned: a few files of one site.
const ALMOST_FULL: u64 = 64 << 20;

/// Arguments of `taimat office`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: OfficeCommand,
}

/// How to reach the broker.
#[derive(Debug, clap::Args)]
pub(super) struct Broker {
    /// Host name or address.
    #[arg(long, default_value = "127.0.0.1")]
    pub(super) broker: String,
    /// Port; 8883 with --ca, else 1883.
    #[arg(long)]
    pub(super) port: Option<u16>,
    /// PEM of the broker's authority: switches TLS on.
    #[arg(long)]
    pub(super) ca: Option<PathBuf>,
    /// PEM certificate chain of the office.
    #[arg(long, requires_all = ["ca", "key"])]
    pub(super) cert: Option<PathBuf>,
    /// PEM key of the office.
    #[arg(long, requires = "cert")]
    pub(super) key: Option<PathBuf>,
    /// A file with one line user:password.
    #[arg(long)]
    pub(super) login: Option<PathBuf>,
    /// Allow a broker on another machine without TLS: everything, the password too, is readable on the way.
    #[arg(long)]
    pub(super) allow_plain: bool,
    /// MQTT version; auto is 5, and 3.1.1 where that fails.
    #[arg(long, default_value = "auto", value_parser = ["auto", "5", "3.1.1"])]
    pub(super) protocol: String,
}

#[derive(Debug, clap::Subcommand)]
enum OfficeCommand {
    /// Receive and keep what the devices send, until a signal.
    Run {
        /// Where the archive is, or goes.
        #[arg(long)]
        dir: PathBuf,
        /// Name of this archive in its presence topic.
        #[arg(long, default_value = "office")]
        host: String,
        /// Only this site; may be given several times. Several offices may share the sites among them.
        #[arg(long)]
        site: Vec<String>,
        /// Let files and events go so many days after they were received; 0 keeps them.
        #[arg(long, default_value_t = 0)]
        keep_days: u32,
        /// Beyond so many GiB let the oldest files go of the site that holds most, down to 1 GiB or its newest day; 0 keeps them.
        #[arg(long, default_value_t = 0)]
        keep_gib: u64,
        #[command(flatten)]
        broker: Broker,
    },
    /// Show the sites: state, events kept, numbers missing.
    Sites {
        /// The archive's directory.
        #[arg(long)]
        dir: PathBuf,
        /// JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Show events.
    Events(Wanted),
    /// Show clips, snapshots and requested ranges.
    Clips(Wanted),
    /// Show numbers that are not here: missing, on their way, or dropped and why.
    Gaps(Wanted),
    /// Compare the index with the files and name every difference; exit code 1 when there is one. The office may run meanwhile.
    Check {
        /// The archive's directory.
        #[arg(long)]
        dir: PathBuf,
        /// Read and hash every stored file too.
        #[arg(long)]
        deep: bool,
        /// JSON instead of lines.
        #[arg(long)]
        json: bool,
    },
    /// Keep everything of a site between two moments, whatever the retention says; or show and end such locks.
    Lock {
        /// The archive's directory.
        #[arg(long)]
        dir: PathBuf,
        /// The site.
        #[arg(long, requires_all = ["from", "to", "reason"])]
        site: Option<String>,
        /// Begin, RFC 3339.
        #[arg(long)]
        from: Option<String>,
        /// End, likewise.
        #[arg(long)]
        to: Option<String>,
        /// Why.
        #[arg(long)]
        reason: Option<String>,
        /// End the lock of this number.
        #[arg(long, conflicts_with = "site")]
        end: Option<i64>,
    },
    /// Write an event with its clips, snapshot, manifests and digests into a new directory.
    Export {
        /// The archive's directory.
        #[arg(long)]
        dir: PathBuf,
        /// The site.
        #[arg(long)]
        site: String,
        /// Id of any event of a motion event (its start, an update, its end), or req_id of a clip-get.
        #[arg(long)]
        event: String,
        /// Where to; must not exist.
        #[arg(long)]
        out: PathBuf,
        /// Leave out files that are missing or have changed, and name them; exit code 1 when there are any.
        #[arg(long)]
        skip_bad: bool,
    },
    /// Send a command to a device and show its answer, e.g. `cmd km-17 clip-get from=2026-11-24T02:05:00Z to=2026-11-24T02:15:00Z`.
    Cmd {
        /// The site, or `fleet_sim` for every box (each answers within `within` seconds; the first answer is shown).
        site: String,
        /// The command: clip-get (from, to), clip-cancel (fid), snapshot, event-get (ring, seq), lock (from, to, reason), unlock (id),
        /// locks, ring-status, log-tail (lines), restart (boot), ping, config-show, config-check (config=@FILE, probe=yes).
        name: String,
        /// Arguments, key=value; key=@FILE takes the value from a file.
        args: Vec<String>,
        /// The key to sign it with (taimat keygen --office), where the device asks for that.
        #[arg(long)]
        sign: Option<PathBuf>,
        /// Seconds to wait for the answer.
        #[arg(long, default_value_t = 30)]
        wait: u64,
        #[command(flatten)]
        broker: Broker,
    },
    /// Send devices their configuration, and look at it.
    Config(super::office_config::Args),
}

/// Carries it out.
///
/// # Errors
/// When the archive or the broker cannot be used.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.what {
        OfficeCommand::Run { dir, host, site, keep_days, keep_gib, broker } => {
            let retention = Retention::new(keep_days, keep_gib << 30);
            let sites = site
                .iter()
                .map(|site| SiteId::parse(site))
                .collect::<Result<_, _>>()
                .map_err(anyhow::Error::msg)?;
            receive(&dir, host, sites, retention, &broker)
        }
        OfficeCommand::Sites { dir, json } => {
            warn_of_full(&dir);
            let rows = Archive::open_read_only(&dir)?.sites()?;
            show(
                json,
                &rows,
                "site            state   last message              events  highest  missing  files",
                |row| {
                    let (state, seen) = (&row.state, &row.seen);
                    format!(
                        "{:15} {state:7} {seen:24} {:>7} {:>8} {:>8} {:>6}",
                        row.site, row.events, row.highest_seq, row.missing_seq, row.files
                    )
                },
            )
        }
        OfficeCommand::Events(lines) => {
            let wanted = filter(&lines)?;
            let archive = Archive::open_read_only(&lines.dir)?;
            let rows = archive.events(&wanted)?;
            explain_empty(&archive, &lines, rows.is_empty(), &EVENT_KINDS)?;
            show(
                lines.json,
                &rows,
                "site            number  time                      id                          kind",
                |row| {
                    format!(
                        "{:15} {:>6}  {:24}  {:26}  {}",
                        row.site, row.seq, row.time, row.id, row.kind
                    )
                },
            )
        }
        OfficeCommand::Clips(lines) => {
            let wanted = filter(&lines)?;
            let archive = Archive::open_read_only(&lines.dir)?;
            let rows = archive.files(&wanted)?;
            explain_empty(&archive, &lines, rows.is_empty(), &FILE_KINDS)?;
            show(
                lines.json,
                &rows,
                "site            what       from                          bytes  event                       file",
                |row| {
                    let (path, event) = (row.path.display(), &row.event);
                    format!(
                        "{:15} {:9}  {:24}  {:>9}  {event:26}  {path}",
                        row.site, row.purpose, row.start, row.size
                    )
                },
            )
        }
        OfficeCommand::Gaps(lines) => {
            let wanted = filter(&lines)?;
            let archive = Archive::open_read_only(&lines.dir)?;
            let rows = archive.gaps(&wanted)?;
            explain_empty(&archive, &lines, rows.is_empty(), &[])?;
            show(
                lines.json,
                &rows,
                "site            ring                 first     last  why",
                |row| {
                    format!(
                        "{:15} {:16} {:>9} {:>8}  {}",
                        row.site, row.ring, row.first, row.last, row.why
                    )
                },
            )
        }
        OfficeCommand::Check { dir, deep, json } => {
            warn_of_full(&dir);
            show_check(&Archive::open_read_only(&dir)?.check(deep)?, json)
        }
        OfficeCommand::Lock { dir, site, from, to, reason, end } => {
            let mut archive = Archive::open_read_only(&dir)?;
            if let (Some(site), Some(reason)) = (site, reason) {
                let moment = |text: Option<String>| {
                    WallTime::parse(&text.unwrap_or_default()).map_err(anyhow::Error::msg)
                };
                let (from, to, now) = (moment(from)?, moment(to)?, SystemClock::new().now().wall);
                archive.lock(&site, (&from.rfc3339(), &to.rfc3339()), &reason, &now.rfc3339())?;
            } else if let Some(id) = end {
                anyhow::ensure!(archive.unlock(id)?, "there is no lock {id}");
            }
            show(
                false,
                &archive.locks()?,
                "lock  site            from                      to                        reason",
                |row| {
                    format!(
                        "{:>4}  {:15} {:24}  {:24}  {}",
                        row.id, row.site, row.start, row.end, row.reason
                    )
                },
            )
        }
        OfficeCommand::Export { dir, site, event, out, skip_bad } => {
            export(&dir, (&site, &event), &out, skip_bad)
        }
        OfficeCommand::Cmd { site, name, args, sign, wait, broker } => {
            command(&site, &name, &args, sign.as_deref(), wait, &broker)
        }
        OfficeCommand::Config(args) => super::office_config::run(args),
    }
}

fn export(
    dir: &Path,
    (site, event): (&str, &str),
    out: &Path,
    skip_bad: bool,
) -> anyhow::Result<ExitCode> {
    let archive = Archive::open_read_only(dir)?;
    let (files, events, bad) = if skip_bad {
        archive.export_good(site, event, out)?
    } else {
        let (files, events) = archive.export(site, event, out)?;
        (files, events, Vec::new())
    };
    bad.iter().for_each(|bad| eprintln!("left out: {}", shown(bad)));
    println!(
        "{files} files and {events} events in {}; check them with sha256sum -c SHA256SUMS",
        out.display()
    );
    Ok(if bad.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// An archive whose disk is all but full refuses messages, or soon will: who looks at it is reported.
fn warn_of_full(dir: &Path) {
    if let Some(free) = index::free(dir).ok().filter(|free| *free < ALMOST_FULL) {
        let dir = dir.display();
        eprintln!(
            "WARNING: {dir}: {free} bytes are free on the archive's disk. Without room nothing is kept or receipted, the devices keep \
             it and send it again: make room"
        );
    }
}

pub(super) fn options(broker: &Broker, client_id: String) -> anyhow::Result<Options> {
    let (host, plain) = (&broker.broker, broker.ca.is_none() && !parse::is_local(&broker.broker));
    if plain && !broker.allow_plain {
        bail!(
            "{host} is another machine: give --ca, or --allow-plain to send everything, a password too, readable on the way"
        );
    }
    if plain && broker.login.is_some() {
        tracing::warn!(broker = %host, "the password goes unencrypted to the broker (--allow-plain): use --ca");
    }
    let tls = broker.ca.as_ref().map(|ca| TlsSettings {
        ca: ca.clone(),
        identity: broker.cert.clone().zip(broker.key.clone()),
    });
    let login = match &broker.login {
        None => None,
        Some(path) => {
            let text = read_text(path, Links::Follow, TEXT_MAX)
                .with_context(|| path.display().to_string())?;
            let (user, password) = text
                .trim_end()
                .split_once(':')
                .with_context(|| format!("{}: one line user:password", path.display()))?;
            Some(Login { user: user.into(), password: Secret::new(password) })
        }
    };
    Ok(Options {
        client_id,
        host: broker.broker.clone(),
        port: broker.port.unwrap_or(if tls.is_some() { 8883 } else { 1883 }),
        tls: tls.as_ref().map(|tls| tls::config(tls, None)).transpose()?,
        login,
        keep_alive: 30,
        protocol: if broker.protocol == "3.1.1" { Protocol::V311 } else { Protocol::V5 },
        will: None,
    })
}

fn receive(
    dir: &Path,
    host: String,
    sites: Vec<SiteId>,
    retention: Retention,
    broker: &Broker,
) -> anyhow::Result<ExitCode> {
    let _claimed = claim(dir)?;
    let archive = Archive::open(dir)?;
    let options = options(broker, format!("taimat-office-{host}"))?;
    let office =
        OfficeService { options, any_version: broker.protocol == "auto", host, sites, retention };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stop = on_signal()?;
        let (_none, commands) = mpsc::channel(1);
        let mut lines = Lines::start()?;
        service::run(archive, office, commands, stop, |notice| lines.report(notice)).await?;
        anyhow::Ok(ExitCode::SUCCESS)
    })
}

fn command(
    site: &str,
    name: &str,
    pairs: &[String],
    sign: Option<&Path>,
    wait: u64,
    broker: &Broker,
) -> anyhow::Result<ExitCode> {
    let whom =
        (site != "fleet").then(|| SiteId::parse(site)).transpose().map_err(anyhow::Error::msg)?;
    let now = SystemClock::new().now().wall;
    let mut bytes = [0; 16];
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes);
    let req_id = Digest::of(&bytes).hex()[..16].to_owned();
    let mut body = Map::new();
    for pair in pairs {
        let (key, value) =
            pair.split_once('=').with_context(|| format!("{pair:?} is not key=value"))?;
        let value = match value.strip_prefix('@') {
            Some(path) => json!(
                read_text(Path::new(path), Links::Follow, TEXT_MAX)
                    .with_context(|| path.to_owned())?
            ),
            // What is signed is text.
            None if sign.is_some() => json!(value),
            // Numbers and lists are written as JSON, everything else is text.
            None => serde_json::from_str(value)
                .ok()
                .filter(|read: &Value| !read.is_string())
                .unwrap_or_else(|| json!(value)),
        };
        body.insert(key.into(), value);
    }
    let expires = now.plus_micros(COMMAND_VALID * 1_000_000).rfc3339();
    if let Some(path) = sign {
        let (key, _) = super::office_config::signing_key(path)?;
        let asked = CommandRequest { name, req_id: &req_id, expires: Some(&expires), args: &body };
        let whom = whom.as_ref().map_or(EVERY, SiteId::as_str);
        body = add_signature(whom, asked, now.0.unsigned_abs(), &key)
            .map_err(|refusal| anyhow::anyhow!(refusal.line()))?;
    }
    body.insert("req_id".into(), json!(req_id));
    body.insert("expires".into(), json!(expires));
    let mut options = options(broker, format!("taimat-cmd-{req_id}"))?;
    let (topic, answers) = match &whom {
        None => (topics::fleet(name), topics::ALL_ANSWERS.to_owned()),
        Some(whom) => (topics::dn(whom, &format!("cmd/{name}")), topics::up(whom, "rsp")),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let body = serde_json::to_vec(&Value::Object(body))?;
    let until = Instant::now() + Duration::from_secs(wait);
    let mut asked =
        runtime.block_on(send_command(&options, &answers, &topic, &body, &req_id, until));
    if matches!(&asked, Err(ended) if ended.fault == ConnectFault::Version && broker.protocol == "auto")
    {
        options.protocol = Protocol::V311;
        asked = runtime.block_on(send_command(&options, &answers, &topic, &body, &req_id, until));
    }
    runtime.shutdown_background();
    let reply = match asked {
        Ok(Some(reply)) => reply,
        Ok(None) => bail!("{}", unanswered(site, wait)),
        Err(ended) => {
            bail!("{}:{}: {}", options.host, options.port, client::in_flags(&ended.reason))
        }
    };
    println!("{}", shown_json(&reply)?);
    Ok(if reply["status"] == "error" { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What silence may mean.
fn unanswered(site: &str, wait: u64) -> String {
    format!(
        "{site} did not answer within {wait} s. Is it online (taimat office sites)? Were these many commands at once? A box takes 10 \
         unsigned ones and then 2 a second, 50 signed ones and then 20 a second, and drops the others without an answer: ask again"
    )
}

/// Publishes a command and waits for its answer; `None` when none comes in time.
async fn send_command(
    options: &Options,
    answers: &str,
    topic: &str,
    body: &[u8],
    req_id: &str,
    until: Instant,
) -> Result<Option<Value>, Disconnected> {
    let (sender, mut connection) = client::connect(options);
    sender.subscribe(&[answers.to_owned()]);
    sender.publish(1, topic, body.to_vec(), false);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, connection.poll()).await {
            Err(_) => return Ok(None),
            Ok(Err(ended)) => return Err(ended),
            Ok(Ok(ClientEvent::Message(_, payload))) => {
                let reply: Value = serde_json::from_slice(&payload).unwrap_or_default();
                if reply["req_id"] == req_id {
                    return Ok(Some(reply));
                }
            }
            Ok(Ok(_)) => {}
        }
    }
}
