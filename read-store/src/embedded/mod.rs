//! The read store in the process, on fjall.
//!
//! One fjall keyspace per table version. Tombstones stay for [`TOMBSTONE_GRACE`], as in Cassandra,
//! so that a late write cannot bring a deleted row back.

mod row;

pub use row::TOMBSTONE_GRACE;

use crate::{
    Change, Direction, Part, ReadStore, Row, Scanned, Slice, StoreError, StoreResult, Table, Write,
    port::key_fault,
};
use async_trait::async_trait;
use fjall::{
    Database, Keyspace, KeyspaceCreateOptions,
    compaction::{Leveled, filter::Factory},
};
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use row::{TombstoneFilter, decode, encode, row_key, stands_over, unix_seconds};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;
use uuid::Uuid;

/// A table's memtable is written out at this size; all of them together are kept below that one.
const MEMTABLE_BYTES: u64 = 8 << 20;
const WRITE_BUFFER_BYTES: u64 = 64 << 20;
/// As many written memtables of a table are merged at once. Three times fjall's own number: rows of
/// an index lie all over its table, so that each merge rewrites all of the level below. Filters keep
/// reads out of most of them; fjall slows writers down from twenty on.
const L0_TABLES: u8 = 12;
const MAX_FLUSH_WAIT: Duration = Duration::from_millis(500);
/// Each read under way has a thread, and each thread keeps some of the memory that it used: as many
/// as clients want would be slower together, and cost gigabytes. More wait their turn.
const READS_PER_CORE: usize = 2;
/// Rows of a scan that are handed out at once.
const SCANNED: usize = 512;
const KEYSPACE_PREFIX: &str = "t_";

/// Clones share the open database.
#[derive(Clone)]
pub struct EmbeddedStore(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    /// Nobody else has these tables open: they need no ids that last longer.
    ids: Mutex<HashMap<Table, Uuid>>,
    database: Database,
    /// Open tables. Its lock also makes read-compare-write of a row one step: all writes take it.
    tables: Mutex<HashMap<Table, Keyspace>>,
    writing: Mutex<()>,
    reading: Arc<Semaphore>,
}

impl EmbeddedStore {
    /// Opens or creates the database in `folder`. Blocks while it recovers.
    pub fn open(folder: &Path, cache_bytes: u64) -> StoreResult<Self> {
        let database = Database::builder(folder)
            .cache_size(cache_bytes)
            .worker_threads(1)
            // Recovery replays the journals: small ones start faster.
            .max_journaling_size(64 << 20)
            .with_compaction_filter_factories(Arc::new(|keyspace| {
                keyspace
                    .starts_with(KEYSPACE_PREFIX)
                    .then(|| Arc::new(TombstoneFilter) as Arc<dyn Factory>)
            }))
            .open()
            .map_err(|error| storage_error("open", folder, error))?;
        Ok(Self(Arc::new(Inner {
            folder: folder.to_owned(),
            ids: Mutex::default(),
            database,
            tables: Mutex::new(HashMap::new()),
            writing: Mutex::new(()),
            reading: Arc::new(Semaphore::new(reads_at_once())),
        })))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let inner = self.0.clone();
        tokio::task::spawn_blocking(move || work(&inner)).await.unwrap_or_else(|error| {
            Err(StoreError::Unavailable { what: "read store".to_owned(), source: error.into() })
        })
    }

    async fn reading<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        // The work has the turn: it goes on when nobody waits for it any more.
        let turn = self.0.reading.clone().acquire_owned().await;
        self.blocking(move |inner| {
            let _turn = turn;
            work(inner)
        })
        .await
    }
}

fn reads_at_once() -> usize {
    READS_PER_CORE * std::thread::available_parallelism().map_or(1, usize::from)
}

