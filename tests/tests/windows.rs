//! Weather windows through the real binary, as a planner reads them: from the request to windows,
//! steps, drawing and note.

use almanac_tests::process::{Answer, Engine, Installation, Process};
use reqwest::StatusCode;
use serde_json::{Value, json};

/// The example of the published semantics.
const WAVES: [Option<f64>; 9] =
    [Some(1.2), Some(1.4), Some(1.6), Some(1.4), Some(1.3), Some(1.1), None, Some(1.0), Some(1.0)];
const WINDOWS: [(&str, &str); 3] = [
    ("2025-08-20T06:00:00Z", "2025-08-20T07:00:00Z"),
    ("2025-08-20T07:30:00Z", "2025-08-20T09:00:00Z"),
    ("2025-08-20T09:30:00Z", "2025-08-20T10:30:00Z"),
];

fn schedule(name: &str) -> Value {
    json!({
        "name": name, "location": {"lat": 61.5, "lon": 4.8}, "repeat_every": null,
        "tasks": [{"id": "lift", "name": "Lift", "duration": "PT1H", "contingency": null,
            "predecessors": [], "limits": [{"variable": "wave_height_m", "max": 1.5}]}],
    })
}

fn forecast() -> Value {
    let points: Vec<Value> = (0..)
        .zip(WAVES)
        .map(|(step, wave)| {
            let time = format!("2025-08-20T{:02}:{:02}:00Z", 6 + step / 2, step % 2 * 30);
            json!({"time": time, "wave_height_m": wave})
        })
        .collect();
    json!({"source": "own", "issued_at": "2025-08-20T05:00:00Z", "points": points})
}

async fn post(process: &Process, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    process.send("POST", path, headers, body.to_string()).await.unwrap()
}

/// An answer that is no JSON.
async fn text(process: &Process, path: &str) -> (StatusCode, String, String) {
    let answer = almanac_tests::process::client().get(process.url(path)).send().await.unwrap();
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    (answer.status(), kind, answer.text().await.unwrap())
}

