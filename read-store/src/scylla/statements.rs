//! The statements, prepared once each.

use super::server_error;
use crate::{Change, Direction, Part, Slice, StoreError, StoreResult, Table};
use scylla::{
    client::session::Session,
    serialize::{
        SerializationError,
        row::{RowSerializationContext, SerializeRow},
        writers::RowWriter,
    },
    statement::prepared::PreparedStatement,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::OnceCell;

/// One statement, prepared once however many callers want it first.
type Once = Arc<OnceCell<Arc<PreparedStatement>>>;

/// Prepared statements by table and text. A table has at most two dozen.
pub(super) struct Statements {
    known: Mutex<HashMap<Table, HashMap<String, Once>>>,
    /// How long preparing may take; the driver itself would wait for a stuck node for ever.
    timeout: Duration,
}

impl Statements {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { known: Mutex::default(), timeout }
    }

    pub(super) async fn get(
        &self,
        session: &Session,
        table: &Table,
        cql: String,
    ) -> StoreResult<Arc<PreparedStatement>> {
        let once = self.once(table, &cql);
        let prepare = || async {
            let prepared = tokio::time::timeout(self.timeout, session.prepare(cql.as_str())).await;
            let prepared = prepared.map_err(|_| StoreError::Unavailable {
                what: format!("table {table}"),
                source: format!("no statement prepared in {} s", self.timeout.as_secs_f32()).into(),
            })?;
            let mut prepared = prepared.map_err(|error| server_error(&table.to_string(), error))?;
            prepared.set_is_idempotent(true);
            Ok(Arc::new(prepared))
        };
        once.get_or_try_init(prepare).await.cloned()
    }

    fn once(&self, table: &Table, cql: &str) -> Once {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(once) = known.get(table).and_then(|of_table| of_table.get(cql)) {
            return once.clone();
        }
        known.entry(table.clone()).or_default().entry(cql.to_owned()).or_default().clone()
    }

    pub(super) fn forget(&self, table: &Table) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(table);
    }
}

pub(super) fn write_cql(keyspace: &str, table: &Table, change: &Change) -> String {
    match change {
        Change::Put { .. } => format!(
            "INSERT INTO {keyspace}.{table} (bucket, item, position, body) VALUES (?, ?, ?, ?) \
             USING TIMESTAMP ?"
        ),
        Change::Delete { .. } => format!(
            "DELETE FROM {keyspace}.{table} USING TIMESTAMP ? WHERE bucket = ? AND item = ?"
        ),
    }
}

pub(super) fn get_cql(keyspace: &str, table: &Table) -> String {
    format!("SELECT item, position, body FROM {keyspace}.{table} WHERE bucket = ? AND item = ?")
}

pub(super) fn slice_cql(keyspace: &str, table: &Table, slice: &Slice) -> String {
    let mut cql = format!("SELECT item, position, body FROM {keyspace}.{table} WHERE bucket = ?");
    if slice.from.is_some() {
        cql.push_str(" AND item >= ?");
    }
    if slice.until.is_some() {
        cql.push_str(" AND item < ?");
    }
    if slice.direction == Direction::Descending {
        cql.push_str(" ORDER BY item DESC");
    }
    // Bound like the others, so that few statements exist.
    if server_limit(slice).is_some() {
        cql.push_str(" LIMIT ?");
    }
    cql
}

pub(super) fn scan_cql(keyspace: &str, table: &Table) -> String {
    format!(
        "SELECT token(bucket), bucket, item, position, body FROM {keyspace}.{table} \
         WHERE token(bucket) > ? AND token(bucket) <= ?"
    )
}

/// Rows that one answer of a server to a scan holds: few, so that it does not hold others up.
pub(super) const SCAN_ROWS: i32 = 1_000;

/// The tokens of a part of a table: those beyond the first, up to the second. No partition has the least
/// of all.
pub(super) fn token_range(part: Part) -> (i64, i64) {
    let bound = |number: u32| -> i64 {
        let share = (u128::from(number) << 64) / u128::from(part.of.max(1));
        (i128::from(i64::MIN) + share as i128).min(i128::from(i64::MAX)) as i64
    };
    (bound(part.number), bound(part.number + 1))
}

/// Rows that one answer of a server holds; the next ones are asked for as they are wanted.
const PAGE_ROWS: i32 = 5_000;

/// The limit as the server is told it, where there is one that it can be told.
fn server_limit(slice: &Slice) -> Option<i32> {
    i32::try_from(slice.limit).ok().filter(|limit| *limit > 0)
}

/// How many rows a server reads ahead of a slice: no more than the slice takes.
pub(super) fn page_rows(slice: &Slice) -> i32 {
    server_limit(slice).map_or(PAGE_ROWS, |limit| limit.min(PAGE_ROWS))
}

/// The bound values of a slice.
pub(super) struct Bounds<'a> {
    pub(super) partition: &'a str,
    pub(super) slice: &'a Slice,
}

impl SerializeRow for Bounds<'_> {
    fn serialize(
        &self,
        context: &RowSerializationContext<'_>,
        writer: &mut RowWriter<'_>,
    ) -> Result<(), SerializationError> {
        let Self { partition, slice } = self;
        let limit = server_limit(slice);
        match (&slice.from, &slice.until, limit) {
            (None, None, None) => (partition,).serialize(context, writer),
            (Some(bound), None, None) | (None, Some(bound), None) => {
                (partition, bound).serialize(context, writer)
            }
            (Some(from), Some(until), None) => (partition, from, until).serialize(context, writer),
            (None, None, Some(limit)) => (partition, limit).serialize(context, writer),
            (Some(bound), None, Some(limit)) | (None, Some(bound), Some(limit)) => {
                (partition, bound, limit).serialize(context, writer)
            }
            (Some(from), Some(until), Some(limit)) => {
                (partition, from, until, limit).serialize(context, writer)
            }
        }
    }

    fn is_empty(&self) -> bool {
        false
    }
}

/// The bound values of a write; puts and deletes differ in number and order.
pub(super) enum Values<'a> {
    Put(&'a str, &'a str, i64, &'a str, i64),
    Delete(i64, &'a str, &'a str),
}

impl<'a> Values<'a> {
    pub(super) fn of(table: &Table, change: &'a Change) -> StoreResult<Self> {
        match change {
            Change::Put { partition, clustering, timestamp, body } => {
                let body = std::str::from_utf8(body)
                    .map_err(|_| StoreError::NotText { table: table.to_string() })?;
                Ok(Self::Put(partition, clustering, *timestamp, body, *timestamp))
            }
            Change::Delete { partition, clustering, timestamp } => {
                Ok(Self::Delete(*timestamp, partition, clustering))
            }
        }
    }
}

impl SerializeRow for Values<'_> {
    fn serialize(
        &self,
        context: &RowSerializationContext<'_>,
        writer: &mut RowWriter<'_>,
    ) -> Result<(), SerializationError> {
        match self {
            Self::Put(bucket, item, position, body, timestamp) => {
                (bucket, item, position, body, timestamp).serialize(context, writer)
            }
            Self::Delete(timestamp, bucket, item) => {
                (timestamp, bucket, item).serialize(context, writer)
            }
        }
    }

    fn is_empty(&self) -> bool {
        false
    }
}
