//! An installation at work, and what must hold of it whatever happened.

use almanac_tests::{
    changing::{Changing, settled},
    oracle,
    process::{Engine, Installation, PATIENCE, Process, client},
    small_disk::SmallDisk,
    webhooks::{Receiver, subscribe},
    writers::{Addresses, Writers, check},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    os::unix::fs::PermissionsExt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;

const PLANS: u64 = 60;
/// Projections whose tables are held against a rebuild of them.
const REBUILT: [&str; 2] = ["plans", "recipes"];
/// Analyses that are asked for, at least.
const ANALYSES: usize = 3;

/// Webhooks are tried again at once, to receivers on this machine.
const QUICK: &str = "notifications.private_addresses = true\n\
                     notifications.first_pause = \"100ms\"\n\
                     notifications.longest_pause = \"500ms\"";

pub(crate) struct Stage {
    pub(crate) roles: &'static [&'static str],
    pub(crate) processes: Vec<Process>,
    /// Under the folder of the first process.
    pub(crate) disk: Option<SmallDisk>,
    pub(crate) random: StdRng,
    /// So far.
    pub(crate) faults: u64,
    counted: u64,
    addresses: Addresses,
    changing: Changing,
    writers: Writers,
    analyses: (Arc<AtomicBool>, JoinHandle<Vec<String>>),
    receiver: Receiver,
    pub(crate) installation: Installation,
}

