//! Checking a clip that left a box: that it holds the records its about box names, each whole by its digest and checksum, each
//! following from the one before.
//!
//! What belongs here: that check, pure. What does not: its head ([`super::head_check`]), signatures. Nothing is signed in this version: the
//! check finds damage, in every bit of the file, and changes by somebody who does not know the format. Whoever does can write head,
//! records and about box that fit each other.

use serde::Deserialize;

use super::head_check;
use super::manifest::{ABOUT_BOX, bounded, is_whole};
use crate::format::mp4::{move_times, timescales};
use crate::format::record::{RECORD_BOX, RECORD_TYPE, RingRecord, box_at};
use crate::format::segment_head::SEGMENT_TYPE;
use crate::units::{ClockQuality, Digest};

/// The boxes before the first record, in this order.
const HEAD: [[u8; 4]; 3] = [*b"ftyp", *b"moov", *b"uuid"];

/// What was found in a clip.
#[derive(Debug, Default, serde::Serialize)]
pub struct Report {
    /// What the clip says of itself.
    pub about: serde_json::Value,
    /// Records in it.
    pub records: u64,
    /// First and last number.
    pub numbers: Option<(u64, u64)>,
    /// Numbers between them that are not in it, `[first, last]`, as far as the about box names them.
    pub missing: Vec<(u64, u64)>,
    /// End of the record before each of them and start of the one behind, as they were recorded.
    pub missing_times: Vec<(String, String)>,
    /// The first record starts with a key frame.
    pub begins_with_key: bool,
    /// Bytes of the clip.
    pub size: u64,
    /// SHA-256 of the whole file.
    pub sha256: Digest,
    /// False: this version signs nothing.
    pub signed: bool,
    /// Everything that is wrong.
    pub problems: Vec<String>,
}

/// What of the about box is held against the records.
#[derive(Default, Deserialize)]
struct About {
    from: String,
    to: String,
    clock: ClockQuality,
    records: (u64, u64),
    #[serde(default)]
    missing: Vec<(u64, u64)>,
}

/// What is known of the file so far.
#[derive(Default)]
struct File {
    /// Boxes of the head that have been seen.
    head: usize,
    about: Option<About>,
    /// `ftyp` and `moov`.
    head_bytes: Vec<u8>,
    /// Worst clock of its records.
    clock: Option<ClockQuality>,
    /// Ticks a second of its tracks.
    scales: Vec<u32>,
    /// Where its decode times count from, microseconds on the media clock.
    base: u64,
    first: Option<RingRecord>,
    /// The record before.
    last: Option<RingRecord>,
    /// Numbers skipped between records, and the times around them.
    skipped: Vec<(u64, u64)>,
    skipped_times: Vec<(String, String)>,
    report: Report,
}

/// Checks a whole clip.
///
/// # Errors
/// When it is no clip of taimat at all.
pub fn check(clip: &[u8]) -> Result<Report, String> {
    if is_segment(clip) {
        return Err("a segment of a ring, and no clip: taimat ring check --dir DIR reads the ring it lies in".into());
    }
    let report = Report { size: clip.len() as u64, sha256: Digest::of(clip), ..Report::default() };
    let mut file = File { report, ..File::default() };
    let mut at = 0;
    while at < clip.len() {
        let Some((name, len)) = box_at(clip, at).filter(|(_, len)| at + len <= clip.len()) else {
            file.problem(format!("offset {at}: no whole box begins here"));
            break;
        };
        at += match clip.get(at + 8..at + 24) {
            Some(kind) if name == *b"uuid" && *kind == RECORD_TYPE => file.record(clip, at),
            kind => {
                file.head_box(clip, (at, len), name, kind.unwrap_or_default());
                len
            }
        };
    }
    if file.about.is_none() && file.last.is_none() {
        return Err("not a clip of taimat: it has neither an about box nor records".into());
    }
    file.compare();
    Ok(file.report)
}

/// True for a file of a ring, which begins with the head of a segment.
fn is_segment(file: &[u8]) -> bool {
    let mut at = 0;
    while let Some((name, len)) = box_at(file, at).filter(|(_, len)| *len >= 8) {
        if name == *b"uuid" {
            return file.get(at + 8..at + 24) == Some(&SEGMENT_TYPE);
        }
        at += len;
    }
    false
}

