//! ⇄ The keeper: the thread that keeps configuration records, judges texts with the files they name, asks new cameras and brokers,
//! and sees when a hand edits the file. A card that hangs delays changes of the configuration and nothing else.
//!
//! What belongs here: doing that, one after the other. What does not: deciding what follows ([`crate::config::machine`]).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::probe;
use crate::camera::Role;
use crate::clock::Clock;
use crate::config::machine::{FileFound, Input};
use crate::config::record::Record;
use crate::config::refusal::{Refusal, Why};
use crate::config::store::{self, Files};
use crate::config::verdict;
use crate::settings::change::Change;
use crate::settings::{CameraSettings, Settings, load};
use crate::units::Digest;

/// Orders that wait at most: one record and one text at a time, and a few dry runs.
const ORDERS: usize = 16;
/// How often the file and the requests are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The request `taimat config rollback` leaves beside the records: the number of the older one.
pub const REQUEST: &str = "request";

/// The commands that are answered here.
pub const CHECK: &str = "config-check";
/// See above.
pub const SHOW: &str = "config-show";

/// What may be asked of the keeper.
#[derive(Debug, Clone, PartialEq)]
pub enum KeeperOrder {
    /// Keep a record, and first its text; answered by [`Input::Saved`].
    Save(Box<Record>, Option<String>),
    /// Judge a text, or the kept one; answered by [`Input::Judged`].
    Judge {
        /// The text.
        text: Option<String>,
        /// Its digest.
        sha256: Digest,
        /// What is in force, when another camera must be asked.
        probe: Option<Box<Settings>>,
    },
    /// A kept text; answered by [`KeeperNews::Checked`].
    Show {
        /// Of the command.
        req_id: String,
        /// Its digest.
        sha256: Digest,
    },
    /// A dry run; answered by [`KeeperNews::Checked`].
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

/// What the keeper tells.
#[derive(Debug, Clone, PartialEq)]
pub enum KeeperNews {
    /// For the machine.
    Machine(Input),
    /// The answer to a dry run, or to who wants to see a text.
    Checked {
        /// Of the command.
        req_id: String,
        /// Its name.
        cmd: &'static str,
        /// What it found, or what is wrong.
        outcome: Result<Value, Refusal>,
    },
}

/// The sending end.
#[derive(Debug, Clone)]
pub struct Keeper(SyncSender<KeeperOrder>);

/// What the thread works with.
pub struct Place {
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

impl Keeper {
    /// Starts the thread; it ends when the last sender is gone.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start(place: Place, tell: impl Fn(KeeperNews) + Send + 'static) -> std::io::Result<Keeper> {
        let (orders, waiting) = sync_channel(ORDERS);
        thread::Builder::new().name("keeper".into()).spawn(move || work(&place, &waiting, &tell))?;
        Ok(Keeper(orders))
    }

