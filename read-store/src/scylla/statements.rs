//! The statements, prepared once each.

use crate::{Change, Direction, Slice, StoreError, StoreResult, Table};
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
};

/// Prepared statements by table and text. A table has at most two dozen.
#[derive(Default)]
pub(super) struct Statements(Mutex<HashMap<Table, HashMap<String, Arc<PreparedStatement>>>>);

impl Statements {
    pub(super) async fn get(
        &self,
        session: &Session,
        table: &Table,
        cql: String,
    ) -> StoreResult<Arc<PreparedStatement>> {
        let known = {
            let statements = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            statements.get(table).and_then(|of_table| of_table.get(&cql).cloned())
        };
        if let Some(known) = known {
            return Ok(known);
        }
        let mut prepared = session.prepare(cql.as_str()).await.map_err(|error| {
            let detail = error.to_string();
            if detail.contains("unconfigured table") || detail.contains("does not exist") {
                return StoreError::UnknownTable { table: table.to_string() };
            }
            StoreError::Unavailable { what: format!("table {table}"), detail }
        })?;
        prepared.set_is_idempotent(true);
        let prepared = Arc::new(prepared);
        let mut statements = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        statements.entry(table.clone()).or_default().insert(cql, prepared.clone());
        Ok(prepared)
    }

    pub(super) fn forget(&self, table: &Table) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(table);
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
    // Small limits are told to the server; their number is small, so that few statements exist.
    if slice.limit <= 1 {
        cql.push_str(" LIMIT 1");
    }
    cql
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
