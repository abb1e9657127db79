//! Pages of the events of one aggregate, over the partitions that they are spread over.

use super::store_problem;
use crate::state::ApiState;
use almanac_edge::Problem;
use almanac_projector::history;
use almanac_read_store::{Row, Slice, Table};

/// The rows of the events from number `first` on, and one more than `limit` if there are more.
/// `bucket` tells the partition of an event by its number.
pub(super) async fn rows(
    state: &ApiState,
    table: &Table,
    bucket: impl Fn(u64) -> String,
    id: &str,
    first: u64,
    limit: usize,
) -> Result<Vec<Row>, Problem> {
    let (mut rows, mut next) = (Vec::new(), first);
    while rows.len() <= limit {
        let slice = Slice {
            from: Some(history::key(id, next)),
            limit: limit + 1 - rows.len(),
            ..Slice::prefix(&history::prefix(id))
        };
        let found = state.store.slice(table, &bucket(next), &slice).await;
        let found: Vec<Row> = found.map_err(|error| store_problem(&error))?;
        let Some(last) = found.last().and_then(|row| history::number(&row.clustering)) else {
            break;
        };
        next = last + 1;
        rows.extend(found);
    }
    Ok(rows)
}
