//! The plans of one day as questions compare them, and packed as they are served.

use super::packed::{Forms, Packed};
use crate::v1::{filter::PlanView, plans::plan_of};
use almanac_domain::text;
use almanac_read_store::Row;
use almanac_tables::plans::StartKey;
use rust_decimal::Decimal;
use std::mem::size_of;

/// Stands for an end that there is none of: it is before no time.
pub(super) const NO_END: i64 = i64::MAX;
/// Sold since ever.
const ALWAYS: i64 = i64::MIN;

pub(super) const LISTED: u8 = 1;
pub(super) const UNLISTED: u8 = 2;
pub(super) const FULL: u8 = 4;
pub(super) const FREE: u8 = 8;

/// What is compared of a plan. Times are in seconds, as all times of plans are.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) over_at: i64,
    pub(super) sell_from: i64,
    pub(super) min_price: Option<Decimal>,
    pub(super) max_price: Option<Decimal>,
    /// Where its texts end: id, provider, base plan, organizer, title.
    ends: [u32; 5],
    has_organizer: bool,
    pub(super) flags: u8,
}

impl Columns {
    pub(super) fn end_or_start(&self) -> i64 {
        if self.end == NO_END { self.start } else { self.end }
    }
}

/// A day's plans, by start and id.
#[derive(Default)]
pub(crate) struct Day {
    pub(super) number: i32,
    pub(super) rows: Vec<Columns>,
    texts: String,
    packed: Packed,
}

/// One plan of a day.
#[derive(Clone, Copy)]
pub(super) struct Plan<'d> {
    day: &'d Day,
    row: usize,
    pub(super) columns: &'d Columns,
}

impl Day {
    /// From the rows of a partition of `plans_by_start`. What does not look like one is left out.
    pub(super) fn of(number: i32, rows: &[Row], forms: &Forms) -> Self {
        let mut day = Self { number, ..Self::default() };
        day.rows.reserve_exact(rows.len());
        for row in rows {
            let Some(key) = StartKey::parse(&row.clustering) else { continue };
            let Some(text) = plan_of(row) else { continue };
            let Ok(plan) = serde_json::from_str::<PlanView<'_>>(text) else { continue };
            let mut ends = [0; 5];
            let title = text::fold(&plan.title);
            let organizer = plan.organizer_id.as_deref();
            let texts = [
                key.id,
                plan.provider(),
                &plan.base_plan_id,
                organizer.unwrap_or_default(),
                &title,
            ];
            for (end, text) in ends.iter_mut().zip(texts) {
                day.texts.push_str(text);
                *end = day.texts.len() as u32;
            }
            let listed = if plan.listed { LISTED } else { UNLISTED };
            let places = if plan.has_no_places() { FULL } else { FREE };
            day.rows.push(Columns {
                start: plan.starts_at.as_second(),
                end: plan.ends_at.map_or(NO_END, jiff::Timestamp::as_second),
                over_at: plan.over_at().as_second(),
                sell_from: plan.sell_from.map_or(ALWAYS, jiff::Timestamp::as_second),
                min_price: plan.min_price(),
                max_price: plan.max_price(),
                ends,
                has_organizer: organizer.is_some(),
                flags: listed | places,
            });
            day.packed.push(text, forms);
        }
        day.rows.shrink_to_fit();
        day.texts.shrink_to_fit();
        day.packed.shrink();
        day
    }

    pub(super) fn plan(&self, row: usize) -> Plan<'_> {
        Plan { day: self, row, columns: &self.rows[row] }
    }

    /// Bytes in memory, about.
    pub(super) fn weight(&self) -> usize {
        self.rows.len() * size_of::<Columns>() + self.texts.len() + self.packed.weight() + 300
    }
}

impl<'d> Plan<'d> {
    fn text(&self, number: usize) -> &'d str {
        let start = match (number, self.row) {
            (0, 0) => 0,
            (0, row) => self.day.rows[row - 1].ends[4],
            (number, _) => self.columns.ends[number - 1],
        };
        self.day.texts.get(start as usize..self.columns.ends[number] as usize).unwrap_or_default()
    }

    pub(super) fn id(&self) -> &'d str {
        self.text(0)
    }

    pub(super) fn provider(&self) -> &'d str {
        self.text(1)
    }

    pub(super) fn base_plan_id(&self) -> &'d str {
        self.text(2)
    }

    pub(super) fn organizer_id(&self) -> Option<&'d str> {
        self.columns.has_organizer.then(|| self.text(3))
    }

    pub(super) fn folded_title(&self) -> &'d str {
        self.text(4)
    }

    pub(super) fn is_listed(&self) -> bool {
        self.columns.flags & LISTED != 0
    }

    /// Appends its JSON; where that names when it was last seen and `last_seen` is given, with this
    /// time in its place. Whether it does.
    pub(super) fn put(&self, out: &mut Vec<u8>, last_seen: Option<&str>) -> bool {
        self.day.packed.put(self.row, out, last_seen)
    }
}
