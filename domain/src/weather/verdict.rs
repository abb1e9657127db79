//! Whether a task's limits permit, cell by cell, and what follows: windows, steps, margins.

use super::{
    Limit, Margin, Step, Variable, Window,
    instant::{Nanos, timestamp},
    timeline::{Column, Rank, Timeline},
};
use rust_decimal::Decimal;
use std::ops::Range;

/// In the order in which the worse of two counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Verdict {
    Go,
    /// A limited value is missing. It never permits a start.
    Unknown,
    NoGo,
}

/// What decided a verdict that is not a go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decider {
    /// Its value is out of its limit.
    Out(Variable),
    /// Its value is missing.
    Missing(Variable),
    /// No span of the forecast is there.
    Gap,
}

/// A limit as ranks of its variable's values.
struct Bound<'a> {
    limit: &'a Limit,
    column: &'a Column,
    /// The first rank that is too high.
    too_high: Rank,
    /// The first rank that is not too low.
    high_enough: Rank,
}

impl Bound<'_> {
    fn is_out(&self, high: Rank, low: Rank) -> bool {
        // No value has rank 0: it is neither too high nor, wrapped around, too low.
        high >= self.too_high || low.wrapping_sub(1) < self.high_enough - 1
    }

    fn is_out_at(&self, cell: usize) -> bool {
        self.is_out(self.column.high[cell], self.column.low()[cell])
    }
}

/// The verdicts of one task.
pub(super) struct Verdicts<'a> {
    timeline: &'a Timeline,
    bounds: Vec<Bound<'a>>,
    cells: Vec<Verdict>,
}

impl<'a> Verdicts<'a> {
    /// A limit on a variable that the timeline does not know is passed over: that was refused before.
    pub(super) fn new(timeline: &'a Timeline, limits: &'a [Limit]) -> Self {
        let bounds: Vec<Bound<'a>> = limits
            .iter()
            .filter_map(|limit| {
                let column = timeline.column(limit.variable)?;
                let too_high = limit.max.map_or(Rank::MAX, |max| column.first_above(max));
                let high_enough = limit.min.map_or(1, |min| column.first_from(min));
                Some(Bound { limit, column, too_high, high_enough })
            })
            .collect();
        let mut cells = vec![Verdict::Go; timeline.cells()];
        for bound in &bounds {
            let (high, low) = (&bound.column.high[..], bound.column.low());
            for ((cell, high), low) in cells.iter_mut().zip(high).zip(low) {
                let missing = if *high == 0 { Verdict::Unknown } else { Verdict::Go };
                let verdict = if bound.is_out(*high, *low) { Verdict::NoGo } else { missing };
                *cell = verdict.max(*cell);
            }
            if let Some(missing) = bound.column.partly_missing() {
                for (cell, is_missing) in cells.iter_mut().zip(missing) {
                    if *is_missing {
                        *cell = Verdict::Unknown.max(*cell);
                    }
                }
            }
        }
        Self { timeline, bounds, cells }
    }

    /// The maximal runs of go, as cells.
    pub(super) fn runs(&self) -> Vec<Range<usize>> {
        let mut runs = Vec::new();
        let mut next = 0;
        while let Some(first) = self.position(next, |verdict| verdict == Verdict::Go) {
            let end = self.position(first, |verdict| verdict != Verdict::Go);
            let end = end.unwrap_or(self.cells.len());
            runs.push(first..end);
            next = end;
        }
        runs
    }

    fn position(&self, from: usize, is: impl Fn(Verdict) -> bool) -> Option<usize> {
        let found = self.cells.get(from..)?.iter().position(|verdict| is(*verdict));
        found.map(|place| from + place)
    }

    pub(super) fn span(&self, run: &Range<usize>) -> (Nanos, Nanos) {
        (self.timeline.bounds[run.start], self.timeline.bounds[run.end])
    }

    /// What ends a run; `None` is the end of the forecast.
    pub(super) fn ended_by(&self, run: &Range<usize>) -> Option<Decider> {
        self.decided_by(run.end)
    }

