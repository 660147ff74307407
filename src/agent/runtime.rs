//! Runtime of the agent: threads, channels and the main loop. One channel carries every input;
//! the loop executes every effect before it takes the next input.
#![expect(
    clippy::disallowed_methods,
    reason = "shell: waits, starts a thread or task, draws random numbers"
)]

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, bail};
use sd_notify::NotifyState;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::camera_tasks::{CameraTasks, JOIN_TIMEOUT};
use super::config_thread::{self, ConfigPaths, ConfigRequest, ConfigThread, ConfigUpdate};
use super::request_backlog::RequestBacklog;
use super::{Agent, AgentEffect, AgentInput};
use crate::analytics::AnalyticsUpdate;
use crate::analytics::params::QUEUE_BYTES;
use crate::analytics::thread::{self, AnalyticsRequest};
use crate::camera::CameraUpdate;
use crate::camera::login_mark::LoginMark;
use crate::clip::hasher::Hasher;
use crate::clock::{self, Clock};
use crate::frame_queue::{FrameSender, frame_queue};
use crate::log_tail::LogTail;
use crate::remote_config::action;
use crate::remote_config::known_ring;
use crate::remote_config::rejection::{RejectReason, Rejection};
use crate::remote_config::startup::Configured;
use crate::settings::Settings;
use crate::settings::diff::SettingsDiff;
use crate::storage::open::StorageFault;
use crate::storage::thread::{self as storage, CardReader};
use crate::storage::{StorageRequest, StorageUpdate};
use crate::units::Boot;
use crate::uplink::{UplinkRequest, UplinkUpdate, task};
use crate::wakeup::{self, WakeupCoalescer};
use crate::watchdog::{Liveness, Watchdog, timeouts};

/// Bytes of queued frames for storage: eight seconds of a 16 Mbit/s camera while a card stalls.
const STORAGE_BYTES: usize = 16 << 20;
/// Queued requests to storage.
const STORAGE_REQUESTS: usize = 256;
/// Queued inputs of the agent. It handles one in microseconds, so the queue only absorbs bursts.
const INPUT_CAPACITY: usize = 256;
/// Queued requests to the uplink; the rest waits in a [`RequestBacklog`].
const UPLINK_REQUESTS: usize = 64;
/// Queued updates of the uplink, and of the cameras.
const UPDATE_CAPACITY: usize = 64;
/// Longest pause between two offers of pending requests and two pings of the service manager's
/// watchdog.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The state of the main loop.
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
    analytics_thread: Option<JoinHandle<()>>,
    cameras: CameraTasks,
    config_thread: Option<ConfigThread>,
    /// Why the ring is in memory since boot; taken once it is reported.
    memory_fallback: Option<String>,
    uplink: Option<mpsc::Sender<UplinkRequest>>,
    hasher: Hasher,
    /// Requests that a full channel did not accept, in request.
    storage_backlog: RequestBacklog<StorageRequest>,
    uplink_backlog: RequestBacklog<UplinkRequest>,
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEnd {
    /// A signal or the service manager requested it.
    Stopped,
    /// The agent must boot again under other settings.
    Restart,
}

/// Runs a device with fixed settings until `stop` becomes true and the shutdown is complete.
///
/// # Errors
/// As [`run_configured`].
#[cfg(any(test, feature = "sim"))]
pub async fn run(
    settings: Settings,
    clock: Arc<dyn Clock>,
    stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    run_configured(settings, None, clock, WakeupCoalescer::default(), stop).await.map(|_| ())
}

/// Runs a device until `stop` becomes true or a configuration requires a restart, and the shutdown
/// is complete. `wakeup` is the coalescer of the current Tokio runtime; the default one never
/// delays.
///
/// # Errors
/// When the ring cannot be opened, a thread cannot be started, or a thread or task ends
/// unexpectedly. Recorded footage is safe; the caller restarts the process.
pub async fn run_configured(
    settings: Settings,
    configured: Option<Configured>,
    clock: Arc<dyn Clock>,
    wakeup: WakeupCoalescer,
    stop: watch::Receiver<bool>,
) -> anyhow::Result<RunEnd> {
    run_with_inputs(settings, configured, clock, wakeup, stop, |_| {}).await
}

