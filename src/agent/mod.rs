//! The agent room: the one place that decides. [`Agent::handle`] is a plain function of its state, the time and one input; what
//! it wants done comes out as [`AgentEffect`]s, all carried out before the next input. Frames never pass through here.
//!
//! * [`outbox_entry`]: an outbox entry on the card. [`spool`]: drafts → journal → outbox. [`events`]: kinds and envelopes.
//! * [`recovery`]: what the last start left. [`loss_report`]: what was dropped, until it is reported.
//! * [`motion events`]: motion events from start to end. [`clip_jobs`]: clips in the making. [`commands`], [`maintenance_commands`]: what the office asks.
//! * [`access_trail`]: who may command, and the trail of it. [`request_backlog`]: orders a part has no room for.
//! * [`config_client`]: the configuration as the agent sees it; [`config_thread`] ⇄ keeps it, [`connection_probe`] ⇄ asks new cameras and brokers.
//! * [`uplink_updates`]: what the uplink tells. [`shutdown`]: the ordered shutdown. [`ulid`]: ids. [`runtime`] ⇄: channels, threads and the loop that feeds this.
//!
//! What belongs here: what an event is, when a clip is cut, what is pending. What does not: any I/O.

pub mod access_trail;
pub mod commands;
pub mod config_client;
pub mod spool;
pub mod outbox_entry;
pub mod events;
pub mod motion_events;
pub mod clip_jobs;
pub mod uplink_updates;
pub mod config_thread;
pub mod connection_probe;
pub mod maintenance_commands;
pub mod loss_report;
pub mod recovery;
pub mod shutdown;
pub mod ulid;
pub mod request_backlog;
#[cfg(test)]
mod tests;
pub mod runtime;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use self::access_trail::AccessTrail;
use self::clip_jobs::ClipJobs;
use self::commands::Commands;
use self::config_client::ConfigClient;
use self::config_thread::{ConfigRequest, ConfigUpdate};
use self::events::{Envelope, kind};
use self::loss_report::{LossReason, UnreportedLosses};
use self::maintenance_commands::ResendRanges;
use self::motion_events::MotionEvents;
use self::outbox_entry::{AgentState, Body};
use self::recovery::RecoveredEntries;
use self::shutdown::ShutdownStep;
use self::spool::{Draft, EntryKind, Sendable, Spool, TooLarge};
use self::ulid::Ulids;
use crate::analytics::AnalyticsUpdate;
use crate::camera::{CameraUpdate, StreamRole};
use crate::clip::hasher::{HashRequest, Hashed};
use crate::health::{CameraState, Gauges};
use crate::outbox::Outbox;
use crate::remote_config::state_machine;
use crate::settings::Settings;
use crate::settings::diff::SettingsDiff;
use crate::storage::clock_history::ClockSet;
use crate::storage::locks::Lock;
use crate::storage::{FootageReader, Gap, GapReason, StorageRequest, StorageUpdate};
use crate::units::{Boot, EntryId, MonoTime, RingId, Timestamp};
use crate::uplink::{Alarm, UplinkRequest, UplinkUpdate};

/// Microseconds between two events about a card that misbehaves: one is updates, a stream of them fills the outbox.
const TROUBLE_EVERY: u64 = 60_000_000;

/// Pins released with one input: thousands of clips may be dropped at once, and the lane to storage has its bound.
const UNPINNED_MAX: usize = 16;

/// One thing that happened.
#[derive(Debug)]
pub enum AgentInput {
    /// The deadline passed.
    Tick,
    /// From the storage thread.
    Storage(StorageUpdate),
    /// From the camera tasks.
    Camera(CameraUpdate),
    /// Every camera task has ended after [`AgentEffect::StopCamera`].
    CameraStopped,
    /// From the analytics thread.
    Sight(AnalyticsUpdate),
    /// From the uplink task.
    Uplink(UplinkUpdate),
    /// From the clip worker.
    Hashed(Hashed),
    /// Answer to [`AgentEffect::Tail`].
    Tail {
        /// The command that asked.
        req_id: String,
        /// The newest lines of the log, oldest first.
        lines: Vec<String>,
    },
    /// From the configuration thread.
    Config(ConfigUpdate),
    /// Stop in order: a signal or the service manager asks.
    Stop,
}

