//! Schedules and plans in others' calendars and feed readers, read by the libraries that Python programs
//! use.

use almanac_tests::{
    process::{Answer, Engine, Installation, Process},
    provider::Provider,
    python_program, root,
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::{io::Write, process::Stdio};

/// What a program of `tests/clients` says of a document.
fn read(program: &str, document: &str) -> Value {
    let mut python = python_program("python")
        .arg(root().join("tests/clients").join(program))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(document.as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}\n{document}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The events of a calendar, by their starts.
fn events(calendar: &str) -> Vec<Value> {
    serde_json::from_value(read("read_calendar.py", calendar)).unwrap()
}

async fn calendar(process: &Process, path: &str) -> Vec<Value> {
    let answer = process.send("GET", &format!("{path}.ics"), &[], "").await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.header("content-type"), "text/calendar; charset=utf-8");
    assert_eq!(answer.header("cache-control"), "private, no-store");
    events(answer.body.as_str().unwrap())
}

async fn get(process: &Process, path: &str) -> Answer {
    let answer = process.send("GET", path, &[], "").await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{path}: {answer:?}");
    answer
}

/// Ids of plans that a list, a calendar and a feed have for the same filters.
async fn three_ways(process: &Process, filters: &str) -> [Vec<String>; 3] {
    let list = get(process, &format!("/v1/plans?{filters}")).await;
    let calendar = get(process, &format!("/v1/plans.ics?{filters}")).await;
    let feed = get(process, &format!("/v1/plans.rss?{filters}")).await;
    let feed = read("read_feed.py", feed.body.as_str().unwrap());
    let ids = |items: &[Value], name: &str| -> Vec<String> {
        let text = |item: &Value| item[name].as_str().unwrap().to_owned();
        let bare = |id: String| id.replace("@almanac", "").replace("urn:uuid:", "");
        let mut ids: Vec<String> = items.iter().map(|item| bare(text(item))).collect();
        ids.sort();
        ids
    };
    [
        ids(list.body["items"].as_array().unwrap(), "id"),
        ids(&events(calendar.body.as_str().unwrap()), "uid"),
        ids(feed["items"].as_array().unwrap(), "id"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_are_a_calendar_and_a_feed() {
    const TITLE: &str = "Jazz; \"7\", north\\south <script>alert(1)</script> & more";
    let provider = Provider::start().await;
    let plan = |id: usize, title: &str, end: &str| {
        let title = title.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
        format!(
            "<base_plan base_plan_id=\"{id}\" sell_mode=\"online\" title=\"{title}\"><plan plan_id=\"{id}\" \
             plan_start_date=\"2031-05-{:02}T21:00:00\" {end} sold_out=\"false\"><zone zone_id=\"1\" \
             capacity=\"5\" price=\"20.00\" name=\"Platea\" numbered=\"true\"/><zone zone_id=\"2\" capacity=\"1\" \
             price=\"35.50\" name=\"Grada\" numbered=\"true\"/></plan></base_plan>",
            10 + id % 20,
        )
    };
    let feed =
        |first: &str| {
            let mut plans = plan(0, first, "plan_end_date=\"2031-05-10T23:30:00\"");
            plans += &plan(1, "Ends where it starts", "plan_end_date=\"2031-05-11T21:00:00\"");
            plans.extend((2..600).map(|id| {
                plan(id, &format!("Series {id}"), "plan_end_date=\"2031-06-30T21:00:00\"")
            }));
            format!("<planList><output>{plans}</output></planList>")
        };
    provider.serve(feed(TITLE));
    let installation = Installation::new(Engine::Embedded)
        .with_provider("fever", &provider.url())
        .with("http.public_url = \"https://almanac.example/\"");
    let mut process = installation.up().await;
    process
        .until("plans", || async { (process.search("").await.len() == 600).then_some(()) })
        .await;

    for filters in
        ["q=jazz", "starts_until=2031-05-12T00:00:00Z&limit=500", "q=nothing", "base_plan_id=7"]
    {
        let [list, calendar, feed] = three_ways(&process, filters).await;
        assert_eq!((&list, &list), (&calendar, &feed), "{filters}");
    }
    let path = "/v1/plans.ics?q=jazz";
    let answer = get(&process, path).await;
    assert_eq!(answer.header("content-type"), "text/calendar; charset=utf-8");
    assert_eq!(
        answer.header("cache-control"),
        get(&process, "/v1/plans").await.header("cache-control")
    );
    let tag = [("if-none-match", answer.header("etag"))];
    let same = process.send("GET", path, &tag, "").await.unwrap();
    assert_eq!(same.status, StatusCode::NOT_MODIFIED);
    assert!(answer.body.as_str().unwrap().lines().all(|line| line.len() <= 75), "lines are folded");
    let before = events(answer.body.as_str().unwrap());
    let event = &before[0];
    assert_eq!(event["summary"], TITLE);
    assert_eq!(event["start"], "2031-05-10T19:00:00+00:00", "it is Madrid's time");
    assert_eq!(event["end"], "2031-05-10T21:30:00+00:00");
    assert_eq!((&event["status"], &event["categories"]), (&json!("CONFIRMED"), &json!(["fever"])));
    let id = event["uid"].as_str().unwrap().strip_suffix("@almanac").unwrap();
    assert_eq!(event["url"], format!("https://almanac.example/#/plans/{id}"));
    let description = event["description"].as_str().unwrap();
    assert!(description.contains("Price: 20.00 to 35.50.\n"), "{description}");
    let ends = events(get(&process, "/v1/plans.ics?base_plan_id=1").await.body.as_str().unwrap());
    assert_eq!(ends[0]["end"], Value::Null, "an end that is no end is none: {ends:?}");

    let answer = get(&process, "/v1/plans.rss?q=jazz").await;
    assert_eq!(answer.header("content-type"), "application/rss+xml; charset=utf-8");
    let news = read("read_feed.py", answer.body.as_str().unwrap());
    assert_eq!(news["items"][0]["title"], TITLE);
    assert_eq!(news["items"][0]["link"], event["url"]);
    assert_eq!(news["links"]["self"], "https://almanac.example/v1/plans.rss?q=jazz");

    // What does not fit is told, and is behind a link.
    for kind in ["ics", "rss"] {
        let (mut path, mut seen) = (format!("/v1/plans.{kind}"), 0);
        for (pages, expected) in [(1, 500), (2, 100)] {
            let answer = get(&process, &path).await;
            let text = answer.body.as_str().unwrap();
            let shown = text.matches(if kind == "ics" { "BEGIN:VEVENT" } else { "<item>" }).count();
            assert_eq!(shown, expected, "{path}");
            assert_eq!(text.contains("The first 500 plans of more"), pages == 1, "{path}");
            seen += shown;
            let link = answer.header("link");
            assert_eq!(link.is_empty(), pages == 2, "{link}");
            let next = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\""));
            path = next.unwrap_or_default().to_owned();
        }
        assert_eq!(seen, 600);
    }
    for bad in ["/v1/plans.ics?limit=501", "/v1/plans.rss?when=now", "/v1/plans.ics?cursor=x"] {
        assert_eq!(process.get(bad).await.0, StatusCode::BAD_REQUEST, "{bad}");
    }

    // The same event, revised; and what left the feed is not certain any more.
    provider.serve(feed("Blues"));
    let blues = process
        .until("the new title", || async {
            let answer = get(&process, "/v1/plans.ics?q=blues").await;
            events(answer.body.as_str().unwrap()).pop()
        })
        .await;
    assert_eq!(blues["uid"], event["uid"]);
    assert!(blues["stamp"].as_str() > event["stamp"].as_str(), "{blues}");
    assert!(blues["sequence"].as_u64() >= event["sequence"].as_u64());
    let rest = feed("Blues").replacen("base_plan_id=\"0\"", "base_plan_id=\"x\"", 1);
    provider.serve(rest);
    process
        .until("the plan that left", || async {
            let answer = get(&process, "/v1/plans.ics?q=blues&base_plan_id=0").await;
            let left = events(answer.body.as_str().unwrap()).pop()?;
            (left["status"] == "TENTATIVE").then_some(())
        })
        .await;
    assert!(process.stop().success());
}

async fn shown(engine: Engine) -> Vec<Value> {
    let installation = Installation::new(engine);
    let mut process = installation.up().await;
    let limits = json!([{"variable": "wave_height_m", "max": 2.0}]);
    let schedule = json!({
        "name": "Høgafjell; \"7\", north\\south", "location": {"lat": 61.5, "lon": 4.8},
        "tasks": [
            {"id": "mobilise", "name": "Mobilise, load", "duration": "PT2H"},
            {"id": "lift", "name": "Lift", "duration": "PT4H", "predecessors": ["mobilise"],
             "limits": limits},
            {"id": "never", "name": "Never", "duration": "PT4H",
             "limits": [{"variable": "wave_height_m", "max": 0.1}]},
        ],
    });
    let created = process.send("POST", "/v1/schedules", &[], schedule.to_string()).await.unwrap();
    let path = created.header("location").to_owned();
    let wait = [("prefer", "wait=30")];
    let token = [("consistency-token", created.header("consistency-token"))];
    process.send("GET", &path, &[wait[0], token[0]], "").await.unwrap();
    assert_eq!(calendar(&process, &path).await, [Value::Null; 0], "nothing has a time yet");

    let points: Vec<Value> = (0..24)
        .map(|hour| {
            let waves = if hour < 6 { 3.0 } else { 1.0 };
            json!({"time": format!("2025-08-20T{hour:02}:00:00Z"), "wave_height_m": waves})
        })
        .collect();
    let forecast = json!({"source": "own", "step": "PT1H", "points": points});
    let body = json!({"schedule_id": created.body["id"], "forecast": forecast}).to_string();
    let asked = process.send("POST", "/v1/analyses", &[], body).await.unwrap();
    let analysis = asked.header("location").to_owned();
    let ended = process.send("GET", &analysis, &wait, "").await.unwrap();
    assert_eq!(ended.body["state"], "completed", "{ended:?}");
    let planned = process
        .until("the planned tasks", || async {
            let events = calendar(&process, &path).await;
            (events.len() == 2).then_some(events)
        })
        .await;
    assert_eq!(planned[0]["start"], "2025-08-20T00:00:00+00:00");
    assert_eq!(planned[1]["start"], "2025-08-20T06:00:00+00:00", "{planned:?}");
    assert_eq!(planned[1]["end"], "2025-08-20T10:00:00+00:00");
    assert_eq!(planned[0]["summary"], "Mobilise, load (Høgafjell; \"7\", north\\south)");
    assert_eq!(planned[1]["geo"], json!([61.5, 4.8]));
    for event in &planned {
        assert_eq!(
            (&event["status"], &event["categories"]),
            (&json!("TENTATIVE"), &json!(["planned"]))
        );
        let description = event["description"].as_str().unwrap();
        assert!(description.contains(asked.body["request_id"].as_str().unwrap()), "{description}");
    }

    // What is done is certain, and the same event as before, revised.
    let times = [("start", "2025-08-19T01:00:00Z"), ("complete", "2025-08-19T02:30:00Z")];
    for (act, at) in times {
        let path = format!("{path}/tasks/mobilise/{act}");
        let told = process.send("POST", &path, &[], json!({"at": at}).to_string()).await.unwrap();
        assert_eq!(told.status, StatusCode::OK, "{told:?}");
    }
    let done = process
        .until("the completed task", || async {
            let events = calendar(&process, &path).await;
            (events[0]["status"] == "CONFIRMED" && events[0]["categories"][0] == "completed")
                .then_some(events)
        })
        .await;
    assert_eq!(done[0]["start"], "2025-08-19T01:00:00+00:00", "{done:?}");
    assert_eq!(done[0]["end"], "2025-08-19T02:30:00+00:00", "{done:?}");
    assert_eq!((&done[0]["uid"], &done[1]["uid"]), (&planned[0]["uid"], &planned[1]["uid"]));
    assert!(done[0]["sequence"].as_u64() >= planned[0]["sequence"].as_u64());
    let answer = process.send("GET", &format!("{path}.ics"), &[], "").await.unwrap();
    let tag = [("if-none-match", answer.header("etag"))];
    let same = process.send("GET", &format!("{path}.ics"), &tag, "").await.unwrap();
    assert_eq!(same.status, StatusCode::NOT_MODIFIED);
    for missing in ["0198c5a0-0000-7000-8000-000000000000.ics", "x.ics"] {
        let (status, _) = process.get(&format!("/v1/schedules/{missing}")).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
    }
    assert!(process.stop().success());
    let mut told = done;
    for event in &mut told {
        for name in ["uid", "sequence", "stamp", "description"] {
            event[name] = Value::Null;
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_is_a_calendar_on_both_engines() {
    assert_eq!(shown(Engine::Embedded).await, shown(Engine::Cluster).await);
}