impl File {
    fn problem(&mut self, what: String) {
        self.report.problems.push(what);
    }

    /// Takes a box that is no record: only those of the head may be, once each and in order.
    fn head_box(&mut self, clip: &[u8], (at, len): (usize, usize), name: [u8; 4], kind: &[u8]) {
        let expected = self.last.is_none() && HEAD.get(self.head) == Some(&name) && (name != *b"uuid" || *kind == ABOUT_BOX);
        if !expected {
            let name = String::from_utf8_lossy(&name).into_owned();
            return self.problem(format!("offset {at}: a box {name:?} that no record covers"));
        }
        self.head += 1;
        match &name {
            b"ftyp" => self.head_bytes.extend(&clip[at..at + len]),
            b"moov" => {
                self.head_bytes.extend(&clip[at..at + len]);
                self.scales = timescales(&clip[at + 8..at + len]);
            }
            b"uuid" => {
                // A size that ends the box before its content: an empty text, which is not whole.
                let json = clip.get(at + 24..at + len).unwrap_or_default();
                if !is_whole(json) {
                    self.problem(format!("offset {at}: the about box was altered or damaged"));
                }
                self.report.about = serde_json::from_slice(json).unwrap_or_default();
                self.about = serde_json::from_slice(json).ok();
            }
            _ => {}
        }
    }

    /// Checks one record and its place in the chain; gives its length.
    fn record(&mut self, clip: &[u8], at: usize) -> usize {
        let Some(record) = RingRecord::decode(&clip[at..]) else {
            self.problem(format!("offset {at}: a record that cannot be read"));
            return RECORD_BOX;
        };
        let (seq, len) = (record.seq, record.len as usize);
        let Some(bytes) = clip.get(at..at + len) else {
            self.problem(format!("offset {at}: record {seq} is cut short"));
            return clip.len() - at;
        };
        if self.last.is_none() {
            self.base = record.media.saturating_sub(u64::from(record.lead) * 1000);
        }
        let mut content = bytes[RECORD_BOX..].to_vec();
        move_times(&mut content, &self.scales, self.base, record.media);
        if Digest::of(&content) != record.content || !record.intact(bytes) {
            self.problem(format!("offset {at}: record {seq} was altered or damaged"));
        }
        if self.last.as_ref().is_some_and(|last| last.head != record.head) {
            self.problem(format!("offset {at}: record {seq} belongs to another head"));
        }
        self.clock = Some(self.clock.map_or(record.start.quality, |worst| worst.min(record.start.quality)));
        self.follows(at, &record);
        self.report.records += 1;
        self.last = Some(record);
        len
    }

    /// Checks a record against the one before it.
    fn follows(&mut self, at: usize, record: &RingRecord) {
        let seq = record.seq;
        match self.last.as_ref().map(|before| (before.seq, before.link())) {
            None => {
                self.report.begins_with_key = record.key;
                self.report.numbers = Some((seq, seq));
                self.first = Some(record.clone());
            }
            Some((before, _)) if seq <= before => {
                return self.problem(format!("offset {at}: record {seq} comes after record {before}"));
            }
            Some((before, link)) if before + 1 == seq && link != record.previous => {
                self.problem(format!("offset {at}: record {seq} does not follow from record {before}"));
            }
            // Holes in time have records of their own, which a clip does not carry.
            Some((before, _)) if before + 1 < seq => {
                self.skipped.push((before + 1, seq - 1));
                let end = self.last.as_ref().map(|before| before.end().wall.rfc3339()).unwrap_or_default();
                self.skipped_times.push((end, record.start.wall.rfc3339()));
            }
            Some(_) => {}
        }
        if let Some((_, last)) = &mut self.report.numbers {
            *last = seq;
        }
    }

