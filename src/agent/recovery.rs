//! Recovery of the agent's state from the journal: counters, pending entries and open events of
//! earlier boots.
//!
//! Storage reads the journal; entries that cannot be decoded are reported here.

use serde_json::json;

use super::events::{self, kind};
use super::outbox_entry::{AgentState, Body, Entry};
use super::spool::EntryKind;
use super::{Agent, AgentEffect, AgentPhase};
use crate::camera::login_mark::LoginMark;
use crate::escape::shown_path;
use crate::evidence::manifest::Purpose;
use crate::outbox::Outbox;
use crate::redact::masked;
use crate::settings::Settings;
use crate::storage::{Cell, Recovered, StorageRequest};
use crate::units::{ClockQuality, EntryId, RingId, Timestamp, WallTime};
use crate::uplink::UplinkRequest;

/// Gaps, and repairs, reported as single events after boot. The start event carries their full
/// number.
const START_GAPS_MAX: usize = 32;

impl Agent {
    /// Continues from the recovered state: counters, pending entries, and events that the power cut
    /// left open.
    pub(super) fn started(&mut self, now: Timestamp, found: Recovered, out: &mut Vec<AgentEffect>) {
        if !matches!(self.phase, AgentPhase::Starting) {
            return;
        }
        self.found(found.entries);
        self.phase = AgentPhase::Running;
        (self.ring, self.boot) = (found.ring, found.boot);
        self.outbox = Outbox::new(self.settings.uplink.outbox_bytes, found.slots);
        self.gauges.durable = found.last_seq;
        self.gauges.oldest = found.extent.map(|(oldest, _)| oldest.wall);
        self.gauges.clean_start = found.clean;
        StartLine::of(&self.settings, now.quality, self.gauges.oldest).log();
        self.next_health = now.mono;
        self.locks = found.locks;
        let RecoveredEntries { entries, best } = std::mem::take(&mut self.left);
        let read = |(entry_id, bytes): (EntryId, Vec<u8>)| {
            (entry_id, Entry::decode(&bytes).ok().map(|entry| entry.after))
        };
        let newest = found.newest.map(read);
        let after = taken_up(found.ring, newest.as_ref(), best);
        let newest = newest.map_or(EntryId(0), |(entry_id, _)| entry_id);
        let is_new_ring = after.ring != RingId::default() && after.ring != found.ring;
        self.spool.resume(newest, after.next_seq, is_new_ring);
        for (count, seq) in unreadable(newest, after.next_seq, &entries) {
            self.unreported.unreadable(count, seq);
        }
        self.gauges.uplink.spent = after.spent;
        out.push(AgentEffect::Uplink(UplinkRequest::Spent(after.spent)));
        let login = found.cells.iter().find(|(cell, _)| *cell == Cell::Login);
        self.login = login.and_then(|(_, bytes)| LoginMark::decode(bytes));
        self.take_over(after, out);
        let unreadable = self.restore(now, &entries);
        out.push(AgentEffect::Open { boot: found.boot, accepted: self.login });
        out.push(AgentEffect::Uplink(UplinkRequest::Birth(Box::new(self.birth(now)))));
        self.publish_signers(out);
        let particulars = json!({
            "version": crate::VERSION, "clean": found.clean, "repaired": found.repairs.len(), "gaps": found.gaps.len(),
            "recovery_ms": found.took / 1000, "unreadable_entries": unreadable, "damaged_slots": found.damaged_slots,
        });
        self.event(now, kind::START, None, particulars);
        self.compare_ring(now, found.last_seq, out);
        self.configuration_started(now);
        for gap in found.gaps.iter().take(START_GAPS_MAX) {
            self.event(gap.from, kind::GAP, None, events::gap(gap));
        }
        for repair in found.repairs.iter().take(START_GAPS_MAX) {
            self.event(now, kind::REPAIR, None, events::repair(repair));
        }
        self.end_leftover(now, out);
    }

    /// The camera accepted a login: the next process knows it. Written when it is another one.
    pub(super) fn login_accepted(&mut self, login: LoginMark, out: &mut Vec<AgentEffect>) {
        if self.login.replace(login) != Some(login) {
            let (cell, bytes) = (Cell::Login, login.encode());
            out.push(AgentEffect::Storage(StorageRequest::SaveCell { cell, bytes }));
        }
    }

    /// Collects recovered entries, until storage has sent the last batch.
    pub(super) fn found(&mut self, entries: Vec<(EntryId, Vec<u8>)>) {
        if !matches!(self.phase, AgentPhase::Starting) {
            return;
        }
        for (entry_id, bytes) in entries {
            let Ok(Entry { after, body }) = Entry::decode(&bytes) else {
                self.left.entries.push((entry_id, None));
                continue;
            };
            let seq = match &body {
                Body::Event { seq, .. } => *seq,
                Body::File(_) => after.next_seq,
            };
            self.left.entries.push((entry_id, Some((seq, after.next_seq))));
            self.left.best = Some((entry_id, after));
            self.spool.restore(entry_id, body);
        }
    }

