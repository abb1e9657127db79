//! What unit tests of this crate share: an API over an empty embedded log and store.

use crate::{ApiState, PackingOptions, QueryMetrics, QueryOptions};
use almanac_edge::{Identity, identity::IdentityOptions};
use almanac_event_log::{
    Durability, EventLog, Retention, TopicSpec,
    embedded::{EmbeddedLog, EmbeddedOptions},
};
use almanac_read_store::{Change, ReadStore, Write, embedded::EmbeddedStore};
use almanac_schemas::{BuiltInRegistry, Codec, commands};
use prometheus_client::registry::Registry;
use std::{collections::HashMap, sync::Arc, time::Duration};

/// The folder has to live as long as the state.
pub(crate) async fn state() -> (tempfile::TempDir, Arc<ApiState>) {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(EmbeddedOptions::new(folder.path().join("log"))).unwrap();
    let topic = TopicSpec {
        name: commands::TOPIC.to_owned(),
        partitions: 1,
        retention: Retention::Forever,
        durability: Durability::Synced,
    };
    log.ensure_topics(&[topic]).await.unwrap();
    let store = EmbeddedStore::open(&folder.path().join("tables"), 1 << 20).unwrap();
    let tables = almanac_projector::plans::Tables::of(almanac_projector::plans::VERSION).unwrap();
    for table in tables.all() {
        store.create_table(table).await.unwrap();
    }
    let options = QueryOptions {
        cache_bytes: 1 << 20,
        picture_cache_bytes: 1 << 20,
        warm_up: Duration::ZERO,
        recipe_cache_bytes: 1 << 20,
        wait: Duration::from_secs(60),
        lists: 4,
        answer_bytes: 64 << 20,
        event_streams: 1,
        event_stream_time: Duration::from_secs(60),
        packing: PackingOptions {
            gzip_answers: 1,
            brotli_answers: 1,
            background: tokio::runtime::Handle::current(),
        },
        prefix: String::new(),
        serve_registry: false,
        freshness_s: HashMap::new(),
        supervisor: Default::default(),
        foreign: Default::default(),
    };
    let codec = Codec::new(Arc::new(BuiltInRegistry)).await.unwrap();
    let identity = Identity::new(IdentityOptions::default()).unwrap();
    let mut registry = Registry::default();
    let metrics = QueryMetrics::register(&mut registry);
    let state = ApiState::new(
        Arc::new(log),
        Arc::new(store),
        Arc::new(codec),
        Arc::new(identity),
        options,
        metrics,
        Arc::new(registry),
    );
    (folder, state.await.unwrap())
}

/// Plans of one day, one each minute, as the projector writes them.
pub(crate) async fn list_plans(state: &ApiState, plans: usize) {
    let put = |table, partition: &str, clustering: String, body: String| Write {
        table,
        change: Change::Put {
            partition: partition.to_owned(),
            clustering,
            timestamp: 1,
            body: body.into(),
        },
    };
    let day = "2031-06-30";
    let mut writes =
        vec![put(state.tables.days.clone(), "days", format!("{day}/0"), "{}".to_owned())];
    for plan in 0..plans {
        let start = format!("{day}T{:02}:{:02}:00Z", plan / 60 % 24, plan % 60);
        let id = format!("{plan:032x}");
        let body = format!(
            r#"{{"summary":{{"id":"{id}"}},"plan":{{"id":"{id}","provider":"p","base_plan_id":"{plan}","organizer_id":null,"title":"Plan {plan}","starts_at":"{start}","ends_at":null,"sell_from":null,"sell_to":null,"sold_out":false,"capacity":1,"min_price":{plan}.5,"max_price":{plan}.5,"listed":true,"last_seen_at":"2021-01-01T00:00:00.000Z"}}}}"#
        );
        writes.push(put(state.tables.by_start.clone(), day, format!("{start}/{id}/-/0/0"), body));
    }
    state.store.write(writes).await.unwrap();
    state.search.load_days().await.unwrap();
}
