//! What the ingestor measures. Labels are providers' configured names and fixed words.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct FetchLabels {
    pub(crate) provider: String,
    pub(crate) outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct EventLabels {
    pub(crate) provider: String,
    pub(crate) event: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ForecastLabels {
    pub(crate) provider: String,
    pub(crate) answer: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ProviderLabels {
    pub(crate) provider: String,
}

#[derive(Clone)]
pub struct IngestMetrics {
    pub(crate) fetches: Family<FetchLabels, Counter>,
    pub(crate) events: Family<EventLabels, Counter>,
    pub(crate) forecast_requests: Family<ForecastLabels, Counter>,
    pub(crate) quarantined: Family<ProviderLabels, Counter>,
    pub(crate) duration: Histogram,
    pub(crate) waiting: Gauge,
    pub(crate) paused: Family<ProviderLabels, Gauge>,
}

impl IngestMetrics {
    pub fn register(registry: &mut Registry) -> Self {
        // From 5 ms to about five minutes.
        let buckets = (0..16).map(|step| 0.005 * 2_f64.powi(step));
        let metrics = Self {
            fetches: Family::default(),
            events: Family::default(),
            forecast_requests: Family::default(),
            quarantined: Family::default(),
            duration: Histogram::new(buckets),
            waiting: Gauge::default(),
            paused: Family::default(),
        };
        registry.register("almanac_ingest_fetches", "Fetches ended", metrics.fetches.clone());
        registry.register("almanac_ingest_events", "Plan events written", metrics.events.clone());
        registry.register(
            "almanac_ingest_forecast_requests",
            "Requests for forecasts: fetched, shared with another, fresh enough as it was, refused",
            metrics.forecast_requests.clone(),
        );
        registry.register(
            "almanac_ingest_quarantined",
            "Plans, zones and bodies refused",
            metrics.quarantined.clone(),
        );
        registry.register_with_unit(
            "almanac_ingest_fetch_duration",
            "From the beginning of a fetch to its last event",
            Unit::Seconds,
            metrics.duration.clone(),
        );
        registry.register(
            "almanac_ingest_waiting",
            "Fetches that are due and wait for a slot",
            metrics.waiting.clone(),
        );
        registry.register(
            "almanac_ingest_paused",
            "1 while an operator pauses a provider, told by its owner",
            metrics.paused.clone(),
        );
        metrics
    }
}
