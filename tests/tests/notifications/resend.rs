//! Sending a notification again, however it ended.

use super::{QUICK, deliveries, delivery, schedule, start_task};
use almanac_tests::{
    process::{Answer, Engine, Installation, Process},
    webhooks::{Behaviour, Receiver, subscribe},
};
use reqwest::StatusCode;
use serde_json::Value;

/// The deliveries once there are so many and all are in one of these states.
async fn over(process: &Process, subscription: &str, count: usize, states: &[&str]) -> Vec<Value> {
    process
        .until("the end of all deliveries", || async {
            let all = deliveries(process, subscription).await;
            let is_over = |one: &Value| states.contains(&one["state"].as_str().unwrap());
            (all.len() == count && all.iter().all(is_over)).then_some(all)
        })
        .await
}

async fn resend(
    process: &Process,
    subscription: &str,
    delivery: &str,
    headers: &[(&str, &str)],
) -> Answer {
    let path = format!("/v1/subscriptions/{subscription}/deliveries/{delivery}/resend");
    process.send("POST", &path, headers, "").await.unwrap()
}

async fn again(engine: Engine) {
    let receiver = Receiver::default();
    let url = receiver.start().await;
    let installation = Installation::new(engine).with(QUICK);
    let mut process = installation.up().await;
    let types = ["task.started", "recipe.created"];
    let id = subscribe(&process, &[], &types, None, &format!("{url}/all")).await;
    let other = subscribe(&process, &[], &["recipe.deleted"], None, &format!("{url}/other")).await;

    // What succeeded is sent again under the same id.
    start_task(&process, &schedule(&process, "a").await).await;
    let all = over(&process, &id, 1, &["delivered"]).await;
    let first = all[0]["id"].as_str().unwrap().to_owned();
    let due = resend(&process, &id, &first, &[]).await;
    assert_eq!((due.status, &due.body["state"]), (StatusCode::ACCEPTED, &"due".into()), "{due:?}");
    assert_eq!((&due.body["resends"], &due.body["event_id"]), (&all[0]["id"], &all[0]["event_id"]));
    assert_eq!(due.header("location"), format!("/v1/subscriptions/{id}/deliveries"));
    let all = over(&process, &id, 2, &["delivered"]).await;
    assert_eq!(all[0]["id"], due.body["id"], "the newest first");
    assert_eq!(all[0]["event_id"], all[1]["event_id"]);
    let received = receiver.received("all");
    assert_eq!((received.len(), received[0].id == received[1].id), (2, true));
    assert_eq!(received[0].text, received[1].text);

    // With a key, once.
    let key = [("idempotency-key", "again")];
    let one = resend(&process, &id, &first, &key).await;
    over(&process, &id, 3, &["delivered"]).await;
    let same = resend(&process, &id, &first, &key).await;
    assert_eq!((one.status, same.status, &one.body), (same.status, one.status, &same.body));
    assert_eq!(same.header("idempotent-replayed"), "true");
    // One that was sent again can be.
    let third = resend(&process, &id, one.body["id"].as_str().unwrap(), &[]).await;
    assert_eq!(third.status, StatusCode::ACCEPTED, "{third:?}");
    over(&process, &id, 4, &["delivered"]).await;

    // So is what failed for good. Something else arrives after it, so that the subscription is not
    // disabled; deliveries are given up from then on only, however long this took.
    receiver.behave("all", Behaviour::Refuses("task.started", 500));
    start_task(&process, &schedule(&process, "b").await).await;
    delivery(&process, &id, "retrying").await;
    let recipe = almanac_tests::recipe("Soup", "salt");
    process.send("POST", "/v1/recipes", &[], recipe).await.unwrap();
    over(&process, &id, 6, &["retrying", "delivered"]).await;
    assert!(process.stop().success());
    let installation = installation.with("notifications.give_up_after = \"1s\"");
    let mut process = installation.up().await;
    let failed = delivery(&process, &id, "given_up").await;
    receiver.behave("all", Behaviour::Status(204));
    // Also after a restart.
    assert!(process.stop().success());
    let mut process = installation.up().await;
    let due = process
        .until("an installation that has caught up", || async {
            let due = resend(&process, &id, failed["id"].as_str().unwrap(), &[]).await;
            (due.status != StatusCode::SERVICE_UNAVAILABLE).then_some(due)
        })
        .await;
    assert_eq!(due.status, StatusCode::ACCEPTED, "{due:?}");
    process
        .until("that it has arrived", || async {
            let all = deliveries(&process, &id).await;
            let sent = all.iter().find(|one| one["id"] == due.body["id"])?;
            (sent["state"] == "delivered").then_some(())
        })
        .await;

    // What is not there, somebody else's, or for a subscription that is disabled or deleted.
    let unknown = resend(&process, &id, "0198c5a0-0000-7000-8000-000000000000", &[]).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND, "{unknown:?}");
    let foreign = resend(&process, &other, &first, &[]).await;
    assert_eq!(foreign.status, StatusCode::NOT_FOUND, "{foreign:?}");
    let bearer = |scope: &str, subject: &str| {
        let minted = installation.command("up", &["token", "--scope", scope, "--subject", subject]);
        format!("Bearer {}", String::from_utf8(minted.stdout).unwrap().trim())
    };
    let eve = bearer("subscriptions:write", "eve");
    let refused = resend(&process, &id, &first, &[("authorization", &eve)]).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
    let admin = bearer("admin subscriptions:write", "root");
    let taken = resend(&process, &id, &first, &[("authorization", &admin)]).await;
    assert_eq!(taken.status, StatusCode::ACCEPTED, "{taken:?}");
    receiver.behave("all", Behaviour::Status(410));
    resend(&process, &id, &first, &[]).await;
    let disabled = process
        .until("that it is disabled", || async {
            let answer = resend(&process, &id, &first, &[]).await;
            (answer.status == StatusCode::CONFLICT).then_some(answer)
        })
        .await;
    assert!(disabled.body["detail"].as_str().unwrap().contains("disabled"), "{disabled:?}");
    let path = format!("/v1/subscriptions/{id}");
    process.send("DELETE", &path, &[], "").await.unwrap();
    let gone = resend(&process, &id, &first, &[]).await;
    assert_eq!(gone.status, StatusCode::GONE, "{gone:?}");
    assert!(process.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_is_sent_again_embedded() {
    again(Engine::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_is_sent_again_cluster() {
    again(Engine::Cluster).await;
}
