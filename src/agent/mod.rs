//! Event agent: a pure state machine that turns every input into the effects the runtime executes.
//!
//! [`Agent::handle`] takes its state, the time and one input, and appends [`AgentEffect`]s. The
//! runtime executes all of them before the next input. Frames never pass through the agent.
//!
//! * [`outbox_entry`]: the journal format of an outbox entry. [`spool`]: drafts → journal → outbox.
//!   [`events`]: event kinds and CloudEvents envelopes.
//! * [`recovery`]: outbox entries of earlier boots. [`loss_report`]: losses until an event reports
//!   them.
//! * [`motion_events`]: motion events from start to end. [`clip_jobs`]: clips from promise to file.
//!   [`commands`], [`maintenance_commands`]: commands of the office.
//! * [`access_trail`]: authorization of commands and its audit events. [`request_backlog`]:
//!   requests that a full channel did not accept.
//! * [`config_client`]: the configuration inside the agent; [`config_thread`] stores it,
//!   [`connection_probe`] tests new cameras and brokers.
//! * [`storage_updates`], [`uplink_updates`]: reactions to storage and uplink. [`shutdown`]: the
//!   ordered shutdown. [`ulid`]: ids. [`runtime`]: channels, threads and the main loop;
//!   `camera_tasks`: its camera streams; `gap_events`: the limit of gap events.
//!
//! What belongs here: when something is an event, when a clip is cut, what is pending. What does
//! not: any I/O.

pub(crate) mod access_trail;
pub(crate) mod commands;
pub(crate) mod config_client;
pub(crate) mod spool;
pub(crate) mod storage_updates;
pub(crate) mod outbox_entry;
pub(crate) mod events;
mod event_log;
mod gap_events;
pub(crate) mod motion_events;
pub(crate) mod clip_jobs;
pub(crate) mod uplink_updates;
pub(crate) mod config_thread;
pub(crate) mod connection_probe;
pub(crate) mod maintenance_commands;
pub(crate) mod loss_report;
pub(crate) mod recovery;
pub(crate) mod shutdown;
pub(crate) mod ulid;
pub(crate) mod request_backlog;
#[cfg(test)]
mod tests;
mod camera_tasks;
pub(crate) mod runtime;

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
use self::storage_updates::FaultEventLimiter;
use self::ulid::Ulids;
use crate::analytics::AnalyticsUpdate;
use crate::camera::clock_belief::ClockFault;
use crate::camera::login_mark::LoginMark;
use crate::camera::{CameraUpdate, StreamRole};
use crate::clip::hasher::{HashRequest, Hashed};
use crate::health::{CameraState, Gauges};
use crate::outbox::Outbox;
use crate::remote_config::action;
use crate::settings::Settings;
use crate::settings::diff::SettingsDiff;
use crate::storage::locks::Lock;
use crate::storage::{FootageReader, Gap, GapReason, StorageRequest, StorageUpdate};
use crate::units::{Boot, EntryId, MonoTime, RingId, Timestamp};
use crate::uplink::{Alarm, UplinkRequest, UplinkUpdate};

/// Pins released per input. Thousands of clips can be dropped at once, and the request queue of the
/// storage thread is bounded.
const UNPINS_PER_INPUT: usize = 16;

/// An input of the agent.
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
    Analytics(AnalyticsUpdate),
    /// From the uplink task.
    Uplink(UplinkUpdate),
    /// From the clip hasher.
    Hashed(Hashed),
    /// Answer to [`AgentEffect::LogTail`].
    LogTail {
        /// The `req_id` of the command.
        req_id: String,
        /// The newest lines of the log, oldest first.
        lines: Vec<String>,
    },
    /// From the configuration thread.
    Config(ConfigUpdate),
    /// Shut down in order. Sent on a signal or when the service manager stops the unit.
    Stop,
}

