//! The owner of a partition through failures: what it tells of itself, and what it sets aside.

use almanac_domain::{
    aggregate::Caller,
    operations::{Mending, MendingCommand, Outcome, PROJECTOR, Remedy, Target, decide_mending},
};
use almanac_errors::{Masked, Words};
use almanac_event_log::{
    Append, Durability, EventLog, HeadersBuilder, Isolation, Offset, ReadLimit, Record, Retention,
    TopicSpec,
    embedded::{EmbeddedLog, EmbeddedOptions},
};
use almanac_operations::Operations;
use almanac_processor::ProcessorOptions;
use almanac_projector::{
    Event, FoldError, Folded, Projection, Projector, ProjectorMetrics, ProjectorOptions, Recovery,
    Topics,
};
use almanac_read_store::{
    Change, Part, ReadStore, Row, Scanned, Slice, StoreError, StoreResult, Table, Write,
    embedded::EmbeddedStore,
};
use almanac_schemas::{
    BuiltInRegistry, Codec, RegisteredSchema, Registry, RegistryError,
    commands::CommandRecord,
    files::SchemaFile,
    json, mending,
    projections::{PARTITIONS_CHANGED, PartitionsChangedRecord},
};
use almanac_tables::{Announced, Keys, Layout, Projected, Source, down, parked, positions};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use prometheus_client::registry::Registry as Metrics;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const TOPIC: &str = "letters.events";
const OTHER: &str = "postcards.events";
const OPERATIONS: &str = "operations.events";
const COMMANDS: &str = "commands";
/// Beyond this a test has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// One row for each event.
struct Letters {
    rows: Table,
    layout: Layout,
    refused: Refused,
}

/// Positions of events that cannot be folded now; on some the fold panics.
#[derive(Clone, Default)]
struct Refused(Arc<Mutex<HashMap<Offset, Fault>>>);

#[derive(Clone, Copy)]
enum Fault {
    Refused,
    Panics,
}

impl Refused {
    fn set(&self, positions: &[Offset], fault: Fault) {
        let mut refused = self.0.lock().unwrap();
        *refused = positions.iter().map(|position| (*position, fault)).collect();
    }

    fn of(&self, position: Offset) -> Option<Fault> {
        self.0.lock().unwrap().get(&position).copied()
    }
}

impl Letters {
    fn new(refused: &Refused) -> Self {
        let refused = refused.clone();
        let mut layout = Layout::new("letters", 1, &[TOPIC, OTHER]);
        let keys = Keys("`p`", "position");
        let rows = layout.table("letters", keys, Announced::Partitions).unwrap();
        Self { rows, layout, refused }
    }
}

impl Projected for Letters {
    fn layout(&self) -> &Layout {
        &self.layout
    }
}

impl Projection for Letters {
    fn fold(&self, event: &Event<'_>) -> Result<Folded, FoldError> {
        match self.refused.of(event.position) {
            Some(Fault::Refused) => return Err(FoldError::OutsideDomain),
            Some(Fault::Panics) => panic!("on demand"),
            None => {}
        }
        let mut rows = event.rows();
        rows.put(&self.rows, "p", format!("{:06}", event.position), "{}");
        Ok(rows.folded())
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
            return Err(StoreError::Unavailable { what, source: "on demand".into() });
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

    fn scan(&self, table: &Table, part: Part) -> BoxStream<'static, StoreResult<Scanned>> {
        self.inner.scan(table, part)
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
        let source = Masked::new(&Words::from("on demand"), str::to_owned);
        Err(RegistryError::Unavailable { url: "nowhere".to_owned(), source })
    }
}

struct Installation {
    log: Arc<EmbeddedLog>,
    store: Arc<Failing>,
    registry: Arc<Away>,
    codec: Arc<Codec>,
    metrics: Metrics,
    refused: Refused,
    /// One for each topic.
    projectors: Vec<Arc<Projector>>,
    _folder: tempfile::TempDir,
}

