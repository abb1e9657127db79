//! Projection `schedules`: single schedules, their history, and lists of ids.

use crate::{
    history, last_digits,
    layout::{Announced, Edition, History, Keys, Layout, Projected},
    parked,
};
use almanac_read_store::{StoreResult, Table};

pub const PROJECTION: &str = "schedules";
pub const VERSION: u32 = 1;

/// The tables of the projection.
#[derive(Clone, Debug)]
pub struct Tables {
    /// Whose it is, and the schedule with the states of its tasks; or that it is deleted.
    pub schedules: Table,
    /// The event.
    pub history: Table,
    /// `{}`
    pub by_owner: Table,
    /// `{}`
    pub listed: Table,
    layout: Layout,
}

impl Tables {
    pub fn of(edition: impl Into<Edition>) -> StoreResult<Self> {
        use Announced::{Nothing, Rows};
        let mut declare = Layout::new(PROJECTION, edition, &[almanac_schemas::schedules::TOPIC]);
        let id = Keys("last two hex digits of the id", "id");
        let event = Keys("the same, sixteenth part of the version", "id, version");
        Ok(Self {
            schedules: declare.table("schedules", id, Rows)?,
            history: declare.table("schedule_history", event, Nothing)?,
            by_owner: declare.table("schedules_by_owner", Keys("owner", "id"), Nothing)?,
            listed: declare.table(
                "schedules_listed",
                Keys("last hex digit of the id", "id"),
                Nothing,
            )?,
            layout: declare,
        })
    }
}

impl Projected for Tables {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn history(&self) -> Option<History<'_>> {
        Some(History { table: &self.history, bucket: history_bucket })
    }
}

/// The partition of a schedule in `schedules`.
pub fn id_bucket(id: &str) -> &str {
    last_digits(id, 2)
}

/// The partition of one event in `schedule_history`.
pub fn history_bucket(id: &str, version: u64) -> String {
    history::bucket(id_bucket(id), version)
}

/// The partition of an owner's schedules in `schedules_by_owner`: a row has some forty bytes, so that
/// it holds more than one subject will ever make. A subject may be longer than keys should be, or hold
/// what they cannot.
pub fn owner_partition(owner: &str) -> String {
    parked::name(owner.as_bytes()).into_owned()
}

/// All partitions of `schedules_listed`.
pub fn listed_partitions() -> impl Iterator<Item = String> {
    (0..16).map(|digit| format!("{digit:x}"))
}
