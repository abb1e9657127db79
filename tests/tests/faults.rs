//! `kill -9` of any role at any moment during ingest: nothing is lost, nothing is doubled.
//! `ALMANAC_KILLS` says how many (15 by default; `make faults` does 200).

use almanac_tests::{
    changing::{Changing, settled},
    oracle,
    process::{Engine, Installation, Process},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::time::Duration;

const PLANS: u64 = 300;

fn kills() -> u64 {
    std::env::var("ALMANAC_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(15)
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_survives_kills() {
    let changing = Changing::start(PLANS).await;
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
    let changing = Changing::start(PLANS).await;
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
