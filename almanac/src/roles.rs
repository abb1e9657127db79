//! The roles, composed into one process.

use crate::{
    admin,
    config::{Config, Engine},
    engine::{self, Opened},
    open_files,
    tasks::Tasks,
};
use almanac_command_api::{CommandApi, Decider, Replies};
use almanac_edge::{Identity, ServeOptions};
use almanac_event_log::{EventLog, TopicSpec};
use almanac_ingestor::{IngestMetrics, Ingestor};
use almanac_processor::{Ending, Foreign, ProcessorOptions, Supervisor};
use almanac_projector::{Projection, Projector, ProjectorMetrics, plans, recipes};
use almanac_query_api::{ApiState, PackingOptions, QueryMetrics, QueryOptions};
use anyhow::{Context, bail};
use prometheus_client::registry::Registry;
use std::{fs::File, net::SocketAddr, sync::Arc, time::Duration};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Roles {
    pub(crate) ingestor: bool,
    pub(crate) projector: bool,
    pub(crate) query_api: bool,
    pub(crate) command_api: bool,
}

impl Roles {
    pub(crate) const ALL: Self =
        Self { ingestor: true, projector: true, query_api: true, command_api: true };
    pub(crate) const NONE: Self =
        Self { ingestor: false, projector: false, query_api: false, command_api: false };
}

/// A process with its roles running.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    api: Arc<ApiState>,
    replies: Option<Arc<Replies>>,
    processors: CancellationToken,
    writing: Tasks,
    serving_stop: CancellationToken,
    serving: Tasks,
    _claim: Option<File>,
}

/// How long each step of draining may take.
const DRAIN: Duration = Duration::from_secs(15);

fn topic_specs(config: &Config) -> Vec<TopicSpec> {
    let mut specs = almanac_ingestor::Topics::new(&config.topic_prefix, config.partitions)
        .specs(config.ingest.payload_retention);
    specs.extend(command_topics(config).specs(config.commands.outcomes));
    let tables = plans::Tables::of(plans::VERSION);
    specs.extend(tables.iter().flat_map(|tables| projector_topics(config, tables).specs()));
    specs
}

fn command_topics(config: &Config) -> almanac_command_api::Topics {
    almanac_command_api::Topics::new(&config.topic_prefix, config.partitions)
}

fn projector_topics(config: &Config, projection: &dyn Projection) -> almanac_projector::Topics {
    almanac_projector::Topics::new(&config.topic_prefix, projection, config.partitions)
}

/// A projector for each projection.
fn projectors(
    config: &Config,
    opened: &Opened,
    metrics: &ProjectorMetrics,
) -> anyhow::Result<Vec<Arc<Projector>>> {
    let projections: [Arc<dyn Projection>; 2] = [
        Arc::new(plans::Tables::of(plans::VERSION)?),
        Arc::new(recipes::Tables::of(recipes::VERSION)?),
    ];
    let projectors = projections.into_iter().map(|projection| {
        Arc::new(Projector {
            topics: projector_topics(config, &*projection),
            options: config.projector.clone(),
            store: opened.store.clone(),
            codec: opened.codec.clone(),
            projection,
            metrics: metrics.clone(),
        })
    });
    Ok(projectors.collect())
}

/// Two processes of one name take the partitions from each other again and again. Roles with local state
/// lock that; a role without any locks this file, for as long as it lives.
fn claim(config: &Config, role: &str) -> anyhow::Result<File> {
    let folder = config.data_dir.join("state");
    let path = folder.join(format!("{role}.lock"));
    let file = std::fs::create_dir_all(&folder).and_then(|()| File::create(&path));
    let file = file.with_context(|| format!("cannot create {}", path.display()))?;
    if file.try_lock().is_err() {
        bail!("{} is in use by another process: each needs a data_dir of its own", path.display());
    }
    Ok(file)
}

