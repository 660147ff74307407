//! ⇄ The wiring: threads, channels and the loop that feeds the agent. One inbox for everything that happens; every effect is
//! carried out before the next input is taken.
//!
//! What belongs here: starting, passing on, ending. What does not: any decision (the agent's).

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Agent, Effect, Input};
use crate::camera::{self, CameraNews, Frame, Role};
use crate::clip::worker::Worker;
use crate::clock::Clock;
use crate::lane::{LaneSender, lane};
use crate::motion::limits::LANE_BYTES;
use crate::motion::sight::{self, SightOrder};
use crate::settings::Settings;
use crate::storage::{StorageNews, StorageOrder, thread as storage};
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
/// For camera tasks to end after they were told to; TEARDOWN has its own, shorter bound.
const CAMERA_WITHIN: Duration = Duration::from_secs(4);

/// Everything the loop owns.
struct Wiring {
    settings: Settings,
    clock: Arc<dyn Clock>,
    inbox: mpsc::Sender<Input>,
    storage: LaneSender<StorageOrder>,
    sight: LaneSender<SightOrder>,
    sight_thread: Option<JoinHandle<()>>,
    cameras: JoinSet<()>,
    camera_stop: watch::Sender<bool>,
    uplink: Option<mpsc::Sender<UplinkOrder>>,
    worker: Worker,
    /// Orders their lanes had no room for, in order.
    storage_waiting: VecDeque<StorageOrder>,
    uplink_waiting: VecDeque<UplinkOrder>,
}

/// Runs a box until `stop` becomes true and everything is put away.
///
/// # Errors
/// When the ring cannot be used or a thread cannot be started; everything later is handled.
pub async fn run(settings: Settings, clock: Arc<dyn Clock>, mut stop: watch::Receiver<bool>) -> anyhow::Result<()> {
    let (inbox, mut inputs) = mpsc::channel(INBOX);
    let (storage_lane, orders) = lane(STORAGE_BYTES, STORAGE_ORDERS);
    let news = inbox.clone();
    let tell = move |news_item: StorageNews| drop(news.blocking_send(Input::Storage(news_item)));
    let (storage_thread, reader) = storage::start(&settings.storage, clock.clone(), orders, tell)?;
    let (sight_lane, frames) = lane(LANE_BYTES, 4);
    let news = inbox.clone();
    let still_max = settings.storage.still_bytes as usize - 4096;
    let tell = move |item| drop(news.blocking_send(Input::Sight(item)));
    let sight_thread = sight::start(settings.motion.clone(), still_max, clock.clone(), frames, tell)?;
    let news = inbox.clone();
    let worker = Worker::start(move |hashed| drop(news.blocking_send(Input::Hashed(hashed))))?;
    let mut agent = Agent::new(settings.clone(), Arc::new(reader), seed()?);
    let mut wiring = Wiring {
        settings,
        clock: clock.clone(),
        inbox,
        storage: storage_lane,
        sight: sight_lane,
        sight_thread: Some(sight_thread),
        cameras: JoinSet::new(),
        camera_stop: watch::channel(false).0,
        uplink: None,
        worker,
        storage_waiting: VecDeque::new(),
        uplink_waiting: VecDeque::new(),
    };
    let mut effects = Vec::new();
    let mut stopping = false;
    while !agent.is_finished() {
        let due = agent.deadline().since(clock.now().mono).min(BREATH.as_micros() as u64);
        let input = tokio::select! {
            input = inputs.recv() => input.unwrap_or(Input::Tick),
            _ = stop.wait_for(|stop| *stop), if !stopping => {
                stopping = true;
                Input::Stop
            }
            () = tokio::time::sleep(Duration::from_micros(due)) => Input::Tick,
        };
        agent.handle(clock.now(), input, &mut effects);
        for effect in effects.drain(..) {
            wiring.carry_out(effect);
        }
        wiring.offer_waiting();
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
    }
    drop(wiring);
    // The thread ends by itself after Stop; a hung card must not keep the process from ending.
    let _ = timeout(CAMERA_WITHIN, tokio::task::spawn_blocking(move || storage_thread.join())).await;
    Ok(())
}

/// 32 bytes nobody can guess.
fn seed() -> anyhow::Result<[u8; 32]> {
    let mut seed = [0; 32];
    let filled = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut seed);
    filled.ok().context("the system gives no randomness")?;
    Ok(seed)
}

impl Wiring {
    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Open { boot } => self.open(boot),
            Effect::Storage(order) => self.storage_waiting.push_back(order),
            Effect::Uplink(order) => self.uplink_waiting.push_back(order),
            Effect::Hash(order) => {
                // The agent has fewer clips in the making than the worker's queue holds.
                if self.worker.hash(order).is_err() {
                    tracing::error!("the clip worker is gone");
                }
            }
            Effect::StopCamera => self.stop_camera(),
            Effect::Finished => {}
        }
    }

    /// Offers what waits; what finds no room waits on, in order.
    fn offer_waiting(&mut self) {
        while let Some(order) = self.storage_waiting.pop_front() {
            if let Err(order) = self.storage.order(order) {
                self.storage_waiting.push_front(order);
                break;
            }
        }
        let Some(uplink) = &self.uplink else {
            return;
        };
        while let Some(order) = self.uplink_waiting.pop_front() {
            if let Err(mpsc::error::TrySendError::Full(order)) = uplink.try_send(order) {
                self.uplink_waiting.push_front(order);
                break;
            }
        }
    }

    /// Recovery is done: connects to the camera and the office.
    fn open(&mut self, boot: Boot) {
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        let (orders, waiting) = mpsc::channel(UPLINK_ORDERS);
        self.uplink = Some(orders);
        let (news, mut heard) = mpsc::channel::<UplinkNews>(UPLINK_ORDERS);
        let settings = &self.settings;
        tokio::spawn(mqtt::run(settings.uplink.clone(), settings.site.clone(), boot, self.clock.clone(), waiting, news));
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
        let apart = self.settings.camera.sub_url.is_some();
        let (storage, sight) = (self.storage.clone(), self.sight.clone());
        let main = move |frame: Arc<Frame>| {
            storage.frame(&frame);
            if !apart {
                sight.frame(&frame);
            }
        };
        self.camera(Role::Main, main, news.clone());
        if apart {
            let sight = self.sight.clone();
            self.camera(
                Role::Sub,
                move |frame| {
                    sight.frame(&frame);
                },
                news,
            );
        }
    }

    fn camera(&mut self, role: Role, frames: impl FnMut(Arc<Frame>) + Send + 'static, news: mpsc::Sender<CameraNews>) {
        let (settings, clock, stop) = (self.settings.camera.clone(), self.clock.clone(), self.camera_stop.subscribe());
        self.cameras.spawn(camera::rtsp::run(role, settings, clock, frames, news, stop));
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