/// One thing to be done.
pub enum AgentEffect {
    /// Recovery is done: connect to the camera and the office.
    Open {
        /// Number of this start.
        boot: Boot,
    },
    /// To the storage thread.
    Storage(StorageRequest),
    /// To the uplink task.
    Uplink(UplinkRequest),
    /// To the clip worker.
    Hash(HashRequest),
    /// Look at the end of the log; answered by [`AgentInput::Tail`].
    Tail {
        /// The command that asks.
        req_id: String,
        /// Lines at most.
        lines: usize,
        /// Bytes of all lines at most.
        bytes: usize,
    },
    /// Take a picture; answered by [`AnalyticsUpdate::RequestedSnapshot`].
    Glance {
        /// The command that asks.
        req_id: String,
    },
    /// To the configuration thread.
    Keep(ConfigRequest),
    /// Other settings are in force: tell the modules they touch.
    Apply {
        /// All of them.
        settings: Box<Settings>,
        /// Which modules.
        change: Box<SettingsDiff>,
        /// Comes back with sessions made under them.
        epoch: u64,
        /// The session with the broker ends, and another begins.
        fresh: bool,
    },
    /// Close the camera's sessions and end the analytics thread; answered by [`AgentInput::CameraStopped`].
    StopCamera,
    /// Everything is out: end the process.
    Finished,
}

/// Where the agent is in its life.
#[derive(Debug)]
enum AgentPhase {
    /// Until storage tells what it found.
    Starting,
    /// Normal.
    Running,
    /// Shutting down in order.
    Stopping(ShutdownStep),
    /// Done.
    Finished,
}

/// The deciding state of one device.
pub struct Agent {
    site: crate::units::SiteId,
    settings: Settings,
    reader: Arc<dyn FootageReader>,
    ulids: Ulids,
    phase: AgentPhase,
    ring: RingId,
    boot: Boot,
    spool: Spool,
    /// What of the last start's entries is known until all of them are.
    left: RecoveredEntries,
    outbox: Outbox,
    /// What was dropped and is not an event yet.
    unreported: UnreportedLosses,
    motion_events: MotionEvents,
    jobs: ClipJobs,
    commands: Commands,
    /// The trail of who commanded.
    access: AccessTrail,
    /// Numbers the office asked for that were not sent again yet.
    wanted: ResendRanges,
    /// Who may sign, as the uplink was reported.
    signers: Option<Vec<(String, u64)>>,
    /// None where configurations cannot be kept.
    configuration: Option<ConfigClient>,
    /// The stop is for a new start under other settings.
    restart: bool,
    /// The evidence locks, as storage reported them.
    locks: Vec<Lock>,
    gauges: Gauges,
    connected: bool,
    next_health: MonoTime,
    /// Silence about the card until then, and how often it misbehaved in the meantime.
    trouble_quiet: (MonoTime, u64),
    /// When each alarm of the uplink was reported last.
    alarms: BTreeMap<Alarm, MonoTime>,
}

impl Agent {
    /// An agent that waits for storage's [`StorageUpdate::Started`]. `seed` is 32 random bytes for its ids; `file_reader` is only
    /// handed on inside files, never called.
    pub fn new(settings: Settings, reader: Arc<dyn FootageReader>, seed: [u8; 32]) -> Agent {
        Agent {
            site: settings.site.clone(),
            // How much the journal holds is known once it is open.
            outbox: Outbox::new(settings.uplink.outbox_bytes, 0),
            spool: Spool::new(reader.clone()),
            left: RecoveredEntries::default(),
            reader,
            ulids: Ulids::new(seed),
            phase: AgentPhase::Starting,
            ring: RingId::default(),
            boot: Boot(0),
            unreported: UnreportedLosses::default(),
            motion_events: MotionEvents::default(),
            jobs: ClipJobs::default(),
            commands: Commands::default(),
            access: AccessTrail::default(),
            wanted: ResendRanges::default(),
            signers: None,
            configuration: None,
            restart: false,
            locks: Vec::new(),
            gauges: Gauges::new(settings.camera.sub_url.is_some()),
            connected: false,
            next_health: MonoTime(0),
            trouble_quiet: (MonoTime(0), 0),
            alarms: BTreeMap::new(),
            settings,
        }
    }

