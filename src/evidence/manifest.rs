//! Manifests and about boxes: describe a clip or snapshot, beside the file and inside it.
//!
//! The about box is part of the clip, so that a copy of the clip still states its site and time.

use serde::{Deserialize, Serialize};

use crate::storage::{FragmentRef, Gap, GapReason, Span};
use crate::units::{ClockQuality, Digest, SiteId, Timestamp};

/// Extended type of the about box, which contains JSON: UUID `74 61 69 6d 61 74 2d 61 62 6f 75 74
/// 2d 76 31 00` ("taimat-about-v1").
pub const ABOUT_BOX: [u8; 16] = *b"taimat-about-v1\0";
/// Most gaps in a manifest, because an outbox entry is one 4 KiB journal slot. Beyond it, the last
/// gap covers the rest.
pub const GAPS_MAX: usize = 8;
/// Most stretches of missing records in a manifest: 24 bytes each, in the rest of the same slot.
/// Beyond it, the last stretch covers the rest.
pub const MISSING_MAX: usize = 24;

/// Description of a file, sent in `init` before its content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the manifest: 1.
    pub v: u32,
    /// Site that recorded it.
    pub site: String,
    /// File name proposed to the office, only `[a-z0-9._-]`.
    pub name: String,
    /// Purpose of the file.
    pub purpose: Purpose,
    /// `video/mp4` or `image/jpeg`.
    pub media_type: String,
    /// Size of the file, bytes.
    pub size: u64,
    /// SHA-256 of the whole file.
    pub sha256: Digest,
    /// Id of the event it belongs to, or of the request it answers.
    pub event: String,
    /// Wall time of its first frame, RFC 3339.
    pub from: String,
    /// Wall time of its end, RFC 3339.
    pub to: String,
    /// Quality of the clock that these times come from.
    pub clock: ClockQuality,
    /// First and last record number in it; (0, 0) for a snapshot.
    pub records: (u64, u64),
    /// Gaps in it, and between the range that it was made for and its begin and end: `from`, `to` and
    /// reason.
    pub gaps: Vec<(String, String, String)>,
    /// Record numbers between `records` that are not in it, `[first, last]`: gap records, and
    /// footage that was evicted or damaged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<(u64, u64)>,
    /// Number of this part of the requested range, from 1.
    pub part: u32,
    /// True if no further part follows.
    pub last: bool,
}

impl Manifest {
    /// The bytes of the file id digest: this struct as compact JSON in field order.
    pub fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// File id: the first 32 hex digits of SHA-256 of [`Manifest::bytes`]. Retries have the same
    /// id, other content has another one.
    pub fn fid(&self) -> String {
        Digest::of(&self.bytes()).hex()[..32].to_owned()
    }
}

/// Purpose of a file; determines its transfer priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// The clip of an event.
    Clip,
    /// The best picture of an event.
    Snapshot,
    /// Footage that the office requested.
    Requested,
}

/// Content of the about box: the manifest without the fields that need the finished file.
#[derive(Serialize)]
struct About<'a> {
    v: u32,
    site: &'a str,
    purpose: Purpose,
    event: &'a str,
    from: &'a str,
    to: &'a str,
    clock: ClockQuality,
    records: (u64, u64),
    gaps: &'a [(String, String, String)],
    missing: &'a [(u64, u64)],
    part: u32,
    last: bool,
}

/// The JSON of the about box. Derived from the manifest alone, so that it is the same after a
/// restart.
///
/// Its last member, `digest`, is SHA-256 of the document without it; it detects changes of fields
/// that no record covers.
pub fn about(manifest: &Manifest) -> Vec<u8> {
    let Manifest {
        v,
        site,
        purpose,
        event,
        from,
        to,
        clock,
        records,
        gaps,
        missing,
        part,
        last,
        ..
    } = manifest;
    let (v, purpose, clock, records, part, last) = (*v, *purpose, *clock, *records, *part, *last);
    let about =
        About { v, site, purpose, event, from, to, clock, records, gaps, missing, part, last };
    let mut bytes = serde_json::to_vec(&about).unwrap_or_default();
    let digest = Digest::of(&bytes);
    bytes.pop();
    bytes.extend(DIGEST_MEMBER);
    bytes.extend(digest.hex().as_bytes());
    bytes.extend(b"\"}");
    bytes
}