impl Stage {
    /// Starts a process of each of these roles, and everybody who uses them.
    pub(crate) async fn begin(
        engine: Engine,
        roles: &'static [&'static str],
        on_a_small_disk: bool,
        seed: u64,
    ) -> Self {
        let changing = Changing::start(PLANS).await;
        let installation = Installation::new(engine)
            .with(QUICK)
            .with_provider("changing", &changing.provider.url());
        // One key to keep secrets under, for all processes.
        let key = installation.folder().join("key");
        std::fs::write(&key, [7; 32]).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        let installation = installation.with(&format!("notifications.key_file = {key:?}"));
        let folder = installation.folder().join(name(roles, 0));
        let disk = on_a_small_disk.then(|| SmallDisk::mount(&folder));
        let processes: Vec<Process> = (0..roles.len())
            .map(|place| installation.start(roles[place], &name(roles, place)))
            .collect();
        let addresses = Addresses::default();
        let apis = (0..roles.len()).filter(|place| takes_writes(roles[*place]));
        for (number, place) in apis.enumerate() {
            processes[place].ready().await;
            addresses.set(number, &processes[place]);
        }
        let receiver = Receiver::default();
        let url = format!("{}/all", receiver.start().await);
        let api = roles.iter().position(|role| takes_writes(role)).unwrap();
        subscribe(&processes[api], &[], &["recipe.created"], None, &url).await;
        let stop = Arc::new(AtomicBool::new(false));
        let asking = tokio::spawn(ask(addresses.clone(), stop.clone()));
        Self {
            roles,
            processes,
            disk,
            random: StdRng::seed_from_u64(seed),
            faults: 0,
            counted: 0,
            writers: Writers::start(&addresses),
            addresses,
            changing,
            analyses: (stop, asking),
            receiver,
            installation,
        }
    }

    /// Says how many faults of a kind there were.
    pub(crate) fn count(&mut self, kind: &str) {
        let engine = self.installation.engine;
        println!("campaign: {engine:?}, {kind}: {} faults", self.faults - self.counted);
        self.counted = self.faults;
    }

    /// Waits until all are ready. What has ended is started again, as whoever runs processes does: one that
    /// starts while a server dies gives up.
    pub(crate) async fn well(&mut self) {
        for place in 0..self.processes.len() {
            let deadline = Instant::now() + PATIENCE;
            loop {
                let asked = client().get(self.processes[place].url("/readyz")).send().await;
                if asked.is_ok_and(|answer| answer.status() == StatusCode::OK) {
                    break;
                }
                let process = &mut self.processes[place];
                assert!(Instant::now() < deadline, "it is never ready:\n{}", process.log());
                if process.has_ended() {
                    self.start(place);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    pub(crate) async fn work(&mut self, milliseconds: Range<u64>) {
        let pause = self.random.random_range(milliseconds);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }

    /// One that takes writes.
    pub(crate) fn api(&self) -> &Process {
        let place = self.roles.iter().position(|role| takes_writes(role)).unwrap();
        &self.processes[place]
    }

    pub(crate) fn start(&mut self, place: usize) {
        self.processes[place] =
            self.installation.start(self.roles[place], &name(self.roles, place));
        let before = self.roles[..place].iter().filter(|role| takes_writes(role)).count();
        if takes_writes(self.roles[place]) {
            self.addresses.set(before, &self.processes[place]);
        }
    }

    pub(crate) fn kill_and_start(&mut self, place: usize) {
        self.processes[place].kill();
        self.start(place);
        self.faults += 1;
    }

    /// No more faults: holds everything against what everybody was told.
    pub(crate) async fn end(mut self) {
        self.well().await;
        let written = self.writers.finish().await;
        self.analyses.0.store(true, Ordering::SeqCst);
        let analyses = self.analyses.1.await.unwrap();
        let last = self.changing.freeze();
        let reader = self.processes.last().unwrap();
        settled(reader).await;
        oracle::check(reader, PLANS, last).await;
        check(reader, &written).await;
        each_ends_once(reader, &analyses).await;
        are_told(reader, &self.receiver).await;
        let api = self.roles.iter().position(|role| takes_writes(role)).unwrap();
        for projection in REBUILT {
            is_as_rebuilt(&self.processes[api], projection).await;
        }
        println!(
            "campaign: {} writes, {} analyses and {last} feeds are as everybody was told",
            written.len(),
            analyses.len()
        );
        for process in &mut self.processes {
            assert!(process.stop().success());
        }
    }
}

fn takes_writes(role: &str) -> bool {
    ["up", "command-api"].contains(&role)
}

fn name(roles: &[&str], place: usize) -> String {
    match roles[place] {
        "up" => "up".to_owned(),
        role => format!("{role}-{place}"),
    }
}

/// Asks for analyses, each with a key, until there is an answer for good; their ids.
async fn ask(addresses: Addresses, stop: Arc<AtomicBool>) -> Vec<String> {
    let mut random = StdRng::seed_from_u64(99);
    let points: Vec<Value> = (0..24)
        .map(|hour| json!({"time": format!("2025-08-20T{hour:02}:00:00Z"), "wave_height_m": 1.0}))
        .collect();
    let body = json!({
        "schedule": {
            "name": "Turbine 7", "location": {"lat": 61.5, "lon": 4.8},
            "tasks": [{"id": "lift", "name": "Lift", "duration": "PT4H",
                "limits": [{"variable": "wave_height_m", "max": 2.0}]}],
        },
        "forecast": {"source": "own", "step": "PT1H", "points": points},
    });
    let mut ids = Vec::new();
    let deadline = Instant::now() + PATIENCE * 10;
    while !stop.load(Ordering::SeqCst) || ids.len() < ANALYSES {
        assert!(Instant::now() < deadline, "analyses are not taken");
        tokio::time::sleep(Duration::from_millis(100)).await;
        let request = client()
            .post(format!("{}/v1/analyses", addresses.any(&mut random)))
            .header("idempotency-key", format!("analysis-{}", ids.len()))
            .timeout(Duration::from_secs(5))
            .body(body.to_string());
        let Ok(answer) = request.send().await else { continue };
        let is_decided =
            answer.status() == StatusCode::ACCEPTED && answer.headers().contains_key("etag");
        let Ok(answer) = answer.json::<Value>().await else { continue };
        let id =
            answer["request_id"].as_str().filter(|_| is_decided || answer["state"] == "queued");
        ids.extend(id.map(str::to_owned));
    }
    ids
}

/// All items of a topic of events.
async fn events(process: &Process, topic: &str) -> Vec<Value> {
    let (mut found, mut after) = (Vec::new(), "beginning".to_owned());
    loop {
        let (_, page) = process.get(&format!("/v1/events/{topic}?limit=500&after={after}")).await;
        let items = page["items"].as_array().unwrap_or_else(|| panic!("{page}"));
        if items.is_empty() {
            return found;
        }
        found.extend(items.iter().cloned());
        after = page["next_cursor"].as_str().unwrap().to_owned();
    }
}

async fn each_ends_once(process: &Process, analyses: &[String]) {
    let distinct: BTreeSet<&String> = analyses.iter().collect();
    assert_eq!(distinct.len(), analyses.len(), "each key has an analysis of its own");
    for id in analyses {
        process
            .until(&format!("the end of analysis {id}"), || async {
                let (_, body) = process.get(&format!("/v1/analyses/{id}")).await;
                assert_ne!(body["state"], "failed", "{body}");
                (body["state"] == "completed").then_some(())
            })
            .await;
    }
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    for event in events(process, "analyses.events").await {
        if event["type"] == "analysis.completed" {
            *ends.entry(event["subject"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    let expected = analyses.iter().map(|id| (id.clone(), 1)).collect();
    assert_eq!(ends, expected, "each that was asked for ends once, and no other is there");
}

/// The subscriber hears of every event at least once, and of nothing else.
async fn are_told(process: &Process, receiver: &Receiver) {
    let created: BTreeSet<String> = events(process, "recipes.events")
        .await
        .iter()
        .filter(|event| event["type"] == "recipe.created")
        .map(|event| event["id"].as_str().unwrap().to_owned())
        .collect();
    let told = async || {
        let told = receiver.ids("all");
        assert!(told.is_subset(&created), "of what never happened");
        (told == created).then_some(())
    };
    process.until("all notifications", told).await;
}

/// A dry run folds the whole log anew: its rows and their digest are those of the live tables.
async fn is_as_rebuilt(process: &Process, projection: &str) {
    let path = format!("/v1/admin/projections/{projection}/rebuilds");
    let body = json!({"reason": "to compare", "dry_run": true, "events_per_s": 0}).to_string();
    let begun = process.send("POST", &path, &[], body).await.unwrap();
    assert_eq!(begun.status, StatusCode::ACCEPTED, "{}", begun.body);
    let path = format!("/v1/admin/rebuilds/{}", begun.body["id"].as_str().unwrap());
    let done = process
        .until("the end of the dry run", || async {
            let (_, found) = process.get(&path).await;
            assert_ne!(found["state"], "failed", "{found}");
            (found["dropped"] == true).then_some(found)
        })
        .await;
    assert_eq!((&done["state"], &done["different_rows"]), (&json!("ready"), &json!(0)), "{done}");
    let certificate = &done["certificate"];
    assert_eq!(certificate["live"]["digest"], certificate["rebuilt"]["digest"], "{certificate}");
    assert!(certificate["live"]["digest"].is_string(), "{certificate}");
}
