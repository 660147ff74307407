//! Tests of the RTSP client against the simulated camera.
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

/// Plays the main stream of a camera until `until` returns a value for an update.
fn play<T>(camera: &SimCamera, mut until: impl FnMut(CameraUpdate) -> Option<T>) -> T {
    let text = format!(
        "site = \"a\"\nstorage.dir = \"/\"\nuplink.host = \"localhost\"\n[camera]\nmain_url = {:?}\nlogin_file = \"login\"",
        camera.main_url()
    );
    let settings = parse::parse(&text, &|_| Ok("admin:taimat".into())).unwrap().camera;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let found = runtime.block_on(async {
        let (update, mut updates) = mpsc::channel(16);
        let (_stop, stopped) = watch::channel(false);
        let (clock, shared, heartbeat) =
            (Arc::new(SystemClock::new()), Arc::default(), Heartbeat::default());
        tokio::spawn(rtsp::run(
            Stream {
                role: StreamRole::Main,
                settings,
                clock,
                shared,
                heartbeat,
                run: 0,
                wakeup: WakeupCoalescer::default(),
            },
            |_| {},
            update,
            stopped,
        ));
        let seen = async {
            loop {
                if let Some(found) = until(updates.recv().await.unwrap()) {
                    return found;
                }
            }
        };
        timeout(Duration::from_secs(20), seen).await
    });
    runtime.shutdown_background();
    found.expect("no such update within 20 s")
}

fn camera(sound: Sound) -> SimCamera {
    SimCamera::start(Options { main: (64, 48), sub: (64, 48), sound, ..Options::default() })
        .unwrap()
}

#[test]
fn pictures_are_recorded_without_unusable_sound() {
    for (sound, why) in [(Sound::LowBitRate, "mpeg4-generic"), (Sound::Refused, "461")] {
        let tracks = play(&camera(sound), |update| match update {
            CameraUpdate::Up { tracks, .. } => Some(tracks),
            // The camera may still be starting and answer the first DESCRIBE with 503.
            _ => None,
        });
        assert!(
            tracks.starts_with("h264 64x48, without sound: ") && tracks.contains(why),
            "{tracks}"
        );
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
        CameraUpdate::Quirks { .. } => None,
        // The camera may still be starting and answer the first DESCRIBE with 503.
        other => {
            if up {
                panic!("{other:?}")
            } else {
                None
            }
        }
    });
    assert!(counts.bad_packets + counts.lost_packets > 0, "{counts:?}");
}
