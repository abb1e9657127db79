//! A process: what its roles share, its tasks, and the order in which they begin and end.

use super::{Role, surface, topics};
use crate::{
    config::Config,
    engine::{self, Asking, Opened, Waiting},
    incarnations::Incarnations,
    moving::Holding,
    projecting::{self, Projecting},
    tasks::Tasks,
    telemetry::Spans,
};
use almanac_edge::{HttpMetrics, Identity, Measured, Routes, ServeOptions};
use almanac_operations::Operations;
use almanac_processor::{Ending, Foreign, Hold, ProcessorOptions, StateFolder, Supervisor};
use almanac_query_api::{ApiState, QueryMetrics, Sign};
use anyhow::Context;
use prometheus_client::registry::Registry;
use std::{fs::File, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::TcpListener, runtime::Handle};
use tokio_util::sync::CancellationToken;

/// How long each step of draining may take.
const DRAIN: Duration = Duration::from_secs(15);

type Holds = Arc<dyn Fn() -> bool + Send + Sync>;

pub(crate) struct Process {
    /// Names of its roles.
    pub(super) roles: Vec<&'static str>,
    pub(super) config: Arc<Config>,
    pub(super) opened: Opened,
    pub(super) asking: Asking,
    pub(super) operations: Arc<Operations>,
    pub(super) identity: Arc<Identity>,
    pub(super) supervisor: Supervisor,
    pub(super) foreign: Foreign,
    /// Held while an import comes in.
    pub(super) hold: Hold,
    /// Where requests are answered, and where everything else runs.
    pub(super) foreground: Handle,
    pub(super) background: Handle,
    /// There once all roles are prepared.
    api: Option<Arc<ApiState>>,
    routes: Routes,
    http_metrics: HttpMetrics,
    ready: Vec<Holds>,
    processors: CancellationToken,
    writing: Tasks,
    serving_stop: CancellationToken,
    serving: Tasks,
}

impl Process {
    /// Opens a folder of local state.
    pub(super) async fn state(&self, name: &str) -> anyhow::Result<StateFolder> {
        engine::state_folder(&self.config, name).await
    }

    /// Runs a role for each partition of its input, among those that write.
    pub(super) fn own(
        &mut self,
        name: &str,
        input: &str,
        on: &Handle,
        role: Arc<impl almanac_processor::Role + 'static>,
    ) {
        let options = self.processor_options()(name, input);
        let (log, stop) = (self.opened.log.clone(), self.processors.clone());
        self.writing.run(name, on, almanac_processor::run(log, options, role, stop));
    }

    /// How a role runs, from its name and its input.
    pub(super) fn processor_options(&self) -> impl Fn(&str, &str) -> ProcessorOptions + use<> {
        let config = self.config.clone();
        let (supervisor, foreign) = (self.supervisor.clone(), self.foreign.clone());
        let hold = self.hold.clone();
        move |name, input| ProcessorOptions {
            session_timeout: config.session_timeout,
            supervisor: supervisor.clone(),
            foreign: foreign.clone(),
            hold: hold.clone(),
            ..ProcessorOptions::new(
                &format!("{}almanac-{name}", config.topic_prefix),
                input,
                &format!("{}-{name}", config.instance()),
            )
        }
    }

    /// Runs projectors, among those that write, as operators decide.
    pub(super) fn project(&mut self, projecting: Projecting) {
        let (background, stop) = (self.background.clone(), self.processors.clone());
        self.writing.run("projectors", &background, projecting.run(stop));
    }

    /// Keeps something running beside those that write; it ends with them.
    pub(super) fn write<F>(
        &mut self,
        name: &'static str,
        on: &Handle,
        start: impl FnMut() -> F + Send + 'static,
    ) where
        F: Future<Output = Result<(), Ending>> + Send,
    {
        self.writing.follow(name, on, &self.processors, start);
    }

    /// Keeps something running that answers need; it ends when nobody writes any more.
    pub(super) fn serve<F>(
        &mut self,
        name: &'static str,
        on: &Handle,
        start: impl FnMut() -> F + Send + 'static,
    ) where
        F: Future<Output = Result<(), Ending>> + Send,
    {
        self.serving.follow(name, on, &self.serving_stop, start);
    }

    pub(super) fn serve_http(&mut self, listener: TcpListener, mut options: ServeOptions) {
        let routes = std::mem::take(&mut self.routes);
        let measured = Measured::new(self.http_metrics.clone(), routes.patterns());
        options.before.measured = Some(Arc::new(measured));
        let router = routes.into_router();
        let stop = self.serving_stop.clone();
        let http = almanac_edge::serve(listener, router, options, stop.clone());
        self.serving.run_once("http", &self.foreground, &stop, http);
    }

    pub(super) fn answer(&mut self, routes: Routes) {
        self.routes = std::mem::take(&mut self.routes).merge(routes);
    }

