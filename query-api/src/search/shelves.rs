//! Which days there are, and the blocks of those in memory. Never changed once made: a change makes
//! new shelves that share what stayed the same.

use super::{deflated::Deflated, partition::Partition};
use std::{
    ops::Range,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// Neighbouring days share a block up to this size: large enough that a window of many short days
/// is few runs, small enough that a day that changed is cheap to put in place.
const BLOCK_BYTES: usize = 256 << 10;

#[derive(Default)]
pub(crate) struct Block {
    pub(crate) rows: Partition,
    last_used: AtomicU64,
    /// The rows compressed, once somebody asked for them so.
    deflated: OnceLock<Deflated>,
}

impl Block {
    pub(super) fn touch(&self, now: u64) {
        // A store would take the line from the other cores at every request.
        if self.last_used.load(Ordering::Relaxed) != now {
            self.last_used.store(now, Ordering::Relaxed);
        }
    }

    pub(super) fn deflated(&self) -> Option<&Deflated> {
        self.deflated.get()
    }

    /// Takes a while.
    pub(super) fn deflate(&self) {
        if self.deflated.get().is_none()
            && let Some(deflated) = self.rows.deflated()
        {
            let _is_first = self.deflated.set(deflated);
        }
    }

    fn weight(&self) -> usize {
        self.rows.weight() + self.deflated().map_or(0, Deflated::weight)
    }
}

#[derive(Default)]
pub(crate) struct Shelves {
    /// Every day that has plans, as days since 1970-01-01, ascending.
    known: Vec<i32>,
    /// Ascending. A block holds all known days between its first and its last.
    blocks: Vec<Arc<Block>>,
}

/// What stands at a place of the shelves.
pub(crate) enum Shelf<'s> {
    Loaded(&'s Arc<Block>),
    Missing(i32),
}

/// Some days of a block, on the way to new shelves.
struct Piece<'s> {
    rows: &'s Partition,
    days: Range<usize>,
    /// The block that it is the whole of.
    block: Option<&'s Arc<Block>>,
}

impl Piece<'_> {
    fn first_day(&self) -> i32 {
        self.rows.days().nth(self.days.start).unwrap_or(i32::MAX)
    }

    fn last_day(&self) -> i32 {
        self.rows.days().nth(self.days.end - 1).unwrap_or(i32::MIN)
    }
}

impl Shelves {
    pub(crate) fn knows(&self, day: i32) -> bool {
        self.known.binary_search(&day).is_ok()
    }

    /// The known days from `low` to `high`.
    pub(crate) fn days(&self, low: i32, high: i32) -> &[i32] {
        let first = self.known.partition_point(|day| *day < low);
        let last = self.known.partition_point(|day| *day <= high);
        &self.known[first..last.max(first)]
    }

