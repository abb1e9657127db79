//! Alpha factors of DNV-OS-H101 (October 2011), Sec. 4 B700, tables 4-1 to 4-5: the share of a wave
//! height limit that a forecast may reach, since forecasts err. Superseded by DNV-ST-N001, whose
//! tables are others.

use super::{Limit, Task, Variable};
use rust_decimal::Decimal;
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlphaTable {
    /// One forecast, or the mean of several.
    T41,
    /// The highest of at least two recognised sources.
    T42,
    /// A meteorologist on site.
    T43,
    /// Calibrated by monitoring.
    T44,
    /// Monitoring, and a meteorologist on site.
    T45,
}

/// Wave heights of the columns, in metres; between them factors are linear, beyond the last constant.
const COLUMNS: [i64; 4] = [1, 2, 4, 6];

/// The planned period in hours up to which the row counts, and its factors in hundredths.
type Row = (i64, [i64; 4]);

impl AlphaTable {
    pub const ALL: [Self; 5] = [Self::T41, Self::T42, Self::T43, Self::T44, Self::T45];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::T41 => "4-1",
            Self::T42 => "4-2",
            Self::T43 => "4-3",
            Self::T44 => "4-4",
            Self::T45 => "4-5",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.as_str() == text)
    }

    /// What must be declared for the table to be used.
    pub fn declarations(self) -> &'static [Declaration] {
        match self {
            Self::T41 | Self::T42 => &[],
            Self::T43 => &[Declaration::Meteorologist],
            Self::T44 => &[Declaration::Monitoring],
            Self::T45 => &[Declaration::Meteorologist, Declaration::Monitoring],
        }
    }

    fn rows(self) -> &'static [Row] {
        match self {
            Self::T41 => &[
                (12, [65, 76, 79, 80]),
                (24, [63, 73, 76, 78]),
                (36, [62, 71, 73, 76]),
                (48, [60, 68, 71, 74]),
                (72, [55, 63, 68, 72]),
            ],
            Self::T42 => &[
                (12, [68, 80, 83, 84]),
                (24, [66, 77, 80, 82]),
                (36, [65, 75, 77, 80]),
                (48, [63, 71, 75, 78]),
                (72, [58, 66, 71, 76]),
            ],
            Self::T43 => &[
                (12, [72, 84, 87, 88]),
                (24, [69, 80, 84, 86]),
                (36, [68, 78, 80, 84]),
                (48, [66, 75, 78, 81]),
                (72, [61, 69, 75, 79]),
            ],
            Self::T44 => &[(4, [90, 95, 100, 100]), (12, [72, 84, 87, 88]), (24, [66, 77, 80, 82])],
            Self::T45 => &[(4, [90, 95, 100, 100]), (12, [78, 91, 95, 96]), (24, [72, 84, 87, 90])],
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declaration {
    Meteorologist,
    Monitoring,
}

impl Declaration {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Meteorologist => "meteorologist",
            Self::Monitoring => "monitoring",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Meteorologist, Self::Monitoring].into_iter().find(|one| one.as_str() == text)
    }
}

/// What was multiplied, and by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alpha {
    pub table: AlphaTable,
    /// Hours of the planned period up to which the row counts.
    pub row: i64,
    pub factor: Decimal,
    /// The limit that was used, in metres.
    pub limit: Decimal,
}

/// Why the rules have no answer for a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlphaRefusal {
    LowLimit,
    LongPeriod,
    BeyondTable,
}

impl fmt::Display for AlphaRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LowLimit => "limit below 1 m",
            Self::LongPeriod => "planned period of 72 h or reference period of 96 h, or more",
            Self::BeyondTable => "planned period beyond the table's last row",
        })
    }
}

const HOUR_S: i64 = 3_600;

/// Duration and contingency, or else twice the duration.
pub(super) fn reference_period_s(task: &Task) -> i64 {
    task.duration_s.saturating_add(task.contingency_s.unwrap_or(task.duration_s))
}

