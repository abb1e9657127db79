//! Long-lived tasks. Each that ends although nobody stopped it, by an error or a panic, is noticed and
//! said; it is started again, or, where that does not help, its process ends.
//!
//! Errors are most often outages, which pass: a task that fails is started again for as long as it takes.
//! A panic is a fault of the program: too many of them within a while end the process.

use crate::outage::Outages;
use almanac_errors::chain;
use futures::FutureExt;
use parking_lot::{Mutex, RwLock};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use std::{
    any::Any,
    collections::{BTreeMap, VecDeque},
    error::Error,
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Of a panic's message; what comes after it is not logged.
const MAX_MESSAGE: usize = 500;

/// How often a task may be started over.
#[derive(Clone, Debug)]
pub struct RestartLimits {
    /// So many panics of one task within this time are survived; the next ends the process.
    pub panics: usize,
    pub within: Duration,
    /// For so long after a panic the process does not count as ready.
    pub distrust: Duration,
    /// A task that has run for so long since its last start counts as mended: longer than what it may
    /// wait for a server that does not answer.
    pub settled: Duration,
}

impl Default for RestartLimits {
    fn default() -> Self {
        Self {
            panics: 8,
            within: Duration::from_secs(600),
            distrust: Duration::from_secs(10),
            settled: Duration::from_secs(60),
        }
    }
}

/// What a task is, in logs and metrics.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskName {
    /// Such as the name of a group.
    pub role: Arc<str>,
    /// Topic and partition that it handles, if it is one of several.
    pub place: Option<(Arc<str>, u32)>,
}

impl TaskName {
    pub fn new(role: &str) -> Self {
        Self { role: role.into(), place: None }
    }

    pub fn of_partition(role: &str, topic: &str, partition: u32) -> Self {
        Self { role: role.into(), place: Some((topic.into(), partition)) }
    }
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some((topic, partition)) => write!(f, "{} of {topic}/{partition}", self.role),
            None => f.write_str(&self.role),
        }
    }
}

/// A task that is not started again: its process is to end.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{task} {why}")]
pub struct Died {
    pub task: TaskName,
    pub why: String,
}

/// Why a run of a task ended although nobody stopped it.
#[derive(Debug)]
pub struct Ending {
    pub why: String,
    /// Another start cannot help.
    pub is_final: bool,
}

impl Ending {
    pub fn again(error: &dyn Error) -> Self {
        Self { why: chain(error).to_string(), is_final: false }
    }

    pub fn is_final(error: &dyn Error) -> Self {
        Self { why: chain(error).to_string(), is_final: true }
    }
}

/// A task that does not run as it should.
#[derive(Clone, Debug)]
pub struct Failing {
    pub task: TaskName,
    pub why: String,
    pub panicked: bool,
    at: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    role: String,
    cause: &'static str,
}

type Requirement = (&'static str, Box<dyn Fn() -> bool + Send + Sync>);

/// Watches over the long-lived tasks of a process; clones share what they know.
#[derive(Clone, Default)]
pub struct Supervisor(Arc<Inner>);

#[derive(Default)]
struct Inner {
    limits: RestartLimits,
    failing: Mutex<BTreeMap<TaskName, Failing>>,
    outages: Outages,
    /// The first that is not started again.
    died: Mutex<Option<TaskName>>,
    deaths: Family<Labels, Counter>,
    requirements: RwLock<Vec<Requirement>>,
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor").field("failing", &self.failing()).finish_non_exhaustive()
    }
}

