//! The event log on Apache Kafka, through librdkafka.
//!
//! Blocking calls run on threads of their own: a reader, a group member and a transactor each
//! have one, and short queries go to the runtime's blocking pool.

mod admin;
mod answered;
mod asker;
mod caretaker;
mod checkup;
mod fenced;
mod group;
mod groups;
mod lanes;
mod login;
mod options;
mod poller;
mod reader;
mod renewed;
mod silence;
mod told;
mod topic_id;
mod transactor;

pub use checkup::{Checkup, TopicCheckup, checkup};
pub use options::{KafkaOptions, KafkaSecurity};

use crate::{
    Append, EventLog, GroupDescription, GroupMember, GroupNames, GroupOptions, GroupState,
    Isolation, LogError, LogReader, LogResult, Offset, Ownership, Record, Retry, TopicDescription,
    TopicSpec, Transactor,
};
use asker::Asker;
use async_trait::async_trait;
use fenced::ProcessMark;
use futures::{StreamExt, TryStreamExt, stream};
use lanes::Lanes;
use parking_lot::Mutex;
use poller::{Ahead, Source};
use rdkafka::{
    TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// Groups whose positions are asked for at the same time.
const GROUPS_AT_ONCE: usize = 8;

/// Clones share the clients.
#[derive(Clone)]
pub struct KafkaLog(Arc<Inner>);

struct Inner {
    options: KafkaOptions,
    lanes: Lanes,
    asker: Arc<Asker>,
    /// Which process this is, for its like.
    process: ProcessMark,
    /// Topics that were made or found by `ensure_topics`, and when.
    ensured: Mutex<HashMap<String, (TopicDescription, Instant)>>,
    /// Since when no appends can be acknowledged.
    cut_off: Mutex<Option<Instant>>,
}

impl KafkaLog {
    /// Makes the clients. Nothing is asked of the brokers yet: they may still be starting.
    pub fn connect(options: KafkaOptions) -> LogResult<Self> {
        let refused = |error: KafkaError| LogError::Refused {
            what: "kafka configuration".to_owned(),
            source: error.into(),
        };
        let lanes = Lanes::new(&options).map_err(refused)?;
        let asker = Arc::new(Asker::new(&options).map_err(refused)?);
        let (process, ensured, cut_off) = (ProcessMark::new(), Mutex::default(), Mutex::default());
        let inner = Arc::new(Inner { options, lanes, asker, process, ensured, cut_off });
        caretaker::start(&inner)?;
        Ok(Self(inner))
    }

    /// Runs a blocking query off the runtime's threads.
    async fn blocking<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Inner) -> LogResult<T> + Send + 'static,
    ) -> LogResult<T> {
        let inner = self.0.clone();
        tokio::task::spawn_blocking(move || query(&inner)).await.map_err(|_| LogError::Closed)?
    }

    async fn watermarks(
        &self,
        topic: &str,
        partition: u32,
        isolation: Isolation,
    ) -> LogResult<(Offset, Offset)> {
        let topic = topic.to_owned();
        self.blocking(move |inner| inner.asker.bounds(&topic, partition, isolation)).await
    }

    async fn open(
        &self,
        topic: &str,
        from: &[(u32, Offset)],
        until: Option<Offset>,
        ahead: Ahead,
    ) -> LogResult<Box<dyn LogReader>> {
        let id = match self.topic(topic).await {
            Ok(described) => Some(described.id),
            // It is learnt when somebody answers.
            Err(error) if error.retry() == Retry::Later => None,
            Err(error) => return Err(error),
        };
        let source = Source {
            options: self.0.options.clone(),
            asker: self.0.asker.clone(),
            topic: topic.into(),
            id,
            until,
            ahead,
        };
        reader::open(source, from)
    }
}

