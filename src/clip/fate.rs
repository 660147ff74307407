//! What became of footage that cannot be had: recorded and lost, evicted, or never recorded, and between which times.
//!
//! What belongs here: those words. What does not: finding the gaps (storage).

use crate::storage::{Gap, GapReason};

/// Gaps named one by one; the others are counted. An event's text has 400 bytes.
const NAMED_MAX: usize = 3;

/// The words for a clip of which nothing can be had, by the gaps that take it.
pub fn describe(gaps: &[Gap]) -> String {
    if gaps.is_empty() {
        return "not in the ring: nothing was recorded then".into();
    }
    let mut words: Vec<String> = gaps.iter().take(NAMED_MAX).map(one).collect();
    if gaps.len() > NAMED_MAX {
        words.push(format!("{} more gaps", gaps.len() - NAMED_MAX));
    }
    format!("not in the ring: {}", words.join("; "))
}

fn one(gap: &Gap) -> String {
    let fate = match gap.reason {
        GapReason::Damaged => "recorded and damaged since".to_owned(),
        GapReason::DiskError => "recorded, and the card does not give it back".to_owned(),
        GapReason::Missing => "recorded, and in no file of the card any more".to_owned(),
        GapReason::EvictedPinned => "evicted since to make room".to_owned(),
        GapReason::CameraDown
        | GapReason::FellBehind
        | GapReason::PowerCut
        | GapReason::Stopped
        | GapReason::TooLarge
        | GapReason::NoKeyFrame => format!("never recorded ({})", gap.reason.as_str()),
    };
    format!("{fate}, {} to {}", gap.from.wall.rfc3339(), gap.to.wall.rfc3339())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Timestamp, WallTime};

    fn gap(reason: GapReason) -> Gap {
        let stamp = |second: i64| Timestamp { wall: WallTime(second * 1_000_000), ..Timestamp::default() };
        Gap { from: stamp(1), to: stamp(2), reason, bytes: 0 }
    }

    #[test]
    fn each_fate_has_its_words_and_its_range() {
        let told = describe(&[gap(GapReason::Damaged), gap(GapReason::CameraDown)]);
        assert!(told.contains("damaged since, 1970-01-01T00:00:01.000Z to 1970-01-01T00:00:02.000Z"), "{told}");
        assert!(told.contains("never recorded (camera_down)"), "{told}");
        assert!(describe(&[]).contains("nothing was recorded"));
    }

    #[test]
    fn many_gaps_fit_into_an_event() {
        let told = describe(&vec![gap(GapReason::Missing); 50]);
        assert!(told.ends_with("; 47 more gaps") && told.len() <= 400, "{} {told}", told.len());
    }
}
