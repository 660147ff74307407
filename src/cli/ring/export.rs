//! `taimat ring export`.
#![expect(clippy::disallowed_methods, reason = "shell: reads or writes files")]

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::{Dir, Progress, Range, length, open};
use crate::cli::Usage;
use crate::cli::time_zone::DisplayZone;
use crate::clip::FileSource as _;
use crate::clip::virtual_file::VirtualClip;
use crate::escape::{shown_json, shown_path};
use crate::evidence::manifest::{Purpose, about, of_span};
use crate::regular_file::{self, Links};
use crate::storage::disk::Disk;
use crate::storage::footage_query::{gaps_between, is_same_clock, locate};
use crate::storage::missing_records::{MissingRecords, locate_gaps, numbers};
use crate::storage::range_set::Ranges;
use crate::storage::segment_index::Index;
use crate::storage::snapshots::SnapshotGeometry;
use crate::storage::thread::CardReader;
use crate::storage::{FragmentRef, Gap, GapReason, Span, SpanQuery};
use crate::units::{SiteId, WallTime};

/// Bytes copied at a time.
const PIECE: u64 = 1 << 20;

/// Arguments of `taimat ring export`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    dir: Dir,
    #[command(flatten)]
    range: Range,
    /// The file to write. When the camera's picture format changes or the clock was set, further files follow: OUT-2.mp4 and so
    /// on. For a directory the file is export.mp4 in it.
    #[arg(short, long, default_value = "export.mp4")]
    out: PathBuf,
    /// The site's name to write into the file.
    #[arg(long, default_value = "export")]
    site: String,
    /// Overwrite existing files.
    #[arg(long)]
    force: bool,
    /// One JSON document instead of lines.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (from, to) = args.range.moments()?;
    let site = SiteId::parse(&args.site).map_err(|reason| anyhow::anyhow!("--site: {reason}"))?;
    let parent = args.out.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent.filter(|parent| !parent.is_dir()) {
        let what = "is no directory; --out names a file in one that exists";
        return Err(Usage(format!("{}: {what}", shown_path(parent))).into());
    }
    let (disk, index, _) = open(&args.dir.dir)?;
    let exported = export_spans(args, &site, &disk, &index, (from, to))?;
    let missing = lost_between(disk.as_ref(), &index, (from, to));
    if exported.files.is_empty() {
        let gaps = in_order(gaps_between(disk.as_ref(), &index, from, to));
        return nothing(args, &gaps, &missing, &exported.unread);
    }
    let edges = edges(disk.as_ref(), &index, args, exported.extent);
    // Records missing before the first file or behind the last are a gap in none of them.
    let is_unnamed = |lost: &&MissingRecords| {
        !Ranges::from_iter([(lost.first, lost.last)]).without(&exported.named).list().is_empty()
    };
    let unnamed: Vec<&MissingRecords> = missing.iter().filter(is_unnamed).collect();
    match args.json {
        true => {
            let edges: Vec<Value> = edges.iter().map(|edge| edge.json(&args.range.zone)).collect();
            let Exported { files, unread, .. } = &exported;
            let document =
                json!({"files": files, "edges": edges, "missing": unnamed, "unreadable": unread});
            println!("{}", shown_json(&document)?);
        }
        false => {
            edges.iter().for_each(|edge| eprintln!("{}", edge.sentence(&args.range.zone)));
            unnamed.iter().for_each(|lost| {
                eprintln!("{lost}: in no file of the ring, and no head says evicted")
            });
        }
    }
    if exported.damaged + unnamed.len() == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    if !args.json {
        eprintln!(
            "damaged and missing records are left out: each is listed above, and as a gap in its file"
        );
    }
    Ok(ExitCode::FAILURE)
}

/// The files that were written, and what is not in them.
#[derive(Default)]
struct Exported {
    files: Vec<Value>,
    /// Damaged stretches that were left out.
    damaged: usize,
    /// The damaged record numbers that a file names as a gap.
    named: Ranges,
    /// Last record of each span without a readable record.
    unread: Vec<u64>,
    /// Start and end of the exported footage.
    extent: Option<(WallTime, WallTime)>,
}

