//! The thread of a reader: polls its consumer, knows how far that came, and does not take silence for
//! the end.

use super::{
    KafkaOptions,
    asker::{self, Asker, bounds},
    login::Login,
    query_error,
    silence::{self, Found, Partition, Verdict},
    told::{self, Told},
};
use crate::{
    Headers, HeadersBuilder, LogError, LogResult, Offset, ReadBatch, ReadLimit, Record, Retry,
    StoredRecord, TopicId,
};
use almanac_errors::chain;
use bytes::Bytes;
use parking_lot::Mutex;
use rdkafka::{
    ClientContext, Message, Offset as KafkaOffset, Statistics, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
    message::{BorrowedMessage, Headers as _},
};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, oneshot};

/// What one hand-over holds at most; two of them wait.
const HAND_OVER: ReadLimit = ReadLimit { records: 5_000, bytes: 4 << 20 };
const SMALL_HAND_OVER: ReadLimit = ReadLimit { records: 500, bytes: 256 << 10 };
/// How long a reader that was dropped may go unnoticed.
const POLL: Duration = Duration::from_millis(100);

/// A topic is not deleted and made again in less time, nor without the consumer hearing nothing.
const GAP: Duration = Duration::from_millis(250);

/// How much is kept ready of what comes next.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ahead {
    Much,
    Little,
}

/// What is read.
pub(super) struct Source {
    pub(super) options: KafkaOptions,
    pub(super) asker: Arc<Asker>,
    pub(super) topic: Arc<str>,
    /// The topic's incarnation that positions belong to, once somebody told it.
    pub(super) id: Option<TopicId>,
    /// Where reading ends, if it does.
    pub(super) until: Option<Offset>,
    pub(super) ahead: Ahead,
}

pub(super) type SharedConsumer = Arc<BaseConsumer<Context>>;

impl Source {
    /// A consumer of these partitions from these offsets.
    pub(super) fn consumer(&self, from: &[(u32, Offset)]) -> LogResult<SharedConsumer> {
        let error = |error: KafkaError| query_error(&self.topic, None, &error);
        let mut config = match self.ahead {
            Ahead::Much => self.options.reader("read_committed"),
            Ahead::Little => self.options.browser(),
        };
        if self.until.is_some() {
            config = KafkaOptions::with_reached(config);
        }
        let context = Context { topic: self.topic.clone(), ends: Mutex::default() };
        let consumer: BaseConsumer<Context> = config.create_with_context(context).map_err(error)?;
        let mut assignment = TopicPartitionList::new();
        for (partition, offset) in from {
            let offset = KafkaOffset::Offset(i64::try_from(*offset).unwrap_or(i64::MAX));
            assignment
                .add_partition_offset(&self.topic, *partition as i32, offset)
                .map_err(error)?;
        }
        consumer.assign(&assignment).map_err(error)?;
        Ok(Arc::new(consumer))
    }
}

/// Hears of the offsets at which brokers said that a partition ends: the event itself only says that
/// one did.
pub(super) struct Context {
    topic: Arc<str>,
    ends: Mutex<HashMap<i32, Offset>>,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        Told.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        Told.error(error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        let Some(topic) = statistics.topics.get(&*self.topic) else { return };
        let mut ends = self.ends.lock();
        for (partition, told) in &topic.partitions {
            // What is told here overtakes the records that were fetched before: the end counts once none of them
            // waits to be polled.
            if told.fetchq_cnt == 0
                && let Ok(end) = Offset::try_from(told.eof_offset)
            {
                ends.insert(*partition, end);
            }
        }
    }
}

impl ConsumerContext for Context {}

/// What is handed over: a batch, and the positions at the ends that it tells of.
#[derive(Default)]
pub(super) struct HandOver {
    pub(super) batch: ReadBatch,
    pub(super) ends: Vec<(usize, Offset)>,
}

/// What the reader's other half gets to know beside batches.
#[derive(Default)]
pub(super) struct Signs {
    pub(super) stop: AtomicBool,
    /// Since when it is not known whether anything is missing.
    pub(super) cut_off: Mutex<Option<Instant>>,
}

pub(super) struct Poller {
    source: Source,
    consumer: SharedConsumer,
    partitions: Vec<Partition>,
    signs: Arc<Signs>,
    runtime: tokio::runtime::Handle,
    login: Login,
    checked: Instant,
    checking: Option<oneshot::Receiver<LogResult<Found>>>,
}

impl Poller {
    pub(super) fn new(
        source: Source,
        consumer: SharedConsumer,
        from: &[(u32, Offset)],
        signs: Arc<Signs>,
    ) -> Self {
        let now = Instant::now();
        let partitions =
            from.iter().map(|(number, next)| Partition::new(*number, *next, now)).collect();
        let runtime = tokio::runtime::Handle::current();
        let (login, checking) = (Login::default(), None);
        Self { source, consumer, partitions, signs, runtime, login, checked: now, checking }
    }

