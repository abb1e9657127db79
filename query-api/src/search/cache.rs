//! The cached partitions of `plans_by_start`, kept fresh by the projector's change feed.
//!
//! Neighbouring days stand in blocks, so that a window of a month is one run of bytes. A day that
//! the feed names is loaded again in the background while the version at hand goes on being
//! served: no request waits for a reload, and reloads of one day never pile up. A day that is not
//! in memory is loaded by the request that wants it.

use super::{
    partition::Partition,
    shelves::{Block, Shelves},
};
use almanac_projector::plans::{DAYS_PARTITION, Tables};
use almanac_read_store::{ReadStore, Slice, StoreResult};
use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{Notify, Semaphore};

const MAX_REST: Duration = Duration::from_millis(500);
/// Days loaded at once by one who wants many, and by all together.
const TOGETHER: usize = 16;
const LOADS: u32 = 2 * TOGETHER as u32;

pub(crate) struct SearchCache {
    store: Arc<dyn ReadStore>,
    tables: Tables,
    limit_bytes: usize,
    /// Requests take the shelves as they are and never wait; a change makes new ones.
    shelves: ArcSwap<Shelves>,
    changing: Mutex<()>,
    days: Mutex<HashMap<i32, Arc<Day>>>,
    /// Bounds the rows on their way into memory, which no limit of the cache counts yet.
    loads: Semaphore,
    /// A turn for each core: what is rendered on more threads is not there sooner, and each thread
    /// keeps some of the memory it used.
    renders: Arc<Semaphore>,
    used_bytes: AtomicUsize,
    clock: AtomicU64,
    dirty: Mutex<BTreeSet<i32>>,
    news: Notify,
}

/// What loading a day has to know of it.
#[derive(Default)]
struct Day {
    /// Counts what the change feed said of this day.
    changes: AtomicU64,
    loading: tokio::sync::Mutex<()>,
}