fn storage_error(action: &'static str, folder: &Path, error: fjall::Error) -> StoreError {
    let folder = folder.to_owned();
    match error {
        fjall::Error::Poisoned => {
            let source = "a write in the background failed, as on a full disk".into();
            StoreError::Stopped { action, folder, source }
        }
        error => StoreError::Storage { action, folder, source: error.into() },
    }
}

/// Of a write to the journal: whatever it is, fjall takes no other after it.
fn stopped(action: &'static str, folder: &Path, error: fjall::Error) -> StoreError {
    match storage_error(action, folder, error) {
        StoreError::Storage { action, folder, source } => {
            StoreError::Stopped { action, folder, source }
        }
        error => error,
    }
}

fn keyspace_name(table: &Table) -> String {
    format!("{KEYSPACE_PREFIX}{table}")
}

fn options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .max_memtable_size(MEMTABLE_BYTES)
        .compaction_strategy(Arc::new(Leveled::default().with_l0_threshold(L0_TABLES)))
}

impl Inner {
    fn open_table(&self, table: &Table) -> StoreResult<Keyspace> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(keyspace) = tables.get(table) {
            return Ok(keyspace.clone());
        }
        let name = keyspace_name(table);
        if !self.database.keyspace_exists(&name) {
            return Err(StoreError::UnknownTable { table: table.to_string() });
        }
        let keyspace = self
            .database
            .keyspace(&name, options)
            .map_err(|error| storage_error("open", &self.folder, error))?;
        tables.insert(table.clone(), keyspace.clone());
        Ok(keyspace)
    }

    fn write(&self, writes: Vec<Write>) -> StoreResult<()> {
        let now_s = unix_seconds();
        let mut open: Vec<(Table, Keyspace)> = Vec::new();
        let mut rows = Vec::with_capacity(writes.len());
        for write in writes {
            let place = match open.iter().position(|(table, _)| *table == write.table) {
                Some(place) => place,
                None => {
                    open.push((write.table.clone(), self.open_table(&write.table)?));
                    open.len() - 1
                }
            };
            let (key, value) = encode(&write, now_s)?;
            rows.push((place, key, value));
        }
        // In the order of keys, neighbours are found where the one before was; and changes of the
        // same row come together.
        rows.sort_by(|left, right| (left.0, &left.1).cmp(&(right.0, &right.1)));
        rows.dedup_by(|later, kept| {
            let same = (later.0, &later.1) == (kept.0, &kept.1);
            if same && stands_over(&later.2, &kept.2) {
                std::mem::swap(&mut kept.2, &mut later.2);
            }
            same
        });
        let mut batch = self.database.batch();
        let _one_writer = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        for (place, key, value) in rows {
            let keyspace = &open[place].1;
            let current =
                keyspace.get(&key).map_err(|error| storage_error("read", &self.folder, error))?;
            if current.is_none_or(|current| stands_over(&value, &current)) {
                batch.insert(keyspace, key, value);
            }
        }
        batch.commit().map_err(|error| stopped("write", &self.folder, error))?;
        self.bound_memtables()
    }

    /// fjall knows a bound for each memtable, not for all of them, and writes on while a full one
    /// waits for its worker: a writer that is faster than the disk would fill the memory. Waits for
    /// what is on its way to the disk; when nothing is, it is many tables that are each not full
    /// yet, and all of them go.
    fn bound_memtables(&self) -> StoreResult<()> {
        let is_full = || self.database.write_buffer_size() > WRITE_BUFFER_BYTES;
        if !is_full() {
            return Ok(());
        }
        let open: Vec<Keyspace> = {
            let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
            tables.values().cloned().collect()
        };
        if open.iter().all(|keyspace| keyspace.sealed_memtable_count() == 0) {
            for keyspace in &open {
                keyspace
                    .rotate_memtable()
                    .map_err(|error| storage_error("flush", &self.folder, error))?;
            }
        }
        let until = Instant::now() + MAX_FLUSH_WAIT;
        while is_full() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn slice(&self, table: &Table, partition: &str, slice: &Slice) -> StoreResult<Vec<Row>> {
        let keyspace = self.open_table(table)?;
        if !slice.check(table, partition)? {
            return Ok(Vec::new());
        }
        let lower = row_key(partition, slice.from.as_deref().unwrap_or(""));
        let upper = match &slice.until {
            Some(until) => row_key(partition, until),
            None => {
                let mut after = partition.as_bytes().to_vec();
                after.push(1);
                after
            }
        };
        if lower >= upper {
            return Ok(Vec::new());
        }
        let skip = partition.len() + 1;
        let mut range = keyspace.range(lower..upper);
        let mut rows = Vec::new();
        while rows.len() < slice.limit {
            let next = match slice.direction {
                Direction::Ascending => range.next(),
                Direction::Descending => range.next_back(),
            };
            let Some(guard) = next else { break };
            let (key, value) =
                guard.into_inner().map_err(|error| storage_error("read", &self.folder, error))?;
            if let Some(row) = decode(table, &key[skip..], value.into())? {
                rows.push(row);
            }
        }
        Ok(rows)
    }
}

