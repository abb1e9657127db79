//! How errors are kept and told.
//!
//! What an error displays says what failed. Why it failed is its `source`, which keeps its type, and is
//! not displayed by it as well. Whoever logs or answers prints both with [`chain`].

mod cause;
mod chain;
mod masked;

pub use cause::{Cause, Words};
pub use chain::{Chain, chain};
pub use masked::Masked;
