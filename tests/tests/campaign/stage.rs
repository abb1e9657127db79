//! An installation at work, and what must hold of it whatever happened.

use almanac_tests::{
    changing::{Changing, settled},
    clock::Clock,
    oracle,
    process::{Engine, Installation, PATIENCE, Process, client},
    small_disk::SmallDisk,
    webhooks::{Receiver, subscribe},
    writers::{Addresses, Writers, check},
};
use parking_lot::Mutex;
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
/// Between two writes of a writer: on the cluster engine, there are ten processes and three servers beside.
const PAUSE: Duration = Duration::from_millis(50);
/// More than a stage writes before its disk is made full.
const DISK_MB: u64 = 256;
/// In seconds.
pub(crate) const HOUR: i64 = 3_600;

/// Webhooks are tried again at once, to receivers on this machine.
const QUICK: &str = "notifications.private_addresses = true\n\
                     notifications.first_pause = \"100ms\"\n\
                     notifications.longest_pause = \"500ms\"";

/// What an installation stands on, beside its servers.
#[derive(Clone, Copy)]
pub(crate) struct Ground {
    /// The folder of the first process is a small disk.
    pub(crate) small_disk: bool,
    /// The time of day is one that jumps.
    pub(crate) clock: bool,
    /// Sessions outlast a restart.
    pub(crate) long_sessions: bool,
}

pub(crate) const NOTHING: Ground = Ground { small_disk: false, clock: false, long_sessions: false };

pub(crate) struct Stage {
    pub(crate) roles: &'static [&'static str],
    pub(crate) processes: Vec<Process>,
    /// Under the folder of the first process.
    pub(crate) disk: Option<SmallDisk>,
    pub(crate) clock: Option<Clock>,
    long_sessions: bool,
    pub(crate) random: StdRng,
    /// So far.
    pub(crate) faults: u64,
    counted: u64,
    /// Of those that take writes.
    addresses: Addresses,
    /// Of those that only answer reads.
    pub(crate) reads: Addresses,
    changing: Changing,
    writers: Writers,
    analyses: Analyses,
    receiver: Receiver,
    pub(crate) installation: Installation,
}

/// Analyses that somebody asks for, one after the other.
struct Analyses {
    stop: Arc<AtomicBool>,
    /// Their ids.
    asked: Arc<Mutex<Vec<String>>>,
    asking: JoinHandle<()>,
}

