//! Writes under `kill -9`, and a decider that was stopped while its group moved on: what was
//! acknowledged is there once, what was refused is not, and every key keeps its answer.
//! `ALMANAC_KILLS` says how many kills (15 by default; `make faults` does 200).

mod fencing;
mod upgrade;

use almanac_tests::{
    process::{Engine, Installation, Process},
    writers::{Addresses, Writers, check},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::time::Duration;

fn kills() -> u64 {
    std::env::var("ALMANAC_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(15)
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_writes_survive_kills() {
    let installation = Installation::new(Engine::Embedded);
    let addresses = Addresses::default();
    let mut process = installation.up().await;
    addresses.set(0, &process);
    let writers = Writers::start(&addresses);
    let mut random = StdRng::seed_from_u64(11);
    for _ in 0..kills() {
        tokio::time::sleep(Duration::from_millis(random.random_range(50..600))).await;
        process.kill();
        process = installation.start("up", "up");
        addresses.set(0, &process);
    }
    process.ready().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let written = writers.finish().await;
    check(&process, &written).await;
    assert!(process.stop().success());
}

/// Two command APIs and a projector, on real Kafka and Cassandra.
#[tokio::test(flavor = "multi_thread")]
async fn cluster_writes_survive_kills() {
    let installation = Installation::new(Engine::Cluster);
    let addresses = Addresses::default();
    let roles = ["command-api", "command-api", "projector"];
    let start =
        |place: usize| installation.start(roles[place], &format!("{}-{place}", roles[place]));
    let mut processes: Vec<Process> = (0..roles.len()).map(start).collect();
    processes[0].ready().await;
    processes[1].ready().await;
    addresses.set(0, &processes[0]);
    addresses.set(1, &processes[1]);
    let writers = Writers::start(&addresses);
    let mut random = StdRng::seed_from_u64(12);
    for _ in 0..kills() {
        tokio::time::sleep(Duration::from_millis(random.random_range(200..2_000))).await;
        let place = random.random_range(0..roles.len());
        processes[place].kill();
        processes[place] = start(place);
        if place < 2 {
            addresses.set(place, &processes[place]);
        }
    }
    for process in &processes[..2] {
        process.ready().await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let written = writers.finish().await;
    for process in &processes[..2] {
        check(process, &written).await;
    }
    for process in &mut processes {
        assert!(process.stop().success());
    }
}

/// A decider is stopped in the middle of its work until its group has moved on, and then goes on:
/// it commits nothing of what it had, and nobody is told anything twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_commits_nothing() {
    let installation = Installation::new(Engine::Cluster);
    let addresses = Addresses::default();
    let mut zombie = installation.start("command-api", "zombie");
    zombie.ready().await;
    addresses.set(0, &zombie);
    let mut projector = installation.start("projector", "projector");
    let writers = Writers::start(&addresses);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut successor = installation.start("command-api", "successor");
    successor.ready().await;
    addresses.set(1, &successor);
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        zombie.signal("STOP");
        // Long past the session time-out of two seconds: its partitions have another owner.
        tokio::time::sleep(Duration::from_secs(6)).await;
        zombie.signal("CONT");
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let written = writers.finish().await;
    check(&successor, &written).await;
    check(&zombie, &written).await;
    for process in [&mut zombie, &mut successor, &mut projector] {
        assert!(process.stop().success());
    }
}
