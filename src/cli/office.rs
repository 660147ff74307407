//! `taimat office`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::Usage;
use super::broker::{Broker, ended, signing_key};
use super::office_filter::{
    EVENT_KINDS, FILE_KINDS, Wanted, check_gap_flags, explain_empty, filter,
};
use super::office_print::{Lines, show, show_check};
use super::office_web::{WebFlags, start_web};
use super::run::on_signal;
use super::{office_file, office_lock, office_trail};
use crate::clock::{Clock as _, SystemClock, random_id};
use crate::escape::{shown, shown_json, shown_path};
use crate::office::archive::Archive;
use crate::office::archive_link::{ArchiveClient, ArchiveLink};
use crate::office::archive_lock::claim;
use crate::office::command_client::{CommandError, DeviceCommand, send};
use crate::office::console::audit::record::{Act, Entry};
use crate::office::console::deletion_recorder::DeletionRecorder;
use crate::office::console::retention::rules_of;
use crate::office::office_config::OfficeConfig;
use crate::office::operator_socket;
use crate::office::retention::Retention;
use crate::office::retention_rules::RetentionRules;
use crate::office::service::{self, OfficeService};
use crate::office::store;
use crate::regular_file::{Links, TEXT_MAX, read_text};
use crate::remote_config::rejection::Rejection;
use crate::units::{SiteId, WallTime};

/// Free bytes below which a command warns that the disk is almost full: a few files of one site.
const ALMOST_FULL: u64 = 64 << 20;

/// End of `taimat office --help`.
const AFTER_HELP: &str = "\
Archive: --dir is the directory that `office run` fills; the other commands read it while it runs.
Broker: run, cmd, config push and config fleet connect to --broker (default 127.0.0.1), port 1883,
or 8883 with --ca; --cert and --key are the office's certificate, --login a file user:password.
Both may stand in a configuration file (--config, else /etc/taimat-office/office.toml); flags win over it.";

/// Arguments of `taimat office`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Configuration file (TOML; docs/office.md). Without it /etc/taimat-office/office.toml is read when it is there; flags win over it.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    what: OfficeCommand,
}

