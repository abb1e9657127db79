//! Tables are rebuilt beside the live ones, compared, switched to and rolled back from, while clients write
//! and read with tokens.

use almanac_tests::{
    process::{Engine, Installation, Process},
    recipe,
};
use reqwest::StatusCode;
use scylla::client::{session::Session, session_builder::SessionBuilder};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

async fn post(process: &Process, path: &str, body: Value) -> (StatusCode, Value) {
    let answer = process.send("POST", path, &[], body.to_string()).await.unwrap();
    (answer.status, answer.body)
}

async fn create(process: &Process, name: &str) -> (String, String) {
    let created = process.send("POST", "/v1/recipes", &[], recipe(name, "salt")).await.unwrap();
    assert_eq!(created.status, StatusCode::CREATED, "{created:?}");
    let token = created.header("consistency-token").to_owned();
    (created.body["id"].as_str().unwrap().to_owned(), token)
}

async fn rebuild(process: &Process, body: Value) -> String {
    let (status, begun) = post(process, "/v1/admin/projections/recipes/rebuilds", body).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{begun}");
    begun["id"].as_str().unwrap().to_owned()
}

async fn until(
    process: &Process,
    id: &str,
    what: &str,
    is_there: impl Fn(&Value) -> bool,
) -> Value {
    let path = format!("/v1/admin/rebuilds/{id}");
    let (path, is_there) = (&path, &is_there);
    process
        .until(what, || async move {
            let (_, found) = process.get(path).await;
            assert_ne!(found["state"], "failed", "{found}");
            is_there(&found).then_some(found)
        })
        .await
}

async fn act(process: &Process, id: &str, verb: &str) -> Value {
    let path = format!("/v1/admin/rebuilds/{id}/{verb}");
    let (status, body) = post(process, &path, json!({"reason": "a test"})).await;
    assert_eq!(status, StatusCode::OK, "{verb}: {body}");
    body
}

/// Writes and reads its own writes all the time, until it sees something wrong.
struct Client {
    stop: Arc<AtomicBool>,
    reads: Arc<AtomicUsize>,
    run: tokio::task::JoinHandle<()>,
}