    /// What stands at the first known day that is not before `from`.
    pub(crate) fn at(&self, from: i32) -> Option<Shelf<'_>> {
        let day = *self.known.get(self.known.partition_point(|day| *day < from))?;
        Some(self.block_of(day).map_or(Shelf::Missing(day), Shelf::Loaded))
    }

    pub(crate) fn block_of(&self, day: i32) -> Option<&Arc<Block>> {
        let block = self.blocks.get(self.blocks.partition_point(|b| b.rows.last_day() < day))?;
        (block.rows.first_day() <= day && self.knows(day)).then_some(block)
    }

    pub(super) fn missing(&self) -> Vec<i32> {
        self.known.iter().copied().filter(|day| self.block_of(*day).is_none()).collect()
    }

    pub(super) fn loaded(&self) -> impl Iterator<Item = i32> {
        self.blocks.iter().flat_map(|block| block.rows.days())
    }

    pub(super) fn weight(&self) -> usize {
        self.known.len() * 4 + self.blocks.iter().map(|block| block.weight()).sum::<usize>()
    }

    /// With more days known. A block that one falls into is cut there.
    pub(super) fn with_days(&self, mut days: Vec<i32>) -> Self {
        days.retain(|day| !self.knows(*day));
        let mut known = self.known.clone();
        known.extend(&days);
        known.sort_unstable();
        known.dedup();
        let pieces = self.blocks.iter().flat_map(|block| {
            let mut starts: Vec<usize> = days
                .iter()
                .map(|new| block.rows.days().position(|day| day > *new).unwrap_or(0))
                .chain([0, block.rows.days().len()])
                .collect();
            starts.sort_unstable();
            starts.dedup();
            let pieces: Vec<Piece<'_>> = starts
                .windows(2)
                .map(|cut| Piece {
                    rows: &block.rows,
                    days: cut[0]..cut[1],
                    block: (starts.len() == 2).then_some(block),
                })
                .collect();
            pieces
        });
        let pieces = pieces.collect();
        Self { blocks: arrange(pieces, &known, 0), known }
    }

    /// With the rows of some days replaced; `now` is when they are used first.
    pub(super) fn with_rows(&self, partitions: Vec<Partition>, now: u64) -> Self {
        let mut known = self.known.clone();
        known.extend(partitions.iter().flat_map(Partition::days));
        known.sort_unstable();
        known.dedup();
        let is_new = |day: i32| partitions.iter().any(|new| new.first_day() == day);
        let mut pieces: Vec<Piece<'_>> = Vec::with_capacity(self.blocks.len() + partitions.len());
        for block in &self.blocks {
            let (first, last) = (block.rows.first_day(), block.rows.last_day());
            let is_touched = partitions.iter().any(|new| (first..=last).contains(&new.first_day()));
            if !is_touched {
                let days = 0..block.rows.days().len();
                pieces.push(Piece { rows: &block.rows, days, block: Some(block) });
                continue;
            }
            let mut start = None;
            let mut previous = first;
            for (place, day) in block.rows.days().enumerate() {
                let is_cut =
                    partitions.iter().any(|new| (previous..=day).contains(&new.first_day()));
                if let Some(from) = start.filter(|_| is_cut) {
                    pieces.push(Piece { rows: &block.rows, days: from..place, block: None });
                    start = None;
                }
                if start.is_none() && !is_new(day) {
                    start = Some(place);
                }
                previous = day;
            }
            if let Some(from) = start {
                let days = from..block.rows.days().len();
                pieces.push(Piece { rows: &block.rows, days, block: None });
            }
        }
        pieces.extend(partitions.iter().map(|rows| Piece { rows, days: 0..1, block: None }));
        pieces.sort_by_key(Piece::first_day);
        Self { blocks: arrange(pieces, &known, now), known }
    }

    /// Without the blocks that were not used for longest, until the rest weighs no more.
    pub(super) fn within(&self, limit_bytes: usize) -> Self {
        let mut by_use: Vec<(u64, i32, usize)> = self
            .blocks
            .iter()
            .map(|block| {
                let last_used = block.last_used.load(Ordering::Relaxed);
                (last_used, block.rows.first_day(), block.weight())
            })
            .collect();
        by_use.sort_unstable();
        let mut weight = self.weight();
        let mut dropped = std::collections::BTreeSet::new();
        for (_, first_day, own) in by_use {
            if weight <= limit_bytes {
                break;
            }
            weight -= own;
            dropped.insert(first_day);
        }
        let kept = self.blocks.iter().filter(|block| !dropped.contains(&block.rows.first_day()));
        Self { known: self.known.clone(), blocks: kept.cloned().collect() }
    }
}

