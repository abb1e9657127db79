//! Plans in an order, under a tree of what they have: whole runs of plans that a question cannot want
//! are passed over at once, so that finding few of many costs in proportion to the few.

use super::day::Columns;
use rust_decimal::Decimal;
use std::mem::size_of;

/// Plans under the lowest nodes, and nodes under each other.
const FAN_BITS: usize = 4;
const FAN: usize = 1 << FAN_BITS;

/// The extremes of what several plans have.
#[derive(Clone, Debug)]
pub(super) struct Zone {
    pub(super) least_start: i64,
    pub(super) greatest_start: i64,
    pub(super) least_end: i64,
    /// Where a plan has no end, of its start.
    pub(super) greatest_end: i64,
    pub(super) least_over_at: i64,
    pub(super) greatest_over_at: i64,
    pub(super) greatest_sell_from: i64,
    pub(super) least_price: Option<Decimal>,
    pub(super) greatest_price: Option<Decimal>,
    /// What any of them has.
    pub(super) flags: u8,
}

impl Zone {
    fn of(plan: &Columns) -> Self {
        Self {
            least_start: plan.start,
            greatest_start: plan.start,
            least_end: plan.end,
            greatest_end: plan.end_or_start(),
            least_over_at: plan.over_at,
            greatest_over_at: plan.over_at,
            greatest_sell_from: plan.sell_from,
            least_price: plan.min_price,
            greatest_price: plan.max_price,
            flags: plan.flags,
        }
    }

    fn with(mut self, other: &Self) -> Self {
        self.least_start = self.least_start.min(other.least_start);
        self.greatest_start = self.greatest_start.max(other.greatest_start);
        self.least_end = self.least_end.min(other.least_end);
        self.greatest_end = self.greatest_end.max(other.greatest_end);
        self.least_over_at = self.least_over_at.min(other.least_over_at);
        self.greatest_over_at = self.greatest_over_at.max(other.greatest_over_at);
        self.greatest_sell_from = self.greatest_sell_from.max(other.greatest_sell_from);
        let least = [self.least_price, other.least_price];
        self.least_price = least.into_iter().flatten().min();
        self.greatest_price = self.greatest_price.max(other.greatest_price);
        self.flags |= other.flags;
        self
    }
}

pub(super) struct Order {
    /// The row at each place, and the place of each row; none where both are the same.
    places: Option<(Vec<u32>, Vec<u32>)>,
    length: usize,
    /// Over each [`FAN`] plans in this order, over as many of these, and so on.
    levels: Vec<Vec<Zone>>,
}

impl Order {
    /// Of rows as they are.
    pub(super) fn as_they_are<'a>(length: usize, columns: impl Fn(u32) -> &'a Columns) -> Self {
        Self { places: None, length, levels: levels((0..length as u32).map(columns)) }
    }

    /// Of rows in another order.
    pub(super) fn of<'a>(rows: Vec<u32>, columns: impl Fn(u32) -> &'a Columns) -> Self {
        let mut places = vec![0; rows.len()];
        for (place, row) in rows.iter().enumerate() {
            places[*row as usize] = place as u32;
        }
        let levels = levels(rows.iter().map(|row| columns(*row)));
        Self { length: rows.len(), places: Some((rows, places)), levels }
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn row_at(&self, place: u32) -> u32 {
        self.places.as_ref().map_or(place, |(rows, _)| rows[place as usize])
    }

    pub(super) fn place_of(&self, row: u32) -> u32 {
        self.places.as_ref().map_or(row, |(_, places)| places[row as usize])
    }

    /// The first place from `place` on that is not in a run of plans that `may_want` refuses.
    /// Counts what is looked at.
    pub(super) fn next(
        &self,
        mut place: usize,
        looked: &mut usize,
        may_want: impl Fn(&Zone) -> bool,
    ) -> usize {
        'places: while place < self.length {
            for level in (1..=self.levels_at(place)).rev() {
                *looked += 1;
                if !may_want(&self.levels[level - 1][place >> (FAN_BITS * level)]) {
                    place += 1 << (FAN_BITS * level);
                    continue 'places;
                }
            }
            return place;
        }
        self.length
    }

    /// The same backwards: of the places before `place`, how many are left.
    pub(super) fn previous(
        &self,
        mut place: usize,
        looked: &mut usize,
        may_want: impl Fn(&Zone) -> bool,
    ) -> usize {
        'places: while place > 0 {
            for level in (1..=self.levels_at(place)).rev() {
                *looked += 1;
                if !may_want(&self.levels[level - 1][(place >> (FAN_BITS * level)) - 1]) {
                    place -= 1 << (FAN_BITS * level);
                    continue 'places;
                }
            }
            return place;
        }
        0
    }

    /// How many levels have nodes that begin, or end, at this place.
    fn levels_at(&self, place: usize) -> usize {
        (place.trailing_zeros() as usize / FAN_BITS).min(self.levels.len())
    }

    pub(super) fn weight(&self) -> usize {
        let zones: usize = self.levels.iter().map(Vec::len).sum();
        let places = self.places.as_ref().map_or(0, |(rows, _)| rows.len() * 8);
        zones * size_of::<Zone>() + places
    }
}

fn levels<'a>(plans: impl Iterator<Item = &'a Columns>) -> Vec<Vec<Zone>> {
    let mut lowest: Vec<Zone> = Vec::new();
    for (number, plan) in plans.enumerate() {
        match lowest.last_mut().filter(|_| number % FAN != 0) {
            Some(zone) => *zone = zone.clone().with(&Zone::of(plan)),
            None => lowest.push(Zone::of(plan)),
        }
    }
    let mut levels = vec![lowest];
    while let Some(below) = levels.last().filter(|below| below.len() > 1) {
        let joined = below
            .chunks(FAN)
            .filter_map(|zones| zones.iter().cloned().reduce(|joined, zone| joined.with(&zone)));
        levels.push(joined.collect());
    }
    levels
}
