//! `/v1/recipes`: single recipes, their history, and questions that combine.

mod access;
mod cache;
mod candidates;
mod index;
mod list;
mod model;
mod pages;
mod pictures;
mod thumbnail;
mod vocabulary;

pub(crate) use model::{MODEL, Recipes};

use super::{
    cursor,
    history::{self as past, Told},
    store_problem,
};
use crate::answers::busy;
use access::{Access, allowed};
use almanac_domain::recipes::{Knowledge, System, limits};
use almanac_edge::{
    Problem, ProblemType, conditional,
    query::{Parameters, bad},
};
use almanac_errors::Words;
use almanac_schemas::json::{recipes as json, schema_org};
use almanac_tables::{history, recipes::history_bucket};
use axum::{
    body::Body,
    extract::{Path, RawQuery, Request, State},
    response::Response,
};
use cache::Document;
use http::{HeaderMap, HeaderValue, header};
use jiff::Timestamp;
use std::sync::Arc;
use uuid::Uuid;

/// Reads under way at once for one request.
const AHEAD: usize = 8;

fn missing() -> Problem {
    Problem::new(ProblemType::NotFound, "there is no recipe with this id")
}

fn parse_id(id: &str) -> Result<Uuid, Problem> {
    id.parse().map_err(|_| missing())
}

fn gone() -> Problem {
    Problem::new(ProblemType::Gone, "the recipe was deleted")
}

/// A recipe that may be served; `Err` when it is deleted or was never there.
fn served(document: Option<Arc<Document>>) -> Result<Arc<Document>, Problem> {
    let document = document.ok_or_else(missing)?;
    if document.deleted.is_some() {
        return Err(gone());
    }
    Ok(document)
}

async fn one(
    State(state): State<Arc<Recipes>>,
    Path(id): Path<String>,
    // Extracting its headers would copy them.
    request: Request,
) -> Result<Response, Problem> {
    let parameters =
        Parameters::parse(request.uri().query(), &["serves", "units", "version", "as_of"])?;
    let headers = request.headers();
    let id = parse_id(&id)?;
    let number = |name: &str, most: u64| match parameters.one(name)? {
        None => Ok(None),
        Some(text) => match text.parse() {
            Ok(number) if (1..=most).contains(&number) => Ok(Some(number)),
            _ => Err(bad(name, &format!("it must be a number from 1 to {most}"))),
        },
    };
    let serves = number("serves", limits::SERVES as u64)?;
    let units = match parameters.one("units")? {
        None => None,
        Some(text) => {
            let system = System::parse(text);
            Some(system.ok_or_else(|| bad("units", "it must be metric or imperial"))?)
        }
    };
    let version: Option<u64> = number("version", u64::MAX)?;
    let at = past::as_of(&parameters)?;
    if version.is_some() && parameters.one("as_of")?.is_some() {
        return Err(bad("as_of", "it cannot be asked for together with version"));
    }
    let newest = state.cache.document(&state, id).await?;
    let (document, access) = if version.is_none() && at.is_none() {
        (served(newest)?, Access::Public)
    } else {
        let newest = newest.ok_or_else(missing)?;
        let access = allowed(&state, &newest, headers)?;
        let id = id.to_string();
        let old = match (version, at) {
            (_, Some(at)) => as_of(&state, &id, newest.newest(), at).await?,
            (version, None) => old(&state, &id, version.unwrap_or_default()).await?,
        };
        (Arc::new(Document::parse(old.into())), access)
    };
    let as_page = wants_schema_org(headers);
    if as_page || serves.is_some() || units.is_some() {
        let damaged =
            || Problem::internal(&Words::from(format!("row of recipe {id} cannot be read")));
        let known = document.known().ok_or_else(damaged)?;
        let serves = serves.map(|people| u32::try_from(people).unwrap_or(u32::MAX));
        let adjusted = known.recipe.adjusted(serves, units);
        let recipe =
            adjusted.map_err(|unfit| Problem::new(ProblemType::Conflict, unfit.to_string()))?;
        let (id, known) = (id.to_string(), Knowledge { recipe, ..known });
        let answer = match as_page {
            true => {
                let mut answer = conditional::json(headers, schema_org::render(&id, &known));
                let kind = HeaderValue::from_static(schema_org::MEDIA_TYPE);
                answer.headers_mut().insert(header::CONTENT_TYPE, kind);
                answer
            }
            false => conditional::json(headers, json::render(&id, &known)),
        };
        return Ok(access.applied(negotiated(answer)));
    }
    let tag = document.tag.to_str().unwrap_or_default();
    let body = state.answers.share(&document.body).ok_or_else(busy)?;
    let answer = conditional::tagged(headers, tag, || Body::from(body));
    Ok(access.applied(negotiated(answer)))
}