impl Inner {
    /// Hands all rows of a table out, in batches, until nobody takes them any more.
    fn scan(
        &self,
        table: &Table,
        rows: &tokio::sync::mpsc::Sender<StoreResult<Vec<Scanned>>>,
    ) -> StoreResult<()> {
        let mut batch = Vec::with_capacity(SCANNED);
        for guard in self.open_table(table)?.iter() {
            let (key, value) =
                guard.into_inner().map_err(|error| storage_error("read", &self.folder, error))?;
            let Some(scanned) = row::scanned(table, &key, value.into())? else { continue };
            batch.push(scanned);
            if batch.len() == SCANNED && rows.blocking_send(Ok(std::mem::take(&mut batch))).is_err()
            {
                return Ok(());
            }
        }
        let _ = rows.blocking_send(Ok(batch));
        Ok(())
    }
}

#[async_trait]
impl ReadStore for EmbeddedStore {
    async fn create_table(&self, table: &Table) -> StoreResult<()> {
        let table = table.clone();
        self.blocking(move |inner| {
            inner
                .database
                .keyspace(&keyspace_name(&table), options)
                .map(drop)
                .map_err(|error| storage_error("create a table among", &inner.folder, error))
        })
        .await
    }

    async fn tables(&self) -> StoreResult<Vec<Table>> {
        self.blocking(|inner| {
            let mut tables: Vec<_> = inner
                .database
                .list_keyspace_names()
                .iter()
                .filter_map(|name| Table::parse(name.strip_prefix(KEYSPACE_PREFIX)?))
                .collect();
            tables.sort();
            Ok(tables)
        })
        .await
    }

    async fn table_id(&self, table: &Table) -> StoreResult<Uuid> {
        let table = table.clone();
        self.blocking(move |inner| {
            inner.open_table(&table)?;
            let mut ids = inner.ids.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(*ids.entry(table).or_insert_with(Uuid::new_v4))
        })
        .await
    }

    async fn drop_table(&self, table: &Table) -> StoreResult<()> {
        let table = table.clone();
        self.blocking(move |inner| {
            let keyspace = match inner.open_table(&table) {
                Ok(keyspace) => keyspace,
                Err(StoreError::UnknownTable { .. }) => return Ok(()),
                Err(error) => return Err(error),
            };
            inner.tables.lock().unwrap_or_else(PoisonError::into_inner).remove(&table);
            inner.ids.lock().unwrap_or_else(PoisonError::into_inner).remove(&table);
            inner
                .database
                .delete_keyspace(keyspace)
                .map_err(|error| storage_error("drop a table among", &inner.folder, error))
        })
        .await
    }

    async fn write(&self, writes: Vec<Write>) -> StoreResult<()> {
        self.blocking(move |inner| inner.write(writes)).await
    }

