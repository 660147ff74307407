//! Walk over a clip: its head, then one record after the other, each with its `moof`.

use std::ops::Range;

use super::boxes::{FoundBox, be_u32, child, children, header};
use super::codec::{TrackCodec, TrackName, tracks};
use super::limits::{ABOUT_MAX, FRAGMENTS_MAX, INIT_MAX, MOOF_MAX, READ_MAX, WINDOW};
use super::samples::sample_runs;
use super::{ClipFault, ReadRange};
use crate::evidence::manifest::ABOUT_BOX;
use crate::format::record::{RECORD_BOX, RingRecord};

/// Bytes of a record box.
const RECORD: u64 = RECORD_BOX as u64;

/// A file, its size and what was read of it.
pub(super) struct Source<R> {
    read: R,
    size: u64,
    /// Bytes read so far.
    spent: u64,
}

impl<R: ReadRange> Source<R> {
    pub(super) fn new(size: u64, read: R) -> Source<R> {
        Source { read, size, spent: 0 }
    }

    /// The bytes of a range, cut off at the end of the file.
    ///
    /// # Errors
    /// The store fails, or the clip costs more than [`READ_MAX`].
    pub(super) fn bytes(&mut self, range: Range<u64>) -> Result<Vec<u8>, ClipFault> {
        let range = range.start..range.end.min(self.size).max(range.start);
        let len = range.end - range.start;
        self.spent += len;
        if self.spent > READ_MAX {
            return Err(ClipFault::TooLarge("its boxes are larger than an index may read"));
        }
        let bytes = (self.read)(range).map_err(ClipFault::Unreadable)?;
        if bytes.len() as u64 != len {
            return Err(ClipFault::Unreadable("the file is shorter than its size".into()));
        }
        Ok(bytes)
    }
}

/// The head of a clip.
pub(super) struct Head {
    /// Length of `ftyp` and `moov`, bytes.
    pub(super) init: u64,
    /// Offset of the first record.
    pub(super) records: u64,
    /// The tracks.
    pub(super) tracks: Vec<TrackCodec>,
    /// Places of all boxes that belong to sound.
    pub(super) sound: Vec<Range<u64>>,
}

impl Head {
    fn has(&self, kind: TrackName) -> bool {
        self.tracks.iter().any(|track| track.track == kind)
    }

    /// True if the file without sound is another one.
    pub(super) fn has_both(&self) -> bool {
        self.has(TrackName::Video) && self.has(TrackName::Audio)
    }
}

/// A fragment of a clip.
pub(super) struct Fragment {
    /// Its record.
    pub(super) record: RingRecord,
    /// Offset of its `moof`.
    pub(super) moof: u64,
    /// Length of `moof` and `mdat`, bytes.
    pub(super) len: u64,
    /// Decode time of its video, ticks of the track; `None` without video.
    pub(super) video: Option<u64>,
    /// Places of all boxes that belong to sound.
    pub(super) sound: Vec<Range<u64>>,
    /// What of the `mdat` is in no picture.
    pub(super) unseen: Vec<Range<u64>>,
}

/// Reads the head of a clip.
///
/// # Errors
/// It is damaged, too large, or no clip.
pub(super) fn head<R: ReadRange>(source: &mut Source<R>) -> Result<Head, ClipFault> {
    let damaged = |what| ClipFault::Damaged { offset: 0, what };
    // One byte more than allowed shows that the head is too large.
    let bytes = source.bytes(0..INIT_MAX + 8 + ABOUT_BOX.len() as u64)?;
    let (_, ftyp) = header(&bytes, 0)
        .filter(|(name, _)| name == b"ftyp")
        .ok_or(ClipFault::NotAClip("it does not start with ftyp"))?;
    let (_, moov) = header(&bytes, ftyp)
        .filter(|(name, _)| name == b"moov")
        .ok_or(ClipFault::NotAClip("no moov follows ftyp"))?;
    let init = ftyp + moov;
    if init as u64 > INIT_MAX {
        return Err(ClipFault::TooLarge("its head has more than 64 KiB"));
    }
    if init as u64 > source.size || init > bytes.len() {
        return Err(damaged("the head ends behind the file"));
    }
    let content = ftyp + 8..init;
    let found = tracks(&bytes, content.clone()).map_err(damaged)?;
    let place = |found: &FoundBox| found.place.start as u64..found.place.end as u64;
    let mut sound: Vec<Range<u64>> = found
        .iter()
        .filter(|(track, _)| track.track == TrackName::Audio)
        .map(|(_, trak)| place(trak))
        .collect();
    let tracks: Vec<TrackCodec> = found.into_iter().map(|(track, _)| track).collect();
    if let Ok(mvex) = child(&bytes, content, b"mvex") {
        for trex in children(&bytes, mvex.content()).map_err(damaged)? {
            let number = be_u32(&bytes[..trex.place.end], trex.place.start + 12);
            if trex.name == *b"trex" && is_sound(&tracks, number) {
                sound.push(place(&trex));
            }
        }
    }
    let about = about_len(&bytes, init)?;
    Ok(Head { init: init as u64, records: init as u64 + about, tracks, sound })
}

