//! Tracking: regions over time, the rules that make an event of them, and its snapshot.

pub mod tracker;
pub mod event_lifecycle;
pub mod snapshot;
pub mod snapshot_requests;
pub mod rules;
