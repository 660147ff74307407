//! Errors of SQLite as errors of the archive.

use rusqlite::ErrorCode;

use crate::office::error::ArchiveError;

impl From<rusqlite::Error> for ArchiveError {
    fn from(source: rusqlite::Error) -> ArchiveError {
        let context = "index".to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => ArchiveError::DiskFull { context, source: source.into() },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                ArchiveError::Locked(format!("another process holds the index: {source}"))
            }
            Some(ErrorCode::OperationInterrupted) => {
                ArchiveError::Slow("the read took too long and was ended; ask for less".into())
            }
            _ => ArchiveError::Index { context, source: source.into() },
        }
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    #[test]
    fn errors_of_the_index_get_their_http_status() {
        let codes = [
            (ffi::SQLITE_FULL, 507),
            (ffi::SQLITE_BUSY, 409),
            (ffi::SQLITE_LOCKED, 409),
            (ffi::SQLITE_INTERRUPT, 503),
            (ffi::SQLITE_CORRUPT, 500),
        ];
        for (code, status) in codes {
            let failure = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            let error = ArchiveError::from(failure);
            assert_eq!(error.http_status(), status, "{error:?}");
        }
    }
}