/// An effect that the runtime executes.
pub enum AgentEffect {
    /// Recovery is complete: connect to the cameras and the broker.
    Open {
        /// Number of this boot of the agent.
        boot: Boot,
        /// The login that the camera accepted in an earlier process.
        accepted: Option<LoginMark>,
    },
    /// To the storage thread.
    Storage(StorageRequest),
    /// To the uplink task.
    Uplink(UplinkRequest),
    /// To the clip hasher.
    Hash(HashRequest),
    /// Read the end of the log; answered by [`AgentInput::LogTail`].
    LogTail {
        /// The `req_id` of the command.
        req_id: String,
        /// Maximum number of lines.
        lines: usize,
        /// Maximum number of bytes over all lines.
        bytes: usize,
    },
    /// Take a snapshot; answered by [`AnalyticsUpdate::RequestedSnapshot`].
    Snapshot {
        /// The `req_id` of the command.
        req_id: String,
    },
    /// To the configuration thread.
    Config(ConfigRequest),
    /// New settings are in force: pass them to the modules they change.
    Apply {
        /// The complete settings.
        settings: Box<Settings>,
        /// The sections that changed.
        change: Box<SettingsDiff>,
        /// Epoch of these settings. The uplink reports it with every session it opens under them.
        epoch: u64,
        /// True when the uplink must close its broker session and open another.
        fresh: bool,
    },
    /// Close the camera's sessions and end the analytics thread; answered by
    /// [`AgentInput::CameraStopped`].
    StopCamera,
    /// The shutdown is complete: end the process.
    Finished,
}

/// Lifecycle phase of the agent.
#[derive(Debug)]
enum AgentPhase {
    /// Storage has not reported [`StorageUpdate::Started`] yet.
    Starting,
    /// Normal operation.
    Running,
    /// In an ordered shutdown.
    Stopping(ShutdownStep),
    /// The shutdown is complete.
    Finished,
}

/// The agent of one device.
pub struct Agent {
    site: crate::units::SiteId,
    settings: Settings,
    reader: Arc<dyn FootageReader>,
    ulids: Ulids,
    phase: AgentPhase,
    ring: RingId,
    boot: Boot,
    spool: Spool,
    /// Outbox entries recovered so far; complete once storage reports [`StorageUpdate::Started`].
    left: RecoveredEntries,
    outbox: Outbox,
    /// Losses that no event has reported yet.
    unreported: UnreportedLosses,
    motion_events: MotionEvents,
    jobs: ClipJobs,
    commands: Commands,
    /// Audit events of commands, and their limits.
    access: AccessTrail,
    /// Sequence numbers that the office requested and that are not resent yet.
    wanted: ResendRanges,
    /// Enrolled signing keys and their highest numbers, as last sent to the uplink.
    signers: Option<Vec<(String, u64)>>,
    /// `None` when the device cannot store configurations.
    configuration: Option<ConfigClient>,
    /// True when the process restarts under other settings after the shutdown.
    restart: bool,
    /// The evidence locks, as storage reported them.
    locks: Vec<Lock>,
    /// The login that the camera accepted.
    login: Option<LoginMark>,
    gauges: Gauges,
    connected: bool,
    next_health: MonoTime,
    storage_faults: FaultEventLimiter,
    gap_events: gap_events::GapEvents,
    /// When an event last reported each uplink alarm.
    alarms: BTreeMap<Alarm, MonoTime>,
}

impl Agent {
    /// Creates an agent that waits for [`StorageUpdate::Started`].
    ///
    /// `seed` is 32 random bytes for its event ids. The agent passes `reader` on inside files and
    /// never calls it.
    pub fn new(settings: Settings, reader: Arc<dyn FootageReader>, seed: [u8; 32]) -> Agent {
        Agent {
            site: settings.site.clone(),
            // The journal's capacity is known once storage has opened it.
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
            login: None,
            gauges: Gauges::new(settings.camera.sub_url.is_some()),
            connected: false,
            next_health: MonoTime(0),
            storage_faults: FaultEventLimiter::default(),
            gap_events: gap_events::GapEvents::default(),
            alarms: BTreeMap::new(),
            settings,
        }
    }

