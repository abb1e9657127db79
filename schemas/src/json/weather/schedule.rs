//! The public JSON of a schedule.

use crate::json::{
    ServerMade,
    walk::{NotJson, Object, Part, Walk, merged, parse},
};
use almanac_domain::{
    Fault,
    schedules::Knowledge,
    weather::{Limit, LimitDraft, Schedule, ScheduleDraft, Task, TaskDraft, TaskState},
};
use jiff::Timestamp;
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

/// What somebody sends of a schedule that there is: what a client got may be sent back whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleRevision {
    pub schedule: Schedule,
    server_made: ServerMade,
}

pub fn read_schedule_revision(
    body: &[u8],
) -> Result<Result<ScheduleRevision, Vec<Fault>>, NotJson> {
    let raw = parse(body)?;
    let mut walk = Walk::default();
    let known: Vec<&str> = MADE_OF_SCHEDULES.into_iter().chain(PROPERTIES).collect();
    let Some(object) = walk.object(raw, &known) else { return Ok(Err(walk.faults)) };
    let mut server_made = ServerMade::default();
    server_made.take(&[], &object, &MADE_OF_SCHEDULES);
    for (number, task) in tasks_of(&object).iter().enumerate() {
        server_made.take(&["tasks", &number.to_string()], task, &MADE_OF_TASKS);
    }
    let draft = draft_of(&mut walk, &object);
    let schedule = merged(walk.faults, draft.check());
    Ok(schedule.map(|schedule| ScheduleRevision { schedule, server_made }))
}

impl ScheduleRevision {
    /// Where it says another thing of what the server makes than what is so.
    pub fn differences(&self, id: &str, known: &Knowledge) -> Vec<Fault> {
        if self.server_made.is_empty() {
            return Vec::new();
        }
        // A task that is new is planned.
        let state_of = |id: &str| {
            let known = known.schedule.tasks.iter().zip(&known.states);
            known.into_iter().find(|(task, _)| task.id == id).map(|(_, state)| *state)
        };
        let tasks = &self.schedule.tasks;
        let states = tasks.iter().map(|task| state_of(&task.id).unwrap_or_default());
        let states: Vec<TaskState> = states.collect();
        let so = Knowledge { schedule: self.schedule.clone(), states, ..known.clone() };
        let rendered = render_known_schedule(id, &so);
        let Ok(so) = serde_json::from_str::<Object<'_>>(&rendered) else { return Vec::new() };
        let tasks = tasks_of(&so);
        self.server_made.differences_from(|place| {
            let so = match place {
                [name] => so.get(name),
                [_, number, name] => tasks.get(number.parse::<usize>().ok()?)?.get(name),
                _ => None,
            };
            so.map(|so| so.get().to_owned())
        })
    }
}

fn tasks_of<'a>(schedule: &Object<'a>) -> Vec<Object<'a>> {
    let tasks = schedule.get("tasks").map(RawValue::get).unwrap_or_default();
    serde_json::from_str(tasks).unwrap_or_default()
}

/// When something was done: the body of a task's start or completion, which may be empty.
pub fn read_moment(body: &[u8]) -> Result<Result<Option<Timestamp>, Vec<Fault>>, NotJson> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Ok(None));
    }
    let raw = parse(body)?;
    let mut walk = Walk::default();
    let object = walk.object(raw, &["at"]);
    let at = object.and_then(|object| walk.property(&object, "at", Walk::instant));
    Ok(if walk.faults.is_empty() { Ok(at) } else { Err(walk.faults) })
}

const PROPERTIES: [&str; 4] = ["name", "location", "repeat_every", "tasks"];
const MADE_OF_SCHEDULES: [&str; 4] = ["id", "version", "created_at", "updated_at"];
const MADE_OF_TASKS: [&str; 3] = ["state", "started_at", "completed_at"];

pub(super) fn draft(walk: &mut Walk, raw: &RawValue) -> Option<ScheduleDraft> {
    let body = walk.object(raw, &PROPERTIES)?;
    Some(draft_of(walk, &body))
}

fn draft_of(walk: &mut Walk, body: &Object<'_>) -> ScheduleDraft {
    let location = walk.property(body, "location", |walk, raw| {
        let location = walk.object(raw, &["lat", "lon"])?;
        let mut coordinate = |name| walk.property(&location, name, Walk::decimal);
        Some((coordinate("lat"), coordinate("lon")))
    });
    let (lat, lon) = location.unwrap_or_default();
    ScheduleDraft {
        name: walk.property(body, "name", Walk::text),
        lat,
        lon,
        repeat_every_s: walk.property(body, "repeat_every", Walk::seconds),
        tasks: walk.property(body, "tasks", |walk, raw| walk.list(raw, task)).unwrap_or_default(),
    }
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
    let tasks: Vec<TaskJson<'_>> = schedule.tasks.iter().map(TaskJson::from).collect();
    serde_json::to_string(&ScheduleJson::with_tasks(schedule, tasks)).unwrap_or_default()
}

/// A stored schedule as it is answered.
pub fn render_known_schedule(id: &str, known: &Knowledge) -> String {
    let tasks = known.schedule.tasks.iter().zip(&known.states);
    let json = KnownJson {
        id,
        version: known.version,
        created_at: format!("{:.3}", known.created_at),
        updated_at: format!("{:.3}", known.updated_at),
        schedule: ScheduleJson::with_tasks(
            &known.schedule,
            tasks.map(|(task, state)| KnownTaskJson::new(task, *state)).collect(),
        ),
    };
    serde_json::to_string(&json).unwrap_or_default()
}

#[derive(Serialize)]
struct KnownJson<'a> {
    id: &'a str,
    version: u64,
    created_at: String,
    updated_at: String,
    #[serde(flatten)]
    schedule: ScheduleJson<'a, KnownTaskJson<'a>>,
}

#[derive(Serialize)]
struct KnownTaskJson<'a> {
    #[serde(flatten)]
    task: TaskJson<'a>,
    state: &'static str,
    started_at: Option<String>,
    completed_at: Option<String>,
}

impl<'a> KnownTaskJson<'a> {
    fn new(task: &'a Task, state: TaskState) -> Self {
        let (state, started_at, completed_at) = match state {
            TaskState::Planned => ("planned", None, None),
            TaskState::Started { at } => ("started", Some(at), None),
            TaskState::Completed { started_at, at } => ("completed", Some(started_at), Some(at)),
        };
        let time = |time: Option<Timestamp>| time.map(|time| format!("{time:.3}"));
        let (started_at, completed_at) = (time(started_at), time(completed_at));
        Self { task: task.into(), state, started_at, completed_at }
    }
}

#[derive(Serialize)]
struct ScheduleJson<'a, T> {
    name: &'a str,
    location: LocationJson,
    repeat_every: Option<String>,
    tasks: Vec<T>,
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

impl<'a, T> ScheduleJson<'a, T> {
    fn with_tasks(schedule: &'a Schedule, tasks: Vec<T>) -> Self {
        let location = &schedule.location;
        Self {
            name: &schedule.name,
            location: LocationJson { lat: Exact(location.lat), lon: Exact(location.lon) },
            repeat_every: schedule.repeat_every_s.map(iso_duration),
            tasks,
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
