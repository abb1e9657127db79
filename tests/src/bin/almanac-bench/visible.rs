//! From a change to an answer that shows it.

use crate::{line, median, percentile_99};
use almanac_tests::{
    process::{Engine, Installation},
    provider::{Provider, feed},
};
use axum::response::IntoResponse;
use parking_lot::Mutex;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

const CHANGES: u64 = 200;

pub(crate) async fn report(out: &mut String, engine: Engine) {
    let provider = Provider::start().await;
    provider.serve(feed(50, 0));
    let installation = Installation::new(engine).with_provider("live", &provider.url());
    let process = installation.up().await;
    process.until("plans", || async { (!process.search("").await.is_empty()).then_some(()) }).await;
    // One connection that stays: asking must cost less than what is measured.
    let client = reqwest::Client::builder().tcp_nodelay(true).build().unwrap();
    let url = process.url("/search?starts_at=2031-08-07T00:00:00Z&ends_at=2031-08-09T00:00:00Z");
    let (mut took, mut behind) = (Vec::new(), Vec::new());
    for version in 1..=CHANGES {
        let title = format!("Fresh {version}");
        let body = feed(50, 0).replace("Plan 7\"", &format!("{title}\""));
        let answered = Arc::new(Mutex::new(None));
        let when = answered.clone();
        provider.answer(move |_, _| {
            when.lock().get_or_insert_with(Instant::now);
            body.clone().into_response()
        });
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let text = client.get(&url).send().await.unwrap().text().await.unwrap();
            if text.contains(&title) {
                break;
            }
            assert!(Instant::now() < deadline, "the change does not show: {text}");
            tokio::time::sleep(Duration::from_micros(300)).await;
        }
        let shown = Instant::now();
        let answered = answered.lock().expect("it was fetched");
        took.push((shown - answered).as_secs_f64() * 1_000.0);
        let list = process.url(&format!("/v1/plans?q=fresh+{version}"));
        while !client.get(&list).send().await.unwrap().text().await.unwrap().contains(&title) {
            assert!(Instant::now() < deadline, "no list shows the change");
            tokio::time::sleep(Duration::from_micros(300)).await;
        }
        behind.push(shown.elapsed().as_secs_f64() * 1_000.0);
    }
    line!(
        out,
        "## Change to visible, {engine:?}\nFrom the answer of the provider (so reading, comparing and committing are in it) to an answer of search that shows the change, asked for every 0.3 ms; {CHANGES} changes.\n"
    );
    let (own, own_p99) = (median(took.clone()), percentile_99(took));
    line!(
        out,
        "A list of plans that asks for the new words was answered with them {:.1} ms after search, one answer included (median; p99 {:.1} ms).\n",
        median(behind.clone()),
        percentile_99(behind)
    );
    if engine == Engine::Embedded {
        line!(out, "| median | p99 |\n|---|---|\n| {own:.1} ms | {own_p99:.1} ms |");
        return;
    }
    let bare = almanac_tests::bare_cluster::change(&installation, CHANGES).await;
    let (bare, bare_p99) = (median(bare.clone()), percentile_99(bare));
    line!(
        out,
        "| | median | p99 |\n|---|---|---|\n| Almanac | {own:.1} ms | {own_p99:.1} ms |\n| bare: produce in a transaction, consume, write the rows, read one back | {bare:.1} ms | {bare_p99:.1} ms |\n| ratio | {:.1} | {:.1} |",
        own / bare,
        own_p99 / bare_p99
    );
}
