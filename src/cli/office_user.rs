//! `taimat office user`.
#![expect(clippy::disallowed_methods, reason = "shell: reads or writes files")]

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::json;

use super::Usage;
use super::office_file;
use super::office_print::show;
use crate::clock::{Clock as _, SystemClock};
use crate::office::console::acts::check_name;
use crate::office::console::audit::record::Origin;
use crate::office::console::error::ConsoleError;
use crate::office::console::handle::new_token;
use crate::office::console::people::rights::{ALL_SITES, Grant, Role};
use crate::office::console::tables::Tables;
use crate::office::console::tables::rows::{UserChange, UserRow};
use crate::office::console::writer::{Store, console_dir};
use crate::office::office_config::OfficeConfig;
use crate::units::{Secret, WallTime};

/// End of `taimat office user --help`.
const AFTER_HELP: &str = "\
Roles: viewer (states, recent clips), operator (plays, handles events, locks), evidence (sound, unmasked
pictures, unlocks), admin (people, plan, retention; sees no footage), auditor (reads the audit trail).
A user may have several roles, for all sites or for a group of them; groups are made in the console.
A password is never an argument: add and reset print a one-time link, on which the user sets it.
Each act is a record in the audit trail (taimat office audit). The office may be running.";

/// Arguments of `taimat office user`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    #[command(subcommand)]
    what: UserCommand,
}

