//! The engine: one owner of ring, journal and snapshots. Frames and orders in, news out; the thread around it only loops.
//!
//! What belongs here: gathering frames into fragments, answering orders, waiting for footage that is asked for and not yet
//! durable. What does not: boxes, slots, files (the rooms' other files).

use std::collections::VecDeque;
use std::sync::Arc;

use super::disk::{Disk, DiskFault, FileId};
use super::fragment::{Anchor, Fragment, Gathering};
use super::journal::{Journal, Kept, copy_b};
use super::locate::locate;
use super::recovery::{Recovery, recover};
use super::ring::{Draft, Ring, SEGMENTS_MIN};
use super::stills::{Geometry, Stills};
use super::{Gap, GapReason, PinClass, PinId, Recovered, SpanQuery, StorageNews, StorageOrder};
use crate::camera::{Frame, TrackKind, TrackParams};
use crate::lane::Skip;
use crate::settings::StorageSettings;
use crate::units::{Boot, Mono, Stamp, Ticket};

/// Microseconds of silence after which gathered frames are written without waiting for the next.
const SILENCE: u64 = 1_200_000;
/// Microseconds past the end of a query until it is answered with what there is: a fragment may be one second and a card may
/// stall for a few.
const PATIENCE: u64 = 10_000_000;
/// Queries that may wait at once; more are answered at once.
const WAITING_MAX: usize = 64;
/// Fragments remembered for pins into the recent past: the pre-roll and the longest GOP, at one fragment a second, twice over.
const RECENT_MAX: usize = 64;
/// Audio frames kept until the picture they belong to comes: half a second of AAC.
const EARLY_MAX: usize = 32;
/// Holes that wait for the first segment to be opened.
const HOLES_MAX: usize = 32;
/// Microseconds between counters.
const COUNTS_EVERY: u64 = 30_000_000;
/// Longest hole in the media clock between two starts, microseconds (30 days): a wrong clock must not stretch it further.
const HOLE_MAX: i64 = 30 * 24 * 3600 * 1_000_000;

/// Why the ring cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum StorageFault {
    /// The card refuses.
    #[error(transparent)]
    Disk(#[from] DiskFault),
    /// There is no room for it.
    #[error("the ring needs {wanted} bytes more and the file system has {available}: lower storage.budget or free some space")]
    NoRoom {
        /// Bytes still to be allocated.
        wanted: u64,
        /// Bytes there are.
        available: u64,
    },
    /// Files of another segment size are there.
    #[error("{0} has {1} bytes but storage.segment is {2}: use another directory or the old size")]
    OtherSize(String, u64, u64),
}

/// A query that waits for its end to be durable.
struct Waiting {
    pin: PinId,
    class: PinClass,
    query: SpanQuery,
    until: Mono,
}

/// Ring, journal and snapshots under one owner.
pub struct Engine {
    disk: Arc<dyn Disk>,
    ring: Ring,
    journal: Journal,
    stills: Stills,
    boot: Boot,
    gathering: Gathering,
    anchor: Option<Anchor>,
    /// Audio that came before its picture.
    early: Vec<Arc<Frame>>,
    /// Nothing can be decoded before the next key frame.
    need_key: bool,
    /// End of the footage on the media clock, and of the last footage of the last start in real time.
    media_end: u64,
    /// The moment after which footage is missing since the last start, until the first fragment tells its end.
    resume: Option<(Stamp, GapReason)>,
    holes: Vec<Gap>,
    /// End of what is durable.
    until: Stamp,
    waiting: Vec<Waiting>,
    /// (number, begin, starts on a key frame) of recent fragments.
    recent: VecDeque<(u64, Mono, bool)>,
    next_counts: Mono,
}

/// The geometry of the snapshot slots for some settings.
pub fn still_geometry(settings: &StorageSettings) -> Geometry {
    Geometry { slots: settings.still_slots, bytes: u64::from(settings.still_bytes) }
}

