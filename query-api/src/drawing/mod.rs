//! An analysis for people: a drawing, and the note that goes into a vessel's papers. Both are functions
//! of what is shown, and nothing else.

mod axis;
mod chart;
mod note;
mod svg;
mod words;
mod zone;

#[cfg(test)]
mod tests;

pub use chart::{DEFAULT_WIDTH, View, WIDTHS, chart};
pub use note::note;
pub use zone::Zone;

use almanac_domain::weather::{Analysis, Analyst, Options, Schedule, TaskState};
use jiff::Timestamp;
use rust_decimal::Decimal;

/// An analysis with all that it rests on.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    pub schedule: &'a Schedule,
    /// By task.
    pub states: &'a [TaskState],
    pub analyst: &'a Analyst<'a>,
    pub analysis: &'a Analysis,
    /// One for each forecast that the result rests on.
    pub sources: &'a [SourceNote],
    /// Codes, and details for people.
    pub warnings: &'a [(String, String)],
    pub asked: Asked<'a>,
}

/// What is known of a forecast.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceNote {
    pub name: String,
    pub issued_at: Option<Timestamp>,
    pub fetched_at: Option<Timestamp>,
    /// At the time of the analysis.
    pub age_s: Option<i64>,
    /// Latitude and longitude of the grid point that the service answered for.
    pub position: Option<(Decimal, Decimal)>,
    /// Between that point and the place of the work.
    pub distance_m: Option<u32>,
    pub attribution: Option<String>,
}

/// What was asked, and when.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    pub id: Option<&'a str>,
    pub schedule_id: Option<&'a str>,
    pub schedule_version: Option<u64>,
    pub requested_at: Option<Timestamp>,
    /// The instant that the analysis took for now.
    pub now: Timestamp,
    pub options: Options,
}
