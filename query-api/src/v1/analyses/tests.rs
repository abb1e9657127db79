//! Analyses over HTTP, from tables that are filled by the folds of their projections.

use super::fresh::Found;
use crate::{
    models::ReadModel,
    testing::{Installation, installation},
    v1::schedules::tests::event as schedule_event,
};
use almanac_event_log::{Append, EventLog, Headers, Record, partitioner::partition_of};
use almanac_schemas::{
    Token,
    analyses::{
        AnalysisCompletedRecord, AnalysisHead, AnalysisRequestedRecord, CANCELLED, COMPLETED,
        CONTEXT, ForecastRefRecord, INPUT_CHUNK, InputChunkRecord, InputRecord, OptionsRecord,
        REQUESTED,
    },
    commands::{COMMAND, CommandRecord},
    forecasts::{ColumnRecord, ForecastPublishedRecord, PUBLISHED, SeriesRecord},
    projections::TableChangeRecord,
    schedules::CREATED,
};
use almanac_tables::{analyses, forecasts, schedules};
use jiff::Timestamp;
use serde_json::json;
use std::{sync::Arc, time::Duration};

/// Now, or the queue would not hold it.
fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

fn id(number: u128) -> String {
    uuid::Uuid::from_u128(number).to_string()
}

const SCHEDULE: u128 = 1 << 64;
const HALF_HOUR_MS: i64 = 1_800_000;
/// 2025-08-20T06:00:00Z
const SIX: i64 = 1_755_669_600_000;
const WAVES: [Option<&str>; 9] = [
    Some("1.2"),
    Some("1.4"),
    Some("1.6"),
    Some("1.4"),
    Some("1.3"),
    Some("1.1"),
    None,
    Some("1.0"),
    Some("1.0"),
];

fn options() -> OptionsRecord {
    let (between, combine) = ("worst".to_owned(), "first".to_owned());
    OptionsRecord { between, combine, ..OptionsRecord::default() }
}

fn requested(id: &str, requested_at: i64) -> AnalysisRequestedRecord {
    AnalysisRequestedRecord {
        id: id.to_owned(),
        version: 1,
        occurred_at: requested_at,
        requested_at,
        owner: "mary".to_owned(),
        schedule_id: Some(self::id(SCHEDULE)),
        origin: "request".to_owned(),
        sources: vec!["met-norway".to_owned()],
        options: options(),
        ..AnalysisRequestedRecord::default()
    }
}

fn completed(
    id: &str,
    requested_at: i64,
    forecasts: Vec<ForecastRefRecord>,
) -> AnalysisCompletedRecord {
    AnalysisCompletedRecord {
        id: id.to_owned(),
        version: 2,
        occurred_at: requested_at + 5,
        requested_at,
        owner: "mary".to_owned(),
        schedule_id: Some(self::id(SCHEDULE)),
        origin: "request".to_owned(),
        schedule_version: Some(1),
        now: "2025-08-20T06:00:00Z".to_owned(),
        start_from: "2025-08-20T06:00:00Z".to_owned(),
        forecasts,
        earliest_completion: Some("2025-08-20T07:00:00Z".to_owned()),
        ..AnalysisCompletedRecord::default()
    }
}

/// The example of the published semantics, as a provider's forecast.
fn published() -> ForecastPublishedRecord {
    let from: Vec<i64> = (0..9).map(|step| SIX + step * HALF_HOUR_MS).collect();
    ForecastPublishedRecord {
        source: "met-norway".to_owned(),
        lat: "61.50".to_owned(),
        lon: "4.80".to_owned(),
        fetch_id: "f".to_owned(),
        fetched_at: SIX - 600_000,
        fresh_until: SIX + HALF_HOUR_MS,
        issued_at: Some(SIX - 2 * HALF_HOUR_MS),
        attribution: "MET Norway".to_owned(),
        series: vec![SeriesRecord {
            step_s: 1_800,
            native_step_s: None,
            position_lat: Some("61.5".to_owned()),
            position_lon: Some("4.8".to_owned()),
            until_ms: from.iter().map(|from| from + HALF_HOUR_MS).collect(),
            from_ms: from,
            columns: vec![ColumnRecord {
                variable: "wave_height_m".to_owned(),
                values: WAVES.map(|wave| wave.map(str::to_owned)).to_vec(),
            }],
        }],
        trimmed_after: None,
    }
}

struct Tables {
    analyses: analyses::Tables,
    schedules: schedules::Tables,
    forecasts: forecasts::Tables,
}

