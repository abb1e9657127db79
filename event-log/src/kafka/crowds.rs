//! Whether a record gathers with others before it is sent.
//!
//! A broker is asked once for each batch, and a producer that waits for nothing sends records that
//! arrive one by one in nearly as many batches. Where many arrive, waiting a few milliseconds for
//! the next ones costs their callers less than the requests do; where few arrive it would only be
//! waiting. So it depends on how many came to the same partition lately.

use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// Appends to each partition, counted in intervals one after the other.
pub(super) struct Crowds {
    interval: Duration,
    /// So many within an interval are worth gathering.
    many: u32,
    partitions: Mutex<HashMap<(Arc<str>, u32), Count>>,
}

struct Count {
    since: Instant,
    now: u32,
    before: u32,
}

impl Crowds {
    pub(super) fn new(interval: Duration, many: u32) -> Self {
        Self { interval, many, partitions: Mutex::default() }
    }

    /// Counts an append that arrives at `at`, and tells whether many do.
    pub(super) fn joins(&self, topic: &Arc<str>, partition: u32, at: Instant) -> bool {
        let mut partitions = self.partitions.lock();
        let count = partitions.entry((topic.clone(), partition)).or_insert(Count {
            since: at,
            now: 0,
            before: 0,
        });
        let age = at.saturating_duration_since(count.since);
        if age >= self.interval {
            count.before = if age < self.interval * 2 { count.now } else { 0 };
            (count.since, count.now) = (at, 0);
        }
        count.now += 1;
        count.now.max(count.before) >= self.many
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_where_many_come_a_record_gathers() {
        let interval = Duration::from_millis(5);
        let crowds = Crowds::new(interval, 3);
        let (topic, start) = (Arc::from("commands"), Instant::now());
        let joins = |partition, ms| crowds.joins(&topic, partition, start + ms * interval / 5);
        assert_eq!([0, 1, 2, 4].map(|ms| joins(0, ms)), [false, false, true, true]);
        assert!(!joins(1, 4), "another partition has its own count");
        assert!(joins(0, 6), "as many came in the interval before");
        assert!(!joins(0, 12), "one came in the interval before");
        assert!(!joins(0, 40), "nobody came for long");
    }
}
