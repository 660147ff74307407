//! Errors of the archive, one variant for each reaction of a caller.

use std::error::Error;
use std::io;
use std::path::PathBuf;

/// Failure of an archive operation. [`ArchiveError::http_status`] gives the status of a web
/// console.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The requested archive, event or file does not exist.
    #[error("{0}")]
    NotFound(String),
    /// An argument or a device's message is malformed.
    #[error("{0}")]
    Invalid(String),
    /// The target exists already.
    #[error("{0}")]
    Exists(String),
    /// Another process holds the archive or its index.
    #[error("{0}")]
    Locked(String),
    /// A read took longer than it may, and was interrupted.
    #[error("{0}")]
    Slow(String),
    /// The archive's disk has no free space.
    #[error("{context}")]
    DiskFull {
        /// The path or step that failed.
        context: String,
        /// The error of the file system or of the index.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A file operation failed.
    #[error("{context}")]
    Io {
        /// The path or step that failed.
        context: String,
        /// The error of the file system.
        source: io::Error,
    },
    /// The index failed, for another reason than a full disk or a lock.
    #[error("{context}")]
    Index {
        /// The path or step that failed.
        context: String,
        /// The error of the database.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A newer taimat wrote the archive.
    #[error("{}: index version {found} is newer than {supported}, the newest that this taimat reads; use the newer taimat", path.display())]
    Version {
        /// The index file.
        path: PathBuf,
        /// `user_version` of the index.
        found: i64,
        /// The newest `user_version` that this program reads.
        supported: i64,
    },
    /// An older taimat wrote the archive.
    #[error("{}: index version {found} is older than {supported}; start `taimat office run` once, which upgrades the archive", path.display())]
    Outdated {
        /// The index file.
        path: PathBuf,
        /// `user_version` of the index.
        found: i64,
        /// The `user_version` that this program reads.
        supported: i64,
    },
}

impl ArchiveError {
    /// The HTTP status (RFC 9110; 507 is RFC 4918) with which a web console answers.
    pub fn http_status(&self) -> u16 {
        match self {
            ArchiveError::NotFound(_) => 404,
            ArchiveError::Invalid(_) => 400,
            ArchiveError::Exists(_) | ArchiveError::Locked(_) => 409,
            ArchiveError::Slow(_) => 503,
            ArchiveError::DiskFull { .. } => 507,
            ArchiveError::Io { .. }
            | ArchiveError::Index { .. }
            | ArchiveError::Version { .. }
            | ArchiveError::Outdated { .. } => 500,
        }
    }

    /// True when free space on the archive's disk solves the failure.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, ArchiveError::DiskFull { .. })
    }

    /// The error and its cause in one line.
    pub fn line(&self) -> String {
        self.source().map_or_else(|| self.to_string(), |source| format!("{self}: {source}"))
    }

    /// The same failure, named after another path or step.
    fn named(self, place: String) -> ArchiveError {
        match self {
            ArchiveError::DiskFull { source, .. } => {
                ArchiveError::DiskFull { context: place, source }
            }
            ArchiveError::Io { source, .. } => ArchiveError::Io { context: place, source },
            ArchiveError::Index { source, .. } => ArchiveError::Index { context: place, source },
            ArchiveError::Locked(text) => ArchiveError::Locked(format!("{place}: {text}")),
            other => other,
        }
    }
}

/// True for the errors of a file system without free space or quota.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl From<io::Error> for ArchiveError {
    fn from(source: io::Error) -> ArchiveError {
        let context = "file operation".to_owned();
        if is_full(&source) {
            ArchiveError::DiskFull { context, source: source.into() }
        } else {
            ArchiveError::Io { context, source }
        }
    }
}

/// Names the path or step of a failure.
pub(super) trait Named<T> {
    /// Replaces the generic context of an error by `place`.
    fn named(self, place: impl FnOnce() -> String) -> Result<T, ArchiveError>;
}

impl<T, E: Into<ArchiveError>> Named<T> for Result<T, E> {
    fn named(self, place: impl FnOnce() -> String) -> Result<T, ArchiveError> {
        self.map_err(|error| error.into().named(place()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_disk_and_caller_get_their_http_status() {
        let statuses = [
            (ArchiveError::from(io::Error::from_raw_os_error(28)), 507),
            (io::Error::from(io::ErrorKind::PermissionDenied).into(), 500),
            (ArchiveError::NotFound("no archive".into()), 404),
            (ArchiveError::Invalid("too long".into()), 400),
            (ArchiveError::Exists("out".into()), 409),
        ];
        for (error, status) in statuses {
            assert_eq!(error.http_status(), status, "{error:?}");
        }
    }

    #[test]
    fn a_named_error_says_path_and_cause() {
        let full: Result<(), io::Error> = Err(io::Error::from_raw_os_error(28));
        let error = full.named(|| "/archive/files".into()).unwrap_err();
        assert!(error.is_disk_full());
        assert!(error.line().starts_with("/archive/files: No space left"), "{}", error.line());
    }
}
