//! Storage engine: gathers frames into fragments, executes requests and reports durable footage.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::dir_check::DirCheck;
use super::disk::{Disk as _, FileId};
use super::fallback::FallbackDisk;
use super::fragment::{Anchor, Fragment, FragmentBuilder, NewFragment};
use super::journal::{Journal, JournalFault};
use super::locks::Locks;
use super::open_gap::OpenGap;
use super::pending_query::PendingQuery;
use super::ring::{AppendFault, Ring};
use super::scrub::Scrub;
use super::snapshots::SnapshotStore;
use super::track_changes::TrackChanges;
use super::wear::{ALARM, WriteLoad};
use super::{Cell, Gap, GapReason, StorageRequest, StorageUpdate};
use crate::camera::{Frame, TrackKind, TrackParams};
use crate::frame_queue::DroppedFrames;
use crate::units::{Boot, Digest, EntryId, MonoTime, Timestamp};

/// Gathered frames are written after this long without another frame.
pub(super) const FLUSH_TIMEOUT: Duration = Duration::from_millis(1200);
/// Fragments remembered for pins into the recent past: twice the pre-roll plus the longest GOP, at
/// one fragment a second.
const RECENT_MAX: usize = 64;
/// Interval between two reports of the counters.
const COUNTS_INTERVAL: Duration = Duration::from_secs(30);
/// Recording continues in memory after the card has rejected every write for this long. A bus reset
/// takes two seconds.
const CARD_TIMEOUT: Duration = Duration::from_secs(5);
/// Recording of entries continues in memory after this many rejected journal writes in a row. The
/// agent offers an entry again every five seconds.
const REFUSALS_MAX: u32 = 3;
/// A recent fragment, at which an open pin may begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecentFragment {
    pub(super) seq: u64,
    pub(super) start: MonoTime,
    /// Starts with a key frame.
    pub(super) key: bool,
}

/// Owns ring, journal and snapshots; the only writer of the card.
pub struct Engine {
    pub(super) card: Arc<FallbackDisk>,
    pub(super) ring: Ring,
    pub(super) journal: Journal,
    pub(super) snapshots: SnapshotStore,
    pub(super) locks: Locks,
    pub(super) boot: Boot,
    /// Monotonic time at which this boot opened the ring.
    pub(super) started: MonoTime,
    /// Bytes that may be written to the card by its data sheet; 0 when not configured.
    pub(super) endurance: u64,
    pub(super) builder: FragmentBuilder,
    pub(super) anchor: Option<Anchor>,
    /// Audio that arrived before its video frame.
    pub(super) early: Vec<Arc<Frame>>,
    /// Frames are skipped until the next key frame, because they cannot be decoded without it.
    pub(super) need_key: bool,
    /// Parameters of the latest video frame that was gathered: without a key frame only frames with
    /// the same parameters can be decoded behind it.
    pub(super) decodable: Option<Digest>,
    pub(super) track_changes: TrackChanges,
    /// End of the footage on the media clock, microseconds.
    pub(super) media_end: u64,
    /// Latest picture of the newest fragment of this boot on the media clock, microseconds.
    pub(super) media_last: Option<u64>,
    /// Video frames since the last call of [`Engine::idle`], and its time.
    pub(super) videos: u32,
    pub(super) idle_at: MonoTime,
    /// Earliest time of the next flush without a video frame.
    pub(super) next_late_flush: MonoTime,
    /// The gap since the last boot, a write error or an undecodable frame.
    pub(super) open_gap: Option<OpenGap>,
    /// Begin and reason of what this boot left out while it has recorded nothing.
    pub(super) discarded: Option<(Timestamp, GapReason)>,
    /// When the stop began; the footage ends there.
    pub(super) stopping: Option<Timestamp>,
    /// Gaps that still have to be recorded.
    pub(super) pending_gaps: Vec<Gap>,
    /// End of the last gap that this boot recorded or is about to record.
    pub(super) named_until: MonoTime,
    /// End of the durable footage.
    pub(super) until: Timestamp,
    pub(super) waiting: Vec<PendingQuery>,
    /// The newest fragments, oldest first.
    pub(super) recent: VecDeque<RecentFragment>,
    pub(super) next_counts: MonoTime,
    pub(super) dir_check: DirCheck,
    /// Time of the first of the rejected fragments; `None` when the last write succeeded.
    pub(super) refused_since: Option<MonoTime>,
    /// Rejected journal writes in a row.
    pub(super) refusals: u32,
    pub(super) wear_reported: bool,
    pub(super) scrub: Scrub,
    /// Outbox entries found when the ring was opened and not reported yet, newest first.
    pub(super) unreported: Vec<EntryId>,
}

