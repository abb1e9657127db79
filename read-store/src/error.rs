//! What can go wrong with the read store, and whether trying again helps.

use almanac_errors::Cause;
use std::path::PathBuf;

pub type StoreResult<T> = Result<T, StoreError>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// An outage: the same call may succeed later. Writes are idempotent, so repeating is safe.
    Later,
    /// The same call fails again until a person changes something.
    Never,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    #[error("table {table} does not exist")]
    UnknownTable { table: String },
    #[error("{name:?} is not a table name: lowercase letters, digits and _ only, at most 32")]
    BadTableName { name: String },
    #[error("a key of table {table} {fault}")]
    BadKey { table: String, fault: &'static str },
    #[error("a row of {size} bytes for table {table} is over the limit of {limit} bytes")]
    RowTooLarge { table: String, size: usize, limit: usize },
    #[error("body of a row of table {table} is not UTF-8")]
    NotText { table: String },
    #[error("{what} is unavailable")]
    Unavailable { what: String, source: Cause },
    #[error("{what} is refused")]
    Refused { what: String, source: Cause },
    #[error("cannot {action} the tables in {folder}")]
    Storage { action: &'static str, folder: PathBuf, source: Cause },
    /// A write to the disk failed. What memory holds and what the disk holds may differ from then on.
    #[error(
        "cannot {action} the tables in {folder}; a write to the disk failed, and they take no more until \
         the process is started again"
    )]
    Stopped { action: &'static str, folder: PathBuf, source: Cause },
    #[error("a row of table {table} is damaged; drop the tables and rebuild them")]
    Corrupt { table: String, source: Cause },
}

impl StoreError {
    pub fn retry(&self) -> Retry {
        match self {
            Self::Unavailable { .. } | Self::Storage { .. } => Retry::Later,
            Self::UnknownTable { .. }
            | Self::BadTableName { .. }
            | Self::BadKey { .. }
            | Self::RowTooLarge { .. }
            | Self::NotText { .. }
            | Self::Refused { .. }
            | Self::Stopped { .. }
            | Self::Corrupt { .. } => Retry::Never,
        }
    }
}
