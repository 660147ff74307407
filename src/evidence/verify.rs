//! Clip verification: checks records, hash chain, head and about box of a clip against each other.
//!
//! Nothing is signed in this version. The check detects damage of any bit, and changes made without
//! knowledge of the format. An attacker who knows the format can write a head, records and an about
//! box that match.

use serde::Deserialize;

use super::head_check;
use super::manifest::{ABOUT_BOX, bounded, is_whole};
use crate::format::mp4::{box_at, move_times, timescales};
use crate::format::record::{RECORD_BOX, RECORD_TYPE, RingRecord};
use crate::format::segment_head::SEGMENT_TYPE;
use crate::units::{ClockQuality, Digest};

/// The boxes before the first record, in this order.
const HEAD: [[u8; 4]; 3] = [*b"ftyp", *b"moov", *b"uuid"];

/// Result of a verification.
#[derive(Debug, Default, serde::Serialize)]
pub struct Report {
    /// The about box, as JSON.
    pub about: serde_json::Value,
    /// Number of records in the clip.
    pub records: u64,
    /// First and last record number.
    pub numbers: Option<(u64, u64)>,
    /// Missing record numbers between them, `[first, last]`, that the about box lists.
    pub missing: Vec<(u64, u64)>,
    /// For each range in `missing`: end of the record before it and start of the record behind it,
    /// as recorded.
    pub missing_times: Vec<(String, String)>,
    /// The first record starts with a key frame.
    pub begins_with_key: bool,
    /// Size of the clip, bytes.
    pub size: u64,
    /// SHA-256 of the whole file.
    pub sha256: Digest,
    /// False: this version signs nothing.
    pub signed: bool,
    /// All problems found; empty for an intact clip.
    pub problems: Vec<String>,
}

/// The fields of the about box that are compared with the records.
#[derive(Default, Deserialize)]
struct About {
    from: String,
    to: String,
    clock: ClockQuality,
    records: (u64, u64),
    #[serde(default)]
    missing: Vec<(u64, u64)>,
}

/// State of the verification.
#[derive(Default)]
struct File {
    /// Number of head boxes seen.
    head: usize,
    about: Option<About>,
    /// `ftyp` and `moov`.
    head_bytes: Vec<u8>,
    /// Worst clock quality of its records.
    clock: Option<ClockQuality>,
    /// Timescales of its tracks.
    scales: Vec<u32>,
    /// Media time from which its decode times count, microseconds.
    base: u64,
    first: Option<RingRecord>,
    /// The previous record.
    last: Option<RingRecord>,
    /// Record numbers skipped between records.
    skipped: Vec<(u64, u64)>,
    /// For each range in `skipped`: end of the record before it and start of the record behind it.
    skipped_times: Vec<(String, String)>,
    report: Report,
}

