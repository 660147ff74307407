//! An event to take away: its messages, its files, their manifests, and the digests of all of it.
//!
//! What belongs here: copying out. What does not: choosing what is evidence.
#![expect(clippy::disallowed_methods, reason = "shell: reads or writes files")]

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, ensure};

use super::archive::Archive;
use super::store::file_store::{hash, read_all};
use super::store::list_index::EventFile;
use crate::units::Digest;

/// Bytes of one read for a digest.
const PIECE: usize = 256 << 10;
/// What is said of an export that one bad file ended.
const NOTHING: &str = "Nothing was exported: --skip-bad leaves out what is bad, and taimat office check --deep names all of it";

impl Archive {
    /// Writes everything about `event` of `site`, and of the event it belongs to, into the new directory `out`: `EVENTS.jsonl` (payloads as they were received), each
    /// file with its `….MANIFEST.json` beside it, and `SHA256SUMS`, which `sha256sum -c` reads. All names differ in more than case and
    /// are names on FAT, exFAT and Windows too. Gives how many files and events. On any failure nothing is left.
    ///
    /// # Errors
    /// When there is no such event, a file has changed since it was stored, or the disk refuses.
    pub fn export(&self, site: &str, event: &str, out: &Path) -> anyhow::Result<(usize, usize)> {
        self.export_out(site, event, out, None)
    }

    /// The same without files that are missing or have changed since they were stored: which those are and why comes last.
    ///
    /// # Errors
    /// When there is no such event, or the disk refuses.
    pub fn export_good(
        &self,
        site: &str,
        event: &str,
        out: &Path,
    ) -> anyhow::Result<(usize, usize, Vec<String>)> {
        let mut bad = Vec::new();
        let (files, events) = self.export_out(site, event, out, Some(&mut bad))?;
        Ok((files - bad.len(), events, bad))
    }

    fn export_out(
        &self,
        site: &str,
        event: &str,
        out: &Path,
        bad: Option<&mut Vec<String>>,
    ) -> anyhow::Result<(usize, usize)> {
        // Of the end of a motion event its start, whose id the clip carries.
        let started = self.index.event_of(site, event)?;
        let event = started.as_deref().unwrap_or(event);
        let events = self.index.payloads_of(site, event)?;
        let files = self.index.event_files(site, event)?;
        ensure!(!events.is_empty() || !files.is_empty(), "{site} has no event or request {event}");
        ensure!(!out.exists(), "{} exists already", out.display());
        let mut name =
            out.file_name().with_context(|| format!("{} is no name", out.display()))?.to_owned();
        name.push(format!(".unfinished-{}", std::process::id()));
        let unfinished = out.with_file_name(name);
        std::fs::create_dir(&unfinished).with_context(|| format!("{}", unfinished.display()))?;
        let written = self
            .write_out(&unfinished, &events, &files, bad)
            .and_then(|()| Ok(std::fs::rename(&unfinished, out)?));
        if let Err(error) = written {
            std::fs::remove_dir_all(&unfinished)
                .with_context(|| format!("{} is left half", unfinished.display()))?;
            return Err(error);
        }
        Ok((files.len(), events.len()))
    }

    /// Copies a stored file into the new file `to`; returns the SHA-256 of what was written, read
    /// again after the flush.
    fn copy_out(&self, key: &str, to: &Path) -> std::io::Result<Digest> {
        let mut copy = File::options().read(true).write(true).create_new(true).open(to)?;
        read_all(&*self.files, key, |piece| copy.write_all(piece))?;
        copy.sync_all()?;
        copy.rewind()?;
        digest_of(&mut copy)
    }

