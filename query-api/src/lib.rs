//! The query API: reads, from caches that the projector's change feed keeps fresh.

mod answers;
mod consistency;
mod fair;
mod feed;
mod front;
mod health;
mod metrics;
mod packing;
mod parked;
mod progress;
mod readiness;
mod search;
mod state;
mod streams;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod testing_plans;
mod v1;

pub use metrics::QueryMetrics;
pub use packing::PackingOptions;
pub use state::{ApiState, QueryOptions, Sign, StateError};
pub use v1::MAX_PAGE_BYTES;

use almanac_edge::{Problem, ProblemType, cors, method_not_allowed};
use almanac_processor::Ending;
use almanac_schemas::recipes::CONTEXT;
use axum::{Router, middleware, routing::get};
use front::{Front, Tokens, front, packing};
use http::StatusCode;
use std::sync::Arc;

/// All routes.
pub fn router(state: Arc<ApiState>) -> Router {
    let search = Router::new().route(
        "/search",
        get(search::get).options(cors::preflight).fallback(|| async {
            let detail = "only GET is answered here";
            search::error(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", detail)
        }),
    );
    let reading = |tokens| middleware::from_fn_with_state(Front::new(&state, tokens), front);
    let recipes = Router::new()
        .route("/v1/recipes", get(v1::recipes::list))
        .route("/v1/recipes/vocabulary", get(v1::recipes::vocabulary))
        .route("/v1/recipes/{id}", get(v1::recipes::one))
        .route("/v1/recipes/{id}/history", get(v1::recipes::history))
        .route("/v1/recipes/{id}/thumbnail", get(v1::recipes::thumbnail))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(reading(Tokens::Awaited(CONTEXT)));
    let tables = Router::new()
        .route("/v1/plans", get(v1::plans::list))
        .route("/v1/plans/{id}", get(v1::plans::one))
        .route("/v1/plans/{id}/history", get(v1::plans::history))
        .route("/v1/providers", get(v1::providers::list))
        .route("/v1/providers/{name}", get(v1::providers::one))
        .route("/v1/events/{topic}", get(v1::events::get))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(reading(Tokens::Checked));
    let documents = Router::new()
        .route("/subjects", get(v1::registry::subjects))
        .route("/subjects/{subject}/versions", get(v1::registry::versions))
        .route("/subjects/{subject}/versions/{version}", get(v1::registry::version))
        .route("/schemas/ids/{id}", get(v1::registry::by_id))
        .route("/openapi.json", get(v1::documents::openapi))
        .route("/asyncapi.json", get(v1::documents::asyncapi))
        .route("/docs", get(v1::documents::docs))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(reading(Tokens::Ignored));
    let health = Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(state.clone(), packing));
    Router::new()
        .merge(search)
        .merge(recipes)
        .merge(tables)
        .merge(documents)
        .merge(health)
        .fallback(|| async { Problem::new(ProblemType::NotFound, "no such address") })
        .with_state(state)
}

/// Follows the change feed until that fails; started again, it misses nothing.
pub async fn follow(state: Arc<ApiState>) -> Result<(), Ending> {
    feed::follow(&state).await.map_err(|error| Ending::again(&error))
}

/// Loads cached days again that the change feed names, until that fails.
pub async fn refresh(state: Arc<ApiState>) -> Result<(), Ending> {
    feed::refresh(&state).await.map_err(|error| Ending::again(&error))
}