impl Engine {
    /// The disk to read footage and snapshots from: the card, or memory where it replaces the card.
    pub fn card(&self) -> Arc<FallbackDisk> {
        self.card.clone()
    }

    /// Adds a frame of the main stream.
    pub fn frame(&mut self, frame: &Arc<Frame>, out: &mut Vec<StorageUpdate>) {
        let video = frame.kind() == TrackKind::Video;
        if self.anchor.is_none_or(|anchor| anchor.run != frame.run) && video {
            self.start_run(frame, out);
        }
        if self.anchor.is_none_or(|anchor| anchor.run != frame.run)
            || self.need_key && !(video && frame.key)
        {
            return self.skip_frame(frame);
        }
        if !self.track_changes.admits(frame) {
            return self.leave_out(frame, out);
        }
        self.need_key = false;
        if !video {
            return self.audio(frame);
        }
        self.videos += 1;
        self.end_before_hole(frame, out);
        if self.begins_without_key(frame) {
            return self.skip_to_key(frame, out);
        }
        if self.builder.ends_before(frame, self.ring.room()) {
            if self.fits_padding(frame) {
                self.builder.push(frame.clone());
                return self.flush(None, out);
            }
            self.flush(Some(frame), out);
            // The flush may have failed, and with it the key frame that this frame needs.
            if self.need_key && !frame.key {
                return self.skip_frame(frame);
            }
            self.need_key = false;
        }
        self.decodable = Some(frame.params.digest);
        self.builder.push(frame.clone());
        self.join_early();
    }

    fn fits_padding(&self, frame: &Arc<Frame>) -> bool {
        let layout = self.ring.layout_for(&self.builder.tracks());
        self.anchor.is_some_and(|anchor| {
            self.builder.fits_padding(frame, self.ring.room(), &anchor, &layout)
        })
    }

    /// Writes all gathered frames and the audio that waits for a video frame.
    pub(super) fn flush_all(&mut self, out: &mut Vec<StorageUpdate>) {
        self.join_early();
        self.flush(None, out);
    }

    /// Starts a new run of media time. The media clock advances by the real time since the last
    /// footage.
    fn start_run(&mut self, frame: &Frame, out: &mut Vec<StorageUpdate>) {
        self.flush_all(out);
        self.need_key = true;
        let media = self.media_end + self.since_footage(frame.at);
        self.anchor = Some(Anchor { run: frame.run, pts: frame.pts_micros(), media });
    }

    /// Records the gap left by frames that a full frame queue dropped.
    pub fn skipped(&mut self, skip: DroppedFrames, out: &mut Vec<StorageUpdate>) {
        self.flush_all(out);
        self.need_key = true;
        self.ring.counts.skipped += u64::from(skip.frames);
        self.record_gap(
            Gap { from: skip.from, to: skip.to, reason: GapReason::FellBehind, bytes: skip.bytes },
            out,
        );
    }