    pub(super) fn run(mut self, sender: &mpsc::Sender<LogResult<HandOver>>) {
        while !self.signs.stop.load(Ordering::Relaxed) {
            let gathered = self.gather().and_then(|gathered| self.watch().map(|()| gathered));
            let is_last = match &gathered {
                Err(_) => true,
                Ok(HandOver { batch, .. })
                    if batch.records.is_empty() && batch.at_end.is_empty() =>
                {
                    continue;
                }
                Ok(HandOver { batch, .. }) => {
                    self.source.until.is_some() && !batch.at_end.is_empty()
                }
            };
            let handed_over = Instant::now();
            if sender.blocking_send(gathered).is_err() || is_last {
                break;
            }
            if handed_over.elapsed() > POLL {
                // Nobody took what was there: what came meanwhile was not heard.
                let now = Instant::now();
                self.partitions.iter_mut().for_each(|partition| partition.heard = now);
            }
        }
        // Closing may wait for brokers; whoever waits for this reader's end need not.
        asker::let_go(self.consumer);
    }

    fn gather(&mut self) -> LogResult<HandOver> {
        let limit = match self.source.ahead {
            Ahead::Much => HAND_OVER,
            Ahead::Little => SMALL_HAND_OVER,
        };
        let mut batch = ReadBatch::default();
        let mut bytes = 0;
        let mut wait = POLL;
        let mut after_a_gap = false;
        let consumer = self.consumer.clone();
        while batch.records.len() < limit.records && bytes < limit.bytes {
            let Some(polled) = consumer.poll(wait) else { break };
            wait = Duration::ZERO;
            match polled {
                Ok(message) => {
                    let record = self.to_stored(&message);
                    after_a_gap |= self.is_silent(record.partition);
                    self.heard(record.partition, Some(record.offset + 1));
                    if self.source.until.is_none_or(|until| record.offset < until) {
                        bytes += record.record.size();
                        batch.records.push(record);
                    }
                }
                Err(KafkaError::PartitionEOF(partition)) => {
                    let place = self.heard(partition as u32, None);
                    if let Some(place) = place
                        && self.source.until.is_none()
                        && !batch.at_end.contains(&place)
                    {
                        batch.at_end.push(place);
                    }
                }
                Err(error) => self.judge(&error)?,
            }
        }
        if after_a_gap && self.source.until.is_none() {
            self.check_topic()?;
        }
        if let Some(until) = self.source.until
            && self.reached().iter().all(|reached| *reached >= until)
        {
            batch.at_end = (0..self.partitions.len()).collect();
        }
        let ends = match batch.at_end.is_empty() {
            true => Vec::new(),
            false => {
                let reached = self.reached();
                batch.at_end.iter().map(|place| (*place, reached[*place])).collect()
            }
        };
        Ok(HandOver { batch, ends })
    }

    fn is_silent(&self, partition: u32) -> bool {
        let known = self.partitions.iter().find(|known| known.number == partition);
        known.is_some_and(|known| known.heard.elapsed() >= GAP)
    }

    /// librdkafka goes on at the same offset when a topic was deleted and made again, in the middle of
    /// another log. So records that come after a while are handed out only once it is known whose they
    /// are.
    fn check_topic(&self) -> LogResult<()> {
        match self.source.id {
            Some(_) => self.compare(self.source.asker.describe(&self.source.topic)?.id),
            None => Ok(()),
        }
    }

    fn compare(&self, is: TopicId) -> LogResult<()> {
        match self.source.id {
            Some(was) if was != is => {
                let topic = self.source.topic.to_string();
                Err(LogError::TopicReplaced { topic, was, is })
            }
            _ => Ok(()),
        }
    }

    /// Notes that the partition was heard from, at an offset or at its end. Its place.
    fn heard(&mut self, partition: u32, next: Option<Offset>) -> Option<usize> {
        let place = self.partitions.iter().position(|known| known.number == partition)?;
        self.partitions[place].heard(next, Instant::now());
        if self.signs.cut_off.lock().take().is_some() {
            tracing::info!(topic = %self.source.topic, "records are read again");
        }
        Some(place)
    }

    /// How far each partition was read: past the last record, and past marks of transactions and
    /// records that compaction removed, which no record shows.
    ///
    /// The end of a partition is no position: librdkafka tells of the end as the broker sees it that
    /// answers, and one that has just become leader may lag behind what another said a moment ago.
    pub(super) fn reached(&self) -> Vec<Offset> {
        let positions = self.consumer.position().ok();
        let ends = self.consumer.context().ends.lock();
        let reached = self.partitions.iter().map(|partition| {
            let number = partition.number as i32;
            let position = positions
                .as_ref()
                .and_then(|all| all.find_partition(&self.source.topic, number))
                .and_then(|element| Offset::try_from(element.offset().to_raw()?).ok());
            let end = ends.get(&number).copied();
            partition.next.max(position.unwrap_or(0)).max(end.unwrap_or(0))
        });
        reached.collect()
    }

