//! The ports' suites on real Kafka and Cassandra.

use almanac_event_log::{conformance, kafka::KafkaLog};
use almanac_read_store::scylla::ScyllaStore;
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread")]
async fn kafka_keeps_the_event_log_contract() {
    conformance::all(Arc::new(KafkaLog::connect(almanac_tests::kafka()).unwrap())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cassandra_keeps_the_read_store_contract() {
    let store = ScyllaStore::connect(&almanac_tests::scylla("conformance")).await.unwrap();
    almanac_read_store::conformance::all(&store).await;
}