#[derive(Debug, clap::Subcommand)]
enum OfficeCommand {
    /// Receive and store the messages of devices until a signal ends the process.
    Run {
        /// Directory of the archive; created if it does not exist.
        #[arg(long)]
        dir: Option<PathBuf>,
        /// Name of this archive in its presence topic; `office` by default.
        #[arg(long)]
        host: Option<String>,
        /// Receive only this site; repeat for more. Several offices can divide the sites among them.
        #[arg(long)]
        site: Vec<String>,
        /// Delete files and events this many days after their reception; 0, the default, keeps them.
        #[arg(long)]
        keep_days: Option<u32>,
        /// Above this many GiB delete the oldest files of the largest site, down to 1 GiB or its newest day, whichever is less; 0, the default, keeps them.
        #[arg(long)]
        keep_gib: Option<u64>,
        #[command(flatten)]
        web: WebFlags,
        #[command(flatten)]
        broker: Broker,
    },
    /// List the sites: state, stored events, missing numbers.
    Sites {
        /// The archive's directory.
        #[arg(long)]
        dir: Option<PathBuf>,
        /// JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// List events.
    Events(Wanted),
    /// List clips, snapshots and requested ranges.
    Clips(Wanted),
    /// List sequence numbers that are not in the archive: missing, in delivery, or dropped with the reason.
    Gaps(Wanted),
    /// Compare the index with the files and list every difference; exit code 1 if there is one. The office may be running.
    Check {
        /// The archive's directory.
        #[arg(long)]
        dir: Option<PathBuf>,
        /// Also read and hash every stored file.
        #[arg(long)]
        deep: bool,
        /// JSON instead of lines.
        #[arg(long)]
        json: bool,
    },
    /// Lock files in the archive: the retention deletes nothing of a site between two times. Without --site, list the locks or end one.
    Lock {
        /// The archive's directory.
        #[arg(long)]
        dir: Option<PathBuf>,
        /// The site.
        #[arg(long, requires_all = ["from", "to", "reason"])]
        site: Option<String>,
        /// Start of the range, RFC 3339.
        #[arg(long)]
        from: Option<String>,
        /// End of the range, RFC 3339.
        #[arg(long)]
        to: Option<String>,
        /// Reason of the lock, or of its end; a lock of the console ends with a reason only.
        #[arg(long)]
        reason: Option<String>,
        /// End the lock with this number.
        #[arg(long, conflicts_with = "site")]
        end: Option<i64>,
    },
    /// Write an event with its clips, snapshot, manifests and digests into a new directory.
    Export {
        /// The archive's directory.
        #[arg(long)]
        dir: Option<PathBuf>,
        /// The site.
        #[arg(long)]
        site: String,
        /// Id of any event of a motion event (its start, an update, its end), or req_id of a clip-get.
        #[arg(long)]
        event: String,
        /// Directory to create; it must not exist.
        #[arg(long)]
        out: PathBuf,
        /// Leave out files that are missing or changed, and list them; exit code 1 if there are any.
        #[arg(long)]
        skip_bad: bool,
    },
    /// Send a command to a device and show its answer, e.g. `cmd km-17 clip-get from=2026-11-24T02:05:00Z to=2026-11-24T02:15:00Z`.
    Cmd {
        /// The site, or `fleet` for all devices (each answers within `within` seconds; the command shows the first answer).
        site: String,
        /// The command: clip-get (from, to), clip-cancel (fid), snapshot, event-get (ring=ID as ring-status
        /// answers it, seq: a JSON list of pairs FIRST,LAST, each in brackets, as office gaps shows them), lock (from, to, reason), unlock (id),
        /// locks, ring-status, log-tail (lines), restart (boot), ping, config-show, config-check (config=@FILE, probe=yes).
        name: String,
        /// Arguments, key=value; key=@FILE reads the value from a file.
        args: Vec<String>,
        /// The archive's directory on this machine, whose audit trail records the command.
        #[arg(long)]
        dir: Option<PathBuf>,
        /// Signing key (taimat keygen --office), for a device that accepts only signed commands.
        #[arg(long)]
        sign: Option<PathBuf>,
        /// Seconds to wait for the answer.
        #[arg(long, default_value_t = 30)]
        wait: u64,
        #[command(flatten)]
        broker: Broker,
    },
    /// Send signed configurations to devices, and show their reports.
    Config(super::office_config::Args),
    /// Users of the console: add, list, reset, grant, disable.
    User(super::office_user::Args),
    /// The console's audit trail: verify it, or take it out.
    Audit(super::office_audit::Args),
}

/// Runs `taimat office`.
///
/// # Errors
/// If the archive or the broker cannot be used.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = office_file::load(args.config.as_deref())?;
    let archive = |dir: Option<PathBuf>| office_file::dir(dir, &config);
    match args.what {
        OfficeCommand::Run { dir, host, site, keep_days, keep_gib, web, broker } => {
            let days = keep_days.or(config.max_days).unwrap_or(0);
            let gib = keep_gib.or(config.max_gib).unwrap_or(0);
            let gib = gib.checked_mul(1 << 30).ok_or_else(|| {
                Usage(format!("--keep-gib {gib}: the archive's bytes exceed a number"))
            })?;
            let retention = Retention::new(days, gib);
            let sites = site
                .iter()
                .map(|site| SiteId::parse(site))
                .collect::<Result<Vec<_>, _>>()
                .map_err(anyhow::Error::msg)?;
            let sites = if sites.is_empty() { config.sites.clone() } else { sites };
            let host = host.or_else(|| config.host.clone()).unwrap_or_else(|| "office".into());
            let broker = office_file::broker(broker, &config.broker);
            receive(&archive(dir)?, host, (sites, retention), &broker, (web, &config))
        }
        OfficeCommand::Sites { dir, json } => show_sites(&archive(dir)?, json),
        OfficeCommand::Events(lines) => show_events(&archive(lines.dir.clone())?, &lines),
        OfficeCommand::Clips(lines) => show_clips(&archive(lines.dir.clone())?, &lines),
        OfficeCommand::Gaps(lines) => {
            check_gap_flags(&lines)?;
            show_gaps(&archive(lines.dir.clone())?, &lines)
        }
        OfficeCommand::Check { dir, deep, json } => {
            let dir = archive(dir)?;
            warn_of_full(&dir);
            show_check(&Archive::open_read_only(&dir)?.check(deep)?, json)
        }
        OfficeCommand::Lock { dir, site, from, to, reason, end } => {
            let range = (from.unwrap_or_default(), to.unwrap_or_default());
            office_lock::lock(&archive(dir)?, (site, reason), (&range.0, &range.1), end)
        }
        OfficeCommand::Export { dir, site, event, out, skip_bad } => {
            export(&archive(dir)?, (&site, &event), &out, skip_bad)
        }
        OfficeCommand::Cmd { site, name, args, dir, sign, wait, broker } => {
            let broker = office_file::broker(broker, &config.broker);
            let dir = dir.or_else(|| config.dir.clone());
            command((&site, &name, &args), dir.as_deref(), sign.as_deref(), wait, &broker)
        }
        OfficeCommand::Config(args) => super::office_config::run(args, &config),
        OfficeCommand::User(args) => super::office_user::run(args, &config),
        OfficeCommand::Audit(args) => super::office_audit::run(args, &config),
    }
}