/// Opens the engine and starts the roles. Every role answers `/healthz`, `/readyz` and `/metrics`
/// once the engine is open; connections that come before wait.
pub(crate) async fn start(
    config: &Config,
    roles: Roles,
    listener: TcpListener,
    shutdown: &CancellationToken,
    background: &tokio::runtime::Handle,
    supervisor: &Supervisor,
) -> anyhow::Result<Running> {
    let address = listener.local_addr().context("the listener has no address")?;
    let claim = if roles.projector { Some(claim(config, "projector")?) } else { None };
    let opened = engine::open(config, &topic_specs(config), shutdown, background).await?;
    let mut registry = Registry::default();
    let foreign = Foreign::default();
    supervisor.register(&mut registry);
    foreign.register(&mut registry);
    let (processors, foreground) = (CancellationToken::new(), tokio::runtime::Handle::current());
    let mut writing = Tasks::new(supervisor);

    let projectors = projectors(config, &opened, &ProjectorMetrics::register(&mut registry))?;
    // Whoever comes first makes the tables: the query side may start before any projector.
    for projector in &projectors {
        projector.prepare().await?;
    }
    let ingest_topics = almanac_ingestor::Topics::new(&config.topic_prefix, config.partitions);
    let ingestor = if roles.ingestor {
        Some(Arc::new(Ingestor::new(
            ingest_topics.clone(),
            config.ingest.clone(),
            &config.providers,
            opened.codec.clone(),
            engine::state_folder(config, "ingestor-1").await?,
            IngestMetrics::register(&mut registry),
        )?))
    } else {
        None
    };
    let query_metrics = QueryMetrics::register(&mut registry);
    let identity = Arc::new(Identity::new(config.identity_options())?);
    let registry = Arc::new(registry);
    let watch = (supervisor.clone(), foreign.clone());
    let packing = packing_options(config, background);
    let api = api_state(config, &opened, identity.clone(), packing, query_metrics, registry, watch)
        .await?;

    let options = |role: &str, input: &str| ProcessorOptions {
        session_timeout: config.session_timeout,
        supervisor: supervisor.clone(),
        foreign: foreign.clone(),
        ..ProcessorOptions::new(
            &format!("{}almanac-{role}", config.topic_prefix),
            input,
            &format!("{}-{role}", config.instance()),
        )
    };
    for projector in projectors.into_iter().filter(|_| roles.projector) {
        let projection = &projector.projection;
        let role = format!("projector-{}-{}", projection.name(), projection.version());
        let options = options(&role, projector.topics.source());
        let run =
            almanac_processor::run(opened.log.clone(), options, projector, processors.clone());
        writing.run(&role, background, run);
    }
    if roles.command_api {
        let topics = command_topics(config);
        let decider = Arc::new(Decider {
            topics: topics.clone(),
            options: config.commands.decider_options(),
            codec: opened.codec.clone(),
            aggregates: engine::state_folder(config, "decider-aggregates-1").await?,
            outcomes: engine::state_folder(config, "decider-outcomes-2").await?,
        });
        let options = options("decider", topics.commands());
        // Somebody waits for what it does: it runs beside those who answer.
        let run = almanac_processor::run(opened.log.clone(), options, decider, processors.clone());
        writing.run("decider", &foreground, run);
    }
    if let Some(ingestor) = ingestor {
        let options = options("ingestor", ingest_topics.requests());
        let run = almanac_processor::run(opened.log.clone(), options, ingestor, processors.clone());
        writing.run("ingestor", background, run);
    }
    let serving_stop = CancellationToken::new();
    let mut serving = Tasks::new(supervisor);
    let log = opened.log.clone();
    let died = move || {
        let log = log.clone();
        async move { Err(Ending::is_final(&log.died().await)) }
    };
    serving.follow("event log", &foreground, &serving_stop, died);
    let followed = api.clone();
    let follow = move || almanac_query_api::follow(followed.clone());
    serving.follow("change feed", background, &serving_stop, follow);
    let refreshed = api.clone();
    let refresh = move || almanac_query_api::refresh(refreshed.clone());
    serving.follow("cache refresher", background, &serving_stop, refresh);
    let mut router = almanac_query_api::router(api.clone()).merge(admin::router(
        opened.log.clone(),
        opened.codec.clone(),
        ingest_topics,
        identity.clone(),
        config,
    ));
    let mut replies = None;
    if roles.command_api {
        let command_api = CommandApi::new(
            opened.log.clone(),
            opened.codec.clone(),
            command_topics(config),
            Replies::new(config.commands.max_waiting, config.commands.flush()),
            identity,
            config.commands.api_options(&config.http),
        )
        .await?;
        let followed = command_api.replies.clone();
        supervisor.require("replies", move || followed.is_ready());
        replies = Some(command_api.replies.clone());
        show_writing(&api, &opened.log, &command_api.replies);
        let follower = Arc::new(almanac_command_api::Follower {
            replies: command_api.replies.clone(),
            log: opened.log.clone(),
            codec: opened.codec.clone(),
            topics: command_api.topics.clone(),
            folder: engine::state_folder(config, "replies-2").await?,
            foreign: foreign.clone(),
        });
        let follow = move || {
            let follower = follower.clone();
            async move { follower.follow().await.map_err(|error| error.ending()) }
        };
        serving.follow("replies", &foreground, &serving_stop, follow);
        let standings = command_api.standings.clone();
        let folder = engine::state_folder(config, "standings-1").await?;
        let flush = config.commands.flush();
        let follow = move || {
            let (standings, folder) = (standings.clone(), folder.clone());
            async move { standings.follow(&folder, flush).await.map_err(|error| error.ending()) }
        };
        serving.follow("standings", background, &serving_stop, follow);
        router = router.merge(almanac_command_api::router(command_api));
    }
    let max_connections = open_files::connections(config.http.max_connections);
    let options = ServeOptions { max_connections, ..config.http.serve_options() };
    let http = almanac_edge::serve(listener, router, options, serving_stop.clone());
    serving.run_once("http", &foreground, &serving_stop, http);
    Ok(Running { address, api, replies, processors, writing, serving_stop, serving, _claim: claim })
}

