//! Tells caching proxies and content delivery networks which of the answers that they keep are out of date
//! (ADR 82).
//!
//! Each cache has a queue of its own, so that one that is away holds up no other. A key stays there until
//! the cache took it. Where too many wait, the keys of their collections take their place: a cache is told
//! too much rather than too little.

mod queue;

use crate::surrogates::{Key, Surrogates};
use almanac_errors::chain;
use almanac_secrets::{Address, Kept};
use futures::future::join_all;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use parking_lot::Mutex;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use queue::{Queue, Round};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use std::{
    convert::Infallible,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// Where a cache looks for the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// In the header that answers have as well.
    Header,
    /// In a body `{"tags": [...]}`.
    Tags,
}

#[derive(Clone, Debug)]
pub struct PurgeOptions {
    pub caches: Vec<Address>,
    pub method: Method,
    pub headers: Vec<(HeaderName, Kept)>,
    pub form: Form,
    /// For a cache to answer.
    pub timeout: Duration,
    pub keys_per_request: usize,
    /// How long changes are gathered for a request.
    pub gather: Duration,
    /// Keys that wait for each cache; of more, those of their collections.
    pub queue_keys: usize,
    /// After so long a cache is told once more: an answer that was on its way to it meanwhile may be one of
    /// before. 0: it is not.
    pub repeat_after: Duration,
    /// Pauses after requests that failed; each is twice the one before.
    pub first_pause: Duration,
    pub longest_pause: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    #[error("{0} is no http or https address")]
    Address(Address),
    #[error("an HTTP client cannot be made")]
    Client(#[source] reqwest::Error),
}

/// Why a cache did not take keys.
#[derive(Debug, thiserror::Error)]
enum Untaken {
    #[error("it answered {0}")]
    Refused(StatusCode),
    #[error("it did not answer")]
    Silent(#[source] reqwest::Error),
    #[error("what {0} is to be holds signs that no header may hold")]
    Header(HeaderName),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    /// By host and port; those are configured.
    cache: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    cache: String,
    outcome: &'static str,
}

#[derive(Clone, Default)]
pub struct PurgeMetrics {
    requests: Family<Outcome, Counter>,
    waiting: Family<Labels, Gauge>,
    failing: Family<Labels, Gauge>,
    overflows: Family<Labels, Counter>,
}

impl PurgeMetrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "almanac_purge_requests",
            "Requests that told a cache what is out of date, by what came of them",
            metrics.requests.clone(),
        );
        registry.register(
            "almanac_purge_keys_waiting",
            "Keys that a cache is still to be told, or to be told again",
            metrics.waiting.clone(),
        );
        registry.register(
            "almanac_purge_failing",
            "Whether a cache did not take the last purge (1) or did (0)",
            metrics.failing.clone(),
        );
        registry.register(
            "almanac_purge_overflows",
            "How often too many keys waited for a cache, and their collections took their place",
            metrics.overflows.clone(),
        );
        metrics
    }
}

/// Where a cache takes purges.
pub fn url(address: &Address) -> Result<Url, PurgeError> {
    address.web().map_err(|_| PurgeError::Address(address.clone()))
}

struct Cache {
    url: Url,
    labels: Labels,
    queue: Mutex<Queue>,
    news: Notify,
}

/// All caches that are told. Clones share them.
#[derive(Clone)]
pub struct Purges(Arc<Inner>);

struct Inner {
    caches: Vec<Cache>,
    client: reqwest::Client,
    surrogates: Surrogates,
    options: PurgeOptions,
    metrics: PurgeMetrics,
}

impl fmt::Debug for Purges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Purges").field("caches", &self.0.options.caches).finish_non_exhaustive()
    }
}

impl Purges {
    pub fn new(
        options: PurgeOptions,
        surrogates: Surrogates,
        metrics: PurgeMetrics,
    ) -> Result<Self, PurgeError> {
        let caches = options.caches.iter().map(|address| {
            let url = url(address)?;
            let (host, port) = (url.host_str(), url.port_or_known_default());
            let cache = format!("{}:{}", host.unwrap_or_default(), port.unwrap_or_default());
            let labels = Labels { cache };
            // There from the start: nothing is wrong yet.
            metrics.failing.get_or_create(&labels).set(0);
            let queue = Mutex::new(Queue::new(options.queue_keys));
            Ok(Cache { url, labels, queue, news: Notify::new() })
        });
        let caches = caches.collect::<Result<_, _>>()?;
        let client = reqwest::Client::builder()
            .user_agent(concat!("almanac/", env!("CARGO_PKG_VERSION")))
            .timeout(options.timeout)
            // Keys of caches go to the configured hosts only.
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .build()
            .map_err(|error| PurgeError::Client(error.without_url()))?;
        Ok(Self(Arc::new(Inner { caches, client, surrogates, options, metrics })))
    }

