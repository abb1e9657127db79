//! `kill -9` of any role at any moment during ingest: nothing is lost, nothing is doubled.
//! `ALMANAC_KILLS` says how many (15 by default; `make faults` does 200).

use almanac_tests::{
    oracle,
    process::{Engine, Installation, Process},
    provider::{Provider, feed},
};
use axum::response::IntoResponse;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

const PLANS: u64 = 300;

fn kills() -> u64 {
    std::env::var("ALMANAC_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(15)
}

/// Every request gets the next version, until it is frozen.
struct Changing {
    provider: Provider,
    version: Arc<AtomicU64>,
    frozen: Arc<AtomicBool>,
}

impl Changing {
    async fn start() -> Self {
        let provider = Provider::start().await;
        let (version, frozen) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (served, stop) = (version.clone(), frozen.clone());
        provider.answer(move |_, _| {
            let version = match stop.load(Ordering::SeqCst) {
                true => served.load(Ordering::SeqCst),
                false => served.fetch_add(1, Ordering::SeqCst) + 1,
            };
            feed(PLANS, version).into_response()
        });
        Self { provider, version, frozen }
    }

    /// No new versions from here on; returns the last.
    fn freeze(&self) -> u64 {
        self.frozen.store(true, Ordering::SeqCst);
        self.version.load(Ordering::SeqCst)
    }
}

/// Waits until the frozen feed was read and folded: three fetches in a row without news.
async fn settled(process: &Process) {
    let mut quiet_at = std::collections::BTreeSet::new();
    while quiet_at.len() < 3 {
        let provider = process
            .until("observation of the frozen feed", || async {
                let provider = process.provider("changing").await?;
                let at = provider["last_success_at"].as_str()?.to_owned();
                let is_news = !quiet_at.contains(&at);
                is_news.then_some((provider["last_outcome"] == "unchanged", at))
            })
            .await;
        match provider {
            (true, at) => drop(quiet_at.insert(at)),
            (false, _) => quiet_at.clear(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_survives_kills() {
    let changing = Changing::start().await;
    let installation =
        Installation::new(Engine::Embedded).with_provider("changing", &changing.provider.url());
    let mut random = StdRng::seed_from_u64(1);
    let mut process = installation.up().await;
    for _ in 0..kills() {
        tokio::time::sleep(Duration::from_millis(random.random_range(20..400))).await;
        process.kill();
        process = installation.start("up", "up");
    }
    process.ready().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let last = changing.freeze();
    settled(&process).await;
    oracle::check(&process, PLANS, last).await;
    assert!(process.stop().success());
}

/// Two of each role, on real Kafka and Cassandra.
#[tokio::test(flavor = "multi_thread")]
async fn cluster_survives_kills() {
    let changing = Changing::start().await;
    let installation =
        Installation::new(Engine::Cluster).with_provider("changing", &changing.provider.url());
    let mut random = StdRng::seed_from_u64(2);
    let roles = ["ingestor", "ingestor", "projector", "projector", "query-api", "query-api"];
    let start =
        |place: usize| installation.start(roles[place], &format!("{}-{place}", roles[place]));
    let mut processes: Vec<Process> = Vec::new();
    for place in 0..roles.len() {
        processes.push(start(place));
    }
    processes[4].ready().await;
    for _ in 0..kills() {
        tokio::time::sleep(Duration::from_millis(random.random_range(100..1_500))).await;
        let place = random.random_range(0..roles.len());
        processes[place].kill();
        processes[place] = start(place);
    }
    processes[4].ready().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let last = changing.freeze();
    eprintln!("killed; waiting for rest at version {last}");
    settled(&processes[4]).await;
    eprintln!("at rest; checking");
    oracle::check(&processes[4], PLANS, last).await;
    eprintln!("checking the other instance");
    processes[5].ready().await;
    oracle::check(&processes[5], PLANS, last).await;
    for process in &mut processes {
        assert!(process.stop().success());
    }
}
