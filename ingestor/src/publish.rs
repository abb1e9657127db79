//! From a comparison to transactions: bounded, in order, each with the state that goes with its
//! events, so that a crash between two leaves nothing to be written twice.

use crate::{
    commit::{CommitRequest, Committer, Handled},
    compare::{Comparison, PLAN_EVENTS},
    entry::{self, Entry},
    fetch::Body,
    outbox::Step,
    role::Topics,
};
use almanac_event_log::{Append, Headers, HeadersBuilder, Record, partitioner::partition_of};
use almanac_processor::{Envelope, RoleError};
use almanac_schemas::{
    Codec,
    ingest::{PAYLOAD_CHUNK, PROVIDER_STATE, PayloadChunkRecord, ProviderStateRecord},
    plans::{FEED_OBSERVED, FeedObservedRecord},
};
use almanac_traces::Parent;
use bytes::Bytes;
use jiff::Timestamp;
use std::{
    fs::File,
    io::{Read, Seek},
    path::{Path, PathBuf},
    sync::Arc,
};
use uuid::Uuid;

/// Below the log's limit for a record, with room for the other fields.
const CHUNK_BYTES: usize = 512 << 10;
const CHUNKS_PER_TRANSACTION: usize = 4;

/// Writes what one fetch of one provider leads to.
pub(crate) struct Publisher {
    pub(crate) topics: Topics,
    pub(crate) codec: Arc<Codec>,
    pub(crate) committer: Committer,
    pub(crate) provider: String,
    pub(crate) source: String,
    /// Id of the fetch: cause and correlation of its events.
    pub(crate) fetch_id: String,
    /// Of what it is done for, where that is traced.
    pub(crate) parent: Option<Parent>,
    pub(crate) observed_at: Timestamp,
    pub(crate) spool_dir: PathBuf,
    pub(crate) max_events: usize,
    pub(crate) max_bytes: usize,
}

impl Publisher {
    /// Writes all steps. `state` follows along, so that every transaction carries the counters
    /// as they are after it.
    pub(crate) async fn steps(
        &self,
        comparison: Comparison,
        state: &mut ProviderStateRecord,
    ) -> Result<(), RoleError> {
        let spool = |error: std::io::Error| RoleError::other(error);
        let mut steps = comparison.outbox.into_steps().map_err(spool)?;
        let time = self.observed_at.to_string();
        let mut batch = CommitRequest::default();
        let mut pending = Vec::new();
        while let Some(step) = steps.next().map_err(spool)? {
            match step {
                Step::Plan { id, sequence, kind, event, state: value, entry } => {
                    let id = Uuid::from_bytes(id);
                    self.put_plan(&mut batch, id, sequence, kind, event, value, &time);
                    count(state, kind, &entry);
                    batch.changes.push((entry::plan_key(&self.provider, id), Some(entry)));
                }
                Step::Quarantine { record } => self.put_quarantined(&mut batch, record.into()),
            }
            if batch.appends.len() / 2 >= self.max_events || batch.bytes >= self.max_bytes {
                self.put_state(&mut batch, state)?;
                pending.push(self.committer.submit(std::mem::take(&mut batch)).await?);
                // One batch is made while the one before is committed.
                if pending.len() > 1 {
                    pending.remove(0).wait().await?;
                }
            }
        }
        if !batch.appends.is_empty() {
            self.put_state(&mut batch, state)?;
            pending.push(self.committer.submit(batch).await?);
        }
        for pending in pending {
            pending.wait().await?;
        }
        Ok(())
    }

