//! When each task starts and ends if all start as early as they can, and how late each may.

use super::{
    instant::Nanos,
    schedule::{Task, in_order},
};
use std::collections::HashMap;

/// When a task can start.
pub(super) enum Starts {
    /// Whenever it is released.
    Any,
    /// Within these ranges, both ends included, in order.
    Within(Vec<(Nanos, Nanos)>),
    /// It did, and stands at these times.
    Begun { start: Nanos, end: Nanos },
}

impl Starts {
    fn first_from(&self, release: Nanos) -> Option<Nanos> {
        match self {
            Self::Any => Some(release),
            Self::Within(ranges) => {
                let place = ranges.partition_point(|(_, to)| *to < release);
                ranges.get(place).map(|(from, _)| release.max(*from))
            }
            Self::Begun { start, .. } => Some(*start),
        }
    }

    fn last_until(&self, latest: Nanos) -> Option<Nanos> {
        match self {
            Self::Any => Some(latest),
            Self::Within(ranges) => {
                let place = ranges.partition_point(|(from, _)| *from <= latest);
                ranges.get(place.checked_sub(1)?).map(|(_, to)| latest.min(*to))
            }
            Self::Begun { .. } => None,
        }
    }
}

/// One task of a plan: without a possible start it has neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) start: Option<Nanos>,
    pub(super) end: Option<Nanos>,
    pub(super) latest_start: Option<Nanos>,
}

pub(super) struct Plan {
    pub(super) tasks: Vec<Placed>,
    pub(super) completion: Option<Nanos>,
}

/// Plans tasks whose durations and possible starts are given, both in the tasks' order. Tasks without
/// a path between them may overlap.
pub(super) fn plan(
    tasks: &[Task],
    durations: &[Nanos],
    starts: &[Starts],
    start_from: Nanos,
) -> Plan {
    let places: HashMap<&str, usize> =
        tasks.iter().enumerate().map(|(place, task)| (task.id.as_str(), place)).collect();
    let predecessors: Vec<Vec<usize>> = tasks
        .iter()
        .map(|task| task.predecessors.iter().filter_map(|id| places.get(id.as_str()).copied()))
        .map(Iterator::collect)
        .collect();
    // Checked when the schedule was made: there is an order.
    let order = in_order(tasks).unwrap_or_default();
    let mut placed = vec![Placed::default(); tasks.len()];
    for place in order.iter().copied() {
        if let Starts::Begun { start, end } = starts[place] {
            placed[place] = Placed { start: Some(start), end: Some(end), latest_start: None };
            continue;
        }
        let ends = predecessors[place].iter().map(|predecessor| placed[*predecessor].end);
        // Released once all have ended, if all do.
        let release = ends.collect::<Option<Vec<Nanos>>>();
        let release = release.map(|ends| ends.into_iter().fold(start_from, Nanos::max));
        let start = release.and_then(|release| starts[place].first_from(release));
        placed[place].start = start;
        placed[place].end = start.map(|start| start.saturating_add(durations[place]));
    }
    let ends: Option<Vec<Nanos>> = placed.iter().map(|task| task.end).collect();
    let completion = ends.and_then(|ends| ends.into_iter().max());
    if let Some(completion) = completion {
        latest(&order, &predecessors, durations, starts, completion, &mut placed);
    }
    Plan { tasks: placed, completion }
}

/// Backwards: a task may end as late as lets each successor start where it still ends in time. A
/// successor planned anew starts at its first possible start from there on, which is not later.
fn latest(
    order: &[usize],
    predecessors: &[Vec<usize>],
    durations: &[Nanos],
    starts: &[Starts],
    completion: Nanos,
    placed: &mut [Placed],
) {
    let mut latest_end = vec![completion; order.len()];
    for place in order.iter().rev().copied() {
        let latest = latest_end[place].saturating_sub(durations[place]);
        placed[place].latest_start = starts[place].last_until(latest);
        let Some(start) = placed[place].latest_start else { continue };
        for predecessor in &predecessors[place] {
            latest_end[*predecessor] = latest_end[*predecessor].min(start);
        }
    }
}