    /// Executes a request.
    pub fn request(
        &mut self,
        now: Timestamp,
        request: StorageRequest,
        out: &mut Vec<StorageUpdate>,
    ) {
        match request {
            StorageRequest::PinOpen { pin, class, from } => self.pin_open(pin, class, from),
            StorageRequest::Locate { pin, class, query } => self.query(now, pin, class, query, out),
            StorageRequest::Unpin { pin } => {
                self.waiting.retain(|waiting| waiting.pin != pin);
                self.ring.pins.remove(pin);
            }
            StorageRequest::Enqueue { entry_id, entry, snapshot } => {
                self.enqueue(entry_id, entry, snapshot, out)
            }
            StorageRequest::EnqueueAll { entries } => self.enqueue_all(entries, out),
            StorageRequest::Release { entry_ids } => {
                for entry_id in entry_ids {
                    self.journal.release(entry_id);
                    self.snapshots.free(entry_id);
                }
            }
            StorageRequest::Fetch { entry_id } => {
                let read = self.journal.entry(entry_id).map_err(|fault| fault.to_string());
                let outcome = read.and_then(|entry| {
                    entry.ok_or_else(|| "both copies are damaged on the card".to_owned())
                });
                out.push(StorageUpdate::Fetched { entry_id, outcome });
            }
            StorageRequest::SaveCell { cell, bytes } => {
                out.push(match self.journal.save(cell, bytes) {
                    Ok(()) => StorageUpdate::CellSaved { cell },
                    Err(fault) => StorageUpdate::Trouble { detail: fault.to_string(), lost: true },
                })
            }
            StorageRequest::NoteGap(gap) => {
                // Footage in memory precedes the gap. Recording the gap first would leave a time
                // without footage and without a gap after a power cut.
                self.flush_all(out);
                match gap.reason {
                    GapReason::CameraDown => self.open_outage(gap),
                    _ => self.record_gap(gap, out),
                }
            }
            StorageRequest::StoppedBefore => {
                if let Some(gap) = &mut self.open_gap
                    && gap.reason == GapReason::PowerCut
                {
                    gap.reason = GapReason::DiskError;
                }
            }
            StorageRequest::Lock { id, from, to, reason } => self.lock(id, (from, to), reason, out),
            StorageRequest::Unlock { id } => self.unlock(id, out),
            StorageRequest::Resize { budget, pin_quota, endurance } => {
                self.endurance = endurance;
                self.ring.resize(budget, pin_quota);
                out.extend(self.ring.lack_of_room(budget));
            }
            StorageRequest::Stopping { at } => self.stopping = Some(at),
            StorageRequest::Flush => match self.stopping {
                Some(at) => self.end_footage(at, out),
                None => self.flush_all(out),
            },
            StorageRequest::Stop => self.stop(now, out),
        }
    }

    fn enqueue(
        &mut self,
        entry_id: EntryId,
        entry: Vec<u8>,
        snapshot: Option<Vec<u8>>,
        out: &mut Vec<StorageUpdate>,
    ) {
        if let Some(jpeg) = snapshot {
            match self.snapshots.store(entry_id, &jpeg) {
                Ok(written) => self.ring.counts.written += written,
                Err(detail) => out.push(StorageUpdate::Trouble { detail, lost: true }),
            }
        }
        let stored = self.journal.enqueue(entry_id, entry);
        out.push(match &stored {
            Ok(()) => StorageUpdate::Enqueued { entry_id },
            Err(fault) => {
                self.snapshots.free(entry_id);
                StorageUpdate::NotEnqueued { entry_id, reason: fault.to_string() }
            }
        });
        self.count_journal_result(stored, out);
    }

    fn enqueue_all(&mut self, entries: Vec<(EntryId, Vec<u8>)>, out: &mut Vec<StorageUpdate>) {
        let entry_ids: Vec<EntryId> = entries.iter().map(|(entry_id, _)| *entry_id).collect();
        let stored = self.journal.enqueue_all(entries);
        out.extend(entry_ids.into_iter().map(|entry_id| match &stored {
            Ok(()) => StorageUpdate::Enqueued { entry_id },
            Err(fault) => StorageUpdate::NotEnqueued { entry_id, reason: fault.to_string() },
        }));
        self.count_journal_result(stored, out);
    }

    fn count_journal_result(
        &mut self,
        stored: Result<(), JournalFault>,
        out: &mut Vec<StorageUpdate>,
    ) {
        match stored {
            Err(JournalFault::Disk(fault)) => self.journal_refused(fault.to_string(), out),
            Ok(()) | Err(_) => self.refusals = 0,
        }
    }

