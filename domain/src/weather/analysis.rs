//! When the tasks of a schedule can start, given a forecast.

use super::{
    AlphaRefusal, AlphaTable, Decider, Limit, Options, Schedule, Series, TaskState, Variable,
    Verdict,
    alpha::{self, Alpha},
    instant::{HOUR, Nanos, SECOND, clamped, timestamp},
    plan::{Starts, plan},
    timeline::Timeline,
    verdict::{Verdicts, window},
};
use jiff::Timestamp;
use rust_decimal::Decimal;

/// Between two samples that are further apart than an hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Between {
    /// After its first hour, a span has the worse verdict of its sample and of the one that ends it.
    #[default]
    Worst,
    /// A sample's verdict counts for its whole span.
    Hold,
}

/// Which of several sources counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Combine {
    /// The first that has a value.
    #[default]
    First,
    /// The worst of all that have one.
    Worst,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    pub schedule: &'a Schedule,
    /// By task.
    pub states: &'a [TaskState],
    /// In the order of the sources asked for.
    pub series: &'a [Series],
    /// Whether the asker gave the forecast: then it counts from its first sample, else from now.
    pub is_inline: bool,
    pub options: Options,
    pub now: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub from: Timestamp,
    pub to: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Margin {
    pub variable: Variable,
    pub amount: Decimal,
}

