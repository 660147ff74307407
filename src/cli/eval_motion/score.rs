//! Comparison of events with ground truth: found, missed, merged, split, false, and delay.

use std::path::Path;

use serde_json::Value;

use super::adapter::ReportedEvent;
use crate::analytics::SceneChange;

/// Tolerance of labels, seconds.
const SLACK: f64 = 1.0;

/// Score of a video.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Score {
    /// True events.
    pub true_events: usize,
    /// True events with an event of their own.
    pub found: usize,
    /// True events covered only by the event of another true event.
    pub merged: usize,
    /// True events without any event.
    pub missed: usize,
    /// Further events of a found true event.
    pub split: usize,
    /// Events without a true event.
    pub wrong: usize,
    /// Duration of false events, seconds.
    pub wrong_seconds: f64,
    /// Delay from the start of each found event to its report, seconds.
    pub late: Vec<f64>,
}

impl Score {
    /// Compares events with the truth.
    pub fn new(events: &[ReportedEvent], spans: &[(f64, f64)]) -> Score {
        let touch = |event: &ReportedEvent, span: &(f64, f64)| {
            event.began <= span.1 + SLACK && event.end >= span.0 - SLACK
        };
        // An event reported before the true event started is false, however long it lasts.
        let early = |event: &ReportedEvent| {
            spans.iter().filter(|span| touch(event, span)).all(|span| event.told < span.0 - SLACK)
        };
        let early: Vec<bool> = events.iter().map(early).collect();
        let mut score = Score { true_events: spans.len(), ..Score::default() };
        let mut used = vec![false; events.len()];
        for span in spans {
            let mut touching = (0..events.len()).filter(|at| touch(&events[*at], span)).peekable();
            let any = touching.peek().is_some();
            match touching.find(|at| !used[*at] && !early[*at]) {
                Some(at) => {
                    used[at] = true;
                    score.found += 1;
                    score.late.push((events[at].told - span.0).max(0.0));
                }
                None if any => score.merged += 1,
                None => score.missed += 1,
            }
        }
        for (at, event) in events.iter().enumerate().filter(|(at, _)| !used[*at]) {
            if early[at] {
                score.wrong += 1;
                score.wrong_seconds += event.end - event.began;
            } else {
                score.split += 1;
            }
        }
        score
    }

    /// Adds another video's.
    pub fn add(&mut self, other: &Score) {
        self.true_events += other.true_events;
        self.found += other.found;
        self.merged += other.merged;
        self.missed += other.missed;
        self.split += other.split;
        self.wrong += other.wrong;
        self.wrong_seconds += other.wrong_seconds;
        self.late.extend(&other.late);
    }

    /// A percentile of the delay.
    pub fn late(&self, percent: usize) -> Option<f64> {
        let mut late = self.late.clone();
        late.sort_by(f64::total_cmp);
        late.get((late.len() * percent).div_ceil(100).saturating_sub(1)).copied()
    }
}

/// Values of `change` for tampering.
const TAMPERINGS: [SceneChange; 5] = [
    SceneChange::Covered,
    SceneChange::Blurred,
    SceneChange::Moved,
    SceneChange::Frozen,
    SceneChange::Black,
];

/// Score of tampering.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tampering {
    /// Number of cameras with tampering.
    pub true_ones: usize,
    /// Delay of each report, seconds.
    pub late: Vec<f64>,
    /// Wrong reports: another kind, too early, repeated, or without tampering.
    pub wrong: usize,
}

impl Tampering {
    /// Compares scene changes (second and `change`) with the tampering.
    pub fn new(scenes: &[(f64, String)], done: Option<(f64, &str)>) -> Tampering {
        let mut tampering =
            Tampering { true_ones: usize::from(done.is_some()), ..Tampering::default() };
        for (second, word) in scenes
            .iter()
            .filter(|(_, word)| TAMPERINGS.iter().any(|change| change.as_str() == word))
        {
            match done {
                Some((begin, kind))
                    if word == kind && *second >= begin && tampering.late.is_empty() =>
                {
                    tampering.late.push(second - begin)
                }
                _ => tampering.wrong += 1,
            }
        }
        tampering
    }

