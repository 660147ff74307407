//! Places of samples in a fragment (ISO/IEC 14496-12 8.8.7, 8.8.8).

use std::ops::Range;

use super::boxes::{FoundBox, be_u32, child, children};
use super::limits::RUNS_MAX;

/// The samples of one `trun`, which lie one behind the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SampleRun {
    /// Their place, from the start of their `moof`.
    pub(super) place: Range<u64>,
    /// Bytes of the first one.
    pub(super) first: u64,
}

/// The runs of a `traf` in `bytes`.
///
/// # Errors
/// A box is damaged, there are more than [`RUNS_MAX`], or place or size of a sample is not given.
pub(super) fn sample_runs(bytes: &[u8], traf: &FoundBox) -> Result<Vec<SampleRun>, &'static str> {
    let tfhd = child(bytes, traf.content(), b"tfhd")?.place;
    let truns = children(bytes, traf.content())?.into_iter().filter(|found| found.name == *b"trun");
    let runs: Vec<SampleRun> =
        truns.map(|trun| sample_run(bytes, &tfhd, &trun.place)).collect::<Result<_, _>>()?;
    match runs.len() {
        0 => Err("a traf without samples"),
        1..=RUNS_MAX => Ok(runs),
        _ => Err("too many runs of samples"),
    }
}

fn sample_run(
    bytes: &[u8],
    tfhd: &Range<usize>,
    trun: &Range<usize>,
) -> Result<SampleRun, &'static str> {
    let field = |place: &Range<usize>, at: usize| {
        be_u32(&bytes[..place.end], place.start + at).ok_or("a short box")
    };
    let flags = |place: &Range<usize>| Ok::<u32, &str>(field(place, 8)? & 0x00ff_ffff);
    let (of_track, of_run) = (flags(tfhd)?, flags(trun)?);
    let count = field(trun, 12)?;
    // The place counts from the moof, and the run states it.
    if of_track & 0x02_0001 != 0x02_0000 || of_run & 0x01 == 0 || count == 0 {
        return Err("samples whose place is not given");
    }
    let width = |bits: &[u32], flags: u32| 4 * bits.iter().filter(|bit| flags & **bit != 0).count();
    let start = u64::from(field(trun, 16)?);
    let (first, all) = if of_run & 0x200 != 0 {
        let size_at = 20 + width(&[0x04], of_run) + width(&[0x100], of_run);
        let sample = width(&[0x100, 0x200, 0x400, 0x800], of_run);
        // A count beyond the box ends at the first field that is not there.
        let size = |n: usize| field(trun, size_at + n * sample).map(u64::from);
        (size(0)?, (0..count as usize).try_fold(0, |sum: u64, n| Ok::<u64, &str>(sum + size(n)?))?)
    } else if of_track & 0x10 != 0 {
        let size = u64::from(field(tfhd, 16 + width(&[0x02, 0x08], of_track))?);
        (size, size * u64::from(count))
    } else {
        return Err("samples without a size");
    };
    Ok(SampleRun { place: start..start.saturating_add(all), first })
}
