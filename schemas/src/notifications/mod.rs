//! What subscribers are told of events, and the records of `notifications.deliveries` and
//! `notifications.state`.

mod told;

pub use told::{Attributes, Told, Wanted, told};

use crate::{analyses, files::SchemaFile, plans, recipes, schedules};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Topics whose events can be subscribed to.
pub const SOURCES: [&str; 4] = [plans::TOPIC, recipes::TOPIC, schedules::TOPIC, analyses::TOPIC];

/// What a completed analysis changes for a task of its schedule, told as events of their own.
pub const DERIVED: [&str; 3] = ["window.opened", "window.lost", "task.at_risk"];

/// Every type of event that can be subscribed to: not what was seen of feeds, which is an operator's.
pub fn told_types() -> BTreeSet<String> {
    let events = SchemaFile::all_newest()
        .filter(|file| SOURCES.contains(&file.topic) && file.record != plans::FEED_OBSERVED);
    events.map(SchemaFile::event_type).chain(DERIVED.map(str::to_owned)).collect()
}

/// What is to be sent, and what came of it; keyed by the subscription's id.
pub const DELIVERIES: &str = "notifications.deliveries";
/// Up to where events were matched; compacted.
pub const STATE: &str = "notifications.state";

pub const DUE: &str = "almanac.notifications.DeliveryDue";
pub const ATTEMPTED: &str = "almanac.notifications.DeliveryAttempted";
pub const POSITION: &str = "almanac.notifications.FanOutPosition";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryDueRecord {
    pub subscription_id: String,
    pub delivery_id: String,
    pub event_id: String,
    pub event_type: String,
    pub subject: Option<String>,
    pub owner: String,
    pub due_at: i64,
    pub body: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryAttemptedRecord {
    pub subscription_id: String,
    pub delivery_id: String,
    pub event_id: String,
    pub event_type: String,
    pub subject: Option<String>,
    pub owner: String,
    pub due_at: i64,
    pub attempt: i64,
    pub attempted_at: i64,
    pub duration_ms: i64,
    pub outcome: String,
    pub status: Option<i32>,
    pub detail: Option<String>,
    pub next_attempt_at: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FanOutPositionRecord {
    pub topic: String,
    pub topic_id: String,
    pub partition: i32,
    pub next_offset: i64,
}
