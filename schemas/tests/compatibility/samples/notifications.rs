//! What is due to subscribers, and what came of it.

use crate::samples::{now, schedules::SCHEDULE_ID, subscriptions::SUBSCRIPTION_ID};
use almanac_schemas::notifications::{
    DeliveryAttemptedRecord, DeliveryDueRecord, FanOutPositionRecord,
};

pub(crate) fn delivery_due() -> DeliveryDueRecord {
    DeliveryDueRecord {
        subscription_id: SUBSCRIPTION_ID.to_owned(),
        delivery_id: "d".to_owned(),
        event_id: "e.1".to_owned(),
        event_type: "task.started".to_owned(),
        subject: Some(SCHEDULE_ID.to_owned()),
        owner: "mary".to_owned(),
        due_at: now().as_millisecond(),
        body: "{}".to_owned(),
    }
}

pub(crate) fn delivery_attempted() -> DeliveryAttemptedRecord {
    DeliveryAttemptedRecord {
        subscription_id: SUBSCRIPTION_ID.to_owned(),
        delivery_id: "d".to_owned(),
        event_id: "e.1".to_owned(),
        event_type: "task.started".to_owned(),
        subject: Some(SCHEDULE_ID.to_owned()),
        owner: "mary".to_owned(),
        due_at: now().as_millisecond(),
        attempt: 1,
        attempted_at: now().as_millisecond() + 7,
        duration_ms: 7,
        outcome: "retrying".to_owned(),
        status: Some(503),
        detail: Some("it answered 503".to_owned()),
        next_attempt_at: Some(now().as_millisecond() + 5_000),
    }
}

pub(crate) fn fan_out_position() -> FanOutPositionRecord {
    FanOutPositionRecord {
        topic: "schedules.events".to_owned(),
        topic_id: "t".to_owned(),
        partition: 3,
        next_offset: 9,
    }
}
