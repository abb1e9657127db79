//! Questions about recipes, answered from memory: an index of what every recipe answers, made of the rows
//! of `recipes`, and kept fresh by the change feed.
//!
//! Recipes are written by people who read their own writes. One that changed is known here before anybody
//! is told how far the tables are; until it is indexed anew, who asks looks at the recipe itself. Segments
//! are never changed: a recipe that is newer elsewhere is passed over, and segments are merged so that each
//! is a few times as large as the next. Until every recipe was read, and for good where the index would
//! exceed `http.recipe_index_bytes`, the tables of questions are asked.

mod segment;
#[cfg(test)]
mod tests;

use super::{Recipes, cache::Document, list::Asked};
use almanac_read_store::{Row, Slice, StoreError, StoreResult};
use almanac_tables::recipes::{id_bucket, id_buckets};
use arc_swap::ArcSwapOption;
use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use segment::{Item, Live, Scan, Segment};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};
use tokio::{runtime::Handle, sync::Notify};
use uuid::Uuid;

/// A segment has more recipes than so many times those of all later ones.
const RATIO: usize = 3;
/// Changed recipes that are indexed together.
const TOGETHER: usize = 512;
/// Changed recipes that a list looks at one by one; where more wait to be indexed, tables are asked.
const MOST_CHANGED: usize = 128;
/// Rows read at once, and reads under way.
const PART: usize = 256;
const AHEAD: usize = 8;

pub(crate) struct RecipeIndex {
    limit_bytes: usize,
    background: Handle,
    snapshot: ArcSwapOption<Snapshot>,
    /// Recipes that changed since they were indexed, and how often.
    changed: Mutex<BTreeMap<Uuid, u64>>,
    /// Counts how often changes may have been missed.
    missed: AtomicU64,
    is_off: AtomicBool,
    used_bytes: AtomicUsize,
    news: Notify,
}

/// All recipes at one moment.
#[derive(Default)]
pub(crate) struct Snapshot {
    lives: Vec<Live>,
}

impl Snapshot {
    /// With more recipes, and without some in their older versions.
    fn with(&self, items: Vec<Item>, gone: &[Uuid]) -> Self {
        let mut lives: Vec<Live> = self.lives.iter().map(|live| live.without(gone)).collect();
        if !items.is_empty() {
            lives.push(Live::new(Segment::of(items)));
        }
        let (mut from, mut later) = (lives.len(), 0);
        for (place, live) in lives.iter().enumerate().rev() {
            if place + 1 < lives.len() && live.left() <= RATIO * later {
                from = place;
            }
            later += live.left();
        }
        if from < lives.len() {
            let merged = Segment::merged(&lives[from..]);
            lives.truncate(from);
            lives.push(Live::new(merged));
        }
        Self { lives }
    }

    fn version_of(&self, id: Uuid) -> Option<u64> {
        self.lives.iter().find_map(|live| live.version_of(id))
    }

    fn len(&self) -> usize {
        self.lives.iter().map(Live::left).sum()
    }

    fn weight(&self) -> usize {
        self.lives.iter().map(Live::weight).sum()
    }

    /// Looks for recipes from an id on.
    pub(super) fn search(&self, asked: &Asked, from: Uuid) -> Search<'_> {
        let scan = |live| (Scan::new(live, asked, from), None);
        Search { scans: self.lives.iter().map(scan).collect() }
    }
}

/// The recipes that are asked for, in the order of their ids.
pub(super) struct Search<'s> {
    /// With what each found last and was not taken.
    scans: Vec<(Scan<'s>, Option<Option<Uuid>>)>,
}

impl Search<'_> {
    /// The next one, or that there is none; nothing where more than `budget` is to be looked at.
    pub(super) fn next(&mut self, mut budget: usize) -> Option<Option<Uuid>> {
        for (scan, found) in &mut self.scans {
            if found.is_none() {
                *found = Some(scan.next(&mut budget)?);
            }
        }
        let heads = self.scans.iter_mut().filter(|(_, found)| matches!(found, Some(Some(_))));
        let least = heads.min_by_key(|(_, found)| *found);
        Some(least.and_then(|(_, found)| found.take().flatten()))
    }
}

impl RecipeIndex {
    pub(crate) fn new(limit_bytes: usize, background: Handle) -> Arc<Self> {
        let (snapshot, changed, missed, is_off, used_bytes, news) = Default::default();
        Arc::new(Self {
            limit_bytes,
            background,
            snapshot,
            changed,
            missed,
            is_off,
            used_bytes,
            news,
        })
    }