    /// Takes one input and says what is to be done about it.
    pub fn handle(&mut self, now: Timestamp, input: AgentInput, out: &mut Vec<AgentEffect>) {
        match input {
            AgentInput::Tick => {}
            AgentInput::Storage(update) => self.storage_update(now, update, out),
            AgentInput::Camera(update) => self.camera_update(now, update, out),
            AgentInput::CameraStopped => self.camera_stopped(now, out),
            AgentInput::Sight(update) => self.analytics_update(now, update, out),
            AgentInput::Uplink(update) => self.uplink_update(now, update, out),
            AgentInput::Hashed(hashed) => self.hashed(now, hashed, out),
            AgentInput::Tail { req_id, lines } => self.answer_log_tail(&req_id, &lines, out),
            AgentInput::Config(update) => self.config_update(now, update, out),
            AgentInput::Stop => self.start_shutdown(now, out),
        }
        if self.configuration.as_ref().is_some_and(|configuration| now.mono >= configuration.machine.deadline()) {
            self.configure(now, state_machine::ConfigInput::Tick, out);
        }
        self.advance(now, out);
    }

    /// When [`AgentInput::Tick`] is due at the latest.
    pub fn deadline(&self) -> MonoTime {
        let health = (!matches!(self.phase, AgentPhase::Starting)).then_some(self.next_health);
        let stop = match &self.phase {
            AgentPhase::Stopping(stopping) => Some(stopping.deadline()),
            _ => None,
        };
        let configuration = self.configuration.as_ref().map(|configuration| configuration.machine.deadline());
        [health, stop, self.spool.deadline(), configuration].into_iter().flatten().min().unwrap_or(MonoTime(u64::MAX))
    }

    /// True when the stop is for a new start under other settings.
    pub fn wants_restart(&self) -> bool {
        self.restart
    }

    /// True once everything is out.
    pub fn is_finished(&self) -> bool {
        matches!(self.phase, AgentPhase::Finished)
    }

    /// What every input may have made possible: the next draft to the journal, the next messages to the office, a health
    /// message, the next step of a shutdown.
    fn advance(&mut self, now: Timestamp, out: &mut Vec<AgentEffect>) {
        if matches!(self.phase, AgentPhase::Starting) {
            return;
        }
        self.note_shed();
        self.report_losses(now);
        self.release_on_card(out);
        self.relocate_footage(out);
        self.make_again(out);
        out.extend(self.spool.next_request(now.mono).map(AgentEffect::Storage));
        self.hurry_wanted(out);
        while self.connected
            && let Some(entry_id) = self.outbox.pick()
        {
            match self.spool.next_message(entry_id) {
                Sendable::Message(message) => out.push(AgentEffect::Uplink(UplinkRequest::Send { entry_id, message })),
                Sendable::OnCard => out.push(AgentEffect::Storage(StorageRequest::Fetch { entry_id })),
                Sendable::Nowhere => {}
            }
        }
        if now.mono >= self.next_health {
            self.outbox.expire(now.mono);
            self.next_health = now.mono.plus_secs(self.settings.uplink.health_every.into());
            out.push(AgentEffect::Uplink(UplinkRequest::Health(Box::new(self.health(now)))));
        }
        self.advance_stop(now, out);
    }

    /// The state an entry made now must carry.
    fn after(&self, next_seq: u64) -> AgentState {
        let spent = self.gauges.uplink.spent;
        AgentState { ring: self.ring, next_seq, open: self.motion_events.open(), owed: self.jobs.pending_clips(), spent }
    }

    /// Drafts an event about the moment `at`; its id is new unless given. Counted, not made, when the card stands still.
    fn event(&mut self, at: Timestamp, kind: &str, id: Option<String>, data: Value) {
        if !self.spool.has_room() {
            self.unreported.event(LossReason::StorageStalled);
            return;
        }
        let id = id.unwrap_or_else(|| self.ulids.next(at.wall));
        let event = data["event"].clone();
        if let Err(TooLarge(bytes)) = self.draft_event(at, kind, &id, data) {
            // No kind of event can be so long (a test in `events` holds each against its slot); if one is, its updates still arrives.
            tracing::error!(kind, bytes, "an event is larger than a journal slot: told without its particulars");
            if self.draft_event(at, kind, &id, json!({"event": event, "too_large": bytes})).is_err() {
                self.unreported.event(LossReason::TooLarge);
            }
        }
    }

