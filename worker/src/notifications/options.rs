//! What an operator configures, and the topics that notifications are read from and written to.

use almanac_event_log::{Durability, Retention, TopicSpec};
use almanac_schemas::{commands, notifications, subscriptions};
use std::{sync::Arc, time::Duration};

#[derive(Clone, Debug)]
pub struct NotificationOptions {
    /// Webhooks that are being sent at the same time by one owner, and of one subscription.
    pub concurrency: usize,
    pub concurrency_per_subscription: usize,
    /// For an answer, the connection included.
    pub timeout: Duration,
    /// Pause before the second attempt; each further is three times as long, up to the longest.
    pub first_pause: Duration,
    pub longest_pause: Duration,
    /// After so long a delivery is given up; when nothing else arrived meanwhile, its subscription is
    /// disabled.
    pub give_up_after: Duration,
    /// Events that are older when they are matched are not told any more.
    pub oldest: Duration,
}

impl Default for NotificationOptions {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(3_600);
        Self {
            concurrency: 32,
            concurrency_per_subscription: 4,
            timeout: Duration::from_secs(15),
            first_pause: Duration::from_secs(5),
            longest_pause: 4 * HOUR,
            give_up_after: 24 * HOUR,
            oldest: 24 * HOUR,
        }
    }
}

impl NotificationOptions {
    /// How long after an attempt with this number, counted from 1, the next one is made.
    pub(crate) fn pause_after(&self, attempt: u64) -> Duration {
        let times = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(20);
        self.first_pause.saturating_mul(3_u32.saturating_pow(times)).min(self.longest_pause)
    }
}

/// With the installation's prefix.
#[derive(Clone)]
pub struct NotificationTopics {
    pub(crate) deliveries: Arc<str>,
    pub(crate) state: Arc<str>,
    pub(crate) subscriptions: Arc<str>,
    pub(crate) commands: Arc<str>,
    /// Topics of events that can be told, without and with the prefix.
    pub(crate) sources: Arc<[(&'static str, Arc<str>)]>,
    pub(crate) partitions: u32,
}

impl NotificationTopics {
    pub fn new(prefix: &str, partitions: u32) -> Self {
        let topic = |name: &str| -> Arc<str> { format!("{prefix}{name}").into() };
        Self {
            deliveries: topic(notifications::DELIVERIES),
            state: topic(notifications::STATE),
            subscriptions: topic(subscriptions::TOPIC),
            commands: topic(commands::TOPIC),
            sources: notifications::SOURCES.iter().map(|name| (*name, topic(name))).collect(),
            partitions,
        }
    }

    pub fn specs(&self, keep: Duration) -> Vec<TopicSpec> {
        let spec = |name: &Arc<str>, retention| TopicSpec {
            name: name.to_string(),
            partitions: self.partitions,
            retention,
            durability: Durability::Synced,
        };
        vec![spec(&self.deliveries, Retention::For(keep)), spec(&self.state, Retention::Compacted)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_hours() {
        let options = NotificationOptions::default();
        let pauses =
            |attempts: [u64; 5]| attempts.map(|attempt| options.pause_after(attempt).as_secs());
        assert_eq!(pauses([1, 2, 3, 7, 8]), [5, 15, 45, 3_645, 10_935]);
        assert_eq!(pauses([9, 10, 100, u64::MAX, 0]), [14_400, 14_400, 14_400, 14_400, 5]);
    }
}
