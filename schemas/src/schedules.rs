//! Records of `schedules.events`, and schedules in them.

use crate::codec::{Codec, CodecError};
use almanac_domain::{
    schedules::{Event, Fact, Knowledge},
    weather::{Limit, Location, Schedule, Task, TaskState, Variable},
};
use bytes::Bytes;
use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// Name of the context in commands, tokens and progress.
pub const CONTEXT: &str = "schedules";
pub const TOPIC: &str = "schedules.events";
pub const CREATED: &str = "almanac.schedules.ScheduleCreated";
pub const REVISED: &str = "almanac.schedules.ScheduleRevised";
pub const DELETED: &str = "almanac.schedules.ScheduleDeleted";
pub const TASK_STARTED: &str = "almanac.schedules.TaskStarted";
pub const TASK_COMPLETED: &str = "almanac.schedules.TaskCompleted";

/// A schedule with the states of its tasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleRecord {
    pub name: String,
    pub lat: String,
    pub lon: String,
    pub repeat_every_s: Option<i64>,
    pub tasks: Vec<TaskRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRecord {
    pub id: String,
    pub name: String,
    pub duration_s: i64,
    pub contingency_s: Option<i64>,
    pub predecessors: Vec<String>,
    pub limits: Vec<LimitRecord>,
    pub started_at: Option<i64>,
    pub completed_at: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitRecord {
    pub variable: String,
    pub min: Option<String>,
    pub max: Option<String>,
}

/// Any of the events of a schedule; which one, the name of the record says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleEventRecord {
    pub id: String,
    pub version: i64,
    pub occurred_at: i64,
    pub created_at: i64,
    pub owner: String,
    pub schedule: ScheduleRecord,
    /// Of a revision: the names of the fields that changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<Vec<String>>,
    /// Of a task's start or completion: its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
}

impl ScheduleRecord {
    /// `states` has one for each task, in their order; a task without one is planned.
    pub fn from_domain(schedule: &Schedule, states: &[TaskState]) -> Self {
        let states = states.iter().copied().chain(std::iter::repeat(TaskState::Planned));
        let tasks = schedule.tasks.iter().zip(states);
        Self {
            name: schedule.name.clone(),
            lat: schedule.location.lat.to_string(),
            lon: schedule.location.lon.to_string(),
            repeat_every_s: schedule.repeat_every_s,
            tasks: tasks.map(|(task, state)| TaskRecord::from_domain(task, state)).collect(),
        }
    }

    /// `None` when a value is outside the domain, which nothing that we wrote is.
    pub fn to_domain(&self) -> Option<(Schedule, Vec<TaskState>)> {
        let location = Location { lat: self.lat.parse().ok()?, lon: self.lon.parse().ok()? };
        let both = self.tasks.iter().map(TaskRecord::to_domain).collect::<Option<Vec<_>>>()?;
        let (tasks, states) = both.into_iter().unzip();
        let (name, repeat_every_s) = (self.name.clone(), self.repeat_every_s);
        Some((Schedule { name, location, repeat_every_s, tasks }, states))
    }
}

impl TaskRecord {
    fn from_domain(task: &Task, state: TaskState) -> Self {
        let (started_at, completed_at) = match state {
            TaskState::Planned => (None, None),
            TaskState::Started { at } => (Some(at), None),
            TaskState::Completed { started_at, at } => (Some(started_at), Some(at)),
        };
        let text = |value: Option<Decimal>| value.map(|value| value.to_string());
        let limits = task.limits.iter().map(|limit| LimitRecord {
            variable: limit.variable.as_str().to_owned(),
            min: text(limit.min),
            max: text(limit.max),
        });
        Self {
            id: task.id.clone(),
            name: task.name.clone(),
            duration_s: task.duration_s,
            contingency_s: task.contingency_s,
            predecessors: task.predecessors.clone(),
            limits: limits.collect(),
            started_at: started_at.map(Timestamp::as_millisecond),
            completed_at: completed_at.map(Timestamp::as_millisecond),
        }
    }

    fn to_domain(&self) -> Option<(Task, TaskState)> {
        let time = |ms: i64| Timestamp::from_millisecond(ms).ok();
        let state = match (self.started_at, self.completed_at) {
            (None, None) => TaskState::Planned,
            (Some(at), None) => TaskState::Started { at: time(at)? },
            (Some(started), Some(at)) => {
                TaskState::Completed { started_at: time(started)?, at: time(at)? }
            }
            (None, Some(_)) => return None,
        };
        let limits = self.limits.iter().map(LimitRecord::to_domain).collect::<Option<_>>()?;
        let task = Task {
            id: self.id.clone(),
            name: self.name.clone(),
            duration_s: self.duration_s,
            contingency_s: self.contingency_s,
            predecessors: self.predecessors.clone(),
            limits,
        };
        Some((task, state))
    }
}

impl LimitRecord {
    fn to_domain(&self) -> Option<Limit> {
        let decimal = |text: &Option<String>| match text {
            Some(text) => text.parse().ok().map(Some),
            None => Some(None),
        };
        let variable = Variable::parse(&self.variable)?;
        Some(Limit { variable, min: decimal(&self.min)?, max: decimal(&self.max)? })
    }
}

fn record_of(fact: &Fact) -> &'static str {
    match fact {
        Fact::Created => CREATED,
        Fact::Revised { .. } => REVISED,
        Fact::Deleted => DELETED,
        Fact::TaskStarted { .. } => TASK_STARTED,
        Fact::TaskCompleted { .. } => TASK_COMPLETED,
    }
}

/// CloudEvents type of an event of a schedule.
pub fn event_type(fact: &Fact) -> &'static str {
    event_type_of(record_of(fact)).unwrap_or_default()
}

/// The same by the name of its record; `None` for another one.
pub fn event_type_of(record: &str) -> Option<&'static str> {
    Some(match record {
        CREATED => "schedule.created",
        REVISED => "schedule.revised",
        DELETED => "schedule.deleted",
        TASK_STARTED => "task.started",
        TASK_COMPLETED => "task.completed",
        _ => return None,
    })
}

impl ScheduleEventRecord {
    pub fn from_domain(id: &str, event: &Event) -> Self {
        let (changed, task) = match &event.fact {
            Fact::Revised { changed } => {
                (Some(changed.iter().map(|field| field.as_str().to_owned()).collect()), None)
            }
            Fact::TaskStarted { task } | Fact::TaskCompleted { task } => (None, Some(task.clone())),
            Fact::Created | Fact::Deleted => (None, None),
        };
        let after = &event.after;
        Self {
            id: id.to_owned(),
            version: after.version as i64,
            occurred_at: event.occurred_at.as_millisecond(),
            created_at: after.created_at.as_millisecond(),
            owner: after.owner.clone(),
            schedule: ScheduleRecord::from_domain(&after.schedule, &after.states),
            changed,
            task,
        }
    }

    /// What is known after the event; `record` is the record's name.
    pub fn knowledge(&self, record: &str) -> Option<Knowledge> {
        let (schedule, states) = self.schedule.to_domain()?;
        Some(Knowledge {
            version: u64::try_from(self.version).ok()?,
            schedule,
            states,
            owner: self.owner.clone(),
            is_deleted: record == DELETED,
            created_at: Timestamp::from_millisecond(self.created_at).ok()?,
            updated_at: Timestamp::from_millisecond(self.occurred_at).ok()?,
        })
    }
}

/// Encodes an event under the newest schema of its record.
pub fn encode(codec: &Codec, id: &str, event: &Event) -> Result<Bytes, CodecError> {
    codec.encode(record_of(&event.fact), &ScheduleEventRecord::from_domain(id, event))
}
