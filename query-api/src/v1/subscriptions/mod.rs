//! `/v1/subscriptions`: what its owner subscribed to, and what was sent. To others it is not there.

mod model;

pub(crate) use model::{MODEL, Subscriptions};

use super::{
    UnreadableRow, cursor,
    private::{VARY, listed_owner, may_read, of_the_caller, parse_id},
    store_problem,
};
use almanac_edge::{Problem, ProblemType, conditional, identity::Caller, query::Parameters};
use almanac_read_store::Slice;
use almanac_tables::{
    schedules::{id_bucket, owner_partition},
    subscriptions::{delivery_partition, delivery_time},
};
use axum::{
    body::Body,
    extract::{Path, RawQuery, State},
    response::Response,
};
use bytes::Bytes;
use http::HeaderMap;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;

/// Deliveries of this month and of so many before it are listed.
const MONTHS_BEFORE: usize = 1;
const MONTH_MS: i64 = 28 * 86_400_000;

#[derive(Deserialize)]
struct Stored {
    version: u64,
    owner: String,
    /// Nothing of one that is deleted.
    subscription: Option<Box<RawValue>>,
}

fn missing() -> Problem {
    Problem::new(ProblemType::NotFound, "there is no subscription with this id")
}

impl Subscriptions {
    async fn row(&self, id: &str) -> Result<Option<Stored>, Problem> {
        let row = self.store.get(&self.tables.subscriptions, id_bucket(id), id).await;
        let Some(row) = row.map_err(|error| store_problem(&error))? else { return Ok(None) };
        serde_json::from_slice(&row.body).map(Some).map_err(|source| {
            let (what, id) = ("subscription", id.to_owned());
            Problem::internal(&UnreadableRow { what, id, source })
        })
    }

    async fn readable(&self, id: &str, caller: &Caller) -> Result<Stored, Problem> {
        let found = self.row(id).await?;
        found.filter(|stored| may_read(caller, &stored.owner)).ok_or_else(missing)
    }
}

async fn one(
    State(state): State<Arc<Subscriptions>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    Parameters::parse(query.as_deref(), &[])?;
    let caller = state.identity.caller(&headers)?;
    let id = parse_id(&id, missing)?;
    let stored = state.readable(&id, &caller).await?;
    let gone = || Problem::new(ProblemType::Gone, "the subscription was deleted");
    let body: Box<str> = stored.subscription.ok_or_else(gone)?.into();
    let (body, tag) = (Bytes::from(String::from(body)), format!("\"{}\"", stored.version));
    Ok(of_the_caller(conditional::tagged(&headers, &tag, || Body::from(body)), VARY))
}

/// The caller's; to admins, those of any owner.
async fn list(
    State(state): State<Arc<Subscriptions>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let parameters = Parameters::parse(query.as_deref(), &["limit", "cursor", "owner"])?;
    let limit = parameters.limit()?;
    let caller = state.identity.caller(&headers)?;
    let owner = listed_owner(&parameters, &caller)?;
    let partition = owner_partition(owner.unwrap_or(&caller.subject));
    let after: Option<String> = cursor::after(&parameters, &partition)?;
    let _turn = state.turn(&headers).await?;
    // The one that the page before ended with is read once more, and passed over.
    let slice = Slice { from: after.clone(), limit: limit + 2, ..Slice::all() };
    let rows = state.store.slice(&state.tables.by_owner, &partition, &slice).await;
    let rows = rows.map_err(|error| store_problem(&error))?;
    let mut ids: Vec<String> = rows.into_iter().map(|row| row.clustering).collect();
    ids.retain(|id| Some(id) != after.as_ref());
    let (mut items, mut room, mut last) = (Vec::<Box<RawValue>>::new(), state.answers.page(), None);
    let mut has_more = false;
    for id in ids {
        // Deleted between the two reads, perhaps.
        let found = state.row(&id).await?.and_then(|stored| stored.subscription);
        let bytes = found.as_ref().map_or(0, |found| found.get().len() + 1);
        if items.len() == limit || !room.add(bytes) {
            has_more = true;
            break;
        }
        last = Some(id);
        items.extend(found);
    }
    let items: Vec<&str> = items.iter().map(|item| item.get()).collect();
    let next = cursor::next(&partition, last.filter(|_| has_more));
    let body = format!("{{\"items\":[{}],\"next_cursor\":{next}}}", items.join(","));
    Ok(of_the_caller(conditional::json(&headers, room.hold(body)?), VARY))
}

/// What was sent, the newest first.
async fn deliveries(
    State(state): State<Arc<Subscriptions>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let parameters = Parameters::parse(query.as_deref(), &["limit", "cursor"])?;
    let limit = parameters.limit()?;
    let caller = state.identity.caller(&headers)?;
    let id = parse_id(&id, missing)?;
    state.readable(&id, &caller).await?;
    let bound = format!("{id}/deliveries");
    let after: Option<String> = cursor::after(&parameters, &bound)?;
    let _turn = state.turn(&headers).await?;
    let now = Timestamp::now().as_millisecond();
    let (mut items, mut room, mut last) = (Vec::new(), state.answers.page(), None::<String>);
    let (mut has_more, mut seen) = (false, None);
    'page: for month in 0..=MONTHS_BEFORE as i64 {
        let Some(partition) = delivery_partition(&id, now - month * MONTH_MS) else { break };
        // Four weeks back may be the same month still.
        if seen.as_ref() == Some(&partition) {
            continue;
        }
        seen = Some(partition.clone());
        let is_before = |after: &String| {
            let time = delivery_time(after);
            time.and_then(|time| delivery_partition(&id, time)).is_some_and(|of| of < partition)
        };
        if after.as_ref().is_some_and(is_before) {
            continue;
        }
        let limit_left = limit + 2 - items.len();
        let slice = Slice { from: after.clone(), limit: limit_left, ..Slice::all() };
        let rows = state.store.slice(&state.tables.deliveries, &partition, &slice).await;
        for row in rows.map_err(|error| store_problem(&error))? {
            if Some(&row.clustering) == after.as_ref() {
                continue;
            }
            if items.len() == limit || !room.add(row.body.len() + 1) {
                has_more = true;
                break 'page;
            }
            items.push(String::from_utf8_lossy(&row.body).into_owned());
            last = Some(row.clustering);
        }
    }
    let next = cursor::next(&bound, last.filter(|_| has_more));
    let body = format!("{{\"items\":[{}],\"next_cursor\":{next}}}", items.join(","));
    Ok(of_the_caller(conditional::json(&headers, room.hold(body)?), VARY))
}

#[cfg(test)]
mod tests;
