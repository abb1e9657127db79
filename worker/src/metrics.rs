//! What the worker measures.

use crate::board::Load;
use jiff::Timestamp;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Verdict {
    verdict: &'static str,
}

#[derive(Clone)]
pub struct WorkerMetrics {
    open: Gauge,
    working: Gauge,
    oldest: Gauge,
    ended: Family<Labels, Counter>,
    verdicts: Family<Verdict, Counter>,
    restarted: Counter,
    computing: Histogram,
}

impl WorkerMetrics {
    pub fn register(registry: &mut Registry) -> Self {
        // From 1 ms to about half a minute.
        let buckets = (0..16).map(|step| 0.001 * 2_f64.powi(step));
        let metrics = Self {
            open: Gauge::default(),
            working: Gauge::default(),
            oldest: Gauge::default(),
            ended: Family::default(),
            verdicts: Family::default(),
            restarted: Counter::default(),
            computing: Histogram::new(buckets),
        };
        let open = "Analyses without an end in the partitions of this process";
        registry.register("almanac_analyses_open", open, metrics.open.clone());
        let working = "Analyses that this process works on";
        registry.register("almanac_analyses_running", working, metrics.working.clone());
        let oldest = "Age of the oldest open analysis of this process";
        registry.register_with_unit(
            "almanac_analyses_oldest",
            oldest,
            Unit::Seconds,
            metrics.oldest.clone(),
        );
        let ended = "Ends of analyses in the partitions of this process, by outcome \
                     (completed, failed, cancelled)";
        registry.register("almanac_analyses_ended", ended, metrics.ended.clone());
        let verdicts = "Analyses that were completed in the partitions of this process, by what planners \
                        are told: possible (all tasks can be planned), impossible, or at_risk \
                        (a task that has begun meets something else than a go)";
        registry.register("almanac_analyses_verdicts", verdicts, metrics.verdicts.clone());
        let restarted = "Analyses that were started over because they panicked or took too long";
        registry.register("almanac_analyses_restarted", restarted, metrics.restarted.clone());
        let computing = "Time that computations took";
        registry.register_with_unit(
            "almanac_analyses_computation",
            computing,
            Unit::Seconds,
            metrics.computing.clone(),
        );
        metrics
    }

    pub(crate) fn load(&self, load: Load) {
        self.open.set(load.open as i64);
        self.working.set(load.working as i64);
        let now = Timestamp::now().as_millisecond();
        let age = load.oldest.map_or(0, |oldest| now.saturating_sub(oldest).max(0) / 1_000);
        self.oldest.set(age);
    }

    pub(crate) fn ended(&self, outcome: &'static str) {
        self.ended.get_or_create(&Labels { outcome }).inc();
    }

    pub(crate) fn told(&self, verdict: &'static str) {
        self.verdicts.get_or_create(&Verdict { verdict }).inc();
    }

    pub(crate) fn restarted(&self) {
        self.restarted.inc();
    }

    pub(crate) fn computed(&self, took: Duration) {
        self.computing.observe(took.as_secs_f64());
    }
}
