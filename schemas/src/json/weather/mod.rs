//! The public JSON of weather windows: what is asked, and what is answered.

mod analysis;
mod answer;
mod forecast;
mod points;
mod request;
mod schedule;
mod stored;

pub use analysis::{InputPiece, progress, read_event, render_event, render_head, render_listed};
pub use answer::{
    ended_by, iso_duration, render_forecast, render_result, render_steps, render_warnings,
};
pub use forecast::{Position, VariableForecast, render_published, render_unavailable, variables};
pub use points::{InlineForecast, read_forecast};
pub use request::{AnalysisRequest, Subject, read_analysis};
pub use schedule::{
    ScheduleRevision, read_moment, read_schedule, read_schedule_revision, render_known_schedule,
    render_schedule,
};
pub use stored::{StoredSchedule, read_schedule_event, render_schedule_event};
