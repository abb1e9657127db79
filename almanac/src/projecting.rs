//! Projectors in this process, as operators decide: of the live tables of each projection, of those that are
//! rebuilt beside them, and of those that are kept for going back. They are started and stopped while the
//! process runs; tables that nobody wants any more are dropped.

use crate::{config::Config, engine::Opened};
use almanac_command_api::{Only, ParkedFilter, ParkedKeys, Parts};
use almanac_domain::operations::Target;
use almanac_edge::Problem;
use almanac_event_log::{EventLog, partitioner::partition_of};
use almanac_operations::{Known, Operations};
use almanac_processor::ProcessorOptions;
use almanac_projector::{
    Projection, Projector, ProjectorMetrics, ProjectorOptions, Rebuilding, Topics,
};
use almanac_query_api::ProjectionNames;
use almanac_read_store::{ReadStore, StoreResult};
use almanac_schemas::{Codec, json::mending::PROVIDERS};
use almanac_tables::{Edition, Source, parked};
use async_trait::async_trait;
use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
    time::Duration,
};
use tokio::{runtime::Handle, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

/// Readers that have not heard of a switch yet read tables for so long after the last word for them.
const GRACE: Duration = Duration::from_secs(10);
/// Between two tries to drop tables.
const LOOK: Duration = Duration::from_secs(1);

type Processor = dyn Fn(&str, &str) -> ProcessorOptions + Send + Sync;
/// Which tables: of a projection, by name, and of a generation.
type Key = (&'static str, u32);

pub(crate) struct Projecting {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) store: Arc<dyn ReadStore>,
    pub(crate) codec: Arc<Codec>,
    pub(crate) operations: Arc<Operations>,
    pub(crate) prefix: String,
    pub(crate) options: ProjectorOptions,
    pub(crate) metrics: ProjectorMetrics,
    pub(crate) on: Handle,
    /// From the name of a role and its input.
    pub(crate) processor: Box<Processor>,
}

/// Makes the tables that are filled, so that the query side may start before any projector.
pub(crate) async fn prepare(store: &dyn ReadStore, known: &Known) -> StoreResult<()> {
    for projection in almanac_projector::all()? {
        for generation in known.filled(projection.name(), projection.version()) {
            if let Some(projection) = almanac_projector::open(projection.name(), generation)? {
                almanac_tables::prepare(store, &*projection).await?;
            }
        }
    }
    Ok(())
}

/// What operators are told of.
pub(crate) fn names() -> StoreResult<Vec<ProjectionNames>> {
    let all = almanac_projector::all()?;
    let names = all.iter().map(|one| ProjectionNames {
        name: one.name(),
        fold: one.version(),
        topics: one.topics(),
    });
    Ok(names.collect())
}

/// Keys that the tables have set aside, and where events lie, for those who want rows mended.
pub(crate) struct SetAside {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) prefix: String,
    pub(crate) store: Arc<dyn ReadStore>,
    pub(crate) operations: Arc<Operations>,
    pub(crate) projections: Vec<ProjectionNames>,
}

#[async_trait]
impl ParkedKeys for SetAside {
    async fn matching(&self, filter: &ParkedFilter) -> Result<Vec<Target>, Problem> {
        let known = self.operations.known();
        let filter = almanac_query_api::ParkedFilter {
            projection: filter.projection.as_deref(),
            reason: filter.reason.as_deref(),
            key: filter.key.as_deref(),
        };
        let found =
            almanac_query_api::parked_keys(&*self.store, &known, &self.projections, &filter).await;
        let found = found.map_err(|error| Problem::unavailable("the read store", &error))?;
        let target = |one: almanac_query_api::SetAside| Target {
            projection: one.projection.to_owned(),
            edition: one.edition.to_string(),
            topic: one.parked.topic.clone(),
            partition: one.parked.partition,
            offset: one.parked.offset(),
            source: None,
            key: one.parked.name,
        };
        Ok(found.into_iter().map(target).collect())
    }
}

