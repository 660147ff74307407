//! ⇄ The wiring: threads, channels and the loop that feeds the agent. One inbox for everything that happens; every effect is
//! carried out before the next input is taken.
//!
//! What belongs here: starting, passing on, ending. What does not: any decision (the agent's).

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, bail};
use sd_notify::NotifyState;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::keeper::{self, Keeper, KeeperNews, KeeperOrder, Place};
use super::waiting::Waiting;
use super::{Agent, Effect, Input};
use crate::camera::logins::Logins;
use crate::camera::rtsp::{self, Stream};
use crate::camera::{CameraNews, Frame, Role};
use crate::clip::worker::Worker;
use crate::clock::Clock;
use crate::config::begin::Configured;
use crate::config::machine;
use crate::config::refusal::{Refusal, Why};
use crate::lane::{LaneSender, lane};
use crate::lull::{self, Lull};
use crate::motion::SightNews;
use crate::motion::limits::LANE_BYTES;
use crate::motion::sight::{self, SightOrder};
use crate::pulse::{Finding, Pulses, limits};
use crate::settings::Settings;
use crate::settings::change::Change;
use crate::storage::start::StorageFault;
use crate::storage::thread::{self as storage, Reader};
use crate::storage::{StorageNews, StorageOrder};
use crate::tail::Tail;
use crate::units::Boot;
use crate::uplink::{UplinkNews, UplinkOrder, mqtt};

/// Bytes of frames on their way to storage: eight seconds of a 16 Mbit/s camera, while a card stalls.
const STORAGE_BYTES: usize = 16 << 20;
/// Orders on their way to storage.
const STORAGE_ORDERS: usize = 256;
/// News on their way to the agent: it handles one in microseconds, so this only absorbs a burst.
const INBOX: usize = 256;
/// Orders on their way to the uplink; what does not fit waits here.
const UPLINK_ORDERS: usize = 64;
/// How often waiting orders are offered again, and the watchdog is patted at least.
const BREATH: Duration = Duration::from_millis(100);
/// The parts of the camera, by their names among the pulses.
const CAMERA_MAIN: &str = "camera main";
const CAMERA_SUB: &str = "camera sub";
/// Bits of a run's number that one begin of the cameras has for itself: a million sessions, and four thousand changes of the camera.
const RUNS_BITS: u32 = 20;
/// For camera tasks to end after they were told to; TEARDOWN has its own, shorter bound.
const CAMERA_WITHIN: Duration = Duration::from_secs(4);

/// Everything the loop owns.
struct Wiring {
    settings: Settings,
    clock: Arc<dyn Clock>,
    inbox: mpsc::Sender<Input>,
    lull: Lull,
    pulses: Pulses,
    stopping: bool,
    storage: LaneSender<StorageOrder>,
    storage_thread: JoinHandle<()>,
    sight: LaneSender<SightOrder>,
    sight_thread: Option<JoinHandle<()>>,
    cameras: JoinSet<()>,
    camera_stop: watch::Sender<bool>,
    /// How often the cameras were begun: each time runs count from higher up.
    camera_begun: u32,
    camera_news: Option<mpsc::Sender<CameraNews>>,
    keeper: Option<Keeper>,
    /// Why the ring lies in memory since the start, until it is told.
    without_card: Option<String>,
    uplink: Option<mpsc::Sender<UplinkOrder>>,
    worker: Worker,
    /// Orders their lanes had no room for, in order.
    storage_waiting: Waiting<StorageOrder>,
    uplink_waiting: Waiting<UplinkOrder>,
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Somebody asked.
    Stopped,
    /// To start anew under other settings.
    Restart,
}

/// Runs a box whose configuration stays as it is, until `stop` becomes true and everything is put away.
///
/// # Errors
/// As [`run_configured`].
pub async fn run(settings: Settings, clock: Arc<dyn Clock>, stop: watch::Receiver<bool>) -> anyhow::Result<()> {
    run_configured(settings, None, clock, Lull::default(), stop).await.map(|_| ())
}

