//! Series of a forecast: samples, each with the span that it stands for.

use super::{
    Variable,
    instant::{Nanos, SECOND, nanos},
};
use crate::check::{Check, Fault};
use jiff::Timestamp;
use rust_decimal::Decimal;

/// The shortest and the longest `step` that a series may have.
pub const MIN_STEP_S: i64 = 60;
pub const MAX_STEP_S: i64 = 6 * 3_600;
/// Beyond these, faults are no longer listed.
const MAX_FAULTS: usize = 100;

/// Variables that share their times: what one service answered, or an inline forecast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    /// Who says so, such as `met-norway`.
    pub source: String,
    pub(super) from: Vec<Nanos>,
    pub(super) until: Vec<Nanos>,
    /// As many values as there are times; `None` is missing.
    pub(super) columns: Vec<(Variable, Vec<Option<Decimal>>)>,
    /// What a sample without an `until` lasts at most.
    pub(super) step: Nanos,
    /// Whether the step was taken from the times.
    pub(super) is_inferred: bool,
}

/// Samples before anything of them was checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeriesDraft {
    pub source: String,
    pub step_s: Option<i64>,
    pub times: Vec<Timestamp>,
    pub untils: Vec<Option<Timestamp>>,
    pub columns: Vec<(Variable, Vec<Option<Decimal>>)>,
}

impl Series {
    pub fn first(&self) -> Option<Timestamp> {
        self.from.first().copied().map(super::instant::timestamp)
    }

    /// A variable's samples, with their spans.
    pub fn samples(
        &self,
        variable: Variable,
    ) -> impl Iterator<Item = (Timestamp, Timestamp, Option<Decimal>)> + '_ {
        let values = self.column(variable).unwrap_or_default();
        let spans = self.from.iter().zip(&self.until);
        spans.zip(values).map(|((from, until), value)| {
            (super::instant::timestamp(*from), super::instant::timestamp(*until), *value)
        })
    }

    /// The span of each sample.
    pub fn spans(&self) -> impl Iterator<Item = (Timestamp, Timestamp)> + '_ {
        let spans = self.from.iter().zip(&self.until);
        spans.map(|(from, until)| {
            (super::instant::timestamp(*from), super::instant::timestamp(*until))
        })
    }

    /// Variables with a value or its absence for each sample.
    pub fn columns(&self) -> impl Iterator<Item = (Variable, &[Option<Decimal>])> + '_ {
        self.columns.iter().map(|(variable, values)| (*variable, &values[..]))
    }

    /// What a sample without an end of its own lasts at most.
    pub fn step_s(&self) -> i64 {
        self.step / SECOND
    }

    /// Whether the variable has a value anywhere.
    pub fn has(&self, variable: Variable) -> bool {
        self.column(variable).is_some_and(|values| values.iter().any(Option::is_some))
    }

    pub(super) fn column(&self, variable: Variable) -> Option<&[Option<Decimal>]> {
        self.columns.iter().find(|(known, _)| *known == variable).map(|(_, values)| &values[..])
    }
}

impl SeriesDraft {
    /// A series, or what is wrong with it, at `step`, `points` and `points/N/…`.
    pub fn check(self) -> Result<Series, Vec<Fault>> {
        let mut check = Check::default();
        let step = self.step(&mut check);
        let from = self.from(&mut check);
        let until = self.until(&mut check, &from, step);
        self.values(&mut check);
        if !check.faults.is_empty() {
            check.faults.truncate(MAX_FAULTS);
            return Err(check.faults);
        }
        let is_inferred = self.step_s.is_none() && self.untils.iter().any(Option::is_none);
        let Self { source, columns, .. } = self;
        Ok(Series { source, from, until, columns, step, is_inferred })
    }

    /// Given, or else the smallest distance of two samples.
    fn step(&self, check: &mut Check) -> Nanos {
        if let Some(seconds) = self.step_s {
            if !(MIN_STEP_S..=MAX_STEP_S).contains(&seconds) {
                check.fault(&["step"], "it must be from PT1M to PT6H");
            }
            return seconds.saturating_mul(SECOND);
        }
        let count = self.times.len();
        let each_ends = count > 0 && self.untils.iter().all(Option::is_some);
        if count < 3 && !each_ends {
            let rule = "fewer than three points tell no step: give step, or until on each";
            check.fault(&["points"], rule);
        }
        let distances = self.times.windows(2).map(|pair| pair[1].duration_since(pair[0]));
        let smallest = distances.filter(|distance| distance.is_positive()).min();
        let lasts = || Some(self.untils.first()?.as_ref()?.duration_since(*self.times.first()?));
        let step = smallest.or_else(lasts).unwrap_or_default();
        Nanos::try_from(step.as_nanos()).unwrap_or(Nanos::MAX)
    }

    fn from(&self, check: &mut Check) -> Vec<Nanos> {
        let mut from: Vec<Nanos> = Vec::with_capacity(self.times.len());
        let mut before = None;
        for (number, time) in self.times.iter().enumerate() {
            let rule = match nanos(*time) {
                None => Some("it must lie between the years 1678 and 2261"),
                Some(time) if before.is_some_and(|before| before >= time) => {
                    Some("times must rise strictly")
                }
                Some(_) => None,
            };
            if let Some(rule) = rule {
                at_point(check, number, "time", rule);
            }
            let time = nanos(*time).unwrap_or_default();
            before = before.max(Some(time));
            from.push(time);
        }
        from
    }

    fn until(&self, check: &mut Check, from: &[Nanos], step: Nanos) -> Vec<Nanos> {
        let mut until = Vec::with_capacity(from.len());
        for (number, start) in from.iter().enumerate() {
            let next = from.get(number + 1).copied();
            let given = self.untils.get(number).copied().flatten();
            let end = match given.map(nanos) {
                None => next.unwrap_or(Nanos::MAX).min(start.saturating_add(step)),
                Some(end) => {
                    let end = end.unwrap_or_default();
                    if end <= *start {
                        at_point(check, number, "until", "it must be after the point's time");
                    } else if next.is_some_and(|next| end > next) {
                        let rule = "it must not be after the time of the next point";
                        at_point(check, number, "until", rule);
                    }
                    end
                }
            };
            until.push(end);
        }
        until
    }

    fn values(&self, check: &mut Check) {
        for (variable, values) in &self.columns {
            for (number, value) in values.iter().enumerate() {
                if value.is_some_and(|value| value < Decimal::ZERO) {
                    at_point(check, number, variable.as_str(), "it must not be negative");
                }
            }
        }
    }
}

fn at_point(check: &mut Check, number: usize, name: &str, rule: &str) {
    if check.faults.len() < MAX_FAULTS {
        check.fault(&["points", &number.to_string(), name], rule);
    }
}
