//! What an analysis came to: the plan, the figures, and what they rest on. Windows and steps are not
//! kept; they follow from these.

use crate::weather::{Change, Variable, Window};
use jiff::Timestamp;

/// A record in the log that something rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPosition {
    pub topic_id: String,
    pub partition: u32,
    pub offset: u64,
}

/// A forecast that was used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForecastUse {
    pub source: String,
    /// Of its event: source and place. That of an inline forecast is the analysis' own id.
    pub key: String,
    pub at: LogPosition,
    pub issued_at: Option<Timestamp>,
    pub fetched_at: Timestamp,
}

/// Something that whoever plans by the result should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub code: String,
    pub detail: String,
    pub variable: Option<Variable>,
}

/// One task of the plan, in the order of the schedule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlannedOutcome {
    pub id: String,
    pub start: Option<Timestamp>,
    pub end: Option<Timestamp>,
    pub latest_start: Option<Timestamp>,
    /// Begun, and at this instant no longer a go.
    pub at_risk: Option<Timestamp>,
    pub earliest_start: Option<Timestamp>,
    pub waiting_s: Option<i64>,
    /// Why the rules that were asked for have no answer.
    pub failed: Option<String>,
    pub longest: Option<Window>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Of a stored schedule, the version that was analysed.
    pub schedule_version: Option<u64>,
    /// The time that counted as now.
    pub now: Timestamp,
    pub start_from: Timestamp,
    /// In the order in which they count.
    pub forecasts: Vec<ForecastUse>,
    /// Whether a forecast was past its freshness.
    pub is_stale: bool,
    pub warnings: Vec<Notice>,
    pub earliest_completion: Option<Timestamp>,
    pub tasks: Vec<PlannedOutcome>,
    /// The analysis of the same schedule that the changes are told against.
    pub previous: Option<String>,
    pub changes: Vec<Change>,
}

/// Why there is no result, for whoever plans by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: String,
    pub detail: String,
}
