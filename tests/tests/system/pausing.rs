//! Providers that an operator pauses and resumes: obeyed by whoever owns them, after restarts and when they
//! move to another owner, and told to those who may know.

use super::{ENGINES, observed};
use almanac_tests::{
    process::{Engine, Installation, Process},
    provider::{Provider, feed},
};
use axum::{http::StatusCode, response::IntoResponse};
use serde_json::{Value, json};

async fn act(process: &Process, verb: &str, reason: &str) -> (StatusCode, Value) {
    let path = format!("/v1/admin/providers/fever/{verb}");
    let body = json!({"reason": reason}).to_string();
    let answer = process.send("POST", &path, &[], body).await.unwrap();
    (answer.status, answer.body)
}

/// What a process measures of the one provider while it owns it.
async fn paused_gauge(process: &Process) -> Option<String> {
    let (_, text) = process.get("/metrics").await;
    let lines = text.as_str()?.lines();
    let found =
        lines.filter_map(|line| line.strip_prefix("almanac_ingest_paused{provider=\"fever\"} "));
    found.map(str::to_owned).next()
}

/// Waits until one of them owns the provider and obeys the pause.
async fn obeyed(processes: &[&Process]) {
    processes[0]
        .until("an owner that obeys", || async {
            for process in processes {
                if paused_gauge(process).await.as_deref() == Some("1") {
                    return Some(());
                }
            }
            None
        })
        .await;
}

/// Several requests to fetch that go through the log are handled by passing them over: what the provider
/// counts afterwards is what it counted when its owner began to obey.
async fn rests(processes: &[&Process], provider: &Provider) {
    obeyed(processes).await;
    // One that was under way when the pause came is told of before long.
    let at = processes[0]
        .until("no fetch under way", || async {
            let before = provider.requests();
            tokio::time::sleep(std::time::Duration::from_millis(400)).await;
            (provider.requests() == before).then_some(before)
        })
        .await;
    // Its interval is at most 300 ms: unpaused, it would be fetched some times.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(provider.requests(), at, "nobody asks it");
}

async fn told(process: &Process) {
    let (_, public) = process.get("/v1/providers/fever").await;
    assert_eq!(public["paused"]["by"], "local", "{public}");
    assert_eq!(public["paused"]["reason"], Value::Null, "that is for operators: {public}");
    assert_eq!(
        (&public["next_fetch_at"], public["breaker"].as_str()),
        (&Value::Null, Some("closed"))
    );
    let (_, status) = process.get("/v1/admin/status").await;
    let providers = status["providers"].as_array().unwrap();
    assert_eq!(providers[0]["paused"]["reason"], "their maintenance", "{status}");
    let problems = status["problems"].as_array().unwrap();
    let of_pause: Vec<&Value> = problems
        .iter()
        .filter(|one| one["runbook"] == "docs/runbooks/provider-paused.md")
        .collect();
    assert_eq!(of_pause.len(), 1, "{status}");
    assert_eq!(of_pause[0]["severity"], "ticket");
    assert_eq!(of_pause[0]["since"], public["paused"]["since"]);
    assert_eq!(of_pause[0]["what"], "fever is not fetched: local paused it: their maintenance");
}