    /// Gives an order.
    ///
    /// # Errors
    /// The order, and why it is not taken.
    pub fn order(&self, order: KeeperOrder) -> Result<(), (KeeperOrder, &'static str)> {
        self.0.try_send(order).map_err(|refused| match refused {
            TrySendError::Full(order) => (order, "the card is too slow"),
            TrySendError::Disconnected(order) => (order, "the keeper has ended"),
        })
    }
}

fn work(place: &Place, orders: &Receiver<KeeperOrder>, tell: &dyn Fn(KeeperNews)) {
    let mut seen = stamp(&place.file);
    loop {
        match orders.recv_timeout(LOOK_EVERY) {
            Ok(KeeperOrder::Save(record, text)) => {
                let kept = save(place, &record, text.as_deref());
                tell(KeeperNews::Machine(Input::Saved(record.generation, kept)));
            }
            Ok(KeeperOrder::Judge { text, sha256, probe }) => {
                let text = text.or_else(|| store::text(place.files.as_ref(), &sha256));
                tell(KeeperNews::Machine(Input::Judged(sha256, judge(place, text, probe.as_deref()))));
            }
            Ok(KeeperOrder::Check { req_id, text, now, probe }) => {
                tell(KeeperNews::Checked { req_id, cmd: CHECK, outcome: check(place, &text, &now, probe) });
            }
            Ok(KeeperOrder::Show { req_id, sha256 }) => {
                tell(KeeperNews::Checked { req_id, cmd: SHOW, outcome: show(place, &sha256) })
            }
            Err(RecvTimeoutError::Timeout) => {
                look(place, &mut seen, tell);
                if let Some(nth) = request(place) {
                    tell(KeeperNews::Machine(Input::CallBack(nth)));
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn save(place: &Place, record: &Record, text: Option<&str>) -> Result<(), String> {
    place.volatile.iter().for_each(|volatile| store::save_exits(volatile.as_ref(), record));
    let kept = store::save(place.files.as_ref(), record, text)?;
    kept.troubles.iter().for_each(|trouble| tracing::warn!("one copy of the configuration is missing: {trouble}"));
    Ok(())
}

fn judge(place: &Place, text: Option<String>, probe: Option<&Settings>) -> Result<Box<Settings>, Refusal> {
    let text = text.ok_or_else(|| Refusal::of(Why::Unreadable, "its text is not on the card any more"))?;
    let settings = verdict::judge(&text, &load::read)?;
    if let Some(now) = probe {
        ask_camera(place, now, &settings)?;
    }
    Ok(Box::new(settings))
}

/// Another camera must answer while the one in force plays: a wrong address costs no footage then.
fn ask_camera(place: &Place, now: &Settings, next: &Settings) -> Result<(), Refusal> {
    for (role, key) in [(Role::Main, "camera.main_url"), (Role::Sub, "camera.sub_url")] {
        let other = way(&now.camera, role) != way(&next.camera, role);
        if other && way(&next.camera, role).0.is_some() {
            let asked = wait(probe::camera(next.camera.clone(), role, place.clock.clone()));
            asked.map_err(|reason| Refusal::bad_key(Why::Probe, key, reason))?;
        }
    }
    Ok(())
}

/// What decides whether a stream of the camera can be had.
fn way(camera: &CameraSettings, role: Role) -> (Option<url::Url>, Option<crate::settings::Login>, crate::settings::Transport) {
    let url = if role == Role::Main { Some(camera.main_url.clone()) } else { camera.sub_url.clone() };
    (url, camera.login.clone(), camera.transport)
}

fn show(place: &Place, sha256: &Digest) -> Result<Value, Refusal> {
    let text = store::text(place.files.as_ref(), sha256);
    let text = text.ok_or_else(|| Refusal::of(Why::Unreadable, "its text is not on the card any more"))?;
    Ok(json!({"sha256": sha256, "config": text}))
}

/// A dry run: everything that can be known without applying it.
fn check(place: &Place, text: &str, now: &Settings, probe: bool) -> Result<Value, Refusal> {
    let settings = verdict::judge(text, &load::read)?;
    let change = Change::between(now, &settings);
    let mut found = json!({"sha256": Digest::of(text.as_bytes()), "groups": change.words(), "restart": change.restart});
    if probe {
        let said = |outcome: Result<String, String>| match outcome {
            Ok(words) => json!({"ok": true, "detail": words}),
            Err(reason) => json!({"ok": false, "detail": reason}),
        };
        found["camera"] = said(wait(probe::camera(settings.camera.clone(), Role::Main, place.clock.clone())));
        if settings.camera.sub_url.is_some() {
            found["camera_sub"] = said(wait(probe::camera(settings.camera.clone(), Role::Sub, place.clock.clone())));
        }
        let (brokers, in_force) = (settings.uplink.brokers(), now.uplink.brokers());
        let asked = brokers.iter().map(|broker| {
            // Where the client id is bound to the certificate, a probe would end our own session, and lose this answer.
            let mut answer = said(match in_force.contains(broker) {
                true => Ok("unchanged: not asked".into()),
                false => wait(probe::broker(&settings.site, broker, settings.uplink.protocol)).map(|()| String::new()),
            });
            answer["broker"] = json!(format!("{}:{}", broker.host, broker.port));
            answer
        });
        found["brokers"] = json!(asked.collect::<Vec<_>>());
    }
    Ok(found)
}

/// Waits here for something that is asked beside the agent's runtime.
fn wait<T>(asked: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let answer = runtime.block_on(asked);
    runtime.shutdown_background();
    answer
}

fn stamp(file: &Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// Reads the file when it looks other than before; what is half written is read again when it is whole.
fn look(place: &Place, seen: &mut Option<(SystemTime, u64)>, tell: &dyn Fn(KeeperNews)) {
    let now = stamp(&place.file);
    if now.is_none() || now == *seen {
        return;
    }
    *seen = now;
    if let Ok(text) = load::read(&place.file) {
        let outcome = verdict::judge(&text, &load::read).map(Box::new);
        tell(KeeperNews::Machine(Input::File(Box::new(FileFound { text, outcome }))));
    }
}

/// What `taimat config rollback` asked for; taken once.
fn request(place: &Place) -> Option<usize> {
    let path = place.state.join(REQUEST);
    let text = std::fs::read_to_string(&path).ok()?;
    // A request that cannot be taken away would be made again and again.
    std::fs::remove_file(&path).ok()?;
    text.trim().parse().ok()
}
