//! Short questions to the brokers: where a partition ends, what a topic is, who is in a group.
//!
//! A client of librdkafka can lose all its brokers for good: an answer that names none, as brokers
//! give that were frozen for a while, makes it forget those it had, and nothing makes it begin at
//! `bootstrap.servers` again (librdkafka issue 5301). So a client that gets no answer is replaced, and
//! what the newest one hears is taken for what brokers say.

use super::{KafkaOptions, groups, login::Login, query_error, topic_id};
use crate::{
    GroupDescription, GroupNames, InputPosition, Isolation, LogResult, Offset, Retry,
    TopicDescription,
};
use almanac_errors::chain;
use parking_lot::Mutex;
use rdkafka::{
    ClientConfig, Offset as KafkaOffset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, KafkaResult},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// The least time between two clients of a kind: a long outage does not make one after the other.
const PAUSE: Duration = Duration::from_secs(2);

pub(super) struct Asker {
    /// Answers questions about ends with the last stable offset.
    committed: Newest,
    /// Answers them with the high watermark.
    uncommitted: Newest,
    timeout: Duration,
    /// For questions that are asked again and again.
    soon: Duration,
}

/// A member of a consumer group, as its coordinator tells.
pub(super) struct Member {
    pub(super) id: String,
    /// What it joined with; empty while the group is between two assignments.
    pub(super) metadata: Vec<u8>,
}

impl Asker {
    /// Makes the clients. Nothing is asked yet.
    pub(super) fn new(options: &KafkaOptions) -> KafkaResult<Self> {
        Ok(Self {
            committed: Newest::new(options, options.reader("read_committed"))?,
            uncommitted: Newest::new(options, options.reader("read_uncommitted"))?,
            timeout: options.call_timeout,
            soon: options.call_timeout.min(options.silence),
        })
    }

    fn client(&self, isolation: Isolation) -> &Newest {
        match isolation {
            Isolation::Committed => &self.committed,
            Isolation::Uncommitted => &self.uncommitted,
        }
    }

    /// The oldest offset that is kept, and the end. Blocks, as all of these do.
    pub(super) fn bounds(
        &self,
        topic: &str,
        partition: u32,
        isolation: Isolation,
    ) -> LogResult<(Offset, Offset)> {
        self.client(isolation).ask(self.timeout, |client, timeout| {
            bounds(client, topic, partition, timeout)
                .map_err(|error| query_error(topic, Some(partition), &error))
        })
    }

    /// Where records of this time and later begin, by partition.
    pub(super) fn offsets_at(
        &self,
        topic: &str,
        partitions: u32,
        time_ms: i64,
    ) -> LogResult<Vec<Offset>> {
        // Below zero are the names of ends.
        let time = KafkaOffset::Offset(time_ms.max(0));
        let partitions: Vec<u32> = (0..partitions).collect();
        let found = self.offsets(topic, &partitions, time, Isolation::Committed)?;
        let ends = self.ends(topic, &partitions, Isolation::Committed)?;
        Ok(found.into_iter().zip(ends).map(|(found, end)| found.unwrap_or(end)).collect())
    }

    /// The ends of these partitions, in their order.
    pub(super) fn ends(
        &self,
        topic: &str,
        partitions: &[u32],
        isolation: Isolation,
    ) -> LogResult<Vec<Offset>> {
        let ends = self.offsets(topic, partitions, KafkaOffset::End, isolation)?;
        Ok(ends.into_iter().map(|end| end.unwrap_or(0)).collect())
    }

    /// What brokers answer for each of these partitions; `None` where there is no such offset.
    fn offsets(
        &self,
        topic: &str,
        partitions: &[u32],
        sought: KafkaOffset,
        isolation: Isolation,
    ) -> LogResult<Vec<Option<Offset>>> {
        let failed = |partition| move |error: KafkaError| query_error(topic, partition, &error);
        self.client(isolation).ask(self.soon, |client, timeout| {
            let mut wanted = TopicPartitionList::new();
            for partition in partitions {
                wanted
                    .add_partition_offset(topic, *partition as i32, sought)
                    .map_err(failed(Some(*partition)))?;
            }
            let found = client.offsets_for_times(wanted, timeout).map_err(failed(None))?;
            let offset = |partition: &u32| -> LogResult<Option<Offset>> {
                let Some(found) = found.find_partition(topic, *partition as i32) else {
                    return Ok(None);
                };
                found.error().map_err(failed(Some(*partition)))?;
                Ok(found.offset().to_raw().and_then(|raw| Offset::try_from(raw).ok()))
            };
            partitions.iter().map(offset).collect()
        })
    }

    pub(super) fn describe(&self, topic: &str) -> LogResult<TopicDescription> {
        self.uncommitted
            .ask(self.timeout, |client, timeout| topic_id::describe(client, topic, timeout))
    }

    pub(super) fn groups(&self, at_most: usize) -> LogResult<GroupNames> {
        self.uncommitted.ask(self.timeout, |client, timeout| groups::list(client, at_most, timeout))
    }

