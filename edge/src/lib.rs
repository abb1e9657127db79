//! What all HTTP surfaces share: problem documents, conditional answers, CORS, serving.

pub mod conditional;
pub mod cors;
mod local;
mod problem;
pub mod query;
mod serve;

pub use local::check_local;
pub use problem::{FieldError, Problem, ProblemType};
pub use serve::{ServeError, bind, serve};
