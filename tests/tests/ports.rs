//! The ports' suites on real Kafka and Cassandra.

use almanac_event_log::kafka::KafkaLog;
use almanac_read_store::{
    Change, ReadStore, Slice, StoreError, Table, Write,
    scylla::{ScyllaOptions, ScyllaStore},
};
use almanac_schemas::{ConfluentRegistry, Registry, RegistryOptions, files::SchemaFile};
use almanac_tests::faulty_cql::{Fault, FaultyCql};
use std::time::Duration;

mod kafka_keeps_the_event_log_contract {
    use super::*;

    async fn opened() -> (KafkaLog, ()) {
        (KafkaLog::connect(almanac_tests::kafka()).unwrap(), ())
    }

    almanac_event_log::event_log_conformance!(opened);
}

mod cassandra_keeps_the_read_store_contract {
    use super::*;

    async fn opened() -> (ScyllaStore, ()) {
        (ScyllaStore::connect(&almanac_tests::scylla("conformance")).await.unwrap(), ())
    }

    almanac_read_store::read_store_conformance!(opened);
}

/// A store behind a server that fails on demand, and a table in it.
async fn faulty() -> (FaultyCql, ScyllaStore, Table) {
    let server = FaultyCql::start(almanac_tests::address("ALMANAC_TEST_SCYLLA")).await;
    let keyspace = almanac_tests::unique('k');
    let options = ScyllaOptions::new(vec![server.address.to_string()], keyspace);
    let store = ScyllaStore::connect(&options).await.unwrap();
    let table = Table::new("crowd", 1).unwrap();
    store.create_table(&table).await.unwrap();
    (server, store, table)
}

fn put(table: &Table, partition: &str, clustering: &str) -> Write {
    Write {
        table: table.clone(),
        change: Change::Put {
            partition: partition.to_owned(),
            clustering: clustering.to_owned(),
            timestamp: 1,
            body: "{}".into(),
        },
    }
}

/// A server forgets statements when its cache is full and when others prepare the same; the driver
/// prepares again once, the store until it succeeds.
#[tokio::test(flavor = "multi_thread")]
async fn cassandra_may_forget_statements() {
    let (server, store, table) = faulty().await;
    // Executing once and once more is what the driver does for each try.
    server.fail(Fault::Unprepared, 6);
    store.write(vec![put(&table, "p", "k")]).await.unwrap();
    assert_eq!(server.left(), 0);
    server.fail(Fault::Unprepared, 6);
    assert!(store.get(&table, "p", "k").await.unwrap().is_some());
    assert_eq!(server.left(), 0);
    server.fail(Fault::Unprepared, 6);
    assert_eq!(store.slice(&table, "p", &Slice::all()).await.unwrap().len(), 1);
    assert_eq!(server.left(), 0);
    // One that never remembers is an error that ends, and the store goes on after it.
    server.fail(Fault::Unprepared, 1000);
    let refused = store.get(&table, "p", "k").await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable { .. }), "{refused}");
    assert!(server.left() > 900, "{} left: tried without end", server.left());
    server.fail(Fault::Unprepared, 0);
    assert!(store.get(&table, "p", "k").await.unwrap().is_some());
}

/// Of a large write, what the server did not take in time is written again, and nothing else is.
#[tokio::test(flavor = "multi_thread")]
async fn cassandra_may_be_late() {
    let (server, store, table) = faulty().await;
    let names: Vec<String> = (0..40).map(|n| format!("p{n}")).collect();
    server.fail(Fault::WriteTimeout, 60);
    // Every other partition takes a batch, the others a single statement.
    let keys = |n: usize| if n.is_multiple_of(2) { &["k", "l"][..] } else { &["k"] };
    let rows = |(n, name)| keys(n).iter().map(move |key| (name, *key));
    let rows: Vec<(&String, &str)> = names.iter().enumerate().flat_map(rows).collect();
    store.write(rows.iter().map(|(name, key)| put(&table, name, key)).collect()).await.unwrap();
    assert_eq!(server.left(), 0);
    for (name, key) in rows {
        assert!(store.get(&table, name, key).await.unwrap().is_some(), "{name}/{key} is missing");
    }
    server.fail(Fault::WriteTimeout, 1000);
    let late = store.write(vec![put(&table, "q", "k")]).await.unwrap_err();
    assert!(matches!(late, StoreError::Unavailable { .. }), "{late}");
    assert!(server.left() > 900, "{} left: tried without end", server.left());
}

/// A server reads, and sends, as much as a slice takes and not a page of thousands.
#[tokio::test(flavor = "multi_thread")]
async fn cassandra_reads_no_more_than_a_slice_takes() {
    const ROWS: usize = 5_200;
    let (server, store, table) = faulty().await;
    let keys: Vec<String> = (0..ROWS).map(|n| format!("{n:0100}")).collect();
    store.write(keys.iter().map(|key| put(&table, "p", key)).collect()).await.unwrap();
    let prefix = Slice { limit: 10, ..Slice::prefix("0") };
    for slice in [Slice { limit: 10, ..Slice::all() }, prefix] {
        let before = server.answered();
        assert_eq!(store.slice(&table, "p", &slice).await.unwrap().len(), 10);
        let sent = server.answered() - before;
        assert!(sent < 50_000, "{sent} bytes for ten rows of about 120");
    }
    let most = Slice { limit: ROWS - 1, ..Slice::all() };
    assert_eq!(store.slice(&table, "p", &most).await.unwrap().len(), ROWS - 1);
    assert_eq!(store.slice(&table, "p", &Slice::all()).await.unwrap().len(), ROWS);
}

/// Whoever registers a schema that does not fit is refused, whatever the registry's own rule is.
#[tokio::test(flavor = "multi_thread")]
async fn the_registry_holds_subjects_to_what_consumers_are_promised() {
    let url = almanac_tests::address("ALMANAC_TEST_REGISTRY");
    let prefix = format!("{}.", almanac_tests::unique('r'));
    let options = RegistryOptions {
        url: url.as_str().into(),
        prefix: prefix.clone(),
        timeout: Duration::from_secs(10),
        ..Default::default()
    };
    let registry = ConfluentRegistry::new(options).unwrap();
    let file = SchemaFile::newest("almanac.recipes.RecipeDeleted").unwrap();
    let id = registry.register(file).await.unwrap();
    let subject = file.subject(&prefix);
    let client = reqwest::Client::new();
    let level = client.get(format!("{url}/config/{subject}")).send().await.unwrap();
    let level = level.text().await.unwrap();
    assert!(level.contains("BACKWARD_TRANSITIVE"), "{level}");
    let text = r#"{"type":"record","name":"Other","fields":[{"name":"new","type":"int"}]}"#;
    let body = serde_json::json!({ "schema": text }).to_string();
    let posted = client
        .post(format!("{url}/subjects/{subject}/versions"))
        .header("content-type", "application/vnd.schemaregistry.v1+json")
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(posted.status(), reqwest::StatusCode::CONFLICT);
    assert_eq!(registry.register(file).await.unwrap(), id, "again, and as before");
}
