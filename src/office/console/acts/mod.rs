//! Acts: what changes the console, each with its record. All are methods of
//! [`Store`](super::writer::Store).
//!
//! * [`people`]: users, grants, tokens. [`sessions`]: log-in, log-out, purposes.
//! * [`office`]: groups, places, plan, rules of retention, settings. [`events`]: handled events,
//!   notes, locks, shown ranges. [`playback`]: clips that begin and end.

mod deletions;
mod events;
mod office;
mod people;
mod playback;
mod sessions;

pub use deletions::Recorded;
pub use events::Verdict;
pub use people::check_name;
pub(super) use people::token_user;
pub use playback::{Ending, PlaybackStarts};
pub(super) use sessions::idle_since;
