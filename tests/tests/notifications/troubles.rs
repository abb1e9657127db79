//! Receivers that fail, hang, redirect, stream for ever or are gone.

use super::{QUICK, delivery, schedule, start_task};
use almanac_tests::{
    process::{Engine, Installation},
    webhooks::{Behaviour, Receiver, subscribe},
};
use serde_json::Value;

/// Where nothing arrives for as long as deliveries are tried, the subscription is disabled, and its
/// event says why. One where anything arrives goes on.
async fn disabled(engine: Engine) {
    let receiver = Receiver::default();
    let url = receiver.start().await;
    let installation = Installation::new(engine).with(QUICK);
    let mut process = installation.up().await;
    receiver.behave("fails", Behaviour::Status(500));
    receiver.behave("picky", Behaviour::Refuses("task.started", 500));
    receiver.behave("gone", Behaviour::Status(410));
    let types = ["task.started", "recipe.created"];
    let mut ids = Vec::new();
    for path in ["fails", "picky", "gone"] {
        ids.push(subscribe(&process, &[], &types, None, &format!("{url}/{path}")).await);
    }
    start_task(&process, &schedule(&process, "a").await).await;
    // To the picky one, something arrives after what does not. Deliveries are given up from then on
    // only, however long this took.
    delivery(&process, &ids[0], "retrying").await;
    delivery(&process, &ids[1], "retrying").await;
    let recipe = almanac_tests::recipe("Soup", "salt");
    process.send("POST", "/v1/recipes", &[], recipe).await.unwrap();
    delivery(&process, &ids[1], "delivered").await;
    assert!(process.stop().success());
    let installation = installation.with("notifications.give_up_after = \"2s\"");
    let mut process = installation.up().await;
    for (id, reason) in [(&ids[0], "nothing arrived for"), (&ids[2], "410")] {
        let path = format!("/v1/subscriptions/{id}");
        process
            .until("that it is disabled", || async {
                let (_, body) = process.get(&path).await;
                body["disabled"]["reason"].as_str().filter(|it| it.contains(reason))?;
                Some(())
            })
            .await;
        let (_, page) = process
            .get(&format!("/v1/events/subscriptions.events?key={id}&type=subscription.disabled"))
            .await;
        let event = &page["items"][0];
        assert_eq!(page["items"].as_array().unwrap().len(), 1, "{page}");
        assert!(event["data"]["disabled_reason"].as_str().unwrap().contains(reason), "{event}");
    }
    let given_up = delivery(&process, &ids[1], "given_up").await;
    assert_eq!((&given_up["type"], &given_up["status"]), (&"task.started".into(), &500.into()));
    assert!(given_up["attempts"].as_u64() > Some(1), "{given_up}");
    let (_, picky) = process.get(&format!("/v1/subscriptions/{}", ids[1])).await;
    assert_eq!(picky["disabled"], Value::Null, "{picky}");
    // Of an address that is gone, one attempt says enough.
    assert_eq!(receiver.received("gone").len(), receiver.ids("gone").len());
    assert!(process.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn lasting_failure_disables_a_subscription_embedded() {
    disabled(Engine::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lasting_failure_disables_a_subscription_cluster() {
    disabled(Engine::Cluster).await;
}

/// A receiver that never answers holds up nobody: no attempt at it ends before all others have what is
/// theirs, in every partition.
async fn hanging(engine: Engine) {
    const QUICK_ONES: usize = 8;
    const EVENTS: usize = 12;
    let receiver = Receiver::default();
    let url = receiver.start().await;
    let installation = Installation::new(engine)
        .with("notifications.private_addresses = true\nnotifications.timeout = \"10m\"")
        .with("notifications.concurrency = 4\nnotifications.concurrency_per_subscription = 2");
    let mut process = installation.up().await;
    receiver.behave("hangs", Behaviour::Hangs);
    let types = ["task.started"];
    subscribe(&process, &[], &types, None, &format!("{url}/hangs")).await;
    for number in 0..QUICK_ONES {
        subscribe(&process, &[], &types, None, &format!("{url}/quick-{number}")).await;
    }
    for _ in 0..EVENTS {
        start_task(&process, &schedule(&process, "a").await).await;
    }
    for number in 0..QUICK_ONES {
        let path = format!("quick-{number}");
        process
            .until("what the quick ones are told", || async {
                (receiver.ids(&path).len() == EVENTS).then_some(())
            })
            .await;
    }
    assert_eq!(receiver.received("hangs").len(), 2, "of one subscription, so many at once");
    assert!(process.stop().success(), "an attempt under way is no reason to stay");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_hangs_holds_up_nobody_embedded() {
    hanging(Engine::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_hangs_holds_up_nobody_cluster() {
    hanging(Engine::Cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_are_not_followed_and_answers_need_not_end() {
    let receiver = Receiver::default();
    let url = receiver.start().await;
    let installation =
        Installation::new(Engine::Embedded).with(QUICK).with("notifications.timeout = \"5s\"");
    let mut process = installation.up().await;
    receiver.behave("redirects", Behaviour::Redirects("/inside"));
    receiver.behave("endless", Behaviour::Endless);
    let types = ["task.started"];
    let redirects = subscribe(&process, &[], &types, None, &format!("{url}/redirects")).await;
    let endless = subscribe(&process, &[], &types, None, &format!("{url}/endless")).await;
    start_task(&process, &schedule(&process, "a").await).await;
    let arrived = delivery(&process, &endless, "delivered").await;
    assert_eq!((&arrived["status"], &arrived["attempts"]), (&200.into(), &1.into()), "{arrived}");
    let refused = delivery(&process, &redirects, "retrying").await;
    assert_eq!(refused["status"], 307, "{refused}");
    process
        .until("further attempts", || async {
            (receiver.received("redirects").len() > 2).then_some(())
        })
        .await;
    assert!(receiver.received("inside").is_empty(), "nobody checked where that leads");
    assert!(process.stop().success());
}