/// Start of the `digest` member at the end of an about box.
const DIGEST_MEMBER: &[u8] = b",\"digest\":\"";

/// True when an about box ends with the right digest.
pub fn is_whole(about: &[u8]) -> bool {
    let Some(at) = about.len().checked_sub(DIGEST_MEMBER.len() + 64 + 2) else {
        return false;
    };
    let without = [&about[..at], b"}"].concat();
    about[at..] == [DIGEST_MEMBER, Digest::of(&without).hex().as_bytes(), b"\"}"].concat()
}

/// The manifest of a clip; its size and digest are filled in later.
pub fn of_span(site: &SiteId, purpose: Purpose, event: &str, part: u32, span: &Span) -> Manifest {
    let (from, to, records) = match (span.fragments.first(), span.fragments.last()) {
        (Some(first), Some(last)) => (first.start, last.end(), (first.seq, last.seq)),
        _ => (Timestamp::default(), Timestamp::default(), (0, 0)),
    };
    let clock = span.fragments.iter().map(|f| f.start.quality).min().unwrap_or_default();
    Manifest {
        v: 1,
        site: site.to_string(),
        name: file_name(site, purpose, event, part, from, "mp4"),
        purpose,
        media_type: "video/mp4".into(),
        size: 0,
        sha256: Digest::default(),
        event: event.to_owned(),
        from: from.wall.rfc3339(),
        to: to.wall.rfc3339(),
        clock,
        records,
        gaps: gap_list(&span.gaps),
        missing: missing(&span.fragments),
        part,
        last: !span.more,
    }
}

/// The complete manifest of a snapshot.
pub fn of_still(site: &SiteId, event: &str, at: Timestamp, jpeg: &[u8]) -> Manifest {
    Manifest {
        v: 1,
        site: site.to_string(),
        name: file_name(site, Purpose::Snapshot, event, 1, at, "jpg"),
        purpose: Purpose::Snapshot,
        media_type: "image/jpeg".into(),
        size: jpeg.len() as u64,
        sha256: Digest::of(jpeg),
        event: event.to_owned(),
        from: at.wall.rfc3339(),
        to: at.wall.rfc3339(),
        clock: at.quality,
        records: (0, 0),
        gaps: Vec::new(),
        missing: Vec::new(),
        part: 1,
        last: true,
    }
}

/// `{site}-{purpose}-{time}-{end of the event id}[-{part}].{ext}`: sorts by time, is unique, and is
/// valid on any file system.
fn file_name(
    site: &SiteId,
    purpose: Purpose,
    event: &str,
    part: u32,
    at: Timestamp,
    ext: &str,
) -> String {
    let time: String =
        at.wall.rfc3339().chars().take(19).filter(char::is_ascii_alphanumeric).collect();
    let word = match purpose {
        Purpose::Clip => "clip",
        Purpose::Snapshot => "snapshot",
        Purpose::Requested => "requested",
    };
    let tail: String = event
        .chars()
        .rev()
        .filter(char::is_ascii_alphanumeric)
        .take(8)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .collect();
    let part = if part > 1 { format!("-{part}") } else { String::new() };
    format!("{site}-{word}-{time}z-{tail}{part}.{ext}").to_ascii_lowercase()
}

fn gap_list(gaps: &[Gap]) -> Vec<(String, String, String)> {
    let line = |gap: &Gap| {
        (gap.from.wall.rfc3339(), gap.to.wall.rfc3339(), gap.reason.as_str().to_owned())
    };
    bounded_gaps(gaps.iter().map(line).collect())
}

/// At most [`GAPS_MAX`] gaps; the last one covers those behind it.
fn bounded_gaps(mut list: Vec<(String, String, String)>) -> Vec<(String, String, String)> {
    if let Some((_, to, _)) = list.get(GAPS_MAX..).and_then(<[_]>::last).cloned() {
        list.truncate(GAPS_MAX);
        let last = &mut list[GAPS_MAX - 1];
        (last.1, last.2) = (to, "several".into());
    }
    list
}