fn show_sites(dir: &Path, json: bool) -> anyhow::Result<ExitCode> {
    warn_of_full(dir);
    let rows = Archive::open_read_only(dir)?.sites()?;
    show(
        json,
        &rows,
        "site            state    last message              rings  events  highest  missing  files",
        |row| {
            let (state, seen) = (&row.state, &row.seen);
            format!(
                "{:15} {state:8} {seen:24} {:>6} {:>7} {:>8} {:>8} {:>6}",
                row.site, row.rings, row.events, row.highest_seq, row.missing_seq, row.files
            )
        },
    )
}

fn show_events(dir: &Path, lines: &Wanted) -> anyhow::Result<ExitCode> {
    let wanted = filter(lines)?;
    let archive = Archive::open_read_only(dir)?;
    let rows = archive.events(&wanted)?;
    explain_empty(&archive, lines, rows.is_empty(), &EVENT_KINDS)?;
    show(
        lines.json,
        &rows,
        "site            number  time                      id                          kind",
        |row| {
            format!("{:15} {:>6}  {:24}  {:26}  {}", row.site, row.seq, row.time, row.id, row.kind)
        },
    )
}

fn show_clips(dir: &Path, lines: &Wanted) -> anyhow::Result<ExitCode> {
    let wanted = filter(lines)?;
    let archive = Archive::open_read_only(dir)?;
    let rows = archive.files(&wanted)?;
    explain_empty(&archive, lines, rows.is_empty(), &FILE_KINDS)?;
    show(
        lines.json,
        &rows,
        "site            what       from                          bytes  event                       file",
        |row| {
            let (path, event) = (shown_path(&row.path), &row.event);
            format!(
                "{:15} {:9}  {:24}  {:>9}  {event:26}  {path}",
                row.site, row.purpose, row.start, row.size
            )
        },
    )
}

fn show_gaps(dir: &Path, lines: &Wanted) -> anyhow::Result<ExitCode> {
    let wanted = filter(lines)?;
    let archive = Archive::open_read_only(dir)?;
    let rows = archive.gaps(&wanted)?;
    explain_empty(&archive, lines, rows.is_empty(), &[])?;
    show(lines.json, &rows, "site            numbers of ring  first     last      why", |row| {
        format!("{:15} {:16} {:<9} {:<9} {}", row.site, row.ring, row.first, row.last, row.why)
    })
}

