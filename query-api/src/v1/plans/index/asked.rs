//! What is asked of an index: filters as it compares them, the order, and where a page goes on.

use super::{
    day::{Columns, FREE, FULL, LISTED, Plan, UNLISTED},
    order::Zone,
    segment::Segment,
};
use crate::{
    index::{AnyOf, Field},
    v1::filter::{Filter, Sale, Sort},
};
use jiff::Timestamp;
use rust_decimal::Decimal;
use std::cmp::Ordering;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sorting {
    pub(super) sort: Sort,
    pub(super) descending: bool,
}

/// What plans are sorted by.
#[derive(Clone, Debug)]
pub(in crate::v1::plans) struct Key<'a> {
    pub(in crate::v1::plans) start: i64,
    pub(in crate::v1::plans) price: Option<Decimal>,
    pub(in crate::v1::plans) id: &'a str,
}

impl<'a> Key<'a> {
    pub(super) fn of(plan: Plan<'a>) -> Self {
        let Columns { start, min_price: price, .. } = *plan.columns;
        Self { start, price, id: plan.id() }
    }
}

impl Sorting {
    /// By price, those without one are last in either direction, and equal ones by rising id.
    pub(super) fn compare(self, one: &Key<'_>, other: &Key<'_>) -> Ordering {
        match self.sort {
            Sort::Start => {
                let ascending = (one.start, one.id).cmp(&(other.start, other.id));
                if self.descending { ascending.reverse() } else { ascending }
            }
            Sort::Price => {
                let prices = match (one.price, other.price) {
                    (Some(one), Some(other)) if self.descending => other.cmp(&one),
                    (Some(one), Some(other)) => one.cmp(&other),
                    (one, other) => one.is_none().cmp(&other.is_none()),
                };
                prices.then_with(|| one.id.cmp(other.id))
            }
        }
    }

    /// Whether places count from the end of the order.
    pub(super) fn is_backwards(self) -> bool {
        self.sort == Sort::Start && self.descending
    }
}

fn floor(time: Timestamp) -> i64 {
    time.as_nanosecond().div_euclid(1_000_000_000) as i64
}

fn ceiling(time: Timestamp) -> i64 {
    floor(time) + i64::from(time.as_nanosecond().rem_euclid(1_000_000_000) > 0)
}

/// A filter, with times in whole seconds, as those of plans are.
pub(in crate::v1::plans) struct Asked<'f> {
    pub(super) filter: &'f Filter,
    pub(super) sorting: Sorting,
    pub(super) start_from: i64,
    /// Exclusive.
    pub(super) start_until: i64,
    end_until: Option<i64>,
    /// What ends after the first, or starts no earlier than the second.
    overlap_from: Option<(i64, i64)>,
    now: i64,
}

impl<'f> Asked<'f> {
    pub(in crate::v1::plans) fn of(filter: &'f Filter) -> Self {
        let until = [filter.starts_until, filter.overlaps_until].into_iter().flatten();
        Self {
            filter,
            sorting: Sorting { sort: filter.sort, descending: filter.descending },
            start_from: filter.starts_from.map_or(i64::MIN, ceiling),
            start_until: until.map(ceiling).min().unwrap_or(i64::MAX),
            end_until: filter.ends_until.map(ceiling),
            overlap_from: filter.overlaps_from.map(|from| (floor(from), ceiling(from))),
            now: floor(filter.now),
        }
    }

    /// Whether any of the plans in it can be wanted.
    pub(super) fn may_want(&self, zone: &Zone) -> bool {
        let wants_any = |wanted: Sale| self.filter.sale.contains(&wanted);
        let is_sale = || {
            let is_not_over = zone.greatest_over_at > self.now;
            (wants_any(Sale::Over) && zone.least_over_at <= self.now)
                || (is_not_over && wants_any(Sale::SoldOut) && zone.flags & FULL != 0)
                || (is_not_over && wants_any(Sale::On) && zone.flags & FREE != 0)
                || (is_not_over && wants_any(Sale::Upcoming) && zone.greatest_sell_from > self.now)
        };
        zone.greatest_start >= self.start_from
            && zone.least_start < self.start_until
            && self.end_until.is_none_or(|until| zone.least_end < until)
            && self
                .overlap_from
                .is_none_or(|(end, start)| zone.greatest_end > end || zone.greatest_start >= start)
            && self.is_price(zone.least_price, zone.greatest_price)
            && self.is_flag(zone.flags)
            && (self.filter.sale.is_empty() || is_sale())
    }

