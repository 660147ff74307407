//! Configuration thread: stores records, validates texts, probes new cameras and brokers, and
//! watches the local file.
//!
//! It works through its requests one by one, so a hung card delays changes of the configuration and
//! nothing else. Decisions belong to [`crate::remote_config::state_machine`].
#![expect(
    clippy::disallowed_methods,
    reason = "shell: starts a thread or task, reads or writes files"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::connection_probe;
use crate::camera::{CameraFault, StreamRole};
use crate::clock::Clock;
use crate::regular_file::{Links, read_text};
use crate::remote_config::action::{ConfigInput, FileFound};
use crate::remote_config::credential_scope::{self, WITHHELD};
use crate::remote_config::known_ring::{self, KnownRing};
use crate::remote_config::local_edit;
use crate::remote_config::rejection::{RejectReason, Rejection};
use crate::remote_config::state_record::ConfigState;
use crate::remote_config::state_store::{self, Files};
use crate::remote_config::validation;
use crate::settings::diff::SettingsDiff;
use crate::settings::{Broker, CameraSettings, Settings, load};
use crate::storage::open::StorageFault;
use crate::storage::placement::check_placement;
use crate::units::Digest;
use crate::uplink::failover::ConnectFault;

/// Queued requests: one record and one text at a time, and a few dry runs.
const REQUESTS_MAX: usize = 16;
/// Interval at which the local file and the rollback request are polled.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// File that `taimat config rollback` leaves beside the records. It holds the number of the earlier
/// configuration.
pub const REQUEST: &str = "request";
/// Bytes of that request at most: a number.
const REQUEST_MAX: u64 = 64;

/// Name of the dry-run command.
pub const CHECK: &str = "config-check";
/// Name of the command that returns the text in force.
pub const SHOW: &str = "config-show";

/// A request to the configuration thread.
#[derive(Debug, Clone, PartialEq)]
pub enum ConfigRequest {
    /// Store the text, if any, and then the record; answered by `Saved`.
    Save(Box<ConfigState>, Option<String>),
    /// Validate a text; answered by `Judged`.
    Judge {
        /// The text; `None` for the stored one.
        text: Option<String>,
        /// SHA-256 of the text.
        sha256: Digest,
        /// The settings in force, when another camera must be probed.
        probe: Option<Box<Settings>>,
    },
    /// Store the ring of this boot; not answered.
    RememberRing(Box<KnownRing>),
    /// Return a stored text; answered by [`ConfigUpdate::Checked`].
    Show {
        /// `req_id` of the command.
        req_id: String,
        /// SHA-256 of the text.
        sha256: Digest,
    },
    /// A dry run; answered by [`ConfigUpdate::Checked`].
    Check {
        /// `req_id` of the command.
        req_id: String,
        /// The text.
        text: String,
        /// The settings in force.
        now: Box<Settings>,
        /// Also connect to the camera and the brokers.
        probe: bool,
    },
}

/// An update of the configuration thread.
#[derive(Debug, Clone, PartialEq)]
pub enum ConfigUpdate {
    /// Input for the state machine.
    Machine(ConfigInput),
    /// Reply to `config-check` or `config-show`.
    Checked {
        /// `req_id` of the command.
        req_id: String,
        /// Name of the command.
        cmd: &'static str,
        /// The data of the answer, or the rejection.
        outcome: Result<Value, Rejection>,
    },
}

/// Handle of the configuration thread.
#[derive(Debug, Clone)]
pub struct ConfigThread(SyncSender<ConfigRequest>);

/// Files and clock of the configuration thread.
pub struct ConfigPaths {
    /// Stores the records.
    pub files: Arc<dyn Files>,
    /// Also counts exits of the process, in a directory that a reboot clears; `None` when there is
    /// none.
    pub volatile: Option<Arc<dyn Files>>,
    /// The local configuration file, which an operator may edit.
    pub file: PathBuf,
    /// Directory of the rollback request.
    pub state: PathBuf,
    /// Clock for camera sessions.
    pub clock: Arc<dyn Clock>,
}

