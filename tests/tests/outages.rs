//! Kafka, Cassandra and the registry absent at start, and going away later: said clearly, waited
//! for, and nothing that was acknowledged is lost. One test, since it stops servers that others
//! share; test programs run one after the other.

use almanac_event_log::{Append, EventLog, Headers, Record, kafka::KafkaLog};
use almanac_tests::{
    oracle,
    process::{Engine, Installation, Process},
    provider::{Provider, capacity, feed},
    servers::{signal_kafka, stack},
};
use reqwest::StatusCode;

const PLANS: u64 = 60;

/// Whatever happens, the servers are there again for who comes next.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        signal_kafka("CONT");
        for server in ["cassandra", "kafka", "registry"] {
            stack("start", server);
        }
    }
}

async fn says(process: &Process, text: &str) {
    process.until(text, || async { process.log().contains(text).then_some(()) }).await;
}

/// Waits until all of this version of the feed is in the tables.
async fn shows(process: &Process, version: u64) {
    process
        .until(&format!("version {version}"), || async {
            let (_, page) = process.get("/v1/plans?limit=500").await;
            let mut listed = 0;
            for plan in page["items"].as_array()? {
                let number = plan["plan_id"].as_str()?.parse().ok()?;
                let (_, plan) = process.get(&format!("/v1/plans/{}", plan["id"].as_str()?)).await;
                match capacity(number, version) {
                    None if plan["listed"] == false => {}
                    Some(wanted)
                        if plan["zones"][0]["capacity"] == wanted && plan["listed"] == true =>
                    {
                        listed += 1;
                    }
                    _ => return None,
                }
            }
            let wanted = (0..PLANS).filter(|plan| capacity(*plan, version).is_some()).count();
            (listed == wanted).then_some(())
        })
        .await;
}

async fn still_answers(process: &Process) {
    for _ in 0..20 {
        assert!(process.search("").await.len() > 10, "what is there is served");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// An event with a schema that only the registry knows, if it does: while nobody can say so, it is
/// neither passed over nor set aside.
async fn waits_for_a_schema(process: &Process, installation: &Installation, topic: &str) {
    const UNKNOWN: &[u8] = &[0, 0x7f, 0xff, 0xff, 0xff, 2];
    let record = Record {
        key: "nobody".into(),
        value: Some(UNKNOWN.into()),
        headers: Headers::default(),
        timestamp_ms: 0,
    };
    let append = Append { topic: installation.topic(topic).into(), partition: 0, record };
    let log = KafkaLog::connect(almanac_tests::kafka()).unwrap();
    log.append(vec![append]).await.unwrap();
    let path = format!("/v1/events/{topic}");
    let (status, told) = process.get(&path).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{told}");
    assert_eq!(told["detail"], "the schema registry does not answer; try again");
    assert_eq!(process.parked_keys("recipes").await, 0);
    stack("start", "registry");
    process
        .until("one key set aside", || async {
            (process.parked_keys("recipes").await == 1).then_some(())
        })
        .await;
    let (status, page) = process.get(&path).await;
    assert_eq!((status, &page["items"]), (StatusCode::OK, &serde_json::json!([])));
}

/// A broker that is frozen for some seconds says for a moment that there are no brokers, and clients
/// forget those they knew. All of them have to find it again by themselves: readers, members of
/// groups and producers.
async fn outlives_freezes(process: &Process) {
    let told = async || process.get("/readyz").await.1["status"].clone();
    for _ in 0..2 {
        assert!(signal_kafka("STOP"));
        let frozen = tokio::time::Instant::now();
        process
            .until("that it is cut off", || async { (told().await == "degraded").then_some(()) })
            .await;
        still_answers(process).await;
        // As long as it takes the controller to give the broker up.
        tokio::time::sleep_until(frozen + std::time::Duration::from_secs(12)).await;
        assert!(signal_kafka("CONT"));
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    }
    process.until("that it is well", || async { (told().await == "ready").then_some(()) }).await;
    let body = || almanac_tests::recipe("soup of the frozen", "ice");
    process
        .until("an answer to a write", || async {
            let answer = process.send("POST", "/v1/recipes", &[], body()).await.ok()?;
            let id = answer.body["id"].as_str().filter(|_| answer.status == 201)?.to_owned();
            process.recipe_at(&id, 1).await;
            Some(())
        })
        .await;
    assert!(!process.log().contains("same group.instance.id"), "nobody else is to blame");
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_may_be_away() {
    let _restored = Restored;
    for server in ["cassandra", "kafka", "registry"] {
        stack("stop", server);
    }
    let provider = Provider::start().await;
    provider.serve(feed(PLANS, 1));
    let installation =
        Installation::new(Engine::Cluster).with_provider("changing", &provider.url());
    let mut process = installation.start("up", "up");
    says(&process, "waiting for the read store at 127.0.0.1").await;
    stack("start", "cassandra");
    says(&process, "waiting for kafka at 127.0.0.1").await;
    stack("start", "kafka");
    says(&process, "waiting for the schema registry at http://127.0.0.1").await;
    // What was there a moment ago may go away before the start is done.
    stack("stop", "cassandra");
    stack("start", "registry");
    says(&process, "waiting for tables in the read store at 127.0.0.1").await;
    stack("start", "cassandra");
    process.ready().await;
    shows(&process, 1).await;

    stack("stop", "registry");
    provider.serve(feed(PLANS, 2));
    // Schemas are known by now: nobody asks for them again.
    shows(&process, 2).await;
    waits_for_a_schema(&process, &installation, "recipes.events").await;

    stack("kill", "kafka");
    still_answers(&process).await;
    provider.serve(feed(PLANS, 4));
    still_answers(&process).await;
    stack("start", "kafka");
    shows(&process, 4).await;

    stack("stop", "cassandra");
    still_answers(&process).await;
    provider.serve(feed(PLANS, 7));
    still_answers(&process).await;
    stack("start", "cassandra");
    shows(&process, 7).await;

    outlives_freezes(&process).await;
    provider.serve(feed(PLANS, 8));
    shows(&process, 8).await;

    oracle::check(&process, PLANS, 8).await;
    assert!(process.stop().success());

    // It keeps nothing: since it was stopped, nobody knows the schemas that the log names.
    let mut refused = installation.start("up", "again");
    says(&refused, "is not the one that topic").await;
    assert!(!refused.stop().success());
}
