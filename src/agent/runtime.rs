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

use super::config_thread::{self, ConfigPaths, ConfigRequest, ConfigThread, ConfigUpdate};
use super::request_backlog::RequestBacklog;
use super::{Agent, AgentEffect, AgentInput};
use crate::analytics::AnalyticsUpdate;
use crate::analytics::params::QUEUE_BYTES;
use crate::analytics::thread::{self, AnalyticsRequest};
use crate::camera::auth_limiter::AuthLimiter;
use crate::camera::rtsp::{self, Stream};
use crate::camera::{CameraUpdate, Frame, StreamRole};
use crate::clip::hasher::Hasher;
use crate::clock::Clock;
use crate::frame_queue::{FrameSender, frame_queue};
use crate::log_tail::LogTail;
use crate::remote_config::rejection::{RejectReason, Rejection};
use crate::remote_config::startup::Configured;
use crate::remote_config::state_machine;
use crate::settings::Settings;
use crate::settings::diff::SettingsDiff;
use crate::storage::open::StorageFault;
use crate::storage::thread::{self as storage, CardReader};
use crate::storage::{StorageRequest, StorageUpdate};
use crate::units::Boot;
use crate::uplink::{UplinkRequest, UplinkUpdate, task};
use crate::wakeup::{self, WakeupCoalescer};
use crate::watchdog::{Liveness, Watchdog, timeouts};

/// Bytes of frames on their way to storage: eight seconds of a 16 Mbit/s camera, while a card stalls.
const STORAGE_BYTES: usize = 16 << 20;
/// Orders on their way to storage.
const STORAGE_ORDERS: usize = 256;
/// News on their way to the agent: it handles one in microseconds, so this only absorbs a burst.
const INBOX: usize = 256;
/// Orders on their way to the uplink; what does not fit waits here.
const UPLINK_ORDERS: usize = 64;
/// How often waiting orders are offered again, and the watchdog is patted at least.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The parts of the camera, by their names among the heartbeats.
const CAMERA_MAIN: &str = "camera main";
const CAMERA_SUB: &str = "camera sub";
/// Bits of a run's number that one begin of the cameras has for itself: a million sessions, and four thousand changes of the camera.
const RUNS_BITS: u32 = 20;
/// For camera tasks to end after they were reported to; TEARDOWN has its own, shorter bound.
const CAMERA_WITHIN: Duration = Duration::from_secs(4);

