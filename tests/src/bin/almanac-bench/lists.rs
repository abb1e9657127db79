//! Questions about plans, each with random values, beside windows of a day from `/search`.

use crate::{
    feeds::{self, PRICES, WORDS, scattered, word},
    line,
    load::{Starts, choosing_script, script, wrk},
    median, resident_mb,
    search::count,
};
use almanac_tests::{
    process::{Engine, Installation, Process, client},
    provider::Provider,
};
use axum::{http::StatusCode, response::IntoResponse};
use std::{
    path::Path,
    time::{Duration, Instant},
};

const ROUNDS: usize = 3;
const SECONDS: u32 = 2;
/// Addresses of each kind.
const ADDRESSES: u64 = 5_000;
const PATIENCE: Duration = Duration::from_secs(300);

pub(crate) async fn report(out: &mut String) {
    for plans in [10_000, 1_000_000] {
        of(out, plans).await;
    }
}

async fn of(out: &mut String, plans: u64) {
    let provider = Provider::start().await;
    provider.serve(feeds::varied(plans));
    let installation = Installation::new(Engine::Embedded).with_provider("feed", &provider.url());
    let mut process = installation.up().await;
    until("all plans", || async {
        let seen = process.provider("feed").await;
        seen.is_some_and(|seen| seen["listed_plans"] == plans)
    })
    .await;
    provider.answer(|_, _| StatusCode::NOT_MODIFIED.into_response());
    let first = process.log().len();
    assert!(process.stop().success());
    let started = Instant::now();
    let process = installation.up().await;
    let ready = started.elapsed().as_secs_f64();
    until("the index", || async { process.log()[first..].contains("plans are indexed") }).await;
    let indexed = started.elapsed().as_secs_f64();
    let memory = resident_mb(process.id()).0;
    line!(out, "## Questions about {plans} plans");
    line!(
        out,
        "`wrk -t1 -c64`, embedded, each question with random values, pages of 50, medians of {ROUNDS} rounds, \
         each beside windows of a day from `/search` in the same rounds. `up` is ready after {ready:.2} s and \
         has indexed all plans after {indexed:.1} s; the process has {memory} MB then.\n"
    );
    line!(out, "| question | bytes | rate | p99 | rate / search |\n|---|---|---|---|---|");
    let ids = ids(&process, plans).await;
    let day = script(86_400, Starts::Random);
    for (name, question) in QUESTIONS {
        let paths: Vec<String> = (0..ADDRESSES)
            .map(|number| {
                let random = |salt: u64| scattered(number * 8 + salt);
                format!("/v1/plans?{}", question(&random, plans, &ids))
            })
            .collect();
        let script = choosing_script(&format!("plans {name}"), &paths);
        let loads: Vec<_> =
            (0..ROUNDS).map(|_| (ask(&process, &script), ask(&process, &day).rate)).collect();
        let rate = median(loads.iter().map(|(load, _)| load.rate).collect());
        line!(
            out,
            "| {name} | {:.0} | {rate:.0}/s | {:.1} ms | {:.2} |",
            median(loads.iter().map(|(load, _)| load.bytes).collect()),
            median(loads.iter().map(|(load, _)| load.p99_ms).collect()),
            rate / median(loads.iter().map(|(_, day)| *day).collect()),
        );
    }
    assert!(count(&process).await as u64 >= plans);
}

fn ask(process: &Process, script: &Path) -> crate::load::Load {
    wrk(&process.url(""), script, SECONDS)
}

async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Some plans of every other week.
async fn ids(process: &Process, plans: u64) -> Vec<String> {
    let mut ids = Vec::new();
    for week in 0..50 {
        let from = feeds_begin() + week * 14 * 86_400;
        let at = |seconds: i64| jiff::Timestamp::from_second(seconds).unwrap();
        let path = format!("/v1/plans?limit=200&starts_from={}", at(from));
        let page = client().get(process.url(&path)).send().await.unwrap();
        let page: serde_json::Value = serde_json::from_str(&page.text().await.unwrap()).unwrap();
        let items = page["items"].as_array().cloned().unwrap_or_default();
        ids.extend(items.iter().filter_map(|plan| Some(plan["id"].as_str()?.to_owned())));
    }
    assert!(!ids.is_empty(), "of {plans} plans");
    ids
}

fn feeds_begin() -> i64 {
    jiff::civil::date(2031, 1, 1).to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp().as_second()
}

fn time(seconds: u64) -> String {
    let time = jiff::Timestamp::from_second(feeds_begin() + (seconds % (700 * 86_400)) as i64);
    time.unwrap().to_string()
}

/// The query of an address, from random numbers by their salt, how many plans there are, and some ids.
type Question = fn(&dyn Fn(u64) -> u64, u64, &[String]) -> String;

fn beginning(random: u64) -> String {
    word(random % WORDS)[..4].to_owned()
}

const QUESTIONS: [(&str, Question); 14] = [
    ("a word", |random, _, _| format!("q={}", word(random(0) % WORDS))),
    ("a beginning of a word, by price", |random, _, _| {
        format!("q={}&sort=price", beginning(random(0)))
    }),
    ("two beginnings of words, by price downwards", |random, _, _| {
        format!("q={}+{}&sort=-price", beginning(random(0)), &word(random(1) % WORDS)[..2])
    }),
    ("a price range, by price", |random, _, _| {
        let low = random(0) % PRICES;
        format!("min_price={low}&max_price={}.5&sort=price", low + 5)
    }),
    ("a price range, by start", |random, _, _| {
        let low = random(0) % PRICES;
        format!("min_price={low}&max_price={}.5", low + 5)
    }),
    ("a provider, by price downwards, below a price", |random, _, _| {
        format!("provider=feed&sort=-price&max_price={}", random(0) % PRICES)
    }),
    ("an organizer, by price", |random, _, _| {
        format!("organizer_id={}&sort=price", random(0) % 40)
    }),
    ("a base plan", |random, plans, _| format!("base_plan_id=b{}", random(0) % plans)),
    ("an id", |random, _, ids| format!("id={}", ids[random(0) as usize % ids.len()])),
    ("a start within a day, by price", |random, _, _| {
        let start = random(0);
        format!("starts_from={}&starts_until={}&sort=price", time(start), time(start + 86_400))
    }),
    ("running at some hour, downwards", |random, _, _| {
        let start = random(0);
        format!("overlaps_from={}&overlaps_until={}&sort=-start", time(start), time(start + 3_600))
    }),
    ("on sale, from a time on", |random, _, _| format!("sale=on&starts_from={}", time(random(0)))),
    ("sold out, by price", |random, _, _| {
        format!("sale=sold_out&sort=price&min_price={}", random(0) % PRICES)
    }),
    ("words, prices, sale, organizer and times, by price", |random, _, _| {
        let (low, start) = (random(0) % PRICES, random(1));
        format!(
            "q={}&min_price={low}&max_price={}&sale=on&sale=upcoming&organizer_id={}&starts_from={}&sort=price",
            beginning(random(2)),
            low + 100,
            random(3) % 40,
            time(start / 2),
        )
    }),
];
