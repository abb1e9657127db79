//! The page at `/` in a real browser: how soon it can be used, and how evenly a long list scrolls.

use crate::{feeds, line};
use almanac_tests::{
    process::{Engine, Installation},
    provider::Provider,
    root,
};
use axum::{http::StatusCode, response::IntoResponse};
use serde_json::Value;
use tokio::process::Command;

const PLANS: u64 = 10_000;
const ROUNDS: u32 = 5;

pub(crate) async fn report(out: &mut String) {
    line!(out, "## The page");
    for (number, (name, days)) in [("over two years", 730), ("on one day", 1)].iter().enumerate() {
        let measured = of(*days).await;
        if number == 0 {
            line!(
                out,
                "Headless Chromium {} without a GPU, driven by `tests/console/measure.mjs`, on a list of {PLANS} plans \
                 from an `up` of this machine. Until usable: from the start of the navigation with nothing in the \
                 cache until the first plans are shown, and on for as long as a click on a filter needs until its \
                 answer is; medians of {ROUNDS}. Scrolled by a wheel at 9,000 pixels a second, with a click on \"Show \
                 more\" at each end; beside it a page of nothing but {PLANS} plain list items, scrolled by the same.\n",
                text(&measured["browser"])
            );
        }
        opened(out, name, &measured["open"]);
        scrolled(out, name, &measured);
    }
}

/// What `measure.mjs` tells of an installation whose plans lie within so many days.
async fn of(days: u64) -> Value {
    let provider = Provider::start().await;
    provider.serve(feeds::varied_within(PLANS, days));
    let installation = Installation::new(Engine::Embedded).with_provider("feed", &provider.url());
    let process = installation.up().await;
    process
        .until("all plans", || async {
            (process.provider("feed").await?["listed_plans"] == PLANS).then_some(())
        })
        .await;
    provider.answer(|_, _| StatusCode::NOT_MODIFIED.into_response());
    process
        .until("the index", || async { process.log().contains("plans are indexed").then_some(()) })
        .await;
    let scripts = root().join("tests/console");
    assert!(scripts.join("node_modules").exists(), "`make clients` installs what drives a browser");
    let measure = Command::new("node")
        .arg(scripts.join("measure.mjs"))
        .args([process.url(""), PLANS.to_string(), ROUNDS.to_string()])
        .kill_on_drop(true)
        .output()
        .await
        .expect("node is installed");
    assert!(measure.status.success(), "{}", String::from_utf8_lossy(&measure.stderr));
    serde_json::from_slice(&measure.stdout).expect("measure.mjs prints JSON")
}

fn opened(out: &mut String, name: &str, open: &Value) {
    let ms = |name: &str| open[name].as_f64().unwrap_or(f64::NAN);
    let tasks = open["long_tasks"].as_array().into_iter().flatten();
    let tasks: Vec<f64> = tasks
        .flat_map(|one| one.as_array().into_iter().flatten())
        .filter_map(Value::as_f64)
        .collect();
    line!(
        out,
        "| {PLANS} plans {name}, opened with nothing in the cache | figure |\n|---|---|\n\
         | first contentful paint | {:.0} ms |\n\
         | first plans shown | {:.0} ms |\n\
         | a click on a filter, until its answer is shown | {:.0} ms |\n\
         | until usable (slowest) | {:.0} ms ({:.0} ms) |\n\
         | tasks over 50 ms in all rounds, and the longest | {}, {:.0} ms |\n\
         | requests, bytes | {}, {} |\n",
        ms("paint_ms"),
        ms("shown_ms"),
        ms("click_ms"),
        ms("interactive_ms"),
        ms("slowest_interactive_ms"),
        tasks.len(),
        tasks.iter().copied().fold(0.0, f64::max),
        open["requests"],
        open["bytes"],
    );
}

fn scrolled(out: &mut String, name: &str, measured: &Value) {
    line!(
        out,
        "| scrolled, plans {name} | items | frames | median | p99 | longest | over 50 ms | longest task |\n\
         |---|---|---|---|---|---|---|---|"
    );
    let (list, plain) = (&measured["scroll"], &measured["plain"]);
    for (what, items, figures) in [
        ("the list", list["plans"].as_u64(), list),
        ("plain items", Some(PLANS), plain),
        ("the list, from end to end by keys", list["plans"].as_u64(), &list["jumps"]),
        ("plain items, from end to end by keys", Some(PLANS), &plain["jumps"]),
    ] {
        let ms = |name: &str| figures[name].as_f64().unwrap_or(f64::NAN);
        line!(
            out,
            "| {what} | {} | {} | {:.1} ms | {:.1} ms | {:.1} ms | {} | {:.0} ms |",
            items.unwrap_or(0),
            figures["frames"],
            ms("median_ms"),
            ms("p99_ms"),
            ms("longest_ms"),
            figures["over_50_ms"],
            ms("longest_task_ms"),
        );
    }
    line!(out, "");
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}
