//! Writers that go on while processes die, and what must hold of what they were told: what was acknowledged is
//! there once, what was refused is not, and every key keeps its answer.

use crate::process::{Answer, PATIENCE, Process};
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use reqwest::StatusCode;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

const WRITERS: u64 = 6;
/// Writes of each, at least.
const LEAST: usize = 10;
/// Every so many writes of one there is a new recipe.
const CREATES: usize = 4;

fn recipe(name: &str) -> String {
    crate::recipe(name, "salt")
}

/// Addresses of the processes as they are now; they change with every restart.
#[derive(Clone, Default)]
pub struct Addresses(Arc<Mutex<Vec<String>>>);

impl Addresses {
    pub fn set(&self, place: usize, process: &Process) {
        let mut all = self.0.lock();
        let length = all.len().max(place + 1);
        all.resize(length, String::new());
        all[place] = process.url("");
    }

    pub fn all(&self) -> Vec<String> {
        self.0.lock().clone()
    }

    pub fn any(&self, random: &mut StdRng) -> String {
        let all = self.0.lock();
        all[random.random_range(0..all.len())].clone()
    }
}

/// One write with a key, tried until there is an answer for good.
#[derive(Clone, Debug)]
pub struct Written {
    key: String,
    method: &'static str,
    path: String,
    expected: Option<String>,
    body: String,
    pub status: StatusCode,
    pub answer: Value,
    token: String,
}

/// How far the writers are.
#[derive(Default)]
struct Progress {
    /// Answers that each of them was given.
    answered: [usize; WRITERS as usize],
    /// The newest that was acknowledged.
    newest: Option<Written>,
    /// The recipe that was created last.
    created: String,
    /// The longest wait for an answer for good.
    longest: Duration,
}

impl Progress {
    fn note(&mut self, writer: u64, write: &Written, took: Duration) {
        self.answered[writer as usize] += 1;
        self.longest = self.longest.max(took);
        if write.status == StatusCode::CREATED {
            self.created = write.answer["id"].as_str().unwrap().to_owned();
        }
        if write.status.is_success() {
            self.newest = Some(write.clone());
        }
    }
}

async fn attempt(base: &str, write: &Written) -> Option<Answer> {
    let client = crate::process::client();
    let method = reqwest::Method::from_bytes(write.method.as_bytes()).unwrap();
    let mut request = client
        .request(method, format!("{base}{}", write.path))
        .header("idempotency-key", &write.key)
        .header("prefer", "wait=2")
        .timeout(Duration::from_secs(5))
        .body(write.body.clone());
    if let Some(expected) = &write.expected {
        request = request.header("if-match", expected);
    }
    let answer = request.send().await.ok()?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let body = serde_json::from_str(&answer.text().await.ok()?).ok()?;
    let is_final = status != StatusCode::ACCEPTED && !status.is_server_error();
    is_final.then_some(Answer { status, headers, body })
}

