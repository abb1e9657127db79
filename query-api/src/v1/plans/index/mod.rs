//! Questions about plans, answered from memory at the cost of the plans that their most selective
//! filter selects.
//!
//! The index is made of the days that `plans_by_start` is partitioned by, as the change feed keeps them
//! fresh. Plans of several days are a segment, which is never changed. A day that changed goes whole
//! into a new segment; the segments that had it pass over it. Segments are merged so that each is a few
//! times as large as the next: there are few, and a plan is merged few times. Requests take the newest
//! snapshot and wait for nobody.

mod asked;
mod day;
mod order;
mod packed;
mod scan;
mod segment;
#[cfg(test)]
mod tests;

pub(super) use asked::{Asked, Key};
pub(crate) use day::Day;

use arc_swap::{ArcSwapOption, Guard};
use asked::Sorting;
use packed::Forms;
use parking_lot::Mutex;
use scan::Scan;
use segment::Segment;
use std::{
    collections::BTreeMap,
    mem::{replace, take},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};
use tokio::runtime::Handle;

/// A segment has more plans than so many times those of all later ones.
const RATIO: usize = 3;
/// Plans that are merged while the changed day waits to be seen; more are merged meanwhile.
const AT_ONCE: usize = if cfg!(test) { 20 } else { 20_000 };

pub(crate) struct PlanIndex {
    limit_bytes: usize,
    /// What takes long runs here, behind the threads that answer requests.
    background: Handle,
    forms: Forms,
    state: Mutex<State>,
    snapshot: ArcSwapOption<Snapshot>,
    phase: AtomicUsize,
    used_bytes: AtomicUsize,
    began: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Some days are not there yet, or not in a segment.
    Filling,
    Ready,
    /// It does not fit into the memory that it may have.
    Off,
}

const PHASES: [Phase; 3] = [Phase::Filling, Phase::Ready, Phase::Off];

#[derive(Default)]
struct State {
    /// Every day as it is known.
    days: BTreeMap<i32, Arc<Day>>,
    segments: Vec<Arc<Segment>>,
    /// How many of the first segments are being merged in the background.
    merging: usize,
}

/// All plans at one moment.
#[derive(Default)]
pub(crate) struct Snapshot {
    segments: Vec<Live>,
}

struct Live {
    segment: Arc<Segment>,
    /// Which of its days are newer elsewhere; nothing where none is.
    gone: Vec<bool>,
}

impl State {
    fn lives(&self) -> Vec<Live> {
        let live = |segment: &Arc<Segment>| {
            let is_gone = |day: &Arc<Day>| !self.is_newest(day);
            let gone: Vec<bool> = segment.days.iter().map(is_gone).collect();
            let gone = if gone.contains(&true) { gone } else { Vec::new() };
            Live { segment: segment.clone(), gone }
        };
        self.segments.iter().map(live).collect()
    }

    fn is_newest(&self, day: &Arc<Day>) -> bool {
        self.days.get(&day.number).is_some_and(|newest| Arc::ptr_eq(newest, day))
    }

    /// The days of some segments that are nowhere newer, in order.
    fn days_of(&self, segments: &[Arc<Segment>]) -> Vec<Arc<Day>> {
        let days = segments.iter().flat_map(|segment| &segment.days);
        let mut days: Vec<Arc<Day>> = days.filter(|day| self.is_newest(day)).cloned().collect();
        days.sort_unstable_by_key(|day| day.number);
        days
    }

    /// Where the segments begin that are to be merged: each has too few plans for those behind it.
    fn to_merge(&self) -> usize {
        let (mut from, mut later) = (self.segments.len(), 0);
        for (place, segment) in self.segments.iter().enumerate().skip(self.merging).rev() {
            if place + 1 < self.segments.len() && segment.len() <= RATIO * later {
                from = place;
            }
            later += segment.len();
        }
        from
    }

