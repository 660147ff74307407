//! The agent room: the one place that decides. [`Agent::handle`] is a plain function of its state, the time and one input; what
//! it wants done comes out as [`Effect`]s, all carried out before the next input. Frames never pass through here.
//!
//! * [`entry`]: an outbox entry on the card. [`desk`]: drafts → journal → outbox. [`events`]: kinds and envelopes.
//! * [`start`]: what the last start left. [`shed`]: what was given up, until it is told.
//! * [`incidents`]: motion events from start to end. [`jobs`]: clips in the making. [`commands`], [`queries`]: what the office asks.
//! * [`access`]: who may command, and the trail of it. [`waiting`]: orders a part has no room for.
//! * [`config`]: the configuration as the agent sees it; [`keeper`] ⇄ keeps it, [`probe`] ⇄ asks new cameras and brokers.
//! * [`heard`]: what the uplink tells. [`stop`]: the ordered shutdown. [`ulid`]: ids. [`wiring`] ⇄: channels, threads and the loop that feeds this.
//!
//! What belongs here: what an event is, when a clip is cut, what is owed. What does not: any I/O.

pub mod access;
pub mod commands;
pub mod config;
pub mod desk;
pub mod entry;
pub mod events;
pub mod incidents;
pub mod jobs;
pub mod heard;
pub mod keeper;
pub mod probe;
pub mod queries;
pub mod shed;
pub mod start;
pub mod stop;
pub mod ulid;
pub mod waiting;
#[cfg(test)]
mod tests;
pub mod wiring;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use self::access::Access;
use self::commands::Commands;
use self::config::Configuration;
use self::desk::{Desk, Draft, Next, TooLarge, What};
use self::entry::{After, Body};
use self::events::{Envelope, kind};
use self::incidents::Incidents;
use self::jobs::Jobs;
use self::keeper::{KeeperNews, KeeperOrder};
use self::queries::Wanted;
use self::shed::{Untold, Why};
use self::start::Left;
use self::stop::Stopping;
use self::ulid::Ulids;
use crate::camera::{CameraNews, Role};
use crate::clip::worker::{HashOrder, Hashed};
use crate::config::machine;
use crate::health::{CameraState, Gauges};
use crate::motion::SightNews;
use crate::outbox::{Kind, Outbox};
use crate::settings::Settings;
use crate::settings::change::Change;
use crate::storage::dates::ClockSet;
use crate::storage::locks::Lock;
use crate::storage::{FootageReader, Gap, GapReason, StorageNews, StorageOrder};
use crate::units::{Boot, Mono, RingId, Stamp, Ticket};
use crate::uplink::{Alarm, UplinkNews, UplinkOrder};

/// Microseconds between two events about a card that misbehaves: one is news, a stream of them fills the outbox.
const TROUBLE_EVERY: u64 = 60_000_000;

/// Pins let go with one input: thousands of clips may be given up at once, and the lane to storage has its bound.
const UNPINNED_MAX: usize = 16;

/// One thing that happened.
#[derive(Debug)]
pub enum Input {
    /// The deadline passed.
    Tick,
    /// From the storage thread.
    Storage(StorageNews),
    /// From the camera tasks.
    Camera(CameraNews),
    /// Every camera task has ended after [`Effect::StopCamera`].
    CameraStopped,
    /// From the sight thread.
    Sight(SightNews),
    /// From the uplink task.
    Uplink(UplinkNews),
    /// From the clip worker.
    Hashed(Hashed),
    /// Answer to [`Effect::Tail`].
    Tail {
        /// The command that asked.
        req_id: String,
        /// The newest lines of the log, oldest first.
        lines: Vec<String>,
    },
    /// From the keeper.
    Keeper(KeeperNews),
    /// Stop in order: a signal or the service manager asks.
    Stop,
}

