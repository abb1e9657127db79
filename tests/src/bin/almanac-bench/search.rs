//! Search, beside a bare server that answers the same bytes.

use crate::{
    bare::Bare,
    feeds::feed,
    line,
    load::{Load, Starts, script, script_in, wrk},
    median,
};
use almanac_tests::{
    process::{Engine, Installation, Process, client},
    provider::Provider,
};
use axum::{http::StatusCode, response::IntoResponse};

const ROUNDS: usize = 3;
const SECONDS: u32 = 3;
const DAY: u64 = 86_400;

/// How many plans a search without bounds finds.
pub(crate) async fn count(process: &Process) -> usize {
    let text =
        client().get(process.url("/search")).send().await.unwrap().text().await.unwrap_or_default();
    text.matches("\"id\":").count()
}

/// An installation, with lines of configuration, that has read a feed of so many plans and is left alone from then on.
pub(crate) async fn serving(engine: Engine, plans: u64, lines: &str) -> (Installation, Process) {
    let provider = Provider::start().await;
    provider.serve(feed(plans, 0));
    let installation = Installation::new(engine).with_provider("feed", &provider.url());
    let installation = installation.with(lines);
    let process = installation.up().await;
    let all = usize::try_from(plans).unwrap();
    process.until("all plans", || async { (count(&process).await >= all).then_some(()) }).await;
    provider.answer(|_, _| StatusCode::NOT_MODIFIED.into_response());
    (installation, process)
}

pub(crate) async fn report(out: &mut String) {
    let (_kept, embedded) = serving(Engine::Embedded, 10_000, "").await;
    let (_kept_too, cluster) = serving(Engine::Cluster, 10_000, "").await;
    line!(
        out,
        "## Search\n`wrk -t1 -c64`, 10,000 plans in 24 months, beside a bare axum server that answers as many bytes from memory, in turns, medians of {ROUNDS} rounds.\n"
    );
    line!(
        out,
        "| windows | bytes | embedded | cluster | bare | embedded / bare | cluster / embedded | p99 embedded | p99 cluster |\n|---|---|---|---|---|---|---|---|---|"
    );
    for (what, seconds, starts) in [
        ("one day, random starts", DAY, Starts::Random),
        ("one day, always the same", DAY, Starts::Same),
        ("thirty days, random starts", 30 * DAY, Starts::Random),
    ] {
        let [own, other, bare] = in_turns(&[&embedded, &cluster], seconds, starts).await;
        line!(
            out,
            "| {what} | {:.0} | {:.0}/s | {:.0}/s | {:.0}/s | {:.2} | {:.2} | {:.1} ms | {:.1} ms |",
            own.bytes,
            own.rate,
            other.rate,
            bare.rate,
            own.rate / bare.rate,
            other.rate / own.rate,
            own.p99_ms,
            other.p99_ms,
        );
    }
    compressed(out, &embedded);
}

/// What browsers get, beside the same windows as they are.
fn compressed(out: &mut String, process: &Process) {
    line!(
        out,
        "\nThe same windows in gzip, beside plain ones in turns, embedded, medians of {ROUNDS} rounds.\n\n| windows | bytes plain | bytes in gzip | plain | gzip | gzip / plain | p99 plain | p99 gzip |\n|---|---|---|---|---|---|---|---|"
    );
    for (what, seconds) in [("one day", DAY), ("thirty days", 30 * DAY)] {
        let scripts =
            [None, Some("gzip")].map(|encoding| script_in(seconds, Starts::Random, encoding));
        // Blocks are compressed as they are asked for.
        wrk(&process.url(""), &scripts[1], 2);
        let mut loads: [Vec<Load>; 2] = Default::default();
        for _ in 0..ROUNDS {
            for (script, loads) in scripts.iter().zip(&mut loads) {
                loads.push(wrk(&process.url(""), script, SECONDS));
            }
        }
        let [plain, gzip] = loads.map(medians);
        line!(
            out,
            "| {what}, random starts | {:.0} | {:.0} | {:.0}/s | {:.0}/s | {:.2} | {:.1} ms | {:.1} ms |",
            plain.bytes,
            gzip.bytes,
            plain.rate,
            gzip.rate,
            gzip.rate / plain.rate,
            plain.p99_ms,
            gzip.p99_ms,
        );
    }
}

