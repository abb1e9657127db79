//! The owner of a partition through failures: what it tells of itself, and what it sets aside.

use almanac_event_log::{
    Append, Durability, EventLog, Headers, Isolation, Offset, Record, Retention, TopicSpec,
    embedded::{EmbeddedLog, EmbeddedOptions},
};
use almanac_processor::ProcessorOptions;
use almanac_projector::{
    Announced, FoldError, Folded, Projection, Projector, ProjectorMetrics, ProjectorOptions,
    Topics, parked, positions,
};
use almanac_read_store::{
    Change, ReadStore, Row, Slice, StoreError, StoreResult, Table, Write, embedded::EmbeddedStore,
    timestamp,
};
use almanac_schemas::{
    BuiltInRegistry, Codec, Decoded, RegisteredSchema, Registry, RegistryError,
    files::SchemaFile,
    projections::{PARTITIONS_CHANGED, PartitionsChangedRecord},
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use prometheus_client::registry::Registry as Metrics;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const TOPIC: &str = "letters.events";
/// Beyond this a test has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// One row for each event.
struct Letters {
    rows: Table,
    parked: Table,
}

impl Projection for Letters {
    fn name(&self) -> &'static str {
        "letters"
    }

    fn version(&self) -> u32 {
        1
    }

    fn topic(&self) -> &'static str {
        TOPIC
    }

    fn tables(&self) -> Vec<&Table> {
        vec![&self.rows, &self.parked]
    }

    fn parked(&self) -> &Table {
        &self.parked
    }

    fn announced(&self, _: &Table) -> Announced {
        Announced::Partitions
    }

    fn is_repeated(&self, _: &Table) -> bool {
        false
    }

    fn fold(&self, _: &Decoded<'_>, _: u32, position: u64) -> Result<Folded, FoldError> {
        let change = Change::Put {
            partition: "p".to_owned(),
            clustering: format!("{position:06}"),
            timestamp: timestamp(position, 0, true),
            body: "{}".into(),
        };
        Ok(Folded { index: vec![Write { table: self.rows.clone(), change }], own: Vec::new() })
    }
}

/// Takes no writes when told so, and counts those that it did not take.
struct Failing {
    inner: EmbeddedStore,
    fails: AtomicBool,
    failed: AtomicUsize,
}

#[async_trait]
impl ReadStore for Failing {
    async fn write(&self, writes: Vec<Write>) -> StoreResult<()> {
        if self.fails.load(Ordering::SeqCst) {
            self.failed.fetch_add(1, Ordering::SeqCst);
            let what = "the tables".to_owned();
            return Err(StoreError::Unavailable { what, detail: "on demand".to_owned() });
        }
        self.inner.write(writes).await
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

    async fn get(&self, table: &Table, partition: &str, key: &str) -> StoreResult<Option<Row>> {
        self.inner.get(table, partition, key).await
    }

    async fn slice(&self, table: &Table, partition: &str, slice: &Slice) -> StoreResult<Vec<Row>> {
        self.inner.slice(table, partition, slice).await
    }

    async fn bulk_load(
        &self,
        table: &Table,
        rows: BoxStream<'static, StoreResult<(String, Row)>>,
    ) -> StoreResult<u64> {
        self.inner.bulk_load(table, rows).await
    }
}

/// Knows the schemas of this program, and is away when asked for any other.
#[derive(Default)]
struct Away(AtomicUsize);

#[async_trait]
impl Registry for Away {
    async fn register(&self, file: &SchemaFile) -> Result<u32, RegistryError> {
        BuiltInRegistry.register(file).await
    }

    async fn fetch(&self, _: u32) -> Result<RegisteredSchema, RegistryError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let (url, detail) = ("nowhere".to_owned(), "on demand".to_owned());
        Err(RegistryError::Unavailable { url, detail })
    }
}

struct Installation {
    log: Arc<EmbeddedLog>,
    store: Arc<Failing>,
    registry: Arc<Away>,
    codec: Arc<Codec>,
    metrics: Metrics,
    projector: Arc<Projector>,
    _folder: tempfile::TempDir,
}

