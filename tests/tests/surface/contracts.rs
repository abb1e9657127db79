//! What is published for programs (OpenAPI, AsyncAPI), held against programs that others wrote.

use super::{Engine, pictures::bearer};
use almanac_tests::{process::Installation, root};
use std::process::Command;

/// Validators take both documents, nothing that clients rely on is gone since the release before, and
/// clients that ordinary generators make of them write and read what they wrote.
#[tokio::test(flavor = "multi_thread")]
async fn published_documents_hold_what_they_promise() {
    let installation = Installation::new(Engine::Embedded).with_demo();
    let process = installation.up().await;
    let token = bearer(&installation, "recipes:write", "mary");
    let mut check = Command::new(root().join("tests/clients/contracts/check.sh"));
    check.arg(process.url("")).env("ALMANAC_TOKEN", token.trim_start_matches("Bearer "));
    let checked = tokio::task::spawn_blocking(move || check.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{said}{complaints}");
    for part in ["openapi", "asyncapi", "baseline", "typescript", "python"] {
        assert!(said.lines().any(|line| line == format!("ok: {part}")), "{part}: {said}");
    }
}
