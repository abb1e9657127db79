//! A log with something of a test's own between it and its transactors.

use almanac_event_log::{
    Append, EventLog, GroupDescription, GroupMember, GroupNames, GroupOptions, InputPosition,
    Isolation, LogError, LogReader, LogResult, Offset, Ownership, TopicDescription, TopicSpec,
    Transactor,
};
use async_trait::async_trait;
use std::{pin::Pin, sync::Arc};

/// Stands for the log's own `append`, which it is given.
pub type Appends = Box<dyn Fn(Arc<dyn EventLog>, Vec<Append>) -> Appended + Send + Sync>;
pub type Appended = Pin<Box<dyn Future<Output = LogResult<Vec<Option<Offset>>>> + Send>>;

pub struct Interposed<F> {
    inner: Arc<dyn EventLog>,
    appends: Option<Appends>,
    /// Makes of each transactor of the log the one that is handed out.
    between: F,
}

impl<F> Interposed<F>
where
    F: Fn(Box<dyn Transactor>) -> Box<dyn Transactor> + Send + Sync + 'static,
{
    pub fn new(inner: Arc<dyn EventLog>, between: F) -> Self {
        Self { inner, appends: None, between }
    }

    pub fn with_appends(self, appends: Appends) -> Self {
        Self { appends: Some(appends), ..self }
    }
}

/// A log that writes what belongs into a transaction without one, and commits no position: for
/// measuring what transactions cost.
pub fn without_transactions(inner: Arc<dyn EventLog>) -> Arc<dyn EventLog> {
    let log = inner.clone();
    Arc::new(Interposed::new(inner, move |_| Box::new(Plain(log.clone()))))
}

struct Plain(Arc<dyn EventLog>);

#[async_trait]
impl Transactor for Plain {
    async fn commit(
        &mut self,
        appends: Vec<Append>,
        _: InputPosition,
    ) -> LogResult<Vec<Option<Offset>>> {
        self.0.append(appends).await
    }
}

#[async_trait]
impl<F> EventLog for Interposed<F>
where
    F: Fn(Box<dyn Transactor>) -> Box<dyn Transactor> + Send + Sync + 'static,
{
    async fn died(&self) -> LogError {
        self.inner.died().await
    }

    async fn ensure_topics(&self, topics: &[TopicSpec]) -> LogResult<()> {
        self.inner.ensure_topics(topics).await
    }

    async fn topic(&self, topic: &str) -> LogResult<TopicDescription> {
        self.inner.topic(topic).await
    }

    async fn append(&self, appends: Vec<Append>) -> LogResult<Vec<Option<Offset>>> {
        match &self.appends {
            Some(between) => between(self.inner.clone(), appends).await,
            None => self.inner.append(appends).await,
        }
    }

    async fn end(&self, topic: &str, partition: u32, isolation: Isolation) -> LogResult<Offset> {
        self.inner.end(topic, partition, isolation).await
    }

    async fn start(&self, topic: &str, partition: u32) -> LogResult<Offset> {
        self.inner.start(topic, partition).await
    }

    async fn offsets_at(&self, topic: &str, time_ms: i64) -> LogResult<Vec<Offset>> {
        self.inner.offsets_at(topic, time_ms).await
    }

    async fn groups(&self, at_most: usize) -> LogResult<GroupNames> {
        self.inner.groups(at_most).await
    }

    async fn describe_groups(
        &self,
        names: &[String],
        places: &[(Arc<str>, u32)],
    ) -> LogResult<Vec<GroupDescription>> {
        self.inner.describe_groups(names, places).await
    }

    async fn read(&self, topic: &str, from: &[(u32, Offset)]) -> LogResult<Box<dyn LogReader>> {
        self.inner.read(topic, from).await
    }

    async fn read_to(
        &self,
        topic: &str,
        partition: u32,
        from: Offset,
        to: Offset,
    ) -> LogResult<Box<dyn LogReader>> {
        self.inner.read_to(topic, partition, from, to).await
    }

    async fn join(&self, options: GroupOptions) -> LogResult<Box<dyn GroupMember>> {
        self.inner.join(options).await
    }

    async fn committed(&self, ownership: &Ownership) -> LogResult<Option<Offset>> {
        self.inner.committed(ownership).await
    }

    async fn transactor(
        &self,
        transactional_id: &str,
        ownership: &Ownership,
    ) -> LogResult<Box<dyn Transactor>> {
        let transactor = self.inner.transactor(transactional_id, ownership).await?;
        Ok((self.between)(transactor))
    }

    fn cut_off(&self) -> Option<std::time::Duration> {
        self.inner.cut_off()
    }
}
