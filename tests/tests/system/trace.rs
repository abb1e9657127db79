//! What became of a write and of an analysis, hop by hop.

use almanac_tests::{
    process::{Engine, Installation, Process},
    recipe,
    webhooks::{Receiver, subscribe},
};
use serde_json::{Value, json};

async fn trace(process: &Process, id: &str) -> Value {
    let (status, body) = process.get(&format!("/v1/admin/trace/{id}")).await;
    if status == 404 { json!({"hops": [], "complete": true}) } else { body }
}

fn hops<'a>(told: &'a Value, kind: &str) -> Vec<&'a Value> {
    let all = told["hops"].as_array().unwrap_or_else(|| panic!("{told}"));
    all.iter().filter(|hop| hop["kind"] == kind).collect()
}

fn said(installation: &Installation, arguments: &[&str]) -> String {
    let said = installation.command("up", arguments);
    assert!(said.status.success(), "{said:?}");
    String::from_utf8(said.stdout).unwrap()
}

/// From the request to the answer of who subscribed.
async fn a_write(installation: &Installation, process: &Process, url: &str) {
    subscribe(process, &[], &["recipe.created"], None, &format!("{url}/all")).await;
    let written = process.send("POST", "/v1/recipes", &[], recipe("traced", "salt")).await.unwrap();
    let request = written.header("request-id").to_owned();
    let id = written.body["id"].as_str().unwrap().to_owned();
    let is_told = |told: &Value| {
        let told_by = hops(told, "attempt");
        let tables = hops(told, "table");
        !told_by.is_empty() && tables.iter().all(|hop| hop["table"]["folded"] == true)
    };
    let told = process
        .until("a trace to its end", async || Some(trace(process, &request).await).filter(is_told))
        .await;
    let kinds: Vec<&str> =
        told["hops"].as_array().unwrap().iter().map(|hop| hop["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["command", "reply", "event", "table", "delivery", "attempt"], "{told}");
    assert_eq!(told["complete"], true, "{told}");
    let [command, reply] = [hops(&told, "command")[0], hops(&told, "reply")[0]];
    assert_eq!((&command["id"], &command["key"]), (&json!(request), &json!(id)), "{told}");
    assert_eq!(reply["caused_by"], json!(request), "{told}");
    assert!(reply["what"].as_str().unwrap().starts_with("answered 201, version 1"), "{told}");
    let event = hops(&told, "event")[0];
    let event_id = format!("{id}.1");
    assert_eq!((&event["id"], &event["caused_by"]), (&json!(event_id), &json!(request)), "{told}");
    assert_eq!(
        (&event["what"], &event["topic"]),
        (&json!("recipe.created"), &json!(installation.topic("recipes.events")))
    );
    let table = &hops(&told, "table")[0]["table"];
    assert_eq!((&table["projection"], &table["row"]), (&json!("recipes"), &json!(true)), "{told}");
    let attempt = hops(&told, "attempt")[0];
    assert_eq!(attempt["caused_by"], json!(event_id), "{told}");
    assert!(attempt["what"].as_str().unwrap().contains("204"), "{told}");

    // The event and the recipe lead to the same; a second write of the same recipe is none of the first.
    let path = format!("/v1/recipes/{id}");
    let revised = process.send("PUT", &path, &[], recipe("again", "salt")).await.unwrap();
    assert_eq!(revised.status, 200, "{revised:?}");
    let of_event = trace(process, &event_id).await;
    for kind in ["command", "reply", "event", "attempt"] {
        assert_eq!(hops(&of_event, kind), hops(&told, kind), "{kind}: {of_event}");
    }
    process
        .until("both writes of the recipe", async || {
            let whole = trace(process, &id).await;
            (hops(&whole, "event").len() == 2 && hops(&whole, "command").len() == 2).then_some(())
        })
        .await;
    let text = said(installation, &["trace", &request]);
    assert!(text.contains("recipe.created") && text.contains(&event_id), "{text}");
    let (status, body) = process.get("/v1/admin/trace/0198c5a0-0000-7000-8000-00000000dead").await;
    assert_eq!(status, 404, "{body}");
    let none = installation.command("up", &["trace", "0198c5a0-0000-7000-8000-00000000dead"]);
    assert_eq!(none.status.code(), Some(4), "{none:?}");
}

/// From the request to the result: what the worker commanded is of the same analysis.
async fn an_analysis(process: &Process) {
    let body = json!({
        "schedule": {"name": "s", "location": {"lat": 61.5, "lon": 4.8}, "tasks": [
            {"id": "lift", "duration": "PT1H", "limits": [{"variable": "wave_height_m", "max": 2.0}]},
        ]},
        "forecast": {"source": "own", "step": "PT1H", "points": [
            {"time": "2031-01-01T00:00:00Z", "wave_height_m": 1.0},
            {"time": "2031-01-01T01:00:00Z", "wave_height_m": 1.0},
            {"time": "2031-01-01T02:00:00Z", "wave_height_m": 1.0},
        ]},
    });
    let asked = process.send("POST", "/v1/analyses", &[], body.to_string()).await.unwrap();
    assert_eq!(asked.status, 202, "{asked:?}");
    let (id, request) = (
        asked.body["request_id"].as_str().unwrap().to_owned(),
        asked.header("request-id").to_owned(),
    );
    for asked in [&id, &request] {
        // Commands are read before events: what is commanded in between is there with the next one.
        let is_over = |told: &Value| {
            let commands = hops(told, "command").len();
            let events = hops(told, "event");
            commands > 1 && events.iter().any(|hop| hop["what"] == "analysis.completed")
        };
        let told = process
            .until("the end of an analysis", async || {
                Some(trace(process, asked).await).filter(is_over)
            })
            .await;
        let whats: Vec<&Value> = hops(&told, "event").iter().map(|hop| &hop["what"]).collect();
        assert_eq!(*whats.first().unwrap(), "analysis.requested", "{told}");
        let commands = hops(&told, "command");
        assert_eq!(commands[0]["id"], json!(request), "{told}");
        let completed = hops(&told, "event").into_iter().next_back().unwrap().clone();
        let by_worker = |hop: &&&Value| hop["id"] == completed["caused_by"];
        let cause = commands.iter().find(by_worker).unwrap_or_else(|| panic!("{told}"));
        assert!(cause["what"].as_str().unwrap().contains("urn:almanac:worker"), "{told}");
    }
}

async fn told(engine: Engine) {
    let receiver = Receiver::default();
    let url = receiver.start().await;
    let installation = Installation::new(engine)
        .with("notifications.private_addresses = true\nhttp.inspect_time = \"2m\"");
    let process = installation.up().await;
    a_write(&installation, &process, &url).await;
    an_analysis(&process).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_and_analyses_are_traced() {
    told(Engine::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_and_analyses_are_traced_on_kafka() {
    told(Engine::Cluster).await;
}

/// What may be read is bounded, and it is said when that was not enough.
#[tokio::test(flavor = "multi_thread")]
async fn a_trace_that_reaches_its_bound_says_so() {
    let installation = Installation::new(Engine::Embedded).with("http.trace_records = 0");
    let process = installation.up().await;
    let written = process.send("POST", "/v1/recipes", &[], recipe("r", "salt")).await.unwrap();
    let told = trace(&process, written.body["id"].as_str().unwrap()).await;
    assert_eq!(told["complete"], false, "{told}");
}
