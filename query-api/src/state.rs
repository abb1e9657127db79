//! What every request has at hand.

use crate::{
    answers::AnswerMemory,
    fair::{FairTurns, Turn},
    metrics::QueryMetrics,
    models::{self, Declared, ReadModel},
    packing::{Packing, PackingOptions},
    progress::Progress,
    readiness::Readiness,
    slots::{Served, Slot},
    streams::Streams,
    v1::notifications::Tickets,
};
use almanac_edge::{Identity, Problem, purge::Purges};
use almanac_event_log::{EventLog, LogError, TopicSpec};
use almanac_operations::Operations;
use almanac_processor::{Foreign, Supervisor};
use almanac_read_store::{ReadStore, StoreError};
use almanac_schemas::Codec;
use almanac_tables::Edition;
use bytes::Bytes;
use http::HeaderMap;
use parking_lot::RwLock;
use prometheus_client::registry::Registry;
use std::{
    collections::HashMap,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::{Mutex, Semaphore, watch};

#[derive(Clone, Debug)]
pub struct QueryOptions {
    /// Memory for cached partitions.
    pub cache_bytes: usize,
    /// How long the first answer may wait for the cache to fill.
    pub warm_up: Duration,
    /// Memory for the index of plans; one that does not fit is dropped, and lists take longer.
    pub plan_index_bytes: usize,
    /// Memory for recipes and answers to questions about them.
    pub recipe_cache_bytes: usize,
    /// Memory for the index of recipes; for one that does not fit, tables are asked.
    pub recipe_index_bytes: usize,
    /// Memory for results of analyses.
    pub analysis_cache_bytes: usize,
    /// Memory for pictures that were made smaller.
    pub picture_cache_bytes: usize,
    /// How long a read waits for its consistency token when nothing else is preferred.
    pub wait: Duration,
    /// Lists and pages of events that are put together at once; others wait for their turn, and as
    /// long as for a token. Turns are shared between callers.
    pub lists: usize,
    /// Memory for answers that are on their way, beside a little for each connection.
    pub answer_bytes: usize,
    /// Streams of events that are open at once: on Kafka each is a consumer of its own.
    pub event_streams: usize,
    /// After so long a stream ends, and its client goes on with another from where it was.
    pub event_stream_time: Duration,
    pub packing: PackingOptions,
    /// Caches before this process that are told what is out of date.
    pub purges: Option<Purges>,
    /// Topic prefix of the installation.
    pub prefix: String,
    /// The document at `/openapi.json`.
    pub openapi: Bytes,
    pub models: &'static [Declared],
    /// Whether the built-in registry is served: on the embedded engine.
    pub serve_registry: bool,
    /// Freshness objectives of the configured providers, in seconds.
    pub freshness_s: HashMap<String, i64>,
    pub supervisor: Supervisor,
    pub foreign: Foreign,
    pub installation: Installation,
    pub inspect: InspectOptions,
    pub page: PageOptions,
    /// What operators did: which tables are live.
    pub operations: Arc<Operations>,
    /// Projections that operators are told of, with the versions of their folds, and their topics.
    pub projections: Vec<ProjectionNames>,
}

/// How far operators' questions go that have no bound of their own.
#[derive(Clone, Copy, Debug)]
pub struct InspectOptions {
    /// Consumer groups that are told of.
    pub groups: usize,
    /// How long an answer is put together.
    pub time: Duration,
    /// Records that are read for one trace.
    pub trace_records: usize,
}

impl Default for InspectOptions {
    fn default() -> Self {
        Self { groups: 10_000, time: Duration::from_secs(10), trace_records: 50_000 }
    }
}

/// How people reach the page at `/`.
#[derive(Clone, Debug, Default)]
pub struct PageOptions {
    /// Where it is in the world; when absent, what a request says it was sent to.
    pub public_url: Option<String>,
    /// Where people sign in, beside pasting a token.
    pub sign_in: Option<SignIn>,
}

/// An identity provider, as the page has to know it.
#[derive(Clone, Debug)]
pub struct SignIn {
    pub issuer: String,
    pub client_id: String,
    pub scope: String,
    /// What the page may ask beside this server: scheme, host and port.
    pub origins: Vec<String>,
}

/// What operators are told of this process, and of all.
#[derive(Clone, Debug, Default)]
pub struct Installation {
    pub engine: &'static str,
    /// Name of this process among those of its roles.
    pub instance: String,
    pub roles: Vec<&'static str>,
    /// With the prefix.
    pub topics: Vec<TopicSpec>,
}

/// Of a projection.
#[derive(Clone, Copy, Debug)]
pub struct ProjectionNames {
    pub name: &'static str,
    pub fold: u32,
    pub topics: &'static [&'static str],
}

/// What all read models have in common.
pub struct Shared {
    pub(crate) log: Arc<dyn EventLog>,
    pub store: Arc<dyn ReadStore>,
    pub(crate) codec: Arc<Codec>,
    pub(crate) progress: Progress,
    pub identity: Arc<Identity>,
    listing: FairTurns,
    /// Those who look through rows, no more than there are threads: others do not wait for many.
    scanning: Semaphore,
    pub(crate) streams: Streams,
    pub(crate) tickets: Tickets,
    pub(crate) packing: Packing,
    pub(crate) answers: AnswerMemory,
    pub(crate) options: QueryOptions,
    pub(crate) feed_alive: AtomicBool,
}

