//! Stopping and starting the real servers of the stack.

use std::{path::PathBuf, process::Command};

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