    fn write_out(
        &self,
        out: &Path,
        events: &[Vec<u8>],
        files: &[EventFile],
        mut bad: Option<&mut Vec<String>>,
    ) -> anyhow::Result<()> {
        let write = |name: &str, bytes: &[u8]| -> anyhow::Result<String> {
            let mut file = File::create_new(out.join(name))
                .with_context(|| format!("{}", out.join(name).display()))?;
            file.write_all(bytes)?;
            file.sync_all()?;
            Ok(format!("{}  {name}\n", Digest::of(bytes).hex()))
        };
        let lines =
            events.iter().flat_map(|payload| [&payload[..], b"\n"]).collect::<Vec<_>>().concat();
        let mut sums = write("EVENTS.jsonl", &lines)?;
        let mut used = Names::default();
        for EventFile { name, key, sha256, manifest } in files {
            // Before the copy, so that only a bad source is left out, and a disk that refuses ends it all.
            match (hash(&*self.files, key), bad.as_deref_mut()) {
                (Ok(digest), _) if digest.hex() == *sha256 => {}
                (judged, bad) => {
                    let reason = judged
                        .map_or_else(|error| error.to_string(), |digest| changed(&digest, sha256));
                    let line = format!("{}: {reason}", self.files.location(key).display());
                    bad.with_context(|| format!("{line}. {NOTHING}"))?.push(line);
                    continue;
                }
            }
            let name = used.free(name);
            sums += &write(&format!("{name}.MANIFEST.json"), manifest)?;
            let copied = self.copy_out(key, &out.join(&name)).with_context(|| key.clone())?;
            ensure!(copied.hex() == *sha256, "{key}: {}", changed(&copied, sha256));
            sums += &format!("{sha256}  {name}\n");
        }
        write("SHA256SUMS", sums.as_bytes())?;
        Ok(())
    }
}

/// The SHA-256 of what is left to read.
fn digest_of(from: &mut impl Read) -> std::io::Result<Digest> {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let mut piece = vec![0; PIECE];
    loop {
        match from.read(&mut piece)? {
            0 => break,
            n => context.update(&piece[..n]),
        }
    }
    let mut digest = Digest::default();
    digest.0.copy_from_slice(context.finish().as_ref());
    Ok(digest)
}

fn changed(digest: &Digest, stored: &str) -> String {
    format!("is no longer what was stored: {} instead of {stored}", digest.hex())
}

/// Names that Windows takes for devices, whatever their ending is; `COM1` to `COM9` and `LPT1` to `LPT9` too.
const DEVICES: [&str; 4] = ["con", "prn", "aux", "nul"];

/// The names of one export, in lower case: FAT, exFAT and NTFS compare names without case.
struct Names(BTreeSet<String>);

impl Default for Names {
    fn default() -> Names {
        Names(["events.jsonl", "sha256sums"].map(str::to_owned).into())
    }
}

impl Names {
    /// A free name for a file and its manifest: the second file of one name gets `-2` before its last dot.
    fn free(&mut self, name: &str) -> String {
        let name = portable(name);
        let (stem, end) = name
            .rsplit_once('.')
            .map_or((&*name, String::new()), |(stem, end)| (stem, format!(".{end}")));
        let mut free = name.clone();
        for number in 2.. {
            let both =
                [free.to_ascii_lowercase(), format!("{free}.MANIFEST.json").to_ascii_lowercase()];
            if !both.iter().any(|name| self.0.contains(name)) {
                self.0.extend(both);
                break;
            }
            free = format!("{stem}-{number}{end}");
        }
        free
    }
}

/// A name that every file system takes: other characters than `[A-Za-z0-9._-]` become `_`, the name of a device begins with `_`, and
/// a dot at the end, which Windows drops, is followed by `_`.
fn portable(name: &str) -> String {
    let plain =
        |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' };
    let mut name: String = name.chars().map(plain).collect();
    let stem = name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let numbered = stem.strip_prefix("com").or_else(|| stem.strip_prefix("lpt"));
    if DEVICES.contains(&&*stem)
        || numbered.is_some_and(|number| matches!(number.as_bytes(), [b'0'..=b'9']))
    {
        name.insert(0, '_');
    }
    if name.is_empty() || name.ends_with('.') {
        name.push('_');
    }
    name
}
