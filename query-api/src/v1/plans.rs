//! `/v1/plans`: lists with filters, single plans, their history.

use super::{
    MAX_PAGE_BYTES, cursor,
    filter::{Filter, KNOWN, PlanView, Sort},
    filters_text, providers, store_problem,
};
use crate::{
    search::{cache::day_name, partition::day_of},
    state::ApiState,
};
use almanac_edge::{Problem, ProblemType, conditional, query::Parameters};
use almanac_projector::plans::{history_bucket, id_bucket};
use almanac_read_store::{Direction, ReadStore, Row, Slice, StoreResult, Table};
use axum::{
    extract::{Path, RawQuery, State},
    response::Response,
};
use futures::{Stream, TryStreamExt, stream};
use http::HeaderMap;
use rust_decimal::Decimal;
use std::{
    collections::{BTreeMap, HashMap},
    pin::pin,
    sync::Arc,
};
use uuid::Uuid;

/// Rows that one request looks at; then the page ends, however short, with a cursor to go on.
const MAX_SCANNED: usize = 50_000;
const AHEAD: usize = 8;
/// Rows of a day that are read at once.
const PART: usize = 500;

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
    let mut slice = Slice { limit: PART, ..Slice::all() };
    if filter.descending {
        days.reverse();
        slice.direction = Direction::Descending;
    }
    let mut parts = pin!(parts(&*state.store, &state.tables.by_start, days, &slice));
    let mut page = Page { items: Vec::new(), next: None };
    let (mut scanned, mut bytes) = (0, 0);
    let mut last = None;
    while let Some(rows) = parts.try_next().await.map_err(|error| store_problem(&error))? {
        for row in &rows {
            let key = start_and_id(&row.clustering);
            let passed = after
                .is_some_and(|after| if filter.descending { key >= after } else { key <= after });
            if passed {
                continue;
            }
            // One more than the page holds was found, or enough was looked at: it goes on there.
            if page.items.len() == limit || scanned >= MAX_SCANNED || bytes >= MAX_PAGE_BYTES {
                page.next = last;
                return Ok(page);
            }
            scanned += 1;
            last = Some(key.to_owned());
            let Some(text) = plan_of(row) else { continue };
            let Ok(plan) = serde_json::from_str::<PlanView<'_>>(text) else { continue };
            if filter.accepts(&plan) {
                bytes += text.len();
                page.items.push(text.to_owned());
            }
        }
    }
    Ok(page)
}

/// The rows of days, one day after the other, in parts: a day may have very many.
fn parts<'a>(
    store: &'a dyn ReadStore,
    table: &'a Table,
    days: Vec<String>,
    slice: &'a Slice,
) -> impl Stream<Item = StoreResult<Vec<Row>>> + 'a {
    let first_parts = store.slices(table, days, slice, AHEAD);
    let all_parts = first_parts.map_ok(move |(day, first)| {
        stream::try_unfold((day, Some(first)), move |(day, part)| async move {
            let Some(part) = part else { return Ok(None) };
            let next = match part.last() {
                Some(last) if part.len() == slice.limit => {
                    let behind = behind(&last.clustering, slice);
                    Some(store.slice(table, &day, &behind).await?)
                }
                _ => None,
            };
            Ok(Some((part, (day, next))))
        })
    });
    all_parts.try_flatten()
}

