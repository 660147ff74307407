//! Filter of `taimat office events|clips|gaps`, and the explanation of an empty table.
//!
//! What belongs here: arguments that select rows. What does not: the queries ([`crate::office::queries`]), printing ([`super::office_print`]).

use std::path::PathBuf;

use anyhow::ensure;

use super::Usage;
use crate::agent::events::kind;
use crate::office::archive::Archive;
use crate::office::queries::Filter;
use crate::units::WallTime;

/// Selects the lines to show.
#[derive(Debug, clap::Args)]
pub(super) struct Wanted {
    /// The archive's directory; `dir` of the configuration file by default.
    #[arg(long)]
    pub(super) dir: Option<PathBuf>,
    /// Only this site.
    #[arg(long)]
    pub(super) site: Option<String>,
    /// Start of the range, RFC 3339 (UTC without a zone).
    #[arg(long)]
    pub(super) from: Option<String>,
    /// End of the range, in the same form.
    #[arg(long)]
    pub(super) to: Option<String>,
    /// Only this kind: motion.start and others for events; clip, snapshot or requested for files.
    #[arg(long)]
    pub(super) kind: Option<String>,
    /// Show at most this many lines, the newest ones.
    #[arg(long, default_value_t = 100)]
    pub(super) limit: u32,
    /// JSON instead of a table.
    #[arg(long)]
    pub(super) json: bool,
}

/// Kinds of events of this version.
pub(super) const EVENT_KINDS: [&str; 23] = [
    kind::START,
    kind::STOP,
    kind::MOTION_START,
    kind::MOTION_UPDATE,
    kind::MOTION_END,
    kind::SCENE,
    kind::BLIND,
    kind::SEEING,
    kind::CAMERA_DOWN,
    kind::CAMERA_UP,
    kind::CAMERA_CLOCK,
    kind::GAP,
    kind::FILE_LOST,
    kind::SHED,
    kind::STORAGE,
    kind::REPAIR,
    kind::CARD,
    kind::CLOCK,
    kind::LOCK,
    kind::UPLINK,
    kind::CONFIG,
    kind::ACCESS,
    kind::REFUSED,
];
/// Kinds of files.
pub(super) const FILE_KINDS: [&str; 3] = ["clip", "snapshot", "requested"];

/// Reports an unknown kind or site, which would otherwise show as an empty table.
pub(super) fn explain_empty(
    archive: &Archive,
    lines: &Wanted,
    empty: bool,
    kinds: &[&str],
) -> anyhow::Result<()> {
    if let Some(word) = lines.kind.as_deref().filter(|word| empty && !kinds.contains(word)) {
        let known = kinds.join(", ");
        return Err(Usage(format!("--kind {word}: unknown kind; use one of {known}")).into());
    }
    lines.site.as_deref().filter(|_| empty).map_or(Ok(()), |site| ensure_known(archive, site))
}

/// Refuses a site that the archive does not know.
///
/// # Errors
/// Names the site.
pub(super) fn ensure_known(archive: &Archive, site: &str) -> anyhow::Result<()> {
    let there = archive.sites()?.iter().any(|row| row.site == site);
    ensure!(there, "site {site}: not in this archive; taimat office sites lists the known sites");
    Ok(())
}

/// Rejects flags for time and kind: a missing sequence number has neither.
///
/// # Errors
/// Names the flag.
pub(super) fn check_gap_flags(lines: &Wanted) -> anyhow::Result<()> {
    let given = [("from", &lines.from), ("to", &lines.to), ("kind", &lines.kind)];
    match given.into_iter().find(|(_, value)| value.is_some()) {
        None => Ok(()),
        Some((name, _)) => Err(Usage(format!(
            "--{name}: a missing number has neither time nor kind; gaps accepts --site and --limit"
        ))
        .into()),
    }
}

/// A range of time in RFC 3339 that does not end before its start.
///
/// # Errors
/// Names the flag.
pub(super) fn span(from: &str, to: &str) -> anyhow::Result<(WallTime, WallTime)> {
    let time = |name: &str, text: &str| {
        WallTime::parse(text).map_err(|reason| Usage(format!("--{name}: {reason}")))
    };
    let (from, to) = (time("from", from)?, time("to", to)?);
    if from > to {
        return Err(Usage("--from is later than --to".into()).into());
    }
    Ok((from, to))
}

/// The filter for the selected rows.
pub(super) fn filter(lines: &Wanted) -> anyhow::Result<Filter> {
    let time = |name: &str, text: &Option<String>| match text {
        Some(text) => WallTime::parse(text)
            .map(|wall| Some(wall.rfc3339()))
            .map_err(|reason| anyhow::anyhow!("--{name}: {reason}")),
        None => Ok(None),
    };
    let (from, to) = (time("from", &lines.from)?, time("to", &lines.to)?);
    if from.as_ref().zip(to.as_ref()).is_some_and(|(from, to)| from > to) {
        return Err(Usage("--from is later than --to".into()).into());
    }
    Ok(Filter { site: lines.site.clone(), from, to, limit: lines.limit, kind: lines.kind.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_begin_behind_its_end_is_the_callers_mistake() {
        let wanted = |from: &str, to: &str| Wanted {
            dir: None,
            site: None,
            from: Some(from.into()),
            to: Some(to.into()),
            kind: None,
            limit: 1,
            json: false,
        };
        assert!(filter(&wanted("2026-11-24T02:00:00Z", "2026-11-24T01:00:00Z")).is_err());
        assert!(filter(&wanted("2026-11-24T01:00:00Z", "2026-11-24T01:00:00Z")).is_ok());
        assert!(span("2026-11-24T02:00:00Z", "2026-11-24T01:00:00Z").unwrap_err().is::<Usage>());
        assert!(span("yesterday", "2026-11-24T01:00:00Z").unwrap_err().is::<Usage>());
        assert!(span("2026-11-24T01:00:00Z", "2026-11-24T01:00:00Z").is_ok());
    }

    #[test]
    fn gaps_refuse_times_and_kinds() {
        let wanted = |from: Option<&str>, kind: Option<&str>| Wanted {
            dir: None,
            site: Some("km-17".into()),
            from: from.map(str::to_owned),
            to: None,
            kind: kind.map(str::to_owned),
            limit: 1,
            json: false,
        };
        assert!(check_gap_flags(&wanted(None, None)).is_ok());
        for lines in [wanted(Some("2026-11-24T01:00:00Z"), None), wanted(None, Some("clip"))] {
            assert!(check_gap_flags(&lines).unwrap_err().is::<Usage>());
        }
    }
}
