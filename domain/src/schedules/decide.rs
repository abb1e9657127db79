//! Commands held against what is known, and what follows from them.

use crate::{
    aggregate::{self, Caller, Expected, Standing, permit, permit_creation},
    weather::{Schedule, TaskState},
};
use jiff::Timestamp;
use std::collections::HashMap;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Create {
        schedule: Box<Schedule>,
    },
    /// Tasks keep their states by their ids.
    Revise {
        schedule: Box<Schedule>,
    },
    Delete,
    /// Without a time it starts now.
    StartTask {
        task: String,
        at: Option<Timestamp>,
    },
    CompleteTask {
        task: String,
        at: Option<Timestamp>,
    },
}

/// The fold of a schedule's events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Knowledge {
    /// Number of events so far: the schedule's version.
    pub version: u64,
    pub schedule: Schedule,
    /// One for each task, in the order of the tasks.
    pub states: Vec<TaskState>,
    /// The subject that made it: only it and admins change it.
    pub owner: String,
    pub is_deleted: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// One event, complete: rows can be folded from it without reading anything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub fact: Fact,
    pub after: Knowledge,
    pub occurred_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    Created,
    Revised { changed: Vec<Field> },
    Deleted,
    TaskStarted { task: String },
    TaskCompleted { task: String },
}

/// What of a schedule can be revised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    Name,
    Location,
    RepeatEvery,
    Tasks,
}

impl Field {
    /// The name in the public API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Location => "location",
            Self::RepeatEvery => "repeat_every",
            Self::Tasks => "tasks",
        }
    }
}

/// Why a command is not carried out. Nothing follows from it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(transparent)]
    Aggregate(#[from] aggregate::Refusal),
    #[error("the schedule has no task {task:?}")]
    UnknownTask { task: String },
    /// Work that was begun cannot be planned away.
    #[error("task {task:?} was started or completed and must stay in the schedule")]
    DropsTask { task: String },
    #[error("task {task:?} has not been started")]
    NotStarted { task: String },
    #[error("task {task:?} was started at {at} already")]
    Started { task: String, at: Timestamp },
    #[error("task {task:?} was completed at {at} already")]
    Completed { task: String, at: Timestamp },
    #[error("it must not be in the future")]
    InFuture,
    #[error("it must not be before the start of the task, {started_at}")]
    BeforeStart { started_at: Timestamp },
}

impl Knowledge {
    pub fn standing(&self) -> Standing {
        Standing { version: self.version, owner: self.owner.clone(), is_deleted: self.is_deleted }
    }

    fn place_of(&self, task: &str) -> Result<usize, Refusal> {
        let place = self.schedule.tasks.iter().position(|one| one.id == task);
        place.ok_or_else(|| Refusal::UnknownTask { task: task.to_owned() })
    }

    /// The states of the tasks of another version of the schedule.
    fn states_for(&self, schedule: &Schedule) -> Result<Vec<TaskState>, Refusal> {
        let mut states: HashMap<&str, TaskState> = HashMap::new();
        for (task, state) in self.schedule.tasks.iter().zip(&self.states) {
            states.insert(&task.id, *state);
        }
        let kept = schedule.tasks.iter().map(|task| states.remove(task.id.as_str()));
        let kept = kept.map(Option::unwrap_or_default).collect();
        let is_begun = |id: &str| states.get(id).is_some_and(|state| *state != TaskState::Planned);
        match self.schedule.tasks.iter().find(|task| is_begun(&task.id)) {
            Some(task) => Err(Refusal::DropsTask { task: task.id.clone() }),
            None => Ok(kept),
        }
    }
}

/// Events hold milliseconds: what is kept of a time is what every reader sees.
fn in_milliseconds(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}

/// When something was done: now, or at a time that has come.
fn moment(at: Option<Timestamp>, now: Timestamp) -> Result<Timestamp, Refusal> {
    match at {
        None => Ok(in_milliseconds(now)),
        Some(at) if at > now => Err(Refusal::InFuture),
        Some(at) => Ok(in_milliseconds(at)),
    }
}