impl Engine {
    /// Opens or makes everything in `disk` and recovers what a power cut left. The first news is [`StorageNews::Started`].
    ///
    /// # Errors
    /// Only when recording is impossible; damage is never an error.
    pub fn open(disk: Arc<dyn Disk>, settings: &StorageSettings, now: Stamp) -> Result<(Engine, Vec<StorageNews>), StorageFault> {
        let files = disk.files()?;
        let count = ((settings.budget / settings.segment) as u32).max(SEGMENTS_MIN);
        let made = files.keys().filter(|file| matches!(file, FileId::Segment(_))).count() as u32;
        for (file, len) in &files {
            if matches!(file, FileId::Segment(_)) && *len != settings.segment {
                return Err(StorageFault::OtherSize(file.name(), *len, settings.segment));
            }
        }
        check_room(disk.as_ref(), settings, &files, count, made)?;
        let (mut journal, kept) = Journal::open(disk.clone(), settings.journal_slots, files.get(&FileId::Journal).copied())?;
        let boot = journal.begin()?;
        let live: Vec<Ticket> = kept.entries.iter().map(|(ticket, _)| *ticket).collect();
        let stills = Stills::open(disk.clone(), still_geometry(settings), files.get(&FileId::Stills).copied(), &live)?;
        let segments = files.keys().filter_map(|file| if let FileId::Segment(index) = file { Some(*index) } else { None });
        let mut found = recover(disk.as_ref(), segments, settings.segment);
        let ring = Ring::new(disk.clone(), &mut found, boot, (settings.segment, count, made), settings.pin_quota);
        let resume = found.end.map(|(_, end)| (end, if kept.clean { GapReason::Stopped } else { GapReason::PowerCut }));
        let mut engine = Engine {
            disk,
            ring,
            journal,
            stills,
            boot,
            gathering: Gathering::default(),
            anchor: None,
            early: Vec::new(),
            need_key: true,
            media_end: found.media,
            resume,
            holes: found.gaps.clone(),
            until: Stamp::default(),
            waiting: Vec::new(),
            recent: VecDeque::new(),
            next_counts: now.mono,
        };
        let news = engine.tell_start(found, kept);
        Ok((engine, news))
    }

    fn tell_start(&mut self, found: Recovery, kept: Kept) -> Vec<StorageNews> {
        let extent = found.oldest.zip(found.end).map(|(oldest, (_, end))| (oldest, end));
        let recovered = Recovered {
            boot: self.boot,
            last_seq: self.ring.newest(),
            extent,
            entries: kept.entries,
            newest: kept.newest,
            cells: kept.cells,
            gaps: found.gaps,
            repaired: found.repaired + kept.damaged,
            clean: kept.clean,
            took: 0,
        };
        let troubles = found.troubles.into_iter().map(|detail| StorageNews::Trouble { detail, lost: true });
        std::iter::once(StorageNews::Started(Box::new(recovered))).chain(troubles).collect()
    }

    /// Takes a frame of the main stream.
    pub fn frame(&mut self, frame: &Arc<Frame>, out: &mut Vec<StorageNews>) {
        let video = frame.kind() == TrackKind::Video;
        if self.anchor.is_none_or(|anchor| anchor.run != frame.run) && video {
            self.begin_run(frame, out);
        }
        if self.anchor.is_none_or(|anchor| anchor.run != frame.run) || self.need_key && !(video && frame.key) {
            self.ring.counts.skipped += u64::from(video);
            return;
        }
        self.need_key = false;
        if self.gathering.is_empty() && !video {
            if self.early.len() < EARLY_MAX {
                self.early.push(frame.clone());
            }
            return;
        }
        if self.gathering.ends_before(frame, self.ring.room()) {
            self.flush(Some(frame), out);
            if !video && self.gathering.is_empty() {
                self.early.push(frame.clone());
                return;
            }
        }
        self.gathering.push(frame.clone());
        for early in self.early.drain(..) {
            self.gathering.push(early);
        }
    }

    /// A new run of media time: the ring's media clock goes on by real time where it can be known.
    fn begin_run(&mut self, frame: &Frame, out: &mut Vec<StorageNews>) {
        self.flush(None, out);
        self.early.clear();
        self.need_key = true;
        let since = match self.resume {
            Some((end, _)) if self.until == Stamp::default() => frame.at.wall.0 - end.wall.0,
            _ if self.until == Stamp::default() => 0,
            _ => frame.at.mono.since(self.until.mono) as i64,
        };
        let media = self.media_end + since.clamp(0, HOLE_MAX) as u64;
        self.anchor = Some(Anchor { run: frame.run, pts: frame.pts_micros(), media });
    }

    /// Frames are missing before the next: the lane was full.
    pub fn skipped(&mut self, skip: Skip, out: &mut Vec<StorageNews>) {
        self.flush(None, out);
        self.need_key = true;
        self.early.clear();
        self.ring.counts.skipped += u64::from(skip.frames);
        self.hole(Gap { from: skip.from, to: skip.to, reason: GapReason::FellBehind, bytes: skip.bytes }, out);
    }

    /// Carries out an order.
    pub fn order(&mut self, now: Stamp, order: StorageOrder, out: &mut Vec<StorageNews>) {
        match order {
            StorageOrder::PinOpen { pin, class, from } => self.pin_open(pin, class, from),
            StorageOrder::Locate { pin, class, query } => self.ask(now, pin, class, query, out),
            StorageOrder::Unpin { pin } => {
                self.waiting.retain(|waiting| waiting.pin != pin);
                self.ring.pins.remove(pin);
            }
            StorageOrder::Enqueue { ticket, entry, still } => self.enqueue(ticket, entry, still, out),
            StorageOrder::Release { ticket } => {
                self.journal.release(ticket);
                self.stills.free(ticket);
            }
            StorageOrder::SaveCell { cell, bytes } => out.push(match self.journal.save(cell, bytes) {
                Ok(()) => StorageNews::CellSaved { cell },
                Err(detail) => StorageNews::Trouble { detail, lost: true },
            }),
            StorageOrder::NoteGap(gap) => self.hole(gap, out),
            StorageOrder::Stop => self.stop(out),
        }
    }

