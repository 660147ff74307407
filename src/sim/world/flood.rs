//! Message floods in a simulated world: commands, documents, states and junk from the broker.
//!
//! The promises of the world must hold, and the commands that reach the agent must keep their rate.

use serde_json::json;

use super::World;
use crate::sim::rng::Rng;
use crate::uplink::delivery::DeliveryEffect;
use crate::uplink::{UplinkRequest, UplinkUpdate, topics};

/// Messages of one flood.
const MESSAGES: u64 = 1_000;
/// Unsigned commands that may reach the agent: burst, then rate a second.
const BURST: u64 = 10;
const PER_SECOND: u64 = 2;
/// Largest number of answers and resends in one step: the runtime's queues.
const ORDERS_MAX: u64 = 96;

/// Counts of the floods in a world.
pub(super) struct Flood {
    rng: Rng,
    /// Commands that reached the agent, and the start of the count.
    commands: u64,
    since: u64,
    /// Answers and resends in this step.
    orders: u64,
}

impl Flood {
    pub(super) fn new(seed: u64) -> Flood {
        Flood { rng: Rng::new(seed ^ 0x000f_100d), commands: 0, since: 1_000_000, orders: 0 }
    }

    /// Counts requests to the uplink.
    pub(super) fn order(&mut self, order: &UplinkRequest) {
        self.orders +=
            u64::from(matches!(order, UplinkRequest::Reply(_) | UplinkRequest::Resend { .. }));
    }

    /// Counts updates from the uplink.
    pub(super) fn update(&mut self, update: &UplinkUpdate) {
        self.commands += u64::from(matches!(update, UplinkUpdate::Command(_)));
    }

    /// Resets the counts after a boot: the rate limiters are full again.
    pub(super) fn restart(&mut self, now: u64) {
        self.commands = 0;
        self.since = now;
    }
}

impl World {
    /// Checks the rates of this step, and sends a random flood while connected.
    pub(super) fn flood(&mut self) {
        let share = BURST + PER_SECOND * (self.now.mono.0 - self.flood.since).div_ceil(1_000_000);
        if self.flood.commands > share {
            self.wrongs.push(format!(
                "{} unsigned commands reached the agent; the limit is {share}",
                self.flood.commands
            ));
        }
        if self.flood.orders > ORDERS_MAX {
            self.wrongs.push(format!("{} answers and resends in one step", self.flood.orders));
        }
        self.flood.orders = 0;
        if !self.stormy || !self.connected || !self.flood.rng.one_in(60) {
            return;
        }
        let ring = self
            .office
            .events
            .values()
            .next()
            .map(|(event, _)| event.ring.to_string())
            .unwrap_or_default();
        let all = vec![(1, 100_000); 32];
        for n in 0..MESSAGES {
            let bits = self.flood.rng.bits();
            let name = [
                "ping",
                "event-get",
                "log-tail",
                "clip-get",
                "ring-status",
                "restart",
                "config-check",
                "no-such",
            ][bits as usize % 8];
            let command = json!({"req_id": format!("x{bits}"), "ring": ring, "seq": all, "boot": 1, "config": "", "lines": 500,
                "from": self.now.wall.plus_micros(-20_000_000).rfc3339(), "to": self.now.wall.rfc3339()});
            let forged = json!({"req_id": format!("y{bits}"), "n": n, "sig": {"key": "00", "ed25519": "00"}});
            let site = &self.settings.site;
            let (topic, payload) = match self.flood.rng.below(12) {
                0 => (topics::fleet(name), command.to_string()),
                1 => (topics::dn(site, &format!("cmd/{name}")), forged.to_string()),
                2 => (topics::dn(site, "config/answer"), command.to_string()),
                3 => (topics::dn(site, "config/confirm"), "{}".to_owned()),
                4 => (
                    topics::host_state(&format!("evil-{bits}")),
                    "{\"state\":\"online\"}".to_owned(),
                ),
                5 => (
                    topics::dn(site, "ack"),
                    format!(
                        "{{\"t\":\"event\",\"id\":\"{bits}\",\"sha256\":\"{}\"}}",
                        "0".repeat(64)
                    ),
                ),
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