    fn weight(&self, lives: &[Live]) -> usize {
        let days: usize = self.days.values().map(|day| day.weight() + 48).sum();
        let segments = lives.iter().map(|live| {
            let gone = live.segment.days.iter().zip(&live.gone).filter(|(_, gone)| **gone);
            live.segment.weight() + gone.map(|(day, _)| day.weight()).sum::<usize>()
        });
        days + segments.sum::<usize>()
    }
}

impl PlanIndex {
    pub(crate) fn new(limit_bytes: usize, background: Handle) -> Arc<Self> {
        let (forms, state, snapshot, phase, used_bytes) = Default::default();
        let began = Instant::now();
        Arc::new(Self { limit_bytes, background, forms, state, snapshot, phase, used_bytes, began })
    }

    fn phase(&self) -> Phase {
        PHASES[self.phase.load(Ordering::Acquire)]
    }

    fn enter(&self, phase: Phase) {
        self.phase.store(phase as usize, Ordering::Release);
    }

    /// Whether it is of no use, for good.
    pub(crate) fn is_off(&self) -> bool {
        self.phase() == Phase::Off
    }

    /// Whether every day is in it.
    pub(crate) fn is_ready(&self) -> bool {
        self.phase() == Phase::Ready
    }

    pub(crate) fn background(&self) -> &Handle {
        &self.background
    }

    /// All plans, once every day is known.
    pub(crate) fn snapshot(&self) -> Guard<Option<Arc<Snapshot>>> {
        self.snapshot.load()
    }

    pub(crate) fn used_bytes(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// A day as the index has it. Takes a while.
    pub(crate) fn day(&self, number: i32, rows: &[almanac_read_store::Row]) -> Day {
        Day::of(number, rows, &self.forms)
    }

    /// Some days are, or are now, like this. Takes a while.
    pub(crate) fn put(self: &Arc<Self>, days: Vec<Day>) {
        let mut days: Vec<Arc<Day>> = days.into_iter().map(Arc::new).collect();
        let mut state = self.state.lock();
        if self.is_off() {
            return;
        }
        state.days.extend(days.iter().map(|day| (day.number, day.clone())));
        if !self.is_ready() {
            let weight = state.days.values().map(|day| day.weight()).sum();
            self.used_bytes.store(weight, Ordering::Relaxed);
            if weight > self.limit_bytes {
                self.give_up(&mut state);
            }
            return;
        }
        days.sort_unstable_by_key(|day| day.number);
        state.segments.push(Arc::new(Segment::of(days)));
        let from = state.to_merge();
        let plans: usize = state.segments[from..].iter().map(|segment| segment.len()).sum();
        if from < state.segments.len() && plans <= AT_ONCE {
            let merged = Segment::of(state.days_of(&state.segments[from..]));
            state.segments.truncate(from);
            state.segments.push(Arc::new(merged));
        } else if from < state.segments.len() && state.merging == 0 {
            self.merge(&mut state, from);
        }
        self.publish(&mut state);
    }

    /// Every day that there is was put: makes the first segment of all of them.
    pub(crate) fn complete(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if self.phase() == Phase::Filling && state.merging == 0 && state.segments.is_empty() {
            state.merging = 1;
            let days: Vec<Arc<Day>> = state.days.values().cloned().collect();
            let index = self.clone();
            self.background.spawn_blocking(move || {
                let all = Arc::new(Segment::of(days));
                let mut state = index.state.lock();
                state.merging = 0;
                if index.is_off() {
                    return;
                }
                let plans = all.len();
                // Those that were put meanwhile.
                let has = |day: &Arc<Day>| {
                    let found = all.days.binary_search_by_key(&day.number, |old| old.number);
                    found.is_ok_and(|place| Arc::ptr_eq(&all.days[place], day))
                };
                let missing: Vec<_> =
                    state.days.values().filter(|day| !has(day)).cloned().collect();
                state.segments.push(all);
                state.segments.push(Arc::new(Segment::of(missing)));
                // Who finds it ready finds its snapshot.
                index.publish(&mut state);
                if index.is_off() {
                    return;
                }
                index.enter(Phase::Ready);
                let took = index.began.elapsed();
                tracing::info!(plans, bytes = index.used_bytes(), ?took, "plans are indexed");
            });
        }
    }

    /// Merges all segments from one on, in the background.
    fn merge(self: &Arc<Self>, state: &mut State, from: usize) {
        state.merging = state.segments.len();
        let days = state.days_of(&state.segments[from..]);
        let index = self.clone();
        self.background.spawn_blocking(move || {
            let merged = Arc::new(Segment::of(days));
            let mut state = index.state.lock();
            let until = replace(&mut state.merging, 0);
            if !index.is_off() {
                state.segments.splice(from..until, [merged]);
                index.publish(&mut state);
            }
        });
    }

    fn publish(&self, state: &mut State) {
        let segments = state.lives();
        let weight = state.weight(&segments) + self.forms.weight();
        if weight > self.limit_bytes {
            return self.give_up(state);
        }
        self.used_bytes.store(weight, Ordering::Relaxed);
        self.snapshot.store(Some(Arc::new(Snapshot { segments })));
    }

    fn give_up(&self, state: &mut State) {
        self.snapshot.store(None);
        let _freed = take(state);
        self.used_bytes.store(0, Ordering::Relaxed);
        self.enter(Phase::Off);
        tracing::warn!(
            limit_bytes = self.limit_bytes,
            "the index of plans exceeds http.plan_index_bytes and is dropped; lists of plans are read \
             from the tables, which takes longer with every plan"
        );
    }
}

/// Plans that a question wants, found step by step.
pub(super) struct Search<'s> {
    scans: Vec<Scan<'s>>,
    lives: &'s [Live],
    sorting: Sorting,
    most: usize,
    at: usize,
}

