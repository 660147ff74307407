//! Ingest of messages other than files: events, states, births, health, replies.
//!
//! docs/mqtt.md gives the limits of sizes, numbers and texts. A message beyond them is neither
//! stored nor receipted.

use serde_json::{Map, Value};

use super::archive::Archive;
use super::change::Change;
use super::error::ArchiveError;
use super::history::health::{figures, line_counts};
use super::history::motion::{MotionEvent, short_kind};
use super::history::{HOUR, gap_in};
use super::ingest_outcome::{IngestOutcome, Now};
use super::notice::{Fault, Notice};
use super::store::index::{HistoryIndex, NewEvent};
use crate::units::{ClockQuality, Digest, RingId, SiteId, WallTime};
use crate::uplink::wire::{Ack, Health, State};

/// Bytes of one event at most: a journal slot of a device holds 3,840.
pub const EVENT_MAX: usize = 4 << 10;
/// Bytes of one state, birth, health message or reply at most. A reply may hold a whole
/// configuration.
const STATE_MAX: usize = 1 << 10;
const BIRTH_MAX: usize = 16 << 10;
const HEALTH_MAX: usize = 16 << 10;
const REPLY_MAX: usize = 160 << 10;
/// Seconds after which a ring that returns is a card that was put back. A device that another one
/// ends pauses 5 minutes at most.
const RETURN_SECONDS: i64 = 600;
/// Seconds between two health messages at most that count as watched: three of the usual ones. A
/// longer time was not watched.
const WATCHED_MAX: i64 = 180;
/// Replies stored for one site at most, the newest ones: a caller reads its reply within a minute.
const REPLIES_MAX: u64 = 64;
/// Ranges of sequence numbers in one event or reply at most: a device sends 10, or 32.
pub const RANGES_MAX: usize = 64;
/// Bytes of an id, of a type, of a time at most.
const ID_MAX: usize = 64;
const KIND_MAX: usize = 80;
const TIME_MAX: usize = 40;
/// Reason of events that the device reports as `gone`, in `office gaps`.
pub(super) const NOT_ON_DEVICE: &str = "not on the device any more";

fn invalid(what: &str) -> IngestOutcome {
    IngestOutcome::fault(Fault::MessageInvalid, what.to_owned())
}

/// True for `[A-Za-z0-9._-]`, at least one and at most `most`.
fn is_plain(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// True for text with the characters of a time. The queries compare it as text.
fn may_be_time(text: &str) -> bool {
    text.len() <= TIME_MAX
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b':' | b'+' | b'-'))
}

/// True for an id of an event.
pub(super) fn is_id(id: &str) -> bool {
    is_plain(id, ID_MAX)
}

fn is_number(number: u64) -> bool {
    i64::try_from(number).is_ok()
}

/// The fields of an event that the archive indexes.
#[derive(Debug)]
pub(super) struct Envelope {
    pub(super) id: String,
    kind: String,
    time: String,
    clock: ClockQuality,
    seq: u64,
    ring: RingId,
    data: Value,
}

