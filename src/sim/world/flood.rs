//! Floods from the broker: whoever may publish there sends commands, documents, states and junk, as much as fits. The world's promises
//! hold all the same, and what reaches the agent stays within its share.
//!
//! What belongs here: what is sent, and that share. What does not: the other faults of a world.

use serde_json::json;

use super::World;
use crate::sim::rng::Rng;
use crate::uplink::delivery::DeliveryEffect;
use crate::uplink::{UplinkRequest, UplinkUpdate, topics};

/// Messages of one flood.
const MESSAGES: u64 = 1_000;
/// Commands that nobody signed may reach the agent: so many at once, and then in a second.
const BURST: u64 = 10;
const PER_SECOND: u64 = 2;
/// Answers and resends the agent may give in one step: what waits in the wiring's lanes.
const ORDERS_MAX: u64 = 96;

/// What is known of floods in a world.
pub(super) struct Flood {
    rng: Rng,
    /// Commands that reached the agent, and since when they are counted.
    heard: u64,
    since: u64,
    /// Answers and resends in this step.
    orders: u64,
}

impl Flood {
    pub(super) fn new(seed: u64) -> Flood {
        Flood { rng: Rng::new(seed ^ 0x000f_100d), heard: 0, since: 1_000_000, orders: 0 }
    }

    /// Counts what goes to the uplink.
    pub(super) fn order(&mut self, order: &UplinkRequest) {
        self.orders += u64::from(matches!(order, UplinkRequest::Reply(_) | UplinkRequest::Resend { .. }));
    }

    /// Counts what comes from it.
    pub(super) fn update(&mut self, update: &UplinkUpdate) {
        self.heard += u64::from(matches!(update, UplinkUpdate::Command(_)));
    }

    /// The link is new, and its shares are full again.
    pub(super) fn restart(&mut self, now: u64) {
        (self.heard, self.since) = (0, now);
    }
}

impl World {
    /// Now and then a flood, while there is a connection; and whether shares were kept in this step.
    pub(super) fn flood(&mut self) {
        let share = BURST + PER_SECOND * (self.now.mono.0 - self.flood.since).div_ceil(1_000_000);
        if self.flood.heard > share {
            self.wrongs.push(format!("{} commands of strangers reached the agent; their share is {share}", self.flood.heard));
        }
        if self.flood.orders > ORDERS_MAX {
            self.wrongs.push(format!("{} answers and resends in one step", self.flood.orders));
        }
        self.flood.orders = 0;
        if !self.stormy || !self.connected || !self.flood.rng.one_in(60) {
            return;
        }
        let ring = self.office.events.values().next().map(|(event, _)| event.ring.to_string()).unwrap_or_default();
        let all = vec![(1, 100_000); 32];
        for n in 0..MESSAGES {
            let bits = self.flood.rng.bits();
            let name = ["ping", "event-get", "log-tail", "clip-get", "ring-status", "restart", "config-check", "no-such"]
                [bits as usize % 8];
            let command = json!({"req_id": format!("x{bits}"), "ring": ring, "seq": all, "boot": 1, "config": "", "lines": 500,
                "from": self.now.wall.plus_micros(-20_000_000).rfc3339(), "to": self.now.wall.rfc3339()});
            let forged = json!({"req_id": format!("y{bits}"), "n": n, "sig": {"key": "00", "ed25519": "00"}});
            let site = &self.settings.site;
            let (topic, payload) = match self.flood.rng.below(12) {
                0 => (topics::fleet(name), command.to_string()),
                1 => (topics::dn(site, &format!("cmd/{name}")), forged.to_string()),
                2 => (topics::dn(site, "config/answer"), command.to_string()),
                3 => (topics::dn(site, "config/confirm"), "{}".to_owned()),
                4 => (topics::host_state(&format!("evil-{bits}")), "{\"state\":\"online\"}".to_owned()),
                5 => {
                    (topics::dn(site, "ack"), format!("{{\"t\":\"event\",\"id\":\"{bits}\",\"sha256\":\"{}\"}}", "0".repeat(64)))
                }
                6 => (topics::dn(site, "ack"), "\u{0}junk".to_owned()),
                7 => (topics::dn(site, "cmd/ping"), "x".repeat(bits as usize % 3000)),
                _ => (topics::dn(site, &format!("cmd/{name}")), command.to_string()),
            };
            let mut out: Vec<DeliveryEffect> = Vec::new();
            self.link.message(self.now, &topic, payload.as_bytes(), &mut out);
            self.link_effects(out);
        }
    }
}
