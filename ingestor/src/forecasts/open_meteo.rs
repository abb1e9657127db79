//! Open-Meteo: the weather and the marine endpoint, by the hour.
//!
//! A sample stands for one hour. Gusts describe the hour before their label and are moved there.

use super::{
    Answer, Column, ForecastError, checked, decimal, from_json, kinds::native_step_s, not_negative,
    without_flat_sea, without_weak_gusts,
};
use almanac_domain::weather::{Series, SeriesDraft, Variable};
use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::Offset};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::HashMap;

const SOURCE: &str = "open-meteo";
const HOUR: SignedDuration = SignedDuration::from_hours(1);

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    latitude: Option<&'a RawValue>,
    #[serde(borrow)]
    longitude: Option<&'a RawValue>,
    /// Of all times of the answer.
    #[serde(default)]
    utc_offset_seconds: i32,
    #[serde(default)]
    hourly_units: HashMap<String, String>,
    /// `time`, and a list of values for each variable.
    #[serde(borrow)]
    hourly: HashMap<String, &'a RawValue>,
}

const NAMES: [(&str, Variable); 6] = [
    ("wave_height", Variable::WaveHeight),
    ("wave_period", Variable::WavePeriod),
    ("wind_speed_10m", Variable::WindSpeed),
    ("wind_gusts_10m", Variable::WindGust),
    ("ocean_current_velocity", Variable::CurrentSpeed),
    ("visibility", Variable::Visibility),
];

pub(super) fn read(body: &[u8], models: &[String]) -> Result<Answer, ForecastError> {
    let body: Body<'_> = from_json(body)?;
    let times = times(&body)?;
    let mut by_model: Vec<(Option<i64>, Vec<Column>)> = Vec::new();
    for (suffix, native_step_s) in groups(models) {
        let mut columns = columns(&body, &suffix, times.len())?;
        without_flat_sea(&mut columns);
        if !columns.is_empty() {
            by_model.push((native_step_s, columns));
        }
    }
    if by_model.is_empty() {
        return Err(ForecastError::NoData("no variable that Almanac knows".to_owned()));
    }
    without_silent_models(&mut by_model);
    let (mut series, mut native) = (Vec::new(), Vec::new());
    for (native_step_s, columns) in by_model {
        for one in of_model(&times, columns)? {
            series.push(one);
            native.push(native_step_s);
        }
    }
    let coordinate = |raw: Option<&RawValue>| raw.and_then(decimal);
    Ok(Answer {
        series,
        native_step_s: native,
        issued_at: None,
        position: coordinate(body.latitude).zip(coordinate(body.longitude)),
    })
}

/// What stands behind the names of each model's variables, and its step: the name of the model, where
/// several were asked for.
fn groups(models: &[String]) -> Vec<(String, Option<i64>)> {
    match models {
        [] => vec![(String::new(), None)],
        [one] => vec![(String::new(), native_step_s(one))],
        several => {
            several.iter().map(|model| (format!("_{model}"), native_step_s(model))).collect()
        }
    }
}

fn columns(body: &Body<'_>, suffix: &str, count: usize) -> Result<Vec<Column>, ForecastError> {
    let mut columns = Vec::new();
    for (name, variable) in NAMES {
        let name = [name, suffix].concat();
        let Some(raw) = body.hourly.get(&name) else { continue };
        let unit = body.hourly_units.get(&name).map(String::as_str);
        columns.push((variable, column(&name, variable, unit, raw, count)?));
    }
    Ok(columns)
}

/// A model that has no value of a variable says nothing of it, where another one has values. Where none
/// has any, the first stays: the variable was asked for, and is missing.
fn without_silent_models(by_model: &mut Vec<(Option<i64>, Vec<Column>)>) {
    let speaks = |values: &[Option<Decimal>]| values.iter().any(Option::is_some);
    for (_, wanted) in NAMES {
        let of_it = |columns: &[Column]| {
            columns.iter().find(|(known, _)| *known == wanted).map(|(_, values)| speaks(values))
        };
        let heard: Vec<Option<bool>> = by_model.iter().map(|(_, columns)| of_it(columns)).collect();
        let any = heard.contains(&Some(true));
        let first = heard.iter().position(Option::is_some);
        for (place, (_, columns)) in by_model.iter_mut().enumerate() {
            let stays = if any { heard[place] == Some(true) } else { first == Some(place) };
            columns.retain(|(known, _)| *known != wanted || stays);
        }
    }
    by_model.retain(|(_, columns)| !columns.is_empty());
}

