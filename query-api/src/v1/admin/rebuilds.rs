//! Rebuilds: what was asked for, how far it is, what came of it.

use super::{
    answer, known, list, page,
    projections::{ends, progress, read, serving},
};
use crate::state::ApiState;
use almanac_domain::operations::{Knowledge, Mending, Remedy, State as RebuildState};
use almanac_edge::{Problem, ProblemType, query::Parameters};
use almanac_operations::Known;
use almanac_schemas::json::{mending, operations};
use almanac_tables::Edition;
use axum::{
    extract::{Path, RawQuery, State},
    response::Response,
};
use http::HeaderMap;
use serde_json::Value;
use std::sync::Arc;

/// Of the tables of a projection, or of some of their rows.
enum Kind<'a> {
    Whole(&'a Knowledge),
    Partial(&'a Mending),
}

pub(super) async fn rebuilds(
    State(state): State<Arc<ApiState>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let known = known(&state, &headers).await?;
    let whole = known.rebuilds().map(|one| (one.rebuild.request.id.clone(), Kind::Whole(one)));
    let partial = known.repairs().map(|one| (one.id.clone(), Kind::Partial(one)));
    let mut all: Vec<(String, Kind<'_>)> = whole.chain(partial).collect();
    all.sort_unstable_by(|one, other| other.0.cmp(&one.0));
    let (some, next) = page("rebuilds", query.as_deref(), all.into_iter())?;
    let mut items = Vec::with_capacity(some.len());
    for one in some {
        let mut item = match one {
            Kind::Whole(one) => described(&state, &known, one).await?,
            Kind::Partial(one) => mending::mending(one),
        };
        // Of each there is more to read.
        item["differences"] = Value::Null;
        item["certificate"] = Value::Null;
        items.push(item);
    }
    Ok(list(&headers, &items, &next))
}

pub(super) async fn rebuild(
    State(state): State<Arc<ApiState>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    Parameters::parse(query.as_deref(), &[])?;
    let known = known(&state, &headers).await?;
    let none = || Problem::new(ProblemType::NotFound, "there is no rebuild with this id");
    if let Some(partial) = known.mending(&id).filter(|known| known.remedy == Remedy::Repair) {
        return Ok(answer(&headers, &mending::mending(partial)));
    }
    let found = known.rebuild(&id).ok_or_else(none)?;
    Ok(answer(&headers, &described(&state, &known, found).await?))
}

fn of_rebuild(known: &Knowledge) -> Edition {
    Edition { version: known.rebuild.request.fold, generation: known.rebuild.generation }
}

pub(super) async fn described(
    state: &ApiState,
    all: &Known,
    known: &Knowledge,
) -> Result<Value, Problem> {
    let mut body = operations::rebuild(known);
    let request = &known.rebuild.request;
    let names = state.options.projections.iter().find(|one| one.name == request.projection);
    let goes_on = known.rebuild.is_under_way() && known.rebuild.state != RebuildState::Ready;
    body["progress"] = match names.filter(|_| goes_on) {
        Some(names) => {
            let positions = read(state, names.name, of_rebuild(known)).await?;
            progress(known, &positions, &ends(state, names.topics).await?)
        }
        None => Value::Null,
    };
    let is_newest = all.of(&request.projection) == Some(known);
    body["serving"] =
        (is_newest && serving(state, &request.projection) == Some(of_rebuild(known))).into();
    Ok(body)
}
