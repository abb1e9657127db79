//! What the owner of a partition has at hand.

use crate::Foreign;
use almanac_event_log::{
    Append, EventLog, InputPosition, Isolation, LogReader, LogResult, Offset, Ownership, ReadLimit,
    StoredRecord, Transactor,
};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

const FOLD_LIMIT: ReadLimit = ReadLimit { records: 5_000, bytes: 4 << 20 };
const FOLD_WAIT: Duration = Duration::from_secs(1);

/// One assigned partition, from its assignment until its revocation.
#[derive(Clone)]
pub struct Owned {
    pub log: Arc<dyn EventLog>,
    pub ownership: Ownership,
    /// Set when the partition is revoked or the process ends: finish the batch and return.
    pub cancelled: CancellationToken,
    pub(crate) transactional_id: String,
    pub(crate) foreign: Foreign,
}

/// The right to write: a transactor and the input position that every transaction carries.
pub struct Input {
    transactor: Box<dyn Transactor>,
    group: Arc<str>,
    topic: Arc<str>,
    partition: u32,
    start: Offset,
    committed: Option<Offset>,
    next_offset: Offset,
}

impl Owned {
    pub fn partition(&self) -> u32 {
        self.ownership.partition
    }

    pub fn group(&self) -> &str {
        &self.ownership.group
    }

    /// Notes that a record is passed over because its key is none that Almanac writes.
    pub fn pass_over(&self, stored: &StoredRecord) {
        self.foreign.pass_over(&self.ownership.group, stored);
    }

    /// First step of a take-over: ends whatever an earlier owner left open and fences it. Only
    /// what is read after this is complete.
    pub async fn take_over(&self) -> LogResult<Input> {
        let transactor = self.log.transactor(&self.transactional_id, &self.ownership).await?;
        let (topic, partition) = (self.ownership.topic.clone(), self.partition());
        let start = self.log.start(&topic, partition).await?;
        let committed = self.log.committed(&self.ownership).await?;
        if let Some(committed) = committed
            && committed < start
        {
            // No owner ran for as long as the topic keeps records. They never come back.
            tracing::error!(
                %topic, partition, committed, start,
                "no owner ran within retention: records were removed unhandled; resuming at the log start"
            );
        }
        let next_offset = committed.map_or(start, |committed| committed.max(start));
        let group = self.ownership.group.clone();
        Ok(Input { transactor, group, topic, partition, start, committed, next_offset })
    }

    /// Second step: every committed record of `topic` in this partition, from `from` to the end
    /// as it is now. The end is the high watermark: a read_committed client would name the last
    /// stable offset, and records of a transaction that was committed a moment ago could lie
    /// beyond it.
    pub async fn fold(&self, topic: &str, from: Offset) -> LogResult<Fold> {
        let end = self.log.end(topic, self.partition(), Isolation::Uncommitted).await?;
        let reader = self.log.read_to(topic, self.partition(), from, end).await?;
        Ok(Fold { reader, end })
    }
}

/// The records of a take-over.
pub struct Fold {
    reader: Box<dyn LogReader>,
    end: Offset,
}

impl Fold {
    /// The next batch; `None` once everything was handed out.
    pub async fn next(&mut self) -> LogResult<Option<Vec<StoredRecord>>> {
        loop {
            let batch = self.reader.next(FOLD_LIMIT, FOLD_WAIT).await?;
            if !batch.records.is_empty() {
                return Ok(Some(batch.records));
            }
            if !batch.at_end.is_empty() {
                return Ok(None);
            }
        }
    }

    /// The position that the fold leads up to.
    pub fn end(&self) -> Offset {
        self.end
    }
}

impl Input {
    /// Holds the group's committed offset against the position that outputs and local state were
    /// written with. Whoever may use the group can commit any offset: the smaller of the two counts, so
    /// that no input is passed over. Returns the offset below which input may have been handled before;
    /// the caller must handle none of it twice.
    pub fn hold_against(&mut self, written: Option<Offset>) -> Offset {
        let committed = self.committed;
        let Some(written) = written else { return self.next_offset };
        if committed == Some(written) {
            return self.next_offset;
        }
        let smaller = committed.unwrap_or(self.start).min(written).max(self.start);
        tracing::error!(
            group = %self.group, topic = %self.topic, partition = self.partition, committed, written,
            going_on_from = smaller,
            "the group's committed offset is not the one that outputs were written with: another client \
             commits in this group, or offsets were reset; going on from the smaller, and what was \
             handled already is not handled again"
        );
        self.next_offset = smaller;
        written.max(committed.unwrap_or_default())
    }

    /// A reader of the input partition from the position to go on from.
    pub async fn reader(&self, log: &dyn EventLog) -> LogResult<Box<dyn LogReader>> {
        log.read(&self.topic, &[(self.partition, self.next_offset)]).await
    }

    pub fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// One transaction: the outputs, and the input handled up to (not including) `next_offset`.
    pub async fn commit(
        &mut self,
        appends: Vec<Append>,
        next_offset: Offset,
    ) -> LogResult<Vec<Option<Offset>>> {
        let (topic, partition) = (self.topic.clone(), self.partition);
        let position = InputPosition { topic, partition, next_offset };
        let offsets = self.transactor.commit(appends, position).await?;
        self.next_offset = next_offset;
        Ok(offsets)
    }

    /// A transaction for work that no input caused: it commits the unchanged position, which is
    /// what fences it.
    pub async fn commit_in_place(
        &mut self,
        appends: Vec<Append>,
    ) -> LogResult<Vec<Option<Offset>>> {
        self.commit(appends, self.next_offset).await
    }
}
