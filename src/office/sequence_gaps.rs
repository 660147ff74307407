//! Missing sequence numbers: search below the confirmed watermark, request, record of losses.

use rusqlite::params;
use serde_json::{Value, json};

use super::archive::Archive;
use super::error::ArchiveError;
use super::ingest_outcome::{IngestOutcome, SiteCommand};
use super::notice::Notice;
use super::range_set::Ranges;
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
        let many = "SELECT count(*) FROM given_up WHERE site = ?1 AND ring = ?2";
        let many: usize = self
            .index
            .db
            .prepare_cached(many)?
            .query_row(params![site.as_str(), ring], |row| row.get(0))?;
        let end = (0..=reason.len().min(REASON_MAX))
            .rev()
            .find(|at| reason.is_char_boundary(*at))
            .unwrap_or(0);
        for range in
            ranges.as_array().into_iter().flatten().take(LOST_RANGES_MAX.saturating_sub(many))
        {
            // Numbers count from 1: a range with 0 or of nothing says nothing.
            let stretch = number(&range[0]).zip(number(&range[1]));
            if let Some((first, last)) =
                stretch.filter(|(first, last)| 1 <= *first && first <= last)
            {
                self.index.change(
                    "INSERT OR IGNORE INTO given_up (site, ring, first, last, reason) VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![site.as_str(), ring, first, last, &reason[..end]],
                )?;
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
            || !self.has_room_for(site, &ring)?
        {
            return Ok(IngestOutcome::default());
        }
        self.looked_at.insert(site.clone(), now);
        self.index.change(
            "INSERT INTO rings (site, ring, confirmed) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET confirmed = max(confirmed, ?3)",
            params![site.as_str(), ring, confirmed],
        )?;
        let query = "SELECT complete, asked FROM rings WHERE site = ?1 AND ring = ?2";
        let (complete, asked): (u64, i64) =
            self.index.db.query_row(query, params![site.as_str(), ring], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        let until = confirmed.min(complete + SEARCH_MAX);
        let missing = self.missing(site.as_str(), &ring, complete + 1, until)?;
        let complete = missing.first().map_or(until, |(first, _)| first - 1);
        let is_due = !missing.is_empty() && now - asked >= REQUEST_INTERVAL;
        self.index.change(
            "UPDATE rings SET complete = ?3, asked = ?4 WHERE site = ?1 AND ring = ?2",
            params![site.as_str(), ring, complete, if is_due { now } else { asked }],
        )?;
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

    /// True for a known ring, and for a new one within the bound.
    fn has_room_for(&self, site: &SiteId, ring: &str) -> Result<bool, ArchiveError> {
        let query = "SELECT count(*) < ?3 OR max(ring = ?2) FROM rings WHERE site = ?1";
        Ok(self
            .index
            .db
            .prepare_cached(query)?
            .query_row(params![site.as_str(), ring, RINGS_MAX], |row| row.get(0))?)
    }

    /// The sequence numbers of the stored events of a ring.
    pub(super) fn received(&self, site: &str, ring: &str) -> Result<Ranges, ArchiveError> {
        let mut received = Ranges::default();
        let query = "SELECT seq FROM events WHERE site = ?1 AND ring = ?2 ORDER BY seq";
        let mut query = self.index.db.prepare_cached(query)?;
        let mut rows = query.query(params![site, ring])?;
        while let Some(row) = rows.next()? {
            let seq: u64 = row.get(0)?;
            received.add(seq, seq + 1);
        }
        Ok(received)
    }

    /// The ranges `[first, last]` of `from..=to` that are neither stored nor recorded as lost.
    pub(super) fn missing(
        &self,
        site: &str,
        ring: &str,
        from: u64,
        to: u64,
    ) -> Result<Vec<(u64, u64)>, ArchiveError> {
        let mut there = Ranges::default();
        let mut query = self.index.db.prepare_cached(
            "SELECT seq, seq FROM events WHERE site = ?1 AND ring = ?2 AND seq BETWEEN ?3 AND ?4
             UNION ALL SELECT first, last FROM given_up WHERE site = ?1 AND ring = ?2 AND last >= ?3 AND first <= ?4",
        )?;
        let mut rows = query.query(params![site, ring, from, to])?;
        while let Some(row) = rows.next()? {
            there.add(row.get(0)?, row.get::<_, u64>(1)?.saturating_add(1));
        }
        let missing = there.missing(from, to.saturating_add(1), usize::MAX);
        Ok(missing.into_iter().map(|(first, end)| (first, end - 1)).collect())
    }
}
