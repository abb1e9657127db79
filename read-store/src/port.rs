//! The contract of the read store.
//!
//! * A table has rows of a partition key, a clustering key, a write timestamp and a text body.
//!   Rows of a partition are sorted by the bytes of their clustering key.
//! * **Writes are idempotent and commute.** Of all writes and deletes of a row the one with the
//!   greatest timestamp stands, however late, often or in whatever order they arrive. On equal
//!   timestamps a delete beats a write, and of two writes the greater body stands. Callers derive
//!   timestamps from log positions with [`timestamp`], so a tie only comes from a replay.
//! * A write is durable for readers once `write` returned; changes of one call within one
//!   partition become visible together where the partition fits a batch, others in any order.
//! * A write of what cannot be a row is refused whole, before any of it is applied: see
//!   [`Write::check`]. A bulk load ends there.
//!   Reading under a key that cannot be one finds nothing; bounds of a slice that are longer than
//!   keys may be are refused.
//! * After any other error any part of the call may have been applied; repeating it is always right.

use crate::{StoreError, StoreResult};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use std::{fmt, sync::Arc};
use uuid::Uuid;

/// A table with its version: a new version of a projection fills tables of its own. Within a version, a
/// rebuild fills tables of another generation; the first is 0.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Table {
    name: Arc<str>,
    version: u32,
    generation: u32,
}

impl Table {
    pub fn new(name: &str, version: u32) -> StoreResult<Self> {
        let fits = (1..=32).contains(&name.len())
            && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
            && name.starts_with(|first: char| first.is_ascii_lowercase());
        if !fits {
            return Err(StoreError::BadTableName { name: name.to_owned() });
        }
        Ok(Self { name: name.into(), version, generation: 0 })
    }

    /// The same table of another generation.
    pub fn of_generation(self, generation: u32) -> Self {
        Self { generation, ..self }
    }

    pub fn generation(&self) -> u32 {
        self.generation
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn version(&self) -> u32 {
        self.version
    }

    /// Reads what [`fmt::Display`] writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (name, edition) = text.rsplit_once("_v")?;
        let (version, generation) = match edition.split_once('_') {
            Some((version, generation)) => (version, generation.parse().ok()?),
            None => (edition, 0),
        };
        let table = Self::new(name, version.parse().ok()?).ok()?;
        Some(table.of_generation(generation))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.generation {
            0 => write!(f, "{}_v{}", self.name, self.version),
            generation => write!(f, "{}_v{}_{generation}", self.name, self.version),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub clustering: String,
    pub timestamp: i64,
    pub body: Bytes,
}

/// One of several parts of a table, which together are all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// From 0.
    pub number: u32,
    pub of: u32,
}

/// A row as a scan comes upon it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// Where its partition lies among the others; 0 where they lie by their keys.
    pub token: i64,
    pub partition: String,
    pub row: Row,
}

impl Scanned {
    /// What rows of a scan are sorted by, the same in every table of a store.
    pub fn place(&self) -> (i64, &str, &str) {
        (self.token, &self.partition, &self.row.clustering)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Put { partition: String, clustering: String, timestamp: i64, body: Bytes },
    Delete { partition: String, clustering: String, timestamp: i64 },
}

impl Change {
    pub fn partition(&self) -> &str {
        match self {
            Self::Put { partition, .. } | Self::Delete { partition, .. } => partition,
        }
    }

    pub fn clustering(&self) -> &str {
        match self {
            Self::Put { clustering, .. } | Self::Delete { clustering, .. } => clustering,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    pub table: Table,
    pub change: Change,
}

/// Of partition key and clustering key together: what Cassandra and ScyllaDB take of each, and fjall
/// of both with a character between.
pub const MAX_KEY_BYTES: usize = 65_534;
/// Of a body: half of what a Cassandra node takes in one mutation by default.
pub const MAX_ROW_BYTES: usize = 8 << 20;

const TOO_LONG: &str = "is longer than 65534 bytes";

/// Why no row can have this key.
pub(crate) fn key_fault(partition: &str, clustering: &str) -> Option<&'static str> {
    if partition.is_empty() {
        return Some("has an empty partition key");
    }
    if partition.len() + clustering.len() > MAX_KEY_BYTES {
        return Some(TOO_LONG);
    }
    let has_nul = |key: &str| key.as_bytes().contains(&0);
    (has_nul(partition) || has_nul(clustering)).then_some("holds a NUL character")
}

impl Write {
    /// Whether both engines can take this. A fault is of the write itself: it never goes away.
    pub fn check(&self) -> StoreResult<()> {
        let table = || self.table.to_string();
        if let Some(fault) = key_fault(self.change.partition(), self.change.clustering()) {
            return Err(StoreError::BadKey { table: table(), fault });
        }
        let Change::Put { body, .. } = &self.change else { return Ok(()) };
        if body.len() > MAX_ROW_BYTES {
            let (size, limit) = (body.len(), MAX_ROW_BYTES);
            return Err(StoreError::RowTooLarge { table: table(), size, limit });
        }
        match std::str::from_utf8(body) {
            Ok(_) => Ok(()),
            Err(_) => Err(StoreError::NotText { table: table() }),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Ascending,
    Descending,
}

/// A run of rows of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Inclusive lower bound of the clustering key.
    pub from: Option<String>,
    /// Exclusive upper bound.
    pub until: Option<String>,
    pub direction: Direction,
    pub limit: usize,
}

impl Slice {
    /// The whole partition in ascending order.
    pub fn all() -> Self {
        Self { from: None, until: None, direction: Direction::Ascending, limit: usize::MAX }
    }

