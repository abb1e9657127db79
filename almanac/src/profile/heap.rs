//! Who takes memory: of the bytes that are allocated while somebody wants to know, one in so many is
//! followed, with the stack that asked for it, until it is given back.
//!
//! While nobody asks, an allocation costs the look whether somebody does.
#![expect(unsafe_code, reason = "an allocator is; each block says why it is sound")]

use super::stacks::{Stacks, Value};
use mimalloc::MiMalloc;
use std::{
    alloc::{GlobalAlloc, Layout},
    cell::Cell,
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering},
    },
    time::SystemTime,
};

/// Bytes between two that are followed, on average: as in Go and in jemalloc.
const PERIOD: f64 = 512.0 * 1024.0;
/// Frames of a stack, the innermost.
const DEPTH: usize = 96;
/// Names of what stands above whoever allocates.
const OURS: [&str; 3] = ["backtrace::", "profile::heap::", "__rust"];
/// Different stacks; what comes from others is counted under none.
const MOST_STACKS: usize = 20_000;

/// Half of a search's own time went into the system's allocator, most of it into giving memory back
/// between requests: so mimalloc does the work.
pub(crate) struct Allocator;

static SAMPLING: AtomicBool = AtomicBool::new(false);
static SAMPLES: Mutex<Option<Samples>> = Mutex::new(None);
/// How many of the allocations that are followed have addresses of this kind. Whoever gives memory back
/// looks here first.
static FOLLOWED: [AtomicU16; KINDS] = [const { AtomicU16::new(0) }; KINDS];
const KINDS: usize = 1 << 14;
static SEED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Bytes that this thread allocates until the next that is followed; 0 before it was drawn.
    static LEFT: Cell<i64> = const { Cell::new(0) };
    /// What is allocated and given back for taking notes is none of the program's.
    static IS_NOTING: Cell<bool> = const { Cell::new(false) };
}

#[derive(Default)]
struct Samples {
    stacks: HashMap<Vec<usize>, usize>,
    totals: Vec<Totals>,
    /// By address: the stack, and what it stands for.
    live: HashMap<usize, (usize, Weight)>,
}

/// What one that is followed stands for: of allocations of its size so many are made for one that is met.
#[derive(Clone, Copy, Debug, Default)]
struct Weight {
    count: f64,
    bytes: f64,
}

impl Weight {
    fn of(bytes: usize) -> Self {
        let bytes = bytes.max(1) as f64;
        let count = 1.0 / (1.0 - (-bytes / PERIOD).exp());
        Self { count, bytes: bytes * count }
    }

    fn add(&mut self, other: Self, sign: f64) {
        self.count += sign * other.count;
        self.bytes += sign * other.bytes;
    }
}

#[derive(Default)]
struct Totals {
    allocated: Weight,
    /// Of it, what was not given back.
    in_use: Weight,
}

// SAFETY: all memory is mimalloc's, asked for and given back as the caller says; what is noted of it here
// changes neither addresses nor layouts, and nothing here unwinds.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        let at = unsafe { MiMalloc.alloc(layout) };
        if SAMPLING.load(Ordering::Relaxed) {
            note(at, layout.size());
        }
        at
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        let at = unsafe { MiMalloc.alloc_zeroed(layout) };
        if SAMPLING.load(Ordering::Relaxed) {
            note(at, layout.size());
        }
        at
    }

    #[inline]
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if SAMPLING.load(Ordering::Relaxed) {
            forget(at);
        }
        // SAFETY: as the caller promises.
        unsafe { MiMalloc.dealloc(at, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Before: once it is given back, its address may be somebody else's.
        if SAMPLING.load(Ordering::Relaxed) {
            forget(at);
        }
        // SAFETY: as the caller promises.
        let now = unsafe { MiMalloc.realloc(at, layout, size) };
        if SAMPLING.load(Ordering::Relaxed) {
            note(now, size);
        }
        now
    }
}

fn kind(at: usize) -> &'static AtomicU16 {
    // Of the product's upper bits: addresses are multiples of something.
    let mixed = (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    &FOLLOWED[(mixed >> 50) as usize % KINDS]
}

/// A poisoned lock means that noting panicked, which it cannot; no allocation fails for it.
fn samples() -> MutexGuard<'static, Option<Samples>> {
    SAMPLES.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cold]
fn note(at: *mut u8, size: usize) {
    if at.is_null() || IS_NOTING.get() {
        return;
    }
    let left = match LEFT.get() {
        0 => drawn(),
        left => left,
    };
    let left = left - i64::try_from(size).unwrap_or(i64::MAX);
    if left > 0 {
        LEFT.set(left);
        return;
    }
    LEFT.set(drawn());
    IS_NOTING.set(true);
    follow(at as usize, size);
    IS_NOTING.set(false);
}

