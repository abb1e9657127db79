//! Reading single records of the log, by their positions.

use almanac_errors::Cause;
use almanac_event_log::{EventLog, LogError, Offset, StoredRecord, read_range};
use almanac_processor::{RoleError, StateError};
use almanac_schemas::{Codec, CodecError, Decoded};
use std::time::Duration;

/// How long a read may take in all.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why something that an analysis needs is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// It may be there later.
    #[error(transparent)]
    Outage(Cause),
    /// It never will.
    #[error(transparent)]
    Lost(Cause),
}

impl Trouble {
    pub(crate) fn outage(cause: impl Into<Cause>) -> Self {
        Self::Outage(cause.into())
    }

    pub(crate) fn lost(cause: impl Into<Cause>) -> Self {
        Self::Lost(cause.into())
    }
}

/// A value that is there, and not what it should be.
#[derive(Debug, thiserror::Error)]
#[error("{what} cannot be read")]
pub(crate) struct Unreadable {
    pub(crate) what: &'static str,
    pub(crate) source: Cause,
}

impl From<LogError> for Trouble {
    fn from(error: LogError) -> Self {
        Self::Outage(error.into())
    }
}

impl From<StateError> for Trouble {
    fn from(error: StateError) -> Self {
        Self::Outage(error.into())
    }
}

impl From<RoleError> for Trouble {
    fn from(error: RoleError) -> Self {
        Self::Outage(error.into())
    }
}

impl From<CodecError> for Trouble {
    fn from(error: CodecError) -> Self {
        match error.is_outage() {
            true => Self::Outage(error.into()),
            false => Self::Lost(error.into()),
        }
    }
}

/// The records from `first` to `last`, both included.
pub(crate) async fn records(
    log: &dyn EventLog,
    topic: &str,
    partition: u32,
    first: Offset,
    last: Offset,
) -> Result<Vec<StoredRecord>, Trouble> {
    let read = read_range(log, topic, partition, first, last);
    match tokio::time::timeout(PATIENCE, read).await {
        Ok(found) => Ok(found?),
        Err(_) => Err(Trouble::outage(format!(
            "{topic}/{partition} did not answer within {PATIENCE:?} at offset {first}"
        ))),
    }
}

/// The value of the record at a position.
pub(crate) async fn value(
    log: &dyn EventLog,
    topic: &str,
    partition: u32,
    offset: Offset,
) -> Result<bytes::Bytes, Trouble> {
    let found = records(log, topic, partition, offset, offset).await?;
    let value = found.into_iter().next().and_then(|stored| stored.record.value);
    value.ok_or_else(|| Trouble::lost(format!("{topic}/{partition} has no record at {offset}")))
}

/// A value decoded, of which `read` takes what it knows.
pub(crate) async fn decoded<T>(
    codec: &Codec,
    value: &[u8],
    read: impl FnOnce(&Decoded<'_>) -> Result<Option<T>, CodecError>,
) -> Result<T, Trouble> {
    let decoded = codec.decode(value).await?;
    let read = read(&decoded)?;
    read.ok_or_else(|| Trouble::lost(format!("{} is not what was expected", decoded.record())))
}
