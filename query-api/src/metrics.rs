//! What the query API measures.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct What {
    pub(crate) what: &'static str,
}

#[derive(Clone)]
pub struct QueryMetrics {
    pub(crate) cache_bytes: Gauge,
    pub(crate) out_of_date: Gauge,
    /// 1 for what is in touch with the log, by what it is; 0 for what is cut off.
    pub(crate) followed: Family<What, Gauge>,
}

impl QueryMetrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            cache_bytes: Gauge::default(),
            out_of_date: Gauge::default(),
            followed: Family::default(),
        };
        registry.register(
            "almanac_log_followed",
            "Whether the change feed, replies and writes are in touch with the log (1) or cut off (0)",
            metrics.followed.clone(),
        );
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
