//! What can go wrong with the log, and whether trying again helps.

use crate::TopicId;
use almanac_errors::Cause;
use std::path::PathBuf;

pub type LogResult<T> = Result<T, LogError>;

/// What the caller may do after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Nothing was written; the same call may succeed later.
    Later,
    /// It may have been written, or may still be: only the log tells. Whoever repeats the call may
    /// write it twice.
    Unknown,
    /// Ownership was lost or the outcome of a transaction is unknown: drop the transactor and
    /// everything derived from it, and start over from the log.
    StartOver,
    /// The same call fails again until a person changes something.
    Never,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    #[error("topic {topic} does not exist")]
    UnknownTopic { topic: String },
    #[error("topic {topic} has no partition {partition}")]
    UnknownPartition { topic: String, partition: u32 },
    #[error("topic {topic} has {setting} {found} where Almanac needs {wanted}; {remedy}")]
    WrongTopicSettings {
        topic: String,
        setting: &'static str,
        found: String,
        wanted: String,
        remedy: String,
    },
    #[error("a record of {size} bytes for topic {topic} is over the limit of {limit} bytes")]
    RecordTooLarge { topic: String, size: usize, limit: usize },
    #[error("a transaction of {size} {unit} is over the limit of {limit}")]
    TransactionTooLarge { size: usize, limit: usize, unit: &'static str },
    #[error(
        "offset {offset} of {topic}/{partition} is outside the log, which holds {start} to {end}"
    )]
    OffsetOutOfRange { topic: String, partition: u32, offset: u64, start: u64, end: u64 },
    #[error(
        "topic {topic} was deleted and made again: its id was {was} and is {is} now; positions in the one are none in the other"
    )]
    TopicReplaced { topic: String, was: TopicId, is: TopicId },
    #[error("{transactional_id} was fenced")]
    Fenced { transactional_id: String, source: Cause },
    #[error("outcome of a transaction of {transactional_id} is unknown")]
    Ambiguous { transactional_id: String, source: Cause },
    #[error("whether {what} was written is unknown")]
    Unknown { what: String, source: Cause },
    #[error("{what} is unavailable")]
    Unavailable { what: String, source: Cause },
    #[error("{what} took longer than {after_ms} ms")]
    TimedOut { what: String, after_ms: u128 },
    #[error("log file {file} is damaged at byte {position}, and has to be restored from a backup")]
    Corrupt { file: PathBuf, position: u64, source: Cause },
    /// What was written and synced is not there, although the files before it are sound.
    #[error(
        "the system lost what was written to log file {file} from byte {position} on; stop almanac and start it again"
    )]
    Lost { file: PathBuf, position: u64 },
    #[error("log folder {folder} is in use by another process")]
    InUse { folder: PathBuf },
    #[error("cannot {action} {file}")]
    Io { action: &'static str, file: PathBuf, source: Cause },
    #[error(
        "the thread {thread} of the log in {folder} panicked: {message}; the process has to be started again"
    )]
    Died { thread: &'static str, folder: PathBuf, message: String },
    #[error("the log is closed")]
    Closed,
    #[error("{what} is refused")]
    Refused { what: String, source: Cause },
}

impl LogError {
    pub fn retry(&self) -> Retry {
        match self {
            Self::Unavailable { .. } | Self::TimedOut { .. } | Self::Io { .. } => Retry::Later,
            Self::Unknown { .. } => Retry::Unknown,
            Self::Fenced { .. } | Self::Ambiguous { .. } | Self::TopicReplaced { .. } => {
                Retry::StartOver
            }
            Self::UnknownTopic { .. }
            | Self::UnknownPartition { .. }
            | Self::WrongTopicSettings { .. }
            | Self::RecordTooLarge { .. }
            | Self::TransactionTooLarge { .. }
            | Self::OffsetOutOfRange { .. }
            | Self::Corrupt { .. }
            | Self::Lost { .. }
            | Self::Died { .. }
            | Self::InUse { .. }
            | Self::Closed
            | Self::Refused { .. } => Retry::Never,
        }
    }
}