    /// Holds the records against what the about box says is in the file.
    fn compare(&mut self) {
        let Some(about) = self.about.take() else {
            return self.problem("the about box is missing or cannot be read: nothing says which records belong here".into());
        };
        let (first, last) = about.records;
        match self.report.numbers {
            Some(numbers) if numbers == about.records => {}
            Some((begin, end)) => {
                let what = format!("holds records {begin} to {end}, and the about box says {first} to {last}");
                self.problem(format!("{what}: the head or the tail is missing, or it is another clip's about box"));
            }
            None => self.problem(format!("holds no record, and the about box says {first} to {last}")),
        }
        let skipped = std::mem::take(&mut self.skipped);
        if bounded(skipped.clone()) != about.missing && skipped.iter().all(|range| is_in(range, &about.missing)) {
            self.problem(format!("the about box says that {:?} are missing, and {skipped:?} are", about.missing));
        }
        for ((from, to), times) in skipped.into_iter().zip(std::mem::take(&mut self.skipped_times)) {
            match is_in(&(from, to), &about.missing) {
                true => {
                    self.report.missing.push((from, to));
                    self.report.missing_times.push(times);
                }
                false => self.problem(format!("records {from} to {to} are missing, and the about box does not say so")),
            }
        }
        self.compare_times(&about);
        self.compare_head();
    }

    /// The head is built again and must be the same.
    fn compare_head(&mut self) {
        let (Some(first), Some(last)) = (&self.first, &self.last) else {
            return;
        };
        let duration = (last.media + last.duration).saturating_sub(self.base);
        let problem = head_check::problem(&self.head_bytes, &first.head, duration);
        self.report.problems.extend(problem);
    }

    /// Times of a clock that NTP disciplined are never dated again: then both must say the same.
    fn compare_times(&mut self, about: &About) {
        let first = self.first.as_ref().map(|record| (record.start, &about.from));
        let last = self.last.as_ref().map(|record| (record.end(), &about.to));
        let differing = [first, last]
            .into_iter()
            .flatten()
            .filter(|(stamp, told)| stamp.quality == ClockQuality::Ntp && stamp.wall.rfc3339() != **told);
        let told: Vec<String> =
            differing.map(|(stamp, told)| format!("the about box says {told} where the records say {}", stamp.wall)).collect();
        self.report.problems.extend(told);
        // A clock that was better known later is reported better than it was recorded, never worse.
        if let Some(clock) = self.clock.filter(|clock| about.clock < *clock) {
            self.problem(format!("the about box says clock {}, and the records say {}", about.clock.as_str(), clock.as_str()));
        }
    }
}

