//! Everything under `/v1`, and the built-in schema registry.

pub(crate) mod admin;
pub(crate) mod analyses;
pub(crate) mod asyncapi;
mod cursor;
pub(crate) mod documents;
pub(crate) mod events;
mod filter;
pub(crate) mod forecasts;
#[cfg(test)]
mod fuzzed;
mod history;
pub(crate) mod notifications;
pub(crate) mod organizers;
pub(crate) mod plans;
mod private;
pub(crate) mod recipes;
pub(crate) mod registry;
pub(crate) mod schedules;
pub(crate) mod subscriptions;

use almanac_edge::Problem;
use almanac_read_store::{Retry, StoreError};

/// Once its items have so many bytes a page ends, however short, with a cursor to go on.
pub const MAX_PAGE_BYTES: usize = 4 << 20;

/// The parameters that a cursor is bound to.
fn filters_text(query: &str) -> String {
    let mut pairs: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes())
        .into_owned()
        .filter(|(name, _)| name != "cursor" && name != "limit")
        .collect();
    pairs.sort();
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// A row that is not what its projection writes.
#[derive(Debug, thiserror::Error)]
#[error("the row of {what} {id} cannot be read")]
struct UnreadableRow {
    what: &'static str,
    id: String,
    source: serde_json::Error,
}

/// The one mapping of store errors to answers.
pub fn store_problem(error: &StoreError) -> Problem {
    match error.retry() {
        Retry::Later => Problem::unavailable("the read store", error),
        Retry::Never => Problem::internal(error),
    }
}
