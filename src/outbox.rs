//! Placeholder until the uplink branch is merged.
use crate::units::{Mono, Ticket};
use std::collections::VecDeque;
/// Lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// e
    Event,
    /// u
    Update,
    /// s
    Snapshot,
    /// c
    Clip,
    /// r
    Requested,
}
/// Meta.
#[derive(Debug, Clone, Copy)]
pub struct Meta {
    /// k
    pub kind: Kind,
    /// b
    pub bytes: u64,
}
/// Outbox.
#[derive(Debug, Default)]
pub struct Outbox(VecDeque<Ticket>);
impl Outbox {
    /// n
    pub fn new(_bytes: u64, _count: u32) -> Outbox {
        Outbox::default()
    }
    /// n
    pub fn push(&mut self, _: Mono, t: Ticket, _: Meta) {
        self.0.push_back(t);
    }
    /// n
    pub fn next(&mut self, _: Mono) -> Option<Ticket> {
        self.0.pop_front()
    }
    /// n
    pub fn receipted(&mut self, _: Ticket) {}
    /// n
    pub fn refused(&mut self, _: Ticket, _: Mono) {}
    /// n
    pub fn up(&mut self, _: Mono) {}
    /// n
    pub fn down(&mut self, _: Mono) {}
    /// n
    pub fn take_shed(&mut self) -> Vec<Ticket> {
        Vec::new()
    }
    /// n
    pub fn backlog(&self, _: Mono) -> crate::uplink::wire::Backlog {
        Default::default()
    }
    /// n
    pub fn deadline(&self) -> Option<Mono> {
        None
    }
}
