//! Runs a process with its roles until it is told to stop.

use crate::{
    config::{Config, Engine},
    demo, private,
    roles::{self, Role},
    tasks::Tasks,
    telemetry::Spans,
};
use almanac_errors::chain;
use almanac_processor::Supervisor;
use anyhow::bail;
use jiff::Timestamp;
use std::{io::IsTerminal, net::SocketAddr, path::PathBuf, time::Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What goes before the configuration.
#[derive(clap::Args)]
pub(crate) struct Up {
    /// Address to listen on, instead of http.listen
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Where data is kept, instead of data_dir
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
}

impl Up {
    pub(crate) fn apply(&self, config: &mut Config) {
        if let Some(listen) = &self.listen {
            config.http.listen.clone_from(listen);
        }
        if let Some(data_dir) = &self.data_dir {
            config.data_dir.clone_from(data_dir);
        }
    }
}

pub(crate) async fn run(
    mut config: Config,
    roles: &[&dyn Role],
    everything: bool,
    background: &tokio::runtime::Handle,
) -> anyhow::Result<()> {
    if config.engine == Engine::Embedded && !everything {
        bail!(
            "engine = \"embedded\" is one process: run `almanac up`, or configure engine = \"cluster\""
        );
    }
    let started = Instant::now();
    let shutdown = CancellationToken::new();
    let supervisor = Supervisor::new(config.supervision.limits());
    let foreground = tokio::runtime::Handle::current();
    let mut own = Tasks::new(&supervisor);
    own.run_once("signals", &foreground, &shutdown, watch_signals(shutdown.clone()));
    if !config.is_loopback() {
        tracing::warn!(
            listen = config.http.listen,
            "listening beyond this machine: anybody who reaches it can read, and writes need a token"
        );
    }
    private::tighten(&config.data_dir);
    if config.has_local_user() {
        tracing::info!(
            "requests from this machine need no token and act as admin; behind a proxy, which passes on \
             requests of others, set identity.local_user = false"
        );
    }
    if config.identity.audience.is_none() && !config.identity.has_own_key() {
        tracing::warn!(
            "identity.audience is not set: tokens that the identity provider made for other services are taken"
        );
    }
    if config.identity.has_own_key() {
        almanac_edge::identity::make_key(&config.own_key_file())?;
    }
    if everything {
        almanac_secrets::SealingKey::make(&config.notification_key_file())?;
    }
    let named = match (everything, roles.first()) {
        (false, Some(role)) => role.name(),
        _ => "up",
    };
    let spans = Spans::start(&config, named, background)?;
    let (listener, _) = almanac_edge::bind(&config.http.listen).await?;
    let has_demo = everything && config.demo && config.providers.is_empty();
    if has_demo {
        let (address, serving) = demo::start(shutdown.clone()).await?;
        own.run_once("demonstration feed", &foreground, &shutdown, serving);
        config.providers.extend(demo::providers(address));
        config.ingest = demo::options(config.ingest);
    }
    let mut running =
        roles::start(&config, roles, listener, &shutdown, background, &supervisor, &spans).await?;
    let (address, ready) = (running.address, running.ready());
    let announcing = tokio::spawn(async move {
        ready.await;
        announce(&config, address, has_demo, started);
    });
    let failed = tokio::select! {
        // What ends after it was told to has not failed.
        biased;
        () = shutdown.cancelled() => None,
        error = running.failed() => Some(error),
        error = own.died() => Some(error),
    };
    announcing.abort();
    if let Some(error) = failed {
        tracing::error!(error = %chain(&*error), "ending the process: a task of it has ended");
        running.drain().await;
        spans.end().await;
        return Err(error);
    }
    tracing::info!("stopping; a second signal exits at once");
    running.drain().await;
    spans.end().await;
    tracing::info!("stopped");
    Ok(())
}

fn announce(config: &Config, address: SocketAddr, has_demo: bool, started: Instant) {
    tracing::info!(%address, ready_ms = started.elapsed().as_millis() as u64, "ready");
    if !std::io::stdout().is_terminal() {
        return;
    }
    println!("\n  Almanac is up.\n");
    println!("  page       http://{address}/");
    println!("  search     http://{address}/search?starts_at={:.0}", Timestamp::now());
    println!("  plans      http://{address}/v1/plans?sale=on&limit=3");
    println!("  providers  http://{address}/v1/providers");
    println!("  events     http://{address}/v1/events/plans.events");
    println!("  recipes    http://{address}/v1/recipes");
    println!("  forecasts  http://{address}/v1/forecasts?lat=61.5&lon=4.8");
    println!("  windows    almanac analyse docs/examples/schedule.json");
    println!("  docs       http://{address}/docs");
    println!("  metrics    http://{address}/metrics");
    if config.engine == Engine::Embedded {
        println!("  data       {}", config.data_dir.display());
    }
    if has_demo {
        println!(
            "\n  No provider is configured: a demonstration feed lists, changes and delists plans,"
        );
        println!("  and fails now and then on purpose. Forecasts of 48 hours are made up, too.");
        println!("  See almanac.example.toml for your own.");
    }
    println!("\n  Ctrl-C stops.\n");
}

pub(crate) async fn stopped() -> std::io::Result<()> {
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// The first signal drains, the second exits at once.
async fn watch_signals(shutdown: CancellationToken) {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    let mut first = true;
    loop {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if !first {
            std::process::exit(130);
        }
        first = false;
        shutdown.cancel();
    }
}
