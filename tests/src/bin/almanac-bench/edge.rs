//! What identity, limits and telemetry cost a read, what is answered under more load than there is room for,
//! and what connections cost that ask nothing.

use crate::{
    line,
    load::{Load, Starts, script_with, wrk},
    median, percentile_99, resident_mb,
    search::{medians, serving},
};
use almanac_tests::{collector::Collector, process::Engine};
use reqwest::StatusCode;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const ROUNDS: usize = 5;
const SECONDS: u32 = 3;
const PLANS: u64 = 10_000;
const IDLE: usize = 10_000;
const DAY: u64 = 86_400;

/// Bounds that no load generator on this machine reaches.
const LIMITS: &str = "limits.search = { rate = 10000000.0 }\nlimits.read = { rate = 10000000.0 }\nlimits.concurrency = 10000";

pub(crate) async fn report(out: &mut String) {
    line!(
        out,
        "## The edge\n`wrk -t1 -c64`, {PLANS} plans, embedded. In turns, medians of {ROUNDS} rounds: a process that knows no caller, and one that checks a bearer token, counts the caller's requests against its limits, and sends spans of one in a hundred requests to a collector.\n"
    );
    cost(out).await;
    overload(out).await;
    idle(out).await;
}

async fn cost(out: &mut String) {
    let collector = Collector::default();
    let telemetry = format!(
        "telemetry.otlp.endpoint = \"{}\"\ntelemetry.otlp.sample_ratio = 0.01",
        collector.start().await
    );
    let lines = format!("{LIMITS}\n{telemetry}");
    let (_plain_folder, plain) = serving(Engine::Embedded, PLANS, "").await;
    let (folder, guarded) = serving(Engine::Embedded, PLANS, &lines).await;
    let minted = folder.command("up", &["token", "--scope", "recipes:write"]);
    let token = String::from_utf8(minted.stdout).unwrap();
    let header = format!("wrk.headers['Authorization'] = 'Bearer {}'\n", token.trim());
    line!(
        out,
        "| windows | plain | guarded | guarded / plain | p99 plain | p99 guarded |\n|---|---|---|---|---|---|"
    );
    for (what, seconds) in [("one day", DAY), ("thirty days", 30 * DAY)] {
        let scripts = [
            script_with("plain", seconds, Starts::Random, ""),
            script_with("guarded", seconds, Starts::Random, &header),
        ];
        let mut loads: [Vec<Load>; 2] = Default::default();
        for _ in 0..ROUNDS {
            for ((process, script), loads) in
                [&plain, &guarded].iter().zip(&scripts).zip(&mut loads)
            {
                loads.push(wrk(&process.url(""), script, SECONDS));
            }
        }
        let [plain, guarded] = loads.map(medians);
        line!(
            out,
            "| {what}, random starts | {:.0}/s | {:.0}/s | {:.2} | {:.1} ms | {:.1} ms |",
            plain.rate,
            guarded.rate,
            guarded.rate / plain.rate,
            plain.p99_ms,
            guarded.p99_ms,
        );
    }
}

/// Lists of 500 plans cost the server far more than the client, so that one machine has room for both.
const COSTLY: &str = "/v1/plans?sort=price&limit=500";

async fn overload(out: &mut String) {
    let (_folder, process) = serving(Engine::Embedded, PLANS, "limits.shed_above = \"50ms\"").await;
    let url = process.url(COSTLY);
    let peak = closed_loop(&url, 64, Duration::from_secs(8)).await;
    let open = open_loop(&url, 2.0 * peak, Duration::from_secs(10)).await;
    line!(
        out,
        "\nLists of 500 plans by price: 64 callers without a pause are answered {peak:.0} times a second. With twice as many requests a second, whoever is answered or not: {:.0} answers a second ({:.2} of that), {:.0} refusals; the answers' median is {:.0} ms, p99 {:.0} ms.\n",
        open.answered,
        open.answered / peak,
        open.refused,
        open.median_ms,
        open.p99_ms
    );
}

async fn closed_loop(url: &str, callers: usize, time: Duration) -> f64 {
    let answered = Arc::new(AtomicU64::new(0));
    let until = Instant::now() + time;
    let callers = (0..callers).map(|_| {
        let (url, answered) = (url.to_owned(), answered.clone());
        tokio::spawn(async move {
            let client = reqwest::Client::builder().tcp_nodelay(true).build().unwrap();
            while Instant::now() < until {
                let answer = client.get(&url).send().await.unwrap();
                let is_ok = answer.status() == StatusCode::OK;
                if answer.bytes().await.is_ok() && is_ok {
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    answered.load(Ordering::Relaxed) as f64 / time.as_secs_f64()
}

struct Open {
    answered: f64,
    refused: f64,
    median_ms: f64,
    p99_ms: f64,
}

/// So many requests a second, each in its time, however the ones before fare.
async fn open_loop(url: &str, rate: f64, time: Duration) -> Open {
    let client = reqwest::Client::builder()
        .tcp_nodelay(true)
        .timeout(Duration::from_secs(30))
        .build()
        .unwrap();
    let (started, mut sent, mut requests) = (Instant::now(), 0_u64, tokio::task::JoinSet::new());
    while started.elapsed() < time {
        let due = (started.elapsed().as_secs_f64() * rate) as u64;
        for _ in sent..due {
            let request = client.get(url);
            requests.spawn(async move {
                let began = Instant::now();
                let answer = request.send().await.ok()?;
                let status = answer.status();
                answer.bytes().await.ok()?;
                Some((status, began.elapsed().as_secs_f64() * 1_000.0))
            });
        }
        sent = due;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let (mut times, mut refused) = (Vec::new(), 0_u64);
    while let Some(ended) = requests.join_next().await {
        match ended.unwrap() {
            Some((StatusCode::OK, took)) => times.push(took),
            Some((StatusCode::SERVICE_UNAVAILABLE, _)) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    Open {
        answered: times.len() as f64 / seconds,
        refused: refused as f64 / seconds,
        median_ms: median(times.clone()),
        p99_ms: percentile_99(times),
    }
}

async fn idle(out: &mut String) {
    let lines = format!("http.max_connections = {}", IDLE + 1_000);
    let (_folder, process) = serving(Engine::Embedded, PLANS, &lines).await;
    let address = process.url("").trim_start_matches("http://").to_owned();
    let before = resident_mb(process.id()).0;
    let mut connections = Vec::with_capacity(IDLE);
    for _ in 0..IDLE {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut answer = [0; 64];
        assert!(stream.read(&mut answer).await.unwrap() > 0);
        connections.push(stream);
    }
    let after = resident_mb(process.id()).0;
    line!(
        out,
        "{} connections that have asked once and are left open: the process has {after} MB instead of {before}.",
        connections.len()
    );
}
