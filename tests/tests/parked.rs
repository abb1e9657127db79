//! Records that cannot be read or folded: at most their keys are set aside, and nothing else waits
//! for them.

use almanac_event_log::{
    Append, EventLog, Headers, Isolation, ReadLimit, Record, StoredRecord,
    embedded::{EmbeddedLog, EmbeddedOptions},
    kafka::KafkaLog,
    partitioner::partition_of,
};
use almanac_schemas::files::SchemaFile;
use almanac_tests::{
    process::{Engine, Installation, Process},
    provider::{Provider, feed},
    recipe,
};
use axum::{
    Router,
    body::to_bytes,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

/// Written into a name where the event will hold a NUL character instead.
const MARK: u8 = b'~';

/// Creates a recipe; its id, and the partition it lies in.
async fn create(process: &Process, name: &str, ingredient: &str) -> (String, u32) {
    let body = recipe(name, ingredient);
    let created = process.send("POST", "/v1/recipes", &[], body).await.unwrap();
    assert_eq!(created.status, StatusCode::CREATED, "{created:?}");
    let token = created.header("consistency-token");
    let partition = token.split('-').nth(1).unwrap().parse().unwrap();
    (created.body["id"].as_str().unwrap().to_owned(), partition)
}

/// The only event of a key.
async fn event_of(log: &dyn EventLog, topic: &str, partition: u32, key: &str) -> StoredRecord {
    let end = log.end(topic, partition, Isolation::Committed).await.unwrap();
    let mut reader = log.read_to(topic, partition, 0, end).await.unwrap();
    loop {
        let limit = ReadLimit { records: 1_000, bytes: 8 << 20 };
        let batch = reader.next(limit, Duration::from_secs(1)).await.unwrap();
        let is_it = |stored: &StoredRecord| stored.record.key == key.as_bytes();
        if let Some(found) = batch.records.into_iter().find(is_it) {
            return found;
        }
        assert!(batch.at_end.is_empty(), "no event of {key} in {topic}/{partition}");
    }
}

/// One value that is no event, and one event with a name that no table takes as a key, as another
/// version of the decider might have written them.
#[tokio::test(flavor = "multi_thread")]
async fn keys_of_events_that_cannot_be_folded_are_set_aside() {
    let installation = Installation::new(Engine::Cluster);
    let mut process = installation.up().await;
    let (damaged, partition) = create(&process, "first", "left~right").await;
    process.recipe_at(&damaged, 1).await;

    let log = KafkaLog::connect(almanac_tests::kafka()).unwrap();
    let topic = installation.topic("recipes.events");
    let stored = event_of(&log, &topic, partition, &damaged).await;
    let append = |record| Append { topic: topic.as_str().into(), partition, record };
    let mut unwritable = stored.record.clone();
    let value = unwritable.value.unwrap();
    assert_eq!(value.iter().filter(|byte| **byte == MARK).count(), 1);
    let with_nul = |byte: &u8| if *byte == MARK { 0 } else { *byte };
    unwritable.value = Some(value.iter().map(with_nul).collect::<Vec<u8>>().into());
    let mut unreadable = stored.record;
    unreadable.key = Bytes::from_static(b"nobody");
    unreadable.value = Some(Bytes::from_static(b"no event"));
    log.append(vec![append(unwritable), append(unreadable)]).await.unwrap();

    // And one with a key that no table takes, from the same hand.
    let mut endless = event_of(&log, &topic, partition, &damaged).await.record;
    endless.key = vec![b'k'; 70_000].into();
    endless.value = Some(Bytes::from_static(b"no event"));
    log.append(vec![append(endless)]).await.unwrap();
    process
        .until("three keys set aside", || async {
            (process.parked_keys("recipes").await == 3).then_some(())
        })
        .await;
    let longest = process.log().lines().map(str::len).max();
    assert!(longest < Some(4_000), "a line of the log has {longest:?} bytes");
    // A write of a parked key is decided, and read once the key is folded again.
    let path = format!("/v1/recipes/{damaged}");
    let revised = process.send("PUT", &path, &[], recipe("second", "salt")).await.unwrap();
    assert_eq!((revised.status, revised.version()), (StatusCode::OK, Some(2)));
    // Its token is never answered with less in silence.
    let token = revised.header("consistency-token").to_owned();
    let says_so = async |process: &Process| {
        let read = async |path: &str, headers: &[(&str, &str)]| {
            process.send("GET", path, headers, "").await.unwrap()
        };
        let token = ("consistency-token", token.as_str());
        let strict = [token, ("prefer", "handling=strict, wait=20")];
        let history = format!("{path}/history");
        for path in [path.as_str(), &history, "/v1/recipes?ingredient=salt"] {
            let refused = read(path, &strict).await;
            assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{path}: {refused:?}");
            let stale = read(path, &[token]).await;
            assert_eq!(
                (stale.status, stale.header("consistency")),
                (StatusCode::OK, "stale"),
                "{path}"
            );
        }
        assert_eq!(read(&path, &[]).await.header("consistency"), "stale", "also without a token");
        assert_eq!(read("/v1/recipes?ingredient=salt", &[]).await.header("consistency"), "");
    };
    says_so(&process).await;
    let others_go_on = async |process: &Process| {
        let mut was_beside = false;
        for number in 0..40 {
            let body = recipe(&format!("n{number}"), "pepper");
            let created = process.send("POST", "/v1/recipes", &[], body).await.unwrap();
            let strict = [
                ("consistency-token", created.header("consistency-token")),
                ("prefer", "handling=strict, wait=20"),
            ];
            for path in [created.header("location"), "/v1/recipes?ingredient=pepper"] {
                let answer = process.send("GET", path, &strict, "").await.unwrap();
                assert_eq!((answer.status, answer.header("consistency")), (StatusCode::OK, ""));
            }
            was_beside |= created.header("consistency-token").contains(&format!("-{partition}-"));
        }
        assert!(was_beside, "one of forty lies in the same partition of four");
        let (status, read) = process.get(&path).await;
        assert_eq!((status, &read["version"]), (StatusCode::OK, &json!(1)), "{read}");
    };
    others_go_on(&process).await;

    assert!(process.stop().success());
    process = installation.up().await;
    others_go_on(&process).await;
    says_so(&process).await;
    assert_eq!(process.parked_keys("recipes").await, 3, "they stay set aside after a restart");
}

/// What somebody else wrote onto topics of ours, on all of them, with keys of ours: a process that
/// reads them from their start passes over it, and goes on with what it can read.
#[tokio::test(flavor = "multi_thread")]
async fn values_that_are_no_records_hold_up_nobody() {
    const PLANS: u64 = 50;
    let provider = Provider::start().await;
    provider.serve(feed(PLANS, 1));
    let installation = Installation::new(Engine::Cluster).with_provider("feed", &provider.url());
    let mut process = installation.up().await;
    let (damaged, _) = create(&process, "first", "salt").await;
    let sequence = async |process: &Process| {
        let (_, list) = process.get("/v1/plans?limit=500").await;
        let mut plans = list["items"].as_array()?.iter();
        plans.find(|plan| plan["base_plan_id"] == "b0")?["sequence"].as_u64()
    };
    assert_eq!(process.until("a plan", async || sequence(&process).await).await, 1);
    assert!(process.stop().success());

    let log = KafkaLog::connect(almanac_tests::kafka()).unwrap();
    let topics = [
        "commands",
        "replies",
        "recipes.events",
        "ingest.requests",
        "ingest.state",
        "ingest.payloads",
        "projections.changes",
    ];
    let mut appends = Vec::new();
    for topic in topics {
        let topic: Arc<str> = installation.topic(topic).into();
        for partition in 0..log.topic(&topic).await.unwrap().partitions {
            for key in [damaged.as_str(), "feed", "nobody"] {
                let key = Bytes::copy_from_slice(key.as_bytes());
                let value = Some(Bytes::from_static(b"no record"));
                let record = Record { key, value, headers: Headers::default(), timestamp_ms: 0 };
                appends.push(Append { topic: topic.clone(), partition, record });
            }
        }
    }
    log.append(appends).await.unwrap();

    // Under another name, and so without any local state.
    let process = installation.start("up", "stranger");
    process.ready().await;
    for number in 0..40 {
        let (id, _) = create(&process, &format!("n{number}"), "pepper").await;
        process.recipe_at(&id, 1).await;
    }
    let path = format!("/v1/recipes/{damaged}");
    let refused = process.send("PUT", &path, &[], recipe("second", "salt")).await.unwrap();
    assert_eq!(refused.status, StatusCode::INTERNAL_SERVER_ERROR, "{refused:?}");
    assert!(process.log().contains("cannot be read"), "{}", process.log());

    let output = installation.command("stranger", &["ingest", "replay", "feed"]);
    assert!(output.status.success(), "{output:?}");
    provider.serve(feed(PLANS, 3));
    // What was known of the plan is known still: it changed, and was not listed anew.
    process
        .until("what changed", async || sequence(&process).await.filter(|seen| *seen == 2))
        .await;
}

async fn post(process: &Process, path: &str, body: Value) -> (StatusCode, Value) {
    let wait = [("prefer", "wait=20")];
    let answer = process.send("POST", path, &wait, body.to_string()).await.unwrap();
    (answer.status, answer.body)
}

async fn parked(process: &Process) -> Vec<Value> {
    let (status, list) = process.get("/v1/admin/parked?projection=recipes").await;
    assert_eq!(status, StatusCode::OK, "{list}");
    list["items"].as_array().unwrap().clone()
}

/// Runs a command; its status, and what it says.
fn run(installation: &Installation, arguments: &[&str]) -> (i32, String) {
    let output = installation.command("up", arguments);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code().unwrap(), said + &String::from_utf8_lossy(&output.stderr))
}