    fn enqueue(&mut self, ticket: Ticket, entry: Vec<u8>, still: Option<Vec<u8>>, out: &mut Vec<StorageNews>) {
        if let Some(jpeg) = still {
            match self.stills.store(ticket, &jpeg) {
                Ok(written) => self.ring.counts.written += written,
                Err(detail) => out.push(StorageNews::Trouble { detail, lost: true }),
            }
        }
        out.push(match self.journal.enqueue(ticket, entry) {
            Ok(()) => StorageNews::Enqueued { ticket },
            Err(reason) => {
                self.stills.free(ticket);
                StorageNews::NotEnqueued { ticket, reason }
            }
        });
    }

    /// Keeps everything from the last key frame at or before `from` on.
    fn pin_open(&mut self, pin: PinId, class: PinClass, from: Mono) {
        let before = self.recent.iter().rev().find(|(_, begin, key)| *key && *begin <= from);
        let first = before.or(self.recent.front()).map_or(self.ring.newest() + 1, |(seq, ..)| *seq);
        self.ring.pins.set(pin, class, first, u64::MAX);
    }

    fn ask(&mut self, now: Stamp, pin: PinId, class: PinClass, query: SpanQuery, out: &mut Vec<StorageNews>) {
        let (durable, until) = match query {
            SpanQuery::Mono { boot, to, .. } => (boot != self.boot || to <= self.until.mono, to.plus_micros(PATIENCE)),
            SpanQuery::Wall { to, .. } => (to <= self.until.wall, now.mono.plus_micros(PATIENCE)),
            SpanQuery::Seq { .. } => (true, now.mono),
        };
        let waiting = Waiting { pin, class, query, until };
        if durable || now.mono >= until || self.waiting.len() >= WAITING_MAX {
            self.answer(&waiting, out);
        } else {
            self.waiting.push(waiting);
        }
    }

    fn answer(&mut self, waiting: &Waiting, out: &mut Vec<StorageNews>) {
        let Waiting { pin, class, query, .. } = waiting;
        let span = match locate(self.disk.as_ref(), self.ring.index(), self.ring.newest(), query) {
            Ok(span) => span,
            Err(fault) => {
                out.push(StorageNews::Trouble { detail: fault.to_string(), lost: false });
                None
            }
        };
        match span.as_ref().and_then(|span| Some((span.fragments.first()?.seq, span.fragments.last()?.seq))) {
            Some((first, last)) => {
                self.ring.pins.set(*pin, *class, first, last);
            }
            None => self.ring.pins.remove(*pin),
        }
        out.push(StorageNews::Located { pin: *pin, span });
    }