    /// What has to hold before requests should come here, and before the process counts as started.
    pub(super) fn require(
        &mut self,
        what: &'static str,
        holds: impl Fn() -> bool + Send + Sync + Clone + 'static,
    ) {
        self.supervisor.require(what, holds.clone());
        self.ready.push(Arc::new(holds));
    }

    /// Shows at `/readyz` and `/metrics` how something is doing.
    pub(super) fn show(&self, what: &'static str, sign: Sign) {
        if let Some(api) = &self.api {
            api.watch(what, sign);
        }
    }
}

/// A process with its roles running.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    process: Process,
    _claims: Vec<File>,
}

/// Opens the engine and starts the roles. Every role answers `/healthz`, `/readyz` and `/metrics`
/// once the engine is open; connections that come before wait.
pub(crate) async fn start(
    config: &Config,
    roles: &[&dyn Role],
    listener: TcpListener,
    shutdown: &CancellationToken,
    background: &Handle,
    supervisor: &Supervisor,
    spans: &Spans,
) -> anyhow::Result<Running> {
    let address = listener.local_addr().context("the listener has no address")?;
    let claims = roles.iter().filter_map(|role| role.claim(config).transpose());
    let claims = claims.collect::<anyhow::Result<Vec<File>>>()?;
    let specs = topics(config);
    let waiting = Waiting::new(config.supervision.start_within, shutdown);
    let opened = engine::open(config, &specs, &waiting, background).await?;
    let asking = Asking::new(config, &waiting)?;
    let incarnations = asking.log(|| Incarnations::note(&opened.log, &specs)).await?;
    let operations = asking
        .log(|| Operations::open(opened.log.clone(), opened.codec.clone(), &config.topic_prefix));
    let operations = operations.await?;
    let mut metrics = Registry::default();
    let holding = Holding::new(&operations, config.await_import);
    let mut process = Process {
        roles: roles.iter().map(|role| role.name()).collect(),
        config: Arc::new(config.clone()),
        hold: holding.hold(),
        opened,
        asking,
        operations,
        identity: Arc::new(Identity::new(config.identity_options()?)?),
        supervisor: supervisor.clone(),
        foreign: Foreign::default(),
        foreground: Handle::current(),
        background: background.clone(),
        api: None,
        routes: Routes::new(),
        http_metrics: HttpMetrics::register(&mut metrics),
        ready: Vec::new(),
        processors: CancellationToken::new(),
        writing: Tasks::new(supervisor),
        serving_stop: CancellationToken::new(),
        serving: Tasks::new(supervisor),
    };
    // Whoever comes first makes the tables: the query side may start before any projector.
    let (store, known) = (process.opened.store.clone(), process.operations.known());
    process.asking.store(|| projecting::prepare(&*store, &known)).await?;
    supervisor.register(&mut metrics);
    spans.register(&mut metrics);
    process.foreign.register(&mut metrics);
    let mut prepared = Vec::with_capacity(roles.len());
    for role in roles {
        prepared.push(role.prepare(&process, &mut metrics).await?);
    }
    let query_metrics = QueryMetrics::register(&mut metrics);
    let api = surface::state(&process, query_metrics, metrics).await?;
    process.api = Some(api.clone());
    watch_log(&mut process, Arc::new(incarnations));
    let routes = surface::routes(&process, &api)?;
    process.answer(routes);
    surface::follow(&mut process, &api);
    let background = process.background.clone();
    process.serve("imports", &background, move || holding.clone().follow());
    for role in prepared {
        role.start(&mut process).await?;
    }
    let followed = api.clone();
    process.ready.push(Arc::new(move || followed.is_ready()));
    surface::listen(&mut process, listener)?;
    Ok(Running { address, process, _claims: claims })
}

fn watch_log(process: &mut Process, incarnations: Arc<Incarnations>) {
    let (foreground, background) = (process.foreground.clone(), process.background.clone());
    let log = process.opened.log.clone();
    process.serve("event log", &foreground, move || {
        let log = log.clone();
        async move { Err(Ending::is_final(&log.died().await)) }
    });
    process.serve("topics", &background, move || {
        let incarnations = incarnations.clone();
        async move { incarnations.watch().await }
    });
}

impl Running {
    /// Resolves once searches are answered from warm caches.
    pub(crate) fn ready(&self) -> impl Future<Output = ()> + use<> {
        let ready = self.process.ready.clone();
        async move {
            while !ready.iter().all(|holds| holds()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// Waits until a task ends by itself, which only an error makes it do.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        tokio::select! {
            error = self.process.writing.died() => error,
            error = self.process.serving.died() => error,
        }
    }

    /// Ends the tasks in order: first who writes, then who answers.
    pub(crate) async fn drain(self) {
        self.process.processors.cancel();
        self.process.writing.drain(DRAIN).await;
        self.process.serving_stop.cancel();
        self.process.serving.drain(DRAIN).await;
    }
}