fn export(
    dir: &Path,
    (site, event): (&str, &str),
    out: &Path,
    skip_bad: bool,
) -> anyhow::Result<ExitCode> {
    let archive = Archive::open_read_only(dir)?;
    let mut entry = Entry::of(Act::FileDownload).object("export").object(event);
    entry.site = SiteId::parse(site).ok();
    office_trail::record(dir, entry)?;
    let (files, events, bad) = if skip_bad {
        archive.export_good(site, event, out)?
    } else {
        let (files, events) = archive.export(site, event, out)?;
        (files, events, Vec::new())
    };
    bad.iter().for_each(|bad| eprintln!("left out: {}", shown(bad)));
    println!(
        "{files} files and {events} events in {}; check them with sha256sum -c SHA256SUMS",
        shown_path(out)
    );
    Ok(if bad.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Warns that the disk of an archive is almost full: the office then rejects messages.
fn warn_of_full(dir: &Path) {
    if let Some(free) = store::free(dir).ok().filter(|free| *free < ALMOST_FULL) {
        let dir = shown_path(dir);
        eprintln!(
            "WARNING: {dir}: the archive's disk has {free} free bytes. On a full disk the office stores nothing and sends no receipts; \
             the devices keep their messages and send them again. Free some space"
        );
    }
}

/// The rules of retention of the archive's console. The office receives without them, too: it then
/// keeps everything up to its ceilings.
fn rules_without_web(dir: &Path) -> Option<RetentionRules> {
    rules_of(dir).unwrap_or_else(|error| {
        warn_of_rules(&error.to_string());
        None
    })
}

/// Hands over the rules, then answers the command line; never ends.
async fn serve_requests(dir: &Path, rules: Option<RetentionRules>, archive: ArchiveClient) {
    if let Some(rules) = rules
        && let Err(error) = archive.set_rules(rules).await
    {
        warn_of_rules(&error.line());
    }
    match operator_socket::listen(dir) {
        Ok(listener) => operator_socket::serve(listener, archive).await,
        Err(error) => {
            tracing::warn!(%error, "no socket for requests of the command line; lock in the console instead");
        }
    }
    std::future::pending().await
}

fn warn_of_rules(detail: &str) {
    tracing::warn!(
        detail,
        "rules of the retention not in force, files stay up to the ceilings; check the directory console/, then start again"
    );
}

fn receive(
    dir: &Path,
    host: String,
    (sites, retention): (Vec<SiteId>, Retention),
    broker: &Broker,
    (web, config): (WebFlags, &OfficeConfig),
) -> anyhow::Result<ExitCode> {
    // Before the archive: wrong flags must not make one.
    let options = broker.options(format!("taimat-office-{host}"))?;
    let _claimed = claim(dir)?;
    let archive = Archive::open(dir)?;
    let any_version = broker.any_version();
    let link = ArchiveLink::new(Arc::new(SystemClock::new()));
    let console = (&options, any_version);
    let web = start_web(web, config, dir, console, link.client())?;
    let (rules, _deletions) = match web {
        // The listener hands them over, and records deletions, itself.
        Some(_) => (None, None),
        None => (rules_without_web(dir), Some(DeletionRecorder::start(dir, None)?)),
    };
    let client = link.client();
    let office = OfficeService { options, any_version, host, sites, retention, link };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stop = on_signal()?;
        let (_none, commands) = mpsc::channel(1);
        let mut lines = Lines::start()?;
        let receiving =
            service::run(archive, office, commands, stop, |notice| lines.report(notice));
        tokio::select! {
            ended = receiving => ended?,
            () = serve_requests(dir, rules, client) => {}
        }
        anyhow::Ok(ExitCode::SUCCESS)
    })
}

