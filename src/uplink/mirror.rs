//! The mirrors: motion and health once more in the words of others, for who has Home Assistant, Frigate's automations or an ONVIF
//! client. All opt-in; nothing here is delivered with receipts, and nothing waits for a connection.
//!
//! What belongs here: topics and payloads of those dialects. What does not: when something moves (the agent).

use serde_json::{Value, json};

use super::topics;
use super::wire::Birth;
use crate::settings::Mirrors;
use crate::units::{SiteId, Wall};

/// A message: topic, payload, retained.
pub type Message = (String, Vec<u8>, bool);

/// What is said on every connect: who we are to Home Assistant, and that nothing moves as far as we know.
pub fn greeting(integrations: Mirrors, site: &SiteId, birth: &Birth, moving: bool, now: Wall) -> Vec<Message> {
    let mut messages = motion(integrations, site, moving, now);
    if integrations.home_assistant {
        let topic = format!("homeassistant/device/taimat-{site}/config");
        messages.insert(0, (topic, discovery(site, birth).to_string().into_bytes(), true));
    }
    messages
}

/// Something begins to move, or nothing does any more.
pub fn motion(integrations: Mirrors, site: &SiteId, moving: bool, now: Wall) -> Vec<Message> {
    let word = if moving { "ON" } else { "OFF" };
    let mut messages = Vec::new();
    if integrations.home_assistant {
        messages.push((topics::up(site, "motion"), word.into(), true));
    }
    if integrations.frigate {
        messages.push((format!("frigate/{site}/motion"), word.into(), true));
    }
    if integrations.onvif {
        let event = json!({"UtcTime": now.rfc3339(), "Source": {"Source": "main"}, "Data": {"State": moving}});
        let topic = topics::up(site, "onvif-ej/VideoSource/MotionAlarm/main");
        messages.push((topic, event.to_string().into_bytes(), false));
    }
    messages
}

/// The best picture of an event.
pub fn snapshot(integrations: Mirrors, site: &SiteId, jpeg: &[u8]) -> Option<Message> {
    integrations.home_assistant.then(|| (topics::up(site, "snapshot"), jpeg.to_vec(), true))
}

/// One device with five entities, in one message (Home Assistant, MQTT device discovery).
fn discovery(site: &SiteId, birth: &Birth) -> Value {
    let state = topics::up(site, "state");
    let health = topics::up(site, "health");
    let id = |what: &str| format!("taimat_{site}_{what}");
    let diagnostic = |what: &str, name: &str, template: &str, more: Value| {
        let mut entity = json!({
            "platform": "sensor", "unique_id": id(what), "name": name, "state_topic": health, "value_template": template,
            "entity_category": "diagnostic", "state_class": "measurement",
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            entity[key] = value.clone();
        }
        entity
    };
    json!({
        "device": {
            "identifiers": [format!("taimat-{site}")], "name": format!("taimat {site}"), "manufacturer": "taimat",
            "model": "roadside box", "sw_version": birth.version,
        },
        "origin": {"name": "taimat", "sw_version": birth.version},
        "components": {
            "motion": {
                "platform": "binary_sensor", "unique_id": id("motion"), "name": "Motion", "device_class": "motion",
                "state_topic": topics::up(site, "motion"), "payload_on": "ON", "payload_off": "OFF",
                "availability_topic": state, "availability_template": "{{ value_json.state }}",
                "payload_available": "online", "payload_not_available": "lost",
            },
            "connectivity": {
                "platform": "binary_sensor", "unique_id": id("connectivity"), "name": "Connection",
                "device_class": "connectivity", "entity_category": "diagnostic", "state_topic": state,
                "value_template": "{{ 'ON' if value_json.state == 'online' else 'OFF' }}",
            },
            "snapshot": {
                "platform": "image", "unique_id": id("snapshot"), "name": "Last snapshot",
                "image_topic": topics::up(site, "snapshot"), "content_type": "image/jpeg",
            },
            "backlog": diagnostic("backlog", "Backlog", "{{ value_json.backlog.n }}", json!({})),
            "wear": diagnostic(
                "wear", "Card used up", "{{ value_json.counters['storage.worn_percent'] }}", json!({"unit_of_measurement": "%"}),
            ),
        },
        "qos": 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Gauges;
    use crate::units::{Boot, RingId, Stamp};

    const ALL: Mirrors = Mirrors { home_assistant: true, frigate: true, onvif: true };

    fn site() -> SiteId {
        SiteId::parse("km-17").unwrap()
    }

    fn birth() -> Birth {
        Gauges::default().birth(Stamp::default(), RingId(1), Boot(1), 0)
    }

    #[test]
    fn nothing_is_mirrored_unless_somebody_asked_for_it() {
        assert!(greeting(Mirrors::default(), &site(), &birth(), true, Wall(0)).is_empty());
        assert_eq!(snapshot(Mirrors::default(), &site(), b"x"), None);
    }

    #[test]
    fn motion_is_told_in_every_dialect() {
        let told: Vec<(String, String)> = motion(ALL, &site(), true, Wall(0))
            .into_iter()
            .map(|(topic, payload, _)| (topic, String::from_utf8(payload).unwrap()))
            .collect();
        let onvif = r#"{"Data":{"State":true},"Source":{"Source":"main"},"UtcTime":"1970-01-01T00:00:00.000Z"}"#;
        assert_eq!(
            told,
            [
                ("taimat/v1/km-17/up/motion".into(), "ON".into()),
                ("frigate/km-17/motion".into(), "ON".into()),
                ("taimat/v1/km-17/up/onvif-ej/VideoSource/MotionAlarm/main".to_owned(), onvif.to_owned()),
            ]
        );
    }

    #[test]
    fn every_entity_has_its_platform_an_id_of_its_own_and_a_topic() {
        let value = discovery(&site(), &birth());
        let components = value["components"].as_object().unwrap();
        let ids: std::collections::BTreeSet<_> =
            components.values().map(|entity| entity["unique_id"].as_str().unwrap()).collect();
        assert_eq!((components.len(), ids.len()), (5, 5));
        for (name, entity) in components {
            assert!(entity["platform"].is_string(), "{name}");
            assert!(entity["state_topic"].is_string() || entity["image_topic"].is_string(), "{name}");
        }
        assert!(value["origin"]["name"].is_string() && value["device"]["identifiers"].is_array());
    }
}