/// Parses an event (CloudEvents 1.0 in JSON). The error names the invalid field. `id`, `type`,
/// `time` and `seq` are required.
pub(super) fn event_in(payload: &[u8]) -> Result<Envelope, String> {
    if payload.len() > EVENT_MAX {
        return Err(format!("the event has {} bytes, the maximum is {EVENT_MAX}", payload.len()));
    }
    let mut event: Map<String, Value> = serde_json::from_slice(payload)
        .map_err(|error| format!("the event is not a JSON object: {error}"))?;
    let text = |key: &str, good: &dyn Fn(&str) -> bool, what: &str| match event.get(key) {
        None => Err(format!("`{key}` is missing")),
        Some(value) => value
            .as_str()
            .filter(|text| good(text))
            .map(str::to_owned)
            .ok_or_else(|| format!("`{key}` is not {what}")),
    };
    let id = text("id", &|text| is_plain(text, ID_MAX), "1 to 64 of A-Z a-z 0-9 . _ -")?;
    let kind = text("type", &|text| is_plain(text, KIND_MAX), "1 to 80 of A-Z a-z 0-9 . _ -")?;
    let time = text("time", &may_be_time, "a time of at most 40 characters")?;
    let number =
        |key: &str| event.get(key).map(|value| value.as_u64().filter(|number| is_number(*number)));
    let seq =
        number("seq").ok_or("`seq` is missing")?.ok_or("`seq` is not a whole number below 2^63")?;
    for key in ["specversion", "source", "datacontenttype", "clock"] {
        if event.get(key).is_some_and(|value| !value.is_string()) {
            return Err(format!("`{key}` is not a string"));
        }
    }
    for key in ["boot", "mono"] {
        if number(key) == Some(None) {
            return Err(format!("`{key}` is not a whole number below 2^63"));
        }
    }
    let ring = event.remove("ring").map_or(Ok(RingId::default()), serde_json::from_value);
    let ring = ring.map_err(|_| "`ring` is not 16 hexadecimal digits")?;
    let data = event.remove("data").unwrap_or_default();
    if data["seq"].as_array().is_some_and(|ranges| ranges.len() > RANGES_MAX) {
        return Err(format!("`data.seq` has more than {RANGES_MAX} ranges"));
    }
    // Another word than the four is the worst quality.
    let clock = event.remove("clock").map(serde_json::from_value).and_then(Result::ok);
    Ok(Envelope { id, kind, time, clock: clock.unwrap_or_default(), seq, ring, data })
}

/// Writes what pages show of an event, in the transaction that stores it; `received` is the time of
/// the receipt as the index has it, and as a value.
pub(super) fn add_history(
    index: &dyn HistoryIndex,
    site: &str,
    event: &Envelope,
    received: (&str, WallTime),
) -> Result<Option<Change>, ArchiveError> {
    let (text, at) = received;
    let Envelope { id, kind, time, clock, data, .. } = event;
    if let Some(part) = MotionEvent::of(kind, id, (time, *clock), data, at) {
        index.add_motion(site, &part, text)?;
        return Ok(Some(Change::MotionEvent { site: site.to_owned(), id: part.id }));
    }
    if short_kind(kind) == "gap"
        && let Some(gap) = gap_in(data, at)
    {
        index.add_gap(site, (id, &event.ring.to_string()), &gap, text)?;
        return Ok(Some(Change::Site { site: site.to_owned() }));
    }
    if matches!(short_kind(kind), "camera.down" | "camera.up") {
        return Ok(Some(Change::Site { site: site.to_owned() }));
    }
    Ok(None)
}

/// Rejects an event for good: `event-refused` makes the device stop sending it.
fn rejected(payload: &[u8], reason: String) -> IngestOutcome {
    let ack = Some(Ack::EventRefused { sha256: Digest::of(payload), reason: reason.clone() });
    IngestOutcome { ack, ..invalid(&format!("an event: {reason}")) }
}

impl Archive {
    /// Stores one event. An event with a known id and other bytes is stored beside the first one,
    /// as its id, `~` and the first 16 digits of its SHA-256: a receipt is for bytes, and neither
    /// may be lost.
    pub(super) fn event(
        &mut self,
        site: &SiteId,
        payload: &[u8],
        now: Now<'_>,
    ) -> Result<IngestOutcome, ArchiveError> {
        let event = match event_in(payload) {
            Ok(event) => event,
            Err(reason) => return Ok(rejected(payload, reason)),
        };
        let (ring, sha256) = (event.ring.to_string(), Digest::of(payload));
        let same = self.index.event_equals(site.as_str(), &event.id, payload)?;
        let id = if same == Some(false) {
            format!("{}~{}", event.id, &sha256.hex()[..16])
        } else {
            event.id.clone()
        };
        let is_new = same != Some(true)
            && self.index.insert_event(&NewEvent {
                site: site.as_str(),
                id: &id,
                seq: event.seq,
                kind: &event.kind,
                time: &event.time,
                payload,
                received: now.text,
                ring: &ring,
            })?;
        if event.kind == "vn.taimat.shed.v1" && is_new {
            let reason = event.data["reason"].as_str().unwrap_or("shed");
            self.record_shed(site, &ring, &event.data["seq"], reason)?;
        }
        let mut change = None;
        if is_new && same.is_none() {
            let at = WallTime::parse(now.text).unwrap_or_default();
            change = add_history(&*self.index, site.as_str(), &event, (now.text, at))?;
        }
        let outcome = if is_new && same == Some(false) {
            IngestOutcome::fault(Fault::EventConflict, id)
        } else {
            IngestOutcome::default()
        };
        let Envelope { id, kind, time, seq, .. } = event;
        let notice = is_new.then(|| Notice::Event { site: site.clone(), seq, time, kind });
        Ok(IngestOutcome { ack: Some(Ack::Event { id, sha256 }), notice, change, ..outcome })
    }

