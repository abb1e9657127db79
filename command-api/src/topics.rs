//! The topics, with the installation's prefix.

use almanac_event_log::{Durability, Retention, TopicSpec};
use almanac_schemas::{commands, recipes};
use std::{sync::Arc, time::Duration};

#[derive(Clone)]
pub struct Topics {
    pub(crate) commands: Arc<str>,
    pub(crate) replies: Arc<str>,
    pub(crate) recipes: Arc<str>,
    pub(crate) partitions: u32,
}

impl Topics {
    pub fn new(prefix: &str, partitions: u32) -> Self {
        let topic = |name: &str| -> Arc<str> { format!("{prefix}{name}").into() };
        Self {
            commands: topic(commands::TOPIC),
            replies: topic(commands::REPLIES),
            recipes: topic(recipes::TOPIC),
            partitions,
        }
    }

    pub fn commands(&self) -> &str {
        &self.commands
    }

    /// Replies are the memory of outcomes: they stay at least as long as those are remembered.
    pub fn specs(&self, outcomes: Duration) -> Vec<TopicSpec> {
        let spec = |name: &Arc<str>, retention| TopicSpec {
            name: name.to_string(),
            partitions: self.partitions,
            retention,
            durability: Durability::Synced,
        };
        vec![
            spec(&self.commands, Retention::For(outcomes * 7)),
            spec(&self.replies, Retention::For(outcomes * 2)),
            spec(&self.recipes, Retention::Forever),
        ]
    }
}
