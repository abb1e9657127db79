//! What all HTTP surfaces share: identity, problem documents, conditional answers, CORS, serving.

mod body;
mod coarse_timer;
pub mod conditional;
pub mod cors;
pub mod identity;
mod local;
mod party;
pub mod prefer;
mod problem;
pub mod query;
pub mod request;
mod serve;
mod turns;

pub use body::{Bodies, BodyOptions, Held, discard};
pub use identity::{Caller, Identity, Scope};
pub use party::Party;
pub use problem::{FieldError, Problem, ProblemType, method_not_allowed};
pub use serve::{ServeError, ServeOptions, bind, serve};
pub use turns::Turns;
