//! Projection `analyses`: analyses with their history, lists of them, those that are open, and the
//! forecasts that came with requests.

use crate::{
    history, last_digits,
    layout::{Announced, Edition, History, Keys, Layout, Projected, RowPositions},
    parked,
};
use almanac_read_store::{StoreResult, Table};
use almanac_schemas::analyses::{INPUTS, TOPIC};
use jiff::Timestamp;

pub const PROJECTION: &str = "analyses";
pub const VERSION: u32 = 1;

/// The tables of the projection.
#[derive(Clone, Debug)]
pub struct Tables {
    /// The state with the newest event.
    pub analyses: Table,
    /// The event.
    pub history: Table,
    /// What lists show.
    pub by_owner: Table,
    /// The same.
    pub by_schedule: Table,
    /// `{}`
    pub months: Table,
    /// Who asked, and whether a worker is at it.
    pub open: Table,
    /// A piece, in base64.
    pub inputs: Table,
    layout: Layout,
}

impl Tables {
    pub fn of(edition: impl Into<Edition>) -> StoreResult<Self> {
        use Announced::{Nothing, Rows};
        let mut declare = Layout::new(PROJECTION, edition, &[TOPIC, INPUTS]);
        let id = Keys("last two hex digits of the id", "id");
        let event = Keys("the same, sixteenth part of the version", "id, version");
        let owned = Keys("owner, month of the request", "time of the request, id");
        let scheduled = Keys("schedule, month of the request", "time of the request, id");
        let month = Keys("`owner` or `schedule`, and which", "month, source partition");
        let open = Keys("day of the request, last hex digit of the id", "time of the request, id");
        let piece = Keys("id of the analysis", "offset in the topic");
        // Of the forecasts that an analysis was made with.
        let named = RowPositions::Body(&["topic_id", "offset", "first_offset", "last_offset"]);
        Ok(Self {
            analyses: declare.placed("analyses", id, Rows, named)?,
            history: declare.placed("analysis_history", event, Nothing, named)?,
            by_owner: declare.table("analyses_by_owner", owned, Nothing)?,
            by_schedule: declare.table("analyses_by_schedule", scheduled, Nothing)?,
            months: declare.repeated("analysis_months", month, Nothing)?,
            open: declare.table("analyses_open", open, Nothing)?,
            inputs: declare.placed("analysis_inputs", piece, Nothing, RowPositions::Key)?,
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

/// The partition of an analysis in `analyses`.
pub fn id_bucket(id: &str) -> &str {
    last_digits(id, 2)
}

/// The partition of one event in `analysis_history`.
pub fn history_bucket(id: &str, version: u64) -> String {
    history::bucket(id_bucket(id), version)
}

/// What lists of analyses are of.
#[derive(Clone, Copy, Debug)]
pub enum List<'a> {
    Owner(&'a str),
    Schedule(&'a str),
}

impl List<'_> {
    /// The partition of its months in `analysis_months`.
    pub fn months(&self) -> String {
        match self {
            Self::Owner(owner) => format!("owner/{}", parked::name(owner.as_bytes())),
            Self::Schedule(id) => format!("schedule/{id}"),
        }
    }

    /// The partition of a month's analyses in its table.
    pub fn partition(&self, month: &str) -> String {
        match self {
            // A subject may be longer than keys should be, or hold what they cannot.
            Self::Owner(owner) => format!("{}/{month}", parked::name(owner.as_bytes())),
            Self::Schedule(id) => format!("{id}/{month}"),
        }
    }
}

/// The month in a clustering key of `analysis_months`.
pub fn month_of(clustering: &str) -> Option<&str> {
    Some(clustering.split_once('/')?.0)
}

/// The clustering key in lists: in the order of requests.
pub fn place(requested_at_ms: i64, id: &str) -> String {
    format!("{:015}/{id}", requested_at_ms.max(0))
}

/// The partitions of `analyses_open` that hold what was requested on the day of an instant.
pub fn open_partitions(at: Timestamp) -> impl Iterator<Item = String> {
    (0..16).map(move |digit| format!("{}/{digit:x}", at.strftime("%Y-%m-%d")))
}

/// The clustering key of a piece in `analysis_inputs`.
pub fn input_key(offset: u64) -> String {
    format!("{offset:020}")
}
