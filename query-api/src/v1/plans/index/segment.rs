//! Plans of some days, indexed. Never changed once made.

use super::{
    asked::{Key, Sorting},
    day::{Columns, Day, Plan},
    order::Order,
};
use crate::{index::Field, v1::filter::Sort};
use almanac_domain::text::terms_of_folded;
use std::{mem::size_of, sync::Arc};

pub(crate) struct Segment {
    /// Ascending. Rows are numbered through all days, and so by start and id.
    pub(super) days: Vec<Arc<Day>>,
    firsts: Vec<u32>,
    /// The place of each row's day.
    day_of: Vec<u32>,
    /// Words of titles.
    pub(super) words: Field,
    pub(super) providers: Field,
    pub(super) base_plans: Field,
    pub(super) organizers: Field,
    /// All rows by id.
    by_id: Vec<u32>,
    pub(super) by_start: Order,
    pub(super) by_price: Order,
    /// As it is sorted by falling price: equal ones by rising id, those without a price last.
    by_falling_price: Order,
}

impl Segment {
    /// Of days in ascending order.
    pub(super) fn of(days: Vec<Arc<Day>>) -> Self {
        let (mut firsts, mut day_of) = (Vec::with_capacity(days.len()), Vec::new());
        for (place, day) in (0..).zip(&days) {
            firsts.push(day_of.len() as u32);
            day_of.resize(day_of.len() + day.rows.len(), place);
        }
        let plans = days.iter().flat_map(|day| (0..day.rows.len()).map(|row| day.plan(row)));
        let numbered = (0_u32..).zip(plans.clone());
        let mut pairs = Vec::with_capacity(day_of.len() * 4);
        for (row, plan) in numbered {
            terms_of_folded(plan.folded_title(), |term| pairs.push((row, term)));
        }
        let plan = |row: u32| {
            let place = day_of[row as usize] as usize;
            days[place].plan((row - firsts[place]) as usize)
        };
        let columns = |row: u32| plan(row).columns;
        let sorted = |descending: bool| {
            let sorting = Sorting { sort: Sort::Price, descending };
            let mut rows: Vec<u32> = (0..day_of.len() as u32).collect();
            rows.sort_unstable_by(|one, other| {
                sorting.compare(&Key::of(plan(*one)), &Key::of(plan(*other)))
            });
            rows
        };
        let (rising, falling) = (sorted(false), sorted(true));
        let orders = [None, Some(&rising[..]), Some(&falling[..])];
        let length = day_of.len();
        let words = Field::of(length, pairs.into_iter(), &orders);
        let labels = |label: for<'a> fn(&Plan<'a>) -> Option<&'a str>| {
            let pairs = (0..length as u32).filter_map(|row| Some((row, label(&plan(row))?)));
            Field::of(length, pairs, &orders)
        };
        let providers = labels(|plan| Some(plan.provider()));
        let base_plans = labels(|plan| Some(plan.base_plan_id()));
        let organizers = labels(|plan| plan.organizer_id());
        let mut by_id: Vec<u32> = (0..day_of.len() as u32).collect();
        by_id.sort_unstable_by_key(|row| plan(*row).id());
        let by_start = Order::as_they_are(day_of.len(), columns);
        let (by_price, by_falling_price) =
            (Order::of(rising, columns), Order::of(falling, columns));
        Self {
            words,
            providers,
            base_plans,
            organizers,
            by_id,
            by_start,
            by_price,
            by_falling_price,
            days,
            firsts,
            day_of,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.day_of.len()
    }

    pub(super) fn plan(&self, row: u32) -> Plan<'_> {
        let place = self.day_of[row as usize] as usize;
        self.days[place].plan((row - self.firsts[place]) as usize)
    }

    pub(super) fn columns(&self, row: u32) -> &Columns {
        self.plan(row).columns
    }

    /// Of its day among [`Self::days`].
    pub(super) fn day_of(&self, row: u32) -> usize {
        self.day_of[row as usize] as usize
    }

    pub(super) fn with_id(&self, id: &str) -> impl Iterator<Item = u32> {
        let first = self.by_id.partition_point(|row| self.plan(*row).id() < id);
        self.by_id[first..].iter().copied().take_while(move |row| self.plan(*row).id() == id)
    }

    pub(super) fn order(&self, sorting: Sorting) -> &Order {
        match (sorting.sort, sorting.descending) {
            (Sort::Start, _) => &self.by_start,
            (Sort::Price, false) => &self.by_price,
            (Sort::Price, true) => &self.by_falling_price,
        }
    }

    /// The number by which fields know an order.
    pub(super) fn order_number(sorting: Sorting) -> usize {
        match (sorting.sort, sorting.descending) {
            (Sort::Start, _) => 0,
            (Sort::Price, false) => 1,
            (Sort::Price, true) => 2,
        }
    }

    /// Bytes in memory, about, beside its days.
    pub(super) fn weight(&self) -> usize {
        let fields = [&self.words, &self.providers, &self.base_plans, &self.organizers];
        let orders = [&self.by_start, &self.by_price, &self.by_falling_price];
        size_of::<Self>()
            + self.days.len() * 12
            + self.day_of.len() * 8
            + fields.into_iter().map(Field::weight).sum::<usize>()
            + orders.into_iter().map(Order::weight).sum::<usize>()
    }
}