/// The same slice from behind a row on.
fn behind(clustering: &str, slice: &Slice) -> Slice {
    match slice.direction {
        // No key has this character.
        Direction::Ascending => Slice { from: Some(format!("{clustering}\u{1}")), ..slice.clone() },
        Direction::Descending => Slice { until: Some(clustering.to_owned()), ..slice.clone() },
    }
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
    let slice = Slice { limit: PART, ..Slice::all() };
    let mut parts = pin!(parts(&*state.store, &state.tables.by_start, days, &slice));
    let mut best: BTreeMap<Key, (Option<Decimal>, String)> = BTreeMap::new();
    let (mut bytes, mut more) = (0, false);
    while let Some(rows) = parts.try_next().await.map_err(|error| store_problem(&error))? {
        for row in &rows {
            let Some(text) = plan_of(row) else { continue };
            let Ok(plan) = serde_json::from_str::<PlanView<'_>>(text) else { continue };
            let price = plan.min_price();
            let key = (price.is_none(), signed(price, filter.descending), plan.id.to_string());
            if after.as_ref().is_some_and(|after| key <= *after) || !filter.accepts(&plan) {
                continue;
            }
            bytes += text.len();
            best.insert(key, (price, text.to_owned()));
            while best.len() > limit || bytes > MAX_PAGE_BYTES && best.len() > 1 {
                more = true;
                bytes -= best.pop_last().map_or(0, |(_, (_, text))| text.len());
            }
        }
    }
    let next = best.last_key_value().filter(|_| more).map(|((_, _, id), (price, _))| match price {
        Some(price) => format!("{price}/{id}"),
        None => format!("-/{id}"),
    });
    Ok(Page { items: best.into_values().map(|(_, text)| text).collect(), next })
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
    let (table, range) = (&state.tables.history, (first, limit));
    let page = super::history::page(&state, table, bucket, &id, range, |row| Some(row.to_owned()));
    let page = page.await?;
    if page.items.is_empty() && first == 1 {
        return Err(Problem::new(ProblemType::NotFound, "there is no plan with this id"));
    }
    let next = cursor::next(&id, page.last);
    let body = format!("{{\"items\":[{}],\"next_cursor\":{next}}}", page.items.join(","));
    Ok(conditional::json(&headers, body))
}

/// Keeps the page format honest: keys of the index begin with start and id.
#[cfg(test)]
mod tests {
    use super::*;
    use almanac_projector::plans::StartKey;
    use almanac_read_store::{Change, Write, embedded::EmbeddedStore};
    use almanac_schemas::plans::LocalTimeRecord;

    #[test]
    fn pages_end_at_start_and_id() {
        let starts_at = LocalTimeRecord { unix_seconds: 1_625_079_600, utc_offset_seconds: 7_200 };
        let key = StartKey { id: "0a", starts_at, ends_at: None }.clustering();
        assert_eq!(start_and_id(&key), "2021-06-30T19:00:00Z/0a");
    }

    #[tokio::test]
    async fn days_are_read_whole_in_parts() {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(folder.path(), 1 << 20).unwrap();
        let table = Table::new("days", 1).unwrap();
        store.create_table(&table).await.unwrap();
        let days = [("1", 2 * PART + 7), ("2", 0), ("3", PART), ("4", 1)];
        let mut expected = Vec::new();
        for (day, rows) in days {
            let keys: Vec<String> = (0..rows).map(|row| format!("{day}/{row:06}")).collect();
            let write = |key: &String| {
                let (partition, clustering) = (day.to_owned(), key.clone());
                let change = Change::Put { partition, clustering, timestamp: 1, body: "{}".into() };
                Write { table: table.clone(), change }
            };
            store.write(keys.iter().map(write).collect()).await.unwrap();
            expected.extend(keys);
        }
        let names = days.map(|(day, _)| day.to_owned());
        for direction in [Direction::Ascending, Direction::Descending] {
            let mut names = names.to_vec();
            if direction == Direction::Descending {
                names.reverse();
                expected.reverse();
            }
            let slice = Slice { limit: PART, direction, ..Slice::all() };
            let read: Vec<Vec<Row>> =
                parts(&store, &table, names, &slice).try_collect().await.unwrap();
            assert!(read.iter().all(|part| part.len() <= PART));
            let keys: Vec<String> = read.into_iter().flatten().map(|row| row.clustering).collect();
            assert_eq!(keys, expected, "{direction:?}");
        }
    }

    #[test]
    fn last_seen_follows_the_provider() {
        let plan = r#"{"id":"a","provider":"p","base_plan_id":"1","organizer_id":null,"title":",\"last_seen_at\":\"x","starts_at":"2021-06-30T19:00:00Z","ends_at":null,"sell_from":null,"sell_to":null,"sold_out":false,"min_price":null,"max_price":null,"capacity":3,"listed":true,"last_seen_at":"2021-01-01T00:00:00.000Z","sequence":1}"#;
        let seen = HashMap::from([("p".to_owned(), "2022-01-01T00:00:00.000Z".to_owned())]);
        let patched: serde_json::Value =
            serde_json::from_str(&with_last_seen(plan, &seen)).unwrap();
        assert_eq!(patched["last_seen_at"], "2022-01-01T00:00:00.000Z");
        assert_eq!(patched["title"], ",\"last_seen_at\":\"x");
        let gone = plan.replace("\"listed\":true", "\"listed\":false");
        assert_eq!(with_last_seen(&gone, &seen), gone);
    }
}
