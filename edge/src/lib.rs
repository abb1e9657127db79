//! What all HTTP surfaces share: identity, problem documents, conditional answers, CORS, serving.

mod body;
mod caching;
mod client_address;
mod coarse_timer;
pub mod conditional;
pub mod cors;
mod envelope;
#[cfg(test)]
mod fuzzed;
mod gate;
pub mod identity;
mod json;
pub mod limits;
mod local;
mod metrics;
pub mod openapi;
mod party;
pub mod prefer;
mod problem;
pub mod purge;
pub mod query;
pub mod request;
mod routes;
mod serve;
pub mod surrogates;
mod turns;

pub use body::{Bodies, BodyOptions, Held, discard};
pub use caching::{Caching, CachingOptions, SETTLED};
pub use client_address::{ProxyError, TrustedProxies};
pub use envelope::search_error;
pub use gate::Gate;
pub use identity::{Caller, Identity, Scope};
pub use json::object;
pub use metrics::{HttpMetrics, Measured, exposition, note_nothing_found};
pub use party::Party;
pub use problem::{FieldError, Problem, ProblemType, method_not_allowed};
pub use routes::{Operation, Routes};
pub use serve::{ServeError, ServeOptions, bind, serve};
pub use turns::Turns;
