//! The desk: what is pending to the office on its way through the journal. Drafts wait in order and go to storage in batches, one
//! batch at a time; only what storage calls durable enters the outbox. Of a batch a power cut leaves the first so many, which keeps
//! `seq` gap-free: it can lose the newest drafts, never one before a stored one.
//!
//! What belongs here: drafts, entry ids, what each entry id stands for. What does not: order of delivery (the outbox), contents.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use super::outbox_entry::{AgentState, Body, Entry, EventClass};
use crate::clip::SharedFile;
use crate::clip::virtual_file::SnapshotFile;
use crate::evidence::manifest::{Manifest, Purpose};
use crate::outbox::{EntryMeta, Priority};
use crate::storage::journal::{BATCH_MAX, ENTRY_MAX};
use crate::storage::{FootageReader, PinId, StorageRequest};
use crate::units::{EntryId, MonoTime};
use crate::uplink::Message;

/// An entry of so many bytes has no slot in the journal: nothing was put down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge(pub usize);

/// Drafts that may wait for the card at once. At one event a second and a card that stands still for a minute this is four
/// times what is needed; beyond it events are counted as unrecorded instead of filling memory.
pub const WAITING_MAX: usize = 256;
/// Bytes of events' payloads kept in memory after they are stored, newest first: thousands of events. What lies further back in the
/// backlog is read from the card when its turn comes.
const PAYLOAD_CACHE_MAX: usize = 2 << 20;
/// Microseconds until a refused draft is offered to storage again: a full or failing card does not heal in less.
const RETRY_AFTER: u64 = 5_000_000;

/// Something to be stored and delivered.
pub struct Draft {
    /// The agent's state after it.
    pub after: AgentState,
    /// What it is.
    pub body: Body,
    /// The snapshot's bytes, for the still slot.
    pub still: Option<Vec<u8>>,
    /// The clip's bytes where they lie, and the pin that keeps them there.
    pub footage: Option<(SharedFile, PinId)>,
}

impl Draft {
    /// The bytes for the journal.
    fn entry(&self) -> Vec<u8> {
        Entry { after: self.after.clone(), body: self.body.clone() }.encode()
    }
}

/// What a stored entry is, as far as that must be known before it is sent.
pub enum EntryKind {
    /// An event.
    Event {
        /// Its number.
        seq: u64,
        /// Of its payload.
        bytes: u32,
        /// What it tells of the outbox.
        note: Note,
    },
    /// A file.
    File(Box<Manifest>),
}

/// Events about the outbox itself, which are not treated like others when they are refused or dropped.
pub enum Note {
    /// It tells of something else.
    None,
    /// Something was refused.
    Rejection,
    /// Something was dropped: its payload.
    Shed(Box<str>),
}

/// An event without its number: id and payload.
type Payload = (String, String);

impl EntryKind {
    /// Of an entry, and its payload where it is an event.
    pub fn from_body(body: Body) -> (EntryKind, Option<Payload>) {
        let (id, seq, class, payload) = match body {
            Body::Event { id, seq, class, payload } => (id, seq, class, payload),
            Body::File(manifest) => return (EntryKind::File(manifest), None),
        };
        let note = match class {
            EventClass::Shed => Note::Shed(payload.as_str().into()),
            EventClass::Rejection => Note::Rejection,
            EventClass::Other | EventClass::Update | EventClass::Access => Note::None,
        };
        (EntryKind::Event { seq, bytes: payload.len() as u32, note }, Some((id, payload)))
    }
}

/// What there is to send of an entry.
pub enum Sendable {
    /// All of it.
    Message(Message),
    /// An event whose payload lies on the card.
    OnCard,
    /// A file whose bytes have not been found again after a restart.
    Nowhere,
}

/// A stored entry, until the office has it.
pub struct SpooledEntry {
    /// What it is.
    pub what: EntryKind,
    /// Which lane.
    pub kind: Priority,
    /// Its bytes, for files.
    pub file: Option<SharedFile>,
    /// The pin to released with it.
    pub pin: Option<PinId>,
}

