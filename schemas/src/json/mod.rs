//! The JSON that clients send and get, where several crates need it: APIs read it, projectors
//! store it as rows.

mod merge;
pub mod recipes;
mod walk;

pub use merge::merge_patch;
pub use walk::NotJson;
