//! Store of the configuration state: record and texts, two copies each, replaced atomically.
//!
//! | file | content |
//! |---|---|
//! | `record.a`, `record.b` | [`ConfigState`]; the higher generation counts |
//! | `exits` | [`Exits`], in a directory in memory |
//! | `<sha256>.a`, `<sha256>.b` | text of a configuration; the name is its checksum |
//! | `ring.a`, `ring.b` | the ring of the last boot ([`super::known_ring`]) |
//!
//! A save writes both copies of the text, then `record.a`, then `record.b`, and then removes texts
//! that no record names. One copy of each is enough. The ring's journal cannot hold this state: the
//! ring's directory is a setting itself, a text exceeds a slot, and a device with a dead ring card
//! must still accept a configuration.

use super::state_record::{ConfigState, Exits};
use crate::units::Digest;

/// Small files in one directory.
pub trait Files: Send + Sync {
    /// Reads a file; `None` when it does not exist.
    ///
    /// # Errors
    /// When the file cannot be read.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, String>;

    /// Replaces a file atomically; durable when this returns.
    ///
    /// # Errors
    /// When the new content may not be durable.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), String>;

    /// Removes a file.
    ///
    /// # Errors
    /// When the file cannot be removed.
    fn remove(&self, name: &str) -> Result<(), String>;

    /// Names of all files.
    ///
    /// # Errors
    /// When the directory cannot be read.
    fn names(&self) -> Result<Vec<String>, String>;
}

const COPIES: [&str; 2] = ["a", "b"];
const EXITS: &str = "exits";

/// Result of a save with at least one good copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredState {
    /// Errors of single copies.
    pub troubles: Vec<String>,
}

/// Reads of a copy before it counts as lost. One failed read, beside a copy that a power cut tore,
/// must not reset the device to its bootstrap.
const READS: usize = 3;

fn read(files: &dyn Files, name: &str) -> Option<Vec<u8>> {
    (0..READS).find_map(|_| files.read(name).ok()).flatten()
}

/// The whole copy of the record with the highest generation; `None` when both are damaged or
/// missing.
pub fn load(files: &dyn Files) -> Option<ConfigState> {
    let copies = read_copies(files, "record").filter_map(|bytes| ConfigState::decode(&bytes));
    copies.max_by_key(|record| record.generation)
}

/// The text with this SHA-256; `None` when both copies are damaged or missing.
pub fn text(files: &dyn Files, sha256: &Digest) -> Option<String> {
    read_copies(files, &sha256.hex())
        .filter(|bytes| Digest::of(bytes) == *sha256)
        .find_map(|bytes| String::from_utf8(bytes).ok())
}

/// Saves a record, after the text that it newly names.
///
/// # Errors
/// When both copies of text or record failed; the state before still counts.
pub fn save(
    files: &dyn Files,
    record: &ConfigState,
    text: Option<&str>,
) -> Result<StoredState, String> {
    let mut troubles = Vec::new();
    if let Some(text) = text {
        let name = Digest::of(text.as_bytes()).hex();
        troubles.extend(write_copies(files, &name, text.as_bytes())?);
    }
    troubles.extend(write_copies(files, "record", &record.encode())?);
    tidy(files, record);
    Ok(StoredState { troubles })
}

/// The readable copies of a file.
pub(super) fn read_copies(files: &dyn Files, name: &str) -> impl Iterator<Item = Vec<u8>> {
    COPIES.iter().filter_map(move |copy| read(files, &format!("{name}.{copy}")))
}

/// Writes both copies of a file; returns the errors of single copies.
///
/// # Errors
/// When both copies failed.
pub(super) fn write_copies(
    files: &dyn Files,
    name: &str,
    bytes: &[u8],
) -> Result<Vec<String>, String> {
    let troubles: Vec<String> = COPIES
        .iter()
        .filter_map(|copy| files.write(&format!("{name}.{copy}"), bytes).err())
        .collect();
    if troubles.len() == COPIES.len() { Err(troubles.join("; ")) } else { Ok(troubles) }
}

/// Removes texts that the record does not name. A failure only costs space.
fn tidy(files: &dyn Files, record: &ConfigState) {
    let wanted = record.texts();
    for name in files.names().unwrap_or_default() {
        let stem = COPIES.iter().find_map(|copy| name.strip_suffix(&format!(".{copy}")));
        if stem.and_then(Digest::from_hex).is_some_and(|sha256| !wanted.contains(&sha256)) {
            let _ = files.remove(&name);
        }
    }
}

