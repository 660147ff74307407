//! Checking a clip that left a box: every record's checksum and content digest, and the chain from each record to the next.
//!
//! What belongs here: that check, pure. What does not: signatures (the clip carries none yet; a chain inside one file proves that
//! it is whole and unaltered since it was cut, not who cut it).

use super::manifest::ABOUT_BOX;
use crate::storage::boxes::{move_times, timescales};
use crate::storage::format::{RECORD_BOX, RECORD_TYPE, Record, box_at};
use crate::units::Digest;

/// What was found in a clip.
#[derive(Debug, Default, serde::Serialize)]
pub struct Report {
    /// What the clip says of itself.
    pub about: serde_json::Value,
    /// Records in it.
    pub records: u64,
    /// First and last number.
    pub numbers: Option<(u64, u64)>,
    /// The first record starts with a key frame.
    pub begins_with_key: bool,
    /// Bytes of the clip.
    pub size: u64,
    /// SHA-256 of the whole file.
    pub sha256: Digest,
    /// Everything that is wrong, with its offset.
    pub problems: Vec<String>,
}

/// Checks a whole clip.
///
/// # Errors
/// When it is no clip of taimat at all.
pub fn check(clip: &[u8]) -> Result<Report, String> {
    let mut report = Report { size: clip.len() as u64, sha256: Digest::of(clip), ..Report::default() };
    let mut at = 0;
    let mut file = File::default();
    while at < clip.len() {
        let Some((name, len)) = box_at(clip, at) else {
            report.problems.push(format!("offset {at}: no box begins here"));
            break;
        };
        let kind = clip.get(at + 8..at + 24).unwrap_or_default();
        if name == *b"uuid" && kind == ABOUT_BOX {
            report.about = serde_json::from_slice(clip.get(at + 24..at + len).unwrap_or_default()).unwrap_or_default();
        }
        if name == *b"moov" {
            file.scales = timescales(clip.get(at + 8..at + len).unwrap_or_default());
        }
        if name == *b"uuid" && kind == RECORD_TYPE {
            at += record(clip, at, &mut file, &mut report);
        } else {
            at += len;
        }
    }
    if report.about.is_null() && report.records == 0 {
        return Err("not a clip of taimat: it has neither an about box nor records".into());
    }
    Ok(report)
}

/// What is known of the file so far.
#[derive(Default)]
struct File {
    /// Ticks a second of its tracks.
    scales: Vec<u32>,
    /// Where its decode times count from, microseconds on the media clock.
    base: u64,
    /// The record before.
    last: Option<Record>,
}

/// Checks one record and its place in the chain; gives its length. The content digest and the chain hold wherever a fragment
/// lies; the record's checksum is for the card, where the decode times are other bytes.
fn record(clip: &[u8], at: usize, file: &mut File, report: &mut Report) -> usize {
    let Some(record) = Record::decode(&clip[at..]) else {
        report.problems.push(format!("offset {at}: a record that cannot be read"));
        return RECORD_BOX;
    };
    let len = record.len as usize;
    if file.last.is_none() {
        file.base = record.media.saturating_sub(u64::from(record.lead) * 1000);
    }
    let mut content = clip.get(at + RECORD_BOX..at + len).unwrap_or_default().to_vec();
    move_times(&mut content, &file.scales, file.base, record.media);
    if Digest::of(&content) != record.content {
        report.problems.push(format!("offset {at}: record {} was altered or damaged", record.seq));
    }
    match &file.last {
        None => report.begins_with_key = record.key,
        // A hole in time is a record of its own, which a clip does not carry: the next number then skips it.
        Some(before) if before.seq + 1 == record.seq && before.link() != record.previous => {
            report.problems.push(format!("offset {at}: record {} does not follow from record {}", record.seq, before.seq));
        }
        Some(before) if record.seq <= before.seq => {
            report.problems.push(format!("offset {at}: record {} comes after record {}", record.seq, before.seq));
        }
        Some(_) => {}
    }
    let first = report.numbers.map_or(record.seq, |(first, _)| first);
    report.numbers = Some((first, record.seq));
    report.records += 1;
    file.last = Some(record);
    len
}
