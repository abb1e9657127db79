//! Records of `operations.events` that tell which providers rest.

use crate::{
    codec::{Codec, CodecError},
    json::mending::PROVIDERS,
    operations,
};
use almanac_domain::operations::Pausing;
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub const PAUSED: &str = "almanac.operations.ProviderPaused";
pub const RESUMED: &str = "almanac.operations.ProviderResumed";

/// Whether a record is of these.
pub fn is_of(record: &str) -> bool {
    matches!(record, PAUSED | RESUMED)
}

/// The aggregate of a provider among those that operators act on. No projection has such a name.
pub fn id_of(provider: &str) -> Uuid {
    operations::id_of(&format!("{PROVIDERS}{provider}"))
}

/// Either of the events; which one, the name of the record says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PausingEventRecord {
    pub id: String,
    pub version: i64,
    pub occurred_at: i64,
    pub created_at: i64,
    pub owner: String,
    pub actor: String,
    pub reason: String,
    pub provider: String,
}

pub fn record_of(event: &Pausing) -> &'static str {
    if event.is_paused { PAUSED } else { RESUMED }
}

/// CloudEvents type of an event.
pub fn event_type(event: &Pausing) -> &'static str {
    if event.is_paused { "provider.paused" } else { "provider.resumed" }
}

impl PausingEventRecord {
    pub fn from_domain(event: &Pausing) -> Self {
        Self {
            id: id_of(&event.provider).to_string(),
            version: event.version as i64,
            occurred_at: event.since.as_millisecond(),
            created_at: event.created_at.as_millisecond(),
            owner: event.by.clone(),
            actor: event.by.clone(),
            reason: event.reason.clone(),
            provider: event.provider.clone(),
        }
    }

    /// What is known after the event; `record` is the record's name.
    pub fn knowledge(&self, record: &str) -> Option<Pausing> {
        let is_paused = match record {
            PAUSED => true,
            RESUMED => false,
            _ => return None,
        };
        Some(Pausing {
            provider: self.provider.clone(),
            version: u64::try_from(self.version).ok()?,
            is_paused,
            by: self.actor.clone(),
            reason: self.reason.clone(),
            since: Timestamp::from_millisecond(self.occurred_at).ok()?,
            created_at: Timestamp::from_millisecond(self.created_at).ok()?,
        })
    }
}

/// Encodes an event under the newest schema of its record.
pub fn encode(codec: &Codec, event: &Pausing) -> Result<Bytes, CodecError> {
    codec.encode(record_of(event), &PausingEventRecord::from_domain(event))
}
