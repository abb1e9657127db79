//! The read store on ScyllaDB or Apache Cassandra, in the CQL that both accept.
//!
//! Every table looks alike: `bucket` (partition key), `item` (clustering key), `position` (the
//! write timestamp, readable), `body`. All statements are prepared and idempotent, so the driver
//! may retry them.

mod checkup;
mod login;
mod options;
mod retries;
mod statements;

pub use checkup::{Checkup, checkup};
pub use options::{ScyllaOptions, shown};

use crate::{
    Change, Part, ReadStore, Retry, Row, Scanned, Slice, StoreError, StoreResult, Table, Write,
    port::key_fault,
};
use almanac_errors::chain;
use async_trait::async_trait;
use backon::{ExponentialBuilder, Retryable};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use scylla::{
    client::session::Session,
    errors::ExecutionError,
    statement::{
        batch::{Batch, BatchType},
        prepared::PreparedStatement,
    },
};
use statements::Statements;
use std::{collections::HashMap, error::Error, sync::Arc, time::Duration};
use uuid::Uuid;

/// Servers warn and refuse by the size of a batch; this stays below the smaller default (50 kB).
const BATCH_BYTES: usize = 40_000;
const BATCH_ROWS: usize = 50;
/// Before a batch is sent again; doubles, with jitter.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Clone)]
pub struct ScyllaStore(Arc<Inner>);

struct Inner {
    session: Session,
    keyspace: String,
    write_concurrency: usize,
    write_attempts: usize,
    statements: Statements,
}

impl ScyllaStore {
    /// Connects and creates the keyspace when it is missing.
    pub async fn connect(options: &ScyllaOptions) -> StoreResult<Self> {
        let session = options.connect().await?;
        Ok(Self(Arc::new(Inner {
            session,
            keyspace: options.keyspace.clone(),
            write_concurrency: options.write_concurrency,
            write_attempts: options.write_attempts,
            statements: Statements::new(options.request_timeout),
        })))
    }
}

fn server_error(what: &str, error: impl Error + Send + Sync + 'static) -> StoreError {
    // Of the servers' codes, none is for this alone.
    let told = error.to_string();
    if told.contains("unconfigured table") || told.contains("does not exist") {
        return StoreError::UnknownTable { table: what.to_owned() };
    }
    StoreError::Unavailable { what: format!("table {what}"), source: error.into() }
}

impl Inner {
    async fn prepare(&self, table: &Table, cql: String) -> StoreResult<Arc<PreparedStatement>> {
        self.statements.get(&self.session, table, cql).await
    }

    async fn ddl(&self, table: &Table, cql: String) -> StoreResult<()> {
        self.session
            .query_unpaged(cql, ())
            .await
            .map(drop)
            .map_err(|error| server_error(&table.to_string(), error))
    }

    /// A server with too much to do takes most of a large write in time, but not all of it. Writing
    /// all of it again would meet the same; what was not taken is written again alone.
    async fn write_run_until_taken(&self, table: &Table, changes: &[Change]) -> StoreResult<()> {
        let pauses = ExponentialBuilder::new()
            .with_min_delay(PAUSE)
            .with_jitter()
            .with_max_times(self.write_attempts.saturating_sub(1));
        (|| self.write_run(table, changes))
            .retry(pauses)
            .when(|error| error.retry() == Retry::Later)
            .notify(|error, pause| tracing::debug!(error = %chain(&error), ?pause, "writing rows again"))
            .await
    }

    /// One batch, or one statement when there is only one change: cheaper for the server.
    async fn write_run(&self, table: &Table, changes: &[Change]) -> StoreResult<()> {
        let failed = |error: ExecutionError| server_error(&table.to_string(), error);
        // A run has two kinds of statements at most.
        let (mut put, mut delete) = (None, None);
        let mut batch = Batch::new(BatchType::Unlogged);
        batch.set_is_idempotent(true);
        let mut values = Vec::with_capacity(changes.len());
        for change in changes {
            let known = match change {
                Change::Put { .. } => &mut put,
                Change::Delete { .. } => &mut delete,
            };
            let statement = match known {
                Some(statement) => statement,
                None => {
                    let cql = statements::write_cql(&self.keyspace, table, change);
                    known.insert(self.prepare(table, cql).await?)
                }
            };
            values.push(statements::Values::of(table, change)?);
            if let [_] = changes {
                let executed = self.session.execute_unpaged(statement, &values[0]).await;
                return executed.map(drop).map_err(failed);
            }
            batch.append_statement(statement.as_ref().clone());
        }
        self.session.batch(&batch, values).await.map(drop).map_err(failed)
    }
}

impl Inner {
    async fn scan(
        &self,
        table: &Table,
        part: Part,
    ) -> StoreResult<BoxStream<'static, StoreResult<Scanned>>> {
        let cql = statements::scan_cql(&self.keyspace, table);
        let mut statement = self.prepare(table, cql).await?.as_ref().clone();
        statement.set_page_size(statements::SCAN_ROWS);
        let name = table.to_string();
        let rows = self
            .session
            .execute_iter(statement, statements::token_range(part))
            .await
            .map_err(|error| server_error(&name, error))?
            .rows_stream::<(i64, String, String, i64, String)>()
            .map_err(|error| unreadable(&name, error))?;
        let rows = rows.map(move |row| {
            let (token, partition, clustering, timestamp, body) =
                row.map_err(|error| server_error(&name, error))?;
            Ok(Scanned { token, partition, row: to_row((clustering, timestamp, body)) })
        });
        Ok(rows.boxed())
    }
}

