//! Stopping and starting the real servers of the stack.

use crate::process::client;
use bytes::Bytes;
use std::{
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
};

/// A verb of tests/stack/stack.sh for one server.
pub fn stack(verb: &str, server: &str) {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("stack/stack.sh");
    let status = Command::new(script).args([verb, server]).status().unwrap();
    assert!(status.success(), "{verb} {server}");
}

pub fn signal_kafka(name: &str) -> bool {
    let Ok(pid) = std::fs::read_to_string(crate::stack().join("kafka/pid")) else {
        return false;
    };
    let status = Command::new("kill").args([&format!("-{name}"), pid.trim()]).status();
    status.is_ok_and(|status| status.success())
}

fn pid(server: &str) -> Option<u32> {
    let pid = std::fs::read_to_string(crate::stack().join(server).join("pid")).ok()?;
    let pid = pid.trim().parse().ok()?;
    Path::new(&format!("/proc/{pid}")).exists().then_some(pid)
}

fn takes_connections(server: &str) -> bool {
    let variable = match server {
        "kafka" => "ALMANAC_TEST_KAFKA",
        "cassandra" => "ALMANAC_TEST_SCYLLA",
        "registry" => "ALMANAC_TEST_REGISTRY",
        other => panic!("no server is called {other}"),
    };
    let address = crate::address(variable);
    let address = address.split("://").last().unwrap().split('/').next().unwrap();
    TcpStream::connect(address).is_ok()
}

/// A server that was killed. However its test ends, it is started again.
pub struct Killed {
    server: &'static str,
    was: u32,
    /// What the registry of the stack, which keeps nothing on disk, is given back.
    schemas: Option<Bytes>,
}

impl Killed {
    /// `kill -9`; afterwards nobody answers there.
    pub async fn now(server: &'static str) -> Self {
        let was =
            pid(server).unwrap_or_else(|| panic!("{server} does not run in {:?}", crate::stack()));
        assert!(takes_connections(server), "{server} is not there before it is killed");
        let schemas = match server {
            "registry" => Some(all_schemas().await),
            _ => None,
        };
        let killed = Self { server, was, schemas };
        tokio::task::block_in_place(|| stack("kill", server));
        assert!(!Path::new(&format!("/proc/{was}")).exists(), "{server} lives on as {was}");
        assert!(!takes_connections(server), "somebody answers in place of {server}");
        killed
    }

    /// Starts it again, and waits until it answers.
    pub async fn start(mut self) {
        tokio::task::block_in_place(|| stack("start", self.server));
        let is = pid(self.server);
        assert!(is.is_some_and(|is| is != self.was), "{} is another process: {is:?}", self.server);
        if let Some(schemas) = self.schemas.take() {
            give_back(schemas).await;
        }
    }
}

/// An address of the registry's own interface.
fn registry(path: &str) -> String {
    let address = crate::address("ALMANAC_TEST_REGISTRY");
    let (base, _) = address.split_once("/apis/").expect("an address of Apicurio");
    format!("{base}/apis/registry/v3/admin/{path}")
}

async fn all_schemas() -> Bytes {
    let answer = client().get(registry("export")).send().await.unwrap();
    answer.error_for_status().unwrap().bytes().await.unwrap()
}

/// Each under its id of before.
async fn give_back(schemas: Bytes) {
    let request = client().post(registry("import")).header("content-type", "application/zip");
    let answer = request.body(schemas).send().await.unwrap();
    let status = answer.status();
    assert!(status.is_success(), "{status}: {:?}", answer.text().await);
}

impl Drop for Killed {
    fn drop(&mut self) {
        if pid(self.server).is_none() {
            stack("start", self.server);
        }
    }
}