    /// Answers with these keys are out of date, and whoever asks again gets newer ones. Never waits.
    pub fn add(&self, keys: &[Key]) {
        if keys.is_empty() {
            return;
        }
        for cache in &self.0.caches {
            let is_full = cache.queue.lock().add(keys.iter().copied());
            if is_full {
                self.0.metrics.overflows.get_or_create(&cache.labels).inc();
                tracing::warn!(
                    cache = cache.labels.cache,
                    queue_keys = self.0.options.queue_keys,
                    "more keys wait for a cache than http.purge.queue_keys: it is told to drop whole collections"
                );
            }
            self.0.count_waiting(cache);
            cache.news.notify_one();
        }
    }

    /// Tells the caches, for as long as it is polled.
    pub async fn run(&self) {
        join_all(self.0.caches.iter().map(|cache| self.0.follow(cache))).await;
    }
}

impl Inner {
    fn count_waiting(&self, cache: &Cache) {
        let waiting = cache.queue.lock().len();
        self.metrics.waiting.get_or_create(&cache.labels).set(waiting as i64);
    }

    async fn follow(&self, cache: &Cache) -> Infallible {
        let first_pause = self.options.first_pause;
        let mut pause = first_pause;
        let mut is_told = false;
        loop {
            self.something(cache).await;
            tokio::time::sleep(self.options.gather).await;
            let ended = self.round(cache).await;
            self.count_waiting(cache);
            self.metrics.failing.get_or_create(&cache.labels).set(i64::from(ended.is_err()));
            let cache = &cache.labels.cache;
            match ended {
                Ok(()) => {
                    if std::mem::take(&mut is_told) {
                        tracing::info!(cache, "the cache takes purges again");
                    }
                    pause = first_pause;
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::warn!(
                            cache, error = %chain(&error),
                            "a cache takes no purges, and is told again; until then it may show what is as old as its age allows"
                        );
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(self.options.longest_pause);
                }
            }
        }
    }

    /// Waits until there is something to tell.
    async fn something(&self, cache: &Cache) {
        loop {
            let wait = cache.queue.lock().wait(Instant::now());
            match wait {
                Some(Duration::ZERO) => return,
                Some(wait) => drop(tokio::time::timeout(wait, cache.news.notified()).await),
                None => cache.news.notified().await,
            }
        }
    }

    /// Tells all that waits. What the cache does not take waits again.
    async fn round(&self, cache: &Cache) -> Result<(), Untaken> {
        let Round { first, again } = cache.queue.lock().take(Instant::now());
        let mut told = 0;
        for (keys, is_first) in [(&first, true), (&again, false)] {
            for keys in keys.chunks(self.options.keys_per_request) {
                let sent = self.send(cache, keys).await;
                let outcome = match &sent {
                    Ok(()) => "taken",
                    Err(Untaken::Refused(_)) => "refused",
                    Err(Untaken::Silent(_) | Untaken::Header(_)) => "failed",
                };
                let labels = Outcome { cache: cache.labels.cache.clone(), outcome };
                self.metrics.requests.get_or_create(&labels).inc();
                if let Err(error) = sent {
                    let untold = first.iter().chain(&again).copied().skip(told);
                    if cache.queue.lock().add(untold) {
                        self.metrics.overflows.get_or_create(&cache.labels).inc();
                    }
                    return Err(error);
                }
                told += keys.len();
                if is_first && !self.options.repeat_after.is_zero() {
                    let at = Instant::now() + self.options.repeat_after;
                    cache.queue.lock().repeat(at, keys);
                }
            }
        }
        Ok(())
    }

    async fn send(&self, cache: &Cache, keys: &[Key]) -> Result<(), Untaken> {
        let mut request = self.client.request(self.options.method.clone(), cache.url.clone());
        for (name, value) in &self.options.headers {
            let value = HeaderValue::try_from(value.now().expose());
            let mut value = value.map_err(|_| Untaken::Header(name.clone()))?;
            value.set_sensitive(true);
            request = request.header(name, value);
        }
        let keys = keys.iter().copied();
        request = match self.options.form {
            Form::Header => request.header(self.surrogates.header(), self.surrogates.joined(keys)),
            Form::Tags => {
                let tags: Vec<String> = keys.map(|key| self.surrogates.text(key)).collect();
                let body = serde_json::json!({ "tags": tags }).to_string();
                request.header(http::header::CONTENT_TYPE, "application/json").body(body)
            }
        };
        let silent = |error: reqwest::Error| Untaken::Silent(error.without_url());
        let answer = request.send().await.map_err(silent)?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(Untaken::Refused(status)),
        }
    }
}

#[cfg(test)]
mod tests;