    /// Moves journal and snapshots to memory after repeated write errors, so that events still
    /// reach the office.
    fn journal_refused(&mut self, detail: String, out: &mut Vec<StorageUpdate>) {
        self.refusals += 1;
        if self.refusals >= REFUSALS_MAX && !self.card.holds(FileId::Journal) {
            self.card.hold_in_memory(FileId::Journal, self.journal.size());
            self.card.hold_in_memory(FileId::Snapshots, self.snapshots.size());
            out.push(StorageUpdate::CardLost { journal: true, detail });
        }
    }

    /// Runs periodic work; called when no frame or request is pending.
    pub fn idle(&mut self, now: Timestamp, out: &mut Vec<StorageUpdate>) {
        self.flush_late(now.mono, out);
        self.answer_due(now, out);
        if let Err(fault) = self.journal.write_tombstones() {
            out.push(StorageUpdate::Trouble { detail: fault.to_string(), lost: false });
        }
        self.learn_clock(now, out);
        self.scrub.step(now.mono, &self.card, &mut self.ring, out);
        self.check_dir(now.mono, out);
        out.extend(self.track_changes.report(now.mono).map(StorageUpdate::TrackChanges));
        if now.mono >= self.next_counts {
            self.next_counts = now.mono.plus(COUNTS_INTERVAL);
            if self.ring.grow(now.mono) {
                tracing::info!(
                    budget = self.ring.counts.budget,
                    "the card has room again; the ring grows to storage.budget"
                );
            }
            self.count(now.mono, out);
        }
    }

    /// Updates the clock history and stores it in the journal.
    fn learn_clock(&mut self, now: Timestamp, out: &mut Vec<StorageUpdate>) {
        let boot = self.boot;
        let history = self.ring.clock_history_mut();
        let noted = history.note_unset_start(boot, now);
        let set = history.learn(boot, now);
        if set.is_none() && !noted {
            return;
        }
        let bytes = self.ring.index().clock_history.encode();
        if let Err(JournalFault::Disk(fault)) = self.journal.save(Cell::Clock, bytes) {
            out.push(StorageUpdate::Trouble { detail: fault.to_string(), lost: false });
        }
        out.extend(set.map(StorageUpdate::ClockSet));
    }

    fn count(&mut self, now: MonoTime, out: &mut Vec<StorageUpdate>) {
        let mut counts = self.ring.counts;
        counts.written += self.journal.written_bytes;
        counts.syncs += self.journal.flushes;
        counts.used = self.ring.used_bytes();
        counts.pinned = self.ring.pinned_bytes();
        counts.oldest = self.ring.index().oldest().map(|stamp| stamp.wall);
        counts.available = self.card.available();
        counts.slowest_sync = self.card.take_slowest_sync();
        counts.lifetime = self.ring.lifetime() + self.journal.lifetime();
        counts.in_memory = self.ring.is_in_memory() || self.card.holds(FileId::Journal);
        let (lifetime, written, since) = (counts.lifetime, counts.written, self.started);
        let wear = WriteLoad {
            lifetime,
            written,
            since,
            now,
            endurance: self.endurance,
            device: self.card.life_used(),
        }
        .wear();
        counts.worn = wear.percent;
        counts.days_left = wear.days_left;
        if wear.percent >= ALARM && !self.wear_reported {
            self.wear_reported = true;
            out.push(StorageUpdate::CardWorn { percent: wear.percent });
        }
        out.push(StorageUpdate::Counts(counts));
    }

    /// Writes the gathered frames as a fragment. `next` is the frame that ended the fragment.
    fn flush(&mut self, next: Option<&Arc<Frame>>, out: &mut Vec<StorageUpdate>) {
        self.keep_media_order();
        let (Some(anchor), Some(first)) = (self.anchor, self.builder.first().cloned()) else {
            return;
        };
        let bytes = self.builder.bytes() as u64;
        let tracks = self.ring.head_tracks(self.builder.tracks());
        let layout = self.ring.layout_for(&tracks);
        let next = next.filter(|next| next.run == anchor.run).map(Arc::as_ref);
        let number = self.ring.newest() as u32 + 1;
        let Some(fragment) = self.builder.finish(&anchor, next, &layout, number) else {
            return;
        };
        let written = self.record(&fragment, &tracks, out);
        match written {
            Ok(seq) => {
                self.refused_since = None;
                self.durable(seq, &fragment, out);
            }
            Err(fault) => {
                out.push(StorageUpdate::Trouble { detail: fault.to_string(), lost: true });
                self.need_key = true;
                let too_large =
                    matches!(fault, AppendFault::TooLarge { .. } | AppendFault::Head { .. });
                let reason = if too_large { GapReason::TooLarge } else { GapReason::DiskError };
                self.extend_open_gap(first.at, reason, bytes);
            }
        }
    }

