//! What an analysis comes to: its computation, its figures and its warnings.

use crate::forecasts::Forecast;
use almanac_domain::{
    analyses::{Failure, ForecastUse, Notice, Outcome, PlannedOutcome},
    weather::{
        Analysis, AnalysisError, Analyst, Change, Judged, Options, Question, Schedule, Series,
        TaskState, Variable, changes,
    },
};
use jiff::Timestamp;
use std::{collections::BTreeSet, sync::Arc};

/// All that an analysis is computed from, without waiting for anything.
#[derive(Clone)]
pub(crate) struct Material {
    pub(crate) schedule: Arc<Schedule>,
    pub(crate) states: Arc<[TaskState]>,
    pub(crate) options: Options,
    pub(crate) now: Timestamp,
    pub(crate) forecasts: Forecasts,
    /// Of sources that were asked for and are not used.
    pub(crate) absent: Vec<Notice>,
}

/// The forecasts that count.
#[derive(Clone)]
pub(crate) enum Forecasts {
    /// With the reason why it is not fresh, where it is not.
    OfProviders(Vec<Used>),
    Inline {
        series: Arc<[Series]>,
        used: ForecastUse,
    },
}

#[derive(Clone)]
pub(crate) struct Used {
    pub(crate) forecast: Arc<Forecast>,
    pub(crate) used: ForecastUse,
    pub(crate) lacks: Option<String>,
}

/// An analysis with what it was made of: what the next of the same schedule is compared with.
pub(crate) struct Made {
    pub(crate) schedule: Arc<Schedule>,
    pub(crate) states: Arc<[TaskState]>,
    pub(crate) options: Options,
    pub(crate) analysis: Analysis,
}

impl Made {
    fn judged(&self) -> Judged<'_> {
        let Self { schedule, states, options, analysis } = self;
        Judged { schedule, states, options: *options, analysis }
    }

    pub(crate) fn changes_since(&self, before: &Self) -> Vec<Change> {
        changes(&before.judged(), &self.judged())
    }
}

impl Material {
    /// Takes processor time in proportion to the forecasts' length.
    pub(crate) fn compute(&self) -> Result<Made, Failure> {
        let (series, is_inline) = match &self.forecasts {
            Forecasts::Inline { series, .. } => (series.to_vec(), true),
            Forecasts::OfProviders(all) => {
                (all.iter().flat_map(|one| one.forecast.series.iter().cloned()).collect(), false)
            }
        };
        let question = Question {
            schedule: &self.schedule,
            states: &self.states,
            series: &series,
            is_inline,
            options: self.options,
            now: self.now,
        };
        let analysis = match Analyst::new(question) {
            Ok(analyst) => analyst.analyse(),
            Err(error @ AnalysisError::NoValue(_)) => {
                let (code, detail) = ("no_value".to_owned(), error.to_string());
                return Err(Failure { code, detail });
            }
        };
        let (schedule, states) = (self.schedule.clone(), self.states.clone());
        Ok(Made { schedule, states, options: self.options, analysis })
    }

    /// What the event says. `moved_m` is the distance from which on a forecast is of another place.
    pub(crate) fn outcome(
        &self,
        made: &Made,
        moved_m: u32,
        schedule_version: Option<u64>,
    ) -> Outcome {
        let analysis = &made.analysis;
        let uses = match &self.forecasts {
            Forecasts::Inline { used, .. } => vec![used.clone()],
            Forecasts::OfProviders(all) => all.iter().map(|one| one.used.clone()).collect(),
        };
        let mut warnings = self.absent.clone();
        warnings.extend(self.notices(moved_m));
        let of_analysis = analysis.warnings.iter();
        warnings.extend(of_analysis.map(|one| notice(one.code(), one.detail().to_owned(), None)));
        Outcome {
            schedule_version,
            now: self.now,
            start_from: analysis.start_from,
            forecasts: uses,
            is_stale: warnings.iter().any(|one| one.code == STALE),
            warnings,
            earliest_completion: analysis.earliest_completion,
            tasks: planned(&self.schedule, analysis),
            previous: None,
            changes: Vec::new(),
        }
    }

    fn limited(&self) -> BTreeSet<Variable> {
        let limits = self.schedule.tasks.iter().flat_map(|task| &task.limits);
        limits.map(|limit| limit.variable).collect()
    }

