//! The public JSON of an analysis.

use almanac_domain::weather::{
    Alpha, Analysis, Decider, LongestWindow, Margin, PlannedTask, Schedule, StartWindow, Step,
    Task, TaskResult, Variable, VariableUse, Verdict, Warning, Window,
};
use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// A decimal as a JSON number, to the digit.
#[derive(Clone, Copy)]
pub(super) struct Exact(pub(super) Decimal);

impl Serialize for Exact {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw = RawValue::from_string(self.0.to_string());
        raw.map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

/// Seconds as an ISO 8601 duration.
pub fn iso_duration(seconds: i64) -> String {
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    let mut text = String::from("PT");
    for (count, unit) in [(hours, 'H'), (minutes, 'M'), (seconds % 60, 'S')] {
        if count != 0 {
            text.push_str(&count.to_string());
            text.push(unit);
        }
    }
    if text.len() == 2 { "PT0S".to_owned() } else { text }
}

/// The `result` of an analysis.
pub fn render_result(schedule: &Schedule, analysis: &Analysis) -> String {
    let plan = schedule.tasks.iter().zip(&analysis.plan);
    let tasks = schedule.tasks.iter().zip(&analysis.tasks);
    let result = ResultJson {
        start_from: analysis.start_from,
        earliest_completion: analysis.earliest_completion,
        plan: plan.map(|(task, planned)| PlannedJson::new(task, planned)).collect(),
        tasks: tasks.map(|(task, result)| TaskJson::new(task, result, analysis)).collect(),
    };
    serde_json::to_string(&result).unwrap_or_default()
}

#[derive(Serialize)]
struct ResultJson<'a> {
    start_from: Timestamp,
    earliest_completion: Option<Timestamp>,
    plan: Vec<PlannedJson<'a>>,
    tasks: Vec<TaskJson<'a>>,
}

#[derive(Serialize)]
struct PlannedJson<'a> {
    task: &'a str,
    start: Option<Timestamp>,
    end: Option<Timestamp>,
    latest_start: Option<Timestamp>,
    at_risk: Option<Timestamp>,
}

impl<'a> PlannedJson<'a> {
    fn new(task: &'a Task, planned: &PlannedTask) -> Self {
        let PlannedTask { start, end, latest_start, at_risk } = *planned;
        Self { task: &task.id, start, end, latest_start, at_risk }
    }
}

#[derive(Serialize)]
struct TaskJson<'a> {
    id: &'a str,
    unrestricted: bool,
    failed: Option<String>,
    alpha: Option<AlphaJson>,
    windows: Vec<WindowJson>,
    start_windows: Vec<StartJson>,
    earliest_start: Option<Timestamp>,
    waiting_s: Option<i64>,
    longest_window: Option<LongestJson>,
}

impl<'a> TaskJson<'a> {
    fn new(task: &'a Task, result: &TaskResult, analysis: &Analysis) -> Self {
        let waits = |start: Timestamp| {
            start.duration_since(analysis.start_from).as_secs_f64().ceil() as i64
        };
        Self {
            id: &task.id,
            unrestricted: result.is_unrestricted,
            failed: result.failed.map(|refusal| refusal.to_string()),
            alpha: result.alpha.map(|alpha| AlphaJson::new(task, alpha)),
            windows: result.windows.iter().map(WindowJson::from).collect(),
            start_windows: result.start_windows.iter().map(StartJson::from).collect(),
            earliest_start: result.earliest_start,
            waiting_s: result.earliest_start.map(waits),
            longest_window: result.longest_window.map(LongestJson::from),
        }
    }
}

#[derive(Serialize)]
struct AlphaJson {
    table: &'static str,
    row: i64,
    factor: Exact,
    limit: Exact,
    /// Limits that count as they are.
    not_multiplied: Vec<&'static str>,
    rules: &'static str,
}

