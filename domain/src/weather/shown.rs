//! What a drawing shows beside the result: values as they were, and verdicts merged.

use super::{
    Analyst, Limit, Variable, Verdict, Window,
    verdict::{Verdicts, window},
};
use rust_decimal::Decimal;

/// A stretch of time within which a variable keeps its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    pub window: Window,
    /// The lowest and the highest of the sources that count; `None` is missing.
    pub value: Option<(Decimal, Decimal)>,
}

impl Analyst<'_> {
    /// The values of a variable over the whole forecast; none where no task limits it.
    pub fn values(&self, variable: Variable) -> Vec<Stretch> {
        let timeline = self.timeline();
        let Some(column) = timeline.column(variable) else { return Vec::new() };
        let value = |cell: usize| {
            column.value(column.own_low()[cell]).zip(column.value(column.own_high()[cell]))
        };
        let mut stretches: Vec<Stretch> = Vec::new();
        for cell in 0..timeline.cells() {
            let span = window((timeline.bounds[cell], timeline.bounds[cell + 1]));
            match stretches.last_mut() {
                Some(last) if last.value == value(cell) => last.window.to = span.to,
                _ => stretches.push(Stretch { window: span, value: value(cell) }),
            }
        }
        stretches
    }

    /// The limits that count for a task: under alpha factors the multiplied ones; none where its limits
    /// have no answer.
    pub fn limits(&self, task: usize) -> &[Limit] {
        match self.all_limits().get(task) {
            Some(Ok((limits, _))) => limits,
            _ => &[],
        }
    }

    /// Stretches of one verdict over the whole forecast, whatever decided it.
    pub fn verdicts(&self, task: usize) -> Vec<(Window, Verdict)> {
        let limits = self.limits(task);
        if limits.is_empty() {
            return Vec::new();
        }
        Verdicts::new(self.timeline(), limits).stretches()
    }
}
