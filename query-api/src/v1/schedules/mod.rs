//! `/v1/schedules`: single schedules, their history, and the caller's list. A schedule is its owner's;
//! to others it is not there.

mod calendar;
mod list;
mod model;

pub(crate) use model::{MODEL, Schedules};

use super::{
    UnreadableRow, cursor, history as pages,
    private::{VARY, may_read, of_the_caller, parse_id},
    store_problem,
};
use crate::answers::busy;
use almanac_edge::{Problem, ProblemType, conditional, identity::Caller, query::Parameters};
use almanac_errors::Words;
use almanac_read_store::ReadStore;
use almanac_schemas::{
    json::weather::{StoredSchedule, read_schedule_event, render_known_schedule},
    schedules::{DELETED, ScheduleEventRecord, event_type_of},
};
use almanac_tables::{
    history,
    schedules::{Tables, history_bucket, id_bucket},
};
use axum::{
    body::Body,
    extract::{Path, RawQuery, State},
    response::Response,
};
use bytes::Bytes;
use http::HeaderMap;
use jiff::Timestamp;
use serde_json::json;
use std::sync::Arc;

pub(super) fn missing() -> Problem {
    Problem::new(ProblemType::NotFound, "there is no schedule with this id")
}

fn gone() -> Problem {
    Problem::new(ProblemType::Gone, "the schedule was deleted")
}

/// The newest row of a schedule, whoever asks.
async fn row(
    store: &dyn ReadStore,
    tables: &Tables,
    id: &str,
) -> Result<Option<StoredSchedule>, Problem> {
    let row = store.get(&tables.schedules, id_bucket(id), id).await;
    let Some(row) = row.map_err(|error| store_problem(&error))? else { return Ok(None) };
    serde_json::from_slice(&row.body).map(Some).map_err(|source| {
        let (what, id) = ("schedule", id.to_owned());
        Problem::internal(&UnreadableRow { what, id, source })
    })
}

/// Whose a schedule is or was.
pub(super) async fn owner_of(
    store: &dyn ReadStore,
    tables: &Tables,
    id: &str,
) -> Result<Option<String>, Problem> {
    Ok(row(store, tables, id).await?.map(|stored| stored.owner))
}

/// The event of a version with the name of its record, if the tables have it.
pub(super) async fn event_of(
    store: &dyn ReadStore,
    tables: &Tables,
    id: &str,
    version: u64,
) -> Result<Option<(String, ScheduleEventRecord)>, Problem> {
    let (bucket, key) = (history_bucket(id, version), history::key(id, version));
    let row = store.get(&tables.history, &bucket, &key).await;
    let Some(row) = row.map_err(|error| store_problem(&error))? else { return Ok(None) };
    let event = std::str::from_utf8(&row.body).ok().and_then(read_schedule_event);
    let damaged = || {
        Problem::internal(&Words::from(format!("version {version} of schedule {id} is damaged")))
    };
    event.map(Some).ok_or_else(damaged)
}

impl Schedules {
    /// The newest row of a schedule that the caller may read, deleted or not.
    async fn readable(&self, id: &str, caller: &Caller) -> Result<StoredSchedule, Problem> {
        let found = row(&*self.store, &self.tables, id).await?;
        found.filter(|stored| may_read(caller, &stored.owner)).ok_or_else(missing)
    }

    /// What was known of a schedule at an instant.
    async fn as_of(&self, id: &str, newest: u64, at: Timestamp) -> Result<String, Problem> {
        let bucket = |version| history_bucket(id, version);
        let time = |row: &str| {
            let (_, event) = read_schedule_event(row)?;
            Timestamp::from_millisecond(event.occurred_at).ok()
        };
        let table = &self.tables.history;
        let then = pages::then(self, table, bucket, (id, newest), at, time).await?;
        let then = then.and_then(|(_, row)| read_schedule_event(&row));
        let (record, event) = then.ok_or_else(|| {
            Problem::new(ProblemType::NotFound, "the schedule was not known at that time")
        })?;
        if record == DELETED {
            return Err(gone());
        }
        let outside =
            || Problem::internal(&Words::from(format!("schedule {id} is outside the domain")));
        Ok(render_known_schedule(id, &event.knowledge(&record).ok_or_else(outside)?))
    }
}

async fn one(
    State(state): State<Arc<Schedules>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let parameters = Parameters::parse(query.as_deref(), &["as_of"])?;
    let caller = state.identity.caller(&headers)?;
    if let Some(id) = id.strip_suffix(".ics") {
        Parameters::parse(query.as_deref(), &[])?;
        return calendar::calendar(&state, &parse_id(id, missing)?, &caller, &headers).await;
    }
    let id = parse_id(&id, missing)?;
    let stored = state.readable(&id, &caller).await?;
    if let Some(at) = pages::as_of(&parameters)? {
        let then = state.as_of(&id, stored.version, at).await?;
        return Ok(of_the_caller(conditional::json(&headers, then), VARY));
    }
    let schedule: Box<str> = stored.schedule.ok_or_else(gone)?.into();
    let body = Bytes::from(String::from(schedule));
    let part = state.answers.part(body.len()).ok_or_else(busy)?;
    let (body, tag) = (part.hold(body), format!("\"{}\"", stored.version));
    Ok(of_the_caller(conditional::tagged(&headers, &tag, || Body::from(body)), VARY))
}

async fn history(
    State(state): State<Arc<Schedules>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let parameters = Parameters::parse(query.as_deref(), &["limit", "cursor"])?;
    let limit = parameters.limit()?;
    let caller = state.identity.caller(&headers)?;
    let id = parse_id(&id, missing)?;
    state.readable(&id, &caller).await?;
    let first = cursor::first_event(&parameters, &id)?;
    let bucket = |version| history_bucket(&id, version);
    let page =
        pages::page(&state, &state.tables.history, bucket, &id, (first, limit), shown).await?;
    let next = cursor::next(&id, page.last);
    let body = format!("{{\"items\":[{}],\"next_cursor\":{next}}}", page.items.join(","));
    drop(page.items);
    Ok(of_the_caller(conditional::json(&headers, page.room.hold(body)?), VARY))
}

/// A row of history as it is served.
fn shown(row: &str) -> Option<String> {
    let (record, event) = read_schedule_event(row)?;
    let known = event.knowledge(&record)?;
    let mut told = json!({
        "version": known.version,
        "type": event_type_of(&record)?,
        "occurred_at": known.updated_at,
        "changed": event.changed.unwrap_or_default(),
        "task": event.task,
    })
    .to_string();
    if !known.is_deleted {
        // Not through a JSON value: its decimals are exact.
        told.truncate(told.len() - 1);
        told.push_str(",\"schedule\":");
        told.push_str(&render_known_schedule(&event.id, &known));
        told.push('}');
    }
    Some(told)
}

#[cfg(test)]
pub(crate) mod tests;