    /// Without what they have committed.
    pub(super) fn described(&self, names: &[String]) -> LogResult<Vec<GroupDescription>> {
        self.uncommitted
            .ask(self.timeout, |client, timeout| groups::describe(client, names, timeout))
    }

    pub(super) fn committed(
        &self,
        group: &str,
        places: &[(Arc<str>, u32)],
    ) -> LogResult<Vec<InputPosition>> {
        self.uncommitted
            .ask(self.timeout, |client, timeout| groups::committed(client, group, places, timeout))
    }

    /// Whether brokers answer a client at all.
    pub(super) fn is_answered(&self, topic: &str) -> bool {
        let asked = self.uncommitted.ask(self.soon, |client, timeout| {
            client
                .fetch_metadata(Some(topic), timeout)
                .map_err(|error| query_error(topic, None, &error))
        });
        asked.is_ok_and(|metadata| !metadata.brokers().is_empty())
    }

    pub(super) fn members(&self, group: &str) -> LogResult<Vec<Member>> {
        self.uncommitted.ask(self.timeout, |client, timeout| {
            let groups = client
                .fetch_group_list(Some(group), timeout)
                .map_err(|error| query_error(group, None, &error))?;
            let members = groups.groups().iter().flat_map(|group| group.members());
            let told = members.map(|member| Member {
                id: member.id().to_owned(),
                metadata: member.metadata().unwrap_or_default().to_vec(),
            });
            Ok(told.collect())
        })
    }
}

/// A client, replaced when it gets no answers.
struct Newest {
    options: KafkaOptions,
    config: ClientConfig,
    client: Mutex<Asking>,
}

struct Asking {
    client: Arc<BaseConsumer>,
    since: Instant,
    login: Login,
}

impl Newest {
    /// `config` is of `options`.
    fn new(options: &KafkaOptions, config: ClientConfig) -> KafkaResult<Self> {
        let client = Mutex::new(Asking::with(&config)?);
        Ok(Self { options: options.clone(), config, client })
    }

    fn client(&self) -> Arc<BaseConsumer> {
        let mut asking = self.client.lock();
        let client = asking.client.clone();
        asking.login.renew(&self.options, client.client());
        client
    }

    /// Within `timeout`, by two attempts: the second may be another client's.
    fn ask<T>(
        &self,
        timeout: Duration,
        question: impl Fn(&BaseConsumer, Duration) -> LogResult<T>,
    ) -> LogResult<T> {
        let first = self.ask_once(timeout / 4, &question);
        match &first {
            Err(error) if error.retry() == Retry::Later => {
                self.ask_once(timeout - timeout / 4, &question)
            }
            _ => first,
        }
    }

    fn ask_once<T>(
        &self,
        timeout: Duration,
        question: impl Fn(&BaseConsumer, Duration) -> LogResult<T>,
    ) -> LogResult<T> {
        let client = self.client();
        let answer = question(&client, timeout);
        // Nobody else polls these clients: what they say would pile up.
        while let Some(Err(_)) = client.poll(Duration::ZERO) {}
        if answer.as_ref().is_err_and(|error| error.retry() == Retry::Later) {
            self.replace(&client);
            let_go(client);
        }
        answer
    }

    fn replace(&self, silent: &Arc<BaseConsumer>) {
        let mut newest = self.client.lock();
        if !Arc::ptr_eq(&newest.client, silent) || newest.since.elapsed() < PAUSE {
            return;
        }
        match Asking::with(&self.config) {
            Ok(asking) => *newest = asking,
            Err(error) => {
                tracing::warn!(error = %chain(&error), "a kafka client cannot be replaced")
            }
        }
    }
}

impl Asking {
    fn with(config: &ClientConfig) -> KafkaResult<Self> {
        let (client, since) = (Arc::new(config.create()?), Instant::now());
        Ok(Self { client, since, login: Login::default() })
    }
}

/// Drops a client where nobody waits for it: its end may wait for brokers.
pub(super) fn end<T: Send + 'static>(client: T) {
    let ending = std::thread::Builder::new().name("kafka-end".to_owned());
    // Without a thread it is dropped here and now.
    let _ = ending.spawn(move || drop(client));
}

/// The same, where it is the last who has it.
pub(super) fn let_go<T: Send + Sync + 'static>(client: Arc<T>) {
    if let Some(client) = Arc::into_inner(client) {
        end(client);
    }
}

/// Whether a client still finds brokers that answer it. Blocks up to `timeout`.
pub(super) fn finds_brokers<C: rdkafka::ClientContext>(
    client: &rdkafka::client::Client<C>,
    topic: &str,
    timeout: Duration,
) -> bool {
    let found = client.fetch_metadata(Some(topic), timeout);
    found.is_ok_and(|metadata| !metadata.brokers().is_empty())
}

/// The oldest offset that is kept, and the end as the client's isolation sees it. Blocks.
pub(super) fn bounds(
    client: &BaseConsumer<impl ConsumerContext>,
    topic: &str,
    partition: u32,
    timeout: Duration,
) -> KafkaResult<(Offset, Offset)> {
    let (low, high) = client.fetch_watermarks(topic, partition as i32, timeout)?;
    Ok((low.max(0) as Offset, high.max(0) as Offset))
}
