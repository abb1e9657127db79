//! Records of `forecasts.events`, and series of forecasts in them.

use almanac_domain::weather::{Location, Place, Series, SeriesDraft, Variable};
use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

pub const TOPIC: &str = "forecasts.events";
pub const PUBLISHED: &str = "almanac.forecasts.ForecastPublished";
pub const UNAVAILABLE: &str = "almanac.forecasts.ForecastUnavailable";

/// CloudEvents types of the two.
pub const PUBLISHED_TYPE: &str = "forecast.published";
pub const UNAVAILABLE_TYPE: &str = "forecast.unavailable";

/// Why there is no forecast: `code` of `ForecastUnavailable`.
pub mod code {
    /// The provider has no data for the place.
    pub const OUTSIDE_COVERAGE: &str = "outside_coverage";
    pub const RATE_LIMITED: &str = "rate_limited";
    /// The provider lets this installation have nothing.
    pub const FORBIDDEN: &str = "forbidden";
    /// The provider names an error of the request.
    pub const REFUSED: &str = "refused";
    /// The network, a time-out, or an error of the provider's servers.
    pub const UNREACHABLE: &str = "unreachable";
    /// A body that is no forecast.
    pub const BAD_ANSWER: &str = "bad_answer";
    /// An operator or the configuration lets it rest.
    pub const PAUSED: &str = "paused";
    /// It failed too often, and is left alone for a while.
    pub const CIRCUIT_OPEN: &str = "circuit_open";
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForecastPublishedRecord {
    pub source: String,
    pub lat: String,
    pub lon: String,
    pub fetch_id: String,
    pub fetched_at: i64,
    pub fresh_until: i64,
    pub issued_at: Option<i64>,
    pub attribution: String,
    pub series: Vec<SeriesRecord>,
    pub trimmed_after: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeriesRecord {
    pub step_s: i64,
    pub native_step_s: Option<i64>,
    pub position_lat: Option<String>,
    pub position_lon: Option<String>,
    pub from_ms: Vec<i64>,
    pub until_ms: Vec<i64>,
    pub columns: Vec<ColumnRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnRecord {
    pub variable: String,
    pub values: Vec<Option<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForecastUnavailableRecord {
    pub source: String,
    pub lat: String,
    pub lon: String,
    pub fetch_id: String,
    pub observed_at: i64,
    pub code: String,
    pub detail: String,
    pub retry_at: Option<i64>,
}

/// A record that does not hold what one of ours does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("series {series} of a forecast cannot be read: {detail}")]
pub struct NotASeries {
    series: usize,
    detail: String,
}

impl ForecastPublishedRecord {
    pub fn place(&self) -> Option<Place> {
        Place::parse(&self.lat, &self.lon)
    }

    /// The forecast as the domain's arithmetic takes it.
    pub fn to_series(&self) -> Result<Vec<Series>, NotASeries> {
        let read = |(series, record): (usize, &SeriesRecord)| {
            record.to_series(&self.source).map_err(|detail| NotASeries { series, detail })
        };
        self.series.iter().enumerate().map(read).collect()
    }

    /// The series that has the variable: what the provider said of its step and its position.
    pub fn series_of(&self, variable: Variable) -> Option<&SeriesRecord> {
        self.series.iter().find(|series| series.has(variable))
    }
}

impl ForecastUnavailableRecord {
    pub fn place(&self) -> Option<Place> {
        Place::parse(&self.lat, &self.lon)
    }
}

impl SeriesRecord {
    pub fn new(series: &Series, native_step_s: Option<i64>, position: Option<&Location>) -> Self {
        let column = |(variable, values): (Variable, &[Option<Decimal>])| ColumnRecord {
            variable: variable.as_str().to_owned(),
            values: values.iter().map(|value| value.map(|value| value.to_string())).collect(),
        };
        let (from_ms, until_ms) = series
            .spans()
            .map(|(from, until)| (from.as_millisecond(), until.as_millisecond()))
            .unzip();
        Self {
            step_s: series.step_s(),
            native_step_s,
            position_lat: position.map(|position| position.lat.to_string()),
            position_lon: position.map(|position| position.lon.to_string()),
            from_ms,
            until_ms,
            columns: series.columns().map(column).collect(),
        }
    }

    /// The grid point that the provider answered for.
    pub fn position(&self) -> Option<Location> {
        let (lat, lon) = self.position_lat.as_ref().zip(self.position_lon.as_ref())?;
        Some(Location { lat: lat.parse().ok()?, lon: lon.parse().ok()? })
    }

    /// Whether the variable has a value anywhere.
    pub fn has(&self, variable: Variable) -> bool {
        let of = |column: &&ColumnRecord| column.variable == variable.as_str();
        let column = self.columns.iter().find(of);
        column.is_some_and(|column| column.values.iter().any(Option::is_some))
    }

    fn to_series(&self, source: &str) -> Result<Series, String> {
        let instant = |ms: &i64| {
            Timestamp::from_millisecond(*ms).map_err(|_| format!("{ms} is no time of ours"))
        };
        if self.until_ms.len() != self.from_ms.len() {
            return Err("not each sample has an end".to_owned());
        }
        let mut columns = Vec::with_capacity(self.columns.len());
        for ColumnRecord { variable, values } in &self.columns {
            // One that a later version added.
            let Some(variable) = Variable::parse(variable) else { continue };
            if values.len() != self.from_ms.len() {
                return Err(format!("{variable} has another number of values than of times"));
            }
            let value = |text: &Option<String>| match text {
                None => Ok(None),
                Some(text) => text.parse().map(Some).map_err(|_| format!("{text:?} is no decimal")),
            };
            columns.push((variable, values.iter().map(value).collect::<Result<_, _>>()?));
        }
        let untils = self.until_ms.iter().map(|ms| instant(ms).map(Some));
        let draft = SeriesDraft {
            source: source.to_owned(),
            // Each sample has its end.
            step_s: None,
            times: self.from_ms.iter().map(instant).collect::<Result<_, _>>()?,
            untils: untils.collect::<Result<_, _>>()?,
            columns,
        };
        draft.check().map_err(|faults| match faults.first() {
            Some(fault) => format!("{}: {}", fault.place.join("/"), fault.rule),
            None => "it breaks a rule".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series() -> Series {
        let time = |hour: i64| Timestamp::from_second(hour * 3_600).unwrap();
        SeriesDraft {
            source: "met-norway".to_owned(),
            step_s: None,
            times: vec![time(0), time(1), time(3)],
            untils: vec![Some(time(1)), Some(time(2)), Some(time(9))],
            columns: vec![
                (Variable::WindSpeed, vec!["2.50".parse().ok(), None, Some(Decimal::ZERO)]),
                (Variable::WindGust, vec![None; 3]),
            ],
        }
        .check()
        .unwrap()
    }

    fn published() -> ForecastPublishedRecord {
        let position = Location { lat: "61.5".parse().unwrap(), lon: "4.8".parse().unwrap() };
        ForecastPublishedRecord {
            source: "met-norway".to_owned(),
            lat: "61.50".to_owned(),
            lon: "4.80".to_owned(),
            fetch_id: "f".to_owned(),
            fetched_at: 0,
            fresh_until: 1,
            issued_at: None,
            attribution: String::new(),
            series: vec![SeriesRecord::new(&series(), Some(10_800), Some(&position))],
            trimmed_after: None,
        }
    }

    #[test]
    fn a_series_comes_back_as_it_was() {
        let record = published();
        assert_eq!(record.to_series().unwrap(), [series()]);
        assert_eq!(record.place().unwrap().key("met-norway"), "met-norway/61.50/4.80");
        let of_wind = record.series_of(Variable::WindSpeed).unwrap();
        assert_eq!(of_wind.position().unwrap().lon.to_string(), "4.8");
        assert_eq!(of_wind.columns[0].values[0].as_deref(), Some("2.50"), "as written");
        assert!(record.series_of(Variable::WindGust).is_none(), "nulls are no values");
        assert!(record.series_of(Variable::WaveHeight).is_none());
    }

    #[test]
    fn a_series_that_is_none_says_why() {
        let told = |change: fn(&mut SeriesRecord)| {
            let mut record = published();
            change(&mut record.series[0]);
            record.to_series().unwrap_err().to_string()
        };
        assert!(told(|series| series.from_ms[1] = 0).contains("rise strictly"));
        assert!(told(|series| series.columns[0].values.truncate(1)).contains("number of values"));
        assert!(told(|series| series.until_ms.clear()).contains("an end"));
        let bad = told(|series| series.columns[0].values[0] = Some("two".to_owned()));
        assert!(bad.contains("series 0") && bad.contains("two"), "{bad}");
    }

    #[test]
    fn a_variable_of_a_later_version_is_passed_over() {
        let mut record = published();
        record.series[0].columns[1].variable = "ice_m".to_owned();
        let read = record.to_series().unwrap();
        assert_eq!(read[0].columns().count(), 1);
    }
}
