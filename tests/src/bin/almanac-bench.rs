//! `make bench`: measures beside a baseline in the same run and prints a report in Markdown.
//!
//!   almanac-bench report [NAME…]  run everything, or the sections named
//!   almanac-bench bare FILE PORT  the baseline server: answers the bytes of FILE from memory

use almanac_tests::{
    process::{Engine, Installation, Process, client},
    provider::Provider,
};
use axum::{Router, response::IntoResponse, routing::get};
use std::{
    fmt::Write as _,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const ROUNDS: usize = 3;
const SECONDS: &str = "3s";

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["bare", file, port] => bare(file, port).await,
        ["report", sections @ ..] => report(sections).await,
        _ => panic!("usage: almanac-bench report [{}] | bare FILE PORT", SECTIONS.join("|")),
    }
}

async fn bare(file: &str, port: &str) {
    let body = bytes::Bytes::from(std::fs::read(file).expect("the file is there"));
    let answer = move || {
        let body = body.clone();
        async move { ([("content-type", "application/json")], body).into_response() }
    };
    let router = Router::new().route("/search", get(answer));
    let listener =
        tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await.expect("a port");
    let listener = axum::serve::ListenerExt::tap_io(listener, |stream| {
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, router).await.expect("it serves");
}

const SECTIONS: [&str; 6] =
    ["search", "ingest-embedded", "change-embedded", "ingest-cluster", "change-cluster", "start"];

async fn report(wanted: &[&str]) {
    // Each section is printed when it is done: a run that is cut short still says something.
    for section in SECTIONS {
        if !wanted.is_empty() && !wanted.contains(&section) {
            continue;
        }
        let mut out = String::new();
        match section {
            "search" => search(&mut out).await,
            "ingest-embedded" => ingest(&mut out, Engine::Embedded).await,
            "change-embedded" => change_to_visible(&mut out, Engine::Embedded).await,
            "ingest-cluster" => ingest(&mut out, Engine::Cluster).await,
            "change-cluster" => change_to_visible(&mut out, Engine::Cluster).await,
            _ => startup(&mut out).await,
        }
        print!("{out}");
    }
}

/// A feed of plans spread evenly over 24 months, with distinct starts.
fn feed(plans: u64, version: u64) -> String {
    let mut out = String::with_capacity(plans as usize * 420);
    out.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?><planList><output>\n");
    let step = 730 * 86_400 / plans.max(1);
    for plan in 0..plans {
        let second = plan * step;
        let (day, rest) = (second / 86_400, second % 86_400);
        let (year, month, day) = (2031 + day / 365, day % 365 / 31 + 1, day % 365 % 28 + 1);
        let (hour, minute, second) = (rest / 3_600, rest % 3_600 / 60, rest % 60);
        let date = format!("{year}-{month:02}-{day:02}");
        let start = format!("{date}T{hour:02}:{minute:02}:{second:02}");
        let _ = write!(
            out,
            "<base_plan base_plan_id=\"b{plan}\" sell_mode=\"online\" organizer_company_id=\"{}\" title=\"Camela en concierto {plan}\">\
             <plan plan_id=\"{plan}\" plan_start_date=\"{start}\" plan_end_date=\"{date}T23:59:59\" \
             sell_from=\"2030-07-01T00:00:00\" sell_to=\"{start}\" sold_out=\"false\">\
             <zone zone_id=\"40\" capacity=\"{}\" price=\"20.00\" name=\"Platea\" numbered=\"true\"/>\
             <zone zone_id=\"38\" capacity=\"100\" price=\"15.00\" name=\"Grada 2\" numbered=\"false\"/>\
             </plan></base_plan>\n",
            plan % 40,
            243 + version,
        );
    }
    out.push_str("</output></planList>\n");
    out
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

async fn count(process: &Process) -> usize {
    let text =
        client().get(process.url("/search")).send().await.unwrap().text().await.unwrap_or_default();
    text.matches("\"id\":").count()
}

fn resident_mb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) / 1024
}

