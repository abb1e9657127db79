//! What operators ask for over HTTP.

use crate::config::Config;
use almanac_edge::{
    Identity, Problem, ProblemType, Routes, Scope, cors, method_not_allowed, openapi::Fragment,
    openapi_fragment, query::Parameters,
};
use almanac_event_log::EventLog;
use almanac_ingestor::Topics;
use almanac_operations::Operations;
use almanac_schemas::Codec;
use axum::{
    extract::{Path, RawQuery, State},
    middleware,
};
use http::{HeaderMap, StatusCode};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// How long an answer waits to know of all that operators did before.
const COMPLETE: Duration = Duration::from_secs(2);

struct Admin {
    log: Arc<dyn EventLog>,
    codec: Arc<Codec>,
    topics: Topics,
    providers: BTreeSet<String>,
    identity: Arc<Identity>,
    operations: Arc<Operations>,
}

pub(crate) const OPENAPI: Fragment = openapi_fragment!("admin.openapi.json");

pub(crate) fn routes(
    log: Arc<dyn EventLog>,
    codec: Arc<Codec>,
    topics: Topics,
    identity: Arc<Identity>,
    operations: Arc<Operations>,
    config: &Config,
) -> Routes {
    let providers = config.providers.iter().map(|provider| provider.name.clone()).collect();
    let origins = cors::Origins::of(&identity);
    let admin = Admin { log, codec, topics, providers, identity, operations };
    declared().map(|router| {
        router
            .route_layer(middleware::from_fn_with_state(origins, cors::writes))
            .with_state(Arc::new(admin))
    })
}

fn declared() -> Routes<Arc<Admin>> {
    Routes::new()
        .post("/v1/providers/{name}/fetches", fetch_now)
        .post("/v1/providers/{name}/replays", replay)
        .map(|router| router.method_not_allowed_fallback(method_not_allowed))
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

    /// A provider that rests is asked for nothing, whoever wants it.
    async fn refuse_paused(&self, provider: &str) -> Result<(), Problem> {
        let known = self.operations.now(COMPLETE).await;
        let known = known.map_err(|error| Problem::unavailable("the event log", &error))?;
        let Some(paused) = known.paused(provider) else { return Ok(()) };
        let detail = format!(
            "{} paused {provider} at {:.3}; POST /v1/admin/providers/{provider}/resume comes before a fetch",
            paused.by, paused.since
        );
        Err(Problem::new(ProblemType::Conflict, detail))
    }
}

/// A fetch now; of an open breaker, the probe.
async fn fetch_now(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let who = admin.check(&name, &headers)?;
    admin.refuse_paused(&name).await?;
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
    let since = parameters.time("since")?;
    let who = admin.check(&name, &headers)?;
    let (log, topics) = (&*admin.log, &admin.topics);
    almanac_ingestor::request_replay(log, topics, &admin.codec, &name, since, &who)
        .await
        .map_err(|error| Problem::unavailable("the event log", &error))?;
    Ok(StatusCode::ACCEPTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let differences = almanac_edge::openapi::differences(&declared(), [OPENAPI]).unwrap();
        assert!(differences.is_empty(), "{differences:#?}");
    }
}
