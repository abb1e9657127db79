//! A whole state for tests of its parts, on the embedded engine, with a store that can be asked and
//! interrupted.

use crate::{
    ApiState, PackingOptions, QueryMetrics, QueryOptions,
    models::{MODELS, ReadModel},
    state::Shared,
    v1::{
        analyses::Analyses, forecasts::Forecasts, organizers::Organizers, plans::Plans,
        recipes::Recipes, schedules::Schedules, subscriptions::Subscriptions,
    },
};
use almanac_edge::identity::{Identity, IdentityOptions};
use almanac_event_log::{
    Durability, EventLog, Retention, TopicSpec,
    embedded::{EmbeddedLog, EmbeddedOptions},
};
use almanac_operations::Operations;
use almanac_projector::{Event, Folded, Projection};
use almanac_read_store::{
    Change, Part, ReadStore, Row, Scanned, Slice, StoreResult, Table, Write,
    embedded::EmbeddedStore, timestamp,
};
use almanac_schemas::{BuiltInRegistry, Codec};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{future::BoxFuture, stream::BoxStream};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde::Serialize;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
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

impl Watched {
    pub(crate) async fn delete(&self, table: &Table, partition: &str, key: &str, at: u64) {
        let change = Change::Delete {
            partition: partition.to_owned(),
            clustering: key.to_owned(),
            timestamp: timestamp(at, 0, false),
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

    fn scan(&self, table: &Table, part: Part) -> BoxStream<'static, StoreResult<Scanned>> {
        self.inner.scan(table, part)
    }
}

pub(crate) struct Installation {
    pub(crate) state: Arc<ApiState>,
    pub(crate) plans: Arc<Plans>,
    pub(crate) recipes: Arc<Recipes>,
    pub(crate) analyses: Arc<Analyses>,
    codec: Arc<Codec>,
    /// Of the next event that is folded.
    position: AtomicU64,
    pub(crate) store: Arc<Watched>,
    pub(crate) log: Arc<EmbeddedLog>,
    _folder: tempfile::TempDir,
}

pub(crate) const PARTITIONS: u32 = 2;

pub(crate) async fn installation() -> Installation {
    let folder = tempfile::tempdir().unwrap();
    let log = Arc::new(EmbeddedLog::open(EmbeddedOptions::new(folder.path().join("log"))).unwrap());
    let mut topics = vec!["commands", "replies", "projections.changes", "operations.events"];
    let projections = almanac_projector::all().unwrap();
    topics.extend(projections.iter().flat_map(|projection| projection.topics()));
    let specs = topics.into_iter().map(|name| TopicSpec {
        name: name.to_owned(),
        partitions: PARTITIONS,
        retention: Retention::Forever,
        durability: Durability::Buffered,
    });
    log.ensure_topics(&specs.collect::<Vec<_>>()).await.unwrap();
    let inner = EmbeddedStore::open(&folder.path().join("tables"), 1 << 20).unwrap();
    for projection in &projections {
        almanac_tables::prepare(&inner, &**projection).await.unwrap();
    }
    let (slices, interruption) = Default::default();
    let store = Arc::new(Watched { inner, slices, interruption });
    let mut registry = Registry::default();
    let metrics = QueryMetrics::register(&mut registry);
    let codec = Arc::new(Codec::new(Arc::new(BuiltInRegistry)).await.unwrap());
    let options = QueryOptions {
        cache_bytes: 1 << 20,
        warm_up: Duration::ZERO,
        picture_cache_bytes: 1 << 20,
        plan_index_bytes: 64 << 20,
        analysis_cache_bytes: 1 << 20,
        recipe_cache_bytes: 8 << 20,
        recipe_index_bytes: 64 << 20,
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
        purges: None,
        prefix: String::new(),
        openapi: Bytes::new(),
        models: MODELS,
        serve_registry: true,
        freshness_s: HashMap::new(),
        supervisor: Default::default(),
        foreign: Default::default(),
        installation: Default::default(),
        inspect: Default::default(),
        page: Default::default(),
        operations: Operations::open(log.clone(), codec.clone(), "").await.unwrap(),
        projections: Vec::new(),
    };
    let identity = Arc::new(
        Identity::new(IdentityOptions { local_user: true, ..Default::default() }).unwrap(),
    );
    let shared = Shared::new(log.clone(), store.clone(), codec.clone(), identity, options).await;
    let shared = shared.unwrap();
    let (plans, recipes) = (Plans::new(&shared).unwrap(), Recipes::new(&shared).unwrap());
    let analyses = Analyses::new(&shared).unwrap();
    let models: Vec<Arc<dyn ReadModel>> = vec![
        plans.clone(),
        recipes.clone(),
        Schedules::new(&shared).unwrap(),
        analyses.clone(),
        Forecasts::new(&shared).unwrap(),
        Subscriptions::new(&shared).unwrap(),
        Organizers::new(&shared).unwrap(),
    ];
    let state = Arc::new(ApiState::of(shared, models, metrics, Arc::new(registry)));
    let position = AtomicU64::new(0);
    Installation { state, plans, recipes, analyses, codec, position, store, log, _folder: folder }
}

impl Installation {
    /// Folds an event into the tables of a projection, as a projector does; its position.
    pub(crate) async fn fold(
        &self,
        projection: &dyn Projection,
        record: &'static str,
        value: &impl Serialize,
    ) -> u64 {
        let value = self.codec.encode(record, value).unwrap();
        let decoded = self.codec.decode(&value).await.unwrap();
        let position = self.position.fetch_add(1, Ordering::SeqCst);
        let folded =
            projection.fold(&Event { decoded: &decoded, partition: 0, position, repair: 0 });
        let Folded { index, own } = folded.unwrap();
        self.store.write(index.into_iter().chain(own).collect()).await.unwrap();
        position
    }

    /// What an address answers to somebody on this machine.
    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = http::Request::get(path).header("host", "localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(axum::body::Body::empty()).unwrap();
        let router = crate::routes(&self.state).into_router();
        let response = tower::ServiceExt::oneshot(router, request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 64 << 20).await.unwrap();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: bytes::Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// Of an answer that is expected to be one.
    pub(crate) fn json(&self) -> serde_json::Value {
        assert_eq!(self.status, 200, "{}", self.text());
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// Plans of one day, one each minute, as the projector writes them.
pub(crate) async fn list_plans(state: &Plans, plans: usize) {
    let put = |table, partition: &str, clustering: String, body: String| Write {
        table,
        change: Change::Put {
            partition: partition.to_owned(),
            clustering,
            timestamp: 1,
            body: body.into(),
        },
    };
    let day = "2031-06-30";
    let mut writes =
        vec![put(state.tables.days.clone(), "days", format!("{day}/0"), "{}".to_owned())];
    for plan in 0..plans {
        let start = format!("{day}T{:02}:{:02}:00Z", plan / 60 % 24, plan % 60);
        let id = format!("{plan:032x}");
        let body = format!(
            r#"{{"summary":{{"id":"{id}"}},"plan":{{"id":"{id}","provider":"p","base_plan_id":"{plan}","organizer_id":null,"title":"Plan {plan}","starts_at":"{start}","ends_at":null,"sell_from":null,"sell_to":null,"sold_out":false,"capacity":1,"min_price":{plan}.5,"max_price":{plan}.5,"listed":true,"last_seen_at":"2021-01-01T00:00:00.000Z"}}}}"#
        );
        writes.push(put(state.tables.by_start.clone(), day, format!("{start}/{id}/-/0/0"), body));
    }
    state.store.write(writes).await.unwrap();
    state.search.load_days().await.unwrap();
}
