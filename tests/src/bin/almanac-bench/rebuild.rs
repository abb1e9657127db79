//! Rebuilds of the tables of plans, beside bare loops, and what they cost those who read meanwhile.

use crate::{
    feeds, line,
    load::{Starts, script, wrk},
    median,
};
use almanac_tables::plans;
use almanac_tests::{
    bare_cluster, bare_tables,
    process::{Engine, Installation, Process, client},
    provider::Provider,
};
use axum::{http::StatusCode, response::IntoResponse};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Between two looks at a rebuild.
const LOOK: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(900);
const REBUILDS: &str = "/v1/admin/projections/plans/rebuilds";

pub(crate) async fn report(out: &mut String, engine: Engine) {
    // Cassandra takes rows more slowly than fjall.
    let plans = if engine == Engine::Embedded { 1_000_000 } else { 200_000 };
    line!(
        out,
        "## Rebuild, {engine:?}\nTables of {plans} plans, folded again from the start of the topic beside the live ones without a limit, and compared with them; medians of 3.\n"
    );
    let (installation, mut process) = serving(engine, plans).await;
    let (mut rates, mut compared) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let rebuilt = whole(&process, json!({"dry_run": true, "events_per_s": 0})).await;
        rates.push(plans as f64 / rebuilt.hydrated.as_secs_f64());
        compared.push(rebuilt.compared.as_secs_f64());
    }
    // The feed leaves one event of each plan, and one of the observation.
    let (rate, compared) = (median(rates), median(compared));
    let quiet = p99(&process);
    let full = json!({"dry_run": true, "events_per_s": 0});
    let at_full_speed = meanwhile(&process, full).await;
    let throttled = meanwhile(&process, json!({"dry_run": true})).await;
    let mut one = Vec::new();
    for _ in 0..5 {
        one.push(single(&process).await.as_secs_f64() * 1_000.0);
    }
    let switch = switched(&process).await;
    assert!(process.stop().success());
    let (bare, what) = match engine {
        Engine::Embedded => {
            let tables = plans::Tables::of(plans::VERSION).unwrap();
            let most = usize::try_from(plans).unwrap();
            let rate = bare_tables::fill(&installation, &tables, None, most).await;
            (rate, "the rows alone, ready-made, put into fjall as they are")
        }
        Engine::Cluster => {
            let took = bare_cluster::rebuild(&installation).await;
            (plans as f64 / took.as_secs_f64(), "consumer, codec and the same batches of rows")
        }
    };
    line!(
        out,
        "| Almanac | bare loop: {what} | ratio |\n|---|---|---|\n| {rate:.0} events/s | {bare:.0} events/s | {:.2} |\n",
        rate / bare
    );
    let (small_installation, small) = serving(engine, 10_000).await;
    let all = whole(&small, json!({"activate": "auto", "events_per_s": 0})).await;
    drop((small, small_installation));
    line!(out, "| what | figure |\n|---|---|");
    line!(out, "| digests of both tables and their comparison | {compared:.2} s |");
    line!(out, "| search p99: alone | {quiet:.1} ms |");
    line!(out, "| the same, rebuilding without a limit | {at_full_speed:.1} ms |");
    line!(out, "| the same, at the default 10,000 events/s | {throttled:.1} ms |");
    line!(out, "| slowest of the reads, one after the other, during a switch | {switch:.1} ms |");
    line!(out, "| one plan repaired, median of 5 | {:.0} ms |", median(one));
    line!(
        out,
        "| 10000 events rebuilt, compared and switched to | {:.2} s |",
        all.ended.as_secs_f64()
    );
}

