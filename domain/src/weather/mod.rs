//! Weather windows: when the tasks of a schedule can start, given limits and a forecast.
//!
//! A [`ScheduleDraft`] and a [`SeriesDraft`] are what somebody sends; checked, they are a [`Schedule`]
//! and a [`Series`]. An [`Analyst`] cuts the series into cells, judges each cell by the limits of each
//! task, and plans the tasks. Everything is exact: instants in nanoseconds, values in decimals as
//! written, nothing interpolated. It takes time in proportion to the length of the series.

mod alpha;
mod analysis;
mod changes;
mod forecast;
mod instant;
mod options;
mod place;
mod plan;
mod resample;
mod schedule;
mod shown;
mod timeline;
mod variable;
mod verdict;

pub use alpha::{Alpha, AlphaRefusal, AlphaTable, Declaration};
pub use analysis::{
    Analysis, AnalysisError, Analyst, Between, Combine, LongestWindow, Margin, PlannedTask,
    Question, StartWindow, Step, TaskResult, VariableUse, Warning, Window, unanswerable,
};
pub use changes::{Change, ChangeKind, Judged, changes};
pub use forecast::{MAX_STEP_S, MIN_STEP_S, Series, SeriesDraft};
pub use options::{Options, OptionsDraft};
pub use place::Place;
pub use resample::resample;
pub use schedule::{
    Limit, LimitDraft, Location, MAX_DURATION_S, MAX_PREDECESSORS, MAX_TASKS, MAX_TOTAL_S,
    MIN_REPEAT_S, Schedule, ScheduleDraft, Task, TaskDraft, TaskState,
};
pub use shown::Stretch;
pub use variable::Variable;
pub use verdict::{Decider, Verdict};
