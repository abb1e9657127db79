//! Whether an operator lets a provider rest.

use crate::metrics::{IngestMetrics, ProviderLabels};
use almanac_operations::Known;
use prometheus_client::metrics::{family::Family, gauge::Gauge};
use std::sync::Arc;
use tokio::sync::watch;

/// Of one provider, as its owner follows it and shows it.
pub(crate) struct Rest {
    labels: ProviderLabels,
    operations: watch::Receiver<Arc<Known>>,
    shown: Family<ProviderLabels, Gauge>,
}

impl Rest {
    pub(crate) fn new(
        provider: &str,
        operations: watch::Receiver<Arc<Known>>,
        metrics: &IngestMetrics,
    ) -> Self {
        let labels = ProviderLabels { provider: provider.to_owned() };
        let rest = Self { labels, operations, shown: metrics.paused.clone() };
        rest.is_on();
        rest
    }

    pub(crate) fn is_on(&self) -> bool {
        let is_on = self.operations.borrow().paused(&self.labels.provider).is_some();
        self.shown.get_or_create(&self.labels).set(i64::from(is_on));
        is_on
    }

    /// Returns when operators did something; whether this provider is meant, `is_on` tells.
    pub(crate) async fn changed(&mut self) {
        if self.operations.changed().await.is_err() {
            // Nobody follows operators any more: the process ends.
            std::future::pending::<()>().await;
        }
    }
}

/// Whoever owns the provider next shows it.
impl Drop for Rest {
    fn drop(&mut self) {
        self.shown.remove(&self.labels);
    }
}