#[async_trait]
impl EventLog for KafkaLog {
    async fn ensure_topics(&self, topics: &[TopicSpec]) -> LogResult<()> {
        admin::ensure(&self.0.options, topics).await?;
        // A broker that has not heard of a new one yet does not count.
        for spec in topics {
            let found = self.topic(&spec.name).await.map_err(|error| match error {
                LogError::UnknownTopic { topic } => LogError::Unavailable {
                    what: format!("kafka topic {topic}"),
                    source: "not every broker has heard of it yet".into(),
                },
                other => other,
            })?;
            self.0.ensured.lock().insert(spec.name.clone(), (found, Instant::now()));
        }
        Ok(())
    }

    async fn topic(&self, topic: &str) -> LogResult<TopicDescription> {
        // Asked anew each time: somebody may have deleted it and made it again.
        let name = topic.to_owned();
        let found = self.blocking(move |inner| inner.asker.describe(&name)).await;
        match found {
            // Another broker than the one that was asked before may not have heard of it yet.
            Err(LogError::UnknownTopic { .. }) => {
                let ensured = self.0.ensured.lock().get(topic).copied();
                let is_new = |since: &Instant| since.elapsed() < self.0.options.call_timeout;
                ensured.filter(|(_, since)| is_new(since)).map_or(found, |(known, _)| Ok(known))
            }
            found => found,
        }
    }

    async fn append(&self, appends: Vec<Append>) -> LogResult<Vec<Option<Offset>>> {
        self.0.lanes.append(appends).await
    }

    async fn end(&self, topic: &str, partition: u32, isolation: Isolation) -> LogResult<Offset> {
        Ok(self.watermarks(topic, partition, isolation).await?.1)
    }

    async fn start(&self, topic: &str, partition: u32) -> LogResult<Offset> {
        Ok(self.watermarks(topic, partition, Isolation::Uncommitted).await?.0)
    }

    async fn offsets_at(&self, topic: &str, time_ms: i64) -> LogResult<Vec<Offset>> {
        let partitions = self.topic(topic).await?.partitions;
        let topic = topic.to_owned();
        self.blocking(move |inner| inner.asker.offsets_at(&topic, partitions, time_ms)).await
    }

    async fn read(&self, topic: &str, from: &[(u32, Offset)]) -> LogResult<Box<dyn LogReader>> {
        self.open(topic, from, None, Ahead::Much).await
    }

    async fn browse(&self, topic: &str, from: &[(u32, Offset)]) -> LogResult<Box<dyn LogReader>> {
        self.open(topic, from, None, Ahead::Little).await
    }

    async fn read_to(
        &self,
        topic: &str,
        partition: u32,
        from: Offset,
        to: Offset,
    ) -> LogResult<Box<dyn LogReader>> {
        if from >= to {
            return Ok(Box::new(reader::Finished));
        }
        // Records below `to` that belong to open transactions are not handed out before these end.
        // Waiting for it here says so, where the reader would only be silent.
        let deadline = tokio::time::Instant::now() + self.0.options.stable_timeout;
        let mut pause = Duration::from_millis(2);
        loop {
            let stable = self.end(topic, partition, Isolation::Committed).await?;
            if stable >= to {
                break;
            }
            if tokio::time::Instant::now() > deadline {
                return Err(LogError::TimedOut {
                    what: format!(
                        "waiting for the transaction that is open at {stable}, below {to}, of {topic}/{partition}"
                    ),
                    after_ms: self.0.options.stable_timeout.as_millis(),
                });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(100));
        }
        self.open(topic, &[(partition, from)], Some(to), Ahead::Much).await
    }

    async fn join(&self, options: GroupOptions) -> LogResult<Box<dyn GroupMember>> {
        group::join(&self.0.options, options, self.0.asker.clone(), self.0.process.clone())
    }

