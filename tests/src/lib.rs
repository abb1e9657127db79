//! What tests of the whole system share: addresses of the real servers, a provider that does as
//! it is told, launching the binary, and the oracle.

pub mod bare_cluster;
pub mod bare_tables;
pub mod bare_writes;
pub mod baseline;
pub mod changing;
pub mod clock;
pub mod collector;
pub mod faulty_cql;
pub mod held_cql;
pub mod interposed;
pub mod logged;
pub mod next_release;
pub mod oracle;
pub mod process;
pub mod provider;
pub mod readers;
pub mod servers;
pub mod small_disk;
pub mod sse;
pub mod webhooks;
pub mod writers;

use almanac_command_api::{Decider, DeciderMetrics, DeciderOptions, Topics};
use almanac_event_log::kafka::KafkaOptions;
use almanac_processor::StateFolder;
use almanac_read_store::scylla::ScyllaOptions;
use almanac_schemas::Codec;
use serde_json::json;
use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};
use uuid::Uuid;

/// An address that `tests/stack/stack.sh up` prints. A missing server fails a test; it is never
/// skipped.
pub fn address(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run `make test`, or `tests/stack/stack.sh up` and export what it prints")
    })
}

pub fn kafka() -> KafkaOptions {
    KafkaOptions::new(address("ALMANAC_TEST_KAFKA"))
}

pub fn scylla(keyspace: &str) -> ScyllaOptions {
    ScyllaOptions::new(vec![address("ALMANAC_TEST_SCYLLA")], keyspace)
}

/// A name that no other run uses, fit for a keyspace and a topic.
pub fn unique(letter: char) -> String {
    format!("{letter}{}", &Uuid::new_v4().simple().to_string()[..10])
}

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Where the servers of tests and the clients of others are.
pub fn stack() -> PathBuf {
    std::env::var_os("ALMANAC_STACK_DIR").map_or_else(|| root().join(".stack"), PathBuf::from)
}

/// A program of the environment that `make clients` makes: clients that others wrote.
pub fn python_program(name: &str) -> Command {
    let program = stack().join("venv/bin").join(name);
    assert!(program.exists(), "{} is missing; `make clients` installs it", program.display());
    Command::new(program)
}

/// The body of a small recipe.
pub fn recipe(name: &str, ingredient: &str) -> String {
    json!({
        "name": name, "ingredients": [{"ingredient": ingredient}], "steps": [{"text": "Eat."}],
    })
    .to_string()
}

/// A decider with its local states in this folder.
pub fn decider(
    topics: Topics,
    codec: Arc<Codec>,
    folder: &Path,
    options: DeciderOptions,
) -> Decider {
    let open = |name: &str| StateFolder::open(&folder.join(name)).expect("a local state");
    let aggregates = almanac_command_api::contexts().map(open).collect();
    Decider {
        topics,
        options,
        codec,
        aggregates,
        outcomes: open("outcomes"),
        metrics: DeciderMetrics::default(),
    }
}