    fn draft_event(&mut self, at: Timestamp, kind: &str, id: &str, data: Value) -> Result<(), TooLarge> {
        let seq = self.spool.next_seq();
        let envelope = Envelope { id, site: &self.site, kind, at, seq, ring: self.ring, boot: self.boot };
        let payload = events::payload(&envelope, data);
        let body = Body::Event { id: id.to_owned(), seq, class: events::class_of(kind), payload };
        self.spool.put(Draft { after: self.after(seq + 1), body, still: None, footage: None })?;
        tracing::info!(kind, seq, "event");
        Ok(())
    }

    /// Forgets an entry here; its slot and pin are released with the next effects.
    fn release_entry(&mut self, entry_id: EntryId) -> Option<EntryKind> {
        let held = self.spool.release(entry_id)?;
        self.jobs.done_entries.push(entry_id);
        self.jobs.done_pins.extend(held.pin);
        Some(held.what)
    }

    /// Lets go on the card what is done.
    fn release_on_card(&mut self, out: &mut Vec<AgentEffect>) {
        if !self.jobs.done_entries.is_empty() {
            let entry_ids = std::mem::take(&mut self.jobs.done_entries);
            out.push(AgentEffect::Storage(StorageRequest::Release { entry_ids }));
        }
        let pins = &mut self.jobs.done_pins;
        let some = pins.drain(..pins.len().min(UNPINNED_MAX));
        out.extend(some.map(|pin| AgentEffect::Storage(StorageRequest::Unpin { pin })));
    }

    fn storage_update(&mut self, now: Timestamp, update: StorageUpdate, out: &mut Vec<AgentEffect>) {
        match update {
            StorageUpdate::Found { entries } => self.found(entries),
            StorageUpdate::Started(found) => self.started(now, *found, out),
            StorageUpdate::Durable { seq, until } => {
                tracing::debug!(seq, "durable");
                self.gauges.durable = seq;
                self.configure(now, state_machine::ConfigInput::Footage(until.mono), out);
            }
            StorageUpdate::Enqueued { entry_id } => {
                if let Some((entry_id, meta)) = self.spool.entry_stored(entry_id) {
                    self.outbox.push(now.mono, entry_id, meta);
                    self.answer_with_file(entry_id, out);
                    self.release_replaced(entry_id);
                }
            }
            StorageUpdate::NotEnqueued { entry_id, reason } => {
                if self.spool.store_failed(entry_id, now.mono) {
                    tracing::error!(%reason, "the journal refused an entry: trying again");
                }
            }
            StorageUpdate::Fetched { entry_id, outcome } => self.fetched(now, entry_id, outcome, out),
            StorageUpdate::CellSaved { .. } => {}
            StorageUpdate::Located { pin, span } => self.located(now, pin, span, out),
            StorageUpdate::Gap(gap) => self.event(gap.from, kind::GAP, None, events::gap(&gap)),
            StorageUpdate::Repaired(repair) => {
                let (file, offset, bytes) = (&repair.file, repair.offset, repair.bytes);
                tracing::warn!(file, offset, bytes, what = repair.kind.as_str(), "the scrub found damage on the card");
                self.event(now, kind::REPAIR, None, events::repair(&repair));
            }
            StorageUpdate::PinLost { .. } => self.gauges.pins_lost += 1,
            StorageUpdate::Locked { id, outcome } => self.lock_answered(now, "lock", &id, outcome, out),
            StorageUpdate::Unlocked { id, outcome } => self.lock_answered(now, "unlock", &id, outcome, out),
            StorageUpdate::LockBroken { lock, lost } => self.lock_broken(now, &lock, &lost),
            StorageUpdate::ClockSet(set) => self.clock_set(&set),
            StorageUpdate::CardLost { detail } => self.card_lost(now, &detail),
            StorageUpdate::CardWorn { percent } => {
                tracing::error!(percent, "the card is nearly worn out: bring another");
                self.event(now, kind::CARD, None, json!({"state": "worn", "percent": percent}));
            }
            StorageUpdate::Trouble { detail, lost } => self.trouble(now, &detail, lost),
            StorageUpdate::Counts(counts) => {
                self.gauges.oldest = counts.oldest;
                self.gauges.storage = counts;
            }
            StorageUpdate::Stopped => self.storage_stopped(out),
        }
    }

