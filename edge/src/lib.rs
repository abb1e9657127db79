//! What all HTTP surfaces share: identity, problem documents, conditional answers, CORS, serving.

pub mod body;
pub mod conditional;
pub mod cors;
pub mod identity;
mod local;
pub mod prefer;
mod problem;
pub mod query;
mod serve;

pub use identity::{Caller, Identity, Scope};
pub use problem::{FieldError, Problem, ProblemType, method_not_allowed};
pub use serve::{ServeError, bind, serve};
