//! Group membership and the life of a partition's task.

use crate::{
    Owned, StateError,
    foreign::Foreign,
    hold::Hold,
    supervise::{Died, Ending, Supervisor, TaskName},
};
use almanac_errors::{Cause, chain};
use almanac_event_log::{
    EventLog, GroupEvent, GroupOptions, LogError, Ownership, Retry, Revocation,
};
use async_trait::async_trait;
use std::{sync::Arc, time::Duration};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

/// A group that shares nothing out for so long is waited for aloud.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why a role gave up a partition. Either way it is started over from the log.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    #[error(transparent)]
    Log(Box<LogError>),
    #[error(transparent)]
    Other(Cause),
    /// Only another process can go on.
    #[error(transparent)]
    Final(Cause),
}

impl From<StateError> for RoleError {
    fn from(error: StateError) -> Self {
        match error.needs_another_process() {
            true => Self::Final(error.into()),
            false => Self::other(error),
        }
    }
}

/// Why a processor ended although nobody stopped it. Starting it again in this process does not help.
#[derive(Debug, thiserror::Error)]
pub enum ProcessorError {
    #[error(transparent)]
    Log(Box<LogError>),
    #[error(transparent)]
    Died(#[from] Died),
}

impl From<LogError> for ProcessorError {
    fn from(error: LogError) -> Self {
        Self::Log(Box::new(error))
    }
}

impl From<LogError> for RoleError {
    fn from(error: LogError) -> Self {
        Self::Log(Box::new(error))
    }
}

impl RoleError {
    pub fn ending(&self) -> Ending {
        Ending { why: chain(self).to_string(), is_final: matches!(self, Self::Final(_)) }
    }

    pub fn other(error: impl Into<Cause>) -> Self {
        Self::Other(error.into())
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
    pub supervisor: Supervisor,
    pub foreign: Foreign,
    /// While it is held, partitions are owned and nothing of them is handled.
    pub hold: Hold,
}

impl ProcessorOptions {
    pub fn new(group: &str, input: &str, instance: &str) -> Self {
        Self {
            group: group.to_owned(),
            input: input.to_owned(),
            instance: instance.to_owned(),
            session_timeout: Duration::from_secs(10),
            restart_pause: Duration::from_millis(100),
            supervisor: Supervisor::default(),
            foreign: Foreign::default(),
            hold: Hold::default(),
        }
    }
}

/// Runs the role on every partition that the group assigns, until `shutdown`.
pub async fn run(
    log: Arc<dyn EventLog>,
    options: ProcessorOptions,
    role: Arc<dyn Role>,
    shutdown: CancellationToken,
) -> Result<(), ProcessorError> {
    let membership = TaskName::new(&options.group);
    let pause = options.restart_pause;
    let supervisor = options.supervisor.clone();
    let member = || async {
        member(&log, &options, &role, &shutdown).await.map_err(|error| match &error {
            ProcessorError::Log(log) if log.retry() != Retry::Never => Ending::again(&error),
            error => Ending::is_final(error),
        })
    };
    Ok(supervisor.keep(&membership, &shutdown, pause, member).await?)
}

/// One membership, until shutdown or an error.
async fn member(
    log: &Arc<dyn EventLog>,
    options: &ProcessorOptions,
    role: &Arc<dyn Role>,
    shutdown: &CancellationToken,
) -> Result<(), ProcessorError> {
    let mut member = log
        .join(GroupOptions {
            group: options.group.clone(),
            topic: options.input.clone(),
            instance: options.instance.clone(),
            session_timeout: options.session_timeout,
        })
        .await?;
    let mut tasks = Tasks::new(shutdown);
    let mut say_waiting = Some(Instant::now() + PATIENCE);
    let outcome = loop {
        let said_at = say_waiting.unwrap_or_else(Instant::now);
        let event = tokio::select! {
            () = shutdown.cancelled() => break Ok(()),
            event = member.next() => event,
            died = tasks.died() => break Err(died.into()),
            () = tokio::time::sleep_until(said_at), if say_waiting.is_some() => {
                say_waiting = None;
                tracing::info!(
                    group = options.group, topic = options.input,
                    session_timeout_s = options.session_timeout.as_secs(),
                    "waiting for the group to assign partitions: a member that stopped a moment ago \
                     keeps its partitions until its session times out"
                );
                continue;
            }
        };
        match event {
            Ok(GroupEvent::Assigned(ownerships)) => {
                say_waiting = None;
                tasks.let_go(options.session_timeout).await;
                tasks = Tasks::new(shutdown);
                for ownership in ownerships {
                    tasks.start(log, options, role, ownership);
                }
            }
            Ok(GroupEvent::Revoked(revocation)) => {
                say_waiting = Some(Instant::now() + PATIENCE);
                // Two thirds, so that the answer is there before the group stops waiting.
                tasks.let_go(options.session_timeout * 2 / 3).await;
                // Dropping it tells the group; by now the tasks and their state are gone.
                let _: Revocation = revocation;
            }
            Err(error) => break Err(error.into()),
        }
    };
    tasks.let_go(options.session_timeout).await;
    if matches!(outcome, Ok(()) | Err(ProcessorError::Died(_))) {
        member.leave().await?;
    }
    outcome
}

/// The tasks of one assignment.
struct Tasks {
    cancelled: CancellationToken,
    tasks: JoinSet<Result<(), Died>>,
}

impl Tasks {
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
        let name = TaskName::of_partition(&options.group, &options.input, ownership.partition);
        let owned = Owned {
            log: log.clone(),
            transactional_id: format!("{}-{}", options.group, ownership.partition),
            ownership,
            cancelled: self.cancelled.clone(),
            foreign: options.foreign.clone(),
        };
        let (role, pause) = (role.clone(), options.restart_pause);
        let (supervisor, cancelled) = (options.supervisor.clone(), self.cancelled.clone());
        let hold = options.hold.clone();
        self.tasks.spawn(async move {
            let own = || async {
                let owning = |cancelled| role.own(Owned { cancelled, ..owned.clone() });
                hold.between(&cancelled, owning).await.map_err(|error| error.ending())
            };
            supervisor.keep(&name, &cancelled, pause, own).await
        });
    }

    /// Waits until a task has ended for good, while the others go on.
    async fn died(&mut self) -> Died {
        while let Some(ended) = self.tasks.join_next().await {
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(died)) => return died,
                Err(error) => {
                    let task = TaskName::new("the supervision of a partition");
                    return Died { task, why: chain(&error).to_string() };
                }
            }
        }
        std::future::pending().await
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
