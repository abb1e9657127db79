//! What deciders measure. What happened in a calendar, such as recipes made, is counted by the type of its
//! events.

use jiff::Timestamp;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    context: &'static str,
    status: u16,
    replayed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    event_type: &'static str,
}

/// What came of a command.
pub(crate) struct Outcome {
    /// Empty where there is no such context.
    pub(crate) context: &'static str,
    pub(crate) status: u16,
    pub(crate) replayed: bool,
    /// When a command API took it, in milliseconds since the Unix epoch.
    pub(crate) issued_at: i64,
}

/// What a transaction of a decider comes to.
#[derive(Default)]
pub(crate) struct Account {
    pub(crate) outcomes: Vec<Outcome>,
    /// Types of events.
    pub(crate) events: Vec<&'static str>,
}

#[derive(Clone)]
pub struct DeciderMetrics {
    outcomes: Family<OutcomeLabels, Counter>,
    events: Family<EventLabels, Counter>,
    latency: Histogram,
    transaction: Histogram,
}

/// From 1 ms to about half a minute.
fn latencies() -> Histogram {
    Histogram::new((0..16).map(|step| 0.001 * 2_f64.powi(step)))
}

impl Default for DeciderMetrics {
    fn default() -> Self {
        Self {
            outcomes: Family::default(),
            events: Family::default(),
            latency: latencies(),
            transaction: latencies(),
        }
    }
}

impl DeciderMetrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "almanac_commands_decided",
            "Commands decided by this process, by context, status and whether an earlier outcome was repeated",
            metrics.outcomes.clone(),
        );
        registry.register(
            "almanac_events_decided",
            "Events that commands led to in this process, by type",
            metrics.events.clone(),
        );
        registry.register_with_unit(
            "almanac_command_latency",
            "From taking a command to the commit of its outcome, by the clocks of both processes",
            Unit::Seconds,
            metrics.latency.clone(),
        );
        registry.register_with_unit(
            "almanac_decider_transaction",
            "Commits of transactions with events, replies and input positions",
            Unit::Seconds,
            metrics.transaction.clone(),
        );
        metrics
    }

    pub(crate) fn committed(&self, account: &Account, took: Duration) {
        self.transaction.observe(took.as_secs_f64());
        let now = Timestamp::now().as_millisecond();
        for &Outcome { context, status, replayed, issued_at } in &account.outcomes {
            let labels = OutcomeLabels { context, status, replayed };
            self.outcomes.get_or_create(&labels).inc();
            let waited = u64::try_from(now.saturating_sub(issued_at)).unwrap_or_default();
            self.latency.observe(Duration::from_millis(waited).as_secs_f64());
        }
        for event_type in &account.events {
            self.events.get_or_create(&EventLabels { event_type }).inc();
        }
    }
}