/// One thing to be done.
pub enum Effect {
    /// Recovery is done: connect to the camera and the office.
    Open {
        /// Number of this start.
        boot: Boot,
    },
    /// To the storage thread.
    Storage(StorageOrder),
    /// To the uplink task.
    Uplink(UplinkOrder),
    /// To the clip worker.
    Hash(HashOrder),
    /// Look at the end of the log; answered by [`Input::Tail`].
    Tail {
        /// The command that asks.
        req_id: String,
        /// Lines at most.
        lines: usize,
        /// Bytes of all lines at most.
        bytes: usize,
    },
    /// Take a picture; answered by [`SightNews::Glance`].
    Glance {
        /// The command that asks.
        req_id: String,
    },
    /// To the keeper.
    Keep(KeeperOrder),
    /// Other settings are in force: tell the rooms they touch.
    Apply {
        /// All of them.
        settings: Box<Settings>,
        /// Which rooms.
        change: Box<Change>,
        /// Comes back with sessions made under them.
        epoch: u64,
        /// The session with the broker ends, and another begins.
        fresh: bool,
    },
    /// Close the camera's sessions and end the sight thread; answered by [`Input::CameraStopped`].
    StopCamera,
    /// Everything is out: end the process.
    Finished,
}

/// Where the agent is in its life.
#[derive(Debug)]
enum Phase {
    /// Until storage tells what it found.
    Starting,
    /// Normal.
    Running,
    /// Shutting down in order.
    Stopping(Stopping),
    /// Done.
    Finished,
}

/// The deciding state of one box.
pub struct Agent {
    site: crate::units::SiteId,
    settings: Settings,
    reader: Arc<dyn FootageReader>,
    ulids: Ulids,
    phase: Phase,
    ring: RingId,
    boot: Boot,
    desk: Desk,
    /// What of the last start's entries is known until all of them are.
    left: Left,
    outbox: Outbox,
    /// What was given up and is not an event yet.
    untold: Untold,
    incidents: Incidents,
    jobs: Jobs,
    commands: Commands,
    /// The trail of who commanded.
    access: Access,
    /// Numbers the office asked for that were not sent again yet.
    wanted: Wanted,
    /// Who may sign, as the uplink was told.
    signers: Option<Vec<(String, u64)>>,
    /// None where configurations cannot be kept.
    configuration: Option<Configuration>,
    /// The stop is for a new start under other settings.
    restart: bool,
    /// The evidence locks, as storage told them.
    locks: Vec<Lock>,
    gauges: Gauges,
    connected: bool,
    next_health: Mono,
    /// Silence about the card until then, and how often it misbehaved in the meantime.
    trouble_quiet: (Mono, u64),
    /// When each alarm of the uplink was told last.
    alarms: BTreeMap<Alarm, Mono>,
}

impl Agent {
    /// An agent that waits for storage's [`StorageNews::Started`]. `seed` is 32 random bytes for its ids; `reader` is only
    /// handed on inside files, never called.
    pub fn new(settings: Settings, reader: Arc<dyn FootageReader>, seed: [u8; 32]) -> Agent {
        Agent {
            site: settings.site.clone(),
            // How much the journal holds is known once it is open.
            outbox: Outbox::new(settings.uplink.outbox_bytes, 0),
            desk: Desk::new(reader.clone()),
            left: Left::default(),
            reader,
            ulids: Ulids::new(seed),
            phase: Phase::Starting,
            ring: RingId::default(),
            boot: Boot(0),
            untold: Untold::default(),
            incidents: Incidents::default(),
            jobs: Jobs::default(),
            commands: Commands::default(),
            access: Access::default(),
            wanted: Wanted::default(),
            signers: None,
            configuration: None,
            restart: false,
            locks: Vec::new(),
            gauges: Gauges::new(settings.camera.sub_url.is_some()),
            connected: false,
            next_health: Mono(0),
            trouble_quiet: (Mono(0), 0),
            alarms: BTreeMap::new(),
            settings,
        }
    }