impl Stage {
    /// Starts a process of each of these roles, and everybody who uses them.
    pub(crate) async fn begin(
        engine: Engine,
        roles: &'static [&'static str],
        ground: Ground,
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
        let disk = ground.small_disk.then(|| SmallDisk::mount(&folder, DISK_MB));
        let clock = ground.clock.then(|| Clock::new(installation.folder()));
        if let Some(clock) = &clock {
            // Whoever subscribes is told of what happens later, by the time of day: it is never this early again.
            clock.set(-2 * HOUR);
        }
        let processes: Vec<Process> = (0..roles.len())
            .map(|place| run(&installation, clock.as_ref(), ground.long_sessions, roles, place))
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
        if let Some(clock) = &clock {
            receiver.take_any_time();
            clock.set(0);
        }
        let (stop, asked) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<String>>>::default());
        let asking = tokio::spawn(ask(addresses.clone(), stop.clone(), asked.clone()));
        Self {
            roles,
            processes,
            disk,
            clock,
            long_sessions: ground.long_sessions,
            random: StdRng::seed_from_u64(seed),
            faults: 0,
            counted: 0,
            writers: Writers::start_with(&addresses, PAUSE),
            addresses,
            reads: Addresses::default(),
            changing,
            analyses: Analyses { stop, asked, asking },
            receiver,
            installation,
        }
    }

    /// Says how many faults of a kind there were.
    pub(crate) fn count(&mut self, kind: &str) {
        let (engine, inflicted) = (self.installation.engine, self.faults - self.counted);
        let longest = self.writers.longest().as_secs_f64();
        println!(
            "campaign: {engine:?}, {kind}: {inflicted} faults; no write took longer than {longest:.1} s"
        );
        self.counted = self.faults;
    }

    /// Waits until all are ready. Nobody starts again what has ended: a start waits for its servers, and who runs
    /// outlives them.
    pub(crate) async fn well(&self) {
        for process in &self.processes {
            process.ready().await;
        }
        for (number, place) in self.places("query-api").into_iter().enumerate() {
            self.reads.set(number, &self.processes[place]);
        }
    }

    pub(crate) async fn work(&mut self, milliseconds: Range<u64>) {
        let pause = self.random.random_range(milliseconds);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }

    /// Where the processes of a role are.
    pub(crate) fn places(&self, role: &str) -> Vec<usize> {
        (0..self.roles.len()).filter(|place| self.roles[*place] == role).collect()
    }

    /// One that takes writes.
    pub(crate) fn api(&self) -> &Process {
        let place = self.roles.iter().position(|role| takes_writes(role)).unwrap();
        &self.processes[place]
    }

    /// One that answers, of those that are never left dead or stopped.
    pub(crate) fn reader(&self) -> &Process {
        self.processes.last().unwrap()
    }

    /// The name of a process in its groups, of its folder and of its log.
    pub(crate) fn name(&self, place: usize) -> String {
        name(self.roles, place)
    }

    pub(crate) fn start(&mut self, place: usize) {
        let (clock, long_sessions) = (self.clock.as_ref(), self.long_sessions);
        self.processes[place] = run(&self.installation, clock, long_sessions, self.roles, place);
        let before = self.roles[..place].iter().filter(|role| takes_writes(role)).count();
        if takes_writes(self.roles[place]) {
            self.addresses.set(before, &self.processes[place]);
        }
    }

    pub(crate) fn kill(&mut self, place: usize) {
        self.processes[place].kill_alive();
        self.faults += 1;
    }

    /// Stops a process in order and starts it again.
    pub(crate) fn restart(&mut self, place: usize) {
        let ended = tokio::task::block_in_place(|| self.processes[place].stop());
        assert!(ended.success(), "{}: {ended}", self.name(place));
        self.start(place);
    }

    pub(crate) fn kill_and_start(&mut self, place: usize) {
        self.kill(place);
        self.start(place);
    }

    /// Waits until what begins from here on has come to its end: writes of every writer, in the tables and with
    /// their notification; an analysis; news of the feed.
    pub(crate) async fn goes_on(&self) {
        let reader = self.reader();
        let asked = || self.analyses.asked.lock().clone();
        let (asked_before, fed_before) = (asked().len(), self.changing.served());
        let created = self.writers.go_on(reader).await;
        let told =
            async || self.receiver.ids("all").contains(&format!("{created}.1")).then_some(());
        reader.until("a notification of a new recipe", told).await;
        // The first may have been asked for before.
        let second = async || asked().get(asked_before + 1).cloned();
        let analysis = reader.until("another analysis", second).await;
        ends(reader, &analysis).await;
        // What was served before may have been read by who owns the feed no more.
        let fed = async || (self.changing.served() > fed_before + 1).then_some(());
        reader.until("two fetches of the feed", fed).await;
        for _ in 0..2 {
            let told = self.observed_at().await;
            let news = async || (self.observed_at().await != told).then_some(());
            reader.until("news of the feed", news).await;
        }
    }

    /// When the feed was last read in full, as far as the tables tell.
    pub(crate) async fn observed_at(&self) -> Option<String> {
        let provider = self.reader().provider("changing").await?;
        provider["last_success_at"].as_str().map(str::to_owned)
    }

    /// No more faults: holds everything against what everybody was told. How many faults there were.
    pub(crate) async fn end(mut self) -> u64 {
        self.well().await;
        let written = self.writers.finish().await;
        self.analyses.stop.store(true, Ordering::SeqCst);
        self.analyses.asking.await.unwrap();
        let analyses = std::mem::take(&mut *self.analyses.asked.lock());
        let last = self.changing.freeze();
        let reader = self.processes.last().unwrap();
        settled(reader).await;
        oracle::check(reader, PLANS, last).await;
        // Writes are repeated, to see that their keys keep their answers.
        let api = self.roles.iter().position(|role| takes_writes(role)).unwrap();
        let api = &self.processes[api];
        check(api, &written).await;
        each_ends_once(reader, &analyses).await;
        are_told(reader, &self.receiver).await;
        for projection in REBUILT {
            is_as_rebuilt(api, projection).await;
        }
        println!(
            "campaign: {} writes, {} analyses and {last} feeds are as everybody was told",
            written.len(),
            analyses.len()
        );
        for process in &mut self.processes {
            assert!(process.stop().success());
        }
        self.faults
    }
}

/// Starts a process, whose place tells its name.
fn run(
    installation: &Installation,
    clock: Option<&Clock>,
    long_sessions: bool,
    roles: &[&str],
    place: usize,
) -> Process {
    let name = name(roles, place);
    let mut variables = vec![("ALMANAC__INSTANCE", &*name)];
    variables.extend(long_sessions.then_some(("ALMANAC__SESSION_TIMEOUT", "2m")));
    variables.extend(clock.into_iter().flat_map(Clock::variables));
    installation.start_with(roles[place], &name, &variables)
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

/// Asks for analyses, each with a key, until there is an answer for good.
async fn ask(addresses: Addresses, stop: Arc<AtomicBool>, asked: Arc<Mutex<Vec<String>>>) {
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
    let mut deadline = Instant::now() + PATIENCE;
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) || number < ANALYSES {
        assert!(Instant::now() < deadline, "analyses are not taken");
        tokio::time::sleep(Duration::from_millis(100)).await;
        let request = client()
            .post(format!("{}/v1/analyses", addresses.any(&mut random)))
            .header("idempotency-key", format!("analysis-{number}"))
            .timeout(Duration::from_secs(5))
            .body(body.to_string());
        let Ok(answer) = request.send().await else { continue };
        let is_decided =
            answer.status() == StatusCode::ACCEPTED && answer.headers().contains_key("etag");
        let Ok(answer) = answer.json::<Value>().await else { continue };
        let id =
            answer["request_id"].as_str().filter(|_| is_decided || answer["state"] == "queued");
        if let Some(id) = id {
            asked.lock().push(id.to_owned());
            number += 1;
            deadline = Instant::now() + PATIENCE;
        }
    }
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

async fn ends(process: &Process, analysis: &str) {
    process
        .until(&format!("the end of analysis {analysis}"), || async {
            let (_, body) = process.get(&format!("/v1/analyses/{analysis}")).await;
            assert_ne!(body["state"], "failed", "{body}");
            (body["state"] == "completed").then_some(())
        })
        .await;
}

async fn each_ends_once(process: &Process, analyses: &[String]) {
    let distinct: BTreeSet<&String> = analyses.iter().collect();
    assert_eq!(distinct.len(), analyses.len(), "each key has an analysis of its own");
    for id in analyses {
        ends(process, id).await;
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
