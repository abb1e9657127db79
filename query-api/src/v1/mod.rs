//! Everything under `/v1`, and the built-in schema registry.

mod cursor;
pub(crate) mod documents;
pub(crate) mod events;
mod filter;
pub(crate) mod plans;
pub(crate) mod providers;
pub(crate) mod registry;

use almanac_edge::Problem;
use almanac_read_store::{Retry, StoreError};

/// The one mapping of store errors to answers.
pub(crate) fn store_problem(error: &StoreError) -> Problem {
    match error.retry() {
        Retry::Later => Problem::unavailable(error),
        Retry::Never => Problem::internal(error),
    }
}
