//! Schedules: what planners write, and how far the work on it is.
//!
//! [`decide`] holds a command against what is known of the schedule and answers with a refusal or an
//! event, which holds what is known after it: to fold events is to take the newest.

mod decide;

pub use decide::{Command, Event, Fact, Field, Knowledge, Refusal, decide};
