//! The query API: reads, from caches that the projector's change feed keeps fresh.

mod answers;
mod calendar;
mod consistency;
mod console;
pub mod drawing;
mod fair;
mod feed;
mod front;
mod health;
mod index;
mod metrics;
mod models;
mod packing;
mod parked;
mod progress;
mod purging;
mod readiness;
mod rss;
mod search;
mod slots;
mod state;
mod streams;
mod switch;
#[cfg(test)]
mod testing;
mod trouble;
mod uncached;
mod v1;

pub use metrics::QueryMetrics;
pub use models::{Declared, MODELS};
pub use packing::PackingOptions;
pub use purging::purge;
pub use state::{
    ApiState, InspectOptions, Installation, PageOptions, ProjectionNames, QueryOptions, Shared,
    Sign, SignIn, StateError,
};
pub use switch::follow_operations;
pub use uncached::{Tables, Uncached};
pub use v1::admin::parked::{Filter as ParkedFilter, SetAside, matching as parked_keys};
pub use v1::{MAX_PAGE_BYTES, store_problem};

use almanac_edge::{
    Problem, ProblemType, Routes, cors, method_not_allowed, openapi::Fragment, openapi_fragment,
};
use almanac_processor::Ending;
use axum::middleware;
use front::{Tokens, packing, reading};
use slots::answered_by_live;
use std::sync::Arc;

/// All routes.
pub fn routes(state: &Arc<ApiState>) -> Routes {
    let events = Routes::new()
        .get("/v1/events/{topic}", v1::events::get)
        .get("/v1/notifications/stream", v1::notifications::get);
    let origins = middleware::from_fn_with_state(cors::Origins::of(&state.identity), cors::writes);
    let tickets = Routes::new()
        .post("/v1/notifications/tickets", v1::notifications::post)
        .map(|router| router.method_not_allowed_fallback(method_not_allowed).layer(origins));
    // The registry's addresses are Confluent's, and described there.
    let documents = Routes::new()
        .undocumented("/subjects", v1::registry::subjects)
        .undocumented("/subjects/{subject}/versions", v1::registry::versions)
        .undocumented("/subjects/{subject}/versions/{version}", v1::registry::version)
        .undocumented("/schemas/ids/{id}", v1::registry::by_id)
        .undocumented("/openapi.json", v1::documents::openapi)
        .get("/asyncapi.json", v1::asyncapi::asyncapi)
        .get("/problems", v1::documents::problems)
        .get("/problems/{name}", v1::documents::problem)
        .get("/docs", v1::documents::docs);
    let packing = middleware::from_fn_with_state(state.clone(), packing);
    let health = Routes::new()
        .get("/healthz", health::healthz)
        .get("/readyz", health::readyz)
        .get("/metrics", health::metrics)
        .map(|router| router.method_not_allowed_fallback(method_not_allowed).layer(packing));
    let others = Routes::new()
        .merge(reading(state.shared(), Tokens::Checked(None), events))
        .merge(reading(state.shared(), Tokens::Ignored, documents))
        .merge(reading(state.shared(), Tokens::Ignored, console::routes(&state.options.page)))
        .merge(tickets)
        .merge(health)
        .merge(reading(state.shared(), Tokens::Ignored, v1::admin::routes()))
        .map(|router| router.with_state(state.clone()));
    let models = state.slots.iter().map(|slot| {
        let live = middleware::from_fn_with_state(slot.clone(), answered_by_live);
        slot.live().model.clone().routes().map(|router| router.route_layer(live))
    });
    models.fold(others, Routes::merge).map(|router| {
        router.fallback(|| async { Problem::new(ProblemType::NotFound, "no such address") })
    })
}

/// What describes the routes.
pub fn openapi() -> impl Iterator<Item = Fragment> {
    let models = MODELS.iter().map(|model| model.openapi);
    let own = [openapi_fragment!("openapi.json"), v1::notifications::OPENAPI];
    own.into_iter().chain(v1::admin::OPENAPI).chain(models)
}

/// Follows the change feed until that fails; started again, it misses nothing.
pub async fn follow(state: Arc<ApiState>) -> Result<(), Ending> {
    feed::follow(&state).await.map_err(|error| Ending::again(&error))
}

/// Loads cached partitions again that the change feed names, until that fails.
pub async fn refresh(state: Arc<ApiState>) -> Result<(), Ending> {
    let mut followed = state.followed.subscribe();
    loop {
        let models = state.followed();
        let refreshing = models.iter().map(|served| served.model.refresh());
        tokio::select! {
            ended = futures::future::try_join_all(refreshing) => {
                return ended.map(drop).map_err(|error| Ending::again(&error));
            }
            // A model came or went; the others go on from what is out of date.
            _ = followed.changed() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_route_is_described_and_nothing_else() {
        let installation = testing::installation().await;
        let routes = routes(&installation.state);
        assert!(routes.operations().len() > 30);
        let differences = almanac_edge::openapi::differences(&routes, openapi()).unwrap();
        assert!(differences.is_empty(), "{differences:#?}");
    }
}
