//! Address of a broker, where its name has several.
#![expect(clippy::disallowed_methods, reason = "shell: waits")]

use std::time::Duration;

use tokio::time::timeout;

use super::failover::Attempt;
use crate::settings::Broker;

/// Timeout of the DNS lookup that follows when the first address does not answer.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Another address of a host whose first one did not answer: one of the two IP families can be
/// unreachable. `None` connects by name.
pub(super) async fn address(broker: &Broker, attempt: Attempt) -> Option<String> {
    if attempt.unreachable_count == 0 {
        return None;
    }
    let looked_up =
        timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((broker.host.as_str(), broker.port)))
            .await
            .ok()?
            .ok()?;
    let addresses: Vec<std::net::IpAddr> = looked_up.map(|address| address.ip()).collect();
    let chosen = addresses
        .get(attempt.unreachable_count % addresses.len().max(1))
        .filter(|_| addresses.len() > 1)?;
    Some(if chosen.is_ipv6() { format!("[{chosen}]") } else { chosen.to_string() })
}
/// Host and port of a broker, for the log: of the first when that one is gone.
pub(super) fn name(brokers: &[Broker], at: usize) -> String {
    let broker = brokers.get(at).or(brokers.first());
    broker.map(|broker| format!("{}:{}", broker.host, broker.port)).unwrap_or_default()
}