/// Bytes until the next: as far apart as what comes by chance, so that no rhythm of the program is missed.
fn drawn() -> i64 {
    // SplitMix64: the program's own source of chance would allocate.
    let mut bits = SEED.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let share = ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64;
    // Not 0, which has no logarithm.
    ((1.0 - share).ln() * -PERIOD) as i64 + 1
}

#[inline(never)]
fn follow(at: usize, size: usize) {
    let mut frames = [0_usize; DEPTH];
    let mut depth = 0;
    // SAFETY: what this call leaves to its caller is that no two threads unwind by Windows' dbghelp.
    unsafe {
        backtrace::trace_unsynchronized(|frame| {
            frames[depth] = frame.ip() as usize;
            depth += 1;
            depth < DEPTH
        });
    }
    let mut guard = samples();
    let Some(samples) = guard.as_mut() else { return };
    let mut frames = &frames[..depth];
    if samples.stacks.len() >= MOST_STACKS && !samples.stacks.contains_key(frames) {
        frames = &[];
    }
    let stack = match samples.stacks.get(frames) {
        Some(stack) => *stack,
        None => {
            samples.stacks.insert(frames.to_vec(), samples.totals.len());
            samples.totals.push(Totals::default());
            samples.totals.len() - 1
        }
    };
    let weight = Weight::of(size);
    samples.totals[stack].allocated.add(weight, 1.0);
    samples.totals[stack].in_use.add(weight, 1.0);
    samples.live.insert(at, (stack, weight));
    kind(at).fetch_add(1, Ordering::Relaxed);
}

#[cold]
fn forget(at: *mut u8) {
    let at = at as usize;
    if IS_NOTING.get() || kind(at).load(Ordering::Relaxed) == 0 {
        return;
    }
    IS_NOTING.set(true);
    if let Some(samples) = samples().as_mut()
        && let Some((stack, weight)) = samples.live.remove(&at)
    {
        samples.totals[stack].in_use.add(weight, -1.0);
        kind(at).fetch_sub(1, Ordering::Relaxed);
    }
    IS_NOTING.set(false);
}

/// There is one at a time.
pub(super) struct Sampling {
    since: SystemTime,
}

impl Sampling {
    pub(super) fn start() -> Self {
        let before = samples().replace(Samples::default());
        drop(before);
        SAMPLING.store(true, Ordering::Release);
        Self { since: SystemTime::now() }
    }

    fn stop() -> Option<Samples> {
        SAMPLING.store(false, Ordering::Release);
        let ended = samples().take();
        FOLLOWED.iter().for_each(|kind| kind.store(0, Ordering::Relaxed));
        ended
    }

    pub(super) fn end(self) -> Stacks {
        let ended = Self::stop().unwrap_or_default();
        let mut stacks = Stacks::new(
            self.since,
            &[
                Value { of: "alloc_objects", unit: "count" },
                Value { of: "alloc_space", unit: "bytes" },
                Value { of: "inuse_objects", unit: "count" },
                Value { of: "inuse_space", unit: "bytes" },
            ],
            PERIOD as i64,
        );
        for (frames, place) in ended.stacks {
            let Totals { allocated, in_use } = &ended.totals[place];
            let values = [allocated.count, allocated.bytes, in_use.count, in_use.bytes];
            let values = values.map(|value| value.round() as i64);
            stacks.add(&frames, None, &values, |names| {
                names.iter().take_while(|name| OURS.iter().any(|ours| name.contains(ours))).count()
            });
        }
        stacks
    }
}

impl Drop for Sampling {
    fn drop(&mut self) {
        Self::stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;

    #[inline(never)]
    fn keeps(pieces: usize) -> Vec<Vec<u8>> {
        black_box((0..pieces).map(|_| vec![1; 64 << 10]).collect())
    }

    #[inline(never)]
    fn wastes(pieces: usize) {
        for _ in 0..pieces {
            drop(black_box(Vec::<u8>::with_capacity(64 << 10)));
        }
    }

    /// 128 MiB each, of which 256 are met: half as many more or less are eight deviations.
    #[test]
    fn what_is_kept_and_what_is_wasted_is_told() {
        let sampling = Sampling::start();
        let kept = keeps(2_048);
        wastes(2_048);
        let stacks = sampling.end();
        let total = |function: &str, value: usize| stacks.total(function, value) >> 20;
        let expected = 64..=192;
        assert!(expected.contains(&total("keeps", 1)), "{}", total("keeps", 1));
        assert!(expected.contains(&total("keeps", 3)), "{}", total("keeps", 3));
        assert!(expected.contains(&total("wastes", 1)), "{}", total("wastes", 1));
        assert_eq!(total("wastes", 3), 0);
        drop(kept);
        assert!(samples().is_none(), "nothing is followed any more");
    }
}
