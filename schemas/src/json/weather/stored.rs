//! Schedules as rows of tables.

use super::schedule::render_known_schedule;
use crate::schedules::ScheduleEventRecord;
use almanac_domain::schedules::Knowledge;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A schedule as its row: who may read it beside what is answered, so that what a client gets may be
/// sent back.
#[derive(Debug, Serialize, Deserialize)]
pub struct StoredSchedule {
    pub version: u64,
    pub owner: String,
    /// Nothing of one that is deleted.
    pub schedule: Option<Box<RawValue>>,
}

impl StoredSchedule {
    pub fn render(id: &str, known: &Knowledge) -> Option<String> {
        let schedule = RawValue::from_string(render_known_schedule(id, known)).ok()?;
        let row = Self {
            version: known.version,
            owner: known.owner.clone(),
            schedule: Some(schedule).filter(|_| !known.is_deleted),
        };
        serde_json::to_string(&row).ok()
    }
}

/// An event of a schedule as a row of history, from which [`read_schedule_event`] makes it again.
pub fn render_schedule_event(record: &str, event: &ScheduleEventRecord) -> Option<String> {
    let record = record.to_owned();
    serde_json::to_string(&EventRow { record, event }).ok()
}

/// Reads what [`render_schedule_event`] wrote: the name of the record, and the event.
pub fn read_schedule_event(row: &str) -> Option<(String, ScheduleEventRecord)> {
    let row: EventRow<ScheduleEventRecord> = serde_json::from_str(row).ok()?;
    Some((row.record, row.event))
}

#[derive(Serialize, Deserialize)]
struct EventRow<E> {
    record: String,
    event: E,
}
