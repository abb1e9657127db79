//! Finding the first plans of a segment that a question wants, in the order it asks for.
//!
//! There are three ways. Where fields are to have some terms, the lists of those terms are joined in the
//! order asked for, until a page is full. Walking the order from where the page begins is shorter where
//! so many plans are wanted that the next ones are near. Taking all plans of some times, or of some
//! prices, and keeping the best, is shorter where these are few. How filters go together is not known: a
//! way that turns out to be longer than another one is left for that, so that a question costs no more
//! than a few times the shortest way.

use super::{
    asked::{Asked, Key, Wanted},
    order::Order,
    segment::Segment,
};
use crate::{
    index::{Intersection, Union},
    v1::filter::{Filter, Sort},
};
use rust_decimal::Decimal;
use std::{collections::BTreeSet, ops::Range};

/// What a walk may look at before another way is taken: plans with neighbouring starts are alike in
/// times and sale, and those by price in prices.
const WALKED: usize = if cfg!(test) { 8 } else { 4_096 };
/// So many places of lists are joined in the time that one plan is looked at.
const JOINED: usize = 8;
/// Filters that many more plans pass than another one are compared, not joined.
const TOO_MANY: usize = 8;
/// Places that are worth to be passed over in all lists.
const WORTH_SKIPPING: usize = 512;

enum Stage<'s> {
    /// Plans in the order asked for, from a place on.
    Walk(usize),
    /// What fields select, in the order asked for.
    Join(Intersection<'s>),
    /// These rows.
    Take(Vec<u32>),
    /// Candidates in another order than the one asked for.
    Range(Other, Range<usize>),
    Done,
}

/// What follows when a way turns out to be long.
enum Otherwise {
    Join,
    Range(Other, Range<usize>),
}

#[derive(Clone, Copy)]
enum Other {
    Start,
    Price,
}

pub(super) struct Scan<'s> {
    segment: &'s Segment,
    wanted: Wanted<'s>,
    asked: &'s Asked<'s>,
    /// By place: days that other segments have.
    gone: &'s [bool],
    order: &'s Order,
    /// The position where the page begins: positions are counted from the beginning of the order asked
    /// for, which may be the end of the one that is kept.
    from: usize,
    /// Places of the order among which the page is.
    places: Range<usize>,
    most: usize,
    best: BTreeSet<usize>,
    stage: Stage<'s>,
    /// What may be looked at before another way is taken.
    left: usize,
    otherwise: Option<Otherwise>,
    /// Of the fields' filters, those that are joined.
    joined: usize,
    /// Places that a page is likely to be found in.
    near: usize,
}

impl<'s> Scan<'s> {
    /// For the first `most` plans behind a key.
    pub(super) fn new(
        segment: &'s Segment,
        gone: &'s [bool],
        asked: &'s Asked<'s>,
        after: Option<&Key<'_>>,
        most: usize,
    ) -> Self {
        let sorting = asked.sorting;
        let order = segment.order(sorting);
        let mut scan = Self {
            segment,
            wanted: Wanted::of(asked, segment),
            asked,
            gone,
            order,
            from: 0,
            places: 0..order.len(),
            most,
            best: BTreeSet::new(),
            stage: Stage::Done,
            left: usize::MAX,
            otherwise: None,
            joined: 0,
            near: 0,
        };
        if scan.wanted.terms.first().is_some_and(|(_, any_of)| any_of.rows == 0) {
            return scan;
        }
        let columns = |order: &Order, place: usize| segment.columns(order.row_at(place as u32));
        let by_start = &segment.by_start;
        let starts_before =
            |start| partition_point(by_start.len(), |place| columns(by_start, place).start < start);
        let starts = starts_before(asked.start_from)..starts_before(asked.start_until);
        let prices = scan.prices();
        if starts.is_empty() || prices.end == 0 {
            return scan;
        }
        if let Some(after) = after {
            let is_passed = |position| {
                sorting.compare(&Key::of(segment.plan(scan.row_at(position))), after).is_le()
            };
            scan.from = partition_point(order.len(), is_passed);
        }
        scan.places = match (sorting.sort, sorting.descending) {
            (Sort::Start, _) => starts.clone(),
            (Sort::Price, false) => 0..prices.end,
            (Sort::Price, true) => 0..order.len(),
        };
        if sorting.is_backwards() {
            scan.places.end = scan.places.end.min(order.len() - scan.from);
        } else {
            scan.places.start = scan.places.start.max(scan.from);
        }
        let range = match sorting.sort {
            Sort::Price => Some((starts.len(), Other::Start, starts)),
            Sort::Start if asked.has_prices() && prices.len() <= starts.len() => {
                Some((prices.len(), Other::Price, 0..prices.end))
            }
            Sort::Start => None,
        };
        match scan.wanted.with_ids() {
            Some(rows) => scan.stage = Stage::Take(rows),
            None => scan.choose(range),
        }
        scan
    }

