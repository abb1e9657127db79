//! Analyses on a cached forecast, beside plain writes of the same run.

use crate::{line, median, percentile_99};
use almanac_tests::process::{Engine, Installation, Process};
use axum::{Router, routing::get};
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const RECIPE: &str = include_str!("../../../data/recipe.json");
const SINGLE: usize = 200;
const AT_ONCE: usize = 500;
const ROUNDS: usize = 3;
const TASKS: usize = 10;
const HOURS: i64 = 240;

/// A service that has ten days of hours, fresh for a day.
async fn service() -> String {
    let first = Timestamp::now() - SignedDuration::from_hours(1);
    let first = Timestamp::from_second(first.as_second() / 3_600 * 3_600).unwrap();
    let step = |hour: i64, details: Value| {
        let time = first + SignedDuration::from_hours(hour);
        json!({"time": time, "data": {"instant": {"details": details}, "next_1_hours": {}}})
    };
    let body = |units: Value, details: fn(i64) -> Value| {
        let series: Vec<Value> = (0..HOURS).map(|hour| step(hour, details(hour))).collect();
        let meta = json!({"updated_at": first, "units": units});
        let geometry = json!({"type": "Point", "coordinates": [4.8, 61.5, 0]});
        let properties = json!({"meta": meta, "timeseries": series});
        json!({"type": "Feature", "geometry": geometry, "properties": properties}).to_string()
    };
    let winds = body(
        json!({"wind_speed": "m/s"}),
        |hour| json!({"wind_speed": 6.0 + (hour % 24) as f64 / 4.0}),
    );
    let waves = body(
        json!({"sea_surface_wave_height": "m"}),
        |hour| json!({"sea_surface_wave_height": 1.0 + (hour % 36) as f64 / 20.0}),
    );
    let answer = |body: String| {
        let expires = "Fri, 31 Dec 2060 00:00:00 GMT";
        get(
            move || async move { ([("expires", expires), ("content-type", "application/json")], body) },
        )
    };
    let router = Router::new().route("/location", answer(winds)).route("/ocean", answer(waves));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!(
        "providers = [{{ name = \"met-norway\", kind = \"met-norway\", \
         url = \"http://{address}/location\", forecasts.marine_url = \"http://{address}/ocean\", \
         headers.User-Agent = \"almanac-bench ops@example.com\" }}]"
    )
}

fn asked() -> String {
    let tasks: Vec<Value> = (0..TASKS)
        .map(|number| {
            let before = number.checked_sub(1).map(|before| format!("task-{before}"));
            json!({
                "id": format!("task-{number}"), "name": "Lift", "duration": "PT3H",
                "predecessors": before.into_iter().collect::<Vec<_>>(),
                "limits": [{"variable": "wave_height_m", "max": 2.2},
                           {"variable": "wind_speed_ms", "max": 11}],
            })
        })
        .collect();
    let schedule = json!({
        "name": "Turbine 7", "location": {"lat": 61.5, "lon": 4.8}, "tasks": tasks,
    });
    json!({"schedule": schedule}).to_string()
}

/// Milliseconds of a write.
async fn write(client: &reqwest::Client, process: &Process) -> f64 {
    let started = Instant::now();
    let answer = client.post(process.url("/v1/recipes")).body(RECIPE).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    answer.bytes().await.unwrap();
    started.elapsed().as_secs_f64() * 1_000.0
}

/// Address and token of an analysis.
async fn request(client: &reqwest::Client, process: &Process, body: &str) -> (String, String) {
    let answer =
        client.post(process.url("/v1/analyses")).body(body.to_owned()).send().await.unwrap();
    assert_eq!(answer.status(), 202);
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    let told = (header("location"), header("consistency-token"));
    answer.bytes().await.unwrap();
    told
}

