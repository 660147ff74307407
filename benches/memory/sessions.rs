//! RTSP session load: tasks open a session, wait for its first picture, and end it.
//!
//! Some tasks let the camera end the session. A run has a thousand sessions in minutes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use taimat::camera::{CameraUpdate, StreamRole, rtsp};
use taimat::clock::SystemClock;
use taimat::settings::{CameraSettings, load, parse};
use taimat::wakeup::WakeupCoalescer;
use taimat::watchdog::Heartbeat;
use tokio::sync::{mpsc, watch};

/// Number of parallel sessions.
const AT_ONCE: u64 = 8;
/// Timeout of one session.
const WITHIN: Duration = Duration::from_secs(20);

/// Pause after a failed session.
const PAUSE: Duration = Duration::from_millis(200);

/// Opens sessions of `url` until the process ends, and prints their number every ten seconds.
pub fn run(url: &str, login: &str) {
    let text = format!(
        "site = \"bench\"\nstorage.dir = \"/\"\nuplink.host = \"localhost\"\n[camera]\nmain_url = {url:?}\nlogin_file = {login:?}\n"
    );
    let settings = parse::parse(&text, &load::read).unwrap().camera;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let opened = Arc::new(AtomicU64::new(0));
    runtime.block_on(async {
        for number in 0..AT_ONCE {
            let (settings, opened) = (settings.clone(), opened.clone());
            tokio::spawn(async move {
                loop {
                    if one(&settings, number % 2 == 0).await {
                        opened.fetch_add(1, Ordering::Relaxed);
                    } else {
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            });
        }
        loop {
            tokio::time::sleep(Duration::from_secs(10)).await;
            println!("{} sessions", opened.load(Ordering::Relaxed));
        }
    });
}

/// Runs one session; with `patient` the camera ends it. True if a picture arrived.
async fn one(settings: &CameraSettings, patient: bool) -> bool {
    let (update, mut heard) = mpsc::channel(16);
    let (stop, stopped) = watch::channel(false);
    let clock = Arc::new(SystemClock::new());
    let (heartbeat, wakeup, shared) =
        (Heartbeat::default(), WakeupCoalescer::default(), Arc::default());
    let stream = rtsp::Stream {
        role: StreamRole::Main,
        settings: settings.clone(),
        clock,
        shared,
        heartbeat,
        run: 0,
        wakeup,
    };
    let task = tokio::spawn(rtsp::run(stream, |_| {}, update, stopped));
    let mut up = false;
    let ended = async {
        while let Some(update) = heard.recv().await {
            up |= matches!(update, CameraUpdate::Up { .. });
            if up && !patient
                || matches!(update, CameraUpdate::Down { .. } | CameraUpdate::Retry { .. })
            {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(WITHIN, ended).await.is_ok();
    let _ = stop.send(true);
    heard.close();
    let _ = task.await.is_ok();
    up
}
