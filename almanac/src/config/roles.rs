//! What the roles may be told.

use super::PurgeConfig;
use almanac_command_api::{CommandApiOptions, DeciderOptions, ForecastSource, Notifications};
use almanac_edge::{
    BodyOptions, CachingOptions, ServeOptions, TrustedProxies, request::Before,
    surrogates::Surrogates,
};
use almanac_processor::{GatherLimits, RestartLimits};
use almanac_query_api::InspectOptions;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct HttpConfig {
    pub(crate) listen: String,
    /// Memory for cached partitions of search.
    pub(crate) cache_bytes: usize,
    /// How long a start may wait for that memory to fill before it counts as ready.
    #[serde(with = "humantime_serde")]
    pub(crate) warm_up: Duration,
    /// Memory for the index of plans; one that does not fit is dropped, and lists take longer.
    pub(crate) plan_index_bytes: usize,
    /// Memory for recipes and answers to questions about them.
    pub(crate) recipe_cache_bytes: usize,
    /// Memory for the index of recipes; for one that does not fit, tables are asked.
    pub(crate) recipe_index_bytes: usize,
    /// Memory for results of analyses.
    pub(crate) analysis_cache_bytes: usize,
    /// Memory for pictures that were made smaller.
    pub(crate) picture_cache_bytes: usize,
    /// How long a read waits for its consistency token when the client prefers nothing else.
    #[serde(with = "humantime_serde")]
    pub(crate) wait: Duration,
    /// How old an answer of a shared cache may be, and for how long after that it may give the old
    /// one while it asks for another, or when it cannot ask.
    #[serde(with = "humantime_serde")]
    pub(crate) shared_max_age: Duration,
    #[serde(with = "humantime_serde")]
    pub(crate) stale_while_revalidate: Duration,
    #[serde(with = "humantime_serde")]
    pub(crate) stale_if_error: Duration,
    /// Where answers that shared caches may keep say what they are about; empty: they do not.
    pub(crate) surrogate_key_header: String,
    /// Where people reach this, such as "https://almanac.example": for links in feeds. When absent, what
    /// each request was sent to.
    pub(crate) public_url: Option<String>,
    /// Origins whose pages may write, such as "https://console.example".
    pub(crate) origins: Vec<String>,
    /// Proxies whose word about the client's address is taken, and the header they write it into.
    pub(crate) trusted_proxies: Vec<String>,
    pub(crate) client_address_header: String,
    /// Connections open at once; more wait.
    pub(crate) max_connections: usize,
    /// For the head of a request, and for the next one on an open connection.
    #[serde(with = "humantime_serde")]
    pub(crate) head_timeout: Duration,
    /// For the whole body of a request.
    #[serde(with = "humantime_serde")]
    pub(crate) body_timeout: Duration,
    /// For a client to take some of its answer.
    #[serde(with = "humantime_serde")]
    pub(crate) write_timeout: Duration,
    /// Memory for the bodies of all requests that are being answered.
    pub(crate) body_bytes: usize,
    /// What of it is for bodies of at most `commands.max_body_bytes`, so that large ones keep nobody
    /// from writing.
    pub(crate) body_reserve_bytes: usize,
    /// What of the rest one caller's bodies may take.
    pub(crate) body_bytes_per_caller: usize,
    /// Bytes of a body that arrive in a second, over five; slower ones are given up.
    pub(crate) body_least_rate: usize,
    /// Memory for answers that are on their way, beside a little for each connection.
    pub(crate) answer_bytes: usize,
    /// Lists and pages of events that are put together at once; others wait for their turn.
    pub(crate) lists: usize,
    /// Streams of events that are open at once.
    pub(crate) event_streams: usize,
    /// After so long a stream of events ends, and its client goes on with another.
    #[serde(with = "humantime_serde")]
    pub(crate) event_stream_time: Duration,
    /// No profile of the process takes longer; 0: there are none.
    #[serde(with = "humantime_serde")]
    pub(crate) profile_time: Duration,
    /// Consumer groups that operators are told of; and how long an answer to one of their questions about
    /// groups and traces is put together.
    pub(crate) inspect_groups: usize,
    #[serde(with = "humantime_serde")]
    pub(crate) inspect_time: Duration,
    /// Records that are read for one trace.
    pub(crate) trace_records: usize,
    /// Large answers that are sent in gzip at once; others go out uncompressed.
    pub(crate) gzip_answers: usize,
    /// Answers that are sent in brotli at once; others are offered gzip.
    pub(crate) brotli_answers: usize,
    pub(crate) purge: PurgeConfig,
}