async fn paused_and_resumed(engine: Engine) {
    let provider = Provider::start().await;
    provider.serve(feed(10, 1));
    let installation = Installation::new(engine).with_provider("fever", &provider.url());
    let mut process = installation.up().await;
    observed(&process, "fever", "unchanged").await;
    let (status, refused) = act(&process, "resume", "").await;
    assert_eq!(status, StatusCode::CONFLICT, "{refused}");
    let said =
        installation.command("up", &["ingest", "pause", "fever", "--reason", "their maintenance"]);
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.status.success() && text.contains("fever is paused by local since"), "{said:?}");
    let (status, again) = act(&process, "pause", "another word").await;
    assert_eq!((status, &again["paused"]["reason"]), (StatusCode::OK, &json!("their maintenance")));
    rests(&[&process], &provider).await;
    told(&process).await;

    let fetch = process.send("POST", "/v1/providers/fever/fetches", &[], "").await.unwrap();
    assert_eq!(fetch.status, StatusCode::CONFLICT, "{}", fetch.body);
    assert!(fetch.body["detail"].as_str().unwrap().starts_with("local paused fever at "));
    // That asks nobody: the stored body is read again, and no fetch follows.
    let replay = process.send("POST", "/v1/providers/fever/replays", &[], "").await.unwrap();
    assert_eq!(replay.status, StatusCode::ACCEPTED);
    observed_replay(&process).await;
    rests(&[&process], &provider).await;

    process.kill();
    drop(process);
    process = installation.up().await;
    rests(&[&process], &provider).await;
    told(&process).await;

    provider.serve(feed(10, 2));
    let (status, resumed) = act(&process, "resume", "they are done").await;
    assert_eq!(
        (status, &resumed["paused"], &resumed["version"]),
        (StatusCode::OK, &Value::Null, &json!(2))
    );
    observed(&process, "fever", "unchanged").await;
    let (_, public) = process.get("/v1/providers/fever").await;
    assert_eq!((&public["paused"], public["next_fetch_at"].is_string()), (&Value::Null, true));
    let (_, audit) = process.get("/v1/admin/audit").await;
    let [newest, before] = &audit["items"].as_array().unwrap()[..] else { panic!("{audit}") };
    assert_eq!(
        (&newest["action"], &newest["reason"], &newest["outcome"]),
        (&json!("resume"), &json!("they are done"), &json!("resumed"))
    );
    assert_eq!(
        (&before["action"], &before["target"]),
        (&json!("pause"), &json!("providers/fever"))
    );
    let (_, events) = process.get("/v1/events/operations.events?after=beginning").await;
    let types: Vec<&Value> =
        events["items"].as_array().unwrap().iter().map(|event| &event["type"]).collect();
    assert_eq!(types, ["provider.paused", "provider.resumed"], "{events}");
    let (status, _) = {
        let path = "/v1/admin/providers/nobody/pause";
        let answer = process.send("POST", path, &[], "{}").await.unwrap();
        (answer.status, ())
    };
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(process.stop().success());
}

async fn observed_replay(process: &Process) {
    process
        .until("the replay", || async {
            process.provider("fever").await?["last_replay"]["at"].is_string().then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_provider_rests_until_it_is_resumed() {
    for engine in ENGINES {
        paused_and_resumed(engine).await;
    }
}

/// The pause comes while the first fetch is under way, before the provider was ever heard of; the owner is
/// killed; the other ingestor, which takes over, obeys as well.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_over_obeys_a_pause() {
    let provider = Provider::start().await;
    provider.answer(|_, _| StatusCode::SERVICE_UNAVAILABLE.into_response());
    let installation = Installation::new(Engine::Cluster).with_provider("fever", &provider.url());
    let api = installation.start("command-api", "api");
    api.ready().await;
    let (status, paused) = act(&api, "pause", "not before their contract is signed").await;
    assert_eq!(status, StatusCode::OK, "{paused}");
    let mut first = installation.start("ingestor", "first");
    first.ready().await;
    obeyed(&[&first]).await;
    let mut second = installation.start("ingestor", "second");
    second.ready().await;
    rests(&[&first, &second], &provider).await;
    assert_eq!(provider.requests(), 0, "it was paused before anybody owned it");
    let is_first = paused_gauge(&first).await.is_some();
    let (owner, other) = if is_first { (&mut first, &second) } else { (&mut second, &first) };
    owner.kill();
    rests(&[other], &provider).await;
    assert_eq!(provider.requests(), 0);
    let (_, told) = api.get("/v1/providers/fever").await;
    assert_eq!((&told["paused"]["by"], &told["last_outcome"]), (&json!("local"), &Value::Null));
    let (status, _) = act(&api, "resume", "it is signed").await;
    assert_eq!(status, StatusCode::OK);
    other.until("a fetch", || async { (provider.requests() > 0).then_some(()) }).await;
}
