//! An installation as files, and out of them again, on either engine.

use almanac_tests::{
    process::{Engine, Installation, Process, client},
    python_program, root,
};
use axum::{Router, body::Body, extract::Request, http::StatusCode, response::Response};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::Notify;

const PROJECTIONS: [&str; 6] =
    ["plans", "recipes", "schedules", "analyses", "forecasts", "subscriptions"];

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// What a command printed, once it ended so.
fn run(installation: &Installation, arguments: &[&str], code: i32) -> String {
    let output = installation.command("up", arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output));
    text(&output)
}

/// What a dry run of a projection says of it.
fn dry_run(installation: &Installation, name: &str) -> Vec<u8> {
    let rebuild = ["projections", "rebuild", name, "--dry-run", "--json", "--events-per-s", "0"];
    let output = installation.command("up", &rebuild);
    assert!(output.status.success(), "{name}: {}", text(&output));
    output.stdout
}

/// Rows and digests of all projections, each folded anew and held against the live tables.
fn digests(installation: &Installation) -> BTreeMap<&'static str, Value> {
    let of = |name| {
        let outcome: Value = serde_json::from_slice(&dry_run(installation, name)).unwrap();
        assert_eq!(outcome["different_rows"], 0, "{name}: {outcome}");
        (name, outcome["certificate"]["rebuilt"].clone())
    };
    PROJECTIONS.into_iter().map(of).collect()
}

/// The certificate of a projection as it is now, in a file.
fn certificate(installation: &Installation, name: &str) -> PathBuf {
    let file = installation.folder().join(format!("{name}.json"));
    std::fs::write(&file, dry_run(installation, name)).unwrap();
    file
}

/// What was certified before an installation moved is verified after it, on whichever engine.
fn certificates_hold(installation: &Installation, files: &[PathBuf], export: &Path) {
    let export = export.to_str().unwrap();
    let verify = ["projections", "verify", "--certificate"];
    for file in files {
        let arguments = [&verify[..], &[file.to_str().unwrap()]].concat();
        let told = run(installation, &[&arguments[..], &["--export", export]].concat(), 0);
        assert!(told.contains("as certified"), "{told}");
        // Offsets and topics are others here.
        let told = run(installation, &arguments, 1);
        assert!(told.contains("another installation"), "{told}");
    }
    // An event that the certificate does not speak of.
    let mut changed: Value = serde_json::from_slice(&std::fs::read(&files[0]).unwrap()).unwrap();
    let positions = changed["certificate"]["positions"].as_object_mut().unwrap();
    let (place, at) = positions.iter_mut().find(|(_, at)| at["events"].is_string()).unwrap();
    let place = place.clone();
    at["events"] = json!("00");
    let file = installation.folder().join("changed.json");
    std::fs::write(&file, changed.to_string()).unwrap();
    let arguments = [&verify[..], &[file.to_str().unwrap(), "--export", export]].concat();
    let told = run(installation, &arguments, 1);
    assert!(told.contains(&format!("the events of {place} in the export")), "{told}");
}

/// Passes requests on, until it has passed on so many; whoever asks then gets no answer.
struct Stuck {
    url: String,
    is_stuck: Arc<Notify>,
}

