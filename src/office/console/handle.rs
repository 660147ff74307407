//! [`Console`]: the handle through which the web and the command line reach people and trail.
//!
//! Its calls block for a transaction (a flush) or a read (microseconds): an async caller makes them
//! on a blocking thread. Reads use connections of their own and never wait for the writer.

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::acts::{idle_since, token_user};
use super::audit::record::{Act, AuditNumber, Entry, Origin};
use super::audit::verify::Report;
use super::error::ConsoleError;
use super::people::hashing::Hashing;
use super::people::login_attempts::{Failure, LoginAttempts};
use super::people::password::{NAMES_MAX, SALT_LENGTH, check_strength, unknown_user};
use super::people::purpose::{Purpose, PurposeKind};
use super::people::session::{EndedSessions, NewSession, Session};
use super::tables::{Result, Tables};
use super::writer::{Store, Writer, console_dir, verify_read_only};
use crate::clock::{Clock, seed};
use crate::units::{Digest, MonoTime, Secret, WallTime, hex};

/// Connections for reading that are kept open.
const READERS_MAX: usize = 4;
/// Minutes that the link for the first admin counts.
pub const FIRST_ADMIN_MINUTES: u64 = 30;
/// A session's last use is stored when it is this much older: one write a minute and session.
const USED_EVERY: i64 = 60_000_000;
/// Setting that marks the console of a demonstration.
const DEMO: &str = "demo";

/// What one-time links are open; in memory only, so a restart closes them.
#[derive(Default)]
struct Links {
    first_admin: Option<(Digest, MonoTime)>,
    #[cfg(any(test, feature = "sim"))]
    demo: Option<Digest>,
}

struct Shared {
    dir: std::path::PathBuf,
    clock: Arc<dyn Clock>,
    writer: Writer,
    readers: Mutex<Vec<Tables>>,
    hashing: Hashing,
    attempts: Mutex<LoginAttempts>,
    links: Mutex<Links>,
    sites: Mutex<Vec<String>>,
    ended: Mutex<EndedSessions>,
    is_demo: bool,
}

/// Handle of the console; copies are cheap.
#[derive(Clone)]
pub struct Console {
    shared: Arc<Shared>,
}

/// Locks; what is behind each of them is whole after any panic.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A one-time token or cookie, 256 random bits, and the digest that the office keeps.
pub fn new_token() -> Result<(Secret, Digest)> {
    let token = hex(&seed().map_err(|error| ConsoleError::Storage(error.to_string()))?);
    let digest = Digest::of(token.as_bytes());
    Ok((Secret::new(token), digest))
}

/// Digest of a token that came from outside; `None` for what is no token.
fn digest_of(token: &str) -> Option<Digest> {
    Digest::from_hex(token).map(|_| Digest::of(token.as_bytes()))
}

fn new_salt() -> Result<[u8; SALT_LENGTH]> {
    let seed = seed().map_err(|error| ConsoleError::Storage(error.to_string()))?;
    let mut salt = [0; SALT_LENGTH];
    salt.copy_from_slice(&seed[..SALT_LENGTH]);
    Ok(salt)
}

impl Console {
    /// Opens the console of the archive in `archive`; makes it if it is not there.
    ///
    /// # Errors
    /// When a file cannot be opened or a thread not be started, a newer taimat wrote the database,
    /// or the archive belongs to a demonstration.
    pub fn open(archive: &Path, clock: Arc<dyn Clock>) -> Result<Console> {
        let store = Store::open(&console_dir(archive))?;
        if store.tables().setting(DEMO)?.is_some() {
            return Err(ConsoleError::Conflict(format!(
                "{}: this is the console of a demonstration, which has a user without a password; take another --dir, or remove its directory console/",
                archive.display()
            )));
        }
        Console::start(archive, store, clock, false)
    }

    /// Opens the console of a demonstration: the only one that has a demonstration's user.
    ///
    /// # Errors
    /// As [`Console::open`]; `Conflict` when the console has users of its own.
    #[cfg(any(test, feature = "sim"))]
    pub fn open_demo(archive: &Path, clock: Arc<dyn Clock>) -> Result<Console> {
        let mut store = Store::open(&console_dir(archive))?;
        if store.tables().setting(DEMO)?.is_none() {
            if store.tables().user_count()? > 0 {
                let text = "this console has users of its own; a demonstration needs an archive of its own";
                return Err(ConsoleError::Conflict(text.to_owned()));
            }
            store.set_setting(&Origin::office(), clock.now().wall, DEMO, "yes")?;
        }
        Console::start(archive, store, clock, true)
    }