async fn installation(options: ProjectorOptions) -> Installation {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(EmbeddedOptions::new(folder.path().join("log"))).unwrap();
    let inner = EmbeddedStore::open(&folder.path().join("tables"), 1 << 20).unwrap();
    let store = Failing { inner, fails: AtomicBool::new(false), failed: AtomicUsize::new(0) };
    let (log, store) = (Arc::new(log), Arc::new(store));
    let projection = Letters {
        rows: Table::new("letters", 1).unwrap(),
        parked: Table::new("letters_parked", 1).unwrap(),
    };
    let topics = Topics::new("", &projection, 1);
    let mut specs = topics.specs();
    specs.push(TopicSpec {
        name: TOPIC.to_owned(),
        partitions: 1,
        retention: Retention::Forever,
        durability: Durability::Buffered,
    });
    log.ensure_topics(&specs).await.unwrap();
    let registry = Arc::<Away>::default();
    let codec = Arc::new(Codec::new(registry.clone()).await.unwrap());
    let mut metrics = Metrics::default();
    let projector = Projector {
        topics,
        options,
        store: store.clone(),
        codec: codec.clone(),
        projection: Arc::new(projection),
        metrics: ProjectorMetrics::register(&mut metrics),
    };
    projector.prepare().await.unwrap();
    let projector = Arc::new(projector);
    Installation { log, store, registry, codec, metrics, projector, _folder: folder }
}

impl Installation {
    fn run(&self) -> (CancellationToken, JoinHandle<()>) {
        let stop = CancellationToken::new();
        let options = ProcessorOptions {
            restart_pause: Duration::from_millis(1),
            ..ProcessorOptions::new("letters", TOPIC, "one")
        };
        let (log, role) = (self.log.clone(), self.projector.clone());
        let running = almanac_processor::run(log, options, role, stop.clone());
        (stop, tokio::spawn(async move { running.await.unwrap() }))
    }

    fn event(&self) -> Bytes {
        let event = PartitionsChangedRecord {
            projection: String::new(),
            version: 1,
            source_topic: String::new(),
            source_partition: 0,
            position: 0,
            tables: Vec::new(),
            consistency_token: None,
            tables_id: None,
        };
        self.codec.encode(PARTITIONS_CHANGED, &event).unwrap()
    }

    /// An event of an hour ago.
    async fn append(&self, key: &[u8], value: Bytes) {
        let record = Record {
            key: Bytes::copy_from_slice(key),
            value: Some(value),
            headers: Headers::default(),
            timestamp_ms: jiff::Timestamp::now().as_millisecond() - 3_600_000,
        };
        let append = Append { topic: TOPIC.into(), partition: 0, record };
        self.log.append(vec![append]).await.unwrap();
    }

    /// What the metrics say of the partition, if they do.
    fn metric(&self, name: &str) -> Option<f64> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.metrics).unwrap();
        let start = format!("almanac_projector_{name}{{projection=\"letters\",partition=\"0\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&start))?;
        Some(line.parse().unwrap())
    }

    async fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let waiting = async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "never {what}");
    }

    async fn until_position(&self, position: Offset) {
        self.until("folded", || self.metric("position") == Some(position as f64)).await;
    }

    async fn rows(&self) -> usize {
        let rows = Table::new("letters", 1).unwrap();
        self.store.slice(&rows, "p", &Slice::all()).await.unwrap().len()
    }

    /// Who looks now sees that nothing moves, however often the owner starts over.
    fn is_late(&self, events: f64) {
        assert_eq!(self.metric("position"), Some(1.0));
        assert_eq!(self.metric("lag_events"), Some(events));
        assert!(self.metric("lag_seconds").unwrap() >= 3_600.0);
    }
}

/// One event is folded, then something goes wrong with the next ones.
async fn folded_once(options: ProjectorOptions) -> (Installation, CancellationToken, f64) {
    let installation = installation(options).await;
    installation.append(b"a", installation.event()).await;
    let (stop, _) = installation.run();
    installation.until_position(1).await;
    assert_eq!(installation.metric("lag_events"), Some(0.0));
    assert_eq!(installation.metric("lag_seconds"), Some(0.0), "an old event is not a late one");
    let moved = installation.metric("last_progress_timestamp_seconds").unwrap();
    (installation, stop, moved)
}

