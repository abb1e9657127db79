//! Consumer groups inside one process: eager assignment, generations, static members.
//!
//! There is usually one member per group. The protocol is kept all the same, because the
//! processors above rely on it and because tests run several.

use crate::{
    GroupEvent, GroupMember, GroupMemberDescription, GroupOptions, GroupState, LogError, LogResult,
    Ownership, Revocation,
};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::sync::{mpsc, oneshot};

/// What an [`Ownership`] of the embedded engine carries.
pub(super) struct Generation {
    pub(super) number: u64,
}

#[derive(Default)]
pub(super) struct Groups(Mutex<HashMap<Arc<str>, Group>>);

#[derive(Default)]
struct Group {
    generation: u64,
    members: Vec<Member>,
    /// Serialises rebalances: they wait for revocations to be acknowledged.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Whether the newest generation has been handed out.
    settled: bool,
}

struct Member {
    serial: u64,
    instance: String,
    session_timeout: Duration,
    events: mpsc::UnboundedSender<GroupEvent>,
    holds_partitions: bool,
    topic: Arc<str>,
    /// What it was given last.
    given: Vec<u32>,
}

impl Groups {
    pub(super) fn names(&self) -> Vec<String> {
        self.0.lock().keys().map(ToString::to_string).collect()
    }

    /// Who is in a group now.
    pub(super) fn described(&self, group: &str) -> (GroupState, Vec<GroupMemberDescription>) {
        let groups = self.0.lock();
        let Some(group) = groups.get(group) else { return (GroupState::Empty, Vec::new()) };
        let described = |member: &Member| {
            let given = member.given.iter().filter(|_| member.holds_partitions);
            GroupMemberDescription {
                id: format!("{}-{}", member.instance, member.serial),
                client: member.instance.clone(),
                instance: Some(member.instance.clone()),
                host: None,
                assigned: given.map(|partition| (member.topic.clone(), *partition)).collect(),
            }
        };
        let state = match (group.members.is_empty(), group.settled) {
            (true, _) => GroupState::Empty,
            (false, true) => GroupState::Stable,
            (false, false) => GroupState::Rebalancing,
        };
        (state, group.members.iter().map(described).collect())
    }

    /// Whether `generation` is still the one in force. Taken under the lock that a rebalance
    /// needs, so that the writer can ask in the moment it writes.
    pub(super) fn is_current(&self, group: &str, generation: u64) -> bool {
        self.0
            .lock()
            .get(group)
            .is_some_and(|group| group.settled && group.generation == generation)
    }

    pub(super) fn join(
        self: &Arc<Self>,
        options: &GroupOptions,
        partitions: u32,
    ) -> Box<dyn GroupMember> {
        let (sender, events) = mpsc::unbounded_channel();
        let group: Arc<str> = options.group.as_str().into();
        let topic: Arc<str> = options.topic.as_str().into();
        let serial = {
            let mut groups = self.0.lock();
            let entry = groups.entry(group.clone()).or_default();
            // A member that comes back under its name takes the place of its former self.
            entry.members.retain(|member| member.instance != options.instance);
            entry.generation += 1;
            entry.settled = false;
            let serial = entry.generation;
            entry.members.push(Member {
                serial,
                instance: options.instance.clone(),
                session_timeout: options.session_timeout,
                events: sender,
                holds_partitions: false,
                topic: topic.clone(),
                given: Vec::new(),
            });
            serial
        };
        let member =
            EmbeddedMember { groups: self.clone(), group, topic, partitions, serial, events };
        member.start_rebalance();
        Box::new(member)
    }

    async fn rebalance(&self, group: &Arc<str>, topic: &Arc<str>, partitions: u32) {
        let Some(turn) = self.0.lock().get(group).map(|entry| entry.turn.clone()) else { return };
        let _turn = turn.lock().await;

        let mut waits = Vec::new();
        {
            let mut groups = self.0.lock();
            let Some(entry) = groups.get_mut(group) else { return };
            for member in entry.members.iter_mut().filter(|member| member.holds_partitions) {
                let (acknowledge, acknowledged) = oneshot::channel();
                let revocation = Revocation { acknowledge: Some(acknowledge) };
                if member.events.send(GroupEvent::Revoked(revocation)).is_ok() {
                    waits.push((member.session_timeout, acknowledged));
                }
                member.holds_partitions = false;
            }
        }
        for (timeout, acknowledged) in waits {
            // A member that does not let go in time is fenced by the generation instead.
            let _ = tokio::time::timeout(timeout, acknowledged).await;
        }

        let mut groups = self.0.lock();
        let Some(entry) = groups.get_mut(group) else { return };
        entry.generation += 1;
        entry.settled = true;
        let generation = entry.generation;
        let count = entry.members.len() as u32;
        for (place, member) in entry.members.iter_mut().enumerate() {
            let given = (0..partitions).filter(|partition| partition % count == place as u32);
            member.given = given.collect();
            let ownerships: Vec<_> = member
                .given
                .iter()
                .map(|partition| Ownership {
                    group: group.clone(),
                    topic: topic.clone(),
                    partition: *partition,
                    generation: Arc::new(Generation { number: generation }),
                })
                .collect();
            member.holds_partitions = member.events.send(GroupEvent::Assigned(ownerships)).is_ok();
        }
    }
}

struct EmbeddedMember {
    groups: Arc<Groups>,
    group: Arc<str>,
    topic: Arc<str>,
    partitions: u32,
    serial: u64,
    events: mpsc::UnboundedReceiver<GroupEvent>,
}

impl EmbeddedMember {
    fn start_rebalance(&self) {
        let (groups, group, topic) = (self.groups.clone(), self.group.clone(), self.topic.clone());
        let partitions = self.partitions;
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { groups.rebalance(&group, &topic, partitions).await });
        }
    }
}

#[async_trait]
impl GroupMember for EmbeddedMember {
    async fn next(&mut self) -> LogResult<GroupEvent> {
        self.events.recv().await.ok_or_else(|| LogError::Fenced {
            transactional_id: self.group.to_string(),
            source: "another member joined under the same name".into(),
        })
    }

    async fn leave(self: Box<Self>) -> LogResult<()> {
        Ok(())
    }
}

impl Drop for EmbeddedMember {
    fn drop(&mut self) {
        {
            let mut groups = self.groups.0.lock();
            let Some(entry) = groups.get_mut(&self.group) else { return };
            let before = entry.members.len();
            entry.members.retain(|member| member.serial != self.serial);
            if entry.members.len() == before {
                return;
            }
            // From here on nothing this member held can be committed.
            entry.generation += 1;
            entry.settled = false;
        }
        self.start_rebalance();
    }
}
