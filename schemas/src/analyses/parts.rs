//! Parts of the records of analyses, and what they are in the domain.

use almanac_domain::{
    analyses::{ForecastUse, Input, LogPosition, Notice, PlannedOutcome},
    weather::{
        AlphaTable, Between, Change, ChangeKind, Combine, Declaration, Options, Variable, Window,
    },
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputRecord {
    pub topic_id: String,
    pub partition: i32,
    pub first_offset: i64,
    pub last_offset: i64,
    pub chunks: i32,
    pub bytes: i64,
    pub source: String,
    pub issued_at: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptionsRecord {
    pub alpha_table: Option<String>,
    pub declared: Vec<String>,
    pub between: String,
    pub combine: String,
    pub start_from: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForecastRefRecord {
    pub source: String,
    pub key: String,
    pub topic_id: String,
    pub partition: i32,
    pub offset: i64,
    pub issued_at: Option<String>,
    pub fetched_at: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarningRecord {
    pub code: String,
    pub detail: String,
    pub variable: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedTaskRecord {
    pub id: String,
    pub start: Option<String>,
    pub end: Option<String>,
    pub latest_start: Option<String>,
    pub at_risk: Option<String>,
    pub earliest_start: Option<String>,
    pub waiting_s: Option<i64>,
    pub failed: Option<String>,
    pub longest_from: Option<String>,
    pub longest_to: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeRecord {
    pub kind: String,
    pub task: String,
    pub reason: Option<String>,
}

pub(super) fn all<R, T>(records: &[R], to_domain: impl Fn(&R) -> Option<T>) -> Option<Vec<T>> {
    records.iter().map(to_domain).collect()
}

/// The outer `None` is text that is no instant.
pub(super) fn instant(text: &Option<String>) -> Option<Option<Timestamp>> {
    match text {
        Some(text) => text.parse().ok().map(Some),
        None => Some(None),
    }
}

impl From<&Input> for InputRecord {
    fn from(input: &Input) -> Self {
        Self {
            topic_id: input.topic_id.clone(),
            partition: input.partition as i32,
            first_offset: input.first_offset as i64,
            last_offset: input.last_offset as i64,
            chunks: input.chunks as i32,
            bytes: input.bytes as i64,
            source: input.source.clone(),
            issued_at: input.issued_at.map(|at| at.to_string()),
        }
    }
}

impl InputRecord {
    pub fn to_domain(&self) -> Option<Input> {
        Some(Input {
            topic_id: self.topic_id.clone(),
            partition: u32::try_from(self.partition).ok()?,
            first_offset: u64::try_from(self.first_offset).ok()?,
            last_offset: u64::try_from(self.last_offset).ok()?,
            chunks: u32::try_from(self.chunks).ok()?,
            bytes: u64::try_from(self.bytes).ok()?,
            source: self.source.clone(),
            issued_at: instant(&self.issued_at)?,
        })
    }
}

impl From<&Options> for OptionsRecord {
    fn from(options: &Options) -> Self {
        // A table is used only where all is declared that it needs.
        let declared = options.alpha.map(AlphaTable::declarations).unwrap_or_default();
        let between = match options.between {
            Between::Worst => "worst",
            Between::Hold => "hold",
        };
        let combine = match options.combine {
            Combine::First => "first",
            Combine::Worst => "worst",
        };
        Self {
            alpha_table: options.alpha.map(|table| table.as_str().to_owned()),
            declared: declared.iter().map(|one| one.as_str().to_owned()).collect(),
            between: between.to_owned(),
            combine: combine.to_owned(),
            start_from: options.start_from.map(|at| at.to_string()),
        }
    }
}

impl OptionsRecord {
    pub fn to_domain(&self) -> Option<Options> {
        let alpha = match &self.alpha_table {
            Some(table) => Some(AlphaTable::parse(table)?),
            None => None,
        };
        all(&self.declared, |text| Declaration::parse(text))?;
        let between = match &*self.between {
            "worst" => Between::Worst,
            "hold" => Between::Hold,
            _ => return None,
        };
        let combine = match &*self.combine {
            "first" => Combine::First,
            "worst" => Combine::Worst,
            _ => return None,
        };
        Some(Options { alpha, between, combine, start_from: instant(&self.start_from)? })
    }
}

impl From<&ForecastUse> for ForecastRefRecord {
    fn from(used: &ForecastUse) -> Self {
        Self {
            source: used.source.clone(),
            key: used.key.clone(),
            topic_id: used.at.topic_id.clone(),
            partition: used.at.partition as i32,
            offset: used.at.offset as i64,
            issued_at: used.issued_at.map(|at| at.to_string()),
            fetched_at: used.fetched_at.to_string(),
        }
    }
}

impl ForecastRefRecord {
    pub fn to_domain(&self) -> Option<ForecastUse> {
        Some(ForecastUse {
            source: self.source.clone(),
            key: self.key.clone(),
            at: LogPosition {
                topic_id: self.topic_id.clone(),
                partition: u32::try_from(self.partition).ok()?,
                offset: u64::try_from(self.offset).ok()?,
            },
            issued_at: instant(&self.issued_at)?,
            fetched_at: self.fetched_at.parse().ok()?,
        })
    }
}

impl From<&Notice> for WarningRecord {
    fn from(notice: &Notice) -> Self {
        Self {
            code: notice.code.clone(),
            detail: notice.detail.clone(),
            variable: notice.variable.map(|variable| variable.as_str().to_owned()),
        }
    }
}

impl WarningRecord {
    pub fn to_domain(&self) -> Option<Notice> {
        let variable = match &self.variable {
            Some(name) => Some(Variable::parse(name)?),
            None => None,
        };
        Some(Notice { code: self.code.clone(), detail: self.detail.clone(), variable })
    }
}

impl From<&PlannedOutcome> for PlannedTaskRecord {
    fn from(task: &PlannedOutcome) -> Self {
        let text = |at: Option<Timestamp>| at.map(|at| at.to_string());
        Self {
            id: task.id.clone(),
            start: text(task.start),
            end: text(task.end),
            latest_start: text(task.latest_start),
            at_risk: text(task.at_risk),
            earliest_start: text(task.earliest_start),
            waiting_s: task.waiting_s,
            failed: task.failed.clone(),
            longest_from: text(task.longest.map(|window| window.from)),
            longest_to: text(task.longest.map(|window| window.to)),
        }
    }
}

impl PlannedTaskRecord {
    pub fn to_domain(&self) -> Option<PlannedOutcome> {
        let longest = match (instant(&self.longest_from)?, instant(&self.longest_to)?) {
            (Some(from), Some(to)) => Some(Window { from, to }),
            _ => None,
        };
        Some(PlannedOutcome {
            id: self.id.clone(),
            start: instant(&self.start)?,
            end: instant(&self.end)?,
            latest_start: instant(&self.latest_start)?,
            at_risk: instant(&self.at_risk)?,
            earliest_start: instant(&self.earliest_start)?,
            waiting_s: self.waiting_s,
            failed: self.failed.clone(),
            longest,
        })
    }
}

impl From<&Change> for ChangeRecord {
    fn from(change: &Change) -> Self {
        Self {
            kind: change.kind.as_str().to_owned(),
            task: change.task.clone(),
            reason: change.kind.reason().map(str::to_owned),
        }
    }
}

impl ChangeRecord {
    pub fn to_domain(&self) -> Option<Change> {
        let kind = ChangeKind::parse(&self.kind, self.reason.as_deref())?;
        Some(Change { kind, task: self.task.clone() })
    }
}
