//! Audit of a ring: reads all segments, checks the promises, and plays files with ffmpeg.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, ensure};
use taimat::storage::GapReason;
use taimat::storage::disk::{FileId, RealDisk};
use taimat::storage::head_selection::{HeadFault, Heads, heads};
use taimat::storage::scan::{ScanDepth, ScanEnd, ScanItem, walk};
use taimat::units::Digest;

use super::mounts::run;
use super::process::taimat;

/// A segment with footage.
struct Segment {
    path: PathBuf,
    first: u64,
    /// The whole records.
    next: u64,
    /// Number of fragments from the first key frame on, which a player of this file can show.
    fragments: usize,
}

/// All content of a ring with valid checksums.
#[derive(Default)]
pub struct Survey {
    /// Oldest first.
    segments: Vec<Segment>,
    /// Chain digest of each record, which covers all its bytes.
    links: BTreeMap<u64, Digest>,
    /// The gap records: number and reason.
    holes: BTreeMap<u64, GapReason>,
    /// Segment files without a readable head, e.g. torn during reuse.
    pub unreadable: usize,
    /// Segments started over the life of the ring.
    pub lap: u32,
}

impl Survey {
    /// Reads the whole ring in `dir`; no agent may run on it.
    ///
    /// # Errors
    /// The first record that is missing, damaged or not chained to the one before.
    pub fn of(dir: &Path) -> anyhow::Result<Survey> {
        let mut survey = Survey::default();
        if !dir.exists() {
            return Ok(survey);
        }
        let disk = RealDisk::open_read_only(dir)?;
        let Heads { index, troubles, .. } = heads(&disk)?;
        survey.unreadable =
            troubles.iter().filter(|trouble| trouble.fault == HeadFault::Unreadable).count();
        let mut before: Option<(u64, Digest)> = None;
        for (at, segment) in index.live().iter().enumerate() {
            let (head, name) = (&segment.head, FileId::Segment(segment.head.segment).name());
            if let Some((next, chain)) = before {
                ensure!(
                    head.first_seq == next,
                    "{name} begins with record {}, expected {next}",
                    head.first_seq
                );
                ensure!(head.previous == chain, "{name}: the chain does not lead to record {next}");
            }
            let walked = walk(&disk, segment, ScanDepth::Content)?;
            let is_newest = at + 1 == index.live().len();
            ensure!(
                walked.end == ScanEnd::Free || is_newest,
                "{name} offset {}: torn, and not the newest",
                walked.at
            );
            survey.lap = survey.lap.max(head.lap);
            // A file in reuse whose new head is not yet written cannot be played.
            let only_copy = troubles
                .iter()
                .any(|trouble| trouble.fault == HeadFault::First && trouble.file == head.segment);
            if only_copy && walked.found.is_empty() {
                continue;
            }
            let mut fragments = 0;
            for found in &walked.found {
                let ScanItem::Record(_, record) = found else { bail!("{name}: {found:?}") };
                survey.links.insert(record.seq, record.link());
                match record.gap() {
                    Some(gap) => drop(survey.holes.insert(record.seq, gap.reason)),
                    None => fragments += usize::from(record.key || fragments > 0),
                }
            }
            survey.segments.push(Segment {
                path: dir.join(name),
                first: head.first_seq,
                next: walked.next_seq,
                fragments,
            });
            before = Some((walked.next_seq, walked.chain));
        }
        Ok(survey)
    }

    /// Number of the newest whole record; 0 without one.
    pub fn last(&self) -> u64 {
        self.segments.last().map_or(0, |segment| segment.next - 1)
    }

    /// Checks that every record up to `promised` is present, or was evicted because the ring was
    /// full.
    ///
    /// # Errors
    /// The missing records.
    pub fn keeps(&self, promised: u64, files: usize) -> anyhow::Result<()> {
        let (first, last) = (self.segments.first().map_or(1, |segment| segment.first), self.last());
        ensure!(last >= promised, "record {promised} was promised, and the ring ends with {last}");
        // A file in reuse leaves the ring before its new head is durable.
        let full = self.segments.len() + 1 >= files;
        ensure!(
            first == 1 || full,
            "the ring begins with record {first}, but has only {} of {files} segments",
            self.segments.len()
        );
        Ok(())
    }

    /// Checks that known records have not changed, and learns the new ones.
    ///
    /// # Errors
    /// A changed record.
    pub fn agrees_with(&self, known: &mut BTreeMap<u64, Digest>) -> anyhow::Result<()> {
        for (number, link) in &self.links {
            let before = known.insert(*number, *link);
            ensure!(
                before.is_none_or(|before| before == *link),
                "record {number} is not what it was before"
            );
        }
        Ok(())
    }

    /// True if a gap record after record `after` has one of these reasons.
    pub fn explains(&self, after: u64, reasons: &[GapReason]) -> bool {
        self.holes.range(after + 1..).any(|(_, reason)| reasons.contains(reason))
    }

    /// Files for a player: the newest, and `more` others chosen by `pick`.
    pub fn sample(&self, more: usize, mut pick: impl FnMut(u64) -> u64) -> Vec<usize> {
        let count = self.segments.len();
        let others = (0..more.min(count)).map(|_| pick(count as u64) as usize);
        count
            .checked_sub(1)
            .into_iter()
            .chain(others)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    /// Number of segments with footage.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// Checks that the segments `which` open in ffprobe and play in ffmpeg, with at least one
    /// picture for every fragment, and without a message unless `torn`.
    ///
    /// # Errors
    /// The output of the player.
    pub fn play(&self, which: &[usize], torn: bool) -> anyhow::Result<()> {
        for at in which {
            let segment = &self.segments[*at];
            let may_complain = torn && at + 1 == self.segments.len();
            run(Command::new("ffprobe")
                .args(["-v", "error", "-show_entries", "stream=codec_name"])
                .arg(&segment.path))?;
            let mut player = Command::new("ffmpeg");
            player
                .args(["-nostdin", "-v", "error", "-i"])
                .arg(&segment.path)
                .args(["-map", "0:v", "-f", "framecrc", "-"]);
            let out = player.output()?;
            let (pictures, words) =
                (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
            let pictures = pictures.lines().filter(|line| !line.starts_with('#')).count();
            let name = segment.path.display();
            ensure!(
                pictures >= segment.fragments,
                "{name}: {pictures} pictures of {} fragments: {words}",
                segment.fragments
            );
            ensure!(may_complain || out.status.success() && words.is_empty(), "{name}: {words}");
        }
        Ok(())
    }
}

/// Runs `taimat ring check` and `ring list`.
///
/// # Errors
/// Their output.
pub fn tools_agree(ring: &Path, survey: &Survey) -> anyhow::Result<()> {
    let Some(oldest) = survey.segments.first() else { return Ok(()) };
    run(taimat().args(["ring", "list", "--json", "--dir"]).arg(ring))?;
    let check = taimat().args(["ring", "check", "--json", "--dir"]).arg(ring).output()?;
    let told: serde_json::Value = serde_json::from_slice(&check.stdout)?;
    ensure!(
        told["numbers"] == serde_json::json!([oldest.first, survey.last()]),
        "ring check: {told}"
    );
    // A file torn during reuse is empty, and is reported as damaged until its next reuse.
    let problems = told["problems"].as_array().map_or(&[][..], Vec::as_slice);
    let torn = problems.iter().filter(|problem| problem["what"] == "damaged segment head").count();
    ensure!(problems.len() == torn && torn == survey.unreadable, "ring check: {told}");
    Ok(())
}
