//! A schedule: tasks at a place, in an order, within limits.

use super::Variable;
use crate::check::{Check, Fault};
use jiff::Timestamp;
use rust_decimal::Decimal;
use std::collections::HashMap;

/// Published limits.
pub const MAX_TASKS: usize = 1_000;
pub const MAX_PREDECESSORS: usize = 100;
/// A year; longer work is several tasks.
pub const MAX_DURATION_S: i64 = 366 * 86_400;
/// Of all tasks together: a plan must end within the years that can be told.
pub const MAX_TOTAL_S: i64 = 100 * 366 * 86_400;
/// The most often that a schedule is analysed on its own.
pub const MIN_REPEAT_S: i64 = 900;
const NAME: usize = 200;
const TASK_ID: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    pub lat: Decimal,
    pub lon: Decimal,
}

/// Equal to a bound is within it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    pub variable: Variable,
    pub min: Option<Decimal>,
    pub max: Option<Decimal>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    pub id: String,
    pub name: String,
    pub duration_s: i64,
    /// What is added to the duration to make the reference period of alpha factors.
    pub contingency_s: Option<i64>,
    pub predecessors: Vec<String>,
    pub limits: Vec<Limit>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    pub name: String,
    pub location: Location,
    pub repeat_every_s: Option<i64>,
    pub tasks: Vec<Task>,
}

