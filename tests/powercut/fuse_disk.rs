//! FUSE file system of one file: the kernel puts a loop device on it, and this process is the card.
//!
//! A flush of the loop device arrives as FSYNC and is delayed. The serving threads must not access
//! the mount or anything on it: they would wait for themselves.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyWrite, Request, Session, WriteFlags,
};
use taimat::sim::rng::Rng;

use super::card::{Card, Wreck};

/// The one file.
const NAME: &str = "card.img";
const FILE: INodeNo = INodeNo(2);
/// Cache time of names and sizes in the kernel: they never change.
const FOREVER: Duration = Duration::from_secs(3600);
/// Requests served at once: a delayed flush must not block reads and writes.
const THREADS: usize = 4;
/// Largest delay of a flush before its first half is durable, and before its second, milliseconds.
const FLUSH_WAIT: u64 = 100;
/// Largest delay of one write in eight, milliseconds.
const WRITE_WAIT: u64 = 10;

/// Number and length of delays.
#[derive(Debug, Default)]
pub struct Delays {
    pub count: AtomicU64,
    pub millis: AtomicU64,
    pub flushes: AtomicU64,
}

struct Shared {
    card: Mutex<Card>,
    random: Mutex<Rng>,
    /// Flushes in progress.
    flushing: AtomicU64,
    /// True after a cut: no more delays.
    quick: AtomicBool,
    delays: Arc<Delays>,
}

impl Shared {
    /// Waits up to `limit` milliseconds, once in `one_in` calls.
    fn dawdle(&self, one_in: u64, limit: u64) {
        let millis = {
            let mut random = self.random.lock().unwrap();
            if random.one_in(one_in) { random.below(limit + 1) } else { 0 }
        };
        if millis > 0 && !self.quick.load(Ordering::Relaxed) {
            self.delays.count.fetch_add(1, Ordering::Relaxed);
            self.delays.millis.fetch_add(millis, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(millis));
        }
    }
}

/// A served card; unmounted when dropped.
pub struct Drive {
    shared: Arc<Shared>,
    session: Option<BackgroundSession>,
    dir: PathBuf,
}

impl Drive {
    /// Serves `card` in the directory `dir`, with delays from `seed`.
    ///
    /// # Errors
    /// This machine does not allow FUSE.
    pub fn serve(card: Card, dir: &Path, seed: u64, delays: Arc<Delays>) -> std::io::Result<Drive> {
        let shared = Arc::new(Shared {
            card: Mutex::new(card),
            random: Mutex::new(Rng::new(seed)),
            flushing: AtomicU64::new(0),
            quick: AtomicBool::new(false),
            delays,
        });
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("taimat-powercut".into())];
        config.n_threads = Some(THREADS);
        let session = Session::new(Served(shared.clone()), dir, &config)?.spawn()?;
        Ok(Drive { shared, session: Some(session), dir: dir.to_owned() })
    }

    /// Path of the file for a loop device.
    pub fn file(&self) -> PathBuf {
        self.dir.join(NAME)
    }

    /// True while a flush is in progress.
    pub fn is_flushing(&self) -> bool {
        self.shared.flushing.load(Ordering::SeqCst) > 0
    }

    /// Calls `f` with the card.
    pub fn ask<T>(&self, question: impl Fn(&Card) -> T) -> T {
        question(&self.shared.card.lock().unwrap())
    }

    /// Cuts the power and returns the content of the card. The file system continues without
    /// delays, so that the kernel can unmount it.
    pub fn cut(&self, random: &mut Rng) -> Wreck {
        let wreck = self.shared.card.lock().unwrap().cut(random);
        self.shared.quick.store(true, Ordering::Relaxed);
        wreck
    }
}

impl Drop for Drive {
    fn drop(&mut self) {
        self.shared.quick.store(true, Ordering::Relaxed);
        let Some(session) = self.session.take() else { return };
        super::mounts::until_let_go(&self.dir);
        if let Err(error) = session.umount_and_join() {
            eprintln!("{}: {error}", self.dir.display());
        }
    }
}

/// The file system.
struct Served(Arc<Shared>);

impl Served {
    fn attributes(&self, ino: INodeNo) -> FileAttr {
        let (size, kind, perm) = match ino {
            FILE => (self.0.card.lock().unwrap().len() as u64, FileType::RegularFile, 0o600),
            _ => (0, FileType::Directory, 0o700),
        };
        FileAttr {
            ino,
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match parent == INodeNo::ROOT && name == NAME {
            true => reply.entry(&FOREVER, &self.attributes(FILE), Generation(0)),
            false => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOREVER, &self.attributes(ino));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // Without a page cache every read and write of the loop device arrives here.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        reply.data(self.0.card.lock().unwrap().read(offset as usize, size as usize));
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        self.0.dawdle(8, WRITE_WAIT);
        self.0.card.lock().unwrap().write(offset as usize, data);
        reply.written(data.len() as u32);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // close() makes nothing durable.
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let shared = &self.0;
        shared.flushing.fetch_add(1, Ordering::SeqCst);
        shared.delays.flushes.fetch_add(1, Ordering::Relaxed);
        let (upto, pending) = shared.card.lock().unwrap().writes();
        shared.dawdle(1, FLUSH_WAIT);
        shared.card.lock().unwrap().settle(upto - pending.div_ceil(2));
        shared.dawdle(1, FLUSH_WAIT);
        shared.card.lock().unwrap().settle(upto);
        shared.flushing.fetch_sub(1, Ordering::SeqCst);
        reply.ok();
    }
}
