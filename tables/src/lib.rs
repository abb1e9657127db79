//! The tables of the read store: what projectors, which fill them, and read models, which read them, both
//! need to know. A file or folder for each projection; what the rows hold is up to its fold.

pub mod analyses;
pub mod down;
pub mod forecasts;
pub mod history;
mod layout;
pub mod organizers;
pub mod parked;
pub mod plans;
pub mod positions;
pub mod recipes;
pub mod schedules;
mod source;
pub mod subscriptions;

pub use layout::{
    Announced, Declared, Edition, History, Keys, Layout, Projected, RowPositions, prepare,
};
pub use source::Source;

/// Ids begin with the time they were made, so partitions are taken from their end.
pub fn last_digits(id: &str, digits: usize) -> &str {
    id.get(id.len().saturating_sub(digits)..).unwrap_or(id)
}

/// Two digits for each byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
