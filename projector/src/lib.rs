//! Projectors: fold events into tables that can be thrown away and folded again.

mod announce;
pub mod history;
mod metrics;
pub mod parked;
pub mod plans;
pub mod positions;
mod projection;
pub mod recipes;
mod role;

pub use metrics::ProjectorMetrics;
pub use projection::{Announced, FoldError, Folded, Projection};
pub use role::{Projector, ProjectorOptions, Topics};
