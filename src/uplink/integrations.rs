//! Integrations: motion and snapshots as messages for Home Assistant, Frigate and ONVIF clients.
//!
//! All are opt-in. Their messages have no receipts and are not queued while disconnected. When
//! motion starts and ends is decided by the agent.

use serde_json::{Value, json};

use super::topics;
use super::wire::Birth;
use crate::settings::Integrations;
use crate::units::{SiteId, WallTime};

/// A message: topic, payload, retained.
pub type Message = (String, Vec<u8>, bool);

/// Messages after each connect: the device discovery of Home Assistant, and the current motion
/// state.
pub fn greeting(
    integrations: Integrations,
    site: &SiteId,
    birth: &Birth,
    moving: bool,
    now: WallTime,
) -> Vec<Message> {
    let mut messages = motion(integrations, site, moving, now);
    if integrations.home_assistant {
        let topic = format!("homeassistant/device/taimat-{site}/config");
        messages.insert(0, (topic, discovery(site, birth).to_string().into_bytes(), true));
    }
    messages
}

/// The motion state, when it changes.
pub fn motion(
    integrations: Integrations,
    site: &SiteId,
    moving: bool,
    now: WallTime,
) -> Vec<Message> {
    let state = if moving { "ON" } else { "OFF" };
    let mut messages = Vec::new();
    if integrations.home_assistant {
        messages.push((topics::up(site, "motion"), state.into(), true));
    }
    if integrations.frigate {
        messages.push((format!("frigate/{site}/motion"), state.into(), true));
    }
    if integrations.onvif {
        let event = json!({"UtcTime": now.rfc3339(), "Source": {"Source": "main"}, "Data": {"State": moving}});
        let topic = topics::up(site, "onvif-ej/VideoSource/MotionAlarm/main");
        messages.push((topic, event.to_string().into_bytes(), false));
    }
    messages
}

/// The snapshot of an event.
pub fn snapshot(integrations: Integrations, site: &SiteId, jpeg: &[u8]) -> Option<Message> {
    integrations.home_assistant.then(|| (topics::up(site, "snapshot"), jpeg.to_vec(), true))
}

/// One device with five entities (Home Assistant, MQTT device discovery).
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
            "model": "roadside device", "sw_version": birth.version,
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
    use crate::units::{Boot, RingId, Timestamp};

    const ALL: Integrations = Integrations { home_assistant: true, frigate: true, onvif: true };

    fn site() -> SiteId {
        SiteId::parse("km-17").unwrap()
    }

    fn birth() -> Birth {
        Gauges::default().birth(Timestamp::default(), RingId(1), Boot(1), 0)
    }

    #[test]
    fn disabled_integrations_publish_nothing() {
        assert!(greeting(Integrations::default(), &site(), &birth(), true, WallTime(0)).is_empty());
        assert_eq!(snapshot(Integrations::default(), &site(), b"x"), None);
    }

    #[test]
    fn motion_is_published_for_every_integration() {
        let messages: Vec<(String, String)> = motion(ALL, &site(), true, WallTime(0))
            .into_iter()
            .map(|(topic, payload, _)| (topic, String::from_utf8(payload).unwrap()))
            .collect();
        let onvif = r#"{"Data":{"State":true},"Source":{"Source":"main"},"UtcTime":"1970-01-01T00:00:00.000Z"}"#;
        assert_eq!(
            messages,
            [
                ("taimat/v1/km-17/up/motion".into(), "ON".into()),
                ("frigate/km-17/motion".into(), "ON".into()),
                (
                    "taimat/v1/km-17/up/onvif-ej/VideoSource/MotionAlarm/main".to_owned(),
                    onvif.to_owned()
                ),
            ]
        );
    }

    #[test]
    fn every_entity_has_a_platform_a_unique_id_and_a_topic() {
        let value = discovery(&site(), &birth());
        let components = value["components"].as_object().unwrap();
        let ids: std::collections::BTreeSet<_> =
            components.values().map(|entity| entity["unique_id"].as_str().unwrap()).collect();
        assert_eq!((components.len(), ids.len()), (5, 5));
        for (name, entity) in components {
            assert!(entity["platform"].is_string(), "{name}");
            assert!(
                entity["state_topic"].is_string() || entity["image_topic"].is_string(),
                "{name}"
            );
        }
        assert!(value["origin"]["name"].is_string() && value["device"]["identifiers"].is_array());
    }
}