    async fn committed(&self, ownership: &Ownership) -> LogResult<Option<Offset>> {
        let ownership = ownership.clone();
        self.blocking(move |inner| {
            let consumer: BaseConsumer = inner
                .options
                .reader("read_committed")
                .set("group.id", ownership.group.as_ref())
                .create()
                .map_err(|error| {
                    query_error(&ownership.topic, Some(ownership.partition), &error)
                })?;
            let mut wanted = TopicPartitionList::new();
            wanted.add_partition(&ownership.topic, ownership.partition as i32);
            let found = consumer.committed_offsets(wanted, inner.options.call_timeout).map_err(
                |error| query_error(&ownership.topic, Some(ownership.partition), &error),
            )?;
            let offset = found
                .find_partition(&ownership.topic, ownership.partition as i32)
                .and_then(|element| element.offset().to_raw());
            Ok(offset.and_then(|offset| Offset::try_from(offset).ok()))
        })
        .await
    }

    async fn groups(&self, at_most: usize) -> LogResult<GroupNames> {
        self.blocking(move |inner| inner.asker.groups(at_most)).await
    }

    async fn describe_groups(
        &self,
        names: &[String],
        places: &[(Arc<str>, u32)],
    ) -> LogResult<Vec<GroupDescription>> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let wanted = names.to_vec();
        let described = self.blocking(move |inner| inner.asker.described(&wanted)).await?;
        let places: Arc<[(Arc<str>, u32)]> = places.into();
        stream::iter(described)
            .map(|mut told| {
                let places = places.clone();
                async move {
                    if told.state == GroupState::Dead || told.fault.is_some() {
                        return Ok(told);
                    }
                    let group = told.name.clone();
                    let committed =
                        self.blocking(move |inner| inner.asker.committed(&group, &places)).await;
                    match committed {
                        Ok(committed) => told.committed = committed,
                        Err(error) if error.retry() == Retry::Never => told.fault = Some(error),
                        Err(error) => return Err(error),
                    }
                    Ok(told)
                }
            })
            .buffered(GROUPS_AT_ONCE)
            .try_collect()
            .await
    }

    async fn transactor(
        &self,
        transactional_id: &str,
        ownership: &Ownership,
    ) -> LogResult<Box<dyn Transactor>> {
        transactor::start(&self.0.options, transactional_id, ownership).await
    }

    fn cut_off(&self) -> Option<Duration> {
        self.0.cut_off.lock().map(|since| since.elapsed())
    }
}

fn to_kafka_headers(record: &Record) -> OwnedHeaders {
    let mut headers = OwnedHeaders::new_with_capacity(record.headers.iter().count());
    for (key, value) in record.headers.iter() {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    headers
}

fn query_error(topic: &str, partition: Option<u32>, error: &KafkaError) -> LogError {
    match (error.rdkafka_error_code(), partition) {
        (Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic), _) => {
            LogError::UnknownTopic { topic: topic.to_owned() }
        }
        (Some(RDKafkaErrorCode::UnknownPartition), Some(partition)) => {
            LogError::UnknownPartition { topic: topic.to_owned(), partition }
        }
        _ => LogError::Unavailable {
            what: partition.map_or_else(
                || format!("kafka topic {topic}"),
                |partition| format!("kafka topic {topic}/{partition}"),
            ),
            source: error.clone().into(),
        },
    }
}

fn produce_error(append: &Append, error: &KafkaError) -> LogError {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize) => {
            LogError::RecordTooLarge {
                topic: append.topic.to_string(),
                size: append.record.size(),
                limit: options::MESSAGE_MAX_BYTES,
            }
        }
        _ => query_error(&append.topic, Some(append.partition), error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use almanac_errors::chain;
    use std::error::Error;

    #[test]
    fn what_the_client_says_is_the_source_and_told_once() {
        let away = KafkaError::MetadataFetch(RDKafkaErrorCode::BrokerTransportFailure);
        let error = query_error("facts", Some(1), &away);
        assert_eq!(error.source().and_then(|cause| cause.downcast_ref()), Some(&away));
        let told = chain(&error).to_string();
        assert!(told.starts_with("kafka topic facts/1 is unavailable: "), "{told}");
        assert_eq!(told.matches("Broker transport failure").count(), 1, "{told}");
    }
}