/// Writes what is no event under keys of a topic, while no process runs; after that, an event of one that a
/// decider can read when it takes over.
async fn poison(
    installation: &Installation,
    topic: &str,
    keys: &[&str],
    followed_by: Option<&str>,
) {
    let log: Arc<dyn EventLog> = match installation.engine {
        Engine::Cluster => Arc::new(KafkaLog::connect(almanac_tests::kafka()).unwrap()),
        Engine::Embedded => {
            let folder = installation.folder().join("up").join("log");
            Arc::new(EmbeddedLog::open(EmbeddedOptions::new(folder)).unwrap())
        }
    };
    let topic: Arc<str> = installation.topic(topic).into();
    let appends = keys.iter().map(|key| {
        let key = Bytes::copy_from_slice(key.as_bytes());
        let partition = partition_of(&key, 4);
        let value = Some(Bytes::from_static(b"no event"));
        let record = Record { key, value, headers: Headers::default(), timestamp_ms: 0 };
        Append { topic: topic.clone(), partition, record }
    });
    let mut appends: Vec<Append> = appends.collect();
    if let Some(key) = followed_by {
        // As the decider wrote the first one, with another name.
        let partition = partition_of(key.as_bytes(), 4);
        let mut record = event_of(&*log, &topic, partition, key).await.record;
        let value = record.value.unwrap();
        let renamed = value.iter().map(|byte| if *byte == MARK { b'Z' } else { *byte });
        record.value = Some(renamed.collect::<Vec<u8>>().into());
        appends.push(Append { topic: topic.clone(), partition, record });
    }
    log.append(appends).await.unwrap();
}

