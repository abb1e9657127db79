//! The whole way on both engines: feed, log, projection, search; and what consumers see.

mod feeds;
mod folder;

use almanac_tests::{
    address, oracle,
    process::{Engine, Installation, Process, client},
    provider::{Provider, feed},
};
use axum::{
    http::{StatusCode, header},
    response::IntoResponse,
};
use futures::StreamExt;
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

    http_habits(&process, id).await;
    assert!(process.stop().success(), "it drains and ends well");
    answers
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

/// What is wrong with a body as a whole changes nothing but the provider's state.
#[tokio::test(flavor = "multi_thread")]
async fn bad_bodies_change_nothing() {
    let good = Provider::start().await;
    good.serve(feed(40, 1));
    let installation = Installation::new(Engine::Embedded)
        .with("ingest.suspect_for = \"100ms\"")
        .with_provider("p", &good.url());
    let process = installation.up().await;
    observed(&process, "p", "unchanged").await;
    let before = process.search("").await;
    assert_eq!(before.len(), feed(40, 1).matches("<plan ").count());

    let deep = format!("<planList>{}", "<a>".repeat(10_000));
    let bomb = format!(
        "<!DOCTYPE planList [<!ENTITY a \"{}\"><!ENTITY b \"{}\">]><planList><output>",
        "x".repeat(1_000),
        "&a;".repeat(1_000)
    );
    let tag = format!(
        "<planList><output><base_plan title=\"{}\"/></output></planList>",
        "x".repeat(3_000_000)
    );
    let bodies = [
        data("nasty/html-502-page.xml"),
        data("nasty/truncated.xml"),
        deep,
        bomb,
        tag,
        String::new(),
        "{\"not\": \"xml\"}".to_owned(),
        "\u{0}\u{1}\u{2}".to_owned(),
    ];
    for body in bodies {
        let shown: String = body.chars().take(60).collect();
        good.serve(body);
        let seen = observed(&process, "p", "failed").await;
        assert!(seen["last_failure"].as_str().is_some_and(|text| text.len() < 400), "{seen}");
        assert_eq!(process.search("").await, before, "{shown}");
    }
    good.answer(|_, _| {
        let bytes = b"<?xml version=\"1.0\" encoding=\"UTF-8\"?><planList><output><base_plan title=\"\xff\xfe\"/></output></planList>";
        bytes.to_vec().into_response()
    });
    observed(&process, "p", "failed").await;

    // An implausibly empty list changes nothing, until it has come three times in a row.
    good.serve(data("nasty/empty.xml"));
    observed(&process, "p", "suspect").await;
    assert_eq!(process.search("").await, before);
    let (_, listed) = process.get("/v1/plans?listed=true&limit=500").await;
    assert_eq!(listed["items"].as_array().unwrap().len(), before.len());
    process
        .until("belief in the third", || async {
            let (_, listed) = process.get("/v1/plans?listed=true").await;
            listed["items"].as_array()?.is_empty().then_some(())
        })
        .await;
    assert_eq!(process.search("").await, before, "what left the feed stays searchable");
}

