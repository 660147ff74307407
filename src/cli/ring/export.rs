//! `taimat ring export`.
#![expect(clippy::disallowed_methods, reason = "shell: reads or writes files")]

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::{Dir, Progress, Range, open};
use crate::cli::time_zone::DisplayZone;
use crate::clip::FileSource as _;
use crate::clip::virtual_file::VirtualClip;
use crate::escape::shown_json;
use crate::evidence::manifest::{Purpose, about, of_span};
use crate::regular_file::{self, Links};
use crate::storage::disk::Disk;
use crate::storage::footage_query::{gaps_between, locate};
use crate::storage::missing_records::{MissingRecords, locate_gaps, numbers};
use crate::storage::range_set::Ranges;
use crate::storage::segment_index::Index;
use crate::storage::snapshots::SnapshotGeometry;
use crate::storage::thread::CardReader;
use crate::storage::{Gap, GapReason, Span, SpanQuery};
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
    /// The file to make. What cannot be in one file (the camera's picture format changed, the clock was set back) makes several:
    /// OUT-2.mp4 and so on. In a directory it is named export.mp4.
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
    let (disk, index, _) = open(&args.dir.dir)?;
    let out = if args.out.is_dir() { args.out.join("export.mp4") } else { args.out.clone() };
    let reader = Arc::new(CardReader::new(disk.clone(), SnapshotGeometry { slots: 0, bytes: 0 }));
    let (mut after, mut made, mut damaged, mut unread) = (0, Vec::new(), 0, Vec::new());
    let mut extent: Option<(WallTime, WallTime)> = None;
    let mut named = Ranges::default();
    while let Some(found) =
        locate(disk.as_ref(), &index, u64::MAX, &SpanQuery::Wall { from, to, after })?
    {
        let (more, last) = (found.more, found.fragments.last().map_or(u64::MAX, |last| last.seq));
        after = last;
        // Damage costs the records it hits: the rest is exported, and the gaps are named.
        let unreadable = found.unreadable(reader.as_ref());
        let Some(span) = found.without(&unreadable) else {
            if !args.json {
                eprintln!("records up to {last}: not one of them can be read");
            }
            unread.push(last);
            damaged += 1;
            if more { continue } else { break }
        };
        damaged += span.damaged.len();
        span.damaged.iter().for_each(|(first, last)| named.add(*first, *last));
        extent = Some(extent_with(extent, &span));
        let part = made.len() as u32 + 1;
        let manifest = of_span(&site, Purpose::Requested, "ring-export", part, &span);
        let clip = VirtualClip::assemble(&span, &about(&manifest), reader.clone());
        let path = match part {
            1 => out.clone(),
            _ => out.with_file_name(format!(
                "{}-{part}.mp4",
                out.file_stem().unwrap_or_default().to_string_lossy()
            )),
        };
        write(&path, &clip, args.force)?;
        made.push(describe(args, &path, &span, clip.len()));
        if !more {
            break;
        }
    }
    let missing = lost_between(disk.as_ref(), &index, (from, to));
    if made.is_empty() {
        let gaps = in_order(gaps_between(disk.as_ref(), &index, from, to));
        return nothing(args, &gaps, &missing, &unread);
    }
    let edges = edges(disk.as_ref(), &index, args, extent);
    // Records missing before the first file or behind the last are a gap in none of them.
    let is_unnamed = |lost: &&MissingRecords| {
        !Ranges::from_iter([(lost.first, lost.last)]).without(&named).list().is_empty()
    };
    let unnamed: Vec<&MissingRecords> = missing.iter().filter(is_unnamed).collect();
    damaged += unnamed.len();
    match args.json {
        true => {
            let edges: Vec<Value> = edges.iter().map(|edge| edge.json(&args.range.zone)).collect();
            let document =
                json!({"files": made, "edges": edges, "missing": unnamed, "unreadable": unread});
            println!("{}", shown_json(&document)?);
        }
        false => {
            edges.iter().for_each(|edge| eprintln!("{}", edge.sentence(&args.range.zone)));
            unnamed.iter().for_each(|lost| {
                eprintln!("{lost}: in no file of the ring, and no head says evicted")
            });
        }
    }
    match damaged {
        0 => Ok(ExitCode::SUCCESS),
        _ => {
            if !args.json {
                eprintln!(
                    "records that are damaged or missing are left out: each is named above, and as a gap in the file it lies in"
                );
            }
            Ok(ExitCode::FAILURE)
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
    let gaps = gaps.iter().map(|gap| format!("missing {}", gap_text(gap, zone)));
    let why: Vec<String> = gaps.chain(missing.iter().map(ToString::to_string)).collect();
    bail!(
        "nothing is left between these times{}{}; see taimat ring list --dir {}",
        if why.is_empty() { "" } else { ": " },
        why.join("; "),
        args.dir.dir.display()
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

/// What is in no file of the asked range.
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

/// Where the files begin later or end earlier than was asked, and the gaps that say why.
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
            false => format!("missing {}", gaps.iter().map(gap).collect::<Vec<_>>().join("; ")),
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

/// Footage before the oldest that is there went in its turn.
fn reason(gap: &Gap) -> &'static str {
    if gap.reason == GapReason::EvictedPinned { "evicted" } else { gap.reason.as_str() }
}

/// The edges of what was exported that are not where they were asked.
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

/// What was made, said at once unless a document is wanted.
fn describe(args: &Args, path: &Path, span: &Span, size: u64) -> Value {
    let zone = &args.range.zone;
    let (begin, last) = (span.fragments[0].start, &span.fragments[span.fragments.len() - 1]);
    let end = last.end();
    let found = in_order(span.gaps.clone());
    let gaps: Vec<Value> = found
        .iter()
        .map(|gap| json!({"from": zone.show(gap.from.wall), "to": zone.show(gap.to.wall), "reason": gap.reason.as_str()}))
        .collect();
    if !args.json {
        println!(
            "{}: {} to {}, {size} bytes, clock {}",
            path.display(),
            zone.show(begin.wall),
            zone.show(end.wall),
            begin.quality.as_str()
        );
        for gap in &found {
            println!(
                "  missing {} to {}: {}",
                zone.show(gap.from.wall),
                zone.show(gap.to.wall),
                gap.reason.as_str()
            );
        }
    }
    for (first, last) in span.damaged.iter().filter(|_| !args.json) {
        println!("  left out: {} damaged or missing", numbers(*first, *last));
    }
    json!({"damaged": span.damaged, "file": path, "from": zone.show(begin.wall), "to": zone.show(end.wall), "clock": begin.quality, "bytes": size, "gaps": gaps})
}

fn write(path: &Path, clip: &VirtualClip, force: bool) -> anyhow::Result<()> {
    if path.exists() && !force {
        bail!("{} exists; --force overwrites it", path.display());
    }
    let file = regular_file::open(
        path,
        OpenOptions::new().write(true).create(true).truncate(true),
        Links::Follow,
    );
    let mut file = file.with_context(|| path.display().to_string())?;
    let copied = copy(clip, &mut file).with_context(|| path.display().to_string());
    if copied.is_err() {
        // Half a file would be taken for the whole range.
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
    use crate::units::Timestamp;

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
