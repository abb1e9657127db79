//! The owner of a partition of one of a projection's topics: folds it, in order, into the read store.
//!
//! Order of effects: rows, then the change feed, then the position. The group only assigns; the
//! position is kept with the rows, and timestamps derived from positions keep a stale owner from
//! moving a row back.

use crate::{
    faults::Failed,
    mender::Mender,
    metrics::{PartitionLabels, PartitionMetrics, ProjectorMetrics},
    parking::REASON,
    projection::Projection,
    rebuild::{self, Rebuilding},
    run::Run,
};
use almanac_errors::chain;
use almanac_event_log::{Durability, Excerpt, Isolation, Retention, TopicSpec};
use almanac_operations::Operations;
use almanac_processor::{Owned, Role, RoleError};
use almanac_read_store::{ReadStore, StoreError};
use almanac_schemas::{Codec, projections::CHANGES};
use almanac_tables::{
    Source,
    down::{self, Down},
    parked, positions, prepare,
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProjectorOptions {
    /// Events and bytes folded at once.
    pub batch_events: usize,
    pub batch_bytes: usize,
    /// The same of a rebuild without a limit, until it has caught up.
    pub load_events: usize,
    pub load_bytes: usize,
    /// What becomes of an event that cannot be folded.
    pub recovery: Recovery,
    /// The same for single projections, by name.
    pub recovery_of: BTreeMap<String, Recovery>,
    /// How often an event is tried whose schema is not known, and the pause between two tries: the
    /// registry may learn of it a moment later.
    pub schema_attempts: u32,
    #[serde(with = "humantime_serde")]
    pub schema_pause: Duration,
    /// More parked keys than this in a partition stop the projection: then it is not single
    /// events that are wrong.
    pub max_parked: usize,
    /// The same of keys that are parked within one minute.
    pub max_parked_per_minute: usize,
    /// How often an event is tried again that stopped the projection.
    #[serde(with = "humantime_serde")]
    pub stopped_retry: Duration,
    /// How long tables stay beside those that reads were switched to, or back to.
    #[serde(with = "humantime_serde")]
    pub keep_replaced: Duration,
}

/// What becomes of an event that cannot be folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recovery {
    /// Its key is set aside, and others go on.
    Park,
    /// The projection stands still at it, and tries it again.
    Stop,
}

impl ProjectorOptions {
    pub(crate) fn recovery_of(&self, projection: &str) -> Recovery {
        self.recovery_of.get(projection).copied().unwrap_or(self.recovery)
    }
}

impl Default for ProjectorOptions {
    fn default() -> Self {
        Self {
            batch_events: 2_000,
            batch_bytes: 2 << 20,
            load_events: 10_000,
            load_bytes: 8 << 20,
            recovery: Recovery::Park,
            recovery_of: BTreeMap::new(),
            schema_attempts: 3,
            schema_pause: Duration::from_millis(100),
            max_parked: 1_000,
            max_parked_per_minute: 100,
            stopped_retry: Duration::from_secs(5),
            keep_replaced: Duration::from_secs(24 * 3600),
        }
    }
}

/// The topics, with the installation's prefix.
#[derive(Clone)]
pub struct Topics {
    source: Arc<str>,
    changes: Arc<str>,
}

impl Topics {
    pub fn new(prefix: &str, source: &Source) -> Self {
        Self {
            source: format!("{prefix}{}", source.topic).into(),
            changes: format!("{prefix}{CHANGES}").into(),
        }
    }

    /// What is folded.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Where readers are told of it.
    pub(crate) fn changes(&self) -> &Arc<str> {
        &self.changes
    }
}

/// The topic that projectors tell readers on what they changed.
pub fn changes(prefix: &str, partitions: u32) -> TopicSpec {
    TopicSpec {
        name: format!("{prefix}{CHANGES}"),
        partitions,
        retention: Retention::For(Duration::from_secs(24 * 3600)),
        // Only derived from what is durable already.
        durability: Durability::Buffered,
    }
}

pub struct Projector {
    pub source: Source,
    pub topics: Topics,
    pub options: ProjectorOptions,
    pub store: Arc<dyn ReadStore>,
    pub codec: Arc<Codec>,
    pub projection: Arc<dyn Projection>,
    pub metrics: ProjectorMetrics,
    /// Of tables that are rebuilt, or were.
    pub rebuilding: Option<Arc<Rebuilding>>,
    /// What operators want done about keys that are set aside.
    pub operations: Option<Arc<Operations>>,
}

impl Projector {
    /// What the names of all topics begin with.
    pub(crate) fn prefix(&self) -> &str {
        self.topics.source.strip_suffix(self.source.topic).unwrap_or_default()
    }

    /// Creates the tables.
    pub async fn prepare(&self) -> Result<(), StoreError> {
        prepare(&*self.store, &*self.projection).await
    }
}

/// How long saying why a partition stands still may take.
const SAYING: Duration = Duration::from_secs(2);

