//! The public JSON of what is known of forecasts: where they come from, how old they are, and how far
//! they reach.

use super::answer::iso_duration;
use crate::forecasts::{ForecastPublishedRecord, ForecastUnavailableRecord};
use almanac_domain::weather::{Location, Variable};
use jiff::Timestamp;
use rust_decimal::prelude::ToPrimitive;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What a source says of one variable.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VariableForecast {
    pub step: String,
    /// Of the model behind it, where the service interpolates.
    pub native_step: Option<String>,
    /// The last instant that a value covers.
    pub until: Option<Timestamp>,
    /// The grid point that was answered for, and how far it is from the place that was asked for.
    pub position: Option<Position>,
    pub distance_m: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Position {
    pub lat: f64,
    pub lon: f64,
}

impl Position {
    pub fn of(location: &Location) -> Option<Self> {
        Some(Self { lat: location.lat.to_f64()?, lon: location.lon.to_f64()? })
    }
}

/// Each variable that has a value, with what the source says of it.
pub fn variables(
    record: &ForecastPublishedRecord,
    asked_for: &Location,
) -> BTreeMap<&'static str, VariableForecast> {
    let known = Variable::ALL.into_iter().filter_map(|variable| {
        let series = record.series_of(variable)?;
        let column = series.columns.iter().find(|one| one.variable == variable.as_str())?;
        let spans = series.until_ms.iter().zip(&column.values);
        let until = spans.filter(|(_, value)| value.is_some()).map(|(until, _)| *until).max();
        let position = series.position();
        Some((
            variable.as_str(),
            VariableForecast {
                step: iso_duration(series.step_s),
                native_step: series.native_step_s.map(iso_duration),
                until: until.and_then(|until| Timestamp::from_millisecond(until).ok()),
                position: position.as_ref().and_then(Position::of),
                distance_m: position.map(|position| position.distance_m(asked_for).round() as i64),
            },
        ))
    });
    known.collect()
}

fn time(ms: Option<i64>) -> Option<Value> {
    match ms {
        None => Some(Value::Null),
        Some(ms) => Some(json!(Timestamp::from_millisecond(ms).ok()?)),
    }
}

/// The newest forecast of a source for a place; `None` when a value is outside the domain.
pub fn render_published(record: &ForecastPublishedRecord) -> Option<String> {
    let place = record.place()?.location();
    let json = json!({
        "source": record.source,
        "issued_at": time(record.issued_at)?,
        "fetched_at": time(Some(record.fetched_at))?,
        "fresh_until": time(Some(record.fresh_until))?,
        "trimmed_after": time(record.trimmed_after)?,
        "attribution": record.attribution,
        "variables": variables(record, &place),
    });
    Some(json.to_string())
}

/// Why a source had nothing to say of a place.
pub fn render_unavailable(record: &ForecastUnavailableRecord) -> Option<String> {
    let json = json!({
        "source": record.source,
        "observed_at": time(Some(record.observed_at))?,
        "code": record.code,
        "detail": record.detail,
        "retry_at": time(record.retry_at)?,
    });
    Some(json.to_string())
}
