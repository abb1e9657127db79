//! Forecasts that come with requests: kept in pieces beside the commands.

use crate::write::CommandApi;
use almanac_domain::analyses::Input;
use almanac_edge::Problem;
use almanac_event_log::{
    Append, EventLog, Headers, Isolation, LogResult, Record, partitioner::partition_of,
};
use almanac_schemas::{
    Codec,
    analyses::{INPUT_CHUNK, INPUTS, InputChunkRecord},
    json::weather::InlineForecast,
};
use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;
use uuid::Uuid;

/// Well below what a record may hold.
const PIECE: usize = 400 << 10;
/// Fast, and a fifth of the size.
const LEVEL: i32 = 3;

/// The text of the forecast within a body that was checked, compressed.
pub(super) struct Packed {
    bytes: u64,
    compressed: Vec<u8>,
}

pub(super) fn pack(body: &[u8]) -> Result<Packed, Problem> {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        forecast: &'a RawValue,
    }
    let body: Body<'_> = serde_json::from_slice(body).map_err(|e| Problem::internal(&e))?;
    let text = body.forecast.get();
    let compressed =
        zstd::bulk::compress(text.as_bytes(), LEVEL).map_err(|e| Problem::internal(&e))?;
    Ok(Packed { bytes: text.len() as u64, compressed })
}

/// Writes the pieces. On return they are in the log, before the command that names them.
pub(super) async fn write(
    api: &CommandApi,
    id: Uuid,
    owner: &str,
    forecast: &InlineForecast,
    packed: &Packed,
) -> Result<Input, Problem> {
    let topic = api.topics.named(INPUTS);
    let written = pieces(&*api.log, &api.codec, topic, api.topics.partitions, id, owner, packed);
    let (topic_id, partition, first_offset, last_offset) = match written.await {
        Ok(written) => written,
        Err(Failed::Log(error)) => return Err(Problem::unavailable("the event log", &error)),
        Err(Failed::Codec(error)) => return Err(Problem::internal(&error)),
    };
    Ok(Input {
        topic_id,
        partition,
        first_offset,
        last_offset,
        chunks: packed.compressed.chunks(PIECE).count() as u32,
        bytes: packed.bytes,
        source: forecast.series.source.clone(),
        issued_at: forecast.issued_at,
    })
}

enum Failed {
    Log(almanac_event_log::LogError),
    Codec(almanac_schemas::CodecError),
}

impl From<almanac_event_log::LogError> for Failed {
    fn from(error: almanac_event_log::LogError) -> Self {
        Self::Log(error)
    }
}

/// Id of the topic, partition, and the offsets of the first and the last piece.
async fn pieces(
    log: &dyn EventLog,
    codec: &Codec,
    topic: Arc<str>,
    partitions: u32,
    id: Uuid,
    owner: &str,
    packed: &Packed,
) -> Result<(String, u32, u64, u64), Failed> {
    let topic_id = log.topic(&topic).await?.id.to_string();
    let id = id.to_string();
    let partition = partition_of(id.as_bytes(), partitions);
    let chunks = packed.compressed.chunks(PIECE);
    let count = chunks.len() as i32;
    let mut appends = Vec::new();
    for (chunk, bytes) in (0..).zip(chunks) {
        let (analysis_id, owner) = (id.clone(), owner.to_owned());
        let record = InputChunkRecord { analysis_id, owner, chunk, chunks: count, bytes };
        let value = codec.encode(INPUT_CHUNK, &record).map_err(Failed::Codec)?;
        let record = Record {
            key: Bytes::copy_from_slice(id.as_bytes()),
            value: Some(value),
            headers: Headers::default(),
            timestamp_ms: Timestamp::now().as_millisecond(),
        };
        appends.push(Append { topic: topic.clone(), partition, record });
    }
    let end =
        async || -> LogResult<u64> { log.end(&topic, partition, Isolation::Uncommitted).await };
    let before = end().await?;
    let offsets = log.append(appends).await?;
    let first = offsets.first().copied().flatten().unwrap_or(before);
    // An acknowledgement may lack its offset. Between, there may be pieces of others.
    let last = match offsets.last().copied().flatten() {
        Some(last) => last,
        None => end().await?.saturating_sub(1),
    };
    Ok((topic_id, partition, first, last))
}