/// All starts from the first to the second, both included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartWindow {
    pub window: Window,
    /// `None` where no limit has an amount above zero to compare with.
    pub margin: Option<Margin>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongestWindow {
    pub window: Window,
    /// `None`: the forecast ends.
    pub ended_by: Option<Decider>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub time: Timestamp,
    pub until: Timestamp,
    pub verdict: Verdict,
    /// `None` for a go.
    pub decided_by: Option<Decider>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskResult {
    /// It has no limits and needs no forecast.
    pub is_unrestricted: bool,
    pub failed: Option<AlphaRefusal>,
    pub alpha: Option<Alpha>,
    pub windows: Vec<Window>,
    pub start_windows: Vec<StartWindow>,
    pub earliest_start: Option<Timestamp>,
    pub longest_window: Option<LongestWindow>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlannedTask {
    pub start: Option<Timestamp>,
    pub end: Option<Timestamp>,
    pub latest_start: Option<Timestamp>,
    /// Begun, and at this instant no longer a go.
    pub at_risk: Option<Timestamp>,
}

/// What is known of a limited variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VariableUse {
    pub variable: Variable,
    pub source: String,
    pub step_s: i64,
    /// The last instant that a value covers.
    pub until: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warning {
    /// A planned span ends within six hours of the end of a limited variable, or a longest window
    /// ends with it.
    NearHorizon,
    /// The length of spans was taken from the distances of samples.
    InferredStep,
}

impl Warning {
    /// The name in the public API.
    pub fn code(self) -> &'static str {
        match self {
            Self::NearHorizon => "near_horizon",
            Self::InferredStep => "inferred_step",
        }
    }

    /// What it means, for people.
    pub fn detail(self) -> &'static str {
        match self {
            Self::NearHorizon => {
                "a planned span or a longest window ends close to the end of a limited variable"
            }
            Self::InferredStep => {
                "the forecast names neither step nor until: a sample lasts no longer than the \
                 smallest distance of two"
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Analysis {
    pub start_from: Timestamp,
    pub earliest_completion: Option<Timestamp>,
    /// In the order of the schedule's tasks.
    pub plan: Vec<PlannedTask>,
    pub tasks: Vec<TaskResult>,
    pub variables: Vec<VariableUse>,
    pub warnings: Vec<Warning>,
}

/// There is no analysis at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnalysisError {
    #[error("the forecast has no value of {0} at this place")]
    NoValue(Variable),
}

/// Limits of the schedule on variables without any value, as places of task and limit.
pub fn unanswerable(schedule: &Schedule, series: &[Series]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let known = Variable::ALL.map(|variable| series.iter().any(|one| one.has(variable)));
    for (task, limits) in schedule.tasks.iter().map(|task| &task.limits).enumerate() {
        for (limit, Limit { variable, .. }) in limits.iter().enumerate() {
            if !known[*variable as usize] {
                found.push((task, limit));
            }
        }
    }
    found
}

/// The limits that count for a task, and how its wave height was multiplied.
pub(super) type Limits = Result<(Vec<Limit>, Option<Alpha>), AlphaRefusal>;

/// A question with its forecast cut into cells.
pub struct Analyst<'a> {
    question: Question<'a>,
    timeline: Timeline,
    start_from: Nanos,
    limits: Vec<Limits>,
}

const NEAR: Nanos = 6 * HOUR;

impl<'a> Analyst<'a> {
    pub fn new(question: Question<'a>) -> Result<Self, AnalysisError> {
        let Question { schedule, series, options, .. } = question;
        if let Some((task, limit)) = unanswerable(schedule, series).first() {
            let variable = schedule.tasks[*task].limits[*limit].variable;
            return Err(AnalysisError::NoValue(variable));
        }
        let is_limited = |variable: &Variable| {
            let mut limits = schedule.tasks.iter().flat_map(|task| &task.limits);
            limits.any(|limit| limit.variable == *variable)
        };
        let variables: Vec<Variable> = Variable::ALL.into_iter().filter(is_limited).collect();
        let combine = match options.alpha {
            Some(AlphaTable::T42) => Combine::Worst,
            _ => options.combine,
        };
        let timeline = Timeline::new(series, &variables, options.between, combine);
        let limits = schedule.tasks.iter().map(|task| match options.alpha {
            Some(table) if !task.limits.is_empty() => alpha::apply(table, task),
            _ => Ok((task.limits.clone(), None)),
        });
        let first = series.iter().filter_map(Series::first).min();
        let start_from = options.start_from.unwrap_or_else(|| match first {
            Some(first) if question.is_inline => first,
            Some(first) => first.max(question.now),
            None => question.now,
        });
        Ok(Self { question, limits: limits.collect(), timeline, start_from: clamped(start_from) })
    }

    pub fn analyse(&self) -> Analysis {
        let tasks = &self.question.schedule.tasks;
        let now = clamped(self.question.now);
        let durations: Vec<Nanos> = tasks.iter().map(|task| task.duration_s * SECOND).collect();
        let mut results = Vec::with_capacity(tasks.len());
        let mut starts = Vec::with_capacity(tasks.len());
        let mut at_risk = vec![None; tasks.len()];
        for (place, duration) in durations.iter().enumerate() {
            let begun = match self.state(place) {
                TaskState::Planned => None,
                TaskState::Started { at } => {
                    let start = clamped(at);
                    Some((start, start.saturating_add(*duration).max(now)))
                }
                TaskState::Completed { started_at, at } => Some((clamped(started_at), clamped(at))),
            };
            let result = match &self.limits[place] {
                Err(refusal) => TaskResult { failed: Some(*refusal), ..TaskResult::default() },
                Ok((limits, _)) if limits.is_empty() => {
                    let earliest_start = begun.is_none().then(|| timestamp(self.start_from));
                    TaskResult { is_unrestricted: true, earliest_start, ..TaskResult::default() }
                }
                Ok((limits, alpha)) => {
                    let verdicts = Verdicts::new(&self.timeline, limits);
                    if let (TaskState::Started { .. }, Some((start, end))) =
                        (self.state(place), begun)
                    {
                        let from = start.max(self.start_from);
                        at_risk[place] = verdicts.first_not_go(from, end).map(timestamp);
                    }
                    let result = self.windows(place, &verdicts, begun.is_some());
                    TaskResult { alpha: *alpha, ..result }
                }
            };
            starts.push(match begun {
                Some((start, end)) => Starts::Begun { start, end },
                None if result.is_unrestricted => Starts::Any,
                None => {
                    let ranges = result.start_windows.iter().map(|start| start.window);
                    Starts::Within(
                        ranges.map(|range| (clamped(range.from), clamped(range.to))).collect(),
                    )
                }
            });
            results.push(result);
        }
        let planned = plan(tasks, &durations, &starts, self.start_from);
        let plan: Vec<PlannedTask> = planned
            .tasks
            .iter()
            .zip(at_risk)
            .map(|(placed, at_risk)| PlannedTask {
                start: placed.start.map(timestamp),
                end: placed.end.map(timestamp),
                latest_start: placed.latest_start.map(timestamp),
                at_risk,
            })
            .collect();
        Analysis {
            start_from: timestamp(self.start_from),
            earliest_completion: planned.completion.map(timestamp),
            variables: self.variables(),
            warnings: self.warnings(&plan, &results),
            plan,
            tasks: results,
        }
    }

    /// The steps of a task; none where it has no limits or its limits have no answer.
    pub fn steps(&self, task: usize) -> Vec<Step> {
        match self.limits.get(task) {
            Some(Ok((limits, _))) if !limits.is_empty() => {
                Verdicts::new(&self.timeline, limits).steps().collect()
            }
            _ => Vec::new(),
        }
    }

    pub(super) fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// By task.
    pub(super) fn all_limits(&self) -> &[Limits] {
        &self.limits
    }

    fn state(&self, task: usize) -> TaskState {
        self.question.states.get(task).copied().unwrap_or_default()
    }

    fn windows(&self, place: usize, verdicts: &Verdicts<'_>, is_begun: bool) -> TaskResult {
        let task = &self.question.schedule.tasks[place];
        let takes_s = match self.question.options.alpha {
            Some(_) => alpha::reference_period_s(task),
            None => task.duration_s,
        };
        let takes = takes_s.saturating_mul(SECOND);
        let mut result = TaskResult::default();
        let mut longest: Option<(Nanos, LongestWindow)> = None;
        for run in verdicts.runs() {
            let (from, to) = verdicts.span(&run);
            result.windows.push(window((from, to)));
            let from = from.max(self.start_from);
            if from >= to {
                continue;
            }
            if longest.as_ref().is_none_or(|(length, _)| *length < to - from) {
                let ended_by = verdicts.ended_by(&run);
                let window = window((from, to));
                longest = Some((to - from, LongestWindow { window, ended_by }));
            }
            if to - from >= takes && !is_begun {
                let margin = verdicts.margin(&run);
                let window = window((from, to - takes));
                result.start_windows.push(StartWindow { window, margin });
            }
        }
        result.earliest_start = result.start_windows.first().map(|start| start.window.from);
        result.longest_window = longest.map(|(_, longest)| longest);
        result
    }

    fn variables(&self) -> Vec<VariableUse> {
        let used = Variable::ALL.into_iter().filter_map(|variable| {
            let column = self.timeline.column(variable)?;
            let series = self.question.series.iter().find(|series| series.has(variable))?;
            Some(VariableUse {
                variable,
                source: series.source.clone(),
                step_s: series.step / SECOND,
                until: timestamp(column.end),
            })
        });
        used.collect()
    }

    fn warnings(&self, plan: &[PlannedTask], results: &[TaskResult]) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let is_near = |place: usize| {
            let limits = &self.question.schedule.tasks[place].limits;
            let ends = limits
                .iter()
                .filter_map(|limit| self.timeline.column(limit.variable))
                .map(|column| column.end);
            let is_completed = matches!(self.state(place), TaskState::Completed { .. });
            let end = plan[place].end.filter(|_| !is_completed).map(clamped);
            let longest = results[place].longest_window.map(|longest| clamped(longest.window.to));
            ends.into_iter().any(|horizon| {
                end.is_some_and(|end| end >= horizon.saturating_sub(NEAR))
                    || longest == Some(horizon)
            })
        };
        if (0..plan.len()).any(is_near) {
            warnings.push(Warning::NearHorizon);
        }
        let counts = |series: &Series| {
            series.is_inferred
                && Variable::ALL.into_iter().any(|variable| {
                    self.timeline.column(variable).is_some() && series.has(variable)
                })
        };
        if self.question.series.iter().any(counts) {
            warnings.push(Warning::InferredStep);
        }
        warnings
    }
}
