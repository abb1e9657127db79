//! Starting, resting, and a million plans.

use crate::{
    feeds::feed,
    line,
    load::{Starts, script, wrk},
    median, resident_mb,
    search::in_turns,
};
use almanac_tests::{
    process::{Engine, Installation, Process},
    provider::Provider,
};
use axum::{http::StatusCode, response::IntoResponse};
use std::time::{Duration, Instant};

const MILLION: u64 = 1_000_000;

pub(crate) async fn report(out: &mut String) {
    line!(out, "## Start and memory\n| what | figure |\n|---|---|");
    let (mut empty, mut idle) = (Vec::new(), 0);
    for _ in 0..3 {
        let installation =
            Installation::new(Engine::Embedded).with_provider("none", "http://127.0.0.1:1/");
        let started = Instant::now();
        let process = installation.up().await;
        empty.push(started.elapsed().as_secs_f64());
        tokio::time::sleep(Duration::from_secs(2)).await;
        idle = resident_mb(process.id()).0;
    }
    line!(out, "| `up` on an empty folder, until ready (median of 3) | {:.2} s |", median(empty));
    line!(out, "| resident memory, idle | {idle} MB |");
    ingestor_alone(out).await;
    million(out).await;
}

/// Waits until the provider was read, or four minutes.
async fn read(process: &Process, done: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(240);
    while !done().await && Instant::now() < deadline {
        assert!(std::path::Path::new(&format!("/proc/{}", process.id())).exists());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// What reading a large body costs the process that reads it, with nothing else in it.
async fn ingestor_alone(out: &mut String) {
    let provider = Provider::start().await;
    let installation = Installation::new(Engine::Cluster).with_provider("million", &provider.url());
    let query = installation.start("query-api", "query");
    query.ready().await;
    let mut ingestor = installation.start("ingestor", "ingestor");
    ingestor.ready().await;
    let before = resident_mb(ingestor.id()).0;
    let body = feed(MILLION, 0);
    let size = body.len() >> 20;
    provider.serve(body);
    let fetched = async || {
        ingestor.log().lines().any(|line| line.contains("fetched") && line.contains("million"))
    };
    read(&ingestor, fetched).await;
    let peak = resident_mb(ingestor.id()).1;
    line!(
        out,
        "| an ingestor alone on a body of {size} MB: memory before / peak | {before} / {peak} MB |"
    );
    assert!(ingestor.stop().success());
}

async fn million(out: &mut String) {
    let provider = Provider::start().await;
    provider.serve(feed(MILLION, 0));
    let installation =
        Installation::new(Engine::Embedded).with_provider("million", &provider.url());
    let mut process = installation.up().await;
    let before = resident_mb(process.id()).0;
    let started = Instant::now();
    let visible = async || {
        let seen = process.provider("million").await;
        seen.is_some_and(|seen| seen["listed_plans"] == MILLION)
    };
    read(&process, visible).await;
    let took = started.elapsed().as_secs_f64();
    provider.answer(|_, _| StatusCode::NOT_MODIFIED.into_response());
    let peak = resident_mb(process.id()).1;
    line!(out, "| all roles, a feed of a million plans, until folded | {took:.1} s |");
    line!(
        out,
        "| memory before / peak meanwhile, 512 MB of cache allowed | {before} / {peak} MB |"
    );
    assert!(process.stop().success());
    let started = Instant::now();
    let process = installation.up().await;
    let took = started.elapsed().as_secs_f64();
    line!(out, "| `up` with a million plans, until ready | {took:.2} s |");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let small_provider = Provider::start().await;
    small_provider.serve(feed(10_000, 0));
    let small = Installation::new(Engine::Embedded).with_provider("ten", &small_provider.url());
    let small = small.up().await;
    small
        .until("ten thousand plans", || async {
            (crate::search::count(&small).await >= 10_000).then_some(())
        })
        .await;
    small_provider.answer(|_, _| StatusCode::NOT_MODIFIED.into_response());
    // As many rows from a hundred times as many plans.
    let [large, _, _] = in_turns(&[&process, &small], 864, Starts::Random).await;
    let [few, _, _] = in_turns(&[&small, &process], 86_400, Starts::Random).await;
    line!(
        out,
        "| windows of {:.0} bytes on average from a million plans | {:.0}/s, p99 {:.1} ms |",
        large.bytes,
        large.rate,
        large.p99_ms
    );
    line!(
        out,
        "| windows of {:.0} bytes on average from ten thousand plans | {:.0}/s, p99 {:.1} ms |",
        few.bytes,
        few.rate,
        few.p99_ms
    );
    drop((process, small));
    beyond_the_cache(out, installation).await;
}

/// What clients cost who want far more days than the cache holds.
async fn beyond_the_cache(out: &mut String, installation: Installation) {
    let installation = installation.with("http.cache_bytes = 33554432");
    let process = installation.up().await;
    let before = resident_mb(process.id()).0;
    let load = wrk(&process.url(""), &script(864, Starts::Random), 20);
    let peak = resident_mb(process.id()).1;
    line!(
        out,
        "| windows of {:.0} bytes on average from a million plans, a tenth of which fit into a cache of 32 MB: memory before / peak | {before} / {peak} MB, {:.0}/s, p99 {:.0} ms |",
        load.bytes,
        load.rate,
        load.p99_ms
    );
}
