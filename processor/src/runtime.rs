//! Group membership and the life of a partition's task.

use crate::Owned;
use almanac_event_log::{
    EventLog, GroupEvent, GroupOptions, LogError, LogResult, Ownership, Retry, Revocation,
};
use async_trait::async_trait;
use std::{sync::Arc, time::Duration};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Why a role gave up a partition. All of them start it over from the log; the kinds differ in
/// how loudly that is said.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    #[error(transparent)]
    Log(Box<LogError>),
    #[error("{0}")]
    Other(String),
}

impl From<LogError> for RoleError {
    fn from(error: LogError) -> Self {
        Self::Log(Box::new(error))
    }
}

impl RoleError {
    /// Wraps an error of another library, with its causes.
    pub fn other(error: &dyn std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        Self::Other(text)
    }
}

#[async_trait]
pub trait Role: Send + Sync + 'static {
    /// Handles the partition until `owned.cancelled`. An error drops everything the call held;
    /// the runtime calls again after a pause while the partition is still assigned.
    async fn own(&self, owned: Owned) -> Result<(), RoleError>;
}

#[derive(Clone, Debug)]
pub struct ProcessorOptions {
    /// Consumer group, and the first part of the transactional ids.
    pub group: String,
    pub input: String,
    /// Static membership: unique per process, the same after a restart.
    pub instance: String,
    pub session_timeout: Duration,
    /// Pause before a partition is started over; doubles up to thirty-two times this.
    pub restart_pause: Duration,
}

impl ProcessorOptions {
    pub fn new(group: &str, input: &str, instance: &str) -> Self {
        Self {
            group: group.to_owned(),
            input: input.to_owned(),
            instance: instance.to_owned(),
            session_timeout: Duration::from_secs(10),
            restart_pause: Duration::from_millis(100),
        }
    }
}

/// Runs the role on every partition that the group assigns, until `shutdown`.
pub async fn run(
    log: Arc<dyn EventLog>,
    options: ProcessorOptions,
    role: Arc<dyn Role>,
    shutdown: CancellationToken,
) -> LogResult<()> {
    let mut pause = Pause::new(options.restart_pause);
    while !shutdown.is_cancelled() {
        match member(&log, &options, &role, &shutdown).await {
            Ok(()) => return Ok(()),
            Err(error) if error.retry() == Retry::Never => return Err(error),
            Err(error) => {
                tracing::warn!(group = options.group, %error, "joining the group again");
                pause.wait(&shutdown).await;
            }
        }
    }
    Ok(())
}

/// One membership, until shutdown or an error.
async fn member(
    log: &Arc<dyn EventLog>,
    options: &ProcessorOptions,
    role: &Arc<dyn Role>,
    shutdown: &CancellationToken,
) -> LogResult<()> {
    let mut member = log
        .join(GroupOptions {
            group: options.group.clone(),
            topic: options.input.clone(),
            instance: options.instance.clone(),
            session_timeout: options.session_timeout,
        })
        .await?;
    let mut held = Held::new(shutdown);
    let outcome = loop {
        let event = tokio::select! {
            () = shutdown.cancelled() => break Ok(()),
            event = member.next() => event,
        };
        match event {
            Ok(GroupEvent::Assigned(ownerships)) => {
                held.let_go(options.session_timeout).await;
                held = Held::new(shutdown);
                for ownership in ownerships {
                    held.start(log, options, role, ownership);
                }
            }
            Ok(GroupEvent::Revoked(revocation)) => {
                // Two thirds, so that the answer is there before the group stops waiting.
                held.let_go(options.session_timeout * 2 / 3).await;
                // Dropping it tells the group; by now the tasks and their state are gone.
                let _: Revocation = revocation;
            }
            Err(error) => break Err(error),
        }
    };
    held.let_go(options.session_timeout).await;
    if outcome.is_ok() {
        member.leave().await?;
    }
    outcome
}

/// The tasks of one assignment.
struct Held {
    cancelled: CancellationToken,
    tasks: JoinSet<()>,
}

impl Held {
    fn new(shutdown: &CancellationToken) -> Self {
        Self { cancelled: shutdown.child_token(), tasks: JoinSet::new() }
    }

    fn start(
        &mut self,
        log: &Arc<dyn EventLog>,
        options: &ProcessorOptions,
        role: &Arc<dyn Role>,
        ownership: Ownership,
    ) {
        let owned = Owned {
            log: log.clone(),
            transactional_id: format!("{}-{}", options.group, ownership.partition),
            ownership,
            cancelled: self.cancelled.clone(),
        };
        let (role, pause) = (role.clone(), Pause::new(options.restart_pause));
        self.tasks.spawn(keep_owning(role, owned, pause));
    }

    /// Ends the tasks; one that does not end in time is dropped, and what it still had under way
    /// is fenced by the generation.
    async fn let_go(&mut self, patience: Duration) {
        self.cancelled.cancel();
        let all_ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(patience, all_ended).await.is_err() {
            tracing::warn!("a partition's task did not end in time and was dropped");
            self.tasks.shutdown().await;
        }
    }
}

async fn keep_owning(role: Arc<dyn Role>, owned: Owned, mut pause: Pause) {
    let (group, partition) = (owned.ownership.group.clone(), owned.partition());
    while !owned.cancelled.is_cancelled() {
        let started = tokio::time::Instant::now();
        match role.own(owned.clone()).await {
            Ok(()) => return,
            Err(error) => {
                if owned.cancelled.is_cancelled() {
                    return;
                }
                tracing::warn!(%group, partition, %error, "starting the partition over");
            }
        }
        if started.elapsed() > Duration::from_secs(60) {
            pause.reset();
        }
        pause.wait(&owned.cancelled).await;
    }
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
