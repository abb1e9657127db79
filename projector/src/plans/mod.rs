//! Projection `plans`: search, single plans, their history, providers.
//!
//! | table | partition | clustering | body |
//! |---|---|---|---|
//! | `plans_by_start` | UTC day of the start | start, id, end, offsets | `{"summary": …, "plan": …}` |
//! | `plan_days` | `days` | day, source partition | `{}` |
//! | `plans` | two hex digits of the id | id | the plan with its zones |
//! | `plan_history` | two hex digits of the id, sixteenth part of the sequence | id, sequence | the event |
//! | `providers` | `providers` | name, kind of observation | the observation |
//! | `parked_keys` | `plans` | source partition, key | why |
//!
//! The fold is a function of the event alone: an event says where its plan stood before, so that
//! no row has to be read to take an index row away.

mod fold;
mod key;
mod render;

pub use fold::fold;
pub use key::StartKey;

use crate::{
    history,
    projection::{Announced, FoldError, Folded, Projection},
};
use almanac_read_store::{StoreResult, Table};
use almanac_schemas::Decoded;

pub const PROJECTION: &str = "plans";
/// Another version fills other tables.
pub const VERSION: u32 = 3;

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

impl Projection for Tables {
    fn name(&self) -> &'static str {
        PROJECTION
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn topic(&self) -> &'static str {
        almanac_schemas::plans::TOPIC
    }

    fn tables(&self) -> Vec<&Table> {
        self.all().to_vec()
    }

    fn parked(&self) -> &Table {
        &self.parked
    }

    /// Single plans and their history are read by key.
    fn announced(&self, table: &Table) -> Announced {
        if *table == self.plans || *table == self.history {
            Announced::Nothing
        } else {
            Announced::Partitions
        }
    }

    fn is_repeated(&self, table: &Table) -> bool {
        *table == self.days
    }

    fn fold(
        &self,
        decoded: &Decoded<'_>,
        source_partition: u32,
        position: u64,
    ) -> Result<Folded, FoldError> {
        fold(self, decoded, source_partition, position)
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
