//! Clients that take more than their part: connections, time, memory, streams. Each is told no or
//! cut off, and the others are served.

use super::pictures::bearer;
use almanac_tests::{
    process::{Engine, Installation, PATIENCE, Process},
    recipe,
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const MAX_UPLOAD: usize = 8 << 20;

/// A connection that sends this much and no more.
async fn connect(process: &Process, request: &str) -> TcpStream {
    let address = process.url("").trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let request = request.replace("HOST", &address).replace('\n', "\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// What comes until the server closes the connection; a reset ends it as well.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let (mut all, mut part) = (Vec::new(), vec![0; 1 << 16]);
    let reading = async {
        while let Ok(read @ 1..) = stream.read(&mut part).await {
            all.extend_from_slice(&part[..read]);
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("the connection is closed");
    all
}

async fn head(stream: &mut TcpStream) -> String {
    let mut part = vec![0; 1 << 12];
    let read = tokio::time::timeout(PATIENCE, stream.read(&mut part)).await.unwrap().unwrap();
    String::from_utf8_lossy(&part[..read]).into_owned()
}

async fn create(process: &Process) -> StatusCode {
    process.send("POST", "/v1/recipes", &[], recipe("r", "i")).await.unwrap().status
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_makes_room_for_others() {
    // None of them ends by itself.
    let bounds = "http.max_connections = 4\nhttp.head_timeout = \"1h\"";
    let installation = Installation::new(Engine::Embedded).with(bounds);
    let process = installation.up().await;
    let mut idle = Vec::new();
    for start in ["", "GET /readyz HTTP/1.1\n", "GET /rea", "POST / HTTP/1.1\nHost: HOST\n"] {
        idle.push(connect(&process, start).await);
    }
    let mut late = Vec::new();
    for _ in 0..idle.len() {
        late.push(connect(&process, "GET /readyz HTTP/1.1\nHost: HOST\n\n").await);
        let answer = head(late.last_mut().unwrap()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    for mut stream in idle {
        rest(&mut stream).await;
    }
    assert!(process.log().contains("all connections are taken"), "{}", process.log());
}

/// Uploads that stop before their end hold a share of the memory: whoever sends them can still
/// write, others can still send pictures, and after a few seconds they are given up.
#[tokio::test(flavor = "multi_thread")]
async fn unfinished_bodies_keep_nobody_from_writing() {
    let bounds = format!(
        "http.body_bytes = {}\nhttp.body_reserve_bytes = {MAX_UPLOAD}\n\
         http.body_bytes_per_caller = {MAX_UPLOAD}",
        3 * MAX_UPLOAD
    );
    let installation = Installation::new(Engine::Embedded).with(&bounds);
    let process = installation.up().await;
    let mary = bearer(&installation, "recipes:write", "mary");
    let created = process.send("POST", "/v1/recipes", &[], recipe("r", "i")).await.unwrap();
    let path = format!("{}/thumbnail", created.header("location"));
    let start = format!(
        "PUT {path} HTTP/1.1\nHost: HOST\nContent-Type: image/png\n\
         Content-Length: {MAX_UPLOAD}\n\n"
    );
    let mut stalled = Vec::new();
    for _ in 0..8 {
        let mut slow = connect(&process, &start).await;
        slow.write_all(&vec![b'x'; MAX_UPLOAD - 1]).await.unwrap();
        stalled.push(slow);
    }
    let refused = process
        .until("its share is taken", || async {
            let body = "x".repeat(300_000);
            let headers = [("content-type", "image/png")];
            let answer = process.send("PUT", &path, &headers, body).await.unwrap();
            (answer.status == StatusCode::SERVICE_UNAVAILABLE).then_some(answer)
        })
        .await;
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(refused.body["detail"], "too many bodies of yours are being read");
    assert_eq!(create(&process).await, StatusCode::CREATED, "a small one beside them");
    let headers = [("authorization", mary.as_str())];
    let hers = process.send("POST", "/v1/recipes", &headers, recipe("r", "i")).await.unwrap();
    let headers = [("authorization", mary.as_str()), ("content-type", "image/png")];
    let path = format!("{}/thumbnail", hers.header("location"));
    let large = process.send("PUT", &path, &headers, "x".repeat(MAX_UPLOAD)).await.unwrap();
    assert_eq!(large.status, StatusCode::UNPROCESSABLE_ENTITY, "it was read whole: {large:?}");
    let mut given_up = 0;
    for mut slow in stalled {
        let answer = head(&mut slow).await;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(matches!(status, "408" | "503"), "{answer}");
        given_up += usize::from(status == "408");
    }
    assert!(given_up > 0, "some were waited for");
    assert_eq!(create(&process).await, StatusCode::CREATED);
}

/// On Kafka each stream is a consumer with threads of its own.
#[tokio::test(flavor = "multi_thread")]
async fn streams_of_events_are_counted() {
    for engine in [Engine::Embedded, Engine::Cluster] {
        let installation = Installation::new(engine).with("http.event_streams = 2");
        let process = installation.up().await;
        let request =
            "GET /v1/events/recipes.events HTTP/1.1\nHost: HOST\nAccept: text/event-stream\n\n";
        let mut open = Vec::new();
        for _ in 0..2 {
            let mut stream = connect(&process, request).await;
            let answer = head(&mut stream).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            open.push(stream);
        }
        let answer = head(&mut connect(&process, request).await).await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.to_lowercase().contains("retry-after: 1"), "{answer}");
        open.pop();
        process
            .until("a place is free again", || async {
                let answer = head(&mut connect(&process, request).await).await;
                answer.starts_with("HTTP/1.1 200").then_some(())
            })
            .await;
        // Pages are none of them.
        let (status, _) = process.get("/v1/events/recipes.events").await;
        assert_eq!(status, StatusCode::OK);
    }
}

/// Who reads nothing of a quiet topic cannot be told from who does: both have to come back.
#[tokio::test(flavor = "multi_thread")]
async fn streams_of_events_end_and_go_on() {
    for engine in [Engine::Embedded, Engine::Cluster] {
        let installation = Installation::new(engine).with("http.event_stream_time = \"2s\"");
        let process = installation.up().await;
        let mut last = "beginning".to_owned();
        for _ in 0..2 {
            assert_eq!(create(&process).await, StatusCode::CREATED);
            let request = format!(
                "GET /v1/events/recipes.events HTTP/1.1\nHost: HOST\nAccept: text/event-stream\n\
                 Last-Event-ID: {last}\nConnection: close\n\n"
            );
            let whole = rest(&mut connect(&process, &request).await).await;
            let whole = String::from_utf8_lossy(&whole).into_owned();
            assert!(whole.ends_with("0\r\n\r\n"), "it is not cut off: {whole}");
            let ids: Vec<&str> =
                whole.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
            assert_eq!(ids.len(), 1, "what came since: {whole}");
            last = ids[0].to_owned();
        }
    }
}

/// What is compressed in the background, and what is compressed at once.
#[tokio::test(flavor = "multi_thread")]
async fn compressed_answers_are_the_same_answers() {
    let installation = Installation::new(Engine::Embedded);
    let process = installation.up().await;
    for path in ["/openapi.json", "/metrics", "/v1/recipes/vocabulary"] {
        let plain = reqwest::Client::builder().no_gzip().no_brotli().build().unwrap();
        let plain = plain.get(process.url(path)).send().await.unwrap();
        assert_eq!(plain.headers().get("content-encoding"), None);
        let plain = plain.bytes().await.unwrap();
        for (encoding, client) in [
            ("gzip", reqwest::Client::builder().gzip(true).no_brotli()),
            ("br", reqwest::Client::builder().no_gzip().brotli(true)),
        ] {
            let request = client.build().unwrap().get(process.url(path));
            let answer = request.send().await.unwrap();
            let vary = answer.headers()["vary"].to_str().unwrap().to_ascii_lowercase();
            assert!(vary.contains("accept-encoding"), "{path}: {vary}");
            let bytes = answer.bytes().await.unwrap();
            // Metrics move on.
            assert!(
                bytes == plain || path == "/metrics" && bytes.len() > 1_000,
                "{path} in {encoding}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_nothing_of_an_answer_is_cut_off() {
    let installation = Installation::new(Engine::Embedded).with("http.write_timeout = \"1s\"");
    let process = installation.up().await;
    let mut deaf = connect(&process, "").await;
    // More than the system keeps in between, so that sending ends only with the connection.
    let requests = b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".repeat(600_000);
    let sent = tokio::time::timeout(PATIENCE, deaf.write_all(&requests)).await;
    assert!(sent.expect("it is given up").is_err());
}

/// Lists look at much: one turn, and nobody waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn lists_are_put_together_a_few_at_once() {
    let bounds = "http.lists = 1\nhttp.wait = \"0s\"";
    let installation = Installation::new(Engine::Embedded).with_demo().with(bounds);
    let process = installation.up().await;
    let refused = process
        .until("two want a turn at once", || async {
            let path = "/v1/plans?sort=-price&limit=500";
            let answers = (0..16).map(|_| process.send("GET", path, &[], ""));
            let answers = futures::future::join_all(answers).await;
            answers.into_iter().map(Result::unwrap).find(|one| !one.status.is_success())
        })
        .await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.body["detail"], "too many lists are wanted");
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(process.get("/v1/plans?sort=-price").await.0, StatusCode::OK);
}

/// Everything that a list has, page by page, and how many pages there were.
async fn pages(process: &Process, path: &str) -> (Vec<Value>, usize) {
    let (mut all, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let (status, page) = process.get(&format!("{path}{cursor}")).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        assert!(page.to_string().len() < 6 << 20, "a page of {} bytes", page.to_string().len());
        pages += 1;
        all.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return (all, pages),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_end_where_they_grow_large() {
    const RECIPES: usize = 50;
    let installation = Installation::new(Engine::Embedded);
    let process = installation.up().await;
    let large = |number: usize| {
        let steps = vec![json!({"text": "x".repeat(4_000)}); 50];
        json!({"name": format!("r{number}"), "ingredients": [{"ingredient": "i"}], "steps": steps})
    };
    let mut last = None;
    for number in 0..RECIPES {
        let created =
            process.send("POST", "/v1/recipes", &[], large(number).to_string()).await.unwrap();
        assert_eq!(created.status, StatusCode::CREATED);
        let id = created.body["id"].as_str().unwrap().to_owned();
        // Each may be in another partition.
        process.recipe_at(&id, 1).await;
        last = Some(id);
    }
    let id = last.unwrap();
    for path in ["/v1/recipes?limit=500", "/v1/recipes?ingredient=i&limit=500"] {
        let (found, pages) = pages(&process, path).await;
        let ids: BTreeSet<&str> = found.iter().map(|one| one["id"].as_str().unwrap()).collect();
        assert_eq!((found.len(), ids.len()), (RECIPES, RECIPES), "{path}: each is there once");
        assert!(pages > 1, "{path}");
    }
    // Small ones are in one page, however large their rows.
    for number in 0..40 {
        let path = format!("/v1/recipes/{id}");
        let body = large(RECIPES + number).to_string();
        let revised = process.send("PUT", &path, &[], body).await.unwrap();
        assert_eq!(revised.status, StatusCode::OK);
    }
    process.recipe_at(&id, 41).await;
    let (events, one) = pages(&process, &format!("/v1/recipes/{id}/history?limit=500")).await;
    assert_eq!((events.len(), one), (41, 1));
    let (events, several) = pages(&process, &format!("/v1/recipes/{id}/history?limit=10")).await;
    let versions: Vec<u64> = events.iter().map(|one| one["version"].as_u64().unwrap()).collect();
    assert_eq!((versions, several), ((1..=41).collect(), 5));
    // Pages of events have no end of their own: an empty one is the end.
    let (mut after, mut seen) = ("beginning".to_owned(), 0);
    loop {
        let path = format!("/v1/events/recipes.events?limit=500&after={after}");
        let (_, page) = process.get(&path).await;
        assert!(page.to_string().len() < 8 << 20, "a page of {} bytes", page.to_string().len());
        let events = page["items"].as_array().unwrap().len();
        if events == 0 {
            break;
        }
        seen += events;
        after = page["next_cursor"].as_str().unwrap().to_owned();
    }
    assert_eq!(seen, RECIPES + 40);
}

fn threads(process: &Process) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("Threads:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Whether a token will ever be reached is looked up in the log, and on Kafka each look is a
/// consumer with threads of its own.
#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_the_same_is_looked_up_once() {
    const READERS: usize = 200;
    let installation = Installation::new(Engine::Cluster);
    let process = installation.up().await;
    let created = process.send("POST", "/v1/recipes", &[], recipe("r", "i")).await.unwrap();
    let token = created.header("consistency-token").to_owned();
    let (partition, _) = token.rsplit_once('-').unwrap();
    let never = format!("{partition}-{}", 1_u64 << 40);
    let before = threads(&process);
    let headers = [("consistency-token", never.as_str()), ("prefer", "wait=3, handling=strict")];
    let reads = (0..READERS).map(|_| process.send("GET", "/v1/recipes", &headers, ""));
    let mut reads = std::pin::pin!(futures::future::join_all(reads));
    let mut most = 0;
    let answers = loop {
        tokio::select! {
            answers = &mut reads => break answers,
            () = tokio::time::sleep(Duration::from_millis(20)) => most = most.max(threads(&process)),
        }
    };
    let is_refused = |status| status == StatusCode::SERVICE_UNAVAILABLE;
    assert!(answers.iter().all(|one| is_refused(one.as_ref().unwrap().status)), "{answers:?}");
    assert!(most < before + READERS, "{most} threads, {before} before");
}
