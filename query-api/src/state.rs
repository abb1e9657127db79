//! What every request has at hand.

use crate::{
    answers::AnswerMemory,
    fair::{FairTurns, Turn},
    metrics::QueryMetrics,
    packing::{Packing, PackingOptions},
    parked::Parked,
    progress::Progress,
    readiness::Readiness,
    search::cache::SearchCache,
    streams::Streams,
    v1::recipes::{cache::RecipeCache, pictures::Pictures},
};
use almanac_edge::{Identity, Problem};
use almanac_event_log::{EventLog, LogError};
use almanac_processor::{Foreign, Supervisor};
use almanac_projector::{
    Projection,
    plans::{self, Tables},
    recipes,
};
use almanac_read_store::{ReadStore, StoreError};
use almanac_schemas::Codec;
use http::HeaderMap;
use parking_lot::RwLock;
use prometheus_client::registry::Registry;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::Semaphore;

#[derive(Clone, Debug)]
pub struct QueryOptions {
    /// Memory for cached partitions.
    pub cache_bytes: usize,
    /// How long the first answer may wait for the cache to fill.
    pub warm_up: Duration,
    /// Memory for recipes and answers to questions about them.
    pub recipe_cache_bytes: usize,
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
    /// Topic prefix of the installation.
    pub prefix: String,
    /// Whether the built-in registry is served: on the embedded engine.
    pub serve_registry: bool,
    /// Freshness objectives of the configured providers, in seconds.
    pub freshness_s: HashMap<String, i64>,
    pub supervisor: Supervisor,
    pub foreign: Foreign,
}

pub struct ApiState {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) store: Arc<dyn ReadStore>,
    pub(crate) codec: Arc<Codec>,
    pub(crate) tables: Tables,
    pub(crate) recipes: recipes::Tables,
    pub(crate) search: SearchCache,
    pub(crate) recipe_cache: RecipeCache,
    pub(crate) progress: Progress,
    pub(crate) parked_plans: Parked,
    pub(crate) parked_recipes: Parked,
    pub(crate) identity: Arc<Identity>,
    pub(crate) pictures: Arc<Pictures>,
    listing: FairTurns,
    /// Those who look through rows, no more than there are threads: others do not wait for many.
    scanning: Semaphore,
    pub(crate) streams: Streams,
    pub(crate) packing: Packing,
    pub(crate) answers: AnswerMemory,
    pub(crate) options: QueryOptions,
    pub(crate) registry: Arc<Registry>,
    pub(crate) metrics: QueryMetrics,
    /// What is not ready yet, in words.
    pub(crate) unready: RwLock<Option<String>>,
    pub(crate) readiness: Readiness,
    pub(crate) feed_alive: AtomicBool,
    /// What else this process needs of the log, by name.
    pub(crate) signs: RwLock<Vec<(&'static str, Sign)>>,
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
        let tables = Tables::of(plans::VERSION)?;
        let recipes = recipes::Tables::of(recipes::VERSION)?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let search = SearchCache::new(store.clone(), tables.clone(), options.cache_bytes);
        let contexts = [almanac_schemas::recipes::CONTEXT];
        Ok(Arc::new(Self {
            readiness: Readiness::new(&options.prefix, &[&tables, &recipes]),
            parked_plans: Parked::new(plans::PROJECTION, tables.parked.clone()),
            parked_recipes: Parked::new(recipes::PROJECTION, recipes.parked().clone()),
            store,
            codec,
            tables,
            recipes,
            search,
            recipe_cache: RecipeCache::new(options.recipe_cache_bytes),
            progress: Progress::open(&*log, &options.prefix, &contexts).await?,
            identity,
            pictures: Pictures::new(options.picture_cache_bytes),
            listing: FairTurns::new(options.lists),
            scanning: Semaphore::new(threads),
            streams: Streams::new(options.event_streams),
            packing: Packing::new(&options.packing),
            answers: AnswerMemory::new(options.answer_bytes),
            log,
            options,
            registry,
            metrics,
            unready: RwLock::new(Some("starting".to_owned())),
            feed_alive: AtomicBool::new(false),
            signs: RwLock::default(),
        }))
    }

    /// Shows at `/readyz` and `/metrics` how something is doing that other roles of this process do.
    pub fn watch(&self, name: &'static str, sign: Sign) {
        self.signs.write().push((name, sign));
    }

    /// What follows the log, and whether it does, in words.
    pub(crate) fn told(&self) -> Vec<(&'static str, Result<&'static str, &'static str>)> {
        let is_fed = self.feed_alive.load(Ordering::Acquire);
        let mut told = vec![("change_feed", if is_fed { Ok("followed") } else { Err("silent") })];
        told.extend(self.signs.read().iter().map(|(name, sign)| (*name, sign())));
        told
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

    /// Whether caches are warm and the change feed is followed.
    pub fn is_ready(&self) -> bool {
        self.unready.read().is_none()
    }
}
