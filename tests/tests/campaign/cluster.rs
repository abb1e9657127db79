//! The cluster engine: two processes of each role, on Kafka, Cassandra and a schema registry.

use super::{
    Kind, kind,
    rebuilds::killed_in_each_state,
    stage::Stage,
    takeover::{Held, joins_anew, moves_on},
};
use almanac_tests::{
    readers::{CutOff, Readers},
    servers::Killed,
};
use futures::FutureExt;

pub(crate) const ROLES: &[&str] = &[
    "command-api",
    "projector",
    "ingestor",
    "worker",
    "query-api",
    "command-api",
    "projector",
    "ingestor",
    "worker",
    "query-api",
];

/// Those that own partitions; the first of each role.
pub(crate) const OWNERS: usize = 4;

pub(crate) const KINDS: [Kind; 7] = [
    kind("kill -9 of each role", 5, 60, |stage, times| killed(stage, times).boxed()),
    kind("kill -9, dead until others took over", 1, 12, |stage, times| {
        taken_over(stage, times, Fate::Dead).boxed()
    }),
    kind("SIGSTOP until others took over", 1, 12, |stage, times| {
        taken_over(stage, times, Fate::Stopped).boxed()
    }),
    // Servers take long to start, and all other tests need them: `outages.rs` stops each in every run of the tests.
    kind("Kafka killed", 0, 6, |stage, times| restarted(stage, times, "kafka").boxed()),
    kind("Cassandra killed", 0, 4, |stage, times| restarted(stage, times, "cassandra").boxed()),
    kind("registry killed", 0, 4, |stage, times| restarted(stage, times, "registry").boxed()),
    kind("kill -9 in each state of a rebuild", 1, 3, |stage, times| rebuilt(stage, times).boxed()),
];

/// One process at a time, of each role in turn, while others read as behind a proxy: no read fails.
async fn killed(stage: &mut Stage, times: u64) {
    stage.well().await;
    let readers = Readers::start(&stage.reads, CutOff::AsksAgain);
    for number in 0..times as usize {
        let place = number % ROLES.len();
        stage.well().await;
        stage.work(50..1_000).await;
        stage.kill_and_start(place);
        if number % 4 == 3 {
            // While it starts.
            stage.work(20..600).await;
            stage.kill_and_start(place);
        }
    }
    stage.well().await;
    let reads = readers.finish().await;
    println!("campaign: {reads} reads were answered meanwhile");
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Dead,
    Stopped,
}

/// One process stays away until the others of its role have its partitions, and everything goes on without it.
/// One that was stopped wakes up as an owner, and is none.
async fn taken_over(stage: &mut Stage, times: u64, fate: Fate) {
    stage.well().await;
    let readers = Readers::start(&stage.reads, CutOff::AsksAgain);
    for number in 0..times as usize {
        let place = number % OWNERS;
        stage.well().await;
        stage.work(50..1_000).await;
        let held = Held::by(stage, place).await;
        match fate {
            Fate::Dead => stage.kill(place),
            Fate::Stopped => {
                stage.processes[place].pause().await;
                stage.faults += 1;
            }
        }
        moves_on(stage, place, &held).await;
        stage.goes_on().await;
        match fate {
            Fate::Dead => stage.start(place),
            Fate::Stopped => stage.processes[place].signal("CONT"),
        }
        joins_anew(stage, place, &held).await;
    }
    let reads = readers.finish().await;
    println!("campaign: {reads} reads were answered meanwhile");
}

/// A server is killed under all, and comes back.
async fn restarted(stage: &mut Stage, times: u64, server: &'static str) {
    for _ in 0..times {
        stage.well().await;
        stage.work(50..1_000).await;
        let killed = Killed::now(server).await;
        stage.faults += 1;
        stage.work(200..3_000).await;
        killed.start().await;
        stage.goes_on().await;
    }
    stage.well().await;
}

/// A projector dies in each state; then both, and then a decider with them.
async fn rebuilt(stage: &mut Stage, times: u64) {
    let mut all = stage.places("projector");
    all.extend(stage.places("command-api").first());
    for number in 0..times as usize {
        stage.well().await;
        stage.work(500..1_000).await;
        killed_in_each_state(stage, &all[..=number % all.len()]).await;
    }
}