impl SearchCache {
    pub(crate) fn new(store: Arc<dyn ReadStore>, tables: Tables, limit_bytes: usize) -> Self {
        Self {
            store,
            tables,
            limit_bytes,
            shelves: ArcSwap::default(),
            changing: Mutex::default(),
            days: Mutex::default(),
            loads: Semaphore::new(LOADS as usize),
            renders: Arc::new(Semaphore::new(
                std::thread::available_parallelism().map_or(1, usize::from),
            )),
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
        let days = rows.iter().filter_map(|row| day_number(row.clustering.get(..10)?)).collect();
        self.change(|shelves| shelves.with_days(days));
        Ok(())
    }

    /// Loads what fits, days around today first, so that the first requests meet it. Ends when
    /// `patience` passes: requests load the rest as they want it.
    pub(crate) async fn warm(&self, patience: Duration) -> StoreResult<()> {
        let today = (jiff::Timestamp::now().as_second() / 86_400) as i32;
        let mut days = self.shelves.load().missing();
        days.sort_by_key(|day| day.abs_diff(today));
        let deadline = Instant::now() + patience;
        for chunk in days.chunks(TOGETHER) {
            let is_full = self.used_bytes() >= self.limit_bytes / 10 * 9;
            if is_full || Instant::now() > deadline {
                break;
            }
            self.load(chunk).await?;
        }
        Ok(())
    }

    pub(crate) fn shelves(&self) -> Guard<Arc<Shelves>> {
        self.shelves.load()
    }

    /// Marks a block as used now.
    pub(crate) fn touch(&self, block: &Block) {
        block.touch(self.clock.load(Ordering::Relaxed));
    }

    /// The block that holds a day, loaded if it is not in memory.
    pub(crate) async fn get(&self, number: i32) -> StoreResult<Arc<Block>> {
        if let Some(block) = self.shelves.load().block_of(number) {
            return Ok(block.clone());
        }
        let day = self.day(number);
        let _turn = day.loading.lock().await;
        // All who waited for the same day are served by the first.
        if let Some(block) = self.shelves.load().block_of(number) {
            return Ok(block.clone());
        }
        let mut blocks = self.load_in_turn(&[number], std::slice::from_ref(&day)).await?;
        Ok(blocks.pop().unwrap_or_default())
    }

    fn day(&self, number: i32) -> Arc<Day> {
        self.days.lock().entry(number).or_default().clone()
    }

    /// Loads days, whether they are in memory or not.
    async fn load(&self, numbers: &[i32]) -> StoreResult<()> {
        let mut numbers = numbers.to_vec();
        numbers.sort_unstable();
        let days: Vec<Arc<Day>> = numbers.iter().map(|number| self.day(*number)).collect();
        // One load per day at a time, so that an older one never replaces a newer. The ascending
        // order keeps two that want several days from waiting for each other.
        let mut turns = Vec::with_capacity(days.len());
        for day in &days {
            turns.push(day.loading.lock().await);
        }
        self.load_in_turn(&numbers, &days).await.map(drop)
    }

    /// For who holds the turn of each of these days. The blocks that are made hold them and perhaps
    /// their neighbours.
    async fn load_in_turn(
        &self,
        numbers: &[i32],
        days: &[Arc<Day>],
    ) -> StoreResult<Vec<Arc<Block>>> {
        // Never closed, so this waits and does not fail.
        let _loads = self.loads.acquire_many((numbers.len() as u32).min(LOADS)).await;
        let changes = |day: &Arc<Day>| day.changes.load(Ordering::Acquire);
        let before: Vec<u64> = days.iter().map(changes).collect();
        let loads = numbers.iter().map(|number| self.read(*number));
        let partitions = futures::future::try_join_all(loads).await?;
        let blocks = self.install(partitions);
        // The feed may have passed a load; then its rows may be older than it said. What was
        // loaded is newer than what was there, so it is served meanwhile.
        let passed: Vec<i32> = (numbers.iter().zip(days).zip(before))
            .filter_map(|((number, day), before)| (changes(day) != before).then_some(*number))
            .collect();
        if !passed.is_empty() {
            self.dirty.lock().extend(passed);
            self.news.notify_one();
        }
        Ok(blocks)
    }

    async fn read(&self, number: i32) -> StoreResult<Partition> {
        let rows =
            self.store.slice(&self.tables.by_start, &day_name(number), &Slice::all()).await?;
        let turn = self.renders.clone().acquire_owned().await;
        let made = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            Partition::from_rows(number, &rows)
        });
        Ok(made.await.unwrap_or_default())
    }

    fn change(&self, make: impl FnOnce(&Shelves) -> Shelves) -> Arc<Shelves> {
        let _one_at_a_time = self.changing.lock();
        let made = Arc::new(make(&self.shelves.load()));
        self.used_bytes.store(made.weight(), Ordering::Relaxed);
        self.shelves.store(made.clone());
        made
    }

    fn install(&self, partitions: Vec<Partition>) -> Vec<Arc<Block>> {
        let numbers: Vec<i32> = partitions.iter().map(Partition::first_day).collect();
        let now = self.clock.fetch_add(1, Ordering::Relaxed) + 1;
        let shelves = self.change(|shelves| shelves.with_rows(partitions, now));
        let blocks = numbers.iter().filter_map(|number| shelves.block_of(*number).cloned());
        let blocks = blocks.collect();
        if shelves.weight() > self.limit_bytes {
            self.change(|shelves| shelves.within(self.limit_bytes / 10 * 9));
        }
        blocks
    }

    /// The change feed names a partition of `plans_by_start`.
    pub(crate) fn changed(&self, partition: &str) {
        let Some(number) = day_number(partition) else { return };
        if !self.shelves.load().knows(number) {
            self.change(|shelves| shelves.with_days(vec![number]));
        }
        self.day(number).changes.fetch_add(1, Ordering::AcqRel);
        self.dirty.lock().insert(number);
        self.news.notify_one();
    }

    /// The change feed was not followed for a while: anything in memory may be out of date.
    pub(crate) fn mark_all_changed(&self) {
        for number in self.shelves.load().loaded() {
            self.day(number).changes.fetch_add(1, Ordering::AcqRel);
            self.dirty.lock().insert(number);
        }
        self.news.notify_one();
    }

    /// Loads again what the change feed names, for as long as it is polled. Between two rounds it
    /// rests twice as long as the last one took: a single change is loaded at once, and a feed that
    /// touches every day leaves most of a core, and of the read store, to those who write and search.
    pub(crate) async fn refresh(&self) -> StoreResult<()> {
        loop {
            let round = std::mem::take(&mut *self.dirty.lock());
            if round.is_empty() {
                self.news.notified().await;
                continue;
            }
            let started = Instant::now();
            let mut left: Vec<i32> = {
                let shelves = self.shelves.load();
                round.into_iter().filter(|number| shelves.block_of(*number).is_some()).collect()
            };
            while !left.is_empty() {
                let chunk = left.split_off(left.len().saturating_sub(TOGETHER));
                if let Err(error) = self.load(&chunk).await {
                    // Still out of date: said again, so that the next round finds them.
                    self.dirty.lock().extend(left.into_iter().chain(chunk));
                    return Err(error);
                }
            }
            tokio::time::sleep((started.elapsed() * 2).min(MAX_REST)).await;
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

pub(crate) fn day_name(number: i32) -> String {
    almanac_projector::plans::StartKey::day_of(i64::from(number) * 86_400)
}

#[cfg(test)]
mod tests {
    use super::*;
    use almanac_read_store::{Row, Table, Write};
    use futures::stream::BoxStream;

    #[test]
    fn days_have_numbers() {
        for number in [-719_162, -1, 0, 18_808, 2_932_896] {
            assert_eq!(day_number(&day_name(number)), Some(number));
        }
        assert_eq!(day_number("days"), None);
    }

    /// Answers with an empty day once it is let, and counts.
    struct Gated {
        gate: Semaphore,
        asked: AtomicUsize,
        under_way: AtomicUsize,
        most: AtomicUsize,
    }

    #[async_trait::async_trait]
    impl ReadStore for Gated {
        async fn slice(&self, _: &Table, _: &str, _: &Slice) -> StoreResult<Vec<Row>> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let under_way = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(under_way, Ordering::SeqCst);
            let _gate = self.gate.acquire().await;
            self.under_way.fetch_sub(1, Ordering::SeqCst);
            Ok(Vec::new())
        }

        async fn create_table(&self, _: &Table) -> StoreResult<()> {
            unreachable!("the cache only reads")
        }

        async fn tables(&self) -> StoreResult<Vec<Table>> {
            unreachable!("the cache only reads")
        }

        async fn table_id(&self, _: &Table) -> StoreResult<uuid::Uuid> {
            unreachable!("the cache only reads")
        }

        async fn drop_table(&self, _: &Table) -> StoreResult<()> {
            unreachable!("the cache only reads")
        }

        async fn write(&self, _: Vec<Write>) -> StoreResult<()> {
            unreachable!("the cache only reads")
        }

        async fn get(&self, _: &Table, _: &str, _: &str) -> StoreResult<Option<Row>> {
            unreachable!("the cache reads whole days")
        }

        async fn bulk_load(
            &self,
            _: &Table,
            _: BoxStream<'static, StoreResult<(String, Row)>>,
        ) -> StoreResult<u64> {
            unreachable!("the cache only reads")
        }
    }

    /// What the store was asked, and at most at once, by these requests for days that exist.
    async fn asked_for(days: impl Iterator<Item = i32>) -> (usize, usize) {
        let store = Arc::new(Gated {
            gate: Semaphore::new(0),
            asked: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        });
        let tables = Tables::of(almanac_projector::plans::VERSION).unwrap();
        let cache = Arc::new(SearchCache::new(store.clone(), tables, 1 << 20));
        let days: Vec<i32> = days.collect();
        cache.change(|shelves| shelves.with_days(days.clone()));
        let requests: Vec<_> = days
            .into_iter()
            .map(|day| {
                let cache = cache.clone();
                tokio::spawn(async move { cache.get(day).await.unwrap() })
            })
            .collect();
        // On this one thread, all of them have come as far as they can.
        tokio::task::yield_now().await;
        store.gate.add_permits(Semaphore::MAX_PERMITS);
        for request in requests {
            request.await.unwrap();
        }
        (store.asked.load(Ordering::SeqCst), store.most.load(Ordering::SeqCst))
    }

    #[tokio::test]
    async fn a_day_that_many_want_is_loaded_once() {
        assert_eq!(asked_for(std::iter::repeat_n(7, 50)).await, (1, 1));
    }

    #[tokio::test]
    async fn a_bounded_number_of_days_is_loaded_at_once() {
        assert_eq!(asked_for(0..100).await, (100, LOADS as usize));
    }
}
