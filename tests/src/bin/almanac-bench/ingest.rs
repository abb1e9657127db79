//! From a feed to visible plans, beside bare loops.

use crate::{feeds, line, median, search::count};
use almanac_tables::plans;
use almanac_tests::{
    bare_tables, baseline,
    process::{Engine, Installation},
    provider::Provider,
};
use axum::{http::StatusCode, response::IntoResponse};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

const PLANS: u64 = 100_000;
/// Servers that have just been started compile their code for minutes, which costs whoever asks
/// for more of the processor more.
const WARM_UPS: usize = 3;

pub(crate) async fn report(out: &mut String, engine: Engine) {
    let body = feeds::feed(PLANS, 0);
    line!(
        out,
        "## Ingest, {engine:?}\nA feed of {PLANS} plans ({} MB), from the request for it to all of it visible in search. Medians of 3{}.\n",
        body.len() >> 20,
        if engine == Engine::Cluster { ", servers warmed" } else { "" }
    );
    let mut own = Vec::new();
    let mut bare = Vec::new();
    let mut tables = Vec::new();
    if engine == Engine::Cluster {
        for _ in 0..WARM_UPS {
            let (_, installation) = once(engine, PLANS, body.clone()).await;
            let _ = almanac_tests::bare_cluster::ingest(&installation).await;
        }
    }
    for _ in 0..3 {
        let (took, installation) = once(engine, PLANS, body.clone()).await;
        own.push(PLANS as f64 / took.as_secs_f64());
        let took = match engine {
            Engine::Embedded => {
                let projection = plans::Tables::of(plans::VERSION).unwrap();
                let state = Some("ingest.state");
                let most = PLANS as usize;
                tables.push(bare_tables::fill(&installation, &projection, state, most).await);
                let started = Instant::now();
                baseline::parse_and_encode(&body);
                started.elapsed()
            }
            Engine::Cluster => almanac_tests::bare_cluster::ingest(&installation).await,
        };
        bare.push(PLANS as f64 / took.as_secs_f64());
    }
    let what = match engine {
        Engine::Embedded => {
            "parses the same bytes with the same XML reader and encodes as many Avro events, and does nothing else"
        }
        Engine::Cluster => {
            "commits the same records in transactions of the same size and writes the same rows in the same batches, and does nothing else"
        }
    };
    line!(
        out,
        "| Almanac | bare loop, which {what} | ratio |\n|---|---|---|\n| {:.0} plans/s | {:.0} plans/s | {:.2} |\n",
        median(own.clone()),
        median(bare.clone()),
        median(own.clone()) / median(bare)
    );
    if engine == Engine::Embedded {
        let (own, tables) = (median(own.clone()), median(tables));
        line!(
            out,
            "| Almanac | the rows of its tables and of its local state alone, ready-made, put into fjall as they are | ratio |\n|---|---|---|\n| {own:.0} plans/s | {tables:.0} plans/s | {:.2} |\n",
            own / tables
        );
    }
    let wide = feeds::with_zones(1_000, 0, 300);
    let (took, _) = once(engine, 1_000, wide.clone()).await;
    let rate = |bytes: usize, seconds: f64| bytes as f64 / 1e6 / seconds;
    line!(
        out,
        "| body | MB/s |\n|---|---|\n| {PLANS} plans of two zones | {:.1} |\n| 1,000 plans of three hundred zones ({} MB) | {:.1} |",
        rate(body.len(), PLANS as f64 / median(own)),
        wide.len() >> 20,
        rate(wide.len(), took.as_secs_f64()),
    );
}

/// Reads one body into an empty installation.
async fn once(engine: Engine, plans: u64, body: String) -> (Duration, Installation) {
    let provider = Provider::start().await;
    let first_request = Arc::new(parking_lot::Mutex::new(None));
    let served = first_request.clone();
    let installation = Installation::new(engine).with_provider("feed", &provider.url());
    let mut process = installation.up().await;
    // Once: reading it again and again meanwhile would be measured as well.
    provider.answer(move |_, _| {
        let mut served = served.lock();
        if served.is_some() {
            return StatusCode::NOT_MODIFIED.into_response();
        }
        *served = Some(Instant::now());
        body.clone().into_response()
    });
    // The observation is the last event of a fetch: once it is in the tables of its partition,
    // only the other partitions' last batches may be missing.
    process
        .until("the feed, visible", || async {
            let seen = process.provider("feed").await?;
            let done = seen["last_body"]["listed"] == plans || seen["last_outcome"] == "unchanged";
            (done && count(&process).await >= plans as usize).then_some(())
        })
        .await;
    let took = first_request.lock().expect("it was fetched").elapsed();
    assert!(process.stop().success());
    (took, installation)
}