/// The task's limits with the wave height's multiplied, and how. A task without a `max` of the wave
/// height has its limits as they are.
pub(super) fn apply(
    table: AlphaTable,
    task: &Task,
) -> Result<(Vec<Limit>, Option<Alpha>), AlphaRefusal> {
    let mut limits = task.limits.clone();
    let waves = limits.iter_mut().find(|limit| limit.variable == Variable::WaveHeight);
    let max = waves.and_then(|limit| limit.max.as_mut());
    if max.as_ref().is_some_and(|max| **max < Decimal::ONE) {
        return Err(AlphaRefusal::LowLimit);
    }
    if task.duration_s >= 72 * HOUR_S || reference_period_s(task) >= 96 * HOUR_S {
        return Err(AlphaRefusal::LongPeriod);
    }
    let Some(max) = max else { return Ok((limits, None)) };
    let row = table.rows().iter().find(|(hours, _)| task.duration_s <= hours * HOUR_S);
    let (row, factors) = row.ok_or(AlphaRefusal::BeyondTable)?;
    let factor = factor(factors, *max);
    *max = (*max * factor).normalize();
    let alpha = Alpha { table, row: *row, factor, limit: *max };
    Ok((limits, Some(alpha)))
}

/// Linear between the columns. Their distances are 1 and 2, so that it is exact.
fn factor(factors: &[i64; 4], height: Decimal) -> Decimal {
    let hundredths = |place: usize| Decimal::new(factors[place], 2);
    let next = COLUMNS.iter().position(|column| height < Decimal::from(*column));
    let factor = match next {
        None => hundredths(COLUMNS.len() - 1),
        Some(0) => hundredths(0),
        Some(next) => {
            let (low, high) = (Decimal::from(COLUMNS[next - 1]), Decimal::from(COLUMNS[next]));
            let share = (height - low) / (high - low);
            hundredths(next - 1) + (hundredths(next) - hundredths(next - 1)) * share
        }
    };
    factor.normalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(hours: i64, max: &str) -> Task {
        let max = Some(max.parse().unwrap());
        Task {
            id: "a".to_owned(),
            name: "a".to_owned(),
            duration_s: hours * HOUR_S,
            contingency_s: None,
            predecessors: Vec::new(),
            limits: vec![Limit { variable: Variable::WaveHeight, min: None, max }],
        }
    }

    fn limit(table: AlphaTable, hours: i64, max: &str) -> Result<String, AlphaRefusal> {
        let (limits, alpha) = apply(table, &task(hours, max))?;
        assert_eq!(limits[0].max, alpha.map(|alpha| alpha.limit));
        Ok(limits[0].max.unwrap().to_string())
    }

    #[test]
    fn factors_multiply_decimals_exactly() {
        assert_eq!(limit(AlphaTable::T41, 12, "1").unwrap(), "0.65");
        assert_eq!(limit(AlphaTable::T41, 13, "2").unwrap(), "1.46");
        assert_eq!(limit(AlphaTable::T41, 4, "2.3").unwrap(), "1.75835", "0.7645 of it");
        assert_eq!(limit(AlphaTable::T41, 4, "3").unwrap(), "2.325", "0.775 of it");
        assert_eq!(limit(AlphaTable::T41, 4, "9").unwrap(), "7.2", "beyond the last column");
        assert_eq!(limit(AlphaTable::T45, 4, "5").unwrap(), "5");
    }

    #[test]
    fn what_the_rules_do_not_cover_is_refused() {
        assert_eq!(limit(AlphaTable::T41, 4, "0.99"), Err(AlphaRefusal::LowLimit));
        assert_eq!(limit(AlphaTable::T41, 48, "2"), Err(AlphaRefusal::LongPeriod), "twice 48 h");
        assert_eq!(limit(AlphaTable::T44, 25, "2"), Err(AlphaRefusal::BeyondTable));
        assert!(limit(AlphaTable::T44, 24, "2").is_ok());
    }
}
