//! Second look: a reader beside a running agent looks twice before it reports damage.
//!
//! The agent recycles segments while they are read. The head shows it: it is overwritten before any record of its segment is. A problem that
//! was seen while the agent wrote is gone, or another one, when the reader looks again.

use super::disk::{Disk, DiskFault};
use super::head_selection::{Heads, heads, read_head};
use super::segment_index::Index;
use crate::format::segment_head::Segment;

/// Readings of all heads at most, until two of them agree. The agent begins a segment every few seconds at most, and the
/// second reading comes from the page cache.
const READINGS_MAX: usize = 16;
/// Looks at one problem before it is reported.
pub const LOOKS: usize = 3;

/// The heads of a ring that another process may be writing, as two readings in a row found them: heads that were read before and after a
/// segment was begun do not fit each other.
///
/// # Errors
/// If the directory cannot be read.
pub(super) fn steady_heads(disk: &dyn Disk) -> Result<Heads, DiskFault> {
    let mut before = heads(disk)?;
    for _ in 1..READINGS_MAX {
        if !before.troubles.is_empty() {
            disk.let_writer_finish();
        }
        let again = heads(disk)?;
        let same = laps(&before.index).eq(laps(&again.index)) && before.troubles == again.troubles;
        if same {
            return Ok(again);
        }
        before = again;
    }
    Ok(before)
}

fn laps(index: &Index) -> impl Iterator<Item = (u32, u32, u64)> + '_ {
    index.live().iter().map(|segment| {
        let head = &segment.head;
        (head.segment, head.lap, head.first_seq)
    })
}

/// True when the file of `segment` holds another segment by now: what was read of it may be a mixture.
pub fn is_recycled(disk: &dyn Disk, segment: &Segment) -> bool {
    let (lap, first) = (segment.head.lap, segment.head.first_seq);
    matches!(read_head(disk, segment.head.segment, segment.head.size),
        Ok(Some(now)) if (now.head.lap, now.head.first_seq) != (lap, first))
}

/// The findings that every one of [`LOOKS`] looks had; a look without any ends it at once.
///
/// # Errors
/// As `look`.
pub(super) fn confirmed<T: PartialEq, E>(
    disk: &dyn Disk,
    mut look: impl FnMut() -> Result<Vec<T>, E>,
) -> Result<Vec<T>, E> {
    let mut found = look()?;
    for _ in 1..LOOKS {
        if found.is_empty() {
            break;
        }
        disk.let_writer_finish();
        let again = look()?;
        found.retain(|one| again.contains(one));
    }
    Ok(found)
}