/// Runs a box until `stop` becomes true, or a configuration needs a new start, and everything is put away. `lull` is that of the
/// runtime this runs on; one in which nobody rests does nothing.
///
/// # Errors
/// When the ring cannot be used, a thread cannot be started, or a part of the agent ends although nobody asked: what is recorded
/// is safe, and a new start is the cure.
pub async fn run_configured(
    settings: Settings,
    configured: Option<Configured>,
    clock: Arc<dyn Clock>,
    lull: Lull,
    stop: watch::Receiver<bool>,
) -> anyhow::Result<Ended> {
    run_beside(settings, configured, clock, lull, stop, |_| {}).await
}

/// The same, with somebody beside the rooms who tells the agent things: a test's show before the camera.
///
/// # Errors
/// As [`run_configured`].
pub async fn run_beside(
    settings: Settings,
    configured: Option<Configured>,
    clock: Arc<dyn Clock>,
    lull: Lull,
    mut stop: watch::Receiver<bool>,
    beside: impl FnOnce(mpsc::Sender<Input>),
) -> anyhow::Result<Ended> {
    let (inbox, mut inputs) = mpsc::channel(INBOX);
    beside(inbox.clone());
    let started = Wiring::start(settings.clone(), clock.clone(), inbox.clone(), lull.clone()).await;
    let instead = started.as_ref().err().zip(configured.as_ref()).and_then(|(error, configured)| {
        // Either the process has ended with this again and again, or another start makes no difference: without a card, but in the
        // office's hands.
        let full = matches!(error.downcast_ref(), Some(StorageFault::NoRoom { .. } | StorageFault::OtherSite));
        let detail = format!("the ring is kept in memory only until the next start: {error:#}");
        configured.last_resort().or_else(|| configured.in_memory().filter(|_| full)).map(|ring| (ring, detail))
    });
    let (mut wiring, reader) = match instead {
        Some((ring, detail)) => {
            tracing::error!("{detail}");
            let (wiring, reader) = Wiring::start(Settings { storage: ring, ..settings }, clock.clone(), inbox, lull).await?;
            (Wiring { without_card: Some(detail), ..wiring }, reader)
        }
        None => started?,
    };
    let mut agent = Agent::new(wiring.settings.clone(), Arc::new(reader), seed()?);
    if let Some(Configured { machine, files, file, volatile, state, refused, .. }) = configured {
        let tell = lull::teller(wiring.inbox.clone(), wiring.lull.clone(), Input::Keeper);
        wiring.keeper = Some(Keeper::start(Place { files, volatile, file, state, clock: clock.clone() }, tell)?);
        agent = agent.with_configuration(machine, refused);
    }
    let mut effects = Vec::new();
    while !agent.is_finished() {
        let due = agent.deadline().since(clock.now().mono).min(BREATH.as_micros() as u64);
        let input = tokio::select! {
            input = inputs.recv() => input.unwrap_or(Input::Tick),
            _ = stop.wait_for(|stop| *stop), if !wiring.stopping => {
                wiring.stopping = true;
                let _ = sd_notify::notify(&[NotifyState::Stopping]);
                Input::Stop
            }
            () = tokio::time::sleep(Duration::from_micros(due)) => Input::Tick,
        };
        agent.handle(clock.now(), input, &mut effects);
        for effect in effects.drain(..) {
            wiring.carry_out(effect);
        }
        wiring.offer_waiting()?;
        wiring.look_after()?;
    }
    let storage_thread = wiring.storage_thread;
    drop((wiring.storage, inputs));
    // The thread ends by itself after Stop; a hung card must not keep the process from ending.
    match timeout(CAMERA_WITHIN, tokio::task::spawn_blocking(move || storage_thread.join())).await {
        Ok(Ok(Err(_))) => bail!("the storage thread panicked at the stop: the ring was not closed in order"),
        Ok(_) | Err(_) => Ok(if agent.wants_restart() && !*stop.borrow() { Ended::Restart } else { Ended::Stopped }),
    }
}