/// The series of one model.
fn of_model(times: &[Timestamp], mut columns: Vec<Column>) -> Result<Vec<Series>, ForecastError> {
    let mut gusts = columns.extract_if(.., |(variable, _)| *variable == Variable::WindGust).next();
    if let Some((_, gusts)) = &mut gusts {
        let winds = columns.iter().find(|(variable, _)| *variable == Variable::WindSpeed);
        let winds = winds.map(|(_, values)| values.clone()).unwrap_or_default();
        // The mean wind an hour before the label is that of the time which the gust describes.
        without_weak_gusts(gusts, [None].into_iter().chain(winds));
    }
    let mut series = Vec::new();
    for (columns, shift) in [(columns, SignedDuration::ZERO), (Vec::from_iter(gusts), HOUR)] {
        if columns.is_empty() {
            continue;
        }
        let shifted = times.iter().filter_map(|time| time.checked_sub(shift).ok());
        let times: Vec<Timestamp> = shifted.collect();
        series.push(checked(SeriesDraft {
            source: SOURCE.to_owned(),
            step_s: None,
            untils: times.iter().map(|time| time.checked_add(HOUR).ok()).collect(),
            times,
            columns,
        })?);
    }
    Ok(series)
}

/// Naive times, all with the one offset of the answer.
fn times(body: &Body<'_>) -> Result<Vec<Timestamp>, ForecastError> {
    let offset = Offset::from_seconds(body.utc_offset_seconds).unwrap_or(Offset::UTC);
    let time = |(number, text): (usize, &String)| {
        let naive: Option<DateTime> = text.parse().ok();
        let time = naive.and_then(|naive| offset.to_timestamp(naive).ok());
        time.ok_or_else(|| ForecastError::Times {
            place: format!("hourly/time/{number}"),
            rule: "it must be a local time such as 2026-03-10T06:00".to_owned(),
        })
    };
    let texts: Vec<String> = match body.hourly.get("time") {
        Some(raw) => list("time", raw)?,
        None => return Err(ForecastError::NotAForecast("hourly/time is missing".into())),
    };
    texts.iter().enumerate().map(time).collect()
}

fn column(
    name: &str,
    variable: Variable,
    unit: Option<&str>,
    raw: &RawValue,
    count: usize,
) -> Result<Vec<Option<Decimal>>, ForecastError> {
    let factor = factor(name, variable, unit)?;
    let values: Vec<&RawValue> = list(name, raw)?;
    if values.len() != count {
        return Err(ForecastError::Times {
            place: format!("hourly/{name}"),
            rule: format!("it has {} values for {count} times", values.len()),
        });
    }
    let value = |raw: &RawValue| convert(not_negative(decimal(raw)?)?, factor);
    Ok(values.into_iter().map(value).collect())
}

fn list<'a, T: Deserialize<'a>>(name: &str, raw: &'a RawValue) -> Result<Vec<T>, ForecastError> {
    serde_json::from_str(raw.get())
        .map_err(|error| ForecastError::NotAForecast(format!("hourly/{name}: {error}").into()))
}

/// A unit as a fraction of the one that Almanac has.
type Fraction = (i64, i64);

fn factor(name: &str, variable: Variable, unit: Option<&str>) -> Result<Fraction, ForecastError> {
    let (known, found): (&str, Option<Fraction>) = match variable {
        Variable::WaveHeight | Variable::Visibility => {
            let found = match unit {
                None | Some("m") => Some((1, 1)),
                Some("ft") => Some((3_048, 10_000)),
                Some(_) => None,
            };
            ("m, ft", found)
        }
        Variable::WavePeriod => ("s", matches!(unit, None | Some("s")).then_some((1, 1))),
        Variable::WindSpeed | Variable::WindGust | Variable::CurrentSpeed => {
            let found = match unit {
                Some("m/s") => Some((1, 1)),
                // Unless asked otherwise.
                None | Some("km/h") => Some((10, 36)),
                Some("kn") => Some((1_852, 3_600)),
                Some("mp/h" | "mph") => Some((44_704, 100_000)),
                Some(_) => None,
            };
            ("m/s, km/h, kn, mp/h", found)
        }
    };
    found.ok_or_else(|| ForecastError::Unit {
        variable: name.to_owned(),
        unit: unit.unwrap_or_default().chars().take(20).collect(),
        known,
    })
}

/// Exact in metres, metres per second and seconds; what is converted has at most nine decimals.
fn convert(value: Decimal, (numerator, denominator): Fraction) -> Option<Decimal> {
    if numerator == denominator {
        return Some(value);
    }
    let scaled = value.checked_mul(Decimal::from(numerator))?;
    Some((scaled / Decimal::from(denominator)).round_dp(9).normalize())
}
