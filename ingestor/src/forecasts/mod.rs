//! What forecast services answer, as series of the domain: one module per service.
//!
//! A module says how long each sample stands from what the service promises, never from the time of
//! the next one, so that a lost sample stays a gap. A body whose times do not fit is refused whole.

pub(crate) mod kinds;
mod met_norway;
mod open_meteo;

use almanac_domain::{
    Fault,
    weather::{Series, SeriesDraft, Variable},
};
use almanac_errors::Cause;
use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::value::RawValue;

/// One answer of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Variables with the same times; their times are their own.
    pub series: Vec<Series>,
    /// For each of them the step of the model, where the service interpolates it to a finer one.
    pub native_step_s: Vec<Option<i64>>,
    /// When the forecast was made, where the service says so.
    pub issued_at: Option<Timestamp>,
    /// The grid point that the service answered for, as (latitude, longitude).
    pub position: Option<(Decimal, Decimal)>,
}

/// Trying again with the same body does not help.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ForecastError {
    #[error("the body is no JSON of a forecast")]
    NotAForecast(#[source] Cause),
    #[error("the service has no data for this place: {0}")]
    NoData(String),
    #[error("the service refused: {0}")]
    Refused(String),
    #[error("{variable} is in {unit}, where one of {known} was expected")]
    Unit { variable: String, unit: String, known: &'static str },
    #[error("{place}: {rule}")]
    Times { place: String, rule: String },
}

#[derive(Deserialize)]
struct Shape {
    properties: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    error: bool,
    reason: Option<String>,
}

/// The reason in a body that tells why there is no forecast.
pub(crate) fn refusal(body: &[u8]) -> Option<String> {
    let shape: Shape = serde_json::from_slice(body).ok()?;
    shape.reason.filter(|_| shape.error).map(shortened)
}

/// Reads an answer of any known service.
pub fn read(body: &[u8]) -> Result<Answer, ForecastError> {
    read_of(body, &[])
}

/// Reads an answer of a service that was asked for these models, the first of which counts first.
pub fn read_of(body: &[u8], models: &[String]) -> Result<Answer, ForecastError> {
    let shape: Shape = from_json(body)?;
    match shape {
        // Open-Meteo tells errors with whatever status, 200 among them.
        Shape { error: true, reason, .. } => {
            Err(ForecastError::Refused(shortened(reason.unwrap_or_default())))
        }
        Shape { properties: Some(_), .. } => met_norway::read(body),
        _ => open_meteo::read(body, models),
    }
}

/// What a service says is bounded before anybody logs it.
fn shortened(text: String) -> String {
    text.chars().take(200).collect()
}

fn from_json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ForecastError> {
    serde_json::from_slice(body).map_err(|error| ForecastError::NotAForecast(error.into()))
}

fn checked(draft: SeriesDraft) -> Result<Series, ForecastError> {
    draft.check().map_err(|faults| match faults.into_iter().next() {
        Some(Fault { place, rule }) => ForecastError::Times { place: place.join("/"), rule },
        None => ForecastError::NotAForecast("it has no samples".into()),
    })
}

/// The decimal as written; whatever is no number is missing.
fn decimal(raw: &RawValue) -> Option<Decimal> {
    let text = raw.get();
    Decimal::from_str_exact(text).or_else(|_| Decimal::from_scientific(text)).ok()
}

type Column = (Variable, Vec<Option<Decimal>>);

/// What services say of places and times that they know nothing of: waves of zero at every step.
fn without_flat_sea(columns: &mut [Column]) {
    for (variable, values) in columns {
        let is_flat = |value: &Option<Decimal>| value.is_none_or(|value| value.is_zero());
        if *variable == Variable::WaveHeight && values.iter().all(is_flat) {
            values.fill(None);
        }
    }
}

/// A gust is no weaker than the mean wind of its time: one that is was made up.
fn without_weak_gusts(gusts: &mut [Option<Decimal>], winds: impl Iterator<Item = Option<Decimal>>) {
    for (gust, wind) in gusts.iter_mut().zip(winds) {
        if gust.zip(wind).is_some_and(|(gust, wind)| gust < wind) {
            *gust = None;
        }
    }
}

/// A value below zero tells nothing of speeds, heights and distances.
fn not_negative(value: Decimal) -> Option<Decimal> {
    (!value.is_sign_negative() || value.is_zero()).then_some(value)
}
