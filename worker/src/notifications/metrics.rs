//! What is measured of notifications.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Partition {
    partition: u32,
}

#[derive(Clone, Default)]
pub struct NotifierMetrics {
    attempts: Family<Outcome, Counter>,
    pending: Family<Partition, Gauge>,
}

impl NotifierMetrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "almanac_notification_attempts",
            "Attempts to send a notification, by what came of them",
            metrics.attempts.clone(),
        );
        registry.register(
            "almanac_notifications_pending",
            "Notifications that have not arrived yet, by partition of their subscriptions",
            metrics.pending.clone(),
        );
        metrics
    }

    pub(super) fn attempted(&self, outcome: &'static str) {
        self.attempts.get_or_create(&Outcome { outcome }).inc();
    }

    pub(super) fn pending(&self, partition: u32, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.pending.get_or_create(&Partition { partition }).set(count);
    }

    /// Another owner counts them.
    pub(super) fn disowned(&self, partition: u32) {
        self.pending.remove(&Partition { partition });
    }
}