async fn startup(out: &mut String) {
    let mut empty = Vec::new();
    let mut idle = 0;
    for _ in 0..3 {
        let installation =
            Installation::new(Engine::Embedded).with_provider("none", "http://127.0.0.1:1/");
        let started = Instant::now();
        let process = installation.up().await;
        empty.push(started.elapsed().as_secs_f64());
        tokio::time::sleep(Duration::from_secs(2)).await;
        idle = resident_mb(process.id());
    }
    let _ = writeln!(out, "## Start\n| what | figure |\n|---|---|");
    let _ = writeln!(
        out,
        "| `up` on an empty folder, until ready (median of 3) | {:.2} s |",
        median(empty)
    );
    let _ = writeln!(out, "| resident memory, idle | {idle} MB |");
    let provider = Provider::start().await;
    provider.serve(feed(1_000_000, 0));
    let installation =
        Installation::new(Engine::Embedded).with_provider("million", &provider.url());
    let mut process = installation.up().await;
    let before = resident_mb(process.id());
    let started = Instant::now();
    let mut peak = before;
    let deadline = Instant::now() + Duration::from_secs(240);
    loop {
        peak = peak.max(resident_mb(process.id()));
        let seen = process.provider("million").await;
        if seen.is_some_and(|seen| seen["last_outcome"] != "failed") || Instant::now() > deadline {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let took = started.elapsed();
    let _ = writeln!(
        out,
        "| a feed of 1,000,000 plans ({} MB), until folded | {:.1} s |",
        feed(1_000_000, 0).len() >> 20,
        took.as_secs_f64()
    );
    let _ = writeln!(
        out,
        "| resident memory before / peak meanwhile, caches included | {before} / {peak} MB |"
    );
    assert!(process.stop().success());
    let started = Instant::now();
    let process = installation.up().await;
    let _ = writeln!(
        out,
        "| `up` with a million plans, until ready | {:.2} s |",
        started.elapsed().as_secs_f64()
    );
    let _ = writeln!(
        out,
        "\n| with 1,000,000 plans | Almanac | bare | ratio | p99 |\n|---|---|---|---|---|"
    );
    windows(out, "windows of about as many rows as one day has of 10,000", &process, 883, "random");
    out.push('\n');
}

/// A wrk script that asks for windows of `seconds`.
fn script(seconds: u64, kind: &str) -> std::path::PathBuf {
    let path =
        std::env::temp_dir().join(format!("almanac-{kind}-{seconds}-{}.lua", std::process::id()));
    let random = if kind == "random" { "math.random(0, 23 * 30 * 86400)" } else { "8640000" };
    let text = format!(
        "math.randomseed(os.time())\nlocal base = os.time{{year=2031, month=1, day=1, hour=0}}\n\
         local function at(t) return os.date('!%Y-%m-%dT%H:%M:%SZ', t) end\n\
         request = function()\n local s = base + {random}\n\
         return wrk.format('GET', '/search?starts_at=' .. at(s) .. '&ends_at=' .. at(s + {seconds}))\nend\n"
    );
    std::fs::write(&path, text).expect("a temporary file");
    path
}

struct Load {
    rate: f64,
    p99_ms: f64,
}

fn wrk(url: &str, script: &std::path::Path) -> Load {
    let output = Command::new("wrk")
        .args(["-t1", "-c64", "-d", SECONDS, "--latency", "-s"])
        .arg(script)
        .arg(url)
        .output()
        .expect("wrk is installed (Debian: apt-get install wrk)");
    let text = String::from_utf8_lossy(&output.stdout);
    let number = |name: &str| {
        text.lines()
            .find_map(|line| line.trim().strip_prefix(name))
            .map(|rest| rest.trim().to_owned())
    };
    let rate = number("Requests/sec:").and_then(|rate| rate.parse().ok()).unwrap_or(0.0);
    let p99 = number("99%").unwrap_or_default();
    let p99_ms = match p99.strip_suffix("ms") {
        Some(ms) => ms.parse().unwrap_or(0.0),
        None => match p99.strip_suffix("us") {
            Some(us) => us.parse::<f64>().unwrap_or(0.0) / 1_000.0,
            None => p99.trim_end_matches('s').parse::<f64>().unwrap_or(0.0) * 1_000.0,
        },
    };
    Load { rate, p99_ms }
}

struct Bare(Child);

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn windows(out: &mut String, what: &str, process: &Process, seconds: u64, kind: &str) {
    let script = script(seconds, kind);
    // The bare server answers the bytes of one such window.
    let sample = std::process::Command::new("curl")
        .args([
            "-s",
            &process.url(&format!(
                "/search?starts_at=2031-04-10T00:00:00Z&ends_at={}",
                end_of(seconds)
            )),
        ])
        .output()
        .expect("curl");
    let file = std::env::temp_dir().join(format!("almanac-bare-{}.json", std::process::id()));
    std::fs::write(&file, &sample.stdout).expect("a temporary file");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let bare = Bare(
        Command::new(std::env::current_exe().unwrap())
            .args(["bare", file.to_str().unwrap(), &port.to_string()])
            .stdin(Stdio::null())
            .spawn()
            .unwrap(),
    );
    std::thread::sleep(Duration::from_millis(300));
    let bare_url = format!("http://127.0.0.1:{port}");
    let own_url = process.url("");
    let (mut own, mut base, mut p99) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        base.push(wrk(&bare_url, &script).rate);
        let load = wrk(&own_url, &script);
        own.push(load.rate);
        p99.push(load.p99_ms);
    }
    drop(bare);
    let (own, base, p99) = (median(own), median(base), median(p99));
    let _ = writeln!(
        out,
        "| {what}: {} bytes | {own:.0}/s | {base:.0}/s | {:.2} | {p99:.1} ms |",
        sample.stdout.len(),
        own / base,
    );
}

fn end_of(seconds: u64) -> String {
    let start = 1_933_545_600 + seconds;
    let output = Command::new("date")
        .args(["-u", "-d", &format!("@{start}"), "+%Y-%m-%dT%H:%M:%SZ"])
        .output()
        .expect("date");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

async fn search(out: &mut String) {
    let provider = Provider::start().await;
    provider.serve(feed(10_000, 0));
    let installation =
        Installation::new(Engine::Embedded).with_provider("ten", &provider.url()).with("");
    let process = installation.up().await;
    process
        .until("ten thousand plans", || async { (count(&process).await >= 10_000).then_some(()) })
        .await;
    // An endless unchanged feed would be measured along.
    provider.answer(|_, _| axum::http::StatusCode::NOT_MODIFIED.into_response());
    let _ = writeln!(
        out,
        "## Search\n`wrk -t1 -c64`, 10,000 plans in 24 months, beside a bare axum server that answers the same number of bytes from memory, in turns, medians of {ROUNDS} rounds.\n\n| what | Almanac | bare | ratio | p99 |\n|---|---|---|---|---|"
    );
    windows(out, "one-day windows, random starts", &process, 86_400, "random");
    windows(out, "one window, repeated", &process, 86_400, "same");
    windows(out, "thirty-day windows, random starts", &process, 30 * 86_400, "random");
    out.push('\n');
}

async fn ingest(out: &mut String, engine: Engine) {
    const PLANS: u64 = 100_000;
    let body = feed(PLANS, 0);
    let mut bare = Vec::new();
    for _ in 0..3 {
        let started = Instant::now();
        parse_and_encode(&body);
        bare.push(started.elapsed().as_secs_f64());
    }
    let bare = PLANS as f64 / median(bare);
    let mut rates = Vec::new();
    for _ in 0..3 {
        let provider = Provider::start().await;
        let first_byte = std::sync::Arc::new(parking_lot::Mutex::new(None));
        let (served, text) = (first_byte.clone(), body.clone());
        let installation = Installation::new(engine).with_provider("hundred", &provider.url());
        let process = installation.up().await;
        provider.answer(move |_, _| {
            served.lock().get_or_insert_with(Instant::now);
            text.clone().into_response()
        });
        // The observation is the last event of a fetch: once it is in the tables of its partition,
        // only the other partitions' last batches may be missing.
        process
            .until("the feed, visible", || async {
                let seen = process.provider("hundred").await?;
                let done =
                    seen["last_body"]["listed"] == PLANS || seen["last_outcome"] == "unchanged";
                (done && count(&process).await >= PLANS as usize).then_some(())
            })
            .await;
        let started = first_byte.lock().expect("it was fetched");
        rates.push(PLANS as f64 / started.elapsed().as_secs_f64());
    }
    let rate = median(rates);
    let _ = writeln!(
        out,
        "## Ingest, {engine:?}\nA feed of 100,000 plans ({} MB), from the request for it to all of it visible in search; the bare loop parses the same bytes with the same XML reader and encodes the same number of Avro events, and does nothing else. Medians of 3.\n\n| Almanac | bare loop | ratio |\n|---|---|---|\n| {rate:.0} plans/s | {bare:.0} plans/s | {:.2} |\n",
        body.len() >> 20,
        rate / bare
    );
}

/// What no ingestor can do without.
fn parse_and_encode(body: &str) -> usize {
    almanac_tests::baseline::parse_and_encode(body)
}

async fn change_to_visible(out: &mut String, engine: Engine) {
    let provider = Provider::start().await;
    provider.serve(almanac_tests::provider::feed(50, 0));
    let installation = Installation::new(engine).with_provider("live", &provider.url());
    let process = installation.up().await;
    process.until("plans", || async { (!process.search("").await.is_empty()).then_some(()) }).await;
    let mut took = Vec::new();
    for version in 1..60_u64 {
        let title = format!("Fresh {version}");
        let body = almanac_tests::provider::feed(50, 0).replace("Plan 7\"", &format!("{title}\""));
        provider.serve(body);
        let found = process
            .until("the change", || async {
                let text =
                    client().get(process.url("/search")).send().await.ok()?.text().await.ok()?;
                text.contains(&title).then(std::time::SystemTime::now)
            })
            .await;
        let (_, page) = process.get("/v1/plans?q=fresh").await;
        let id = page["items"][0]["id"].as_str().unwrap_or_default().to_owned();
        let (_, history) = process.get(&format!("/v1/plans/{id}/history?limit=500")).await;
        let last =
            history["items"].as_array().and_then(|items| items.last().cloned()).unwrap_or_default();
        let at: Option<std::time::SystemTime> = last["occurred_at"]
            .as_str()
            .and_then(|text| text.parse::<jiff::Timestamp>().ok())
            .map(std::time::SystemTime::from);
        if let Some(took_s) = at.and_then(|at| found.duration_since(at).ok()) {
            took.push(took_s.as_secs_f64() * 1_000.0);
        }
    }
    took.sort_by(f64::total_cmp);
    let p99 = took.get(took.len() * 99 / 100).or(took.last()).copied().unwrap_or(0.0);
    let _ = writeln!(
        out,
        "## Change to visible, {engine:?}\nFrom the beginning of the fetch that brings a change (so request, parsing and commit are in it) to an answer that shows it, asked for every 25 ms.\n\n| median | p99 |\n|---|---|\n| {:.0} ms | {p99:.0} ms |\n",
        median(took),
    );
}