    /// Adds the recovered entries to the outbox. Returns the number of entries that cannot be
    /// decoded.
    fn restore(&mut self, now: Timestamp, entries: &[(EntryId, Option<Numbers>)]) -> usize {
        let unreadable: Vec<EntryId> = entries
            .iter()
            .filter(|(_, numbers)| numbers.is_none())
            .map(|(entry_id, _)| *entry_id)
            .collect();
        for entry_id in &unreadable {
            tracing::error!(entry_id = entry_id.0, "an outbox entry cannot be read: dropped");
        }
        self.jobs.done_entries.extend(&unreadable);
        for (entry_id, held) in self.spool.stored() {
            match &held.what {
                // A clip enters the outbox once its footage is located and pinned again.
                EntryKind::File(manifest) if manifest.purpose != Purpose::Snapshot => {
                    self.jobs.awaiting_footage.push_back(entry_id)
                }
                _ => self.outbox.push(now.mono, entry_id, held.meta()),
            }
        }
        unreadable.len()
    }
}

/// The log line that says what a start works with.
#[derive(Debug, PartialEq)]
struct StartLine {
    ring: String,
    budget_mib: u64,
    oldest: String,
    camera: String,
    brokers: String,
    clock: &'static str,
}

impl StartLine {
    /// The line of these settings. Nothing in it holds a login.
    fn of(settings: &Settings, clock: ClockQuality, oldest: Option<WallTime>) -> StartLine {
        let brokers = settings.uplink.brokers();
        let brokers: Vec<String> =
            brokers.iter().map(|broker| format!("{}:{}", broker.host, broker.port)).collect();
        StartLine {
            ring: shown_path(&settings.storage.dir),
            budget_mib: settings.storage.budget >> 20,
            oldest: oldest.map_or("none".into(), WallTime::rfc3339),
            camera: masked(settings.camera.main_url.as_str()),
            brokers: brokers.join(" "),
            clock: clock.as_str(),
        }
    }

    fn log(self) {
        let StartLine { ring, budget_mib, oldest, camera, brokers, clock } = self;
        let version = crate::VERSION;
        tracing::info!(version, ring, budget_mib, oldest, camera, brokers, clock, "agent started");
    }
}

/// Sequence numbers of an entry: that of its event (for a file, the next one), and the next one
/// after the entry.
type Numbers = (u64, u64);

/// Outbox entries recovered so far; complete once storage has sent the last batch.
#[derive(Default)]
pub struct RecoveredEntries {
    /// In the order of their ids; `None` for an entry that cannot be decoded.
    entries: Vec<(EntryId, Option<Numbers>)>,
    /// The state after the newest entry that can be decoded.
    best: Option<(EntryId, AgentState)>,
}

/// The state to continue from: that of the newest entry that can be decoded.
///
/// If newer entries cannot be decoded, the next number skips every number that they can have used.
/// An entry holds at most one event, so numbers never grow faster than entry ids. In a new ring
/// numbers start at 1.
fn taken_up(
    ring: RingId,
    newest: Option<&(EntryId, Option<AgentState>)>,
    best: Option<(EntryId, AgentState)>,
) -> AgentState {
    let Some((newest, after)) = newest else {
        return AgentState::default();
    };
    let Some((entry_id, after)) = after.clone().map(|after| (*newest, after)).or(best) else {
        return AgentState { next_seq: newest.0 + 1, ..AgentState::default() };
    };
    let base = if after.ring == ring { after.next_seq } else { 1 };
    AgentState { next_seq: base + (newest.0 - entry_id.0), ..after }
}

/// Runs of entries that cannot be decoded: their count, and the range that contains the numbers of
/// their events. The range follows from the neighbouring entries and can also contain numbers that
/// were delivered earlier.
fn unreadable(
    newest: EntryId,
    next_seq: u64,
    entries: &[(EntryId, Option<Numbers>)],
) -> Vec<(u64, Option<(u64, u64)>)> {
    let (mut runs, mut low) = (Vec::new(), 1);
    // The current run: its first entry id and its length.
    let mut run: Option<(EntryId, u64)> = None;
    let end = (newest.0 + 1, next_seq);
    let mut close = |run: &mut Option<(EntryId, u64)>, low: u64, (entry_id, seq): (u64, u64)| {
        if let Some((first, count)) = run.take() {
            let low = low.max(seq.saturating_sub(entry_id - first.0)).max(1);
            runs.push((count, (low < seq).then(|| (low, seq - 1))));
        }
    };
    for (entry_id, numbers) in entries {
        let Some((seq, next_seq)) = numbers else {
            run = Some(run.map_or((*entry_id, 1), |(first, count)| (first, count + 1)));
            continue;
        };
        close(&mut run, low, (entry_id.0, *seq));
        low = *next_seq;
    }
    close(&mut run, low, end);
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::test_settings;

    #[test]
    fn the_line_of_a_start_names_what_it_works_with() {
        let mut settings = test_settings();
        settings.storage.dir = "/mnt/card/ring".into();
        settings.storage.budget = 8 << 30;
        settings.camera.main_url =
            url::Url::parse("rtsp://10.0.0.2/main?user=admin&password=hunter2").unwrap();
        let line = StartLine::of(&settings, ClockQuality::Ntp, Some(WallTime(0)));
        assert_eq!(
            (line.ring.as_str(), line.budget_mib, line.clock),
            ("/mnt/card/ring", 8192, "ntp")
        );
        assert_eq!(line.oldest, "1970-01-01T00:00:00.000Z");
        assert!(
            line.camera.contains("10.0.0.2/main") && !line.camera.contains("hunter2"),
            "{line:?}"
        );
        let broker = &settings.uplink.brokers()[0];
        assert_eq!(line.brokers, format!("{}:{}", broker.host, broker.port));
        assert_eq!(StartLine::of(&settings, ClockQuality::Unset, None).oldest, "none");
    }
}
