//! The public JSON of a schedule.

use crate::json::walk::{NotJson, Part, Walk, merged, parse};
use almanac_domain::{
    Fault,
    weather::{Limit, LimitDraft, Schedule, ScheduleDraft, Task, TaskDraft},
};
use serde::Serialize;
use serde_json::value::RawValue;

use super::answer::{Exact, iso_duration};

/// A schedule from a body, or all that is wrong with it.
pub fn read_schedule(body: &[u8]) -> Result<Result<Schedule, Vec<Fault>>, NotJson> {
    let raw = parse(body)?;
    let mut walk = Walk::default();
    let Some(draft) = draft(&mut walk, raw) else { return Ok(Err(walk.faults)) };
    Ok(merged(walk.faults, draft.check()))
}

pub(super) fn draft(walk: &mut Walk, raw: &RawValue) -> Option<ScheduleDraft> {
    let body = walk.object(raw, &["name", "location", "repeat_every", "tasks"])?;
    let location = walk.property(&body, "location", |walk, raw| {
        let location = walk.object(raw, &["lat", "lon"])?;
        let mut coordinate = |name| walk.property(&location, name, Walk::decimal);
        Some((coordinate("lat"), coordinate("lon")))
    });
    let (lat, lon) = location.unwrap_or_default();
    Some(ScheduleDraft {
        name: walk.property(&body, "name", Walk::text),
        lat,
        lon,
        repeat_every_s: walk.property(&body, "repeat_every", Walk::seconds),
        tasks: walk.property(&body, "tasks", |walk, raw| walk.list(raw, task)).unwrap_or_default(),
    })
}

/// An item is handed on even where parts of it could not be read, so that the places of the others
/// stay what they are.
fn task(walk: &mut Walk, raw: &RawValue) -> Option<TaskDraft> {
    // What the server adds to answers may come back.
    let known = [
        "id",
        "name",
        "duration",
        "contingency",
        "predecessors",
        "limits",
        "state",
        "started_at",
        "completed_at",
    ];
    let Some(item) = walk.object(raw, &known) else { return Some(TaskDraft::default()) };
    Some(TaskDraft {
        id: walk.property(&item, "id", Walk::text),
        name: walk.property(&item, "name", Walk::text),
        duration_s: walk.property(&item, "duration", Walk::seconds),
        contingency_s: walk.property(&item, "contingency", Walk::seconds),
        predecessors: walk
            .property(&item, "predecessors", |walk, raw| walk.list(raw, text))
            .unwrap_or_default(),
        limits: walk
            .property(&item, "limits", |walk, raw| walk.list(raw, limit))
            .unwrap_or_default(),
    })
}

fn text(walk: &mut Walk, raw: &RawValue) -> Option<String> {
    Some(walk.text(raw).unwrap_or_default())
}

fn limit(walk: &mut Walk, raw: &RawValue) -> Option<LimitDraft> {
    let Some(item) = walk.object(raw, &["variable", "min", "max"]) else {
        return Some(LimitDraft::default());
    };
    let variable = walk.property(&item, "variable", Walk::text);
    if variable.is_none() && item.get("variable").is_none() {
        walk.at(Part::Name("variable"), |walk| walk.fault("it is required"));
    }
    let mut decimal = |name| walk.property(&item, name, Walk::decimal);
    Some(LimitDraft { variable, min: decimal("min"), max: decimal("max") })
}

/// What a client would send to make this schedule.
pub fn render_schedule(schedule: &Schedule) -> String {
    serde_json::to_string(&ScheduleJson::from(schedule)).unwrap_or_default()
}

#[derive(Serialize)]
struct ScheduleJson<'a> {
    name: &'a str,
    location: LocationJson,
    repeat_every: Option<String>,
    tasks: Vec<TaskJson<'a>>,
}

#[derive(Serialize)]
struct LocationJson {
    lat: Exact,
    lon: Exact,
}

#[derive(Serialize)]
struct TaskJson<'a> {
    id: &'a str,
    name: &'a str,
    duration: String,
    contingency: Option<String>,
    predecessors: &'a [String],
    limits: Vec<LimitJson>,
}

#[derive(Serialize)]
struct LimitJson {
    variable: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    min: Option<Exact>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<Exact>,
}

impl<'a> From<&'a Schedule> for ScheduleJson<'a> {
    fn from(schedule: &'a Schedule) -> Self {
        let location = &schedule.location;
        Self {
            name: &schedule.name,
            location: LocationJson { lat: Exact(location.lat), lon: Exact(location.lon) },
            repeat_every: schedule.repeat_every_s.map(iso_duration),
            tasks: schedule.tasks.iter().map(TaskJson::from).collect(),
        }
    }
}

impl<'a> From<&'a Task> for TaskJson<'a> {
    fn from(task: &'a Task) -> Self {
        Self {
            id: &task.id,
            name: &task.name,
            duration: iso_duration(task.duration_s),
            contingency: task.contingency_s.map(iso_duration),
            predecessors: &task.predecessors,
            limits: task.limits.iter().map(LimitJson::from).collect(),
        }
    }
}

impl From<&Limit> for LimitJson {
    fn from(limit: &Limit) -> Self {
        Self {
            variable: limit.variable.as_str(),
            min: limit.min.map(Exact),
            max: limit.max.map(Exact),
        }
    }
}
