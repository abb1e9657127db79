//! The public JSON of weather windows: what is asked, and what is answered.

mod answer;
mod points;
mod request;
mod schedule;

pub use answer::{render_forecast, render_result, render_steps, render_warnings};
pub use points::InlineForecast;
pub use request::{AnalysisRequest, Subject, read_analysis};
pub use schedule::{read_schedule, render_schedule};
