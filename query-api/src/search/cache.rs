//! The cached partitions of `plans_by_start`, kept fresh by the projector's change feed.
//!
//! Neighbouring days stand in blocks, so that a window of a month is one run of bytes. A day that
//! the feed names is loaded again in the background while the version at hand goes on being
//! served: no request waits for a reload, and reloads of one day never pile up. A day that is not
//! in memory is loaded by the request that wants it.
//!
//! The index of plans is made of the same days. Where few days changed, a day is read once for both, and
//! the index has it first. Where many did, and after a start, the index follows in between.

use super::{
    partition::Partition,
    shelves::{Block, Shelves},
};
use crate::v1::plans::{IndexedDay, PlanIndex};
use almanac_read_store::{ReadStore, Slice, StoreResult};
use almanac_tables::plans::{DAYS_PARTITION, Tables};
use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

const MAX_REST: Duration = Duration::from_millis(500);
/// While more changes come, the index rests so many times as long as it took to follow some: days that
/// change again and again are not worth being indexed each time.
const RESTS: u32 = 7;
/// Without changes for so long, it follows as fast as it can.
const QUIET: Duration = Duration::from_millis(500);
/// Between two looks at whether a change is shown.
const LOOK: Duration = Duration::from_millis(20);
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
    /// One block is compressed at a time.
    deflating: Arc<Semaphore>,
    used_bytes: AtomicUsize,
    clock: AtomicU64,
    dirty: Mutex<BTreeSet<i32>>,
    news: Notify,
    index: Arc<PlanIndex>,
    /// Whether it is known which days there are.
    has_days: AtomicBool,
    /// The last day that was put into the index in between.
    indexed_to: AtomicI32,
    pace: Mutex<Pace>,
}

/// When the index follows what changed.
struct Pace {
    changed: Instant,
    next: Instant,
}

impl Pace {
    /// How long it is not its turn yet.
    fn wait(&self, now: Instant) -> Duration {
        self.next.min(self.changed + QUIET).saturating_duration_since(now)
    }

    /// It followed some changes from one time to another.
    fn followed(&mut self, began: Instant, ended: Instant) {
        self.next = ended + (ended - began) * RESTS;
    }
}

/// What loading a day has to know of it.
#[derive(Default)]
struct Day {
    /// Counts what the change feed said of this day.
    changes: AtomicU64,
    /// One more than that count when it was read for the index; 0 before.
    indexed: AtomicU64,
    /// The same of the shelves.
    shelved: AtomicU64,
    loading: tokio::sync::Mutex<()>,
}

impl Day {
    /// Whether the index does not have it as it is.
    fn is_behind(&self) -> bool {
        self.indexed.load(Ordering::Acquire) != self.changes.load(Ordering::Acquire) + 1
    }
}

/// A day that was behind, and what the change feed had said of it by then.
struct Awaited {
    number: i32,
    day: Arc<Day>,
    changes: u64,
}

/// What a day is read for.
#[derive(Clone, Copy)]
struct For {
    search: bool,
    index: bool,
}