/// Like [`run_configured`], with a hook that receives the agent's input channel. The load test uses
/// it to inject motion.
///
/// # Errors
/// As [`run_configured`].
pub async fn run_with_inputs(
    settings: Settings,
    configured: Option<Configured>,
    clock: Arc<dyn Clock>,
    wakeup: WakeupCoalescer,
    mut stop: watch::Receiver<bool>,
    hook: impl FnOnce(mpsc::Sender<AgentInput>),
) -> anyhow::Result<RunEnd> {
    let (inbox, mut inputs) = mpsc::channel(INPUT_CAPACITY);
    hook(inbox.clone());
    let (mut runtime, reader) =
        start_or_fall_back(settings, configured.as_ref(), clock.clone(), inbox, wakeup).await?;
    let mut agent = Agent::new(runtime.settings.clone(), Arc::new(reader), clock::seed()?);
    if let Some(Configured { machine, files, file, volatile, state, refused, .. }) = configured {
        let (inbox, wakeup) = (runtime.inbox.clone(), runtime.wakeup.clone());
        let send = wakeup::update_sender(inbox, wakeup, AgentInput::Config);
        // A ring in memory is a new one at every boot.
        let ring = runtime.memory_fallback.is_none().then(|| known_ring::load(files.as_ref()));
        runtime.config_thread = Some(ConfigThread::start(
            ConfigPaths { files, volatile, file, state, clock: clock.clone() },
            send,
        )?);
        agent = agent.with_configuration(machine, refused, ring);
    }
    let mut effects = Vec::new();
    while !agent.is_finished() {
        let due = agent.deadline().since(clock.now().mono).min(POLL_INTERVAL.as_micros() as u64);
        let input = tokio::select! {
            input = inputs.recv() => input.unwrap_or(AgentInput::Tick),
            _ = stop.wait_for(|stop| *stop), if !runtime.stopping => {
                runtime.stopping = true;
                let _ = sd_notify::notify(&[NotifyState::Stopping]);
                AgentInput::Stop
            }
            () = tokio::time::sleep(Duration::from_micros(due)) => AgentInput::Tick,
        };
        agent.handle(clock.now(), input, &mut effects);
        for effect in effects.drain(..) {
            runtime.execute(effect);
        }
        runtime.flush_pending()?;
        runtime.feed_watchdog()?;
    }
    let storage_thread = runtime.storage_thread;
    drop((runtime.storage, runtime.cameras, inputs));
    // The thread ends by itself after Stop. The timeout keeps a hung card from blocking the end of
    // the process.
    match timeout(JOIN_TIMEOUT, tokio::task::spawn_blocking(move || storage_thread.join())).await {
        Ok(Ok(Err(_))) => {
            bail!("storage thread panicked during shutdown; the ring was not closed in order")
        }
        Ok(_) | Err(_) => Ok(if agent.wants_restart() && !*stop.borrow() {
            RunEnd::Restart
        } else {
            RunEnd::Stopped
        }),
    }
}

/// Opens the ring and starts the threads; with the ring in memory where its card is not usable.
async fn start_or_fall_back(
    settings: Settings,
    configured: Option<&Configured>,
    clock: Arc<dyn Clock>,
    inbox: mpsc::Sender<AgentInput>,
    wakeup: WakeupCoalescer,
) -> anyhow::Result<(Runtime, CardReader)> {
    let started =
        Runtime::start(settings.clone(), clock.clone(), inbox.clone(), wakeup.clone()).await;
    let fallback = started.as_ref().err().zip(configured).and_then(|(error, configured)| {
        // The ring moves to memory when this fault has ended the process repeatedly, or when a
        // restart cannot cure it. The office can still reach the device.
        let full = matches!(
            error.downcast_ref(),
            Some(StorageFault::NoRoom { .. } | StorageFault::OtherSite)
        );
        let detail = format!("the ring is in memory only until the next boot: {error:#}");
        configured
            .last_resort()
            .or_else(|| configured.in_memory().filter(|_| full))
            .map(|ring| (ring, detail))
    });
    match fallback {
        Some((ring, detail)) => {
            tracing::error!(
                detail,
                "ring not usable, recording in memory only; check the card and restart the device"
            );
            let (runtime, reader) = Runtime::start(
                Settings { storage: ring, ..settings },
                clock.clone(),
                inbox,
                wakeup,
            )
            .await?;
            Ok((Runtime { memory_fallback: Some(detail), ..runtime }, reader))
        }
        None => started,
    }
}

