//! `almanac canary` against the real binary: what works, what fails, and what it measures.

use almanac_tests::process::{Engine, Installation, Process, binary, client, free_port};
use std::process::{Child, Command, Stdio};

const STEPS: usize = 8;

/// One that goes on until it is dropped.
pub(crate) struct Canary {
    child: Child,
    metrics: String,
}

impl Canary {
    pub(crate) fn of(process: &Process) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let child = Command::new(binary())
            .args(["canary", "--every", "1", "--patience", "5", "--listen", &address])
            .args(["--url", &process.url("")])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, metrics: format!("http://{address}/metrics") }
    }

    /// Nothing while it starts.
    pub(crate) async fn metrics(&self) -> Option<String> {
        client().get(&self.metrics).send().await.ok()?.text().await.ok()
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_tells_what_works_and_what_does_not() {
    let installation = Installation::new(Engine::Embedded);
    let mut process = installation.up().await;
    let once = installation.command("up", &["canary", "--json"]);
    let steps = String::from_utf8(once.stdout.clone()).unwrap();
    assert!(once.status.success(), "{once:?}");
    let worked = steps.lines().filter(|line| line.contains("\"fault\":null")).count();
    assert_eq!(worked, STEPS, "{steps}");
    process
        .until("the deletion of what it wrote", || async {
            let (_, left) = process.get("/v1/recipes?tag=almanac-canary").await;
            (left["items"] == serde_json::json!([])).then_some(())
        })
        .await;

    let canary = Canary::of(&process);
    let worked = |text: &String| {
        let last = "almanac_canary_last_success_timestamp_seconds ";
        let last = text.lines().find_map(|line| line.strip_prefix(last));
        last.is_some_and(|seconds| seconds != "0")
    };
    process.until("a run that worked", async || canary.metrics().await.filter(worked)).await;

    let address = process.url("");
    process.stop();
    let gone = installation.command("up", &["canary", "--patience", "1", "--url", &address]);
    assert_eq!(gone.status.code(), Some(3), "{gone:?}");
    let steps = String::from_utf8(gone.stdout).unwrap();
    assert_eq!(steps.matches("FAILED").count(), STEPS, "{steps}");
    let failed = |text: &String| {
        text.contains("almanac_canary_steps_total{step=\"write\",outcome=\"failed\"}")
    };
    process.until("a write that failed", async || canary.metrics().await.filter(failed)).await;
}