    /// Which way to begin with, where some plans in another order are candidates, too.
    fn choose(&mut self, range: Option<(usize, Other, Range<usize>)>) {
        let (most, length) = (self.most, self.segment.len());
        let candidates = range.as_ref().map_or(usize::MAX, |(plans, ..)| *plans);
        let range = range.map(|(_, order, range)| (order, range));
        let terms = &self.wanted.terms;
        let Some((_, fewest)) = terms.first() else {
            self.stage = self.walk();
            let Some((order, range)) = range else { return };
            // Whose plans are as many among the first of the order as anywhere is found by a walk of
            // this many.
            let walk = most.saturating_mul(length) / candidates.max(1);
            if candidates <= walk {
                self.stage = Stage::Range(order, range);
            } else {
                self.left = candidates.min(WALKED.max(2 * walk));
                self.otherwise = Some(Otherwise::Range(order, range));
            }
            return;
        };
        let fewest = fewest.rows;
        let are_joined = terms.iter().take_while(|(_, any_of)| any_of.rows / TOO_MANY <= fewest);
        let lists: usize = are_joined.clone().map(|(_, any_of)| any_of.terms).sum();
        let (joined, lists) = match are_joined.count() {
            // Lists that hold next to nothing each are no help.
            several if lists > fewest => (several.min(1), terms[0].1.terms),
            several => (several, lists),
        };
        self.joined = joined;
        let share = |any_of: &crate::index::AnyOf| (any_of.rows as f64 / length as f64).min(1.0);
        let all: f64 = terms.iter().map(|(_, any_of)| share(any_of)).product();
        // How far the page reaches if filters have nothing to do with each other.
        self.near = ((most as f64 / all) as usize).min(self.places.len());
        let list = ((self.near as f64 * share(&terms[0].1)) as usize).min(fewest);
        let is_range_short = candidates <= fewest / JOINED;
        match range {
            Some((order, range)) if is_range_short => self.stage = Stage::Range(order, range),
            _ if self.near <= lists / 2 + list / JOINED => {
                self.stage = self.walk();
                self.left = WALKED.max(4 * self.near);
                self.otherwise = Some(Otherwise::Join);
            }
            range => {
                self.stage = self.join();
                if let Some((order, range)) = range.filter(|_| candidates < fewest) {
                    self.left = candidates;
                    self.otherwise = Some(Otherwise::Range(order, range));
                }
            }
        }
    }

