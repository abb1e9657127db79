//! What the query API measures.

use prometheus_client::{metrics::gauge::Gauge, registry::Registry};

#[derive(Clone)]
pub struct QueryMetrics {
    pub(crate) cache_bytes: Gauge,
    pub(crate) out_of_date: Gauge,
}

impl QueryMetrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self { cache_bytes: Gauge::default(), out_of_date: Gauge::default() };
        registry.register(
            "almanac_search_cache_bytes",
            "Cached partitions, about",
            metrics.cache_bytes.clone(),
        );
        registry.register(
            "almanac_search_cache_out_of_date",
            "Partitions that the change feed named and that are not loaded again yet",
            metrics.out_of_date.clone(),
        );
        metrics
    }
}