/// The desk.
pub struct Spool {
    next_ticket: u64,
    next_seq: u64,
    waiting: VecDeque<Draft>,
    /// The entry ids at storage, and what they stand for.
    writing: VecDeque<(EntryId, Draft)>,
    retry_at: Option<MonoTime>,
    held: BTreeMap<EntryId, SpooledEntry>,
    /// Payloads of the newest events among them.
    payloads: BTreeMap<EntryId, Payload>,
    /// Their bytes.
    payload_bytes: usize,
    /// Where snapshots are read from when they are sent.
    reader: Arc<dyn FootageReader>,
}

impl Spool {
    /// A desk with nothing on it.
    pub fn new(reader: Arc<dyn FootageReader>) -> Spool {
        Spool {
            next_ticket: 1,
            next_seq: 1,
            waiting: VecDeque::new(),
            writing: VecDeque::new(),
            retry_at: None,
            held: BTreeMap::new(),
            payloads: BTreeMap::new(),
            payload_bytes: 0,
            reader,
        }
    }

    /// Goes on after the newest entry id and number ever stored.
    pub fn resume(&mut self, newest: EntryId, next_seq: u64) {
        (self.next_ticket, self.next_seq) = (newest.0 + 1, next_seq.max(1));
    }

    /// The number the next event gets; does not take it.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// True when another draft may be put down.
    pub fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_MAX
    }

    /// True when no draft waits: the card keeps up.
    pub fn is_clear(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Puts a draft down. The caller has seen that there is room.
    ///
    /// # Errors
    /// When it would not fit a slot: it would be refused again and again, and everything behind it would wait.
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

    /// The next order to storage, when none is out and the pause after a refusal is over.
    pub fn next_request(&mut self, now: MonoTime) -> Option<StorageRequest> {
        if !self.writing.is_empty() || self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        // After a refusal one at a time: where there is room for one there need not be for many.
        let most = if self.retry_at.take().is_some() { 1 } else { BATCH_MAX };
        while self.writing.len() < most
            && self.waiting.front().is_some_and(|draft| self.writing.is_empty() || draft.still.is_none())
            && let Some(draft) = self.waiting.pop_front()
        {
            let alone = draft.still.is_some();
            self.writing.push_back((EntryId(self.next_ticket), draft));
            self.next_ticket += 1;
            if alone {
                break;
            }
        }
        let entries: Vec<(EntryId, Vec<u8>)> = self.writing.iter().map(|(entry_id, draft)| (*entry_id, draft.entry())).collect();
        match entries.len() {
            0 | 1 => {
                let (entry_id, entry) = entries.into_iter().next()?;
                let still = self.writing.front().and_then(|(_, draft)| draft.still.clone());
                Some(StorageRequest::Enqueue { entry_id, entry, snapshot: still })
            }
            _ => Some(StorageRequest::EnqueueAll { entries }),
        }
    }

    /// Storage has the entry: it is held until receipted. Gives what the outbox must know.
    pub fn entry_stored(&mut self, entry_id: EntryId) -> Option<(EntryId, EntryMeta)> {
        let (writing, draft) = if self.writing.front()?.0 == entry_id { self.writing.pop_front()? } else { return None };
        let (file, pin) = draft.footage.map_or((None, None), |(file, pin)| (Some(file), Some(pin)));
        let file = file.or_else(|| self.snapshot_file(writing, &draft.body));
        let kind = draft.body.priority();
        let (what, payload) = EntryKind::from_body(draft.body);
        let held = SpooledEntry { file, what, kind, pin };
        let meta = held.meta();
        self.held.insert(writing, held);
        self.cache_payload(writing, payload);
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

    /// Storage could not take the entry: it and those behind it go back to the front and are tried again after a pause. True when it
    /// is updates: of a batch each entry is refused.
    pub fn store_failed(&mut self, entry_id: EntryId, now: MonoTime) -> bool {
        let is_news = self.writing.iter().any(|(writing, _)| *writing == entry_id);
        if is_news {
            while let Some((_, draft)) = self.writing.pop_back() {
                self.waiting.push_front(draft);
            }
            self.retry_at = Some(now.plus_micros(RETRY_AFTER));
        }
        is_news
    }

    /// Takes up an entry found at start.
    pub fn restore(&mut self, entry_id: EntryId, body: Body) {
        let (file, kind) = (self.snapshot_file(entry_id, &body), body.priority());
        let (what, payload) = EntryKind::from_body(body);
        self.held.insert(entry_id, SpooledEntry { what, kind, file, pin: None });
        self.cache_payload(entry_id, payload);
    }

    /// Keeps an event's payload, and drops the oldest that are too many.
    fn cache_payload(&mut self, entry_id: EntryId, payload: Option<Payload>) {
        if let Some((id, payload)) = payload {
            self.payload_bytes += id.len() + payload.len();
            self.payloads.insert(entry_id, (id, payload));
        }
        while self.payload_bytes > PAYLOAD_CACHE_MAX
            && let Some((_, (id, payload))) = self.payloads.pop_first()
        {
            self.payload_bytes -= id.len() + payload.len();
        }
    }

    /// What there is to send of an entry.
    pub fn next_message(&self, entry_id: EntryId) -> Sendable {
        let Some(SpooledEntry { what, file, .. }) = self.held.get(&entry_id) else {
            return Sendable::Nowhere;
        };
        match (what, self.payloads.get(&entry_id), file) {
            (EntryKind::Event { .. }, Some((id, payload)), _) => Sendable::Message(event_message(id.clone(), payload.clone())),
            (EntryKind::Event { .. }, None, _) => Sendable::OnCard,
            (EntryKind::File(manifest), _, Some(source)) => {
                Sendable::Message(Message::File { manifest: manifest.clone(), source: source.clone() })
            }
            (EntryKind::File(_), _, None) => Sendable::Nowhere,
        }
    }

    /// What a entry id stands for.
    pub fn entry_mut(&mut self, entry_id: EntryId) -> Option<&mut SpooledEntry> {
        self.held.get_mut(&entry_id)
    }

    /// The entry id whose footage `pin` keeps.
    pub fn pinned_by(&self, pin: PinId) -> Option<EntryId> {
        self.held.iter().find(|(_, held)| held.pin == Some(pin)).map(|(entry_id, _)| *entry_id)
    }

    /// Lets an entry go.
    pub fn release(&mut self, entry_id: EntryId) -> Option<SpooledEntry> {
        if let Some((id, payload)) = self.payloads.remove(&entry_id) {
            self.payload_bytes -= id.len() + payload.len();
        }
        self.held.remove(&entry_id)
    }

    /// What is stored and not released.
    pub fn stored(&self) -> impl Iterator<Item = (EntryId, &SpooledEntry)> {
        self.held.iter().map(|(entry_id, held)| (*entry_id, held))
    }

    /// The same behind a entry id, in order.
    pub fn stored_after(&self, after: EntryId) -> impl Iterator<Item = (EntryId, &SpooledEntry)> {
        self.held.range((Bound::Excluded(after), Bound::Unbounded)).map(|(entry_id, held)| (*entry_id, held))
    }

    /// Numbers of events that are stored and not released, with their entry ids.
    pub fn stored_numbers(&self) -> impl Iterator<Item = (u64, EntryId)> {
        self.held.iter().filter_map(|(entry_id, held)| match held.what {
            EntryKind::Event { seq, .. } => Some((seq, *entry_id)),
            EntryKind::File(_) => None,
        })
    }

    /// Numbers of events on their way to the card.
    pub fn unstored_numbers(&self) -> impl Iterator<Item = u64> {
        let bodies = self.writing.iter().map(|(_, draft)| &draft.body).chain(self.waiting.iter().map(|draft| &draft.body));
        bodies.filter_map(|body| match body {
            Body::Event { seq, .. } => Some(*seq),
            Body::File(_) => None,
        })
    }

    /// Highest number such that the office has confirmed it and every one before.
    pub fn confirmed(&self) -> u64 {
        let stored = self.stored_numbers().map(|(seq, _)| seq);
        stored.chain(self.unstored_numbers()).min().unwrap_or(self.next_seq) - 1
    }

    /// True when nothing waits for the card.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.writing.is_empty()
    }

    /// When [`Spool::next_request`] may have something again after a refusal.
    pub fn deadline(&self) -> Option<MonoTime> {
        self.retry_at
    }
}

impl SpooledEntry {
    /// What the outbox must know of it.
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
