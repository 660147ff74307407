//! What changed in the archive, for pages: sent to all listeners after the commit.
//!
//! A listener that is [`CAPACITY`] changes behind misses the oldest ones and reads everything
//! again. The archive never waits for a listener.

use crate::units::SiteId;

/// Changes kept for a listener that is behind: at 256 messages a transaction, four of them.
pub const CAPACITY: usize = 1_024;

/// A change that is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// State, birth, health, camera or gaps of a site.
    Site {
        /// Site id.
        site: String,
    },
    /// A motion event began, went on or ended.
    MotionEvent {
        /// Site id.
        site: String,
        /// Id of its start event.
        id: String,
    },
    /// A file arrived.
    File {
        /// Site id.
        site: String,
        /// File id.
        fid: String,
        /// `clip`, `snapshot`, `requested`.
        purpose: String,
        /// Id of its motion event, or `req_id` of the request.
        event: String,
    },
    /// A device answered a command; [`crate::office::store::ReadIndex::reply_to`] has the answer.
    Reply {
        /// Site id.
        site: String,
        /// The `req_id` of the command.
        req_id: String,
    },
    /// A pass of the retention released files of a site.
    Released {
        /// Site id.
        site: String,
        /// `clip`, `snapshot`, `requested`.
        purpose: String,
        /// Files.
        files: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// A fault that the office reports to its operator.
    Notice {
        /// The site; `None` for the office itself.
        site: Option<String>,
        /// One line without control characters.
        text: String,
    },
}

impl Change {
    pub(super) fn of_site(site: &SiteId) -> Change {
        Change::Site { site: site.to_string() }
    }
}
