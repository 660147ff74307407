//! Store-and-forward spool: takes drafts through the journal into the outbox.
//!
//! Drafts wait in order and go to storage in batches, one batch at a time. Only what storage
//! reports as durable enters the outbox. A power cut can truncate a batch but never leave a gap in
//! it, so `seq` stays gap-free. Contents of entries belong to [`super::events`], the order of
//! delivery to [`crate::outbox`].

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use super::events;
use super::outbox_entry::{AgentState, Body, Entry, EventClass};
use crate::clip::SharedFile;
use crate::clip::virtual_file::SnapshotFile;
use crate::evidence::manifest::{Manifest, Purpose};
use crate::outbox::{EntryMeta, Priority};
use crate::storage::journal_layout::{BATCH_MAX, ENTRY_MAX};
use crate::storage::{FootageReader, PinId, StorageRequest};
use crate::units::{EntryId, MonoTime, RingId};
use crate::uplink::Message;

/// Size in bytes of an entry that no journal slot can hold; it was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge(pub usize);

/// Drafts that may wait for the card. At one event a second this covers a stall of four minutes.
/// Further events are counted as lost instead of filling memory.
pub const WAITING_MAX: usize = 256;
/// Bytes of event payloads cached in memory after they are stored, newest first: thousands of
/// events. Older payloads are read from the card when their turn comes.
const PAYLOAD_CACHE_BYTES: usize = 2 << 20;
/// Pause before a rejected draft is offered to storage again. A full or failing card does not
/// recover faster.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// An entry to be stored and delivered.
pub struct Draft {
    /// The agent's state right after this entry.
    pub after: AgentState,
    /// The event or file.
    pub body: Body,
    /// JPEG bytes of a snapshot, for its snapshot slot; `None` for every other entry.
    pub still: Option<Vec<u8>>,
    /// The clip's bytes as fragments in the ring, and the pin that keeps them; `None` for every
    /// other entry.
    pub footage: Option<(SharedFile, PinId)>,
}

impl Draft {
    /// The bytes for the journal.
    fn entry(&self) -> Vec<u8> {
        Entry { after: self.after.clone(), body: self.body.clone() }.encode()
    }
}

/// The metadata of a stored entry that delivery needs.
pub enum EntryKind {
    /// An event.
    Event {
        /// Its sequence number.
        seq: u64,
        /// Size of its payload.
        bytes: u32,
        /// Whether it is about the outbox itself.
        note: Note,
    },
    /// A file.
    File(Box<Manifest>),
}

/// Marks events about the outbox itself: delivery treats them differently when they are rejected or
/// shed.
pub enum Note {
    /// Any other event.
    None,
    /// It reports a rejected entry.
    Rejection,
    /// It reports shed entries. Holds its payload, so that the losses can be reported again.
    Shed(Box<str>),
}

/// What an event message needs from the entry.
struct Payload {
    id: String,
    json: String,
}

impl Payload {
    fn bytes(&self) -> usize {
        self.id.len() + self.json.len()
    }

    fn message(&self) -> Message {
        event_message(self.id.clone(), self.json.clone())
    }
}

/// Payloads of the newest events, at most [`PAYLOAD_CACHE_BYTES`].
#[derive(Default)]
struct PayloadCache {
    payloads: BTreeMap<EntryId, Payload>,
    bytes: usize,
}

impl PayloadCache {
    /// Adds a payload and evicts the oldest beyond the bound.
    fn insert(&mut self, entry_id: EntryId, payload: Payload) {
        self.bytes += payload.bytes();
        self.payloads.insert(entry_id, payload);
        while self.bytes > PAYLOAD_CACHE_BYTES
            && let Some((_, evicted)) = self.payloads.pop_first()
        {
            self.bytes -= evicted.bytes();
        }
    }

    fn remove(&mut self, entry_id: EntryId) {
        if let Some(payload) = self.payloads.remove(&entry_id) {
            self.bytes -= payload.bytes();
        }
    }
}

