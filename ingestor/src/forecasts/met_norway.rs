//! MET Norway: Locationforecast and Oceanforecast 2.0, compact or complete.
//!
//! A sample of Locationforecast stands for one hour where `next_1_hours` is there, for six where only
//! `next_6_hours` is, and else, as the last one, for as long as the one before; of Oceanforecast, for
//! one hour.

use super::{
    Answer, Column, ForecastError, checked, decimal, from_json, not_negative, shortened,
    without_flat_sea, without_weak_gusts,
};
use almanac_domain::weather::{SeriesDraft, Variable};
use jiff::{SignedDuration, Timestamp};
use rust_decimal::Decimal;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

const SOURCE: &str = "met-norway";
const HOUR: SignedDuration = SignedDuration::from_hours(1);

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    geometry: Option<Geometry<'a>>,
    #[serde(borrow)]
    properties: Properties<'a>,
}

#[derive(Deserialize)]
struct Geometry<'a> {
    #[serde(borrow)]
    coordinates: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Properties<'a> {
    meta: Option<Meta>,
    #[serde(borrow)]
    timeseries: Vec<Sample<'a>>,
}

#[derive(Deserialize)]
struct Meta {
    updated_at: Option<String>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Sample<'a> {
    time: Timestamp,
    #[serde(borrow)]
    data: Data<'a>,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    instant: Instant<'a>,
    next_1_hours: Option<IgnoredAny>,
    next_6_hours: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Instant<'a> {
    #[serde(borrow, default)]
    details: Details<'a>,
}

#[derive(Default, Deserialize)]
struct Details<'a> {
    #[serde(borrow)]
    wind_speed: Option<&'a RawValue>,
    #[serde(borrow)]
    wind_speed_of_gust: Option<&'a RawValue>,
    #[serde(borrow)]
    sea_surface_wave_height: Option<&'a RawValue>,
    #[serde(borrow)]
    sea_water_speed: Option<&'a RawValue>,
}

pub(super) fn read(body: &[u8]) -> Result<Answer, ForecastError> {
    let body: Body<'_> = from_json(body)?;
    let Properties { meta, timeseries } = body.properties;
    if let Some(error) = meta.as_ref().and_then(|meta| meta.error.clone()) {
        return Err(ForecastError::NoData(shortened(error)));
    }
    if timeseries.is_empty() {
        return Err(ForecastError::NoData("no time series".to_owned()));
    }
    let values = |of: fn(&Details<'_>) -> Option<Decimal>| -> Vec<Option<Decimal>> {
        timeseries.iter().map(|sample| of(&sample.data.instant.details)).collect()
    };
    let winds = values(|details| number(details.wind_speed));
    let mut gusts = values(|details| number(details.wind_speed_of_gust));
    without_weak_gusts(&mut gusts, winds.iter().copied());
    let waves = values(|details| number(details.sea_surface_wave_height));
    let currents = values(|details| number(details.sea_water_speed));
    let is_ocean = waves.iter().chain(&currents).any(Option::is_some);
    let mut columns: Vec<Column> = vec![
        (Variable::WindSpeed, winds),
        (Variable::WindGust, gusts),
        (Variable::WaveHeight, waves),
        (Variable::CurrentSpeed, currents),
    ];
    columns.retain(|(_, values)| values.iter().any(Option::is_some));
    without_flat_sea(&mut columns);
    let series = SeriesDraft {
        source: SOURCE.to_owned(),
        step_s: None,
        times: timeseries.iter().map(|sample| sample.time).collect(),
        untils: untils(&timeseries, is_ocean),
        columns,
    };
    let coordinate = |place: usize| decimal(body.geometry.as_ref()?.coordinates.get(place)?);
    Ok(Answer {
        series: vec![checked(series)?],
        native_step_s: vec![None],
        issued_at: meta.and_then(|meta| meta.updated_at?.parse().ok()),
        position: coordinate(1).zip(coordinate(0)),
    })
}

fn number(raw: Option<&RawValue>) -> Option<Decimal> {
    decimal(raw?).and_then(not_negative)
}

fn untils(samples: &[Sample<'_>], is_ocean: bool) -> Vec<Option<Timestamp>> {
    let mut lasts = HOUR;
    let mut untils = Vec::with_capacity(samples.len());
    for Sample { time, data } in samples {
        lasts = match (&data.next_1_hours, &data.next_6_hours) {
            _ if is_ocean => HOUR,
            (Some(_), _) => HOUR,
            (None, Some(_)) => HOUR * 6,
            (None, None) => lasts,
        };
        untils.push(time.checked_add(lasts).ok());
    }
    untils
}
