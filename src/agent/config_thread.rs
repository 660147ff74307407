//! ⇄ The keeper: the thread that keeps configuration records, judges texts with the files they name, asks new cameras and brokers,
//! and sees when a hand edits the file. A card that hangs delays changes of the configuration and nothing else.
//!
//! What belongs here: doing that, one after the other. What does not: deciding what follows ([`crate::remote_config::state_machine`]).

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
use crate::remote_config::credential_scope::{self, WITHHELD};
use crate::remote_config::rejection::{RejectReason, Rejection};
use crate::remote_config::state_machine::{ConfigInput, FileFound};
use crate::remote_config::state_record::ConfigState;
use crate::remote_config::state_store::{self, Files};
use crate::remote_config::validation;
use crate::settings::diff::SettingsDiff;
use crate::settings::{Broker, CameraSettings, Settings, load};
use crate::units::Digest;
use crate::uplink::failover::ConnectFault;

/// Orders that wait at most: one record and one text at a time, and a few dry runs.
const ORDERS: usize = 16;
/// How often the file and the requests are looked at.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// The request `taimat config rollback` leaves beside the records: the number of the older one.
pub const REQUEST: &str = "request";
/// Bytes of that request at most: a number.
const REQUEST_MAX: u64 = 64;

/// The commands that are answered here.
pub const CHECK: &str = "config-check";
/// See above.
pub const SHOW: &str = "config-show";

/// What may be asked of the configuration thread.
#[derive(Debug, Clone, PartialEq)]
pub enum ConfigRequest {
    /// Keep a record, and first its text; answered by `Saved`.
    Save(Box<ConfigState>, Option<String>),
    /// Judge a text, or the kept one; answered by `Judged`.
    Judge {
        /// The text.
        text: Option<String>,
        /// Its digest.
        sha256: Digest,
        /// What is in force, when another camera must be asked.
        probe: Option<Box<Settings>>,
    },
    /// A kept text; answered by [`ConfigUpdate::Checked`].
    Show {
        /// Of the command.
        req_id: String,
        /// Its digest.
        sha256: Digest,
    },
    /// A dry run; answered by [`ConfigUpdate::Checked`].
    Check {
        /// Of the command.
        req_id: String,
        /// The text.
        text: String,
        /// What is in force.
        now: Box<Settings>,
        /// Ask camera and brokers too.
        probe: bool,
    },
}

/// What the configuration thread tells.
#[derive(Debug, Clone, PartialEq)]
pub enum ConfigUpdate {
    /// For the machine.
    Machine(ConfigInput),
    /// The answer to a dry run, or to who wants to see a text.
    Checked {
        /// Of the command.
        req_id: String,
        /// Its name.
        cmd: &'static str,
        /// What it found, or what is wrong.
        outcome: Result<Value, Rejection>,
    },
}

/// The sending end.
#[derive(Debug, Clone)]
pub struct ConfigThread(SyncSender<ConfigRequest>);

/// What the thread works with.
pub struct ConfigPaths {
    /// Where records go.
    pub files: Arc<dyn Files>,
    /// Where exits are counted beside the record.
    pub volatile: Option<Arc<dyn Files>>,
    /// The file a hand may edit.
    pub file: PathBuf,
    /// Where requests are left.
    pub state: PathBuf,
    /// For sessions with a camera.
    pub clock: Arc<dyn Clock>,
}

impl ConfigThread {
    /// Starts the thread; it ends when the last sender is gone.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start(place: ConfigPaths, tell: impl Fn(ConfigUpdate) + Send + 'static) -> std::io::Result<ConfigThread> {
        let (orders, waiting) = sync_channel(ORDERS);
        thread::Builder::new().name("keeper".into()).spawn(move || work(&place, &waiting, &tell))?;
        Ok(ConfigThread(orders))
    }

    /// Gives an order.
    ///
    /// # Errors
    /// The order, and why it is not taken.
    pub fn order(&self, order: ConfigRequest) -> Result<(), (ConfigRequest, &'static str)> {
        self.0.try_send(order).map_err(|refused| match refused {
            TrySendError::Full(order) => (order, "the card is too slow"),
            TrySendError::Disconnected(order) => (order, "the keeper has ended"),
        })
    }
}

