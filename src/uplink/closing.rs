//! End of a session on request: the state `stopping`, then DISCONNECT.
//!
//! With a full outbox the queue of the client is full, too. What waits stays in the outbox; only what
//! the queue already holds goes before.

use std::time::Duration;

use super::client::Sender;
use super::topics;
use crate::units::{MonoTime, SiteId};

/// Time for the broker to acknowledge `stopping`. The will says `lost` where it was not enough; a
/// stop of the device takes less than 2 s with it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A session that ends.
pub(super) struct Closing {
    until: MonoTime,
    /// Topic, payload and retain flag of the last message, until the queue takes it.
    state: Option<(String, Vec<u8>, bool)>,
    is_disconnecting: bool,
}

impl Closing {
    /// Ends a session with this message.
    pub(super) fn new(now: MonoTime, site: &SiteId, payload: Vec<u8>, retain: bool) -> Closing {
        let state = Some((topics::up(site, "state"), payload, retain));
        Closing { until: now.plus(CLOSE_TIMEOUT), state, is_disconnecting: false }
    }

    /// Hands over what the queue has room for.
    pub(super) fn advance(&mut self, sender: &Sender) {
        self.state
            .take_if(|(topic, payload, retain)| sender.publish(0, topic, payload.clone(), *retain));
        if self.state.is_none() && !self.is_disconnecting {
            self.is_disconnecting = sender.disconnect();
        }
    }

    /// True when the broker has had its time.
    pub(super) fn is_over(&self, now: MonoTime) -> bool {
        now >= self.until
    }
}
