//! Records of a partition in pages, each a line of JSON.

use super::{Line, Moved, Moving, Place};
use almanac_edge::Problem;
use almanac_errors::chain;
use almanac_event_log::{LogReader, LogResult, Offset, ReadLimit, StoredRecord};
use almanac_schemas::{RegistryError, files::SchemaFile, schema_id};
use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use std::{collections::HashMap, io, sync::Arc, time::Duration};

/// A page ends behind so many bytes of records.
const PAGE_BYTES: usize = 8 << 20;
const LIMIT: ReadLimit = ReadLimit { records: 1_000, bytes: 1 << 20 };
const WAIT: Duration = Duration::from_secs(5);
/// Of the schema's id, before a body.
const PREFIX: usize = 5;

/// What of a partition is wanted.
pub(super) struct Wanted {
    pub(super) topic: String,
    pub(super) partition: u32,
    pub(super) from: Offset,
    pub(super) until: Offset,
}

struct Page {
    moving: Arc<Moving>,
    reader: Box<dyn LogReader>,
    after: Option<Offset>,
    left: usize,
    is_over: bool,
    schemas: HashMap<u32, Option<&'static SchemaFile>>,
}

/// A body whose last line says where the next page begins; without it, the page broke off.
pub(super) async fn page(moving: Arc<Moving>, wanted: Wanted) -> Result<Body, Problem> {
    let Wanted { topic, partition, from, until } = wanted;
    let reader = moving.log.read_to(&topic, partition, from, until.max(from)).await;
    let page = Page {
        reader: reader.map_err(|error| Problem::unavailable("the event log", &error))?,
        moving,
        after: from.checked_sub(1),
        left: PAGE_BYTES,
        is_over: false,
        schemas: HashMap::new(),
    };
    let chunks = stream::try_unfold(page, |mut page| async move {
        if page.is_over {
            return Ok(None);
        }
        let chunk = page.chunk().await.inspect_err(|error| {
            tracing::warn!(error = %chain(&error), "an export broke off; the client asks again");
        })?;
        Ok::<_, io::Error>(Some((chunk, page)))
    });
    Ok(Body::from_stream(chunks))
}

impl Page {
    async fn chunk(&mut self) -> io::Result<Bytes> {
        let batch = self.reader.next(LIMIT, WAIT).await.map_err(io::Error::other)?;
        let mut text = Vec::new();
        for stored in &batch.records {
            let line = self.line(stored).await.map_err(io::Error::other)?;
            push(&mut text, &line)?;
            self.after = Some(stored.offset);
            self.left = self.left.saturating_sub(stored.record.size());
        }
        let is_end = !batch.at_end.is_empty();
        if is_end || self.left == 0 {
            self.is_over = true;
            push(&mut text, &Line::Next(Place { after: self.after, is_end }))?;
        }
        Ok(text.into())
    }

    async fn line(&mut self, stored: &StoredRecord) -> Result<Line, RegistryError> {
        let (offset, record) = (stored.offset, &stored.record);
        let Some(value) = &record.value else {
            return Ok(Line::Record(Moved::of(offset, record, None)));
        };
        let skipped = |why: String| Ok(Line::Skipped { offset, why });
        let Some(id) = schema_id(value) else {
            return skipped("its value names no schema".to_owned());
        };
        match self.schema(id).await? {
            Some(file) => {
                Ok(Line::Record(Moved::of(offset, record, Some((file, &value[PREFIX..])))))
            }
            None => skipped(format!("its schema {id} is of no version of Almanac up to this one")),
        }
    }

    async fn schema(&mut self, id: u32) -> Result<Option<&'static SchemaFile>, RegistryError> {
        if let Some(known) = self.schemas.get(&id) {
            return Ok(*known);
        }
        let found = match self.moving.registry.fetch(id).await {
            Ok(schema) => SchemaFile::of_text(&schema.text),
            Err(RegistryError::UnknownId { .. }) => None,
            Err(error) => return Err(error),
        };
        self.schemas.insert(id, found);
        Ok(found)
    }
}

fn push(text: &mut Vec<u8>, line: &Line) -> io::Result<()> {
    serde_json::to_writer(&mut *text, line)?;
    text.push(b'\n');
    Ok(())
}

/// The first offset that is wanted, and is still kept.
pub(super) async fn from(
    moving: &Moving,
    topic: &str,
    partition: u32,
    after: Option<Offset>,
) -> LogResult<Offset> {
    let start = moving.log.start(topic, partition).await?;
    Ok(after.map_or(start, |after| start.max(after.saturating_add(1))))
}