/// The exits counted in memory ([`super::startup_state::FoundFiles::volatile`]); `None` before the
/// first.
pub fn exits(volatile: &dyn Files) -> Option<Exits> {
    serde_json::from_slice(&volatile.read(EXITS).ok()??).ok()
}

/// Saves the exits in memory. The record has them too, so a failure is ignored.
pub fn save_exits(volatile: &dyn Files, record: &ConfigState) {
    let _ = volatile.write(EXITS, &serde_json::to_vec(&record.exits).unwrap_or_default());
}

/// Restores the lost or damaged copy of each text from the other one.
pub fn heal(files: &dyn Files, record: &ConfigState) {
    for sha256 in record.texts() {
        let Some(text) = text(files, &sha256) else {
            continue;
        };
        for copy in COPIES {
            let name = format!("{}.{copy}", sha256.hex());
            if !matches!(files.read(&name), Ok(Some(bytes)) if bytes == text.as_bytes()) {
                let _ = files.write(&name, text.as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Mutex;

    use super::*;
    use crate::remote_config::state_record::{ConfigVersion, Origin};

    #[derive(Default)]
    struct Memory {
        files: Mutex<BTreeMap<String, Vec<u8>>>,
        refused: Mutex<BTreeSet<String>>,
    }

    impl Files for Memory {
        fn read(&self, name: &str) -> Result<Option<Vec<u8>>, String> {
            Ok(self.files.lock().unwrap().get(name).cloned())
        }

        fn write(&self, name: &str, bytes: &[u8]) -> Result<(), String> {
            if self.refused.lock().unwrap().contains(name) {
                return Err(format!("{name}: refused"));
            }
            self.files.lock().unwrap().insert(name.to_owned(), bytes.to_vec());
            Ok(())
        }

        fn remove(&self, name: &str) -> Result<(), String> {
            self.files.lock().unwrap().remove(name);
            Ok(())
        }

        fn names(&self) -> Result<Vec<String>, String> {
            Ok(self.files.lock().unwrap().keys().cloned().collect())
        }
    }

    fn record(generation: u64, text: &str) -> ConfigState {
        let mut record =
            ConfigState::of_file(Digest::of(text.as_bytes()), String::new(), BTreeSet::new());
        record.generation = generation;
        record
    }

    #[test]
    fn either_copy_is_enough_and_the_newer_record_counts() {
        let files = Memory::default();
        save(&files, &record(1, "one"), Some("one")).unwrap();
        files.refused.lock().unwrap().insert("record.b".into());
        assert_eq!(
            save(&files, &record(2, "two"), Some("two")).unwrap().troubles,
            ["record.b: refused"]
        );
        assert_eq!(load(&files).unwrap().generation, 2);
        files.files.lock().unwrap().remove("record.a");
        assert_eq!(load(&files).unwrap().generation, 1);
        files.refused.lock().unwrap().insert("record.a".into());
        assert!(save(&files, &record(3, "two"), None).is_err());
    }

    #[test]
    fn a_damaged_text_is_read_from_its_other_copy_and_healed() {
        let files = Memory::default();
        let record = record(1, "text");
        save(&files, &record, Some("text")).unwrap();
        let name = format!("{}.a", Digest::of(b"text").hex());
        files.files.lock().unwrap().insert(name.clone(), b"tixt".to_vec());
        assert_eq!(text(&files, &Digest::of(b"text")).unwrap(), "text");
        heal(&files, &record);
        assert_eq!(files.read(&name).unwrap().unwrap(), b"text");
        for copy in ["a", "b"] {
            files
                .files
                .lock()
                .unwrap()
                .insert(format!("{}.{copy}", Digest::of(b"text").hex()), b"tixt".to_vec());
        }
        assert_eq!(text(&files, &Digest::of(b"text")), None);
    }

    #[test]
    fn texts_that_no_record_names_are_removed() {
        let files = Memory::default();
        let mut record = record(1, "zero");
        save(&files, &record, Some("zero")).unwrap();
        for (n, name) in ["one", "two", "three", "four"].iter().enumerate() {
            let sha256 = Digest::of(name.as_bytes());
            let version = ConfigVersion {
                id: (*name).into(),
                version: 1,
                sha256,
                origin: Origin::Rollback,
                at: String::new(),
            };
            record.generation = n as u64 + 2;
            record.commit(version, String::new());
            save(&files, &record, Some(name)).unwrap();
        }
        assert_eq!(text(&files, &Digest::of(b"one")), None);
        for name in ["zero", "two", "three", "four"] {
            assert!(text(&files, &Digest::of(name.as_bytes())).is_some(), "{name}");
        }
        assert_eq!(files.names().unwrap().len(), 2 + 4 * 2);
    }
}
