//! The owner of a partition of a projection's topic: folds it, in order, into the read store.
//!
//! Order of effects: rows, then the change feed, then the position. The group only assigns; the
//! position is kept with the rows, and timestamps derived from positions keep a stale owner from
//! moving a row back.

use crate::{
    announce::{self, Through},
    metrics::{PartitionLabels, PartitionMetrics, ProjectorMetrics},
    parked,
    positions::{self, Position},
    projection::{Folded, Projection},
};
use almanac_event_log::{
    Append, Durability, Excerpt, Headers, Isolation, LogReader, Offset, ReadBatch, ReadLimit,
    Record, Retention, StoredRecord, TopicId, TopicSpec,
};
use almanac_processor::{Owned, Role, RoleError};
use almanac_read_store::{Change, ReadStore, StoreError, Write};
use almanac_schemas::{
    CONSISTENCY_TOKEN, Codec,
    projections::{CHANGES, PARTITIONS_CHANGED, PartitionsChangedRecord},
};
use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProjectorOptions {
    /// Events and bytes folded at once.
    pub batch_events: usize,
    pub batch_bytes: usize,
    /// More parked keys than this in a partition stop the projection: then it is not single
    /// events that are wrong.
    pub max_parked: usize,
}

impl Default for ProjectorOptions {
    fn default() -> Self {
        Self { batch_events: 2_000, batch_bytes: 2 << 20, max_parked: 1_000 }
    }
}

/// The topics, with the installation's prefix.
#[derive(Clone)]
pub struct Topics {
    source: Arc<str>,
    changes: Arc<str>,
    partitions: u32,
}

impl Topics {
    pub fn new(prefix: &str, projection: &dyn Projection, partitions: u32) -> Self {
        Self {
            source: format!("{prefix}{}", projection.topic()).into(),
            changes: format!("{prefix}{CHANGES}").into(),
            partitions,
        }
    }

    /// What is folded.
    pub fn source(&self) -> &str {
        &self.source
    }

    pub fn changes(&self) -> &Arc<str> {
        &self.changes
    }

    pub fn specs(&self) -> Vec<TopicSpec> {
        vec![TopicSpec {
            name: self.changes.to_string(),
            partitions: self.partitions,
            retention: Retention::For(Duration::from_secs(24 * 3600)),
            // Only derived from what is durable already.
            durability: Durability::Buffered,
        }]
    }
}

pub struct Projector {
    pub topics: Topics,
    pub options: ProjectorOptions,
    pub store: Arc<dyn ReadStore>,
    pub codec: Arc<Codec>,
    pub projection: Arc<dyn Projection>,
    pub metrics: ProjectorMetrics,
}

impl Projector {
    /// Creates the tables.
    pub async fn prepare(&self) -> Result<(), StoreError> {
        self.store.create_table(&positions::table()?).await?;
        for table in self.projection.tables() {
            self.store.create_table(table).await?;
        }
        Ok(())
    }
}

fn store_failed(error: StoreError) -> RoleError {
    match error {
        StoreError::Stopped { .. } => RoleError::Final(error.to_string()),
        error => RoleError::other(&error),
    }
}

#[async_trait]
impl Role for Projector {
    async fn own(&self, owned: Owned) -> Result<(), RoleError> {
        let partition = owned.partition();
        let labels = PartitionLabels { projection: self.projection.name(), partition };
        let metrics = self.metrics.own(labels, &owned.cancelled);
        let topic_id = owned.log.topic(&self.topics.source).await?.id;
        // Readers have to know whether what they are told of is in the tables that they read.
        let tables = self.store.table_id(&positions::table().map_err(store_failed)?).await;
        let tables = tables.map_err(store_failed)?.to_string();
        let saved =
            positions::read(&*self.store, self.projection.name(), self.projection.version());
        let saved = saved.await.map_err(store_failed)?.remove(&partition);
        let from = match &saved {
            Some(saved) if saved.topic_id != topic_id => {
                return Err(RoleError::Other(format!(
                    "the tables were folded from topic {} with id {}, which now has id {topic_id}; drop the tables to fold them anew",
                    self.topics.source, saved.topic_id
                )));
            }
            Some(saved) => saved.next_offset,
            None => owned.log.start(&self.topics.source, partition).await?,
        };
        let parked = parked::of_partition(&*self.store, &*self.projection, partition).await;
        let parked = parked.map_err(store_failed)?;
        metrics.update(|progress| {
            progress.resume(from, saved.as_ref().and_then(|saved| saved.moved_at_ms));
            progress.parked = parked.len();
        });
        let reader = owned.log.read(&self.topics.source, &[(partition, from)]).await?;
        tracing::info!(
            projection = self.projection.name(),
            partition,
            from,
            parked = parked.len(),
            "folding a partition"
        );
        let token = saved.and_then(|saved| saved.consistency_token);
        let (told, known, written) = (None, HashMap::new(), from);
        let run = Run {
            projector: self,
            owned,
            topic_id,
            tables,
            parked,
            known,
            token,
            told,
            written,
            metrics,
        };
        run.run(reader).await
    }
}

