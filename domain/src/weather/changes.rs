//! What a newer analysis of a schedule changes against the one before.
//!
//! Only what both could see is compared: starts from the later `start_from` on whose span ends within
//! both horizons. So neither time that passes nor a horizon that moves is a change.

use super::{
    Analysis, Options, Schedule, TaskState, alpha,
    instant::{Nanos, SECOND, clamped},
};

/// One change, of one task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub kind: ChangeKind,
    /// Id of the task.
    pub task: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// There were no possible starts, and now there are.
    WindowOpened,
    /// There were possible starts, and now there are none.
    WindowLost,
    /// The start that was planned is no longer possible, although still ahead.
    PlannedStartLost,
    /// The remaining time of a started task is no longer a go.
    TaskAtRisk,
}

impl ChangeKind {
    pub const ALL: [Self; 4] =
        [Self::WindowOpened, Self::WindowLost, Self::PlannedStartLost, Self::TaskAtRisk];

    /// The name in the public API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WindowOpened => "window.opened",
            Self::WindowLost | Self::PlannedStartLost => "window.lost",
            Self::TaskAtRisk => "task.at_risk",
        }
    }

    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::PlannedStartLost => Some("planned_start"),
            _ => None,
        }
    }

    pub fn parse(kind: &str, reason: Option<&str>) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == kind && one.reason() == reason)
    }
}

/// An analysis with what it was made of.
#[derive(Clone, Copy, Debug)]
pub struct Judged<'a> {
    pub schedule: &'a Schedule,
    /// By task.
    pub states: &'a [TaskState],
    pub options: Options,
    pub analysis: &'a Analysis,
}

/// What one analysis says of one task's starts.
struct Starts<'a> {
    judged: &'a Judged<'a>,
    place: usize,
    /// The latest start that it can tell anything of.
    last: Nanos,
}

/// The changes of a newer analysis against the one before, in the order of the newer one's tasks.
pub fn changes(before: &Judged<'_>, newer: &Judged<'_>) -> Vec<Change> {
    let mut found = Vec::new();
    for (place, task) in newer.schedule.tasks.iter().enumerate() {
        let known = before.schedule.tasks.iter().position(|one| one.id == task.id);
        let Some(known) = known else { continue };
        let kind = match newer.states.get(place).copied().unwrap_or_default() {
            TaskState::Planned => planned(before, known, newer, place),
            TaskState::Started { .. } => at_risk(before, known, newer, place),
            TaskState::Completed { .. } => None,
        };
        found.extend(kind.map(|kind| Change { kind, task: task.id.clone() }));
    }
    found
}

fn planned(
    before: &Judged<'_>,
    known: usize,
    newer: &Judged<'_>,
    place: usize,
) -> Option<ChangeKind> {
    let (before, newer) = (Starts::of(before, known)?, Starts::of(newer, place)?);
    let start_from = |starts: &Starts<'_>| clamped(starts.judged.analysis.start_from);
    let (first, last) = (start_from(&before).max(start_from(&newer)), before.last.min(newer.last));
    let (had, has) = (before.any_within(first, last), newer.any_within(first, last));
    match (had, has) {
        (false, true) => return Some(ChangeKind::WindowOpened),
        (true, false) => return Some(ChangeKind::WindowLost),
        _ => {}
    }
    let planned = clamped(before.judged.analysis.plan.get(known)?.start?);
    let is_ahead = planned >= start_from(&newer) && planned <= newer.last;
    (is_ahead && !newer.any_within(planned, planned)).then_some(ChangeKind::PlannedStartLost)
}

fn at_risk(
    before: &Judged<'_>,
    known: usize,
    newer: &Judged<'_>,
    place: usize,
) -> Option<ChangeKind> {
    newer.analysis.plan.get(place)?.at_risk?;
    let was_at_risk = before.analysis.plan.get(known)?.at_risk.is_some();
    (!was_at_risk).then_some(ChangeKind::TaskAtRisk)
}

impl<'a> Starts<'a> {
    /// `None` where the weather decides nothing: without limits, or where the rules have no answer.
    fn of(judged: &'a Judged<'a>, place: usize) -> Option<Self> {
        let result = judged.analysis.tasks.get(place)?;
        if result.is_unrestricted || result.failed.is_some() {
            return None;
        }
        let task = judged.schedule.tasks.get(place)?;
        let takes_s = match judged.options.alpha {
            Some(_) => alpha::reference_period_s(task),
            None => task.duration_s,
        };
        let is_limited = |variable| task.limits.iter().any(|limit| limit.variable == variable);
        let used = judged.analysis.variables.iter();
        let horizon =
            used.filter(|used| is_limited(used.variable)).map(|used| clamped(used.until)).min()?;
        let last = horizon.saturating_sub(takes_s.saturating_mul(SECOND));
        Some(Self { judged, place, last })
    }

    /// Whether a start from `first` to `last`, both included, is possible.
    fn any_within(&self, first: Nanos, last: Nanos) -> bool {
        let Some(result) = self.judged.analysis.tasks.get(self.place) else { return false };
        let mut ranges = result.start_windows.iter().map(|start| start.window);
        first <= last
            && ranges.any(|range| clamped(range.from) <= last && clamped(range.to) >= first)
    }
}