/// Writes a file for each span of the range. Damage costs the records it hits: the rest is exported,
/// and the gaps are named.
fn export_spans(
    args: &Args,
    site: &SiteId,
    disk: &Arc<dyn Disk>,
    index: &Index,
    (from, to): (WallTime, WallTime),
) -> anyhow::Result<Exported> {
    let out = if args.out.is_dir() { args.out.join("export.mp4") } else { args.out.clone() };
    let reader = Arc::new(CardReader::new(disk.clone(), SnapshotGeometry { slots: 0, bytes: 0 }));
    let (mut after, mut exported) = (0, Exported::default());
    let mut before = None;
    while let Some(found) =
        locate(disk.as_ref(), index, u64::MAX, &SpanQuery::Wall { from, to, after })?
    {
        let (more, last) = (found.more, found.fragments.last().map_or(u64::MAX, |last| last.seq));
        after = last;
        let unreadable = found.unreadable(reader.as_ref());
        if let Some(span) = found.without(&unreadable) {
            exported.damaged += span.damaged.len();
            span.damaged.iter().for_each(|(first, last)| exported.named.add(*first, *last));
            exported.extent = Some(extent_with(exported.extent, &span));
            let part = exported.files.len() as u32 + 1;
            let manifest = of_span(site, Purpose::Requested, "ring-export", part, &span);
            let clip = VirtualClip::assemble(&span, &about(&manifest), reader.clone());
            let path = path_of_part(&out, part);
            write(&path, &clip, args.force)?;
            let between = between(disk.as_ref(), index, before.as_ref(), &span);
            exported.files.push(describe(args, &path, &span, clip.len(), &between));
            let tracks = track_names(&span);
            before = span.fragments.last().map(|last| FileEnd { last: last.clone(), tracks });
        } else {
            if !args.json {
                eprintln!("records up to {last}: none is readable");
            }
            exported.unread.push(last);
            exported.damaged += 1;
        }
        if !more {
            break;
        }
    }
    Ok(exported)
}

/// The path of part `part`: the first one has the name that was asked for.
fn path_of_part(out: &Path, part: u32) -> PathBuf {
    match part {
        1 => out.to_owned(),
        _ => {
            let stem = out.file_stem().unwrap_or_default().to_string_lossy();
            out.with_file_name(format!("{stem}-{part}.mp4"))
        }
    }
}

/// Says why there is no file.
fn nothing(
    args: &Args,
    gaps: &[Gap],
    missing: &[MissingRecords],
    unread: &[u64],
) -> anyhow::Result<ExitCode> {
    let zone = &args.range.zone;
    if args.json {
        let gaps: Vec<Value> = gaps.iter().map(|gap| gap_json(gap, zone)).collect();
        let document = json!({"files": [], "edges": [], "gaps": gaps, "missing": missing, "unreadable": unread});
        println!("{}", shown_json(&document)?);
    }
    let gaps = gaps.iter().map(|gap| format!("gap {}", gap_text(gap, zone)));
    let why: Vec<String> = gaps.chain(missing.iter().map(ToString::to_string)).collect();
    bail!(
        "no footage between these times{}{}; see taimat ring list --dir {}",
        if why.is_empty() { "" } else { ": " },
        why.join("; "),
        shown_path(&args.dir.dir)
    )
}

/// Gaps by their begin.
fn in_order(mut gaps: Vec<Gap>) -> Vec<Gap> {
    gaps.sort_by_key(|gap| (gap.from.wall, gap.to.wall));
    gaps
}

fn gap_text(gap: &Gap, zone: &DisplayZone) -> String {
    format!("{} to {}: {}", zone.show(gap.from.wall), zone.show(gap.to.wall), reason(gap))
}

fn gap_json(gap: &Gap, zone: &DisplayZone) -> Value {
    json!({"from": zone.show(gap.from.wall), "to": zone.show(gap.to.wall), "reason": reason(gap)})
}

/// Records of the range that are in no file.
fn lost_between(
    disk: &dyn Disk,
    index: &Index,
    (from, to): (WallTime, WallTime),
) -> Vec<MissingRecords> {
    let touches = |lost: &MissingRecords| {
        lost.from.is_none_or(|begin| begin.wall <= to) && lost.to.is_none_or(|end| end.wall >= from)
    };
    locate_gaps(disk, index, &index.lost).into_iter().filter(touches).collect()
}

/// From the first picture of the files so far to the last.
fn extent_with(extent: Option<(WallTime, WallTime)>, span: &Span) -> (WallTime, WallTime) {
    let (first, last) =
        (span.fragments[0].start.wall, span.fragments[span.fragments.len() - 1].end().wall);
    extent.map_or((first, last), |(begin, end)| (begin.min(first), end.max(last)))
}

/// An edge of the exported footage inside the requested range, with the gaps that explain it.
struct Edge {
    asked: WallTime,
    reached: WallTime,
    gaps: Vec<Gap>,
}

