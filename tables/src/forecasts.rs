//! Projection `forecasts`: the newest forecast per place and source, and all that there were.

use crate::layout::{Announced, Edition, Keys, Layout, Projected, RowPositions};
use almanac_read_store::{StoreResult, Table};
use jiff::Timestamp;

pub const PROJECTION: &str = "forecasts";
pub const VERSION: u32 = 1;

/// What the rows of a source in `forecasts` are of.
pub const PUBLISHED: &str = "published";
pub const UNAVAILABLE: &str = "unavailable";

/// The tables of the projection.
#[derive(Clone, Debug)]
pub struct Tables {
    /// What is known of the newest forecast, or why there was none.
    pub forecasts: Table,
    /// The event.
    pub history: Table,
    layout: Layout,
}

impl Tables {
    pub fn of(edition: impl Into<Edition>) -> StoreResult<Self> {
        let mut declare = Layout::new(PROJECTION, edition, &[almanac_schemas::forecasts::TOPIC]);
        let place = Keys("latitude, longitude", "source, `published` or `unavailable`");
        let event = Keys("source, latitude, longitude, day of the fetch", "offset in the topic");
        Ok(Self {
            forecasts: declare.table("forecasts", place, Announced::Nothing)?,
            history: declare.placed(
                "forecast_history",
                event,
                Announced::Nothing,
                RowPositions::Key,
            )?,
            layout: declare,
        })
    }
}

impl Projected for Tables {
    fn layout(&self) -> &Layout {
        &self.layout
    }
}

/// The partition in `forecast_history`; `key` is that of the event: source and place. A forecast may
/// have nearly a megabyte, and a day has some dozens.
pub fn history_partition(key: &str, fetched_at: Timestamp) -> String {
    format!("{key}/{}", fetched_at.strftime("%Y-%m-%d"))
}

/// The clustering key there: in the order in which forecasts were published.
pub fn history_key(offset: u64) -> String {
    format!("{offset:020}")
}
