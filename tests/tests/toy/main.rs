//! A context, a projection and a read model that no product code knows, through the real decider,
//! projector and query API: what `docs/extending.md` says is all that it takes.

mod context;
mod fold;
mod read_model;
mod record;
mod rules;
mod tables;

use almanac_command_api::{
    CommandApi, CommandApiOptions, Decider, DeciderMetrics, DeciderOptions, Follower, Replies,
    Topics,
    contexts::{Context, Contexts},
};
use almanac_edge::{Identity, Routes, identity::IdentityOptions, openapi};
use almanac_event_log::{
    Durability, EventLog, Retention, TopicSpec,
    embedded::{EmbeddedLog, EmbeddedOptions},
};
use almanac_operations::Operations;
use almanac_processor::{Foreign, GatherLimits, ProcessorOptions, Role, StateFolder};
use almanac_projector::{Projector, ProjectorMetrics, ProjectorOptions};
use almanac_query_api::{ApiState, Declared, PackingOptions, QueryMetrics, QueryOptions};
use almanac_read_store::{ReadStore, embedded::EmbeddedStore};
use almanac_schemas::{
    BuiltInRegistry, Codec, RegisteredSchema, Registry, RegistryError, files::SchemaFile,
};
use almanac_tables::Source;
use almanac_tests::process::{PATIENCE, client};
use async_trait::async_trait;
use prometheus_client::registry::Registry as Metrics;
use std::{collections::HashMap, path::Path, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

const CONTEXTS: Contexts = &[&context::Greetings];
const MODELS: &[Declared] = &[read_model::MODEL];

/// The schemas of this program, and the toy's.
struct OneMore;

const ID: u32 = 1_000_000;

#[async_trait]
impl Registry for OneMore {
    async fn register(&self, file: &SchemaFile) -> Result<u32, RegistryError> {
        if *file == record::SCHEMA { Ok(ID) } else { BuiltInRegistry.register(file).await }
    }

    async fn fetch(&self, id: u32) -> Result<RegisteredSchema, RegistryError> {
        BuiltInRegistry.fetch(id).await
    }
}

struct Installation {
    log: Arc<dyn EventLog>,
    store: Arc<dyn ReadStore>,
    codec: Arc<Codec>,
    topics: Topics,
    identity: Arc<Identity>,
    folder: tempfile::TempDir,
}

impl Installation {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(EmbeddedOptions::new(folder.path().join("log"))).unwrap();
        let topics = Topics::of(CONTEXTS, "", 2);
        let mut specs = topics.specs(Duration::from_secs(86_400));
        specs.push(almanac_projector::changes("", 2));
        // What operators did is part of every installation.
        specs.push(TopicSpec {
            name: almanac_schemas::operations::TOPIC.to_owned(),
            partitions: 2,
            retention: Retention::Forever,
            durability: Durability::Synced,
        });
        log.ensure_topics(&specs).await.unwrap();
        let store = EmbeddedStore::open(&folder.path().join("tables"), 1 << 20).unwrap();
        let tables = tables::Tables::of(tables::VERSION).unwrap();
        almanac_tables::prepare(&store, &tables).await.unwrap();
        let files = SchemaFile::all_newest().chain([&record::SCHEMA]);
        let codec = Codec::of(Arc::new(OneMore), files).await.unwrap();
        let identity = IdentityOptions { local_user: true, ..IdentityOptions::default() };
        Self {
            log: Arc::new(log),
            store: Arc::new(store),
            codec: Arc::new(codec),
            topics,
            identity: Arc::new(Identity::new(identity).unwrap()),
            folder,
        }
    }

    fn state(&self, name: &str) -> StateFolder {
        let path = self.folder.path().join(name);
        StateFolder::open(Path::new(&path)).unwrap()
    }

    fn run(&self, role: &str, input: &str, run: Arc<impl Role + 'static>) {
        let options = ProcessorOptions::new(role, input, role);
        let stop = CancellationToken::new();
        tokio::spawn(almanac_processor::run(self.log.clone(), options, run, stop));
    }

    fn decide(&self) {
        let decider = Decider {
            topics: self.topics.clone(),
            options: DeciderOptions::default(),
            codec: self.codec.clone(),
            aggregates: CONTEXTS.iter().map(|context| self.state(context.name())).collect(),
            outcomes: self.state("outcomes"),
            metrics: DeciderMetrics::default(),
        };
        self.run("decider", self.topics.commands(), Arc::new(decider));
    }

    fn project(&self) {
        let projection = Arc::new(tables::Tables::of(tables::VERSION).unwrap());
        for source in Source::of(&*projection) {
            let projector = Projector {
                source,
                topics: almanac_projector::Topics::new("", &source),
                options: ProjectorOptions::default(),
                store: self.store.clone(),
                codec: self.codec.clone(),
                projection: projection.clone(),
                metrics: ProjectorMetrics::register(&mut Metrics::default()),
                rebuilding: None,
                operations: None,
            };
            let input = projector.topics.source().to_owned();
            self.run("projector", &input, Arc::new(projector));
        }
    }

    async fn writes(&self) -> Routes {
        let replies = Replies::new(100, GatherLimits::default());
        let api = CommandApi::new(
            self.log.clone(),
            self.codec.clone(),
            self.topics.clone(),
            replies.clone(),
            self.identity.clone(),
            CommandApiOptions::default(),
        );
        let api = api.await.unwrap();
        let follower = Follower {
            replies: replies.clone(),
            log: self.log.clone(),
            codec: self.codec.clone(),
            topics: self.topics.clone(),
            folder: self.state("replies"),
            foreign: Foreign::default(),
        };
        tokio::spawn(async move { follower.follow().await });
        until(|| replies.is_ready()).await;
        almanac_command_api::routes(api)
    }

    async fn reads(&self) -> Routes {
        let operations = Operations::open(self.log.clone(), self.codec.clone(), "").await;
        let options = QueryOptions {
            cache_bytes: 1 << 20,
            warm_up: Duration::ZERO,
            plan_index_bytes: 1 << 20,
            recipe_cache_bytes: 1 << 20,
            recipe_index_bytes: 1 << 20,
            analysis_cache_bytes: 1 << 20,
            picture_cache_bytes: 1 << 20,
            wait: PATIENCE,
            lists: 4,
            answer_bytes: 1 << 20,
            event_streams: 4,
            event_stream_time: PATIENCE,
            packing: PackingOptions {
                gzip_answers: 4,
                brotli_answers: 4,
                background: tokio::runtime::Handle::current(),
            },
            purges: None,
            prefix: String::new(),
            openapi: openapi::document([read_model::MODEL.openapi, context::Greetings.openapi()])
                .unwrap(),
            models: MODELS,
            serve_registry: false,
            freshness_s: HashMap::new(),
            supervisor: Default::default(),
            foreign: Default::default(),
            installation: Default::default(),
            inspect: Default::default(),
            page: Default::default(),
            operations: operations.unwrap(),
            projections: Vec::new(),
        };
        let (log, store, codec) = (self.log.clone(), self.store.clone(), self.codec.clone());
        let (mut metrics, identity) = (Metrics::default(), self.identity.clone());
        let measured = QueryMetrics::register(&mut metrics);
        let state = ApiState::new(log, store, codec, identity, options, measured, metrics.into());
        let state = state.await.unwrap();
        tokio::spawn(almanac_query_api::follow(state.clone()));
        until(|| state.is_ready()).await;
        almanac_query_api::routes(&state)
    }
}