async fn prepared() -> (Installation, Tables) {
    let tables = Tables {
        analyses: analyses::Tables::of(analyses::VERSION).unwrap(),
        schedules: schedules::Tables::of(schedules::VERSION).unwrap(),
        forecasts: forecasts::Tables::of(forecasts::VERSION).unwrap(),
    };
    let installation = installation().await;
    let event = schedule_event(&id(SCHEDULE), 1, None);
    installation.fold(&tables.schedules, CREATED, &event).await;
    (installation, tables)
}

/// Folds a forecast; how an analysis names it.
async fn forecast(installation: &Installation, tables: &Tables) -> ForecastRefRecord {
    let published = published();
    let offset = installation.fold(&tables.forecasts, PUBLISHED, &published).await;
    let text = |ms| Timestamp::from_millisecond(ms).unwrap().to_string();
    ForecastRefRecord {
        source: "met-norway".to_owned(),
        key: "met-norway/61.50/4.80".to_owned(),
        topic_id: String::new(),
        partition: 0,
        offset: offset as i64,
        issued_at: published.issued_at.map(text),
        fetched_at: text(published.fetched_at),
    }
}

const WINDOWS: [(&str, &str); 3] = [
    ("2025-08-20T06:00:00Z", "2025-08-20T07:00:00Z"),
    ("2025-08-20T07:30:00Z", "2025-08-20T09:00:00Z"),
    ("2025-08-20T09:30:00Z", "2025-08-20T10:30:00Z"),
];

