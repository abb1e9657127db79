//! Everything under `/v1`, and the built-in schema registry.

mod cursor;
pub(crate) mod events;
mod filter;
pub(crate) mod plans;
pub(crate) mod providers;
pub(crate) mod registry;

use almanac_edge::{Problem, conditional};
use almanac_read_store::{Retry, StoreError};
use axum::response::Response;
use http::HeaderMap;

/// The one mapping of store errors to answers.
pub(crate) fn store_problem(error: &StoreError) -> Problem {
    match error.retry() {
        Retry::Later => Problem::unavailable(error),
        Retry::Never => Problem::internal(error),
    }
}

pub(crate) async fn openapi(headers: HeaderMap) -> Response {
    conditional::json(&headers, include_str!("../../openapi.json"))
}