    /// `None` where the cell is a go, and past the end.
    pub(super) fn decided_by(&self, cell: usize) -> Option<Decider> {
        match self.cells.get(cell)? {
            Verdict::Go => None,
            _ if !self.timeline.covered[cell] => Some(Decider::Gap),
            Verdict::NoGo => {
                let out = self.bounds.iter().find(|bound| bound.is_out_at(cell))?;
                Some(Decider::Out(out.limit.variable))
            }
            Verdict::Unknown => {
                let missing = self.bounds.iter().find(|bound| bound.column.is_missing(cell))?;
                Some(Decider::Missing(missing.limit.variable))
            }
        }
    }

    /// Of all samples whose spans make up the run, the value that lies nearest to its limit in
    /// proportion to it.
    pub(super) fn margin(&self, run: &Range<usize>) -> Option<Margin> {
        let mut nearest: Option<(Decimal, Decimal, Variable)> = None;
        for bound in &self.bounds {
            let variable = bound.limit.variable;
            let high = bound.column.own_high()[run.clone()].iter().max();
            let low = bound.column.own_low()[run.clone()].iter().min();
            let value = |rank: Option<&Rank>| rank.and_then(|rank| bound.column.value(*rank));
            let above = bound.limit.max.zip(value(high)).map(|(max, value)| (max - value, max));
            let below = bound.limit.min.zip(value(low)).map(|(min, value)| (value - min, min));
            for (amount, limit) in [above, below].into_iter().flatten() {
                let is_nearer = |(other, of): (Decimal, Decimal)| is_less(amount, limit, other, of);
                let known = nearest.map(|(amount, limit, _)| (amount, limit));
                if !limit.is_zero() && known.is_none_or(is_nearer) {
                    nearest = Some((amount, limit, variable));
                }
            }
        }
        nearest.map(|(amount, _, variable)| Margin { variable, amount: amount.normalize() })
    }

    /// The first instant within `from..until` that is not a go.
    pub(super) fn first_not_go(&self, from: Nanos, until: Nanos) -> Option<Nanos> {
        if from >= until {
            return None;
        }
        let Some(first) = self.timeline.cell_at(from) else { return Some(from) };
        let end = match self.position(first, |verdict| verdict != Verdict::Go) {
            Some(cell) => self.timeline.bounds[cell],
            None => *self.timeline.bounds.last()?,
        };
        (end < until).then_some(end.max(from))
    }

    /// Stretches of one verdict, over the whole forecast.
    pub(super) fn stretches(&self) -> Vec<(Window, Verdict)> {
        let mut next = 0;
        let cut = self.cells.chunk_by(|one, other| one == other).map(|cells| {
            let first = next;
            next += cells.len();
            (window(self.span(&(first..next))), cells[0])
        });
        cut.collect()
    }

    /// Stretches of one sample and one verdict, over the whole forecast.
    pub(super) fn steps(&self) -> impl Iterator<Item = Step> + '_ {
        let mut cell = 0;
        std::iter::from_fn(move || {
            let verdict = *self.cells.get(cell)?;
            let (first, decided_by) = (cell, self.decided_by(cell));
            cell += 1;
            while cell < self.cells.len() && self.continues(cell, verdict, decided_by) {
                cell += 1;
            }
            let bounds = &self.timeline.bounds;
            let (time, until) = (timestamp(bounds[first]), timestamp(bounds[cell]));
            Some(Step { time, until, verdict, decided_by })
        })
    }

    /// Whether the cell says the same of the same samples as the one before it.
    fn continues(&self, cell: usize, verdict: Verdict, decided_by: Option<Decider>) -> bool {
        self.cells[cell] == verdict
            && self.timeline.covered[cell] == self.timeline.covered[cell - 1]
            && !self.bounds.iter().any(|bound| bound.column.begins[cell])
            && self.decided_by(cell) == decided_by
    }
}

/// Whether `amount / of` is less than `other / of_other`.
fn is_less(amount: Decimal, of: Decimal, other: Decimal, of_other: Decimal) -> bool {
    match (amount.checked_mul(of_other), other.checked_mul(of)) {
        (Some(left), Some(right)) => left < right,
        // Products beyond 28 digits: a quotient of 28 digits tells them apart well enough.
        _ => amount / of < other / of_other,
    }
}

/// Runs as windows.
pub(super) fn window((from, to): (Nanos, Nanos)) -> Window {
    Window { from: timestamp(from), to: timestamp(to) }
}
