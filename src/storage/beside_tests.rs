//! A reader beside a writer: what the writer recycles while it is read is no damage.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::disk::{Disk, RealDisk};
use super::engine::Engine;
use super::engine_tests::small;
use super::{StorageRequest, StorageUpdate};
use crate::camera::{Frame, StreamRole};
use crate::format::record::tests::video;
use crate::units::{ClockQuality, MonoTime, Timestamp, WallTime};

/// A thread that records as fast as the card takes it, into a ring that recycles all the time.
pub(crate) struct FastWriter {
    dir: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FastWriter {
    pub(crate) fn start(dir: &Path) -> FastWriter {
        let stop = Arc::new(AtomicBool::new(false));
        let disk = Arc::new(RealDisk::open(dir, false).unwrap());
        let (wall, quality) = (WallTime(1_790_000_000_000_000), ClockQuality::Ntp);
        let mut at = Timestamp { mono: MonoTime(1_000_000), wall, quality };
        let (mut engine, _) = Engine::open(disk, &small(), at).unwrap();
        let mut record = move |frames: i64, from: i64| {
            let mut out: Vec<StorageUpdate> = Vec::new();
            for n in from..from + frames {
                at = at.after(100_000);
                let (role, params, data) = (StreamRole::Main, video(1), vec![n as u8; 500].into());
                let (key, pts) = (n % 20 == 0, n * 9000);
                let frame = Frame { role, params, data, key, pts, run: 1, at, lost: 0 };
                engine.frame(&Arc::new(frame), &mut out);
            }
            if frames == 0 {
                engine.request(at, StorageRequest::Stop, &mut out);
            }
        };
        record(2000, 0);
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut from = 2000;
            while !stopped.load(Ordering::Relaxed) {
                record(20, from);
                from += 20;
                std::thread::sleep(std::time::Duration::from_millis(4));
            }
            record(0, from);
        });
        FastWriter { dir: dir.to_owned(), stop, thread: Some(thread) }
    }

    /// Ends the writer in order.
    pub(crate) fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    pub(crate) fn reader(&self) -> Arc<dyn Disk> {
        Arc::new(RealDisk::open_read_only(&self.dir).unwrap())
    }
}

#[test]
fn a_check_beside_a_writer_reports_no_false_damage() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = FastWriter::start(dir.path());
    let mut found = Vec::new();
    let mut recycled = 0;
    for _ in 0..12 {
        let checked = super::check::check(&writer.reader(), |_, _| {
            std::thread::sleep(std::time::Duration::from_millis(20));
        })
        .unwrap();
        recycled += checked.recycled;
        found.extend(checked.problems.into_iter().chain(checked.torn).map(|at| at.to_string()));
    }
    writer.stop();
    let quiet = super::check::check(&writer.reader(), |_, _| {}).unwrap();
    assert_eq!((quiet.problems, quiet.torn, quiet.recycled), (vec![], vec![], 0));
    assert_eq!(found, Vec::<String>::new(), "{recycled} recycled");
}

#[test]
fn a_read_beside_a_writer_misses_no_records() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = FastWriter::start(dir.path());
    let mut found = Vec::new();
    for _ in 0..40 {
        let ring = super::recovery::read(&writer.reader()).unwrap();
        found.extend(ring.index.lost.list().to_vec());
        assert_eq!(ring.troubles, Vec::<String>::new());
    }
    writer.stop();
    assert_eq!(found, []);
}