struct Run<'a> {
    projector: &'a Projector,
    owned: Owned,
    topic_id: TopicId,
    /// Id of the tables that are written.
    tables: String,
    /// Names of the keys that are set aside.
    parked: HashSet<String>,
    /// Rows that are written again and again, by table, partition and clustering key: their bodies
    /// as this run wrote them last.
    known: HashMap<(String, String, String), Bytes>,
    /// Position of the newest command whose event was folded.
    token: Option<String>,
    /// What readers were told of it.
    told: Option<String>,
    /// The position as it is saved.
    written: Offset,
    metrics: PartitionMetrics,
}

/// Rows remembered before the memory is emptied: the days of ten years are 3,650.
const MAX_KNOWN: usize = 10_000;
/// How long a reader waits for news.
const WAIT: Duration = Duration::from_secs(5);
/// Once nothing came for so long, the position moves over what follows the last event: marks of
/// transactions. Readers hold it against the end of the topic.
const REST: Duration = Duration::from_millis(100);
/// How often the end of the topic is asked for.
const LOOK: Duration = Duration::from_secs(5);
/// Of a fault, in the log.
const REASON: usize = 500;

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

impl Run<'_> {
    async fn run(mut self, mut reader: Box<dyn LogReader>) -> Result<(), RoleError> {
        let options = &self.projector.options;
        let limit = ReadLimit { records: options.batch_events, bytes: options.batch_bytes };
        let mut next_look = Instant::now();
        // Where the reader stands at the end of the topic, if that is behind what is saved.
        let mut at_end: Option<Offset> = None;
        loop {
            if next_look <= Instant::now() {
                self.look_at_end().await;
                next_look = Instant::now() + LOOK;
            }
            let wait = if at_end.is_some() { REST } else { WAIT };
            let batch = tokio::select! {
                () = self.owned.cancelled.cancelled() => return Ok(()),
                batch = reader.next(limit, wait) => batch?,
            };
            if let Some(last) = batch.records.last() {
                let next_offset = last.offset + 1;
                self.fold_batch(&batch, next_offset).await?;
                at_end = None;
            } else if batch.at_end.is_empty()
                && let Some(position) = at_end.take()
            {
                self.save(position).await?;
            }
            if !batch.at_end.is_empty()
                && let Some(position) = reader.position(0)
                && position > self.written
            {
                // Everything below is folded, or nothing to fold.
                self.metrics.update(|progress| progress.reach(position, None, now_ms()));
                at_end = Some(position);
            }
        }
    }

    /// For the metrics alone: an outage is noticed by the reader.
    async fn look_at_end(&self) {
        let (topic, partition) = (&self.projector.topics.source, self.owned.partition());
        match self.owned.log.end(topic, partition, Isolation::Uncommitted).await {
            Ok(end) => self.metrics.update(|progress| progress.see_end(end, now_ms())),
            Err(error) => tracing::debug!(%error, %topic, partition, "the end is not known"),
        }
    }

    async fn fold_batch(
        &mut self,
        batch: &ReadBatch,
        next_offset: Offset,
    ) -> Result<(), RoleError> {
        let times = batch.records.iter().map(|record| record.record.timestamp_ms);
        let (oldest, newest) = (times.clone().next(), times.last());
        self.metrics.update(|progress| {
            progress.see_end(next_offset, now_ms());
            if let Some(oldest) = oldest {
                progress.see_event(oldest);
            }
        });
        self.fold(&batch.records, next_offset).await?;
        let left = newest.filter(|_| batch.at_end.is_empty());
        let parked = self.parked.len();
        self.metrics.folded(batch.records.len());
        self.metrics.update(|progress| {
            progress.reach(next_offset, left, now_ms());
            progress.parked = parked;
        });
        Ok(())
    }

    async fn fold(
        &mut self,
        records: &[StoredRecord],
        next_offset: Offset,
    ) -> Result<(), RoleError> {
        let mut folded = Folded::default();
        for record in records {
            // Every event is of somebody: one without a key is a stranger's, and there is nothing to park.
            if record.record.key.is_empty() {
                self.owned.pass_over(record);
                continue;
            }
            if let Some(token) = record.record.headers.get_str(CONSISTENCY_TOKEN) {
                self.token = Some(token.to_owned());
            }
            if !self.parked.is_empty() && self.parked.contains(&*parked::name(&record.record.key)) {
                continue;
            }
            match self.fold_one(record).await? {
                Ok(one) => {
                    folded.index.extend(one.index);
                    folded.own.extend(one.own);
                }
                Err(reason) => folded.index.push(self.park(record, &reason)?),
            }
        }
        self.drop_known(&mut folded.index);
        let projection = &self.projector.projection;
        let is_news = self.told != self.token;
        let changed = announce::changes(&**projection, &folded);
        let announcements = match changed.is_empty() && !is_news {
            true => Vec::new(),
            false => {
                let folded_through = Through {
                    topic: &self.projector.topics.source,
                    partition: self.owned.partition(),
                    position: next_offset,
                    token: self.token.as_deref(),
                    tables: &self.tables,
                };
                announce::records(&**projection, &changed, &folded_through)
            }
        };
        let store = &self.projector.store;
        store.write(folded.index).await.map_err(store_failed)?;
        store.write(folded.own).await.map_err(store_failed)?;
        self.announce(&announcements).await?;
        self.told.clone_from(&self.token);
        self.save(next_offset).await
    }

    /// Everything below `next_offset` is folded and told.
    async fn save(&mut self, next_offset: Offset) -> Result<(), RoleError> {
        let position = Position {
            topic_id: self.topic_id,
            next_offset,
            consistency_token: self.token.clone(),
            moved_at_ms: Some(now_ms()),
        };
        let projection = &self.projector.projection;
        let (name, version) = (projection.name(), projection.version());
        let write = positions::write(name, version, self.owned.partition(), &position);
        let saved = match write {
            Ok(write) => self.projector.store.write(vec![write]).await,
            Err(error) => Err(error),
        };
        saved.map_err(store_failed)?;
        self.written = next_offset;
        Ok(())
    }

    /// The inner error is the event's fault, the outer one an outage.
    async fn fold_one(&self, record: &StoredRecord) -> Result<Result<Folded, String>, RoleError> {
        let Some(value) = &record.record.value else {
            return Ok(Err("a fact cannot be a tombstone".to_owned()));
        };
        let decoded = match self.projector.codec.decode(value).await {
            Ok(decoded) => decoded,
            Err(error) if error.is_outage() => return Err(RoleError::other(&error)),
            Err(error) => return Ok(Err(error.to_string())),
        };
        let projection = &self.projector.projection;
        let folded = match projection.fold(&decoded, record.partition, record.offset) {
            Ok(folded) => folded,
            Err(error) => return Ok(Err(error.to_string())),
        };
        // A row that the store never takes would hold up all other keys.
        let mut writes = folded.index.iter().chain(&folded.own);
        match writes.try_for_each(Write::check) {
            Ok(()) => Ok(Ok(folded)),
            Err(error) => Ok(Err(error.to_string())),
        }
    }

    /// Sets a key aside: its later events are passed over, others go on.
    fn park(&mut self, record: &StoredRecord, reason: &str) -> Result<Write, RoleError> {
        let shown = Excerpt::of(reason).at_most(REASON);
        tracing::error!(
            topic = %record.topic, partition = record.partition, offset = record.offset,
            key = %Excerpt::of(&record.record.key), reason = %shown,
            "parking a key whose event cannot be folded"
        );
        self.parked.insert(parked::name(&record.record.key).into_owned());
        if self.parked.len() > self.projector.options.max_parked {
            return Err(RoleError::Other(format!(
                "more than {} keys of {}/{} are parked, the last at offset {}: {shown}",
                self.projector.options.max_parked, record.topic, record.partition, record.offset
            )));
        }
        Ok(parked::write(&*self.projector.projection, record, reason))
    }

    /// Drops writes of what stands in its row already.
    fn drop_known(&mut self, writes: &mut Vec<Write>) {
        if self.known.len() > MAX_KNOWN {
            self.known.clear();
        }
        let projection = &self.projector.projection;
        writes.retain(|write| match &write.change {
            Change::Put { partition, clustering, body, .. }
                if projection.is_repeated(&write.table) =>
            {
                let table = write.table.name().to_owned();
                let row = (table, partition.clone(), clustering.clone());
                self.known.insert(row, body.clone()).as_ref() != Some(body)
            }
            _ => true,
        });
    }

    async fn announce(&self, changes: &[PartitionsChangedRecord]) -> Result<(), RoleError> {
        let mut appends = Vec::with_capacity(changes.len());
        for changed in changes {
            let value = self.projector.codec.encode(PARTITIONS_CHANGED, changed);
            let record = Record {
                key: changed.projection.clone().into(),
                value: Some(value.map_err(|error| RoleError::other(&error))?),
                headers: Headers::default(),
                timestamp_ms: jiff::Timestamp::now().as_millisecond(),
            };
            let topic = self.projector.topics.changes.clone();
            appends.push(Append { topic, partition: self.owned.partition(), record });
        }
        if !appends.is_empty() {
            self.owned.log.append(appends).await?;
        }
        Ok(())
    }
}