impl ConfigThread {
    /// Starts the thread. It ends when the last sender is dropped.
    ///
    /// # Errors
    /// When the operating system cannot create the thread.
    pub fn start(
        paths: ConfigPaths,
        send: impl Fn(ConfigUpdate) + Send + 'static,
    ) -> std::io::Result<ConfigThread> {
        let (requests, pending) = sync_channel(REQUESTS_MAX);
        thread::Builder::new()
            .name("config".into())
            .spawn(move || work(&paths, &pending, &send))?;
        Ok(ConfigThread(requests))
    }

    /// Queues a request.
    ///
    /// # Errors
    /// The request, and why it was not queued.
    pub fn request(&self, request: ConfigRequest) -> Result<(), (ConfigRequest, &'static str)> {
        self.0.try_send(request).map_err(|rejected| match rejected {
            TrySendError::Full(request) => (request, "the card is too slow"),
            TrySendError::Disconnected(request) => (request, "the configuration thread has ended"),
        })
    }
}

fn work(paths: &ConfigPaths, requests: &Receiver<ConfigRequest>, send: &dyn Fn(ConfigUpdate)) {
    let mut seen = stamp(&paths.file);
    loop {
        match requests.recv_timeout(POLL_INTERVAL) {
            Ok(ConfigRequest::Save(record, text)) => {
                let outcome = save(paths, &record, text.as_deref());
                send(ConfigUpdate::Machine(ConfigInput::Saved(record.generation, outcome)));
            }
            Ok(ConfigRequest::Judge { text, sha256, probe }) => {
                let text = text.or_else(|| state_store::text(paths.files.as_ref(), &sha256));
                send(ConfigUpdate::Machine(ConfigInput::Judged(
                    sha256,
                    judge(paths, text, probe.as_deref()),
                )));
            }
            Ok(ConfigRequest::Check { req_id, text, now, probe }) => {
                send(ConfigUpdate::Checked {
                    req_id,
                    cmd: CHECK,
                    outcome: check(paths, &text, &now, probe),
                });
            }
            Ok(ConfigRequest::RememberRing(known)) => {
                if let Err(reason) = known_ring::save(paths.files.as_ref(), &known) {
                    tracing::warn!(
                        reason,
                        "ring of this boot not stored beside the configuration; the next boot cannot tell another ring from it; check that card"
                    );
                }
            }
            Ok(ConfigRequest::Show { req_id, sha256 }) => {
                send(ConfigUpdate::Checked { req_id, cmd: SHOW, outcome: show(paths, &sha256) })
            }
            Err(RecvTimeoutError::Timeout) => {
                poll_file(paths, &mut seen, send);
                if let Some(nth) = request(paths) {
                    send(ConfigUpdate::Machine(ConfigInput::CallBack(nth)));
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn save(paths: &ConfigPaths, record: &ConfigState, text: Option<&str>) -> Result<(), String> {
    paths.volatile.iter().for_each(|volatile| state_store::save_exits(volatile.as_ref(), record));
    let kept = state_store::save(paths.files.as_ref(), record, text)?;
    kept.troubles.iter().for_each(
        |error| tracing::warn!(%error, "configuration copy not written; the other copy is valid"),
    );
    Ok(())
}

fn judge(
    paths: &ConfigPaths,
    text: Option<String>,
    probe: Option<&Settings>,
) -> Result<Box<Settings>, Rejection> {
    let text = text.ok_or_else(|| {
        Rejection::new(RejectReason::Unreadable, "its text is no longer on the card")
    })?;
    let settings = validation::judge_afar(&text, &load::read)?;
    check_ring(probe, &settings)?;
    if let Some(now) = probe {
        probe_camera(paths, now, &settings)?;
    }
    Ok(Box::new(settings))
}

/// Checks the place of the ring as `check-config` does. A remote caller does not learn what is in
/// another directory. Another fault of the directory in force is no reason: the document may mend it.
fn check_ring(now: Option<&Settings>, next: &Settings) -> Result<(), Rejection> {
    let Err((key, fault)) = check_placement(&next.storage) else {
        return Ok(());
    };
    let stays = now.is_some_and(|now| next.storage.dir == now.storage.dir);
    let reason = match fault {
        StorageFault::NoRoom { .. } if stays => fault.to_string(),
        StorageFault::NoRoom { .. } => {
            "does not fit the file system of storage.dir: lower storage.budget".to_owned()
        }
        // Without the settings in force it is unknown whether the directory changes.
        _ if stays || now.is_none() => return Ok(()),
        _ => validation::UNUSABLE.to_owned(),
    };
    Err(Rejection::bad_key(RejectReason::Invalid, key, reason))
}

/// Probes a changed camera while the one in force still records, so that a wrong address costs no
/// footage.
fn probe_camera(paths: &ConfigPaths, now: &Settings, next: &Settings) -> Result<(), Rejection> {
    for (role, key) in [(StreamRole::Main, "camera.main_url"), (StreamRole::Sub, "camera.sub_url")]
    {
        let changed = StreamAccess::of(&now.camera, role) != StreamAccess::of(&next.camera, role);
        if let Some(url) = StreamAccess::of(&next.camera, role).url.filter(|_| changed) {
            let known = credential_scope::is_known_camera(&now.camera, &url);
            let outcome =
                probe_stream(paths, &next.camera, role, known || next.camera.login.is_none());
            let outcome = match outcome {
                // The trial shows whether the login is right.
                Err((CameraFault::Unauthorized, _)) if !known && next.camera.login.is_some() => {
                    wait(connection_probe::offers_digest(&url))
                        .map_err(|reason| format!("{reason}: a camera at a new address must be set up on the device itself"))
                }
                outcome => outcome.map(|_| ()).map_err(|(fault, detail)| format!("{}: {detail}", fault.as_str())),
            };
            outcome.map_err(|reason| Rejection::bad_key(RejectReason::Probe, key, reason))?;
        }
    }
    Ok(())
}

/// Probes one stream of a camera, with its login if `with_login`.
fn probe_stream(
    paths: &ConfigPaths,
    camera: &CameraSettings,
    role: StreamRole,
    with_login: bool,
) -> Result<String, (CameraFault, String)> {
    let login = camera.login.clone().filter(|_| with_login);
    let probe = connection_probe::camera(
        CameraSettings { login, ..camera.clone() },
        role,
        paths.clock.clone(),
    );
    wait_or(probe, |error| (CameraFault::Protocol, error))
}

/// Settings that decide whether a stream of the camera can be played.
#[derive(PartialEq)]
struct StreamAccess {
    url: Option<url::Url>,
    login: Option<crate::settings::Login>,
    transport: crate::settings::Transport,
}

impl StreamAccess {
    fn of(camera: &CameraSettings, role: StreamRole) -> StreamAccess {
        let url = if role == StreamRole::Main {
            Some(camera.main_url.clone())
        } else {
            camera.sub_url.clone()
        };
        StreamAccess { url, login: camera.login.clone(), transport: camera.transport }
    }
}

fn show(paths: &ConfigPaths, sha256: &Digest) -> Result<Value, Rejection> {
    let text = state_store::text(paths.files.as_ref(), sha256);
    let text = text.ok_or_else(|| {
        Rejection::new(RejectReason::Unreadable, "its text is no longer on the card")
    })?;
    Ok(json!({"sha256": sha256, "config": text}))
}

/// A dry run: validates a text without applying it. A host that is not in force gets no login, and
/// the answer says only whether it works: a device must not be usable as a port scanner.
fn check(paths: &ConfigPaths, text: &str, now: &Settings, probe: bool) -> Result<Value, Rejection> {
    let settings = validation::judge_afar(text, &load::read)?;
    check_ring(Some(now), &settings)?;
    let change = SettingsDiff::between(now, &settings);
    let mut found = json!({"sha256": Digest::of(text.as_bytes()), "groups": change.section_names(), "restart": change.restart});
    if probe {
        found["camera"] = check_camera(paths, now, &settings.camera, StreamRole::Main);
        if settings.camera.sub_url.is_some() {
            found["camera_sub"] = check_camera(paths, now, &settings.camera, StreamRole::Sub);
        }
        found["brokers"] = settings
            .uplink
            .brokers()
            .into_iter()
            .map(|broker| check_broker(now, &settings, broker))
            .collect();
    }
    Ok(found)
}

fn check_camera(
    paths: &ConfigPaths,
    now: &Settings,
    next: &CameraSettings,
    role: StreamRole,
) -> Value {
    let url = if role == StreamRole::Main { Some(&next.main_url) } else { next.sub_url.as_ref() };
    let known = url.is_some_and(|url| credential_scope::is_known_camera(&now.camera, url));
    let with_login =
        url.is_some_and(|url| credential_scope::may_show_camera(&now.camera, next, url));
    let (ok, mut detail) = match probe_stream(paths, next, role, with_login) {
        Ok(tracks) => (true, tracks),
        Err((CameraFault::Unauthorized, _)) if !with_login => {
            (false, "a camera answers and requires a login".into())
        }
        Err((fault, detail)) if known => (false, format!("{}: {detail}", fault.as_str())),
        Err(_) => (false, "no camera plays there".into()),
    };
    if !with_login {
        detail = format!("{detail} ({WITHHELD})");
    }
    json!({"ok": ok, "detail": detail})
}

fn check_broker(now: &Settings, next: &Settings, broker: Broker) -> Value {
    let address = format!("{}:{}", broker.host, broker.port);
    if now.uplink.brokers().contains(&broker) {
        // Where client ids are bound to certificates, a probe would end this device's own session
        // and lose this answer.
        return json!({"ok": true, "detail": "unchanged: not probed", "broker": address});
    }
    let known = now.uplink.brokers().iter().any(|other| other.address() == broker.address());
    let with_login = credential_scope::may_show_broker(now, &broker);
    let probed = Broker { login: broker.login.clone().filter(|_| with_login), ..broker.clone() };
    let answer =
        wait_or(connection_probe::broker(&next.site, &probed, next.uplink.protocol), |error| {
            (error, ConnectFault::Lost)
        });
    let (ok, mut detail) = match answer {
        Ok(()) => (true, String::new()),
        Err((reason, _)) if known => (false, reason),
        Err((_, ConnectFault::Refused)) => {
            (false, "a broker answers and refuses this device".into())
        }
        Err(_) => (false, "no broker accepts this device there".into()),
    };
    if !with_login {
        detail = format!("{detail} ({WITHHELD})").trim_start().to_owned();
    }
    json!({"ok": ok, "detail": detail, "broker": address})
}

/// Blocks this thread on `probe`, in a Tokio runtime of its own.
fn wait<T>(probe: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    wait_or(probe, |error| error)
}

fn wait_or<T, E>(
    probe: impl Future<Output = Result<T, E>>,
    failed: impl Fn(String) -> E,
) -> Result<T, E> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed(error.to_string()))?;
    let answer = runtime.block_on(probe);
    runtime.shutdown_background();
    answer
}

fn stamp(file: &Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// Reads the local file when its size or modification time changed. A half-written file changes
/// again and is then read again.
fn poll_file(
    paths: &ConfigPaths,
    seen: &mut Option<(SystemTime, u64)>,
    send: &dyn Fn(ConfigUpdate),
) {
    let now = stamp(&paths.file);
    if now.is_none() || now == *seen {
        return;
    }
    *seen = now;
    if let Ok(text) = load::read(&paths.file) {
        let outcome = validation::judge(&text, &load::read).map(Box::new);
        if outcome.is_ok()
            && let Some(record) = state_store::load(paths.files.as_ref())
        {
            local_edit::warn(paths.files.as_ref(), &record, &text);
        }
        send(ConfigUpdate::Machine(ConfigInput::File(Box::new(FileFound { text, outcome }))));
    }
}

/// Takes the request of `taimat config rollback`, if there is one.
fn request(paths: &ConfigPaths) -> Option<usize> {
    let path = paths.state.join(REQUEST);
    let text = read_text(&path, Links::Refuse, REQUEST_MAX).ok()?;
    // A request whose file cannot be removed would repeat without end.
    std::fs::remove_file(&path).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
#[path = "config_thread_tests.rs"]
mod tests;