    fn start(
        archive: &Path,
        mut store: Store,
        clock: Arc<dyn Clock>,
        is_demo: bool,
    ) -> Result<Console> {
        let failed = |error: std::io::Error| ConsoleError::Storage(error.to_string());
        let entry = Entry::of(Act::ConsoleStart).object("version").object(crate::VERSION);
        store.record(&Origin::office(), clock.now().wall, entry)?;
        let head = store.tables().audit_head()?;
        tracing::info!(n = head.n, digest = %head.digest.hex(),
            "audit trail continues after this head; note it elsewhere to prove later that the trail was not written again");
        let shared = Shared {
            dir: console_dir(archive),
            clock,
            writer: Writer::start(store).map_err(failed)?,
            readers: Mutex::default(),
            hashing: Hashing::start().map_err(failed)?,
            attempts: Mutex::default(),
            links: Mutex::default(),
            sites: Mutex::default(),
            ended: Mutex::default(),
            is_demo,
        };
        Ok(Console { shared: Arc::new(shared) })
    }

    /// Whether this is the console of a demonstration.
    pub fn is_demo(&self) -> bool {
        self.shared.is_demo
    }

    /// The time, for [`Session::decide`] and [`Session::acts`].
    pub fn now(&self) -> WallTime {
        self.shared.clock.now().wall
    }

    fn mono(&self) -> MonoTime {
        self.shared.clock.now().mono
    }

    /// Names of sites that no new password may contain.
    pub fn know_sites(&self, sites: impl IntoIterator<Item = String>) {
        *locked(&self.shared.sites) = sites.into_iter().take(NAMES_MAX).collect();
    }

    /// Reads tables on a connection of its own.
    ///
    /// # Errors
    /// The error of `work`, or of opening a connection.
    pub fn read<T>(&self, work: impl FnOnce(&Tables) -> Result<T>) -> Result<T> {
        let kept = locked(&self.shared.readers).pop();
        let tables = match kept {
            Some(tables) => tables,
            None => Tables::open_read_only(&self.shared.dir)?,
        };
        let done = work(&tables);
        let mut readers = locked(&self.shared.readers);
        if done.is_ok() && readers.len() < READERS_MAX {
            readers.push(tables);
        }
        done
    }

