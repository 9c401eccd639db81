use std::{io, path::Path};

use rusqlite::ErrorCode;

/// What can go wrong with the store. Cloneable, because one failed commit has many waiters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// Another process held the store's write lock for too long.
    #[error("the audit store is locked by another process")]
    Busy,
    /// The file is no SQLite database, or a broken one.
    #[error("the audit store is damaged: {0}")]
    Damaged(String),
    /// SQLite failed in a way that has no name here.
    #[error("the audit store failed: {0}")]
    Database(String),
    /// There is no room left.
    #[error("the disk is full, or the audit store has reached its size limit")]
    DiskFull,
    /// Others can read or change a file that must be private.
    #[error(
        "`{path}` is accessible to others (mode {mode:03o}); \
         make it private with `chmod {} {path}`", if *.folder { "700" } else { "600" }
    )]
    Exposed {
        /// The file or folder.
        path: String,
        /// Its permission bits.
        mode: u32,
        /// Whether it is a folder.
        folder: bool,
    },
    /// The database file was deleted or replaced while it was in use.
    #[error("the audit store at `{0}` was removed or replaced while in use")]
    Gone(String),
    /// The operating system refused.
    #[error("`{path}`: {why}")]
    Io {
        /// The file or folder.
        path: String,
        /// What the system said.
        why: String,
    },
    /// The store was written by a later plainsight.
    #[error(
        "the audit store has schema {found}, this plainsight knows up to {known}; use a newer plainsight"
    )]
    NewerSchema {
        /// The store's schema.
        found: u32,
        /// The newest schema known here.
        known: u32,
    },
    /// Nothing was ever recorded in this folder.
    #[error("there is no audit store in `{0}`; nothing was recorded there yet")]
    NoStore(String),
    /// The store was written by a plainsight from before the first release.
    #[error(
        "the audit store has schema {found}, this plainsight reads {oldest} and later; \
         move the data folder away, or choose another"
    )]
    OlderSchema {
        /// The store's schema.
        found: u32,
        /// The oldest schema known here.
        oldest: u32,
    },
    /// A record is already there, or makes no sense to the database.
    #[error("the record was rejected: {0}")]
    Rejected(String),
    /// A symbolic link, or something else that is no plain file, stands where a file must be.
    #[error("`{0}` is not a plain file of the current user; remove it or choose another data folder")]
    Suspicious(String),
    /// The writer has ended.
    #[error("the audit writer has ended")]
    WriterEnded,
}

impl AuditError {
    pub(super) fn io(path: &Path, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Io { path: path.display().to_string(), why: error.to_string() },
        }
    }

    /// Whether trying each record alone may help: one of them is at fault, not the store.
    pub(super) const fn is_about_one_record(&self) -> bool {
        matches!(self, Self::Rejected(_))
    }
}

impl From<rusqlite::Error> for AuditError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch) => {
                Self::Rejected(error.to_string())
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(error.to_string()),
            Some(ErrorCode::DiskFull) => Self::DiskFull,
            _ => Self::Database(error.to_string()),
        }
    }
}