    /// Takes one input and says what is to be done about it.
    pub fn handle(&mut self, now: Stamp, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Tick => {}
            Input::Storage(news) => self.storage_news(now, news, out),
            Input::Camera(news) => self.camera_news(now, news, out),
            Input::CameraStopped => self.camera_stopped(now, out),
            Input::Sight(news) => self.sight_news(now, news, out),
            Input::Uplink(news) => self.uplink_news(now, news, out),
            Input::Hashed(hashed) => self.hashed(now, hashed, out),
            Input::Tail { req_id, lines } => self.answer_log_tail(&req_id, &lines, out),
            Input::Keeper(news) => self.keeper_news(now, news, out),
            Input::Stop => self.begin_stop(now, out),
        }
        if self.configuration.as_ref().is_some_and(|configuration| now.mono >= configuration.machine.deadline()) {
            self.configure(now, machine::Input::Tick, out);
        }
        self.advance(now, out);
    }

    /// When [`Input::Tick`] is due at the latest.
    pub fn deadline(&self) -> Mono {
        let health = (!matches!(self.phase, Phase::Starting)).then_some(self.next_health);
        let stop = match &self.phase {
            Phase::Stopping(stopping) => Some(stopping.deadline()),
            _ => None,
        };
        let configuration = self.configuration.as_ref().map(|configuration| configuration.machine.deadline());
        [health, stop, self.desk.deadline(), configuration].into_iter().flatten().min().unwrap_or(Mono(u64::MAX))
    }

    /// True when the stop is for a new start under other settings.
    pub fn wants_restart(&self) -> bool {
        self.restart
    }

    /// True once everything is out.
    pub fn is_finished(&self) -> bool {
        matches!(self.phase, Phase::Finished)
    }

    /// What every input may have made possible: the next draft to the journal, the next letters to the office, a health
    /// message, the next step of a shutdown.
    fn advance(&mut self, now: Stamp, out: &mut Vec<Effect>) {
        if matches!(self.phase, Phase::Starting) {
            return;
        }
        self.note_shed();
        self.tell_untold(now);
        self.let_go_on_card(out);
        self.look_for_footage(out);
        self.make_again(out);
        out.extend(self.desk.next_order(now.mono).map(Effect::Storage));
        self.hurry_wanted(out);
        while self.connected
            && let Some(ticket) = self.outbox.pick()
        {
            match self.desk.next_letter(ticket) {
                Next::Letter(letter) => out.push(Effect::Uplink(UplinkOrder::Send { ticket, letter })),
                Next::OnCard => out.push(Effect::Storage(StorageOrder::Fetch { ticket })),
                Next::Nowhere => {}
            }
        }
        if now.mono >= self.next_health {
            self.outbox.expire(now.mono);
            self.next_health = now.mono.plus_secs(self.settings.uplink.health_every.into());
            out.push(Effect::Uplink(UplinkOrder::Health(Box::new(self.health(now)))));
        }
        self.advance_stop(now, out);
    }

    /// The state an entry made now must carry.
    fn after(&self, next_seq: u64) -> After {
        let spent = self.gauges.uplink.spent;
        After { ring: self.ring, next_seq, open: self.incidents.open(), owed: self.jobs.owed(), spent }
    }

    /// Drafts an event about the moment `at`; its id is new unless given. Counted, not made, when the card stands still.
    fn event(&mut self, at: Stamp, kind: &str, id: Option<String>, data: Value) {
        if !self.desk.has_room() {
            self.untold.event(Why::StorageStalled);
            return;
        }
        let id = id.unwrap_or_else(|| self.ulids.next(at.wall));
        let event = data["event"].clone();
        if let Err(TooLarge(bytes)) = self.draft_event(at, kind, &id, data) {
            // No kind of event can be so long (a test in `events` holds each against its slot); if one is, its news still arrives.
            tracing::error!(kind, bytes, "an event is larger than a journal slot: told without its particulars");
            if self.draft_event(at, kind, &id, json!({"event": event, "too_large": bytes})).is_err() {
                self.untold.event(Why::TooLarge);
            }
        }
    }

    fn draft_event(&mut self, at: Stamp, kind: &str, id: &str, data: Value) -> Result<(), TooLarge> {
        let seq = self.desk.next_seq();
        let envelope = Envelope { id, site: &self.site, kind, at, seq, ring: self.ring, boot: self.boot };
        let payload = events::payload(&envelope, data);
        let body = Body::Event { id: id.to_owned(), seq, payload };
        let lane = match kind {
            kind::MOTION_UPDATE => Kind::Update,
            kind::ACCESS => Kind::Access,
            _ => Kind::Event,
        };
        self.desk.put(Draft { after: self.after(seq + 1), body, kind: lane, still: None, footage: None })?;
        tracing::info!(kind, seq, "event");
        Ok(())
    }

    /// Forgets an entry here; its slot and pin are let go with the next effects.
    fn let_go(&mut self, ticket: Ticket) -> Option<What> {
        let held = self.desk.release(ticket)?;
        self.jobs.done.0.push(ticket);
        self.jobs.done.1.extend(held.pin);
        Some(held.what)
    }

    /// Lets go on the card what is done.
    fn let_go_on_card(&mut self, out: &mut Vec<Effect>) {
        let (tickets, pins) = &mut self.jobs.done;
        if !tickets.is_empty() {
            out.push(Effect::Storage(StorageOrder::Release { tickets: std::mem::take(tickets) }));
        }
        let some = pins.drain(..pins.len().min(UNPINNED_MAX));
        out.extend(some.map(|pin| Effect::Storage(StorageOrder::Unpin { pin })));
    }

    fn storage_news(&mut self, now: Stamp, news: StorageNews, out: &mut Vec<Effect>) {
        match news {
            StorageNews::Found { entries } => self.found(entries),
            StorageNews::Started(found) => self.started(now, *found, out),
            StorageNews::Durable { seq, until } => {
                tracing::debug!(seq, "durable");
                self.gauges.durable = seq;
                self.configure(now, machine::Input::Footage(until.mono), out);
            }
            StorageNews::Enqueued { ticket } => {
                if let Some((ticket, meta)) = self.desk.take_stored(ticket) {
                    self.outbox.push(now.mono, ticket, meta);
                    self.answer_with_file(ticket, out);
                    self.let_replaced_go(ticket);
                }
            }
            StorageNews::NotEnqueued { ticket, reason } => {
                if self.desk.not_stored(ticket, now.mono) {
                    tracing::error!(%reason, "the journal refused an entry: trying again");
                }
            }
            StorageNews::Fetched { ticket, outcome } => self.fetched(now, ticket, outcome, out),
            StorageNews::CellSaved { .. } => {}
            StorageNews::Located { pin, span } => self.located(now, pin, span, out),
            StorageNews::Hole(gap) => self.event(gap.from, kind::GAP, None, events::gap(&gap)),
            StorageNews::Repaired(repair) => {
                let (file, offset, bytes) = (&repair.file, repair.offset, repair.bytes);
                tracing::warn!(file, offset, bytes, what = repair.kind.word(), "the scrub found damage on the card");
                self.event(now, kind::REPAIR, None, events::repair(&repair));
            }
            StorageNews::PinLost { .. } => self.gauges.pins_lost += 1,
            StorageNews::Locked { id, outcome } => self.lock_answered(now, "lock", &id, outcome, out),
            StorageNews::Unlocked { id, outcome } => self.lock_answered(now, "unlock", &id, outcome, out),
            StorageNews::LockBroken { lock, lost } => self.lock_broken(now, &lock, &lost),
            StorageNews::ClockSet(set) => self.clock_set(&set),
            StorageNews::CardLost { detail } => self.card_lost(now, &detail),
            StorageNews::CardWorn { percent } => {
                tracing::error!(percent, "the card is nearly worn out: bring another");
                self.event(now, kind::CARD, None, json!({"state": "worn", "percent": percent}));
            }
            StorageNews::Trouble { detail, lost } => self.trouble(now, &detail, lost),
            StorageNews::Counts(counts) => {
                self.gauges.oldest = counts.oldest;
                self.gauges.storage = counts;
            }
            StorageNews::Stopped => self.storage_stopped(out),
        }
    }

    /// The clock was set: what was dated before is told with the event, so that the office can date what it already has.
    fn clock_set(&mut self, set: &ClockSet) {
        let ClockSet { before, now, step } = set;
        tracing::info!(before = before.word(), now = now.quality.word(), step_ms = step / 1000, "the clock was set");
        self.event(*now, kind::CLOCK, None, json!({"before": before, "now": now.quality, "step_ms": step / 1000}));
    }

    fn card_lost(&mut self, now: Stamp, detail: &str) {
        tracing::error!("the card takes nothing any more, everything is kept in memory only: {detail}");
        self.event(now, kind::CARD, None, json!({"state": "memory_only", "detail": events::text(detail)}));
    }

    fn trouble(&mut self, now: Stamp, detail: &str, lost: bool) {
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
        self.event(now, kind::STORAGE, None, json!({"detail": events::text(detail), "lost": lost, "suppressed_count": suppressed_count}));
    }

    fn camera_news(&mut self, now: Stamp, news: CameraNews, out: &mut Vec<Effect>) {
        match news {
            CameraNews::Up { role, tracks, at } => {
                if role == Role::Main {
                    self.configure(now, machine::Input::Picture, out);
                }
                let was = std::mem::replace(self.gauges.camera_mut(role), CameraState::Up { tracks: tracks.clone() });
                if let CameraState::Down { since, .. } = was {
                    if role == Role::Main {
                        let gap = Gap { from: since, to: at, reason: GapReason::CameraDown, bytes: 0 };
                        out.push(Effect::Storage(StorageOrder::NoteGap(gap)));
                    }
                    let data = json!({"stream": role.word(), "tracks": events::text(&tracks), "since": since.wall.rfc3339()});
                    self.event(at, kind::CAMERA_UP, None, data);
                }
                out.push(Effect::Uplink(UplinkOrder::Birth(Box::new(self.birth(now)))));
            }
            CameraNews::Down { role, fault, detail, since } => {
                *self.gauges.camera_mut(role) = CameraState::Down { since, fault };
                if role == Role::Main {
                    self.configure(now, machine::Input::NoPicture(format!("{}: {detail}", fault.word())), out);
                }
                let data = json!({"stream": role.word(), "fault": fault.word(), "detail": events::text(&detail)});
                if self.is_running() {
                    self.event(now, kind::CAMERA_DOWN, None, data);
                }
            }
            CameraNews::Retry { role, fault, detail, tries, pause } => {
                self.gauges.camera_tries += 1;
                let pause_ms = pause / 1000;
                tracing::warn!(stream = role.word(), fault = fault.word(), tries, pause_ms, "camera: {detail}");
            }
            CameraNews::Counts { role, counts } => *self.gauges.camera_counts_mut(role) = counts,
        }
    }

    fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running)
    }

    fn health(&mut self, now: Stamp) -> crate::uplink::wire::Health {
        self.gauges.dead_letters = self.outbox.dead_letters();
        self.gauges.commands = self.access.counts;
        let watermarks = crate::uplink::wire::Watermarks {
            durable: self.gauges.durable,
            event: self.desk.next_seq() - 1,
            confirmed: self.desk.confirmed(),
        };
        self.gauges.report(now, self.ring, self.boot, watermarks, self.outbox.backlog(now.mono))
    }

    fn birth(&self, now: Stamp) -> crate::uplink::wire::Birth {
        self.gauges.birth(now, self.ring, self.boot, self.settings.storage.budget)
    }
}