impl Runtime {
    /// Opens the ring and starts the threads. The ring is opened on a blocking thread, so that
    /// signals are handled meanwhile.
    async fn start(
        settings: Settings,
        clock: Arc<dyn Clock>,
        inbox: mpsc::Sender<AgentInput>,
        wakeup: WakeupCoalescer,
    ) -> anyhow::Result<(Runtime, CardReader)> {
        let mut watchdog = Watchdog::default();
        let (storage, requests) = frame_queue(STORAGE_BYTES, STORAGE_REQUESTS);
        let (ring, time) = (settings.storage.clone(), clock.clone());
        let send = wakeup::update_sender(inbox.clone(), wakeup.clone(), AgentInput::Storage);
        let heartbeat = watchdog.register(clock.now().mono, "storage", timeouts::STORAGE);
        let opening = tokio::task::spawn_blocking(move || {
            storage::start(&ring, time, requests, heartbeat, send)
        });
        let (storage_thread, reader) = opening.await.context("opening the ring")??;
        let now = clock.now().mono;
        let (analytics, frames) = frame_queue(QUEUE_BYTES, 4);
        let snapshot_max = settings.storage.still_bytes as usize - 4096;
        let send = wakeup::update_sender(inbox.clone(), wakeup.clone(), AgentInput::Analytics);
        let heartbeat = watchdog.register(now, "analytics", timeouts::ANALYTICS);
        let analytics_thread = thread::start(
            settings.motion.clone(),
            snapshot_max,
            clock.clone(),
            frames,
            heartbeat,
            send,
        )?;
        let heartbeat = watchdog.register(now, "clip", timeouts::CLIP);
        let hasher = Hasher::start(
            heartbeat,
            wakeup::update_sender(inbox.clone(), wakeup.clone(), AgentInput::Hashed),
        )?;
        let cameras = CameraTasks {
            clock: clock.clone(),
            wakeup: wakeup.clone(),
            storage: storage.clone(),
            analytics: analytics.clone(),
            updates: None,
            accepted: None,
            tasks: JoinSet::new(),
            stop: watch::channel(false).0,
            generation: 0,
        };
        let runtime = Runtime {
            settings,
            clock,
            inbox,
            wakeup,
            watchdog,
            stopping: false,
            storage,
            storage_thread,
            analytics,
            analytics_thread: Some(analytics_thread),
            cameras,
            config_thread: None,
            memory_fallback: None,
            uplink: None,
            hasher,
            storage_backlog: RequestBacklog::new("storage", now),
            uplink_backlog: RequestBacklog::new("uplink", now),
        };
        Ok((runtime, reader))
    }

    /// Pings the service manager's watchdog while every thread and task is alive. During a shutdown
    /// they end as requested, and each step has its own deadline.
    fn feed_watchdog(&mut self) -> anyhow::Result<()> {
        let liveness = self.watchdog.check(self.clock.now().mono);
        if self.stopping {
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
            return Ok(());
        }
        match liveness {
            Liveness::Alive => {}
            Liveness::Exited(part) => bail!("{part} ended unexpectedly; restarting the process"),
            Liveness::Silent { part, timeout, new } => {
                if new {
                    tracing::error!(
                        part,
                        timeout_s = timeout.as_secs(),
                        "no heartbeat within the timeout; the service manager will restart the process"
                    );
                }
                return Ok(());
            }
        }
        let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        Ok(())
    }

    /// Sends an input to the agent without waiting.
    fn send(&self, input: AgentInput) {
        let inbox = self.inbox.clone();
        tokio::spawn(async move { inbox.send(input).await });
    }

    fn execute(&mut self, effect: AgentEffect) {
        match effect {
            AgentEffect::Open { boot, accepted } => self.open(boot, accepted),
            AgentEffect::Storage(request) => self.storage_backlog.push(request),
            AgentEffect::Uplink(request) => self.uplink_backlog.push_bounded(request),
            AgentEffect::Hash(request) => {
                // The hasher's queue holds more clips than the agent starts. If the hasher has
                // ended, the watchdog finds it; the clip stays pending.
                let _ = self.hasher.hash(request);
            }
            AgentEffect::LogTail { req_id, lines, bytes } => {
                let lines = LogTail::shared().last(lines, bytes);
                self.send(AgentInput::LogTail { req_id, lines });
            }
            AgentEffect::Snapshot { req_id } => {
                if self
                    .analytics
                    .request(AnalyticsRequest::Snapshot { req_id: req_id.clone() })
                    .is_err()
                {
                    let outcome = Err("busy: ask again in a minute".to_owned());
                    self.send(AgentInput::Analytics(AnalyticsUpdate::RequestedSnapshot {
                        req_id,
                        outcome,
                    }));
                }
            }
            AgentEffect::Config(request) => self.request_config(request),
            AgentEffect::Apply { settings, change, epoch, fresh } => {
                self.apply(*settings, &change, epoch, fresh)
            }
            AgentEffect::StopCamera => {
                // A restart command or a configuration also leads here. From now on tasks end
                // because they are stopped.
                self.stopping = true;
                self.stop_camera();
            }
            AgentEffect::Finished => {}
        }
    }

    /// Offers pending requests to their channels, in order. What a channel does not accept stays
    /// pending.
    fn flush_pending(&mut self) -> anyhow::Result<()> {
        let now = self.clock.now().mono;
        let Runtime { storage, storage_backlog, uplink, uplink_backlog, .. } = self;
        storage_backlog.offer(now, |request| storage.request(request));
        if let Some(uplink) = uplink {
            uplink_backlog.offer(now, |request| match uplink.try_send(request) {
                Err(TrySendError::Full(request) | TrySendError::Closed(request)) => Err(request),
                Ok(()) => Ok(()),
            });
            uplink_backlog.ensure_accepting(now)?;
        } else {
            // The uplink starts once recovery is complete.
            uplink_backlog.offer_none(now);
        }
        storage_backlog.ensure_accepting(now)
    }

