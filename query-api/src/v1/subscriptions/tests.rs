//! Subscriptions over HTTP, from tables that are filled by the projection's fold.

use crate::testing::installation;
use almanac_schemas::{
    notifications::{ATTEMPTED, DUE, DeliveryAttemptedRecord, DeliveryDueRecord},
    subscriptions::{CREATED, DELETED, SubscriptionEventRecord},
};
use almanac_tables::subscriptions::{Tables, VERSION};
use serde_json::json;

fn event(id: &str, version: i64, owner: &str) -> SubscriptionEventRecord {
    SubscriptionEventRecord {
        id: id.to_owned(),
        version,
        occurred_at: version * 1_000,
        created_at: 1_000,
        owner: owner.to_owned(),
        types: vec!["task.started".to_owned()],
        subject: None,
        url: "https://example.com/".to_owned(),
        sealed: b"sealed".to_vec(),
        disabled_at: None,
        disabled_reason: None,
    }
}

#[tokio::test]
async fn its_owner_reads_it_and_what_was_sent() {
    let (installation, tables) = (installation().await, Tables::of(VERSION).unwrap());
    let id = |number: u128| uuid::Uuid::from_u128(number).to_string();
    let (mine, also, other) = (id(1), id(2), id(3));
    for (id, owner) in [(&mine, "local"), (&also, "local"), (&other, "mary")] {
        installation.fold(&tables, CREATED, &event(id, 1, owner)).await;
    }
    let path = format!("/v1/subscriptions/{mine}");
    let answer = installation.get(&path, &[]).await;
    assert_eq!(answer.headers["etag"], "\"1\"");
    assert_eq!(answer.json()["types"], json!(["task.started"]));
    assert!(!answer.text().contains("sealed"), "{}", answer.text());
    let page = installation.get("/v1/subscriptions?limit=1", &[]).await.json();
    assert_eq!(page["items"][0]["id"], mine.as_str());
    let cursor = page["next_cursor"].as_str().unwrap();
    let page = installation.get(&format!("/v1/subscriptions?cursor={cursor}"), &[]).await.json();
    assert_eq!((&page["items"][0]["id"], &page["next_cursor"]), (&json!(also), &json!(null)));
    assert_eq!(page["items"].as_array().unwrap().len(), 1, "the third is mary's");
    assert_eq!(installation.get(&format!("/v1/subscriptions/{}", id(4)), &[]).await.status, 404);

    let now = jiff::Timestamp::now().as_millisecond();
    for (number, due_at) in [(1, now - 2_000), (2, now - 1_000)] {
        let due = DeliveryDueRecord {
            subscription_id: mine.clone(),
            delivery_id: format!("d{number}"),
            event_id: format!("e.{number}"),
            event_type: "task.started".to_owned(),
            subject: None,
            owner: "local".to_owned(),
            due_at,
            body: "{}".to_owned(),
        };
        installation.fold(&tables, DUE, &due).await;
    }
    let tried = DeliveryAttemptedRecord {
        subscription_id: mine.clone(),
        delivery_id: "d1".to_owned(),
        event_id: "e.1".to_owned(),
        event_type: "task.started".to_owned(),
        subject: None,
        owner: "local".to_owned(),
        due_at: now - 2_000,
        attempt: 1,
        attempted_at: now,
        duration_ms: 7,
        outcome: "delivered".to_owned(),
        status: Some(204),
        detail: None,
        next_attempt_at: None,
    };
    installation.fold(&tables, ATTEMPTED, &tried).await;
    let path = format!("{path}/deliveries");
    let first = installation.get(&format!("{path}?limit=1"), &[]).await.json();
    assert_eq!(
        (&first["items"][0]["id"], &first["items"][0]["state"]),
        (&json!("d2"), &json!("due"))
    );
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = installation.get(&format!("{path}?cursor={cursor}"), &[]).await.json();
    assert_eq!(rest["items"][0]["state"], "delivered");
    assert_eq!((&rest["items"][0]["status"], &rest["next_cursor"]), (&json!(204), &json!(null)));
    installation.fold(&tables, DELETED, &event(&mine, 2, "local")).await;
    let gone = installation.get(&format!("/v1/subscriptions/{mine}"), &[]).await;
    assert_eq!(gone.status, 410);
}
