//! Analyses as rows of tables and items of lists.

use crate::analyses::{
    AnalysisCompletedRecord, AnalysisEventRecord, AnalysisFailedRecord, AnalysisHead,
    AnalysisProgressedRecord, AnalysisRequestedRecord, InputChunkRecord,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json, value::RawValue};

/// A row with the newest event of an analysis, or with any of its history.
#[derive(Serialize)]
struct Row<'a, E> {
    state: &'a str,
    record: &'a str,
    event: &'a E,
}

/// An event as a row, from which [`read_event`] makes it again.
pub fn render_event(record: &AnalysisEventRecord) -> Option<String> {
    fn row<E: Serialize>(record: &AnalysisEventRecord, event: &E) -> Option<String> {
        let known = record.knowledge()?;
        let row = Row { state: known.state.as_str(), record: record.record(), event };
        serde_json::to_string(&row).ok()
    }
    match record {
        AnalysisEventRecord::Requested(event) => row(record, event),
        AnalysisEventRecord::Progressed(event) => row(record, event),
        AnalysisEventRecord::Completed(event) => row(record, event),
        AnalysisEventRecord::Failed(event) => row(record, event),
        AnalysisEventRecord::Cancelled(event) => row(record, event),
    }
}

/// Reads what [`render_event`] wrote.
pub fn read_event(row: &str) -> Option<AnalysisEventRecord> {
    use crate::analyses::{CANCELLED, COMPLETED, FAILED, PROGRESSED, REQUESTED};
    #[derive(Deserialize)]
    struct Read<'a> {
        record: String,
        #[serde(borrow)]
        event: &'a RawValue,
    }
    fn event<E: DeserializeOwned>(raw: &RawValue) -> Option<E> {
        serde_json::from_str(raw.get()).ok()
    }
    let Read { record, event: raw } = serde_json::from_str(row).ok()?;
    Some(match record.as_str() {
        REQUESTED => AnalysisEventRecord::Requested(event::<Box<AnalysisRequestedRecord>>(raw)?),
        PROGRESSED => AnalysisEventRecord::Progressed(event::<AnalysisProgressedRecord>(raw)?),
        COMPLETED => AnalysisEventRecord::Completed(event::<Box<AnalysisCompletedRecord>>(raw)?),
        FAILED => AnalysisEventRecord::Failed(event::<AnalysisFailedRecord>(raw)?),
        CANCELLED => AnalysisEventRecord::Cancelled(event::<AnalysisHead>(raw)?),
        _ => return None,
    })
}

/// An analysis in a list, after its newest event.
pub fn render_listed(record: &AnalysisEventRecord) -> Option<String> {
    let known = record.knowledge()?;
    let head = record.head();
    let completed = match record {
        AnalysisEventRecord::Completed(completed) => Some(completed),
        _ => None,
    };
    let error = match record {
        AnalysisEventRecord::Failed(failed) => {
            Some(json!({"code": failed.code, "detail": failed.detail}))
        }
        _ => None,
    };
    let item = json!({
        "request_id": head.id,
        "state": known.state.as_str(),
        "progress": progress(record),
        "schedule_id": head.schedule_id,
        "schedule_version": completed.and_then(|completed| completed.schedule_version),
        "origin": head.origin,
        "requested_at": known.requested_at,
        "updated_at": known.updated_at,
        "earliest_completion": completed.and_then(|one| one.earliest_completion.clone()),
        "is_stale": completed.map(|completed| completed.is_stale),
        "error": error,
        "previous": completed.and_then(|completed| completed.previous.clone()),
        "changes": completed.map(|completed| &completed.changes),
    });
    Some(item.to_string())
}

/// How much of the whole is done.
pub fn progress(record: &AnalysisEventRecord) -> f64 {
    match record {
        AnalysisEventRecord::Requested(_) => 0.0,
        AnalysisEventRecord::Progressed(progressed) => progressed.progress,
        _ => 1.0,
    }
}

/// A piece of a forecast that came with a request, as a row: tables have text only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputPiece {
    pub chunk: i32,
    pub chunks: i32,
    pub bytes: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct PieceRow {
    chunk: i32,
    chunks: i32,
    /// Base64 (RFC 4648, section 4).
    bytes: String,
}

impl InputPiece {
    pub fn of(record: &InputChunkRecord<'_>) -> Self {
        Self { chunk: record.chunk, chunks: record.chunks, bytes: record.bytes.to_vec() }
    }

    pub fn render(&self) -> String {
        let (chunk, chunks) = (self.chunk, self.chunks);
        let row = PieceRow { chunk, chunks, bytes: STANDARD.encode(&self.bytes) };
        serde_json::to_string(&row).unwrap_or_default()
    }

    /// Reads what [`Self::render`] wrote.
    pub fn read(row: &str) -> Option<Self> {
        let PieceRow { chunk, chunks, bytes } = serde_json::from_str(row).ok()?;
        Some(Self { chunk, chunks, bytes: STANDARD.decode(bytes).ok()? })
    }
}

/// What an answer tells of an analysis whatever its state.
pub fn render_head(record: &AnalysisEventRecord) -> Option<Map<String, Value>> {
    let known = record.knowledge()?;
    let head = record.head();
    let pairs = [
        ("request_id", json!(head.id)),
        ("version", json!(known.version)),
        ("state", json!(known.state.as_str())),
        ("progress", json!(progress(record))),
        ("schedule_id", json!(head.schedule_id)),
        ("origin", json!(head.origin)),
        ("requested_at", json!(known.requested_at)),
        ("updated_at", json!(known.updated_at)),
    ];
    Some(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}
