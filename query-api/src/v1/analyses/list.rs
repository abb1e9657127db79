//! Lists of analyses, newest first: the caller's own, to admins those of any owner, and those of a
//! schedule.

use super::{Analyses, parse_id};
use crate::v1::{
    cursor,
    private::{VARY, listed_owner, may_read, of_the_caller},
    schedules::owner_of,
    store_problem,
};
use almanac_edge::{Problem, conditional, query::Parameters};
use almanac_read_store::{Direction, Slice};
use almanac_tables::analyses::{List, month_of};
use axum::{
    extract::{Path, RawQuery, State},
    response::Response,
};
use http::HeaderMap;
use jiff::Timestamp;
use std::sync::Arc;

pub(super) async fn own(
    State(state): State<Arc<Analyses>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let parameters = Parameters::parse(query.as_deref(), &["limit", "cursor", "owner"])?;
    let caller = state.identity.caller(&headers)?;
    let owner = listed_owner(&parameters, &caller)?;
    let list = List::Owner(owner.unwrap_or(&caller.subject));
    page(&state, list, &parameters, &headers).await
}

pub(super) async fn of_schedule(
    State(state): State<Arc<Analyses>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let parameters = Parameters::parse(query.as_deref(), &["limit", "cursor"])?;
    let caller = state.identity.caller(&headers)?;
    let id = parse_id(&id, crate::v1::schedules::missing)?;
    let owner = owner_of(&*state.store, &state.schedules, &id).await?;
    if !owner.is_some_and(|owner| may_read(&caller, &owner)) {
        return Err(crate::v1::schedules::missing());
    }
    page(&state, List::Schedule(&id), &parameters, &headers).await
}

/// The month that a row of a list lies in.
fn month_at(place: &str) -> Option<String> {
    let (requested_at, _) = place.split_once('/')?;
    let at = Timestamp::from_millisecond(requested_at.parse().ok()?).ok()?;
    Some(at.strftime("%Y-%m").to_string())
}

async fn page(
    state: &Analyses,
    list: List<'_>,
    parameters: &Parameters,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let limit = parameters.limit()?;
    let bound = list.months();
    let mut until: Option<String> = cursor::after(parameters, &bound)?;
    let _turn = state.turn(headers).await?;
    let newest = until.as_deref().and_then(month_at);
    let mut months = months(state, &bound).await?;
    months.retain(|month| newest.as_ref().is_none_or(|newest| month <= newest));
    let table = match list {
        List::Owner(_) => &state.tables.by_owner,
        List::Schedule(_) => &state.tables.by_schedule,
    };
    let (mut items, mut last, mut room) = (Vec::new(), None, state.answers.page());
    let mut has_more = false;
    'months: for month in months {
        let slice = Slice {
            until: until.take(),
            direction: Direction::Descending,
            limit: limit + 1 - items.len(),
            ..Slice::all()
        };
        let rows = state.store.slice(table, &list.partition(&month), &slice).await;
        for row in rows.map_err(|error| store_problem(&error))? {
            if items.len() == limit || !room.add(row.body.len() + 1) {
                has_more = true;
                break 'months;
            }
            last = Some(row.clustering);
            items.push(row.body);
        }
    }
    let mut body = b"{\"items\":[".to_vec();
    for (place, item) in items.iter().enumerate() {
        if place > 0 {
            body.push(b',');
        }
        body.extend_from_slice(item);
    }
    let next = cursor::next(&bound, last.filter(|_| has_more));
    body.extend_from_slice(format!("],\"next_cursor\":{next}}}").as_bytes());
    Ok(of_the_caller(conditional::json(headers, room.hold(body)?), VARY))
}

/// The months in which there is something, newest first.
async fn months(state: &Analyses, partition: &str) -> Result<Vec<String>, Problem> {
    let slice = Slice { direction: Direction::Descending, ..Slice::all() };
    let rows = state.store.slice(&state.tables.months, partition, &slice).await;
    let rows = rows.map_err(|error| store_problem(&error))?;
    let mut months: Vec<String> =
        rows.iter().filter_map(|row| month_of(&row.clustering).map(str::to_owned)).collect();
    months.dedup();
    Ok(months)
}
