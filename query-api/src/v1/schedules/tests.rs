//! Schedules over HTTP, from tables that are filled by the projection's fold.

use crate::testing::{Installation, installation};
use almanac_schemas::schedules::{
    CREATED, DELETED, LimitRecord, REVISED, ScheduleEventRecord, ScheduleRecord, TASK_STARTED,
    TaskRecord,
};
use almanac_tables::schedules::{Tables, VERSION};
use serde_json::json;

fn id(number: u128) -> String {
    uuid::Uuid::from_u128(number).to_string()
}

/// A schedule of one task of an hour, below 1.5 m.
pub(crate) fn event(id: &str, version: i64, started_at: Option<i64>) -> ScheduleEventRecord {
    ScheduleEventRecord {
        id: id.to_owned(),
        version,
        occurred_at: version * 1_000,
        created_at: 1_000,
        owner: "mary".to_owned(),
        schedule: ScheduleRecord {
            name: "Lift".to_owned(),
            lat: "61.50".to_owned(),
            lon: "4.80".to_owned(),
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
                    max: Some("1.50".to_owned()),
                }],
                started_at,
                completed_at: None,
            }],
        },
        changed: (version == 2).then(|| vec!["name".to_owned()]),
        task: started_at.map(|_| "lift".to_owned()),
    }
}

async fn with_one() -> (Installation, String) {
    let (installation, id, tables) = (installation().await, id(7), Tables::of(VERSION).unwrap());
    installation.fold(&tables, CREATED, &event(&id, 1, None)).await;
    installation.fold(&tables, REVISED, &event(&id, 2, None)).await;
    installation.fold(&tables, TASK_STARTED, &event(&id, 3, Some(2_500))).await;
    (installation, id)
}

#[tokio::test]
async fn a_schedule_is_read_with_its_states_and_as_it_was() {
    let (installation, id) = with_one().await;
    let path = format!("/v1/schedules/{id}");
    let answer =
        installation.get(&path.to_uppercase().replace("/V1/SCHEDULES", "/v1/schedules"), &[]).await;
    assert_eq!(answer.headers["etag"], "\"3\"");
    assert_eq!(answer.headers["cache-control"], "private, no-store");
    assert!(answer.text().contains("\"max\":1.50"), "as it was written: {}", answer.text());
    let body = answer.json();
    assert_eq!((&body["version"], &body["location"]["lat"]), (&json!(3), &json!(61.5)));
    assert_eq!(body["tasks"][0]["state"], "started");
    let again = installation.get(&path, &[("if-none-match", "\"3\"")]).await;
    assert_eq!(again.status, 304);
    let then = async |at: &str| installation.get(&format!("{path}?as_of={at}"), &[]).await;
    assert_eq!(then("1970-01-01T00:00:02.999Z").await.json()["version"], 2);
    assert_eq!(then("1970-01-01T00:00:03Z").await.json()["version"], 3);
    assert_eq!(then("9999-01-01T00:00:00Z").await.json()["version"], 3, "a time to come is now");
    assert_eq!(then("1970-01-01T00:00:00Z").await.status, 404);
    assert_eq!(then("yesterday").await.status, 400);
    for unknown in ["/v1/schedules/x", &format!("/v1/schedules/{}", self::id(8))] {
        assert_eq!(installation.get(unknown, &[]).await.status, 404, "{unknown}");
    }
}

#[tokio::test]
async fn a_deleted_schedule_is_gone_and_its_history_stays() {
    let (installation, id) = with_one().await;
    let tables = Tables::of(VERSION).unwrap();
    let deleted = ScheduleEventRecord { task: None, ..event(&id, 4, Some(2_500)) };
    installation.fold(&tables, DELETED, &deleted).await;
    let path = format!("/v1/schedules/{id}");
    assert_eq!(installation.get(&path, &[]).await.status, 410);
    assert_eq!(installation.get("/v1/schedules", &[]).await.json()["items"], json!([]));
    let first = installation.get(&format!("{path}/history?limit=2"), &[]).await.json();
    let types = |page: &serde_json::Value| -> Vec<String> {
        let items = page["items"].as_array().unwrap().iter();
        items.map(|item| item["type"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(types(&first), ["schedule.created", "schedule.revised"]);
    assert_eq!(first["items"][1]["changed"], json!(["name"]));
    assert_eq!(first["items"][1]["schedule"]["name"], "Lift");
    let next = first["next_cursor"].as_str().unwrap();
    let second = installation.get(&format!("{path}/history?limit=2&cursor={next}"), &[]).await;
    let second = second.json();
    assert_eq!(types(&second), ["task.started", "schedule.deleted"]);
    assert_eq!(
        (&second["items"][0]["task"], &second["next_cursor"]),
        (&json!("lift"), &json!(null))
    );
}

/// The local user is an admin, who sees all.
#[tokio::test]
async fn pages_hold_every_schedule_once() {
    let (installation, tables) = (installation().await, Tables::of(VERSION).unwrap());
    for number in 0..23 {
        installation.fold(&tables, CREATED, &event(&id(number), 1, None)).await;
    }
    let (mut ids, mut query) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/schedules?limit=5{query}");
        let page = installation.get(&path, &[]).await.json();
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 5);
        ids.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => query = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(ids, (0..23).map(id).collect::<Vec<_>>());
}