#[async_trait]
impl ReadStore for ScyllaStore {
    async fn create_table(&self, table: &Table) -> StoreResult<()> {
        let keyspace = &self.0.keyspace;
        let cql = format!(
            "CREATE TABLE IF NOT EXISTS {keyspace}.{table} (bucket text, item text, \
             position bigint, body text, PRIMARY KEY (bucket, item))"
        );
        self.0.ddl(table, cql).await
    }

    async fn tables(&self) -> StoreResult<Vec<Table>> {
        let rows = self
            .0
            .session
            .query_unpaged(
                "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?",
                (&self.0.keyspace,),
            )
            .await
            .map_err(|error| server_error("system_schema.tables", error))?
            .into_rows_result()
            .map_err(|error| unreadable("system_schema.tables", error))?;
        let mut tables = Vec::new();
        for row in rows.rows::<(String,)>().map_err(|e| unreadable("system_schema.tables", e))? {
            let (name,) = row.map_err(|error| unreadable("system_schema.tables", error))?;
            tables.extend(Table::parse(&name));
        }
        tables.sort();
        Ok(tables)
    }

    async fn table_id(&self, table: &Table) -> StoreResult<Uuid> {
        const OF: &str = "system_schema.tables";
        let name = table.to_string();
        let cql = "SELECT id FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?";
        let found = self.0.session.query_unpaged(cql, (&self.0.keyspace, &name)).await;
        let rows = found
            .map_err(|error| server_error(OF, error))?
            .into_rows_result()
            .map_err(|error| unreadable(OF, error))?;
        let id = rows.maybe_first_row::<(Uuid,)>().map_err(|error| unreadable(OF, error))?;
        id.map(|(id,)| id).ok_or(StoreError::UnknownTable { table: name })
    }

    async fn drop_table(&self, table: &Table) -> StoreResult<()> {
        let keyspace = &self.0.keyspace;
        self.0.statements.forget(table);
        self.0.ddl(table, format!("DROP TABLE IF EXISTS {keyspace}.{table}")).await
    }

    async fn write(&self, writes: Vec<Write>) -> StoreResult<()> {
        writes.iter().try_for_each(Write::check)?;
        // Runs of one partition, in the order of arrival. Two changes of one row may fall into
        // different batches: timestamps decide, not order.
        let mut runs: Vec<(Table, Vec<Change>, usize)> = Vec::new();
        let mut open: HashMap<(Table, String), usize> = HashMap::new();
        for Write { table, change } in writes {
            let size = match &change {
                Change::Put { clustering, body, .. } => clustering.len() + body.len() + 64,
                Change::Delete { clustering, .. } => clustering.len() + 64,
            };
            let key = (table, change.partition().to_owned());
            let fits = open.get(&key).copied().filter(|run| {
                runs[*run].1.len() < BATCH_ROWS && runs[*run].2 + size <= BATCH_BYTES
            });
            let run = match fits {
                Some(run) => run,
                None => {
                    runs.push((key.0.clone(), Vec::new(), 0));
                    open.insert(key, runs.len() - 1);
                    runs.len() - 1
                }
            };
            runs[run].1.push(change);
            runs[run].2 += size;
        }
        futures::stream::iter(runs.into_iter().map(Ok))
            .try_for_each_concurrent(self.0.write_concurrency, |(table, changes, _)| async move {
                self.0.write_run_until_taken(&table, &changes).await
            })
            .await
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
        let statement = self.0.prepare(table, statements::get_cql(&self.0.keyspace, table)).await?;
        let name = table.to_string();
        let found = self
            .0
            .session
            .execute_unpaged(&statement, (partition, clustering))
            .await
            .map_err(|error| server_error(&name, error))?
            .into_rows_result()
            .map_err(|error| unreadable(&name, error))?
            .maybe_first_row::<(String, i64, String)>()
            .map_err(|error| unreadable(&name, error))?;
        Ok(found.map(to_row))
    }

    async fn slice(&self, table: &Table, partition: &str, slice: &Slice) -> StoreResult<Vec<Row>> {
        if !slice.check(table, partition)? || slice.limit == 0 {
            return Ok(Vec::new());
        }
        let cql = statements::slice_cql(&self.0.keyspace, table, slice);
        let mut statement = self.0.prepare(table, cql).await?.as_ref().clone();
        statement.set_page_size(statements::page_rows(slice));
        let name = table.to_string();
        let mut rows = self
            .0
            .session
            .execute_iter(statement, statements::Bounds { partition, slice })
            .await
            .map_err(|error| server_error(&name, error))?
            .rows_stream::<(String, i64, String)>()
            .map_err(|error| unreadable(&name, error))?
            .take(slice.limit);
        let mut found = Vec::new();
        while let Some(row) = rows.try_next().await.map_err(|error| server_error(&name, error))? {
            found.push(to_row(row));
        }
        Ok(found)
    }

    fn scan(&self, table: &Table, part: Part) -> BoxStream<'static, StoreResult<Scanned>> {
        let (inner, table) = (self.0.clone(), table.clone());
        futures::stream::once(async move { inner.scan(&table, part).await }).try_flatten().boxed()
    }
}

fn to_row((clustering, timestamp, body): (String, i64, String)) -> Row {
    Row { clustering, timestamp, body: Bytes::from(body) }
}

/// The server answered with something that is not of our tables' shape.
fn unreadable(what: &str, error: impl Error + Send + Sync + 'static) -> StoreError {
    StoreError::Refused { what: format!("table {what}"), source: error.into() }
}
