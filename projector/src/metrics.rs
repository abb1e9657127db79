//! What the projector measures. What concerns a partition is told by its owner only, for as long as
//! it owns it, through failures and restarts.

use almanac_event_log::Offset;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{MetricType, counter::Counter, family::Family, gauge::ConstGauge},
    registry::Registry,
};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
pub(crate) struct PartitionLabels {
    pub(crate) projection: &'static str,
    pub(crate) topic: &'static str,
    pub(crate) partition: u32,
    /// Of the tables: a rebuild fills others beside the live ones.
    pub(crate) generation: u32,
}

#[derive(Clone)]
pub struct ProjectorMetrics {
    events: Family<PartitionLabels, Counter>,
    owned: OwnedPartitions,
}

impl ProjectorMetrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self { events: Family::default(), owned: OwnedPartitions::default() };
        registry.register("almanac_projector_events", "Events folded", metrics.events.clone());
        registry.register_collector(Box::new(metrics.owned.clone()));
        metrics
    }

    /// Whether a partition that this process owns has stood still for so long, although there is something
    /// to fold, or cannot go on.
    pub fn stands_still(&self, at_most: Duration) -> bool {
        let now_ms = jiff::Timestamp::now().as_millisecond();
        let mut owned = self.owned.lock();
        owned.retain(|_, (cancelled, _)| !cancelled.is_cancelled());
        owned.values().any(|(_, progress)| progress.stands_still(now_ms, at_most))
    }

    /// Begins to tell of a partition, until `cancelled`; goes on where it was when the owner only
    /// starts over.
    pub(crate) fn own(
        &self,
        labels: PartitionLabels,
        cancelled: &CancellationToken,
    ) -> PartitionMetrics {
        let mut owned = self.owned.lock();
        owned.retain(|_, (cancelled, _)| !cancelled.is_cancelled());
        owned.entry(labels.clone()).or_insert_with(|| (cancelled.clone(), Progress::default()));
        PartitionMetrics { labels, metrics: self.clone() }
    }
}

/// Of one owned partition.
pub(crate) struct PartitionMetrics {
    labels: PartitionLabels,
    metrics: ProjectorMetrics,
}

impl PartitionMetrics {
    pub(crate) fn folded(&self, events: usize) {
        self.metrics.events.get_or_create(&self.labels).inc_by(events as u64);
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Progress)) {
        if let Some((_, progress)) = self.metrics.owned.lock().get_mut(&self.labels) {
            change(progress);
        }
    }
}

/// How far a partition is folded. Only what was written counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    position: Option<Offset>,
    end: Option<Offset>,
    moved_at_ms: Option<i64>,
    /// Time of the oldest event that was read and is not in the tables.
    waiting_since_ms: Option<i64>,
    /// When it was found that there is something behind the position.
    behind_since_ms: Option<i64>,
    pub(crate) parked: usize,
    /// A fault keeps it where it is.
    pub(crate) down: bool,
}

impl Progress {
    /// What an earlier owner wrote: no progress of this one.
    pub(crate) fn resume(&mut self, position: Offset, moved_at_ms: Option<i64>) {
        self.position = Some(position);
        self.moved_at_ms = self.moved_at_ms.max(moved_at_ms);
    }

    /// Where the topic ends now.
    pub(crate) fn see_end(&mut self, end: Offset, now_ms: i64) {
        self.end = self.end.max(Some(end));
        self.settle(now_ms);
    }

    /// An event was read, and everything before it is folded.
    pub(crate) fn see_event(&mut self, timestamp_ms: i64) {
        self.waiting_since_ms = Some(timestamp_ms);
    }

    /// Everything below was written. `oldest_left_ms` is no later than what may be left.
    pub(crate) fn reach(&mut self, position: Offset, oldest_left_ms: Option<i64>, now_ms: i64) {
        if self.position < Some(position) {
            self.position = Some(position);
            self.moved_at_ms = Some(now_ms);
        }
        self.end = self.end.max(self.position);
        self.waiting_since_ms = oldest_left_ms;
        self.behind_since_ms = None;
        self.settle(now_ms);
    }

    fn settle(&mut self, now_ms: i64) {
        match self.lag_events() {
            Some(0) => (self.waiting_since_ms, self.behind_since_ms) = (None, None),
            Some(_) => self.behind_since_ms = self.behind_since_ms.or(Some(now_ms)),
            None => {}
        }
    }

    fn lag_events(&self) -> Option<u64> {
        Some(self.end?.saturating_sub(self.position?))
    }

    fn stands_still(&self, now_ms: i64, at_most: Duration) -> bool {
        let Some(behind_since) = self.behind_since_ms else { return self.down };
        let since = behind_since.max(self.moved_at_ms.unwrap_or_default());
        self.down || u128::try_from(now_ms - since).is_ok_and(|for_ms| for_ms > at_most.as_millis())
    }

    /// Age of the oldest event that is not in the tables.
    fn lag_s(&self, now_ms: i64) -> Option<f64> {
        match (self.lag_events()?, self.waiting_since_ms.or(self.behind_since_ms)) {
            (0, _) | (_, None) => Some(0.0),
            (_, Some(since)) => Some(now_ms.saturating_sub(since).max(0) as f64 / 1_000.0),
        }
    }
}

enum Value {
    Count(u64),
    Seconds(f64),
}

