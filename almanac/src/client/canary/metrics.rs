//! What a canary that goes on measures.

use super::Tried;
use almanac_edge::exposition;
use axum::response::Response;
use jiff::Timestamp;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Step {
    step: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    step: &'static str,
    outcome: &'static str,
}

#[derive(Clone)]
pub(super) struct CanaryMetrics {
    steps: Family<Outcome, Counter>,
    took: Family<Step, Histogram, fn() -> Histogram>,
    last_success: Gauge,
    registry: Arc<Registry>,
}

impl Default for CanaryMetrics {
    fn default() -> Self {
        // From 1 ms to about a minute.
        let took: Family<Step, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new((0..17).map(|n| 0.001 * 2_f64.powi(n))));
        let (steps, last_success) = (Family::default(), Gauge::default());
        let mut registry = Registry::default();
        registry.register(
            "almanac_canary_steps",
            "Steps that were tried, by outcome (ok, failed)",
            steps.clone(),
        );
        registry.register_with_unit(
            "almanac_canary_step_duration",
            "Time that steps took which worked; of read it is the time until a write was visible",
            Unit::Seconds,
            took.clone(),
        );
        registry.register_with_unit(
            "almanac_canary_last_success_timestamp",
            "When a run in which every step worked ended; 0 before the first",
            Unit::Seconds,
            last_success.clone(),
        );
        Self { steps, took, last_success, registry: Arc::new(registry) }
    }
}

impl CanaryMetrics {
    pub(super) fn tried(&self, tried: &Tried) {
        let step = tried.step;
        let outcome = if tried.outcome.is_ok() { "ok" } else { "failed" };
        self.steps.get_or_create(&Outcome { step, outcome }).inc();
        if tried.outcome.is_ok() {
            self.took.get_or_create(&Step { step }).observe(tried.took.as_secs_f64());
        }
    }

    pub(super) fn ended(&self, all_worked: bool) {
        if all_worked {
            self.last_success.set(Timestamp::now().as_second());
        }
    }

    pub(super) fn answer(&self) -> Response {
        exposition(&self.registry)
    }
}