impl Edge {
    fn sentence(&self, zone: &DisplayZone) -> String {
        let Edge { asked, reached, gaps } = self;
        let begin = asked < reached;
        let (from, ends, lies) =
            if begin { ("from", "begins", "before") } else { ("to", "ends", "behind") };
        let gap = |gap: &Gap| gap_text(gap, zone);
        let why = match gaps.is_empty() {
            true => format!("what lies {lies} is not in the ring"),
            false => format!("gap {}", gaps.iter().map(gap).collect::<Vec<_>>().join("; ")),
        };
        format!(
            "asked {from} {}, and the footage {ends} at {}: {why}",
            zone.show(*asked),
            zone.show(*reached)
        )
    }

    fn json(&self, zone: &DisplayZone) -> Value {
        let gaps: Vec<Value> = self.gaps.iter().map(|gap| gap_json(gap, zone)).collect();
        json!({"asked": zone.show(self.asked), "reached": zone.show(self.reached), "gaps": gaps})
    }
}

/// The reason of a gap; footage before the oldest record was evicted.
fn reason(gap: &Gap) -> &'static str {
    if gap.reason == GapReason::EvictedPinned { "evicted" } else { gap.reason.as_str() }
}

/// The edges of the export that differ from the requested range.
fn edges(
    disk: &dyn Disk,
    index: &Index,
    args: &Args,
    extent: Option<(WallTime, WallTime)>,
) -> Vec<Edge> {
    let (Some((begin, end)), Ok((from, to))) = (extent, args.range.moments()) else {
        return Vec::new();
    };
    let early = (args.range.from.is_some() && begin > from)
        .then(|| (from, begin, in_order(gaps_between(disk, index, from, begin))));
    let late = (args.range.to.is_some() && end < to)
        .then(|| (to, end, in_order(gaps_between(disk, index, end, to))));
    [early, late]
        .into_iter()
        .flatten()
        .map(|(asked, reached, gaps)| Edge { asked, reached, gaps })
        .collect()
}

/// The end of a file: its last fragment and the formats of its tracks.
struct FileEnd {
    last: FragmentRef,
    tracks: String,
}

fn track_names(span: &Span) -> String {
    let names: Vec<String> = span.tracks.iter().map(|track| track.describe()).collect();
    names.join(", ")
}

/// What lies between a file and the one before it.
#[derive(Default)]
struct Between {
    gaps: Vec<Gap>,
    /// Microseconds by which the clock was set back.
    set_back: u64,
    /// The formats before and after, if another format began.
    formats: Option<(String, String)>,
}

/// What lies between the file before, if there is one, and the next.
fn between(disk: &dyn Disk, index: &Index, before: Option<&FileEnd>, span: &Span) -> Between {
    let Some(FileEnd { last, tracks }) = before else { return Between::default() };
    let (first, end) = (&span.fragments[0], last.end().wall);
    let (begin, set_back) = (first.start.wall, set_back(last, first));
    // One in which the clock was set back has no length.
    let is_inside =
        |gap: &Gap| gap.from.wall >= end && gap.from.wall < gap.to.wall && gap.to.wall <= begin;
    let mut gaps = if begin > end { gaps_between(disk, index, end, begin) } else { Vec::new() };
    gaps.retain(is_inside);
    let formats = (last.layout != first.layout).then(|| (tracks.clone(), track_names(span)));
    Between { gaps: in_order(gaps), set_back, formats }
}

/// Microseconds by which the wall clock was set back between two fragments. Within a boot the
/// monotonic clock shows it: capture times overlap by their jitter where the format changes, and
/// that is no step. Between two boots a wall time that goes back is one.
fn set_back(before: &FragmentRef, next: &FragmentRef) -> u64 {
    if is_same_clock(before, next) {
        return 0;
    }
    if before.boot != next.boot {
        return before.end().wall.0.saturating_sub(next.start.wall.0).max(0) as u64;
    }
    let wall = next.start.wall.0.saturating_sub(before.start.wall.0);
    let mono = (next.start.mono.0 as i64).saturating_sub(before.start.mono.0 as i64);
    mono.saturating_sub(wall).max(0) as u64
}

