//! The write side: commands over HTTP, and the decider that answers them.
//!
//! A command goes onto `commands` under its aggregate's key. The decider that owns the partition
//! holds it against its local state and commits events, reply and input position in one
//! transaction. Every API instance follows `replies` and answers who waits.

mod answers;
mod decider;
mod fingerprint;
mod headers;
mod http;
mod outcomes;
mod picture;
mod replies;
mod standings;
mod thumbnail;
mod topics;

pub use decider::{Decider, DeciderOptions};
pub use http::{CommandApi, CommandApiOptions, router};
pub use picture::MAX_UPLOAD;
pub use replies::{Follower, Replies};
pub use standings::Standings;
pub use topics::Topics;