#[derive(Debug, clap::Args)]
struct Named {
    /// The user's name.
    name: String,
    /// The archive's directory.
    #[arg(long)]
    dir: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum UserCommand {
    /// Add a user, and print a one-time link to set the password.
    Add {
        /// Name: 2 to 32 characters of a-z, 0-9, '.', '_' and '-'.
        name: String,
        /// The archive's directory; its console is made if there is none.
        #[arg(long)]
        dir: Option<PathBuf>,
        /// Role: viewer, operator, evidence, admin or auditor; repeat for more.
        #[arg(long, required = true)]
        role: Vec<String>,
        /// Group of sites that the roles are for; all sites by default.
        #[arg(long, default_value = ALL_SITES)]
        group: String,
        /// End of the roles, RFC 3339.
        #[arg(long)]
        until: Option<String>,
        /// Language of the console: vi or en.
        #[arg(long, default_value = "vi")]
        language: String,
    },
    /// Print a one-time link to set a new password; the old one counts until then.
    Reset(Named),
    /// Give a user a role more.
    Grant {
        #[command(flatten)]
        named: Named,
        /// The role.
        #[arg(long)]
        role: String,
        /// Group of sites.
        #[arg(long, default_value = ALL_SITES)]
        group: String,
        /// End of the role, RFC 3339.
        #[arg(long)]
        until: Option<String>,
    },
    /// Take a role away from a user.
    Revoke {
        #[command(flatten)]
        named: Named,
        /// The role.
        #[arg(long)]
        role: String,
        /// Group of sites.
        #[arg(long, default_value = ALL_SITES)]
        group: String,
    },
    /// Refuse a user's log-in and end all sessions. The name stays: the audit trail and notes refer to it.
    Disable(Named),
    /// Allow a disabled user to log in again.
    Enable(Named),
    /// List the users, their roles and last log-in.
    List {
        /// The archive's directory.
        #[arg(long)]
        dir: Option<PathBuf>,
        /// JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
}

/// A wrong value is the caller's mistake (exit code 2), everything else a failure.
pub(super) fn of_command_line(error: ConsoleError) -> anyhow::Error {
    match error {
        ConsoleError::Invalid(text) => Usage(text).into(),
        error => error.into(),
    }
}

/// The store of an archive and who acts on it.
pub(super) struct Opened {
    pub(super) store: Store,
    pub(super) by: Origin,
    pub(super) now: WallTime,
}

pub(super) fn open(dir: &Path) -> anyhow::Result<Opened> {
    ensure_owner(dir)?;
    let store = Store::open(&console_dir(dir))?;
    let by = Origin::command_line(rustix::process::getuid().as_raw());
    Ok(Opened { store, by, now: SystemClock::new().now().wall })
}

/// Refuses a directory of another user: files that root makes there would lock the office out.
pub(super) fn ensure_owner(dir: &Path) -> anyhow::Result<()> {
    let shown = dir.display();
    let about = std::fs::metadata(dir);
    let about = about
        .with_context(|| format!("{shown}: --dir is the one that `office run --dir` fills"))?;
    let (owner, own) = (about.uid(), rustix::process::geteuid().as_raw());
    if owner != own {
        return Err(Usage(format!(
            "{shown} belongs to the user with the number {owner}; run this as that user: sudo -u '#{owner}' taimat …"
        ))
        .into());
    }
    Ok(())
}

fn user(store: &Store, name: &str) -> anyhow::Result<UserRow> {
    let users = store.tables().users()?;
    let names: Vec<String> = users.iter().map(|user| user.name.clone()).collect();
    let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let found = users.into_iter().find(|user| user.name == name);
    found.ok_or_else(|| anyhow::anyhow!("there is no user {name:?}; users: {known}"))
}

fn grant(role: &str, group: &str, until: Option<&str>) -> anyhow::Result<Grant> {
    let known = Role::ALL.map(Role::as_str).join(", ");
    let role = Role::parse(role).ok_or_else(|| Usage(format!("{role:?} is no role: {known}")))?;
    let until = until.map(WallTime::parse).transpose().map_err(Usage)?;
    Ok(Grant { group: group.to_owned(), role, until })
}

/// Runs `taimat office user`.
///
/// # Errors
/// When the console cannot be opened or refuses the act.
pub(super) fn run(args: Args, config: &OfficeConfig) -> anyhow::Result<ExitCode> {
    let archive = |dir: Option<PathBuf>| office_file::dir(dir, config);
    let place = |named: Named| Ok::<_, anyhow::Error>((named.name, archive(named.dir)?));
    match args.what {
        UserCommand::Add { name, dir, role, group, until, language } => {
            let grants = role.iter().map(|role| grant(role, &group, until.as_deref()));
            add(&archive(dir)?, (&name, &language), &grants.collect::<anyhow::Result<Vec<_>>>()?)
        }
        UserCommand::Reset(named) => reset(&place(named)?),
        UserCommand::Grant { named, role, group, until } => {
            let new = grant(&role, &group, until.as_deref())?;
            change(&place(named)?, |user| {
                let same = |old: &&Grant| old.role != new.role || old.group != new.group;
                let kept = user.grants.iter().filter(same).cloned();
                Ok(of_grants(kept.chain([new.clone()]).collect()))
            })
        }
        UserCommand::Revoke { named, role, group } => {
            let gone = grant(&role, &group, None)?;
            change(&place(named)?, |user| {
                let stays = |old: &&Grant| old.role != gone.role || old.group != gone.group;
                let kept: Vec<Grant> = user.grants.iter().filter(stays).cloned().collect();
                let has = kept.len() < user.grants.len();
                anyhow::ensure!(has, "{} is not {role} for {group:?}", user.name);
                Ok(of_grants(kept))
            })
        }
        UserCommand::Disable(named) => change(&place(named)?, |user| {
            anyhow::ensure!(!user.is_disabled, "{} is disabled already", user.name);
            Ok(UserChange { is_disabled: Some(true), ..UserChange::default() })
        }),
        UserCommand::Enable(named) => change(&place(named)?, |user| {
            anyhow::ensure!(user.is_disabled, "{} is not disabled", user.name);
            Ok(UserChange { is_disabled: Some(false), ..UserChange::default() })
        }),
        UserCommand::List { dir, json } => list(&archive(dir)?, json),
    }
}

fn of_grants(grants: Vec<Grant>) -> UserChange {
    UserChange { grants: Some(grants), ..UserChange::default() }
}

fn show_link(token: &Secret) {
    println!(
        "One-time link to set the password; it counts once, for 24 h. Append it to the console's address:"
    );
    println!("/#/reset/{}", token.reveal());
}

fn add(dir: &Path, (name, language): (&str, &str), grants: &[Grant]) -> anyhow::Result<ExitCode> {
    // Before the console: a wrong name must not make one.
    check_name(name).map_err(of_command_line)?;
    let Opened { mut store, by, now } = open(dir)?;
    let (token, digest) = new_token()?;
    store.add_user(&by, now, (name, language), grants, &digest).map_err(of_command_line)?;
    println!("added {name}: {}", roles(grants));
    show_link(&token);
    Ok(ExitCode::SUCCESS)
}

fn reset((name, dir): &(String, PathBuf)) -> anyhow::Result<ExitCode> {
    let Opened { mut store, by, now } = open(dir)?;
    let id = user(&store, name)?.id;
    let (token, digest) = new_token()?;
    store.reset_user(&by, now, id, &digest)?;
    show_link(&token);
    Ok(ExitCode::SUCCESS)
}

fn change(
    (name, dir): &(String, PathBuf),
    change: impl FnOnce(&UserRow) -> anyhow::Result<UserChange>,
) -> anyhow::Result<ExitCode> {
    let Opened { mut store, by, now } = open(dir)?;
    let before = user(&store, name)?;
    let change = change(&before)?;
    store.change_user(&by, now, before.id, &change).map_err(of_command_line)?;
    let after = user(&store, name)?;
    let state = if after.is_disabled { " (disabled)" } else { "" };
    println!("{name}{state}: {}", roles(&after.grants));
    Ok(ExitCode::SUCCESS)
}

fn roles(grants: &[Grant]) -> String {
    let one = |grant: &Grant| {
        let group = if grant.group == ALL_SITES { "all sites" } else { &grant.group };
        let until = grant.until.map(|end| format!(" until {end}")).unwrap_or_default();
        format!("{} for {group}{until}", grant.role.as_str())
    };
    if grants.is_empty() {
        return "no role".to_owned();
    }
    grants.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn list(dir: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let users = Tables::open_read_only(&console_dir(dir))?.users()?;
    let time = |time: Option<WallTime>| time.map(WallTime::rfc3339).unwrap_or_default();
    let rows: Vec<serde_json::Value> = users
        .iter()
        .map(|user| {
            let grants: Vec<_> = user
                .grants
                .iter()
                .map(|one| json!({"group": one.group, "role": one.role.as_str(), "until": one.until.map(WallTime::rfc3339)}))
                .collect();
            json!({"id": user.id, "name": user.name, "state": state(user), "last_login": time(user.last_login),
                "roles": roles(&user.grants), "grants": grants})
        })
        .collect();
    show(json, &rows, "name                 state        last log-in               roles", |row| {
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let (name, state) = (text("name"), text("state"));
        format!("{name:20} {state:12} {:24}  {}", text("last_login"), text("roles"))
    })
}

fn state(user: &UserRow) -> &'static str {
    match user {
        UserRow { is_disabled: true, .. } => "disabled",
        UserRow { is_demo: true, .. } => "demo",
        UserRow { has_password: false, .. } => "no password",
        _ => "active",
    }
}