/// How many analyses have ended, as the worker sees it.
async fn ended(client: &reqwest::Client, process: &Process) -> usize {
    let metrics = client.get(process.url("/metrics")).send().await.unwrap().text().await.unwrap();
    let name = "almanac_analyses_ended_total{outcome=\"completed\"} ";
    let count = metrics.lines().find_map(|line| line.strip_prefix(name));
    count.and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// Milliseconds from the request of an analysis to its result.
async fn analyse(client: &reqwest::Client, process: &Process, body: &str) -> f64 {
    let started = Instant::now();
    let (location, token) = request(client, process, body).await;
    loop {
        let read = client
            .get(process.url(&location))
            .header("consistency-token", &token)
            .header("prefer", "wait=30")
            .send()
            .await
            .unwrap();
        let body: Value = serde_json::from_slice(&read.bytes().await.unwrap()).unwrap();
        match body["state"].as_str() {
            Some("completed") => return started.elapsed().as_secs_f64() * 1_000.0,
            Some("queued" | "running") => {}
            _ => panic!("{body}"),
        }
    }
}

/// Milliseconds of reads of another endpoint, one after the other, until `stop`.
async fn reads(client: &reqwest::Client, process: &Process, stop: impl Future) -> Vec<f64> {
    let mut took = Vec::new();
    tokio::pin!(stop);
    loop {
        let started = Instant::now();
        let read = async {
            let search = "/search?starts_at=2031-06-01T00:00:00Z&ends_at=2031-06-02T00:00:00Z";
            client.get(process.url(search)).send().await.unwrap().bytes().await.unwrap();
        };
        tokio::select! {
            biased;
            _ = &mut stop => return took,
            () = read => took.push(started.elapsed().as_secs_f64() * 1_000.0),
        }
    }
}

pub(crate) async fn report(out: &mut String, engine: Engine) {
    let installation = Installation::new(engine).with(&service().await);
    let mut process = installation.up().await;
    let client = reqwest::Client::builder().tcp_nodelay(true).build().unwrap();
    let body = asked();
    for _ in 0..20 {
        write(&client, &process).await;
        analyse(&client, &process, &body).await;
    }
    let (mut writes, mut analyses) = (Vec::new(), Vec::new());
    for _ in 0..SINGLE {
        writes.push(write(&client, &process).await);
        analyses.push(analyse(&client, &process, &body).await);
    }
    let (written, analysed) = (median(writes), median(analyses));
    let (mut write_rates, mut analysis_rates) = (Vec::new(), Vec::new());
    let mut read_rates = Vec::new();
    let (mut idle, mut meanwhile) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let pause = tokio::time::sleep(Duration::from_secs(2));
        idle.push(percentile_99(reads(&client, &process, pause).await));
        let started = Instant::now();
        join_all((0..AT_ONCE).map(|_| write(&client, &process))).await;
        write_rates.push(AT_ONCE as f64 / started.elapsed().as_secs_f64());
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (started, before) = (Instant::now(), ended(&client, &process).await);
        let all = async {
            join_all((0..AT_ONCE).map(|_| request(&client, &process, &body))).await;
            while ended(&client, &process).await < before + AT_ONCE {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        meanwhile.push(percentile_99(reads(&client, &process, all).await));
        analysis_rates.push(AT_ONCE as f64 / started.elapsed().as_secs_f64());
        tokio::time::sleep(Duration::from_secs(2)).await;
        let started = Instant::now();
        join_all((0..AT_ONCE).map(|_| analyse(&client, &process, &body))).await;
        read_rates.push(AT_ONCE as f64 / started.elapsed().as_secs_f64());
    }
    let (write_rate, analysis_rate) = (median(write_rates), median(analysis_rates));
    let read_rate = median(read_rates);
    let (idle, meanwhile) = (median(idle), median(meanwhile));
    line!(
        out,
        "## Analyses, {engine:?}\n{TASKS} tasks, a forecast of {HOURS} hours that is cached; of one caller, from the request to the answer of a read that waits for the result, beside creating a recipe of {} bytes. {SINGLE} of each in turns; then {AT_ONCE} at once, medians of {ROUNDS} rounds; meanwhile one client searches, one request after the other.\n\n| | plain write | analysis | ratio |\n|---|---|---|---|\n| one caller, median | {written:.1} ms | {analysed:.1} ms | {:.1} |\n| {AT_ONCE} at once, until the last has ended | {write_rate:.0}/s | {analysis_rate:.0}/s | {:.2} |\n| {AT_ONCE} at once, until the last result is read | {write_rate:.0}/s | {read_rate:.0}/s | {:.2} |\n\n| searches | idle | meanwhile | ratio |\n|---|---|---|---|\n| p99 | {idle:.1} ms | {meanwhile:.1} ms | {:.1} |\n",
        RECIPE.len(),
        analysed / written,
        analysis_rate / write_rate,
        read_rate / write_rate,
        meanwhile / idle,
    );
    assert!(process.stop().success());
}
