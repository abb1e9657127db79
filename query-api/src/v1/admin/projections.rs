//! Projections: what is live, which generations there are, how far each is.

use super::{answer, known, lag, list, log_problem, page};
use crate::{
    state::{ApiState, ProjectionNames},
    v1::store_problem,
};
use almanac_domain::operations::{Knowledge, State as RebuildState};
use almanac_edge::{Problem, ProblemType, query::Parameters};
use almanac_operations::Known;
use almanac_tables::{
    Edition,
    down::{self, Down},
    parked,
    positions::{self, Ends, Positions},
};
use axum::{
    extract::{Path, RawQuery, State},
    response::Response,
};
use http::HeaderMap;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) async fn projections(
    State(state): State<Arc<ApiState>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let known = known(&state, &headers).await?;
    let all = state.options.projections.iter().map(|one| (one.name.to_owned(), *one));
    let (some, next) = page("projections", query.as_deref(), all)?;
    let mut items = Vec::with_capacity(some.len());
    for one in some {
        items.push(status(&state, &known, one).await?);
    }
    Ok(list(&headers, &items, &next))
}

pub(super) async fn projection(
    State(state): State<Arc<ApiState>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    Parameters::parse(query.as_deref(), &[])?;
    let known = known(&state, &headers).await?;
    let found = state.options.projections.iter().find(|one| one.name == name);
    let none = || Problem::new(ProblemType::NotFound, "there is no such projection");
    Ok(answer(&headers, &status(&state, &known, *found.ok_or_else(none)?).await?))
}

pub(super) async fn status(
    state: &ApiState,
    known: &Known,
    one: ProjectionNames,
) -> Result<Value, Problem> {
    let ends = ends(state, one.topics).await?;
    let live = Edition { version: one.fold, generation: known.live(one.name, one.fold) };
    let newest = known.of_fold(one.name, one.fold);
    let mut versions = Vec::new();
    for generation in known.filled(one.name, one.fold) {
        let edition = Edition { version: one.fold, generation };
        let positions = read(state, one.name, edition).await?;
        let rebuilt = newest.filter(|known| known.rebuild.generation == generation);
        let word = match rebuilt {
            _ if generation == live.generation => "live",
            Some(known) if known.rebuild.is_under_way() => known.rebuild.state.as_str(),
            _ => "kept",
        };
        let parked = parked::all(&*state.store, one.name, edition).await;
        let parked = parked.map_err(|error| store_problem(&error))?;
        let parked = parked.iter().filter(|one| one.is_set_aside()).count();
        let down = down::read(&*state.store, one.name, edition, &positions).await;
        let down = down.map_err(|error| store_problem(&error))?;
        let waiting = lag::oldest(state, &positions, &ends).await;
        let told = rebuilt.filter(|known| known.rebuild.state == RebuildState::Hydrating);
        let told = told.map_or(Value::Null, |known| progress(known, &positions, &ends));
        let partitions: Vec<Value> = ends
            .iter()
            .map(|((topic, partition), end)| {
                let saved = positions.get(&((*topic).to_owned(), *partition));
                let position = saved.map_or(0, |saved| saved.next_offset);
                let lag = end.saturating_sub(position);
                let moved = saved.and_then(|saved| saved.moved_at_ms);
                let moved = moved.and_then(|moved| Timestamp::from_millisecond(moved).ok());
                json!({
                    "topic": topic,
                    "partition": partition,
                    "position": position,
                    "end": end,
                    "lag_events": lag,
                    "lag_s": waiting.lag_s((*topic, *partition), lag),
                    "last_progress_at": moved.map(|moved| format!("{moved:.3}")),
                })
            })
            .collect();
        versions.push(json!({
            "version": edition.to_string(),
            "state": word,
            "partitions": partitions,
            "events_per_s": told["events_per_s"],
            "ready_in_s": told["ready_in_s"],
            "parked": parked,
            "down": down_of(down),
        }));
    }
    Ok(json!({
        "name": one.name,
        "live": live.to_string(),
        "serving": serving(state, one.name).map(|edition| edition.to_string()),
        "versions": versions,
    }))
}

/// The fault that has been there longest: what else stands still is often of the same cause, and comes next.
fn down_of(all: Vec<((String, u32), Down)>) -> Value {
    let oldest = all.into_iter().min_by_key(|(_, down)| down.since_ms);
    oldest.map_or(Value::Null, |((topic, partition), down)| {
        json!({
            "category": down.category,
            "since": time(down.since_ms),
            "topic": topic,
            "partition": partition,
            "offset": down.offset.unwrap_or(down.position),
            "key": down.key,
            "detail": down.detail,
        })
    })
}

pub(super) fn time(millis: i64) -> Value {
    let time = Timestamp::from_millisecond(millis).ok();
    time.map_or(Value::Null, |time| format!("{time:.3}").into())
}

pub(super) async fn ends(
    state: &ApiState,
    topics: &'static [&'static str],
) -> Result<Ends, Problem> {
    let read = positions::ends_of(&*state.log, &state.options.prefix, topics).await;
    read.map_err(|error| log_problem(&error))
}

pub(super) async fn read(
    state: &ApiState,
    name: &str,
    edition: Edition,
) -> Result<Positions, Problem> {
    let read = positions::read(&*state.store, name, edition).await;
    read.map_err(|error| store_problem(&error))
}

/// Events that are read, and those that are left.
fn counted(positions: &Positions, ends: &Ends) -> (u64, u64) {
    let mut counted = (0, 0);
    for ((topic, partition), end) in ends {
        let position = positions.get(&((*topic).to_owned(), *partition));
        let position = position.map_or(0, |position| position.next_offset).min(*end);
        counted.0 += position;
        counted.1 += end - position;
    }
    counted
}

/// Share, rate and time to go of a rebuild that goes on.
pub(super) fn progress(known: &Knowledge, positions: &Positions, ends: &Ends) -> Value {
    let (read, left) = counted(positions, ends);
    let since = Timestamp::now().duration_since(known.rebuild.requested_at).as_secs_f64();
    let rate = (since > 0.0).then(|| read as f64 / since);
    let to_go = rate.filter(|rate| *rate > 0.0).map(|rate| left as f64 / rate);
    let share = if read + left == 0 { 1.0 } else { read as f64 / (read + left) as f64 };
    json!({
        "share": (share * 10_000.0).floor() / 10_000.0,
        "events_left": left,
        "events_per_s": rate.map(f64::round),
        "ready_in_s": to_go.map(f64::ceil),
    })
}

/// The edition that this process answers from.
pub(super) fn serving(state: &ApiState, projection: &str) -> Option<Edition> {
    let mut live = state.slots.iter().map(|slot| slot.live());
    live.find(|served| served.model.projection().name() == projection)
        .map(|served| served.model.projection().edition())
}
