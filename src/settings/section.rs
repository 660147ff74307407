//! One table of the configuration: takes known keys, reports bad and unknown ones.

use std::cell::RefCell;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::values::{DURATIONS, SIZES, distance, scaled, shown};

/// All keys, as docs/config.md documents them.
pub const KEYS: &[&str] = &[
    "site",
    "camera.main_url",
    "camera.sub_url",
    "camera.login_file",
    "camera.audio",
    "camera.transport",
    "camera.stall_after",
    "camera.reconnect_after",
    "storage.dir",
    "storage.require_mount",
    "storage.budget",
    "storage.segment",
    "storage.journal_slots",
    "storage.snapshot_slots",
    "storage.snapshot_size",
    "storage.pin_quota",
    "storage.endurance",
    "motion.enabled",
    "motion.sensitivity",
    "motion.fps",
    "motion.quiet_after",
    "motion.max_event",
    "motion.cooldown",
    "motion.gating",
    "motion.cpu",
    "motion.max_temperature",
    "motion.utc_offset",
    "motion.zones",
    "motion.rules",
    "clip.enabled",
    "clip.snapshot",
    "clip.pre_roll",
    "clip.post_roll",
    "clip.max_requested",
    "uplink.host",
    "uplink.port",
    "uplink.ca_file",
    "uplink.cert_file",
    "uplink.key_file",
    "uplink.login_file",
    "uplink.allow_plain",
    "uplink.protocol",
    "uplink.keep_alive",
    "uplink.outbox",
    "uplink.chunk",
    "uplink.health_every",
    "uplink.rate_cap",
    "uplink.day_budget",
    "uplink.month_budget",
    "uplink.quiet_hours",
    "uplink.files",
    "uplink.integrations",
    "uplink.fallbacks",
    "remote.keys",
    "remote.trial",
];

/// One bad key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The key with its path, e.g. `camera.main_url`.
    pub key: String,
    /// The error and the allowed values, without secrets.
    pub reason: String,
}

/// All problems of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Problem { key, reason }) in self.0.iter().enumerate() {
            write!(f, "{}{key}: {reason}", if i > 0 { "\n" } else { "" })?;
        }
        Ok(())
    }
}

/// One table of the configuration. The parser removes each known key; the rest are unknown keys.
pub(super) struct Section<'a> {
    pub(super) path: String,
    pub(super) table: Table,
    pub(super) problems: &'a RefCell<Vec<Problem>>,
}

impl<'a> Section<'a> {
    pub(super) fn key(&self, key: &str) -> String {
        let bare = !key.is_empty()
            && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
        // The message shows the key as it stands in the file, with quotes when it needs them.
        let key = if bare { key.to_owned() } else { Value::from(key).to_string() };
        if self.path.is_empty() { key } else { format!("{}.{key}", self.path) }
    }

    pub(super) fn bad(&self, key: &str, reason: impl Into<String>) {
        self.problems.borrow_mut().push(Problem { key: self.key(key), reason: reason.into() });
    }

    pub(super) fn missing<T>(&self, key: &str, what: &str) -> Option<T> {
        if self.problems.borrow().iter().all(|problem| problem.key != self.key(key)) {
            self.bad(key, format!("is missing: {what}"));
        }
        None
    }

    pub(super) fn section(&mut self, key: &str) -> Section<'a> {
        let table = match self.table.remove(key) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(other) => {
                self.bad(key, format!("must be a table [{key}], not {}", other.type_str()));
                Table::new()
            }
        };
        Section { path: self.key(key), table, problems: self.problems }
    }

    /// Removes a value and converts it; reports a value of another type.
    pub(super) fn take<T>(
        &mut self,
        key: &str,
        want: &str,
        convert: impl Fn(&Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.table.remove(key)?;
        let converted = convert(&value);
        if converted.is_none() {
            self.bad(key, format!("must be {want}, not {}", shown(&value)));
        }
        converted
    }

    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        self.take(key, "text in quotes", |value| value.as_str().map(String::from))
    }

    pub(super) fn flag(&mut self, key: &str, default: bool) -> bool {
        self.take(key, "true or false", Value::as_bool).unwrap_or(default)
    }

    pub(super) fn path(&mut self, key: &str) -> Option<PathBuf> {
        let text = self.text(key)?;
        // No name on any file system holds a NUL, and none of ours an escape sequence.
        if text.is_empty() || text.contains(char::is_control) {
            self.bad(key, format!("must be a path without control characters, not {text:?}"));
            return None;
        }
        Some(text.into())
    }

    /// A whole number in a range.
    pub(super) fn number(
        &mut self,
        key: &str,
        range: std::ops::RangeInclusive<u64>,
        default: u64,
    ) -> u64 {
        let (low, high) = (*range.start(), *range.end());
        let want = format!("a whole number from {low} to {high}");
        let fits = |value: &Value| {
            u64::try_from(value.as_integer()?).ok().filter(|number| range.contains(number))
        };
        self.take(key, &want, fits).unwrap_or(default)
    }

    /// A duration such as `"5 s"`, in microseconds; bounds and default in seconds.
    pub(super) fn duration(&mut self, key: &str, low: u64, high: u64, default: u64) -> u64 {
        let want = format!("a duration from \"{low} s\" to \"{high} s\" (ms, s, min, h)");
        let range = low * 1_000_000..=high * 1_000_000;
        let fits = |value: &Value| {
            scaled(value.as_str()?, DURATIONS).filter(|micros| range.contains(micros))
        };
        self.take(key, &want, fits).unwrap_or(default * 1_000_000)
    }

    /// A size such as `"16 MiB"`, in bytes.
    pub(super) fn size(&mut self, key: &str, low: u64, high: u64, default: u64) -> u64 {
        let want = format!(
            "a size from \"{} KiB\" to \"{} GiB\" (KiB, MiB, GiB, TiB)",
            low >> 10,
            high >> 30
        );
        let fits = |value: &Value| {
            scaled(value.as_str()?, SIZES).filter(|bytes| (low..=high).contains(bytes))
        };
        self.take(key, &want, fits).unwrap_or(default)
    }

    pub(super) fn one_of<T: Copy>(&mut self, key: &str, words: &[(&str, T)], default: T) -> T {
        let list: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let want = format!("one of {}", list.join(", "));
        let pick = |value: &Value| {
            words.iter().find(|(word, _)| value.as_str() == Some(word)).map(|(_, value)| *value)
        };
        self.take(key, &want, pick).unwrap_or(default)
    }

    /// Reports the unknown keys.
    pub(super) fn finish(self) {
        for key in self.table.keys() {
            let whole = self.key(key);
            let near = KEYS
                .iter()
                .filter(|known| distance(known, &whole) <= 3)
                .min_by_key(|known| distance(known, &whole));
            let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            self.bad(key, format!("is not a key of taimat{hint}"));
        }
    }
}