async fn until_answered(addresses: &Addresses, random: &mut StdRng, mut write: Written) -> Written {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let base = addresses.any(random);
        if let Some(answer) = attempt(&base, &write).await {
            write.token = answer.header("consistency-token").to_owned();
            (write.status, write.answer) = (answer.status, answer.body);
            return write;
        }
        assert!(Instant::now() < deadline, "no answer in time: {write:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Creates and revises recipes of its own until told to stop; now and then with a stale version.
async fn writer(
    number: u64,
    addresses: Addresses,
    pause: Duration,
    stop: Arc<AtomicBool>,
    progress: Arc<Mutex<Progress>>,
) -> Vec<Written> {
    let mut random = StdRng::seed_from_u64(number);
    let mut written: Vec<Written> = Vec::new();
    let mut versions: Vec<(String, u64)> = Vec::new();
    // However short the time, some of each kind.
    while !stop.load(Ordering::SeqCst) || written.len() < LEAST {
        let count = written.len();
        let name = format!("{number}.{count}");
        let mut write = Written {
            key: format!("key-{name}"),
            method: "POST",
            path: "/v1/recipes".to_owned(),
            expected: None,
            body: recipe(&name),
            status: StatusCode::OK,
            answer: Value::Null,
            token: String::new(),
        };
        let which = (!versions.is_empty() && !count.is_multiple_of(CREATES))
            .then(|| random.random_range(0..versions.len()));
        let is_stale = which.is_some() && count % 7 == 3;
        if let Some(which) = which {
            let (id, version) = &versions[which];
            write.method = "PUT";
            write.path = format!("/v1/recipes/{id}");
            write.expected = Some(format!("\"{}\"", version + u64::from(is_stale)));
        }
        let begun = Instant::now();
        let write = until_answered(&addresses, &mut random, write).await;
        progress.lock().note(number, &write, begun.elapsed());
        match (which, is_stale) {
            (_, true) => assert_eq!(write.status, StatusCode::PRECONDITION_FAILED, "{write:?}"),
            (None, _) => {
                assert_eq!(write.status, StatusCode::CREATED, "{write:?}");
                versions.push((write.answer["id"].as_str().unwrap().to_owned(), 1));
            }
            (Some(which), _) => {
                assert_eq!(write.status, StatusCode::OK, "{write:?}");
                versions[which].1 += 1;
                assert_eq!(write.answer["version"], versions[which].1, "once, and the next");
            }
        }
        if write.status.is_success() && count.is_multiple_of(3) {
            // Processes die meanwhile: whether there is an answer is checked once they live.
            shows_own_write(&addresses.any(&mut random), &write).await;
        }
        written.push(write);
        tokio::time::sleep(pause).await;
    }
    written
}

/// Whether a read with the write's token is answered; what it answers shows the write.
async fn shows_own_write(base: &str, write: &Written) -> bool {
    let id = write.answer["id"].as_str().unwrap();
    let request = crate::process::client()
        .get(format!("{base}/v1/recipes/{id}"))
        .header("consistency-token", &write.token)
        .header("prefer", "handling=strict, wait=2")
        .timeout(Duration::from_secs(5));
    let Ok(answer) = request.send().await else { return false };
    assert_ne!(answer.status(), StatusCode::NOT_FOUND, "{write:?}");
    if answer.status() != StatusCode::OK {
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{write:?}");
        return false;
    }
    let Ok(body) = answer.json::<Value>().await else { return false };
    assert!(body["version"].as_u64() >= write.answer["version"].as_u64(), "{write:?}: {body}");
    true
}

/// Holds what the writers were told against what is there.
pub async fn check(process: &Process, written: &[Written]) {
    let mut names: BTreeMap<&str, BTreeMap<u64, &str>> = BTreeMap::new();
    for write in written.iter().filter(|write| write.status.is_success()) {
        let answer = &write.answer;
        let (id, version) = (answer["id"].as_str().unwrap(), answer["version"].as_u64().unwrap());
        let name = answer["name"].as_str().unwrap();
        assert!(write.body.contains(name), "the answer is that of the request");
        let before = names.entry(id).or_default().insert(version, name);
        assert_eq!(before, None, "{id}: version {version} was given out once");
    }
    for (id, names) in &names {
        let last = names.len() as u64;
        let row = process
            .until(&format!("{id} at version {last}"), || async {
                let (_, row) = process.get(&format!("/v1/recipes/{id}")).await;
                (row["version"].as_u64()? >= last).then_some(row)
            })
            .await;
        assert_eq!(row["version"], last, "{id}: nothing happened that nobody was told");
        for (version, name) in names {
            let (_, old) = process.get(&format!("/v1/recipes/{id}?version={version}")).await;
            assert_eq!(old["name"], **name, "{id}: version {version}");
        }
    }
    let mut listed = 0;
    let mut next = String::new();
    loop {
        let (_, page) = process.get(&format!("/v1/recipes?limit=500{next}")).await;
        listed += page["items"].as_array().unwrap().len();
        match page["next_cursor"].as_str() {
            Some(cursor) => next = format!("&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(listed, names.len(), "no recipe is there that nobody made");
    // No process dies any more: a read with a token is answered, and soon.
    for write in written.iter().filter(|write| write.status.is_success()).step_by(7) {
        let is_shown = async || shows_own_write(&process.url(""), write).await.then_some(());
        process.until("a read with the token of a write", is_shown).await;
    }
    for write in written.iter().step_by(5) {
        let again = attempt(&process.url(""), write).await.expect("an answer");
        assert_eq!((again.status, &again.body), (write.status, &write.answer), "{}", write.key);
        assert_eq!(again.header("idempotent-replayed"), "true", "{}", write.key);
    }
}

pub struct Writers {
    stop: Arc<AtomicBool>,
    progress: Arc<Mutex<Progress>>,
    tasks: Vec<tokio::task::JoinHandle<Vec<Written>>>,
}

impl Writers {
    pub fn start(addresses: &Addresses) -> Self {
        Self::start_with(addresses, Duration::ZERO)
    }

    /// Each of them pauses between two writes.
    pub fn start_with(addresses: &Addresses, pause: Duration) -> Self {
        let (stop, progress) = <(Arc<AtomicBool>, Arc<Mutex<Progress>>)>::default();
        let start =
            |number| writer(number, addresses.clone(), pause, stop.clone(), progress.clone());
        let tasks = (0..WRITERS).map(|number| tokio::spawn(start(number))).collect();
        Self { stop, progress, tasks }
    }

    /// Waits until each of them has made a recipe and changed some since now, and until this process shows the newest
    /// of that; the id of a recipe that was created meanwhile.
    pub async fn go_on(&self, process: &Process) -> String {
        let before = self.progress.lock().answered;
        process
            .until("writes of every writer", || async {
                let now = self.progress.lock().answered;
                // The first may have been decided before.
                now.iter().zip(before).all(|(now, before)| *now > before + CREATES).then_some(())
            })
            .await;
        let (newest, created) = {
            let progress = self.progress.lock();
            (progress.newest.clone().expect("a write"), progress.created.clone())
        };
        let is_shown = async || shows_own_write(&process.url(""), &newest).await.then_some(());
        process.until("the newest write in the tables", is_shown).await;
        created
    }

    /// The longest wait for an answer since this was asked last.
    pub fn longest(&self) -> Duration {
        std::mem::take(&mut self.progress.lock().longest)
    }

    pub async fn finish(self) -> Vec<Written> {
        self.stop.store(true, Ordering::SeqCst);
        let mut written = Vec::new();
        for task in self.tasks {
            written.extend(task.await.unwrap());
        }
        written
    }
}
