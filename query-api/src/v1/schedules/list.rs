//! The caller's schedules; to admins, all, or those of one owner.

use super::{Schedules, row};
use crate::v1::{
    cursor,
    private::{VARY, listed_owner, of_the_caller},
    store_problem,
};
use almanac_edge::{Problem, conditional, query::Parameters};
use almanac_read_store::{ReadStore, Slice};
use almanac_tables::schedules::{listed_partitions, owner_partition};
use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use futures::TryStreamExt;
use http::HeaderMap;
use serde_json::value::RawValue;
use std::sync::Arc;

/// Reads under way at once for one request.
const AHEAD: usize = 8;

pub(super) async fn list(
    State(state): State<Arc<Schedules>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let parameters = Parameters::parse(query.as_deref(), &["limit", "cursor", "owner"])?;
    let limit = parameters.limit()?;
    let caller = state.identity.caller(&headers)?;
    let owner = listed_owner(&parameters, &caller)?;
    let (table, partitions, bound) = match owner {
        None if caller.is_admin() => {
            (&state.tables.listed, listed_partitions().collect(), "all".to_owned())
        }
        owner => {
            let partition = owner_partition(owner.unwrap_or(&caller.subject));
            (&state.tables.by_owner, vec![partition.clone()], format!("owner/{partition}"))
        }
    };
    let after: Option<String> = cursor::after(&parameters, &bound)?;
    let _turn = state.turn(&headers).await?;
    // The one that the page before ended with is read once more, and passed over.
    let slice = Slice { from: after.clone(), limit: limit + 2, ..Slice::all() };
    let store: &dyn ReadStore = &*state.store;
    let runs: Vec<_> = store
        .slices(table, partitions, &slice, AHEAD)
        .try_collect()
        .await
        .map_err(|error| store_problem(&error))?;
    let mut ids: Vec<String> =
        runs.into_iter().flat_map(|(_, rows)| rows).map(|row| row.clustering).collect();
    ids.retain(|id| Some(id) != after.as_ref());
    ids.sort_unstable();
    let (mut items, mut room, mut last) = (Vec::<Box<RawValue>>::new(), state.answers.page(), None);
    let mut has_more = false;
    'page: for some in ids.chunks(AHEAD) {
        let reads = some.iter().map(|id| row(store, &state.tables, id));
        let rows = futures::future::try_join_all(reads).await?;
        for (id, row) in some.iter().zip(rows) {
            // Deleted between the two reads, perhaps.
            let row = row.and_then(|stored| stored.schedule);
            let bytes = row.as_ref().map_or(0, |schedule| schedule.get().len() + 1);
            if items.len() == limit || !room.add(bytes) {
                has_more = true;
                break 'page;
            }
            last = Some(id.clone());
            items.extend(row);
        }
    }
    let items: Vec<&str> = items.iter().map(|schedule| schedule.get()).collect();
    let next = cursor::next(&bound, last.filter(|_| has_more));
    let body = format!("{{\"items\":[{}],\"next_cursor\":{next}}}", items.join(","));
    Ok(of_the_caller(conditional::json(&headers, room.hold(body)?), VARY))
}
