//! What the projector measures.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct PartitionLabels {
    pub(crate) projection: &'static str,
    pub(crate) partition: u32,
}

#[derive(Clone)]
pub struct ProjectorMetrics {
    pub(crate) events: Family<PartitionLabels, Counter>,
    pub(crate) position: Family<PartitionLabels, Gauge>,
    pub(crate) last_progress: Family<PartitionLabels, Gauge>,
    pub(crate) parked: Family<PartitionLabels, Gauge>,
}

impl ProjectorMetrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            events: Family::default(),
            position: Family::default(),
            last_progress: Family::default(),
            parked: Family::default(),
        };
        registry.register("almanac_projector_events", "Events folded", metrics.events.clone());
        registry.register(
            "almanac_projector_position",
            "Offset up to which the rows are folded, exclusive",
            metrics.position.clone(),
        );
        registry.register(
            "almanac_projector_last_progress_timestamp_seconds",
            "When the position moved last, or the end was found reached",
            metrics.last_progress.clone(),
        );
        registry.register(
            "almanac_projector_parked_keys",
            "Keys whose events cannot be folded",
            metrics.parked.clone(),
        );
        metrics
    }
}