    fn walk(&self) -> Stage<'s> {
        let is_backwards = self.asked.sorting.is_backwards();
        Stage::Walk(if is_backwards { self.places.end } else { self.places.start })
    }

    fn join(&self) -> Stage<'s> {
        let sorting = self.asked.sorting;
        let order = Segment::order_number(sorting);
        let terms = &self.wanted.terms[..self.joined];
        let unions = terms.iter().map(|(field, any_of)| Union::new(field.lists(order, any_of)));
        let places = (self.places.start, self.places.end);
        let (unions, near) = (unions.collect(), self.near + self.near / 2);
        Stage::Join(Intersection::new(unions, places, sorting.is_backwards(), near))
    }

    /// The places by price of plans whose least price is in the range asked for. Before them are those
    /// that may reach into it.
    fn prices(&self) -> Range<usize> {
        let by_price = &self.segment.by_price;
        let count = |is_before: &dyn Fn(Option<Decimal>) -> bool| {
            partition_point(by_price.len(), |place| {
                is_before(self.segment.columns(by_price.row_at(place as u32)).min_price)
            })
        };
        let Filter { min_price, max_price, .. } = self.asked.filter;
        let low = min_price.map_or(0, |low| count(&|price| price.is_some_and(|price| price < low)));
        let end = match max_price {
            Some(high) => count(&|price| price.is_some_and(|price| price <= *high)),
            None if min_price.is_some() => count(&|price| price.is_some()),
            None => by_price.len(),
        };
        low.min(end)..end
    }

    fn position_of(&self, row: u32) -> usize {
        self.position_at(self.order.place_of(row) as usize)
    }

    fn position_at(&self, place: usize) -> usize {
        if self.asked.sorting.is_backwards() { self.order.len() - 1 - place } else { place }
    }

    fn row_at(&self, position: usize) -> u32 {
        self.order.row_at(self.position_at(position) as u32)
    }

    /// Whether it is, of those that have what the first `known` of the fields are to have.
    fn is_wanted(&self, row: u32, known: usize) -> bool {
        !self.gone.get(self.segment.day_of(row)).is_some_and(|gone| *gone)
            && self.wanted.accepts(row, known)
    }

    /// A candidate: kept if it is among the first.
    fn consider(&mut self, row: u32) {
        let position = self.position_of(row);
        let is_full = self.best.len() >= self.most;
        let is_behind = is_full && self.best.last().is_some_and(|last| position >= *last);
        if position < self.from || is_behind || !self.is_wanted(row, 0) {
            return;
        }
        self.best.insert(position);
        if self.best.len() > self.most {
            self.best.pop_last();
        }
    }

    /// The next one in order. Whether the page is full.
    fn meet(&mut self, place: usize, known: usize) -> bool {
        if self.is_wanted(self.order.row_at(place as u32), known) {
            self.best.insert(self.position_at(place));
        }
        self.best.len() >= self.most
    }

    /// Looks at about so many plans. Whether all is found.
    pub(super) fn look(&mut self, mut budget: usize) -> bool {
        let mut stage = std::mem::replace(&mut self.stage, Stage::Done);
        while budget > 0 {
            let mut looked = 1;
            if self.step(&mut stage, &mut looked) {
                return true;
            }
            budget = budget.saturating_sub(looked);
            self.left = self.left.saturating_sub(looked);
            if self.left == 0
                && let Some(otherwise) = self.otherwise.take()
            {
                stage = self.change(&stage, otherwise);
            }
        }
        self.stage = stage;
        false
    }

    /// Another way.
    fn change(&mut self, stage: &Stage<'_>, otherwise: Otherwise) -> Stage<'s> {
        self.left = usize::MAX;
        match otherwise {
            // It goes on in the same order.
            Otherwise::Join => {
                if let Stage::Walk(place) = stage {
                    let is_backwards = self.asked.sorting.is_backwards();
                    let places = &mut self.places;
                    *(if is_backwards { &mut places.end } else { &mut places.start }) = *place;
                }
                self.join()
            }
            Otherwise::Range(order, range) => {
                self.best.clear();
                Stage::Range(order, range)
            }
        }
    }

    /// Looks at the next plan. Whether all is found.
    fn step(&mut self, stage: &mut Stage<'_>, looked: &mut usize) -> bool {
        let may_want = |zone: &_| self.asked.may_want(zone);
        let is_backwards = self.asked.sorting.is_backwards();
        match stage {
            Stage::Done => true,
            Stage::Walk(place) => {
                let next = if is_backwards {
                    *place = self.order.previous(*place, looked, may_want);
                    if *place <= self.places.start {
                        return true;
                    }
                    *place -= 1;
                    *place
                } else {
                    let next = self.order.next(*place, looked, may_want);
                    if next >= self.places.end {
                        return true;
                    }
                    *place = next + 1;
                    next
                };
                self.meet(next, 0)
            }
            Stage::Join(join) => {
                if let Some(place) = join.next_in_window() {
                    return self.meet(place, self.joined);
                }
                let edge = join.edge();
                let next = match is_backwards {
                    true => self.order.previous(edge, looked, may_want),
                    false => self.order.next(edge, looked, may_want),
                };
                if next.abs_diff(edge) >= WORTH_SKIPPING {
                    join.skip_to(next);
                }
                let Some(joined) = join.next_window() else { return true };
                *looked += joined / JOINED;
                false
            }
            Stage::Take(rows) => {
                let Some(row) = rows.pop() else { return true };
                self.consider(row);
                false
            }
            Stage::Range(other, range) => {
                let order = match other {
                    Other::Start => &self.segment.by_start,
                    Other::Price => &self.segment.by_price,
                };
                let place = order.next(range.start, looked, may_want);
                if place >= range.end {
                    return true;
                }
                range.start = place + 1;
                self.consider(order.row_at(place as u32));
                false
            }
        }
    }

    /// What was found, in the order asked for.
    pub(super) fn found(&self) -> impl Iterator<Item = u32> {
        self.best.iter().map(|position| self.row_at(*position))
    }
}

fn partition_point(length: usize, is_before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, length);
    while low < high {
        let middle = (low + high) / 2;
        if is_before(middle) { low = middle + 1 } else { high = middle }
    }
    low
}