/// Describes a written file, and prints it at once unless JSON is requested.
fn describe(args: &Args, path: &Path, span: &Span, size: u64, between: &Between) -> Value {
    let zone = &args.range.zone;
    let (begin, last) = (span.fragments[0].start, &span.fragments[span.fragments.len() - 1]);
    let end = last.end();
    let found = in_order(span.gaps.clone());
    let gaps: Vec<Value> = found.iter().map(|gap| gap_json(gap, zone)).collect();
    let before: Vec<Value> = between.gaps.iter().map(|gap| gap_json(gap, zone)).collect();
    if !args.json {
        println!(
            "{}: {} to {}, {size} bytes, clock {}",
            shown_path(path),
            zone.show(begin.wall),
            zone.show(end.wall),
            begin.quality.as_str()
        );
        if between.set_back > 0 {
            println!("  the clock was set back {} before it", length(between.set_back));
        }
        if let Some((before, now)) = &between.formats {
            println!("  another file, because the format changed: {before} to {now}");
        }
        for gap in &between.gaps {
            println!("  gap before it, {}", gap_text(gap, zone));
        }
        for gap in &found {
            println!("  gap {}", gap_text(gap, zone));
        }
    }
    for (first, last) in span.damaged.iter().filter(|_| !args.json) {
        println!("  left out: {} damaged or missing", numbers(*first, *last));
    }
    let formats = between.formats.as_ref();
    let format_change = formats.map(|(before, now)| json!({"before": before, "now": now}));
    json!({"format_change": format_change, "damaged": span.damaged, "file": path.to_string_lossy(), "from": zone.show(begin.wall), "to": zone.show(end.wall), "clock": begin.quality, "bytes": size, "gaps": gaps, "gaps_before": before, "set_back_ms": between.set_back.div_ceil(1000)})
}

fn write(path: &Path, clip: &VirtualClip, force: bool) -> anyhow::Result<()> {
    if path.exists() && !force {
        bail!("{} exists; --force overwrites it", shown_path(path));
    }
    let file = regular_file::open(
        path,
        OpenOptions::new().write(true).create(true).truncate(true),
        Links::Follow,
    );
    let mut file = file.with_context(|| shown_path(path))?;
    let copied = copy(clip, &mut file).with_context(|| shown_path(path));
    if copied.is_err() {
        // A partial file could be mistaken for the whole range.
        let _ = std::fs::remove_file(path);
    }
    copied
}

fn copy(clip: &VirtualClip, file: &mut File) -> anyhow::Result<()> {
    let mut progress = Progress::new("exporting");
    let mut offset = 0;
    while offset < clip.len() {
        let len = PIECE.min(clip.len() - offset);
        file.write_all(&clip.read(offset, len as u32).map_err(anyhow::Error::msg)?)?;
        offset += len;
        progress.at(offset, clip.len());
    }
    Ok(file.sync_all()?)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::units::{Boot, Digest, MonoTime, Timestamp};

    fn fragment(boot: u32, mono: u64, wall: i64) -> FragmentRef {
        let start =
            Timestamp { mono: MonoTime(mono), wall: WallTime(wall), ..Timestamp::default() };
        FragmentRef {
            seq: 1,
            segment: 0,
            lap: 1,
            offset: 0,
            len: 100,
            key: true,
            boot: Boot(boot),
            start,
            duration: 1_000_000,
            media: 0,
            lead: 0,
            base: 0,
            payload: 90,
            layout: Digest::default(),
        }
    }

    #[test]
    fn overlapping_capture_times_are_no_clock_set_back() {
        let before = fragment(1, 5_000_000, 5_000_000);
        assert_eq!(set_back(&before, &fragment(1, 5_999_000, 5_999_000)), 0);
        assert_eq!(set_back(&before, &fragment(1, 6_000_000, 3_000_000)), 3_000_000);
        assert_eq!(set_back(&before, &fragment(2, 1_000_000, 4_000_000)), 2_000_000);
    }

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn an_export_inside_a_gap_names_the_gaps_in_order() {
        let at =
            |second: i64| Timestamp { wall: WallTime(second * 1_000_000), ..Timestamp::default() };
        let gap = |from, to, reason| Gap { from: at(from), to: at(to), reason, bytes: 0 };
        let gaps =
            in_order(vec![gap(20, 30, GapReason::PowerCut), gap(10, 20, GapReason::CameraDown)]);
        for json in [&[][..], &["--json"]] {
            let line = ["taimat", "--dir", "/ring"].iter().chain(json);
            let Ok(line) = Line::try_parse_from(line) else { panic!("the arguments are wrong") };
            let error = nothing(&line.args, &gaps, &[], &[]).unwrap_err().to_string();
            let places = ["camera_down", "power_cut"].map(|reason| error.find(reason));
            assert!(places[0].is_some() && places[0] < places[1], "{error}");
        }
    }
}