    /// Stores a state. The state of an older connection is ignored: a broker publishes a will late.
    /// Connection numbers count within a ring, so another ring takes over with its first `online`.
    pub(super) fn state(
        &mut self,
        site: &SiteId,
        payload: &[u8],
        now: Now<'_>,
    ) -> Result<IngestOutcome, ArchiveError> {
        let state = Some(payload).filter(|payload| payload.len() <= STATE_MAX);
        let Some(state) = state.and_then(|payload| serde_json::from_slice::<State>(payload).ok())
        else {
            return Ok(invalid("a state"));
        };
        if !matches!(state.state.as_str(), "online" | "stopping" | "lost") || !is_number(state.conn)
        {
            return Ok(invalid("a state"));
        }
        let ring = state.ring.to_string();
        let before = self.index.ring_of(site.as_str())?;
        let is_set = self.index.set_state(site.as_str(), &state.state, state.conn, &ring)?;
        if is_set {
            let at = WallTime::parse(now.text).unwrap_or_default();
            let State { state, .. } = &state;
            self.index.add_presence(site.as_str(), state, at)?;
        }
        let notice = is_set.then(|| Notice::State { site: site.clone(), state: state.state });
        let outcome = match before.filter(|before| is_set && *before != ring) {
            Some(before) => self.ring_replaced(site, before, &ring, now.seconds),
            None => IngestOutcome::default(),
        };
        Ok(IngestOutcome { notice, change: Some(Change::of_site(site)), ..outcome })
    }

    /// Another ring is online. One that was replaced and returns within minutes is no new card: two
    /// devices run with this site.
    fn ring_replaced(
        &mut self,
        site: &SiteId,
        before: String,
        ring: &str,
        now: i64,
    ) -> IngestOutcome {
        let last = self.replaced.insert(site.clone(), (before.clone(), now));
        match last {
            Some((other, at)) if other == ring && now.saturating_sub(at) <= RETURN_SECONDS => {
                IngestOutcome::fault(Fault::TwoDevices, format!("rings {before} and {ring}"))
            }
            _ => IngestOutcome::default(),
        }
    }

    pub(super) fn birth(
        &mut self,
        site: &SiteId,
        payload: &[u8],
    ) -> Result<IngestOutcome, ArchiveError> {
        if payload.len() > BIRTH_MAX {
            return Ok(invalid("a birth"));
        }
        let text = String::from_utf8_lossy(payload);
        self.index.set_birth(site.as_str(), &text)?;
        Ok(IngestOutcome { change: Some(Change::of_site(site)), ..IngestOutcome::default() })
    }

    pub(super) fn health(
        &mut self,
        site: &SiteId,
        payload: &[u8],
        now: Now<'_>,
    ) -> Result<IngestOutcome, ArchiveError> {
        if payload.len() > HEALTH_MAX {
            return Ok(invalid("a health message"));
        }
        let health = serde_json::from_slice::<Health>(payload).ok();
        if let Some(health) = &health {
            self.add_health_history(site.as_str(), health, now.seconds)?;
        }
        let text = String::from_utf8_lossy(payload);
        self.index.set_health(site.as_str(), &text, now.seconds)?;
        let outcome = match &health {
            Some(health) => self.find_gaps(site, health, now.seconds)?,
            None => IngestOutcome::default(),
        };
        let device_time = health
            .as_ref()
            .and_then(|health| Some((WallTime::parse(&health.t).ok()?, health.clock)));
        Ok(IngestOutcome { change: Some(Change::of_site(site)), device_time, ..outcome })
    }

