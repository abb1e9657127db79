//! `/v1/organizers/{id}/months`: the plans of an organizer by month, with statistics of their prices.

mod month;

use super::{cursor, store_problem};
use crate::{
    answers::busy,
    front::{Tokens, reading},
    models::{Declared, ReadModel},
    parked::Parked,
    state::Shared,
};
use almanac_edge::{
    Problem, ProblemType, Routes, conditional, openapi_fragment,
    query::Parameters,
    surrogates::{Collection, ORGANIZERS},
};
use almanac_read_store::{Row, Slice, StoreResult};
use almanac_tables::{
    Projected,
    organizers::{PROJECTION, Tables, VERSION, counts, parse_key},
};
use axum::{
    extract::{Path, RawQuery, State},
    response::Response,
};
use futures::{StreamExt, TryStreamExt, stream};
use http::{HeaderMap, HeaderValue};
use month::Month;
use std::{
    collections::{HashMap, HashSet},
    ops::Deref,
    sync::Arc,
};

pub(crate) const MODEL: Declared = Declared {
    context: None,
    openapi: openapi_fragment!("openapi.json"),
    open: |shared| Ok(Organizers::new(shared)?),
};

/// Reads under way at once for one request.
const AHEAD: usize = 8;
/// Rows of one read.
const ROWS: usize = 1_000;
/// With so many rows behind it a page ends at the next month.
const ROWS_OF_A_PAGE: usize = 20_000;

/// Tables and no cache: an organizer is one partition.
pub(crate) struct Organizers {
    shared: Arc<Shared>,
    tables: Tables,
    parked: Arc<Parked>,
}

impl Organizers {
    pub(crate) fn new(shared: &Arc<Shared>) -> StoreResult<Arc<Self>> {
        let tables = Tables::of(shared.edition(PROJECTION, VERSION))?;
        Ok(Arc::new(Self { parked: Parked::new(&tables), tables, shared: shared.clone() }))
    }
}

impl Deref for Organizers {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl ReadModel for Organizers {
    fn projection(&self) -> &dyn Projected {
        &self.tables
    }

    fn parked(&self) -> &Arc<Parked> {
        &self.parked
    }

    fn collections(&self) -> &'static [Collection] {
        &[ORGANIZERS]
    }

    fn routes(self: Arc<Self>) -> Routes {
        let routes = Routes::new().get("/v1/organizers/{id}/months", months);
        // The address names an organizer; what may be set aside are plans.
        reading(&self.shared, Tokens::Checked(None), routes)
            .map(|router| router.with_state(self.clone()))
    }
}

async fn months(
    State(state): State<Arc<Organizers>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let parameters = Parameters::parse(query.as_deref(), &["limit", "cursor"])?;
    let limit = parameters.limit()?;
    let after: Option<String> = cursor::after(&parameters, &id)?;
    let _turn = state.turn(&headers).await?;
    let is_first = after.is_none();
    let page = page(&state, &id, after, limit).await.map_err(|error| store_problem(&error))?;
    if page.items.is_empty() && is_first {
        let detail = "no plan of an organizer with this id was ever sellable online";
        return Err(Problem::new(ProblemType::NotFound, detail));
    }
    let next = cursor::next(&id, page.last);
    let body = format!("{{\"items\":[{}],\"next_cursor\":{next}}}", page.items.join(","));
    let room = state.answers.part(body.len()).ok_or_else(busy)?;
    let mut answer = conditional::json(&headers, room.hold(body.into()));
    if state.parked.has_any() {
        answer.headers_mut().insert("consistency", HeaderValue::from_static("stale"));
    }
    Ok(answer)
}

#[derive(Default)]
struct Page {
    items: Vec<String>,
    /// The last month that is in it; none once there are no more.
    last: Option<String>,
}

/// Months after one of them, oldest first.
async fn page(
    state: &Organizers,
    organizer: &str,
    after: Option<String>,
    limit: usize,
) -> StoreResult<Page> {
    let mut page = Page::default();
    let mut current: Option<Month> = None;
    let mut seen = 0;
    // Nothing in a clustering key of a month sorts behind this.
    let mut from = after.map(|month| format!("{month}/\u{10ffff}"));
    loop {
        let slice = Slice { from, limit: ROWS, ..Slice::all() };
        let rows = state.store.slice(&state.tables.plans, organizer, &slice).await?;
        seen += rows.len();
        // One more month than is wanted tells that there are more.
        let runs = rows.chunk_by(|a, b| month_of(a) == month_of(b));
        let runs: Vec<&[Row]> = runs.take(limit + 1 - page.items.len()).collect();
        let reads: Vec<_> = runs.iter().map(|run| moved(state, run)).collect();
        let moves: Vec<_> = stream::iter(reads).buffered(AHEAD).try_collect().await?;
        let mut end = None;
        for (run, moved) in runs.into_iter().zip(moves) {
            let Some((first, newest)) = run.first().zip(run.last()) else { continue };
            let mut month = match current.take_if(|month| month.name == month_of(first)) {
                Some(month) => month,
                None => {
                    close(&mut page, current.take());
                    let is_full = page.items.len() >= limit || seen > ROWS_OF_A_PAGE;
                    if is_full && page.last.is_some() {
                        return Ok(page);
                    }
                    Month::new(month_of(first))
                }
            };
            for row in run {
                let moved = moved.get(id_of(row)).map(|row| &*row.body);
                if counts(organizer, moved) {
                    month.add(&row.body);
                }
            }
            current = Some(month);
            end = Some(&newest.clustering);
        }
        let is_all = rows.len() < ROWS && rows.last().map(|row| &row.clustering) == end;
        let Some(end) = end.filter(|_| !is_all) else {
            close(&mut page, current);
            return Ok(Page { last: None, ..page });
        };
        from = Some(behind(end));
    }
}

/// The least key that sorts behind another.
fn behind(key: &str) -> String {
    format!("{key}\u{1}")
}

fn month_of(row: &Row) -> &str {
    parse_key(&row.clustering).map_or("", |(month, _)| month)
}

fn id_of(row: &Row) -> &str {
    parse_key(&row.clustering).map_or("", |(_, id)| id)
}

/// A month that has no more rows; one of rows that are all void is not there.
fn close(page: &mut Page, month: Option<Month>) {
    if let Some(month) = month
        && let Some(item) = month.render()
    {
        page.items.push(item);
        page.last = Some(month.name);
    }
}

/// What `organizer_moves` has of the plans of rows of one month.
async fn moved(state: &Organizers, run: &[Row]) -> StoreResult<HashMap<String, Row>> {
    let mut moved = HashMap::new();
    let Some((first, last)) = run.first().zip(run.last()) else { return Ok(moved) };
    let wanted: HashSet<&str> = run.iter().map(id_of).collect();
    let (mut from, until) = (id_of(first).to_owned(), behind(id_of(last)));
    loop {
        let until = Some(until.clone());
        let slice = Slice { from: Some(from), until, limit: ROWS, ..Slice::all() };
        let rows = state.store.slice(&state.tables.moves, month_of(first), &slice).await?;
        let end = rows.last().filter(|_| rows.len() == ROWS).map(|row| behind(&row.clustering));
        let of_the_run = rows.into_iter().filter(|row| wanted.contains(&*row.clustering));
        moved.extend(of_the_run.map(|row| (row.clustering.clone(), row)));
        match end {
            Some(end) => from = end,
            None => return Ok(moved),
        }
    }
}
