//! Notifications as server-sent events: the same as webhooks, without loss or repetition across
//! connections, and nobody else's.

use super::{QUICK, schedule, start_task};
use almanac_tests::{
    process::{Engine, Installation, PATIENCE, Process, client},
    sse::{Event, Events},
    webhooks::{Receiver, subscribe},
};
use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const TYPES: [&str; 5] =
    ["analysis.completed", "window.lost", "window.opened", "task.started", "recipe.created"];

fn stream(process: &Process, types: &[&str], more: &str) -> RequestBuilder {
    let types: Vec<String> = types.iter().map(|one| format!("type={one}")).collect();
    client().get(process.url(&format!("/v1/notifications/stream?{}{more}", types.join("&"))))
}

/// Analyses a stored schedule: waves of the whole day are `waves` high.
async fn analyse(process: &Process, schedule: &str, waves: f64) -> String {
    let points: Vec<Value> = (0..24)
        .map(|hour| json!({"time": format!("2025-08-20T{hour:02}:00:00Z"), "wave_height_m": waves}))
        .collect();
    let forecast = json!({"source": "own", "step": "PT1H", "points": points});
    let body = json!({"schedule_id": schedule, "forecast": forecast}).to_string();
    let answer = process.send("POST", "/v1/analyses", &[], body).await.unwrap();
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
    let path = answer.header("location").to_owned();
    let done = || async {
        let (_, body) = process.get(&path).await;
        (body["state"] == "completed").then_some(())
    };
    process.until("the analysis", done).await;
    answer.body["request_id"].as_str().unwrap().to_owned()
}

async fn limited_schedule(process: &Process) -> String {
    let limits = json!([{"variable": "wave_height_m", "max": 2.0}]);
    let tasks = json!([{"id": "lift", "duration": "PT4H", "limits": limits},
                       {"id": "tow", "duration": "PT1H", "limits": limits}]);
    let body = json!({"name": "T", "location": {"lat": 61.5, "lon": 4.8}, "tasks": tasks});
    let answer = process.send("POST", "/v1/schedules", &[], body.to_string()).await.unwrap();
    answer.body["id"].as_str().unwrap().to_owned()
}

fn told(event: &Event) -> (String, Value) {
    assert_eq!(event.name, event.data["type"]);
    (event.data["id"].as_str().unwrap().to_owned(), event.data.clone())
}

/// By id, each once.
fn ids(events: &[Event]) -> BTreeSet<String> {
    let ids: BTreeSet<String> = events.iter().map(|event| told(event).0).collect();
    assert_eq!(ids.len(), events.len(), "none twice");
    ids
}

async fn streamed(engine: Engine) {
    let receiver = Receiver::default();
    let url = receiver.start().await;
    let installation = Installation::new(engine).with(QUICK);
    let mut process = installation.up().await;
    subscribe(&process, &[], &TYPES, None, &format!("{url}/all")).await;
    let mut events = Events::open(stream(&process, &TYPES, "")).await;
    events.started().await;
    let from_the_start = events.last_id.clone();

    let planned = limited_schedule(&process).await;
    let calm = analyse(&process, &planned, 1.0).await;
    let rough = analyse(&process, &planned, 3.0).await;
    // Completed twice, and a window lost for both tasks.
    let mut seen = events.take(4).await;
    let named = |events: &[Event], name: &str| events.iter().filter(|one| one.name == name).count();
    assert_eq!(
        (named(&seen, "analysis.completed"), named(&seen, "window.lost")),
        (2, 2),
        "{seen:?}"
    );
    let lost: Vec<&Event> = seen.iter().filter(|one| one.name == "window.lost").collect();
    for (event, task) in lost.iter().zip(["lift", "tow"]) {
        assert_eq!(event.data["subject"], planned);
        assert_eq!(event.data["id"], format!("{rough}.2/window.lost/{task}"), "{event:?}");
    }
    // Between the notifications of one event, too, a client goes on where it was.
    let within = lost[0].id.clone();
    let rest = Events::open(stream(&process, &TYPES, "").header("last-event-id", &within)).await;
    let (mut rest, expected) = (rest, told(lost[1]));
    assert_eq!(told(&rest.next().await.unwrap()), expected);
    drop(rest);

    // What happens while nobody is connected is told afterwards.
    let last = events.last_id.clone();
    drop(events);
    analyse(&process, &planned, 1.0).await;
    start_task(&process, &schedule(&process, "other").await).await;
    let recipe = almanac_tests::recipe("Soup", "salt");
    process.send("POST", "/v1/recipes", &[], recipe).await.unwrap();
    let mut events = Events::open(stream(&process, &TYPES, &format!("&after={last}"))).await;
    let later = events.take(5).await;
    assert_eq!(
        (named(&later, "window.opened"), named(&later, "task.started")),
        (2, 1),
        "{later:?}"
    );
    seen.extend(later);

    // Read once more it is the same, and the same as what is sent.
    let again = stream(&process, &TYPES, "").header("last-event-id", &from_the_start);
    let again = Events::open(again).await.take(9).await;
    assert_eq!(ids(&again), ids(&seen));
    let sent = || async { (receiver.ids("all").len() == 9).then_some(()) };
    process.until("the webhooks", sent).await;
    assert_eq!(receiver.ids("all"), ids(&seen));
    for one in receiver.received("all") {
        let event = seen.iter().find(|event| told(event).0 == one.id).unwrap();
        assert_eq!(one.body, event.data);
    }

    // Of one subject: a schedule's, or an analysis'.
    for (subject, types, expected) in [
        (&planned, &TYPES[..], 7),
        (&planned, &["window.lost", "recipe.created"][..], 2),
        (&calm, &["analysis.completed"][..], 1),
    ] {
        let request = continue_from_the_start(&process, types, subject).await;
        let found = Events::open(request).await.take(expected).await;
        assert!(found.iter().all(|one| types.contains(&one.name.as_str())), "{found:?}");
    }
    for (types, after) in [(&["plan.sold"][..], "latest"), (&TYPES, "x"), (&TYPES[..1], &*last)] {
        let refused = stream(&process, types, "").header("last-event-id", after);
        assert_eq!(refused.send().await.unwrap().status(), StatusCode::BAD_REQUEST, "{after}");
    }
    assert!(process.stop().success(), "open streams are no reason to stay");
}

