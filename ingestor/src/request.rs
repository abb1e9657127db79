//! What operators ask of a provider's owner: durable requests on `ingest.requests`.

use crate::role::Topics;
use almanac_event_log::{Append, EventLog, Headers, Record, partitioner::partition_of};
use almanac_processor::RoleError;
use almanac_schemas::{
    Codec, CodecError,
    ingest::{FETCH_REQUESTED, FetchRequestedRecord, REPLAY_REQUESTED, ReplayRequestedRecord},
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
        value: Some(value.map_err(|error| RoleError::other(&error))?),
        headers: Headers::default(),
        timestamp_ms: Timestamp::now().as_millisecond(),
    };
    log.append(vec![Append { topic: topics.requests.clone(), partition, record }]).await?;
    Ok(())
}
