//! The long-lived tasks of the process. None ends before the process does: one that does ends it.

use almanac_errors::chain;
use almanac_processor::{Died, Supervisor, TaskName};
use std::{collections::BTreeSet, future::Future, time::Duration};
use tokio::{runtime::Handle, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// Pause before a follower is started over.
const PAUSE: Duration = Duration::from_millis(250);

pub(crate) struct Tasks {
    supervisor: Supervisor,
    set: JoinSet<(String, Result<(), anyhow::Error>)>,
    running: BTreeSet<String>,
}

impl Tasks {
    pub(crate) fn new(supervisor: &Supervisor) -> Self {
        Self { supervisor: supervisor.clone(), set: JoinSet::new(), running: BTreeSet::new() }
    }

    /// Runs what looks after its own restarts.
    pub(crate) fn run<E>(
        &mut self,
        name: &str,
        on: &Handle,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) where
        E: Into<anyhow::Error>,
    {
        self.running.insert(name.to_owned());
        let name = name.to_owned();
        let task = async move { (name, task.await.map_err(Into::into)) };
        self.set.spawn_on(task, on);
    }

    /// Runs what cannot be started again, and ends in order after `stop`.
    pub(crate) fn run_once(
        &mut self,
        name: &'static str,
        on: &Handle,
        stop: &CancellationToken,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let (supervisor, stop) = (self.supervisor.clone(), stop.clone());
        let once = async move { supervisor.keep_once(&TaskName::new(name), &stop, task).await };
        self.run(name, on, once);
    }

    /// Runs what only reads: it is started over when it fails, and dropped at `stop`.
    pub(crate) fn follow<F>(
        &mut self,
        name: &'static str,
        on: &Handle,
        stop: &CancellationToken,
        mut start: impl FnMut() -> F + Send + 'static,
    ) where
        F: Future<Output = Result<(), almanac_processor::Ending>> + Send,
    {
        let (supervisor, stop) = (self.supervisor.clone(), stop.clone());
        let following = async move {
            let dropped_at_stop = || {
                let following = start();
                let stop = &stop;
                async move {
                    tokio::select! {
                        () = stop.cancelled() => Ok(()),
                        ended = following => ended,
                    }
                }
            };
            supervisor.keep(&TaskName::new(name), &stop, PAUSE, dropped_at_stop).await
        };
        self.run::<Died>(name, on, following);
    }

    /// Waits until a task has ended, which only an error makes it do before it is told to.
    pub(crate) async fn died(&mut self) -> anyhow::Error {
        let Some(ended) = self.set.join_next().await else { return std::future::pending().await };
        match ended {
            Ok((name, Ok(()))) => anyhow::anyhow!("{name} ended by itself"),
            Ok((_, Err(error))) => error,
            Err(error) => anyhow::Error::new(error).context("a task of the process ended"),
        }
    }

    /// Waits until those that were told to end have ended.
    pub(crate) async fn drain(mut self, at_most: Duration) {
        let all_ended = async {
            while let Some(ended) = self.set.join_next().await {
                match ended {
                    Ok((name, Ok(()))) => drop(self.running.remove(&name)),
                    Ok((name, Err(error))) => {
                        self.running.remove(&name);
                        tracing::error!(error = %chain(&*error), "{name} ended with an error");
                    }
                    Err(error) => {
                        tracing::error!(error = %chain(&error), "a task of the process ended")
                    }
                }
            }
        };
        if tokio::time::timeout(at_most, all_ended).await.is_err() {
            for name in &self.running {
                tracing::warn!("{name} did not end in time");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use almanac_errors::Words;
    use almanac_processor::{Ending, RestartLimits};
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    fn tasks() -> (Tasks, Handle, CancellationToken) {
        let supervisor = Supervisor::new(RestartLimits { panics: 2, ..RestartLimits::default() });
        (Tasks::new(&supervisor), Handle::current(), CancellationToken::new())
    }

    #[tokio::test]
    async fn a_follower_that_panics_again_and_again_ends_the_process() {
        let (mut tasks, on, stop) = tasks();
        let starts = Arc::new(AtomicUsize::new(0));
        let seen = starts.clone();
        tasks.follow("change feed", &on, &stop, move || {
            seen.fetch_add(1, Ordering::SeqCst);
            async { panic!("a hole in the feed") }
        });
        tasks.follow("replies", &on, &stop, std::future::pending);
        let why = tasks.died().await.to_string();
        assert!(why.starts_with("change feed panicked: a hole in the feed"), "{why}");
        assert_eq!(starts.load(Ordering::SeqCst), 3);
        stop.cancel();
        tasks.drain(Duration::from_secs(60)).await;
    }

    #[tokio::test]
    async fn what_ends_although_nobody_asked_ends_the_process() {
        let (mut tasks, on, stop) = tasks();
        tasks.run_once("http", &on, &stop, async {});
        assert_eq!(tasks.died().await.to_string(), "http ended: it ended by itself");
        let refused = async { Err(anyhow::anyhow!("the topic is gone")) };
        tasks.run("decider", &on, refused);
        assert_eq!(tasks.died().await.to_string(), "the topic is gone");
        tasks.follow("replies", &on, &stop, || async {
            Err(Ending::is_final(&Words::from("no disk")))
        });
        assert_eq!(tasks.died().await.to_string(), "replies ended: no disk");
        let waiting = tokio::time::timeout(Duration::from_millis(20), tasks.died());
        assert!(waiting.await.is_err(), "without tasks none dies");
    }
}
