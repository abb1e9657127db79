//! A whole state for tests of its parts, on the embedded engine, with a store that can be asked and
//! interrupted.

use crate::{ApiState, PackingOptions, QueryMetrics, QueryOptions};
use almanac_edge::identity::{Identity, IdentityOptions};
use almanac_event_log::{
    Durability, EventLog, Retention, TopicSpec,
    embedded::{EmbeddedLog, EmbeddedOptions},
};
use almanac_projector::{Projection, plans, positions, recipes};
use almanac_read_store::{
    Change, ReadStore, Row, Slice, StoreResult, Table, Write, embedded::EmbeddedStore, timestamp,
};
use almanac_schemas::{BuiltInRegistry, Codec};
use async_trait::async_trait;
use futures::{future::BoxFuture, stream::BoxStream};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use uuid::Uuid;

type Interruption = Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send>;

/// Counts slices, and lets something else happen before one of a table is read.
pub(crate) struct Watched {
    pub(crate) inner: EmbeddedStore,
    pub(crate) slices: AtomicUsize,
    interruption: Mutex<Option<(String, Interruption)>>,
}

impl Watched {
    pub(crate) fn before_slice_of(&self, table: &Table, interruption: Interruption) {
        *self.interruption.lock() = Some((table.name().to_owned(), interruption));
    }

    pub(crate) async fn put(&self, table: &Table, partition: &str, key: &str, at: u64, body: &str) {
        let change = Change::Put {
            partition: partition.to_owned(),
            clustering: key.to_owned(),
            timestamp: timestamp(at, 0, true),
            body: body.to_owned().into(),
        };
        self.inner.write(vec![Write { table: table.clone(), change }]).await.unwrap();
    }
}

#[async_trait]
impl ReadStore for Watched {
    async fn slice(&self, table: &Table, partition: &str, slice: &Slice) -> StoreResult<Vec<Row>> {
        self.slices.fetch_add(1, Ordering::Relaxed);
        let interruption = self.interruption.lock().take_if(|(wanted, _)| wanted == table.name());
        if let Some((_, interruption)) = interruption {
            interruption().await;
        }
        self.inner.slice(table, partition, slice).await
    }

    async fn create_table(&self, table: &Table) -> StoreResult<()> {
        self.inner.create_table(table).await
    }

    async fn tables(&self) -> StoreResult<Vec<Table>> {
        self.inner.tables().await
    }

    async fn table_id(&self, table: &Table) -> StoreResult<Uuid> {
        self.inner.table_id(table).await
    }

    async fn drop_table(&self, table: &Table) -> StoreResult<()> {
        self.inner.drop_table(table).await
    }

    async fn write(&self, writes: Vec<Write>) -> StoreResult<()> {
        self.inner.write(writes).await
    }

    async fn get(
        &self,
        table: &Table,
        partition: &str,
        clustering: &str,
    ) -> StoreResult<Option<Row>> {
        self.inner.get(table, partition, clustering).await
    }

    async fn bulk_load(
        &self,
        table: &Table,
        rows: BoxStream<'static, StoreResult<(String, Row)>>,
    ) -> StoreResult<u64> {
        self.inner.bulk_load(table, rows).await
    }
}

pub(crate) struct Installation {
    pub(crate) state: Arc<ApiState>,
    pub(crate) store: Arc<Watched>,
    pub(crate) log: Arc<EmbeddedLog>,
    _folder: tempfile::TempDir,
}

pub(crate) const PARTITIONS: u32 = 2;

pub(crate) async fn installation() -> Installation {
    let folder = tempfile::tempdir().unwrap();
    let log = Arc::new(EmbeddedLog::open(EmbeddedOptions::new(folder.path().join("log"))).unwrap());
    let topics = ["commands", "replies", "plans.events", "recipes.events", "projections.changes"];
    let specs = topics.map(|name| TopicSpec {
        name: name.to_owned(),
        partitions: PARTITIONS,
        retention: Retention::Forever,
        durability: Durability::Buffered,
    });
    log.ensure_topics(&specs).await.unwrap();
    let inner = EmbeddedStore::open(&folder.path().join("tables"), 1 << 20).unwrap();
    let (plans, recipes) = (
        plans::Tables::of(plans::VERSION).unwrap(),
        recipes::Tables::of(recipes::VERSION).unwrap(),
    );
    let tables = plans.tables().into_iter().chain(recipes.tables()).cloned();
    for table in tables.chain([positions::table().unwrap()]) {
        inner.create_table(&table).await.unwrap();
    }
    let (slices, interruption) = Default::default();
    let store = Arc::new(Watched { inner, slices, interruption });
    let mut registry = Registry::default();
    let metrics = QueryMetrics::register(&mut registry);
    let state = ApiState::new(
        log.clone(),
        store.clone(),
        Arc::new(Codec::new(Arc::new(BuiltInRegistry)).await.unwrap()),
        Arc::new(Identity::new(IdentityOptions::default()).unwrap()),
        QueryOptions {
            cache_bytes: 1 << 20,
            warm_up: Duration::ZERO,
            picture_cache_bytes: 1 << 20,
            recipe_cache_bytes: 8 << 20,
            wait: Duration::from_millis(50),
            lists: 4,
            answer_bytes: 64 << 20,
            event_streams: 4,
            event_stream_time: Duration::from_secs(60),
            packing: PackingOptions {
                gzip_answers: 4,
                brotli_answers: 4,
                background: tokio::runtime::Handle::current(),
            },
            prefix: String::new(),
            serve_registry: true,
            freshness_s: HashMap::new(),
            supervisor: Default::default(),
            foreign: Default::default(),
        },
        metrics,
        Arc::new(registry),
    );
    Installation { state: state.await.unwrap(), store, log, _folder: folder }
}
