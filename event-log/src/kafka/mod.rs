//! The event log on Apache Kafka, through librdkafka.
//!
//! Blocking calls run on threads of their own: a reader, a group member and a transactor each
//! have one, and short queries go to the runtime's blocking pool.

mod admin;
mod group;
mod lanes;
mod options;
mod reader;
mod renewed;
mod told;
mod topic_id;
mod transactor;

pub use options::{KafkaOptions, KafkaSecurity};

use crate::{
    Append, EventLog, GroupMember, GroupOptions, Isolation, LogError, LogReader, LogResult, Offset,
    Ownership, Record, TopicDescription, TopicSpec, Transactor,
};
use async_trait::async_trait;
use lanes::Lanes;
use parking_lot::Mutex;
use rdkafka::{
    TopicPartitionList,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
};
use reader::Ahead;
use std::{collections::HashMap, sync::Arc, time::Duration};

/// Clones share the clients.
#[derive(Clone)]
pub struct KafkaLog(Arc<Inner>);

struct Inner {
    options: KafkaOptions,
    lanes: Lanes,
    /// Answers watermark queries with the last stable offset.
    committed: BaseConsumer,
    /// Answers watermark queries with the high watermark.
    uncommitted: BaseConsumer,
    topics: Mutex<HashMap<String, TopicDescription>>,
}

impl KafkaLog {
    /// Makes the clients. Nothing is asked of the brokers yet: they may still be starting.
    pub fn connect(options: KafkaOptions) -> LogResult<Self> {
        let refused = |error: KafkaError| LogError::Refused {
            what: "kafka configuration".to_owned(),
            detail: error.to_string(),
        };
        let lanes = Lanes::new(&options).map_err(refused)?;
        let committed = options.reader("read_committed").create().map_err(refused)?;
        let uncommitted = options.reader("read_uncommitted").create().map_err(refused)?;
        let topics = Mutex::new(HashMap::new());
        Ok(Self(Arc::new(Inner { options, lanes, committed, uncommitted, topics })))
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
        self.blocking(move |inner| {
            let client = match isolation {
                Isolation::Committed => &inner.committed,
                Isolation::Uncommitted => &inner.uncommitted,
            };
            let timeout = inner.options.call_timeout;
            bounds(client, &topic, partition, timeout)
                .map_err(|error| query_error(&topic, Some(partition), &error))
        })
        .await
    }
}

#[async_trait]
impl EventLog for KafkaLog {
    async fn ensure_topics(&self, topics: &[TopicSpec]) -> LogResult<()> {
        admin::ensure(&self.0.options, topics).await?;
        // From here on it is remembered what they are; a broker that has not heard of a new one yet
        // does not count.
        for spec in topics {
            self.topic(&spec.name).await.map_err(|error| match error {
                LogError::UnknownTopic { topic } => LogError::Unavailable {
                    what: format!("kafka topic {topic}"),
                    detail: "not every broker has heard of it yet".to_owned(),
                },
                other => other,
            })?;
        }
        Ok(())
    }

    async fn topic(&self, topic: &str) -> LogResult<TopicDescription> {
        if let Some(known) = self.0.topics.lock().get(topic) {
            return Ok(*known);
        }
        let name = topic.to_owned();
        let found = self
            .blocking(move |inner| {
                topic_id::describe(&inner.uncommitted, &name, inner.options.call_timeout)
            })
            .await?;
        self.0.topics.lock().insert(topic.to_owned(), found);
        Ok(found)
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

    async fn read(&self, topic: &str, from: &[(u32, Offset)]) -> LogResult<Box<dyn LogReader>> {
        reader::open(&self.0.options, topic, from, Ahead::Much)
    }

    async fn browse(&self, topic: &str, from: &[(u32, Offset)]) -> LogResult<Box<dyn LogReader>> {
        reader::open(&self.0.options, topic, from, Ahead::Little)
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
        // The end of a partition, as a read_committed reader is told of it, is the last stable
        // offset. Only once that has passed `to` does reaching the end mean reaching `to`.
        let deadline = tokio::time::Instant::now() + self.0.options.stable_timeout;
        let mut pause = Duration::from_millis(2);
        while self.end(topic, partition, Isolation::Committed).await? < to {
            if tokio::time::Instant::now() > deadline {
                return Err(LogError::TimedOut {
                    what: format!(
                        "waiting for open transactions below {to} of {topic}/{partition}"
                    ),
                    after_ms: self.0.options.stable_timeout.as_millis(),
                });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(100));
        }
        let reader = self.read(topic, &[(partition, from)]).await?;
        Ok(Box::new(reader::Bounded::new(reader, to)))
    }

    async fn join(&self, options: GroupOptions) -> LogResult<Box<dyn GroupMember>> {
        group::join(&self.0.options, options)
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

    async fn transactor(
        &self,
        transactional_id: &str,
        ownership: &Ownership,
    ) -> LogResult<Box<dyn Transactor>> {
        transactor::start(&self.0.options, transactional_id, ownership).await
    }
}

/// The oldest offset that is kept, and the end as the client's isolation sees it. Blocks.
fn bounds(
    client: &BaseConsumer<impl ConsumerContext>,
    topic: &str,
    partition: u32,
    timeout: Duration,
) -> KafkaResult<(Offset, Offset)> {
    let found = client.fetch_watermarks(topic, partition as i32, timeout);
    // Nobody else polls these clients: what they say would pile up.
    while let Some(Err(_)) = client.poll(Duration::ZERO) {}
    let (low, high) = found?;
    Ok((low.max(0) as Offset, high.max(0) as Offset))
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
            detail: error.to_string(),
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
