//! Projection `plans`: search, single plans, their history, providers.
//!
//! The fold is a function of the event alone: an event says where its plan stood before, so that
//! no row has to be read to take an index row away.

mod key;

pub use key::StartKey;

use crate::{
    history,
    layout::{Announced, Edition, History, Keys, Layout, Projected},
};
use almanac_read_store::{StoreResult, Table};

pub const PROJECTION: &str = "plans";
/// Another version fills other tables.
pub const VERSION: u32 = 5;

pub const DAYS_PARTITION: &str = "days";
pub const PROVIDERS_PARTITION: &str = "providers";

/// The tables of the projection.
#[derive(Clone, Debug)]
pub struct Tables {
    /// `{"summary": …, "plan": …}`
    pub by_start: Table,
    /// `{}`
    pub days: Table,
    /// The plan with its zones.
    pub plans: Table,
    /// The event, with the plan and its zones after it.
    pub history: Table,
    /// The observation.
    pub providers: Table,
    layout: Layout,
}

impl Tables {
    pub fn of(edition: impl Into<Edition>) -> StoreResult<Self> {
        use Announced::{Nothing, Partitions, Rows};
        let mut declare = Layout::new(PROJECTION, edition, &[almanac_schemas::plans::TOPIC]);
        let start = Keys("UTC day of the start", "start, id, end, offsets");
        let day = Keys("`days`", "day, source partition");
        let id = Keys("two hex digits of the id", "id");
        let event =
            Keys("two hex digits of the id, sixteenth part of the sequence", "id, sequence");
        let provider = Keys("`providers`", "name, kind of observation");
        Ok(Self {
            by_start: declare.table("plans_by_start", start, Partitions)?,
            days: declare.repeated("plan_days", day, Partitions)?,
            // Single plans and their history are read by key: only caches before readers keep them.
            plans: declare.table("plans", id, Rows)?,
            history: declare.table("plan_history", event, Nothing)?,
            providers: declare.table("providers", provider, Partitions)?,
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

/// The partition of a plan in `plans`: 256 of them, so that the rows of one fold share batches. A
/// million plans are four thousand rows in each.
pub fn id_bucket(id: &str) -> &str {
    id.get(..2).unwrap_or(id)
}

/// The partition of one event in `plan_history`.
pub fn history_bucket(id: &str, sequence: u64) -> String {
    history::bucket(id_bucket(id), sequence)
}
