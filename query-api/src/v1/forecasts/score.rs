//! How good the gos of earlier forecasts were: of the hours that a forecast gave as a go, by lead time,
//! how many a later forecast of the same hour took back.

use super::{Forecasts, known, place};
use crate::v1::store_problem;
use almanac_domain::weather::{
    Analyst, Limit, Options, Question, Schedule, Step, Task, Variable, Verdict, resample,
};
use almanac_edge::{
    Problem, conditional,
    query::{Parameters, bad},
};
use almanac_read_store::{Direction, Slice};
use almanac_schemas::forecasts::ForecastPublishedRecord;
use almanac_tables::forecasts::history_partition;
use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use http::HeaderMap;
use jiff::{SignedDuration, Timestamp, ToSpan};
use rust_decimal::Decimal;
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// How far back forecasts are looked at, about how many of a source, and how many hours of each.
const DAYS: i64 = 14;
const FORECASTS: usize = 400;
const HOURS: usize = 240;
/// Forecasts that are read at once.
const PART: usize = 16;
const HOUR: SignedDuration = SignedDuration::from_hours(1);
/// Lead times in hours, each up to the next.
const LEADS: [i64; 8] = [0, 6, 12, 24, 48, 72, 120, 240];

/// The verdicts of a forecast, hour by hour.
struct Judged {
    /// When it was known.
    known_at: Timestamp,
    first_hour: i64,
    verdicts: Vec<Verdict>,
}

impl Judged {
    fn at(&self, hour: i64) -> Option<Verdict> {
        let place = usize::try_from(hour.checked_sub(self.first_hour)?).ok()?;
        self.verdicts.get(place).copied()
    }
}

/// Gos of one range of lead times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Gos {
    /// That a later forecast spoke of.
    checked: u64,
    taken_back: u64,
}

/// One task with this limit, so that the rules of verdicts are those of analyses.
fn schedule(variable: Variable, bound: Decimal, place: almanac_domain::weather::Place) -> Schedule {
    // Sight has to be long; everything else has to be low.
    let (min, max) = match variable {
        Variable::Visibility => (Some(bound), None),
        _ => (None, Some(bound)),
    };
    let task = Task {
        id: "score".to_owned(),
        name: String::new(),
        duration_s: 3_600,
        contingency_s: None,
        predecessors: Vec::new(),
        limits: vec![Limit { variable, min, max }],
    };
    let location = place.location();
    Schedule { name: String::new(), location, repeat_every_s: None, tasks: vec![task] }
}

fn judge(record: &ForecastPublishedRecord, schedule: &Schedule) -> Option<Judged> {
    let known_at = Timestamp::from_millisecond(record.fetched_at).ok()?;
    let series = record.to_series().ok()?;
    let options = Options::default();
    let question = Question {
        schedule,
        states: &[],
        series: &series,
        is_inline: false,
        options,
        now: known_at,
    };
    // A forecast without the variable says nothing of it.
    let steps: Vec<Step> = Analyst::new(question).ok()?.steps(0);
    let first_hour = known_at.as_second().div_euclid(3_600) + 1;
    let from = Timestamp::from_second(first_hour * 3_600).ok()?;
    let end = steps.last()?.until.as_second();
    let hours = usize::try_from((end - first_hour * 3_600) / 3_600).ok()?.min(HOURS);
    Some(Judged { known_at, first_hour, verdicts: resample(&steps, from, HOUR, hours) })
}

/// Forecasts in the order in which they were known.
fn compare(judged: &[Judged]) -> [Gos; LEADS.len()] {
    let mut gos = [Gos::default(); LEADS.len()];
    for (place, one) in judged.iter().enumerate() {
        for (hour, _) in (one.first_hour..).zip(&one.verdicts).filter(|(_, v)| **v == Verdict::Go) {
            let later = judged[place + 1..].iter().filter_map(|later| later.at(hour));
            let mut later = later.peekable();
            if later.peek().is_none() {
                continue;
            }
            let lead = hour - one.known_at.as_second().div_euclid(3_600);
            let range = LEADS.partition_point(|from| *from <= lead).saturating_sub(1);
            gos[range].checked += 1;
            gos[range].taken_back += u64::from(later.any(|verdict| verdict == Verdict::NoGo));
        }
    }
    gos
}

fn describe(source: &str, forecasts: usize, gos: &[Gos]) -> Value {
    let items = LEADS.iter().enumerate().map(|(range, from)| {
        let Gos { checked, taken_back } = gos[range];
        let share = (checked > 0).then(|| taken_back as f64 / checked as f64);
        json!({"lead_from_h": from, "lead_until_h": LEADS.get(range + 1), "gos": checked,
            "taken_back": taken_back, "share": share})
    });
    json!({"source": source, "forecasts": forecasts, "lead_times": items.collect::<Vec<_>>()})
}

