//! The RTSP shell against the simulated camera: what it survives.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::rtsp::{self, Stream};
use super::{CameraUpdate, StreamRole};
use crate::clock::SystemClock;
use crate::settings::parse;
use crate::sim::camera::{Options, SimCamera, Sound};
use crate::wakeup::WakeupCoalescer;
use crate::watchdog::Heartbeat;

/// Plays the main stream of a camera; `until` looks at the updates and gives what the test wants to know.
fn play<T>(camera: &SimCamera, mut until: impl FnMut(CameraUpdate) -> Option<T>) -> T {
    let text = format!(
        "site = \"a\"\nstorage.dir = \"/\"\nuplink.host = \"localhost\"\n[camera]\nmain_url = {:?}\nlogin_file = \"login\"",
        camera.main_url()
    );
    let settings = parse::parse(&text, &|_| Ok("admin:taimat".into())).unwrap().camera;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let found = runtime.block_on(async {
        let (update, mut told) = mpsc::channel(16);
        let (_stop, stopped) = watch::channel(false);
        let (clock, logins, heartbeat) = (Arc::new(SystemClock::new()), Arc::default(), Heartbeat::default());
        tokio::spawn(rtsp::run(
            Stream { role: StreamRole::Main, settings, clock, logins, heartbeat, run: 0, wakeup: WakeupCoalescer::default() },
            |_| {},
            update,
            stopped,
        ));
        let seen = async {
            loop {
                if let Some(found) = until(told.recv().await.unwrap()) {
                    return found;
                }
            }
        };
        timeout(Duration::from_secs(20), seen).await
    });
    runtime.shutdown_background();
    found.expect("not told in time")
}

fn camera(sound: Sound) -> SimCamera {
    SimCamera::start(Options { main: (64, 48), sub: (64, 48), sound, ..Options::default() }).unwrap()
}

#[test]
fn pictures_are_recorded_without_unusable_sound() {
    for (sound, why) in [(Sound::LowBitRate, "mpeg4-generic"), (Sound::Refused, "461")] {
        let told = play(&camera(sound), |update| match update {
            CameraUpdate::Up { tracks, .. } => Some(tracks),
            // It may still be waking up: the first DESCRIBE is then answered with 503.
            _ => None,
        });
        assert!(told.starts_with("h264 64x48, without sound: ") && told.contains(why), "{told}");
    }
}

#[test]
fn damaged_packets_are_counted_and_the_session_goes_on() {
    let camera = camera(Sound::None);
    let mut up = false;
    let counts = play(&camera, |update| match update {
        CameraUpdate::Up { .. } => {
            up = true;
            camera.faults().bad_packets.store(50, Ordering::Relaxed);
            None
        }
        CameraUpdate::Counts { counts, .. } => Some(counts).filter(|_| up),
        // It may still be waking up: the first DESCRIBE is then answered with 503.
        other => {
            if up {
                panic!("{other:?}")
            } else {
                None
            }
        }
    });
    assert_eq!((counts.bad_packets, counts.lost_packets), (50, 0));
}
