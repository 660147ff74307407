//! Footage absence: explains why a clip has no footage, with reasons and times.
//!
//! Gaps are found by storage.

use crate::storage::{Gap, GapReason};

/// Gaps named in the text; further ones are counted. The text must fit the 400 bytes of an event.
const NAMED_MAX: usize = 3;

/// Explains a clip without footage by the gaps that cover it.
pub fn explain(gaps: &[Gap]) -> String {
    if gaps.is_empty() {
        return "not in the ring: nothing was recorded then".into();
    }
    let mut causes: Vec<String> = gaps.iter().take(NAMED_MAX).map(explain_gap).collect();
    if gaps.len() > NAMED_MAX {
        causes.push(format!("{} more gaps", gaps.len() - NAMED_MAX));
    }
    format!("not in the ring: {}", causes.join("; "))
}

/// False when nothing was recorded at that time, so that nothing of it can be lost.
pub fn was_recorded(reason: &str) -> bool {
    !reason.starts_with("not in the ring: ")
        || ["recorded and damaged", "recorded, but", "evicted since", "more gaps"]
            .iter()
            .any(|cause| reason.contains(cause))
}

fn explain_gap(gap: &Gap) -> String {
    let cause = match gap.reason {
        GapReason::Damaged => "recorded and damaged since".to_owned(),
        GapReason::DiskError => "recorded, but the card cannot read it".to_owned(),
        GapReason::Missing => "recorded, but no longer in any file of the card".to_owned(),
        GapReason::EvictedPinned => "evicted since to make room".to_owned(),
        GapReason::CameraDown
        | GapReason::FellBehind
        | GapReason::PowerCut
        | GapReason::Stopped
        | GapReason::TooLarge
        | GapReason::NoKeyFrame
        | GapReason::ParameterChanges => format!("never recorded ({})", gap.reason.as_str()),
    };
    format!("{cause}, {} to {}", gap.from.wall.rfc3339(), gap.to.wall.rfc3339())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Timestamp, WallTime};

    fn gap(reason: GapReason) -> Gap {
        let stamp =
            |second: i64| Timestamp { wall: WallTime(second * 1_000_000), ..Timestamp::default() };
        Gap { from: stamp(1), to: stamp(2), reason, bytes: 0 }
    }

    #[test]
    fn a_cause_is_named_with_its_time_range() {
        let text = explain(&[gap(GapReason::Damaged), gap(GapReason::CameraDown)]);
        assert!(
            text.contains("damaged since, 1970-01-01T00:00:01.000Z to 1970-01-01T00:00:02.000Z"),
            "{text}"
        );
        assert!(text.contains("never recorded (camera_down)"), "{text}");
        assert!(was_recorded(&text) && was_recorded("its file cannot be read"));
        assert!(!was_recorded(&explain(&[gap(GapReason::CameraDown)])));
        assert!(!was_recorded(&explain(&[])));
        assert!(explain(&[]).contains("nothing was recorded"));
    }

    #[test]
    fn many_gaps_fit_into_the_text_of_an_event() {
        let text = explain(&vec![gap(GapReason::Missing); 50]);
        assert!(text.ends_with("; 47 more gaps") && text.len() <= 400, "{} {text}", text.len());
    }
}
