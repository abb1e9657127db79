//! Faults of every kind on the embedded engine, while a feed changes with every fetch, writers write, analyses are
//! asked for and a subscriber is told. Afterwards nothing that was acknowledged is lost, nothing is there
//! twice, and the tables are what a fresh rebuild makes of the log.
//!
//! `make faults` runs the whole campaign (`ALMANAC_FAULTS=full`), each kind in an installation of its own.
//! Without it there is a handful of each, all in one.

mod embedded;
mod rebuilds;
mod stage;

use almanac_tests::process::Engine;
use futures::future::BoxFuture;
use stage::Stage;

/// A kind of fault: its name, how many there are in a handful and in the whole campaign, and what happens.
struct Kind {
    name: &'static str,
    few: u64,
    full: u64,
    inflict: for<'a> fn(&'a mut Stage, u64) -> BoxFuture<'a, ()>,
    /// The folder of the first process is a small disk.
    on_a_small_disk: bool,
}

async fn campaign(engine: Engine, roles: &'static [&'static str], kinds: &[Kind]) {
    if std::env::var("ALMANAC_FAULTS").as_deref() != Ok("full") {
        let disk = kinds.iter().any(|kind| kind.on_a_small_disk);
        let mut stage = Stage::begin(engine, roles, disk, 1).await;
        for kind in kinds {
            (kind.inflict)(&mut stage, kind.few).await;
            stage.count(kind.name);
        }
        return stage.end().await;
    }
    for (seed, kind) in (1..).zip(kinds) {
        let mut stage = Stage::begin(engine, roles, kind.on_a_small_disk, seed).await;
        (kind.inflict)(&mut stage, kind.full).await;
        stage.count(kind.name);
        stage.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_engine_outlives_faults() {
    campaign(Engine::Embedded, embedded::ROLES, &embedded::KINDS).await;
}