fn is_in(range: &(u64, u64), ranges: &[(u64, u64)]) -> bool {
    ranges.iter().any(|(first, last)| *first <= range.0 && range.1 <= *last)
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::sync::Arc;

    use super::*;
    use crate::clip::FileSource as _;
    use crate::clip::virtual_file::VirtualClip;
    use crate::evidence::manifest::{Purpose, about, of_span};
    use crate::format::mp4::{Sample, TrackRun, moof};
    use crate::format::record::tests::video;
    use crate::format::record::{MARK, seal};
    use crate::format::segment_head::head_digest;
    use crate::storage::{FootageReader, FragmentRef, ReadFault, Span};
    use crate::units::{Boot, EntryId, MonoTime, SiteId, Timestamp, WallTime};

    struct Footage(Vec<Vec<u8>>);

    impl FootageReader for Footage {
        fn fragment(&self, fragment: &FragmentRef) -> Result<Vec<u8>, ReadFault> {
            Ok(self.0[fragment.offset as usize].clone())
        }

        fn snapshot(&self, _: EntryId) -> Result<Vec<u8>, ReadFault> {
            Err(ReadFault::Gone("still".into()))
        }
    }

    /// A record of a second as it lies on the card, and what follows from it.
    fn record(seq: u64, previous: Digest) -> (Vec<u8>, RingRecord) {
        let sample = Sample { duration: 90_000, size: 4, sync: true, offset: 0 };
        let mut content = moof(seq as u32, &[TrackRun { track: 1, start: 0, samples: vec![sample] }]);
        content.extend([0, 0, 0, 12, b'm', b'd', b'a', b't', seq as u8, 1, 2, 3]);
        let media = seq * 1_000_000;
        let wall = WallTime(1_790_000_000_000_000 + media as i64);
        let record = RingRecord {
            seq,
            lap: 1,
            boot: Boot(1),
            len: (RECORD_BOX + content.len()) as u32,
            start: Timestamp { mono: MonoTime(media), wall, quality: ClockQuality::Ntp },
            key: true,
            payload: 4,
            media,
            duration: 1_000_000,
            lead: 0,
            gap: None,
            mark: [0; MARK],
            previous,
            content: Digest::of(&content),
            head: head_digest(&[video(1)]),
        };
        move_times(&mut content, &[90_000], media, 0);
        let mut bytes = record.encode(&content);
        bytes.extend(content);
        (bytes, record)
    }

    /// A clip of records with these numbers, as a box cuts it; a number left out is a gap in time.
    fn clip(numbers: &[u64]) -> Vec<u8> {
        let (mut previous, mut bytes, mut fragments) = (Digest([9; 32]), Vec::new(), Vec::new());
        for seq in numbers {
            let (written, record) = record(*seq, previous);
            previous = record.link();
            let RingRecord { lap, boot, len, start, key, payload, media, duration, lead, .. } = record;
            let (segment, offset, base, layout) = (0, bytes.len() as u64, 0, head_digest(&[video(1)]));
            let seq = *seq;
            fragments.push(FragmentRef {
                seq,
                segment,
                lap,
                offset,
                len,
                key,
                boot,
                start,
                duration,
                media,
                lead,
                base,
                payload,
                layout,
            });
            bytes.push(written);
        }
        let span = Span { fragments, tracks: vec![video(1)], gaps: Vec::new(), damaged: Vec::new(), more: false };
        let manifest = of_span(&SiteId::parse("km-17").unwrap(), Purpose::Clip, "e", 1, &span);
        let clip = VirtualClip::assemble(&span, &about(&manifest), Arc::new(Footage(bytes)));
        clip.read(0, clip.len() as u32).unwrap()
    }

    /// Where each record lies.
    fn places(clip: &[u8]) -> Vec<Range<usize>> {
        let is_record = |at: &usize| clip.get(at + 8..at + 24) == Some(&RECORD_TYPE) && clip[at + 4..at + 8] == *b"uuid";
        let starts = (0..clip.len()).filter(is_record);
        starts.map(|at| at..at + RingRecord::decode(&clip[at..]).unwrap().len as usize).collect()
    }

    fn without(clip: &[u8], taken: Range<usize>) -> Vec<u8> {
        [&clip[..taken.start], &clip[taken.end..]].concat()
    }

    #[track_caller]
    fn complains(clip: &[u8], about: &str) {
        let problems = check(clip).unwrap().problems;
        assert!(problems.iter().any(|problem| problem.contains(about)), "nobody said {about:?}: {problems:?}");
    }

    #[test]
    fn an_untouched_clip_is_whole_and_its_gap_is_named() {
        let report = check(&clip(&[4, 5, 7, 8])).unwrap();
        assert_eq!((report.problems, report.missing), (Vec::new(), vec![(6, 6)]));
        assert_eq!((report.numbers, report.records, report.begins_with_key, report.signed), (Some((4, 8)), 4, true, false));
    }

    #[test]
    fn records_cut_from_head_middle_and_tail_are_missed() {
        let whole = clip(&[4, 5, 6, 7]);
        let places = places(&whole);
        complains(&without(&whole, places[0].clone()), "holds records 5 to 7, and the about box says 4 to 7");
        complains(&without(&whole, places[1].clone()), "records 5 to 5 are missing");
        complains(&without(&whole, places[3].clone()), "holds records 4 to 6, and the about box says 4 to 7");
        complains(&without(&whole, places[0].start..whole.len()), "holds no record");
        complains(&whole[..whole.len() - 5], "cut short");
    }

    #[test]
    fn a_record_beside_a_declared_hole_is_missed_too() {
        let whole = clip(&[4, 5, 7, 8]);
        complains(&without(&whole, places(&whole)[1].clone()), "records 5 to 6 are missing");
    }

    #[test]
    fn records_that_changed_places_or_came_twice_are_noticed() {
        let whole = clip(&[4, 5, 6, 7]);
        let at = places(&whole);
        let (before, behind) = (&whole[..at[1].start], &whole[at[2].end..]);
        let (first, second) = (&whole[at[1].clone()], &whole[at[2].clone()]);
        complains(&[before, second, first, behind].concat(), "record 5 comes after record 6");
        complains(&[before, first, first, second, behind].concat(), "record 5 comes after record 5");
    }

    #[test]
    fn no_byte_of_a_record_can_be_flipped_unnoticed() {
        let whole = clip(&[4, 5, 6]);
        for at in places(&whole)[0].start..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x40;
            assert!(!check(&flipped).unwrap().problems.is_empty(), "byte {at} was flipped unnoticed");
        }
    }

    #[test]
    fn a_thousand_bits_over_a_whole_clip_are_all_found() {
        let whole = clip(&[4, 5, 7]);
        let head = places(&whole)[0].start;
        let found = |at: usize, bit: usize| {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            check(&flipped).map_or(true, |report| !report.problems.is_empty())
        };
        let unseen: Vec<(usize, usize)> =
            (0..head).flat_map(|at| (0..8).map(move |bit| (at, bit))).filter(|(at, bit)| !found(*at, *bit)).collect();
        assert_eq!(unseen, [], "bits of the head, all of them");
        let mut rng = 18_u64;
        for _ in 0..1000 {
            rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (at, bit) = ((rng >> 33) as usize % whole.len(), (rng >> 20) as usize % 8);
            assert!(found(at, bit), "bit {bit} of byte {at}");
        }
    }

    #[test]
    fn no_size_of_a_box_makes_it_panic_or_pass() {
        let whole = clip(&[4, 5, 7]);
        let names: [&[u8; 4]; 23] = [
            b"ftyp", b"moov", b"mvhd", b"mvex", b"trex", b"trak", b"tkhd", b"mdia", b"mdhd", b"hdlr", b"minf", b"stbl", b"stsd",
            b"avc1", b"avcC", b"uuid", b"moof", b"mfhd", b"traf", b"tfhd", b"tfdt", b"trun", b"mdat",
        ];
        let boxes: Vec<usize> =
            (4..whole.len() - 4).filter(|at| names.contains(&whole[*at..at + 4].try_into().unwrap())).collect();
        assert!(boxes.len() >= 25, "{}", boxes.len());
        let mut rng = 18_u64;
        for at in boxes {
            let random = std::iter::repeat_with(|| {
                rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (rng >> 32) as u32 >> (rng >> 27 & 31)
            });
            let near = |len: usize| (len as u32).saturating_sub(12)..=len as u32 + 12;
            let sizes =
                (0..=40).chain(near(whole.len() - at)).chain(random.take(200)).chain([u32::MAX, 1 << 31]).collect::<Vec<_>>();
            for size in sizes {
                let mut other = whole.clone();
                other[at - 4..at].copy_from_slice(&size.to_be_bytes());
                if other != whole {
                    let passed = check(&other).is_ok_and(|report| report.problems.is_empty());
                    assert!(!passed, "size {size} of the box at {at} passed");
                }
            }
        }
    }

    #[test]
    fn a_time_altered_with_its_checksum_put_right_breaks_the_chain() {
        let whole = clip(&[4, 5, 6]);
        let altered = |which: usize| {
            let (mut clip, place) = (whole.clone(), places(&whole)[which].clone());
            // The wall time lies behind version, flags, lap, number, boot, length and monotonic time.
            clip[place.start + 24 + 32 + 7] ^= 1;
            let (record, content) = clip[place].split_at_mut(RECORD_BOX);
            seal(record, content);
            clip
        };
        complains(&altered(1), "record 6 does not follow from record 5");
    }

    #[test]
    fn an_about_box_that_tells_other_times_is_noticed() {
        let whole = clip(&[4, 5, 6]);
        let at = whole.windows(6).position(|window| window == b"\"from\"").unwrap() + 8 + 12;
        let mut other = whole.clone();
        other[at] = if other[at] == b'1' { b'2' } else { b'1' };
        complains(&other, "the about box says");
    }

    #[test]
    fn a_clip_stripped_of_its_about_box_is_not_whole() {
        let whole = clip(&[4, 5, 6]);
        let at = whole.windows(16).position(|window| *window == ABOUT_BOX).unwrap() - 8;
        complains(&without(&whole, at..places(&whole)[0].start), "the about box is missing");
        assert!(check(b"\0\0\0\x08free").is_err());
    }
}
