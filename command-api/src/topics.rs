//! The topics, with the installation's prefix.

use crate::contexts::{self, Contexts};
use almanac_event_log::{Durability, Retention, TopicSpec};
use almanac_schemas::commands;
use std::{sync::Arc, time::Duration};

#[derive(Clone)]
pub struct Topics {
    pub(crate) commands: Arc<str>,
    pub(crate) replies: Arc<str>,
    pub(crate) contexts: Contexts,
    /// Of the contexts, in their order.
    pub(crate) events: Arc<[Arc<str>]>,
    pub(crate) partitions: u32,
    prefix: Arc<str>,
}

impl Topics {
    pub fn new(prefix: &str, partitions: u32) -> Self {
        Self::of(contexts::ALL, prefix, partitions)
    }

    /// Of other contexts than this program's.
    pub fn of(contexts: Contexts, prefix: &str, partitions: u32) -> Self {
        let topic = |name: &str| -> Arc<str> { format!("{prefix}{name}").into() };
        Self {
            commands: topic(commands::TOPIC),
            replies: topic(commands::REPLIES),
            contexts,
            events: contexts.iter().map(|context| topic(context.events())).collect(),
            partitions,
            prefix: prefix.into(),
        }
    }

    /// A further topic of a context.
    pub(crate) fn named(&self, name: &str) -> Arc<str> {
        format!("{}{name}", self.prefix).into()
    }

    pub fn commands(&self) -> &str {
        &self.commands
    }

    /// Replies are the memory of outcomes: they stay at least as long as those are remembered.
    pub fn specs(&self, outcomes: Duration) -> Vec<TopicSpec> {
        let spec = |name: String, retention| TopicSpec {
            name,
            partitions: self.partitions,
            retention,
            durability: Durability::Synced,
        };
        let mut specs = vec![
            spec(self.commands.to_string(), Retention::For(outcomes * 7)),
            spec(self.replies.to_string(), Retention::For(outcomes * 2)),
        ];
        specs.extend(self.events.iter().map(|name| spec(name.to_string(), Retention::Forever)));
        let more = self.contexts.iter().flat_map(|context| context.more_topics());
        specs.extend(
            more.map(|(name, retention)| spec(format!("{}{name}", self.prefix), *retention)),
        );
        specs
    }
}