/// 32 bytes nobody can guess.
///
/// # Errors
/// When the system gives none.
pub fn seed() -> anyhow::Result<[u8; 32]> {
    let mut seed = [0; 32];
    let filled = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut seed);
    filled.ok().context("the system gives no randomness")?;
    Ok(seed)
}

impl Wiring {
    /// Opens the ring and starts the threads. The ring is opened beside the runtime, so that signals are heard meanwhile.
    async fn start(
        settings: Settings,
        clock: Arc<dyn Clock>,
        inbox: mpsc::Sender<Input>,
        lull: Lull,
    ) -> anyhow::Result<(Wiring, Reader)> {
        let mut pulses = Pulses::default();
        let (storage, orders) = lane(STORAGE_BYTES, STORAGE_ORDERS);
        let (ring, time) = (settings.storage.clone(), clock.clone());
        let tell = lull::teller(inbox.clone(), lull.clone(), Input::Storage);
        let pulse = pulses.part(clock.now().mono, "storage", limits::STORAGE);
        let opening = tokio::task::spawn_blocking(move || storage::start(&ring, time, orders, pulse, tell));
        let (storage_thread, reader) = opening.await.context("opening the ring")??;
        let now = clock.now().mono;
        let (sight, frames) = lane(LANE_BYTES, 4);
        let still_max = settings.storage.still_bytes as usize - 4096;
        let tell = lull::teller(inbox.clone(), lull.clone(), Input::Sight);
        let pulse = pulses.part(now, "sight", limits::SIGHT);
        let sight_thread = sight::start(settings.motion.clone(), still_max, clock.clone(), frames, pulse, tell)?;
        let pulse = pulses.part(now, "clip", limits::CLIP);
        let worker = Worker::start(pulse, lull::teller(inbox.clone(), lull.clone(), Input::Hashed))?;
        let wiring = Wiring {
            settings,
            clock,
            inbox,
            lull,
            pulses,
            stopping: false,
            storage,
            storage_thread,
            sight,
            sight_thread: Some(sight_thread),
            cameras: JoinSet::new(),
            camera_stop: watch::channel(false).0,
            camera_begun: 0,
            camera_news: None,
            keeper: None,
            without_card: None,
            uplink: None,
            worker,
            storage_waiting: Waiting::new("storage", now),
            uplink_waiting: Waiting::new("uplink", now),
        };
        Ok((wiring, reader))
    }