impl Default for HttpConfig {
    fn default() -> Self {
        let (serve, bodies) = (ServeOptions::default(), BodyOptions::default());
        let (caching, inspect) = (CachingOptions::default(), InspectOptions::default());
        Self {
            listen: "127.0.0.1:8080".to_owned(),
            cache_bytes: 512 << 20,
            warm_up: Duration::from_secs(1),
            plan_index_bytes: 512 << 20,
            recipe_cache_bytes: 64 << 20,
            recipe_index_bytes: 256 << 20,
            analysis_cache_bytes: 32 << 20,
            picture_cache_bytes: 32 << 20,
            wait: Duration::from_secs(2),
            shared_max_age: caching.shared_max_age,
            stale_while_revalidate: caching.stale_while_revalidate,
            stale_if_error: caching.stale_if_error,
            surrogate_key_header: "surrogate-key".to_owned(),
            public_url: None,
            origins: Vec::new(),
            trusted_proxies: Vec::new(),
            client_address_header: "x-forwarded-for".to_owned(),
            max_connections: serve.max_connections,
            head_timeout: serve.head_timeout,
            body_timeout: bodies.timeout,
            write_timeout: serve.write_timeout,
            body_bytes: bodies.bytes,
            body_reserve_bytes: bodies.reserve,
            body_bytes_per_caller: bodies.per_caller,
            body_least_rate: bodies.least_rate,
            answer_bytes: 64 << 20,
            lists: 32,
            event_streams: 64,
            event_stream_time: Duration::from_secs(900),
            profile_time: Duration::from_secs(60),
            inspect_groups: inspect.groups,
            inspect_time: inspect.time,
            trace_records: inspect.trace_records,
            gzip_answers: 16,
            brotli_answers: 8,
            purge: PurgeConfig::default(),
        }
    }
}

impl HttpConfig {
    pub(crate) fn serve_options(&self) -> ServeOptions {
        ServeOptions {
            max_connections: self.max_connections,
            head_timeout: self.head_timeout,
            write_timeout: self.write_timeout,
            before: Before::default(),
        }
    }

    pub(super) fn caching_options(
        &self,
        closed_reads: bool,
        surrogates: Option<Surrogates>,
    ) -> CachingOptions {
        CachingOptions {
            shared_max_age: self.shared_max_age,
            stale_while_revalidate: self.stale_while_revalidate,
            stale_if_error: self.stale_if_error,
            closed_reads,
            surrogates,
        }
    }

    pub(crate) fn trusted_proxies(&self) -> anyhow::Result<TrustedProxies> {
        TrustedProxies::new(&self.trusted_proxies, &self.client_address_header)
            .context("http.trusted_proxies and client_address_header")
    }

    /// `small` is what a recipe's body may have.
    fn body_options(&self, small: usize) -> BodyOptions {
        BodyOptions {
            bytes: self.body_bytes,
            reserve: self.body_reserve_bytes,
            small,
            per_caller: self.body_bytes_per_caller,
            timeout: self.body_timeout,
            least_rate: self.body_least_rate,
            ..BodyOptions::default()
        }
    }
}