    /// Adds a health message to the history: its figures, what crossed the lines since the one
    /// before, and the seconds since then, as watched or as blind.
    fn add_health_history(
        &self,
        site: &str,
        health: &Health,
        now: i64,
    ) -> Result<(), ArchiveError> {
        let (before, at) = self.index.newest_health(site)?;
        let before = serde_json::from_str::<Health>(&before).ok();
        self.index.add_health(site, now, &figures(health))?;
        let hour = now.div_euclid(HOUR);
        for ((rule, way), n) in line_counts(before.as_ref(), health) {
            self.index.add_count(site, hour, (&rule, way), n)?;
        }
        let watched = now.saturating_sub(at);
        if before.is_some() && (1..=WATCHED_MAX).contains(&watched) {
            let is_blind = health.counters.get("motion.blind").is_some_and(|blind| *blind > 0);
            let way = if is_blind { "blind" } else { "watched" };
            self.index.add_count(site, hour, ("", way), watched.unsigned_abs())?;
        }
        Ok(())
    }

    pub(super) fn reply(
        &mut self,
        site: &SiteId,
        payload: &[u8],
        now: Now<'_>,
    ) -> Result<IngestOutcome, ArchiveError> {
        if payload.len() > REPLY_MAX {
            return Ok(invalid("a reply"));
        }
        let value: Value = serde_json::from_slice(payload).unwrap_or_default();
        if let Some(req_id) = value["req_id"].as_str().filter(|req_id| is_plain(req_id, ID_MAX)) {
            self.index.insert_reply(site.as_str(), req_id, payload, now.text, REPLIES_MAX)?;
        }
        let ring = value["data"]["ring"]
            .as_str()
            .filter(|ring| ring.len() == 16 && ring.bytes().all(|b| b.is_ascii_hexdigit()));
        if let Some(ring) = ring.filter(|_| value["cmd"] == "event-get") {
            let gone = &value["data"]["gone"];
            if gone.as_array().is_some_and(|ranges| ranges.len() > RANGES_MAX) {
                return Ok(invalid("a reply to event-get"));
            }
            self.record_shed(site, ring, gone, NOT_ON_DEVICE)?;
        }
        let change = value["req_id"]
            .as_str()
            .filter(|req_id| is_plain(req_id, ID_MAX))
            .map(|req_id| Change::Reply { site: site.to_string(), req_id: req_id.to_owned() });
        Ok(IngestOutcome { change, ..IngestOutcome::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(change: &str) -> Vec<u8> {
        let event = r#"{"specversion":"1.0","id":"E1","ring":"0000000000000001","source":"taimat/km-17","type":"t","time":"2026-11-24T02:10:00.000Z","datacontenttype":"application/json","seq":1,"clock":"ntp","boot":1,"mono":1,"data":{}}"#;
        let (from, to) = change.split_once('>').unwrap_or(("", ""));
        event.replacen(from, to, 1).into_bytes()
    }

    #[test]
    fn an_event_beyond_a_limit_of_docs_mqtt_is_invalid() {
        assert!(event_in(&event("")).is_ok());
        let ranges =
            |n| format!("\"data\":{{}}>\"data\":{{\"seq\":[{}[1,1]]}}", "[1,1],".repeat(n - 1));
        assert!(event_in(&event(&ranges(RANGES_MAX))).is_ok());
        let long = format!("\"data\":{{}}>\"data\":{{\"a\":\"{}\"}}", "x".repeat(EVENT_MAX));
        let kind = format!("\"type\":\"t\">\"type\":\"{}\"", "t".repeat(KIND_MAX + 1));
        let changes = [
            "\"seq\":1>\"seq\":9223372036854775808",
            "\"seq\":1>\"seq\":-1",
            "\"mono\":1>\"mono\":18446744073709551615",
            "\"type\":\"t\">\"type\":\"t\\u001b[2J\"",
            "\"id\":\"E1\">\"id\":\"\"",
            "\"id\":\"E1\">\"id\":\"E1~a\"",
            "2026-11-24T02>2026\\n11",
            &long,
            &kind,
            &ranges(RANGES_MAX + 1),
        ];
        for change in changes {
            assert!(event_in(&event(change)).is_err(), "{change}");
        }
    }
}
