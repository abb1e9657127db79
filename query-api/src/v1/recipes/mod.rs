//! `/v1/recipes`: single recipes, their history, and questions that combine.

mod access;
pub(crate) mod cache;
mod candidates;
mod list;
mod pages;
pub(crate) mod pictures;
mod thumbnail;
mod vocabulary;

pub(crate) use list::list;
pub(crate) use thumbnail::thumbnail;
pub(crate) use vocabulary::vocabulary;

use super::{cursor, store_problem};
use crate::{answers::busy, state::ApiState};
use access::{Access, allowed};
use almanac_domain::recipes::{Knowledge, System, limits};
use almanac_edge::{
    Problem, ProblemType, conditional,
    query::{Parameters, bad},
};
use almanac_projector::{history, recipes::history_bucket};
use almanac_schemas::json::recipes as json;
use axum::{
    body::Body,
    extract::{Path, RawQuery, Request, State},
    response::Response,
};
use cache::Document;
use http::HeaderMap;
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

pub(crate) async fn one(
    State(state): State<Arc<ApiState>>,
    Path(id): Path<String>,
    // Extracting its headers would copy them.
    request: Request,
) -> Result<Response, Problem> {
    let parameters = Parameters::parse(request.uri().query(), &["serves", "units", "version"])?;
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
    let newest = state.recipe_cache.document(&state, id).await?;
    let (document, access) = match version {
        None => (served(newest)?, Access::Public),
        Some(version) => {
            let access = allowed(&state, &*newest.ok_or_else(missing)?, headers)?;
            let old = old(&state, &id.to_string(), version).await?;
            (Arc::new(Document::parse(old.into())), access)
        }
    };
    if serves.is_some() || units.is_some() {
        let damaged = || Problem::internal(&format!("row of recipe {id} cannot be read"));
        let known = document.known().ok_or_else(damaged)?;
        let serves = serves.map(|people| u32::try_from(people).unwrap_or(u32::MAX));
        let adjusted = known.recipe.adjusted(serves, units);
        let recipe =
            adjusted.map_err(|unfit| Problem::new(ProblemType::Conflict, unfit.to_string()))?;
        let known = Knowledge { recipe, ..known };
        let adjusted = conditional::json(headers, json::render(&id.to_string(), &known));
        return Ok(access.applied(adjusted));
    }
    let tag = document.tag.to_str().unwrap_or_default();
    let body = state.answers.share(&document.body).ok_or_else(busy)?;
    Ok(access.applied(conditional::tagged(headers, tag, || Body::from(body))))
}

/// The recipe as it was after one of its events.
async fn old(state: &ApiState, id: &str, version: u64) -> Result<String, Problem> {
    let (bucket, key) = (history_bucket(id, version), history::key(id, version));
    let found = state.store.get(&state.recipes.history, &bucket, &key).await;
    let row = found.map_err(|error| store_problem(&error))?;
    let row = row.ok_or_else(|| {
        Problem::new(ProblemType::NotFound, "there is no such version of a recipe with this id")
    })?;
    let text = std::str::from_utf8(&row.body).map_err(|error| Problem::internal(&error))?;
    let recipe = text.split_once(RECIPE).map(|(_, recipe)| &recipe[..recipe.len() - 1]);
    recipe.map(str::to_owned).ok_or_else(|| Problem::internal(&"a row of history has no recipe"))
}

/// What stands before the recipe in a row of history: names of fields hold no such thing.
const RECIPE: &str = ",\"recipe\":";

pub(crate) async fn history(
    State(state): State<Arc<ApiState>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let parameters = Parameters::parse(query.as_deref(), &["limit", "cursor"])?;
    let limit = parameters.limit()?;
    let id = parse_id(&id)?;
    let newest = state.recipe_cache.document(&state, id).await?.ok_or_else(missing)?;
    let access = allowed(&state, &newest, &headers)?;
    let id = id.to_string();
    let first = match parameters.one("cursor")? {
        Some(text) => cursor::decode::<u64>(&id, text)?.saturating_add(1),
        None => 1,
    };
    let bucket = |version| history_bucket(&id, version);
    let shown = |row: &str| Some(format!("{}}}", row.split_once(RECIPE)?.0));
    let (table, range) = (&state.recipes.history, (first, limit));
    let page = super::history::page(&state, table, bucket, &id, range, shown).await?;
    if page.items.is_empty() && first == 1 {
        return Err(missing());
    }
    let next = cursor::next(&id, page.last);
    let body = format!("{{\"items\":[{}],\"next_cursor\":{next}}}", page.items.join(","));
    drop(page.items);
    Ok(access.applied(conditional::json(&headers, page.room.hold(body)?)))
}
