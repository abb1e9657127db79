//! The JSON that clients send and get, where several crates need it: APIs read it, projectors
//! store it as rows.

mod any;
mod canonical;
mod cloud_event;
pub mod mending;
mod merge;
mod number;
pub mod operations;
pub mod pausing;
pub mod recipes;
pub mod schema_org;
mod server_made;
pub mod subscriptions;
pub mod thumbnail;
mod walk;
pub mod weather;

pub use any::AnyJson;
pub use canonical::canonical;
pub use cloud_event::cloud_event;
pub use merge::merge_patch;
pub use server_made::ServerMade;
pub use walk::NotJson;
