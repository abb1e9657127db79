//! What is said of tasks that fail again and again. While a server is away, every partition of every
//! role starts over several times a minute for one and the same reason: the first failure of a role is
//! said at once, what follows once a minute and together, and so is the end of it.

use crate::supervise::{TaskName, fields};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

/// The pause between two lines about one role.
const SAID_EVERY: Duration = Duration::from_secs(60);
/// Different errors that a summary tells.
const TOLD_ERRORS: usize = 3;

#[derive(Default)]
pub(crate) struct Outages(Mutex<BTreeMap<Arc<str>, Outage>>);

/// Of one role.
struct Outage {
    since: Instant,
    said: Instant,
    failing: BTreeSet<TaskName>,
    /// Since it began.
    failures: u64,
    /// Since something was said.
    unsaid: u64,
    errors: Vec<String>,
}

impl Outages {
    pub(crate) fn failed(&self, task: &TaskName, error: &str) {
        self.failed_at(task, error, Instant::now());
    }

    fn failed_at(&self, task: &TaskName, error: &str, now: Instant) {
        let mut outages = self.0.lock();
        let Some(outage) = outages.get_mut(&task.role) else {
            let (role, topic, partition) = fields(task);
            tracing::warn!(
                role,
                topic,
                partition,
                error,
                "a task failed and is restarted; further failures of this role are logged once a minute"
            );
            outages.insert(
                task.role.clone(),
                Outage {
                    since: now,
                    said: now,
                    failing: BTreeSet::from([task.clone()]),
                    failures: 1,
                    unsaid: 0,
                    errors: Vec::new(),
                },
            );
            return;
        };
        outage.failing.insert(task.clone());
        outage.failures += 1;
        outage.unsaid += 1;
        if !outage.errors.iter().any(|told| told == error) {
            if outage.errors.len() == TOLD_ERRORS {
                outage.errors.remove(0);
            }
            outage.errors.push(error.to_owned());
        }
        if now.duration_since(outage.said) >= SAID_EVERY {
            tracing::warn!(
                role = %task.role,
                tasks = outage.failing.len(),
                failures = outage.unsaid,
                for_s = now.duration_since(outage.since).as_secs(),
                errors = outage.errors.join(" | "),
                "tasks still fail and are restarted"
            );
            outage.said = now;
            outage.unsaid = 0;
            outage.errors.clear();
        }
    }

    /// The task was stopped.
    pub(crate) fn forget(&self, task: &TaskName) {
        let mut outages = self.0.lock();
        let Some(outage) = outages.get_mut(&task.role) else { return };
        outage.failing.remove(task);
        if outage.failing.is_empty() {
            outages.remove(&task.role);
        }
    }

    /// The task runs again; once all of its role do, that is said.
    pub(crate) fn mended(&self, task: &TaskName) {
        let mut outages = self.0.lock();
        let Some(outage) = outages.get_mut(&task.role) else { return };
        outage.failing.remove(task);
        if !outage.failing.is_empty() {
            return;
        }
        if let Some(outage) = outages.remove(&task.role) {
            tracing::info!(
                role = %task.role,
                failures = outage.failures,
                after_s = outage.since.elapsed().as_secs(),
                "all tasks of the role run again"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use tracing_subscriber::fmt;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_outage_is_said_at_once_then_once_a_minute_and_its_end() {
        let written = Written::default();
        let writer = written.clone();
        let log = fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let lines = || -> Vec<String> {
            let text = String::from_utf8(std::mem::take(&mut *written.0.lock())).unwrap();
            text.lines().map(str::to_owned).collect()
        };
        tracing::subscriber::with_default(log, || {
            let (outages, begin) = (Outages::default(), Instant::now());
            let tasks: Vec<TaskName> = (0..8)
                .map(|number| TaskName::of_partition("decider", "commands", number))
                .collect();
            let fail = |second: u64, task: &TaskName, error: &str| {
                outages.failed_at(task, error, begin + Duration::from_secs(second));
            };
            // Eight partitions fail every three seconds for three minutes: 480 times.
            for second in (0..180).step_by(3) {
                for task in &tasks {
                    fail(second, task, "kafka is unavailable");
                }
            }
            let said = lines();
            assert_eq!(said.len(), 3, "at once, and after each full minute: {said:#?}");
            assert!(said[0].contains("partition=0 error=\"kafka is unavailable\""), "{said:#?}");
            assert!(said[1].contains("tasks=8") && said[1].contains("failures=160"), "{said:#?}");
            // Another role is said at once; other errors come with the summary.
            fail(181, &TaskName::new("ingestor"), "the disk is full");
            fail(181, &tasks[3], "no route to host");
            fail(240, &tasks[3], "kafka is unavailable");
            let said = lines();
            assert_eq!(said.len(), 2, "{said:#?}");
            assert!(said[0].contains("role=\"ingestor\""), "{said:#?}");
            assert!(said[1].contains("kafka is unavailable | no route to host"), "{said:#?}");
            tasks[..7].iter().for_each(|task| outages.mended(task));
            assert!(lines().is_empty());
            outages.mended(&tasks[7]);
            let said = lines();
            assert!(said[0].contains("run again") && said[0].contains("failures=482"), "{said:#?}");
            // What is stopped meanwhile ends without a word, and the next failure is a new outage.
            outages.forget(&TaskName::new("ingestor"));
            assert!(lines().is_empty());
            fail(300, &tasks[0], "again");
            assert_eq!(lines().len(), 1);
        });
    }
}