/// A plan of a snapshot.
#[derive(Clone, Copy)]
pub(super) struct Found<'s>(day::Plan<'s>);

impl Snapshot {
    /// Looks for the first `most` plans behind a key.
    pub(super) fn search<'s>(
        &'s self,
        asked: &'s Asked<'s>,
        after: Option<&Key<'_>>,
        most: usize,
    ) -> Search<'s> {
        let scan = |live: &'s Live| Scan::new(&live.segment, &live.gone, asked, after, most);
        let scans = self.segments.iter().map(scan).collect();
        Search { scans, lives: &self.segments, sorting: asked.sorting, most, at: 0 }
    }
}

impl<'s> Search<'s> {
    /// Looks at about so many plans. Whether all is found.
    pub(super) fn look(&mut self, budget: usize) -> bool {
        while let Some(scan) = self.scans.get_mut(self.at) {
            if !scan.look(budget) {
                return false;
            }
            self.at += 1;
        }
        true
    }

    /// What was found, in the order asked for.
    pub(super) fn found(&self) -> Vec<Found<'s>> {
        let scans = self.scans.iter().zip(self.lives);
        let mut found: Vec<Found<'s>> = scans
            .flat_map(|(scan, live)| scan.found().map(|row| Found(live.segment.plan(row))))
            .collect();
        let compare =
            |one: &Found<'_>, other: &Found<'_>| self.sorting.compare(&one.key(), &other.key());
        // Each segment has found as many as are wanted in all: most are not worth sorting.
        if found.len() > self.most {
            found.select_nth_unstable_by(self.most, compare);
            found.truncate(self.most);
        }
        if self.scans.len() > 1 {
            found.sort_unstable_by(compare);
        }
        found
    }
}

impl<'s> Found<'s> {
    pub(super) fn key(&self) -> Key<'s> {
        Key::of(self.0)
    }

    pub(super) fn provider(&self) -> &'s str {
        self.0.provider()
    }

    pub(super) fn is_listed(&self) -> bool {
        self.0.is_listed()
    }

    /// Appends its JSON; where that names when it was last seen and `last_seen` is given, with this
    /// time in its place. Whether it does.
    pub(super) fn put(&self, out: &mut Vec<u8>, last_seen: Option<&str>) -> bool {
        self.0.put(out, last_seen)
    }
}