/// The forecasts of a source of the last days, oldest first.
async fn history(
    state: &Forecasts,
    key: &str,
    schedule: &Arc<Schedule>,
    now: Timestamp,
) -> Result<Vec<Judged>, Problem> {
    let mut judged = Vec::new();
    for back in 0..=DAYS {
        let Ok(day) = now.checked_sub((24 * back).hours()) else { continue };
        let mut until = None;
        while judged.len() < FORECASTS {
            let slice =
                Slice { until, limit: PART, direction: Direction::Descending, ..Slice::all() };
            let partition = history_partition(key, day);
            let rows = state.store.slice(&state.tables.history, &partition, &slice).await;
            let rows = rows.map_err(|error| store_problem(&error))?;
            let is_last = rows.len() < PART;
            until = rows.last().map(|row| row.clustering.clone());
            let schedule = schedule.clone();
            // Each may have a megabyte of numbers.
            let made = tokio::task::spawn_blocking(move || {
                let records = rows.iter().filter_map(|row| serde_json::from_slice(&row.body).ok());
                records.filter_map(|record| judge(&record, &schedule)).collect::<Vec<_>>()
            });
            judged.extend(made.await.map_err(|error| Problem::internal(&error))?);
            if is_last {
                break;
            }
        }
    }
    judged.reverse();
    Ok(judged)
}

pub(super) async fn score(
    State(state): State<Arc<Forecasts>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let parameters = Parameters::parse(query.as_deref(), &["lat", "lon", "variable", "limit"])?;
    let place = place(&parameters)?;
    let name = parameters.one("variable")?.ok_or_else(|| bad("variable", "it is required"))?;
    let variable = Variable::parse(name).ok_or_else(|| {
        let known: Vec<&str> = Variable::ALL.into_iter().map(Variable::as_str).collect();
        bad("variable", &format!("it must be one of {}", known.join(", ")))
    })?;
    let text = parameters.one("limit")?.ok_or_else(|| bad("limit", "it is required"))?;
    let bound = text.parse().ok().filter(|bound: &Decimal| *bound > Decimal::ZERO);
    let bound = bound.ok_or_else(|| bad("limit", "it must be a number above 0"))?;
    let turn = state.scoring.take(state.identity.party(&headers), state.options.wait).await;
    let _turn = turn.ok_or_else(|| Problem::busy("too many scores are wanted"))?;
    let schedule = Arc::new(schedule(variable, bound, place));
    let now = Timestamp::now();
    let mut sources: BTreeMap<String, Value> = BTreeMap::new();
    for source in known(&state, place).await?.into_keys() {
        let judged = history(&state, &place.key(&source), &schedule, now).await?;
        if !judged.is_empty() {
            let told = describe(&source, judged.len(), &compare(&judged));
            sources.insert(source, told);
        }
    }
    let items: Vec<Value> = sources.into_values().collect();
    let number = bound.to_string().parse::<f64>().unwrap_or_default();
    let body = json!({"variable": name, "limit": number, "days": DAYS, "items": items,
        "next_cursor": null});
    Ok(conditional::json(&headers, body.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{Go, NoGo, Unknown};

    fn judged(known_at_hour: i64, verdicts: &[Verdict]) -> Judged {
        let known_at = Timestamp::from_second(known_at_hour * 3_600).unwrap();
        Judged { known_at, first_hour: known_at_hour + 1, verdicts: verdicts.to_vec() }
    }

    #[test]
    fn a_go_is_taken_back_by_any_later_forecast_of_its_hour() {
        // Hours 1 to 8; the second forecast speaks of hours 3 to 5, the third of 4.
        let first = judged(0, &[Go, Go, Go, Go, Go, NoGo, Go, Go]);
        let second = judged(2, &[Go, NoGo, Unknown]);
        let third = judged(3, &[Go]);
        let gos = compare(&[first, second, third]);
        // Of the first, hours 3, 4 and 5 were spoken of again, and 4 was taken back; that it became a
        // go once more does not help who had planned by it. Of the second nothing was.
        assert_eq!(gos[0], Gos { checked: 3, taken_back: 1 });
        assert!(gos[1..].iter().all(|gos| *gos == Gos::default()));
    }

    #[test]
    fn lead_times_are_ranges() {
        let far = judged(0, &[Go; 30]);
        let near = judged(1, &[NoGo; 40]);
        let gos = compare(&[far, near]);
        let checked: Vec<u64> = gos.iter().map(|gos| gos.checked).collect();
        // Leads 2 to 5, 6 to 11, 12 to 23, 24 to 30.
        assert_eq!(checked, [4, 6, 12, 7, 0, 0, 0, 0]);
    }
}