/// Verifies a whole clip.
///
/// # Errors
/// If the file is not a clip of taimat.
pub fn check(clip: &[u8]) -> Result<Report, String> {
    if is_segment(clip) {
        return Err("this is a segment of a ring, not a clip: verify the ring with taimat ring check --dir DIR".into());
    }
    let report = Report { size: clip.len() as u64, sha256: Digest::of(clip), ..Report::default() };
    let mut file = File { report, ..File::default() };
    let mut at = 0;
    while at < clip.len() {
        let Some((name, len)) = box_at(clip, at).filter(|(_, len)| at + len <= clip.len()) else {
            file.problem(format!("offset {at}: no complete box"));
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
        return Err("not a clip of taimat: no about box and no records".into());
    }
    file.compare();
    Ok(file.report)
}

/// True for a segment file of a ring.
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

    /// Verifies a box that is no record: only the boxes of the head are allowed, once each and in
    /// order.
    fn head_box(&mut self, clip: &[u8], (at, len): (usize, usize), name: [u8; 4], kind: &[u8]) {
        let expected = self.last.is_none()
            && HEAD.get(self.head) == Some(&name)
            && (name != *b"uuid" || *kind == ABOUT_BOX);
        if !expected {
            let name = String::from_utf8_lossy(&name).into_owned();
            return self.problem(format!("offset {at}: box {name:?} is covered by no record"));
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

    /// Verifies a record and its place in the chain. Returns its length.
    fn record(&mut self, clip: &[u8], at: usize) -> usize {
        let Some(record) = RingRecord::decode(&clip[at..]) else {
            self.problem(format!("offset {at}: unreadable record"));
            return RECORD_BOX;
        };
        let (seq, len) = (record.seq, record.len as usize);
        let Some(bytes) = clip.get(at..at + len) else {
            self.problem(format!("offset {at}: record {seq} is truncated"));
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
        self.clock =
            Some(self.clock.map_or(record.start.quality, |worst| worst.min(record.start.quality)));
        self.follows(at, &record);
        self.report.records += 1;
        self.last = Some(record);
        len
    }

    /// Compares a record with the one before it.
    fn follows(&mut self, at: usize, record: &RingRecord) {
        let seq = record.seq;
        match self.last.as_ref().map(|before| (before.seq, before.link())) {
            None => {
                self.report.begins_with_key = record.key;
                self.report.numbers = Some((seq, seq));
                self.first = Some(record.clone());
            }
            Some((before, _)) if seq <= before => {
                return self
                    .problem(format!("offset {at}: record {seq} comes after record {before}"));
            }
            Some((before, link)) if before + 1 == seq && link != record.previous => {
                self.problem(format!(
                    "offset {at}: record {seq} does not follow from record {before}"
                ));
            }
            // A clip does not contain gap records.
            Some((before, _)) if before + 1 < seq => {
                self.skipped.push((before + 1, seq - 1));
                let end = self
                    .last
                    .as_ref()
                    .map(|before| before.end().wall.rfc3339())
                    .unwrap_or_default();
                self.skipped_times.push((end, record.start.wall.rfc3339()));
            }
            Some(_) => {}
        }
        if let Some((_, last)) = &mut self.report.numbers {
            *last = seq;
        }
    }

    /// Compares the records with the about box.
    fn compare(&mut self) {
        let Some(about) = self.about.take() else {
            return self.problem(
                "the about box is missing or unreadable: the expected records are unknown".into(),
            );
        };
        let (first, last) = about.records;
        match self.report.numbers {
            Some(numbers) if numbers == about.records => {}
            Some((begin, end)) => {
                let what = format!(
                    "the clip contains records {begin} to {end}; the about box states {first} to {last}"
                );
                self.problem(format!("{what}: records are missing at an end, or the about box belongs to another clip"));
            }
            None => self.problem(format!(
                "the clip contains no record; the about box states {first} to {last}"
            )),
        }
        let skipped = std::mem::take(&mut self.skipped);
        if bounded(skipped.clone()) != about.missing
            && skipped.iter().all(|range| is_in(range, &about.missing))
        {
            self.problem(format!(
                "the about box lists {:?} as missing; {skipped:?} are missing",
                about.missing
            ));
        }
        for ((from, to), times) in skipped.into_iter().zip(std::mem::take(&mut self.skipped_times))
        {
            if is_in(&(from, to), &about.missing) {
                self.report.missing.push((from, to));
                self.report.missing_times.push(times);
            } else {
                self.problem(format!(
                    "records {from} to {to} are missing and not listed in the about box"
                ));
            }
        }
        self.compare_times(&about);
        self.compare_head();
    }

    /// Builds the head from the tracks and compares it.
    fn compare_head(&mut self) {
        let (Some(first), Some(last)) = (&self.first, &self.last) else {
            return;
        };
        let duration = (last.media + last.duration).saturating_sub(self.base);
        let problem = head_check::problem(&self.head_bytes, &first.head, duration);
        self.report.problems.extend(problem);
    }

    /// Compares the times. Times of an NTP clock are never corrected later, so both must be equal.
    fn compare_times(&mut self, about: &About) {
        let first = self.first.as_ref().map(|record| (record.start, &about.from));
        let last = self.last.as_ref().map(|record| (record.end(), &about.to));
        let differing = [first, last].into_iter().flatten().filter(|(stamp, stated)| {
            stamp.quality == ClockQuality::Ntp && stamp.wall.rfc3339() != **stated
        });
        let problems: Vec<String> = differing
            .map(|(stamp, stated)| {
                format!("the about box states {stated}; the records state {}", stamp.wall)
            })
            .collect();
        self.report.problems.extend(problems);
        // Later knowledge can only improve the clock quality of the about box.
        if let Some(clock) = self.clock.filter(|clock| about.clock < *clock) {
            self.problem(format!(
                "the about box states clock {}; the records state {}",
                about.clock.as_str(),
                clock.as_str()
            ));
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
    use crate::format::card_id::CardId;
    use crate::format::mp4::{Sample, TrackRun, moof};
    use crate::format::record::tests::video;
    use crate::format::record::{MARK, seal};
    use crate::format::segment_head::{RecordInventory, Segment, SegmentHead, head_digest};
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

    /// A record of one second as it lies on the card, and its fields.
    fn record(seq: u64, previous: Digest) -> (Vec<u8>, RingRecord) {
        let sample = Sample { duration: 90_000, size: 4, sync: true, offset: 0 };
        let mut content =
            moof(seq as u32, &[TrackRun { track: 1, start: 0, samples: vec![sample] }]);
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

    /// The segment that holds the records of [`record`].
    fn segment() -> Segment {
        let tracks = vec![video(1)];
        let layout = head_digest(&tracks);
        let head = SegmentHead {
            card: CardId::read(b"0123456789abcdef").unwrap(),
            segment: 0,
            lap: 1,
            boot: Boot(1),
            first_seq: 1,
            previous: Digest([9; 32]),
            start: Timestamp::default(),
            media: 0,
            size: 1 << 20,
            tracks,
            inventory: RecordInventory::default(),
        };
        let (head, end) = (Arc::new(head), 1 << 20);
        Segment { head, head_len: 0, end, layout, named: 0 }
    }

    /// A clip with these record numbers; a skipped number is a gap in time.
    fn clip(numbers: &[u64]) -> Vec<u8> {
        let (mut previous, mut bytes, mut fragments) = (Digest([9; 32]), Vec::new(), Vec::new());
        let segment = segment();
        for seq in numbers {
            let (written, record) = record(*seq, previous);
            previous = record.link();
            fragments.extend(segment.fragment(&record, bytes.len() as u64));
            bytes.push(written);
        }
        let span = Span {
            fragments,
            tracks: vec![video(1)],
            gaps: Vec::new(),
            damaged: Vec::new(),
            more: false,
        };
        let manifest = of_span(&SiteId::parse("km-17").unwrap(), Purpose::Clip, "e", 1, &span);
        let clip = VirtualClip::assemble(&span, &about(&manifest), Arc::new(Footage(bytes)));
        clip.read(0, clip.len() as u32).unwrap()
    }

    /// The range of each record.
    fn places(clip: &[u8]) -> Vec<Range<usize>> {
        let is_record = |at: &usize| {
            clip.get(at + 8..at + 24) == Some(&RECORD_TYPE) && clip[at + 4..at + 8] == *b"uuid"
        };
        let starts = (0..clip.len()).filter(is_record);
        starts.map(|at| at..at + RingRecord::decode(&clip[at..]).unwrap().len as usize).collect()
    }

    fn without(clip: &[u8], taken: Range<usize>) -> Vec<u8> {
        [&clip[..taken.start], &clip[taken.end..]].concat()
    }

    #[track_caller]
    fn reports_problem(clip: &[u8], about: &str) {
        let problems = check(clip).unwrap().problems;
        assert!(
            problems.iter().any(|problem| problem.contains(about)),
            "{about:?} is not reported: {problems:?}"
        );
    }

    #[test]
    fn an_intact_clip_has_no_problems_and_lists_its_gap() {
        let report = check(&clip(&[4, 5, 7, 8])).unwrap();
        assert_eq!((report.problems, report.missing), (Vec::new(), vec![(6, 6)]));
        assert_eq!(
            (report.numbers, report.records, report.begins_with_key, report.signed),
            (Some((4, 8)), 4, true, false)
        );
    }

    #[test]
    fn records_removed_from_any_place_are_reported() {
        let whole = clip(&[4, 5, 6, 7]);
        let places = places(&whole);
        reports_problem(
            &without(&whole, places[0].clone()),
            "contains records 5 to 7; the about box states 4 to 7",
        );
        reports_problem(&without(&whole, places[1].clone()), "records 5 to 5 are missing");
        reports_problem(
            &without(&whole, places[3].clone()),
            "contains records 4 to 6; the about box states 4 to 7",
        );
        reports_problem(&without(&whole, places[0].start..whole.len()), "contains no record");
        reports_problem(&whole[..whole.len() - 5], "truncated");
    }

    #[test]
    fn a_record_removed_beside_a_listed_gap_is_reported() {
        let whole = clip(&[4, 5, 7, 8]);
        reports_problem(&without(&whole, places(&whole)[1].clone()), "records 5 to 6 are missing");
    }

    #[test]
    fn swapped_and_repeated_records_are_reported() {
        let whole = clip(&[4, 5, 6, 7]);
        let at = places(&whole);
        let (before, behind) = (&whole[..at[1].start], &whole[at[2].end..]);
        let (first, second) = (&whole[at[1].clone()], &whole[at[2].clone()]);
        reports_problem(&[before, second, first, behind].concat(), "record 5 comes after record 6");
        reports_problem(
            &[before, first, first, second, behind].concat(),
            "record 5 comes after record 5",
        );
    }

    #[test]
    fn a_flipped_bit_in_any_byte_of_a_record_is_detected() {
        let whole = clip(&[4, 5, 6]);
        for at in places(&whole)[0].start..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x40;
            assert!(
                !check(&flipped).unwrap().problems.is_empty(),
                "a flipped bit in byte {at} was not detected"
            );
        }
    }

    #[test]
    fn flipped_bits_in_head_and_records_are_detected() {
        let whole = clip(&[4, 5, 7]);
        let head = places(&whole)[0].start;
        let found = |at: usize, bit: usize| {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            check(&flipped).map_or(true, |report| !report.problems.is_empty())
        };
        let unseen: Vec<(usize, usize)> = (0..head)
            .flat_map(|at| (0..8).map(move |bit| (at, bit)))
            .filter(|(at, bit)| !found(*at, *bit))
            .collect();
        assert_eq!(unseen, [], "all bits of the head");
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
            b"ftyp", b"moov", b"mvhd", b"mvex", b"trex", b"trak", b"tkhd", b"mdia", b"mdhd",
            b"hdlr", b"minf", b"stbl", b"stsd", b"avc1", b"avcC", b"uuid", b"moof", b"mfhd",
            b"traf", b"tfhd", b"tfdt", b"trun", b"mdat",
        ];
        let boxes: Vec<usize> = (4..whole.len() - 4)
            .filter(|at| names.contains(&whole[*at..at + 4].try_into().unwrap()))
            .collect();
        assert!(boxes.len() >= 25, "{}", boxes.len());
        let mut rng = 18_u64;
        for at in boxes {
            let random = std::iter::repeat_with(|| {
                rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (rng >> 32) as u32 >> (rng >> 27 & 31)
            });
            let near = |len: usize| (len as u32).saturating_sub(12)..=len as u32 + 12;
            let sizes = (0..=40)
                .chain(near(whole.len() - at))
                .chain(random.take(200))
                .chain([u32::MAX, 1 << 31])
                .collect::<Vec<_>>();
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
    fn an_altered_time_with_a_right_checksum_breaks_the_chain() {
        let whole = clip(&[4, 5, 6]);
        let altered = |which: usize| {
            let (mut clip, place) = (whole.clone(), places(&whole)[which].clone());
            // The wall time follows version, flags, lap, number, boot, length and monotonic time.
            clip[place.start + 24 + 32 + 7] ^= 1;
            let (record, content) = clip[place].split_at_mut(RECORD_BOX);
            seal(record, content);
            clip
        };
        reports_problem(&altered(1), "record 6 does not follow from record 5");
    }

    #[test]
    fn an_about_box_with_other_times_is_reported() {
        let whole = clip(&[4, 5, 6]);
        let at = whole.windows(6).position(|window| window == b"\"from\"").unwrap() + 8 + 12;
        let mut other = whole.clone();
        other[at] = if other[at] == b'1' { b'2' } else { b'1' };
        reports_problem(&other, "the about box states");
    }

    #[test]
    fn a_clip_without_its_about_box_is_reported() {
        let whole = clip(&[4, 5, 6]);
        let at = whole.windows(16).position(|window| *window == ABOUT_BOX).unwrap() - 8;
        reports_problem(&without(&whole, at..places(&whole)[0].start), "the about box is missing");
        assert!(check(b"\0\0\0\x08free").is_err());
    }
}
