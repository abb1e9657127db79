//! Bare loops on Kafka and Cassandra: the same records and rows as an installation made, moved by
//! the same clients with nothing in between.

use crate::{kafka, process::Installation, scylla, unique};
use almanac_event_log::{
    Append, EventLog, GroupEvent, GroupMember, GroupOptions, InputPosition, Isolation, Offset,
    Ownership, ReadLimit, Retention, StoredRecord, TopicSpec, Transactor, kafka::KafkaLog,
};
use almanac_projector::{Event, Folded, Projection};
use almanac_read_store::{ReadStore, Retry, Write, scylla::ScyllaStore};
use almanac_schemas::{Codec, ConfluentRegistry, RegistryOptions};
use almanac_tables::plans::{self, Tables};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use uuid::Uuid;

/// As the ingestor's and the projector's defaults.
const EVENTS_PER_TRANSACTION: usize = 2_000;
pub(crate) const EVENTS_PER_FOLD: usize = 2_000;
const PARTITIONS: u32 = 4;

/// What is written at once: rows of the index first, then an aggregate's own.
type Fold = [Vec<Write>; 2];

/// Everything a bare loop needs, under names of its own.
struct Stage {
    log: KafkaLog,
    store: ScyllaStore,
    tables: Tables,
    topic: Arc<str>,
    ownership: Ownership,
    _member: Box<dyn GroupMember>,
}

impl Stage {
    async fn new() -> Self {
        let name = unique('b');
        let log = KafkaLog::connect(kafka()).unwrap();
        let topic = format!("{name}.events");
        let spec = |name: &str, partitions| TopicSpec {
            name: name.to_owned(),
            partitions,
            retention: Retention::Forever,
            durability: almanac_event_log::Durability::Synced,
        };
        let input = format!("{name}.input");
        log.ensure_topics(&[spec(&topic, PARTITIONS), spec(&input, 1)]).await.unwrap();
        let mut options = scylla(&name);
        options.replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}".to_owned();
        let store = ScyllaStore::connect(&options).await.unwrap();
        let tables = Tables::of(plans::VERSION).unwrap();
        almanac_tables::prepare(&store, &tables).await.unwrap();
        let group = GroupOptions {
            group: name.clone(),
            topic: input,
            instance: name.clone(),
            session_timeout: Duration::from_secs(10),
        };
        let mut member = log.join(group).await.unwrap();
        let ownership = loop {
            if let GroupEvent::Assigned(mut assigned) = member.next().await.unwrap()
                && let Some(ownership) = assigned.pop()
            {
                break ownership;
            }
        };
        Self { log, store, tables, topic: topic.into(), ownership, _member: member }
    }

    async fn transactor(&self) -> Box<dyn Transactor> {
        self.log.transactor(&Uuid::new_v4().to_string(), &self.ownership).await.unwrap()
    }

    fn input(&self) -> InputPosition {
        InputPosition { topic: self.ownership.topic.clone(), partition: 0, next_offset: 0 }
    }

    /// By partition, the rows that the projector makes of events, in its batches.
    async fn folds(&self, codec: &Codec, events: &[StoredRecord]) -> BTreeMap<u32, Vec<Fold>> {
        let mut by_partition: BTreeMap<u32, Vec<Fold>> = BTreeMap::new();
        for partition in 0..PARTITIONS {
            let own: Vec<&StoredRecord> =
                events.iter().filter(|event| event.partition == partition).collect();
            for chunk in own.chunks(EVENTS_PER_FOLD) {
                let mut folds = [Vec::new(), Vec::new()];
                for event in chunk {
                    let folded = fold(codec, &self.tables, event).await;
                    // The projector writes a day's row once.
                    let days = &self.tables.days;
                    folds[0].extend(folded.index.into_iter().filter(|write| write.table != *days));
                    folds[1].extend(folded.own);
                }
                by_partition.entry(partition).or_default().push(folds);
            }
        }
        by_partition
    }

    fn append(&self, record: &StoredRecord) -> Append {
        let (topic, partition) = (self.topic.clone(), record.partition);
        Append { topic, partition, record: record.record.clone() }
    }
}

pub(crate) async fn records_of(log: &dyn EventLog, topic: &str) -> Vec<StoredRecord> {
    let mut starts = Vec::new();
    for partition in 0..PARTITIONS {
        starts.push(log.start(topic, partition).await.unwrap());
    }
    records_from(log, topic, &starts).await
}

/// The records of a topic from an offset on in each of its partitions.
pub async fn records_from(log: &dyn EventLog, topic: &str, from: &[Offset]) -> Vec<StoredRecord> {
    let mut records = Vec::new();
    for (partition, from) in (0..).zip(from) {
        let end = log.end(topic, partition, Isolation::Committed).await.unwrap();
        if *from >= end {
            continue;
        }
        let mut reader = log.read_to(topic, partition, *from, end).await.unwrap();
        loop {
            let limit = ReadLimit { records: 10_000, bytes: 8 << 20 };
            let batch = reader.next(limit, Duration::from_secs(1)).await.unwrap();
            records.extend(batch.records);
            if !batch.at_end.is_empty() {
                break;
            }
        }
    }
    records
}

/// Where each partition of a topic ends.
pub async fn ends_of(log: &dyn EventLog, topic: &str) -> Vec<Offset> {
    let mut ends = Vec::new();
    for partition in 0..PARTITIONS {
        ends.push(log.end(topic, partition, Isolation::Committed).await.unwrap());
    }
    ends
}

