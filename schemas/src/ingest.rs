//! Records of the `ingest.*` topics.

use crate::forecasts::SeriesRecord;
use serde::{Deserialize, Serialize};

pub const REQUESTS: &str = "ingest.requests";
pub const STATE: &str = "ingest.state";
pub const PAYLOADS: &str = "ingest.payloads";
pub const QUARANTINE: &str = "ingest.quarantine";

pub const FETCH_REQUESTED: &str = "almanac.ingest.FetchRequested";
pub const REPLAY_REQUESTED: &str = "almanac.ingest.ReplayRequested";
pub const FORECAST_REQUESTED: &str = "almanac.ingest.ForecastRequested";
pub const PROVIDER_STATE: &str = "almanac.ingest.ProviderState";
pub const FORECAST_STATE: &str = "almanac.ingest.ForecastState";
pub const PAYLOAD_CHUNK: &str = "almanac.ingest.PayloadChunk";
pub const QUARANTINED: &str = "almanac.ingest.Quarantined";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchRequestedRecord {
    pub provider: String,
    pub requested_at: i64,
    pub requested_by: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayRequestedRecord {
    pub provider: String,
    pub requested_at: i64,
    pub requested_by: String,
    pub since: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForecastRequestedRecord {
    pub provider: String,
    pub lat: String,
    pub lon: String,
    pub requested_at: i64,
    pub requested_by: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderStateRecord {
    pub provider: String,
    pub etag: Option<String>,
    pub last_modified: Option<String>,
    pub configuration: String,
    pub plans: i64,
    pub listed_plans: i64,
    pub suspect_bodies: i64,
    pub body_hash: Option<String>,
    #[serde(default)]
    pub suspect_since: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForecastStateRecord {
    pub provider: String,
    pub lat: String,
    pub lon: String,
    pub configuration: String,
    pub fetch_id: String,
    pub answered: Option<String>,
    pub products: Vec<ForecastProductRecord>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForecastProductRecord {
    pub name: String,
    pub etag: Option<String>,
    pub last_modified: Option<String>,
    pub fetched_at: i64,
    pub fresh_until: i64,
    pub issued_at: Option<i64>,
    pub no_data: Option<String>,
    pub series: Vec<SeriesRecord>,
    pub trimmed_after: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayloadChunkRecord<'a> {
    pub payload_id: String,
    pub provider: String,
    pub fetched_at: i64,
    pub content_encoding: String,
    pub chunk: i32,
    pub chunks: i32,
    #[serde(borrow, with = "bytes_field")]
    pub bytes: &'a [u8],
    #[serde(default)]
    pub charset: Option<String>,
}

/// Serde would write a slice as a sequence of numbers.
mod bytes_field {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<&'de [u8], D::Error> {
        <&[u8]>::deserialize(deserializer)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantinedRecord {
    pub provider: String,
    pub observed_at: i64,
    pub payload_id: Option<String>,
    pub place: String,
    pub subject: String,
    pub reason: String,
    pub fragment: String,
}