pub struct ApiState {
    shared: Arc<Shared>,
    pub(crate) slots: Vec<Arc<Slot>>,
    /// Tells that other models follow the change feed than before.
    pub(crate) followed: watch::Sender<()>,
    /// Held while a change of the feed is taken in, and for a switch between two changes.
    pub(crate) feeding: Mutex<()>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) metrics: QueryMetrics,
    /// What is not ready yet, in words.
    pub(crate) unready: RwLock<Option<String>>,
    pub(crate) readiness: Readiness,
    /// What else this process needs of the log, by name.
    pub(crate) signs: RwLock<Vec<(&'static str, Sign)>>,
}

impl Deref for ApiState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

/// What is said of something that is well, or of something that is not.
pub type Sign = Box<dyn Fn() -> Result<&'static str, &'static str> + Send + Sync>;

/// Why there is nothing to answer from.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Log(#[from] LogError),
}

impl ApiState {
    /// Needs the topics to be there.
    pub async fn new(
        log: Arc<dyn EventLog>,
        store: Arc<dyn ReadStore>,
        codec: Arc<Codec>,
        identity: Arc<Identity>,
        options: QueryOptions,
        metrics: QueryMetrics,
        registry: Arc<Registry>,
    ) -> Result<Arc<Self>, StateError> {
        let shared = Shared::new(log, store, codec, identity, options).await?;
        let models: Vec<Arc<dyn ReadModel>> = shared
            .options
            .models
            .iter()
            .map(|model| (model.open)(&shared))
            .collect::<Result<_, _>>()?;
        Ok(Arc::new(Self::of(shared, models, metrics, registry)))
    }

    pub(crate) fn of(
        shared: Arc<Shared>,
        models: Vec<Arc<dyn ReadModel>>,
        metrics: QueryMetrics,
        registry: Arc<Registry>,
    ) -> Self {
        Self {
            readiness: Readiness::new(&shared.options.prefix, &models),
            slots: shared
                .options
                .models
                .iter()
                .zip(models)
                .map(|(declared, model)| Slot::new(declared, model))
                .collect(),
            shared,
            followed: watch::Sender::new(()),
            feeding: Mutex::default(),
            registry,
            metrics,
            unready: RwLock::new(Some("starting".to_owned())),
            signs: RwLock::default(),
        }
    }

    /// The models that follow the change feed.
    pub(crate) fn followed(&self) -> Vec<Arc<Served>> {
        self.slots.iter().flat_map(|slot| slot.followed()).collect()
    }

    pub(crate) fn followed_changed(&self) {
        self.followed.send_modify(|()| {});
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Shows at `/readyz` and `/metrics` how something is doing that other roles of this process do.
    pub fn watch(&self, name: &'static str, sign: Sign) {
        self.signs.write().push((name, sign));
    }

    /// What follows the log, and whether it does, in words.
    pub(crate) fn told(&self) -> Vec<(&'static str, Result<&'static str, &'static str>)> {
        let is_fed = self.is_fed();
        let mut told = vec![("change_feed", if is_fed { Ok("followed") } else { Err("silent") })];
        told.extend(self.signs.read().iter().map(|(name, sign)| (*name, sign())));
        told
    }

    /// Whether caches before this process are told what is out of date.
    pub fn has_purges(&self) -> bool {
        self.options.purges.is_some()
    }

    /// Whether caches are warm and the change feed is followed.
    pub fn is_ready(&self) -> bool {
        self.unready.read().is_none()
    }
}

impl Shared {
    pub(crate) async fn new(
        log: Arc<dyn EventLog>,
        store: Arc<dyn ReadStore>,
        codec: Arc<Codec>,
        identity: Arc<Identity>,
        options: QueryOptions,
    ) -> Result<Arc<Self>, LogError> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Arc::new(Self {
            progress: Progress::open(&*log, &options.prefix, &models::contexts(options.models))
                .await?,
            log,
            store,
            codec,
            identity,
            listing: FairTurns::new(options.lists),
            scanning: Semaphore::new(threads),
            streams: Streams::new(options.event_streams),
            tickets: Tickets::default(),
            packing: Packing::new(&options.packing),
            answers: AnswerMemory::new(options.answer_bytes),
            options,
            feed_alive: AtomicBool::new(false),
        }))
    }

    /// The tables of a projection that are live.
    pub fn edition(&self, projection: &str, version: u32) -> Edition {
        let generation = self.options.operations.known().live(projection, version);
        Edition { version, generation }
    }

    /// Whether caches are kept fresh: the change feed is followed.
    pub(crate) fn is_fed(&self) -> bool {
        self.feed_alive.load(Ordering::Acquire)
    }

    /// A turn to put a list together, which may look at much.
    pub(crate) async fn turn(&self, headers: &HeaderMap) -> Result<Turn, Problem> {
        let turn = self.listing.take(self.identity.party(headers), self.options.wait).await;
        turn.ok_or_else(|| Problem::busy("too many lists are wanted"))
    }

    /// Looks through a few rows, when it is their turn; then others have theirs.
    pub(crate) async fn look<T>(&self, through: impl FnOnce() -> T) -> T {
        let looked = {
            // Never closed, so this waits and does not fail.
            let _turn = self.scanning.acquire().await;
            through()
        };
        tokio::task::yield_now().await;
        looked
    }

    pub(crate) fn freshness_of(&self, provider: &str) -> Option<i64> {
        self.options.freshness_s.get(provider).copied()
    }
}
