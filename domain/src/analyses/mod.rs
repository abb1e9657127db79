//! Analyses: what somebody wants to know of a schedule, and what came of it.
//!
//! An analysis is requested once and ends once: completed, failed or cancelled. [`decide`] refuses
//! nothing to a worker that repeats itself, and lets no second end follow the first.

mod decide;
mod outcome;

pub use decide::{
    Command, Event, Fact, Input, Knowledge, Origin, Request, Stage, State, Subject, WORKER, decide,
};
pub use outcome::{Failure, ForecastUse, LogPosition, Notice, Outcome, PlannedOutcome};