    /// Adds another video's.
    pub fn add(&mut self, other: &Tampering) {
        self.true_ones += other.true_ones;
        self.late.extend(&other.late);
        self.wrong += other.wrong;
    }

    /// The longest delay.
    pub fn latest(&self) -> Option<f64> {
        self.late.iter().copied().max_by(f64::total_cmp)
    }
}

/// The true events of a video: the entry of its name, or the one for all files. The entry is a
/// list, or has a list under a key that ends in `_s` or is `events`.
pub fn spans(labels: &Value, video: &Path) -> Option<Vec<(f64, f64)>> {
    let text =
        |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let (name, stem) = (text(video.file_name()), text(video.file_stem()));
    let entry = labels.get(&name).or_else(|| labels.get(&stem)).unwrap_or(labels);
    let span = |event: &Value| {
        let pick = |name: &str, at: usize| event.get(name).or_else(|| event.get(at))?.as_f64();
        Some((pick("begin", 0)?, pick("end", 1)?))
    };
    let list = |value: &Value| value.as_array()?.iter().map(span).collect::<Option<Vec<_>>>();
    let named = |(key, value): (&String, &Value)| {
        if key.ends_with("_s") || key == "events" { list(value) } else { None }
    };
    list(entry).or_else(|| entry.as_object()?.iter().find_map(named))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(id: u64, began: f64, end: f64) -> ReportedEvent {
        ReportedEvent { id, began, told: began + 0.4, end, words: String::new() }
    }

    #[test]
    fn every_true_event_wants_an_event_of_its_own() {
        let spans = [(10.0, 14.0), (20.0, 24.0), (30.0, 34.0), (50.0, 54.0)];
        let events = [
            event(1, 10.0, 24.5),
            event(2, 30.1, 31.0),
            event(3, 33.0, 34.0),
            event(4, 40.0, 42.0),
        ];
        let score = Score::new(&events, &spans);
        assert_eq!(
            (score.found, score.merged, score.missed, score.split, score.wrong),
            (2, 1, 1, 1, 1)
        );
        assert_eq!((score.wrong_seconds, score.late.len()), (2.0, 2));
        let before = Score::new(&[event(1, 5.0, 14.0)], &spans[..1]);
        assert_eq!(
            (before.found, before.merged, before.wrong),
            (0, 1, 1),
            "told ten seconds before anybody came"
        );
        assert!((score.late(95).unwrap() - 0.5).abs() < 1e-9);
    }

    #[test]
    fn labels_of_both_shapes_are_read() {
        let by_name = json!({"a.mp4": {"fps": 10, "person_present_s": [[1, 2.5]]}});
        let for_all = json!({"fps": 15, "size": [640, 360], "true_events_s": [[15, 19], [33, 37]]});
        assert_eq!(spans(&by_name, Path::new("x/a.mp4")), Some(vec![(1.0, 2.5)]));
        assert_eq!(spans(&for_all, Path::new("x/b.mp4")), Some(vec![(15.0, 19.0), (33.0, 37.0)]));
        assert_eq!(
            spans(&json!({"c": [{"begin": 1, "end": 2}]}), Path::new("c.mkv")),
            Some(vec![(1.0, 2.0)])
        );
    }

    #[test]
    fn tampering_is_told_once_with_its_own_word_and_of_nobody_else() {
        let scenes = |told: &[(f64, &str)]| {
            told.iter().map(|(at, word)| (*at, (*word).to_owned())).collect::<Vec<_>>()
        };
        let told = Tampering::new(
            &scenes(&[(10.0, "exposure"), (35.5, "black"), (50.0, "clear")]),
            Some((30.0, "black")),
        );
        assert_eq!((told.true_ones, told.late, told.wrong), (1, vec![5.5], 0));
        let wrong = scenes(&[(20.0, "black"), (36.0, "covered"), (37.0, "black"), (48.0, "black")]);
        let told = Tampering::new(&wrong, Some((30.0, "black")));
        assert_eq!((told.late, told.wrong), (vec![7.0], 3));
        assert_eq!(Tampering::new(&wrong, None).wrong, 4);
    }
}
