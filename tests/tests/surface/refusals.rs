//! What cannot be is refused before its body is read and before it is a command.

use super::{Engine, pictures::bearer};
use almanac_event_log::{
    EventLog, Isolation, ReadLimit,
    embedded::{EmbeddedLog, EmbeddedOptions},
};
use almanac_tests::{process::Installation, recipe};
use reqwest::StatusCode;
use std::time::Duration;

/// Records of a topic of a stopped installation.
async fn records(installation: &Installation, topic: &str) -> usize {
    let folder = installation.folder().join("up").join("log");
    let log = EmbeddedLog::open(EmbeddedOptions::new(folder)).unwrap();
    let topic = installation.topic(topic);
    let mut found = 0;
    for partition in 0..log.topic(&topic).await.unwrap().partitions {
        let start = log.start(&topic, partition).await.unwrap();
        let end = log.end(&topic, partition, Isolation::Committed).await.unwrap();
        let mut reader = log.read_to(&topic, partition, start, end).await.unwrap();
        loop {
            let limit = ReadLimit { records: 1_000, bytes: 8 << 20 };
            let batch = reader.next(limit, Duration::from_secs(5)).await.unwrap();
            found += batch.records.len();
            if batch.records.is_empty() {
                break;
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_no_command() {
    // What may not have been known in time would become commands.
    let installation = Installation::new(Engine::Embedded).with("commands.check_wait = \"60s\"");
    let mut process = installation.up().await;
    let mary = bearer(&installation, "recipes:write", "mary");
    let (nothing, picture) =
        (format!("/v1/recipes/{}", uuid::Uuid::now_v7()), ("content-type", "image/png"));
    // No picture at all: who reads the body says so.
    process
        .until("what is there is known", || async {
            let path = format!("{nothing}/thumbnail");
            let answer = process.send("PUT", &path, &[picture], "x".repeat(1 << 20)).await.unwrap();
            (answer.status == StatusCode::NOT_FOUND).then_some(())
        })
        .await;
    let created = process.send("POST", "/v1/recipes", &[], recipe("r", "i")).await.unwrap();
    let path = created.header("location");
    let changed = process.send("PATCH", path, &[], r#"{"calories":1}"#).await.unwrap();
    assert_eq!(changed.status, StatusCode::OK, "{changed:?}");
    let (stale, key) = (("if-match", "\"1\""), ("idempotency-key", "k"));
    let hers = ("authorization", mary.as_str());
    for _ in 0..20 {
        let patch = r#"{"calories":2}"#;
        for (method, path, headers, expected) in [
            ("PATCH", nothing.as_str(), &[][..], StatusCode::NOT_FOUND),
            ("DELETE", nothing.as_str(), &[key], StatusCode::NOT_FOUND),
            ("PATCH", path, &[hers], StatusCode::FORBIDDEN),
            ("PUT", path, &[hers, key], StatusCode::FORBIDDEN),
            ("PATCH", path, &[stale], StatusCode::PRECONDITION_FAILED),
        ] {
            let refused = process.send(method, path, headers, patch).await.unwrap();
            assert_eq!(refused.status, expected, "{method}: {refused:?}");
            assert_eq!(refused.header("content-type"), "application/problem+json");
            if expected == StatusCode::PRECONDITION_FAILED {
                assert_eq!(refused.header("etag"), "\"2\"", "the current version is told");
            }
        }
        let thumbnail = format!("{path}/thumbnail");
        let refused = process.send("PUT", &thumbnail, &[hers, picture], "x").await.unwrap();
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "the body is not looked at: {refused:?}");
    }
    // What a key was answered stays, whatever happened since.
    let deleted = process.send("DELETE", path, &[key], "").await.unwrap();
    assert_eq!(deleted.status, StatusCode::OK, "{deleted:?}");
    let again = process.send("DELETE", path, &[key], "").await.unwrap();
    assert_eq!((again.status, again.header("idempotent-replayed")), (StatusCode::OK, "true"));
    for _ in 0..20 {
        let refused = process.send("PATCH", path, &[], "{}").await.unwrap();
        assert_eq!((refused.status, refused.header("etag")), (StatusCode::GONE, "\"3\""));
    }
    assert!(process.stop().success());
    // Created, changed, deleted, repeated; and the first of those that came a moment after what they
    // were refused for, before this was known here.
    let commands = records(&installation, "commands").await;
    assert!((4..10).contains(&commands), "{commands} of 164 requests are commands");
}
