//! Camera tasks of the runtime: one for each stream, replaced when the camera's settings change.
#![expect(clippy::disallowed_methods, reason = "shell: waits, starts a thread or task")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::analytics::thread::AnalyticsRequest;
use crate::camera::login_mark::LoginMark;
use crate::camera::rtsp::{self, Stream};
use crate::camera::session_places::SharedSessions;
use crate::camera::{CameraUpdate, Frame, StreamRole};
use crate::clock::Clock;
use crate::frame_queue::FrameSender;
use crate::settings::CameraSettings;
use crate::storage::StorageRequest;
use crate::wakeup::WakeupCoalescer;
use crate::watchdog::{Watchdog, timeouts};

/// Timeout for camera tasks and threads to end after the stop signal. TEARDOWN has its own, shorter
/// timeout.
pub(super) const JOIN_TIMEOUT: Duration = Duration::from_secs(4);
/// Names of the camera tasks in the watchdog.
const CAMERA_MAIN: &str = "camera main";
const CAMERA_SUB: &str = "camera sub";
/// Low bits of a run number that count the sessions of one camera generation: a million sessions.
/// The other 12 bits count the generations, one per change of the camera settings.
const RUN_BITS: u32 = 20;

/// The running camera tasks.
pub(super) struct CameraTasks {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) wakeup: WakeupCoalescer,
    pub(super) storage: FrameSender<StorageRequest>,
    pub(super) analytics: FrameSender<AnalyticsRequest>,
    /// Where updates go; `None` until recovery is complete.
    pub(super) updates: Option<mpsc::Sender<CameraUpdate>>,
    /// The login that the camera accepted in an earlier process.
    pub(super) accepted: Option<LoginMark>,
    pub(super) tasks: JoinSet<()>,
    pub(super) stop: watch::Sender<bool>,
    /// Number of camera generations so far: the high bits of run numbers.
    pub(super) generation: u32,
}

impl CameraTasks {
    /// Starts the camera tasks. They connect once `before` is true: a camera with few sessions
    /// refuses the next one until the old ones are closed.
    pub(super) fn start(
        &mut self,
        settings: &CameraSettings,
        watchdog: &mut Watchdog,
        before: Option<watch::Receiver<bool>>,
    ) {
        let Some(updates) = self.updates.clone() else {
            return;
        };
        let has_sub = settings.sub_url.is_some();
        let (storage, analytics) = (self.storage.clone(), self.analytics.clone());
        let main = move |frame: Arc<Frame>| {
            storage.frame(&frame);
            if !has_sub {
                analytics.frame(&frame);
            }
        };
        let mut sessions = SharedSessions::default();
        if self.accepted.is_some() && self.accepted == LoginMark::of(settings) {
            sessions.auth.accepted_before();
        }
        let shared = Arc::new(Mutex::new(sessions));
        let sub = self.analytics.clone();
        // First, because the sub-stream waits for its set-up.
        self.spawn(
            settings,
            watchdog,
            StreamRole::Main,
            &shared,
            main,
            updates.clone(),
            before.clone(),
        );
        if has_sub {
            self.spawn(
                settings,
                watchdog,
                StreamRole::Sub,
                &shared,
                move |frame| _ = sub.frame(&frame),
                updates,
                before,
            );
        }
        self.generation += 1;
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one task")]
    fn spawn(
        &mut self,
        settings: &CameraSettings,
        watchdog: &mut Watchdog,
        role: StreamRole,
        shared: &Arc<Mutex<SharedSessions>>,
        frames: impl FnMut(Arc<Frame>) + Send + 'static,
        updates: mpsc::Sender<CameraUpdate>,
        before: Option<watch::Receiver<bool>>,
    ) {
        let name = if role == StreamRole::Main { CAMERA_MAIN } else { CAMERA_SUB };
        let heartbeat = watchdog.register(self.clock.now().mono, name, timeouts::CAMERA);
        let (settings, clock, shared) = (settings.clone(), self.clock.clone(), shared.clone());
        let (wakeup, run) = (self.wakeup.clone(), self.generation << RUN_BITS);
        let stream = Stream { role, settings, clock, shared, heartbeat, run, wakeup };
        let stop = self.stop.subscribe();
        self.tasks.spawn(async move {
            if let Some(mut closed) = before {
                let _ = timeout(JOIN_TIMEOUT, closed.wait_for(|closed| *closed)).await;
            }
            rtsp::run(stream, frames, updates, stop).await;
        });
    }

    /// Stops the camera tasks and starts others under the new settings.
    pub(super) fn replace(&mut self, settings: &CameraSettings, watchdog: &mut Watchdog) {
        [CAMERA_MAIN, CAMERA_SUB].iter().for_each(|name| watchdog.retire(name));
        let _ = std::mem::replace(&mut self.stop, watch::channel(false).0).send(true);
        let mut old = std::mem::take(&mut self.tasks);
        let (ended, closed) = watch::channel(false);
        tokio::spawn(async move {
            let _ = timeout(JOIN_TIMEOUT, async { while old.join_next().await.is_some() {} }).await;
            let _ = ended.send(true);
        });
        self.start(settings, watchdog, Some(closed));
    }
}
