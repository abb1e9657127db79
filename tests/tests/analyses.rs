//! Analyses through the real binary: from the request to the result, on both engines.

use almanac_tests::{
    process::{Answer, Engine, Installation, Process},
    webhooks::{Receiver, subscribe},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::{collections::BTreeMap, os::unix::fs::PermissionsExt, time::Duration};

const HOURS: usize = 48;

fn schedule(max: f64) -> Value {
    json!({
        "name": "Turbine 7", "location": {"lat": 61.5, "lon": 4.8},
        "tasks": [
            {"id": "mobilise", "name": "Mobilise", "duration": "PT2H"},
            {"id": "lift", "name": "Lift", "duration": "PT4H", "predecessors": ["mobilise"],
             "limits": [{"variable": "wave_height_m", "max": max}]},
        ],
    })
}

/// Hourly waves, calm from `from` for ten hours.
fn forecast(from: usize) -> Value {
    let points: Vec<Value> = (0..HOURS)
        .map(|hour| {
            let time = format!("2025-08-{:02}T{:02}:00:00Z", 20 + hour / 24, hour % 24);
            let is_calm = (from..from + 10).contains(&hour);
            json!({"time": time, "wave_height_m": if is_calm { 1.0 } else { 3.5 }})
        })
        .collect();
    json!({"source": "own", "step": "PT1H", "points": points})
}

async fn send(process: &Process, method: &str, path: &str, body: &Value) -> Answer {
    process.send(method, path, &[], body.to_string()).await.unwrap()
}

async fn request(process: &Process, body: &Value) -> String {
    let answer = send(process, "POST", "/v1/analyses", body).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
    let id = answer.body["request_id"].as_str().unwrap().to_owned();
    assert_eq!(answer.header("location"), format!("/v1/analyses/{id}"));
    assert_eq!((answer.header("retry-after"), &answer.body["state"]), ("1", &json!("queued")));
    id
}

/// The analysis once it has ended.
async fn ended(process: &Process, id: &str) -> Value {
    process
        .until(&format!("the end of analysis {id}"), || async {
            let (_, body) = process.get(&format!("/v1/analyses/{id}")).await;
            let is_ended = ["completed", "failed", "cancelled"].contains(&body["state"].as_str()?);
            is_ended.then_some(body)
        })
        .await
}

/// A schedule that is not there is refused as soon as that is known where it is asked for. Until then
/// the analysis fails, with the same reason.
async fn without_schedule(process: &Process, schedule: &str, reason: &str) {
    let body = json!({"schedule_id": schedule, "forecast": forecast(6)});
    let refused = || async {
        let answer = send(process, "POST", "/v1/analyses", &body).await;
        if answer.status == StatusCode::ACCEPTED {
            let failed = ended(process, answer.body["request_id"].as_str().unwrap()).await;
            assert!(failed["state"] == "failed" && failed.to_string().contains(reason), "{failed}");
            return None;
        }
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{answer:?}");
        Some(answer.body)
    };
    let refused = process.until("a refusal", refused).await;
    assert_eq!(refused["errors"][0]["pointer"], "#/schedule_id", "{refused}");
    assert_eq!(refused["errors"][0]["detail"], reason, "{refused}");
}

/// By analysis, the types of its events in their order, but for how far it was: how often that is
/// written depends on how long it takes.
async fn events(process: &Process) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut after = "beginning".to_owned();
    loop {
        let path = format!("/v1/events/analyses.events?limit=500&after={after}");
        let (status, page) = process.get(&path).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        let items = page["items"].as_array().unwrap();
        for item in items {
            let id = item["subject"].as_str().unwrap().to_owned();
            let types = found.entry(id).or_default();
            types.extend(
                item["type"].as_str().filter(|it| *it != "analysis.progressed").map(str::to_owned),
            );
        }
        if items.is_empty() {
            return found;
        }
        after = page["next_cursor"].as_str().unwrap().to_owned();
    }
}