/// A request for what happened since the topics were made.
async fn continue_from_the_start(
    process: &Process,
    types: &[&str],
    subject: &str,
) -> RequestBuilder {
    let mut now = Events::open(stream(process, types, "")).await;
    now.started().await;
    let (topics, offsets) = now.last_id.split_once('_').unwrap();
    let zero = |part: &str| part.split('.').map(|_| "0").collect::<Vec<_>>().join(".");
    let offsets: Vec<String> = offsets.split('_').map(zero).collect();
    let from = format!("{topics}_{}", offsets.join("_"));
    stream(process, types, &format!("&subject={subject}")).header("last-event-id", from)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_what_webhooks_tell_embedded() {
    streamed(Engine::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_what_webhooks_tell_cluster() {
    streamed(Engine::Cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_opens_one_stream_of_its_subject() {
    // Not even public things are read without a token.
    let installation = Installation::new(Engine::Embedded).with("identity.reads = \"token\"");
    let mut process = installation.up().await;
    let bearer = |subject: &str| {
        let scope = "schedules:write recipes:write";
        let minted = installation.command("up", &["token", "--scope", scope, "--subject", subject]);
        format!("Bearer {}", String::from_utf8(minted.stdout).unwrap().trim())
    };
    let (mary, eve) = (bearer("mary"), bearer("eve"));
    let send = async |token: &str, path: &str, body: Value| {
        let headers = [("authorization", token)];
        process.send("POST", path, &headers, body.to_string()).await.unwrap()
    };
    let ticket = send(&mary, "/v1/notifications/tickets", json!({})).await;
    assert_eq!(ticket.status, StatusCode::CREATED, "{ticket:?}");
    assert_eq!(ticket.header("cache-control"), "private, no-store");
    let ticket = ticket.body["ticket"].as_str().unwrap().to_owned();
    let types = ["schedule.created", "recipe.created"];
    // A proxy says that this is nobody local.
    let with_ticket = || {
        let request = stream(&process, &types, &format!("&ticket={ticket}"));
        request.header("x-forwarded-for", "192.0.2.1")
    };
    let mut hers = Events::open(with_ticket()).await;
    assert_eq!(with_ticket().send().await.unwrap().status(), StatusCode::UNAUTHORIZED, "used");
    for unknown in ["x", "00000000000040008000000000000000"] {
        let request = stream(&process, &types, &format!("&ticket={unknown}"));
        assert_eq!(request.send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    }
    let others = stream(&process, &types, "").header("authorization", &eve);
    let mut others = Events::open(others).await;
    others.started().await;
    hers.started().await;
    let task = json!({"id": "lift", "duration": "PT4H"});
    let body = json!({"name": "Hers", "location": {"lat": 61, "lon": 4}, "tasks": [task]});
    assert_eq!(send(&mary, "/v1/schedules", body).await.status, StatusCode::CREATED);
    assert_eq!(hers.next().await.unwrap().name, "schedule.created");
    for _ in 0..3 {
        let recipe = serde_json::from_str(&almanac_tests::recipe("Soup", "salt")).unwrap();
        assert_eq!(send(&mary, "/v1/recipes", recipe).await.status, StatusCode::CREATED);
    }
    for event in others.take(3).await {
        assert_eq!(event.name, "recipe.created", "a schedule is its owner's");
    }
    assert!(process.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_bounded_and_end() {
    let installation = Installation::new(Engine::Embedded)
        .with("http.event_streams = 4\nhttp.event_stream_time = \"2s\"");
    let mut process = installation.up().await;
    // One place for each of the four topics that notifications come from.
    let mut all = Events::open(stream(&process, &[], "")).await;
    let refused = stream(&process, &["recipe.created"], "").send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    let ended = tokio::time::timeout(PATIENCE, all.next()).await;
    assert!(ended.expect("it ends").is_none(), "nothing was told");
    // Its places are free again.
    process
        .until("room for another", || async {
            let answer = stream(&process, &["recipe.created"], "").send().await.unwrap();
            (answer.status() == StatusCode::OK).then_some(())
        })
        .await;
    assert!(process.stop().success());
}
