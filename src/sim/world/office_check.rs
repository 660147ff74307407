//! Checks of a simulated world's office: event numbers, ends of events, promised clips.

use std::collections::BTreeSet;

use crate::sim::office_stub::OfficeStub;
use crate::units::RingId;

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
    wrongs
}
