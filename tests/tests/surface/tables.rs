//! Tables that are named anew: nobody answers from what is not there yet, and nobody takes the progress
//! of other tables for that of its own.

use super::read;
use almanac_tests::{
    process::{Engine, Installation, Keyspace, Process, client},
    recipe,
};
use reqwest::StatusCode;
use serde_json::Value;

/// What is not ready, in words; nothing when it is.
async fn waits_for(process: &Process) -> Option<String> {
    let answer = client().get(process.url("/readyz")).send().await.ok()?;
    let status = answer.status();
    let body: Value = serde_json::from_str(&answer.text().await.ok()?).ok()?;
    assert_eq!(status == StatusCode::OK, body["waiting_for"].is_null(), "{body}");
    body["waiting_for"].as_str().map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_may_be_named_anew() {
    let installation = Installation::new(Engine::Cluster);
    let writer = installation.start("command-api", "writer");
    let mut projector = installation.start("projector", "projector");
    writer.ready().await;
    let mut written = Vec::new();
    for number in 0..40 {
        let body = recipe(&format!("r{number}"), "salt");
        let created = writer.send("POST", "/v1/recipes", &[], body).await.unwrap();
        assert_eq!(created.status, StatusCode::CREATED, "{created:?}");
        let id = created.body["id"].as_str().unwrap().to_owned();
        writer.recipe_at(&id, 1).await;
        written.push(id);
    }
    assert!(projector.stop().success());

    // A reader of tables that nobody has folded yet is not ready, and says why.
    let keyspace = Keyspace(almanac_tests::unique('k'));
    let anew = [("ALMANAC__SCYLLA__KEYSPACE", keyspace.0.as_str())];
    let reader = installation.start_with("query-api", "reader", &anew);
    let told = reader
        .until("what is missing", async || {
            waits_for(&reader).await.filter(|told| told.contains("is folded to"))
        })
        .await;
    assert!(told.contains("projection recipes is folded to 0 of"), "{told}");
    let _projector = installation.start_with("projector", "projector", &anew);
    reader.ready().await;
    for id in &written {
        let (status, _) = reader.get(&format!("/v1/recipes/{id}")).await;
        assert_eq!(status, StatusCode::OK, "ready, and {id} is not there");
    }

    // Who was left on the old tables hears of new ones, which its own are not.
    let created = writer.send("POST", "/v1/recipes", &[], recipe("new", "salt")).await.unwrap();
    let (token, path) = (created.header("consistency-token"), created.header("location"));
    let strict = [("consistency-token", token), ("prefer", "handling=strict, wait=20")];
    let answer = read(&reader, path, &strict).await;
    assert_eq!((answer.status, answer.version()), (StatusCode::OK, Some(1)));
    writer
        .until("a word about the tables", async || {
            writer.log().contains("fills other tables").then_some(())
        })
        .await;
    for prefer in ["handling=strict, wait=1", "wait=1"] {
        let headers = [("consistency-token", token), ("prefer", prefer)];
        let answer = read(&writer, path, &headers).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    }
    let lenient = [("consistency-token", token), ("prefer", "wait=1")];
    let list = read(&writer, "/v1/recipes?ingredient=salt", &lenient).await;
    assert_eq!((list.status, list.header("consistency")), (StatusCode::OK, "stale"));
}
