//! ⇄ `taimat ring list|check|export`: looks into a ring, beside a running agent or on a card in a laptop. Never writes into it.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use serde_json::json;

use crate::clip::FileSource as _;
use crate::clip::assemble::Clip;
use crate::evidence::manifest::Purpose;
use crate::evidence::manifest::{about, of_span};
use crate::storage::SpanQuery;
use crate::storage::disk::{Disk, RealDisk};
use crate::storage::index::Index;
use crate::storage::locate::locate;
use crate::storage::recovery::look;
use crate::storage::stills::Geometry;
use crate::storage::thread::Reader;
use crate::storage::walk::{Depth, End, Found, walk};
use crate::units::{SiteId, Stamp, Wall};

/// Bytes copied at a time by `export`.
const PIECE: u64 = 1 << 20;
/// Two stretches closer than this are one in the list, microseconds.
const JOIN: u64 = 100_000;

/// Arguments of `taimat ring`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Show what is recorded, and the holes.
    List {
        /// The ring's directory.
        #[arg(long)]
        dir: PathBuf,
        /// One JSON document instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Check every record's checksum and the chain; exit code 1 when something is damaged.
    Check {
        /// The ring's directory.
        #[arg(long)]
        dir: PathBuf,
        /// One JSON document instead of lines.
        #[arg(long)]
        json: bool,
    },
    /// Copy a range into an MP4 file, without re-encoding.
    Export {
        /// The ring's directory.
        #[arg(long)]
        dir: PathBuf,
        /// Begin, RFC 3339 (UTC when no zone is given); the oldest footage otherwise.
        #[arg(long)]
        from: Option<String>,
        /// End, likewise; the newest footage otherwise.
        #[arg(long)]
        to: Option<String>,
        /// The file to make. A range of several parts makes several: OUT-2.mp4 and so on.
        #[arg(short, long, default_value = "export.mp4")]
        out: PathBuf,
        /// Overwrite existing files.
        #[arg(long)]
        force: bool,
    },
}

/// Carries it out.
///
/// # Errors
/// When the directory cannot be read or the file cannot be made.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.what {
        What::List { dir, json } => list(&dir, json),
        What::Check { dir, json } => check(&dir, json),
        What::Export { dir, from, to, out, force } => export(&dir, from.as_deref(), to.as_deref(), &out, force),
    }
}

fn open(dir: &Path) -> anyhow::Result<(Arc<dyn Disk>, Index)> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::look(dir)?);
    let (index, troubles) = look(&disk)?;
    troubles.iter().for_each(|trouble| eprintln!("{trouble}"));
    ensure!(!index.live().is_empty(), "{}: nothing is recorded here", dir.display());
    Ok((disk, index))
}

/// A stretch of footage without a break.
struct Stretch {
    boot: u32,
    begin: Stamp,
    end: Stamp,
    records: (u64, u64),
    bytes: u64,
}

