//! Errors of the console, one variant for each reaction of a caller.

/// Failure of a call of the console. [`ConsoleError::code`] is the `code` of a problem document,
/// [`ConsoleError::http_status`] its status.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// Wrong name or password; which of them is not said.
    #[error("name or password is wrong")]
    LoginFailed,
    /// Too many wrong passwords: log-ins are refused for a while.
    #[error("too many wrong passwords; try again in {retry_after} s")]
    Locked {
        /// Seconds until the next try is accepted.
        retry_after: u64,
    },
    /// Too many log-ins or acts wait.
    #[error("the console is busy; try again in a few seconds")]
    Busy,
    /// The password is too weak: what is wrong, and how to mend it.
    #[error("{0}")]
    WeakPassword(String),
    /// A one-time token is unknown, used or too old, or does not count from this address.
    #[error("the link is unknown, was used or is too old; ask for another one")]
    BadToken,
    /// What is named does not exist.
    #[error("{0}")]
    NotFound(String),
    /// It exists already, or the change contradicts what is there.
    #[error("{0}")]
    Conflict(String),
    /// A value is malformed.
    #[error("{0}")]
    Invalid(String),
    /// The act and its record cannot be written: it did not happen.
    #[error(
        "the act was not carried out, because its record in the audit trail cannot be written: {0}"
    )]
    Trail(String),
    /// A log-out cannot be written: the session has ended, until the office starts again.
    #[error(
        "the session has ended until the office starts again; its end is not in the audit trail yet: log in and out once more when the office can write ({0})"
    )]
    LogoutUnrecorded(String),
    /// The database cannot be read or written.
    #[error("{0}")]
    Storage(String),
    /// A newer taimat wrote the database.
    #[error(
        "{path}: version {found} is newer than {supported}, the newest that this taimat reads; use the newer taimat"
    )]
    Version {
        /// The database.
        path: String,
        /// Its version.
        found: i64,
        /// The newest version that this program reads.
        supported: i64,
    },
}

impl ConsoleError {
    /// Name of the error in the API.
    pub fn code(&self) -> &'static str {
        match self {
            ConsoleError::LoginFailed => "login_failed",
            ConsoleError::Locked { .. } => "locked",
            ConsoleError::Busy => "busy",
            ConsoleError::WeakPassword(_) => "weak_password",
            ConsoleError::BadToken => "token_bad",
            ConsoleError::NotFound(_) => "not_found",
            ConsoleError::Conflict(_) => "conflict",
            ConsoleError::Invalid(_) => "invalid",
            ConsoleError::Trail(_) | ConsoleError::LogoutUnrecorded(_) => "audit_unavailable",
            ConsoleError::Storage(_) | ConsoleError::Version { .. } => "storage",
        }
    }

    /// HTTP status of the error.
    pub fn http_status(&self) -> u16 {
        match self {
            ConsoleError::LoginFailed => 401,
            ConsoleError::Locked { .. } => 429,
            ConsoleError::Busy | ConsoleError::Trail(_) | ConsoleError::LogoutUnrecorded(_) => 503,
            ConsoleError::WeakPassword(_) | ConsoleError::Invalid(_) => 422,
            ConsoleError::BadToken => 403,
            ConsoleError::NotFound(_) => 404,
            ConsoleError::Conflict(_) => 409,
            ConsoleError::Storage(_) | ConsoleError::Version { .. } => 500,
        }
    }
}