/// The state after a task was started; `None`: it is so already.
fn started(
    task: &str,
    state: TaskState,
    at: Option<Timestamp>,
    now: Timestamp,
) -> Result<Option<TaskState>, Refusal> {
    let task = || task.to_owned();
    match state {
        TaskState::Planned => Ok(Some(TaskState::Started { at: moment(at, now)? })),
        TaskState::Started { at: known } if at.is_none_or(|at| in_milliseconds(at) == known) => {
            Ok(None)
        }
        TaskState::Started { at } => Err(Refusal::Started { task: task(), at }),
        TaskState::Completed { at, .. } => Err(Refusal::Completed { task: task(), at }),
    }
}

fn completed(
    task: &str,
    state: TaskState,
    at: Option<Timestamp>,
    now: Timestamp,
) -> Result<Option<TaskState>, Refusal> {
    let task = || task.to_owned();
    match state {
        TaskState::Planned => Err(Refusal::NotStarted { task: task() }),
        TaskState::Started { at: started_at } => {
            // Without a time, a clock that jumped back does not end it before its start.
            let at = moment(at.or(Some(now.max(started_at))), now.max(started_at))?;
            if at < started_at {
                return Err(Refusal::BeforeStart { started_at });
            }
            Ok(Some(TaskState::Completed { started_at, at }))
        }
        TaskState::Completed { at: known, .. }
            if at.is_none_or(|at| in_milliseconds(at) == known) =>
        {
            Ok(None)
        }
        TaskState::Completed { at, .. } => Err(Refusal::Completed { task: task(), at }),
    }
}

fn differences(one: &Schedule, other: &Schedule) -> Vec<Field> {
    let comparisons = [
        (Field::Name, one.name != other.name),
        (Field::Location, one.location != other.location),
        (Field::RepeatEvery, one.repeat_every_s != other.repeat_every_s),
        (Field::Tasks, one.tasks != other.tasks),
    ];
    comparisons.into_iter().filter_map(|(field, differs)| differs.then_some(field)).collect()
}

/// Decides one command. `Ok(None)`: it is so already.
pub fn decide(
    known: Option<&Knowledge>,
    command: Command,
    caller: &Caller,
    expected: &Expected,
    now: Timestamp,
) -> Result<Option<Event>, Refusal> {
    let standing = known.map(Knowledge::standing);
    if let Command::Create { schedule } = command {
        permit_creation(standing.as_ref(), expected)?;
        let after = Knowledge {
            version: 1,
            states: vec![TaskState::Planned; schedule.tasks.len()],
            schedule: *schedule,
            owner: caller.subject.clone(),
            is_deleted: false,
            created_at: now,
            updated_at: now,
        };
        return Ok(Some(Event { fact: Fact::Created, after, occurred_at: now }));
    }
    permit(standing.as_ref(), false, caller, expected)?;
    let Some(known) = known else { return Err(aggregate::Refusal::Unknown.into()) };
    // Clocks jump: an event is never earlier than the one before.
    let occurred_at = now.max(known.updated_at);
    let next = Knowledge { version: known.version + 1, updated_at: occurred_at, ..known.clone() };
    let with_state = |place: usize, state: TaskState| {
        let mut after = next.clone();
        after.states[place] = state;
        after
    };
    let (fact, after) = match command {
        Command::Create { .. } => {
            return Err(aggregate::Refusal::Exists { version: known.version }.into());
        }
        Command::Revise { schedule } => {
            let changed = differences(&schedule, &known.schedule);
            if changed.is_empty() {
                return Ok(None);
            }
            let states = known.states_for(&schedule)?;
            (Fact::Revised { changed }, Knowledge { schedule: *schedule, states, ..next })
        }
        Command::Delete => (Fact::Deleted, Knowledge { is_deleted: true, ..next }),
        Command::StartTask { task, at } => {
            let place = known.place_of(&task)?;
            let Some(state) = started(&task, known.states[place], at, now)? else {
                return Ok(None);
            };
            (Fact::TaskStarted { task }, with_state(place, state))
        }
        Command::CompleteTask { task, at } => {
            let place = known.place_of(&task)?;
            let Some(state) = completed(&task, known.states[place], at, now)? else {
                return Ok(None);
            };
            (Fact::TaskCompleted { task }, with_state(place, state))
        }
    };
    Ok(Some(Event { fact, after, occurred_at }))
}
