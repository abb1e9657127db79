//! Profiles of a running process.

use almanac_tests::process::{Engine, Installation, Process, client};
use prost::Message;
use reqwest::{Response, StatusCode};
use std::{
    io::{Read, Write},
    process::{Command, Stdio},
};

/// Of pprof's `profile.proto`.
#[derive(Clone, PartialEq, Message)]
struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    of: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
}

impl Profile {
    fn text(&self, place: i64) -> &str {
        &self.string_table[usize::try_from(place).unwrap()]
    }

    fn values(&self) -> Vec<String> {
        let name = |value: &ValueType| format!("{}/{}", self.text(value.of), self.text(value.unit));
        self.sample_type.iter().map(name).collect()
    }

    /// All of a value.
    fn total(&self, place: usize) -> i64 {
        self.sample.iter().map(|sample| sample.value[place]).sum()
    }
}

async fn ask(process: &Process, query: &str) -> Response {
    client().get(process.url(&format!("/v1/admin/profile{query}"))).send().await.unwrap()
}

/// By the system's own program, so that it is gzip.
fn unpacked(packed: &[u8]) -> Vec<u8> {
    let mut gzip = Command::new("gzip")
        .arg("-dc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut input, packed) = (gzip.stdin.take().unwrap(), packed.to_vec());
    let writing = std::thread::spawn(move || input.write_all(&packed).unwrap());
    let mut out = Vec::new();
    gzip.stdout.take().unwrap().read_to_end(&mut out).unwrap();
    writing.join().unwrap();
    assert!(gzip.wait().unwrap().success());
    out
}

async fn profile(process: &Process, query: &str) -> Profile {
    let answer = ask(process, query).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["content-type"], "application/octet-stream");
    assert_eq!(answer.headers()["cache-control"], "no-store");
    Profile::decode(unpacked(&answer.bytes().await.unwrap()).as_slice()).unwrap()
}

/// While `made` is being made there is something to do.
async fn under_load<T>(process: &Process, made: impl Future<Output = T>) -> T {
    let load = async {
        loop {
            assert_eq!(process.get("/v1/recipes").await.0, StatusCode::OK);
        }
    };
    tokio::select! {
        made = made => made,
        () = load => unreachable!("it has no end"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_process_tells_what_it_does_with_time_and_memory() {
    let installation = Installation::new(Engine::Embedded).with("http.profile_time = \"20s\"");
    let mut process = installation.up().await;
    let cpu = under_load(&process, profile(&process, "?seconds=2")).await;
    assert_eq!(cpu.values(), ["samples/count", "cpu/nanoseconds"]);
    assert!(cpu.duration_nanos >= 2_000_000_000, "{}", cpu.duration_nanos);
    assert!(cpu.total(0) > 0 && cpu.total(1) / cpu.total(0) == 1_000_000_000 / 99);
    assert!(cpu.sample.iter().any(|sample| sample.location_id.len() > 10), "whole stacks");
    let has =
        |profile: &Profile, part: &str| profile.string_table.iter().any(|text| text.contains(part));
    assert!(has(&cpu, "almanac_"), "names of ours: {:?}", cpu.string_table);

    let heap = under_load(&process, profile(&process, "?kind=heap&seconds=2")).await;
    let values =
        ["alloc_objects/count", "alloc_space/bytes", "inuse_objects/count", "inuse_space/bytes"];
    assert_eq!(heap.values(), values);
    assert!(heap.total(1) > 0 && heap.total(3) <= heap.total(1), "{:?}", heap.sample);
    assert!(has(&heap, "almanac_"), "names of ours: {:?}", heap.string_table);

    let lines = under_load(&process, ask(&process, "?seconds=1&format=folded")).await;
    assert_eq!(lines.headers()["content-type"], "text/plain; charset=utf-8");
    let lines = lines.text().await.unwrap();
    assert!(lines.lines().count() > 0);
    for line in lines.lines() {
        let (stack, value) = line.rsplit_once(' ').unwrap();
        assert!(stack.contains(';') && value.parse::<u64>().unwrap() > 0, "{line}");
    }

    // One at a time; and who goes away lets the next one in.
    let long = ask(&process, "?seconds=20");
    let refused = async {
        let is_made = || async { process.log().contains("seconds=20").then_some(()) };
        process.until("the long profile is being made", is_made).await;
        let refused = ask(&process, "?seconds=1&kind=heap").await;
        assert_eq!(refused.status(), StatusCode::CONFLICT);
    };
    tokio::select! {
        answer = long => panic!("it takes longer: {answer:?}"),
        () = refused => {}
    }
    process
        .until("the next profile", || async {
            (ask(&process, "?seconds=1").await.status() == StatusCode::OK).then_some(())
        })
        .await;

    for (query, status) in [
        ("?seconds=21", StatusCode::BAD_REQUEST),
        ("?seconds=0", StatusCode::BAD_REQUEST),
        ("?kind=disk", StatusCode::BAD_REQUEST),
        ("?second=1", StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(ask(&process, query).await.status(), status, "{query}");
    }
    assert!(process.stop().success());
    assert!(process.log().contains("making a profile"), "{}", process.log());
}

/// Only operators ask for it.
#[tokio::test(flavor = "multi_thread")]
async fn profiles_are_for_operators() {
    let installation = Installation::new(Engine::Embedded).with("identity.local_user = false");
    let mut process = installation.up().await;
    assert_eq!(ask(&process, "?seconds=1").await.status(), StatusCode::UNAUTHORIZED);
    for (scope, status) in
        [("recipes:write", StatusCode::FORBIDDEN), ("operator:read", StatusCode::OK)]
    {
        let minted = installation.command("up", &["token", "--scope", scope]);
        let token = String::from_utf8(minted.stdout).unwrap();
        let asked = client().get(process.url("/v1/admin/profile?seconds=1"));
        let asked = asked.bearer_auth(token.trim());
        assert_eq!(asked.send().await.unwrap().status(), status, "{scope}");
    }
    assert!(process.stop().success());
}