#[tokio::test]
async fn an_analysis_is_read_from_its_request_to_its_result() {
    let (installation, tables) = prepared().await;
    let (id, at) = (id(1), now_ms());
    installation.fold(&tables.analyses, REQUESTED, &requested(&self::id(2), at - 1)).await;
    installation.fold(&tables.analyses, REQUESTED, &requested(&id, at)).await;
    let path = format!("/v1/analyses/{id}");
    let queued = installation.get(&path, &[]).await;
    assert_eq!(queued.headers["retry-after"], "1");
    let queued = queued.json();
    assert_eq!((&queued["state"], &queued["place"]), (&json!("queued"), &json!(2)));
    let none = installation.get(&format!("{path}/steps?task=lift"), &[]).await;
    assert_eq!(none.status, 409, "{}", none.text());

    let used = forecast(&installation, &tables).await;
    installation.fold(&tables.analyses, COMPLETED, &completed(&id, at, vec![used])).await;
    let answer = installation.get(&path, &[]).await;
    assert!(answer.headers.get("retry-after").is_none());
    let body = answer.json();
    assert_eq!((&body["state"], &body["progress"]), (&json!("completed"), &json!(1.0)));
    let task = &body["result"]["tasks"][0];
    let windows = WINDOWS.map(|(from, to)| json!({"from": from, "to": to}));
    assert_eq!(task["windows"], json!(windows));
    assert!(answer.text().contains("\"amount\":0.1}"), "to the digit: {}", answer.text());
    let plan = &body["result"]["plan"][0];
    assert_eq!((&plan["task"], &plan["end"]), (&json!("lift"), &json!("2025-08-20T07:00:00Z")));
    let wave = &body["forecast"]["variables"]["wave_height_m"];
    assert_eq!((&wave["source"], &wave["step"]), (&json!("met-norway"), &json!("PT30M")));
    assert_eq!((&body["forecast"]["age_s"], &wave["distance_m"]), (&json!(3_600), &json!(0)));
    assert_eq!(body["forecast"]["sources"][0]["attribution"], "MET Norway");
    let again = installation.get(&path, &[]).await;
    assert_eq!(again.body, answer.body, "kept");
    let tag = answer.headers["etag"].to_str().unwrap();
    assert_eq!(installation.get(&path, &[("if-none-match", tag)]).await.status, 304);

    let (mut steps, mut query) = (Vec::new(), String::new());
    loop {
        let page = installation.get(&format!("{path}/steps?task=lift&limit=4{query}"), &[]).await;
        let page = page.json();
        steps.extend(page["items"].as_array().unwrap().clone());
        match page["next_cursor"].as_str() {
            Some(next) => query = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(steps.len(), 9);
    assert_eq!(
        (&steps[2]["verdict"], &steps[2]["decided_by"]),
        (&json!("no_go"), &json!("wave_height_m"))
    );
    assert_eq!(steps[6]["verdict"], "unknown");
    for wrong in ["", "?task=nothing", "?task=lift&cursor=00"] {
        assert_eq!(
            installation.get(&format!("{path}/steps{wrong}"), &[]).await.status,
            400,
            "{wrong}"
        );
    }

    let chart =
        installation.get(&format!("{path}/chart.svg?width=400&timezone=Europe/Oslo"), &[]).await;
    assert_eq!(
        (chart.status, chart.headers["content-type"].to_str().unwrap()),
        (200, "image/svg+xml")
    );
    assert!(chart.text().starts_with("<svg") && !chart.text().contains("<script"));
    assert_eq!(installation.get(&format!("{path}/chart.svg?width=1"), &[]).await.status, 400);
    let note = installation.get(&format!("{path}/note.md"), &[]).await;
    assert_eq!(note.headers["content-type"], "text/markdown; charset=utf-8");
    assert!(note.text().contains("MET Norway") && note.text().contains(&id), "{}", note.text());

    let listed = installation
        .get(&format!("/v1/schedules/{}/analyses?limit=1", self::id(SCHEDULE)), &[])
        .await;
    let listed = listed.json();
    assert_eq!(listed["items"][0]["request_id"], id, "newest first");
    assert_eq!(listed["items"][0]["earliest_completion"], "2025-08-20T07:00:00Z");
    let next = listed["next_cursor"].as_str().unwrap();
    let path = format!("/v1/schedules/{}/analyses?cursor={next}", self::id(SCHEDULE));
    let rest = installation.get(&path, &[]).await.json();
    assert_eq!(rest["items"][0]["request_id"], self::id(2));
    assert_eq!((rest["items"].as_array().unwrap().len(), &rest["next_cursor"]), (1, &json!(null)));
}

/// Its pieces are joined and unpacked, and counted from their first sample.
#[tokio::test]
async fn a_forecast_that_came_with_the_request_is_analysed_again() {
    let (installation, tables) = prepared().await;
    let (id, at) = (id(1), now_ms());
    let points: Vec<_> = (0_i64..)
        .zip(WAVES)
        .map(|(step, wave)| {
            let time = Timestamp::from_millisecond(SIX + step * HALF_HOUR_MS).unwrap();
            let wave: Option<f64> = wave.map(|wave| wave.parse().unwrap());
            json!({"time": time, "wave_height_m": wave})
        })
        .collect();
    let text = json!({"source": "own", "issued_at": "2025-08-20T05:00:00Z", "points": points});
    let packed = zstd::encode_all(text.to_string().as_bytes(), 3).unwrap();
    let (first, second) = packed.split_at(packed.len() / 2);
    let mut offsets = Vec::new();
    for (chunk, bytes) in (0..).zip([first, second]) {
        let (analysis_id, owner) = (id.clone(), "mary".to_owned());
        let piece = InputChunkRecord { analysis_id, owner, chunk, chunks: 2, bytes };
        offsets.push(installation.fold(&tables.analyses, INPUT_CHUNK, &piece).await as i64);
    }
    let input = InputRecord {
        topic_id: String::new(),
        partition: 0,
        first_offset: offsets[0],
        last_offset: offsets[1],
        chunks: 2,
        bytes: text.to_string().len() as i64,
        source: "own".to_owned(),
        issued_at: Some("2025-08-20T05:00:00Z".to_owned()),
    };
    let request = AnalysisRequestedRecord { input: Some(input), ..requested(&id, at) };
    installation.fold(&tables.analyses, REQUESTED, &request).await;
    installation.fold(&tables.analyses, COMPLETED, &completed(&id, at, Vec::new())).await;
    let body = installation.get(&format!("/v1/analyses/{id}"), &[]).await.json();
    let windows = WINDOWS.map(|(from, to)| json!({"from": from, "to": to}));
    assert_eq!(body["result"]["tasks"][0]["windows"], json!(windows));
    let forecast = &body["forecast"];
    assert_eq!((&forecast["source"], &forecast["fetched_at"]), (&json!("own"), &json!(null)));
    assert_eq!(forecast["issued_at"], "2025-08-20T05:00:00Z");
}

/// The tables know nothing of it, and the decider has not come to it.
#[tokio::test]
async fn an_analysis_is_there_from_the_answer_of_its_request_on() {
    let (installation, _tables) = prepared().await;
    let id = id(1);
    let path = format!("/v1/analyses/{id}");
    assert_eq!(installation.get(&path, &[]).await.status, 404);
    let host = http::HeaderValue::from_static("localhost");
    let local = http::HeaderMap::from_iter([(http::header::HOST, host)]);
    let caller = installation.state.identity.caller(&local).unwrap();
    let command = |context: &str, caller: &str| CommandRecord {
        request_id: String::new(),
        outcome_id: String::new(),
        context: context.to_owned(),
        aggregate_id: id.clone(),
        verb: "request".to_owned(),
        caller: caller.to_owned(),
        is_admin: false,
        issued_at: 1_000,
        deadline: i64::MAX,
        expected: None,
        fingerprint: String::new(),
        body: None,
        attachment: None,
    };
    let append = async |key: &str, command: &CommandRecord| {
        let value = installation.state.codec.encode(COMMAND, command).unwrap();
        let record = Record {
            key: key.to_owned().into(),
            value: Some(value),
            headers: Headers::default(),
            timestamp_ms: 0,
        };
        let partition = partition_of(id.as_bytes(), crate::testing::PARTITIONS);
        let append = Append { topic: "commands".into(), partition, record };
        installation.log.append(vec![append]).await.unwrap();
    };
    append(&id, &command(CONTEXT, "somebody else")).await;
    append(&id, &command("schedules", &caller.subject)).await;
    append("other", &command(CONTEXT, &caller.subject)).await;
    assert_eq!(installation.get(&path, &[]).await.status, 404, "none is this caller's request");
    append(&id, &command(CONTEXT, &caller.subject)).await;
    let body = installation.get(&path, &[]).await.json();
    assert_eq!((&body["request_id"], &body["state"]), (&json!(id), &json!("queued")));
    assert_eq!(body["requested_at"], "1970-01-01T00:00:01Z");
    let found = installation.analyses.find(&id, &caller, Duration::ZERO).await.unwrap();
    assert!(matches!(found, Found::Asked { .. }));
}

#[tokio::test]
async fn whoever_waits_is_answered_once_it_ends() {
    let (installation, tables) = prepared().await;
    let (installation, at) = (Arc::new(installation), now_ms());
    let id = id(1);
    installation.fold(&tables.analyses, REQUESTED, &requested(&id, at)).await;
    let (waiting, path) = (installation.clone(), format!("/v1/analyses/{id}"));
    let prefer = [("prefer", "wait=30")];
    let waits = tokio::spawn(async move { waiting.get(&path, &prefer).await });
    let (streaming, path) = (installation.clone(), format!("/v1/analyses/{id}/stream"));
    let streams = tokio::spawn(async move { streaming.get(&path, &[]).await });
    // Both have looked once and wait, or will look at what follows.
    tokio::task::yield_now().await;
    let used = forecast(&installation, &tables).await;
    installation.fold(&tables.analyses, COMPLETED, &completed(&id, at, vec![used])).await;
    installation.analyses.changed(&TableChangeRecord {
        table: "analyses".to_owned(),
        partitions: Vec::new(),
        keys: vec![id.clone()],
    });
    let answer = waits.await.unwrap();
    assert_eq!(answer.headers["preference-applied"], "wait=30");
    assert_eq!(answer.json()["state"], "completed");
    let stream = streams.await.unwrap();
    assert_eq!(stream.headers["content-type"], "text/event-stream");
    let events: Vec<&str> = stream.text().split("\n\n").collect();
    let last = events[events.len() - 2];
    assert!(last.starts_with("event: completed\ndata: {"), "{last}");
}

#[tokio::test]
async fn a_cancelled_analysis_says_so() {
    let (installation, tables) = prepared().await;
    let (id, at) = (id(1), now_ms());
    let request = requested(&id, at);
    installation.fold(&tables.analyses, REQUESTED, &request).await;
    let head = AnalysisHead { version: 2, ..request.head() };
    installation.fold(&tables.analyses, CANCELLED, &head).await;
    let body = installation.get(&format!("/v1/analyses/{id}"), &[]).await.json();
    assert_eq!((&body["state"], body.get("result")), (&json!("cancelled"), None));
}

#[tokio::test]
async fn forecasts_of_a_place_are_told_with_their_age() {
    let (installation, tables) = prepared().await;
    forecast(&installation, &tables).await;
    let body = installation.get("/v1/forecasts?lat=61.503&lon=4.796", &[]).await.json();
    assert_eq!(body["place"], json!({"lat": 61.5, "lon": 4.8}), "near positions are one place");
    let item = &body["items"][0];
    assert_eq!((&item["source"], &item["is_fresh"]), (&json!("met-norway"), &json!(false)));
    assert_eq!(item["variables"]["wave_height_m"]["until"], "2025-08-20T10:30:00Z");
    let none = installation.get("/v1/forecasts?lat=10&lon=4.8", &[]).await.json();
    assert_eq!(none["items"], json!([]));
    for wrong in ["", "?lat=61.5", "?lat=91&lon=0", "?lat=61.5&lon=4.8&x=1"] {
        assert_eq!(
            installation.get(&format!("/v1/forecasts{wrong}"), &[]).await.status,
            400,
            "{wrong}"
        );
    }
}

#[tokio::test]
async fn scores_are_computed_from_the_history_of_a_place() {
    let (installation, tables) = prepared().await;
    let hour_ms = 2 * HALF_HOUR_MS;
    let start = now_ms() / hour_ms * hour_ms - 12 * hour_ms;
    // Each forecast begins an hour later; the second takes back what the first gave.
    for (fetch, wave) in [(0, "1.0"), (1, "2.0")] {
        let from: Vec<i64> = (0..24).map(|hour| start + (fetch + hour) * hour_ms).collect();
        let mut forecast = published();
        forecast.fetched_at = start + fetch * hour_ms;
        forecast.series[0].step_s = 3_600;
        forecast.series[0].until_ms = from.iter().map(|from| from + hour_ms).collect();
        forecast.series[0].from_ms = from;
        forecast.series[0].columns[0].values = vec![Some(wave.to_owned()); 24];
        installation.fold(&tables.forecasts, PUBLISHED, &forecast).await;
    }
    let path = "/v1/forecasts/score?lat=61.5&lon=4.8&variable=wave_height_m&limit=1.5";
    let body = installation.get(path, &[]).await.json();
    let item = &body["items"][0];
    assert_eq!((&item["source"], &item["forecasts"]), (&json!("met-norway"), &json!(2)));
    let near = &item["lead_times"][0];
    assert_eq!(
        (&near["gos"], &near["taken_back"], &near["share"]),
        (&json!(4), &json!(4), &json!(1.0))
    );
    let looser = installation.get(&path.replace("limit=1.5", "limit=9"), &[]).await;
    let looser = looser.json();
    assert_eq!(looser["items"][0]["lead_times"][0]["taken_back"], 0);
    for wrong in ["&variable=rain", "&limit=0", "&limit=x"] {
        let name = wrong.split('=').next().unwrap();
        let kept: Vec<&str> =
            path.split('&').filter(|part| !format!("&{part}").starts_with(name)).collect();
        let path = format!("{}{wrong}", kept.join("&"));
        assert_eq!(installation.get(&path, &[]).await.status, 400, "{path}");
    }
}

/// Tables of other projections may be behind: that is told, and nothing else is answered meanwhile.
#[tokio::test]
async fn a_result_waits_for_the_tables_that_it_rests_on() {
    let (installation, tables) = prepared().await;
    let (id, at) = (id(1), now_ms());
    installation.fold(&tables.analyses, REQUESTED, &requested(&id, at)).await;
    let mut used = forecast(&installation, &tables).await;
    // Behind the event that follows.
    used.offset += 2;
    installation.fold(&tables.analyses, COMPLETED, &completed(&id, at, vec![used.clone()])).await;
    let path = format!("/v1/analyses/{id}");
    let early = installation.get(&path, &[]).await;
    assert_eq!(early.status, 503, "{}", early.text());
    assert!(early.headers.contains_key("retry-after"));
    assert_eq!(forecast(&installation, &tables).await, used);
    assert_eq!(installation.get(&path, &[]).await.json()["state"], "completed");
}

/// A schedule that was written a moment ago has a list as soon as it is there, and is not "not found" before.
#[tokio::test]
async fn tokens_of_schedules_are_waited_for_as_well() {
    let (installation, _) = prepared().await;
    let progress = &installation.state.progress;
    let (topic, partition, offset) = (progress.commands_id().0, 0, 1_000);
    let token = |context: &str| Token { context: context.into(), topic, partition, offset };
    let status = async |context: &str| {
        let token = token(context).to_string();
        let headers = [("consistency-token", token.as_str()), ("prefer", "wait=0")];
        let path = format!("/v1/schedules/{}/analyses", id(77));
        installation.get(&path, &headers).await.status
    };
    assert_eq!(status("schedules").await, 503);
    assert_eq!(status(CONTEXT).await, 503);
    assert_eq!(status("recipes").await, 404, "what recipes are made has nothing to do with it");
}
