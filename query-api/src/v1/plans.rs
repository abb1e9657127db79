//! `/v1/plans`: lists with filters, single plans, their history.

use super::{
    cursor,
    filter::{Filter, KNOWN, PlanView, Sort},
    filters_text, providers, store_problem,
};
use crate::{
    search::{cache::day_name, partition::day_of},
    state::ApiState,
};
use almanac_edge::{Problem, ProblemType, conditional, query::Parameters};
use almanac_projector::{
    history::number,
    plans::{history_bucket, id_bucket},
};
use almanac_read_store::{Row, Slice};
use axum::{
    extract::{Path, RawQuery, State},
    response::Response,
};
use futures::TryStreamExt;
use http::HeaderMap;
use rust_decimal::Decimal;
use std::{collections::HashMap, sync::Arc};
use uuid::Uuid;

/// Rows that one request looks at; then the page ends, however short, with a cursor to go on.
const MAX_SCANNED: usize = 50_000;
const AHEAD: usize = 8;

pub(crate) async fn list(
    State(state): State<Arc<ApiState>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let parameters = Parameters::parse(query.as_deref(), KNOWN)?;
    let filter = Filter::parse(&parameters)?;
    let limit = parameters.limit()?;
    let filters = filters_text(query.as_deref().unwrap_or_default());
    let after: Option<String> = match parameters.one("cursor")? {
        Some(text) => Some(cursor::decode(&filters, text)?),
        None => None,
    };
    let _turn = state.turn().await?;
    let page = match filter.sort {
        Sort::Start => by_start(&state, &filter, after.as_deref(), limit).await?,
        Sort::Price => by_price(&state, &filter, after.as_deref(), limit).await?,
    };
    let seen = providers::last_good_bodies(&state).await?;
    let mut body = String::from("{\"items\":[");
    for (place, item) in page.items.iter().enumerate() {
        if place > 0 {
            body.push(',');
        }
        body.push_str(&with_last_seen(item, &seen));
    }
    body.push_str("],\"next_cursor\":");
    body.push_str(&cursor::next(&filters, page.next));
    body.push('}');
    Ok(conditional::json(&headers, body))
}

struct Page {
    items: Vec<String>,
    next: Option<String>,
}

/// The second part of an index row's body: the plan without zones.
fn plan_of(row: &Row) -> Option<&str> {
    let body = std::str::from_utf8(&row.body).ok()?;
    let at = body.find("},\"plan\":{")? + "},\"plan\":".len();
    body.get(at..body.len() - 1)
}

/// Start and id: where a page by start ends. Clustering keys begin with both.
fn start_and_id(clustering: &str) -> &str {
    let end = clustering.match_indices('/').nth(1).map_or(clustering.len(), |(at, _)| at);
    &clustering[..end]
}

/// Partitions of the index whose starts may lie between two instants, both inclusive.
fn day_partitions(state: &ApiState, low: i64, high: i64) -> Vec<String> {
    let shelves = state.search.shelves();
    shelves.days(day_of(low), day_of(high)).iter().map(|day| day_name(*day)).collect()
}

async fn by_start(
    state: &ApiState,
    filter: &Filter,
    after: Option<&str>,
    limit: usize,
) -> Result<Page, Problem> {
    let (mut low, mut high) = filter.start_range();
    if let Some(start) =
        after.and_then(|key| key.get(..20)).and_then(|at| at.parse::<jiff::Timestamp>().ok())
    {
        if filter.descending {
            high = high.min(start.as_second());
        } else {
            low = low.max(start.as_second());
        }
    }
    let mut days = day_partitions(state, low, high);
    if filter.descending {
        days.reverse();
    }
    let slice = Slice::all();
    let mut rows = state.store.slices(&state.tables.by_start, days, &slice, AHEAD);
    let mut page = Page { items: Vec::new(), next: None };
    let mut scanned = 0;
    let mut last = None;
    while let Some((_, mut day)) = rows.try_next().await.map_err(|error| store_problem(&error))? {
        if filter.descending {
            day.reverse();
        }
        for row in &day {
            let key = start_and_id(&row.clustering);
            let passed = after
                .is_some_and(|after| if filter.descending { key >= after } else { key <= after });
            if passed {
                continue;
            }
            // One more than the page holds was found, or enough was looked at: it goes on there.
            if page.items.len() == limit || scanned >= MAX_SCANNED {
                page.next = last;
                return Ok(page);
            }
            scanned += 1;
            last = Some(key.to_owned());
            let Some(text) = plan_of(row) else { continue };
            let Ok(plan) = serde_json::from_str::<PlanView<'_>>(text) else { continue };
            if filter.accepts(&plan) {
                page.items.push(text.to_owned());
            }
        }
    }
    Ok(page)
}

