//! Checks of a simulated world's office: event numbers, ends of events, promised clips.

use std::collections::BTreeSet;

use crate::evidence::manifest::Purpose;
use crate::sim::office_stub::OfficeStub;
use crate::units::{RingId, WallTime};

/// A clip may begin this many milliseconds late: a range begins between two pictures.
const TOLERANCE: i64 = 500;
/// Milliseconds of `clip.pre_roll` in a world.
const PRE_ROLL: i64 = 5_000;

/// Every broken promise about events and files.
pub(super) fn broken(office: &OfficeStub) -> Vec<String> {
    let mut wrongs = Vec::new();
    let events: Vec<_> = office.events.values().map(|(event, _)| event).collect();
    let numbers: BTreeSet<(RingId, u64)> =
        events.iter().map(|event| (event.ring, event.seq)).collect();
    if numbers.len() != events.len() {
        wrongs.push("two events carry one number".into());
    }
    // A card that rejects writes moves the journal to memory, where numbers count in a ring of their
    // own. A power cut loses what of it was not delivered.
    let of_card = events.iter().find(|event| event.boot == 1).map(|event| event.ring);
    let numbers: BTreeSet<u64> =
        events.iter().filter(|event| Some(event.ring) == of_card).map(|event| event.seq).collect();
    let highest = numbers.last().copied().unwrap_or(0);
    if numbers.len() as u64 != highest {
        let missing: Vec<u64> = (1..=highest).filter(|number| !numbers.contains(number)).collect();
        wrongs.push(format!("numbers are missing at the office: {missing:?}"));
    }
    let of = |kind: &str, of_card_only: bool| -> BTreeSet<String> {
        let of = events.iter().filter(|event| event.kind == format!("vn.taimat.{kind}.v1"));
        let of = of.filter(|event| !of_card_only || Some(event.ring) == of_card);
        of.filter_map(|event| event.data["event"].as_str().map(String::from)).collect()
    };
    let (starts, ends, lost) =
        (of("motion.start", true), of("motion.end", false), of("file.lost", false));
    for event in starts.difference(&ends) {
        wrongs.push(format!("event {event} started and never ended"));
    }
    let planned = events
        .iter()
        .filter(|event| Some(event.ring) == of_card && event.data["clip"] == "planned")
        .filter_map(|event| event.data["event"].as_str());
    for event in planned {
        let here = office
            .files
            .values()
            .any(|(manifest, _)| manifest.event == event && manifest.media_type == "video/mp4");
        if !here && !lost.contains(event) {
            wrongs.push(format!(
                "the promised clip of event {event} neither arrived nor was reported lost"
            ));
        }
    }
    wrongs.append(&mut unnamed_begins(office));
    wrongs
}

/// Clips that begin behind the pre-roll of their event, without a gap from there on. Nothing is
/// missing before the first record of a ring.
fn unnamed_begins(office: &OfficeStub) -> Vec<String> {
    let ends = office.events.values().filter(|(event, _)| event.kind == "vn.taimat.motion.end.v1");
    let millis = |text: &str| WallTime::parse(text).ok().map(|wall| wall.0 / 1000);
    let started = |data: &serde_json::Value| millis(data["started_at"].as_str()?);
    let mut wrongs = Vec::new();
    for (event, _) in ends {
        let Some(promised) = started(&event.data).map(|start| start - PRE_ROLL) else { continue };
        let files = office.files.values().map(|(manifest, _)| manifest).filter(|manifest| {
            manifest.part == 1 && manifest.purpose == Purpose::Clip && manifest.records.0 > 1
        });
        for clip in files.filter(|clip| event.data["event"] == clip.event.as_str()) {
            let is_there = |text: &str| millis(text).is_some_and(|at| at <= promised + TOLERANCE);
            if !is_there(&clip.from) && !clip.gaps.iter().any(|(from, ..)| is_there(from)) {
                wrongs.push(format!(
                    "clip {} begins {}, promised {promised} ms: {:?}",
                    clip.name, clip.from, clip.gaps
                ));
            }
        }
    }
    wrongs
}
