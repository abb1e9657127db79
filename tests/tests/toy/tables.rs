//! The tables, as a file of `tables/src/` declares them.

use crate::record::TOPIC;
use almanac_read_store::{StoreResult, Table};
use almanac_tables::{Announced, Edition, Keys, Layout, Projected};

pub(crate) const PROJECTION: &str = "greetings";
pub(crate) const VERSION: u32 = 1;

pub(crate) struct Tables {
    /// What a greeting's body is.
    pub(crate) greetings: Table,
    layout: Layout,
}

impl Tables {
    pub(crate) fn of(edition: impl Into<Edition>) -> StoreResult<Self> {
        let mut layout = Layout::new(PROJECTION, edition, &[TOPIC]);
        let keys = Keys("last two hex digits of the id", "id");
        Ok(Self { greetings: layout.table("greetings", keys, Announced::Nothing)?, layout })
    }
}

impl Projected for Tables {
    fn layout(&self) -> &Layout {
        &self.layout
    }
}

pub(crate) fn id_bucket(id: &str) -> &str {
    almanac_tables::last_digits(id, 2)
}