fn packing_options(config: &Config, background: &tokio::runtime::Handle) -> PackingOptions {
    PackingOptions {
        gzip_answers: config.http.gzip_answers,
        brotli_answers: config.http.brotli_answers,
        background: background.clone(),
    }
}

/// Who writes needs the log to take commands, and to hear of replies.
fn show_writing(api: &ApiState, log: &Arc<dyn EventLog>, replies: &Arc<Replies>) {
    let (log, replies) = (log.clone(), replies.clone());
    let follows = move || if replies.are_followed() { Ok("followed") } else { Err("silent") };
    api.watch("replies", Box::new(follows));
    let writes = move || if log.cut_off().is_none() { Ok("possible") } else { Err("cut off") };
    api.watch("writes", Box::new(writes));
}

async fn api_state(
    config: &Config,
    opened: &Opened,
    identity: Arc<Identity>,
    packing: PackingOptions,
    metrics: QueryMetrics,
    registry: Arc<Registry>,
    (supervisor, foreign): (Supervisor, Foreign),
) -> anyhow::Result<Arc<ApiState>> {
    let freshness = config.providers.iter().map(|provider| {
        let seconds = i64::try_from(provider.freshness.as_secs()).unwrap_or(i64::MAX);
        (provider.name.clone(), seconds)
    });
    let options = QueryOptions {
        cache_bytes: config.http.cache_bytes,
        warm_up: config.http.warm_up,
        recipe_cache_bytes: config.http.recipe_cache_bytes,
        picture_cache_bytes: config.http.picture_cache_bytes,
        wait: config.http.wait,
        lists: config.http.lists,
        answer_bytes: config.http.answer_bytes,
        event_streams: config.http.event_streams,
        event_stream_time: config.http.event_stream_time,
        packing,
        prefix: config.topic_prefix.clone(),
        serve_registry: config.engine == Engine::Embedded,
        freshness_s: freshness.collect(),
        supervisor,
        foreign,
    };
    let (log, store, codec) = (opened.log.clone(), opened.store.clone(), opened.codec.clone());
    Ok(ApiState::new(log, store, codec, identity, options, metrics, registry).await?)
}

impl Running {
    /// Resolves once searches are answered from warm caches.
    pub(crate) fn ready(&self) -> impl Future<Output = ()> + use<> {
        let (api, replies) = (self.api.clone(), self.replies.clone());
        async move {
            while !api.is_ready() || replies.as_ref().is_some_and(|replies| !replies.is_ready()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// Waits until a task ends by itself, which only an error makes it do.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        tokio::select! {
            error = self.writing.died() => error,
            error = self.serving.died() => error,
        }
    }

    /// Ends the tasks in order: first who writes, then who answers.
    pub(crate) async fn drain(self) {
        self.processors.cancel();
        self.writing.drain(DRAIN).await;
        self.serving_stop.cancel();
        self.serving.drain(DRAIN).await;
    }
}