fn command(
    (site, name, pairs): (&str, &str, &[String]),
    archive: Option<&Path>,
    sign: Option<&Path>,
    wait: u64,
    broker: &Broker,
) -> anyhow::Result<ExitCode> {
    let whom = (site != "fleet").then(|| SiteId::parse(site)).transpose().map_err(Usage)?;
    let args = arguments(pairs, sign.is_some())?;
    let key = sign.map(signing_key).transpose()?.map(|(key, _)| key);
    let (req_id, now) = (random_id()?, SystemClock::new().now().wall);
    let entry = command_entry(whom.as_ref(), name, &args, &req_id);
    let asked = DeviceCommand::new(whom.as_ref(), name, args, &req_id, now, key.as_ref())
        .map_err(|rejection| anyhow::anyhow!(without_reason(&rejection)))?;
    let options = broker.options(format!("taimat-cmd-{req_id}"))?;
    archive.map_or(Ok(()), |archive| office_trail::record(archive, entry))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let timeout = Duration::from_secs(wait);
    let reply = runtime.block_on(send(&options, broker.any_version(), &asked, timeout));
    runtime.shutdown_background();
    let reply = match reply {
        Ok(reply) => reply,
        Err(CommandError::NoReply(_)) => bail!("{}", unanswered(site, wait)),
        Err(CommandError::Disconnected(reason)) => bail!("{}", ended(&options, &reason)),
    };
    println!("{}", shown_json(&reply)?);
    Ok(if reply["status"] == "error" { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The record of a command: the footage that it asks for and its reason stand in it.
fn command_entry(
    site: Option<&SiteId>,
    name: &str,
    args: &Map<String, Value>,
    req_id: &str,
) -> Entry {
    let mut entry = Entry::of(Act::DeviceCommand).object(name).object(req_id);
    match site {
        Some(site) => entry = entry.site(site),
        None => entry = entry.object("fleet"),
    }
    let time = |key: &str| WallTime::parse(args.get(key)?.as_str()?).ok();
    entry.range = time("from").zip(time("to"));
    entry.reason = args.get("reason").and_then(Value::as_str).map(str::to_owned);
    entry
}

/// Why a command is not sent. An unknown one is not rejected for want of a signature.
fn without_reason(rejection: &Rejection) -> String {
    match rejection.detail.starts_with("no command ") {
        true => rejection.detail.clone(),
        false => rejection.line(),
    }
}

/// The arguments of a command: `key=value`, or `key=@FILE` with the file's text.
fn arguments(pairs: &[String], is_signed: bool) -> anyhow::Result<Map<String, Value>> {
    let mut args = Map::new();
    for pair in pairs {
        let (key, value) =
            pair.split_once('=').ok_or_else(|| Usage(format!("{pair:?} is not key=value")))?;
        let value = match value.strip_prefix('@') {
            Some(path) => json!(
                read_text(Path::new(path), Links::Follow, TEXT_MAX)
                    .with_context(|| path.to_owned())?
            ),
            // The arguments of a signed command are strings.
            None if is_signed => json!(value),
            // Whole numbers and lists are JSON, everything else is a string: an id such as 12e4 must
            // arrive as it was typed.
            None => serde_json::from_str(value)
                .ok()
                .filter(|read: &Value| {
                    !read.is_string() && (!read.is_number() || *value == *read.to_string())
                })
                .unwrap_or_else(|| json!(value)),
        };
        args.insert(key.into(), value);
    }
    Ok(args)
}

/// Explains a missing answer.
fn unanswered(site: &str, wait: u64) -> String {
    format!(
        "{site} did not answer within {wait} s. Check that it is online (taimat office sites). A device executes 10 unsigned commands \
         and then 2 a second, 50 signed ones and then 20 a second, and drops the others without an answer: send it again"
    )
}
