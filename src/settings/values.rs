//! Single values of a configuration: numbers with units, hosts, and how a value or a key is shown in a reason.
//!
//! What belongs here: reading and showing one value. What does not: which key takes which ([`super::parse`]).

use toml::Value;

use crate::redact;

pub(super) const DURATIONS: &[(&str, u64)] =
    &[("ms", 1000), ("s", 1_000_000), ("min", 60_000_000), ("h", 3_600_000_000)];
pub(super) const SIZES: &[(&str, u64)] =
    &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// `"5 s"` → 5,000,000 with the units given.
pub(super) fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let unit = text[digits..].trim();
    let (_, scale) = units.iter().find(|(word, _)| *word == unit)?;
    text[..digits].parse::<u64>().ok()?.checked_mul(*scale)
}

/// A value as it may be shown: passwords only ever stand in files, but a URL with one may be here by mistake.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if text.contains('@') || redact::masked(text) != *text => {
            "(hidden: it may hold a password)".into()
        }
        Value::String(text) => format!("{:?}", text.chars().take(60).collect::<String>()),
        other => other.to_string().chars().take(60).collect(),
    }
}

/// Edit distance (Levenshtein 1966), for hints.
pub(super) fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.chars().enumerate() {
            let replaced = corner + usize::from(a != b);
            corner = row[j + 1];
            row[j + 1] = replaced.min(corner + 1).min(row[j] + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

/// Whether a text can be the name or the address of a host.
pub fn is_host(text: &str) -> bool {
    rustls_pki_types::ServerName::try_from(text).is_ok()
}