    /// The clock was set: what was dated before is reported with the event, so that the office can date what it already has.
    fn clock_set(&mut self, set: &ClockSet) {
        let ClockSet { before, now, step } = set;
        if set.is_read_again() {
            return;
        }
        tracing::info!(before = before.as_str(), now = now.quality.as_str(), step_ms = step / 1000, "the clock was set");
        self.event(*now, kind::CLOCK, None, json!({"before": before, "now": now.quality, "step_ms": step / 1000}));
    }

    fn card_lost(&mut self, now: Timestamp, detail: &str) {
        tracing::error!("the card takes nothing any more, everything is kept in memory only: {detail}");
        self.event(now, kind::CARD, None, json!({"state": "memory_only", "detail": events::text(detail)}));
    }

    fn trouble(&mut self, now: Timestamp, detail: &str, lost: bool) {
        match lost {
            true => tracing::error!(lost, "storage: {detail}"),
            false => tracing::warn!(lost, "storage: {detail}"),
        }
        self.gauges.storage_troubles += 1;
        let (quiet_until, suppressed_count) = self.trouble_quiet;
        if now.mono < quiet_until {
            self.trouble_quiet.1 = suppressed_count + 1;
            return;
        }
        self.trouble_quiet = (now.mono.plus_micros(TROUBLE_EVERY), 0);
        self.event(
            now,
            kind::STORAGE,
            None,
            json!({"detail": events::text(detail), "lost": lost, "suppressed_count": suppressed_count}),
        );
    }

    fn camera_update(&mut self, now: Timestamp, update: CameraUpdate, out: &mut Vec<AgentEffect>) {
        match update {
            CameraUpdate::Up { role, tracks, at } => {
                if role == StreamRole::Main {
                    self.configure(now, state_machine::ConfigInput::Picture, out);
                }
                let was = std::mem::replace(self.gauges.camera_mut(role), CameraState::Up { tracks: tracks.clone() });
                if let CameraState::Down { since, .. } = was {
                    if role == StreamRole::Main {
                        let gap = Gap { from: since, to: at, reason: GapReason::CameraDown, bytes: 0 };
                        out.push(AgentEffect::Storage(StorageRequest::NoteGap(gap)));
                    }
                    let data = json!({"stream": role.as_str(), "tracks": events::text(&tracks), "since": since.wall.rfc3339()});
                    self.event(at, kind::CAMERA_UP, None, data);
                }
                out.push(AgentEffect::Uplink(UplinkRequest::Birth(Box::new(self.birth(now)))));
            }
            CameraUpdate::Down { role, fault, detail, since } => {
                *self.gauges.camera_mut(role) = CameraState::Down { since, fault };
                if role == StreamRole::Main {
                    self.configure(now, state_machine::ConfigInput::NoPicture(format!("{}: {detail}", fault.as_str())), out);
                }
                let data = json!({"stream": role.as_str(), "fault": fault.as_str(), "detail": events::text(&detail)});
                if self.is_running() {
                    self.event(now, kind::CAMERA_DOWN, None, data);
                }
            }
            CameraUpdate::Retry { role, fault, detail, tries, pause } => {
                self.gauges.camera_tries += 1;
                let pause_ms = pause / 1000;
                tracing::warn!(stream = role.as_str(), fault = fault.as_str(), tries, pause_ms, "camera: {detail}");
            }
            CameraUpdate::Counts { role, counts } => *self.gauges.camera_counts_mut(role) = counts,
        }
    }

    fn is_running(&self) -> bool {
        matches!(self.phase, AgentPhase::Running)
    }

    fn health(&mut self, now: Timestamp) -> crate::uplink::wire::Health {
        self.gauges.dead_letters = self.outbox.dead_letters();
        self.gauges.commands = self.access.counts;
        let watermarks = crate::uplink::wire::Watermarks {
            durable: self.gauges.durable,
            event: self.spool.next_seq() - 1,
            confirmed: self.spool.confirmed(),
        };
        self.gauges.report(now, self.ring, self.boot, watermarks, self.outbox.backlog(now.mono))
    }

    fn birth(&self, now: Timestamp) -> crate::uplink::wire::Birth {
        self.gauges.birth(now, self.ring, self.boot, self.settings.storage.budget)
    }
}
