//! `almanac ingest …`: what an operator asks of providers.

use super::{
    Client, Target,
    show::{clean, text},
};
use crate::config::Config;
use crate::say::say;
use anyhow::{Context, bail};
use jiff::Timestamp;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// Ask a running installation to fetch a provider, to read stored bodies again, or to let a provider rest
///
/// Examples:
///   almanac ingest fetch demo
///   almanac ingest replay demo --since 2026-11-01T00:00:00Z
///   almanac ingest pause demo --reason 'they announced maintenance until noon'
///   almanac ingest resume demo --reason 'their maintenance is over'
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
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
    /// Ask a provider for nothing more until it is resumed; a fetch that is under way ends
    ///
    /// Example:  almanac ingest pause demo --reason 'they announced maintenance until noon'
    #[command(verbatim_doc_comment)]
    Pause(Rest),
    /// Ask a paused provider again, from the time on that its schedule has
    ///
    /// Example:  almanac ingest resume demo --reason 'their maintenance is over'
    #[command(verbatim_doc_comment)]
    Resume(Rest),
}

#[derive(clap::Args)]
struct Rest {
    /// Name of the provider, as configured
    provider: String,
    /// Why, for the audit; needed beyond this machine
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

pub(crate) async fn run(ingest: &Ingest, config: &Config) -> anyhow::Result<()> {
    let client = Client::new(&ingest.target, config)?;
    let (provider, verb, since) = match &ingest.command {
        Command::Replay { provider, since } => (provider, "replays", *since),
        Command::Fetch { provider } => (provider, "fetches", None),
        Command::Pause(rest) => return pause(&client, "pause", rest).await,
        Command::Resume(rest) => return pause(&client, "resume", rest).await,
    };
    let since = since.map(|since| since.to_string());
    let query: Vec<(&str, &str)> = since.iter().map(|since| ("since", since.as_str())).collect();
    let request = client.request(Method::POST, &["v1", "providers", provider, verb], &query);
    client.send(request).await?;
    let page = client.url(&["v1", "providers", provider], &[]);
    say!("asked for; `curl {}` shows what comes of it", almanac_secrets::masked(page.as_str()));
    Ok(())
}

async fn pause(client: &Client, verb: &str, rest: &Rest) -> anyhow::Result<()> {
    let path = ["v1", "admin", "providers", &rest.provider, verb];
    let request = client.request(Method::POST, &path, &[]).json(&json!({ "reason": rest.reason }));
    let answer = client.send(request).await?;
    if answer.status() == StatusCode::ACCEPTED {
        bail!("it is asked for, and not decided yet; `almanac status` shows what comes of it");
    }
    let told: Value = answer.json().await.context("the answer is no JSON")?;
    let name = clean(&rest.provider);
    match &told["paused"] {
        Value::Null => say!("{name} is asked again, as its schedule has it"),
        paused => {
            let why = match text(paused, "reason") {
                "" => String::new(),
                reason => format!(": {}", clean(reason)),
            };
            let (by, since) = (clean(text(paused, "by")), text(paused, "since"));
            say!("{name} is paused by {by} since {since}{why}");
        }
    }
    Ok(())
}
