//! The read store in the process, on fjall.
//!
//! One fjall keyspace per table version. Tombstones stay for [`TOMBSTONE_GRACE`], as in Cassandra,
//! so that a late write cannot bring a deleted row back.

mod row;

pub use row::TOMBSTONE_GRACE;

use crate::{
    Direction, Part, ReadStore, Row, Scanned, Slice, StoreError, StoreResult, Table, Write,
    port::key_fault,
};
use async_trait::async_trait;
use bytes::Bytes;
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
/// Loads wait for merges from here on, as fjall lets other writers wait, but not longer than this.
const MAX_L0_TABLES: usize = 20;
const MAX_MERGE_WAIT: Duration = Duration::from_secs(5);
/// Each read under way has a thread, and each thread keeps some of the memory that it used: as many
/// as clients want would be slower together, and cost gigabytes. More wait their turn.
const READS_PER_CORE: usize = 2;
/// Rows of a scan that are handed out at once.
const SCANNED: usize = 512;
const KEYSPACE_PREFIX: &str = "t_";

/// A row as the database has it: its key, and its value.
type Encoded = (Vec<u8>, Bytes);

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

/// For fjall's own threads, which tell nobody when they are done. Blocks.
fn wait_while(is_so: impl Fn() -> bool, at_most: Duration) {
    let until = Instant::now() + at_most;
    while is_so() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(2));
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

    /// By table, the rows that these writes lead to, in the order of keys: neighbours are found where the
    /// one before was, and changes of the same row meet.
    fn rows(&self, writes: Vec<Write>) -> StoreResult<Vec<(Keyspace, Vec<Encoded>)>> {
        let now_s = unix_seconds();
        let mut tables: Vec<(Table, Keyspace, Vec<Encoded>)> = Vec::new();
        for write in writes {
            let place = match tables.iter().position(|(table, ..)| *table == write.table) {
                Some(place) => place,
                None => {
                    let keyspace = self.open_table(&write.table)?;
                    tables.push((write.table.clone(), keyspace, Vec::new()));
                    tables.len() - 1
                }
            };
            tables[place].2.push(encode(&write, now_s)?);
        }
        let sorted = tables.into_iter().map(|(_, keyspace, mut rows)| {
            rows.sort_by(|left, right| left.0.cmp(&right.0));
            rows.dedup_by(|later, kept| {
                let same = later.0 == kept.0;
                if same && stands_over(&later.1, &kept.1) {
                    std::mem::swap(&mut kept.1, &mut later.1);
                }
                same
            });
            (keyspace, rows)
        });
        Ok(sorted.collect())
    }

    /// Whether a row is to be written over what is there.
    fn stands(&self, keyspace: &Keyspace, (key, value): &Encoded) -> StoreResult<bool> {
        let current =
            keyspace.get(key).map_err(|error| storage_error("read", &self.folder, error))?;
        Ok(current.is_none_or(|current| stands_over(value, &current)))
    }

    fn write(&self, writes: Vec<Write>) -> StoreResult<()> {
        let tables = self.rows(writes)?;
        let mut batch = self.database.batch();
        let _one_writer = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        for (keyspace, rows) in tables {
            for row in rows {
                if self.stands(&keyspace, &row)? {
                    batch.insert(&keyspace, row.0, row.1);
                }
            }
        }
        batch.commit().map_err(|error| stopped("write", &self.folder, error))?;
        self.bound_memtables()
    }

    /// Sorted files of their own take the place of the journal and of memtables.
    fn load(&self, writes: Vec<Write>) -> StoreResult<()> {
        let failed = |error: fjall::Error| storage_error("load", &self.folder, error);
        let tables = self.rows(writes)?;
        {
            let _one_writer = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
            for (keyspace, rows) in &tables {
                let mut ingestion = keyspace.start_ingestion().map_err(failed)?;
                for row in rows {
                    if self.stands(keyspace, row)? {
                        ingestion.write(row.0.as_slice(), row.1.clone()).map_err(failed)?;
                    }
                }
                ingestion.finish().map_err(failed)?;
            }
        }
        // Nothing else slows down whoever loads faster than files are merged.
        let is_behind = || tables.iter().any(|(table, _)| table.l0_table_count() > MAX_L0_TABLES);
        wait_while(is_behind, MAX_MERGE_WAIT);
        Ok(())
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
        wait_while(is_full, MAX_FLUSH_WAIT);
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

    async fn load(&self, writes: Vec<Write>) -> StoreResult<()> {
        self.blocking(move |inner| inner.load(writes)).await
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
}

#[cfg(test)]
mod tests;
