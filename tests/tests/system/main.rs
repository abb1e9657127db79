//! The whole way on both engines: feed, log, projection, search; and what consumers see.

mod doctor;
mod feeds;
mod folder;
mod groups;
mod moving;
mod organizers;
mod pausing;
mod trace;
mod traces;
mod troubles;

use almanac_tests::{
    address, oracle,
    process::{Engine, Installation, Process, client},
    provider::{Provider, feed},
};
use axum::{
    http::{StatusCode, header},
    response::IntoResponse,
};
use serde_json::{Value, json};
use std::path::PathBuf;

const ENGINES: [Engine; 2] = [Engine::Embedded, Engine::Cluster];

fn data(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Waits for a fetch of the provider that began after now and had this outcome.
async fn observed(process: &Process, name: &str, outcome: &str) -> Value {
    let before = process.provider(name).await;
    process
        .until(&format!("{outcome} fetch of {name}"), || async {
            let seen = process.provider(name).await?;
            let field = if outcome == "failed" || outcome == "suspect" {
                "last_failure_at"
            } else {
                "last_success_at"
            };
            let is_new = before.as_ref().is_none_or(|before| before[field] != seen[field]);
            (is_new && seen["last_outcome"] == outcome).then_some(seen)
        })
        .await
}

async fn titles(process: &Process, query: &str) -> Vec<String> {
    let events = process.search(query).await;
    events.iter().map(|event| event["title"].as_str().unwrap().to_owned()).collect()
}

/// What both engines must answer alike: everything but times of observation.
async fn sample_answers(engine: Engine) -> Vec<Value> {
    let provider = Provider::start().await;
    provider.serve(data("feed-1.xml"));
    let installation = Installation::new(engine).with_provider("fever", &provider.url());
    let mut process = installation.up().await;
    process
        .until("first plans", || async { (process.search("").await.len() == 4).then_some(()) })
        .await;
    let mut answers = vec![json!(process.search("").await)];
    assert_eq!(answers[0][0]["min_price"].to_string(), "55.0");
    let all = titles(&process, "").await;
    assert_eq!(all, ["Pantomima Full", "Pantomima Full", "Camela en concierto", "Los Morancos"]);

    provider.serve(data("feed-2.xml"));
    // Its one impossible plan is named, also by the later fetches that find nothing new.
    process
        .until("the second feed", || async {
            let seen = process.provider("fever").await?;
            (seen["last_body"]["faults"][0]["subject"] == "plan 444/1642").then_some(())
        })
        .await;
    process
        .until("the changed plan", || async {
            let plans = process.search("starts_at=2021-07-31T17:59:59Z").await;
            (plans.first()?["end_time"] == "21:20:00").then_some(())
        })
        .await;
    let found = process.search("starts_at=2021-06-30T00:00:00Z&ends_at=2021-07-31T19:20:01Z").await;
    assert_eq!(found.len(), 2, "delisted plans stay, the impossible one never was");
    assert_eq!(found[1]["max_price"], 65.0, "zones without places do not count");
    assert_eq!(process.search("ends_at=2021-07-31T19:20:00Z").await.len(), 3, "bounds are strict");
    assert_eq!(
        process.search("starts_at=2021-06-30T21:00:00").await.len(),
        1,
        "wall time, strictly"
    );
    assert_eq!(process.search("starts_at=2021-06-30T20:59:59").await.len(), 2);
    answers.push(json!(process.search("").await));

    let (_, list) = process.get("/v1/plans?limit=2&sort=-start").await;
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    let cursor = list["next_cursor"].as_str().unwrap();
    let (_, rest) = process.get(&format!("/v1/plans?limit=9&sort=-start&cursor={cursor}")).await;
    assert_eq!(rest["items"].as_array().unwrap().len(), 2);
    assert_eq!(rest["next_cursor"], Value::Null);
    let (status, _) = process.get(&format!("/v1/plans?limit=9&cursor={cursor}")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "a cursor is bound to its request");
    for (query, expected) in [
        ("listed=false", 2),
        ("q=CAMEL", 1),
        ("q=moranc%C3%B3s", 1),
        ("min_price=56", 1),
        ("max_price=15", 1),
        ("organizer_id=2&organizer_id=1", 3),
        ("base_plan_id=291", 1),
        ("sale=over", 4),
        ("sale=on", 0),
        ("overlaps_from=2021-06-30T19:30:00Z&overlaps_until=2021-06-30T19:31:00Z", 1),
        ("starts_from=2021-06-30T19:00:00Z&starts_until=2021-06-30T19:00:01Z", 1),
        ("sort=price", 4),
    ] {
        let (status, list) = process.get(&format!("/v1/plans?{query}")).await;
        assert_eq!(status, StatusCode::OK, "{query}: {list}");
        assert_eq!(list["items"].as_array().unwrap().len(), expected, "{query}: {list}");
    }
    let id = found[1]["id"].as_str().unwrap();
    let (_, mut plan) = process.get(&format!("/v1/plans/{id}")).await;
    assert_eq!(plan["zones"].as_array().unwrap().len(), 2, "a zone_id may repeat");
    assert_eq!(plan["zones"][0]["zone_id"], plan["zones"][1]["zone_id"]);
    for observed in ["first_seen_at", "last_seen_at"] {
        assert!(plan[observed].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{plan}");
        plan[observed] = Value::Null;
    }
    answers.push(plan);
    let (_, history) = process.get(&format!("/v1/plans/{id}/history")).await;
    let kinds: Vec<&str> = history["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["plan.listed", "plan.changed"]);
    assert_eq!(history["items"][1]["changed"], json!(["ends_at", "zones"]));
    assert_eq!(history["items"][1]["plan"]["zones"], Value::Null, "pages show none");
    as_it_was(&process, id, &history).await;

    http_habits(&process, id).await;
    assert!(process.stop().success(), "it drains and ends well");
    answers
}

/// What was known of a plan with two events, to the millisecond.
async fn as_it_was(process: &Process, id: &str, history: &Value) {
    let time = |event: usize| -> jiff::Timestamp {
        history["items"][event]["occurred_at"].as_str().unwrap().parse().unwrap()
    };
    let (listed, changed) = (time(0), time(1));
    let just_before = |time: jiff::Timestamp| time - jiff::Span::new().milliseconds(1);
    let path = &format!("/v1/plans/{id}");
    let then = async |at: String| {
        process.send("GET", &format!("{path}?as_of={at}"), &[], "").await.unwrap()
    };
    let (_, now) = process.get(path).await;
    for (at, event, is_settled) in [
        (listed, 0, true),
        (just_before(changed), 0, true),
        (changed, 1, false),
        (changed + jiff::Span::new().milliseconds(1), 1, false),
    ] {
        let answer = then(at.to_string()).await;
        assert_eq!(answer.status, StatusCode::OK, "{at}: {answer:?}");
        let known = &history["items"][event]["plan"];
        assert_eq!(answer.body["sequence"], known["sequence"], "{at}: {answer:?}");
        assert_eq!(answer.body["ends_at"], known["ends_at"], "{at}");
        assert_eq!(answer.body["zones"].as_array().unwrap().len(), 2, "{at}: {answer:?}");
        assert_eq!(answer.body["zones"] == now["zones"], event == 1, "{at}: {answer:?}");
        assert_eq!(answer.header("cache-control").contains("immutable"), is_settled, "{at}");
    }
    let to_come = then("9999-01-01T00:00:00%2B02:00".to_owned()).await;
    assert_eq!(to_come.body["zones"], now["zones"], "{to_come:?}");
    assert_eq!(then(just_before(listed).to_string()).await.status, StatusCode::NOT_FOUND);
    for bad in ["yesterday", "2031-06-30T21:00:00", "", "2031-06-30&as_of=2031-06-30"] {
        let refused = then(bad.to_owned()).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{bad}: {refused:?}");
        assert_eq!(refused.body["errors"][0]["pointer"], "as_of", "{refused:?}");
    }
}

async fn http_habits(process: &Process, id: &str) {
    for bad in [
        "starts_at=x",
        "starts_at=",
        "starts_at=2021-06-30",
        "ends_at=2021-09-31T00:00:00Z",
        "start=1",
        "starts_at=2021-06-30T00:00:00Z&starts_at=2021-06-30T00:00:00Z",
        "starts_at=10000-01-01T00:00:00Z",
    ] {
        let (status, body) = process.get(&format!("/search?{bad}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{bad}");
        assert_eq!(body["error"]["code"], "BAD_REQUEST", "{bad}");
        assert_eq!(body["data"], Value::Null);
    }
    assert!(process.search("starts_at=9999-12-31T00:00:00Z").await.is_empty());
    let long = format!("/search?starts_at={}", "9".repeat(60_000));
    let (status, _) = process.get(&long).await;
    assert!(status.is_client_error(), "{status}");

    for path in ["/search", "/v1/plans", &format!("/v1/plans/{id}")] {
        let asked = async || {
            let first = client().get(process.url(path)).send().await.unwrap();
            let tag = first.headers()[header::ETAG.as_str()].clone();
            let again = client().get(process.url(path)).header("if-none-match", &tag);
            let again = again.send().await.unwrap();
            // A plan tells when it was last seen: a fetch between the two makes another answer.
            (again.headers()[header::ETAG.as_str()] == tag).then_some((first, again))
        };
        let (first, again) = process.until("two answers of one moment", asked).await;
        assert_eq!(first.headers()["access-control-allow-origin"], "*", "{path}");
        assert!(
            first.headers().contains_key("cache-control") && first.headers().contains_key("vary")
        );
        assert_eq!(again.status().as_u16(), 304, "{path}");
        for encoding in ["gzip", "br"] {
            let packed = client()
                .get(process.url(path))
                .header("accept-encoding", encoding)
                .send()
                .await
                .unwrap();
            assert_eq!(packed.headers()["content-encoding"], encoding, "{path}");
        }
    }
    // Who may see events is told by the token: no cache keeps them for others.
    let events = client().get(process.url("/v1/events/plans.events")).send().await.unwrap();
    assert_eq!(events.headers()["cache-control"], "private, no-store");
    let vary: Vec<_> = events.headers().get_all("vary").iter().collect();
    let vary = format!("{vary:?}").to_lowercase();
    assert!(vary.contains("authorization") && vary.contains("accept"), "{vary}");
    let preflight = client()
        .request(reqwest::Method::OPTIONS, process.url("/v1/plans"))
        .header("origin", "https://elsewhere.example")
        .header("access-control-request-method", "GET")
        .send()
        .await
        .unwrap();
    assert_eq!(preflight.headers()["access-control-allow-methods"], "GET, HEAD");
    for (path, expected) in [
        ("/v1/plans?unknown=1", 400),
        ("/v1/plans?limit=501", 400),
        ("/v1/plans?sale=maybe", 400),
        ("/v1/plans/not-a-uuid", 404),
        ("/v1/plans/00000000-0000-0000-0000-000000000000", 404),
        ("/v1/plans/00000000-0000-0000-0000-000000000000/history", 404),
        ("/v1/providers/nobody", 404),
        ("/v1/events/commands", 404),
        ("/v1/events/orders.events", 404),
        ("/v1/events/plans.events?after=x", 400),
        ("/nowhere", 404),
    ] {
        let answer = client().get(process.url(path)).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), expected, "{path}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{path}");
    }
    let (status, metrics) = process.get("/metrics").await;
    assert_eq!(status, StatusCode::OK);
    assert!(metrics.as_str().unwrap().contains("almanac_ingest_events_total"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_engines_give_the_same_answers() {
    let mut answers = Vec::new();
    for engine in ENGINES {
        answers.push(sample_answers(engine).await);
    }
    assert_eq!(answers[0], answers[1]);
}

/// An unchanged feed is one event, however often it is fetched, and a restart repeats nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_feed_is_one_event() {
    let provider = Provider::start().await;
    provider.serve(feed(30, 1));
    let installation = Installation::new(Engine::Embedded).with_provider("p", &provider.url());
    let mut process = installation.up().await;
    observed(&process, "p", "unchanged").await;
    let count = async |process: &Process| {
        let (_, page) = process.get("/v1/events/plans.events?limit=500&type=plan.listed").await;
        page["items"].as_array().unwrap().len()
    };
    let plans = feed(30, 1).matches("<plan ").count();
    assert_eq!(count(&process).await, plans);
    assert!(process.stop().success());
    let process = installation.up().await;
    observed(&process, "p", "unchanged").await;
    let (_, page) = process.get("/v1/events/plans.events?limit=500").await;
    let others =
        page["items"].as_array().unwrap().iter().filter(|item| item["type"] != "feed.observed");
    assert_eq!(others.count(), plans, "nothing but observations came after");
}

/// A corrected parser is a replay: stored bodies are read again while the provider is away. What
/// is corrected here is the time zone, which the same bytes mean something else in.
#[tokio::test(flavor = "multi_thread")]
async fn stored_bodies_are_read_again() {
    for engine in ENGINES {
        let provider = Provider::start().await;
        provider.serve(data("feed-1.xml"));
        let mut installation = Installation::new(engine).with_provider("fever", &provider.url());
        let mut process = installation.up().await;
        observed(&process, "fever", "unchanged").await;
        let starts = async |process: &Process| -> Vec<String> {
            let (_, page) = process.get("/v1/plans").await;
            let items = page["items"].as_array().unwrap();
            items.iter().map(|plan| plan["starts_at"].as_str().unwrap().to_owned()).collect()
        };
        assert!(
            starts(&process)
                .await
                .iter()
                .all(|start| start.ends_with("+02:00") || start.ends_with("+01:00"))
        );
        assert!(process.stop().success());

        provider.answer(|_, _| StatusCode::SERVICE_UNAVAILABLE.into_response());
        installation.timezone = "UTC".to_owned();
        let process = installation.up().await;
        observed(&process, "fever", "failed").await;
        let replay = async |options: &[&str]| {
            let before = process.provider("fever").await.unwrap()["last_replay"]["at"].clone();
            let output =
                installation.command("up", &[&["ingest", "replay", "fever"], options].concat());
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            process
                .until("the replay", || async {
                    let seen = process.provider("fever").await?["last_replay"].clone();
                    (seen["at"] != before).then_some(seen)
                })
                .await
        };
        let seen = replay(&[]).await;
        assert_eq!(seen["changed"], 4, "{seen}");
        process
            .until("the corrected times", || async {
                starts(&process).await.iter().all(|start| start.ends_with("+00:00")).then_some(())
            })
            .await;
        let seen = replay(&["--since", "2020-01-01T00:00:00Z"]).await;
        assert_eq!(seen["changed"], 0, "the same parser says the same: {seen}");
        let (_, provider) = process.get("/v1/providers/fever").await;
        assert_eq!(provider["last_outcome"], "failed", "a replay says nothing of the provider");
        let output = installation.command("up", &["ingest", "replay", "nobody"]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && error.contains("no provider with this name"),
            "{error}"
        );
        oracle::check_sequences(&process).await;
    }
}

/// The ordinary Confluent client and its Avro deserializer read what we write.
#[tokio::test(flavor = "multi_thread")]
async fn a_python_consumer_reads_the_events() {
    let provider = Provider::start().await;
    provider.serve(data("feed-1.xml"));
    let installation = Installation::new(Engine::Cluster).with_provider("fever", &provider.url());
    let process = installation.up().await;
    observed(&process, "fever", "unchanged").await;
    let output = almanac_tests::python_program("python")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/clients/consume.py"))
        .args([address("ALMANAC_TEST_KAFKA"), address("ALMANAC_TEST_REGISTRY")])
        .arg(installation.topic("plans.events"))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut listed: Vec<(String, String)> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|event| event["type"] == "plan.listed")
        .map(|event| {
            let plan = &event["data"]["plan"];
            assert_eq!(plan["id"], event["subject"]);
            let text = |name: &str| plan[name].as_str().unwrap().to_owned();
            (text("base_plan_id"), text("plan_id"))
        })
        .collect();
    listed.sort();
    let expected = [("1591", "1642"), ("291", "291"), ("322", "1642"), ("322", "1643")];
    assert_eq!(listed, expected.map(|(base, plan)| (base.to_owned(), plan.to_owned())));
}