fn work(place: &ConfigPaths, orders: &Receiver<ConfigRequest>, tell: &dyn Fn(ConfigUpdate)) {
    let mut seen = stamp(&place.file);
    loop {
        match orders.recv_timeout(POLL_INTERVAL) {
            Ok(ConfigRequest::Save(record, text)) => {
                let kept = save(place, &record, text.as_deref());
                tell(ConfigUpdate::Machine(ConfigInput::Saved(record.generation, kept)));
            }
            Ok(ConfigRequest::Judge { text, sha256, probe }) => {
                let text = text.or_else(|| state_store::text(place.files.as_ref(), &sha256));
                tell(ConfigUpdate::Machine(ConfigInput::Judged(sha256, judge(place, text, probe.as_deref()))));
            }
            Ok(ConfigRequest::Check { req_id, text, now, probe }) => {
                tell(ConfigUpdate::Checked { req_id, cmd: CHECK, outcome: check(place, &text, &now, probe) });
            }
            Ok(ConfigRequest::Show { req_id, sha256 }) => {
                tell(ConfigUpdate::Checked { req_id, cmd: SHOW, outcome: show(place, &sha256) })
            }
            Err(RecvTimeoutError::Timeout) => {
                poll_file(place, &mut seen, tell);
                if let Some(nth) = request(place) {
                    tell(ConfigUpdate::Machine(ConfigInput::CallBack(nth)));
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn save(place: &ConfigPaths, record: &ConfigState, text: Option<&str>) -> Result<(), String> {
    place.volatile.iter().for_each(|volatile| state_store::save_exits(volatile.as_ref(), record));
    let kept = state_store::save(place.files.as_ref(), record, text)?;
    kept.troubles.iter().for_each(|trouble| tracing::warn!("one copy of the configuration is missing: {trouble}"));
    Ok(())
}

fn judge(place: &ConfigPaths, text: Option<String>, probe: Option<&Settings>) -> Result<Box<Settings>, Rejection> {
    let text = text.ok_or_else(|| Rejection::new(RejectReason::Unreadable, "its text is not on the card any more"))?;
    let settings = validation::judge_afar(&text, &load::read)?;
    if let Some(now) = probe {
        probe_camera(place, now, &settings)?;
    }
    Ok(Box::new(settings))
}

/// Another camera must answer while the one in force plays: a wrong address costs no footage then.
fn probe_camera(place: &ConfigPaths, now: &Settings, next: &Settings) -> Result<(), Rejection> {
    for (role, key) in [(StreamRole::Main, "camera.main_url"), (StreamRole::Sub, "camera.sub_url")] {
        let other = way(&now.camera, role) != way(&next.camera, role);
        if let Some(url) = way(&next.camera, role).0.filter(|_| other) {
            let known = credential_scope::is_known_camera(&now.camera, &url);
            let asked = probe_stream(place, &next.camera, role, known || next.camera.login.is_none());
            let asked = match asked {
                // Whether its login is right is shown on trial.
                Err((CameraFault::Unauthorized, _)) if !known && next.camera.login.is_some() => {
                    wait(connection_probe::offers_digest(&url))
                        .map_err(|reason| format!("{reason}: at a new address a hand on the box must set this camera up"))
                }
                asked => asked.map(|_| ()).map_err(|(fault, detail)| format!("{}: {detail}", fault.as_str())),
            };
            asked.map_err(|reason| Rejection::bad_key(RejectReason::Probe, key, reason))?;
        }
    }
    Ok(())
}

/// One stream of a camera, with its login or without.
fn probe_stream(
    place: &ConfigPaths,
    camera: &CameraSettings,
    role: StreamRole,
    shows: bool,
) -> Result<String, (CameraFault, String)> {
    let login = camera.login.clone().filter(|_| shows);
    let asked = connection_probe::camera(CameraSettings { login, ..camera.clone() }, role, place.clock.clone());
    wait_or(asked, |error| (CameraFault::Protocol, error))
}

/// What decides whether a stream of the camera can be had.
fn way(
    camera: &CameraSettings,
    role: StreamRole,
) -> (Option<url::Url>, Option<crate::settings::Login>, crate::settings::Transport) {
    let url = if role == StreamRole::Main { Some(camera.main_url.clone()) } else { camera.sub_url.clone() };
    (url, camera.login.clone(), camera.transport)
}

fn show(place: &ConfigPaths, sha256: &Digest) -> Result<Value, Rejection> {
    let text = state_store::text(place.files.as_ref(), sha256);
    let text = text.ok_or_else(|| Rejection::new(RejectReason::Unreadable, "its text is not on the card any more"))?;
    Ok(json!({"sha256": sha256, "config": text}))
}

/// A dry run: everything that can be known without applying it. A host that is not in force gets no login, and of it is reported only
/// whether it would do: a device is no way to look around in its network.
fn check(place: &ConfigPaths, text: &str, now: &Settings, probe: bool) -> Result<Value, Rejection> {
    let settings = validation::judge_afar(text, &load::read)?;
    let change = SettingsDiff::between(now, &settings);
    let mut found = json!({"sha256": Digest::of(text.as_bytes()), "groups": change.section_names(), "restart": change.restart});
    if probe {
        found["camera"] = check_camera(place, now, &settings.camera, StreamRole::Main);
        if settings.camera.sub_url.is_some() {
            found["camera_sub"] = check_camera(place, now, &settings.camera, StreamRole::Sub);
        }
        found["brokers"] = settings.uplink.brokers().into_iter().map(|broker| check_broker(now, &settings, broker)).collect();
    }
    Ok(found)
}

fn check_camera(place: &ConfigPaths, now: &Settings, next: &CameraSettings, role: StreamRole) -> Value {
    let url = if role == StreamRole::Main { Some(&next.main_url) } else { next.sub_url.as_ref() };
    let known = url.is_some_and(|url| credential_scope::is_known_camera(&now.camera, url));
    let shows = url.is_some_and(|url| credential_scope::may_show_camera(&now.camera, next, url));
    let (ok, mut detail) = match probe_stream(place, next, role, shows) {
        Ok(tracks) => (true, tracks),
        Err((CameraFault::Unauthorized, _)) if !shows => (false, "a camera answers and asks for a login".into()),
        Err((fault, detail)) if known => (false, format!("{}: {detail}", fault.as_str())),
        Err(_) => (false, "no camera plays there".into()),
    };
    if !shows {
        detail = format!("{detail} ({WITHHELD})");
    }
    json!({"ok": ok, "detail": detail})
}

fn check_broker(now: &Settings, next: &Settings, broker: Broker) -> Value {
    let address = format!("{}:{}", broker.host, broker.port);
    if now.uplink.brokers().contains(&broker) {
        // Where the client id is bound to the certificate, a probe would end our own session, and lose this answer.
        return json!({"ok": true, "detail": "unchanged: not asked", "broker": address});
    }
    let known = now.uplink.brokers().iter().any(|other| other.address() == broker.address());
    let shows = credential_scope::may_show_broker(now, &broker);
    let asked = Broker { login: broker.login.clone().filter(|_| shows), ..broker.clone() };
    let answer = wait_or(connection_probe::broker(&next.site, &asked, next.uplink.protocol), |error| (error, ConnectFault::Lost));
    let (ok, mut detail) = match answer {
        Ok(()) => (true, String::new()),
        Err((reason, _)) if known => (false, reason),
        Err((_, ConnectFault::Refused)) => (false, "a broker answers and refuses this box".into()),
        Err(_) => (false, "no broker takes this box there".into()),
    };
    if !shows {
        detail = format!("{detail} ({WITHHELD})").trim_start().to_owned();
    }
    json!({"ok": ok, "detail": detail, "broker": address})
}

/// Waits here for something that is asked beside the agent's runtime.
fn wait<T>(asked: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    wait_or(asked, |error| error)
}

fn wait_or<T, E>(asked: impl Future<Output = Result<T, E>>, failed: impl Fn(String) -> E) -> Result<T, E> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed(error.to_string()))?;
    let answer = runtime.block_on(asked);
    runtime.shutdown_background();
    answer
}

fn stamp(file: &Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// Reads the file when it looks other than before; what is half written is read again when it is whole.
fn poll_file(place: &ConfigPaths, seen: &mut Option<(SystemTime, u64)>, tell: &dyn Fn(ConfigUpdate)) {
    let now = stamp(&place.file);
    if now.is_none() || now == *seen {
        return;
    }
    *seen = now;
    if let Ok(text) = load::read(&place.file) {
        let outcome = validation::judge(&text, &load::read).map(Box::new);
        tell(ConfigUpdate::Machine(ConfigInput::File(Box::new(FileFound { text, outcome }))));
    }
}

/// What `taimat config rollback` asked for; taken once.
fn request(place: &ConfigPaths) -> Option<usize> {
    let path = place.state.join(REQUEST);
    let text = read_text(&path, Links::Refuse, REQUEST_MAX).ok()?;
    // A request that cannot be taken away would be made again and again.
    std::fs::remove_file(&path).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
#[path = "config_thread_tests.rs"]
mod tests;
