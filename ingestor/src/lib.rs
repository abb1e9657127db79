//! Ingestors: fetch providers' feeds, compare them with what was said last, publish the
//! difference as events.

// What is instrumented for `make fuzz` needs libFuzzer to be linked with it, and these tests call nothing of it.
#[cfg(test)]
use almanac_fuzzing as _;

mod commit;
mod compare;
pub mod config;
mod entry;
mod fetch;
pub mod fever_plans;
mod forecasting;
pub mod forecasts;
mod metrics;
mod outbox;
mod provider;
mod publish;
mod replay;
mod request;
mod rest;
mod role;
mod schedule;
mod slots;
#[cfg(test)]
mod tests;

pub use metrics::IngestMetrics;
pub use request::{request_fetch, request_forecast, request_replay};
pub use role::{Ingestor, IngestorError, Topics};
