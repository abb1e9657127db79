//! The cached partitions of `plans_by_start`, kept fresh by the projector's change feed.
//!
//! A partition that the feed names is loaded again in the background while the version at hand
//! goes on being served: no request waits for a reload, and reloads of one partition never pile
//! up. A partition that is not in memory is loaded by the request that wants it.

use super::partition::Partition;
use almanac_projector::plans::{DAYS_PARTITION, Tables};
use almanac_read_store::{ReadStore, Slice, StoreResult};
use parking_lot::{Mutex, RwLock};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::Notify;

const MAX_REST: Duration = Duration::from_millis(250);

pub(crate) struct SearchCache {
    store: Arc<dyn ReadStore>,
    tables: Tables,
    limit_bytes: usize,
    /// Days since 1970-01-01, with what is in memory of them.
    days: RwLock<BTreeMap<i32, Arc<Day>>>,
    used_bytes: AtomicUsize,
    clock: AtomicU64,
    dirty: Mutex<BTreeSet<i32>>,
    news: Notify,
}

pub(crate) struct Day {
    number: i32,
    loaded: RwLock<Option<Arc<Partition>>>,
    /// Counts what the change feed said of this day.
    changes: AtomicU64,
    last_used: AtomicU64,
    loading: tokio::sync::Mutex<()>,
}

impl Day {
    /// The partition key.
    pub(crate) fn name(&self) -> String {
        day_name(self.number)
    }
}

impl SearchCache {
    pub(crate) fn new(store: Arc<dyn ReadStore>, tables: Tables, limit_bytes: usize) -> Self {
        Self {
            store,
            tables,
            limit_bytes,
            days: RwLock::default(),
            used_bytes: AtomicUsize::new(0),
            clock: AtomicU64::new(0),
            dirty: Mutex::default(),
            news: Notify::new(),
        }
    }

    /// Learns which days there are. Called before the cache is used, with the change feed already
    /// followed, so that no day is missed.
    pub(crate) async fn load_days(&self) -> StoreResult<()> {
        let rows = self.store.slice(&self.tables.days, DAYS_PARTITION, &Slice::all()).await?;
        for row in rows {
            if let Some(number) = row.clustering.get(..10).and_then(day_number) {
                self.day(number);
            }
        }
        Ok(())
    }

    /// Loads what fits, days around today first, so that the first requests meet it.
    pub(crate) async fn warm(&self) -> StoreResult<()> {
        let today = (jiff::Timestamp::now().as_second() / 86_400) as i32;
        let mut days: Vec<Arc<Day>> = self.days.read().values().cloned().collect();
        days.sort_by_key(|day| day.number.abs_diff(today));
        for chunk in days.chunks(16) {
            if self.used_bytes.load(Ordering::Relaxed) >= self.limit_bytes / 10 * 9 {
                break;
            }
            futures::future::try_join_all(chunk.iter().map(|day| self.get(day))).await?;
        }
        Ok(())
    }

    fn day(&self, number: i32) -> Arc<Day> {
        if let Some(day) = self.days.read().get(&number) {
            return day.clone();
        }
        let mut days = self.days.write();
        let new = || {
            Arc::new(Day {
                number,
                loaded: RwLock::new(None),
                changes: AtomicU64::new(0),
                last_used: AtomicU64::new(0),
                loading: tokio::sync::Mutex::new(()),
            })
        };
        days.entry(number).or_insert_with(new).clone()
    }

    /// The days whose starts may lie between two instants, in order.
    pub(crate) fn between(&self, low: i64, high: i64) -> Vec<Arc<Day>> {
        let day = |seconds: i64| {
            i32::try_from(seconds.div_euclid(86_400)).unwrap_or(if seconds < 0 {
                i32::MIN
            } else {
                i32::MAX
            })
        };
        let (low, high) = (day(low), day(high));
        if low > high {
            return Vec::new();
        }
        self.days.read().range(low..=high).map(|(_, day)| day.clone()).collect()
    }

    /// What is in memory of a day, if anything.
    pub(crate) fn at_hand(&self, day: &Day) -> Option<Arc<Partition>> {
        let loaded = day.loaded.read().clone()?;
        day.last_used.store(self.clock.load(Ordering::Relaxed), Ordering::Relaxed);
        Some(loaded)
    }

