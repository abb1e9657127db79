//! Projection `subscriptions`: single subscriptions, their owners' lists, and what was sent.

use crate::layout::{Announced, Edition, Keys, Layout, Projected};
use almanac_read_store::{StoreResult, Table};
use almanac_schemas::{notifications::DELIVERIES, subscriptions::TOPIC};
use jiff::Timestamp;

pub const PROJECTION: &str = "subscriptions";
pub const VERSION: u32 = 1;

/// The tables of the projection.
#[derive(Clone, Debug)]
pub struct Tables {
    /// Whose it is, and the subscription; or that it is deleted.
    pub subscriptions: Table,
    /// `{}`
    pub by_owner: Table,
    /// What came of an event that was to be told.
    pub deliveries: Table,
    layout: Layout,
}

impl Tables {
    pub fn of(edition: impl Into<Edition>) -> StoreResult<Self> {
        use Announced::Nothing;
        let mut declare = Layout::new(PROJECTION, edition, &[TOPIC, DELIVERIES]);
        let id = Keys("last two hex digits of the id", "id");
        let delivery = Keys("id of the subscription, month", "time backwards, id");
        Ok(Self {
            subscriptions: declare.table("subscriptions", id, Nothing)?,
            by_owner: declare.table("subscriptions_by_owner", Keys("owner", "id"), Nothing)?,
            deliveries: declare.table("deliveries", delivery, Nothing)?,
            layout: declare,
        })
    }
}

impl Projected for Tables {
    fn layout(&self) -> &Layout {
        &self.layout
    }
}

/// The partition of what a subscription was told in the month of a time.
pub fn delivery_partition(subscription: &str, at_ms: i64) -> Option<String> {
    let at = Timestamp::from_millisecond(at_ms).ok()?;
    let date = jiff::tz::TimeZone::UTC.to_datetime(at);
    Some(format!("{subscription}/{:04}-{:02}", date.year(), date.month()))
}

/// The newest first.
pub fn delivery_key(due_at_ms: i64, id: &str) -> String {
    format!("{:019}/{id}", i64::MAX.saturating_sub(due_at_ms.max(0)))
}

/// The time at which the delivery with this key was due.
pub fn delivery_time(key: &str) -> Option<i64> {
    let (backwards, _) = key.split_once('/')?;
    Some(i64::MAX - backwards.parse::<i64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_stand_by_month_the_newest_first() {
        let of = |text: &str| text.parse::<Timestamp>().unwrap().as_millisecond();
        let (one, other) = (of("2026-01-31T23:59:59.999Z"), of("2026-02-01T00:00:00Z"));
        assert_eq!(delivery_partition("s", one).unwrap(), "s/2026-01");
        assert_eq!(delivery_partition("s", other).unwrap(), "s/2026-02");
        let (one, other) = (delivery_key(one, "a"), delivery_key(other, "a"));
        assert!(other < one);
        assert_eq!(delivery_time(&other), Some(of("2026-02-01T00:00:00Z")));
        assert_eq!(delivery_time("x"), None);
    }
}