type Tell = fn(&Progress, i64) -> Option<Value>;
type Partitions = BTreeMap<PartitionLabels, (CancellationToken, Progress)>;

#[derive(Clone, Default)]
struct OwnedPartitions(Arc<Mutex<Partitions>>);

impl OwnedPartitions {
    fn lock(&self) -> MutexGuard<'_, Partitions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for OwnedPartitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.lock().keys()).finish()
    }
}

impl Collector for OwnedPartitions {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let now_ms = jiff::Timestamp::now().as_millisecond();
        let mut owned = self.lock();
        owned.retain(|_, (cancelled, _)| !cancelled.is_cancelled());
        let gauges: [(&str, &str, Tell); 6] = [
            (
                "almanac_projector_position",
                "Offset up to which the rows are written, exclusive",
                |progress, _| Some(Value::Count(progress.position?)),
            ),
            (
                "almanac_projector_lag_events",
                "Offsets between what is written and the end of the topic",
                |progress, _| Some(Value::Count(progress.lag_events()?)),
            ),
            (
                "almanac_projector_lag_seconds",
                "Age of the oldest event that is not in the tables; 0 when all are",
                |progress, now_ms| Some(Value::Seconds(progress.lag_s(now_ms)?)),
            ),
            (
                "almanac_projector_last_progress_timestamp_seconds",
                "When the position moved last; long ago where nothing happens",
                |progress, _| Some(Value::Seconds(progress.moved_at_ms? as f64 / 1_000.0)),
            ),
            (
                "almanac_projector_parked_keys",
                "Keys whose events cannot be folded",
                |progress, _| Some(Value::Count(progress.parked as u64)),
            ),
            (
                "almanac_projector_down",
                "1 while a fault keeps the partition where it is, 0 otherwise",
                |progress, _| Some(Value::Count(progress.down.into())),
            ),
        ];
        for (name, help, value) in gauges {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (labels, (_, progress)) in owned.iter() {
                match value(progress, now_ms) {
                    Some(Value::Count(count)) => {
                        ConstGauge::new(count as i64).encode(family.encode_family(labels)?)?;
                    }
                    Some(Value::Seconds(seconds)) => {
                        ConstGauge::new(seconds).encode(family.encode_family(labels)?)?;
                    }
                    None => {}
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_what_is_not_written_and_how_old_it_is() {
        let mut progress = Progress::default();
        assert_eq!((progress.lag_events(), progress.lag_s(0)), (None, None));
        progress.resume(5, Some(1_000));
        progress.see_end(5, 50_000);
        // Nothing happens for an hour: it is not late, however old the last progress is.
        assert_eq!((progress.lag_events(), progress.lag_s(3_600_000)), (Some(0), Some(0.0)));
        assert_eq!(progress.moved_at_ms, Some(1_000));
        // Something is there, and nobody knows how old it is.
        progress.see_end(8, 4_000_000);
        assert_eq!((progress.lag_events(), progress.lag_s(4_002_000)), (Some(3), Some(2.0)));
        progress.see_event(3_990_000);
        assert_eq!(progress.lag_s(4_002_000), Some(12.0));
        // To start over writes nothing.
        progress.resume(5, Some(1_000));
        assert_eq!((progress.lag_events(), progress.lag_s(4_010_000)), (Some(3), Some(20.0)));
        progress.reach(7, Some(3_995_000), 4_011_000);
        assert_eq!((progress.lag_events(), progress.lag_s(4_011_000)), (Some(1), Some(16.0)));
        assert_eq!(progress.moved_at_ms, Some(4_011_000));
        progress.reach(8, None, 4_012_000);
        assert_eq!((progress.lag_events(), progress.lag_s(9_000_000)), (Some(0), Some(0.0)));
        progress.reach(8, None, 5_000_000);
        assert_eq!(progress.moved_at_ms, Some(4_012_000), "it did not move");
    }

    #[test]
    fn what_is_lost_is_told_no_more() {
        let mut registry = Registry::default();
        let metrics = ProjectorMetrics::register(&mut registry);
        let text = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            text
        };
        let labels =
            |partition| PartitionLabels { projection: "p", topic: "t", partition, generation: 0 };
        let (first, second) = (CancellationToken::new(), CancellationToken::new());
        metrics.own(labels(0), &first).update(|progress| progress.resume(7, None));
        metrics.own(labels(1), &second).update(|progress| progress.resume(8, None));
        let position = |partition: u32, at: u64| {
            format!(
                "almanac_projector_position{{projection=\"p\",topic=\"t\",partition=\"{partition}\",generation=\"0\"}} {at}\n"
            )
        };
        assert!(text().contains(&position(0, 7)) && text().contains(&position(1, 8)), "{}", text());
        // The owner starts over: what is known stays.
        metrics.own(labels(0), &first);
        assert!(text().contains(&position(0, 7)), "{}", text());
        first.cancel();
        assert!(!text().contains("partition=\"0\""), "{}", text());
        assert!(text().contains(&position(1, 8)), "{}", text());
        // Who gets it again begins anew.
        let again = CancellationToken::new();
        metrics.own(labels(0), &again);
        assert!(
            !text().contains("position{projection=\"p\",topic=\"t\",partition=\"0\""),
            "{}",
            text()
        );
    }
}
