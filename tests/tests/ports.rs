//! The ports' suites on real Kafka and Cassandra.

use almanac_event_log::{conformance, kafka::KafkaLog};
use almanac_read_store::{
    Change, ReadStore, Slice, StoreError, Table, Write,
    scylla::{ScyllaOptions, ScyllaStore},
};
use almanac_tests::forgetful_cql::ForgetfulCql;
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

/// A server forgets statements when its cache is full and when others prepare the same; the driver
/// prepares again once, the store until it succeeds.
#[tokio::test(flavor = "multi_thread")]
async fn cassandra_may_forget_statements() {
    let keyspace = almanac_tests::unique('k');
    let address = almanac_tests::address("ALMANAC_TEST_SCYLLA");
    let server = ForgetfulCql::start(address).await;
    let options = ScyllaOptions::new(vec![server.address.to_string()], keyspace);
    let store = ScyllaStore::connect(&options).await.unwrap();
    let table = Table::new("crowd", 1).unwrap();
    store.create_table(&table).await.unwrap();
    let put = |partition: &str| Write {
        table: table.clone(),
        change: Change::Put {
            partition: partition.to_owned(),
            clustering: "k".to_owned(),
            timestamp: 1,
            body: "{}".into(),
        },
    };
    // Executing once and once more is what the driver does for each try.
    server.forget(6);
    store.write(vec![put("p")]).await.unwrap();
    assert_eq!(server.left(), 0);
    server.forget(6);
    assert!(store.get(&table, "p", "k").await.unwrap().is_some());
    assert_eq!(server.left(), 0);
    server.forget(6);
    assert_eq!(store.slice(&table, "p", &Slice::all()).await.unwrap().len(), 1);
    assert_eq!(server.left(), 0);
    // One that never remembers is an error that ends, and the store goes on after it.
    server.forget(1000);
    let refused = store.write(vec![put("q")]).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable { .. }), "{refused}");
    assert!(server.left() > 900, "{} left: tried without end", server.left());
    server.forget(0);
    store.write(vec![put("q")]).await.unwrap();
}
