//! The owner of a partition of a projection's topic: folds it, in order, into the read store.
//!
//! Order of effects: rows, then the change feed, then the position. The group only assigns; the
//! position is kept with the rows, and timestamps derived from positions keep a stale owner from
//! moving a row back.

use crate::{
    announce::{self, Through},
    metrics::{PartitionLabels, ProjectorMetrics},
    positions::{self, Position},
    projection::{Folded, Projection},
};
use almanac_event_log::{
    Append, Durability, Headers, Offset, ReadBatch, ReadLimit, Record, Retention, StoredRecord,
    TopicId, TopicSpec,
};
use almanac_processor::{Owned, Role, RoleError};
use almanac_read_store::{Change, ReadStore, Slice, StoreError, Write, timestamp};
use almanac_schemas::{
    CONSISTENCY_TOKEN, Codec,
    projections::{CHANGES, PARTITIONS_CHANGED, PartitionsChangedRecord},
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::{collections::HashSet, sync::Arc, time::Duration};

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

#[async_trait]
impl Role for Projector {
    async fn own(&self, owned: Owned) -> Result<(), RoleError> {
        let partition = owned.partition();
        let topic_id = owned.log.topic(&self.topics.source).await?.id;
        let saved =
            positions::read(&*self.store, self.projection.name(), self.projection.version())
                .await
                .map_err(|error| RoleError::other(&error))?;
        let saved = saved.get(&partition);
        let token = saved.and_then(|saved| saved.consistency_token.clone());
        let from = match saved {
            Some(saved) if saved.topic_id != topic_id => {
                return Err(RoleError::Other(format!(
                    "the tables were folded from topic {} with id {}, which now has id {topic_id}; drop the tables to fold them anew",
                    self.topics.source, saved.topic_id
                )));
            }
            Some(saved) => saved.next_offset,
            None => owned.log.start(&self.topics.source, partition).await?,
        };
        let parked = self.load_parked(partition).await?;
        let reader = owned.log.read(&self.topics.source, &[(partition, from)]).await?;
        tracing::info!(
            projection = self.projection.name(),
            partition,
            from,
            parked = parked.len(),
            "folding a partition"
        );
        let known = HashSet::new();
        Run { projector: self, owned, topic_id, parked, known, token, told: None }.run(reader).await
    }
}

impl Projector {
    async fn load_parked(&self, partition: u32) -> Result<HashSet<Vec<u8>>, RoleError> {
        let prefix = parked_prefix(partition);
        let slice = Slice::prefix(&prefix);
        let rows = self
            .store
            .slice(self.projection.parked(), self.projection.name(), &slice)
            .await
            .map_err(|error| RoleError::other(&error))?;
        Ok(rows.iter().map(|row| row.clustering.as_bytes()[prefix.len()..].to_vec()).collect())
    }
}

fn parked_prefix(partition: u32) -> String {
    format!("{partition:06}/")
}

struct Run<'a> {
    projector: &'a Projector,
    owned: Owned,
    topic_id: TopicId,
    parked: HashSet<Vec<u8>>,
    /// Rows of tables that are sets, by table, partition and clustering key: written once by a run.
    known: HashSet<(String, String, String)>,
    /// Position of the newest command whose event was folded.
    token: Option<String>,
    /// What readers were told of it.
    told: Option<String>,
}

/// Rows remembered before the memory is emptied: the days of ten years are 3,650.
const MAX_KNOWN: usize = 10_000;

impl Run<'_> {
    async fn run(
        mut self,
        mut reader: Box<dyn almanac_event_log::LogReader>,
    ) -> Result<(), RoleError> {
        let options = &self.projector.options;
        let limit = ReadLimit { records: options.batch_events, bytes: options.batch_bytes };
        loop {
            let batch = tokio::select! {
                () = self.owned.cancelled.cancelled() => return Ok(()),
                batch = reader.next(limit, Duration::from_secs(5)) => batch?,
            };
            self.measure(&batch);
            let Some(last) = batch.records.last() else { continue };
            let next_offset = last.offset + 1;
            self.fold(&batch.records, next_offset).await?;
        }
    }

    async fn fold(
        &mut self,
        records: &[StoredRecord],
        next_offset: Offset,
    ) -> Result<(), RoleError> {
        let mut folded = Folded::default();
        for record in records {
            if let Some(token) = record.record.headers.get_str(CONSISTENCY_TOKEN) {
                self.token = Some(token.to_owned());
            }
            if self.parked.contains(record.record.key.as_ref()) {
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
                };
                announce::records(&**projection, &changed, &folded_through)
            }
        };
        let store = &self.projector.store;
        let failed = |error: StoreError| RoleError::other(&error);
        store.write(folded.index).await.map_err(failed)?;
        store.write(folded.own).await.map_err(failed)?;
        self.announce(&announcements).await?;
        self.told.clone_from(&self.token);
        let consistency_token = self.token.clone();
        let position = Position { topic_id: self.topic_id, next_offset, consistency_token };
        let write = positions::write(
            projection.name(),
            projection.version(),
            self.owned.partition(),
            &position,
        )
        .map_err(failed)?;
        store.write(vec![write]).await.map_err(failed)
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
        let key = String::from_utf8_lossy(&record.record.key).replace('\0', "\u{fffd}");
        tracing::error!(
            topic = %record.topic, partition = record.partition, offset = record.offset, key,
            reason, "parking a key whose event cannot be folded"
        );
        self.parked.insert(record.record.key.to_vec());
        if self.parked.len() > self.projector.options.max_parked {
            return Err(RoleError::Other(format!(
                "more than {} keys of {}/{} are parked, the last at offset {}: {reason}",
                self.projector.options.max_parked, record.topic, record.partition, record.offset
            )));
        }
        let body = serde_json::json!({ "offset": record.offset, "reason": reason });
        Ok(Write {
            table: self.projector.projection.parked().clone(),
            change: Change::Put {
                partition: self.projector.projection.name().to_owned(),
                clustering: format!("{}{key}", parked_prefix(record.partition)),
                timestamp: timestamp(record.offset, 0, true),
                body: body.to_string().into(),
            },
        })
    }

    fn drop_known(&mut self, writes: &mut Vec<Write>) {
        if self.known.len() > MAX_KNOWN {
            self.known.clear();
        }
        let projection = &self.projector.projection;
        writes.retain(|write| match &write.change {
            Change::Put { partition, clustering, .. } if projection.is_a_set(&write.table) => {
                let table = write.table.name().to_owned();
                self.known.insert((table, partition.clone(), clustering.clone()))
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

    fn measure(&self, batch: &ReadBatch) {
        let labels = PartitionLabels {
            projection: self.projector.projection.name(),
            partition: self.owned.partition(),
        };
        let metrics = &self.projector.metrics;
        metrics.events.get_or_create(&labels).inc_by(batch.records.len() as u64);
        if let Some(last) = batch.records.last() {
            metrics.position.get_or_create(&labels).set(last.offset as i64 + 1);
        }
        if !batch.records.is_empty() || !batch.at_end.is_empty() {
            let now = jiff::Timestamp::now().as_second();
            metrics.last_progress.get_or_create(&labels).set(now);
        }
        metrics.parked.get_or_create(&labels).set(self.parked.len() as i64);
    }
}