/// The write side.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CommandsConfig {
    /// Requests that wait for their answers; more are told to come back.
    pub(crate) max_waiting: usize,
    /// Larger bodies are refused: an event with the recipe before and after must fit a record.
    pub(crate) max_body_bytes: usize,
    /// How long a write waits for its answer when nothing else is preferred.
    #[serde(with = "humantime_serde")]
    pub(crate) wait: Duration,
    /// How long a request that looks like one to refuse waits until all is known that was acknowledged
    /// before it.
    #[serde(with = "humantime_serde")]
    pub(crate) check_wait: Duration,
    /// How long outcomes and idempotency keys are remembered.
    #[serde(with = "humantime_serde")]
    pub(crate) outcomes: Duration,
    /// Commands decided and committed together.
    pub(crate) batch_commands: usize,
    pub(crate) batch_bytes: usize,
    /// How long a batch waits for more, when several were decided together before it.
    #[serde(with = "humantime_serde")]
    pub(crate) gather: Duration,
    /// Local state goes to disk after so many changes, bytes, or so long, whichever comes first.
    pub(crate) flush_changes: usize,
    pub(crate) flush_bytes: usize,
    #[serde(with = "humantime_serde")]
    pub(crate) flush_interval: Duration,
    /// Pictures decoded at the same time, and so many that wait for their turn; more are told to come
    /// back.
    pub(crate) pictures: usize,
    pub(crate) waiting_pictures: usize,
    /// Analyses of one caller that may be without an end; more are told to come back.
    pub(crate) open_analyses: usize,
}

impl Default for CommandsConfig {
    fn default() -> Self {
        let (api, decider) = (CommandApiOptions::default(), DeciderOptions::default());
        Self {
            max_waiting: 10_000,
            max_body_bytes: api.max_body_bytes,
            wait: api.wait,
            check_wait: api.check_wait,
            outcomes: decider.outcomes,
            batch_commands: decider.batch_commands,
            batch_bytes: decider.batch_bytes,
            gather: decider.gather,
            flush_changes: decider.flush.changes,
            flush_bytes: decider.flush.bytes,
            flush_interval: decider.flush.age,
            pictures: api.pictures,
            waiting_pictures: api.waiting_pictures,
            open_analyses: api.open_analyses,
        }
    }
}

impl CommandsConfig {
    pub(crate) fn api_options(
        &self,
        http: &HttpConfig,
        forecast_sources: Vec<ForecastSource>,
        notifications: Notifications,
    ) -> CommandApiOptions {
        CommandApiOptions {
            open_analyses: self.open_analyses,
            forecast_sources,
            notifications,
            projections: None,
            max_body_bytes: self.max_body_bytes,
            wait: self.wait,
            check_wait: self.check_wait,
            pictures: self.pictures,
            waiting_pictures: self.waiting_pictures,
            bodies: http.body_options(self.max_body_bytes),
        }
    }

    pub(crate) fn decider_options(&self) -> DeciderOptions {
        DeciderOptions {
            batch_commands: self.batch_commands,
            batch_bytes: self.batch_bytes,
            gather: self.gather,
            outcomes: self.outcomes,
            flush: self.flush(),
        }
    }

    pub(crate) fn flush(&self) -> GatherLimits {
        GatherLimits {
            changes: self.flush_changes,
            bytes: self.flush_bytes,
            age: self.flush_interval,
        }
    }
}

/// When a task that fails is started over no more.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SupervisionConfig {
    /// So many panics of one task within this time are survived; the next ends the process.
    pub(crate) panics: usize,
    #[serde(with = "humantime_serde")]
    pub(crate) within: Duration,
    /// How long a start waits for servers; then the process ends. Zero for as long as it takes.
    #[serde(with = "humantime_serde")]
    pub(crate) start_within: Duration,
}

impl Default for SupervisionConfig {
    fn default() -> Self {
        let RestartLimits { panics, within, .. } = RestartLimits::default();
        Self { panics, within, start_within: Duration::from_mins(30) }
    }
}

impl SupervisionConfig {
    pub(crate) fn limits(&self) -> RestartLimits {
        let Self { panics, within, .. } = *self;
        RestartLimits { panics, within, ..RestartLimits::default() }
    }
}