pub(crate) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

#[async_trait]
impl Role for Projector {
    async fn own(&self, owned: Owned) -> Result<(), RoleError> {
        let partition = owned.partition();
        let Source { projection, topic, edition } = self.source;
        let generation = edition.generation;
        let labels = PartitionLabels { projection, topic, partition, generation };
        let metrics = self.metrics.own(labels, &owned.cancelled);
        let ended = self.fold_partition(owned, &metrics).await;
        if let Err(failed) = &ended {
            metrics.update(|progress| progress.down = true);
            self.note_down(partition, failed).await;
        }
        ended.map_err(RoleError::from)
    }
}

impl Projector {
    async fn fold_partition(&self, owned: Owned, metrics: &PartitionMetrics) -> Result<(), Failed> {
        let partition = owned.partition();
        let Source { projection, topic, .. } = self.source;
        let described = owned.log.topic(&self.topics.source).await?;
        let topic_id = described.id;
        // Readers have to know whether what they are told of is in the tables that they read.
        let tables = self.store.table_id(&positions::table()?).await?.to_string();
        let saved = positions::of_partition(&*self.store, &self.source, partition).await?;
        let from = match &saved {
            Some(saved) if saved.topic_id != topic_id => {
                return Err(Failed::Foreign(format!(
                    "the tables were folded from topic {} with id {}, which now has id {topic_id}; drop the tables to fold them anew",
                    self.topics.source, saved.topic_id
                )));
            }
            Some(saved) => saved.next_offset,
            None => owned.log.start(&self.topics.source, partition).await?,
        };
        let known = parked::of_partition(&*self.store, &self.source, partition).await?;
        let known = known.into_iter().map(|one| (one.name.clone(), one));
        let (parked, marks): (HashMap<_, _>, HashMap<_, _>) =
            known.partition(|(_, one)| one.is_set_aside());
        let down = down::of_partition(&*self.store, &self.source, partition).await?;
        let down = down.filter(|down| from <= down.position);
        metrics.update(|progress| {
            progress.resume(from, saved.as_ref().and_then(|saved| saved.moved_at_ms));
            progress.parked = parked.len();
            progress.down = down.is_some();
        });
        let reader = owned.log.read(&self.topics.source, &[(partition, from)]).await?;
        tracing::debug!(
            projection,
            topic,
            partition,
            from,
            parked = parked.len(),
            "folding a partition"
        );
        let is_resumed = saved.is_some() && self.rebuilding.is_none();
        let moved_at_ms = saved.as_ref().and_then(|saved| saved.moved_at_ms).unwrap_or_default();
        let digest = saved.as_ref().and_then(|saved| saved.digest.clone());
        let repairs = saved.as_ref().map_or(0, |saved| saved.repairs);
        let token = saved.and_then(|saved| saved.consistency_token);
        // Who owned it before may have folded further than was saved, and no further than this.
        let end = owned.log.end(&self.topics.source, partition, Isolation::Uncommitted).await?;
        let partitions = described.partitions * self.projection.topics().len() as u32;
        let log = owned.log.clone();
        let run = Run {
            projector: self,
            owned,
            topic_id,
            tables,
            parked,
            marks,
            known: HashMap::new(),
            token,
            told: None,
            written: from,
            metrics,
            end,
            partitions,
            digest,
            held_for: None,
            is_resumed,
            moved_at_ms,
            repairs,
            down,
            stopped: None,
            is_loading: false,
            mender: Mender::new(self.operations.as_ref()),
        };
        let leads = partition == 0 && self.projection.topics().first() == Some(&topic);
        match self.rebuilding.as_ref().filter(|_| leads) {
            None => run.run(reader).await,
            Some(rebuilding) => tokio::select! {
                ended = run.run(reader) => ended,
                ended = rebuild::lead(self, rebuilding, &*log) => Ok(ended?),
            },
        }
    }

    /// Says why the partition stands still, where that can be said.
    async fn note_down(&self, partition: u32, failed: &Failed) {
        let saying = async {
            let store = &*self.store;
            let saved = positions::of_partition(store, &self.source, partition).await?;
            let down = Down {
                category: failed.category().to_owned(),
                since_ms: now_ms(),
                position: saved.map_or(0, |saved| saved.next_offset),
                offset: None,
                key: None,
                detail: Excerpt::of(&chain(failed).to_string()).at_most(REASON).to_string(),
            };
            let earlier = down::of_partition(store, &self.source, partition).await?;
            // What an event did stays the reason.
            if earlier.is_some_and(|earlier| down.position <= earlier.position) {
                return Ok(());
            }
            store.write(vec![down::write(&self.source, partition, Some(&down), now_ms())?]).await
        };
        let said = tokio::time::timeout(SAYING, saying).await;
        if let Ok(Err(error)) = said {
            tracing::debug!(error = %chain(&error), partition, "it cannot be kept why a partition stands still");
        }
    }
}