#[tokio::test]
async fn writes_that_fail_are_no_progress() {
    let (installation, stop, moved) = folded_once(ProjectorOptions::default()).await;
    installation.store.fails.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        installation.append(b"a", installation.event()).await;
    }
    let failed = || installation.store.failed.load(Ordering::SeqCst);
    installation.until("tried again", || failed() >= 5).await;
    installation.until("seen whole", || installation.metric("lag_events") == Some(3.0)).await;
    installation.is_late(3.0);
    assert_eq!(installation.metric("last_progress_timestamp_seconds"), Some(moved));

    installation.store.fails.store(false, Ordering::SeqCst);
    installation.until_position(4).await;
    assert!(installation.metric("last_progress_timestamp_seconds").unwrap() > moved);
    assert_eq!(installation.metric("lag_seconds"), Some(0.0));
    assert_eq!(installation.rows().await, 4);
    stop.cancel();
    installation.until("silent", || installation.metric("position").is_none()).await;
    assert_eq!(installation.metric("lag_events"), None, "it is somebody else's partition now");
}

#[tokio::test]
async fn a_registry_that_is_away_is_no_progress() {
    let (installation, _stop, moved) = folded_once(ProjectorOptions::default()).await;
    installation.append(b"a", Bytes::from_static(&[0, 0, 0, 99, 99])).await;
    let asked = || installation.registry.0.load(Ordering::SeqCst);
    installation.until("asked again", || asked() >= 5).await;
    installation.is_late(1.0);
    assert_eq!(installation.metric("last_progress_timestamp_seconds"), Some(moved));
}

#[tokio::test]
async fn too_many_parked_keys_are_no_progress() {
    let options = ProjectorOptions { max_parked: 1, ..ProjectorOptions::default() };
    let (installation, _stop, moved) = folded_once(options).await;
    // Together, so that none is folded before the other.
    installation.store.fails.store(true, Ordering::SeqCst);
    installation.append(b"b", Bytes::from_static(b"no event")).await;
    installation.append(b"c", Bytes::from_static(b"no event")).await;
    installation.until("seen whole", || installation.metric("lag_events") == Some(2.0)).await;
    installation.store.fails.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(50)).await;
    installation.is_late(2.0);
    assert_eq!(installation.metric("last_progress_timestamp_seconds"), Some(moved));
}

/// Whatever the key: it is set aside once, under a short name, also after a restart. A record without
/// one is passed over: nobody could name what is set aside.
#[tokio::test]
async fn keys_of_any_kind_are_set_aside() {
    let installation = installation(ProjectorOptions::default()).await;
    let long = vec![b'k'; 70_000];
    let keys: [&[u8]; 4] = [&long, b"\xff\xfe", b"nul\0", b"plain"];
    for key in keys {
        installation.append(key, Bytes::from_static(b"no event")).await;
    }
    installation.append(b"", Bytes::from_static(b"no event")).await;
    installation.append(b"other", installation.event()).await;
    let (stop, running) = installation.run();
    installation.until_position(6).await;
    assert_eq!(installation.metric("parked_keys"), Some(4.0));
    assert_eq!(installation.rows().await, 1);
    stop.cancel();
    running.await.unwrap();

    let (_stop, _) = installation.run();
    for key in keys {
        installation.append(key, installation.event()).await;
    }
    installation.until_position(10).await;
    assert_eq!(installation.metric("parked_keys"), Some(4.0), "they are known again");
    assert_eq!(installation.rows().await, 1, "events of keys that are set aside are passed over");
    let table = installation.projector.projection.parked().clone();
    let rows = installation.store.slice(&table, "letters", &Slice::all()).await.unwrap();
    assert!(rows.iter().all(|row| row.clustering.len() < 300 && row.body.len() < 3_000));
    let names = parked::all(&*installation.store, &table, "letters").await.unwrap();
    assert!(keys.iter().all(|key| names.contains(&*parked::name(key))), "{names:?}");
}

/// Readers hold positions against the ends of topics.
#[tokio::test]
async fn positions_reach_the_end_of_the_topic() {
    let installation = installation(ProjectorOptions::default()).await;
    installation.append(b"a", installation.event()).await;
    let (_stop, _) = installation.run();
    installation.until_position(1).await;
    let end = installation.log.end(TOPIC, 0, Isolation::Committed).await.unwrap();
    let saved = positions::read(&*installation.store, "letters", 1).await.unwrap();
    assert_eq!(saved[&0].next_offset, end);
}