fn is_end(event: &&String) -> bool {
    ["analysis.completed", "analysis.failed", "analysis.cancelled"].contains(&event.as_str())
}

/// Without ids, times of observation and the number of events, which differ.
fn told(mut body: Value) -> Value {
    for name in ["request_id", "requested_at", "updated_at", "now", "version"] {
        body.as_object_mut().unwrap().remove(name);
    }
    body["forecast"] = body["forecast"]["source"].clone();
    body
}

async fn life(engine: Engine) -> Vec<Value> {
    let installation = Installation::new(engine);
    let mut process = installation.up().await;
    let body = json!({"schedule": schedule(2.0), "forecast": forecast(6)});
    let id = request(&process, &body).await;
    let completed = ended(&process, &id).await;
    assert_eq!(completed["state"], "completed", "{completed}");
    let result = &completed["result"];
    assert_eq!(result["plan"][1]["start"], "2025-08-20T06:00:00Z", "{result}");
    assert_eq!(result["tasks"][1]["windows"][0]["to"], "2025-08-20T16:00:00Z", "{result}");
    assert_eq!(completed["forecast"]["source"], "own");
    let (_, steps) = process.get(&format!("/v1/analyses/{id}/steps?task=lift")).await;
    assert_eq!(steps["items"].as_array().map(Vec::len), Some(HOURS), "{steps}");

    // With a key, there is one.
    let key = [("idempotency-key", "a")];
    let post = || process.send("POST", "/v1/analyses", &key, body.to_string());
    let (first, second) = (post().await.unwrap(), post().await.unwrap());
    assert_eq!((first.status, &first.body), (second.status, &second.body));
    assert_eq!(second.header("idempotent-replayed"), "true");
    let keyed = first.body["request_id"].as_str().unwrap().to_owned();
    ended(&process, &keyed).await;

    // What has ended stays as it is.
    let cancelled = send(&process, "DELETE", &format!("/v1/analyses/{id}"), &Value::Null).await;
    assert_eq!((cancelled.status, &cancelled.body["state"]), (StatusCode::OK, &json!("completed")));
    let unknown = "/v1/analyses/0198c5a0-0000-7000-8000-000000000000";
    let missing = send(&process, "DELETE", unknown, &Value::Null).await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND, "{missing:?}");
    let expected = vec!["analysis.requested".to_owned(), "analysis.completed".to_owned()];
    assert_eq!(events(&process).await, BTreeMap::from([(id, expected.clone()), (keyed, expected)]));

    // What cannot be is refused at once, with the places of all faults.
    let mut no_waves = forecast(6);
    no_waves["points"].as_array_mut().unwrap().iter_mut().for_each(|point| {
        point["wind_speed_ms"] = point["wave_height_m"].take();
    });
    let of_variable = "#/schedule/tasks/1/limits/0/variable";
    for (body, pointer) in [
        (json!({"schedule": schedule(2.0), "forecast": no_waves}), of_variable),
        (json!({"schedule": schedule(2.0), "sources": ["met"]}), "#/sources/0"),
        (
            json!({"schedule": schedule(0.0), "forecast": forecast(6)}),
            "#/schedule/tasks/1/limits/0/max",
        ),
        (json!({"forecast": forecast(6)}), "#/schedule"),
    ] {
        let refused = send(&process, "POST", "/v1/analyses", &body).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{pointer}: {refused:?}");
        let errors = refused.body["errors"].as_array().unwrap();
        assert!(errors.iter().any(|error| error["pointer"] == pointer), "{pointer}: {refused:?}");
    }
    let refused = send(&process, "POST", "/v1/analyses", &json!("forecast")).await;
    assert!(refused.status.is_client_error(), "{refused:?}");

    let stored = "0198c5a0-0000-7000-8000-000000000000";
    without_schedule(&process, stored, "you have no schedule with this id").await;

    // A forecast in several pieces.
    let mut large = forecast(6);
    let mut random = StdRng::seed_from_u64(1);
    let points = (0..60_000_i64).map(|minute| {
        let time = jiff::Timestamp::from_second(1_755_648_000 + minute * 60).unwrap();
        let waves = random.random_range(0..4_000_000_000_u64) as f64 / 1e9;
        json!({"time": time, "wave_height_m": waves, "wind_speed_ms": waves})
    });
    large["points"] = points.collect();
    large["step"] = json!("PT1M");
    assert!(large.to_string().len() > 5 << 20);
    let id = request(&process, &json!({"schedule": schedule(9.0), "forecast": large})).await;
    let of_large = ended(&process, &id).await;
    assert_eq!(of_large["state"], "completed", "{of_large}");
    assert_eq!(of_large["result"]["tasks"][1]["windows"][0]["to"], "2025-09-30T16:00:00Z");
    let too_large = json!({"schedule": schedule(9.0), "forecast": {"points": "x".repeat(9 << 20)}});
    let refused = send(&process, "POST", "/v1/analyses", &too_large).await;
    assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE, "{refused:?}");
    assert!(process.stop().success());
    vec![told(completed)]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inline_forecast_leads_to_the_same_result_on_both_engines() {
    assert_eq!(life(Engine::Embedded).await, life(Engine::Cluster).await);
}