    async fn get(
        &self,
        table: &Table,
        partition: &str,
        clustering: &str,
    ) -> StoreResult<Option<Row>> {
        if key_fault(partition, clustering).is_some() {
            return Ok(None);
        }
        let (table, key) = (table.clone(), row_key(partition, clustering));
        let skip = partition.len() + 1;
        self.reading(move |inner| {
            let value = inner
                .open_table(&table)?
                .get(&key)
                .map_err(|error| storage_error("read", &inner.folder, error))?;
            value.map_or(Ok(None), |value| decode(&table, &key[skip..], value.into()))
        })
        .await
    }

    async fn slice(&self, table: &Table, partition: &str, slice: &Slice) -> StoreResult<Vec<Row>> {
        let (table, partition, slice) = (table.clone(), partition.to_owned(), slice.clone());
        self.reading(move |inner| inner.slice(&table, &partition, &slice)).await
    }

    fn scan(&self, table: &Table, part: Part) -> BoxStream<'static, StoreResult<Scanned>> {
        // One thread reads all of it faster than several would: it reads files from end to end.
        if part.number > 0 {
            return futures::stream::empty().boxed();
        }
        let (sender, receiver) = tokio::sync::mpsc::channel::<StoreResult<Vec<Scanned>>>(2);
        let (store, table) = (self.clone(), table.clone());
        tokio::spawn(async move {
            let rows = sender.clone();
            let scanned = store.blocking(move |inner| inner.scan(&table, &rows)).await;
            if let Err(error) = scanned {
                // Nobody may be there any more to hear of it.
                let _ = sender.send(Err(error)).await;
            }
        });
        let batches = futures::stream::unfold(receiver, |mut receiver| async move {
            let batch = receiver.recv().await?;
            Some((batch, receiver))
        });
        batches.map_ok(|rows| futures::stream::iter(rows.into_iter().map(Ok))).try_flatten().boxed()
    }

    async fn bulk_load(
        &self,
        table: &Table,
        mut rows: BoxStream<'static, StoreResult<(String, Row)>>,
    ) -> StoreResult<u64> {
        // Batches cross to the loading thread over a short channel, so that memory is bounded.
        let (sender, mut receiver) = tokio::sync::mpsc::channel::<Vec<(String, Row)>>(2);
        let table = table.clone();
        let loading = self.blocking(move |inner| {
            let keyspace = inner.open_table(&table)?;
            let failed = |error: fjall::Error| storage_error("load", &inner.folder, error);
            if !keyspace.is_empty().map_err(failed)? {
                return Err(StoreError::NotEmpty { table: table.to_string() });
            }
            let mut ingestion = keyspace.start_ingestion().map_err(failed)?;
            let mut count = 0;
            let mut last = Vec::new();
            while let Some(batch) = receiver.blocking_recv() {
                for (partition, row) in batch {
                    let Row { clustering, timestamp, body } = row;
                    let change = Change::Put { partition, clustering, timestamp, body };
                    let (key, value) = encode(&Write { table: table.clone(), change }, 0)?;
                    if key <= last {
                        let (table, row) = (table.to_string(), count as usize);
                        return Err(StoreError::NotSorted { table, row });
                    }
                    ingestion.write(key.as_slice(), value).map_err(failed)?;
                    last = key;
                    count += 1;
                }
            }
            ingestion.finish().map_err(failed)?;
            Ok(count)
        });
        let feeding = async move {
            let mut batch = Vec::with_capacity(1024);
            while let Some(row) = rows.next().await {
                batch.push(row?);
                if batch.len() == 1024 && sender.send(std::mem::take(&mut batch)).await.is_err() {
                    // The loader stopped; its own error says why.
                    return Ok(());
                }
            }
            let _ = sender.send(batch).await;
            StoreResult::Ok(())
        };
        let (loaded, fed) = tokio::join!(loading, feeding);
        fed?;
        loaded
    }
}

#[cfg(test)]
mod tests;