/// The registry, as an installation uses it.
pub fn registry(installation: &Installation) -> ConfluentRegistry {
    ConfluentRegistry::new(RegistryOptions {
        url: crate::address("ALMANAC_TEST_REGISTRY").into(),
        prefix: installation.topic(""),
        timeout: Duration::from_secs(10),
        ..Default::default()
    })
    .unwrap()
}

async fn codec(installation: &Installation) -> Codec {
    Codec::new(Arc::new(registry(installation))).await.unwrap()
}

pub(crate) async fn fold(
    codec: &Codec,
    projection: &dyn Projection,
    record: &StoredRecord,
) -> Folded {
    let value = record.record.value.as_ref().unwrap();
    let decoded = codec.decode(value).await.unwrap();
    let (partition, position) = (record.partition, record.offset);
    projection.fold(&Event { decoded: &decoded, partition, position, repair: 0 }).unwrap()
}

/// Moves what an installation has ingested once more; what is prepared is not timed.
pub async fn ingest(installation: &Installation) -> Duration {
    let stage = Stage::new().await;
    let codec = codec(installation).await;
    let events = records_of(&stage.log, &installation.topic("plans.events")).await;
    let states = records_of(&stage.log, &installation.topic("ingest.state")).await;
    let all: Vec<Append> = events.iter().chain(&states).map(|one| stage.append(one)).collect();
    let transactions: Vec<Vec<Append>> =
        all.chunks(EVENTS_PER_TRANSACTION * 2).map(<[Append]>::to_vec).collect();
    let by_partition = stage.folds(&codec, &events).await;
    let mut transactor = stage.transactor().await;
    let started = Instant::now();
    let writing = by_partition.into_values().map(|folds| {
        let store = stage.store.clone();
        tokio::spawn(async move {
            for [index, own] in folds {
                write(&store, index).await;
                write(&store, own).await;
            }
        })
    });
    let writing: Vec<_> = writing.collect();
    for transaction in transactions {
        transactor.commit(transaction, stage.input()).await.unwrap();
    }
    for task in writing {
        task.await.unwrap();
    }
    started.elapsed()
}

/// Reads what an installation has ingested, decodes it and writes the rows that became of it, all partitions at
/// once; the rows are prepared, and that is not timed.
pub async fn rebuild(installation: &Installation) -> Duration {
    let stage = Stage::new().await;
    let codec = Arc::new(codec(installation).await);
    let topic: Arc<str> = installation.topic("plans.events").into();
    let events = records_of(&stage.log, &topic).await;
    let by_partition = stage.folds(&codec, &events).await;
    drop(events);
    let started = Instant::now();
    let moving = by_partition.into_iter().map(|(partition, folds)| {
        let (log, store, codec) = (stage.log.clone(), stage.store.clone(), codec.clone());
        let topic = topic.clone();
        tokio::spawn(async move {
            let end = log.end(&topic, partition, Isolation::Committed).await.unwrap();
            let mut reader = log.read_to(&topic, partition, 0, end).await.unwrap();
            for [index, own] in folds {
                let limit = ReadLimit { records: EVENTS_PER_FOLD, bytes: 8 << 20 };
                let batch = reader.next(limit, Duration::from_secs(5)).await.unwrap();
                for stored in &batch.records {
                    let value = stored.record.value.as_ref().unwrap();
                    std::hint::black_box(codec.decode(value).await.unwrap());
                }
                write(&store, index).await;
                write(&store, own).await;
            }
        })
    });
    for task in moving.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    started.elapsed()
}

/// As Almanac does: a store that is behind with its work is asked again, for a while.
async fn write(store: &dyn ReadStore, writes: Vec<Write>) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while let Err(error) = store.write(writes.clone()).await {
        assert!(error.retry() == Retry::Later && Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Milliseconds from produce to read, one change at a time.
pub async fn change(installation: &Installation, times: u64) -> Vec<f64> {
    let stage = Stage::new().await;
    let codec = codec(installation).await;
    let events = records_of(&stage.log, &installation.topic("plans.events")).await;
    let of_plans: Vec<&StoredRecord> = events
        .iter()
        .filter(|event| event.record.headers.get_str("ce_type") == Some("plan.changed"))
        .collect();
    let from: Vec<(u32, u64)> = (0..PARTITIONS).map(|partition| (partition, 0)).collect();
    let mut reader = stage.log.read(&stage.topic, &from).await.unwrap();
    let mut transactor = stage.transactor().await;
    let mut took = Vec::new();
    for event in of_plans.iter().cycle().take(times as usize) {
        let folded = fold(&codec, &stage.tables, event).await;
        let own = folded.own[0].clone();
        let started = Instant::now();
        transactor.commit(vec![stage.append(event)], stage.input()).await.unwrap();
        let limit = ReadLimit { records: 100, bytes: 1 << 20 };
        while reader.next(limit, Duration::from_secs(5)).await.unwrap().records.is_empty() {}
        stage.store.write(folded.index).await.unwrap();
        stage.store.write(folded.own).await.unwrap();
        let clustering = match &own.change {
            almanac_read_store::Change::Put { clustering, .. }
            | almanac_read_store::Change::Delete { clustering, .. } => clustering.clone(),
        };
        let row = stage.store.get(&own.table, own.change.partition(), &clustering).await.unwrap();
        assert!(row.is_some());
        took.push(started.elapsed().as_secs_f64() * 1_000.0);
    }
    took
}
