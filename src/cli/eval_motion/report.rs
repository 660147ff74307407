//! Reports of an evaluation: a text line and a JSON object per video, and in total.

use serde_json::{Value, json};

use super::Truth;
use super::adapter::{Log, ReportedEvent};
use super::masks::Cells;
use super::score::{Score, Tampering};

/// Result of a video.
pub struct Row {
    name: String,
    seconds: f64,
    spent_ms: f64,
    cells: Cells,
    events: Vec<ReportedEvent>,
    scenes: Vec<(f64, String)>,
    score: Option<Score>,
    tampering: Tampering,
    notes: Value,
}

/// Total of all videos.
#[derive(Default)]
pub struct Total {
    seconds: f64,
    spent_ms: f64,
    cells: Cells,
    score: Score,
    tampering: Tampering,
}

impl Row {
    /// Builds the result from a log.
    pub fn new(
        name: String,
        seconds: f64,
        spent: u64,
        log: Log,
        truth: &Truth,
        notes: Value,
    ) -> Row {
        let Log { mut events, scenes, cells, .. } = log;
        events.iter_mut().for_each(|event| event.end = event.end.min(seconds));
        let score = truth.spans.as_deref().map(|spans| Score::new(&events, spans));
        let tampering = Tampering::new(&scenes, truth.tampered);
        Row {
            name,
            seconds,
            spent_ms: spent as f64 / 1000.0,
            cells,
            events,
            scenes,
            score,
            tampering,
            notes,
        }
    }

    /// Score of its events; `None` without ground truth.
    pub fn score(&self) -> Option<&Score> {
        self.score.as_ref()
    }

    /// Score of tampering.
    pub fn tampering(&self) -> &Tampering {
        &self.tampering
    }

    /// Score of its cells.
    pub fn cells(&self) -> Cells {
        self.cells
    }

    /// The reported events.
    pub fn reported_events(&self) -> &[ReportedEvent] {
        &self.events
    }

    /// Scene changes: second and `change`.
    pub fn scenes(&self) -> &[(f64, String)] {
        &self.scenes
    }

    /// CPU time per second of video, milliseconds.
    pub fn cost(&self) -> f64 {
        self.spent_ms / self.seconds.max(0.001)
    }

    /// The text line.
    pub fn line(&self) -> String {
        let events =
            self.score.as_ref().map_or_else(|| format!("{} events", self.events.len()), describe);
        format!(
            "{}: {events}{}{}, {:.1} CPU ms/s, {} scene changes",
            short(&self.name),
            tampered(&self.tampering),
            block(self.cells),
            self.cost(),
            self.scenes.len()
        )
    }

    /// A line for each event and scene change.
    pub fn events(&self) -> Vec<String> {
        let event = |event: &ReportedEvent| {
            format!(
                "  {:8.2} to {:8.2} s, told at {:8.2}: {}",
                event.began, event.end, event.told, event.words
            )
        };
        let scenes =
            self.scenes.iter().map(|(second, word)| format!("  {second:8.2} s: scene {word}"));
        self.events.iter().map(event).chain(scenes).collect()
    }

    /// The JSON object.
    pub fn json(&self) -> Value {
        let event = |event: &ReportedEvent| json!({"begin": event.began, "told": event.told, "end": event.end, "words": event.words});
        let events: Vec<Value> = self.events.iter().map(event).collect();
        let mut row = json!({"file": self.name, "seconds": self.seconds, "cpu_ms_per_s": rounded(self.cost()), "events": events,
            "scenes": self.scenes, "notes": self.notes});
        numbers(&mut row, self.cells, self.score.as_ref(), &self.tampering);
        row
    }
}

impl Total {
    /// Adds a video.
    pub fn add(&mut self, row: &Row) {
        self.seconds += row.seconds;
        self.spent_ms += row.spent_ms;
        self.cells.add(row.cells);
        self.score.add(&row.score.clone().unwrap_or_default());
        self.tampering.add(&row.tampering);
    }

    /// Score of all events.
    pub fn score(&self) -> &Score {
        &self.score
    }

    /// Score of tampering.
    pub fn tampering(&self) -> &Tampering {
        &self.tampering
    }

    /// The text line.
    pub fn line(&self) -> String {
        let cost = self.spent_ms / self.seconds.max(0.001);
        let (events, tampering) = (describe(&self.score), tampered(&self.tampering));
        format!(
            "TOTAL of {:.0} s: {events}{tampering}{}, {cost:.1} CPU ms/s",
            self.seconds,
            block(self.cells)
        )
    }

    /// The JSON object.
    pub fn json(&self) -> Value {
        let mut row = json!({"seconds": self.seconds, "cpu_ms_per_s": rounded(self.spent_ms / self.seconds.max(0.001))});
        numbers(&mut row, self.cells, Some(&self.score), &self.tampering);
        row
    }
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// The last two parts of a path.
fn short(name: &str) -> String {
    let parts: Vec<&str> = name.rsplit('/').take(2).collect();
    parts.into_iter().rev().collect::<Vec<_>>().join("/")
}

fn describe(score: &Score) -> String {
    let late = |percent| score.late(percent).map_or("-".into(), |late| format!("{late:.2}"));
    let Score { true_events, found, merged, missed, split, wrong, wrong_seconds, .. } = score;
    format!(
        "{found}/{true_events} found, {missed} missed, {merged} merged, {split} split, {wrong} false ({wrong_seconds:.1} s), late {} / {} s",
        late(50),
        late(95)
    )
}

/// The text of tampering; empty without tampering and reports of it.
fn tampered(tampering: &Tampering) -> String {
    let Tampering { true_ones, late, wrong } = tampering;
    let latest = tampering.latest().map_or("-".into(), |late| format!("{late:.2}"));
    match true_ones + wrong {
        0 => String::new(),
        _ => {
            format!(", tampering {}/{true_ones} told within {latest} s, {wrong} false", late.len())
        }
    }
}

fn block(cells: Cells) -> String {
    cells.prf().map_or(String::new(), |[p, r, f]| format!(", P {p:.3} R {r:.3} F {f:.3}"))
}

fn numbers(row: &mut Value, cells: Cells, score: Option<&Score>, tampering: &Tampering) {
    (row["tampered"], row["tampering_late_s"]) =
        (json!(tampering.true_ones), json!(tampering.late));
    row["tampering_false"] = json!(tampering.wrong);
    if let Some([p, r, f]) = cells.prf() {
        (row["p"], row["r"], row["f"]) = (json!(p), json!(r), json!(f));
    }
    if let Some(score) = score {
        row["true_events"] = json!(score.true_events);
        (row["found"], row["missed"], row["merged"]) =
            (json!(score.found), json!(score.missed), json!(score.merged));
        (row["split"], row["false"]) = (json!(score.split), json!(score.wrong));
        row["false_seconds"] = json!(rounded(score.wrong_seconds));
        (row["late_median_s"], row["late_p95_s"]) = (json!(score.late(50)), json!(score.late(95)));
    }
}
