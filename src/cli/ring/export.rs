//! ⇄ `taimat ring export`.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use super::{Dir, Progress, Range, open};
use crate::clip::FileSource as _;
use crate::clip::virtual_file::VirtualClip;
use crate::escape::shown_json;
use crate::evidence::manifest::{Purpose, about, of_span};
use crate::regular_file::{self, Links};
use crate::storage::disk::Disk;
use crate::storage::footage_query::locate;
use crate::storage::missing_records::{MissingRecords, locate_gaps, numbers};
use crate::storage::range_set::Ranges;
use crate::storage::segment_index::Index;
use crate::storage::snapshots::SnapshotGeometry;
use crate::storage::thread::CardReader;
use crate::storage::{Span, SpanQuery};
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
    /// OUT-2.mp4 and so on.
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
    let reader = Arc::new(CardReader::new(disk.clone(), SnapshotGeometry { slots: 0, bytes: 0 }));
    let (mut after, mut made, mut damaged) = (0, Vec::new(), 0);
    let mut extent: Option<(WallTime, WallTime)> = None;
    let mut named = Ranges::default();
    while let Some(found) = locate(disk.as_ref(), &index, u64::MAX, &SpanQuery::Wall { from, to, after })? {
        let (more, last) = (found.more, found.fragments.last().map_or(u64::MAX, |last| last.seq));
        after = last;
        // Damage costs the records it hits: the rest is exported, and the gaps are named.
        let unreadable = found.unreadable(reader.as_ref());
        let Some(span) = found.without(&unreadable) else {
            eprintln!("records up to {last}: not one of them can be read");
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
            1 => args.out.clone(),
            _ => args.out.with_file_name(format!("{}-{part}.mp4", args.out.file_stem().unwrap_or_default().to_string_lossy())),
        };
        write(&path, &clip, args.force)?;
        made.push(describe(args, &path, &span, clip.len()));
        if !more {
            break;
        }
    }
    let missing = lost_between(disk.as_ref(), &index, (from, to));
    ensure!(
        !made.is_empty(),
        "nothing is left between these times{}; see taimat ring list --dir {}",
        missing.first().map(|lost| format!(": {lost}")).unwrap_or_default(),
        args.dir.dir.display()
    );
    if args.json {
        println!("{}", shown_json(&made)?);
    }
    report_edges(args, extent);
    // What is missing before the first file and behind the last is a gap in none of them.
    let unnamed = missing.iter().filter(|lost| !Ranges::from_iter([(lost.first, lost.last)]).without(&named).list().is_empty());
    for lost in unnamed {
        eprintln!("{lost}: in no file of the ring, and no head says evicted");
        damaged += 1;
    }
    match damaged {
        0 => Ok(ExitCode::SUCCESS),
        _ => {
            eprintln!(
                "records that are damaged or missing are left out: each is named above, and as a gap in the files it lies in"
            );
            Ok(ExitCode::FAILURE)
        }
    }
}

/// What is in no file of the asked range.
fn lost_between(disk: &dyn Disk, index: &Index, (from, to): (WallTime, WallTime)) -> Vec<MissingRecords> {
    let touches =
        |lost: &MissingRecords| lost.from.is_none_or(|begin| begin.wall <= to) && lost.to.is_none_or(|end| end.wall >= from);
    locate_gaps(disk, index, &index.lost).into_iter().filter(touches).collect()
}

/// From the first picture of the files so far to the last.
fn extent_with(extent: Option<(WallTime, WallTime)>, span: &Span) -> (WallTime, WallTime) {
    let (first, last) = (span.fragments[0].start.wall, span.fragments[span.fragments.len() - 1].end().wall);
    extent.map_or((first, last), |(begin, end)| (begin.min(first), end.max(last)))
}

/// Says where the files begin later or end earlier than was asked.
fn report_edges(args: &Args, extent: Option<(WallTime, WallTime)>) {
    let (Some((begin, end)), Ok((from, to))) = (extent, args.range.moments()) else {
        return;
    };
    let show = |wall: WallTime| args.range.zone.show(wall);
    if args.range.from.is_some() && begin > from {
        eprintln!("asked from {}, and the footage begins at {}: what lies before is not in the ring", show(from), show(begin));
    }
    if args.range.to.is_some() && end < to {
        eprintln!("asked to {}, and the footage ends at {}: what lies behind is not in the ring", show(to), show(end));
    }
}

/// What was made, said at once unless a document is wanted.
fn describe(args: &Args, path: &Path, span: &Span, size: u64) -> Value {
    let zone = &args.range.zone;
    let (begin, last) = (span.fragments[0].start, &span.fragments[span.fragments.len() - 1]);
    let end = last.end();
    let gaps: Vec<Value> = span
        .gaps
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
        for gap in &span.gaps {
            println!("  missing {} to {}: {}", zone.show(gap.from.wall), zone.show(gap.to.wall), gap.reason.as_str());
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
    let file = regular_file::open(path, OpenOptions::new().write(true).create(true).truncate(true), Links::Follow);
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
