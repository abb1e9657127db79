//! Faults of every kind, while a feed changes with every fetch, writers write, analyses are asked for and a
//! subscriber is told: on the embedded engine, and on the cluster engine with two processes of each role. Afterwards
//! nothing that was acknowledged is lost, nothing is there twice, and the tables are what a fresh rebuild makes of
//! the log.
//!
//! `make faults` runs the whole campaign (`ALMANAC_FAULTS=full`), each kind in an installation of its own.
//! Without it there is a handful of most kinds, all in one.

mod cluster;
mod embedded;
mod rebuilds;
mod rolling;
mod stage;
mod takeover;

use almanac_tests::process::Engine;
use futures::future::BoxFuture;
use stage::{Ground, NOTHING, Stage};
use std::time::Instant;
use tokio::sync::Mutex;

/// Faults of the whole campaign, at least, on each engine.
const ON_EMBEDDED: u64 = 190;
const ON_CLUSTER: u64 = 160;
const _: () = assert!(ON_EMBEDDED + ON_CLUSTER >= 300);

/// One engine at a time: servers are killed, and what stands still for want of a processor is no fault.
static TURN: Mutex<()> = Mutex::const_new(());

/// A kind of fault: its name, how many there are in a handful and in the whole campaign, and what happens.
struct Kind {
    name: &'static str,
    few: u64,
    full: u64,
    inflict: for<'a> fn(&'a mut Stage, u64) -> BoxFuture<'a, ()>,
    ground: Ground,
}

const fn kind(
    name: &'static str,
    few: u64,
    full: u64,
    inflict: for<'a> fn(&'a mut Stage, u64) -> BoxFuture<'a, ()>,
) -> Kind {
    Kind { name, few, full, inflict, ground: NOTHING }
}

fn is_whole() -> bool {
    std::env::var("ALMANAC_FAULTS").as_deref() == Ok("full")
}

async fn campaign(engine: Engine, roles: &'static [&'static str], kinds: &[Kind], least: u64) {
    let _turn = TURN.lock().await;
    let begun = Instant::now();
    let mut faults = 0;
    if is_whole() {
        for (seed, kind) in (1..).zip(kinds) {
            let mut stage = Stage::begin(engine, roles, kind.ground, seed).await;
            (kind.inflict)(&mut stage, kind.full).await;
            stage.count(kind.name);
            faults += stage.end().await;
        }
        assert!(faults >= least, "{engine:?}: the whole campaign has only {faults} faults");
    } else {
        let ground = Ground {
            small_disk: kinds.iter().any(|kind| kind.ground.small_disk),
            clock: kinds.iter().any(|kind| kind.ground.clock),
            ..NOTHING
        };
        let mut stage = Stage::begin(engine, roles, ground, 1).await;
        for kind in kinds.iter().filter(|kind| kind.few > 0) {
            (kind.inflict)(&mut stage, kind.few).await;
            stage.count(kind.name);
        }
        faults += stage.end().await;
        let few: u64 = kinds.iter().map(|kind| kind.few).sum();
        assert!(faults >= few, "{engine:?}: {faults} faults instead of {few} and more");
    }
    let took = begun.elapsed().as_secs();
    println!("campaign: {engine:?}: {faults} faults in {took} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_engine_outlives_faults() {
    campaign(Engine::Embedded, embedded::ROLES, &embedded::KINDS, ON_EMBEDDED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_engine_outlives_faults() {
    campaign(Engine::Cluster, cluster::ROLES, &cluster::KINDS, ON_CLUSTER).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_moves_no_partition() {
    let _turn = TURN.lock().await;
    // One of each role in a handful.
    let last = if is_whole() { cluster::ROLES.len() } else { cluster::OWNERS };
    let places: Vec<usize> = (0..last).collect();
    rolling::restarted(cluster::ROLES, &places).await;
}
