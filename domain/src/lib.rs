//! The domain of Almanac: what is true of plans, recipes and weather windows, without I/O and without a wire format.

mod check;
pub mod plans;
pub mod recipes;
pub mod text;
pub mod weather;

pub use check::Fault;
