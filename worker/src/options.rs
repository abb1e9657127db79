//! What an operator configures, and the topics that a worker reads and writes.

use almanac_processor::GatherLimits;
use almanac_schemas::{analyses, commands, forecasts, ingest, schedules};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkerOptions {
    /// Analyses that are worked on at the same time; most of them wait for forecasts or schedules.
    pub concurrency: usize,
    /// Of these, computed at the same time; the processor's cores when 0.
    pub computations: usize,
    /// How long an analysis may wait for a forecast before it goes on without.
    #[serde(with = "humantime_serde")]
    pub forecast_wait: Duration,
    /// A request for a forecast, or a command, that led to nothing for so long is sent again.
    #[serde(with = "humantime_serde")]
    pub ask_again: Duration,
    /// How long one computation may take.
    #[serde(with = "humantime_serde")]
    pub computation_time: Duration,
    /// How often an analysis is started that panics or takes too long.
    pub attempts: u32,
    /// Memory for forecasts that were read from the log.
    pub forecast_cache_bytes: u64,
    /// A forecast of a place further away than this is warned of.
    pub moved_m: u32,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            concurrency: 64,
            computations: 0,
            forecast_wait: Duration::from_secs(60),
            ask_again: Duration::from_secs(10),
            computation_time: Duration::from_secs(60),
            attempts: 3,
            forecast_cache_bytes: 64 << 20,
            moved_m: 10_000,
        }
    }
}

impl WorkerOptions {
    pub(crate) fn computations(&self) -> usize {
        match self.computations {
            0 => std::thread::available_parallelism().map_or(2, usize::from),
            wanted => wanted,
        }
    }

    /// One caller has no more at work than this, so that others find room.
    pub(crate) fn per_caller(&self) -> usize {
        (self.concurrency * 3 / 4).max(1)
    }

    pub(crate) fn flush() -> GatherLimits {
        GatherLimits { age: Duration::from_secs(1), ..GatherLimits::default() }
    }
}

/// With the installation's prefix.
#[derive(Clone)]
pub struct Topics {
    pub(crate) analyses: Arc<str>,
    pub(crate) inputs: Arc<str>,
    pub(crate) schedules: Arc<str>,
    pub(crate) forecasts: Arc<str>,
    pub(crate) commands: Arc<str>,
    pub(crate) requests: Arc<str>,
    pub(crate) partitions: u32,
}

impl Topics {
    pub fn new(prefix: &str, partitions: u32) -> Self {
        let topic = |name: &str| -> Arc<str> { format!("{prefix}{name}").into() };
        Self {
            analyses: topic(analyses::TOPIC),
            inputs: topic(analyses::INPUTS),
            schedules: topic(schedules::TOPIC),
            forecasts: topic(forecasts::TOPIC),
            commands: topic(commands::TOPIC),
            requests: topic(ingest::REQUESTS),
            partitions,
        }
    }

    /// The topic whose partitions are shared out among workers.
    pub fn input(&self) -> &str {
        &self.analyses
    }
}