/// Length of the about box at `at`, which clips of every version have.
fn about_len(bytes: &[u8], at: usize) -> Result<u64, ClipFault> {
    let is_about = bytes.get(at + 8..at + 24) == Some(&ABOUT_BOX);
    match header(bytes, at).filter(|(name, _)| name == b"uuid" && is_about) {
        None => Err(ClipFault::NotAClip("no about box follows its head")),
        Some((_, len)) if len as u64 > ABOUT_MAX => {
            Err(ClipFault::TooLarge("its about box has more than 16 KiB"))
        }
        Some((_, len)) => Ok(len as u64),
    }
}

fn is_sound(tracks: &[TrackCodec], number: Option<u32>) -> bool {
    tracks.iter().any(|track| Some(track.number) == number && track.track == TrackName::Audio)
}

/// Reads all fragments behind the head.
///
/// # Errors
/// A record or box is damaged, or there are too many.
pub(super) fn fragments<R: ReadRange>(
    source: &mut Source<R>,
    head: &Head,
) -> Result<Vec<Fragment>, ClipFault> {
    let mut found = Vec::new();
    let mut at = head.records;
    while at < source.size {
        if found.len() == FRAGMENTS_MAX {
            return Err(ClipFault::TooLarge("more than 90,000 fragments"));
        }
        let fragment = fragment(source, head, at)?;
        at = fragment.moof + fragment.len;
        found.push(fragment);
    }
    if found.is_empty() {
        return Err(ClipFault::NotAClip("it has no records"));
    }
    Ok(found)
}

/// Reads the fragment whose record is at `at`.
fn fragment<R: ReadRange>(
    source: &mut Source<R>,
    head: &Head,
    at: u64,
) -> Result<Fragment, ClipFault> {
    let damaged = |what| ClipFault::Damaged { offset: at, what };
    let bytes = source.bytes(at..at.saturating_add(WINDOW))?;
    let record = RingRecord::decode(&bytes).ok_or(damaged("no readable record"))?;
    if record.gap.is_some() {
        return Err(damaged("a gap record in a clip"));
    }
    let end = at + u64::from(record.len);
    if end > source.size {
        return Err(damaged("a record ends behind the file"));
    }
    let moof_len = header(&bytes, RECORD_BOX)
        .filter(|(name, _)| name == b"moof")
        .map(|(_, len)| len as u64)
        .ok_or(damaged("a record without a moof"))?;
    if moof_len > MOOF_MAX {
        return Err(ClipFault::TooLarge("a moof has more than 16 KiB"));
    }
    let needed = RECORD + moof_len + 8;
    if at + needed > end {
        return Err(damaged("a moof ends behind its record"));
    }
    let bytes = if needed > bytes.len() as u64 { source.bytes(at..at + needed)? } else { bytes };
    let (moof, mdat) = (RECORD_BOX..(RECORD + moof_len) as usize, (RECORD + moof_len) as usize);
    let mdat_len = header(&bytes, mdat)
        .filter(|(name, _)| name == b"mdat")
        .map(|(_, len)| len as u64)
        .ok_or(damaged("a moof without an mdat"))?;
    if at + RECORD + moof_len + mdat_len != end {
        return Err(damaged("an mdat does not end with its record"));
    }
    let runs = runs(&bytes, head, moof.clone()).map_err(damaged)?;
    let mdat = mdat..mdat + mdat_len as usize;
    let unseen =
        if head.has_both() { unseen(&runs, &moof, &mdat).map_err(damaged)? } else { vec![] };
    // Without its sound such a fragment has no samples: both boxes are left out.
    let sound = if runs.video.is_some() { runs.sound } else { vec![moof, mdat] };
    let in_file = |part: Range<usize>| at + part.start as u64..at + part.end as u64;
    Ok(Fragment {
        record,
        moof: at + RECORD,
        len: moof_len + mdat_len,
        video: runs.video,
        sound: sound.into_iter().map(in_file).collect(),
        unseen: unseen.into_iter().map(in_file).collect(),
    })
}

