//! What must hold whatever was killed: every plan's events are numbered without gaps, none is
//! there twice, each says something that the provider served, and the tables are the fold of them.

use crate::{process::Process, provider::capacity};
use serde_json::Value;
use std::collections::BTreeMap;

/// All events of the topic, by plan, in order.
pub async fn plan_events(process: &Process) -> BTreeMap<String, Vec<Value>> {
    let mut events: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut after = "beginning".to_owned();
    loop {
        let path = format!("/v1/events/plans.events?limit=500&after={after}");
        let (_, page) = process.get(&path).await;
        let items = page["items"].as_array().unwrap_or_else(|| panic!("{page}"));
        let of_plans: Vec<&Value> =
            items.iter().filter(|item| item["type"] != "feed.observed").collect();
        // Fetches go on while this reads, so that the topic itself never ends.
        if of_plans.is_empty() && items.len() < 500 {
            return events;
        }
        for item in of_plans {
            let subject = item["subject"].as_str().unwrap().to_owned();
            events.entry(subject).or_default().push(item.clone());
        }
        after = page["next_cursor"].as_str().unwrap().to_owned();
    }
}

/// Checks events and tables against feeds `0..=last` of [`crate::provider::feed`], of which
/// `last` has been read.
pub async fn check(process: &Process, plans: u64, last: u64) {
    let events = plan_events(process).await;
    let mut served = 0;
    for (id, history) in &events {
        let plan: u64 = history[0]["data"]["plan"]["plan_id"].as_str().unwrap().parse().unwrap();
        let mut previous: Option<&Value> = None;
        for (place, event) in history.iter().enumerate() {
            let data = &event["data"];
            let number = place as u64 + 1;
            assert_eq!(event["sequence"], number, "{id}: events without gaps or repeats");
            assert_eq!(event["id"], format!("{id}.{number}"));
            let said = data["plan"]["zones"][0]["capacity"].as_u64();
            assert!(
                (0..=last).any(|version| capacity(plan, version) == said),
                "{id}: {said:?} was never served"
            );
            if let Some(previous) = previous {
                let same = previous["data"]["plan"] == data["plan"]
                    && previous["data"]["listed"] == data["listed"];
                assert!(!same, "{id}: event {number} says nothing new");
            }
            previous = Some(event);
        }
        let end = &history[history.len() - 1]["data"];
        let expected = capacity(plan, last);
        assert_eq!(end["listed"], expected.is_some(), "{id}: listed as in the last feed");
        if expected.is_some() {
            assert_eq!(end["plan"]["zones"][0]["capacity"].as_u64(), expected, "{id}");
            served += 1;
        }
        let (_, row) = process.get(&format!("/v1/plans/{id}")).await;
        assert_eq!(row["sequence"], history.len(), "{id}: the table is as far as the log");
        assert_eq!(row["listed"], end["listed"], "{id}");
        assert_eq!(row["zones"][0]["capacity"], end["plan"]["zones"][0]["capacity"], "{id}");
        let (_, table) = process.get(&format!("/v1/plans/{id}/history?limit=500")).await;
        let rows = table["items"].as_array().unwrap().len();
        assert_eq!(rows, history.len().min(500), "{id}: history");
    }
    let expected = (0..plans).filter(|plan| capacity(*plan, last).is_some()).count();
    assert_eq!(served, expected, "every plan of the last feed is there");
    // What was ever listed stays searchable, once each.
    let mut found: Vec<String> = process
        .search("")
        .await
        .iter()
        .map(|event| event["id"].as_str().unwrap().to_owned())
        .collect();
    let count = found.len();
    found.sort();
    found.dedup();
    assert_eq!(found.len(), count, "no plan is found twice");
    assert_eq!(found, events.keys().cloned().collect::<Vec<_>>());
}

/// Every plan's events are numbered without gaps or repeats, and its row is as far as they are.
pub async fn check_sequences(process: &Process) {
    for (id, history) in plan_events(process).await {
        let numbers: Vec<u64> =
            history.iter().map(|event| event["sequence"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (1..=history.len() as u64).collect::<Vec<_>>(), "{id}");
        let (_, row) = process.get(&format!("/v1/plans/{id}")).await;
        assert_eq!(row["sequence"], history.len(), "{id}");
    }
}
