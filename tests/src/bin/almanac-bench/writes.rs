//! Writes, beside a bare server or a bare loop; and how soon they can be read.

use crate::{
    bare::Bare,
    line,
    load::{Load, write_script, wrk_with},
    median,
};
use almanac_event_log::{EventLog, kafka::KafkaLog};
use almanac_tables::recipes;
use almanac_tests::{
    bare_tables,
    bare_writes::{Sizes, hops},
    kafka,
    process::{Engine, Installation, Process},
    unique,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

const ROUNDS: usize = 3;
/// A broker swings more from one round to the next than everything else here.
const CLUSTER_ROUNDS: usize = 5;
const SECONDS: u32 = 5;
const RECIPE: &str = include_str!("../../../data/recipe.json");
/// As the tests' installations have.
pub(crate) const PARTITIONS: u32 = 4;

fn middle(loads: &[Load]) -> Load {
    let of = |part: fn(&Load) -> f64| median(loads.iter().map(part).collect());
    Load {
        rate: of(|load| load.rate),
        p50_ms: of(|load| load.p50_ms),
        p99_ms: of(|load| load.p99_ms),
        bytes: of(|load| load.bytes),
    }
}

pub(crate) async fn embedded(out: &mut String) {
    let installation = Installation::new(Engine::Embedded);
    let mut process = installation.up().await;
    let bare = Bare::start_writes();
    let script = write_script(RECIPE);
    let (mut own, mut other) = (Vec::new(), Vec::new());
    for _ in 0..=ROUNDS {
        own.push(wrk_with(&process.url("/v1/recipes"), &script, SECONDS, 64));
        // What is still to be folded would slow the other down.
        settle(&process).await;
        other.push(wrk_with(&format!("{}/v1/recipes", bare.url), &script, SECONDS, 64));
    }
    // The first round warms up.
    let (own, other) = (middle(&own[1..]), middle(&other[1..]));
    line!(
        out,
        "## Writes, embedded\n`wrk -t1 -c64`, creating recipes of {} bytes, beside a bare axum server that reads the same body, appends it to a file and syncs that for all who wait, in turns, each with the machine to itself, medians of {ROUNDS} rounds of {SECONDS} s.\n\n| | writes | median | p99 |\n|---|---|---|---|",
        RECIPE.len()
    );
    for (name, load) in [("Almanac", &own), ("bare", &other)] {
        line!(
            out,
            "| {name} | {:.0}/s | {:.1} ms | {:.1} ms |",
            load.rate,
            load.p50_ms,
            load.p99_ms
        );
    }
    line!(
        out,
        "| ratio | {:.2} | {:.1} | {:.1} |\n",
        own.rate / other.rate,
        own.p50_ms / other.p50_ms,
        own.p99_ms / other.p99_ms
    );
    readable(out, &process).await;
    assert!(process.stop().success());
    let projection = recipes::Tables::of(recipes::VERSION).unwrap();
    let mut tables = Vec::new();
    for _ in 0..ROUNDS {
        tables.push(bare_tables::fill(&installation, &projection, None, 20_000).await);
    }
    line!(
        out,
        "The rows of the tables alone, ready-made, put into fjall as they are, with nothing else to do: those of {:.0} recipes/s.\n",
        median(tables)
    );
}

pub(crate) async fn cluster(out: &mut String) {
    let installation = Installation::new(Engine::Cluster);
    let process = installation.start("command-api", "command-api");
    process.ready().await;
    let log: Arc<dyn EventLog> = Arc::new(KafkaLog::connect(kafka()).unwrap());
    let script = write_script(RECIPE);
    let sizes = Sizes { command: 1_600, event: 1_200, reply: 1_800 };
    line!(
        out,
        "## Writes, cluster\n`wrk -t1`, creating recipes of {} bytes through the command API and its deciders, beside a bare loop of the same hops in one process: produce a command, write event, reply and input position in one transaction, consume the reply. In turns, medians of {CLUSTER_ROUNDS} rounds of {SECONDS} s, everything warmed.\n\n| callers | Almanac | median | p99 | bare loop | median | rate / bare | median / bare |\n|---|---|---|---|---|---|---|---|",
        RECIPE.len()
    );
    let paths =
        [Bare::start_write_path("transactional").await, Bare::start_write_path("plain").await];
    let mut costs = String::new();
    for callers in [64, 512] {
        let (mut own, mut bare, mut plain) = (Vec::new(), Vec::new(), Vec::new());
        let (mut bare_medians, mut path_rates) = (Vec::new(), [Vec::new(), Vec::new()]);
        let write = |url: &str| wrk_with(url, &script, SECONDS, callers);
        let path_urls = paths.each_ref().map(|path| format!("{}/v1/recipes", path.url));
        let _ = write(&process.url("/v1/recipes"));
        let _ = path_urls.each_ref().map(|url| write(url));
        for _ in 0..CLUSTER_ROUNDS {
            own.push(write(&process.url("/v1/recipes")));
            for (rates, url) in path_rates.iter_mut().zip(&path_urls) {
                rates.push(write(url).rate);
            }
            let time = Duration::from_secs(u64::from(SECONDS));
            for is_transactional in [true, false] {
                let name = unique('b');
                let (log, sizes) = (log.clone(), sizes.clone());
                let seen =
                    hops(log, &name, PARTITIONS, callers.into(), time, sizes, is_transactional);
                let seen = seen.await;
                if is_transactional {
                    bare.push(seen.rate);
                    bare_medians.push(median(seen.milliseconds));
                } else {
                    plain.push(seen.rate);
                }
            }
        }
        let own = middle(&own);
        let (bare, plain, bare_median) = (median(bare), median(plain), median(bare_medians));
        line!(
            out,
            "| {callers} | {:.0}/s | {:.1} ms | {:.1} ms | {bare:.0}/s | {bare_median:.1} ms | {:.2} | {:.2} |",
            own.rate,
            own.p50_ms,
            own.p99_ms,
            own.rate / bare,
            own.p50_ms / bare_median,
        );
        let [with, without] = path_rates.map(median);
        line!(
            costs,
            "| {callers} | {with:.0}/s | {without:.0}/s | {:.0} % | {bare:.0}/s | {plain:.0}/s | {:.0} % |",
            (1.0 - with / without) * 100.0,
            (1.0 - bare / plain) * 100.0
        );
    }
    line!(
        out,
        "\nWhat transactions cost, in the same rounds: Almanac's command API and deciders in a process of their own, and the bare loop, each with transactions and with plain appends in their place.\n\n| callers | Almanac | without transactions | cost | bare loop | without transactions | cost |\n|---|---|---|---|---|---|---|\n{costs}"
    );
    drop((process, paths));
    // Of its own: what was written above would first have to be folded.
    let installation = Installation::new(Engine::Cluster);
    let process = installation.up().await;
    let _ = wrk_with(&process.url("/v1/recipes"), &script, 1, 64);
    let all = wrk_with(&process.url("/v1/recipes"), &script, SECONDS, 64);
    line!(
        out,
        "\nWith every role in the process, and so with Cassandra taking the rows of each recipe (one for each word of its name and description) on the same two cores: {:.0}/s with 64 callers, median {:.1} ms.\n",
        all.rate,
        all.p50_ms
    );
    // What was written is folded before single writes are looked at.
    settle(&process).await;
    readable(out, &process).await;
}

/// Waits until all that was written is folded: a write finds its partition by chance, so it takes
/// some that were all read at once.
async fn settle(process: &Process) {
    const IN_A_ROW: u32 = 24;
    let client = reqwest::Client::new();
    let (mut folded, started) = (0, Instant::now());
    while folded < IN_A_ROW {
        assert!(started.elapsed().as_secs() < 300, "what was written is not folded");
        let write = client.post(process.url("/v1/recipes")).body(RECIPE).send().await.unwrap();
        let token = write.headers()["consistency-token"].clone();
        let read = client.get(process.url("/v1/recipes?limit=1"));
        let read = read.header("consistency-token", token).header("prefer", "wait=5").send();
        let is_stale = read.await.unwrap().headers().contains_key("consistency");
        folded = if is_stale { 0 } else { folded + 1 };
    }
}

/// One write after the other, each followed by a read with its token.
async fn readable(out: &mut String, process: &Process) {
    const WRITES: usize = 300;
    let client = reqwest::Client::builder().tcp_nodelay(true).build().unwrap();
    let (mut writes, mut totals) = (Vec::new(), Vec::new());
    for _ in 0..WRITES {
        let started = Instant::now();
        let write = client.post(process.url("/v1/recipes")).body(RECIPE).send().await.unwrap();
        writes.push(started.elapsed().as_secs_f64() * 1_000.0);
        let header = |name: &str| write.headers()[name].to_str().unwrap().to_owned();
        let (token, location) = (header("consistency-token"), header("location"));
        let read = client
            .get(process.url(&location))
            .header("consistency-token", token)
            .header("prefer", "handling=strict, wait=10")
            .send()
            .await
            .unwrap();
        assert_eq!(read.status(), 200);
        totals.push(started.elapsed().as_secs_f64() * 1_000.0);
    }
    let (write, total) = (median(writes), median(totals));
    line!(
        out,
        "One caller, {WRITES} times: a write takes {write:.1} ms at the median; from its beginning to the answer of a read with its token {total:.1} ms, {:.1} times that.",
        total / write
    );
}
