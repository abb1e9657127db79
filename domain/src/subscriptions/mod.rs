//! Subscriptions: who wants to be told of which events, and where.
//!
//! A [`Draft`] is what somebody wants; [`Draft::check`] makes a [`Subscription`] of it or names
//! everything that is wrong with it. The secret travels beside the domain, sealed.

mod address;
mod decide;
mod draft;

pub use address::is_private;
pub use decide::{Command, Disabled, Event, Fact, Knowledge, NOTIFIER, decide};
pub use draft::{Draft, MAX_TYPES, Secret, Subscription};
