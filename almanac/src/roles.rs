//! The roles, composed into one process.

use crate::{
    admin,
    config::{Config, Engine},
    engine::{self, Opened},
};
use almanac_event_log::TopicSpec;
use almanac_ingestor::{IngestMetrics, Ingestor};
use almanac_processor::ProcessorOptions;
use almanac_projector::{Projector, ProjectorMetrics, ProjectorOptions, plans};
use almanac_query_api::{ApiState, QueryMetrics, QueryOptions};
use anyhow::Context;
use prometheus_client::registry::Registry;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Roles {
    pub(crate) ingestor: bool,
    pub(crate) projector: bool,
    pub(crate) query_api: bool,
}

impl Roles {
    pub(crate) const ALL: Self = Self { ingestor: true, projector: true, query_api: true };
}

/// A process with its roles running.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    api: Arc<ApiState>,
    processors: CancellationToken,
    tasks: Vec<(&'static str, JoinHandle<anyhow::Result<()>>)>,
    http_stop: CancellationToken,
    http: JoinHandle<anyhow::Result<()>>,
    follower: JoinHandle<()>,
}

/// How long each step of draining may take.
const DRAIN: Duration = Duration::from_secs(15);

fn topic_specs(config: &Config) -> Vec<TopicSpec> {
    let mut specs = almanac_ingestor::Topics::new(&config.topic_prefix, config.partitions)
        .specs(config.ingest.payload_retention);
    specs.extend(almanac_projector::Topics::new(&config.topic_prefix, config.partitions).specs());
    specs
}

/// Opens the engine and starts the roles. Every role answers `/healthz`, `/readyz` and `/metrics`
/// once the engine is open; connections that come before wait.
pub(crate) async fn start(
    config: &Config,
    roles: Roles,
    listener: TcpListener,
    shutdown: &CancellationToken,
    background: &tokio::runtime::Handle,
) -> anyhow::Result<Running> {
    let address = listener.local_addr().context("the listener has no address")?;
    let opened = engine::open(config, &topic_specs(config), shutdown).await?;
    let mut registry = Registry::default();
    let processors = CancellationToken::new();
    let mut tasks = Vec::new();

    let projector = Arc::new(Projector {
        topics: almanac_projector::Topics::new(&config.topic_prefix, config.partitions),
        options: ProjectorOptions::default(),
        store: opened.store.clone(),
        codec: opened.codec.clone(),
        tables: plans::Tables::of(plans::VERSION)?,
        metrics: ProjectorMetrics::register(&mut registry),
    });
    // Whoever comes first makes the tables: the query side may start before any projector.
    projector.prepare().await?;
    let ingest_topics = almanac_ingestor::Topics::new(&config.topic_prefix, config.partitions);
    let ingestor = if roles.ingestor {
        Some(Arc::new(Ingestor::new(
            ingest_topics.clone(),
            config.ingest.clone(),
            &config.providers,
            opened.codec.clone(),
            engine::state_folder(config).await?,
            IngestMetrics::register(&mut registry),
        )?))
    } else {
        None
    };
    let query_metrics = QueryMetrics::register(&mut registry);
    let api = api_state(config, &opened, query_metrics, Arc::new(registry))?;

    let options = |role: &str, input: &str| ProcessorOptions {
        session_timeout: config.session_timeout,
        ..ProcessorOptions::new(
            &format!("{}almanac-{role}", config.topic_prefix),
            input,
            &format!("{}-{role}", config.instance()),
        )
    };
    if roles.projector {
        let role = format!("projector-{}-{}", plans::PROJECTION, plans::VERSION);
        let options = options(&role, projector.topics.plans());
        let run = almanac_processor::run(
            opened.log.clone(),
            options,
            projector.clone(),
            processors.clone(),
        );
        tasks.push(("projector", background.spawn(async move { Ok(run.await?) })));
    }
    if let Some(ingestor) = ingestor {
        let options = options("ingestor", ingest_topics.requests());
        let run = almanac_processor::run(opened.log.clone(), options, ingestor, processors.clone());
        tasks.push(("ingestor", background.spawn(async move { Ok(run.await?) })));
    }
    let follower_stop = CancellationToken::new();
    let http_stop = follower_stop.clone();
    let follower = background.spawn(almanac_query_api::run(api.clone(), follower_stop));
    let router = almanac_query_api::router(api.clone()).merge(admin::router(
        opened.log.clone(),
        opened.codec.clone(),
        ingest_topics,
        config,
    ));
    let serving = almanac_edge::serve(listener, router, http_stop.clone());
    let http = tokio::spawn(async move { Ok(serving.await?) });
    Ok(Running { address, api, processors, tasks, http_stop, http, follower })
}

fn api_state(
    config: &Config,
    opened: &Opened,
    metrics: QueryMetrics,
    registry: Arc<Registry>,
) -> anyhow::Result<Arc<ApiState>> {
    let freshness = config.providers.iter().map(|provider| {
        let seconds = i64::try_from(provider.freshness.as_secs()).unwrap_or(i64::MAX);
        (provider.name.clone(), seconds)
    });
    let options = QueryOptions {
        cache_bytes: config.http.cache_bytes,
        warm_up: config.http.warm_up,
        prefix: config.topic_prefix.clone(),
        serve_registry: config.engine == Engine::Embedded,
        freshness_s: freshness.collect(),
    };
    let (log, store, codec) = (opened.log.clone(), opened.store.clone(), opened.codec.clone());
    Ok(ApiState::new(log, store, codec, options, metrics, registry)?)
}

impl Running {
    /// Resolves once searches are answered from warm caches.
    pub(crate) fn ready(&self) -> impl Future<Output = ()> + use<> {
        let api = self.api.clone();
        async move {
            while !api.is_ready() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// Waits until a role ends by itself, which only an error makes it do.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        loop {
            for (name, task) in &mut self.tasks {
                if task.is_finished() {
                    let result = task.await;
                    return match result {
                        Ok(Ok(())) => anyhow::anyhow!("the {name} ended"),
                        Ok(Err(error)) => error.context(format!("the {name} ended")),
                        Err(error) => anyhow::anyhow!("the {name} ended: {error}"),
                    };
                }
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Ends the roles in order: first who writes, then who answers.
    pub(crate) async fn drain(self) {
        self.processors.cancel();
        for (name, task) in self.tasks {
            if !task.is_finished() && tokio::time::timeout(DRAIN, task).await.is_err() {
                tracing::warn!("the {name} did not end in time");
            }
        }
        self.http_stop.cancel();
        if tokio::time::timeout(DRAIN, self.http).await.is_err() {
            tracing::warn!("some requests did not end in time");
        }
        let _ = tokio::time::timeout(DRAIN, self.follower).await;
    }
}
