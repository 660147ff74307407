//! Keys of the configuration in force that a local edit undoes.
//!
//! The office's changes are in the stored configuration and not in the file. An edit of the file
//! begins with what the file had, so each key that the office has changed since falls back.
//!
//! What belongs here: the names of these keys. What does not: the decision about the edit
//! ([`super::admission`]).

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::state_record::ConfigState;
use super::state_store::{self, Files};

/// Keys that are named at most; the others are counted. A line of the log has room for them.
const NAMED_MAX: usize = 16;

/// The keys that `edited` sets back, as one line; `None` when there are none. Read from the stored
/// texts: that of the file before this edit, and that in force.
pub fn set_back(files: &dyn Files, record: &ConfigState, edited: &str) -> Option<String> {
    let in_force = state_store::text(files, &record.committed.sha256)?;
    let before = state_store::text(files, &record.file)
        .or_else(|| state_store::text(files, &record.bootstrap.sha256));
    named(&keys_set_back(before.as_deref(), &in_force, edited))
}

/// Warns of the keys that `edited` sets back.
pub fn warn(files: &dyn Files, record: &ConfigState, edited: &str) {
    if let Some(keys) = set_back(files, record, edited) {
        tracing::warn!(
            keys,
            "the edited configuration file lacks changes that are in force, so these keys fall back; to keep them, \
             edit the text of `taimat config show --text`"
        );
    }
}

/// The keys whose value in force is neither that of `edited` nor changed by the edit itself. Without
/// the text `before` the edit, all that differ.
fn keys_set_back(before: Option<&str>, in_force: &str, edited: &str) -> Vec<String> {
    let [in_force, edited] = [in_force, edited].map(values);
    let before = before.map(values);
    let mut keys: Vec<&String> = in_force.keys().chain(edited.keys()).collect();
    keys.sort();
    keys.dedup();
    let falls_back = |key: &String| {
        let is_edited = before.as_ref().is_some_and(|before| before.get(key) != edited.get(key));
        in_force.get(key) != edited.get(key) && !is_edited
    };
    keys.into_iter().filter(|key| falls_back(key)).cloned().collect()
}

fn named(keys: &[String]) -> Option<String> {
    let more = keys.len().saturating_sub(NAMED_MAX);
    let names = keys.iter().take(NAMED_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    match (keys.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(names),
        (false, more) => Some(format!("{names} and {more} more")),
    }
}

/// The values of a text by their dotted keys; empty for a text that is not TOML.
fn values(text: &str) -> BTreeMap<String, Value> {
    let mut values = BTreeMap::new();
    flatten("", text.parse::<Table>().unwrap_or_default(), &mut values);
    values
}

/// Depth is bounded by the TOML parser.
fn flatten(prefix: &str, table: Table, values: &mut BTreeMap<String, Value>) {
    for (key, value) in table {
        let key = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(table) => flatten(&key, table, values),
            value => _ = values.insert(key, value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_the_office_changed_fall_back_by_name() {
        let file = "site = \"a\"\nmotion.sensitivity = 5\n[clip]\npre = \"3 s\"\n";
        let pushed =
            "site = \"a\"\nmotion.sensitivity = 4\nmotion.fps = 8\n[clip]\npre = \"3 s\"\n";
        let keys = |edited: &str| keys_set_back(Some(file), pushed, edited);
        let edited = file.replace("[clip]", "motion.fps = 4\n[clip]");
        assert_eq!(keys(&edited), ["motion.sensitivity"]);
        assert_eq!(keys(&file.replace("3 s", "4 s")), ["motion.fps", "motion.sensitivity"]);
        assert_eq!(keys(pushed), [""; 0]);
        assert_eq!(keys_set_back(None, pushed, &edited), ["motion.fps", "motion.sensitivity"]);
        assert_eq!(keys_set_back(Some(file), file, &edited), [""; 0], "nothing was pushed");
    }

    #[test]
    fn many_keys_are_counted() {
        let keys: Vec<String> = (0..18).map(|n| format!("k{n:02}")).collect();
        assert!(named(&keys).unwrap().ends_with("k15 and 2 more"));
        assert_eq!(named(&[]), None);
    }
}
