//! `almanac ingest …`: what an operator asks of providers.

use super::{Client, Target};
use crate::config::Config;
use jiff::Timestamp;
use reqwest::Method;

#[derive(clap::Args)]
pub(crate) struct Ingest {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
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

pub(crate) async fn run(ingest: &Ingest, config: &Config) -> anyhow::Result<()> {
    let client = Client::new(&ingest.target, config)?;
    let (provider, verb, since) = match &ingest.command {
        Command::Replay { provider, since } => (provider, "replays", *since),
        Command::Fetch { provider } => (provider, "fetches", None),
    };
    let since = since.map(|since| since.to_string());
    let query: Vec<(&str, &str)> = since.iter().map(|since| ("since", since.as_str())).collect();
    let request = client.request(Method::POST, &["v1", "providers", provider, verb], &query);
    client.send(request).await?;
    let page = client.url(&["v1", "providers", provider], &[]);
    println!("asked for; `curl {}` shows what comes of it", almanac_secrets::masked(page.as_str()));
    Ok(())
}
