//! Evidence of a trial since the boot, and what is still missing.

use super::state_record::Needs;
use crate::units::MonoTime;

/// Microseconds between two saves of the elapsed time.
pub const KEEP_EVERY: u64 = 30_000_000;

/// Evidence of a trial since the boot.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Time at which the change was applied.
    pub applied: MonoTime,
    /// The session under the change: broker (host, port) and the nonce that the office must return.
    pub session: Option<((String, u16), String)>,
    /// Broker of the session with the confirmation.
    pub confirmed: Option<(String, u16)>,
    /// A key frame arrived.
    pub picture: bool,
    /// Footage under the change is durable.
    pub footage: bool,
    /// Reason of the missing session.
    pub no_session: Option<String>,
    /// Reason of the missing key frame.
    pub no_picture: Option<String>,
    pub(super) keep_at: MonoTime,
}

impl Progress {
    /// No evidence yet; `picture` is true when the camera stays the same.
    pub fn new(applied: MonoTime, picture: bool) -> Progress {
        Progress {
            applied,
            session: None,
            confirmed: None,
            picture,
            footage: false,
            no_session: None,
            no_picture: None,
            keep_at: applied.plus_micros(KEEP_EVERY),
        }
    }
}

/// Missing evidence of a trial, with the reasons.
pub fn missing(needs: Needs, progress: &Progress) -> Vec<String> {
    let because = |reason: &Option<String>| {
        reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default()
    };
    let session = match &progress.session {
        None => format!("no session with the broker{}", because(&progress.no_session)),
        Some(((host, port), _)) => format!("no confirmation from the office over {host}:{port}"),
    };
    let missing = [
        (needs.session && progress.confirmed.is_none(), session),
        (
            needs.picture && !progress.picture,
            format!("no key frame{}", because(&progress.no_picture)),
        ),
        (needs.footage && !progress.footage, "no durable footage".to_owned()),
    ];
    missing.into_iter().filter(|(missing, _)| *missing).map(|(_, what)| what).collect()
}