    /// Starts the uplink and the cameras, once recovery is complete.
    fn open(&mut self, boot: Boot, accepted: Option<LoginMark>) {
        let _ = sd_notify::notify(&[NotifyState::Ready]);
        let (requests, pending) = mpsc::channel(UPLINK_REQUESTS);
        self.uplink = Some(requests);
        let (updates, mut received) = mpsc::channel::<UplinkUpdate>(UPDATE_CAPACITY);
        let settings = &self.settings;
        let heartbeat = self.watchdog.register(self.clock.now().mono, "uplink", timeouts::UPLINK);
        let start = task::UplinkStart {
            settings: settings.uplink.clone(),
            site: settings.site.clone(),
            boot,
            clock: self.clock.clone(),
            wakeup: self.wakeup.clone(),
        };
        tokio::spawn(task::run(start, pending, updates, heartbeat));
        let inbox = self.inbox.clone();
        tokio::spawn(async move {
            while let Some(update) = received.recv().await {
                let _ = inbox.send(AgentInput::Uplink(update)).await;
            }
        });
        let (updates, mut received) = mpsc::channel::<CameraUpdate>(UPDATE_CAPACITY);
        let inbox = self.inbox.clone();
        tokio::spawn(async move {
            while let Some(update) = received.recv().await {
                let _ = inbox.send(AgentInput::Camera(update)).await;
            }
        });
        (self.cameras.updates, self.cameras.accepted) = (Some(updates), accepted);
        if let Some(detail) = self.memory_fallback.take() {
            self.send(AgentInput::Storage(StorageUpdate::CardLost { journal: false, detail }));
        }
        self.cameras.start(&self.settings.camera, &mut self.watchdog, None);
    }

    /// Sends a request to the configuration thread. A request that it does not accept is answered
    /// at once as failed.
    fn request_config(&mut self, request: ConfigRequest) {
        let refused = match &self.config_thread {
            Some(config_thread) => config_thread.request(request),
            None => Err((request, "this device stores no configurations")),
        };
        let Err((request, why)) = refused else {
            return;
        };
        let refusal = || Rejection::new(RejectReason::Busy, why);
        let update = match request {
            ConfigRequest::Save(record, _) => ConfigUpdate::Machine(action::ConfigInput::Saved(
                record.generation,
                Err(why.into()),
            )),
            ConfigRequest::Judge { sha256, .. } => {
                ConfigUpdate::Machine(action::ConfigInput::Judged(sha256, Err(refusal())))
            }
            ConfigRequest::Check { req_id, .. } => {
                ConfigUpdate::Checked { req_id, cmd: config_thread::CHECK, outcome: Err(refusal()) }
            }
            ConfigRequest::RememberRing(_) => return,
            ConfigRequest::Show { req_id, .. } => {
                ConfigUpdate::Checked { req_id, cmd: config_thread::SHOW, outcome: Err(refusal()) }
            }
        };
        self.send(AgentInput::Config(update));
    }

    /// Passes new settings to the modules they change.
    fn apply(&mut self, settings: Settings, change: &SettingsDiff, epoch: u64, fresh: bool) {
        let uplink = Box::new(settings.uplink.clone());
        if change.motion {
            // Requests overtake frames in the queue of the analytics thread. It holds four, and
            // settings arrive one at a time.
            let _ = self.analytics.request(AnalyticsRequest::Settings(settings.motion.clone()));
        }
        self.settings = settings;
        if change.camera {
            self.cameras.replace(&self.settings.camera, &mut self.watchdog);
        }
        if change.uplink || fresh {
            self.uplink_backlog.push_bounded(UplinkRequest::Settings {
                settings: uplink,
                epoch,
                fresh,
            });
        }
    }

    fn stop_camera(&mut self) {
        let _ = self.cameras.stop.send(true);
        let mut cameras = std::mem::take(&mut self.cameras.tasks);
        let analytics = self.analytics_thread.take();
        let (queue, inbox) = (self.analytics.clone(), self.inbox.clone());
        tokio::spawn(async move {
            let _ =
                timeout(JOIN_TIMEOUT, async { while cameras.join_next().await.is_some() {} }).await;
            let _ = queue.request(AnalyticsRequest::Stop);
            if let Some(analytics) = analytics {
                let _ =
                    timeout(JOIN_TIMEOUT, tokio::task::spawn_blocking(move || analytics.join()))
                        .await;
            }
            let _ = inbox.send(AgentInput::CameraStopped).await;
        });
    }
}

#[cfg(test)]
#[path = "runtime_tests.rs"]
mod tests;
