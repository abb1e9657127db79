//! Notifications: whoever subscribed is told of events by webhooks.
//!
//! A group shares out the partitions of `notifications.deliveries`, which hold what is to be sent and
//! what came of it, keyed by subscription. The owner of a partition sends; what is due, and when, follows
//! from the partition alone, so that the next owner goes on with it. The owner of the first partition
//! also matches new events with the subscriptions, and commits deliveries and the positions of the events
//! in one transaction. A receiver that is slow holds up nobody: sending runs beside the loop.

mod deliveries;
mod fan_out;
mod matching;
mod metrics;
mod options;
mod queue;
mod role;
mod send;
mod subscribers;

pub use metrics::NotifierMetrics;
pub use options::{NotificationOptions, NotificationTopics};
pub use role::{Notifier, NotifierParts};
