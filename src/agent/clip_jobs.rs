//! Clip jobs: pending → located and pinned → hashed → drafted. From then on the spool holds the
//! clip.
//!
//! What belongs here: the states of a job, and what happens when footage is lost. What does not:
//! reading footage ([`crate::clip`]).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde_json::json;

use super::events::{self, kind};
use super::outbox_entry::{Body, ClipRange, OWED_MAX, PendingClip};
use super::spool::{Draft, EntryKind, SpooledEntry};
use super::{Agent, AgentEffect};
use crate::clip::hasher::{HashRequest, Hashed};
use crate::clip::virtual_file::VirtualClip;
use crate::clip::{FileSource, SharedFile, footage_absence};
use crate::evidence::manifest::{self, Manifest, Purpose};
use crate::storage::{PinClass, PinId, Span, SpanQuery, StorageRequest};
use crate::units::{EntryId, Timestamp};

/// Recovered clips located at once: each is a request, and the queue to storage is bounded.
const LOOKED_FOR_MAX: usize = 16;
/// Number of times a clip that failed to read, and then read without a fault, is sent again: an
/// unreliable card must not cause endless resends.
const MENDED_MAX: u32 = 3;

/// A clip job.
struct ClipJob {
    pin: PinId,
    owed: PendingClip,
    /// The stored entry that this clip replaces, because its footage was damaged after hashing.
    instead_of: Option<EntryId>,
    step: ClipStep,
}

/// What the job waits for.
enum ClipStep {
    /// The answer of storage.
    Located,
    /// The answer of the hasher. After it, the rest of a range that does not fit one file becomes a
    /// job.
    Hashed {
        manifest: Box<Manifest>,
        file: SharedFile,
        span: Box<Span>,
        rest: Option<Box<PendingClip>>,
    },
}

/// All clip jobs.
#[derive(Default)]
pub struct ClipJobs {
    making: Vec<ClipJob>,
    pins: u64,
    /// Finished entries, to be released.
    pub(super) done_entries: Vec<EntryId>,
    /// Pins of finished entries, to be released.
    pub(super) done_pins: Vec<PinId>,
    /// Recovered clips whose footage must be located and pinned again.
    pub(super) awaiting_footage: VecDeque<EntryId>,
    /// Recovered clips that storage is locating.
    locating: BTreeSet<EntryId>,
    /// Stored clips that failed to read. They wait to be rebuilt without the damaged records.
    spoiled: VecDeque<EntryId>,
    /// How often each of them read without a fault later.
    mended: BTreeMap<EntryId, u32>,
    /// File ids of rebuilt clips that are not durable yet, and the entries that they replace.
    replaced: BTreeMap<String, EntryId>,
}

impl ClipJobs {
    /// The pending clips that the state in an entry must carry.
    pub fn pending_clips(&self) -> Vec<PendingClip> {
        // The replaced entry itself carries the job of a rebuilt clip.
        self.making
            .iter()
            .filter(|job| job.instead_of.is_none())
            .map(|job| job.owed.clone())
            .collect()
    }

    /// True when another job may start.
    pub fn has_room(&self) -> bool {
        self.making.len() < OWED_MAX
    }

    /// Number of jobs for requested clips.
    pub fn requested(&self) -> usize {
        self.making.iter().filter(|job| job.owed.purpose == Purpose::Requested).count()
    }

    /// A pin id that is unused since boot.
    pub fn new_pin(&mut self) -> PinId {
        self.pins += 1;
        PinId(self.pins)
    }

    fn take(&mut self, pin: PinId) -> Option<ClipJob> {
        let index = self.making.iter().position(|job| job.pin == pin)?;
        Some(self.making.remove(index))
    }
}

/// The pin class for a purpose.
pub fn pin_class(purpose: Purpose) -> PinClass {
    match purpose {
        Purpose::Clip | Purpose::Snapshot => PinClass::Event,
        Purpose::Requested => PinClass::Requested,
    }
}

/// The part behind `span`: what lies before its own footage is missing from it.
fn clip_behind(clip: &PendingClip, span: &Span) -> PendingClip {
    let last = span.fragments.last();
    let range = match (clip.range, last) {
        (ClipRange::Mono(boot, from, to), Some(last)) if last.boot == boot => {
            ClipRange::Mono(boot, from.max(last.end().mono), to)
        }
        (range, _) => range,
    };
    let after = last.map_or(u64::MAX, |last| last.seq);
    PendingClip { part: clip.part + 1, range, after, ..clip.clone() }
}