    fn notices(&self, moved_m: u32) -> Vec<Notice> {
        let Forecasts::OfProviders(all) = &self.forecasts else { return Vec::new() };
        let limited = self.limited();
        let mut found = Vec::new();
        for Used { forecast, lacks, .. } in all {
            let source = &forecast.source;
            if forecast.fresh_until <= self.now {
                let age_min = self.now.duration_since(forecast.fetched_at).as_mins();
                let mut detail = format!(
                    "the forecast of {source} was fetched {age_min} minutes ago and is past its \
                     freshness"
                );
                if let Some(lacks) = lacks {
                    detail.push_str(&format!("; a newer one could not be had: {lacks}"));
                }
                found.push(notice(STALE, detail, None));
            }
            let mut told = BTreeSet::new();
            for note in &forecast.notes {
                let used: Vec<Variable> = note
                    .variables
                    .iter()
                    .filter(|(variable, has)| *has && limited.contains(variable))
                    .map(|(variable, _)| *variable)
                    .collect();
                let missing = note.variables.iter().filter(|(variable, has)| {
                    !has && limited.contains(variable)
                        && !forecast.series.iter().any(|series| series.has(*variable))
                });
                for (variable, _) in missing {
                    let detail = format!("{source} has no value of {variable} at this place");
                    found.push(notice("all_missing", detail, Some(*variable)));
                }
                if used.is_empty() {
                    continue;
                }
                let distance = note.position.map(|at| at.distance_m(&self.schedule.location));
                if let Some(metres) = distance.filter(|metres| *metres > f64::from(moved_m))
                    && told.insert("position_moved")
                {
                    let kilometres = metres / 1_000.0;
                    let detail =
                        format!("the forecast of {source} is of a place {kilometres:.1} km away");
                    found.push(notice("position_moved", detail, None));
                }
                let native = note.native_step_s.filter(|native| *native > note.step_s);
                if let Some(native) = native
                    && told.insert("coarse_source")
                {
                    let (native, step) = (native / 60, note.step_s / 60);
                    let detail = format!(
                        "{source} interpolates: its own steps are {native} minutes, and it tells \
                         {step}"
                    );
                    found.push(notice("coarse_source", detail, None));
                }
            }
        }
        found
    }
}

const STALE: &str = "stale_forecast";

pub(crate) fn notice(code: &str, detail: String, variable: Option<Variable>) -> Notice {
    Notice { code: code.to_owned(), detail, variable }
}

