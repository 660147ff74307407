//! Tracking: follows objects over time, applies rules and reports events with snapshots.
//!
//! * [`tracker`]: matches regions to tracks and confirms objects.
//! * [`rules`]: decides by zones, lines and conditions whether a confirmed object is an event.
//! * [`event_lifecycle`]: starts, updates and ends the events of each rule.
//! * [`snapshot`]: chooses and encodes the best picture. [`snapshot_requests`]: answers requests.
//!
//! What belongs here: objects and events of one camera. What does not: regions of one picture
//! ([`super::detect`]), event numbers on the wire and clips (the agent's).

pub(crate) mod tracker;
pub(crate) mod event_lifecycle;
pub(crate) mod snapshot;
pub(crate) mod snapshot_requests;
pub(crate) mod rules;