/// Asks storage for exactly the records of a stored clip, under that pin.
fn locate_records(manifest: &Manifest, pin: PinId) -> AgentEffect {
    let ((first, last), class) = (manifest.records, pin_class(manifest.purpose));
    AgentEffect::Storage(StorageRequest::Locate {
        pin,
        class,
        query: SpanQuery::Seq { first, last },
    })
}

impl Agent {
    /// Starts a job: requests the footage of a pending clip from storage.
    pub(super) fn start_job(
        &mut self,
        owed: PendingClip,
        pin: Option<PinId>,
        out: &mut Vec<AgentEffect>,
    ) {
        let pin = pin.unwrap_or_else(|| self.jobs.new_pin());
        let query = match owed.range {
            ClipRange::Mono(boot, from, to) => {
                SpanQuery::Mono { boot, from, to, after: owed.after }
            }
            ClipRange::Wall(from, to) => SpanQuery::Wall { from, to, after: owed.after },
        };
        let class = pin_class(owed.purpose);
        out.push(AgentEffect::Storage(StorageRequest::Locate { pin, class, query }));
        self.jobs.making.push(ClipJob { pin, owed, instead_of: None, step: ClipStep::Located });
    }

    /// Handles the footage that storage located, for a new clip or a recovered one.
    pub(super) fn located(
        &mut self,
        now: Timestamp,
        pin: PinId,
        span: Option<Span>,
        out: &mut Vec<AgentEffect>,
    ) {
        if let Some(entry_id) = self.spool.pinned_by(pin) {
            return self.found_again(now, entry_id, span.as_ref());
        }
        let Some(job) = self.jobs.take(pin) else {
            return;
        };
        match span {
            Some(span) if !span.fragments.is_empty() => self.hash(job, span, out),
            span => self.no_footage(
                now,
                &job,
                &footage_absence::explain(&span.map(|span| span.gaps).unwrap_or_default()),
                out,
            ),
        }
    }

    /// Assembles the clip and sends it to the hasher. Footage that cannot be in the same file
    /// becomes another part.
    fn hash(&mut self, job: ClipJob, span: Span, out: &mut Vec<AgentEffect>) {
        let mut draft =
            manifest::of_span(&self.site, job.owed.purpose, &job.owed.event, job.owed.part, &span);
        // A rebuilt part keeps its `last` flag, and what the first one lacked at its edges.
        if let Some(SpooledEntry { what: EntryKind::File(before), .. }) =
            job.instead_of.and_then(|entry_id| self.spool.entry_mut(entry_id))
        {
            manifest::keep_edges(&mut draft, before);
        }
        let file: SharedFile =
            Arc::new(VirtualClip::assemble(&span, &manifest::about(&draft), self.reader.clone()));
        draft.size = file.len();
        out.push(AgentEffect::Hash(HashRequest {
            job: job.pin.0,
            event: draft.event.clone(),
            file: file.clone(),
        }));
        let rest = (span.more && job.instead_of.is_none())
            .then(|| Box::new(clip_behind(&job.owed, &span)));
        let step = ClipStep::Hashed { manifest: Box::new(draft), file, span: Box::new(span), rest };
        self.jobs.making.push(ClipJob { step, ..job });
    }