async fn installation(options: ProjectorOptions) -> Installation {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(EmbeddedOptions::new(folder.path().join("log"))).unwrap();
    let inner = EmbeddedStore::open(&folder.path().join("tables"), 1 << 20).unwrap();
    let store = Failing { inner, fails: AtomicBool::new(false), failed: AtomicUsize::new(0) };
    let (log, store) = (Arc::new(log), Arc::new(store));
    let spec = |name: &str| TopicSpec {
        name: name.to_owned(),
        partitions: 1,
        retention: Retention::Forever,
        durability: Durability::Buffered,
    };
    let specs = [
        almanac_projector::changes("", 1),
        spec(TOPIC),
        spec(OTHER),
        spec(OPERATIONS),
        spec(COMMANDS),
    ];
    log.ensure_topics(&specs).await.unwrap();
    let registry = Arc::<Away>::default();
    let codec = Arc::new(Codec::new(registry.clone()).await.unwrap());
    let mut metrics = Metrics::default();
    let refused = Refused::default();
    let operations = Operations::open(log.clone(), codec.clone(), "").await.unwrap();
    let projection: Arc<dyn Projection> = Arc::new(Letters::new(&refused));
    let (told, projected) = (ProjectorMetrics::register(&mut metrics), projection.clone());
    let projectors = Source::of(&*projection).map(|source| {
        Arc::new(Projector {
            source,
            topics: Topics::new("", &source),
            options: options.clone(),
            store: store.clone(),
            codec: codec.clone(),
            projection: projected.clone(),
            metrics: told.clone(),
            rebuilding: None,
            operations: Some(operations.clone()),
        })
    });
    let projectors: Vec<_> = projectors.collect();
    projectors[0].prepare().await.unwrap();
    let follower = operations.clone();
    tokio::spawn(async move { follower.follow().await });
    Installation { log, store, registry, codec, metrics, refused, projectors, _folder: folder }
}

impl Installation {
    fn run(&self) -> (CancellationToken, JoinHandle<()>) {
        self.run_of(0)
    }

