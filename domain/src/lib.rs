//! The domain of Almanac: what is true of plans, recipes and weather windows, without I/O and without a wire format.

pub mod aggregate;
pub mod analyses;
mod check;
pub mod operations;
pub mod plans;
pub mod recipes;
pub mod schedules;
pub mod subscriptions;
pub mod text;
pub mod weather;

pub use check::Fault;