    /// Handles the hash of a clip: the clip becomes an entry and is no longer pending. The rest of
    /// its range becomes a pending clip in the same entry, so that there is always room for it.
    pub(super) fn hashed(&mut self, now: Timestamp, hashed: Hashed, out: &mut Vec<AgentEffect>) {
        let pin = PinId(hashed.job);
        let Some(ClipJob {
            owed,
            instead_of,
            step: ClipStep::Hashed { manifest, file, span, rest },
            ..
        }) = self.jobs.take(pin)
        else {
            return;
        };
        // Only damaged records are left out, and named as gaps. Every round has fewer records than
        // the previous one.
        let whole = span.fragments.len();
        let rest_of = |span: Span| {
            span.without(&hashed.unreadable).filter(|left| left.fragments.len() < whole)
        };
        if !hashed.unreadable.is_empty()
            && let Some(left) = rest_of(span.as_ref().clone())
        {
            tracing::warn!(event = owed.event, records = ?hashed.unreadable, "a clip has records that cannot be read: made without");
            return self.hash(
                ClipJob { pin, owed, instead_of, step: ClipStep::Located },
                left,
                out,
            );
        }
        if let Some(rest) = rest {
            self.start_job(*rest, None, out);
        }
        let job = ClipJob { pin, owed, instead_of, step: ClipStep::Located };
        match hashed.outcome {
            Ok(digest) => {
                self.made(now, &job, Box::new(Manifest { sha256: digest, ..*manifest }), file, out)
            }
            // No record is left, or the card reports an error without naming a record.
            Err(_) if !hashed.unreadable.is_empty() => {
                self.no_footage(
                    now,
                    &job,
                    &footage_absence::explain(&span.lost(&hashed.unreadable)),
                    out,
                );
            }
            Err(reason) => self.no_footage(now, &job, &reason, out),
        }
    }

    /// Drafts the entry of a hashed clip. The entry that it replaces is released once the new one
    /// is durable.
    fn made(
        &mut self,
        now: Timestamp,
        job: &ClipJob,
        manifest: Box<Manifest>,
        file: SharedFile,
        out: &mut Vec<AgentEffect>,
    ) {
        if let Some(entry_id) = job.instead_of {
            let Some(SpooledEntry { what: EntryKind::File(before), .. }) =
                self.spool.entry_mut(entry_id)
            else {
                // The file was cancelled meanwhile.
                return out.push(AgentEffect::Storage(StorageRequest::Unpin { pin: job.pin }));
            };
            if *before == manifest {
                out.push(AgentEffect::Storage(StorageRequest::Unpin { pin: job.pin }));
                return self.mended(now, entry_id);
            }
            self.jobs.replaced.insert(manifest.fid(), entry_id);
        }
        self.gauges.clips += 1;
        let (fid, after) = (manifest.fid(), self.after(self.spool.next_seq()));
        let draft = Draft {
            after,
            body: Body::File(manifest),
            still: None,
            footage: Some((file, job.pin)),
        };
        if self.spool.put(draft).is_err() {
            self.jobs.replaced.remove(&fid);
            self.no_footage(now, job, "its manifest is larger than a journal slot", out);
        }
    }

    /// Sends a clip again that failed to read and now reads unchanged, a limited number of times.
    fn mended(&mut self, now: Timestamp, entry_id: EntryId) {
        let times = self.jobs.mended.entry(entry_id).or_default();
        *times += 1;
        if *times > MENDED_MAX {
            return self.file_lost(
                now,
                entry_id,
                "the card cannot read it again and again, and then it can: look at the card",
            );
        }
        if let Some(meta) = self.spool.entry_mut(entry_id).map(|held| held.meta()) {
            self.outbox.push(now.mono, entry_id, meta);
        }
    }

    /// Schedules the rebuild of a clip that failed to read, without its damaged records. The stored
    /// entry stays until the rebuilt clip is durable. A snapshot is a single record, so it is lost.
    pub(super) fn spoiled(&mut self, now: Timestamp, entry_id: EntryId, reason: &str) {
        match self.spool.entry_mut(entry_id).map(|held| &held.what) {
            Some(EntryKind::File(manifest)) if manifest.purpose != Purpose::Snapshot => {
                tracing::warn!(
                    file = manifest.name,
                    reason,
                    "a stored clip cannot be read: made again without what is damaged"
                );
                self.jobs.spoiled.push_back(entry_id);
            }
            _ => self.file_lost(now, entry_id, reason),
        }
    }

    /// Starts the rebuild of damaged clips while there is room for jobs.
    pub(super) fn make_again(&mut self, out: &mut Vec<AgentEffect>) {
        while self.jobs.has_room()
            && let Some(entry_id) = self.jobs.spoiled.pop_front()
        {
            let pin = self.jobs.new_pin();
            let Some(SpooledEntry { what: EntryKind::File(manifest), .. }) =
                self.spool.entry_mut(entry_id)
            else {
                continue;
            };
            out.push(locate_records(manifest, pin));
            // Its range is never used: the records are known.
            let range = ClipRange::Mono(Default::default(), Default::default(), Default::default());
            let (event, purpose, part) = (manifest.event.clone(), manifest.purpose, manifest.part);
            let owed = PendingClip { event, purpose, part, range, after: 0 };
            self.jobs.making.push(ClipJob {
                pin,
                owed,
                instead_of: Some(entry_id),
                step: ClipStep::Located,
            });
        }
    }