    /// Rows whose clustering key starts with `prefix`.
    pub fn prefix(prefix: &str) -> Self {
        // No clustering key of ours holds the greatest character.
        let until = format!("{prefix}\u{10ffff}");
        Self { from: Some(prefix.to_owned()), until: Some(until), ..Self::all() }
    }

    /// Whether rows of this partition can be asked for; `false` when it cannot be one.
    pub(crate) fn check(&self, table: &Table, partition: &str) -> StoreResult<bool> {
        if key_fault(partition, "").is_some() {
            return Ok(false);
        }
        let mut bounds = self.from.iter().chain(&self.until);
        if bounds.any(|bound| partition.len() + bound.len() > MAX_KEY_BYTES) {
            return Err(StoreError::BadKey { table: table.to_string(), fault: TOO_LONG });
        }
        Ok(true)
    }
}

/// The write timestamp of what an event at `position` does to a row.
///
/// The position is shifted left by ten bits; below it stands a repair generation (nine bits), so
/// that a repair wins over what it repairs; the last bit is 0 for a delete and 1 for a write, so
/// that a delete never beats a write of the same event.
///
/// # Panics
/// When `position` needs more than 53 bits, which at a million events a second takes 285 years.
pub fn timestamp(position: u64, repair: u16, is_write: bool) -> i64 {
    assert!(position < 1 << 53, "log position {position} is out of range");
    ((position as i64) << 10) | (i64::from(repair & 0x1ff) << 1) | i64::from(is_write)
}

/// The position of a write timestamp.
pub fn position_of(timestamp: i64) -> u64 {
    u64::try_from(timestamp).unwrap_or_default() >> 10
}

#[async_trait]
pub trait ReadStore: Send + Sync + 'static {
    /// Does nothing when the table exists.
    async fn create_table(&self, table: &Table) -> StoreResult<()>;

    /// All tables that there are, those of other versions of a projection included: for rebuilds,
    /// which fold a new version beside the old one.
    async fn tables(&self) -> StoreResult<Vec<Table>>;

    /// Which table this is. Everybody who has the same rows before him is told the same, for as
    /// long as the store is open; a table of this name elsewhere, or made anew, is another one.
    async fn table_id(&self, table: &Table) -> StoreResult<Uuid>;

    /// For versions of a projection that nobody reads any more. Does nothing when the table does not
    /// exist.
    async fn drop_table(&self, table: &Table) -> StoreResult<()>;

    async fn write(&self, writes: Vec<Write>) -> StoreResult<()>;

    /// The same for rebuilds: many rows at once, of tables that nobody reads yet. After an error some of
    /// them may be there.
    async fn load(&self, writes: Vec<Write>) -> StoreResult<()> {
        self.write(writes).await
    }

    async fn get(
        &self,
        table: &Table,
        partition: &str,
        clustering: &str,
    ) -> StoreResult<Option<Row>>;

    async fn slice(&self, table: &Table, partition: &str, slice: &Slice) -> StoreResult<Vec<Row>>;

    /// All rows of a part of a table, sorted by [`Scanned::place`]. It is for comparing tables, not for
    /// answers: few rows are read ahead, and readers of single rows go before. A row that changes
    /// meanwhile comes as it was or as it is.
    fn scan(&self, table: &Table, part: Part) -> BoxStream<'static, StoreResult<Scanned>>;
}

impl dyn ReadStore {
    /// The same slice of many partitions, in the order given, with at most `concurrency` reads
    /// under way.
    pub fn slices<'a>(
        &'a self,
        table: &'a Table,
        partitions: Vec<String>,
        slice: &'a Slice,
        concurrency: usize,
    ) -> BoxStream<'a, StoreResult<(String, Vec<Row>)>> {
        futures::stream::iter(partitions)
            .map(move |partition| async move {
                let rows = self.slice(table, &partition, slice).await?;
                Ok((partition, rows))
            })
            .buffered(concurrency.max(1))
            .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_order_as_the_contract_says() {
        assert_eq!(position_of(timestamp(5, 511, true)), 5);
        assert!(timestamp(5, 0, true) > timestamp(5, 0, false), "a write beats its own delete");
        assert!(timestamp(5, 1, false) > timestamp(5, 0, true), "a repair beats what it repairs");
        assert!(timestamp(6, 0, false) > timestamp(5, 511, true), "a later event beats any repair");
    }

    #[test]
    fn table_names_are_checked_and_read_back() {
        for bad in ["", "Plans", "1plans", "a-b", "a;drop", &"a".repeat(33)] {
            assert!(Table::new(bad, 1).is_err(), "{bad:?}");
        }
        let table = Table::new("plans_by_start", 12).unwrap();
        assert_eq!(Table::parse(&table.to_string()), Some(table.clone()));
        let rebuilt = table.of_generation(3);
        assert_eq!(rebuilt.to_string(), "plans_by_start_v12_3");
        assert_eq!(Table::parse("plans_by_start_v12_3"), Some(rebuilt));
        assert_eq!(Table::parse("plans_by_start_v12_x"), None);
    }
}
