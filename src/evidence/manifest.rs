//! What a file says of itself. The manifest travels beside the file; the about box travels inside it, so that a clip copied
//! from the archive to a stick still says where and when it was taken.
//!
//! What belongs here: filling a [`Manifest`] and the about box made from it. What does not: hashing (the clip worker), sending.

use serde::{Deserialize, Serialize};

use crate::storage::{FragmentRef, Gap, Span};
use crate::units::{ClockQuality, Digest, SiteId, Timestamp};

/// Type of the box that says what the clip is, as JSON: UUID `74 61 69 6d 61 74 2d 61 62 6f 75 74 2d 76 31 00` ("taimat-about-v1").
pub const ABOUT_BOX: [u8; 16] = *b"taimat-about-v1\0";
/// Holes listed in one manifest at most: an outbox entry is one 4 KiB journal slot. Further gaps are merged into the last.
pub const GAPS_MAX: usize = 8;
/// Stretches of missing record numbers in one manifest at most: 24 bytes each, in what is left of the same slot.
pub const MISSING_MAX: usize = 24;

/// What a file is: sent in `init`, its SHA-256 names the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// 1.
    pub v: u32,
    /// Site it comes from.
    pub site: String,
    /// File name proposed to the office, `[a-z0-9._-]` only.
    pub name: String,
    /// `clip`, `snapshot` or `requested`.
    pub purpose: Purpose,
    /// `video/mp4` or `image/jpeg`.
    pub media_type: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of the whole file.
    pub sha256: Digest,
    /// The event it belongs to, or the request it answers.
    pub event: String,
    /// Wall time of its first picture, RFC 3339.
    pub from: String,
    /// Wall time of its end, RFC 3339.
    pub to: String,
    /// How far those times can be trusted.
    pub clock: ClockQuality,
    /// First and last record of the ring in it; (0, 0) for a snapshot.
    pub records: (u64, u64),
    /// Holes inside, each `from`, `to` and reason.
    pub gaps: Vec<(String, String, String)>,
    /// Numbers between `records` that are not in it, `[first, last]`: gaps have numbers of their own, and so has footage that
    /// was evicted or damaged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<(u64, u64)>,
    /// Which piece of the range it is, from 1.
    pub part: u32,
    /// No further piece follows.
    pub last: bool,
}

impl Manifest {
    /// The bytes that are hashed into the file id: this struct as compact JSON in field order.
    pub fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// File id: the first 32 hex digits of SHA-256 of [`Manifest::bytes`]; retries are idempotent, content never mixes.
    pub fn fid(&self) -> String {
        Digest::of(&self.bytes()).hex()[..32].to_owned()
    }
}

/// What a file is for: decides its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// The clip of an event.
    Clip,
    /// The best picture of an event.
    Snapshot,
    /// A range somebody asked for.
    Requested,
}

/// The about box: the manifest without what only the finished file can tell.
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

/// JSON of the about box. A function of the manifest alone, so that the same bytes come out after a restart. Its last member,
/// `digest`, is SHA-256 of the document without it: what no record can vouch for must not change unseen either.
pub fn about(manifest: &Manifest) -> Vec<u8> {
    let Manifest { v, site, purpose, event, from, to, clock, records, gaps, missing, part, last, .. } = manifest;
    let (v, purpose, clock, records, part, last) = (*v, *purpose, *clock, *records, *part, *last);
    let about = About { v, site, purpose, event, from, to, clock, records, gaps, missing, part, last };
    let mut bytes = serde_json::to_vec(&about).unwrap_or_default();
    let digest = Digest::of(&bytes);
    bytes.pop();
    bytes.extend(DIGEST_MEMBER);
    bytes.extend(digest.hex().as_bytes());
    bytes.extend(b"\"}");
    bytes
}

/// What leads to the digest at the end of an about box.
const DIGEST_MEMBER: &[u8] = b",\"digest\":\"";

