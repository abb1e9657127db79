//! What a newer analysis changes against the one before, case by case.

use almanac_domain::weather::{
    Analysis, Analyst, Change, ChangeKind, Judged, Limit, Location, Options, Question, Schedule,
    Series, SeriesDraft, Task, TaskState, Variable, changes,
};
use jiff::{SignedDuration, Timestamp};

const MAX: i64 = 2;

fn at(hour: i64) -> Timestamp {
    let midnight: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    midnight + SignedDuration::from_hours(hour)
}

fn schedule(hours: i64) -> Schedule {
    let limits = vec![Limit { variable: Variable::WaveHeight, min: None, max: Some(MAX.into()) }];
    let task = Task {
        id: "lift".to_owned(),
        name: "Lift".to_owned(),
        duration_s: hours * 3_600,
        contingency_s: None,
        predecessors: Vec::new(),
        limits,
    };
    let location = Location { lat: 60.into(), lon: 5.into() };
    Schedule { name: "s".to_owned(), location, repeat_every_s: None, tasks: vec![task] }
}

/// One letter an hour, from `first` on: `g` is a go, `n` is not.
fn forecast(first: i64, hours: &str) -> Vec<Series> {
    let times: Vec<Timestamp> = (first..).take(hours.len()).map(at).collect();
    let value = |letter| Some(if letter == 'g' { 1.into() } else { 9.into() });
    let draft = SeriesDraft {
        source: "own".to_owned(),
        step_s: Some(3_600),
        untils: vec![None; times.len()],
        columns: vec![(Variable::WaveHeight, hours.chars().map(value).collect())],
        times,
    };
    vec![draft.check().unwrap()]
}

struct Made {
    schedule: Schedule,
    states: Vec<TaskState>,
    analysis: Analysis,
}

fn analysed(now: i64, schedule: Schedule, state: TaskState, series: Vec<Series>) -> Made {
    let states = vec![state];
    let question = Question {
        schedule: &schedule,
        states: &states,
        series: &series,
        is_inline: false,
        options: Options::default(),
        now: at(now),
    };
    let analysis = Analyst::new(question).unwrap().analyse();
    Made { schedule, states, analysis }
}

fn judged(made: &Made) -> Judged<'_> {
    let Made { schedule, states, analysis } = made;
    Judged { schedule, states, options: Options::default(), analysis }
}

fn between(before: &Made, newer: &Made) -> Vec<ChangeKind> {
    let found = changes(&judged(before), &judged(newer));
    assert!(found.iter().all(|Change { task, .. }| task == "lift"));
    found.into_iter().map(|change| change.kind).collect()
}

/// Of a task of two hours, analysed an hour later with the newer forecast.
fn planned(before: (i64, &str), newer: (i64, &str)) -> Vec<ChangeKind> {
    let made = |now, (first, hours)| {
        analysed(now, schedule(2), TaskState::Planned, forecast(first, hours))
    };
    between(&made(0, before), &made(1, newer))
}

#[test]
fn a_window_opens_and_is_lost() {
    assert_eq!(planned((0, "nnnnnnnn"), (0, "nnnggnnn")), [ChangeKind::WindowOpened]);
    assert_eq!(planned((0, "nnnggnnn"), (0, "nnnnnnnn")), [ChangeKind::WindowLost]);
    assert_eq!(planned((0, "nnnggnnn"), (0, "nnnggnnn")), []);
    assert_eq!(planned((0, "nnnnnnnn"), (0, "nnngnnnn")), [], "too short for the task");
}

#[test]
fn a_planned_start_is_lost_while_others_are_left() {
    assert_eq!(planned((0, "nnggngg"), (0, "nnnnngg")), [ChangeKind::PlannedStartLost]);
    assert_eq!(planned((0, "nnnnngg"), (0, "nnggngg")), [], "an earlier one came up");
}

#[test]
fn time_that_passes_is_no_change() {
    // The only possible start was at 0 o'clock, and it is 1 o'clock.
    assert_eq!(planned((0, "ggnnnnnn"), (0, "ggnnnnnn")), []);
    assert_eq!(planned((0, "ggnnggnn"), (0, "ggnnggnn")), [], "the planned start has passed");
}

#[test]
fn a_horizon_that_moves_is_no_change() {
    assert_eq!(planned((0, "nnnn"), (1, "nnnnngg")), [], "seen for the first time");
    assert_eq!(planned((0, "nnng"), (1, "nngg")), [], "its end was beyond the horizon before");
    assert_eq!(planned((0, "nnnnngg"), (0, "nnnn")), [], "no longer seen");
    // A start that can be told of in both.
    assert_eq!(planned((0, "nnnnngg"), (0, "nnnnnnng")), [ChangeKind::WindowLost]);
}

#[test]
fn a_started_task_gets_at_risk_once() {
    let started = TaskState::Started { at: at(0) };
    let made = |hours| analysed(1, schedule(4), started, forecast(0, hours));
    let (good, bad) = (made("gggggggg"), made("gggnnggg"));
    assert_eq!(between(&good, &bad), [ChangeKind::TaskAtRisk]);
    assert_eq!(between(&bad, &bad), []);
    assert_eq!(between(&bad, &good), []);
    let planned = analysed(0, schedule(4), TaskState::Planned, forecast(0, "gggggggg"));
    assert_eq!(between(&planned, &bad), [ChangeKind::TaskAtRisk]);
}

#[test]
fn what_is_not_in_both_is_not_compared() {
    let series = || forecast(0, "nnnggnnn");
    let one = analysed(0, schedule(2), TaskState::Planned, series());
    let mut other = schedule(2);
    other.tasks[0].id = "tow".to_owned();
    let other = analysed(0, other, TaskState::Planned, series());
    assert_eq!(between(&one, &other), []);
    let done = TaskState::Completed { started_at: at(0), at: at(1) };
    let done = analysed(1, schedule(2), done, forecast(0, "nnnnnnnn"));
    assert_eq!(between(&one, &done), []);
    let mut free = schedule(2);
    free.tasks[0].limits.clear();
    let free = analysed(1, free, TaskState::Planned, Vec::new());
    assert_eq!(between(&one, &free), []);
}
