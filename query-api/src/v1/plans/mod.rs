//! `/v1/plans`: lists with filters, single plans, their history.

mod feeds;
mod index;
mod list;
mod model;
mod providers;
mod scanned;

pub(crate) use index::{Day as IndexedDay, PlanIndex};
pub(crate) use model::{MODEL, Plans};

use super::{
    UnreadableRow, cursor,
    filter::PlanView,
    history::{self as pages, Told},
    store_problem,
};
use crate::answers::busy;
use almanac_edge::{Problem, ProblemType, SETTLED, conditional, query::Parameters};
use almanac_errors::Words;
use almanac_read_store::Row;
use almanac_tables::plans::{history_bucket, id_bucket};
use axum::{
    extract::{Path, RawQuery, State},
    response::Response,
};
use http::{HeaderMap, header::CACHE_CONTROL};
use jiff::Timestamp;
use providers::LastSeen;
use serde::Deserialize;
use std::sync::Arc;
use uuid::Uuid;

/// The second part of an index row's body: the plan without zones.
fn plan_of(row: &Row) -> Option<&str> {
    let body = std::str::from_utf8(&row.body).ok()?;
    let at = body.find("},\"plan\":{")? + "},\"plan\":".len();
    body.get(at..body.len() - 1)
}
/// A listed plan was last seen in its provider's last good body, which no event of its own says.
fn with_last_seen(plan: &str, seen: &LastSeen) -> String {
    const NAME: &str = ",\"last_seen_at\":\"";
    let Ok(view) = serde_json::from_str::<PlanView<'_>>(plan) else { return plan.to_owned() };
    // Quotes inside texts are escaped, so the name is found only as a name.
    match (plan.find(NAME), seen.get(view.provider())) {
        (Some(at), Some(time)) if view.listed => {
            let at = at + NAME.len();
            let end = plan[at..].find('"').map_or(plan.len(), |length| at + length);
            format!("{}{time}{}", &plan[..at], &plan[end..])
        }
        _ => plan.to_owned(),
    }
}

fn parse_id(id: &str) -> Result<String, Problem> {
    let not_found = || Problem::new(ProblemType::NotFound, "there is no plan with this id");
    Ok(id.parse::<Uuid>().map_err(|_| not_found())?.to_string())
}

async fn one(
    State(state): State<Arc<Plans>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let parameters = Parameters::parse(query.as_deref(), &["as_of"])?;
    let at = pages::as_of(&parameters)?;
    let id = parse_id(&id)?;
    let row = state
        .store
        .get(&state.tables.plans, id_bucket(&id), &id)
        .await
        .map_err(|error| store_problem(&error))?;
    let row =
        row.ok_or_else(|| Problem::new(ProblemType::NotFound, "there is no plan with this id"))?;
    let text = std::str::from_utf8(&row.body).map_err(|error| Problem::internal(&error))?;
    if let Some(at) = at {
        return as_of(&state, (id.as_str(), text), at, &headers).await;
    }
    let seen = state.seen.times(&state).await?;
    let plan = with_last_seen(text, &seen);
    let part = state.answers.part(plan.len()).ok_or_else(busy)?;
    Ok(conditional::json(&headers, part.hold(plan.into())))
}

/// The plan as it was known at an instant; `newest` is its own row.
async fn as_of(
    state: &Plans,
    (id, newest): (&str, &str),
    at: Timestamp,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    #[derive(Deserialize)]
    struct Numbered {
        sequence: u64,
    }
    let Numbered { sequence: newest } = serde_json::from_str(newest).map_err(|source| {
        let (what, id) = ("plan", id.to_owned());
        Problem::internal(&UnreadableRow { what, id, source })
    })?;
    let bucket = |sequence| history_bucket(id, sequence);
    let time = |row: &str| Told::read(row).map(|told| told.occurred_at);
    let then = pages::then(state, &state.tables.history, bucket, (id, newest), at, time).await?;
    let (sequence, row) = then.ok_or_else(|| {
        Problem::new(ProblemType::NotFound, "the plan was not known at that time")
    })?;
    let plan = row.split_once(PLAN).map(|(_, plan)| plan[..plan.len() - 1].to_owned());
    let plan =
        plan.ok_or_else(|| Problem::internal(&Words::from("a row of history has no plan")))?;
    let part = state.answers.part(plan.len()).ok_or_else(busy)?;
    let mut answer = conditional::json(headers, part.hold(plan.into()));
    // Once there is a later event, nothing that is still to be folded can be of that time.
    if sequence < newest {
        answer.headers_mut().insert(CACHE_CONTROL, SETTLED);
    }
    Ok(answer)
}

/// What stands before the plan in a row of history, and before its zones: inside texts, quotes are escaped.
const PLAN: &str = ",\"plan\":";
const ZONES: &str = ",\"zones\":";

/// A row of history as it is served: pages of it show no zones, as lists do not.
fn shown(row: &str) -> Option<String> {
    Some(format!("{}}}}}", row.rsplit_once(ZONES)?.0))
}

async fn history(
    State(state): State<Arc<Plans>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let parameters = Parameters::parse(query.as_deref(), &["limit", "cursor"])?;
    let limit = parameters.limit()?;
    let id = parse_id(&id)?;
    let first = cursor::first_event(&parameters, &id)?;
    let bucket = |sequence| history_bucket(&id, sequence);
    let (table, range) = (&state.tables.history, (first, limit));
    let page = pages::page(&state, table, bucket, &id, range, shown).await?;
    if page.items.is_empty() && first == 1 {
        return Err(Problem::new(ProblemType::NotFound, "there is no plan with this id"));
    }
    let next = cursor::next(&id, page.last);
    let body = format!("{{\"items\":[{}],\"next_cursor\":{next}}}", page.items.join(","));
    drop(page.items);
    Ok(conditional::json(&headers, page.room.hold(body)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_seen_follows_the_provider() {
        let plan = r#"{"id":"a","provider":"p","base_plan_id":"1","organizer_id":null,"title":",\"last_seen_at\":\"x","starts_at":"2021-06-30T19:00:00Z","ends_at":null,"sell_from":null,"sell_to":null,"sold_out":false,"min_price":null,"max_price":null,"capacity":3,"listed":true,"last_seen_at":"2021-01-01T00:00:00.000Z","sequence":1}"#;
        let seen = LastSeen::from([("p".to_owned(), "2022-01-01T00:00:00.000Z".to_owned())]);
        let patched: serde_json::Value =
            serde_json::from_str(&with_last_seen(plan, &seen)).unwrap();
        assert_eq!(patched["last_seen_at"], "2022-01-01T00:00:00.000Z");
        assert_eq!(patched["title"], ",\"last_seen_at\":\"x");
        let gone = plan.replace("\"listed\":true", "\"listed\":false");
        assert_eq!(with_last_seen(&gone, &seen), gone);
    }
}