    /// An entry is on the card: what it takes the place of is released.
    pub(super) fn release_replaced(&mut self, entry_id: EntryId) {
        if self.jobs.replaced.is_empty() {
            return;
        }
        if let Some(SpooledEntry { what: EntryKind::File(manifest), .. }) =
            self.spool.entry_mut(entry_id)
            && let Some(before) = self.jobs.replaced.remove(&manifest.fid())
        {
            self.jobs.mended.remove(&before);
            self.release_entry(before);
        }
    }

    /// Reports a clip without footage, and answers its command.
    fn no_footage(
        &mut self,
        now: Timestamp,
        job: &ClipJob,
        reason: &str,
        out: &mut Vec<AgentEffect>,
    ) {
        out.push(AgentEffect::Storage(StorageRequest::Unpin { pin: job.pin }));
        if let Some(entry_id) = job.instead_of {
            return self.file_lost(now, entry_id, reason);
        }
        if job.owed.purpose == Purpose::Requested {
            self.answer_error(&job.owed, reason, out);
        }
        let recorded = footage_absence::was_recorded(reason);
        let data = json!({
            "event": job.owed.event, "part": job.owed.part, "reason": events::text(reason), "recorded": recorded
        });
        self.event(now, kind::FILE_LOST, None, data);
    }

    /// Locates the footage of recovered clips, a few at a time: a backlog may have thousands.
    pub(super) fn relocate_footage(&mut self, out: &mut Vec<AgentEffect>) {
        while self.jobs.locating.len() < LOOKED_FOR_MAX
            && let Some(entry_id) = self.jobs.awaiting_footage.pop_front()
        {
            let Some(SpooledEntry { what: EntryKind::File(manifest), pin, .. }) =
                self.spool.entry_mut(entry_id)
            else {
                continue;
            };
            out.push(locate_records(manifest, *pin.insert(self.jobs.new_pin())));
            self.jobs.locating.insert(entry_id);
        }
    }

    /// Handles the located footage of a recovered entry, which is sent only if the card still has
    /// the same bytes.
    fn found_again(&mut self, now: Timestamp, entry_id: EntryId, span: Option<&Span>) {
        let reader = self.reader.clone();
        self.jobs.locating.remove(&entry_id);
        let Some(held) = self.spool.entry_mut(entry_id) else {
            return;
        };
        let EntryKind::File(manifest) = &held.what else {
            return;
        };
        // The records that were missing before are left out again, so that the file is the same.
        let exact = manifest.missing.len() < manifest::MISSING_MAX;
        let left_out = if exact { manifest.missing.as_slice() } else { &[] };
        let clip = span.map(|span| {
            VirtualClip::assemble(
                &span.clone().as_before(left_out),
                &manifest::about(manifest),
                reader,
            )
        });
        match clip.filter(|clip| clip.len() == manifest.size) {
            Some(clip) => {
                held.file = Some(Arc::new(clip));
                let meta = held.meta();
                self.outbox.push(now.mono, entry_id, meta);
            }
            // Some records are lost or cannot be read: the clip is rebuilt from the others.
            None if span.is_some_and(|span| !span.fragments.is_empty()) => {
                self.spoiled(now, entry_id, "not all of it is in the ring any more");
            }
            None => self.file_lost(
                now,
                entry_id,
                &footage_absence::explain(span.map_or(&[], |span| &span.gaps)),
            ),
        }
    }

    /// Releases and reports an entry whose bytes are lost.
    pub(super) fn file_lost(&mut self, now: Timestamp, entry_id: EntryId, reason: &str) {
        self.jobs.mended.remove(&entry_id);
        if let Some(EntryKind::File(manifest)) = self.release_entry(entry_id) {
            tracing::error!(file = manifest.name, %reason, "a file owed to the office is gone");
            let data = json!({"event": manifest.event, "file": manifest.name, "reason": events::text(reason)});
            self.event(now, kind::FILE_LOST, None, data);
        }
    }
}