fn list(dir: &Path, as_json: bool) -> anyhow::Result<ExitCode> {
    let (disk, index) = open(dir)?;
    let mut lines: Vec<(u64, Result<Stretch, crate::storage::Gap>)> = Vec::new();
    for segment in index.live() {
        for found in walk(disk.as_ref(), segment, Depth::Records)?.found {
            let Found::Record(_, record) = found else { continue };
            if let Some(gap) = record.hole() {
                lines.push((record.seq, Err(gap)));
                continue;
            }
            let end = record.start.at(record.start.mono.plus_micros(record.duration));
            match lines.last_mut() {
                Some((_, Ok(last))) if last.boot == record.boot.0 && record.start.mono.since(last.end.mono) <= JOIN => {
                    (last.end, last.records.1) = (end, record.seq);
                    last.bytes += u64::from(record.payload);
                }
                _ => {
                    let (begin, bytes, records) = (record.start, record.payload.into(), (record.seq, record.seq));
                    lines.push((record.seq, Ok(Stretch { boot: record.boot.0, begin, end, records, bytes })));
                }
            }
        }
    }
    if as_json {
        let rows: Vec<_> = lines
            .iter()
            .map(|(_, line)| match line {
                Ok(s) => json!({"from": s.begin.wall.rfc3339(), "to": s.end.wall.rfc3339(), "clock": s.begin.quality,
                    "boot": s.boot, "records": s.records, "bytes": s.bytes}),
                Err(gap) => json!({"gap": gap.reason.word(), "from": gap.from.wall.rfc3339(), "to": gap.to.wall.rfc3339(), "bytes": gap.bytes}),
            })
            .collect();
        println!("{}", serde_json::to_string_pretty(&rows)?);
        return Ok(ExitCode::SUCCESS);
    }
    println!("{:24}  {:24}  {:6}  {:>4}  {:>15}  {:>9}", "from (UTC)", "to (UTC)", "clock", "boot", "records", "MiB");
    for (_, line) in lines {
        match line {
            Ok(s) => println!(
                "{:24}  {:24}  {:6}  {:>4}  {:>15}  {:>9.1}",
                s.begin.wall.rfc3339(),
                s.end.wall.rfc3339(),
                s.begin.quality.word(),
                s.boot,
                format!("{}-{}", s.records.0, s.records.1),
                s.bytes as f64 / 1_048_576.0
            ),
            Err(gap) => {
                println!("{:24}  {:24}  -- missing: {}", gap.from.wall.rfc3339(), gap.to.wall.rfc3339(), gap.reason.word())
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn check(dir: &Path, as_json: bool) -> anyhow::Result<ExitCode> {
    let (disk, index) = open(dir)?;
    let (mut problems, mut records) = (Vec::new(), 0_u64);
    let mut before: Option<(u64, crate::units::Digest)> = None;
    let newest = index.live().len() - 1;
    for (at, segment) in index.live().iter().enumerate() {
        let name = crate::storage::disk::FileId::Segment(segment.head.segment).name();
        if let Some((next, chain)) = before
            && (next, chain) != (segment.head.first_seq, segment.head.previous)
        {
            problems.push(format!("{name}: begins with record {}, expected {next} and its chain", segment.head.first_seq));
        }
        let walked = walk(disk.as_ref(), segment, Depth::Content)?;
        for found in &walked.found {
            match found {
                Found::Record(..) => records += 1,
                Found::Damaged { offset, first, last } => {
                    problems.push(format!("{name} offset {offset}: records {first} to {last} are damaged"));
                }
            }
        }
        if walked.end == End::Torn && at != newest {
            problems.push(format!("{name} offset {}: neither a record nor free space", walked.at));
        }
        before = Some((walked.next_seq, walked.chain));
    }
    if as_json {
        println!("{}", json!({"segments": index.live().len(), "records": records, "problems": problems}));
    } else {
        problems.iter().for_each(|problem| println!("{problem}"));
        println!("{} segments, {records} records, {} problem(s)", index.live().len(), problems.len());
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn export(dir: &Path, from: Option<&str>, to: Option<&str>, out: &Path, force: bool) -> anyhow::Result<ExitCode> {
    let time = |name: &str, text: Option<&str>, default: i64| match text {
        Some(text) => Wall::parse(text).map_err(|reason| anyhow::anyhow!("--{name}: {reason}")),
        None => Ok(Wall(default)),
    };
    let (from, to) = (time("from", from, i64::MIN)?, time("to", to, i64::MAX)?);
    let (disk, index) = open(dir)?;
    let reader = Arc::new(Reader::new(disk.clone(), Geometry { slots: 0, bytes: 0 }));
    let site = SiteId::parse("export").map_err(anyhow::Error::msg)?;
    let (mut after, mut part) = (0, 1);
    loop {
        let Some(span) = locate(disk.as_ref(), &index, u64::MAX, &SpanQuery::Wall { from, to, after })? else {
            ensure!(part > 1, "nothing is recorded between these times; see taimat ring list --dir {}", dir.display());
            return Ok(ExitCode::SUCCESS);
        };
        let manifest = of_span(&site, Purpose::Requested, "ring-export", part, &span);
        let clip = Clip::assemble(&span, &about(&manifest), reader.clone());
        let path = match part {
            1 => out.to_owned(),
            _ => out.with_file_name(format!("{}-{part}.mp4", out.file_stem().unwrap_or_default().to_string_lossy())),
        };
        write(&path, &clip, force)?;
        println!("{}: {} to {}, {} bytes, {} hole(s)", path.display(), manifest.from, manifest.to, clip.len(), span.gaps.len());
        if !span.more {
            return Ok(ExitCode::SUCCESS);
        }
        (after, part) = (span.fragments.last().map_or(u64::MAX, |last| last.seq), part + 1);
    }
}

fn write(path: &Path, clip: &Clip, force: bool) -> anyhow::Result<()> {
    if path.exists() && !force {
        bail!("{} exists; --force overwrites it", path.display());
    }
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(path);
    let mut file = file.with_context(|| path.display().to_string())?;
    let mut offset = 0;
    while offset < clip.len() {
        let len = PIECE.min(clip.len() - offset);
        file.write_all(&clip.read(offset, len as u32).map_err(anyhow::Error::msg)?)?;
        offset += len;
    }
    Ok(())
}