impl Client {
    /// Writes a recipe at one process and reads it from each of some.
    fn begin(writer: &Process, readers: &[&Process], id: &str) -> Self {
        let (stop, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let address = |process: &Process| process.url(&format!("/v1/recipes/{id}"));
        let writes: String = address(writer);
        let readers: Vec<String> = readers.iter().map(|process| address(process)).collect();
        let run = {
            let (stop, reads) = (stop.clone(), reads.clone());
            tokio::spawn(async move {
                let http = almanac_tests::process::client();
                while !stop.load(Ordering::SeqCst) {
                    let number = reads.load(Ordering::SeqCst);
                    let body = recipe(&format!("name {number}"), "salt");
                    let written = http.put(&writes).body(body).send().await.unwrap();
                    assert_eq!(written.status(), StatusCode::OK);
                    let token = written.headers()["consistency-token"].clone();
                    let written: Value = written.json().await.unwrap();
                    for address in &readers {
                        let read = http.get(address).header("consistency-token", &token);
                        let read = read.header("prefer", "handling=strict, wait=20");
                        let read = read.send().await.unwrap();
                        let (status, found) = (read.status(), read.text().await.unwrap());
                        assert_eq!(status, StatusCode::OK, "{address}: {found}");
                        let found: Value = serde_json::from_str(&found).unwrap();
                        let (found, written) = (&found["version"], &written["version"]);
                        assert_eq!(found, written, "{address}: an old answer to a token");
                    }
                    reads.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        Self { stop, reads, run }
    }

    async fn goes_on(&self, process: &Process) {
        let before = self.reads.load(Ordering::SeqCst);
        process
            .until("reads after it", || async {
                assert!(!self.run.is_finished(), "the client saw something wrong");
                (self.reads.load(Ordering::SeqCst) > before + 5).then_some(())
            })
            .await;
    }

    async fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.run.await.unwrap();
    }
}

async fn switched_and_rolled_back(engine: Engine) {
    let installation = Installation::new(engine);
    let mut process = installation.up().await;
    let (id, _) = create(&process, "first").await;
    for number in 0..20 {
        create(&process, &format!("recipe {number}")).await;
    }
    let client = Client::begin(&process, &[&process], &id);
    let rebuilt = rebuild(&process, json!({"reason": "to see it work", "events_per_s": 0})).await;
    let (status, refused) =
        post(&process, "/v1/admin/projections/recipes/rebuilds", json!({"reason": "x"})).await;
    assert_eq!(status, StatusCode::CONFLICT, "{refused}");
    let ready = until(&process, &rebuilt, "ready", |one| one["state"] == "ready").await;
    assert_eq!(ready["different_rows"], 0, "{ready}");
    let certificate = &ready["certificate"];
    assert_eq!(certificate["live"], certificate["rebuilt"], "{certificate}");
    for (verb, serves) in [("activate", true), ("rollback", false), ("activate", true)] {
        act(&process, &rebuilt, verb).await;
        until(&process, &rebuilt, verb, |one| one["serving"] == serves).await;
        client.goes_on(&process).await;
        // The tables say nothing of what else may be done at an address.
        let address = "/v1/recipes/01980000-0000-7000-8000-000000000000";
        let options = process.send("OPTIONS", address, &[], "").await.unwrap();
        assert_eq!(options.headers["allow"], "GET,HEAD,PUT,PATCH,DELETE");
    }
    client.end().await;
    // After a restart reads come from the same tables.
    process.kill();
    drop(process);
    process = installation.up().await;
    until(&process, &rebuilt, "serving again", |one| one["serving"] == true).await;
    act(&process, &rebuilt, "drop").await;
    let (_, audit) = process.get("/v1/admin/audit").await;
    let actions: Vec<&str> = audit["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["action"].as_str().unwrap())
        .collect();
    assert_eq!(actions[..4], ["drop", "activate", "rollback", "activate"], "{audit}");
    let way: Vec<[&Value; 3]> = audit["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| ["type", "before", "outcome"].map(|name| &item[name]))
        .collect();
    assert_eq!(
        way[1..4],
        [
            ["generation.activated", "rolled_back", "active"],
            ["generation.rolled_back", "active", "rolled_back"],
            ["generation.activated", "ready", "active"],
        ],
        "{audit}"
    );
    assert!(way.last().is_some_and(|first| first[1].is_null()), "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_is_switched_to_and_rolled_back_under_writes() {
    switched_and_rolled_back(Engine::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_is_switched_to_and_rolled_back_under_writes_on_the_cluster() {
    switched_and_rolled_back(Engine::Cluster).await;
}

/// Each query API switches by itself: one that is stopped, while others switch and the tables before are dropped,
/// switches when it goes on, and answers in between as before or not at all.
#[tokio::test(flavor = "multi_thread")]
async fn query_apis_switch_one_after_the_other() {
    let installation = Installation::new(Engine::Cluster);
    let first = installation.up().await;
    let second = installation.start("query-api", "second");
    second.ready().await;
    let (id, _) = create(&first, "first").await;
    let client = Client::begin(&first, &[&first, &second], &id);
    let request = json!({"reason": "two of them", "events_per_s": 0});
    let rebuilt = rebuild(&first, request).await;
    for process in [&first, &second] {
        until(process, &rebuilt, "ready", |one| one["state"] == "ready").await;
    }
    for (verb, serves) in [("activate", true), ("rollback", false)] {
        act(&first, &rebuilt, verb).await;
        for process in [&first, &second] {
            until(process, &rebuilt, verb, |one| one["serving"] == serves).await;
        }
        client.goes_on(&first).await;
    }
    client.end().await;

    second.pause().await;
    act(&first, &rebuilt, "activate").await;
    until(&first, &rebuilt, "activate", |one| one["serving"] == true).await;
    act(&first, &rebuilt, "drop").await;
    until(&first, &rebuilt, "dropped", |one| one["dropped"] == true).await;
    let path = format!("/v1/recipes/{id}");
    let written = first.send("PUT", &path, &[], recipe("the last", "salt")).await.unwrap();
    let read = [
        ("consistency-token", written.header("consistency-token")),
        ("prefer", "handling=strict, wait=20"),
    ];
    // What it finds when it goes on: a request that came before it hears of the switch.
    let goes_on = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        second.signal("CONT");
    };
    let (answer, ()) = tokio::join!(second.send("GET", &path, &read, ""), goes_on);
    let answer = answer.unwrap();
    match answer.status {
        StatusCode::OK => assert_eq!(answer.version(), written.version(), "an old answer"),
        status => assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}"),
    }
    until(&second, &rebuilt, "the switch of the second", |one| one["serving"] == true).await;
    let client = Client::begin(&first, &[&first, &second], &id);
    client.goes_on(&first).await;
    client.end().await;
}

/// Killed in each state on its way, a rebuild goes on where it stood.
#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_outlives_the_process_in_each_state() {
    let installation = Installation::new(Engine::Embedded);
    let mut process = installation.up().await;
    for number in 0..40 {
        create(&process, &format!("recipe {number}")).await;
    }
    // Slow enough to be met on its way.
    let slow = json!({"reason": "slowly", "events_per_s": 10});
    let id = rebuild(&process, slow).await;
    process.kill();
    drop(process);
    process = installation.up().await;
    until(&process, &id, "hydrating again", |one| one["progress"]["share"].as_f64() > Some(0.0))
        .await;
    act(&process, &id, "pause").await;
    process.kill();
    drop(process);
    process = installation.up().await;
    let (_, paused) = process.get(&format!("/v1/admin/rebuilds/{id}")).await;
    assert_eq!(paused["state"], "paused", "{paused}");
    act(&process, &id, "resume").await;
    let ready = until(&process, &id, "ready", |one| one["state"] == "ready").await;
    assert_eq!(ready["different_rows"], 0, "{ready}");
    act(&process, &id, "activate").await;
    process.kill();
    drop(process);
    process = installation.up().await;
    until(&process, &id, "serving", |one| one["serving"] == true).await;
    let (status, list) = process.get("/v1/recipes?limit=100").await;
    assert_eq!((status, list["items"].as_array().unwrap().len()), (StatusCode::OK, 40));
}

/// A certificate holds on the same installation later, and the command line tells each outcome.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_verified_from_the_command_line() {
    let installation = Installation::new(Engine::Embedded);
    let process = installation.up().await;
    for number in 0..10 {
        create(&process, &format!("recipe {number}")).await;
    }
    let run = |arguments: &[&str]| {
        let output = installation.command("up", arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        (output.status.code().unwrap(), text, output.stdout)
    };
    let rebuild =
        ["projections", "rebuild", "recipes", "--dry-run", "--json", "--events-per-s", "0"];
    let (code, text, json) = run(&rebuild);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("reads up to") && text.contains(" hydrating, "), "{text}");
    assert!(!text.contains('\u{1b}'), "a bar is for terminals: {text}");
    // On a terminal there is a bar, which is gone at the end.
    let almanac = almanac_tests::process::binary().display().to_string();
    let file = installation.folder().join("up.toml").display().to_string();
    let line = format!("{almanac} --config {file} projections rebuild recipes --dry-run");
    let mut on_terminal = std::process::Command::new("script");
    on_terminal.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm");
    let on_terminal = on_terminal.output().unwrap();
    let shown = String::from_utf8_lossy(&on_terminal.stdout).into_owned();
    assert!(on_terminal.status.success(), "{shown}");
    assert!(shown.contains('█') || shown.contains('░'), "{shown}");
    let mut outcome: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!((&outcome["state"], &outcome["dropped"]), (&json!("ready"), &json!(true)));
    // More happens; the certificate is of what was.
    create(&process, "later").await;
    let file = installation.folder().join("certificate.json");
    std::fs::write(&file, outcome["certificate"].to_string()).unwrap();
    let file = file.to_str().unwrap();
    let (code, text, _) = run(&["projections", "verify", "--certificate", file]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("as certified"), "{text}");
    outcome["certificate"]["rebuilt"]["digest"] = json!("00");
    std::fs::write(file, outcome["certificate"].to_string()).unwrap();
    let (code, text, _) = run(&["projections", "verify", "--certificate", file]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("the digest of the tables"), "{text}");
    // Nor are positions waited for that this log does not reach.
    for at in outcome["certificate"]["positions"].as_object_mut().unwrap().values_mut() {
        at["position"] = json!(1_000_000);
    }
    std::fs::write(file, outcome["certificate"].to_string()).unwrap();
    let (code, text, _) = run(&["projections", "verify", "--certificate", file]);
    assert!(code == 1 && text.contains("which the rebuild is to reach"), "{text}");
    assert_eq!(run(&["projections", "activate", "recipes"]).0, 4, "a dry run is never switched to");
    assert_eq!(run(&["projections", "rebuild", "nothing"]).0, 4);
    let (code, text, _) = run(&["audit"]);
    assert!(code == 0 && text.contains("local  rebuilds recipes/"), "{text}");
}

/// Somebody changes a row in the database: a dry run finds it, and names it by row and column.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_somebody_changed_is_named() {
    let installation = Installation::new(Engine::Cluster);
    let process = installation.up().await;
    let (id, _) = create(&process, "first").await;
    create(&process, "second").await;
    process.recipe_at(&id, 1).await;
    let node = almanac_tests::address("ALMANAC_TEST_SCYLLA");
    let session = SessionBuilder::new().known_node(node).build().await.unwrap();
    let table = format!("{}.recipes_v{}", installation.name, almanac_tables::recipes::VERSION);
    let bucket = almanac_tables::recipes::id_bucket(&id);
    let read = format!("SELECT body, WRITETIME(body) FROM {table} WHERE bucket = ? AND item = ?");
    let found = session.query_unpaged(read, (bucket, &id)).await.unwrap();
    let (body, time) = found.into_rows_result().unwrap().single_row::<(String, i64)>().unwrap();
    let changed = body.replace("\"name\":\"first\"", "\"name\":\"worst\"");
    assert_ne!(changed, body);
    let write =
        format!("UPDATE {table} USING TIMESTAMP ? SET body = ? WHERE bucket = ? AND item = ?");
    session.query_unpaged(write, (time, &changed, bucket, &id)).await.unwrap();
    let dry = json!({"reason": "to find it", "dry_run": true, "events_per_s": 0});
    let run = rebuild(&process, dry).await;
    let done = until(&process, &run, "the end", |one| one["dropped"] == true).await;
    assert_eq!((&done["state"], &done["different_rows"]), (&json!("ready"), &json!(1)), "{done}");
    let named = done["differences"].as_array().unwrap();
    assert!(
        named.iter().all(|one| one["table"] == "recipes" && one["key"] == id.as_str()),
        "{done}"
    );
    assert!(named.iter().any(|one| one["column"].as_str().unwrap().starts_with("body")), "{done}");
    let (live, rebuilt) = (&named[0]["live"], &named[0]["rebuilt"]);
    assert!(
        live.as_str().unwrap().contains("worst") && rebuilt.as_str().unwrap().contains("first")
    );
    assert_ne!(done["certificate"]["live"]["digest"], done["certificate"]["rebuilt"]["digest"]);
    a_row_is_repaired(&installation, &process, &id).await;
    its_history_says_where_its_events_lie(&installation, &process, &session, &id).await;
}

/// Only if it is whole, which is not believed of one that ends before the newest row of its key.
async fn its_history_says_where_its_events_lie(
    installation: &Installation,
    process: &Process,
    session: &Session,
    id: &str,
) {
    let path = format!("/v1/recipes/{id}");
    let revised = process.send("PUT", &path, &[], recipe("second", "pepper")).await.unwrap();
    assert_eq!(revised.status, StatusCode::OK, "{revised:?}");
    process.recipe_at(id, 2).await;
    let (name, version) = (&installation.name, almanac_tables::recipes::VERSION);
    let history = format!("{name}.recipe_history_v{version}");
    let bucket = almanac_tables::recipes::history_bucket(id, 1);
    let repaired = async || {
        let only = json!({"reason": "a row of its history is gone", "only": {"key": id}});
        let run = rebuild(process, only).await;
        until(process, &run, "the repair", |one| one["state"] == "active").await;
        let log = process.log();
        log.lines().rfind(|line| line.contains("repairing rows")).unwrap().to_owned()
    };
    let line = repaired().await;
    assert!(line.contains("is_whole=false"), "{line}");
    for number in [2, 1] {
        let item = almanac_tables::history::key(id, number);
        let read = format!("SELECT WRITETIME(body) FROM {history} WHERE bucket = ? AND item = ?");
        let found = session.query_unpaged(read, (&bucket, &item)).await.unwrap();
        let (time,) = found.into_rows_result().unwrap().single_row::<(i64,)>().unwrap();
        // As old as the row: a repair wins over it.
        let delete =
            format!("DELETE FROM {history} USING TIMESTAMP ? WHERE bucket = ? AND item = ?");
        session.query_unpaged(delete, (time, &bucket, &item)).await.unwrap();
        let line = repaired().await;
        assert!(line.contains("is_whole=true"), "{number}: {line}");
        let line = repaired().await;
        assert!(line.contains("is_whole=false"), "{number}: {line}");
    }
}

/// Its key is folded once more over the row that is there.
async fn a_row_is_repaired(installation: &Installation, process: &Process, id: &str) {
    let run = |only: &[&str]| {
        let arguments = [&["projections", "rebuild", "recipes", "--json"], only].concat();
        let output = installation.command("up", &arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap(), serde_json::from_slice::<Value>(&output.stdout), said)
    };
    let (code, repaired, said) = run(&["--key", id, "--reason", "it is damaged"]);
    let repaired = repaired.unwrap_or_default();
    assert_eq!((code, &repaired["state"]), (0, &json!("active")), "{said}{repaired}");
    assert_eq!(repaired["only"], json!({"key": id}), "{repaired}");
    let path = format!("/v1/admin/rebuilds/{}", repaired["id"].as_str().unwrap());
    assert_eq!(process.get(&path).await.1["only"], repaired["only"]);
    assert_eq!(post(process, &format!("{path}/activate"), json!({})).await.0, StatusCode::CONFLICT);
    let (_, list) = process.get("/v1/admin/rebuilds").await;
    assert_eq!(list["items"][0]["id"], repaired["id"], "{list}");
    let (_, audit) = process.get("/v1/admin/audit").await;
    let items = audit["items"].as_array().unwrap();
    let wanted = items.iter().find(|one| one["reason"] == "it is damaged").unwrap();
    assert_eq!(wanted["target"], format!("recipes/{id}"), "{audit}");
    let dry = json!({"reason": "to see it", "dry_run": true, "events_per_s": 0});
    let again = rebuild(process, dry).await;
    let done = until(process, &again, "the end", |one| one["dropped"] == true).await;
    assert_eq!((&done["state"], &done["different_rows"]), (&json!("ready"), &json!(0)), "{done}");

    let (code, _, said) = run(&["--key", "nobody"]);
    assert!(code == 1 && said.contains("no event of it lies in the topic"), "{code} {said}");
    // Nor can it be a key of a table.
    let (code, _, said) = run(&["--key", &"é".repeat(20_000)]);
    assert!(code == 1 && said.contains("no event of it lies in the topic"), "{code} {said}");
    assert_eq!(run(&["--partition", "99"]).0, 4);
    assert_eq!(run(&["--partition", "0"]).0, 0);
    assert_eq!(run(&["--provider", "nobody"]).0, 0, "none of its events is a fault");
    assert_eq!(run(&["--partition", "0", "--dry-run"]).0, 2);
    for only in [json!("x"), json!({"key": ""}), json!({"key": "a", "partition": 0}), json!({})] {
        let path = "/v1/admin/projections/recipes/rebuilds";
        let (status, refused) = post(process, path, json!({"only": only})).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{only} {refused}");
    }
    let (_, ours) = process.get(&format!("/v1/recipes/{id}")).await;
    assert_eq!(ours["name"], "first");
}
