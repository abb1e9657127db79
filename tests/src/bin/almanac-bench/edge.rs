//! What identity, limits and telemetry cost a read, what is answered under more load than there is room for,
//! and what connections cost that ask nothing.

use crate::{
    feeds::scattered,
    line,
    load::{Load, Starts, choosing_script_with, script_with, wrk},
    resident_mb,
    search::{medians, serving},
};
use almanac_tests::{collector::Collector, process::Engine};
use std::process::Command;
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

const LISTS: u64 = 5_000;
const CALLERS: u32 = 1_000;
/// What an answer takes where it is not refused, in this part: subtracted from the pauses of callers.
const ANSWER_MS: f64 = 45.0;

/// Lists of 200 plans cost the server far more than the load generator, and a refusal far less than a list.
async fn overload(out: &mut String) {
    let (_folder, process) = serving(Engine::Embedded, PLANS, "limits.shed_above = \"5ms\"").await;
    // Each has a core of its own, so that what is measured is not which of both gets the processor.
    keep_to_core(process.id(), 0);
    let (base, paths) = (process.url(""), lists());
    let peak = [16, 64].map(|callers| asking(&base, &paths, callers, 0, 5).answered);
    let peak = peak.into_iter().fold(0.0, f64::max);
    let pause = f64::from(CALLERS) / (2.0 * peak) * 1_000.0 - ANSWER_MS;
    asking(&base, &paths, CALLERS, pause as u64, 5);
    let over = asking(&base, &paths, CALLERS, pause as u64, 20);
    line!(
        out,
        "\nLists of 200 plans by price, from {LISTS} times on, `limits.shed_above` 5 ms; the server has one core, the load the other. Callers without a pause are answered {peak:.0} times a second at most. {CALLERS} callers who ask again {pause:.0} ms after each answer or refusal, for 20 s: {:.0} requests a second ({:.1} times as many), {:.0} of them answered ({:.2} of the most), p99 of the answered below {:.0} ms.\n",
        over.asked,
        over.asked / peak,
        over.answered,
        over.answered / peak,
        over.p99_ms
    );
}

struct Asked {
    asked: f64,
    answered: f64,
    /// Of those that were answered, if refusals take no longer; otherwise it is less.
    p99_ms: f64,
}

fn lists() -> Vec<String> {
    (0..LISTS)
        .map(|number| {
            let start = 1_924_992_000 + scattered(number) % (600 * DAY);
            let start = jiff::Timestamp::from_second(start.cast_signed()).unwrap();
            format!("/v1/plans?sort=price&limit=200&starts_from={start}")
        })
        .collect()
}

/// `wrk` on the second core, which counts what is answered with 200.
fn asking(base: &str, paths: &[String], callers: u32, pause_ms: u64, seconds: u32) -> Asked {
    let delay = format!("function delay() return {pause_ms} end\n");
    let counting = "local threads = {}\nfunction setup(thread) table.insert(threads, thread) end\n\
        answered = 0\nfunction response(status) if status == 200 then answered = answered + 1 end end\n\
        function done(summary, latency)\n local ok = threads[1]:get('answered')\n\
        print('asked', summary.requests / summary.duration * 1e6)\n\
        print('answered', ok / summary.duration * 1e6)\n\
        print('p99_ms', latency:percentile(100 - ok / summary.requests) / 1e3)\nend\n";
    let more = if pause_ms > 0 { delay + counting } else { counting.to_owned() };
    let script = choosing_script_with("lists", paths, &more);
    let output = Command::new("taskset")
        .args(["-c", "1", "wrk", "-t1", "-c", &callers.to_string(), "-d"])
        .arg(format!("{seconds}s"))
        .arg("-s")
        .arg(script)
        .arg(base)
        .output()
        .expect("wrk and taskset (Debian: wrk, util-linux)");
    let text = String::from_utf8_lossy(&output.stdout);
    let figure = |name: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('\t'));
        rest.and_then(|figure| figure.parse().ok()).unwrap_or_else(|| panic!("{name}: {text}"))
    };
    Asked { asked: figure("asked"), answered: figure("answered"), p99_ms: figure("p99_ms") }
}

/// All threads of a process.
fn keep_to_core(process: u32, core: u32) {
    let run =
        Command::new("taskset").args(["-acp", &core.to_string(), &process.to_string()]).output();
    assert!(run.is_ok_and(|run| run.status.success()), "taskset: two cores and util-linux");
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
