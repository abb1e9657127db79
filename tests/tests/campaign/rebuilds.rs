//! Kills in every state of a rebuild, while others write.

use super::stage::Stage;
use almanac_tests::process::Answer;
use rand::RngExt;
use serde_json::{Value, json};

const REASON: &str = "the campaign";

/// What dies in each state: places of processes.
pub(crate) async fn killed_in_each_state(stage: &mut Stage, victims: &[usize]) {
    // Slow enough to be met on its way.
    let id = begin(stage, 1).await;
    until(stage, &id, &["hydrating"]).await;
    kill(stage, victims).await;
    until(stage, &id, &["hydrating"]).await;
    act(stage, &id, "pause").await;
    until(stage, &id, &["paused"]).await;
    kill(stage, victims).await;
    until(stage, &id, &["paused"]).await;
    act(stage, &id, "cancel").await;
    until(stage, &id, &["cancelled"]).await;

    let id = begin(stage, 0).await;
    // Each of these may be over before anybody looks; then the next one is met.
    let met = until(stage, &id, &["lagging", "verifying", "ready"]).await;
    println!("campaign: killed while a rebuild was {}", met["state"]);
    kill(stage, victims).await;
    let met = until(stage, &id, &["verifying", "ready"]).await;
    println!("campaign: killed while a rebuild was {}", met["state"]);
    kill(stage, victims).await;
    let ready = until(stage, &id, &["ready"]).await;
    assert_eq!(ready["different_rows"], 0, "{ready}");
    kill(stage, victims).await;
    until(stage, &id, &["ready"]).await;
    for (verb, state, serves) in [
        ("activate", "active", true),
        ("rollback", "rolled_back", false),
        ("activate", "active", true),
    ] {
        act(stage, &id, verb).await;
        kill(stage, victims).await;
        until(stage, &id, &[state]).await;
        let (api, path) = (stage.api(), format!("/v1/admin/rebuilds/{id}"));
        api.until(verb, || async { (api.get(&path).await.1["serving"] == serves).then_some(()) })
            .await;
    }
    act(stage, &id, "drop").await;
}

async fn kill(stage: &mut Stage, victims: &[usize]) {
    for place in victims {
        stage.kill_and_start(*place);
    }
    for place in victims {
        stage.processes[*place].ready().await;
    }
}

/// Asks until there is an answer for good: whoever was to decide may have died meanwhile.
async fn ask(stage: &mut Stage, path: &str, body: Value) -> Answer {
    let key = format!("rebuild-{}", stage.random.random::<u64>());
    let headers = [("prefer", "wait=30"), ("idempotency-key", &*key)];
    let api = stage.api();
    api.until(path, || async {
        let answer = api.send("POST", path, &headers, body.to_string()).await.ok()?;
        assert!(!answer.status.is_client_error(), "{path}: {}", answer.body);
        // What is accepted without a version is not decided yet.
        let is_decided = answer.status.is_success() && !answer.header("etag").is_empty();
        is_decided.then_some(answer)
    })
    .await
}

async fn begin(stage: &mut Stage, events_per_s: u32) -> String {
    let path = "/v1/admin/projections/recipes/rebuilds";
    let begun = ask(stage, path, json!({"reason": REASON, "events_per_s": events_per_s})).await;
    begun.body["id"].as_str().unwrap().to_owned()
}

async fn act(stage: &mut Stage, id: &str, verb: &str) {
    ask(stage, &format!("/v1/admin/rebuilds/{id}/{verb}"), json!({"reason": REASON})).await;
}

async fn until(stage: &Stage, id: &str, states: &[&str]) -> Value {
    let (api, path) = (stage.api(), format!("/v1/admin/rebuilds/{id}"));
    api.until(&format!("a rebuild that is {states:?}"), || async {
        let (_, found) = api.get(&path).await;
        assert_ne!(found["state"], "failed", "{found}");
        states.contains(&found["state"].as_str()?).then_some(found)
    })
    .await
}
