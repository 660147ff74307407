//! Check of a batch: a power cut may leave its first entries, never a later one without them.

use super::violation::Violation;
use crate::storage::{Cell, Recovered};
use crate::units::EntryId;

/// Checks that no entry of the batch is present behind a missing one.
pub(super) fn batch_is_a_prefix(
    (first, last): (u64, u64),
    found: &Recovered,
) -> Result<(), Violation> {
    let has = |entry_id: u64| found.entries.iter().any(|(kept, _)| *kept == EntryId(entry_id));
    match (first..last).find(|entry_id| !has(*entry_id) && has(entry_id + 1)) {
        None => Ok(()),
        Some(missing) => Err(Violation::Order(format!(
            "of the batch {first} to {last} entry {missing} is missing, the next is there"
        ))),
    }
}

/// The stored configuration cell.
pub(super) fn configuration(found: &Recovered) -> Option<&Vec<u8>> {
    found.cells.iter().find(|(cell, _)| *cell == Cell::Login).map(|(_, bytes)| bytes)
}
