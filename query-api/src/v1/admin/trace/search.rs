//! Reading a little of a topic, from a time on, within what one answer may read.

use crate::{state::ApiState, v1::events::Pace};
use almanac_event_log::{Isolation, LogResult, Offset, ReadLimit, StoredRecord};
use almanac_schemas::Token;
use std::time::Duration;
use tokio::time::Instant;

const LIMIT: ReadLimit = ReadLimit { records: 1_000, bytes: 4 << 20 };
const ONE: ReadLimit = ReadLimit { records: 1, bytes: 1 };
/// How long the next records of a topic are waited for that are known to be there.
const WAIT: Duration = Duration::from_secs(2);
/// What one answer keeps of what it read.
const KEPT: usize = 1_000;
const KEPT_BYTES: usize = 16 << 20;

pub(super) struct Search<'a> {
    state: &'a ApiState,
    until: Instant,
    read: usize,
    kept_bytes: usize,
    kept: usize,
    is_complete: bool,
}

impl<'a> Search<'a> {
    pub(super) fn new(state: &'a ApiState) -> Self {
        let until = Instant::now() + state.options.inspect.time;
        let (read, kept, kept_bytes) = (0, 0, 0);
        Self { state, until, read, kept, kept_bytes, is_complete: true }
    }

    /// Whether everything was read that was to be.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    pub(super) fn read(&self) -> usize {
        self.read
    }

    /// Of every topic of the installation.
    pub(super) fn partitions(&self) -> u32 {
        self.state.progress.partitions()
    }

    pub(super) fn is_ours(&self, token: &Token) -> bool {
        self.state.progress.is_ours(token)
    }

    fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.state.options.prefix)
    }

    /// Whether there is time for more; it is not complete without.
    pub(super) fn has_time(&mut self) -> bool {
        let has_time = Instant::now() < self.until;
        self.is_complete &= has_time;
        has_time
    }

    fn has_room(&self) -> bool {
        let most = self.state.options.inspect.trace_records;
        self.read < most
            && self.kept < KEPT
            && self.kept_bytes < KEPT_BYTES
            && Instant::now() < self.until
    }

    /// The record at an offset, if it is kept.
    pub(super) async fn at(
        &mut self,
        topic: &str,
        partition: u32,
        offset: Offset,
    ) -> LogResult<Option<StoredRecord>> {
        let topic = self.topic(topic);
        let start = self.state.log.start(&topic, partition).await?;
        let end = self.state.log.end(&topic, partition, Isolation::Committed).await?;
        if !(start..end).contains(&offset) {
            return Ok(None);
        }
        let mut reader = self.state.log.read_to(&topic, partition, offset, offset + 1).await?;
        let batch = reader.next(ONE, WAIT).await?;
        self.read += batch.records.len();
        Ok(batch.records.into_iter().find(|stored| stored.offset == offset))
    }

    /// Records of these partitions that are wanted, from a time on, to another or to the end as it is now.
    pub(super) async fn scan(
        &mut self,
        topic: &str,
        partitions: &[u32],
        from_ms: i64,
        until_ms: Option<i64>,
        is_wanted: impl Fn(&StoredRecord) -> bool,
    ) -> LogResult<Vec<StoredRecord>> {
        let log = &self.state.log;
        let topic = self.topic(topic);
        let starts = log.offsets_at(&topic, from_ms).await?;
        let (mut from, mut ends) = (Vec::new(), Vec::new());
        for partition in partitions {
            let Some(start) = starts.get(*partition as usize) else { continue };
            let end = log.end(&topic, *partition, Isolation::Committed).await?;
            if *start < end {
                from.push((*partition, *start));
                ends.push(end);
            }
        }
        let mut found = Vec::new();
        if from.is_empty() {
            return Ok(found);
        }
        let mut reader = log.browse(&topic, &from).await?;
        let mut ended = vec![false; from.len()];
        let mut pace = Pace::default();
        while ended.contains(&false) {
            if !self.has_room() {
                self.is_complete = false;
                break;
            }
            let batch = reader.next(LIMIT, WAIT).await?;
            if batch.records.is_empty() && batch.at_end.is_empty() {
                self.is_complete = false;
                break;
            }
            for place in batch.at_end {
                ended[place] = true;
            }
            for stored in batch.records {
                let Some(place) = from.iter().position(|(one, _)| *one == stored.partition) else {
                    continue;
                };
                let is_late = until_ms.is_some_and(|until| stored.record.timestamp_ms > until);
                ended[place] |= is_late || stored.offset + 1 >= ends[place];
                if is_late || stored.offset >= ends[place] {
                    continue;
                }
                self.read += 1;
                pace.after(stored.record.size()).await;
                if is_wanted(&stored) {
                    self.kept += 1;
                    self.kept_bytes += stored.record.size();
                    found.push(stored);
                }
            }
        }
        Ok(found)
    }
}

/// Whether the value of a record has these bytes somewhere: texts are written as they are.
pub(super) fn holds(stored: &StoredRecord, wanted: &[u8]) -> bool {
    let value = stored.record.value.as_deref().unwrap_or_default();
    !wanted.is_empty() && value.windows(wanted.len()).any(|some| some == wanted)
}
