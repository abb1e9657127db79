//! A schedule as a calendar: each task when it was done, is being done, or is planned by the newest
//! result. A task that has no window yet is not in it.

use super::{Schedules, event_of, gone};
use crate::{
    calendar::{CONTENT_TYPE, Entry, render},
    v1::{
        private::{VARY, of_the_caller},
        store_problem,
    },
};
use almanac_domain::{
    schedules::Knowledge,
    weather::{Task, TaskState},
};
use almanac_edge::{Problem, conditional, identity::Caller};
use almanac_errors::Words;
use almanac_read_store::{Direction, ReadStore, Slice};
use almanac_schemas::{
    analyses::{AnalysisCompletedRecord, AnalysisEventRecord, PlannedTaskRecord},
    json::weather::read_event,
};
use almanac_tables::analyses::{self, List, VERSION, id_bucket, month_of};
use axum::response::Response;
use http::HeaderMap;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use uuid::Uuid;

/// So many of the newest analyses are looked at for a result.
const NEWEST: usize = 50;

/// Of an item in a list of analyses.
#[derive(Deserialize)]
struct Listed {
    request_id: String,
    state: String,
}

pub(super) async fn calendar(
    state: &Schedules,
    id: &str,
    caller: &Caller,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let stored = state.readable(id, caller).await?;
    stored.schedule.ok_or_else(gone)?;
    let missing = || Problem::internal(&Words::from(format!("schedule {id} has no history")));
    let event = event_of(&*state.store, &state.tables, id, stored.version).await?;
    let (record, event) = event.ok_or_else(missing)?;
    let outside =
        || Problem::internal(&Words::from(format!("schedule {id} is outside the domain")));
    let known = event.knowledge(&record).ok_or_else(outside)?;
    let newest = newest(&*state.store, id).await?;
    let text = render(&known.schedule.name, None, entries(id, &known, newest.as_deref()));
    let tag = match &newest {
        Some(newest) => format!("\"{}-{}\"", stored.version, newest.id),
        None => format!("\"{}\"", stored.version),
    };
    let body = || axum::body::Body::from(text);
    let answer = conditional::typed(conditional::tagged(headers, &tag, body), CONTENT_TYPE);
    Ok(of_the_caller(answer, VARY))
}

/// The newest result of a schedule, as far as the tables are.
async fn newest(
    store: &dyn ReadStore,
    schedule: &str,
) -> Result<Option<Box<AnalysisCompletedRecord>>, Problem> {
    let tables = analyses::Tables::of(VERSION).map_err(|error| store_problem(&error))?;
    let list = List::Schedule(schedule);
    let slice = Slice { direction: Direction::Descending, ..Slice::all() };
    let months = store.slice(&tables.months, &list.months(), &slice).await;
    let months = months.map_err(|error| store_problem(&error))?;
    let mut months: Vec<&str> = months.iter().filter_map(|row| month_of(&row.clustering)).collect();
    months.dedup();
    let mut left = NEWEST;
    for month in months {
        let slice = Slice { direction: Direction::Descending, limit: left, ..Slice::all() };
        let rows = store.slice(&tables.by_schedule, &list.partition(month), &slice).await;
        for row in rows.map_err(|error| store_problem(&error))? {
            left -= 1;
            let listed = serde_json::from_slice::<Listed>(&row.body).ok();
            let Some(listed) = listed.filter(|one| one.state == "completed") else { continue };
            let id = listed.request_id;
            let row = store.get(&tables.analyses, id_bucket(&id), &id).await;
            let row = row.map_err(|error| store_problem(&error))?;
            let event = row.as_ref().and_then(|row| std::str::from_utf8(&row.body).ok());
            if let Some(AnalysisEventRecord::Completed(completed)) = event.and_then(read_event) {
                return Ok(Some(completed));
            }
        }
        if left == 0 {
            break;
        }
    }
    Ok(None)
}

fn entries<'a>(
    id: &'a str,
    known: &'a Knowledge,
    newest: Option<&'a AnalysisCompletedRecord>,
) -> impl Iterator<Item = Entry<'static>> + 'a {
    let tasks = known.schedule.tasks.iter().zip(&known.states);
    tasks.filter_map(move |(task, state)| {
        let planned = newest.and_then(|newest| newest.tasks.iter().find(|one| one.id == task.id));
        entry(id, known, (task, *state), newest.zip(planned))
    })
}

fn entry(
    id: &str,
    known: &Knowledge,
    (task, state): (&Task, TaskState),
    newest: Option<(&AnalysisCompletedRecord, &PlannedTaskRecord)>,
) -> Option<Entry<'static>> {
    let instant = |text: &Option<String>| text.as_ref()?.parse::<Timestamp>().ok();
    let planned = newest.map(|(_, planned)| planned);
    let ends = planned.and_then(|planned| instant(&planned.end));
    let takes = SignedDuration::from_secs(task.duration_s);
    let (category, starts, ends) = match state {
        TaskState::Planned => ("planned", planned.and_then(|one| instant(&one.start))?, ends?),
        TaskState::Started { at } => {
            let ends = ends.filter(|ends| *ends > at).or_else(|| at.checked_add(takes).ok());
            ("started", at, ends?)
        }
        TaskState::Completed { started_at, at } => ("completed", started_at, at),
    };
    let mut description = format!("Task {} of {}: {category}.", task.id, known.schedule.name);
    let mut changed = known.updated_at;
    if category != "completed"
        && let Some((result, planned)) = newest
    {
        if let Some(latest) = instant(&planned.latest_start).filter(|_| category == "planned") {
            description.push_str(&format!("\nLatest start that delays nothing: {latest}."));
        }
        if planned.at_risk.is_some() {
            description.push_str("\nAt risk: the weather ends before the task does.");
        }
        for forecast in &result.forecasts {
            let (source, fetched_at) = (&forecast.source, &forecast.fetched_at);
            description.push_str(&format!("\nForecast of {source}, fetched at {fetched_at}."));
        }
        if result.is_stale {
            description.push_str("\nThe forecast was past its freshness.");
        }
        description.push_str(&format!("\nAnalysis {}.", result.id));
        let at = Timestamp::from_millisecond(result.occurred_at).unwrap_or_default();
        changed = changed.max(at);
    }
    let (north, east) =
        (known.schedule.location.lat.to_string(), known.schedule.location.lon.to_string());
    let namespace = Uuid::try_parse(id).ok()?;
    Some(Entry {
        uid: format!("{}@almanac", Uuid::new_v5(&namespace, task.id.as_bytes())),
        summary: format!("{} ({})", task.name, known.schedule.name),
        description,
        location: Some(format!("{north}, {east}")),
        place: Some((north, east)),
        category,
        starts,
        ends: Some(ends),
        url: None,
        is_certain: category != "planned",
        created: known.created_at,
        changed,
    })
}
