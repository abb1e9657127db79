//! What a provider's owner is asked for: durable requests on `ingest.requests`.

use crate::role::Topics;
use almanac_domain::weather::Place;
use almanac_event_log::{Append, EventLog, Headers, Record, partitioner::partition_of};
use almanac_processor::{RoleError, traced};
use almanac_schemas::{
    Codec, CodecError,
    ingest::{
        FETCH_REQUESTED, FORECAST_REQUESTED, FetchRequestedRecord, ForecastRequestedRecord,
        REPLAY_REQUESTED, ReplayRequestedRecord,
    },
};
use bytes::Bytes;
use jiff::Timestamp;

/// Asks for a fetch now: the request is durable when this returns.
pub async fn request_fetch(
    log: &dyn EventLog,
    topics: &Topics,
    codec: &Codec,
    provider: &str,
    requested_by: &str,
) -> Result<(), RoleError> {
    let record = FetchRequestedRecord {
        provider: provider.to_owned(),
        requested_at: Timestamp::now().as_millisecond(),
        requested_by: requested_by.to_owned(),
    };
    append(log, topics, provider, codec.encode(FETCH_REQUESTED, &record)).await
}

/// Asks for a forecast: the provider's owner answers on `forecasts.events`.
pub async fn request_forecast(
    log: &dyn EventLog,
    topics: &Topics,
    codec: &Codec,
    provider: &str,
    place: Place,
    requested_by: &str,
) -> Result<(), RoleError> {
    let record = ForecastRequestedRecord {
        provider: provider.to_owned(),
        lat: place.lat().to_string(),
        lon: place.lon().to_string(),
        requested_at: Timestamp::now().as_millisecond(),
        requested_by: requested_by.to_owned(),
    };
    append(log, topics, provider, codec.encode(FORECAST_REQUESTED, &record)).await
}

/// Asks for stored bodies to be read again: those fetched since then, or the newest only.
pub async fn request_replay(
    log: &dyn EventLog,
    topics: &Topics,
    codec: &Codec,
    provider: &str,
    since: Option<Timestamp>,
    requested_by: &str,
) -> Result<(), RoleError> {
    let record = ReplayRequestedRecord {
        provider: provider.to_owned(),
        requested_at: Timestamp::now().as_millisecond(),
        requested_by: requested_by.to_owned(),
        since: since.map(Timestamp::as_millisecond),
    };
    append(log, topics, provider, codec.encode(REPLAY_REQUESTED, &record)).await
}

async fn append(
    log: &dyn EventLog,
    topics: &Topics,
    provider: &str,
    value: Result<Bytes, CodecError>,
) -> Result<(), RoleError> {
    let key = Bytes::copy_from_slice(provider.as_bytes());
    let partition = partition_of(&key, topics.partitions);
    let record = Record {
        key,
        value: Some(value.map_err(RoleError::other)?),
        headers: Headers::default(),
        timestamp_ms: Timestamp::now().as_millisecond(),
    };
    let append = Append { topic: topics.requests.clone(), partition, record };
    traced::append(log, append, almanac_traces::current()).await?;
    Ok(())
}