/// What is wrong with one plan or zone costs that plan or zone.
#[tokio::test(flavor = "multi_thread")]
async fn bad_parts_cost_only_themselves() {
    let names = ["invalid-date", "offline", "no-zones", "zones", "charset", "events", "single"];
    let mut installation = Installation::new(Engine::Embedded);
    let mut providers = Vec::new();
    let zones = "<planList><output><base_plan base_plan_id=\"1\" sell_mode=\"online\" title=\"Zones\">\
        <plan plan_id=\"1\" plan_start_date=\"2021-03-28T02:30:00\"><zone zone_id=\"1\" capacity=\"-1\" price=\"5\"/>\
        <zone zone_id=\"2\" capacity=\"9\" price=\"-5\"/><zone zone_id=\"3\" capacity=\"9\" price=\"cheap\"/>\
        <zone zone_id=\"4\" capacity=\"99999999999999999999\" price=\"5\"/><zone zone_id=\"5\" capacity=\"9\" price=\"7.50\"/></plan>\
        <plan plan_start_date=\"2021-06-30T21:00:00\"/><plan plan_id=\"\" plan_start_date=\"2021-06-30T21:00:00\"/>\
        <plan plan_id=\"1\" plan_start_date=\"2021-06-30T21:00:00\"/>\
        <plan plan_id=\"2\" plan_start_date=\"2021-06-30T21:00:00\" plan_end_date=\"2021-06-30T20:00:00\"/>\
        <plan plan_id=\"3\" plan_start_date=\"2021-06-30T21:00:00\" extra=\"&unknown;\"/></base_plan></output></planList>";
    let charset = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><planList><output><base_plan base_plan_id=\"1\" sell_mode=\"online\" title=\"BOM ñ\">\
        <plan plan_id=\"1\" plan_start_date=\"2021-06-30T21:00:00\"/></base_plan></output></planList>";
    let events = "<eventList><output><base_event base_event_id=\"1\" sell_mode=\"online\" title=\"Dates\">\
        <event event_id=\"1\" event_start_date=\"2021-06-30T21:00:00\" event_end_date=\"2021-06-30T22:00:00\"/></base_event></output></eventList>";
    let single = events
        .replace("event_start_date", "event_date")
        .replace(" event_end_date=\"2021-06-30T22:00:00\"", "")
        .replace("Dates", "Single");
    let bodies = [
        data("nasty/invalid_date.xml"),
        data("nasty/offline_only.xml"),
        data("nasty/unknown-attributes-no-zones.xml"),
        zones.to_owned(),
        format!("\u{feff}{charset}"),
        events.to_owned(),
        single,
    ];
    for (name, body) in names.iter().zip(bodies) {
        let provider = Provider::start().await;
        provider.serve(body);
        installation = installation.with_provider(name, &provider.url());
        providers.push(provider);
    }
    let process = installation.up().await;
    let mut seen = Vec::new();
    for name in names {
        observed(&process, name, "unchanged").await;
        seen.push(process.provider(name).await.unwrap()["last_body"].clone());
    }
    let events = process.search("").await;
    let key = |event: &Value| {
        (event["start_date"].to_string(), event["start_time"].to_string(), event["id"].to_string())
    };
    assert!(events.is_sorted_by_key(key), "by start, then id: {events:#?}");
    let mut found = titles(&process, "").await;
    found.sort();
    assert_eq!(found, ["BOM ñ", "Dates", "Single", "Test", "Valid event", "Zones"]);
    let quarantined: Vec<i64> =
        seen.iter().map(|body| body["quarantined"].as_i64().unwrap()).collect();
    assert_eq!(quarantined, [1, 0, 0, 9, 0, 0, 0], "{seen:#?}");
    let zones_plan = process.search("ends_at=2030-01-01T00:00:00Z").await;
    assert_eq!(zones_plan.len(), 3, "plans without an end never match an upper bound");
    let found = process.search("starts_at=2021-03-28T00:00:00Z").await;
    assert_eq!(found[0]["start_time"], "03:30:00", "a skipped time moves forward");
    assert_eq!((&found[0]["min_price"], &found[0]["max_price"]), (&json!(7.5), &json!(7.5)));
    let single = found.iter().find(|event| event["title"] == "Single").unwrap();
    assert_eq!((&single["end_date"], &single["end_time"]), (&Value::Null, &Value::Null));
}

/// A provider that hangs, dies or answers mostly 503 does not delay another.
#[tokio::test(flavor = "multi_thread")]
async fn bad_providers_do_not_delay_others() {
    let (good, slow, flaky) =
        (Provider::start().await, Provider::start().await, Provider::start().await);
    good.serve(feed(10, 1));
    slow.answer(|_, _| {
        // One byte now, the rest never.
        let stream = futures::stream::iter([Ok::<_, std::io::Error>("<")]);
        let body = axum::body::Body::from_stream(stream.chain(futures::stream::pending()));
        axum::response::Response::new(body)
    });
    flaky.answer(|number, _| match number * 37 % 100 {
        0..36 => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        _ => feed(10, 1).into_response(),
    });
    let installation = Installation::new(Engine::Embedded)
        .with_provider("good", &good.url())
        .with_provider("slow", &slow.url())
        .with_provider("flaky", &flaky.url())
        .with_provider("dead", "http://127.0.0.1:1/plans.xml");
    let process = installation.up().await;
    for _ in 0..3 {
        observed(&process, "good", "unchanged").await;
    }
    observed(&process, "flaky", "unchanged").await;
    let dead = process
        .until("the open breaker", || async {
            let seen = process.provider("dead").await?;
            (seen["breaker"] == "open").then_some(seen)
        })
        .await;
    assert!(dead["consecutive_failures"].as_u64() >= Some(5), "{dead}");
    let answer = client().post(process.url("/v1/providers/dead/fetches")).send().await.unwrap();
    assert_eq!(answer.status(), 202);
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
