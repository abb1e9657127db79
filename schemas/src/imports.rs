//! Records of `operations.events` that tell of imports.

use crate::codec::{Codec, CodecError, Decoded};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub const STARTED: &str = "almanac.operations.ImportStarted";
pub const COMPLETED: &str = "almanac.operations.ImportCompleted";
/// CloudEvents types of their events.
pub const STARTED_TYPE: &str = "import.started";
pub const COMPLETED_TYPE: &str = "import.completed";

/// The aggregate of an installation's imports, a UUID like those of projections. It must never change.
pub const ID: Uuid = Uuid::from_u128(0x0f6d_61c2_88a4_5b1e_9d37_c5e2_704a_93b8);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportStartedRecord {
    pub id: String,
    pub version: i64,
    pub occurred_at: i64,
    pub actor: String,
    pub reason: String,
    pub import_id: String,
    pub manifest: String,
    pub source: String,
    pub bases: Vec<BaseRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseRecord {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportCompletedRecord {
    pub id: String,
    pub version: i64,
    pub occurred_at: i64,
    pub actor: String,
    pub reason: String,
    pub import_id: String,
    pub records: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportEvent {
    Started(ImportStartedRecord),
    Completed(ImportCompletedRecord),
}

impl ImportEvent {
    /// `None` for a record of something else.
    pub fn read(decoded: &Decoded<'_>) -> Result<Option<Self>, CodecError> {
        Ok(match decoded.record() {
            STARTED => Some(Self::Started(decoded.read()?)),
            COMPLETED => Some(Self::Completed(decoded.read()?)),
            _ => None,
        })
    }

    pub fn encode(&self, codec: &Codec) -> Result<Bytes, CodecError> {
        match self {
            Self::Started(event) => codec.encode(STARTED, event),
            Self::Completed(event) => codec.encode(COMPLETED, event),
        }
    }

    pub fn event_type(&self) -> &'static str {
        match self {
            Self::Started(_) => STARTED_TYPE,
            Self::Completed(_) => COMPLETED_TYPE,
        }
    }
}