pub(crate) fn medians(loads: Vec<Load>) -> Load {
    let of = |part: fn(&Load) -> f64| median(loads.iter().map(part).collect());
    Load {
        rate: of(|load| load.rate),
        p50_ms: of(|load| load.p50_ms),
        p99_ms: of(|load| load.p99_ms),
        bytes: of(|load| load.bytes),
    }
}

/// Medians of two processes and a bare server, measured in turns.
pub(crate) async fn in_turns(processes: &[&Process; 2], seconds: u64, starts: Starts) -> [Load; 3] {
    let script = script(seconds, starts);
    // The bare server answers one window of the average size; a first round finds it.
    let average = wrk(&processes[0].url(""), &script, 1).bytes;
    let sample = sample(processes[0], seconds, average).await;
    let bare = Bare::start(&sample);
    let urls = [processes[0].url(""), processes[1].url(""), bare.url.clone()];
    let mut loads: [Vec<Load>; 3] = Default::default();
    for _ in 0..ROUNDS {
        for (url, loads) in urls.iter().zip(&mut loads) {
            loads.push(wrk(url, &script, SECONDS));
        }
    }
    loads.map(medians)
}

/// A window's answer whose size is near the average.
async fn sample(process: &Process, seconds: u64, average: f64) -> Vec<u8> {
    let mut best: Vec<u8> = Vec::new();
    for day in 0..40 {
        let start = 1_925_000_000 + day * 86_400 * 7;
        let at = |seconds: u64| jiff::Timestamp::from_second(seconds as i64).unwrap();
        let path = format!("/search?starts_at={}&ends_at={}", at(start), at(start + seconds));
        let answer = client().get(process.url(&path)).send().await.unwrap();
        let body = answer.bytes().await.unwrap().to_vec();
        let distance = |body: &[u8]| (body.len() as f64 - average).abs();
        if best.is_empty() || distance(&body) < distance(&best) {
            best = body;
        }
    }
    best
}

/// What a large ingest does to the latency of search.
pub(crate) async fn while_ingesting(out: &mut String) {
    const PLANS: u64 = 100_000;
    let provider = Provider::start().await;
    provider.serve(feed(PLANS, 0));
    let installation = Installation::new(Engine::Embedded).with_provider("feed", &provider.url());
    let process = installation.up().await;
    let all = usize::try_from(PLANS).unwrap();
    process.until("all plans", || async { (count(&process).await >= all).then_some(()) }).await;
    let changed = feed(PLANS, 1);
    let script = script(8_640, Starts::Random);
    let (mut quiet, mut busy) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS as u64 {
        provider.answer(|_, _| StatusCode::NOT_MODIFIED.into_response());
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        quiet.push(wrk(&process.url(""), &script, SECONDS).p99_ms);
        let body = changed.replace("capacity=\"244\"", &format!("capacity=\"{}\"", 300 + round));
        provider.serve(body);
        let before = provider.requests();
        process
            .until("the changed feed asked for", || async {
                (provider.requests() > before).then_some(())
            })
            .await;
        busy.push(wrk(&process.url(""), &script, SECONDS).p99_ms);
    }
    let (quiet, busy) = (median(quiet), median(busy));
    line!(
        out,
        "## Search while a feed of {PLANS} changed plans is ingested\n\n| p99 alone | p99 meanwhile | ratio |\n|---|---|---|\n| {quiet:.1} ms | {busy:.1} ms | {:.1} |",
        busy / quiet
    );
}
