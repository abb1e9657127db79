//! Local state whose entries are damaged is folded again from the log, and nothing is lost or repeated.

use almanac_event_log::{
    EventLog, Isolation,
    embedded::{EmbeddedLog, EmbeddedOptions},
};
use almanac_processor::StateFolder;
use almanac_tests::{
    oracle,
    process::{Engine, Installation, Process},
    provider::{Provider, capacity, feed},
    recipe,
};
use reqwest::StatusCode;
use std::path::Path;

const PLANS: u64 = 40;

/// Makes garbage of every entry of a role's local state, and leaves its position.
async fn damage(data: &Path, prefix: &str, role: &str, topic: &str) -> usize {
    let log = EmbeddedLog::open(EmbeddedOptions::new(data.join("log"))).unwrap();
    let states = StateFolder::open(&data.join("state").join(role)).unwrap();
    let topic = format!("{prefix}.{topic}");
    let described = log.topic(&topic).await.unwrap();
    let mut damaged = 0;
    for partition in 0..described.partitions {
        let end = log.end(&topic, partition, Isolation::Committed).await.unwrap();
        let (state, position) = states.partition(partition, described.id, end).unwrap();
        let keys: Vec<Vec<u8>> = state
            .scan(b"")
            .map(|entry| entry.map(|(key, _)| key.to_vec()))
            .collect::<Result<_, _>>()
            .unwrap();
        assert!(keys.is_empty() || position > 0, "{role}: nothing would be folded again");
        damaged += keys.len();
        state.apply(keys.into_iter().map(|key| (key, Some("?"))), None).unwrap();
    }
    damaged
}

/// Waits until all of this version of the feed is in the tables.
async fn shows(process: &Process, version: u64) {
    process
        .until(&format!("version {version} of the feed"), || async {
            let (_, page) = process.get("/v1/plans?limit=500").await;
            let mut listed = 0;
            for plan in page["items"].as_array()? {
                let number = plan["plan_id"].as_str()?.parse().ok()?;
                let (_, plan) = process.get(&format!("/v1/plans/{}", plan["id"].as_str()?)).await;
                let wanted = capacity(number, version);
                if plan["listed"] != wanted.is_some() {
                    return None;
                }
                if let Some(wanted) = wanted {
                    (plan["zones"][0]["capacity"] == wanted).then_some(())?;
                    listed += 1;
                }
            }
            let wanted = (0..PLANS).filter(|plan| capacity(*plan, version).is_some()).count();
            (listed == wanted).then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_entries_are_folded_again() {
    let provider = Provider::start().await;
    provider.serve(feed(PLANS, 1));
    // What changes goes to disk at once.
    let installation = Installation::new(Engine::Embedded)
        .with_provider("changing", &provider.url())
        .with("commands.flush_changes = 1");
    let mut process = installation.up().await;
    shows(&process, 1).await;
    let key = ("idempotency-key", "once");
    let made = process.send("POST", "/v1/recipes", &[key], recipe("first", "salt")).await.unwrap();
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    let path = made.header("location").to_owned();
    let commands =
        process.send("PUT", &path, &[("prefer", "respond-async")], recipe("second", "salt"));
    let accepted = commands.await.unwrap();
    assert_eq!(accepted.status, StatusCode::ACCEPTED, "{}", accepted.body);
    let command = accepted.header("location").to_owned();
    let outcome = async |process: &Process| {
        let (_, told) = process.get(&command).await;
        (told["outcome"]["status"] == 200).then_some(())
    };
    process.until("the second version", || outcome(&process)).await;
    assert!(process.stop().success());

    let data = installation.folder().join("up");
    for (role, topic) in [
        ("ingestor-1", "ingest.state"),
        ("decider-recipes-1", "recipes.events"),
        ("decider-outcomes-2", "replies"),
        ("replies-2", "replies"),
    ] {
        assert!(damage(&data, &installation.name, role, topic).await > 0, "{role} has no entries");
    }

    provider.serve(feed(PLANS, 2));
    let process = installation.up().await;
    process.until("the outcome after the damage", || outcome(&process)).await;
    process
        .until("a third version", || async {
            let expected = [("if-match", "\"2\"")];
            let third =
                process.send("PUT", &path, &expected, recipe("third", "salt")).await.ok()?;
            assert_ne!(third.status, StatusCode::PRECONDITION_FAILED, "{}", third.body);
            (third.version() == Some(3)).then_some(())
        })
        .await;
    process
        .until("the answer to the key", || async {
            let again =
                process.send("POST", "/v1/recipes", &[key], recipe("first", "salt")).await.ok()?;
            assert_ne!(again.status, StatusCode::INTERNAL_SERVER_ERROR, "{}", again.body);
            if !again.status.is_success() {
                return None;
            }
            assert_eq!((again.status, &again.body), (made.status, &made.body));
            assert_eq!(again.header("idempotent-replayed"), "true");
            Some(())
        })
        .await;
    shows(&process, 2).await;
    oracle::check(&process, PLANS, 2).await;
    assert!(process.log().contains("it is folded again from the log"), "{}", process.log());
}