#[async_trait]
impl Parts for SetAside {
    async fn parts(&self, projection: &str, only: &Only) -> Result<Vec<Target>, Problem> {
        let Some(found) = self.projections.iter().find(|one| one.name == projection) else {
            return Ok(Vec::new());
        };
        let (key, source) = match only {
            Only::Key(key) => (parked::name(key.as_bytes()).into_owned(), None),
            Only::Provider(name) => (String::new(), Some(format!("{PROVIDERS}{name}"))),
            Only::Partition(_) => (String::new(), None),
        };
        let mut targets = Vec::new();
        for topic in found.topics {
            let described = self.log.topic(&format!("{}{topic}", self.prefix)).await;
            let described =
                described.map_err(|error| Problem::unavailable("the event log", &error))?;
            let partitions = match only {
                Only::Key(key) => {
                    let partition = partition_of(key.as_bytes(), described.partitions);
                    partition..partition + 1
                }
                Only::Provider(_) => 0..described.partitions,
                Only::Partition(one) if *one < described.partitions => *one..*one + 1,
                Only::Partition(_) => 0..0,
            };
            for generation in self.operations.known().filled(found.name, found.fold) {
                let edition = Edition { version: found.fold, generation }.to_string();
                targets.extend(partitions.clone().map(|partition| Target {
                    projection: found.name.to_owned(),
                    edition: edition.clone(),
                    topic: (*topic).to_owned(),
                    partition,
                    key: key.clone(),
                    source: source.clone(),
                    offset: 0,
                }));
            }
        }
        Ok(targets)
    }
}

impl Projecting {
    pub(crate) fn new(
        config: &Config,
        opened: &Opened,
        operations: Arc<Operations>,
        metrics: ProjectorMetrics,
        on: &Handle,
        processor: impl Fn(&str, &str) -> ProcessorOptions + Send + Sync + 'static,
    ) -> Self {
        Self {
            log: opened.log.clone(),
            store: opened.store.clone(),
            codec: opened.codec.clone(),
            operations,
            prefix: config.topic_prefix.clone(),
            options: config.projector.clone(),
            metrics,
            on: on.clone(),
            processor: Box::new(processor),
        }
    }

