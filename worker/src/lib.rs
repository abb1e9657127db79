//! The worker: makes analyses of weather windows.
//!
//! It follows `analyses.events`, `schedules.events` and `forecasts.events` in local state. A group shares
//! out the partitions of `analyses.events`: the owner of one makes its open analyses, beside each other and
//! within bounds, and sends what comes of them as commands. The decider lets an analysis end once, so that
//! a worker may repeat what another did before it died. With the partition of the same number of
//! `schedules.events` the owner has the timers of schedules that repeat.
//!
//! [`notifications`] tells of events whoever subscribed to them.

mod analyses;
mod board;
mod commands;
mod forecasts;
mod metrics;
pub mod notifications;
mod options;
mod outcome;
mod previous;
mod queue;
mod read;
mod repeats;
mod role;
mod schedules;
mod work;

#[cfg(test)]
mod tests;

pub use metrics::WorkerMetrics;
pub use options::{Topics, WorkerOptions};
pub use role::{Parts, Worker};
