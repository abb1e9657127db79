//! Projection `plans`: search, single plans, their history, providers.
//!
//! | table | partition | clustering | body |
//! |---|---|---|---|
//! | `plans_by_start` | UTC day of the start | start, id, end, offsets | `{"summary": …, "plan": …}` |
//! | `plan_days` | `days` | day, source partition | `{}` |
//! | `plans` | three hex digits of the id | id | the plan with its zones |
//! | `plan_history` | three hex digits of the id | id, sequence | the event |
//! | `providers` | `providers` | name, kind of observation | the observation |
//! | `parked_keys` | `plans` | source partition, key | why |
//!
//! The fold is a function of the event alone: an event says where its plan stood before, so that
//! no row has to be read to take an index row away.

mod fold;
mod key;
mod render;

pub use fold::{FoldError, Folded, fold};
pub use key::StartKey;

use almanac_read_store::{StoreResult, Table};

pub const PROJECTION: &str = "plans";
/// Another version fills other tables.
pub const VERSION: u32 = 1;

pub const DAYS_PARTITION: &str = "days";
pub const PROVIDERS_PARTITION: &str = "providers";

/// The tables of the projection.
#[derive(Clone, Debug)]
pub struct Tables {
    pub by_start: Table,
    pub days: Table,
    pub plans: Table,
    pub history: Table,
    pub providers: Table,
    pub parked: Table,
}

impl Tables {
    pub fn of(version: u32) -> StoreResult<Self> {
        Ok(Self {
            by_start: Table::new("plans_by_start", version)?,
            days: Table::new("plan_days", version)?,
            plans: Table::new("plans", version)?,
            history: Table::new("plan_history", version)?,
            providers: Table::new("providers", version)?,
            parked: Table::new("parked_keys", version)?,
        })
    }

    pub fn all(&self) -> [&Table; 6] {
        [&self.by_start, &self.days, &self.plans, &self.history, &self.providers, &self.parked]
    }
}

/// The partition of a plan in `plans` and `plan_history`: 4,096 of them, so that writes batch and
/// partitions stay small.
pub fn id_bucket(id: &str) -> &str {
    id.get(..3).unwrap_or(id)
}
