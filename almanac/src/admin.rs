//! What operators ask for over HTTP. There is no identity yet, so it is served on loopback only.

use crate::config::Config;
use almanac_edge::{Problem, ProblemType};
use almanac_event_log::EventLog;
use almanac_ingestor::Topics;
use almanac_schemas::Codec;
use axum::{
    Router,
    extract::{Path, State},
    routing::post,
};
use http::StatusCode;
use std::{collections::BTreeSet, sync::Arc};

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
    Router::new().route("/v1/providers/{name}/fetches", post(fetch_now)).with_state(Arc::new(admin))
}

/// A fetch now; of an open breaker, the probe.
async fn fetch_now(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    if !admin.allowed {
        let detail = "operators' requests are served on loopback only";
        return Err(Problem::new(ProblemType::NotFound, detail));
    }
    if !admin.providers.contains(&name) {
        return Err(Problem::new(
            ProblemType::NotFound,
            "no provider with this name is configured",
        ));
    }
    almanac_ingestor::request_fetch(&*admin.log, &admin.topics, &admin.codec, &name, "local")
        .await
        .map_err(|error| Problem::unavailable(&error))?;
    Ok(StatusCode::ACCEPTED)
}
