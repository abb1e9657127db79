//! `GET /v1/plans`.

use super::{
    Plans,
    index::{Asked, Found, Key, Snapshot},
    providers::LastSeen,
    scanned::{self, start_and_id},
    with_last_seen,
};
use crate::{
    answers::Room,
    v1::{
        cursor,
        filter::{Filter, KNOWN, Sort},
        filters_text,
    },
};
use almanac_edge::{Problem, ProblemType, conditional, note_nothing_found, query::Parameters};
use almanac_schemas::plans::LocalTimeRecord;
use almanac_tables::plans::StartKey;
use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use http::HeaderMap;
use jiff::Timestamp;
use std::sync::Arc;

/// Plans that a list looks at before others have their turn.
const LOOKED_AT: usize = 5_000;

pub(super) async fn get(
    State(state): State<Arc<Plans>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let question = Question::parse(query.as_deref(), None)?;
    let _turn = state.turn(&headers).await?;
    let seen = state.seen.times(&state).await?;
    let mut page = question.page(&state, &seen).await?;
    let found_nothing = question.after.is_none() && page.next.is_none() && page.body == HEAD;
    let next = question.cursor(&mut page);
    let mut body = page.body;
    body.extend_from_slice(b"],\"next_cursor\":");
    body.extend_from_slice(next.as_bytes());
    body.push(b'}');
    let mut response = conditional::json(&headers, page.room.hold(body)?);
    if found_nothing {
        note_nothing_found(&mut response);
    }
    Ok(response)
}

/// What is asked of the plans.
pub(super) struct Question {
    filter: Filter,
    limit: usize,
    /// What a cursor is bound to.
    filters: String,
    after: Option<String>,
}

impl Question {
    /// `usual` is the limit where none is asked for, if it is not that of all lists.
    pub(super) fn parse(query: Option<&str>, usual: Option<usize>) -> Result<Self, Problem> {
        let parameters = Parameters::parse(query, KNOWN)?;
        let filter = Filter::parse(&parameters)?;
        let limit = match (usual, parameters.one("limit")?) {
            (Some(usual), None) => usual,
            _ => parameters.limit()?,
        };
        let filters = filters_text(query.unwrap_or_default());
        let after = parameters.one("cursor")?;
        let after = after.map(|text| cursor::decode(&filters, text)).transpose()?;
        Ok(Self { filter, limit, filters, after })
    }

    pub(super) async fn page(&self, state: &Plans, seen: &LastSeen) -> Result<Page, Problem> {
        let (after, snapshot) = (self.after.as_deref(), state.index.snapshot().clone());
        match snapshot {
            Some(plans) => indexed(state, &plans, &self.filter, after, self.limit, seen).await,
            None => looked_through(state, &self.filter, after, self.limit, seen).await,
        }
    }

    /// As JSON: the cursor of the page behind this one, or null.
    pub(super) fn cursor(&self, page: &mut Page) -> String {
        cursor::next(&self.filters, page.next.take())
    }
}

/// The beginning of an answer.
pub(super) struct Page {
    pub(super) body: Vec<u8>,
    /// The key of the last plan, if there are more.
    pub(super) next: Option<String>,
    /// Memory for it.
    pub(super) room: Room,
}

const HEAD: &[u8] = b"{\"items\":[";

pub(super) async fn looked_through(
    state: &Plans,
    filter: &Filter,
    after: Option<&str>,
    limit: usize,
    seen: &LastSeen,
) -> Result<Page, Problem> {
    let page = scanned::page(state, filter, after, limit).await?;
    let mut body = HEAD.to_vec();
    for (place, item) in page.items.iter().enumerate() {
        if place > 0 {
            body.push(b',');
        }
        body.extend_from_slice(with_last_seen(item, seen).as_bytes());
    }
    Ok(Page { body, next: page.next, room: page.room })
}

pub(super) async fn indexed(
    state: &Plans,
    plans: &Snapshot,
    filter: &Filter,
    after: Option<&str>,
    limit: usize,
    seen: &LastSeen,
) -> Result<Page, Problem> {
    let after = after.map(|text| key_of(text, filter.sort).ok_or_else(bad_cursor)).transpose()?;
    let asked = Asked::of(filter);
    let mut search = plans.search(&asked, after.as_ref(), limit + 1);
    if !search.look(LOOKED_AT) {
        // Longer than most.
        while !state.look(|| search.look(LOOKED_AT)).await {}
    }
    let found = search.found();
    let mut page = Page { body: HEAD.to_vec(), next: None, room: state.answers.page() };
    let mut last: Option<&Found<'_>> = None;
    for plan in found.iter().take(limit) {
        let end = page.body.len();
        if last.is_some() {
            page.body.push(b',');
        }
        put(plan, &mut page.body, seen);
        if !page.room.add(page.body.len() - end) {
            page.body.truncate(end);
            page.next = last.map(|last| key_text(last, filter.sort));
            return Ok(page);
        }
        last = Some(plan);
    }
    page.next = last.filter(|_| found.len() > limit).map(|last| key_text(last, filter.sort));
    Ok(page)
}

fn put(plan: &Found<'_>, out: &mut Vec<u8>, seen: &LastSeen) {
    let start = out.len();
    let time = seen.get(plan.provider()).filter(|_| plan.is_listed());
    let is_in_form = plan.put(out, time.map(String::as_str));
    // A form of its own does not say where that stands.
    if !is_in_form && time.is_some() {
        let text = String::from_utf8_lossy(&out[start..]).into_owned();
        out.truncate(start);
        out.extend_from_slice(with_last_seen(&text, seen).as_bytes());
    }
}

fn bad_cursor() -> Problem {
    Problem::new(ProblemType::BadCursor, "it does not fit the sort order")
}

/// The key that a cursor holds: the same for pages from the index and for those without.
fn key_of(text: &str, sort: Sort) -> Option<Key<'_>> {
    let (first, id) = text.split_once('/')?;
    let none = Key { start: 0, price: None, id };
    match (sort, first) {
        (Sort::Start, start) => {
            Some(Key { start: start.parse::<Timestamp>().ok()?.as_second(), ..none })
        }
        (Sort::Price, "-") => Some(none),
        (Sort::Price, price) => Some(Key { price: Some(price.parse().ok()?), ..none }),
    }
}

fn key_text(plan: &Found<'_>, sort: Sort) -> String {
    let Key { start: unix_seconds, price, id } = plan.key();
    match (sort, price) {
        (Sort::Start, _) => {
            let starts_at = LocalTimeRecord { unix_seconds, utc_offset_seconds: 0 };
            let clustering = StartKey { id, starts_at, ends_at: None }.clustering();
            start_and_id(&clustering).to_owned()
        }
        (Sort::Price, Some(price)) => format!("{price}/{id}"),
        (Sort::Price, None) => format!("-/{id}"),
    }
}