/// What a `moof` says of its tracks.
struct Runs {
    /// Decode time of the video; `None` without video.
    video: Option<u64>,
    /// The samples of the video, from the start of the `moof`.
    pictures: Vec<Range<u64>>,
    /// The `traf` boxes of sound.
    sound: Vec<Range<usize>>,
}

/// Reads the `traf` boxes of a `moof`.
fn runs(bytes: &[u8], head: &Head, moof: Range<usize>) -> Result<Runs, &'static str> {
    let mut runs = Runs { video: None, pictures: Vec::new(), sound: Vec::new() };
    for traf in trafs(bytes, moof.start + 8..moof.end)? {
        let number = traf_number(bytes, &traf)?;
        let track = head.tracks.iter().find(|track| track.number == number);
        match track.map(|track| track.track) {
            None => return Err("a fragment of a track that the head does not have"),
            Some(TrackName::Audio) => runs.sound.push(traf.place),
            Some(TrackName::Video) => {
                runs.video = Some(decode_time(bytes, &traf)?);
                if head.has_both() {
                    let found = sample_runs(bytes, &traf)?;
                    runs.pictures.extend(found.into_iter().map(|run| run.place));
                }
            }
        }
    }
    Ok(runs)
}

/// The parts of an `mdat` that no picture has. What is in none is taken for sound: a file that
/// hides sound between its samples hides it in vain.
fn unseen(
    runs: &Runs,
    moof: &Range<usize>,
    mdat: &Range<usize>,
) -> Result<Vec<Range<usize>>, &'static str> {
    let mut pictures = runs.pictures.clone();
    pictures.sort_unstable_by_key(|part| part.start);
    let (mut unseen, mut at) = (Vec::new(), mdat.start + 8);
    for part in pictures {
        let start = usize::try_from(part.start).unwrap_or(usize::MAX).saturating_add(moof.start);
        let end = usize::try_from(part.end).unwrap_or(usize::MAX).saturating_add(moof.start);
        if start < at || end > mdat.end {
            return Err("pictures outside of their mdat, or twice in it");
        }
        if start > at {
            unseen.push(at..start);
        }
        at = end;
    }
    if at < mdat.end {
        unseen.push(at..mdat.end);
    }
    Ok(unseen)
}

/// The `traf` boxes in the content of a `moof`.
pub(super) fn trafs(bytes: &[u8], content: Range<usize>) -> Result<Vec<FoundBox>, &'static str> {
    let found = children(bytes, content)?.into_iter();
    Ok(found.filter(|found| found.name == *b"traf").collect())
}

/// The track number of a `traf`.
pub(super) fn traf_number(bytes: &[u8], traf: &FoundBox) -> Result<u32, &'static str> {
    let tfhd = child(bytes, traf.content(), b"tfhd")?;
    be_u32(&bytes[..tfhd.place.end], tfhd.place.start + 12).ok_or("a short tfhd")
}

/// The decode time of a `traf` (ISO/IEC 14496-12 8.8.12).
fn decode_time(bytes: &[u8], traf: &FoundBox) -> Result<u64, &'static str> {
    let place = child(bytes, traf.content(), b"tfdt")?.place;
    let field = |at: usize| be_u32(&bytes[..place.end], place.start + at).ok_or("a short tfdt");
    let high = field(12)?;
    match bytes.get(place.start + 8) {
        Some(1) => Ok(u64::from(high) << 32 | u64::from(field(16)?)),
        _ => Ok(u64::from(high)),
    }
}