impl SearchCache {
    pub(crate) fn new(
        store: Arc<dyn ReadStore>,
        tables: Tables,
        limit_bytes: usize,
        index: Arc<PlanIndex>,
    ) -> Self {
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
            deflating: Arc::new(Semaphore::new(1)),
            used_bytes: AtomicUsize::new(0),
            clock: AtomicU64::new(0),
            dirty: Mutex::default(),
            news: Notify::new(),
            index,
            has_days: AtomicBool::new(false),
            indexed_to: AtomicI32::new(i32::MIN),
            pace: Mutex::new(Pace { changed: Instant::now(), next: Instant::now() }),
        }
    }

    /// Learns which days there are. Called before the cache is used, with the change feed already
    /// followed, so that no day is missed.
    pub(crate) async fn load_days(&self) -> StoreResult<()> {
        let rows = self.store.slice(&self.tables.days, DAYS_PARTITION, &Slice::all()).await?;
        let days = rows.iter().filter_map(|row| day_number(row.clustering.get(..10)?)).collect();
        self.change(|shelves| shelves.with_days(days));
        self.has_days.store(true, Ordering::Release);
        self.news.notify_one();
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
            self.load(chunk, For { search: true, index: false }).await?;
        }
        Ok(())
    }

    pub(crate) fn shelves(&self) -> Guard<Arc<Shelves>> {
        self.shelves.load()
    }

    /// Whether somebody compresses a block; who finds nobody does it with the turn.
    pub(crate) fn turn_to_deflate(&self) -> Option<OwnedSemaphorePermit> {
        self.deflating.clone().try_acquire_owned().ok()
    }

    /// Keeps a block compressed as well. Takes a while.
    pub(crate) fn deflate(&self, block: &Block) {
        block.deflate();
        let weight = {
            let _one_at_a_time = self.changing.lock();
            let weight = self.shelves.load().weight();
            self.used_bytes.store(weight, Ordering::Relaxed);
            weight
        };
        self.fit(weight);
    }

    /// Drops what was not used for longest where there is too much.
    fn fit(&self, weight: usize) {
        if weight > self.limit_bytes {
            self.change(|shelves| shelves.within(self.limit_bytes / 10 * 9));
        }
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
        let wanted = For { search: true, index: self.index.is_ready() && day.is_behind() };
        let mut blocks = self.load_in_turn(&[number], std::slice::from_ref(&day), wanted).await?;
        Ok(blocks.pop().unwrap_or_default())
    }

    fn day(&self, number: i32) -> Arc<Day> {
        self.days.lock().entry(number).or_default().clone()
    }

    /// Loads days, whether they are in memory or not.
    async fn load(&self, numbers: &[i32], wanted: For) -> StoreResult<()> {
        let mut numbers = numbers.to_vec();
        numbers.sort_unstable();
        let days: Vec<Arc<Day>> = numbers.iter().map(|number| self.day(*number)).collect();
        // One load per day at a time, so that an older one never replaces a newer. The ascending
        // order keeps two that want several days from waiting for each other.
        let mut turns = Vec::with_capacity(days.len());
        for day in &days {
            turns.push(day.loading.lock().await);
        }
        self.load_in_turn(&numbers, &days, wanted).await.map(drop)
    }

    /// For who holds the turn of each of these days. The blocks that are made hold them and perhaps
    /// their neighbours.
    async fn load_in_turn(
        &self,
        numbers: &[i32],
        days: &[Arc<Day>],
        wanted: For,
    ) -> StoreResult<Vec<Arc<Block>>> {
        // Never closed, so this waits and does not fail.
        let _loads = self.loads.acquire_many((numbers.len() as u32).min(LOADS)).await;
        let changes = |day: &Arc<Day>| day.changes.load(Ordering::Acquire);
        let before: Vec<u64> = days.iter().map(changes).collect();
        let loads = numbers.iter().map(|number| self.read(*number, wanted));
        let loaded = futures::future::try_join_all(loads).await?;
        let (partitions, indexed): (Vec<_>, Vec<_>) = loaded.into_iter().unzip();
        if wanted.index {
            let index = self.index.clone();
            let is_made: Vec<bool> = indexed.iter().map(Option::is_some).collect();
            let put = move || index.put(indexed.into_iter().flatten().collect());
            let is_put = tokio::task::spawn_blocking(put).await.is_ok();
            for ((day, before), is_made) in days.iter().zip(&before).zip(is_made) {
                if is_put && is_made {
                    day.indexed.store(before + 1, Ordering::Release);
                }
            }
        }
        let is_there: Vec<bool> = partitions.iter().map(Option::is_some).collect();
        let blocks = self.install(partitions.into_iter().flatten().collect());
        for ((day, before), is_there) in days.iter().zip(&before).zip(is_there) {
            if is_there {
                day.shelved.store(before + 1, Ordering::Release);
            }
        }
        // The feed may have passed a load; then its rows may be older than it said. What was
        // loaded is newer than what was there, so it is served meanwhile.
        // Where only the index was filled, it is behind, which is found in between.
        let passed: Vec<i32> = (numbers.iter().zip(days).zip(before))
            .filter_map(|((number, day), before)| (changes(day) != before).then_some(*number))
            .collect();
        if wanted.search && !passed.is_empty() {
            self.dirty.lock().extend(passed);
            self.news.notify_one();
        }
        Ok(blocks)
    }

    async fn read(
        &self,
        number: i32,
        wanted: For,
    ) -> StoreResult<(Option<Partition>, Option<IndexedDay>)> {
        let rows =
            self.store.slice(&self.tables.by_start, &day_name(number), &Slice::all()).await?;
        let turn = self.renders.clone().acquire_owned().await;
        let index = self.index.clone();
        let make = move || {
            let _turn = turn;
            let indexed = wanted.index.then(|| index.day(number, &rows));
            (wanted.search.then(|| Partition::from_rows(number, &rows)), indexed)
        };
        // What nobody waits for stands behind those who answer.
        let made = match wanted.search {
            true => tokio::task::spawn_blocking(make),
            false => self.index.background().spawn_blocking(make),
        };
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
        if partitions.is_empty() {
            return Vec::new();
        }
        let numbers: Vec<i32> = partitions.iter().map(Partition::first_day).collect();
        let now = self.clock.fetch_add(1, Ordering::Relaxed) + 1;
        let shelves = self.change(|shelves| shelves.with_rows(partitions, now));
        let blocks: Vec<_> =
            numbers.iter().filter_map(|number| shelves.block_of(*number).cloned()).collect();
        self.fit(shelves.weight());
        blocks
    }

    /// The change feed names a partition of `plans_by_start`.
    pub(crate) fn changed(&self, partition: &str) {
        let Some(number) = day_number(partition) else { return };
        if !self.shelves.load().knows(number) {
            self.change(|shelves| shelves.with_days(vec![number]));
        }
        self.day(number).changes.fetch_add(1, Ordering::AcqRel);
        self.pace.lock().changed = Instant::now();
        self.dirty.lock().insert(number);
        self.news.notify_one();
    }

    /// The change feed was not followed for a while: anything in memory may be out of date.
    pub(crate) fn mark_all_changed(&self) {
        for number in self.shelves.load().loaded() {
            self.dirty.lock().insert(number);
        }
        for day in self.days.lock().values() {
            day.changes.fetch_add(1, Ordering::AcqRel);
        }
        self.news.notify_one();
    }

    /// Loads again what the change feed names, for as long as it is polled. Between two rounds it
    /// rests twice as long as the last one took: a single change is loaded at once, and a feed that
    /// touches every day leaves most of a core, and of the read store, to those who write and search.
    pub(crate) async fn refresh(&self) -> StoreResult<()> {
        loop {
            let started = Instant::now();
            if !self.refresh_once().await? {
                let wait = self.pace.lock().wait(Instant::now());
                if !wait.is_zero() {
                    let _is_news = tokio::time::timeout(wait, self.news.notified()).await;
                } else if !self.follow_some().await? {
                    self.news.notified().await;
                }
                continue;
            }
            let rest = (started.elapsed() * 2).min(MAX_REST);
            let rested = Instant::now();
            // Of the time that is left to others, the index takes half where it is behind.
            while rested.elapsed() < rest / 2
                && self.pace.lock().wait(Instant::now()).is_zero()
                && self.follow_some().await?
            {}
            tokio::time::sleep(rest.saturating_sub(rested.elapsed())).await;
        }
    }

    /// [`Self::index_some`], which is noted.
    async fn follow_some(&self) -> StoreResult<bool> {
        let began = Instant::now();
        let is_some = self.index_some().await?;
        if is_some {
            self.pace.lock().followed(began, Instant::now());
        }
        Ok(is_some)
    }

    /// Loads what the change feed has named. Whether there was anything.
    pub(crate) async fn refresh_once(&self) -> StoreResult<bool> {
        let round = std::mem::take(&mut *self.dirty.lock());
        if round.is_empty() {
            return Ok(false);
        }
        let index = round.len() <= TOGETHER && self.index.is_ready();
        let (mut left, others): (Vec<i32>, Vec<i32>) = {
            let shelves = self.shelves.load();
            round.into_iter().partition(|number| shelves.block_of(*number).is_some())
        };
        while !left.is_empty() {
            let chunk = left.split_off(left.len().saturating_sub(TOGETHER));
            if let Err(error) = self.load(&chunk, For { search: true, index }).await {
                // Still out of date: said again, so that the next round finds them.
                self.dirty.lock().extend(left.into_iter().chain(chunk));
                return Err(error);
            }
        }
        if index && !others.is_empty() {
            self.load(&others, For { search: false, index }).await?;
        }
        Ok(true)
    }

    /// Puts some days into the index that it does not have as they are. Whether there were any.
    pub(crate) async fn index_some(&self) -> StoreResult<bool> {
        if self.index.is_off() || !self.has_days.load(Ordering::Acquire) {
            return Ok(false);
        }
        let mut behind = self.shelves.load().days(i32::MIN, i32::MAX).to_vec();
        {
            let days = self.days.lock();
            behind.retain(|number| days.get(number).is_none_or(|day| day.is_behind()));
        }
        if behind.is_empty() {
            self.index.complete();
            return Ok(false);
        }
        // One after the other, however often the first ones change.
        let indexed_to = self.indexed_to.load(Ordering::Relaxed);
        let next = behind.partition_point(|number| *number <= indexed_to);
        let from = if next == behind.len() { 0 } else { next };
        let chunk = &behind[from..(from + TOGETHER).min(behind.len())];
        self.load(chunk, For { search: false, index: true }).await?;
        if let Some(last) = chunk.last() {
            self.indexed_to.store(*last, Ordering::Relaxed);
        }
        Ok(true)
    }

    /// Resolves once searches and lists show all that the change feed has named.
    pub(crate) async fn shown(&self) {
        let mut awaited: Vec<Awaited> = {
            let days = self.days.lock();
            let awaited = days.iter().map(|(number, day)| Awaited {
                number: *number,
                changes: day.changes.load(Ordering::Acquire),
                day: day.clone(),
            });
            awaited.collect()
        };
        loop {
            awaited.retain(|awaited| !self.shows(awaited));
            if awaited.is_empty() {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn shows(&self, Awaited { number, day, changes }: &Awaited) -> bool {
        let is_shelved = || {
            if day.shelved.load(Ordering::Acquire) > *changes {
                return true;
            }
            // Where nobody loads it, whoever wants it reads it anew.
            let is_loading = day.loading.try_lock().is_err();
            !is_loading && self.shelves.load().block_of(*number).is_none()
        };
        // Without the index, lists are made of rows. One that becomes ready in this moment may have a day of
        // before for another, which the repetition of a purge is for.
        let is_indexed =
            day.indexed.load(Ordering::Acquire) > *changes || self.index.snapshot().is_none();
        is_indexed && is_shelved()
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
    almanac_tables::plans::StartKey::day_of(i64::from(number) * 86_400)
}

#[cfg(test)]
mod tests;