    /// Answers the queries whose end is durable or whose time is over.
    fn answer_due(&mut self, now: Mono, out: &mut Vec<StorageNews>) {
        let until = self.until;
        let due = |waiting: &Waiting| {
            now >= waiting.until
                || match waiting.query {
                    SpanQuery::Mono { to, .. } => to <= until.mono,
                    SpanQuery::Wall { to, .. } => to <= until.wall,
                    SpanQuery::Seq { .. } => true,
                }
        };
        let (ready, still): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiting).into_iter().partition(due);
        self.waiting = still;
        for waiting in ready {
            self.answer(&waiting, out);
        }
    }

    /// Time passes without frames or orders.
    pub fn idle(&mut self, now: Stamp, out: &mut Vec<StorageNews>) {
        if self.gathering.last().is_some_and(|last| now.mono.since(last.at.mono) > SILENCE) {
            self.flush(None, out);
        }
        self.answer_due(now.mono, out);
        if let Err(fault) = self.journal.tidy() {
            out.push(StorageNews::Trouble { detail: fault.to_string(), lost: false });
        }
        if now.mono >= self.next_counts {
            self.next_counts = now.mono.plus_micros(COUNTS_EVERY);
            let (used, pinned) = self.ring.usage();
            let mut counts = self.ring.counts;
            counts.written += self.journal.written.0;
            counts.syncs += self.journal.written.1;
            (counts.used, counts.pinned, counts.available) = (used, pinned, self.disk.available());
            out.push(StorageNews::Counts(counts));
        }
    }

    /// Writes what is gathered. `next` is the frame that ended it.
    fn flush(&mut self, next: Option<&Arc<Frame>>, out: &mut Vec<StorageNews>) {
        let (Some(anchor), Some(first)) = (self.anchor, self.gathering.first().cloned()) else {
            return;
        };
        if let Some((from, reason)) = self.resume.take() {
            self.holes.push(Gap { from, to: first.at, reason, bytes: 0 });
        }
        let bytes = self.gathering.bytes() as u64;
        let end = self.gathering.last().map_or(first.at, |last| last.at);
        let tracks = self.gathering.tracks();
        let layout = self.ring.layout_for(&tracks);
        let next = next.filter(|next| next.run == anchor.run).map(Arc::as_ref);
        let number = self.ring.newest() as u32 + 1;
        let Some(fragment) = self.gathering.finish(&anchor, next, &layout, number) else {
            return;
        };
        self.write_holes(fragment.media, &tracks, out);
        match self.write(&fragment, &tracks, out) {
            Ok(seq) => self.durable(seq, &fragment, out),
            Err(reason) => {
                out.push(StorageNews::Trouble { detail: reason, lost: true });
                self.need_key = true;
                self.hole(Gap { from: first.at, to: end, reason: GapReason::DiskError, bytes }, out);
            }
        }
    }

    fn write(&mut self, fragment: &Fragment, tracks: &[Arc<TrackParams>], out: &mut Vec<StorageNews>) -> Result<u64, String> {
        let Fragment { content, start, key, media, lead, duration, payload, .. } = fragment;
        let (start, key, payload, media, lead, duration) = (*start, *key, *payload, *media, *lead, *duration);
        self.ring.append(&Draft { start, key, payload, media, lead, duration, gap: None, content }, tracks, out)
    }

    fn durable(&mut self, seq: u64, fragment: &Fragment, out: &mut Vec<StorageNews>) {
        self.ring.counts.frames += u64::from(fragment.frames);
        self.ring.counts.skipped += u64::from(fragment.left_out);
        self.media_end = self.media_end.max(fragment.media + fragment.duration);
        self.until = fragment.start.at(fragment.start.mono.plus_micros(fragment.duration));
        self.recent.push_back((seq, fragment.start.mono, fragment.key));
        if self.recent.len() > RECENT_MAX {
            self.recent.pop_front();
        }
        out.push(StorageNews::Durable { seq, until: self.until });
        self.answer_due(fragment.start.mono, out);
    }

    /// Tells a hole and records it, now or when the first segment opens.
    fn hole(&mut self, gap: Gap, out: &mut Vec<StorageNews>) {
        if self.holes.len() < HOLES_MAX {
            self.holes.push(gap);
        }
        if self.ring.is_open() {
            self.write_holes(self.media_end, &[], out);
        }
    }

    /// Records the waiting holes, at `media` on the media clock: where the footage behind them begins, when there is some already.
    /// A hole found at start was told with it; all others are told here.
    fn write_holes(&mut self, media: u64, tracks: &[Arc<TrackParams>], out: &mut Vec<StorageNews>) {
        for gap in std::mem::take(&mut self.holes) {
            let what = Some((gap.to, gap.reason, gap.bytes));
            let start = gap.from;
            let draft = Draft { start, key: false, payload: 0, media, lead: 0, duration: 0, gap: what, content: &[] };
            match self.ring.append(&draft, tracks, out) {
                Ok(_) if gap.reason == GapReason::Damaged => {}
                Ok(_) => out.push(StorageNews::Hole(gap)),
                Err(detail) => {
                    out.push(StorageNews::Trouble { detail, lost: true });
                    out.push(StorageNews::Hole(gap));
                }
            }
        }
    }

    fn stop(&mut self, out: &mut Vec<StorageNews>) {
        self.flush(None, out);
        if let Err(fault) = self.journal.tidy().and_then(|()| self.journal.end()) {
            out.push(StorageNews::Trouble { detail: fault.to_string(), lost: false });
        }
        out.push(StorageNews::Stopped);
    }
}

/// Refuses to start where the ring can never reach its size, unless it already has enough to work with.
fn check_room(
    disk: &dyn Disk,
    settings: &StorageSettings,
    files: &std::collections::BTreeMap<FileId, u64>,
    count: u32,
    made: u32,
) -> Result<(), StorageFault> {
    let slots = u64::from(settings.journal_slots);
    let side = |file: FileId, size: u64| if files.contains_key(&file) { 0 } else { size };
    let wanted = u64::from(count.saturating_sub(made)) * settings.segment
        + side(FileId::Journal, copy_b(slots) + slots * super::format::BLOCK)
        + side(FileId::Stills, u64::from(settings.still_slots) * u64::from(settings.still_bytes));
    let available = disk.available();
    match made >= SEGMENTS_MIN || wanted <= available {
        true => Ok(()),
        false => Err(StorageFault::NoRoom { wanted, available }),
    }
}