/// Everything the loop owns.
struct Runtime {
    settings: Settings,
    clock: Arc<dyn Clock>,
    inbox: mpsc::Sender<AgentInput>,
    wakeup: WakeupCoalescer,
    watchdog: Watchdog,
    stopping: bool,
    storage: FrameSender<StorageRequest>,
    storage_thread: JoinHandle<()>,
    analytics: FrameSender<AnalyticsRequest>,
    sight_thread: Option<JoinHandle<()>>,
    cameras: JoinSet<()>,
    camera_stop: watch::Sender<bool>,
    /// How often the cameras were begun: each time runs count from higher up.
    camera_begun: u32,
    camera_news: Option<mpsc::Sender<CameraUpdate>>,
    config_thread: Option<ConfigThread>,
    /// Why the ring lies in memory since the start, until it is reported.
    without_card: Option<String>,
    uplink: Option<mpsc::Sender<UplinkRequest>>,
    worker: Hasher,
    /// Orders their lanes had no room for, in order.
    storage_waiting: RequestBacklog<StorageRequest>,
    uplink_waiting: RequestBacklog<UplinkRequest>,
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEnd {
    /// Somebody asked.
    Stopped,
    /// To start again under other settings.
    Restart,
}

/// Runs a device whose configuration stays as it is, until `shutdown` becomes true and everything is put away.
///
/// # Errors
/// As [`run_configured`].
pub async fn run(settings: Settings, clock: Arc<dyn Clock>, stop: watch::Receiver<bool>) -> anyhow::Result<()> {
    run_configured(settings, None, clock, WakeupCoalescer::default(), stop).await.map(|_| ())
}

/// Runs a device until `shutdown` becomes true, or a configuration needs a new start, and everything is put away. `wake-up` is that of the
/// runtime this runs on; one in which nobody rests does nothing.
///
/// # Errors
/// When the ring cannot be used, a thread cannot be started, or a part of the agent ends although nobody asked: what is recorded
/// is safe, and a new start is the cure.
pub async fn run_configured(
    settings: Settings,
    configured: Option<Configured>,
    clock: Arc<dyn Clock>,
    wakeup: WakeupCoalescer,
    stop: watch::Receiver<bool>,
) -> anyhow::Result<RunEnd> {
    run_beside(settings, configured, clock, wakeup, stop, |_| {}).await
}

/// The same, with somebody beside the modules who tells the agent things: a test's show before the camera.
///
/// # Errors
/// As [`run_configured`].
pub async fn run_beside(
    settings: Settings,
    configured: Option<Configured>,
    clock: Arc<dyn Clock>,
    wakeup: WakeupCoalescer,
    mut stop: watch::Receiver<bool>,
    beside: impl FnOnce(mpsc::Sender<AgentInput>),
) -> anyhow::Result<RunEnd> {
    let (inbox, mut inputs) = mpsc::channel(INBOX);
    beside(inbox.clone());
    let started = Runtime::start(settings.clone(), clock.clone(), inbox.clone(), wakeup.clone()).await;
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
            let (wiring, reader) = Runtime::start(Settings { storage: ring, ..settings }, clock.clone(), inbox, wakeup).await?;
            (Runtime { without_card: Some(detail), ..wiring }, reader)
        }
        None => started?,
    };
    let mut agent = Agent::new(wiring.settings.clone(), Arc::new(reader), seed()?);
    if let Some(Configured { machine, files, file, volatile, state, refused, .. }) = configured {
        let tell = wakeup::update_sender(wiring.inbox.clone(), wiring.wakeup.clone(), AgentInput::Config);
        wiring.config_thread =
            Some(ConfigThread::start(ConfigPaths { files, volatile, file, state, clock: clock.clone() }, tell)?);
        agent = agent.with_configuration(machine, refused);
    }
    let mut effects = Vec::new();
    while !agent.is_finished() {
        let due = agent.deadline().since(clock.now().mono).min(POLL_INTERVAL.as_micros() as u64);
        let input = tokio::select! {
            input = inputs.recv() => input.unwrap_or(AgentInput::Tick),
            _ = stop.wait_for(|stop| *stop), if !wiring.stopping => {
                wiring.stopping = true;
                let _ = sd_notify::notify(&[NotifyState::Stopping]);
                AgentInput::Stop
            }
            () = tokio::time::sleep(Duration::from_micros(due)) => AgentInput::Tick,
        };
        agent.handle(clock.now(), input, &mut effects);
        for effect in effects.drain(..) {
            wiring.execute(effect);
        }
        wiring.flush_pending()?;
        wiring.feed_watchdog()?;
    }
    let storage_thread = wiring.storage_thread;
    drop((wiring.storage, inputs));
    // The thread ends by itself after Stop; a hung card must not keep the process from ending.
    match timeout(CAMERA_WITHIN, tokio::task::spawn_blocking(move || storage_thread.join())).await {
        Ok(Ok(Err(_))) => bail!("the storage thread panicked at the stop: the ring was not closed in order"),
        Ok(_) | Err(_) => Ok(if agent.wants_restart() && !*stop.borrow() { RunEnd::Restart } else { RunEnd::Stopped }),
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

impl Runtime {
    /// Opens the ring and starts the threads. The ring is opened beside the runtime, so that signals are heard meanwhile.
    async fn start(
        settings: Settings,
        clock: Arc<dyn Clock>,
        inbox: mpsc::Sender<AgentInput>,
        wakeup: WakeupCoalescer,
    ) -> anyhow::Result<(Runtime, CardReader)> {
        let mut watchdog = Watchdog::default();
        let (storage, orders) = frame_queue(STORAGE_BYTES, STORAGE_ORDERS);
        let (ring, time) = (settings.storage.clone(), clock.clone());
        let tell = wakeup::update_sender(inbox.clone(), wakeup.clone(), AgentInput::Storage);
        let heartbeat = watchdog.register(clock.now().mono, "storage", timeouts::STORAGE);
        let opening = tokio::task::spawn_blocking(move || storage::start(&ring, time, orders, heartbeat, tell));
        let (storage_thread, reader) = opening.await.context("opening the ring")??;
        let now = clock.now().mono;
        let (analytics, frames) = frame_queue(QUEUE_BYTES, 4);
        let still_max = settings.storage.still_bytes as usize - 4096;
        let tell = wakeup::update_sender(inbox.clone(), wakeup.clone(), AgentInput::Sight);
        let heartbeat = watchdog.register(now, "analytics", timeouts::ANALYTICS);
        let sight_thread = thread::start(settings.motion.clone(), still_max, clock.clone(), frames, heartbeat, tell)?;
        let heartbeat = watchdog.register(now, "clip", timeouts::CLIP);
        let worker = Hasher::start(heartbeat, wakeup::update_sender(inbox.clone(), wakeup.clone(), AgentInput::Hashed))?;
        let wiring = Runtime {
            settings,
            clock,
            inbox,
            wakeup,
            watchdog,
            stopping: false,
            storage,
            storage_thread,
            analytics,
            sight_thread: Some(sight_thread),
            cameras: JoinSet::new(),
            camera_stop: watch::channel(false).0,
            camera_begun: 0,
            camera_news: None,
            config_thread: None,
            without_card: None,
            uplink: None,
            worker,
            storage_waiting: RequestBacklog::new("storage", now),
            uplink_waiting: RequestBacklog::new("uplink", now),
        };
        Ok((wiring, reader))
    }

    /// Pats the service manager's watchdog while every part lives. At a stop parts end because they were asked to, and each step
    /// has its own deadline.
    fn feed_watchdog(&mut self) -> anyhow::Result<()> {
        match self.watchdog.check(self.clock.now().mono) {
            _ if self.stopping => {}
            Liveness::Alive => {}
            Liveness::Exited(part) => bail!("{part} has ended although nobody asked: a new start is needed"),
            Liveness::Silent { part, timeout, new } => {
                if new {
                    tracing::error!(part, "no sign of life for {} s: the watchdog is no longer patted", timeout.as_secs());
                }
                return Ok(());
            }
        }
        let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        Ok(())
    }

    fn execute(&mut self, effect: AgentEffect) {
        match effect {
            AgentEffect::Open { boot } => self.open(boot),
            AgentEffect::Storage(order) => self.storage_waiting.push(order),
            AgentEffect::Uplink(order) => self.uplink_waiting.push_bounded(order),
            AgentEffect::Hash(order) => {
                // The agent has fewer clips in the making than the worker's queue holds, and a worker that is gone is found by its
                // heartbeat: the clip stays pending.
                let _ = self.worker.hash(order);
            }
            AgentEffect::Tail { req_id, lines, bytes } => {
                let (inbox, lines) = (self.inbox.clone(), LogTail::shared().last(lines, bytes));
                tokio::spawn(async move { inbox.send(AgentInput::Tail { req_id, lines }).await });
            }
            AgentEffect::Glance { req_id } => {
                if self.analytics.request(AnalyticsRequest::Snapshot { req_id: req_id.clone() }).is_err() {
                    let (inbox, outcome) = (self.inbox.clone(), Err("busy: ask again in a minute".to_owned()));
                    tokio::spawn(async move {
                        inbox.send(AgentInput::Sight(AnalyticsUpdate::RequestedSnapshot { req_id, outcome })).await
                    });
                }
            }
            AgentEffect::Keep(order) => self.request_config(order),
            AgentEffect::Apply { settings, change, epoch, fresh } => self.apply(*settings, &change, epoch, fresh),
            AgentEffect::StopCamera => {
                // Also when it is the configuration, or the office, that asks: parts end now because they are reported to.
                self.stopping = true;
                self.stop_camera();
            }
            AgentEffect::Finished => {}
        }
    }

    /// Offers what waits; what finds no room, or nobody to take it, waits on, in order.
    fn flush_pending(&mut self) -> anyhow::Result<()> {
        let now = self.clock.now().mono;
        let Runtime { storage, storage_waiting, uplink, uplink_waiting, .. } = self;
        storage_waiting.offer(now, |order| storage.request(order));
        if let Some(uplink) = uplink {
            uplink_waiting.offer(now, |order| match uplink.try_send(order) {
                Err(TrySendError::Full(order) | TrySendError::Closed(order)) => Err(order),
                Ok(()) => Ok(()),
            });
            uplink_waiting.ensure_taken(now)?;
        } else {
            // It begins when recovery is done.
            uplink_waiting.offer_none(now);
        }
        storage_waiting.ensure_taken(now)
    }

    /// Recovery is done: connects to the camera and the office.
    fn open(&mut self, boot: Boot) {
        let _ = sd_notify::notify(&[NotifyState::Ready]);
        let (orders, waiting) = mpsc::channel(UPLINK_ORDERS);
        self.uplink = Some(orders);
        let (update, mut heard) = mpsc::channel::<UplinkUpdate>(UPLINK_ORDERS);
        let settings = &self.settings;
        let heartbeat = self.watchdog.register(self.clock.now().mono, "uplink", timeouts::UPLINK);
        let start = task::UplinkStart {
            settings: settings.uplink.clone(),
            site: settings.site.clone(),
            boot,
            clock: self.clock.clone(),
            wakeup: self.wakeup.clone(),
        };
        tokio::spawn(task::run(start, waiting, update, heartbeat));
        let inbox = self.inbox.clone();
        tokio::spawn(async move {
            while let Some(update) = heard.recv().await {
                let _ = inbox.send(AgentInput::Uplink(update)).await;
            }
        });
        let (update, mut heard) = mpsc::channel::<CameraUpdate>(UPLINK_ORDERS);
        let inbox = self.inbox.clone();
        tokio::spawn(async move {
            while let Some(update) = heard.recv().await {
                let _ = inbox.send(AgentInput::Camera(update)).await;
            }
        });
        self.camera_news = Some(update);
        if let Some(detail) = self.without_card.take() {
            let inbox = self.inbox.clone();
            tokio::spawn(async move { inbox.send(AgentInput::Storage(StorageUpdate::CardLost { detail })).await });
        }
        self.start_cameras(None);
    }

    /// Begins the camera's sessions, behind those of `before`: cameras with few sessions refuse the next one until it is closed.
    fn start_cameras(&mut self, before: Option<watch::Receiver<bool>>) {
        let Some(update) = self.camera_news.clone() else {
            return;
        };
        let apart = self.settings.camera.sub_url.is_some();
        let (storage, analytics) = (self.storage.clone(), self.analytics.clone());
        let main = move |frame: Arc<Frame>| {
            storage.frame(&frame);
            if !apart {
                analytics.frame(&frame);
            }
        };
        let logins = Arc::default();
        let sub = self.analytics.clone();
        if apart {
            self.camera(StreamRole::Sub, &logins, move |frame| _ = sub.frame(&frame), update.clone(), before.clone());
        }
        self.camera(StreamRole::Main, &logins, main, update, before);
        self.camera_begun += 1;
    }

    fn camera(
        &mut self,
        role: StreamRole,
        logins: &Arc<Mutex<AuthLimiter>>,
        frames: impl FnMut(Arc<Frame>) + Send + 'static,
        update: mpsc::Sender<CameraUpdate>,
        before: Option<watch::Receiver<bool>>,
    ) {
        let name = if role == StreamRole::Main { CAMERA_MAIN } else { CAMERA_SUB };
        let heartbeat = self.watchdog.register(self.clock.now().mono, name, timeouts::CAMERA);
        let (settings, clock, logins) = (self.settings.camera.clone(), self.clock.clone(), logins.clone());
        let (wakeup, run) = (self.wakeup.clone(), self.camera_begun << RUNS_BITS);
        let stream = Stream { role, settings, clock, logins, heartbeat, run, wakeup };
        let stop = self.camera_stop.subscribe();
        self.cameras.spawn(async move {
            if let Some(mut gone) = before {
                let _ = timeout(CAMERA_WITHIN, gone.wait_for(|gone| *gone)).await;
            }
            rtsp::run(stream, frames, update, stop).await;
        });
    }

    /// Ends the camera's sessions and begins others.
    fn replace_cameras(&mut self) {
        [CAMERA_MAIN, CAMERA_SUB].iter().for_each(|name| self.watchdog.retire(name));
        let _ = std::mem::replace(&mut self.camera_stop, watch::channel(false).0).send(true);
        let mut old = std::mem::take(&mut self.cameras);
        let (tell, gone) = watch::channel(false);
        tokio::spawn(async move {
            let _ = timeout(CAMERA_WITHIN, async { while old.join_next().await.is_some() {} }).await;
            let _ = tell.send(true);
        });
        self.start_cameras(Some(gone));
    }

    /// To the configuration thread; what it cannot take is answered at once: nothing was kept.
    fn request_config(&mut self, order: ConfigRequest) {
        let refused = match &self.config_thread {
            Some(config_thread) => config_thread.order(order),
            None => Err((order, "nothing is kept here")),
        };
        let Err((order, why)) = refused else {
            return;
        };
        let refusal = || Rejection::new(RejectReason::Busy, why);
        let update = match order {
            ConfigRequest::Save(record, _) => {
                ConfigUpdate::Machine(state_machine::ConfigInput::Saved(record.generation, Err(why.into())))
            }
            ConfigRequest::Judge { sha256, .. } => {
                ConfigUpdate::Machine(state_machine::ConfigInput::Judged(sha256, Err(refusal())))
            }
            ConfigRequest::Check { req_id, .. } => {
                ConfigUpdate::Checked { req_id, cmd: config_thread::CHECK, outcome: Err(refusal()) }
            }
            ConfigRequest::Show { req_id, .. } => {
                ConfigUpdate::Checked { req_id, cmd: config_thread::SHOW, outcome: Err(refusal()) }
            }
        };
        let inbox = self.inbox.clone();
        tokio::spawn(async move { inbox.send(AgentInput::Config(update)).await });
    }

    /// Other settings: only the modules they touch are reported.
    fn apply(&mut self, settings: Settings, change: &SettingsDiff, epoch: u64, fresh: bool) {
        let uplink = Box::new(settings.uplink.clone());
        if change.motion {
            // The analytics thread's orders overtake its pictures; four of them fit, and one comes at a time.
            let _ = self.analytics.request(AnalyticsRequest::Settings(settings.motion.clone()));
        }
        self.settings = settings;
        if change.camera {
            self.replace_cameras();
        }
        if change.uplink || fresh {
            self.uplink_waiting.push_bounded(UplinkRequest::Settings { settings: uplink, epoch, fresh });
        }
    }

    fn stop_camera(&mut self) {
        let _ = self.camera_stop.send(true);
        let mut cameras = std::mem::take(&mut self.cameras);
        let analytics = self.sight_thread.take();
        let (lane, inbox) = (self.analytics.clone(), self.inbox.clone());
        tokio::spawn(async move {
            let _ = timeout(CAMERA_WITHIN, async { while cameras.join_next().await.is_some() {} }).await;
            let _ = lane.request(AnalyticsRequest::Stop);
            if let Some(analytics) = analytics {
                let _ = timeout(CAMERA_WITHIN, tokio::task::spawn_blocking(move || analytics.join())).await;
            }
            let _ = inbox.send(AgentInput::CameraStopped).await;
        });
    }
}

#[cfg(test)]
#[path = "runtime_tests.rs"]
mod tests;
