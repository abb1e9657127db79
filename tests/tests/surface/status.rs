//! "Is it well?", asked of the real binary.

use almanac_tests::{
    process::{Engine, Installation, Process},
    recipe,
};
use reqwest::StatusCode;
use serde_json::Value;

async fn status(process: &Process) -> Value {
    let (code, body) = process.get("/v1/admin/status").await;
    assert_eq!(code, StatusCode::OK, "{body}");
    body
}

async fn until_well(process: &Process) -> Value {
    let is_well = |told: &Value| told["problems"].as_array().is_some_and(Vec::is_empty);
    process.until("all to be well", async || Some(status(process).await).filter(is_well)).await
}

fn has(told: &Value, list: &str, name: &str, value: &str) -> bool {
    told[list].as_array().unwrap().iter().any(|one| one[name] == value)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_that_is_well_says_so() {
    let installation = Installation::new(Engine::Embedded);
    let process = installation.up().await;
    let told = until_well(&process).await;
    assert_eq!(told["engine"], "embedded");
    assert!(told["instances"][0]["roles"].as_array().unwrap().len() > 4, "{told}");
    assert!(has(&told, "projections", "name", "recipes"), "{told}");
    assert!(has(&told, "topics", "topic", "recipes.events"), "{told}");
    let said = installation.command("up", &["status"]);
    assert!(said.status.success(), "{said:?}");
    assert!(String::from_utf8(said.stdout).unwrap().ends_with("All is well.\n"));

    let written = process.send("POST", "/v1/recipes", &[], recipe("counted", "salt")).await;
    assert_eq!(written.unwrap().status, StatusCode::CREATED);
    let listed = installation.command("up", &["topics", "--json"]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    let topics = listed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let topics: Vec<Value> = topics.filter(|one| one["topic"] == "recipes.events").collect();
    let [recipes] = &topics[..] else { panic!("{listed}") };
    assert_eq!((&recipes["keeps"], &recipes["offsets"]), (&"forever".into(), &1.into()));
    let partitions = recipes["partitions"].as_array().unwrap();
    assert!(partitions.iter().all(|at| at["end"] == at["stable_end"]), "{recipes}");

    assert!(recipes["offsets_per_s"].is_number(), "{recipes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_nobody_fills_are_a_problem() {
    let installation = Installation::new(Engine::Cluster);
    let writer = installation.start("command-api", "writer");
    writer.ready().await;
    assert_eq!(until_well(&writer).await["engine"], "cluster");
    let written = writer.send("POST", "/v1/recipes", &[], recipe("unseen", "salt")).await;
    assert_eq!(written.unwrap().status, StatusCode::CREATED);
    // A busy machine may tell only later.
    let is_it = |one: &Value| {
        one["what"].as_str().is_some_and(|what| what.contains("projection recipes is"))
    };
    let problem = writer
        .until("the problem", async || {
            status(&writer).await["problems"].as_array()?.iter().find(|one| is_it(one)).cloned()
        })
        .await;
    assert_eq!(problem["severity"], "page");
    assert_eq!(problem["runbook"], "docs/runbooks/projection-behind.md");
    let code = writer
        .until("the problem in words", async || {
            let said = installation.command("writer", &["status"]);
            let text = String::from_utf8(said.stdout).unwrap();
            text.contains("page    the projection recipes is").then_some(said.status.code())
        })
        .await;
    assert_eq!(code, Some(1));

    let _projector = installation.start("projector", "projector");
    until_well(&writer).await;
}
