//! Notifications through the real binary: who subscribed is told, signed, once it can be reached.

mod python;
mod resend;
mod stream;
mod troubles;

use almanac_tests::{
    process::{Engine, Installation, Process},
    webhooks::{Behaviour, Received, Receiver, SECRET, subscribe},
};
use reqwest::StatusCode;
use serde_json::{Value, json};

/// Retries at once, to receivers on this machine.
const QUICK: &str = "notifications.private_addresses = true\n\
                     notifications.first_pause = \"100ms\"\n\
                     notifications.longest_pause = \"200ms\"";

async fn schedule(process: &Process, name: &str) -> String {
    let body = json!({
        "name": name, "location": {"lat": 61.5, "lon": 4.8},
        "tasks": [{"id": "lift", "duration": "PT4H"}],
    });
    let answer = process.send("POST", "/v1/schedules", &[], body.to_string()).await.unwrap();
    answer.body["id"].as_str().unwrap().to_owned()
}

async fn start_task(process: &Process, schedule: &str) {
    let path = format!("/v1/schedules/{schedule}/tasks/lift/start");
    let answer = process.send("POST", &path, &[], "{}").await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// Of a subscription, the newest first.
async fn deliveries(process: &Process, subscription: &str) -> Vec<Value> {
    let (status, page) =
        process.get(&format!("/v1/subscriptions/{subscription}/deliveries?limit=500")).await;
    // The tables may not have the subscription yet.
    if status == StatusCode::NOT_FOUND {
        return Vec::new();
    }
    assert_eq!(status, StatusCode::OK, "{page}");
    page["items"].as_array().unwrap().clone()
}

/// The first delivery that is in this state, once there is one.
async fn delivery(process: &Process, subscription: &str, state: &str) -> Value {
    process
        .until(&format!("a delivery that is {state}"), || async {
            let all = deliveries(process, subscription).await;
            all.into_iter().rfind(|one| one["state"] == state)
        })
        .await
}

async fn told(engine: Engine) {
    let receiver = Receiver::default();
    let url = receiver.start().await;
    let installation = Installation::new(engine).with(QUICK);
    let mut process = installation.up().await;
    let before = schedule(&process, "Turbine 7").await;
    let all =
        subscribe(&process, &[], &["task.started", "recipe.created"], None, &format!("{url}/all"))
            .await;
    let mine = schedule(&process, "Turbine 7").await;
    subscribe(&process, &[], &["task.started"], Some(&mine), &format!("{url}/one")).await;
    let gone = subscribe(&process, &[], &["task.started"], None, &format!("{url}/gone")).await;
    receiver.behave("all", Behaviour::Status(503));
    receiver.behave("gone", Behaviour::Status(410));
    start_task(&process, &before).await;
    start_task(&process, &mine).await;
    let subjects = |received: &[Received]| -> Vec<String> {
        let subject = |one: &Received| one.body["subject"].as_str().unwrap().to_owned();
        received.iter().map(subject).collect()
    };
    process
        .until("the subject's notification", || async {
            (subjects(&receiver.received("one")) == [mine.as_str()]).then_some(())
        })
        .await;
    let Received { id, body, .. } = receiver.received("one").remove(0);
    assert_eq!((&body["id"], &body["type"]), (&json!(id), &json!("task.started")));
    assert_eq!(body["data"]["task"], "lift");
    assert_eq!(body["source"], format!("/v1/schedules/{mine}"));

    // 410 disables; what is not taken is sent again, with the same id.
    let path = format!("/v1/subscriptions/{gone}");
    process
        .until("the subscription is disabled", || async {
            let (_, body) = process.get(&path).await;
            body["disabled"]["reason"].as_str().is_some_and(|it| it.contains("410")).then_some(())
        })
        .await;
    process
        .until("two attempts", || async { (receiver.received("all").len() > 3).then_some(()) })
        .await;
    // What is due survives a restart, and nothing that was told is told again.
    assert!(process.stop().success());
    let tried = receiver.received("all").len();
    receiver.behave("all", Behaviour::Status(204));
    let mut process = installation.up().await;
    let path = format!("/v1/subscriptions/{all}/deliveries");
    let deliveries = process
        .until("what was due has arrived", || async {
            let (_, body) = process.get(&path).await;
            let items = body["items"].as_array()?.clone();
            let is_over = items.len() == 2 && items.iter().all(|item| item["state"] == "delivered");
            is_over.then_some(items)
        })
        .await;
    assert!(deliveries.iter().all(|item| item["attempts"].as_u64() > Some(1)), "{deliveries:?}");
    let received = receiver.received("all");
    assert_eq!(received.len(), tried + 2, "each once more");
    assert_eq!(receiver.ids("all").len(), 2, "attempts of one event have one id");
    assert_eq!(receiver.received("one").len(), 1);

    // A recipe is public; after its subscription was deleted nobody is told.
    let recipe = almanac_tests::recipe("Soup", "salt");
    process.send("POST", "/v1/recipes", &[], recipe.clone()).await.unwrap();
    let is_told = || async {
        receiver
            .received("all")
            .iter()
            .any(|one| one.body["type"] == "recipe.created")
            .then_some(())
    };
    process.until("the recipe is told", is_told).await;
    let path = format!("/v1/subscriptions/{all}");
    assert_eq!(process.send("DELETE", &path, &[], "").await.unwrap().status, 200);
    let count = receiver.received("all").len();
    process.send("POST", "/v1/recipes", &[], recipe.clone()).await.unwrap();
    subscribe(&process, &[], &["recipe.created"], None, &format!("{url}/marker")).await;
    process.send("POST", "/v1/recipes", &[], recipe).await.unwrap();
    process
        .until("a later event", || async { (receiver.received("marker").len() == 1).then_some(()) })
        .await;
    assert_eq!(receiver.received("all").len(), count, "it was deleted");
    assert!(process.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_are_told_on_both_engines() {
    told(Engine::Embedded).await;
    told(Engine::Cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_and_secrets_are_guarded() {
    let installation = Installation::new(Engine::Embedded);
    let mut process = installation.up().await;
    let post = |body: Value, key: &'static str| {
        let process = &process;
        async move {
            let key = [("idempotency-key", key)];
            process.send("POST", "/v1/subscriptions", &key, body.to_string()).await.unwrap()
        }
    };
    let body =
        |url: &str, secret: &str| json!({"types": ["task.started"], "url": url, "secret": secret});
    for url in ["http://example.com/", "https://127.0.0.1/", "https://[::ffff:10.0.0.1]/"] {
        let refused = post(body(url, SECRET), "a").await;
        assert_eq!(refused.status, 422, "{refused:?}");
        assert_eq!(refused.body["errors"][0]["pointer"], "#/url");
    }
    let created = post(body("https://example.com/", SECRET), "b").await;
    assert_eq!(created.status, 201, "{created:?}");
    assert!(!created.body.to_string().contains("whsec"), "{created:?}");
    let again = post(body("https://example.com/", SECRET), "b").await;
    assert_eq!(again.body, created.body);
    let other = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI0";
    assert_eq!(post(body("https://example.com/", other), "b").await.status, 422);
    let (_, events) = process.get("/v1/events/subscriptions.events").await;
    assert_eq!(events["items"].as_array().unwrap().len(), 1);
    assert!(!events.to_string().contains("MDEyMzQ1"), "only sealed: {events}");
    assert!(process.stop().success());
}
