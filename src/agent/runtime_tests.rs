//! Tests of the runtime: how the process ends when a thread ends.

use super::*;
use crate::clock::SystemClock;
use crate::settings::parse;
use crate::units::Timestamp;

/// A clock that panics on the thread of this name after two seconds.
struct Trap {
    clock: SystemClock,
    thread: &'static str,
}

impl Clock for Trap {
    fn now(&self) -> Timestamp {
        let now = self.clock.now();
        let here = std::thread::current().name() == Some(self.thread);
        assert!(!here || now.mono.0 < 2_000_000, "a test's panic");
        now
    }
}

/// The error with which a device without camera and broker ends after `thread` panics.
fn ends_when_it_panics(thread: &'static str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "site = \"a\"\ncamera.main_url = \"rtsp://127.0.0.1:9/x\"\nuplink.host = \"127.0.0.1\"\nuplink.port = 9\n[storage]\n\
         dir = {dir:?}\nrequire_mount = false\nsegment = \"256 KiB\"\nbudget = \"1 MiB\"\njournal_slots = 64\nsnapshot_slots = 1\n",
        dir = dir.path()
    );
    let settings = parse::parse(&text, &|_| Err("none".into())).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ended = runtime.block_on(async {
        let (_stop, stopped) = watch::channel(false);
        timeout(
            Duration::from_secs(20),
            run(settings, Arc::new(Trap { clock: SystemClock::new(), thread }), stopped),
        )
        .await
    });
    runtime.shutdown_background();
    ended.expect("the device still runs").unwrap_err().to_string()
}

#[test]
fn a_panicking_thread_ends_the_process_and_is_named() {
    for part in ["storage", "analytics"] {
        let error = ends_when_it_panics(part);
        assert!(error.starts_with(part), "{error}");
    }
}

#[test]
fn a_card_without_room_leads_to_a_ring_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("taimat.toml");
    let text = format!(
        "site = \"a\"\ncamera.main_url = \"rtsp://127.0.0.1:9/x\"\nuplink.host = \"127.0.0.1\"\nuplink.port = 9\n[storage]\n\
         dir = {dir:?}\nrequire_mount = false\nbudget = \"8 TiB\"\n",
        dir = dir.path().join("card")
    );
    std::fs::write(&file, text).unwrap();
    let clock = Arc::new(SystemClock::new());
    let started = crate::remote_config::startup::load_startup(
        &file,
        &dir.path().join("state"),
        [1; 32],
        clock.now(),
    )
    .unwrap();
    let mut configured = started.configured.unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let run = |configured: Configured| {
        let (settings, clock) = (started.settings.clone(), clock.clone());
        runtime.block_on(async {
            let (stop, stopped) = watch::channel(false);
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(2)).await;
                stop.send(true)
            });
            timeout(
                Duration::from_secs(30),
                run_configured(
                    settings,
                    Some(configured),
                    clock,
                    WakeupCoalescer::default(),
                    stopped,
                ),
            )
            .await
        })
    };
    configured.runtime = Some(dir.path().to_owned());
    assert_eq!(run(configured).unwrap().unwrap(), RunEnd::Stopped);
    assert!(dir.path().join("ring").is_dir(), "no ring in memory");
    runtime.shutdown_background();
}