    /// Runs until `stop`, or until a projector ends by itself, which only an error makes it do.
    pub(crate) async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut changes = self.operations.changes();
        let mut running: BTreeMap<Key, Running> = BTreeMap::new();
        // Nobody fills these any more, or nobody did when this process started.
        let mut unwanted: BTreeMap<Key, Instant> = BTreeMap::new();
        loop {
            let known = changes.borrow_and_update().clone();
            let wanted = wanted(&known)?;
            for projection in &wanted {
                let key = (projection.name(), projection.edition().generation);
                unwanted.remove(&key);
                if let Entry::Vacant(vacant) = running.entry(key) {
                    almanac_tables::prepare(&*self.store, &**projection).await?;
                    vacant.insert(self.start(projection, &stop));
                }
            }
            let is_wanted =
                |key: &Key| wanted.iter().any(|one| (one.name(), one.edition().generation) == *key);
            let ended: Vec<Key> = running.keys().filter(|key| !is_wanted(key)).copied().collect();
            for key in ended {
                if let Some(one) = running.remove(&key) {
                    tracing::info!(projection = key.0, generation = key.1, "ending a projector");
                    one.end().await?;
                }
            }
            for key in self.leftover(&known).await? {
                unwanted.entry(key).or_insert_with(|| Instant::now() + GRACE);
            }
            let due: Vec<Key> = unwanted
                .iter()
                .filter(|(_, at)| **at <= Instant::now())
                .map(|(key, _)| *key)
                .collect();
            for key in due {
                self.drop_tables(key).await?;
                unwanted.remove(&key);
            }
            tokio::select! {
                // First: projectors that end because they are told to have not died.
                biased;
                () = stop.cancelled() => break,
                _ = changes.changed() => {}
                () = tokio::time::sleep(LOOK), if !unwanted.is_empty() => {}
                error = died(&mut running) => return Err(error),
            }
        }
        for one in running.into_values() {
            one.end().await?;
        }
        Ok(())
    }

    fn start(&self, projection: &Arc<dyn Projection>, stop: &CancellationToken) -> Running {
        let stop = stop.child_token();
        let mut tasks = JoinSet::new();
        let generation = projection.edition().generation;
        // The first tables are filled as fast as can be, and nobody verifies them.
        let rebuilding = (generation > 0).then(|| {
            Arc::new(Rebuilding::new(self.operations.clone(), self.options.keep_replaced))
        });
        for source in Source::of(&**projection) {
            let projector = Arc::new(Projector {
                source,
                topics: Topics::new(&self.prefix, &source),
                options: self.options.clone(),
                store: self.store.clone(),
                codec: self.codec.clone(),
                projection: projection.clone(),
                metrics: self.metrics.clone(),
                rebuilding: rebuilding.clone(),
                operations: Some(self.operations.clone()),
            });
            let role = format!("projector-{source}");
            let options = (self.processor)(&role, projector.topics.source());
            let run = almanac_processor::run(self.log.clone(), options, projector, stop.clone());
            tasks.spawn_on(async move { run.await.map_err(anyhow::Error::from) }, &self.on);
        }
        Running { stop, tasks }
    }

    /// Generations whose tables are there although nobody wants them.
    async fn leftover(&self, known: &Known) -> StoreResult<Vec<Key>> {
        let mut found = Vec::new();
        let tables = self.store.tables().await?;
        for projection in almanac_projector::all()? {
            let (name, version) = (projection.name(), projection.version());
            let Some(newest) = known.of_fold(name, version) else { continue };
            let filled = known.filled(name, version);
            let is_ours = |table: &almanac_read_store::Table| {
                let mut declared = projection.layout().tables();
                declared.any(|one| one.table.name() == table.name() && table.version() == version)
            };
            let ours = tables.iter().filter(|table| is_ours(table));
            let mut generations: Vec<u32> = ours.map(|table| table.generation()).collect();
            // What is newer is of an operator's word that has not been heard of here.
            generations.retain(|one| *one <= newest.newest && !filled.contains(one));
            generations.sort_unstable();
            generations.dedup();
            found.extend(generations.into_iter().map(|generation| (name, generation)));
        }
        Ok(found)
    }

    async fn drop_tables(&self, (name, generation): Key) -> StoreResult<()> {
        let Some(projection) = almanac_projector::open(name, generation)? else { return Ok(()) };
        for declared in projection.layout().tables() {
            self.store.drop_table(&declared.table).await?;
        }
        let edition: Edition = projection.edition();
        tracing::info!(projection = name, %edition, "dropped the tables");
        Ok(())
    }
}

/// The projections whose tables are filled.
fn wanted(known: &Known) -> StoreResult<Vec<Arc<dyn Projection>>> {
    let mut wanted = Vec::new();
    for projection in almanac_projector::all()? {
        for generation in known.filled(projection.name(), projection.version()) {
            wanted.extend(almanac_projector::open(projection.name(), generation)?);
        }
    }
    Ok(wanted)
}

struct Running {
    stop: CancellationToken,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl Running {
    async fn end(mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        Ok(())
    }
}

/// Waits until a projector ends although nobody stopped it.
async fn died(running: &mut BTreeMap<Key, Running>) -> anyhow::Error {
    let ends = running.values_mut().map(|one| Box::pin(one.tasks.join_next()));
    let ended = match ends.len() {
        0 => std::future::pending().await,
        _ => futures::future::select_all(ends).await.0,
    };
    match ended {
        Some(Ok(Err(error))) => error,
        Some(Err(error)) => anyhow::Error::new(error).context("a projector ended"),
        Some(Ok(Ok(()))) | None => anyhow::anyhow!("a projector ended by itself"),
    }
}
