//! The query API: reads, from caches that the projector's change feed keeps fresh.

mod consistency;
mod feed;
mod health;
mod metrics;
mod progress;
mod search;
mod state;
mod v1;

pub use metrics::QueryMetrics;
pub use state::{ApiState, QueryOptions, StateError};

use almanac_edge::{Problem, ProblemType, cors};
use axum::{Router, middleware, routing::get};
use http::StatusCode;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tower_http::compression::CompressionLayer;

/// All routes.
pub fn router(state: Arc<ApiState>) -> Router {
    let search = Router::new().route(
        "/search",
        get(search::get).options(cors::preflight).fallback(|| async {
            let detail = "only GET is answered here";
            search::error(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", detail)
        }),
    );
    let waiting = middleware::from_fn_with_state(state.clone(), consistency::wait);
    let recipes = Router::new()
        .route("/v1/recipes", get(v1::recipes::list))
        .route("/v1/recipes/vocabulary", get(v1::recipes::vocabulary))
        .route("/v1/recipes/{id}", get(v1::recipes::one))
        .route("/v1/recipes/{id}/history", get(v1::recipes::history))
        .route("/v1/recipes/{id}/thumbnail", get(v1::recipes::thumbnail))
        .route_layer(waiting);
    let checking = middleware::from_fn_with_state(state.clone(), consistency::check);
    let v1 = Router::new()
        .route("/v1/plans", get(v1::plans::list))
        .route("/v1/plans/{id}", get(v1::plans::one))
        .route("/v1/plans/{id}/history", get(v1::plans::history))
        .route("/v1/providers", get(v1::providers::list))
        .route("/v1/providers/{name}", get(v1::providers::one))
        .route("/v1/events/{topic}", get(v1::events::get))
        .route_layer(checking)
        .merge(recipes)
        .route("/subjects", get(v1::registry::subjects))
        .route("/subjects/{subject}/versions", get(v1::registry::versions))
        .route("/subjects/{subject}/versions/{version}", get(v1::registry::version))
        .route("/schemas/ids/{id}", get(v1::registry::by_id))
        .route("/openapi.json", get(v1::documents::openapi))
        .route("/asyncapi.json", get(v1::documents::asyncapi))
        .route("/docs", get(v1::documents::docs))
        .method_not_allowed_fallback(|| async {
            Problem::new(ProblemType::MethodNotAllowed, "see the Allow header")
        })
        .layer(middleware::from_fn_with_state(cors::Origins::of(&state.identity), cors::reads));
    let health = Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics));
    let rest = v1.merge(health).layer(CompressionLayer::new());
    Router::new()
        .merge(search)
        .merge(rest)
        .fallback(|| async { Problem::new(ProblemType::NotFound, "no such address") })
        .with_state(state)
}

/// Follows the change feed and keeps the caches fresh until `shutdown`.
pub async fn run(state: Arc<ApiState>, shutdown: CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = feed::follow(&state) => {}
        () = feed::refresh(&state) => {}
    }
}
