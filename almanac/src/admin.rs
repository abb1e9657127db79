//! What operators ask for over HTTP. There is no identity yet, so it is served on loopback only.

use crate::config::Config;
use almanac_edge::{
    Problem, ProblemType, check_local,
    query::{Parameters, bad},
};
use almanac_event_log::EventLog;
use almanac_ingestor::Topics;
use almanac_schemas::Codec;
use axum::{
    Router,
    extract::{Path, RawQuery, State},
    routing::post,
};
use http::{HeaderMap, StatusCode};
use std::{collections::BTreeSet, sync::Arc};

/// Who asked, until there is identity.
const LOCAL: &str = "local";

struct Admin {
    log: Arc<dyn EventLog>,
    codec: Arc<Codec>,
    topics: Topics,
    providers: BTreeSet<String>,
    allowed: bool,
}

pub(crate) fn router(
    log: Arc<dyn EventLog>,
    codec: Arc<Codec>,
    topics: Topics,
    config: &Config,
) -> Router {
    let providers = config.providers.iter().map(|provider| provider.name.clone()).collect();
    let admin = Admin { log, codec, topics, providers, allowed: config.is_loopback() };
    Router::new()
        .route("/v1/providers/{name}/fetches", post(fetch_now))
        .route("/v1/providers/{name}/replays", post(replay))
        .with_state(Arc::new(admin))
}

impl Admin {
    fn check(&self, provider: &str, headers: &HeaderMap) -> Result<(), Problem> {
        check_local(headers)?;
        let not_found = |detail: &str| Err(Problem::new(ProblemType::NotFound, detail));
        if !self.allowed {
            return not_found("operators' requests are served on loopback only");
        }
        if !self.providers.contains(provider) {
            return not_found("no provider with this name is configured");
        }
        Ok(())
    }
}

/// A fetch now; of an open breaker, the probe.
async fn fetch_now(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    admin.check(&name, &headers)?;
    almanac_ingestor::request_fetch(&*admin.log, &admin.topics, &admin.codec, &name, LOCAL)
        .await
        .map_err(|error| Problem::unavailable(&error))?;
    Ok(StatusCode::ACCEPTED)
}

/// Stored bodies read again, and then a fetch.
async fn replay(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<StatusCode, Problem> {
    let parameters = Parameters::parse(query.as_deref(), &["since"])?;
    let since = match parameters.one("since")? {
        None => None,
        Some(text) => {
            let since = text.replacen(' ', "+", 1).parse();
            Some(since.map_err(|_| bad("since", "it must be an RFC 3339 date-time"))?)
        }
    };
    admin.check(&name, &headers)?;
    let (log, topics) = (&*admin.log, &admin.topics);
    almanac_ingestor::request_replay(log, topics, &admin.codec, &name, since, LOCAL)
        .await
        .map_err(|error| Problem::unavailable(&error))?;
    Ok(StatusCode::ACCEPTED)
}