/// A source that takes connections and says nothing.
fn silent_source() -> (std::net::TcpListener, String) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let lines = format!(
        "providers = [{{ name = \"met-norway\", kind = \"met-norway\", \
         url = \"http://{0}/location\", forecasts.marine_url = \"http://{0}/ocean\", \
         headers.User-Agent = \"almanac-test ops@example.com\" }}]",
        listener.local_addr().unwrap()
    );
    (listener, lines)
}

async fn waits(engine: Engine) {
    let (_listener, source) = silent_source();
    let installation = Installation::new(engine)
        // The first is cancelled long before it would fail by itself.
        .with(
            "commands.open_analyses = 3\nworker.ask_again = \"1s\"\nworker.forecast_wait = \"30s\"",
        )
        .with(&source);
    let mut process = installation.up().await;
    let body = json!({"schedule": schedule(2.0), "sources": ["met-norway"]});
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(request(&process, &body).await);
    }
    let refused = process
        .until("the limit of a caller", || async {
            let answer = send(&process, "POST", "/v1/analyses", &body).await;
            (answer.status == StatusCode::TOO_MANY_REQUESTS).then_some(answer)
        })
        .await;
    assert_eq!(refused.header("retry-after"), "1", "{refused:?}");
    let path = format!("/v1/analyses/{}", ids[0]);
    let cancelled = send(&process, "DELETE", &path, &Value::Null).await;
    assert_eq!((cancelled.status, &cancelled.body["state"]), (StatusCode::OK, &json!("cancelled")));
    assert_eq!(ended(&process, &ids[0]).await["state"], "cancelled");
    // The others fail, with a reason that a planner understands.
    for id in &ids[1..] {
        let failed = ended(&process, id).await;
        assert_eq!(failed["state"], "failed", "{failed}");
        assert!(failed.to_string().contains("no forecast could be had"), "{failed}");
        assert!(failed.to_string().contains("met-norway"), "{failed}");
    }
    // Where analyses are requested, ends are heard of a moment after reads show them.
    process
        .until("room for another analysis", || async {
            let answer = send(&process, "POST", "/v1/analyses", &body).await;
            (answer.status == StatusCode::ACCEPTED).then_some(())
        })
        .await;
    for (id, events) in events(&process).await {
        assert!(events.iter().filter(is_end).count() <= 1, "{id}: {events:?}");
    }
    assert!(process.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_bounded_cancelled_and_fails_in_the_end_embedded() {
    waits(Engine::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_bounded_cancelled_and_fails_in_the_end_cluster() {
    waits(Engine::Cluster).await;
}

/// With the demonstration's forecasts: a stored schedule, and what changed since the analysis before.
#[tokio::test(flavor = "multi_thread")]
async fn a_stored_schedule_is_analysed_as_it_was_written_last() {
    let installation = Installation::new(Engine::Embedded).with_demo();
    let mut process = installation.up().await;
    let created = send(&process, "POST", "/v1/schedules", &schedule(9.0)).await;
    assert_eq!(created.status, StatusCode::CREATED, "{created:?}");
    let id = created.body["id"].as_str().unwrap().to_owned();
    let mut previous = Value::Null;
    for version in 2..6 {
        let revised = send(
            &process,
            "PATCH",
            &format!("/v1/schedules/{id}"),
            &json!({"name": format!("v{version}")}),
        )
        .await;
        assert_eq!(revised.version(), Some(version), "{revised:?}");
        let analysis = request(&process, &json!({"schedule_id": id})).await;
        let completed = ended(&process, &analysis).await;
        assert_eq!(completed["state"], "completed", "{completed}");
        assert_eq!(completed["schedule_version"], version, "{completed}");
        assert_eq!(completed["previous"], previous, "{completed}");
        assert_eq!(completed["changes"], json!([]), "the forecast is the same");
        previous = json!(analysis);
    }
    // Limits that no sea keeps: what there was is lost.
    let mut strict = schedule(0.001);
    strict["name"] = json!("strict");
    let revised = send(&process, "PUT", &format!("/v1/schedules/{id}"), &strict).await;
    assert_eq!(revised.status, StatusCode::OK, "{revised:?}");
    let analysis = request(&process, &json!({"schedule_id": id})).await;
    let completed = ended(&process, &analysis).await;
    assert_eq!(completed["changes"][0]["kind"], "window.lost", "{completed}");
    assert_eq!(completed["changes"][0]["task"], "lift");
    // A restart forgets nothing of it.
    assert!(process.stop().success());
    let mut process = installation.up().await;
    let revised = send(&process, "PUT", &format!("/v1/schedules/{id}"), &schedule(9.0)).await;
    assert_eq!(revised.status, StatusCode::OK, "{revised:?}");
    let again = request(&process, &json!({"schedule_id": id})).await;
    let completed = ended(&process, &again).await;
    assert_eq!(completed["previous"], json!(analysis), "{completed}");
    assert_eq!(completed["changes"][0]["kind"], "window.opened", "{completed}");
    let deleted = send(&process, "DELETE", &format!("/v1/schedules/{id}"), &Value::Null).await;
    assert_eq!(deleted.status, StatusCode::OK, "{deleted:?}");
    without_schedule(&process, &id, "the schedule was deleted").await;
    assert!(process.stop().success());
}

const REQUESTS: usize = 500;

/// Asks for many, and kills meanwhile; each has one end, and it is a result.
async fn survives_kills(reading: impl Fn() -> String, mut kill: impl AsyncFnMut()) -> Vec<String> {
    let body = json!({"schedule": schedule(2.0), "forecast": forecast(6)}).to_string();
    let client = almanac_tests::process::client();
    let requested = async {
        let mut ids = Vec::new();
        while ids.len() < REQUESTS {
            // With a key, trying again asks for nothing more.
            let key = format!("key-{}", ids.len());
            let request = client
                .post(format!("{}/v1/analyses", reading()))
                .header("idempotency-key", key)
                .timeout(Duration::from_secs(5))
                .body(body.clone());
            let answer = match request.send().await {
                Ok(answer) if answer.status() == StatusCode::ACCEPTED => answer,
                _ => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            if let Ok(body) = answer.json::<Value>().await {
                ids.push(body["request_id"].as_str().unwrap().to_owned());
            }
        }
        ids
    };
    let killing = async {
        for _ in 0..kills() {
            kill().await;
        }
    };
    tokio::join!(requested, killing).0
}

fn kills() -> u64 {
    std::env::var("ALMANAC_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(10)
}

const TOLD: &str = "worker.ask_again = \"2s\"\nnotifications.private_addresses = true\n\
                    notifications.first_pause = \"200ms\"";

/// Two receivers that are told of every end, on which the partitions' owners are killed as well.
async fn told_twice(process: &Process, receiver: &Receiver) {
    let url = receiver.start().await;
    for path in PATHS {
        let url = format!("{url}/{path}");
        subscribe(process, &[], &["analysis.completed", "analysis.failed"], None, &url).await;
    }
}

const PATHS: [&str; 2] = ["one", "other"];

/// Each end was told to each of them, whatever was killed, under the id of its event.
async fn each_was_told(process: &Process, receiver: &Receiver, ids: &[String]) {
    // Of a request, the end is its second event, or its third where progress was told.
    for path in PATHS {
        let told = || async { (receiver.ids(path).len() >= ids.len()).then_some(()) };
        process.until(&format!("what {path} is told"), told).await;
        let mut subjects: Vec<String> = receiver
            .received(path)
            .into_iter()
            .map(|one| {
                assert_eq!(one.body["id"], one.id, "the webhook has the id of the event");
                assert_eq!(one.body["type"], "analysis.completed");
                one.body["subject"].as_str().unwrap().to_owned()
            })
            .collect();
        subjects.sort_unstable();
        subjects.dedup();
        let mut expected = ids.to_vec();
        expected.sort_unstable();
        assert_eq!(subjects, expected, "{path}");
        assert_eq!(
            receiver.ids(path).len(),
            ids.len(),
            "an end has one id, however often it is told"
        );
    }
}

async fn each_has_one_result(process: &Process, ids: &[String]) {
    for id in ids {
        let analysis = ended(process, id).await;
        assert_eq!(analysis["state"], "completed", "{analysis}");
        assert_eq!(analysis["result"]["plan"][1]["start"], "2025-08-20T06:00:00Z", "{analysis}");
    }
    let events = events(process).await;
    assert_eq!(events.len(), REQUESTS, "no analysis is there that nobody asked for");
    for (id, events) in events {
        assert!(ids.contains(&id), "{id}");
        assert_eq!(events.iter().filter(is_end).count(), 1, "{id}: {events:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_workers_leave_one_result_for_each_request_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("notifications.key");
    std::fs::write(&key, [7; 32]).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let installation = Installation::new(Engine::Cluster)
        .with(TOLD)
        .with(&format!("notifications.key_file = {key:?}"));
    let api = installation.start("command-api", "api");
    api.ready().await;
    let _projector = installation.start("projector", "projector");
    let receiver = Receiver::default();
    told_twice(&api, &receiver).await;
    let names = ["worker-0", "worker-1"];
    let mut workers = names.map(|name| installation.start("worker", name));
    let mut random = StdRng::seed_from_u64(21);
    let ids = survives_kills(
        || api.url(""),
        async || {
            let pause = random.random_range(100..1_500);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let place = random.random_range(0..workers.len());
            workers[place].kill();
            workers[place] = installation.start("worker", names[place]);
        },
    )
    .await;
    each_has_one_result(&api, &ids).await;
    each_was_told(&api, &receiver, &ids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_workers_leave_one_result_for_each_request_embedded() {
    let installation = Installation::new(Engine::Embedded).with(TOLD);
    let mut process = installation.up().await;
    let receiver = Receiver::default();
    told_twice(&process, &receiver).await;
    let base = parking_lot::Mutex::new(process.url(""));
    let mut random = StdRng::seed_from_u64(22);
    let ids = survives_kills(
        || base.lock().clone(),
        async || {
            let pause = random.random_range(200..1_000);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            process.kill();
            process = installation.start("up", "up");
            *base.lock() = process.url("");
            process.ready().await;
        },
    )
    .await;
    each_has_one_result(&process, &ids).await;
    each_was_told(&process, &receiver, &ids).await;
    assert!(process.stop().success());
}