impl EntryKind {
    /// The metadata of an entry, and the payload where it is an event.
    fn from_body(body: Body) -> (EntryKind, Option<Payload>) {
        let (id, seq, class, payload) = match body {
            Body::Event { id, seq, class, payload } => (id, seq, class, payload),
            Body::File(manifest) => return (EntryKind::File(manifest), None),
        };
        let note = match class {
            EventClass::Shed => Note::Shed(payload.as_str().into()),
            EventClass::Rejection => Note::Rejection,
            EventClass::Other | EventClass::Update | EventClass::Access => Note::None,
        };
        (
            EntryKind::Event { seq, bytes: payload.len() as u32, note },
            Some(Payload { id, json: payload }),
        )
    }
}

/// The sendable form of an outbox entry.
pub enum Sendable {
    /// The complete message.
    Message(Message),
    /// An event whose payload must be read from the journal first.
    OnCard,
    /// Unknown, or a file whose footage has not been located again since boot.
    Nowhere,
}

/// A stored entry that the office has not receipted yet.
pub struct SpooledEntry {
    /// Its metadata.
    pub what: EntryKind,
    /// Its priority class in the outbox.
    pub kind: Priority,
    /// Source of a file's bytes; `None` for events and for footage not located since boot.
    pub file: Option<SharedFile>,
    /// Pin of a clip's footage, released with the entry; `None` for every other entry.
    pub pin: Option<PinId>,
}

/// The spool.
pub struct Spool {
    next_entry_id: u64,
    next_seq: u64,
    /// First entry whose number counts in the present ring.
    ring_start: EntryId,
    waiting: VecDeque<Draft>,
    /// Drafts that storage is writing, in the order of their entry ids.
    writing: VecDeque<(EntryId, Draft)>,
    retry_at: Option<MonoTime>,
    held: BTreeMap<EntryId, SpooledEntry>,
    payload_cache: PayloadCache,
    /// Reads snapshots when they are sent.
    reader: Arc<dyn FootageReader>,
}

impl Spool {
    /// An empty spool.
    pub fn new(reader: Arc<dyn FootageReader>) -> Spool {
        Spool {
            next_entry_id: 1,
            next_seq: 1,
            ring_start: EntryId(0),
            waiting: VecDeque::new(),
            writing: VecDeque::new(),
            retry_at: None,
            held: BTreeMap::new(),
            payload_cache: PayloadCache::default(),
            reader,
        }
    }

    /// Continues after the newest entry id and sequence number ever stored. `is_new_ring`: the stored
    /// entries count in another ring than later ones.
    pub fn resume(&mut self, newest: EntryId, next_seq: u64, is_new_ring: bool) {
        if is_new_ring {
            self.ring_start = EntryId(newest.0 + 1);
        }
        self.next_entry_id = newest.0 + 1;
        self.next_seq = next_seq.max(1);
    }

    /// Counts in another ring from 1, and gives its numbers to all events that are not durable yet.
    /// Stored entries keep their numbers, which count in the ring before.
    pub fn change_ring(&mut self, ring: RingId) {
        self.return_batch();
        self.ring_start = EntryId(self.next_entry_id);
        self.next_seq = 1;
        for draft in &mut self.waiting {
            if let Body::Event { seq, payload, .. } = &mut draft.body {
                *seq = self.next_seq;
                *payload = events::renumbered(payload, *seq, ring);
                self.next_seq += 1;
            }
            draft.after.ring = ring;
            draft.after.next_seq = self.next_seq;
        }
    }

    /// Puts the batch that storage is writing back in front, in its order.
    fn return_batch(&mut self) {
        while let Some((_, draft)) = self.writing.pop_back() {
            self.waiting.push_front(draft);
        }
    }

    /// True for an entry whose number counts in the present ring.
    pub fn is_of_this_ring(&self, entry_id: EntryId) -> bool {
        entry_id >= self.ring_start
    }

