//! Readers: a thread per reader polls its consumer and hands batches over a short channel.

use super::{
    KafkaOptions, bounds, query_error,
    told::{self, Told},
};
use crate::{
    Headers, HeadersBuilder, LogError, LogReader, LogResult, Offset, ReadBatch, ReadLimit, Record,
    StoredRecord,
};
use async_trait::async_trait;
use bytes::Bytes;
use rdkafka::{
    Message, Offset as KafkaOffset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::{BorrowedMessage, Headers as _},
};
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::mpsc;

/// What one hand-over holds at most; two of them wait.
const HAND_OVER: ReadLimit = ReadLimit { records: 5_000, bytes: 4 << 20 };
const SMALL_HAND_OVER: ReadLimit = ReadLimit { records: 500, bytes: 256 << 10 };
/// How long a reader that was dropped may go unnoticed.
const POLL: Duration = Duration::from_millis(100);

/// How much is kept ready of what comes next.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ahead {
    Much,
    Little,
}

pub(super) fn open(
    options: &KafkaOptions,
    topic: &str,
    from: &[(u32, Offset)],
    ahead: Ahead,
) -> LogResult<Box<dyn LogReader>> {
    let error = |error: KafkaError| query_error(topic, None, &error);
    let (config, hand_over) = match ahead {
        Ahead::Much => (options.reader("read_committed"), HAND_OVER),
        Ahead::Little => (options.browser(), SMALL_HAND_OVER),
    };
    let consumer: BaseConsumer<Told> = config.create_with_context(Told).map_err(error)?;
    let mut assignment = TopicPartitionList::new();
    for (partition, offset) in from {
        let offset = KafkaOffset::Offset(i64::try_from(*offset).unwrap_or(i64::MAX));
        assignment.add_partition_offset(topic, *partition as i32, offset).map_err(error)?;
    }
    consumer.assign(&assignment).map_err(error)?;

    let (sender, batches) = mpsc::channel(2);
    let stop = Arc::new(AtomicBool::new(false));
    let poller = Poller {
        consumer,
        topic: topic.into(),
        from: from.to_vec(),
        hand_over,
        call_timeout: options.call_timeout,
        stop: stop.clone(),
    };
    std::thread::Builder::new()
        .name("kafka-reader".to_owned())
        .spawn(move || poller.run(&sender))
        .map_err(|error| LogError::Refused {
            what: "a thread for a kafka reader".to_owned(),
            detail: error.to_string(),
        })?;
    Ok(Box::new(KafkaReader {
        batches,
        left: VecDeque::new(),
        at_end: Vec::new(),
        ends: vec![None; from.len()],
        positions: vec![None; from.len()],
        failed: None,
        stop,
    }))
}

/// What is handed over: a batch, and the positions at the ends that it tells of.
#[derive(Default)]
struct HandOver {
    batch: ReadBatch,
    ends: Vec<(usize, Offset)>,
}

struct KafkaReader {
    batches: mpsc::Receiver<LogResult<HandOver>>,
    /// Records of the last hand-over that did not fit the caller's limit.
    left: VecDeque<StoredRecord>,
    at_end: Vec<usize>,
    /// Positions at the ends, as they arrived and as they were told.
    ends: Vec<Option<Offset>>,
    positions: Vec<Option<Offset>>,
    failed: Option<LogError>,
    stop: Arc<AtomicBool>,
}

impl KafkaReader {
    fn take(&mut self, HandOver { batch, ends }: HandOver) {
        self.left.extend(batch.records);
        for (place, position) in ends {
            self.ends[place] = Some(position);
        }
        for place in batch.at_end {
            if !self.at_end.contains(&place) {
                self.at_end.push(place);
            }
        }
    }
}

impl Drop for KafkaReader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[async_trait]
impl LogReader for KafkaReader {
    async fn next(&mut self, limit: ReadLimit, wait: Duration) -> LogResult<ReadBatch> {
        if self.left.is_empty() && self.at_end.is_empty() {
            match tokio::time::timeout(wait, self.batches.recv()).await {
                Err(_) => return Ok(ReadBatch::default()),
                Ok(None) => return Err(LogError::Closed),
                Ok(Some(batch)) => self.take(batch?),
            }
        }
        // All that waits: what arrived while the caller was busy came in small pieces. An error
        // is told once what came before it has been handed out.
        while self.left.len() < limit.records && self.failed.is_none() {
            match self.batches.try_recv() {
                Ok(Ok(batch)) => self.take(batch),
                Ok(Err(error)) => self.failed = Some(error),
                Err(_) => break,
            }
        }
        if self.left.is_empty()
            && self.at_end.is_empty()
            && let Some(error) = self.failed.take()
        {
            return Err(error);
        }
        let mut batch = ReadBatch::default();
        let mut bytes = 0;
        while batch.records.len() < limit.records && bytes < limit.bytes {
            let Some(record) = self.left.pop_front() else { break };
            bytes += record.record.size();
            batch.records.push(record);
        }
        if self.left.is_empty() {
            batch.at_end = std::mem::take(&mut self.at_end);
            self.positions.clone_from(&self.ends);
        }
        Ok(batch)
    }

    fn position(&self, place: usize) -> Option<Offset> {
        self.positions.get(place).copied().flatten()
    }
}