    /// Takes in which recipes changed.
    pub(crate) fn changed<'k>(&self, keys: impl Iterator<Item = &'k String>) {
        if self.is_off.load(Ordering::Acquire) {
            return;
        }
        let mut changed = self.changed.lock();
        for id in keys.filter_map(|key| key.parse().ok()) {
            *changed.entry(id).or_default() += 1;
        }
        drop(changed);
        self.news.notify_one();
    }

    /// Somebody read a recipe, of which the feed may have told nothing yet: who saw it on its own finds it
    /// in lists, too.
    pub(super) fn seen(&self, id: Uuid, document: &Document) {
        if self.is_off.load(Ordering::Acquire) {
            return;
        }
        // Where there is no snapshot, one may be under way that passed its place before it was there.
        let snapshot = self.snapshot.load_full();
        if snapshot.is_none_or(|snapshot| snapshot.version_of(id) != document.version()) {
            *self.changed.lock().entry(id).or_default() += 1;
            self.news.notify_one();
        }
    }

    /// Changes may have been missed: everything is read anew.
    pub(crate) fn missed(&self) {
        self.missed.fetch_add(1, Ordering::AcqRel);
        self.snapshot.store(None);
        self.news.notify_one();
    }

    /// All recipes as they were, and which changed since then. Nothing until all are known, and where too
    /// many changed.
    pub(super) fn at_hand(&self) -> Option<(Arc<Snapshot>, BTreeSet<Uuid>)> {
        // In this order: one that is no longer said to have changed is in the snapshot.
        let changed: BTreeSet<Uuid> = {
            let changed = self.changed.lock();
            if changed.len() > MOST_CHANGED {
                return None;
            }
            changed.keys().copied().collect()
        };
        Some((self.snapshot.load_full()?, changed))
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed) as u64
    }

    /// Follows what changes, until an error.
    pub(crate) async fn follow(&self, state: &Recipes) -> StoreResult<()> {
        loop {
            if !self.follow_once(state).await? {
                self.news.notified().await;
            }
        }
    }

    /// Reads every recipe, or those that changed. Whether there was anything to do.
    pub(crate) async fn follow_once(&self, state: &Recipes) -> StoreResult<bool> {
        if self.is_off.load(Ordering::Acquire) {
            return Ok(false);
        }
        // Before the snapshot: one that was given up meanwhile does not come back.
        let missed = self.missed.load(Ordering::Acquire);
        match self.snapshot.load_full() {
            None => self.fill(state, missed).await.map(|()| true),
            Some(snapshot) => self.catch_up(state, snapshot, missed).await,
        }
    }

    async fn fill(&self, state: &Recipes, missed: u64) -> StoreResult<()> {
        let began = Instant::now();
        let mut snapshot = Arc::new(Snapshot::default());
        for bucket in id_buckets() {
            let mut from: Option<String> = None;
            loop {
                let slice = Slice { from: from.take(), limit: PART, ..Slice::all() };
                let rows = state.store.slice(&state.tables.recipes, &bucket, &slice).await?;
                // No key goes on with this character.
                let last = rows.last().filter(|_| rows.len() == PART);
                from = last.map(|row| format!("{}\u{1}", row.clustering));
                if !rows.is_empty() {
                    snapshot = self.made(rows, snapshot, Vec::new()).await?;
                }
                if from.is_none() {
                    break;
                }
            }
            if !self.fits(&snapshot) || self.missed.load(Ordering::Acquire) != missed {
                return Ok(());
            }
        }
        tracing::info!(
            recipes = snapshot.len(),
            bytes = snapshot.weight(),
            took = ?began.elapsed(),
            "recipes are indexed"
        );
        self.publish(snapshot, missed);
        Ok(())
    }

    async fn catch_up(
        &self,
        state: &Recipes,
        snapshot: Arc<Snapshot>,
        missed: u64,
    ) -> StoreResult<bool> {
        let batch: Vec<(Uuid, u64)> = {
            let changed = self.changed.lock();
            changed.iter().take(TOGETHER).map(|(id, times)| (*id, *times)).collect()
        };
        if batch.is_empty() {
            return Ok(false);
        }
        // From the table: a row that is kept elsewhere may be of before the change.
        let ids: Vec<String> = batch.iter().map(|(id, _)| id.to_string()).collect();
        let row =
            async |id: String| state.store.get(&state.tables.recipes, id_bucket(&id), &id).await;
        let rows: Vec<Option<Row>> =
            stream::iter(ids).map(row).buffer_unordered(AHEAD).try_collect().await?;
        let gone = batch.iter().map(|(id, _)| *id).collect();
        let snapshot = self.made(rows.into_iter().flatten().collect(), snapshot, gone).await?;
        if !self.fits(&snapshot) || !self.publish(snapshot, missed) {
            return Ok(true);
        }
        let mut changed = self.changed.lock();
        for (id, times) in batch {
            if changed.get(&id) == Some(&times) {
                changed.remove(&id);
            }
        }
        Ok(true)
    }

    /// A snapshot with what rows say.
    async fn made(
        &self,
        rows: Vec<Row>,
        before: Arc<Snapshot>,
        gone: Vec<Uuid>,
    ) -> StoreResult<Arc<Snapshot>> {
        let make = move || {
            let items = rows.into_iter().filter_map(|row| {
                let id = row.clustering.parse().ok()?;
                let document = Document::parse(row.body);
                if document.deleted.is_some() {
                    return None;
                }
                let known = document.known()?;
                Some(Item::of(id, known.version, &known.recipe))
            });
            Arc::new(before.with(items.collect(), &gone))
        };
        // What nobody waits for stands behind those who answer.
        self.background.spawn_blocking(make).await.map_err(|error| {
            let what = "indexing of recipes".to_owned();
            StoreError::Unavailable { what, source: error.into() }
        })
    }

    fn fits(&self, snapshot: &Snapshot) -> bool {
        let weight = snapshot.weight();
        if weight <= self.limit_bytes {
            self.used_bytes.store(weight, Ordering::Relaxed);
            return true;
        }
        self.is_off.store(true, Ordering::Release);
        self.snapshot.store(None);
        self.changed.lock().clear();
        self.used_bytes.store(0, Ordering::Relaxed);
        tracing::warn!(
            limit_bytes = self.limit_bytes,
            "the index of recipes exceeds http.recipe_index_bytes and is dropped; lists of recipes are read \
             from the tables, which takes longer"
        );
        false
    }

    /// Unless changes were missed since they were counted.
    fn publish(&self, snapshot: Arc<Snapshot>, missed: u64) -> bool {
        self.snapshot.store(Some(snapshot));
        let is_whole = self.missed.load(Ordering::Acquire) == missed;
        if !is_whole {
            self.snapshot.store(None);
        }
        is_whole
    }
}