    /// Handles one input and appends the resulting effects to `out`.
    pub fn handle(&mut self, now: Timestamp, input: AgentInput, out: &mut Vec<AgentEffect>) {
        match input {
            AgentInput::Tick => {}
            AgentInput::Storage(update) => self.storage_update(now, update, out),
            AgentInput::Camera(update) => self.camera_update(now, update, out),
            AgentInput::CameraStopped => self.camera_stopped(now, out),
            AgentInput::Analytics(update) => self.analytics_update(now, update, out),
            AgentInput::Uplink(update) => self.uplink_update(now, update, out),
            AgentInput::Hashed(hashed) => self.hashed(now, hashed, out),
            AgentInput::LogTail { req_id, lines } => self.answer_log_tail(&req_id, &lines, out),
            AgentInput::Config(update) => self.config_update(now, update, out),
            AgentInput::Stop => self.start_shutdown(now, out),
        }
        if self
            .configuration
            .as_ref()
            .is_some_and(|configuration| now.mono >= configuration.machine.deadline())
        {
            self.configure(now, action::ConfigInput::Tick, out);
        }
        self.advance(now, out);
    }

    /// Latest time of the next [`AgentInput::Tick`].
    pub fn deadline(&self) -> MonoTime {
        let health = (!matches!(self.phase, AgentPhase::Starting)).then_some(self.next_health);
        let stop = match &self.phase {
            AgentPhase::Stopping(stopping) => Some(stopping.deadline()),
            _ => None,
        };
        let configuration =
            self.configuration.as_ref().map(|configuration| configuration.machine.deadline());
        [health, stop, self.spool.deadline(), configuration, self.gap_events.deadline()]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(MonoTime(u64::MAX))
    }

    /// True when the process restarts under other settings after the shutdown.
    pub fn wants_restart(&self) -> bool {
        self.restart
    }

    /// True once the shutdown is complete.
    pub fn is_finished(&self) -> bool {
        matches!(self.phase, AgentPhase::Finished)
    }