    /// Pats the service manager's watchdog while every part lives. At a stop parts end because they were asked to, and each step
    /// has its own deadline.
    fn look_after(&mut self) -> anyhow::Result<()> {
        match self.pulses.look(self.clock.now().mono) {
            _ if self.stopping => {}
            Finding::Alive => {}
            Finding::Ended(part) => bail!("{part} has ended although nobody asked: a new start is needed"),
            Finding::Silent { part, limit, new } => {
                if new {
                    tracing::error!(part, "no sign of life for {} s: the watchdog is no longer patted", limit / 1_000_000);
                }
                return Ok(());
            }
        }
        let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        Ok(())
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Open { boot } => self.open(boot),
            Effect::Storage(order) => self.storage_waiting.push(order),
            Effect::Uplink(order) => self.uplink_waiting.push_in_lane(order),
            Effect::Hash(order) => {
                // The agent has fewer clips in the making than the worker's queue holds, and a worker that is gone is found by its
                // pulse: the clip stays owed.
                let _ = self.worker.hash(order);
            }
            Effect::Tail { req_id, lines, bytes } => {
                let (inbox, lines) = (self.inbox.clone(), Tail::ours().last(lines, bytes));
                tokio::spawn(async move { inbox.send(Input::Tail { req_id, lines }).await });
            }
            Effect::Glance { req_id } => {
                if self.sight.order(SightOrder::Glance { req_id: req_id.clone() }).is_err() {
                    let (inbox, outcome) = (self.inbox.clone(), Err("busy: ask again in a minute".to_owned()));
                    tokio::spawn(async move { inbox.send(Input::Sight(SightNews::Glance { req_id, outcome })).await });
                }
            }
            Effect::Keep(order) => self.keep(order),
            Effect::Apply { settings, change, epoch, fresh } => self.apply(*settings, &change, epoch, fresh),
            Effect::StopCamera => {
                // Also when it is the configuration, or the office, that asks: parts end now because they are told to.
                self.stopping = true;
                self.stop_camera();
            }
            Effect::Finished => {}
        }
    }

    /// Offers what waits; what finds no room, or nobody to take it, waits on, in order.
    fn offer_waiting(&mut self) -> anyhow::Result<()> {
        let now = self.clock.now().mono;
        let Wiring { storage, storage_waiting, uplink, uplink_waiting, .. } = self;
        storage_waiting.offer(now, |order| storage.order(order));
        if let Some(uplink) = uplink {
            uplink_waiting.offer(now, |order| match uplink.try_send(order) {
                Err(TrySendError::Full(order) | TrySendError::Closed(order)) => Err(order),
                Ok(()) => Ok(()),
            });
            uplink_waiting.ensure_taken(now)?;
        } else {
            // It begins when recovery is done.
            uplink_waiting.offer_nobody(now);
        }
        storage_waiting.ensure_taken(now)
    }

    /// Recovery is done: connects to the camera and the office.
    fn open(&mut self, boot: Boot) {
        let _ = sd_notify::notify(&[NotifyState::Ready]);
        let (orders, waiting) = mpsc::channel(UPLINK_ORDERS);
        self.uplink = Some(orders);
        let (news, mut heard) = mpsc::channel::<UplinkNews>(UPLINK_ORDERS);
        let settings = &self.settings;
        let pulse = self.pulses.part(self.clock.now().mono, "uplink", limits::UPLINK);
        let start = mqtt::Start {
            settings: settings.uplink.clone(),
            site: settings.site.clone(),
            boot,
            clock: self.clock.clone(),
            lull: self.lull.clone(),
        };
        tokio::spawn(mqtt::run(start, waiting, news, pulse));
        let inbox = self.inbox.clone();
        tokio::spawn(async move {
            while let Some(news) = heard.recv().await {
                let _ = inbox.send(Input::Uplink(news)).await;
            }
        });
        let (news, mut heard) = mpsc::channel::<CameraNews>(UPLINK_ORDERS);
        let inbox = self.inbox.clone();
        tokio::spawn(async move {
            while let Some(news) = heard.recv().await {
                let _ = inbox.send(Input::Camera(news)).await;
            }
        });
        self.camera_news = Some(news);
        if let Some(detail) = self.without_card.take() {
            let inbox = self.inbox.clone();
            tokio::spawn(async move { inbox.send(Input::Storage(StorageNews::CardLost { detail })).await });
        }
        self.begin_cameras(None);
    }

    /// Begins the camera's sessions, behind those of `before`: cameras with few sessions refuse the next one until it is closed.
    fn begin_cameras(&mut self, before: Option<watch::Receiver<bool>>) {
        let Some(news) = self.camera_news.clone() else {
            return;
        };
        let apart = self.settings.camera.sub_url.is_some();
        let (storage, sight) = (self.storage.clone(), self.sight.clone());
        let main = move |frame: Arc<Frame>| {
            storage.frame(&frame);
            if !apart {
                sight.frame(&frame);
            }
        };
        let logins = Arc::default();
        let sub = self.sight.clone();
        if apart {
            self.camera(Role::Sub, &logins, move |frame| _ = sub.frame(&frame), news.clone(), before.clone());
        }
        self.camera(Role::Main, &logins, main, news, before);
        self.camera_begun += 1;
    }

    fn camera(
        &mut self,
        role: Role,
        logins: &Arc<Mutex<Logins>>,
        frames: impl FnMut(Arc<Frame>) + Send + 'static,
        news: mpsc::Sender<CameraNews>,
        before: Option<watch::Receiver<bool>>,
    ) {
        let name = if role == Role::Main { CAMERA_MAIN } else { CAMERA_SUB };
        let pulse = self.pulses.part(self.clock.now().mono, name, limits::CAMERA);
        let (settings, clock, logins) = (self.settings.camera.clone(), self.clock.clone(), logins.clone());
        let (lull, run) = (self.lull.clone(), self.camera_begun << RUNS_BITS);
        let stream = Stream { role, settings, clock, logins, pulse, run, lull };
        let stop = self.camera_stop.subscribe();
        self.cameras.spawn(async move {
            if let Some(mut gone) = before {
                let _ = timeout(CAMERA_WITHIN, gone.wait_for(|gone| *gone)).await;
            }
            rtsp::run(stream, frames, news, stop).await;
        });
    }

    /// Ends the camera's sessions and begins others.
    fn change_cameras(&mut self) {
        [CAMERA_MAIN, CAMERA_SUB].iter().for_each(|name| self.pulses.retire(name));
        let _ = std::mem::replace(&mut self.camera_stop, watch::channel(false).0).send(true);
        let mut old = std::mem::take(&mut self.cameras);
        let (tell, gone) = watch::channel(false);
        tokio::spawn(async move {
            let _ = timeout(CAMERA_WITHIN, async { while old.join_next().await.is_some() {} }).await;
            let _ = tell.send(true);
        });
        self.begin_cameras(Some(gone));
    }

    /// To the keeper; what it cannot take is answered at once: nothing was kept.
    fn keep(&mut self, order: KeeperOrder) {
        let refused = match &self.keeper {
            Some(keeper) => keeper.order(order),
            None => Err((order, "nothing is kept here")),
        };
        let Err((order, why)) = refused else {
            return;
        };
        let refusal = || Refusal::of(Why::Busy, why);
        let news = match order {
            KeeperOrder::Save(record, _) => KeeperNews::Machine(machine::Input::Saved(record.generation, Err(why.into()))),
            KeeperOrder::Judge { sha256, .. } => KeeperNews::Machine(machine::Input::Judged(sha256, Err(refusal()))),
            KeeperOrder::Check { req_id, .. } => KeeperNews::Checked { req_id, cmd: keeper::CHECK, outcome: Err(refusal()) },
            KeeperOrder::Show { req_id, .. } => KeeperNews::Checked { req_id, cmd: keeper::SHOW, outcome: Err(refusal()) },
        };
        let inbox = self.inbox.clone();
        tokio::spawn(async move { inbox.send(Input::Keeper(news)).await });
    }

    /// Other settings: only the rooms they touch are told.
    fn apply(&mut self, settings: Settings, change: &Change, epoch: u64, fresh: bool) {
        let uplink = Box::new(settings.uplink.clone());
        if change.motion {
            // The sight thread's orders overtake its pictures; four of them fit, and one comes at a time.
            let _ = self.sight.order(SightOrder::Settings(settings.motion.clone()));
        }
        self.settings = settings;
        if change.camera {
            self.change_cameras();
        }
        if change.uplink || fresh {
            self.uplink_waiting.push_in_lane(UplinkOrder::Settings { settings: uplink, epoch, fresh });
        }
    }

    fn stop_camera(&mut self) {
        let _ = self.camera_stop.send(true);
        let mut cameras = std::mem::take(&mut self.cameras);
        let sight = self.sight_thread.take();
        let (lane, inbox) = (self.sight.clone(), self.inbox.clone());
        tokio::spawn(async move {
            let _ = timeout(CAMERA_WITHIN, async { while cameras.join_next().await.is_some() {} }).await;
            let _ = lane.order(SightOrder::Stop);
            if let Some(sight) = sight {
                let _ = timeout(CAMERA_WITHIN, tokio::task::spawn_blocking(move || sight.join())).await;
            }
            let _ = inbox.send(Input::CameraStopped).await;
        });
    }
}

#[cfg(test)]
#[path = "wiring_tests.rs"]
mod tests;