impl Supervisor {
    pub fn new(limits: RestartLimits) -> Self {
        Self(Arc::new(Inner { limits, ..Inner::default() }))
    }

    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "almanac_task_deaths",
            "Unexpected ends of long-lived tasks, by role and cause (error, panic)",
            self.0.deaths.clone(),
        );
    }

    /// Tasks that failed and have not run for a while since.
    pub fn failing(&self) -> Vec<Failing> {
        self.0.failing.lock().values().cloned().collect()
    }

    /// The process counts as ready only while this holds.
    pub fn require(&self, what: &'static str, holds: impl Fn() -> bool + Send + Sync + 'static) {
        self.0.requirements.write().push((what, Box::new(holds)));
    }

    /// What keeps the process from being ready: a task that is not started again, a requirement that
    /// does not hold, or a task that panicked a moment ago.
    pub fn waits_for(&self) -> Option<String> {
        if let Some(died) = &*self.0.died.lock() {
            return Some(format!("the end of this process, since {died} ended"));
        }
        let unmet =
            self.0.requirements.read().iter().find(|(_, holds)| !holds()).map(|(what, _)| *what);
        if let Some(unmet) = unmet {
            return Some(unmet.to_owned());
        }
        let failing = self.0.failing.lock();
        let distrusted = |one: &&Failing| one.panicked && one.at.elapsed() < self.0.limits.distrust;
        let panicked = failing.values().find(distrusted)?;
        Some(format!("{}, which panicked", panicked.task))
    }

    /// Runs a task until `stop`, again and again, with pauses that grow from `first_pause` to thirty-two
    /// times that. The error says that it is not started any more.
    pub async fn keep<F>(
        &self,
        task: &TaskName,
        stop: &CancellationToken,
        first_pause: Duration,
        mut start: impl FnMut() -> F,
    ) -> Result<(), Died>
    where
        F: Future<Output = Result<(), Ending>>,
    {
        let mut pause = Pause::new(first_pause);
        let mut panics = VecDeque::new();
        loop {
            let started = Instant::now();
            let ended = self.run(task, start(), stop).await;
            let Some(ended) = ended else { return Ok(()) };
            let ending = match ended {
                Ended::Error(ending) => ending,
                Ended::Panic(message) => {
                    panics.push_back(Instant::now());
                    while panics.front().is_some_and(|at| at.elapsed() > self.0.limits.within) {
                        panics.pop_front();
                    }
                    let why = format!("panicked: {message}");
                    let is_final = panics.len() > self.0.limits.panics;
                    if is_final {
                        let times = panics.len();
                        let why = format!(
                            "{why} (the last of {times} panics within {:?})",
                            self.0.limits.within
                        );
                        return Err(self.died(task, why));
                    }
                    Ending { why, is_final: false }
                }
            };
            if ending.is_final {
                return Err(self.died(task, format!("ended: {}", ending.why)));
            }
            if started.elapsed() > self.0.limits.settled {
                pause.reset();
            }
            pause.wait(stop).await;
            if stop.is_cancelled() {
                self.forget(task);
                return Ok(());
            }
        }
    }

    /// Runs what cannot be started again. The error says that it ended before `stop`.
    pub async fn keep_once(
        &self,
        task: &TaskName,
        stop: &CancellationToken,
        run: impl Future<Output = ()>,
    ) -> Result<(), Died> {
        let run = async {
            run.await;
            Ok(())
        };
        let why = match self.run(task, run, stop).await {
            None => return Ok(()),
            Some(Ended::Error(ending)) => format!("ended: {}", ending.why),
            Some(Ended::Panic(message)) => format!("panicked: {message}"),
        };
        Err(self.died(task, why))
    }

    /// The process ends in order, which takes a while: nobody should send it requests meanwhile.
    fn died(&self, task: &TaskName, why: String) -> Died {
        self.0.died.lock().get_or_insert_with(|| task.clone());
        Died { task: task.clone(), why }
    }

    /// One run; `None` when it was stopped.
    async fn run(
        &self,
        task: &TaskName,
        run: impl Future<Output = Result<(), Ending>>,
        stop: &CancellationToken,
    ) -> Option<Ended> {
        let run = AssertUnwindSafe(run).catch_unwind();
        tokio::pin!(run);
        let mut settled = false;
        let ended = loop {
            tokio::select! {
                ended = &mut run => break ended,
                () = tokio::time::sleep(self.0.limits.settled), if !settled => {
                    settled = true;
                    self.mended(task);
                }
            }
        };
        let (role, topic, partition) = fields(task);
        match ended {
            Ok(_) if stop.is_cancelled() => {
                self.forget(task);
                None
            }
            Ok(ended) => {
                let by_itself = Ending { why: "it ended by itself".to_owned(), is_final: false };
                let ending = ended.err().unwrap_or(by_itself);
                self.failed(task, &ending.why, false);
                if ending.is_final {
                    tracing::error!(role, topic, partition, error = ending.why, "a task ended");
                } else {
                    self.0.outages.failed(task, &ending.why);
                }
                Some(Ended::Error(ending))
            }
            Err(panic) => {
                let message = message(&*panic);
                tracing::error!(role, topic, partition, panic = message, "a task panicked");
                self.failed(task, &format!("panicked: {message}"), true);
                // While it is being stopped, that it panicked changes nothing any more.
                (!stop.is_cancelled()).then_some(Ended::Panic(message))
            }
        }
    }

    fn failed(&self, task: &TaskName, why: &str, panicked: bool) {
        let cause = if panicked { "panic" } else { "error" };
        let labels = Labels { role: task.role.to_string(), cause };
        self.0.deaths.get_or_create(&labels).inc();
        let failing =
            Failing { task: task.clone(), why: why.to_owned(), panicked, at: Instant::now() };
        self.0.failing.lock().insert(task.clone(), failing);
    }

    /// It is not its turn any more.
    fn forget(&self, task: &TaskName) {
        self.0.failing.lock().remove(task);
        self.0.outages.forget(task);
    }

    fn mended(&self, task: &TaskName) {
        if self.0.failing.lock().remove(task).is_some() {
            self.0.outages.mended(task);
        }
    }
}

enum Ended {
    Error(Ending),
    Panic(String),
}

/// A task's name as fields of a log line.
pub(crate) fn fields(task: &TaskName) -> (&str, Option<&str>, Option<u32>) {
    let (topic, partition) =
        task.place.as_ref().map(|(topic, partition)| (&**topic, *partition)).unzip();
    (&task.role, topic, partition)
}

/// What a panic says.
pub fn message(panic: &(dyn Any + Send)) -> String {
    let text = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text.as_str(),
        _ => "no message",
    };
    text.chars().take(MAX_MESSAGE).collect()
}

/// Exponential pauses that a cancellation cuts short.
struct Pause {
    first: Duration,
    next: Duration,
}

impl Pause {
    fn new(first: Duration) -> Self {
        Self { first, next: first }
    }

    fn reset(&mut self) {
        self.next = self.first;
    }

    async fn wait(&mut self, cancelled: &CancellationToken) {
        tokio::select! {
            () = cancelled.cancelled() => {}
            () = tokio::time::sleep(self.next) => {}
        }
        self.next = (self.next * 2).min(self.first * 32);
    }
}
