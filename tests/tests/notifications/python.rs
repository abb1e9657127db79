//! The library that Standard Webhooks itself publishes for Python takes what is sent.

use super::{QUICK, schedule, start_task};
use almanac_tests::{
    process::{Engine, Installation},
    python_program, root,
    webhooks::{Received, Receiver, SECRET, subscribe},
};
use serde_json::json;
use std::{io::Write, process::Stdio};

/// Whether the library takes it.
fn verifies(secret: &str, received: &Received) -> bool {
    let headers = json!({
        "webhook-id": received.id, "webhook-timestamp": received.timestamp,
        "webhook-signature": received.signature,
    });
    let given = json!({"secret": secret, "headers": headers, "body": received.text}).to_string();
    let script = root().join("tests/clients/verify_webhook.py");
    let mut python = python_program("python")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(given.as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    match String::from_utf8(output.stdout).unwrap().trim() {
        "verified" => true,
        "refused" => false,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_library_verifies_what_is_sent() {
    let receiver = Receiver::default();
    let url = receiver.start().await;
    let installation = Installation::new(Engine::Embedded).with(QUICK);
    let mut process = installation.up().await;
    subscribe(&process, &[], &["task.started"], None, &format!("{url}/python")).await;
    start_task(&process, &schedule(&process, "Høgafjell ⚓").await).await;
    let received = process
        .until("the webhook", || async { receiver.received("python").into_iter().next() })
        .await;
    assert!(received.text.contains("Høgafjell ⚓"), "{received:?}");
    assert!(verifies(SECRET, &received));
    let other = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI0";
    assert!(!verifies(other, &received), "another secret");
    let text = received.text.replace("lift", "left");
    assert!(!verifies(SECRET, &Received { text, ..received.clone() }), "another body");
    let id = format!("{}.1", received.id);
    assert!(!verifies(SECRET, &Received { id, ..received }), "another id");
    assert!(process.stop().success());
}
