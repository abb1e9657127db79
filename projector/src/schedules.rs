//! From an event of `schedules.events` to row changes.

use crate::projection::{Event, FoldError, Folded, Projection, Rows};
use almanac_schemas::{
    json::weather::{StoredSchedule, render_schedule_event},
    schedules::{CREATED, DELETED, ScheduleEventRecord, TOPIC, event_type_of},
};
use almanac_tables::{
    history, last_digits,
    schedules::{Tables, history_bucket, id_bucket, owner_partition},
};

impl Projection for Tables {
    fn fold(&self, event: &Event<'_>) -> Result<Folded, FoldError> {
        let record = event.decoded.record();
        if event_type_of(record).is_none() {
            return Err(event.unknown(TOPIC));
        }
        let mut rows = event.rows();
        let done = fold_event(self, record, &event.decoded.read()?, &mut rows);
        done.map(|()| rows.folded()).ok_or(FoldError::OutsideDomain)
    }
}

fn fold_event(
    tables: &Tables,
    record: &str,
    event: &ScheduleEventRecord,
    rows: &mut Rows,
) -> Option<()> {
    let known = event.knowledge(record)?;
    let id = event.id.as_str();
    let listed = (last_digits(id, 1), owner_partition(&event.owner));
    match record {
        CREATED => {
            rows.put(&tables.listed, listed.0, id, "{}");
            rows.put(&tables.by_owner, listed.1, id, "{}");
        }
        DELETED => {
            rows.delete(&tables.listed, listed.0, id);
            rows.delete(&tables.by_owner, listed.1, id);
        }
        _ => {}
    }
    let (bucket, key) = (history_bucket(id, known.version), history::key(id, known.version));
    rows.put(&tables.history, bucket, key, render_schedule_event(record, event)?);
    rows.put_own(&tables.schedules, id_bucket(id), id, StoredSchedule::render(id, &known)?);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folding;
    use almanac_schemas::schedules::{LimitRecord, ScheduleRecord, TASK_STARTED, TaskRecord};
    use almanac_tables::schedules::VERSION;

    fn event(version: i64, started_at: Option<i64>) -> ScheduleEventRecord {
        ScheduleEventRecord {
            id: "0190f3a2-0000-7000-8000-0000000000ab".to_owned(),
            version,
            occurred_at: version * 1_000,
            created_at: 1_000,
            owner: "mary".to_owned(),
            schedule: ScheduleRecord {
                name: "Lift".to_owned(),
                lat: "61.50".to_owned(),
                lon: "4.8".to_owned(),
                repeat_every_s: None,
                tasks: vec![TaskRecord {
                    id: "lift".to_owned(),
                    name: "Lift".to_owned(),
                    duration_s: 3_600,
                    contingency_s: None,
                    predecessors: Vec::new(),
                    limits: vec![LimitRecord {
                        variable: "wave_height_m".to_owned(),
                        min: None,
                        max: Some("2.50".to_owned()),
                    }],
                    started_at,
                    completed_at: None,
                }],
            },
            changed: None,
            task: started_at.map(|_| "lift".to_owned()),
        }
    }

    #[tokio::test]
    async fn rows_follow_a_schedule_from_its_event_alone() {
        let mut folding = Folding::new(Tables::of(VERSION).unwrap()).await;
        folding.event(CREATED, &event(1, None)).await;
        assert_eq!(folding.of("schedules_by_owner")[0].0, "mary");
        folding.event(TASK_STARTED, &event(2, Some(2_000))).await;
        let row = folding.only("schedules");
        assert_eq!((&row["version"], &row["owner"]), (&2.into(), &"mary".into()));
        let schedule = &row["schedule"];
        assert_eq!(schedule.get("owner"), None, "what is answered may be sent back");
        let task = &schedule["tasks"][0];
        assert_eq!(task["state"], "started");
        assert_eq!(task["started_at"], "1970-01-01T00:00:02.000Z");
        assert!(folding.of("schedules")[0].2.contains("\"max\":2.50"), "as it was written");
        let history = folding.of("schedule_history");
        let read = almanac_schemas::json::weather::read_schedule_event(&history[1].2).unwrap();
        assert_eq!(read, (TASK_STARTED.to_owned(), event(2, Some(2_000))));
        let deleted = ScheduleEventRecord { task: None, ..event(3, Some(2_000)) };
        folding.event(DELETED, &deleted).await;
        assert!(folding.of("schedules_by_owner").is_empty());
        assert!(folding.of("schedules_listed").is_empty());
        assert_eq!(folding.only("schedules")["schedule"], serde_json::Value::Null);
        assert_eq!(folding.of("schedule_history").len(), 3);
        folding.repeats().await;
    }
}