    pub(crate) fn put_quarantined(&self, batch: &mut CommitRequest, record: Bytes) {
        batch.append(Append {
            topic: self.topics.quarantine.clone(),
            partition: self.committer.partition,
            record: self.plain_record(record),
        });
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one step")]
    fn put_plan(
        &self,
        batch: &mut CommitRequest,
        id: Uuid,
        sequence: u64,
        kind: u8,
        event: Vec<u8>,
        state: Vec<u8>,
        time: &str,
    ) {
        let mut text = Uuid::encode_buffer();
        let subject: &str = id.hyphenated().encode_lower(&mut text);
        let event_id = format!("{subject}.{sequence}");
        let envelope = Envelope {
            id: &event_id,
            source: &self.source,
            event_type: PLAN_EVENTS[usize::from(kind)],
            subject,
            time,
            sequence: Some(sequence),
            causation: Some(&self.fetch_id),
            correlation: Some(&self.fetch_id),
            consistency_token: None,
            parent: self.parent.as_ref(),
        };
        let key = Bytes::copy_from_slice(subject.as_bytes());
        let partition = partition_of(&key, self.topics.partitions);
        batch.append(Append {
            topic: self.topics.plans.clone(),
            partition,
            record: self.record(key, event.into(), envelope.headers()),
        });
        // State lives in the partition number of its owner, so that a take-over reads one.
        batch.append(Append {
            topic: self.topics.state.clone(),
            partition: self.committer.partition,
            record: self.record(
                Bytes::from([&self.provider, "/", subject].concat()),
                state.into(),
                Headers::default(),
            ),
        });
    }

    pub(crate) fn put_state(
        &self,
        batch: &mut CommitRequest,
        state: &ProviderStateRecord,
    ) -> Result<(), RoleError> {
        let value = self.codec.encode(PROVIDER_STATE, state).map_err(RoleError::other)?;
        batch.changes.push((entry::provider_key(&self.provider), Some(value.to_vec())));
        let key = Bytes::copy_from_slice(self.provider.as_bytes());
        batch.append(Append {
            topic: self.topics.state.clone(),
            partition: self.committer.partition,
            record: self.record(key, value, Headers::default()),
        });
        Ok(())
    }

    /// Marks a request as handled when nothing else is to be committed with that.
    pub(crate) async fn handled(
        &self,
        state: &ProviderStateRecord,
        offset: u64,
    ) -> Result<(), RoleError> {
        let handled = Handled::UpTo(self.provider.clone(), offset);
        let mut batch = CommitRequest { handled, ..CommitRequest::default() };
        self.put_state(&mut batch, state)?;
        self.committer.submit(batch).await?.wait().await
    }

    /// The last of a fetch: what was observed, and what is remembered of it where that changed.
    /// The fetch's request, if there was one, is thereby handled.
    pub(crate) async fn observation(
        &self,
        observed: &FeedObservedRecord,
        state: Option<&ProviderStateRecord>,
        handled: Option<u64>,
    ) -> Result<(), RoleError> {
        let handled = match handled {
            Some(offset) => Handled::UpTo(self.provider.clone(), offset),
            None => Handled::Nothing,
        };
        let mut batch = CommitRequest { handled, ..CommitRequest::default() };
        self.put_observation(&mut batch, observed, &self.fetch_id)?;
        if let Some(state) = state {
            self.put_state(&mut batch, state)?;
        }
        self.committer.submit(batch).await?.wait().await
    }

    pub(crate) fn put_observation(
        &self,
        batch: &mut CommitRequest,
        observed: &FeedObservedRecord,
        event_id: &str,
    ) -> Result<(), RoleError> {
        let value = self.codec.encode(FEED_OBSERVED, observed).map_err(RoleError::other)?;
        let time = self.observed_at.to_string();
        let envelope = Envelope {
            id: event_id,
            source: &self.source,
            event_type: "feed.observed",
            subject: &self.provider,
            time: &time,
            sequence: None,
            causation: None,
            correlation: Some(&self.fetch_id),
            consistency_token: None,
            parent: self.parent.as_ref(),
        };
        let key = Bytes::copy_from_slice(self.provider.as_bytes());
        let partition = partition_of(&key, self.topics.partitions);
        batch.append(Append {
            topic: self.topics.plans.clone(),
            partition,
            record: self.record(key, value, envelope.headers()),
        });
        Ok(())
    }

    /// Keeps a raw body for later: compressed, in chunks.
    pub(crate) async fn payload(&self, payload_id: &str, body: &Body) -> Result<(), RoleError> {
        let io = |error: std::io::Error| RoleError::other(error);
        let charset = body.charset;
        let body = body.file.try_clone().map_err(io)?;
        let spool_dir = self.spool_dir.clone();
        let mut compressed = tokio::task::spawn_blocking(move || compress(body, &spool_dir))
            .await
            .map_err(RoleError::other)?
            .map_err(io)?;
        let length = compressed.seek(std::io::SeekFrom::End(0)).map_err(io)?;
        compressed.rewind().map_err(io)?;
        let chunks = length.div_ceil(CHUNK_BYTES as u64).max(1) as i32;
        let mut batch = CommitRequest::default();
        for chunk in 0..chunks {
            let mut bytes = Vec::with_capacity(CHUNK_BYTES);
            (&mut compressed).take(CHUNK_BYTES as u64).read_to_end(&mut bytes).map_err(io)?;
            let record = PayloadChunkRecord {
                payload_id: payload_id.to_owned(),
                provider: self.provider.to_owned(),
                fetched_at: self.observed_at.as_millisecond(),
                content_encoding: "zstd".to_owned(),
                chunk,
                chunks,
                bytes: &bytes,
                charset: charset.map(str::to_owned),
            };
            let value = self.codec.encode(PAYLOAD_CHUNK, &record).map_err(RoleError::other)?;
            batch.append(Append {
                topic: self.topics.payloads.clone(),
                partition: self.committer.partition,
                record: self.plain_record(value),
            });
            if batch.appends.len() == CHUNKS_PER_TRANSACTION || chunk + 1 == chunks {
                self.committer.submit(std::mem::take(&mut batch)).await?.wait().await?;
            }
        }
        Ok(())
    }

    fn plain_record(&self, value: Bytes) -> Record {
        let mut headers = HeadersBuilder::default();
        headers.push("ce_correlationid", self.fetch_id.as_bytes());
        self.record(Bytes::copy_from_slice(self.provider.as_bytes()), value, headers.build())
    }

    pub(crate) fn record(&self, key: Bytes, value: Bytes, headers: Headers) -> Record {
        Record { key, value: Some(value), headers, timestamp_ms: self.observed_at.as_millisecond() }
    }
}

fn compress(mut body: File, spool_dir: &Path) -> std::io::Result<File> {
    body.rewind()?;
    let mut encoder = zstd::Encoder::new(tempfile::tempfile_in(spool_dir)?, 1)?;
    std::io::copy(&mut body, &mut encoder)?;
    body.rewind()?;
    encoder.finish()
}

/// Follows the counters of a provider through one step.
fn count(state: &mut ProviderStateRecord, kind: u8, entry: &[u8]) {
    if let Some(entry) = Entry::read(entry) {
        state.plans = state.plans.max(entry.ordinal as i64 + 1);
    }
    match kind {
        0 | 3 => state.listed_plans += 1,
        2 => state.listed_plans -= 1,
        _ => {}
    }
}