    /// Carries out an act of [`Store`] on the writer's thread; the time of the act is given to it.
    /// Durable when this returns.
    ///
    /// # Errors
    /// `Busy`, or the error of the act.
    pub fn act<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store, WallTime) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let clock = Arc::clone(&self.shared.clock);
        self.shared.writer.call(move |store| work(store, clock.now().wall))
    }

    /// Writes a record of something that changes nothing in the console.
    ///
    /// # Errors
    /// `Trail` when it cannot be written: it must not happen then.
    pub fn record(&self, by: &Origin, entry: Entry) -> Result<AuditNumber> {
        let by = by.clone();
        self.act(move |store, now| store.record(&by, now, entry))
    }

    /// Verifies the trail, on the caller's thread.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn verify(&self) -> Result<Report> {
        verify_read_only(&self.shared.dir)
    }

    /// Tries refused while locked, and counters dropped for lack of room: for metrics.
    pub fn login_counts(&self) -> (u64, u64) {
        let attempts = locked(&self.shared.attempts);
        (attempts.refused(), attempts.dropped())
    }

    // Sessions.

    /// Logs in. The answer and its time are the same for an unknown user, one without a password
    /// and a wrong password.
    ///
    /// # Errors
    /// `LoginFailed`; `Locked` after too many failures; `Busy`.
    pub fn login(&self, name: &str, password: &Secret, from: &str) -> Result<NewSession> {
        self.check_attempts(name, from)?;
        let known = self.read(|tables| tables.credential(name))?;
        let credential = known.filter(|known| !known.is_disabled && !known.hash.is_empty());
        let stored = credential.as_ref().map_or_else(unknown_user, |known| known.hash.clone());
        let fits = self.shared.hashing.fits(password, &stored)?;
        let Some(credential) = credential.filter(|_| fits) else {
            return Err(self.failed(name, from)?);
        };
        let session = self.begin(credential.user, from, None)?;
        locked(&self.shared.attempts).succeeded(name, from);
        Ok(session)
    }

    fn check_attempts(&self, name: &str, from: &str) -> Result<()> {
        let checked = locked(&self.shared.attempts).check(name, from, self.mono());
        checked.map_err(|retry_after| ConsoleError::Locked { retry_after })
    }

    /// Counts and records a failure; returns the answer.
    fn failed(&self, name: &str, from: &str) -> Result<ConsoleError> {
        let failure = locked(&self.shared.attempts).failed(name, from, self.mono());
        let locks = match failure {
            Failure::Counted => None,
            Failure::Locks(seconds) => Some(seconds),
        };
        let (name, from) = (name.to_owned(), from.to_owned());
        self.act(move |store, now| store.login_failed(&name, &from, locks, now))?;
        let answer = |retry_after| ConsoleError::Locked { retry_after };
        Ok(locks.map_or(ConsoleError::LoginFailed, answer))
    }

    fn begin(&self, user: i64, from: &str, purpose: Option<Purpose>) -> Result<NewSession> {
        let (cookie, digest) = new_token()?;
        let from = from.to_owned();
        let session =
            self.act(move |store, now| store.begin_session(user, &from, &digest, purpose, now))?;
        Ok(NewSession { cookie, session })
    }

    /// The session of a cookie, and notes that it was used. `None`: log in again.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn session(&self, cookie: &str) -> Result<Option<Session>> {
        self.find_session(cookie, true)
    }

    /// The same without noting a use: for a stream that only stays open.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn session_unused(&self, cookie: &str) -> Result<Option<Session>> {
        self.find_session(cookie, false)
    }

    fn find_session(&self, cookie: &str, is_use: bool) -> Result<Option<Session>> {
        let Some(digest) = digest_of(cookie) else { return Ok(None) };
        let Some(found) = self.read(|tables| tables.session(&digest))? else { return Ok(None) };
        let (session, now) = (found.session, self.now());
        let is_over = now >= session.until || found.used <= idle_since(now);
        // A clock that was set back must not lengthen a session.
        let is_early = now.plus_micros(USED_EVERY) < session.made;
        let is_foreign = session.is_demo && !self.shared.is_demo;
        let is_ended = locked(&self.shared.ended).has(&session.id);
        if is_over || is_early || is_foreign || is_ended || found.is_disabled {
            return Ok(None);
        }
        if is_use && now.0 - found.used.0 >= USED_EVERY {
            let id = session.id.clone();
            // When the writer is busy the next request notes it.
            self.shared.writer.post(move |store| {
                if let Err(error) = store.tables().set_used(&id, now) {
                    tracing::warn!(%error, "use of a session not stored; it may end early");
                }
            });
        }
        Ok(Some(session))
    }

    /// Ends the caller's own session.
    ///
    /// # Errors
    /// `NotFound` when it ended already; `LogoutUnrecorded` when the log-out cannot be written: the
    /// session has ended all the same, until the office starts again.
    pub fn logout(&self, session: &Session, from: &str) -> Result<AuditNumber> {
        let (by, id) = (session.acts(None, from, self.now()), session.id.clone());
        let ended = self.act(move |store, now| store.end_session(&by, now, &id));
        use ConsoleError::{Busy, Storage, Trail};
        let Err(error @ (Trail(_) | Storage(_) | Busy)) = ended else { return ended };
        match locked(&self.shared.ended).add(session, self.now()) {
            true => Err(ConsoleError::LogoutUnrecorded(error.to_string())),
            false => Err(error),
        }
    }

    /// Sets the purpose of the caller's session.
    ///
    /// # Errors
    /// `Invalid` when the number is missing or too much.
    pub fn set_purpose(
        &self,
        session: &Session,
        from: &str,
        (kind, case): (PurposeKind, &str),
        reason: Option<String>,
    ) -> Result<AuditNumber> {
        let purpose = Purpose::begin(kind, case, self.now()).map_err(ConsoleError::Invalid)?;
        let (by, id) = (session.acts(None, from, self.now()), session.id.clone());
        self.act(move |store, now| store.set_purpose(&by, now, &id, &purpose, reason.as_deref()))
    }

    // Passwords and one-time links.

    fn checked_hash(&self, password: &Secret, name: &str) -> Result<String> {
        let places = self.read(|tables| tables.places())?;
        let sites = locked(&self.shared.sites).clone();
        let placed = places.iter().flat_map(|place| [&place.site, &place.name_vi, &place.name_en]);
        let names = [name].into_iter().chain(sites.iter().chain(placed).map(String::as_str));
        let names: Vec<&str> = names.filter(|name| !name.is_empty()).take(NAMES_MAX).collect();
        check_strength(password.reveal(), &names).map_err(ConsoleError::WeakPassword)?;
        self.shared.hashing.hash(password, new_salt()?)
    }

    /// Sets the caller's own password; all of the user's sessions end.
    ///
    /// # Errors
    /// `LoginFailed` when the old one is wrong, which counts as a failed log-in; `WeakPassword`.
    pub fn set_password(
        &self,
        session: &Session,
        from: &str,
        old: &Secret,
        new: &Secret,
    ) -> Result<AuditNumber> {
        self.check_attempts(&session.name, from)?;
        let known = self.read(|tables| tables.credential(&session.name))?;
        let stored = known.map_or_else(unknown_user, |known| known.hash);
        if !self.shared.hashing.fits(old, &stored)? {
            return Err(self.failed(&session.name, from)?);
        }
        let hash = self.checked_hash(new, &session.name)?;
        let (by, id) = (session.acts(None, from, self.now()), session.user);
        self.act(move |store, now| {
            let user = store.tables().user(id)?.ok_or(ConsoleError::LoginFailed)?;
            store.set_own_password(&by, now, &user, &hash, None)
        })
    }

    /// Sets a password with the one-time token of `reset_user` or `add_user`.
    ///
    /// # Errors
    /// `BadToken`, which counts as a failed log-in of its address; `WeakPassword`.
    pub fn redeem(&self, token: &str, password: &Secret, from: &str) -> Result<AuditNumber> {
        self.check_attempts("", from)?;
        let digest = digest_of(token);
        let now = self.now();
        let user = match digest {
            Some(digest) => self.read(|tables| token_user(tables, &digest, now)),
            None => Err(ConsoleError::BadToken),
        };
        let (Some(digest), Ok(user)) = (digest, user) else {
            self.failed("", from)?;
            return Err(ConsoleError::BadToken);
        };
        let hash = self.checked_hash(password, &user.name)?;
        let from = from.to_owned();
        self.act(move |store, now| store.redeem(&from, now, &digest, &hash))
    }

    /// True until the first user was made.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn needs_first_admin(&self) -> Result<bool> {
        Ok(!self.shared.is_demo && self.read(|tables| tables.user_count())? == 0)
    }

    /// A one-time token for the first admin, 30 minutes, loopback only; `None` when there is a
    /// user. A further call replaces it.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn first_admin_token(&self) -> Result<Option<Secret>> {
        if !self.needs_first_admin()? {
            return Ok(None);
        }
        let (token, digest) = new_token()?;
        let until = self.mono().plus_secs(FIRST_ADMIN_MINUTES * 60);
        locked(&self.shared.links).first_admin = Some((digest, until));
        Ok(Some(token))
    }

    /// Makes the first admin and logs in.
    ///
    /// # Errors
    /// `BadToken` from another address than loopback, or when the token is wrong, used or too old;
    /// `WeakPassword`, after which the token still counts.
    pub fn first_admin(
        &self,
        token: &str,
        name: &str,
        password: &Secret,
        from: IpAddr,
    ) -> Result<NewSession> {
        let address = from.to_canonical().to_string();
        self.check_attempts("", &address)?;
        let now = self.mono();
        let known = locked(&self.shared.links).first_admin.filter(|(_, until)| now < *until);
        let counts = known.is_some_and(|(digest, _)| digest_of(token) == Some(digest));
        if !counts || !from.to_canonical().is_loopback() {
            self.failed("", &address)?;
            return Err(ConsoleError::BadToken);
        }
        super::acts::check_name(name)?;
        let hash = self.checked_hash(password, name)?;
        let (name, at) = (name.to_owned(), address.clone());
        let id = self.act(move |store, now| store.add_first_admin(&at, now, &name, &hash))?;
        locked(&self.shared.links).first_admin = None;
        self.begin(id, &address, None)
    }

    /// A one-time token that opens the demonstration.
    ///
    /// # Errors
    /// `Conflict` when this is no demonstration.
    #[cfg(any(test, feature = "sim"))]
    pub fn demo_token(&self) -> Result<Secret> {
        if !self.shared.is_demo {
            return Err(ConsoleError::Conflict("this is no demonstration".to_owned()));
        }
        let (token, digest) = new_token()?;
        locked(&self.shared.links).demo = Some(digest);
        Ok(token)
    }

    /// Logs in as the demonstration's user, with the purpose training.
    ///
    /// # Errors
    /// `BadToken` when the token is wrong or used, or this is no demonstration.
    #[cfg(any(test, feature = "sim"))]
    pub fn demo_login(&self, token: &str, from: &str) -> Result<NewSession> {
        self.check_attempts("", from)?;
        let is_open = {
            let mut links = locked(&self.shared.links);
            let is_open = links.demo.is_some() && links.demo == digest_of(token);
            if is_open {
                links.demo = None;
            }
            is_open && self.shared.is_demo
        };
        if !is_open {
            self.failed("", from)?;
            return Err(ConsoleError::BadToken);
        }
        let id = self.act(|store, now| store.demo_user(now))?;
        let purpose = Purpose::begin(PurposeKind::Training, "", self.now());
        self.begin(id, from, Some(purpose.map_err(ConsoleError::Invalid)?))
    }

    /// Logs in as the demonstration's user: not in this build.
    ///
    /// # Errors
    /// `BadToken`.
    #[cfg(not(any(test, feature = "sim")))]
    pub fn demo_login(&self, _token: &str, _from: &str) -> Result<NewSession> {
        Err(ConsoleError::BadToken)
    }
}
