//! Projection `organizers`: the plans of each organizer by month.
//!
//! An event of a plan does not say whose it was before, and a fold reads nothing, so the row that a plan had
//! under another organizer stays. What makes it void is a second row, under the month alone: whose the plan
//! was when it last came to that month or changed hands in it.

use crate::layout::{Announced, Edition, Keys, Layout, Projected};
use almanac_domain::plans::LocalTime;
use almanac_read_store::{StoreResult, Table};

pub const PROJECTION: &str = "organizers";
pub const VERSION: u32 = 1;

/// The tables of the projection.
#[derive(Clone, Debug)]
pub struct Tables {
    /// What counts of a plan; void where `moves` has the plan under the same month with somebody else.
    pub plans: Table,
    /// Whose the plan was when it last came to the month or changed hands in it, as JSON: a text or null.
    pub moves: Table,
    layout: Layout,
}

impl Tables {
    pub fn of(edition: impl Into<Edition>) -> StoreResult<Self> {
        let mut declare = Layout::new(PROJECTION, edition, &[almanac_schemas::plans::TOPIC]);
        let plan = Keys("organizer", "month of the start, id of the plan");
        let moved = Keys("month of the start", "id of the plan");
        Ok(Self {
            plans: declare.table("organizer_plans", plan, Announced::Nothing)?,
            moves: declare.table("organizer_moves", moved, Announced::Nothing)?,
            layout: declare,
        })
    }
}

impl Projected for Tables {
    fn layout(&self) -> &Layout {
        &self.layout
    }
}

/// `2031-06`: the month on the provider's wall, which is the one that its customers know.
pub fn month(start: LocalTime) -> String {
    String::from_utf8_lossy(&start.to_text()[..MONTH]).into_owned()
}

const MONTH: usize = "2031-06".len();

/// The clustering key in `organizer_plans`.
pub fn key(month: &str, id: &str) -> String {
    format!("{month}/{id}")
}

/// Month and id of a clustering key.
pub fn parse_key(clustering: &str) -> Option<(&str, &str)> {
    clustering.split_once('/')
}

/// What a row of `organizer_moves` holds.
pub fn owner_text(organizer: Option<&str>) -> String {
    serde_json::json!(organizer).to_string()
}

/// Whether a row of this organizer counts, given what `organizer_moves` has of the plan under its month.
pub fn counts(organizer: &str, moved: Option<&[u8]>) -> bool {
    moved.is_none_or(|body| body == owner_text(Some(organizer)).as_bytes())
}
