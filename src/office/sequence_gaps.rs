//! Missing sequence numbers: search below the confirmed watermark, request, record of losses.

use serde_json::{Value, json};

use super::archive::Archive;
use super::error::ArchiveError;
use super::ingest_outcome::{IngestOutcome, SiteCommand};
use super::notice::Notice;
use crate::units::SiteId;
use crate::uplink::wire::Health;

/// Ranges of one request at most.
const REQUEST_RANGES_MAX: usize = 16;
/// Sequence numbers searched for one health message at most.
const SEARCH_MAX: u64 = 100_000;
/// Seconds between two requests for one ring.
const REQUEST_INTERVAL: i64 = 600;
/// Seconds between two searches for one site: a device decides how often it sends a health message.
const SEARCH_INTERVAL: i64 = 4;
/// Rings of one site at most: a site has one for each card.
const RINGS_MAX: u64 = 64;
/// Ranges recorded as lost for one ring at most.
const LOST_RANGES_MAX: usize = 4096;
/// Bytes of a reason at most.
const REASON_MAX: usize = 80;

impl Archive {
    /// Records ranges `[[first, last], …]` as lost, with the reason.
    pub(super) fn record_shed(
        &self,
        site: &SiteId,
        ring: &str,
        ranges: &Value,
        reason: &str,
    ) -> Result<(), ArchiveError> {
        let number = |value: &Value| value.as_u64().and_then(|number| i64::try_from(number).ok());
        let many = self.index.count_lost(site.as_str(), ring)?;
        let end = (0..=reason.len().min(REASON_MAX))
            .rev()
            .find(|at| reason.is_char_boundary(*at))
            .unwrap_or(0);
        for range in
            ranges.as_array().into_iter().flatten().take(LOST_RANGES_MAX.saturating_sub(many))
        {
            if let (Some(first), Some(last)) = (number(&range[0]), number(&range[1])) {
                self.index.insert_lost(site.as_str(), ring, (first, last), &reason[..end])?;
            }
        }
        Ok(())
    }

    /// Searches for gaps below the confirmed watermark of a health message (`now` is Unix time).
    /// The device has receipts for those numbers, so the office lost them and requests them again.
    pub(super) fn find_gaps(
        &mut self,
        site: &SiteId,
        health: &Health,
        now: i64,
    ) -> Result<IngestOutcome, ArchiveError> {
        let (ring, confirmed) = (health.ring.to_string(), health.watermarks.confirmed);
        let lately = |seen: &i64| now - *seen < SEARCH_INTERVAL && now >= *seen;
        if i64::try_from(confirmed).is_err()
            || self.looked_at.get(site).is_some_and(lately)
            || !self.index.has_room_for_ring(site.as_str(), &ring, RINGS_MAX)?
        {
            return Ok(IngestOutcome::default());
        }
        self.looked_at.insert(site.clone(), now);
        let (complete, asked) = self.index.confirm_ring(site.as_str(), &ring, confirmed)?;
        let until = confirmed.min(complete + SEARCH_MAX);
        let missing = self.missing(site.as_str(), &ring, complete + 1, until)?;
        let complete = missing.first().map_or(until, |(first, _)| first - 1);
        let is_due = !missing.is_empty() && now - asked >= REQUEST_INTERVAL;
        let asked = if is_due { now } else { asked };
        self.index.set_ring_search(site.as_str(), &ring, complete, asked)?;
        let ranges: Vec<[u64; 2]> =
            missing.iter().take(REQUEST_RANGES_MAX).map(|(first, last)| [*first, *last]).collect();
        if !is_due {
            return Ok(IngestOutcome::default());
        }
        let body = json!({"req_id": format!("gaps-{now}"), "ring": ring, "seq": ranges});
        let command = Some(SiteCommand { name: "event-get", body });
        let notice = Some(Notice::EventsRequested { site: site.clone(), ranges });
        Ok(IngestOutcome { command, notice, ..IngestOutcome::default() })
    }

    /// The ranges `[first, last]` of `from..=to` that are neither stored nor recorded as lost.
    pub(super) fn missing(
        &self,
        site: &str,
        ring: &str,
        from: u64,
        to: u64,
    ) -> Result<Vec<(u64, u64)>, ArchiveError> {
        let there = self.index.accounted(site, ring, from, to)?;
        let missing = there.missing(from, to.saturating_add(1), usize::MAX);
        Ok(missing.into_iter().map(|(first, end)| (first, end - 1)).collect())
    }
}
