//! The operator's and the user's commands, sent to a running installation over HTTP.

pub(crate) mod analyse;
pub(crate) mod canary;
pub(crate) mod consume;
pub(crate) mod doctor;
pub(crate) mod groups;
pub(crate) mod ingest;
pub(crate) mod moving;
pub(crate) mod parked;
pub(crate) mod plans;
pub(crate) mod progress;
pub(crate) mod projections;
pub(crate) mod recipes;
pub(crate) mod schedules;
mod show;
pub(crate) mod status;
pub(crate) mod subscriptions;
pub(crate) mod trace;
mod writes;

use crate::config::Config;
use almanac_secrets::{Address, Secret, masked};
use anyhow::{Context, bail};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url, header};
use serde_json::Value;
use std::{
    io::Read,
    path::Path,
    time::{Duration, Instant},
};

/// Longer than any answer takes: servers wait thirty seconds at most.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at an installation that is starting.
const STARTING_PAUSE: Duration = Duration::from_millis(100);

/// A failure that the exit status of the program tells from others.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Exit {
    #[error("{0}")]
    NotInTime(String),
    #[error("{0}")]
    Refused(String),
}

impl Exit {
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::NotInTime(_) => 3,
            Self::Refused(_) => 4,
        }
    }
}

/// What stands in a file; `-` is the standard input.
fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    if file.as_os_str() == "-" {
        let mut text = Vec::new();
        std::io::stdin().read_to_end(&mut text).context("cannot read the standard input")?;
        return Ok(text);
    }
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

/// Where to ask, and as whom.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Target {
    /// Address of the installation; by default the one that the configuration listens on
    #[arg(long, global = true, value_name = "URL", env = "ALMANAC_URL", hide_env_values = true)]
    url: Option<Address>,
    /// Bearer token, such as `almanac token` mints; on this machine the local user needs none
    #[arg(long, global = true, env = "ALMANAC_TOKEN", hide_env_values = true)]
    token: Option<Secret>,
}

pub(crate) struct Client {
    base: Url,
    token: Option<Secret>,
    http: reqwest::Client,
}

impl Client {
    pub(crate) fn new(target: &Target, config: &Config) -> anyhow::Result<Self> {
        let listen = format!("http://{}", config.http.listen);
        let named = target.url.clone().unwrap_or(listen.into());
        let base = Url::parse(named.expose()).with_context(|| format!("{named} is no address"))?;
        if base.cannot_be_a_base() {
            bail!("{named} is no address to ask at");
        }
        let http = reqwest::Client::builder().timeout(PATIENCE).build()?;
        Ok(Self { base, token: target.token.clone(), http })
    }

    /// Where it asks, as it may be told.
    fn shown(&self) -> String {
        masked(self.base.as_str())
    }

    fn url(&self, path: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    fn request(&self, method: Method, path: &[&str], query: &[(&str, &str)]) -> RequestBuilder {
        let request = self.http.request(method, self.url(path, query));
        match &self.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        }
    }

    /// A write that may be repeated under a key, or is made only at a version.
    fn conditional(
        &self,
        method: Method,
        path: &[&str],
        idempotency_key: Option<&str>,
        if_version: Option<u64>,
    ) -> RequestBuilder {
        let mut request = self.request(method, path, &[]);
        if let Some(key) = idempotency_key {
            request = request.header("idempotency-key", key);
        }
        if let Some(version) = if_version {
            request = request.header(header::IF_MATCH, format!("\"{version}\""));
        }
        request
    }

    /// The answer, or what the server says is wrong.
    async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let answer = request.send().await.map_err(reqwest::Error::without_url);
        let answer =
            answer.with_context(|| format!("no installation answers at {}", self.shown()))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let problem: Value = answer.json().await.unwrap_or_default();
        let mut text = problem["detail"].as_str().unwrap_or("no detail was given").to_owned();
        for error in problem["errors"].as_array().into_iter().flatten() {
            let part = |name: &str| error[name].as_str().unwrap_or_default();
            let fault = format!("{}: {}", part("pointer"), part("detail"));
            // A single fault is the whole detail.
            if text != fault {
                text.push_str(&format!("\n  {fault}"));
            }
        }
        let text = format!("{status}: {text}");
        // A server that is not well may take later what it does not take now.
        if status.is_client_error() { Err(Exit::Refused(text).into()) } else { bail!(text) }
    }

    /// All items of a list, page by page.
    async fn all(&self, path: &[&str], query: &[(&str, &str)]) -> anyhow::Result<Vec<Value>> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut query = [query, &[("limit", "500")]].concat();
            query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let mut page = self.send_json(self.request(Method::GET, path, &query)).await?;
            items.extend(page["items"].as_array_mut().map(std::mem::take).unwrap_or_default());
            cursor = page["next_cursor"].as_str().map(str::to_owned);
            if cursor.is_none() {
                return Ok(items);
            }
        }
    }

    /// Gives an installation that was started a moment ago the time to come up. One that does not is told
    /// of by the request that follows.
    async fn wait_until_up(&self, patience: Duration) {
        self.wait_for(&["readyz"], patience).await;
    }

    /// The same for one that is not ready, and answers at this address.
    async fn wait_for(&self, path: &[&str], patience: Duration) {
        let until = Instant::now() + patience;
        while Instant::now() < until {
            let answer = self.request(Method::GET, path, &[]).send().await;
            match answer {
                Ok(answer) if answer.status() == StatusCode::SERVICE_UNAVAILABLE => {}
                Err(error) if error.is_connect() => {}
                _ => return,
            }
            tokio::time::sleep(STARTING_PAUSE).await;
        }
    }

    async fn send_json(&self, request: RequestBuilder) -> anyhow::Result<Value> {
        let answer = self.send(request).await?;
        answer.json().await.context("the answer is no JSON")
    }
}
