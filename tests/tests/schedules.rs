//! Schedules through the real binary: written, worked on, refused and repeated.

use almanac_tests::process::{Answer, Engine, Installation, Process};
use reqwest::StatusCode;
use serde_json::{Value, json};

fn schedule() -> Value {
    json!({
        "name": "Turbine 7", "location": {"lat": 61.5, "lon": 4.8}, "repeat_every": null,
        "tasks": [
            {"id": "mobilise", "name": "Mobilise", "duration": "PT2H", "contingency": null,
             "predecessors": [], "limits": []},
            {"id": "lift", "name": "Lift", "duration": "PT4H", "contingency": "PT1H",
             "predecessors": ["mobilise"],
             "limits": [{"variable": "wave_height_m", "max": 2.0}]},
        ],
    })
}

async fn send(process: &Process, method: &str, path: &str, body: &Value) -> Answer {
    process.send(method, path, &[], body.to_string()).await.unwrap()
}

/// The events of schedules in the log, as those without a Kafka client read them.
async fn events(process: &Process) -> Vec<Value> {
    let (status, page) = process.get("/v1/events/schedules.events?after=beginning").await;
    assert_eq!(status, StatusCode::OK, "{page}");
    page["items"].as_array().unwrap().clone()
}

/// What both engines must answer alike: everything but ids and times.
async fn life(engine: Engine) -> Vec<Value> {
    let installation = Installation::new(engine);
    let mut process = installation.up().await;
    let created = send(&process, "POST", "/v1/schedules", &schedule()).await;
    assert_eq!(created.status, StatusCode::CREATED, "{created:?}");
    assert_eq!(created.header("etag"), "\"1\"");
    let token = created.header("consistency-token").to_owned();
    assert!(token.starts_with("schedules."), "{token}");
    let id = created.body["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/schedules/{id}");
    assert_eq!(created.header("location"), path);
    let states = |answer: &Answer| {
        let tasks = answer.body["tasks"].as_array().unwrap();
        tasks.iter().map(|task| task["state"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(states(&created), ["planned", "planned"]);
    let mut answers = vec![created.body.clone()];

    // A task is started, and completed after that; not in the future, not before its start.
    let task = |task: &str, act: &str| format!("{path}/tasks/{task}/{act}");
    let too_early = send(&process, "POST", &task("mobilise", "complete"), &json!({})).await;
    assert_eq!(too_early.status, StatusCode::CONFLICT, "{too_early:?}");
    let at = json!({"at": "2025-01-01T06:00:00Z"});
    let started = send(&process, "POST", &task("mobilise", "start"), &at).await;
    assert_eq!((started.status, started.version()), (StatusCode::OK, Some(2)), "{started:?}");
    assert_eq!(started.body["tasks"][0]["started_at"], "2025-01-01T06:00:00.000Z");
    let again = send(&process, "POST", &task("mobilise", "start"), &at).await;
    assert_eq!((again.status, again.version()), (StatusCode::OK, Some(2)), "it is so already");
    for at in ["2025-01-01T05:59:59Z", "2999-01-01T00:00:00Z", "soon"] {
        let refused =
            send(&process, "POST", &task("mobilise", "complete"), &json!({"at": at})).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{refused:?}");
        assert_eq!(refused.body["errors"][0]["pointer"], "#/at", "{refused:?}");
    }
    let at = json!({"at": "2025-01-01T08:00:00Z"});
    let completed = send(&process, "POST", &task("mobilise", "complete"), &at).await;
    assert_eq!(states(&completed), ["completed", "planned"], "{completed:?}");
    let missing = send(&process, "POST", &task("tow", "start"), &json!({})).await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    answers.push(completed.body.clone());

    // What was answered may be sent back; states are kept by id, and not planned away.
    let same = send(&process, "PUT", &path, &completed.body).await;
    assert_eq!((same.status, same.version()), (StatusCode::OK, Some(3)), "{same:?}");
    let mut revised = schedule();
    revised["tasks"].as_array_mut().unwrap().reverse();
    revised["repeat_every"] = json!("PT6H");
    let stale =
        process.send("PUT", &path, &[("if-match", "\"2\"")], revised.to_string()).await.unwrap();
    assert_eq!((stale.status, stale.header("etag")), (StatusCode::PRECONDITION_FAILED, "\"3\""));
    let revised =
        process.send("PUT", &path, &[("if-match", "\"3\"")], revised.to_string()).await.unwrap();
    assert_eq!(revised.version(), Some(4), "{revised:?}");
    assert_eq!(states(&revised), ["planned", "completed"]);
    let mut without = schedule();
    without["tasks"].as_array_mut().unwrap().remove(0);
    without["tasks"][0]["predecessors"] = json!([]);
    let dropped = send(&process, "PUT", &path, &without).await;
    assert_eq!(dropped.status, StatusCode::CONFLICT, "{dropped:?}");
    let mut wrong = revised.body.clone();
    wrong["tasks"][0]["state"] = json!("completed");
    let wrong = send(&process, "PUT", &path, &wrong).await;
    assert_eq!(wrong.body["errors"][0]["pointer"], "#/tasks/0/state", "{wrong:?}");
    let patched = send(&process, "PATCH", &path, &json!({"name": "Turbine 8"})).await;
    assert_eq!((patched.version(), states(&patched)), (Some(5), states(&revised)), "{patched:?}");
    answers.push(patched.body.clone());

    // Created by key, it is created once.
    let key = [("idempotency-key", "a")];
    let post = || process.send("POST", "/v1/schedules", &key, schedule().to_string());
    let (first, second) = (post().await.unwrap(), post().await.unwrap());
    assert_eq!((first.status, first.body.clone()), (second.status, second.body.clone()));
    assert_eq!(second.header("idempotent-replayed"), "true");

    // A restart forgets nothing; what is deleted is gone.
    assert!(process.stop().success());
    let mut process = installation.up().await;
    let deleted = send(&process, "DELETE", &path, &Value::Null).await;
    assert_eq!((deleted.status, deleted.version()), (StatusCode::OK, Some(6)), "{deleted:?}");
    for (method, path, body) in [
        ("PUT", path.clone(), schedule()),
        ("DELETE", path.clone(), Value::Null),
        ("POST", task("lift", "start"), json!({})),
    ] {
        let gone = send(&process, method, &path, &body).await;
        assert_eq!(gone.status, StatusCode::GONE, "{method} {path}: {gone:?}");
    }
    let of_this = |event: &Value| event["subject"] == id.as_str();
    let events: Vec<Value> = events(&process).await.into_iter().filter(of_this).collect();
    let types: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(
        types,
        [
            "schedule.created",
            "task.started",
            "task.completed",
            "schedule.revised",
            "schedule.revised",
            "schedule.deleted"
        ]
    );
    assert_eq!(events[1]["data"]["task"], "mobilise");
    assert_eq!(events[3]["data"]["changed"], json!(["repeat_every", "tasks"]));
    assert_eq!(events[1]["source"], path);
    assert!(process.stop().success());
    for answer in &mut answers {
        for name in ["id", "created_at", "updated_at"] {
            answer[name] = Value::Null;
        }
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn both_engines_keep_schedules_alike() {
    let embedded = life(Engine::Embedded).await;
    let cluster = life(Engine::Cluster).await;
    assert_eq!(embedded, cluster);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_schedules_are_refused_and_change_nothing() {
    let installation = Installation::new(Engine::Embedded);
    let mut process = installation.up().await;
    let with = |change: &dyn Fn(&mut Value)| {
        let mut body = schedule();
        change(&mut body);
        body
    };
    for (body, pointer) in [
        (with(&|body| body["tasks"] = json!([])), "#/tasks"),
        (with(&|body| body["tasks"][0]["predecessors"] = json!(["lift"])), "#/tasks"),
        (with(&|body| body["tasks"][0]["predecessors"] = json!(["x"])), "#/tasks/0/predecessors/0"),
        (with(&|body| body["tasks"][0]["duration"] = json!("PT0S")), "#/tasks/0/duration"),
        (with(&|body| body["tasks"][1]["limits"][0]["max"] = json!(0)), "#/tasks/1/limits/0/max"),
        (with(&|body| body["repeat_every"] = json!("PT14M")), "#/repeat_every"),
        (with(&|body| body["location"]["lat"] = json!(91)), "#/location/lat"),
        (with(&|body| body["id"] = json!("a")), "#/id"),
    ] {
        let refused = send(&process, "POST", "/v1/schedules", &body).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{refused:?}");
        assert_eq!(refused.body["errors"][0]["pointer"], pointer, "{refused:?}");
    }
    let absent = "/v1/schedules/0198c5a0-0000-7000-8000-000000000001";
    for (method, path) in [("PUT", absent), ("DELETE", absent), ("PUT", "/v1/schedules/x")] {
        let refused = send(&process, method, path, &schedule()).await;
        assert_eq!(refused.status, StatusCode::NOT_FOUND, "a PUT never creates: {refused:?}");
    }
    let cut = process.send("POST", "/v1/schedules", &[], "{".to_owned()).await.unwrap();
    assert_eq!(cut.status, StatusCode::BAD_REQUEST);
    assert_eq!(events(&process).await, [Value::Null; 0]);
    assert!(process.stop().success());
}
