//! The operator's and the user's commands, sent to a running installation over HTTP.

use crate::config::Config;
use anyhow::{Context, bail};
use jiff::Timestamp;

#[derive(clap::Subcommand)]
pub(crate) enum IngestCommand {
    /// Read a provider's stored bodies again, with the parser as it is now
    Replay {
        /// Name of the provider, as configured
        provider: String,
        /// Every body fetched since then, oldest first; without it, the newest only
        #[arg(long, value_name = "TIME")]
        since: Option<Timestamp>,
    },
    /// Fetch a provider now; with an open circuit breaker this is the probe
    Fetch {
        /// Name of the provider, as configured
        provider: String,
    },
}

pub(crate) async fn ingest(command: &IngestCommand, config: &Config) -> anyhow::Result<()> {
    let (provider, verb, since) = match command {
        IngestCommand::Replay { provider, since } => (provider, "replays", *since),
        IngestCommand::Fetch { provider } => (provider, "fetches", None),
    };
    let base = format!("http://{}", config.http.listen);
    let mut url = reqwest::Url::parse(&base).context("http.listen is no address")?;
    if let Ok(mut path) = url.path_segments_mut() {
        path.extend(["v1", "providers", provider, verb]);
    }
    if let Some(since) = since {
        url.query_pairs_mut().append_pair("since", &since.to_string());
    }
    let answer = reqwest::Client::new().post(url).send().await;
    let answer = answer.with_context(|| format!("no installation answers at {base}"))?;
    let status = answer.status();
    if !status.is_success() {
        let problem: serde_json::Value = answer.json().await.unwrap_or_default();
        let detail = problem["detail"].as_str().unwrap_or("no detail was given");
        bail!("{base} answered {status}: {detail}");
    }
    println!("asked for; `curl {base}/v1/providers/{provider}` shows what comes of it");
    Ok(())
}
