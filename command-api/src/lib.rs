//! The write side: commands over HTTP, and the decider that answers them.
//!
//! A command goes onto `commands` under its aggregate's key. The decider that owns the partition
//! holds it against its local state and commits events, reply and input position in one
//! transaction. Every API instance follows `replies` and answers who waits.

mod answers;
pub mod contexts;
mod decider;
mod deliveries;
pub mod documents;
mod fingerprint;
mod headers;
mod http;
mod metrics;
mod outcomes;
mod picture;
mod replies;
mod standings;
mod topics;
mod write;

pub use contexts::{Only, ParkedFilter, ParkedKeys, Parts, Projections};
pub use decider::{Decider, DeciderOptions};
pub use http::{openapi, routes};
pub use metrics::DeciderMetrics;
pub use picture::MAX_UPLOAD;
pub use replies::{Follower, Replies};
pub use topics::Topics;
pub use write::{CommandApi, CommandApiOptions, ForecastSource, Notifications};

/// Names of the local states in which it is known how the aggregates of each context stand, in the order
/// of the contexts.
pub fn standings() -> impl Iterator<Item = String> {
    let named = |context: &&dyn contexts::Context| {
        format!("standings-{}-{}", context.name(), context.standings_version())
    };
    contexts::ALL.iter().map(named)
}

/// Names of the contexts, in their order.
pub fn contexts() -> impl Iterator<Item = &'static str> {
    contexts::ALL.iter().map(|context| context.name())
}
