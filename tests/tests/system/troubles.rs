//! Feeds that are wrong, in all or in parts, and providers that answer badly or not at all.

use super::{data, observed, titles};
use almanac_tests::{
    process::{Engine, Installation, client},
    provider::{Provider, feed},
};
use axum::{http::StatusCode, response::IntoResponse};
use futures::StreamExt;
use serde_json::{Value, json};

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
    let path = format!("/v1/admin/quarantine?provider={}", names[0]);
    let (_, set_aside) = process.get(&path).await;
    let [fault] = set_aside["items"].as_array().unwrap().as_slice() else {
        panic!("{set_aside:#}");
    };
    let named = &seen[0]["faults"][0];
    for field in ["subject", "reason", "place"] {
        assert_eq!(fault[field], named[field], "{set_aside:#}");
    }
    let read_at = fault["observed_at"].as_str().unwrap();
    assert!(read_at.parse::<jiff::Timestamp>().is_ok(), "{set_aside:#}");
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
