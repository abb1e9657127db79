//! Readers that go on while processes come and go, as clients behind a proxy do.

use crate::{process::client, writers::Addresses};
use reqwest::StatusCode;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinHandle;

/// Between two reads: others use the processors, too.
const PAUSE: Duration = Duration::from_millis(20);
const PATHS: [&str; 4] = ["/search", "/v1/plans?limit=20", "/v1/recipes?limit=20", "/v1/providers"];

/// What becomes of an answer whose process ends before all of it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutOff {
    /// A process that stops in order sends what it has begun.
    Fails,
    /// One that is killed cannot: the next is asked.
    AsksAgain,
}

/// What one process has not begun to answer, the next one is asked for.
async fn read(addresses: &Addresses, path: &str, cut_off: CutOff) {
    let mut refused = Vec::new();
    for base in addresses.all() {
        match client().get(format!("{base}{path}")).send().await {
            Err(error) => refused.push(error),
            Ok(answer) => {
                let (status, body) = (answer.status(), answer.text().await);
                match body {
                    Err(error) if cut_off == CutOff::AsksAgain => refused.push(error),
                    body => {
                        assert_eq!(status, StatusCode::OK, "{path}: {body:?}");
                        assert!(body.is_ok(), "{path} was cut off: {body:?}");
                        return;
                    }
                }
            }
        }
    }
    panic!("{path}: nobody answers: {refused:?}");
}

pub struct Readers {
    stop: Arc<AtomicBool>,
    task: JoinHandle<u64>,
}

impl Readers {
    pub fn start(addresses: &Addresses, cut_off: CutOff) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (addresses, stopped) = (addresses.clone(), stop.clone());
        let task = tokio::spawn(async move {
            let mut reads = 0;
            while !stopped.load(Ordering::SeqCst) {
                for path in PATHS {
                    read(&addresses, path, cut_off).await;
                    tokio::time::sleep(PAUSE).await;
                    reads += 1;
                }
            }
            reads
        });
        Self { stop, task }
    }

    /// How many reads were answered; that one was not is a panic.
    pub async fn finish(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.unwrap()
    }
}