async fn until(holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it holds in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_context_needs_its_own_files_and_a_line_in_each_list() {
    let installation = Installation::new().await;
    installation.decide();
    installation.project();
    let router = installation.reads().await.merge(installation.writes().await).into_router();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });

    let made = client()
        .post(format!("{base}/v1/greetings"))
        .header("content-type", "application/json")
        .body(r#"{"text":"Good morning."}"#);
    let made = made.send().await.unwrap();
    assert_eq!(made.status(), 201);
    let address = made.headers()["location"].to_str().unwrap().to_owned();
    let token = made.headers()["consistency-token"].clone();
    let read = client().get(format!("{base}{address}")).header("consistency-token", token);
    let read = read.send().await.unwrap();
    assert_eq!(read.status(), 200, "the read waits for the projector");
    let body = read.text().await.unwrap();
    assert!(body.contains("Good morning."), "{body}");
    assert_eq!(body, made.text().await.unwrap());
    let document = client().get(format!("{base}/openapi.json")).send().await.unwrap();
    let document = document.text().await.unwrap();
    assert!(document.contains("makeGreeting") && document.contains("getGreeting"));
}

/// It names every file, and shows those that a context, a projection and a read model are.
#[test]
fn the_page_shows_the_files_of_the_toy() {
    let root = almanac_tests::root();
    let page = std::fs::read_to_string(root.join("docs/extending.md")).unwrap();
    for entry in std::fs::read_dir(root.join("tests/tests/toy")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(page.contains(&format!("`{name}`")), "docs/extending.md does not name {name}");
    }
    for shown in ["context.rs", "tables.rs", "fold.rs", "read_model.rs"] {
        let text = std::fs::read_to_string(root.join("tests/tests/toy").join(shown)).unwrap();
        let listing = format!("```rust\n{text}```");
        assert!(page.contains(&listing), "docs/extending.md shows another {shown}");
    }
}
