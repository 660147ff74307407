//! Handlers of the API, each beside its row of the route table.
//!
//! * [`session`]: state, log-in, purpose. [`people`]: users, sessions, groups.
//! * [`sites`]: board, a site, its histories, commands ([`commands`]).
//! * [`motion_events`]: the feed of events. [`files`]: footage, its index, pictures, the axis.
//! * [`places`]: places and plan. [`retention`]: rules, storage.
//!   [`locks`]: locked footage. [`audit`]: the trail.
//! * [`machines`]: stream, description, metrics.

mod audit;
mod commands;
mod files;
mod locks;
mod machines;
mod motion_events;
mod people;
mod places;
mod retention;
mod session;
mod sites;

use super::route::Route;

/// The tables of all files.
pub(super) const TABLES: &[&[Route]] = &[
    session::ROUTES,
    sites::ROUTES,
    motion_events::ROUTES,
    files::ROUTES,
    people::ROUTES,
    places::ROUTES,
    retention::ROUTES,
    locks::ROUTES,
    audit::ROUTES,
    machines::ROUTES,
];
