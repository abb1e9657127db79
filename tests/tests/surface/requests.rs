//! The id of a request in its answer, its problem document and the log; and which requests are the
//! same.

use super::{ENGINES, SAMPLE, read};
use almanac_tests::process::{Answer, Engine, Installation};
use reqwest::StatusCode;
use serde_json::Value;
use std::collections::BTreeSet;
use uuid::Uuid;

fn id(answer: &Answer) -> Uuid {
    answer.header("request-id").parse().unwrap_or_else(|_| panic!("no id: {answer:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_the_id_of_its_request() {
    let installation = Installation::new(Engine::Embedded);
    let mut process = installation.up().await;
    let mut ids = BTreeSet::new();
    let large = "x".repeat(300_000);
    for (method, path, headers, body, status) in [
        ("GET", "/healthz", &[][..], "", 200),
        ("GET", "/metrics", &[("accept-encoding", "gzip")], "", 200),
        ("GET", "/search", &[], "", 200),
        ("GET", "/search?x=1", &[], "", 400),
        ("POST", "/search", &[], "", 405),
        ("OPTIONS", "/v1/recipes", &[("origin", "https://a.example")], "", 204),
        ("HEAD", "/v1/recipes", &[], "", 200),
        ("GET", "/nowhere", &[], "", 404),
        ("DELETE", "/v1/recipes", &[], "", 405),
        ("GET", "/v1/recipes?limit=0", &[], "", 400),
        ("GET", "/v1/recipes/x", &[], "", 404),
        ("GET", "/v1/recipes", &[("consistency-token", "x")], "", 400),
        ("POST", "/v1/recipes", &[], "{", 400),
        ("POST", "/v1/recipes", &[], "{}", 422),
        ("POST", "/v1/recipes", &[], &large, 413),
        ("POST", "/v1/recipes", &[("origin", "https://a.example")], SAMPLE, 403),
        ("POST", "/v1/recipes", &[("authorization", "Bearer x")], SAMPLE, 401),
        ("POST", "/v1/providers/x/fetches", &[], "", 404),
    ] {
        let answer = process.send(method, path, headers, body).await.unwrap();
        assert_eq!(answer.status.as_u16(), status, "{method} {path}: {answer:?}");
        assert!(ids.insert(id(&answer)), "another request has this id");
        if answer.header("content-type") == "application/problem+json" {
            let urn = format!("urn:uuid:{}", id(&answer));
            assert_eq!(answer.body["instance"], urn, "{method} {path}: {answer:?}");
        } else {
            assert!(status < 400 || path.starts_with("/search"), "{answer:?}");
        }
    }
    assert!(process.stop().success());
}

/// A write goes by the id of its request, also where its outcome is fetched later; what the decider
/// refuses names it as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_its_request() {
    for engine in ENGINES {
        let installation = Installation::new(engine);
        let mut process = installation.up().await;
        let missing = "/v1/recipes/0198c5a0-0000-7000-8000-000000000001";
        let refused = process.send("DELETE", missing, &[], "").await.unwrap();
        assert_eq!(refused.status, StatusCode::NOT_FOUND);
        assert_eq!(refused.body["instance"], format!("urn:uuid:{}", id(&refused)));
        // With a key it is the decider that refuses what is not as it was.
        let written = process.send("POST", "/v1/recipes", &[], SAMPLE).await.unwrap();
        let stale =
            [("prefer", "respond-async"), ("if-match", "\"9\""), ("idempotency-key", "stale")];
        let path = written.header("location");
        let taken = process.send("DELETE", path, &stale, "").await.unwrap();
        assert_eq!(taken.header("location"), format!("/v1/commands/{}", id(&taken)));
        let outcome = process
            .until("an outcome", || async {
                let (_, command) = process.get(taken.header("location")).await;
                (command["state"] == "decided").then(|| command["outcome"].clone())
            })
            .await;
        assert_eq!(outcome["body"]["instance"], format!("urn:uuid:{}", id(&taken)));
        let asked = ("consistency-token", written.header("consistency-token"));
        read(&process, written.header("location"), &[asked]).await;
        let (_, events) = process.get("/v1/events/recipes.events").await;
        assert_eq!(events["items"][0]["correlationid"], id(&written).to_string());
        assert!(process.stop().success());
    }
}

/// The same JSON in another way to write it is the same request; another one is refused, and that is
/// no repetition.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_json_is_the_same_request() {
    let turned: Value = serde_json::from_str(SAMPLE).unwrap();
    // In the order of their names, without spaces; and with escapes and another number.
    let compact = turned.to_string();
    let escaped = compact.replacen("Paprika", "\\u0050aprika", 1).replacen(
        "\"calories\":1",
        "\"calories\" :\t1.0",
        1,
    );
    assert_ne!(escaped, compact);
    for engine in ENGINES {
        let installation = Installation::new(engine);
        let mut process = installation.up().await;
        let post = async |key: &str, body: &str| {
            let headers = [("idempotency-key", key)];
            process.send("POST", "/v1/recipes", &headers, body).await.unwrap()
        };
        let first = post("one", SAMPLE).await;
        assert_eq!(first.status, StatusCode::CREATED, "{first:?}");
        assert_eq!(first.header("idempotent-replayed"), "");
        for body in [SAMPLE, &compact, &escaped] {
            let again = post("one", body).await;
            assert_eq!((again.status, &again.body), (StatusCode::CREATED, &first.body), "{body}");
            assert_eq!(again.header("idempotent-replayed"), "true");
        }
        for _ in 0..2 {
            let other = post("one", &compact.replacen("Paprika", "Pepper", 1)).await;
            assert_eq!(other.status, StatusCode::UNPROCESSABLE_ENTITY);
            assert_eq!(other.body["type"], "/problems/idempotency-key-reused");
            assert_eq!(other.header("idempotent-replayed"), "");
            assert_eq!(other.body["instance"], format!("urn:uuid:{}", id(&other)));
        }
        // The key still has its own answer, and so it has after a restart.
        assert!(process.stop().success());
        let mut process = installation.up().await;
        let headers = [("idempotency-key", "one")];
        let again = process.send("POST", "/v1/recipes", &headers, compact.clone()).await.unwrap();
        assert_eq!((again.status, &again.body), (StatusCode::CREATED, &first.body));
        assert!(process.stop().success());
    }
}