/// What is known of a task's execution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TaskState {
    #[default]
    Planned,
    Started {
        at: Timestamp,
    },
    Completed {
        started_at: Timestamp,
        at: Timestamp,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitDraft {
    pub variable: Option<String>,
    pub min: Option<Decimal>,
    pub max: Option<Decimal>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskDraft {
    pub id: Option<String>,
    pub name: Option<String>,
    pub duration_s: Option<i64>,
    pub contingency_s: Option<i64>,
    pub predecessors: Vec<String>,
    pub limits: Vec<LimitDraft>,
}

/// What somebody wants a schedule to be, before anything of it was checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScheduleDraft {
    pub name: Option<String>,
    pub lat: Option<Decimal>,
    pub lon: Option<Decimal>,
    pub repeat_every_s: Option<i64>,
    pub tasks: Vec<TaskDraft>,
}

impl ScheduleDraft {
    /// A schedule, or all that is wrong at once.
    pub fn check(self) -> Result<Schedule, Vec<Fault>> {
        let mut check = Check::default();
        let name = check.required(&["name"], self.name, NAME);
        let mut coordinate = |name, value: Option<Decimal>, bound: i64| {
            let value = value.unwrap_or_else(|| {
                check.fault(&["location", name], "it is required");
                Decimal::ZERO
            });
            if value.abs() > Decimal::from(bound) {
                let rule = format!("it must be from -{bound} to {bound} degrees");
                check.fault(&["location", name], rule);
            }
            value
        };
        let location = Location {
            lat: coordinate("lat", self.lat, 90),
            lon: coordinate("lon", self.lon, 180),
        };
        if self
            .repeat_every_s
            .is_some_and(|every| !(MIN_REPEAT_S..=MAX_DURATION_S).contains(&every))
        {
            check.fault(&["repeat_every"], "it must be from PT15M to P366D");
        }
        check.count("tasks", self.tasks.len(), 1, MAX_TASKS);
        let mut tasks = Vec::new();
        for (number, draft) in self.tasks.into_iter().enumerate().take(MAX_TASKS) {
            tasks.push(check.task(number, draft));
        }
        check.order(&tasks);
        let total: i64 = tasks.iter().map(|task| task.duration_s).sum();
        if total > MAX_TOTAL_S {
            check.fault(&["tasks"], "the durations of all tasks are more than 100 years");
        }
        if !check.faults.is_empty() {
            check.faults.sort();
            return Err(check.faults);
        }
        Ok(Schedule { name, location, repeat_every_s: self.repeat_every_s, tasks })
    }
}

impl Check {
    fn task(&mut self, number: usize, draft: TaskDraft) -> Task {
        let number = number.to_string();
        let at = |name| ["tasks", number.as_str(), name];
        let id = self.required(&at("id"), draft.id, TASK_ID);
        let name = self.optional(&at("name"), draft.name, NAME).unwrap_or_else(|| id.clone());
        let duration_s = draft.duration_s.unwrap_or_else(|| {
            self.fault(&at("duration"), "it is required");
            1
        });
        if !(1..=MAX_DURATION_S).contains(&duration_s) {
            self.fault(&at("duration"), "it must be longer than zero and at most P366D");
        }
        let contingency_s = draft.contingency_s;
        if contingency_s.is_some_and(|seconds| !(0..=MAX_DURATION_S).contains(&seconds)) {
            self.fault(&at("contingency"), "it must not be negative or longer than P366D");
        }
        if draft.predecessors.len() > MAX_PREDECESSORS {
            let rule = format!("there are more than {MAX_PREDECESSORS}");
            self.fault(&at("predecessors"), rule);
        }
        let mut limits: Vec<Limit> = Vec::new();
        // One for each variable at most, so more of them are faults anyway.
        for (place, limit) in draft.limits.into_iter().enumerate().take(2 * Variable::ALL.len()) {
            if let Some(limit) = self.limit(&number, place, limit) {
                if limits.iter().any(|other| other.variable == limit.variable) {
                    let place = place.to_string();
                    let rule = "the task has another limit on this variable";
                    self.fault(&["tasks", &number, "limits", &place, "variable"], rule);
                }
                limits.push(limit);
            }
        }
        let predecessors = draft.predecessors;
        Task { id, name, duration_s, contingency_s, predecessors, limits }
    }

    fn limit(&mut self, task: &str, place: usize, draft: LimitDraft) -> Option<Limit> {
        let place = place.to_string();
        let at = |name| ["tasks", task, "limits", place.as_str(), name];
        let variable = draft.variable.as_deref().and_then(Variable::parse);
        if variable.is_none() {
            self.fault(&at("variable"), "it must be one of the published variables");
        }
        let LimitDraft { min, max, .. } = draft;
        if min.is_none() && max.is_none() {
            self.fault(&at("max")[..4], "it must have max, min or both");
        }
        if max.is_some_and(|max| max <= Decimal::ZERO) {
            self.fault(&at("max"), "it must be greater than zero");
        }
        if min.is_some_and(|min| min < Decimal::ZERO) {
            self.fault(&at("min"), "it must not be negative");
        }
        if min.zip(max).is_some_and(|(min, max)| min > max) {
            self.fault(&at("min"), "it must not be greater than max");
        }
        Some(Limit { variable: variable?, min, max })
    }

    /// Ids are unique, predecessors are known, and nobody waits for itself.
    fn order(&mut self, tasks: &[Task]) {
        let mut known: HashMap<&str, usize> = HashMap::new();
        for (number, task) in tasks.iter().enumerate() {
            if *known.entry(&task.id).or_insert(number) != number && !task.id.trim().is_empty() {
                let rule = "another task has this id";
                self.fault(&["tasks", &number.to_string(), "id"], rule);
            }
        }
        for (number, task) in tasks.iter().enumerate() {
            for (place, predecessor) in task.predecessors.iter().enumerate().take(MAX_PREDECESSORS)
            {
                if !known.contains_key(predecessor.as_str()) {
                    let (number, place) = (number.to_string(), place.to_string());
                    let place = ["tasks", &number, "predecessors", &place];
                    self.fault(&place, "there is no task with this id");
                }
            }
        }
        if in_order(tasks).is_none() {
            self.fault(&["tasks"], "the predecessors of some tasks lead back to themselves");
        }
    }
}

/// The tasks' places, each after its predecessors; `None` when they form a loop. Of tasks with one id
/// the first counts, and an unknown predecessor is nobody's.
pub(super) fn in_order(tasks: &[Task]) -> Option<Vec<usize>> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (place, task) in tasks.iter().enumerate() {
        places.entry(&task.id).or_insert(place);
    }
    let mut waits_for = vec![0_usize; tasks.len()];
    let mut successors = vec![Vec::new(); tasks.len()];
    for (place, task) in tasks.iter().enumerate() {
        for predecessor in task.predecessors.iter().filter_map(|id| places.get(id.as_str())) {
            waits_for[place] += 1;
            successors[*predecessor].push(place);
        }
    }
    let mut order: Vec<usize> = (0..tasks.len()).filter(|place| waits_for[*place] == 0).collect();
    let mut next = 0;
    while let Some(place) = order.get(next).copied() {
        next += 1;
        for successor in &successors[place] {
            waits_for[*successor] -= 1;
            if waits_for[*successor] == 0 {
                order.push(*successor);
            }
        }
    }
    (order.len() == tasks.len()).then_some(order)
}
