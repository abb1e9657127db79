//! The JSON that clients send and get, where several crates need it: APIs read it, projectors
//! store it as rows.

mod any;
mod canonical;
mod merge;
mod number;
pub mod recipes;
mod server_made;
pub mod thumbnail;
mod walk;
pub mod weather;

pub use any::AnyJson;
pub use canonical::canonical;
pub use merge::merge_patch;
pub use server_made::ServerMade;
pub use walk::NotJson;