/// True when an about box ends with the digest of the rest of it.
pub fn is_whole(about: &[u8]) -> bool {
    let Some(at) = about.len().checked_sub(DIGEST_MEMBER.len() + 64 + 2) else {
        return false;
    };
    let without = [&about[..at], b"}"].concat();
    about[at..] == [DIGEST_MEMBER, Digest::of(&without).hex().as_bytes(), b"\"}"].concat()
}

/// The manifest of a clip before its size and digest are known.
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

/// The manifest of a snapshot, complete.
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

/// `{site}-{purpose}-{time}-{end of the event id}[-{part}].{ext}`: sorts by time, unique, safe on any file system.
fn file_name(site: &SiteId, purpose: Purpose, event: &str, part: u32, at: Timestamp, ext: &str) -> String {
    let time: String = at.wall.rfc3339().chars().take(19).filter(char::is_ascii_alphanumeric).collect();
    let word = match purpose {
        Purpose::Clip => "clip",
        Purpose::Snapshot => "snapshot",
        Purpose::Requested => "requested",
    };
    let tail: String =
        event.chars().rev().filter(char::is_ascii_alphanumeric).take(8).collect::<Vec<_>>().into_iter().rev().collect();
    let part = if part > 1 { format!("-{part}") } else { String::new() };
    format!("{site}-{word}-{time}z-{tail}{part}.{ext}").to_ascii_lowercase()
}

fn gap_list(gaps: &[Gap]) -> Vec<(String, String, String)> {
    let line = |gap: &Gap| (gap.from.wall.rfc3339(), gap.to.wall.rfc3339(), gap.reason.as_str().to_owned());
    let mut list: Vec<_> = gaps.iter().take(GAPS_MAX).map(line).collect();
    if let (Some(last), Some(shown)) = (gaps.get(GAPS_MAX..).and_then(<[Gap]>::last), list.last_mut()) {
        shown.1 = last.to.wall.rfc3339();
        shown.2 = "several".into();
    }
    list
}

/// The numbers between fragments that are not among them.
fn missing(fragments: &[FragmentRef]) -> Vec<(u64, u64)> {
    let skipped =
        fragments.windows(2).filter(|pair| pair[0].seq + 1 < pair[1].seq).map(|pair| (pair[0].seq + 1, pair[1].seq - 1));
    bounded(skipped.collect())
}

/// Beyond the bound the last range takes in all that follow, so that it then holds numbers that are there.
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
    use crate::storage::GapReason;
    use crate::units::{MonoTime, WallTime};

    fn site() -> SiteId {
        SiteId::parse("km-17").unwrap()
    }

    #[test]
    fn a_file_name_sorts_by_time_and_is_safe() {
        let at = Timestamp { wall: WallTime(1_790_000_000_123_456), ..Timestamp::default() };
        let manifest = of_still(&site(), "01JDABCDEFGHJKMNPQRSTVWXYZ", at, b"jpeg");
        assert_eq!(manifest.name, "km-17-snapshot-20260921t141320z-rstvwxyz.jpg");
        assert_eq!((manifest.size, manifest.sha256), (4, Digest::of(b"jpeg")));
    }

    #[test]
    fn many_holes_stay_within_an_outbox_entry_and_none_is_hidden() {
        let stamp = |n: u64| Timestamp { mono: MonoTime(n), wall: WallTime(n as i64 * 1_000_000), ..Timestamp::default() };
        let gaps: Vec<Gap> =
            (0..20).map(|n| Gap { from: stamp(n), to: stamp(n + 1), reason: GapReason::FellBehind, bytes: 0 }).collect();
        let list = gap_list(&gaps);
        assert_eq!(list.len(), GAPS_MAX);
        assert_eq!((list[7].1.clone(), list[7].2.as_str()), (WallTime(20_000_000).rfc3339(), "several"));
        assert_eq!(gap_list(&gaps[..2])[1].2, "fell_behind");
    }
}