/// Completes the manifest of a clip that is built again from the records of `before`: it keeps the
/// gaps before and behind them, and names the records that are no longer there at either end. Size
/// and digest are filled in later.
pub fn keep_edges(again: &mut Manifest, before: &Manifest) {
    again.last = before.last;
    let (records, missing) = (again.records, &again.missing);
    if records == before.records && *missing == before.missing {
        again.gaps = before.gaps.clone();
        return;
    }
    // All times have one format, so that their order is that of their text.
    let is_before = |gap: &&(String, String, String)| gap.1 <= before.from;
    let is_behind = |gap: &&(String, String, String)| gap.0 >= before.to;
    let is_named = |range: (&String, &String)| {
        again.gaps.iter().any(|gap| gap.0 <= *range.0 && gap.1 >= *range.1)
    };
    let gone = |from: &String, to: &String| {
        (!is_named((from, to)))
            .then(|| (from.clone(), to.clone(), GapReason::EvictedPinned.as_str().to_owned()))
    };
    let begin = (records.0 > before.records.0).then(|| gone(&before.from, &again.from)).flatten();
    let end = (records.1 < before.records.1).then(|| gone(&again.to, &before.to)).flatten();
    let front = before.gaps.iter().filter(is_before).cloned().chain(begin);
    let back = end.into_iter().chain(before.gaps.iter().filter(is_behind).cloned());
    again.gaps = bounded_gaps(front.chain(again.gaps.iter().cloned()).chain(back).collect());
}

/// The record numbers between fragments that are not among them.
fn missing(fragments: &[FragmentRef]) -> Vec<(u64, u64)> {
    let skipped = fragments
        .windows(2)
        .filter(|pair| pair[0].seq + 1 < pair[1].seq)
        .map(|pair| (pair[0].seq + 1, pair[1].seq - 1));
    bounded(skipped.collect())
}

/// Limits a list to [`MISSING_MAX`] ranges. The last range then covers all that follow, including
/// records that are present.
pub fn bounded(mut list: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    if let Some((_, end)) = list.last().copied().filter(|_| list.len() > MISSING_MAX) {
        list.truncate(MISSING_MAX);
        list[MISSING_MAX - 1].1 = end;
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{MonoTime, WallTime};

    fn site() -> SiteId {
        SiteId::parse("km-17").unwrap()
    }

    #[test]
    fn a_file_name_contains_the_time_and_safe_characters() {
        let at = Timestamp { wall: WallTime(1_790_000_000_123_456), ..Timestamp::default() };
        let manifest = of_still(&site(), "01JDABCDEFGHJKMNPQRSTVWXYZ", at, b"jpeg");
        assert_eq!(manifest.name, "km-17-snapshot-20260921t141320z-rstvwxyz.jpg");
        assert_eq!((manifest.size, manifest.sha256), (4, Digest::of(b"jpeg")));
    }

    #[test]
    fn a_rebuilt_clip_keeps_its_edges_and_names_lost_ones() {
        let text = |n: i64| WallTime(n * 1_000_000).rfc3339();
        let gap = |from, to, reason: &str| (text(from), text(to), reason.to_owned());
        let still = of_still(&site(), "e", Timestamp::default(), b"jpeg");
        let front = gap(1, 5, "evicted_pinned");
        let records = (5, 9);
        let gaps = vec![front.clone()];
        let before = Manifest { from: text(5), to: text(10), records, gaps, last: false, ..still };
        let mut again = Manifest { gaps: Vec::new(), last: true, ..before.clone() };
        keep_edges(&mut again, &before);
        assert_eq!(again, before);
        let mut less =
            Manifest { from: text(7), records: (7, 9), gaps: Vec::new(), ..before.clone() };
        keep_edges(&mut less, &before);
        assert_eq!(less.gaps, [front, gap(5, 7, "evicted_pinned")]);
    }

    #[test]
    fn many_gaps_fit_an_outbox_entry_and_all_are_covered() {
        let stamp = |n: u64| Timestamp {
            mono: MonoTime(n),
            wall: WallTime(n as i64 * 1_000_000),
            ..Timestamp::default()
        };
        let gaps: Vec<Gap> = (0..20)
            .map(|n| Gap {
                from: stamp(n),
                to: stamp(n + 1),
                reason: GapReason::FellBehind,
                bytes: 0,
            })
            .collect();
        let list = gap_list(&gaps);
        assert_eq!(list.len(), GAPS_MAX);
        assert_eq!(
            (list[7].1.clone(), list[7].2.as_str()),
            (WallTime(20_000_000).rfc3339(), "several")
        );
        assert_eq!(gap_list(&gaps[..2])[1].2, "fell_behind");
    }
}