/// Whether the recipe is wanted as pages carry it.
fn wants_schema_org(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut kinds = accepted
        .flat_map(|value| value.split(','))
        .map(|kind| kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    // Whoever takes both has the whole recipe.
    let is_first = |kind: &String| {
        kind == schema_org::MEDIA_TYPE || kind == "application/json" || kind == "*/*"
    };
    kinds.find(is_first).is_some_and(|kind| kind == schema_org::MEDIA_TYPE)
}

fn negotiated(mut answer: Response) -> Response {
    let vary = HeaderValue::from_static("Accept, Accept-Encoding");
    answer.headers_mut().insert(header::VARY, vary);
    answer
}

/// The recipe as it was after one of its events.
async fn old(state: &Recipes, id: &str, version: u64) -> Result<String, Problem> {
    let (bucket, key) = (history_bucket(id, version), history::key(id, version));
    let found = state.store.get(&state.tables.history, &bucket, &key).await;
    let row = found.map_err(|error| store_problem(&error))?;
    let row = row.ok_or_else(|| {
        Problem::new(ProblemType::NotFound, "there is no such version of a recipe with this id")
    })?;
    recipe_in(std::str::from_utf8(&row.body).map_err(|error| Problem::internal(&error))?)
}

/// The recipe as it was known at an instant. Caches are told to ask again, since who may look at it ends
/// with its deletion.
async fn as_of(state: &Recipes, id: &str, newest: u64, at: Timestamp) -> Result<String, Problem> {
    let bucket = |version| history_bucket(id, version);
    let time = |row: &str| Told::read(row).map(|told| told.occurred_at);
    let then = past::then(state, &state.tables.history, bucket, (id, newest), at, time).await?;
    let (_, row) = then.ok_or_else(|| {
        Problem::new(ProblemType::NotFound, "the recipe was not known at that time")
    })?;
    if Told::read(&row).is_some_and(|told| told.kind == "recipe.deleted") {
        return Err(gone());
    }
    recipe_in(&row)
}

/// What a row of history has of the recipe.
fn recipe_in(row: &str) -> Result<String, Problem> {
    let recipe = row.split_once(RECIPE).map(|(_, recipe)| &recipe[..recipe.len() - 1]);
    recipe
        .map(str::to_owned)
        .ok_or_else(|| Problem::internal(&Words::from("a row of history has no recipe")))
}

/// What stands before the recipe in a row of history: names of fields hold no such thing.
const RECIPE: &str = ",\"recipe\":";

async fn history(
    State(state): State<Arc<Recipes>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let parameters = Parameters::parse(query.as_deref(), &["limit", "cursor"])?;
    let limit = parameters.limit()?;
    let id = parse_id(&id)?;
    let newest = state.cache.document(&state, id).await?.ok_or_else(missing)?;
    let access = allowed(&state, &newest, &headers)?;
    let id = id.to_string();
    let first = cursor::first_event(&parameters, &id)?;
    let bucket = |version| history_bucket(&id, version);
    let shown = |row: &str| Some(format!("{}}}", row.split_once(RECIPE)?.0));
    let (table, range) = (&state.tables.history, (first, limit));
    let page = past::page(&state, table, bucket, &id, range, shown).await?;
    if page.items.is_empty() && first == 1 {
        return Err(missing());
    }
    let next = cursor::next(&id, page.last);
    let body = format!("{{\"items\":[{}],\"next_cursor\":{next}}}", page.items.join(","));
    drop(page.items);
    Ok(access.applied(conditional::json(&headers, page.room.hold(body)?)))
}
