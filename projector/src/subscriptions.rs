//! From events of subscriptions, and of what they were told, to row changes.

use crate::projection::{Event, FoldError, Folded, Projection};
use almanac_schemas::{
    json,
    notifications::{ATTEMPTED, DUE, DeliveryAttemptedRecord, DeliveryDueRecord},
    subscriptions::{CREATED, DELETED, DISABLED, SubscriptionEventRecord, TOPIC},
};
use almanac_tables::{
    schedules::{id_bucket, owner_partition},
    subscriptions::{Tables, delivery_key, delivery_partition},
};
use jiff::Timestamp;
use serde_json::json;

impl Projection for Tables {
    fn fold(&self, event: &Event<'_>) -> Result<Folded, FoldError> {
        match event.decoded.record() {
            CREATED | DELETED | DISABLED => subscription(self, event),
            DUE | ATTEMPTED => delivery(self, event),
            _ => Err(event.unknown(TOPIC)),
        }
    }
}

fn subscription(tables: &Tables, event: &Event<'_>) -> Result<Folded, FoldError> {
    let record = event.decoded.record();
    let read: SubscriptionEventRecord = event.decoded.read()?;
    let known = read.knowledge(record).ok_or(FoldError::OutsideDomain)?;
    let (id, mut rows) = (read.id.as_str(), event.rows());
    let owner = owner_partition(&known.owner);
    match record {
        CREATED => rows.put(&tables.by_owner, owner, id, "{}"),
        DELETED => rows.delete(&tables.by_owner, owner, id),
        _ => {}
    }
    let shown = (!known.is_deleted).then(|| json::subscriptions::render(id, &known));
    let owner = serde_json::to_string(&known.owner).map_err(|_| FoldError::OutsideDomain)?;
    let (version, shown) = (known.version, shown.unwrap_or("null".to_owned()));
    let row = format!("{{\"version\":{version},\"owner\":{owner},\"subscription\":{shown}}}");
    rows.put_own(&tables.subscriptions, id_bucket(id), id, row);
    Ok(rows.folded())
}

/// Of one delivery, what came of it last stands in its row.
fn delivery(tables: &Tables, event: &Event<'_>) -> Result<Folded, FoldError> {
    let time = |ms: i64| Timestamp::from_millisecond(ms).map(|time| format!("{time:.3}")).ok();
    let (subscription, due_at, id, shown) = match event.decoded.record() {
        DUE => {
            let due: DeliveryDueRecord = event.decoded.read()?;
            let shown = json!({
                "id": due.delivery_id, "event_id": due.event_id, "type": due.event_type,
                "subject": due.subject, "due_at": time(due.due_at), "state": "due", "attempts": 0,
                "attempted_at": null, "duration_ms": null, "status": null, "detail": null,
                "next_attempt_at": time(due.due_at),
            });
            (due.subscription_id, due.due_at, due.delivery_id, shown)
        }
        _ => {
            let tried: DeliveryAttemptedRecord = event.decoded.read()?;
            let shown = json!({
                "id": tried.delivery_id, "event_id": tried.event_id, "type": tried.event_type,
                "subject": tried.subject, "due_at": time(tried.due_at), "state": tried.outcome,
                "attempts": tried.attempt, "attempted_at": time(tried.attempted_at),
                "duration_ms": tried.duration_ms, "status": tried.status, "detail": tried.detail,
                "next_attempt_at": tried.next_attempt_at.and_then(time),
            });
            (tried.subscription_id, tried.due_at, tried.delivery_id, shown)
        }
    };
    let partition = delivery_partition(&subscription, due_at).ok_or(FoldError::OutsideDomain)?;
    let mut rows = event.rows();
    rows.put(&tables.deliveries, partition, delivery_key(due_at, &id), shown.to_string());
    Ok(rows.folded())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folding;
    use almanac_tables::subscriptions::VERSION;
    use serde_json::Value;

    const ID: &str = "0190f3a2-0000-7000-8000-0000000000ab";

    fn event(version: i64) -> SubscriptionEventRecord {
        SubscriptionEventRecord {
            id: ID.to_owned(),
            version,
            occurred_at: 1_000 * version,
            created_at: 1_000,
            owner: "mary".to_owned(),
            types: vec!["task.started".to_owned()],
            subject: None,
            url: "https://example.com/".to_owned(),
            sealed: b"sealed".to_vec(),
            disabled_at: (version == 2).then_some(2_000),
            disabled_reason: (version == 2).then(|| "it answered 410".to_owned()),
        }
    }

    #[tokio::test]
    async fn rows_follow_a_subscription_without_its_secret() {
        let mut folding = Folding::new(Tables::of(VERSION).unwrap()).await;
        folding.event(CREATED, &event(1)).await;
        let row = folding.only("subscriptions");
        assert_eq!(
            (&row["owner"], &row["subscription"]["disabled"]),
            (&json!("mary"), &Value::Null)
        );
        assert!(!row.to_string().contains("sealed"), "{row}");
        folding.event(DISABLED, &event(2)).await;
        let disabled = &folding.only("subscriptions")["subscription"]["disabled"];
        assert_eq!(disabled["reason"], "it answered 410");
        assert_eq!(folding.of("subscriptions_by_owner").len(), 1);
        folding.event(DELETED, &event(3)).await;
        assert_eq!(folding.only("subscriptions")["subscription"], Value::Null);
        assert!(folding.of("subscriptions_by_owner").is_empty());
        folding.repeats().await;
    }
}