/// Price first, those without one last in either direction, then id. It looks at everything that
/// the filters' times allow, and keeps one page.
async fn by_price(
    state: &ApiState,
    filter: &Filter,
    after: Option<&str>,
    limit: usize,
) -> Result<Page, Problem> {
    type Key = (bool, Decimal, String);
    let bad_cursor = || Problem::new(ProblemType::BadCursor, "it does not fit the sort order");
    let after: Option<Key> = match after {
        None => None,
        Some(text) => {
            let (price, id) = text.split_once('/').ok_or_else(bad_cursor)?;
            let price: Option<Decimal> = match price {
                "-" => None,
                price => Some(price.parse().map_err(|_| bad_cursor())?),
            };
            Some((price.is_none(), signed(price, filter.descending), id.to_owned()))
        }
    };
    let (low, high) = filter.start_range();
    let days = day_partitions(state, low, high);
    let slice = Slice::all();
    let mut rows = state.store.slices(&state.tables.by_start, days, &slice, AHEAD);
    let mut best: std::collections::BTreeMap<Key, (Option<Decimal>, String)> = Default::default();
    while let Some((_, day)) = rows.try_next().await.map_err(|error| store_problem(&error))? {
        for row in &day {
            let Some(text) = plan_of(row) else { continue };
            let Ok(plan) = serde_json::from_str::<PlanView<'_>>(text) else { continue };
            let price = plan.min_price();
            let key = (price.is_none(), signed(price, filter.descending), plan.id.to_string());
            if after.as_ref().is_some_and(|after| key <= *after) || !filter.accepts(&plan) {
                continue;
            }
            best.insert(key, (price, text.to_owned()));
            if best.len() > limit + 1 {
                best.pop_last();
            }
        }
    }
    let more = best.len() > limit;
    let kept: Vec<_> = best.into_iter().take(limit).collect();
    let next = kept.last().filter(|_| more).map(|((_, _, id), (price, _))| match price {
        Some(price) => format!("{price}/{id}"),
        None => format!("-/{id}"),
    });
    Ok(Page { items: kept.into_iter().map(|(_, (_, text))| text).collect(), next })
}

fn signed(price: Option<Decimal>, descending: bool) -> Decimal {
    let price = price.unwrap_or_default();
    if descending { -price } else { price }
}

/// A listed plan was last seen in its provider's last good body, which no event of its own says.
fn with_last_seen(plan: &str, seen: &HashMap<String, String>) -> String {
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

pub(crate) async fn one(
    State(state): State<Arc<ApiState>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    Parameters::parse(query.as_deref(), &[])?;
    let id = parse_id(&id)?;
    let row = state
        .store
        .get(&state.tables.plans, id_bucket(&id), &id)
        .await
        .map_err(|error| store_problem(&error))?;
    let row =
        row.ok_or_else(|| Problem::new(ProblemType::NotFound, "there is no plan with this id"))?;
    let seen = providers::last_good_bodies(&state).await?;
    let text = std::str::from_utf8(&row.body).map_err(|error| Problem::internal(&error))?;
    Ok(conditional::json(&headers, with_last_seen(text, &seen)))
}

pub(crate) async fn history(
    State(state): State<Arc<ApiState>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let parameters = Parameters::parse(query.as_deref(), &["limit", "cursor"])?;
    let limit = parameters.limit()?;
    let id = parse_id(&id)?;
    let first = match parameters.one("cursor")? {
        // Events are numbered from 1 without gaps.
        Some(text) => cursor::decode::<u64>(&id, text)?.saturating_add(1),
        None => 1,
    };
    let bucket = |sequence| history_bucket(&id, sequence);
    let rows = super::history::rows(&state, &state.tables.history, bucket, &id, first, limit);
    let rows = rows.await?;
    if rows.is_empty() && first == 1 {
        return Err(Problem::new(ProblemType::NotFound, "there is no plan with this id"));
    }
    let items: Vec<_> =
        rows.iter().take(limit).filter_map(|row| std::str::from_utf8(&row.body).ok()).collect();
    let last = rows.get(limit).and_then(|_| number(&rows.get(limit - 1)?.clustering));
    let next = cursor::next(&id, last);
    let body = format!("{{\"items\":[{}],\"next_cursor\":{next}}}", items.join(","));
    Ok(conditional::json(&headers, body))
}

/// Keeps the page format honest: keys of the index begin with start and id.
#[cfg(test)]
mod tests {
    use super::*;
    use almanac_projector::plans::StartKey;
    use almanac_schemas::plans::LocalTimeRecord;

    #[test]
    fn pages_end_at_start_and_id() {
        let starts_at = LocalTimeRecord { unix_seconds: 1_625_079_600, utc_offset_seconds: 7_200 };
        let key = StartKey { id: "0a", starts_at, ends_at: None }.clustering();
        assert_eq!(start_and_id(&key), "2021-06-30T19:00:00Z/0a");
    }

    #[test]
    fn last_seen_follows_the_provider() {
        let plan = r#"{"id":"a","provider":"p","base_plan_id":"1","organizer_id":null,"title":",\"last_seen_at\":\"x","starts_at":"2021-06-30T19:00:00Z","ends_at":null,"sell_from":null,"sell_to":null,"sold_out":false,"min_price":null,"max_price":null,"listed":true,"last_seen_at":"2021-01-01T00:00:00.000Z","sequence":1}"#;
        let seen = HashMap::from([("p".to_owned(), "2022-01-01T00:00:00.000Z".to_owned())]);
        let patched: serde_json::Value =
            serde_json::from_str(&with_last_seen(plan, &seen)).unwrap();
        assert_eq!(patched["last_seen_at"], "2022-01-01T00:00:00.000Z");
        assert_eq!(patched["title"], ",\"last_seen_at\":\"x");
        let gone = plan.replace("\"listed\":true", "\"listed\":false");
        assert_eq!(with_last_seen(&gone, &seen), gone);
    }
}
