//! Records that cannot be read or folded: at most their keys are set aside, and nothing else waits
//! for them.

use almanac_event_log::{
    Append, EventLog, Headers, Isolation, ReadLimit, Record, StoredRecord, kafka::KafkaLog,
};
use almanac_tests::{
    process::{Engine, Installation, Process},
    provider::{Provider, feed},
    recipe,
};
use bytes::Bytes;
use reqwest::StatusCode;
use serde_json::json;
use std::{sync::Arc, time::Duration};

/// Written into a name where the event will hold a NUL character instead.
const MARK: u8 = b'~';

/// Creates a recipe; its id, and the partition it lies in.
async fn create(process: &Process, name: &str, ingredient: &str) -> (String, u32) {
    let body = recipe(name, ingredient);
    let created = process.send("POST", "/v1/recipes", &[], body).await.unwrap();
    assert_eq!(created.status, StatusCode::CREATED, "{created:?}");
    let token = created.header("consistency-token");
    let partition = token.split('-').nth(1).unwrap().parse().unwrap();
    (created.body["id"].as_str().unwrap().to_owned(), partition)
}

/// The only event of a key.
async fn event_of(log: &KafkaLog, topic: &str, partition: u32, key: &str) -> StoredRecord {
    let end = log.end(topic, partition, Isolation::Committed).await.unwrap();
    let mut reader = log.read_to(topic, partition, 0, end).await.unwrap();
    loop {
        let limit = ReadLimit { records: 1_000, bytes: 8 << 20 };
        let batch = reader.next(limit, Duration::from_secs(1)).await.unwrap();
        let is_it = |stored: &StoredRecord| stored.record.key == key.as_bytes();
        if let Some(found) = batch.records.into_iter().find(is_it) {
            return found;
        }
        assert!(batch.at_end.is_empty(), "no event of {key} in {topic}/{partition}");
    }
}

/// One value that is no event, and one event with a name that no table takes as a key, as another
/// version of the decider might have written them.
#[tokio::test(flavor = "multi_thread")]
async fn keys_of_events_that_cannot_be_folded_are_set_aside() {
    let installation = Installation::new(Engine::Cluster);
    let mut process = installation.up().await;
    let (damaged, partition) = create(&process, "first", "left~right").await;
    process.recipe_at(&damaged, 1).await;

    let log = KafkaLog::connect(almanac_tests::kafka()).unwrap();
    let topic = installation.topic("recipes.events");
    let stored = event_of(&log, &topic, partition, &damaged).await;
    let append = |record| Append { topic: topic.as_str().into(), partition, record };
    let mut unwritable = stored.record.clone();
    let value = unwritable.value.unwrap();
    assert_eq!(value.iter().filter(|byte| **byte == MARK).count(), 1);
    let with_nul = |byte: &u8| if *byte == MARK { 0 } else { *byte };
    unwritable.value = Some(value.iter().map(with_nul).collect::<Vec<u8>>().into());
    let mut unreadable = stored.record;
    unreadable.key = Bytes::from_static(b"nobody");
    unreadable.value = Some(Bytes::from_static(b"no event"));
    log.append(vec![append(unwritable), append(unreadable)]).await.unwrap();

    // And one with a key that no table takes, from the same hand.
    let mut endless = event_of(&log, &topic, partition, &damaged).await.record;
    endless.key = vec![b'k'; 70_000].into();
    endless.value = Some(Bytes::from_static(b"no event"));
    log.append(vec![append(endless)]).await.unwrap();
    process
        .until("three keys set aside", || async {
            (process.parked_keys("recipes").await == 3).then_some(())
        })
        .await;
    let longest = process.log().lines().map(str::len).max();
    assert!(longest < Some(4_000), "a line of the log has {longest:?} bytes");
    // A write of a parked key is decided, and read once the key is folded again.
    let path = format!("/v1/recipes/{damaged}");
    let revised = process.send("PUT", &path, &[], recipe("second", "salt")).await.unwrap();
    assert_eq!((revised.status, revised.version()), (StatusCode::OK, Some(2)));
    // Its token is never answered with less in silence.
    let token = revised.header("consistency-token").to_owned();
    let says_so = async |process: &Process| {
        let read = async |path: &str, headers: &[(&str, &str)]| {
            process.send("GET", path, headers, "").await.unwrap()
        };
        let token = ("consistency-token", token.as_str());
        let strict = [token, ("prefer", "handling=strict, wait=20")];
        let history = format!("{path}/history");
        for path in [path.as_str(), &history, "/v1/recipes?ingredient=salt"] {
            let refused = read(path, &strict).await;
            assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{path}: {refused:?}");
            let stale = read(path, &[token]).await;
            assert_eq!(
                (stale.status, stale.header("consistency")),
                (StatusCode::OK, "stale"),
                "{path}"
            );
        }
        assert_eq!(read(&path, &[]).await.header("consistency"), "stale", "also without a token");
        assert_eq!(read("/v1/recipes?ingredient=salt", &[]).await.header("consistency"), "");
    };
    says_so(&process).await;
    let others_go_on = async |process: &Process| {
        let mut was_beside = false;
        for number in 0..40 {
            let body = recipe(&format!("n{number}"), "pepper");
            let created = process.send("POST", "/v1/recipes", &[], body).await.unwrap();
            let strict = [
                ("consistency-token", created.header("consistency-token")),
                ("prefer", "handling=strict, wait=20"),
            ];
            for path in [created.header("location"), "/v1/recipes?ingredient=pepper"] {
                let answer = process.send("GET", path, &strict, "").await.unwrap();
                assert_eq!((answer.status, answer.header("consistency")), (StatusCode::OK, ""));
            }
            was_beside |= created.header("consistency-token").contains(&format!("-{partition}-"));
        }
        assert!(was_beside, "one of forty lies in the same partition of four");
        let (status, read) = process.get(&path).await;
        assert_eq!((status, &read["version"]), (StatusCode::OK, &json!(1)), "{read}");
    };
    others_go_on(&process).await;

    assert!(process.stop().success());
    process = installation.up().await;
    others_go_on(&process).await;
    says_so(&process).await;
    assert_eq!(process.parked_keys("recipes").await, 3, "they stay set aside after a restart");
}