struct Poller {
    consumer: BaseConsumer<Told>,
    topic: Arc<str>,
    from: Vec<(u32, Offset)>,
    hand_over: ReadLimit,
    call_timeout: Duration,
    stop: Arc<AtomicBool>,
}

impl Poller {
    fn run(self, sender: &mpsc::Sender<LogResult<HandOver>>) {
        while !self.stop.load(Ordering::Relaxed) {
            let batch = match self.gather() {
                Ok(HandOver { batch, .. })
                    if batch.records.is_empty() && batch.at_end.is_empty() =>
                {
                    continue;
                }
                other => other,
            };
            let failed = batch.is_err();
            if sender.blocking_send(batch).is_err() || failed {
                return;
            }
        }
    }

    fn gather(&self) -> LogResult<HandOver> {
        let (mut batch, mut ends) = (ReadBatch::default(), Vec::new());
        let mut bytes = 0;
        let mut wait = POLL;
        while batch.records.len() < self.hand_over.records && bytes < self.hand_over.bytes {
            let Some(polled) = self.consumer.poll(wait) else { break };
            wait = Duration::ZERO;
            match polled {
                Ok(message) => {
                    let record = self.to_stored(&message)?;
                    bytes += record.record.size();
                    batch.records.push(record);
                }
                Err(KafkaError::PartitionEOF(partition)) => {
                    let place = self.from.iter().position(|(known, _)| *known as i32 == partition);
                    if let Some(place) = place {
                        ends.extend(self.position_of(partition).map(|position| (place, position)));
                        if !batch.at_end.contains(&place) {
                            batch.at_end.push(place);
                        }
                    }
                }
                Err(error) => self.judge(&error)?,
            }
        }
        Ok(HandOver { batch, ends })
    }

    /// Behind what was polled, marks of transactions included.
    fn position_of(&self, partition: i32) -> Option<Offset> {
        let all = self.consumer.position().ok()?;
        let element = all.find_partition(&self.topic, partition)?;
        Offset::try_from(element.offset().to_raw()?).ok()
    }

    /// librdkafka goes on by itself after most errors; the others end the reader.
    fn judge(&self, error: &KafkaError) -> LogResult<()> {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset) => {
                Err(self.out_of_range(error))
            }
            Some(
                RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::Fatal
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::Authentication,
            ) => Err(query_error(&self.topic, None, error)),
            _ => {
                told::going_on(&self.topic, error);
                Ok(())
            }
        }
    }

    /// Says which position lies outside the log; the error itself does not.
    fn out_of_range(&self, error: &KafkaError) -> LogError {
        for (partition, from) in &self.from {
            let offset = self.position_of(*partition as i32).unwrap_or(*from);
            let found = bounds(&self.consumer, &self.topic, *partition, self.call_timeout);
            let Ok((start, end)) = found else { continue };
            if offset < start || offset > end {
                let (topic, partition) = (self.topic.to_string(), *partition);
                return LogError::OffsetOutOfRange { topic, partition, offset, start, end };
            }
        }
        query_error(&self.topic, None, error)
    }

    fn to_stored(&self, message: &BorrowedMessage<'_>) -> LogResult<StoredRecord> {
        let partition = message.partition() as u32;
        let offset = message.offset().max(0) as Offset;
        Ok(StoredRecord {
            topic: self.topic.clone(),
            partition,
            offset,
            record: Record {
                key: Bytes::copy_from_slice(message.key().unwrap_or_default()),
                value: message.payload().map(Bytes::copy_from_slice),
                headers: to_headers(message),
                timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
            },
        })
    }
}

fn to_headers(message: &BorrowedMessage<'_>) -> Headers {
    let Some(found) = message.headers() else { return Headers::default() };
    let mut headers = HeadersBuilder::with_capacity(found.count() * 40);
    for header in found.iter() {
        headers.push(header.key, header.value.unwrap_or_default());
    }
    headers.build()
}

/// A reader of nothing.
pub(super) struct Finished;

#[async_trait]
impl LogReader for Finished {
    async fn next(&mut self, _: ReadLimit, _: Duration) -> LogResult<ReadBatch> {
        Ok(ReadBatch { records: Vec::new(), at_end: vec![0] })
    }

    fn position(&self, _: usize) -> Option<Offset> {
        None
    }
}

/// Ends at an offset that was stable before the inner reader was opened: whatever end the inner
/// reader reports lies at or beyond it.
pub(super) struct Bounded {
    inner: Box<dyn LogReader>,
    to: Offset,
    done: bool,
}

impl Bounded {
    pub(super) fn new(inner: Box<dyn LogReader>, to: Offset) -> Self {
        Self { inner, to, done: false }
    }
}

#[async_trait]
impl LogReader for Bounded {
    async fn next(&mut self, limit: ReadLimit, wait: Duration) -> LogResult<ReadBatch> {
        if self.done {
            return Ok(ReadBatch { records: Vec::new(), at_end: vec![0] });
        }
        let mut batch = self.inner.next(limit, wait).await?;
        if let Some(last) = batch.records.last()
            && last.offset + 1 >= self.to
        {
            self.done = true;
        }
        batch.records.retain(|record| record.offset < self.to);
        if !batch.at_end.is_empty() {
            self.done = true;
        }
        if self.done {
            batch.at_end = if batch.records.is_empty() { vec![0] } else { Vec::new() };
        }
        Ok(batch)
    }

    fn position(&self, place: usize) -> Option<Offset> {
        self.inner.position(place)
    }
}
