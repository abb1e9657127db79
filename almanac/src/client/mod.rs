//! The operator's and the user's commands, sent to a running installation over HTTP.

pub(crate) mod analyse;
pub(crate) mod ingest;
pub(crate) mod recipes;
mod show;

use crate::config::Config;
use almanac_secrets::{Address, Secret, masked};
use anyhow::{Context, bail};
use reqwest::{Method, RequestBuilder, Response, Url};
use serde_json::Value;
use std::time::Duration;

/// Longer than any answer takes: servers wait thirty seconds at most.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where to ask, and as whom.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Target {
    /// Address of the installation; by default the one that the configuration listens on
    #[arg(long, value_name = "URL", env = "ALMANAC_URL", hide_env_values = true)]
    url: Option<Address>,
    /// Bearer token, such as `almanac token` mints; on this machine the local user needs none
    #[arg(long, env = "ALMANAC_TOKEN", hide_env_values = true)]
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

    /// The answer, or what the server says is wrong.
    async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let answer = request.send().await.map_err(reqwest::Error::without_url);
        let answer = answer.with_context(|| {
            format!("no installation answers at {}", masked(self.base.as_str()))
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let problem: Value = answer.json().await.unwrap_or_default();
        let mut text = problem["detail"].as_str().unwrap_or("no detail was given").to_owned();
        for error in problem["errors"].as_array().into_iter().flatten() {
            let part = |name: &str| error[name].as_str().unwrap_or_default();
            text.push_str(&format!("\n  {}: {}", part("pointer"), part("detail")));
        }
        bail!("{status}: {text}")
    }

    async fn send_json(&self, request: RequestBuilder) -> anyhow::Result<Value> {
        let answer = self.send(request).await?;
        answer.json().await.context("the answer is no JSON")
    }
}