/// Blocks from pieces in order: neighbours are joined up to the size of a block, and a whole block
/// that none of them touches stays as it is.
fn arrange(pieces: Vec<Piece<'_>>, known: &[i32], now: u64) -> Vec<Arc<Block>> {
    let mut blocks = Vec::with_capacity(pieces.len());
    let mut group: Vec<Piece<'_>> = Vec::new();
    let mut size = 0;
    let finish = |group: &mut Vec<Piece<'_>>, blocks: &mut Vec<Arc<Block>>| {
        let pieces = std::mem::take(group);
        if let [Piece { block: Some(whole), .. }] = pieces.as_slice() {
            blocks.push(Arc::clone(whole));
        } else if !pieces.is_empty() {
            let parts: Vec<(&Partition, Range<usize>)> =
                pieces.iter().map(|piece| (piece.rows, piece.days.clone())).collect();
            let rows = Partition::join(&parts);
            blocks.push(Arc::new(Block {
                rows,
                last_used: AtomicU64::new(now),
                ..Block::default()
            }));
        }
    };
    for piece in pieces {
        let own = piece.rows.size(&piece.days);
        let joins = group.last().is_some_and(|last| {
            let is_new = piece.block.is_none() || group.iter().any(|other| other.block.is_none());
            let after = known.partition_point(|day| *day <= last.last_day());
            let follows = known.get(after) == Some(&piece.first_day());
            is_new && follows && size + own <= BLOCK_BYTES
        });
        if !joins {
            finish(&mut group, &mut blocks);
            size = 0;
        }
        size += own;
        group.push(piece);
    }
    finish(&mut group, &mut blocks);
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;
    use almanac_read_store::Row;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// A day whose only row says which version it is.
    fn day(number: i32, version: u32, padding: usize) -> Partition {
        let date = almanac_tables::plans::StartKey::day_of(i64::from(number) * 86_400);
        let text = format!("{number}.{version}.{}", "x".repeat(padding));
        Partition::from_rows(
            number,
            &[Row {
                clustering: format!("{date}T01:00:00Z/a/-/0/0"),
                timestamp: 1,
                body: format!("{{\"summary\":{{\"id\":\"{text}\"}},\"plan\":{{}}}}").into(),
            }],
        )
    }

    fn contents(shelves: &Shelves) -> BTreeMap<i32, u32> {
        let mut found = BTreeMap::new();
        let mut next = i32::MIN;
        while let Some(shelf) = shelves.at(next) {
            match shelf {
                Shelf::Missing(day) => next = day + 1,
                Shelf::Loaded(block) => {
                    block.rows.matching(&Default::default(), i32::MIN..=i32::MAX, |run| {
                        for row in std::str::from_utf8(&run.bytes).unwrap().split(",{").skip(1) {
                            let text = row.split('"').nth(3).unwrap();
                            let mut parts = text.split('.').map(|part| part.parse().unwrap_or(0));
                            let number = parts.next().unwrap() as i32;
                            assert!(found.insert(number, parts.next().unwrap()).is_none());
                        }
                    });
                    next = block.rows.last_day() + 1;
                }
            }
        }
        found
    }

    proptest! {
        /// Whatever is loaded, replaced, made known and dropped in whatever order: each loaded
        /// day is there once, in its last version, and each known day is loaded or missing.
        #[test]
        fn shelves_hold_each_day_once(
            steps in prop::collection::vec((0_u8..4, prop::collection::btree_set(0_i32..40, 1..5), prop::bool::ANY), 1..60)
        ) {
            let (mut shelves, mut known) = (Shelves::default(), std::collections::BTreeSet::new());
            let mut model: BTreeMap<i32, u32> = BTreeMap::new();
            for (version, (kind, days, large)) in steps.into_iter().enumerate() {
                let version = version as u32;
                match kind {
                    0 => {
                        shelves = shelves.with_days(days.iter().copied().collect());
                        known.extend(days);
                    }
                    1 => {
                        let before = shelves.weight();
                        shelves = shelves.within(before / 2);
                        prop_assert!(shelves.weight() <= before / 2 || shelves.blocks.is_empty());
                        let left: std::collections::BTreeSet<i32> = shelves.loaded().collect();
                        model.retain(|day, _| left.contains(day));
                    }
                    _ => {
                        let padding = if large { BLOCK_BYTES / 2 } else { 10 };
                        let rows = days.iter().map(|number| day(*number, version, padding));
                        shelves = shelves.with_rows(rows.collect(), u64::from(version));
                        known.extend(days.iter().copied());
                        model.extend(days.iter().map(|number| (*number, version)));
                    }
                }
                prop_assert_eq!(&contents(&shelves), &model);
                prop_assert_eq!(&shelves.known, &known.iter().copied().collect::<Vec<_>>());
                for number in &known {
                    prop_assert_eq!(shelves.block_of(*number).is_some(), model.contains_key(number));
                }
                prop_assert_eq!(shelves.missing().len() + model.len(), known.len());
            }
        }
    }
}
