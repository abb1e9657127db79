//! `almanac canary`: does an installation do for its users what it is there for?

mod metrics;
mod probes;

use super::{Client, Exit, Target};
use crate::{
    config::Config,
    say::{self, say},
    up,
};
use almanac_edge::{Routes, ServeOptions};
use anyhow::{bail, ensure};
use metrics::CanaryMetrics;
use serde_json::json;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// Write, read, search and analyse against a running installation, once or for ever
///
/// It searches, lists plans, writes a recipe, reads and finds it, deletes it, and has an analysis made.
///
/// The token needs recipes:write and analyses:write. A run leaves two events of a recipe that is deleted
/// again and an analysis with a forecast of its own: no forecast service is asked. A recipe that a run could
/// not delete is deleted by a later one.
///
/// Ends with 0 if all of it worked, 1 if something failed, 3 if the installation did not get ready in time.
/// With --every it goes on until it is stopped, and answers /metrics at --listen.
///
/// Examples:
///   almanac canary
///   almanac canary --url https://almanac.example --json
///   almanac canary --every 300 --listen 0.0.0.0:9465
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Canary {
    #[command(flatten)]
    target: Target,
    /// Go on for ever, one run after so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    every: Option<u64>,
    /// Where to answer /metrics
    #[arg(long, value_name = "ADDRESS:PORT", requires = "every")]
    listen: Option<String>,
    /// How long each step may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    patience: u64,
    /// Print each step as JSON, one a line
    #[arg(long)]
    json: bool,
}

/// A step that was tried.
struct Tried {
    step: &'static str,
    took: Duration,
    outcome: Result<(), String>,
}

pub(crate) async fn run(canary: &Canary, config: &Config) -> anyhow::Result<()> {
    let client = Client::new(&canary.target, config)?;
    let patience = Duration::from_secs(canary.patience);
    let Some(every) = canary.every else {
        client.wait_until_up(patience).await;
        let failed = once(canary, &client, patience, &CanaryMetrics::default()).await;
        if failed.contains(&probes::READY) {
            return Err(Exit::NotInTime("the installation is not ready".to_owned()).into());
        }
        ensure!(failed.is_empty(), "{} failed", failed.join(", "));
        return Ok(());
    };
    let metrics = CanaryMetrics::default();
    let stop = CancellationToken::new();
    let serving = async {
        match &canary.listen {
            Some(address) => {
                let (listener, address) = almanac_edge::bind(address).await?;
                tracing::info!(%address, "answering /metrics");
                let router = metrics_routes(&metrics).into_router();
                almanac_edge::serve(listener, router, ServeOptions::default(), stop.clone()).await;
                Ok(())
            }
            None => std::future::pending::<anyhow::Result<()>>().await,
        }
    };
    let trying = async {
        loop {
            let started = Instant::now();
            once(canary, &client, patience, &metrics).await;
            let pause = Duration::from_secs(every).saturating_sub(started.elapsed());
            tokio::time::sleep(pause).await;
        }
    };
    tokio::select! {
        served = serving => {
            served?;
            bail!("/metrics is not answered any more");
        }
        () = trying => Ok(()),
        stopped = up::stopped() => Ok(stopped?),
    }
}

fn metrics_routes(metrics: &CanaryMetrics) -> Routes {
    let metrics = Arc::new(metrics.clone());
    Routes::new().undocumented("/metrics", move || {
        let metrics = metrics.clone();
        async move { metrics.answer() }
    })
}

/// One run; answers which steps failed.
async fn once(
    canary: &Canary,
    client: &Client,
    patience: Duration,
    metrics: &CanaryMetrics,
) -> Vec<&'static str> {
    let mut failed = Vec::new();
    probes::all(client, patience, &mut |tried: Tried| {
        metrics.tried(&tried);
        failed.extend(tried.outcome.is_err().then_some(tried.step));
        print(canary.json, &tried);
    })
    .await;
    metrics.ended(failed.is_empty());
    failed
}

fn print(as_json: bool, tried: &Tried) {
    let Tried { step, took, outcome } = tried;
    if as_json {
        let (time, took_s) = (jiff::Timestamp::now(), took.as_secs_f64());
        let fault = outcome.as_ref().err();
        say!("{}", json!({ "time": time, "step": step, "took_s": took_s, "fault": fault }));
    } else {
        let took = took.as_secs_f64() * 1_000.0;
        match outcome {
            Ok(()) => say!("ok      {step:<10} {took:>8.1} ms"),
            Err(fault) => say!("FAILED  {step:<10} {took:>8.1} ms  {}", super::show::clean(fault)),
        }
    }
    say::flush();
}