fn planned(schedule: &Schedule, analysis: &Analysis) -> Vec<PlannedOutcome> {
    let tasks = schedule.tasks.iter().zip(&analysis.plan).zip(&analysis.tasks);
    tasks
        .map(|((task, plan), result)| {
            let waits = |start: Timestamp| {
                start.duration_since(analysis.start_from).as_secs_f64().ceil() as i64
            };
            PlannedOutcome {
                id: task.id.clone(),
                start: plan.start,
                end: plan.end,
                latest_start: plan.latest_start,
                at_risk: plan.at_risk,
                earliest_start: result.earliest_start,
                waiting_s: result.earliest_start.map(waits),
                failed: result.failed.map(|refusal| refusal.to_string()),
                longest: result.longest_window.map(|longest| longest.window),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecasts::SeriesNote;
    use almanac_domain::{
        analyses::LogPosition,
        weather::{Limit, Location, SeriesDraft, Task},
    };
    use jiff::SignedDuration;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn location(lat: i64) -> Location {
        Location { lat: lat.into(), lon: 5.into() }
    }

    fn schedule() -> Schedule {
        let limit = |variable| Limit { variable, min: None, max: Some(2.into()) };
        let task = Task {
            id: "lift".to_owned(),
            name: "Lift".to_owned(),
            duration_s: 7_200,
            contingency_s: None,
            predecessors: Vec::new(),
            limits: vec![limit(Variable::WaveHeight)],
        };
        let (name, location) = ("s".to_owned(), location(60));
        Schedule { name, location, repeat_every_s: None, tasks: vec![task] }
    }

    fn used(fresh_min: i64, note: SeriesNote) -> Used {
        let times: Vec<Timestamp> =
            (0..30).map(|hour| now() + SignedDuration::from_hours(hour)).collect();
        let untils = times.iter().map(|time| Some(*time + SignedDuration::from_hours(1)));
        let draft = SeriesDraft {
            source: "met-norway".to_owned(),
            step_s: None,
            untils: untils.collect(),
            columns: vec![(Variable::WaveHeight, vec![Some(1.into()); 30])],
            times,
        };
        let forecast = Forecast {
            source: "met-norway".to_owned(),
            issued_at: None,
            fetched_at: now() - SignedDuration::from_mins(90),
            fresh_until: now() + SignedDuration::from_mins(fresh_min),
            series: vec![draft.check().unwrap()],
            notes: vec![note],
        };
        let used = ForecastUse {
            source: "met-norway".to_owned(),
            key: "met-norway/60.00/5.00".to_owned(),
            at: LogPosition { topic_id: "t".to_owned(), partition: 0, offset: 1 },
            issued_at: None,
            fetched_at: forecast.fetched_at,
        };
        Used { forecast: Arc::new(forecast), used, lacks: Some("rate limited".to_owned()) }
    }

    fn note() -> SeriesNote {
        SeriesNote {
            step_s: 3_600,
            native_step_s: Some(3_600),
            position: Some(location(60)),
            variables: vec![(Variable::WaveHeight, true), (Variable::WindGust, false)],
        }
    }

    fn outcome(used: Used) -> Outcome {
        let material = Material {
            schedule: Arc::new(schedule()),
            states: vec![TaskState::Planned].into(),
            options: Options::default(),
            now: now(),
            forecasts: Forecasts::OfProviders(vec![used]),
            absent: Vec::new(),
        };
        material.outcome(&material.compute().ok().unwrap(), 10_000, Some(3))
    }

    fn codes(used: Used) -> Vec<String> {
        outcome(used).warnings.into_iter().map(|warning| warning.code).collect()
    }

    #[test]
    fn the_plan_and_what_it_rests_on_are_told() {
        let outcome = outcome(used(10, note()));
        assert_eq!((outcome.is_stale, outcome.schedule_version), (false, Some(3)));
        let task = &outcome.tasks[0];
        assert_eq!((task.start, task.earliest_start), (Some(now()), Some(now())));
        assert_eq!((task.waiting_s, outcome.forecasts.len()), (Some(0), 1));
        assert!(task.longest.is_some());
        assert_eq!(codes(used(10, note())), ["near_horizon"], "it is a go to the end");
    }

    #[test]
    fn a_forecast_past_its_freshness_is_told() {
        let outcome = outcome(used(0, note()));
        assert!(outcome.is_stale);
        let stale = &outcome.warnings[0];
        assert_eq!(stale.code, "stale_forecast");
        assert!(stale.detail.contains("90 minutes") && stale.detail.contains("rate limited"));
    }

    #[test]
    fn what_a_source_does_to_its_data_is_told() {
        let moved = SeriesNote { position: Some(location(61)), ..note() };
        assert!(codes(used(10, moved)).contains(&"position_moved".to_owned()));
        let coarse = SeriesNote { native_step_s: Some(10_800), ..note() };
        assert!(codes(used(10, coarse)).contains(&"coarse_source".to_owned()));
        // Of variables that nobody limits, nothing is told.
        let other = SeriesNote {
            position: Some(location(61)),
            variables: vec![(Variable::WindSpeed, true)],
            ..note()
        };
        assert_eq!(codes(used(10, other)), ["near_horizon"]);
    }

    #[test]
    fn a_variable_without_values_is_told_or_fails() {
        let named = SeriesNote { variables: vec![(Variable::WavePeriod, false)], ..note() };
        let mut limited = schedule();
        limited.tasks[0].limits.push(Limit {
            variable: Variable::WavePeriod,
            min: None,
            max: Some(9.into()),
        });
        let mut material = Material {
            schedule: Arc::new(limited),
            states: vec![TaskState::Planned].into(),
            options: Options::default(),
            now: now(),
            forecasts: Forecasts::OfProviders(vec![used(10, named)]),
            absent: Vec::new(),
        };
        let failure = material.compute().err().unwrap();
        assert_eq!(failure.code, "no_value");
        assert!(failure.detail.contains("wave_period_s"), "{}", failure.detail);
        let notices = material.notices(10_000);
        assert_eq!(notices[0].code, "all_missing");
        assert_eq!(notices[0].variable, Some(Variable::WavePeriod));
        material.schedule = Arc::new(schedule());
        assert_eq!(material.notices(10_000), []);
    }
}
