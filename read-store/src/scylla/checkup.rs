//! How the servers are, without making anything: whether they answer, what their clocks say, and which
//! tables there are.

use super::{ScyllaOptions, shown};
use crate::{StoreError, StoreResult};
use std::collections::BTreeSet;

#[derive(Debug)]
pub struct Checkup {
    /// What the server says it is, such as `4.1.3`.
    pub release: String,
    /// Its clock, in milliseconds since the Unix epoch, where it told.
    pub clock_ms: Option<i64>,
    /// `None` where the keyspace is not there.
    pub tables: Option<BTreeSet<String>>,
}

pub async fn checkup(options: &ScyllaOptions) -> StoreResult<Checkup> {
    let session = options.session().await?;
    let what = || format!("read store at {}", shown(&options.nodes));
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| StoreError::Unavailable {
        what: what(),
        source: error.into(),
    };
    let cql = "SELECT release_version, toUnixTimestamp(now()) FROM system.local";
    let found = session.query_unpaged(cql, ()).await.map_err(|error| failed(error.into()))?;
    let rows = found.into_rows_result().map_err(|error| failed(error.into()))?;
    let row = rows.single_row::<(String, i64)>();
    let (release, clock_ms) =
        row.map(|(release, clock)| (release, Some(clock))).unwrap_or_default();
    let cql = "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?";
    let found = session.query_unpaged(cql, (&options.keyspace,)).await;
    let found = found.map_err(|error| failed(error.into()))?;
    let is_there = found.into_rows_result().is_ok_and(|rows| rows.rows_num() > 0);
    let cql = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?";
    let found = session.query_unpaged(cql, (&options.keyspace,)).await;
    let found = found.map_err(|error| failed(error.into()))?;
    let rows = found.into_rows_result().map_err(|error| failed(error.into()))?;
    let names = rows.rows::<(String,)>().map_err(|error| failed(error.into()))?;
    let names: BTreeSet<String> = names.flatten().map(|(name,)| name).collect();
    Ok(Checkup { release, clock_ms, tables: is_there.then_some(names) })
}