    /// Appends a fragment, after the gaps that precede it.
    fn record(
        &mut self,
        fragment: &Fragment,
        tracks: &[Arc<TrackParams>],
        out: &mut Vec<StorageUpdate>,
    ) -> Result<u64, AppendFault> {
        self.ring.place_fragment(&draft_of(fragment), tracks)?;
        self.split_start_gap(fragment.start, None);
        if let Some(OpenGap { from, reason, bytes }) = self.open_gap.take() {
            self.queue_gap(Gap { from, to: fragment.start, reason, bytes });
        }
        self.queue_stall_gap(fragment.start);
        self.write_gaps(fragment.media, tracks, out);
        let written = self.ring.append(&draft_of(fragment), tracks, out);
        written.or_else(|fault| self.refused(fault, fragment, tracks, out))
    }

    /// Retries a rejected fragment in memory once the card has rejected all writes for
    /// [`CARD_TIMEOUT`].
    fn refused(
        &mut self,
        fault: AppendFault,
        fragment: &Fragment,
        tracks: &[Arc<TrackParams>],
        out: &mut Vec<StorageUpdate>,
    ) -> Result<u64, AppendFault> {
        let AppendFault::Refused(detail) = fault else {
            return Err(fault);
        };
        let now = fragment.start.mono;
        let since = *self.refused_since.get_or_insert(now);
        if self.ring.is_in_memory() || now.duration_since(since) < CARD_TIMEOUT {
            return Err(AppendFault::Refused(detail));
        }
        self.ring.switch_to_memory();
        out.push(StorageUpdate::CardLost { journal: false, detail });
        self.write_gaps(fragment.media, tracks, out);
        self.ring.append(&draft_of(fragment), tracks, out)
    }

    fn durable(&mut self, seq: u64, fragment: &Fragment, out: &mut Vec<StorageUpdate>) {
        if self.ring.counts.frames == 0 {
            // The first footage of a boot is reported at once, not with the next interval.
            self.next_counts = MonoTime::default();
        }
        self.ring.counts.frames += u64::from(fragment.frames);
        self.ring.counts.skipped += u64::from(fragment.dropped_audio);
        self.media_end = self.media_end.max(fragment.media + fragment.duration);
        self.media_last = Some(fragment.last);
        self.until = fragment.start.after(fragment.duration);
        self.recent.push_back(RecentFragment {
            seq,
            start: fragment.start.mono,
            key: fragment.key,
        });
        if self.recent.len() > RECENT_MAX {
            self.recent.pop_front();
        }
        // Footage in memory does not survive a power cut, so it is not reported as durable.
        if !self.ring.is_in_memory() {
            out.push(StorageUpdate::Durable { seq, until: self.until });
        }
        self.narrow_locks(out);
        self.answer_due(self.until, out);
    }

    fn stop(&mut self, now: Timestamp, out: &mut Vec<StorageUpdate>) {
        self.end_footage(self.stopping.unwrap_or(now), out);
        if !self.ring.is_in_memory() {
            self.journal.note_record(self.ring.newest());
        }
        if let Err(fault) = self.journal.end() {
            out.push(StorageUpdate::Trouble { detail: fault.to_string(), lost: false });
        }
        out.push(StorageUpdate::Stopped);
    }
}

/// The fragment in the form that the ring appends.
fn draft_of(fragment: &Fragment) -> NewFragment<'_> {
    let Fragment { content, start, key, media, lead, duration, payload, .. } = fragment;
    let (start, key, payload, media, lead, duration) =
        (*start, *key, *payload, *media, *lead, *duration);
    NewFragment { start, key, payload, media, lead, duration, gap: None, content }
}
