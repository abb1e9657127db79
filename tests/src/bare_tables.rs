//! A bare loop on fjall: the rows that an installation made of its events, put there once more as
//! they are. Nothing is parsed, decoded, compared or logged beside it, so that no implementation on
//! these tables can be faster.

use crate::{
    bare_cluster::{EVENTS_PER_FOLD, fold, records_of},
    process::Installation,
};
use almanac_event_log::embedded::{EmbeddedLog, EmbeddedOptions};
use almanac_projector::Projection;
use almanac_read_store::Change;
use almanac_schemas::{BuiltInRegistry, Codec};
use bytes::Bytes;
use fjall::{Database, KeyspaceCreateOptions, compaction::Leveled};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// As the embedded read store's.
const MEMTABLE_BYTES: u64 = 8 << 20;
const WRITE_BUFFER_BYTES: u64 = 64 << 20;
const L0_TABLES: u8 = 12;
/// Entries of local state.
const STATE: &str = "state";

type Row = (String, Vec<u8>, Bytes);

/// Up to so many events of a projection, and where its writers keep local state, as many entries of
/// it; how many events are done with in a second. What is prepared is not timed. The installation
/// must have stopped.
pub async fn fill(
    installation: &Installation,
    projection: &dyn Projection,
    state: Option<&str>,
    most: usize,
) -> f64 {
    let (events, batches) = rows_of(installation, projection, state, most).await;
    let folder = tempfile::tempdir().unwrap();
    let database = Database::builder(folder.path())
        .worker_threads(1)
        .max_journaling_size(WRITE_BUFFER_BYTES)
        .open()
        .unwrap();
    let options = || {
        KeyspaceCreateOptions::default()
            .max_memtable_size(MEMTABLE_BYTES)
            .compaction_strategy(Arc::new(Leveled::default().with_l0_threshold(L0_TABLES)))
    };
    let names = batches.iter().flatten().map(|(table, ..)| table.clone());
    let keyspaces: HashMap<String, _> =
        names.map(|name| (name.clone(), database.keyspace(&name, options).unwrap())).collect();
    let started = Instant::now();
    for rows in batches {
        let mut batch = database.batch();
        for (table, key, value) in rows {
            batch.insert(&keyspaces[&table], key, value);
        }
        batch.commit().unwrap();
        while database.write_buffer_size() > WRITE_BUFFER_BYTES {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    events as f64 / started.elapsed().as_secs_f64()
}

/// Sorted by key within a batch, as the read store sorts them.
async fn rows_of(
    installation: &Installation,
    projection: &dyn Projection,
    state: Option<&str>,
    most: usize,
) -> (usize, Vec<Vec<Row>>) {
    let folder = installation.folder().join("up/log");
    let log = EmbeddedLog::open(EmbeddedOptions::new(folder)).unwrap();
    let codec = Codec::new(Arc::new(BuiltInRegistry)).await.unwrap();
    let mut events = Vec::new();
    for topic in projection.topics() {
        events.extend(records_of(&log, &installation.topic(topic)).await);
    }
    events.truncate(most);
    let (mut batches, mut known) = (Vec::new(), HashMap::new());
    for chunk in events.chunks(EVENTS_PER_FOLD) {
        let mut rows: Vec<Row> = Vec::new();
        for event in chunk {
            let folded = fold(&codec, projection, event).await;
            for write in folded.index.into_iter().chain(folded.own) {
                let is_repeated = projection.layout().is_repeated(&write.table);
                let Change::Put { partition, clustering, body, .. } = write.change else {
                    continue;
                };
                let key = format!("{partition}\0{clustering}").into_bytes();
                // The projector writes what stands there already no second time.
                if !is_repeated || known.insert(key.clone(), body.clone()).as_ref() != Some(&body) {
                    rows.push((write.table.to_string(), key, body));
                }
            }
        }
        batches.push(rows);
    }
    if let Some(topic) = state {
        let states = records_of(&log, &installation.topic(topic)).await;
        for (place, state) in states.into_iter().take(events.len()).enumerate() {
            let value = state.record.value.unwrap_or_default();
            batches[place / EVENTS_PER_FOLD].push((
                STATE.to_owned(),
                state.record.key.to_vec(),
                value,
            ));
        }
    }
    batches.iter_mut().for_each(|rows| rows.sort_unstable());
    (events.len(), batches)
}
