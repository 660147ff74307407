//! Subscriptions of the device, reduced when an oversized message ends its session.

use std::time::Duration;

use super::{emqx_file_transfer, topics};
use crate::settings::FileProtocol;
use crate::units::{MonoTime, SiteId};

/// Time after which a device that dropped its command subscription subscribes to commands again.
const REDUCED_FOR: Duration = Duration::from_secs(3600);

/// How far the subscriptions are reduced.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    /// Level of [`topics::device_filters`]: one for each session that an oversized message ended. A
    /// retained message would end every further session.
    level: u8,
    reduced_at: MonoTime,
}

impl Subscriptions {
    /// Reduces the subscriptions by one level. True when it is the first time.
    pub(super) fn reduce(&mut self, now: MonoTime) -> bool {
        let is_first = self.level == 0;
        self.level = (self.level + 1).min(topics::RECEIPTS_ONLY);
        self.reduced_at = now;
        tracing::error!(
            level = self.level,
            "session ended by an oversized message; subscribing to fewer topics from now on"
        );
        is_first
    }

    /// True when the device subscribes to receipts only.
    pub(super) fn are_receipts_only(&self) -> bool {
        self.level == topics::RECEIPTS_ONLY
    }

    /// True when the device must subscribe to commands again.
    pub(super) fn restore_commands(&mut self, now: MonoTime) -> bool {
        let is_due = self.level > 1 && now.since(self.reduced_at) >= REDUCED_FOR.as_micros() as u64;
        if is_due {
            self.level = 1;
            self.reduced_at = now;
        }
        is_due
    }

    /// The topic filters of a session.
    pub(super) fn filters(
        &self,
        site: &SiteId,
        files: FileProtocol,
        client_id: &str,
    ) -> Vec<String> {
        let mut filters = topics::device_filters(site, self.level);
        filters.extend((self.level < 2).then(|| topics::FLEET.to_owned()));
        if files == FileProtocol::Emqx {
            filters.push(emqx_file_transfer::answers(client_id));
        }
        filters
    }

    /// The first filter that the broker rejected, with its reason, and whether the session is
    /// useless without it.
    pub(super) fn rejected(
        &self,
        site: &SiteId,
        filters: &[String],
        granted: &[Result<(), String>],
    ) -> Option<(String, bool)> {
        filters.iter().zip(granted).enumerate().find_map(|(at, (filter, granted))| {
            let reason = granted.as_ref().err()?;
            let is_needed = at < topics::device_filters(site, self.level).len();
            Some((format!("{filter} ({reason})"), is_needed))
        })
    }
}