async fn stuck_after(process: &Process, requests: usize) -> Stuck {
    let is_stuck = Arc::new(Notify::new());
    let (to, passed) = (process.url(""), Arc::new(AtomicUsize::new(0)));
    let notify = is_stuck.clone();
    let pass = move |request: Request| {
        let (to, passed, notify) = (to.clone(), passed.clone(), notify.clone());
        async move {
            if passed.fetch_add(1, Ordering::SeqCst) >= requests {
                notify.notify_one();
                std::future::pending::<()>().await;
            }
            let (parts, body) = request.into_parts();
            let url = format!("{to}{}", parts.uri);
            let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            let answer = client().request(parts.method, url).body(body).send().await.unwrap();
            let status = answer.status();
            let mut response = Response::new(Body::from(answer.bytes().await.unwrap()));
            *response.status_mut() = status;
            response
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = axum::serve(listener, Router::new().fallback(pass));
    tokio::spawn(async move { serving.await.unwrap() });
    Stuck { url, is_stuck }
}

impl Stuck {
    /// `kill -9` in the middle of a command.
    async fn kill(&self, arguments: &[&str]) {
        let mut child: Child = Command::new(almanac_tests::process::binary())
            .args(arguments)
            .args(["--url", &self.url])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.is_stuck.notified().await;
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

const RECIPE: &str =
    r#"{"name":"Soup","ingredients":[{"ingredient":"salt"}],"steps":[{"text":"Eat."}]}"#;
const KEY: [(&str, &str); 1] = [("idempotency-key", "\"moved-1\"")];

struct Filled {
    recipe: String,
    token: String,
    analysis: String,
}

/// An installation with something of everything, which then rests.
async fn filled(installation: &Installation) -> (Process, Filled) {
    let mut process = installation.up().await;
    let created = process.send("POST", "/v1/recipes", &KEY, RECIPE).await.unwrap();
    assert_eq!(created.status, StatusCode::CREATED, "{created:?}");
    let recipe = created.body["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/recipes/{recipe}");
    let revised = RECIPE.replace("Soup", "Stew");
    let revised = process.send("PUT", &path, &[], revised).await.unwrap();
    assert_eq!(revised.status, StatusCode::OK, "{revised:?}");
    let token = revised.header("consistency-token").to_owned();
    let example = root().join("docs/examples/schedule.json");
    let analysed = run(
        installation,
        &["analyse", example.to_str().unwrap(), "--source", "met-norway", "--json"],
        0,
    );
    let analysed: Value = serde_json::from_str(&analysed).unwrap();
    let analysis = analysed["request_id"].as_str().unwrap().to_owned();
    process.until("plans", || async { (!process.search("").await.is_empty()).then_some(()) }).await;
    process.stop();
    drop(process);
    process = installation.start_with("up", "up", &[("ALMANAC__DEMO", "false")]);
    process.ready().await;
    (process, Filled { recipe, token, analysis })
}

fn manifest(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("manifest.json")).unwrap()).unwrap()
}

/// An export that is killed on its way, and goes on.
async fn exported(installation: &Installation, process: &Process, name: &str) -> PathBuf {
    let folder = installation.folder().join(name);
    let to = folder.to_str().unwrap().to_owned();
    let stuck = stuck_after(process, 20).await;
    stuck.kill(&["export", "--to", &to]).await;
    assert!(folder.join("manifest.part.json").exists() && !folder.join("manifest.json").exists());
    let told = run(installation, &["export", "--to", &to], 0);
    assert!(told.contains("going on behind") && told.contains("position"), "{told}");
    assert!(!folder.join("manifest.part.json").exists());
    run(installation, &["export", "--to", &to], 4);
    folder
}

/// An import that is killed on its way, in a process that is killed as well, and goes on.
async fn imported(engine: Engine, from: &Path, filled: &Filled) -> (Installation, Process) {
    let installation = Installation::new(engine).with_demo().with("await_import = true");
    let mut process = installation.start("up", "up");
    process
        .until("an answer", || async {
            let answer = client().get(process.url("/v1/admin/import")).send().await.ok()?;
            (answer.status() == StatusCode::OK).then_some(())
        })
        .await;
    let refused = process.send("POST", "/v1/recipes", &[], RECIPE).await.unwrap();
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{refused:?}");
    let from = from.to_str().unwrap();
    // The look whether it is up, the beginning, and some records.
    let stuck = stuck_after(&process, 8).await;
    stuck.kill(&["import", "--from", from]).await;
    let (_, state) = process.get("/v1/admin/import").await;
    assert_eq!(state["state"], "under_way", "{state}");
    let (status, told) = process.get("/v1/admin/export").await;
    assert_eq!(status, StatusCode::CONFLICT, "{told}");
    process.kill();
    drop(process);
    // What was awaited may be forgotten: the log knows of the import.
    process = installation.start_with(
        "up",
        "up",
        &[("ALMANAC__AWAIT_IMPORT", "false"), ("ALMANAC__DEMO", "false")],
    );
    let told = run(&installation, &["import", "--from", from, "--json"], 0);
    assert!(told.contains("completed"), "{told}");
    run(&installation, &["import", "--from", from], 4);
    process.ready().await;
    let (_, audit) = process.get("/v1/admin/audit").await;
    let actions = audit["items"].to_string();
    assert!(actions.contains("\"import\"") && actions.contains("\"complete\""), "{audit}");
    let recipe = process.recipe_at(&filled.recipe, 2).await;
    assert_eq!(recipe["name"], "Stew");
    (installation, process)
}

/// What clients had of the old installation, and what they do with the new one.
async fn clients_go_on(process: &Process, filled: &Filled, version: u64) {
    let path = format!("/v1/recipes/{}", filled.recipe);
    // A token is of the log that it came from.
    let read = client().get(process.url(&path)).header("consistency-token", &filled.token);
    let read = read.send().await.unwrap();
    assert_eq!(read.status(), StatusCode::BAD_REQUEST);
    // The key of an idempotent write is remembered with its outcome.
    let again = process.send("POST", "/v1/recipes", &KEY, RECIPE).await.unwrap();
    assert_eq!(again.status, StatusCode::CREATED, "{again:?}");
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert_eq!(again.body["id"], filled.recipe.as_str());
    // Writes go on with the versions, and their tokens hold.
    let match_version = format!("\"{version}\"");
    let headers = [("if-match", match_version.as_str())];
    let body = RECIPE.replace("Soup", &format!("Pie {version}"));
    let written = process.send("PUT", &path, &headers, body).await.unwrap();
    assert_eq!(written.status, StatusCode::OK, "{written:?}");
    let token = written.header("consistency-token").to_owned();
    let read = client().get(process.url(&path)).header("consistency-token", token);
    let read = read.header("prefer", "handling=strict, wait=20").send().await.unwrap();
    let read: Value = read.json().await.unwrap();
    assert_eq!(read["version"], version + 1, "{read}");
    // The forecasts of an analysis are where its event says.
    let (status, analysis) = process.get(&format!("/v1/analyses/{}", filled.analysis)).await;
    assert_eq!((status, &analysis["state"]), (StatusCode::OK, &json!("completed")), "{analysis}");
    assert!(analysis["result"]["tasks"].is_array(), "{analysis}");
}

/// There and back again: embedded, files, `engine`, files, embedded.
async fn moves(engine: Engine) {
    let first = Installation::new(Engine::Embedded).with_demo();
    let (process, filled) = filled(&first).await;
    let before = digests(&first);
    assert!(before.values().all(|of| of["rows"].is_u64()), "{before:?}");
    let certificates = ["plans", "analyses"].map(|name| certificate(&first, name));
    let there = exported(&first, &process, "there").await;
    drop(process);
    let (second, process) = imported(engine, &there, &filled).await;
    assert_eq!(digests(&second), before, "on the way there");
    clients_go_on(&process, &filled, 2).await;
    certificates_hold(&second, &certificates, &there);
    let changed = digests(&second);
    let of_second = certificate(&second, "recipes");
    assert_ne!(changed["recipes"], before["recipes"]);
    let back = exported(&second, &process, "back").await;
    drop(process);
    let again = Installation::new(Engine::Embedded).with("await_import = true");
    let process = again.start("up", "up");
    run(&again, &["import", "--from", back.to_str().unwrap()], 0);
    process.ready().await;
    process.recipe_at(&filled.recipe, 3).await;
    assert_eq!(digests(&again), changed, "on the way back");
    certificates_hold(&again, &[of_second], &back);
    clients_go_on(&process, &filled, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_moves_to_another_disk() {
    moves(Engine::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_moves_to_kafka_and_back() {
    moves(Engine::Cluster).await;
}

/// What came later is added; others read the files; and what somebody did to them is found.
#[tokio::test(flavor = "multi_thread")]
async fn files_are_of_any_reader_and_of_nobody_elses_making() {
    let installation = Installation::new(Engine::Embedded).with_demo();
    let (process, filled) = filled(&installation).await;
    let folder = installation.folder().join("backup");
    let to = folder.to_str().unwrap().to_owned();
    run(&installation, &["export", "--to", &to], 0);
    let first = manifest(&folder);
    let path = format!("/v1/recipes/{}", filled.recipe);
    let written = process.send("PUT", &path, &[], RECIPE).await.unwrap();
    assert_eq!(written.status, StatusCode::OK);
    run(&installation, &["export", "--to", &to, "--since", "0000"], 4);
    let since = folder.join("manifest.json");
    run(&installation, &["export", "--to", &to, "--since", since.to_str().unwrap()], 0);
    let whole = manifest(&folder);
    let (files, before) = (whole["files"].as_array().unwrap(), first["files"].as_array().unwrap());
    assert_eq!(files[..before.len()], before[..], "what was there stays");
    assert!(files[before.len()..].iter().any(|file| file["topic"] == "recipes.events"), "{whole}");
    assert!(files.iter().all(|file| file["topic"] != "commands"));

    let output = python_program("python")
        .arg(root().join("tests/clients/read_avro.py"))
        .arg(&folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let read: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(read.as_object().unwrap().len(), files.len());
    for file in files {
        let found = &read[file["path"].as_str().unwrap()];
        for part in ["records", "first", "last"] {
            assert_eq!(found[part], file[part], "{part} of {file}: {found}");
        }
    }
    let recipes = read.as_object().unwrap().iter().filter(|(path, _)| path.contains("recipes."));
    let keys: String = recipes.map(|(_, file)| file["keys"].to_string()).collect();
    assert!(keys.contains(&filled.recipe), "{keys}");
    drop(process);

    let target = Installation::new(Engine::Embedded).with("await_import = true");
    let process = target.start("up", "up");
    let refused = |what: &str, parts: &[&str]| {
        let told = run(&target, &["import", "--from", &to], 1);
        assert!(parts.iter().all(|part| told.contains(part)), "{what}: {told}");
    };
    let file = files.iter().find(|file| file["topic"] == "recipes.events").unwrap();
    let name = file["path"].as_str().unwrap();
    let path = folder.join(name);
    let sound = std::fs::read(&path).unwrap();
    std::fs::write(&path, &sound[..sound.len() - 1]).unwrap();
    refused("cut", &[name, "it was cut or changed"]);
    let mut flipped = sound.clone();
    *flipped.last_mut().unwrap() ^= 1;
    std::fs::write(&path, flipped).unwrap();
    refused("flipped", &[name, "is not what was exported"]);
    std::fs::remove_file(&path).unwrap();
    refused("missing", &[name, "cannot open"]);
    std::fs::write(&path, &sound).unwrap();
    // A manifest that goes along with it.
    let forged = |change: &dyn Fn(&mut Value)| {
        let mut forged = whole.clone();
        change(&mut forged);
        std::fs::write(folder.join("manifest.json"), forged.to_string()).unwrap();
    };
    let place = files.iter().position(|one| one == file).unwrap();
    forged(&|all| all["files"][place]["path"] = json!("../elsewhere"));
    refused("outside", &["outside of the export"]);
    forged(&|all| all["files"][place]["schema"]["version"] = json!(99));
    refused("of a later version", &[name, "this almanac does not know version 99"]);
    let schema = files.iter().find(|one| one["topic"] == "plans.events").unwrap()["schema"].clone();
    forged(&|all| all["files"][place]["schema"] = schema.clone());
    refused("of another schema", &[name, "does not hold almanac.plans"]);
    let (_, state) = process.get("/v1/admin/import").await;
    assert_eq!(state["state"], "none", "nothing came in: {state}");
    std::fs::write(folder.join("manifest.json"), whole.to_string()).unwrap();
    run(&target, &["import", "--from", &to], 0);
    process.ready().await;
    process.recipe_at(&filled.recipe, 3).await;
}
