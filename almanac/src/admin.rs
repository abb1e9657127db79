//! What operators ask for over HTTP.

use crate::config::Config;
use almanac_edge::{
    Identity, Problem, ProblemType, Scope, cors, method_not_allowed,
    query::{Parameters, bad},
};
use almanac_event_log::EventLog;
use almanac_ingestor::Topics;
use almanac_schemas::Codec;
use axum::{
    Router,
    extract::{Path, RawQuery, State},
    middleware,
    routing::post,
};
use http::{HeaderMap, StatusCode};
use std::{collections::BTreeSet, sync::Arc};

struct Admin {
    log: Arc<dyn EventLog>,
    codec: Arc<Codec>,
    topics: Topics,
    providers: BTreeSet<String>,
    identity: Arc<Identity>,
}

pub(crate) fn router(
    log: Arc<dyn EventLog>,
    codec: Arc<Codec>,
    topics: Topics,
    identity: Arc<Identity>,
    config: &Config,
) -> Router {
    let providers = config.providers.iter().map(|provider| provider.name.clone()).collect();
    let origins = cors::Origins::of(&identity);
    let admin = Admin { log, codec, topics, providers, identity };
    Router::new()
        .route("/v1/providers/{name}/fetches", post(fetch_now))
        .route("/v1/providers/{name}/replays", post(replay))
        .method_not_allowed_fallback(method_not_allowed)
        .route_layer(middleware::from_fn_with_state(origins, cors::writes))
        .with_state(Arc::new(admin))
}

impl Admin {
    /// Who asks, if an operator may and the provider is there.
    fn check(&self, provider: &str, headers: &HeaderMap) -> Result<String, Problem> {
        let caller = self.identity.require(headers, Scope::Admin)?;
        if !self.providers.contains(provider) {
            let detail = "no provider with this name is configured";
            return Err(Problem::new(ProblemType::NotFound, detail));
        }
        Ok(caller.subject)
    }
}

/// A fetch now; of an open breaker, the probe.
async fn fetch_now(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let who = admin.check(&name, &headers)?;
    almanac_ingestor::request_fetch(&*admin.log, &admin.topics, &admin.codec, &name, &who)
        .await
        .map_err(|error| Problem::unavailable("the event log", &error))?;
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
    let who = admin.check(&name, &headers)?;
    let (log, topics) = (&*admin.log, &admin.topics);
    almanac_ingestor::request_replay(log, topics, &admin.codec, &name, since, &who)
        .await
        .map_err(|error| Problem::unavailable("the event log", &error))?;
    Ok(StatusCode::ACCEPTED)
}