    /// Asks about partitions that are silent, and draws the conclusion once there is an answer.
    fn watch(&mut self) -> LogResult<()> {
        self.login.renew(&self.source.options, self.consumer.client());
        let silence = self.source.options.silence;
        if let Some(checking) = &mut self.checking {
            match checking.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => return Ok(()),
                Err(oneshot::error::TryRecvError::Closed) => self.checking = None,
                Ok(found) => {
                    self.checking = None;
                    self.conclude(found)?;
                }
            }
        } else if self.checked.elapsed() >= silence
            && self.partitions.iter().any(|partition| partition.heard.elapsed() >= silence)
        {
            self.checked = Instant::now();
            let (answer, found) = oneshot::channel();
            let (asker, topic) = (self.source.asker.clone(), self.source.topic.clone());
            let numbers: Vec<u32> = self.partitions.iter().map(|one| one.number).collect();
            let consumer = self.consumer.clone();
            self.runtime.spawn_blocking(move || {
                let _ = answer.send(silence::ask(&asker, consumer.client(), &topic, &numbers));
                asker::let_go(consumer);
            });
            self.checking = Some(found);
        }
        Ok(())
    }

    fn conclude(&mut self, found: LogResult<Found>) -> LogResult<()> {
        let topic = &self.source.topic;
        let found = match found {
            Ok(found) => found,
            Err(error) if error.retry() == Retry::Later => {
                let silent_since = self.partitions.iter().map(|one| one.heard).min();
                let mut cut_off = self.signs.cut_off.lock();
                if cut_off.is_none() {
                    *cut_off = silent_since;
                    told::once("kafka does not answer: nothing is read");
                    tracing::debug!(%topic, error = %chain(&error), "a silent reader");
                }
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if let Some(id) = found.id {
            self.compare(id)?;
            self.source.id = Some(id);
        }
        let topic = &self.source.topic;
        let reached = self.reached();
        let verdict = silence::judge(&mut self.partitions, &reached, &found, self.checked);
        silence::say_pinned(topic, &self.partitions, &found, Instant::now());
        match verdict {
            Verdict::UpToDate => {
                if self.signs.cut_off.lock().take().is_some() {
                    tracing::info!(%topic, "nothing was missed: its ends are reached");
                }
                Ok(())
            }
            Verdict::Behind { partition, position, end } => {
                tracing::warn!(
                    %topic, partition, position, end,
                    "a kafka reader receives nothing although there are records; reopening it"
                );
                self.open_anew(&reached)
            }
            Verdict::Lost => {
                told::once("kafka readers lost their brokers for good; reopening them");
                self.open_anew(&reached)
            }
        }
    }

    fn open_anew(&mut self, reached: &[Offset]) -> LogResult<()> {
        let now = Instant::now();
        for (partition, reached) in self.partitions.iter_mut().zip(reached) {
            partition.next = *reached;
            partition.heard = now;
        }
        let from: Vec<_> = self.partitions.iter().map(|one| (one.number, one.next)).collect();
        let consumer = self.source.consumer(&from)?;
        asker::let_go(std::mem::replace(&mut self.consumer, consumer));
        Ok(())
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
            ) => Err(query_error(&self.source.topic, None, error)),
            _ => {
                told::going_on(&self.source.topic, error);
                Ok(())
            }
        }
    }

    /// Says which position lies outside the log; the error itself does not. It may be another log:
    /// of a topic that was made again.
    fn out_of_range(&self, error: &KafkaError) -> LogError {
        let Source { asker, topic, options, .. } = &self.source;
        if let Ok(now) = asker.describe(topic)
            && let Err(replaced) = self.compare(now.id)
        {
            return replaced;
        }
        for (partition, offset) in self.partitions.iter().zip(self.reached()) {
            let partition = partition.number;
            let found = bounds(&self.consumer, topic, partition, options.call_timeout);
            let Ok((start, end)) = found else { continue };
            if offset < start || offset > end {
                let topic = topic.to_string();
                return LogError::OffsetOutOfRange { topic, partition, offset, start, end };
            }
        }
        query_error(topic, None, error)
    }

    fn to_stored(&self, message: &BorrowedMessage<'_>) -> StoredRecord {
        StoredRecord {
            topic: self.source.topic.clone(),
            partition: message.partition() as u32,
            offset: message.offset().max(0) as Offset,
            record: Record {
                key: Bytes::copy_from_slice(message.key().unwrap_or_default()),
                value: message.payload().map(Bytes::copy_from_slice),
                headers: to_headers(message),
                timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
            },
        }
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