/// What somebody else wrote onto topics of ours, on all of them, with keys of ours: a process that
/// reads them from their start passes over it, and goes on with what it can read.
#[tokio::test(flavor = "multi_thread")]
async fn values_that_are_no_records_hold_up_nobody() {
    const PLANS: u64 = 50;
    let provider = Provider::start().await;
    provider.serve(feed(PLANS, 1));
    let installation = Installation::new(Engine::Cluster).with_provider("feed", &provider.url());
    let mut process = installation.up().await;
    let (damaged, _) = create(&process, "first", "salt").await;
    let sequence = async |process: &Process| {
        let (_, list) = process.get("/v1/plans?limit=500").await;
        let mut plans = list["items"].as_array()?.iter();
        plans.find(|plan| plan["base_plan_id"] == "b0")?["sequence"].as_u64()
    };
    assert_eq!(process.until("a plan", async || sequence(&process).await).await, 1);
    assert!(process.stop().success());

    let log = KafkaLog::connect(almanac_tests::kafka()).unwrap();
    let topics = [
        "commands",
        "replies",
        "recipes.events",
        "ingest.requests",
        "ingest.state",
        "ingest.payloads",
        "projections.changes",
    ];
    let mut appends = Vec::new();
    for topic in topics {
        let topic: Arc<str> = installation.topic(topic).into();
        for partition in 0..log.topic(&topic).await.unwrap().partitions {
            for key in [damaged.as_str(), "feed", "nobody"] {
                let key = Bytes::copy_from_slice(key.as_bytes());
                let value = Some(Bytes::from_static(b"no record"));
                let record = Record { key, value, headers: Headers::default(), timestamp_ms: 0 };
                appends.push(Append { topic: topic.clone(), partition, record });
            }
        }
    }
    log.append(appends).await.unwrap();

    // Under another name, and so without any local state.
    let process = installation.start("up", "stranger");
    process.ready().await;
    for number in 0..40 {
        let (id, _) = create(&process, &format!("n{number}"), "pepper").await;
        process.recipe_at(&id, 1).await;
    }
    let path = format!("/v1/recipes/{damaged}");
    let refused = process.send("PUT", &path, &[], recipe("second", "salt")).await.unwrap();
    assert_eq!(refused.status, StatusCode::INTERNAL_SERVER_ERROR, "{refused:?}");
    assert!(process.log().contains("cannot be read"), "{}", process.log());

    let output = installation.command("stranger", &["ingest", "replay", "feed"]);
    assert!(output.status.success(), "{output:?}");
    provider.serve(feed(PLANS, 3));
    // What was known of the plan is known still: it changed, and was not listed anew.
    process
        .until("what changed", async || sequence(&process).await.filter(|seen| *seen == 2))
        .await;
}