async fn serving(engine: Engine, plans: u64) -> (Installation, Process) {
    let provider = Provider::start().await;
    provider.serve(feeds::feed(plans, 0));
    let installation = Installation::new(engine).with_provider("feed", &provider.url());
    let process = installation.up().await;
    let deadline = Instant::now() + PATIENCE;
    while process.provider("feed").await.is_none_or(|seen| seen["listed_plans"] != plans) {
        assert!(Instant::now() < deadline, "the feed is not folded");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    provider.answer(|_, _| StatusCode::NOT_MODIFIED.into_response());
    (installation, process)
}

async fn begin(process: &Process, body: Value) -> String {
    let answer = process.send("POST", REBUILDS, &[], body.to_string()).await.unwrap();
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
    answer.body["id"].as_str().unwrap().to_owned()
}

/// From the request on.
struct Rebuilt {
    hydrated: Duration,
    compared: Duration,
    ended: Duration,
}

/// A rebuild until it serves, or is dropped again.
async fn whole(process: &Process, body: Value) -> Rebuilt {
    let started = Instant::now();
    let id = begin(process, body).await;
    let path = format!("/v1/admin/rebuilds/{id}");
    let (mut hydrated, mut verifying, mut compared) = (None, None, None);
    loop {
        let (_, found) = process.get(&path).await;
        let now = started.elapsed();
        let state = found["state"].as_str().unwrap();
        assert!(now < PATIENCE && state != "failed", "{found}");
        if state != "hydrating" {
            hydrated.get_or_insert(now);
        }
        if state == "verifying" {
            verifying.get_or_insert(now);
        }
        if found["certificate"].is_object() {
            assert_eq!(found["different_rows"], 0, "{found}");
            compared.get_or_insert(now);
        }
        if found["serving"] == true || found["dropped"] == true {
            let hydrated = hydrated.unwrap_or(now);
            let compared = compared.unwrap_or(now) - verifying.unwrap_or(hydrated);
            return Rebuilt { hydrated, compared, ended: now };
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn p99(process: &Process) -> f64 {
    let script = script(8_640, Starts::Random);
    let rounds = (0..3).map(|_| wrk(&process.url(""), &script, 3).p99_ms);
    median(rounds.collect())
}

/// What searches take while a rebuild hydrates.
async fn meanwhile(process: &Process, body: Value) -> f64 {
    let id = begin(process, body).await;
    let p99 = p99(process);
    let path = format!("/v1/admin/rebuilds/{id}");
    let (_, found) = process.get(&path).await;
    if found["state"] == "hydrating" {
        let cancel = process.send("POST", &format!("{path}/cancel"), &[], "{}").await.unwrap();
        assert_eq!(cancel.status, StatusCode::OK, "{cancel:?}");
    }
    until(process, &path, |found| found["dropped"] == true || found["state"] == "cancelled").await;
    p99
}

async fn until(process: &Process, path: &str, is_there: impl Fn(&Value) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (_, found) = process.get(path).await;
        if is_there(&found) {
            return;
        }
        assert!(Instant::now() < deadline && found["state"] != "failed", "{found}");
        tokio::time::sleep(LOOK).await;
    }
}

/// The rows of one plan, from the request to their repair.
async fn single(process: &Process) -> Duration {
    let (_, page) = process.get("/v1/plans?limit=1").await;
    let key = page["items"][0]["id"].as_str().unwrap();
    let started = Instant::now();
    let id = begin(process, json!({"only": {"key": key}})).await;
    until(process, &format!("/v1/admin/rebuilds/{id}"), |found| found["state"] == "active").await;
    started.elapsed()
}

/// The slowest read while a rebuild is switched to, rolled back and switched to again, in milliseconds.
async fn switched(process: &Process) -> f64 {
    let id = begin(process, json!({"events_per_s": 0})).await;
    let path = format!("/v1/admin/rebuilds/{id}");
    until(process, &path, |found| found["state"] == "ready").await;
    let address =
        process.url("/search?starts_at=2031-03-01T00:00:00Z&ends_at=2031-03-01T02:00:00Z");
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let reading = tokio::spawn(async move {
        let mut slowest = 0.0_f64;
        while stopped.try_recv().is_err() {
            let started = Instant::now();
            let answer = client().get(&address).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
            drop(answer.bytes().await.unwrap());
            slowest = slowest.max(started.elapsed().as_secs_f64() * 1_000.0);
        }
        slowest
    });
    for (verb, serves) in [("activate", true), ("rollback", false), ("activate", true)] {
        let answer = process.send("POST", &format!("{path}/{verb}"), &[], "{}").await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        until(process, &path, |found| found["serving"] == serves).await;
    }
    let _ = stop.send(());
    let slowest = reading.await.unwrap();
    let answer = process.send("POST", &format!("{path}/drop"), &[], "{}").await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    slowest
}
