//! Recipes as schema.org's `Recipe` in JSON-LD, as pages of recipes carry them.
//!
//! What cannot be read exactly is kept as text and never guessed: an amount without a finite decimal
//! stands in the ingredient's preparation, a time in words that are none in the notes.

mod ingredient;
mod read;
mod text;
mod write;

pub use read::{holds_recipe, read};
pub use write::render;

pub const MEDIA_TYPE: &str = "application/ld+json";

#[cfg(test)]
mod tests;
