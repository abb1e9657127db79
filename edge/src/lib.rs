//! What all HTTP surfaces share: problem documents, conditional answers, CORS, serving.

pub mod conditional;
pub mod cors;
mod problem;
pub mod query;
mod serve;

pub use problem::{FieldError, Problem, ProblemType};
pub use serve::{ServeError, bind, serve};
