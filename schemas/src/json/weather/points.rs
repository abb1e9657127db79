//! The forecast that a client sends along.
//!
//! It may have hundreds of thousands of points. They are read straight into columns; only where
//! something does not fit are they walked a second time, to name all that is wrong.

use crate::json::walk::{NotJson, Object, Part, Walk, decimal, parse};
use almanac_domain::{
    Fault,
    weather::{Series, SeriesDraft, Variable},
};
use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use std::{borrow::Cow, fmt};

/// A forecast of the client's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InlineForecast {
    pub series: Series,
    pub issued_at: Option<Timestamp>,
}

/// A forecast alone, such as one that came with a request and was kept, or all that is wrong with it.
pub fn read_forecast(body: &[u8]) -> Result<Result<InlineForecast, Vec<Fault>>, NotJson> {
    let raw = parse(body)?;
    let mut walk = Walk::default();
    let forecast = forecast(&mut walk, raw);
    Ok(forecast.filter(|_| walk.faults.is_empty()).ok_or(walk.faults))
}

const SOURCE: usize = 200;
/// Points whose faults are named, when there are any.
const WALKED: usize = 1_000;

#[derive(Default)]
struct Draft {
    series: SeriesDraft,
    issued_at: Option<Timestamp>,
}

pub(super) fn forecast(walk: &mut Walk, raw: &RawValue) -> Option<InlineForecast> {
    let body = walk.object(raw, &["source", "issued_at", "step", "points"])?;
    let mut draft = Draft::default();
    draft.series.source = walk.property(&body, "source", Walk::text).unwrap_or("own".to_owned());
    if draft.series.source.chars().count() > SOURCE {
        let rule = format!("it has more than {SOURCE} characters");
        walk.at(Part::Name("source"), |walk| walk.fault(rule));
    }
    draft.issued_at = walk.property(&body, "issued_at", Walk::instant);
    draft.series.step_s = walk.property(&body, "step", Walk::seconds);
    let before = walk.faults.len();
    points(walk, &body, &mut draft.series);
    let is_read = walk.faults.len() == before;
    match draft.series.check() {
        Ok(series) => Some(InlineForecast { series, issued_at: draft.issued_at }),
        // What could not be read is not held against rules as well.
        Err(faults) => {
            for fault in faults {
                if is_read || fault.place.first().is_some_and(|name| name == "step") {
                    walk.fault_below(fault);
                }
            }
            None
        }
    }
}

fn points(walk: &mut Walk, body: &Object<'_>, series: &mut SeriesDraft) {
    let Some(raw) = body.get("points") else {
        walk.at(Part::Name("points"), |walk| walk.fault("it is required"));
        return;
    };
    if let Ok(Columns(read)) = serde_json::from_str::<Columns>(raw.get()) {
        (series.times, series.untils, series.columns) = (read.times, read.untils, read.columns);
        return;
    }
    let before = walk.faults.len();
    let mut number = 0;
    walk.at(Part::Name("points"), |walk| {
        walk.list(raw, |walk, raw| {
            number += 1;
            if number <= WALKED {
                point(walk, raw);
            }
            Some(())
        })
    });
    if walk.faults.len() == before {
        let rule = format!("a point after the first {WALKED} cannot be read");
        walk.at(Part::Name("points"), |walk| walk.fault(rule));
    }
}

/// Names what is wrong with a point.
fn point(walk: &mut Walk, raw: &RawValue) {
    let mut known = vec!["time", "until"];
    known.extend(Variable::ALL.map(Variable::as_str));
    let Some(item) = walk.object(raw, &known) else { return };
    if walk.property(&item, "time", Walk::instant).is_none() && item.get("time").is_none() {
        walk.at(Part::Name("time"), |walk| walk.fault("it is required"));
    }
    walk.property(&item, "until", Walk::instant);
    for variable in Variable::ALL {
        walk.property(&item, variable.as_str(), Walk::decimal);
    }
}

#[derive(Default)]
struct Read {
    times: Vec<Timestamp>,
    untils: Vec<Option<Timestamp>>,
    columns: Vec<(Variable, Vec<Option<Decimal>>)>,
}

impl Read {
    /// One value for each point so far, in each column.
    fn fill(&mut self) {
        let count = self.times.len();
        self.untils.resize(count, None);
        for (_, values) in &mut self.columns {
            values.resize(count, None);
        }
    }

    fn put(&mut self, variable: Variable, point: usize, value: Option<Decimal>) {
        let column = match self.columns.iter_mut().find(|(known, _)| *known == variable) {
            Some((_, column)) => column,
            None => {
                self.columns.push((variable, Vec::new()));
                let Some((_, column)) = self.columns.last_mut() else { return };
                column
            }
        };
        // Of a name that is there twice the last counts.
        column.resize(point, None);
        column.push(value);
    }
}

struct Columns(Read);

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Points)
    }
}

struct Points;

impl<'de> Visitor<'de> for Points {
    type Value = Columns;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of points")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Columns, A::Error> {
        let mut read = Read::default();
        while items.next_element_seed(Point(&mut read))?.is_some() {}
        read.fill();
        Ok(Columns(read))
    }
}

struct Point<'a>(&'a mut Read);

impl<'de> DeserializeSeed<'de> for Point<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Visitor<'de> for Point<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a point")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let read = self.0;
        let point = read.times.len();
        let (mut time, mut until) = (None, None);
        while let Some(Text(name)) = map.next_key()? {
            match &*name {
                "time" => time = Some(instant::<A::Error>(&map.next_value::<Text<'_>>()?.0)?),
                "until" => {
                    let text: Option<Text<'_>> = map.next_value()?;
                    until = text.map(|text| instant::<A::Error>(&text.0)).transpose()?;
                }
                name => {
                    let Some(variable) = Variable::parse(name) else {
                        map.next_value::<IgnoredAny>()?;
                        return Err(de::Error::custom("unknown property"));
                    };
                    let raw: &RawValue = map.next_value()?;
                    let value = match raw.get() {
                        "null" => None,
                        text => Some(decimal(text).ok_or_else(|| de::Error::custom("no decimal"))?),
                    };
                    read.put(variable, point, value);
                }
            }
        }
        read.times.push(time.ok_or_else(|| de::Error::missing_field("time"))?);
        read.untils.push(until);
        Ok(())
    }
}

fn instant<E: de::Error>(text: &str) -> Result<Timestamp, E> {
    text.parse().map_err(E::custom)
}