    /// The sequence number of the next event; does not assign it.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// True when [`Spool::put`] may be called.
    pub fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_MAX
    }

    /// True when no draft waits: storage keeps up.
    pub fn is_clear(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Appends a draft. The caller has checked [`Spool::has_room`].
    ///
    /// # Errors
    /// When it does not fit a journal slot: storage would reject it forever, and every later draft
    /// would wait behind it.
    pub fn put(&mut self, draft: Draft) -> Result<(), TooLarge> {
        let bytes = draft.entry().len();
        if bytes > ENTRY_MAX {
            return Err(TooLarge(bytes));
        }
        if matches!(draft.body, Body::Event { .. }) {
            self.next_seq += 1;
        }
        self.waiting.push_back(draft);
        Ok(())
    }

    /// The next request to storage, when none is in flight and the pause after a rejection is over.
    pub fn next_request(&mut self, now: MonoTime) -> Option<StorageRequest> {
        if !self.writing.is_empty() || self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        // After a rejection one draft at a time: the journal may have room for one but not for a
        // batch.
        let batch_max = if self.retry_at.take().is_some() { 1 } else { BATCH_MAX };
        while self.writing.len() < batch_max
            && self
                .waiting
                .front()
                .is_some_and(|draft| self.writing.is_empty() || draft.still.is_none())
            && let Some(draft) = self.waiting.pop_front()
        {
            let alone = draft.still.is_some();
            self.writing.push_back((EntryId(self.next_entry_id), draft));
            self.next_entry_id += 1;
            if alone {
                break;
            }
        }
        let entries: Vec<(EntryId, Vec<u8>)> =
            self.writing.iter().map(|(entry_id, draft)| (*entry_id, draft.entry())).collect();
        match entries.len() {
            0 | 1 => {
                let (entry_id, entry) = entries.into_iter().next()?;
                let still = self.writing.front().and_then(|(_, draft)| draft.still.clone());
                Some(StorageRequest::Enqueue { entry_id, entry, snapshot: still })
            }
            _ => Some(StorageRequest::EnqueueAll { entries }),
        }
    }

    /// Storage has made the entry durable: keeps it until its receipt. Returns what the outbox
    /// needs.
    pub fn entry_stored(&mut self, entry_id: EntryId) -> Option<(EntryId, EntryMeta)> {
        let (writing, draft) = if self.writing.front()?.0 == entry_id {
            self.writing.pop_front()?
        } else {
            return None;
        };
        let (file, pin) = draft.footage.map_or((None, None), |(file, pin)| (Some(file), Some(pin)));
        let file = file.or_else(|| self.snapshot_file(writing, &draft.body));
        let kind = draft.body.priority();
        let (what, payload) = EntryKind::from_body(draft.body);
        let held = SpooledEntry { file, what, kind, pin };
        let meta = held.meta();
        self.held.insert(writing, held);
        if let Some(payload) = payload {
            self.payload_cache.insert(writing, payload);
        }
        Some((writing, meta))
    }

    /// The file of a snapshot entry.
    fn snapshot_file(&self, entry_id: EntryId, body: &Body) -> Option<SharedFile> {
        match body {
            Body::File(manifest) if manifest.purpose == Purpose::Snapshot => {
                Some(Arc::new(SnapshotFile::new(entry_id, manifest.size, self.reader.clone())))
            }
            _ => None,
        }
    }

    /// Storage rejected the entry: puts the whole batch back in front and retries after a pause.
    /// Returns true only for the first rejection of a batch, because storage rejects each of its
    /// entries.
    pub fn store_failed(&mut self, entry_id: EntryId, now: MonoTime) -> bool {
        let is_first = self.writing.iter().any(|(writing, _)| *writing == entry_id);
        if is_first {
            self.return_batch();
            self.retry_at = Some(now.plus_micros(RETRY_DELAY.as_micros() as u64));
        }
        is_first
    }

    /// Adds an entry that recovery found.
    pub fn restore(&mut self, entry_id: EntryId, body: Body) {
        let (file, kind) = (self.snapshot_file(entry_id, &body), body.priority());
        let (what, payload) = EntryKind::from_body(body);
        self.held.insert(entry_id, SpooledEntry { what, kind, file, pin: None });
        if let Some(payload) = payload {
            self.payload_cache.insert(entry_id, payload);
        }
    }

    /// The sendable form of an entry.
    pub fn next_message(&self, entry_id: EntryId) -> Sendable {
        let Some(SpooledEntry { what, file, .. }) = self.held.get(&entry_id) else {
            return Sendable::Nowhere;
        };
        match (what, self.payload_cache.payloads.get(&entry_id), file) {
            (EntryKind::Event { .. }, Some(payload), _) => Sendable::Message(payload.message()),
            (EntryKind::Event { .. }, None, _) => Sendable::OnCard,
            (EntryKind::File(manifest), _, Some(source)) => Sendable::Message(Message::File {
                manifest: manifest.clone(),
                source: source.clone(),
            }),
            (EntryKind::File(_), _, None) => Sendable::Nowhere,
        }
    }

    /// The entry with this id.
    pub fn entry_mut(&mut self, entry_id: EntryId) -> Option<&mut SpooledEntry> {
        self.held.get_mut(&entry_id)
    }

    /// The id of the entry whose footage `pin` keeps.
    pub fn pinned_by(&self, pin: PinId) -> Option<EntryId> {
        self.held.iter().find(|(_, held)| held.pin == Some(pin)).map(|(entry_id, _)| *entry_id)
    }

    /// Removes an entry.
    pub fn release(&mut self, entry_id: EntryId) -> Option<SpooledEntry> {
        self.payload_cache.remove(entry_id);
        self.held.remove(&entry_id)
    }

    /// All stored entries that are not released, in order.
    pub fn stored(&self) -> impl Iterator<Item = (EntryId, &SpooledEntry)> {
        self.held.iter().map(|(entry_id, held)| (*entry_id, held))
    }

    /// The stored entries after the id `after`, in order.
    pub fn stored_after(&self, after: EntryId) -> impl Iterator<Item = (EntryId, &SpooledEntry)> {
        self.held
            .range((Bound::Excluded(after), Bound::Unbounded))
            .map(|(entry_id, held)| (*entry_id, held))
    }

    /// Sequence numbers and ids of stored events of the present ring that are not released.
    pub fn stored_numbers(&self) -> impl Iterator<Item = (u64, EntryId)> {
        self.held.range(self.ring_start..).filter_map(|(entry_id, held)| match held.what {
            EntryKind::Event { seq, .. } => Some((seq, *entry_id)),
            EntryKind::File(_) => None,
        })
    }

    /// Sequence numbers of events that are not durable yet.
    pub fn unstored_numbers(&self) -> impl Iterator<Item = u64> {
        let bodies = self
            .writing
            .iter()
            .map(|(_, draft)| &draft.body)
            .chain(self.waiting.iter().map(|draft| &draft.body));
        bodies.filter_map(|body| match body {
            Body::Event { seq, .. } => Some(*seq),
            Body::File(_) => None,
        })
    }

    /// Highest sequence number up to which the office has confirmed every event.
    pub fn confirmed(&self) -> u64 {
        let stored = self.stored_numbers().map(|(seq, _)| seq);
        stored.chain(self.unstored_numbers()).min().unwrap_or(self.next_seq) - 1
    }

    /// True when every draft is durable.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.writing.is_empty()
    }

    /// End of the pause after a rejection; `None` when there is none.
    pub fn deadline(&self) -> Option<MonoTime> {
        self.retry_at
    }
}

impl SpooledEntry {
    /// The metadata for the outbox.
    pub fn meta(&self) -> EntryMeta {
        let bytes = match &self.what {
            EntryKind::Event { bytes, .. } => u64::from(*bytes),
            EntryKind::File(manifest) => manifest.size,
        };
        EntryMeta { kind: self.kind, bytes }
    }
}

/// The message of an event.
pub fn event_message(id: String, payload: String) -> Message {
    Message::Event { id, payload: payload.into_bytes() }
}