async fn listed_shown_and_discarded(engine: Engine) {
    let installation = Installation::new(engine);
    let mut process = installation.up().await;
    let (id, _) = create(&process, "left~right", "salt").await;
    process.recipe_at(&id, 1).await;
    assert!(process.stop().success());
    poison(&installation, "recipes.events", &[&id], Some(&id)).await;
    process = installation.up().await;
    let path = format!("/v1/recipes/{id}");
    let (other, _) = create(&process, "another", "salt").await;
    process.recipe_at(&other, 1).await;

    let all = process
        .until("a parked key", async || {
            let all = parked(&process).await;
            // The write after it is passed over.
            let is_there = all.len() == 1 && all[0]["last_offset"] != all[0]["offset"];
            is_there.then_some(all)
        })
        .await;
    assert_eq!((&all[0]["key"], &all[0]["reason"]), (&json!(id), &json!("event")), "{all:?}");
    assert!(all[0]["since"].is_string(), "{all:?}");
    let one = format!("/v1/admin/parked/recipes/{id}");
    let (status, shown) = process.get(&one).await;
    assert_eq!(status, StatusCode::OK, "{shown}");
    assert_eq!(shown["event"]["raw"], "6e6f206576656e74", "{shown}");
    assert!(shown["event"]["unread"].is_string() && shown["event"]["data"].is_null(), "{shown}");
    let (status, none) = process.get("/v1/admin/parked?reason=schema").await;
    assert_eq!((status, none["items"].as_array().unwrap().len()), (StatusCode::OK, 0));
    assert_eq!(process.get("/v1/admin/parked?limit=0").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(process.get("/v1/admin/parked/recipes/nobody").await.0, StatusCode::NOT_FOUND);

    // Another number than was believed: nothing is done.
    for (body, expected) in [
        (json!({"expect": 2, "filter": {"projection": "recipes"}}), StatusCode::CONFLICT),
        (json!({"filter": {}}), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({"expect": 1, "filter": [null, null]}), StatusCode::UNPROCESSABLE_ENTITY),
        (json!(["no reason", {}, 1]), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({"expect": 1, "everything": true}), StatusCode::UNPROCESSABLE_ENTITY),
    ] {
        let (status, answer) = post(&process, "/v1/admin/parked/discard", body).await;
        assert_eq!(status, expected, "{answer}");
    }
    assert_eq!(parked(&process).await.len(), 1);
    let (status, answer) = post(&process, &format!("{one}/redrive"), json!({"reason": "x"})).await;
    assert_eq!((status, &answer["succeeded"]), (StatusCode::OK, &json!(0)), "{answer}");
    assert_eq!(answer["failed"][0]["key"], id.as_str(), "{answer}");
    let (code, said) = run(&installation, &["parked", "redrive", "recipes", &id]);
    assert!(code == 1 && said.contains("0 succeeded, 1 failed"), "{code} {said}");
    let (code, said) = run(&installation, &["parked", "list"]);
    assert!(code == 0 && said.contains("PROJECTION") && said.contains(&id), "{code} {said}");
    let (code, said) = run(&installation, &["parked", "show", "recipes", &id]);
    assert!(code == 0 && said.contains("6e6f206576656e74"), "{code} {said}");
    assert_eq!(run(&installation, &["parked", "discard"]).0, 2);
    assert_eq!(run(&installation, &["parked", "discard", "recipes", "nobody"]).0, 4);
    assert_eq!(run(&installation, &["parked", "discard", "--expect", "7"]).0, 4);

    let discard =
        ["parked", "discard", "--key", &id, "--expect", "1", "--reason", "no recipe", "--json"];
    let (code, said) = run(&installation, &discard);
    assert_eq!(code, 0, "{said}");
    assert_eq!(parked(&process).await.len(), 0);
    // What came after it is folded, and readers are told that something is left out for good.
    let read = process
        .until("the write after it", async || {
            let read = process.send("GET", &path, &[], "").await.unwrap();
            (read.body["name"] == "leftZright").then_some(read)
        })
        .await;
    assert_eq!(read.header("consistency"), "incomplete");
    let revised = process.send("PUT", &path, &[], recipe("second", "salt")).await.unwrap();
    assert_eq!(revised.version(), Some(2), "{revised:?}");
    let strict = [
        ("consistency-token", revised.header("consistency-token")),
        ("prefer", "handling=strict, wait=20"),
    ];
    let read = process.send("GET", &path, &strict, "").await.unwrap();
    assert_eq!((read.status, &read.body["name"]), (StatusCode::OK, &json!("second")), "{read:?}");
    let (_, audit) = process.get("/v1/admin/audit").await;
    let noted: Vec<(&str, &str, &str)> = audit["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let text = |name: &str| one[name].as_str().unwrap();
            (text("action"), text("reason"), text("outcome"))
        })
        .collect();
    assert!(noted.contains(&("discard", "no recipe", "requested")), "{audit}");
    assert!(noted.contains(&("discard.reported", "no recipe", "1 succeeded, 0 failed")), "{audit}");
    let target = format!("recipes/{id}");
    assert!(audit["items"].as_array().unwrap().iter().all(|one| one["target"] == target));
    assert!(process.stop().success());
    process = installation.up().await;
    assert_eq!(process.recipe_at(&id, 2).await["name"], "second", "after a restart, too");
    assert_eq!(parked(&process).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_key_is_listed_shown_and_discarded() {
    listed_shown_and_discarded(Engine::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_key_is_listed_shown_and_discarded_on_the_cluster() {
    listed_shown_and_discarded(Engine::Cluster).await;
}

/// Too many at once: the projection waits for somebody, says so to whoever asks, and goes on by itself once
/// there is room.
#[tokio::test(flavor = "multi_thread")]
async fn many_parked_keys_stop_the_projection() {
    let installation = Installation::new(Engine::Embedded)
        .with("projector.max_parked_per_minute = 2\nprojector.stopped_retry = \"100ms\"");
    let mut process = installation.up().await;
    let (id, partition) = create(&process, "first", "salt").await;
    process.recipe_at(&id, 1).await;
    assert!(process.stop().success());
    let keys: Vec<String> = (0..1_000).map(|number| format!("key-{number}")).collect();
    let of_one = keys.iter().filter(|key| partition_of(key.as_bytes(), 4) == partition);
    let keys: Vec<&str> = of_one.take(3).map(String::as_str).collect();
    poison(&installation, "recipes.events", &keys, None).await;
    // Not ready while it is behind where the log ended at its start.
    process = installation.start("up", "up");
    let down = async |process: &Process| {
        // It may not listen yet.
        let shown = process.send("GET", "/v1/admin/projections/recipes", &[], "").await.ok()?;
        Some(shown.body["versions"][0]["down"].clone()).filter(Value::is_object)
    };
    let told = process.until("down", async || down(&process).await).await;
    assert_eq!(told["category"], "too_many_parked", "{told}");
    assert_eq!((&told["key"], &told["partition"]), (&json!(keys[2]), &json!(partition)), "{told}");
    let (_, shown) = process.get("/v1/admin/projections/recipes").await;
    let partitions = shown["versions"][0]["partitions"].as_array().unwrap();
    let behind = partitions.iter().find(|one| one["partition"] == partition).unwrap();
    assert!(behind["lag_s"].as_f64() > Some(0.0), "{shown}");
    let (_, ready) = process.get("/readyz").await;
    assert_eq!(ready["projections"], "standing still", "{ready}");
    process.kill();
    drop(process);
    process = installation.start("up", "up");
    let again = process.until("down still", async || down(&process).await).await;
    assert_eq!(again["since"], told["since"], "it outlives the process");

    let all = process
        .until("the keys", async || Some(parked(&process).await).filter(|all| all.len() == 2))
        .await;
    let body = json!({"expect": all.len(), "filter": {"reason": "event"}});
    let (status, done) = post(&process, "/v1/admin/parked/discard", body).await;
    assert_eq!((status, &done["succeeded"]), (StatusCode::OK, &json!(2)), "{done}");
    process.ready().await;
    let is_up = async || down(&process).await.is_none().then_some(());
    process.until("going on", is_up).await;
    process.until("the third", async || (parked(&process).await.len() == 1).then_some(())).await;
}

/// The id of a schema that the registry does not know until a test says so.
const LATE: u32 = 2_000_000_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Late {
    Unknown,
    /// Whoever asks waits.
    Waits,
    Known,
}

/// Stands before the registry, and answers for one schema itself.
struct LateRegistry {
    url: String,
    late: watch::Sender<Late>,
    /// How often the schema was asked for while that waits.
    asked: watch::Sender<usize>,
}

impl LateRegistry {
    async fn start() -> Arc<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (late, asked) = (watch::Sender::new(Late::Unknown), watch::Sender::new(0));
        let registry = Arc::new(Self { url, late, asked });
        let router = Router::new().fallback(Self::answer).with_state(registry.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        registry
    }

    async fn answer(State(registry): State<Arc<Self>>, request: Request) -> Response {
        let path = request.uri().path_and_query().unwrap().as_str().to_owned();
        if path.starts_with(&format!("/schemas/ids/{LATE}")) {
            return registry.late().await;
        }
        let address = almanac_tests::address("ALMANAC_TEST_REGISTRY");
        let (parts, body) = request.into_parts();
        let mut forwarded = almanac_tests::process::client()
            .request(parts.method, format!("{}{path}", address.trim_end_matches('/')))
            .body(to_bytes(body, 1 << 20).await.unwrap());
        if let Some(kind) = parts.headers.get("content-type") {
            forwarded = forwarded.header("content-type", kind);
        }
        let answer = forwarded.send().await.unwrap();
        (answer.status(), answer.bytes().await.unwrap()).into_response()
    }

    async fn late(&self) -> Response {
        if *self.late.borrow() == Late::Waits {
            self.asked.send_modify(|asked| *asked += 1);
        }
        let mut late = self.late.subscribe();
        let late = *late.wait_for(|late| *late != Late::Waits).await.unwrap();
        if late == Late::Known {
            let text = SchemaFile::newest("almanac.recipes.RecipeCreated").unwrap().text;
            return axum::Json(json!({"schema": text})).into_response();
        }
        let none = json!({"error_code": 40_403, "message": "Schema not found"});
        (StatusCode::NOT_FOUND, axum::Json(none)).into_response()
    }
}

/// An event whose schema is registered late: its key is redriven in order with what came after it. The
/// process is killed in the middle of that, and the next one completes it.
#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_outlives_the_process() {
    let registry = LateRegistry::start().await;
    let variables = [("ALMANAC__SCHEMA_REGISTRY__URL", registry.url.as_str())];
    let installation = Installation::new(Engine::Cluster);
    let mut process = installation.start_with("up", "up", &variables);
    process.ready().await;
    let (id, partition) = create(&process, "left~right", "salt").await;
    process.recipe_at(&id, 1).await;
    let log = KafkaLog::connect(almanac_tests::kafka()).unwrap();
    let topic = installation.topic("recipes.events");
    let mut record = event_of(&log, &topic, partition, &id).await.record;
    let value = record.value.unwrap();
    let mut late: Vec<u8> =
        value.iter().map(|byte| if *byte == MARK { b'Z' } else { *byte }).collect();
    late[1..5].copy_from_slice(&LATE.to_be_bytes());
    record.value = Some(late.into());
    let append = Append { topic: topic.as_str().into(), partition, record };
    log.append(vec![append]).await.unwrap();
    let all = process
        .until("a parked key", async || Some(parked(&process).await).filter(|all| all.len() == 1))
        .await;
    assert_eq!(all[0]["reason"], "schema", "{all:?}");
    let one = format!("/v1/admin/parked/recipes/{id}/redrive");
    let (status, answer) = post(&process, &one, json!({})).await;
    assert_eq!((status, &answer["succeeded"]), (StatusCode::OK, &json!(0)), "{answer}");

    registry.late.send_replace(Late::Waits);
    let begun = process.send("POST", &one, &[("prefer", "wait=0")], "{}").await.unwrap();
    assert_eq!(begun.status, StatusCode::ACCEPTED, "{begun:?}");
    registry.asked.subscribe().wait_for(|asked| *asked > 0).await.unwrap();
    process.kill();
    drop(process);
    registry.late.send_replace(Late::Known);
    process = installation.start_with("up", "up", &variables);
    process.ready().await;
    let folded = process
        .until("what was late", async || {
            let (_, read) = process.get(&format!("/v1/recipes/{id}")).await;
            (read["name"] == "leftZright").then_some(read)
        })
        .await;
    assert_eq!(folded["version"], 1);
    let reported = process
        .until("the report", async || {
            let (_, audit) = process.get("/v1/admin/audit").await;
            let items = audit["items"].as_array()?.clone();
            let done = |one: &&Value| one["outcome"] == "1 succeeded, 0 failed";
            items.iter().find(done).is_some().then_some(items)
        })
        .await;
    let count = |action: &str| reported.iter().filter(|one| one["action"] == action).count();
    assert_eq!((count("redrive"), count("redrive.reported")), (2, 2), "{reported:?}");
    assert_eq!(parked(&process).await.len(), 0);
    let revised =
        process.send("PUT", &format!("/v1/recipes/{id}"), &[], recipe("second", "salt")).await;
    assert_eq!(revised.unwrap().version(), Some(2));
    process.recipe_at(&id, 2).await;
}