    pub(super) fn has_prices(&self) -> bool {
        self.filter.min_price.is_some() || self.filter.max_price.is_some()
    }

    fn is_price(&self, least: Option<Decimal>, greatest: Option<Decimal>) -> bool {
        let Filter { min_price, max_price, .. } = self.filter;
        min_price.is_none_or(|low| greatest.is_some_and(|price| price >= low))
            && max_price.is_none_or(|high| least.is_some_and(|price| price <= high))
    }

    fn is_flag(&self, flags: u8) -> bool {
        let wanted = self.filter.listed.map(|listed| if listed { LISTED } else { UNLISTED });
        wanted.is_none_or(|wanted| flags & wanted != 0)
    }

    fn is_sale(&self, plan: &Columns) -> bool {
        let sale = if plan.over_at <= self.now {
            Sale::Over
        } else if plan.flags & FULL != 0 {
            Sale::SoldOut
        } else if plan.sell_from > self.now {
            Sale::Upcoming
        } else {
            Sale::On
        };
        self.filter.sale.contains(&sale)
    }

    fn accepts(&self, plan: &Columns) -> bool {
        (self.start_from..self.start_until).contains(&plan.start)
            && self.end_until.is_none_or(|until| plan.end < until)
            && self
                .overlap_from
                .is_none_or(|(end, start)| plan.end_or_start() > end || plan.start >= start)
            && self.is_price(plan.min_price, plan.max_price)
            && self.is_flag(plan.flags)
            && (self.filter.sale.is_empty() || self.is_sale(plan))
    }
}

/// What is asked, in terms of one segment.
pub(super) struct Wanted<'s> {
    asked: &'s Asked<'s>,
    segment: &'s Segment,
    /// What fields are to have, those that fewest rows have first.
    pub(super) terms: Vec<(&'s Field, AnyOf)>,
}

impl<'s> Wanted<'s> {
    pub(super) fn of(asked: &'s Asked<'s>, segment: &'s Segment) -> Self {
        let filter = asked.filter;
        let mut terms = Vec::new();
        for (wanted, field) in [
            (&filter.providers, &segment.providers),
            (&filter.base_plan_ids, &segment.base_plans),
            (&filter.organizer_ids, &segment.organizers),
        ] {
            if !wanted.is_empty() {
                terms.push((field, field.these(wanted)));
            }
        }
        let words = &segment.words;
        terms.extend(filter.wanted.words().iter().map(|word| (words, words.beginning(word))));
        let runs = filter.wanted.terms_of_runs();
        terms.extend(runs.iter().map(|term| (words, words.these([term]))));
        terms.sort_by_key(|(_, any_of)| any_of.rows);
        Self { asked, segment, terms }
    }

    /// Whether a row is wanted that has what the first `known` of the fields are to have.
    pub(super) fn accepts(&self, row: u32, known: usize) -> bool {
        let filter = self.asked.filter;
        let has = |(field, any_of): &(&Field, AnyOf)| field.has(row, any_of);
        if !self.terms[known..].iter().all(has) {
            return false;
        }
        let plan = self.segment.plan(row);
        self.asked.accepts(plan.columns)
            && (filter.ids.is_empty() || filter.ids.contains(plan.id()))
            && (!filter.wanted.needs_the_texts()
                || filter.wanted.begins_in_folded(plan.folded_title()))
    }

    /// The rows of the ids asked for, if any are.
    pub(super) fn with_ids(&self) -> Option<Vec<u32>> {
        let ids = &self.asked.filter.ids;
        let rows = ids.iter().flat_map(|id| self.segment.with_id(id));
        (!ids.is_empty()).then(|| rows.collect())
    }
}