    /// A day, loaded if it is not in memory.
    pub(crate) async fn get(&self, day: &Day) -> StoreResult<Arc<Partition>> {
        if let Some(loaded) = self.at_hand(day) {
            return Ok(loaded);
        }
        // One load per day; who waited finds it loaded.
        let _turn = day.loading.lock().await;
        if let Some(loaded) = self.at_hand(day) {
            return Ok(loaded);
        }
        self.load(day).await
    }

    async fn load(&self, day: &Day) -> StoreResult<Arc<Partition>> {
        let name = day.name();
        loop {
            let before = day.changes.load(Ordering::Acquire);
            let rows = self.store.slice(&self.tables.by_start, &name, &Slice::all()).await?;
            let partition = tokio::task::spawn_blocking(move || Partition::from_rows(&rows))
                .await
                .unwrap_or_default();
            let partition = Arc::new(partition);
            self.install(day, partition.clone());
            // The feed may have passed this load; then the rows may be older than it said. What
            // was loaded is newer than what was there, so it is served meanwhile.
            if day.changes.load(Ordering::Acquire) == before {
                return Ok(partition);
            }
        }
    }

    fn install(&self, day: &Day, partition: Arc<Partition>) {
        let added = partition.weight();
        let removed = day.loaded.write().replace(partition).map_or(0, |old| old.weight());
        self.used_bytes.fetch_add(added, Ordering::Relaxed);
        self.used_bytes.fetch_sub(removed, Ordering::Relaxed);
        day.last_used.store(self.clock.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        if self.used_bytes.load(Ordering::Relaxed) > self.limit_bytes {
            self.evict();
        }
    }

    /// Drops the least recently used until a tenth of the memory is free.
    fn evict(&self) {
        let mut days: Vec<Arc<Day>> = self.days.read().values().cloned().collect();
        days.sort_by_key(|day| day.last_used.load(Ordering::Relaxed));
        for day in days {
            if self.used_bytes.load(Ordering::Relaxed) <= self.limit_bytes / 10 * 9 {
                return;
            }
            if let Some(dropped) = day.loaded.write().take() {
                self.used_bytes.fetch_sub(dropped.weight(), Ordering::Relaxed);
            }
        }
    }

    /// The change feed names a partition of `plans_by_start`.
    pub(crate) fn changed(&self, partition: &str) {
        let Some(number) = day_number(partition) else { return };
        let day = self.day(number);
        day.changes.fetch_add(1, Ordering::AcqRel);
        self.dirty.lock().insert(number);
        self.news.notify_one();
    }

    /// The change feed was not followed for a while: anything in memory may be out of date.
    pub(crate) fn mark_all_changed(&self) {
        let days: Vec<Arc<Day>> = self.days.read().values().cloned().collect();
        for day in days.iter().filter(|day| day.loaded.read().is_some()) {
            day.changes.fetch_add(1, Ordering::AcqRel);
            self.dirty.lock().insert(day.number);
        }
        self.news.notify_one();
    }

    /// Loads again what the change feed names, for as long as it is polled. Between two rounds it
    /// rests as long as the last one took: a single change is loaded at once, and a feed that
    /// touches every day takes at most half of a core from those who write and search.
    pub(crate) async fn refresh(&self) -> StoreResult<()> {
        loop {
            let mut round = std::mem::take(&mut *self.dirty.lock());
            if round.is_empty() {
                self.news.notified().await;
                continue;
            }
            let started = Instant::now();
            while let Some(number) = round.pop_first() {
                let day = self.day(number);
                if day.loaded.read().is_none() {
                    continue;
                }
                let _turn = day.loading.lock().await;
                if let Err(error) = self.load(&day).await {
                    // Still out of date: said again, so that the next round finds them.
                    round.insert(number);
                    self.dirty.lock().append(&mut round);
                    return Err(error);
                }
            }
            tokio::time::sleep(started.elapsed().min(MAX_REST)).await;
        }
    }

    pub(crate) fn used_bytes(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn out_of_date(&self) -> usize {
        self.dirty.lock().len()
    }
}

fn day_number(name: &str) -> Option<i32> {
    let date: jiff::civil::Date = name.parse().ok()?;
    let epoch = jiff::civil::Date::new(1970, 1, 1).ok()?;
    Some(date.since((jiff::Unit::Day, epoch)).ok()?.get_days())
}

fn day_name(number: i32) -> String {
    almanac_projector::plans::StartKey::day_of(i64::from(number) * 86_400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_numbers() {
        for number in [-719_162, -1, 0, 18_808, 2_932_896] {
            assert_eq!(day_number(&day_name(number)), Some(number));
        }
        assert_eq!(day_number("days"), None);
    }
}
