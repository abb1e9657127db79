//! Events of analyses.

use crate::samples::now;
use almanac_domain::{
    aggregate::{Caller, Expected},
    analyses::{
        self as analysis_domain, Failure, ForecastUse, Input, LogPosition, Notice, Origin, Outcome,
        PlannedOutcome, Request, Stage, Subject, WORKER,
    },
    weather,
};
use almanac_schemas::analyses::InputChunkRecord;
use jiff::Timestamp;

pub(crate) const ANALYSIS_ID: &str = "0198c5a0-0000-7000-8000-000000000002";

pub(crate) fn input_chunk() -> InputChunkRecord<'static> {
    InputChunkRecord {
        analysis_id: ANALYSIS_ID.to_owned(),
        owner: "mary".to_owned(),
        chunk: 0,
        chunks: 1,
        bytes: &[0, 1, 255],
    }
}

/// One event of each kind, with every part that there is.
pub(crate) fn analysis_events() -> Vec<analysis_domain::Event> {
    let limit = |variable, min: Option<&str>, max: Option<&str>| weather::Limit {
        variable,
        min: min.and_then(|text| text.parse().ok()),
        max: max.and_then(|text| text.parse().ok()),
    };
    let schedule = weather::Schedule {
        name: "Turbine 7".to_owned(),
        location: weather::Location { lat: "61.50".parse().unwrap(), lon: "-4.8".parse().unwrap() },
        repeat_every_s: Some(900),
        tasks: vec![weather::Task {
            id: "lift".to_owned(),
            name: "Lift".to_owned(),
            duration_s: 14_400,
            contingency_s: Some(3_600),
            predecessors: vec!["mobilise".to_owned()],
            limits: vec![
                limit(weather::Variable::WaveHeight, None, Some("2.50")),
                limit(weather::Variable::Visibility, Some("500"), None),
            ],
        }],
    };
    let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
    let request = Request {
        subject: Subject::Inline(Box::new(schedule)),
        input: Some(Input {
            topic_id: "t".to_owned(),
            partition: 3,
            first_offset: 5,
            last_offset: 6,
            chunks: 2,
            bytes: 700_000,
            source: "own".to_owned(),
            issued_at: at("2021-01-01T00:00:00Z"),
        }),
        sources: vec!["met-norway".to_owned()],
        options: weather::Options {
            alpha: Some(weather::AlphaTable::T45),
            between: weather::Between::Hold,
            combine: weather::Combine::Worst,
            start_from: at("2021-01-01T06:00:00.0000005Z"),
        },
        origin: Origin::Request,
    };
    let change = |kind| weather::Change { kind, task: "lift".to_owned() };
    let outcome = Outcome {
        schedule_version: Some(7),
        now: now(),
        start_from: now(),
        forecasts: vec![ForecastUse {
            source: "met-norway".to_owned(),
            key: "met-norway/61.5/-4.8".to_owned(),
            at: LogPosition { topic_id: "t".to_owned(), partition: 1, offset: 9 },
            issued_at: at("2020-12-31T18:00:00Z"),
            fetched_at: now(),
        }],
        is_stale: true,
        warnings: vec![Notice {
            code: "all_missing".to_owned(),
            detail: "met-norway has no value of wave_period_s".to_owned(),
            variable: Some(weather::Variable::WavePeriod),
        }],
        earliest_completion: at("2021-01-02T00:00:00Z"),
        tasks: vec![
            PlannedOutcome {
                id: "lift".to_owned(),
                start: at("2021-01-01T20:00:00Z"),
                end: at("2021-01-02T00:00:00Z"),
                latest_start: at("2021-01-01T20:00:00Z"),
                at_risk: at("2021-01-01T21:00:00Z"),
                earliest_start: at("2021-01-01T20:00:00Z"),
                waiting_s: Some(71_999),
                failed: Some("limit below 1 m".to_owned()),
                longest: Some(weather::Window { from: now(), to: now() }),
            },
            PlannedOutcome { id: "tow".to_owned(), ..PlannedOutcome::default() },
        ],
        previous: Some(ANALYSIS_ID.to_owned()),
        changes: weather::ChangeKind::ALL.map(change).to_vec(),
    };
    let failure = Failure { code: "no_forecast".to_owned(), detail: "No forecast.".to_owned() };
    let stored = Request { subject: Subject::Stored("s".to_owned()), ..request.clone() };
    let requested = |request| analysis_domain::Command::Request {
        request: Box::new(request),
        owner: Some("mary".to_owned()),
    };
    let caller =
        |subject: &str| Caller { subject: subject.to_owned(), is_admin: subject == "admin" };
    let decide = |known: Option<&analysis_domain::Knowledge>, command, subject| {
        let any = Expected::Any;
        let event = analysis_domain::decide(known, command, &caller(subject), &any, now());
        event.unwrap().unwrap()
    };
    let of_stored = decide(None, requested(stored), WORKER).after;
    let first = decide(None, requested(request), WORKER);
    let known = Some(&first.after);
    let progress = analysis_domain::Command::Progress { stage: Stage::Computing };
    let complete = analysis_domain::Command::Complete { outcome: Box::new(outcome) };
    vec![
        first.clone(),
        decide(known, progress, WORKER),
        decide(Some(&of_stored), complete, WORKER),
        decide(known, analysis_domain::Command::Fail { failure }, WORKER),
        decide(known, analysis_domain::Command::Cancel, "admin"),
    ]
}