/// What both engines answer alike: everything but ids and times.
async fn analysed(engine: Engine) -> Value {
    let installation = Installation::new(engine);
    let mut process = installation.up().await;
    let created = post(&process, "/v1/schedules", &[], &schedule("Turbine 7")).await;
    assert_eq!(created.status, StatusCode::CREATED, "{created:?}");
    let schedule_id = created.body["id"].as_str().unwrap().to_owned();
    let token = created.header("consistency-token");
    let strict = [("consistency-token", token), ("prefer", "handling=strict, wait=30")];
    let schedule_path = format!("/v1/schedules/{schedule_id}");
    let read = process.send("GET", &schedule_path, &strict, "").await.unwrap();
    assert_eq!((read.status, read.header("etag")), (StatusCode::OK, "\"1\""), "{read:?}");
    assert_eq!(read.body, created.body, "reads and writes tell the same");

    let request = json!({"schedule_id": schedule_id, "forecast": forecast()});
    let asked = post(&process, "/v1/analyses", &[], &request).await;
    assert_eq!(asked.status, StatusCode::ACCEPTED, "{asked:?}");
    let id = asked.body["request_id"].as_str().unwrap().to_owned();
    let path = asked.header("location").to_owned();
    assert_eq!(path, format!("/v1/analyses/{id}"));
    let at_once = process.send("GET", &path, &[], "").await.unwrap();
    assert_eq!(at_once.status, StatusCode::OK, "from the answer on there is one: {at_once:?}");
    let wait = [("prefer", "wait=30")];
    let ended = process.send("GET", &path, &wait, "").await.unwrap();
    assert_eq!(
        (ended.status, &ended.body["state"]),
        (StatusCode::OK, &json!("completed")),
        "{ended:?}"
    );
    assert_eq!(ended.header("preference-applied"), "wait=30");
    assert_eq!(ended.header("cache-control"), "private, no-store");
    let windows = WINDOWS.map(|(from, to)| json!({"from": from, "to": to}));
    assert_eq!(ended.body["result"]["tasks"][0]["windows"], json!(windows));
    assert_eq!(ended.body["result"]["earliest_completion"], WINDOWS[0].1);

    let (status, steps) = process.get(&format!("{path}/steps?task=lift")).await;
    let verdicts: Vec<&str> = steps["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["verdict"].as_str().unwrap())
        .collect();
    let expected = ["go", "go", "no_go", "go", "go", "go", "unknown", "go", "go"];
    assert_eq!((status, &verdicts[..]), (StatusCode::OK, &expected[..]));
    let (status, kind, chart) = text(&process, &format!("{path}/chart.svg")).await;
    assert_eq!((status, kind.as_str()), (StatusCode::OK, "image/svg+xml"));
    assert!(chart.starts_with("<svg") && chart.contains("Turbine 7"), "{chart}");
    let (status, _, note) = text(&process, &format!("{path}/note.md?timezone=Europe/Oslo")).await;
    assert!(
        status == StatusCode::OK && note.contains(&id) && note.contains("Europe/Oslo"),
        "{note}"
    );
    let (status, kind, stream) = text(&process, &format!("{path}/stream")).await;
    assert_eq!((status, kind.as_str()), (StatusCode::OK, "text/event-stream"));
    assert!(stream.starts_with("event: completed\ndata: {"), "{stream}");

    // A second one, of a schedule that comes along, without a forecast of that kind.
    let inline = json!({"schedule": schedule("Another"), "forecast": forecast()});
    let second = post(&process, "/v1/analyses", &[], &inline).await;
    let second_path = second.header("location").to_owned();
    let ended_second = process.send("GET", &second_path, &wait, "").await.unwrap();
    assert_eq!(ended_second.body["state"], "completed", "{ended_second:?}");
    let (_, own) = process.get("/v1/analyses").await;
    let listed: Vec<&Value> =
        own["items"].as_array().unwrap().iter().map(|one| &one["request_id"]).collect();
    assert_eq!(listed, [&second.body["request_id"], &json!(id)], "newest first");
    let (_, of_schedule) = process.get(&format!("{schedule_path}/analyses")).await;
    let items = of_schedule["items"].as_array().unwrap();
    assert_eq!((items.len(), &items[0]["request_id"]), (1, &json!(id)));

    // What is kept in memory is not needed: after a restart all is made again from the tables.
    assert!(process.stop().success());
    process = installation.up().await;
    let again = process.send("GET", &path, &[], "").await.unwrap();
    assert_eq!(again.body, ended.body);
    let (status, gone) = process.get("/v1/analyses/00000000-0000-7000-8000-000000000000").await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{gone}");
    let mut answer = ended.body["result"].clone();
    answer["forecast"] = ended.body["forecast"]["variables"].clone();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn an_analysis_is_read_alike_on_both_engines() {
    let embedded = analysed(Engine::Embedded).await;
    assert_eq!(analysed(Engine::Cluster).await, embedded);
}

/// To others than its owner and admins, a schedule or an analysis is not there.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_planner_asks_is_nobody_elses_business() {
    let installation = Installation::new(Engine::Embedded);
    let process = installation.up().await;
    let bearer = |scope: &str, subject: &str| {
        let minted = installation.command("up", &["token", "--scope", scope, "--subject", subject]);
        format!("Bearer {}", String::from_utf8(minted.stdout).unwrap().trim())
    };
    let scopes = "schedules:write analyses:write subscriptions:write";
    let (mary, eve, admin) =
        (bearer(scopes, "mary"), bearer(scopes, "eve"), bearer("admin", "root"));
    let as_mary = [("authorization", mary.as_str())];
    let created = post(&process, "/v1/schedules", &as_mary, &schedule("Hers")).await;
    let schedule_path = created.header("location").to_owned();
    let request = json!({"schedule": schedule("Hers"), "forecast": forecast()});
    let asked = post(&process, "/v1/analyses", &as_mary, &request).await;
    let path = asked.header("location").to_owned();
    let get = async |path: &str, token: &str, more: &[(&str, &str)]| {
        let headers = [&[("authorization", token)], more].concat();
        process.send("GET", path, &headers, "").await.unwrap()
    };
    let ended = get(&path, &mary, &[("prefer", "wait=30")]).await;
    assert_eq!(ended.body["state"], "completed", "{ended:?}");
    let written = created.header("consistency-token");
    let mine =
        get(&schedule_path, &mary, &[("consistency-token", written), ("prefer", "wait=30")]).await;
    assert_eq!(mine.status, StatusCode::OK, "{mine:?}");
    let paths = ["", "/steps?task=lift", "/stream", "/chart.svg", "/note.md"];
    let paths = paths.map(|end| format!("{path}{end}")).into_iter();
    let schedules = ["", "/history", "/analyses"].map(|end| format!("{schedule_path}{end}"));
    for path in paths.chain(schedules) {
        let hidden = get(&path, &eve, &[]).await;
        assert_eq!(hidden.status, StatusCode::NOT_FOUND, "{path}: {hidden:?}");
        assert_eq!(get(&path, "Bearer x", &[]).await.status, StatusCode::UNAUTHORIZED, "{path}");
        let (status, ..) = {
            let client = almanac_tests::process::client();
            let answer = client.get(process.url(&path)).header("authorization", &admin);
            (answer.send().await.unwrap().status(),)
        };
        assert_eq!(status, StatusCode::OK, "{path}");
    }
    for list in ["/v1/analyses", "/v1/schedules"] {
        assert_eq!(get(list, &eve, &[]).await.body["items"], json!([]), "{list}");
        assert_eq!(
            get(list, &mary, &[]).await.body["items"].as_array().unwrap().len(),
            1,
            "{list}"
        );
    }
    let all = get("/v1/schedules", &admin, &[]).await;
    assert_eq!(all.body["items"].as_array().unwrap().len(), 1);

    // Subscriptions as well, and what was sent for them.
    let body = json!({"types": ["task.started"], "url": "https://example.com/",
                      "secret": "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"});
    let subscribed = post(&process, "/v1/subscriptions", &as_mary, &body).await;
    let subscription = subscribed.header("location").to_owned();
    let written = subscribed.header("consistency-token");
    for path in [subscription.clone(), format!("{subscription}/deliveries")] {
        let waits = [("consistency-token", written), ("prefer", "wait=30")];
        assert_eq!(get(&path, &admin, &waits).await.status, StatusCode::OK, "{path}");
        assert_eq!(get(&path, &eve, &[]).await.status, StatusCode::NOT_FOUND, "{path}");
    }

    // Lists of an owner are for that owner and admins.
    for list in ["/v1/analyses", "/v1/schedules", "/v1/subscriptions"] {
        for (owner, token, expected) in
            [("mary", &mary, 1), ("mary", &admin, 1), ("eve", &eve, 0), ("eve", &admin, 0)]
        {
            let page = get(&format!("{list}?owner={owner}"), token, &[]).await;
            let count = page.body["items"].as_array().map(Vec::len);
            assert_eq!(count, Some(expected), "{list} of {owner}: {page:?}");
        }
        let refused = get(&format!("{list}?owner=mary"), &eve, &[]).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{list}: {refused:?}");
    }

    // Nobody else changes anything; an admin does.
    let task = format!("{schedule_path}/tasks/lift/start");
    let all = "admin schedules:write analyses:write subscriptions:write";
    let (eve, admin) = (bearer(all.trim_start_matches("admin "), "eve"), bearer(all, "root"));
    let changes = [
        ("PATCH", &schedule_path, json!({"name": "Theirs"})),
        ("PUT", &schedule_path, schedule("Ours")),
        ("POST", &task, json!({})),
        ("DELETE", &path, json!({})),
        ("DELETE", &subscription, json!({})),
        ("DELETE", &schedule_path, json!({})),
    ];
    for (token, expected) in [(&eve, StatusCode::FORBIDDEN), (&admin, StatusCode::OK)] {
        for (method, path, body) in &changes {
            let headers = [("authorization", token.as_str())];
            let answer = process.send(method, path, &headers, body.to_string()).await.unwrap();
            assert_eq!(answer.status, expected, "{method} {path}: {answer:?}");
        }
    }
}