impl AlphaJson {
    fn new(task: &Task, alpha: Alpha) -> Self {
        let others = task.limits.iter().map(|limit| limit.variable);
        Self {
            table: alpha.table.as_str(),
            row: alpha.row,
            factor: Exact(alpha.factor),
            limit: Exact(alpha.limit),
            not_multiplied: others
                .filter(|variable| *variable != Variable::WaveHeight)
                .map(Variable::as_str)
                .collect(),
            rules: "DNV-OS-H101 (2011), Sec. 4; superseded by DNV-ST-N001, whose tables are others",
        }
    }
}

#[derive(Serialize)]
struct WindowJson {
    from: Timestamp,
    to: Timestamp,
}

impl From<&Window> for WindowJson {
    fn from(window: &Window) -> Self {
        Self { from: window.from, to: window.to }
    }
}

#[derive(Serialize)]
struct StartJson {
    from: Timestamp,
    to: Timestamp,
    margin: Option<MarginJson>,
}

#[derive(Serialize)]
struct MarginJson {
    variable: &'static str,
    amount: Exact,
}

impl From<&StartWindow> for StartJson {
    fn from(start: &StartWindow) -> Self {
        let margin = |margin: &Margin| MarginJson {
            variable: margin.variable.as_str(),
            amount: Exact(margin.amount),
        };
        let Window { from, to } = start.window;
        Self { from, to, margin: start.margin.as_ref().map(margin) }
    }
}

#[derive(Serialize)]
struct LongestJson {
    from: Timestamp,
    to: Timestamp,
    ended_by: String,
}

impl From<LongestWindow> for LongestJson {
    fn from(longest: LongestWindow) -> Self {
        let Window { from, to } = longest.window;
        Self { from, to, ended_by: ended_by(longest.ended_by) }
    }
}

/// What ended a window: a variable, `missing:` and a variable, `gap` or `end_of_forecast`.
pub fn ended_by(decider: Option<Decider>) -> String {
    match decider {
        None => "end_of_forecast".to_owned(),
        Some(Decider::Gap) => "gap".to_owned(),
        Some(Decider::Out(variable)) => variable.to_string(),
        Some(Decider::Missing(variable)) => format!("missing:{variable}"),
    }
}

/// A list of steps.
pub fn render_steps(steps: &[Step]) -> String {
    let steps: Vec<StepJson> = steps.iter().map(StepJson::from).collect();
    serde_json::to_string(&steps).unwrap_or_default()
}

#[derive(Serialize)]
struct StepJson {
    time: Timestamp,
    until: Timestamp,
    verdict: &'static str,
    decided_by: Option<&'static str>,
}

impl From<&Step> for StepJson {
    fn from(step: &Step) -> Self {
        let decided_by = step.decided_by.map(|decider| match decider {
            Decider::Out(variable) | Decider::Missing(variable) => variable.as_str(),
            Decider::Gap => "gap",
        });
        let verdict = match step.verdict {
            Verdict::Go => "go",
            Verdict::NoGo => "no_go",
            Verdict::Unknown => "unknown",
        };
        Self { time: step.time, until: step.until, verdict, decided_by }
    }
}

/// What is known of each limited variable, by its name.
pub fn render_forecast(variables: &[VariableUse]) -> String {
    #[derive(Serialize)]
    struct UseJson<'a> {
        source: &'a str,
        step: String,
        until: Timestamp,
    }
    let variables: BTreeMap<&str, UseJson<'_>> = variables
        .iter()
        .map(|one| {
            let step = iso_duration(one.step_s);
            (one.variable.as_str(), UseJson { source: &one.source, step, until: one.until })
        })
        .collect();
    serde_json::to_string(&variables).unwrap_or_default()
}

pub fn render_warnings(warnings: &[Warning]) -> String {
    #[derive(Serialize)]
    struct WarningJson {
        code: &'static str,
        detail: &'static str,
    }
    let warning =
        |warning: &Warning| WarningJson { code: warning.code(), detail: warning.detail() };
    let warnings: Vec<WarningJson> = warnings.iter().map(warning).collect();
    serde_json::to_string(&warnings).unwrap_or_default()
}
