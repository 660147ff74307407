//! Peers on separate cards: ffmpeg's segment muxer with a flush a second, and plain writes.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use taimat::format::mp4::{head_boxes, move_times};
use taimat::storage::fragment::{Anchor, FragmentBuilder};

use crate::card::Card;
use crate::footage::Footage;

/// Number of files of ffmpeg's ring, so that its size is that of ours.
const FILES: u64 = 16;
/// Real time for one second of footage: ffmpeg has read it and waits for more by then.
const TICK: Duration = Duration::from_millis(25);

/// Cost of ffmpeg's recording after its first lap.
pub struct Peer {
    /// Bytes to the device ÷ payload.
    pub amplification: f64,
    /// Bytes to the file system ÷ payload; slightly above 1 if both record the same.
    pub handed: f64,
    /// Flushes of the current file, and those with new bytes; one per second of footage is
    /// requested.
    pub flushes: u64,
    pub fresh: u64,
    /// Flushes of closed files.
    pub closing: u64,
    /// Length of the footage, seconds.
    pub media: u64,
}

/// Fragmented MP4 for ffmpeg's standard input, one second at a time.
struct Feed {
    footage: std::iter::Peekable<Footage>,
    gathering: FragmentBuilder,
    number: u32,
}

impl Feed {
    /// The next fragment and its sample bytes.
    fn second(&mut self) -> (Vec<u8>, u64) {
        while let Some(frame) =
            self.footage.peek().filter(|frame| !self.gathering.ends_before(frame, usize::MAX))
        {
            self.gathering.push(frame.clone());
            self.footage.next();
        }
        let next = self.footage.peek().cloned().unwrap();
        self.number += 1;
        let (anchor, layout) = (Anchor { run: next.run, pts: 0, media: 0 }, [next.params.clone()]);
        let fragment = self.gathering.finish(&anchor, Some(&next), &layout, self.number).unwrap();
        let mut content = fragment.content;
        move_times(&mut content, &[next.params.timescale], fragment.media, 0);
        (content, fragment.payload.into())
    }
}

/// Records `laps` laps of `lap` seconds with ffmpeg and counts all but the first.
pub fn ffmpeg(footage: Footage, lap: u64, laps: u64) -> Option<Peer> {
    let card = Card::new("relatime")?;
    let head = head_boxes(&[footage.params()], None);
    let mut child = spawn(&card.mount(), lap / FILES)?;
    let mut pipe = child.stdin.take()?;
    pipe.write_all(&head).unwrap();
    let mut feed =
        Feed { footage: footage.peekable(), gathering: FragmentBuilder::default(), number: 0 };
    let mut flusher = Flusher { pid: child.id(), ..Flusher::default() };
    let (mut before, mut payload) = ((0, 0), 0);
    let mut due = Instant::now();
    for second in 0..lap * laps {
        if second == lap {
            before = (card.written(), handed(&child));
            payload = 0;
            due = Instant::now();
            flusher = Flusher { pid: flusher.pid, current: flusher.current, ..Flusher::default() };
        }
        let (content, samples) = feed.second();
        pipe.write_all(&content).unwrap();
        payload += samples;
        due += TICK;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        flusher.flush();
    }
    let after = (card.written(), handed(&child));
    drop(pipe);
    child.wait().unwrap();
    let share = |bytes: u64| bytes as f64 / payload as f64;
    let (amplification, handed) = (share(after.0 - before.0), share(after.1 - before.1));
    let Flusher { flushes, fresh, closing, .. } = flusher;
    Some(Peer { amplification, handed, flushes, fresh, closing, media: lap * (laps - 1) })
}

fn spawn(dir: &Path, segment: u64) -> Option<Child> {
    let mut command = Command::new("ffmpeg");
    command.args([
        "-v",
        "error",
        "-nostdin",
        "-probesize",
        "1M",
        "-analyzeduration",
        "0",
        "-f",
        "mp4",
        "-i",
        "pipe:0",
    ]);
    command.args([
        "-c",
        "copy",
        "-f",
        "segment",
        "-segment_time",
        &segment.to_string(),
        "-segment_wrap",
        &FILES.to_string(),
    ]);
    // One complete fragment a second, so that the flush covers the same footage as ours.
    let options =
        "movflags=frag_keyframe+empty_moov+default_base_moof:frag_duration=1000000:flush_packets=1";
    command
        .args(["-segment_format", "mp4", "-segment_format_options", options])
        .arg(dir.join("%03d.mp4"));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().ok()
}

/// Bytes that a process has written so far (proc(5): `wchar`).
fn handed(child: &Child) -> u64 {
    let io = std::fs::read_to_string(format!("/proc/{}/io", child.id())).unwrap();
    io.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap().parse().unwrap()
}

/// Flushes ffmpeg's open file, and the one before if it was closed since: otherwise its end would
/// never be flushed.
#[derive(Default)]
struct Flusher {
    pid: u32,
    current: Option<(PathBuf, File, u64)>,
    flushes: u64,
    fresh: u64,
    closing: u64,
}

impl Flusher {
    fn flush(&mut self) {
        let Some(path) = self.open_file() else { return };
        if let Some((_, closed, _)) = self.current.take_if(|(old, ..)| *old != path) {
            closed.sync_data().unwrap();
            self.closing += 1;
        }
        let (_, file, seen) =
            self.current.get_or_insert_with(|| (path.clone(), File::open(&path).unwrap(), 0));
        let length = file.metadata().unwrap().len();
        self.fresh += u64::from(length != *seen);
        *seen = length;
        file.sync_data().unwrap();
        self.flushes += 1;
    }

    fn open_file(&self) -> Option<PathBuf> {
        let fds = std::fs::read_dir(format!("/proc/{}/fd", self.pid)).ok()?;
        fds.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok())
            .find(|path| path.extension().is_some_and(|ext| ext == "mp4"))
    }
}

/// Writes of one size into an allocated file, each flushed: the best speed of the card.
pub struct Plain {
    file: File,
    size: u64,
    at: u64,
    /// Last field: the file must be closed before the unmount.
    _card: Card,
}

impl Plain {
    /// A file of `size` bytes on a separate card, written once.
    pub fn new(size: u64) -> Option<Plain> {
        let card = Card::new("relatime")?;
        let file = File::create(card.mount().join("plain")).unwrap();
        file.write_all_at(&vec![0; size as usize], 0).unwrap();
        file.sync_all().unwrap();
        Some(Plain { file, size, at: 0, _card: card })
    }

    /// Duration of `count` writes of `bytes`, each padded to whole blocks, seconds.
    pub fn write(&mut self, count: u64, bytes: u64) -> f64 {
        let blocks = vec![0x5a; bytes.next_multiple_of(4096) as usize];
        let started = Instant::now();
        for _ in 0..count {
            if self.at + blocks.len() as u64 > self.size {
                self.at = 0;
            }
            self.file.write_all_at(&blocks, self.at).unwrap();
            self.file.sync_data().unwrap();
            self.at += blocks.len() as u64;
        }
        started.elapsed().as_secs_f64()
    }
}