    /// Runs the work that any input can enable: the next draft to the journal, the next messages to
    /// the broker, a health message, the next shutdown step.
    fn advance(&mut self, now: Timestamp, out: &mut Vec<AgentEffect>) {
        if matches!(self.phase, AgentPhase::Starting) {
            return;
        }
        self.note_shed();
        self.report_losses(now);
        self.joined_gaps(now, false);
        self.release_on_card(out);
        self.relocate_footage(out);
        self.make_again(out);
        out.extend(self.spool.next_request(now.mono).map(AgentEffect::Storage));
        self.prioritize_resends(out);
        while self.connected
            && let Some(entry_id) = self.outbox.pick()
        {
            match self.spool.next_message(entry_id) {
                Sendable::Message(message) => {
                    out.push(AgentEffect::Uplink(UplinkRequest::Send { entry_id, message }))
                }
                Sendable::OnCard => {
                    out.push(AgentEffect::Storage(StorageRequest::Fetch { entry_id }))
                }
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

    /// The agent state that an entry created now carries.
    fn after(&self, next_seq: u64) -> AgentState {
        let spent = self.gauges.uplink.spent;
        AgentState {
            ring: self.ring,
            next_seq,
            open: self.motion_events.open(),
            owed: self.jobs.pending_clips(),
            spent,
        }
    }

    /// Drafts an event of the moment `at`, with a new id when `id` is `None`. When storage stalls
    /// and the spool is full, the event is only counted.
    fn event(&mut self, at: Timestamp, kind: &str, id: Option<String>, data: Value) {
        if !self.spool.has_room() {
            self.unreported.event(LossReason::StorageStalled);
            return;
        }
        let id = id.unwrap_or_else(|| self.ulids.next(at.wall));
        let event = data["event"].clone();
        if let Err(TooLarge(bytes)) = self.draft_event(at, kind, &id, data) {
            // A test in `events` checks every kind of event against the slot size. If one is too
            // large all the same, the office gets its kind without its data.
            tracing::error!(
                kind,
                bytes,
                "event dropped its data, larger than a journal slot; report this as a bug"
            );
            if self.draft_event(at, kind, &id, json!({"event": event, "too_large": bytes})).is_err()
            {
                self.unreported.event(LossReason::TooLarge);
            }
        }
    }

    fn draft_event(
        &mut self,
        at: Timestamp,
        kind: &str,
        id: &str,
        data: Value,
    ) -> Result<(), TooLarge> {
        let seq = self.spool.next_seq();
        let envelope =
            Envelope { id, site: &self.site, kind, at, seq, ring: self.ring, boot: self.boot };
        let line = event_log::EventLine::of(kind, seq, &data);
        let payload = events::payload(&envelope, data);
        let body = Body::Event { id: id.to_owned(), seq, class: events::class_of(kind), payload };
        self.spool.put(Draft { after: self.after(seq + 1), body, still: None, footage: None })?;
        line.log();
        Ok(())
    }

    /// Removes an entry from the spool. The next effects release its slot and pin.
    fn release_entry(&mut self, entry_id: EntryId) -> Option<EntryKind> {
        let held = self.spool.release(entry_id)?;
        self.jobs.done_entries.push(entry_id);
        self.jobs.done_pins.extend(held.pin);
        Some(held.what)
    }

    /// Releases the journal slots and pins of finished entries.
    fn release_on_card(&mut self, out: &mut Vec<AgentEffect>) {
        if !self.jobs.done_entries.is_empty() {
            let entry_ids = std::mem::take(&mut self.jobs.done_entries);
            out.push(AgentEffect::Storage(StorageRequest::Release { entry_ids }));
        }
        let pins = &mut self.jobs.done_pins;
        let released = pins.drain(..pins.len().min(UNPINS_PER_INPUT));
        out.extend(released.map(|pin| AgentEffect::Storage(StorageRequest::Unpin { pin })));
    }

    fn camera_update(&mut self, now: Timestamp, update: CameraUpdate, out: &mut Vec<AgentEffect>) {
        match update {
            CameraUpdate::Up { role, tracks, at } => {
                if role == StreamRole::Main {
                    self.configure(now, action::ConfigInput::Picture, out);
                }
                let stream = role.as_str();
                tracing::info!(stream, tracks, "camera stream plays");
                let was = std::mem::replace(
                    self.gauges.camera_mut(role),
                    CameraState::Up { tracks: tracks.clone() },
                );
                if let CameraState::Down { since, .. } = was {
                    if role == StreamRole::Main {
                        let gap =
                            Gap { from: since, to: at, reason: GapReason::CameraDown, bytes: 0 };
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
                    self.configure(
                        now,
                        action::ConfigInput::NoPicture(format!("{}: {detail}", fault.as_str())),
                        out,
                    );
                }
                let data = json!({"stream": role.as_str(), "fault": fault.as_str(), "detail": events::text(&detail)});
                if self.is_running() {
                    self.event(now, kind::CAMERA_DOWN, None, data);
                }
            }
            CameraUpdate::Retry { role, fault, detail, tries, pause, is_reported } => {
                self.gauges.camera_tries += 1;
                event_log::log_retry(role, fault, &detail, tries, pause, is_reported);
            }
            CameraUpdate::Clock { role, report } => {
                let (stream, rate) = (role.as_str(), report.rate);
                match report.fault.map(ClockFault::as_str) {
                    Some(fault) => tracing::warn!(
                        stream,
                        fault,
                        rate,
                        "camera time stamps unreliable; footage is dated by arrivals"
                    ),
                    None => tracing::info!(stream, rate, "camera time stamps reliable again"),
                }
                self.event(now, kind::CAMERA_CLOCK, None, events::camera_clock(role, &report));
            }
            CameraUpdate::LoginAccepted { login } => self.login_accepted(login, out),
            CameraUpdate::Counts { role, counts } => *self.gauges.camera_counts_mut(role) = counts,
            // The camera task has logged them.
            CameraUpdate::Quirks { .. } => {}
        }
    }

    fn is_running(&self) -> bool {
        matches!(self.phase, AgentPhase::Running)
    }

    fn health(&mut self, now: Timestamp) -> crate::uplink::wire::Health {
        self.gauges.dead_letters = self.outbox.dead_letters();
        self.gauges.commands = self.access.rejected;
        let watermarks = crate::uplink::wire::Watermarks {
            durable: self.gauges.durable,
            event: self.spool.next_seq() - 1,
            confirmed: self.spool.confirmed(),
        };
        self.gauges.report(now, self.ring, self.boot, watermarks, self.outbox.backlog(now.mono))
    }

    fn birth(&self, now: Timestamp) -> crate::uplink::wire::Birth {
        self.gauges
            .birth(now, self.ring, self.boot, self.settings.storage.budget)
            .with_settings(&self.settings)
    }
}