    fn run_of(&self, topic: usize) -> (CancellationToken, JoinHandle<()>) {
        let stop = CancellationToken::new();
        let role = self.projectors[topic].clone();
        let options = ProcessorOptions {
            restart_pause: Duration::from_millis(1),
            ..ProcessorOptions::new(&role.source.to_string(), role.topics.source(), "one")
        };
        let log = self.log.clone();
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
            generation: 0,
        };
        self.codec.encode(PARTITIONS_CHANGED, &event).unwrap()
    }

    /// An event of an hour ago.
    async fn append(&self, key: &[u8], value: Bytes) {
        self.append_to(TOPIC, key, value).await;
    }

    async fn append_to(&self, topic: &str, key: &[u8], value: Bytes) {
        let mut headers = HeadersBuilder::with_capacity(64);
        headers.push("ce_source", &[b"/of/", key].concat());
        let record = Record {
            key: Bytes::copy_from_slice(key),
            value: Some(value),
            headers: headers.build(),
            timestamp_ms: jiff::Timestamp::now().as_millisecond() - 3_600_000,
        };
        let append = Append { topic: topic.into(), partition: 0, record };
        self.log.append(vec![append]).await.unwrap();
    }

    /// What the metrics say of the partition, if they do.
    fn metric(&self, name: &str) -> Option<f64> {
        self.metric_of(TOPIC, name)
    }

    fn metric_of(&self, topic: &str, name: &str) -> Option<f64> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.metrics).unwrap();
        let labels =
            format!("projection=\"letters\",topic=\"{topic}\",partition=\"0\",generation=\"0\"");
        let start = format!("almanac_projector_{name}{{{labels}}} ");
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

    /// What an operator wants done about the event at an offset, as the decider writes it; what the owner
    /// reports. It is decided, too.
    async fn mend(&self, remedy: Remedy, key: &str, offset: Offset) -> Outcome {
        self.mend_of(remedy, key, None, offset).await
    }

    async fn mend_of(
        &self,
        remedy: Remedy,
        key: &str,
        source: Option<&str>,
        offset: Offset,
    ) -> Outcome {
        let target = Target {
            projection: "letters".to_owned(),
            edition: "1".to_owned(),
            topic: TOPIC.to_owned(),
            partition: 0,
            key: key.to_owned(),
            source: source.map(str::to_owned),
            offset,
        };
        let id = Uuid::now_v7().to_string();
        let request = MendingCommand::Request { id: id.clone(), remedy, targets: vec![target] };
        let mending = self.decide(None, request, "ann").await;
        let report = async {
            loop {
                if let Some(report) = self.report_of(&id).await {
                    return report;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let report = tokio::time::timeout(PATIENCE, report).await.unwrap();
        let after = self.decide(Some(&mending), report, PROJECTOR).await;
        after.targets[0].1.clone().unwrap()
    }

    async fn decide(
        &self,
        known: Option<&Mending>,
        command: MendingCommand,
        subject: &str,
    ) -> Mending {
        let caller = Caller { subject: subject.to_owned(), is_admin: subject == "ann" };
        let event = decide_mending(known, command, "why", &caller, jiff::Timestamp::now());
        let event = event.unwrap().unwrap();
        let value = mending::encode(&self.codec, &event).unwrap();
        self.append_to(OPERATIONS, event.after.id.as_bytes(), value).await;
        event.after
    }

    async fn report_of(&self, id: &str) -> Option<MendingCommand> {
        let end = self.log.end(COMMANDS, 0, Isolation::Committed).await.unwrap();
        if end == 0 {
            return None;
        }
        let mut reader = self.log.read_to(COMMANDS, 0, 0, end).await.unwrap();
        let limit = ReadLimit { records: 1_000, bytes: 1 << 20 };
        let batch = reader.next(limit, Duration::from_secs(1)).await.unwrap();
        let stored = batch.records.iter().find(|one| one.record.key == id.as_bytes())?;
        let value = stored.record.value.as_ref().unwrap();
        let command: CommandRecord = self.codec.decode(value).await.unwrap().read().unwrap();
        let read = json::mending::read_command(&command.verb, &command.body.unwrap()).unwrap();
        Some(read.unwrap().0)
    }

    async fn parked(&self) -> Vec<parked::Parked> {
        parked::all(&*self.store, "letters", 1).await.unwrap()
    }

    /// Category and offset of what stands still.
    async fn down(&self) -> Option<(String, Option<Offset>)> {
        let positions = positions::read(&*self.store, "letters", 1).await.unwrap();
        let all = down::read(&*self.store, "letters", 1, &positions).await.unwrap();
        all.into_iter().next().map(|(_, down)| (down.category, down.offset))
    }

    async fn until_down(&self, category: &str, offset: Offset) {
        self.until("down", || self.metric("down") == Some(1.0)).await;
        assert_eq!(self.down().await, Some((category.to_owned(), Some(offset))));
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
    let (installation, _stop, _) = folded_once(options).await;
    installation.append(b"b", Bytes::from_static(b"no event")).await;
    installation.append(b"c", Bytes::from_static(b"no event")).await;
    installation.until_down("too_many_parked", 2).await;
    assert_eq!(installation.metric("position"), Some(2.0), "all before it is folded");
    assert_eq!(installation.metric("lag_events"), Some(1.0));
    assert!(installation.metric("lag_seconds").unwrap() >= 3_600.0);
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
    let table = parked::table().unwrap();
    let rows = installation.store.slice(&table, "letters/1", &Slice::all()).await.unwrap();
    assert!(rows.iter().all(|row| row.clustering.len() < 300 && row.body.len() < 3_000));
    let names = parked::all(&*installation.store, "letters", 1).await.unwrap();
    let is_there = |key: &[u8]| names.iter().any(|one| one.name == *parked::name(key));
    assert!(keys.iter().all(|key| is_there(key)), "{names:?}");
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
    assert_eq!(saved[&(TOPIC.to_owned(), 0)].next_offset, end);
}

/// Each topic has its own positions and parked keys: the same offsets and keys in another topic are
/// others.
#[tokio::test]
async fn topics_of_one_projection_are_folded_side_by_side() {
    let installation = installation(ProjectorOptions::default()).await;
    installation.append(b"a", Bytes::from_static(b"no event")).await;
    installation.append_to(OTHER, b"a", installation.event()).await;
    installation.append_to(OTHER, b"a", installation.event()).await;
    let (_one, _) = installation.run_of(0);
    let (_other, _) = installation.run_of(1);
    installation.until_position(1).await;
    let other = |name: &str| installation.metric_of(OTHER, name);
    installation.until("folded", || other("position") == Some(2.0)).await;
    assert_eq!(installation.metric("parked_keys"), Some(1.0));
    assert_eq!(other("parked_keys"), Some(0.0), "it is set aside in the other topic");
    assert_eq!(installation.rows().await, 2);
    let saved = positions::read(&*installation.store, "letters", 1).await.unwrap();
    let saved: Vec<_> = saved.iter().map(|((topic, _), at)| (&**topic, at.next_offset)).collect();
    assert_eq!(saved, [(TOPIC, 1), (OTHER, 2)]);
}

/// The key's events are folded again, in order, from the one that could not be; those that come meanwhile
/// are folded once, after them.
#[tokio::test]
async fn a_redriven_key_goes_on_where_it_stood() {
    // So that a redrive takes several turns.
    let options = ProjectorOptions { batch_events: 2, ..ProjectorOptions::default() };
    let installation = installation(options).await;
    installation.refused.set(&[1], Fault::Refused);
    for key in [b"a", b"a", b"b", b"a", b"b", b"a", b"a"] {
        installation.append(key, installation.event()).await;
    }
    let (stop, running) = installation.run();
    installation.until_position(7).await;
    assert_eq!((installation.rows().await, installation.metric("parked_keys")), (3, Some(1.0)));
    let parked = installation.parked().await;
    assert_eq!((parked[0].offset(), parked[0].last()), (1, 6));

    let outcome = installation.mend(Remedy::Redrive, "a", 1).await;
    assert!(matches!(&outcome, Outcome::Failed(why) if why.contains("offset 1")), "{outcome:?}");
    assert_eq!(installation.rows().await, 3, "the cause is not gone");
    // The first is folded, the next one is not: it stays set aside from there on.
    installation.refused.set(&[5], Fault::Refused);
    installation.mend(Remedy::Redrive, "a", 1).await;
    let parked = installation.parked().await;
    assert_eq!((parked[0].offset(), installation.rows().await), (5, 5));
    let outcome = installation.mend(Remedy::Discard, "a", 1).await;
    assert!(matches!(&outcome, Outcome::Failed(why) if why.contains("again")), "{outcome:?}");
    assert_eq!(installation.parked().await[0].offset(), 5, "of that event nobody decided anything");

    installation.refused.set(&[], Fault::Refused);
    assert_eq!(installation.mend(Remedy::Redrive, "a", 5).await, Outcome::Succeeded);
    assert_eq!((installation.rows().await, installation.metric("parked_keys")), (7, Some(0.0)));
    installation.append(b"a", installation.event()).await;
    installation.until_position(8).await;
    assert_eq!((installation.rows().await, installation.parked().await.len()), (8, 0));
    stop.cancel();
    running.await.unwrap();
    let (_stop, _) = installation.run();
    installation.append(b"a", installation.event()).await;
    installation.until_position(9).await;
    assert_eq!(installation.rows().await, 9, "it is not set aside after a restart");
}

/// What is changed behind the owner's back, at the timestamps of the rows that are there.
#[tokio::test]
async fn a_partial_rebuild_wins_over_the_rows_that_it_repairs() {
    // So that it takes several turns.
    let options = ProjectorOptions { batch_events: 2, ..ProjectorOptions::default() };
    let installation = installation(options).await;
    for key in [b"a", b"b", b"a", b"b", b"a"] {
        installation.append(key, installation.event()).await;
    }
    let (stop, running) = installation.run();
    installation.until_position(5).await;
    let table = Table::new("letters", 1).unwrap();
    let damage = async || {
        for row in installation.store.slice(&table, "p", &Slice::all()).await.unwrap() {
            let change = Change::Put {
                partition: "p".to_owned(),
                clustering: row.clustering,
                timestamp: row.timestamp,
                // Of two writes of one timestamp the greater stands.
                body: "~".into(),
            };
            installation.store.write(vec![Write { table: table.clone(), change }]).await.unwrap();
        }
    };
    let bodies = async || {
        let rows = installation.store.slice(&table, "p", &Slice::all()).await.unwrap();
        rows.iter()
            .map(|row| std::str::from_utf8(&row.body).unwrap().to_owned())
            .collect::<String>()
    };
    damage().await;
    assert_eq!(bodies().await, "~~~~~");
    assert_eq!(installation.mend(Remedy::Repair, "a", 0).await, Outcome::Succeeded);
    assert_eq!(bodies().await, "{}~{}~{}", "of one key");
    damage().await;
    let of_b = installation.mend_of(Remedy::Repair, "", Some("/of/b"), 0).await;
    assert_eq!((of_b, &*bodies().await), (Outcome::Succeeded, "~{}~{}~"));
    assert_eq!(installation.mend(Remedy::Repair, "", 0).await, Outcome::Succeeded);
    assert_eq!(bodies().await, "{}{}{}{}{}", "of all keys");
    let none = installation.mend(Remedy::Repair, "c", 0).await;
    assert!(matches!(&none, Outcome::Failed(why) if why.contains("no event")), "{none:?}");
    assert_eq!(installation.metric("position"), Some(5.0), "nothing else was folded again");

    // What is set aside stays so, and what cannot be folded any more is told.
    installation.refused.set(&[5], Fault::Refused);
    installation.append(b"a", installation.event()).await;
    installation.until_position(6).await;
    let parked = installation.mend(Remedy::Repair, "a", 0).await;
    assert!(matches!(&parked, Outcome::Failed(why) if why.contains("redrive")), "{parked:?}");
    damage().await;
    assert_eq!(installation.mend(Remedy::Repair, "", 0).await, Outcome::Succeeded);
    assert_eq!((&*bodies().await, installation.parked().await.len()), ("{}{}{}{}{}", 1));
    installation.refused.set(&[3, 5], Fault::Refused);
    let failed = installation.mend(Remedy::Repair, "", 0).await;
    assert!(matches!(&failed, Outcome::Failed(why) if why.contains("b at offset 3")), "{failed:?}");
    assert_eq!(installation.parked().await.len(), 1, "its row is what it was");

    // Another owner's rows win over this one's.
    stop.cancel();
    running.await.unwrap();
    installation.refused.set(&[5], Fault::Refused);
    damage().await;
    let (_stop, _) = installation.run();
    assert_eq!(installation.mend(Remedy::Repair, "b", 0).await, Outcome::Succeeded);
    assert_eq!(bodies().await, "~{}~{}~");
    let saved = positions::read(&*installation.store, "letters", 1).await.unwrap();
    assert_eq!(saved.values().map(|at| at.repairs).collect::<Vec<_>>(), [8], "each has its own");
}

#[tokio::test]
async fn a_discarded_event_is_passed_over_for_good() {
    let installation = installation(ProjectorOptions::default()).await;
    installation.refused.set(&[1, 3], Fault::Refused);
    for key in [b"a", b"a", b"b", b"a", b"a"] {
        installation.append(key, installation.event()).await;
    }
    let (stop, running) = installation.run();
    installation.until_position(5).await;
    let outcome = installation.mend(Remedy::Discard, "a", 1).await;
    assert!(matches!(&outcome, Outcome::Failed(why) if why.contains("offset 3")), "{outcome:?}");
    assert_eq!(installation.mend(Remedy::Discard, "a", 3).await, Outcome::Succeeded);
    assert_eq!((installation.rows().await, installation.metric("parked_keys")), (3, Some(0.0)));
    let discarded = |all: &[parked::Parked]| {
        let discarded = all[0].discarded().iter().map(|one| one.offset);
        (all[0].is_set_aside(), discarded.collect::<Vec<_>>())
    };
    assert_eq!(discarded(&installation.parked().await), (false, vec![1, 3]));
    stop.cancel();
    running.await.unwrap();
    // What is discarded stays so, and is still told once the key is set aside again.
    installation.refused.set(&[5], Fault::Refused);
    installation.append(b"a", installation.event()).await;
    let (_stop, _) = installation.run();
    installation.until_position(6).await;
    assert_eq!(discarded(&installation.parked().await), (true, vec![1, 3]));
    assert_eq!(installation.rows().await, 3);
}

#[tokio::test]
async fn many_keys_parked_within_a_minute_stop_the_projection_until_there_is_room() {
    let stopped_retry = Duration::from_millis(20);
    let options =
        ProjectorOptions { max_parked_per_minute: 2, stopped_retry, ..ProjectorOptions::default() };
    let installation = installation(options).await;
    installation.refused.set(&[0, 1, 2], Fault::Refused);
    for key in [b"a", b"b", b"c", b"d"] {
        installation.append(key, installation.event()).await;
    }
    let (stop, running) = installation.run();
    installation.until_down("too_many_parked", 2).await;
    stop.cancel();
    running.await.unwrap();
    assert!(installation.down().await.is_some(), "it outlives the owner");
    let (_stop, _) = installation.run();
    installation.until_down("too_many_parked", 2).await;
    assert_eq!((installation.rows().await, installation.parked().await.len()), (0, 2));
    // One of them is mended: there is room for the third.
    assert_eq!(installation.mend(Remedy::Discard, "a", 0).await, Outcome::Succeeded);
    installation.until_position(4).await;
    installation.until("going on", || installation.metric("down") == Some(0.0)).await;
    assert_eq!((installation.down().await, installation.rows().await), (None, 1));
}

#[tokio::test]
async fn a_projection_that_is_told_to_stops_at_the_event_and_goes_on_once_it_can() {
    let options = ProjectorOptions {
        recovery_of: [("letters".to_owned(), Recovery::Stop)].into(),
        stopped_retry: Duration::from_millis(20),
        ..ProjectorOptions::default()
    };
    let installation = installation(options).await;
    installation.refused.set(&[1], Fault::Refused);
    for key in [b"a", b"b", b"c"] {
        installation.append(key, installation.event()).await;
    }
    let (_stop, _) = installation.run();
    installation.until_down("event", 1).await;
    assert_eq!((installation.rows().await, installation.parked().await.len()), (1, 0));
    installation.refused.set(&[], Fault::Refused);
    installation.until_position(3).await;
    installation.until("going on", || installation.metric("down") == Some(0.0)).await;
    assert_eq!((installation.down().await, installation.rows().await), (None, 3));
}

#[tokio::test]
async fn a_fold_that_panics_parks_the_key_alone() {
    let installation = installation(ProjectorOptions::default()).await;
    installation.refused.set(&[0], Fault::Panics);
    installation.append(b"a", installation.event()).await;
    installation.append(b"b", installation.event()).await;
    let (_stop, _) = installation.run();
    installation.until_position(2).await;
    assert_eq!(installation.rows().await, 1);
    let parked = installation.parked().await;
    assert_eq!(parked[0].category(), Some(parked::Category::Panic));
    assert!(parked[0].fault().contains("on demand"), "{}", parked[0].fault());
}
