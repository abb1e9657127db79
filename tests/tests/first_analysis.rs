//! The first analysis of a newcomer: `almanac up` without a provider, and the command line.

use almanac_tests::{
    process::{Engine, Installation, PATIENCE, Process},
    root,
};
use reqwest::StatusCode;
use serde_json::Value;
use std::{path::PathBuf, time::Instant};

fn example() -> String {
    let file: PathBuf = root().join("docs/examples/schedule.json");
    file.to_str().unwrap().to_owned()
}

/// What a command printed, once it has succeeded.
fn run(installation: &Installation, arguments: &[&str]) -> String {
    let output = installation.command("up", arguments);
    let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{arguments:?}: {}", told(&output.stderr));
    told(&output.stdout)
}

fn run_json(installation: &Installation, arguments: &[&str]) -> Value {
    let printed = run(installation, &[arguments, &["--json"]].concat());
    serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

/// Events of a topic that every process tells, oldest first.
async fn events(process: &Process, topic: &str) -> Vec<Value> {
    let path = format!("/v1/events/{topic}?after=beginning&limit=500");
    let (status, page) = process.get(&path).await;
    assert_eq!(status, StatusCode::OK, "{page}");
    page["items"].as_array().unwrap().clone()
}

async fn a_first_analysis(engine: Engine) {
    let installation = Installation::new(engine).with_demo();
    let process = installation.up().await;
    // From a file, with one service.
    let drawn = run(&installation, &["analyse", &example(), "--source", "met-norway"]);
    for part in ["lift", "###", "...", "earliest completion: 20", "made up by Almanac"] {
        assert!(drawn.contains(part), "{part} in {drawn}");
    }
    // Of a stored schedule, with another one and the first again.
    let created = run_json(&installation, &["schedules", "create", &example()]);
    let id = created["id"].as_str().unwrap();
    let both = ["--source", "open-meteo", "--source", "met-norway"];
    let answer = run_json(&installation, &[&["analyse", id], &both[..]].concat());
    assert_eq!(answer["state"], "completed");
    assert_eq!(answer["forecast"]["variables"]["wave_height_m"]["source"], "open-meteo");
    let tasks = answer["result"]["tasks"].as_array().unwrap();
    assert!(tasks.iter().all(|task| task["earliest_start"].is_string()), "{answer}");
    // Each service was asked once for the place; what was fresh stood for the second answer.
    let published: Vec<Value> = events(&process, "forecasts.events").await;
    let mut subjects: Vec<&str> =
        published.iter().map(|event| event["subject"].as_str().unwrap()).collect();
    subjects.sort();
    assert_eq!(subjects, ["met-norway/61.50/4.80", "open-meteo/61.50/4.80"], "{published:?}");
    assert!(published.iter().all(|event| event["type"] == "forecast.published"));
    // It shows where people look for it.
    let known = process.get("/v1/forecasts?lat=61.5&lon=4.8").await;
    assert_eq!(known.0, StatusCode::OK, "{known:?}");
    assert_eq!(known.1["items"].as_array().map(Vec::len), Some(2), "{known:?}");
    let until = Instant::now() + PATIENCE;
    loop {
        let (_, provider) = process.get("/v1/providers/met-norway").await;
        if provider["last_outcome"] == "changed" {
            assert_eq!(provider["breaker"], "closed", "{provider}");
            break;
        }
        assert!(Instant::now() < until, "{provider}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    // Work begins, and the plan follows.
    run(&installation, &["schedules", "start", id, "mobilise", "--at", "2026-01-01T00:00:00Z"]);
    run(&installation, &["schedules", "complete", id, "mobilise", "--at", "2026-01-01T06:00:00Z"]);
    let shown = run(&installation, &["schedules", "show", id]);
    assert!(shown.contains("completed 2026-01-01T06:00:00"), "{shown}");
    assert!(run(&installation, &["schedules", "list"]).contains(id));
    let answer = run_json(&installation, &["analyse", id, "--source", "met-norway"]);
    let end = answer["result"]["plan"][0]["end"].as_str().unwrap();
    assert!(end.starts_with("2026-01-01T06:00:00"), "{answer}");
    let drawing = installation.folder().join("windows.svg");
    let note = installation.folder().join("note.md");
    let (drawing_name, note_name) = (drawing.to_str().unwrap(), note.to_str().unwrap());
    let files = ["--chart", drawing_name, "--note", note_name, "--timezone", "Europe/Oslo"];
    run(&installation, &[&["analyse", id, "--source", "met-norway"], &files[..]].concat());
    assert!(std::fs::read_to_string(&drawing).unwrap().contains("<svg"));
    assert!(std::fs::read_to_string(&note).unwrap().contains("lift"));
    // What cannot be is refused, with an exit status of its own.
    let refused = installation.command("up", &["analyse", id, "--source", "psychic"]);
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    run(&installation, &["schedules", "delete", id]);
    let gone = installation.command("up", &["schedules", "show", id]);
    assert_eq!(gone.status.code(), Some(4), "{gone:?}");
}

#[tokio::test]
async fn a_newcomers_first_analysis_embedded() {
    a_first_analysis(Engine::Embedded).await;
}

#[tokio::test]
async fn a_newcomers_first_analysis_cluster() {
    a_first_analysis(Engine::Cluster).await;
}
