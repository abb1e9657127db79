//! A transaction that another application left open holds back everything behind it. Nobody but its
//! owner or its time-out can end it; so it is at least said.

use almanac_tests::{
    address,
    process::{Engine, Installation},
    recipe,
};
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer},
};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_of_somebody_else_is_named() {
    let installation = Installation::new(Engine::Cluster);
    let mut process = installation.up().await;
    let topic = installation.topic("recipes.events");
    let name = topic.clone();
    let stranger = tokio::task::spawn_blocking(move || {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", address("ALMANAC_TEST_KAFKA"))
            .set("transactional.id", almanac_tests::unique('x'))
            .set("transaction.timeout.ms", "300000")
            .create()
            .unwrap();
        producer.init_transactions(PATIENCE).unwrap();
        producer.begin_transaction().unwrap();
        producer.send(BaseRecord::<(), [u8]>::to(&name).partition(2).payload(b"open")).unwrap();
        while producer.in_flight_count() > 0 {
            producer.poll(Duration::from_millis(10));
        }
        producer
    })
    .await
    .unwrap();
    process
        .until("a line about it", || async {
            process.log().contains("a transaction that is open holds back").then_some(())
        })
        .await;
    let log = process.log();
    let line = log.lines().find(|line| line.contains("holds back")).unwrap();
    for told in [topic.as_str(), "partition=2", "last_stable_offset=0", "high_watermark=1"] {
        assert!(line.contains(told), "{told} is missing: {line}");
    }
    assert_eq!(log.matches("holds back").count(), 1, "it is said once");

    tokio::task::spawn_blocking(move || stranger.abort_transaction(PATIENCE).unwrap())
        .await
        .unwrap();
    for number in 0..8 {
        let body = recipe(&format!("soup {number}"), "water");
        let answer = process.send("POST", "/v1/recipes", &[], body).await.unwrap();
        assert_eq!(answer.status, 201, "{:?}", answer.body);
        let id = answer.body["id"].as_str().unwrap();
        process.recipe_at(id, 1).await;
    }
    assert!(process.stop().success());
}
